//! The log files of this process, and their reopening.

use std::ffi::{CStr, CString, OsStr};
use std::fs;
use std::io;
use std::mem;
use std::os::fd::AsFd as _;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::log_file::{LogFile, LogUsers};
use super::{NAMES, NUMBERS};
use crate::error::{Error, ErrorKind};
use crate::failure::Failure;
use crate::root::path_inside;
use crate::subject::Subject;
use crate::sys::{self, errno};
use crate::trust;

/// The log file of a stream.
#[derive(Debug)]
pub(crate) struct Log {
    /// As the daemon opens it at first.
    pub(super) file: LogFile,
    path: LogPath,
}

/// Where the daemon finds the file again.
#[derive(Debug)]
enum LogPath {
    /// The absolute path, in the present root directory.
    Inside(CString),
    /// The path in the former root directory.
    Outside(CString),
    /// The working directory of the launcher was unknown.
    Unknown,
}

impl Log {
    pub(crate) fn new(path: CString, absolute_path: Option<CString>, users: LogUsers) -> Self {
        Self {
            file: LogFile::new(path, users),
            path: absolute_path.map_or(LogPath::Unknown, LogPath::Inside),
        }
    }
}

/// The log file of each standard stream of this process. A worker that the daemon forks has a
/// copy, as it has copies of the streams.
static LOGS: Mutex<Logs> = Mutex::new(Logs {
    streams: [None, None, None],
    pending: [None, None, None],
});

struct Logs {
    streams: [Option<Log>; 3],
    /// Those of streams that are kept until the daemon is ready.
    pending: [Option<Log>; 3],
}

