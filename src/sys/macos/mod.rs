//! macOS, and the other systems of its family. libproc exists only on macOS.

pub(super) mod abi;
#[path = "../reuid.rs"]
mod ids;
#[path = "../kqueue.rs"]
mod kqueue;
#[cfg(target_os = "macos")]
mod libproc;
#[path = "../lock_query.rs"]
mod lock_query;

use std::ffi::CStr;
use std::os::fd::{AsRawFd as _, BorrowedFd};

use super::{Errno, Gid, cvt};

pub(crate) use super::defaults::*;
pub(crate) use ids::*;
pub(crate) use kqueue::{
    HANDLES_REAP, ProcessHandle, claim_process, open_process, open_process_to_send, reap,
    signal_process,
};
#[cfg(target_os = "macos")]
pub(crate) use libproc::{close_all_but, has_open, is_single_threaded, thread_names, users_of};
pub(crate) use lock_query::{end_probe, probe_lock};

/// XNU keeps the effective gid in the first place (bsd/sys/ucred.h, `cr_gid`), and takes an
/// empty list for group 0 (`setgroups_internal` of bsd/kern/kern_prot.c).
pub(crate) const FIRST_GROUP_IS_EFFECTIVE_GID: bool = true;
/// XNU, bsd/kern/kern_credential.c, `kauth_cred_change_egid`.
pub(crate) const EFFECTIVE_GID_SWAPS: bool = true;
/// XNU, bsd/sys/kauth.h: `KAUTH_UID_NONE` and `KAUTH_GID_NONE`, which setreuid(2) and setregid(2)
/// take for -1.
pub(crate) const UNCHANGED_IDS: &[u32] = &[u32::MAX, u32::MAX - 100];
/// XNU, `cr_gmuid`: the directory service adds groups until setgroups(2) is called.
pub(crate) const HAS_UNLISTED_GROUPS: bool = true;

pub(super) type ListedGroup = libc::c_int;
/// For 16 groups or more, getgrouplist(3) first asks the directory service in a thread of
/// its own, which stays for seconds (Libinfo, lookup.subproj/libinfo.c,
/// `_check_groups`). The process would then not be single-threaded any more.
pub(super) const GROUP_LIST_ROOM: usize = 15;
/// An older macOS returns 0 for a list that is cut.
pub(super) const IS_GROUP_LIST_CUT_SILENTLY: bool = true;

pub(crate) const WHY_THREADS_ARE_UNKNOWN: &str =
    "proc_pidinfo fails; make sure that the process has one thread, and use `start` or `execute`";

/// XNU, bsd/kern/proc_info.c, `proc_pidfdlist` and `proc_security_policy`.
pub(crate) const WHY_OPEN_FILES_ARE_HIDDEN: &str =
    "macOS lets only root and the user of a process look at its files";

/// "wheel" and "daemon", whose only member is root. /var/run belongs to "daemon", and has
/// had mode 0775.
pub(crate) const SYSTEM_GROUPS: &[Gid] = &[Gid::ROOT, Gid(1)];

/// renameatx_np(2) `RENAME_SWAP`.
pub(crate) fn exchange(directory: BorrowedFd<'_>, one: &CStr, other: &CStr) -> Result<(), Errno> {
    let directory = directory.as_raw_fd();
    // SAFETY: both paths are C strings that outlive the call; the flags are a plain number.
    cvt(unsafe {
        libc::renameatx_np(
            directory,
            one.as_ptr(),
            directory,
            other.as_ptr(),
            libc::RENAME_SWAP,
        )
    })
    .map(drop)
}
