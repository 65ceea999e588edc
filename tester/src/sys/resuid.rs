//! setresuid(2) and setresgid(2), which also read and set the saved ids.

use std::ffi::c_int;
use std::io;

use super::check;
use crate::report::IdTriple;

/// Whether a process sees its own saved ids.
pub const SEES_SAVED_IDS: bool = true;

fn read_ids(call: unsafe extern "C" fn(*mut u32, *mut u32, *mut u32) -> c_int) -> IdTriple {
    let (mut real, mut effective, mut saved) = (0, 0, 0);
    // SAFETY: the pointers are valid for the call.
    unsafe { call(&mut real, &mut effective, &mut saved) };
    IdTriple {
        real,
        effective,
        saved: Some(saved),
    }
}

pub fn user_ids() -> IdTriple {
    read_ids(libc::getresuid)
}

pub fn group_ids() -> IdTriple {
    read_ids(libc::getresgid)
}

/// Sets real, effective and saved user id.
pub fn set_user_ids([real, effective, saved]: [u32; 3]) -> io::Result<()> {
    // SAFETY: no requirement.
    check(unsafe { libc::setresuid(real, effective, saved) }).map(drop)
}

/// Sets real, effective and saved group id, as root.
pub fn set_group_ids([real, effective, saved]: [u32; 3]) -> io::Result<()> {
    // SAFETY: no requirement.
    check(unsafe { libc::setresgid(real, effective, saved) }).map(drop)
}
