//! Linux, and Android as far as it is one.

use std::ffi::{CStr, CString};
use std::fs;
use std::io;
use std::iter;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::ExitStatus;
use std::ptr;
use std::sync::atomic::{AtomicU16, Ordering};

use super::descriptor::{close_raw, ranges_between};
use super::{
    Attributes, Directory, Errno, EventQueue, FileId, Gid, Open, Pid, Signal, SingleThreaded, Uid,
    cvt, kill, openat, retry_on_eintr,
};

/// unshare(2) with `CLONE_VM` does nothing where the caller is the only user
/// of its memory, and fails with `EINVAL` where it is not: "specifying any one
/// of these flags has no effect if the process is single threaded". It sees
/// threads and processes made with `CLONE_VM` alike. Where a sandbox forbids
/// it, /proc counts the threads.
///
/// Some kernels answer `EINVAL` to every process: see [`Answer`]. There /proc
/// counts the threads, too.
pub(super) fn is_single_threaded() -> Option<bool> {
    match unshare_memory() {
        Ok(()) => Some(true),
        Err(libc::EINVAL) => match Answer::to_a_lone_thread() {
            Some(Answer::Success) => Some(false),
            Some(Answer::Invalid { threads }) => Some(count_tasks().ok()? == threads),
            // Where it has no others, what shares its memory may be another process.
            None => (count_tasks().ok()? > 1).then_some(false),
        },
        Err(_) => {
            let status = fs::read_to_string("/proc/self/status").ok()?;
            let threads = status
                .lines()
                .find_map(|line| line.strip_prefix("Threads:"))?;
            Some(threads.trim().parse::<u32>().ok()? == 1)
        }
    }
}

/// Async-signal-safe.
fn unshare_memory() -> Result<(), Errno> {
    // SAFETY: with CLONE_VM alone, unshare changes nothing.
    cvt(unsafe { libc::unshare(libc::CLONE_VM) }).map(drop)
}

/// What unshare(2) with `CLONE_VM` answers to a process that certainly has one
/// thread and memory of its own.
///
/// gVisor does not count the users of a memory, and answers `EINVAL` to everybody
/// (`Task.Unshare` of pkg/sentry/kernel/task_clone.go). So does qemu-user: it adds
/// a thread of its own to each process (`rcu_init_complete` of util/rcu.c), which
/// the kernel counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Success,
    Invalid {
        /// How many threads /proc lists of that process.
        threads: u8,
    },
}

impl Answer {
    const CANNOT_LIST: u8 = u8::MAX;

    /// Asks once: it is the kernel's way, and stays so. `None` where no process
    /// could be made to ask.
    fn to_a_lone_thread() -> Option<Self> {
        const UNKNOWN: u16 = u16::MAX;
        static KNOWN: AtomicU16 = AtomicU16::new(UNKNOWN);

        let status = match KNOWN.load(Ordering::Relaxed) {
            UNKNOWN => {
                let status = u8::try_from(ask_by_child()?.code()?).ok()?;
                KNOWN.store(u16::from(status), Ordering::Relaxed);
                status
            }
            known => known as u8,
        };
        match status {
            0 => Some(Self::Success),
            Self::CANNOT_LIST => None,
            threads => Some(Self::Invalid { threads }),
        }
    }
}

/// The exit status of a child that asks for [`Answer`]: 0, or how many threads it
/// has.
///
/// The child makes system calls alone. Its end raises no signal, and no handler or
/// disposition of SIGCHLD reaps it; a tracer does not follow it. Only qemu-user
/// refuses to make such a child, and gets one that raises SIGCHLD.
fn ask_by_child() -> Option<ExitStatus> {
    let flags = [libc::CLONE_UNTRACED, libc::SIGCHLD];
    let child = flags.into_iter().find_map(|flags| clone(flags).ok())?;
    if child == 0 {
        let status = match unshare_memory() {
            Ok(()) => 0,
            Err(_) => count_tasks().map_or(Answer::CANNOT_LIST, |threads| threads.max(1)),
        };
        super::_exit(status);
    }
    let mut status = 0;
    // SAFETY: `status` is valid for writes during the call.
    retry_on_eintr(|| unsafe { libc::waitpid(child, &raw mut status, libc::__WALL) }).ok()?;
    Some(ExitStatus::from_raw(status))
}

