//! The start, top to bottom: launcher, intermediate, daemon.
//!
//! ```text
//! launcher          look up - count threads - flush - channels - block signals - fork
//!    |  \
//!    |   intermediate   setsid - umask - working directory - pid file - fork
//!    |      |  \
//!    |      |   daemon      streams - owner of the pid file - signal mask
//!    |      |     |         privileged action - root directory - identity
//!    |      |     |         write the pid
//!    | <----+---- |         ready
//!    | ---> |     |         stand down: the intermediate ends, and is reaped
//!    | ---------> |         acknowledged: the start is committed
//!    |            |
//!  ends        returns
//! ```
//!
//! Until the acknowledgement any of the three may die at any instant, and the
//! others end what was begun: an end of file on a channel tells the launcher's
//! death to both, the launcher hears of the daemon's through the
//! intermediate, which is its parent, and misses the intermediate's last word
//! if that was killed.
//!
//! Of steps that would fail, the first in the order above is reported: so the
//! intermediate keeps a failure of its own first steps for the daemon to
//! report, until the second fork has succeeded.

use std::any::Any;
use std::ffi::CString;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::panic::{self, AssertUnwindSafe};
use std::path::Path;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use crate::daemonize::{Child, Daemonize, Options, Outcome, Parent};
use crate::error::{Error, ErrorKind, Subject};
use crate::identity::{Identity, User};
use crate::pid_file::{PidFile, PidFilePlan};
use crate::report::{
    About, DaemonEnd, Failure, IntermediateEnd, LauncherEnds, Message, Order, PidFileSent,
    Received, channels,
};
use crate::sys::{
    self, ChildWatch, Fork, Life, NotSingleThreaded, Pid, Signal, SignalMask, SingleThreaded,
};
use crate::{root, streams};

/// How it is known that fork(2) is safe.
pub(crate) enum Threads {
    ToBeCounted,
    Promised(SingleThreaded),
}

/// Starts; returns in the daemon, or the failure in the launcher.
pub(crate) fn start<T>(daemonize: Daemonize<T>, threads: Threads) -> Result<T, Error> {
    match launch(daemonize, threads, OnFailure::End) {
        // Nothing is dropped here: what the closures hold is the daemon's.
        Side::Launcher(Ok(_), _unused) => sys::exit_now(0),
        Side::Launcher(Err(error), _unused) => Err(error),
        Side::Daemon(Ok(value)) => Ok(value),
        Side::Daemon(Err(_)) => sys::exit_now(1),
    }
}

/// Starts; returns in both.
pub(crate) fn execute<T>(daemonize: Daemonize<T>, threads: Threads) -> Outcome<T> {
    match launch(daemonize, threads, OnFailure::Return) {
        Side::Launcher(result, _unused) => Outcome::Parent(result),
        Side::Daemon(result) => Outcome::Child(result.map(|value| Child {
            privileged_action_result: value,
        })),
    }
}

/// Which process returns, and with what. The launcher has its closures left.
#[expect(clippy::large_enum_variant, reason = "moved once, at the very end")]
enum Side<T> {
    Launcher(Result<Parent, Error>, Daemonize<T>),
    Daemon(Result<T, Error>),
}

/// What a daemon does that has failed to start.
#[derive(Clone, Copy, PartialEq, Eq)]
enum OnFailure {
    End,
    Return,
}

fn launch<T>(daemonize: Daemonize<T>, threads: Threads, on_failure: OnFailure) -> Side<T> {
    let prepared = Plan::resolve(&daemonize.options).and_then(|plan| {
        // After the look-ups, which may load code that makes threads.
        let single_threaded = count(threads)?;
        sys::flush_streams();
        let channels = channels().map_err(ErrorKind::Channel)?;
        Ok((plan, single_threaded, channels))
    });
    let (plan, single_threaded, (launcher, intermediate, daemon)) = match prepared {
        Ok(prepared) => prepared,
        Err(error) => return Side::Launcher(Err(error), daemonize),
    };
    // No handler of the launcher's is to run in a child by surprise.
    let signal_mask = sys::block_signals();
    match sys::fork(&single_threaded) {
        Err(errno) => {
            signal_mask.restore();
            Side::Launcher(Err(ErrorKind::Fork(errno).into()), daemonize)
        }
        Ok(Fork::Parent(child)) => {
            signal_mask.restore();
            drop((intermediate, daemon));
            let result = be_launcher(child, launcher, &daemonize.options, on_failure);
            Side::Launcher(result, daemonize)
        }
        Ok(Fork::Child) => {
            drop(launcher);
            let inherited =
                be_intermediate(&plan, intermediate, daemon, signal_mask, &single_threaded);
            Side::Daemon(be_daemon(daemonize, &plan, inherited, on_failure))
        }
    }
}

