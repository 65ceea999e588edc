//! Signals neither disturb a start nor are disturbed by it.

use std::ops::Range;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitCode;

use tester::config::{Blocked, Disposition, Entry, Foreground, Session, Step};
use tester::control::{Frame, Message};
use tester::report::{Report, SignalSet, StartError};
use tester::{Run, Scenario, case, scenario, suite, sys};

fn main() -> ExitCode {
    suite(&[
        case!(interruptions_do_not_disturb_a_start),
        case!(interruptions_do_not_disturb_a_failure),
        case!(an_ignored_sigchld_is_no_error),
        case!(an_ignored_sigchld_does_not_hide_how_a_daemon_died),
        case!(a_handler_that_reaps_every_child_is_no_error),
        case!(a_handler_that_reaps_every_child_does_not_hide_how_a_daemon_died),
        case!(a_default_sigpipe_kills_nobody),
        case!(the_daemons_mask_is_the_launchers),
        case!(the_mask_of_the_privileged_action_is_the_launchers),
        case!(blocked_signals_do_not_delay_the_news_of_a_death),
        case!(the_launchers_own_mask_is_left_alone, needs Linux),
        case!(dispositions_pass_through),
        case!(the_launchers_own_dispositions_are_left_alone, needs Linux),
        case!(a_handler_of_the_launchers_does_not_run_in_the_daemon),
        case!(a_reset_leaves_the_default_action_but_for_sigpipe),
        case!(a_reset_lets_every_signal_through),
        case!(a_reset_leaves_sigpipe_as_it_is),
        case!(a_reset_reaches_the_real_time_signals, needs Linux),
        case!(a_reset_spares_the_c_librarys_own_signals, needs Linux),
        case!(a_reset_is_the_daemons_alone, needs Linux),
        case!(a_reset_is_done_in_the_foreground_too),
        case!(after_a_reset_no_handler_of_the_launchers_runs),
        case!(the_end_of_a_terminals_session_does_not_reach_the_daemon, needs Terminals),
        case!(a_signal_to_the_launchers_group_ends_the_start),
        case!(a_signal_to_the_launchers_group_after_the_start_does_not_reach_the_daemon),
    ])
}

const ENTRIES: [Entry; 4] = [
    Entry::Start,
    Entry::StartChecked,
    Entry::Execute,
    Entry::ExecuteChecked,
];

/// A start with this done on one signal.
fn with(signal: i32, disposition: Disposition) -> Scenario {
    let scenario = scenario!().pid_file("daemon.pid");
    scenario.from_state(|state| state.dispositions = vec![(signal, disposition)])
}

/// Every 500 us a handler runs in the launcher, and no call is restarted.
fn interrupted() -> Scenario {
    let scenario = scenario!().pid_file("daemon.pid");
    scenario.from_state(|state| state.interval_timer = Some(500))
}

fn interruptions_do_not_disturb_a_start() {
    for number in 0..50 {
        let scenario = interrupted().entry(ENTRIES[number % ENTRIES.len()]);
        let run = scenario.start();
        let content = format!("{}\n", run.report().pid);
        assert_eq!(run.pid_file().unwrap().bytes, content.as_bytes());
        assert!(
            run.initial()
                .caught_signals
                .unwrap()
                .contains(libc::SIGALRM)
        );
    }
}

fn interruptions_do_not_disturb_a_failure() {
    for number in 0..20 {
        let scenario = interrupted().entry(ENTRIES[number % ENTRIES.len()]);
        let error = scenario.privileged_action([Step::Exit(3)]).fail();
        assert_eq!(error.daemon_exit_status, Some(3 << 8));
    }
}

// --- SIGCHLD ---

#[track_caller]
fn assert_starts(scenario: &Scenario) {
    for entry in ENTRIES {
        let run = scenario.clone().entry(entry).start();
        let content = format!("{}\n", run.report().pid);
        assert_eq!(run.pid_file().unwrap().bytes, content.as_bytes());
        if entry.returns_in_both() {
            assert_eq!(run.launcher_result().first_child_exit_status, 0);
        }
        run.exit(0);
    }
}

#[track_caller]
fn assert_death_is_told(scenario: &Scenario) {
    for entry in ENTRIES {
        let steps = [Step::KillItself(libc::SIGUSR1)];
        let scenario = scenario.clone().privileged_action(steps).entry(entry);
        assert_eq!(scenario.fail().daemon_exit_status, Some(libc::SIGUSR1));
    }
}

fn an_ignored_sigchld_is_no_error() {
    assert_starts(&with(libc::SIGCHLD, Disposition::Ignore));
}

