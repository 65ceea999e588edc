//! Signals: the mask, and the end of a child as something to wait for.

use std::mem::{self, MaybeUninit};
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::ptr;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

use super::{Errno, Wait, cvt, recv, socketpair, wait_readable};

/// A signal mask as it was.
#[derive(Clone, Copy)]
pub(crate) struct SignalMask(libc::sigset_t);

/// Blocks every signal that can be blocked. Async-signal-safe.
pub(crate) fn block_signals() -> SignalMask {
    let mut all = MaybeUninit::zeroed();
    // SAFETY: `all` is valid for writes of its size.
    unsafe { libc::sigfillset(all.as_mut_ptr()) };
    // SAFETY: it was zeroed, as libc sets those bits alone that it knows; and
    // sigfillset fails for no valid pointer.
    change_mask(libc::SIG_SETMASK, unsafe { all.assume_init_ref() })
}

impl SignalMask {
    /// The mask that blocks nothing. Async-signal-safe.
    pub(crate) fn empty() -> Self {
        let mut empty = MaybeUninit::zeroed();
        // SAFETY: `empty` is valid for writes of its size.
        unsafe { libc::sigemptyset(empty.as_mut_ptr()) };
        // SAFETY: zeroes are what it was made of, and what sigemptyset makes.
        Self(unsafe { empty.assume_init() })
    }

    /// Makes this the mask again; what has arrived in between is delivered
    /// here and now. Async-signal-safe.
    pub(crate) fn restore(&self) {
        change_mask(libc::SIG_SETMASK, &self.0);
    }
}

