//! The cases of a test file, and their needs.
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
//! A suite of several modules is a directory. Each module lists its own cases as `CASES`, and
//! [`modules!`](crate::modules) lists the modules. The name of such a case begins with its module:
//! `lock::a_second_start_fails`.
//!
//! A case whose needs are not met is reported as ignored, with the reason in brackets before its
//! name. If the environment variable [`SKIPPED_LIST`] names a file, the `suite::name` of each such
//! case is appended to it, whatever filter the run has: the machine decides which cases cannot run.

use std::cmp::Reverse;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::num::NonZero;
use std::os::unix::fs::PermissionsExt;
use std::panic;
use std::path::{Path, PathBuf};
use std::process::{self, Command, ExitCode};
#[cfg(target_os = "freebsd")]
use std::sync::LazyLock;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use libtest_mimic::{Arguments, Completion, Trial};

use crate::{control, observe, slowness, sys};

/// The environment variable with the path of the list of skipped cases.
pub const SKIPPED_LIST: &str = "TESTER_SKIPPED_LIST";

/// The environment variable with the name of a list of another platform in `ci/skips`, such as
/// `macos-user`. A suite then prints its lines of that list, and runs no case.
pub const SKIPS_OF: &str = "TESTER_SKIPS_OF";

/// The environment variable that makes the first failed case end the whole suite, if one failure is
/// enough: see `ci/mutants.sh`. The caller that sets it ends the processes of the other cases.
pub const FAIL_FAST: &str = "TESTER_FAIL_FAST";

/// The environment variable that asks for every fault, and for a kill at every call.
pub const ALL_FAULTS: &str = "TESTER_ALL_FAULTS";

/// The environment variable that asks for numbers, such as that of the starts.
pub const FIGURES: &str = "TESTER_FIGURES";

/// The environment variable that asks for the time of each case, the slowest first.
pub const TIMES: &str = "TESTER_TIMES";

/// The user with several groups to which tests of root change; the scripts in `ci/` create it.
pub const TEST_USER: &str = "daemonize2-test";

/// The user id of [`TEST_USER`], and the id of its primary group.
pub const TEST_USER_ID: u32 = 7001;

/// The groups of [`TEST_USER`] that the scripts create. macOS adds others, which every user has: see
/// [`test_user_groups`].
pub const TEST_USER_GROUPS: [u32; 3] = [7001, 7002, 7003];

/// The environment variable with the path of a tester whose panics abort: `cargo build -p tester
/// --config 'profile.dev.panic="abort"'`, in a target directory of its own.
pub const ABORTING_TESTER: &str = "TESTER_ABORTING";

/// An example, as a `cargo test` of the root package builds it: beside the directory of the test.
pub fn example(name: &str) -> Option<PathBuf> {
    let test = std::env::current_exe().ok()?;
    let path = test.parent()?.parent()?.join("examples").join(name);
    path.exists().then_some(path)
}

/// The compiler that belongs to the cargo that has built the tests.
pub fn compiler() -> Option<PathBuf> {
    let compiler = PathBuf::from(option_env!("CARGO")?).with_file_name("rustc");
    let answers = Command::new(&compiler).arg("--version").output();
    answers
        .is_ok_and(|output| output.status.success())
        .then_some(compiler)
}

