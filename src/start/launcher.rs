//! The launcher: waits for the report of the daemon, decides, and cleans up after a failure.

use std::os::fd::AsFd as _;
use std::process::ExitStatus;
use std::time::Duration;

use crate::deadline::Deadline;
use crate::error::{Error, ErrorKind};
use crate::failure::Failure;
use crate::notify::NotifySocket;
use crate::outcome::{FailureMode, Parent};
use crate::pid_file::OpenPidFile;
use crate::start::channel::{LauncherEnds, LauncherSockets, Received};
use crate::start::plan::Plan;
use crate::start::protocol::{INTERMEDIATE_WAIT, Message, Order, SIGKILL_WAIT, SIGTERM_GRACE};
use crate::start::reasons::{self, DaemonFate, Late};
use crate::start::{text, unreaped};
use crate::sys::{self, ChildState, Errno, Pid, ProcessHandle, Signal, errno};

pub(super) struct Launcher<'a> {
    intermediate: Pid,
    ends: LauncherEnds,
    plan: &'a Plan<'a>,
    deadline: Deadline,
    failure_mode: FailureMode,
    /// `None` until the intermediate has forked.
    handles: Option<DaemonHandles>,
    last_panic: Option<LastPanic>,
    /// What the program of the daemon has said, as a reason.
    program_status: Option<String>,
    /// Whether the daemon cannot report any more: it has died, or it has become another program.
    is_disconnected: bool,
}

/// The descriptors by which the launcher cleans up after a daemon without an intermediate.
#[derive(Default)]
struct DaemonHandles {
    /// Always names the same process. `None` where the platform has no such handle.
    process: Option<ProcessHandle>,
    pid_file: Option<OpenPidFile>,
}

struct LastPanic {
    failure: Failure,
    is_survived: bool,
}

/// An event that ends a wait.
#[derive(PartialEq, Eq)]
enum StartEvent {
    /// The report of the daemon.
    Report(Message),
    /// The last message of the intermediate.
    Exit(Message),
    /// The intermediate was killed, or has already sent its last message.
    NoExitMessage,
    /// The time ran out, and the intermediate has not reacted.
    DeadlineMissed,
}

impl StartEvent {
    fn is_end_of_daemon(&self) -> bool {
        matches!(
            self,
            Self::Exit(Message::DaemonEnded(_) | Message::DaemonTerminated | Message::TimedOut)
        )
    }
}

impl<'a> Launcher<'a> {
    pub(super) fn new(
        intermediate: Pid,
        sockets: LauncherSockets,
        plan: &'a Plan<'a>,
        deadline: Deadline,
        failure_mode: FailureMode,
    ) -> Self {
        Self {
            intermediate,
            ends: LauncherEnds::new(sockets),
            plan,
            deadline,
            failure_mode,
            handles: None,
            last_panic: None,
            program_status: None,
            is_disconnected: false,
        }
    }

    pub(super) fn run(mut self) -> Result<Parent, Error> {
        let mut event = match self.next_event(true) {
            Ok(event) => event,
            Err(errno) => return Err(self.abort_start(errno)),
        };
        let mut late = Late::At(self.plan.progress.step());
        let mut daemon_stays = false;
        match &event {
            StartEvent::Report(Message::Failed(failure)) => {
                daemon_stays = self.is_survivable(failure);
                if !daemon_stays || self.ends.send_order(Order::Release).is_err() {
                    self.ends.terminate_daemon();
                }
            }
            StartEvent::Report(_) => {
                late = Late::Ready;
                if let Err(errno) = self.ends.send_order(Order::Commit) {
                    return Err(self.abort_start(errno));
                }
            }
            _ => {}
        }
        let (exit, reaped) = self.await_intermediate();

        let is_settled = daemon_stays || event.is_end_of_daemon() || exit.is_end_of_daemon();
        let mut ready_payload = Vec::new();
        if let StartEvent::Report(Message::Ready(payload)) = event {
            ready_payload = payload;
            event = exit;
        }
        if let (StartEvent::Exit(Message::Released(daemon)), Ok(state)) = (&event, &reaped) {
            match self.commit(*daemon) {
                Ok(()) => return Ok(self.succeed(*daemon, *state, ready_payload)),
                Err(failure) => event = StartEvent::Exit(Message::Failed(failure)),
            }
        }
        Err(self.clean_up(event, reaped, late, is_settled))
    }