/// clone(2) without a stack of its own for the child, which is fork(2) without
/// libc's part in it.
fn clone(flags: libc::c_int) -> Result<libc::pid_t, Errno> {
    let flags = libc::c_long::from(flags);
    const NONE: libc::c_long = 0;
    #[cfg(not(target_arch = "s390x"))]
    let (first, second) = (flags, NONE);
    // `CONFIG_CLONE_BACKWARDS2`.
    #[cfg(target_arch = "s390x")]
    let (first, second) = (NONE, flags);
    // SAFETY: the child has a copy of this memory, and makes system calls alone
    // before it exits.
    let made = unsafe { libc::syscall(libc::SYS_clone, first, second, NONE, NONE, NONE) };
    cvt(made as libc::pid_t)
}

/// How many threads proc(5) lists of this process in /proc/self/task, up to 254.
/// Async-signal-safe.
fn count_tasks() -> Result<u8, Errno> {
    let tasks = openat(Directory::Working, c"/proc/self/task", Open::Directory)?;
    let mut records = [0_u64; 512];
    let mut count = 0;
    while let Some(filled) = list(&tasks, &mut records)? {
        count += listed(&records, filled).count();
    }
    Ok(u8::try_from(count).map_or(254, |count| count.min(254)))
}

/// fcntl(2) `F_SETLK` with a read lock on the whole file: the kernel names the
/// process that holds it to whoever asks. Here flock(2) and such record locks do
/// not see each other. Async-signal-safe.
pub(crate) fn take_record_lock(descriptor: BorrowedFd<'_>) -> Result<(), Errno> {
    let lock = whole_file(libc::F_RDLCK);
    // SAFETY: `lock` is valid for reads during the call.
    retry_on_eintr(|| unsafe {
        libc::fcntl(descriptor.as_raw_fd(), libc::F_SETLK, &raw const lock)
    })
    .map(drop)
}

/// fcntl(2) `F_GETLK`: the process that would be in the way of a write lock. It
/// takes no right but to have opened the file. Any process that may open the
/// file may hold a read lock, too, and the kernel names the oldest one: where
/// that is not `expected`, proc(5), /proc/locks, has them all.
pub(crate) fn record_lock_holder(
    descriptor: BorrowedFd<'_>,
    expected: Option<Pid>,
) -> Result<Option<Pid>, Errno> {
    let mut lock = whole_file(libc::F_WRLCK);
    // SAFETY: `lock` is valid for reads and writes during the call.
    retry_on_eintr(|| unsafe {
        libc::fcntl(descriptor.as_raw_fd(), libc::F_GETLK, &raw mut lock)
    })?;
    if lock.l_type == libc::F_UNLCK as libc::c_short {
        return Ok(None);
    }
    // 0 is a process of a pid namespace that is out of sight, and -1 an open
    // file.
    let named = u32::try_from(lock.l_pid).ok().and_then(Pid::from_number);
    if named == expected && named.is_some() {
        return Ok(named);
    }
    let file = super::fstat(descriptor)?.id;
    match expected.filter(|&pid| has_record_lock(pid, file)) {
        None => named.map(Some).ok_or(libc::ESRCH),
        expected => Ok(expected),
    }
}

