//! libproc, which asks the kernel about processes.

use std::mem;
use std::os::fd::RawFd;
use std::ptr;

use crate::sys::fd::close_raw;
use crate::sys::{Errno, FileId, Pid, Uid, clear_errno, last_errno};

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

/// struct proc_fileinfo of sys/proc_info.h, with which the structures of `proc_pidfdinfo` begin.
#[repr(C)]
struct OpenFile {
    open_flags: u32,
    status: u32,
    offset: i64,
    kind: i32,
    guard_flags: u32,
}

const PROC_PIDFDVNODEINFO: libc::c_int = 1;

fn file_behind(pid: Pid, descriptor: RawFd) -> Option<FileId> {
    // struct vnode_fdinfo of sys/proc_info.h, which libc lacks.
    #[repr(C)]
    struct OpenVnode {
        file: OpenFile,
        vnode: libc::vnode_info,
    }

    // SAFETY: OpenVnode is plain data, for which all zeroes is valid.
    let mut open: OpenVnode = unsafe { mem::zeroed() };
    let size = size_of::<OpenVnode>() as libc::c_int;
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

/// Whether the kernel kills this process if it closes the descriptor: a framework has guarded it
/// (`fp_guard_exception` of bsd/kern/kern_guarded.c). fork(2) does not copy such a descriptor, so
/// that only a process in the foreground has some. Async-signal-safe.
fn is_guarded(descriptor: RawFd, kind: u32) -> bool {
    // Of sys/proc_info.h.
    const PROX_FDTYPE_NETPOLICY: u32 = 9;
    const PROC_FI_GUARD_CLOSE: u32 = 1;
    // The flavor of `proc_pidfdinfo` for each type of descriptor that has one: ATALK, VNODE,
    // SOCKET, PSHM, PSEM, KQUEUE, PIPE, FSEVENTS (none), NETPOLICY (none), CHANNEL.
    const FLAVORS: [libc::c_int; 11] = [8, 1, 3, 5, 4, 7, 6, 0, 0, 0, 10];

    /// Has room for the longest structure, struct socket_fdinfo.
    #[repr(C)]
    struct AnyFile {
        file: OpenFile,
        rest: [u64; 255],
    }

    let flavor = FLAVORS.get(kind as usize).copied().unwrap_or(0);
    if flavor == 0 {
        // Only the frameworks make these.
        return kind == PROX_FDTYPE_NETPOLICY;
    }
    // SAFETY: AnyFile is plain data, for which all zeroes is valid.
    let mut open: AnyFile = unsafe { mem::zeroed() };
    let size = size_of::<AnyFile>() as libc::c_int;
    let (itself, start) = (Pid::current().0, (&raw mut open).cast());
    // SAFETY: `open` is valid for writes of its size.
    let filled = unsafe { libc::proc_pidfdinfo(itself, descriptor, flavor, start, size) };
    filled > 0 && open.file.guard_flags & PROC_FI_GUARD_CLOSE != 0
}

/// Lists with `proc_pidinfo`, a system call, and not with opendir(3) of /dev/fd, which
/// allocates. Async-signal-safe.
pub(crate) fn close_all_but(kept: &[RawFd], scratch: &mut [u64]) -> Result<(), Errno> {
    const { assert!(size_of::<libc::proc_fdinfo>() == size_of::<u64>()) };
    loop {
        // libproc returns 0 for a failed call as well as for an empty list.
        clear_errno();
        let filled = match proc_pidinfo(Pid::current(), libc::PROC_PIDLISTFDS, scratch) {
            Err(0) => return Ok(()),
            filled => filled?,
        };
        let mut has_closed = false;
        for record in scratch.iter().take(filled / size_of::<u64>()) {
            // struct proc_fdinfo: the number, and the type.
            let [a, b, c, d, e, f, g, h] = record.to_ne_bytes();
            let descriptor = RawFd::from_ne_bytes([a, b, c, d]);
            let kind = u32::from_ne_bytes([e, f, g, h]);
            let is_kept = descriptor <= 2
                || kept.binary_search(&descriptor).is_ok()
                || is_guarded(descriptor, kind);
            has_closed |= !is_kept && close_raw(descriptor);
        }
        // The next list has what did not fit into this one.
        if !has_closed {
            return Ok(());
        }
    }
}
