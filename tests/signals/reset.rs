use std::ops::Range;
use std::sync::atomic::AtomicUsize;

use tester::observe;
use tester::prelude::*;
use tester::report::SignalSet;
use tester::trace::Role;

use crate::setup::*;

pub(crate) const CASES: &[Case] = &[
    case!(a_reset_restores_every_default_except_for_sigpipe, needs OwnHandlers),
    case!(a_reset_unblocks_every_signal),
    case!(a_reset_does_not_change_sigpipe, needs OwnHandlers),
    case!(a_reset_includes_the_real_time_signals, needs RealTimeSignals, OwnHandlers),
    case!(a_reset_spares_the_signals_of_the_c_library, needs Linux),
    case!(a_reset_does_not_change_the_launcher, needs VisibleMasks),
    case!(a_reset_works_in_the_foreground, needs OwnHandlers),
    case!(after_a_reset_no_handler_of_the_launcher_runs),
    case!(after_a_reset_no_handler_runs_for_a_signal_at_any_call, needs Stepping),
];

/// A launcher that has changed dispositions and mask.
fn with_changed_signals() -> Scenario {
    scenario!().from_state(|state| {
        state.dispositions = vec![
            (libc::SIGHUP, Disposition::Ignore),
            (libc::SIGINT, Disposition::Ignore),
            (libc::SIGCHLD, Disposition::Ignore),
            (libc::SIGTSTP, Disposition::Ignore),
            (libc::SIGTERM, Disposition::Handle),
            (libc::SIGUSR1, Disposition::Report),
            (libc::SIGALRM, Disposition::Handle),
        ];
        state.blocked = Blocked::All;
    })
}

/// The signals that the C library reserves. The process that runs the tests may ignore
/// them.
fn reserved() -> Range<i32> {
    #[cfg(target_os = "linux")]
    return 32..libc::SIGRTMIN();
    #[cfg(not(target_os = "linux"))]
    return 0..0;
}

fn only(signals: &[i32]) -> Option<SignalSet> {
    let set = SignalSet::default();
    Some(signals.iter().fold(set, |set, &signal| set.with(signal)))
}

/// The ignored and the caught signals, without the reserved signals.
fn unreserved(report: &Report) -> [Option<SignalSet>; 2] {
    [report.ignored_signals, report.caught_signals].map(|set| {
        let signals = set?.iter().filter(|signal| !reserved().contains(signal));
        only(&signals.collect::<Vec<_>>())
    })
}

fn a_reset_restores_every_default_except_for_sigpipe() {
    let scenario = with_changed_signals().reset_signals();
    let run = scenario.privileged_action([Step::Observe]).start();
    let initial = run.initial();
    assert!(initial.ignored_signals.unwrap().contains(libc::SIGCHLD));
    assert!(initial.caught_signals.unwrap().contains(libc::SIGTERM));
    for report in [run.observed(), run.report()] {
        // Rust's runtime ignores SIGPIPE.
        assert_eq!(unreserved(&report), [only(&[libc::SIGPIPE]), only(&[])]);
    }
}

fn a_reset_unblocks_every_signal() {
    for blocked in masks() {
        let scenario = with_blocked(blocked).reset_signals();
        let run = scenario.privileged_action([Step::Observe]).start();
        for report in [run.observed(), run.report()] {
            assert_eq!(report.blocked_signals, only(&[]));
        }
    }
}

fn a_reset_does_not_change_sigpipe() {
    for (disposition, left) in [
        (Disposition::Default, [only(&[]), only(&[])]),
        (Disposition::Ignore, [only(&[libc::SIGPIPE]), only(&[])]),
        (Disposition::Handle, [only(&[]), only(&[libc::SIGPIPE])]),
    ] {
        let scenario = daemon!().on_signal(libc::SIGPIPE, disposition);
        let run = scenario.reset_signals().start();
        assert_eq!(unreserved(&run.report()), left);
    }
}

