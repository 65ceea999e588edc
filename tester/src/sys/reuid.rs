//! setreuid(2) and setregid(2), for platforms whose calls cannot name the saved ids.

use std::io;

use super::{check, effective_user, set_effective_group, set_effective_user};
use crate::report::IdTriple;

/// Whether a process sees its own saved ids.
pub const SEES_SAVED_IDS: bool = false;

pub fn user_ids() -> IdTriple {
    IdTriple {
        // SAFETY: no requirement.
        real: unsafe { libc::getuid() },
        effective: effective_user(),
        saved: None,
    }
}

pub fn group_ids() -> IdTriple {
    IdTriple {
        // SAFETY: no requirement.
        real: unsafe { libc::getgid() },
        // SAFETY: no requirement.
        effective: unsafe { libc::getegid() },
        saved: None,
    }
}

/// NetBSD sets the saved id only if the real one changes (`sys_setreuid` of sys/kern/kern_prot.c).
/// There, root first changes the real id to another.
const SAVED_FOLLOWS_REAL: bool = cfg!(target_os = "netbsd");

/// Sets real, effective and saved user id.
///
/// setreuid(2) makes the saved id equal to the effective one, and seteuid(2) then changes the
/// effective one alone. Three different ids, none of them root, cannot be set: the saved id is then
/// the effective one.
pub fn set_user_ids([real, effective, saved]: [u32; 3]) -> io::Result<()> {
    let is_reachable = saved == 0 || [real, saved].contains(&effective);
    let saved = if is_reachable { saved } else { effective };
    if SAVED_FOLLOWS_REAL && user_ids().real == real && effective_user() == 0 {
        // SAFETY: no requirement.
        check(unsafe { libc::setreuid(another(real), 0) })?;
    }
    // SAFETY: no requirement.
    check(unsafe { libc::setreuid(real, saved) })?;
    set_effective_user(effective)
}

/// Sets real, effective and saved group id, as root.
pub fn set_group_ids([real, effective, saved]: [u32; 3]) -> io::Result<()> {
    if SAVED_FOLLOWS_REAL && group_ids().real == real {
        // SAFETY: no requirement.
        check(unsafe { libc::setregid(another(real), saved) })?;
    }
    // SAFETY: no requirement.
    check(unsafe { libc::setregid(real, saved) })?;
    set_effective_group(effective)
}

fn another(id: u32) -> u32 {
    u32::from(id == 0)
}
