//! The status of a daemon by its pid file.

use std::fmt;
use std::io;
use std::time::Duration;

use super::PidFile;
use super::holder::{Found, Holder};
use crate::deadline::Deadline;
use crate::sys::{self, Pid};

/// What a pid file says about its daemon: see [`PidFile::status`].
///
/// The `Display` form is a text for a person, such as `running as process 4242`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Status {
    /// No daemon is running. The file does not exist, or is not locked and contains no pid.
    NotRunning,
    /// No daemon is running. The file is not locked, but contains the pid of a daemon that has
    /// ended: [`PidFile::stop`] has not stopped it, and it has not removed the file. Another
    /// process may have this pid now.
    Dead {
        /// The pid in the file.
        pid: u32,
    },
    /// A daemon is starting: it has locked the file and is not ready yet.
    Starting {
        /// The pid of the daemon. `None` before the daemon is forked, and on platforms other than
        /// Linux.
        pid: Option<u32>,
    },
    /// The daemon is running and ready.
    Running {
        /// The pid of the daemon.
        pid: u32,
    },
    /// The file is locked, but not by a daemon that is known: by a program that does not use this
    /// library, by a worker of a daemon that has ended, or by a daemon that has closed the file.
    Locked {
        /// The process that the kernel names as the holder of the lock, if it names one.
        pid: Option<u32>,
    },
}

impl fmt::Display for Status {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotRunning => formatter.write_str("not running"),
            Self::Dead { pid } => {
                write!(
                    formatter,
                    "not running; process {pid} has left its pid file"
                )
            }
            Self::Starting { pid: None } => formatter.write_str("starting"),
            Self::Starting { pid: Some(pid) } => write!(formatter, "starting as process {pid}"),
            Self::Running { pid } => write!(formatter, "running as process {pid}"),
            Self::Locked { pid: None } => {
                formatter.write_str("unknown; another program has locked the pid file")
            }
            Self::Locked { pid: Some(pid) } => {
                write!(formatter, "unknown; process {pid} has locked the pid file")
            }
        }
    }
}

/// The pause between two looks at a daemon that is starting.
const STARTING_PAUSE: Duration = Duration::from_millis(10);

impl PidFile {
    /// The status of the daemon. Any process that may open the file for reading can ask.
    ///
    /// On platforms other than FreeBSD and macOS this takes a shared lock for an instant, and a
    /// start waits until it is released. The daemon may call this too. If the file contradicts
    /// its lock, as it does for an instant when a daemon starts or ends, this looks again for up
    /// to a second.
    ///
    /// # Errors
    ///
    /// Every error names the path.
    ///
    /// - [`InvalidData`](io::ErrorKind::InvalidData) if the path does not lead to a regular file.
    /// - [`PermissionDenied`](io::ErrorKind::PermissionDenied) on FreeBSD and macOS
    ///   if this process may not look at the daemon.
    /// - [`Unsupported`](io::ErrorKind::Unsupported) on the other platforms if a daemon is running,
    ///   since no call can name it.
    /// - The errors of open(2).
    pub fn status(&self) -> io::Result<Status> {
        let number = |holder: Holder| holder.pid.number();
        Ok(match self.find()? {
            Found::NotRunning(None) => Status::NotRunning,
            Found::NotRunning(Some(pid)) => Status::Dead { pid: pid.number() },
            Found::Starting(holder) => Status::Starting {
                pid: holder.map(number),
            },
            Found::Running(holder) => Status::Running {
                pid: holder.pid.number(),
            },
            Found::Itself { is_ready } => {
                let pid = Pid::current().number();
                match is_ready {
                    true => Status::Running { pid },
                    false => Status::Starting { pid: Some(pid) },
                }
            }
            Found::Locked(unknown) => Status::Locked {
                pid: unknown.pid.map(Pid::number),
            },
        })
    }

    /// The pid of the running daemon. `None` if the file does not exist or is not locked.
    ///
    /// On platforms other than FreeBSD and macOS this takes a shared lock for an instant, and a
    /// start waits until it is released. The daemon may call this too.
    /// [`status`](Self::status) returns the first two of the following errors as values.
    ///
    /// # Errors
    ///
    /// Every error names the path.
    ///
    /// - [`WouldBlock`](io::ErrorKind::WouldBlock) while a daemon is starting: from
    ///   the moment it locks the file until it is ready.
    /// - [`InvalidData`](io::ErrorKind::InvalidData) if the file is locked, but its content
    ///   is not a pid, or the kernel names no process or a process with another pid.
    /// - [`PermissionDenied`](io::ErrorKind::PermissionDenied) on FreeBSD and macOS
    ///   if this process may not look at the daemon.
    /// - The errors of open(2).
    pub fn running(&self) -> io::Result<Option<u32>> {
        match self.find()? {
            Found::NotRunning(_) => Ok(None),
            Found::Running(holder) => Ok(Some(holder.pid.number())),
            Found::Itself { is_ready: true } => Ok(Some(Pid::current().number())),
            Found::Starting(holder) => Err(self.starting(holder.map(|holder| holder.pid))),
            Found::Itself { is_ready: false } => Err(self.starting(Some(Pid::current()))),
            Found::Locked(unknown) => Err(self.locked(&unknown)),
        }
    }

