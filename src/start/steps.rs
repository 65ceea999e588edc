//! The steps that the foreground takes too. In a start that forks, the intermediate takes those
//! steps whose effect the daemon inherits.

use crate::error::ErrorKind;
use crate::failure::Failure;
use crate::identity::GroupRoom;
use crate::pid_file::OpenPidFile;
use crate::root::{self, LogFiles};
use crate::start::Closures;
use crate::start::actions::{drop_quietly, run};
use crate::start::plan::Plan;
use crate::start::progress::Step;
use crate::start::uncommitted::UncommittedStart;
use crate::sys::{self, OtherThreads, SingleThreaded};
use crate::{environment, identity};

/// Sets the default action for every signal but SIGPIPE, if the options say so.
/// Async-signal-safe.
pub(super) fn reset_signals(plan: &Plan<'_>) -> Result<(), Failure> {
    if plan.options.reset_signals {
        sys::reset_dispositions().map_err(ErrorKind::ResetSignals)?;
    }
    Ok(())
}

/// Takes the steps whose effect the daemon inherits. Async-signal-safe.
pub(super) fn prepare_inherited_state(plan: &mut Plan<'_>) -> Result<Option<OpenPidFile>, Failure> {
    if let Some(kept) = &mut plan.kept_descriptors {
        plan.progress.reach(Step::CloseDescriptors);
        kept.close_others().map_err(ErrorKind::CloseInheritedFds)?;
    }
    if let Some(mask) = plan.options.umask() {
        sys::umask(mask);
    }
    plan.progress.reach(Step::ChangeDirectory);
    if let Some(directory) = &plan.working_directory {
        sys::chdir(directory).map_err(ErrorKind::ChangeDirectory)?;
    }
    let Some(pid_file) = &plan.pid_file else {
        return Ok(None);
    };
    plan.progress.reach(Step::LockPidFile);
    pid_file.acquire().map(Some)
}

/// Verifies, if the options change the environment, that no other thread can read it meanwhile.
/// `forked` is the proof by which the launcher has forked; `None` in the foreground.
pub(super) fn verify_environment(
    plan: &Plan<'_>,
    forked: Option<SingleThreaded>,
) -> Result<Option<SingleThreaded>, Failure> {
    let changes_environment = plan.user_environment.is_some() || plan.activation.is_some();
    changes_environment
        .then(|| environment::verify_unshared(forked))
        .transpose()
}

fn set_environment(plan: &Plan<'_>, single_threaded: &SingleThreaded) -> Result<(), Failure> {
    if let Some(environment) = &plan.user_environment {
        environment.set(single_threaded)?;
    }
    match &plan.activation {
        Some(activation) => activation.take_over(single_threaded),
        None => Ok(()),
    }
}

/// Runs the closures, with the steps between them, and reports that the daemon is ready. A
/// deferred readiness takes the start, and with it the report, to the caller.
///
/// `single_threaded` is that of [`verify_environment`].
pub(super) fn run_daemon_steps<T>(
    closures: Closures<'_, T>,
    plan: &Plan<'_>,
    start: &mut Option<UncommittedStart>,
    single_threaded: Option<SingleThreaded>,
) -> Result<T, Failure> {
    if let Some(start) = start {
        start.expect_panic(ErrorKind::Panicked.into());
    }
    if let Some(single_threaded) = &single_threaded {
        set_environment(plan, single_threaded)?;
    }
    plan.progress.reach(Step::PrivilegedAction);
    let Closures {
        actions,
        on_started,
    } = closures;
    // The captures belong to the launcher. The daemon drops its copies.
    if let Err(failure) = run(|| drop(on_started)) {
        drop_quietly(actions);
        return Err(failure);
    }
    let initialization = actions()?;
    plan.progress.reach(Step::DropPrivileges);
    if let Err(failure) = drop_privileges_and_write_pid(plan, start.as_mut()) {
        drop_quietly(initialization);
        return Err(failure);
    }
    plan.progress.reach(Step::Initialize);
    let value = initialization.run(start)?;
    plan.progress.reach(Step::AwaitReadiness);
    if let Some(Err(failure)) = start.as_mut().map(UncommittedStart::commit) {
        drop_quietly(value);
        return Err(failure);
    }
    Ok(value)
}

fn drop_privileges_and_write_pid(
    plan: &Plan<'_>,
    start: Option<&mut UncommittedStart>,
) -> Result<(), Failure> {
    let no_new_privileges = plan.options.no_new_privileges;
    let drops_privileges = plan.identity.is_some() || no_new_privileges;
    // The search needs /proc, which a new root directory may hide.
    let others = drops_privileges.then(OtherThreads::find);
    if let Some(root) = &plan.root {
        root::change(root, LogFiles::Reopened)?;
    }
    if let Some(start) = start {
        start.write_pid()?;
    }
    if let Some(others) = &others {
        if let Some(identity) = &plan.identity {
            identity.assume(others, &mut GroupRoom::default())?;
        }
        if no_new_privileges {
            identity::set_no_new_privileges(others)?;
        }
    }
    match plan.options.dumpable {
        true => identity::become_dumpable(),
        false => Ok(()),
    }
}
