//! setreuid(2) and setregid(2), where the saved ids cannot be named. With both
//! ids they set the saved one too, as POSIX says of it ("if the real user ID is
//! being set ... the saved set-user-ID ... shall be set equal to the new
//! effective user ID"). NetBSD does so only where the real id changes
//! (`sys_setreuid` of sys/kern/kern_prot.c); setuid(2) and setgid(2), which set
//! all three there also without privileges once the real id is the one asked
//! for, do the rest. Elsewhere they change no id; on macOS, the groups that the
//! directory service adds become those of the new user, unless setgroups(2) was
//! called. That it worked is what the attempt to go back shows. Async-signal-safe:
//! POSIX lists setuid(2) and setgid(2).

use super::{Errno, Gid, Ids, Uid, cvt};

pub(crate) fn user_ids() -> Ids<Uid> {
    Ids {
        // SAFETY: getuid takes nothing and cannot fail.
        real: Uid(unsafe { libc::getuid() }),
        effective: super::geteuid(),
        saved: None,
    }
}

pub(crate) fn group_ids() -> Ids<Gid> {
    Ids {
        // SAFETY: getgid takes nothing and cannot fail.
        real: Gid(unsafe { libc::getgid() }),
        // SAFETY: getegid takes nothing and cannot fail.
        effective: Gid(unsafe { libc::getegid() }),
        saved: None,
    }
}

pub(crate) fn set_user_ids(Uid(uid): Uid) -> Result<(), Errno> {
    // SAFETY: setreuid takes plain numbers.
    cvt(unsafe { libc::setreuid(uid, uid) })?;
    // SAFETY: setuid takes a plain number.
    cvt(unsafe { libc::setuid(uid) }).map(drop)
}

pub(crate) fn set_group_ids(Gid(gid): Gid) -> Result<(), Errno> {
    // SAFETY: setregid takes plain numbers.
    cvt(unsafe { libc::setregid(gid, gid) })?;
    // SAFETY: setgid takes a plain number.
    cvt(unsafe { libc::setgid(gid) }).map(drop)
}
