//! Opens, locks and truncates the pid file of a start.
//!
//! Other users may have put anything at the path. A start does not follow it, wait for it or write
//! to it.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::time::Duration;

use super::{OpenPidFile, PAUSE};
use crate::deadline::Attempts;
use crate::error::ErrorKind;
use crate::failure::Failure;
use crate::sys::{self, Errno, FileId, FileStatus, Gid, Lock, Open, Uid, errno};
use crate::trust::{
    self, FILE_OF_ANOTHER, IS_LINK, IS_REPLACED, Refusal, WRITABLE_BY_OTHERS, directory_and_name,
};

/// The resolved path and owners of a pid file.
#[derive(Debug, Default)]
pub(crate) struct PidFilePlan {
    path: CString,
    directory: CString,
    /// The name in the directory.
    name: CString,
    /// For the removal, when the working directory may have changed.
    pub(crate) absolute_path: Option<CString>,
    /// The absolute path of the pid file that a successor takes over.
    pub(crate) taken_over_path: Option<CString>,
    pub(crate) new_owner: Option<Uid>,
    pub(crate) new_group: Option<Gid>,
    /// The user that the daemon becomes, who may own the directory.
    pub(crate) daemon_user: Option<Uid>,
    /// The mode of the file, which [`check_mode`] accepts. `None` depends on the umask, or on the
    /// existing file.
    pub(crate) mode: Option<u32>,
    /// The pid files that this process has locked, if it becomes the daemon itself. The start
    /// refuses them: otherwise the process would open such a file in vain, and lose its lock when
    /// it closes that descriptor.
    pub(crate) own: Vec<FileId>,
}

/// A prober releases its lock in an instant; a daemon does not.
const LOCK_TIMEOUT: Duration = Duration::from_secs(1);
/// On a machine where many processes wait for a processor, an attempt takes a tenth of a second,
/// and nearly each one meets a prober that has the lock but no processor.
const LOCK_ATTEMPTS: u32 = 200;

const MODE: u32 = 0o644;
const PERMISSIONS: u32 = 0o777;
/// The permission that the owner needs to open the file again.
const READABLE_BY_OWNER: u32 = 0o400;

impl PidFilePlan {
    pub(crate) fn new(path: CString) -> Self {
        let (directory, name) = directory_and_name(&path);
        Self {
            path,
            directory,
            name,
            ..Self::default()
        }
    }

    pub(super) fn is_owned(&self, status: &FileStatus) -> bool {
        self.new_owner.is_none_or(|owner| status.owner == owner)
            && self.new_group.is_none_or(|group| status.group == group)
    }

    /// Opens, locks and truncates the file. A file that is locked and empty means that a
    /// daemon is starting. Async-signal-safe.
    pub(crate) fn acquire(&self) -> Result<OpenPidFile, Failure> {
        let owners = [Some(Uid::ROOT), self.new_owner, self.daemon_user];
        let trusted = trust::open_trusted_directory(&self.directory, owners).map_err(refused)?;
        let (directory, name) = match &trusted {
            Some(directory) => (directory.as_fd(), &*self.name),
            None => (sys::WORKING_DIRECTORY, &*self.path),
        };
        let mut attempts = Attempts::within(LOCK_TIMEOUT).at_least(LOCK_ATTEMPTS);
        loop {
            if let Some(pid_file) = self.try_acquire(directory, name, &mut attempts)? {
                return Ok(pid_file);
            }
            attempts.count();
            if attempts.are_over() {
                return Err(open_failed(errno::EAGAIN).with_reason(IS_REPLACED));
            }
            sys::sleep(PAUSE);
        }
    }

