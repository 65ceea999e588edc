//! The pid file of a running daemon: who it is, signals to it, its end.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd as _, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::error::Error;
use crate::own_fds;
use crate::pid_lock::{self, parse_pid};
use crate::sys::{
    self, Directory, Errno, FileKind, FileStatus, ForkIdentity, Lock, Open, Pid, Signal, Uid, errno,
};

/// The pid file of a daemon that may be running, as
/// [`Daemonize::pid_file`](crate::Daemonize::pid_file) makes it.
///
/// The lock decides, not the file's existence: a daemon that was killed leaves
/// a file without a lock, which means nothing. A number in a file proves nothing
/// either, nor does an open descriptor: a process is the daemon only if the
/// kernel names it as the holder of the lock.
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
/// # Who may ask
///
/// Any process that may open the file for reading. On Linux no other right is
/// needed: not that to trace the daemon, and no /proc. A daemon that another
/// library has started, and a worker that has inherited the lock of a daemon that
/// is gone, are named by nobody: then the answer is an error that says so.
///
/// # Platform notes
///
/// On Linux the daemon holds a lock of
/// [fcntl(2)](https://man7.org/linux/man-pages/man2/F_SETLK.2const.html) beside that
/// of flock(2), and the kernel names its holder, as a number in the pid namespace of
/// the process that asks. A signal goes through a pidfd that was opened between two
/// such questions, so that it reaches no other process.
///
/// On FreeBSD and macOS the two kinds of locks exclude each other. There the process
/// whose pid the file contains is the daemon if it has this very file open; on
/// FreeBSD, with a lock. The pid may become another's in the instants between, a
/// daemon that is starting cannot be named, and FreeBSD can forbid ordinary users to
/// look at processes, also their own (`security.bsd.unprivileged_proc_debug`). On
/// the other platforms nothing can name a process: what needs it fails with
/// [`Unsupported`](io::ErrorKind::Unsupported).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PidFile {
    path: PathBuf,
}

/// What the pid file of a living daemon says.
enum Found {
    Running(Holder),
    /// The file is locked and empty. The holder is unknown on a platform whose
    /// kernel does not name it, and until the daemon has been made.
    Starting(Option<Holder>),
    /// This process is the daemon, and has reported that it is ready or not.
    Itself {
        is_ready: bool,
    },
}

/// The process that the kernel names.
struct Holder {
    pid: Pid,
    /// Opened before the kernel was asked for the last time.
    process: Option<OwnedFd>,
    pid_file: OwnedFd,
    attributes: FileStatus,
    /// Whether it was seen to have the file open, too. `None` where this process
    /// may not look.
    has_open: Option<bool>,
}

/// How long a process that was asked to end may take, where the caller has left it
/// no time.
const SIGTERM_GRACE: Duration = Duration::from_secs(1);
/// How long a process may take to be gone after SIGKILL.
const SIGKILL_WAIT: Duration = Duration::from_secs(5);
/// On a machine with much to do an instant may be long.
const SETTLING_TIME: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(2);

impl PidFile {
    /// The pid file at this path. Nothing is opened yet.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// The pid of the running daemon. `None` where the file is absent, or
    /// nobody holds its lock.
    ///
    /// Takes a shared lock for an instant, which a start waits out. The daemon
    /// itself may ask, too.
    ///
    /// # Errors
    ///
    /// Every error names the path.
    ///
    /// - [`WouldBlock`](io::ErrorKind::WouldBlock) while a daemon is starting: from
    ///   the moment it locks the file until it is ready.
    /// - [`InvalidData`](io::ErrorKind::InvalidData) where the lock is held, but the
    ///   content is no pid, or the kernel names no process, or another one.
    /// - [`PermissionDenied`](io::ErrorKind::PermissionDenied) on FreeBSD and macOS
    ///   where this process may not look at the daemon.
    /// - What open(2) fails with.
    pub fn running(&self) -> io::Result<Option<u32>> {
        match self.find()? {
            None => Ok(None),
            Some(Found::Running(holder)) => Ok(Some(holder.pid.number())),
            Some(Found::Itself { is_ready: true }) => Ok(Some(Pid::current().number())),
            Some(Found::Starting(holder)) => Err(self.starting(holder.map(|holder| holder.pid))),
            Some(Found::Itself { is_ready: false }) => Err(self.starting(Some(Pid::current()))),
        }
    }

