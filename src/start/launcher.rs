//! The launcher: waits for the report of the daemon, decides, and cleans up after a failure.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::process::ExitStatus;
use std::time::Duration;

use crate::deadline::Deadline;
use crate::error::{Error, ErrorKind};
use crate::failure::Failure;
use crate::notify::NotifySocket;
use crate::options::Options;
use crate::outcome::{FailureMode, Parent};
use crate::pid_file::OpenPidFile;
use crate::start::channel::{LauncherEnds, Received};
use crate::start::plan::Plan;
use crate::start::protocol::{INTERMEDIATE_WAIT, Message, Order, SIGKILL_WAIT, SIGTERM_GRACE};
use crate::start::reasons::{self, DaemonFate, Late};
use crate::start::{text, unreaped};
use crate::sys::{self, ChildState, Errno, Pid, Signal, errno};

pub(super) struct Launcher<'a> {
    pub(super) intermediate: Pid,
    pub(super) ends: LauncherEnds,
    pub(super) plan: &'a Plan<'a>,
    pub(super) deadline: Deadline,
    pub(super) failure_mode: FailureMode,
    pub(super) phase: Phase,
    /// Is `None` until the intermediate has forked.
    pub(super) handles: Option<DaemonHandles>,
    pub(super) last_panic: Option<LastPanic>,
}

/// What the event loop waits for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// The report of the daemon.
    Report,
    /// The end of a daemon that cannot report any more: it has died, or it has become
    /// another program. The intermediate terminates it.
    Disconnected,
    /// The end of the intermediate.
    IntermediateExit,
}

/// The descriptors by which the launcher cleans up after a daemon without an intermediate.
pub(super) struct DaemonHandles {
    /// Names the process for good, where the platform can do so.
    process: Option<OwnedFd>,
    pid_file: Option<OpenPidFile>,
}

/// The last panic that the daemon has reported.
pub(super) struct LastPanic {
    failure: Failure,
    is_survived: bool,
}

/// What ends a wait of the event loop.
enum StartEvent {
    Ready,
    /// The daemon has reported a failure, and may return to its caller.
    DaemonFailed(Failure),
    IntermediateExit(IntermediateExit),
}

/// How the work of the intermediate ended.
#[derive(PartialEq, Eq)]
enum IntermediateExit {
    /// The intermediate has left the daemon with this pid alone, as ordered.
    Released(Pid),
    /// The daemon ended by itself.
    DaemonEnded(Option<ExitStatus>),
    /// The intermediate terminated the daemon, as ordered.
    DaemonTerminated,
    /// The intermediate could not terminate a daemon that cannot report any more.
    DaemonMayBeLeft,
    /// The intermediate terminated the daemon, since the time ran out.
    TimedOut,
    Failed(Failure),
    /// The intermediate was killed, or had sent its message before.
    NoExitMessage,
    /// The intermediate does not see to it that the time has run out.
    DeadlineMissed,
}

/// What became of the process of the intermediate.
enum Reaped {
    /// Without a status where other code has reaped it.
    Exited(Option<ExitStatus>),
    /// The intermediate could not be killed in time. A later start reaps it.
    Left,
}

/// Why the start has failed. Some texts include the fate of the daemon.
enum Cause {
    Known(Error),
    Disconnected,
    IntermediateDied(Option<ExitStatus>),
    /// With the pid of an intermediate that is left.
    TimeRanOut(Option<u32>),
}

