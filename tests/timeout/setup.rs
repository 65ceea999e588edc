//! Set-up and assertions that the modules of this suite share.

use std::time::{Duration, Instant};

use tester::prelude::*;

/// Longer than a daemon takes to be there on a busy machine.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(1);

/// What the launcher allows the intermediate beyond the time, and then some.
pub(crate) const MUCH_MORE: Duration = Duration::from_secs(9);

/// The text of an error for the time.
pub(crate) fn late(rest: &str) -> String {
    format!("the daemon was not ready in time: the startup timeout of {TIMEOUT:?} ran out {rest}")
}

/// It fails for the time, and neither at once nor much later; nothing is left.
#[track_caller]
pub(crate) fn assert_times_out(run: &Run, began: Instant) {
    let error = run.launcher_error();
    let took = began.elapsed();
    assert_eq!(error.kind, "StartupTimeout", "{}", run.account());
    assert!(TIMEOUT <= took && took < TIMEOUT + MUCH_MORE, "{took:?}");
    run.assert_nothing_left();
}

/// A launcher that goes on after a start that failed, and starts again when told.
pub(crate) fn going_on() -> Scenario {
    let mut scenario = scenario!().startup_timeout(TIMEOUT).entry(Entry::Execute);
    scenario.config.report_afterwards = true;
    scenario.config.start_again = true;
    scenario.privileged_action([Step::Hold])
}

/// Has the launcher start again, and asserts that no process and no descriptor of
/// the first start's is left in it or in the other daemon.
#[track_caller]
pub(crate) fn assert_reaped_at_the_next_start(run: &Run, pid: u32) {
    run.proceed();
    let afterwards = run.message("the launcher's report", |frame| match &frame.message {
        Message::Afterwards(report) => Some(report.clone()),
        _ => None,
    });
    run.launcher();
    let frames = run.messages();
    let unreaped = Message::Unreaped(pid);
    let is_left = frames.iter().any(|frame| frame.message == unreaped);
    assert!(!is_left, "{}", run.account());
    let numbers = run.initial().descriptor_numbers();
    assert_eq!(afterwards.descriptor_numbers(), numbers);
    assert_eq!(run.observed().descriptor_numbers(), numbers);
}
