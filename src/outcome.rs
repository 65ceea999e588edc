//! What the entry points return, and to which process.

use std::process::ExitStatus;

use crate::error::Error;
use crate::sys;

/// What [`Daemonize::execute`](crate::Daemonize::execute) returns in the launcher after a start
/// that succeeded, what [`Daemonize::spawn`](crate::Daemonize::spawn) returns, and what
/// [`Daemonize::on_started`](crate::Daemonize::on_started) gives to its
/// closure.
#[derive(Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Parent {
    /// The exit status of the intermediate process.
    ///
    /// The status is unknown if other code has reaped the process, or if the launcher ignores
    /// SIGCHLD. The field then has the status 0.
    pub first_child_exit_status: ExitStatus,
    /// The pid of the daemon.
    pub daemon_pid: u32,
    /// The bytes that the daemon has sent with its report: see
    /// [`Readiness::ready_with`](crate::Readiness::ready_with) and
    /// [`Daemonize::ready_payload`](crate::Daemonize::ready_payload). Empty if it has sent none.
    ///
    /// # Security
    ///
    /// The bytes are as the daemon has sent them, after it has changed its identity. A launcher
    /// that has more rights than the daemon must not trust them. To print them on a terminal, use
    /// [`escape_ascii`](slice::escape_ascii).
    pub payload: Vec<u8>,
}

/// What [`Daemonize::execute`](crate::Daemonize::execute) returns in the daemon.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub struct Child<T> {
    /// The value of the last closure: the last [`initialize`](crate::Daemonize::initialize), or
    /// the [privileged action](crate::Daemonize::privileged_action). Without closures it is `()`.
    /// With [`deferred_readiness`](crate::Daemonize::deferred_readiness), it is a pair of that
    /// value and the [`Readiness`](crate::Readiness).
    ///
    /// The field has this name since 0.7.0, which had no other closure. [`value`](Self::value) and
    /// [`into_value`](Self::into_value) return the same value.
    pub privileged_action_result: T,
}

impl<T> Child<T> {
    /// The value of the last closure: see
    /// [`privileged_action_result`](Self::privileged_action_result).
    #[must_use]
    pub fn value(&self) -> &T {
        &self.privileged_action_result
    }

    /// The value of the last closure: see
    /// [`privileged_action_result`](Self::privileged_action_result).
    #[must_use]
    pub fn into_value(self) -> T {
        self.privileged_action_result
    }
}

/// What [`Daemonize::execute`](crate::Daemonize::execute) returns, once in the launcher and once
/// in the daemon.
#[must_use = "each of the two processes has to learn which one it is, and whether the start failed"]
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome<T> {
    /// This process is the launcher.
    Parent(Result<Parent, Error>),
    /// This process is the daemon, also if its start has failed.
    Child(Result<Child<T>, Error>),
}

impl<T> Outcome<T> {
    /// Whether this process is the launcher.
    #[must_use]
    pub fn is_parent(&self) -> bool {
        matches!(self, Self::Parent(_))
    }

    /// Whether this process is the daemon, also if its start has failed.
    #[must_use]
    pub fn is_child(&self) -> bool {
        matches!(self, Self::Child(_))
    }

    /// Ends the daemon by `_exit(1)` if its start has failed and the launcher returns the same
    /// failure. In the [foreground](crate::Daemonize::foreground) there is no launcher, and this
    /// returns the failure.
    ///
    /// The program thus prints every failure once, even if the daemon
    /// [keeps](crate::Stdio::keep) the standard error of the launcher:
    ///
    /// ```no_run
    /// use daemonize2::{Daemonize, Outcome};
    ///
    /// # fn serve() {}
    /// match Daemonize::new().execute_checked().end_failed_daemon() {
    ///     Outcome::Parent(Ok(launcher)) => println!("started {}", launcher.daemon_pid),
    ///     Outcome::Child(Ok(_)) => serve(),
    ///     Outcome::Parent(Err(error)) | Outcome::Child(Err(error)) => {
    ///         eprintln!("clockd: {error}");
    ///         std::process::exit(1);
    ///     }
    /// }
    /// ```
    pub fn end_failed_daemon(self) -> Self {
        if let Self::Child(Err(error)) = &self {
            if error.is_reported_by_launcher() {
                sys::_exit(1);
            }
        }
        self
    }
}

/// What the entry point does once the start is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FailureMode {
    /// `start`: the launcher ends after a success, and the daemon after a failure.
    Exit,
    /// `execute`: both processes return in any case.
    Return,
    /// `spawn`: the launcher returns, and the daemon executes a program or ends.
    Spawn,
}
