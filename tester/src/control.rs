//! The control socket between the processes of the tester and the harness.
//!
//! A report must not travel through a file or stream that is under test. The socket is therefore
//! neither a standard stream nor a file, but an end of a socket pair that the harness passes on at
//! a high number ([`CONTROL`]). All processes of a case inherit the socket, and may send. Only one
//! process at a time receives: the daemon, or a step that holds it up.
//!
//! The socket is of type SOCK_SEQPACKET: a datagram socket does not report that the harness is
//! gone, and a stream does not keep the messages of several senders apart on every system. Systems
//! limit a packet (FreeBSD to 8 KiB), so a message is cut into packets of at most [`PACKET`] bytes.
//! Each packet names its sender, by which the harness joins the packets. macOS only has streams:
//! there, the sender sends each packet by one send(2), during which the kernel locks the buffer of
//! the socket against other senders.
//!
//! When the harness is done or gone, its end is shut down: a process that waits on the socket sees
//! the end of file, and exits. When the last process of a case is gone, the harness sees the end of
//! file.

use std::collections::HashMap;
use std::io;
use std::os::fd::{BorrowedFd, RawFd};

use rkyv::{Archive, Deserialize, Serialize};

use crate::config::{AnotherStart, Bytes};
use crate::report::{
    LauncherResult, LockedFile, Place, Regained, Report, SignalHit, StartError, SyscallRecord,
};
use crate::{sys, wire};

/// The descriptor of the control socket.
pub const CONTROL: RawFd = 200;

/// On Linux, the descriptor of /proc, through which a process in a chroot
/// still sees itself.
pub const PROC: RawFd = 201;

/// The descriptor of the master of the pseudo-terminal, if there is one.
pub const TERMINAL: RawFd = 202;

/// The descriptor of its slave.
pub const TERMINAL_SLAVE: RawFd = 203;

/// The descriptors of the tester. No report lists them.
pub const RESERVED: std::ops::RangeInclusive<RawFd> = CONTROL..=TERMINAL_SLAVE;

/// The environment variable by which the tester knows that it has a harness. Its value is the token
/// of the case, by which the harness knows its processes.
pub const TOKEN: &str = "TESTER_CASE";

/// The size of the longest packet.
pub const PACKET: usize = 4096;

/// The length of the packet, its sender, and whether more packets of the message follow; 4 bytes
/// each.
const HEADER: usize = 12;

/// A message of the tester.
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
    /// A closure has forked a copy of its process with this process id.
    Copied(u32),
    /// A closure has forked a worker with this process id.
    Worker(u32),
    /// The captures of the privileged action were dropped in the sender.
    CaptureDropped,
    /// The result of the privileged action was dropped in the sender.
    ResultDropped,
    AtExit,
    /// The library returned an error in the launcher.
    LauncherFailed(StartError),
    /// `execute` returned success in the launcher.
    LauncherReturned(LauncherResult),
    /// The closure of `on_started` was called in the sender, with this value.
    Started(LauncherResult),
    /// The captures of the closure of `on_started` were dropped in the sender.
    OnStartedDropped,
    /// The library returned an error in another process than the launcher.
    DaemonFailed(StartError),
    /// The library returned success in the daemon, which this report describes.
    Daemon(Report),
    /// The library returned in the launcher, or an error in the daemon; the report describes the
    /// process.
    Afterwards(Report),
    /// A child with this process id had ended by then, and was not reaped.
    Unreaped(u32),
    Now(Report),
    Regained(Regained),
    /// The answer to [`Command::TryToEscape`] and
    /// [`Command::TryToEscapeThrough`]: every directory reached.
    Reached(Vec<Place>),
    /// The parts of the result of the daemon ([`crate::config::Step::Add`]).
    Result(Vec<String>),
    /// `Readiness::ready` has returned success in the sender.
    Acknowledged,
    /// The result of `Readiness::serve`; an error as its text.
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
    /// The answer to a command, as text.
    Answer(Vec<String>),
    /// The sender is a daemon that has just started in a [contest](crate::contest), and has this
    /// file locked.
    Holds(LockedFile),
    /// The sender is about to end, and still has the file locked.
    Leaves(LockedFile),
    /// [`crate::trace`] has sent the signal to this process, if the process made the call.
    SignalHit(Option<SignalHit>),
    /// [`crate::trace`] has recorded these calls of the library.
    Traced(Vec<SyscallRecord>),
    Problem(String),
}

