//! The pid file of a running daemon: who it is, signals to it, its end.

use std::ffi::CString;
use std::io;
use std::mem;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::pid_lock::{self, OpenPidFile, parse_pid};
use crate::sys::{
    self, Attributes, Directory, FileKind, Lock, Open, Pid, Process, Signal, Uid, errno,
};

/// The pid file of a daemon that may be running, as
/// [`Daemonize::pid_file`](crate::Daemonize::pid_file) makes it.
///
/// The lock decides, not the file's existence: a daemon that was killed leaves
/// a file without a lock, which means nothing. And a number in a file proves
/// nothing: a process is taken for the daemon only if it was seen to have this
/// very file open.
///
/// ```no_run
/// use std::time::Duration;
/// use daemonize2::PidFile;
///
/// # fn main() -> std::io::Result<()> {
/// let pid_file = PidFile::at("/run/clockd.pid");
/// match pid_file.running()? {
///     Some(pid) => println!("running as {pid}"),
///     None => println!("not running"),
/// }
/// if pid_file.stop(Duration::from_secs(10))? {
///     println!("stopped");
/// }
/// # Ok(())
/// # }
/// ```
///
/// # Platform notes
///
/// On Linux, signals go through a pidfd that was opened before the process was
/// verified, so that they never reach another. On FreeBSD and macOS the pid
/// may be another's in the instants between; and FreeBSD can forbid ordinary users
/// to look at processes, also their own (`security.bsd.unprivileged_proc_debug`). On the other platforms nothing
/// can verify a process: what needs it fails with
/// [`Unsupported`](io::ErrorKind::Unsupported).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PidFile {
    path: PathBuf,
}

/// A daemon that was seen to have the pid file open.
struct Running {
    pid: Pid,
    /// Opened before it was verified.
    process: Option<OwnedFd>,
    pid_file: OwnedFd,
    attributes: Attributes,
}

/// How long a process may take to be gone after SIGKILL.
const LAST_PATIENCE: Duration = Duration::from_secs(5);
/// On a machine with much to do an instant may be long.
const SENSE_PATIENCE: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(2);

impl PidFile {
    /// The pid file at this path. Nothing is opened yet.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// The pid of the running daemon. `None` where the file is absent, or
    /// nobody holds its lock.
    ///
    /// Takes a shared lock for an instant, which a start waits out.
    ///
    /// # Errors
    ///
    /// [`WouldBlock`](io::ErrorKind::WouldBlock) while a daemon is starting;
    /// [`InvalidData`](io::ErrorKind::InvalidData) where the lock is held but
    /// the content is no pid, or that of a process that does not have the file
    /// open; [`PermissionDenied`](io::ErrorKind::PermissionDenied) where the
    /// process may not be looked at: another user's, or one that was another's, as
    /// a daemon that has changed its identity was; and what open(2) fails with.
    pub fn running(&self) -> io::Result<Option<u32>> {
        Ok(self.find()?.map(|running| running.pid.number()))
    }

    /// Sends a signal to the running daemon. False where there is none.
    ///
    /// # Errors
    ///
    /// As for [`running`](Self::running), and what kill(2) fails with.
    ///
    /// # Security
    ///
    /// As root, a file or directory that others can write to is refused with
    /// [`PermissionDenied`](io::ErrorKind::PermissionDenied) (a directory with
    /// the sticky bit is not), and so is a file with other hard links; and where
    /// either belongs to another user, so is a process that is not wholly that
    /// user's: whoever can make a pid file can name any process in it.
    pub fn signal(&self, signal: i32) -> io::Result<bool> {
        match self.find()? {
            Some(running) if self.is_to_be_signalled(&running)? => running.signal(Signal(signal)),
            _ => Ok(false),
        }
    }

