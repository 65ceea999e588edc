//! Set-up and assertions that the modules of this suite share.

use std::net::Shutdown;
#[cfg(target_os = "linux")]
use std::os::linux::net::SocketAddrExt as _;
#[cfg(target_os = "linux")]
use std::os::unix::net::SocketAddr;
use std::os::unix::net::UnixDatagram;

use tester::prelude::*;

/// A service manager that does not read, whose socket has room for a message or not.
pub(crate) fn with_unread_manager(scenario: Scenario, has_room: bool) -> (Scenario, UnixDatagram) {
    let path = scenario.path("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    if !has_room {
        let sender = UnixDatagram::unbound().unwrap();
        sender.set_nonblocking(true).unwrap();
        while sender.send_to(b"X=1\n", &path).is_ok() {}
    }
    (scenario.env("NOTIFY_SOCKET", path), manager)
}

pub(crate) fn in_foreground() -> Scenario {
    scenario!().foreground(Foreground::Yes)
}

/// A service manager that reads its messages, and sees their senders.
pub(crate) struct NotificationReceiver(UnixDatagram);

impl NotificationReceiver {
    fn with(socket: UnixDatagram) -> Self {
        #[cfg(target_os = "linux")]
        sys::ask_for_senders(socket.as_fd()).unwrap();
        Self(socket)
    }

    /// A manager at an abstract address, and that address.
    pub(crate) fn at_abstract_address() -> (Self, String) {
        let name = format!("tester/{}/notify", std::process::id());
        (Self::with(bind_abstract(&name)), format!("@{name}"))
    }

    /// The next message and its sender.
    #[track_caller]
    pub(crate) fn receive(&self) -> (String, u32) {
        let received = self.receive_until(Instant::now() + time_limit());
        let (bytes, sender) = received.expect("a message");
        (String::from_utf8(bytes).unwrap(), sender)
    }

    /// No message has been sent so far.
    #[track_caller]
    pub(crate) fn assert_silent(&self) {
        assert_eq!(self.receive_until(Instant::now()), None);
    }

    /// Reads the message until whose end a launcher waits for its manager.
    #[track_caller]
    pub(crate) fn release_launcher(&self, run: &Run) {
        assert_eq!(self.receive(), ("BARRIER=1".to_owned(), run.launcher_pid()));
    }

    fn receive_until(&self, deadline: Instant) -> Option<(Vec<u8>, u32)> {
        #[cfg(target_os = "linux")]
        return sys::receive_with_sender(self.0.as_fd(), deadline).unwrap();
        #[cfg(not(target_os = "linux"))]
        unreachable!("a sender by {deadline:?}")
    }
}

fn bind_abstract(name: &str) -> UnixDatagram {
    #[cfg(target_os = "linux")]
    return UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(name).unwrap()).unwrap();
    #[cfg(not(target_os = "linux"))]
    unreachable!("an abstract address {name}")
}

/// A process that another case forks may have a copy of the socket until execve(2).
impl Drop for NotificationReceiver {
    fn drop(&mut self) {
        // The other end may be gone.
        let _ = self.0.shutdown(Shutdown::Both);
    }
}

pub(crate) const ADDRESS: &str = "NOTIFY_SOCKET";

pub(crate) fn notifying(scenario: Scenario) -> (Scenario, NotificationReceiver) {
    let path = scenario.path("notify");
    let manager = NotificationReceiver::with(UnixDatagram::bind(&path).unwrap());
    (scenario.env(ADDRESS, &path), manager)
}
