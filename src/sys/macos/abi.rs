//! The C interface of macOS, which has no flags for close-on-exec and SIGPIPE.

pub(in crate::sys) use libc::{
    __error as errno_location, ELOOP as O_NOFOLLOW_ERRNO, fstat, fstatat, openat, stat,
};

pub(in crate::sys) const SOCK_CLOEXEC: libc::c_int = 0;
pub(in crate::sys) const MSG_CMSG_CLOEXEC: libc::c_int = 0;
pub(in crate::sys) const MSG_NOSIGNAL: libc::c_int = 0;

/// Without an event, poll(2) waits for nothing (`poll_nocancel` of bsd/kern/sys_generic.c).
pub(in crate::sys) const POLL_CLOSED: libc::c_short = libc::POLLIN;

pub(in crate::sys) const SO_NOSIGPIPE: Option<libc::c_int> = Some(libc::SO_NOSIGPIPE);
