//! A test file's table of contents, and what its cases need.
//!
//! ```no_run
//! use tester::{case, suite};
//!
//! fn a_start_succeeds() {}
//! fn roots_groups_are_replaced() {}
//!
//! fn main() -> std::process::ExitCode {
//!     suite(&[
//!         case!(a_start_succeeds),
//!         case!(roots_groups_are_replaced, needs Root, Linux),
//!     ])
//! }
//! ```
//!
//! A suite of several modules is a directory. Each module lists its own cases as
//! `CASES`, and [`modules!`](crate::modules) lists the modules. The name of such a case
//! begins with its module: `lock::a_second_start_fails`.
//!
//! A case whose needs are not met is reported as ignored, with the reason in
//! brackets before its name. If the environment variable
//! [`SKIPPED_LIST`] names a file, each such case's `suite::name` is appended
//! to it, whatever filter the run was given: which cases cannot run is a
//! property of the machine.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::num::NonZero;
use std::panic;
use std::path::PathBuf;
use std::process::{self, Command, ExitCode};
use std::thread;

use libtest_mimic::{Arguments, Completion, Trial};

use crate::{control, sys};

/// The environment variable that names the list of skipped cases.
pub const SKIPPED_LIST: &str = "TESTER_SKIPPED_LIST";

/// The environment variable that has the first failed case end the whole suite,
/// where many failures say no more than one: see `ci/mutants.sh`. Whoever sets
/// it ends the processes of the cases that were under way.
pub const FAIL_FAST: &str = "TESTER_FAIL_FAST";

/// The user that root's tests drop to when they need one with several
/// groups; created by the scripts in `ci/`.
pub const TEST_USER: &str = "daemonize2-test";

/// [`TEST_USER`]'s user id and primary group id.
pub const TEST_USER_ID: u32 = 7001;

/// All of [`TEST_USER`]'s groups.
pub const TEST_USER_GROUPS: [u32; 3] = [7001, 7002, 7003];

/// The environment variable that names a tester built with panics that abort:
/// `cargo build -p tester --config 'profile.dev.panic="abort"'`, in a target
/// folder of its own.
pub const ABORTING_TESTER: &str = "TESTER_ABORTING";

/// The example `service` as a `cargo test` of the root package builds it: next
/// to the folder of the test that runs.
pub fn service_example() -> Option<PathBuf> {
    let test = std::env::current_exe().ok()?;
    let path = test.parent()?.parent()?.join("examples/service");
    path.exists().then_some(path)
}

/// The compiler beside the cargo that has built the tests.
pub fn compiler() -> Option<PathBuf> {
    let compiler = PathBuf::from(option_env!("CARGO")?).with_file_name("rustc");
    let answers = Command::new(&compiler).arg("--version").output();
    answers
        .is_ok_and(|output| output.status.success())
        .then_some(compiler)
}

/// What a case needs to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Effective user id 0.
    Root,
    /// Any other effective user id.
    OrdinaryUser,
    /// Linux.
    Linux,
    /// [`TEST_USER`] with exactly its ids and groups.
    TestUser,
    /// Pseudo-terminals.
    Terminals,
    /// Leave to mount file systems, in a namespace of one's own (Linux).
    Mounting,
    /// Leave to make a user namespace, also for an ordinary user (Linux).
    UserNamespaces,
    /// Leave to look into processes of other users, which a container may
    /// withhold from its root (Linux).
    Tracing,
    /// Leave to follow one's own children call by call (Linux).
    Stepping,
    /// The same, and leave to let their calls fail, which has to know the
    /// processor (Linux).
    Faults,
    /// The environment variable [`ABORTING_TESTER`].
    AbortingTester,
    /// The root package's example `service`, built beside the tests.
    ServiceExample,
    /// [`compiler`].
    Compiler,
}

impl Need {
    /// Why it is not met, if it is not.
    pub fn unmet(self) -> Option<&'static str> {
        let (met, reason) = match self {
            Self::Root => (sys::effective_user() == 0, "needs root"),
            Self::OrdinaryUser => (sys::effective_user() != 0, "needs an ordinary user"),
            Self::Linux => (cfg!(target_os = "linux"), "needs Linux"),
            Self::TestUser => (has_test_user(), "needs user daemonize2-test"),
            Self::Terminals => (
                std::path::Path::new("/dev/ptmx").exists(),
                "needs pseudo-terminals",
            ),
            Self::Stepping => (can_step(), "needs ptrace"),
            Self::Faults => (
                can_step() && can_replace_calls(),
                "needs ptrace on x86-64 or AArch64",
            ),
            Self::Mounting => (may_mount(), "needs CAP_SYS_ADMIN"),
            Self::UserNamespaces => (may_make_user_namespace(), "needs user namespaces"),
            Self::Tracing => (may_trace(), "needs CAP_SYS_PTRACE"),
            Self::AbortingTester => (
                std::env::var_os(ABORTING_TESTER).is_some(),
                "needs TESTER_ABORTING",
            ),
            Self::Compiler => (compiler().is_some(), "needs cargo's compiler"),
            Self::ServiceExample => (service_example().is_some(), "needs the example service"),
        };
        (!met).then_some(reason)
    }
}

/// By id(1), which asks the same databases as the library on every system.
fn has_test_user() -> bool {
    let id = |option: &str| -> Option<Vec<u32>> {
        let output = Command::new("id").args([option, TEST_USER]).output().ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        let mut ids: Vec<u32> = text
            .split_ascii_whitespace()
            .map(|id| id.parse().ok())
            .collect::<Option<_>>()?;
        ids.sort_unstable();
        Some(ids)
    };
    id("-u") == Some(vec![TEST_USER_ID])
        && id("-g") == Some(vec![TEST_USER_ID])
        && id("-G") == Some(TEST_USER_GROUPS.to_vec())
}

