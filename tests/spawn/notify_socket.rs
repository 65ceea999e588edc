use tester::prelude::*;

use crate::setup::*;

pub(crate) const CASES: &[Case] = &[
    case!(an_errno_fails_the_start, needs Linux),
    case!(an_expired_timeout_names_the_notification_and_the_last_status, needs Linux),
    case!(the_launcher_waits_for_the_notification, needs Linux),
    case!(a_program_of_another_user_in_another_root_directory_notifies, needs Root, OtherUsers, Linux),
    case!(a_child_of_the_program_cannot_report, needs Linux),
    case!(a_process_outside_cannot_report, needs Linux),
    case!(a_flood_of_foreign_messages_hides_no_message_of_the_program, needs Linux),
    case!(a_malformed_message_is_ignored, needs Linux),
    case!(a_status_is_the_reason_of_a_failure, needs Linux),
    case!(a_status_controls_no_terminal, needs Linux),
    case!(a_program_that_ends_after_its_report_is_not_ready, needs Linux),
    case!(no_process_allocates_memory_for_a_notification, needs Linux),
    case!(the_socket_replaces_that_of_a_service_manager, needs Linux),
    case!(a_message_after_the_start_fails_at_once, needs Linux),
    case!(no_other_process_can_take_the_name_while_the_program_runs, needs Linux),
    case!(the_program_has_no_descriptor_but_the_socket, needs Linux),
];

fn ready() -> Step {
    notify("READY=1")
}

fn notifying(steps: impl Into<Vec<Step>>) -> Scenario {
    daemon!().spawn_awaiting(ProgramReadiness::NotifySocket, steps)
}

fn the_launcher_waits_for_the_notification() {
    assert_launcher_waits_for_the_last(&notifying([Step::Hold, ready()]));
}

fn a_program_of_another_user_in_another_root_directory_notifies() {
    let scenario = notifying([Step::Hold, ready()]).close_inherited_fds([]);
    let scenario = scenario.chroot("/").user(UID).group(GID);
    let run = assert_launcher_waits_for_the_last(&scenario);
    assert!(run.report().uid.unwrap() == UID);
}

fn a_child_of_the_program_cannot_report() {
    let by_copy = Step::NotifyByCopy(Bytes(b"READY=1\nSTATUS=foreign\nERRNO=1".to_vec()));
    assert_launcher_waits_for_the_last(&notifying([by_copy, Step::Hold, ready()]));
}

/// The address of the socket of a program that holds.
fn address_of(run: &Run) -> String {
    let held = run.held();
    held.variable("NOTIFY_SOCKET")
        .expect("it is set")
        .to_owned()
}

fn a_process_outside_cannot_report() {
    let run = notifying([Step::Hold, notify("STATUS=own"), Step::Exit(1)]).launch();
    let address = address_of(&run);
    sys::notify(&address, b"READY=1\nSTATUS=foreign\nERRNO=1").unwrap();
    run.assert_launcher_waits();
    run.proceed();
    let error = run.launcher_error();
    assert!(error.text.ends_with("; its last status: own"), "{error}");
}

fn a_flood_of_foreign_messages_hides_no_message_of_the_program() {
    let run = notifying([Step::Hold, notify("STATUS=own"), Step::Exit(1)]).launch();
    let address = address_of(&run);
    let error = thread::scope(|scope| {
        scope.spawn(|| {
            // It waits for room, and fails when the intermediate and the program have ended.
            while sys::notify(&address, b"READY=1").is_ok() {
                thread::yield_now();
            }
        });
        run.proceed();
        run.launcher_error()
    });
    assert!(error.text.ends_with("; its last status: own"), "{error}");
}

fn a_malformed_message_is_ignored() {
    let too_long = format!("READY=1\nSTATUS={}", "x".repeat(4096));
    let steps = [
        notify("READY=1\0\0"),
        notify(b"STATUS=\xff\nREADY=1"),
        notify("READY=11"),
        notify("EXTEND_TIMEOUT_USEC=1\nMAINPID=1\nWATCHDOG=1\nFDSTORE=1"),
        notify("ERRNO=0"),
        notify("ERRNO=-1000000000000"),
        notify(""),
        notify(too_long),
        Step::Hold,
        notify("STATUS=serving\nREADY=1\n"),
    ];
    let run = assert_launcher_waits_for_the_last(&notifying(steps));
    assert!(!run.has_sent(|message| matches!(message, Message::Result(_))));
}

