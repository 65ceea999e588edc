//! The control of a running daemon by its pid file.

use std::ffi::CString;
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::time::Duration;

use super::PAUSE;
use super::holder::{Found, Holder};
use crate::deadline::Deadline;
use crate::sys::{self, Errno, Open, Pid, Signal, Uid, errno};
use crate::trust::{
    DIRECTORY_WRITABLE, HAS_LINKS, directory_and_name, others_can_replace_in, others_can_write,
};

/// The pid file of a daemon that may be running, as
/// [`Daemonize::pid_file`](crate::Daemonize::pid_file) makes it.
///
/// A daemon is running if the file is locked. A daemon that was killed leaves a file without a
/// lock. On Linux a process is the daemon only if the kernel names it as the holder of the lock:
/// a number in the file, or an open descriptor of the file, does not prove it.
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
/// # Permissions
///
/// On Linux any process that may open the file for reading can find the daemon. It needs neither
/// permission to trace the daemon nor /proc. The kernel names no process if another library has
/// started the daemon, or if the daemon has ended and a worker has inherited its lock. The
/// methods then return an error.
///
/// # Platform notes
///
/// On Linux the daemon holds a record lock of
/// [fcntl(2)](https://man7.org/linux/man-pages/man2/F_SETLK.2const.html) in addition to
/// the lock of flock(2). The kernel names the holder of the record lock, by its pid in the pid
/// namespace of the calling process. The library asks the kernel before and after it opens a
/// pidfd, and sends signals through this pidfd. Therefore a signal reaches no other process.
/// Before Linux 5.3 there is no pidfd, and the pid could become that of another process.
///
/// On FreeBSD and macOS a process cannot hold both locks. There the daemon is the process whose
/// pid is in the file, if it has this file open; on FreeBSD, with a lock. Between this check and
/// a signal, the pid could become that of another process. A daemon that is starting cannot be
/// named. FreeBSD can forbid ordinary users to look at processes, including their own
/// (`security.bsd.unprivileged_proc_debug`).
///
/// On the other platforms no call can name the process. Methods that need it fail with
/// [`Unsupported`](io::ErrorKind::Unsupported).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PidFile {
    pub(super) path: PathBuf,
}

/// How long a daemon that is starting gets to end after SIGTERM, once the time is up.
const SIGTERM_GRACE: Duration = Duration::from_secs(1);
/// How long a process may take to be gone after SIGKILL.
const SIGKILL_WAIT: Duration = Duration::from_secs(5);
/// How long the lock of a process that has ended may last.
const UNLOCK_WAIT: Duration = Duration::from_secs(1);

impl PidFile {
    /// The pid file at this path. This opens no file.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// The pid of the running daemon. `None` if the file does not exist or is not locked.
    ///
    /// This takes a shared lock for an instant, and a start waits until it is released. The
    /// daemon may call this too.
    ///
    /// # Errors
    ///
    /// Every error names the path.
    ///
    /// - [`WouldBlock`](io::ErrorKind::WouldBlock) while a daemon is starting: from
    ///   the moment it locks the file until it is ready.
    /// - [`InvalidData`](io::ErrorKind::InvalidData) if the file is locked, but its content
    ///   is not a pid, or the kernel names no process or a process with another pid.
    /// - [`PermissionDenied`](io::ErrorKind::PermissionDenied) on FreeBSD and macOS
    ///   if this process may not look at the daemon.
    /// - The errors of open(2).
    pub fn running(&self) -> io::Result<Option<u32>> {
        match self.find()? {
            None => Ok(None),
            Some(Found::Running(holder)) => Ok(Some(holder.pid.number())),
            Some(Found::Itself { is_ready: true }) => Ok(Some(Pid::current().number())),
            Some(Found::Starting(holder)) => Err(self.starting(holder.map(|holder| holder.pid))),
            Some(Found::Itself { is_ready: false }) => Err(self.starting(Some(Pid::current()))),
        }
    }

    /// Sends a signal to the running daemon. Returns false if no daemon is running.
    ///
    /// # Errors
    ///
    /// - Those of [`running`](Self::running) and of kill(2).
    /// - [`InvalidInput`](io::ErrorKind::InvalidInput) if the calling process is the daemon.
    ///
    /// # Security
    ///
    /// When run as root, this fails with
    /// [`PermissionDenied`](io::ErrorKind::PermissionDenied) in these cases:
    ///
    /// - Other users can write to the file.
    /// - Other users can write to the directory, and it does not have the sticky bit.
    /// - The file has other hard links.
    /// - The file or the directory belongs to another user, and not all user ids of the process
    ///   are the id of that user. A user who can create the pid file can make any process of
    ///   this user the holder of the lock.
    pub fn signal(&self, signal: i32) -> io::Result<bool> {
        match self.find()? {
            None => Ok(false),
            Some(Found::Starting(holder)) => Err(self.starting(holder.map(|holder| holder.pid))),
            Some(Found::Itself { .. }) => Err(self.itself()),
            Some(Found::Running(holder)) => {
                Ok(self.may_be_signalled(&holder)? && self.send(&holder, Signal(signal))?)
            }
        }
    }

