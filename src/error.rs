//! What can go wrong, told so that a person can mend it.

use std::borrow::Cow;
use std::fmt::{self, Display};
use std::io::{self, Write as _};
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

use crate::sys::Errno;

/// Makes [`ErrorKind`] and, for each variant, its place on the wire and its
/// words, so that none can be added without them. Numbers are never reused.
macro_rules! error_kinds {
    ($( $(#[$documentation:meta])* $number:literal $variant:ident $(($errno:ident))? $words:literal; )*) => {
        /// What has failed.
        ///
        /// A number in a variant is the errno of the call that failed, as
        /// errno(3) has it; [`Error`] also knows the path, the name or the
        /// process that it failed on.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        #[non_exhaustive]
        pub enum ErrorKind {
            $( $(#[$documentation])* $variant $(($errno))?, )*
        }

        impl ErrorKind {
            fn words(self) -> &'static str {
                match self {
                    $( Self::$variant { .. } => $words, )*
                }
            }

            pub(crate) fn errno(self) -> Option<Errno> {
                match self {
                    $( error_kinds!(@pattern errno $variant $(($errno))?)
                        => error_kinds!(@errno errno $($errno)?), )*
                }
            }

            /// The number that stands for the variant in a report.
            pub(crate) fn number(self) -> u16 {
                match self {
                    $( Self::$variant { .. } => $number, )*
                }
            }

            pub(crate) fn from_number(number: u16, errno: Errno) -> Option<Self> {
                match number {
                    $( $number => Some(error_kinds!(@make errno $variant $(($errno))?)), )*
                    _ => None,
                }
            }
        }
    };
    (@pattern $name:ident $variant:ident ($errno:ident)) => { Self::$variant($name) };
    (@pattern $name:ident $variant:ident) => { Self::$variant };
    (@errno $name:ident $errno:ident) => { Some($name) };
    (@errno $name:ident) => { None };
    (@make $name:ident $variant:ident ($errno:ident)) => { Self::$variant($name) };
    (@make $name:ident $variant:ident) => { Self::$variant };
}

// A file of its own, since it is read by the tests, too.
include!("error_kinds.rs");

impl Display for ErrorKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.words())?;
        match self.errno() {
            Some(errno) => write!(formatter, ": {}", io::Error::from_raw_os_error(errno)),
            None => Ok(()),
        }
    }
}

impl std::error::Error for ErrorKind {}

/// Why a daemon was not started.
///
/// The text says what failed, on what, why, and what is there instead, on one
/// line: `cannot lock pid file /run/d.pid: held by running daemon 4242`.
/// Control characters in it are escaped. Match on [`kind`](Self::kind).
#[derive(Clone, PartialEq, Eq)]
pub struct Error(Box<Details>);

/// All that is known; boxed, so that a `Result` stays small.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Details {
    kind: ErrorKind,
    subject: Option<Subject>,
    running_pid: Option<u32>,
    daemon_exit_status: Option<ExitStatus>,
    text: Option<Cow<'static, str>>,
    source: Option<Source>,
}

/// What an error is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Subject {
    Path(PathBuf),
    Name(String),
}

/// An `io::Error` that is nothing but its errno, and therefore unwind safe.
#[derive(Debug)]
struct Source(AssertUnwindSafe<io::Error>);

impl Source {
    fn new(errno: Errno) -> Self {
        Self(AssertUnwindSafe(io::Error::from_raw_os_error(errno)))
    }
}

impl Clone for Source {
    fn clone(&self) -> Self {
        Self::new(self.0.raw_os_error().unwrap_or(0))
    }
}

impl PartialEq for Source {
    fn eq(&self, other: &Self) -> bool {
        self.0.raw_os_error() == other.0.raw_os_error()
    }
}

impl Eq for Source {}

impl Error {
    /// What has failed.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The path that it failed on, as it was given to the builder.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        match &self.0.subject {
            Some(Subject::Path(path)) => Some(path),
            _ => None,
        }
    }

    /// The pid of the daemon that holds the lock of the pid file.
    ///
    /// `None` unless the error is [`ErrorKind::LockPidfile`] and a process of
    /// that pid was seen to have this very file open: a number in a file
    /// proves nothing.
    #[must_use]
    pub fn running_pid(&self) -> Option<u32> {
        self.0.running_pid
    }

    /// How the daemon ended, where it ended before it was ready and the
    /// status is known.
    #[must_use]
    pub fn daemon_exit_status(&self) -> Option<ExitStatus> {
        self.0.daemon_exit_status
    }

    /// The errno of the call that failed, where it was one.
    #[must_use]
    pub fn raw_os_error(&self) -> Option<i32> {
        self.0.kind.errno()
    }

    /// For a process that has no launcher and is about to end. It does so also
    /// where nothing can be written: `eprintln!` would panic instead.
    pub(crate) fn to_standard_error(&self) {
        let _ = writeln!(io::stderr(), "{self}");
    }

    pub(crate) fn about(mut self, subject: Option<Subject>) -> Self {
        self.0.subject = subject;
        self
    }

    pub(crate) fn because(mut self, text: impl Into<Cow<'static, str>>) -> Self {
        let text = text.into();
        self.0.text = (!text.is_empty()).then_some(text);
        self
    }

    pub(crate) fn held_by(mut self, running_pid: u32) -> Self {
        self.0.running_pid = Some(running_pid);
        self
    }

    pub(crate) fn daemon_ended(mut self, status: Option<ExitStatus>) -> Self {
        self.0.daemon_exit_status = status;
        self
    }
}

impl From<ErrorKind> for Error {
    fn from(kind: ErrorKind) -> Self {
        Self(Box::new(Details {
            kind,
            subject: None,
            running_pid: None,
            daemon_exit_status: None,
            text: None,
            source: kind.errno().map(Source::new),
        }))
    }
}

