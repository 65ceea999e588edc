//! The refusal of a start within the start of another daemon.
//!
//! A closure that starts a daemon returns in a second process. Since each start has one daemon,
//! the library ends that process, although its own start was acknowledged. And a daemon that
//! has not reported yet that it is ready must not be the launcher of a start after which the
//! launcher exits: the start of that daemon would fail.

use std::cell::Cell;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::error::{Error, ErrorKind};
use crate::outcome::FailureMode;
use crate::sys::ForkIdentity;

thread_local! {
    /// The number of closures of starts that this thread runs, one within the other.
    static CLOSURES: Cell<u32> = const { Cell::new(0) };
}

/// Exists while this thread, or a thread that it was forked from, runs a closure of a start.
pub(super) struct WithinClosure(());

impl WithinClosure {
    pub(super) fn enter() -> Self {
        CLOSURES.set(CLOSURES.get() + 1);
        Self(())
    }
}

impl Drop for WithinClosure {
    fn drop(&mut self) {
        CLOSURES.set(CLOSURES.get() - 1);
    }
}

/// The number of reports that `PROCESS` owes to launchers. A copy of the process owes none.
static UNREADY: AtomicU32 = AtomicU32::new(0);
static PROCESS: [AtomicU32; 2] = [const { AtomicU32::new(0) }; 2];

fn is_this_process() -> bool {
    let numbers = PROCESS.each_ref();
    numbers.map(|number| number.load(Ordering::Relaxed)) == ForkIdentity::current().numbers()
}

/// Exists while the process that made it owes its launcher a report.
pub(super) struct Unready(());

impl Unready {
    pub(super) fn begin() -> Self {
        if !is_this_process() {
            for (number, present) in PROCESS.iter().zip(ForkIdentity::current().numbers()) {
                number.store(present, Ordering::Relaxed);
            }
            UNREADY.store(0, Ordering::Relaxed);
        }
        UNREADY.fetch_add(1, Ordering::Relaxed);
        Self(())
    }
}

impl Drop for Unready {
    fn drop(&mut self) {
        if is_this_process() {
            UNREADY.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// # Errors
///
/// [`ErrorKind::StartWithinStart`].
pub(super) fn check(foreground: bool, failure_mode: FailureMode) -> Result<(), Error> {
    let refuse = |reason| Err(Error::from(ErrorKind::StartWithinStart).with_reason(reason));
    let is_unready = UNREADY.load(Ordering::Relaxed) > 0 && is_this_process();
    if CLOSURES.get() > 0 {
        refuse("a closure of that start is running")
    } else if is_unready && !foreground && failure_mode == FailureMode::Exit {
        refuse("this process has not reported yet that it is ready itself; `execute` can")
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_is_refused_while_a_closure_runs() {
        let kind = || check(true, FailureMode::Return).map_err(|error| error.kind());
        assert_eq!(kind(), Ok(()));
        let outer = WithinClosure::enter();
        drop(WithinClosure::enter());
        assert_eq!(kind(), Err(ErrorKind::StartWithinStart));
        drop(outer);
        assert_eq!(kind(), Ok(()));
    }
}
