//! The report that the daemon is ready: who owes it, and when it is given.

use std::ffi::{CString, OsStr};
use std::fmt::{self, Display};
use std::mem;
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::panic::{self, AssertUnwindSafe};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, ThreadId};
use std::time::Duration;

use crate::error::{Error, ErrorKind};
use crate::failure::Failure;
use crate::notify::NotifySocket;
use crate::own_fds;
use crate::pid_file::OpenPidFile;
use crate::start::actions::{text_of, text_with_causes};
use crate::start::channel::DaemonEnd;
use crate::start::nesting::Unready;
use crate::start::panics;
use crate::start::protocol::Message;
use crate::sys::{self, ForkIdentity, Pid};

/// Who is to hear that the daemon is ready.
pub(crate) enum Listener {
    /// The launcher, which acknowledges.
    Launcher(DaemonEnd),
    /// In the foreground: systemd, if it asked for it.
    ServiceManager(Option<NotifySocket>),
}

/// How long an intermediate whose launcher is gone may take to end, together with a
/// daemon that ignores SIGTERM.
const INTERMEDIATE_END: Duration = Duration::from_secs(5);

/// What a process does whose start has failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OnFailure {
    End,
    Return,
}

/// A start that is neither committed nor has failed.
pub(crate) struct Pending {
    pub(crate) listener: Listener,
    /// The parent of a daemon that was forked.
    pub(crate) intermediate: Option<Pid>,
    pub(crate) pid_file: Option<OpenPidFile>,
    /// To remove it by.
    pub(crate) pid_file_path: Option<CString>,
    pub(crate) daemon: ForkIdentity,
    pub(crate) on_failure: OnFailure,
}

impl Pending {
    /// To be called before the caller's code runs. Allocates nothing in a daemon:
    /// see [`own_fds::lock_for_fork`].
    pub(crate) fn register_descriptors(&self) {
        if let Some(channel) = self.channel() {
            own_fds::register(channel);
        }
        if let Some(pid_file) = &self.pid_file {
            own_fds::register_pid_file(pid_file.lock(), pid_file.id());
        }
    }

    /// The path of the pid file.
    pub(crate) fn absolute_path(&self) -> Option<&Path> {
        let path = self.pid_file_path.as_ref()?;
        Some(Path::new(OsStr::from_bytes(path.as_bytes())))
    }

    fn channel(&self) -> Option<BorrowedFd<'_>> {
        match &self.listener {
            Listener::Launcher(launcher) => Some(launcher.descriptor()),
            Listener::ServiceManager(socket) => socket.as_ref().map(NotifySocket::descriptor),
        }
    }

    /// From now on the launcher is told of a panic, as of this failure.
    pub(crate) fn expect_panic(&mut self, failure: Failure) {
        let none = Listener::ServiceManager(None);
        let launcher = match mem::replace(&mut self.listener, none) {
            Listener::Launcher(launcher) => {
                let (launcher, to_be_told) = launcher.shared();
                self.listener = Listener::Launcher(launcher);
                Some(to_be_told)
            }
            manager @ Listener::ServiceManager(_) => {
                self.listener = manager;
                None
            }
        };
        panics::expect(launcher, failure);
    }

    /// Reports ready, and returns when that was acknowledged. From then on the
    /// pid file stays locked for as long as the process lives.
    pub(crate) fn commit(&mut self) -> Result<(), Failure> {
        match &self.listener {
            Listener::Launcher(launcher) => {
                // The intermediate is about to end.
                sys::disarm_parent_death_signal();
                launcher.tell(&Message::Ready)?;
                if !launcher.await_acknowledgement() {
                    // The intermediate may have an order to write the pid, or be about
                    // to end this process. Once it is gone, clearing the file is up to
                    // this process.
                    if let Some(intermediate) = self.intermediate {
                        sys::await_reparenting(intermediate, INTERMEDIATE_END);
                    }
                    return Err(ErrorKind::LauncherGone.into());
                }
            }
            Listener::ServiceManager(socket) => {
                if let Some(socket) = socket {
                    socket.notify_ready();
                }
            }
        }
        panics::settle();
        if let Some(pid_file) = self.pid_file.take() {
            pid_file.keep(self.pid_file_path.take());
        }
        Ok(())
    }

    /// Undoes what the start has done, then reports why.
    pub(crate) fn fail(&self, failure: &Failure) {
        panics::settle();
        if let Some(pid_file) = &self.pid_file {
            pid_file.clear(self.pid_file_path.as_deref());
        }
        if let Listener::Launcher(launcher) = &self.listener {
            // One that is gone needs no report.
            let _ = launcher.tell(&Message::Failed(failure.clone()));
        }
    }

    fn fail_unready(&self, text: String) -> Error {
        let failure = Failure::from(ErrorKind::NotReady).because(text);
        self.fail(&failure);
        Error::from(failure.kind).because(failure.text)
    }

    /// The same, where nobody else gets the error: if there is no launcher to say
    /// so, says so itself.
    fn fail_unready_and_say_so(&self, text: String) {
        let error = self.fail_unready(text);
        if matches!(self.listener, Listener::ServiceManager(_)) {
            error.to_standard_error();
        }
    }
}

