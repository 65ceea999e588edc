//! Errors, with a text by which a person can fix the cause.

use std::borrow::Cow;
use std::fmt::{self, Display};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

use crate::escape::on_one_line;
use crate::subject::{Subject, SubjectKind};
use crate::sys::Errno;

/// Makes [`ErrorKind`] of the table in error_kinds.rs, so that no variant lacks a number, a
/// message or a subject. A number is never reused.
macro_rules! error_kinds {
    ($( $(#[$documentation:meta])* $number:literal $variant:ident $(($errno:ident))? $message:literal $(, $subject:ident)?; )*) => {
        /// The step that has failed.
        ///
        /// The number in a variant is the errno of the failed call: see errno(3). [`Error`]
        /// also has the path, the name or the process that the error is about.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        #[non_exhaustive]
        pub enum ErrorKind {
            $( $(#[$documentation])* $variant $(($errno))?, )*
        }

        impl ErrorKind {
            fn message(self) -> &'static str {
                match self {
                    $( Self::$variant { .. } => $message, )*
                }
            }

            /// What an error of this kind is about, unless its maker says otherwise.
            pub(crate) fn subject(self) -> SubjectKind {
                match self {
                    $( Self::$variant { .. } => error_kinds!(@subject $($subject)?), )*
                }
            }

            pub(crate) fn errno(self) -> Option<Errno> {
                match self {
                    $( error_kinds!(@variant errno $variant $(($errno))?)
                        => error_kinds!(@errno errno $($errno)?), )*
                }
            }

            /// The number of the variant in a message.
            pub(crate) fn number(self) -> u16 {
                match self {
                    $( Self::$variant { .. } => $number, )*
                }
            }

            pub(crate) fn from_number(number: u16, errno: Errno) -> Option<Self> {
                match number {
                    $( $number => Some(error_kinds!(@variant errno $variant $(($errno))?)), )*
                    _ => None,
                }
            }
        }
    };
    (@subject $subject:ident) => { SubjectKind::$subject };
    (@subject) => { SubjectKind::None };
    (@errno $name:ident $errno:ident) => { Some($name) };
    (@errno $name:ident) => { None };
    (@variant $name:ident $variant:ident ($errno:ident)) => { Self::$variant($name) };
    (@variant $name:ident $variant:ident) => { Self::$variant };
}

// The tests include the table, too.
include!("error_kinds.rs");

impl Display for ErrorKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.message())?;
        match self.errno() {
            Some(errno) => write!(formatter, ": {}", io::Error::from_raw_os_error(errno)),
            None => Ok(()),
        }
    }
}

impl std::error::Error for ErrorKind {}

/// Why a start has failed.
///
/// The text says what has failed, on which file or user, and why: `cannot lock pid file
/// /run/d.pid: held by running daemon 4242`. The text is complete: the error has no
/// [`source`](std::error::Error::source), so that a loop over causes prints everything once.
/// `Debug` shows the same text and the [`kind`](Self::kind). `fn main() -> Result<(), Error>`
/// prints this form.
///
/// The text of a closure's error or of a panic may have several lines, such as the report of a
/// parser. These lines follow the first line, indented by four spaces, so that no line looks like
/// the message of another program:
///
/// ```text
/// the initialization failed:
///     TOML parse error at line 3, column 8
///       |
///     3 | port = = 80
///       |        ^
/// ```
///
/// A text cannot control the terminal: the library escapes all control characters, and the
/// characters that change the direction of text. It leaves only the line feeds and tabs of a
/// closure's error or of a panic. Paths and names stay on one line.
#[derive(Clone, PartialEq, Eq)]
pub struct Error(Box<Details>);

/// Boxed, so that a `Result` stays small.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Details {
    kind: ErrorKind,
    subject: Option<Subject>,
    running_pid: Option<u32>,
    daemon_exit_status: Option<ExitStatus>,
    reason: Option<Cow<'static, str>>,
    payload: Vec<u8>,
    is_reported_by_launcher: bool,
}

