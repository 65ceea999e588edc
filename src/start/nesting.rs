//! The refusal of a start within the start of another daemon.
//!
//! A closure that starts a daemon returns in a second process. Since each start has one daemon,
//! the library ends that process, although its own start was acknowledged. And a daemon that
//! has not reported yet that it is ready must not be the launcher of a start after which the
//! launcher exits: the start of that daemon would fail.

use std::cell::Cell;

use crate::error::{Error, ErrorKind};
use crate::outcome::FailureMode;
use crate::start::panics;

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

/// # Errors
///
/// [`ErrorKind::StartWithinStart`].
pub(super) fn check(foreground: bool, failure_mode: FailureMode) -> Result<(), Error> {
    let refuse = |reason| Err(Error::from(ErrorKind::StartWithinStart).with_reason(reason));
    if CLOSURES.get() > 0 {
        refuse("a closure of that start is running")
    } else if !foreground && failure_mode == FailureMode::Exit && panics::are_expected() {
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