/// A command of the harness, to the process that receives.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Go on after [`crate::config::Step::Hold`].
    Proceed,
    Observe,
    /// Try to regain these ids and those of root.
    TryToRegain(FormerIds),
    /// Climb from the working directory and from every open directory.
    TryToEscape,
    /// Climb from these paths.
    TryToEscapeThrough(Vec<Bytes>),
    /// Fork. The copy drops its guard of the pid file, and a further guard if it gets one, and
    /// ends.
    DropGuardInCopy,
    /// Drop the guard of the pid file, and go on.
    DropGuard,
    /// Write these bytes to every regular file that is open, and again through /proc/self/fd. The
    /// answer lists the writes that succeed.
    OverwriteFiles(Bytes),
    /// Bind a port below 1024, change the owner of this file, and look for PR_SET_KEEPCAPS (Linux).
    /// The answer lists what succeeds.
    TryCapabilities(Bytes),
    /// Close every descriptor above the standard streams, as some libraries do, and open new files
    /// in this directory until every number up to 20 is taken.
    ReplaceDescriptors(Bytes),
    /// Ask the library whether the daemon of this pid file is running, and to stop it.
    AskForDaemon(Bytes),
    /// Adopt this pid file, and take a guard of it. The answer says whether both succeed.
    AdoptPidFile(Bytes),
    /// Start another daemon, which drops the copy of the guard, and stays until the harness ends.
    StartAnother(AnotherStart),
    /// Write these bytes to the descriptor of this number.
    Write(i32, Bytes),
    /// Call `reopen_logs`. The answer is the error, if there is one.
    ReopenLogs,
    /// Fork a worker that calls `reopen_logs`, writes these bytes to standard error, and ends. The
    /// answer is the error of `reopen_logs`.
    ReopenLogsInWorker(Bytes),
    /// Make this number of threads, which write numbered lines to standard output and to standard
    /// error in turn.
    StartWriters(u32),
    /// End these threads. The answer has how many lines each has written to each stream.
    StopWriters,
    Exit(i32),
}

/// The former ids of a daemon.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub struct FormerIds {
    pub uid: u32,
    pub gid: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    pub sender: u32,
    pub message: Message,
}

/// The end of the tester.
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

/// Sends a message to the harness.
///
/// # Errors
///
/// When the message cannot be sent: in most cases the harness is gone.
pub fn send(message: &Message) -> io::Result<()> {
    send_bytes(tester_end()?, &wire::encode(message))
}

/// Waits for the next command; `None` once the harness is done or gone.
///
/// # Errors
///
/// Those of recv(2), and an invalid message.
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
        // If the wait fails, no harness is left to wait for.
        let _ = sys::wait_for_hangup(socket);
    }
}

/// Sends a command to the tester.
///
/// # Errors
///
/// When the command cannot be sent: in most cases no process of the tester is left.
pub fn command(socket: BorrowedFd<'_>, command: &Command) -> io::Result<()> {
    send_bytes(socket, &wire::encode(command))
}

/// Sends a message from a signal handler, without an allocation. `message` is encoded, and fits in
/// a packet.
pub(crate) fn send_from_handler(message: &[u8]) {
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
        // The harness may have ended by now.
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

/// Joins packets to messages.
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

    /// The next message of the tester; `None` when all its processes are gone.
    ///
    /// # Errors
    ///
    /// Those of recv(2), and an invalid message.
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

    /// A whole packet, with its header.
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
                // The sender was killed during the send.
                0 => return Ok(None),
                received => filled += received,
            }
        }
        packet.truncate(filled);
        Ok(Some(packet))
    }

    /// A read from a stream must not go past the end of a packet.
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
