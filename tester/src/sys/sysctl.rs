//! sysctl(3) of the BSDs and macOS, and procctl(2) of FreeBSD.

use std::ffi::{c_int, c_uint};
use std::{io, ptr, thread};

use super::check;

/// The value of this name. The kernel may return less than it announces: nothing for a process
/// that does not exist.
///
/// # Errors
///
/// Those of sysctl(3), except ENOMEM and EBUSY.
pub fn sysctl(name: &[c_int]) -> io::Result<Vec<u8>> {
    loop {
        let result = read_value(name);
        match result.as_ref().map_err(io::Error::raw_os_error) {
            // The value has grown since its size was asked for.
            Err(Some(libc::ENOMEM)) => {}
            // FreeBSD shows no process while it executes another program, OpenBSD no environment.
            Err(Some(libc::EBUSY)) => thread::yield_now(),
            _ => return result,
        }
    }
}

/// FreeBSD cuts a list of files that does not fit, and reports success. A `struct kinfo_file` is
/// shorter than this.
const LONGEST_RECORD: usize = 2048;

fn read_value(name: &[c_int]) -> io::Result<Vec<u8>> {
    let length = c_uint::try_from(name.len()).map_err(io::Error::other)?;
    let call = |buffer: *mut u8, size: &mut usize| {
        // SAFETY: the name has the length that is passed, and is only read. The callers pass a
        // buffer of `size` bytes, or null to ask for the size.
        check(unsafe {
            libc::sysctl(
                name.as_ptr().cast_mut(),
                length,
                buffer.cast(),
                size,
                ptr::null_mut(),
                0,
            )
        })
    };
    let mut size = 0;
    call(ptr::null_mut(), &mut size)?;
    // The value may grow in between.
    size += size / 4 + 2 * LONGEST_RECORD;
    let mut bytes = vec![0; size];
    call(bytes.as_mut_ptr(), &mut size)?;
    if bytes.len() - size < LONGEST_RECORD {
        return Err(io::Error::from_raw_os_error(libc::ENOMEM));
    }
    bytes.truncate(size);
    Ok(bytes)
}

/// `PROC_NO_NEW_PRIVS_STATUS` of procctl(2): whether exec can grant the process no privileges;
/// `None` before FreeBSD 14.
///
/// # Errors
///
/// Those of procctl(2), except EINVAL.
#[cfg(target_os = "freebsd")]
pub fn has_no_new_privileges(pid: u32) -> io::Result<Option<bool>> {
    let mut state: c_int = 0;
    let command = libc::PROC_NO_NEW_PRIVS_STATUS;
    // SAFETY: the command writes an int.
    let result =
        check(unsafe { libc::procctl(libc::P_PID, pid.into(), command, (&raw mut state).cast()) });
    match result {
        Ok(_) => Ok(Some(state == libc::PROC_NO_NEW_PRIVS_ENABLE)),
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Ok(None),
        Err(error) => Err(error),
    }
}

/// `kern.osreldate`: the version of the kernel, such as 1302001 for 13.2.
///
/// # Errors
///
/// Those of sysctl(3).
#[cfg(target_os = "freebsd")]
pub fn kernel_version() -> io::Result<i32> {
    let value = sysctl(&[libc::CTL_KERN, libc::KERN_OSRELDATE])?;
    let value = value.as_slice().try_into();
    Ok(i32::from_ne_bytes(value.map_err(io::Error::other)?))
}
