//! setresuid(2) and setresgid(2), which name the saved ids. Async-signal-safe in a
//! child of fork(2), where there are no other threads to be told: POSIX lists
//! setuid(2).

use super::{Errno, Gid, Ids, Uid, cvt};

pub(crate) fn user_ids() -> Ids<Uid> {
    let [mut real, mut effective, mut saved] = [0; 3];
    // SAFETY: all three are valid for writes; it cannot fail otherwise.
    unsafe { libc::getresuid(&raw mut real, &raw mut effective, &raw mut saved) };
    Ids {
        real: Uid(real),
        effective: Uid(effective),
        saved: Some(Uid(saved)),
    }
}

pub(crate) fn group_ids() -> Ids<Gid> {
    let [mut real, mut effective, mut saved] = [0; 3];
    // SAFETY: all three are valid for writes; it cannot fail otherwise.
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
