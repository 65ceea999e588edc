//! macOS, and the other systems of its family as far as they let a process
//! fork.
//!
//! `setresuid` and `setresgid` are missing: see reuid.rs.
//! setgroups(2) takes 16 groups at the most.

use std::os::fd::{BorrowedFd, RawFd};

#[cfg(target_os = "macos")]
use super::descriptor::close_raw;
use super::{Errno, FileId, Gid, Pid, Uid, last_errno};

pub(crate) use super::lacking::{
    HAS_CAPABILITIES, OtherThreads, clear_capabilities, find_shared_event_queue, is_also_numbered,
    is_null_device, is_unmapped, open_process, reap, record_lock_holder, signal_process,
    take_record_lock,
};

/// `proc_pidinfo` (libproc.h) `PROC_PIDTASKINFO` counts the threads of a
/// process. Known limits: a translated process (Rosetta) has one more than
/// its own, and is refused; and libdispatch makes threads when it likes, so
/// that a program that has touched a framework may be refused now and then.
pub(super) fn is_single_threaded() -> Option<bool> {
    number_of_threads().map(|number| number == 1)
}

/// Their number alone.
pub(crate) fn thread_names() -> Option<Vec<Option<String>>> {
    let number = number_of_threads()?;
    Some(vec![None; usize::try_from(number).ok()?])
}

pub(crate) const WHY_THREADS_ARE_UNKNOWN: &str =
    "proc_pidinfo does not tell: make sure that there is one thread, and use `start` or `execute`";

#[cfg(target_os = "macos")]
fn number_of_threads() -> Option<i32> {
    // SAFETY: proc_taskinfo is plain data, for which all zeroes is valid.
    let mut task: libc::proc_taskinfo = unsafe { std::mem::zeroed() };
    let size = size_of::<libc::proc_taskinfo>() as libc::c_int;
    // SAFETY: `task` is valid for writes of its size.
    let filled = unsafe {
        libc::proc_pidinfo(
            Pid::current().raw(),
            libc::PROC_PIDTASKINFO,
            0,
            (&raw mut task).cast(),
            size,
        )
    };
    (filled == size).then_some(task.pti_threadnum)
}

