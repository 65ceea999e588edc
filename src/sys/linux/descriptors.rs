//! The open descriptors of this process.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt as _;

use super::directory::{find_number, open_directory};
use crate::sys::fd::{close_before_exec, close_numbered_before_exec, close_raw, ranges_between};
use crate::sys::{Errno, EventQueue, cvt, errno_of};

fn open_list() -> Result<OwnedFd, Errno> {
    open_directory(c"/proc/self/fd")
}

/// close_range(2), whose cost depends on what is open. If the kernel is older than Linux
/// 5.9, or a sandbox forbids the call, the listing of /proc. Async-signal-safe.
pub(crate) fn close_all_but(kept: &[RawFd], scratch: &mut [u64]) -> Result<(), Errno> {
    for (first, last) in ranges_between(kept) {
        match close_range(first, last) {
            Ok(()) => {}
            Err(libc::ENOSYS | libc::EPERM) => return close_listed_but(kept, scratch),
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// The cfg stands for an old kernel in tests.
fn close_range(first: RawFd, last: Option<RawFd>) -> Result<(), Errno> {
    if cfg!(daemonize2_without_close_range) {
        return Err(libc::ENOSYS);
    }
    let last = last.map_or(libc::c_uint::MAX, |last| last as libc::c_uint);
    // SAFETY: plain numbers; the caller of `close_inherited_fds` has promised
    // that no value uses or closes a descriptor that is not kept.
    cvt(unsafe { libc::syscall(libc::SYS_close_range, first as libc::c_uint, last, 0) } as i32)
        .map(drop)
}

/// Closes those descriptors from 3 on that execve(2) would close, except those given.
/// Async-signal-safe.
pub(crate) fn close_all_before_exec(kept: &[RawFd], scratch: &mut [u64]) {
    let closed = open_list().and_then(|list| {
        find_number(&list, scratch, |descriptor| {
            if descriptor != list.as_raw_fd() {
                close_before_exec(descriptor, kept);
            }
            Ok(None::<()>)
        })
    });
    if closed.is_err() {
        close_numbered_before_exec(kept);
    }
}

/// The listing is in order of number, so that closing what was read does not disturb it.
fn close_listed_but(kept: &[RawFd], scratch: &mut [u64]) -> Result<(), Errno> {
    let list = match open_list() {
        // Every number that a new descriptor could get is taken, and therefore also the
        // first number that is to be closed.
        Err(libc::EMFILE) => {
            if let Some((first, _)) = ranges_between(kept).next() {
                close_raw(first);
            }
            open_list()?
        }
        list => list?,
    };
    find_number(&list, scratch, |descriptor| {
        let is_kept = descriptor <= 2 || kept.binary_search(&descriptor).is_ok();
        if !is_kept && descriptor != list.as_raw_fd() {
            close_raw(descriptor);
        }
        Ok(None::<()>)
    })
    .map(drop)
}

/// epoll(7) and io_uring(7), by their names in proc(5). An io_uring whose descriptor is
/// closed while its memory is still mapped is not found.
///
/// Without /proc this fails: to fstat(2) all anonymous files look the same.
pub(crate) fn find_shared_event_queue() -> Result<Option<EventQueue>, Errno> {
    find_number(&open_list()?, &mut [0; 512], |descriptor| {
        let name = match fs::read_link(format!("/proc/self/fd/{descriptor}")) {
            Ok(target) => match target.as_os_str().as_bytes() {
                b"anon_inode:[eventpoll]" => "epoll",
                b"anon_inode:[io_uring]" => "io_uring",
                _ => return Ok(None),
            },
            // Another thread has closed it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(errno_of(&error)),
        };
        Ok(Some(EventQueue { name, descriptor }))
    })
}
