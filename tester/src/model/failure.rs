//! Why a start must fail.

use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use super::credentials::Credentials;
use crate::config::{Bytes, ErrorText, Identity};

/// Why a start must fail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) kind: &'static str,
    pub(crate) errno: Option<i32>,
    pub(crate) path: Option<Bytes>,
    /// The user, group, stream or option that the error names.
    pub(crate) name: Option<String>,
    pub(crate) running_pid: Option<u32>,
    /// The exit status of the daemon.
    pub(crate) status: Option<i32>,
    /// The reason, which replaces the text of the errno.
    pub(crate) reason: Option<String>,
    /// Boxed, so that a `Result` stays small.
    pub(crate) payload: Option<Box<Bytes>>,
}

/// The length of the longest payload.
pub(crate) const MAX_PAYLOAD: usize = 2048;

/// The reason of a payload that is too long.
pub(crate) fn too_long(length: usize) -> String {
    format!("{length} bytes; the limit is {MAX_PAYLOAD} bytes")
}

/// The reason of a fork(2) that a limit has refused.
fn too_many_processes() -> String {
    let reason = io::Error::from_raw_os_error(libc::EAGAIN);
    format!(
        "{reason}: a limit on the number of processes is reached: that of the user \
         (RLIMIT_NPROC), of the container or service, or of the system"
    )
}

impl Failure {
    pub(crate) fn new(kind: &'static str, errno: impl Into<Option<i32>>) -> Self {
        Self {
            kind,
            errno: errno.into(),
            path: None,
            name: None,
            running_pid: None,
            status: None,
            reason: None,
            payload: None,
        }
    }

    /// Adds a payload, or to the reason of one line that the payload is left out.
    pub(crate) fn with_payload(mut self, payload: Option<&Bytes>) -> Self {
        match payload {
            Some(Bytes(payload)) if payload.len() > MAX_PAYLOAD => {
                let note = format!(" (its payload is left out: {})", too_long(payload.len()));
                self.reason = self.reason.map(|reason| reason + &note);
            }
            _ => self.payload = payload.cloned().map(Box::new),
        }
        self
    }

    pub(crate) fn at(mut self, path: Option<&Bytes>) -> Self {
        self.path = path.cloned();
        self
    }

    pub(crate) fn with_reason(mut self, reason: impl Into<String>) -> Self {
        self.reason = Some(reason.into());
        self
    }

