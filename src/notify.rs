//! systemd's notification protocol, as far as a start needs it: see
//! [sd_notify(3)](https://www.freedesktop.org/software/systemd/man/latest/sd_notify.html).

use std::env;
use std::ffi::OsString;
use std::io::{self, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use crate::sys::{self, Errno, MAX_PASSED_FDS, Pid};

const SOCKET: &str = "NOTIFY_SOCKET";
const EXEC_PID: &str = "SYSTEMD_EXEC_PID";

/// How long a service manager that does not read is waited for, each time.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Whether this process was started by a service manager that waits to be told
/// that it is ready, as systemd does for `Type=notify`.
///
/// That is so if `NOTIFY_SOCKET` is set, and was meant for this process:
/// `SYSTEMD_EXEC_PID`, which systemd sets along with it since version 248, is
/// absent or this process's pid. Else a child of a service would take what was
/// meant for its parent. False in a program that runs with raised privileges
/// (set-user-id and its like), where the environment is the caller's. The pid
/// of the parent is never guessed from.
///
/// # The type of the service is not known
///
/// systemd sets `NOTIFY_SOCKET` for other types of services, too, if the unit has
/// `NotifyAccess=` or `WatchdogSec=`, and nothing in the environment tells the
/// types apart. With `Type=forking` and one of these, this returns true, the
/// program stays in the foreground, and systemd waits until it gives up. Let the
/// command line of the unit decide there:
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
/// Where the program has no such option, `UnsetEnvironment=NOTIFY_SOCKET` in the unit
/// makes this false; the daemon then cannot notify a watchdog either.
///
/// # Notifications
///
/// systemd is notified under the same condition: a launcher that runs inside of
/// another service, for which `SYSTEMD_EXEC_PID` names another process, does not
/// tell the manager of that service that it is ready, or which its main process is.
/// A shell script that is the `ExecStart=` of its own service, and does not `exec` the
/// launcher, passes the socket on by `env -u SYSTEMD_EXEC_PID`. The unit then needs
/// `NotifyAccess=all`, and the program such an option `--background`.
///
/// ```no_run
/// # fn main() -> Result<(), daemonize2::Error> {
/// // One binary, from a shell and under systemd.
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

/// The service manager's socket, opened while its path can still be resolved.
///
/// A notification that fails does not fail the start, but is a line on standard
/// error: else the service manager would wait in vain, and nobody know for what.
pub(crate) struct NotifySocket {
    socket: UnixDatagram,
    address: OsString,
}

/// It goes on also where nothing can be written.
fn report_failure(address: &OsString, error: &io::Error) {
    let address = address.to_string_lossy();
    let line = format!("daemonize2: cannot notify the service manager at {address}: {error}\n");
    let line = line.replace(
        |character: char| character.is_control() && character != '\n',
        "?",
    );
    // In one piece: others may write, too.
    let _ = sys::without_signal_of_broken_pipe(|| io::stderr().write_all(line.as_bytes()));
}

impl NotifySocket {
    /// `None` where nobody waits for this process, or the socket cannot be had.
    pub(crate) fn open() -> Option<Self> {
        let address = notify_socket()?;
        match connected_to(&address) {
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

    /// This process is ready.
    pub(crate) fn tell_ready(&self) {
        self.notify(b"READY=1\n");
    }

    /// True if it was sent.
    fn notify(&self, message: &[u8]) -> bool {
        match self.send(message, [None; MAX_PASSED_FDS]) {
            Ok(_) => true,
            Err(errno) => {
                report_failure(&self.address, &io::Error::from_raw_os_error(errno));
                false
            }
        }
    }

    /// Another process is ready, and the main one from now on.
    pub(crate) fn tell_ready_on_behalf_of(&self, daemon: Pid) {
        let message = format!("MAINPID={}\nREADY=1\n", daemon.number());
        if self.notify(message.as_bytes()) {
            self.await_taken();
        }
    }

    /// Again where a signal interrupts it, which with a time limit it does.
    fn send(
        &self,
        message: &[u8],
        carried: [Option<BorrowedFd<'_>>; MAX_PASSED_FDS],
    ) -> Result<usize, Errno> {
        let time_is_up = Instant::now() + TIMEOUT;
        let goes_on = || Instant::now() < time_is_up;
        sys::sendmsg_while(goes_on, self.socket.as_fd(), message, carried)
    }

    /// Returns when what was sent so far has been read, as sd_notify_barrier(3)
    /// does: systemd looks up whom a message is from only then, and drops that
    /// of a process that is gone by that time. The launcher is about to go.
    fn await_taken(&self) {
        let Ok((ours, theirs)) = sys::socketpair() else {
            return;
        };
        let carried = [Some(theirs.as_fd()), None, None];
        if self.send(b"BARRIER=1", carried).is_ok() {
            drop(theirs);
            // Its end of file: whoever reads the message closes what it holds.
            sys::await_readable(ours.as_fd(), Some(TIMEOUT));
        }
    }
}

fn connected_to(address: &OsString) -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    connect(&socket, address)?;
    socket.set_write_timeout(Some(TIMEOUT))?;
    Ok(socket)
}

/// A path, or with a leading `@` a name in Linux's abstract namespace.
fn connect(socket: &UnixDatagram, address: &OsString) -> io::Result<()> {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    {
        use std::os::unix::ffi::OsStrExt as _;
        use std::os::unix::net::SocketAddr;

        #[cfg(target_os = "android")]
        use std::os::android::net::SocketAddrExt as _;
        #[cfg(target_os = "linux")]
        use std::os::linux::net::SocketAddrExt as _;

        if let Some(name) = address.as_bytes().strip_prefix(b"@") {
            return socket.connect_addr(&SocketAddr::from_abstract_name(name)?);
        }
    }
    socket.connect(address)
}
