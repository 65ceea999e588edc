//! A start seen through from its beginning to its end, by itself and at
//! little cost: what the oracle is compared with.
//!
//! Other than [`Run`](super::Run) this searches no process table. Every
//! process of a case holds the control socket, so that its end of file
//! proves that nobody is left.

use std::fs::{self, File};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::sync::mpsc::{self, Receiver as Incoming};
use std::sync::{OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::run::{SPAWNING, next_number, token};
use super::{Files, PidFile, Scenario, slowness};
use crate::config::{Life, ReadinessUse, Step};
use crate::control::{self, Command as Told, Frame, Message, Receiver};
use crate::report::{Place, Report, StartError};
use crate::suite::Need;
use crate::sys::{self, ProcessHandle};
use crate::{observe, wire};

/// What came of a start.
#[derive(Debug)]
pub struct Outcome {
    /// The launcher's process id.
    pub launcher: u32,
    /// The parent that an orphan gets here.
    pub reaper: u32,
    /// The launcher's exit status.
    pub status: ExitStatus,
    /// What was written to the launcher's standard output.
    pub stdout: String,
    /// What was written to its standard error.
    pub stderr: String,
    /// These two files.
    pub output_files: [Place; 2],
    /// All messages.
    pub frames: Vec<Frame>,
    /// The pid file, if there is one, when the launcher had ended or, in the
    /// foreground, when the start was over. `None` if it may not be looked at.
    pub pid_file: Option<Option<PidFile>>,
    /// Where it is to be.
    pub pid_file_path: Option<PathBuf>,
    /// Its identity, if that could be seen.
    pub pid_file_place: Option<Place>,
    /// The same when all processes had ended.
    pub pid_file_at_end: Option<Option<PidFile>>,
    /// What was in the case's folder by then.
    pub files: Files,
    /// Whether there was no process any more when the launcher had ended.
    pub nobody_left: bool,
    /// Whether there still was an intermediate by then, if there was a daemon.
    pub intermediate_left: Option<bool>,
    /// In what the daemon's last report differed from how it looked to the
    /// harness.
    pub differences: Option<Vec<String>>,
    /// What a service manager was told, line by line, where the case has one.
    pub notifications: Vec<String>,
    /// What kept the case from its end.
    pub trouble: Option<String>,
}

impl Outcome {
    /// The launcher right before the start.
    pub fn initial(&self) -> Option<&Report> {
        self.frames.iter().find_map(|frame| match &frame.message {
            Message::Initial(report) => Some(report),
            _ => None,
        })
    }

    /// The daemon's process id, if it has said anything.
    pub fn daemon(&self) -> Option<u32> {
        self.frames.iter().find_map(|frame| match &frame.message {
            Message::Observed(_) | Message::Daemon(_) => Some(frame.sender),
            _ => None,
        })
    }

    /// The errors in such messages, and who sent them.
    pub fn failures_of(
        &self,
        select: impl Fn(&Message) -> Option<&StartError>,
    ) -> Vec<(u32, &StartError)> {
        let frames = self.frames.iter();
        frames
            .filter_map(|frame| Some((frame.sender, select(&frame.message)?)))
            .collect()
    }
}

/// A start on its way.
struct Observer<'a> {
    scenario: &'a Scenario,
    control: OwnedFd,
    incoming: Incoming<Frame>,
    frames: Vec<Frame>,
    is_silent: bool,
    deadline: Instant,
}

