//! The C interface of Linux.

// glibc's other stat(2) fails for inodes of more than 32 bits.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub(in crate::sys) use libc::{fstat, fstatat, stat};
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub(in crate::sys) use libc::{fstat64 as fstat, fstatat64 as fstatat, stat64 as stat};

pub(in crate::sys) use libc::{
    ELOOP as O_NOFOLLOW_ERRNO, MSG_CMSG_CLOEXEC, MSG_NOSIGNAL, SOCK_CLOEXEC,
};

pub(in crate::sys) const SO_NOSIGPIPE: Option<libc::c_int> = None;
