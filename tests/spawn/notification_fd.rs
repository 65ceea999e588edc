use tester::prelude::*;
use tester::report::FileType;

use crate::setup::*;

pub(crate) const CASES: &[Case] = &[
    case!(a_closed_descriptor_fails_the_start),
    case!(an_expired_timeout_names_the_descriptor),
    case!(the_launcher_waits_for_a_line),
    case!(any_number_is_possible_and_keeps_the_pid_file_locked),
    case!(a_program_of_another_user_writes_a_line, needs Root, OtherUsers),
    case!(a_text_without_a_line_feed_is_no_line),
    case!(a_child_of_the_program_may_write_the_line),
    case!(a_program_that_ends_without_a_line_is_reported),
    case!(an_execution_that_fails_is_reported_whatever_the_number_is),
    case!(a_number_that_is_taken_is_refused_before_any_fork),
    case!(a_number_beyond_the_limit_is_reported),
    case!(the_program_inherits_the_socket_of_a_service_manager),
];

fn writing(number: i32, steps: impl Into<Vec<Step>>) -> Scenario {
    daemon!().spawn_awaiting(ProgramReadiness::NotificationFd(number), steps)
}

fn line(number: i32) -> Step {
    Step::Write(number, "ready\n".to_owned())
}

fn the_launcher_waits_for_a_line() {
    assert_launcher_waits_for_the_last(&writing(3, [Step::Hold, line(3)]));
}

/// Among the numbers are those of all descriptors that the daemon has before the execution.
fn any_number_is_possible_and_keeps_the_pid_file_locked() {
    for closes in [false, true] {
        for number in (3..=16).chain([50]) {
            let scenario = writing(number, [line(number)]);
            let scenario = match closes {
                true => scenario.close_inherited_fds([]),
                false => scenario,
            };
            let run = scenario.start();
            let report = run.report();
            let descriptor = report.descriptor(number).expect("it is open");
            assert_eq!(descriptor.file_type, FileType::Pipe, "{number}");
            // The pid file is the fifth.
            assert_eq!(report.descriptor_numbers().len(), 5, "{number}");
            run.assert_pid_file_held();
            // The kernel names the program as the holder.
            let running = scenario.control().running().unwrap();
            assert_eq!(running, Some(report.pid), "{number}");
        }
    }
}

fn a_program_of_another_user_writes_a_line() {
    let scenario = writing(4, [Step::Hold, line(4)]).user(UID).group(GID);
    let run = assert_launcher_waits_for_the_last(&scenario.chroot("/").reset_signals());
    assert!(run.report().uid.unwrap() == UID);
}

fn a_text_without_a_line_feed_is_no_line() {
    let steps = [Step::Write(3, "x".repeat(5000)), Step::Hold, line(3)];
    assert_launcher_waits_for_the_last(&writing(3, steps));
}

fn a_child_of_the_program_may_write_the_line() {
    let mut scenario = shell("(echo >&3); exec 3>&-; exec /bin/sleep 1000");
    scenario.config.program.readiness = ProgramReadiness::NotificationFd(3);
    let run = scenario.launch();
    run.launcher().assert().success();
    assert!(scenario.control().running().unwrap().is_some());
}

fn a_program_that_ends_without_a_line_is_reported() {
    let error = writing(3, [Step::Write(3, "almost".to_owned()), Step::Exit(3)]).fail();
    assert_eq!(error.kind, "DaemonExited");
    assert_eq!(error.daemon_exit_status, Some(3 << 8));
}

fn a_closed_descriptor_fails_the_start() {
    let error = writing(3, [Step::Close(3), Step::Hold]).fail();
    let text = "the daemon is not ready: it closed its notification descriptor without a line";
    assert_eq!(error, StartError::new("NotReady", None, text));
}

fn an_expired_timeout_names_the_descriptor() {
    let timeout = scaled(Duration::from_secs(1));
    let error = writing(3, [Step::Hold]).startup_timeout(timeout).fail();
    let text = format!(
        "the daemon was not ready in time: the startup timeout of {timeout:?} expired before the \
         program wrote a line to its notification descriptor; the library terminated the daemon"
    );
    assert_eq!(error, StartError::new("StartupTimeout", None, &text));
}

fn an_execution_that_fails_is_reported_whatever_the_number_is() {
    for number in 3..=16 {
        let mut scenario = daemon!().spawn_program("/no/such/program", [""; 0]);
        scenario.config.program.readiness = ProgramReadiness::NotificationFd(number);
        let error = scenario.fail();
        assert_eq!(error, cannot_execute("/no/such/program", libc::ENOENT, ""));
    }
}

fn a_number_that_is_taken_is_refused_before_any_fork() {
    let refused = |scenario: &Scenario, reason: &str| {
        let mut scenario = scenario.clone();
        scenario.config.program.path = Some("/bin/sh".into());
        let text = format!("cannot execute /bin/sh: the notification descriptor has {reason}");
        let expected =
            StartError::with_text("ExecuteProgram", libc::EINVAL, Some("/bin/sh"), &text);
        assert_eq!(scenario.fail_in_launcher(), expected);
    };
    for number in [-1, 0, 2] {
        refused(&writing(number, []), "the number of a standard stream");
    }
    let scenario = writing(50, []).close_inherited_fds([50]);
    refused(&scenario, "the number of one that is kept");
}

fn a_number_beyond_the_limit_is_reported() {
    let error = writing(i32::MAX, []).fail();
    error.assert_kind("ExecuteProgram", libc::EBADF);
    assert!(
        error.text.ends_with("exceeds the limit (RLIMIT_NOFILE)"),
        "{error}"
    );
}

fn the_program_inherits_the_socket_of_a_service_manager() {
    let scenario = writing(3, [Step::Hold, line(3)]).env("NOTIFY_SOCKET", "/nowhere");
    let run = scenario.launch();
    assert_eq!(run.held().variable("NOTIFY_SOCKET"), Some("/nowhere"));
    run.proceed_to_success();
}
