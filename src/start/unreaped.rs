//! Processes of starts that have failed, which nothing could end in time.
//!
//! One that is frozen, say, or waits for a file server in a way that nothing
//! interrupts, ends only later. Where it is a child of the launcher by then, as
//! the intermediate is, and a daemon if the launcher is a subreaper, it stays a
//! zombie until the launcher reaps it: which the launcher's next start does.

use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::own_fds;
use crate::sys::{self, ChildState, ForkIdentity, Pid};

static LEFT: Mutex<Vec<Left>> = Mutex::new(Vec::new());

struct Left {
    which: Which,
    launcher: ForkIdentity,
}

enum Which {
    /// It names the process for good, which need not be a child.
    Process(OwnedFd),
    /// A child. Should the caller have reaped it, the pid may be another child's,
    /// which then loses its status: where no descriptor names a process, nothing
    /// better is to be had.
    Child(Pid),
}

impl Which {
    /// Reaps it if it has ended, and is a child. False where it has not ended.
    fn reap(&self) -> bool {
        match self {
            Self::Process(process) => {
                let has_ended = sys::await_readable(process.as_fd(), Some(Duration::ZERO));
                if has_ended {
                    sys::reap(process.as_fd());
                }
                has_ended
            }
            Self::Child(pid) => !matches!(sys::try_waitpid(*pid), Ok(ChildState::Running)),
        }
    }
}

/// A child that was not reaped.
pub(crate) fn remember_child(child: Pid) {
    match sys::open_process(child) {
        Some(process) => remember(process),
        None => push(Which::Child(child)),
    }
}

/// A process that has not ended, and may be, or become, a child.
pub(crate) fn remember(process: OwnedFd) {
    own_fds::register(process.as_fd());
    push(Which::Process(process));
}

fn push(which: Which) {
    let launcher = ForkIdentity::current();
    let mut left = LEFT.lock().unwrap_or_else(PoisonError::into_inner);
    left.push(Left { which, launcher });
}

/// Reaps those that have ended by now. Only whoever may start makes, or calls
/// this: so that nobody has it locked when the process forks.
pub(crate) fn reap() {
    let mut left = LEFT.lock().unwrap_or_else(PoisonError::into_inner);
    for one in std::mem::take(&mut *left) {
        if one.launcher != ForkIdentity::current() {
            // A copy, whose number may be another file's.
            std::mem::forget(one);
        } else if !one.which.reap() {
            left.push(one);
        } else if let Which::Process(process) = one.which {
            own_fds::unregister(process.as_fd());
        }
    }
}