/// The path of logrotate(8), which is not in every user's PATH.
pub fn logrotate() -> Option<PathBuf> {
    let paths = [
        "/usr/sbin/logrotate",
        "/sbin/logrotate",
        "/usr/local/sbin/logrotate",
    ];
    paths
        .map(PathBuf::from)
        .into_iter()
        .find(|path| path.exists())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    Root,
    /// If root, permission to change to other users, which a container may withhold (Linux).
    OtherUsers,
    OrdinaryUser,
    Linux,
    /// If not root, the groups that the database lists for this user, which a container may leave
    /// out.
    OwnGroups,
    /// [`TEST_USER`] with its ids and groups.
    TestUser,
    Terminals,
    /// Permission to mount file systems in a mount namespace of its own (Linux).
    Mounting,
    /// Permission to make a user namespace, also for an ordinary user (Linux). A process cannot make
    /// one if an emulator has added a thread to it.
    UserNamespaces,
    /// An observer that sees the open files and the directories of another process: see
    /// [`crate::observe`].
    VisibleFiles,
    /// An observer that sees which open files have a lock.
    VisibleLocks,
    /// An observer that sees the signal mask of another process.
    VisibleMasks,
    RealTimeSignals,
    /// A kernel with no_new_privs: Linux, and FreeBSD since version 14.
    NoNewPrivileges,
    /// A kernel that survives a second SIGKILL to a process with threads and an interval timer. The
    /// kernel of FreeBSD 13.2 does not; whether the kernel of FreeBSD 14 does is unknown.
    KilledTimers,
    /// Permission to observe processes of other users, which a container may withhold from its
    /// root.
    Tracing,
    /// Programs in the directory of a case that are set-user-id or have file capabilities, which a
    /// mount option may forbid.
    SetIdPrograms,
    /// Permission to trace its own children call by call (Linux).
    Stepping,
    /// The same, and permission to let their calls fail, which depends on the processor (Linux).
    Faults,
    /// Filters of system calls, which an emulator of processors does not have (Linux).
    CallFilters,
    /// A process whose threads all belong to the program. An emulator of processors adds a thread
    /// to each process, and RLIMIT_NPROC counts it.
    OwnThreads,
    /// A process whose signal handlers in /proc all belong to the program. An emulator of
    /// processors adds handlers.
    OwnHandlers,
    AbortingTester,
    /// The example `service` of the root package, built beside the tests.
    Examples,
    Compiler,
    /// logrotate(8)
    Logrotate,
}

impl Need {
    /// The reason why the need is not met. `None` if it is met.
    pub fn unmet(self) -> Option<&'static str> {
        let (met, reason) = self.check();
        (!met).then_some(reason)
    }

    /// The same for a machine other than this one.
    fn unmet_on(self, machine: &Machine) -> Option<&'static str> {
        let met = match self {
            Self::Root | Self::Tracing => machine.is_root,
            Self::OrdinaryUser => !machine.is_root,
            Self::VisibleFiles => machine.platform != "netbsd",
            Self::VisibleLocks => !["macos", "netbsd"].contains(&machine.platform.as_str()),
            Self::VisibleMasks => machine.platform != "macos",
            Self::RealTimeSignals => !["macos", "openbsd"].contains(&machine.platform.as_str()),
            Self::NoNewPrivileges => machine.platform == "freebsd" || machine.is_linux(),
            // Every platform has terminals, and the scripts in `ci/` provide the rest.
            Self::Terminals | Self::TestUser | Self::AbortingTester | Self::Examples => true,
            // Only a container withholds these.
            Self::OtherUsers | Self::OwnGroups | Self::SetIdPrograms => true,
            Self::KilledTimers => true,
            // Only a suite that the scripts leave out needs it.
            Self::Compiler => true,
            Self::OwnThreads | Self::OwnHandlers => !machine.is_emulated(),
            Self::Linux | Self::Logrotate => machine.is_linux(),
            Self::Mounting => machine.is_linux() && machine.is_root,
            Self::Stepping | Self::CallFilters | Self::UserNamespaces => {
                machine.is_linux() && !machine.is_emulated()
            }
            Self::Faults => false,
        };
        (!met).then(|| self.check().1)
    }

    /// Whether the need is met here, and the reason to give if it is not.
    fn check(self) -> (bool, &'static str) {
        match self {
            Self::Root => (sys::effective_user() == 0, "needs root"),
            Self::OtherUsers => (
                sys::effective_user() != 0 || has_capability(CAP_SETUID),
                "needs CAP_SETUID",
            ),
            Self::OrdinaryUser => (sys::effective_user() != 0, "needs an ordinary user"),
            Self::Linux => (cfg!(target_os = "linux"), "needs Linux"),
            Self::VisibleFiles => (is_visible("descriptors"), "needs visible open files"),
            Self::VisibleLocks => (is_visible("locked"), "needs visible locks"),
            Self::VisibleMasks => (is_visible("blocked_signals"), "needs visible signal masks"),
            Self::RealTimeSignals => (
                !cfg!(any(target_os = "macos", target_os = "openbsd")),
                "needs real-time signals",
            ),
            Self::NoNewPrivileges => (has_no_new_privileges(), "needs no_new_privs"),
            Self::KilledTimers => (
                survives_killed_timers(),
                "needs a kernel that survives a killed process with an interval timer",
            ),
            Self::OwnGroups => (
                sys::effective_user() == 0 || has_own_groups(),
                "needs the groups of its user",
            ),
            Self::TestUser => (has_test_user(), "needs user daemonize2-test"),
            Self::Terminals => (sys::has_terminals(), "needs pseudo-terminals"),
            Self::Stepping => (can_step(), "needs ptrace"),
            Self::Faults => (
                can_step() && can_replace_calls(),
                "needs ptrace on x86-64 or AArch64",
            ),
            Self::CallFilters => (sys::can_refuse_calls(), "needs seccomp"),
            Self::OwnThreads => (
                !is_emulated(),
                "needs a process without the thread of an emulator",
            ),
            Self::OwnHandlers => (
                !is_emulated(),
                "needs a process without the signal handlers of an emulator",
            ),
            Self::Mounting => (may_mount(), "needs CAP_SYS_ADMIN"),
            Self::UserNamespaces => (
                !is_emulated() && may_make_user_namespace(),
                "needs user namespaces",
            ),
            Self::Tracing => (has_capability(CAP_SYS_PTRACE), "needs CAP_SYS_PTRACE"),
            Self::SetIdPrograms => (
                sys::may_execute_set_id(&std::env::temp_dir()),
                "needs a temporary directory without nosuid and noexec",
            ),
            Self::AbortingTester => (
                std::env::var_os(ABORTING_TESTER).is_some(),
                "needs TESTER_ABORTING",
            ),
            Self::Compiler => (compiler().is_some(), "needs cargo's compiler"),
            Self::Examples => (example("service").is_some(), "needs the examples"),
            Self::Logrotate => (logrotate().is_some(), "needs logrotate"),
        }
    }
}

