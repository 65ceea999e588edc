//! The intermediate: makes the daemon, and supervises it until the start is committed or has
//! failed. Every call in here is async-signal-safe.

use std::mem;
use std::os::fd::AsFd as _;
use std::process::ExitStatus;
use std::time::Duration;

use crate::deadline::Deadline;
use crate::error::ErrorKind;
use crate::failure::Failure;
use crate::pid_file::OpenPidFile;
use crate::start::channel::{DaemonEnd, IntermediateEnd, Received, is_gone};
use crate::start::plan::Plan;
use crate::start::program_readiness::{ProgramEvent, ProgramStatus};
use crate::start::program_watch::{ProgramMark, ProgramWatch};
use crate::start::progress::{Progress, Step};
use crate::start::protocol::{Message, Order, SIGKILL_WAIT, SIGTERM_GRACE};
use crate::start::steps::{prepare_inherited_state, reset_signals};
use crate::sys::{
    self, ChildState, ChildWatch, Errno, Fork, MAX_PASSED_FDS, Pid, Signal, SingleThreaded, Uid,
};

pub(super) struct Inheritance {
    pub(super) launcher: DaemonEnd,
    pub(super) intermediate: Pid,
    /// The daemon reports a failure of the intermediate's steps. If the second fork fails too,
    /// the start reports only the failed fork.
    pub(super) prepared: Result<Option<OpenPidFile>, Failure>,
    /// Stays open until the daemon executes a program, or ends.
    pub(super) program_mark: Option<ProgramMark>,
}

/// Returns only in the daemon.
pub(super) fn run(
    plan: &mut Plan<'_>,
    launcher: IntermediateEnd,
    daemon_end: DaemonEnd,
    deadline: Deadline,
    single_threaded: &SingleThreaded,
) -> Inheritance {
    // A handler of pthread_atfork(3) may have armed the signal.
    sys::disarm_parent_death_signal();
    if sys::is_parent_in_other_pid_namespace() {
        report_failure_and_exit(&launcher, in_other_pid_namespace());
    }
    // A new session has no terminal. The daemon is a member of the session but not its leader,
    // so that it cannot acquire another terminal.
    if let Err(errno) = sys::setsid() {
        report_failure_and_exit(&launcher, ErrorKind::DetachSession(errno));
    }
    // Precedes the watch, which sets a handler.
    let signals_reset = reset_signals(plan);
    let child_watch = match ChildWatch::begin() {
        Ok(child_watch) => child_watch,
        Err(errno) => report_failure_and_exit(&launcher, ErrorKind::Channel(errno)),
    };
    let program = plan.program.as_ref();
    let program = program.map(|program| ProgramWatch::begin(program.launcher, &program.readiness));
    let program = match program.transpose() {
        Ok(program) => program,
        Err(errno) => report_failure_and_exit(&launcher, ErrorKind::Channel(errno)),
    };
    if let Some(kept) = &mut plan.kept_descriptors {
        kept.add(child_watch.descriptors());
        if let Some((watch, mark)) = &program {
            kept.add(watch.descriptors());
            kept.add(mark.descriptors());
        }
    }
    // The intermediate takes these steps, since it needs the open pid file: it clears the file
    // for a daemon that is killed.
    let prepared = signals_reset.and_then(|()| prepare_inherited_state(plan));
    // A step may have waited for a file server.
    if deadline.has_passed() {
        report_and_exit(&launcher, &Message::TimedOut);
    }
    plan.progress.reach(Step::Fork);
    let intermediate = Pid::current();
    match sys::fork(single_threaded) {
        Err(errno) => report_failure_and_exit(&launcher, ErrorKind::Fork(errno)),
        Ok(Fork::Parent(daemon)) => {
            drop(daemon_end);
            let supervisor = Supervisor {
                daemon,
                launcher,
                pid_file: prepared.ok().flatten(),
                deadline,
                child_watch,
                daemon_user: plan.identity.as_ref().and_then(|identity| identity.user),
                program: program
                    .map(|(watch, _)| watch)
                    .zip(plan.program.as_ref().map(|program| &program.status)),
                progress: &plan.progress,
            };
            supervisor.run()
        }
        Ok(Fork::Child) => {
            drop(launcher);
            child_watch.end();
            Inheritance {
                launcher: daemon_end,
                intermediate,
                prepared,
                program_mark: program.map(|(_, mark)| mark),
            }
        }
    }
}

fn report_failure_and_exit(launcher: &IntermediateEnd, failure: impl Into<Failure>) -> ! {
    report_and_exit(launcher, &Message::Failed(failure.into()))
}

