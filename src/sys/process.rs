//! Processes: identity, signal, session, exit, working and root directory.

use std::ffi::CStr;
use std::io::Write as _;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use super::poll::sleep;
use super::signal::Signal;
use super::{Errno, cvt, retry_on_eintr};
use crate::deadline::Deadline;

/// The id of a process that exists or has existed. It is never 0 or negative, which
/// kill(2) takes for groups of processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pid(pub(super) libc::pid_t);

impl Pid {
    /// The calling process. Async-signal-safe.
    pub(crate) fn current() -> Self {
        // SAFETY: getpid takes nothing and cannot fail.
        Self(unsafe { libc::getpid() })
    }

    pub(crate) fn from_number(number: u32) -> Option<Self> {
        libc::pid_t::try_from(number)
            .ok()
            .filter(|pid| *pid > 0)
            .map(Self)
    }

    pub(crate) fn number(self) -> u32 {
        self.0 as u32
    }

    /// Whether this is init(8), or the first process of a pid namespace. When that
    /// process ends, the kernel ends all others of the namespace.
    pub(crate) fn is_first(self) -> bool {
        self.0 == 1
    }
}

/// getppid(2). Async-signal-safe.
fn getppid() -> libc::pid_t {
    // SAFETY: getppid takes nothing and cannot fail.
    unsafe { libc::getppid() }
}

/// Whether the parent is in another pid namespace: getppid(2) then has no number for
/// it. Async-signal-safe.
pub(crate) fn is_parent_in_other_pid_namespace() -> bool {
    getppid() == 0
}

/// Whether `parent` is still the parent of this process. Async-signal-safe.
pub(crate) fn is_parent(parent: Pid) -> bool {
    getppid() == parent.0
}

/// Waits until `parent` is not the parent of this process any more. False if the
/// deadline passes first. Async-signal-safe.
pub(crate) fn await_reparenting(parent: Pid, deadline: Deadline) -> bool {
    while is_parent(parent) {
        if deadline.has_passed() {
            return false;
        }
        sleep(Duration::from_millis(1));
    }
    true
}

/// Tells a process from the copies that fork(2) makes of it. The pid alone does not: a
/// copy in a pid namespace of its own may have the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ForkIdentity {
    pid: Pid,
    forks: u32,
}

/// How many forks this process is away from the first.
static FORKS: AtomicU32 = AtomicU32::new(0);

impl ForkIdentity {
    /// The calling process. Async-signal-safe.
    pub(crate) fn current() -> Self {
        Self {
            pid: Pid::current(),
            forks: FORKS.load(Ordering::Relaxed),
        }
    }

    /// From now on, counts the forks that libc makes.
    pub(crate) fn count_forks() {
        extern "C" fn count() {
            FORKS.fetch_add(1, Ordering::Relaxed);
        }

        static DOES_COUNT: AtomicBool = AtomicBool::new(false);
        if !DOES_COUNT.swap(true, Ordering::Relaxed) {
            // SAFETY: the handler is async-signal-safe and lives as long as this code.
            // It fails without memory; the pid has to do then.
            unsafe { libc::pthread_atfork(None, None, Some(count)) };
        }
    }
}

/// kill(2). Only the pid of a child that is not reaped is certain to be that of the
/// same process still. Async-signal-safe.
pub(crate) fn kill(pid: Pid, signal: Signal) -> Result<(), Errno> {
    // SAFETY: kill takes plain numbers; a Pid is positive, so that it names
    // one process and not a group.
    cvt(unsafe { libc::kill(pid.0, signal.number()) }).map(drop)
}

/// The id of a process group that can be signalled by itself. It is never 0 or 1: to kill(2), -0
/// means the group of the caller, and -1 every process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ProcessGroup(libc::pid_t);

impl ProcessGroup {
    fn from_raw(id: libc::pid_t) -> Option<Self> {
        (id > 1).then_some(Self(id))
    }

