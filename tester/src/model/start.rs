//! A start that is under way.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::ExitStatus;

use super::credentials::Credentials;
use super::failure::{Failure, error_text};
use super::initial_files::InitialFiles;
use crate::config::{Bytes, Config, Fallible, Options, Step, Stream};
use crate::harness::Files;
use crate::report::{Descriptor, Place, Report};
use crate::texts::{INSTEAD_OF_EXITING, NO_MESSAGES, of_panic};

/// The parent of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Parent {
    /// The process that started the tester.
    Unchanged,
    /// The intermediate, which leads the daemon's session.
    Intermediate,
    /// The launcher, which orphans fall to.
    Launcher,
    /// The reaper of orphans.
    Reaper,
}

/// A descriptor whose number the kernel chooses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Opened {
    /// For reading; the descriptor holds the lock.
    PidFile,
    /// The same file, which becomes the pid file when the start is committed.
    SuccessorPidFile,
    /// The same as [`PidFile`](Self::PidFile), left open by execve(2).
    PidFileOfProgram,
    /// To which a program reports that it is ready.
    NotifySocket,
    /// For writing, in the foreground, until the pid is written.
    WritablePidFile,
    Channel,
}

/// An expected report. The process ids in it are not known yet.
#[derive(Debug, Clone)]
pub(crate) struct Expected {
    pub(crate) moment: &'static str,
    pub(crate) report: Report,
    /// The possible parents, while the parent changes.
    pub(crate) parents: Vec<Parent>,
    pub(crate) opened: Vec<Opened>,
    /// What the kept streams become, at numbers that the kernel chooses.
    pub(crate) pending: Vec<Descriptor>,
}

impl Expected {
    /// Whether the launcher sends the report.
    pub(crate) fn is_of_launcher(&self) -> bool {
        self.parents == [Parent::Unchanged]
    }
}

/// A text that is written to a descriptor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Written {
    Text(String),
    /// What Rust prints when it panics with this text.
    Panic(String),
}

impl Written {
    /// The rest of a text that begins with this one.
    pub(crate) fn strip_from<'a>(&self, text: &'a str) -> Option<&'a str> {
        match self {
            Self::Text(must) => text.strip_prefix(must),
            Self::Panic(must) => {
                // The first line names the thread and the place in the source. Only the first panic
                // has the last line, about backtraces.
                let text = text.strip_prefix('\n').unwrap_or(text);
                let (head, rest) = text.strip_prefix("thread '")?.split_once('\n')?;
                let rest = rest.strip_prefix(must)?.strip_prefix('\n')?;
                let note = "note: run with `RUST_BACKTRACE=1` ";
                let after_note =
                    (rest.strip_prefix(note)).and_then(|note| Some(note.split_once('\n')?.1));
                head.contains(" panicked at ")
                    .then(|| after_note.unwrap_or(rest))
            }
        }
    }
}

/// The process whose start fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd)]
pub(crate) enum Side {
    /// The launcher, before it forks.
    Launcher,
    /// The daemon, in the library.
    Daemon,
    /// The daemon, which a closure or the library has ended.
    Gone,
    /// The daemon, after the library has returned.
    Returned,
}

/// The expected file at the path of the pid file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ExpectedPidFile {
    pub(crate) bytes: Vec<u8>,
    pub(crate) is_pid: bool,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) place: Option<Place>,
    pub(crate) locked: bool,
}

/// A directory that the start has created, or has given to the daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ExpectedDirectory {
    pub(crate) path: PathBuf,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

/// A file that a start creates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NewFile {
    pub(crate) path: PathBuf,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

impl NewFile {
    /// Stands for the device and inode of a new file, until these are known. No file has them.
    pub(crate) fn identity(number: usize) -> (u64, u64) {
        (u64::MAX, number as u64)
    }
}

