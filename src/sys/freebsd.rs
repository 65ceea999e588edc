//! FreeBSD.
//!
//! setgroups(2): before FreeBSD 15 the first element is the effective gid;
//! from 15 on it is a supplementary group like the others. The list that the
//! library sets begins with the target gid, which is right for both.

use std::os::fd::{BorrowedFd, RawFd};
use std::{mem, ptr};

use super::descriptor::ranges_between;
use super::{Errno, FileId, Gid, Pid, Uid, cvt};

pub(crate) use super::lacking::{
    HAS_CAPABILITIES, OtherThreads, clear_capabilities, find_shared_event_queue, is_also_numbered,
    is_null_device, is_unmapped, open_process, reap, record_lock_holder, signal_process,
    take_record_lock,
};

/// sysctl(3) `kern.proc.pid`: the kernel counts the threads of a process. It
/// does not see another process in the same memory, which only rfork(2) and
/// vfork(2) make.
pub(super) fn is_single_threaded() -> Option<bool> {
    let process = process(Pid::current()).ok()?;
    Some(process.ki_numthreads == 1)
}

/// Their number alone.
pub(crate) fn thread_names() -> Option<Vec<Option<String>>> {
    let process = process(Pid::current()).ok()?;
    Some(vec![None; usize::try_from(process.ki_numthreads).ok()?])
}

pub(crate) const WHY_THREADS_ARE_UNKNOWN: &str = "sysctl(3) does not tell: allow `kern.proc.pid`";

/// procctl(2) `PROC_PDEATHSIG_CTL`, of the process. FreeBSD 11.2 brought it: before,
/// there is nothing to disarm. Async-signal-safe.
pub(crate) fn disarm_parent_death_signal() {
    let mut none: libc::c_int = 0;
    let _ = control_itself(libc::PROC_PDEATHSIG_CTL, &mut none);
}

/// issetugid(2).
pub(crate) fn has_raised_privileges() -> bool {
    // SAFETY: issetugid takes nothing and cannot fail.
    unsafe { libc::issetugid() != 0 }
}

/// sysctl(3) `kern.proc.pid`: real, effective and saved uid.
pub(crate) fn users_of(pid: Pid) -> Result<Vec<Uid>, Errno> {
    let process = process(pid)?;
    Ok(vec![
        Uid(process.ki_ruid),
        Uid(process.ki_uid),
        Uid(process.ki_svuid),
    ])
}

fn process(pid: Pid) -> Result<libc::kinfo_proc, Errno> {
    // SAFETY: kinfo_proc is plain data, for which all zeroes is valid.
    let mut process: libc::kinfo_proc = unsafe { mem::zeroed() };
    let size = size_of::<libc::kinfo_proc>();
    let filled = kernel_process(libc::KERN_PROC_PID, pid, (&raw mut process).cast(), size)?;
    // Nothing is filled in for a process that is gone.
    if filled == size && process.ki_structsize as usize == size {
        Ok(process)
    } else {
        Err(libc::ESRCH)
    }
}

