use tester::prelude::*;
use tester::trace::{Fault, How, Role};
use tester::traced_start::TracedStart;

use crate::setup::*;

pub(crate) const CASES: &[Case] = &[
    case!(a_missing_program_is_reported_and_leaves_nothing),
    case!(a_program_that_is_not_in_path_is_reported),
    case!(a_file_without_permission_is_reported),
    case!(a_file_that_is_no_program_is_reported),
    case!(a_script_without_its_interpreter_is_reported),
    case!(a_failed_step_before_the_program_is_reported),
    case!(a_locked_pid_file_is_reported),
    case!(a_program_that_ends_at_once_is_started_or_reported),
    case!(a_start_with_a_timeout_succeeds),
    case!(a_nul_byte_is_refused_before_any_fork),
    case!(a_variable_without_a_valid_name_is_refused_before_any_fork),
    case!(the_limit_that_refuses_a_program_of_another_user_is_named, needs Root, Linux),
    case!(a_directory_of_a_lost_file_server_does_not_end_the_search, needs Faults),
    case!(a_failure_is_reported_before_the_intermediate_reads_an_end_of_file, needs Faults),
];

fn a_missing_program_is_reported_and_leaves_nothing() {
    for program in ["/no/such/program", "./program"] {
        let scenario = daemon!().spawn_program(program, [""; 0]);
        let error = scenario.fail();
        assert_eq!(error, cannot_execute(program, libc::ENOENT, ""));
        let pid_file = pid_file_at(&scenario.path("daemon.pid"));
        assert!(pid_file.is_released(), "{pid_file:?}");
    }
}

fn a_program_that_is_not_in_path_is_reported() {
    // The user may not search every directory of the caller's PATH.
    let scenario = daemon!().env("PATH", "/usr/bin:/bin");
    let scenario = scenario.spawn_program("no-such-program", [""; 0]);
    let reason = ": no directory of the program's PATH has it";
    let expected = cannot_execute("no-such-program", libc::ENOENT, reason);
    assert_eq!(scenario.fail(), expected);
}

fn a_file_without_permission_is_reported() {
    let scenario = daemon!();
    let path = write_program(&scenario, "program", "#!/bin/sh\n");
    set_mode(&path, 0o644);
    let scenario = scenario.spawn_program("./program", [""; 0]);
    let reason = ": the daemon lacks the permission to execute the file, or to search a directory of its path";
    assert_eq!(
        scenario.fail(),
        cannot_execute("./program", libc::EACCES, reason)
    );
}

fn a_file_that_is_no_program_is_reported() {
    let scenario = daemon!();
    write_program(&scenario, "program", "echo\n");
    let scenario = scenario.spawn_program("./program", [""; 0]);
    let reason = ": it is neither a binary of this system nor a script that begins with #!";
    assert_eq!(
        scenario.fail(),
        cannot_execute("./program", libc::ENOEXEC, reason)
    );
}

fn a_script_without_its_interpreter_is_reported() {
    let scenario = daemon!();
    write_program(&scenario, "program", "#!/no/such/interpreter\n");
    let scenario = scenario.spawn_program("./program", [""; 0]);
    let reason = ": the file exists, but the interpreter or dynamic linker that it names does not";
    assert_eq!(
        scenario.fail(),
        cannot_execute("./program", libc::ENOENT, reason)
    );
}

fn a_failed_step_before_the_program_is_reported() {
    let error = spawned().working_directory("missing").fail();
    error.assert_kind("ChangeDirectory", libc::ENOENT);
    let error = spawned().stdout(Stream::log("missing/log")).fail();
    error.assert_kind("OpenLogFile", libc::ENOENT);
    let error = spawned().chroot("missing").fail();
    error.assert_kind("Chroot", libc::ENOENT);
}

fn a_locked_pid_file_is_reported() {
    let scenario = spawned();
    let run = scenario.start();
    let pid = run.report().pid;
    let error = scenario.fail_beside_daemon();
    error.assert_kind("LockPidfile", libc::EWOULDBLOCK);
    assert_eq!(error.running_pid, Some(pid));
    run.assert_pid_file_held();
}

