//! setresuid(2) and setresgid(2), which also set the saved ids.
//!
//! Async-signal-safe in a child of fork(2), which has no other threads to change: POSIX
//! lists setuid(2).

use crate::sys::{Errno, Gid, Ids, Uid, cvt};

pub(crate) fn user_ids() -> Ids<Uid> {
    let [mut real, mut effective, mut saved] = [0; 3];
    // SAFETY: all three are valid for writes; it has no other error.
    unsafe { libc::getresuid(&raw mut real, &raw mut effective, &raw mut saved) };
    Ids {
        real: Uid(real),
        effective: Uid(effective),
        saved: Some(Uid(saved)),
    }
}

pub(crate) fn group_ids() -> Ids<Gid> {
    let [mut real, mut effective, mut saved] = [0; 3];
    // SAFETY: all three are valid for writes; it has no other error.
    unsafe { libc::getresgid(&raw mut real, &raw mut effective, &raw mut saved) };
    Ids {
        real: Gid(real),
        effective: Gid(effective),
        saved: Some(Gid(saved)),
    }
}

pub(crate) fn set_user_ids(Uid(uid): Uid) -> Result<(), Errno> {
    // SAFETY: setresuid takes plain numbers.
    cvt(unsafe { libc::setresuid(uid, uid, uid) }).map(drop)
}

pub(crate) fn set_group_ids(Gid(gid): Gid) -> Result<(), Errno> {
    // SAFETY: setresgid takes plain numbers.
    cvt(unsafe { libc::setresgid(gid, gid, gid) }).map(drop)
}
