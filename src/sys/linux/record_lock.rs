//! Record locks, by which the kernel names the process that holds a pid file.

use std::fs;
use std::mem;
use std::os::fd::{AsRawFd as _, BorrowedFd};

use crate::sys::{Errno, FileId, Pid, fstat, retry_on_eintr};

/// fcntl(2) `F_SETLK` with a read lock on the whole file. On Linux, locks of flock(2) and
/// record locks do not affect each other. Async-signal-safe.
pub(crate) fn take_record_lock(descriptor: BorrowedFd<'_>) -> Result<(), Errno> {
    let lock = whole_file(libc::F_RDLCK);
    let number = descriptor.as_raw_fd();
    // SAFETY: `lock` is valid for reads during the call.
    retry_on_eintr(|| unsafe { libc::fcntl(number, libc::F_SETLK, &raw const lock) }).map(drop)
}

/// fcntl(2) `F_GETLK`: the process whose lock is in the way of a write lock. A process
/// that can open the file can ask. Any process that can open the file can also hold a
/// read lock, and the kernel names the oldest lock. If that is not `expected`, the list
/// of all locks decides.
pub(crate) fn record_lock_holder(
    descriptor: BorrowedFd<'_>,
    expected: Option<Pid>,
) -> Result<Option<Pid>, Errno> {
    let mut lock = whole_file(libc::F_WRLCK);
    let number = descriptor.as_raw_fd();
    // SAFETY: `lock` is valid for reads and writes during the call.
    retry_on_eintr(|| unsafe { libc::fcntl(number, libc::F_GETLK, &raw mut lock) })?;
    if lock.l_type == libc::F_UNLCK as libc::c_short {
        return Ok(None);
    }
    // 0 stands for a process of a pid namespace that cannot be seen, and -1 for an open
    // file description.
    let named = u32::try_from(lock.l_pid).ok().and_then(Pid::from_number);
    if named == expected && named.is_some() {
        return Ok(named);
    }
    let file = fstat(descriptor)?.id;
    match expected.filter(|&pid| has_record_lock(pid, file)) {
        None => named.map(Some).ok_or(libc::ESRCH),
        expected => Ok(expected),
    }
}

fn whole_file(kind: libc::c_int) -> libc::flock {
    // SAFETY: flock is plain data; all zeroes is the whole file.
    let mut lock: libc::flock = unsafe { mem::zeroed() };
    lock.l_type = kind as libc::c_short;
    lock.l_whence = libc::SEEK_SET as libc::c_short;
    lock
}

/// proc(5), /proc/locks: `1: POSIX  ADVISORY  READ 4242 fe:00:1234 0 EOF`.
fn has_record_lock(pid: Pid, file: FileId) -> bool {
    let device = file.device as libc::dev_t;
    let (major, minor) = (libc::major(device), libc::minor(device));
    let place = format!("{major:02x}:{minor:02x}:{}", file.inode);
    let pid = pid.number().to_string();
    let Ok(locks) = fs::read_to_string("/proc/locks") else {
        return false;
    };
    locks.lines().any(|line| {
        let mut fields = line.split_whitespace().skip(1);
        fields.next() == Some("POSIX")
            && fields.nth(2) == Some(&pid)
            && fields.next() == Some(&place)
    })
}