    /// `None` if the file was replaced meanwhile, by another process or by this one.
    fn try_acquire(
        &self,
        directory: BorrowedFd<'_>,
        name: &CStr,
        attempts: &mut Attempts,
    ) -> Result<Option<OpenPidFile>, Failure> {
        if !self.own.is_empty() {
            let there = sys::fstatat(directory, name);
            if there.is_ok_and(|there| self.own.contains(&there.id)) {
                return Err(Failure::from(ErrorKind::LockPidfile(errno::EWOULDBLOCK)));
            }
        }
        let new_mode = self.mode.unwrap_or(MODE);
        let writable = match open_or_create(directory, name, new_mode) {
            Ok(writable) => writable,
            Err(errno::EEXIST) => return Ok(None),
            Err(errno::EACCES) => return self.remove_unwritable(directory, name, attempts),
            Err(errno::ELOOP) => {
                return Err(open_failed(errno::ELOOP).with_reason(IS_LINK));
            }
            Err(errno) => return Err(open_failed(errno)),
        };
        // A start must not lock a file that it refuses, and a file may change until it is locked.
        // Therefore the start checks the file before and after the lock.
        let id = check_regular(writable.as_fd())?.id;
        let Some(lock) = open_again_to_read(directory, name, writable.as_fd(), id)? else {
            return Ok(None);
        };
        let locked = lock_exclusively(lock.as_fd(), attempts);
        let status = check_regular(writable.as_fd())?;
        // If another process has replaced the file, the lock protects nothing.
        match sys::fstatat(directory, name) {
            Ok(at_path) if at_path.id == id => {}
            Ok(_) | Err(errno::ENOENT) => return Ok(None),
            Err(errno) => return Err(open_failed(errno)),
        }
        locked.map_err(lock_failed)?;
        let is_foreign = !self.may_belong_to(status.owner);
        if is_foreign || status.mode & WRITABLE_BY_OTHERS != 0 {
            if !is_foreign {
                make_unwritable_by_others(writable.as_fd(), &status)?;
            }
            // A process that has the file open can still write to it. Therefore the start replaces
            // the file by a new one, if it can remove the file.
            let is_removable = !is_foreign || self.is_directory_private();
            let is_in_time = !attempts.are_over();
            if is_removable && is_in_time && sys::unlinkat(directory, name).is_ok() {
                return Ok(None);
            }
            if is_foreign {
                return Err(open_failed(errno::EPERM).with_reason(FILE_OF_ANOTHER));
            }
        }
        if let Some(mode) = self.mode.filter(|mode| *mode != status.mode) {
            change_mode(writable.as_fd(), mode)?;
        }
        sys::ftruncate(writable.as_fd()).map_err(ErrorKind::TruncatePidfile)?;
        Ok(Some(OpenPidFile::new(lock, writable, id)))
    }

    /// Removes a left-over file that this process may not write to: the user of a service
    /// may have changed.
    fn remove_unwritable(
        &self,
        directory: BorrowedFd<'_>,
        name: &CStr,
        attempts: &mut Attempts,
    ) -> Result<Option<OpenPidFile>, Failure> {
        let denied = |_| open_failed(errno::EACCES);
        let left_over = sys::openat(directory, name, Open::ReadOnly).map_err(denied)?;
        let found = check_regular(left_over.as_fd())?;
        if !self.may_belong_to(found.owner) && !self.is_directory_private() {
            return Err(denied(errno::EACCES));
        }
        lock_exclusively(left_over.as_fd(), attempts).map_err(lock_failed)?;
        if sys::fstatat(directory, name).is_ok_and(|there| there.id == found.id) {
            sys::unlinkat(directory, name).map_err(denied)?;
        }
        Ok(None)
    }

    /// Whether no other user can change the entries of the directory. In a directory with
    /// the sticky bit, the owner of a file may remove it at any time, so that unlinkat(2)
    /// might remove the file of another start.
    fn is_directory_private(&self) -> bool {
        // fstatat(2) follows no link here: the path ends in a slash, or is ".".
        sys::fstatat(sys::WORKING_DIRECTORY, &self.directory)
            .is_ok_and(|directory| directory.mode & WRITABLE_BY_OTHERS == 0)
    }

    fn may_belong_to(&self, owner: Uid) -> bool {
        [Some(Uid::ROOT), Some(sys::geteuid()), self.new_owner].contains(&Some(owner))
    }
}

/// Refuses everything but a regular file with one link.
fn check_regular(descriptor: BorrowedFd<'_>) -> Result<FileStatus, Failure> {
    let status = sys::fstat(descriptor).map_err(open_failed)?;
    trust::check_regular(&status).map_err(refused)?;
    Ok(status)
}

/// Opens the file, or creates it: `EEXIST` if another process is faster. `O_CREAT` alone is not
/// enough: in a sticky directory, it does not even let root open an existing file of another user
/// (fs.protected_regular of Linux), and the daemon's user may own the file.
fn open_or_create(directory: BorrowedFd<'_>, name: &CStr, mode: u32) -> Result<OwnedFd, Errno> {
    match sys::openat(directory, name, Open::Existing) {
        Err(errno::ENOENT) => sys::openat(directory, name, Open::New { mode }),
        other => other,
    }
}

