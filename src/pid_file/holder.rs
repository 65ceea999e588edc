//! The process that holds a pid file.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::time::Duration;

use super::{PAUSE, PidFile, parse_pid};
use crate::deadline::{Attempts, Deadline};
use crate::error::Error;
use crate::sys::{self, FileKind, FileStatus, Open, Pid, ProcessHandle, errno};

/// What a pid file means.
pub(super) enum Found {
    /// The file does not exist or is not locked. It may contain a pid.
    NotRunning(Option<Pid>),
    /// The process that has the lock is no daemon that runs or starts.
    Locked(UnknownHolder),
    Running(Holder),
    /// The file is empty. The holder is unknown if the kernel of the platform does not name
    /// it, and before the daemon is forked.
    Starting(Option<Holder>),
    /// This process is the daemon.
    Itself {
        is_ready: bool,
    },
}

/// Why the holder of a lock is not the daemon.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct UnknownHolder {
    /// The process that the kernel names, if it names one.
    pub(super) pid: Option<Pid>,
    pub(super) why: String,
}

impl UnknownHolder {
    fn new(pid: Option<Pid>, why: impl Into<String>) -> Self {
        Self {
            pid,
            why: why.into(),
        }
    }
}

/// The process that the kernel names.
pub(super) struct Holder {
    pub(super) pid: Pid,
    /// The pid in the file. It may be that of another pid namespace.
    written: Option<Pid>,
    /// Opened before the kernel names the process for the last time.
    pub(super) process: Option<ProcessHandle>,
    pub(super) pid_file: OwnedFd,
    pub(super) status: FileStatus,
    /// Whether the process also has the file open. `None` if this process may not look.
    pub(super) has_open: Option<bool>,
}

/// Longer than any content that is a pid.
const LONGEST_CONTENT: usize = 32;

/// How long a pid file may contradict its lock. On a busy machine an instant may be long.
pub(super) const SETTLING_TIME: Duration = Duration::from_secs(1);

impl PidFile {
    /// Looks again for a while if the file contradicts its lock. A daemon that starts has
    /// the lock an instant before the file is empty. A daemon that ends loses its
    /// descriptors an instant before the lock.
    pub(super) fn find(&self) -> io::Result<Found> {
        settle(SETTLING_TIME, || self.look())
    }

