//! A failure of a start.

use std::borrow::Cow;

use crate::error::ErrorKind;

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

    pub(crate) fn from_number(number: u8) -> Option<Self> {
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
}

impl From<ErrorKind> for Failure {
    fn from(kind: ErrorKind) -> Self {
        Self::new(kind, About::Nothing)
    }
}

/// The longest text that travels, in bytes.
pub(crate) const LONGEST_TEXT: usize = 2048;

/// The beginning of a text, not longer than `most` bytes, in whole characters.
pub(crate) fn cut(text: &str, most: usize) -> &str {
    let mut end = text.len().min(most);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}
