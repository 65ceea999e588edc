//! The channels of a start: two socket pairs.
//!
//! Each process keeps only its own ends. So an end of file on a channel means that the process at
//! the other end is gone, whatever has ended it. The daemon and the launcher have their own
//! channel: the death of the intermediate cannot separate a report from its acknowledgement.

use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::time::Duration;

use crate::deadline::Deadline;
use crate::error::ErrorKind;
use crate::start::protocol::{ACKNOWLEDGEMENT, Message, Order};
use crate::sys::{self, Errno, FileId, MAX_PASSED_FDS, Wait, errno};

pub(super) fn channels() -> Result<(LauncherSockets, IntermediateEnd, DaemonEnd), Errno> {
    let (launcher_to_intermediate, intermediate) = sys::socketpair()?;
    let (launcher_to_daemon, daemon) = sys::socketpair()?;
    let file = sys::fstat(daemon.as_fd())?.id;
    Ok((
        LauncherSockets {
            daemon: launcher_to_daemon,
            intermediate: launcher_to_intermediate,
        },
        IntermediateEnd(intermediate),
        DaemonEnd {
            socket: DaemonSocket::Own(daemon),
            file,
        },
    ))
}

/// The descriptors that a message carries.
pub(super) type Carried = [Option<OwnedFd>; MAX_PASSED_FDS];

/// Sends a whole message. Async-signal-safe.
fn send(
    socket: BorrowedFd<'_>,
    message: &Message,
    mut descriptors: [Option<BorrowedFd<'_>>; MAX_PASSED_FDS],
) -> Result<(), Errno> {
    let frame = message.encode();
    let mut parts = frame.parts();
    while parts.iter().any(|part| !part.is_empty()) {
        let mut sent = sys::sendmsg(socket, parts, descriptors, Deadline::NEVER)?;
        for part in &mut parts {
            let (of_part, rest) = part.split_at(sent.min(part.len()));
            sent -= of_part.len();
            *part = rest;
        }
        descriptors = [None; MAX_PASSED_FDS];
    }
    Ok(())
}

/// Whether a send has failed because the process at the other end is gone. FreeBSD before 15
/// fails with ENOTCONN if the other end closes at that instant (`uipc_send` of
/// sys/kern/uipc_usrreq.c).
pub(super) fn is_gone(errno: Errno) -> bool {
    matches!(errno, errno::EPIPE | errno::ECONNRESET | errno::ENOTCONN)
}

/// The error kind of a failed send: `gone` if the process at the other end is gone.
fn kind_of(errno: Errno, gone: ErrorKind) -> ErrorKind {
    if is_gone(errno) {
        gone
    } else {
        ErrorKind::Channel(errno)
    }
}

pub(super) fn would_block(errno: Errno) -> bool {
    errno == errno::EAGAIN || errno == errno::EWOULDBLOCK
}

/// The result of a receive that does not wait.
#[derive(Debug)]
pub(super) enum Received<T> {
    Some(T),
    Empty,
    /// The process at the other end is gone.
    EndOfFile,
}

/// One end of the launcher. It collects bytes until a message is complete.
pub(super) struct Inbox {
    socket: OwnedFd,
    bytes: Vec<u8>,
    /// `None` if the launcher accepts no descriptors: other code may control the daemon
    /// by now.
    descriptors: Option<Carried>,
    is_open: bool,
}

impl Inbox {
    fn new(socket: OwnedFd, descriptors: Option<Carried>) -> Self {
        Self {
            socket,
            bytes: Vec::new(),
            descriptors,
            is_open: true,
        }
    }

    pub(super) fn try_recv(&mut self) -> Result<Received<Message>, Errno> {
        loop {
            if let Some((message, length)) = Message::decode(&self.bytes)? {
                self.bytes.drain(..length);
                return Ok(Received::Some(message));
            }
            if !self.is_open {
                return Ok(Received::EndOfFile);
            }
            match self.recv_bytes() {
                Ok(1..) => {}
                // ECONNRESET: the other end was closed with bytes unread.
                Ok(0) | Err(errno::ECONNRESET) => self.is_open = false,
                Err(errno) if would_block(errno) => return Ok(Received::Empty),
                Err(errno) => return Err(errno),
            }
        }
    }

    fn recv_bytes(&mut self) -> Result<usize, Errno> {
        // Small, since only a few pages of the stack exist yet.
        let mut bytes = [0; 512];
        let socket = self.socket.as_fd();
        let received = match &mut self.descriptors {
            Some(descriptors) => sys::recvmsg(socket, &mut bytes, descriptors),
            None => sys::recv(socket, &mut bytes, Wait::No),
        }?;
        self.bytes.extend_from_slice(&bytes[..received]);
        Ok(received)
    }

    /// The socket to wait for, unless it is at its end of file.
    fn pollable(&self) -> Option<BorrowedFd<'_>> {
        self.is_open.then(|| self.socket.as_fd())
    }

    fn send_byte(&self, byte: u8) -> Result<(), Errno> {
        let (socket, descriptors) = (self.socket.as_fd(), [None; MAX_PASSED_FDS]);
        sys::sendmsg(socket, [&[byte], &[], &[]], descriptors, Deadline::NEVER).map(drop)
    }
}

