//! What only Linux has, as all others lack it: rights of a thread's own, and
//! descriptors that name a process. (FreeBSD has process descriptors by pdfork(2)
//! alone, which kill when they are closed; and its Capsicum's capabilities belong
//! to descriptors.)

use std::os::fd::{BorrowedFd, OwnedFd};

use super::{Attributes, Errno, EventQueue, Pid, Signal, Uid};

pub(crate) const HAS_CAPABILITIES: bool = false;

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
    pub(crate) fn find() -> Self {
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

/// flock(2) and record locks exclude each other here, so that who has one cannot
/// have the other beside it.
#[expect(
    clippy::unnecessary_wraps,
    reason = "the contract of the platform layer"
)]
pub(crate) fn take_record_lock(_: BorrowedFd<'_>) -> Result<(), Errno> {
    Ok(())
}

/// None is taken.
pub(crate) fn record_lock_holder(_: BorrowedFd<'_>, _: Option<Pid>) -> Result<Option<Pid>, Errno> {
    Err(libc::ENOSYS)
}

/// A jail has the numbers of its host.
pub(crate) fn is_also_numbered(_: Pid, _: Pid) -> bool {
    false
}

/// kqueue(2) of FreeBSD, macOS, NetBSD, OpenBSD and DragonFly: "The queue is not
/// inherited by a child created with fork(2)". illumos has event ports, which a
/// child inherits, and epoll; there the checked entry points refuse in any case,
/// since nothing counts threads.
#[expect(
    clippy::unnecessary_wraps,
    reason = "the contract of the platform layer"
)]
pub(crate) fn find_shared_event_queue() -> Result<Option<EventQueue>, Errno> {
    Ok(None)
}

/// The device numbers are not fixed, as they are on Linux: daemon(3) asks for a
/// character device.
pub(crate) fn is_null_device(device: &Attributes) -> bool {
    device.character_device.is_some()
}

/// There are no user namespaces.
pub(crate) fn is_unmapped(_: Uid) -> bool {
    false
}
