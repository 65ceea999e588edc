use tester::prelude::*;

use crate::setup::*;

pub(crate) const CASES: &[Case] = &[
    case!(a_blocked_signal_is_found, needs VisibleMasks),
    case!(an_empty_mask_is_no_finding),
    case!(an_ignored_sigterm_is_found),
    case!(the_signals_of_a_background_job_are_found),
    case!(another_ignored_signal_is_unknown),
    case!(signals_that_daemons_ignore_are_no_finding),
    case!(caught_signals_are_listed),
];

fn a_blocked_signal_is_found() {
    let block = |state: &mut InitialState| state.blocked = Blocked::These(vec![libc::SIGUSR1]);
    let checkup = inspect_daemon(&clean().from_state(block));
    checkup.assert_only("blocked signals", "no thread takes them");
    assert_eq!(checkup.row("blocked signals").seen, "SIGUSR1");
}

fn an_empty_mask_is_no_finding() {
    let checkup = inspect_daemon(&clean());
    checkup.assert_findings(&[]);
    if !cfg!(target_os = "macos") {
        checkup.assert_ok("blocked signals", "each signal reaches a thread");
    }
}

fn ignoring(signals: &[i32]) -> Checkup {
    let scenario = signals.iter().fold(clean(), |scenario, &signal| {
        scenario.on_signal(signal, Disposition::Ignore)
    });
    inspect_daemon(&scenario)
}

fn an_ignored_sigterm_is_found() {
    ignoring(&[libc::SIGTERM]).assert_only("ignored signals", "only SIGKILL");
}

fn the_signals_of_a_background_job_are_found() {
    let checkup = ignoring(&[libc::SIGINT, libc::SIGQUIT]);
    checkup.assert_only("ignored signals", "background jobs");
}

fn another_ignored_signal_is_unknown() {
    let checkup = ignoring(&[libc::SIGALRM]);
    checkup.assert_findings(&[]);
    checkup.assert_unknown("ignored signals", "ignores SIGALRM on purpose");
}

fn signals_that_daemons_ignore_are_no_finding() {
    let checkup = ignoring(&[libc::SIGHUP, libc::SIGPIPE]);
    checkup.assert_findings(&[]);
    checkup.assert_ok("ignored signals", "on purpose");
}

fn caught_signals_are_listed() {
    let checkup = inspect_daemon(&clean().on_signal(libc::SIGUSR2, Disposition::Handle));
    checkup.assert_findings(&[]);
    let caught = &checkup.row("caught signals").seen;
    assert!(caught.contains("SIGUSR2"), "{caught}");
}
