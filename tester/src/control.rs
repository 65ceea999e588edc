//! The control socket: how the tester's processes talk to the harness.
//!
//! A report must not travel through what is under test, so this is neither a
//! standard stream nor a file, but one end of a socket pair that the harness
//! passes on at a high number ([`CONTROL`]). All processes of a case inherit
//! it and may send; only one at a time listens: the daemon, or a step that
//! holds it up.
//!
//! The socket is of type SOCK_SEQPACKET: a datagram would not tell that the
//! harness has gone, and a stream does not keep the messages of several
//! writers apart on every system. Messages are cut into packets of at most
//! [`PACKET`] bytes, since systems limit a packet (FreeBSD to 8 KiB), each
//! naming its sender, so that the harness puts them together again. On macOS,
//! which only has streams, the same packets are sent, each with one send(2),
//! during which that system locks the socket's buffer against other senders.
//!
//! When the harness is done, or gone, its end is shut down: whoever waits on
//! the socket sees its end and exits. When in turn the last process of a case
//! is gone, the harness sees the end of what there is to receive.

use std::collections::HashMap;
use std::io;
use std::os::fd::{BorrowedFd, RawFd};

use rkyv::{Archive, Deserialize, Serialize};

use crate::config::{AnotherStart, Bytes};
use crate::report::{
    HeldFile, LauncherResult, Place, Regained, Report, SignalHit, StartError, SyscallRecord,
};
use crate::{sys, wire};

/// The descriptor of the control socket.
pub const CONTROL: RawFd = 200;

/// On Linux, the descriptor of /proc, through which a process in a chroot
/// still sees itself.
pub const PROC: RawFd = 201;

/// The descriptor of the pseudo-terminal's master, if there is one.
pub const TERMINAL: RawFd = 202;

/// The tester's own descriptors. No report lists them.
pub const RESERVED: std::ops::RangeInclusive<RawFd> = CONTROL..=TERMINAL;

/// The environment variable that tells the tester that it has a harness. Its
/// value is the case's token, by which the harness knows its processes.
pub const TOKEN: &str = "TESTER_CASE";

/// The longest packet.
pub const PACKET: usize = 4096;

/// Length of the packet, sender and whether more packets of the message
/// follow, 4 bytes each.
const HEADER: usize = 12;

/// What the tester says.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// The launcher, right before the start.
    Initial(Report),
    /// A closure at [`crate::config::Step::Observe`].
    Observed(Report),
    /// A closure at [`crate::config::Step::Hold`], waiting for
    /// [`Command::Proceed`].
    Holding(Report),
    /// A closure has opened a listening socket at this port.
    Listening(u16),
    /// A closure has forked a copy of itself with this process id.
    Copied(u32),
    /// A closure has forked a worker with this process id.
    Worker(u32),
    /// The privileged action's captures were dropped in the sender.
    CaptureDropped,
    /// The privileged action's result was dropped in the sender.
    ResultDropped,
    /// The sender runs its atexit handlers.
    AtExit,
    /// The library returned an error in the launcher.
    LauncherFailed(StartError),
    /// `execute` returned success in the launcher.
    LauncherReturned(LauncherResult),
    /// The library returned an error in another process than the launcher.
    DaemonFailed(StartError),
    /// The library returned success in the daemon, which looks like this.
    Daemon(Report),
    /// The library has returned in the launcher, or an error in the daemon,
    /// which looks like this.
    Afterwards(Report),
    /// Then a child with this process id had ended, and nobody had reaped it.
    Unreaped(u32),
    /// The answer to [`Command::Observe`].
    Now(Report),
    /// The answer to [`Command::TryToRegain`].
    Regained(Regained),
    /// The answer to [`Command::TryToEscape`] and
    /// [`Command::TryToEscapeThrough`]: every directory reached.
    Reached(Vec<Place>),
    /// The daemon's result consists of these ([`crate::config::Step::Add`]).
    Result(Vec<String>),
    /// `Readiness::ready` has returned success in the sender.
    Acknowledged,
    /// `Readiness::serve` has returned, and what: an error as its text.
    Served(Result<(), String>),
    /// `Readiness::ready` has returned an error in the sender.
    NotAcknowledged(StartError),
    /// The library has refused a start that the sender made within another
    /// ([`crate::config::Step::StartAnother`]).
    StartRefused(StartError),
    /// Whether the sender got the guard of the pid file.
    Guarded(bool),
    /// The sender has got this signal.
    Signalled(i32),
    /// The answer to [`Command::DropGuardInCopy`].
    CopyDroppedGuard,
    /// The answer to the commands that have one in words.
    Answer(Vec<String>),
    /// The sender is a daemon that has just started in a
    /// [contest](crate::contest), and holds this file.
    Holds(HeldFile),
    /// It is about to end, and still does.
    Leaves(HeldFile),
    /// [`crate::crash`] has killed this process, or sent it the signal, if it
    /// came to that.
    Crashed(Option<SignalHit>),
    /// [`crate::fault`] has seen the library make these calls.
    Traced(Vec<SyscallRecord>),
    /// The tester itself failed.
    Problem(String),
}

