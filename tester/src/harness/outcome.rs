//! A start from its beginning to its end, at little cost. The prediction is compared with its
//! outcome.
//!
//! Unlike [`Run`](super::Run), it does not search the process table. Every process of a case has
//! the control socket, so its end of file proves that no process is left.

use std::fs;
use std::mem;
use std::os::fd::AsFd;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, ExitStatus};
use std::sync::OnceLock;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::case::{Case, Handover, kill_all, read_text};
use super::{Files, PidFile, Scenario};
use crate::config::{Entry, Life, ReadinessUse, Step};
use crate::control::{self, Command, Frame, Message};
use crate::observe;
use crate::report::{Place, Report};
use crate::select;
use crate::slowness::scaled;
use crate::suite::Need;
use crate::sys::{self, ProcessHandle};

#[derive(Debug)]
pub struct Outcome {
    pub launcher: u32,
    /// The process that becomes the parent of an orphan.
    pub reaper: u32,
    pub status: ExitStatus,
    /// The text on the standard output of the launcher.
    pub stdout: String,
    /// The text on its standard error.
    pub stderr: String,
    /// The files that were standard output and error.
    pub output_files: [Place; 2],
    pub frames: Vec<Frame>,
    /// The pid file, if it exists, when the launcher had ended or, in the foreground, when the
    /// start was over. `None` if the harness may not read it.
    pub pid_file: Option<Option<PidFile>>,
    pub pid_file_path: Option<PathBuf>,
    /// Device and inode of the pid file, if they could be read.
    pub pid_file_place: Option<Place>,
    /// The pid file when all processes had ended.
    pub pid_file_at_end: Option<Option<PidFile>>,
    /// The files in the directory of the case by then.
    pub files: Files,
    /// Whether no process was left when the launcher had ended.
    pub nobody_left: bool,
    /// Whether an intermediate was left by then, if a daemon was.
    pub intermediate_left: Option<bool>,
    /// The differences between the last report of the daemon and the view of the harness.
    pub differences: Option<Vec<String>>,
    /// The lines that the service manager of the case received.
    pub notifications: Vec<String>,
    /// The reason why the case did not end.
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

    /// The process id of the daemon, if it has sent a message.
    pub fn daemon(&self) -> Option<u32> {
        self.frames.iter().find_map(|frame| match &frame.message {
            Message::Observed(_) | Message::Daemon(_) => Some(frame.sender),
            _ => None,
        })
    }
}

impl Scenario {
    /// Starts the tester, waits for the outcome, and ends the case.
    pub fn outcome(&self) -> Outcome {
        let other = self
            .pid_file_path()
            .and_then(|path| PidFile::look(&path).ok()?);
        let (case, child, listener) = Case::start(self, Handover::Inherited);
        case.observe(child, listener, other.filter(|file| file.locked))
    }
}

