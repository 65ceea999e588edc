//! The start, top to bottom: launcher, intermediate, daemon.
//!
//! ```text
//! launcher          look up - count threads - flush - channels - block signals - fork
//!    |  \
//!    |   intermediate   setsid - inherited signals and descriptors - umask
//!    |      |           working directory - pid file - fork
//!    |      |  \
//!    |      |   daemon      streams - owner of the pid file - signal mask
//!    |      |     |         privileged action - root directory - identity
//!    |      |     |         no new privileges
//!    | <----+---- |         ready
//!    | ---> |     |         commit: the intermediate writes the pid, ends, and is reaped
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

pub(crate) mod actions;
mod channel;
mod inherited;
mod nesting;
mod panics;
mod progress;
mod protocol;
pub(crate) mod readiness;
mod reasons;
mod unreaped;

pub use readiness::Readiness;

use std::ffi::CString;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::builder::{Child, Daemonize, Options, Outcome, Parent};
use crate::error::{Error, ErrorKind, Subject};
use crate::failure::{About, Failure};
use crate::identity::{self, Identity, User};
use crate::notify::NotifySocket;
use crate::own_fds;
use crate::pid_file::describe_holder;
use crate::pid_file::{OpenPidFile, PidFilePlan};
use crate::start::actions::{Actions, drop_quietly};
use crate::start::channel::{DaemonEnd, IntermediateEnd, LauncherEnds, Order, Received, channels};
use crate::start::inherited::KeptDescriptors;
use crate::start::progress::{Progress, Step};
use crate::start::protocol::Message;
use crate::start::readiness::{Listener, OnFailure, Pending};
use crate::start::reasons::{DaemonFate, Late};
use crate::streams::Stdio;
use crate::sys::{
    self, ChildState, ChildWatch, Fork, ForkIdentity, NotSingleThreaded, OtherThreads, Pid, Signal,
    SignalMask, SingleThreaded, Uid,
};
use crate::{root, streams};

/// How it is known that fork(2) is safe.
pub(crate) enum Threads {
    ToBeCounted,
    Promised(SingleThreaded),
}

/// Starts; returns in the daemon, or the failure in the launcher.
pub(crate) fn start<T, S>(daemonize: Daemonize<T, S>, threads: Threads) -> Result<T, Error> {
    match launch(daemonize, threads, OnFailure::End) {
        // Nothing is dropped here: what the closures hold is the daemon's.
        Side::Launcher(Ok(_), _unused) => sys::_exit(0),
        Side::Launcher(Err(error), _unused) => Err(error),
        Side::Daemon(result) => result,
    }
}

/// Starts; returns in both.
pub(crate) fn execute<T, S>(daemonize: Daemonize<T, S>, threads: Threads) -> Outcome<T> {
    match launch(daemonize, threads, OnFailure::Return) {
        Side::Launcher(result, _unused) => Outcome::Parent(result),
        Side::Daemon(result) => Outcome::Child(result.map(|value| Child {
            privileged_action_result: value,
        })),
    }
}

/// Which process returns, and with what. The launcher has its closures left.
#[expect(clippy::large_enum_variant, reason = "moved once, at the very end")]
enum Side<T, S> {
    Launcher(Result<Parent, Error>, Daemonize<T, S>),
    Daemon(Result<T, Error>),
}

fn launch<T, S>(daemonize: Daemonize<T, S>, threads: Threads, on_failure: OnFailure) -> Side<T, S> {
    ForkIdentity::count_forks();
    let nested = nesting::check(daemonize.options.foreground, on_failure);
    let plan = nested.and_then(|()| Plan::resolve(&daemonize.options));
    // Nothing forks there, so that it does not matter what fork(2) would do.
    if daemonize.options.foreground {
        return Side::Daemon(plan.and_then(|plan| be_foreground(daemonize, plan)));
    }
    let prepared = plan.and_then(|plan| {
        if on_failure == OnFailure::End && Pid::current().is_first() {
            return Err(Error::from(ErrorKind::FirstProcess).because(STAY_IN_FOREGROUND));
        }
        // After the look-ups, which may load code that makes threads or queues.
        Ok((plan, check_fork(threads, on_failure)?))
    });
    let (mut plan, single_threaded) = match prepared {
        Ok(prepared) => prepared,
        Err(error) => return Side::Launcher(Err(error), daemonize),
    };

    // One start at a time: a daemon forked meanwhile would have copies of this
    // one's channels, and keep them open.
    let turn = STARTING.lock().unwrap_or_else(PoisonError::into_inner);
    unreaped::reap();
    let deadline =
        (daemonize.options.startup_timeout).and_then(|timeout| Instant::now().checked_add(timeout));
    // Another thread may hold the lock of a stream for as long as it likes.
    if !sys::has_other_threads() {
        if let Err(error) = flush_streams(deadline) {
            return Side::Launcher(Err(error), daemonize);
        }
    }
    let (launcher, intermediate, daemon) = match channels() {
        Ok(ends) => ends,
        Err(errno) => {
            return Side::Launcher(Err(ErrorKind::Channel(errno).into()), daemonize);
        }
    };
    if let Some(kept) = &mut plan.kept_descriptors {
        kept.spare([intermediate.descriptor(), daemon.descriptor()]);
    }
    let panic_target = panics::freeze();
    let mut own_fds = own_fds::lock_for_fork();
    // No handler of the launcher's is to run in a child by surprise.
    let signal_mask = sys::block_signals();
    match sys::fork(&single_threaded) {
        Err(errno) => {
            drop((panic_target, own_fds));
            signal_mask.restore();
            Side::Launcher(Err(ErrorKind::Fork(errno).into()), daemonize)
        }
        Ok(Fork::Parent(child)) => {
            drop((panic_target, own_fds));
            signal_mask.restore();
            drop((intermediate, daemon));
            let options = &daemonize.options;
            let progress = &plan.progress;
            let result = be_launcher(child, launcher, options, progress, deadline, on_failure);
            Side::Launcher(result, daemonize)
        }
        Ok(Fork::Child) => {
            drop(launcher);
            // The copies of what earlier starts have opened: whoever starts a daemon
            // may be one, or about to be, or a worker of one. Its lock is not to live
            // on in this one.
            own_fds.close_copies();
            drop((panic_target, own_fds));
            let ends = (intermediate, daemon);
            let inherited = be_intermediate(&mut plan, ends, deadline, &single_threaded);
            let result = be_daemon(daemonize, plan, inherited, turn, signal_mask, on_failure);
            Side::Daemon(result)
        }
    }
}

