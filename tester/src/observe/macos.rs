//! macOS: sysctl(3) and libproc show what a process has. Structures are those of
//! sys/sysctl.h, sys/proc.h and sys/proc_info.h of XNU, which libc declares in part.
//!
//! Every user may read `kern.proc`. libproc shows the rest to root and to the user of the process
//! (`proc_security_policy` of bsd/kern/proc_info.c).

use std::ffi::c_int;
use std::io;
use std::mem::offset_of;
use std::os::fd::RawFd;

use super::posix::{file_type, special_device};
use super::record::Record;
use super::{Process, posix, unless_forbidden};
use crate::config::Bytes;
use crate::control;
use crate::report::{
    AccessMode, Descriptor, FileType, IdTriple, Place, Report, SignalSet, Terminal,
};
use crate::sys;

pub use super::posix::prepare;

pub const EXISTS: bool = true;

/// `SA_IGNORE` of bsd/sys/signalvar.h. SIGCONT is never shown as ignored, the others always unless
/// they are caught.
pub(super) const IGNORED_BY_DEFAULT: &[i32] = &[
    libc::SIGURG,
    libc::SIGCONT,
    libc::SIGCHLD,
    libc::SIGIO,
    libc::SIGWINCH,
    libc::SIGINFO,
];

/// The C library reserves none.
pub(super) const RESERVED_SIGNALS: &[i32] = &[];

/// `p_sigmask` of `struct extern_proc` is deprecated, and zero.
pub const UNSEEN: &[&str] = &["umask", "blocked_signals", "locked"];

/// Whether the observer sees this field of every process.
pub(super) fn is_seen_outside(field: &str) -> bool {
    let of_users_own = ["working_directory", "root", "descriptors", "threads"];
    let is_shown = !of_users_own.contains(&field) || sys::effective_user() == 0;
    is_shown && !UNSEEN.contains(&field)
}

/// The calling process.
///
/// # Errors
///
/// Those of the system calls.
pub fn inside() -> io::Result<Report> {
    let pid = std::process::id();
    let kernel = Kernel::of(pid)?.ok_or_else(no_process)?;
    let numbers: Vec<RawFd> = (listed_descriptors(pid)?.into_iter())
        .map(|(number, _)| number)
        .collect();
    Ok(Report {
        terminal: Some(kernel.terminal()?),
        threads: Some(Task::of(pid)?.threads),
        ..posix::inside(&numbers)?
    })
}

/// Another process.
///
/// # Errors
///
/// When there is no such process. A field that may not be read is `None`.
pub fn outside(pid: u32) -> io::Result<Report> {
    let kernel = Kernel::of(pid)?.ok_or_else(no_process)?;
    let mut groups = kernel.groups()?;
    let effective_gid = *groups.first().ok_or_else(no_process)?;
    groups.sort_unstable();
    let directories = unless_forbidden(Directories::of(pid))?;
    let (working_directory, root) = match directories {
        Some(directories) => (Some(directories.working), Some(directories.root)),
        None => (None, None),
    };
    Ok(Report {
        pid: kernel.u32(PID)?,
        ppid: kernel.u32(PARENT)?,
        pgid: kernel.u32(GROUP)?,
        sid: Some(sys::session(pid)?),
        terminal: Some(kernel.terminal()?),
        uid: Some(IdTriple {
            real: kernel.u32(REAL_USER)?,
            effective: kernel.u32(EFFECTIVE_USER)?,
            saved: Some(kernel.u32(SAVED_USER)?),
        }),
        gid: Some(IdTriple {
            real: kernel.u32(REAL_GROUP)?,
            effective: effective_gid,
            saved: Some(kernel.u32(SAVED_GROUP)?),
        }),
        groups: Some(groups),
        working_directory,
        root,
        descriptors: unless_forbidden(descriptors(pid))?,
        ignored_signals: Some(SignalSet(kernel.u32(IGNORED_SIGNALS)?.into())),
        caught_signals: Some(SignalSet(kernel.u32(CAUGHT_SIGNALS)?.into())),
        threads: unless_forbidden(Task::of(pid))?.map(|task| task.threads),
        ..Report::default()
    })
}