impl Launcher<'_> {
    pub(super) fn run(mut self) -> Result<Parent, Error> {
        let event = match self.next_event() {
            Ok(event) => event,
            Err(errno) => return Err(self.abort_start(errno)),
        };
        let is_ready = matches!(event, StartEvent::Ready);
        let mut daemon_stays = false;
        match &event {
            StartEvent::Ready => {
                if let Err(errno) = self.ends.send_order(Order::Commit) {
                    return Err(self.abort_start(errno));
                }
            }
            StartEvent::DaemonFailed(failure) => {
                daemon_stays = self.is_survivable(failure);
                if !daemon_stays || self.ends.send_order(Order::Release).is_err() {
                    self.ends.terminate_daemon();
                }
            }
            StartEvent::IntermediateExit(IntermediateExit::Failed(_)) => {
                self.ends.terminate_daemon();
            }
            StartEvent::IntermediateExit(_) => {}
        }
        // The step is read before this process terminates a daemon without an intermediate.
        let late = match is_ready {
            true => Late::Ready,
            false => Late::At(self.plan.progress.step()),
        };
        let exit = self.await_intermediate_exit();
        let reaped = self.reap_intermediate(&exit);

        let has_ended = exit.says_that_daemon_has_ended();
        let exit = match event {
            StartEvent::Ready => exit,
            StartEvent::DaemonFailed(failure) => IntermediateExit::Failed(failure),
            StartEvent::IntermediateExit(exit) => exit,
        };
        let has_ended = has_ended || exit.says_that_daemon_has_ended();
        let cause = match (exit, reaped) {
            (IntermediateExit::Released(daemon), Ok(reaped)) => match self.ends.acknowledge() {
                Ok(()) => return Ok(self.succeed(daemon, reaped)),
                Err(kind) => Cause::Known(kind.into()),
            },
            (IntermediateExit::Failed(failure), _) if failure.kind == ErrorKind::StartupTimeout => {
                Cause::TimeRanOut(None)
            }
            (IntermediateExit::Failed(failure), _) => Cause::Known(self.describe(failure)),
            (IntermediateExit::DaemonEnded(status), _) => {
                let failure = self.failure_of_ended_daemon();
                let error = reasons::describe(failure, self.plan.options, None);
                Cause::Known(error.with_exit_status(status))
            }
            (IntermediateExit::DaemonTerminated | IntermediateExit::DaemonMayBeLeft, _) => {
                Cause::Disconnected
            }
            (IntermediateExit::TimedOut | IntermediateExit::DeadlineMissed, reaped) => {
                let is_left = matches!(reaped, Ok(Reaped::Left));
                Cause::TimeRanOut(is_left.then(|| self.intermediate.number()))
            }
            (_, Err(errno)) => Cause::Known(ErrorKind::Wait(errno).into()),
            (IntermediateExit::NoExitMessage, Ok(reaped)) => {
                Cause::IntermediateDied(reaped.status())
            }
        };
        Err(self.clean_up(cause, late, has_ended, daemon_stays))
    }

    /// The event loop: returns at the next event of the present phase.
    fn next_event(&mut self) -> Result<StartEvent, Errno> {
        loop {
            // The intermediate is read first. If it reports the end of the daemon, the last
            // message of the daemon has arrived by then, and names the cause. But a daemon
            // that has ended is not ready, whatever it reported.
            let exit = self.try_recv_exit()?;
            let report = match self.phase {
                Phase::Report | Phase::Disconnected => self.try_recv_report()?,
                Phase::IntermediateExit => Received::Empty,
            };
            match (report, exit, self.phase) {
                (Received::Some(Message::Failed(failure)), _, _) => {
                    return Ok(StartEvent::DaemonFailed(failure));
                }
                (_, Some(exit), _) => return Ok(StartEvent::IntermediateExit(exit)),
                (Received::Some(Message::Ready), None, _) => return Ok(StartEvent::Ready),
                (Received::Some(_), None, _) => return Err(errno::EPROTO),
                (Received::EndOfFile, None, Phase::Report) => {
                    self.ends.terminate_daemon();
                    self.phase = Phase::Disconnected;
                }
                (Received::Empty | Received::EndOfFile, None, phase) => {
                    let deadline = self.exit_deadline();
                    if deadline.has_passed() {
                        let exit = IntermediateExit::DeadlineMissed;
                        return Ok(StartEvent::IntermediateExit(exit));
                    }
                    match phase {
                        Phase::IntermediateExit => self.ends.wait_for_intermediate(deadline),
                        Phase::Report | Phase::Disconnected => self.ends.wait(deadline),
                    }
                }
            }
        }
    }

    /// The deadline by which the intermediate has to end after the time has run out. It may
    /// have to terminate a daemon first. A file server, or a signal that stops it, may hold
    /// it up.
    fn exit_deadline(&self) -> Deadline {
        self.deadline.extended_by(match self.handles {
            Some(_) => INTERMEDIATE_WAIT,
            None => SIGTERM_GRACE,
        })
    }

    fn try_recv_exit(&mut self) -> Result<Option<IntermediateExit>, Errno> {
        loop {
            let exit = match self.ends.try_recv_intermediate()? {
                Received::Empty => return Ok(None),
                Received::EndOfFile => IntermediateExit::NoExitMessage,
                Received::Some(message) => match (message, self.phase) {
                    (
                        Message::DaemonHandles {
                            has_process,
                            has_pid_file,
                        },
                        _,
                    ) => {
                        self.record_handles(has_process, has_pid_file);
                        continue;
                    }
                    (Message::Failed(failure), Phase::Disconnected)
                        if failure.kind == ErrorKind::NotReady =>
                    {
                        IntermediateExit::DaemonMayBeLeft
                    }
                    (Message::Failed(failure), _) => IntermediateExit::Failed(failure),
                    (Message::DaemonEnded(status), _) => IntermediateExit::DaemonEnded(status),
                    (Message::DaemonTerminated, _) => IntermediateExit::DaemonTerminated,
                    (Message::TimedOut, _) => IntermediateExit::TimedOut,
                    (Message::Released(daemon), Phase::IntermediateExit) => {
                        IntermediateExit::Released(daemon)
                    }
                    _ => return Err(errno::EPROTO),
                },
            };
            return Ok(Some(exit));
        }
    }

    fn try_recv_report(&mut self) -> Result<Received<Message>, Errno> {
        loop {
            match self.ends.try_recv_daemon()? {
                Received::Some(Message::Panicking(failure)) => {
                    self.last_panic = Some(LastPanic {
                        failure,
                        is_survived: false,
                    });
                }
                Received::Some(Message::PanicSurvived) => {
                    if let Some(panic) = &mut self.last_panic {
                        panic.is_survived = true;
                    }
                }
                report => return Ok(report),
            }
        }
    }

    fn record_handles(&mut self, has_process: bool, has_pid_file: bool) {
        let mut descriptors = self.ends.take_descriptors().into_iter().flatten();
        let process = has_process.then(|| descriptors.next()).flatten();
        let pid_file = match (has_pid_file, descriptors.next(), descriptors.next()) {
            (true, Some(lock), Some(writable)) => OpenPidFile::received(lock, writable),
            _ => None,
        };
        self.handles = Some(DaemonHandles { process, pid_file });
    }

    /// Whether a daemon with this failure returns to its caller.
    fn is_survivable(&self, failure: &Failure) -> bool {
        let ends_daemon = match failure.kind {
            ErrorKind::PrivilegesRetained | ErrorKind::NotReady => true,
            ErrorKind::Panicked => cfg!(panic = "abort"),
            _ => false,
        };
        self.failure_mode == FailureMode::Return && !ends_daemon
    }

    fn await_intermediate_exit(&mut self) -> IntermediateExit {
        self.phase = Phase::IntermediateExit;
        match self.next_event() {
            Ok(StartEvent::IntermediateExit(exit)) => exit,
            // The daemon is not read in this phase.
            Ok(StartEvent::Ready | StartEvent::DaemonFailed(_)) => IntermediateExit::NoExitMessage,
            Err(errno) => IntermediateExit::Failed(ErrorKind::Channel(errno).into()),
        }
    }

    fn reap_intermediate(&mut self, exit: &IntermediateExit) -> Result<Reaped, Errno> {
        if *exit == IntermediateExit::NoExitMessage {
            self.ends.shutdown_intermediate_channel();
        }
        let reaped = match exit {
            IntermediateExit::DeadlineMissed => kill_intermediate(self.intermediate),
            _ => reap(self.intermediate, self.deadline),
        };
        if self.handles.is_none() {
            // The handles may have arrived meanwhile.
            self.await_intermediate_exit();
        }
        reaped
    }

    fn succeed(self, daemon: Pid, intermediate: Reaped) -> Parent {
        // The notification takes time, and the pid file is the daemon's alone.
        drop((self.ends, self.handles));
        if let Some(systemd) = NotifySocket::open() {
            systemd.notify_ready_for(daemon);
        }
        Parent {
            first_child_exit_status: intermediate.status().unwrap_or_default(),
            daemon_pid: daemon.number(),
        }
    }

    fn options(&self) -> &Options {
        self.plan.options
    }

    fn describe(&self, failure: Failure) -> Error {
        let options = self.options();
        reasons::describe(failure, options, options.absolute_pid_file().as_deref())
    }

    /// The failure of a daemon that has ended without a report: its last panic may be the
    /// cause.
    fn failure_of_ended_daemon(&self) -> Failure {
        let exited = Failure::from(ErrorKind::DaemonExited);
        match &self.last_panic {
            None => {
                let [_, _, stderr] = &self.plan.streams;
                exited.with_reason(reasons::daemon_ended(stderr.as_ref()))
            }
            Some(panic) if !panic.is_survived => panic.failure.clone(),
            Some(LastPanic { failure, .. }) => exited.with_reason(match failure.kind {
                ErrorKind::Panicked => text::with_panic_prefix(&failure.reason),
                _ => failure.reason.clone().into_owned(),
            }),
        }
    }

    /// The channels are broken. The intermediate takes the end of file for the death of the
    /// launcher, and terminates the daemon.
    fn abort_start(self, errno: Errno) -> Error {
        drop(self.ends);
        match reap(self.intermediate, self.deadline) {
            Ok(Reaped::Exited(_)) => ErrorKind::Channel(errno).into(),
            Ok(Reaped::Left) => {
                if let Some(process) = self.handles.and_then(|handles| handles.process) {
                    unreaped::add_process(process);
                }
                ErrorKind::Channel(errno).into()
            }
            Err(errno) => ErrorKind::Wait(errno).into(),
        }
    }

    /// Terminates a daemon without an intermediate, and makes the error.
    fn clean_up(self, cause: Cause, late: Late, has_ended: bool, daemon_stays: bool) -> Error {
        let is_before_daemon = self.handles.is_none()
            && matches!(late, Late::At(Some(step)) if step.is_before_daemon());
        let timeout = self.options().startup_timeout;
        let fate = if has_ended || daemon_stays {
            DaemonFate::Terminated
        } else {
            let is_disconnected = matches!(cause, Cause::Disconnected);
            terminate_orphan(self.ends, self.handles, is_disconnected)
        };
        let fate = match fate {
            DaemonFate::Ended if is_before_daemon => DaemonFate::NotForked,
            DaemonFate::Terminated if has_ended && is_before_daemon => DaemonFate::NotForked,
            fate => fate,
        };
        let (kind, reason) = match cause {
            Cause::Known(error) => return error,
            Cause::Disconnected => (ErrorKind::DaemonExited, reasons::daemon_disconnected(fate)),
            Cause::IntermediateDied(status) => (
                ErrorKind::IntermediateExited,
                reasons::intermediate_ended(status, fate),
            ),
            Cause::TimeRanOut(intermediate) => (
                ErrorKind::StartupTimeout,
                reasons::time_ran_out(timeout, late, fate, intermediate),
            ),
        };
        Error::from(kind).with_reason(reason)
    }
}

