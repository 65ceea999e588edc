//! The messages of a start, and the time limits that its processes agree on.
//!
//! ```text
//!                DaemonHandles, ProgramStatus, Failed, DaemonEnded,
//!                       DaemonTerminated, TimedOut, Released
//! launcher <------------------------------------------ intermediate
//!     |    ------------------------------------------>
//!     |                 Commit, Release, TerminateDaemon
//!     |
//!     |             Panicking, PanicSurvived, Ready, Failed
//!     <----------------------------------------------- daemon
//!      ----------------------------------------------->
//!                         acknowledgement
//! ```

use std::borrow::Cow;
use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;
use std::time::Duration;

use crate::byte_enum::byte_enum;
use crate::error::ErrorKind;
use crate::failure::{Failure, MAX_PAYLOAD, MAX_REASON};
use crate::subject::SubjectKind;
use crate::sys::{Errno, MAX_PARTS, Pid, errno};

/// The time between SIGTERM and SIGKILL.
pub(super) const SIGTERM_GRACE: Duration = Duration::from_secs(1);

/// The time for which a process may exist after SIGKILL: nothing interrupts the wait for some
/// file servers.
pub(super) const SIGKILL_WAIT: Duration = Duration::from_secs(2);

/// The time in which the intermediate terminates a daemon and ends.
pub(super) const INTERMEDIATE_WAIT: Duration = SIGTERM_GRACE
    .saturating_add(SIGKILL_WAIT)
    .saturating_add(SIGTERM_GRACE);

/// A message of the intermediate or the daemon to the launcher.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Message {
    /// Daemon: every step succeeded, and the daemon waits for the acknowledgement. The message
    /// carries the payload of the report.
    Ready(Vec<u8>),
    /// Intermediate or daemon: the start has failed.
    Failed(Failure),
    /// Daemon: a thread panics. If the daemon ends without another message, the panic is the
    /// cause.
    Panicking(Failure),
    /// Daemon: the panic has not ended the daemon.
    PanicSurvived,
    /// Intermediate: the daemon with this pid exists. The message carries the descriptors by which
    /// the launcher cleans up if the intermediate dies: that of the process, where the platform
    /// can send one, and the two of the pid file.
    DaemonHandles(Pid),
    /// Intermediate: the daemon has ended by itself, and the intermediate has reaped it.
    DaemonEnded(Option<ExitStatus>),
    /// Intermediate: the daemon did not end by itself, and the intermediate terminated it. The
    /// exit status says nothing about the cause.
    DaemonTerminated,
    /// Intermediate: the time ran out, and the intermediate terminated the daemon.
    TimedOut,
    /// Intermediate: what the program of the daemon has said about its state, before a message
    /// that the start has failed: an errno or 0, and a text.
    ProgramStatus(Errno, Vec<u8>),
    /// Intermediate: the intermediate does not supervise the daemon with this pid any more. The
    /// daemon does not send its pid itself, since other code may control the daemon by now.
    Released(Pid),
}

byte_enum! {
    /// An order of the launcher to the intermediate: one byte.
    pub(super) enum Order {
        /// To write the pid, stop the supervision of the daemon, and end.
        Commit = b'c',
        /// To stop the supervision of the daemon, and end.
        Release = b'r',
        /// To terminate a daemon that does not end by itself in time.
        TerminateDaemon = b't',
    }
}

/// The byte by which the launcher acknowledges the report of the daemon.
pub(super) const ACKNOWLEDGEMENT: u8 = b'a';

const HEADER: usize = 16;

/// A message as bytes: tag, subject or flag, kind or flag (2), errno or status (4), pid (4),
/// length of the reason (2), length of the payload (2), reason, payload.
///
/// The frame borrows the reason and the payload: copies would take more of the stack than all
/// else.
pub(super) struct Frame<'a> {
    header: [u8; HEADER],
    reason: &'a [u8],
    payload: &'a [u8],
}

impl<'a> Frame<'a> {
    fn new(tag: u8) -> Self {
        let mut header = [0; HEADER];
        header[0] = tag;
        Self {
            header,
            reason: &[],
            payload: &[],
        }
    }

    fn of_daemon(tag: u8, daemon: Pid) -> Self {
        Self::new(tag).with(8, daemon.number().to_ne_bytes())
    }

    fn of_failure(tag: u8, failure: &'a Failure) -> Self {
        let frame = Self::new(tag)
            .with(1, [failure.subject as u8])
            .with(2, failure.kind.number().to_ne_bytes())
            .with(4, failure.kind.errno().unwrap_or(0).to_ne_bytes());
        // `Failure` has limited the length of both.
        Self {
            reason: failure.reason.as_bytes(),
            ..frame.with(REASON_LENGTH, length_of(failure.reason.as_bytes()))
        }
        .with_payload(&failure.payload)
    }