impl Error {
    /// The step that has failed.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The path that the error is about, as the caller gave it to the builder. Of a
    /// [`Directory`](crate::Directory) that could be located, it is the absolute path.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        match &self.0.subject {
            Some(Subject::Path(path) | Subject::LogFile { path, .. }) => Some(path),
            _ => None,
        }
    }

    /// The pid of the daemon that holds the lock of the pid file.
    ///
    /// `None` unless the error is [`ErrorKind::LockPidfile`] and
    /// [`PidFile::running`](crate::PidFile::running) can name the daemon.
    #[must_use]
    pub fn running_pid(&self) -> Option<u32> {
        self.0.running_pid
    }

    /// The exit status of a daemon that ended before it was ready. `None` if the status is
    /// unknown.
    #[must_use]
    pub fn daemon_exit_status(&self) -> Option<ExitStatus> {
        self.0.daemon_exit_status
    }

    /// The errno of the failed call, if a call has failed.
    #[must_use]
    pub fn raw_os_error(&self) -> Option<i32> {
        self.0.kind.errno()
    }

    /// The bytes that the failed daemon has added for a program that reads the error, such as an
    /// exit status or a structured message: see [`StartFailure`](crate::StartFailure) and
    /// [`Readiness::fail_with`](crate::Readiness::fail_with). Empty if it has added none.
    ///
    /// # Security
    ///
    /// The bytes are as the daemon has sent them, after it has changed its identity. A launcher
    /// that has more rights than the daemon must not trust them.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        &self.0.payload
    }

    /// Whether this is the daemon's copy of an error that the launcher returns.
    pub(crate) fn is_reported_by_launcher(&self) -> bool {
        self.0.is_reported_by_launcher
    }

    pub(crate) fn reported_by_launcher(mut self, is_reported: bool) -> Self {
        self.0.is_reported_by_launcher = is_reported;
        self
    }

    /// Prints the error of a process without a launcher. A failed write is no panic, unlike
    /// that of `eprintln!`.
    pub(crate) fn to_standard_error(&self) {
        let _ = writeln!(io::stderr(), "{self}");
    }

    pub(crate) fn with_subject(mut self, subject: impl Into<Option<Subject>>) -> Self {
        self.0.subject = subject.into();
        self
    }

    /// Adds to the reason, which may be the text of the errno.
    pub(crate) fn with_appended_reason(self, text: &str) -> Self {
        let reason = match (&self.0.reason, self.raw_os_error()) {
            (Some(reason), _) => format!("{reason}; {text}"),
            (None, Some(errno)) => format!("{}; {text}", io::Error::from_raw_os_error(errno)),
            (None, None) => text.to_owned(),
        };
        self.with_reason(reason)
    }

    pub(crate) fn with_exit_status(mut self, status: Option<ExitStatus>) -> Self {
        self.0.daemon_exit_status = status;
        self
    }
}

/// The parts of an error, for the tests of a program that handles errors. An error begins as
/// `Error::from(kind)`:
///
/// ```
/// use daemonize2::{Error, ErrorKind};
///
/// /// The exit status of a program whose start has failed.
/// fn status_of(error: &Error) -> u8 {
///     match error.kind() {
///         // Another daemon of this program is running.
///         ErrorKind::LockPidfile(_) if error.running_pid().is_some() => 0,
///         _ => 1,
///     }
/// }
///
/// let held = Error::from(ErrorKind::LockPidfile(11))
///     .with_path("/run/clockd.pid")
///     .with_running_pid(4242);
/// assert_eq!(status_of(&held), 0);
/// assert_eq!(
///     held.to_string(),
///     "cannot lock pid file /run/clockd.pid: held by running daemon 4242"
/// );
/// let refused = Error::from(ErrorKind::Initialize).with_reason("no port is free");
/// assert_eq!(status_of(&refused), 1);
/// assert_eq!(refused.to_string(), "the initialization failed: no port is free");
/// ```
impl Error {
    /// Sets the [path](Self::path) that the error is about.
    #[must_use]
    pub fn with_path(self, path: impl Into<PathBuf>) -> Self {
        self.with_subject(Subject::Path(path.into()))
    }