static STARTING: Mutex<()> = Mutex::new(());

// --- The launcher ---------------------------------------------------------

/// What daemon(7) leaves open: no access for others, and none to write for the group.
const DEFAULT_UMASK: u32 = 0o027;

/// All that the children need, looked up and in the form in which system
/// calls take it: between fork(2) and the first closure nothing allocates.
struct Plan {
    kept_descriptors: Option<KeptDescriptors>,
    resets_signals: bool,
    /// `None` leaves it as it is.
    umask: Option<u32>,
    working_directory: Option<CString>,
    pid_file: Option<PidFilePlan>,
    root: Option<CString>,
    identity: Option<Identity>,
    has_no_new_privileges: bool,
    progress: Progress,
}

impl Plan {
    fn resolve(options: &Options) -> Result<Self, Error> {
        let working_directory = c_path(options.working_directory.as_deref())?;
        let pid_file = c_path(options.pid_file.as_deref())?;
        let root = c_path(options.root.as_deref())?;
        refuse_nul_in_names(options)?;
        if options.no_new_privileges && !sys::HAS_NO_NEW_PRIVILEGES {
            let option = Subject::Name(String::from("no_new_privileges"));
            return Err(Error::from(ErrorKind::Unsupported).about(Some(option)));
        }

        let identity = Identity::resolve(
            options.user.as_ref(),
            options.group.as_ref(),
            &options.supplementary_groups,
        )?;
        let pid_file = match pid_file {
            None => None,
            Some(path) => {
                let user = options.chown_pid_file_user.as_ref();
                let group = options.chown_pid_file_group.as_ref();
                Some(PidFilePlan::new(
                    path,
                    c_path(absolute_path(options).as_deref())?,
                    user.map(User::resolve_uid).transpose()?,
                    group
                        .map(|group| group.resolve(ErrorKind::ChownPidfile))
                        .transpose()?,
                    identity.as_ref().and_then(Identity::user),
                ))
            }
        };
        let pid_file = pid_file.map(|mut pid_file| {
            if options.foreground {
                pid_file.refuse(own_fds::pid_files());
            }
            pid_file
        });
        let kept_descriptors = options.inherited_fds.as_ref().map(|named| {
            let mut kept = KeptDescriptors::new(named, &options.streams);
            if options.foreground {
                kept.spare_own(&own_fds::numbers());
            }
            kept
        });
        Ok(Self {
            kept_descriptors,
            resets_signals: options.reset_signals,
            umask: match &options.umask {
                Some(mask) => Some(mask.0),
                None if options.foreground => None,
                None => Some(DEFAULT_UMASK),
            },
            working_directory,
            pid_file,
            root,
            identity,
            has_no_new_privileges: options.no_new_privileges,
            progress: if options.foreground {
                Progress::unseen()
            } else {
                Progress::new()
            },
        })
    }

    fn signal_mask(&self, inherited: SignalMask) -> SignalMask {
        if self.resets_signals {
            SignalMask::empty()
        } else {
            inherited
        }
    }

