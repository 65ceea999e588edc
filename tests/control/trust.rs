use std::fs;
use std::io::ErrorKind;

use tester::prelude::*;

pub(crate) const CASES: &[Case] = &[
    case!(root_refuses_a_file_that_others_can_write, needs Root),
    case!(root_refuses_a_directory_that_others_can_write, needs Root),
    case!(root_refuses_a_path_that_an_access_list_lets_others_write, needs Root, Linux),
    case!(root_refuses_a_file_with_a_second_hard_link, needs Root),
    case!(root_refuses_a_link_that_another_user_can_change, needs Root),
    case!(root_never_signals_the_daemon_to_which_another_users_link_leads_for_a_moment, needs Root),
    case!(root_signals_only_the_owners_processes_for_another_users_file, needs Root, OtherUsers),
];

const OTHERS_WRITE_FILE: &str = "other users can write to it";
const OTHERS_WRITE_DIRECTORY: &str = "other users can write to its directory";

/// The daemon is found, but root refuses to signal it, for this reason.
#[track_caller]
fn assert_refused(scenario: &Scenario, run: &Run, reason: &str) {
    let pid = run.report().pid;
    assert_eq!(scenario.control().running().unwrap(), Some(pid));
    let pid_file = scenario.control();
    let error = assert_io_error(pid_file.signal(libc::SIGKILL), ErrorKind::PermissionDenied);
    assert!(
        error.to_string().ends_with(&format!(": {reason}")),
        "{error}"
    );
    assert_io_error(pid_file.stop(Duration::ZERO), ErrorKind::PermissionDenied);
    assert_io_error(pid_file.signal_group(0), ErrorKind::PermissionDenied);
    assert_io_error(
        pid_file.stop_group(Duration::ZERO),
        ErrorKind::PermissionDenied,
    );
    run.observe();
}

fn root_refuses_a_file_that_others_can_write() {
    let scenario = daemon!();
    let run = scenario.start();
    let path = scenario.pid_file_path().unwrap();
    set_mode(&path, 0o646);
    assert_refused(&scenario, &run, OTHERS_WRITE_FILE);
    // Root trusts its own group.
    set_mode(&path, 0o664);
    assert!(scenario.control().signal(0).unwrap());
    chown(&path, None, Some(65534)).unwrap();
    assert_refused(&scenario, &run, OTHERS_WRITE_FILE);
    set_mode(&path, 0o644);
    assert!(scenario.control().stop(time_limit()).unwrap());
}

fn root_refuses_a_directory_that_others_can_write() {
    let scenario = daemon!();
    let run = scenario.start();
    set_mode(scenario.directory(), 0o757);
    assert_refused(&scenario, &run, OTHERS_WRITE_DIRECTORY);
    chown(scenario.directory(), None, Some(65534)).unwrap();
    set_mode(scenario.directory(), 0o775);
    assert_refused(&scenario, &run, OTHERS_WRITE_DIRECTORY);
    // The sticky bit keeps other users from replacing the file.
    set_mode(scenario.directory(), 0o1777);
    assert!(scenario.control().signal(0).unwrap());
    set_mode(scenario.directory(), 0o755);
    assert!(scenario.control().stop(time_limit()).unwrap());
}

/// The mode shows only that root's group may write.
fn root_refuses_a_path_that_an_access_list_lets_others_write() {
    let scenario = daemon!();
    let run = scenario.start();
    let path = scenario.pid_file_path().unwrap();
    sys::give_access_to(&path, 65534).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o775);
    assert_refused(&scenario, &run, OTHERS_WRITE_FILE);
    // The mode now limits the access list.
    set_mode(&path, 0o755);
    assert!(scenario.control().signal(0).unwrap());
    drop(run);
    let scenario = daemon!();
    let run = scenario.start();
    sys::give_access_to(scenario.directory(), 65534).unwrap();
    assert_refused(&scenario, &run, OTHERS_WRITE_DIRECTORY);
}

