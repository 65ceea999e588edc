//! Whichever process dies, and whenever it dies: there is a daemon with a complete
//! pid file, or there is nothing.
//!
//! A plain start is killed at each of its calls, the start of a program at each eighth call, and
//! other starts at each third. If [`ALL_FAULTS`] is set in the environment, as `ci/test.sh` does,
//! all are killed at each call. If [`FIGURES`] is set, the sweeps print the numbers of calls.

use std::os::unix::process::ExitStatusExt;
use std::panic;
use std::process::ExitCode;

use tester::harness::{FakeServiceManager, PidFile};
use tester::prelude::*;
use tester::suite::{ALL_FAULTS, FIGURES, suite};
use tester::trace::{Role, SignalHit};
use tester::traced_start::TracedStart;

fn main() -> ExitCode {
    suite(&[
        case!(a_start_whose_launcher_is_killed_did_not_happen),
        case!(a_start_under_execute_whose_launcher_is_killed_did_not_happen),
        case!(a_daemon_that_ignores_sigterm_is_killed_after_a_second),
        case!(a_daemon_gets_sigterm_first),
        case!(a_stopped_daemon_is_killed_all_the_same),
        case!(a_killed_intermediate_is_reported_and_its_daemon_ends, needs Linux),
        case!(a_killed_intermediate_ends_a_daemon_that_ignores_sigterm, needs Linux),
        case!(a_killed_launcher_ends_a_daemon_that_it_may_not_signal, needs Root, Linux),
        case!(a_killed_intermediate_is_reported_if_the_daemon_may_not_be_signalled, needs Root, Linux),
        case!(a_daemon_that_may_not_be_signalled_and_ends_by_itself_is_reported_to_have_ended, needs Root, Linux),
        case!(a_killed_daemon_is_reported_with_its_signal),
        case!(a_killed_daemon_is_reported_at_once_if_a_worker_has_its_descriptors),
        case!(a_killed_launcher_is_noticed_if_a_worker_has_its_descriptors),
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

/// A start whose privileged action waits.
fn held(entry: Entry) -> Scenario {
    let scenario = scenario!().pid_file("daemon.pid").entry(entry);
    scenario.privileged_action([Step::Hold])
}

fn held_with(sigterm: Disposition) -> Scenario {
    held(Entry::Start).from_state(|state| state.dispositions = vec![(libc::SIGTERM, sigterm)])
}

/// In the end no process, no lock and no content is left, and the next start gets the
/// same pid file.
#[track_caller]
fn assert_nothing_remains(scenario: &Scenario, run: &Run) {
    assert_no_process_remains(run);
    assert_next_start_succeeds(scenario);
}

#[track_caller]
fn assert_next_start_succeeds(scenario: &Scenario) {
    let next = scenario!().pid_file(scenario.pid_file_path().unwrap());
    let run = next.entry(Entry::StartChecked).start();
    assert_names_daemon(&run, run.report().pid);
}

#[track_caller]
fn assert_names_daemon(run: &Run, daemon: u32) {
    assert_eq!(run.pid_file().unwrap().bytes, content(daemon));
}

/// Fails unless something takes far less than the second that a daemon has to end by
/// itself. Tries again if the machine was busy with something else.
#[track_caller]
fn assert_prompt(mut something: impl FnMut() -> Duration) {
    const PROMPTLY: Duration = Duration::from_millis(700);
    const TRIES: usize = 10;
    let mut takes = Vec::new();
    for _ in 0..TRIES {
        let took = something();
        takes.push(took);
        if took < scaled(PROMPTLY) {
            return;
        }
    }
    panic!("not prompt: {takes:?}");
}

/// The part of a life beyond the second that a daemon has to end by itself.
#[track_caller]
fn beyond_grace(lived: Duration) -> Duration {
    const GRACE: Duration = Duration::from_secs(1);
    assert!(lived >= GRACE, "{lived:?}");
    lived - GRACE
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
        assert_nothing_remains(&scenario, &run);
    }
}

fn a_start_whose_launcher_is_killed_did_not_happen() {
    assert_killed_launcher_leaves_nothing(Entry::Start);
}

fn a_start_under_execute_whose_launcher_is_killed_did_not_happen() {
    assert_killed_launcher_leaves_nothing(Entry::Execute);
}

fn a_daemon_that_ignores_sigterm_is_killed_after_a_second() {
    let scenario = held_with(Disposition::Ignore);
    assert_prompt(|| {
        let run = scenario.launch();
        run.held();
        let killed = Instant::now();
        run.kill_launcher();
        assert_nothing_remains(&scenario, &run);
        beyond_grace(killed.elapsed())
    });
}

fn a_daemon_gets_sigterm_first() {
    let scenario = held_with(Disposition::ReportAndExit);
    let run = scenario.launch();
    let daemon = run.held().pid;
    run.kill_launcher();
    let signalled = run.await_message(&Message::Signalled(libc::SIGTERM));
    assert_eq!(signalled, daemon);
    assert_nothing_remains(&scenario, &run);
}

fn a_stopped_daemon_is_killed_all_the_same() {
    let scenario = held(Entry::Start);
    let run = scenario.launch();
    let daemon = run.handle(run.held().pid);
    daemon.kill(libc::SIGSTOP).unwrap();
    run.kill_launcher();
    assert_nothing_remains(&scenario, &run);
}

// --- The intermediate ---

/// Kills something while the privileged action waits, and returns the launcher's error
/// and the time until then.
#[track_caller]
fn error_after(run: &Run, kill: impl FnOnce(&Run)) -> (StartError, Duration) {
    run.held();
    let begun = Instant::now();
    kill(run);
    (run.launcher_error(), begun.elapsed())
}

fn a_killed_intermediate_is_reported_and_its_daemon_ends() {
    for entry in [Entry::Start, Entry::Execute] {
        let scenario = held(entry);
        assert_prompt(|| {
            let run = scenario.launch();
            let (error, took) = error_after(&run, Run::kill_intermediate);
            assert_eq!(error.kind, "IntermediateExited");
            let text = "the intermediate process ended before the daemon was ready: \
                        it was killed by signal 9 (SIGKILL); the library terminated the daemon";
            assert_eq!(error.text, text);
            run.assert_nothing_left();
            took
        });
        assert_next_start_succeeds(&scenario);
    }
}

fn a_killed_intermediate_ends_a_daemon_that_ignores_sigterm() {
    let scenario = held_with(Disposition::Ignore);
    assert_prompt(|| {
        let run = scenario.launch();
        let (error, took) = error_after(&run, Run::kill_intermediate);
        assert_eq!(error.kind, "IntermediateExited");
        run.assert_nothing_left();
        beyond_grace(took)
    });
    assert_next_start_succeeds(&scenario);
}

// --- A daemon that its launcher may not signal ---

const ORDINARY: u32 = 65534;
const MAY_CHANGE_IDS: u64 = sys::CAP_SETGID | sys::CAP_SETUID;

/// The initialization waits, when the daemon has another user. The launcher lacks
/// CAP_KILL, so that it may not signal that user.
fn held_as_another(entry: Entry) -> Scenario {
    let scenario = scenario!().pid_file("daemon.pid").entry(entry);
    scenario
        .as_user(ORDINARY, ORDINARY)
        .from_state(|state| state.capabilities = Some(MAY_CHANGE_IDS))
        .user(UID)
        .group(GID)
        .initialize([Step::Hold])
}

#[track_caller]
fn assert_no_process_remains(run: &Run) {
    run.wait_until_all_ended();
    let file = run.pid_file();
    assert!(
        file.as_ref().is_none_or(PidFile::is_released),
        "{file:?}\n{}",
        run.diagnostics()
    );
}

fn a_killed_launcher_ends_a_daemon_that_it_may_not_signal() {
    for entry in [Entry::Start, Entry::Execute] {
        let run = held_as_another(entry).launch();
        run.held();
        run.kill_launcher();
        assert_no_process_remains(&run);
    }
}

fn a_killed_intermediate_is_reported_if_the_daemon_may_not_be_signalled() {
    for entry in [Entry::Start, Entry::Execute] {
        let run = held_as_another(entry).launch();
        let (error, _) = error_after(&run, Run::kill_intermediate);
        assert_eq!(error.kind, "IntermediateExited");
        let text = "the intermediate process ended before the daemon was ready: \
                    it was killed by signal 9 (SIGKILL); the daemon may still run; \
                    it ends at the latest when it reports to the launcher";
        assert_eq!(error.text, text);
        // The daemon ends at its next report.
        run.proceed();
        assert_no_process_remains(&run);
    }
}

fn a_daemon_that_may_not_be_signalled_and_ends_by_itself_is_reported_to_have_ended() {
    let run = held_as_another(Entry::Start).launch();
    let (error, _) = error_after(&run, |run| {
        run.kill_intermediate();
        // The launcher waits a second for the end of the daemon.
        run.proceed();
    });
    assert_eq!(error.kind, "IntermediateExited");
    let text = "the intermediate process ended before the daemon was ready: \
                it was killed by signal 9 (SIGKILL); the daemon has ended";
    assert_eq!(error.text, text);
    assert_no_process_remains(&run);
}

// --- The daemon ---

fn a_killed_daemon_is_reported_with_its_signal() {
    for signal in [libc::SIGKILL, libc::SIGTERM, libc::SIGUSR1] {
        for entry in [Entry::Start, Entry::Execute] {
            let scenario = held(entry);
            assert_prompt(|| {
                let run = scenario.launch();
                let daemon = run.handle(run.held().pid);
                let (error, took) = error_after(&run, |_| daemon.kill(signal).unwrap());
                assert_eq!(error.kind, "DaemonExited");
                assert_eq!(error.daemon_exit_status, Some(signal));
                run.assert_nothing_left();
                took
            });
            assert_next_start_succeeds(&scenario);
        }
    }
}

/// The daemon forks a worker, which has copies of all its descriptors, and lives until
/// the test ends.
fn held_with_worker() -> Scenario {
    held(Entry::Start).privileged_action([Step::ForkWorker, Step::Hold])
}

fn a_killed_daemon_is_reported_at_once_if_a_worker_has_its_descriptors() {
    let scenario = held_with_worker();
    assert_prompt(|| {
        let run = scenario.launch();
        let (error, took) = error_after(&run, Run::kill_held);
        assert_eq!(error.daemon_exit_status, Some(libc::SIGKILL));
        run.assert_nothing_left_but(&[run.worker()]);
        assert_next_start_succeeds(&scenario);
        assert_eq!(run.living(), [run.worker()]);
        took
    });
}

fn a_killed_launcher_is_noticed_if_a_worker_has_its_descriptors() {
    let scenario = held_with_worker();
    let run = scenario.launch();
    let held = run.held();
    let intermediate = run.handle(held.ppid);
    run.kill_launcher();
    // The intermediate ends last.
    let deadline = Instant::now() + time_limit();
    assert!(intermediate.wait(deadline).unwrap());
    assert_eq!(run.living(), [run.worker()]);
    assert_next_start_succeeds(&scenario);
}

// --- Several processes ---

/// Starts, and kills the intermediate and a launcher that cannot notice it.
#[track_caller]
fn orphan(scenario: &Scenario) -> Run {
    let run = scenario.launch();
    run.held();
    run.signal_launcher(libc::SIGSTOP);
    run.kill_intermediate();
    run.kill_launcher();
    run.proceed();
    run
}

fn without_launcher_and_intermediate_the_daemon_ends_at_its_report() {
    let scenario = held(Entry::Start);
    let run = orphan(&scenario);
    assert_nothing_remains(&scenario, &run);
    assert!(run.report_if_any().is_none());
}

fn without_launcher_and_intermediate_a_failed_daemon_ends_too() {
    let scenario = held(Entry::Start).chroot("missing");
    let run = orphan(&scenario);
    assert_nothing_remains(&scenario, &run);
}

fn without_launcher_and_intermediate_execute_returns_an_error() {
    let scenario = held(Entry::Execute);
    let run = orphan(&scenario);
    let error = run.daemon_error();
    assert_eq!(error.kind, "LauncherGone");
    assert_eq!(error.text, "the launcher has ended");
    assert_nothing_remains(&scenario, &run);
}

/// No process is left that could clear the file, but none has written to it either.
fn when_all_are_killed_nothing_is_left() {
    let scenario = held(Entry::Start);
    let run = scenario.launch();
    let daemon = run.handle(run.held().pid);
    run.signal_launcher(libc::SIGSTOP);
    run.kill_intermediate();
    daemon.kill(libc::SIGKILL).unwrap();
    run.kill_launcher();
    assert_nothing_remains(&scenario, &run);
}

/// A start that is committed stays so.
fn a_daemon_stays_when_the_launcher_ends_after_the_start() {
    let scenario = scenario!().entry(Entry::Execute).pid_file("daemon.pid");
    let run = scenario.start();
    run.signal_launcher(libc::SIGKILL);
    run.wait_until_ended(run.launcher_pid());
    let daemon = run.observe();
    assert_eq!(daemon.ppid, run.reaper());
    assert_names_daemon(&run, daemon.pid);
}

// --- At every call ---

/// A kind of start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    Plain,
    /// `execute` starts the daemon.
    Executed,
    /// There are an initialization, a payload, a closure of the launcher, and a service manager.
    Initializing,
    /// Readiness is deferred, and the report has a payload.
    Deferred,
    /// The daemon has another user, another root directory, and a directory.
    Jailed,
    /// The daemon executes a program.
    Spawned,
    /// The program reports by `NOTIFY_SOCKET` that it is ready.
    Notifying,
    /// The program reports by a line that it is ready.
    Writing,
    /// The root directory is missing.
    Failing,
}

const SUCCEEDING: [Shape; 8] = [
    Shape::Plain,
    Shape::Executed,
    Shape::Initializing,
    Shape::Deferred,
    Shape::Jailed,
    Shape::Spawned,
    Shape::Notifying,
    Shape::Writing,
];

impl Shape {
    fn is_possible(self) -> bool {
        self != Self::Jailed || sys::effective_user() == 0
    }

    fn is_of_program(self) -> bool {
        matches!(self, Self::Spawned | Self::Notifying | Self::Writing)
    }

    /// The distance between the calls at which a process is killed.
    fn step(self) -> usize {
        match self {
            _ if std::env::var_os(ALL_FAULTS).is_some() => 1,
            Self::Plain => 1,
            _ if self.is_of_program() => 8,
            _ => 3,
        }
    }

    fn scenario(self) -> (Scenario, Option<FakeServiceManager>) {
        let mut scenario = scenario!().pid_file("daemon.pid").entry(Entry::Start);
        scenario.config.report_afterwards = true;
        let scenario = match self {
            Self::Plain => scenario,
            Self::Executed => scenario.entry(Entry::Execute),
            Self::Initializing => {
                let socket = scenario.path("notify");
                let manager = FakeServiceManager::at(&socket);
                let scenario = scenario.initialize([]).env("NOTIFY_SOCKET", socket);
                let scenario = scenario
                    .ready_payload(vec![b'p'; 2048])
                    .on_started([Step::Print("started".to_owned())]);
                return (scenario, Some(manager));
            }
            Self::Deferred => {
                let scenario = scenario.ready_payload(vec![b'p'; 2048]);
                scenario.deferring([], ReadinessUse::Ready)
            }
            Self::Jailed => {
                scenario.create_directory("jail");
                let directory = Directory::at(scenario.path("directory"));
                let scenario = scenario.directories([directory]);
                scenario.chroot("jail").user(UID).group(GID)
            }
            Self::Spawned => scenario.spawn(),
            Self::Notifying => {
                let ready = Step::Notify(Bytes(b"READY=1".to_vec()));
                scenario.spawn_awaiting(ProgramReadiness::NotifySocket, [ready])
            }
            Self::Writing => {
                let line = Step::Write(5, "\n".to_owned());
                scenario.spawn_awaiting(ProgramReadiness::NotificationFd(5), [line])
            }
            Self::Failing => scenario.chroot("missing"),
        };
        (scenario, None)
    }
}

/// A start of which a process was killed.
struct Killed<'a> {
    shape: Shape,
    scenario: &'a Scenario,
    role: Role,
    hit: SignalHit,
    traced: TracedStart,
}

