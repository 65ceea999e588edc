//! The registry of the descriptors that the library keeps open while the
//! caller's code runs: pid files, and the channel of a start that is not
//! committed.
//!
//! A process that the caller forks has copies of these descriptors, and of the
//! values that own them. Such a value is forgotten there, never dropped: the
//! caller may have closed the copy, and its number may be another file's by
//! then. A daemon that this process starts, or that such a copy of it starts,
//! closes the copies and empties the registry. A file that gets one of the numbers
//! later does not belong to the library.

use std::ffi::CStr;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, IntoRawFd as _, OwnedFd, RawFd};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};

use crate::sys::{self, Directory, FileId, ForkIdentity};

static OWN_FDS: Mutex<Vec<OwnFd>> = Mutex::new(Vec::new());

#[derive(Clone, Copy)]
struct OwnFd {
    number: RawFd,
    /// Tells a copy from another file that has the number by now. Unknown where
    /// fstat(2) has failed.
    file: Option<FileId>,
    process: ForkIdentity,
    purpose: Purpose,
}

#[derive(Clone, Copy)]
enum Purpose {
    Channel,
    /// The pid file of a start that is not committed.
    StartingPidFile,
    /// The pid file of this daemon. It stays open for as long as the process
    /// lives, since closing it unlocks the file.
    PidFile {
        /// The absolute path, where it is known.
        path: Option<&'static CStr>,
        removal: Removal,
    },
}

/// What becomes of the pid file when the process exits.
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

/// While this lives no other thread changes the registry: the child of fork(2)
/// would find it locked for ever.
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

/// To be called before fork(2). Makes room for the entries of one start, since
/// nothing may be allocated after it.
pub(crate) fn lock_for_fork() -> LockedForFork {
    /// A pid file and a channel.
    const OF_ONE_START: usize = 2;

    let mut own_fds = own_fds();
    own_fds.reserve(OF_ONE_START);
    LockedForFork(own_fds)
}

/// Registers a channel, or a descriptor that names a process.
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

/// The numbers of this process's own.
pub(crate) fn numbers() -> Vec<RawFd> {
    let process = ForkIdentity::current();
    let own_fds = own_fds();
    let own = own_fds.iter().filter(|own| own.process == process);
    own.map(|own| own.number).collect()
}

/// The pid files that this process has locked.
pub(crate) fn pid_files() -> Vec<FileId> {
    let process = ForkIdentity::current();
    let own_fds = own_fds();
    let own = own_fds.iter().filter(|own| own.process == process);
    own.filter(|own| own.is_pid_file())
        .filter_map(|own| own.file)
        .collect()
}

/// Whether this process is the daemon of this pid file; false while it is
/// starting. `None` where the file is not its own.
pub(crate) fn is_daemon_of(pid_file: FileId) -> Option<bool> {
    let process = ForkIdentity::current();
    let own_fds = own_fds();
    let own = (own_fds.iter())
        .find(|own| own.process == process && own.is_pid_file() && own.file == Some(pid_file))?;
    Some(matches!(own.purpose, Purpose::PidFile { .. }))
}

/// Keeps a pid file open, and with it locked, for as long as this process
/// lives.
pub(crate) fn keep_pid_file(lock: OwnedFd, file: FileId, path: Option<&'static CStr>) {
    let removal = Removal::None;
    add(lock.as_fd(), Some(file), Purpose::PidFile { path, removal });
    let _ = lock.into_raw_fd();
}

/// Hands the removal of this process's newest pid file that has no guard to
/// one: the number of its descriptor.
pub(crate) fn guard_pid_file() -> Option<RawFd> {
    set_removal(Removal::None, Removal::Guarded, |_| true)
}

/// Has a pid file that was handed to a guard removed when the process exits.
pub(crate) fn remove_pid_file_at_exit(number: RawFd) {
    let is_it = |candidate| candidate == number;
    if set_removal(Removal::Guarded, Removal::AtExit, is_it).is_some() {
        sys::atexit(remove_pid_files);
    }
}

fn set_removal(from: Removal, to: Removal, is_it: impl Fn(RawFd) -> bool) -> Option<RawFd> {
    let process = ForkIdentity::current();
    let mut own_fds = own_fds();
    let mut newest_first = own_fds.iter_mut().rev();
    newest_first.find_map(|own| match &mut own.purpose {
        Purpose::PidFile { removal, .. }
            if own.process == process && *removal == from && is_it(own.number) =>
        {
            *removal = to;
            Some(own.number)
        }
        _ => None,
    })
}

/// Unlinks a pid file where its descriptor and its path still are that file,
/// and the identity may. It stays locked until the process is gone.
extern "C" fn remove_pid_files() {
    let own_fds = match OWN_FDS.try_lock() {
        Ok(own_fds) => own_fds,
        Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
        // Another thread has it, and may be stopped for good.
        Err(TryLockError::WouldBlock) => return,
    };
    let process = ForkIdentity::current();
    for own in own_fds.iter().filter(|own| own.process == process) {
        if let (Purpose::PidFile { path, removal }, Some(file)) = (own.purpose, own.file) {
            if let (Removal::AtExit, Some(path)) = (removal, path) {
                let is_at_path = sys::fstatat(Directory::Working, path)
                    .is_ok_and(|attributes| attributes.id == file);
                if is_at_path && sys::is_same_file(own.number, file) {
                    let _ = sys::unlinkat(Directory::Working, path);
                }
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
