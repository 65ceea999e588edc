//! The reasons of errors, for a person: what the library has found, which rights the process
//! lacks, and how to fix it.

use std::fmt::Write as _;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::ExitStatus;
use std::time::Duration;

use crate::error::{Error, ErrorKind};
use crate::failure::Failure;
use crate::options::Options;
use crate::pid_file::describe_holder;
use crate::start::progress::Step;
use crate::streams::StreamsPlan;
use crate::subject::{Subject, SubjectKind};
use crate::sys::{self, Errno, Uid, errno};
use crate::trust;

/// Makes the error that the caller gets. `pid_file` is the absolute path.
pub(super) fn describe(failure: Failure, options: &Options, pid_file: Option<&Path>) -> Error {
    let failure = with_rights(failure, options);
    let failure = with_limits(failure);
    let failure = with_state_of_file(failure, options, pid_file);
    let failure = with_state_of_program(failure, options);
    let subject = options.subject(failure.subject);
    let error = Error::from(failure).with_subject(subject);
    match (error.kind(), pid_file) {
        (ErrorKind::LockPidfile(errno::EWOULDBLOCK), Some(path)) => describe_holder(error, path),
        _ => error,
    }
}

/// If rights are missing, adds the identity and the missing rights to the failure. Runs in the
/// process that has failed, or in a process with the same ids. Allocates only then.
pub(super) fn with_rights(failure: Failure, options: &Options) -> Failure {
    let (deed, capabilities) = match failure.kind {
        ErrorKind::SetSupplementaryGroups(errno::EPERM)
        | ErrorKind::SetGroup(errno::EPERM)
        | ErrorKind::SetUser(errno::EPERM) => (becoming(options), "CAP_SETUID and CAP_SETGID"),
        ErrorKind::Chroot(errno::EPERM) => (
            String::from("changing the root directory"),
            "CAP_SYS_CHROOT",
        ),
        ErrorKind::ChownPidfile(errno::EPERM) | ErrorKind::ChownLogFile(errno::EPERM) => {
            (String::from("changing the owner of a file"), "CAP_CHOWN")
        }
        ErrorKind::ChmodPidfile(errno::EPERM) => (
            String::from("changing the mode of another user's file"),
            "CAP_FOWNER",
        ),
        _ => return failure,
    };
    if !failure.reason.is_empty() {
        return failure;
    }
    let uid = sys::geteuid();
    let mut reason = lacks_rights(uid, &deed, capabilities);
    if matches!(failure.kind, ErrorKind::Chroot(_)) && uid == Uid::ROOT {
        reason.push_str(sys::WHY_CHROOT_IS_REFUSED);
    }
    failure.with_reason(reason)
}

fn becoming(options: &Options) -> String {
    let user = options.user.as_ref().map(|user| ("user", user.subject()));
    let group = options.group.as_ref();
    let group = group.map(|group| ("group", group.subject()));
    match user.or(group) {
        Some((what, Subject::Name(name))) => format!("changing to {what} {name}"),
        _ => String::from("changing the groups"),
    }
}

pub(crate) fn lacks_rights(uid: Uid, deed: &str, capabilities: &str) -> String {
    let found = match (uid, sys::HAS_CAPABILITIES) {
        (Uid::ROOT, true) => {
            format!("root, but lacks {capabilities}, or a sandbox or user namespace forbids {deed}")
        }
        (Uid::ROOT, false) => format!("root, but a sandbox forbids {deed}"),
        (Uid(uid), true) => format!("uid {uid}; {deed} requires root, or {capabilities}"),
        (Uid(uid), false) => format!("uid {uid}; {deed} requires root"),
    };
    let reason = io::Error::from_raw_os_error(errno::EPERM);
    format!("{reason}: this process runs as {found}")
}

/// If fork(2) was refused, or execve(2) after a change of the user, adds the limits that may be the cause.
fn with_limits(failure: Failure) -> Failure {
    match failure.kind {
        ErrorKind::Fork(errno::EAGAIN) | ErrorKind::ExecuteProgram(errno::EAGAIN) => {
            let reason = io::Error::from_raw_os_error(errno::EAGAIN);
            failure.with_reason(format!("{reason}: {PROCESS_LIMITS}"))
        }
        _ => failure,
    }
}

