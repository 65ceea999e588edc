//! Other processes: their files, users and signals.

use std::ffi::CString;
use std::fs;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::ptr;

use super::directory::field;
use crate::sys::fd::move_above_streams;
use crate::sys::{
    Errno, FileId, GroupMember, Pid, ProcessGroup, Signal, Uid, cvt, errno_of, kill, retry_on_eintr,
};

/// prctl(2) `PR_SET_PDEATHSIG`, of the calling thread. Each thread has a setting of its
/// own, which no other thread can read or change. Async-signal-safe.
pub(crate) fn disarm_parent_death_signal() {
    const NONE: libc::c_ulong = 0;
    // SAFETY: prctl takes plain numbers here. Zero is valid for this call on every
    // kernel, so that it cannot fail.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, NONE, NONE, NONE, NONE) };
}

/// proc(5), /proc/pid/status.
fn status_of(pid: Pid) -> io::Result<String> {
    fs::read_to_string(format!("/proc/{}/status", pid.number()))
}

/// `NSpid` of /proc/pid/status.
pub(crate) fn is_also_numbered(pid: Pid, number: Pid) -> bool {
    let number = number.number().to_string();
    status_of(pid).is_ok_and(|status| {
        field(&status, "NSpid:")
            .is_some_and(|numbers| numbers.split_whitespace().any(|found| found == number))
    })
}

/// `Uid` of /proc/pid/status: real, effective, saved and file system uid.
pub(crate) fn users_of(pid: Pid) -> Result<Vec<Uid>, Errno> {
    let status = match status_of(pid) {
        Ok(status) => status,
        Err(error) if is_gone(&error, pid) => return Err(libc::ESRCH),
        Err(error) => return Err(errno_of(&error)),
    };
    field(&status, "Uid:")
        .and_then(|ids| ids.split_whitespace().map(|id| id.parse().ok()).collect())
        .map(|ids: Vec<u32>| ids.into_iter().map(Uid).collect())
        .ok_or(libc::EIO)
}

/// proc(5), /proc/pid/stat of every process. Without /proc, or if it hides the processes of other
/// users (`hidepid`), members are missing.
pub(crate) fn members_of(group: ProcessGroup) -> Result<Vec<GroupMember>, Errno> {
    let processes = fs::read_dir("/proc").map_err(|error| errno_of(&error))?;
    let numbers = processes.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let member = |pid: Pid| {
        let status = fs::read_to_string(format!("/proc/{}/stat", pid.number())).ok()?;
        let (state, found) = state_and_group(&status)?;
        (found == group.leader().number()).then_some(GroupMember {
            pid,
            has_ended: matches!(state, "Z" | "X"),
        })
    };
    Ok(numbers
        .filter_map(Pid::from_number)
        .filter_map(member)
        .collect())
}

/// The third and the fifth field of /proc/pid/stat. The second one, the name, is in parentheses,
/// and may contain spaces and parentheses.
fn state_and_group(status: &str) -> Option<(&str, u32)> {
    let (_, rest) = status.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace();
    Some((fields.next()?, fields.nth(1)?.parse().ok()?))
}

/// A process loses its memory before its descriptors, and both before it is reaped. In
/// between, /proc hides the descriptors from the user of the process. The line `VmSize`
/// disappears with the memory.
fn is_ending(pid: Pid) -> bool {
    match status_of(pid) {
        Ok(status) => !status.contains("\nVmSize:"),
        Err(error) => is_gone(&error, pid),
    }
}

/// Whether an error of /proc means that the process does not exist. It does not if /proc
/// is not mounted, or hides the processes of other users (`hidepid`).
fn is_gone(error: &io::Error, pid: Pid) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ESRCH))
        && fs::exists("/proc/self").unwrap_or(false)
        && kill(pid, Signal::NONE) != Err(libc::EPERM)
}

