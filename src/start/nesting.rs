//! A start within a start.
//!
//! A closure that returns in a second process, as one does that starts a daemon,
//! has that process ended: there is one daemon per start. So its start would be
//! acknowledged, and the daemon then end. And where the launcher exits when the
//! start has succeeded, that launcher must not be a daemon that is not ready
//! itself: its own start would fail.

use std::cell::Cell;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::error::{Error, ErrorKind};
use crate::start::readiness::OnFailure;
use crate::sys::ForkIdentity;

thread_local! {
    /// How many closures of a start this thread is in.
    static CLOSURES: Cell<u32> = const { Cell::new(0) };
}

/// While this lives, a closure of a start runs in this thread, and in that of a
/// process that is forked there.
pub(crate) struct WithinClosure(());

impl WithinClosure {
    pub(crate) fn enter() -> Self {
        CLOSURES.set(CLOSURES.get() + 1);
        Self(())
    }
}

impl Drop for WithinClosure {
    fn drop(&mut self) {
        CLOSURES.set(CLOSURES.get() - 1);
    }
}

/// How many starts this process owes a report to, and which process that is: a
/// copy of it owes none.
static UNREADY: AtomicU32 = AtomicU32::new(0);
static PROCESS: [AtomicU32; 2] = [const { AtomicU32::new(0) }; 2];

fn is_of_this_process() -> bool {
    let present = ForkIdentity::current().numbers();
    PROCESS
        .each_ref()
        .map(|number| number.load(Ordering::Relaxed))
        == present
}

/// While this lives, the process that made it has yet to report that it is ready.
pub(crate) struct Unready(());

impl Unready {
    pub(crate) fn begin() -> Self {
        if !is_of_this_process() {
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
        if is_of_this_process() {
            UNREADY.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// # Errors
///
/// [`ErrorKind::StartWithinStart`].
pub(crate) fn check(foreground: bool, on_failure: OnFailure) -> Result<(), Error> {
    let refuse = |text| Err(Error::from(ErrorKind::StartWithinStart).because(text));
    let is_unready = UNREADY.load(Ordering::Relaxed) > 0 && is_of_this_process();
    if CLOSURES.get() > 0 {
        refuse("a closure of that start is running")
    } else if is_unready && !foreground && on_failure == OnFailure::End {
        refuse("this process has not reported yet that it is ready itself; `execute` can")
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_is_refused_for_as_long_as_a_closure_runs() {
        let kind = || check(true, OnFailure::Return).map_err(|error| error.kind());
        assert_eq!(kind(), Ok(()));
        let outer = WithinClosure::enter();
        drop(WithinClosure::enter());
        assert_eq!(kind(), Err(ErrorKind::StartWithinStart));
        drop(outer);
        assert_eq!(kind(), Ok(()));
    }
}