    /// Ends the running daemon: SIGTERM, and SIGKILL if it has not ended when
    /// the time is up. Returns when the process is gone and the lock is free;
    /// false where no daemon was running.
    ///
    /// A daemon that is starting is waited for.
    ///
    /// # Errors
    ///
    /// As for [`signal`](Self::signal);
    /// [`TimedOut`](io::ErrorKind::TimedOut) where the process is gone, but
    /// another one that inherited the lock still holds it when the time is up,
    /// or where even SIGKILL does not end it.
    pub fn stop(&self, patience: Duration) -> io::Result<bool> {
        let patience_ends = Instant::now()
            .checked_add(patience)
            .unwrap_or_else(|| Instant::now() + Duration::from_secs(u32::MAX.into()));
        let running = loop {
            match self.find() {
                Err(error) if is_starting(&error) && Instant::now() < patience_ends => {
                    sys::pause(PAUSE);
                }
                Err(error) => return Err(error),
                Ok(None) => return Ok(false),
                Ok(Some(running)) => break running,
            }
        };
        // Once for both signals: a daemon that is asked to end may remove its folder
        // long before it does.
        if !self.is_to_be_signalled(&running)? {
            return Ok(false);
        }
        running.signal(Signal::TERMINATE)?;
        if !running.ends_by(patience_ends) {
            running.signal(Signal::KILL)?;
            if !running.ends_by(Instant::now() + LAST_PATIENCE) {
                return Err(self.error(io::ErrorKind::TimedOut, "SIGKILL has not ended the daemon"));
            }
        }
        // A process that was seen to be gone may have its lock for an instant more.
        let lock_patience_ends = patience_ends.max(Instant::now() + SENSE_PATIENCE);
        while !is_unlocked(&running.pid_file)? {
            if Instant::now() >= lock_patience_ends {
                let text = "the daemon has ended, but another process holds its lock";
                return Err(self.error(io::ErrorKind::TimedOut, text));
            }
            sys::pause(PAUSE);
        }
        Ok(true)
    }

    /// Looks again for a while at what makes no sense: a daemon that starts has
    /// the lock an instant before the file is empty, and one that ends has lost
    /// its descriptors an instant before the lock.
    fn find(&self) -> io::Result<Option<Running>> {
        let patience_ends = Instant::now() + SENSE_PATIENCE;
        loop {
            match self.look() {
                Err(error)
                    if error.kind() == io::ErrorKind::InvalidData
                        && Instant::now() < patience_ends =>
                {
                    sys::pause(PAUSE);
                }
                found => return found,
            }
        }
    }

    fn look(&self) -> io::Result<Option<Running>> {
        let path = CString::new(self.path.as_os_str().as_bytes())
            .map_err(|_| self.error(io::ErrorKind::InvalidInput, "NUL byte in path"))?;
        let pid_file = match sys::open_at(Directory::Working, &path, Open::ReadOnly) {
            Ok(descriptor) => descriptor,
            Err(errno::ENOENT) => return Ok(None),
            Err(errno) => return Err(io::Error::from_raw_os_error(errno)),
        };
        let attributes = sys::attributes(pid_file.as_fd()).map_err(io::Error::from_raw_os_error)?;
        if attributes.kind != FileKind::Regular {
            return Err(self.error(io::ErrorKind::InvalidData, "not a regular file"));
        }
        if is_unlocked(&pid_file)? {
            return Ok(None);
        }
        let mut content = [0; 32];
        let length = sys::read_at_start(pid_file.as_fd(), &mut content)
            .map_err(io::Error::from_raw_os_error)?;
        if length == 0 {
            return Err(self.error(io::ErrorKind::WouldBlock, "the daemon is starting"));
        }
        let Some(pid) = parse_pid(&content[..length]) else {
            return Err(self.error(io::ErrorKind::InvalidData, "locked, but contains no pid"));
        };
        let process = sys::open_process(pid);
        match sys::has_open(pid, attributes.id) {
            Ok(true) => Ok(Some(Running {
                pid,
                process,
                pid_file,
                attributes,
            })),
            // The daemon may have ended since.
            Ok(false) if is_unlocked(&pid_file)? => Ok(None),
            Ok(false) => {
                let text = format!("locked, but not by process {}", pid.number());
                Err(self.error(io::ErrorKind::InvalidData, text))
            }
            Err(errno) => {
                let error = io::Error::from_raw_os_error(errno);
                let text = format!("process {} cannot be verified: {error}", pid.number());
                Err(self.error(error.kind(), text))
            }
        }
    }

