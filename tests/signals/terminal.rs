use std::os::unix::process::ExitStatusExt as _;

use tester::prelude::*;

use crate::setup::*;

pub(crate) const CASES: &[Case] = &[
    case!(the_end_of_the_terminals_session_does_not_reach_the_daemon, needs Terminals),
    case!(a_signal_to_the_launchers_group_ends_the_start),
    case!(a_signal_to_the_launchers_group_after_the_start_does_not_reach_the_daemon),
];

/// When the leader of a terminal's session ends, the terminal hangs up: the kernel sends
/// SIGHUP to the foreground process group, before another process can see that the leader
/// has ended.
fn the_end_of_the_terminals_session_does_not_reach_the_daemon() {
    for disposition in [Disposition::Default, Disposition::Report] {
        for entry in ENTRIES {
            let run = daemon!()
                .on_signal(libc::SIGHUP, disposition)
                .from_state(|state| state.session = Session::LeaderWithTerminal)
                .entry(entry)
                .start();
            run.observe().assert_detached();
            assert_not_handled(&run);
        }
    }
}

/// Ctrl-C and a closed terminal do the same.
fn a_signal_to_the_launchers_group_ends_the_start() {
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT] {
        let scenario = daemon!().from_state(|state| state.session = Session::Leader);
        let run = scenario.privileged_action([Step::Hold]).launch();
        run.held();
        sys::kill_group(run.launcher_pid(), signal).unwrap();
        assert_eq!(run.launcher().output.status.signal(), Some(signal));
        run.wait_until_all_ended();
        run.assert_pid_file_released();
    }
}

fn a_signal_to_the_launchers_group_after_the_start_does_not_reach_the_daemon() {
    let scenario = scenario!().from_state(|state| state.session = Session::Leader);
    let run = scenario.entry(Entry::Execute).start();
    let daemon = run.observe();
    assert_ne!(daemon.pgid, run.launcher_pid());
    // The group has no member, so that no signal can be sent to it.
    sys::kill_group(run.launcher_pid(), libc::SIGTERM).unwrap_err();
    assert_eq!(run.observe().pid, daemon.pid);
}
