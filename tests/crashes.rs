//! Whichever process dies, at whatever instant: there is a daemon with a
//! complete pid file, or there is nothing.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use tester::config::{Disposition, Entry, Step};
use tester::control::Message;
use tester::crash::Victim;
use tester::{Run, Scenario, case, scenario, suite};

fn main() -> ExitCode {
    suite(&[
        case!(a_start_whose_launcher_is_killed_did_not_happen),
        case!(a_start_under_execute_whose_launcher_is_killed_did_not_happen),
        case!(a_daemon_that_ignores_sigterm_is_killed_after_a_second),
        case!(a_daemon_gets_sigterm_first),
        case!(a_stopped_daemon_is_killed_all_the_same),
        case!(a_killed_intermediate_is_told_and_takes_the_daemon_along, needs Linux),
        case!(a_killed_intermediate_takes_along_a_daemon_that_ignores_sigterm, needs Linux),
        case!(a_killed_daemon_is_told_with_its_signal),
        case!(a_killed_daemon_is_told_at_once_though_a_worker_holds_everything),
        case!(a_killed_launcher_is_noticed_though_a_worker_holds_everything),
        case!(without_launcher_and_intermediate_the_daemon_ends_at_its_report),
        case!(without_launcher_and_intermediate_a_failed_daemon_ends_too),
        case!(without_launcher_and_intermediate_execute_returns_an_error),
        case!(when_all_are_killed_nothing_is_left),
        case!(a_daemon_stays_when_the_launcher_ends_after_the_start),
        case!(a_launcher_killed_at_any_call_leaves_a_daemon_or_nothing, needs Stepping),
        case!(an_intermediate_killed_at_any_call_leaves_a_daemon_or_nothing, needs Stepping),
        case!(a_daemon_killed_at_any_call_was_started_or_leaves_nothing, needs Stepping),
        case!(a_failing_start_killed_at_any_call_leaves_nothing, needs Stepping),
    ])
}

/// A start that is held up in its privileged action.
fn held(entry: Entry) -> Scenario {
    let scenario = scenario!().pid_file("daemon.pid").entry(entry);
    scenario.privileged_action([Step::Hold])
}

/// No process, no lock and no content, in the end.
#[track_caller]
fn assert_nothing_remains(run: &Run) {
    run.wait_until_all_ended();
    if let Some(pid_file) = run.pid_file() {
        assert!(
            !pid_file.locked && pid_file.bytes.is_empty(),
            "{pid_file:?}\n{}",
            run.account()
        );
    }
}

/// The same pid file can be had again.
#[track_caller]
fn assert_next_start_succeeds(scenario: &Scenario) {
    let mut scenario = scenario!().pid_file(scenario.pid_file_path().unwrap());
    scenario.config.entry = Entry::StartChecked;
    let run = scenario.start();
    let content = format!("{}\n", run.report().pid);
    assert_eq!(run.pid_file().unwrap().bytes, content.as_bytes());
}

// --- The launcher ---

#[track_caller]
fn assert_killed_launcher_leaves_nothing(entry: Entry) {
    for signal in [libc::SIGKILL, libc::SIGTERM, libc::SIGINT, libc::SIGHUP] {
        let scenario = held(entry);
        let run = scenario.launch();
        run.held();
        run.signal_launcher(signal);
        assert_eq!(run.launcher().output.status.signal(), Some(signal));
        assert_nothing_remains(&run);
        assert_next_start_succeeds(&scenario);
    }
}

fn a_start_whose_launcher_is_killed_did_not_happen() {
    assert_killed_launcher_leaves_nothing(Entry::Start);
}

fn a_start_under_execute_whose_launcher_is_killed_did_not_happen() {
    assert_killed_launcher_leaves_nothing(Entry::Execute);
}

/// How long the daemon lives once its launcher was killed.
fn outlives_launcher_by(sigterm: Disposition) -> Duration {
    let scenario =
        held(Entry::Start).from_state(|state| state.dispositions = vec![(libc::SIGTERM, sigterm)]);
    let run = scenario.launch();
    run.held();
    let killed = Instant::now();
    run.kill_launcher();
    assert_nothing_remains(&run);
    assert_next_start_succeeds(&scenario);
    killed.elapsed()
}

fn a_daemon_that_ignores_sigterm_is_killed_after_a_second() {
    let lived = outlives_launcher_by(Disposition::Ignore);
    assert!(lived >= Duration::from_secs(1), "{lived:?}");
}

fn a_daemon_gets_sigterm_first() {
    let scenario = held(Entry::Start).from_state(|state| {
        state.dispositions = vec![(libc::SIGTERM, Disposition::TellAndExit)];
    });
    let run = scenario.launch();
    let daemon = run.held().pid;
    run.kill_launcher();
    let told = run.message("the handler", |frame| {
        (frame.message == Message::Signalled(libc::SIGTERM)).then_some(frame.sender)
    });
    assert_eq!(told, daemon);
    assert_nothing_remains(&run);
}

