//! Linux, and Android.

pub(super) mod abi;
mod capabilities;
mod descriptors;
mod directory;
mod files;
#[path = "../resuid.rs"]
mod ids;
mod notification;
mod processes;
mod record_lock;
mod threads;

pub(crate) use super::defaults::{
    EFFECTIVE_GID_SWAPS, HAS_UNLISTED_GROUPS, LOG_DIRECTORY, SYSTEM_GROUPS, UNCHANGED_IDS,
    WHY_CHROOT_IS_REFUSED, WHY_OPEN_FILES_ARE_HIDDEN, end_probe, groups, probe_lock,
};
use std::ffi::CStr;

pub(super) use super::defaults::{GROUP_LIST_ROOM, IS_GROUP_LIST_CUT_SILENTLY, ListedGroup};

pub(crate) use capabilities::*;
pub(crate) use descriptors::*;
pub(crate) use files::*;
pub(crate) use ids::*;
pub(crate) use notification::*;
pub(crate) use processes::*;
pub(crate) use record_lock::*;
pub(crate) use threads::*;

/// file-hierarchy(7). A temporary file system.
pub(crate) const RUNTIME_DIRECTORY: &str = "/run";
/// file-hierarchy(7).
pub(crate) const STATE_DIRECTORY: &str = "/var/lib";

pub(crate) const FIRST_GROUP_IS_EFFECTIVE_GID: bool = false;

/// `_PATH_DEFPATH_ROOT` of include/pathnames.h in util-linux, for setpriv(1) and login(1).
pub(crate) const PATH_OF_ROOT: &CStr =
    c"/usr/local/sbin:/usr/local/bin:/sbin:/bin:/usr/sbin:/usr/bin";
/// `_PATH_DEFPATH` of the same file.
pub(crate) const PATH_OF_USERS: &CStr = c"/usr/local/bin:/bin:/usr/bin";

/// `NGROUPS_MAX` of <linux/limits.h> since 2.6.4. musl's sysconf(3) returns 32, which
/// binds neither the kernel nor musl's own setgroups(2).
pub(crate) fn max_supplementary_groups() -> usize {
    65536
}