/// Opens the file once more, only for reading. `None` if the path now leads to another
/// file.
fn open_again_to_read(
    directory: BorrowedFd<'_>,
    name: &CStr,
    writable: BorrowedFd<'_>,
    id: FileId,
) -> Result<Option<OwnedFd>, Failure> {
    let mut opened = sys::openat(directory, name, Open::ReadOnly);
    if matches!(opened, Err(errno::EACCES)) {
        // The umask may have removed this permission.
        let mode = sys::fstat(writable).map_err(open_failed)?.mode;
        sys::fchmod(writable, mode | READABLE_BY_OWNER).map_err(open_failed)?;
        opened = sys::openat(directory, name, Open::ReadOnly);
    }
    let opened = match opened {
        Err(errno::ENOENT | errno::ELOOP) => return Ok(None),
        opened => opened.map_err(open_failed)?,
    };
    let is_same = sys::fstat(opened.as_fd()).map_err(open_failed)?.id == id;
    Ok(is_same.then_some(opened))
}

/// Takes the exclusive lock. Tries again while there are only shared locks: they belong to
/// probers.
fn lock_exclusively(descriptor: BorrowedFd<'_>, attempts: &mut Attempts) -> Result<(), Errno> {
    loop {
        match sys::flock(descriptor, Lock::Exclusive) {
            Err(errno::EWOULDBLOCK) if !attempts.are_over() => attempts.count(),
            other => return other,
        }
        // This fails if another process has the exclusive lock.
        sys::flock(descriptor, Lock::Shared)?;
        sys::flock(descriptor, Lock::None)?;
        sys::sleep(PAUSE);
    }
}

fn make_unwritable_by_others(
    descriptor: BorrowedFd<'_>,
    status: &FileStatus,
) -> Result<(), Failure> {
    // Read back, since a file system without modes may ignore the change.
    sys::fchmod(descriptor, status.mode & !WRITABLE_BY_OTHERS)
        .and_then(|()| sys::fstat(descriptor))
        .and_then(|now| match now.mode & WRITABLE_BY_OTHERS {
            0 => Ok(()),
            _ => Err(errno::EPERM),
        })
        .map_err(|errno| {
            open_failed(errno).with_reason(
                "other users can write to it, and the start cannot remove that permission",
            )
        })
}

/// Reads the mode back, since a file system without modes may ignore the change.
fn change_mode(descriptor: BorrowedFd<'_>, mode: u32) -> Result<(), Failure> {
    let failed = |errno| Failure::from(ErrorKind::ChmodPidfile(errno));
    sys::fchmod(descriptor, mode).map_err(failed)?;
    let changed = sys::fstat(descriptor).map_err(failed)?.mode == mode;
    changed
        .then_some(())
        .ok_or_else(|| failed(errno::EPERM).with_reason("its file system does not keep the mode"))
}

/// Returns the reason for which [`pid_file_mode`](crate::Daemonize::pid_file_mode) refuses a mode.
pub(crate) fn check_mode(mode: u32) -> Result<(), String> {
    let why = if mode & !PERMISSIONS != 0 {
        "has other bits than those of permissions"
    } else if mode & WRITABLE_BY_OTHERS != 0 {
        "lets other users write to it; remove the write permission of group and others"
    } else if mode & READABLE_BY_OWNER == 0 {
        "does not let its owner read it"
    } else {
        return Ok(());
    };
    Err(format!("mode {mode:04o} {why}"))
}

fn open_failed(errno: Errno) -> Failure {
    Failure::from(ErrorKind::OpenPidfile(errno))
}

fn refused(refusal: Refusal) -> Failure {
    refusal.into_failure(ErrorKind::OpenPidfile)
}

fn lock_failed(errno: Errno) -> Failure {
    let failure = Failure::from(ErrorKind::LockPidfile(errno));
    match errno {
        // NFS, which emulates flock(2) by a record lock.
        errno::EBADF | errno::ENOLCK => failure.with_reason(
            "its file system cannot lock a file that is open for reading; use a local file system",
        ),
        _ => failure,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_owned_only_as_a_whole() {
        let root = OwnedFd::from(std::fs::File::open("/").expect("open the root"));
        let status = sys::fstat(root.as_fd()).expect("look at the root");
        let is_owned = |new_owner, new_group| {
            let plan = PidFilePlan {
                new_owner,
                new_group,
                ..PidFilePlan::default()
            };
            plan.is_owned(&status)
        };
        let (owner, group) = (Some(status.owner), Some(status.group));
        let others = (Some(Uid(u32::MAX - 7)), Some(Gid(u32::MAX - 7)));
        assert!(is_owned(None, None) && is_owned(owner, None) && is_owned(owner, group));
        assert!(!is_owned(others.0, group) && !is_owned(owner, others.1));
    }
}
