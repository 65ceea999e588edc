//! The report that the daemon is ready, where the caller gives it.

use std::fmt::{self, Display};
use std::panic::{self, AssertUnwindSafe};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, ThreadId};

use crate::error::{Error, ErrorKind};
use crate::outcome::FailureMode;
use crate::start::start_failure::payload_of;
use crate::start::uncommitted::{ReadySink, UncommittedStart};
use crate::start::{panics, text};
use crate::streams;
use crate::sys::{self, ForkIdentity};

/// Reports that the daemon is ready, or why it is not.
///
/// A start with [`Daemonize::deferred_readiness`](crate::Daemonize::deferred_readiness) returns
/// this in the daemon. The launcher waits until the daemon uses it or ends. The daemon may send it
/// to another thread.
///
/// If it is dropped unused, the start fails with [`ErrorKind::NotReady`]. If a panic dropped it,
/// the launcher gets the message of the panic. If a `?` dropped it, the launcher does *not* get
/// the error: use [`serve`](Self::serve) to report such errors. If the daemon has not ended a
/// second after the drop, the library terminates it.
///
/// In the [foreground](crate::Daemonize::foreground) the library does not terminate the process.
/// It writes the reason to standard error and clears the pid file, and the process continues.
///
/// Only the process that the start returned to can use it. In a child of that process, the drop
/// has no effect, and `ready` returns an error.
#[must_use = "dropped unused, it fails the start"]
pub struct Readiness {
    /// `None` once the readiness was used.
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

    /// Reports that the daemon is ready. Returns when the launcher has acknowledged the report:
    /// the start is then committed.
    ///
    /// In the [foreground](crate::Daemonize::foreground) this notifies systemd, if
    /// [`supervised`](crate::supervised) is true.
    ///
    /// # Platform notes
    ///
    /// The parent of the daemon ends when the start is committed. If the daemon has requested a
    /// parent-death signal (`PR_SET_PDEATHSIG`, `PROC_PDEATHSIG_CTL`), the library cancels the
    /// request first. On Linux each thread has its own setting. The library cancels that of the
    /// thread in which the start returned, and that of the thread that calls this. Do not request
    /// the signal in any other thread before this returns.
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::LauncherGone`] if the launcher has ended, so that the start has failed. Only
    ///   a daemon of [`execute`](crate::Daemonize::execute) gets this error: a daemon of
    ///   [`start`](crate::Daemonize::start) ends. In most cases the intermediate process has
    ///   terminated the daemon already.
    /// - [`ErrorKind::RedirectStreams`] if a stream that was [kept until
    ///   ready](crate::Stdio::keep_until_ready) cannot be replaced. A daemon of
    ///   [`start`](crate::Daemonize::start) ends.
    /// - [`ErrorKind::NotReady`] in a child of the daemon, or if [`serve`](Self::serve) has
    ///   already reported a failure.
    pub fn ready(self) -> Result<(), Error> {
        self.ready_with([])
    }

    /// Reports that the daemon is ready, as [`ready`](Self::ready) does, and gives the launcher
    /// up to 2048 bytes: see [`Parent::payload`](crate::Parent::payload).
    ///
    /// ```no_run
    /// use std::net::TcpListener;
    /// use daemonize2::Daemonize;
    ///
    /// fn main() -> Result<(), Box<dyn std::error::Error>> {
    ///     let ((), readiness) = Daemonize::new()
    ///         .on_started(|parent| println!("listening on {}", parent.payload.escape_ascii()))
    ///         .deferred_readiness()
    ///         .start_checked()?;
    ///     readiness.serve(|readiness| {
    ///         let listener = TcpListener::bind("127.0.0.1:0")?;
    ///         readiness.ready_with(listener.local_addr()?.to_string())?;
    ///         for client in listener.incoming() {
    ///             drop(client?);
    ///         }
    ///         Ok(())
    ///     })
    /// }
    /// ```
    ///
    /// In the [foreground](crate::Daemonize::foreground) the payload has no receiver.
    ///
    /// # Errors
    ///
    /// - Those of [`ready`](Self::ready).
    /// - [`ErrorKind::PayloadTooLong`] if the payload is longer than 2048 bytes. The start fails:
    ///   the launcher returns the same error. A daemon of [`start`](crate::Daemonize::start) ends.
    ///   A daemon of [`execute`](crate::Daemonize::execute) gets the error, and has to end.
    pub fn ready_with(mut self, payload: impl AsRef<[u8]>) -> Result<(), Error> {
        // Precedes the take of the start: if `as_ref` panics, the drop of `self` fails the start.
        let payload = payload.as_ref();
        let mut start = self.take()?;
        let reported = start.set_payload(payload).and_then(|()| start.commit());
        reported.map_err(|failure| {
            start.fail(&failure);
            if start.failure_mode == FailureMode::Exit {
                sys::_exit(1);
            }
            let subject = streams::subject(failure.subject);
            Error::from(failure).with_subject(subject)
        })
    }

