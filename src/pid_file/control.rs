//! The control of a running daemon by its pid file.

use std::ffi::CString;
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::time::Duration;

use super::PAUSE;
use super::holder::{Found, Holder, UnknownHolder};
use crate::deadline::{Attempts, Deadline};
use crate::sys::{self, Errno, Lock, Open, Pid, Signal, Uid, errno};
use crate::trust::{
    DIRECTORY_WRITABLE, HAS_LINKS, directory_and_name, open_directory, others_can_replace_in,
    others_can_write,
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
/// println!("{}", pid_file.status()?);
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
/// started the daemon, or if the daemon has ended and a worker has inherited its lock. Then
/// the [status](Self::status) is [`Locked`](crate::Status::Locked), and the other methods return an
/// error.
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
/// On FreeBSD and macOS a process cannot hold both locks. There the daemon is the process whose pid
/// is in the file, if it has this file open and, on FreeBSD, locked. The library opens a kqueue(2)
/// that waits for the end of the process before it checks this, and sends no signal once the
/// process has ended. Only in the instant between this check and the signal could the pid become
/// that of another process. A daemon that is starting cannot be named. The library asks by fcntl(2)
/// whether the file is locked. It takes no lock itself, so that a start does not wait for it.
///
/// FreeBSD and macOS let only some processes look at the files of others. On FreeBSD a process that
/// has changed its ids is visible to root alone, and the sysctl
/// `security.bsd.unprivileged_proc_debug` can forbid ordinary users to look at any process. If
/// `security.bsd.see_other_uids` hides the daemon, its status is
/// [`Locked`](crate::Status::Locked).
///
/// On the other platforms no call can name the process. Methods that need it fail with
/// [`Unsupported`](io::ErrorKind::Unsupported).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PidFile {
    pub(super) path: PathBuf,
}

/// The daemon that [`PidFile::stop`] terminates.
pub(super) enum Target {
    Running(Holder),
    /// It is not ready in time.
    Starting(Holder),
}

/// How long a daemon that is still starting may take to end after SIGTERM.
pub(super) const SIGTERM_GRACE: Duration = Duration::from_secs(1);
/// How long a process may take to end after SIGKILL.
pub(super) const SIGKILL_WAIT: Duration = Duration::from_secs(5);
/// How long the lock of a process that has ended may last.
const UNLOCK_WAIT: Duration = Duration::from_secs(1);

impl PidFile {
    /// The pid file at this path. This opens no file.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Sends a signal to the running daemon. Returns false if no daemon is running.
    ///
    /// ```no_run
    /// use daemonize2::{PidFile, Signal};
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let was_running = PidFile::at("/run/clockd.pid").signal(Signal::HUP)?;
    /// # let _ = was_running;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// - Those of [`running`](Self::running) and of kill(2).
    /// - [`InvalidInput`](io::ErrorKind::InvalidInput) if the calling process is the daemon, or if
    ///   the system has no such signal.
    /// - [`ResourceBusy`](io::ErrorKind::ResourceBusy) if another file has taken the path since
    ///   this process, which is root, opened the pid file, as in an upgrade.
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
    pub fn signal(&self, signal: impl Into<Signal>) -> io::Result<bool> {
        let signal = signal.into();
        let Some(holder) = self.find_running()? else {
            return Ok(false);
        };
        Ok(self.may_be_signalled(&holder)? && self.send(&holder, signal)?)
    }

    /// Terminates the running daemon by SIGTERM. If the daemon has not ended after `patience`,
    /// this sends SIGKILL. Returns true when the daemon has ended and the lock is released, and
    /// false if no daemon was running.
    ///
    /// If this process may write to the file, the file is empty afterwards. Then the
    /// [status](Self::status) is [`NotRunning`](crate::Status::NotRunning), and not
    /// [`Dead`](crate::Status::Dead) as after a crash.
    ///
    /// If a daemon is starting, this waits until it is ready. If the daemon is still starting
    /// after `patience`, and the kernel names it, this sends SIGTERM, and SIGKILL one second
    /// later.
    ///
    /// The signals reach the daemon alone. To stop its workers too, call
    /// [`stop_group`](Self::stop_group).
    ///
    /// # Errors
    ///
    /// - Those of [`signal`](Self::signal).
    /// - [`TimedOut`](io::ErrorKind::TimedOut) if the daemon has ended, but another process has
    ///   inherited the lock and still holds it after `patience`.
    /// - [`TimedOut`](io::ErrorKind::TimedOut) if SIGKILL does not end the daemon.
    pub fn stop(&self, patience: Duration) -> io::Result<bool> {
        let mut deadline = Deadline::after(patience);
        let holder = match self.await_daemon(deadline)? {
            None => return Ok(false),
            Some(Target::Running(holder)) => holder,
            Some(Target::Starting(holder)) => {
                deadline = Deadline::after(SIGTERM_GRACE);
                holder
            }
        };
        self.stop_process(&holder, deadline)
    }