impl Drop for Pending {
    /// Forgets what it must not close: a copy made by fork(2), and a number that is
    /// another file's by now.
    fn drop(&mut self) {
        let is_own = self.daemon == ForkIdentity::current();
        if is_own {
            self.channel().map(own_fds::unregister);
            let pid_file = self.pid_file.as_ref().map(OpenPidFile::lock);
            pid_file.map(own_fds::unregister);
        }
        if !is_own || matches!(&self.listener, Listener::Launcher(end) if !end.is_still_open()) {
            let none = Listener::ServiceManager(None);
            mem::forget(mem::replace(&mut self.listener, none));
        }
        if !is_own || !(self.pid_file.as_ref()).is_none_or(OpenPidFile::is_still_open) {
            mem::forget(self.pid_file.take());
        }
    }
}

/// The right, and the duty, to report that the daemon is ready.
///
/// Made by [`Daemonize::deferred_readiness`](crate::Daemonize::deferred_readiness).
/// Until it is used the launcher waits. It may be sent to another thread.
///
/// Dropped unused, it fails the start with [`ErrorKind::NotReady`], and the text
/// of the panic if one was the reason; a daemon that has not ended by itself a
/// second later is ended. An error that is returned past it by `?` is *not* known to
/// it: run what may fail by [`serve`](Self::serve), and the launcher says why. In the
/// [foreground](crate::Daemonize::foreground), where nobody would end the process,
/// the reason goes to standard error; the process goes on, without its pid file.
///
/// Only the process that received it can use it: in a copy made by fork(2) it
/// does nothing.
#[must_use = "dropped unused, it fails the start"]
pub struct Readiness {
    /// `None` once it was used.
    pending: Arc<Mutex<Option<(Pending, Unready)>>>,
    /// The thread whose [`serve`](Self::serve) reports in place of the drop.
    served_by: Option<ThreadId>,
}

impl Readiness {
    pub(crate) fn taking(pending: &mut Option<Pending>) -> Self {
        let mut pending = pending.take();
        if let Some(pending) = &mut pending {
            // The closures may have asked for it, and `ready` may be called in another
            // thread.
            if matches!(pending.listener, Listener::Launcher(_)) {
                sys::disarm_parent_death_signal();
            }
            pending.expect_panic(ErrorKind::NotReady.into());
        }
        Self::of(pending)
    }

    fn of(pending: Option<Pending>) -> Self {
        Self {
            pending: Arc::new(Mutex::new(
                pending.map(|pending| (pending, Unready::begin())),
            )),
            served_by: None,
        }
    }

    /// Reports that the daemon is ready, and returns once the launcher has
    /// acknowledged: the start is committed.
    ///
    /// In the [foreground](crate::Daemonize::foreground) tells systemd, if it
    /// asked for it.
    ///
    /// # Platform notes
    ///
    /// The parent of the daemon ends when the start is committed. A signal that the
    /// daemon has asked for when that happens, by `PR_SET_PDEATHSIG` or
    /// `PROC_PDEATHSIG_CTL`, is disarmed before. On Linux each thread has a setting of
    /// its own: those of the thread that the library returned to and of the one that
    /// calls this are disarmed. Do not ask for the signal in any other thread before
    /// this returns.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::LauncherGone`] where the launcher is gone, so that the start
    /// did not happen: the process has mostly been ended by then. Only after
    /// [`execute`](crate::Daemonize::execute): after
    /// [`start`](crate::Daemonize::start) the process ends in any case.
    /// [`ErrorKind::NotReady`] in a copy of the process.
    pub fn ready(mut self) -> Result<(), Error> {
        let (mut pending, _unready) = self.take()?;
        match pending.commit() {
            Ok(()) => Ok(()),
            Err(failure) => {
                pending.fail(&failure);
                if pending.on_failure == OnFailure::End {
                    sys::_exit(1);
                }
                Err(failure.kind.into())
            }
        }
    }