    fn look(&self) -> io::Result<Found> {
        let path = self.c_path()?;
        // A process does not open its own pid file: it would lose its record lock when it closes
        // the descriptor.
        if let Ok(status) = sys::fstatat(sys::WORKING_DIRECTORY, &path) {
            if let Some(is_ready) = self.is_ready_itself(&status) {
                return Ok(Found::Itself { is_ready });
            }
        }
        let pid_file = match sys::openat(sys::WORKING_DIRECTORY, &path, Open::ReadOnly) {
            Ok(descriptor) => descriptor,
            Err(errno::ENOENT) => return Ok(Found::NotRunning(None)),
            Err(errno) => return Err(self.failed("cannot open", errno)),
        };
        let status =
            sys::fstat(pid_file.as_fd()).map_err(|errno| self.failed("cannot stat", errno))?;
        if status.kind != FileKind::Regular {
            return Err(self.error(io::ErrorKind::InvalidData, "it is not a regular file"));
        }
        if let Some(written) = self.pid_if_unlocked(&pid_file)? {
            return Ok(Found::NotRunning(written));
        }
        let mut content = [0; LONGEST_CONTENT];
        let length = sys::pread(pid_file.as_fd(), &mut content)
            .map_err(|errno| self.failed("cannot read", errno))?;
        let content = &content[..length];
        let written = parse_pid(content);
        if written.is_none() && !content.is_empty() {
            let named = sys::record_lock_holder(pid_file.as_fd(), None);
            let holder =
                UnknownHolder::new(named.ok().flatten(), "it is locked, but contains no pid");
            return Ok(Found::Locked(holder));
        }
        let pid = match self.named(&pid_file, written)? {
            Ok(Some(pid)) => pid,
            // The daemon is not forked yet.
            Ok(None) => return Ok(Found::Starting(None)),
            Err(unknown) => return Ok(Found::Locked(unknown)),
        };
        let process = sys::open_process(pid);
        let has_open = match sys::has_open(pid, status.id) {
            Ok(has_open) => Some(has_open),
            // The kernel names holders, so the look at open files is not needed.
            Err(_) if sys::record_lock_holder(pid_file.as_fd(), None) != Err(errno::ENOSYS) => None,
            Err(errno) => {
                let what = format!("cannot find out whether process {} holds", pid.number());
                let error = self.failed(&what, errno);
                return Err(match errno {
                    errno::EPERM | errno::EACCES => {
                        let reason = sys::WHY_OPEN_FILES_ARE_HIDDEN;
                        io::Error::new(error.kind(), format!("{error}: {reason}"))
                    }
                    _ => error,
                });
            }
        };
        // The kernel is asked again, since the pid may have been that of another process
        // when the process was opened.
        if has_open == Some(false) || self.named(&pid_file, written)? != Ok(Some(pid)) {
            if let Some(written) = self.pid_if_unlocked(&pid_file)? {
                return Ok(Found::NotRunning(written));
            }
            let why = format!("it is locked, but not by process {}", pid.number());
            return Ok(Found::Locked(UnknownHolder::new(None, why)));
        }
        let holder = Holder {
            pid,
            written,
            process,
            pid_file,
            status,
            has_open,
        };
        Ok(match written {
            Some(_) => Found::Running(holder),
            None => Found::Starting(Some(holder)),
        })
    }

    /// The process that the kernel names as the holder. If the file contains a pid, the
    /// holder must have that pid. On a platform whose kernel does not name holders, the
    /// process of that pid counts as the holder, unless it is this process: the library
    /// knows which files this process has locked.
    fn named(
        &self,
        pid_file: &OwnedFd,
        written: Option<Pid>,
    ) -> io::Result<Result<Option<Pid>, UnknownHolder>> {
        let nobody = "it is locked, but the kernel names no process: a program without this \
                      library has locked it, a worker has inherited the lock of a daemon that \
                      has ended, or the daemon has closed the file (fuser(1) lists the processes \
                      that have it open)";
        Ok(
            match (sys::record_lock_holder(pid_file.as_fd(), written), written) {
                (Err(errno::ENOSYS), Some(itself)) if itself == Pid::current() => {
                    let why = format!(
                        "it is locked and contains {}, the pid of this process, which is not its \
                         daemon",
                        itself.number()
                    );
                    Err(UnknownHolder::new(None, why))
                }
                (Err(errno::ENOSYS), _) => Ok(written),
                (Err(errno::ESRCH), _) => Err(UnknownHolder::new(
                    None,
                    "it is locked by a process of a pid namespace that this process cannot see",
                )),
                (Err(errno), _) => {
                    return Err(self.failed("cannot find out which process holds", errno));
                }
                (Ok(None), None) => Ok(None),
                (Ok(None), Some(_)) => Err(UnknownHolder::new(None, nobody)),
                (Ok(Some(named)), Some(written))
                    if named != written && !sys::is_also_numbered(named, written) =>
                {
                    let (holder, written) = (named.number(), written.number());
                    let why = format!("it is locked by process {holder}, but contains {written}");
                    Err(UnknownHolder::new(Some(named), why))
                }
                (Ok(Some(named)), _) => Ok(Some(named)),
            },
        )
    }

    pub(super) fn is_unlocked(&self, pid_file: &OwnedFd) -> io::Result<bool> {
        self.pid_if_unlocked(pid_file).map(|found| found.is_some())
    }

