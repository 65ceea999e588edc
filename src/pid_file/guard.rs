//! The removal of the pid file at a clean exit.

use std::os::fd::RawFd;

use crate::own_fds;
use crate::sys::ForkIdentity;

/// Removes the pid file of this process at a clean exit.
///
/// This is not necessary, since the next start takes over a file that is left. The file
/// is removed when the process exits after the guard was dropped: by a return from
/// `main`, or by [`exit`](std::process::exit). Until then the file stays, and stays
/// locked, so that no second daemon starts while this process lives. A process that is
/// killed, or ends by `_exit` or `abort`, leaves the file, which is harmless.
///
/// The file is removed if its path still leads to it and this process has the permission.
/// After a change of identity the process often has not, and after a change of root
/// directory the path leads elsewhere.
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
    /// Takes charge of the pid file that the last start has locked for this
    /// process. `None` if there is none, or it already has a guard.
    ///
    /// With [deferred readiness](crate::Daemonize::deferred_readiness), there
    /// is one after [`Readiness::ready`](crate::Readiness::ready).
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