/// Does nothing, since `KERN_PROCARGS2` shows the environment that the program began with: to root
/// that of every process, and to a user that of the user's processes.
///
/// # Errors
///
/// None.
pub fn enroll(_token: &str) -> io::Result<()> {
    Ok(())
}

/// The living processes of the case with this token.
///
/// # Errors
///
/// When the processes cannot be listed.
pub fn processes_of(token: &str) -> io::Result<Vec<Process>> {
    let variable = format!("{}={token}", control::TOKEN);
    let list = sys::sysctl(&[libc::CTL_KERN, libc::KERN_PROC, libc::KERN_PROC_ALL])?;
    let mut found = Vec::new();
    for bytes in list.chunks_exact(KINFO_PROC) {
        let kernel = Kernel(bytes.to_vec());
        let pid = c_int::try_from(kernel.u32(PID)?).map_err(io::Error::other)?;
        if kernel.has_ended()? {
            continue;
        }
        // XNU reports EINVAL for a process that has ended, or that belongs to another user.
        let Ok(arguments) = sys::sysctl(&[libc::CTL_KERN, libc::KERN_PROCARGS2, pid]) else {
            continue;
        };
        if arguments
            .split(|&byte| byte == 0)
            .any(|text| text == variable.as_bytes())
        {
            found.push(kernel.process()?);
        }
    }
    Ok(found)
}

/// One process, which may be a zombie.
///
/// # Errors
///
/// When the process cannot be read.
pub fn process(pid: u32) -> io::Result<Option<Process>> {
    Kernel::of(pid)?.map(|kernel| kernel.process()).transpose()
}

fn no_process() -> io::Error {
    io::Error::from_raw_os_error(libc::ESRCH)
}

/// The size of `struct kinfo_proc`, of which libc declares nothing, and the offsets of its fields
/// on 64-bit systems: `extern_proc` of 296 bytes, then `eproc`.
const KINFO_PROC: usize = 648;
const FLAGS: usize = 32;
const STATUS: usize = 36;
const PID: usize = 40;
const IGNORED_SIGNALS: usize = 232;
const CAUGHT_SIGNALS: usize = 236;
/// Within extern_proc, 17 bytes.
const NAME: usize = 243;
const EPROC: usize = 296;
/// `e_pcred`, after two pointers, with 80 bytes before the ids.
const REAL_USER: usize = EPROC + 16 + 80;
const SAVED_USER: usize = REAL_USER + 4;
const REAL_GROUP: usize = REAL_USER + 8;
const SAVED_GROUP: usize = REAL_USER + 12;
/// `e_ucred`: a count of references, the uid, the number of groups, and 16 groups.
const EFFECTIVE_USER: usize = EPROC + 120 + 4;
const GROUP_COUNT: usize = EFFECTIVE_USER + 4;
const GROUPS: usize = GROUP_COUNT + 4;
/// `e_ppid`, after `e_vm`.
const PARENT: usize = EPROC + 264;
const GROUP: usize = PARENT + 4;
const TERMINAL: usize = PARENT + 12;

/// A `struct kinfo_proc`.
struct Kernel(Vec<u8>);

impl Kernel {
    /// `None` if there is no such process.
    fn of(pid: u32) -> io::Result<Option<Self>> {
        let pid = c_int::try_from(pid).map_err(io::Error::other)?;
        let bytes = sys::sysctl(&[libc::CTL_KERN, libc::KERN_PROC, libc::KERN_PROC_PID, pid])?;
        match bytes.len() {
            0 => Ok(None),
            KINFO_PROC => Ok(Some(Self(bytes))),
            size => Err(io::Error::other(format!("a kinfo_proc of {size} bytes"))),
        }
    }

    fn u32(&self, at: usize) -> io::Result<u32> {
        Record(&self.0).u32(at)
    }

    /// The effective gid is the first.
    fn groups(&self) -> io::Result<Vec<u32>> {
        let count = Record(&self.0).u16(GROUP_COUNT)?;
        let at = |index| GROUPS + 4 * usize::from(index);
        (0..count.min(16))
            .map(|index| self.u32(at(index)))
            .collect()
    }