    /// Runs a server, which must call [`ready`](Self::ready) or [`ready_with`](Self::ready_with).
    /// If the server returns an error or panics before that call, the launcher gets the cause.
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
    /// Returns the result of the server. After a failure the process must end: see
    /// [`fail_and_return`](Self::fail_and_return). If the server panics, this reports the panic to
    /// the launcher and resumes the panic. If the server drops the readiness unused in the thread
    /// that called this, the start fails when the server returns. A
    /// [`StartFailure`](crate::StartFailure) gives the launcher bytes beside the text.
    ///
    /// Run an async server by `readiness.serve(|readiness|
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
        let mut fail = |cause: &dyn Fn() -> (String, Vec<u8>)| {
            if let Ok(start) = self.take() {
                let (reason, payload) = cause();
                start.fail_unready(reason, &payload);
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
                fail(&|| (text::of_error_with_causes(&error), payload_of(&error)));
                Err(error)
            }
            Err(payload) => {
                fail(&|| {
                    let text = panics::describe(&*payload);
                    (text::with_panic_prefix(&text), Vec::new())
                });
                panic::resume_unwind(payload)
            }
        }
    }

    /// Fails the start with this reason, and calls `_exit(1)`, so that no destructor runs. To run
    /// destructors, use [`fail_and_return`](Self::fail_and_return).
    ///
    /// In the [foreground](crate::Daemonize::foreground) this writes the reason to standard
    /// error.
    pub fn fail(self, reason: impl Display) -> ! {
        self.fail_with(reason, [])
    }

    /// Fails the start as [`fail`](Self::fail) does, and gives the launcher up to 2048 bytes beside
    /// the reason: see [`Error::payload`]. If the payload is longer, the launcher gets the reason
    /// without a payload, and the reason says so. In the
    /// [foreground](crate::Daemonize::foreground) the payload has no receiver.
    pub fn fail_with(mut self, reason: impl Display, payload: impl AsRef<[u8]>) -> ! {
        let payload = payload.as_ref();
        if let Ok(start) = self.take() {
            start.fail_unready_and_print(text::of_error(&reason), payload);
        }
        sys::_exit(1)
    }

    /// Fails the start with this reason, and returns an error of the kind
    /// [`NotReady`](ErrorKind::NotReady). The caller can then return from `main`, so that
    /// destructors and atexit handlers run.
    ///
    /// When this returns, the pid file is empty and unlocked. If the process has not ended after
    /// one second, it gets SIGTERM, and SIGKILL after another second. When the process has ended,
    /// the launcher returns the same error. In the [foreground](crate::Daemonize::foreground)
    /// there is no launcher: the caller prints the error, and the library does not terminate the
    /// process.
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
    pub fn fail_and_return(self, reason: impl Display) -> Error {
        self.fail_and_return_with(reason, [])
    }

    /// Fails the start as [`fail_and_return`](Self::fail_and_return) does, with a payload as
    /// [`fail_with`](Self::fail_with) does. The returned error has the payload too.
    #[must_use = "the process has to end, or, in the foreground, to say why it does not serve"]
    pub fn fail_and_return_with(
        mut self,
        reason: impl Display,
        payload: impl AsRef<[u8]>,
    ) -> Error {
        let payload = payload.as_ref();
        match self.take() {
            Ok(start) => start.fail_unready(text::of_error(&reason), payload),
            Err(error) => error,
        }
    }

    fn take(&mut self) -> Result<UncommittedStart, Error> {
        let mut start = self.start.lock().unwrap_or_else(PoisonError::into_inner);
        let reason = match start.take() {
            Some(taken) if taken.daemon == ForkIdentity::current() => return Ok(taken),
            Some(_copy) => "a child of the daemon cannot report for the daemon",
            None => "the server has already failed",
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
            let reason = if thread::panicking() {
                panics::describe_current()
            } else {
                String::from(
                    "it dropped its `Readiness` unused: keep it until the daemon calls `ready`, or \
                     use `Readiness::serve`, which also reports errors",
                )
            };
            start.fail_unready_and_print(reason, &[]);
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
