//! The report that the daemon is ready, where the caller gives it.

use std::fmt::{self, Display};
use std::panic::{self, AssertUnwindSafe};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, ThreadId};

use crate::error::{Error, ErrorKind};
use crate::outcome::FailureMode;
use crate::start::uncommitted::{ReadySink, UncommittedStart};
use crate::start::{panics, text};
use crate::sys::{self, ForkIdentity};

/// The right, and the duty, to report that the daemon is ready.
///
/// Made by [`Daemonize::deferred_readiness`](crate::Daemonize::deferred_readiness). The
/// launcher waits until it is used. It may be sent to another thread.
///
/// Dropped unused, it fails the start with [`ErrorKind::NotReady`], and with the text of the
/// panic if a panic is the reason. The library terminates a daemon that has not ended by itself
/// a second later. An error that `?` returns past the readiness does *not* reach the launcher:
/// run code that may fail by [`serve`](Self::serve), and the launcher reports the cause. In the
/// [foreground](crate::Daemonize::foreground), where nothing terminates the process, the reason
/// goes to standard error, and the process goes on without its pid file.
///
/// Only the process that received it can use it. In a copy of the process, made by fork(2), it
/// does nothing.
#[must_use = "dropped unused, it fails the start"]
pub struct Readiness {
    /// Is `None` once the readiness was used.
    start: Arc<Mutex<Option<UncommittedStart>>>,
    /// The thread whose [`serve`](Self::serve) reports in place of the drop.
    served_by: Option<ThreadId>,
}

impl Readiness {
    pub(super) fn taking(start: &mut Option<UncommittedStart>) -> Self {
        let mut start = start.take();
        if let Some(start) = &mut start {
            // A closure may have armed the signal in this thread, and another thread may call
            // `ready`.
            if matches!(start.ready_sink, ReadySink::Launcher(_)) {
                sys::disarm_parent_death_signal();
            }
            start.expect_panic(ErrorKind::NotReady.into());
        }
        Self::of(start)
    }

    fn of(start: Option<UncommittedStart>) -> Self {
        Self {
            start: Arc::new(Mutex::new(start)),
            served_by: None,
        }
    }

    /// Reports that the daemon is ready, and returns once the launcher has acknowledged: the
    /// start is committed.
    ///
    /// In the [foreground](crate::Daemonize::foreground) this notifies systemd, if systemd has
    /// asked for it.
    ///
    /// # Platform notes
    ///
    /// The parent of the daemon ends when the start is committed. The daemon may have asked for
    /// a signal at the death of its parent, by `PR_SET_PDEATHSIG` or `PROC_PDEATHSIG_CTL`; the
    /// library disarms that signal before. On Linux each thread has a setting of its own: the
    /// library disarms those of the thread that it returned to and of the thread that calls
    /// this. Do not ask for the signal in any other thread before this returns.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::LauncherGone`] where the launcher is gone, so that the start did not
    /// happen. The intermediate process mostly terminates the daemon before. After
    /// [`start`](crate::Daemonize::start) the process ends in any case, so that only a daemon
    /// of [`execute`](crate::Daemonize::execute) gets this error. [`ErrorKind::NotReady`] in a
    /// copy of the process.
    pub fn ready(mut self) -> Result<(), Error> {
        let mut start = self.take()?;
        start.commit().map_err(|failure| {
            start.fail(&failure);
            if start.failure_mode == FailureMode::Exit {
                sys::_exit(1);
            }
            failure.kind.into()
        })
    }

