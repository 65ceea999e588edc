//! Signals: the mask, and the end of a child as something to wait for.

use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::ptr;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

use super::{CARRIED, Errno, Wait, check, receive, socket_pair, wait_readable};

/// A signal mask as it was.
#[derive(Clone, Copy)]
pub(crate) struct SignalMask(libc::sigset_t);

/// Blocks every signal that can be blocked. Async-signal-safe.
pub(crate) fn block_signals() -> SignalMask {
    let mut all = MaybeUninit::uninit();
    // SAFETY: `all` is valid for writes of its size.
    unsafe { libc::sigfillset(all.as_mut_ptr()) };
    // SAFETY: sigfillset has filled it in, and fails for no valid pointer.
    change_mask(libc::SIG_SETMASK, unsafe { all.assume_init_ref() })
}

impl SignalMask {
    /// Makes this the mask again; what has arrived in between is delivered
    /// here and now. Async-signal-safe.
    pub(crate) fn restore(&self) {
        change_mask(libc::SIG_SETMASK, &self.0);
    }
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
    _written: OwnedFd,
    disposition_before: libc::sigaction,
    only_child: libc::sigset_t,
}

impl ChildWatch {
    /// Starts before the child is made, with all signals blocked.
    /// Async-signal-safe.
    pub(crate) fn begin() -> Result<Self, Errno> {
        let (readable, written) = socket_pair()?;
        CHILD_ENDED.store(written.as_raw_fd(), Ordering::Relaxed);

        let mut only_child = MaybeUninit::uninit();
        // SAFETY: `only_child` is valid for writes of its size.
        unsafe { libc::sigemptyset(only_child.as_mut_ptr()) };
        // SAFETY: sigemptyset has filled it in.
        let mut only_child = unsafe { only_child.assume_init() };
        // SAFETY: the set is initialised, and the signal exists.
        unsafe { libc::sigaddset(&raw mut only_child, libc::SIGCHLD) };

        let mut action = MaybeUninit::<libc::sigaction>::zeroed();
        // SAFETY: all zeroes is a valid sigaction: the default action, an
        // empty mask, no flags.
        let action = unsafe { action.assume_init_mut() };
        action.sa_sigaction = on_child_end as extern "C" fn(libc::c_int) as libc::sighandler_t;
        action.sa_flags = libc::SA_NOCLDSTOP | libc::SA_RESTART;
        let mut before = MaybeUninit::uninit();
        // SAFETY: both actions are valid for the call; the handler calls
        // nothing but send.
        check(unsafe {
            libc::sigaction(libc::SIGCHLD, ptr::from_ref(action), before.as_mut_ptr())
        })?;
        Ok(Self {
            readable,
            _written: written,
            // SAFETY: sigaction succeeded, and has filled it in.
            disposition_before: unsafe { before.assume_init() },
            only_child,
        })
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
        let mut none = [const { None }; CARRIED];
        // Emptied, or the next wait would return at once.
        let _ = receive(self.readable.as_fd(), &mut told, &mut none, Wait::No);
    }
}
