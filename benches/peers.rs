//! The same start by each crate: a pid file if the crate knows one, else the defaults.

use std::error::Error;
use std::path::Path;
use std::time::Duration;

type Result = std::result::Result<(), Box<dyn Error>>;

/// Returns in the daemon.
pub(crate) fn start(name: &str, pid_file: &Path) -> Result {
    match name {
        "daemonize2" => Ok(daemonize2::Daemonize::new()
            .pid_file(pid_file)
            .start_checked()?),
        "closing" => closing(pid_file),
        "daemonize2-0.7.0" => predecessor(pid_file),
        "daemonize-0.5" => Ok(daemonize::Daemonize::new().pid_file(pid_file).start()?),
        "daemonix-0.1" => {
            let daemonize = daemonix::Daemonize::new().pid_file(pid_file);
            daemonize.start().map_err(|error| error.to_string().into())
        }
        "fork-0.11" => fork(),
        _ => Err(format!("no start '{name}'").into()),
    }
}

fn closing(pid_file: &Path) -> Result {
    // SAFETY: the benches drop nothing that has a descriptor.
    let daemonize = unsafe { daemonize2::Daemonize::new().close_inherited_fds(&[]) };
    Ok(daemonize.pid_file(pid_file).start_checked()?)
}

fn predecessor(pid_file: &Path) -> Result {
    // SAFETY: the process has one thread.
    let started = unsafe { predecessor::Daemonize::new().pid_file(pid_file).start() };
    started.map_err(|error| error.to_string().into())
}

/// It has no pid files.
fn fork() -> Result {
    let mut options = fork::DaemonOptions::new();
    options
        .current_directory("/")?
        .redirect_standard_io_to_null()?;
    match fork::checked_daemon(options, Duration::from_secs(60))? {
        fork::CheckedDaemon::Parent(_) => std::process::exit(0),
        fork::CheckedDaemon::Daemon(notifier) => Ok(notifier.notify_ready()?),
    }
}
