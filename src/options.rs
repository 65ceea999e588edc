//! The options of a start that are plain data.

use std::os::fd::RawFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::directory::Directory;
use crate::identity::{Capability, Group, SupplementaryGroups, User};
use crate::pid_file;
use crate::program::Program;
use crate::streams::{self, Streams};
use crate::subject::{Subject, SubjectKind};

/// The permission bits that new files of the daemon do *not* get.
///
/// See [umask(2)](https://pubs.opengroup.org/onlinepubs/9799919799/functions/umask.html).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mask(pub(crate) u32);

impl From<u32> for Mask {
    fn from(bits: u32) -> Self {
        Self(bits)
    }
}

/// The options, each under the name of its method of [`Daemonize`](crate::Daemonize).
#[derive(Debug, Default)]
pub(crate) struct Options {
    pub(crate) directories: Vec<Directory>,
    pub(crate) working_directory: Option<PathBuf>,
    pub(crate) pid_file: Option<PathBuf>,
    pub(crate) upgrade: bool,
    pub(crate) pid_file_mode: Option<u32>,
    pub(crate) chown_pid_file_user: Option<User>,
    pub(crate) chown_pid_file_group: Option<Group>,
    /// The owner and group that the two options above do not name are those of the daemon.
    pub(crate) chown_pid_file: bool,
    pub(crate) user: Option<User>,
    pub(crate) group: Option<Group>,
    pub(crate) umask: Option<Mask>,
    pub(crate) chroot: Option<PathBuf>,
    pub(crate) streams: Streams,
    /// The paths of the log files among the streams, once these are taken.
    pub(crate) log_files: [Option<PathBuf>; 3],
    pub(crate) supplementary_groups: SupplementaryGroups,
    pub(crate) keep_capabilities: Option<Vec<Capability>>,
    pub(crate) ambient_capabilities: Option<Vec<Capability>>,
    pub(crate) no_new_privileges: bool,
    pub(crate) dumpable: bool,
    pub(crate) user_environment: bool,
    pub(crate) socket_activation: bool,
    /// The descriptors to keep open.
    pub(crate) close_inherited_fds: Option<Vec<RawFd>>,
    pub(crate) reset_signals: bool,
    pub(crate) startup_timeout: Option<Duration>,
    pub(crate) foreground: bool,
    /// Whether a closure is to run in the daemon.
    pub(crate) has_closures: bool,
    /// The program that the daemon executes.
    pub(crate) program: Option<Program>,
}

impl Options {
    /// Returns `None` if the umask stays as it is. By default, the daemon grants no access to
    /// others and no write access to its group.
    pub(crate) fn umask(&self) -> Option<u32> {
        const DEFAULT: u32 = 0o027;

        match &self.umask {
            Some(mask) => Some(mask.0),
            None => (!self.foreground).then_some(DEFAULT),
        }
    }

    /// Takes the streams, and keeps the paths of the log files.
    pub(crate) fn take_streams(&mut self) -> Streams {
        self.log_files = streams::log_files(&self.streams);
        std::mem::take(&mut self.streams)
    }

    /// The pid file that the start locks. A successor takes over the named file with it.
    pub(crate) fn locked_pid_file(&self) -> Option<PathBuf> {
        let pid_file = self.pid_file.as_deref()?;
        Some(match self.upgrade {
            true => pid_file::successor_path(pid_file),
            false => pid_file.to_owned(),
        })
    }

    /// The path in the file system, if the working directory of this process is known. A relative
    /// path starts at the daemon's working directory.
    pub(crate) fn absolute(&self, path: &Path) -> Option<PathBuf> {
        if path.is_absolute() {
            return Some(path.to_owned());
        }
        let mut directory = std::env::current_dir().ok()?;
        if let Some(working_directory) = &self.working_directory {
            directory.push(working_directory);
        }
        Some(directory.join(path))
    }

    pub(crate) fn absolute_locked_pid_file(&self) -> Option<PathBuf> {
        self.absolute(&self.locked_pid_file()?)
    }

    pub(crate) fn subject(&self, kind: SubjectKind) -> Option<Subject> {
        let path = |path: &Option<PathBuf>| path.clone().map(Subject::Path);
        let log_file = |index: usize| {
            let path = self.log_files[index].clone()?;
            let stream = streams::NAMES[index];
            Some(Subject::LogFile { stream, path })
        };
        let user = self.user.as_ref();
        let group = self.group.as_ref().map(Group::subject);
        match kind {
            SubjectKind::None => None,
            SubjectKind::WorkingDirectory => path(&self.working_directory),
            SubjectKind::PidFile => path(&self.locked_pid_file()),
            SubjectKind::TakenOverPidFile => path(&self.pid_file),
            SubjectKind::Chroot => path(&self.chroot),
            SubjectKind::User => user.map(User::subject),
            SubjectKind::Group => group.or_else(|| user.map(User::group_subject)),
            SubjectKind::Identity => user.map(User::subject).or(group),
            SubjectKind::NullDevice => Some(Subject::Path(Path::new("/dev/null").to_owned())),
            SubjectKind::StandardInput
            | SubjectKind::StandardOutput
            | SubjectKind::StandardError => streams::subject(kind),
            SubjectKind::Program => {
                (self.program.as_ref()).map(|program| Subject::Path(program.path().to_owned()))
            }
            SubjectKind::OutputLog => log_file(1),
            SubjectKind::ErrorLog => log_file(2),
        }
    }
}