    /// Runs a server, which calls [`ready`](Self::ready) itself. If the server returns an error
    /// or panics before, the launcher gets the cause: so `?` loses nothing.
    ///
    /// ```no_run
    /// use std::error::Error;
    /// use std::net::TcpListener;
    /// use daemonize2::{Daemonize, Readiness};
    ///
    /// fn main() -> Result<(), Box<dyn Error>> {
    ///     let ((), readiness) = Daemonize::new().deferred_readiness().start_checked()?;
    ///     readiness.serve(server)
    /// }
    ///
    /// fn server(readiness: Readiness) -> Result<(), Box<dyn Error>> {
    ///     let port = std::fs::read_to_string("/etc/clockd/port")?.trim().parse()?;
    ///     let listener = TcpListener::bind(("127.0.0.1", port))?;
    ///     readiness.ready()?;
    ///     for client in listener.incoming() {
    ///         drop(client?);
    ///     }
    ///     Ok(())
    /// }
    /// ```
    ///
    /// Returns what the server returns. After a failure the process has to end: see
    /// [`fail_and_return`](Self::fail_and_return). A panic goes on after the report to the
    /// launcher. If the server drops the readiness unused in the thread that called this, the start
    /// fails when the server returns.
    ///
    /// For an async server, let the closure block on it: `readiness.serve(|readiness|
    /// runtime.block_on(server(readiness)))`.
    pub fn serve<T, E, F>(mut self, server: F) -> Result<T, E>
    where
        E: Display + 'static,
        F: FnOnce(Self) -> Result<T, E>,
    {
        let served = Self {
            start: Arc::clone(&self.start),
            served_by: Some(thread::current().id()),
        };
        let result = panic::catch_unwind(AssertUnwindSafe(|| server(served)));
        let mut fail = |reason: &dyn Fn() -> String| {
            if let Ok(start) = self.take() {
                start.fail_unready(reason());
            }
        };
        match result {
            Ok(Ok(value)) => {
                // Another thread may have the readiness, and still report.
                if Arc::strong_count(&self.start) > 1 {
                    self.start = Arc::default();
                }
                Ok(value)
            }
            Ok(Err(error)) => {
                fail(&|| text::of_error_with_causes(&error));
                Err(error)
            }
            Err(payload) => {
                fail(&|| text::with_panic_prefix(&text::of_panic(&*payload)));
                panic::resume_unwind(payload)
            }
        }
    }

    /// Fails the start with this reason, and ends the process with status 1, by `_exit(2)`: no
    /// destructor runs. A process that has to clean up uses
    /// [`fail_and_return`](Self::fail_and_return).
    ///
    /// In the [foreground](crate::Daemonize::foreground), where there is no launcher, the
    /// reason goes to standard error.
    pub fn fail(mut self, reason: impl Display) -> ! {
        if let Ok(start) = self.take() {
            start.fail_unready_and_print(text::of_error(&reason));
        }
        sys::_exit(1)
    }

    /// Fails the start with this reason, and returns an error of the kind
    /// [`NotReady`](ErrorKind::NotReady) with it. This is for a process that ends by a return
    /// from `main`, so that destructors and atexit handlers run.
    ///
    /// When this returns, the pid file is empty and unlocked. The process has one second to end
    /// before it gets SIGTERM, and another before SIGKILL. After its end the launcher returns
    /// the same error, and prints it. In the [foreground](crate::Daemonize::foreground), where
    /// there is no launcher, the caller prints the error, and the process goes on without its
    /// pid file.
    ///
    /// ```no_run
    /// use std::net::TcpListener;
    /// use daemonize2::{Daemonize, Error};
    ///
    /// fn main() -> Result<(), Error> {
    ///     let ((), readiness) = Daemonize::new().deferred_readiness().start_checked()?;
    ///     let listener = match TcpListener::bind("127.0.0.1:7") {
    ///         Ok(listener) => listener,
    ///         Err(error) => return Err(readiness.fail_and_return(error)),
    ///     };
    ///     readiness.ready()?;
    ///     for client in listener.incoming() {
    ///         drop(client);
    ///     }
    ///     Ok(())
    /// }
    /// ```
    #[must_use = "the process has to end, or, in the foreground, to say why it does not serve"]
    pub fn fail_and_return(mut self, reason: impl Display) -> Error {
        match self.take() {
            Ok(start) => start.fail_unready(text::of_error(&reason)),
            Err(error) => error,
        }
    }

    fn take(&mut self) -> Result<UncommittedStart, Error> {
        let mut start = self.start.lock().unwrap_or_else(PoisonError::into_inner);
        let reason = match start.take() {
            Some(taken) if taken.daemon == ForkIdentity::current() => return Ok(taken),
            Some(_copy) => "only the process that was started can report",
            None => "its server has failed",
        };
        Err(Error::from(ErrorKind::NotReady).with_reason(reason))
    }
}

impl Drop for Readiness {
    fn drop(&mut self) {
        if self.served_by == Some(thread::current().id()) {
            return;
        }
        if let Ok(start) = self.take() {
            start.fail_unready_and_print(if thread::panicking() {
                panics::describe_current()
            } else {
                String::from("its readiness was dropped unused")
            });
        }
    }
}

impl fmt::Debug for Readiness {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Readiness").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_readiness_shows_its_name_alone() {
        let readiness = Readiness::of(None);
        assert_eq!(format!("{readiness:?}"), "Readiness { .. }");
    }
}
