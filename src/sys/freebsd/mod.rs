//! FreeBSD.

pub(super) mod abi;
#[path = "../resuid.rs"]
mod ids;
#[path = "../kqueue.rs"]
mod kqueue;
#[path = "../lock_query.rs"]
mod lock_query;

use std::ffi::CStr;
use std::os::fd::RawFd;
use std::time::Duration;
use std::{mem, ptr};

use super::fd::ranges_between;
use super::{Errno, FileId, Gid, Pid, Uid, cvt, defaults, sleep};
use crate::deadline::Deadline;

pub(crate) use super::defaults::*;
pub(crate) use ids::*;
pub(crate) use kqueue::{
    HANDLES_REAP, ProcessHandle, claim_process, open_process, open_process_to_send, reap,
    signal_process,
};
pub(crate) use lock_query::{end_probe, probe_lock};

/// getgroups(2) and setgroups(2) have the effective gid in the first place in a program that was
/// linked on FreeBSD 14 or before, also on a newer kernel (`freebsd14_getgroups` of
/// sys/kern/kern_prot.c). In a program that was linked on FreeBSD 15, all elements are
/// supplementary groups. Therefore [`groups`] does not use getgroups(2). For setgroups(2), a list
/// that begins with the gid that becomes the effective one is right for both.
pub(crate) const FIRST_GROUP_IS_EFFECTIVE_GID: bool = true;

/// sysctl(3) `kern.proc.groups`: the effective gid, then the supplementary groups, on every
/// version (`sysctl_kern_proc_groups` of sys/kern/kern_proc.c).
pub(crate) fn groups(groups: &mut Vec<Gid>) -> Result<(), Errno> {
    const WHAT: libc::c_int = libc::KERN_PROC_GROUPS;

    let itself = Pid::current();
    let needed = kernel_process(WHAT, itself, ptr::null_mut(), 0)?;
    groups.resize(needed / size_of::<Gid>(), Gid::ROOT);
    let size = size_of_val(&**groups);
    let filled = kernel_process(WHAT, itself, groups.as_mut_ptr().cast(), size)?;
    groups.truncate(filled / size_of::<Gid>());
    Ok(())
}

/// login.conf(5): `path` of the class `default` in usr.bin/login/login.conf, without the directory
/// of the user; also `_PATH_DEFPATH` of <paths.h>.
pub(crate) const PATH_OF_ROOT: &CStr =
    c"/sbin:/bin:/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin";
pub(crate) const PATH_OF_USERS: &CStr = PATH_OF_ROOT;

/// The limit does not count the effective gid in the first place (`sys_setgroups` before FreeBSD
/// 15, and `freebsd14_setgroups`, of sys/kern/kern_prot.c). In a program that was linked on
/// FreeBSD 15 the effective gid is not in the list, so that getgroups(2) returns one gid less than
/// [`groups`].
pub(crate) fn max_supplementary_groups() -> usize {
    let (mut listed, mut all) = (Vec::new(), Vec::new());
    let lists_effective = super::getgroups(&mut listed).is_ok()
        && groups(&mut all).is_ok()
        && listed.len() == all.len();
    defaults::max_supplementary_groups().saturating_add(usize::from(lists_effective))
}

/// sysctl(3) `kern.proc.pid`: the kernel counts the threads of a process. Another process
/// in the same memory, which only rfork(2) and vfork(2) make, is not seen.
pub(crate) fn is_single_threaded() -> Option<bool> {
    let process = process(Pid::current()).ok()?;
    Some(process.ki_numthreads == 1)
}

/// The number of threads is known, their names are not.
pub(crate) fn thread_names() -> Option<Vec<Option<String>>> {
    let process = process(Pid::current()).ok()?;
    Some(vec![None; usize::try_from(process.ki_numthreads).ok()?])
}

pub(crate) const WHY_THREADS_ARE_UNKNOWN: &str = "sysctl(3) cannot read `kern.proc.pid`; allow it";

/// procctl(2) `PROC_PDEATHSIG_CTL`, of the process. Before FreeBSD 11.2 there is no such
/// signal. Async-signal-safe.
pub(crate) fn disarm_parent_death_signal() {
    let _ = control_itself(libc::PROC_PDEATHSIG_CTL, 0);
}

/// sysctl(3) `kern.proc.pid`: real, effective and saved uid.
pub(crate) fn users_of(pid: Pid) -> Result<Vec<Uid>, Errno> {
    let process = process(pid)?;
    let uids = [process.ki_ruid, process.ki_uid, process.ki_svuid];
    Ok(uids.map(Uid).into())
}

fn process(pid: Pid) -> Result<libc::kinfo_proc, Errno> {
    // SAFETY: kinfo_proc is plain data, for which all zeroes is valid.
    let mut process: libc::kinfo_proc = unsafe { mem::zeroed() };
    let size = size_of::<libc::kinfo_proc>();
    let filled = kernel_process(libc::KERN_PROC_PID, pid, (&raw mut process).cast(), size)?;
    // The kernel writes nothing for a process that does not exist.
    if filled == size && process.ki_structsize as usize == size {
        Ok(process)
    } else {
        Err(libc::ESRCH)
    }
}

/// chroot(2), and `pwd_chroot` of sys/kern/kern_descrip.c. In a jail, the root directory is not that
/// of the system.
pub(crate) const WHY_CHROOT_IS_REFUSED: &str = "; in a jail, or in another root directory, the \
    process must have no open directory: close it, as `close_inherited_fds` does, or set the \
    sysctl kern.chroot_allow_open_directories to 2";