/// The ends of the launcher before the fork.
pub(super) struct LauncherSockets {
    daemon: OwnedFd,
    intermediate: OwnedFd,
}

pub(super) struct LauncherEnds {
    pub(super) daemon: Inbox,
    pub(super) intermediate: Inbox,
}

impl LauncherEnds {
    pub(super) fn new(sockets: LauncherSockets) -> Self {
        Self {
            daemon: Inbox::new(sockets.daemon, None),
            intermediate: Inbox::new(sockets.intermediate, Some(Carried::default())),
        }
    }

    /// Takes the descriptors of [`Message::DaemonHandles`], in order.
    pub(super) fn take_descriptors(&mut self) -> Carried {
        let descriptors = &mut self.intermediate.descriptors;
        descriptors.replace(Carried::default()).unwrap_or_default()
    }

    /// Waits until a message of the intermediate may have arrived, or until the deadline has
    /// passed. With `for_daemon`, a message of the daemon ends the wait too.
    pub(super) fn wait(&self, for_daemon: bool, deadline: Deadline) {
        let daemon = self.daemon.pollable().filter(|_| for_daemon);
        sys::wait_readable([daemon, self.intermediate.pollable()], deadline);
    }

    /// Sends an order. If the intermediate is gone, the launcher notices by its missing
    /// confirmation. If the socket is broken, the intermediate takes the end of file for the
    /// death of the launcher.
    pub(super) fn send_order(&self, order: Order) -> Result<(), Errno> {
        match self.intermediate.send_byte(order as u8) {
            Err(errno) if is_gone(errno) => {
                self.shutdown_intermediate_channel();
                Ok(())
            }
            sent => sent,
        }
    }

    /// Orders the intermediate to terminate a daemon that does not end by itself. If the order
    /// cannot be sent, the intermediate takes the end of file for the death of the launcher,
    /// and terminates the daemon too.
    pub(super) fn terminate_daemon(&self) {
        if self.send_order(Order::TerminateDaemon).is_err() {
            self.shutdown_intermediate_channel();
        }
    }

    /// Makes an intermediate that still exists see an end of file.
    pub(super) fn shutdown_intermediate_channel(&self) {
        sys::shutdown(self.intermediate.socket.as_fd());
    }

    /// Makes a daemon without an intermediate see an end of file: its start has failed.
    pub(super) fn reject_daemon(&self) {
        sys::shutdown(self.daemon.socket.as_fd());
    }

    /// Waits for the end of file of the daemon. Returns false if the deadline passes first.
    pub(super) fn await_daemon_end(&mut self, deadline: Deadline) -> bool {
        loop {
            // After the deadline, the launcher reads the channel once more.
            let has_passed = deadline.has_passed();
            match self.daemon.try_recv() {
                Ok(Received::Some(_)) => {}
                Ok(Received::EndOfFile) => return true,
                Ok(Received::Empty) if !has_passed => {
                    sys::wait_readable([self.daemon.pollable(), None], deadline);
                }
                Ok(Received::Empty) | Err(_) => return false,
            }
        }
    }