fn a_stopped_daemon_is_killed_all_the_same() {
    let run = held(Entry::Start).launch();
    let daemon = run.handle(run.held().pid);
    daemon.kill(libc::SIGSTOP).unwrap();
    run.kill_launcher();
    assert_nothing_remains(&run);
}

// --- The intermediate ---

fn a_killed_intermediate_is_told_and_takes_the_daemon_along() {
    for entry in [Entry::Start, Entry::Execute] {
        let scenario = held(entry);
        let run = scenario.launch();
        run.kill_intermediate();
        let error = run.launcher_error();
        assert_eq!(error.kind, "IntermediateExited");
        let text = "the intermediate process ended before the daemon was ready";
        assert_eq!(error.text, text);
        run.assert_nothing_left();
        assert_next_start_succeeds(&scenario);
    }
}

fn a_killed_intermediate_takes_along_a_daemon_that_ignores_sigterm() {
    let scenario = held(Entry::Start).from_state(|state| {
        state.dispositions = vec![(libc::SIGTERM, Disposition::Ignore)];
    });
    let run = scenario.launch();
    run.kill_intermediate();
    assert_eq!(run.launcher_error().kind, "IntermediateExited");
    run.assert_nothing_left();
    assert_next_start_succeeds(&scenario);
}

// --- The daemon ---

fn a_killed_daemon_is_told_with_its_signal() {
    for signal in [libc::SIGKILL, libc::SIGTERM, libc::SIGUSR1] {
        for entry in [Entry::Start, Entry::Execute] {
            let scenario = held(entry);
            let run = scenario.launch();
            run.handle(run.held().pid).kill(signal).unwrap();
            let error = run.launcher_error();
            assert_eq!(error.kind, "DaemonExited");
            assert_eq!(error.daemon_exit_status, Some(signal));
            run.assert_nothing_left();
            assert_next_start_succeeds(&scenario);
        }
    }
}

fn worker(run: &Run) -> u32 {
    run.message("the worker", |frame| match frame.message {
        Message::Worker(pid) => Some(pid),
        _ => None,
    })
}

fn held_with_worker() -> Scenario {
    held(Entry::Start).privileged_action([Step::ForkWorker, Step::Hold])
}

/// The worker is there until this test is done.
fn a_killed_daemon_is_told_at_once_though_a_worker_holds_everything() {
    let scenario = held_with_worker();
    let run = scenario.launch();
    run.kill_held();
    let error = run.launcher_error();
    assert_eq!(error.daemon_exit_status, Some(libc::SIGKILL));
    run.assert_nothing_left_but(&[worker(&run)]);
    assert_next_start_succeeds(&scenario);
    let left: Vec<_> = run.processes().iter().map(|found| found.pid).collect();
    assert_eq!(left, [worker(&run)]);
}

fn a_killed_launcher_is_noticed_though_a_worker_holds_everything() {
    let scenario = held_with_worker();
    let run = scenario.launch();
    let held = run.held();
    let intermediate = run.handle(held.ppid);
    run.kill_launcher();
    // The intermediate ends last.
    let deadline = Instant::now() + tester::harness::DEADLINE;
    assert!(intermediate.wait(deadline).unwrap());
    let left: Vec<_> = run.processes().iter().map(|found| found.pid).collect();
    assert_eq!(left, [worker(&run)]);
    assert_next_start_succeeds(&scenario);
}

// --- Several ---

/// Kills intermediate and launcher, the launcher having no chance to notice.
fn orphan(run: &Run) {
    run.held();
    run.signal_launcher(libc::SIGSTOP);
    run.kill_intermediate();
    run.kill_launcher();
}

fn without_launcher_and_intermediate_the_daemon_ends_at_its_report() {
    let scenario = held(Entry::Start);
    let run = scenario.launch();
    orphan(&run);
    run.proceed();
    assert_nothing_remains(&run);
    assert!(run.report_if_any().is_none());
    assert_next_start_succeeds(&scenario);
}

fn without_launcher_and_intermediate_a_failed_daemon_ends_too() {
    let scenario = held(Entry::Start).chroot("missing");
    let run = scenario.launch();
    orphan(&run);
    run.proceed();
    assert_nothing_remains(&run);
    assert_next_start_succeeds(&scenario);
}

fn without_launcher_and_intermediate_execute_returns_an_error() {
    let scenario = held(Entry::Execute);
    let run = scenario.launch();
    orphan(&run);
    run.proceed();
    let error = run.daemon_error();
    assert_eq!(error.kind, "LauncherGone");
    assert_eq!(error.text, "the launcher is gone");
    assert_nothing_remains(&run);
    assert_next_start_succeeds(&scenario);
}

