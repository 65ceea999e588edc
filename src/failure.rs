//! A failure in a process that cannot return it.

use std::borrow::Cow;

use crate::error::{ErrorKind, SubjectKind};

/// A failure of a start. The intermediate and the daemon make one without an allocation and
/// send it to the launcher, which makes an [`Error`](crate::Error) of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) kind: ErrorKind,
    pub(crate) subject: SubjectKind,
    /// Empty where the kind says everything.
    pub(crate) reason: Cow<'static, str>,
}

impl Failure {
    /// Replaces the subject that belongs to the kind.
    pub(crate) fn with_subject(self, subject: SubjectKind) -> Self {
        Self { subject, ..self }
    }

    /// Sets the reason, cut to the length that a message carries, in whole characters.
    pub(crate) fn with_reason(self, reason: impl Into<Cow<'static, str>>) -> Self {
        let mut reason = reason.into();
        let mut end = reason.len().min(MAX_REASON);
        while !reason.is_char_boundary(end) {
            end -= 1;
        }
        match &mut reason {
            Cow::Borrowed(reason) => *reason = &reason[..end],
            Cow::Owned(reason) => reason.truncate(end),
        }
        Self { reason, ..self }
    }
}

impl From<ErrorKind> for Failure {
    fn from(kind: ErrorKind) -> Self {
        Self {
            kind,
            subject: kind.subject(),
            reason: Cow::Borrowed(""),
        }
    }
}

/// The length of the longest reason that a message carries, in bytes.
pub(crate) const MAX_REASON: usize = 2048;
