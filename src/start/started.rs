//! The closure that runs in the launcher after the commit.

use std::io::{self, Write as _};
use std::{panic, thread};

use crate::outcome::Parent;
use crate::start::actions;
use crate::sys;

/// The closure of [`on_started`](crate::Daemonize::on_started).
pub(crate) type OnStarted = Box<dyn FnOnce(&Parent)>;

/// The exit status of a launcher whose closure has panicked: that of a program whose `main` panics.
const EXIT_PANICKED: u8 = 101;

/// Runs the closure, and ends the launcher.
pub(super) fn report_and_exit(on_started: Option<OnStarted>, parent: &Parent) -> ! {
    let Some(on_started) = on_started else {
        sys::_exit(0);
    };
    // The drop of the panic's payload may panic too. Therefore nothing drops the payload.
    let called = call(on_started, parent);
    // _exit(2) discards what std has buffered.
    let _ = io::stdout().flush();
    sys::_exit(match called {
        Ok(()) => 0,
        Err(_) => EXIT_PANICKED,
    })
}

/// Runs the closure. If the closure panics, calls `before_unwinding` and resumes the panic.
pub(super) fn report(
    on_started: Option<OnStarted>,
    parent: &Parent,
    before_unwinding: impl FnOnce(),
) {
    let Some(on_started) = on_started else {
        return;
    };
    if let Err(panic) = call(on_started, parent) {
        before_unwinding();
        panic::resume_unwind(panic);
    }
}

fn call(on_started: OnStarted, parent: &Parent) -> thread::Result<()> {
    actions::catch(|| on_started(parent))
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::panic::AssertUnwindSafe;
    use std::process::ExitStatus;
    use std::rc::Rc;

    use super::*;

    /// A second panic during the unwinding would abort the launcher.
    #[test]
    fn a_panic_is_resumed_after_the_actions_are_dropped() {
        let parent = Parent {
            first_child_exit_status: ExitStatus::default(),
            daemon_pid: 1,
            payload: Vec::new(),
        };
        let is_dropped = Rc::new(Cell::new(false));
        let flag = Rc::clone(&is_dropped);
        let on_started: OnStarted = Box::new(|_| panic::resume_unwind(Box::new("out of luck")));
        let resumed = panic::catch_unwind(AssertUnwindSafe(|| {
            report(Some(on_started), &parent, || {
                flag.set(!thread::panicking());
            });
        }));
        let panic = resumed.expect_err("the panic is resumed");
        assert_eq!(panic.downcast_ref(), Some(&"out of luck"));
        assert!(is_dropped.get());
    }
}
