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

use super::case::{Case, Handover, read_text};
use super::kill::kill_all;
use super::{Files, PidFile, Scenario};
use crate::config::{Life, ReadinessUse, Step};
use crate::control::{self, Command, Frame, Message};
use crate::observe;
use crate::report::{Place, Report, StartError};
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

    /// The errors in the selected messages, with their senders.
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

impl Scenario {
    /// Starts the tester, waits for the outcome, and ends the case.
    pub fn outcome(&self) -> Outcome {
        let (case, child, listener) = Case::start(self, Handover::Inherited);
        let launcher = child.id();
        let observer = Observer { case };
        let seen = observer.see_through(child);
        let case = &observer.case;
        let outputs = [&case.stdout, &case.stderr];
        let output_files = outputs.map(|path| Place::of(path).expect("the output files are there"));
        let [stdout, stderr] = outputs.map(|path| read_text(path));
        // The harness has made these files.
        for path in [&case.config, &case.stdout, &case.stderr] {
            fs::remove_file(path).expect("remove a file");
        }
        let place = (seen.pid_file.as_ref()).and_then(|file| Some(file.as_ref()?.place.clone()));
        if seen.trouble.is_none() {
            listener.join().expect("the listener does not panic");
        }
        let frames = mem::take(&mut case.journal.events().frames);
        Outcome {
            launcher,
            reaper: self.reaper(),
            status: seen.status,
            stdout,
            stderr,
            output_files,
            pid_file_at_end: observer.look(),
            frames,
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

/// Waits for the events of a start.
struct Observer {
    case: Case,
}

/// The views of an observer, beside the messages.
struct Seen {
    status: ExitStatus,
    pid_file: Option<Option<PidFile>>,
    nobody_left: bool,
    intermediate_left: Option<bool>,
    differences: Option<Vec<String>>,
    trouble: Option<String>,
}

impl Observer {
    fn see_through(&self, mut child: Child) -> Seen {
        let scenario = &self.case.scenario;
        let config = &scenario.config;
        let is_foreground = scenario.is_foreground();
        let mut trouble = None;

        if !is_foreground {
            trouble = trouble.or(self.wait_for(&child).err());
        }
        // A service manager would look now.
        let mut pid_file = self.look();
        let nobody_left = sys::is_hung_up(self.case.control.as_fd());
        let daemon = self.wait_until_settled();
        if is_foreground {
            pid_file = self.look();
            // A tracer still has the tester's end of the control socket.
            if daemon.is_some() && config.life != Life::UntilTold {
                trouble = trouble.or(self.wait_for(&child).err());
            }
        }
        let mut intermediate_left = None;
        let mut differences = None;
        if daemon.is_some() && config.life == Life::UntilTold {
            // By now another process is the parent of the daemon.
            self.send(&Command::Observe);
            if let Ok(inside) = self.case.wait(|events| events.frames.iter().find_map(now)) {
                // While a process group has a member, no other process gets the id of its leader.
                intermediate_left = (!is_foreground).then(|| exists(inside.pgid));
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
        sys::shut_down(self.case.control.as_fd());
        self.wait_until_all_ended();
        // A process closes its control socket before the file that it has locked.
        if let Some(daemon) = handle.filter(|_| !is_foreground) {
            let _ = daemon.wait(self.case.deadline);
        }
        if is_foreground {
            trouble = trouble.or(self.wait_for(&child).err());
            if daemon.is_none() {
                pid_file = self.look();
            }
        }
        let events = self.case.journal.events();
        if !events.silent {
            trouble.get_or_insert_with(|| format!("processes are left {:?}", events.problems));
        }
        drop(events);
        if let Some(trouble) = &mut trouble {
            let left = observe::processes_of(&self.case.token);
            let killed = kill_all(&self.case.token);
            *trouble = format!("{trouble}: {left:?} {killed:?}");
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
        let process = ProcessHandle::open(child.id()).map_err(|error| error.to_string())?;
        match process.map(|process| process.wait(self.case.deadline)) {
            None | Some(Ok(true)) => Ok(()),
            Some(Ok(false)) => Err("the launcher does not end".to_owned()),
            Some(Err(error)) => Err(error.to_string()),
        }
    }

    fn wait_until_all_ended(&self) {
        // The journal tells why the wait is over.
        let _ = self.case.wait(|_| None::<()>);
    }

    /// An error means that no process is left to get the command.
    fn send(&self, command: &Command) {
        let _ = control::command(self.case.control.as_fd(), command);
    }

    fn look(&self) -> Option<Option<PidFile>> {
        match self.case.scenario.pid_file_path() {
            Some(path) => PidFile::look(&path).ok(),
            None => Some(None),
        }
    }

    /// Waits for all messages of a daemon that has started, and returns its process id; `None` if
    /// the case ends without such a daemon. A daemon that never becomes ready ends by itself.
    fn wait_until_settled(&self) -> Option<u32> {
        let config = &self.case.scenario.config;
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
        let settled = self.case.wait(|events| {
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
        settled.ok()
    }
}

/// Whether the message is the result of a report of readiness.
fn is_answered(message: &Message) -> bool {
    matches!(message, Message::Acknowledged | Message::NotAcknowledged(_))
}

fn now(frame: &Frame) -> Option<Report> {
    match &frame.message {
        Message::Now(report) => Some(report.clone()),
        _ => None,
    }
}

/// Whether the harness may observe a daemon. An ordinary user may observe its own; a container may
/// withhold the right from its root.
fn may_look() -> bool {
    static MAY_LOOK: OnceLock<bool> = OnceLock::new();
    *MAY_LOOK.get_or_init(|| {
        let is_linux = cfg!(target_os = "linux");
        !is_linux || sys::effective_user() != 0 || Need::Tracing.unmet().is_none()
    })
}

/// Whether the process exists, zombies included.
fn exists(pid: u32) -> bool {
    match sys::kill(pid, 0) {
        Ok(()) => true,
        Err(error) => error.raw_os_error() != Some(libc::ESRCH),
    }
}