impl Killed<'_> {
    #[track_caller]
    fn launcher_error(&self) -> &StartError {
        self.traced.launcher_error().expect("the launcher fails")
    }

    /// Nothing is left when the launcher has ended, either.
    #[track_caller]
    fn assert_nothing_left_by_launcher(&self) {
        let outcome = &self.traced.outcome;
        self.assert_nothing_left();
        assert!(outcome.nobody_left, "{outcome:?}");
        let file = outcome.pid_file.as_ref().expect("it can be seen");
        assert!(
            file.as_ref().is_none_or(PidFile::is_released),
            "{outcome:?}"
        );
    }

    #[track_caller]
    fn assert_nothing_left(&self) {
        let outcome = &self.traced.outcome;
        assert_eq!(outcome.trouble, None, "{outcome:?}");
        let file = outcome.pid_file_at_end.as_ref().expect("it can be seen");
        // Between the intermediate's exit message and the acknowledgement, no process
        // is left that could clear the pid file of a daemon in a jail.
        let may_stay = self.shape == Shape::Jailed && self.role != Role::Daemon;
        let is_clear = |file: &PidFile| file.is_released() || !file.locked && may_stay;
        assert!(file.as_ref().is_none_or(is_clear), "{outcome:?}");
    }

    /// Fails unless nothing is left, or the start was committed and is as if no process
    /// had been killed. Returns whether there is a daemon.
    #[track_caller]
    fn is_all_or_nothing(&self) -> bool {
        /// A launcher that was killed says nothing more. The service manager serves
        /// several starts.
        const OF_LAUNCHER: &[&str] = &["launcher: ", "messages", "reports afterwards", MANAGER];
        const MANAGER: &str = "the service manager";
        if self.shape.is_of_program() {
            return self.is_program_or_nothing();
        }
        let outcome = &self.traced.outcome;
        let is_commitment = |message: &Message| match self.shape {
            Shape::Deferred => *message == Message::Acknowledged,
            _ => matches!(message, Message::Daemon(_)),
        };
        let mut frames = outcome.frames.iter();
        let is_committed = frames.any(|frame| is_commitment(&frame.message));
        // The second message of the launcher is the acknowledgement. The second message
        // of the intermediate says that it exits.
        assert_eq!(is_committed, self.hit.sent >= 2, "{outcome:?}");
        if !is_committed {
            self.assert_nothing_left();
            return false;
        }
        let unsettled = match self.role {
            Role::Launcher => OF_LAUNCHER,
            // `execute` returns the status of a killed intermediate.
            _ => &["messages", MANAGER],
        };
        let found = self.traced.differences(self.scenario, unsettled);
        let text: String = found.iter().map(|found| format!("{found}\n")).collect();
        assert!(found.is_empty(), "{text}{outcome:?}");
        true
    }

    /// The same for a program, which may run before the commitment.
    #[track_caller]
    fn is_program_or_nothing(&self) -> bool {
        let outcome = &self.traced.outcome;
        let is_left = outcome.intermediate_left == Some(false);
        match self.role {
            // Its first message is the order to commit.
            Role::Launcher => assert!(!is_left || self.hit.sent > 0, "{outcome:?}"),
            _ => assert_eq!(is_left, outcome.status.success(), "{outcome:?}"),
        }
        if !is_left {
            self.assert_nothing_left();
            return false;
        }
        assert_eq!(outcome.trouble, None, "{outcome:?}");
        let found = outcome.differences.as_deref().unwrap_or_default();
        assert!(found.is_empty(), "{outcome:?}");
        let daemon = outcome.daemon().expect("it has reported");
        let file = outcome.pid_file_at_end.as_ref().unwrap().as_ref().unwrap();
        assert_eq!(file.bytes, content(daemon), "{outcome:?}");
        true
    }
}

