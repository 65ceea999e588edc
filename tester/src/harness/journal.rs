//! The events of a case: listening threads record them, and the test that waits reads them.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read};
use std::path::Path;
use std::process::{Child, ExitStatus, Output};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use assert_cmd::assert::{Assert, OutputAssertExt};

use super::PidFile;
use crate::control::{Frame, Message};
use crate::observe::{self, Process};
use crate::sys::ProcessHandle;

/// The end of the launcher, and the state of the case at that instant.
#[derive(Debug, Clone)]
pub struct Launcher {
    /// The exit status, and the output of the launcher and its children until then.
    pub output: Output,
    /// The pid file, if it exists and the harness may read it.
    pub pid_file: Option<PidFile>,
    /// The processes of the case, and all known former ones that still exist, zombies included.
    pub processes: Vec<Process>,
}

impl Launcher {
    /// Checks of status and output with assert_cmd.
    pub fn assert(&self) -> Assert {
        self.output.clone().assert()
    }

    /// The process with this id, if it existed then.
    pub fn process(&self, pid: u32) -> Option<&Process> {
        self.processes.iter().find(|process| process.pid == pid)
    }

    /// The processes of the case that lived then.
    pub fn living(&self) -> impl Iterator<Item = &Process> {
        self.processes.iter().filter(|process| !process.is_zombie())
    }
}

/// The events so far.
#[derive(Debug, Default)]
pub(super) struct Events {
    pub(super) frames: Vec<Frame>,
    pub(super) launcher: Option<Launcher>,
    /// The known processes of the case; `None` for a process that had ended before it was opened.
    pub(super) handles: BTreeMap<u32, Option<Arc<ProcessHandle>>>,
    /// No process of the case holds the control socket any more.
    pub(super) silent: bool,
    pub(super) problems: Vec<String>,
    /// Whether the launcher's end is to be recorded, too.
    pub(super) awaits_launcher: bool,
}

impl Events {
    /// Whether nothing more can happen.
    pub(super) fn is_over(&self) -> bool {
        self.silent && (self.launcher.is_some() || !self.awaits_launcher)
    }

    /// Opens every process that a message proves to be of the case. When the message comes, most of
    /// these processes still exist. The parent that an orphan gets is not of the case.
    pub(super) fn register(&mut self, frame: &Frame, reaper: u32) {
        let mut pids = vec![frame.sender];
        match &frame.message {
            // The test is the parent of the launcher, and of a closure in the foreground. The
            // parent of any other closure is of the case.
            Message::Observed(report) | Message::Holding(report)
                if ![reaper, std::process::id()].contains(&report.ppid) =>
            {
                pids.push(report.ppid);
            }
            Message::LauncherReturned(result) | Message::Started(result) => {
                pids.push(result.daemon_pid);
            }
            Message::Copied(pid) | Message::Worker(pid) => pids.push(*pid),
            Message::SignalHit(Some(struck)) => pids.push(struck.process),
            _ => {}
        }
        for pid in pids {
            if self.handles.contains_key(&pid) {
                continue;
            }
            match ProcessHandle::open(pid) {
                Ok(handle) => {
                    self.handles.insert(pid, handle.map(Arc::new));
                }
                Err(error) => {
                    let problem = format!("cannot take hold of {pid}: {error}");
                    self.problems.push(problem);
                }
            }
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Journal {
    events: Mutex<Events>,
    pub(super) changed: Condvar,
}

impl Journal {
    /// A thread that panics leaves no event half recorded.
    pub(super) fn events(&self) -> MutexGuard<'_, Events> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn record(&self, change: impl FnOnce(&mut Events)) {
        change(&mut self.events());
        self.changed.notify_all();
    }
}

/// Reads a pipe to its end.
pub(super) fn drain(mut pipe: Box<dyn Read + Send>) -> JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        // The bytes before an error are still of use.
        let _ = pipe.read_to_end(&mut bytes);
        bytes
    })
}

pub(super) fn collect(reader: Option<JoinHandle<Vec<u8>>>, path: &Path) -> Vec<u8> {
    match reader {
        Some(reader) => reader.join().unwrap_or_default(),
        None => fs::read(path).unwrap_or_default(),
    }
}

/// Waits for the launcher. Then reads the pid file at once, as a service manager does, and after it
/// the process table.
pub(super) fn at_the_end(
    child: &mut Child,
    pid_file: Option<&Path>,
    token: &str,
    journal: &Journal,
) -> io::Result<(ExitStatus, Option<PidFile>, Vec<Process>)> {
    let status = child.wait()?;
    let pid_file = match pid_file {
        Some(path) => match PidFile::look(path) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => None,
            seen => seen?,
        },
        None => None,
    };
    let known: Vec<u32> = journal.events().handles.keys().copied().collect();
    let mut processes = Vec::new();
    for pid in known.into_iter().filter(|&pid| pid != child.id()) {
        processes.extend(observe::process(pid)?);
    }
    for process in observe::processes_of(token)? {
        if processes.iter().all(|known| known.pid != process.pid) {
            processes.push(process);
        }
    }
    Ok((status, pid_file, processes))
}
