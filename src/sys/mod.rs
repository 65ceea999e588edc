//! The operating system: the only unsafe code and the only libc calls of the
//! crate.
//!
//! Everything in here is a thin, safe function over one system call or one
//! libc function, and reports failure as the errno of that very call. What
//! the calls *mean* for a daemon is decided elsewhere.
//!
//! # What a platform supplies
//!
//! What POSIX leaves open is in one file per platform. Each supplies:
//!
//! | function | contract | may lack it |
//! |---|---|---|
//! | `is_single_threaded` | whether the calling thread is the only user of its memory | `None`: nothing can tell |
//! | `thread_names` | one entry per thread of the process, with its name where that can be read; for people | `None`: nothing can tell |
//! | `WHY_THREADS_ARE_UNKNOWN` | why `is_single_threaded` may not know, and what to do; for people | |
//! | `HAS_CAPABILITIES` | whether a process that is not root may have some of root's rights | `false` |
//! | `find_shared_event_queue` | an open descriptor by which a child of fork(2) would take part in a queue of events of this process | `Ok(None)`, where fork(2) passes none on, or `is_single_threaded` cannot tell |
//! | `disarm_parent_death_signal` | the end of the parent sends the calling thread no signal; async-signal-safe | nothing to do |
//! | `is_null_device` | whether an open file is the null device; async-signal-safe | any character device |
//! | `is_unmapped` | whether a uid stands for all users whom this user namespace has no number for; async-signal-safe | `false`, where there are no user namespaces |
//! | `take_record_lock`, `record_lock_holder` | a lock of fcntl(2), beside that of flock(2), by which the kernel names the process that holds a pid file to whoever may open it: the expected one, if that is one of several; async-signal-safe the former | nothing is taken, and `ENOSYS`: where the two kinds of locks exclude each other |
//! | `is_also_numbered` | whether a process has this pid in another pid namespace | `false` |
//! | `has_open` | whether a process has a file open, by device and inode, and locked, where that can be told; a process that does not exist has not | `ENOSYS`: nothing can tell |
//! | `users_of` | the real, effective and saved uid of a process, and whatever others it has | `ENOSYS` |
//! | `OtherThreads` | what it takes to know what other threads may do; made while names can be looked up, before the root directory changes | a unit struct, where rights belong to processes |
//! | `clear_capabilities` | empties every capability set of the calling thread; false where one is left, or another thread has or may have one | `Ok(true)` where there are none |
//! | `open_process`, `signal_process`, `reap` | a descriptor that names one process for good; a signal through it; the reaping of one that has ended, should it be a child | `None` |
//! | `close_all_but` | closes the descriptors from 3 on but those given, at a cost that no limit enters into; async-signal-safe | `ENOSYS` |
//! | `SYSTEM_GROUPS` | the groups whose members are taken to be as good as root, and that system folders are writable for | group 0 alone |
//! | `has_access_list` | whether the group bits of an open file's mode are the mask of a list of further users and groups; async-signal-safe | `false`: not looked for |
//! | `has_raised_privileges` | whether the program runs with privileges that its caller lacks (set-user-id and its like), so that its environment is not to be trusted | whether real and effective ids differ |
//! | `HAS_NO_NEW_PRIVILEGES`, `set_no_new_privileges` | execve(2) grants the calling thread, and those it makes, nothing any more; reads it back | `false` |
//!
//! # Async-signal-safety
//!
//! Functions that are called between fork(2) and the first closure of the
//! caller are marked *async-signal-safe* in their documentation: they make
//! system calls on memory they are handed, and neither allocate nor lock.

#![allow(unsafe_code)]
// The C types differ in width and sign between platforms, so that a cast that
// is needed on one is a no-op, or a lint, on another.
#![allow(
    clippy::cast_lossless,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    clippy::unnecessary_cast
)]

use std::os::fd::RawFd;

mod descriptor;
mod identity;
#[cfg(not(any(target_os = "linux", target_os = "android")))]
mod lacking;
mod process;
mod shared;
mod signal;

#[cfg(any(target_os = "linux", target_os = "android"))]
#[path = "linux.rs"]
mod platform;
#[cfg(target_os = "freebsd")]
#[path = "freebsd.rs"]
mod platform;
#[cfg(target_vendor = "apple")]
#[path = "macos.rs"]
mod platform;
#[cfg(not(any(
    target_os = "linux",
    target_os = "android",
    target_os = "freebsd",
    target_vendor = "apple"
)))]
#[path = "elsewhere.rs"]
mod platform;

pub(crate) use descriptor::*;
pub(crate) use identity::*;
pub(crate) use process::*;
pub(crate) use shared::*;
pub(crate) use signal::*;

#[allow(unused_imports, reason = "for those who are about to use them")]
pub(crate) use platform::is_unmapped;
pub(crate) use platform::{
    HAS_CAPABILITIES, HAS_NO_NEW_PRIVILEGES, OtherThreads, SYSTEM_GROUPS, WHY_THREADS_ARE_UNKNOWN,
    clear_capabilities, close_all_but, disarm_parent_death_signal, find_shared_event_queue,
    has_access_list, has_open, has_raised_privileges, is_also_numbered, is_null_device,
    open_process, reap, record_lock_holder, set_no_new_privileges, signal_process,
    take_record_lock, thread_names, users_of,
};

/// What [`find_shared_event_queue`] finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EventQueue {
    pub(crate) name: &'static str,
    pub(crate) descriptor: RawFd,
}

/// The error number of a failed call, as in errno(3).
pub(crate) type Errno = libc::c_int;

/// The error numbers that the crate itself decides on or returns.
pub(crate) mod errno {
    pub(crate) use libc::{
        EACCES, EAGAIN, EBADF, ECONNRESET, EEXIST, EINVAL, ELOOP, EMLINK, ENOBUFS, ENODEV, ENOENT,
        ENOLCK, ENOMEM, ENOSYS, ENOTCONN, EPERM, EPIPE, EPROTO, ESRCH, EWOULDBLOCK,
    };
}

/// The errno of the call just made.
fn last_errno() -> Errno {
    // An io::Error made of an errno is a plain number: nothing is allocated.
    std::io::Error::last_os_error().raw_os_error().unwrap_or(0)
}

/// Turns the -1 of a failed call into its errno.
fn cvt<N: PartialOrd + From<i8>>(returned: N) -> Result<N, Errno> {
    if returned < N::from(0) {
        Err(last_errno())
    } else {
        Ok(returned)
    }
}

/// Makes the call again for as long as a signal handler interrupts it.
fn retry_on_eintr<N: PartialOrd + From<i8>>(mut call: impl FnMut() -> N) -> Result<N, Errno> {
    loop {
        match cvt(call()) {
            Err(libc::EINTR) => {}
            other => return other,
        }
    }
}
