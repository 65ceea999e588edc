use tester::prelude::*;

pub(crate) const CASES: &[Case] = &[
    case!(the_launcher_terminates_the_daemon_if_a_sandbox_refuses_pidfd_send_signal, needs CallFilters),
    case!(the_launcher_terminates_the_intermediate_if_a_sandbox_refuses_pidfd_send_signal, needs CallFilters),
];

/// A daemon that waits, in a sandbox that refuses the call with this errno.
fn held_without_pidfd_send_signal(errno: i32) -> Scenario {
    let refused = vec![(SystemCall::PidfdSendSignal, errno)];
    let scenario = daemon!().privileged_action([Step::Hold]);
    scenario.from_state(|state| state.refused_calls = refused)
}

fn the_launcher_terminates_the_daemon_if_a_sandbox_refuses_pidfd_send_signal() {
    for errno in [libc::EPERM, libc::ENOSYS] {
        let run = held_without_pidfd_send_signal(errno).launch();
        let held = run.held();
        // Only the launcher is left to terminate the daemon.
        sys::kill(held.ppid, libc::SIGKILL).expect("kill the intermediate");
        assert_eq!(run.launcher_error().kind, "IntermediateExited");
        run.assert_nothing_left();
    }
}

/// The intermediate is stopped, so that the launcher terminates it.
fn the_launcher_terminates_the_intermediate_if_a_sandbox_refuses_pidfd_send_signal() {
    // Each start takes seconds.
    at_once([libc::EPERM, libc::ENOSYS], |errno| {
        let scenario = held_without_pidfd_send_signal(errno);
        let run = scenario
            .startup_timeout(scaled(Duration::from_millis(500)))
            .launch();
        sys::kill(run.held().ppid, libc::SIGSTOP).expect("stop the intermediate");
        assert_eq!(run.launcher_error().kind, "StartupTimeout");
        run.assert_nothing_left();
    });
}
