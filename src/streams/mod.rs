//! The standard streams.
//!
//! | file | contents |
//! |---|---|
//! | `plan.rs` | what must be known before the fork |
//! | `redirect.rs` | the redirection |
//! | `pending.rs` | the redirection of streams that are kept until the daemon is ready |
//! | `log_file.rs` | the opening of a log file |
//! | `reopen.rs` | the log files of this process, and their reopening |

mod log_file;
mod pending;
mod plan;
mod redirect;
mod reopen;

use std::fs::File;
use std::os::fd::{AsRawFd as _, OwnedFd, RawFd};
use std::path::{Path, PathBuf};

use crate::error::ErrorKind;
use crate::failure::Failure;
use crate::subject::{Subject, SubjectKind};
use crate::sys::Errno;

pub(crate) use log_file::LogUsers;
pub(crate) use pending::PendingStreams;
pub(crate) use plan::StreamsPlan;
pub(crate) use redirect::{Before, redirect, redirect_forked};
pub use reopen::reopen_logs;
pub(crate) use reopen::{Log, lock_for_fork, paths_inside};

/// What a standard stream of the daemon refers to.
#[derive(Debug)]
pub struct Stdio {
    source: Source,
    is_kept_until_ready: bool,
}

#[derive(Debug)]
enum Source {
    Devnull,
    Keep,
    Descriptor(OwnedFd),
    Append(PathBuf),
}

impl Stdio {
    /// `/dev/null`: reads return the end of file, writes are discarded.
    ///
    /// The start fails with [`ErrorKind::OpenDevnull`] if
    /// `/dev/null` is not the null device, but for example a regular file.
    #[must_use]
    pub fn devnull() -> Self {
        Self::of(Source::Devnull)
    }

    /// The stream of the launcher. If it is closed, the stream is `/dev/null`: otherwise the next
    /// opened file would get its number.
    #[must_use]
    pub fn keep() -> Self {
        Self::of(Source::Keep)
    }

    /// A log file: all that the daemon writes is appended to it. [`reopen_logs`]
    /// opens the file again, after it was renamed.
    ///
    /// The daemon opens the file when it redirects its streams: after the change of the working
    /// directory, before the [privileged action](crate::Daemonize::privileged_action) and the
    /// change of identity. A relative path starts at the daemon's [working
    /// directory](crate::Daemonize::working_directory). The start creates the file if it is missing,
    /// but not its directory. A new file has the mode `0o640` without the bits of the
    /// [umask](crate::Daemonize::umask), and belongs to the [user](crate::Daemonize::user) and the
    /// [group](crate::Daemonize::group) of the daemon. The start does not change an existing file.
    ///
    /// Standard output and standard error may have the same path. Each write of either stream is
    /// then appended as a whole. `/dev/null` is accepted as a path.
    ///
    /// ```no_run
    /// # fn main() -> Result<(), daemonize2::Error> {
    /// use daemonize2::{Daemonize, Stdio};
    ///
    /// Daemonize::new()
    ///     .user("clockd")
    ///     .stdout(Stdio::append("/var/log/clockd/clockd.log"))
    ///     .stderr(Stdio::append("/var/log/clockd/error.log"))
    ///     .start_checked()
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::OpenLogFile`] if the file cannot be opened, or
    ///   the start refuses it.
    /// - [`ErrorKind::ChownLogFile`] if a new file cannot be given to
    ///   the daemon. The start then removes the file.
    /// - [`ErrorKind::StandardInputIsLogFile`] for
    ///   standard input, before any fork.
    ///
    /// # Security
    ///
    /// The start refuses the file unless it is a regular file with a single link that belongs to
    /// root, to the user of the launcher or to the user of the daemon. It does not follow a
    /// symbolic link, and does not wait for the reader of a FIFO.
    ///
    /// When run as root, the start also refuses a directory that belongs to any other user. It
    /// refuses a directory that others can write to, unless the directory has the sticky bit. On the
    /// way to the directory, it follows a symbolic link only in a directory in which no other user
    /// than root can create one.
    pub fn append<P: Into<PathBuf>>(path: P) -> Self {
        Self::of(Source::Append(path.into()))
    }

    /// The stream of the launcher until the daemon is ready, then `then`. Warnings of the closures
    /// reach the person who starts the daemon.
    ///
    /// The daemon opens or takes `then` when it redirects its streams, with the same permissions and
    /// errors as without this. It replaces the stream right before it reports that it is ready: at
    /// [`Readiness::ready`](crate::Readiness::ready) in a start with
    /// [`deferred_readiness`](crate::Daemonize::deferred_readiness), before the notification of
    /// systemd in the [foreground](crate::Daemonize::foreground). When the launcher returns or
    /// exits, the daemon does not have the launcher's terminal or pipe any more: commands such as
    /// `$(clockd start)`, `ssh host clockd start` and `clockd start | tee log` end at once.
    ///
    /// If the start fails after a fork, the stream also becomes `then`. If the stream of the
    /// launcher is closed, it is `/dev/null` until the daemon is ready.
    ///
    /// The library does not flush the buffers of the daemon: a line that is not complete goes to
    /// `then`. A process that a closure forks keeps the stream of the launcher open. The caller is
    /// responsible for such a process.
    ///
    /// ```no_run
    /// # fn main() -> Result<(), daemonize2::Error> {
    /// use daemonize2::{Daemonize, Stdio};
    ///
    /// Daemonize::new()
    ///     .stderr(Stdio::keep_until_ready(Stdio::append("/var/log/clockd/error.log")))
    ///     .initialize(|()| -> std::io::Result<()> {
    ///         eprintln!("clockd: no configuration file, using the defaults");
    ///         Ok(())
    ///     })
    ///     .start_checked()
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Those of `then`. If the stream cannot be replaced when the daemon is ready, for example
    /// because the daemon has closed every descriptor, the start fails with
    /// [`ErrorKind::RedirectStreams`].
    pub fn keep_until_ready<S: Into<Self>>(then: S) -> Self {
        Self {
            is_kept_until_ready: true,
            ..then.into()
        }
    }

