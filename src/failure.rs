//! A failure in a process that cannot return it.

use std::borrow::Cow;

use crate::error::{Error, ErrorKind};
use crate::subject::SubjectKind;

/// A failure of a start. The intermediate and the daemon make one without an allocation and
/// send it to the launcher, which makes an [`Error`] of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) kind: ErrorKind,
    pub(crate) subject: SubjectKind,
    /// Empty where the kind says everything.
    pub(crate) reason: Cow<'static, str>,
    /// The bytes that the caller's code adds. Empty, and thus not on the heap, in the intermediate.
    pub(crate) payload: Vec<u8>,
}

impl Failure {
    /// Replaces the subject that belongs to the kind.
    pub(crate) fn with_subject(self, subject: SubjectKind) -> Self {
        Self { subject, ..self }
    }

    /// Sets the reason, cut to the length that a message carries, in whole characters.
    pub(crate) fn with_reason(self, reason: impl Into<Cow<'static, str>>) -> Self {
        let mut reason = reason.into();
        let end = floor_char_boundary(&reason, MAX_REASON);
        match &mut reason {
            Cow::Borrowed(reason) => *reason = &reason[..end],
            Cow::Owned(reason) => reason.truncate(end),
        }
        Self { reason, ..self }
    }

    /// Adds a payload. The cause of a failure matters more than its payload: if the payload is too
    /// long, the reason says so, and the payload is left out as a whole.
    pub(crate) fn with_payload(self, payload: &[u8]) -> Self {
        let Err(too_long) = check_payload(payload) else {
            return Self {
                payload: payload.to_vec(),
                ..self
            };
        };
        let note = format!(" (its payload is left out: {})", too_long.reason);
        let mut reason = self.reason.trim_end().to_owned();
        reason.truncate(floor_char_boundary(&reason, MAX_REASON - note.len()));
        reason.push_str(&note);
        self.with_reason(reason)
    }
}

/// Refuses a payload that no message carries.
pub(crate) fn check_payload(payload: &[u8]) -> Result<(), Failure> {
    match payload.len() {
        0..=MAX_PAYLOAD => Ok(()),
        length => Err(Failure::from(ErrorKind::PayloadTooLong)
            .with_reason(format!("{length} bytes; the limit is {MAX_PAYLOAD} bytes"))),
    }
}

/// The greatest length of at most `length` bytes at which a text may be cut.
pub(crate) fn floor_char_boundary(text: &str, length: usize) -> usize {
    let mut end = text.len().min(length);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    end
}

/// For a failure that is about none of the options.
impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        Self::from(failure.kind)
            .with_reason(failure.reason)
            .with_payload(failure.payload)
    }
}

impl From<ErrorKind> for Failure {
    fn from(kind: ErrorKind) -> Self {
        Self {
            kind,
            subject: kind.subject(),
            reason: Cow::Borrowed(""),
            payload: Vec::new(),
        }
    }
}

/// The length of the longest reason that a message carries, in bytes.
pub(crate) const MAX_REASON: usize = 2048;

/// The length of the longest payload that a message carries, in bytes.
pub(crate) const MAX_PAYLOAD: usize = 2048;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_that_is_too_long_hides_no_reason() {
        let failed = |reason: &'static str| Failure::from(ErrorKind::NotReady).with_reason(reason);
        let longest = [7; MAX_PAYLOAD];
        assert_eq!(failed("no port").with_payload(&longest).payload, longest);
        let note = " (its payload is left out: 2049 bytes; the limit is 2048 bytes)";
        let failure = failed("no port\n").with_payload(&[7; MAX_PAYLOAD + 1]);
        assert_eq!(failure.payload, [0; 0]);
        assert_eq!(failure.reason, format!("no port{note}"));
        // The reason makes room for the note, in whole characters.
        let long = Failure::from(ErrorKind::NotReady).with_reason("\u{e4}".repeat(MAX_REASON));
        let reason = long.with_payload(&[7; MAX_PAYLOAD + 1]).reason;
        assert!(
            reason.ends_with(note) && reason.starts_with('\u{e4}'),
            "{reason}"
        );
        assert!(reason.len() > MAX_REASON - 2 && reason.len() <= MAX_REASON);
    }
}
