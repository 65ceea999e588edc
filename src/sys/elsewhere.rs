//! The other Unixes, as POSIX has them. What nothing can tell there is said
//! to be unknown, never guessed.

use std::os::fd::{BorrowedFd, OwnedFd};

use super::{Errno, FileId, Pid, Signal, Uid};

/// Nothing portable counts threads.
pub(super) fn lone_thread() -> Option<bool> {
    None
}

/// Nothing portable lists the open files of a process.
pub(crate) fn has_open(_: Pid, _: FileId) -> Result<bool, Errno> {
    Err(libc::ENOSYS)
}

/// Nothing portable tells whose a process is.
pub(crate) fn users_of(_: Pid) -> Result<Vec<Uid>, Errno> {
    Err(libc::ENOSYS)
}

/// There are no capabilities.
#[expect(
    clippy::unnecessary_wraps,
    reason = "the contract of the platform layer"
)]
pub(crate) fn clear_capabilities() -> Result<bool, Errno> {
    Ok(true)
}

/// No descriptor names a process.
pub(crate) fn open_process(_: Pid) -> Option<OwnedFd> {
    None
}

/// Never called, as [`open_process`] hands none out.
pub(crate) fn signal_process(_: BorrowedFd<'_>, _: Signal) -> Result<(), Errno> {
    Err(libc::ENOSYS)
}