/// While this lives, no other thread reopens a log file. Otherwise the list could stay locked in
/// the child of fork(2) for ever.
pub(crate) struct LockedForFork(#[expect(dead_code, reason = "it unlocks")] LockedLogs);

type LockedLogs = MutexGuard<'static, Logs>;

fn logs() -> LockedLogs {
    LOGS.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn lock_for_fork() -> LockedForFork {
    LockedForFork(logs())
}

/// Sets or removes the log file of a stream. Returns the former one, since nothing may be freed
/// between fork(2) and the first closure.
pub(super) fn set(index: usize, log: Option<Log>) -> Option<Log> {
    mem::replace(&mut logs().streams[index], log)
}

/// The same for a stream that is kept until the daemon is ready.
pub(super) fn set_pending(index: usize, log: Option<Log>) -> Option<Log> {
    mem::replace(&mut logs().pending[index], log)
}

/// A stream that was kept is redirected.
pub(super) fn settle(index: usize) {
    let logs = &mut *logs();
    logs.streams[index] = logs.pending[index].take();
}

/// The paths of the log files in a new root directory.
pub(crate) struct PathsInside([[Option<LogPath>; 3]; 2]);

/// Finds the log files in a directory that is about to become the root directory, by its
/// absolute path without symbolic links.
pub(crate) fn paths_inside(root: &CStr) -> PathsInside {
    let find = |log: &Option<Log>| match &log.as_ref()?.path {
        LogPath::Inside(path) => Some(match real_path(path) {
            Some(real) => match path_inside(&real, root) {
                Some(inside) => LogPath::Inside(inside.to_owned()),
                None => LogPath::Outside(path.clone()),
            },
            None => LogPath::Outside(path.clone()),
        }),
        LogPath::Outside(_) | LogPath::Unknown => None,
    };
    let logs = logs();
    PathsInside([&logs.streams, &logs.pending].map(|logs| logs.each_ref().map(find)))
}

impl PathsInside {
    /// The root directory has changed.
    pub(crate) fn enter(self) {
        let logs = &mut *logs();
        let all = logs.streams.iter_mut().chain(&mut logs.pending);
        for (log, path) in all.zip(self.0.into_iter().flatten()) {
            if let (Some(log), Some(path)) = (log, path) {
                log.path = path;
            }
        }
    }
}

/// The path without symbolic links, except in the last component.
fn real_path(path: &CStr) -> Option<CString> {
    let path = as_path(path);
    let directory = fs::canonicalize(path.parent()?).ok()?;
    let real = directory.join(path.file_name()?);
    CString::new(real.into_os_string().into_vec()).ok()
}

fn as_path(path: &CStr) -> &Path {
    Path::new(OsStr::from_bytes(path.to_bytes()))
}

/// Opens the log files of this process again: call this when they were renamed, usually on SIGHUP.
///
/// The log files are those of [`Stdio::append`](crate::Stdio::append). The function opens each by
/// the same rules, now as the user of the daemon, and creates it if it is missing. Then it replaces
/// the stream in one step: at no time is the stream closed, and no write is lost. Without log files
/// the function does nothing.
///
/// ```no_run
/// use daemonize2::{Daemonize, Stdio};
/// use tokio::runtime::Runtime;
/// use tokio::signal::unix::{SignalKind, signal};
///
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     Daemonize::new()
///         .user("clockd")
///         .stderr(Stdio::append("/var/log/clockd/error.log"))
///         .start_checked()?;
///     Runtime::new()?.block_on(async {
///         let mut hangup = signal(SignalKind::hangup())?;
///         while hangup.recv().await.is_some() {
///             if let Err(error) = daemonize2::reopen_logs() {
///                 eprintln!("clockd: {error}");
///             }
///         }
///         Ok(())
///     })
/// }
/// ```
///
/// Any thread may call this, also while other threads write. It is not async-signal-safe: do not
/// call it in a signal handler, but in a thread that waits for signals.
///
/// A process that the daemon has forked has streams of its own, and calls this for itself. After
/// execve(2) the new program has no log files. The function replaces a stream even if the process
/// has redirected it since the start. Before the start is committed, it does not open the log file
/// of a stream that is [kept until the daemon is ready](crate::Stdio::keep_until_ready).
///
/// # Errors
///
/// If a file cannot be opened, its stream stays as it is, and the daemon continues to write to the
/// old file. The error names the file. The other log files are opened nevertheless. After
/// [`chroot`](crate::Daemonize::chroot), the function looks the path up in the new root directory,
/// and fails for a file that lies outside.
///
/// # Security
///
/// The same as for [`Stdio::append`](crate::Stdio::append). The user of the daemon needs the
/// permission to create the file in its directory, unless the program that renames the file
/// creates the new one.
pub fn reopen_logs() -> io::Result<()> {
    let logs = logs();
    let errors = logs.streams.iter().enumerate().filter_map(|(index, log)| {
        let error = reopen(index, log.as_ref()?).err()?;
        Some(error.with_appended_reason("the old file stays in use"))
    });
    let mut errors: Vec<Error> = errors.collect();
    match errors.len() {
        0 => Ok(()),
        1 => Err(errors.remove(0).into()),
        _ => {
            let texts: Vec<_> = errors.iter().map(ToString::to_string).collect();
            let kind = io::Error::from(errors.remove(0)).kind();
            Err(io::Error::new(kind, texts.join("; ")))
        }
    }
}

fn reopen(index: usize, log: &Log) -> Result<(), Error> {
    let subject = |path: &CStr| Subject::LogFile {
        stream: NAMES[index],
        path: as_path(path).to_owned(),
    };
    let refuse = |path, text| {
        let kind = ErrorKind::OpenLogFile(errno::ENOENT);
        Err(Error::from(kind)
            .with_subject(subject(path))
            .with_reason(text))
    };
    let path = match &log.path {
        LogPath::Inside(path) => path,
        LogPath::Outside(path) => {
            return refuse(path, "it is outside the root directory of the daemon");
        }
        LogPath::Unknown => {
            let text = "the working directory of the launcher was unknown; use an absolute path";
            return refuse(log.file.path(), text);
        }
    };
    let users = log.file.users();
    let failed = |failure: Failure| {
        let reason = trust::explain(&failure, as_path(path), &trust::OF_LOG_FILE);
        Error::from(failure.kind)
            .with_subject(subject(path))
            .with_reason(reason.map_or(failure.reason, Into::into))
    };
    let opened = LogFile::new(path.clone(), users).open().map_err(failed)?;
    sys::dup2(opened.as_fd(), NUMBERS[index])
        .map_err(|errno| failed(ErrorKind::RedirectStreams(errno).into()))
}
