//! Linux, and Android.

pub(super) mod abi;
mod capabilities;
mod descriptors;
mod directory;
mod files;
#[path = "../resuid.rs"]
mod ids;
mod processes;
mod record_lock;
mod threads;

use super::Gid;

pub(crate) use capabilities::*;
pub(crate) use descriptors::*;
pub(crate) use files::*;
pub(crate) use ids::*;
pub(crate) use processes::*;
pub(crate) use record_lock::*;
pub(crate) use threads::*;

pub(crate) const SYSTEM_GROUPS: &[Gid] = &[Gid::ROOT];

pub(crate) const FIRST_GROUP_IS_EFFECTIVE_GID: bool = false;
pub(crate) const EFFECTIVE_GID_SWAPS: bool = false;
pub(crate) const HAS_UNLISTED_GROUPS: bool = false;

pub(super) type ListedGroup = libc::gid_t;
pub(super) const GROUP_LIST_ROOM: usize = 64;
pub(super) const IS_GROUP_LIST_CUT_SILENTLY: bool = false;

/// `NGROUPS_MAX` of <linux/limits.h> since 2.6.4. musl's sysconf(3) returns 32, which
/// binds neither the kernel nor musl's own setgroups(2).
pub(crate) fn max_supplementary_groups() -> usize {
    65536
}
