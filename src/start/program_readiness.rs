//! How the intermediate learns that a program is ready, if its execution alone does not make it
//! so. docs/decisions/0013-readiness-of-a-program.md has the reasons. Every call in here but
//! [`ReadinessPlan::new`] and [`ProgramStatus::with_room`] is async-signal-safe.

use std::cell::Cell;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd, RawFd};

use crate::failure::{MAX_PAYLOAD, floor_char_boundary};
use crate::program::ProgramReadiness;
use crate::start::channel::would_block;
use crate::start::progress::Step;
use crate::start::protocol::Message;
use crate::sys::{self, Errno, Pid};

/// The readiness of a program, with all that must be allocated before the fork.
pub(super) enum ReadinessPlan {
    Execution,
    /// The name of the socket in the abstract namespace.
    NotifySocket(String),
    NotificationFd(RawFd),
}

impl ReadinessPlan {
    pub(super) fn new(readiness: ProgramReadiness) -> Self {
        match readiness {
            ProgramReadiness::Execution => Self::Execution,
            ProgramReadiness::NotifySocket => {
                // No other process can foresee the name, and take it before.
                let random = RandomState::new().build_hasher().finish();
                let pid = Pid::current().number();
                Self::NotifySocket(format!("daemonize2/{pid}/{random:016x}"))
            }
            ProgramReadiness::NotificationFd(number) => Self::NotificationFd(number),
        }
    }

    /// The value of `NOTIFY_SOCKET` in the program.
    pub(super) fn address(&self) -> Option<String> {
        match self {
            Self::NotifySocket(name) => Some(format!("@{name}")),
            Self::Execution | Self::NotificationFd(_) => None,
        }
    }

    pub(super) fn number(&self) -> Option<RawFd> {
        match self {
            Self::NotificationFd(number) => Some(*number),
            Self::Execution | Self::NotifySocket(_) => None,
        }
    }
}

/// The text and the errno that a program has sent.
pub(super) struct ProgramStatus {
    errno: Cell<Errno>,
    /// Never longer than its capacity, so that nothing is allocated.
    text: Cell<Vec<u8>>,
}

impl ProgramStatus {
    pub(super) fn with_room(readiness: &ReadinessPlan) -> Self {
        let room = match readiness {
            ReadinessPlan::NotifySocket(_) => MAX_PAYLOAD,
            ReadinessPlan::Execution | ReadinessPlan::NotificationFd(_) => 0,
        };
        Self {
            errno: Cell::new(0),
            text: Cell::new(Vec::with_capacity(room)),
        }
    }

    /// Takes the status, as a message that the caller must not drop: that would free memory.
    pub(super) fn take(&self) -> Option<Message> {
        let (errno, text) = (self.errno.take(), self.text.take());
        if errno == 0 && text.is_empty() {
            self.text.set(text);
            return None;
        }
        Some(Message::ProgramStatus(errno, text))
    }

    /// Reads a message of sd_notify(3). Returns true if it says that the program is ready.
    fn read(&self, message: &[u8]) -> bool {
        let message = message.strip_suffix(b"\0").unwrap_or(message);
        let message = std::str::from_utf8(message).unwrap_or_default();
        let mut is_ready = false;
        for assignment in message.split('\n').filter(|_| !message.contains('\0')) {
            if assignment == "READY=1" {
                is_ready = true;
            } else if let Some(text) = assignment.strip_prefix("STATUS=") {
                self.set_text(text);
            } else if let Some(errno) = assignment.strip_prefix("ERRNO=") {
                let errno = errno.parse().ok();
                self.errno
                    .set(errno.filter(|errno| *errno > 0).unwrap_or(0));
            }
        }
        is_ready
    }

    fn set_text(&self, text: &str) {
        let mut room = self.text.take();
        let end = floor_char_boundary(text, room.capacity().min(MAX_PAYLOAD));
        room.clear();
        room.extend_from_slice(&text.as_bytes()[..end]);
        self.text.set(room);
    }
}

/// The event that ends the wait for the program, or begins it.
pub(super) enum ProgramEvent {
    /// The daemon has executed the program, which is at this step until it is ready.
    Executed(Step),
    Ready,
    /// The program has sent an errno.
    Failed,
    /// The program has closed its notification descriptor without a line.
    Closed,
}

/// The end of the intermediate.
pub(super) struct ReadinessWatch {
    kind: Kind,
    is_over: Cell<bool>,
}

enum Kind {
    Execution,
    Socket(OwnedFd),
    Pipe(OwnedFd),
}

impl ReadinessWatch {
    /// As many messages as a socket has room for, of this program and of others
    /// (`net.unix.max_dgram_qlen`).
    const MOST_QUEUED: usize = 1024;
    /// The longest message that systemd reads: `NOTIFY_BUFFER_MAX` of src/core/manager.c.
    const LONGEST_MESSAGE: usize = 4096;

    /// Returns the end of the intermediate, and the descriptor of the program.
    pub(super) fn begin(plan: &ReadinessPlan) -> Result<(Self, Option<OwnedFd>), Errno> {
        let (kind, programs) = match plan {
            ReadinessPlan::Execution => (Kind::Execution, None),
            ReadinessPlan::NotifySocket(name) => {
                let socket = sys::bind_notify_socket(name.as_bytes())?;
                let programs = sys::dup_above_streams(socket.as_raw_fd())?;
                (Kind::Socket(socket), Some(programs))
            }
            ReadinessPlan::NotificationFd(_) => {
                let (read, write) = sys::pipe()?;
                (Kind::Pipe(read), Some(write))
            }
        };
        let is_over = Cell::new(false);
        Ok((Self { kind, is_over }, programs))
    }

