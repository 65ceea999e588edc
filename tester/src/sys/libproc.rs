//! libproc of macOS, which asks the kernel about processes.

use std::ffi::c_int;
use std::io;
use std::os::fd::RawFd;

use super::check;
use super::process::signed;

/// `proc_pidinfo` of libproc.h: a structure of at most `size` bytes, or an array of structures.
///
/// # Errors
///
/// EPERM if the process belongs to another user, ESRCH if there is no such process.
pub fn process_information(pid: u32, flavor: c_int, size: usize) -> io::Result<Vec<u8>> {
    fill(size, |buffer, size| {
        // SAFETY: the buffer is valid for writes of `size` bytes.
        unsafe { libc::proc_pidinfo(signed(pid), flavor, 0, buffer.cast(), size) }
    })
}

/// The number of bytes that suffice for the list `PROC_PIDLISTFDS`.
///
/// # Errors
///
/// As for [`process_information`].
pub fn size_of_descriptor_list(pid: u32) -> io::Result<usize> {
    clear_errno();
    let list = libc::PROC_PIDLISTFDS;
    // SAFETY: a null buffer asks for the size.
    let size = unsafe { libc::proc_pidinfo(signed(pid), list, 0, std::ptr::null_mut(), 0) };
    filled(size)
}

/// `proc_pidfdinfo` of libproc.h: a structure of at most `size` bytes about a descriptor.
///
/// # Errors
///
/// EBADF if the descriptor is not open, or is of another type.
pub fn descriptor_information(
    pid: u32,
    descriptor: RawFd,
    flavor: c_int,
    size: usize,
) -> io::Result<Vec<u8>> {
    fill(size, |buffer, size| {
        // SAFETY: the buffer is valid for writes of `size` bytes.
        unsafe { libc::proc_pidfdinfo(signed(pid), descriptor, flavor, buffer.cast(), size) }
    })
}

fn fill(size: usize, call: impl FnOnce(*mut u8, c_int) -> c_int) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; size];
    let size = c_int::try_from(size).map_err(io::Error::other)?;
    clear_errno();
    let length = filled(call(bytes.as_mut_ptr(), size))?;
    bytes.truncate(length);
    Ok(bytes)
}

/// libproc returns 0 for a failed call as well as for an empty list: errno decides.
fn filled(result: c_int) -> io::Result<usize> {
    let error = io::Error::last_os_error();
    match usize::try_from(check(result)?) {
        Ok(0) if error.raw_os_error() != Some(0) => Err(error),
        length => length.map_err(io::Error::other),
    }
}

fn clear_errno() {
    // SAFETY: the call takes nothing and cannot fail.
    let errno = unsafe { libc::__error() };
    // SAFETY: it belongs to the calling thread.
    unsafe { *errno = 0 };
}
