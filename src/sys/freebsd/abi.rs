//! The C interface of FreeBSD.

pub(in crate::sys) use libc::{
    __error as errno_location, MSG_CMSG_CLOEXEC, MSG_NOSIGNAL, SOCK_CLOEXEC, fstat, fstatat,
    openat, stat,
};

/// open(2): "`EMLINK`: `O_NOFOLLOW` was specified and the target is a symbolic link".
pub(in crate::sys) use libc::EMLINK as O_NOFOLLOW_ERRNO;

pub(in crate::sys) const SO_NOSIGPIPE: Option<libc::c_int> = None;
