//! FreeBSD: sysctl(3) shows what a process has, without procfs. Structures are those of
//! sys/user.h, which FreeBSD extends, but does not change.
//!
//! Every user may read `kern.proc.pid`, `.groups` and `.rlimit` of a process. The files, the
//! directories and the umask want the right to debug the process (`p_candebug` of
//! sys/kern/kern_prot.c): root, or its user unless it has changed its ids.

use std::ffi::{c_int, c_long};
use std::io;
use std::mem::offset_of;
use std::os::fd::RawFd;

use libc::kinfo_proc;

use super::posix::{file_type, special_device};
use super::record::Record;
use super::{Mark, Process, posix, unless_forbidden};
use crate::config::Bytes;
use crate::report::{
    AccessMode, Descriptor, FileType, IdTriple, Place, Report, SignalSet, Terminal,
};
use crate::sys;

pub use super::posix::prepare;

pub const EXISTS: bool = true;

/// `SIGPROP_IGNORE` of sys/kern/kern_sig.c. SIGCONT is never shown as ignored, the others always
/// unless they are caught.
pub(super) const IGNORED_BY_DEFAULT: &[i32] = &[
    libc::SIGURG,
    libc::SIGCONT,
    libc::SIGCHLD,
    libc::SIGIO,
    libc::SIGWINCH,
    libc::SIGINFO,
];

/// The threads library handles it, and does not show it.
pub(super) const RESERVED_SIGNALS: &[i32] = &[libc::SIGTHR];

pub const UNSEEN: &[&str] = &["close_on_exec"];

/// Whether the observer sees this field of every process.
pub(super) fn is_seen_outside(field: &str) -> bool {
    let needs_debugging = ["umask", "working_directory", "root", "descriptors"];
    !needs_debugging.contains(&field) || sys::effective_user() == 0
}

/// The calling process.
///
/// # Errors
///
/// Those of the system calls.
pub fn inside() -> io::Result<Report> {
    let pid = std::process::id();
    let kernel = value(libc::KERN_PROC_PID, pid)?;
    let kernel = Kernel::of(&kernel)?;
    let bytes = value(libc::KERN_PROC_FILEDESC, pid)?;
    let files: Vec<OpenFile<'_>> = Files(&bytes).collect::<io::Result<_>>()?;
    let numbers = files.iter().map(|file| file.number);
    let numbers: Vec<RawFd> = numbers.filter(|&number| number >= 0).collect();
    let report = posix::inside(&numbers)?;
    Ok(Report {
        terminal: Some(kernel.terminal()?),
        threads: Some(kernel.threads()?),
        no_new_privileges: sys::has_no_new_privileges(pid)?,
        working_directory: (report.working_directory)
            .or_else(|| place_of(&files, libc::KF_FD_TYPE_CWD)),
        ..report
    })
}

