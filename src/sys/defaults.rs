//! Usual values, and stubs for the platforms other than Linux. Only Linux has privileges
//! that belong to threads, descriptors that name processes, and record locks beside those
//! of flock(2).
//!
//! The capabilities of FreeBSD's Capsicum belong to descriptors.

#![allow(dead_code, reason = "a platform replaces those that it can")]

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};

use super::{
    CapabilitySets, Errno, EventQueue, FileId, FileStatus, Gid, GroupMember, Lock, Notification,
    PathBuffer, Pid, ProcessGroup, SecureBits, Signal, Uid, fd, flock,
};

/// "wheel" on the BSDs: su(1) lets its members become root.
pub(crate) const SYSTEM_GROUPS: &[Gid] = &[Gid::ROOT];

/// hier(7) of FreeBSD and of macOS: "system information files describing various info about the
/// system since it was booted".
pub(crate) const RUNTIME_DIRECTORY: &str = "/var/run";
/// hier(7) of FreeBSD and of macOS: "misc. automatically generated system-specific database files".
pub(crate) const STATE_DIRECTORY: &str = "/var/db";
pub(crate) const LOG_DIRECTORY: &str = "/var/log";
/// `_PATH_STDPATH` of <paths.h> in macOS and FreeBSD, which login(1) sets for root. In 4.4BSD two
/// more directories follow, which do not exist any more.
pub(crate) const PATH_OF_ROOT: &CStr = c"/usr/bin:/bin:/usr/sbin:/sbin";
/// `_PATH_DEFPATH` of <paths.h> in 4.4BSD and macOS.
pub(crate) const PATH_OF_USERS: &CStr = c"/usr/bin:/bin";

pub(crate) const WHY_CHROOT_IS_REFUSED: &str = "";

/// POSIX: "If uid is equal to -1, then the owner is unchanged", for chown(2) and setreuid(2).
pub(crate) const UNCHANGED_IDS: &[u32] = &[u32::MAX];

pub(crate) const EFFECTIVE_GID_SWAPS: bool = false;
pub(crate) const HAS_UNLISTED_GROUPS: bool = false;

pub(crate) const HAS_NOTIFY_SOCKET: bool = false;

pub(crate) fn bind_notify_socket(_name: &[u8]) -> Result<OwnedFd, Errno> {
    Err(libc::ENOSYS)
}

pub(crate) fn recv_notification(
    _socket: BorrowedFd<'_>,
    _buffer: &mut [u8],
) -> Result<Notification, Errno> {
    Err(libc::ENOSYS)
}

/// getgroups(2).
pub(crate) fn groups(groups: &mut Vec<Gid>) -> Result<(), Errno> {
    super::getgroups(groups)
}

/// getcwd(3). For a path that fits, it makes one system call.
pub(crate) fn getcwd(buffer: &mut PathBuffer) -> Result<&CStr, Errno> {
    // SAFETY: `buffer` is valid for writes of its length.
    let path = unsafe { libc::getcwd(buffer.as_mut_ptr().cast(), buffer.len()) };
    match path.is_null() {
        true => Err(super::last_errno()),
        false => CStr::from_bytes_until_nul(buffer).map_err(|_| libc::ERANGE),
    }
}

pub(super) type ListedGroup = libc::gid_t;
pub(super) const GROUP_LIST_ROOM: usize = 64;
pub(super) const IS_GROUP_LIST_CUT_SILENTLY: bool = false;

/// sysconf(3) `_SC_NGROUPS_MAX`. POSIX: at least 8, and -1 without a limit. macOS
/// returns 16, which its setgroups(2) enforces.
pub(crate) fn max_supplementary_groups() -> usize {
    // SAFETY: sysconf takes a plain number.
    let most = unsafe { libc::sysconf(libc::_SC_NGROUPS_MAX) };
    usize::try_from(most).unwrap_or(usize::MAX)
}

pub(crate) const HAS_NO_NEW_PRIVILEGES: bool = false;

pub(crate) fn set_no_new_privileges() -> Result<(), Errno> {
    Err(libc::ENOSYS)
}

/// FreeBSD and others have such a mark (`P_SUGID`), which only execve(2) clears.
pub(crate) const HAS_DUMPABLE: bool = false;

pub(crate) fn set_dumpable() -> Result<(), Errno> {
    Err(libc::ENOSYS)
}

pub(crate) fn is_dumpable() -> Result<bool, Errno> {
    Err(libc::ENOSYS)
}

pub(crate) fn is_single_threaded() -> Option<bool> {
    None
}

pub(crate) fn thread_names() -> Option<Vec<Option<String>>> {
    None
}

pub(crate) const WHY_OPEN_FILES_ARE_HIDDEN: &str = "";

pub(crate) fn has_open(_: Pid, _: FileId) -> Result<bool, Errno> {
    Err(libc::ENOSYS)
}

pub(crate) fn users_of(_: Pid) -> Result<Vec<Uid>, Errno> {
    Err(libc::ENOSYS)
}