fn an_ignored_sigchld_does_not_hide_how_a_daemon_died() {
    assert_death_is_told(&with(libc::SIGCHLD, Disposition::Ignore));
}

fn a_handler_that_reaps_every_child_is_no_error() {
    assert_starts(&with(libc::SIGCHLD, Disposition::Reap));
}

fn a_handler_that_reaps_every_child_does_not_hide_how_a_daemon_died() {
    assert_death_is_told(&with(libc::SIGCHLD, Disposition::Reap));
}

// --- SIGPIPE ---

/// Kills the intermediate and the launcher, in this order, the launcher
/// having no chance to notice.
fn orphan(run: &Run) {
    run.held();
    run.signal_launcher(libc::SIGSTOP);
    run.kill_intermediate();
    run.kill_launcher();
}

/// The daemon's report goes to a socket that nobody reads any more.
fn a_default_sigpipe_kills_nobody() {
    let run = with(libc::SIGPIPE, Disposition::Default)
        .entry(Entry::Execute)
        .privileged_action([Step::Hold])
        .launch();
    orphan(&run);
    run.proceed();
    let StartError { kind, .. } = run.daemon_error();
    assert_eq!(kind, "LauncherGone");
}

// --- The mask ---

fn with_blocked(blocked: Blocked) -> Scenario {
    scenario!().from_state(|state| state.blocked = blocked)
}

fn masks() -> [Blocked; 4] {
    [
        Blocked::Inherited,
        Blocked::These(Vec::new()),
        Blocked::These(vec![libc::SIGCHLD, libc::SIGTERM, libc::SIGUSR1]),
        Blocked::All,
    ]
}

fn the_daemons_mask_is_the_launchers() {
    for blocked in masks() {
        let run = with_blocked(blocked).start();
        assert_eq!(run.report().blocked_signals, run.initial().blocked_signals);
    }
}

fn the_mask_of_the_privileged_action_is_the_launchers() {
    for blocked in masks() {
        let scenario = with_blocked(blocked).privileged_action([Step::Observe]);
        let run = scenario.start();
        let initial = run.initial().blocked_signals;
        assert_eq!(run.observed().blocked_signals, initial);
        assert!(initial.is_some());
    }
}

fn blocked_signals_do_not_delay_the_news_of_a_death() {
    let scenario = with_blocked(Blocked::All).pid_file("daemon.pid");
    let steps = [Step::KillItself(libc::SIGKILL)];
    let error = scenario.privileged_action(steps).fail();
    assert_eq!(error.daemon_exit_status, Some(libc::SIGKILL));
}