const PROCESS_LIMITS: &str = "a limit on the number of processes is reached: that of the user \
                              (RLIMIT_NPROC), of the container or service, or of the system";

/// If a pid file or log file could not be opened, adds the state of the file or its directory, and
/// what the library would accept. The absolute path shows what a relative one is relative to.
fn with_state_of_file(failure: Failure, options: &Options, pid_file: Option<&Path>) -> Failure {
    let log_file = |index: usize| options.absolute(options.log_files[index].as_ref()?);
    let reason = match (failure.kind, failure.subject) {
        (ErrorKind::OpenPidfile(_), _) => {
            pid_file.and_then(|path| trust::explain(&failure, path, &trust::OF_PID_FILE))
        }
        (ErrorKind::OpenLogFile(_), SubjectKind::OutputLog) => {
            log_file(1).and_then(|path| trust::explain(&failure, &path, &trust::OF_LOG_FILE))
        }
        (ErrorKind::OpenLogFile(_), SubjectKind::ErrorLog) => {
            log_file(2).and_then(|path| trust::explain(&failure, &path, &trust::OF_LOG_FILE))
        }
        _ => None,
    };
    match reason {
        Some(reason) => failure.with_reason(reason),
        None => failure,
    }
}

/// If a program could not be executed, adds what the errno does not say.
fn with_state_of_program(failure: Failure, options: &Options) -> Failure {
    let (ErrorKind::ExecuteProgram(errno), Some(program)) = (failure.kind, &options.program) else {
        return failure;
    };
    let path = program.path();
    let is_searched = !path.as_os_str().as_bytes().contains(&b'/');
    let exists = || {
        let absolute = options.absolute(path).filter(|_| options.chroot.is_none());
        absolute.is_some_and(|absolute| absolute.exists())
    };
    let why = match errno {
        errno::ENOENT if is_searched => "no directory of the program's PATH has it",
        errno::ENOENT if exists() => {
            "the file exists, but the interpreter or dynamic linker that it names does not"
        }
        errno::EACCES => {
            "the daemon lacks the permission to execute the file, or to search a directory of its path"
        }
        errno::ENOEXEC => "it is neither a binary of this system nor a script that begins with #!",
        _ => return failure,
    };
    let reason = io::Error::from_raw_os_error(errno);
    failure.with_reason(format!("{reason}: {why}"))
}

/// The fate of a daemon that was not acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DaemonFate {
    /// The intermediate had not forked yet.
    NotForked,
    Terminated,
    /// The daemon has ended; its status is unknown.
    Ended,
    /// No daemon exists; whether one existed is unknown.
    NoneLeft,
    /// The launcher may not signal the daemon or has no descriptor of it, or the daemon does not
    /// end.
    MayBeLeft,
    /// The same, and the daemon may have executed a program, which does not report.
    MayRunOn,
}

impl DaemonFate {
    fn message(self) -> &'static str {
        match self {
            Self::NotForked => "the daemon had not been forked",
            Self::Terminated => "the library terminated the daemon",
            Self::Ended => "the daemon has ended",
            Self::NoneLeft => "no daemon is left",
            Self::MayBeLeft => {
                "the daemon may still run; it ends at the latest when it reports to the launcher"
            }
            Self::MayRunOn => "the daemon may still run",
        }
    }
}

/// How the caller learns why a daemon has ended without a report. `status` is that of a daemon
/// that runs closures.
pub(super) fn daemon_ended(status: Option<ExitStatus>, streams: &StreamsPlan) -> String {
    let has_exited = status.is_some_and(|status| status.code().is_some());
    let hints = [
        has_exited.then_some(
            "to report the cause, return an error from the closure, or use `Readiness::fail`, \
             instead of exiting",
        ),
        (streams.is_standard_error_null())
            .then_some("its standard error is /dev/null: set `stderr` to see its messages"),
    ];
    hints.into_iter().flatten().collect::<Vec<_>>().join("; ")
}

