//! Record locks, by which the kernel names the process that holds a pid file.

use std::fs;
use std::mem;
use std::os::fd::{AsRawFd as _, BorrowedFd};

use crate::sys::{Errno, Pid, fstat, retry_on_eintr};

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
    match expected {
        Some(expected) if has_record_lock(expected, descriptor)? => Ok(Some(expected)),
        _ => named.map(Some).ok_or(libc::ESRCH),
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
fn has_record_lock(pid: Pid, descriptor: BorrowedFd<'_>) -> Result<bool, Errno> {
    let file = fstat(descriptor)?.id;
    let device = file_system_of(descriptor).unwrap_or_else(|| {
        let device = file.device as libc::dev_t;
        (libc::major(device) as u32, libc::minor(device) as u32)
    });
    let locks = fs::read_to_string("/proc/locks").unwrap_or_default();
    Ok(lists_lock(&locks, pid, device, file.inode))
}

fn lists_lock(locks: &str, pid: Pid, (major, minor): (u32, u32), inode: u64) -> bool {
    let place = format!("{major:02x}:{minor:02x}:{inode}");
    let pid = pid.number().to_string();
    locks.lines().any(|line| {
        let mut fields = line.split_whitespace().skip(1);
        fields.next() == Some("POSIX")
            && fields.nth(2) == Some(&pid)
            && fields.next() == Some(&place)
    })
}

/// The device of the file system, which the list of locks has. In btrfs and in overlayfs, stat(2)
/// has other numbers.
fn file_system_of(descriptor: BorrowedFd<'_>) -> Option<(u32, u32)> {
    let path = format!("/proc/self/fdinfo/{}", descriptor.as_raw_fd());
    let of_descriptor = fs::read_to_string(path).ok()?;
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    device_of_mount(&of_descriptor, &mounts)
}

/// proc(5): the line `mnt_id:\t24` of the descriptor, and that of the mount,
/// `24 1 0:44 / /mnt rw - btrfs ...`.
fn device_of_mount(of_descriptor: &str, mounts: &str) -> Option<(u32, u32)> {
    let mut lines = of_descriptor.lines();
    let mount = lines.find_map(|line| line.strip_prefix("mnt_id:"))?.trim();
    let device = mounts.lines().find_map(|line| {
        let mut fields = line.split(' ');
        (fields.next() == Some(mount)).then(|| fields.nth(1))?
    })?;
    let (major, minor) = device.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;

    use super::*;

    /// stat(2) has the device 0:45 in this subvolume of btrfs.
    #[test]
    fn the_device_of_a_lock_is_that_of_the_file_system() {
        let of_descriptor = "pos:\t0\nflags:\t0100000\nmnt_id:\t243\nino:\t257\n";
        let mounts = "24 1 254:0 / / rw,relatime - ext4 /dev/vda rw\n\
                      2 24 0:3 / /sys rw - sysfs sysfs rw\n\
                      243 24 0:44 /run /mnt rw - btrfs /dev/loop0 rw\n";
        let device = device_of_mount(of_descriptor, mounts);
        assert_eq!(device, Some((0, 44)));
        let locks = "1: FLOCK  ADVISORY  WRITE 4242 00:2c:257 0 EOF\n\
                     2: POSIX  ADVISORY  READ 31 00:2c:257 0 EOF\n\
                     2: POSIX  ADVISORY  READ 4242 00:2c:257 0 EOF\n";
        let [daemon, other] = [4242, 4243].map(|pid| Pid::from_number(pid).expect("a pid"));
        assert!(lists_lock(locks, daemon, (0, 44), 257));
        assert!(!lists_lock(locks, daemon, (0, 45), 257));
        assert!(!lists_lock(locks, daemon, (0, 44), 258));
        assert!(!lists_lock(locks, other, (0, 44), 257));
    }

    #[test]
    fn the_file_system_of_a_descriptor_is_found() {
        let file = fs::File::open("/proc/self/stat").expect("open a file");
        let device = fstat(file.as_fd()).expect("examine the file").id.device as libc::dev_t;
        let expected = (libc::major(device) as u32, libc::minor(device) as u32);
        assert_eq!(file_system_of(file.as_fd()), Some(expected));
    }
}