    fn terminal(&self) -> io::Result<Terminal> {
        /// `NODEV`
        const NONE: u32 = u32::MAX;
        Ok(match self.u32(TERMINAL)? {
            NONE => Terminal::None,
            device => Terminal::Device(device.into()),
        })
    }

    fn status(&self) -> io::Result<u8> {
        Record(&self.0).u8(STATUS)
    }

    /// Whether it runs no more code of its own: it is a zombie, or in its exit (`P_WEXIT` of
    /// sys/proc.h).
    fn has_ended(&self) -> io::Result<bool> {
        const IS_EXITING: u32 = 0x2000;
        Ok(self.u32(FLAGS)? & IS_EXITING != 0 || self.status()? == ZOMBIE)
    }

    fn process(&self) -> io::Result<Process> {
        let pid = self.u32(PID)?;
        Ok(Process {
            pid,
            ppid: self.u32(PARENT)?,
            pgid: self.u32(GROUP)?,
            state: match self.status()? {
                ZOMBIE => 'Z',
                STOPPED => 'T',
                // XNU calls every other process runnable. Its threads know better.
                _ => match unless_forbidden(Task::of(pid)) {
                    Ok(Some(task)) if task.running == 0 => 'S',
                    Ok(Some(_)) => 'R',
                    // It belongs to another user, or has ended.
                    Ok(None) | Err(_) => '?',
                },
            },
            name: String::from_utf8_lossy(Record(&self.0[..NAME + 17]).text(NAME)).into_owned(),
        })
    }
}

/// `SSTOP` and `SZOMB` of sys/proc.h.
const STOPPED: u8 = 4;
const ZOMBIE: u8 = 5;

/// `PROC_PIDTASKINFO`: the threads of a process.
struct Task {
    threads: u32,
    running: u32,
}

impl Task {
    fn of(pid: u32) -> io::Result<Self> {
        let size = size_of::<libc::proc_taskinfo>();
        let bytes = sys::process_information(pid, libc::PROC_PIDTASKINFO, size)?;
        Ok(Self {
            threads: Record(&bytes).u32(offset_of!(libc::proc_taskinfo, pti_threadnum))?,
            running: Record(&bytes).u32(offset_of!(libc::proc_taskinfo, pti_numrunning))?,
        })
    }
}

/// `PROC_PIDVNODEPATHINFO`
struct Directories {
    working: Place,
    root: Place,
}

impl Directories {
    fn of(pid: u32) -> io::Result<Self> {
        let size = size_of::<libc::proc_vnodepathinfo>();
        let bytes = sys::process_information(pid, libc::PROC_PIDVNODEPATHINFO, size)?;
        let working = offset_of!(libc::proc_vnodepathinfo, pvi_cdir);
        let root = offset_of!(libc::proc_vnodepathinfo, pvi_rdir);
        Ok(Self {
            working: place(Record(&bytes), working)?,
            root: match place(Record(&bytes), root)? {
                // A process without a root directory of its own has that of the system.
                Place { inode: 0, .. } => Place::of("/".as_ref())?,
                place => place,
            },
        })
    }
}

/// A `struct vnode_info_path`.
fn place(record: Record<'_>, at: usize) -> io::Result<Place> {
    let stat = at + offset_of!(libc::vnode_info_path, vip_vi.vi_stat);
    let path = record.text(at + offset_of!(libc::vnode_info_path, vip_path));
    Ok(Place {
        device: device(record.i32(stat + offset_of!(libc::vinfo_stat, vst_dev))?),
        inode: record.u64(stat + offset_of!(libc::vinfo_stat, vst_ino))?,
        path: Some(Bytes(path.to_owned())),
    })
}

/// stat(2) returns a device as a signed number.
fn device(number: i32) -> u64 {
    u64::from_ne_bytes(i64::from(number).to_ne_bytes())
}