// --- The launcher ---------------------------------------------------------

/// All that the children need, looked up and in the form in which system
/// calls take it: between fork(2) and the first closure nothing allocates.
struct Plan {
    umask: u32,
    working_directory: Option<CString>,
    pid_file: Option<PidFilePlan>,
    root: Option<CString>,
    identity: Option<Identity>,
}

impl Plan {
    fn resolve(options: &Options) -> Result<Self, Error> {
        let working_directory = c_path(options.working_directory.as_deref())?;
        let pid_file = c_path(options.pid_file.as_deref())?;
        let root = c_path(options.root.as_deref())?;
        refuse_nul_in_names(options)?;

        let identity = Identity::resolve(options.user.as_ref(), options.group.as_ref())?;
        let pid_file = match pid_file {
            None => None,
            Some(path) => {
                let user = options.chown_pid_file_user.as_ref();
                let group = options.chown_pid_file_group.as_ref();
                Some(PidFilePlan::new(
                    path,
                    user.map(User::resolve_uid).transpose()?,
                    group
                        .map(|group| group.resolve(ErrorKind::ChownPidfile))
                        .transpose()?,
                    identity.as_ref().and_then(Identity::user),
                ))
            }
        };
        Ok(Self {
            umask: options.umask.0,
            working_directory,
            pid_file,
            root,
            identity,
        })
    }
}

fn c_path(path: Option<&Path>) -> Result<Option<CString>, Error> {
    let Some(path) = path else { return Ok(None) };
    match CString::new(path.as_os_str().as_bytes()) {
        Ok(path) => Ok(Some(path)),
        Err(_) => {
            Err(Error::from(ErrorKind::PathContainsNul).about(Some(Subject::Path(path.to_owned()))))
        }
    }
}

fn refuse_nul_in_names(options: &Options) -> Result<(), Error> {
    let users = [&options.user, &options.chown_pid_file_user];
    if let Some(user) = users.into_iter().flatten().find(|user| user.contains_nul()) {
        return Err(Error::from(ErrorKind::UserContainsNul).about(Some(user.subject())));
    }
    let groups = [&options.group, &options.chown_pid_file_group];
    match groups
        .into_iter()
        .flatten()
        .find(|group| group.contains_nul())
    {
        Some(group) => Err(Error::from(ErrorKind::GroupContainsNul).about(Some(group.subject()))),
        None => Ok(()),
    }
}

fn count(threads: Threads) -> Result<SingleThreaded, Error> {
    match threads {
        Threads::Promised(promise) => Ok(promise),
        Threads::ToBeCounted => SingleThreaded::verify().map_err(|refusal| match refusal {
            NotSingleThreaded::OthersRun => ErrorKind::MultiThreaded.into(),
            NotSingleThreaded::Unknown => ErrorKind::ThreadCountUnknown.into(),
        }),
    }
}

/// What the launcher knows of the daemon, and cleans up with.
struct Started {
    daemon: Pid,
    /// Names the daemon for good, where the platform can.
    process: Option<OwnedFd>,
    pid_file: Option<PidFile>,
}

/// How the wait for a report ended.
enum Verdict {
    Ready,
    Failed(Failure),
    Ended(Option<ExitStatus>),
    /// The intermediate was killed.
    Orphaned,
}