    /// The step at which the program is, once it was executed. `None` if it is ready by that.
    pub(super) fn step(&self) -> Option<Step> {
        match self.kind {
            Kind::Execution => None,
            Kind::Socket(_) => Some(Step::AwaitNotification),
            Kind::Pipe(_) => Some(Step::AwaitLine),
        }
    }

    /// The descriptor to wait for.
    pub(super) fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        match &self.kind {
            Kind::Socket(descriptor) | Kind::Pipe(descriptor) if !self.is_over.get() => {
                Some(descriptor.as_fd())
            }
            _ => None,
        }
    }

    /// Reads at most one message, so that no flood of them holds up the caller.
    pub(super) fn try_recv(
        &self,
        daemon: Pid,
        status: &ProgramStatus,
    ) -> Result<Option<ProgramEvent>, Errno> {
        if self.is_over.get() {
            return Ok(None);
        }
        let event = match &self.kind {
            Kind::Execution => Ok(None),
            Kind::Socket(socket) => {
                let received = recv_notification(socket.as_fd(), daemon, status);
                received.map(|is_ready| match is_ready {
                    // A program that reports a failure is not ready.
                    _ if status.errno.get() != 0 => Some(ProgramEvent::Failed),
                    true => Some(ProgramEvent::Ready),
                    false => None,
                })
            }
            Kind::Pipe(pipe) => read_line(pipe.as_fd()),
        };
        let event = match event {
            Err(errno) if would_block(errno) => None,
            event => event?,
        };
        self.is_over.set(event.is_some());
        if let (Kind::Socket(socket), Some(_)) = (&self.kind, &event) {
            // The program has the socket too. Without this, it would wait for room there.
            sys::shutdown_reading(socket.as_fd());
        }
        Ok(event)
    }

    /// Reads what the program has sent before its end.
    pub(super) fn read_rest(&self, daemon: Pid, status: &ProgramStatus) {
        let Kind::Socket(socket) = &self.kind else {
            return;
        };
        for _ in 0..Self::MOST_QUEUED {
            if recv_notification(socket.as_fd(), daemon, status).is_err() {
                break;
            }
        }
    }
}

/// Reads one message. Returns whether the daemon itself says that it is ready.
fn recv_notification(
    socket: BorrowedFd<'_>,
    daemon: Pid,
    status: &ProgramStatus,
) -> Result<bool, Errno> {
    let mut buffer = [0; ReadinessWatch::LONGEST_MESSAGE];
    let received = sys::recv_notification(socket, &mut buffer)?;
    let is_counted = received.sender == Some(daemon) && !received.is_cut;
    Ok(is_counted && status.read(&buffer[..received.length]))
}

/// Reads some bytes of the program. What a line says does not matter.
fn read_line(pipe: BorrowedFd<'_>) -> Result<Option<ProgramEvent>, Errno> {
    let mut bytes = [0; 512];
    Ok(match sys::read(pipe, &mut bytes)? {
        0 => Some(ProgramEvent::Closed),
        read if bytes[..read].contains(&b'\n') => Some(ProgramEvent::Ready),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status() -> ProgramStatus {
        ProgramStatus::with_room(&ReadinessPlan::NotifySocket(String::new()))
    }

    fn taken(status: &ProgramStatus) -> Option<(Errno, String)> {
        match status.take()? {
            Message::ProgramStatus(errno, text) => {
                let text = String::from_utf8(text).expect("it is cut at a character");
                Some((errno, text))
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_message_may_have_several_assignments() {
        let status = status();
        assert!(!status.read(b"STATUS=opening\nMAINPID=1\n"));
        assert!(status.read(b"X=READY=1\nSTATUS=open\nREADY=1\0"));
        assert!(!status.read(b"ERRNO=98"));
        assert_eq!(taken(&status), Some((98, String::from("open"))));
    }

    #[test]
    fn a_malformed_message_is_ignored() {
        for message in [
            &b"STATUS=\xff\nREADY=1"[..],
            b"STATUS=a\0b\nREADY=1",
            b"READY=1\0\0",
            b"READY=10",
            b"READY",
            b" READY=1",
            b"ready=1",
            b"ERRNO=x",
            b"ERRNO=-98",
            b"ERRNO=99999999999",
            b"\0",
            b"",
        ] {
            let status = status();
            assert!(!status.read(message), "{message:?}");
            assert_eq!(taken(&status), None, "{message:?}");
        }
    }

    #[test]
    fn a_long_status_is_cut_in_whole_characters_without_an_allocation() {
        let status = status();
        let room = status.text.take();
        let before = (room.as_ptr(), room.capacity());
        status.text.set(room);
        status.read(format!("STATUS=x{}", "\u{e4}".repeat(MAX_PAYLOAD)).as_bytes());
        let text = status.text.take();
        assert_eq!((text.as_ptr(), text.capacity()), before);
        status.text.set(text);
        let (_, text) = taken(&status).expect("there is a status");
        assert_eq!(text.len(), MAX_PAYLOAD - 1);
        assert!(text.ends_with('\u{e4}'));
    }

    #[test]
    fn each_socket_has_a_name_of_its_own() {
        let address = || ReadinessPlan::new(ProgramReadiness::NotifySocket).address();
        assert_ne!(address(), address());
        assert!(address().is_some_and(|name| name.starts_with('@') && name.len() < 100));
    }
}
