//! The processes of failed starts that did not end in time.
//!
//! A frozen process, or a process that waits for a file server uninterruptibly, ends only
//! later. If it is a child of the launcher by then, it stays a zombie until the launcher reaps
//! it. The intermediate is a child, and the daemon becomes a child if the launcher is a
//! subreaper. The next start of the launcher reaps both.

use std::mem::{self, ManuallyDrop};
use std::os::fd::AsFd as _;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::deadline::Deadline;
use crate::own_fds;
use crate::sys::{self, ChildState, ForkIdentity, Pid, ProcessHandle};

static UNREAPED: Mutex<Vec<Unreaped>> = Mutex::new(Vec::new());

struct Unreaped {
    handle: Handle,
    launcher: ForkIdentity,
}

enum Handle {
    /// A handle that always names the same process. The process need not be a child.
    Process(ProcessHandle),
    /// A child, where no handle can reap a process. If the caller has reaped the child, and
    /// another child has its pid by now, the status of the other child is lost.
    Child(Pid),
}

impl Handle {
    /// Reaps the process if it has ended and is a child. Returns false if it has not ended.
    fn try_reap(&self) -> bool {
        match self {
            Self::Process(process) => {
                let has_ended =
                    sys::await_readable(process.as_fd(), Deadline::after(Duration::ZERO));
                if has_ended {
                    sys::reap(process);
                }
                has_ended
            }
            Self::Child(pid) => !matches!(sys::try_waitpid(*pid), Ok(ChildState::Running)),
        }
    }
}

pub(super) fn add_child(child: Pid) {
    match sys::open_process(child) {
        Some(process) if sys::HANDLES_REAP => add_process(process),
        _ => add(Handle::Child(child)),
    }
}

/// Adds a process that is, or may become, a child, if its handle can reap it.
pub(super) fn add_process(process: ProcessHandle) {
    if sys::HANDLES_REAP {
        own_fds::register(process.as_fd());
        add(Handle::Process(process));
    }
}

fn add(handle: Handle) {
    let launcher = ForkIdentity::current();
    let mut unreaped = UNREAPED.lock().unwrap_or_else(PoisonError::into_inner);
    unreaped.push(Unreaped { handle, launcher });
}

/// Reaps the processes that have ended by now. This and [`add`] run only while the thread has
/// the lock by which starts take turns, so that the list is unlocked over fork(2).
pub(super) fn reap_ended() {
    let mut unreaped = UNREAPED.lock().unwrap_or_else(PoisonError::into_inner);
    for process in mem::take(&mut *unreaped) {
        if process.launcher != ForkIdentity::current() {
            // A copy, whose number may be another file's by now.
            let _ = ManuallyDrop::new(process);
        } else if !process.handle.try_reap() {
            unreaped.push(process);
        } else if let Handle::Process(process) = process.handle {
            own_fds::unregister(process.as_fd());
        }
    }
}
