//! Facts about files, and about the users who own them.

use std::ffi::CStr;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd};
use std::ptr;

use crate::sys::{Errno, FileStatus, Open, PathBuffer, Uid, WORKING_DIRECTORY, cvt, openat, pread};

/// Character device 1, 3: Documentation/admin-guide/devices.txt of the kernel.
/// Async-signal-safe.
pub(crate) fn is_null_device(status: &FileStatus) -> bool {
    status.character_device == Some(libc::makedev(1, 3) as u64)
}

/// acl(5): if a file has an access control list, the group bits of its mode are the mask of
/// the list. fgetxattr(2) with a size of 0 returns the size of the list. Async-signal-safe.
pub(crate) fn has_access_list(descriptor: BorrowedFd<'_>) -> bool {
    // SAFETY: the name is a C string; with a size of 0 nothing is written.
    let size = unsafe {
        libc::fgetxattr(
            descriptor.as_raw_fd(),
            c"system.posix_acl_access".as_ptr(),
            ptr::null_mut(),
            0,
        )
    };
    // Without the attribute, or a file system that has such attributes, there is no list.
    // After any other error there may be one.
    !matches!(cvt(size), Err(libc::ENODATA | libc::EOPNOTSUPP))
}

/// The system call: if the directory is not reachable from the root directory, getcwd(3) searches
/// for it, and allocates memory. Fails then with `ENOENT`. Async-signal-safe.
pub(crate) fn getcwd(buffer: &mut PathBuffer) -> Result<&CStr, Errno> {
    // SAFETY: `buffer` is valid for writes of its length.
    cvt(unsafe { libc::syscall(libc::SYS_getcwd, buffer.as_mut_ptr(), buffer.len()) })?;
    match buffer[0] {
        b'/' => CStr::from_bytes_until_nul(buffer).map_err(|_| libc::ERANGE),
        _ => Err(libc::ENOENT),
    }
}

/// renameat2(2) `RENAME_EXCHANGE`. By its number, since musl got the function late.
pub(crate) fn exchange(directory: BorrowedFd<'_>, one: &CStr, other: &CStr) -> Result<(), Errno> {
    let directory = directory.as_raw_fd();
    // SAFETY: both paths are C strings that outlive the call; the flags are a plain number.
    cvt(unsafe {
        libc::syscall(
            libc::SYS_renameat2,
            directory,
            one.as_ptr(),
            directory,
            other.as_ptr(),
            libc::RENAME_EXCHANGE,
        )
    })
    .map(drop)
}

/// user_namespaces(7): whether a uid is the overflow uid, which stands for all users
/// without a number in this user namespace. False if the namespace also has a user of that
/// number, as outside of all namespaces, or if /proc cannot be read. Async-signal-safe.
pub(crate) fn is_unmapped(Uid(uid): Uid) -> bool {
    let mut number = [0; 16];
    // user_namespaces(7): at most 340 ranges.
    let mut map = [0; 340 * 36];
    let overflow = read_text(c"/proc/sys/kernel/overflowuid", &mut number)
        .and_then(|number| number.trim().parse().ok());
    overflow == Some(uid)
        && read_text(c"/proc/self/uid_map", &mut map).is_some_and(|map| !is_mapped(uid, map))
}

/// The content of a file, as far as it fits. Async-signal-safe.
fn read_text<'a>(path: &CStr, buffer: &'a mut [u8]) -> Option<&'a str> {
    let file = openat(WORKING_DIRECTORY, path, Open::ReadOnly).ok()?;
    let length = pread(file.as_fd(), buffer).ok()?;
    std::str::from_utf8(&buffer[..length]).ok()
}

/// Each line of the map has the first id inside, the first id outside, and a count. If a
/// line has another form, all ids count as mapped.
fn is_mapped(uid: u32, map: &str) -> bool {
    map.lines().any(|range| {
        let mut numbers = range.split_whitespace().map(str::parse::<u64>);
        match (numbers.next(), numbers.nth(1)) {
            (Some(Ok(first)), Some(Ok(count))) => (first..first + count).contains(&u64::from(uid)),
            _ => true,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_user_without_a_number_is_unmapped() {
        assert!(!is_mapped(65534, "0 1000 1\n"));
        assert!(is_mapped(65534, "0 1000 1\n1 100000 65535\n"));
        assert!(!is_mapped(65534, "0 1000 1\n1 100000 65533\n"));
        assert!(is_mapped(65534, "0 0 4294967295\n"));
        assert!(!is_mapped(65534, ""));
        assert!(is_mapped(65534, "what is this?\n"));
        assert!(!is_unmapped(Uid::ROOT));
    }
}