impl Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let details = &*self.0;
        formatter.write_str(details.kind.words())?;
        let subject = match &details.subject {
            Some(Subject::Path(path)) => Some(path.to_string_lossy()),
            Some(Subject::Name(name)) => Some(Cow::Borrowed(name.as_str())),
            None => None,
        };
        if let Some(subject) = subject {
            formatter.write_str(match details.kind {
                ErrorKind::SetSupplementaryGroups(_) | ErrorKind::PrivilegesRetained => " for ",
                ErrorKind::ChownPidfile(_) if self.path().is_none() => " to ",
                _ => " ",
            })?;
            write_on_one_line(formatter, &subject)?;
        }
        if let Some(pid) = details.running_pid {
            write!(formatter, ": held by running daemon {pid}")
        } else if let (Some(status), Some(text)) = (details.daemon_exit_status, &details.text) {
            write!(formatter, " ({status}); {text}")
        } else if let Some(text) = &details.text {
            formatter.write_str(": ")?;
            write_on_one_line(formatter, text)
        } else if let Some(status) = details.daemon_exit_status {
            write!(formatter, " ({status})")
        } else if let Some(source) = &details.source {
            write!(formatter, ": {}", *source.0)
        } else {
            Ok(())
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let details = &*self.0;
        let mut shown = formatter.debug_struct("Error");
        shown.field("kind", &details.kind);
        if let Some(subject) = &details.subject {
            shown.field("subject", subject);
        }
        if let Some(pid) = details.running_pid {
            shown.field("running_pid", &pid);
        }
        if let Some(status) = details.daemon_exit_status {
            shown.field("daemon_exit_status", &status);
        }
        if let Some(text) = &details.text {
            shown.field("text", text);
        }
        shown.finish()
    }
}

impl std::error::Error for Error {
    /// An [`io::Error`], where a call failed with an errno.
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.0.source {
            Some(source) => Some(&*source.0),
            None => None,
        }
    }
}

impl From<Error> for io::Error {
    /// Keeps the whole error inside; the kind is that of the errno, where
    /// there is one.
    fn from(error: Error) -> Self {
        let kind = match error.raw_os_error() {
            Some(errno) => io::Error::from_raw_os_error(errno).kind(),
            None => io::ErrorKind::Other,
        };
        io::Error::new(kind, error)
    }
}

/// Writes text of unknown origin so that it stays on its line and cannot
/// steer a terminal.
fn write_on_one_line(out: &mut impl fmt::Write, text: &str) -> fmt::Result {
    for character in text.chars() {
        if character.is_control() {
            write!(out, "{}", character.escape_default())?;
        } else {
            out.write_char(character)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_survives_the_wire() {
        let mut known = 0;
        for number in 0..=u16::MAX {
            if let Some(kind) = ErrorKind::from_number(number, 7) {
                assert_eq!(kind.number(), number);
                assert!(kind.errno().is_none_or(|errno| errno == 7));
                known += 1;
            }
        }
        assert!(known >= 35);
    }

    #[test]
    fn a_message_names_what_where_and_why() {
        let locked = Error::from(ErrorKind::LockPidfile(libc::EWOULDBLOCK))
            .about(Some(Subject::Path("/run/d.pid".into())))
            .held_by(4242);
        assert_eq!(
            locked.to_string(),
            "cannot lock pid file /run/d.pid: held by running daemon 4242"
        );
        let missing = Error::from(ErrorKind::ChangeDirectory(libc::ENOENT))
            .about(Some(Subject::Path("/nowhere".into())));
        assert_eq!(
            missing.to_string(),
            "cannot change to directory /nowhere: No such file or directory (os error 2)"
        );
        let denied = Error::from(ErrorKind::ChownPidfile(libc::EPERM))
            .about(Some(Subject::Name("nobody".into())));
        assert_eq!(
            denied.to_string(),
            "cannot change owner of pid file to nobody: Operation not permitted (os error 1)"
        );
        let unknown =
            Error::from(ErrorKind::UserNotFound).about(Some(Subject::Name("nemo".into())));
        assert_eq!(unknown.to_string(), "unknown user nemo");
    }

    #[test]
    fn errors_differ_by_what_caused_them() {
        let [one, same, other] = [1, 1, 2].map(Source::new);
        assert_eq!(one, same);
        assert_ne!(one, other);
    }

    #[test]
    fn an_error_shows_what_it_carries_and_nothing_else() {
        let error = Error::from(ErrorKind::LockPidfile(11))
            .about(Some(Subject::Name("d".into())))
            .held_by(4242);
        assert_eq!(
            format!("{error:?}"),
            r#"Error { kind: LockPidfile(11), subject: Name("d"), running_pid: 4242 }"#
        );
    }

    #[test]
    fn a_message_stays_on_its_line() {
        let error = Error::from(ErrorKind::Panicked).because("two\nlines \u{1b}[2J");
        assert_eq!(error.to_string(), "panic: two\\nlines \\u{1b}[2J");
    }

    #[test]
    fn an_error_becomes_an_io_error_and_keeps_what_it_says() {
        let error = Error::from(ErrorKind::OpenPidfile(libc::EACCES))
            .about(Some(Subject::Path("/run/d.pid".into())));
        let text = error.to_string();
        let source = std::error::Error::source(&error).expect("an errno is a source");
        let source = source.downcast_ref::<io::Error>().expect("an io::Error");
        assert_eq!(source.raw_os_error(), Some(libc::EACCES));
        let error = io::Error::from(error);
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
        assert_eq!(error.to_string(), text);
    }
}