    /// The pid that an unlocked file contains. `None` if a process has an exclusive lock on the
    /// file.
    fn pid_if_unlocked(&self, pid_file: &OwnedFd) -> io::Result<Option<Option<Pid>>> {
        let pid_file = pid_file.as_fd();
        let written = sys::probe_lock(pid_file).and_then(|()| {
            let mut content = [0; LONGEST_CONTENT];
            let length = sys::pread(pid_file, &mut content);
            sys::end_probe(pid_file)?;
            Ok(length.ok().and_then(|length| parse_pid(&content[..length])))
        });
        match written {
            Ok(written) => Ok(Some(written)),
            Err(errno::EWOULDBLOCK) => Ok(None),
            Err(errno) => Err(self.failed("cannot lock", errno)),
        }
    }
}

/// Looks until the file does not contradict its lock, or until this time has passed.
fn settle(time: Duration, mut look: impl FnMut() -> io::Result<Found>) -> io::Result<Found> {
    let mut attempts = Attempts::within(time);
    loop {
        let found = look();
        attempts.count();
        if !matches!(found, Ok(Found::Locked(_))) || attempts.are_over() {
            return found;
        }
        sys::sleep(PAUSE);
    }
}

impl Holder {
    /// Whether another start has locked the file meanwhile: it has then removed the pid.
    pub(super) fn is_replaced(&self) -> bool {
        let mut content = [0; LONGEST_CONTENT];
        sys::pread(self.pid_file.as_fd(), &mut content)
            .is_ok_and(|length| parse_pid(&content[..length]) != self.written)
    }

    /// Waits for the end of the process. False if the deadline passes first.
    pub(super) fn ends_by(&self, deadline: Deadline) -> bool {
        if let Some(process) = &self.process {
            return sys::await_readable(process.as_fd(), deadline);
        }
        loop {
            let has_ended = match sys::has_open(self.pid, self.status.id) {
                Ok(has_open) => !has_open,
                // This process may not look at the other process any more. Once the file is
                // unlocked, the pid may be that of a third process.
                Err(_) => {
                    let pid_file = self.pid_file.as_fd();
                    sys::probe_lock(pid_file).is_ok_and(|()| sys::end_probe(pid_file).is_ok())
                }
            };
            if has_ended || deadline.has_passed() {
                return has_ended;
            }
            sys::sleep(PAUSE);
        }
    }
}

/// Adds the holder of the lock to the error of a start that could not get the lock.
pub(crate) fn describe_holder(error: Error, path: &Path) -> Error {
    let running = |pid: Pid| error.clone().with_running_pid(pid.number());
    match PidFile::at(path).look() {
        Ok(Found::Running(holder)) => running(holder.pid),
        Ok(Found::Itself { is_ready: true }) => running(Pid::current()),
        Ok(Found::Itself { is_ready: false }) => {
            error.with_reason("held by this process, which is starting")
        }
        Ok(Found::Starting(Some(holder))) => error.with_reason(format!(
            "held by daemon {}, which is starting",
            holder.pid.number()
        )),
        Ok(Found::Starting(None)) => error.with_reason("held by a daemon that is starting"),
        Ok(Found::NotRunning(_) | Found::Locked(_)) | Err(_) => {
            error.with_reason("held by another process")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn locked() -> io::Result<Found> {
        Ok(Found::Locked(UnknownHolder::new(None, "it is locked")))
    }

    #[test]
    fn a_look_that_outlasts_the_time_is_not_the_last() {
        let mut looks = 0;
        let found = settle(Duration::ZERO, || {
            looks += 1;
            match looks {
                1 => locked(),
                _ => Ok(Found::NotRunning(None)),
            }
        });
        assert!(matches!(found, Ok(Found::NotRunning(None))));
    }

    #[test]
    fn a_lasting_contradiction_is_found() {
        let mut looks = 0;
        let found = settle(Duration::ZERO, || {
            looks += 1;
            locked()
        });
        assert!(matches!(found, Ok(Found::Locked(_))));
        assert_eq!(looks, Attempts::MIN);
    }
}
