//! setresuid(2) and setresgid(2), which also set the saved ids.
//!
//! Async-signal-safe in a child of fork(2), which has no other threads to change: POSIX
//! lists setuid(2).

use crate::sys::{Errno, Gid, Ids, Uid, cvt};

type Getter = unsafe extern "C" fn(*mut u32, *mut u32, *mut u32) -> libc::c_int;

fn read<Id>(getter: Getter, id: fn(u32) -> Id) -> Ids<Id> {
    let [mut real, mut effective, mut saved] = [0; 3];
    // SAFETY: all three are valid for writes; it has no other error.
    unsafe { getter(&raw mut real, &raw mut effective, &raw mut saved) };
    Ids {
        real: id(real),
        effective: id(effective),
        saved: Some(id(saved)),
    }
}

pub(crate) fn user_ids() -> Ids<Uid> {
    read(libc::getresuid, Uid)
}

pub(crate) fn group_ids() -> Ids<Gid> {
    read(libc::getresgid, Gid)
}

pub(crate) fn set_user_ids(Uid(uid): Uid) -> Result<(), Errno> {
    // SAFETY: setresuid takes plain numbers.
    cvt(unsafe { libc::setresuid(uid, uid, uid) }).map(drop)
}

pub(crate) fn set_group_ids(Gid(gid): Gid) -> Result<(), Errno> {
    // SAFETY: setresgid takes plain numbers.
    cvt(unsafe { libc::setresgid(gid, gid, gid) }).map(drop)
}
