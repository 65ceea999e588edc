use tester::prelude::*;

pub(crate) const CASES: &[Case] = &[
    case!(the_launcher_gets_the_payload_of_the_report),
    case!(a_payload_that_is_too_long_fails_the_start),
    case!(ready_with_a_payload_that_is_too_long_fails_the_start),
    case!(the_error_of_a_closure_carries_a_payload),
    case!(a_failure_of_a_readiness_carries_a_payload),
    case!(a_payload_that_is_too_long_does_not_hide_the_error),
    case!(in_the_foreground_a_payload_has_no_receiver_but_the_same_limit),
    case!(the_launcher_refuses_a_forged_payload_that_is_too_long),
    case!(the_launcher_does_not_believe_a_report_that_is_cut_off),
];

/// No text: it has a zero, and is not UTF-8.
const BYTES: &[u8] = b"127.0.0.1:7\0\xff\n";
const LONGEST: [u8; 2048] = [b'p'; 2048];
const TOO_LONG: [u8; 2049] = [b'p'; 2049];

const TEXT: &str = "the payload for the launcher is too long: 2049 bytes; the limit is 2048 bytes";

fn the_launcher_gets_the_payload_of_the_report() {
    for entry in ENTRIES {
        for payload in [&[], BYTES, &LONGEST] {
            let scenario = daemon!().entry(entry).on_started([]);
            let plain = scenario.clone().ready_payload(payload);
            let deferred = plain
                .clone()
                .deferring([Step::Observe], ReadinessUse::Ready);
            let mut in_thread = Deferral::new([], ReadinessUse::Ready);
            in_thread.in_thread = true;
            let in_thread = plain.clone().deferred_readiness(in_thread);
            for scenario in [plain, deferred, in_thread] {
                let run = scenario.start();
                assert_eq!(run.started().payload.0, payload);
                assert_eq!(run.started().daemon_pid, run.report().pid);
                if entry.returns_in_both() {
                    assert_eq!(run.launcher_result(), run.started());
                }
            }
        }
        // Without a payload.
        let run = daemon!().entry(entry).on_started([]).start();
        assert_eq!(run.started().payload.0, b"");
    }
}

fn a_payload_that_is_too_long_fails_the_start() {
    for entry in ENTRIES {
        let scenario = daemon!().entry(entry).ready_payload(TOO_LONG);
        let scenario = scenario.privileged_action([Step::WitnessResult]);
        let run = scenario.launch();
        let error = run.launcher_error();
        error.assert_is("PayloadTooLong", TEXT);
        if entry.returns_in_both() {
            assert_eq!(run.daemon_error(), error);
        }
        run.wait_until_all_ended();
        run.assert_pid_file_released();
        assert_eq!(run.count_messages(|one| *one == Message::ResultDropped), 1);
    }
}

fn ready_with_a_payload_that_is_too_long_fails_the_start() {
    for entry in ENTRIES {
        let scenario = daemon!().entry(entry).ready_payload(TOO_LONG);
        let run = scenario.deferring([], ReadinessUse::Ready).launch();
        let error = run.launcher_error();
        error.assert_is("PayloadTooLong", TEXT);
        run.assert_pid_file_released();
        if entry.returns_in_both() {
            let (daemon, same) = run.readiness_error();
            assert_eq!(same, error);
            // The caller ends the daemon.
            assert_eq!(run.observe().pid, daemon);
            run.exit(0);
        } else {
            run.assert_nothing_left();
            assert!(!run.has_sent(|message| matches!(message, Message::NotAcknowledged(_))));
        }
    }
}

#[track_caller]
fn assert_payload(run: &Run, kind: &str, text: &str, payload: &[u8]) {
    let error = run.launcher_error();
    error.assert_is(kind, text);
    assert_eq!(error.payload.0, payload);
    run.wait_until_all_ended();
    run.assert_pid_file_released();
}

