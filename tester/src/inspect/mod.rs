//! `tester inspect PID`: a check-up of any daemon, which need not use the library.
//!
//! It compares what daemon(7) asks of a SysV daemon, and what a hostile system makes advisable,
//! with the process as another process sees it. A check only looks: it takes no lock, sends no
//! signal, and opens no file that could block. docs/inspect.md describes each check.
//!
//! A fact that is not visible is unknown. A check never derives it from other facts.

mod descriptors;
mod directories;
mod environment;
mod facts;
mod identity;
mod json;
mod names;
mod pid_file;
mod process;
mod signals;
mod table;

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use facts::Facts;

use crate::observe::{self, Process};
use crate::report::Report;
use crate::sys::{self, ProcessHandle};

/// The argument that asks for [`run`].
pub const INSPECT: &str = "inspect";

/// The exit status if there is a finding.
pub const EXIT_FINDINGS: u8 = 1;

/// The exit status if the process cannot be inspected.
pub const EXIT_CANNOT_INSPECT: u8 = 2;

const USAGE: &str = "usage: tester inspect PID [--pid-file PATH] [--keep FD]... [--json]";

/// A check: its name, what asks for it, and how it looks at a daemon.
#[derive(Debug)]
pub struct Check {
    pub name: &'static str,
    /// The step of a SysV daemon in daemon(7), or another source.
    pub asked_by: &'static str,
    look: fn(&Inspected) -> Vec<Verdict>,
}

macro_rules! checks {
    ($($name:literal, $asked_by:literal, $look:path;)*) => {
        /// Every check, in the order of the output.
        pub const CHECKS: &[Check] = &[
            $(Check { name: $name, asked_by: $asked_by, look: |of| $look(of).into() },)*
        ];
    };
}

checks! {
    "program", "a restart after an upgrade", process::program;
    "parent", "daemon(7) steps 8 and 15", process::parent;
    "session", "daemon(7) steps 6 and 7", process::session;
    "terminal", "daemon(7) step 6", process::terminal;
    "user", "daemon(7) step 13", identity::user;
    "group", "daemon(7) step 13", identity::group;
    "supplementary groups", "daemon(7) step 13", identity::supplementary_groups;
    "capabilities", "daemon(7) step 13", identity::capabilities;
    "no_new_privs", "prctl(2)", identity::no_new_privileges;
    "threads", "daemon(7) step 13", identity::threads;
    "umask", "daemon(7) step 10", directories::umask;
    "working directory", "daemon(7) step 11", directories::working_directory;
    "root directory", "chroot(2)", directories::root;
    "standard input", "daemon(7) step 9", descriptors::standard_input;
    "standard output", "daemon(7) step 9", descriptors::standard_output;
    "standard error", "daemon(7) step 9", descriptors::standard_error;
    "descriptor", "daemon(7) step 1", descriptors::others;
    "blocked signals", "daemon(7) step 3", signals::blocked;
    "ignored signals", "daemon(7) step 2", signals::ignored;
    "caught signals", "daemon(7) step 2", signals::caught;
    "environment", "daemon(7) step 4", environment::variables;
    "limits", "setrlimit(2)", environment::limits;
    "pid file", "daemon(7) step 12", pid_file::content;
    "pid file lock", "daemon(7) step 12", pid_file::lock;
    "pid file permissions", "daemon(7) step 12", pid_file::permissions;
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    Ok,
    Finding,
    Unknown,
}

impl Mark {
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Finding => "finding",
            Self::Unknown => "unknown",
        }
    }
}

/// The result of a check.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Verdict {
    /// The descriptor, if the check looks at each.
    number: Option<i32>,
    mark: Mark,
    seen: String,
    reason: String,
}

impl Verdict {
    fn new(mark: Mark, seen: impl Into<String>, reason: impl Into<String>) -> Self {
        Self {
            number: None,
            mark,
            seen: seen.into(),
            reason: reason.into(),
        }
    }

    fn ok(seen: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::new(Mark::Ok, seen, reason)
    }

    fn finding(seen: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::new(Mark::Finding, seen, reason)
    }

    fn unknown(seen: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::new(Mark::Unknown, seen, reason)
    }

    /// The process or the platform does not show it to this user.
    fn unseen() -> Self {
        let reason = match sys::effective_user() {
            0 => format!("{} does not show it to root here", std::env::consts::OS),
            uid => format!(
                "{} does not show it to {}; root may see it",
                std::env::consts::OS,
                names::user(uid)
            ),
        };
        Self::unknown("not visible", reason)
    }
}

impl From<Verdict> for Vec<Verdict> {
    fn from(verdict: Verdict) -> Self {
        vec![verdict]
    }
}

impl From<Option<Verdict>> for Verdict {
    fn from(verdict: Option<Verdict>) -> Self {
        verdict.unwrap_or_else(Self::unseen)
    }
}

/// A daemon, as it is seen.
#[derive(Debug)]
struct Inspected {
    process: Process,
    report: Report,
    facts: Facts,
    parent: Option<Process>,
    /// The process that becomes the parent of the orphans of this program.
    reaper: Option<u32>,
    wanted: Arguments,
}