/// Whether the observer sees this field of the processes of its user.
fn is_visible(field: &str) -> bool {
    !observe::UNSEEN.contains(&field)
}

/// A machine whose list the tester derives, with the name of the list: `macos-user`. It runs
/// another platform than Linux, or Linux on another processor: `i386`, or one that `qemu` emulates.
struct Machine {
    platform: String,
    is_root: bool,
}

impl Machine {
    fn named(list: &str) -> Option<Self> {
        let (platform, identity) = list.rsplit_once('-')?;
        let is_root = match identity {
            "root" => true,
            "user" => false,
            _ => return None,
        };
        let platforms = [
            "freebsd",
            "macos",
            "netbsd",
            "openbsd",
            "dragonfly",
            "illumos",
            "i386",
            "qemu",
        ];
        platforms.contains(&platform).then(|| Self {
            platform: platform.to_owned(),
            is_root,
        })
    }

    fn is_linux(&self) -> bool {
        self.platform == "i386" || self.is_emulated()
    }

    fn is_emulated(&self) -> bool {
        self.platform == "qemu"
    }

    /// Prints each case that this machine skips, with the reason.
    fn print_skips(&self, cases: &[Case]) {
        for case in cases {
            let reasons = case.needs.iter().filter_map(|need| need.unmet_on(self));
            let reasons: Vec<_> = reasons.collect();
            if !reasons.is_empty() {
                println!(
                    "{}::{} # {}",
                    case.module,
                    case.function,
                    reasons.join(", ")
                );
            }
        }
    }
}

/// The numbers that id(1) prints, sorted. It asks the same databases as the library on every
/// system.
pub(crate) fn ids(arguments: &[&str]) -> Option<Vec<u32>> {
    let output = Command::new("id").args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let words = text.split_ascii_whitespace().map(|id| id.parse().ok());
    let mut ids: Vec<u32> = words.collect::<Option<_>>()?;
    ids.sort_unstable();
    ids.dedup();
    Some(ids)
}

fn has_test_user() -> bool {
    let has_groups = |groups: Vec<u32>| match HAS_COMPUTED_GROUPS {
        true => TEST_USER_GROUPS.iter().all(|group| groups.contains(group)),
        false => groups == TEST_USER_GROUPS,
    };
    ids(&["-u", TEST_USER]) == Some(vec![TEST_USER_ID])
        && ids(&["-g", TEST_USER]) == Some(vec![TEST_USER_ID])
        && ids(&["-G", TEST_USER]).is_some_and(has_groups)
}

/// All groups that the databases list for [`TEST_USER`].
///
/// # Panics
///
/// When id(1) fails, or there is no such user.
pub fn test_user_groups() -> Vec<u32> {
    ids(&["-G", TEST_USER]).expect("the groups of the test user")
}

/// Whether a user is in groups that no administrator has listed: macOS puts every user in
/// `everyone`, and every local one in `localaccounts`.
const HAS_COMPUTED_GROUPS: bool = cfg!(target_vendor = "apple");

