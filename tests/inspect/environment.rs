use std::os::fd::OwnedFd;

use tester::prelude::*;

use crate::setup::*;

pub(crate) const CASES: &[Case] = &[
    case!(a_variable_that_changes_programs_is_found, needs Linux),
    case!(a_variable_of_a_session_is_found, needs Linux),
    case!(a_home_of_another_user_is_found, needs Root, TestUser, Linux, Tracing),
    case!(a_home_of_the_user_is_no_finding, needs Root, TestUser, Linux, Tracing),
    case!(a_relative_path_is_found, needs Linux),
    case!(sockets_of_another_process_are_found, needs Linux),
    case!(no_value_is_printed, needs Linux),
    case!(a_limit_that_ends_the_daemon_is_found, needs Linux),
    case!(a_lack_of_descriptors_is_found, needs Linux),
];

fn a_variable_that_changes_programs_is_found() {
    let checkup = inspect_daemon(&clean().env("PERL5LIB", "/tmp"));
    checkup.assert_only("environment", "PERL5LIB changes the code");
}

fn a_variable_of_a_session_is_found() {
    let checkup = inspect_daemon(&clean().env("SUDO_USER", "user").env("DISPLAY", ":0"));
    checkup.assert_finding("environment", "SUDO_USER");
    checkup.assert_only("environment", "DISPLAY");
}

fn of_test_user(home: &str) -> Checkup {
    inspect_daemon(&clean().env("HOME", home).user(suite::TEST_USER))
}

fn a_home_of_another_user_is_found() {
    of_test_user("/root").assert_only("environment", "HOME is not that of daemonize2-test");
}

fn a_home_of_the_user_is_no_finding() {
    let user = sys::user_of_id(suite::TEST_USER_ID).unwrap();
    let home = String::from_utf8(user.home).unwrap();
    of_test_user(&home).assert_findings(&[]);
}

fn a_relative_path_is_found() {
    for path in ["/usr/bin:", ".:/usr/bin", "/usr/bin:bin"] {
        let checkup = inspect_daemon(&clean().env("PATH", path));
        checkup.assert_only("environment", "not absolute");
    }
}

fn sockets_of_another_process_are_found() {
    let checkup = inspect_daemon(&clean().env("LISTEN_PID", "1"));
    checkup.assert_only("environment", "LISTEN_PID names another process");
}

fn no_value_is_printed() {
    let run = clean().env("SSH_PASSWORD", "a-secret-value").start();
    for arguments in [&["--json"][..], &[]] {
        let output = command(run.report().pid, arguments).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(
            text.contains("SSH_PASSWORD") && !text.contains("a-secret-value"),
            "{text}"
        );
    }
}

fn a_limit_that_ends_the_daemon_is_found() {
    let checkup = inspect_daemon(&clean().limit_file_size(1 << 30));
    checkup.assert_only("limits", "Max file size is 1073741824");
}

/// The loader of the program needs one free descriptor.
fn a_lack_of_descriptors_is_found() {
    let null = || -> OwnedFd { File::open("/dev/null").unwrap().into() };
    let with = |limit: u32| {
        let six: Vec<_> = (4..10).map(|number| (null(), number)).collect();
        Cat::by_shell(&format!("echo $$; ulimit -n {limit}; exec cat"), &six)
    };
    inspect(with(10).pid).assert_finding("limits", "hardly a descriptor is left");
    inspect(with(11).pid).assert_ok("limits", "");
}
