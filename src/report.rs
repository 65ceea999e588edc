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

use std::borrow::Cow;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::error::ErrorKind;
use crate::panics;
use crate::sys::{self, Errno, FileId, MAX_PASSED_FDS, Pid, Wait, errno};

/// The option that a failure is about. The launcher knows its value, so that
/// no path has to travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum About {
    Nothing,
    WorkingDirectory,
    PidFile,
    PidFileUser,
    PidFileGroup,
    Root,
    User,
    Group,
    NullDevice,
    StandardInput,
    StandardOutput,
    StandardError,
}

impl About {
    const ALL: [Self; 12] = [
        Self::Nothing,
        Self::WorkingDirectory,
        Self::PidFile,
        Self::PidFileUser,
        Self::PidFileGroup,
        Self::Root,
        Self::User,
        Self::Group,
        Self::NullDevice,
        Self::StandardInput,
        Self::StandardOutput,
        Self::StandardError,
    ];

    fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|about| *about as u8 == number)
    }
}

/// A failure in a process that cannot return it: made without allocating,
/// and sent to the launcher, which makes an [`Error`](crate::Error) of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) kind: ErrorKind,
    pub(crate) about: About,
    pub(crate) text: Cow<'static, str>,
}

impl Failure {
    pub(crate) fn new(kind: ErrorKind, about: About) -> Self {
        Self {
            kind,
            about,
            text: Cow::Borrowed(""),
        }
    }

    /// Says why, in as many words as travel.
    pub(crate) fn because(self, text: impl Into<Cow<'static, str>>) -> Self {
        let text = match text.into() {
            Cow::Borrowed(text) => Cow::Borrowed(cut(text, LONGEST_TEXT)),
            Cow::Owned(mut text) => {
                text.truncate(cut(&text, LONGEST_TEXT).len());
                Cow::Owned(text)
            }
        };
        Self { text, ..self }
    }

    fn encode(&self, tag: u8) -> Frame {
        Frame::new(
            tag,
            self.about as u8,
            self.kind.number(),
            self.kind.errno().unwrap_or(0),
            0,
            &self.text,
        )
    }
}

impl From<ErrorKind> for Failure {
    fn from(kind: ErrorKind) -> Self {
        Self::new(kind, About::Nothing)
    }
}

/// What daemon and intermediate tell the launcher.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Message {
    /// From the daemon: all is done, and waits for the acknowledgement.
    Ready,
    /// From either: the start has failed.
    Failed(Failure),
    /// From the daemon: it has panicked, and may end of it, in which case this is
    /// why.
    Panicking(Failure),
    /// From the daemon: it has not ended of a panic.
    PanicSurvived,
    /// From the intermediate: there is a daemon. What comes along lets the
    /// launcher clean up after both.
    Started {
        has_process: bool,
        has_pid_file: bool,
    },
    /// From the intermediate: the daemon has ended, and was reaped.
    Ended(Option<ExitStatus>),
    /// From the intermediate: the daemon did not end by itself when it was to, and
    /// was ended. How it took that is of no interest.
    Terminated,
    /// From the intermediate: the time was up, and the daemon was ended.
    TimedOut,
    /// From the intermediate: as told, the daemon, which this is, is left
    /// alone. Its last. Not for the daemon to say: by then it may be anybody's.
    StoodDown(Pid),
}

impl From<ErrorKind> for Message {
    fn from(kind: ErrorKind) -> Self {
        Self::Failed(kind.into())
    }
}

