use tester::prelude::*;

pub(crate) const CASES: &[Case] = &[
    case!(a_daemon_survives_the_parent_death_signal_that_it_sets, needs Linux),
    case!(a_daemon_survives_the_parent_death_signal_that_a_fork_handler_sets, needs Linux),
    case!(a_daemon_whose_thread_reports_readiness_survives_its_parent_death_signal, needs Linux),
];

/// The intermediate is reaped before the launcher ends.
#[track_caller]
fn assert_lives(scenario: &Scenario) {
    for signal in [libc::SIGTERM, libc::SIGKILL] {
        let arm = |scenario: &Scenario| match scenario.config.initial.parent_death_signal_at_fork {
            Some(_) => scenario
                .clone()
                .from_state(|state| state.parent_death_signal_at_fork = Some(signal)),
            None => scenario
                .clone()
                .initialize([Step::ArmParentDeathSignal(signal)]),
        };
        let run = arm(scenario).launch();
        run.launcher().assert().success();
        // The daemon lives, and answers.
        let daemon = run.observe();
        assert_eq!(run.living(), [daemon.pid], "{}", run.diagnostics());
        assert_eq!(
            run.pid_file().expect("a pid file").bytes,
            format!("{}\n", daemon.pid).as_bytes()
        );
    }
}

fn a_daemon_survives_the_parent_death_signal_that_it_sets() {
    for entry in CHECKED {
        assert_lives(&daemon!().entry(entry));
    }
}

fn a_daemon_survives_the_parent_death_signal_that_a_fork_handler_sets() {
    for entry in CHECKED {
        let scenario = daemon!().entry(entry);
        assert_lives(&scenario.from_state(|state| state.parent_death_signal_at_fork = Some(0)));
    }
}

fn a_daemon_whose_thread_reports_readiness_survives_its_parent_death_signal() {
    let mut deferral = Deferral::new([], ReadinessUse::Ready);
    deferral.in_thread = true;
    let scenario = daemon!();
    assert_lives(&scenario.deferred_readiness(deferral));
}
