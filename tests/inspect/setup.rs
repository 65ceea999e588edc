//! Daemons and other processes to inspect, and assertions on what is found.

use std::ffi::OsStr;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::process::{Child, Output, Stdio};

use tester::control::RESERVED;
use tester::prelude::*;

use crate::json::{self, Value};

/// Numbers that the suites of other topics do not use.
pub(crate) const NUMBER: i32 = 171;

/// A daemon without a fault, whatever the test has inherited.
pub(crate) fn clean() -> Scenario {
    let scenario = daemon!().working_directory("/").close_inherited_fds([]);
    let pid_file = scenario.path("daemon.pid");
    let scenario = scenario
        .pid_file(pid_file)
        .from_state(|state| state.blocked = Blocked::These(Vec::new()));
    // A variable without a value has no effect.
    let names = std::env::vars_os().map(|(name, _)| name);
    let inherited = names.filter(|name| !is_needed(name));
    inherited.fold(scenario, |scenario, name| scenario.env(name, ""))
}

fn is_needed(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    name == "PATH" || name == "TMPDIR" || name.starts_with("TESTER_")
}

/// The result of an inspection.
#[derive(Debug)]
pub(crate) struct Checkup {
    pub(crate) whole: Value,
    pub(crate) rows: Vec<Row>,
}

#[derive(Debug, Clone)]
pub(crate) struct Row {
    pub(crate) check: String,
    pub(crate) mark: String,
    pub(crate) seen: String,
    pub(crate) reason: String,
}

/// `tester inspect` of a process. The descriptors of the tester are expected.
pub(crate) fn command(pid: u32, arguments: &[&str]) -> Command {
    let mut command = Command::new(tester::tester!());
    command.args(["inspect", &pid.to_string()]);
    for number in RESERVED {
        command.args(["--keep", &number.to_string()]);
    }
    command.args(arguments);
    command
}

#[track_caller]
pub(crate) fn inspect(pid: u32) -> Checkup {
    Checkup::of(&command(pid, &["--json"]).output().unwrap())
}

/// Inspects a process that shares a file with this one, until a check is as expected. A process
/// that another case forks has a copy of the file until it executes its program.
pub(crate) fn inspect_until(pid: u32, check: &str, is_expected: impl Fn(&Row) -> bool) -> Checkup {
    let deadline = Instant::now() + time_limit();
    loop {
        let checkup = inspect(pid);
        if is_expected(checkup.row(check)) || Instant::now() >= deadline {
            return checkup;
        }
    }
}

/// With the path of a pid file.
#[track_caller]
pub(crate) fn inspect_with(pid: u32, pid_file: &Path) -> Checkup {
    let path = pid_file.to_str().unwrap();
    Checkup::of(
        &command(pid, &["--json", "--pid-file", path])
            .output()
            .unwrap(),
    )
}

impl Checkup {
    /// # Panics
    ///
    /// When the output is not JSON, or disagrees with the exit status.
    #[track_caller]
    pub(crate) fn of(output: &Output) -> Self {
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(stderr, "");
        let whole = json::parse(std::str::from_utf8(&output.stdout).unwrap());
        let rows = whole.field("checks").list().iter().map(|row| {
            let text = |name| row.field(name).text().to_owned();
            let number = row.optional("number").map(Value::number);
            Row {
                check: match number {
                    Some(number) => format!("{} {number}", text("check")),
                    None => text("check"),
                },
                mark: text("mark"),
                seen: text("seen"),
                reason: text("reason"),
            }
        });
        let rows: Vec<_> = rows.collect();
        let count = |mark| rows.iter().filter(|row| row.mark == mark).count();
        let findings = count("finding");
        assert_eq!(output.status.code(), Some(i32::from(findings > 0)));
        for (name, number) in [("findings", findings), ("unknown", count("unknown"))] {
            assert_eq!(usize::try_from(whole.field(name).number()), Ok(number));
        }
        Self { whole, rows }
    }

    #[track_caller]
    pub(crate) fn row(&self, check: &str) -> &Row {
        let mut rows = self.rows.iter().filter(|row| row.check == check);
        let row = rows.next();
        assert!(rows.next().is_none(), "{check} twice: {self:?}");
        row.unwrap_or_else(|| panic!("no {check}: {self:?}"))
    }

