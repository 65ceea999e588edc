//! The start of a daemon. docs/architecture.md shows what each of the three processes does, and
//! which of them acts if one dies.
//!
//! If a step of the intermediate fails, the daemon reports this failure after the second fork.
//! So if several steps would fail, the start reports the earliest, with one exception: it
//! reports a failed second fork or an expired timeout rather than a failure between setsid(2)
//! and that fork.
//!
//! | file | contents |
//! |---|---|
//! | `plan.rs` | the preparation before the fork |
//! | `fork_safety.rs` | the check of the process before the fork |
//! | `launcher.rs`, `intermediate.rs`, `daemon.rs` | the three processes |
//! | `program.rs`, `program_watch.rs`, `program_readiness.rs`, `execution.rs` | the program that the daemon executes: its preparation, the intermediate, its readiness, the daemon |
//! | `foreground.rs` | the start without forks |
//! | `steps.rs` | the steps of the daemon, in either case |
//! | `actions.rs`, `text.rs`, `start_failure.rs`, `panics.rs` | the caller's closures, their errors, and their panics |
//! | `started.rs` | the closure of the launcher |
//! | `uncommitted.rs`, `readiness.rs` | the report that the daemon is ready |
//! | `protocol.rs`, `channel.rs` | the messages, and the sockets |
//! | `inherited.rs` | the descriptors that the daemon does not inherit |
//! | `progress.rs`, `reasons.rs` | the texts of errors |
//! | `unreaped.rs` | processes that outlive a failed start |

pub(crate) mod actions;
mod c_path;
mod channel;
mod daemon;
mod execution;
mod foreground;
mod fork_safety;
mod inherited;
mod intermediate;
mod launcher;
mod panics;
mod plan;
mod program;
mod program_readiness;
mod program_watch;
mod progress;
mod protocol;
mod readiness;
mod reasons;
mod start_failure;
pub(crate) mod started;
mod steps;
mod text;
mod uncommitted;
mod unreaped;

use std::fmt::Display;
use std::sync::{Mutex, PoisonError};

use crate::deadline::Deadline;
use crate::error::{Error, ErrorKind};
use crate::options::Options;
use crate::outcome::{Child, FailureMode, Outcome, Parent};
use crate::own_fds;
use crate::streams;
use crate::sys::{self, Fork, ForkIdentity};

use self::actions::Actions;
pub(crate) use self::fork_safety::ForkSafety;
use self::launcher::Launcher;
use self::plan::Plan;
pub use self::readiness::Readiness;
pub(crate) use self::reasons::lacks_rights;
pub use self::start_failure::StartFailure;
use self::started::OnStarted;

/// Starts a daemon. Returns in the daemon, or with the failure in the launcher.
pub(crate) fn start<T>(
    options: Options,
    closures: Closures<'_, T>,
    fork_safety: ForkSafety,
) -> Result<T, Error> {
    match launch(options, closures, fork_safety, FailureMode::Exit) {
        // The captures of the actions belong to the daemon. Therefore nothing drops them here.
        Side::Launcher(Ok(parent), closures) => {
            started::report_and_exit(closures.on_started, &parent)
        }
        Side::Launcher(Err(error), _closures) => Err(error),
        Side::Daemon(result) => result,
    }
}

/// Starts a daemon. Returns in both processes.
pub(crate) fn execute<T>(
    options: Options,
    closures: Closures<'_, T>,
    fork_safety: ForkSafety,
) -> Outcome<T> {
    match launch(options, closures, fork_safety, FailureMode::Return) {
        Side::Launcher(Ok(parent), closures) => {
            let actions = closures.actions;
            // A panic of a capture's drop during the unwinding would abort the launcher.
            started::report(closures.on_started, &parent, || {
                actions::drop_quietly(actions);
            });
            Outcome::Parent(Ok(parent))
        }
        Side::Launcher(Err(error), _closures) => Outcome::Parent(Err(error)),
        Side::Daemon(result) => Outcome::Child(result.map(|value| Child {
            privileged_action_result: value,
        })),
    }
}