fn whole_file(kind: libc::c_int) -> libc::flock {
    // SAFETY: flock is plain data; all zeroes is the whole file, from its
    // beginning.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
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

/// Whether a process has this number in one of its pid namespaces: proc(5),
/// `NSpid` of /proc/pid/status.
pub(crate) fn is_also_numbered(pid: Pid, number: Pid) -> bool {
    let status = fs::read_to_string(format!("/proc/{}/status", pid.number()));
    let number = number.number().to_string();
    status.is_ok_and(|status| {
        let mut lines = status.lines();
        let numbers = lines.find_map(|line| line.strip_prefix("NSpid:"));
        numbers.is_some_and(|numbers| numbers.split_whitespace().any(|one| one == number))
    })
}

/// proc(5), /proc/self/task/tid/comm. A thread may end while this looks.
pub(crate) fn thread_names() -> Option<Vec<Option<String>>> {
    let threads = fs::read_dir("/proc/self/task").ok()?;
    let name = |thread: fs::DirEntry| fs::read(thread.path().join("comm")).ok();
    let threads = threads.filter_map(Result::ok).map(|thread| {
        let name = name(thread)?;
        Some(String::from_utf8_lossy(name.trim_ascii_end()).into_owned())
    });
    Some(threads.collect())
}

pub(crate) const WHY_THREADS_ARE_UNKNOWN: &str =
    "unshare(2) is forbidden, and /proc/self/status cannot be read: mount /proc";

pub(crate) const HAS_CAPABILITIES: bool = true;

/// Whether a process has a file open: proc(5), /proc/pid/fd, where each link
/// leads to the open file itself. Who may list them may still not look at them.
pub(crate) fn has_open(pid: Pid, file: FileId) -> Result<bool, Errno> {
    let errno = |error: io::Error| error.raw_os_error().unwrap_or(libc::EIO);
    let descriptors = match fs::read_dir(format!("/proc/{}/fd", pid.number())) {
        Ok(descriptors) => descriptors,
        Err(error) if is_gone(&error, pid) || is_ending(pid) => return Ok(false),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(libc::EACCES),
        Err(error) => return Err(errno(error)),
    };
    let mut is_forbidden = false;
    for descriptor in descriptors {
        match descriptor.and_then(|descriptor| file_behind(&descriptor.path())) {
            Ok(open) if open == file => return Ok(true),
            Ok(_) => {}
            Err(error) => is_forbidden |= error.kind() == io::ErrorKind::PermissionDenied,
        }
    }
    // One that was closed meanwhile is not it.
    if is_forbidden && !is_ending(pid) {
        Err(libc::EACCES)
    } else {
        Ok(false)
    }
}

/// Of <linux/stat.h>, for statx(2), which the C library may be too old for: glibc
/// has it since 2.28, musl since 1.2.5.
const AT_STATX_DONT_SYNC: libc::c_int = 0x4000;
const STATX_INO: libc::c_uint = 0x100;

/// `struct statx`, as far as it is read.
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

/// statx(2), of what is known without asking the file system: it may be a
/// server that does not answer, and which files the process has open is its
/// own choice. stat(2) before Linux 4.11, or where a sandbox forbids it.
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

/// epoll(7) and io_uring(7), as proc(5) names them. A process that has closed the
/// descriptor of an io_uring, but has its memory mapped still, is not found.
///
/// Without /proc nothing tells: all that is no file looks the same to fstat(2).
pub(crate) fn find_shared_event_queue() -> Result<Option<EventQueue>, Errno> {
    let descriptors = openat(Directory::Working, c"/proc/self/fd", Open::Directory)?;
    let mut records = [0_u64; 512];
    while let Some(filled) = list(&descriptors, &mut records)? {
        for descriptor in listed(&records, filled) {
            let target = match fs::read_link(format!("/proc/self/fd/{descriptor}")) {
                Ok(target) => target,
                // Another thread has closed it.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error.raw_os_error().unwrap_or(libc::EIO)),
            };
            let name = match target.as_os_str().as_bytes() {
                b"anon_inode:[eventpoll]" => "epoll",
                b"anon_inode:[io_uring]" => "io_uring",
                _ => continue,
            };
            return Ok(Some(EventQueue { name, descriptor }));
        }
    }
    Ok(None)
}

/// Character device 1, 3: Documentation/admin-guide/devices.txt of the kernel. No
/// other device discards what is written. Async-signal-safe.
pub(crate) fn is_null_device(device: &Attributes) -> bool {
    device.character_device == Some(libc::makedev(1, 3) as u64)
}

/// prctl(2) `PR_SET_PDEATHSIG`, of the calling thread. Other threads have settings
/// of their own, which nobody else can read or change. Async-signal-safe.
pub(crate) fn disarm_parent_death_signal() {
    const NONE: libc::c_ulong = 0;
    // SAFETY: prctl takes plain numbers here. Zero is valid for this call on every
    // kernel, so that it cannot fail.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, NONE, NONE, NONE, NONE) };
}

/// Whether a uid stands for all users that this user namespace has no number for:
/// user_namespaces(7). It does not where it is also the number of a user that the
/// namespace has, as outside of all namespaces, nor where /proc does not tell.
/// Async-signal-safe.
pub(crate) fn is_unmapped(Uid(uid): Uid) -> bool {
    let mut number = [0; 16];
    // 340 ranges at the most: user_namespaces(7).
    let mut map = [0; 340 * 36];
    let overflow = text_of(c"/proc/sys/kernel/overflowuid", &mut number)
        .and_then(|number| number.trim().parse().ok());
    overflow == Some(uid)
        && text_of(c"/proc/self/uid_map", &mut map).is_some_and(|map| !is_mapped(uid, map))
}

/// What is in a file, as far as it fits. Async-signal-safe.
fn text_of<'a>(path: &CStr, buffer: &'a mut [u8]) -> Option<&'a str> {
    let file = openat(Directory::Working, path, Open::ReadOnly).ok()?;
    let length = super::pread(file.as_fd(), buffer).ok()?;
    std::str::from_utf8(&buffer[..length]).ok()
}

