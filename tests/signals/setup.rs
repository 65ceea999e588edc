//! Set-up and assertions that the modules of this suite share.

use tester::prelude::*;
use tester::trace::Role;

/// Sends one of the processes SIGTERM at its first call, then at its second, and so on,
/// and judges each start.
#[track_caller]
pub(crate) fn send_sigterm_at_each_call(
    scenario: &Scenario,
    victim: Role,
    judge: impl Fn(&Run, u32) + Sync,
) {
    sweep(4, |call| {
        // Each start has a pid file of its own.
        let scenario = scenario.clone().pid_file(format!("{call}.pid"));
        let run = scenario.signal_at(victim, call, libc::SIGTERM).launch();
        match run.signal_hit().map(|struck| struck.process) {
            Some(pid) => judge(&run, pid),
            None => {
                assert!(call > 10, "{victim} makes {call} calls only");
                return false;
            }
        }
        true
    });
}

#[track_caller]
pub(crate) fn assert_not_handled(run: &Run) {
    let is_handled = |message: &Message| matches!(message, Message::Signalled(_));
    assert!(!run.has_sent(is_handled), "{}", run.diagnostics());
}

#[track_caller]
pub(crate) fn assert_ended_by_sigterm(run: &Run) {
    let error = run.launcher_error();
    // After the intermediate has ended, the launcher cannot know the status.
    if error.daemon_exit_status.is_some() {
        error.assert_killed_by_sigterm();
    }
    assert_eq!(error.kind, "DaemonExited");
    run.assert_nothing_left();
}

pub(crate) fn with_blocked(blocked: Blocked) -> Scenario {
    scenario!().from_state(|state| state.blocked = blocked)
}

pub(crate) fn masks() -> [Blocked; 4] {
    [
        Blocked::Inherited,
        Blocked::These(Vec::new()),
        Blocked::These(vec![libc::SIGCHLD, libc::SIGTERM, libc::SIGUSR1]),
        Blocked::All,
    ]
}