/// Whether a process has a file open: proc(5), /proc/pid/fd, where each link leads to the
/// open file itself. A process that may list the links may still not follow them.
pub(crate) fn has_open(pid: Pid, file: FileId) -> Result<bool, Errno> {
    let descriptors = match fs::read_dir(format!("/proc/{}/fd", pid.number())) {
        Ok(descriptors) => descriptors,
        Err(error) if is_gone(&error, pid) || is_ending(pid) => return Ok(false),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(libc::EACCES),
        Err(error) => return Err(errno_of(&error)),
    };
    let mut is_forbidden = false;
    for descriptor in descriptors {
        match descriptor.and_then(|descriptor| file_behind(&descriptor.path())) {
            Ok(open) if open == file => return Ok(true),
            Ok(_) => {}
            // Any other error means that the process has closed the descriptor.
            Err(error) => is_forbidden |= error.kind() == io::ErrorKind::PermissionDenied,
        }
    }
    if is_forbidden && !is_ending(pid) {
        Err(libc::EACCES)
    } else {
        Ok(false)
    }
}

/// Of <linux/stat.h>, for statx(2). The C library may lack it: glibc has it since 2.28,
/// musl since 1.2.5.
const AT_STATX_DONT_SYNC: libc::c_int = 0x4000;
const STATX_INO: libc::c_uint = 0x100;

/// `struct statx`. Only the named fields are read.
#[derive(Default)]
#[repr(C)]
struct Statx {
    _up_to_mode: [u64; 4],
    inode: u64,
    _up_to_times: [u64; 3],
    _times: [u64; 8],
    _special_device: [u32; 2],
    device_major: u32,
    device_minor: u32,
    _others: [u64; 14],
}

const _: () = assert!(size_of::<Statx>() == 0x100);