/// Another process.
///
/// # Errors
///
/// When there is no such process. A field that may not be read is `None`.
pub fn outside(pid: u32) -> io::Result<Report> {
    let bytes = value(libc::KERN_PROC_PID, pid)?;
    let kernel = Kernel::of(&bytes)?;
    let process = kernel.process()?;
    // `sysctl_kern_proc_groups` of sys/kern/kern_proc.c writes the effective gid first. Before
    // FreeBSD 15 it is one of the groups, too.
    let groups = value(libc::KERN_PROC_GROUPS, pid)?;
    let groups = groups.chunks_exact(4).map(|gid| Record(gid).u32(0));
    let mut groups: Vec<u32> = groups.collect::<io::Result<_>>()?;
    let effective_gid = *groups
        .first()
        .ok_or_else(|| io::Error::from_raw_os_error(libc::ESRCH))?;
    groups.sort_unstable();
    let umask = unless_forbidden(value(libc::KERN_PROC_UMASK, pid))?;
    let umask = umask.map(|umask| Record(&umask).u16(0)).transpose()?;
    let bytes = unless_forbidden(value(libc::KERN_PROC_FILEDESC, pid))?;
    let files = bytes.as_deref().map(|files| Files(files).collect());
    let files: Option<Vec<OpenFile<'_>>> = files.transpose()?;
    let place = |number| place_of(files.as_deref()?, number);
    Ok(Report {
        pid: process.pid,
        ppid: process.ppid,
        pgid: process.pgid,
        sid: Some(kernel.0.u32(offset_of!(kinfo_proc, ki_sid))?),
        terminal: Some(kernel.terminal()?),
        umask: umask.map(u32::from),
        uid: Some(IdTriple {
            real: kernel.0.u32(offset_of!(kinfo_proc, ki_ruid))?,
            effective: kernel.0.u32(offset_of!(kinfo_proc, ki_uid))?,
            saved: Some(kernel.0.u32(offset_of!(kinfo_proc, ki_svuid))?),
        }),
        gid: Some(IdTriple {
            real: kernel.0.u32(offset_of!(kinfo_proc, ki_rgid))?,
            effective: effective_gid,
            saved: Some(kernel.0.u32(offset_of!(kinfo_proc, ki_svgid))?),
        }),
        groups: Some(groups),
        working_directory: place(libc::KF_FD_TYPE_CWD),
        root: place(libc::KF_FD_TYPE_ROOT),
        descriptors: files.as_ref().map(|files| {
            let descriptors = files.iter().filter(|file| file.number >= 0);
            descriptors.map(|file| file.descriptor.clone()).collect()
        }),
        blocked_signals: Some(kernel.signals(offset_of!(kinfo_proc, ki_sigmask))?),
        ignored_signals: Some(kernel.signals(offset_of!(kinfo_proc, ki_sigignore))?),
        caught_signals: Some(kernel.signals(offset_of!(kinfo_proc, ki_sigcatch))?),
        no_new_privileges: sys::has_no_new_privileges(pid)?,
        threads: Some(kernel.threads()?),
        ..Report::default()
    })
}

/// Sets the soft limit `RLIMIT_SWAP` to the [`Mark`] of the case. No machine has as much swap
/// space, so that the limit has no effect. `KERN_PROC_ENV` shows an environment only to a process
/// that may debug the other, and shows what the program was started with.
///
/// # Errors
///
/// Those of setrlimit(2).
pub fn enroll(token: &str) -> io::Result<()> {
    sys::set_marked_limit(Mark::of(token)?.0)
}