    fn with_payload(self, payload: &'a [u8]) -> Self {
        Self {
            payload,
            ..self.with(PAYLOAD_LENGTH, length_of(payload))
        }
    }

    fn with<const N: usize>(mut self, at: usize, field: [u8; N]) -> Self {
        self.header[at..at + N].copy_from_slice(&field);
        self
    }

    pub(super) fn parts(&self) -> [&[u8]; MAX_PARTS] {
        [&self.header, self.reason, self.payload]
    }
}

fn length_of(part: &[u8]) -> [u8; 2] {
    u16::try_from(part.len()).unwrap_or(u16::MAX).to_ne_bytes()
}

/// The offsets of the two lengths.
const REASON_LENGTH: usize = 12;
const PAYLOAD_LENGTH: usize = 14;

const READY: u8 = 1;
const FAILED: u8 = 2;
const DAEMON_HANDLES: u8 = 3;
const DAEMON_ENDED: u8 = 4;
const RELEASED: u8 = 5;
const TIMED_OUT: u8 = 6;
const DAEMON_TERMINATED: u8 = 7;
const PANICKING: u8 = 8;
const PANIC_SURVIVED: u8 = 9;
const PROGRAM_STATUS: u8 = 10;

impl Message {
    /// Async-signal-safe.
    pub(super) fn encode(&self) -> Frame<'_> {
        match self {
            // `UncommittedStart::set_payload` has checked its length.
            Self::Ready(payload) => Frame::new(READY).with_payload(payload),
            Self::Failed(failure) => Frame::of_failure(FAILED, failure),
            Self::Panicking(failure) => Frame::of_failure(PANICKING, failure),
            Self::PanicSurvived => Frame::new(PANIC_SURVIVED),
            Self::DaemonHandles(daemon) => Frame::of_daemon(DAEMON_HANDLES, *daemon),
            Self::DaemonEnded(status) => Frame::new(DAEMON_ENDED)
                .with(1, [u8::from(status.is_some())])
                .with(4, status.map_or(0, ExitStatus::into_raw).to_ne_bytes()),
            Self::DaemonTerminated => Frame::new(DAEMON_TERMINATED),
            Self::TimedOut => Frame::new(TIMED_OUT),
            // `ProgramStatus::new` has limited the length of the text.
            Self::ProgramStatus(errno, text) => Frame::new(PROGRAM_STATUS)
                .with(4, errno.to_ne_bytes())
                .with_payload(text),
            Self::Released(daemon) => Frame::of_daemon(RELEASED, *daemon),
        }
    }

    /// Decodes the message at the beginning of `bytes`, and returns its length too. Returns `None`
    /// until the message is complete. Fails for bytes that no process of a start sends.
    pub(super) fn decode(bytes: &[u8]) -> Result<Option<(Self, usize)>, Errno> {
        let Some(header) = bytes.get(..HEADER) else {
            return Ok(None);
        };
        let two = |at: usize| u16::from_ne_bytes([header[at], header[at + 1]]);
        let four = |at: usize| [header[at], header[at + 1], header[at + 2], header[at + 3]];
        let code = Errno::from_ne_bytes(four(4));
        let reason_length = usize::from(two(REASON_LENGTH));
        let payload_length = usize::from(two(PAYLOAD_LENGTH));
        let (max_reason, max_payload) = max_lengths(header[0]);
        if reason_length > max_reason || payload_length > max_payload {
            return Err(errno::EPROTO);
        }
        let length = HEADER + reason_length + payload_length;
        let Some(parts) = bytes.get(HEADER..length) else {
            return Ok(None);
        };
        let (reason, payload) = parts.split_at(reason_length);
        let failure = || {
            Some(Failure {
                kind: ErrorKind::from_number(two(2), code)?,
                subject: SubjectKind::from_byte(header[1])?,
                reason: Cow::Owned(String::from_utf8_lossy(reason).into_owned()),
                payload: payload.to_vec(),
            })
        };
        let daemon = || Pid::from_number(u32::from_ne_bytes(four(8)));
        let message = match header[0] {
            READY => Some(Self::Ready(payload.to_vec())),
            FAILED => failure().map(Self::Failed),
            PANICKING => failure().map(Self::Panicking),
            PANIC_SURVIVED => Some(Self::PanicSurvived),
            DAEMON_HANDLES => daemon().map(Self::DaemonHandles),
            DAEMON_ENDED => {
                let status = (header[1] != 0).then(|| ExitStatus::from_raw(code));
                Some(Self::DaemonEnded(status))
            }
            DAEMON_TERMINATED => Some(Self::DaemonTerminated),
            TIMED_OUT => Some(Self::TimedOut),
            PROGRAM_STATUS => Some(Self::ProgramStatus(code, payload.to_vec())),
            RELEASED => daemon().map(Self::Released),
            _ => None,
        };
        let message = message.ok_or(errno::EPROTO)?;
        Ok(Some((message, length)))
    }
}