    /// False where it has ended meanwhile; or where the folder is gone, so that by
    /// this path nobody is running any more.
    fn is_to_be_signalled(&self, running: &Running) -> io::Result<bool> {
        match self.refuse_what_others_chose(running) {
            Ok(()) => Ok(true),
            Err(error) if matches!(error.raw_os_error(), Some(errno::ENOENT | errno::ESRCH)) => {
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    fn refuse_what_others_chose(&self, running: &Running) -> io::Result<()> {
        if sys::effective_user() != Uid::ROOT {
            return Ok(());
        }
        let denied = |text: &'static str| Err(self.error(io::ErrorKind::PermissionDenied, text));
        let file = &running.attributes;
        let (folder_descriptor, folder) = self.folder()?;
        if pid_lock::others_can_write(running.pid_file.as_fd(), file) {
            return denied("other users can write to it");
        }
        if pid_lock::others_can_replace_in(folder_descriptor.as_fd(), &folder) {
            return denied("other users can write to its directory");
        }
        // Who may make links may give another daemon's pid file this name.
        if file.links > 1 {
            return denied("it has other hard links");
        }
        let owners = [file.owner, folder.owner];
        for owner in owners.into_iter().filter(|owner| *owner != Uid::ROOT) {
            let users = sys::users_of(running.pid).map_err(io::Error::from_raw_os_error)?;
            if users.iter().any(|user| *user != owner) {
                return denied("another user can write to it, and the process is not that user's");
            }
        }
        Ok(())
    }

    fn folder(&self) -> io::Result<(OwnedFd, Attributes)> {
        let folder = match self.path.parent() {
            Some(folder) if folder != Path::new("") => folder,
            _ => Path::new("."),
        };
        let folder = CString::new(folder.as_os_str().as_bytes())?;
        let opened = sys::open_at(Directory::Working, &folder, Open::Directory);
        let opened = opened.map_err(io::Error::from_raw_os_error)?;
        let attributes = sys::attributes(opened.as_fd()).map_err(io::Error::from_raw_os_error)?;
        Ok((opened, attributes))
    }

    fn error(&self, kind: io::ErrorKind, text: impl AsRef<str>) -> io::Error {
        let text = format!("pid file {}: {}", self.path.display(), text.as_ref());
        io::Error::new(kind, text)
    }
}

impl Running {
    /// False where it has ended meanwhile.
    fn signal(&self, signal: Signal) -> io::Result<bool> {
        let sent = match &self.process {
            Some(process) => sys::signal_process(process.as_fd(), signal),
            None => sys::signal_pid(self.pid, signal),
        };
        match sent {
            Ok(()) => Ok(true),
            Err(errno::ESRCH) => Ok(false),
            Err(errno) => Err(io::Error::from_raw_os_error(errno)),
        }
    }

    /// Waits for the end of the process. False if the time was up first.
    fn ends_by(&self, patience_ends: Instant) -> bool {
        let left = || patience_ends.saturating_duration_since(Instant::now());
        if let Some(process) = &self.process {
            return sys::await_readable(process.as_fd(), Some(left()));
        }
        while sys::has_open(self.pid, self.attributes.id) == Ok(true) {
            if left().is_zero() {
                return false;
            }
            sys::pause(PAUSE);
        }
        true
    }
}

fn is_starting(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock
}

fn is_unlocked(pid_file: &OwnedFd) -> io::Result<bool> {
    match sys::lock(pid_file.as_fd(), Lock::Shared) {
        Ok(()) => {
            let _ = sys::lock(pid_file.as_fd(), Lock::None);
            Ok(true)
        }
        Err(errno::EWOULDBLOCK) => Ok(false),
        Err(errno) => Err(io::Error::from_raw_os_error(errno)),
    }
}

/// Removes the pid file of this process when it is dropped: at a clean exit.
///
/// Not needed for the next start, which takes over what is left; but tidy. The
/// file is emptied in any case. It is removed if its path still leads to it,
/// and this process may: after a change of identity it often may not, and
/// after a change of root directory the path leads elsewhere.
///
/// ```no_run
/// # fn serve() {}
/// # fn main() -> Result<(), daemonize2::Error> {
/// daemonize2::Daemonize::new()
///     .pid_file("/run/clockd.pid")
///     .start_checked()?;
/// let _guard = daemonize2::PidFileGuard::take();
/// serve();
/// # Ok(())
/// # }
/// ```
#[must_use = "the pid file is removed when this is dropped"]
#[derive(Debug)]
pub struct PidFileGuard {
    /// `None` once it was dropped.
    pid_file: Option<OpenPidFile>,
    path: Option<CString>,
    process: Process,
}

impl PidFileGuard {
    /// Takes over the pid file that the last start has locked for this
    /// process. `None` where there was none, or it was taken already.
    ///
    /// With [deferred readiness](crate::Daemonize::deferred_readiness), there
    /// is one after [`Readiness::ready`](crate::Readiness::ready).
    pub fn take() -> Option<Self> {
        let (pid_file, path) = pid_lock::take_kept()?;
        Some(Self {
            pid_file: Some(pid_file),
            path,
            process: Process::current(),
        })
    }
}

impl Drop for PidFileGuard {
    fn drop(&mut self) {
        let Some(pid_file) = self.pid_file.take() else {
            return;
        };
        if self.process == Process::current() {
            pid_file.remove(self.path.as_deref());
            pid_file.close();
        } else {
            // A copy made by fork(2) is not the daemon.
            mem::forget(pid_file);
        }
    }
}
