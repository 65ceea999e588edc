//! Messages.

use std::borrow::Cow;
use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;

use crate::error::ErrorKind;
use crate::failure::{About, Failure, LONGEST_TEXT, cut};
use crate::sys::{Errno, Pid, errno};

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

const HEADER: usize = 16;
pub(crate) const LONGEST: usize = HEADER + LONGEST_TEXT;

/// A message as bytes:
/// tag, about or flags, kind or flags (2), errno or status (4), pid (4),
/// length of the text (2), nothing (2), text.
pub(crate) struct Frame {
    pub(crate) bytes: [u8; LONGEST],
    pub(crate) length: usize,
}

impl Frame {
    fn of_failure(tag: u8, failure: &Failure) -> Self {
        let errno = failure.kind.errno().unwrap_or(0);
        let kind = failure.kind.number();
        Self::new(tag, failure.about as u8, kind, errno, 0, &failure.text)
    }

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
    pub(crate) fn encode(&self) -> Frame {
        match self {
            Self::Ready => Frame::new(READY, 0, 0, 0, 0, ""),
            Self::Failed(failure) => Frame::of_failure(FAILED, failure),
            Self::Panicking(failure) => Frame::of_failure(PANICKING, failure),
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
    pub(crate) fn decode(bytes: &[u8]) -> Result<Option<(Self, usize)>, Errno> {
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