    /// Waits until the daemon that is starting is ready, and returns its pid. If a daemon is
    /// ready already, this returns its pid at once. If no daemon runs or starts, or if the start
    /// fails, this returns `None`.
    ///
    /// A daemon in the [foreground](crate::Daemonize::foreground) counts as ready once it has
    /// written its pid.
    ///
    /// # A client that starts its daemon
    ///
    /// Several clients may start the daemon at the same time. One start succeeds, and the others
    /// fail with [`ErrorKind::LockPidfile`](crate::ErrorKind::LockPidfile). The clients of the
    /// other starts wait for the daemon of the first. If its start fails, one of these clients
    /// tries again. A client that has threads, such as those of an async runtime, cannot fork: it
    /// executes another program that starts the daemon.
    ///
    /// ```no_run
    /// use std::error::Error;
    /// use std::os::unix::net::{UnixListener, UnixStream};
    /// use std::time::Duration;
    ///
    /// use daemonize2::{Daemonize, ErrorKind, Outcome, PidFile};
    ///
    /// const SOCKET: &str = "/run/cached/socket";
    /// const PID_FILE: &str = "/run/cached/cached.pid";
    ///
    /// fn connect() -> Result<UnixStream, Box<dyn Error>> {
    ///     let pid_file = PidFile::at(PID_FILE);
    ///     while pid_file.wait_ready(Duration::from_secs(10))?.is_none() {
    ///         let daemonize = Daemonize::new().pid_file(PID_FILE).initialize(|()| {
    ///             let _ = std::fs::remove_file(SOCKET);
    ///             UnixListener::bind(SOCKET)
    ///         });
    ///         match daemonize.execute_checked() {
    ///             Outcome::Parent(Ok(_)) => break,
    ///             // Another client has started the daemon meanwhile.
    ///             Outcome::Parent(Err(error))
    ///                 if matches!(error.kind(), ErrorKind::LockPidfile(_)) => {}
    ///             Outcome::Parent(Err(error)) => return Err(error.into()),
    ///             Outcome::Child(Ok(child)) => serve(child.into_value()),
    ///             // The launcher returns the error.
    ///             Outcome::Child(Err(_)) => std::process::exit(1),
    ///         }
    ///     }
    ///     Ok(UnixStream::connect(SOCKET)?)
    /// }
    /// # fn serve(_: UnixListener) -> ! { std::process::exit(0) }
    /// # fn main() { let _ = connect(); }
    /// ```
    ///
    /// # Errors
    ///
    /// - [`TimedOut`](io::ErrorKind::TimedOut) if the daemon is still starting after `timeout`. The
    ///   text has its pid, if the kernel names it.
    /// - [`InvalidInput`](io::ErrorKind::InvalidInput) if the calling process is the daemon and is
    ///   not ready itself.
    /// - Those of [`running`](Self::running), except `WouldBlock`.
    pub fn wait_ready(&self, timeout: Duration) -> io::Result<Option<u32>> {
        let deadline = Deadline::after(timeout);
        loop {
            let starting = match self.find()? {
                Found::NotRunning(_) => return Ok(None),
                Found::Running(holder) => return Ok(Some(holder.pid.number())),
                Found::Itself { is_ready: true } => return Ok(Some(Pid::current().number())),
                Found::Itself { is_ready: false } => {
                    let text = "this process is the daemon, and is not ready yet";
                    return Err(self.error(io::ErrorKind::InvalidInput, text));
                }
                Found::Locked(unknown) => return Err(self.locked(&unknown)),
                Found::Starting(holder) => holder,
            };
            if deadline.has_passed() {
                let daemon = match starting {
                    Some(holder) => format!("daemon {}", holder.pid.number()),
                    None => String::from("a daemon"),
                };
                let text = format!("{daemon} is still starting after {timeout:?}");
                return Err(self.error(io::ErrorKind::TimedOut, text));
            }
            sys::sleep(STARTING_PAUSE);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_reads_as_a_person_says_it() {
        for (status, text) in [
            (Status::NotRunning, "not running"),
            (
                Status::Dead { pid: 7 },
                "not running; process 7 has left its pid file",
            ),
            (Status::Starting { pid: None }, "starting"),
            (Status::Starting { pid: Some(7) }, "starting as process 7"),
            (Status::Running { pid: 7 }, "running as process 7"),
            (
                Status::Locked { pid: None },
                "unknown; another program has locked the pid file",
            ),
            (
                Status::Locked { pid: Some(7) },
                "unknown; process 7 has locked the pid file",
            ),
        ] {
            assert_eq!(status.to_string(), text);
        }
    }
}
