//! Why a start has failed, in words for a person: what was found, who did what to
//! whom, and what can be done.

use std::fmt::Write as _;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::ExitStatus;
use std::time::Duration;

use crate::builder::Options;
use crate::error::{ErrorKind, Subject};
use crate::failure::Failure;
use crate::pid_file;
use crate::start::progress::Step;
use crate::streams::Stdio;
use crate::sys::{self, Uid, errno};

// --- Threads --------------------------------------------------------------------

/// So many names show what made the threads.
const MOST_NAMES: usize = 8;

/// Why fork(2) is not safe, by what the threads of this process are called.
pub(crate) fn threads_run(names: Option<&[Option<String>]>) -> String {
    const WAY_OUT: &str = "start the daemon first, and make threads and async runtimes after it \
                           (#[tokio::main] makes them before)";
    match names {
        None => format!(
            "the process has more than one thread, or shares its memory with another process; \
             {WAY_OUT}"
        ),
        Some([] | [_]) => String::from(
            "another process shares this one's memory, as one does that clone(2) with CLONE_VM \
             or vfork(2) makes: start the daemon before there is such a process",
        ),
        Some(names) => format!(
            "the process has more than one thread: {}{}; {WAY_OUT}",
            names.len(),
            listed(names)
        ),
    }
}

/// The names in brackets, as far as there are any.
fn listed(names: &[Option<String>]) -> String {
    let mut known = names.iter().flatten();
    let shown: Vec<&str> = known
        .by_ref()
        .take(MOST_NAMES)
        .map(String::as_str)
        .collect();
    match (shown.is_empty(), known.next()) {
        (true, _) => String::new(),
        (false, None) => format!(" ({})", shown.join(", ")),
        (false, Some(_)) => format!(" ({}, ...)", shown.join(", ")),
    }
}

// --- Rights ---------------------------------------------------------------------

/// Adds to a failure for a lack of rights who lacks which, unless there is a text.
/// For the process that has failed, or has the same ids. Allocates only then.
pub(crate) fn with_rights(failure: Failure, options: &Options) -> Failure {
    let (deed, capabilities) = match failure.kind {
        ErrorKind::SetSupplementaryGroups(errno::EPERM)
        | ErrorKind::SetGroup(errno::EPERM)
        | ErrorKind::SetUser(errno::EPERM) => (becoming(options), "CAP_SETUID and CAP_SETGID"),
        ErrorKind::Chroot(errno::EPERM) => (
            String::from("changing the root directory"),
            "CAP_SYS_CHROOT",
        ),
        ErrorKind::ChownPidfile(errno::EPERM) => {
            (String::from("changing the owner of a file"), "CAP_CHOWN")
        }
        _ => return failure,
    };
    if !failure.text.is_empty() {
        return failure;
    }
    let text = lacks_rights(sys::geteuid(), &deed, capabilities);
    failure.because(text)
}

fn becoming(options: &Options) -> String {
    let user = options.user.as_ref().map(|user| ("user", user.subject()));
    let group = options.group.as_ref();
    let group = group.map(|group| ("group", group.subject()));
    match user.or(group) {
        Some((what, Subject::Name(name))) => format!("becoming {what} {name}"),
        _ => String::from("having other groups"),
    }
}

fn lacks_rights(uid: Uid, deed: &str, capabilities: &str) -> String {
    let reason = io::Error::from_raw_os_error(errno::EPERM);
    match (uid, sys::HAS_CAPABILITIES) {
        (Uid::ROOT, true) => format!(
            "{reason}: this process runs as root, but without {capabilities}, \
             or in a sandbox or user namespace that forbids it"
        ),
        (Uid::ROOT, false) => {
            format!("{reason}: this process runs as root, but in a sandbox that forbids it")
        }
        (Uid(uid), true) => format!(
            "{reason}: this process runs as uid {uid}; {deed} takes root, or {capabilities}"
        ),
        (Uid(uid), false) => {
            format!("{reason}: this process runs as uid {uid}; {deed} takes root")
        }
    }
}

// --- The pid file ---------------------------------------------------------------

/// Adds to a pid file that could not be opened what is there, whose it is and what
/// would be accepted. `path` is absolute: it says what a relative one was relative to.
pub(crate) fn with_pid_file(failure: Failure, path: &Path) -> Failure {
    let ErrorKind::OpenPidfile(errno) = failure.kind else {
        return failure;
    };
    let Some(directory) = path.parent() else {
        return failure;
    };
    let found = fs::metadata(directory);
    let shown = directory.display();
    let reason = io::Error::from_raw_os_error(errno);
    let text = match (&*failure.text, errno, found) {
        ("", errno::ENOENT, Err(error)) if error.kind() == io::ErrorKind::NotFound => {
            format!("{reason}: its directory {shown} does not exist")
        }
        ("", errno::EACCES, Ok(found)) => format!(
            "{reason}: this process runs as uid {}; its directory {shown} belongs to {}",
            sys::geteuid().0,
            owner_and_mode(&found)
        ),
        (pid_file::DIRECTORY_OF_ANOTHER, _, Ok(found)) => format!(
            "{}: {shown} belongs to {}; to root, it may be that of root, of `user` or of \
             `chown_pid_file_user`",
            pid_file::DIRECTORY_OF_ANOTHER,
            owner_and_mode(&found)
        ),
        (pid_file::DIRECTORY_WRITABLE, _, Ok(found)) => format!(
            "{}: {shown} belongs to {}; take that permission away, or set the sticky bit",
            pid_file::DIRECTORY_WRITABLE,
            owner_and_mode(&found)
        ),
        (pid_file::FILE_OF_ANOTHER, _, _) => match fs::symlink_metadata(path) {
            Ok(found) => format!(
                "{}, uid {}; it may be that of root, of the caller or of `chown_pid_file_user`",
                pid_file::FILE_OF_ANOTHER,
                found.uid()
            ),
            Err(_) => return failure,
        },
        _ => return failure,
    };
    failure.because(text)
}