    /// Sets the reason, which follows the kind in the text. An empty reason is none.
    #[must_use]
    pub fn with_reason(mut self, reason: impl Into<Cow<'static, str>>) -> Self {
        let reason = reason.into();
        self.0.reason = (!reason.is_empty()).then_some(reason);
        self
    }

    /// Sets the [pid of the running daemon](Self::running_pid). The text then shows the pid in
    /// place of the reason.
    #[must_use]
    pub fn with_running_pid(mut self, running_pid: u32) -> Self {
        self.0.running_pid = Some(running_pid);
        self
    }

    /// Sets the [exit status of the daemon](Self::daemon_exit_status).
    #[must_use]
    pub fn with_daemon_exit_status(self, status: ExitStatus) -> Self {
        self.with_exit_status(Some(status))
    }

    /// Sets the [payload](Self::payload).
    #[must_use]
    pub fn with_payload(mut self, payload: impl Into<Vec<u8>>) -> Self {
        self.0.payload = payload.into();
        self
    }
}

/// An error of this kind, with no path, no reason and no payload.
impl From<ErrorKind> for Error {
    fn from(kind: ErrorKind) -> Self {
        Self(Box::new(Details {
            kind,
            subject: None,
            running_pid: None,
            daemon_exit_status: None,
            reason: None,
            payload: Vec::new(),
            is_reported_by_launcher: false,
        }))
    }
}

impl Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let details = &*self.0;
        formatter.write_str(details.kind.message())?;
        let subject = match &details.subject {
            Some(Subject::Path(path)) => Some(visible(path.to_string_lossy())),
            Some(Subject::Name(name)) => Some(visible(name.into())),
            Some(Subject::LogFile { stream, path }) => {
                let path = visible(path.to_string_lossy());
                Some(format!("{stream} log file {path}").into())
            }
            None => None,
        };
        if let Some(subject) = subject {
            formatter.write_str(match details.kind {
                ErrorKind::SetSupplementaryGroups(_) => " for ",
                ErrorKind::PrivilegesRetained => " after the change to ",
                ErrorKind::ChownPidfile(_) if self.path().is_none() => " to ",
                _ => " ",
            })?;
            formatter.write_str(&on_one_line(&subject, &[]))?;
        }
        if let Some(pid) = details.running_pid {
            return write!(formatter, ": held by running daemon {pid}");
        }
        let shows_status = details.kind == ErrorKind::DaemonExited || details.reason.is_none();
        let status = details.daemon_exit_status.filter(|_| shows_status);
        if let Some(status) = status {
            write!(formatter, " ({status})")?;
        }
        match (&details.reason, status, details.kind.errno()) {
            (Some(reason), Some(_), _) if !reason.contains('\n') => {
                write!(formatter, "; {}", on_one_line(reason, &[]))
            }
            (Some(reason), ..) => write_reason(formatter, reason),
            (None, None, Some(errno)) => {
                write!(formatter, ": {}", io::Error::from_raw_os_error(errno))
            }
            _ => Ok(()),
        }
    }
}

/// An empty path or name, often that of a variable that is not set, would not be seen.
fn visible(subject: Cow<'_, str>) -> Cow<'_, str> {
    match &*subject {
        "" => r#""""#.into(),
        _ => subject,
    }
}

/// Shows the text first, since `main` prints this of an error that it returns.
impl fmt::Debug for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.to_string();
        let separator = if text.contains('\n') { '\n' } else { ' ' };
        write!(formatter, "{text}{separator}({:?})", self.0.kind)
    }
}

/// Has no source: the text is complete.
impl std::error::Error for Error {}

impl From<Error> for io::Error {
    /// Wraps the whole error. The kind follows from the errno, if the error has one.
    fn from(error: Error) -> Self {
        let kind = match error.raw_os_error() {
            Some(errno) => io::Error::from_raw_os_error(errno).kind(),
            None => io::ErrorKind::Other,
        };
        io::Error::new(kind, error)
    }
}