    /// Sends a signal to the running daemon. False where there is none.
    ///
    /// # Errors
    ///
    /// As for [`running`](Self::running), and what kill(2) fails with;
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) where the daemon is the process
    /// that asks, which is never signalled.
    ///
    /// # Security
    ///
    /// As root, a file or directory that others can write to is refused with
    /// [`PermissionDenied`](io::ErrorKind::PermissionDenied) (a directory with
    /// the sticky bit is not), and so is a file with other hard links; and where
    /// either belongs to another user, so is a process that is not wholly that
    /// user's: a user who can make a pid file can start any of its own processes as
    /// the holder.
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

    /// Ends the running daemon: SIGTERM, and SIGKILL if it has not ended when
    /// the time is up. Returns when the process is gone and the lock is free;
    /// false where no daemon was running.
    ///
    /// A daemon that is starting is waited for. One that still is when the time is
    /// up is ended, where the kernel names it: it has one more second to do so by
    /// itself.
    ///
    /// # Errors
    ///
    /// As for [`signal`](Self::signal);
    /// [`TimedOut`](io::ErrorKind::TimedOut) where the process is gone, but
    /// another one that inherited the lock still holds it when the time is up,
    /// or where even SIGKILL does not end it.
    pub fn stop(&self, patience: Duration) -> io::Result<bool> {
        let mut deadline = Instant::now()
            .checked_add(patience)
            .unwrap_or_else(|| Instant::now() + Duration::from_secs(u32::MAX.into()));
        let holder = loop {
            match self.find()? {
                None => return Ok(false),
                Some(Found::Itself { .. }) => return Err(self.itself()),
                Some(Found::Running(holder)) => break holder,
                Some(Found::Starting(_)) if Instant::now() < deadline => sys::sleep(PAUSE),
                // The file does not confirm what the lock says, so that the process
                // has to have it open.
                Some(Found::Starting(Some(holder))) if holder.has_open == Some(true) => {
                    deadline = Instant::now() + SIGTERM_GRACE;
                    break holder;
                }
                Some(Found::Starting(holder)) => {
                    return Err(self.starting(holder.map(|holder| holder.pid)));
                }
            }
        };
        // Once for both signals: a daemon that is asked to end may remove its folder
        // long before it does.
        if !self.may_be_signalled(&holder)? {
            return Ok(false);
        }
        self.send(&holder, Signal::TERMINATE)?;
        if !holder.ends_by(deadline) {
            self.send(&holder, Signal::KILL)?;
            if !holder.ends_by(Instant::now() + SIGKILL_WAIT) {
                return Err(self.error(io::ErrorKind::TimedOut, "SIGKILL has not ended the daemon"));
            }
        }
        // A process that was seen to be gone may have its lock for an instant more.
        let lock_deadline = deadline.max(Instant::now() + SETTLING_TIME);
        while !self.is_unlocked(&holder.pid_file)? {
            if Instant::now() >= lock_deadline {
                let text = "the daemon has ended, but another process holds its lock";
                return Err(self.error(io::ErrorKind::TimedOut, text));
            }
            sys::sleep(PAUSE);
        }
        Ok(true)
    }

    /// Looks again for a while at what makes no sense: a daemon that starts has
    /// the lock an instant before the file is empty, and one that ends has lost
    /// its descriptors an instant before the lock.
    fn find(&self) -> io::Result<Option<Found>> {
        let deadline = Instant::now() + SETTLING_TIME;
        loop {
            match self.look() {
                Err(error)
                    if error.kind() == io::ErrorKind::InvalidData && Instant::now() < deadline =>
                {
                    sys::sleep(PAUSE);
                }
                found => return found,
            }
        }
    }

    fn look(&self) -> io::Result<Option<Found>> {
        let path = CString::new(self.path.as_os_str().as_bytes())
            .map_err(|_| self.error(io::ErrorKind::InvalidInput, "NUL byte in path"))?;
        if let Some(is_ready) = self.is_own(&path) {
            return Ok(Some(Found::Itself { is_ready }));
        }
        let pid_file = match sys::openat(Directory::Working, &path, Open::ReadOnly) {
            Ok(descriptor) => descriptor,
            Err(errno::ENOENT) => return Ok(None),
            Err(errno) => return Err(self.failed("cannot open", errno)),
        };
        let attributes =
            sys::fstat(pid_file.as_fd()).map_err(|errno| self.failed("cannot stat", errno))?;
        if attributes.kind != FileKind::Regular {
            return Err(self.error(io::ErrorKind::InvalidData, "not a regular file"));
        }
        if self.is_unlocked(&pid_file)? {
            return Ok(None);
        }
        let mut content = [0; 32];
        let length = sys::pread(pid_file.as_fd(), &mut content)
            .map_err(|errno| self.failed("cannot read", errno))?;
        let content = &content[..length];
        let written = parse_pid(content);
        if written.is_none() && !content.is_empty() {
            return Err(self.error(io::ErrorKind::InvalidData, "locked, but contains no pid"));
        }
        let Some(pid) = self.named(&pid_file, written)? else {
            // Nobody is, where no daemon has been made yet.
            return Ok(Some(Found::Starting(None)));
        };
        let process = sys::open_process(pid);
        let has_open = match sys::has_open(pid, attributes.id) {
            Ok(has_open) => Some(has_open),
            Err(_) if self.kernel_names_holders(&pid_file) => None,
            Err(errno) => {
                return Err(self.failed(&format!("cannot look at process {}", pid.number()), errno));
            }
        };
        // Asked once more, since the pid may have been another's when the process
        // was opened.
        if has_open == Some(false) || self.named(&pid_file, written)? != Some(pid) {
            if self.is_unlocked(&pid_file)? {
                return Ok(None);
            }
            let text = format!("locked, but not by process {}", pid.number());
            return Err(self.error(io::ErrorKind::InvalidData, text));
        }
        let holder = Holder {
            pid,
            process,
            pid_file,
            attributes,
            has_open,
        };
        Ok(Some(match written {
            Some(_) => Found::Running(holder),
            None => Found::Starting(Some(holder)),
        }))
    }

    /// Whether this process is the daemon, and ready. Never opened then: closing a
    /// descriptor of the file would lose the lock that names this process.
    fn is_own(&self, path: &CStr) -> Option<bool> {
        let attributes = sys::fstatat(Directory::Working, path).ok()?;
        own_fds::is_daemon_of(attributes.id)
    }

    fn kernel_names_holders(&self, pid_file: &OwnedFd) -> bool {
        sys::record_lock_holder(pid_file.as_fd(), None) != Err(errno::ENOSYS)
    }

    /// The process that the kernel names as the holder: that which has written its
    /// pid, or any while the file is empty. Where the kernel names none, it is taken
    /// for that which is written.
    fn named(&self, pid_file: &OwnedFd, written: Option<Pid>) -> io::Result<Option<Pid>> {
        let nobody = "locked, but the kernel names no process: it was locked by a program that \
                      does not use this library, or by a worker of a daemon that has ended, \
                      or the daemon has closed the file (fuser(1) lists the processes that \
                      have it open)";
        match (sys::record_lock_holder(pid_file.as_fd(), written), written) {
            (Err(errno::ENOSYS), _) => Ok(written),
            (Err(errno::ESRCH), _) => {
                let text = "locked by a process of another pid namespace, which has no number here";
                Err(self.error(io::ErrorKind::InvalidData, text))
            }
            (Err(errno), _) => Err(self.failed("cannot ask for the holder of", errno)),
            (Ok(None), None) => Ok(None),
            (Ok(None), Some(_)) => Err(self.error(io::ErrorKind::InvalidData, nobody)),
            (Ok(Some(named)), Some(written))
                if named != written && !sys::is_also_numbered(named, written) =>
            {
                let (named, written) = (named.number(), written.number());
                let text = format!("locked by process {named}, but contains {written}");
                Err(self.error(io::ErrorKind::InvalidData, text))
            }
            (Ok(Some(named)), _) => Ok(Some(named)),
        }
    }

    /// False where the daemon has ended meanwhile; or where the folder is gone, so
    /// that by this path no daemon is running any more.
    fn may_be_signalled(&self, holder: &Holder) -> io::Result<bool> {
        if sys::geteuid() != Uid::ROOT {
            return Ok(true);
        }
        let (folder_descriptor, folder) = match self.folder() {
            Ok(folder) => folder,
            Err(errno::ENOENT) => return Ok(false),
            Err(errno) => return Err(self.failed("cannot open the directory of", errno)),
        };
        let denied = |text: &'static str| Err(self.error(io::ErrorKind::PermissionDenied, text));
        let file = &holder.attributes;
        if pid_lock::others_can_write(holder.pid_file.as_fd(), file) {
            return denied("other users can write to it");
        }
        if pid_lock::others_can_replace_in(folder_descriptor.as_fd(), &folder) {
            return denied("other users can write to its directory");
        }
        // A user who may make links may give another daemon's pid file this name.
        if file.links > 1 {
            return denied("it has other hard links");
        }
        let owners = [file.owner, folder.owner];
        for owner in owners.into_iter().filter(|owner| *owner != Uid::ROOT) {
            let users = match sys::users_of(holder.pid) {
                Ok(users) => users,
                Err(errno::ESRCH) => return Ok(false),
                Err(errno) => return Err(self.failed("cannot tell whose the daemon is of", errno)),
            };
            if users.iter().any(|user| *user != owner) {
                return denied("another user can write to it, and the process is not that user's");
            }
        }
        Ok(true)
    }

    fn folder(&self) -> Result<(OwnedFd, FileStatus), Errno> {
        let folder = match self.path.parent() {
            Some(folder) if folder != Path::new("") => folder,
            _ => Path::new("."),
        };
        let folder = CString::new(folder.as_os_str().as_bytes()).map_err(|_| errno::EINVAL)?;
        let opened = sys::openat(Directory::Working, &folder, Open::Directory)?;
        let attributes = sys::fstat(opened.as_fd())?;
        Ok((opened, attributes))
    }

    /// False where the daemon has ended meanwhile.
    fn send(&self, holder: &Holder, signal: Signal) -> io::Result<bool> {
        let sent = match &holder.process {
            Some(process) => sys::signal_process(process.as_fd(), signal),
            None => sys::kill(holder.pid, signal),
        };
        match sent {
            Ok(()) => Ok(true),
            Err(errno::ESRCH) => Ok(false),
            Err(errno) => {
                let what = format!("cannot signal process {}, the daemon", holder.pid.number());
                Err(self.failed(&what, errno))
            }
        }
    }

    fn is_unlocked(&self, pid_file: &OwnedFd) -> io::Result<bool> {
        match sys::flock(pid_file.as_fd(), Lock::Shared) {
            Ok(()) => {
                let _ = sys::flock(pid_file.as_fd(), Lock::None);
                Ok(true)
            }
            Err(errno::EWOULDBLOCK) => Ok(false),
            Err(errno) => Err(self.failed("cannot lock", errno)),
        }
    }

    fn starting(&self, holder: Option<Pid>) -> io::Error {
        let text = match holder {
            Some(pid) => format!("daemon {} is starting", pid.number()),
            None => String::from("a daemon is starting"),
        };
        self.error(io::ErrorKind::WouldBlock, text)
    }

    fn itself(&self) -> io::Error {
        let text = "the daemon is this process, which does not signal itself";
        self.error(io::ErrorKind::InvalidInput, text)
    }

    fn failed(&self, what: &str, errno: Errno) -> io::Error {
        let cause = io::Error::from_raw_os_error(errno);
        let text = format!("{what} pid file {}: {cause}", self.path.display());
        io::Error::new(cause.kind(), text)
    }

    fn error(&self, kind: io::ErrorKind, text: impl AsRef<str>) -> io::Error {
        let text = format!("pid file {}: {}", self.path.display(), text.as_ref());
        io::Error::new(kind, text)
    }
}

