//! The other Unixes, as POSIX has them. What nothing can tell there is said
//! to be unknown, never guessed.

use std::os::fd::{BorrowedFd, RawFd};

#[cfg(any(
    target_os = "netbsd",
    target_os = "openbsd",
    target_os = "dragonfly",
    target_os = "illumos",
    target_os = "solaris"
))]
use super::descriptor::{close_raw, ranges_between};
use super::{Errno, FileId, Gid, Pid, Uid};

pub(crate) use super::lacking::{
    HAS_CAPABILITIES, OtherThreads, clear_capabilities, find_shared_event_queue, is_also_numbered,
    is_null_device, is_unmapped, open_process, reap, record_lock_holder, signal_process,
    take_record_lock,
};

/// Nothing portable counts threads.
pub(super) fn is_single_threaded() -> Option<bool> {
    None
}

pub(crate) fn thread_names() -> Option<Vec<Option<String>>> {
    None
}

pub(crate) const WHY_THREADS_ARE_UNKNOWN: &str = "nothing on this platform can count them: make \
    sure that there is one thread, and use `start` or `execute`";

/// procctl(2) `PROC_PDEATHSIG_CTL` of DragonFly, of the process. Others have nothing
/// like it. Async-signal-safe.
pub(crate) fn disarm_parent_death_signal() {
    #[cfg(target_os = "dragonfly")]
    {
        let mut none: libc::c_int = 0;
        // SAFETY: the command takes an int, valid for reads.
        unsafe {
            libc::procctl(
                libc::P_PID,
                Pid::current().raw() as libc::id_t,
                libc::PROC_PDEATHSIG_CTL,
                (&raw mut none).cast(),
            )
        };
    }
}

/// Nothing portable lists the open files of a process.
pub(crate) fn has_open(_: Pid, _: FileId) -> Result<bool, Errno> {
    Err(libc::ENOSYS)
}

/// Nothing portable tells whose a process is.
pub(crate) fn users_of(_: Pid) -> Result<Vec<Uid>, Errno> {
    Err(libc::ENOSYS)
}

/// issetugid(2), which libc lacks for illumos: there, a program that has dropped
/// what it gained goes unnoticed.
pub(crate) fn has_raised_privileges() -> bool {
    #[cfg(any(target_os = "illumos", target_os = "solaris"))]
    return super::user_ids().real != super::user_ids().effective
        || super::group_ids().real != super::group_ids().effective;
    #[cfg(not(any(target_os = "illumos", target_os = "solaris")))]
    // SAFETY: issetugid takes nothing and cannot fail.
    return unsafe { libc::issetugid() } != 0;
}

/// closefrom(2) of NetBSD, OpenBSD, DragonFly and illumos above the last that
/// is kept; below, one by one. Async-signal-safe, but for illumos, where it
/// reads /proc.
#[cfg(any(
    target_os = "netbsd",
    target_os = "openbsd",
    target_os = "dragonfly",
    target_os = "illumos",
    target_os = "solaris"
))]
pub(crate) fn close_all_but(kept: &[RawFd], _: &mut [u64]) -> Result<(), Errno> {
    #[cfg(not(any(target_os = "illumos", target_os = "solaris")))]
    use libc::closefrom;
    #[cfg(any(target_os = "illumos", target_os = "solaris"))]
    unsafe extern "C" {
        fn closefrom(first: libc::c_int);
    }

    for (first, last) in ranges_between(kept) {
        match last {
            Some(last) => (first..=last).for_each(|descriptor| {
                close_raw(descriptor);
            }),
            None => {
                // SAFETY: a plain number; the caller of `close_inherited_fds`
                // has promised that no value uses or closes a descriptor that
                // is not kept. That none is open is no failure.
                unsafe { closefrom(first) };
            }
        }
    }
    Ok(())
}

/// Nothing portable lists or closes them.
#[cfg(not(any(
    target_os = "netbsd",
    target_os = "openbsd",
    target_os = "dragonfly",
    target_os = "illumos",
    target_os = "solaris"
)))]
pub(crate) fn close_all_but(_: &[RawFd], _: &mut [u64]) -> Result<(), Errno> {
    Err(libc::ENOSYS)
}

pub(crate) const SYSTEM_GROUPS: &[Gid] = &[Gid::ROOT];

/// Access lists are not looked for.
pub(crate) fn has_access_list(_: BorrowedFd<'_>) -> bool {
    false
}

/// Nothing like it, but for pledge(2) and privileges(7), which are more.
pub(crate) const HAS_NO_NEW_PRIVILEGES: bool = false;

/// Never called.
pub(crate) fn set_no_new_privileges() -> Result<bool, Errno> {
    Err(libc::ENOSYS)
}