/// sigaction(2) with the default action for every signal but SIGPIPE.
/// Async-signal-safe.
///
/// Which numbers are signals is asked of sigaction: those that the C library
/// keeps for itself (on Linux the first two or three of the real-time ones) it
/// does not know.
pub(crate) fn reset_dispositions() -> Result<(), Errno> {
    // FreeBSD has most: `_SIG_MAXSIG` of sys/_sigset.h.
    const LARGEST: libc::c_int = 128;
    // SAFETY: all zeroes is a valid sigaction: no flags, an empty mask.
    let mut default: libc::sigaction = unsafe { mem::zeroed() };
    default.sa_sigaction = libc::SIG_DFL;

    let is_left = |signal| matches!(signal, libc::SIGPIPE | libc::SIGKILL | libc::SIGSTOP);
    for signal in (1..=LARGEST).filter(|&signal| !is_left(signal)) {
        let mut present = MaybeUninit::<libc::sigaction>::zeroed();
        // SAFETY: without a new action nothing changes; `present` is valid
        // for writes of its size.
        let known = unsafe { libc::sigaction(signal, ptr::null(), present.as_mut_ptr()) };
        match cvt(known) {
            Ok(_) => {
                // SAFETY: the action is valid for the call, and runs nothing.
                cvt(unsafe { libc::sigaction(signal, &raw const default, ptr::null_mut()) })?;
            }
            Err(libc::EINVAL) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

fn change_mask(how: libc::c_int, set: &libc::sigset_t) -> SignalMask {
    let mut before = MaybeUninit::<libc::sigset_t>::zeroed();
    // SAFETY: both sets are valid for the call, which fails only for another
    // `how`.
    unsafe { libc::pthread_sigmask(how, ptr::from_ref(set), before.as_mut_ptr()) };
    // SAFETY: pthread_sigmask has filled it in; it was initialised to zeroes
    // in any case.
    SignalMask(unsafe { before.assume_init() })
}

/// Makes a write to what may be a pipe that nobody reads any more. The kernel then
/// not only fails it with EPIPE, but also sends SIGPIPE, which kills unless it is
/// ignored: that is taken back, since the errno says it all.
pub(crate) fn without_signal_of_broken_pipe<T>(write: impl FnOnce() -> T) -> T {
    let mut only_this = MaybeUninit::zeroed();
    // SAFETY: `only_this` is valid for writes of its size.
    unsafe { libc::sigemptyset(only_this.as_mut_ptr()) };
    // SAFETY: zeroes are what it was made of, and what sigemptyset makes.
    let mut only_this = unsafe { only_this.assume_init() };
    // SAFETY: the set is initialised, and the signal exists.
    unsafe { libc::sigaddset(&raw mut only_this, libc::SIGPIPE) };

    let before = change_mask(libc::SIG_BLOCK, &only_this);
    // One that the caller had blocked and was sent is the caller's.
    let is_callers = is_broken_pipe_pending();
    let result = write();
    if !is_callers && is_broken_pipe_pending() {
        let mut taken = 0;
        // SAFETY: the set is initialised, and `taken` valid for a write. The
        // signal is blocked here and pending, so that this does not wait.
        unsafe { libc::sigwait(&raw const only_this, &raw mut taken) };
    }
    before.restore();
    result
}

fn is_broken_pipe_pending() -> bool {
    let mut pending = MaybeUninit::<libc::sigset_t>::zeroed();
    // SAFETY: `pending` is valid for writes of its size.
    unsafe { libc::sigpending(pending.as_mut_ptr()) };
    // SAFETY: sigpending has filled it in, and fails for no valid pointer; the
    // signal exists.
    unsafe { libc::sigismember(pending.as_ptr(), libc::SIGPIPE) == 1 }
}

/// Where the handler of SIGCHLD tells of it; -1 while nobody wants to know.
static CHILD_ENDED: AtomicI32 = AtomicI32::new(-1);

extern "C" fn on_child_end(_: libc::c_int) {
    #[cfg(target_vendor = "apple")]
    const FLAGS: libc::c_int = libc::MSG_DONTWAIT;
    #[cfg(not(target_vendor = "apple"))]
    const FLAGS: libc::c_int = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    let socket = CHILD_ENDED.load(Ordering::Relaxed);
    // SAFETY: send is async-signal-safe, and reads one byte that lives for
    // ever. A full socket needs no further byte.
    unsafe { libc::send(socket, b"c".as_ptr().cast(), 1, FLAGS) };
}

/// A wait that the end of a child ends, also where the child has left copies
/// of its descriptors with others.
///
/// POSIX has no one call that waits for a child and a descriptor; this is the
/// self-pipe: a handler of SIGCHLD that makes a socket readable. The signal
/// is let through during the wait alone, so that the handler never meddles
/// with another call's errno.
pub(crate) struct ChildWatch {
    readable: OwnedFd,
    written: OwnedFd,
    disposition_before: libc::sigaction,
    only_child: libc::sigset_t,
}

impl ChildWatch {
    /// Starts before the child is made, with all signals blocked.
    /// Async-signal-safe.
    pub(crate) fn begin() -> Result<Self, Errno> {
        let (readable, written) = socketpair()?;
        CHILD_ENDED.store(written.as_raw_fd(), Ordering::Relaxed);

        let mut only_child = MaybeUninit::zeroed();
        // SAFETY: `only_child` is valid for writes of its size.
        unsafe { libc::sigemptyset(only_child.as_mut_ptr()) };
        // SAFETY: zeroes are what it was made of, and what sigemptyset makes.
        let mut only_child = unsafe { only_child.assume_init() };
        // SAFETY: the set is initialised, and the signal exists.
        unsafe { libc::sigaddset(&raw mut only_child, libc::SIGCHLD) };

        let mut action = MaybeUninit::<libc::sigaction>::zeroed();
        // SAFETY: all zeroes is a valid sigaction: the default action, an
        // empty mask, no flags.
        let action = unsafe { action.assume_init_mut() };
        action.sa_sigaction = on_child_end as extern "C" fn(libc::c_int) as libc::sighandler_t;
        action.sa_flags = libc::SA_NOCLDSTOP | libc::SA_RESTART;
        let mut before = MaybeUninit::zeroed();
        // SAFETY: both actions are valid for the call; the handler calls
        // nothing but send.
        cvt(unsafe { libc::sigaction(libc::SIGCHLD, ptr::from_ref(action), before.as_mut_ptr()) })?;
        Ok(Self {
            readable,
            written,
            // SAFETY: sigaction succeeded, and has filled in what was zeroed.
            disposition_before: unsafe { before.assume_init() },
            only_child,
        })
    }

    pub(crate) fn descriptors(&self) -> [BorrowedFd<'_>; 2] {
        [self.readable.as_fd(), self.written.as_fd()]
    }

    /// Ends the watch in the child, which inherited it. Async-signal-safe.
    pub(crate) fn end(self) {
        CHILD_ENDED.store(-1, Ordering::Relaxed);
        // SAFETY: the disposition is the one that the kernel handed out.
        unsafe {
            libc::sigaction(
                libc::SIGCHLD,
                &raw const self.disposition_before,
                ptr::null_mut(),
            )
        };
    }

    /// Returns when a child has ended, `other` is readable or at its end, the
    /// time is up, or early. The caller looks again in any case.
    /// Async-signal-safe.
    pub(crate) fn wait(&self, other: Option<BorrowedFd<'_>>, timeout: Option<Duration>) {
        change_mask(libc::SIG_UNBLOCK, &self.only_child);
        wait_readable([Some(self.readable.as_fd()), other], timeout);
        change_mask(libc::SIG_BLOCK, &self.only_child);
        let mut told = [0; 16];
        // Emptied, or the next wait would return at once.
        let _ = recv(self.readable.as_fd(), &mut told, Wait::No);
    }
}