fn report_and_exit(launcher: &IntermediateEnd, message: &Message) -> ! {
    launcher.send(message);
    sys::_exit(1)
}

/// The caller has put its children into another pid namespace. In a new namespace the
/// intermediate is the first process, whose end terminates the daemon. In any other namespace,
/// the launcher cannot know the pid of the daemon.
fn in_other_pid_namespace() -> Failure {
    let reason = if Pid::current().is_first() {
        "the intermediate process is pid 1 in that namespace, and its exit would end the daemon; \
         call fork(2) after unshare(2), as `unshare --fork` does, or use `foreground`"
    } else {
        "the launcher cannot determine the pid of a process in that namespace; call fork(2) after \
         setns(2), as `nsenter --fork` does, or use `foreground`"
    };
    Failure::from(ErrorKind::PidNamespace).with_reason(reason)
}

/// The intermediate once the daemon exists.
struct Supervisor<'a> {
    /// The supervisor alone reaps the daemon, so that the pid is the daemon's until then.
    daemon: Pid,
    launcher: IntermediateEnd,
    pid_file: Option<OpenPidFile>,
    deadline: Deadline,
    child_watch: ChildWatch,
    /// The user that the daemon becomes.
    daemon_user: Option<Uid>,
    /// The program that the daemon executes.
    program: Option<(ProgramWatch, &'a ProgramStatus)>,
    progress: &'a Progress,
}

/// The status of a daemon that has ended, if it is known.
type Ended = Option<ExitStatus>;

