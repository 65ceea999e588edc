//! Files relative to an open directory: the view through /proc, which survives a chroot.

use std::ffi::{CStr, CString};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd};

// On a processor of 32 bits, glibc's other stat(2) fails for a file of 2 GiB.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
use libc::{fstatat, stat};
#[cfg(all(target_os = "linux", target_env = "gnu"))]
use libc::{fstatat64 as fstatat, stat64 as stat};

use super::{check, close, retry};

/// The result of fstatat(2).
#[derive(Debug, Clone, Copy)]
pub struct Stat {
    pub device: u64,
    pub inode: u64,
    pub mode: u32,
    pub uid: u32,
    /// For device files, the device.
    pub special_device: u64,
}

/// fstatat(2), following links.
pub fn stat_at(directory: BorrowedFd<'_>, path: &CStr) -> io::Result<Stat> {
    let mut stat = MaybeUninit::<stat>::uninit();
    // SAFETY: the pointers are valid for the call.
    check(unsafe { fstatat(directory.as_raw_fd(), path.as_ptr(), stat.as_mut_ptr(), 0) })?;
    // SAFETY: the call has filled it.
    let stat = unsafe { stat.assume_init() };
    Ok(Stat {
        device: stat.st_dev,
        inode: stat.st_ino,
        mode: stat.st_mode,
        uid: stat.st_uid,
        special_device: stat.st_rdev,
    })
}

/// readlinkat(2).
pub fn read_link_at(directory: BorrowedFd<'_>, path: &CStr) -> io::Result<Vec<u8>> {
    let mut buffer = vec![0_u8; 4096];
    // SAFETY: the pointers are valid for the call and the length is right.
    let length = unsafe {
        libc::readlinkat(
            directory.as_raw_fd(),
            path.as_ptr(),
            buffer.as_mut_ptr().cast(),
            buffer.len(),
        )
    };
    let Ok(length) = usize::try_from(length) else {
        return Err(io::Error::last_os_error());
    };
    buffer.truncate(length);
    Ok(buffer)
}

/// openat(2) for reading, closed on exec.
pub fn open_at(directory: BorrowedFd<'_>, path: &CStr) -> io::Result<OwnedFd> {
    let fd = retry(|| {
        // SAFETY: the pointer is valid for the call.
        check(unsafe {
            libc::openat(
                directory.as_raw_fd(),
                path.as_ptr(),
                libc::O_RDONLY | libc::O_CLOEXEC | libc::O_NOCTTY,
            )
        })
    })?;
    // SAFETY: the call has just made the descriptor, so that nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The names in a directory, which is closed.
pub fn list(directory: OwnedFd) -> io::Result<Vec<CString>> {
    let fd = directory.into_raw_fd();
    // SAFETY: the descriptor is open and given up by its owner.
    let stream = unsafe { libc::fdopendir(fd) };
    if stream.is_null() {
        let error = io::Error::last_os_error();
        close(fd);
        return Err(error);
    }
    let mut names = Vec::new();
    // The end and an error both return null, so errno decides. An incomplete list would hide the
    // error.
    let result = loop {
        // SAFETY: no requirement.
        let errno = unsafe { libc::__errno_location() };
        // SAFETY: it is the calling thread's own.
        unsafe { *errno = 0 };
        // SAFETY: the stream is open.
        let entry = unsafe { libc::readdir(stream) };
        if entry.is_null() {
            let error = io::Error::last_os_error();
            break match error.raw_os_error() {
                Some(0) | None => Ok(names),
                _ => Err(error),
            };
        }
        // SAFETY: an entry is valid until the next call.
        let name = unsafe { &raw const (*entry).d_name };
        // SAFETY: the name ends in a NUL.
        let name = unsafe { CStr::from_ptr(name.cast()) };
        if name != c"." && name != c".." {
            names.push(name.to_owned());
        }
    };
    // SAFETY: the stream is open, and not used afterwards.
    unsafe { libc::closedir(stream) };
    result
}

/// kcmp(2): whether two descriptors of two processes are copies of each other, so that they share
/// the offset and the locks. `None` if the kernel does not tell.
pub fn are_copies(one: (u32, i32), other: (u32, i32)) -> Option<bool> {
    /// `KCMP_FILE` of linux/kcmp.h.
    const FILE: libc::c_int = 0;
    // The call takes each argument as a register of its own.
    let number = |number: i32| libc::c_long::from(number);
    let [(pid, fd), (other_pid, other_fd)] = [one, other];
    let pids = [pid, other_pid].map(|pid| libc::pid_t::try_from(pid).ok());
    let [Some(pid), Some(other_pid)] = pids else {
        return None;
    };
    // SAFETY: no pointers are passed.
    let order = unsafe {
        libc::syscall(
            libc::SYS_kcmp,
            pid,
            other_pid,
            FILE,
            number(fd),
            number(other_fd),
        )
    };
    (order >= 0).then_some(order == 0)
}