pub(crate) fn members_of(_: ProcessGroup) -> Result<Vec<GroupMember>, Errno> {
    Err(libc::ENOSYS)
}

pub(crate) fn close_all_but(_: &[RawFd], _: &mut [u64]) -> Result<(), Errno> {
    Err(libc::ENOSYS)
}

pub(crate) fn close_all_before_exec(kept: &[RawFd], _: &mut [u64]) {
    fd::close_numbered_before_exec(kept);
}

pub(crate) fn exchange(_: BorrowedFd<'_>, _: &CStr, _: &CStr) -> Result<(), Errno> {
    Err(libc::ENOSYS)
}

/// There is no such signal.
pub(crate) fn disarm_parent_death_signal() {}

pub(crate) const HAS_CAPABILITIES: bool = false;

pub(crate) fn reduce_capabilities(_: CapabilitySets, _: &OtherThreads) -> Result<bool, Errno> {
    Ok(true)
}

pub(crate) fn capget() -> Result<CapabilitySets, Errno> {
    Err(libc::ENOSYS)
}

pub(crate) fn secure_bits() -> Result<SecureBits, Errno> {
    Err(libc::ENOSYS)
}

pub(crate) fn set_keepcaps(_: bool) -> Result<(), Errno> {
    Err(libc::ENOSYS)
}

pub(crate) fn is_in_bounding_set(_: u8) -> Result<bool, Errno> {
    Err(libc::ENOSYS)
}

pub(crate) fn is_ambient(_: u8) -> Result<bool, Errno> {
    Err(libc::ENOSYS)
}

pub(crate) fn raise_ambient(_: u8) -> Result<(), Errno> {
    Err(libc::ENOSYS)
}

/// Privileges belong to the process, so that other threads do not matter.
pub(crate) struct OtherThreads;

impl OtherThreads {
    pub(super) const NONE: Self = Self;

    pub(super) fn list() -> Self {
        Self
    }

    pub(crate) fn run(&self) -> bool {
        false
    }
}

/// No process can be named.
#[derive(Debug)]
pub(crate) enum ProcessHandle {}

pub(crate) const HANDLES_REAP: bool = false;

impl AsFd for ProcessHandle {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match *self {}
    }
}

pub(crate) fn open_process(_: Pid) -> Option<ProcessHandle> {
    None
}

pub(crate) fn open_process_to_send(_: Pid) -> Option<OwnedFd> {
    None
}

pub(crate) fn claim_process(_: Option<OwnedFd>, _: Pid, _: Pid) -> Option<ProcessHandle> {
    None
}

pub(crate) fn reap(process: &ProcessHandle) {
    match *process {}
}

pub(crate) fn signal_process(process: &ProcessHandle, _: Signal) -> Result<(), Errno> {
    match *process {}
}

/// A process that has one of the two kinds of locks cannot get the other.
pub(crate) fn take_record_lock(_: BorrowedFd<'_>) -> Result<(), Errno> {
    Ok(())
}

pub(crate) fn record_lock_holder(_: BorrowedFd<'_>, _: Option<Pid>) -> Result<Option<Pid>, Errno> {
    Err(libc::ENOSYS)
}

/// flock(2) with a shared lock, which keeps a start from the file until [`end_probe`].
pub(crate) fn probe_lock(descriptor: BorrowedFd<'_>) -> Result<(), Errno> {
    flock(descriptor, Lock::Shared)
}

pub(crate) fn end_probe(descriptor: BorrowedFd<'_>) -> Result<(), Errno> {
    // If the call fails, the end of the descriptor unlocks the file.
    let _ = flock(descriptor, Lock::None);
    Ok(())
}

/// In a jail, processes have the pids of the host.
pub(crate) fn is_also_numbered(_: Pid, _: Pid) -> bool {
    false
}

/// kqueue(2) of FreeBSD, macOS, NetBSD, OpenBSD and DragonFly: "The queue is not
/// inherited by a child created with fork(2)". On illumos a child inherits event ports
/// and epoll descriptors; but there the checked entry points always refuse, since threads
/// cannot be counted.
pub(crate) fn find_shared_event_queue() -> Result<Option<EventQueue>, Errno> {
    Ok(None)
}

/// Only Linux has a fixed number for the device. daemon(3) asks for a character device.
pub(crate) fn is_null_device(status: &FileStatus) -> bool {
    status.character_device.is_some()
}

pub(crate) fn is_unmapped(_: Uid) -> bool {
    false
}

/// Access control lists are not looked for.
pub(crate) fn has_access_list(_: BorrowedFd<'_>) -> bool {
    false
}

/// issetugid(2). FreeBSD, macOS, NetBSD and DragonFly also return 1 in a process that has changed
/// its ids itself (`P_SUGID`); OpenBSD does not.
#[cfg(not(any(
    target_os = "linux",
    target_os = "android",
    target_os = "illumos",
    target_os = "solaris"
)))]
pub(crate) fn has_raised_privileges() -> bool {
    // SAFETY: issetugid takes nothing and cannot fail.
    unsafe { libc::issetugid() != 0 }
}