fn can_step() -> bool {
    #[cfg(target_os = "linux")]
    return sys::can_trace();
    #[cfg(not(target_os = "linux"))]
    false
}

fn can_replace_calls() -> bool {
    #[cfg(target_os = "linux")]
    return sys::CAN_REPLACE_CALLS;
    #[cfg(not(target_os = "linux"))]
    false
}

fn may_mount() -> bool {
    Command::new("unshare")
        .args(["--mount", "mount", "-t", "tmpfs", "tester", "/tmp"])
        .output()
        .is_ok_and(|output| output.status.success())
}

fn may_make_user_namespace() -> bool {
    let mut command = Command::new("unshare");
    if sys::effective_user() == 0 {
        sys::start_as(&mut command, 65534, 65534, &[]);
    }
    command
        .args(["--user", "true"])
        .output()
        .is_ok_and(|output| output.status.success())
}

fn may_trace() -> bool {
    /// CAP_SYS_PTRACE of <linux/capability.h>
    const CAP_SYS_PTRACE: u32 = 19;
    // Not all that there is to be seen of this process, some of which changes
    // while its cases run.
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|set| u64::from_str_radix(set.trim(), 16).ok());
    effective.is_some_and(|set| set & 1 << CAP_SYS_PTRACE != 0)
}

/// One case of a suite. Made by [`case!`](crate::case).
#[derive(Debug, Clone, Copy)]
pub struct Case {
    /// The module that has the function: the suite, and perhaps a module of it.
    pub module: &'static str,
    /// The function's name.
    pub function: &'static str,
    /// What it needs.
    pub needs: &'static [Need],
    /// The function, which panics to fail.
    pub run: fn(),
}

impl Case {
    /// The name within the suite.
    pub fn name(&self) -> String {
        match self.module.split_once("::") {
            Some((_, module)) => format!("{module}::{}", self.function),
            None => self.function.to_owned(),
        }
    }

    fn unmet(&self) -> Option<String> {
        let reasons: Vec<_> = self.needs.iter().filter_map(|need| need.unmet()).collect();
        (!reasons.is_empty()).then(|| reasons.join(", "))
    }
}

/// A [`Case`] from a function and, after `needs`, variants of [`Need`].
#[macro_export]
macro_rules! case {
    ($function:ident $(, needs $($need:ident),+)?) => {
        $crate::suite::Case {
            module: module_path!(),
            function: stringify!($function),
            needs: &[$($($crate::suite::Need::$need),+)?],
            run: $function,
        }
    };
}

/// Makes `main` of a suite that consists of these modules.
#[macro_export]
macro_rules! modules {
    ($($module:ident),+ $(,)?) => {
        fn main() -> std::process::ExitCode {
            $crate::suite(&[$($module::CASES),+].concat())
        }
    };
}

/// Runs the cases as the command line asks, as any Rust test does.
pub fn suite(cases: &[Case]) -> ExitCode {
    // What a case finds open is to be what it asks for, whoever runs it.
    sys::pass_on_standard_streams_alone();
    // Before another thread's file gets the number.
    let placeholder = File::open("/dev/null").expect("open /dev/null").into();
    let placeholder = sys::move_descriptor(placeholder, control::CONTROL, true);
    sys::reserve_number(placeholder.expect("take a number")).expect("keep the number");
    if let Some(again) = std::env::var_os(AGAIN) {
        // A filter that matches nothing, and a case that is skipped, are no failure.
        let mut runs = cases.iter().filter(|case| case.unmet().is_none());
        assert!(runs.any(|case| *case.name() == *again), "no case {again:?}");
    }
    let mut arguments = Arguments::from_args();
    // Cases spend most of their time waiting for processes.
    let processors = thread::available_parallelism().map_or(1, NonZero::get);
    arguments.test_threads.get_or_insert(4 * processors);
    let fails_fast = std::env::var_os(FAIL_FAST).is_some();
    let mut skipped = Vec::new();
    let trials = cases
        .iter()
        .map(|&case| match case.unmet() {
            None => Trial::test(case.name(), move || {
                if fails_fast {
                    end_at_failure_of(&case);
                } else {
                    (case.run)();
                }
                Ok(())
            }),
            Some(reason) => {
                skipped.push(format!("{}::{}\n", case.module, case.function));
                let kind = reason.clone();
                // Even `--ignored` must not make it pass.
                Trial::ignorable_test(case.name(), move || Ok(Completion::ignored_with(&reason)))
                    .with_ignored_flag(true)
                    .with_kind(kind)
            }
        })
        .collect();
    record(&skipped);
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// The environment variable that names the one case that is to run.
const AGAIN: &str = "TESTER_AGAIN";

/// Runs a case of this suite once more, in a process of its own.
///
/// # Errors
///
/// When this program cannot be named.
pub fn again(case: &str) -> io::Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["--exact", case]).env(AGAIN, case);
    // What is skipped was named once already.
    command.env_remove(SKIPPED_LIST);
    Ok(command)
}

fn end_at_failure_of(case: &Case) {
    if panic::catch_unwind(case.run).is_err() {
        println!(
            "{}::{} has failed, the others are left",
            case.module, case.function
        );
        process::exit(1);
    }
}

/// Appends with one write, so that suites running side by side do not mix
/// their lines.
fn record(skipped: &[String]) {
    let Some(path) = std::env::var_os(SKIPPED_LIST) else {
        return;
    };
    let written = OpenOptions::new()
        .create(true)
        .append(true)
        .open(&path)
        .and_then(|mut file| file.write_all(skipped.concat().as_bytes()));
    // A list that lacks a name would hide a skip.
    written.unwrap_or_else(|error| panic!("cannot append to {path:?}: {error}"));
}