impl Case {
    /// `other` is a pid file that a process outside of the case holds.
    fn observe(
        &self,
        mut child: Child,
        listener: JoinHandle<()>,
        other: Option<PidFile>,
    ) -> Outcome {
        let scenario = &self.scenario;
        let config = &scenario.config;
        let is_foreground = scenario.is_foreground();
        let lives_on = config.life == Life::UntilCommand;
        let mut trouble = None;

        if !is_foreground {
            trouble = trouble.or(self.wait_for(&child).err());
        }
        // A service manager would look now.
        let mut pid_file = self.pid_file();
        let nobody_left = sys::is_hung_up(self.control.as_fd());
        let daemon = self.wait_until_settled();
        if is_foreground {
            pid_file = self.pid_file();
            // A tracer still has the tester's end of the control socket.
            if daemon.is_some() && !lives_on {
                trouble = trouble.or(self.wait_for(&child).err());
            }
        }
        let mut intermediate_left = None;
        let mut differences = None;
        if daemon.is_some() && lives_on {
            // By now another process is the parent of the daemon.
            self.send(&Command::Observe);
            let now = |frame: &Frame| select!(Now)(&frame.message);
            if let Ok(inside) = self.wait(|events| events.frames.iter().find_map(now)) {
                // While a process group has a member, no other process gets the id of its leader.
                intermediate_left = (!is_foreground)
                    .then(|| !is_reaped_by(inside.pgid, scenario.reaper()) && exists(inside.pgid));
                differences = may_look().then(|| match observe::outside(inside.pid) {
                    Ok(outside) => observe::differences(&inside, &outside),
                    Err(error) => vec![error.to_string()],
                });
            }
        }
        let handle = daemon.and_then(|pid| ProcessHandle::open(pid).ok().flatten());
        if daemon.is_some() && config.guard_pid_file {
            self.send(&Command::Exit(0));
            self.wait_until_all_ended();
        }
        sys::shut_down(self.control.as_fd());
        self.wait_until_all_ended();
        // A process closes its control socket before the file that it has locked.
        if let Some(daemon) = handle.filter(|_| !is_foreground) {
            let _ = daemon.wait(self.deadline);
        }
        if is_foreground {
            trouble = trouble.or(self.wait_for(&child).err());
            if daemon.is_none() {
                pid_file = self.pid_file();
            }
        }
        let mut events = self.journal.events();
        if !events.silent {
            trouble.get_or_insert_with(|| format!("processes are left {:?}", events.problems));
        }
        let frames = mem::take(&mut events.frames);
        drop(events);
        match &mut trouble {
            None => listener.join().expect("the listener does not panic"),
            Some(trouble) => {
                let left = observe::processes_of(&self.token);
                let killed = kill_all(&self.token);
                *trouble = format!("{trouble}: {left:?} {killed:?}");
            }
        }
        let outputs = [&self.stdout, &self.stderr];
        let output_files = outputs.map(|path| Place::of(path).expect("the output files are there"));
        let [stdout, stderr] = outputs.map(|path| read_text(path));
        // The harness has made these files.
        for path in [&self.config, &self.stdout, &self.stderr] {
            fs::remove_file(path).expect("remove a file");
        }
        let has_killed = |frame: &Frame| matches!(frame.message, Message::SignalHit(Some(_)));
        let pid_file_at_end = match frames.iter().any(has_killed) {
            true => self.pid_file_after_kill(other.map(|file| file.place)),
            false => self.pid_file(),
        };
        let pid_file_path = scenario.pid_file_path();
        Outcome {
            launcher: child.id(),
            reaper: scenario.reaper(),
            status: child.wait().unwrap_or_else(|_| ExitStatus::from_raw(-1)),
            stdout,
            stderr,
            output_files,
            frames,
            pid_file_place: (pid_file.as_ref()).and_then(|file| Some(file.as_ref()?.place.clone())),
            pid_file,
            pid_file_at_end,
            files: Files::look(scenario.directory(), pid_file_path.as_deref()),
            pid_file_path,
            nobody_left,
            intermediate_left,
            differences,
            notifications: Vec::new(),
            trouble,
        }
    }

    fn wait_for(&self, child: &Child) -> Result<(), String> {
        let process = ProcessHandle::open(child.id()).map_err(|error| error.to_string())?;
        match process.map(|process| process.wait(self.deadline)) {
            None | Some(Ok(true)) => Ok(()),
            Some(Ok(false)) => Err("the launcher does not end".to_owned()),
            Some(Err(error)) => Err(error.to_string()),
        }
    }

    fn wait_until_all_ended(&self) {
        // The journal tells why the wait is over.
        let _ = self.wait(|_| None::<()>);
    }

    /// An error means that no process is left to get the command.
    fn send(&self, command: &Command) {
        let _ = control::command(self.control.as_fd(), command);
    }

    fn pid_file(&self) -> Option<Option<PidFile>> {
        match self.scenario.pid_file_path() {
            Some(path) => PidFile::look(&path).ok(),
            None => Some(None),
        }
    }

