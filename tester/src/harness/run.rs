//! A case that runs: waiting for it, telling it what to do, crashing it and
//! judging it.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{self, Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::journal::{Events, Journal, at_the_end, collect, drain};
use super::{DEADLINE, Launcher, PidFile, Scenario, slowness};
use crate::config::Bytes;
use crate::control::{self, Command as Told, FormerIds, Frame, Message, Receiver};
use crate::observe::{self, Process};
use crate::report::{LauncherResult, Place, Regained, Report, SignalHit, StartError};
use crate::subject::EXIT_START_FAILED;
use crate::sys::{self, ProcessHandle};
use crate::trace::SignalHit;
use crate::wire;

/// A case that runs. Dropping it kills and removes whatever is left.
#[derive(Debug)]
pub struct Run {
    scenario: Scenario,
    token: String,
    launcher: Arc<ProcessHandle>,
    control: Arc<OwnedFd>,
    journal: Arc<Journal>,
    threads: Vec<JoinHandle<()>>,
    deadline: Instant,
    stdout: PathBuf,
    stderr: PathBuf,
}

/// While a socket pair exists that is to be passed on, nothing else is
/// started: not every system can create one that others do not inherit.
pub(super) static SPAWNING: Mutex<()> = Mutex::new(());

/// A number that no other case of this process has.
pub(super) fn next_number() -> u32 {
    static RUNS: AtomicU32 = AtomicU32::new(0);
    RUNS.fetch_add(1, Ordering::Relaxed)
}

/// What marks the processes of a case.
pub(super) fn token(number: u32) -> String {
    format!("{}-{number}", process::id())
}

impl Run {
    pub(super) fn new(scenario: &Scenario) -> Self {
        let number = next_number();
        let token = token(number);
        let in_folder = |name: &str| scenario.path(format!("{name}.{number}"));
        let (stdout, stderr) = (in_folder("stdout"), in_folder("stderr"));
        let config = in_folder("config");
        fs::write(&config, wire::encode(&scenario.config)).expect("write the configuration");

        let mut command = Command::new(&scenario.binary);
        command
            .args(&scenario.arguments)
            .current_dir(scenario.directory())
            .stdin(File::open(&config).expect("open the configuration"))
            // What the machine's service manager told the test is not meant
            // for the case.
            .env_remove("NOTIFY_SOCKET")
            .env_remove("SYSTEMD_EXEC_PID")
            .envs(
                scenario
                    .environment
                    .iter()
                    .map(|(name, value)| (name, value)),
            )
            .env(control::TOKEN, &token);
        if scenario.piped {
            command.stdout(Stdio::piped()).stderr(Stdio::piped());
        } else {
            command
                .stdout(File::create(&stdout).expect("create the output file"))
                .stderr(File::create(&stderr).expect("create the error file"));
        }

        let spawning = SPAWNING.lock().unwrap_or_else(PoisonError::into_inner);
        let (ours, testers) = sys::socket_pair().expect("create the control socket");
        sys::pass_descriptor(&mut command, testers.as_fd(), control::CONTROL);
        if let Some((uid, gid, groups)) = &scenario.launched_by {
            sys::start_as(&mut command, *uid, *gid, groups);
        }
        let child = command.spawn().expect("start the tester");
        drop(testers);
        drop(spawning);

        let launcher = ProcessHandle::open(child.id())
            .expect("take hold of the launcher")
            .expect("a child that was not waited for exists");
        let mut run = Self {
            scenario: scenario.clone(),
            token,
            launcher: Arc::new(launcher),
            control: Arc::new(ours),
            journal: Arc::default(),
            threads: Vec::new(),
            deadline: Instant::now() + scenario.deadline * slowness(),
            stdout,
            stderr,
        };
        run.listen();
        run.await_launcher(child);
        run
    }