impl From<Failure> for Message {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// The longest text that travels, in bytes.
pub(crate) const LONGEST_TEXT: usize = 2048;
const HEADER: usize = 16;
const LONGEST: usize = HEADER + LONGEST_TEXT;

/// A message as bytes:
/// tag, about or flags, kind or flags (2), errno or status (4), pid (4),
/// length of the text (2), nothing (2), text.
struct Frame {
    bytes: [u8; LONGEST],
    length: usize,
}

impl Frame {
    fn new(tag: u8, small: u8, kind: u16, errno: Errno, number: u32, text: &str) -> Self {
        let text = cut(text, LONGEST_TEXT);
        let mut bytes = [0; LONGEST];
        bytes[0] = tag;
        bytes[1] = small;
        bytes[2..4].copy_from_slice(&kind.to_ne_bytes());
        bytes[4..8].copy_from_slice(&errno.to_ne_bytes());
        bytes[8..12].copy_from_slice(&number.to_ne_bytes());
        // At most LONGEST_TEXT, which two bytes hold.
        let length = u16::try_from(text.len()).unwrap_or(u16::MAX);
        bytes[12..14].copy_from_slice(&length.to_ne_bytes());
        bytes[HEADER..HEADER + text.len()].copy_from_slice(text.as_bytes());
        Self {
            bytes,
            length: HEADER + text.len(),
        }
    }
}

/// The beginning of a text, not longer than `most` bytes, in whole characters.
fn cut(text: &str, most: usize) -> &str {
    let mut end = text.len().min(most);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

const READY: u8 = 1;
const FAILED: u8 = 2;
const STARTED: u8 = 3;
const ENDED: u8 = 4;
const STOOD_DOWN: u8 = 5;
const TIMED_OUT: u8 = 6;
const TERMINATED: u8 = 7;
const PANICKING: u8 = 8;
const PANIC_SURVIVED: u8 = 9;

impl Message {
    fn encode(&self) -> Frame {
        match self {
            Self::Ready => Frame::new(READY, 0, 0, 0, 0, ""),
            Self::Failed(failure) => failure.encode(FAILED),
            Self::Panicking(failure) => failure.encode(PANICKING),
            Self::PanicSurvived => Frame::new(PANIC_SURVIVED, 0, 0, 0, 0, ""),
            Self::Started {
                has_process,
                has_pid_file,
            } => Frame::new(
                STARTED,
                u8::from(*has_process),
                u16::from(*has_pid_file),
                0,
                0,
                "",
            ),
            Self::Ended(status) => {
                let raw = status.map_or(0, ExitStatus::into_raw);
                Frame::new(ENDED, u8::from(status.is_some()), 0, raw, 0, "")
            }
            Self::StoodDown(daemon) => Frame::new(STOOD_DOWN, 0, 0, 0, daemon.number(), ""),
            Self::TimedOut => Frame::new(TIMED_OUT, 0, 0, 0, 0, ""),
            Self::Terminated => Frame::new(TERMINATED, 0, 0, 0, 0, ""),
        }
    }

    /// The message at the beginning of `bytes` and its length, once it is
    /// there whole. An error where it is none that was ever sent.
    fn decode(bytes: &[u8]) -> Result<Option<(Self, usize)>, Errno> {
        let Some(header) = bytes.get(..HEADER) else {
            return Ok(None);
        };
        let two = |at: usize| u16::from_ne_bytes([header[at], header[at + 1]]);
        let four = |at: usize| [header[at], header[at + 1], header[at + 2], header[at + 3]];
        let number = u32::from_ne_bytes(four(8));
        let code = Errno::from_ne_bytes(four(4));
        let length = HEADER + usize::from(two(12));
        if length > LONGEST {
            return Err(errno::EPROTO);
        }
        let Some(text) = bytes.get(HEADER..length) else {
            return Ok(None);
        };
        let message = match header[0] {
            READY => Self::Ready,
            tag @ (FAILED | PANICKING) => {
                let failure = Failure {
                    kind: ErrorKind::from_number(two(2), code).ok_or(errno::EPROTO)?,
                    about: About::from_number(header[1]).ok_or(errno::EPROTO)?,
                    text: Cow::Owned(String::from_utf8_lossy(text).into_owned()),
                };
                match tag {
                    FAILED => Self::Failed(failure),
                    _ => Self::Panicking(failure),
                }
            }
            PANIC_SURVIVED => Self::PanicSurvived,
            STARTED => Self::Started {
                has_process: header[1] != 0,
                has_pid_file: two(2) != 0,
            },
            ENDED => Self::Ended((header[1] != 0).then(|| ExitStatus::from_raw(code))),
            STOOD_DOWN => Self::StoodDown(Pid::from_number(number).ok_or(errno::EPROTO)?),
            TIMED_OUT => Self::TimedOut,
            TERMINATED => Self::Terminated,
            _ => return Err(errno::EPROTO),
        };
        Ok(Some((message, length)))
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_survives_the_wire() {
        let failed = |text: &'static str| {
            Message::Failed(Failure::new(ErrorKind::LockPidfile(11), About::PidFile).because(text))
        };
        for message in [
            Message::Ready,
            failed(""),
            failed("why not"),
            Message::Panicking(Failure::from(ErrorKind::Panicked).because("out of luck")),
            Message::PanicSurvived,
            Message::Started {
                has_process: true,
                has_pid_file: true,
            },
            Message::Ended(None),
            Message::Ended(Some(ExitStatus::from_raw(9))),
            Message::StoodDown(Pid::current()),
            Message::TimedOut,
            Message::Terminated,
        ] {
            let frame = message.encode();
            let bytes = &frame.bytes[..frame.length];
            for short in 0..bytes.len() {
                assert_eq!(Message::decode(&bytes[..short]), Ok(None));
            }
            assert_eq!(Message::decode(bytes), Ok(Some((message, bytes.len()))));
        }
    }

    #[test]
    fn a_long_text_is_cut_between_characters() {
        let text = "ä".repeat(LONGEST_TEXT);
        let frame = Message::Failed(Failure::from(ErrorKind::Panicked).because(text)).encode();
        let Ok(Some((Message::Failed(failure), _))) = Message::decode(&frame.bytes[..frame.length])
        else {
            panic!("not a failure");
        };
        assert_eq!(failure.text, "ä".repeat(LONGEST_TEXT / 2));
    }

    #[test]
    fn bytes_that_nobody_sent_are_refused() {
        let unknown_kind = [FAILED, 0, 255, 255, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let mut too_long = Message::Ready.encode().bytes;
        let length = u16::try_from(LONGEST_TEXT).expect("two bytes hold it") + 1;
        too_long[12..14].copy_from_slice(&length.to_ne_bytes());
        for bytes in [&[0; HEADER], &[255; HEADER], &unknown_kind, &too_long[..]] {
            assert_eq!(Message::decode(bytes), Err(errno::EPROTO));
        }
    }
}