    /// Runs a server that reports itself that it is ready, and tells the launcher
    /// why if it returns or panics before: so `?` keeps the cause.
    ///
    /// ```no_run
    /// # #[cfg(unix)]
    /// # mod daemon {
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
    /// # }
    /// # fn main() {}
    /// ```
    ///
    /// Returns what the server returns. After a failure, what is left to this
    /// process is to end: see [`fail_and_return`](Self::fail_and_return). A panic goes
    /// on after the launcher was told of it. If the server drops the readiness unused
    /// in the thread that called this, the start fails when the server returns.
    ///
    /// For an async server, let the closure block on it:
    /// `readiness.serve(|readiness| runtime.block_on(server(readiness)))`.
    pub fn serve<T, E, F>(mut self, server: F) -> Result<T, E>
    where
        E: Display + 'static,
        F: FnOnce(Self) -> Result<T, E>,
    {
        let served = Self {
            pending: Arc::clone(&self.pending),
            served_by: Some(thread::current().id()),
        };
        let result = panic::catch_unwind(AssertUnwindSafe(|| server(served)));
        match result {
            Ok(Ok(value)) => {
                // Another thread may have it, and still report.
                if Arc::strong_count(&self.pending) > 1 {
                    self.pending = Arc::default();
                }
                Ok(value)
            }
            Ok(Err(error)) => {
                if let Ok((pending, _unready)) = self.take() {
                    pending.fail_unready(text_with_causes(&error));
                }
                Err(error)
            }
            Err(payload) => {
                if let Ok((pending, _unready)) = self.take() {
                    let text = panics::text_of(&*payload);
                    pending.fail_unready(panics::with_prefix(&text));
                }
                panic::resume_unwind(payload)
            }
        }
    }

    /// Fails the start with this reason, and ends the process with status 1,
    /// by `_exit(2)`: no destructor runs. [`fail_and_return`](Self::fail_and_return)
    /// is for a process that has to clean up.
    ///
    /// In the [foreground](crate::Daemonize::foreground), where there is no
    /// launcher, the reason goes to standard error.
    pub fn fail(mut self, reason: impl Display) -> ! {
        if let Ok((pending, _unready)) = self.take() {
            pending.fail_unready_and_say_so(text_of(&reason));
        }
        sys::_exit(1)
    }

    /// Fails the start with this reason, and returns it as an error of the kind
    /// [`NotReady`](ErrorKind::NotReady), for a process that ends by itself: by a
    /// return from `main`, so that destructors and atexit handlers run.
    ///
    /// The pid file is empty and unlocked by then. The process has one second to end
    /// before it is sent SIGTERM, and another before SIGKILL. The launcher returns
    /// the same error when it has ended: it is the launcher's to print. In the
    /// [foreground](crate::Daemonize::foreground), where there is no launcher, it is
    /// the caller's to print, and the process goes on, without its pid file.
    ///
    /// ```no_run
    /// # #[cfg(unix)]
    /// # mod daemon {
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
    /// # }
    /// # fn main() {}
    /// ```
    #[must_use = "the process has to end, or, in the foreground, to say why it does not serve"]
    pub fn fail_and_return(mut self, reason: impl Display) -> Error {
        match self.take() {
            Ok((pending, _unready)) => pending.fail_unready(text_of(&reason)),
            Err(error) => error,
        }
    }

    fn take(&mut self) -> Result<(Pending, Unready), Error> {
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        let reason = match pending.take() {
            Some(taken) if taken.0.daemon == ForkIdentity::current() => return Ok(taken),
            Some(_of_another) => "only the process that was started can report",
            None => "its server has failed",
        };
        Err(Error::from(ErrorKind::NotReady).because(reason))
    }
}

impl Drop for Readiness {
    fn drop(&mut self) {
        if self.served_by == Some(thread::current().id()) {
            return;
        }
        if let Ok((pending, _unready)) = self.take() {
            let text = if thread::panicking() {
                panics::describe_current()
            } else {
                String::from("its readiness was dropped unused")
            };
            pending.fail_unready_and_say_so(text);
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