/// The living processes of the case with this token.
///
/// # Errors
///
/// When the processes cannot be listed.
pub fn processes_of(token: &str) -> io::Result<Vec<Process>> {
    let mark = Mark::of(token)?;
    let list = sys::sysctl(&[libc::CTL_KERN, libc::KERN_PROC, libc::KERN_PROC_PROC])?;
    let mut found = Vec::new();
    for bytes in list.chunks_exact(size_of::<kinfo_proc>()) {
        let kernel = Kernel::of(bytes)?;
        if kernel.has_ended()? {
            continue;
        }
        let process = kernel.process()?;
        let pid = c_int::try_from(process.pid).map_err(io::Error::other)?;
        let limit = sys::sysctl(&[
            libc::CTL_KERN,
            libc::KERN_PROC,
            libc::KERN_PROC_RLIMIT,
            pid,
            libc::RLIMIT_SWAP,
        ]);
        // A process whose limit cannot be read has ended.
        if limit.is_ok_and(|limit| Record(&limit).u64(0).is_ok_and(|soft| soft == mark.0)) {
            found.push(process);
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
    match value(libc::KERN_PROC_PID, pid) {
        Ok(bytes) => Kernel::of(&bytes)?.process().map(Some),
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The value `kern.proc.<what>.<pid>`.
fn value(what: c_int, pid: u32) -> io::Result<Vec<u8>> {
    let pid = c_int::try_from(pid).map_err(io::Error::other)?;
    let bytes = sys::sysctl(&[libc::CTL_KERN, libc::KERN_PROC, what, pid])?;
    match bytes.is_empty() {
        // FreeBSD writes nothing for a process that has just ended.
        true => Err(io::Error::from_raw_os_error(libc::ESRCH)),
        false => Ok(bytes),
    }
}

/// A `struct kinfo_proc`.
struct Kernel<'bytes>(Record<'bytes>);

impl<'bytes> Kernel<'bytes> {
    fn of(bytes: &'bytes [u8]) -> io::Result<Self> {
        let record = Record(bytes);
        let size = record.i32(offset_of!(kinfo_proc, ki_structsize))?;
        match usize::try_from(size) == Ok(size_of::<kinfo_proc>()) {
            true => Ok(Self(record)),
            false => Err(io::Error::other(format!("a kinfo_proc of {size} bytes"))),
        }
    }

    fn process(&self) -> io::Result<Process> {
        Ok(Process {
            pid: self.0.u32(offset_of!(kinfo_proc, ki_pid))?,
            ppid: self.0.u32(offset_of!(kinfo_proc, ki_ppid))?,
            pgid: self.0.u32(offset_of!(kinfo_proc, ki_pgid))?,
            state: self.state()?,
            name: String::from_utf8_lossy(self.0.text(offset_of!(kinfo_proc, ki_comm)))
                .into_owned(),
        })
    }

    /// `SRUN` and others of sys/proc.h, as ps(1) shows them. A process that waits for a lock of
    /// the kernel (`SLOCK`) does so only for an instant.
    fn state(&self) -> io::Result<char> {
        /// `TDF_SINTR`: a signal interrupts the sleep.
        const IS_INTERRUPTIBLE: c_long = 0x8;
        let flags = self.0.long(offset_of!(kinfo_proc, ki_tdflags))?;
        Ok(match self.0.u8(offset_of!(kinfo_proc, ki_stat))? {
            1 | 2 => 'R',
            3 if flags & IS_INTERRUPTIBLE != 0 => 'S',
            4 => 'T',
            5 => 'Z',
            6 => 'W',
            _ => 'D',
        })
    }

    /// Whether it runs no more code of its own: it is a zombie, or in its exit (`P_WEXIT` of
    /// sys/proc.h).
    fn has_ended(&self) -> io::Result<bool> {
        const IS_EXITING: c_long = 0x2000;
        let flags = self.0.long(offset_of!(kinfo_proc, ki_flag))?;
        Ok(flags & IS_EXITING != 0 || self.state()? == 'Z')
    }

    fn terminal(&self) -> io::Result<Terminal> {
        /// `NODEV`
        const NONE: u64 = u64::MAX;
        Ok(match self.0.u64(offset_of!(kinfo_proc, ki_tdev))? {
            NONE => Terminal::None,
            device => Terminal::Device(device),
        })
    }

    fn threads(&self) -> io::Result<u32> {
        self.0.u32(offset_of!(kinfo_proc, ki_numthreads))
    }

    /// A `sigset_t`: four words, the first signals in the first.
    fn signals(&self, at: usize) -> io::Result<SignalSet> {
        (0..4).try_fold(SignalSet::default(), |set, word| {
            let bits = u128::from(self.0.u32(at + 4 * word)?);
            Ok(SignalSet(set.0 | bits << (32 * word)))
        })
    }
}

/// The records of `KERN_PROC_FILEDESC`, each a `struct kinfo_file` of variable size.
struct Files<'bytes>(&'bytes [u8]);

/// A record: an open file, or with a negative number the working directory or another.
struct OpenFile<'bytes> {
    number: RawFd,
    descriptor: Descriptor,
    path: &'bytes [u8],
}

impl OpenFile<'_> {
    fn place(&self) -> Option<Place> {
        Some(Place {
            device: self.descriptor.device?,
            inode: self.descriptor.inode?,
            path: Some(Bytes(self.path.to_owned())),
        })
    }
}