impl Holder {
    /// Waits for the end of the process. False if the time was up first.
    fn ends_by(&self, deadline: Instant) -> bool {
        let left = || deadline.saturating_duration_since(Instant::now());
        if let Some(process) = &self.process {
            return sys::await_readable(process.as_fd(), Some(left()));
        }
        while sys::has_open(self.pid, self.attributes.id) == Ok(true) {
            if left().is_zero() {
                return false;
            }
            sys::sleep(PAUSE);
        }
        true
    }
}

/// Says who holds the lock that a start could not have.
pub(crate) fn describe_holder(error: Error, path: &Path) -> Error {
    let running = |pid: Pid| error.clone().held_by(pid.number());
    match PidFile::at(path).look() {
        Ok(Some(Found::Running(holder))) => running(holder.pid),
        Ok(Some(Found::Itself { is_ready: true })) => running(Pid::current()),
        Ok(Some(Found::Itself { is_ready: false })) => {
            error.because("held by this process, which is starting")
        }
        Ok(Some(Found::Starting(Some(holder)))) => error.because(format!(
            "held by daemon {}, which is starting",
            holder.pid.number()
        )),
        Ok(Some(Found::Starting(None))) => error.because("held by a daemon that is starting"),
        Ok(None) | Err(_) => error.because("held by another process"),
    }
}