impl Scenario {
    /// Starts the tester, waits for whatever comes of it, and ends it.
    ///
    /// # Panics
    ///
    /// When the tester cannot be started.
    pub fn outcome(&self) -> Outcome {
        let number = next_number();
        let token = token(number);
        let in_folder = |name: &str| self.path(format!("{name}.{number}"));
        let (config, stdout, stderr) = (in_folder("config"), in_folder("out"), in_folder("err"));
        fs::write(&config, wire::encode(&self.config)).expect("write the configuration");
        let mut command = Command::new(&self.binary);
        command
            .args(&self.arguments)
            .current_dir(self.directory())
            .stdin(File::open(&config).expect("open the configuration"))
            .stdout(File::create(&stdout).expect("create the output file"))
            .stderr(File::create(&stderr).expect("create the error file"))
            .env_remove("NOTIFY_SOCKET")
            .env_remove("SYSTEMD_EXEC_PID")
            // It takes a debug build a tenth of a second, and is no part of
            // what a panic says.
            .env_remove("RUST_BACKTRACE")
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .env(control::TOKEN, &token);
        let reaper = self.reaper();
        let spawning = SPAWNING.lock().unwrap_or_else(PoisonError::into_inner);
        let (ours, testers) = sys::socket_pair().expect("create the control socket");
        // Inherited, not passed on by a closure, with which a start would copy
        // all of this process's memory first.
        let testers = sys::move_descriptor(testers, control::CONTROL, false)
            .expect("give the control socket its number");
        let child = command.spawn().expect("start the tester");
        sys::reserve_number(testers).expect("keep the control socket's number");
        drop(spawning);

        let (sender, incoming) = mpsc::channel();
        let received = ours.try_clone().expect("copy the control socket");
        thread::spawn(move || {
            let mut receiver = Receiver::new(received.as_fd());
            while let Ok(Some(frame)) = receiver.frame() {
                if sender.send(frame).is_err() {
                    break;
                }
            }
        });
        let mut observer = Observer {
            scenario: self,
            control: ours,
            incoming,
            frames: Vec::new(),
            is_silent: false,
            deadline: Instant::now() + self.deadline * slowness(),
        };
        let launcher = child.id();
        let seen = observer.see_through(child, &token);
        let read =
            |path: &Path| String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned();
        let output_files =
            [&stdout, &stderr].map(|path| Place::of(path).expect("the output files are there"));
        let (stdout_text, stderr_text) = (read(&stdout), read(&stderr));
        // The harness's own.
        for path in [config, stdout, stderr] {
            fs::remove_file(path).expect("remove a file");
        }
        let place = (seen.pid_file.as_ref()).and_then(|file| Some(file.as_ref()?.place.clone()));
        Outcome {
            launcher,
            reaper,
            status: seen.status,
            stdout: stdout_text,
            stderr: stderr_text,
            output_files,
            pid_file_at_end: observer.look(),
            frames: observer.frames,
            pid_file: seen.pid_file,
            pid_file_path: self.pid_file_path(),
            pid_file_place: place,
            files: Files::look(self.directory(), self.pid_file_path().as_deref()),
            nobody_left: seen.nobody_left,
            intermediate_left: seen.intermediate_left,
            differences: seen.differences,
            notifications: Vec::new(),
            trouble: seen.trouble,
        }
    }
}

/// What an observer has seen, besides what was said.
struct Seen {
    status: ExitStatus,
    pid_file: Option<Option<PidFile>>,
    nobody_left: bool,
    intermediate_left: Option<bool>,
    differences: Option<Vec<String>>,
    trouble: Option<String>,
}