/// Each line of the map: the first id inside, the first outside, how many. What is
/// no such line says nothing, so that all are taken for mapped.
fn is_mapped(uid: u32, map: &str) -> bool {
    map.lines().any(|range| {
        let mut numbers = range.split_whitespace().map(str::parse::<u64>);
        match (numbers.next(), numbers.nth(1)) {
            (Some(Ok(first)), Some(Ok(count))) => (first..first + count).contains(&u64::from(uid)),
            _ => true,
        }
    })
}

/// proc(5), /proc/pid/status: real, effective, saved and file system uid.
pub(crate) fn users_of(pid: Pid) -> Result<Vec<Uid>, Errno> {
    let status = match fs::read_to_string(format!("/proc/{}/status", pid.number())) {
        Ok(status) => status,
        Err(error) if is_gone(&error, pid) => return Err(libc::ESRCH),
        Err(error) => return Err(error.raw_os_error().unwrap_or(libc::EIO)),
    };
    status
        .lines()
        .find_map(|line| line.strip_prefix("Uid:"))
        .and_then(|ids| ids.split_whitespace().map(|id| id.parse().ok()).collect())
        .map(|ids: Vec<u32>| ids.into_iter().map(Uid).collect())
        .ok_or(libc::EIO)
}

pub(crate) const SYSTEM_GROUPS: &[Gid] = &[Gid::ROOT];

/// acl(5): an access list shows its mask as the bits of the group.
/// fgetxattr(2) with a size of 0 asks for its size. Async-signal-safe.
pub(crate) fn has_access_list(descriptor: BorrowedFd<'_>) -> bool {
    // SAFETY: the name is a C string; a size of 0 has nothing written.
    let size = unsafe {
        libc::fgetxattr(
            descriptor.as_raw_fd(),
            c"system.posix_acl_access".as_ptr(),
            ptr::null_mut(),
            0,
        )
    };
    // No such attribute, or a file system without them, is no list; all else
    // may be one.
    !matches!(cvt(size), Err(libc::ENODATA | libc::EOPNOTSUPP))
}

/// A process loses its memory before its descriptors, and both before it is
/// reaped; from then on /proc hides them from its own user. `VmSize` goes with
/// the memory. It may be gone by the time that this looks.
fn is_ending(pid: Pid) -> bool {
    match fs::read_to_string(format!("/proc/{}/status", pid.number())) {
        Ok(status) => !status.contains("\nVmSize:"),
        Err(error) => is_gone(&error, pid),
    }
}

/// There is no such process any more; unless there is no /proc at all, or it
/// hides those of others (`hidepid`).
fn is_gone(error: &io::Error, pid: Pid) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ESRCH))
        && fs::exists("/proc/self").unwrap_or(false)
        // Whether one could be sent, without sending any.
        && kill(pid, Signal(0)) != Err(libc::EPERM)
}