    /// A process that is killed closes its control socket before the file that it has locked. No
    /// handle is known if it was killed before it could report. The lock of the process that
    /// holds the file at `other` stays.
    fn pid_file_after_kill(&self, other: Option<Place>) -> Option<Option<PidFile>> {
        let deadline = Instant::now() + scaled(Duration::from_secs(1));
        let is_of_case = |file: &PidFile| file.locked && Some(&file.place) != other.as_ref();
        loop {
            let pid_file = self.pid_file();
            let found = pid_file.as_ref().and_then(Option::as_ref);
            if !found.is_some_and(is_of_case) || Instant::now() >= deadline {
                return pid_file;
            }
            thread::yield_now();
        }
    }

    /// Waits for all messages of a daemon that has started, and returns its process id; `None` if
    /// the case ends without such a daemon. A daemon that never becomes ready ends by itself.
    fn wait_until_settled(&self) -> Option<u32> {
        let config = &self.scenario.config;
        let fallible = config
            .try_privileged_action
            .iter()
            .chain(&config.initialize);
        let steps = (config.privileged_action.iter().flatten())
            .chain(fallible.flat_map(|closure| &closure.steps));
        let has_parts = steps.into_iter().any(|step| matches!(step, Step::Add(_)));
        let usage = (config.deferred_readiness.as_ref()).map(|deferral| &deferral.usage);
        let is_ready_later = usage == Some(&ReadinessUse::Ready);
        let is_never_ready = usage.is_some() && !is_ready_later;
        let settled = self.wait(|events| {
            let has = |is: fn(&Message) -> bool| {
                let mut frames = events.frames.iter();
                frames
                    .find(|frame| is(&frame.message))
                    .map(|frame| frame.sender)
            };
            let is_settled = !is_never_ready
                && (!is_ready_later || has(is_answered).is_some())
                && (!has_parts || has(|message| matches!(message, Message::Result(_))).is_some());
            has(|message| matches!(message, Message::Daemon(_))).filter(|_| is_settled)
        });
        let daemon = settled.ok()?;
        (config.entry != Entry::Spawn || self.is_let_go(daemon)).then_some(daemon)
    }

    /// Waits for the end of the intermediate, and returns whether it has left the daemon alive. A
    /// program may send its messages before it is started.
    fn is_let_go(&self, daemon: u32) -> bool {
        let group = self.wait(|events| {
            let mut frames = events.frames.iter();
            frames.find_map(|frame| Some(select!(Daemon)(&frame.message)?.pgid))
        });
        // While a process group has a member, no other process gets the id of its leader.
        let Ok(intermediate) = group else {
            return false;
        };
        let deadline = Instant::now() + self.scenario.deadline;
        while exists(intermediate) && Instant::now() < deadline {
            thread::yield_now();
        }
        exists(daemon)
    }
}

/// Whether the message is the result of a report of readiness.
fn is_answered(message: &Message) -> bool {
    matches!(message, Message::Acknowledged | Message::NotAcknowledged(_))
}

/// Whether the harness may observe a daemon. An ordinary user may observe its own; a container may
/// withhold the right from its root.
fn may_look() -> bool {
    static MAY_LOOK: OnceLock<bool> = OnceLock::new();
    *MAY_LOOK.get_or_init(|| sys::effective_user() != 0 || Need::Tracing.unmet().is_none())
}

/// Whether the process has ended, and its reaper will reap it. FreeBSD gives the child of a parent
/// that ignores SIGCHLD to the reaper when the child ends (sys/kern/kern_exit.c, `exit1`).
fn is_reaped_by(pid: u32, reaper: u32) -> bool {
    let process = observe::process(pid).ok().flatten();
    process.is_some_and(|process| process.is_zombie() && process.ppid == reaper)
}

/// Whether the process exists, zombies included.
fn exists(pid: u32) -> bool {
    match sys::kill(pid, 0) {
        Ok(()) => true,
        Err(error) => error.raw_os_error() != Some(libc::ESRCH),
    }
}
