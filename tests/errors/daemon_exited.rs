use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;

use tester::prelude::*;

pub(crate) const CASES: &[Case] = &[
    case!(an_exit_before_readiness_is_a_failure),
    case!(a_death_by_a_signal_is_reported_at_once),
    case!(an_abort_is_reported_at_once),
    case!(a_worker_that_shares_all_descriptors_does_not_hide_a_death),
    case!(an_exit_of_the_privileged_action_is_reported_with_its_status),
    case!(a_signal_that_kills_the_privileged_action_is_reported),
    case!(a_lost_message_is_hinted_at_only_if_standard_error_is_the_null_device),
    case!(a_daemon_that_executes_another_program_is_reported),
    case!(a_daemon_that_closes_its_channel_is_reported),
    case!(the_exit_status_is_reported_rather_than_the_closed_channel),
    case!(a_worker_that_shares_all_descriptors_does_not_delay_the_report_of_a_death),
    case!(a_sigterm_to_a_starting_daemon_is_reported),
];

/// The launcher's error if the daemon ended with this status.
fn ended_with(status: ExitStatus) -> StartError {
    let hints = match status.code() {
        Some(_) => format!("{INSTEAD_OF_EXITING}; {NO_MESSAGES}"),
        None => NO_MESSAGES.to_owned(),
    };
    let text = format!("the daemon ended before it was ready ({status}); {hints}");
    StartError {
        daemon_exit_status: Some(status.into_raw()),
        ..StartError::new("DaemonExited", None, &text)
    }
}

fn exited(status: i32) -> StartError {
    ended_with(ExitStatus::from_raw(status << 8))
}

fn an_exit_before_readiness_is_a_failure() {
    for status in [0, 3] {
        for scenario in in_each_closure(|| daemon!(), &[Step::Exit(status)]) {
            assert_eq!(scenario.fail(), exited(status));
        }
    }
}

fn a_death_by_a_signal_is_reported_at_once() {
    for signal in [libc::SIGKILL, libc::SIGTERM] {
        for scenario in in_each_closure(|| daemon!(), &[Step::KillItself(signal)]) {
            let error = scenario.fail();
            assert_eq!(error.kind, "DaemonExited");
            assert_eq!(error.daemon_exit_status, Some(signal));
            let cause = format!("(signal: {signal} ");
            assert!(error.text.contains(&cause), "{error}");
        }
    }
}

fn an_abort_is_reported_at_once() {
    for scenario in in_each_closure(|| daemon!(), &[Step::Abort]) {
        let error = scenario.fail();
        assert_eq!(error.kind, "DaemonExited");
        // The status may include the bit of a core dump.
        let status = error.daemon_exit_status.unwrap();
        assert_eq!(status & 0x7f, libc::SIGABRT);
    }
}

fn a_worker_that_shares_all_descriptors_does_not_hide_a_death() {
    let ends = [
        (Step::KillItself(libc::SIGKILL), libc::SIGKILL),
        (Step::Exit(0), 0),
    ];
    for (end, status) in ends {
        for scenario in in_each_closure(|| daemon!(), &[Step::ForkWorker, end]) {
            let run = scenario.launch();
            let error = run.launcher_error();
            assert_eq!(error.kind, "DaemonExited");
            assert_eq!(error.daemon_exit_status, Some(status));
            let worker = run.worker();
            // The worker belongs to the closure, and lives: the launcher did not wait
            // for its end.
            run.assert_nothing_left_but(&[worker]);
            assert!(run.launcher().process(worker).is_some());
        }
    }
}

fn an_exit_of_the_privileged_action_is_reported_with_its_status() {
    for status in [0, 1, 3, 255] {
        let scenario = daemon!().privileged_action([Step::Exit(status)]);
        scenario.assert_fails_in_launcher(&exited(status));
    }
}

