//! Capabilities and no_new_privs, which belong to threads; the attribute dumpable of a process.

use std::os::fd::OwnedFd;

use super::directory::{find_number, open_directory};
use crate::sys::{CapabilitySets, Errno, SecureBits, cvt};

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

/// capset(2) to these capabilities in the effective, permitted and inheritable sets; then
/// capget(2). False if another capability is left, here or in another thread, or if this
/// thread lacks one. The bounding set stays: it grants nothing, and limits what a set-user-id
/// program gains.
///
/// If the sets are these already, only capget(2) is called, since a sandbox may forbid
/// capset(2). The kernel removes from the ambient set what it removes from the permitted
/// set or the inheritable set.
///
/// The calls affect only the calling thread. The kernel itself takes capabilities only
/// from threads that drop from root, unless their secure bits keep them. The other
/// threads are therefore checked.
pub(crate) fn reduce_capabilities(
    wanted: CapabilitySets,
    others: &OtherThreads,
) -> Result<bool, Errno> {
    let sets = Capabilities::from(wanted);
    let before = Capabilities::of(0)?;
    if before != sets {
        sets.set()?;
        if Capabilities::of(0)? != sets {
            return Ok(false);
        }
    }
    match others {
        OtherThreads::None => Ok(true),
        OtherThreads::Listed(threads) => are_all_within(threads, wanted),
        // The best guess is that the kernel has taken from the other threads what it has
        // taken from this one.
        OtherThreads::Unlisted => Ok(before == sets),
    }
}

/// capget(2): the permitted and inheritable capabilities of the calling thread.
pub(crate) fn capget() -> Result<CapabilitySets, Errno> {
    Capabilities::of(0).map(Capabilities::sets)
}

// <linux/securebits.h>, which libc lacks for Android.
const SECBIT_NO_SETUID_FIXUP: libc::c_int = 1 << 2;
const SECBIT_KEEP_CAPS: libc::c_int = 1 << 4;
const SECBIT_KEEP_CAPS_LOCKED: libc::c_int = 1 << 5;
const SECBIT_NO_CAP_AMBIENT_RAISE: libc::c_int = 1 << 6;

/// prctl(2) `PR_GET_SECUREBITS`, of the calling thread.
pub(crate) fn secure_bits() -> Result<SecureBits, Errno> {
    // SAFETY: prctl takes plain numbers here.
    let bits =
        cvt(unsafe { libc::prctl(libc::PR_GET_SECUREBITS, UNUSED, UNUSED, UNUSED, UNUSED) })?;
    let has = |bit| bits & bit != 0;
    Ok(SecureBits {
        keeps_permitted: has(SECBIT_KEEP_CAPS),
        is_locked: has(SECBIT_KEEP_CAPS_LOCKED),
        keeps_all: has(SECBIT_NO_SETUID_FIXUP),
        forbids_ambient: has(SECBIT_NO_CAP_AMBIENT_RAISE),
    })
}

/// prctl(2) `PR_SET_KEEPCAPS`, of the calling thread.
pub(crate) fn set_keepcaps(keep: bool) -> Result<(), Errno> {
    let keep = libc::c_ulong::from(keep);
    // SAFETY: prctl takes plain numbers here.
    cvt(unsafe { libc::prctl(libc::PR_SET_KEEPCAPS, keep, UNUSED, UNUSED, UNUSED) }).map(drop)
}

/// prctl(2) `PR_CAPBSET_READ`, of the calling thread.
pub(crate) fn is_in_bounding_set(capability: u8) -> Result<bool, Errno> {
    let capability = libc::c_ulong::from(capability);
    // SAFETY: prctl takes plain numbers here.
    let is_in =
        cvt(unsafe { libc::prctl(libc::PR_CAPBSET_READ, capability, UNUSED, UNUSED, UNUSED) });
    is_in.map(|is_in| is_in != 0)
}

/// prctl(2) `PR_CAP_AMBIENT_IS_SET`, of the calling thread.
pub(crate) fn is_ambient(capability: u8) -> Result<bool, Errno> {
    ambient(libc::PR_CAP_AMBIENT_IS_SET, capability).map(|is_set| is_set != 0)
}

/// prctl(2) `PR_CAP_AMBIENT_RAISE`, of the calling thread.
pub(crate) fn raise_ambient(capability: u8) -> Result<(), Errno> {
    ambient(libc::PR_CAP_AMBIENT_RAISE, capability).map(drop)
}

/// Before Linux 4.3 there is no ambient set: `EINVAL`.
fn ambient(operation: libc::c_int, capability: u8) -> Result<libc::c_int, Errno> {
    let operation = operation as libc::c_ulong;
    let capability = libc::c_ulong::from(capability);
    // SAFETY: prctl takes plain numbers here.
    cvt(unsafe { libc::prctl(libc::PR_CAP_AMBIENT, operation, capability, UNUSED, UNUSED) })
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

impl From<CapabilitySets> for Capabilities {
    fn from(sets: CapabilitySets) -> Self {
        let half = |shift: u32| {
            let permitted = (sets.permitted >> shift) as u32;
            [permitted, permitted, (sets.inheritable >> shift) as u32]
        };
        Self([half(0), half(32)])
    }
}

impl Capabilities {
    /// The effective set is a subset of the permitted one.
    fn sets(self) -> CapabilitySets {
        let Self([low, high]) = self;
        let whole = |set: usize| u64::from(low[set]) | u64::from(high[set]) << 32;
        CapabilitySets {
            permitted: whole(1),
            inheritable: whole(2),
        }
    }

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

/// A thread cannot pass on a capability that it lacks, so checking the current threads is
/// enough.
fn are_all_within(threads: &OwnedFd, wanted: CapabilitySets) -> Result<bool, Errno> {
    let is_within = |sets: CapabilitySets| {
        sets.permitted & !wanted.permitted == 0 && sets.inheritable & !wanted.inheritable == 0
    };
    find_number(threads, &mut [0; 512], |thread| {
        match Capabilities::of(thread).map(Capabilities::sets) {
            Err(libc::ESRCH) => Ok(None),
            Ok(sets) => Ok((!is_within(sets)).then_some(())),
            Err(errno) => Err(errno),
        }
    })
    .map(|found| found.is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_set_of_64_capabilities_consists_of_two_halves() {
        let sets = CapabilitySets {
            permitted: 1 << 40 | 1 << 10,
            inheritable: 1 << 63 | 1,
        };
        let halves = [[1 << 10, 1 << 10, 1], [1 << 8, 1 << 8, 1 << 31]];
        assert!(Capabilities::from(sets) == Capabilities(halves));
        assert_eq!(Capabilities(halves).sets(), sets);
    }
}
