//! What the entry points return, and to which process.

use std::process::ExitStatus;

use crate::error::Error;
use crate::sys;

/// What [`Daemonize::execute`](crate::Daemonize::execute) returns in the launcher after a start
/// that succeeded.
#[derive(Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Parent {
    /// How the first child, the intermediate process, has ended.
    ///
    /// The status is unknown where other code has reaped the process, or the launcher ignores
    /// SIGCHLD. The field then is the success that the report of the daemon implies.
    pub first_child_exit_status: ExitStatus,
    /// The pid of the daemon.
    pub daemon_pid: u32,
}

/// What [`Daemonize::execute`](crate::Daemonize::execute) returns in the daemon.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub struct Child<T> {
    /// The value of the last closure: of the last [`initialize`](crate::Daemonize::initialize)
    /// where there is one, else of the [privileged
    /// action](crate::Daemonize::privileged_action), else `()`. With
    /// [`deferred_readiness`](crate::Daemonize::deferred_readiness), a pair of that value and
    /// the [`Readiness`](crate::Readiness).
    ///
    /// The name is that of 0.7.0, which had no other closure.
    pub privileged_action_result: T,
}

/// What [`Daemonize::execute`](crate::Daemonize::execute) returns: twice, once in the launcher
/// and once in the daemon.
#[must_use = "each of the two processes has to learn which one it is, and whether the start failed"]
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome<T> {
    /// This process is the launcher.
    Parent(Result<Parent, Error>),
    /// This process is the daemon, or would have become it.
    Child(Result<Child<T>, Error>),
}

impl<T> Outcome<T> {
    /// Whether this process is the launcher.
    #[must_use]
    pub fn is_parent(&self) -> bool {
        matches!(self, Self::Parent(_))
    }

    /// Whether this process is the daemon, or would have become it.
    #[must_use]
    pub fn is_child(&self) -> bool {
        matches!(self, Self::Child(_))
    }

    /// Ends the process of the daemon by `_exit(2)`, with status 1, if its start has failed:
    /// the launcher returns the same failure, and reports it. In the
    /// [foreground](crate::Daemonize::foreground), where there is no launcher, this returns the
    /// failure.
    ///
    /// So every failure is printed once, also where the daemon [keeps](crate::Stdio::keep) the
    /// standard error of the launcher:
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
}
