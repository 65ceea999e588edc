//! The daemon: from the fork to the return to the caller.

use std::sync::MutexGuard;

use crate::error::{Error, ErrorKind};
use crate::failure::Failure;
use crate::outcome::FailureMode;
use crate::pid_file::OpenPidFile;
use crate::start::intermediate::Inheritance;
use crate::start::plan::Plan;
use crate::start::progress::Step;
use crate::start::reasons;
use crate::start::steps::{run_daemon_steps, verify_environment};
use crate::start::uncommitted::{ReadySink, UncommittedStart};
use crate::start::{Closures, actions};
use crate::streams::{self, Before};
use crate::sys::{self, SignalMask, SingleThreaded};

pub(super) fn run<T>(
    mut plan: Plan<'_>,
    closures: Closures<'_, T>,
    inheritance: Inheritance,
    turn: MutexGuard<'_, ()>,
    signal_mask: SignalMask,
    failure_mode: FailureMode,
    single_threaded: SingleThreaded,
) -> Result<T, Error> {
    let mut start = UncommittedStart::new(
        &mut plan,
        ReadySink::Launcher(inheritance.launcher),
        Some(inheritance.intermediate),
        failure_mode,
    );
    // Until the signal mask is restored, nothing allocates or frees memory. A failure does not
    // drop the closures before that.
    let prepared = take_first_steps(&mut plan, &mut start, inheritance.prepared);
    let signal_mask = match plan.options.reset_signals {
        true => SignalMask::empty(),
        false => signal_mask,
    };
    let mut start = Some(start);
    let result = match prepared {
        Ok(()) => {
            // From here on signals reach the daemon, and the closures need not be
            // async-signal-safe.
            signal_mask.restore();
            drop(turn);
            if let Some(start) = &start {
                start.register_descriptors();
            }
            // The drop of a closure's captures may panic too.
            actions::run(|| {
                let single_threaded = verify_environment(&plan, Some(single_threaded))?;
                run_daemon_steps(closures, &plan, &mut start, single_threaded)
            })
            .and_then(|result| result)
            .map_err(|failure| reasons::with_rights(failure, plan.options))
        }
        Err(failure) => Err(failure),
    };
    result.map_err(|failure| {
        // The values of the closures are dropped by now.
        if let Some(start) = &start {
            start.fail(&failure);
        }
        if failure_mode == FailureMode::Exit || failure.kind == ErrorKind::PrivilegesRetained {
            sys::_exit(1);
        }
        // A failure before the closures has not restored the mask.
        signal_mask.restore();
        let launcher_reports = failure.kind != ErrorKind::LauncherGone;
        let path = start.as_ref().and_then(UncommittedStart::pid_file_path);
        let error = reasons::describe(failure, plan.options, path);
        error.reported_by_launcher(launcher_reports)
    })
}

/// Takes the steps before the signal mask is restored. Async-signal-safe.
pub(super) fn take_first_steps(
    plan: &mut Plan<'_>,
    start: &mut UncommittedStart,
    prepared: Result<Option<OpenPidFile>, Failure>,
) -> Result<(), Failure> {
    plan.progress.reach(Step::RedirectStreams);
    let prepared = prepared.and_then(|pid_file| {
        start.pid_file = pid_file;
        start.become_pid_file_holder()
    });
    let before = match &prepared {
        Ok(()) => Before::Succeeded,
        Err(_) => Before::Failed,
    };
    let redirected = streams::redirect_forked(&mut plan.streams, before);
    prepared
        .and(redirected.map(|pending| start.pending_streams = pending))
        .and_then(|()| start.change_pid_file_owner(plan.pid_file.as_ref()))
}