/// Nobody is left to clear the file then; but nobody has written to it either.
fn when_all_are_killed_nothing_is_left() {
    let scenario = held(Entry::Start);
    let run = scenario.launch();
    let daemon = run.handle(run.held().pid);
    run.signal_launcher(libc::SIGSTOP);
    run.kill_intermediate();
    daemon.kill(libc::SIGKILL).unwrap();
    run.kill_launcher();
    assert_nothing_remains(&run);
    assert_next_start_succeeds(&scenario);
}

/// Committed is committed.
fn a_daemon_stays_when_the_launcher_ends_after_the_start() {
    let run = scenario!()
        .entry(Entry::Execute)
        .pid_file("daemon.pid")
        .start();
    run.signal_launcher(libc::SIGKILL);
    run.wait_until_ended(run.launcher_pid());
    let daemon = run.observe();
    assert_eq!(daemon.ppid, run.reaper());
    let content = format!("{}\n", daemon.pid);
    assert_eq!(run.pid_file().unwrap().bytes, content.as_bytes());
}

// --- At every call ---

/// The process that was killed, once the launcher has ended; `None` where it
/// made fewer calls.
#[track_caller]
fn killed(run: &Run) -> Option<u32> {
    run.message("the crash", |frame| match frame.message {
        Message::Crashed(killed) => Some(killed),
        _ => None,
    })
}

/// Either a daemon that was returned to, whole, or nothing at all.
#[track_caller]
fn assert_all_or_nothing(run: &Run) -> bool {
    let Some(daemon) = run.report_if_any() else {
        assert_nothing_remains(run);
        return false;
    };
    let pid_file = run.pid_file().unwrap();
    let content = format!("{}\n", daemon.pid);
    assert_eq!(pid_file.bytes, content.as_bytes(), "{}", run.account());
    assert!(pid_file.locked, "{}", run.account());
    assert_eq!(daemon.ppid, run.reaper(), "{}", run.account());
    let left: Vec<_> = run.processes().iter().map(|found| found.pid).collect();
    assert_eq!(left, [daemon.pid], "{}", run.account());
    true
}

/// Kills the victim at its first call, then at its second, and so on, until it
/// has made all that there are; judges each time. Each time, what comes next
/// can start.
#[track_caller]
fn sweep(scenario: &Scenario, victim: Victim, judge: fn(&Run)) {
    for call in 0.. {
        let run = scenario.clone().crash(victim, call).launch();
        run.launcher();
        if killed(&run).is_none() {
            assert!(call > 10, "{victim} makes {call} calls only");
            break;
        }
        judge(&run);
        drop(run);
        assert_next_start_succeeds(scenario);
        // What that killed daemon left is not to be taken for the next one's.
        std::fs::remove_file(scenario.pid_file_path().unwrap()).unwrap();
    }
}

fn starting(entry: Entry) -> Scenario {
    scenario!().pid_file("daemon.pid").entry(entry)
}

fn a_launcher_killed_at_any_call_leaves_a_daemon_or_nothing() {
    sweep(&starting(Entry::Start), Victim::Launcher, |run| {
        assert_eq!(run.launcher().output.status.signal(), Some(libc::SIGKILL));
        assert_all_or_nothing(run);
    });
}

fn an_intermediate_killed_at_any_call_leaves_a_daemon_or_nothing() {
    sweep(&starting(Entry::Start), Victim::Intermediate, |run| {
        let there_is_a_daemon = assert_all_or_nothing(run);
        if there_is_a_daemon {
            run.launcher().assert().success();
        } else {
            assert_eq!(run.launcher_error().kind, "IntermediateExited");
        }
    });
}

/// After the commitment the daemon's life is its own: the start was a success,
/// and what is left of it is an unlocked pid file.
fn a_daemon_killed_at_any_call_was_started_or_leaves_nothing() {
    sweep(&starting(Entry::Start), Victim::Daemon, |run| {
        let launcher = run.launcher();
        if launcher.output.status.success() {
            run.wait_until_all_ended();
            let content = format!("{}\n", killed(run).unwrap());
            let pid_file = run.pid_file().unwrap();
            assert_eq!(pid_file.bytes, content.as_bytes(), "{}", run.account());
            assert!(!pid_file.locked);
        } else {
            let error = run.launcher_error();
            assert_eq!(error.kind, "DaemonExited");
            // Once the intermediate has stood down, nobody can know.
            let status = error.daemon_exit_status;
            assert!(status.is_none_or(|status| status == libc::SIGKILL));
            run.assert_nothing_left();
        }
    });
}

fn a_failing_start_killed_at_any_call_leaves_nothing() {
    for victim in [Victim::Launcher, Victim::Intermediate, Victim::Daemon] {
        let scenario = starting(Entry::Start).chroot("missing");
        sweep(&scenario, victim, |run| {
            assert!(!run.launcher().output.status.success());
            assert!(run.report_if_any().is_none());
            assert_nothing_remains(run);
        });
    }
}