/// Removes the pid file of this process at a clean exit.
///
/// Not needed for the next start, which takes over what is left; but tidy. The file
/// is removed when the process exits after the guard was dropped: by a return from
/// `main`, or by [`exit`](std::process::exit). It stays, and stays locked, until
/// then: as long as this process lives, no second one starts. A process that is
/// killed, or ends by `_exit` or `abort`, leaves the file. That is harmless.
///
/// The file is removed where its path still leads to it and this process may. After a
/// change of identity it often may not, and after a change of root directory the path
/// leads elsewhere.
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
#[must_use = "the pid file is removed once this is dropped and the process exits"]
#[derive(Debug)]
pub struct PidFileGuard {
    /// The number of the pid file's descriptor.
    number: RawFd,
    process: ForkIdentity,
}

impl PidFileGuard {
    /// Takes charge of the pid file that the last start has locked for this
    /// process. `None` where there was none, or it has a guard already.
    ///
    /// With [deferred readiness](crate::Daemonize::deferred_readiness), there
    /// is one after [`Readiness::ready`](crate::Readiness::ready).
    #[must_use = "without the guard, the pid file is left when the process exits"]
    pub fn take() -> Option<Self> {
        own_fds::guard_pid_file().map(|number| Self {
            number,
            process: ForkIdentity::current(),
        })
    }
}

impl Drop for PidFileGuard {
    fn drop(&mut self) {
        // A copy made by fork(2) is not the daemon.
        if self.process == ForkIdentity::current() {
            own_fds::remove_pid_file_at_exit(self.number);
        }
    }
}