    fn of(source: Source) -> Self {
        Self {
            source,
            is_kept_until_ready: false,
        }
    }

    fn log_file(&self) -> Option<&Path> {
        match &self.source {
            Source::Append(path) => Some(path),
            _ => None,
        }
    }

    /// The number of the descriptor that becomes the stream.
    fn descriptor(&self) -> Option<RawFd> {
        match &self.source {
            Source::Descriptor(descriptor) => Some(descriptor.as_raw_fd()),
            _ => None,
        }
    }
}

impl From<File> for Stdio {
    fn from(file: File) -> Self {
        Self::of(Source::Descriptor(file.into()))
    }
}

impl From<OwnedFd> for Stdio {
    fn from(descriptor: OwnedFd) -> Self {
        Self::of(Source::Descriptor(descriptor))
    }
}

/// The three streams in the order of their numbers; `None` if the caller has not set one.
pub(crate) type Streams = [Option<Stdio>; 3];

const NUMBERS: [RawFd; 3] = [0, 1, 2];
pub(crate) const NAMES: [&str; 3] = ["standard input", "standard output", "standard error"];
const SUBJECTS: [SubjectKind; 3] = [
    SubjectKind::StandardInput,
    SubjectKind::StandardOutput,
    SubjectKind::StandardError,
];

fn redirect_failed(index: usize, errno: Errno) -> Failure {
    Failure::from(ErrorKind::RedirectStreams(errno)).with_subject(SUBJECTS[index])
}

/// The start refuses a log file as standard input.
const LOG_SUBJECTS: [SubjectKind; 3] = [
    SubjectKind::StandardInput,
    SubjectKind::OutputLog,
    SubjectKind::ErrorLog,
];

/// What an error of a standard stream is about.
pub(crate) fn subject(kind: SubjectKind) -> Option<Subject> {
    let index = SUBJECTS.iter().position(|subject| *subject == kind)?;
    Some(Subject::Name(NAMES[index].to_owned()))
}

/// The path of the log file of each stream.
pub(crate) fn log_files(streams: &Streams) -> [Option<PathBuf>; 3] {
    streams.each_ref().map(|stream| {
        let path = stream.as_ref().and_then(Stdio::log_file);
        path.map(Path::to_owned)
    })
}
