use tester::prelude::*;

use crate::setup::*;

pub(crate) const CASES: &[Case] = &[
    case!(a_relative_path_starts_at_the_working_directory),
    case!(the_pid_file_is_outside_the_jail, needs Root),
    case!(a_pid_file_that_cannot_be_opened_is_reported),
    case!(a_missing_directory_is_reported),
    case!(a_missing_directory_is_reported_with_its_absolute_path),
    case!(a_file_in_place_of_the_directory_is_reported),
    case!(a_path_through_a_file_is_reported),
    case!(a_name_that_is_too_long_is_reported),
    case!(an_empty_path_is_reported),
    case!(a_nul_in_the_path_is_refused),
    case!(a_directory_without_write_permission_is_reported),
    case!(a_pid_file_without_permissions_is_reported),
];

fn a_relative_path_starts_at_the_working_directory() {
    let (scenario, beside) = with_pid_file();
    let path = scenario.create_directory("sub").join("daemon.pid");
    let run = scenario.working_directory("sub").start();
    assert_eq!(pid_file_at(&path).bytes, content(run.report().pid));
    assert!(!beside.exists());
}

fn the_pid_file_is_outside_the_jail() {
    let (scenario, jail) = scenario!().with_directory("jail");
    let absolute = scenario.path("daemon.pid");
    for path in [Path::new("daemon.pid"), &absolute] {
        let run = scenario.clone().pid_file(path).chroot(&jail).start();
        run.assert_pid_file_complete();
        assert_eq!(fs::read_dir(&jail).unwrap().count(), 0);
        run.exit(0);
    }
}

fn a_pid_file_that_cannot_be_opened_is_reported() {
    let path = "missing/daemon.pid";
    let scenario = scenario!().pid_file(path);
    let text = "cannot open pid file missing/daemon.pid";
    let mut expected = StartError::with_errno("OpenPidfile", libc::ENOENT, Some(path), text);
    let missing = scenario.path("missing");
    expected.text = format!("{text}: {}", missing_directory(missing.display()));
    scenario.assert_fails(&expected);
}

fn a_missing_directory_is_reported() {
    for path in ["missing/daemon.pid", "./missing/../daemon.pid"] {
        let error = scenario!().pid_file(path).fail();
        error.assert_kind("OpenPidfile", libc::ENOENT);
        assert_eq!(error.path, Some(path.into()));
        let reason = errno_text(libc::ENOENT);
        let start = format!("cannot open pid file {path}: {reason}");
        assert!(error.text.starts_with(&start), "{error}");
    }
}

fn a_missing_directory_is_reported_with_its_absolute_path() {
    let (scenario, home) = scenario!().with_directory("home");
    let end = missing_directory(home.join("missing").display());
    let scenario = scenario.pid_file("missing/daemon.pid");
    for working_directory in [home.as_path(), Path::new("home")] {
        let scenario = scenario.clone().working_directory(working_directory);
        for scenario in [
            scenario.clone(),
            scenario.clone().entry(Entry::Execute),
            scenario.foreground(Foreground::Yes),
        ] {
            let error = scenario.launch().launcher_error();
            assert!(error.text.ends_with(&end), "{error}");
        }
    }
}

fn a_file_in_place_of_the_directory_is_reported() {
    let scenario = scenario!().pid_file("file/daemon.pid");
    fs::write(scenario.path("file"), "precious").unwrap();
    let error = scenario.launch().launcher_error();
    error.assert_kind("OpenPidfile", libc::ENOTDIR);
    assert_eq!(fs::read(scenario.path("file")).unwrap(), b"precious");
}

fn a_path_through_a_file_is_reported() {
    for path in ["file/", "file/.", "file/../daemon.pid"] {
        let scenario = scenario!().pid_file(path);
        fs::write(scenario.path("file"), "precious").unwrap();
        scenario.assert_pid_file_fails("OpenPidfile", libc::ENOTDIR);
        assert_eq!(fs::read(scenario.path("file")).unwrap(), b"precious");
    }
}

fn a_name_that_is_too_long_is_reported() {
    let long_name = "n".repeat(300);
    let long_path = "./".repeat(3000) + "daemon.pid";
    for path in [long_name.as_str(), long_path.as_str()] {
        let scenario = scenario!().pid_file(path);
        scenario.assert_pid_file_fails("OpenPidfile", libc::ENAMETOOLONG);
    }
}

fn an_empty_path_is_reported() {
    let reason = io::Error::from_raw_os_error(libc::ENOENT);
    let error = scenario!().pid_file("").fail();
    error.assert_kind("OpenPidfile", libc::ENOENT);
    assert_eq!(error.text, format!(r#"cannot open pid file "": {reason}"#));
}

fn a_nul_in_the_path_is_refused() {
    let scenario = scenario!();
    let mut nul = scenario.clone();
    nul.config.options.pid_file = Some("daemon\0.pid".into());
    let error = nul.launch().launcher_error();
    assert_eq!(error.kind, "PathContainsNul");
    assert_eq!(error.path, Some("daemon\0.pid".into()));
    assert!(!scenario.path("daemon").exists());
}

fn a_directory_without_write_permission_is_reported() {
    let scenario = scenario!().pid_file("directory/daemon.pid");
    let (scenario, directory) = scenario.as_ordinary_user().with_directory("directory");
    set_mode(&directory, 0o555);
    scenario.assert_pid_file_fails("OpenPidfile", libc::EACCES);
    assert_eq!(fs::read_dir(&directory).unwrap().count(), 0);
}

fn a_pid_file_without_permissions_is_reported() {
    let scenario = scenario!().as_ordinary_user().pid_file("daemon.pid");
    let path = scenario.path("daemon.pid");
    fs::write(&path, "").unwrap();
    // The file cannot even be read: a readable file would be replaced.
    set_mode(&path, 0o000);
    scenario.assert_pid_file_fails("OpenPidfile", libc::EACCES);
    let found = fs::metadata(&path).unwrap();
    let (uid, gid) = (found.uid(), found.gid());
    let state = format!(", and the file to uid {uid} and gid {gid}, mode 0000");
    let error = scenario.fail();
    assert!(error.text.ends_with(&state), "{error}");
}