/// What a program has said of itself. With an errno its text is the cause of a failure.
pub(super) fn program_status(errno: Errno, text: &str) -> String {
    let cause = io::Error::from_raw_os_error(errno);
    match (errno, text) {
        (0, text) => format!("its last status: {text}"),
        (_, "") => cause.to_string(),
        (_, text) => format!("{text}: {cause}"),
    }
}

/// For a daemon that has closed its channel before its end.
pub(super) fn daemon_disconnected(fate: DaemonFate) -> String {
    let text = "it closed its connection to the launcher, for example because it executed another \
                program or closed every descriptor";
    let fate = match fate {
        DaemonFate::Terminated => "the library then terminated the daemon",
        DaemonFate::NotForked | DaemonFate::Ended | DaemonFate::NoneLeft => {
            "the daemon has ended since"
        }
        DaemonFate::MayBeLeft | DaemonFate::MayRunOn => {
            "the daemon could not be terminated and may still exist"
        }
    };
    format!("{text}; {fate}")
}

pub(super) fn intermediate_ended(status: Option<ExitStatus>, fate: DaemonFate) -> String {
    let fate = fate.message();
    match status.map(|status| (status, status.signal())) {
        None => fate.to_owned(),
        Some((status, Some(_))) => {
            let signal = status.to_string().replacen("signal: ", "signal ", 1);
            format!("it was killed by {signal}; {fate}")
        }
        Some((status, None)) => {
            let status = status.to_string().replacen("exit status: ", "status ", 1);
            format!("it exited with {status}; {fate}")
        }
    }
}

/// The point at which the time ran out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Late {
    /// At this step, if it is known.
    At(Option<Step>),
    /// After the report of the daemon.
    Ready,
}

/// `intermediate` is the pid of an intermediate that could not be terminated.
pub(super) fn time_ran_out(
    timeout: Option<Duration>,
    late: Late,
    fate: DaemonFate,
    intermediate: Option<u32>,
) -> String {
    let mut text = String::from("the startup timeout ");
    if let Some(timeout) = timeout {
        let _ = write!(text, "of {timeout:?} ");
    }
    text.push_str("expired");
    let when = match late {
        Late::At(step) => step.map(Step::message),
        Late::Ready => {
            Some("after the daemon was ready, but before the intermediate process ended")
        }
    };
    if let Some(when) = when {
        let _ = write!(text, " {when}");
    }
    let _ = write!(text, "; {}", fate.message());
    if let Some(pid) = intermediate {
        let _ = write!(
            text,
            "; the intermediate process {pid} could not be terminated and still exists"
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lack_of_rights_names_the_capabilities_of_root_and_the_uid_of_others() {
        let root = lacks_rights(Uid::ROOT, "changing to user x", "CAP_SETUID");
        assert!(root.contains("runs as root, but"), "{root}");
        let other = lacks_rights(Uid(1000), "changing to user x", "CAP_SETUID");
        let end = if sys::HAS_CAPABILITIES {
            "runs as uid 1000; changing to user x requires root, or CAP_SETUID"
        } else {
            "runs as uid 1000; changing to user x requires root"
        };
        assert!(other.ends_with(end), "{other}");
    }

    #[test]
    #[cfg(any(target_os = "freebsd", target_os = "dragonfly"))]
    fn a_refused_chroot_names_the_sysctl_to_root_alone() {
        let failure = Failure::from(ErrorKind::Chroot(errno::EPERM));
        let described = with_rights(failure, &Options::default());
        assert_eq!(
            described
                .reason
                .contains("kern.chroot_allow_open_directories"),
            sys::geteuid() == Uid::ROOT
        );
    }

    #[test]
    fn the_reason_says_how_the_intermediate_has_ended() {
        let ended = |raw| intermediate_ended(Some(ExitStatus::from_raw(raw)), DaemonFate::Ended);
        let killed = ended(libc::SIGSYS);
        let start = format!("it was killed by signal {} (SIGSYS)", libc::SIGSYS);
        assert!(killed.starts_with(&start), "{killed}");
        assert_eq!(
            ended(3 << 8),
            "it exited with status 3; the daemon has ended"
        );
        let unknown = intermediate_ended(None, DaemonFate::MayBeLeft);
        assert!(unknown.starts_with("the daemon may still run"), "{unknown}");
    }
}
