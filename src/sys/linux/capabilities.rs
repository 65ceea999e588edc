//! Capabilities and no_new_privs, which belong to threads; the attribute dumpable of a process.

use std::os::fd::OwnedFd;

use super::directory::{find_number, open_directory};
use crate::sys::{Errno, cvt};

pub(crate) const HAS_CAPABILITIES: bool = true;
pub(crate) const HAS_NO_NEW_PRIVILEGES: bool = true;

const UNUSED: libc::c_ulong = 0;

/// getauxval(3) `AT_SECURE`.
pub(crate) fn has_raised_privileges() -> bool {
    // SAFETY: getauxval takes a plain number.
    unsafe { libc::getauxval(libc::AT_SECURE) != 0 }
}

/// prctl(2) `PR_SET_NO_NEW_PRIVS`, of the calling thread.
pub(crate) fn set_no_new_privileges() -> Result<(), Errno> {
    const ON: libc::c_ulong = 1;
    // SAFETY: prctl takes plain numbers here.
    cvt(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, ON, UNUSED, UNUSED, UNUSED) }).map(drop)
}

pub(crate) const HAS_DUMPABLE: bool = true;

/// `SUID_DUMP_USER` of include/linux/sched/coredump.h.
const DUMPABLE: libc::c_int = 1;

/// prctl(2) `PR_SET_DUMPABLE`, of all threads.
pub(crate) fn set_dumpable() -> Result<(), Errno> {
    let dumpable = DUMPABLE as libc::c_ulong;
    // SAFETY: prctl takes plain numbers here.
    cvt(unsafe { libc::prctl(libc::PR_SET_DUMPABLE, dumpable, UNUSED, UNUSED, UNUSED) }).map(drop)
}

/// prctl(2) `PR_GET_DUMPABLE`.
pub(crate) fn is_dumpable() -> Result<bool, Errno> {
    // SAFETY: prctl takes plain numbers here.
    let found = cvt(unsafe { libc::prctl(libc::PR_GET_DUMPABLE, UNUSED, UNUSED, UNUSED, UNUSED) })?;
    Ok(found == DUMPABLE)
}

/// capset(2) to nothing in the effective, permitted and inheritable sets, and prctl(2) for
/// the ambient set; then capget(2). The bounding set stays: it grants nothing, and limits
/// what a set-user-id program gains.
///
/// If the sets are empty, only capget(2) is called, since a sandbox may forbid the others.
/// The ambient set is a subset of the permitted one.
///
/// The calls affect only the calling thread. The kernel itself takes capabilities only
/// from threads that drop from root, unless their secure bits keep them. The other
/// threads are therefore checked.
pub(crate) fn clear_capabilities(others: &OtherThreads) -> Result<bool, Errno> {
    let before = Capabilities::of(0)?;
    if before != Capabilities::NONE {
        clear_ambient_capabilities()?;
        Capabilities::NONE.set()?;
        if Capabilities::of(0)? != Capabilities::NONE {
            return Ok(false);
        }
    }
    match others {
        OtherThreads::None => Ok(true),
        OtherThreads::Listed(threads) => all_have_none(threads),
        // The best guess is that the kernel has taken from the other threads what it has
        // taken from this one.
        OtherThreads::Unlisted => Ok(before == Capabilities::NONE),
    }
}

fn clear_ambient_capabilities() -> Result<(), Errno> {
    const CLEAR_ALL: libc::c_ulong = libc::PR_CAP_AMBIENT_CLEAR_ALL as libc::c_ulong;
    // SAFETY: prctl takes plain numbers here.
    match cvt(unsafe { libc::prctl(libc::PR_CAP_AMBIENT, CLEAR_ALL, UNUSED, UNUSED, UNUSED) }) {
        // EINVAL: before Linux 4.3 there is no ambient set.
        Ok(_) | Err(libc::EINVAL) => Ok(()),
        Err(errno) => Err(errno),
    }
}

/// The effective, permitted and inheritable sets, in two halves of 32 capabilities each.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq)]
struct Capabilities([[u32; 3]; 2]);

/// `struct __user_cap_header_struct`: the version of the interface, and a thread.
fn header_of(thread: libc::c_int) -> [u32; 2] {
    // _LINUX_CAPABILITY_VERSION_3
    [0x2008_0522, thread as u32]
}

impl Capabilities {
    const NONE: Self = Self([[0; 3]; 2]);

    /// capget(2). Thread 0 is the calling thread.
    fn of(thread: libc::c_int) -> Result<Self, Errno> {
        let mut header = header_of(thread);
        let mut sets = Self([[u32::MAX; 3]; 2]);
        // SAFETY: version 3 reads the header and writes two halves.
        cvt(unsafe { libc::syscall(libc::SYS_capget, &raw mut header, &raw mut sets) } as i32)?;
        Ok(sets)
    }

    /// capset(2), which affects only the calling thread.
    fn set(&self) -> Result<(), Errno> {
        let mut header = header_of(0);
        // SAFETY: version 3 reads the header and two halves.
        cvt(unsafe { libc::syscall(libc::SYS_capset, &raw mut header, &raw const *self) } as i32)
            .map(drop)
    }
}

/// The other threads of this process.
pub(crate) enum OtherThreads {
    None,
    /// /proc/self/task.
    Listed(OwnedFd),
    /// There may be some, and /proc is missing.
    Unlisted,
}

impl OtherThreads {
    pub(in crate::sys) const NONE: Self = Self::None;

    pub(in crate::sys) fn list() -> Self {
        open_directory(c"/proc/self/task").map_or(Self::Unlisted, Self::Listed)
    }

    pub(crate) fn run(&self) -> bool {
        !matches!(self, Self::None)
    }
}

/// A thread without capabilities cannot pass any on, so checking the current threads is
/// enough.
fn all_have_none(threads: &OwnedFd) -> Result<bool, Errno> {
    find_number(threads, &mut [0; 512], |thread| {
        match Capabilities::of(thread) {
            Ok(Capabilities::NONE) | Err(libc::ESRCH) => Ok(None),
            Ok(_) => Ok(Some(())),
            Err(errno) => Err(errno),
        }
    })
    .map(|found| found.is_none())
}
