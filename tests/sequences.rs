//! A pid file tells the truth after any sequence of operations.
//!
//! The test runner reduces a failing sequence. The last line before the failure names it:
//! `TESTER_SEQUENCE=Start,Crash,Stop` performs only this sequence again. A sequence that has shown
//! a defect becomes a case of its own.

use std::env;
use std::process::ExitCode;

use daemonize2::Status;
use proptest::collection::vec;
use proptest::prelude::{Just, ProptestConfig, Strategy};
use proptest::strategy::Union;
use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};
use tester::prelude::*;
use tester::suite;

fn main() -> ExitCode {
    if let Ok(named) = env::var(NAMED) {
        perform(&named.split(',').map(Operation::named).collect::<Vec<_>>());
        println!("as expected");
        return ExitCode::SUCCESS;
    }
    suite(&[
        case!(a_pid_file_tells_the_truth_after_any_sequence),
        case!(every_operation_may_follow_every_other),
    ])
}

/// The environment variable with the only sequence to perform.
const NAMED: &str = "TESTER_SEQUENCE";

/// The environment variable with the seed of the random sequences.
const SEED: &str = "TESTER_SEED";

/// An operation on the pid file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operation {
    /// A start.
    Start,
    /// A start by another entry point, whose daemon does not clean up.
    StartAgain,
    /// A start that fails by itself.
    Fail,
    /// A start whose daemon is killed in the middle.
    Crash,
    /// A start whose launcher is killed in the middle.
    Abandon,
    /// A start during which the daemon is stopped through the pid file.
    StopAtOnce,
    /// The running daemon is stopped, and started again at once.
    Restart,
    /// The running daemon is killed.
    Kill,
    /// The running daemon is stopped through the pid file.
    Stop,
    /// The running daemon exits, and cleans up if it does so.
    Exit,
    /// A start while a prober asks again and again which daemon runs.
    StartWhileProbed,
}

impl Operation {
    /// The operations, each with its weight in a random sequence.
    const WEIGHTED: [(u32, Self); 11] = [
        (4, Self::Start),
        (2, Self::StartAgain),
        (1, Self::Fail),
        (1, Self::Crash),
        (1, Self::Abandon),
        (1, Self::StopAtOnce),
        (1, Self::Restart),
        (2, Self::Kill),
        (2, Self::Stop),
        (2, Self::Exit),
        (1, Self::StartWhileProbed),
    ];

    fn all() -> [Self; 11] {
        Self::WEIGHTED.map(|(_, operation)| operation)
    }

    fn named(name: &str) -> Self {
        let found = Self::all()
            .into_iter()
            .find(|operation| format!("{operation:?}") == name);
        found.unwrap_or_else(|| panic!("{name} is none of {:?}", Self::all()))
    }
}

/// The expected state.
#[derive(Debug)]
enum State {
    Absent,
    /// The file of a failed start.
    Empty,
    Running {
        run: Box<Run>,
        cleans_up: bool,
    },
    /// The file of a dead daemon, with its pid.
    Stale(u32),
}

fn operations() -> impl Strategy<Value = Vec<Operation>> {
    let weighted = Operation::WEIGHTED.map(|(weight, operation)| (weight, Just(operation)));
    let operation = Union::new_weighted(weighted.to_vec());
    vec(operation, 1..12)
}

