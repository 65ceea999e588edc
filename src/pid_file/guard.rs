//! The removal of the pid file at a clean exit.

use std::os::fd::RawFd;

use crate::own_fds;
use crate::sys::ForkIdentity;

/// Removes the pid file of this process when the process exits.
///
/// Drop the guard before the exit. The file is removed when the process returns from `main` or
/// calls [`exit`](std::process::exit), and not when the guard is dropped. Until then the file
/// stays locked, so that no second daemon starts while this process runs. A process that is
/// killed, or ends by `_exit` or `abort`, leaves the file. This is harmless: the next start uses
/// the same file.
///
/// The file is removed only if its path still leads to it and this process has the permission.
/// After a change of identity the process often lacks the permission. After a change of root
/// directory the path often leads to another file or to none.
///
/// ```no_run
/// # fn serve() {}
/// # fn main() -> Result<(), daemonize2::Error> {
/// daemonize2::Daemonize::new()
///     .pid_file("/run/clockd.pid")
///     .start_checked()?;
/// let _guard = daemonize2::PidFileGuard::take();
/// serve();
/// # Ok(())
/// # }
/// ```
#[must_use = "the pid file is removed once this is dropped and the process exits"]
#[derive(Debug)]
pub struct PidFileGuard {
    /// The number of the pid file's descriptor.
    number: RawFd,
    process: ForkIdentity,
}

impl PidFileGuard {
    /// A guard for the pid file that the last start has locked for this process. `None` if there
    /// is no such file, or if it already has a guard.
    ///
    /// With [deferred readiness](crate::Daemonize::deferred_readiness), call this after
    /// [`Readiness::ready`](crate::Readiness::ready).
    #[must_use = "without the guard, the pid file is left when the process exits"]
    pub fn take() -> Option<Self> {
        own_fds::guard_pid_file().map(|number| Self {
            number,
            process: ForkIdentity::current(),
        })
    }
}

impl Drop for PidFileGuard {
    fn drop(&mut self) {
        // A copy that fork(2) has made is not the daemon.
        if self.process == ForkIdentity::current() {
            own_fds::remove_pid_file_at_exit(self.number);
        }
    }
}
