//! The C interface of macOS, which has no flags for close-on-exec and SIGPIPE.

pub(in crate::sys) use libc::{
    __error as errno_location, ELOOP as O_NOFOLLOW_ERRNO, fstat, fstatat, openat, stat,
};

pub(in crate::sys) const SOCK_CLOEXEC: libc::c_int = 0;
pub(in crate::sys) const MSG_CMSG_CLOEXEC: libc::c_int = 0;
pub(in crate::sys) const MSG_NOSIGNAL: libc::c_int = 0;
pub(in crate::sys) const SO_NOSIGPIPE: Option<libc::c_int> = Some(libc::SO_NOSIGPIPE);
