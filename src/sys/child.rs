//! Children: fork, wait for their end, kill.

use std::mem;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;
use std::ptr;
use std::sync::atomic::{AtomicI32, Ordering};

use super::platform::abi::MSG_NOSIGNAL;
use super::poll::wait_readable;
use super::process::{Pid, kill};
use super::signal::{Signal, SignalMask};
use super::socket::{Wait, recv, socketpair};
use super::thread::SingleThreaded;
use super::{Errno, cvt, platform, retry_on_eintr};
use crate::deadline::Deadline;

/// The side of [`fork`] on which it returns.
pub(crate) enum Fork {
    Parent(Pid),
    Child,
}

/// fork(2).
pub(crate) fn fork(_: &SingleThreaded) -> Result<Fork, Errno> {
    // SAFETY: the proof says that no other thread holds a lock, or that the
    // caller of the library keeps to async-signal-safe calls in the child.
    match cvt(unsafe { libc::fork() })? {
        0 => Ok(Fork::Child),
        child => Ok(Fork::Parent(Pid(child))),
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum ChildState {
    Running,
    /// Reaped. The status is unknown if other code has reaped the child: a handler of
    /// the caller's, or the kernel where SIGCHLD is ignored.
    Ended(Option<ExitStatus>),
}

impl ChildState {
    pub(crate) fn status(self) -> Option<ExitStatus> {
        match self {
            Self::Ended(status) => status,
            Self::Running => None,
        }
    }
}

/// waitpid(2): waits for the end of a child and reaps it.
pub(crate) fn waitpid(child: Pid) -> Result<ChildState, Errno> {
    waitpid_with(child, 0)
}

/// waitpid(2) without a wait: reaps a child that has ended. Async-signal-safe.
pub(crate) fn try_waitpid(child: Pid) -> Result<ChildState, Errno> {
    waitpid_with(child, libc::WNOHANG)
}

fn waitpid_with(child: Pid, options: libc::c_int) -> Result<ChildState, Errno> {
    let mut status = 0;
    // SAFETY: `status` is valid for writes during the call.
    match retry_on_eintr(|| unsafe { libc::waitpid(child.0, &raw mut status, options) }) {
        Ok(0) => Ok(ChildState::Running),
        Ok(_) => Ok(ChildState::Ended(Some(ExitStatus::from_raw(status)))),
        Err(libc::ECHILD) => Ok(ChildState::Ended(None)),
        Err(errno) => Err(errno),
    }
}

/// Kills a child unless it has ended. A handler of the caller's may reap the child at
/// any time, so that another process may get its pid.
pub(crate) fn kill_child(child: Pid) -> Result<ChildState, Errno> {
    if let ended @ ChildState::Ended(_) = try_waitpid(child)? {
        return Ok(ended);
    }
    // The descriptor names the child if the child is still running afterwards.
    let process = platform::open_process(child);
    if let ended @ ChildState::Ended(_) = try_waitpid(child)? {
        return Ok(ended);
    }
    let is_signalled = process.is_some_and(|process| {
        // ESRCH: the child has ended, and its pid may be that of another process.
        let signalled = platform::signal_process(&process, Signal::KILL);
        matches!(signalled, Ok(()) | Err(libc::ESRCH))
    });
    if !is_signalled {
        let _ = kill(child, Signal::KILL);
    }
    try_waitpid(child)
}

/// The socket to which the handler of SIGCHLD writes; -1 without a [`ChildWatch`].
static CHILD_ENDED: AtomicI32 = AtomicI32::new(-1);

extern "C" fn on_child_end(_: libc::c_int) {
    let socket = CHILD_ENDED.load(Ordering::Relaxed);
    let flags = libc::MSG_DONTWAIT | MSG_NOSIGNAL;
    // SAFETY: send is async-signal-safe, and reads one byte of static memory. A full
    // socket needs no further byte.
    unsafe { libc::send(socket, b"c".as_ptr().cast(), 1, flags) };
}

/// A wait that the end of a child ends, even if the child has left copies of its
/// descriptors with other processes.
///
/// POSIX has no call that waits for a child and a descriptor. This is the self-pipe
/// trick: a handler of SIGCHLD makes a socket readable. The signal is unblocked only
/// during the wait, so that the handler never changes the errno of another call.
pub(crate) struct ChildWatch {
    readable: OwnedFd,
    written: OwnedFd,
    disposition_before: libc::sigaction,
}

impl ChildWatch {
    /// Starts before the child is forked, with all signals blocked. Async-signal-safe.
    pub(crate) fn begin() -> Result<Self, Errno> {
        let (readable, written) = socketpair()?;
        CHILD_ENDED.store(written.as_raw_fd(), Ordering::Relaxed);

        // SAFETY: all zeroes is a valid sigaction: the default action, an empty mask,
        // no flags.
        let mut action: libc::sigaction = unsafe { mem::zeroed() };
        let mut disposition_before = action;
        action.sa_sigaction = on_child_end as extern "C" fn(libc::c_int) as libc::sighandler_t;
        action.sa_flags = libc::SA_NOCLDSTOP | libc::SA_RESTART;
        // SAFETY: both actions are valid for the call; the handler calls only send.
        cvt(unsafe {
            libc::sigaction(
                libc::SIGCHLD,
                &raw const action,
                &raw mut disposition_before,
            )
        })?;
        Ok(Self {
            readable,
            written,
            disposition_before,
        })
    }

    pub(crate) fn descriptors(&self) -> [BorrowedFd<'_>; 2] {
        [self.readable.as_fd(), self.written.as_fd()]
    }

    /// Ends the watch in the child, which has inherited it. Async-signal-safe.
    pub(crate) fn end(self) {
        CHILD_ENDED.store(-1, Ordering::Relaxed);
        let before = &raw const self.disposition_before;
        // SAFETY: the kernel has returned this disposition.
        unsafe { libc::sigaction(libc::SIGCHLD, before, ptr::null_mut()) };
    }

    /// Returns when a child has ended, one of `others` is readable or at its end of file, the
    /// deadline passes, or early. The caller checks all of this in any case. Async-signal-safe.
    pub(crate) fn wait(&self, others: [Option<BorrowedFd<'_>>; 2], deadline: Deadline) {
        let child_signal = SignalMask::of(libc::SIGCHLD);
        child_signal.unblock();
        let [one, other] = others;
        wait_readable([Some(self.readable.as_fd()), one, other], deadline);
        child_signal.block();
        // Otherwise the next wait would return at once.
        let _ = recv(self.readable.as_fd(), &mut [0; 16], Wait::No);
    }
}
