//! The registry of the descriptors that the library keeps open while the caller's code runs:
//! pid files, and the channel and the streams to come of a start that is not committed.
//!
//! A process that the caller forks has copies of these descriptors, and of the values that
//! own them. Such a value is forgotten there, never dropped: the caller may have closed the
//! copy, and another file may have its number. If this process or such a copy of it starts a
//! daemon, the daemon closes the copies and empties the registry. A file that gets one of
//! the numbers later does not belong to the library.

use std::ffi::CStr;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, IntoRawFd as _, OwnedFd, RawFd};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};

use crate::sys::{self, FileId, ForkIdentity};

static OWN_FDS: Mutex<Vec<OwnFd>> = Mutex::new(Vec::new());

#[derive(Clone, Copy)]
struct OwnFd {
    number: RawFd,
    /// Tells a copy from another file that has got the number. Unknown if fstat(2) has
    /// failed.
    file: Option<FileId>,
    process: ForkIdentity,
    purpose: Purpose,
}

#[derive(Clone, Copy)]
enum Purpose {
    Channel,
    /// The pid file of a start that is not committed.
    StartingPidFile,
    /// The pid file of this daemon. It stays open while the process lives, since closing it
    /// unlocks the file.
    PidFile {
        /// The absolute path, if it is known.
        path: Option<&'static CStr>,
        removal: Removal,
    },
}

/// Whether the pid file is removed when the process exits.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Removal {
    None,
    /// A guard exists, and decides.
    Guarded,
    AtExit,
}

impl OwnFd {
    fn is_of(&self, descriptor: BorrowedFd<'_>, process: ForkIdentity) -> bool {
        self.number == descriptor.as_raw_fd() && self.process == process
    }

    fn is_pid_file(&self) -> bool {
        matches!(
            self.purpose,
            Purpose::StartingPidFile | Purpose::PidFile { .. }
        )
    }
}

fn own_fds() -> MutexGuard<'static, Vec<OwnFd>> {
    OWN_FDS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// While this lives, no other thread changes the registry. Otherwise it could stay locked