/// Returns whether there is a daemon.
type Judge = fn(&Killed) -> bool;

/// Kills the process at its first call, then at its second, and so on, until it makes
/// no further call. Each time the launcher ends promptly, and the next start succeeds.
#[track_caller]
fn sweep(shape: Shape, role: Role, judge: Judge) {
    let (scenario, _manager) = shape.scenario();
    let (mut points, mut daemons) = (0, 0);
    let step = shape.step();
    let mut is_made = true;
    for call in (0..).step_by(step) {
        let mut there_is_a_daemon = false;
        assert_prompt(|| {
            let traced = TracedStart::observe(&scenario.clone().crash(role, call), true);
            let Some(hit) = traced.signal_hit else {
                is_made = false;
                return Duration::ZERO;
            };
            let killed = Killed {
                shape,
                scenario: &scenario,
                role,
                hit,
                traced,
            };
            there_is_a_daemon = judge(&killed);
            assert_next_start_succeeds(&scenario);
            // The next daemon gets a new pid file.
            fs::remove_file(scenario.pid_file_path().unwrap()).unwrap();
            Duration::from_millis(hit.launcher_ended_after)
        });
        if !is_made {
            break;
        }
        points += 1;
        daemons += usize::from(there_is_a_daemon);
    }
    assert!(points * step > 10, "{role} makes {points} calls only");
    // The other processes make hardly a call after their last message.
    if step == 1 && shape != Shape::Failing && role == Role::Launcher {
        assert!(0 < daemons && daemons < points, "{daemons} of {points}");
    }
    if std::env::var_os(FIGURES).is_some() {
        println!("{shape:?}: {role} killed at {points} calls");
    }
}