impl Supervisor<'_> {
    fn run(&self) -> ! {
        self.send_daemon_handles();
        if let Some((program, _)) = &self.program {
            self.terminate_unless_sent(program.permit());
        }
        loop {
            if let Some(status) = self.try_reap_daemon() {
                self.clear_and_exit(Message::DaemonEnded(status));
            }
            if let Some((program, status)) = &self.program {
                match program.next_event(self.daemon, status) {
                    Ok(None) => {}
                    Ok(Some(event)) => self.react_to(event),
                    Err(errno) => self.terminate_for_channel(errno),
                }
            }
            match self.launcher.try_recv_order() {
                Ok(Received::Empty) => {}
                Ok(Received::Some(Order::Commit)) => match self.write_pid() {
                    Ok(()) => self.release_daemon(),
                    Err(failure) => self
                        .terminate_and_exit(ErrorKind::DaemonExited, |_| Message::Failed(failure)),
                },
                Ok(Received::Some(Order::Release)) => self.release_daemon(),
                Ok(Received::Some(Order::TerminateDaemon)) => {
                    self.await_end_and_exit(Message::DaemonTerminated);
                }
                Ok(Received::EndOfFile) => {
                    self.terminate_and_exit(ErrorKind::LauncherGone, Message::DaemonEnded);
                }
                Err(errno) => self.terminate_for_channel(errno),
            }
            if self.is_launcher_gone() {
                self.terminate_and_exit(ErrorKind::LauncherGone, Message::DaemonEnded);
            }
            if self.deadline.has_passed() {
                self.terminate_and_exit(ErrorKind::StartupTimeout, |_| Message::TimedOut);
            }
            let launcher = Some(self.launcher.descriptor());
            let (program, deadline) = match &self.program {
                Some((program, _)) => (program.descriptor(), program.deadline(self.deadline)),
                None => (None, self.deadline),
            };
            self.child_watch.wait([launcher, program], deadline);
        }
    }

    /// A child that another thread of the launcher has forked may have a copy of the launcher's end
    /// of the channel, so that no end of file comes.
    fn is_launcher_gone(&self) -> bool {
        self.program
            .as_ref()
            .is_some_and(|(program, _)| program.is_launcher_gone())
    }

    fn react_to(&self, event: ProgramEvent) {
        let not_ready = Failure::from(ErrorKind::NotReady);
        match event {
            ProgramEvent::Executed(step) => self.progress.reach(step),
            ProgramEvent::Ready => {
                let ready = Message::Ready(Vec::new());
                let sent = self.launcher.send_with(&ready, [None; MAX_PASSED_FDS]);
                self.terminate_unless_sent(sent);
            }
            // The launcher has the reason from the status.
            ProgramEvent::Failed => self.await_end_and_exit(Message::Failed(not_ready)),
            ProgramEvent::Closed => {
                let reason = "it closed its notification descriptor without a line";
                self.await_end_and_exit(Message::Failed(not_ready.with_reason(reason)));
            }
        }
    }

    /// Terminates the daemon if a message was lost, since the receiver would wait for it
    /// forever. If the receiver is gone instead, the supervisor notices that next.
    fn terminate_unless_sent(&self, sent: Result<(), Errno>) {
        if let Err(errno) = sent {
            if !is_gone(errno) {
                self.terminate_for_channel(errno);
            }
        }
    }

    fn terminate_for_channel(&self, errno: Errno) -> ! {
        let kind = ErrorKind::Channel(errno);
        self.terminate_and_exit(kind, |_| Message::Failed(kind.into()))
    }

    /// The daemon has failed, and may be about to end by itself. If it does not, the supervisor
    /// terminates it, and reports `message`.
    fn await_end_and_exit(&self, message: Message) -> ! {
        if let Some(status) = self.await_daemon_end(SIGTERM_GRACE) {
            self.clear_and_exit(Message::DaemonEnded(status));
        }
        self.terminate_and_exit(ErrorKind::NotReady, |_| message)
    }

    /// Sends the launcher the descriptors by which it cleans up if the intermediate dies.
    fn send_daemon_handles(&self) {
        let process = sys::open_process_to_send(self.daemon);
        let pid_file = self.pid_file.as_ref();
        let writable = pid_file.and_then(OpenPidFile::writable);
        let lock = match &self.program {
            None => pid_file.map(OpenPidFile::lock),
            // Another thread of the launcher may fork, and its child would share the lock. By the
            // other descriptor, the launcher takes a lock of its own to clear the file.
            Some(_) => writable,
        };
        let process = process.as_ref().map(|process| process.as_fd());
        let descriptors = [process, lock, writable];
        // If a limit of the system forbids the descriptors, the launcher still has to know that
        // a daemon exists, whose termination takes time.
        let message = Message::DaemonHandles(self.daemon);
        if self.launcher.send_with(&message, descriptors).is_err() {
            self.launcher.send(&message);
        }
    }

    /// Writes the pid of the daemon, which is ready.
    fn write_pid(&self) -> Result<(), Failure> {
        match &self.pid_file {
            Some(pid_file) if pid_file.is_still_locked() => pid_file.write_pid(self.daemon),
            // The launcher has died since it gave the order, so that the daemon has given up.
            // No process reads this failure.
            Some(_) => Err(ErrorKind::LauncherGone.into()),
            None => Ok(()),
        }
    }

    fn release_daemon(&self) -> ! {
        self.launcher.send(&Message::Released(self.daemon));
        sys::_exit(0)
    }

    /// Terminates the daemon, and reports `message`. If the daemon cannot be terminated, reports
    /// `kind` instead; the daemon then keeps its pid file, and ends when it reports.
    fn terminate_and_exit(&self, kind: ErrorKind, message: impl FnOnce(Ended) -> Message) -> ! {
        self.signal_daemon(Signal::TERM);
        let ended = self.await_daemon_end(SIGTERM_GRACE).or_else(|| {
            self.signal_daemon(Signal::KILL);
            self.await_daemon_end(SIGKILL_WAIT)
        });
        match ended {
            Some(status) => self.clear_and_exit(message(status)),
            None => report_failure_and_exit(
                &self.launcher,
                Failure::from(kind).with_reason("the daemon could not be terminated"),
            ),
        }
    }

    /// The start has failed, and the daemon has ended.
    fn clear_and_exit(&self, message: Message) -> ! {
        if let Some(pid_file) = &self.pid_file {
            pid_file.clear(None);
        }
        if let Some((program, status)) = &self.program {
            program.read_rest(self.daemon, status);
            if let Some(status) = status.take() {
                self.launcher.send(&status);
                // Nothing is freed in this process.
                mem::forget(status);
            }
        }
        report_and_exit(&self.launcher, &message)
    }

    /// A process with the right to change its ids may lack the right to signal others
    /// (CAP_KILL). The user of the daemon has that right for the daemon.
    fn signal_daemon(&self, signal: Signal) {
        if sys::kill(self.daemon, signal) != Err(sys::errno::EPERM) {
            return;
        }
        if let Some(user) = self.daemon_user {
            if sys::set_user_ids(user).is_ok() {
                let _ = sys::kill(self.daemon, signal);
            }
        }
    }

    fn await_daemon_end(&self, timeout: Duration) -> Option<Ended> {
        let deadline = Deadline::after(timeout);
        loop {
            let ended = self.try_reap_daemon();
            if ended.is_some() || deadline.has_passed() {
                return ended;
            }
            self.child_watch.wait([None, None], deadline);
        }
    }

    fn try_reap_daemon(&self) -> Option<Ended> {
        match sys::try_waitpid(self.daemon) {
            Ok(ChildState::Ended(status)) => Some(status),
            Ok(ChildState::Running) | Err(_) => None,
        }
    }
}
