//! A start in the foreground: the same steps in this process, without forks and session.

use crate::error::{Error, ErrorKind};
use crate::notify::NotifySocket;
use crate::outcome::FailureMode;
use crate::start::Closures;
use crate::start::plan::Plan;
use crate::start::reasons;
use crate::start::steps::{
    prepare_inherited_state, reset_signals, run_daemon_steps, verify_environment,
};
use crate::start::uncommitted::{ReadySink, UncommittedStart};
use crate::streams::{self, Before, Stdio};
use crate::sys::{self, SignalMask};

pub(super) fn run<T>(mut plan: Plan<'_>, closures: Closures<'_, T>) -> Result<T, Error> {
    // Precedes all changes.
    let single_threaded = verify_environment(&plan, None)
        .map_err(|failure| reasons::describe(failure, plan.options, None))?;
    let prepared = reset_signals(&plan).and_then(|()| prepare_inherited_state(&mut plan));
    let sink = ReadySink::ServiceManager(None);
    let mut start = UncommittedStart::new(&mut plan, sink, None, FailureMode::Return);
    let prepared = prepared.and_then(|pid_file| {
        start.pid_file = pid_file;
        start.pending_streams =
            streams::redirect(&mut plan.streams, Stdio::keep, Before::Succeeded)?;
        start.ready_sink = ReadySink::ServiceManager(NotifySocket::open());
        start.change_pid_file_owner(plan.pid_file.as_ref())?;
        start.register_descriptors();
        if plan.options.reset_signals {
            SignalMask::empty().restore();
        }
        Ok(())
    });
    let mut start = Some(start);
    let result =
        prepared.and_then(|()| run_daemon_steps(closures, &plan, &mut start, single_threaded));
    result.map_err(|failure| {
        if let Some(start) = &start {
            start.fail(&failure);
        }
        let kind = failure.kind;
        let path = start.as_ref().and_then(UncommittedStart::pid_file_path);
        let error = reasons::describe(failure, plan.options, path);
        if kind == ErrorKind::PrivilegesRetained {
            error.to_standard_error();
            sys::_exit(1);
        }
        error
    })
}