    fn take_pid_file_path(&mut self) -> Option<CString> {
        self.pid_file
            .as_mut()
            .and_then(PidFilePlan::take_absolute_path)
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

/// Where the pid file will be, to remove it, if that can be told.
fn absolute_path(options: &Options) -> Option<PathBuf> {
    let directory = std::env::current_dir().ok()?;
    let directory = match &options.working_directory {
        Some(further) => directory.join(further),
        None => directory,
    };
    options.pid_file.as_ref().map(|path| directory.join(path))
}

fn refuse_nul_in_names(options: &Options) -> Result<(), Error> {
    let users = [&options.user, &options.chown_pid_file_user];
    if let Some(user) = users.into_iter().flatten().find(|user| user.contains_nul()) {
        return Err(Error::from(ErrorKind::UserContainsNul).about(Some(user.subject())));
    }
    let groups = [&options.group, &options.chown_pid_file_group];
    let mut groups = (groups.into_iter().flatten()).chain(options.supplementary_groups.named());
    match groups.find(|group| group.contains_nul()) {
        Some(group) => Err(Error::from(ErrorKind::GroupContainsNul).about(Some(group.subject()))),
        None => Ok(()),
    }
}

const STAY_IN_FOREGROUND: &str = "its exit would end the daemon; use foreground instead";

/// Makes sure, unless it was promised, that fork(2) is safe for both sides, as far as
/// they go on.
fn check_fork(threads: Threads, on_failure: OnFailure) -> Result<SingleThreaded, Error> {
    match threads {
        Threads::Promised(promise) => Ok(promise),
        Threads::ToBeCounted => {
            let single_threaded = count()?;
            if on_failure == OnFailure::Return {
                refuse_shared_event_queues()?;
            }
            Ok(single_threaded)
        }
    }
}

fn count() -> Result<SingleThreaded, Error> {
    SingleThreaded::verify().map_err(|refusal| match refusal {
        NotSingleThreaded::OthersRun => {
            let names = sys::thread_names();
            Error::from(ErrorKind::MultiThreaded).because(reasons::threads_run(names.as_deref()))
        }
        NotSingleThreaded::Unknown => {
            Error::from(ErrorKind::ThreadCountUnknown).because(sys::WHY_THREADS_ARE_UNKNOWN)
        }
    })
}

/// Where one side ends, the other has such a queue for itself.
fn refuse_shared_event_queues() -> Result<(), Error> {
    match sys::find_shared_event_queue() {
        Ok(None) => Ok(()),
        Ok(Some(queue)) => Err(Error::from(ErrorKind::SharedEventQueue).because(format!(
            "{} (descriptor {}); start the daemon before the async runtime or event loop is made, \
             or use start_checked",
            queue.name, queue.descriptor
        ))),
        Err(errno) => Err(ErrorKind::EventQueuesUnknown(errno).into()),
    }
}

/// Standard output may be a pipe that is full. What is buffered for it fits into a pipe
/// that is not.
fn flush_streams(deadline: Option<Instant>) -> Result<(), Error> {
    if deadline.is_some_and(|deadline| !sys::await_writable(STANDARD_OUTPUT, deadline)) {
        let text = "standard output cannot be flushed: nobody reads it";
        return Err(Error::from(ErrorKind::StartupTimeout).because(text));
    }
    sys::flush_streams();
    Ok(())
}

const STANDARD_OUTPUT: RawFd = 1;

/// What the launcher cleans up with.
struct Started {
    /// Names the daemon for good, where the platform can.
    process: Option<OwnedFd>,
    pid_file: Option<OpenPidFile>,
}

/// How the wait for a report ended.
enum Verdict {
    Ready,
    Failed {
        failure: Failure,
        /// Who may then return to its caller, and live on.
        by_daemon: bool,
    },
    Ended(Option<ExitStatus>),
    /// The daemon could not report any more, and was ended for it.
    Disconnected(DaemonFate),
    TimedOut,
    /// The intermediate was killed.
    Orphaned,
    /// The time is up, and the intermediate does not see to it.
    Unattended,
}

fn be_launcher(
    intermediate: Pid,
    mut ends: LauncherEnds,
    options: &Options,
    progress: &Progress,
    deadline: Option<Instant>,
    on_failure: OnFailure,
) -> Result<Parent, Error> {
    let mut started = None;
    let verdict = match await_verdict(&mut ends, &mut started, deadline) {
        Ok(verdict) => verdict,
        Err(errno) => return Err(give_up(intermediate, ends, started, deadline, errno)),
    };

    let failed_daemon_stays = matches!(
        &verdict,
        Verdict::Failed { failure, by_daemon: true } if stays_after(failure, on_failure)
    );
    match &verdict {
        Verdict::Ready => {
            if let Err(errno) = ends.commit() {
                return Err(give_up(intermediate, ends, started, deadline, errno));
            }
        }
        Verdict::Failed { .. } if failed_daemon_stays && ends.release().is_ok() => {}
        Verdict::Failed { .. } => ends.end_daemon(),
        Verdict::Ended(_)
        | Verdict::Disconnected(_)
        | Verdict::TimedOut
        | Verdict::Orphaned
        | Verdict::Unattended => {}
    }
    // Before an orphan is ended.
    let late = match &verdict {
        Verdict::Ready => Late::Ready,
        _ => Late::At(progress.step()),
    };
    let last_word = await_last_word(&mut ends, &mut started, deadline);
    if last_word == LastWord::Missing {
        ends.leave_intermediate();
    }
    let reaped = match last_word {
        LastWord::Unattended => {
            let reaped = end_intermediate(intermediate);
            // What it takes to end the daemon may have been on its way.
            await_last_word(&mut ends, &mut started, deadline);
            reaped
        }
        LastWord::Failed(_) if started.is_none() => {
            let reaped = reap(intermediate, deadline);
            // The same, where it could not be received.
            await_last_word(&mut ends, &mut started, deadline);
            reaped
        }
        _ => reap(intermediate, deadline),
    };

    let daemon_has_ended = matches!(
        verdict,
        Verdict::Ended(_) | Verdict::Disconnected(DaemonFate::Terminated) | Verdict::TimedOut
    ) || matches!(last_word, LastWord::Ended(_) | LastWord::TimedOut);
    let cause = match (verdict, last_word, reaped) {
        (Verdict::Ready, LastWord::StoodDown(daemon), Ok(reaped)) => match ends.acknowledge() {
            Ok(()) => {
                // Its pid file is the daemon's alone, whatever takes time here.
                drop((ends, started));
                if let Some(systemd) = NotifySocket::open() {
                    systemd.notify_ready_for(daemon);
                }
                return Ok(Parent {
                    first_child_exit_status: reaped.status().unwrap_or_default(),
                    daemon_pid: daemon.number(),
                });
            }
            Err(kind) => Cause::Known(kind.into()),
        },
        (Verdict::Failed { failure, .. }, _, _) if failure.kind == ErrorKind::StartupTimeout => {
            Cause::TimeRanOut(None)
        }
        (Verdict::Failed { failure, .. }, _, _)
        | (Verdict::Ready, LastWord::Failed(failure), _) => Cause::Known(describe(
            failure,
            options,
            absolute_path(options).as_deref(),
        )),
        (Verdict::Ended(status), _, _) | (Verdict::Ready, LastWord::Ended(status), _) => {
            let failure = ends.failure_of_ended_daemon();
            let failure = if failure == ErrorKind::DaemonExited.into() {
                failure.because(reasons::daemon_ended(options))
            } else {
                failure
            };
            Cause::Known(describe(failure, options, None).daemon_ended(status))
        }
        (Verdict::Disconnected(_), _, _) => Cause::Disconnected,
        (Verdict::TimedOut | Verdict::Unattended, _, reaped)
        | (Verdict::Ready, LastWord::TimedOut | LastWord::Unattended, reaped) => {
            let is_left = matches!(reaped, Ok(Reaped::Left));
            Cause::TimeRanOut(is_left.then(|| intermediate.number()))
        }
        (_, _, Err(errno)) => Cause::Known(ErrorKind::Wait(errno).into()),
        (Verdict::Orphaned, _, Ok(reaped)) | (Verdict::Ready, _, Ok(reaped)) => {
            Cause::IntermediateEnded(reaped.status())
        }
    };
    let is_before_daemon =
        started.is_none() && matches!(late, Late::At(Some(step)) if step.is_before_daemon());
    let fate = match () {
        () if daemon_has_ended && is_before_daemon => DaemonFate::NotMade,
        () if daemon_has_ended || failed_daemon_stays => DaemonFate::Terminated,
        () => match end_orphan(ends, started, matches!(cause, Cause::Disconnected)) {
            DaemonFate::Gone if is_before_daemon => DaemonFate::NotMade,
            fate => fate,
        },
    };
    Err(match cause {
        Cause::Known(error) => error,
        Cause::Disconnected => {
            Error::from(ErrorKind::DaemonExited).because(reasons::daemon_disconnected(fate))
        }
        Cause::IntermediateEnded(status) => Error::from(ErrorKind::IntermediateExited)
            .because(reasons::intermediate_ended(status, fate)),
        Cause::TimeRanOut(intermediate) => {
            let timeout = options.startup_timeout;
            Error::from(ErrorKind::StartupTimeout).because(reasons::time_ran_out(
                timeout,
                late,
                fate,
                intermediate,
            ))
        }
    })
}

/// Why the start has failed. What became of the daemon may belong to it.
enum Cause {
    Known(Error),
    Disconnected,
    IntermediateEnded(Option<ExitStatus>),
    /// With the intermediate's pid if it is left.
    TimeRanOut(Option<u32>),
}

/// Nothing can be told any more: the intermediate takes the end of file for
/// the launcher's end, and ends the daemon.
fn give_up(
    intermediate: Pid,
    ends: LauncherEnds,
    started: Option<Started>,
    deadline: Option<Instant>,
    errno: sys::Errno,
) -> Error {
    drop(ends);
    match reap(intermediate, deadline) {
        Ok(Reaped::Ended(_)) => ErrorKind::Channel(errno).into(),
        Ok(Reaped::Left) => {
            if let Some(process) = started.and_then(|started| started.process) {
                unreaped::remember(process);
            }
            ErrorKind::Channel(errno).into()
        }
        Err(errno) => ErrorKind::Wait(errno).into(),
    }
}

/// Whether a failed daemon returns to its caller, and lives on.
fn stays_after(failure: &Failure, on_failure: OnFailure) -> bool {
    let ends = match failure.kind {
        ErrorKind::PrivilegesRetained | ErrorKind::NotReady => true,
        ErrorKind::Panicked => cfg!(panic = "abort"),
        _ => false,
    };
    on_failure == OnFailure::Return && !ends
}

/// Waits for a report, or for the intermediate to say that there will be none.
fn await_verdict(
    ends: &mut LauncherEnds,
    started: &mut Option<Started>,
    deadline: Option<Instant>,
) -> Result<Verdict, sys::Errno> {
    let mut is_given_up = false;
    loop {
        let no_report_comes = match ends.hear_intermediate()? {
            Received::Nothing => None,
            Received::Message(message @ Message::Started { .. }) => {
                note(started, message, ends);
                continue;
            }
            Received::Message(Message::Failed(failure))
                if is_given_up && failure.kind == ErrorKind::NotReady =>
            {
                Some(Verdict::Disconnected(DaemonFate::MayBeLeft))
            }
            Received::Message(Message::Failed(failure)) => Some(Verdict::Failed {
                failure,
                by_daemon: false,
            }),
            Received::Message(Message::Ended(status)) => Some(Verdict::Ended(status)),
            Received::Message(Message::Terminated) => {
                Some(Verdict::Disconnected(DaemonFate::Terminated))
            }
            Received::Message(Message::TimedOut) => Some(Verdict::TimedOut),
            Received::Message(_) => return Err(sys::errno::EPROTO),
            Received::End => Some(Verdict::Orphaned),
        };
        match (ends.hear_daemon()?, no_report_comes) {
            // A failure that was reported wins over a death: it is the cause.
            // That the daemon was ready does not, as it is gone.
            (Received::Message(Message::Failed(failure)), _) => {
                return Ok(Verdict::Failed {
                    failure,
                    by_daemon: true,
                });
            }
            (_, Some(verdict)) => return Ok(verdict),
            (Received::Message(Message::Ready), None) => return Ok(Verdict::Ready),
            (Received::Message(_), None) => return Err(sys::errno::EPROTO),
            (Received::End, None) if !is_given_up => {
                // It has died, or has become another program: it cannot report
                // any more.
                ends.end_daemon();
                is_given_up = true;
            }
            (Received::Nothing | Received::End, None) => {
                let left = time_left(deadline, started);
                if left == Some(Duration::ZERO) {
                    return Ok(Verdict::Unattended);
                }
                ends.wait(left);
            }
        }
    }
}

/// How long to wait for the intermediate to see to it that the time is up. It
/// may have a daemon to end first; and it may itself be held up, by a file
/// server that does not answer, or by a signal that stops it.
fn time_left(deadline: Option<Instant>, started: &Option<Started>) -> Option<Duration> {
    let more = match started {
        Some(_) => TO_END_DAEMON,
        None => GRACE,
    };
    deadline?.checked_add(more).map(time_until)
}

/// What the intermediate said at the end, which comes before its end of file.
#[derive(PartialEq, Eq)]
enum LastWord {
    StoodDown(Pid),
    Ended(Option<ExitStatus>),
    TimedOut,
    /// It could not go on, or cannot be heard.
    Failed(Failure),
    /// The verdict was its last word, or it was killed.
    Missing,
    /// It does not come, and the time is up.
    Unattended,
}

fn await_last_word(
    ends: &mut LauncherEnds,
    started: &mut Option<Started>,
    deadline: Option<Instant>,
) -> LastWord {
    loop {
        match ends.hear_intermediate() {
            Ok(Received::Message(message @ Message::Started { .. })) => {
                note(started, message, ends)
            }
            Ok(Received::Message(Message::StoodDown(daemon))) => {
                return LastWord::StoodDown(daemon);
            }
            Ok(Received::Message(Message::Ended(status))) => return LastWord::Ended(status),
            Ok(Received::Message(Message::Terminated)) => return LastWord::Ended(None),
            Ok(Received::Message(Message::TimedOut)) => return LastWord::TimedOut,
            Ok(Received::Message(Message::Failed(failure))) => {
                return LastWord::Failed(failure);
            }
            Ok(Received::Message(_)) => {}
            Ok(Received::Nothing) => {
                let left = time_left(deadline, started);
                if left == Some(Duration::ZERO) {
                    return LastWord::Unattended;
                }
                ends.wait_for_intermediate(left);
            }
            Ok(Received::End) => return LastWord::Missing,
            Err(errno) => return LastWord::Failed(ErrorKind::Channel(errno).into()),
        }
    }
}

fn note(started: &mut Option<Started>, message: Message, ends: &mut LauncherEnds) {
    if let Message::Started {
        has_process,
        has_pid_file,
    } = message
    {
        let mut descriptors = ends.take_descriptors().into_iter().flatten();
        let process = has_process.then(|| descriptors.next()).flatten();
        let pid_file = match (has_pid_file, descriptors.next(), descriptors.next()) {
            (true, Some(lock), Some(writable)) => OpenPidFile::received(lock, writable),
            _ => None,
        };
        *started = Some(Started { process, pid_file });
    }
}

/// Makes of a failure what the caller gets to see.
fn describe(failure: Failure, options: &Options, pid_file: Option<&Path>) -> Error {
    let mut failure = reasons::with_rights(failure, options);
    if let Some(path) = pid_file {
        failure = reasons::with_pid_file(failure, path);
    }
    let error = Error::from(failure.kind)
        .about(options.subject(failure.about))
        .because(failure.text);
    match (error.kind(), pid_file) {
        (ErrorKind::LockPidfile(sys::errno::EWOULDBLOCK), Some(path)) => {
            describe_holder(error, path)
        }
        _ => error,
    }
}

/// What became of the intermediate.
enum Reaped {
    /// Somebody else may have reaped it, and has its status then.
    Ended(Option<ExitStatus>),
    /// It could not be ended in time. A later start reaps it.
    Left,
}

impl Reaped {
    fn status(self) -> Option<ExitStatus> {
        match self {
            Self::Ended(status) => status,
            Self::Left => None,
        }
    }
}

/// Reaps the intermediate, which is about to end, or to end the daemon first.
fn reap(intermediate: Pid, deadline: Option<Instant>) -> Result<Reaped, sys::Errno> {
    match deadline.and_then(|_| sys::open_process(intermediate)) {
        Some(process) if !sys::await_readable(process.as_fd(), Some(TO_END_DAEMON)) => {
            end_intermediate(intermediate)
        }
        _ => sys::waitpid(intermediate).map(Reaped::Ended),
    }
}

/// Ends an intermediate that is held up, and reaps it if the kernel lets go of
/// it. If not, it ends later.
fn end_intermediate(intermediate: Pid) -> Result<Reaped, sys::Errno> {
    let patience_ends = Instant::now() + LAST_PATIENCE;
    let mut life = sys::kill_child(intermediate)?;
    loop {
        match life {
            ChildState::Ended(status) => return Ok(Reaped::Ended(status)),
            ChildState::Running if time_until(patience_ends).is_zero() => {
                unreaped::remember_child(intermediate);
                return Ok(Reaped::Left);
            }
            ChildState::Running => sys::sleep(Duration::from_millis(2)),
        }
        life = sys::try_waitpid(intermediate)?;
    }
}

/// Ends a daemon whose intermediate is gone, and clears its pid file.
///
/// Nobody is its parent, so that only a descriptor names it safely. Without one,
/// or the right to signal it, it ends at its next report, which nobody
/// acknowledges any more, and clears the file itself unless it is found to be
/// gone. In case it becomes a child of this process, a later start reaps it.
///
/// The end of the connection is that of the daemon only where the daemon has not
/// just closed it.
fn end_orphan(ends: LauncherEnds, started: Option<Started>, is_disconnected: bool) -> DaemonFate {
    let (process, pid_file) = match started {
        Some(started) => (started.process, started.pid_file),
        None => (None, None),
    };
    ends.turn_away();
    let fate = match &process {
        Some(process) if end_process(process.as_fd()) => DaemonFate::Terminated,
        Some(process) if sys::await_readable(process.as_fd(), Some(GRACE)) => DaemonFate::Gone,
        None if !is_disconnected && ends.await_daemons_end(GRACE) => DaemonFate::Gone,
        _ => DaemonFate::MayBeLeft,
    };
    if fate == DaemonFate::MayBeLeft {
        if let Some(process) = process {
            unreaped::remember(process);
        }
    } else if let Some(pid_file) = pid_file {
        pid_file.clear(None);
    }
    fate
}

/// Ends a process, first asking it to, and reaps it where it has become a child
/// of this one. One that has ended already is left be. False where it may not be
/// signalled, or cannot be ended.
fn end_process(process: BorrowedFd<'_>) -> bool {
    for (signal, patience) in [(Signal::TERMINATE, GRACE), (Signal::KILL, LAST_PATIENCE)] {
        match sys::signal_process(process, signal) {
            Ok(()) | Err(sys::errno::ESRCH) => {}
            Err(_) => return false,
        }
        if sys::await_readable(process, Some(patience)) {
            sys::reap(process);
            return true;
        }
    }
    false
}

// --- The intermediate -----------------------------------------------------

/// What the daemon has from the intermediate.
struct Inherited {
    launcher: DaemonEnd,
    intermediate: Pid,
    first_steps: Result<Option<OpenPidFile>, Failure>,
}

/// Makes the daemon and watches over it until the start is committed or has
/// failed. Returns in the daemon alone.
fn be_intermediate(
    plan: &mut Plan,
    (launcher, daemon_end): (IntermediateEnd, DaemonEnd),
    deadline: Option<Instant>,
    single_threaded: &SingleThreaded,
) -> Inherited {
    // A handler of pthread_atfork(3) may have armed it.
    sys::disarm_parent_death_signal();
    if sys::is_parent_in_other_pid_namespace() {
        fail(&launcher, in_other_pid_namespace());
    }
    // Away from the terminal. The daemon will be in this session, but not its
    // leader, so that it cannot acquire another terminal.
    if let Err(errno) = sys::setsid() {
        fail(&launcher, ErrorKind::DetachSession(errno));
    }
    // Before the watch, which has a handler of its own.
    let signals_reset = reset_signals(plan);
    let child_watch = match ChildWatch::begin() {
        Ok(child_watch) => child_watch,
        Err(errno) => fail(&launcher, ErrorKind::Channel(errno)),
    };
    if let Some(kept) = &mut plan.kept_descriptors {
        kept.spare(child_watch.descriptors());
    }
    // The daemon's first steps are taken here, since it inherits their effect:
    // so the intermediate has the pid file open, and can clear it for a daemon
    // that was killed.
    let first_steps = signals_reset.and_then(|()| take_first_steps(plan));
    // A file server may have taken its time.
    if deadline.is_some_and(|deadline| time_until(deadline).is_zero()) {
        fail(&launcher, Message::TimedOut);
    }
    plan.progress.reach(Step::Fork);
    let intermediate = Pid::current();
    match sys::fork(single_threaded) {
        Err(errno) => fail(&launcher, ErrorKind::Fork(errno)),
        Ok(Fork::Parent(daemon)) => {
            drop(daemon_end);
            let supervisor = Supervisor {
                daemon,
                launcher,
                // The daemon reports why there is none.
                pid_file: first_steps.ok().flatten(),
                deadline,
                child_watch,
                daemon_user: plan.identity.as_ref().and_then(Identity::user),
            };
            supervisor.run()
        }
        Ok(Fork::Child) => {
            drop(launcher);
            child_watch.end();
            Inherited {
                launcher: daemon_end,
                intermediate,
                first_steps,
            }
        }
    }
}

fn fail(launcher: &IntermediateEnd, message: impl Into<Message>) -> ! {
    launcher.tell(&message.into());
    sys::_exit(1)
}

/// The caller has made its children members of another pid namespace, by unshare(2) or
/// setns(2). In a new one the intermediate is the first process, and its end the
/// daemon's; in any other, the launcher cannot tell the pid of the daemon.
fn in_other_pid_namespace() -> Failure {
    let text = if Pid::current().is_first() {
        "the intermediate process is its first, and its exit would end the daemon; \
         fork after unshare(2), as unshare --fork does, or use foreground"
    } else {
        "the launcher has no pid for a process there; fork after setns(2), as nsenter --fork \
         does, or use foreground"
    };
    Failure::from(ErrorKind::PidNamespace).because(text)
}

fn reset_signals(plan: &Plan) -> Result<(), Failure> {
    if plan.resets_signals {
        inherited::reset_signals()
    } else {
        Ok(())
    }
}

fn take_first_steps(plan: &mut Plan) -> Result<Option<OpenPidFile>, Failure> {
    take_steps_before_pid_file(plan)?;
    let Some(pid_file) = &plan.pid_file else {
        return Ok(None);
    };
    plan.progress.reach(Step::LockPidFile);
    pid_file.acquire().map(Some)
}

fn take_steps_before_pid_file(plan: &mut Plan) -> Result<(), Failure> {
    if let Some(kept) = &mut plan.kept_descriptors {
        plan.progress.reach(Step::CloseDescriptors);
        kept.close_others()?;
    }
    if let Some(mask) = plan.umask {
        sys::umask(mask);
    }
    plan.progress.reach(Step::ChangeDirectory);
    match &plan.working_directory {
        Some(directory) => sys::chdir(directory).map_err(|errno| {
            Failure::new(ErrorKind::ChangeDirectory(errno), About::WorkingDirectory)
        }),
        None => Ok(()),
    }
}

/// How long a daemon has to end by itself when asked to.
const GRACE: Duration = Duration::from_secs(1);

/// How long a process that was killed may take to be gone: it may be waiting for
/// a file server in a way that nothing interrupts.
const LAST_PATIENCE: Duration = Duration::from_secs(2);

/// How long an intermediate may take that has a daemon to end.
const TO_END_DAEMON: Duration = GRACE.saturating_add(LAST_PATIENCE).saturating_add(GRACE);

/// The intermediate once there is a daemon.
struct Supervisor {
    /// A child that is not reaped before it has ended: its pid is its own.
    daemon: Pid,
    launcher: IntermediateEnd,
    pid_file: Option<OpenPidFile>,
    deadline: Option<Instant>,
    child_watch: ChildWatch,
    /// Whom it becomes.
    daemon_user: Option<Uid>,
}

impl Supervisor {
    fn run(&self) -> ! {
        self.introduce_daemon();
        loop {
            if let Some(status) = self.daemon_has_ended() {
                self.conclude(Some(Message::Ended(status)), ErrorKind::DaemonExited);
            }
            match self.launcher.order() {
                Order::Commit => {
                    if let Err(failure) = self.write_pid() {
                        let ended = self.end_daemon().map(|_| Message::Failed(failure));
                        self.conclude(ended, ErrorKind::DaemonExited);
                    }
                    self.release();
                }
                Order::Release => self.release(),
                Order::EndDaemon => {
                    // It has said that it failed, and is about to end.
                    let ended = match self.await_end(GRACE) {
                        Some(status) => Some(Message::Ended(status)),
                        None => self.end_daemon().map(|_| Message::Terminated),
                    };
                    self.conclude(ended, ErrorKind::NotReady);
                }
                Order::LauncherGone => {
                    self.conclude(
                        self.end_daemon().map(Message::Ended),
                        ErrorKind::LauncherGone,
                    );
                }
                Order::Unheard(errno) => {
                    let kind = ErrorKind::Channel(errno);
                    self.conclude(self.end_daemon().map(|_| kind.into()), kind);
                }
                Order::None => {}
            }
            let left = self.deadline.map(time_until);
            if left == Some(Duration::ZERO) {
                let ended = self.end_daemon().map(|_| Message::TimedOut);
                self.conclude(ended, ErrorKind::StartupTimeout);
            }
            let launcher = Some(self.launcher.descriptor());
            self.child_watch.wait(launcher, left);
        }
    }

    /// Whoever reads the pid from now on reads that of a daemon that is ready.
    fn write_pid(&self) -> Result<(), Failure> {
        match &self.pid_file {
            Some(pid_file) if pid_file.is_still_locked() => pid_file.write_pid(self.daemon),
            // The launcher has died since it gave the order, and the daemon has given
            // up: there is nobody to tell.
            Some(_) => Err(ErrorKind::LauncherGone.into()),
            None => Ok(()),
        }
    }

    fn release(&self) -> ! {
        self.launcher.tell(&Message::StoodDown(self.daemon));
        sys::_exit(0)
    }

    /// Hands the launcher what it takes to clean up after both.
    fn introduce_daemon(&self) {
        let process = sys::open_process(self.daemon);
        let message = Message::Started {
            has_process: process.is_some(),
            has_pid_file: self.pid_file.is_some(),
        };
        let descriptors = [
            process.as_ref().map(|process| process.as_fd()),
            self.pid_file.as_ref().map(OpenPidFile::lock),
            self.pid_file.as_ref().and_then(OpenPidFile::writable),
        ];
        // At a limit of the system's, a start can do without. But there is a
        // daemon to be ended, which takes more time.
        if self.launcher.tell_with(&message, descriptors).is_err() {
            self.launcher.tell(&Message::Started {
                has_process: false,
                has_pid_file: false,
            });
        }
    }

    /// The start has failed, and the daemon has ended, so that this is to be told;
    /// or it could not be ended. It then still has the pid file.
    fn conclude(&self, ended: Option<Message>, otherwise: ErrorKind) -> ! {
        if let (Some(_), Some(pid_file)) = (&ended, &self.pid_file) {
            pid_file.clear(None);
        }
        let message = ended.unwrap_or_else(|| {
            Message::Failed(Failure::from(otherwise).because("it could not be ended"))
        });
        self.launcher.tell(&message);
        sys::_exit(1)
    }

    /// Ends the daemon, first asking it to: its status, or `None` where it cannot
    /// be ended. It then ends at its next report.
    fn end_daemon(&self) -> Option<Option<ExitStatus>> {
        self.signal(Signal::TERMINATE);
        self.await_end(GRACE).or_else(|| {
            self.signal(Signal::KILL);
            self.await_end(LAST_PATIENCE)
        })
    }

    /// Who may change ids need not have the right to signal others (CAP_KILL),
    /// but their own user has.
    fn signal(&self, signal: Signal) {
        if sys::kill(self.daemon, signal) != Err(sys::errno::EPERM) {
            return;
        }
        if let Some(user) = self.daemon_user {
            if sys::set_user_ids(user).is_ok() {
                let _ = sys::kill(self.daemon, signal);
            }
        }
    }

    /// The status of the daemon if it ends in time.
    fn await_end(&self, patience: Duration) -> Option<Option<ExitStatus>> {
        let patience_ends = Instant::now() + patience;
        loop {
            let ended = self.daemon_has_ended();
            let left = time_until(patience_ends);
            if ended.is_some() || left.is_zero() {
                return ended;
            }
            self.child_watch.wait(None, Some(left));
        }
    }

    fn daemon_has_ended(&self) -> Option<Option<ExitStatus>> {
        match sys::try_waitpid(self.daemon) {
            Ok(ChildState::Ended(status)) => Some(status),
            Ok(ChildState::Running) | Err(_) => None,
        }
    }
}

fn time_until(instant: Instant) -> Duration {
    instant.saturating_duration_since(Instant::now())
}

// --- The daemon -----------------------------------------------------------

fn be_daemon<T, S>(
    daemonize: Daemonize<T, S>,
    mut plan: Plan,
    inherited: Inherited,
    turn: MutexGuard<'_, ()>,
    signal_mask: SignalMask,
    on_failure: OnFailure,
) -> Result<T, Error> {
    let (pid_file, begun) = match inherited.first_steps {
        Ok(pid_file) => (pid_file, Ok(())),
        Err(failure) => (None, Err(failure)),
    };
    let mut pending = Some(Pending {
        listener: Listener::Launcher(inherited.launcher),
        intermediate: Some(inherited.intermediate),
        pid_file,
        pid_file_path: plan.take_pid_file_path(),
        daemon: ForkIdentity::current(),
        on_failure,
    });
    let Daemonize {
        mut options,
        actions,
        ..
    } = daemonize;
    plan.progress.reach(Step::RedirectStreams);
    // Up to here, and until signals are let through again, nothing allocates,
    // nor frees: a failure leaves the closures alone.
    //
    // A daemon that has failed already does not say so on the launcher's terminal,
    // where the launcher does: its streams are set all the same.
    let begun = begun.and_then(|()| become_holder_of_pid_file(&mut pending));
    let redirected = streams::redirect(&mut options.streams, Stdio::devnull);
    let begun = begun
        .and(redirected)
        .and_then(|()| change_owner_of_pid_file(&plan, &pending));
    let signal_mask = plan.signal_mask(signal_mask);
    let result = match begun {
        Ok(()) => {
            // From here on signals reach the daemon as they would have reached
            // the launcher, and closures may do what they like.
            signal_mask.restore();
            drop(turn);
            if let Some(pending) = &pending {
                pending.register_descriptors();
            }
            // What is dropped on the way is the caller's, and may panic too.
            actions::run(|| take_steps(actions, &plan, &mut pending))
                .and_then(|result| result)
                .map_err(|failure| reasons::with_rights(failure, &options))
        }
        Err(failure) => Err(failure),
    };
    match result {
        Ok(value) => Ok(value),
        Err(failure) => {
            // What the closures had produced is dropped by now.
            let pending = pending.as_ref();
            if let Some(pending) = pending {
                pending.fail(&failure);
            }
            if on_failure == OnFailure::End || failure.kind == ErrorKind::PrivilegesRetained {
                sys::_exit(1);
            }
            // It may not have been reached above.
            signal_mask.restore();
            let is_told = failure.kind != ErrorKind::LauncherGone;
            let path = pending.and_then(Pending::absolute_path);
            let error = describe(failure, &options, path);
            Err(if is_told {
                error.told_to_launcher()
            } else {
                error
            })
        }
    }
}

/// All the same, on this process: no forks, no session of its own.
fn be_foreground<T, S>(daemonize: Daemonize<T, S>, mut plan: Plan) -> Result<T, Error> {
    let Daemonize {
        mut options,
        actions,
        ..
    } = daemonize;
    let first_steps = reset_signals(&plan).and_then(|()| take_first_steps(&mut plan));
    let (pid_file, first_steps) = match first_steps {
        Ok(pid_file) => (pid_file, Ok(())),
        Err(failure) => (None, Err(failure)),
    };
    let mut pending = Some(Pending {
        listener: Listener::ServiceManager(None),
        intermediate: None,
        pid_file,
        pid_file_path: plan.take_pid_file_path(),
        daemon: ForkIdentity::current(),
        on_failure: OnFailure::Return,
    });
    let result = first_steps.and_then(|()| {
        streams::redirect(&mut options.streams, Stdio::keep)?;
        if let Some(pending) = &mut pending {
            pending.listener = Listener::ServiceManager(NotifySocket::open());
        }
        change_owner_of_pid_file(&plan, &pending)?;
        if let Some(pending) = &pending {
            pending.register_descriptors();
        }
        if plan.resets_signals {
            SignalMask::empty().restore();
        }
        take_steps(actions, &plan, &mut pending)
    });
    result.map_err(|failure| {
        if let Some(pending) = &pending {
            pending.fail(&failure);
        }
        let kind = failure.kind;
        let path = pending.as_ref().and_then(Pending::absolute_path);
        let error = describe(failure, &options, path);
        if kind == ErrorKind::PrivilegesRetained {
            error.to_standard_error();
            sys::_exit(1);
        }
        error
    })
}

fn pid_file(pending: &Option<Pending>) -> Option<&OpenPidFile> {
    pending.as_ref()?.pid_file.as_ref()
}

fn become_holder_of_pid_file(pending: &mut Option<Pending>) -> Result<(), Failure> {
    match pending
        .as_mut()
        .and_then(|pending| pending.pid_file.as_mut())
    {
        Some(pid_file) => pid_file.become_holder(),
        None => Ok(()),
    }
}

fn change_owner_of_pid_file(plan: &Plan, pending: &Option<Pending>) -> Result<(), Failure> {
    match (pid_file(pending), &plan.pid_file) {
        (Some(pid_file), Some(plan)) => pid_file.change_owner(plan),
        _ => Ok(()),
    }
}

fn take_steps<T>(
    actions: Actions<T>,
    plan: &Plan,
    pending: &mut Option<Pending>,
) -> Result<T, Failure> {
    if let Some(pending) = pending.as_mut() {
        pending.expect_panic(ErrorKind::Panicked.into());
    }
    plan.progress.reach(Step::PrivilegedAction);
    let initialization = actions()?;
    plan.progress.reach(Step::DropPrivileges);
    if let Err(failure) = take_steps_between(plan, pending) {
        drop_quietly(initialization);
        return Err(failure);
    }
    plan.progress.reach(Step::Initialize);
    let value = initialization.run(pending)?;
    plan.progress.reach(Step::AwaitReadiness);
    // Unless the caller has taken this over.
    if let Some(Err(failure)) = pending.as_mut().map(Pending::commit) {
        drop_quietly(value);
        return Err(failure);
    }
    Ok(value)
}

fn take_steps_between(plan: &Plan, pending: &mut Option<Pending>) -> Result<(), Failure> {
    // Before /proc is out of sight.
    let changes_rights = plan.identity.is_some() || plan.has_no_new_privileges;
    let others = changes_rights.then(OtherThreads::find);
    if let Some(root) = &plan.root {
        root::change(root)?;
    }
    // In the foreground there is no other process that could write it later.
    if let Some(pid_file) = pid_file(pending).filter(|pid_file| pid_file.writable().is_some()) {
        pid_file.write_pid(Pid::current())?;
        become_holder_of_pid_file(pending)?;
    }
    if let Some(others) = &others {
        if let Some(identity) = &plan.identity {
            identity.assume(others)?;
        }
        if plan.has_no_new_privileges {
            identity::set_no_new_privileges(others)?;
        }
    }
    Ok(())
}