fn a_pid_file_tells_the_truth_after_any_sequence() {
    let mut config = ProptestConfig::default();
    if env::var_os("PROPTEST_CASES").is_none() {
        config.cases = 40;
    }
    config.max_shrink_iters = 100;
    // A seed means another sequence with the next operation.
    config.failure_persistence = None;
    let mut runner = match env::var(SEED) {
        Ok(seed) => {
            let mut bytes = [0; 32];
            let seed: u64 = seed.parse().expect("a number");
            bytes[..8].copy_from_slice(&seed.to_le_bytes());
            let random = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
            TestRunner::new_with_rng(config, random)
        }
        Err(_) => TestRunner::new(config),
    };
    let result = runner.run(&operations(), |operations| {
        perform(&operations);
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
}

fn every_operation_may_follow_every_other() {
    let all = Operation::all();
    for (index, first) in all.into_iter().enumerate() {
        // All pairs are performed on one pid file: first, second, first, third, ...
        let others = all[index..].iter();
        let sequence: Vec<_> = others.flat_map(|&other| [first, other]).collect();
        perform(&sequence);
    }
}

fn perform(operations: &[Operation]) {
    let names: Vec<_> = operations
        .iter()
        .map(|operation| format!("{operation:?}"))
        .collect();
    println!("{NAMED}={}", names.join(","));
    let mut machine = Machine::new();
    for &operation in operations {
        machine.perform(operation);
        machine.judge();
    }
}

struct Machine {
    scenario: Scenario,
    path: PathBuf,
    state: State,
    /// The file, until it is removed.
    place: Option<Place>,
}

impl Machine {
    fn new() -> Self {
        let scenario = scenario!().pid_file("daemon.pid");
        Self {
            path: scenario.path("daemon.pid"),
            scenario,
            state: State::Absent,
            place: None,
        }
    }

    fn running(&self) -> Option<u32> {
        match &self.state {
            State::Running { run, .. } => Some(run.report().pid),
            _ => None,
        }
    }

    fn pid_file(&self) -> PidFile {
        PidFile::at(&self.path)
    }

    fn start(&mut self, cleans_up: bool) {
        let mut scenario = self.scenario.clone();
        scenario.config.guard_pid_file = cleans_up;
        if !cleans_up {
            scenario.config.entry = Entry::ExecuteChecked;
        }
        let run = Box::new(scenario.start());
        self.state = State::Running { run, cleans_up };
    }

    fn perform(&mut self, operation: Operation) {
        let running = self.running();
        let held = self.scenario.clone().privileged_action([Step::Hold]);
        match (operation, running) {
            (Operation::Start, None) => self.start(true),
            (Operation::StartAgain, None) => self.start(false),
            (Operation::StartWhileProbed, None) => self.start_while_probed(),
            (Operation::Fail, None) => {
                let scenario = self.scenario.clone();
                let fails = scenario.try_privileged_action(ErrorText::from("no"));
                assert_eq!(fails.fail().kind, "PrivilegedAction");
                self.state = State::Empty;
            }
            (Operation::Crash, None) => {
                let scenario = self.scenario.clone();
                let crashes = scenario.privileged_action([Step::KillItself(libc::SIGKILL)]);
                assert_eq!(crashes.fail().kind, "DaemonExited");
                self.state = State::Empty;
            }
            (Operation::Abandon, None) => {
                let run = held.launch();
                run.held();
                run.kill_launcher();
                run.wait_until_all_ended();
                self.state = State::Empty;
            }
            (Operation::StopAtOnce, None) => {
                let run = held.launch();
                run.held();
                thread::scope(|scope| {
                    let stop = scope.spawn(|| self.pid_file().stop(time_limit()));
                    run.proceed();
                    assert!(stop.join().unwrap().unwrap());
                });
                run.wait_until_all_ended();
                self.state = State::Empty;
            }
            (Operation::Stop, _) => self.stop(),
            (Operation::Restart, _) => {
                self.stop();
                self.start(true);
            }
            (Operation::Kill, Some(_)) => {
                if let State::Running { run, .. } = &self.state {
                    run.kill_daemon();
                }
                self.end(State::Stale);
            }
            (Operation::Exit, Some(_)) => {
                if let State::Running { run, cleans_up } = &self.state {
                    run.exit(0);
                    self.end(match cleans_up {
                        true => |_| State::Absent,
                        false => State::Stale,
                    });
                }
            }
            (Operation::Kill | Operation::Exit, None) => {}
            // Each other operation is a start, which is refused before it could fail by itself.
            (_, Some(pid)) => {
                let error = held.launch().launcher_error();
                assert_eq!(error.kind_name(), "LockPidfile");
                assert_eq!(error.running_pid, Some(pid));
            }
        }
    }

    fn stop(&mut self) {
        let is_running = self.running().is_some();
        assert_eq!(self.pid_file().stop(time_limit()).unwrap(), is_running);
        self.end(|_| State::Empty);
    }

    /// Starts while a prober takes the lock again and again, and once for longer.
    fn start_while_probed(&mut self) {
        if let Ok(file) = File::open(&self.path) {
            sys::flock(file.as_fd(), libc::LOCK_SH).unwrap();
            let run = self.scenario.launch();
            run.assert_launcher_waits();
            // The child of another thread may have a copy for a while.
            sys::flock(file.as_fd(), libc::LOCK_UN).unwrap();
            run.launcher().assert().success();
            run.exit(0);
            run.wait_until_all_ended();
        }
        let pid_file = self.pid_file();
        // The timing decides which daemon the prober finds.
        let probe = || drop(pid_file.running());
        while_repeating(probe, || self.start(true));
    }

    /// Changes the state after the running daemon, if any, has ended.
    fn end(&mut self, into: impl FnOnce(u32) -> State) {
        if let State::Running { run, .. } = &self.state {
            let pid = run.report().pid;
            run.wait_until_all_ended();
            self.state = into(pid);
        }
    }

    fn judge(&mut self) {
        let told = self.pid_file().running().unwrap();
        assert_eq!(told, self.running(), "{:?}", self.state);
        let status = match &self.state {
            State::Absent | State::Empty => Status::NotRunning,
            State::Running { run, .. } => Status::Running {
                pid: run.report().pid,
            },
            State::Stale(pid) => Status::Dead { pid: *pid },
        };
        assert_eq!(self.pid_file().status().unwrap(), status);
        let file = tester::harness::PidFile::look(&self.path).unwrap();
        if let Some(file) = &file {
            // The mode is 0644 without the bits of the umask 027.
            let attributes = (file.mode, file.uid, file.links);
            assert_eq!(attributes, (0o640, sys::effective_user(), 1));
            // No process has replaced the file.
            let place = self.place.get_or_insert_with(|| file.place.clone());
            assert_eq!(*place, file.place);
        } else {
            self.place = None;
        }
        let content = file.map(|file| (String::from_utf8(file.bytes).unwrap(), file.locked));
        let expected = match &self.state {
            State::Absent => None,
            State::Empty => Some((String::new(), false)),
            State::Running { run, .. } => Some((format!("{}\n", run.report().pid), true)),
            State::Stale(pid) => Some((format!("{pid}\n"), false)),
        };
        assert_eq!(content, expected);
    }
}