    /// Commits the start.
    pub(super) fn acknowledge(&self) -> Result<(), ErrorKind> {
        (self.daemon.send_byte(ACKNOWLEDGEMENT))
            .map_err(|errno| kind_of(errno, ErrorKind::DaemonExited))
    }
}

pub(super) struct IntermediateEnd(OwnedFd);

impl IntermediateEnd {
    /// Sends a message. The intermediate notices the death of the launcher when it receives the
    /// next order. Async-signal-safe.
    pub(super) fn send(&self, message: &Message) {
        let _ = self.send_with(message, [None; MAX_PASSED_FDS]);
    }

    /// Sends a message that carries descriptors. Fails while too many descriptors are in flight
    /// in the whole system. Async-signal-safe.
    pub(super) fn send_with(
        &self,
        message: &Message,
        descriptors: [Option<BorrowedFd<'_>>; MAX_PASSED_FDS],
    ) -> Result<(), Errno> {
        send(self.0.as_fd(), message, descriptors)
    }

    /// Async-signal-safe.
    pub(super) fn try_recv_order(&self) -> Result<Received<Order>, Errno> {
        let mut byte = [0];
        match sys::recv(self.0.as_fd(), &mut byte, Wait::No) {
            Ok(1..) => Order::from_byte(byte[0])
                .map(Received::Some)
                .ok_or(errno::EPROTO),
            Ok(0) | Err(errno::ECONNRESET) => Ok(Received::EndOfFile),
            Err(errno) if would_block(errno) => Ok(Received::Empty),
            Err(errno) => Err(errno),
        }
    }

    pub(super) fn descriptor(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// The daemon's end of its channel. The caller's code may close the descriptor and open another
/// file with the same number. The identity of the file reveals this.
pub(super) struct DaemonEnd {
    socket: DaemonSocket,
    file: FileId,
}

enum DaemonSocket {
    /// Without an `Arc`: the intermediate drops its copy, and must not free memory.
    Own(OwnedFd),
    /// The panic hook has the same socket.
    Shared(Arc<OwnedFd>),
}

impl DaemonEnd {
    pub(super) fn descriptor(&self) -> BorrowedFd<'_> {
        match &self.socket {
            DaemonSocket::Own(socket) => socket.as_fd(),
            DaemonSocket::Shared(socket) => socket.as_fd(),
        }
    }

    /// Gives the socket another number than this. Async-signal-safe.
    pub(super) fn vacate(&mut self, number: RawFd) -> Result<(), Errno> {
        match &mut self.socket {
            DaemonSocket::Own(socket) => sys::vacate(socket, number),
            // Only the caller's code shares it, which a program does not have.
            DaemonSocket::Shared(_) => Ok(()),
        }
    }

    /// The same end, twice.
    pub(super) fn share(self) -> (Self, Self) {
        let socket = match self.socket {
            DaemonSocket::Own(socket) => Arc::new(socket),
            DaemonSocket::Shared(socket) => socket,
        };
        let end = |socket| Self {
            socket: DaemonSocket::Shared(socket),
            file: self.file,
        };
        (end(Arc::clone(&socket)), end(socket))
    }

    pub(super) fn is_still_open(&self) -> bool {
        !sys::is_replaced(self.descriptor().as_raw_fd(), self.file)
    }

    /// Sends a message. Async-signal-safe.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::LauncherGone`], also if the caller's code has closed the socket.
    pub(super) fn send(&self, message: &Message) -> Result<(), ErrorKind> {
        if !self.is_still_open() {
            return Err(ErrorKind::LauncherGone);
        }
        send(self.descriptor(), message, [None; MAX_PASSED_FDS])
            .map_err(|errno| kind_of(errno, ErrorKind::LauncherGone))
    }

    /// Waits for the acknowledgement. Returns false if the launcher is gone instead.
    pub(super) fn await_acknowledgement(&self) -> bool {
        const PAUSE: Duration = Duration::from_millis(2);

        let mut byte = [0];
        loop {
            match sys::recv(self.descriptor(), &mut byte, Wait::Yes) {
                // The launcher may have committed the start. So the daemon must not give up
                // because of a temporary lack of memory.
                Err(errno::ENOMEM | errno::ENOBUFS) => sys::sleep(PAUSE),
                received => return matches!(received, Ok(1..)),
            }
        }
    }
}
