//! How the intermediate notices that the daemon has executed a program, and permits it.
//! docs/decisions/0012-exec-in-the-daemon.md has the reasons. Every call in here is
//! async-signal-safe.

use std::cell::Cell;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::time::Duration;

use crate::deadline::Deadline;
use crate::sys::{self, Errno, Pid, Wait, errno};

/// The daemon's end of a socket pair, close-on-exec. Only the daemon has it.
pub(super) struct ProgramMark(OwnedFd);

impl ProgramMark {
    /// Waits until the launcher can terminate this process without the intermediate. Returns false
    /// if the intermediate has ended before: no process would supervise the program.
    /// Async-signal-safe.
    pub(super) fn await_permission(&self) -> bool {
        matches!(sys::recv(self.0.as_fd(), &mut [0], Wait::Yes), Ok(1..))
    }

    pub(super) fn descriptor(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// The end of the intermediate. It reads an end of file when the daemon has executed the program, or
/// has ended. No process of another thread of the launcher has a copy of either end, unlike of the
/// channels.
pub(super) struct ProgramWatch {
    end: OwnedFd,
    progress: Cell<Progress>,
}

#[derive(Clone, Copy)]
enum Progress {
    Awaited,
    /// The end of file has come. The daemon has executed the program, or is about to end.
    EndOfFile(Deadline),
    Executed,
}

impl ProgramWatch {
    /// A daemon that ends becomes a zombie soon after its descriptors are closed. One that lives
    /// longer has executed the program, even if the kernel does not tell.
    const END_WAIT: Duration = Duration::from_secs(1);
    const PAUSE: Duration = Duration::from_millis(1);

    /// Precedes the fork of the daemon. Async-signal-safe.
    pub(super) fn begin() -> Result<(Self, ProgramMark), Errno> {
        let (end, mark) = sys::socketpair()?;
        let progress = Cell::new(Progress::Awaited);
        Ok((Self { end, progress }, ProgramMark(mark)))
    }

    pub(super) fn end(&self) -> BorrowedFd<'_> {
        self.end.as_fd()
    }

    /// Permits the daemon to execute the program. Async-signal-safe.
    pub(super) fn permit(&self) -> Result<(), Errno> {
        const PERMISSION: &[u8] = b"x";

        let (end, descriptors) = (self.end.as_fd(), [None; sys::MAX_PASSED_FDS]);
        sys::sendmsg(end, [PERMISSION, &[], &[]], descriptors, Deadline::NEVER).map(drop)
    }

    /// Returns true once, when the daemon, which was not reaped, has executed the program.
    /// Async-signal-safe.
    pub(super) fn has_begun(&self, daemon: Pid) -> bool {
        if matches!(self.progress.get(), Progress::Awaited)
            && matches!(
                sys::recv(self.end.as_fd(), &mut [0], Wait::No),
                Ok(0) | Err(errno::ECONNRESET)
            )
        {
            let deadline = Deadline::after(Self::END_WAIT);
            self.progress.set(Progress::EndOfFile(deadline));
        }
        match self.progress.get() {
            Progress::EndOfFile(deadline) => {
                let has_begun = sys::has_executed(daemon) || deadline.has_passed();
                if has_begun {
                    self.progress.set(Progress::Executed);
                }
                has_begun
            }
            Progress::Awaited | Progress::Executed => false,
        }
    }

    /// The descriptor to wait for.
    pub(super) fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        matches!(self.progress.get(), Progress::Awaited).then(|| self.end.as_fd())
    }

    /// The deadline of a wait that ends at `deadline`.
    pub(super) fn deadline(&self, deadline: Deadline) -> Deadline {
        match self.progress.get() {
            Progress::EndOfFile(_) => deadline.min(Deadline::after(Self::PAUSE)),
            Progress::Awaited | Progress::Executed => deadline,
        }
    }
}