/// capset(2) to nothing in the effective, permitted and inheritable sets,
/// prctl(2) for the ambient one; then capget(2). The bounding set stays: it
/// grants nothing, and limits what a set-user-id program gains.
///
/// Where nothing is left, neither is called: a sandbox may forbid them. The ambient
/// set is within the permitted one.
///
/// All this is of the calling thread. The kernel itself takes capabilities only
/// from threads that drop from root, and not even from those where secure bits
/// say so: hence the look at the others.
pub(crate) fn clear_capabilities(others: &OtherThreads) -> Result<bool, Errno> {
    let held = Capabilities::of(0)?;
    if held != Capabilities::NONE {
        clear_ambient_capabilities()?;
        Capabilities::NONE.set()?;
        if Capabilities::of(0)? != Capabilities::NONE {
            return Ok(false);
        }
    }
    match others {
        OtherThreads::None => Ok(true),
        OtherThreads::Listed(threads) => all_have_none(threads),
        // What the kernel has taken from this one it has taken from all, as
        // far as can be told.
        OtherThreads::Unlisted => Ok(held == Capabilities::NONE),
    }
}

fn clear_ambient_capabilities() -> Result<(), Errno> {
    // SAFETY: prctl takes plain numbers here.
    let cleared = cvt(unsafe {
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
        Ok(_) | Err(libc::EINVAL) => Ok(()),
        Err(errno) => Err(errno),
    }
}

/// The effective, permitted and inheritable set, in two halves of 32
/// capabilities each.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq)]
struct Capabilities([[u32; 3]; 2]);

#[repr(C)]
struct CapabilityHeader {
    version: u32,
    thread: libc::c_int,
}

impl CapabilityHeader {
    fn of(thread: libc::c_int) -> Self {
        // _LINUX_CAPABILITY_VERSION_3
        const VERSION: u32 = 0x2008_0522;
        Self {
            version: VERSION,
            thread,
        }
    }
}

impl Capabilities {
    const NONE: Self = Self([[0; 3]; 2]);

    /// capget(2), where 0 is the calling thread.
    fn of(thread: libc::c_int) -> Result<Self, Errno> {
        let mut header = CapabilityHeader::of(thread);
        let mut held = Self([[u32::MAX; 3]; 2]);
        // SAFETY: the header and two halves are what version 3 reads and
        // writes.
        cvt(unsafe { libc::syscall(libc::SYS_capget, &raw mut header, &raw mut held) } as i32)?;
        Ok(held)
    }

    /// capset(2), which is for the calling thread alone.
    fn set(&self) -> Result<(), Errno> {
        let mut header = CapabilityHeader::of(0);
        // SAFETY: the header and two halves are what version 3 reads.
        cvt(unsafe { libc::syscall(libc::SYS_capset, &raw mut header, &raw const *self) } as i32)
            .map(drop)
    }
}

/// The other threads of this process.
pub(crate) enum OtherThreads {
    None,
    /// /proc/self/task.
    Listed(OwnedFd),
    /// There may be some, and there is no /proc to tell.
    Unlisted,
}

impl OtherThreads {
    /// A thread that has just ended may take a moment to be gone.
    pub(crate) fn find() -> Self {
        match SingleThreaded::verify() {
            Ok(_) => Self::None,
            Err(_) => openat(Directory::Working, c"/proc/self/task", Open::Directory)
                .map_or(Self::Unlisted, Self::Listed),
        }
    }

    pub(crate) fn run(&self) -> bool {
        !matches!(self, Self::None)
    }
}

/// A thread inherits what the one that makes it has at that moment: who has
/// none, and made none before, has no heirs.
fn all_have_none(threads: &OwnedFd) -> Result<bool, Errno> {
    let mut records = [0_u64; 512];
    while let Some(filled) = list(threads, &mut records)? {
        for thread in listed(&records, filled) {
            match Capabilities::of(thread) {
                Ok(Capabilities::NONE) | Err(libc::ESRCH) => {}
                Ok(_) => return Ok(false),
                Err(errno) => return Err(errno),
            }
        }
    }
    Ok(true)
}

/// getauxval(3) `AT_SECURE`.
pub(crate) fn has_raised_privileges() -> bool {
    // SAFETY: getauxval takes a plain number.
    unsafe { libc::getauxval(libc::AT_SECURE) != 0 }
}

/// prctl(2) `PR_SET_NO_NEW_PRIVS`, of the calling thread.
pub(crate) const HAS_NO_NEW_PRIVILEGES: bool = true;

pub(crate) fn set_no_new_privileges() -> Result<bool, Errno> {
    const ON: libc::c_ulong = 1;
    const UNUSED: libc::c_ulong = 0;
    // SAFETY: prctl takes plain numbers here.
    cvt(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, ON, UNUSED, UNUSED, UNUSED) })?;
    // SAFETY: as above.
    let read = unsafe { libc::prctl(libc::PR_GET_NO_NEW_PRIVS, UNUSED, UNUSED, UNUSED, UNUSED) };
    cvt(read).map(|read| read == 1)
}

