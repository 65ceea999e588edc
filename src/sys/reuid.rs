//! setreuid(2) and setregid(2), for platforms whose calls cannot name the saved ids.
//!
//! If both ids are given, these calls set the saved one, too. POSIX: "if the real user ID
//! is being set ... the saved set-user-ID ... shall be set equal to the new effective
//! user ID". NetBSD does so only if the real id changes (`sys_setreuid` of
//! sys/kern/kern_prot.c). There setuid(2) and setgid(2) follow: once the real id is the
//! one given, they set all three ids, also without privileges. On other platforms these
//! two calls change no id; on macOS, unless setgroups(2) was called, they replace the
//! groups that the directory service adds by those of the new user. The attempt to regain
//! the former ids verifies the result.
//!
//! Async-signal-safe: POSIX lists setuid(2) and setgid(2).

use crate::sys::{Errno, Gid, Ids, Uid, cvt};

pub(crate) fn user_ids() -> Ids<Uid> {
    Ids {
        // SAFETY: getuid takes nothing and cannot fail.
        real: Uid(unsafe { libc::getuid() }),
        effective: crate::sys::geteuid(),
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