/// `p_candebug` of sys/kern/kern_prot.c.
pub(crate) const WHY_OPEN_FILES_ARE_HIDDEN: &str = "FreeBSD lets only root look at the files of a \
    process that has changed its ids, that has a user or group which this process lacks, or if \
    the sysctl security.bsd.unprivileged_proc_debug is 0";

/// How long execve(2) may take.
const EXEC_WAIT: Duration = Duration::from_secs(1);
const EXEC_PAUSE: Duration = Duration::from_millis(1);

/// sysctl(3) `kern.proc.filedesc`: records of variable size, `struct kinfo_file` of
/// sys/user.h since FreeBSD 12. Files without a lock are ignored.
pub(crate) fn has_open(pid: Pid, file: FileId) -> Result<bool, Errno> {
    // Offsets of fields: libc does not declare the union.
    const NUMBER: usize = mem::offset_of!(libc::kinfo_file, kf_fd);
    const TYPE: usize = mem::offset_of!(libc::kinfo_file, kf_type);
    const FLAGS: usize = mem::offset_of!(libc::kinfo_file, kf_flags);
    const UNION: usize = mem::offset_of!(libc::kinfo_file, kf_offset) + 8;
    // Of sys/user.h: the open file has, or has had, a lock of flock(2).
    const HAS_LOCK: i32 = 0x80;
    // The device, the device of a device file, and the inode follow an int, three spare
    // ints and thirty spare 64-bit numbers.
    const DEVICE: usize = UNION + 16 + 30 * 8;
    const INODE: usize = DEVICE + 16;

    fn field<const N: usize>(record: &[u8], at: usize) -> Option<[u8; N]> {
        record.get(at..at + N)?.try_into().ok()
    }

    /// The length of the first record, and its file.
    fn first_record(records: &[u8]) -> Option<(usize, Option<FileId>)> {
        let length = usize::try_from(i32::from_ne_bytes(field(records, 0)?)).ok()?;
        let record = records.get(..length).filter(|record| !record.is_empty())?;
        // Negative numbers stand for the executable, the working directory and others.
        let is_file = i32::from_ne_bytes(field(record, TYPE)?) == libc::KF_TYPE_VNODE
            && i32::from_ne_bytes(field(record, NUMBER)?) >= 0
            && i32::from_ne_bytes(field(record, FLAGS)?) & HAS_LOCK != 0;
        let file = FileId {
            device: u64::from_ne_bytes(field(record, DEVICE)?),
            inode: u64::from_ne_bytes(field(record, INODE)?),
        };
        Some((length, is_file.then_some(file)))
    }

    let deadline = Deadline::after(EXEC_WAIT);
    let ask = |buffer, size| {
        loop {
            match kernel_process(libc::KERN_PROC_FILEDESC, pid, buffer, size) {
                Err(libc::ESRCH) => return Ok(None),
                // The process is in execve(2) (`p_candebug`).
                Err(libc::EBUSY) if !deadline.has_passed() => sleep(EXEC_PAUSE),
                size => return size.map(Some),
            }
        }
    };
    let Some(mut size) = ask(ptr::null_mut(), 0)? else {
        return Ok(false);
    };
    // The process may open more files in between.
    size += size / 4 + 4096;
    let mut records = vec![0_u8; size];
    let Some(filled) = ask(records.as_mut_ptr().cast(), size)? else {
        return Ok(false);
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

/// sysctl(3) `kern.proc.<what>.<pid>`: the number of bytes that there are, or are written.
fn kernel_process(
    what: libc::c_int,
    pid: Pid,
    buffer: *mut libc::c_void,
    mut size: usize,
) -> Result<usize, Errno> {
    let name = [libc::CTL_KERN, libc::KERN_PROC, what, pid.0];
    // SAFETY: the name has the length that is passed; the callers pass a buffer of
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

/// procctl(2) `PROC_NO_NEW_PRIVS_CTL`: `EINVAL` before FreeBSD 14.
pub(crate) const HAS_NO_NEW_PRIVILEGES: bool = true;

pub(crate) fn set_no_new_privileges() -> Result<(), Errno> {
    control_itself(libc::PROC_NO_NEW_PRIVS_CTL, libc::PROC_NO_NEW_PRIVS_ENABLE)
}

/// procctl(2) for the calling process.
fn control_itself(command: libc::c_int, mut value: libc::c_int) -> Result<(), Errno> {
    // SAFETY: the id 0 is the calling process; the callers' commands take an int,
    // valid for reads and writes.
    cvt(unsafe { libc::procctl(libc::P_PID, 0, command, (&raw mut value).cast()) }).map(drop)
}

/// close_range(2), which exists since FreeBSD 12.2. Async-signal-safe.
pub(crate) fn close_all_but(kept: &[RawFd], _: &mut [u64]) -> Result<(), Errno> {
    for (first, last) in ranges_between(kept) {
        let last = last.map_or(libc::c_uint::MAX, |last| last as libc::c_uint);
        // SAFETY: plain numbers; the caller of `close_inherited_fds` has
        // promised that no value uses or closes a descriptor that is not kept.
        cvt(unsafe { libc::close_range(first as libc::c_uint, last, 0) })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::getgroups;

    #[test]
    fn the_effective_gid_precedes_the_supplementary_groups() {
        let (mut all, mut listed) = (Vec::new(), Vec::new());
        groups(&mut all).expect("ask the kernel");
        getgroups(&mut listed).expect("ask the kernel");
        assert_eq!(all.first(), Some(&group_ids().effective));
        // The first ends with the second, in a program that was linked on FreeBSD 15; before, they
        // are the same.
        assert!(all.ends_with(&listed), "{all:?} {listed:?}");
        assert!(all.len() <= listed.len() + 1);
    }
}