fn be_launcher(
    intermediate: Pid,
    mut ends: LauncherEnds,
    options: &Options,
    on_failure: OnFailure,
) -> Result<Parent, Error> {
    let mut started = None;
    let verdict = match await_verdict(&mut ends, &mut started) {
        Ok(verdict) => verdict,
        Err(errno) => {
            // Nothing can be told any more: the intermediate takes the end of
            // file for the launcher's end, and ends the daemon.
            drop(ends);
            sys::wait(intermediate).map_err(ErrorKind::Wait)?;
            return Err(ErrorKind::Channel(errno).into());
        }
    };

    let daemon_stays = match &verdict {
        Verdict::Ready => true,
        Verdict::Failed(failure) => {
            on_failure == OnFailure::Return && failure.kind != ErrorKind::PrivilegesRetained
        }
        Verdict::Ended(_) | Verdict::Orphaned => false,
    };
    if daemon_stays {
        ends.stand_down();
    }
    let last_word = await_last_word(&mut ends, &mut started);
    let reaped = sys::wait(intermediate);

    let error = match (verdict, last_word, reaped) {
        (Verdict::Ready, LastWord::StoodDown, Ok(status)) => match (ends.acknowledge(), &started) {
            (Ok(()), Some(started)) => {
                return Ok(Parent {
                    first_child_exit_status: status.unwrap_or_default(),
                    daemon_pid: started.daemon.number(),
                });
            }
            _ => ErrorKind::DaemonExited.into(),
        },
        (Verdict::Failed(failure), _, _) => {
            let pid_file = started
                .as_ref()
                .and_then(|started| started.pid_file.as_ref());
            describe(failure, pid_file, options)
        }
        (Verdict::Ended(status), _, _) | (Verdict::Ready, LastWord::Ended(status), _) => {
            Error::from(ErrorKind::DaemonExited).daemon_ended(status)
        }
        (_, _, Err(errno)) => ErrorKind::Wait(errno).into(),
        (Verdict::Orphaned, _, _) | (Verdict::Ready, LastWord::Missing, _) => {
            ErrorKind::IntermediateExited.into()
        }
    };
    // Whoever still waits for an acknowledgement ends by the end of file.
    drop(ends);
    if last_word == LastWord::Missing {
        if let Some(started) = &started {
            end_orphan(started);
        }
    }
    Err(error)
}

/// Waits for a report, or for the intermediate to say that there will be none.
fn await_verdict(
    ends: &mut LauncherEnds,
    started: &mut Option<Started>,
) -> Result<Verdict, sys::Errno> {
    loop {
        let no_report_comes = match ends.hear_intermediate()? {
            Received::Nothing => None,
            Received::Message(message @ Message::Started { .. }) => {
                note(started, message, ends);
                continue;
            }
            Received::Message(Message::Failed(failure)) => Some(Verdict::Failed(failure)),
            Received::Message(Message::Ended(status)) => Some(Verdict::Ended(status)),
            Received::Message(_) => return Err(sys::errno::EPROTO),
            Received::End => Some(Verdict::Orphaned),
        };
        match (ends.hear_daemon()?, no_report_comes) {
            // A failure that was reported wins over a death: it is the cause.
            // That the daemon was ready does not, as it is gone.
            (Received::Message(Message::Failed(failure)), _) => {
                return Ok(Verdict::Failed(failure));
            }
            (_, Some(verdict)) => return Ok(verdict),
            (Received::Message(Message::Ready), None) => return Ok(Verdict::Ready),
            (Received::Message(_), None) => return Err(sys::errno::EPROTO),
            (Received::Nothing | Received::End, None) => ends.wait(),
        }
    }
}

/// What the intermediate said at the end, which comes before its end of file.
#[derive(Clone, Copy, PartialEq, Eq)]
enum LastWord {
    StoodDown,
    Ended(Option<ExitStatus>),
    /// It was killed, or has failed before there was a daemon.
    Missing,
}

fn await_last_word(ends: &mut LauncherEnds, started: &mut Option<Started>) -> LastWord {
    let mut last_word = LastWord::Missing;
    loop {
        match ends.hear_intermediate() {
            Ok(Received::Message(message @ Message::Started { .. })) => {
                note(started, message, ends)
            }
            Ok(Received::Message(Message::StoodDown)) => last_word = LastWord::StoodDown,
            Ok(Received::Message(Message::Ended(status))) => last_word = LastWord::Ended(status),
            Ok(Received::Message(_)) => {}
            Ok(Received::Nothing) => ends.wait_for_intermediate(),
            Ok(Received::End) | Err(_) => return last_word,
        }
    }
}

fn note(started: &mut Option<Started>, message: Message, ends: &mut LauncherEnds) {
    if let Message::Started {
        daemon,
        has_process,
        pid_file,
    } = message
    {
        let mut descriptors = ends.take_descriptors().into_iter().flatten();
        *started = Some(Started {
            daemon,
            process: has_process.then(|| descriptors.next()).flatten(),
            pid_file: (pid_file != PidFileSent::Not)
                .then(|| descriptors.next())
                .flatten()
                .map(|descriptor| PidFile::received(descriptor, pid_file == PidFileSent::Locked)),
        });
    }
}

/// Makes of a failure what the caller gets to see.
fn describe(failure: Failure, pid_file: Option<&PidFile>, options: &Options) -> Error {
    let error = Error::from(failure.kind)
        .about(options.subject(failure.about))
        .because(failure.text);
    match (error.kind(), pid_file) {
        (ErrorKind::LockPidfile(_), Some(pid_file)) => pid_file.describe_holder(error),
        _ => error,
    }
}