    pub(crate) fn with_subject<'a>(mut self, identity: impl Into<Option<&'a Identity>>) -> Self {
        if let Some(identity) = identity.into() {
            self.name = Some(match identity {
                Identity::Name(name) => name.clone(),
                Identity::Id(id) => id.to_string(),
            });
        }
        self
    }

    /// What the error calls the file at its path.
    pub(crate) fn with_name(mut self, name: &str) -> Self {
        self.name = Some(name.to_owned());
        self
    }

    /// Adds who lacks a right, and which capabilities the deed requires.
    pub(crate) fn refused(self, me: &Credentials, deed: &str, capabilities: &str) -> Self {
        let reason = io::Error::from_raw_os_error(libc::EPERM);
        let has_capabilities = cfg!(target_os = "linux");
        self.with_reason(match (me.uid.effective, has_capabilities) {
            (0, true) => format!(
                "{reason}: this process runs as root, but lacks {capabilities}, \
                 or a sandbox or user namespace forbids {deed}"
            ),
            (0, false) => {
                format!("{reason}: this process runs as root, but a sandbox forbids {deed}")
            }
            (uid, true) => format!(
                "{reason}: this process runs as uid {uid}; {deed} requires root, or {capabilities}"
            ),
            (uid, false) => {
                format!("{reason}: this process runs as uid {uid}; {deed} requires root")
            }
        })
    }

    /// Makes the subject the primary group of the user.
    pub(crate) fn of_user(mut self) -> Self {
        self.name = self.name.map(|name| format!("of user {name}"));
        self
    }

    /// The text of the error: what failed, the subject, and why. A reason of the model has one
    /// line.
    pub(crate) fn text(&self) -> String {
        let what = match self.kind {
            "ChangeDirectory" => "cannot change to directory",
            "CreateDirectory" => "cannot create directory",
            "LocateDirectory" => "cannot locate directory",
            "UseDirectory" => "cannot use directory",
            "Chroot" => "cannot change root directory to",
            "ChmodPidfile" => "cannot change mode of pid file",
            "DaemonExited" => "the daemon ended before it was ready",
            "ChownLogFile" => "cannot change owner of",
            "ChownPidfile" if self.path.is_none() => "cannot change owner of pid file to",
            "ChownPidfile" => "cannot change owner of pid file",
            "Fork" => "cannot fork",
            "GroupContainsNul" => "NUL byte in group name",
            "GroupNotFound" => "unknown group",
            "Initialize" => "the initialization failed",
            "KeepCapabilities" => "cannot keep capabilities",
            "LockPidfile" => "cannot lock pid file",
            "MultiThreaded" => "cannot fork safely",
            "NotReady" => "the daemon is not ready",
            "OpenLogFile" => "cannot open",
            "OpenPidfile" => "cannot open pid file",
            "Panicked" => "the daemon panicked",
            "PayloadTooLong" => "the payload for the launcher is too long",
            "PathContainsNul" => "NUL byte in path",
            "PrimaryGroupUnknown" => "cannot find the primary group of user",
            "PrivilegedAction" => "the privileged action failed",
            "PrivilegesRetained" if self.name.is_none() => "the process retained privileges",
            "PrivilegesRetained" => "the process retained privileges after the change to",
            "SetEnvironment" => "cannot set the environment",
            "SetGroup" => "cannot change to group",
            "SetNoNewPrivileges" => "cannot set no_new_privs",
            "SetSupplementaryGroups" if self.name.is_some() => {
                "cannot set supplementary groups for"
            }
            "SetSupplementaryGroups" => "cannot set supplementary groups",
            "SetUser" => "cannot change to user",
            "StartupTimeout" => "the daemon was not ready in time",
            "Unsupported" => "not supported on this platform:",
            "TakeOverPidfile" => "cannot take over pid file",
            "UserEnvironmentUnknown" => {
                "cannot set the environment: no entry in the database for user"
            }
            "UserContainsNul" => "NUL byte in user name",
            "UserNotFound" => "unknown user",
            kind => panic!("the oracle has no words for {kind}"),
        };
        let visible = |text: String| match text.is_empty() {
            true => String::from(r#""""#),
            false => text,
        };
        let path = (self.path.as_ref()).map(|path| String::from_utf8_lossy(&path.0).into_owned());
        let (path, name) = (path.map(visible), self.name.clone().map(visible));
        let subject = match (path, name) {
            (Some(path), Some(name)) => Some(format!("{name} {path}")),
            (path, name) => path.or(name),
        };
        let subject = subject.map(|subject| format!(" {}", on_one_line(&subject)));
        let running = self.running_pid;
        let running = running.map(|pid| format!(": held by running daemon {pid}"));
        let limits = matches!((self.kind, self.errno), ("Fork", Some(libc::EAGAIN)));
        let reason = self.reason.clone().or(limits.then(too_many_processes));
        let reason = reason.map(|reason| format!(": {}", on_one_line(&reason)));
        let errno = self.errno;
        let errno = errno.map(|errno| format!(": {}", io::Error::from_raw_os_error(errno)));
        let status = self.status;
        let status = status.map(|status| format!(" ({})", ExitStatus::from_raw(status)));
        let reason = reason.map(|reason| match status {
            Some(_) => reason.replacen(':', ";", 1),
            None => reason,
        });
        let why = running.or(reason).or(errno);
        [Some(what.to_owned()), subject, status, why]
            .into_iter()
            .flatten()
            .collect()
    }
}

/// Escapes control characters.
pub(crate) fn on_one_line(text: &str) -> String {
    let escaped = |character: char| match character.is_control() {
        true => character.escape_default().to_string(),
        false => character.to_string(),
    };
    text.chars().map(escaped).collect()
}

/// The failure of an id that means 'unchanged' to the kernel.
pub(crate) fn refused_id(kind: &'static str, identity: &Identity) -> Failure {
    let failure = Failure::new(kind, libc::EINVAL).with_subject(identity);
    failure.with_reason("this id means 'unchanged' to the kernel")
}

pub(crate) fn error_text(error: &ErrorText) -> String {
    match error {
        ErrorText::Text(text) | ErrorText::PanicsAfter(text) => text.clone(),
        ErrorText::Chain(texts) => texts.join(": "),
    }
}