/// The lengths of the longest reason and payload of a message.
fn max_lengths(tag: u8) -> (usize, usize) {
    match tag {
        READY | PROGRAM_STATUS => (0, MAX_PAYLOAD),
        FAILED => (MAX_REASON, MAX_PAYLOAD),
        PANICKING => (MAX_REASON, 0),
        _ => (0, 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_is_decoded_as_it_was_encoded() {
        let failed = |reason: &'static str| {
            let failure = Failure::from(ErrorKind::LockPidfile(11)).with_reason(reason);
            Message::Failed(failure.with_subject(SubjectKind::StandardError))
        };
        let longest = || vec![b'p'; MAX_PAYLOAD];
        let with_payload = |reason: String, payload: &[u8]| {
            let failure = Failure::from(ErrorKind::NotReady).with_reason(reason);
            Message::Failed(failure.with_payload(payload))
        };
        for message in [
            Message::Ready(Vec::new()),
            Message::Ready(longest()),
            failed(""),
            failed("why not"),
            with_payload(String::new(), b"payload"),
            with_payload("r".repeat(MAX_REASON), &longest()),
            Message::Panicking(Failure::from(ErrorKind::Panicked).with_reason("out of luck")),
            Message::PanicSurvived,
            Message::DaemonHandles(Pid::current()),
            Message::DaemonEnded(None),
            Message::DaemonEnded(Some(ExitStatus::from_raw(9))),
            Message::DaemonTerminated,
            Message::TimedOut,
            Message::ProgramStatus(0, longest()),
            Message::ProgramStatus(98, Vec::new()),
            Message::Released(Pid::current()),
        ] {
            let bytes = message.encode().parts().concat();
            for short in 0..bytes.len() {
                assert_eq!(Message::decode(&bytes[..short]), Ok(None));
            }
            assert_eq!(Message::decode(&bytes), Ok(Some((message, bytes.len()))));
        }
    }

    #[test]
    fn every_subject_is_decoded_as_it_was_encoded() {
        for subject in (0..).map_while(SubjectKind::from_byte) {
            let failure = Failure::from(ErrorKind::NotReady).with_subject(subject);
            let message = Message::Failed(failure);
            let decoded = Message::decode(&message.encode().parts().concat());
            assert_eq!(decoded, Ok(Some((message, HEADER))));
        }
    }

    #[test]
    fn every_order_has_its_byte() {
        for order in [Order::Commit, Order::Release, Order::TerminateDaemon] {
            assert_eq!(Order::from_byte(order as u8), Some(order));
        }
        assert_eq!(Order::from_byte(ACKNOWLEDGEMENT), None);
    }

    #[test]
    fn bytes_that_no_process_sends_are_refused() {
        let unknown_kind = [FAILED, 0, 255, 255, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let unknown_subject = [FAILED, 255, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let no_pid = Frame::new(RELEASED).header;
        let claims = |tag: u8, length_at: usize, length: usize| {
            let length = u16::try_from(length).expect("two bytes hold it");
            let frame = Frame::new(tag)
                .with(2, ErrorKind::Panicked.number().to_ne_bytes())
                .with(8, Pid::current().number().to_ne_bytes())
                .with(length_at, length.to_ne_bytes());
            [&frame.header[..], &[0; MAX_REASON + MAX_PAYLOAD]].concat()
        };
        for (tag, max_reason, max_payload) in [
            (READY, 0, MAX_PAYLOAD),
            (PROGRAM_STATUS, 0, MAX_PAYLOAD),
            (FAILED, MAX_REASON, MAX_PAYLOAD),
            (PANICKING, MAX_REASON, 0),
            (PANIC_SURVIVED, 0, 0),
            (RELEASED, 0, 0),
        ] {
            for (length_at, max) in [(REASON_LENGTH, max_reason), (PAYLOAD_LENGTH, max_payload)] {
                assert!(Message::decode(&claims(tag, length_at, max)).is_ok());
                for length in [max + 1, usize::from(u16::MAX)] {
                    let bytes = claims(tag, length_at, length);
                    assert_eq!(Message::decode(&bytes), Err(errno::EPROTO), "{tag}");
                    assert_eq!(Message::decode(&bytes[..HEADER]), Err(errno::EPROTO));
                }
            }
        }
        for bytes in [
            &[0; HEADER],
            &[255; HEADER],
            &unknown_kind,
            &unknown_subject,
            &no_pid[..],
        ] {
            assert_eq!(Message::decode(bytes), Err(errno::EPROTO));
        }
    }
}