fn the_error_of_a_closure_carries_a_payload() {
    for entry in ENTRIES {
        for payload in [&[], BYTES, &LONGEST] {
            let failure = || Fallible::with_payload("no luck", payload);
            let run = daemon!()
                .entry(entry)
                .try_privileged_action(failure())
                .launch();
            let text = "the privileged action failed: no luck";
            assert_payload(&run, "PrivilegedAction", text, payload);
            let run = daemon!().entry(entry).initialize(failure()).launch();
            let text = "the initialization failed: no luck";
            assert_payload(&run, "Initialize", text, payload);
            if entry.returns_in_both() {
                assert_eq!(run.daemon_error(), run.launcher_error());
            }
        }
    }
}

fn a_failure_of_a_readiness_carries_a_payload() {
    let reason = || ErrorText::from("no luck");
    let text = "the daemon is not ready: no luck";
    for entry in [Entry::Start, Entry::Execute] {
        for payload in [&[], BYTES, &LONGEST] {
            let bytes = || Bytes(payload.to_vec());
            let server = Fallible::with_payload(reason(), payload);
            for usage in [
                ReadinessUse::FailWith(reason(), bytes()),
                ReadinessUse::FailAndReturnWith(reason(), bytes()),
                ReadinessUse::Serve(server),
            ] {
                let scenario = daemon!().life(Life::Exit(0)).entry(entry);
                let run = scenario.deferring([], usage.clone()).launch();
                assert_payload(&run, "NotReady", text, payload);
                if matches!(usage, ReadinessUse::FailAndReturnWith(..)) {
                    let (_, error) = run.readiness_error();
                    assert_eq!(error, run.launcher_error());
                }
            }
        }
    }
}

fn a_payload_that_is_too_long_does_not_hide_the_error() {
    let failure = || Fallible::with_payload("no luck", TOO_LONG);
    let note = "(its payload is left out: 2049 bytes; the limit is 2048 bytes)";
    let run = daemon!().initialize(failure()).launch();
    let text = format!("the initialization failed: no luck {note}");
    assert_payload(&run, "Initialize", &text, b"");
    let text = format!("the daemon is not ready: no luck {note}");
    for usage in [
        ReadinessUse::FailWith("no luck".into(), Bytes(TOO_LONG.to_vec())),
        ReadinessUse::Serve(failure()),
    ] {
        let scenario = daemon!().life(Life::Exit(0)).deferring([], usage);
        assert_payload(&scenario.launch(), "NotReady", &text, b"");
    }
}

fn in_the_foreground_a_payload_has_no_receiver_but_the_same_limit() {
    let scenario = daemon!().foreground(Foreground::Yes);
    let run = scenario.clone().ready_payload(LONGEST).launch();
    run.report();
    run.exit(0);
    run.launcher().assert().success().stdout("").stderr("");
    let run = scenario.ready_payload(TOO_LONG).launch();
    run.launcher_error().assert_is("PayloadTooLong", TEXT);
    run.assert_pid_file_released();
}

/// The header of a report of readiness that claims a payload of this length, and some bytes.
fn forged(length: u16, payload: &[u8]) -> Step {
    let mut bytes = vec![0; 16];
    bytes[0] = 1;
    bytes[14..16].copy_from_slice(&length.to_ne_bytes());
    bytes.extend_from_slice(payload);
    Step::SendToSockets(Bytes(bytes))
}

/// After the change of identity another user may control the daemon.
fn the_launcher_refuses_a_forged_payload_that_is_too_long() {
    for length in [2049, u16::MAX] {
        for entry in [Entry::Start, Entry::Execute] {
            let forge = [forged(length, &LONGEST), Step::Hold];
            let run = daemon!().entry(entry).initialize(forge).launch();
            let error = run.launcher_error();
            error.assert_kind("Channel", libc::EPROTO);
            run.assert_nothing_left();
        }
    }
}

fn the_launcher_does_not_believe_a_report_that_is_cut_off() {
    let forge = [forged(2048, &LONGEST[1..]), Step::KillItself(libc::SIGKILL)];
    for entry in [Entry::Start, Entry::Execute] {
        let run = daemon!().entry(entry).initialize(forge.clone()).launch();
        let error = run.launcher_error();
        assert_eq!(error.kind, "DaemonExited");
        assert_eq!(error.daemon_exit_status, Some(libc::SIGKILL));
        run.assert_nothing_left();
    }
}