/// Whether a process has a file open: `proc_pidinfo` lists its descriptors,
/// `proc_pidfdinfo` tells the device and inode behind each.
#[cfg(target_os = "macos")]
pub(crate) fn has_open(pid: Pid, file: FileId) -> Result<bool, Errno> {
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

    // SAFETY: a null buffer asks for the size.
    let needed =
        unsafe { libc::proc_pidinfo(pid.raw(), libc::PROC_PIDLISTFDS, 0, std::ptr::null_mut(), 0) };
    if needed <= 0 {
        return match last_errno() {
            libc::ESRCH => Ok(false),
            errno => Err(errno),
        };
    }
    let record = size_of::<libc::proc_fdinfo>();
    // More may have been opened since it was asked.
    let room = needed as usize / record + 32;
    let mut descriptors = vec![
        libc::proc_fdinfo {
            proc_fd: -1,
            proc_fdtype: 0,
        };
        room
    ];
    // SAFETY: `descriptors` is valid for writes of the size that is named.
    let filled = unsafe {
        libc::proc_pidinfo(
            pid.raw(),
            libc::PROC_PIDLISTFDS,
            0,
            descriptors.as_mut_ptr().cast(),
            (room * record) as libc::c_int,
        )
    };
    if filled <= 0 {
        return match last_errno() {
            libc::ESRCH => Ok(false),
            errno => Err(errno),
        };
    }
    for descriptor in descriptors.iter().take(filled as usize / record) {
        if descriptor.proc_fdtype != libc::PROX_FDTYPE_VNODE as u32 {
            continue;
        }
        // SAFETY: OpenFile is plain data, for which all zeroes is valid.
        let mut open: OpenFile = unsafe { std::mem::zeroed() };
        let size = size_of::<OpenFile>() as libc::c_int;
        // SAFETY: `open` is valid for writes of its size.
        let filled = unsafe {
            libc::proc_pidfdinfo(
                pid.raw(),
                descriptor.proc_fd,
                PROC_PIDFDVNODEINFO,
                (&raw mut open).cast(),
                size,
            )
        };
        let stat = &open.vnode.vi_stat;
        // stat(2) has the device as a signed number.
        let device = stat.vst_dev as i32 as u64;
        if filled == size && (device, stat.vst_ino) == (file.device, file.inode) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// issetugid(2).
pub(crate) fn has_raised_privileges() -> bool {
    // SAFETY: issetugid takes nothing and cannot fail.
    unsafe { libc::issetugid() != 0 }
}

/// `proc_pidinfo` (libproc.h) `PROC_PIDTBSDINFO`: real, effective and saved
/// uid.
#[cfg(target_os = "macos")]
pub(crate) fn users_of(pid: Pid) -> Result<Vec<Uid>, Errno> {
    // SAFETY: proc_bsdinfo is plain data, for which all zeroes is valid.
    let mut process: libc::proc_bsdinfo = unsafe { std::mem::zeroed() };
    let size = size_of::<libc::proc_bsdinfo>() as libc::c_int;
    // SAFETY: `process` is valid for writes of its size.
    let filled = unsafe {
        libc::proc_pidinfo(
            pid.raw(),
            libc::PROC_PIDTBSDINFO,
            0,
            (&raw mut process).cast(),
            size,
        )
    };
    if filled != size {
        return Err(last_errno());
    }
    Ok(vec![
        Uid(process.pbi_ruid),
        Uid(process.pbi_uid),
        Uid(process.pbi_svuid),
    ])
}

/// Nothing like it. Async-signal-safe.
pub(crate) fn disarm_parent_death_signal() {}

/// libproc is macOS's own.
#[cfg(not(target_os = "macos"))]
fn number_of_threads() -> Option<i32> {
    None
}

/// libproc is macOS's own.
#[cfg(not(target_os = "macos"))]
pub(crate) fn has_open(_: Pid, _: FileId) -> Result<bool, Errno> {
    Err(libc::ENOSYS)
}

/// libproc is macOS's own.
#[cfg(not(target_os = "macos"))]
pub(crate) fn users_of(_: Pid) -> Result<Vec<Uid>, Errno> {
    Err(libc::ENOSYS)
}

/// Lists with `proc_pidinfo`, a system call, rather than /dev/fd: opendir(3)
/// allocates. Async-signal-safe.
#[cfg(target_os = "macos")]
pub(crate) fn close_all_but(kept: &[RawFd], scratch: &mut [u64]) -> Result<(), Errno> {
    const { assert!(size_of::<libc::proc_fdinfo>() == size_of::<u64>()) };
    loop {
        // libproc turns the -1 of a failed call into 0, which is also what an
        // empty list has.
        // SAFETY: __error takes nothing and cannot fail.
        let errno = unsafe { libc::__error() };
        // SAFETY: it is the calling thread's own.
        unsafe { *errno = 0 };
        // SAFETY: `scratch` is valid for writes of the size that is named.
        let filled = unsafe {
            libc::proc_pidinfo(
                Pid::current().raw(),
                libc::PROC_PIDLISTFDS,
                0,
                scratch.as_mut_ptr().cast(),
                size_of_val(scratch) as libc::c_int,
            )
        };
        if filled <= 0 {
            return match last_errno() {
                0 => Ok(()),
                errno => Err(errno),
            };
        }
        let mut has_closed = false;
        for record in scratch.iter().take(filled as usize / size_of::<u64>()) {
            // struct proc_fdinfo: the number, and the type.
            let [a, b, c, d, ..] = record.to_ne_bytes();
            let descriptor = RawFd::from_ne_bytes([a, b, c, d]);
            let is_kept = descriptor <= 2 || kept.binary_search(&descriptor).is_ok();
            has_closed |= !is_kept && close_raw(descriptor);
        }
        // What did not fit is in the next list.
        if !has_closed {
            return Ok(());
        }
    }
}

/// libproc is macOS's own.
#[cfg(not(target_os = "macos"))]
pub(crate) fn close_all_but(_: &[RawFd], _: &mut [u64]) -> Result<(), Errno> {
    Err(libc::ENOSYS)
}

/// "wheel" and "daemon", whose only member is root: /var/run belongs to the
/// latter, and has had mode 0775.
pub(crate) const SYSTEM_GROUPS: &[Gid] = &[Gid::ROOT, Gid(1)];

/// Access lists are not looked for.
pub(crate) fn has_access_list(_: BorrowedFd<'_>) -> bool {
    false
}

/// Nothing like it.
pub(crate) const HAS_NO_NEW_PRIVILEGES: bool = false;

/// Never called.
pub(crate) fn set_no_new_privileges() -> Result<bool, Errno> {
    Err(libc::ENOSYS)
}
