//! The streams that are kept until the daemon is ready.

use std::mem;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};

use super::{NUMBERS, redirect_failed, reopen};
use crate::failure::Failure;
use crate::own_fds;
use crate::sys::{self, FileId, errno};

/// What each stream becomes when the daemon is ready.
#[derive(Debug, Default)]
pub(crate) struct PendingStreams(pub(super) [Option<PendingStream>; 3]);

#[derive(Debug)]
pub(super) struct PendingStream {
    /// Close-on-exec, and numbered 3 or higher.
    then: OwnedFd,
    /// Tells it from another file that has got its number. Unknown if fstat(2) has failed.
    file: Option<FileId>,
}

impl PendingStream {
    /// Async-signal-safe.
    pub(super) fn new(then: OwnedFd) -> Self {
        let file = sys::fstat(then.as_fd()).ok().map(|status| status.id);
        Self { then, file }
    }

    /// Whether code of the caller has closed the descriptor.
    fn is_replaced(&self) -> bool {
        (self.file).is_some_and(|file| sys::is_replaced(self.then.as_raw_fd(), file))
    }
}

impl PendingStreams {
    /// Registers the descriptors before the caller's code runs. Allocates nothing in a daemon:
    /// see [`own_fds::lock_for_fork`].
    pub(crate) fn register(&self) {
        for pending in self.0.iter().flatten() {
            own_fds::register(pending.then.as_fd());
        }
    }

    /// Replaces the streams of the launcher.
    pub(crate) fn redirect(&self) -> Result<(), Failure> {
        for (index, pending) in self.0.iter().enumerate() {
            let Some(pending) = pending else { continue };
            let redirected = match pending.is_replaced() {
                true => Err(errno::EBADF),
                false => sys::dup2(pending.then.as_fd(), NUMBERS[index]),
            };
            redirected.map_err(|errno| redirect_failed(index, errno))?;
            reopen::settle(index);
        }
        Ok(())
    }

    /// Closes the descriptors that still belong to this process.
    pub(crate) fn close(&mut self) {
        for pending in mem::take(&mut self.0).into_iter().flatten() {
            own_fds::unregister(pending.then.as_fd());
            if pending.is_replaced() {
                mem::forget(pending);
            }
        }
    }

    /// Forgets the descriptors of a copy that fork(2) has made.
    pub(crate) fn forget(&mut self) {
        mem::forget(mem::take(&mut self.0));
    }
}
