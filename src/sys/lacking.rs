//! What only Linux has, as all others lack it: rights of a thread's own, and
//! descriptors that name a process. (FreeBSD has process descriptors by pdfork(2)
//! alone, which kill when they are closed; and its Capsicum's capabilities belong
//! to descriptors.)

use std::os::fd::{BorrowedFd, OwnedFd};

use super::{Errno, Pid, Signal};

/// There are none.
#[expect(
    clippy::unnecessary_wraps,
    reason = "the contract of the platform layer"
)]
pub(crate) fn clear_capabilities(_: &OtherThreads) -> Result<bool, Errno> {
    Ok(true)
}

/// Rights belong to the process.
pub(crate) struct OtherThreads;

impl OtherThreads {
    pub(crate) fn look() -> Self {
        Self
    }

    /// None that would have to give up anything by itself.
    pub(crate) fn run(&self) -> bool {
        false
    }
}

pub(crate) fn open_process(_: Pid) -> Option<OwnedFd> {
    None
}

/// Never called, as [`open_process`] hands none out.
pub(crate) fn reap(_: BorrowedFd<'_>) {}

/// Never called, as [`open_process`] hands none out.
pub(crate) fn signal_process(_: BorrowedFd<'_>, _: Signal) -> Result<(), Errno> {
    Err(libc::ENOSYS)
}
