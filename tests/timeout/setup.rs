//! Set-up and assertions that the modules of this suite share.

use tester::prelude::*;

/// On a busy machine, a daemon needs less time than this.
pub(crate) fn timeout() -> Duration {
    scaled(Duration::from_secs(1))
}

/// More than the launcher waits beyond the timeout.
pub(crate) fn launcher_wait() -> Duration {
    scaled(Duration::from_secs(9))
}

/// The text of a timeout error.
pub(crate) fn timeout_text(timeout: Duration, rest: &str) -> String {
    format!("the daemon was not ready in time: the startup timeout of {timeout:?} expired {rest}")
}

/// The start fails after the timeout, but not much later, and leaves nothing.
#[track_caller]
pub(crate) fn assert_times_out(run: &Run, began: Instant) {
    let error = run.launcher_error();
    let took = began.elapsed();
    assert_eq!(error.kind, "StartupTimeout", "{}", run.diagnostics());
    assert!(
        timeout() <= took && took < timeout() + launcher_wait(),
        "{took:?}"
    );
    run.assert_nothing_left();
}

/// A launcher that goes on after a failed start, and starts again when it is told to
/// proceed.
pub(crate) fn launcher_that_starts_twice() -> Scenario {
    let mut scenario = scenario!().startup_timeout(timeout()).entry(Entry::Execute);
    scenario.config.report_afterwards = true;
    scenario.config.start_again = true;
    scenario.privileged_action([Step::Hold])
}

/// Lets the launcher start again, and asserts that neither the launcher nor the second
/// daemon has a process or a descriptor of the first start.
#[track_caller]
pub(crate) fn assert_reaped_at_the_next_start(run: &Run, pid: u32) {
    run.proceed();
    let afterwards = run.first("the launcher's report", select!(Afterwards));
    run.launcher();
    assert_eq!(run.senders_of(&Message::Unreaped(pid)), [0; 0]);
    let numbers = run.initial().descriptor_numbers();
    assert_eq!(afterwards.descriptor_numbers(), numbers);
    assert_eq!(run.observed().descriptor_numbers(), numbers);
}
