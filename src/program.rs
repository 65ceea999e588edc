//! The description of a program that becomes a daemon.

use std::ffi::{OsStr, OsString};
use std::os::fd::RawFd;
use std::path::{Path, PathBuf};

/// A program for [`Daemonize::spawn`](crate::Daemonize::spawn), with its arguments and its
/// environment. The methods are those of [`std::process::Command`].
///
/// By default, the program has no arguments and the environment of the launcher, and the start is
/// committed when the program has been executed. [`notify_socket`](Self::notify_socket) and
/// [`notification_fd`](Self::notification_fd) let the launcher wait until the program is ready.
///
/// ```
/// use daemonize2::Program;
///
/// let program = Program::new("/usr/sbin/clockd")
///     .args(["--config", "/etc/clockd.conf"])
///     .env("LANG", "C")
///     .env_remove("LD_PRELOAD");
/// # let _ = program;
/// ```
#[derive(Clone, Debug)]
#[must_use = "no program is executed until it is given to `Daemonize::spawn`"]
pub struct Program {
    path: PathBuf,
    /// With the name of the program.
    arguments: Vec<OsString>,
    inherits_environment: bool,
    /// In the order of the calls. `None` removes the variable.
    environment: Vec<(OsString, Option<OsString>)>,
    readiness: ProgramReadiness,
}

/// The event that makes the program ready.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum ProgramReadiness {
    #[default]
    Execution,
    /// `READY=1` on the socket that `NOTIFY_SOCKET` names.
    NotifySocket,
    /// A line on the descriptor of this number.
    NotificationFd(RawFd),
}