/// A handler runs only where its signal is not blocked: so it tells when the
/// launcher has its mask back.
fn the_launchers_own_mask_is_left_alone() {
    for blocked in [vec![], vec![libc::SIGCHLD, libc::SIGTERM, libc::SIGUSR2]] {
        let run = with(libc::SIGUSR1, Disposition::Tell)
            .from_state(|state| state.blocked = Blocked::These(blocked))
            .privileged_action([Step::Hold])
            .launch();
        run.held();
        run.signal_launcher(libc::SIGUSR1);
        run.message("the handler", |frame| {
            (frame.message == Message::Signalled(libc::SIGUSR1)).then_some(())
        });
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

// --- Dispositions ---

fn dispositions() -> impl Iterator<Item = (i32, Disposition)> {
    let signals = [
        libc::SIGCHLD,
        libc::SIGHUP,
        libc::SIGPIPE,
        libc::SIGTERM,
        libc::SIGUSR1,
    ];
    signals.into_iter().flat_map(|signal| {
        [
            Disposition::Default,
            Disposition::Ignore,
            Disposition::Handle,
        ]
        .map(|disposition| (signal, disposition))
    })
}

fn dispositions_pass_through() {
    for (signal, disposition) in dispositions() {
        let steps = [Step::Observe];
        let run = with(signal, disposition).privileged_action(steps).start();
        let initial = run.initial();
        let ignored = initial.ignored_signals.unwrap().contains(signal);
        let caught = initial.caught_signals.unwrap().contains(signal);
        let expected = (
            disposition == Disposition::Ignore,
            disposition == Disposition::Handle,
        );
        assert_eq!((ignored, caught), expected, "{signal} {disposition:?}");
        for report in [run.observed(), run.report()] {
            assert_eq!(report.ignored_signals, initial.ignored_signals);
            assert_eq!(report.caught_signals, initial.caught_signals);
        }
    }
}

fn the_launchers_own_dispositions_are_left_alone() {
    for (signal, disposition) in dispositions() {
        let steps = [Step::Hold];
        let run = with(signal, disposition).privileged_action(steps).launch();
        run.held();
        let (initial, waiting) = (run.initial(), run.outside(run.launcher_pid()));
        assert_eq!(waiting.ignored_signals, initial.ignored_signals);
        assert_eq!(waiting.caught_signals, initial.caught_signals);
    }
}

/// A group's signal reaches all of its members: while the launcher starts a
/// daemon, nobody but itself.
fn a_handler_of_the_launchers_does_not_run_in_the_daemon() {
    let run = with(libc::SIGUSR1, Disposition::Tell)
        .from_state(|state| state.session = Session::Leader)
        .privileged_action([Step::Hold])
        .launch();
    run.held();
    let group = run.launcher_pid();
    sys::kill_group(group, libc::SIGUSR1).unwrap();
    let is_told = |message: &Message| *message == Message::Signalled(libc::SIGUSR1);
    let sender = run.message("the handler", |frame| {
        is_told(&frame.message).then_some(frame.sender)
    });
    assert_eq!(sender, group);
    run.proceed();
    run.launcher().assert().success();
    run.observe();
    let frames = run.messages();
    let told = frames.iter().filter(|frame| is_told(&frame.message));
    assert_eq!(told.count(), 1);
}

// --- A reset ---

/// What a launcher may have done to its signals, and may not pass on.
fn disturbed() -> Scenario {
    scenario!().from_state(|state| {
        state.dispositions = vec![
            (libc::SIGHUP, Disposition::Ignore),
            (libc::SIGINT, Disposition::Ignore),
            (libc::SIGCHLD, Disposition::Ignore),
            (libc::SIGTSTP, Disposition::Ignore),
            (libc::SIGTERM, Disposition::Handle),
            (libc::SIGUSR1, Disposition::Tell),
            (libc::SIGALRM, Disposition::Handle),
        ];
        state.blocked = Blocked::All;
    })
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

/// The signals that the C library keeps for itself. Whoever started the test
/// may have them ignored.
fn reserved() -> Range<i32> {
    #[cfg(target_os = "linux")]
    return 32..libc::SIGRTMIN();
    #[cfg(not(target_os = "linux"))]
    return 0..0;
}

/// Those that are ignored and those that are caught, but for the reserved ones.
fn left_of(report: &Report) -> [Option<SignalSet>; 2] {
    [report.ignored_signals, report.caught_signals].map(|set| {
        let signals = set?.iter().filter(|signal| !reserved().contains(signal));
        only(&signals.collect::<Vec<_>>())
    })
}

fn only(signals: &[i32]) -> Option<SignalSet> {
    let set = SignalSet::default();
    Some(signals.iter().fold(set, |set, &signal| set.with(signal)))
}

fn a_reset_leaves_the_default_action_but_for_sigpipe() {
    let run = disturbed()
        .reset_signals()
        .privileged_action([Step::Observe])
        .start();
    let initial = run.initial();
    assert!(initial.ignored_signals.unwrap().contains(libc::SIGCHLD));
    assert!(initial.caught_signals.unwrap().contains(libc::SIGTERM));
    for report in [run.observed(), run.report()] {
        // As Rust's runtime has set it.
        assert_eq!(left_of(&report), [only(&[libc::SIGPIPE]), only(&[])]);
    }
}

fn a_reset_lets_every_signal_through() {
    for blocked in masks() {
        let scenario = with_blocked(blocked).reset_signals();
        let run = scenario.privileged_action([Step::Observe]).start();
        for report in [run.observed(), run.report()] {
            assert_eq!(report.blocked_signals, only(&[]));
        }
    }
}

fn a_reset_leaves_sigpipe_as_it_is() {
    for (disposition, left) in [
        (Disposition::Default, [only(&[]), only(&[])]),
        (Disposition::Ignore, [only(&[libc::SIGPIPE]), only(&[])]),
        (Disposition::Handle, [only(&[]), only(&[libc::SIGPIPE])]),
    ] {
        let run = with(libc::SIGPIPE, disposition).reset_signals().start();
        assert_eq!(left_of(&run.report()), left);
    }
}

fn a_reset_reaches_the_real_time_signals() {
    let signals = real_time();
    assert!(signals.len() >= 30);
    for disposition in [Disposition::Ignore, Disposition::Handle] {
        let dispositions = signals
            .iter()
            .map(|&signal| (signal, disposition))
            .collect();
        let scenario = scenario!().from_state(|state| state.dispositions = dispositions);
        let run = scenario.reset_signals().start();
        let seen = run.outside(run.report().pid);
        for (signal, number) in signals.iter().zip(1..) {
            assert!(
                !seen.ignored_signals.unwrap().contains(*signal),
                "SIGRTMIN+{number}"
            );
            assert!(
                !seen.caught_signals.unwrap().contains(*signal),
                "SIGRTMIN+{number}"
            );
        }
    }
}

/// A thread brings the C library to set up handlers of its own, which
/// sigaction(3) does not show.
fn a_reset_spares_the_c_librarys_own_signals() {
    let own = |report: &Report| -> Vec<_> {
        let caught = report.caught_signals.unwrap();
        reserved()
            .filter(|&signal| caught.contains(signal))
            .collect()
    };
    let run = disturbed()
        .from_state(|state| state.joined_threads = 1)
        .reset_signals()
        .privileged_action([Step::Hold])
        .launch();
    run.held();
    let launcher = run.outside(run.launcher_pid());
    let daemon = run.outside(run.held().pid);
    assert_eq!(own(&daemon), own(&launcher));
    // Else there is nothing to be spared.
    if cfg!(target_env = "gnu") {
        assert_ne!(own(&launcher), [0; 0]);
    }
    run.proceed();
    run.report();
}

fn a_reset_is_the_daemons_alone() {
    let scenario = disturbed().reset_signals();
    let run = scenario.privileged_action([Step::Hold]).launch();
    run.held();
    let (launcher, initial) = (run.outside(run.launcher_pid()), run.initial());
    assert_eq!(launcher.ignored_signals, initial.ignored_signals);
    assert_eq!(launcher.caught_signals, initial.caught_signals);
    // The C library blocks its own while it forks.
    let blocked = |report: &Report| -> Vec<_> {
        let all = report.blocked_signals.unwrap();
        all.iter().filter(|one| !reserved().contains(one)).collect()
    };
    assert_eq!(blocked(&launcher), blocked(&initial));
    run.proceed();
    run.report();
}

fn a_reset_is_done_in_the_foreground_too() {
    let scenario = disturbed().foreground(Foreground::Yes).reset_signals();
    let run = scenario.privileged_action([Step::Observe]).launch();
    for report in [run.observed(), run.report()] {
        assert_eq!(left_of(&report), [only(&[libc::SIGPIPE]), only(&[])]);
        assert_eq!(report.blocked_signals, only(&[]));
    }
}

fn after_a_reset_no_handler_of_the_launchers_runs() {
    let run = disturbed()
        .reset_signals()
        .privileged_action([Step::Hold])
        .launch();
    run.handle(run.held().pid).kill(libc::SIGUSR1).unwrap();
    let error = run.launcher_error();
    assert_eq!(error.kind, "DaemonExited");
    assert_eq!(error.daemon_exit_status, Some(libc::SIGUSR1));
    let told = |frame: &Frame| frame.message == Message::Signalled(libc::SIGUSR1);
    assert!(!run.messages().iter().any(told));
}

// --- Terminals and groups ---

/// When the leader of a terminal's session ends, the terminal hangs up, and
/// the kernel sends SIGHUP to the group in its foreground, before anyone can
/// see that the leader is gone.
fn the_end_of_a_terminals_session_does_not_reach_the_daemon() {
    for disposition in [Disposition::Default, Disposition::Tell] {
        for entry in ENTRIES {
            let run = with(libc::SIGHUP, disposition)
                .from_state(|state| state.session = Session::LeaderWithTerminal)
                .entry(entry)
                .start();
            run.observe().assert_detached();
            let frames = run.messages();
            let is_hang_up = Message::Signalled(libc::SIGHUP);
            assert!(frames.iter().all(|frame| frame.message != is_hang_up));
        }
    }
}

/// What Ctrl-C and a closed terminal do.
fn a_signal_to_the_launchers_group_ends_the_start() {
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT] {
        let scenario = scenario!().pid_file("daemon.pid");
        let run = scenario
            .from_state(|state| state.session = Session::Leader)
            .privileged_action([Step::Hold])
            .launch();
        run.held();
        sys::kill_group(run.launcher_pid(), signal).unwrap();
        assert_eq!(run.launcher().output.status.signal(), Some(signal));
        run.wait_until_all_ended();
        let pid_file = run.pid_file().unwrap();
        assert!(!pid_file.locked && pid_file.bytes.is_empty());
    }
}

fn a_signal_to_the_launchers_group_after_the_start_does_not_reach_the_daemon() {
    let run = scenario!()
        .entry(Entry::Execute)
        .from_state(|state| state.session = Session::Leader)
        .start();
    let daemon = run.observe();
    assert_ne!(daemon.pgid, run.launcher_pid());
    // Nobody is left in that group, so that it cannot be sent to.
    sys::kill_group(run.launcher_pid(), libc::SIGTERM).unwrap_err();
    assert_eq!(run.observe().pid, daemon.pid);
}