/// Writes a text of unknown origin as the reason of an error. The lines of a longer text stay
/// aligned.
fn write_reason(out: &mut impl fmt::Write, text: &str) -> fmt::Result {
    const TAB: &[char] = &['\t'];

    let is_blank = |line: &&str| line.trim().is_empty();
    let lines: Vec<&str> = text.trim_end().lines().skip_while(is_blank).collect();
    match lines[..] {
        [] => Ok(()),
        [line] => write!(out, ": {}", on_one_line(line.trim_start(), TAB)),
        _ => {
            out.write_char(':')?;
            lines.iter().try_for_each(|line| match is_blank(line) {
                true => out.write_char('\n'),
                false => write!(out, "\n    {}", on_one_line(line, TAB)),
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_its_number() {
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
    fn a_message_names_the_owner_that_a_pid_file_cannot_have() {
        let denied = Error::from(ErrorKind::ChownPidfile(libc::EPERM))
            .with_subject(Subject::Name("nobody".into()));
        assert_eq!(
            denied.to_string(),
            "cannot change owner of pid file to nobody: Operation not permitted (os error 1)"
        );
    }

    #[test]
    fn debug_shows_the_text_and_the_kind() {
        let error = Error::from(ErrorKind::LockPidfile(11))
            .with_subject(Subject::Path("/run/d.pid".into()))
            .with_running_pid(4242);
        let text = "cannot lock pid file /run/d.pid: held by running daemon 4242 (LockPidfile(11))";
        assert_eq!(format!("{error:?}"), text);
        assert_eq!(format!("{error:#?}"), text);
        let error = Error::from(ErrorKind::Initialize).with_reason("two\nlines");
        let text = "the initialization failed:\n    two\n    lines\n(Initialize)";
        assert_eq!(format!("{error:?}"), text);
    }

    #[test]
    fn a_name_stays_on_its_line() {
        let error = Error::from(ErrorKind::UserNotFound)
            .with_subject(Subject::Name("two\nlines\t\u{1b}[2J\u{202e}".into()));
        assert_eq!(
            error.to_string(),
            "unknown user two\\nlines\\t\\u{1b}[2J\\u{202e}"
        );
    }

    #[test]
    fn a_cause_keeps_its_lines() {
        for (text, shown) in [
            ("", "the daemon panicked"),
            (" \n\t\n", "the daemon panicked"),
            ("one line\n", "the daemon panicked: one line"),
            ("\n\n  one line", "the daemon panicked: one line"),
            ("two\nlines\n\n", "the daemon panicked:\n    two\n    lines"),
            (
                "a = = b\r\n    ^\r\n",
                "the daemon panicked:\n    a = = b\n        ^",
            ),
            (
                "  indented\n\nfar",
                "the daemon panicked:\n      indented\n\n    far",
            ),
            (
                "over\rwritten\t\u{9b}1m",
                "the daemon panicked: over\\rwritten\t\\u{9b}1m",
            ),
        ] {
            let error = Error::from(ErrorKind::Panicked).with_reason(text);
            assert_eq!(error.to_string(), shown);
        }
    }

    /// A loop over causes shows nothing twice.
    #[test]
    fn no_source_repeats_the_text() {
        for kind in (0..=u16::MAX).filter_map(|number| ErrorKind::from_number(number, 2)) {
            let error = Error::from(kind);
            assert!(std::error::Error::source(&error).is_none());
            let errno_text = io::Error::from_raw_os_error(2).to_string();
            let times = error.to_string().matches(&errno_text).count();
            assert_eq!(times, usize::from(kind.errno().is_some()), "{error}");
            let error = io::Error::from(error);
            assert!(std::error::Error::source(&error).is_none());
        }
    }

    #[test]
    fn an_io_error_of_an_error_keeps_its_text() {
        let error = Error::from(ErrorKind::OpenPidfile(libc::EACCES))
            .with_subject(Subject::Path("/run/d.pid".into()));
        let text = error.to_string();
        assert_eq!(error.raw_os_error(), Some(libc::EACCES));
        let error = io::Error::from(error);
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
        assert_eq!(error.to_string(), text);
    }
}
