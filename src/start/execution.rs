//! The daemon that executes a program. The launcher may have other threads: between fork(2) and
//! execve(2) nothing allocates, frees or waits for a lock, even if a step fails.

use std::convert::Infallible;

use crate::error::ErrorKind;
use crate::failure::Failure;
use crate::identity;
use crate::outcome::FailureMode;
use crate::root::{self, LogFiles};
use crate::start::daemon::take_first_steps;
use crate::start::intermediate::Inheritance;
use crate::start::plan::Plan;
use crate::start::program::ProgramPlan;
use crate::start::program_watch::ProgramMark;
use crate::start::progress::Step;
use crate::start::uncommitted::{ReadySink, UncommittedStart};
use crate::sys::{self, OtherThreads, SignalMask, errno};

/// Takes the steps of the daemon, and executes the program. Async-signal-safe.
pub(super) fn run(
    mut program: ProgramPlan,
    mut plan: Plan<'_>,
    inheritance: Inheritance,
    signal_mask: SignalMask,
) -> ! {
    let mut start = UncommittedStart::new(
        &mut plan,
        ReadySink::Launcher(inheritance.launcher),
        Some(inheritance.intermediate),
        FailureMode::Spawn,
    );
    let signal_mask = match plan.options.reset_signals {
        true => SignalMask::empty(),
        false => signal_mask,
    };
    // Stays open until a failure is reported: the intermediate may take its end of file for an
    // execution.
    let mut mark = inheritance.program_mark;
    let first_steps = take_first_steps(&mut plan, &mut start, inheritance.prepared);
    let executed = first_steps.and_then(|()| {
        sys::reset_caught_signals().map_err(ErrorKind::ResetSignals)?;
        signal_mask.restore();
        drop_privileges(&plan, &mut program)?;
        // A handler of pthread_atfork(3) may have armed the signal, and execve(2) does not disarm
        // it. The end of the intermediate would end the program.
        sys::disarm_parent_death_signal();
        plan.progress.reach(Step::ExecuteProgram);
        let mark = mark.as_mut();
        let mark = mark.filter(|mark| mark.await_permission());
        execute(&mut program, &mut start, mark)
    });
    let Err(failure) = executed;
    start.fail(&failure);
    sys::_exit(1)
}

fn drop_privileges(plan: &Plan<'_>, program: &mut ProgramPlan) -> Result<(), Failure> {
    plan.progress.reach(Step::DropPrivileges);
    if let Some(root) = &plan.root {
        root::change(root, LogFiles::Left)?;
    }
    let others = OtherThreads::none();
    if let Some(identity) = &plan.identity {
        identity.assume(&others, &mut program.group_room)?;
    }
    match plan.options.no_new_privileges {
        true => identity::set_no_new_privileges(&others),
        false => Ok(()),
    }
}

/// execve(2) closes the connection to the launcher and the mark of the intermediate. The program
/// has the pid file open, and the lock with it.
fn execute(
    program: &mut ProgramPlan,
    start: &mut UncommittedStart,
    mark: Option<&mut ProgramMark>,
) -> Result<Infallible, Failure> {
    let Some(mark) = mark else {
        return Err(ErrorKind::IntermediateExited.into());
    };
    let number = program.readiness.number();
    if let Some(number) = number {
        start.vacate(number)?;
    }
    mark.pass_notification_on(number).map_err(|errno| {
        let reason = "the number of its notification descriptor exceeds the limit (RLIMIT_NOFILE)";
        let failure = Failure::from(ErrorKind::ExecuteProgram(errno));
        match errno {
            errno::EBADF => failure.with_reason(reason),
            _ => failure,
        }
    })?;
    for &number in &program.inherited {
        // If another thread of the launcher has closed the descriptor, a descriptor of this
        // start may have its number.
        if !mark.has_descriptor(number) && !start.has_descriptor(number) {
            let _ = sys::clear_cloexec(number);
        }
    }
    if let Some(number) = start.pass_pid_file_on()? {
        program.environment.set_descriptor(number);
    }
    Err(Failure::from(ErrorKind::ExecuteProgram(program.execve())))
}
