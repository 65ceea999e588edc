//! Whichever process dies, at whatever instant: there is a daemon with a
//! complete pid file, or there is nothing.
//!
//! A plain start is killed at each of its calls, other shapes of start at each
//! third, or with [`ALL`] set in the environment, as `ci/test.sh` does, at each.
//! [`FIGURES`] has the numbers of calls printed.

use std::os::unix::process::ExitStatusExt;
use std::panic;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use tester::config::{Deferral, Disposition, Entry, ReadinessUse, Step};
use tester::control::Message;
use tester::harness::{Manager, slowness};
use tester::report::Report;
use tester::trace::{Role, SignalHit};
use tester::{Run, Scenario, case, scenario, suite, sys};

fn main() -> ExitCode {
    suite(&[
        case!(a_start_whose_launcher_is_killed_did_not_happen),
        case!(a_start_under_execute_whose_launcher_is_killed_did_not_happen),
        case!(a_daemon_that_ignores_sigterm_is_killed_after_a_second),
        case!(a_daemon_gets_sigterm_first),
        case!(a_stopped_daemon_is_killed_all_the_same),
        case!(a_killed_intermediate_is_told_and_takes_the_daemon_along, needs Linux),
        case!(a_killed_intermediate_takes_along_a_daemon_that_ignores_sigterm, needs Linux),
        case!(a_killed_launcher_takes_along_a_daemon_that_it_may_not_signal, needs Root, Linux),
        case!(a_killed_intermediate_is_told_though_the_daemon_may_not_be_signalled, needs Root, Linux),
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

/// Well under the second that a daemon has to end by itself.
const PROMPTLY: Duration = Duration::from_millis(700);

/// Fails unless something takes hardly any time, again if the machine was busy
/// with something else.
#[track_caller]
fn assert_prompt(mut something: impl FnMut() -> Duration) {
    const TRIES: usize = 10;
    let mut takes: Vec<_> = Vec::new();
    for _ in 0..TRIES {
        takes.push(something());
        if takes
            .last()
            .is_some_and(|took| *took < PROMPTLY * slowness())
        {
            return;
        }
    }
    panic!("not prompt: {takes:?}");
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

const GRACE: Duration = Duration::from_secs(1);

/// What is left of it beyond the second that it has to end by itself.
#[track_caller]
fn beyond_grace(lived: Duration) -> Duration {
    assert!(lived >= GRACE, "{lived:?}");
    lived - GRACE
}

fn a_daemon_that_ignores_sigterm_is_killed_after_a_second() {
    assert_prompt(|| beyond_grace(outlives_launcher_by(Disposition::Ignore)));
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
        assert_prompt(|| {
            let run = scenario.launch();
            run.held();
            let begun = Instant::now();
            run.kill_intermediate();
            let error = run.launcher_error();
            let took = begun.elapsed();
            assert_eq!(error.kind, "IntermediateExited");
            let text = "the intermediate process ended before the daemon was ready: \
                        it was killed by signal 9 (SIGKILL); the daemon was terminated";
            assert_eq!(error.text, text);
            run.assert_nothing_left();
            took
        });
        assert_next_start_succeeds(&scenario);
    }
}

fn a_killed_intermediate_takes_along_a_daemon_that_ignores_sigterm() {
    let scenario = held(Entry::Start).from_state(|state| {
        state.dispositions = vec![(libc::SIGTERM, Disposition::Ignore)];
    });
    assert_prompt(|| {
        let run = scenario.launch();
        run.held();
        let begun = Instant::now();
        run.kill_intermediate();
        assert_eq!(run.launcher_error().kind, "IntermediateExited");
        let took = begun.elapsed();
        run.assert_nothing_left();
        beyond_grace(took)
    });
    assert_next_start_succeeds(&scenario);
}

// --- A daemon that its launcher may not signal ---

/// A user without an entry, and nobody's.
const USER: u32 = 4_000_000_001;
const ORDINARY: u32 = 65534;
/// CAP_SETGID and CAP_SETUID of <linux/capability.h>
const MAY_CHANGE_IDS: u64 = sys::CAP_SETGID | sys::CAP_SETUID;

/// Held up when it is another user already, by one that may change its ids,
/// but not signal others: CAP_KILL is not among its capabilities.
fn held_as_another(entry: Entry) -> Scenario {
    let scenario = scenario!().pid_file("daemon.pid").entry(entry);
    scenario
        .as_user(ORDINARY, ORDINARY)
        .from_state(|state| state.capabilities = Some(MAY_CHANGE_IDS))
        .user(USER)
        .group(USER)
        .initialize([Step::Hold])
}

fn a_killed_launcher_takes_along_a_daemon_that_it_may_not_signal() {
    for entry in [Entry::Start, Entry::Execute] {
        let run = held_as_another(entry).launch();
        run.held();
        run.kill_launcher();
        assert_nothing_remains(&run);
    }
}

fn a_killed_intermediate_is_told_though_the_daemon_may_not_be_signalled() {
    for entry in [Entry::Start, Entry::Execute] {
        let run = held_as_another(entry).launch();
        run.held();
        run.kill_intermediate();
        let error = run.launcher_error();
        assert_eq!(error.kind, "IntermediateExited");
        let text = "the intermediate process ended before the daemon was ready: \
                    it was killed by signal 9 (SIGKILL); the daemon may be left: \
                    it ends when it reports, if not before";
        assert_eq!(error.text, text);
        // It ends at its next report.
        run.proceed();
        assert_nothing_remains(&run);
    }
}

// --- The daemon ---

fn a_killed_daemon_is_told_with_its_signal() {
    for signal in [libc::SIGKILL, libc::SIGTERM, libc::SIGUSR1] {
        for entry in [Entry::Start, Entry::Execute] {
            let scenario = held(entry);
            assert_prompt(|| {
                let run = scenario.launch();
                let daemon = run.handle(run.held().pid);
                let begun = Instant::now();
                daemon.kill(signal).unwrap();
                let error = run.launcher_error();
                let took = begun.elapsed();
                assert_eq!(error.kind, "DaemonExited");
                assert_eq!(error.daemon_exit_status, Some(signal));
                run.assert_nothing_left();
                took
            });
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
    assert_prompt(|| {
        let run = scenario.launch();
        run.held();
        let begun = Instant::now();
        run.kill_held();
        let error = run.launcher_error();
        let took = begun.elapsed();
        assert_eq!(error.daemon_exit_status, Some(libc::SIGKILL));
        run.assert_nothing_left_but(&[worker(&run)]);
        assert_next_start_succeeds(&scenario);
        let left = run.living();
        assert_eq!(left, [worker(&run)]);
        took
    });
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
    let left = run.living();
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

/// Which start it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    Plain,
    /// Under `execute`.
    Executed,
    /// With an initialization, and a service manager that is told.
    Initializing,
    /// With deferred readiness.
    Deferred,
    /// With another user, in another root directory.
    Jailed,
    /// Whose root directory is missing.
    Failing,
}

const SUCCEEDING: [Shape; 5] = [
    Shape::Plain,
    Shape::Executed,
    Shape::Initializing,
    Shape::Deferred,
    Shape::Jailed,
];

impl Shape {
    fn is_possible(self) -> bool {
        self != Self::Jailed || sys::effective_user() == 0
    }

    fn scenario(self) -> (Scenario, Option<Manager>) {
        let scenario = scenario!().pid_file("daemon.pid").entry(Entry::Start);
        let scenario = match self {
            Self::Plain => scenario,
            Self::Executed => scenario.entry(Entry::Execute),
            Self::Initializing => {
                let socket = scenario.path("notify");
                let manager = Manager::at(&socket);
                let scenario = scenario.initialize([]).env("NOTIFY_SOCKET", socket);
                return (scenario, Some(manager));
            }
            Self::Deferred => scenario.deferred_readiness(Deferral::new([], ReadinessUse::Ready)),
            Self::Jailed => {
                scenario.create_folder("jail");
                scenario.chroot("jail").user(USER).group(USER)
            }
            Self::Failing => scenario.chroot("missing"),
        };
        (scenario, None)
    }

    /// The daemon, if its start was committed.
    #[track_caller]
    fn daemon(self, run: &Run) -> Option<Report> {
        if self != Self::Deferred {
            return run.report_if_any();
        }
        run.message_if_any("the acknowledgement", |message| {
            (*message == Message::Acknowledged).then_some(())
        })
        .map(|()| run.observe())
    }
}

/// Either a daemon whose start was committed, whole, or nothing at all.
#[track_caller]
fn assert_all_or_nothing(shape: Shape, run: &Run) -> bool {
    let Some(daemon) = shape.daemon(run) else {
        run.wait_until_all_ended();
        if let Some(pid_file) = run.pid_file() {
            // Between the last word of the intermediate and the acknowledgement no
            // process is left that could empty the file of a daemon in a jail.
            let is_clear = pid_file.bytes.is_empty() || shape == Shape::Jailed;
            assert!(
                !pid_file.locked && is_clear,
                "{pid_file:?}\n{}",
                run.account()
            );
        }
        return false;
    };
    let pid_file = run.pid_file().unwrap();
    let content = format!("{}\n", daemon.pid);
    assert_eq!(pid_file.bytes, content.as_bytes(), "{}", run.account());
    assert!(pid_file.locked, "{}", run.account());
    assert_eq!(daemon.ppid, run.reaper(), "{}", run.account());
    let left = run.living();
    assert_eq!(left, [daemon.pid], "{}", run.account());
    true
}

/// The environment variables that ask for every call in every shape, and for
/// numbers.
const ALL: &str = "TESTER_ALL_FAULTS";
const FIGURES: &str = "TESTER_FIGURES";

/// Whether there is a daemon.
type Judge = fn(Shape, &Run, &SignalHit) -> bool;

/// Kills the victim at its first call, then at its second, and so on, until it
/// has made all that there are; judges each time. Each time the launcher ends
/// promptly, and what comes next can start.
#[track_caller]
fn sweep(shape: Shape, victim: Role, judge: Judge) {
    let is_thorough = std::env::var_os(ALL).is_some();
    let (scenario, _manager) = shape.scenario();
    let (mut points, mut daemons) = (0, 0);
    let mut is_made = true;
    let step = if is_thorough || shape == Shape::Plain {
        1
    } else {
        3
    };
    for call in (0..).step_by(step) {
        let mut there_is_a_daemon = false;
        assert_prompt(|| {
            let run = scenario.clone().crash(victim, call).launch();
            run.launcher();
            let Some(killed) = run.signal_hit() else {
                is_made = false;
                return Duration::ZERO;
            };
            there_is_a_daemon = judge(shape, &run, &killed);
            drop(run);
            assert_next_start_succeeds(&scenario);
            // What that killed daemon left is not to be taken for the next
            // one's.
            std::fs::remove_file(scenario.pid_file_path().unwrap()).unwrap();
            Duration::from_millis(killed.launcher_ended_after)
        });
        if !is_made {
            break;
        }
        points += 1;
        daemons += usize::from(there_is_a_daemon);
    }
    assert!(points * step > 10, "{victim} makes {points} calls only");
    // The others make hardly a call after their last message.
    if step == 1 && shape != Shape::Failing && victim == Role::Launcher {
        assert!(0 < daemons && daemons < points, "{daemons} of {points}");
    }
    if std::env::var_os(FIGURES).is_some() {
        println!("{shape:?}: {victim} killed at {points} calls");
    }
}

/// Side by side.
#[track_caller]
fn sweep_all(shapes: &[Shape], victim: Role, judge: Judge) {
    thread::scope(|scope| {
        let possible = shapes.iter().filter(|shape| shape.is_possible());
        let sweeps: Vec<_> = possible
            .map(|&shape| scope.spawn(move || sweep(shape, victim, judge)))
            .collect();
        for sweep in sweeps {
            sweep
                .join()
                .unwrap_or_else(|payload| panic::resume_unwind(payload));
        }
    });
}

fn a_launcher_killed_at_any_call_leaves_a_daemon_or_nothing() {
    sweep_all(&SUCCEEDING, Role::Launcher, |shape, run, killed| {
        assert_eq!(run.launcher().output.status.signal(), Some(libc::SIGKILL));
        let there_is_a_daemon = assert_all_or_nothing(shape, run);
        // Its second message is the acknowledgement.
        assert_eq!(there_is_a_daemon, killed.sent >= 2, "{killed:?}");
        there_is_a_daemon
    });
}

fn an_intermediate_killed_at_any_call_leaves_a_daemon_or_nothing() {
    sweep_all(&SUCCEEDING, Role::Intermediate, |shape, run, killed| {
        let there_is_a_daemon = assert_all_or_nothing(shape, run);
        // Its second message is that it stands down.
        assert_eq!(there_is_a_daemon, killed.sent >= 2, "{killed:?}");
        if there_is_a_daemon {
            run.launcher().assert().success();
        } else {
            assert_eq!(run.launcher_error().kind, "IntermediateExited");
        }
        there_is_a_daemon
    });
}

/// After the commitment the daemon's life is its own: the start was a success,
/// and what is left of it is an unlocked pid file.
fn a_daemon_killed_at_any_call_was_started_or_leaves_nothing() {
    sweep_all(&SUCCEEDING, Role::Daemon, |_, run, killed| {
        let launcher = run.launcher();
        let was_started = launcher.output.status.success();
        if was_started {
            assert!(killed.sent > 0, "it had not said that it was ready");
            run.wait_until_all_ended();
            let content = format!("{}\n", killed.process);
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
        was_started
    });
}

fn assert_failed(run: &Run, deaths: &str) {
    let error = run.launcher_error();
    let kinds = [format!("Chroot({})", libc::ENOENT), deaths.to_owned()];
    assert!(kinds.contains(&error.kind), "{error}\n{}", run.account());
    run.assert_nothing_left();
}

fn a_failing_start_killed_at_any_call_leaves_nothing() {
    sweep_all(&[Shape::Failing], Role::Launcher, |_, run, _| {
        let status = run.launcher().output.status;
        assert_eq!(status.signal(), Some(libc::SIGKILL));
        assert_nothing_remains(run);
        false
    });
    sweep_all(&[Shape::Failing], Role::Intermediate, |_, run, _| {
        assert_failed(run, "IntermediateExited");
        false
    });
    sweep_all(&[Shape::Failing], Role::Daemon, |_, run, _| {
        assert_failed(run, "DaemonExited");
        false
    });
}
