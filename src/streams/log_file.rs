//! Opens the log file of a stream.
//!
//! Root opens the file, and the daemon's user may own its directory. Whatever that user has put
//! there, no start follows it, waits for it, or writes to a file of yet another user.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::time::Duration;

use crate::deadline::Attempts;
use crate::error::ErrorKind;
use crate::failure::Failure;
use crate::sys::{self, Errno, FileStatus, Gid, Open, Uid, errno};
use crate::trust::{self, FILE_OF_ANOTHER, IS_LINK, IS_REPLACED, Refusal, directory_and_name};

/// The resolved path and owners of a log file.
#[derive(Debug)]
pub(crate) struct LogFile {
    path: CString,
    directory: CString,
    /// The name in the directory.
    name: CString,
    users: LogUsers,
}

/// The users that a log file belongs to.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct LogUsers {
    pub(crate) launcher: Option<Uid>,
    /// The user that the daemon becomes.
    pub(crate) daemon: Option<Uid>,
    /// The group that the daemon becomes.
    pub(crate) daemon_group: Option<Gid>,
}

/// Others may replace the file, but not for so long.
const REPLACEMENT_TIMEOUT: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(2);

/// The daemon can write, its group can read.
const MODE: u32 = 0o640;

impl LogFile {
    pub(crate) fn new(path: CString, users: LogUsers) -> Self {
        let (directory, name) = directory_and_name(&path);
        Self {
            path,
            directory,
            name,
            users,
        }
    }

    pub(super) fn path(&self) -> &CStr {
        &self.path
    }

    pub(super) fn users(&self) -> LogUsers {
        self.users
    }

    /// Opens the file to append to it, or creates it. Async-signal-safe.
    pub(super) fn open(&self) -> Result<OwnedFd, Failure> {
        let owners = [Some(Uid::ROOT), self.users.launcher, self.users.daemon];
        let trusted = trust::open_trusted_directory(&self.directory, owners).map_err(refused)?;
        let (directory, name) = match &trusted {
            Some(directory) => (directory.as_fd(), &*self.name),
            None => (sys::WORKING_DIRECTORY, &*self.path),
        };
        let mut attempts = Attempts::within(REPLACEMENT_TIMEOUT);
        loop {
            if let Some(file) = self.try_open(directory, name)? {
                return Ok(file);
            }
            attempts.count();
            if attempts.are_over() {
                return Err(refused(Refusal::new(errno::EAGAIN, IS_REPLACED)));
            }
            sys::sleep(PAUSE);
        }
    }

    /// `None` if the file was replaced meanwhile.
    fn try_open(&self, directory: BorrowedFd<'_>, name: &CStr) -> Result<Option<OwnedFd>, Failure> {
        // O_CREAT alone does not do: in a sticky directory, Linux does not even let root open
        // the existing file of another user that way (fs.protected_regular).
        let (opened, is_new) = match sys::openat(directory, name, Open::Append) {
            Err(errno::ENOENT) => {
                let how = Open::AppendToNew { mode: MODE };
                match sys::openat(directory, name, how) {
                    Err(errno::EEXIST) => return Ok(None),
                    opened => (opened, true),
                }
            }
            opened => (opened, false),
        };
        let file = opened.map_err(|errno| refused(refusal_of(errno)))?;
        let status = sys::fstat(file.as_fd()).map_err(open_failed)?;
        if !sys::is_null_device(&status) {
            trust::check_regular(&status).map_err(refused)?;
            if status.links == 0 {
                return Ok(None);
            }
            if is_new {
                self.give_to_daemon(directory, name, file.as_fd(), &status)?;
            } else if !self.may_belong_to(status.owner) {
                return Err(refused(Refusal::new(errno::EPERM, FILE_OF_ANOTHER)));
            }
        }
        sys::set_append_only_flag(file.as_fd()).map_err(open_failed)?;
        Ok(Some(file))
    }

    fn may_belong_to(&self, owner: Uid) -> bool {
        let LogUsers {
            launcher, daemon, ..
        } = self.users;
        let owners = [Some(Uid::ROOT), Some(sys::geteuid()), launcher, daemon];
        owners.contains(&Some(owner))
    }

    /// Makes the daemon the owner of a new file. If that fails, removes the file: the next start
    /// would take it for a file that was given to its owner on purpose.
    fn give_to_daemon(
        &self,
        directory: BorrowedFd<'_>,
        name: &CStr,
        file: BorrowedFd<'_>,
        status: &FileStatus,
    ) -> Result<(), Failure> {
        if self.is_of_daemon(status) {
            return Ok(());
        }
        // Read back, since a file system without owners may ignore the change.
        sys::fchown(file, self.users.daemon, self.users.daemon_group)
            .and_then(|()| sys::fstat(file))
            .and_then(|now| self.is_of_daemon(&now).then_some(()).ok_or(errno::EPERM))
            .map_err(|errno| {
                if sys::fstatat(directory, name).is_ok_and(|there| there.id == status.id) {
                    let _ = sys::unlinkat(directory, name);
                }
                ErrorKind::ChownLogFile(errno).into()
            })
    }

    fn is_of_daemon(&self, status: &FileStatus) -> bool {
        (self.users.daemon).is_none_or(|user| status.owner == user)
            && (self.users.daemon_group).is_none_or(|group| status.group == group)
    }
}

fn refusal_of(errno: Errno) -> Refusal {
    match errno {
        errno::ELOOP => Refusal::new(errno, IS_LINK),
        errno::ENXIO => Refusal::new(errno, "it is a FIFO that no process reads, or a socket"),
        _ => errno.into(),
    }
}

fn open_failed(errno: Errno) -> Failure {
    ErrorKind::OpenLogFile(errno).into()
}

fn refused(refusal: Refusal) -> Failure {
    refusal.into_failure(ErrorKind::OpenLogFile)
}