impl IntermediateExit {
    fn says_that_daemon_has_ended(&self) -> bool {
        matches!(
            self,
            Self::DaemonEnded(_) | Self::DaemonTerminated | Self::TimedOut
        )
    }
}

impl Reaped {
    fn status(self) -> Option<ExitStatus> {
        match self {
            Self::Exited(status) => status,
            Self::Left => None,
        }
    }
}

/// Reaps an intermediate that is about to end, or to terminate the daemon and then end.
fn reap(intermediate: Pid, deadline: Deadline) -> Result<Reaped, Errno> {
    if deadline.is_set() {
        if let Some(process) = sys::open_process(intermediate) {
            if !sys::await_readable(process.as_fd(), Some(INTERMEDIATE_WAIT)) {
                return kill_intermediate(intermediate);
            }
        }
    }
    sys::waitpid(intermediate).map(Reaped::Exited)
}

fn kill_intermediate(intermediate: Pid) -> Result<Reaped, Errno> {
    const PAUSE: Duration = Duration::from_millis(2);

    let deadline = Deadline::after(SIGKILL_WAIT);
    let mut state = sys::kill_child(intermediate)?;
    loop {
        match state {
            ChildState::Ended(status) => return Ok(Reaped::Exited(status)),
            ChildState::Running if deadline.has_passed() => {
                unreaped::add_child(intermediate);
                return Ok(Reaped::Left);
            }
            ChildState::Running => sys::sleep(PAUSE),
        }
        state = sys::try_waitpid(intermediate)?;
    }
}