    /// The event loop. The first call waits for the report of the daemon, or for a message which
    /// means that no report will come. The second call waits only for the end of the intermediate.
    fn next_event(&mut self, awaits_report: bool) -> Result<StartEvent, Errno> {
        loop {
            // The intermediate is read first. If it reports the end of the daemon, the last
            // message of the daemon has arrived by then, and names the cause. But a daemon that
            // has ended is not ready, whatever it has reported.
            let exit = self.try_recv_exit()?;
            let report = match awaits_report {
                true => self.try_recv_report()?,
                false => Received::Empty,
            };
            match (report, exit) {
                (Received::Some(report @ Message::Failed(_)), _) => {
                    return Ok(StartEvent::Report(report));
                }
                (_, Some(exit)) => return Ok(exit),
                (Received::Some(ready @ Message::Ready(_)), None) => {
                    return Ok(StartEvent::Report(ready));
                }
                (Received::Some(_), None) => return Err(errno::EPROTO),
                // An end of file says nothing about a program: the intermediate reports the
                // execution.
                (Received::EndOfFile, None)
                    if !self.is_disconnected && self.failure_mode != FailureMode::Spawn =>
                {
                    self.ends.terminate_daemon();
                    self.is_disconnected = true;
                }
                (Received::Empty | Received::EndOfFile, None) => {
                    let deadline = self.exit_deadline();
                    if deadline.has_passed() {
                        return Ok(StartEvent::DeadlineMissed);
                    }
                    self.ends.wait(awaits_report, deadline);
                }
            }
        }
    }

    /// The deadline by which the intermediate has to end. It is later than the deadline of the
    /// start, since the intermediate may have to terminate a daemon first. A file server, or a
    /// signal that stops the intermediate, may hold it up.
    fn exit_deadline(&self) -> Deadline {
        self.deadline.extended_by(match self.handles {
            Some(_) => INTERMEDIATE_WAIT,
            None => SIGTERM_GRACE,
        })
    }

    fn try_recv_exit(&mut self) -> Result<Option<StartEvent>, Errno> {
        loop {
            match self.ends.intermediate.try_recv()? {
                Received::Empty => return Ok(None),
                Received::EndOfFile => return Ok(Some(StartEvent::NoExitMessage)),
                Received::Some(Message::DaemonHandles(daemon)) => self.record_handles(daemon),
                Received::Some(Message::ProgramStatus(errno, text)) => {
                    let text = String::from_utf8_lossy(&text);
                    self.program_status = Some(reasons::program_status(errno, &text));
                }
                Received::Some(ready @ Message::Ready(_)) => {
                    return Ok(Some(StartEvent::Report(ready)));
                }
                Received::Some(message) => return Ok(Some(StartEvent::Exit(message))),
            }
        }
    }