/// sysctl(3) `kern.proc.filedesc`, as far as it has a lock: records of variable size, as
/// `struct kinfo_file` in sys/user.h has them since FreeBSD 12.
pub(crate) fn has_open(pid: Pid, file: FileId) -> Result<bool, Errno> {
    // Where the fields lie in a record: libc leaves the union closed.
    const NUMBER: usize = mem::offset_of!(libc::kinfo_file, kf_fd);
    const TYPE: usize = mem::offset_of!(libc::kinfo_file, kf_type);
    const FLAGS: usize = mem::offset_of!(libc::kinfo_file, kf_flags);
    const UNION: usize = mem::offset_of!(libc::kinfo_file, kf_offset) + 8;
    // Of sys/user.h: the open file has, or has had, a lock of flock(2).
    const HAS_LOCK: i32 = 0x80;
    // After an int, three spare ints and thirty spare 64-bit numbers: the
    // device, the device of a device file, and the inode.
    const DEVICE: usize = UNION + 16 + 30 * 8;
    const INODE: usize = DEVICE + 16;

    fn field<const N: usize>(record: &[u8], at: usize) -> Option<[u8; N]> {
        record.get(at..at + N)?.try_into().ok()
    }

    /// The length of the first record, and the file it is of.
    fn first_record(records: &[u8]) -> Option<(usize, Option<FileId>)> {
        let length = usize::try_from(i32::from_ne_bytes(field(records, 0)?)).ok()?;
        let record = records.get(..length).filter(|record| !record.is_empty())?;
        // Those with a negative number are no descriptors, but the program that
        // runs, the working directory, and their like.
        let is_file = i32::from_ne_bytes(field(record, TYPE)?) == libc::KF_TYPE_VNODE
            && i32::from_ne_bytes(field(record, NUMBER)?) >= 0
            && i32::from_ne_bytes(field(record, FLAGS)?) & HAS_LOCK != 0;
        let file = FileId {
            device: u64::from_ne_bytes(field(record, DEVICE)?),
            inode: u64::from_ne_bytes(field(record, INODE)?),
        };
        Some((length, is_file.then_some(file)))
    }

    let mut size = match kernel_process(libc::KERN_PROC_FILEDESC, pid, ptr::null_mut(), 0) {
        Ok(size) => size,
        Err(libc::ESRCH) => return Ok(false),
        Err(errno) => return Err(errno),
    };
    // More may have been opened since it was asked.
    size += size / 4 + 4096;
    let mut records = vec![0_u8; size];
    let buffer = records.as_mut_ptr().cast();
    let filled = match kernel_process(libc::KERN_PROC_FILEDESC, pid, buffer, size) {
        Ok(filled) => filled,
        Err(libc::ESRCH) => return Ok(false),
        Err(errno) => return Err(errno),
    };
    let mut rest = &records[..filled.min(size)];
    while let Some((length, open)) = first_record(rest) {
        if open == Some(file) {
            return Ok(true);
        }
        rest = &rest[length..];
    }
    Ok(false)
}

/// sysctl(3) `kern.proc.<what>.<pid>`: how many bytes it has, or has filled.
fn kernel_process(
    what: libc::c_int,
    pid: Pid,
    buffer: *mut libc::c_void,
    mut size: usize,
) -> Result<usize, Errno> {
    let name = [libc::CTL_KERN, libc::KERN_PROC, what, pid.raw()];
    // SAFETY: the name has the length given; the callers pass a buffer of
    // `size` bytes, or null to ask for the size.
    cvt(unsafe {
        libc::sysctl(
            name.as_ptr(),
            name.len() as libc::c_uint,
            buffer,
            &raw mut size,
            ptr::null(),
            0,
        )
    })?;
    Ok(size)
}

/// "wheel", to whose members su(1) gives root's rights.
pub(crate) const SYSTEM_GROUPS: &[Gid] = &[Gid::ROOT];

/// Access lists are not looked for.
pub(crate) fn has_access_list(_: BorrowedFd<'_>) -> bool {
    false
}

/// procctl(2) `PROC_NO_NEW_PRIVS_CTL`, which FreeBSD 14 brought: `EINVAL`
/// before.
pub(crate) const HAS_NO_NEW_PRIVILEGES: bool = true;

pub(crate) fn set_no_new_privileges() -> Result<bool, Errno> {
    let mut state = libc::PROC_NO_NEW_PRIVS_ENABLE;
    control_itself(libc::PROC_NO_NEW_PRIVS_CTL, &mut state)?;
    state = 0;
    control_itself(libc::PROC_NO_NEW_PRIVS_STATUS, &mut state)?;
    Ok(state == libc::PROC_NO_NEW_PRIVS_ENABLE)
}

fn control_itself(command: libc::c_int, state: &mut libc::c_int) -> Result<(), Errno> {
    // SAFETY: the id 0 is the calling process; both commands take an int,
    // valid for reads and writes.
    cvt(unsafe { libc::procctl(libc::P_PID, 0, command, ptr::from_mut(state).cast()) }).map(drop)
}

/// close_range(2), since FreeBSD 12.2. Async-signal-safe.
pub(crate) fn close_all_but(kept: &[RawFd], _: &mut [u64]) -> Result<(), Errno> {
    for (first, last) in ranges_between(kept) {
        let last = last.map_or(libc::c_uint::MAX, |last| last as libc::c_uint);
        // SAFETY: plain numbers; the caller of `close_inherited_fds` has
        // promised that no value uses or closes a descriptor that is not kept.
        cvt(unsafe { libc::close_range(first as libc::c_uint, last, 0) })?;
    }
    Ok(())
}