/// close_range(2), at a cost that goes with what is open. Before Linux 5.9,
/// or where a sandbox forbids it, what /proc lists. Async-signal-safe.
pub(crate) fn close_all_but(kept: &[RawFd], scratch: &mut [u64]) -> Result<(), Errno> {
    for (first, last) in ranges_between(kept) {
        match close_range(first, last) {
            Ok(()) => {}
            Err(libc::ENOSYS | libc::EPERM) => return close_listed_but(kept, scratch),
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// The cfg is for tests: it stands for an old kernel.
fn close_range(first: RawFd, last: Option<RawFd>) -> Result<(), Errno> {
    if cfg!(daemonize2_without_close_range) {
        return Err(libc::ENOSYS);
    }
    let last = last.map_or(libc::c_uint::MAX, |last| last as libc::c_uint);
    // SAFETY: plain numbers; the caller of `close_inherited_fds` has promised
    // that no value uses or closes a descriptor that is not kept.
    cvt(unsafe { libc::syscall(libc::SYS_close_range, first as libc::c_uint, last, 0) } as i32)
        .map(drop)
}

/// getdents64(2) of /proc/self/fd, as opendir(3) allocates. The list goes by
/// number, so that closing what was read disturbs nothing.
fn close_listed_but(kept: &[RawFd], scratch: &mut [u64]) -> Result<(), Errno> {
    let open_list = || openat(Directory::Working, c"/proc/self/fd", Open::Directory);
    let descriptors = match open_list() {
        // Every number that a new descriptor could have is taken: then so is
        // the first that may go.
        Err(libc::EMFILE) => {
            if let Some((first, _)) = ranges_between(kept).next() {
                close_raw(first);
            }
            open_list()?
        }
        list => list?,
    };
    while let Some(filled) = list(&descriptors, scratch)? {
        for descriptor in listed(scratch, filled) {
            let is_kept = descriptor <= 2 || kept.binary_search(&descriptor).is_ok();
            if !is_kept && descriptor != descriptors.as_raw_fd() {
                close_raw(descriptor);
            }
        }
    }
    Ok(())
}

/// getdents64(2): how many bytes of records; `None` at the end.
/// Async-signal-safe.
fn list(directory: &OwnedFd, records: &mut [u64]) -> Result<Option<usize>, Errno> {
    // SAFETY: `records` is valid for writes of its size.
    let filled = cvt(unsafe {
        libc::syscall(
            libc::SYS_getdents64,
            directory.as_raw_fd(),
            records.as_mut_ptr(),
            size_of_val(records),
        )
    })?;
    Ok((filled > 0).then_some(filled as usize))
}

/// The numbers among the names that getdents64(2) has filled in.
fn listed(records: &[u64], filled: usize) -> impl Iterator<Item = RawFd> + '_ {
    // struct linux_dirent64: inode and offset, eight bytes each, the length
    // of the record, the type, and the name with a NUL.
    const LENGTH: usize = 16;
    const NAME: usize = 19;

    let byte = |at: usize| {
        records
            .get(at / 8)
            .map_or(0, |word| word.to_ne_bytes()[at % 8])
    };
    let mut at = 0;
    iter::from_fn(move || {
        while at < filled {
            let start = at;
            let length = u16::from_ne_bytes([byte(start + LENGTH), byte(start + LENGTH + 1)]);
            at = if length == 0 {
                filled
            } else {
                start + usize::from(length)
            };
            let mut digits = (start + NAME..at).map(byte).take_while(|&digit| digit != 0);
            let number = digits.try_fold(0, |number: RawFd, digit| {
                let digit = char::from(digit).to_digit(10)?;
                number.checked_mul(10)?.checked_add(digit as RawFd)
            });
            if number.is_some() {
                return number;
            }
        }
        None
    })
}

/// pidfd_open(2). `None` before Linux 5.3, or where a sandbox forbids it.
/// Async-signal-safe.
pub(crate) fn open_process(child: Pid) -> Option<OwnedFd> {
    // SAFETY: pidfd_open takes plain numbers.
    let descriptor = unsafe { libc::syscall(libc::SYS_pidfd_open, child.raw(), 0) };
    let descriptor = cvt(descriptor as i32).ok()?;
    // SAFETY: pidfd_open just made it, so that nobody else owns it.
    let descriptor = unsafe { OwnedFd::from_raw_fd(descriptor) };
    super::descriptor::above_streams(descriptor).ok()
}

/// waitid(2) by `P_PIDFD`: reaps a process that has ended, if it is a child of
/// this one. Orphans become that of a subreaper, and of the first process in a pid
/// namespace.
pub(crate) fn reap(process: BorrowedFd<'_>) {
    let mut information = MaybeUninit::<libc::siginfo_t>::zeroed();
    // SAFETY: `information` is valid for writes of its size.
    unsafe {
        libc::waitid(
            libc::P_PIDFD,
            process.as_raw_fd() as libc::id_t,
            information.as_mut_ptr(),
            libc::WEXITED | libc::WNOHANG,
        )
    };
}

/// pidfd_send_signal(2). Where a sandbox lets pidfd_open(2) pass, but not this,
/// kill(2), with the number that proc(5) has for the descriptor: a process that
/// ends, is reaped and has its number taken by another between the two calls is
/// not the one that gets the signal.
pub(crate) fn signal_process(process: BorrowedFd<'_>, signal: Signal) -> Result<(), Errno> {
    // SAFETY: the descriptor is open, and a null siginfo means kill(2)'s own.
    let returned = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            process.as_raw_fd(),
            signal.0,
            ptr::null::<libc::siginfo_t>(),
            0,
        )
    };
    match cvt(returned as i32) {
        // EPERM is also what a process gets that may not signal the other: as it
        // will from kill(2).
        Err(refusal @ (libc::ENOSYS | libc::EPERM | libc::EACCES)) => match number_of(process) {
            Some(pid) => kill(pid, signal),
            None => Err(refusal),
        },
        other => other.map(drop),
    }
}

