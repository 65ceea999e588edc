//! libproc, which asks the kernel about processes.

use std::mem;
use std::os::fd::RawFd;
use std::ptr;

use crate::sys::fd::close_raw;
use crate::sys::{Errno, FileId, Pid, Uid, last_errno};

/// `proc_pidinfo` of libproc.h: fills `buffer` and returns the number of bytes.
fn proc_pidinfo<T>(pid: Pid, flavor: libc::c_int, buffer: &mut [T]) -> Result<usize, Errno> {
    let size = size_of_val(buffer) as libc::c_int;
    let start = buffer.as_mut_ptr().cast();
    // SAFETY: `buffer` is valid for writes of the size that is passed, and the callers
    // pass plain data.
    let filled = unsafe { libc::proc_pidinfo(pid.0, flavor, 0, start, size) };
    if filled > 0 {
        Ok(filled as usize)
    } else {
        Err(last_errno())
    }
}

/// A structure of `proc_pidinfo`.
fn proc_pidinfo_of<T>(pid: Pid, flavor: libc::c_int) -> Result<T, Errno> {
    // SAFETY: the callers ask for plain data, for which all zeroes is valid.
    let mut information: T = unsafe { mem::zeroed() };
    match proc_pidinfo(pid, flavor, std::slice::from_mut(&mut information))? {
        filled if filled == size_of::<T>() => Ok(information),
        _ => Err(libc::EIO),
    }
}

/// `PROC_PIDTASKINFO`: the number of threads.
fn thread_count() -> Result<usize, Errno> {
    let task: libc::proc_taskinfo = proc_pidinfo_of(Pid::current(), libc::PROC_PIDTASKINFO)?;
    usize::try_from(task.pti_threadnum).map_err(|_| libc::EIO)
}

/// Known limits: a translated process (Rosetta) has one thread more than its own, and is
/// refused. libdispatch makes threads at any time, so that a program that has used a
/// framework may be refused now and then.
pub(crate) fn is_single_threaded() -> Option<bool> {
    thread_count().ok().map(|count| count == 1)
}

/// The number of threads is known, their names are not.
pub(crate) fn thread_names() -> Option<Vec<Option<String>>> {
    Some(vec![None; thread_count().ok()?])
}

/// `PROC_PIDTBSDINFO`: real, effective and saved uid.
pub(crate) fn users_of(pid: Pid) -> Result<Vec<Uid>, Errno> {
    let process: libc::proc_bsdinfo = proc_pidinfo_of(pid, libc::PROC_PIDTBSDINFO)?;
    let uids = [process.pbi_ruid, process.pbi_uid, process.pbi_svuid];
    Ok(uids.map(Uid).into())
}

/// `PROC_PIDLISTFDS` lists the descriptors, and `proc_pidfdinfo` returns the device and
/// inode of each.
pub(crate) fn has_open(pid: Pid, file: FileId) -> Result<bool, Errno> {
    // SAFETY: a null buffer asks for the size.
    let needed = unsafe { libc::proc_pidinfo(pid.0, libc::PROC_PIDLISTFDS, 0, ptr::null_mut(), 0) };
    let unused = libc::proc_fdinfo {
        proc_fd: -1,
        proc_fdtype: 0,
    };
    // The process may open more files in between.
    let room = usize::try_from(needed).unwrap_or(0) / size_of::<libc::proc_fdinfo>() + 32;
    let mut descriptors = vec![unused; room];
    let filled = match proc_pidinfo(pid, libc::PROC_PIDLISTFDS, &mut descriptors) {
        Err(libc::ESRCH) => return Ok(false),
        filled => filled? / size_of::<libc::proc_fdinfo>(),
    };
    let mut files = descriptors
        .iter()
        .take(filled)
        .filter(|descriptor| descriptor.proc_fdtype == libc::PROX_FDTYPE_VNODE as u32);
    Ok(files.any(|descriptor| file_behind(pid, descriptor.proc_fd) == Some(file)))
}

fn file_behind(pid: Pid, descriptor: RawFd) -> Option<FileId> {
    // struct vnode_fdinfo of sys/proc_info.h, which libc lacks.
    #[repr(C)]
    struct OpenFile {
        open_flags: u32,
        status: u32,
        offset: i64,
        kind: i32,
        guard_flags: u32,
        vnode: libc::vnode_info,
    }
    const PROC_PIDFDVNODEINFO: libc::c_int = 1;

    // SAFETY: OpenFile is plain data, for which all zeroes is valid.
    let mut open: OpenFile = unsafe { mem::zeroed() };
    let size = size_of::<OpenFile>() as libc::c_int;
    let start = (&raw mut open).cast();
    // SAFETY: `open` is valid for writes of its size.
    let filled =
        unsafe { libc::proc_pidfdinfo(pid.0, descriptor, PROC_PIDFDVNODEINFO, start, size) };
    let stat = &open.vnode.vi_stat;
    (filled == size).then_some(FileId {
        // stat(2) returns the device as a signed number.
        device: stat.vst_dev as i32 as u64,
        inode: stat.vst_ino,
    })
}

/// Lists with `proc_pidinfo`, a system call, and not with opendir(3) of /dev/fd, which
/// allocates. Async-signal-safe.
pub(crate) fn close_all_but(kept: &[RawFd], scratch: &mut [u64]) -> Result<(), Errno> {
    const { assert!(size_of::<libc::proc_fdinfo>() == size_of::<u64>()) };
    loop {
        // libproc returns 0 for a failed call as well as for an empty list.
        // SAFETY: __error takes nothing and cannot fail.
        let errno = unsafe { libc::__error() };
        // SAFETY: it belongs to the calling thread.
        unsafe { *errno = 0 };
        let filled = match proc_pidinfo(Pid::current(), libc::PROC_PIDLISTFDS, scratch) {
            Err(0) => return Ok(()),
            filled => filled?,
        };
        let mut has_closed = false;
        for record in scratch.iter().take(filled / size_of::<u64>()) {
            // struct proc_fdinfo: the number, and the type.
            let [a, b, c, d, ..] = record.to_ne_bytes();
            let descriptor = RawFd::from_ne_bytes([a, b, c, d]);
            let is_kept = descriptor <= 2 || kept.binary_search(&descriptor).is_ok();
            has_closed |= !is_kept && close_raw(descriptor);
        }
        // The next list has what did not fit into this one.
        if !has_closed {
            return Ok(());
        }
    }
}