fn has_no_new_privileges() -> bool {
    #[cfg(target_os = "freebsd")]
    return sys::has_no_new_privileges(process::id()).is_ok_and(|state| state.is_some());
    #[cfg(not(target_os = "freebsd"))]
    cfg!(target_os = "linux")
}

/// A process of FreeBSD counts as stopped while it ends its other threads. If its timer expires
/// then, `realitexpire` (sys/kern/kern_time.c) sets `P2_ITSTOPPED`. `exit1` (sys/kern/kern_exit.c)
/// of FreeBSD 13.2, unlike that of 15, does not clear this flag, so that a further signal starts
/// the timer again, by `itimer_proc_continue`. Once the kernel uses the memory of the process for
/// another one, `callout_process` meets an invalid pointer. No privilege is needed for this.
fn survives_killed_timers() -> bool {
    #[cfg(target_os = "freebsd")]
    {
        static SURVIVES: LazyLock<bool> =
            LazyLock::new(|| sys::kernel_version().is_ok_and(|version| version >= 1_500_000));
        *SURVIVES
    }
    #[cfg(not(target_os = "freebsd"))]
    true
}

fn has_own_groups() -> bool {
    let name = Command::new("id").arg("-un").output();
    let name = name.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    name.is_ok_and(|name| ids(&["-G"]).is_some_and(|groups| ids(&["-G", &name]) == Some(groups)))
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

/// From <linux/capability.h>.
const CAP_SETUID: u32 = 7;
const CAP_SYS_PTRACE: u32 = 19;

/// Other systems than Linux have no capabilities, and root may do everything there.
fn has_capability(capability: u32) -> bool {
    if cfg!(not(target_os = "linux")) {
        return sys::effective_user() == 0;
    }
    status_mask("CapEff:").is_some_and(|set| set & 1 << capability != 0)
}

/// Whether an emulator of processors executes this program. It catches each signal whose default
/// is a core dump. Neither Rust nor the tester catches SIGTRAP.
fn is_emulated() -> bool {
    status_mask("SigCgt:").is_some_and(|set| set & 1 << (libc::SIGTRAP - 1) != 0)
}

/// A mask of proc(5), of this moment: it may change while the cases run.
fn status_mask(field: &str) -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let mask = status.lines().find_map(|line| line.strip_prefix(field))?;
    u64::from_str_radix(mask.trim(), 16).ok()
}

/// A case of a suite. [`case!`](crate::case) makes it.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    /// The module that has the function: the suite, and perhaps a module of it.
    pub module: &'static str,
    pub function: &'static str,
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
        let observer = (!observe::EXISTS).then_some("needs an observer of this platform");
        let needs = self.needs.iter().filter_map(|need| need.unmet());
        let reasons: Vec<_> = observer.into_iter().chain(needs).collect();
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

