//! A start between the first step of the daemon and the commit.

use std::ffi::{CString, OsStr};
use std::mem;
use std::os::fd::{AsRawFd as _, BorrowedFd, RawFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::time::Duration;

use crate::deadline::Deadline;
use crate::error::{Error, ErrorKind};
use crate::failure::{Failure, check_payload};
use crate::notify::NotifySocket;
use crate::outcome::FailureMode;
use crate::own_fds;
use crate::pid_file::{OpenPidFile, PidFilePlan};
use crate::start::channel::DaemonEnd;
use crate::start::panics;
use crate::start::plan::Plan;
use crate::start::protocol::Message;
use crate::streams::PendingStreams;
use crate::sys::{self, ForkIdentity, Pid};

/// The receiver of the report that the daemon is ready.
pub(super) enum ReadySink {
    /// The launcher acknowledges the report.
    Launcher(DaemonEnd),
    /// In the foreground: systemd, if it has asked for the report.
    ServiceManager(Option<NotifySocket>),
}

/// A start that is neither committed nor has failed.
pub(crate) struct UncommittedStart {
    pub(super) ready_sink: ReadySink,
    /// The parent of a daemon that was forked.
    intermediate: Option<Pid>,
    pub(super) pid_file: Option<OpenPidFile>,
    /// The absolute path of the pid file, for the removal of the file.
    pid_file_path: Option<CString>,
    /// The absolute path of the pid file that a successor takes over.
    taken_over_path: Option<CString>,
    /// The payload of the report that the daemon is ready.
    payload: Vec<u8>,
    pub(super) daemon: ForkIdentity,
    pub(super) failure_mode: FailureMode,
    pub(super) pending_streams: PendingStreams,
}

impl UncommittedStart {
    pub(super) fn new(
        plan: &mut Plan<'_>,
        ready_sink: ReadySink,
        intermediate: Option<Pid>,
        failure_mode: FailureMode,
    ) -> Self {
        Self {
            ready_sink,
            intermediate,
            pid_file: None,
            // Moved, since nothing may be allocated after the fork.
            pid_file_path: (plan.pid_file.as_mut()).and_then(|plan| plan.absolute_path.take()),
            taken_over_path: (plan.pid_file.as_mut()).and_then(|plan| plan.taken_over_path.take()),
            // Not on the heap while it is empty.
            payload: Vec::new(),
            daemon: ForkIdentity::current(),
            failure_mode,
            pending_streams: PendingStreams::default(),
        }
    }

    pub(super) fn pid_file_path(&self) -> Option<&Path> {
        let path = self.pid_file_path.as_ref()?;
        Some(Path::new(OsStr::from_bytes(path.as_bytes())))
    }

    /// Makes the kernel name this process as the holder of the pid file.
    pub(super) fn become_pid_file_holder(&mut self) -> Result<(), Failure> {
        let pid_file = self.pid_file.as_mut();
        pid_file.map_or(Ok(()), OpenPidFile::become_holder)
    }

    pub(super) fn change_pid_file_owner(&self, plan: Option<&PidFilePlan>) -> Result<(), Failure> {
        match (&self.pid_file, plan) {
            (Some(pid_file), Some(plan)) => pid_file.change_owner(plan),
            _ => Ok(()),
        }
    }

    /// Writes the pid if this process can. A forked daemon cannot: the intermediate writes its
    /// pid at the commit.
    pub(super) fn write_pid(&mut self) -> Result<(), Failure> {
        match &self.pid_file {
            Some(pid_file) if pid_file.writable().is_some() => {
                pid_file.write_pid(Pid::current())?;
                self.become_pid_file_holder()
            }
            _ => Ok(()),
        }
    }

    /// Registers the descriptors before the caller's code runs. Allocates nothing in a daemon:
    /// see [`own_fds::lock_for_fork`].
    pub(super) fn register_descriptors(&self) {
        if let Some(channel) = self.channel() {
            own_fds::register(channel);
        }
        if let Some(pid_file) = &self.pid_file {
            own_fds::register_pid_file(pid_file.lock(), pid_file.id());
        }
        self.pending_streams.register();
    }

    fn channel(&self) -> Option<BorrowedFd<'_>> {
        match &self.ready_sink {
            ReadySink::Launcher(launcher) => Some(launcher.descriptor()),
            ReadySink::ServiceManager(socket) => socket.as_ref().map(NotifySocket::descriptor),
        }
    }

    /// Whether the descriptor with this number is the channel or the pid file. Async-signal-safe.
    pub(super) fn has_descriptor(&self, number: RawFd) -> bool {
        let pid_file = self.pid_file.as_ref().map(OpenPidFile::lock);
        let mut own = [self.channel(), pid_file].into_iter().flatten();
        own.any(|descriptor| descriptor.as_raw_fd() == number)
    }

    /// Gives the descriptors of this start other numbers than this. Async-signal-safe.
    pub(super) fn vacate(&mut self, number: RawFd) -> Result<(), Failure> {
        if let ReadySink::Launcher(launcher) = &mut self.ready_sink {
            launcher.vacate(number).map_err(ErrorKind::Channel)?;
        }
        match &mut self.pid_file {
            Some(pid_file) => pid_file.vacate(number),
            None => Ok(()),
        }
    }

    /// Leaves the pid file open across execve(2), and returns its number. Async-signal-safe.
    pub(super) fn pass_pid_file_on(&self) -> Result<Option<RawFd>, Failure> {
        let Some(pid_file) = &self.pid_file else {
            return Ok(None);
        };
        let number = pid_file.lock().as_raw_fd();
        sys::clear_cloexec(number).map_err(ErrorKind::LockPidfile)?;
        Ok(Some(number))
    }

    fn take_ready_sink(&mut self) -> ReadySink {
        mem::replace(&mut self.ready_sink, ReadySink::ServiceManager(None))
    }

    /// Makes the panic hook report each panic to the launcher, as this failure.
    pub(super) fn expect_panic(&mut self, failure: Failure) {
        let launcher;
        (self.ready_sink, launcher) = match self.take_ready_sink() {
            ReadySink::Launcher(launcher) => {
                let (own, shared) = launcher.share();
                (ReadySink::Launcher(own), Some(shared))
            }
            manager @ ReadySink::ServiceManager(_) => (manager, None),
        };
        panics::expect(launcher, failure);
    }

    /// Sets the payload of the report. In the foreground the payload has no receiver, but the
    /// same limit applies.
    pub(super) fn set_payload(&mut self, payload: &[u8]) -> Result<(), Failure> {
        check_payload(payload)?;
        self.payload = payload.to_vec();
        Ok(())
    }

    /// Reports that the daemon is ready, and returns once the launcher has acknowledged the
    /// report. From then on the pid file stays locked for as long as the process lives.
    pub(super) fn commit(&mut self) -> Result<(), Failure> {
        // Once the launcher has the report, it may exit, and its terminal or pipe must be free.
        self.pending_streams.redirect()?;
        self.pending_streams.close();
        match &self.ready_sink {
            ReadySink::Launcher(launcher) => {
                // The intermediate, which is the parent, is about to end.
                sys::disarm_parent_death_signal();
                launcher.send(&Message::Ready(mem::take(&mut self.payload)))?;
                if !launcher.await_acknowledgement() && !self.has_taken_over_pid_file() {
                    self.await_end_of_intermediate();
                    return Err(ErrorKind::LauncherGone.into());
                }
            }
            ReadySink::ServiceManager(Some(socket)) => socket.notify_ready(),
            ReadySink::ServiceManager(None) => {}
        }
        panics::settle();
        if let Some(pid_file) = self.pid_file.take() {
            let taken_over_path = self.taken_over_path.take();
            pid_file.keep(taken_over_path.or_else(|| self.pid_file_path.take()));
        }
        Ok(())
    }

    /// Whether the launcher was killed between the takeover and the acknowledgement. In another
    /// root directory the daemon cannot find out.
    fn has_taken_over_pid_file(&self) -> bool {
        match (&self.taken_over_path, &self.pid_file) {
            (Some(path), Some(pid_file)) => sys::fstatat(sys::WORKING_DIRECTORY, path)
                .is_ok_and(|status| status.id == pid_file.id()),
            _ => false,
        }
    }

    /// The intermediate may have the order to write the pid, or be about to terminate this
    /// process. Only after its end does this process clear the pid file.
    fn await_end_of_intermediate(&self) {
        /// The intermediate needs less time, even for a daemon that ignores SIGTERM.
        const WAIT: Duration = Duration::from_secs(5);

        if let Some(intermediate) = self.intermediate {
            sys::await_reparenting(intermediate, Deadline::after(WAIT));
        }
    }

    /// Undoes what the start has done, then reports the failure.
    pub(super) fn fail(&self, failure: &Failure) {
        panics::settle();
        if let Some(pid_file) = &self.pid_file {
            pid_file.clear(self.pid_file_path.as_deref());
        }
        if let ReadySink::Launcher(launcher) = &self.ready_sink {
            // The launcher prints the failure, and its terminal or pipe must be free.
            let _ = self.pending_streams.redirect();
            // A launcher that is gone needs no report.
            let _ = launcher.send(&Message::Failed(failure.clone()));
        }
    }

    pub(super) fn fail_unready(&self, reason: String, payload: &[u8]) -> Error {
        let failure = Failure::from(ErrorKind::NotReady)
            .with_reason(reason)
            .with_payload(payload);
        self.fail(&failure);
        failure.into()
    }

    /// Fails the start where no caller gets the error. In the foreground no launcher reports the
    /// error, so this writes it to standard error.
    pub(super) fn fail_unready_and_print(&self, reason: String, payload: &[u8]) {
        let error = self.fail_unready(reason, payload);
        if matches!(self.ready_sink, ReadySink::ServiceManager(_)) {
            error.to_standard_error();
        }
    }
}

impl Drop for UncommittedStart {
    /// Forgets the descriptors that it must not close: those of a copy that fork(2) has made,
    /// and those whose numbers are another file's by now.
    fn drop(&mut self) {
        let is_own = self.daemon == ForkIdentity::current();
        if is_own {
            self.channel().map(own_fds::unregister);
            let pid_file = self.pid_file.as_ref().map(OpenPidFile::lock);
            pid_file.map(own_fds::unregister);
            self.pending_streams.close();
        } else {
            self.pending_streams.forget();
        }
        if !is_own || matches!(&self.ready_sink, ReadySink::Launcher(end) if !end.is_still_open()) {
            mem::forget(self.take_ready_sink());
        }
        if !is_own || !(self.pid_file.as_ref()).is_none_or(OpenPidFile::is_still_open) {
            mem::forget(self.pid_file.take());
        }
    }
}
