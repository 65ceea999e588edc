//! The descriptors that the library holds while the caller's code runs: pid
//! files, and the channel of a start that is not committed.
//!
//! A process that the caller forks has copies of them, and of the values that
//! own them, but they are not its own: there, such a value is forgotten, never
//! dropped, for its number may be another file's by then. And where that code
//! starts a daemon, in this process or in such a copy of it, it is the daemon
//! that has no business with them.

use std::os::fd::{AsRawFd as _, BorrowedFd, OwnedFd, RawFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::sys::{self, FileId, Process};

static HELD: Mutex<Vec<Held>> = Mutex::new(Vec::new());

#[derive(Clone, Copy, PartialEq, Eq)]
struct Held {
    descriptor: RawFd,
    /// By which a copy is told from what has its number by now. Unknown where
    /// fstat(2) has failed.
    file: Option<FileId>,
    process: Process,
}

fn held() -> MutexGuard<'static, Vec<Held>> {
    HELD.lock().unwrap_or_else(PoisonError::into_inner)
}

/// While this lives nobody changes them, so that a copy of the process does not
/// find them locked for ever.
pub(crate) struct Frozen(MutexGuard<'static, Vec<Held>>);

impl Frozen {
    /// Closes the copies that a child of this process has. Async-signal-safe.
    pub(crate) fn close_copies(&self) {
        for one in &*self.0 {
            if let Some(file) = one.file {
                sys::close_if_of(one.descriptor, file);
            }
        }
    }
}

/// To be had before fork(2), with room for what one start makes hold: none is
/// allocated after it.
pub(crate) fn freeze() -> Frozen {
    /// A pid file and a channel, and a copy of that for panics that abort.
    const OF_ONE_START: usize = 3;

    let mut held = held();
    held.reserve(OF_ONE_START);
    Frozen(held)
}

/// From now on this process holds it, as it may have done before.
pub(crate) fn hold(descriptor: BorrowedFd<'_>) {
    let file = sys::attributes(descriptor).map(|attributes| attributes.id);
    let one = Held {
        descriptor: descriptor.as_raw_fd(),
        file: file.ok(),
        process: Process::current(),
    };
    let mut held = held();
    if !held.contains(&one) {
        held.push(one);
    }
}

/// Closes one that this process holds, before anybody else can start a daemon
/// that would have a copy.
pub(crate) fn close(descriptor: OwnedFd) {
    let process = Process::current();
    let mut held = held();
    held.retain(|one| (one.descriptor, one.process) != (descriptor.as_raw_fd(), process));
    drop(descriptor);
}

/// This process is about to close it.
pub(crate) fn release(descriptor: BorrowedFd<'_>) {
    let process = Process::current();
    let number = descriptor.as_raw_fd();
    held().retain(|one| (one.descriptor, one.process) != (number, process));
}

/// Those of this process.
pub(crate) fn all() -> Vec<RawFd> {
    let process = Process::current();
    let held = held();
    let own = held.iter().filter(|one| one.process == process);
    own.map(|one| one.descriptor).collect()
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::fd::AsFd as _;

    use super::*;

    #[test]
    fn what_is_closed_or_released_is_held_no_more() {
        let [one, other] = [(); 2].map(|()| OwnedFd::from(File::open("/").expect("open the root")));
        let numbers = [one.as_raw_fd(), other.as_raw_fd()];
        // Other tests hold some as well.
        let held = || -> Vec<_> {
            let all = all().into_iter();
            all.filter(|number| numbers.contains(number)).collect()
        };
        hold(one.as_fd());
        hold(other.as_fd());
        hold(one.as_fd());
        assert_eq!(held(), numbers);
        release(other.as_fd());
        assert_eq!(held(), [numbers[0]]);
        close(one);
        assert!(!held().contains(&numbers[0]));
    }
}
