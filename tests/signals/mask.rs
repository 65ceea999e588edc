use tester::prelude::*;

use crate::setup::*;

pub(crate) const CASES: &[Case] = &[
    case!(the_daemon_has_the_launchers_mask),
    case!(the_privileged_action_has_the_launchers_mask),
    case!(blocked_signals_do_not_delay_the_report_of_a_death),
    case!(the_launcher_keeps_its_mask, needs VisibleMasks),
];

fn the_daemon_has_the_launchers_mask() {
    for blocked in masks() {
        let run = with_blocked(blocked).start();
        assert_eq!(run.report().blocked_signals, run.initial().blocked_signals);
    }
}

fn the_privileged_action_has_the_launchers_mask() {
    for blocked in masks() {
        let scenario = with_blocked(blocked).privileged_action([Step::Observe]);
        let run = scenario.start();
        let initial = run.initial().blocked_signals;
        assert_eq!(run.observed().blocked_signals, initial);
        assert!(initial.is_some());
    }
}

fn blocked_signals_do_not_delay_the_report_of_a_death() {
    let scenario = with_blocked(Blocked::All).pid_file("daemon.pid");
    let steps = [Step::KillItself(libc::SIGKILL)];
    let error = scenario.privileged_action(steps).fail();
    assert_eq!(error.daemon_exit_status, Some(libc::SIGKILL));
}

/// The handler runs only once the launcher has restored its mask.
fn the_launcher_keeps_its_mask() {
    for blocked in [vec![], vec![libc::SIGCHLD, libc::SIGTERM, libc::SIGUSR2]] {
        let run = daemon!()
            .on_signal(libc::SIGUSR1, Disposition::Report)
            .from_state(|state| state.blocked = Blocked::These(blocked))
            .privileged_action([Step::Hold])
            .launch();
        run.held();
        run.signal_launcher(libc::SIGUSR1);
        run.await_message(&Message::Signalled(libc::SIGUSR1));
        // The handler may still run, with its own signal blocked.
        let blocked = |report: Report| -> Vec<_> {
            let all = report.blocked_signals.unwrap();
            all.iter().filter(|&one| one != libc::SIGUSR1).collect()
        };
        let waiting = run.outside(run.launcher_pid());
        assert_eq!(blocked(waiting), blocked(run.initial()));
        run.proceed();
        run.report();
    }
}
