//! OpenBSD: sysctl(3) shows all of a process but its umask, to every user (`sysctl_doproc` and
//! `sysctl_file` of sys/kern/kern_sysctl.c).

use std::io;
use std::mem::offset_of;
use std::os::fd::RawFd;

use libc::{kinfo_file, kinfo_proc};

use super::kinfo::{KERN_PROC, Kernel, records, signed};
use super::posix::{self, file_type, special_device};
use super::record::Record;
use crate::report::{AccessMode, Descriptor, FileType, Place, Report, SignalSet};

pub(super) use super::kinfo::IGNORED_BY_DEFAULT;
pub use super::kinfo::{enroll, process, processes_of};
pub use super::posix::prepare;

pub const EXISTS: bool = true;

/// `SIGTHR`, which the threads library handles.
pub(super) const RESERVED_SIGNALS: &[i32] = &[32];

pub const UNSEEN: &[&str] = &["umask"];

/// Whether the observer sees this field of every process.
pub(super) fn is_seen_outside(field: &str) -> bool {
    !UNSEEN.contains(&field)
}

/// The calling process.
///
/// # Errors
///
/// Those of the system calls.
pub fn inside() -> io::Result<Report> {
    let pid = std::process::id();
    let bytes = Kernel::read(pid)?;
    let kernel = Kernel::of(&bytes)?;
    let files = files(pid)?;
    let numbers: Vec<RawFd> = files.iter().map(|file| file.number).collect();
    Ok(Report {
        terminal: Some(kernel.terminal()?),
        threads: Some(threads(pid)?),
        ..posix::inside(&numbers[numbers.partition_point(|&number| number < 0)..])?
    })
}

/// Another process.
///
/// # Errors
///
/// When there is no such process.
pub fn outside(pid: u32) -> io::Result<Report> {
    let bytes = Kernel::read(pid)?;
    let kernel = Kernel::of(&bytes)?;
    let files = files(pid)?;
    let place = |number| {
        let file = files.iter().find(|file| file.number == number)?;
        Some(Place {
            device: file.device?,
            inode: file.inode?,
            path: None,
        })
    };
    let root = match place(libc::KERN_FILE_RDIR) {
        // A process without a root directory of its own has that of the system.
        None => Place::of("/".as_ref())?,
        Some(place) => place,
    };
    let descriptors = files.iter().filter(|file| file.number >= 0);
    Ok(Report {
        working_directory: place(libc::KERN_FILE_CDIR),
        root: Some(root),
        descriptors: Some(descriptors.cloned().collect()),
        blocked_signals: Some(signals(&kernel, offset_of!(kinfo_proc, p_sigmask))?),
        ignored_signals: Some(signals(&kernel, offset_of!(kinfo_proc, p_sigignore))?),
        caught_signals: Some(signals(&kernel, offset_of!(kinfo_proc, p_sigcatch))?),
        threads: Some(threads(pid)?),
        ..kernel.report()?
    })
}

/// The list has a record of the process, and one of each thread.
fn threads(pid: u32) -> io::Result<u32> {
    let what = libc::KERN_PROC_PID | libc::KERN_PROC_SHOW_THREADS;
    let size = size_of::<kinfo_proc>();
    let list = records(KERN_PROC, what, signed(pid)?, size)?;
    let threads = (list.len() / size).saturating_sub(1);
    u32::try_from(threads).map_err(io::Error::other)
}

/// A `sigset_t`: 32 signals.
fn signals(kernel: &Kernel<'_>, at: usize) -> io::Result<SignalSet> {
    Ok(SignalSet(kernel.0.u32(at)?.into()))
}

/// `PS_EXITING` of sys/proc.h.
const IS_EXITING: u32 = 0x8;
/// `PS_ZOMBIE`
const IS_ZOMBIE: u32 = 0x4_0000;

/// Whether it runs no more code of its own: it is a zombie, or in its exit.
pub(super) fn has_ended(kernel: &Kernel<'_>) -> io::Result<bool> {
    let flags = kernel.0.u32(offset_of!(kinfo_proc, p_psflags))?;
    Ok(flags & (IS_EXITING | IS_ZOMBIE) != 0)
}

/// `SRUN` and others of sys/proc.h, as ps(1) shows them.
pub(super) fn state(kernel: &Kernel<'_>) -> io::Result<char> {
    if kernel.0.u32(offset_of!(kinfo_proc, p_psflags))? & IS_ZOMBIE != 0 {
        return Ok('Z');
    }
    Ok(match kernel.0.u8(offset_of!(kinfo_proc, p_stat))? {
        2 | 7 => 'R',
        3 => 'S',
        4 => 'T',
        _ => 'D',
    })
}

/// `KERN_FILE_BYPID`: the open files in order and, with negative numbers, the directories and the
/// program. It lists nothing of a zombie.
fn files(pid: u32) -> io::Result<Vec<Descriptor>> {
    let size = size_of::<kinfo_file>();
    let files = records(libc::KERN_FILE, libc::KERN_FILE_BYPID, signed(pid)?, size)?;
    let files = files.chunks_exact(size).map(|file| open_file(Record(file)));
    let mut files: Vec<Descriptor> = files.collect::<io::Result<_>>()?;
    files.sort_unstable_by_key(|file| file.number);
    Ok(files)
}

fn open_file(record: Record<'_>) -> io::Result<Descriptor> {
    /// `FREAD` and others of sys/fcntl.h.
    const READ: u32 = 1;
    const WRITE: u32 = 2;
    const NONBLOCKING: u32 = 4;
    const APPEND: u32 = 8;
    /// `FIF_HASLOCK` of sys/file.h.
    const HAS_LOCK: u32 = 1;
    /// `UF_EXCLOSE` of sys/filedesc.h.
    const CLOSE_ON_EXEC: u32 = 1;

    let flags = record.u32(offset_of!(kinfo_file, f_flag))?;
    let kind = record.i32(offset_of!(kinfo_file, f_type))?;
    let is_file = kind == libc::DTYPE_VNODE;
    let file_type = match kind {
        libc::DTYPE_VNODE => file_type(record.u32(offset_of!(kinfo_file, va_mode))?),
        libc::DTYPE_SOCKET => FileType::Socket,
        libc::DTYPE_PIPE => FileType::Pipe,
        _ => FileType::Other,
    };
    let special = device(record.i32(offset_of!(kinfo_file, va_rdev))?);
    let inode = record.u64(offset_of!(kinfo_file, va_fileid))?;
    let file_system = device(record.i32(offset_of!(kinfo_file, va_fsid))?);
    Ok(Descriptor {
        number: record.i32(offset_of!(kinfo_file, fd_fd))?,
        device: is_file.then_some(file_system),
        inode: is_file.then_some(inode),
        file_type,
        special_device: special_device(file_type, special),
        access: match (flags & READ != 0, flags & WRITE != 0) {
            (true, true) => AccessMode::ReadWrite,
            (true, false) => AccessMode::Read,
            (false, true) => AccessMode::Write,
            (false, false) => AccessMode::PathOnly,
        },
        close_on_exec: Some(
            record.u32(offset_of!(kinfo_file, fd_ofileflags))? & CLOSE_ON_EXEC != 0,
        ),
        nonblocking: flags & NONBLOCKING != 0,
        append: flags & APPEND != 0,
        locked: Some(record.u32(offset_of!(kinfo_file, f_iflags))? & HAS_LOCK != 0),
        target: None,
    })
}

/// stat(2) returns a device as a signed number.
fn device(number: i32) -> u64 {
    u64::from_ne_bytes(i64::from(number).to_ne_bytes())
}