fn owner_and_mode(found: &Metadata) -> String {
    let mode = found.mode() & 0o7777;
    format!(
        "uid {} and gid {}, mode {mode:04o}",
        found.uid(),
        found.gid()
    )
}

// --- Ends -----------------------------------------------------------------------

/// What became of a daemon that was not acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DaemonFate {
    /// The start had not come so far.
    NotMade,
    Terminated,
    /// There is none, whatever it ended of.
    Gone,
    /// It may not be signalled, or does not end, or has no name.
    MayBeLeft,
}

impl DaemonFate {
    fn words(self) -> &'static str {
        match self {
            Self::NotMade => "there was no daemon yet",
            Self::Terminated => "the daemon was terminated",
            Self::Gone => "the daemon has ended",
            Self::MayBeLeft => "the daemon may be left: it ends when it reports, if not before",
        }
    }
}

/// Why a daemon that has ended has said nothing, if that is known.
pub(crate) fn daemon_ended(options: &Options) -> &'static str {
    let [_, _, stderr] = &options.streams;
    if stderr.as_ref().is_none_or(Stdio::is_devnull) {
        "its standard error is /dev/null: set `stderr` to see its messages"
    } else {
        ""
    }
}

/// For a daemon that cannot report any more, but lives.
pub(crate) fn daemon_disconnected(fate: DaemonFate) -> String {
    let text = "it closed its connection to the launcher, as a daemon does that executes another \
                program or closes every descriptor";
    let fate = match fate {
        DaemonFate::Terminated => "the library then terminated it",
        DaemonFate::NotMade | DaemonFate::Gone => "it has ended since",
        DaemonFate::MayBeLeft => "it could not be terminated, and may be left",
    };
    format!("{text}; {fate}")
}

pub(crate) fn intermediate_ended(status: Option<ExitStatus>, fate: DaemonFate) -> String {
    let fate = fate.words();
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

/// When the time ran out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Late {
    /// At this step, if that is known.
    At(Option<Step>),
    /// When all was done.
    Ready,
}

/// With the intermediate's pid where that could not be ended.
pub(crate) fn time_ran_out(
    timeout: Option<Duration>,
    late: Late,
    fate: DaemonFate,
    intermediate: Option<u32>,
) -> String {
    let mut text = String::from("the startup timeout ");
    if let Some(timeout) = timeout {
        let _ = write!(text, "of {timeout:?} ");
    }
    text.push_str("ran out");
    let when = match late {
        Late::At(step) => step.map(Step::words),
        Late::Ready => Some("when the daemon was ready, before the intermediate process ended"),
    };
    if let Some(when) = when {
        let _ = write!(text, " {when}");
    }
    let _ = write!(text, "; {}", fate.words());
    if let Some(pid) = intermediate {
        let _ = write!(
            text,
            "; the intermediate process {pid} could not be terminated, and is left"
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[Option<&str>]) -> String {
        let names: Vec<_> = names.iter().map(|name| name.map(str::to_owned)).collect();
        threads_run(Some(&names))
    }

    #[test]
    fn threads_are_counted_and_named_as_far_as_they_are_known() {
        let named = names(&[Some("main"), Some("tokio-rt-worker")]);
        let start = "the process has more than one thread: 2 (main, tokio-rt-worker); start";
        assert!(named.starts_with(start), "{named}");
        let nameless = names(&[None, None, None]);
        let start = "the process has more than one thread: 3; start";
        assert!(nameless.starts_with(start), "{nameless}");
        let unknown = threads_run(None);
        assert!(unknown.contains("or shares its memory"), "{unknown}");
    }

    #[test]
    fn a_lone_thread_shares_its_memory_with_another_process() {
        let text = names(&[Some("main")]);
        assert!(text.starts_with("another process shares"), "{text}");
        assert!(!text.contains("thread"), "{text}");
    }

    #[test]
    fn root_is_told_what_it_lacks_and_others_who_they_are() {
        let root = lacks_rights(Uid::ROOT, "becoming user x", "CAP_SETUID");
        assert!(root.contains("runs as root, but"), "{root}");
        let other = lacks_rights(Uid(1000), "becoming user x", "CAP_SETUID");
        let end = if sys::HAS_CAPABILITIES {
            "runs as uid 1000; becoming user x takes root, or CAP_SETUID"
        } else {
            "runs as uid 1000; becoming user x takes root"
        };
        assert!(other.ends_with(end), "{other}");
    }

    #[test]
    fn an_intermediate_is_said_to_have_ended_as_it_did() {
        let ended = |raw| intermediate_ended(Some(ExitStatus::from_raw(raw)), DaemonFate::Gone);
        let killed = ended(libc::SIGSYS);
        let start = format!("it was killed by signal {} (SIGSYS)", libc::SIGSYS);
        assert!(killed.starts_with(&start), "{killed}");
        assert_eq!(
            ended(3 << 8),
            "it exited with status 3; the daemon has ended"
        );
        let unknown = intermediate_ended(None, DaemonFate::MayBeLeft);
        assert!(unknown.starts_with("the daemon may be left"), "{unknown}");
    }
}