/// Runs the cases that the command line selects, as any Rust test does.
pub fn suite(cases: &[Case]) -> ExitCode {
    if let Err(text) = slowness::check() {
        eprintln!("{text}");
        return ExitCode::FAILURE;
    }
    if let Ok(list) = std::env::var(SKIPS_OF) {
        let Some(machine) = Machine::named(&list) else {
            eprintln!("{SKIPS_OF} is {list:?}, which names no list of another platform");
            return ExitCode::FAILURE;
        };
        machine.print_skips(cases);
        return ExitCode::SUCCESS;
    }
    set_up_process();
    // A case has only those descriptors open that it asks for, whatever the caller has open.
    sys::pass_on_standard_streams_alone();
    // The number is taken before another thread can open a file.
    let placeholder = File::open("/dev/null").expect("open /dev/null").into();
    let placeholder = sys::move_descriptor(placeholder, control::CONTROL, true);
    sys::reserve_number(placeholder.expect("take a number")).expect("keep the number");
    if let Some(again) = std::env::var_os(AGAIN) {
        // A filter that matches nothing, and a skipped case, are no failure.
        let mut runs = cases.iter().filter(|case| case.unmet().is_none());
        assert!(runs.any(|case| *case.name() == *again), "no case {again:?}");
    }
    let mut arguments = Arguments::from_args();
    // Cases spend most of their time waiting for processes.
    let processors = thread::available_parallelism().map_or(1, NonZero::get);
    arguments.test_threads.get_or_insert(4 * processors);
    let fails_fast = std::env::var_os(FAIL_FAST).is_some();
    let is_timed = std::env::var_os(TIMES).is_some();
    let mut skipped = Vec::new();
    let trials = cases
        .iter()
        .map(|&case| match case.unmet() {
            None => Trial::test(case.name(), move || {
                let _time = is_timed.then(|| Stopwatch::start(case));
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
                // Not even `--ignored` may make it pass.
                Trial::ignorable_test(case.name(), move || Ok(Completion::ignored_with(&reason)))
                    .with_ignored_flag(true)
                    .with_kind(kind)
            }
        })
        .collect();
    record(&skipped);
    let code = libtest_mimic::run(&arguments, trials).exit_code();
    if is_timed {
        Stopwatch::print();
    }
    code
}

/// Measures a case until it is dropped, also by a panic.
struct Stopwatch {
    case: Case,
    began: Instant,
}

impl Stopwatch {
    fn start(case: Case) -> Self {
        let began = Instant::now();
        Self { case, began }
    }

    /// The cases that have ended, and how long each took.
    fn times() -> MutexGuard<'static, Vec<(Duration, Case)>> {
        static TIMES: Mutex<Vec<(Duration, Case)>> = Mutex::new(Vec::new());
        TIMES.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn print() {
        let mut times = Self::times();
        times.sort_unstable_by_key(|(time, _)| Reverse(*time));
        for (time, case) in times.iter() {
            println!("{:8.3} s  {}", time.as_secs_f64(), case.name());
        }
    }
}

impl Drop for Stopwatch {
    fn drop(&mut self) {
        Self::times().push((self.began.elapsed(), self.case));
    }
}

/// Makes up for defaults of the machine under which cases would fail.
///
/// launchd of macOS starts programs with a limit of 256 descriptors, fewer than cases that run side
/// by side have open. It gives each user, root included, a directory of temporary files that no
/// other user can enter, but a daemon that changes its user must. Its /tmp is a symbolic link,
/// whereas errors name the directory to which the link leads.
///
/// Unless `TMPDIR` names a directory, the files of the cases are in memory, where that is possible.
fn set_up_process() {
    const ENOUGH_DESCRIPTORS: u64 = 1024;
    sys::raise_descriptor_limit(ENOUGH_DESCRIPTORS).expect("raise the limit of descriptors");
    let usual = std::env::temp_dir();
    let is_chosen = std::env::var_os("TMPDIR").is_some();
    let in_memory = memory_directory().filter(|_| !is_chosen);
    let directory = in_memory.or_else(|| fs::canonicalize(&usual).ok());
    let directory = directory
        .filter(|directory| can_be_entered_by_all(directory))
        .unwrap_or_else(|| fs::canonicalize("/tmp").expect("a directory /tmp"));
    if directory != usual {
        sys::set_environment("TMPDIR", directory.to_str().expect("a plain path"));
    }
}

/// A directory in memory that is as good as one on a disk. A suite makes and removes thousands of
/// files, and ext4 looks at every file that was removed in the last minutes before it makes one.
fn memory_directory() -> Option<PathBuf> {
    #[cfg(target_os = "linux")]
    {
        const ENOUGH_SPACE: u64 = 1 << 30;
        let directory = Path::new("/dev/shm");
        let is_good = sys::may_execute_set_id(directory)
            && sys::free_space(directory).is_ok_and(|bytes| bytes >= ENOUGH_SPACE)
            && tempfile::tempdir_in(directory).is_ok();
        is_good.then(|| directory.to_owned())
    }
    #[cfg(not(target_os = "linux"))]
    None
}

fn can_be_entered_by_all(directory: &Path) -> bool {
    let is_open = |above: &Path| {
        let found = fs::metadata(above);
        found.is_ok_and(|found| found.permissions().mode() & 0o001 != 0)
    };
    directory.ancestors().all(is_open)
}

/// The environment variable with the name of the only case to run.
const AGAIN: &str = "TESTER_AGAIN";

/// A command that runs a case of this suite in a process of its own.
///
/// # Errors
///
/// When the path of this program is unknown.
pub fn again(case: &str) -> io::Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["--exact", case]).env(AGAIN, case);
    // The skipped cases are in the list already.
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

/// Appends with one write, so that suites that run side by side do not mix their lines.
fn record(skipped: &[String]) {
    let Some(path) = std::env::var_os(SKIPPED_LIST) else {
        return;
    };
    let written = OpenOptions::new()
        .create(true)
        .append(true)
        .open(&path)
        .and_then(|mut file| file.write_all(skipped.concat().as_bytes()));
    // An incomplete list would hide a skipped case.
    written.unwrap_or_else(|error| panic!("cannot append to {path:?}: {error}"));
}
