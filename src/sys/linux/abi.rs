//! The C interface of Linux.

// On a processor of 32 bits, glibc's other stat(2) fails for an inode of more bits, and its other
// open(2) for a file of 2 GiB.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub(in crate::sys) use libc::{fstat, fstatat, openat, stat};
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub(in crate::sys) use libc::{
    fstat64 as fstat, fstatat64 as fstatat, openat64 as openat, stat64 as stat,
};

#[cfg(target_os = "android")]
pub(in crate::sys) use libc::__errno as errno_location;
#[cfg(target_os = "linux")]
pub(in crate::sys) use libc::__errno_location as errno_location;

pub(in crate::sys) use libc::{
    ELOOP as O_NOFOLLOW_ERRNO, MSG_CMSG_CLOEXEC, MSG_NOSIGNAL, SOCK_CLOEXEC,
};

pub(in crate::sys) const SO_NOSIGPIPE: Option<libc::c_int> = None;