fn a_program_that_ends_at_once_is_started_or_reported() {
    for _ in 0..20 {
        let scenario = shell("exit 3");
        let run = scenario.launch();
        if run.launcher().output.status.success() {
            run.wait_until_all_ended();
        } else {
            let error = run.launcher_error();
            assert_eq!(error.kind, "DaemonExited");
            assert_eq!(error.daemon_exit_status, Some(3 << 8));
            // A program has no closure.
            assert!(!error.text.contains(INSTEAD_OF_EXITING), "{error}");
            run.assert_nothing_left();
        }
        assert_not_running(&scenario.control());
    }
}

fn a_start_with_a_timeout_succeeds() {
    let scenario = spawned().startup_timeout(time_limit());
    scenario.start().assert_pid_file_held();
}

fn a_nul_byte_is_refused_before_any_fork() {
    let scenario = daemon!().spawn_program("a\0b", [""; 0]);
    assert_eq!(scenario.fail_in_launcher().kind, "PathContainsNul");
    let refused = |what| {
        let reason = format!("cannot execute /bin/sh: {what} contains a NUL byte");
        StartError::with_text("ExecuteProgram", libc::EINVAL, Some("/bin/sh"), &reason)
    };
    let scenario = daemon!().spawn_program("/bin/sh", ["a\0b"]);
    assert_eq!(scenario.fail_in_launcher(), refused("an argument"));
    let mut scenario = shell("");
    scenario.config.program.environment = vec![("NAME".into(), Some("a\0b".into()))];
    assert_eq!(
        scenario.fail_in_launcher(),
        refused("an environment variable")
    );
}

fn a_variable_without_a_valid_name_is_refused_before_any_fork() {
    for name in ["", "A=B"] {
        let mut scenario = shell("");
        scenario.config.program.environment = vec![(name.into(), Some("value".into()))];
        let error = scenario.fail_in_launcher();
        error.assert_kind("ExecuteProgram", libc::EINVAL);
        assert!(
            error.text.contains("name of an environment variable"),
            "{error}"
        );
    }
}

/// setresuid(2) succeeds beyond the limit, and execve(2) fails.
fn the_limit_that_refuses_a_program_of_another_user_is_named() {
    let _other = spawned().user(UID).group(GID).start();
    let scenario = spawned().user(UID).group(GID);
    let scenario = scenario.from_state(|state| state.limit_processes = Some(0));
    let error = scenario.fail_in_launcher();
    error.assert_kind("ExecuteProgram", libc::EAGAIN);
    assert!(error.text.contains("RLIMIT_NPROC"), "{error}");
}

fn a_directory_of_a_lost_file_server_does_not_end_the_search() {
    for errno in [libc::ESTALE, libc::ENODEV, libc::ETIMEDOUT] {
        let mut scenario = daemon!().spawn_program("sleep", ["1000"]);
        let path = ("PATH".into(), Some("/lost:/bin:/usr/bin".into()));
        scenario.config.program.environment.push(path);
        let run = scenario.faults(&[Fault {
            process: Role::Daemon,
            call: "execve".to_owned(),
            occurrence: 0,
            how: How::Errno(errno),
            always: false,
        }]);
        let run = run.launch();
        run.launcher().assert().success();
    }
}

/// The intermediate takes an end of file that no end of the daemon follows for an execution.
fn a_failure_is_reported_before_the_intermediate_reads_an_end_of_file() {
    let missing = || daemon!().spawn_program("/no/such/program", [""; 0]);
    for (scenario, failed) in [
        (missing(), "execve"),
        (missing().stdout(Stream::log("missing/log")), "open(missing"),
    ] {
        let start = TracedStart::observe(&scenario.faults(&[]), false);
        let calls = start.calls.iter();
        let calls = calls.filter(|call| call.process == Role::Daemon);
        let names: Vec<_> = calls.map(|call| &*call.call).collect();
        let failed = names.iter().rposition(|name| name.starts_with(failed));
        let after = &names[failed.expect("the call that fails")..];
        let next = |wanted| after.iter().position(|name| name.starts_with(wanted));
        let (report, close) = (next("sendmsg("), next("close(pair "));
        let is_first = report.is_some() && close.is_none_or(|close| report < Some(close));
        assert!(is_first, "{names:?}");
    }
}
