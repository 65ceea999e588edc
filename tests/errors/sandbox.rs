use tester::prelude::*;

pub(crate) const CASES: &[Case] = &[
    case!(the_launcher_terminates_the_daemon_if_a_sandbox_refuses_pidfd_send_signal, needs Linux),
    case!(the_launcher_terminates_the_intermediate_if_a_sandbox_refuses_pidfd_send_signal, needs Linux),
];

fn the_launcher_terminates_the_daemon_if_a_sandbox_refuses_pidfd_send_signal() {
    for errno in [libc::EPERM, libc::ENOSYS] {
        let scenario = daemon!()
            .privileged_action([Step::Hold])
            .from_state(|state| {
                state.refused_calls = vec![(SystemCall::PidfdSendSignal, errno)];
            });
        let run = scenario.launch();
        let held = run.held();
        // Only the launcher is left to terminate the daemon.
        sys::kill(held.ppid, libc::SIGKILL).expect("kill the intermediate");
        assert_eq!(run.launcher_error().kind, "IntermediateExited");
        run.assert_nothing_left();
    }
}

/// The intermediate is stopped, so that the launcher terminates it.
fn the_launcher_terminates_the_intermediate_if_a_sandbox_refuses_pidfd_send_signal() {
    for errno in [libc::EPERM, libc::ENOSYS] {
        let scenario = daemon!()
            .startup_timeout(Duration::from_millis(500))
            .privileged_action([Step::Hold])
            .from_state(|state| {
                state.refused_calls = vec![(SystemCall::PidfdSendSignal, errno)];
            });
        let run = scenario.launch();
        sys::kill(run.held().ppid, libc::SIGSTOP).expect("stop the intermediate");
        assert_eq!(run.launcher_error().kind, "StartupTimeout");
        run.assert_nothing_left();
    }
}