    /// The names of the checks with findings.
    pub(crate) fn findings(&self) -> Vec<&str> {
        let findings = self.rows.iter().filter(|row| row.mark == "finding");
        findings.map(|row| &*row.check).collect()
    }

    /// Asserts that these checks have findings, and no others.
    #[track_caller]
    pub(crate) fn assert_findings(&self, checks: &[&str]) {
        assert_eq!(self.findings(), checks, "{self:?}");
    }

    /// Asserts that this check alone has a finding, with this text.
    #[track_caller]
    pub(crate) fn assert_only(&self, check: &str, reason: &str) {
        self.assert_findings(&[check]);
        self.assert_finding(check, reason);
    }

    #[track_caller]
    pub(crate) fn assert_finding(&self, check: &str, reason: &str) {
        self.assert_row(check, "finding", reason);
    }

    #[track_caller]
    pub(crate) fn assert_ok(&self, check: &str, reason: &str) {
        self.assert_row(check, "ok", reason);
    }

    #[track_caller]
    pub(crate) fn assert_unknown(&self, check: &str, reason: &str) {
        self.assert_row(check, "unknown", reason);
    }

    #[track_caller]
    fn assert_row(&self, check: &str, mark: &str, reason: &str) {
        let row = self.row(check);
        assert!(row.mark == mark && row.reason.contains(reason), "{row:?}");
    }
}

/// Starts a daemon, and inspects it.
#[track_caller]
pub(crate) fn inspect_daemon(scenario: &Scenario) -> Checkup {
    let run = scenario.start();
    inspect(run.report().pid)
}

/// Starts a daemon in the foreground, and inspects it.
#[track_caller]
pub(crate) fn inspect_foreground(scenario: Scenario) -> Checkup {
    let (_run, report) = scenario.foreground(Foreground::Yes).serve();
    inspect(report.pid)
}

/// A program that ends when its standard input ends.
#[derive(Debug)]
pub(crate) struct Cat {
    pub(crate) child: Child,
    /// The process that copies its input.
    pub(crate) pid: u32,
}

impl Cat {
    /// Runs this script, which prints the pid of a process that then copies its input.
    pub(crate) fn by_shell(script: &str, descriptors: &[(OwnedFd, i32)]) -> Self {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        Self::of(command, descriptors)
    }

    /// The process has these descriptors besides the standard streams.
    pub(crate) fn with(descriptors: &[(OwnedFd, i32)]) -> Self {
        Self::by_shell("echo $$; exec cat", descriptors)
    }

    pub(crate) fn of(mut command: Command, descriptors: &[(OwnedFd, i32)]) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        for (descriptor, number) in descriptors {
            sys::pass_descriptor(&mut command, descriptor.as_fd(), *number);
        }
        let mut child = command.spawn().unwrap();
        // When the program answers, its loader has closed its files.
        child.stdin.as_mut().unwrap().write_all(b".").unwrap();
        let mut answer = String::new();
        let stdout = child.stdout.as_mut().unwrap();
        // A shell and a `cat` in its background answer in either order.
        while !(answer.contains('.') && answer.contains('\n')) {
            let mut byte = [0];
            stdout.read_exact(&mut byte).unwrap();
            answer.push(byte[0].into());
        }
        let pid = answer.replace('.', "").trim().parse().unwrap();
        Self { child, pid }
    }
}

impl Drop for Cat {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        self.child.wait().unwrap();
    }
}

/// A descriptor of this file, which is open in the daemon.
pub(crate) fn with_file(scenario: Scenario, path: &Path, close_on_exec: bool) -> Scenario {
    scenario.close_inherited_fds([NUMBER]).from_state(|state| {
        state.descriptors.push(OpenDescriptor {
            number: NUMBER,
            path: path.into(),
            close_on_exec,
        });
    })
}

/// The name of the check of [`NUMBER`].
pub(crate) fn checked() -> String {
    format!("descriptor {NUMBER}")
}

/// A file in the directory of the case, with this mode.
pub(crate) fn file(scenario: &Scenario, mode: u32) -> PathBuf {
    let path = scenario.path("file");
    fs::write(&path, "").unwrap();
    set_mode(&path, mode);
    path
}
