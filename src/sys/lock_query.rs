//! A query for the lock of a pid file that takes no lock, where a lock of flock(2) is in the way of
//! a record lock. A start never has to wait for such a query.

use std::mem;
use std::os::fd::{AsRawFd as _, BorrowedFd};

use crate::sys::{Errno, retry_on_eintr};

/// fcntl(2) `F_GETLK` with a read lock on the whole file, in whose way only an exclusive lock is.
///
/// FreeBSD, sys/kern/kern_lockf.c, and XNU, bsd/kern/kern_lockf.c: `lf_getlock` looks at both kinds
/// of locks, in one list. flock(2) would mark the open file as locked on FreeBSD even if it fails
/// (`sys_flock` of sys/kern/kern_descrip.c), and [`has_open`](super::has_open) sees that mark.
pub(crate) fn probe_lock(descriptor: BorrowedFd<'_>) -> Result<(), Errno> {
    // SAFETY: flock is plain data; all zeroes is the whole file.
    let mut lock: libc::flock = unsafe { mem::zeroed() };
    lock.l_type = libc::F_RDLCK as libc::c_short;
    lock.l_whence = libc::SEEK_SET as libc::c_short;
    let number = descriptor.as_raw_fd();
    // SAFETY: `lock` is valid for reads and writes during the call.
    retry_on_eintr(|| unsafe { libc::fcntl(number, libc::F_GETLK, &raw mut lock) })?;
    match lock.l_type == libc::F_UNLCK as libc::c_short {
        true => Ok(()),
        false => Err(libc::EWOULDBLOCK),
    }
}

/// A start may have got the lock since.
pub(crate) fn end_probe(descriptor: BorrowedFd<'_>) -> Result<(), Errno> {
    probe_lock(descriptor)
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::os::fd::AsFd as _;

    use super::*;
    use crate::sys::{Lock, flock};

    #[test]
    fn a_probe_sees_an_exclusive_lock_and_takes_none() {
        let path = std::env::temp_dir().join(format!("daemonize2-probed-{}", std::process::id()));
        fs::write(&path, "").expect("make a file");
        let [probed, locked] = [(); 2].map(|()| File::open(&path).expect("open the file"));
        fs::remove_file(&path).expect("remove the file");
        let [probed, locked] = [probed.as_fd(), locked.as_fd()];
        assert_eq!(flock(locked, Lock::Shared), Ok(()));
        assert_eq!(probe_lock(probed), Ok(()));
        assert_eq!(flock(locked, Lock::Exclusive), Ok(()));
        assert_eq!(probe_lock(probed), Err(libc::EWOULDBLOCK));
        assert_eq!(end_probe(probed), Err(libc::EWOULDBLOCK));
        assert_eq!(flock(locked, Lock::None), Ok(()));
        assert_eq!(end_probe(probed), Ok(()));
    }
}