/// Sweeps side by side.
#[track_caller]
fn sweep_all(shapes: &[Shape], role: Role, judge: Judge) {
    thread::scope(|scope| {
        let possible = shapes.iter().filter(|shape| shape.is_possible());
        let sweeps: Vec<_> = possible
            .map(|&shape| scope.spawn(move || sweep(shape, role, judge)))
            .collect();
        for sweep in sweeps {
            sweep
                .join()
                .unwrap_or_else(|payload| panic::resume_unwind(payload));
        }
    });
}

fn a_launcher_killed_at_any_call_leaves_a_daemon_or_nothing() {
    sweep_all(&SUCCEEDING, Role::Launcher, |killed| {
        assert_eq!(killed.traced.outcome.status.signal(), Some(libc::SIGKILL));
        killed.is_all_or_nothing()
    });
}

fn an_intermediate_killed_at_any_call_leaves_a_daemon_or_nothing() {
    sweep_all(&SUCCEEDING, Role::Intermediate, |killed| {
        let there_is_a_daemon = killed.is_all_or_nothing();
        if !there_is_a_daemon {
            assert_eq!(killed.launcher_error().kind, "IntermediateExited");
        }
        there_is_a_daemon
    });
}

/// After the commitment the start is a success, whatever becomes of the daemon: a
/// killed daemon leaves an unlocked pid file.
fn a_daemon_killed_at_any_call_was_started_or_leaves_nothing() {
    sweep_all(&SUCCEEDING, Role::Daemon, |killed| {
        let (outcome, hit) = (&killed.traced.outcome, killed.hit);
        let was_started = outcome.status.success();
        if was_started {
            let has_reported = hit.sent > 0 || killed.shape.is_of_program();
            assert!(has_reported, "the daemon had not reported that it is ready");
            assert_eq!(outcome.trouble, None, "{outcome:?}");
            let pid_file = outcome.pid_file_at_end.as_ref().unwrap().as_ref().unwrap();
            assert_eq!(pid_file.bytes, content(hit.process), "{outcome:?}");
            assert!(!pid_file.locked);
        } else {
            let error = killed.launcher_error();
            assert_eq!(error.kind, "DaemonExited");
            // Once the intermediate has exited, no process knows the status.
            let status = error.daemon_exit_status;
            assert!(status.is_none_or(|status| status == libc::SIGKILL));
            killed.assert_nothing_left_by_launcher();
        }
        was_started
    });
}

fn a_failing_start_killed_at_any_call_leaves_nothing() {
    for role in Role::ALL {
        sweep(Shape::Failing, role, |killed| {
            killed.assert_nothing_left();
            let end = match killed.role {
                Role::Launcher => {
                    assert_eq!(killed.traced.outcome.status.signal(), Some(libc::SIGKILL));
                    return false;
                }
                Role::Intermediate => "IntermediateExited",
                Role::Daemon => "DaemonExited",
            };
            let kinds = [format!("Chroot({})", libc::ENOENT), end.to_owned()];
            let error = killed.launcher_error();
            assert!(
                kinds.contains(&error.kind),
                "{error}\n{:?}",
                killed.traced.outcome
            );
            killed.assert_nothing_left_by_launcher();
            false
        });
    }
}