/// What the harness says, to whoever listens.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Go on after [`crate::config::Step::Hold`].
    Proceed,
    /// Report once more.
    Observe,
    /// Try to get these and root's ids back.
    TryToRegain(FormerIds),
    /// Climb as far up as the working directory and open directories lead.
    TryToEscape,
    /// Climb as far up as these paths lead.
    TryToEscapeThrough(Vec<Bytes>),
    /// Fork, and let the copy drop its guard of the pid file, take another one
    /// if it is handed any, drop that too, and end.
    DropGuardInCopy,
    /// Drop the guard of the pid file, and go on.
    DropGuard,
    /// Write this to every regular file that is open, and to each once more by
    /// /proc/self/fd: what has succeeded.
    OverwriteFiles(Bytes),
    /// Close every descriptor above the standard streams, as some libraries do, and
    /// open new files in this folder until every number up to 20 is taken.
    ReplaceDescriptors(Bytes),
    /// Ask the library whether this pid file's daemon is running, and to stop it.
    AskForDaemon(Bytes),
    /// Start another daemon, in which the copy of the guard is dropped, and
    /// which stays until the harness ends.
    StartAnother(AnotherStart),
    /// Exit with this status.
    Exit(i32),
}

/// The ids that a daemon had before it dropped them.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub struct FormerIds {
    /// The user id.
    pub uid: u32,
    /// The group id.
    pub gid: u32,
}

/// A message and who sent it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The sender's process id.
    pub sender: u32,
    /// What it said.
    pub message: Message,
}

/// The tester's end.
///
/// # Errors
///
/// When there is no harness.
pub fn tester_end() -> io::Result<BorrowedFd<'static>> {
    if std::env::var_os(TOKEN).is_none() {
        return Err(io::Error::other(format!("{TOKEN} is not set")));
    }
    sys::inherited(CONTROL)
        .ok_or_else(|| io::Error::other(format!("descriptor {CONTROL} is not open")))
}

/// Tells the harness.
///
/// # Errors
///
/// Those of send(2), when the harness is gone above all.
pub fn tell(message: &Message) -> io::Result<()> {
    send_bytes(tester_end()?, &wire::encode(message))
}

/// Waits for the next command; `None` once the harness is done or gone.
///
/// # Errors
///
/// Those of recv(2), and a message that is none.
pub fn next_command() -> io::Result<Option<Command>> {
    let mut receiver = Receiver::new(tester_end()?);
    let Some((_, bytes)) = receiver.next()? else {
        return Ok(None);
    };
    wire::decode(&bytes).map(Some).map_err(io::Error::other)
}

/// Waits until the harness is done or gone.
pub fn wait_for_harness_to_end() {
    if let Ok(socket) = tester_end() {
        // Where this fails there is nothing left to wait for.
        let _ = sys::wait_for_hangup(socket);
    }
}

/// Sends a command from the harness's end.
///
/// # Errors
///
/// Those of send(2), when nobody is left above all.
pub fn command(socket: BorrowedFd<'_>, command: &Command) -> io::Result<()> {
    send_bytes(socket, &wire::encode(command))
}