/// The real-time signals that a program may use.
fn real_time() -> Vec<i32> {
    #[cfg(target_os = "linux")]
    return (libc::SIGRTMIN()..=libc::SIGRTMAX()).collect();
    // SIGRTMIN and SIGRTMAX of sys/signal.h, which libc lacks.
    #[cfg(target_os = "freebsd")]
    return (65..=126).collect();
    #[cfg(not(any(target_os = "linux", target_os = "freebsd")))]
    Vec::new()
}

fn a_reset_includes_the_real_time_signals() {
    let signals = real_time();
    assert!(signals.len() >= 30);
    for disposition in [Disposition::Ignore, Disposition::Handle] {
        let with_disposition = signals.iter().map(|&signal| (signal, disposition));
        let dispositions = with_disposition.collect();
        let scenario = scenario!().from_state(|state| state.dispositions = dispositions);
        let run = scenario.reset_signals().start();
        let seen = run.outside(run.report().pid);
        for (signal, number) in signals.iter().zip(1..) {
            for set in [seen.ignored_signals, seen.caught_signals] {
                assert!(!set.unwrap().contains(*signal), "SIGRTMIN+{number}");
            }
        }
    }
}

/// A thread makes the C library install handlers of its own, which sigaction(3) does not
/// show.
fn a_reset_spares_the_signals_of_the_c_library() {
    let own = |report: &Report| -> Vec<_> {
        let caught = report.caught_signals.unwrap();
        reserved().filter(|&one| caught.contains(one)).collect()
    };
    let run = with_changed_signals()
        .from_state(|state| state.joined_threads = 1)
        .reset_signals()
        .privileged_action([Step::Hold])
        .launch();
    run.held();
    let launcher = run.outside(run.launcher_pid());
    let daemon = run.outside(run.held().pid);
    assert_eq!(own(&daemon), own(&launcher));
    // The test proves nothing unless there are such handlers.
    if cfg!(target_env = "gnu") {
        assert_ne!(own(&launcher), [0; 0]);
    }
    run.proceed();
    run.report();
}

fn a_reset_does_not_change_the_launcher() {
    let scenario = with_changed_signals().reset_signals();
    let run = scenario.privileged_action([Step::Hold]).launch();
    run.held();
    let (launcher, initial) = (run.outside(run.launcher_pid()), run.initial());
    for signals in [observe::ignored_signals, observe::caught_signals] {
        assert_eq!(signals(&launcher), signals(&initial));
    }
    // The C library blocks its own signals while it forks.
    let blocked = |report: &Report| -> Vec<_> {
        let all = report.blocked_signals.unwrap();
        all.iter().filter(|one| !reserved().contains(one)).collect()
    };
    assert_eq!(blocked(&launcher), blocked(&initial));
    run.proceed();
    run.report();
}

fn a_reset_works_in_the_foreground() {
    let scenario = with_changed_signals()
        .foreground(Foreground::Yes)
        .reset_signals();
    let run = scenario.privileged_action([Step::Observe]).launch();
    for report in [run.observed(), run.report()] {
        assert_eq!(unreserved(&report), [only(&[libc::SIGPIPE]), only(&[])]);
        assert_eq!(report.blocked_signals, only(&[]));
    }
}

fn after_a_reset_no_handler_of_the_launcher_runs() {
    let scenario = with_changed_signals().reset_signals();
    let run = scenario.privileged_action([Step::Hold]).launch();
    run.handle(run.held().pid).kill(libc::SIGUSR1).unwrap();
    let error = run.launcher_error();
    assert_eq!(error.kind, "DaemonExited");
    assert_eq!(error.daemon_exit_status, Some(libc::SIGUSR1));
    assert_not_handled(&run);
}

/// The signal kills the daemon: until the reset the daemon blocks it.
fn after_a_reset_no_handler_runs_for_a_signal_at_any_call() {
    let scenario = daemon!()
        .on_signal(libc::SIGTERM, Disposition::Report)
        .reset_signals();
    let ended = AtomicUsize::new(0);
    send_sigterm_at_each_call(&scenario, Role::Daemon, |run, _| {
        if !run.launcher().output.status.success() {
            ended.fetch_add(1, Ordering::Relaxed);
            assert_ended_by_sigterm(run);
        }
        assert_not_handled(run);
    });
    let ended = ended.into_inner();
    assert!(ended > 5, "{ended} starts ended");
}