/// Terminates a daemon whose intermediate is gone, and clears its pid file.
///
/// No process is the parent of the daemon, so that only a descriptor names it safely. Without
/// the descriptor, or the right to signal, the daemon ends at its next report, since nothing
/// acknowledges the report. It then clears the file itself. If the daemon becomes a child of
/// this process, a later start reaps it.
///
/// An end of file says that the daemon has ended, unless the daemon has just closed its
/// channel and `is_disconnected`.
fn terminate_orphan(
    ends: LauncherEnds,
    handles: Option<DaemonHandles>,
    is_disconnected: bool,
) -> DaemonFate {
    let (process, pid_file) = match handles {
        Some(handles) => (handles.process, handles.pid_file),
        None => (None, None),
    };
    ends.reject_daemon();
    let fate = match &process {
        Some(process) if terminate_process(process.as_fd()) => DaemonFate::Terminated,
        Some(process) if sys::await_readable(process.as_fd(), Some(SIGTERM_GRACE)) => {
            DaemonFate::Ended
        }
        None if !is_disconnected && ends.await_daemon_end(Deadline::after(SIGTERM_GRACE)) => {
            DaemonFate::Ended
        }
        _ => DaemonFate::MayBeLeft,
    };
    if fate == DaemonFate::MayBeLeft {
        if let Some(process) = process {
            unreaped::add_process(process);
        }
    } else if let Some(pid_file) = pid_file {
        pid_file.clear(None);
    }
    fate
}

/// Terminates a process, and reaps it where it has become a child of this process. Is false
/// where the process may not be signalled, or does not end.
fn terminate_process(process: BorrowedFd<'_>) -> bool {
    for (signal, wait) in [
        (Signal::TERMINATE, SIGTERM_GRACE),
        (Signal::KILL, SIGKILL_WAIT),
    ] {
        match sys::signal_process(process, signal) {
            Ok(()) | Err(errno::ESRCH) => {}
            Err(_) => return false,
        }
        if sys::await_readable(process, Some(wait)) {
            sys::reap(process);
            return true;
        }
    }
    false
}
