//! Threads: the proof that there is only one.

use std::time::Duration;

use super::platform::{self, OtherThreads};
use super::poll::sleep;
use crate::deadline::Attempts;

/// Evidence, or a promise of the caller's, that the calling thread is the only one in
/// its process, and its process the only one in its memory.
///
/// fork(2) copies only the calling thread. If another thread holds a lock, the lock stays
/// locked in the child for ever. Only async-signal-safe functions may then be called there.
#[derive(Debug)]
pub(crate) struct SingleThreaded(());

/// Why [`SingleThreaded::verify`] refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotSingleThreaded {
    OthersRun,
    Unknown,
}

impl SingleThreaded {
    /// The kernel may count a joined thread for a few milliseconds more.
    const SETTLING_TIME: Duration = Duration::from_millis(100);

    /// Counts the threads, again for up to 100 ms while there are others.
    ///
    /// The answer stays true: a lone thread gets company only through its own calls, or
    /// through code that was unsafe to install, such as a signal handler that makes
    /// threads.
    pub(crate) fn verify() -> Result<Self, NotSingleThreaded> {
        let mut attempts = Attempts::within(Self::SETTLING_TIME);
        loop {
            attempts.count();
            match platform::is_single_threaded() {
                Some(true) => return Ok(Self(())),
                None => return Err(NotSingleThreaded::Unknown),
                Some(false) if attempts.are_over() => {
                    return Err(NotSingleThreaded::OthersRun);
                }
                Some(false) => sleep(Duration::from_millis(1)),
            }
        }
    }

    /// Takes the caller's promise.
    ///
    /// # Safety
    ///
    /// The calling process has one thread, or only async-signal-safe functions are
    /// called in the child of [`fork`](super::fork) until it execs or exits.
    pub(crate) unsafe fn assume() -> Self {
        Self(())
    }
}

/// Whether the process is known to have other threads.
pub(crate) fn has_other_threads() -> bool {
    platform::is_single_threaded() == Some(false)
}

impl OtherThreads {
    /// Those of a child of fork(2), which has copied only the thread that calls this.
    /// Async-signal-safe.
    pub(crate) fn none() -> Self {
        Self::NONE
    }

    /// Finds the other threads while /proc is in sight, that is, before the root
    /// directory changes.
    pub(crate) fn find() -> Self {
        match SingleThreaded::verify() {
            Ok(_) => Self::NONE,
            Err(_) => Self::list(),
        }
    }
}