    pub(super) fn stop_process(&self, holder: &Holder, deadline: Deadline) -> io::Result<bool> {
        // Checked once for both signals: after SIGTERM, a daemon may remove its directory
        // long before it ends.
        if !self.may_be_signalled(holder)? {
            return Ok(false);
        }
        self.send(holder, Signal::TERM)?;
        if !holder.ends_by(deadline) {
            self.send(holder, Signal::KILL)?;
            if !holder.ends_by(Deadline::after(SIGKILL_WAIT)) {
                let text = "the daemon has not ended after SIGKILL";
                return Err(self.error(io::ErrorKind::TimedOut, text));
            }
        }
        self.await_unlock(holder, deadline)?;
        self.empty(holder);
        Ok(true)
    }

    /// The daemon, or `None` if none runs. Waits for a daemon that is starting; once the deadline
    /// has passed, such a daemon is returned if the kernel names it.
    pub(super) fn await_daemon(&self, deadline: Deadline) -> io::Result<Option<Target>> {
        loop {
            match self.find()? {
                Found::NotRunning(_) => return Ok(None),
                Found::Running(holder) => return Ok(Some(Target::Running(holder))),
                Found::Starting(_) if !deadline.has_passed() => sys::sleep(PAUSE),
                // An empty file does not confirm the holder. So an open descriptor has to.
                Found::Starting(Some(holder)) if holder.has_open == Some(true) => {
                    return Ok(Some(Target::Starting(holder)));
                }
                Found::Starting(holder) => {
                    return Err(self.starting(holder.map(|holder| holder.pid)));
                }
                Found::Itself { .. } => return Err(self.itself()),
                Found::Locked(unknown) => return Err(self.locked(&unknown)),
            }
        }
    }

    /// The daemon that is ready, or `None` if none runs.
    pub(super) fn find_running(&self) -> io::Result<Option<Holder>> {
        match self.find()? {
            Found::NotRunning(_) => Ok(None),
            Found::Running(holder) => Ok(Some(holder)),
            Found::Starting(holder) => Err(self.starting(holder.map(|holder| holder.pid))),
            Found::Itself { .. } => Err(self.itself()),
            Found::Locked(unknown) => Err(self.locked(&unknown)),
        }
    }

    /// Waits for the release of the lock, which may outlast its process for an instant.
    pub(super) fn await_unlock(&self, holder: &Holder, deadline: Deadline) -> io::Result<()> {
        let mut attempts = Attempts::until(deadline.max(Deadline::after(UNLOCK_WAIT)));
        while !self.is_unlocked(&holder.pid_file)? && !holder.is_replaced() {
            attempts.count();
            if attempts.are_over() {
                let text = "the daemon has ended, but another process holds its lock";
                return Err(self.error(io::ErrorKind::TimedOut, text));
            }
            sys::sleep(PAUSE);
        }
        Ok(())
    }

    /// Empties the file of a daemon that was stopped, if this process may. The shared lock keeps
    /// a start from writing to the file meanwhile.
    pub(super) fn empty(&self, holder: &Holder) {
        let Ok(path) = self.c_path() else {
            return;
        };
        let id = holder.status.id;
        if sys::flock(holder.pid_file.as_fd(), Lock::Shared).is_err() {
            return;
        }
        // A file of another kind, such as a device, is not even opened.
        if sys::fstatat(sys::WORKING_DIRECTORY, &path).is_ok_and(|there| there.id == id) {
            let writable = sys::openat(sys::WORKING_DIRECTORY, &path, Open::WriteOnly);
            if let Ok(writable) = writable {
                if sys::fstat(writable.as_fd()).is_ok_and(|opened| opened.id == id) {
                    let _ = sys::ftruncate(writable.as_fd());
                }
            }
        }
        let _ = sys::flock(holder.pid_file.as_fd(), Lock::None);
    }

    /// False if the daemon has ended meanwhile.
    fn may_be_signalled(&self, holder: &Holder) -> io::Result<bool> {
        match self.required_users(holder)? {
            Some(users) => self.has_users(holder.pid, "the daemon", &users),
            None => Ok(false),
        }
    }