    /// getpgid(2). `None` if the group is that of process 1, or of another pid namespace, where
    /// it has no number here.
    pub(crate) fn of(pid: Pid) -> Result<Option<Self>, Errno> {
        // SAFETY: getpgid takes a plain number.
        cvt(unsafe { libc::getpgid(pid.0) }).map(Self::from_raw)
    }

    /// getpgrp(2): the group of the calling process.
    pub(crate) fn current() -> Option<Self> {
        // SAFETY: getpgrp takes nothing and cannot fail.
        Self::from_raw(unsafe { libc::getpgrp() })
    }

    /// The process whose pid is the id of the group. It may have ended: while the group has a
    /// member, the kernel gives the number to no other process.
    pub(crate) fn leader(self) -> Pid {
        Pid(self.0)
    }
}

/// getsid(2): the process that has made the session. `None` if it has no number in this pid
/// namespace.
pub(crate) fn session_leader_of(pid: Pid) -> Result<Option<Pid>, Errno> {
    // SAFETY: getsid takes a plain number.
    cvt(unsafe { libc::getsid(pid.0) }).map(|id| (id > 0).then_some(Pid(id)))
}

/// kill(2) for every member of a group that the caller may signal. Succeeds if there is one such
/// member. It may be a zombie, on which the signal has no effect.
pub(crate) fn kill_group(group: ProcessGroup, signal: Signal) -> Result<(), Errno> {
    // SAFETY: kill takes plain numbers; the id is greater than 1, so that its negative
    // names one group.
    cvt(unsafe { libc::kill(-group.0, signal.number()) }).map(drop)
}

/// A member of a process group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct GroupMember {
    pub(crate) pid: Pid,
    /// Whether it is a zombie: its parent has not reaped it.
    pub(crate) has_ended: bool,
}

/// atexit(3): calls the function when the process exits, but not when it is killed or
/// calls `_exit`. It fails without memory, which is ignored.
pub(crate) fn atexit(function: extern "C" fn()) {
    // SAFETY: the function lives as long as this code, and does not unwind.
    unsafe { libc::atexit(function) };
}

/// _exit(2): ends the process without atexit handlers and destructors, and without a
/// flush of buffers that its parent has, too. Async-signal-safe.
pub(crate) fn _exit(status: u8) -> ! {
    // SAFETY: _exit may be called at any time and does not return.
    unsafe { libc::_exit(libc::c_int::from(status)) }
}

/// Flushes Rust's standard output and all streams of C, so that no child writes the
/// same bytes again. Errors are left for the caller's own next write.
pub(crate) fn flush_streams() {
    let _ = std::io::stdout().flush();
    // SAFETY: a null pointer means all output streams.
    unsafe { libc::fflush(std::ptr::null_mut()) };
}

/// setsid(2). Async-signal-safe.
pub(crate) fn setsid() -> Result<(), Errno> {
    // SAFETY: setsid takes nothing.
    cvt(unsafe { libc::setsid() }).map(drop)
}

/// umask(2). Async-signal-safe.
pub(crate) fn umask(mask: u32) {
    // SAFETY: umask takes a plain number and cannot fail.
    unsafe { libc::umask(mask as libc::mode_t) };
}

/// chdir(2). Async-signal-safe.
pub(crate) fn chdir(path: &CStr) -> Result<(), Errno> {
    // SAFETY: `path` is a C string that outlives the call.
    retry_on_eintr(|| unsafe { libc::chdir(path.as_ptr()) }).map(drop)
}

/// chroot(2) to the working directory.
pub(crate) fn chroot_to_working_directory() -> Result<(), Errno> {
    // SAFETY: a C string literal is static.
    cvt(unsafe { libc::chroot(c".".as_ptr()) }).map(drop)
}

/// Room for the longest path that the kernel returns, with its NUL.
pub(crate) type PathBuffer = [u8; libc::PATH_MAX as usize];