/// Ends a daemon whose intermediate was killed: nobody is its parent, so that
/// only a descriptor names it safely. Without one it ends at its next report,
/// as the channel is closed.
fn end_orphan(started: &Started) {
    let Some(process) = &started.process else {
        return;
    };
    for (signal, patience) in [(Signal::Terminate, Some(GRACE)), (Signal::Kill, None)] {
        // Fails where it has ended by itself.
        let _ = sys::signal_process(process.as_fd(), signal);
        if sys::has_ended(process.as_fd(), patience) {
            break;
        }
    }
    if let Some(pid_file) = &started.pid_file {
        pid_file.clear();
    }
}

// --- The intermediate -----------------------------------------------------

/// What the daemon has from the intermediate.
struct Inherited {
    launcher: DaemonEnd,
    pid_file: Option<PidFile>,
    first_steps: Result<(), Failure>,
    signal_mask: SignalMask,
}

/// Makes the daemon and watches over it until the start is committed or has
/// failed. Returns in the daemon alone.
fn be_intermediate(
    plan: &Plan,
    launcher: IntermediateEnd,
    daemon_end: DaemonEnd,
    signal_mask: SignalMask,
    single_threaded: &SingleThreaded,
) -> Inherited {
    // Away from the terminal. The daemon will be in this session, but not its
    // leader, so that it cannot acquire another terminal.
    if let Err(errno) = sys::create_session() {
        fail(&launcher, ErrorKind::DetachSession(errno));
    }
    let child_watch = match ChildWatch::begin() {
        Ok(child_watch) => child_watch,
        Err(errno) => fail(&launcher, ErrorKind::Channel(errno)),
    };
    // The daemon's first steps are taken here, since it inherits their effect:
    // so the intermediate has the pid file open, and can clear it for a daemon
    // that was killed.
    let (pid_file, first_steps) = take_first_steps(plan);
    match sys::fork(single_threaded) {
        Err(errno) => {
            if let Some(pid_file) = &pid_file {
                pid_file.clear();
            }
            fail(&launcher, ErrorKind::Fork(errno))
        }
        Ok(Fork::Parent(daemon)) => {
            drop(daemon_end);
            supervise(daemon, &launcher, pid_file.as_ref(), &child_watch)
        }
        Ok(Fork::Child) => {
            drop(launcher);
            child_watch.end();
            Inherited {
                launcher: daemon_end,
                pid_file,
                first_steps,
                signal_mask,
            }
        }
    }
}

fn fail(launcher: &IntermediateEnd, kind: ErrorKind) -> ! {
    launcher.tell(&Message::Failed(kind.into()), [None, None]);
    sys::exit_now(1)
}

fn take_first_steps(plan: &Plan) -> (Option<PidFile>, Result<(), Failure>) {
    sys::set_umask(plan.umask);
    if let Some(directory) = &plan.working_directory {
        if let Err(errno) = sys::change_directory(directory) {
            let kind = ErrorKind::ChangeDirectory(errno);
            return (None, Err(Failure::new(kind, About::WorkingDirectory)));
        }
    }
    match &plan.pid_file {
        Some(pid_file) => pid_file.acquire(),
        None => (None, Ok(())),
    }
}

/// How long a daemon has to end by itself when asked to.
const GRACE: Duration = Duration::from_secs(1);

fn supervise(
    daemon: Pid,
    launcher: &IntermediateEnd,
    pid_file: Option<&PidFile>,
    child_watch: &ChildWatch,
) -> ! {
    let process = sys::open_process(daemon);
    let message = Message::Started {
        daemon,
        has_process: process.is_some(),
        pid_file: match pid_file {
            None => PidFileSent::Not,
            Some(pid_file) if pid_file.is_ours() => PidFileSent::Locked,
            Some(_) => PidFileSent::LockedByOther,
        },
    };
    let descriptors = [
        process.as_ref().map(|process| process.as_fd()),
        pid_file.map(PidFile::descriptor),
    ];
    launcher.tell(&message, descriptors);
    loop {
        if let Ok(Life::Ended(status)) = sys::try_wait(daemon) {
            if let Some(pid_file) = pid_file {
                pid_file.clear();
            }
            launcher.tell(&Message::Ended(status), [None, None]);
            sys::exit_now(1);
        }
        match launcher.order() {
            Order::None => child_watch.wait(Some(launcher.waited_for()), None),
            Order::StandDown => {
                launcher.tell(&Message::StoodDown, [None, None]);
                sys::exit_now(0);
            }
            Order::LauncherGone => {
                end(daemon, child_watch);
                if let Some(pid_file) = pid_file {
                    pid_file.clear();
                }
                sys::exit_now(1);
            }
        }
    }
}