    fn listen(&mut self) {
        let control = Arc::clone(&self.control);
        let journal = Arc::clone(&self.journal);
        let reaper = self.scenario.reaper();
        self.threads.push(thread::spawn(move || {
            let mut receiver = Receiver::new(control.as_fd());
            loop {
                match receiver.frame() {
                    Ok(Some(frame)) => journal.record(|events| {
                        events.hold(&frame, reaper);
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
        }));
    }

    fn await_launcher(&mut self, mut child: Child) {
        let journal = Arc::clone(&self.journal);
        let pid_file = self.scenario.pid_file_path();
        let token = self.token.clone();
        let (stdout, stderr) = (self.stdout.clone(), self.stderr.clone());
        let readers = (
            child.stdout.take().map(|pipe| drain(Box::new(pipe))),
            child.stderr.take().map(|pipe| drain(Box::new(pipe))),
        );
        self.threads.push(thread::spawn(move || {
            let end = at_the_end(&mut child, pid_file.as_deref(), &token, &journal);
            match end {
                Ok((status, pid_file, processes)) => {
                    let output = Output {
                        status,
                        stdout: collect(readers.0, &stdout),
                        stderr: collect(readers.1, &stderr),
                    };
                    let launcher = Launcher {
                        output,
                        pid_file,
                        processes,
                    };
                    journal.record(|events| events.launcher = Some(launcher));
                }
                Err(error) => {
                    let problem = format!("cannot judge the launcher's end: {error}");
                    journal.record(|events| events.problems.push(problem));
                }
            }
        }));
    }

    // Waiting.

    /// Waits until `find` finds something in what has happened.
    ///
    /// # Panics
    ///
    /// When the deadline passes or no more can happen, naming `what`.
    #[track_caller]
    fn wait<T>(&self, what: &str, mut find: impl FnMut(&Events) -> Option<T>) -> T {
        let mut events = self.journal.events();
        loop {
            if let Some(found) = find(&events) {
                return found;
            }
            let over = events.silent && events.launcher.is_some();
            let reason = if !events.problems.is_empty() {
                "a problem came up"
            } else if over {
                "every process is gone"
            } else if Instant::now() >= self.deadline {
                "the deadline has passed"
            } else {
                let left = self.deadline.saturating_duration_since(Instant::now());
                events = self
                    .journal
                    .changed
                    .wait_timeout(events, left)
                    .unwrap_or_else(PoisonError::into_inner)
                    .0;
                continue;
            };
            drop(events);
            panic!("waiting for {what}: {reason}\n{}", self.diagnostics());
        }
    }

    /// Waits for the first message that `select` accepts.
    ///
    /// # Panics
    ///
    /// As every wait does.
    #[track_caller]
    pub fn message<T>(&self, what: &str, mut select: impl FnMut(&Frame) -> Option<T>) -> T {
        self.wait(what, |events| events.frames.iter().find_map(&mut select))
    }

    /// All messages so far.
    pub fn messages(&self) -> Vec<Frame> {
        self.journal.events().frames.clone()
    }

    /// Waits for the launcher's end.
    ///
    /// # Panics
    ///
    /// As every wait does.
    #[track_caller]
    pub fn launcher(&self) -> Launcher {
        self.wait("the launcher's end", |events| events.launcher.clone())
    }

    /// The launcher as it was right before the start.
    ///
    /// # Panics
    ///
    /// As every wait does.
    #[track_caller]
    pub fn initial(&self) -> Report {
        self.message("the initial state", |frame| match &frame.message {
            Message::Initial(report) => Some(report.clone()),
            _ => None,
        })
    }

    /// The daemon as it was when the library had returned.
    ///
    /// # Panics
    ///
    /// As every wait does.
    #[track_caller]
    pub fn report(&self) -> Report {
        self.message("the daemon's report", |frame| match &frame.message {
            Message::Daemon(report) => Some(report.clone()),
            _ => None,
        })
    }

    /// The daemon at the privileged action's [`Step::Observe`](crate::config::Step::Observe).
    ///
    /// # Panics
    ///
    /// As every wait does.
    #[track_caller]
    pub fn observed(&self) -> Report {
        self.message("the closure's report", |frame| match &frame.message {
            Message::Observed(report) => Some(report.clone()),
            _ => None,
        })
    }

    /// The daemon at the privileged action's [`Step::Hold`](crate::config::Step::Hold): it waits there
    /// until [`Run::proceed`]. Its parent is the intermediate, which by now waits,
    /// too: on a busy machine the daemon may get here before the intermediate
    /// has told the launcher of it.
    ///
    /// # Panics
    ///
    /// As every wait does.
    #[track_caller]
    pub fn held(&self) -> Report {
        let held = self.message("the closure to hold", |frame| match &frame.message {
            Message::Holding(report) => Some(report.clone()),
            _ => None,
        });
        if ![process::id(), self.reaper()].contains(&held.ppid) {
            self.wait_until_waiting(held.ppid);
        }
        held
    }

    /// Waits until a process neither runs nor is about to: no system tells of
    /// that by an event.
    #[track_caller]
    fn wait_until_waiting(&self, pid: u32) {
        // Running, waiting for a disk, and stopped by its tracer at a call.
        const BUSY: [char; 3] = ['R', 'D', 't'];
        let is_busy = || {
            let process = observe::process(pid).expect("look at a process");
            process.is_some_and(|process| BUSY.contains(&process.state))
        };
        while is_busy() {
            assert!(
                Instant::now() < self.deadline,
                "process {pid} does not come to rest\n{}",
                self.diagnostics()
            );
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// The port of [`Step::Listen`](crate::config::Step::Listen).
    ///
    /// # Panics
    ///
    /// As every wait does.
    #[track_caller]
    pub fn port(&self) -> u16 {
        self.message("the closure to listen", |frame| match &frame.message {
            Message::Listening(port) => Some(*port),
            _ => None,
        })
    }

    /// What `execute` returned in the launcher.
    ///
    /// # Panics
    ///
    /// As every wait does.
    #[track_caller]
    pub fn launcher_result(&self) -> LauncherResult {
        self.message("the launcher's result", |frame| match &frame.message {
            Message::LauncherReturned(result) => Some(*result),
            _ => None,
        })
    }

    /// The error that the launcher got, which it has printed as its only line
    /// before it exited.
    ///
    /// # Panics
    ///
    /// When it got none, or behaved otherwise.
    #[track_caller]
    pub fn launcher_error(&self) -> StartError {
        let error = self.message("the launcher's error", |frame| match &frame.message {
            Message::LauncherFailed(error) => Some(error.clone()),
            _ => None,
        });
        let output = self.launcher().output;
        assert_eq!(
            (output.status.code(), output.stderr.as_slice()),
            (
                Some(EXIT_START_FAILED.into()),
                format!("tester: {}\n", error.text).as_bytes()
            ),
            "the launcher's status and standard error\n{}",
            self.diagnostics()
        );
        error
    }

    /// The error that `execute` returned in the daemon.
    ///
    /// # Panics
    ///
    /// As every wait does.
    #[track_caller]
    pub fn daemon_error(&self) -> StartError {
        self.message("the daemon's error", |frame| match &frame.message {
            Message::DaemonFailed(error) => Some(error.clone()),
            _ => None,
        })
    }

    /// Waits for the end of every process of the case: until none holds the
    /// control socket any more, which all inherit, and then, since that is
    /// only one of the things that an ending process lets go of, until those
    /// that are known have ended for good.
    ///
    /// # Panics
    ///
    /// As every wait does.
    #[track_caller]
    pub fn wait_until_all_ended(&self) {
        let held = self.wait("every process to end", |events| {
            let over = events.silent && events.launcher.is_some();
            over.then(|| events.held.values().flatten().cloned().collect::<Vec<_>>())
        });
        for process in held {
            self.wait_for(&process);
        }
    }

    #[track_caller]
    fn wait_for(&self, process: &ProcessHandle) {
        assert!(
            process.wait(self.deadline).expect("wait for a process"),
            "process {} does not end\n{}",
            process.pid(),
            self.diagnostics()
        );
    }

    /// Asserts that the launcher has not ended, nor ends within a moment,
    /// which is ample for one that nothing keeps.
    ///
    /// # Panics
    ///
    /// When it has.
    #[track_caller]
    pub fn assert_launcher_waits(&self) {
        const MOMENT: Duration = Duration::from_millis(100);
        let ended = self.launcher.wait(Instant::now() + MOMENT);
        assert!(
            !ended.expect("wait for the launcher"),
            "the launcher has not waited\n{}",
            self.diagnostics()
        );
    }

    /// Waits for the end of a process that is known to be of the case, as
    /// the launcher is and whoever has sent a message.
    ///
    /// # Panics
    ///
    /// When it does not end, or was not known.
    #[track_caller]
    pub fn wait_until_ended(&self, pid: u32) {
        if pid == self.launcher_pid() {
            return self.wait_for(&self.launcher);
        }
        let held = self.journal.events().held.get(&pid).cloned();
        match held {
            Some(Some(process)) => self.wait_for(&process),
            // It was gone when it became known.
            Some(None) => {}
            None => panic!("{pid} is not known\n{}", self.diagnostics()),
        }
    }

    /// The daemon once the library has returned there; `None` if the case is
    /// over without it.
    ///
    /// # Panics
    ///
    /// As every wait does.
    #[track_caller]
    pub fn report_if_any(&self) -> Option<Report> {
        self.message_if_any("the daemon's report", |message| match message {
            Message::Daemon(report) => Some(report.clone()),
            _ => None,
        })
    }

    /// The first message that `select` accepts; `None` if the case is over
    /// without it.
    ///
    /// # Panics
    ///
    /// As every wait does.
    #[track_caller]
    pub fn message_if_any<T>(
        &self,
        what: &str,
        mut select: impl FnMut(&Message) -> Option<T>,
    ) -> Option<T> {
        let found = self.wait(&format!("{what} or the end"), |events| {
            let mut messages = events.frames.iter().map(|frame| &frame.message);
            let found = messages.find_map(&mut select);
            let over = events.silent && events.launcher.is_some();
            (found.is_some() || over).then_some(found)
        });
        if found.is_none() {
            self.wait_until_all_ended();
        }
        found
    }

    // Telling.

    /// Tells whoever listens.
    ///
    /// # Panics
    ///
    /// When nobody is left.
    #[track_caller]
    pub fn tell(&self, command: &Told) {
        if let Err(error) = control::command(self.control.as_fd(), command) {
            panic!("cannot tell {command:?}: {error}\n{}", self.diagnostics());
        }
    }

    /// Tells, and waits for an answer that `select` accepts.
    #[track_caller]
    fn ask<T>(&self, command: &Told, mut select: impl FnMut(&Message) -> Option<T>) -> T {
        let before = self.journal.events().frames.len();
        self.tell(command);
        self.wait("an answer", |events| {
            events.frames[before..]
                .iter()
                .find_map(|frame| select(&frame.message))
        })
    }

    /// Lets the closure go on that [`Run::held`] found.
    ///
    /// # Panics
    ///
    /// When nobody is left.
    #[track_caller]
    pub fn proceed(&self) {
        self.tell(&Told::Proceed);
    }

    /// The daemon as it is now.
    ///
    /// # Panics
    ///
    /// As every wait does.
    #[track_caller]
    pub fn observe(&self) -> Report {
        self.ask(&Told::Observe, |message| match message {
            Message::Now(report) => Some(report.clone()),
            _ => None,
        })
    }

    /// Lets the daemon try to get these and root's ids back.
    ///
    /// # Panics
    ///
    /// As every wait does.
    #[track_caller]
    pub fn try_to_regain(&self, uid: u32, gid: u32) -> Regained {
        self.ask(
            &Told::TryToRegain(FormerIds { uid, gid }),
            |message| match message {
                Message::Regained(regained) => Some(regained.clone()),
                _ => None,
            },
        )
    }

    /// Lets the daemon try to leave its root directory.
    ///
    /// # Panics
    ///
    /// As every wait does.
    #[track_caller]
    pub fn try_to_escape(&self) -> Vec<Place> {
        self.ask(&Told::TryToEscape, |message| match message {
            Message::Reached(places) => Some(places.clone()),
            _ => None,
        })
    }

    /// Lets the daemon try to leave its root directory through these paths.
    /// Those that may not be entered lead nowhere.
    ///
    /// # Panics
    ///
    /// As every wait does.
    #[track_caller]
    pub fn try_to_escape_through(&self, paths: Vec<Bytes>) -> Vec<Place> {
        self.ask(&Told::TryToEscapeThrough(paths), |message| match message {
            Message::Reached(places) => Some(places.clone()),
            _ => None,
        })
    }

    /// Has the daemon do this, and waits for its answer.
    ///
    /// # Panics
    ///
    /// As every wait does.
    #[track_caller]
    pub fn answer(&self, command: &Told) -> Vec<String> {
        self.ask(command, |message| match message {
            Message::Answer(words) => Some(words.clone()),
            _ => None,
        })
    }

    /// Lets the daemon exit, and waits for the end of all processes.
    ///
    /// # Panics
    ///
    /// As every wait does.
    #[track_caller]
    pub fn exit(&self, status: i32) {
        self.report();
        self.tell(&Told::Exit(status));
        self.wait_until_all_ended();
    }

    // Killing.

    /// Sends a signal to the launcher.
    ///
    /// # Panics
    ///
    /// When it cannot be sent.
    #[track_caller]
    pub fn signal_launcher(&self, signal: i32) {
        self.launcher.kill(signal).expect("signal the launcher");
    }

    /// Kills the launcher, and waits for its end.
    ///
    /// # Panics
    ///
    /// When it cannot be killed.
    #[track_caller]
    pub fn kill_launcher(&self) -> Launcher {
        self.signal_launcher(libc::SIGKILL);
        self.launcher()
    }

    /// Kills the intermediate while the daemon is held, and waits for its
    /// end.
    ///
    /// # Panics
    ///
    /// When there is none.
    #[track_caller]
    pub fn kill_intermediate(&self) {
        self.kill(self.held().ppid);
    }

    /// Kills the daemon that is held, and waits for its end.
    ///
    /// # Panics
    ///
    /// When there is none.
    #[track_caller]
    pub fn kill_held(&self) {
        self.kill(self.held().pid);
    }

    /// Kills the daemon that has reported, and waits for its end.
    ///
    /// # Panics
    ///
    /// When there is none.
    #[track_caller]
    pub fn kill_daemon(&self) {
        self.kill(self.report().pid);
    }

    /// Kills a process of the case, and waits for its end.
    ///
    /// # Panics
    ///
    /// When it is none.
    #[track_caller]
    pub fn kill(&self, pid: u32) {
        let handle = self.handle(pid);
        handle.kill(libc::SIGKILL).expect("kill the process");
        self.wait_for(&handle);
    }

    /// Takes hold of a process of the case.
    ///
    /// # Panics
    ///
    /// When it is none.
    #[track_caller]
    pub fn handle(&self, pid: u32) -> ProcessHandle {
        let handle = ProcessHandle::open(pid).expect("take hold of a process");
        // Looked for only now that it cannot be replaced any more.
        let found = self.processes().iter().any(|process| process.pid == pid);
        match handle {
            Some(handle) if found => handle,
            _ => panic!("{pid} is no process of this case\n{}", self.diagnostics()),
        }
    }

    // Judging.

    /// The process that got a signal at a call ([`Scenario::signal_at`]), once the
    /// launcher has ended; `None` if the process made fewer calls.
    ///
    /// # Panics
    ///
    /// As every wait does.
    #[track_caller]
    pub fn struck(&self) -> Option<SignalHit> {
        self.launcher();
        self.message("the signal", |frame| match frame.message {
            Message::SignalHit(hit) => Some(hit),
            _ => None,
        })
    }

    /// The process ids of the case's living processes.
    pub fn living(&self) -> Vec<u32> {
        self.processes().iter().map(|found| found.pid).collect()
    }

    /// The process id of the launcher.
    pub fn launcher_pid(&self) -> u32 {
        self.launcher.pid()
    }

    /// The parent that an orphan gets here: see [`Scenario::reaper`].
    ///
    /// # Panics
    ///
    /// When it cannot be found out.
    pub fn reaper(&self) -> u32 {
        self.scenario.reaper()
    }

    /// The living processes of the case.
    ///
    /// # Panics
    ///
    /// When they cannot be listed.
    pub fn processes(&self) -> Vec<Process> {
        observe::processes_of(&self.token).expect("list processes")
    }

    /// The pid file as it is now.
    ///
    /// # Panics
    ///
    /// When the case has none, or it cannot be read.
    pub fn pid_file(&self) -> Option<PidFile> {
        let path = self.scenario.pid_file_path().expect("the case's pid file");
        PidFile::look(&path).expect("read the pid file")
    }

    /// The processes of the case through whose descriptors a lock on the pid
    /// file is held (Linux).
    ///
    /// # Panics
    ///
    /// When the case has no pid file, or it cannot be found out.
    pub fn lock_holders(&self) -> Vec<u32> {
        let path = self.scenario.pid_file_path().expect("the case's pid file");
        let views = self.processes().into_iter().map(|process| {
            let view = observe::outside(process.pid).expect("observe the process");
            (process.pid, view.descriptors.expect("see its descriptors"))
        });
        views
            .filter(|(_, descriptors)| {
                descriptors
                    .iter()
                    .any(|descriptor| descriptor.locked == Some(true) && descriptor.is_file(&path))
            })
            .map(|(pid, _)| pid)
            .collect()
    }

    /// A process of the case as it is now, from outside.
    ///
    /// # Panics
    ///
    /// When it cannot be observed.
    #[track_caller]
    pub fn outside(&self, pid: u32) -> Report {
        match observe::outside(pid) {
            Ok(report) => report,
            Err(error) => panic!("cannot observe {pid}: {error}\n{}", self.diagnostics()),
        }
    }

    /// Compares the daemon's view of itself with the view from outside, once
    /// the launcher has ended, and returns its own.
    ///
    /// # Panics
    ///
    /// When they differ, listing every difference.
    #[track_caller]
    pub fn assert_views_agree(&self) -> Report {
        self.launcher();
        let inside = self.observe();
        let outside = self.outside(inside.pid);
        let found = observe::differences(&inside, &outside);
        assert!(
            found.is_empty(),
            "inside and outside differ:\n{}\n{}",
            found.join("\n"),
            self.diagnostics()
        );
        inside
    }

    /// Asserts that when the launcher ended, nothing was left of the start:
    /// no process, no lock, no content of the pid file.
    ///
    /// # Panics
    ///
    /// When there was.
    #[track_caller]
    pub fn assert_nothing_left(&self) {
        self.assert_nothing_left_but(&[]);
        self.wait_until_all_ended();
    }

    /// The same, except for these processes, which a closure made.
    ///
    /// # Panics
    ///
    /// When there was anything else.
    #[track_caller]
    pub fn assert_nothing_left_but(&self, excepted: &[u32]) {
        let launcher = self.launcher();
        let left: Vec<_> = launcher
            .living()
            .filter(|process| !excepted.contains(&process.pid))
            .collect();
        assert!(left.is_empty(), "left: {left:?}\n{}", self.diagnostics());
        if let Some(pid_file) = &launcher.pid_file {
            assert!(
                pid_file.bytes.is_empty() && !pid_file.locked,
                "left: {pid_file:?}\n{}",
                self.diagnostics()
            );
        }
    }

    /// Everything there is to tell about the case.
    pub fn diagnostics(&self) -> String {
        let events = self.journal.events();
        let mut text = format!("--- diagnostics of case {} ---\n", self.token);
        for problem in &events.problems {
            let _ = writeln!(text, "problem: {problem}");
        }
        let _ = writeln!(text, "configuration: {:?}", self.scenario.config);
        for frame in &events.frames {
            let _ = writeln!(text, "from {}: {:?}", frame.sender, frame.message);
        }
        let read = |path: &Path| fs::read(path).unwrap_or_default();
        let (stdout, stderr) = match &events.launcher {
            Some(launcher) => {
                let _ = writeln!(text, "launcher: {}", launcher.output.status);
                let _ = writeln!(text, "pid file then: {:?}", launcher.pid_file);
                let _ = writeln!(text, "processes then: {:?}", launcher.processes);
                (
                    launcher.output.stdout.clone(),
                    launcher.output.stderr.clone(),
                )
            }
            None => {
                let _ = writeln!(text, "launcher: {} has not ended", self.launcher_pid());
                (read(&self.stdout), read(&self.stderr))
            }
        };
        let _ = writeln!(text, "stdout: {:?}", String::from_utf8_lossy(&stdout));
        let _ = writeln!(text, "stderr: {:?}", String::from_utf8_lossy(&stderr));
        let _ = writeln!(
            text,
            "processes now: {:?}",
            observe::processes_of(&self.token)
        );
        text
    }

    /// Gives those who end by themselves the time to: most do, and to find
    /// and kill them takes longer.
    fn wait_for_obedient(&self) {
        let deadline = Instant::now() + Duration::from_millis(100);
        let held: Vec<_> = self.journal.events().held.values().cloned().collect();
        for process in held.iter().flatten() {
            if !process.wait(deadline).unwrap_or(false) {
                break;
            }
        }
    }
}

/// Kills the processes of a case until none is left: one that is killed may
/// just have forked.
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
        // What still is of this case, now that it is held, was so before.
        let confirmed = observe::processes_of(token)?;
        handles.retain(|handle| confirmed.iter().any(|found| found.pid == handle.pid()));
        for handle in &handles {
            handle.kill(libc::SIGKILL)?;
        }
        let deadline = Instant::now() + DEADLINE;
        for handle in &handles {
            if !handle.wait(deadline)? {
                return Err(io::ErrorKind::TimedOut.into());
            }
        }
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        // Whoever waits for the harness ends by itself, including one whose
        // environment the harness may not read.
        sys::shut_down(self.control.as_fd());
        self.wait_for_obedient();
        let killed = kill_all(&self.token);
        if killed.is_ok() {
            for thread in self.threads.drain(..) {
                // A panic there has been printed and recorded as nothing.
                let _ = thread.join();
            }
        }
        match killed {
            Err(error) if !thread::panicking() => {
                panic!("cannot clean up: {error}\n{}", self.diagnostics());
            }
            _ => {}
        }
    }
}
