//! The pid file of a daemon that executes its new program.

use std::env;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, IntoRawFd as _, RawFd};
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use super::{LONGEST_LINE, PidFile, parse_pid};
use crate::own_fds;
use crate::sys::{self, FileStatus, Lock, Pid};

/// Names the descriptor that has the lock to the next program.
pub(crate) const FD_VARIABLE: &str = "DAEMONIZE2_PID_FILE_FD";

/// Names the process of a program that [`spawn`](crate::Daemonize::spawn) executes: its pid file is
/// empty until the start is committed.
pub(crate) const PID_VARIABLE: &str = "DAEMONIZE2_PID_FILE_PID";

impl PidFile {
    /// Replaces the program of this daemon, as execve(2) does. The daemon keeps its pid, and the
    /// pid file stays locked. The new program calls [`adopt`](Self::adopt).
    ///
    /// Use this to upgrade a daemon in place: a service manager sees the same main process. Hand
    /// over sockets by clearing their close-on-exec flag. The new program inherits the signal
    /// mask and the ignored signals, and has the present identity and root directory.
    ///
    /// ```no_run
    /// use std::process::Command;
    /// use daemonize2::{Daemonize, PidFile};
    ///
    /// # fn serve_until_upgrade() {}
    /// fn main() -> Result<(), Box<dyn std::error::Error>> {
    ///     let pid_file = PidFile::at("/run/clockd.pid");
    ///     if !pid_file.adopt()? {
    ///         Daemonize::new().pid_file("/run/clockd.pid").start_checked()?;
    ///     }
    ///     serve_until_upgrade();
    ///     Err(pid_file.exec(&mut Command::new("/usr/sbin/clockd")).into())
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns only if it fails. The daemon then goes on, with its pid file. Only the standard
    /// streams and the working directory that `command` sets have changed.
    ///
    /// - [`InvalidInput`](io::ErrorKind::InvalidInput) if this process is not the daemon of the pid
    ///   file. The path has to lead to the file: see [`chroot`](crate::Daemonize::chroot).
    /// - The errors of execve(2).
    ///
    /// # Security
    ///
    /// If another thread executes a program at the same time, that program inherits the lock.
    pub fn exec(&self, command: &mut Command) -> io::Error {
        let number = match self.own_number() {
            Ok(number) => number,
            Err(error) => return error,
        };
        if let Err(errno) = sys::clear_cloexec(number) {
            return self.failed("cannot hand over", errno);
        }
        command.env(FD_VARIABLE, number.to_string());
        // std sets the default action of SIGPIPE for the new program, and does not undo this after
        // a failure.
        let error = sys::keep_action_of_broken_pipe(|| command.exec());
        let _ = sys::set_cloexec(number);
        let program = command.get_program().to_string_lossy();
        io::Error::new(error.kind(), format!("cannot execute {program}: {error}"))
    }

    fn own_number(&self) -> io::Result<RawFd> {
        let status = sys::fstatat(sys::WORKING_DIRECTORY, &self.c_path()?)
            .map_err(|errno| self.failed("cannot stat", errno))?;
        own_fds::number_of(status.id).ok_or_else(|| {
            let text = "this process is not its daemon";
            self.error(io::ErrorKind::InvalidInput, text)
        })
    }

    /// Takes over the lock of the pid file from the program that has
    /// [executed](Self::exec) this one, or from the start that has
    /// [spawned](crate::Daemonize::spawn) it. Returns false if there is neither: this process is
    /// then not the daemon, and may start it. Call this at the beginning of `main`.
    ///
    /// # Errors
    ///
    /// Those of flock(2), such as [`WouldBlock`](io::ErrorKind::WouldBlock) if another process has
    /// the lock.
    ///
    /// # Security
    ///
    /// The environment names the descriptor of the lock. The library uses the descriptor only if
    /// the path of the pid file leads to the same file, and the file contains the pid of this
    /// process, or is still empty and the environment names this process. It ignores the
    /// environment of a program with raised privileges, such as a set-user-id program.
    pub fn adopt(&self) -> io::Result<bool> {
        let Some(number) = named_descriptor() else {
            return Ok(false);
        };
        let path = std::path::absolute(&self.path)?;
        let path = PidFile::at(path).c_path()?;
        let Ok(status) = sys::fstatat(sys::WORKING_DIRECTORY, &path) else {
            return Ok(false);
        };
        if own_fds::number_of(status.id).is_some() {
            return Ok(true);
        }
        // Other programs inherit the variable too, but not the descriptor.
        let Some(lock) = sys::adopt(number, status.id) else {
            return Ok(false);
        };
        // After a failure the descriptor stays open: to close it would unlock the file.
        let adopted = self.verify_adopted(lock.as_fd());
        if !matches!(adopted, Ok(true)) {
            let _ = lock.into_raw_fd();
            return adopted;
        }
        own_fds::adopt_pid_file(lock, status.id, Box::leak(path.into_boxed_c_str()));
        Ok(true)
    }

    /// Returns false if the descriptor belongs to another process: a child has inherited it from
    /// the daemon that [`spawn`](crate::Daemonize::spawn) has started, or because another thread
    /// forked during [`exec`](Self::exec).
    fn verify_adopted(&self, lock: BorrowedFd<'_>) -> io::Result<bool> {
        let mut content = [0; LONGEST_LINE];
        let length =
            sys::pread(lock, &mut content).map_err(|errno| self.failed("cannot read", errno))?;
        let daemon = match &content[..length] {
            [] => env::var(PID_VARIABLE).ok().and_then(|pid| pid.parse().ok()),
            content => parse_pid(content).map(Pid::number),
        };
        if daemon != Some(Pid::current().number()) {
            return Ok(false);
        }
        sys::flock(lock, Lock::Exclusive)
            .and_then(|()| sys::take_record_lock(lock))
            .and_then(|()| sys::set_cloexec(lock.as_raw_fd()))
            .map_err(|errno| self.failed("cannot lock", errno))?;
        Ok(true)
    }

    /// Whether this process, the daemon of this file, is ready. `None` if it is not the daemon. A
    /// spawned program that has not adopted the file does so here: it would lose its record lock if
    /// it opened and closed the file.
    pub(super) fn is_ready_itself(&self, found: &FileStatus) -> Option<bool> {
        if let Some(is_ready) = own_fds::is_daemon_of(found.id) {
            return Some(is_ready && !found.is_empty);
        }
        let is_adopted = self.adopt().unwrap_or(false);
        is_adopted.then_some(!found.is_empty)
    }
}

/// The descriptor that the environment names.
fn named_descriptor() -> Option<RawFd> {
    let named = env::var(FD_VARIABLE).ok()?.parse().ok();
    named.filter(|_| !sys::has_raised_privileges())
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};

    use super::*;

    #[test]
    fn only_the_process_in_the_pid_file_adopts_its_lock() {
        let path = env::temp_dir().join(format!("daemonize2-adopted-{}", std::process::id()));
        let verify = |pid: u32| {
            fs::write(&path, format!("{pid}\n")).expect("write a pid file");
            let file = File::open(&path).expect("open the pid file");
            PidFile::at(&path).verify_adopted(file.as_fd())
        };
        let verified = [verify(std::process::id()), verify(1)];
        fs::remove_file(&path).expect("remove the pid file");
        assert!(matches!(verified, [Ok(true), Ok(false)]), "{verified:?}");
    }
}