/// Ends the daemon, which is a child that was not reaped: its pid is its own.
fn end(daemon: Pid, child_watch: &ChildWatch) {
    for (signal, patience) in [(Signal::Terminate, Some(GRACE)), (Signal::Kill, None)] {
        let _ = sys::signal_child(daemon, signal);
        let patience_ends = patience.map(|patience| Instant::now() + patience);
        loop {
            if let Ok(Life::Ended(_)) = sys::try_wait(daemon) {
                return;
            }
            let left = patience_ends.map(|end| end.saturating_duration_since(Instant::now()));
            if left == Some(Duration::ZERO) {
                break;
            }
            child_watch.wait(None, left);
        }
    }
}

// --- The daemon -----------------------------------------------------------

fn be_daemon<T>(
    daemonize: Daemonize<T>,
    plan: &Plan,
    inherited: Inherited,
    on_failure: OnFailure,
) -> Result<T, Error> {
    let Daemonize {
        mut options,
        privileged_action,
    } = daemonize;
    let Inherited {
        launcher,
        pid_file,
        first_steps,
        signal_mask,
    } = inherited;
    let failure = match first_steps
        .and_then(|()| {
            take_steps(
                &mut options,
                privileged_action,
                plan,
                &pid_file,
                &signal_mask,
            )
        })
        .and_then(|value| commit(&launcher, value))
    {
        Ok(value) => {
            if let Some(pid_file) = pid_file {
                pid_file.keep();
            }
            return Ok(value);
        }
        Err(failure) => failure,
    };

    // What the steps had produced is dropped by now.
    if let Some(pid_file) = &pid_file {
        pid_file.clear();
    }
    // A launcher that is gone needs no report.
    let _ = launcher.tell(&Message::Failed(failure.clone()));
    if on_failure == OnFailure::End || failure.kind == ErrorKind::PrivilegesRetained {
        sys::exit_now(1);
    }
    drop(launcher);
    // It may not have been reached above.
    signal_mask.restore();
    Err(describe(failure, pid_file.as_ref(), &options))
}

/// Reports that all is done, and returns when the launcher has acknowledged.
fn commit<T>(launcher: &DaemonEnd, value: T) -> Result<T, Failure> {
    if launcher.tell(&Message::Ready).is_ok() && launcher.await_acknowledgement() {
        Ok(value)
    } else {
        Err(ErrorKind::LauncherGone.into())
    }
}

fn take_steps<T>(
    options: &mut Options,
    privileged_action: Box<dyn FnOnce() -> T>,
    plan: &Plan,
    pid_file: &Option<PidFile>,
    signal_mask: &SignalMask,
) -> Result<T, Failure> {
    streams::redirect(&mut options.streams)?;
    if let (Some(pid_file), Some(plan)) = (pid_file, &plan.pid_file) {
        pid_file.change_owner(plan)?;
    }
    // From here on signals reach the daemon as they would have reached the
    // launcher, and closures may do what they like.
    signal_mask.restore();
    let value = run(privileged_action)?;
    if let Some(root) = &plan.root {
        root::change(root)?;
    }
    if let Some(identity) = &plan.identity {
        identity.assume()?;
    }
    if let Some(pid_file) = pid_file {
        pid_file.write_pid()?;
    }
    Ok(value)
}

/// Runs a closure of the caller's.
fn run<T>(closure: Box<dyn FnOnce() -> T>) -> Result<T, Failure> {
    let daemon = Pid::current();
    let result = panic::catch_unwind(AssertUnwindSafe(closure));
    if Pid::current() != daemon {
        // The closure has forked and let the copy return too. There is one
        // daemon, and this is not it.
        sys::exit_now(1);
    }
    result.map_err(|payload| Failure::from(ErrorKind::Panicked).because(text_of(&*payload)))
}

fn text_of(panic: &(dyn Any + Send)) -> String {
    match (panic.downcast_ref::<String>(), panic.downcast_ref::<&str>()) {
        (Some(text), _) => text.clone(),
        (_, Some(text)) => (*text).to_owned(),
        _ => String::new(),
    }
}
