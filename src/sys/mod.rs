//! The operating system: all libc calls of the crate, and all its unsafe code but that of
//! `src/builder.rs`.
//!
//! A function here is a safe wrapper of one system call or one function of libc, bears
//! its name, and returns its errno. Other modules decide what the call means for a
//! daemon.
//!
//! # What a platform supplies
//!
//! Each platform has one directory for what POSIX leaves open. The directory supplies:
//!
//! | item | contract | without it |
//! |---|---|---|
//! | `is_single_threaded` | whether the calling thread is the only user of its memory | `None`: unknown |
//! | `thread_names` | an entry per thread of the process, with its name if that is known; for people | `None`: unknown |
//! | `WHY_THREADS_ARE_UNKNOWN` | why `is_single_threaded` may return `None`, and a remedy; for people | |
//! | `HAS_CAPABILITIES` | whether a process other than root's may have some of root's privileges | `false` |
//! | `find_shared_event_queue` | an open descriptor by which a child of fork(2) would share an event queue with this process | `Ok(None)`: fork(2) shares none, or `is_single_threaded` returns `None` |
//! | `disarm_parent_death_signal` | the calling thread gets no signal when its parent ends; async-signal-safe | does nothing |
//! | `is_null_device` | whether an open file is the null device; async-signal-safe | any character device |
//! | `is_unmapped` | whether a uid stands for all users without a number in this user namespace; async-signal-safe | `false`: there are no user namespaces |
//! | `take_record_lock` | a lock of fcntl(2) in addition to that of flock(2); async-signal-safe | does nothing: the two kinds of locks exclude each other |
//! | `record_lock_holder` | the process that the kernel names as the holder of a record lock; the expected process if it is one of several | `ENOSYS` |
//! | `probe_lock`, `end_probe` | precede and follow a look at a file; `EWOULDBLOCK` if a process has the exclusive lock of flock(2) | between the two, this process has the shared lock, for whose release a start waits |
//! | `is_also_numbered` | whether a process has this pid in another pid namespace | `false` |
//! | `has_open` | whether a process has a file open, and locked if that is known; false if the process does not exist | `ENOSYS`: unknown |
//! | `WHY_OPEN_FILES_ARE_HIDDEN` | who may ask `has_open`; for people | |
//! | `WHY_CHROOT_IS_REFUSED` | why chroot(2) may refuse root, appended to an error; for people | |
//! | `users_of` | at least the real, effective and saved uid of a process | `ENOSYS` |
//! | `OtherThreads` | what is needed to learn the privileges of the other threads | a unit struct: privileges belong to processes |
//! | `reduce_capabilities` | sets the capabilities of the calling thread, and removes all others from its ambient set; false if this thread still has others, or if another thread has or may have others | `Ok(true)` |
//! | `capget`, `secure_bits`, `set_keepcaps`, `is_in_bounding_set`, `is_ambient`, `raise_ambient` | capabilities and secure bits of the calling thread, as capabilities(7) defines them | `ENOSYS`, and `HAS_CAPABILITIES` is false |
//! | `HAS_NOTIFY_SOCKET`, `bind_notify_socket`, `recv_notification` | a datagram socket with a name that needs no file, and its next message with the pid of the sender, which the kernel attests; async-signal-safe | `false`: `ENOSYS` |
//! | `exchange` | exchanges two files of a directory in one step | `ENOSYS` |
//! | `members_of` | the members of a process group that this process can see | `ENOSYS` |
//! | `ProcessHandle`, `open_process`, `signal_process` | a descriptor that always names the same process, and is readable once the process ends; sends it a signal | `None` |
//! | `open_process_to_send`, `claim_process` | a descriptor of its daemon that the intermediate can send (async-signal-safe); the handle of the launcher, by that descriptor or else by the pid | `None` |
//! | `HANDLES_REAP`, `reap` | reaps the process of a handle if it is a child that has ended | `false`: does nothing |
//! | `close_all_but` | closes the descriptors from 3 on except those given, at a cost that does not depend on a limit; async-signal-safe | `ENOSYS` |
//! | `close_all_before_exec` | closes the descriptors from 3 on that execve(2) would close, except those given; async-signal-safe | tries each number below 65,536 |
//! | `RUNTIME_DIRECTORY`, `STATE_DIRECTORY`, `LOG_DIRECTORY` | where root's daemons have their directories, as in hier(7) | those of FreeBSD |
//! | `SYSTEM_GROUPS` | the groups whose members are trusted like root, and can write to system directories | group 0 |
//! | `has_access_list` | whether the group bits of an open file's mode are the mask of a list of more users and groups; async-signal-safe | `false` |
//! | `has_raised_privileges` | whether the program has privileges that its caller lacks (set-user-id and the like), so that its environment is not trusted | whether real and effective ids differ |
//! | `HAS_NO_NEW_PRIVILEGES`, `set_no_new_privileges` | execve(2) grants no privileges to the calling thread and to the threads that it makes | `false` |
//! | `HAS_DUMPABLE`, `set_dumpable`, `is_dumpable` | this process leaves core dumps, and other processes of its user may trace it | `false` |
//! | `PATH_OF_ROOT`, `PATH_OF_USERS` | the environment variable `PATH` that root, and any other user, has after a login | the values of macOS |
//! | `user_ids`, `group_ids`, `set_user_ids`, `set_group_ids` | real, effective and saved ids | the saved ids cannot be read, and are set by implication |
//! | `UNCHANGED_IDS` | the user and group ids that mean "unchanged" to the kernel | 2^32 - 1 |
//! | `groups` | adds the supplementary groups of the process to an empty list; async-signal-safe if the list has the capacity | getgroups(2) |
//! | `getcwd` | the absolute path of the working directory, without symbolic links; async-signal-safe | getcwd(3) |
//! | `FIRST_GROUP_IS_EFFECTIVE_GID` | whether the first of `groups` is the effective gid, and setgroups(2) may take the first of its list for it | `false` |
//! | `EFFECTIVE_GID_SWAPS` | whether a supplementary group that becomes the effective gid changes places with it | `false` |
//! | `HAS_UNLISTED_GROUPS` | whether a process has groups that getgroups(2) does not list | `false` |
//! | `max_supplementary_groups` | how many supplementary groups a process may have | sysconf(3) |
//! | `ListedGroup`, `GROUP_LIST_ROOM`, `IS_GROUP_LIST_CUT_SILENTLY` | of getgrouplist(3): the type of its groups, the size of the first list, whether it reports success although it has cut the list | |
//! | `abi` | the constants and types of the C headers that differ | |
//!
//! # Async-signal-safety
//!
//! Functions that a child calls between fork(2) and the first closure of the caller are
//! marked *async-signal-safe*: they make system calls on memory that their caller
//! provides, and neither allocate memory nor lock a mutex.

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

