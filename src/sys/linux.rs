//! Linux, and Android as far as it is one.

use std::ffi::CString;
use std::fs;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use super::{Errno, FileId, Pid, Signal, Uid, check, uninterrupted};

/// unshare(2) with `CLONE_VM` does nothing where the caller is the only user
/// of its memory, and fails with `EINVAL` where it is not: "specifying any one
/// of these flags has no effect if the process is single threaded". It sees
/// threads and processes made with `CLONE_VM` alike. Where a sandbox forbids
/// it, /proc counts the threads.
pub(super) fn lone_thread() -> Option<bool> {
    // SAFETY: with CLONE_VM alone, unshare changes nothing.
    match check(unsafe { libc::unshare(libc::CLONE_VM) }) {
        Ok(_) => Some(true),
        Err(libc::EINVAL) => Some(false),
        Err(_) => {
            let status = fs::read_to_string("/proc/self/status").ok()?;
            let threads = status
                .lines()
                .find_map(|line| line.strip_prefix("Threads:"))?;
            Some(threads.trim().parse::<u32>().ok()? == 1)
        }
    }
}

/// Whether a process has a file open: proc(5), /proc/pid/fd, where each link
/// leads to the open file itself.
pub(crate) fn has_open(pid: Pid, file: FileId) -> Result<bool, Errno> {
    let descriptors = match fs::read_dir(format!("/proc/{}/fd", pid.number())) {
        Ok(descriptors) => descriptors,
        Err(error) if is_gone(&error) || is_ending(pid) => return Ok(false),
        Err(error) => return Err(error.raw_os_error().unwrap_or(libc::EIO)),
    };
    let is_it = |descriptor: io::Result<fs::DirEntry>| {
        // One that was closed meanwhile is not it.
        descriptor
            .and_then(|descriptor| file_behind(&descriptor.path()))
            .is_ok_and(|open| open == file)
    };
    Ok(descriptors.into_iter().any(is_it))
}

/// statx(2), of what is known without asking the file system: it may be a
/// server that does not answer, and which files the process has open is its
/// own choice. stat(2) before Linux 4.11, or where a sandbox forbids it.
fn file_behind(link: &Path) -> io::Result<FileId> {
    let path = CString::new(link.as_os_str().as_bytes())?;
    let mut status = MaybeUninit::<libc::statx>::zeroed();
    // SAFETY: `path` is a C string that outlives the call, and `status` is
    // valid for writes of its size.
    let returned = uninterrupted(|| unsafe {
        libc::statx(
            libc::AT_FDCWD,
            path.as_ptr(),
            libc::AT_STATX_DONT_SYNC | libc::AT_NO_AUTOMOUNT,
            libc::STATX_INO,
            status.as_mut_ptr(),
        )
    });
    match returned {
        Ok(_) => {
            // SAFETY: statx succeeded; and all zeroes was valid before.
            let status = unsafe { status.assume_init_ref() };
            Ok(FileId {
                device: libc::makedev(status.stx_dev_major, status.stx_dev_minor) as u64,
                inode: status.stx_ino,
            })
        }
        Err(libc::ENOSYS | libc::EPERM) => {
            let status = fs::metadata(link)?;
            Ok(FileId {
                device: status.dev(),
                inode: status.ino(),
            })
        }
        Err(errno) => Err(io::Error::from_raw_os_error(errno)),
    }
}

/// proc(5), /proc/pid/status: real, effective, saved and file system uid.
pub(crate) fn users_of(pid: Pid) -> Result<Vec<Uid>, Errno> {
    let status = match fs::read_to_string(format!("/proc/{}/status", pid.number())) {
        Ok(status) => status,
        Err(error) if is_gone(&error) => return Err(libc::ESRCH),
        Err(error) => return Err(error.raw_os_error().unwrap_or(libc::EIO)),
    };
    status
        .lines()
        .find_map(|line| line.strip_prefix("Uid:"))
        .and_then(|ids| ids.split_whitespace().map(|id| id.parse().ok()).collect())
        .map(|ids: Vec<u32>| ids.into_iter().map(Uid).collect())
        .ok_or(libc::EIO)
}

/// A process loses its memory before its descriptors, and both before it is
/// reaped; from then on /proc hides them from its own user. `VmSize` goes with
/// the memory.
fn is_ending(pid: Pid) -> bool {
    fs::read_to_string(format!("/proc/{}/status", pid.number()))
        .is_ok_and(|status| !status.contains("\nVmSize:"))
}

/// There is no such process any more, unless there is no /proc at all.
fn is_gone(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ESRCH))
        && fs::exists("/proc/self").unwrap_or(false)
}

/// capset(2) to nothing in the effective, permitted and inheritable sets,
/// prctl(2) for the ambient one; then capget(2). The bounding set stays: it
/// grants nothing, and limits what a set-user-id program gains.
pub(crate) fn clear_capabilities() -> Result<bool, Errno> {
    #[repr(C)]
    struct Header {
        version: u32,
        pid: libc::c_int,
    }
    #[repr(C)]
    #[derive(Clone, Copy, PartialEq, Eq)]
    struct Sets {
        effective: u32,
        permitted: u32,
        inheritable: u32,
    }
    // _LINUX_CAPABILITY_VERSION_3, with two halves of 32 capabilities each.
    const VERSION: u32 = 0x2008_0522;
    let none = [Sets {
        effective: 0,
        permitted: 0,
        inheritable: 0,
    }; 2];
    let mut header = Header {
        version: VERSION,
        pid: 0,
    };
    // SAFETY: prctl takes plain numbers here.
    let cleared = check(unsafe {
        libc::prctl(
            libc::PR_CAP_AMBIENT,
            libc::PR_CAP_AMBIENT_CLEAR_ALL as libc::c_ulong,
            0 as libc::c_ulong,
            0 as libc::c_ulong,
            0 as libc::c_ulong,
        )
    });
    match cleared {
        // EINVAL: a kernel before 4.3 has no ambient set.
        Ok(_) | Err(libc::EINVAL) => {}
        Err(errno) => return Err(errno),
    }
    // SAFETY: the header and two sets are what version 3 reads.
    check(unsafe { libc::syscall(libc::SYS_capset, &raw mut header, &raw const none) } as i32)?;
    let mut left = [Sets {
        effective: u32::MAX,
        permitted: u32::MAX,
        inheritable: u32::MAX,
    }; 2];
    // SAFETY: the header and two sets are what version 3 reads and writes.
    check(unsafe { libc::syscall(libc::SYS_capget, &raw mut header, &raw mut left) } as i32)?;
    Ok(left == none)
}

/// pidfd_open(2). `None` before Linux 5.3, or where a sandbox forbids it.
/// Async-signal-safe.
pub(crate) fn open_process(child: Pid) -> Option<OwnedFd> {
    // SAFETY: pidfd_open takes plain numbers.
    let descriptor = unsafe { libc::syscall(libc::SYS_pidfd_open, child.raw(), 0) };
    let descriptor = check(descriptor as i32).ok()?;
    // SAFETY: pidfd_open just made it, so that nobody else owns it.
    let descriptor = unsafe { OwnedFd::from_raw_fd(descriptor) };
    super::descriptor::above_streams(descriptor).ok()
}

/// pidfd_send_signal(2).
pub(crate) fn signal_process(process: BorrowedFd<'_>, signal: Signal) -> Result<(), Errno> {
    // SAFETY: the descriptor is open, and a null siginfo means kill(2)'s own.
    let returned = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            process.as_raw_fd(),
            signal.0,
            std::ptr::null::<libc::siginfo_t>(),
            0,
        )
    };
    check(returned as i32).map(drop)
}