/// Everything that a start must do.
#[derive(Debug, Clone)]
pub struct Prediction {
    pub(crate) is_foreground: bool,
    pub(crate) failure: Option<(Failure, Side)>,
    pub(crate) reports: Vec<Expected>,
    pub(crate) parts: Vec<String>,
    /// The launcher and a failed daemon, after the library has returned there.
    pub(crate) afterwards: Vec<Expected>,
    /// Further messages, with the role of the sender.
    pub(crate) messages: Vec<String>,
    /// The payload of the report.
    pub(crate) payload: Bytes,
    /// Whether the closure of `on_started` panics.
    pub(crate) launcher_panics: bool,
    /// The lines that the service manager receives, without the process id of the daemon.
    pub(crate) notified: &'static [&'static str],
    pub(crate) pid_file: Option<ExpectedPidFile>,
    pub(crate) directories: Vec<ExpectedDirectory>,
    pub(crate) is_pid_file_hidden: bool,
    /// Whether the daemon removes the pid file at its end.
    pub(crate) is_pid_file_removed: bool,
    /// Whether the library opens the pid file, and may change it.
    pub(crate) is_pid_file_opened: bool,
    pub(crate) is_upgrade: bool,
    /// Whether another process has locked the pid file.
    pub(crate) is_pid_file_held: bool,
    /// The texts that are written, each with its descriptor.
    pub(crate) writes: Vec<(Descriptor, Written)>,
    /// The files in the directory of the case before the start.
    pub(crate) files: Files,
    pub(crate) new_files: Vec<NewFile>,
}

impl Prediction {
    /// Whether the start succeeds.
    pub fn succeeds(&self) -> bool {
        self.failure.is_none()
    }
}

/// A start that is under way.
pub(crate) struct Start<'a> {
    pub(crate) config: &'a Config,
    pub(crate) before: &'a Report,
    pub(crate) options: &'a Options,
    pub(crate) initial_files: &'a InitialFiles<'a>,
    /// The process that is or becomes the daemon.
    pub(crate) process: Report,
    /// The credentials of the process: at first those of the caller.
    pub(crate) credentials: Credentials,
    pub(crate) parents: Vec<Parent>,
    pub(crate) opened: Vec<Opened>,
    /// What each stream becomes when the daemon is ready.
    pub(crate) pending: [Option<Descriptor>; 3],
    pub(crate) side: Side,
    pub(crate) pid_file: Option<ExpectedPidFile>,
    pub(crate) directories: Vec<ExpectedDirectory>,
    pub(crate) new_owner: Option<u32>,
    pub(crate) new_group: Option<u32>,
    /// The variables of the daemon's user.
    pub(crate) user_environment: Vec<(&'static str, String)>,
    pub(crate) reports: Vec<Expected>,
    pub(crate) parts: Vec<String>,
    pub(crate) messages: Vec<String>,
    pub(crate) writes: Vec<(Descriptor, Written)>,
    pub(crate) new_files: Vec<NewFile>,
    pub(crate) is_redirected: bool,
    /// Whether the privileged action has begun.
    pub(crate) has_acted: bool,
    /// Whether the result of the action reports its drop.
    pub(crate) has_witness: bool,
    pub(crate) has_made_thread: bool,
    /// Whether the process ends by `_exit(2)` or by a signal.
    pub(crate) ends_at_once: bool,
}