/// The pid of a process, as proc(5), /proc/self/fdinfo, has it for its descriptor:
/// -1 once the process was reaped, and 0 in another pid namespace.
fn number_of(process: BorrowedFd<'_>) -> Option<Pid> {
    let information = fs::read_to_string(format!("/proc/self/fdinfo/{}", process.as_raw_fd()));
    let information = information.ok()?;
    let number = information
        .lines()
        .find_map(|line| line.strip_prefix("Pid:"))?;
    Pid::from_number(number.trim().parse().ok()?)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_process_that_is_gone_was_ending() {
        let mut child = Command::new("true").spawn().expect("start a process");
        child.wait().expect("wait for it");
        let gone = Pid::from_number(child.id()).expect("a pid");
        assert!(is_ending(gone));
        assert!(!is_ending(Pid::current()));
    }

    #[test]
    fn the_number_of_an_open_process_is_its_pid() {
        let mut child = Command::new("true").spawn().expect("start a process");
        let pid = Pid::from_number(child.id()).expect("a pid");
        let process = open_process(pid).expect("Linux 5.3");
        assert_eq!(number_of(process.as_fd()), Some(pid));
        child.wait().expect("wait for it");
        assert_eq!(number_of(process.as_fd()), None);
    }

    /// Where a sandbox forbids the call, it does so to a lone thread, too.
    #[test]
    fn the_kernel_answers_a_lone_thread_as_such() {
        let expected = match unshare_memory() {
            Err(libc::EPERM) => Answer::Invalid { threads: 1 },
            _ => Answer::Success,
        };
        assert_eq!(Answer::to_a_lone_thread(), Some(expected));
    }

    #[test]
    fn threads_are_listed_by_name() {
        let names = thread_names().expect("/proc");
        let mine = std::thread::current().name().map(str::to_owned);
        let mine = mine.map(|name| name.chars().take(15).collect());
        assert!(names.contains(&mine), "{names:?} {mine:?}");
    }

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