/// Starts a daemon that executes the program among the options. Returns in the launcher.
pub(crate) fn spawn(
    options: Options,
    closures: Closures<'_, ()>,
    fork_safety: ForkSafety,
) -> Result<Parent, Error> {
    match launch(options, closures, fork_safety, FailureMode::Spawn) {
        Side::Launcher(Ok(parent), closures) => {
            started::report(closures.on_started, &parent, || {});
            Ok(parent)
        }
        Side::Launcher(Err(error), _closures) => Err(error),
        // The plan refuses the foreground, and a daemon that was forked does not return.
        Side::Daemon(Err(error)) => Err(error),
        Side::Daemon(Ok(())) => unreachable!("the daemon has executed the program"),
    }
}

/// The closures of a start.
pub(crate) struct Closures<'a, T> {
    /// Those that run in the daemon.
    pub(crate) actions: Actions<'a, T>,
    /// The one that runs in the launcher.
    pub(crate) on_started: Option<OnStarted>,
}

impl<T: 'static> Closures<'static, T> {
    pub(crate) fn then_initialize<'a, N, E, F>(self, initialize: F) -> Closures<'a, N>
    where
        E: Display + 'static,
        F: FnOnce(T) -> Result<N, E> + 'a,
    {
        Closures {
            actions: actions::then_initialize(self.actions, initialize),
            on_started: self.on_started,
        }
    }
}

/// The process that returns, and its result. The launcher still has the closures.
enum Side<'a, T> {
    Launcher(Result<Parent, Error>, Closures<'a, T>),
    Daemon(Result<T, Error>),
}

/// Makes starts of several threads take turns. Otherwise a daemon that is forked during another
/// start would have copies of the channels of that start, and keep them open.
static TURN: Mutex<()> = Mutex::new(());

fn launch<T>(
    mut options: Options,
    closures: Closures<'_, T>,
    fork_safety: ForkSafety,
    failure_mode: FailureMode,
) -> Side<'_, T> {
    ForkIdentity::count_forks();
    let streams = options.take_streams();
    let plan = actions::refuse_nested_start(options.foreground, failure_mode)
        .and_then(|()| Plan::new(&options, streams));
    if options.foreground {
        return Side::Daemon(plan.and_then(|plan| {
            plan.create_directories()?;
            foreground::run(plan, closures)
        }));
    }
    let prepared = plan.and_then(|plan| {
        let single_threaded = fork_safety.verify(failure_mode)?;
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        unreaped::reap_ended();
        plan.create_directories()?;
        let timeout = options.startup_timeout;
        let deadline = timeout.map_or(Deadline::NEVER, Deadline::after);
        if failure_mode != FailureMode::Spawn {
            fork_safety::flush_streams(deadline)?;
        }
        let ends = channel::channels().map_err(ErrorKind::Channel)?;
        Ok((plan, single_threaded, turn, deadline, ends))
    });
    let (mut plan, single_threaded, turn, deadline, ends) = match prepared {
        Ok(prepared) => prepared,
        Err(error) => return Side::Launcher(Err(error), closures),
    };
    let (launcher, intermediate, daemon) = ends;
    if let Some(kept) = &mut plan.kept_descriptors {
        kept.add([intermediate.descriptor(), daemon.descriptor()]);
    }
    let panics = panics::lock_for_fork();
    let mut own_fds = own_fds::lock_for_fork();
    let logs = streams::lock_for_fork();
    // Otherwise a handler of the launcher could run in a child.
    let signal_mask = sys::block_signals();
    match sys::fork(&single_threaded) {
        Err(errno) => {
            drop((panics, own_fds, logs));
            signal_mask.restore();
            let error = reasons::describe(ErrorKind::Fork(errno).into(), plan.options, None);
            Side::Launcher(Err(error), closures)
        }
        Ok(Fork::Parent(child)) => {
            drop((panics, own_fds, logs));
            signal_mask.restore();
            drop((intermediate, daemon));
            let launcher = Launcher::new(child, launcher, &plan, deadline, failure_mode);
            Side::Launcher(launcher.run(), closures)
        }
        Ok(Fork::Child) => {
            drop(launcher);
            // The launcher may be a daemon, or about to become one. Its lock must not live on
            // in this daemon.
            own_fds.close_copies();
            drop((panics, own_fds, logs));
            let inheritance =
                intermediate::run(&mut plan, intermediate, daemon, deadline, &single_threaded);
            if let Some(program) = plan.program.take() {
                execution::run(program, plan, inheritance, signal_mask);
            }
            Side::Daemon(daemon::run(
                plan,
                closures,
                inheritance,
                turn,
                signal_mask,
                failure_mode,
                single_threaded,
            ))
        }
    }
}
