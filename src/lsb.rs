//! The exit codes of the Linux Standard Base.

use crate::error::{Error, ErrorKind};
use crate::pid_file::Status;
use crate::sys::errno;

impl Status {
    /// The exit code of the action `status` of an init script, as
    /// [Init Script Actions](https://refspecs.linuxfoundation.org/LSB_5.0.0/LSB-Core-generic/LSB-Core-generic/iniscrptact.html)
    /// of the Linux Standard Base Core Specification 5.0 defines it:
    ///
    /// | code | meaning there | status |
    /// |---|---|---|
    /// | 0 | the program is running | `Running` |
    /// | 1 | the program is dead, and its pid file exists | `Dead` |
    /// | 3 | the program is not running | `NotRunning` |
    /// | 4 | the status is unknown | `Starting`, `Locked` |
    ///
    /// If [`PidFile::status`](crate::PidFile::status) returns an error, exit with 4.
    ///
    /// [`PidFile::stop`](crate::PidFile::stop) empties the file, and a
    /// [`PidFileGuard`](crate::PidFileGuard) removes it. Therefore only a daemon that has ended
    /// in another way is `Dead`.
    #[must_use]
    pub fn lsb_exit_code(&self) -> u8 {
        match self {
            Self::Running { .. } => 0,
            Self::Dead { .. } => 1,
            Self::NotRunning => 3,
            Self::Starting { .. } | Self::Locked { .. } => 4,
        }
    }
}

impl Error {
    /// The exit code of the action `start` of an init script, as
    /// [Init Script Actions](https://refspecs.linuxfoundation.org/LSB_5.0.0/LSB-Core-generic/LSB-Core-generic/iniscrptact.html)
    /// of the Linux Standard Base Core Specification 5.0 defines it:
    ///
    /// | code | meaning there | error |
    /// |---|---|---|
    /// | 0 | success, also if the service is running already | [`running_pid`](Self::running_pid) is known |
    /// | 3 | a feature is not implemented | [`Unsupported`](ErrorKind::Unsupported) |
    /// | 4 | the user has insufficient privileges | the errno is `EPERM` or `EACCES` |
    /// | 5 | the program is not installed | [`ExecuteProgram`](ErrorKind::ExecuteProgram) with `ENOENT` or `ENOTDIR` |
    /// | 6 | the program is not configured | an unknown user or group, an invalid name, path, id or mode, or a missing directory |
    /// | 1 | an unspecified error | any other error |
    ///
    /// The action `stop` exits with 0 if [`PidFile::stop`](crate::PidFile::stop) returns `Ok`, even
    /// if no daemon was running. The action `reload` exits with 7 if
    /// [`PidFile::signal`](crate::PidFile::signal) returns false. If these return an error, exit
    /// with 4 for [`PermissionDenied`](std::io::ErrorKind::PermissionDenied), and with 1 for
    /// any other.
    #[must_use]
    pub fn lsb_exit_code(&self) -> u8 {
        if self.running_pid().is_some() {
            return 0;
        }
        match (self.kind(), self.raw_os_error()) {
            (ErrorKind::Unsupported, _) => 3,
            (_, Some(errno::EPERM | errno::EACCES)) => 4,
            (ErrorKind::ExecuteProgram(errno::ENOENT | errno::ENOTDIR), _) => 5,
            (
                ErrorKind::UserNotFound
                | ErrorKind::GroupNotFound
                | ErrorKind::UserContainsNul
                | ErrorKind::GroupContainsNul
                | ErrorKind::PathContainsNul
                | ErrorKind::PrimaryGroupUnknown
                | ErrorKind::ChangeDirectory(errno::ENOENT | errno::ENOTDIR)
                | ErrorKind::Chroot(errno::ENOENT | errno::ENOTDIR)
                | ErrorKind::OpenPidfile(errno::ENOENT | errno::ENOTDIR)
                | ErrorKind::SetUser(errno::EINVAL)
                | ErrorKind::SetGroup(errno::EINVAL)
                | ErrorKind::SetSupplementaryGroups(errno::EINVAL)
                | ErrorKind::ChownPidfile(errno::EINVAL)
                | ErrorKind::ChmodPidfile(errno::EINVAL),
                _,
            ) => 6,
            _ => 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_has_the_exit_code_of_the_standard() {
        for (status, code) in [
            (Status::Running { pid: 7 }, 0),
            (Status::Dead { pid: 7 }, 1),
            (Status::NotRunning, 3),
            (Status::Starting { pid: None }, 4),
            (Status::Locked { pid: None }, 4),
        ] {
            assert_eq!(status.lsb_exit_code(), code, "{status}");
        }
    }

    #[test]
    fn a_failed_start_has_the_exit_code_of_the_standard() {
        let locked = Error::from(ErrorKind::LockPidfile(errno::EWOULDBLOCK));
        assert_eq!(locked.clone().with_running_pid(7).lsb_exit_code(), 0);
        // The holder may be starting, and fail.
        assert_eq!(locked.lsb_exit_code(), 1);
        for (kind, code) in [
            (ErrorKind::Unsupported, 3),
            (ErrorKind::SetUser(errno::EPERM), 4),
            (ErrorKind::OpenPidfile(errno::EACCES), 4),
            (ErrorKind::ExecuteProgram(errno::ENOENT), 5),
            (ErrorKind::ExecuteProgram(errno::EACCES), 4),
            (ErrorKind::OpenPidfile(errno::ENOENT), 6),
            (ErrorKind::UserNotFound, 6),
            (ErrorKind::ChmodPidfile(errno::EINVAL), 6),
            (ErrorKind::Initialize, 1),
            (ErrorKind::OpenPidfile(errno::ELOOP), 1),
        ] {
            assert_eq!(Error::from(kind).lsb_exit_code(), code, "{kind:?}");
        }
    }
}
