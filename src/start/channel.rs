//! The channels between launcher, intermediate and daemon, and what travels
//! on them.
//!
//! ```text
//!       Started, Failed, Ended, Terminated, TimedOut, StoodDown
//! launcher <----------------------------------- intermediate
//!     |    -----------------------------------> commit, release, end the daemon
//!     |
//!     |         Panicking, PanicSurvived, Ready, Failed
//!     <---------------------------------------- daemon
//!      ---------------------------------------> acknowledged
//! ```
//!
//! Two socket pairs, of which each process keeps its own ends alone: so that
//! an end of file on one says that the process at the other end is gone,
//! whatever it died of. Daemon and launcher talk directly: nothing that
//! happens to the intermediate can come between a report and its
//! acknowledgement.

use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::error::ErrorKind;
use crate::failure::Failure;
use crate::start::panics;
use crate::start::protocol::{LONGEST, Message};
use crate::sys::{self, Errno, FileId, MAX_PASSED_FDS, Wait, errno};

/// Sends a message whole. `EPIPE` where nobody is left to read it.
/// Async-signal-safe.
fn send(
    socket: &OwnedFd,
    message: &Message,
    mut descriptors: [Option<BorrowedFd<'_>>; MAX_PASSED_FDS],
) -> Result<(), Errno> {
    let frame = message.encode();
    let mut rest = &frame.bytes[..frame.length];
    while !rest.is_empty() {
        let sent = sys::sendmsg(socket.as_fd(), rest, descriptors)?;
        rest = &rest[sent..];
        descriptors = [None; MAX_PASSED_FDS];
    }
    Ok(())
}

/// Whether a send has failed because nobody is left to read it. Before 15,
/// FreeBSD says ENOTCONN where the other end goes at that instant (`uipc_send` of
/// sys/kern/uipc_usrreq.c).
fn is_gone(errno: Errno) -> bool {
    matches!(errno, errno::EPIPE | errno::ECONNRESET | errno::ENOTCONN)
}

/// What the launcher answers, a byte each.
const ACKNOWLEDGED: u8 = b'a';
const COMMIT: u8 = b'c';
const RELEASE: u8 = b'r';
const END_DAEMON: u8 = b'e';

/// The launcher's end of one channel: collects bytes until a message is whole.
struct Inbox {
    socket: OwnedFd,
    // Not boxed: the intermediate drops its copy, and must not free memory.
    bytes: [u8; LONGEST],
    filled: usize,
    /// What came along, where descriptors are taken in: from the intermediate, never
    /// from a daemon, which may have been broken into.
    descriptors: Option<[Option<OwnedFd>; MAX_PASSED_FDS]>,
    open: bool,
}

/// What [`Inbox::look`] finds.
#[derive(Debug)]
pub(crate) enum Received {
    Message(Message),
    Nothing,
    /// Everybody at the other end is gone.
    End,
}

impl Inbox {
    fn new(socket: OwnedFd) -> Self {
        Self {
            socket,
            bytes: [0; LONGEST],
            filled: 0,
            descriptors: None,
            open: true,
        }
    }

    fn taking_descriptors(self) -> Self {
        let descriptors = Some([const { None }; MAX_PASSED_FDS]);
        Self {
            descriptors,
            ..self
        }
    }

    fn receive(&mut self) -> Result<usize, Errno> {
        let room = &mut self.bytes[self.filled..];
        let socket = self.socket.as_fd();
        match &mut self.descriptors {
            Some(descriptors) => sys::recvmsg(socket, room, descriptors, Wait::No),
            None => sys::recv(socket, room, Wait::No),
        }
    }

    /// Takes the next message, without waiting.
    fn look(&mut self) -> Result<Received, Errno> {
        loop {
            if let Some((message, length)) = Message::decode(&self.bytes[..self.filled])? {
                self.bytes.copy_within(length..self.filled, 0);
                self.filled -= length;
                return Ok(Received::Message(message));
            }
            if !self.open {
                return Ok(Received::End);
            }
            match self.receive() {
                Ok(0) => self.open = false,
                Ok(received) => self.filled += received,
                Err(errno) if errno == errno::EAGAIN || errno == errno::EWOULDBLOCK => {
                    return Ok(Received::Nothing);
                }
                // The other end was closed with bytes unread.
                Err(errno::ECONNRESET) => self.open = false,
                Err(errno) => return Err(errno),
            }
        }
    }

    fn waited_for(&self) -> Option<BorrowedFd<'_>> {
        self.open.then(|| self.socket.as_fd())
    }

    fn answer(&self, byte: u8) -> Result<(), Errno> {
        sys::sendmsg(self.socket.as_fd(), &[byte], [None; MAX_PASSED_FDS]).map(drop)
    }
}

