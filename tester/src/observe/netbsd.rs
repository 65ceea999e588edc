//! NetBSD: sysctl(3) shows the ids and signals of a process. It shows no umask, and of an open file
//! neither device nor inode, so that the files of another process are not observed.

use std::io;
use std::mem::offset_of;
use std::os::fd::RawFd;

use libc::{kinfo_file, kinfo_proc2};

use super::kinfo::{Kernel, records, signed};
use super::posix;
use super::record::Record;
use crate::report::{Report, SignalSet};

pub(super) use super::kinfo::IGNORED_BY_DEFAULT;
pub use super::kinfo::{enroll, process, processes_of};
pub use super::posix::prepare;

pub const EXISTS: bool = true;

/// The C library reserves none.
pub(super) const RESERVED_SIGNALS: &[i32] = &[];

pub const UNSEEN: &[&str] = &[
    "umask",
    "working_directory",
    "root",
    "descriptors",
    "close_on_exec",
    "locked",
];

/// Whether the observer sees this field of every process.
pub(super) fn is_seen_outside(field: &str) -> bool {
    !UNSEEN.contains(&field) && field != "blocked_signals"
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
    let size = size_of::<kinfo_file>();
    let files = records(libc::KERN_FILE2, libc::KERN_FILE_BYPID, signed(pid)?, size)?;
    let numbers = files.chunks_exact(size);
    let numbers = numbers.map(|file| Record(file).i32(offset_of!(kinfo_file, ki_fd)));
    let mut numbers: Vec<RawFd> = numbers.collect::<io::Result<_>>()?;
    numbers.sort_unstable();
    Ok(Report {
        terminal: Some(kernel.terminal()?),
        threads: Some(threads(&kernel)?),
        ..posix::inside(&numbers)?
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
    let threads = threads(&kernel)?;
    // `fill_kproc2` of sys/kern/kern_proc.c unites the masks of all threads.
    let blocked = match threads {
        1 => Some(signals(&kernel, offset_of!(kinfo_proc2, p_sigmask))?),
        _ => None,
    };
    Ok(Report {
        blocked_signals: blocked,
        ignored_signals: Some(signals(&kernel, offset_of!(kinfo_proc2, p_sigignore))?),
        caught_signals: Some(signals(&kernel, offset_of!(kinfo_proc2, p_sigcatch))?),
        threads: Some(threads),
        ..kernel.report()?
    })
}

fn threads(kernel: &Kernel<'_>) -> io::Result<u32> {
    let count = kernel.0.u64(offset_of!(kinfo_proc2, p_nlwps))?;
    u32::try_from(count).map_err(io::Error::other)
}

/// A `ki_sigset_t`: four words, the first signals in the first.
fn signals(kernel: &Kernel<'_>, at: usize) -> io::Result<SignalSet> {
    (0..4).try_fold(SignalSet::default(), |set, word| {
        let bits = u128::from(kernel.0.u32(at + 4 * word)?);
        Ok(SignalSet(set.0 | bits << (32 * word)))
    })
}

/// `SDYING`, `SZOMB` and `SDEAD` of sys/proc.h.
const ENDED: [u64; 3] = [3, 5, 6];

/// Whether it runs no more code of its own: it is a zombie, or in its exit.
pub(super) fn has_ended(kernel: &Kernel<'_>) -> io::Result<bool> {
    let status = kernel.0.u64(offset_of!(kinfo_proc2, p_realstat))?;
    Ok(ENDED.contains(&status))
}

/// The state of the process or, while it lives, of its most active thread (`LSRUN` and others of
/// sys/lwp.h), as ps(1) shows it.
pub(super) fn state(kernel: &Kernel<'_>) -> io::Result<char> {
    const ZOMBIE: [u64; 2] = [5, 6];
    let status = kernel.0.u64(offset_of!(kinfo_proc2, p_realstat))?;
    if ZOMBIE.contains(&status) {
        return Ok('Z');
    }
    Ok(match kernel.0.u8(offset_of!(kinfo_proc2, p_stat))? {
        2 | 7 => 'R',
        3 => 'S',
        4 | 8 => 'T',
        _ => 'D',
    })
}