/// statx(2) without asking the file system, which may be a server that does not answer:
/// the process chooses which files it has open. Before Linux 4.11, or if a sandbox forbids
/// the call, stat(2).
fn file_behind(link: &Path) -> io::Result<FileId> {
    let path = CString::new(link.as_os_str().as_bytes())?;
    let mut status = Statx::default();
    // SAFETY: `path` is a C string that outlives the call, and `status` is
    // valid for writes of its size, which is that of the kernel's.
    let returned = retry_on_eintr(|| unsafe {
        libc::syscall(
            libc::SYS_statx,
            libc::AT_FDCWD,
            path.as_ptr(),
            AT_STATX_DONT_SYNC | libc::AT_NO_AUTOMOUNT,
            STATX_INO,
            &raw mut status,
        ) as libc::c_int
    });
    match returned {
        Ok(_) => Ok(FileId {
            device: libc::makedev(status.device_major, status.device_minor) as u64,
            inode: status.inode,
        }),
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

/// A pidfd, which is readable once the process has ended.
#[derive(Debug)]
pub(crate) struct ProcessHandle(OwnedFd);

pub(crate) const HANDLES_REAP: bool = true;

impl AsFd for ProcessHandle {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

pub(crate) fn open_process(pid: Pid) -> Option<ProcessHandle> {
    open_process_to_send(pid).map(ProcessHandle)
}

/// A descriptor names the process in every pid namespace.
pub(crate) fn claim_process(received: Option<OwnedFd>, _: Pid, _: Pid) -> Option<ProcessHandle> {
    received.map(ProcessHandle)
}

/// pidfd_open(2). `None` before Linux 5.3, or if a sandbox forbids the call.
/// Async-signal-safe.
pub(crate) fn open_process_to_send(pid: Pid) -> Option<OwnedFd> {
    // SAFETY: pidfd_open takes plain numbers.
    let descriptor = unsafe { libc::syscall(libc::SYS_pidfd_open, pid.0, 0) };
    let descriptor = cvt(descriptor as i32).ok()?;
    // SAFETY: pidfd_open has just made the descriptor, so that nothing else owns it.
    let descriptor = unsafe { OwnedFd::from_raw_fd(descriptor) };
    move_above_streams(descriptor).ok()
}

/// waitid(2) `P_PIDFD`: reaps a process that has ended and is a child of this process.
/// Orphans become children of a subreaper, or of the first process in a pid namespace.
pub(crate) fn reap(process: &ProcessHandle) {
    let mut information = MaybeUninit::<libc::siginfo_t>::zeroed();
    // SAFETY: `information` is valid for writes of its size.
    unsafe {
        libc::waitid(
            libc::P_PIDFD,
            process.0.as_raw_fd() as libc::id_t,
            information.as_mut_ptr(),
            libc::WEXITED | libc::WNOHANG,
        )
    };
}

/// pidfd_send_signal(2). If a sandbox permits pidfd_open(2) but not this call, kill(2)
/// with the pid that proc(5) has for the descriptor. The signal reaches the wrong process
/// only if the process ends, is reaped, and its pid is reused between the two calls.
pub(crate) fn signal_process(process: &ProcessHandle, signal: Signal) -> Result<(), Errno> {
    // SAFETY: the descriptor is open, and a null siginfo stands for that of kill(2).
    let returned = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            process.0.as_raw_fd(),
            signal.number(),
            ptr::null::<libc::siginfo_t>(),
            0,
        )
    };
    match cvt(returned as i32) {
        // If EPERM comes from the kernel and not from a sandbox, kill(2) fails with it, too.
        Err(refusal @ (libc::ENOSYS | libc::EPERM | libc::EACCES)) => match pid_of(process.as_fd())
        {
            Some(pid) => kill(pid, signal),
            None => Err(refusal),
        },
        other => other.map(drop),
    }
}

/// The pid of a process, as proc(5), /proc/self/fdinfo, has it for the descriptor: -1 for
/// a process that was reaped, and 0 for a process of another pid namespace.
fn pid_of(process: BorrowedFd<'_>) -> Option<Pid> {
    let information = fs::read_to_string(format!("/proc/self/fdinfo/{}", process.as_raw_fd()));
    let information = information.ok()?;
    Pid::from_number(field(&information, "Pid:")?.trim().parse().ok()?)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::deadline::Deadline;

    #[test]
    fn a_process_that_is_gone_was_ending() {
        let mut child = Command::new("true").spawn().expect("start a process");
        child.wait().expect("wait for it");
        let gone = Pid::from_number(child.id()).expect("a pid");
        assert!(is_ending(gone));
        assert!(!is_ending(Pid::current()));
    }

    #[test]
    fn the_name_of_a_process_hides_neither_its_state_nor_its_group() {
        let status = "77 (a) Z 1 (b) S 1 4242 4242 0 -1";
        assert_eq!(state_and_group(status), Some(("S", 4242)));
        assert_eq!(state_and_group("77 (a) S 1"), None);
        // A group of another pid namespace has no number.
        assert_eq!(state_and_group("77 (a) S 1 0 0"), Some(("S", 0)));
    }

    #[test]
    fn a_member_of_a_group_that_is_not_reaped_has_ended() {
        use std::os::unix::process::CommandExt as _;

        let mut child = Command::new("true")
            .process_group(0)
            .spawn()
            .expect("start a process");
        let pid = Pid::from_number(child.id()).expect("a pid");
        let process = open_process(pid).expect("Linux 5.3");
        assert!(crate::sys::await_readable(process.as_fd(), Deadline::NEVER));
        // In qemu-user, vfork(2) is fork(2), so that only now the child surely has its group.
        let group = ProcessGroup::of(pid).expect("a group").expect("its number");
        let zombie = GroupMember {
            pid,
            has_ended: true,
        };
        assert_eq!(members_of(group), Ok(vec![zombie]));
        child.wait().expect("wait for it");
        assert_eq!(members_of(group), Ok(Vec::new()));
    }

    #[test]
    fn the_pid_of_an_open_process_is_found_until_it_is_reaped() {
        let mut child = Command::new("true").spawn().expect("start a process");
        let pid = Pid::from_number(child.id()).expect("a pid");
        let process = open_process(pid).expect("Linux 5.3");
        assert_eq!(pid_of(process.as_fd()), Some(pid));
        child.wait().expect("wait for it");
        assert_eq!(pid_of(process.as_fd()), None);
    }
}
