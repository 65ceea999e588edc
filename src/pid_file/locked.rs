//! The pid file of a start, once it is open and locked.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd, RawFd};

use super::{LONGEST_LINE, PidFilePlan, pid_line};
use crate::error::ErrorKind;
use crate::failure::Failure;
use crate::own_fds;
use crate::sys::{self, FileId, Lock, Open, Pid, errno};

/// The open and locked pid file of a start.
#[derive(Debug)]
pub(crate) struct OpenPidFile {
    /// Has the lock.
    lock: OwnedFd,
    /// `None` in the daemon.
    writable: Option<OwnedFd>,
    id: FileId,
}

impl OpenPidFile {
    pub(super) fn new(lock: OwnedFd, writable: OwnedFd, id: FileId) -> Self {
        Self {
            lock,
            writable: Some(writable),
            id,
        }
    }

    /// The file as the launcher receives it.
    pub(crate) fn received(lock: OwnedFd, writable: OwnedFd) -> Option<Self> {
        let id = sys::fstat(lock.as_fd()).ok()?.id;
        Some(Self::new(lock, writable, id))
    }

    /// The descriptor that has the lock.
    pub(crate) fn lock(&self) -> BorrowedFd<'_> {
        self.lock.as_fd()
    }

    pub(crate) fn writable(&self) -> Option<BorrowedFd<'_>> {
        self.writable.as_ref().map(OwnedFd::as_fd)
    }

    pub(crate) fn id(&self) -> FileId {
        self.id
    }

    /// Whether the descriptor still refers to the pid file. Code of the caller may have
    /// closed it, and opened another file with its number.
    pub(crate) fn is_still_open(&self) -> bool {
        !sys::is_replaced(self.lock.as_raw_fd(), self.id)
    }

    /// Takes the record lock by which the kernel names this process as the holder, if the
    /// platform has it. The process loses that lock when it closes any descriptor of the
    /// file. Therefore it closes the descriptor for writing first. Async-signal-safe.
    pub(crate) fn become_holder(&mut self) -> Result<(), Failure> {
        self.writable = None;
        sys::take_record_lock(self.lock()).map_err(|errno| {
            let failure = Failure::from(ErrorKind::LockPidfile(errno));
            match errno {
                errno::EAGAIN | errno::EACCES => {
                    failure.with_reason("another process holds a record lock for writing")
                }
                _ => failure,
            }
        })
    }

    /// Gives the descriptor another number than this. With the old number the process loses its
    /// record lock. Async-signal-safe.
    pub(crate) fn vacate(&mut self, number: RawFd) -> Result<(), Failure> {
        if self.lock.as_raw_fd() != number {
            return Ok(());
        }
        sys::vacate(&mut self.lock, number).map_err(ErrorKind::LockPidfile)?;
        self.become_holder()
    }

    /// Gives the file to its new owner. Async-signal-safe.
    pub(crate) fn change_owner(&self, plan: &PidFilePlan) -> Result<(), Failure> {
        if plan.new_owner.is_none() && plan.new_group.is_none() {
            return Ok(());
        }
        // Read back, since a file system without owners may ignore the change.
        sys::fchown(self.lock(), plan.new_owner, plan.new_group)
            .and_then(|()| sys::fstat(self.lock()))
            .and_then(|status| plan.is_owned(&status).then_some(()).ok_or(errno::EPERM))
            .map_err(|errno| Failure::from(ErrorKind::ChownPidfile(errno)))
    }

    /// Whether this start still has the lock. A daemon that has failed unlocks the file,
    /// and another start may lock it then. Async-signal-safe.
    pub(crate) fn is_still_locked(&self) -> bool {
        sys::flock(self.lock(), Lock::Exclusive) != Err(errno::EWOULDBLOCK)
    }

    /// Writes the pid of the daemon in one call. Async-signal-safe.
    pub(crate) fn write_pid(&self, daemon: Pid) -> Result<(), Failure> {
        let Some(writable) = self.writable() else {
            return Err(Failure::from(ErrorKind::WritePid(errno::EBADF)));
        };
        let mut line = [0; LONGEST_LINE];
        let line = pid_line(daemon, &mut line);
        match sys::pwrite(writable, line) {
            Ok(written) if written == line.len() => Ok(()),
            Ok(_) => Err(Failure::from(ErrorKind::WritePidUnspecifiedError)),
            Err(errno) => Err(Failure::from(ErrorKind::WritePid(errno))),
        }
    }

    /// Clears and unlocks the file after a failed start.
    ///
    /// Any process of the start that is left does this. If it cannot take the lock again,
    /// another start has the lock, and the file belongs to that start. A daemon has closed
    /// the descriptor for writing, and opens the file by `path` if it has the permission.
    /// This unlocks the file explicitly, since all processes that have inherited the
    /// descriptor share the lock. Async-signal-safe.
    pub(crate) fn clear(&self, path: Option<&CStr>) {
        if !self.is_still_open() || !self.is_still_locked() {
            return;
        }
        let is_empty = sys::pread(self.lock(), &mut [0]) == Ok(0);
        if !is_empty {
            if let Some(writable) = self.writable() {
                let _ = sys::ftruncate(writable);
            } else if let Some(found) = path.and_then(|path| self.open_to_write(path)) {
                let _ = sys::ftruncate(found.as_fd());
            }
        }
        let _ = sys::flock(self.lock(), Lock::None);
    }

    fn open_to_write(&self, path: &CStr) -> Option<OwnedFd> {
        let found = sys::openat(sys::WORKING_DIRECTORY, path, Open::WriteOnly).ok()?;
        sys::is_same_file(found.as_raw_fd(), self.id).then_some(found)
    }

    /// Keeps the file open and locked while this process lives.
    pub(crate) fn keep(self, path: Option<CString>) {
        // The functions that run at exit use the path.
        let path = path.map(|path| &*Box::leak(path.into_boxed_c_str()));
        own_fds::keep_pid_file(self.lock, self.id, path);
    }
}