fn a_signal_that_kills_the_privileged_action_is_reported() {
    for (step, signal) in [
        (Step::KillItself(libc::SIGKILL), libc::SIGKILL),
        (Step::KillItself(libc::SIGTERM), libc::SIGTERM),
        (Step::KillItself(libc::SIGUSR1), libc::SIGUSR1),
        (Step::Abort, libc::SIGABRT),
    ] {
        for entry in [Entry::Start, Entry::Execute] {
            let scenario = daemon!().privileged_action([step.clone()]).entry(entry);
            let error = scenario.fail_in_launcher();
            let status = ExitStatus::from_raw(error.daemon_exit_status.unwrap());
            assert_eq!(status.signal(), Some(signal));
            assert_eq!(error, ended_with(status));
        }
    }
}

fn a_lost_message_is_hinted_at_only_if_standard_error_is_the_null_device() {
    for stream in [Stream::Keep, Stream::append("log")] {
        let scenario = daemon!().privileged_action([Step::Exit(3)]).stderr(stream);
        let text = "the daemon ended before it was ready (exit status: 3)";
        let text = format!("{text}; {INSTEAD_OF_EXITING}");
        assert_eq!(scenario.fail_in_launcher().text, text);
    }
    let scenario = daemon!().privileged_action([Step::Exit(3)]);
    let scenario = scenario.stderr(Stream::DevNull);
    assert_eq!(scenario.fail_in_launcher(), exited(3));
}

#[track_caller]
fn assert_disconnected(steps: &[Step]) {
    let text = "the daemon ended before it was ready: it closed its connection to the launcher, \
                for example because it executed another program or closed every descriptor; \
                the library then terminated the daemon";
    let expected = StartError::new("DaemonExited", None, text);
    type Closure = fn(Scenario, &[Step]) -> Scenario;
    let closures: [Closure; 2] = [
        |scenario, steps| scenario.privileged_action(steps),
        |scenario, steps| scenario.initialize(steps),
    ];
    // Each start takes a second or two.
    at_once(closures, |closure| {
        // SIGKILL ends a daemon that ignores SIGTERM. The library reports neither signal
        // as another process's.
        at_once([Disposition::Default, Disposition::Ignore], |sigterm| {
            let scenario = closure(daemon!(), steps).on_signal(libc::SIGTERM, sigterm);
            scenario.assert_fails_in_launcher(&expected);
        });
    });
}

/// The error blames no other process's signal.
fn a_daemon_that_executes_another_program_is_reported() {
    let sleep = Step::Execute(vec!["sleep".into(), "60".into()]);
    assert_disconnected(&[sleep]);
}

fn a_daemon_that_closes_its_channel_is_reported() {
    assert_disconnected(&[Step::CloseSockets, Step::Hold]);
}

fn the_exit_status_is_reported_rather_than_the_closed_channel() {
    let execute = Step::Execute(vec!["sh".into(), "-c".into(), "exit 3".into()]);
    for steps in [vec![Step::CloseSockets, Step::Exit(3)], vec![execute]] {
        let scenario = daemon!().privileged_action(steps);
        scenario.assert_fails_in_launcher(&exited(3));
    }
}

/// The worker lives until this test ends: a launcher that waited for the worker would
/// still wait.
fn a_worker_that_shares_all_descriptors_does_not_delay_the_report_of_a_death() {
    for end in [Step::Exit(3), Step::KillItself(libc::SIGKILL), Step::Abort] {
        for entry in [Entry::Start, Entry::Execute] {
            let steps = [Step::ForkWorker, end.clone()];
            let run = daemon!().privileged_action(steps).entry(entry).launch();
            assert_eq!(run.launcher_error().kind, "DaemonExited");
            run.assert_nothing_left_but(&[run.worker()]);
            assert_eq!(run.living(), [run.worker()]);
        }
    }
}

fn a_sigterm_to_a_starting_daemon_is_reported() {
    let scenario = daemon!().on_signal(libc::SIGTERM, Disposition::Default);
    for scenario in [
        scenario.clone().privileged_action([Step::Hold]),
        scenario.initialize([Step::Hold]),
    ] {
        let run = scenario.launch();
        sys::kill(run.held().pid, libc::SIGTERM).unwrap();
        run.launcher_error().assert_killed_by_sigterm();
        run.assert_nothing_left();
    }
}
