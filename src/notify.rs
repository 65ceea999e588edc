//! The part of systemd's notification protocol that a start needs: see
//! [sd_notify(3)](https://www.freedesktop.org/software/systemd/man/latest/sd_notify.html).

use std::env;
use std::ffi::OsString;
use std::io::{self, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use crate::deadline::Deadline;
use crate::sys::{self, Errno, MAX_PASSED_FDS, Pid};

const SOCKET: &str = "NOTIFY_SOCKET";
const EXEC_PID: &str = "SYSTEMD_EXEC_PID";

/// How long one message waits for a service manager that does not read.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Whether a service manager has started this process and waits until it reports that it is
/// ready, as systemd does for `Type=notify`.
///
/// This is true if `NOTIFY_SOCKET` is set, and `SYSTEMD_EXEC_PID` is unset or the pid of this
/// process. systemd sets `SYSTEMD_EXEC_PID` since version 248, so that a child of a service does
/// not use the socket of its parent. This is false in a program with set-user-id bit, set-group-id
/// bit or file capabilities, because its caller controls its environment. The parent pid is not
/// used.
///
/// # Platform notes
///
/// On FreeBSD, macOS, NetBSD and DragonFly this is also false in a process that has changed its
/// user, its group or its supplementary groups since execve(2), and in the children of that
/// process: issetugid(2) does not distinguish it from a set-user-id program. Such a launcher does
/// not notify a service manager. Call this before the change, and let the library change the
/// [`user`](crate::Daemonize::user).
///
/// # The type of the service is not known
///
/// systemd also sets `NOTIFY_SOCKET` for other types of services if the unit has
/// `NotifyAccess=` or `WatchdogSec=`, and the environment does not contain the type. With
/// `Type=forking` and one of these, this returns true, the program stays in the foreground,
/// and systemd waits until its own timeout. For such a unit, use an option on the command line:
///
/// ```no_run
/// # fn main() -> Result<(), daemonize2::Error> {
/// let option = std::env::args().nth(1);
/// let foreground = match option.as_deref() {
///     Some("--foreground") => true,
///     Some("--background") => false, // ExecStart= of a unit with Type=forking
///     _ => daemonize2::supervised(),
/// };
/// daemonize2::Daemonize::new()
///     .foreground(foreground)
///     .start_checked()?;
/// # Ok(())
/// # }
/// ```
///
/// If the program has no such option, `UnsetEnvironment=NOTIFY_SOCKET` in the unit makes this
/// false. The daemon then cannot notify a watchdog either.
///
/// With `Type=forking`, [`socket_activation`](crate::Daemonize::socket_activation) makes the
/// daemon the process whose notifications the watchdog expects.
///
/// # Notifications
///
/// A start notifies systemd under the same condition. If `SYSTEMD_EXEC_PID` is the pid of another
/// process, the launcher runs inside the service of that process, and sends no notification.
/// [`spawn`](crate::Daemonize::spawn) never sends one.
///
/// The notification makes the daemon the main process of the service. If the main process of a
/// service itself starts another daemon by `execute` and lives on, it must remove `NOTIFY_SOCKET`
/// before.
///
/// If the `ExecStart=` of a service is a shell script that does not `exec` the launcher, the
/// script must run the launcher by `env -u SYSTEMD_EXEC_PID`. The unit then needs
/// `NotifyAccess=all`, and the program an option such as `--background`.
///
/// ```no_run
/// # fn main() -> Result<(), daemonize2::Error> {
/// // The same binary runs from a shell and under systemd.
/// daemonize2::Daemonize::new()
///     .foreground(daemonize2::supervised())
///     .start_checked()?;
/// # Ok(())
/// # }
/// ```
#[must_use]
pub fn supervised() -> bool {
    notify_socket().is_some()
}

/// The address of the service manager, if it was meant for this process.
fn notify_socket() -> Option<OsString> {
    if sys::has_raised_privileges() {
        return None;
    }
    let is_meant =
        env::var_os(EXEC_PID).is_none_or(|pid| pid == *Pid::current().number().to_string());
    env::var_os(SOCKET).filter(|address| is_meant && !address.is_empty())
}

/// The service manager's socket, connected while its path can still be resolved.
///
/// If a notification fails, the start does not fail, but writes a line to standard error.
/// Otherwise the service manager would wait in vain, without a hint at the cause.
pub(crate) struct NotifySocket {
    socket: UnixDatagram,
    address: OsString,
}

/// Ignores a failure to write.
fn report_failure(address: &OsString, error: &io::Error) {
    let address = address.to_string_lossy();
    let line = format!("daemonize2: cannot notify the service manager at {address}: {error}\n");
    let line = line.replace(
        |character: char| character.is_control() && character != '\n',
        "?",
    );
    // One write, since other processes may write to the same file.
    let _ = sys::without_signal_of_broken_pipe(|| io::stderr().write_all(line.as_bytes()));
}

impl NotifySocket {
    /// `None` if no service manager waits for this process, or the connection fails.
    pub(crate) fn open() -> Option<Self> {
        let address = notify_socket()?;
        match connect(&address) {
            Ok(socket) => Some(Self { socket, address }),
            Err(error) => {
                report_failure(&address, &error);
                None
            }
        }
    }

    pub(crate) fn descriptor(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    pub(crate) fn notify_ready(&self) {
        self.notify(b"READY=1\n");
    }

    /// True if the message is sent.
    fn notify(&self, message: &[u8]) -> bool {
        match self.send(message, [None; MAX_PASSED_FDS]) {
            Ok(_) => true,
            Err(errno) => {
                report_failure(&self.address, &io::Error::from_raw_os_error(errno));
                false
            }
        }
    }

    /// Reports that another process is ready, and the main process from now on.
    pub(crate) fn notify_ready_for(&self, daemon: Pid) {
        let message = format!("MAINPID={}\nREADY=1\n", daemon.number());
        if self.notify(message.as_bytes()) {
            self.await_barrier();
        }
    }

    /// Repeats a call that a signal interrupts: with a time limit, SA_RESTART has no effect.
    fn send(
        &self,
        message: &[u8],
        carried: [Option<BorrowedFd<'_>>; MAX_PASSED_FDS],
    ) -> Result<usize, Errno> {
        let deadline = Deadline::after(TIMEOUT);
        sys::sendmsg(self.socket.as_fd(), [message, &[], &[]], carried, deadline)
    }

    /// Like sd_notify_barrier(3), returns when all messages have been read. systemd looks up
    /// the sender only then, and drops the message of a process that has ended. The
    /// launcher is about to end.
    fn await_barrier(&self) {
        let Ok((ours, theirs)) = sys::socketpair() else {
            return;
        };
        let carried = [Some(theirs.as_fd()), None, None];
        if self.send(b"BARRIER=1", carried).is_ok() {
            drop(theirs);
            // The service manager closes the descriptor when it has read the message.
            sys::await_readable(ours.as_fd(), Deadline::after(TIMEOUT));
        }
    }
}

fn connect(address: &OsString) -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    socket.connect_addr(&socket_address(address)?)?;
    socket.set_write_timeout(Some(TIMEOUT))?;
    Ok(socket)
}

/// A path, or with a leading `@` a name in Linux's abstract namespace.
fn socket_address(address: &OsString) -> io::Result<SocketAddr> {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    {
        #[cfg(target_os = "android")]
        use std::os::android::net::SocketAddrExt as _;
        #[cfg(target_os = "linux")]
        use std::os::linux::net::SocketAddrExt as _;
        use std::os::unix::ffi::OsStrExt as _;

        if let Some(name) = address.as_bytes().strip_prefix(b"@") {
            return SocketAddr::from_abstract_name(name);
        }
    }
    SocketAddr::from_pathname(address)
}