impl Observer<'_> {
    fn see_through(&mut self, mut child: Child, token: &str) -> Seen {
        let config = &self.scenario.config;
        let is_foreground = self.scenario.is_foreground();
        let lives_on = config.life == Life::UntilTold;
        let mut trouble = None;

        if !is_foreground {
            trouble = trouble.or(self.wait_for(&child).err());
        }
        // A service manager would look now.
        let mut pid_file = self.look();
        let nobody_left = sys::is_hung_up(self.control.as_fd());
        let is_settled = self.collect_until_settled();
        if is_foreground {
            pid_file = self.look();
            // The tester's end of the control socket is still open for a tracer.
            if is_settled && !lives_on {
                trouble = trouble.or(self.wait_for(&child).err());
            }
        }
        let mut intermediate_left = None;
        let mut differences = None;
        if is_settled && lives_on {
            // By now it is somebody else's child.
            let _ = control::command(self.control.as_fd(), &Told::Observe);
            self.collect_until(|frames| frames.last().is_some_and(|frame| now(frame).is_some()));
            if let Some(inside) = self.frames.last().and_then(now) {
                // While there is a member of a group, no other process gets the
                // number of its first one.
                intermediate_left = (!is_foreground).then(|| exists(inside.pgid));
                differences = may_look().then(|| match observe::outside(inside.pid) {
                    Ok(outside) => observe::differences(inside, &outside),
                    Err(error) => vec![error.to_string()],
                });
            }
        }
        let daemon = match is_settled {
            true => self.frames.last().map(|frame| frame.sender),
            false => None,
        };
        let daemon = daemon.and_then(|pid| ProcessHandle::open(pid).ok().flatten());
        if is_settled && config.guard_pid_file {
            let _ = control::command(self.control.as_fd(), &Told::Exit(0));
            self.collect_until(|_| false);
        }
        sys::shut_down(self.control.as_fd());
        self.collect_until(|_| false);
        // A process lets go of its control socket before it does of its lock.
        if let Some(daemon) = daemon.filter(|_| !is_foreground) {
            let _ = daemon.wait(self.deadline);
        }
        if is_foreground {
            trouble = trouble.or(self.wait_for(&child).err());
            if !is_settled {
                pid_file = self.look();
            }
        }
        if !self.is_silent {
            trouble.get_or_insert_with(|| "processes are left".to_owned());
        }
        if trouble.is_some() {
            let left = end_all(token);
            trouble = trouble.map(|trouble| format!("{trouble}: {left}"));
        }
        let status = child.wait().unwrap_or_else(|_| ExitStatus::from_raw(-1));
        Seen {
            status,
            pid_file,
            nobody_left,
            intermediate_left,
            differences,
            trouble,
        }
    }

    fn wait_for(&self, child: &Child) -> Result<(), String> {
        match ProcessHandle::open(child.id()) {
            Ok(Some(process)) => match process.wait(self.deadline) {
                Ok(true) => Ok(()),
                Ok(false) => Err("the launcher does not end".to_owned()),
                Err(error) => Err(error.to_string()),
            },
            Ok(None) => Ok(()),
            Err(error) => Err(error.to_string()),
        }
    }

    fn look(&self) -> Option<Option<PidFile>> {
        match self.scenario.pid_file_path() {
            Some(path) => PidFile::look(&path).ok(),
            None => Some(None),
        }
    }

    /// Waits for all that a daemon has to say of itself, or for the end. One
    /// that is not going to be ready ends by itself.
    fn collect_until_settled(&mut self) -> bool {
        let config = &self.scenario.config;
        let closures = (config.privileged_action.iter().flatten())
            .chain(
                config
                    .try_privileged_action
                    .iter()
                    .flat_map(|one| &one.steps),
            )
            .chain(config.initialize.iter().flat_map(|one| &one.steps));
        let has_parts = closures
            .into_iter()
            .any(|step| matches!(step, Step::Add(_)));
        let usage = (config.deferred_readiness.as_ref()).map(|deferral| &deferral.usage);
        let is_ready_later = usage == Some(&ReadinessUse::Ready);
        let is_never_ready = usage.is_some() && !is_ready_later;
        self.collect_until(|frames| {
            let has = |is: fn(&Message) -> bool| frames.iter().any(|frame| is(&frame.message));
            !is_never_ready
                && has(|message| matches!(message, Message::Daemon(_)))
                && (!is_ready_later || has(is_answered))
                && (!has_parts || has(|message| matches!(message, Message::Result(_))))
        })
    }

    /// False if the end came first.
    fn collect_until(&mut self, is_enough: impl Fn(&[Frame]) -> bool) -> bool {
        while !is_enough(&self.frames) {
            let left = self.deadline.saturating_duration_since(Instant::now());
            match self.incoming.recv_timeout(left) {
                Ok(frame) => self.frames.push(frame),
                Err(mpsc::RecvTimeoutError::Disconnected) => {
                    self.is_silent = true;
                    return false;
                }
                Err(mpsc::RecvTimeoutError::Timeout) => return false,
            }
        }
        true
    }
}

/// Whether this is what became of a report of readiness.
fn is_answered(message: &Message) -> bool {
    matches!(message, Message::Acknowledged | Message::NotAcknowledged(_))
}

fn now(frame: &Frame) -> Option<&Report> {
    match &frame.message {
        Message::Now(report) => Some(report),
        _ => None,
    }
}

/// Whether the harness may look into a daemon: an ordinary user's is its own,
/// but a container may withhold that from its root.
fn may_look() -> bool {
    static MAY_LOOK: OnceLock<bool> = OnceLock::new();
    *MAY_LOOK.get_or_init(|| {
        let is_linux = cfg!(target_os = "linux");
        !is_linux || sys::effective_user() != 0 || Need::Tracing.unmet().is_none()
    })
}

/// Whether there is such a process, be it a zombie.
fn exists(pid: u32) -> bool {
    match sys::kill(pid, 0) {
        Ok(()) => true,
        Err(error) => error.raw_os_error() != Some(libc::ESRCH),
    }
}

/// Kills what is left of a case, and says what that was.
fn end_all(token: &str) -> String {
    let mut diagnostics = Vec::new();
    for _ in 0..8 {
        let found = observe::processes_of(token).unwrap_or_default();
        if found.is_empty() {
            break;
        }
        for process in found {
            let handle = ProcessHandle::open(process.pid).ok().flatten();
            let confirmed = observe::processes_of(token).unwrap_or_default();
            if let Some(handle) = handle.filter(|_| confirmed.contains(&process)) {
                let _ = handle.kill(libc::SIGKILL);
                let _ = handle.wait(Instant::now() + Duration::from_secs(5));
            }
            diagnostics.push(process);
        }
    }
    format!("{diagnostics:?}")
}
