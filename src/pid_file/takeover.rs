//! The takeover of a pid file: a successor starts beside the running daemon, and the launcher
//! exchanges its pid file for that of the running daemon when it commits the start.
//!
//! The successor locks another file until then, so that a failed start never touches the pid file
//! of the running daemon. If that daemon ends, an ordinary start may lock its pid file at any time.
//! The launcher notices this, since it looks at the lock after the exchange. A start that locks the
//! former file after this look finds another file at the path, and does not use the former one.

use std::ffi::{CString, OsString};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use super::PidFile;
use super::holder::{Found, describe_holder};
use crate::error::{Error, ErrorKind};
use crate::failure::Failure;
use crate::subject::Subject;
use crate::sys::{self, Errno, FileId, FileKind, Open, Pid, Uid, errno};
use crate::trust::{self, directory_and_name};

/// The pid file of a successor until its start is committed.
pub(crate) fn successor_path(pid_file: &Path) -> PathBuf {
    let mut path = OsString::from(pid_file);
    path.push(".new");
    path.into()
}

const NOT_REGULAR: &str = "it is not a regular file";

/// The daemon that holds a pid file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Incumbent {
    None,
    Running(Pid),
    /// The kernel does not name the holder of the lock.
    Unnamed,
}

impl Incumbent {
    /// Whether the pid file still belongs to this daemon, or to no daemon since this one has ended.
    /// Its workers may then hold the lock.
    fn is_still(self, now: Self) -> bool {
        now == Self::None || now == self || matches!((self, now), (Self::Running(_), Self::Unnamed))
    }
}

/// A takeover that the launcher has planned.
#[derive(Debug)]
pub(crate) struct Takeover {
    /// Absolute.
    path: PathBuf,
    incumbent: Incumbent,
}

impl Takeover {
    /// `named` is the path as the caller has named it.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::LockPidfile`] if another daemon is starting, and
    /// [`ErrorKind::TakeOverPidfile`] if the path leads to another kind of file.
    pub(crate) fn plan(path: PathBuf, named: &Path) -> Result<Self, Error> {
        let error = |kind| Error::from(kind).with_subject(Subject::Path(named.to_owned()));
        if named.file_name().is_none() || named.as_os_str().as_bytes().ends_with(b"/") {
            let error = error(ErrorKind::TakeOverPidfile(errno::EINVAL));
            return Err(error.with_reason("the path has no file name"));
        }
        let status = sys::fstatat(sys::WORKING_DIRECTORY, &c_path(&path));
        if status.is_ok_and(|status| status.kind != FileKind::Regular) {
            let error = error(ErrorKind::TakeOverPidfile(errno::EINVAL));
            return Err(error.with_reason(NOT_REGULAR));
        }
        let incumbent = incumbent_of(&path).ok_or_else(|| {
            let locked = error(ErrorKind::LockPidfile(errno::EWOULDBLOCK));
            describe_holder(locked, &path)
        })?;
        Ok(Self { path, incumbent })
    }

    /// Makes the successor's pid file the pid file. The launcher identifies the file by its
    /// descriptor, unless a limit of the system has prevented the intermediate from sending the
    /// descriptor.
    pub(crate) fn run(&self, daemon: Pid, own: Option<FileId>) -> Result<TakenOver, Failure> {
        let (directory, name) = directory_and_name(&c_path(&self.path));
        let (_, successor) = directory_and_name(&c_path(&successor_path(&self.path)));
        // The start has checked the directory, but the user of the daemon, who may own the file, can
        // have moved the file into another one since.
        let directory = match sys::geteuid() {
            Uid::ROOT => trust::open_directory(&directory)
                .map_err(|refusal| refusal.into_failure(ErrorKind::TakeOverPidfile))?,
            _ => {
                sys::openat(sys::WORKING_DIRECTORY, &directory, Open::Directory).map_err(failed)?
            }
        };
        let status = sys::fstatat(directory.as_fd(), &successor).map_err(failed)?;
        let is_own = match own {
            Some(own) => own == status.id,
            None => {
                let named = incumbent_of(&successor_path(&self.path));
                named == Some(Incumbent::Running(daemon))
            }
        };
        if !is_own || status.links > 1 {
            return Err(failed(errno::EAGAIN).with_reason("another process has moved the new file"));
        }
        // The plan has looked at the file; it may be another one by now.
        let found = sys::fstatat(directory.as_fd(), &name);
        if found.is_ok_and(|found| found.kind != FileKind::Regular) {
            return Err(failed(errno::EINVAL).with_reason(NOT_REGULAR));
        }
        let taken_over = TakenOver {
            directory,
            name,
            successor,
            can_undo: true,
        };
        match taken_over.exchange() {
            Ok(()) if self.is_incumbent_at(&successor_path(&self.path)) => Ok(taken_over),
            Ok(()) => {
                taken_over.undo();
                Err(self.lost())
            }
            Err(errno::ENOSYS | errno::EINVAL | errno::ENOTSUP) => self.replace(taken_over),
            Err(errno) => Err(failed(errno)),
        }
    }