impl Inspected {
    fn look(wanted: Arguments) -> Result<Self, String> {
        let pid = wanted.pid;
        let failed = |error: io::Error| format!("cannot inspect process {pid}: {error}");
        if !observe::EXISTS {
            let platform = std::env::consts::OS;
            return Err(format!(
                "cannot inspect process {pid}: the tester has no observer for {platform}"
            ));
        }
        let absent = || format!("cannot inspect process {pid}: there is no such process");
        // The handle never means a later process with the same id.
        let handle = match ProcessHandle::open(pid) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => None,
            handle => Some(handle.map_err(failed)?.ok_or_else(absent)?),
        };
        let process = observe::process(pid).map_err(failed)?.ok_or_else(absent)?;
        if process.is_zombie() {
            let parent = names::process_of_id(process.ppid);
            return Err(format!(
                "cannot inspect process {pid}: it has ended, and {parent} has not waited for it"
            ));
        }
        let report = observe::outside_of_any_case(pid).map_err(failed)?;
        let facts = facts::facts(pid);
        if facts.is_kernel_thread {
            return Err(format!(
                "cannot inspect process {pid}: it is a thread of the kernel"
            ));
        }
        let inspected = Self {
            parent: observe::process(report.ppid).ok().flatten(),
            reaper: crate::subject::orphans_parent().ok(),
            process,
            report,
            facts,
            wanted,
        };
        Ok((inspected, handle)).and_then(|(inspected, handle)| {
            let has_ended =
                handle.is_some_and(|handle| handle.wait(Instant::now()).unwrap_or(false));
            match has_ended {
                true => Err(format!("cannot inspect process {pid}: it has just ended")),
                false => Ok(inspected),
            }
        })
    }

    /// Whether the parent runs the same program, by its name: a worker has the session, the
    /// descriptors and the pid file of its parent.
    fn is_worker(&self) -> bool {
        let parent = self.parent.as_ref();
        parent.is_some_and(|parent| parent.pid != 1 && parent.name == self.process.name)
    }

    /// Whether systemd says that it has started this very process. daemon(7) asks such a daemon
    /// neither for forks nor for a session.
    fn is_service(&self) -> bool {
        self.variable("SYSTEMD_EXEC_PID")
            .is_some_and(|pid| self.has_id(pid))
    }

    /// Whether a text is the id of the process in a pid namespace of its.
    fn has_id(&self, text: &[u8]) -> bool {
        let pid = std::str::from_utf8(text)
            .ok()
            .and_then(|text| text.parse().ok());
        pid.is_some_and(|pid: u32| pid == self.process.pid || self.facts.pids.contains(&pid))
    }

    /// A variable of the environment that the program began with.
    fn variable(&self, name: &str) -> Option<&[u8]> {
        let mut variables = self.facts.environment.iter().flatten();
        variables.find_map(|one| one.strip_prefix(name.as_bytes())?.strip_prefix(b"="))
    }

    /// Whether the effective user is not root.
    fn is_ordinary_user(&self) -> bool {
        self.report.uid.is_some_and(|uid| uid.effective != 0)
    }
}

/// The result of all checks.
#[derive(Debug)]
struct Checkup {
    process: Process,
    rows: Vec<(&'static Check, Verdict)>,
}

impl Checkup {
    fn of(inspected: &Inspected) -> Self {
        let rows = CHECKS.iter().flat_map(|check| {
            let verdicts = (check.look)(inspected).into_iter();
            verdicts.map(move |verdict| (check, verdict))
        });
        Self {
            process: inspected.process.clone(),
            rows: rows.collect(),
        }
    }

    fn count(&self, mark: Mark) -> usize {
        self.rows
            .iter()
            .filter(|(_, verdict)| verdict.mark == mark)
            .count()
    }
}

#[derive(Debug, Default)]
struct Arguments {
    pid: u32,
    pid_file: Option<PathBuf>,
    /// The descriptors that the daemon is expected to have.
    kept: Vec<i32>,
    json: bool,
}

impl Arguments {
    fn parse(arguments: impl Iterator<Item = std::ffi::OsString>) -> Option<Self> {
        let mut parsed = Self::default();
        let mut arguments = arguments;
        let number = |argument: std::ffi::OsString| argument.to_str()?.parse::<u32>().ok();
        while let Some(argument) = arguments.next() {
            match argument.to_str() {
                Some("--json") => parsed.json = true,
                Some("--pid-file") => parsed.pid_file = Some(arguments.next()?.into()),
                Some("--keep") => {
                    let number = arguments.next().and_then(number)?;
                    parsed.kept.push(number.try_into().ok()?);
                }
                _ if parsed.pid != 0 => return None,
                _ => parsed.pid = number(argument)?,
            }
        }
        (parsed.pid != 0).then_some(parsed)
    }
}

/// Prints the check-up of a process. The exit status is 0 without a finding, [`EXIT_FINDINGS`] or
/// [`EXIT_CANNOT_INSPECT`].
pub fn run(arguments: impl Iterator<Item = std::ffi::OsString>) -> ExitCode {
    let refused = |text: &str| {
        eprintln!("tester: {text}");
        ExitCode::from(EXIT_CANNOT_INSPECT)
    };
    let Some(arguments) = Arguments::parse(arguments) else {
        return refused(USAGE);
    };
    let json = arguments.json;
    let checkup = match Inspected::look(arguments) {
        Ok(inspected) => Checkup::of(&inspected),
        Err(error) => return refused(&error),
    };
    let text = match json {
        true => json::text(&checkup),
        false => table::text(&checkup),
    };
    let mut output = io::stdout().lock();
    match output
        .write_all(text.as_bytes())
        .and_then(|()| output.flush())
    {
        Err(error) => refused(&format!("cannot print the check-up: {error}")),
        Ok(()) if checkup.count(Mark::Finding) > 0 => ExitCode::from(EXIT_FINDINGS),
        Ok(()) => ExitCode::SUCCESS,
    }
}