    /// If this process is root, refuses a path that other users could have made. Returns the users
    /// that could still have chosen the process: it must belong to each of them. `None` if the
    /// directory or the file does not exist any more: then no daemon of this path is running.
    pub(super) fn required_users(&self, holder: &Holder) -> io::Result<Option<Vec<Uid>>> {
        if sys::geteuid() != Uid::ROOT {
            return Ok(Some(Vec::new()));
        }
        let directory_failed = |errno| self.failed("cannot open the directory of", errno);
        let (directory, name) = directory_and_name(&self.c_path()?);
        let denied = |text: &'static str| Err(self.error(io::ErrorKind::PermissionDenied, text));
        let directory = match open_directory(&directory) {
            Err(refusal) if refusal.errno() == errno::ENOENT => return Ok(None),
            Err(refusal) if !refusal.reason().is_empty() => return denied(refusal.reason()),
            opened => opened.map_err(|refusal| directory_failed(refusal.errno()))?,
        };
        let directory_status = sys::fstat(directory.as_fd()).map_err(directory_failed)?;
        let file = &holder.status;
        // The path may have led to the file by a link that another user has removed since.
        match sys::fstatat(directory.as_fd(), &name) {
            Ok(there) if there.id == file.id => {}
            Ok(_) => {
                let text = "another file has its name now: try again";
                return Err(self.error(io::ErrorKind::ResourceBusy, text));
            }
            Err(errno::ENOENT) => return Ok(None),
            Err(errno) => return Err(self.failed("cannot stat", errno)),
        }
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
        let owners = [file.owner, directory_status.owner].into_iter();
        Ok(Some(owners.filter(|owner| *owner != Uid::ROOT).collect()))
    }

    /// Refuses a process unless all its user ids are the id of each of these users. False if the
    /// process has ended meanwhile.
    pub(super) fn has_users(&self, process: Pid, what: &str, required: &[Uid]) -> io::Result<bool> {
        if required.is_empty() {
            return Ok(true);
        }
        let users = match sys::users_of(process) {
            Ok(users) => users,
            Err(errno::ESRCH) => return Ok(false),
            Err(errno) => {
                let failed = format!("cannot look up the user of process {} of", process.number());
                return Err(self.failed(&failed, errno));
            }
        };
        let is_theirs = |owner: &Uid| users.iter().all(|user| user == owner);
        if !required.iter().all(is_theirs) {
            let text = format!(
                "it or its directory belongs to another user than root, and {what} does not run as \
                 that user"
            );
            return Err(self.error(io::ErrorKind::PermissionDenied, text));
        }
        Ok(true)
    }

    /// False if the daemon has ended meanwhile.
    fn send(&self, holder: &Holder, signal: Signal) -> io::Result<bool> {
        let sent = match &holder.process {
            Some(process) => sys::signal_process(process, signal),
            None => sys::kill(holder.pid, signal),
        };
        let whom = || format!("process {}, the daemon of", holder.pid.number());
        self.check_sent(sent, signal, whom)
    }

    /// False if there is no such process. `whom` precedes the path in the text of an error.
    pub(super) fn check_sent(
        &self,
        sent: Result<(), Errno>,
        signal: Signal,
        whom: impl FnOnce() -> String,
    ) -> io::Result<bool> {
        match sent {
            Ok(()) => Ok(true),
            Err(errno::ESRCH) => Ok(false),
            Err(errno::EINVAL) => {
                let what = self.what_failed(&format!("cannot send {signal} to {}", whom()));
                let text = format!("{what}: this system has no such signal");
                Err(io::Error::new(io::ErrorKind::InvalidInput, text))
            }
            Err(errno) => Err(self.failed(&format!("cannot send {signal} to {}", whom()), errno)),
        }
    }

    pub(super) fn c_path(&self) -> io::Result<CString> {
        CString::new(self.path.as_os_str().as_bytes())
            .map_err(|_| self.error(io::ErrorKind::InvalidInput, "its path contains a NUL byte"))
    }

    pub(super) fn starting(&self, holder: Option<Pid>) -> io::Error {
        let text = match holder {
            Some(pid) => format!("daemon {} is starting", pid.number()),
            None => String::from("a daemon is starting"),
        };
        self.error(io::ErrorKind::WouldBlock, text)
    }

    pub(super) fn locked(&self, unknown: &UnknownHolder) -> io::Error {
        self.error(io::ErrorKind::InvalidData, &unknown.why)
    }

    pub(super) fn itself(&self) -> io::Error {
        let text = "this process is the daemon, and does not signal itself";
        self.error(io::ErrorKind::InvalidInput, text)
    }

    pub(super) fn failed(&self, what: &str, errno: Errno) -> io::Error {
        let cause = io::Error::from_raw_os_error(errno);
        io::Error::new(cause.kind(), format!("{}: {cause}", self.what_failed(what)))
    }

    fn what_failed(&self, what: &str) -> String {
        format!("{what} pid file {}", self.path.display())
    }

    pub(super) fn error(&self, kind: io::ErrorKind, text: impl AsRef<str>) -> io::Error {
        let text = format!("pid file {}: {}", self.path.display(), text.as_ref());
        io::Error::new(kind, text)
    }
}