    /// Takes over the pid file where two files cannot be exchanged.
    fn replace(&self, taken_over: TakenOver) -> Result<TakenOver, Failure> {
        if !self.is_incumbent_at(&self.path) {
            return Err(self.lost());
        }
        let TakenOver {
            directory,
            name,
            successor,
            ..
        } = &taken_over;
        sys::renameat(directory.as_fd(), successor, name).map_err(failed)?;
        Ok(TakenOver {
            can_undo: false,
            ..taken_over
        })
    }

    fn is_incumbent_at(&self, path: &Path) -> bool {
        incumbent_of(path).is_some_and(|now| self.incumbent.is_still(now))
    }

    fn lost(&self) -> Failure {
        let reason = match PidFile::at(&self.path).find() {
            Ok(Found::Running(holder)) => {
                format!("daemon {} has been started meanwhile", holder.pid.number())
            }
            _ => String::from("its lock has changed during the start"),
        };
        Failure::from(ErrorKind::TakeOverPidfile(errno::EAGAIN)).with_reason(reason)
    }
}

/// `None` if a daemon is starting.
fn incumbent_of(path: &Path) -> Option<Incumbent> {
    match PidFile::at(path).find() {
        Ok(Found::NotRunning(_)) => Some(Incumbent::None),
        Ok(Found::Running(holder)) => Some(Incumbent::Running(holder.pid)),
        Ok(Found::Itself { is_ready: true }) => Some(Incumbent::Running(Pid::current())),
        Ok(Found::Starting(_) | Found::Itself { is_ready: false }) => None,
        Ok(Found::Locked(_)) | Err(_) => Some(Incumbent::Unnamed),
    }
}

fn failed(errno: Errno) -> Failure {
    ErrorKind::TakeOverPidfile(errno).into()
}

/// The pid file has changed, and the start is not acknowledged yet.
pub(crate) struct TakenOver {
    directory: OwnedFd,
    name: CString,
    /// The name of the former pid file, unless the new one has replaced it.
    successor: CString,
    can_undo: bool,
}

impl TakenOver {
    fn exchange(&self) -> Result<(), Errno> {
        const OWNER_ONLY: u32 = 0o600;

        let directory = self.directory.as_fd();
        let exchange = || sys::exchange(directory, &self.successor, &self.name);
        match exchange() {
            Err(errno::ENOENT) => {
                // There is no former file. A rename could replace a file that another start creates
                // now.
                match sys::openat(directory, &self.name, Open::New { mode: OWNER_ONLY }) {
                    // The launcher opens this file after the exchange, whatever its umask is.
                    Ok(created) => sys::fchmod(created.as_fd(), OWNER_ONLY)?,
                    Err(errno::EEXIST) => {}
                    Err(errno) => return Err(errno),
                }
                exchange()
            }
            exchanged => exchanged,
        }
    }

    /// Removes the former file. If the launcher is killed before, the name of the file stays until
    /// the next upgrade uses it.
    pub(crate) fn finish(&self) {
        if self.can_undo {
            let _ = sys::unlinkat(self.directory.as_fd(), &self.successor);
        }
    }

    pub(crate) fn undo(&self) {
        if self.can_undo {
            let _ = sys::exchange(self.directory.as_fd(), &self.name, &self.successor);
        }
    }
}

/// The plan has refused a path that contains a NUL byte.
fn c_path(path: &Path) -> CString {
    CString::new(path.as_os_str().as_bytes()).unwrap_or_default()
}
