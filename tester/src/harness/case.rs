//! The start of a tester, and what the harness keeps of it.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{self, Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use super::Scenario;
use super::journal::{Events, Journal};
use crate::control::{self, Receiver};
use crate::slowness::time_limit;
use crate::sys::ProcessHandle;
use crate::{observe, sys, wire};

/// No other process is started while a socket pair exists that is to be passed on: not every system
/// can create sockets that a child does not inherit.
pub(super) static SPAWNING: Mutex<()> = Mutex::new(());

/// A number that no other case of this process has.
pub(super) fn next_number() -> u32 {
    static CASES: AtomicU32 = AtomicU32::new(0);
    CASES.fetch_add(1, Ordering::Relaxed)
}

/// The mark of the processes of a case.
pub(super) fn token(number: u32) -> String {
    format!("{}-{number}", process::id())
}

/// Kills the processes of a case until none is left. A process may fork just before it is killed.
pub(super) fn kill_all(token: &str) -> io::Result<()> {
    loop {
        let found = observe::processes_of(token)?;
        if found.is_empty() {
            return Ok(());
        }
        let mut handles = Vec::new();
        for process in found {
            handles.extend(ProcessHandle::open(process.pid)?);
        }
        // A process id may have been reused before its handle was opened, but not after it.
        let confirmed = observe::processes_of(token)?;
        handles.retain(|handle| confirmed.iter().any(|found| found.pid == handle.pid()));
        for handle in &handles {
            handle.kill(libc::SIGKILL)?;
        }
        let deadline = Instant::now() + time_limit();
        for handle in &handles {
            if !handle.wait(deadline)? {
                return Err(io::ErrorKind::TimedOut.into());
            }
        }
    }
}

/// How the tester gets its end of the control socket.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Handover {
    /// The forked child moves its end. The fork copies the memory of this process.
    Moved,
    /// The end already has its number in this process. Meanwhile, this process starts no other.
    Inherited,
}

/// A tester that was started.
#[derive(Debug)]
pub(super) struct Case {
    pub(super) scenario: Scenario,
    pub(super) token: String,
    pub(super) control: Arc<OwnedFd>,
    pub(super) journal: Arc<Journal>,
    pub(super) deadline: Instant,
    pub(super) config: PathBuf,
    pub(super) stdout: PathBuf,
    pub(super) stderr: PathBuf,
}

impl Case {
    /// Starts the tester. A thread records the messages until no process of the case is left.
    pub(super) fn start(scenario: &Scenario, handover: Handover) -> (Self, Child, JoinHandle<()>) {
        let number = next_number();
        let token = token(number);
        let in_directory = |name: &str| scenario.path(format!("{name}.{number}"));
        let [config, stdout, stderr] = ["config", "stdout", "stderr"].map(in_directory);
        fs::write(&config, wire::encode(&scenario.config)).expect("write the configuration");

        let environment = scenario
            .environment
            .iter()
            .map(|(name, value)| (name, value));
        let mut command = Command::new(&scenario.binary);
        command
            .args(&scenario.arguments)
            .current_dir(scenario.directory())
            .stdin(File::open(&config).expect("open the configuration"))
            // The service manager of the machine started the test, not the case.
            .env_remove("NOTIFY_SOCKET")
            .env_remove("SYSTEMD_EXEC_PID")
            // A backtrace takes a debug build a tenth of a second.
            .env_remove("RUST_BACKTRACE")
            .envs(environment)
            .env(control::TOKEN, &token);
        if scenario.piped {
            command.stdout(Stdio::piped()).stderr(Stdio::piped());
        } else {
            command
                .stdout(File::create(&stdout).expect("create the output file"))
                .stderr(File::create(&stderr).expect("create the error file"));
        }
        if let Some((uid, gid, groups)) = &scenario.launched_by {
            sys::start_as(&mut command, *uid, *gid, groups);
        }
        // The first call starts a tester of its own, so it cannot be made under the lock.
        let reaper = scenario.reaper();

        let spawning = SPAWNING.lock().unwrap_or_else(PoisonError::into_inner);
        let (ours, testers) = sys::socket_pair().expect("create the control socket");
        let child = match handover {
            Handover::Moved => {
                sys::pass_descriptor(&mut command, testers.as_fd(), control::CONTROL);
                command.spawn().expect("start the tester")
            }
            Handover::Inherited => {
                let testers = sys::move_descriptor(testers, control::CONTROL, false)
                    .expect("give the control socket its number");
                let child = command.spawn().expect("start the tester");
                sys::reserve_number(testers).expect("keep the control socket's number");
                child
            }
        };
        drop(spawning);

        let case = Self {
            scenario: scenario.clone(),
            token,
            control: Arc::new(ours),
            journal: Arc::default(),
            deadline: Instant::now() + scenario.deadline,
            config,
            stdout,
            stderr,
        };
        let (control, journal) = (Arc::clone(&case.control), Arc::clone(&case.journal));
        let listener = thread::spawn(move || listen(&control, &journal, reaper));
        (case, child, listener)
    }

    /// Waits until `find` finds something in the events, or returns the reason why it never will.
    pub(super) fn wait<T>(
        &self,
        mut find: impl FnMut(&Events) -> Option<T>,
    ) -> Result<T, &'static str> {
        let mut events = self.journal.events();
        loop {
            if let Some(found) = find(&events) {
                return Ok(found);
            }
            let left = self.deadline.saturating_duration_since(Instant::now());
            if !events.problems.is_empty() {
                return Err("a problem came up");
            } else if events.is_over() {
                return Err("every process is gone");
            } else if left.is_zero() {
                return Err("the deadline has passed");
            }
            let changed = self.journal.changed.wait_timeout(events, left);
            events = changed.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

fn listen(control: &OwnedFd, journal: &Journal, reaper: u32) {
    let mut receiver = Receiver::new(control.as_fd());
    loop {
        match receiver.frame() {
            Ok(Some(frame)) => journal.record(|events| {
                events.register(&frame, reaper);
                events.frames.push(frame);
            }),
            Ok(None) => break,
            Err(error) => {
                let problem = format!("the control socket failed: {error}");
                journal.record(|events| events.problems.push(problem));
                break;
            }
        }
    }
    journal.record(|events| events.silent = true);
}

/// The text of a file, as far as it can be read.
pub(super) fn read_text(path: &Path) -> String {
    String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
}
