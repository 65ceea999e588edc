//! The C interface of FreeBSD.

pub(super) use libc::{MSG_CMSG_CLOEXEC, MSG_NOSIGNAL, SOCK_CLOEXEC, fstat, fstatat, stat};

/// open(2): "`EMLINK`: `O_NOFOLLOW` was specified and the target is a symbolic link".
pub(super) use libc::EMLINK as O_NOFOLLOW_ERRNO;

pub(super) const SO_NOSIGPIPE: Option<libc::c_int> = None;
