//! Linux, and Android.

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

pub(crate) use capabilities::{
    HAS_CAPABILITIES, HAS_NO_NEW_PRIVILEGES, OtherThreads, clear_capabilities,
    has_raised_privileges, set_no_new_privileges,
};
pub(crate) use descriptors::{close_all_but, find_shared_event_queue};
pub(crate) use files::{has_access_list, is_null_device, is_unmapped};
pub(crate) use ids::{group_ids, set_group_ids, set_user_ids, user_ids};
pub(crate) use processes::{
    disarm_parent_death_signal, has_open, is_also_numbered, open_process, reap, signal_process,
    users_of,
};
pub(crate) use record_lock::{record_lock_holder, take_record_lock};
pub(crate) use threads::{WHY_THREADS_ARE_UNKNOWN, is_single_threaded, thread_names};

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
