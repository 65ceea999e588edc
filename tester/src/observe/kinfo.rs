//! What NetBSD and OpenBSD share: `kern.proc` of sysctl(3), whose structure NetBSD calls
//! `kinfo_proc2`, and `kern.proc_args`. Both kernels extend their structures, but do not change
//! them, and cut each record to the size that the caller asks for.
//!
//! Every user may read `kern.proc`. The environment wants root or the user of the process
//! (OpenBSD sys/kern/kern_sysctl.c, `sysctl_proc_args`; NetBSD sys/kern/kern_proc.c,
//! `KAUTH_REQ_PROCESS_CANSEE_ENV`).

use std::ffi::c_int;
use std::io;
use std::mem::offset_of;

#[cfg(target_os = "openbsd")]
pub(super) use libc::{KERN_PROC, kinfo_proc};
#[cfg(target_os = "netbsd")]
pub(super) use libc::{KERN_PROC2 as KERN_PROC, kinfo_proc2 as kinfo_proc};

use super::Process;
use super::platform::{has_ended, state};
use super::record::Record;
use crate::control;
use crate::report::{IdTriple, Report, Terminal};
use crate::sys;

/// The signals whose default is to have no effect, as both kernels have them (`sigprop` of
/// sys/kern/kern_sig.c). SIGCONT is never shown as ignored, the others always unless they are
/// caught.
pub(super) const IGNORED_BY_DEFAULT: &[i32] = &[
    libc::SIGURG,
    libc::SIGCONT,
    libc::SIGCHLD,
    libc::SIGIO,
    libc::SIGWINCH,
    libc::SIGINFO,
    // SIGPWR of NetBSD.
    32,
];

/// The records of a list, all of them, each of this size.
pub(super) fn records(
    list: c_int,
    what: c_int,
    argument: c_int,
    size: usize,
) -> io::Result<Vec<u8>> {
    let size = c_int::try_from(size).map_err(io::Error::other)?;
    sys::sysctl(&[libc::CTL_KERN, list, what, argument, size, c_int::MAX])
}

pub(super) fn signed(pid: u32) -> io::Result<c_int> {
    c_int::try_from(pid).map_err(io::Error::other)
}

/// A `struct kinfo_proc`.
pub(super) struct Kernel<'bytes>(pub Record<'bytes>);

impl<'bytes> Kernel<'bytes> {
    /// The record of one process.
    pub(super) fn of(bytes: &'bytes [u8]) -> io::Result<Self> {
        match bytes.len() {
            0 => Err(io::Error::from_raw_os_error(libc::ESRCH)),
            size if size == size_of::<kinfo_proc>() => Ok(Self(Record(bytes))),
            size => Err(io::Error::other(format!("a kinfo_proc of {size} bytes"))),
        }
    }

    /// The bytes of [`Kernel::of`].
    pub(super) fn read(pid: u32) -> io::Result<Vec<u8>> {
        let size = size_of::<kinfo_proc>();
        records(KERN_PROC, libc::KERN_PROC_PID, signed(pid)?, size)
    }

    /// The fields that both kernels have.
    pub(super) fn report(&self) -> io::Result<Report> {
        let count = self.0.u16(offset_of!(kinfo_proc, p_ngroups))?;
        let first = offset_of!(kinfo_proc, p_groups);
        // The structure has room for as many groups as a process can have.
        let groups = (0..usize::from(count)).map(|index| self.0.u32(first + 4 * index));
        let mut groups: Vec<u32> = groups.collect::<io::Result<_>>()?;
        groups.sort_unstable();
        Ok(Report {
            pid: self.0.u32(offset_of!(kinfo_proc, p_pid))?,
            ppid: self.0.u32(offset_of!(kinfo_proc, p_ppid))?,
            pgid: self.0.u32(offset_of!(kinfo_proc, p__pgid))?,
            sid: Some(self.0.u32(offset_of!(kinfo_proc, p_sid))?),
            terminal: Some(self.terminal()?),
            uid: Some(IdTriple {
                real: self.0.u32(offset_of!(kinfo_proc, p_ruid))?,
                effective: self.0.u32(offset_of!(kinfo_proc, p_uid))?,
                saved: Some(self.0.u32(offset_of!(kinfo_proc, p_svuid))?),
            }),
            gid: Some(IdTriple {
                real: self.0.u32(offset_of!(kinfo_proc, p_rgid))?,
                effective: self.0.u32(offset_of!(kinfo_proc, p_gid))?,
                saved: Some(self.0.u32(offset_of!(kinfo_proc, p_svgid))?),
            }),
            groups: Some(groups),
            ..Report::default()
        })
    }

    pub(super) fn terminal(&self) -> io::Result<Terminal> {
        /// `NODEV`
        const NONE: u32 = u32::MAX;
        Ok(match self.0.u32(offset_of!(kinfo_proc, p_tdev))? {
            NONE => Terminal::None,
            device => Terminal::Device(device.into()),
        })
    }

    fn process(&self) -> io::Result<Process> {
        Ok(Process {
            pid: self.0.u32(offset_of!(kinfo_proc, p_pid))?,
            ppid: self.0.u32(offset_of!(kinfo_proc, p_ppid))?,
            pgid: self.0.u32(offset_of!(kinfo_proc, p__pgid))?,
            state: state(self)?,
            name: String::from_utf8_lossy(self.0.text(offset_of!(kinfo_proc, p_comm))).into_owned(),
        })
    }
}

/// Does nothing, since `kern.proc_args` shows the environment that the program began with: to root
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
    let size = size_of::<kinfo_proc>();
    let list = records(KERN_PROC, libc::KERN_PROC_ALL, 0, size)?;
    let mut found = Vec::new();
    for bytes in list.chunks_exact(size) {
        let kernel = Kernel::of(bytes)?;
        if has_ended(&kernel)? {
            continue;
        }
        let process = kernel.process()?;
        let environment = sys::sysctl(&[
            libc::CTL_KERN,
            libc::KERN_PROC_ARGS,
            signed(process.pid)?,
            libc::KERN_PROC_ENV,
        ]);
        // A process whose environment cannot be read belongs to another user, or has ended.
        let Ok(environment) = environment else {
            continue;
        };
        // OpenBSD writes pointers before the strings. The last of them is null.
        if environment
            .split(|&byte| byte == 0)
            .any(|text| text == variable.as_bytes())
        {
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
    let found = Kernel::read(pid).and_then(|bytes| Kernel::of(&bytes)?.process());
    match found {
        Ok(process) => Ok(Some(process)),
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(None),
        Err(error) => Err(error),
    }
}
