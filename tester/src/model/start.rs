//! A start that is under way.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;

use super::credentials::Credentials;
use super::failure::{Failure, error_text};
use super::initial_files::InitialFiles;
use crate::config::{Config, Fallible, Options, Step, Stream};
use crate::harness::Files;
use crate::report::{Descriptor, Place, Report};

/// Who is the parent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Parent {
    /// Whoever started the tester.
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
    /// To read it, with the lock.
    PidFile,
    /// In the foreground, until the pid is written.
    WritablePidFile,
    Channel,
}

/// A report that is to come. Process ids in it are yet unknown.
#[derive(Debug, Clone)]
pub(crate) struct Expected {
    pub(crate) moment: &'static str,
    pub(crate) report: Report,
    /// Whichever of them it still is, or already.
    pub(crate) parents: Vec<Parent>,
    pub(crate) opened: Vec<Opened>,
}

impl Expected {
    /// Whether it is of the process that was started.
    pub(crate) fn is_of_launcher(&self) -> bool {
        self.parents == [Parent::Unchanged]
    }
}

/// Something that is written to a descriptor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Written {
    /// This.
    Text(String),
    /// What Rust prints of a panic with this text.
    Panic(String),
}

impl Written {
    /// What comes after it in a text, if that begins with it.
    pub(crate) fn strip_from<'a>(&self, text: &'a str) -> Option<&'a str> {
        match self {
            Self::Text(must) => text.strip_prefix(must),
            Self::Panic(must) => {
                // The first line tells the thread and the place in the source,
                // the last one, which only the first panic has, of backtraces.
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

/// Who is in the middle of its start when it fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd)]
pub(crate) enum Side {
    /// The launcher, and nobody else.
    Launcher,
    /// The daemon, in the library.
    Daemon,
    /// The daemon, which has ended in a closure, or has to.
    Gone,
    /// The daemon, to which the library has returned.
    Returned,
}

/// What will be at the pid file's path.
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

/// Everything that must come of a start.
#[derive(Debug)]
pub struct Prediction {
    pub(crate) is_foreground: bool,
    pub(crate) failure: Option<(Failure, Side)>,
    pub(crate) reports: Vec<Expected>,
    pub(crate) parts: Vec<String>,
    /// The launcher, and whoever else has failed, when the library has
    /// returned there.
    pub(crate) afterwards: Vec<Expected>,
    /// What else is said, and by whom.
    pub(crate) said: Vec<String>,
    /// What a service manager is told, but for the daemon's process id.
    pub(crate) notified: &'static [&'static str],
    pub(crate) pid_file: Option<ExpectedPidFile>,
    pub(crate) is_pid_file_hidden: bool,
    /// Whether it is gone when the daemon has ended.
    pub(crate) is_pid_file_removed: bool,
    /// Whether the library had it open, and may have changed it.
    pub(crate) is_pid_file_opened: bool,
    /// Whether somebody else has locked it.
    pub(crate) is_pid_file_held: bool,
    /// What is written, and where to.
    pub(crate) writes: Vec<(Descriptor, Written)>,
    /// What there was in the case's directory.
    pub(crate) files: Files,
}

impl Prediction {
    /// Whether the start succeeds.
    pub fn succeeds(&self) -> bool {
        self.failure.is_none()
    }
}

/// The start, as it goes on.
pub(crate) struct Start<'a> {
    pub(crate) config: &'a Config,
    pub(crate) before: &'a Report,
    pub(crate) options: &'a Options,
    pub(crate) initial_files: &'a InitialFiles<'a>,
    /// The process that is or becomes the daemon.
    pub(crate) process: Report,
    /// Who it is to the kernel: at first the caller.
    pub(crate) credentials: Credentials,
    pub(crate) parents: Vec<Parent>,
    pub(crate) opened: Vec<Opened>,
    pub(crate) side: Side,
    pub(crate) pid_file: Option<ExpectedPidFile>,
    pub(crate) new_owner: Option<u32>,
    pub(crate) new_group: Option<u32>,
    pub(crate) reports: Vec<Expected>,
    pub(crate) parts: Vec<String>,
    pub(crate) said: Vec<String>,
    pub(crate) writes: Vec<(Descriptor, Written)>,
    pub(crate) is_redirected: bool,
    /// Whether the privileged action has begun.
    pub(crate) has_acted: bool,
    /// Whether there is a result of its that tells of its drop.
    pub(crate) has_witness: bool,
    pub(crate) has_made_thread: bool,
    /// Whether the process that becomes the daemon ends by `_exit(2)` or a
    /// signal.
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
        });
    }

    /// What the tester has opened to become a stream.
    pub(crate) fn source(&self, index: usize) -> Option<&Descriptor> {
        let file = self.initial_files.sources[index].as_ref()?;
        let mut before = self.before.descriptors.as_deref()?.iter();
        before.find(|found| (found.device, found.inode) == (file.dev(), file.ino()))
    }

    pub(crate) fn is_source(&self, descriptor: &Descriptor) -> bool {
        let mut sources = (0..3).filter_map(|index| self.source(index));
        sources.any(|source| source.number == descriptor.number)
    }

    /// The descriptors that are left when the library has let go of the
    /// streams' sources.
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

    /// The process itself, as it stands now.
    pub(crate) fn here(&self) -> Report {
        let descriptors = match self.is_redirected {
            true => self.process.descriptors.clone(),
            false => self.without_sources(&self.process.descriptors),
        };
        Report {
            descriptors,
            ..self.process.clone()
        }
    }

    /// The launcher once the library has returned there: as it was.
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
            Some(error) => Err(Failure::new(kind, None).with_reason(error_text(error))),
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
                    return Err(Failure::new("Panicked", None).with_reason(text.as_str()));
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

    /// In a closure.
    pub(crate) fn ended(&mut self, status: i32) -> Failure {
        self.side = Side::Gone;
        let failure = Failure {
            status: Some(status),
            ..Failure::new("DaemonExited", None)
        };
        match &self.options.stderr {
            None | Some(Stream::DevNull) => failure
                .with_reason("its standard error is /dev/null: set `stderr` to see its messages"),
            Some(_) => failure,
        }
    }

    pub(crate) fn panic(&mut self, text: &str) {
        let here = self.here();
        self.write(&here, 2, Written::Panic(text.to_owned()));
    }

    /// Whom an orphan falls to.
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
