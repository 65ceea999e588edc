use tester::prelude::*;
use tester::trace::Role;

use crate::setup::*;

pub(crate) const CASES: &[Case] = &[
    case!(a_stopped_intermediate_does_not_outlast_the_timeout),
    case!(an_intermediate_stopped_at_any_call_does_not_outlast_the_timeout, needs Stepping),
    case!(an_intermediate_that_cannot_be_terminated_does_not_outlast_the_timeout, needs Stepping),
    case!(an_intermediate_that_ends_slowly_is_reaped, needs Stepping),
    case!(an_intermediate_that_outlasts_sigkill_is_reaped_at_the_next_start, needs Stepping),
];

fn a_stopped_intermediate_does_not_outlast_the_timeout() {
    let assert_outlasted = |entry, sigterm| {
        let scenario = daemon!().entry(entry).startup_timeout(timeout());
        let scenario = scenario.on_signal(libc::SIGTERM, sigterm);
        let scenario = scenario.privileged_action([Step::Hold]);
        let began = Instant::now();
        let run = scenario.launch();
        sys::kill(run.held().ppid, libc::SIGSTOP).unwrap();
        assert_times_out(&run, began);
    };
    // Each start takes seconds.
    at_once([Entry::Start, Entry::Execute], |entry| {
        at_once([Disposition::Default, Disposition::Ignore], |sigterm| {
            assert_outlasted(entry, sigterm);
        });
    });
}

const ENDS_AT_ITS_REPORT: &str =
    "the daemon may still run; it ends at the latest when it reports to the launcher";

/// Stops the intermediate at this call. Returns false if the intermediate makes fewer
/// calls.
fn is_outlasted(call: usize) -> bool {
    let scenario = daemon!().startup_timeout(timeout());
    let scenario = scenario.signal_at(Role::Intermediate, call, libc::SIGSTOP);
    let run = scenario.launch();
    if run.launcher().output.status.success() {
        run.report();
        // At its exit, the intermediate has released the daemon.
        return run.signal_hit().is_some();
    }
    let error = run.launcher_error();
    assert_eq!(error.kind, "StartupTimeout", "{}", run.diagnostics());
    // Without a handle of the daemon, the launcher leaves the end to the daemon itself.
    if error.text.ends_with(ENDS_AT_ITS_REPORT) {
        run.wait_until_all_ended();
        assert_not_running(&scenario.control());
    } else {
        run.assert_nothing_left();
    }
    // The time counts from the stop, however busy the machine was before.
    let waited = run.signal_hit().unwrap().launcher_ended_after;
    let most = (timeout() + launcher_wait()).as_millis();
    assert!(u128::from(waited) < most, "{waited} ms");
    true
}

/// The call may be before the daemon exists, while it starts, or when it is ready.
fn an_intermediate_stopped_at_any_call_does_not_outlast_the_timeout() {
    sweep(24, |call| {
        let is_made = is_outlasted(call);
        assert!(
            is_made || call > 10,
            "the intermediate makes {call} calls only"
        );
        is_made
    });
}

/// A file server that does not answer has this effect. The launcher terminates the daemon
/// nevertheless.
fn an_intermediate_that_cannot_be_terminated_does_not_outlast_the_timeout() {
    let scenario = daemon!().startup_timeout(timeout());
    let began = Instant::now();
    let run = scenario.privileged_action([Step::Hold]).launch();
    let (daemon, intermediate) = (run.held().pid, run.held().ppid);
    sys::kill(intermediate, libc::SIGSTOP).unwrap();
    let detained = sys::detain(intermediate).unwrap();
    let error = run.launcher_error();
    assert_eq!(error.kind, "StartupTimeout", "{}", run.diagnostics());
    let text = timeout_text(
        timeout(),
        &format!(
            "during the privileged action; the library terminated the daemon; \
         the intermediate process {intermediate} could not be terminated and still exists"
        ),
    );
    assert_eq!(error.text, text);
    assert!(began.elapsed() < timeout() + launcher_wait());
    run.wait_until_ended(daemon);
    // SIGKILL is pending: the intermediate will end.
    assert!(!run.handle(intermediate).wait(Instant::now()).unwrap());
    drop(detained);
    run.wait_until_ended(intermediate);
    run.assert_nothing_left_but(&[intermediate]);
}

fn an_intermediate_that_ends_slowly_is_reaped() {
    let mut scenario = scenario!().startup_timeout(timeout());
    scenario.config.report_afterwards = true;
    let run = scenario.privileged_action([Step::Hold]).launch();
    let intermediate = run.held().ppid;
    sys::kill(intermediate, libc::SIGSTOP).unwrap();
    let detained = sys::detain(intermediate).unwrap();
    detained.wait_until_killed().unwrap();
    run.assert_launcher_waits();
    drop(detained);
    run.launcher_error();
    run.wait_until_all_ended();
    assert_eq!(run.senders_of(&Message::Unreaped(intermediate)), [0; 0]);
}

fn an_intermediate_that_outlasts_sigkill_is_reaped_at_the_next_start() {
    let run = launcher_that_starts_twice().launch();
    let intermediate = run.held().ppid;
    sys::kill(intermediate, libc::SIGSTOP).unwrap();
    let detained = sys::detain(intermediate).unwrap();
    assert_eq!(run.error_of_launcher().kind, "StartupTimeout");
    drop(detained);
    run.wait_until_ended(intermediate);
    assert_reaped_at_the_next_start(&run, intermediate);
}