/// `PROC_PIDLISTFDS`: the descriptors and their types, in order.
fn listed_descriptors(pid: u32) -> io::Result<Vec<(RawFd, u32)>> {
    use libc::proc_fdinfo;

    // The process may open more files in between.
    let mut size = sys::size_of_descriptor_list(pid)? + 32 * size_of::<proc_fdinfo>();
    let list = loop {
        let list = sys::process_information(pid, libc::PROC_PIDLISTFDS, size)?;
        if list.len() < size {
            break list;
        }
        size *= 2;
    };
    let listed = list.chunks_exact(size_of::<proc_fdinfo>()).map(|record| {
        let number = Record(record).i32(offset_of!(proc_fdinfo, proc_fd))?;
        Ok((
            number,
            Record(record).u32(offset_of!(proc_fdinfo, proc_fdtype))?,
        ))
    });
    let mut listed: Vec<_> = listed.collect::<io::Result<_>>()?;
    listed.sort_unstable();
    Ok(listed)
}

fn descriptors(pid: u32) -> io::Result<Vec<Descriptor>> {
    let listed = listed_descriptors(pid)?.into_iter();
    listed
        .filter_map(|(number, kind)| match descriptor(pid, number, kind) {
            // The process has closed it since.
            Err(error) if error.raw_os_error() == Some(libc::EBADF) => None,
            found => Some(found),
        })
        .collect()
}

fn descriptor(pid: u32, number: RawFd, kind: u32) -> io::Result<Descriptor> {
    // `proc_fdtype` of sys/proc_info.h, with the flavor of `proc_pidfdinfo`.
    const FILE: (u32, c_int) = (1, 2);
    const SOCKET: (u32, c_int) = (2, 3);
    const SHARED_MEMORY: (u32, c_int) = (3, 5);
    const SEMAPHORE: (u32, c_int) = (4, 4);
    const EVENT_QUEUE: (u32, c_int) = (5, 7);
    const PIPE: (u32, c_int) = (6, 6);
    /// `FREAD` and others of sys/fcntl.h.
    const READ: u32 = 1;
    const WRITE: u32 = 2;
    const NONBLOCKING: u32 = 4;
    const APPEND: u32 = 8;
    /// `PROC_FP_CLEXEC`
    const CLOSE_ON_EXEC: u32 = 2;
    /// Each structure begins with a `struct proc_fileinfo`: flags, status, offset, two ints.
    const FLAGS: usize = 0;
    const STATUS: usize = 4;
    const DETAILS: usize = 24;
    /// The longest is `struct vnode_fdinfowithpath`.
    const SIZE: usize = DETAILS + size_of::<libc::vnode_info_path>();

    let kinds = [FILE, SOCKET, SHARED_MEMORY, SEMAPHORE, EVENT_QUEUE, PIPE];
    let known = kinds.into_iter().find(|known| known.0 == kind);
    let Some((_, flavor)) = known else {
        let text = format!("descriptor {number} of process {pid} has the unknown type {kind}");
        return Err(io::Error::other(text));
    };
    let bytes = sys::descriptor_information(pid, number, flavor, SIZE)?;
    let record = Record(&bytes);
    let flags = record.u32(FLAGS)?;
    let stat = DETAILS + offset_of!(libc::vnode_info_path, vip_vi.vi_stat);
    let mut descriptor = Descriptor {
        number,
        device: None,
        inode: None,
        file_type: match known {
            Some(SOCKET) => FileType::Socket,
            Some(PIPE) => FileType::Pipe,
            _ => FileType::Other,
        },
        special_device: 0,
        access: match (flags & READ != 0, flags & WRITE != 0) {
            (true, true) => AccessMode::ReadWrite,
            (true, false) => AccessMode::Read,
            (false, true) => AccessMode::Write,
            (false, false) => AccessMode::PathOnly,
        },
        close_on_exec: Some(record.u32(STATUS)? & CLOSE_ON_EXEC != 0),
        nonblocking: flags & NONBLOCKING != 0,
        append: flags & APPEND != 0,
        locked: None,
        target: None,
    };
    if known == Some(FILE) {
        let place = place(record, DETAILS)?;
        let mode = record.u16(stat + offset_of!(libc::vinfo_stat, vst_mode))?;
        let special = record.i32(stat + offset_of!(libc::vinfo_stat, vst_rdev))?;
        descriptor.file_type = file_type(mode.into());
        descriptor.special_device = special_device(descriptor.file_type, device(special));
        (descriptor.device, descriptor.inode) = (Some(place.device), Some(place.inode));
        descriptor.target = place.path;
    }
    Ok(descriptor)
}
