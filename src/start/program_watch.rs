//! How the intermediate permits the daemon to execute a program, and notices that it has done so.
//! docs/decisions/0012-exec-in-the-daemon.md has the reasons. Every call in here is
//! async-signal-safe.

use std::cell::Cell;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd, RawFd};
use std::time::Duration;

use crate::deadline::Deadline;
use crate::start::program_readiness::{ProgramEvent, ProgramStatus, ReadinessPlan, ReadinessWatch};
use crate::sys::{self, Errno, Pid, Wait, errno};

/// What only the daemon has.
pub(super) struct ProgramMark {
    /// The end of a socket pair, close-on-exec.
    end: OwnedFd,
    /// The descriptor by which the program reports, if it does.
    notification: Option<OwnedFd>,
}

impl ProgramMark {
    /// Waits until the launcher can terminate this process without the intermediate. Returns false
    /// if the intermediate has ended before: no process would supervise the program.
    /// Async-signal-safe.
    pub(super) fn await_permission(&self) -> bool {
        matches!(sys::recv(self.end.as_fd(), &mut [0], Wait::Yes), Ok(1..))
    }

    /// Twice the same if there is one.
    pub(super) fn descriptors(&self) -> [BorrowedFd<'_>; 2] {
        let end = self.end.as_fd();
        let notification = self.notification.as_ref();
        [
            end,
            notification.map_or(end, |notification| notification.as_fd()),
        ]
    }

    /// Whether one of the descriptors has this number. Async-signal-safe.
    pub(super) fn has_descriptor(&self, number: RawFd) -> bool {
        let mut own = self.descriptors().into_iter();
        own.any(|descriptor| descriptor.as_raw_fd() == number)
    }

    /// Leaves the descriptor by which the program reports open across execve(2). Gives it this
    /// number, which all other descriptors of this start that are still used have
    /// [vacated](sys::vacate). Async-signal-safe.
    pub(super) fn pass_notification_on(&mut self, number: Option<RawFd>) -> Result<(), Errno> {
        let Some(notification) = &self.notification else {
            return Ok(());
        };
        match number {
            Some(number) if number != notification.as_raw_fd() => {
                sys::vacate(&mut self.end, number)?;
                sys::dup2(notification.as_fd(), number)
            }
            _ => sys::clear_cloexec(notification.as_raw_fd()),
        }
    }
}

/// The end of the intermediate. It reads an end of file when the daemon has executed the program, or
/// has ended. No process of another thread of the launcher has a copy of either end, unlike of the
/// channels.
pub(super) struct ProgramWatch {
    launcher: Pid,
    end: OwnedFd,
    progress: Cell<Progress>,
    readiness: ReadinessWatch,
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
    /// How often the intermediate looks whether the launcher still exists.
    const LAUNCHER_PAUSE: Duration = Duration::from_millis(100);

    /// Precedes the fork of the daemon. Async-signal-safe.
    pub(super) fn begin(
        launcher: Pid,
        readiness: &ReadinessPlan,
    ) -> Result<(Self, ProgramMark), Errno> {
        let (end, mark) = sys::socketpair()?;
        let (readiness, notification) = ReadinessWatch::begin(readiness)?;
        let watch = Self {
            launcher,
            end,
            progress: Cell::new(Progress::Awaited),
            readiness,
        };
        let end = mark;
        Ok((watch, ProgramMark { end, notification }))
    }

    /// Whether the launcher, whose child this process is, has ended. Async-signal-safe.
    pub(super) fn is_launcher_gone(&self) -> bool {
        !sys::is_parent(self.launcher)
    }

    /// Twice the same if there is one.
    pub(super) fn descriptors(&self) -> [BorrowedFd<'_>; 2] {
        let end = self.end.as_fd();
        [end, self.readiness.descriptor().unwrap_or(end)]
    }

    /// Permits the daemon to execute the program. Async-signal-safe.
    pub(super) fn permit(&self) -> Result<(), Errno> {
        const PERMISSION: &[u8] = b"x";

        let (end, descriptors) = (self.end.as_fd(), [None; sys::MAX_PASSED_FDS]);
        sys::sendmsg(end, [PERMISSION, &[], &[]], descriptors, Deadline::NEVER).map(drop)
    }

    /// The next event of the daemon, which was not reaped.
    pub(super) fn next_event(
        &self,
        daemon: Pid,
        status: &ProgramStatus,
    ) -> Result<Option<ProgramEvent>, Errno> {
        if self.has_begun(daemon) {
            return Ok(Some(match self.readiness.step() {
                Some(step) => ProgramEvent::Executed(step),
                None => ProgramEvent::Ready,
            }));
        }
        match self.progress.get() {
            Progress::Awaited | Progress::EndOfFile(_) => Ok(None),
            Progress::Executed => self.readiness.try_recv(daemon, status),
        }
    }

    /// Reads what the program has sent before its end.
    pub(super) fn read_rest(&self, daemon: Pid, status: &ProgramStatus) {
        self.readiness.read_rest(daemon, status);
    }

    /// Returns true once, when the daemon has executed the program.
    fn has_begun(&self, daemon: Pid) -> bool {
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
        match self.progress.get() {
            Progress::Awaited => Some(self.end.as_fd()),
            Progress::EndOfFile(_) => None,
            Progress::Executed => self.readiness.descriptor(),
        }
    }

    /// The deadline of a wait that ends at `deadline`.
    pub(super) fn deadline(&self, deadline: Deadline) -> Deadline {
        let pause = match self.progress.get() {
            Progress::EndOfFile(_) => Self::PAUSE,
            Progress::Awaited | Progress::Executed => Self::LAUNCHER_PAUSE,
        };
        deadline.min(Deadline::after(pause))
    }
}
