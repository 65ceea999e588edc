//! User and group ids, and those of the process.

use std::ptr;

use super::{Errno, cvt};

/// A user id. "Unchanged" is an `Option`, never the number that stands for it in the
/// kernel's interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Uid(pub(crate) u32);

/// A group id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(transparent)]
pub(crate) struct Gid(pub(crate) u32);

impl Uid {
    pub(crate) const ROOT: Self = Self(0);
}

impl Gid {
    pub(crate) const ROOT: Self = Self(0);
}

/// The three ids of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ids<Id> {
    pub(crate) real: Id,
    pub(crate) effective: Id,
    /// `None` if the platform does not tell.
    pub(crate) saved: Option<Id>,
}

impl<Id: Copy + PartialEq> Ids<Id> {
    /// Whether every known id is this one.
    pub(crate) fn are_all(&self, id: Id) -> bool {
        self.each().all(|known| known == id)
    }

    /// Whether one of the known ids is this one.
    pub(crate) fn has(&self, id: Id) -> bool {
        self.each().any(|known| known == id)
    }

    pub(crate) fn each(&self) -> impl Iterator<Item = Id> + use<Id> {
        [Some(self.real), Some(self.effective), self.saved]
            .into_iter()
            .flatten()
    }
}

/// geteuid(2). Async-signal-safe.
pub(crate) fn geteuid() -> Uid {
    // SAFETY: geteuid takes nothing and cannot fail.
    Uid(unsafe { libc::geteuid() })
}

/// Calls that change one id, or several.
type Setter = unsafe extern "C" fn(u32) -> libc::c_int;

/// Makes both calls, and returns whether one has succeeded.
fn try_both(set_effective: Setter, set_all: Setter, id: u32) -> bool {
    // SAFETY: the calls take a plain number.
    let effective = unsafe { set_effective(id) } == 0;
    // SAFETY: as above.
    let all = unsafe { set_all(id) } == 0;
    effective || all
}

/// seteuid(2) and setuid(2): tries to regain a uid.
pub(crate) fn try_regain_uid(Uid(uid): Uid) -> bool {
    try_both(libc::seteuid, libc::setuid, uid)
}

/// setegid(2) and setgid(2): tries to regain a gid.
pub(crate) fn try_regain_gid(Gid(gid): Gid) -> bool {
    try_both(libc::setegid, libc::setgid, gid)
}

/// getgroups(2) into a list that is empty. Async-signal-safe if the list has the capacity.
pub(crate) fn getgroups(groups: &mut Vec<Gid>) -> Result<(), Errno> {
    // SAFETY: with a size of 0, getgroups only returns the count.
    let count = cvt(unsafe { libc::getgroups(0, ptr::null_mut()) })?;
    groups.resize(count as usize, Gid::ROOT);
    // SAFETY: `groups` is valid for writes of `count` ids, and a `Gid` is one.
    let count = cvt(unsafe { libc::getgroups(count, groups.as_mut_ptr().cast()) })?;
    groups.truncate(count as usize);
    Ok(())
}

/// setgroups(2). Async-signal-safe in a child of fork(2), which has no other threads to change.
pub(crate) fn setgroups(groups: &[Gid]) -> Result<(), Errno> {
    let first = groups.as_ptr().cast::<libc::gid_t>();
    // SAFETY: `groups` is valid for reads of its length, and a `Gid` is a `gid_t`.
    cvt(unsafe { libc::setgroups(groups.len() as _, first) }).map(drop)
}