/// A user who can make links in a directory could give one daemon's pid file another
/// daemon's name.
fn root_refuses_a_file_with_a_second_hard_link() {
    let scenario = daemon!();
    let run = scenario.start();
    fs::hard_link(scenario.pid_file_path().unwrap(), scenario.path("link")).unwrap();
    assert_refused(&scenario, &run, "it has other hard links");
    fs::remove_file(scenario.path("link")).unwrap();
    assert!(scenario.control().stop(time_limit()).unwrap());
}

/// That user would choose the daemon of root that gets the signal.
fn root_refuses_a_link_that_another_user_can_change() {
    let scenario = daemon!();
    let run = scenario.start();
    let home = scenario.create_directory("home");
    symlink(scenario.directory(), home.join("link")).unwrap();
    chown(&home, Some(65534), None).unwrap();
    let pid_file = PidFile::at(home.join("link/daemon.pid"));
    assert_eq!(pid_file.running().unwrap(), Some(run.report().pid));
    let error = assert_io_error(pid_file.signal(libc::SIGKILL), ErrorKind::PermissionDenied);
    assert!(
        error
            .to_string()
            .contains("is a symbolic link that another user can change"),
        "{error}"
    );
    assert_io_error(pid_file.stop(Duration::ZERO), ErrorKind::PermissionDenied);
    run.observe();
    chown(&home, Some(0), None).unwrap();
    assert!(pid_file.stop(time_limit()).unwrap());
}

fn root_never_signals_the_daemon_to_which_another_users_link_leads_for_a_moment() {
    const SIGNALS: usize = 5000;
    let scenario = daemon!();
    let run = scenario.start();
    let home = scenario.create_directory("home");
    let [path, link, directory] = ["run", "link", "directory"].map(|name| home.join(name));
    symlink(scenario.directory(), &link).unwrap();
    // The user can move this directory of root, and put the link in its place.
    fs::create_dir(&path).unwrap();
    chown(&home, Some(65534), None).unwrap();
    let exchange = || {
        fs::rename(&path, &directory).unwrap();
        fs::rename(&link, &path).unwrap();
        fs::rename(&path, &link).unwrap();
        fs::rename(&directory, &path).unwrap();
    };
    let pid_file = PidFile::at(path.join("daemon.pid"));
    while_repeating(exchange, || {
        for _ in 0..SIGNALS {
            assert!(!pid_file.signal(0).is_ok_and(|sent| sent));
        }
    });
    run.observe();
}

fn root_signals_only_the_owners_processes_for_another_users_file() {
    const NOBODY: u32 = 65534;
    let reason = "it or its directory belongs to another user than root, and the daemon does \
                  not run as that user";
    // Directory and process belong to the user.
    let scenario = daemon!().as_user(NOBODY, NOBODY);
    let run = scenario.start();
    assert!(scenario.control().signal(0).unwrap());
    assert!(scenario.control().stop(time_limit()).unwrap());
    run.wait_until_all_ended();
    // The directory belongs to the user, but the process, or one of its ids, belongs to
    // root.
    let scenario = daemon!();
    let run = scenario.start();
    chown(scenario.directory(), Some(NOBODY), None).unwrap();
    assert_refused(&scenario, &run, reason);
    for uid in [
        [NOBODY, NOBODY, 0],
        [0, NOBODY, NOBODY],
        [NOBODY, NOBODY, NOBODY - 1],
    ] {
        let scenario = daemon!().as_user(NOBODY, NOBODY).from_state(|state| {
            state.ids = Some(Ids {
                uid,
                ..Ids::user(NOBODY, NOBODY)
            });
        });
        let run = scenario.start();
        assert_refused(&scenario, &run, reason);
    }
    // The directory belongs to root, but the file belongs to the user.
    let scenario = daemon!().chown_pid_file_user(NOBODY);
    let run = scenario.start();
    assert_refused(&scenario, &run, reason);
    let run = scenario.user(NOBODY).group(NOBODY).pid_file("other.pid");
    let (scenario, run) = (run.clone(), run.start());
    assert!(scenario.control().signal(0).unwrap());
    assert!(scenario.control().stop(time_limit()).unwrap());
    run.wait_until_all_ended();
}