/// Tells the harness from within a signal handler: allocates nothing.
/// `message` is encoded, and fits in a packet.
pub(crate) fn tell_from_handler(message: &[u8]) {
    let mut packet = [0; PACKET];
    let length = HEADER + message.len();
    let Some(payload) = packet.get_mut(HEADER..length) else {
        return;
    };
    payload.copy_from_slice(message);
    let words = [u32::try_from(length).unwrap_or(0), std::process::id(), 0];
    for (word, bytes) in words.iter().zip(packet.chunks_exact_mut(4)) {
        bytes.copy_from_slice(&word.to_le_bytes());
    }
    if let Some(socket) = sys::inherited(CONTROL) {
        // The harness may well be done by now.
        let _ = sys::send(socket, &packet[..length]);
    }
}

fn send_bytes(socket: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<()> {
    let mut chunks = bytes.chunks(PACKET - HEADER).peekable();
    while let Some(chunk) = chunks.next() {
        let length = u32::try_from(HEADER + chunk.len()).expect("at most PACKET");
        let more = u32::from(chunks.peek().is_some());
        let mut packet = Vec::with_capacity(PACKET);
        for word in [length, std::process::id(), more] {
            packet.extend_from_slice(&word.to_le_bytes());
        }
        packet.extend_from_slice(chunk);
        sys::send(socket, &packet)?;
    }
    Ok(())
}

/// Puts packets together again.
#[derive(Debug)]
pub struct Receiver<'fd> {
    socket: BorrowedFd<'fd>,
    unfinished: HashMap<u32, Vec<u8>>,
}

impl<'fd> Receiver<'fd> {
    /// Receives from `socket`.
    pub fn new(socket: BorrowedFd<'fd>) -> Self {
        Self {
            socket,
            unfinished: HashMap::new(),
        }
    }

    /// The next message of the tester; `None` once all its processes are
    /// gone.
    ///
    /// # Errors
    ///
    /// Those of recv(2), and a message that is none.
    pub fn frame(&mut self) -> io::Result<Option<Frame>> {
        let Some((sender, bytes)) = self.next()? else {
            return Ok(None);
        };
        let message = wire::decode(&bytes).map_err(io::Error::other)?;
        Ok(Some(Frame { sender, message }))
    }

    fn next(&mut self) -> io::Result<Option<(u32, Vec<u8>)>> {
        loop {
            let Some(packet) = self.packet()? else {
                return Ok(None);
            };
            let (header, chunk) = packet.split_at(HEADER);
            let word = |index: usize| {
                let bytes = &header[4 * index..4 * (index + 1)];
                u32::from_le_bytes(bytes.try_into().expect("four bytes"))
            };
            let (sender, more) = (word(1), word(2) != 0);
            let message = self.unfinished.entry(sender).or_default();
            message.extend_from_slice(chunk);
            if message.len() > wire::LIMIT {
                return Err(io::Error::other(wire::WireError::TooLong));
            }
            if !more {
                let message = self.unfinished.remove(&sender).expect("just added to");
                return Ok(Some((sender, message)));
            }
        }
    }

    /// One whole packet, header included.
    fn packet(&self) -> io::Result<Option<Vec<u8>>> {
        let mut packet = vec![0; PACKET];
        let mut filled = sys::receive(self.socket, &mut packet[..self.first_read()])?;
        if filled == 0 {
            return Ok(None);
        }
        while filled < HEADER || filled < stated_length(&packet)? {
            let wanted = if filled < HEADER {
                HEADER
            } else {
                stated_length(&packet)?
            };
            match sys::receive(self.socket, &mut packet[filled..wanted])? {
                // A sender was killed in the middle.
                0 => return Ok(None),
                received => filled += received,
            }
        }
        packet.truncate(filled);
        Ok(Some(packet))
    }

    /// What does not keep boundaries must not be read past one.
    fn first_read(&self) -> usize {
        if sys::PACKETS { PACKET } else { HEADER }
    }
}

fn stated_length(packet: &[u8]) -> io::Result<usize> {
    let bytes = packet[..4].try_into().expect("four bytes");
    let length = u32::from_le_bytes(bytes) as usize;
    if (HEADER..=PACKET).contains(&length) {
        Ok(length)
    } else {
        Err(io::Error::other("a packet of an impossible length"))
    }
}
