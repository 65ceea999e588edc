use tester::prelude::*;

pub(crate) const CASES: &[Case] = &[
    case!(interruptions_do_not_disturb_a_start),
    case!(interruptions_do_not_hide_a_failure),
    case!(an_ignored_sigchld_is_no_error),
    case!(an_ignored_sigchld_does_not_hide_how_a_daemon_died),
    case!(a_handler_that_reaps_every_child_is_no_error),
    case!(a_handler_that_reaps_every_child_does_not_hide_how_a_daemon_died),
];

/// Every 500 us a handler interrupts the launcher, and no call is restarted.
fn interrupted() -> Scenario {
    daemon!().from_state(|state| state.interval_timer = Some(500))
}

fn interruptions_do_not_disturb_a_start() {
    for number in 0..50 {
        let run = interrupted().entry(ENTRIES[number % ENTRIES.len()]).start();
        run.assert_pid_file_held();
        let caught = run.initial().caught_signals.unwrap();
        assert!(caught.contains(libc::SIGALRM));
    }
}

fn interruptions_do_not_hide_a_failure() {
    for number in 0..20 {
        let scenario = interrupted().entry(ENTRIES[number % ENTRIES.len()]);
        let error = scenario.privileged_action([Step::Exit(3)]).fail();
        assert_eq!(error.daemon_exit_status, Some(3 << 8));
    }
}

#[track_caller]
fn assert_starts(scenario: &Scenario) {
    for entry in ENTRIES {
        let run = scenario.clone().entry(entry).start();
        run.assert_pid_file_held();
        if entry.returns_in_both() {
            assert_eq!(run.launcher_result().first_child_exit_status, 0);
        }
        run.exit(0);
    }
}

fn an_ignored_sigchld_is_no_error() {
    assert_starts(&daemon!().on_signal(libc::SIGCHLD, Disposition::Ignore));
}

#[track_caller]
fn assert_death_is_reported(scenario: &Scenario) {
    for entry in ENTRIES {
        let steps = [Step::KillItself(libc::SIGUSR1)];
        let scenario = scenario.clone().privileged_action(steps).entry(entry);
        assert_eq!(scenario.fail().daemon_exit_status, Some(libc::SIGUSR1));
    }
}

fn an_ignored_sigchld_does_not_hide_how_a_daemon_died() {
    assert_death_is_reported(&daemon!().on_signal(libc::SIGCHLD, Disposition::Ignore));
}

fn a_handler_that_reaps_every_child_is_no_error() {
    assert_starts(&daemon!().on_signal(libc::SIGCHLD, Disposition::Reap));
}

fn a_handler_that_reaps_every_child_does_not_hide_how_a_daemon_died() {
    assert_death_is_reported(&daemon!().on_signal(libc::SIGCHLD, Disposition::Reap));
}