impl Start<'_> {
    pub(crate) fn is_foreground(&self) -> bool {
        self.initial_files.is_foreground
    }

    pub(crate) fn observe(&mut self, moment: &'static str) {
        self.reports.push(Expected {
            moment,
            report: self.process.clone(),
            parents: self.parents.clone(),
            opened: self.opened.clone(),
            pending: self.pending.iter().flatten().cloned().collect(),
        });
    }

    /// The source of a stream, which the tester has opened.
    pub(crate) fn source(&self, index: usize) -> Option<&Descriptor> {
        let file = self.initial_files.sources[index].as_ref()?;
        let mut before = self.before.descriptors.as_deref()?.iter();
        before.find(|found| (found.device, found.inode) == (Some(file.dev()), Some(file.ino())))
    }

    pub(crate) fn is_source(&self, descriptor: &Descriptor) -> bool {
        let mut sources = (0..3).filter_map(|index| self.source(index));
        sources.any(|source| source.number == descriptor.number)
    }

    /// The descriptors after the library has closed the sources of the streams.
    pub(crate) fn without_sources(
        &self,
        descriptors: &Option<Vec<Descriptor>>,
    ) -> Option<Vec<Descriptor>> {
        let all = descriptors.as_ref()?.iter();
        Some(
            all.filter(|found| !self.is_source(found))
                .cloned()
                .collect(),
        )
    }

    /// The process as it is now.
    pub(crate) fn current(&self) -> Report {
        let descriptors = match self.is_redirected {
            true => self.process.descriptors.clone(),
            false => self.without_sources(&self.process.descriptors),
        };
        Report {
            descriptors,
            ..self.process.clone()
        }
    }

    /// The launcher after the library has returned: as it was before.
    pub(crate) fn launcher(&self) -> Report {
        Report {
            descriptors: self.without_sources(&self.before.descriptors),
            ..self.before.clone()
        }
    }

    pub(crate) fn write(&mut self, to: &Report, number: i32, written: Written) {
        if let Some(descriptor) = to.descriptor(number) {
            self.writes.push((descriptor.clone(), written));
        }
    }

    pub(crate) fn run_fallible(
        &mut self,
        kind: &'static str,
        moment: &'static str,
        closure: &Fallible,
    ) -> Result<(), Failure> {
        self.run_steps(moment, &closure.steps)?;
        match &closure.error {
            Some(error) => Err(Failure::new(kind, None)
                .with_reason(error_text(error))
                .with_payload(closure.payload.as_ref())),
            None => Ok(()),
        }
    }

    pub(crate) fn run_steps(
        &mut self,
        moment: &'static str,
        steps: &[Step],
    ) -> Result<(), Failure> {
        for step in steps {
            match step {
                Step::Observe => self.observe(moment),
                Step::Add(part) => self.parts.push(part.clone()),
                Step::Panic(text) => {
                    self.panic(text);
                    return Err(Failure::new("Panicked", None).with_reason(of_panic(text)));
                }
                Step::WitnessResult => self.has_witness = true,
                Step::MakeThread => {
                    self.process.threads = self.process.threads.map(|threads| threads + 1);
                    self.has_made_thread = true;
                }
                Step::Exit(status) => return Err(self.ended(status << 8)),
                Step::KillItself(signal) => {
                    self.ends_at_once = true;
                    return Err(self.ended(*signal));
                }
                other => panic!("the oracle knows nothing of {other:?}"),
            }
        }
        Ok(())
    }

    /// The failure of a daemon that ends in a closure.
    pub(crate) fn ended(&mut self, status: i32) -> Failure {
        self.side = Side::Gone;
        let failure = Failure {
            status: Some(status),
            ..Failure::new("DaemonExited", None)
        };
        let has_exited = ExitStatus::from_raw(status).code().is_some();
        let is_silent = matches!(self.options.stderr, None | Some(Stream::DevNull));
        let hints = [(has_exited, INSTEAD_OF_EXITING), (is_silent, NO_MESSAGES)];
        let hints = hints.map(|(is_given, hint)| is_given.then_some(hint));
        match hints.into_iter().flatten().collect::<Vec<_>>().join("; ") {
            none if none.is_empty() => failure,
            hints => failure.with_reason(hints),
        }
    }

    pub(crate) fn panic(&mut self, text: &str) {
        let current = self.current();
        self.write(&current, 2, Written::Panic(text.to_owned()));
    }

    /// The possible parents of an orphan.
    pub(crate) fn adopters(&self) -> Vec<Parent> {
        match self.config.initial.subreaper {
            true => vec![Parent::Launcher, Parent::Reaper],
            false => vec![Parent::Reaper],
        }
    }
}

pub(crate) fn place(file: &Metadata) -> Place {
    Place {
        device: file.dev(),
        inode: file.ino(),
        path: None,
    }
}