/// The launcher's ends.
pub(crate) struct LauncherEnds {
    daemon: Inbox,
    intermediate: Inbox,
    last_panic: Option<LastPanic>,
}

/// The last panic of the daemon's that the launcher has been told of.
struct LastPanic {
    failure: Failure,
    is_survived: bool,
}

impl LauncherEnds {
    /// Waits until there may be something to look at, or the time is up.
    pub(crate) fn wait(&self, timeout: Option<Duration>) {
        let ends = [self.daemon.waited_for(), self.intermediate.waited_for()];
        sys::wait_readable(ends, timeout);
    }

    pub(crate) fn wait_for_intermediate(&self, timeout: Option<Duration>) {
        sys::wait_readable([self.intermediate.waited_for(), None], timeout);
    }

    pub(crate) fn hear_daemon(&mut self) -> Result<Received, Errno> {
        loop {
            match self.daemon.look()? {
                Received::Message(Message::Panicking(failure)) => {
                    self.last_panic = Some(LastPanic {
                        failure,
                        is_survived: false,
                    });
                }
                Received::Message(Message::PanicSurvived) => {
                    if let Some(panic) = &mut self.last_panic {
                        panic.is_survived = true;
                    }
                }
                other => return Ok(other),
            }
        }
    }

    /// Why a daemon has ended that has not said so: of a panic, or after one.
    pub(crate) fn failure_of_ended_daemon(&self) -> Failure {
        match &self.last_panic {
            None => ErrorKind::DaemonExited.into(),
            Some(panic) if panic.is_survived => {
                let text = match panic.failure.kind {
                    ErrorKind::Panicked => panics::with_prefix(&panic.failure.text),
                    _ => panic.failure.text.clone().into_owned(),
                };
                Failure::from(ErrorKind::DaemonExited).because(text)
            }
            Some(panic) => panic.failure.clone(),
        }
    }

    pub(crate) fn hear_intermediate(&mut self) -> Result<Received, Errno> {
        self.intermediate.look()
    }

    /// The descriptors that came with [`Message::Started`], in order.
    pub(crate) fn take_descriptors(&mut self) -> [Option<OwnedFd>; MAX_PASSED_FDS] {
        let descriptors = &mut self.intermediate.descriptors;
        let taken = descriptors.replace([const { None }; MAX_PASSED_FDS]);
        taken.unwrap_or_default()
    }

    /// Tells the intermediate to write the pid, to leave the daemon alone and to
    /// end.
    pub(crate) fn commit(&self) -> Result<(), Errno> {
        self.order(COMMIT)
    }

    /// Tells the intermediate to leave the daemon alone and to end.
    pub(crate) fn release(&self) -> Result<(), Errno> {
        self.order(RELEASE)
    }