/// The place of the file with this number: `KF_FD_TYPE_CWD` or another.
fn place_of(files: &[OpenFile<'_>], number: RawFd) -> Option<Place> {
    files.iter().find(|file| file.number == number)?.place()
}

impl<'bytes> Iterator for Files<'bytes> {
    type Item = io::Result<OpenFile<'bytes>>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let length = Record(self.0).i32(offset_of!(libc::kinfo_file, kf_structsize));
        let length = length.ok().and_then(|length| usize::try_from(length).ok());
        let parts = length.filter(|&length| length > 0);
        let Some((record, rest)) = parts.and_then(|length| self.0.split_at_checked(length)) else {
            self.0 = &[];
            return Some(Err(io::Error::other("a kinfo_file of a wrong length")));
        };
        self.0 = rest;
        Some(open_file(Record(record)))
    }
}

fn open_file(record: Record<'_>) -> io::Result<OpenFile<'_>> {
    use libc::kinfo_file;

    // libc does not declare the union `kf_un`, which follows `kf_offset`.
    const UNION: usize = offset_of!(kinfo_file, kf_offset) + 8;
    // `kf_file`: the type and 3 spare ints, 30 numbers of 64 bits, fsid, rdev, fileid, size, the
    // ids of FreeBSD 11, and the mode.
    const DEVICE: usize = UNION + 4 * 4 + 30 * 8;
    const SPECIAL_DEVICE: usize = DEVICE + 8;
    const INODE: usize = DEVICE + 16;
    const MODE: usize = DEVICE + 40;
    // `kf_pts`: 4 ints, 32 numbers of 64 bits, two ints, and the device.
    const TERMINAL: usize = UNION + 4 * 4 + 32 * 8 + 8;

    let number = record.i32(offset_of!(kinfo_file, kf_fd))?;
    let flags = record.i32(offset_of!(kinfo_file, kf_flags))?;
    let has = |flag| flags & flag != 0;
    let is_valid =
        i32::from(record.u16(offset_of!(kinfo_file, kf_status))?) & libc::KF_ATTR_VALID != 0;
    let kind = record.i32(offset_of!(kinfo_file, kf_type))?;
    let is_file = is_valid && [libc::KF_TYPE_VNODE, libc::KF_TYPE_FIFO].contains(&kind);
    let file_type = match kind {
        _ if is_file => file_type(record.u16(MODE)?.into()),
        libc::KF_TYPE_PIPE => FileType::Pipe,
        libc::KF_TYPE_SOCKET => FileType::Socket,
        libc::KF_TYPE_PTS => FileType::CharacterDevice,
        _ => FileType::Other,
    };
    let special = if is_file { SPECIAL_DEVICE } else { TERMINAL };
    let path = record.text(offset_of!(kinfo_file, kf_path));
    Ok(OpenFile {
        number,
        path,
        descriptor: Descriptor {
            number,
            device: is_file.then(|| record.u64(DEVICE)).transpose()?,
            inode: is_file.then(|| record.u64(INODE)).transpose()?,
            file_type,
            special_device: special_device(file_type, record.u64(special)?),
            access: match (has(libc::KF_FLAG_READ), has(libc::KF_FLAG_WRITE)) {
                (true, true) => AccessMode::ReadWrite,
                (true, false) => AccessMode::Read,
                (false, true) => AccessMode::Write,
                (false, false) => AccessMode::PathOnly,
            },
            close_on_exec: None,
            nonblocking: has(libc::KF_FLAG_NONBLOCK),
            append: has(libc::KF_FLAG_APPEND),
            locked: Some(has(libc::KF_FLAG_HASLOCK)),
            target: (!path.is_empty()).then(|| Bytes(path.to_owned())),
        },
    })
}
