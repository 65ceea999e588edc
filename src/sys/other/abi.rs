//! The C interface of the other Unixes.

pub(in crate::sys) use libc::{MSG_NOSIGNAL, SOCK_CLOEXEC, fstat, fstatat, openat, stat};

#[cfg(target_os = "netbsd")]
pub(in crate::sys) use libc::EFTYPE as O_NOFOLLOW_ERRNO;
#[cfg(not(any(target_os = "dragonfly", target_os = "netbsd")))]
pub(in crate::sys) use libc::ELOOP as O_NOFOLLOW_ERRNO;
/// open(2) of DragonFly and NetBSD have errnos of their own for a symbolic link.
#[cfg(target_os = "dragonfly")]
pub(in crate::sys) use libc::EMLINK as O_NOFOLLOW_ERRNO;

#[cfg(not(any(target_os = "illumos", target_os = "solaris")))]
pub(in crate::sys) use libc::MSG_CMSG_CLOEXEC;
#[cfg(any(target_os = "illumos", target_os = "solaris"))]
pub(in crate::sys) const MSG_CMSG_CLOEXEC: libc::c_int = 0;

#[cfg(any(target_os = "illumos", target_os = "solaris"))]
pub(in crate::sys) use libc::___errno as errno_location;
#[cfg(any(target_os = "netbsd", target_os = "openbsd"))]
pub(in crate::sys) use libc::__errno as errno_location;
#[cfg(not(any(
    target_os = "illumos",
    target_os = "solaris",
    target_os = "netbsd",
    target_os = "openbsd"
)))]
pub(in crate::sys) use libc::__errno_location as errno_location;

pub(in crate::sys) const SO_NOSIGPIPE: Option<libc::c_int> = None;