fn a_status_is_the_reason_of_a_failure() {
    for (steps, reason) in [
        (
            vec![],
            "its standard error is /dev/null: set `stderr` to see its messages",
        ),
        (
            vec![notify("STATUS=opening\n"), notify("STATUS=no port is free")],
            "its last status: no port is free",
        ),
    ] {
        let error = notifying([steps, vec![Step::Exit(3)]].concat()).fail();
        assert_eq!(error.kind, "DaemonExited");
        assert_eq!(error.daemon_exit_status, Some(3 << 8));
        let text = format!("the daemon ended before it was ready (exit status: 3); {reason}");
        assert_eq!(error.text, text);
    }
}

fn an_errno_fails_the_start() {
    let cause = errno_text(libc::EADDRINUSE);
    let message = |text: &str| notify(format!("{text}ERRNO={}", libc::EADDRINUSE));
    for (text, reason) in [
        ("", cause.clone()),
        ("STATUS=no port\n", format!("no port: {cause}")),
    ] {
        // A program that stays is terminated; `READY=1` comes too late.
        let error = notifying([message(text), ready(), Step::Hold]).fail();
        let expected = format!("the daemon is not ready: {reason}");
        assert_eq!(error, StartError::new("NotReady", None, &expected));
        let error = notifying([message(text), Step::Exit(1)]).fail();
        assert_eq!(error.kind, "DaemonExited");
        assert!(error.text.ends_with(&format!("; {reason}")), "{error}");
    }
}

fn a_status_controls_no_terminal() {
    let error = notifying([notify("STATUS=\x1b[2J\r\u{202e}"), Step::Exit(1)]).fail();
    let end = "; its last status: \\u{1b}[2J\\r\\u{202e}";
    assert!(error.text.ends_with(end), "{error}");
}

fn a_program_that_ends_after_its_report_is_not_ready() {
    for _ in 0..20 {
        let scenario = notifying([ready(), Step::Exit(3)]);
        let run = scenario.launch();
        if run.launcher().output.status.success() {
            run.wait_until_all_ended();
        } else {
            assert_eq!(run.launcher_error().daemon_exit_status, Some(3 << 8));
            run.assert_nothing_left();
        }
        assert_not_running(&scenario.control());
    }
}

fn an_expired_timeout_names_the_notification_and_the_last_status() {
    let scenario = notifying([notify("STATUS=loading"), Step::Hold]);
    let timeout = scaled(Duration::from_secs(1));
    let error = scenario.startup_timeout(timeout).fail();
    let text = format!(
        "the daemon was not ready in time: the startup timeout of {timeout:?} expired before the \
         program sent READY=1 to its NOTIFY_SOCKET; the library terminated the daemon; its last \
         status: loading"
    );
    assert_eq!(error, StartError::new("StartupTimeout", None, &text));
}

/// The tester counts, and reports any call as a problem.
fn no_process_allocates_memory_for_a_notification() {
    let long = notify(format!("STATUS={}", "x".repeat(4000)));
    notifying([long.clone(), ready()]).start();
    notifying([long.clone(), long, Step::Exit(1)]).fail();
}

fn the_socket_replaces_that_of_a_service_manager() {
    let scenario = notifying([Step::Hold, ready()]).env("NOTIFY_SOCKET", "/nowhere");
    let run = scenario.launch();
    assert_ne!(address_of(&run), "/nowhere");
    run.proceed_to_success();
}

fn a_message_after_the_start_fails_at_once() {
    let run = notifying([ready(), Step::Hold, notify("WATCHDOG=1")]).launch();
    run.launcher().assert().success();
    run.held();
    run.proceed();
    let parts = run.first("the failure", select!(Result));
    assert_eq!(
        parts,
        [io::Error::from_raw_os_error(libc::EPIPE).to_string()]
    );
}

fn no_other_process_can_take_the_name_while_the_program_runs() {
    let run = notifying([ready()]).start();
    let report = run.report();
    let name = report.variable("NOTIFY_SOCKET").unwrap();
    let bound = sys::bind_abstract(name);
    assert_eq!(bound.unwrap_err().kind(), io::ErrorKind::AddrInUse);
    run.exit(0);
    sys::bind_abstract(name).unwrap();
}

fn the_program_has_no_descriptor_but_the_socket() {
    for scenario in [
        notifying([ready()]),
        notifying([ready()]).close_inherited_fds([]),
    ] {
        let run = scenario.start();
        // The pid file and the socket.
        assert_eq!(run.report().descriptor_numbers().len(), 5);
        run.assert_pid_file_held();
    }
}