    fn try_recv_report(&mut self) -> Result<Received<Message>, Errno> {
        loop {
            match self.ends.daemon.try_recv()? {
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

    /// The number of descriptors shows which ones they are.
    fn record_handles(&mut self, daemon: Pid) {
        let (process, pid_file) = match self.ends.take_descriptors() {
            [Some(lock), Some(writable), None] => (None, Some((lock, writable))),
            [process, lock, writable] => (process, lock.zip(writable)),
        };
        let process = sys::claim_process(process, daemon, self.intermediate);
        let pid_file = pid_file.and_then(|(lock, writable)| OpenPidFile::received(lock, writable));
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

    /// Waits for the end of the intermediate, and reaps it. Returns its last message too. The state
    /// is `Running` if the intermediate could not be killed; a later start then reaps it.
    fn await_intermediate(&mut self) -> (StartEvent, Result<ChildState, Errno>) {
        if !self.deadline.is_set() {
            // Without a deadline, the end of the process is the only event to wait for.
            let reaped = sys::waitpid(self.intermediate);
            return (self.await_exit(), reaped);
        }
        let exit = self.await_exit();
        if exit == StartEvent::NoExitMessage {
            self.ends.shutdown_intermediate_channel();
        }
        let reaped = match exit {
            StartEvent::DeadlineMissed => kill_intermediate(self.intermediate),
            _ => reap(self.intermediate, self.deadline),
        };
        if self.handles.is_none() {
            // The handles may have arrived meanwhile.
            self.await_exit();
        }
        (exit, reaped)
    }

    fn await_exit(&mut self) -> StartEvent {
        self.next_event(false).unwrap_or_else(|errno| {
            StartEvent::Exit(Message::Failed(ErrorKind::Channel(errno).into()))
        })
    }

    /// Acknowledges the report of the daemon. If the daemon is a successor, the takeover of the pid
    /// file commits the start: if the launcher is killed right after the takeover, a daemon runs.
    fn commit(&self, daemon: Pid) -> Result<(), Failure> {
        if self.failure_mode == FailureMode::Spawn {
            // The program has no connection to the launcher.
            return Ok(());
        }
        let acknowledged = |kind| Failure::from(kind);
        let Some(takeover) = &self.plan.takeover else {
            return self.ends.acknowledge().map_err(acknowledged);
        };
        let handles = self.handles.as_ref();
        let pid_file = handles.and_then(|handles| handles.pid_file.as_ref());
        let taken_over = takeover.run(daemon, pid_file.map(OpenPidFile::id))?;
        match self.ends.acknowledge() {
            Ok(()) => {
                taken_over.finish();
                Ok(())
            }
            Err(kind) => {
                taken_over.undo();
                Err(acknowledged(kind))
            }
        }
    }

    fn succeed(self, daemon: Pid, intermediate: ChildState, payload: Vec<u8>) -> Parent {
        // The notification takes time. Meanwhile only the daemon may hold the pid file.
        drop((self.ends, self.handles));
        // The launcher of a program lives on, and may itself be the main process of a service.
        let is_main = self.failure_mode != FailureMode::Spawn;
        if let Some(systemd) = is_main.then(NotifySocket::open).flatten() {
            systemd.notify_ready_for(daemon);
        }
        Parent {
            first_child_exit_status: intermediate.status().unwrap_or_default(),
            daemon_pid: daemon.number(),
            payload,
        }
    }

    /// The failure of a daemon that has ended without a report: its last panic may be the
    /// cause.
    fn failure_of_ended_daemon(&self, status: Option<ExitStatus>) -> Failure {
        let exited = Failure::from(ErrorKind::DaemonExited);
        if let Some(status) = &self.program_status {
            return exited.with_reason(status.clone());
        }
        match &self.last_panic {
            None => {
                let has_closures = self.failure_mode != FailureMode::Spawn;
                let status = status.filter(|_| has_closures);
                exited.with_reason(reasons::daemon_ended(status, &self.plan.streams))
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
            Ok(ChildState::Ended(_)) => {}
            Ok(ChildState::Running) => {
                if let Some(process) = self.handles.and_then(|handles| handles.process) {
                    unreaped::add_process(process);
                }
            }
            Err(errno) => return ErrorKind::Wait(errno).into(),
        }
        ErrorKind::Channel(errno).into()
    }

    /// Terminates a daemon without an intermediate, unless its fate is settled, and makes the
    /// error of the start.
    fn clean_up(
        mut self,
        event: StartEvent,
        reaped: Result<ChildState, Errno>,
        late: Late,
        is_settled: bool,
    ) -> Error {
        let is_before_daemon = self.handles.is_none()
            && matches!(late, Late::At(Some(step)) if step.is_before_daemon());
        // The intermediate could not terminate a daemon that cannot report any more.
        let may_be_left = self.is_disconnected
            && matches!(&event, StartEvent::Exit(Message::Failed(failure))
                if failure.kind == ErrorKind::NotReady);
        let fate = match is_settled {
            true => DaemonFate::Terminated,
            false => {
                let is_program = self.failure_mode == FailureMode::Spawn;
                let is_end = !may_be_left && !is_program;
                match terminate_orphan(&mut self.ends, self.handles.take(), is_end) {
                    DaemonFate::MayBeLeft if is_program => DaemonFate::MayRunOn,
                    fate => fate,
                }
            }
        };
        let fate = match fate {
            DaemonFate::MayBeLeft => fate,
            _ if is_before_daemon => DaemonFate::NotForked,
            _ => fate,
        };
        let options = self.plan.options;
        let was_disconnected = may_be_left || event == StartEvent::Exit(Message::DaemonTerminated);
        match (event, reaped) {
            _ if was_disconnected => {
                Error::from(ErrorKind::DaemonExited).with_reason(reasons::daemon_disconnected(fate))
            }
            (
                StartEvent::Report(Message::Failed(failure))
                | StartEvent::Exit(Message::Failed(failure)),
                _,
            ) if failure.kind != ErrorKind::StartupTimeout => {
                let pid_file = options.absolute_locked_pid_file();
                let failure = match &self.program_status {
                    Some(status) if failure.kind == ErrorKind::NotReady => {
                        failure.with_reason(status.clone())
                    }
                    _ => failure,
                };
                reasons::describe(failure, options, pid_file.as_deref())
            }
            (StartEvent::Exit(Message::DaemonEnded(status)), _) => {
                reasons::describe(self.failure_of_ended_daemon(status), options, None)
                    .with_exit_status(status)
            }
            (StartEvent::NoExitMessage | StartEvent::Exit(Message::Released(_)), Err(errno)) => {
                ErrorKind::Wait(errno).into()
            }
            (StartEvent::NoExitMessage, Ok(state)) => Error::from(ErrorKind::IntermediateExited)
                .with_reason(reasons::intermediate_ended(state.status(), fate)),
            // The time ran out. A failure of the kind `StartupTimeout` means that a process could
            // not be terminated.
            (event, reaped) => {
                let is_left = matches!(reaped, Ok(ChildState::Running))
                    && !matches!(event, StartEvent::Exit(Message::Failed(_)));
                let intermediate = is_left.then(|| self.intermediate.number());
                let timeout = options.startup_timeout;
                let mut reason = reasons::time_ran_out(timeout, late, fate, intermediate);
                if let Some(status) = &self.program_status {
                    reason.push_str("; ");
                    reason.push_str(status);
                }
                Error::from(ErrorKind::StartupTimeout).with_reason(reason)
            }
        }
    }
}

/// Reaps an intermediate that is about to end, or to terminate the daemon and then end.
fn reap(intermediate: Pid, deadline: Deadline) -> Result<ChildState, Errno> {
    if deadline.is_set() {
        if let Some(process) = sys::open_process(intermediate) {
            if !sys::await_readable(process.as_fd(), Deadline::after(INTERMEDIATE_WAIT)) {
                return kill_intermediate(intermediate);
            }
        }
    }
    sys::waitpid(intermediate)
}

fn kill_intermediate(intermediate: Pid) -> Result<ChildState, Errno> {
    const PAUSE: Duration = Duration::from_millis(2);

    let deadline = Deadline::after(SIGKILL_WAIT);
    let mut state = sys::kill_child(intermediate)?;
    while matches!(state, ChildState::Running) {
        if deadline.has_passed() {
            unreaped::add_child(intermediate);
            break;
        }
        sys::sleep(PAUSE);
        state = sys::try_waitpid(intermediate)?;
    }
    Ok(state)
}

/// Terminates a daemon whose intermediate is gone, and clears its pid file.
///
/// No process of the start is the parent of the daemon, so only a handle names it safely. If the
/// launcher lacks the handle, or the right to signal, the daemon ends at its next report, since the
/// launcher does not acknowledge the report. The daemon then clears the file itself. If the daemon
/// becomes a child of this process, a later start reaps it.
///
/// `is_end` says whether an end of file proves the end of the daemon.
fn terminate_orphan(
    ends: &mut LauncherEnds,
    handles: Option<DaemonHandles>,
    is_end: bool,
) -> DaemonFate {
    let DaemonHandles { process, pid_file } = handles.unwrap_or_default();
    ends.reject_daemon();
    let fate = match &process {
        Some(process) if terminate_process(process) => DaemonFate::Terminated,
        Some(process) if sys::await_readable(process.as_fd(), Deadline::after(SIGTERM_GRACE)) => {
            DaemonFate::Ended
        }
        None if is_end && ends.await_daemon_end(Deadline::after(SIGTERM_GRACE)) => {
            DaemonFate::NoneLeft
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

/// Terminates a process, and reaps it if it has become a child of this process. Returns false if
/// the launcher may not signal the process, or if the process does not end.
fn terminate_process(process: &ProcessHandle) -> bool {
    for (signal, wait) in [(Signal::TERM, SIGTERM_GRACE), (Signal::KILL, SIGKILL_WAIT)] {
        match sys::signal_process(process, signal) {
            Ok(()) | Err(errno::ESRCH) => {}
            Err(_) => return false,
        }
        if sys::await_readable(process.as_fd(), Deadline::after(wait)) {
            sys::reap(process);
            return true;
        }
    }
    false
}