    /// An intermediate that is gone will be missed when it should confirm; one that
    /// only seems to be takes it for the launcher's end.
    fn order(&self, order: u8) -> Result<(), Errno> {
        match self.intermediate.answer(order) {
            Err(errno) if !is_gone(errno) => Err(errno),
            Err(_) => {
                self.leave_intermediate();
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    /// Tells the intermediate to end the daemon, which has failed, if it does
    /// not end by itself. If that cannot be told, it takes the end of file for
    /// the launcher's end, which comes to the same.
    pub(crate) fn end_daemon(&self) {
        if self.intermediate.answer(END_DAEMON).is_err() {
            self.leave_intermediate();
        }
    }

    /// Ends the talk with an intermediate that has ended it. One that is there
    /// all the same takes it for the launcher's end.
    pub(crate) fn leave_intermediate(&self) {
        sys::shutdown(self.intermediate.socket.as_fd());
    }

    /// Tells a daemon that nobody watches over that the start is off.
    pub(crate) fn turn_away(&self) {
        sys::shutdown(self.daemon.socket.as_fd());
    }

    /// Waits for the daemon to be gone. False if the time was up first.
    pub(crate) fn await_daemons_end(mut self, patience: Duration) -> bool {
        let patience_ends = Instant::now() + patience;
        loop {
            let left = patience_ends.saturating_duration_since(Instant::now());
            match self.daemon.look() {
                Ok(Received::Message(_)) => {}
                Ok(Received::Nothing) if !left.is_zero() => {
                    sys::wait_readable([self.daemon.waited_for(), None], Some(left));
                }
                Ok(Received::End) => return true,
                Ok(Received::Nothing) | Err(_) => return false,
            }
        }
    }

    /// Commits the start.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::DaemonExited`] where the daemon is gone.
    pub(crate) fn acknowledge(&self) -> Result<(), ErrorKind> {
        self.daemon.answer(ACKNOWLEDGED).map_err(|errno| {
            if is_gone(errno) {
                ErrorKind::DaemonExited
            } else {
                ErrorKind::Channel(errno)
            }
        })
    }
}

/// What the launcher wants of the intermediate.
pub(crate) enum Order {
    None,
    Commit,
    Release,
    EndDaemon,
    LauncherGone,
    /// There may be one, but it cannot be heard.
    Unheard(Errno),
}

/// The intermediate's end.
pub(crate) struct IntermediateEnd(OwnedFd);

impl IntermediateEnd {
    /// Tells the launcher. One that is gone is noticed at the next order.
    /// Async-signal-safe.
    pub(crate) fn tell(&self, message: &Message) {
        let _ = self.tell_with(message, [None; MAX_PASSED_FDS]);
    }

    /// Tells the launcher, and hands it descriptors: which fails while too many
    /// are on their way to other processes. Async-signal-safe.
    pub(crate) fn tell_with(
        &self,
        message: &Message,
        descriptors: [Option<BorrowedFd<'_>>; MAX_PASSED_FDS],
    ) -> Result<(), Errno> {
        send(&self.0, message, descriptors)
    }

    /// Async-signal-safe.
    pub(crate) fn order(&self) -> Order {
        let mut byte = [0];
        match sys::recv(self.0.as_fd(), &mut byte, Wait::No) {
            Ok(1..) => match byte {
                [COMMIT] => Order::Commit,
                [RELEASE] => Order::Release,
                _ => Order::EndDaemon,
            },
            Err(errno) if errno == errno::EAGAIN || errno == errno::EWOULDBLOCK => Order::None,
            Ok(0) | Err(errno::ECONNRESET) => Order::LauncherGone,
            Err(errno) => Order::Unheard(errno),
        }
    }

    pub(crate) fn descriptor(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// The daemon's end, by number and by file: the caller's code may have closed it,
/// and opened another file by that number.
pub(crate) struct DaemonEnd(DaemonSocket, FileId);

enum DaemonSocket {
    /// The intermediate drops its copy, and must not free memory.
    Own(OwnedFd),
    /// With what tells of panics.
    Shared(Arc<OwnedFd>),
}

impl DaemonEnd {
    pub(crate) fn descriptor(&self) -> BorrowedFd<'_> {
        self.socket().as_fd()
    }

    fn socket(&self) -> &OwnedFd {
        match &self.0 {
            DaemonSocket::Own(socket) => socket,
            DaemonSocket::Shared(socket) => socket,
        }
    }

    /// The same end, twice.
    pub(crate) fn shared(self) -> (Self, Self) {
        let Self(socket, file) = self;
        let socket = match socket {
            DaemonSocket::Own(socket) => Arc::new(socket),
            DaemonSocket::Shared(socket) => socket,
        };
        let other = DaemonSocket::Shared(Arc::clone(&socket));
        (Self(other, file), Self(DaemonSocket::Shared(socket), file))
    }

    pub(crate) fn is_still_open(&self) -> bool {
        !sys::is_replaced(self.socket().as_raw_fd(), self.1)
    }

    /// # Errors
    ///
    /// [`ErrorKind::LauncherGone`] where nobody is left to be told, or the channel
    /// was closed. Async-signal-safe.
    pub(crate) fn tell(&self, message: &Message) -> Result<(), ErrorKind> {
        if !self.is_still_open() {
            return Err(ErrorKind::LauncherGone);
        }
        send(self.socket(), message, [None; MAX_PASSED_FDS]).map_err(|errno| {
            if is_gone(errno) {
                ErrorKind::LauncherGone
            } else {
                ErrorKind::Channel(errno)
            }
        })
    }

    /// Waits until the launcher has acknowledged. False where it is gone
    /// instead.
    pub(crate) fn await_acknowledgement(&self) -> bool {
        let mut byte = [0];
        loop {
            match sys::recv(self.descriptor(), &mut byte, Wait::Yes) {
                // A lack of memory, which passes. To give up for it would be
                // wrong: the launcher may have committed the start.
                Err(errno::ENOMEM | errno::ENOBUFS) => sys::sleep(PAUSE),
                received => return matches!(received, Ok(1..)),
            }
        }
    }
}

const PAUSE: Duration = Duration::from_millis(2);

/// Makes both channels.
pub(crate) fn channels() -> Result<(LauncherEnds, IntermediateEnd, DaemonEnd), Errno> {
    let (launcher_to_intermediate, intermediate) = sys::socketpair()?;
    let (launcher_to_daemon, daemon) = sys::socketpair()?;
    let id = sys::fstat(daemon.as_fd())?.id;
    Ok((
        LauncherEnds {
            daemon: Inbox::new(launcher_to_daemon),
            intermediate: Inbox::new(launcher_to_intermediate).taking_descriptors(),
            last_panic: None,
        },
        IntermediateEnd(intermediate),
        DaemonEnd(DaemonSocket::Own(daemon), id),
    ))
}