/// in the child of fork(2) for ever.
pub(crate) struct LockedForFork(MutexGuard<'static, Vec<OwnFd>>);

impl LockedForFork {
    /// Closes the copies that a child of this process has, and forgets them.
    /// Async-signal-safe.
    pub(crate) fn close_copies(&mut self) {
        for own in &*self.0 {
            if let Some(file) = own.file {
                sys::close_if_same_file(own.number, file);
            }
        }
        // The entries are plain data, so that nothing is freed.
        self.0.clear();
    }
}

/// Locks the registry before fork(2). Reserves the memory for the pid file, the channel and
/// the three streams of one start, since nothing may be allocated after the fork.
pub(crate) fn lock_for_fork() -> LockedForFork {
    let mut own_fds = own_fds();
    own_fds.reserve(5);
    LockedForFork(own_fds)
}

/// Registers a channel, a descriptor that names a process, or a stream to come.
pub(crate) fn register(descriptor: BorrowedFd<'_>) {
    let file = sys::fstat(descriptor).map(|attributes| attributes.id);
    add(descriptor, file.ok(), Purpose::Channel);
}

/// Registers the pid file of a start that is not committed.
pub(crate) fn register_pid_file(descriptor: BorrowedFd<'_>, file: FileId) {
    add(descriptor, Some(file), Purpose::StartingPidFile);
}

fn add(descriptor: BorrowedFd<'_>, file: Option<FileId>, purpose: Purpose) {
    let process = ForkIdentity::current();
    let mut own_fds = own_fds();
    own_fds.retain(|own| !own.is_of(descriptor, process));
    own_fds.push(OwnFd {
        number: descriptor.as_raw_fd(),
        file,
        process,
        purpose,
    });
}

/// Forgets a descriptor that this process is about to close.
pub(crate) fn unregister(descriptor: BorrowedFd<'_>) {
    let process = ForkIdentity::current();
    own_fds().retain(|own| !own.is_of(descriptor, process));
}

/// The entries of this process for which `select` returns a value.
fn select<T>(select: impl Fn(&OwnFd) -> Option<T>) -> Vec<T> {
    let process = ForkIdentity::current();
    let own_fds = own_fds();
    let own = own_fds.iter().filter(|own| own.process == process);
    own.filter_map(select).collect()
}

/// The descriptors of this process.
pub(crate) fn numbers() -> Vec<RawFd> {
    select(|own| Some(own.number))
}

/// The pid files that this process has locked.
pub(crate) fn pid_files() -> Vec<FileId> {
    select(|own| own.file.filter(|_| own.is_pid_file()))
}

/// Whether this process is the daemon of this pid file; false while it is starting. `None`
/// if the process has not locked the file.
pub(crate) fn is_daemon_of(pid_file: FileId) -> Option<bool> {
    let is_it = |own: &OwnFd| own.is_pid_file() && own.file == Some(pid_file);
    let is_daemon = |own: &OwnFd| matches!(own.purpose, Purpose::PidFile { .. });
    select(|own| is_it(own).then(|| is_daemon(own))).pop()
}

/// The descriptor that has the lock, if this process is the daemon of this pid file.
pub(crate) fn number_of(pid_file: FileId) -> Option<RawFd> {
    select(|own| {
        let is_kept = matches!(own.purpose, Purpose::PidFile { .. });
        (is_kept && own.file == Some(pid_file)).then_some(own.number)
    })
    .pop()
}

/// Keeps a pid file open, and therefore locked, while this process lives.
pub(crate) fn keep_pid_file(lock: OwnedFd, file: FileId, path: Option<&'static CStr>) {
    let removal = Removal::None;
    add(lock.as_fd(), Some(file), Purpose::PidFile { path, removal });
    let _ = lock.into_raw_fd();
}

/// Keeps a pid file open that the program has inherited with its lock. If another thread has
/// adopted the file meanwhile, its entry stays: a guard may decide on it.
pub(crate) fn adopt_pid_file(lock: OwnedFd, file: FileId, path: &'static CStr) {
    let process = ForkIdentity::current();
    let mut own_fds = own_fds();
    let is_adopted = |own: &OwnFd| own.is_of(lock.as_fd(), process) && own.file == Some(file);
    if !own_fds.iter().any(is_adopted) {
        own_fds.push(OwnFd {
            number: lock.as_raw_fd(),
            file: Some(file),
            process,
            purpose: Purpose::PidFile {
                path: Some(path),
                removal: Removal::None,
            },
        });
    }
    let _ = lock.into_raw_fd();
}

/// Lets a guard decide on the removal of this process's newest pid file without one.
/// Returns the number of the file's descriptor.
pub(crate) fn guard_pid_file() -> Option<RawFd> {
    set_removal(None, Removal::None, Removal::Guarded)
}

/// Removes a guarded pid file when the process exits.
pub(crate) fn remove_pid_file_at_exit(number: RawFd) {
    if set_removal(Some(number), Removal::Guarded, Removal::AtExit).is_some() {
        sys::atexit(remove_pid_files);
    }
}

/// Changes the newest pid file of this process, or the one with this number.
fn set_removal(number: Option<RawFd>, from: Removal, to: Removal) -> Option<RawFd> {
    let process = ForkIdentity::current();
    let mut own_fds = own_fds();
    let own = own_fds.iter_mut().filter(|own| own.process == process);
    let mut newest_first = own.rev();
    newest_first.find_map(|own| match &mut own.purpose {
        Purpose::PidFile { removal, .. }
            if *removal == from && number.is_none_or(|number| own.number == number) =>
        {
            *removal = to;
            Some(own.number)
        }
        _ => None,
    })
}

/// Unlinks each pid file whose descriptor and path still refer to it, if the process has the
/// permission. The file stays locked until the process ends.
extern "C" fn remove_pid_files() {
    let own_fds = match OWN_FDS.try_lock() {
        Ok(own_fds) => own_fds,
        Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
        // The thread that has locked it may never run again.
        Err(TryLockError::WouldBlock) => return,
    };
    let process = ForkIdentity::current();
    for own in own_fds.iter().filter(|own| own.process == process) {
        let (Purpose::PidFile { path, removal }, Some(file)) = (own.purpose, own.file) else {
            continue;
        };
        if let (Removal::AtExit, Some(path)) = (removal, path) {
            let status = sys::fstatat(sys::WORKING_DIRECTORY, path);
            if status.is_ok_and(|status| status.id == file) && sys::is_same_file(own.number, file) {
                let _ = sys::unlinkat(sys::WORKING_DIRECTORY, path);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    #[test]
    fn an_unregistered_descriptor_is_forgotten() {
        let [one, other] = [(); 2].map(|()| OwnedFd::from(File::open("/").expect("open the root")));
        let numbers = [one.as_raw_fd(), other.as_raw_fd()];
        // Other tests register some as well.
        let registered = || -> Vec<_> {
            let all = super::numbers().into_iter();
            all.filter(|number| numbers.contains(number)).collect()
        };
        register(one.as_fd());
        register(other.as_fd());
        assert_eq!(registered(), numbers);
        register(one.as_fd());
        assert_eq!(registered().len(), 2);
        unregister(other.as_fd());
        assert_eq!(registered(), [numbers[0]]);
        unregister(one.as_fd());
        assert!(registered().is_empty());
    }
}