impl Program {
    /// The program in this file.
    ///
    /// The daemon searches for a name without a slash in the directories of `PATH`, as execvp(3)
    /// does. This `PATH` is that of the program's own environment. A path that is not absolute
    /// starts at the daemon's [working directory](crate::Daemonize::working_directory). The daemon
    /// executes the program after it has changed its root directory and its identity: the path is
    /// that inside the [new root directory](crate::Daemonize::chroot), and the user of the daemon
    /// has to be permitted to execute the file.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        Self {
            arguments: vec![path.clone().into_os_string()],
            path,
            inherits_environment: true,
            environment: Vec::new(),
            readiness: ProgramReadiness::default(),
        }
    }

    /// Sets argument 0, the name by which the program knows itself. Default: the path.
    pub fn arg0(mut self, name: impl AsRef<OsStr>) -> Self {
        self.arguments[0] = name.as_ref().to_owned();
        self
    }

    /// Adds an argument.
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.arguments.push(argument.as_ref().to_owned());
        self
    }

    /// Adds arguments.
    pub fn args<A: AsRef<OsStr>>(self, arguments: impl IntoIterator<Item = A>) -> Self {
        arguments.into_iter().fold(self, Self::arg)
    }

    /// Sets an environment variable. It takes precedence over a variable of the launcher, and over
    /// those of [`user_environment`](crate::Daemonize::user_environment).
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        let value = value.as_ref().to_owned();
        self.environment
            .push((name.as_ref().to_owned(), Some(value)));
        self
    }

    /// Removes an environment variable.
    pub fn env_remove(mut self, name: impl AsRef<OsStr>) -> Self {
        self.environment.push((name.as_ref().to_owned(), None));
        self
    }

    /// Removes all environment variables: those of the launcher, and those that were set before.
    pub fn env_clear(mut self) -> Self {
        self.inherits_environment = false;
        self.environment.clear();
        self
    }

    /// Waits until the program sends `READY=1` to the socket in its environment variable
    /// `NOTIFY_SOCKET`, as sd_notify(3) does, and as systemd waits for a service with
    /// `Type=notify`. Replaces a [`notification_fd`](Self::notification_fd).
    ///
    /// ```no_run
    /// # fn main() -> Result<(), daemonize2::Error> {
    /// use std::time::Duration;
    /// use daemonize2::{Daemonize, Program};
    ///
    /// let program = Program::new("/usr/sbin/clockd").notify_socket();
    /// Daemonize::new()
    ///     .pid_file("/run/clockd.pid")
    ///     .startup_timeout(Duration::from_secs(30))
    ///     .spawn(program)?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// The intermediate process has the socket, and reads these assignments until the program is
    /// ready:
    ///
    /// | assignment | effect |
    /// |---|---|
    /// | `READY=1` | the program is ready |
    /// | `STATUS=...` | if the start fails, the error shows the last text, of at most 2048 bytes |
    /// | `ERRNO=...` | the start fails with [`ErrorKind::NotReady`](crate::ErrorKind::NotReady), and the error shows the text of the errno; if the program has not ended a second later, the library terminates it |
    /// | any other | none: `EXTEND_TIMEOUT_USEC` does not extend the [`startup_timeout`](crate::Daemonize::startup_timeout), and descriptors are closed |
    ///
    /// Only the messages of the daemon itself count, as with `NotifyAccess=main`. A message of any
    /// other process is ignored, also of a child, and so is a message that is longer than 4096
    /// bytes, contains a NUL byte, or is not UTF-8. A program that forks and lets its child serve
    /// ends before it is ready. A shell script reports by a `notification_fd`.
    ///
    /// Without a `startup_timeout` the launcher waits until the program is ready or ends.
    ///
    /// # Under a service manager
    ///
    /// The socket replaces a `NOTIFY_SOCKET` of the launcher. Once the program is ready, its
    /// messages have no receiver, and fail with `EPIPE`: no `WATCHDOG=1` and no `RELOADING=1`
    /// reaches the service manager. For such a program use no readiness, or `notification_fd`:
    /// the program then inherits the variable of the launcher.
    ///
    /// # Errors
    ///
    /// If the program ends before it is ready, [`spawn`](crate::Daemonize::spawn) fails with
    /// [`ErrorKind::DaemonExited`](crate::ErrorKind::DaemonExited).
    ///
    /// # Platform notes
    ///
    /// Only Linux and Android say which process has sent a datagram. Elsewhere `spawn` fails with
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported).
    ///
    /// # Security
    ///
    /// The socket has an abstract name (unix(7)), which needs no file: it works in any root
    /// directory, and nothing is left. Any process of the network namespace can send to it. The
    /// kernel attests the pid of the sender; only a process with `CAP_SYS_ADMIN` can claim another.
    /// The program has a descriptor of the socket, so that no other process can take the name
    /// while the program runs. If the program closes all descriptors that it has inherited, the
    /// name becomes free, and a program that goes on to send could send to another process.
    pub fn notify_socket(mut self) -> Self {
        self.readiness = ProgramReadiness::NotifySocket;
        self
    }

    /// Waits until the program writes a line to the descriptor of this number, as s6 does with its
    /// file `notification-fd`. The program is ready when it has written a line feed; the text
    /// before does not matter. Replaces a [`notify_socket`](Self::notify_socket).
    ///
    /// ```no_run
    /// # fn main() -> Result<(), daemonize2::Error> {
    /// use daemonize2::{Daemonize, Program};
    ///
    /// let script = "mkdir -p /run/clockd && echo >&3 && exec 3>&- && exec sleep infinity";
    /// let program = Program::new("/bin/sh").args(["-c", script]).notification_fd(3);
    /// Daemonize::new().pid_file("/run/clockd.pid").spawn(program)?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// The descriptor is the end of a pipe. It replaces a descriptor of the launcher with this
    /// number. The children of the program inherit it, and may write the line. A program that
    /// writes again after the line gets SIGPIPE.
    ///
    /// Without a [`startup_timeout`](crate::Daemonize::startup_timeout) the launcher waits until the
    /// program is ready or ends.
    ///
    /// # Errors
    ///
    /// [`spawn`](crate::Daemonize::spawn) fails with:
    ///
    /// - [`ErrorKind::DaemonExited`](crate::ErrorKind::DaemonExited) if the program ends before it
    ///   has written a line.
    /// - [`ErrorKind::NotReady`](crate::ErrorKind::NotReady) if the program, and each of its
    ///   children, closes the descriptor before. If the program has not ended a second later, the
    ///   library terminates it.
    /// - [`ErrorKind::ExecuteProgram`](crate::ErrorKind::ExecuteProgram) with `EINVAL`, before any
    ///   fork, if the number is that of a standard stream, or of a descriptor that
    ///   [`close_inherited_fds`](crate::Daemonize::close_inherited_fds) or
    ///   [`socket_activation`](crate::Daemonize::socket_activation) passes on; with `EBADF` if
    ///   the number exceeds the limit on descriptors.
    pub fn notification_fd(mut self, number: RawFd) -> Self {
        self.readiness = ProgramReadiness::NotificationFd(number);
        self
    }

    pub(crate) fn readiness(&self) -> ProgramReadiness {
        self.readiness
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn arguments(&self) -> &[OsString] {
        &self.arguments
    }

    pub(crate) fn inherits_environment(&self) -> bool {
        self.inherits_environment
    }

    pub(crate) fn environment(&self) -> &[(OsString, Option<OsString>)] {
        &self.environment
    }
}