use std::io;
use std::os::fd::RawFd;

mod capabilities;
mod child;
mod defaults;
mod environment;
mod exec;
mod fd;
mod file;
mod ids;
mod poll;
mod process;
mod shared_byte;
mod signal;
mod socket;
mod thread;
mod user_database;

#[cfg_attr(any(target_os = "linux", target_os = "android"), path = "linux/mod.rs")]
#[cfg_attr(target_os = "freebsd", path = "freebsd/mod.rs")]
#[cfg_attr(target_vendor = "apple", path = "macos/mod.rs")]
#[cfg_attr(
    not(any(
        target_os = "linux",
        target_os = "android",
        target_os = "freebsd",
        target_vendor = "apple"
    )),
    path = "other/mod.rs"
)]
mod platform;

pub(crate) use capabilities::*;
pub(crate) use child::*;
pub(crate) use environment::*;
pub(crate) use exec::*;
pub(crate) use fd::*;
pub(crate) use file::*;
pub(crate) use ids::*;
pub(crate) use platform::*;
pub(crate) use poll::*;
pub(crate) use process::*;
pub(crate) use shared_byte::*;
pub(crate) use signal::*;
pub(crate) use socket::*;
pub(crate) use thread::*;
pub(crate) use user_database::*;

pub use signal::Signal;

/// The result of [`find_shared_event_queue`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EventQueue {
    pub(crate) name: &'static str,
    pub(crate) descriptor: RawFd,
}

/// The error number of a failed call, as in errno(3).
pub(crate) type Errno = libc::c_int;

/// The error numbers that the crate itself compares or returns.
pub(crate) mod errno {
    pub(crate) use libc::{
        EACCES, EAGAIN, EBADF, ECONNRESET, EEXIST, EINVAL, ELOOP, EMLINK, ENAMETOOLONG, ENOBUFS,
        ENODEV, ENOENT, ENOEXEC, ENOLCK, ENOMEM, ENOSYS, ENOTCONN, ENOTDIR, ENOTEMPTY, ENOTSUP,
        ENXIO, EPERM, EPIPE, EPROTO, ESRCH, ESTALE, ETIMEDOUT, EWOULDBLOCK,
    };
}

/// The errno of the last call.
fn last_errno() -> Errno {
    // An io::Error of an errno is a plain number, and allocates nothing.
    io::Error::last_os_error().raw_os_error().unwrap_or(0)
}

/// Sets errno to 0, for a call whose return value does not tell a failure from a success.
/// Async-signal-safe.
fn clear_errno() {
    // SAFETY: the function takes nothing and cannot fail.
    let errno = unsafe { abi::errno_location() };
    // SAFETY: the variable belongs to the calling thread and lives as long as the thread.
    unsafe { *errno = 0 };
}

/// The errno of a call that std has made.
fn errno_of(error: &io::Error) -> Errno {
    error.raw_os_error().unwrap_or(libc::EIO)
}

/// Converts the -1 of a failed call into its errno.
fn cvt<N: PartialOrd + From<i8>>(returned: N) -> Result<N, Errno> {
    if returned < N::from(0) {
        Err(last_errno())
    } else {
        Ok(returned)
    }
}

/// Repeats a call that a signal handler interrupts.
fn retry_on_eintr<N: PartialOrd + From<i8>>(mut call: impl FnMut() -> N) -> Result<N, Errno> {
    loop {
        match cvt(call()) {
            Err(libc::EINTR) => {}
            other => return other,
        }
    }
}