    /// Terminates the running daemon by SIGTERM. If the daemon has not ended after `patience`,
    /// this sends SIGKILL. Returns true when the daemon has ended and the lock is released, and
    /// false if no daemon was running.
    ///
    /// If a daemon is starting, this waits until it is ready. If the daemon is still starting
    /// after `patience`, and the kernel names it, this sends SIGTERM, and SIGKILL one second
    /// later.
    ///
    /// # Errors
    ///
    /// - Those of [`signal`](Self::signal).
    /// - [`TimedOut`](io::ErrorKind::TimedOut) if the daemon has ended, but another process has
    ///   inherited the lock and still holds it after `patience`.
    /// - [`TimedOut`](io::ErrorKind::TimedOut) if SIGKILL does not end the daemon.
    pub fn stop(&self, patience: Duration) -> io::Result<bool> {
        let mut deadline = Deadline::after(patience);
        let holder = loop {
            match self.find()? {
                None => return Ok(false),
                Some(Found::Itself { .. }) => return Err(self.itself()),
                Some(Found::Running(holder)) => break holder,
                Some(Found::Starting(_)) if !deadline.has_passed() => sys::sleep(PAUSE),
                // An empty file does not confirm the holder, so that an open descriptor has
                // to.
                Some(Found::Starting(Some(holder))) if holder.has_open == Some(true) => {
                    deadline = Deadline::after(SIGTERM_GRACE);
                    break holder;
                }
                Some(Found::Starting(holder)) => {
                    return Err(self.starting(holder.map(|holder| holder.pid)));
                }
            }
        };
        // Checked once for both signals: after SIGTERM, a daemon may remove its directory
        // long before it ends.
        if !self.may_be_signalled(&holder)? {
            return Ok(false);
        }
        self.send(&holder, Signal::TERMINATE)?;
        if !holder.ends_by(deadline) {
            self.send(&holder, Signal::KILL)?;
            if !holder.ends_by(Deadline::after(SIGKILL_WAIT)) {
                return Err(self.error(
                    io::ErrorKind::TimedOut,
                    "the daemon has not ended after SIGKILL",
                ));
            }
        }
        // The lock of a process that has ended may last for an instant more.
        let lock_deadline = deadline.max(Deadline::after(UNLOCK_WAIT));
        while !self.is_unlocked(&holder.pid_file)? {
            if lock_deadline.has_passed() {
                let text = "the daemon has ended, but another process holds its lock";
                return Err(self.error(io::ErrorKind::TimedOut, text));
            }
            sys::sleep(PAUSE);
        }
        Ok(true)
    }

    /// False if the daemon has ended meanwhile. If the directory does not exist any more, no
    /// daemon of this path is running.
    fn may_be_signalled(&self, holder: &Holder) -> io::Result<bool> {
        if sys::geteuid() != Uid::ROOT {
            return Ok(true);
        }
        let directory_failed = |errno| self.failed("cannot open the directory of", errno);
        let (directory, _) = directory_and_name(&self.c_path()?);
        let directory = match sys::openat(sys::WORKING_DIRECTORY, &directory, Open::Directory) {
            Err(errno::ENOENT) => return Ok(false),
            opened => opened.map_err(directory_failed)?,
        };
        let directory_status = sys::fstat(directory.as_fd()).map_err(directory_failed)?;
        let denied = |text: &'static str| Err(self.error(io::ErrorKind::PermissionDenied, text));
        let file = &holder.status;
        if others_can_write(holder.pid_file.as_fd(), file) {
            return denied("other users can write to it");
        }
        if others_can_replace_in(directory.as_fd(), &directory_status) {
            return denied(DIRECTORY_WRITABLE);
        }
        // A user who can make links can give the pid file of another daemon this name.
        if file.links > 1 {
            return denied(HAS_LINKS);
        }
        let owners = [file.owner, directory_status.owner];
        for owner in owners.into_iter().filter(|owner| *owner != Uid::ROOT) {
            let users = match sys::users_of(holder.pid) {
                Ok(users) => users,
                Err(errno::ESRCH) => return Ok(false),
                Err(errno) => {
                    return Err(self.failed("cannot look up the user of the daemon of", errno));
                }
            };
            if users.iter().any(|user| *user != owner) {
                return denied(
                    "it or its directory belongs to another user than root, and the daemon does \
                     not run as that user",
                );
            }
        }
        Ok(true)
    }

    /// False if the daemon has ended meanwhile.
    fn send(&self, holder: &Holder, signal: Signal) -> io::Result<bool> {
        let sent = match &holder.process {
            Some(process) => sys::signal_process(process.as_fd(), signal),
            None => sys::kill(holder.pid, signal),
        };
        match sent {
            Ok(()) => Ok(true),
            Err(errno::ESRCH) => Ok(false),
            Err(errno) => {
                let what = format!(
                    "cannot signal process {}, the daemon of",
                    holder.pid.number()
                );
                Err(self.failed(&what, errno))
            }
        }
    }

    pub(super) fn c_path(&self) -> io::Result<CString> {
        CString::new(self.path.as_os_str().as_bytes())
            .map_err(|_| self.error(io::ErrorKind::InvalidInput, "its path contains a NUL byte"))
    }

    fn starting(&self, holder: Option<Pid>) -> io::Error {
        let text = match holder {
            Some(pid) => format!("daemon {} is starting", pid.number()),
            None => String::from("a daemon is starting"),
        };
        self.error(io::ErrorKind::WouldBlock, text)
    }

    fn itself(&self) -> io::Error {
        let text = "this process is the daemon, and does not signal itself";
        self.error(io::ErrorKind::InvalidInput, text)
    }

    pub(super) fn failed(&self, what: &str, errno: Errno) -> io::Error {
        let cause = io::Error::from_raw_os_error(errno);
        let text = format!("{what} pid file {}: {cause}", self.path.display());
        io::Error::new(cause.kind(), text)
    }

    pub(super) fn error(&self, kind: io::ErrorKind, text: impl AsRef<str>) -> io::Error {
        let text = format!("pid file {}: {}", self.path.display(), text.as_ref());
        io::Error::new(kind, text)
    }
}
