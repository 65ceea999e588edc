use std::os::unix::net::UnixListener;

use tester::prelude::*;

use crate::setup::*;

pub(crate) const CASES: &[Case] = &[
    case!(a_symbolic_link_is_not_followed),
    case!(a_dangling_symbolic_link_is_not_followed),
    case!(a_file_with_a_second_hard_link_is_refused),
    case!(a_fifo_is_refused),
    case!(a_device_is_refused),
    case!(the_full_device_is_refused, needs Linux),
    case!(a_directory_is_refused),
    case!(a_directory_is_reported_to_launcher_and_daemon),
    case!(a_socket_is_refused),
];

/// A file that an attack would change, and a start that changes everything about its pid
/// file that the caller may change.
fn with_victim() -> (Scenario, PathBuf, PathBuf) {
    let (mut scenario, path) = with_pid_file();
    if sys::effective_user() == 0 {
        scenario = scenario.chown_pid_file_user(UID).chown_pid_file_group(GID);
    }
    let victim = scenario.path("victim");
    fs::write(&victim, "precious").unwrap();
    set_mode(&victim, 0o666);
    (scenario, path, victim)
}

fn a_symbolic_link_is_not_followed() {
    let (scenario, path, victim) = with_victim();
    symlink(&victim, &path).unwrap();
    let before = file_state(&victim);
    assert_refused(&scenario, libc::ELOOP, IS_LINK);
    assert_eq!(file_state(&victim), before);
    assert_eq!(fs::read_link(&path).unwrap(), victim);
}

fn a_dangling_symbolic_link_is_not_followed() {
    let (scenario, path) = with_pid_file();
    let target = scenario.path("target");
    symlink(&target, &path).unwrap();
    assert_refused(&scenario, libc::ELOOP, IS_LINK);
    assert!(!target.exists());
}

fn a_file_with_a_second_hard_link_is_refused() {
    let (scenario, path, victim) = with_victim();
    fs::hard_link(&victim, &path).unwrap();
    let before = file_state(&victim);
    assert_refused(&scenario, libc::EMLINK, ": it has other hard links");
    assert_eq!(file_state(&victim), before);
}

fn a_fifo_is_refused() {
    let (scenario, path) = with_pid_file();
    sys::make_fifo(&path).unwrap();
    assert_refused(&scenario, libc::EINVAL, ": it is a FIFO");
}

fn a_device_is_refused() {
    // Every user can open this device.
    let scenario = scenario!().pid_file("/dev/null");
    assert_refused(&scenario, libc::EINVAL, ": it is a device");
}

fn the_full_device_is_refused() {
    let error = scenario!().pid_file("/dev/full").fail();
    error.assert_kind("OpenPidfile", libc::EINVAL);
    assert_eq!(error.text, "cannot open pid file /dev/full: it is a device");
}

fn a_directory_is_refused() {
    let (scenario, path) = with_pid_file();
    fs::create_dir(&path).unwrap();
    for path in ["daemon.pid", "daemon.pid/", ".", "/"] {
        let error = scenario.clone().pid_file(path).fail();
        error.assert_kind("OpenPidfile", libc::EISDIR);
        assert_eq!(error.path, Some(path.into()));
    }
}

fn a_directory_is_reported_to_launcher_and_daemon() {
    let scenario = scenario!().pid_file("directory");
    scenario.create_directory("directory");
    let error = scenario.fail_in_launcher();
    assert_eq!(error, scenario.fail_in_launcher_and_daemon());
    error.assert_kind("OpenPidfile", libc::EISDIR);
    assert_eq!(error.path, Some("directory".into()));
}

fn a_socket_is_refused() {
    let (scenario, path) = with_pid_file();
    let _listener = UnixListener::bind(path).unwrap();
    let error = scenario.fail();
    assert_eq!(error.kind_name(), "OpenPidfile");
}
