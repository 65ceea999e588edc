//! Every call fails in turn: the launcher gets the exact kind and errno and
//! nothing is left, or the start succeeds as if nothing had been.
//!
//! What calls there are is not known by heart: a start is traced, and each call
//! that the library is seen to make needs a row in [`rows`], and each row a
//! call. How a call is named is told in [`tester::fault`].
//!
//! Starts differ, and so do the calls that they make: each [`Scene`] is one.
//!
//! # Reading a failure
//!
//! `Untidy: intermediate open(daemon.pid) [1], errno 28: ...` means that the
//! second such call of the intermediate in that scene was made to fail with errno
//! 28, which no kernel saw; what follows is what did not become of the start as
//! the row says, with a full account of the case. A call without a row is a new
//! one, or one that this libc makes and others do not: think of what it can fail
//! with (its man page lists the errnos), what the launcher is to get then, and
//! add a row.
//!
//! # How much is tried
//!
//! Each row is tried in the first scene that has such a call, at the first of
//! them, with the first of the errnos that come to the same, and in its other
//! ways; and once more where other code makes the call: under `execute`, in the
//! foreground, by a readiness. With [`ALL`] set in the environment, as
//! `ci/test.sh` does, every call in every scene is tried, and each errno in the
//! row's own. [`FIGURES`] has the numbers printed. A fault must strike, save
//! where it is a matter of timing whether the call is made.
//!
//! Lies, calls that return 0 without having done anything, are tried where 0
//! means success and nothing else. Most are noticed: an identity and a root
//! directory that are not what was set fail the start (`PrivilegesRetained`), as
//! does a pid file whose owner and mode are not. For the rest the kernel is
//! [`Believed`], and all else is as it should be.
//!
//! Not tried is what the man page has no error for, the allocator's calls, for
//! whose failure Rust aborts, and those of the name service one by one: which
//! there are depends on the machine. The intermediate is not to allocate, so
//! that such a call of its has no row. Nor does a daemon hear nothing (0) where
//! it waits for the acknowledgement: that cannot be told from its launcher's end,
//! and the launcher may have committed the start by then.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::{self, Permissions};
use std::ops::Range;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::panic::{self, AssertUnwindSafe};
use std::process::ExitCode;
use std::ptr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{LazyLock, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tester::config::{
    Bytes, Deferral, Disposition, Entry, ErrorText, Foreground, Life, OpenDescriptor, ReadinessUse,
    Step, Stream, SupplementaryGroups,
};
use tester::control::Message;
use tester::crash::Victim;
use tester::fault::{Fault, How, Made};
use tester::harness::{Manager, PidFile, slowness};
use tester::report::{Descriptor, IdTriple, Place, SignalSet, Terminal};
use tester::suite::{Need, TEST_USER, TEST_USER_GROUPS, TEST_USER_ID};
use tester::{Run, Scenario, case, scenario, suite, sys};

fn main() -> ExitCode {
    suite(&[
        case!(every_call_has_a_row_and_every_row_a_call, needs Faults),
        case!(every_call_of_roots_has_a_row_and_every_row_a_call, needs Root, TestUser, Tracing, Faults),
        case!(every_row_is_tried, needs Faults),
        case!(a_fault_in_an_ordinary_start_is_told_or_does_not_matter, needs Faults),
        case!(a_fault_in_what_only_root_can_do_is_told, needs Root, TestUser, Tracing, Faults),
        case!(a_fault_in_a_sandbox_is_told_or_does_not_matter, needs Faults),
        case!(a_fault_in_an_untidy_start_is_told_or_does_not_matter, needs Faults),
        case!(a_fault_beside_a_running_daemon_does_not_matter, needs Faults),
        case!(a_fault_on_top_of_a_failure_does_not_hide_it, needs Faults),
        case!(a_fault_on_top_of_a_panic_does_not_hide_it, needs Faults),
        case!(a_fault_on_top_of_a_death_does_not_hide_it, needs Faults),
        case!(a_fault_when_the_time_is_up_does_not_matter, needs Faults),
        case!(a_fault_when_the_intermediate_is_killed_does_not_matter, needs Faults),
        case!(a_fault_where_nothing_names_an_orphan_does_not_matter, needs Faults),
        case!(an_orphan_that_nothing_names_leaves_an_empty_pid_file_when_it_is_killed, needs Faults),
        case!(a_late_daemon_is_killed_though_nothing_could_be_handed_over, needs Faults),
        case!(a_fault_when_the_launcher_is_killed_does_not_matter, needs Faults),
        case!(a_fault_when_the_daemon_is_alone_does_not_matter, needs Faults),
        case!(a_fault_under_execute_is_told_to_both, needs Faults),
        case!(a_fault_in_getting_ready_is_told_or_does_not_matter, needs Faults),
        case!(a_fault_on_top_of_a_daemons_refusal_does_not_hide_it, needs Faults),
        case!(a_fault_on_top_of_a_readiness_dropped_does_not_hide_it, needs Faults),
        case!(a_fault_in_a_clean_exit_does_not_matter, needs Faults),
        case!(a_fault_in_the_foreground_is_returned_or_does_not_matter, needs Faults),
        case!(a_database_that_cannot_be_read_is_told, needs Root, TestUser, Tracing, Faults),
        case!(every_kind_of_error_is_provoked),
    ])
}

/// The environment variable that asks for every errno at every call.
const ALL: &str = "TESTER_ALL_FAULTS";

// --- The table ---------------------------------------------------------------

/// Calls that are alike, and what becomes of the start when one fails.
struct Row {
    process: Victim,
    /// By name and arguments; a star at the end stands for anything.
    call: String,
    /// Which of the calls of that name.
    which: Range<usize>,
    trials: Vec<Trial>,
    /// Why no errno is tried.
    never_fails: Option<&'static str>,
    /// Why it may not be made.
    made_if: Option<Condition>,
    /// From which of them on it is a matter of timing whether they are made.
    by_timing_from: usize,
    /// Whether one of them stands for all, outside of the row's own scene.
    are_alike: bool,
    /// The start that makes them.
    scene: Scene,
}

/// Why a call may not be made in its scene.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Condition {
    /// It takes another scene than an ordinary start.
    OtherScene,
    /// Who waits for whom is a matter of timing.
    Timing,
    /// Only root makes it.
    Root,
    /// Something else decides.
    Other(&'static str),
}

impl From<&'static str> for Condition {
    fn from(what: &'static str) -> Self {
        Self::Other(what)
    }
}

/// Makes [`Scene`] and, for each, the case that tries its rows.
macro_rules! scenes {
    ($( $(#[$documentation:meta])* $scene:ident $case:ident; )*) => {
        /// Which start it is.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        enum Scene {
            $( $(#[$documentation])* $scene, )*
        }

        impl Scene {
            const ALL: &[Self] = &[$( Self::$scene ),*];
        }

        $( fn $case() {
            each_fault(Scene::$scene);
        } )*
    };
}

scenes! {
    /// With every option that anyone may use.
    Ordinary a_fault_in_an_ordinary_start_is_told_or_does_not_matter;
    /// With every option that there is.
    OfRoot a_fault_in_what_only_root_can_do_is_told;
    /// Where unshare(2) and close_range(2) are forbidden.
    Sandboxed a_fault_in_a_sandbox_is_told_or_does_not_matter;
    /// Where standard input and output are closed, and there is a pid file that
    /// others can write to.
    Untidy a_fault_in_an_untidy_start_is_told_or_does_not_matter;
    /// Where the pid file is a running daemon's.
    Locked a_fault_beside_a_running_daemon_does_not_matter;
    /// Whose initialization fails.
    Failing a_fault_on_top_of_a_failure_does_not_hide_it;
    /// Whose action panics.
    Panicking a_fault_on_top_of_a_panic_does_not_hide_it;
    /// Whose daemon exits in an action.
    Dying a_fault_on_top_of_a_death_does_not_hide_it;
    /// Whose time is up.
    Late a_fault_when_the_time_is_up_does_not_matter;
    /// Whose intermediate is killed as soon as there is a daemon.
    Orphaned a_fault_when_the_intermediate_is_killed_does_not_matter;
    /// The same, where the launcher has nothing that names the daemon.
    Nameless a_fault_where_nothing_names_an_orphan_does_not_matter;
    /// Whose launcher is killed while it waits.
    Abandoned a_fault_when_the_launcher_is_killed_does_not_matter;
    /// Whose launcher and intermediate are killed, under `execute`.
    Alone a_fault_when_the_daemon_is_alone_does_not_matter;
    /// Under `execute`.
    Executed a_fault_under_execute_is_told_to_both;
    /// Whose daemon reports by itself that it is ready.
    Deferred a_fault_in_getting_ready_is_told_or_does_not_matter;
    /// Whose daemon says that it is not going to be ready.
    Refusing a_fault_on_top_of_a_daemons_refusal_does_not_hide_it;
    /// Whose daemon forgets to say so, and exits.
    Forgetful a_fault_on_top_of_a_readiness_dropped_does_not_hide_it;
    /// Whose daemon removes its pid file and exits.
    Guarded a_fault_in_a_clean_exit_does_not_matter;
    /// Without any other process.
    Foreground a_fault_in_the_foreground_is_returned_or_does_not_matter;
}

impl Scene {
    /// Whose rows are its own, too, unless it says otherwise.
    fn kin(self) -> Option<Self> {
        match self {
            Self::Locked | Self::Panicking | Self::Refusing | Self::Forgetful => {
                Some(Self::Failing)
            }
            Self::Abandoned => Some(Self::Late),
            Self::Nameless => Some(Self::Orphaned),
            _ => None,
        }
    }

    fn is_possible(self) -> bool {
        static IS_ROOTS: LazyLock<bool> = LazyLock::new(|| {
            let needs = [Need::Root, Need::TestUser, Need::Tracing];
            needs.iter().all(|need| need.unmet().is_none())
        });
        self != Self::OfRoot || *IS_ROOTS
    }

    /// Whether it is a matter of timing how far the other processes get.
    fn is_cut_short(self) -> bool {
        matches!(
            self,
            Self::Late | Self::Orphaned | Self::Nameless | Self::Abandoned | Self::Alone
        )
    }

    /// What becomes of it without any other fault: the kind of error that
    /// somebody gets to see.
    fn fails_with(self) -> Option<String> {
        let kind = match self {
            Self::Locked => return Some(format!("LockPidfile({})", libc::EWOULDBLOCK)),
            Self::Failing => "Initialize",
            Self::Panicking => "Panicked",
            Self::Dying => "DaemonExited",
            Self::Late => "StartupTimeout",
            Self::Orphaned | Self::Nameless => "IntermediateExited",
            Self::Alone => "LauncherGone",
            Self::Refusing | Self::Forgetful => "NotReady",
            _ => return None,
        };
        Some(kind.to_owned())
    }

    /// Nobody is told where the launcher is killed and nobody else returns.
    fn succeeds(self) -> bool {
        self.fails_with().is_none() && self != Self::Abandoned
    }

    fn kills_launcher(self) -> bool {
        matches!(self, Self::Abandoned | Self::Alone)
    }

    fn returns_in_both(self) -> bool {
        matches!(self, Self::Executed | Self::Abandoned | Self::Alone)
    }
}

/// A way to fail.
#[derive(Clone, Copy, Debug)]
struct Trial {
    /// And whether all later ones fail, too.
    how: (How, bool),
    becomes: Becomes,
}

/// What becomes of the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Becomes {
    /// It fails with this kind, which has the errno of the call.
    Fails(&'static str),
    /// The same, unless it has failed before: that is the cause.
    FailsOr(&'static str),
    /// It fails with exactly this.
    FailsAs(&'static str),
    /// The same, unless it has failed before: that is the cause.
    FailsAsOr(&'static str),
    /// As `FailsAs`, unless the machine forbids unshare(2) to every process, as a
    /// container does: its answer is not believed there, whichever it is.
    FailsUnlessForbidden(&'static str),
    /// It ends as if nothing had been, and this is why.
    Whole(&'static str),
    /// There is a daemon, but of all that is seen of it just these are not as
    /// they should be, and nobody has noticed.
    Believed(&'static [Aspect]),
}

/// What is seen of a daemon and its pid file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Aspect {
    Session,
    Parent,
    PidFile,
    PidFileLock,
    PidFileMode,
    PidFileOwner,
    StandardInput,
    StandardOutput,
    StandardError,
    Descriptors,
    Umask,
    NoNewPrivileges,
    SignalMask,
    SignalActions,
    Root,
    WorkingDirectory,
    Identity,
    Capabilities,
}

use Becomes::{Believed, Fails, FailsAs, FailsAsOr, FailsOr, FailsUnlessForbidden, Whole};

fn launcher(call: &str) -> Row {
    Row::new(Victim::Launcher, call)
}

fn intermediate(call: &str) -> Row {
    Row::new(Victim::Intermediate, call)
}

fn daemon(call: &str) -> Row {
    Row::new(Victim::Daemon, call)
}

impl Row {
    fn new(process: Victim, call: impl Into<String>) -> Self {
        Self {
            process,
            call: call.into(),
            which: 0..usize::MAX,
            trials: Vec::new(),
            never_fails: None,
            made_if: None,
            by_timing_from: usize::MAX,
            are_alike: false,
            scene: Scene::Ordinary,
        }
    }

    /// Those from this one on; the row before says up to which.
    fn from(mut self, first: usize) -> Self {
        self.which.start = first;
        self
    }

    /// Those before this one.
    fn up_to(mut self, end: usize) -> Self {
        self.which.end = end;
        self
    }

    /// Just this one.
    fn nth(self, number: usize) -> Self {
        self.from(number).up_to(number + 1)
    }

    fn trial(mut self, how: How, always: bool, becomes: Becomes) -> Self {
        let how = (how, always);
        self.trials.push(Trial { how, becomes });
        self
    }

    /// Once, with each of these.
    fn errnos(self, errnos: &[i32], becomes: Becomes) -> Self {
        errnos.iter().fold(self, |row, errno| {
            row.trial(How::Errno(*errno), false, becomes)
        })
    }

    /// From then on, with each of these.
    fn always(self, errnos: &[i32], becomes: Becomes) -> Self {
        errnos.iter().fold(self, |row, errno| {
            row.trial(How::Errno(*errno), true, becomes)
        })
    }

    /// Interrupted by a signal, it is made again.
    fn retried(self) -> Self {
        self.errnos(&[libc::EINTR], Whole("it is made again"))
    }

    fn short(self, becomes: Becomes) -> Self {
        self.trial(How::Short, false, becomes)
    }

    /// Returns 0, but does nothing.
    fn lie(self, becomes: Becomes) -> Self {
        self.trial(How::Lie, false, becomes)
    }

    fn never_fails(mut self, reason: &'static str) -> Self {
        self.never_fails = Some(reason);
        self
    }

    fn made_if(mut self, condition: impl Into<Condition>) -> Self {
        let condition = condition.into();
        if condition == Condition::Timing {
            self.by_timing_from = 0;
        }
        self.made_if = Some(condition);
        self
    }

    fn alike(mut self) -> Self {
        self.are_alike = true;
        self
    }

    /// There is one, but whether there are more than so many is a matter of
    /// timing.
    fn by_timing_from(mut self, number: usize) -> Self {
        self.by_timing_from = number;
        self
    }

    fn of_root(self) -> Self {
        self.scene(Scene::OfRoot)
    }

    fn scene(mut self, scene: Scene) -> Self {
        self.scene = scene;
        self
    }

    fn covers(&self, process: Victim, call: &str, occurrence: usize) -> bool {
        let is_named = match self.call.strip_suffix('*') {
            Some(beginning) => call.starts_with(beginning),
            None => self.call == call,
        };
        is_named && self.process == process && self.which.contains(&occurrence)
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} [{}..", self.process, self.call, self.which.start)?;
        match self.which.end {
            usize::MAX => f.write_str("]"),
            end => write!(f, "{end}]"),
        }
    }
}

/// Pair 1 connects launcher and intermediate, pair 2 launcher and daemon, pair
/// 3 is how the intermediate hears of the daemon's end, and pair 4 how the
/// launcher hears that systemd has read.
fn all_rows() -> Vec<Row> {
    use libc::{
        EACCES, EAGAIN, ECHILD, ECONNRESET, EDQUOT, EEXIST, EFBIG, EINTR, EINVAL, EIO, ELOOP,
        EMFILE, ENAMETOOLONG, ENFILE, ENOBUFS, ENOENT, ENOLCK, ENOMEM, ENOSPC, ENOSYS, ENOTDIR,
        ENXIO, EPERM, EPIPE, EROFS, ESRCH, ETOOMANYREFS,
    };

    const NO_ERRORS: &str = "the man page has no errors that these arguments can have";
    const NOTHING_TO_DO: &str = "there is nothing that could be done about it";
    const CLOSED: &str = "the descriptor is closed all the same";
    const LOOKS_AGAIN: &str = "who waits looks again in any case";
    const OPTIONAL: &str = "a notification that fails does not fail the start";
    const HELD: &str = "whoever the daemon starts has it, too";
    const OF_FORK: &str = "what libc does besides forking";
    const OF_CLOSE: &str = "std's own check of a descriptor it is about to close";
    const OF_EXIT: &str = "what std does at exit";
    const BY_TIMING: Condition = Condition::Timing;
    const IS_ROOT: Condition = Condition::Root;
    const FAILED: Condition = Condition::OtherScene;
    const CAUSE: &str = "the first failure is the one that is told";
    const READS_REST: &str = "the rest is read next";
    const CLEARS: &str = "whoever is left clears the pid file, too";
    const CAN_DO_WITHOUT: &str = "a start can do without";
    const STILL_LOCKED: &str = "the file is locked all the same";

    const OPENING: [i32; 7] = [EACCES, EMFILE, ENFILE, ENOMEM, EIO, ENAMETOOLONG, ENXIO];
    const SENDING: [i32; 2] = [ENOBUFS, ENOMEM];
    const GONE: [i32; 2] = [EPIPE, ECONNRESET];
    const RECEIVING: [i32; 2] = [ENOMEM, ENOBUFS];
    const SOCKETS: [i32; 4] = [EMFILE, ENFILE, ENOMEM, ENOBUFS];
    const DIRECTORY: [i32; 7] = [ENOENT, EACCES, EIO, ELOOP, ENOMEM, ENOTDIR, ENAMETOOLONG];
    const EXAMINING: [i32; 2] = [EIO, ENOMEM];
    const FORKING: [i32; 2] = [EAGAIN, ENOMEM];

    // Of the intermediate, once it has introduced the daemon.
    let last_word = |becomes| {
        intermediate("sendmsg(pair 1)")
            .from(1)
            .errnos(&SENDING, becomes)
            .errnos(&GONE, becomes)
            .retried()
    };

    let looks_again = || {
        intermediate("waitpid")
            .by_timing_from(1)
            .errnos(&[EPERM, EINTR], Whole(LOOKS_AGAIN))
    };
    let reaps = || {
        launcher("waitpid")
            .errnos(&[EINVAL, EPERM, ECHILD], Whole(CAUSE))
            .retried()
    };

    let mut rows = vec![
        // --- The launcher ---
        launcher("getcwd").errnos(
            &[ENOENT, EACCES, ENOMEM],
            Whole("it is for the removal of the pid file alone"),
        ),
        launcher("unshare")
            .nth(0)
            .errnos(&[EPERM, ENOSYS], Whole("/proc counts the threads, too"))
            .errnos(
                &[EINVAL],
                Whole("they are counted again, since one may just have ended"),
            )
            .always(&[EINVAL], FailsUnlessForbidden("MultiThreaded")),
        launcher("unshare").from(1).errnos(
            &[EPERM, EINVAL],
            Whole("streams are not flushed where other threads may hold them"),
        ),
        launcher("getpid").never_fails(NO_ERRORS),
        launcher("socketpair")
            .up_to(2)
            .errnos(&SOCKETS, Fails("Channel")),
        launcher("fstat(pair 2)").errnos(&EXAMINING, Fails("Channel")),
        launcher("fstat(work/run/daemon.pid)")
            .nth(0)
            .errnos(&EXAMINING, Whole(CAN_DO_WITHOUT)),
        launcher("fstat(work/run/daemon.pid)")
            .from(1)
            .errnos(&EXAMINING, Whole(CLEARS))
            .made_if(BY_TIMING),
        launcher("fcntl(closed, F_GETFD)").never_fails("that it fails is what is asked"),
        launcher("fcntl(/proc, F_GETFD)").never_fails(NO_ERRORS),
        launcher("sigprocmask").never_fails(NO_ERRORS),
        launcher("fork").errnos(&FORKING, Fails("Fork")),
        launcher("gettid").never_fails(OF_FORK).made_if(OF_FORK),
        launcher("recvmsg(pair 1)")
            .by_timing_from(3)
            .errnos(&RECEIVING, Fails("Channel"))
            .errnos(&[ECONNRESET], FailsAs("IntermediateExited"))
            .lie(FailsAs("IntermediateExited"))
            .retried()
            .short(Whole(READS_REST)),
        launcher("recv(pair 2)")
            .by_timing_from(1)
            .errnos(&RECEIVING, Fails("Channel"))
            .errnos(&[ECONNRESET], FailsAs("DaemonExited"))
            .lie(FailsAs("DaemonExited"))
            .retried()
            .short(Whole(READS_REST)),
        launcher("poll")
            .errnos(&[ENOMEM, EINTR], Whole(LOOKS_AGAIN))
            .lie(Whole(LOOKS_AGAIN))
            .made_if(BY_TIMING),
        launcher("sendmsg(pair 1)")
            .errnos(&SENDING, Fails("Channel"))
            .errnos(&GONE, FailsAs("DaemonExited"))
            .retried(),
        launcher("pidfd_open").errnos(
            &[EMFILE, ENOSYS, ENOMEM, EPERM],
            Whole("the intermediate is waited for without it"),
        ),
        launcher("waitpid")
            .errnos(&[EINVAL, EPERM], Fails("Wait"))
            .errnos(&[ECHILD], Whole("somebody else has reaped it"))
            .lie(Whole("it has ended all the same"))
            .retried(),
        launcher("sendmsg(pair 2)")
            .errnos(&SENDING, Fails("Channel"))
            .errnos(&GONE, FailsAs("DaemonExited"))
            .retried(),
        launcher("socket").errnos(&SOCKETS, Whole(OPTIONAL)),
        launcher("connect(socket)")
            .errnos(&[ENOENT, EACCES, EAGAIN], Whole(OPTIONAL))
            .retried()
            .lie(Whole(OPTIONAL)),
        launcher("setsockopt(socket)")
            .errnos(&[ENOMEM], Whole(OPTIONAL))
            .lie(Whole(OPTIONAL)),
        launcher("socketpair")
            .from(2)
            .errnos(&SOCKETS, Whole(OPTIONAL)),
        launcher("sendmsg(socket)")
            .errnos(&[ENOBUFS, ENOMEM, EAGAIN, ETOOMANYREFS], Whole(OPTIONAL))
            .errnos(&GONE, Whole(OPTIONAL))
            .retried()
            .short(Whole(OPTIONAL)),
        launcher("_exit").never_fails(NO_ERRORS),
        // --- The intermediate ---
        intermediate("prctl(PR_SET_PDEATHSIG)").never_fails(NO_ERRORS),
        // Which is what a process gets to see whose parent is elsewhere.
        intermediate("getppid").lie(FailsAs("PidNamespace")),
        intermediate("setsid").errnos(&[EPERM], Fails("DetachSession")),
        intermediate("socketpair").errnos(&SOCKETS, Fails("Channel")),
        intermediate("sigaction(as it is)")
            .alike()
            .errnos(&[EPERM], Fails("ResetSignals")),
        intermediate("sigaction(SIG_DFL)")
            .from(1)
            .alike()
            .errnos(&[EPERM], Fails("ResetSignals")),
        // SIGHUP's, which is ignored.
        intermediate("sigaction(SIG_DFL)")
            .nth(0)
            .errnos(&[EPERM], Fails("ResetSignals"))
            .lie(Believed(&[Aspect::SignalActions])),
        intermediate("sigaction(a handler)").errnos(&[EPERM], Fails("Channel")),
        intermediate("close_range")
            .errnos(&[ENOMEM, EMFILE], Fails("CloseInheritedFds"))
            .errnos(&[EPERM, ENOSYS], Whole("/proc lists what is open, too"))
            .lie(Believed(&[Aspect::Descriptors])),
        intermediate("umask")
            .never_fails(NO_ERRORS)
            .lie(Believed(&[Aspect::PidFileMode, Aspect::Umask])),
        intermediate("chdir(work)")
            .errnos(&DIRECTORY, Fails("ChangeDirectory"))
            .lie(FailsAs("OpenPidfile(2)"))
            .retried(),
        intermediate("geteuid").never_fails(NO_ERRORS),
        intermediate("open(work/run)")
            .made_if(IS_ROOT)
            .errnos(&OPENING, Fails("OpenPidfile"))
            .errnos(&[ENOENT, ENOTDIR, ELOOP], Fails("OpenPidfile"))
            .retried(),
        intermediate("fstat(work/run)")
            .made_if(IS_ROOT)
            .errnos(&EXAMINING, Fails("OpenPidfile")),
        intermediate("open(work/run/daemon.pid)")
            .nth(0)
            .errnos(&OPENING, Fails("OpenPidfile"))
            .errnos(&[ELOOP, EROFS], Fails("OpenPidfile"))
            .errnos(&[ENOENT], Whole("it is made next"))
            .retried(),
        intermediate("open(work/run/daemon.pid)")
            .nth(1)
            .errnos(&OPENING, Fails("OpenPidfile"))
            .errnos(&[ENOSPC, EDQUOT, EROFS], Fails("OpenPidfile"))
            .errnos(&[EEXIST], Whole("whoever was faster has made it"))
            .retried(),
        // To read it, for the daemon.
        intermediate("open(work/run/daemon.pid)")
            .from(2)
            .errnos(&OPENING[1..], Fails("OpenPidfile"))
            .errnos(&[EACCES], Whole("the owner gets the permission to read it"))
            .errnos(
                &[ENOENT, ELOOP],
                Whole("a file that was replaced is looked at again"),
            )
            .retried(),
        intermediate("fchmod(work/run/daemon.pid)")
            .never_fails("it is made in another fault's wake")
            .made_if(FAILED),
        intermediate("fstat(work/run/daemon.pid)")
            .up_to(3)
            .errnos(&EXAMINING, Fails("OpenPidfile")),
        intermediate("fstat(work/run/daemon.pid)")
            .from(3)
            .errnos(&EXAMINING, Whole(CLEARS))
            .made_if(FAILED),
        intermediate("flock(work/run/daemon.pid, LOCK_EX)")
            .nth(0)
            .errnos(&[ENOLCK, EIO], Fails("LockPidfile"))
            .errnos(&[EAGAIN], Whole("a prober's lock is waited for"))
            .lie(Whole("it is taken again before the pid is written"))
            .retried(),
        intermediate("flock(work/run/daemon.pid, LOCK_EX)")
            .from(1)
            .errnos(&[ENOLCK], Whole(STILL_LOCKED))
            .errnos(&[EAGAIN], FailsAs("LauncherGone"))
            .lie(Whole(STILL_LOCKED))
            .retried(),
        intermediate("getpid").never_fails(NO_ERRORS),
        intermediate("pwrite(work/run/daemon.pid)")
            .errnos(&[ENOSPC, EDQUOT, EIO, EFBIG], Fails("WritePid"))
            .retried()
            .short(FailsAs("WritePidUnspecifiedError"))
            .lie(FailsAs("WritePidUnspecifiedError")),
        intermediate("stat(work/run/daemon.pid)")
            .errnos(&EXAMINING, Fails("OpenPidfile"))
            .errnos(&[ENOENT], Whole("the new file is taken")),
        intermediate("ftruncate(work/run/daemon.pid)")
            .errnos(&[EIO, EPERM, EROFS], Fails("TruncatePidfile"))
            .lie(Whole("it was empty"))
            .retried(),
        intermediate("fork").errnos(&FORKING, Fails("Fork")),
        intermediate("pidfd_open").errnos(&[EMFILE, ENOSYS, ENOMEM, EPERM], Whole(CAN_DO_WITHOUT)),
        intermediate("sendmsg(pair 1)")
            .nth(0)
            .errnos(&[ETOOMANYREFS, ENOBUFS, ENOMEM], Whole(CAN_DO_WITHOUT))
            .errnos(&GONE, Whole("that is noticed later"))
            .retried(),
        last_word(FailsAs("IntermediateExited")).short(Whole("the rest is sent next")),
        looks_again(),
        intermediate("recv(pair 1)")
            .by_timing_from(1)
            .errnos(&RECEIVING, Fails("Channel"))
            .errnos(&[ECONNRESET], FailsAs("DaemonExited"))
            .retried()
            .lie(FailsAs("DaemonExited")),
        intermediate("poll")
            .errnos(&[ENOMEM, EINTR], Whole(LOOKS_AGAIN))
            .lie(Whole(LOOKS_AGAIN))
            .made_if(BY_TIMING),
        intermediate("recv(pair 3)")
            .errnos(&RECEIVING, Whole(LOOKS_AGAIN))
            .lie(Whole(LOOKS_AGAIN))
            .made_if(BY_TIMING),
        intermediate("sigprocmask")
            .never_fails(NO_ERRORS)
            .made_if(BY_TIMING),
        intermediate("gettid").never_fails(OF_FORK).made_if(OF_FORK),
        intermediate("set_robust_list")
            .never_fails(OF_FORK)
            .made_if(OF_FORK),
        intermediate("set_tid_address")
            .never_fails(OF_FORK)
            .made_if(OF_FORK),
        intermediate("_exit").never_fails(NO_ERRORS),
        // --- The daemon ---
        daemon("gettid").never_fails(OF_FORK).made_if(OF_FORK),
        daemon("set_robust_list")
            .never_fails(OF_FORK)
            .made_if(OF_FORK),
        daemon("set_tid_address")
            .never_fails(OF_FORK)
            .made_if(OF_FORK),
        daemon("sigaction(SIG_DFL)").never_fails(NO_ERRORS),
        daemon("getpid").never_fails(NO_ERRORS),
        daemon("open(/dev/null)")
            .errnos(&OPENING, Fails("OpenDevnull"))
            .errnos(&[ENOENT], Fails("OpenDevnull"))
            .retried(),
        daemon("fstat(/dev/null)").errnos(&EXAMINING, Fails("OpenDevnull")),
        daemon("fcntl(stderr, F_GETFD)").never_fails("it was open just now"),
        daemon("dup2(/dev/null, 0)")
            .errnos(&[EMFILE, EPERM], Fails("RedirectStreams"))
            .errnos(&[libc::EBUSY], Whole("it is made again"))
            // Which is what it returns.
            .lie(Believed(&[Aspect::StandardInput]))
            .retried(),
        daemon("dup2(log, 1)")
            .errnos(&[EMFILE, EPERM], Fails("RedirectStreams"))
            .errnos(&[libc::EBUSY], Whole("it is made again"))
            .retried(),
        daemon("close(/dev/null)")
            .errnos(&[EIO], Fails("CloseDevnull"))
            .errnos(&[EINTR], Whole(CLOSED)),
        daemon("fchown(work/run/daemon.pid)")
            .of_root()
            .errnos(&[EPERM, EROFS, EIO], Fails("ChownPidfile"))
            .retried()
            .lie(FailsAs("ChownPidfile(1)")),
        daemon("fstat(work/run/daemon.pid)")
            .of_root()
            .errnos(&EXAMINING, Fails("ChownPidfile")),
        daemon("fcntl(work/run/daemon.pid, F_SETLK)")
            .errnos(&[ENOLCK], Fails("LockPidfile"))
            .errnos(&[EAGAIN], FailsAs("LockPidfile(11)"))
            .errnos(&[EACCES], FailsAs("LockPidfile(13)"))
            .retried(),
        daemon("fstat(pair 2)").errnos(&EXAMINING, Whole(HELD)),
        daemon("sigprocmask").never_fails(NO_ERRORS),
        daemon("unshare")
            .errnos(&[EPERM, ENOSYS], Whole("/proc counts the threads, too"))
            .errnos(
                &[EINVAL],
                Whole("they are counted again, since one may just have ended"),
            )
            .always(&[EINVAL], FailsUnlessForbidden("SetNoNewPrivileges(1)")),
        daemon("getcwd")
            .of_root()
            .nth(0)
            .errnos(&[ENOENT, EACCES], Whole("the new root is entered")),
        daemon("stat(.)")
            .of_root()
            .nth(0)
            .errnos(&EXAMINING, Whole("the new root is entered")),
        daemon("chdir(../jail)")
            .of_root()
            .errnos(&DIRECTORY, Fails("Chroot"))
            .lie(Believed(&[Aspect::Root, Aspect::WorkingDirectory]))
            .retried(),
        daemon("getcwd")
            .of_root()
            .from(1)
            .errnos(&[ENOENT, EACCES, ENOMEM], Fails("Chroot")),
        daemon("stat(.)")
            .of_root()
            .from(1)
            .errnos(&EXAMINING, Fails("Chroot")),
        daemon("chroot(.)")
            .of_root()
            .errnos(&[EPERM, EACCES, EIO, ENOMEM], Fails("Chroot"))
            .lie(FailsAs("PrivilegesRetained")),
        daemon("chdir(/)")
            .of_root()
            .errnos(&[EACCES, EIO, ENOMEM], Fails("Chroot"))
            .lie(Whole("the working directory is the new root by then"))
            .retried(),
        daemon("getresuid")
            .of_root()
            .nth(0)
            .never_fails(NO_ERRORS)
            .lie(Whole("root is who it was")),
        daemon("getresuid")
            .of_root()
            .from(1)
            .never_fails(NO_ERRORS)
            .lie(FailsAs("PrivilegesRetained")),
        daemon("getresgid")
            .of_root()
            .nth(0)
            .never_fails(NO_ERRORS)
            .lie(Whole("root is who it was")),
        daemon("getresgid")
            .of_root()
            .from(1)
            .never_fails(NO_ERRORS)
            .lie(FailsAs("PrivilegesRetained")),
        daemon("getgroups")
            .of_root()
            .up_to(2)
            .errnos(&[EPERM], Fails("SetSupplementaryGroups"))
            .lie(Whole("what was before is replaced in any case")),
        daemon("getgroups")
            .of_root()
            .from(2)
            .errnos(&[EPERM], Fails("SetSupplementaryGroups"))
            .lie(FailsAs("PrivilegesRetained")),
        daemon("setgroups(3)")
            .of_root()
            .errnos(&[EPERM, ENOMEM, EINVAL], Fails("SetSupplementaryGroups"))
            .lie(FailsAs("PrivilegesRetained")),
        daemon("setresgid(7001, 7001, 7001)")
            .of_root()
            .errnos(&[EPERM, EAGAIN], Fails("SetGroup"))
            .lie(FailsAs("PrivilegesRetained")),
        daemon("setresuid(7001, 7001, 7001)")
            .of_root()
            .errnos(&[EPERM, EAGAIN], Fails("SetUser"))
            .lie(FailsAs("PrivilegesRetained")),
        // The change of user has emptied the sets, so that nothing else is called:
        // tests/surroundings.rs.
        daemon("capget")
            .of_root()
            .errnos(&[EPERM, EINVAL], FailsAs("PrivilegesRetained"))
            .lie(Whole("what seems to be left is cleared")),
        daemon("prctl(PR_SET_NO_NEW_PRIVS)")
            .errnos(&[EINVAL, EPERM], Fails("SetNoNewPrivileges"))
            .lie(Believed(&[Aspect::NoNewPrivileges])),
        daemon("prctl(PR_SET_PDEATHSIG)").never_fails(NO_ERRORS),
        daemon("sendmsg(pair 2)")
            .errnos(&SENDING, Fails("Channel"))
            .errnos(&GONE, FailsAs("LauncherGone"))
            .retried()
            .short(Whole("the rest is sent next")),
        daemon("recv(pair 2)")
            .errnos(&RECEIVING, Whole("it is made again"))
            .retried(),
    ];

    // Where a failure or a death is cleaned up after.
    for (process, condition) in [
        (Victim::Launcher, BY_TIMING),
        (Victim::Intermediate, FAILED),
        (Victim::Daemon, FAILED),
    ] {
        rows.push(
            Row::new(process, "pread(work/run/daemon.pid)")
                .errnos(&[EIO], Whole(CLEARS))
                .made_if(condition),
        );
    }
    for call in [
        "fstat(work/run/daemon.pid)",
        "flock(work/run/daemon.pid, LOCK_EX)",
    ] {
        rows.push(daemon(call).errnos(&[EIO], Whole(CLEARS)).made_if(FAILED));
    }
    for process in [Victim::Intermediate, Victim::Daemon] {
        rows.push(
            Row::new(process, "flock(work/run/daemon.pid, LOCK_UN)")
                .errnos(&[ENOLCK], Whole(CLEARS))
                .retried()
                .made_if(FAILED),
        );
    }
    // The launcher does it if it has not heard the intermediate's last word: it
    // was killed, or has said it before the daemon's was read.
    let cleaning_up = || {
        [
            launcher("flock(work/run/daemon.pid, LOCK_EX)")
                .errnos(&[ENOLCK], Whole(STILL_LOCKED))
                .retried(),
            launcher("flock(work/run/daemon.pid, LOCK_UN)")
                .errnos(&[ENOLCK], Whole("the launcher's end unlocks it"))
                .retried(),
            launcher("pidfd_send_signal(15)")
                .errnos(&[ESRCH], Whole("SIGKILL comes a second later"))
                .lie(Whole("SIGKILL comes a second later")),
        ]
    };
    rows.extend(cleaning_up().map(|row| row.made_if(BY_TIMING)));
    rows.extend(cleaning_up().map(|row| row.scene(Scene::Orphaned)));
    // How the launcher looks for event queues if both sides are to go on.
    rows.extend(
        [
            launcher("open(/proc/self/fd)")
                .errnos(
                    &[ENOENT, EACCES, EMFILE, ENFILE],
                    Fails("EventQueuesUnknown"),
                )
                .retried(),
            launcher("getdents(/proc/*/fd)")
                .errnos(&[ENOENT, EIO], Fails("EventQueuesUnknown"))
                .lie(Whole("there is none that would be seen")),
            launcher("readlink(/proc/self/fd/*)")
                .errnos(&[EACCES, EIO], Fails("EventQueuesUnknown"))
                .errnos(&[ENOENT], Whole("it was closed meanwhile")),
            launcher("close(/proc/*/fd)").errnos(&[EIO, EINTR], Whole(CLOSED)),
            launcher("fcntl(/proc/*/fd, F_GETFD)")
                .never_fails(NOTHING_TO_DO)
                .made_if(OF_CLOSE),
        ]
        .map(|row| row.scene(Scene::Executed)),
    );
    for scene in [Scene::Abandoned, Scene::Alone] {
        for call in [
            "open(/proc/self/fd)",
            "getdents(/proc/*/fd)",
            "readlink(/proc/self/fd/*)",
            "close(/proc/*/fd)",
        ] {
            let row = launcher(call).never_fails("it is tried where the launcher lives");
            rows.push(row.scene(scene));
        }
        rows.push(
            launcher("fcntl(/proc/*/fd, F_GETFD)")
                .never_fails(NOTHING_TO_DO)
                .made_if(OF_CLOSE)
                .scene(scene),
        );
    }
    for call in ["close(log)", "fcntl(log, F_GETFD)"] {
        rows.push(launcher(call).never_fails(NOTHING_TO_DO).made_if(FAILED));
    }
    rows.extend([
        launcher("pidfd_send_signal(9)")
            .never_fails("it is the last resort")
            .made_if(BY_TIMING),
        daemon("close(work/run/daemon.pid)")
            .errnos(&[EIO, EINTR], Whole(CLOSED))
            .made_if(FAILED),
        daemon("fcntl(work/run/daemon.pid, F_GETFD)")
            .never_fails(NOTHING_TO_DO)
            .made_if(OF_CLOSE),
        daemon("dup2(/dev/null, 2)")
            .errnos(&[EMFILE, EPERM], Fails("RedirectStreams"))
            .errnos(&[libc::EBUSY], Whole("it is made again"))
            .retried()
            .made_if(FAILED),
        launcher("shutdown(pair 1)")
            .never_fails(NOTHING_TO_DO)
            .made_if(FAILED),
        launcher("shutdown(pair 2)")
            .never_fails(NOTHING_TO_DO)
            .made_if(FAILED),
        launcher("waitid")
            .never_fails(NOTHING_TO_DO)
            .made_if(FAILED),
        intermediate("send(pair 3)")
            .errnos(&[EAGAIN], Whole(LOOKS_AGAIN))
            .made_if(BY_TIMING),
        intermediate("sigreturn")
            .never_fails(NO_ERRORS)
            .made_if(FAILED),
        daemon("_exit").never_fails(NO_ERRORS).made_if(FAILED),
        daemon("sigaltstack").never_fails(OF_EXIT).made_if(FAILED),
        launcher("sigaltstack").never_fails(OF_EXIT).made_if(FAILED),
        daemon("getppid")
            .never_fails(NO_ERRORS)
            .made_if("the launcher is gone"),
        daemon("getcwd")
            .never_fails("it is for the name of a holder alone")
            .made_if(FAILED),
    ]);
    rows.extend(
        [
            // It has nobody else to tell.
            daemon("sendmsg(pair 2)")
                .errnos(&SENDING, FailsAs("DaemonExited"))
                .errnos(&GONE, FailsAs("DaemonExited"))
                .retried()
                .short(Whole("the rest is sent next")),
            launcher("sendmsg(pair 1)")
                .errnos(&SENDING, Whole(CAUSE))
                .errnos(&GONE, Whole(CAUSE))
                .retried(),
            reaps(),
            looks_again(),
            last_word(Whole(CAUSE)),
        ]
        .map(|row| row.scene(Scene::Failing)),
    );
    // An end of file that comes before the intermediate has ended would leave the
    // launcher without what it clears the pid file of a jailed daemon with. No kernel
    // makes one up.
    rows.push(
        launcher("recvmsg(pair 1)")
            .from(2)
            .by_timing_from(3)
            .errnos(&RECEIVING, Fails("Channel"))
            .retried()
            .short(Whole("the rest is read next"))
            .of_root(),
    );
    // The file is another start's by then, and left alone.
    rows.extend(
        [
            Scene::Failing,
            Scene::Panicking,
            Scene::Dying,
            Scene::Refusing,
            Scene::Forgetful,
        ]
        .map(|scene| {
            intermediate("flock(work/run/daemon.pid, LOCK_EX)")
                .from(1)
                .errnos(&[ENOLCK, EAGAIN], Whole(CAUSE))
                .lie(Whole(CAUSE))
                .retried()
                .scene(scene)
        }),
    );
    // The panic may have been reported before.
    rows.push(
        launcher("recv(pair 2)")
            .from(2)
            .by_timing_from(2)
            .errnos(&RECEIVING, FailsOr("Channel"))
            .errnos(&[ECONNRESET], FailsAsOr("DaemonExited"))
            .lie(FailsAsOr("DaemonExited"))
            .retried()
            .short(Whole("the rest is read next"))
            .scene(Scene::Panicking),
    );
    // Who has failed or died may be gone by then.
    for scene in [Scene::Failing, Scene::Dying] {
        rows.extend(
            [
                launcher("recvmsg(pair 1)")
                    .by_timing_from(1)
                    .errnos(&RECEIVING, FailsOr("Channel"))
                    .retried()
                    .short(Whole(READS_REST)),
                intermediate("recv(pair 1)")
                    .errnos(&RECEIVING, FailsOr("Channel"))
                    .retried()
                    .made_if(BY_TIMING),
            ]
            .map(|row| row.scene(scene)),
        );
    }
    rows.extend(
        [
            looks_again(),
            last_word(FailsAs("IntermediateExited")),
            reaps(),
        ]
        .map(|row| row.scene(Scene::Dying)),
    );
    rows.push(
        launcher("sendmsg(pair 1)")
            .errnos(&SENDING, Whole(CAUSE))
            .retried()
            .made_if(BY_TIMING)
            .scene(Scene::Dying),
    );
    rows.extend(
        [
            launcher("shutdown(pair 2)").lie(Whole("it ends when the launcher does")),
            launcher("waitpid")
                .errnos(&[EINVAL, EPERM], Fails("Wait"))
                .errnos(&[ECHILD], Whole(CAUSE))
                .retried(),
        ]
        .map(|row| row.scene(Scene::Nameless)),
    );
    rows.push(last_word(Whole("nobody is left to be told")).scene(Scene::Abandoned));
    rows.extend(
        [
            daemon("sendmsg(pair 2)")
                .nth(0)
                .errnos(&SENDING, Fails("Channel"))
                .retried(),
            daemon("sendmsg(pair 2)")
                .from(1)
                .errnos(&SENDING, Whole(CAUSE))
                .errnos(&GONE, Whole(CAUSE))
                .retried(),
            daemon("flock(work/run/daemon.pid, LOCK_UN)")
                .errnos(&[ENOLCK], Whole("the daemon's end unlocks it"))
                .retried(),
        ]
        .map(|row| row.scene(Scene::Alone)),
    );
    rows.extend(
        [
            launcher("getcwd").errnos(
                &[ENOENT, EACCES, ENOMEM],
                // It is left.
                Believed(&[Aspect::PidFile]),
            ),
            intermediate("umask")
                .never_fails(NO_ERRORS)
                .lie(Believed(&[Aspect::Umask])),
            daemon("fstat(work/run/daemon.pid)").errnos(&EXAMINING, Believed(&[Aspect::PidFile])),
            daemon("_exit").never_fails(NO_ERRORS),
            daemon("stat(work/run/daemon.pid)").errnos(&EXAMINING, Believed(&[Aspect::PidFile])),
            daemon("unlink(work/run/daemon.pid)").errnos(
                &[EACCES, EPERM, EROFS, libc::EBUSY],
                Believed(&[Aspect::PidFile]),
            ),
        ]
        .map(|row| row.scene(Scene::Guarded)),
    );
    rows.extend(
        [
            launcher("unshare")
                .errnos(&[EPERM, ENOSYS], Whole("/proc counts the threads, too"))
                .errnos(
                    &[EINVAL],
                    Whole("they are counted again, since one may just have ended"),
                )
                .always(&[EINVAL], FailsUnlessForbidden("SetNoNewPrivileges(1)")),
            launcher("fstat(work/run/daemon.pid)")
                .nth(0)
                .errnos(&EXAMINING, Fails("OpenPidfile")),
            launcher("fstat(work/run/daemon.pid)")
                .from(1)
                .errnos(&EXAMINING, Fails("OpenPidfile")),
            launcher("fstat(socket)").errnos(&EXAMINING, Whole(HELD)),
            launcher("flock(work/run/daemon.pid, LOCK_EX)")
                .errnos(&[ENOLCK, EIO], Fails("LockPidfile"))
                .errnos(&[EAGAIN], Whole("a prober's lock is waited for"))
                .lie(Believed(&[Aspect::PidFileLock]))
                .retried(),
        ]
        .map(|row| row.scene(Scene::Foreground)),
    );
    rows.extend(
        [
            intermediate("kill(15)")
                .errnos(&[EPERM], Whole("SIGKILL comes a second later"))
                .errnos(&[ESRCH], Whole("it is about to be gone"))
                .lie(Whole("SIGKILL comes a second later")),
            intermediate("kill(9)")
                .never_fails("it is the last resort")
                .made_if(BY_TIMING),
            looks_again(),
            last_word(FailsAs("IntermediateExited")),
        ]
        .map(|row| row.scene(Scene::Late)),
    );
    const NAMELESS: &str = "the holder is told without its pid";
    rows.extend(
        [
            intermediate("flock(work/run/daemon.pid, LOCK_EX)")
                .errnos(&[ENOLCK], Fails("LockPidfile"))
                .retried(),
            intermediate("flock(work/run/daemon.pid, LOCK_SH)")
                .errnos(&[ENOLCK], Fails("LockPidfile"))
                .retried(),
            intermediate("open(work/run/daemon.pid)")
                .nth(0)
                .errnos(&OPENING[1..], Fails("OpenPidfile"))
                .errnos(&[EACCES], Whole("a file that is locked is not replaced"))
                .retried(),
            intermediate("open(work/run/daemon.pid)")
                .from(1)
                .errnos(&OPENING[1..], Fails("OpenPidfile"))
                .errnos(&[EACCES], Whole("the owner gets the permission to read it"))
                .retried(),
            // So that what it prints does not reach the terminal.
            daemon("open(/dev/null)").errnos(&OPENING, Whole(CAUSE)),
            daemon("fstat(/dev/null)").errnos(&EXAMINING, Whole(CAUSE)),
            daemon("dup2(/dev/null, 0)").errnos(&[EMFILE, EPERM], Whole(CAUSE)),
            daemon("dup2(log, 1)").errnos(&[EMFILE, EPERM], Whole(CAUSE)),
            daemon("close(/dev/null)").errnos(&[EIO, EINTR], Whole(CAUSE)),
            launcher("pread(work/run/daemon.pid)")
                .errnos(&[EIO], Whole(NAMELESS))
                .retried()
                .short(Whole(NAMELESS))
                .lie(Whole(NAMELESS)),
            launcher("fstat(work/run/daemon.pid)").errnos(&EXAMINING, Whole(NAMELESS)),
            launcher("stat(work/run/daemon.pid)")
                .errnos(&EXAMINING, Whole("it is opened in any case")),
            launcher("getpid").never_fails(NO_ERRORS),
            launcher("open(work/run/daemon.pid)")
                .errnos(&OPENING, Whole(NAMELESS))
                .retried(),
            launcher("flock(work/run/daemon.pid, LOCK_SH)")
                .errnos(&[ENOLCK], Whole(NAMELESS))
                .retried(),
            launcher("fcntl(work/run/daemon.pid, F_GETLK)")
                .errnos(&[EINVAL], Whole(NAMELESS))
                .retried(),
            intermediate("fcntl(work/run/daemon.pid, F_GETFD)")
                .never_fails(NOTHING_TO_DO)
                .made_if(OF_CLOSE),
            launcher("open(/proc/*/fd)")
                .errnos(&[EACCES, EMFILE, ENOENT], Whole(NAMELESS))
                .retried(),
            launcher("fstat(/proc/*/fd)")
                .errnos(&EXAMINING, Whole(NAMELESS))
                .made_if("libc examines what it lists"),
            launcher("stat(/proc/*/fd/*)")
                .errnos(&[EIO, ENOENT, EPERM, ENOSYS], Whole(NAMELESS))
                .retried(),
            launcher("getdents(/proc/*/fd)")
                .errnos(&[EIO, ENOENT], Whole(NAMELESS))
                .lie(Whole(NAMELESS)),
            // Of any other errno std makes a panic; procfs knows none.
            launcher("close(/proc/*/fd)").errnos(&[EINTR], Whole(CLOSED)),
            launcher("fcntl(/proc/*/fd, F_SETFD)")
                .never_fails(NO_ERRORS)
                .made_if("libc marks what it lists"),
        ]
        .map(|row| row.scene(Scene::Locked)),
    );
    rows.extend(
        [
            launcher("open(/proc/self/status)")
                .nth(0)
                .errnos(
                    &[ENOENT, EACCES, EMFILE, ENFILE],
                    FailsAs("ThreadCountUnknown"),
                )
                .retried(),
            launcher("open(/proc/self/status)")
                .from(1)
                .errnos(&[ENOENT, EMFILE], Whole("streams are flushed if need be")),
            launcher("fstat(/proc/*/status)").errnos(&EXAMINING, Whole("its size is but a hint")),
            launcher("fcntl(/proc/*/status, F_SETFD)")
                .never_fails(NO_ERRORS)
                .made_if("libc marks what it opens"),
            launcher("read(/proc/*/status)")
                .nth(0)
                .errnos(&[EIO, ENOMEM], FailsAs("ThreadCountUnknown"))
                .retried()
                .short(Whole(READS_REST))
                .lie(FailsAs("ThreadCountUnknown")),
            launcher("read(/proc/*/status)")
                .from(1)
                .retried()
                .short(Whole(READS_REST)),
            launcher("close(/proc/*/status)").errnos(&[EIO, EINTR], Whole(CLOSED)),
            launcher("fcntl(/proc/*/status, F_GETFD)")
                .never_fails(NOTHING_TO_DO)
                .made_if(OF_CLOSE),
            daemon("open(/proc/self/status)")
                .errnos(
                    &[ENOENT, EACCES, EMFILE, ENFILE],
                    FailsAs("SetNoNewPrivileges(1)"),
                )
                .retried(),
            daemon("fstat(/proc/*/status)").errnos(&EXAMINING, Whole("its size is but a hint")),
            daemon("fcntl(/proc/*/status, F_SETFD)")
                .never_fails(NO_ERRORS)
                .made_if("libc marks what it opens"),
            daemon("read(/proc/*/status)")
                .nth(0)
                .errnos(&[EIO, ENOMEM], FailsAs("SetNoNewPrivileges(1)"))
                .retried()
                .short(Whole(READS_REST))
                .lie(FailsAs("SetNoNewPrivileges(1)")),
            daemon("read(/proc/*/status)")
                .from(1)
                .errnos(&[EIO, ENOMEM], FailsAs("SetNoNewPrivileges(1)"))
                .retried()
                .short(Whole(READS_REST)),
            daemon("close(/proc/*/status)").errnos(&[EIO, EINTR], Whole(CLOSED)),
            daemon("fcntl(/proc/*/status, F_GETFD)")
                .never_fails(NOTHING_TO_DO)
                .made_if(OF_CLOSE),
            intermediate("open(/proc/self/fd)")
                .errnos(
                    &[ENOENT, EACCES, ENFILE, ENOMEM],
                    Fails("CloseInheritedFds"),
                )
                .errnos(&[EMFILE], Whole("the number of one that goes is taken"))
                .retried(),
            intermediate("getdents(/proc/*/fd)")
                .nth(0)
                .errnos(&[ENOENT, EIO], Fails("CloseInheritedFds"))
                .lie(Believed(&[Aspect::Descriptors])),
            intermediate("getdents(/proc/*/fd)")
                .from(1)
                .errnos(&[ENOENT, EIO], Fails("CloseInheritedFds")),
            intermediate("fcntl(/proc/*/fd, F_GETFD)")
                .never_fails(NOTHING_TO_DO)
                .made_if(OF_CLOSE),
            // What else there is, the machine decides.
            intermediate("close(*").errnos(&[EIO, EINTR], Whole(CLOSED)),
        ]
        .map(|row| row.scene(Scene::Sandboxed)),
    );
    rows.extend(
        [
            daemon("close(/dev/null)")
                .nth(0)
                .errnos(&[EIO, EINTR], Whole(CLOSED)),
            intermediate("fchmod(work/run/daemon.pid)")
                .errnos(&[EPERM, EROFS, EIO], Fails("OpenPidfile"))
                .retried()
                .lie(FailsAs("OpenPidfile(1)")),
            intermediate("flock(work/run/daemon.pid, LOCK_EX)")
                .nth(0)
                .errnos(&[ENOLCK, EIO], Fails("LockPidfile"))
                .errnos(&[EAGAIN], Whole("a prober's lock is waited for"))
                .lie(Whole("the new file is locked next"))
                .retried(),
            // It is used as it is.
            intermediate("unlink(work/run/daemon.pid)")
                .errnos(
                    &[EACCES, EPERM, EROFS, libc::EBUSY],
                    Believed(&[Aspect::PidFileMode]),
                )
                .lie(Believed(&[Aspect::PidFileMode])),
            intermediate("open(work/run/daemon.pid)")
                .nth(0)
                .errnos(&OPENING[1..], Fails("OpenPidfile"))
                .errnos(
                    &[EACCES],
                    Whole("a file that may not be written to is replaced"),
                )
                .retried(),
            intermediate("open(work/run/daemon.pid)")
                .from(1)
                .errnos(&OPENING[1..], Fails("OpenPidfile"))
                .retried(),
            intermediate("fstat(work/run/daemon.pid)")
                .up_to(7)
                .errnos(&EXAMINING, Fails("OpenPidfile")),
            intermediate("flock(work/run/daemon.pid, LOCK_EX)")
                .nth(1)
                .errnos(&[ENOLCK, EIO], Fails("LockPidfile")),
            launcher("fcntl(pair 1, F_DUPFD_CLOEXEC)").errnos(&[EMFILE], Fails("Channel")),
            launcher("fcntl(pair 2, F_DUPFD_CLOEXEC)").errnos(&[EMFILE], Fails("Channel")),
            launcher("fcntl(pair 4, F_DUPFD_CLOEXEC)")
                .errnos(&[EMFILE], Whole(OPTIONAL))
                .made_if(BY_TIMING),
            launcher("fcntl(anon_inode:[pidfd], F_DUPFD_CLOEXEC)")
                .errnos(&[EMFILE], Whole(CAN_DO_WITHOUT)),
            intermediate("fcntl(pair 3, F_DUPFD_CLOEXEC)").errnos(&[EMFILE], Fails("Channel")),
            intermediate("fcntl(work/run, F_DUPFD_CLOEXEC)")
                .errnos(&[EMFILE], Fails("OpenPidfile"))
                .made_if(IS_ROOT),
            intermediate("fcntl(work/run/daemon.pid, F_DUPFD_CLOEXEC)")
                .errnos(&[EMFILE], Fails("OpenPidfile")),
            intermediate("fcntl(anon_inode:[pidfd], F_DUPFD_CLOEXEC)")
                .errnos(&[EMFILE], Whole(CAN_DO_WITHOUT)),
            intermediate("close(pair 3)").errnos(&[EIO, EINTR], Whole(CLOSED)),
            intermediate("fcntl(pair 3, F_GETFD)")
                .never_fails(NOTHING_TO_DO)
                .made_if(OF_CLOSE),
            intermediate("close(work/run/daemon.pid)").errnos(&[EIO, EINTR], Whole(CLOSED)),
            intermediate("fcntl(work/run/daemon.pid, F_GETFD)")
                .never_fails(NOTHING_TO_DO)
                .made_if(OF_CLOSE),
            daemon("fcntl(/dev/null, F_DUPFD_CLOEXEC)").errnos(&[EMFILE], Fails("OpenDevnull")),
            daemon("fcntl(/dev/null, F_GETFD)")
                .never_fails(NOTHING_TO_DO)
                .made_if(OF_CLOSE),
            daemon("fcntl(log, F_DUPFD_CLOEXEC)").errnos(&[EMFILE], Fails("RedirectStreams")),
        ]
        .map(|row| row.scene(Scene::Untidy)),
    );

    for (process, file) in [
        (Victim::Launcher, "pair 1"),
        (Victim::Launcher, "pair 2"),
        (Victim::Launcher, "pair 4"),
        (Victim::Launcher, "anon_inode:[pidfd]"),
        (Victim::Intermediate, "pair 3"),
        (Victim::Intermediate, "work/run"),
        (Victim::Intermediate, "work/run/daemon.pid"),
        (Victim::Intermediate, "anon_inode:[pidfd]"),
        (Victim::Daemon, "/dev/null"),
        (Victim::Daemon, "log"),
    ] {
        rows.push(
            Row::new(process, format!("fcntl({file}, F_SETFD)"))
                .scene(Scene::Untidy)
                .never_fails(NO_ERRORS)
                .made_if("libc marks a duplicate once more"),
        );
    }

    // Each try to get something back must fail, whatever with.
    for call in [
        "setresuid(-1, 0, -1)",
        "setuid(0)",
        "setresgid(-1, 0, -1)",
        "setgid(0)",
    ] {
        rows.push(
            daemon(call)
                .of_root()
                .errnos(&[EAGAIN, EINVAL], Whole("that it fails is what is wanted"))
                .lie(FailsAs("PrivilegesRetained")),
        );
    }

    // What is let go of.
    let closed = [
        (Victim::Launcher, "pair 1"),
        (Victim::Launcher, "pair 2"),
        (Victim::Launcher, "socket"),
        (Victim::Launcher, "pair 4"),
        (Victim::Launcher, "anon_inode:[pidfd]"),
        (Victim::Launcher, "work/run/daemon.pid"),
        (Victim::Intermediate, "pair 1"),
        (Victim::Intermediate, "pair 2"),
        (Victim::Intermediate, "anon_inode:[pidfd]"),
        (Victim::Daemon, "pair 1"),
        (Victim::Daemon, "pair 2"),
        (Victim::Daemon, "pair 3"),
        (Victim::Daemon, "log"),
    ];
    for (process, file) in closed {
        let close = Row::new(process, format!("close({file})"));
        rows.push(close.errnos(&[EIO, EINTR], Whole(CLOSED)));
        let check = Row::new(process, format!("fcntl({file}, F_GETFD)"));
        rows.push(check.never_fails(NOTHING_TO_DO).made_if(OF_CLOSE));
    }
    rows.push(
        intermediate("close(work/run)")
            .made_if(IS_ROOT)
            .errnos(&[EIO, EINTR], Whole(CLOSED)),
    );
    rows.push(
        intermediate("fcntl(work/run, F_GETFD)")
            .never_fails(NOTHING_TO_DO)
            .made_if(OF_CLOSE),
    );
    // The intermediate is not among them: there is to be no allocation.
    for process in [Victim::Launcher, Victim::Daemon] {
        for call in ["brk", "mmap", "munmap", "mremap", "mprotect", "madvise"] {
            rows.push(
                Row::new(process, call)
                    .never_fails("without memory Rust aborts")
                    .made_if("the allocator decides"),
            );
        }
    }
    rows
}

// --- The start ---------------------------------------------------------------

/// A start, and a service manager that waits for it.
struct Start {
    // Ends before its socket is removed together with the case's folder.
    _manager: Manager,
    scene: Scene,
    scenario: Scenario,
    /// What is always so.
    beneath: Vec<Fault>,
    /// Who holds the lock.
    holder: Option<Run>,
}

/// Descriptors that the daemon is not to inherit: one below those by which the
/// tester reports, and one above.
const INHERITED: [i32; 2] = [150, 250];

impl Start {
    fn new(scene: Scene) -> Self {
        let scenario = scenario!()
            .entry(Entry::StartChecked)
            .working_directory("work")
            .umask(0o027_u32)
            .pid_file("run/daemon.pid")
            .stdin(Stream::DevNull)
            .stdout(Stream::append("log"))
            .stderr(Stream::Keep)
            .startup_timeout(Duration::from_secs(15))
            .close_inherited_fds([])
            .reset_signals()
            .no_new_privileges()
            .privileged_action([Step::Add("action".to_owned())])
            .initialize([Step::Add("initialization".to_owned())])
            .from_state(|state| {
                state.dispositions = vec![(libc::SIGHUP, Disposition::Ignore)];
                let open = |number| OpenDescriptor {
                    number,
                    path: "/dev/zero".into(),
                    close_on_exec: false,
                };
                state.descriptors = INHERITED.map(open).to_vec();
            });
        scenario.create_folder("work");
        scenario.create_folder("work/run");
        let socket = scenario.path("notify");
        let mut start = Self {
            _manager: Manager::at(&socket),
            scene,
            scenario: scenario.env("NOTIFY_SOCKET", socket),
            beneath: Vec::new(),
            holder: None,
        };
        start.set(scene);
        start
    }

    fn set(&mut self, scene: Scene) {
        let mut scenario = self.scenario.clone();
        match scene {
            Scene::Ordinary => {}
            Scene::OfRoot => {
                scenario.create_folder("jail");
                scenario = scenario
                    .chroot("../jail")
                    .user(TEST_USER)
                    .group(TEST_USER)
                    .supplementary_groups(SupplementaryGroups::FromDatabase)
                    .chown_pid_file_user(TEST_USER)
                    .chown_pid_file_group(TEST_USER);
            }
            Scene::Sandboxed => {
                self.beneath = vec![
                    forbidden(Victim::Launcher, "unshare"),
                    forbidden(Victim::Daemon, "unshare"),
                    forbidden(Victim::Intermediate, "close_range"),
                ];
            }
            Scene::Untidy => {
                let path = scenario.pid_file_path().expect("it has one");
                fs::write(&path, "").expect("leave a pid file");
                fs::set_permissions(&path, Permissions::from_mode(0o666))
                    .expect("open it to others");
                scenario = scenario.from_state(|state| state.closed = [true, true, false]);
            }
            Scene::Locked => {
                self.holder = Some(scenario.start());
            }
            Scene::Failing => {
                scenario = scenario.initialize(ErrorText::from("no luck"));
            }
            Scene::Dying => {
                scenario = scenario.privileged_action([Step::Exit(3)]);
            }
            Scene::Late => {
                scenario = scenario
                    .startup_timeout(Duration::from_secs(1))
                    .privileged_action([Step::Hold]);
            }
            Scene::Panicking => {
                scenario = scenario
                    .stderr(Stream::DevNull)
                    .privileged_action([Step::Panic("no luck".to_owned())]);
            }
            Scene::Orphaned => {
                scenario = scenario.privileged_action([Step::Hold]);
                self.beneath = vec![killed(Victim::Intermediate, "waitpid")];
            }
            Scene::Nameless => {
                scenario = scenario.privileged_action([until_alone()]);
                self.beneath = vec![
                    forbidden(Victim::Intermediate, "pidfd_open"),
                    killed(Victim::Intermediate, "waitpid"),
                ];
            }
            Scene::Abandoned => {
                scenario = scenario
                    .entry(Entry::ExecuteChecked)
                    .privileged_action([Step::Hold]);
                self.beneath = vec![killed(Victim::Launcher, "recvmsg(pair 1)")];
            }
            Scene::Alone => {
                scenario = scenario.entry(Entry::ExecuteChecked);
                self.beneath = vec![
                    killed(Victim::Launcher, "recvmsg(pair 1)"),
                    killed(Victim::Intermediate, "waitpid"),
                ];
            }
            Scene::Executed => scenario = scenario.entry(Entry::ExecuteChecked),
            Scene::Deferred => {
                let ready = Deferral::new([], ReadinessUse::Ready);
                scenario = scenario.deferred_readiness(ready);
            }
            Scene::Refusing => {
                let refusal = ReadinessUse::Fail(ErrorText::from("no luck"));
                scenario = scenario.deferred_readiness(Deferral::new([], refusal));
            }
            Scene::Forgetful => {
                scenario = scenario
                    .deferred_readiness(Deferral::new([], ReadinessUse::Drop))
                    .life(Life::Exit(0));
            }
            Scene::Guarded => {
                scenario = scenario.life(Life::Exit(0));
                scenario.config.guard_pid_file = true;
            }
            Scene::Foreground => {
                scenario = scenario.foreground(Foreground::Yes).life(Life::Exit(0));
            }
        }
        self.scenario = scenario;
    }

    fn launch(&self, faults: &[Fault]) -> Run {
        let faults = [&self.beneath, faults].concat();
        self.scenario.clone().faults(&faults).launch()
    }

    /// Fails unless all is as it would be without a fault.
    #[track_caller]
    fn assert_as_ever(&self, run: &Run) {
        match self.scene.fails_with() {
            Some(kind) => self.assert_fails(run, &kind),
            None if self.scene.succeeds() => self.assert_whole(run),
            None => self.assert_ends_untold(run),
        }
    }

    #[track_caller]
    fn assert_fails(&self, run: &Run, kind: &str) {
        if self.scene.kills_launcher() {
            assert_eq!(run.daemon_error().kind, kind, "{}", run.account());
            return self.assert_ends_untold(run);
        }
        if self.scene == Scene::Foreground && kind == "PrivilegesRetained" {
            // Not even the caller gets to see it.
            let output = run.launcher().output;
            assert_eq!(output.status.code(), Some(1), "{}", run.account());
            let text = b"privileges were retained";
            assert!(output.stderr.starts_with(text), "{}", run.account());
        } else {
            assert_eq!(run.launcher_error().kind, kind, "{}", run.account());
        }
        match &self.holder {
            Some(holder) => {
                run.wait_until_all_ended();
                let content = format!("{}\n", holder.report().pid);
                let pid_file = run.pid_file().expect("a pid file");
                assert_eq!(pid_file.bytes, content.as_bytes(), "{}", run.account());
                assert!(pid_file.locked, "{}", run.account());
            }
            // The daemon's caller is told, too; or it ends at its next report.
            None if self.scene.returns_in_both() || self.scene == Scene::Nameless => {
                self.assert_cleared(run);
            }
            None => run.assert_nothing_left(),
        }
    }

    #[track_caller]
    fn assert_ends_untold(&self, run: &Run) {
        let status = run.launcher().output.status;
        assert_eq!(status.signal(), Some(libc::SIGKILL), "{}", run.account());
        self.assert_cleared(run);
    }

    /// No process, no lock and no content, in the end.
    #[track_caller]
    fn assert_cleared(&self, run: &Run) {
        run.wait_until_all_ended();
        let is_cleared = |pid_file: PidFile| pid_file.bytes.is_empty() && !pid_file.locked;
        assert!(run.pid_file().is_none_or(is_cleared), "{}", run.account());
    }

    #[track_caller]
    fn assert_whole(&self, run: &Run) {
        self.assert_whole_but(run, &[]);
    }

    /// Fails unless all is as it should be, except for just these.
    #[track_caller]
    fn assert_whole_but(&self, run: &Run, excepted: &[Aspect]) {
        run.launcher().assert().success();
        let excepted = excepted.iter().copied().collect();
        assert_eq!(self.wrong(run), excepted, "{}", run.account());
        let result = ["action", "initialization"].map(str::to_owned).to_vec();
        run.message("the result", |frame| {
            (frame.message == Message::Result(result.clone())).then_some(())
        });
    }

    /// What is not as it should be.
    #[track_caller]
    fn wrong(&self, run: &Run) -> BTreeSet<Aspect> {
        let mut wrong = BTreeSet::new();
        let mut check = |aspect, is_right: bool| {
            if !is_right {
                wrong.insert(aspect);
            }
        };
        let initial = run.initial();
        let daemon = match self.scene {
            // When the library returned it was not ready yet.
            Scene::Deferred => run.observe(),
            _ => run.report(),
        };
        let in_folder = |name: &str| Place::of(&self.scenario.path(name)).ok();

        if self.scene == Scene::Foreground {
            check(Aspect::Session, daemon.sid == initial.sid);
            check(Aspect::Session, daemon.pgid == initial.pgid);
            check(Aspect::Parent, daemon.ppid == initial.ppid);
        } else {
            check(Aspect::Session, daemon.sid != initial.sid);
            check(Aspect::Session, daemon.sid == Some(daemon.pgid));
            check(Aspect::Session, daemon.pgid != daemon.pid);
            check(Aspect::Session, daemon.terminal == Some(Terminal::None));
            check(Aspect::Parent, daemon.ppid == run.reaper());
        }

        let lives_on = !matches!(self.scene, Scene::Foreground | Scene::Guarded);
        if lives_on {
            let running = run.living();
            assert_eq!(running, [daemon.pid], "{}", run.account());
        } else {
            run.wait_until_all_ended();
        }
        let content = format!("{}\n", daemon.pid);
        let path = self.scenario.pid_file_path().expect("it has one");
        // By name if the file is gone by now.
        let is_pid_file = |open: &Descriptor| {
            open.is_file(&path) || open.target.as_ref().is_some_and(|name| *name == *path)
        };
        let descriptors = daemon.descriptors.as_ref().expect("see them");
        let is_lock = |open: &Descriptor| open.locked == Some(true) && is_pid_file(open);
        check(Aspect::PidFileLock, descriptors.iter().any(is_lock));
        match run.pid_file() {
            None => check(Aspect::PidFile, self.scene == Scene::Guarded),
            // It could not be removed.
            Some(pid_file) if self.scene == Scene::Guarded => {
                check(Aspect::PidFile, false);
                check(Aspect::PidFileLock, !pid_file.locked);
                assert_eq!(pid_file.bytes, content.as_bytes(), "{}", run.account());
            }
            Some(pid_file) => {
                check(Aspect::PidFile, pid_file.bytes == content.as_bytes());
                check(Aspect::PidFileLock, pid_file.locked || !lives_on);
                check(Aspect::PidFileMode, pid_file.mode == 0o640);
                let (uid, gid) = (initial.uid.expect("see it"), initial.gid.expect("see it"));
                let owner = match self.scene {
                    Scene::OfRoot => (TEST_USER_ID, TEST_USER_ID),
                    _ => (uid.effective, gid.effective),
                };
                check(Aspect::PidFileOwner, (pid_file.uid, pid_file.gid) == owner);
            }
        }

        let [stdin, stdout, stderr] = [0, 1, 2].map(|number| daemon.descriptor(number).cloned());
        check(
            Aspect::StandardInput,
            stdin.is_some_and(|stdin| stdin.is_null_device()),
        );
        let log = self.scenario.path("log");
        check(
            Aspect::StandardOutput,
            stdout.is_some_and(|stdout| stdout.is_file(&log)),
        );
        check(
            Aspect::StandardError,
            stderr.as_ref() == initial.descriptor(2),
        );
        let is_known = |descriptor: &Descriptor| descriptor.number <= 2 || is_pid_file(descriptor);
        check(Aspect::Descriptors, descriptors.iter().all(is_known));

        check(Aspect::Umask, daemon.umask == Some(0o027));
        check(
            Aspect::NoNewPrivileges,
            daemon.no_new_privileges == Some(true),
        );
        let none = Some(SignalSet::default());
        check(Aspect::SignalMask, daemon.blocked_signals == none);
        check(Aspect::SignalActions, daemon.caught_signals == none);
        // The C library keeps the first real-time signals for itself.
        let ignored = daemon.ignored_signals.unwrap_or_default();
        let ignored: Vec<_> = ignored.iter().filter(|signal| *signal < 32).collect();
        check(Aspect::SignalActions, ignored == [libc::SIGPIPE]);

        if self.scene == Scene::OfRoot {
            let jail = in_folder("jail");
            check(Aspect::Root, daemon.root == jail);
            check(Aspect::WorkingDirectory, daemon.working_directory == jail);
            let is_user = |ids: Option<IdTriple>| ids.is_some_and(|ids| ids == TEST_USER_ID);
            check(Aspect::Identity, is_user(daemon.uid) && is_user(daemon.gid));
            let groups = Some(TEST_USER_GROUPS.to_vec());
            check(Aspect::Identity, daemon.groups == groups);
            let sets = daemon.capabilities.expect("see them");
            let granting = [
                sets.effective,
                sets.permitted,
                sets.inheritable,
                sets.ambient,
            ];
            check(Aspect::Capabilities, granting == [0; 4]);
        } else {
            let work = in_folder("work");
            check(Aspect::Root, daemon.root == initial.root);
            check(Aspect::WorkingDirectory, daemon.working_directory == work);
            let are_kept = daemon.uid == initial.uid && daemon.gid == initial.gid;
            check(
                Aspect::Identity,
                are_kept && daemon.groups == initial.groups,
            );
            let are_kept = daemon.capabilities == initial.capabilities;
            check(Aspect::Capabilities, are_kept);
        }
        wrong
    }
}

/// Takes a daemon longer than it takes to kill its intermediate, and less than
/// the launcher then waits.
fn until_alone() -> Step {
    Step::Run(["sleep", "0.2"].map(Bytes::from).to_vec())
}

fn forbidden(process: Victim, call: &str) -> Fault {
    Fault {
        process,
        call: call.to_owned(),
        occurrence: 0,
        how: How::Errno(libc::EPERM),
        always: true,
    }
}

/// Killed before the first such call.
fn killed(process: Victim, call: &str) -> Fault {
    Fault {
        how: How::Kill,
        always: false,
        ..forbidden(process, call)
    }
}

/// What the library has done, once the launcher has ended.
#[track_caller]
fn made(run: &Run) -> Vec<Made> {
    run.launcher();
    run.message("the trace", |frame| match &frame.message {
        Message::Traced(made) => Some(made.clone()),
        _ => None,
    })
}

// --- The calls that there are ------------------------------------------------

/// A call by its number among those of its name in its process.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Numbered {
    process: Victim,
    call: String,
    /// Counted by the tracer.
    occurrence: usize,
    /// Counted without those of the name service.
    number: usize,
    /// Whether it is one of those: which depend on the machine, on libc and on
    /// what else is installed.
    is_look_up: bool,
    /// Whether it fails in that scene in any case.
    fails: bool,
}

fn numbered(scene: Scene, made: &[Made]) -> Vec<Numbered> {
    let mut counts = BTreeMap::new();
    // Whoever is looked up is so before anything else.
    let mut looks_up = scene == Scene::OfRoot;
    made.iter()
        .map(|made| {
            let call = made.call.as_str();
            looks_up &=
                made.process == Victim::Launcher && !["unshare", "socketpair"].contains(&call);
            let is_look_up = looks_up && call != "getcwd";
            let (occurrence, number) = counts
                .entry((made.process.to_string(), made.call.clone()))
                .or_insert((0, 0));
            let numbered = Numbered {
                process: made.process,
                call: made.call.clone(),
                occurrence: *occurrence,
                number: *number,
                is_look_up,
                fails: made.failed,
            };
            *occurrence += 1;
            *number += usize::from(!is_look_up);
            numbered
        })
        .collect()
}

/// Those of one start.
#[track_caller]
fn calls_of(scene: Scene) -> &'static [Numbered] {
    static CALLS: Mutex<BTreeMap<Scene, &'static [Numbered]>> = Mutex::new(BTreeMap::new());
    let mut calls = CALLS.lock().unwrap_or_else(PoisonError::into_inner);
    calls.entry(scene).or_insert_with(|| {
        let start = Start::new(scene);
        let run = start.launch(&[]);
        start.assert_as_ever(&run);
        numbered(scene, &made(&run)).leak()
    })
}

fn rows() -> &'static [Row] {
    static ROWS: LazyLock<Vec<Row>> = LazyLock::new(all_rows);
    &ROWS
}

/// Those of the scene's own, if there are any, before those of an ordinary
/// start. What is called the launcher in the foreground does the work of all
/// three.
fn rows_of(scene: Scene, call: &Numbered) -> Vec<&'static Row> {
    let covering = |scene: Scene, process: Victim| {
        let rows = rows().iter().filter(move |row| row.scene == scene);
        rows.filter(|row| row.covers(process, &call.call, call.number))
            .collect::<Vec<_>>()
    };
    let processes: &[Victim] = match scene {
        Scene::Foreground => &[Victim::Intermediate, Victim::Daemon, Victim::Launcher],
        _ => &[call.process],
    };
    let own = [Some(scene), scene.kin()].into_iter().flatten();
    let own = own.map(|scene| covering(scene, call.process));
    // The machine itself may be a sandbox.
    let others = [Scene::Ordinary, Scene::Sandboxed]
        .into_iter()
        .flat_map(|scene| processes.iter().map(move |process| (scene, *process)))
        .map(|(scene, process)| covering(scene, process));
    own.chain(others)
        .find(|rows| !rows.is_empty())
        .unwrap_or_default()
}

#[track_caller]
fn assert_calls_and_rows_match(scenes: impl Iterator<Item = Scene>) {
    let wrong: Vec<_> = scenes.flat_map(mismatches).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn mismatches(scene: Scene) -> Vec<String> {
    let calls = calls_of(scene).iter().filter(|call| !call.is_look_up);
    let mut wrong = Vec::new();
    for call in calls.clone() {
        let count = rows_of(scene, call).len();
        if count != 1 {
            let Numbered {
                process,
                call,
                number,
                ..
            } = call;
            wrong.push(format!(
                "{scene:?}: {process} {call} [{number}] has {count} rows"
            ));
        }
    }
    for row in rows().iter().filter(|row| row.scene == scene) {
        let is_made = |call: &Numbered| row.covers(call.process, &call.call, call.number);
        if row.made_if.is_none() && !calls.clone().any(is_made) {
            wrong.push(format!("{scene:?}: {row} has no call"));
        }
    }
    wrong
}

fn every_call_has_a_row_and_every_row_a_call() {
    let all = Scene::ALL.iter().copied();
    assert_calls_and_rows_match(all.filter(|scene| *scene != Scene::OfRoot));
}

fn every_call_of_roots_has_a_row_and_every_row_a_call() {
    assert_calls_and_rows_match([Scene::OfRoot].into_iter());
}

/// The calls of a scene that are tried, with their rows.
fn tried(scene: Scene) -> Vec<(&'static Numbered, &'static Row)> {
    let calls = calls_of(scene).iter();
    calls
        .filter(|call| !call.is_look_up && !call.fails)
        .flat_map(|call| rows_of(scene, call).into_iter().map(move |row| (call, row)))
        .filter(|(_, row)| {
            let is_own = row.scene == scene
                || scene.kin() == Some(row.scene)
                || row.made_if == Some(Condition::OtherScene);
            is_own || !scene.is_cut_short()
        })
        .collect()
}

/// The first scene that has such a call, if there is one.
fn home(row: &Row) -> Option<Scene> {
    static HOMES: LazyLock<Vec<(&Row, Scene)>> = LazyLock::new(|| {
        let mut homes: Vec<(&Row, Scene)> = Vec::new();
        for scene in Scene::ALL.iter().filter(|scene| scene.is_possible()) {
            for (_, row) in tried(*scene) {
                if !homes.iter().any(|(known, _)| ptr::eq(*known, row)) {
                    homes.push((row, *scene));
                }
            }
        }
        homes
    });
    let mut homes = HOMES.iter();
    homes.find_map(|(known, scene)| ptr::eq(*known, row).then_some(*scene))
}

fn every_row_is_tried() {
    let is_root = Scene::OfRoot.is_possible();
    let untried: Vec<_> = rows()
        .iter()
        .filter(|row| !row.trials.is_empty() && row.by_timing_from > 0)
        .filter(|row| match row.made_if {
            Some(Condition::Other(_)) => false,
            Some(Condition::Root) => is_root,
            _ => is_root || row.scene != Scene::OfRoot,
        })
        .filter(|row| home(row).is_none())
        .map(Row::to_string)
        .collect();
    assert!(untried.is_empty(), "{}", untried.join("\n"));
}

// --- Failing -----------------------------------------------------------------

/// One trial of a row at one call.
struct Attempt {
    scene: Scene,
    row: &'static Row,
    trial: &'static Trial,
    call: &'static Numbered,
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (how, always) = self.trial.how;
        let Numbered {
            process,
            call,
            number,
            ..
        } = self.call;
        write!(f, "{:?}: {process} {call} [{number}], ", self.scene)?;
        match how {
            How::Errno(errno) => write!(f, "errno {errno}")?,
            how => how.fmt(f)?,
        }
        f.write_str(if always { " from then on" } else { "" })
    }
}

impl Attempt {
    fn fault(&self) -> Fault {
        let (how, always) = self.trial.how;
        Fault {
            process: self.call.process,
            call: self.call.call.clone(),
            occurrence: self.call.occurrence,
            how,
            always,
        }
    }

    /// The kind that the launcher is to get.
    fn kind(&self) -> Option<String> {
        match (self.trial.becomes, self.trial.how.0) {
            (Whole(_) | Believed(_), _) => None,
            (FailsUnlessForbidden(kind), _) => {
                (!sys::is_unshare_forbidden()).then(|| kind.to_owned())
            }
            (Fails(kind) | FailsOr(kind), How::Errno(errno)) => Some(format!("{kind}({errno})")),
            (Fails(kind) | FailsOr(kind) | FailsAs(kind) | FailsAsOr(kind), _) => {
                Some(kind.to_owned())
            }
        }
    }

    /// Again if the machine was busy with something else.
    fn launch_until_prompt(&self, fault: &Fault) -> (Start, Run) {
        /// Less than a launcher waits for an intermediate that is there, but was
        /// not told to end; more than a daemon has to end by itself.
        const LONG: Duration = Duration::from_millis(3500);
        const TRIES: usize = 6;

        let mut took = Vec::new();
        for _ in 0..TRIES {
            let start = Start::new(self.scene);
            let began = Instant::now();
            let run = start.launch(std::slice::from_ref(fault));
            run.launcher();
            took.push(began.elapsed());
            if took.last() < Some(&(LONG * slowness())) {
                return (start, run);
            }
        }
        panic!("the launcher has waited in vain: {took:?}");
    }

    /// Whether there was such a call.
    fn run(&self) -> bool {
        let fault = self.fault();
        let (start, run) = self.launch_until_prompt(&fault);
        let has_failed = made(&run)
            .iter()
            .any(|made| made.failed && (made.process, &made.call) == (fault.process, &fault.call));
        if !has_failed {
            let may_be_missing = self.call.number >= self.row.by_timing_from;
            assert!(may_be_missing, "it was not made\n{}", run.account());
            start.assert_as_ever(&run);
            return false;
        }
        match (self.kind(), self.trial.becomes) {
            (Some(kind), FailsOr(_) | FailsAsOr(_)) if run.launcher_error().kind != kind => {
                start.assert_as_ever(&run);
            }
            (Some(kind), _) => {
                start.assert_fails(&run, &kind);
                let is_returned = self.scene == Scene::Executed
                    && self.call.process == Victim::Daemon
                    && kind != "PrivilegesRetained";
                if is_returned {
                    assert_eq!(
                        run.daemon_error(),
                        run.launcher_error(),
                        "{}",
                        run.account()
                    );
                }
            }
            (None, Believed(aspects)) if self.scene.succeeds() => {
                start.assert_whole_but(&run, aspects);
            }
            (None, _) => start.assert_as_ever(&run),
        }
        true
    }
}

fn is_thorough() -> bool {
    std::env::var_os(ALL).is_some()
}

/// What is tried in a scene: a row in the first one that has such a call, and
/// where other code makes it; if it is asked for, each call in each scene.
fn attempts(scene: Scene) -> Vec<Attempt> {
    let mut attempts = Vec::new();
    let mut seen = Vec::new();
    for (call, row) in tried(scene) {
        let is_first = !seen.iter().any(|seen| ptr::eq(*seen, row));
        seen.push(row);
        // Other code makes the same calls.
        let is_made_otherwise = match scene {
            Scene::Foreground => true,
            Scene::Executed => call.process == Victim::Daemon,
            Scene::Deferred | Scene::Refusing | Scene::Forgetful => {
                let ends_a_start = row.scene != Scene::Ordinary
                    || row.made_if == Some(Condition::OtherScene)
                    || call.call.ends_with("(pair 2)");
                call.process == Victim::Daemon && ends_a_start
            }
            _ => false,
        };
        let is_due = is_first && (is_made_otherwise || home(row) == Some(scene));
        let is_enough = row.are_alike && row.scene != scene;
        if !is_due && (!is_thorough() || is_enough) {
            continue;
        }
        let mut known = Vec::new();
        for trial in &row.trials {
            // Errnos that lead to the same are told apart by all alone, and
            // where they are at home.
            let errno = matches!(trial.how.0, How::Errno(errno) if errno != libc::EINTR);
            let class = (errno, trial.becomes);
            let is_each_errno = is_thorough() && row.scene == scene;
            if !is_each_errno && errno && known.contains(&class) {
                continue;
            }
            known.push(class);
            attempts.push(Attempt {
                scene,
                row,
                trial,
                call,
            });
        }
    }
    attempts
}

/// Makes them side by side, and names all that go wrong. The number of those
/// at a call that was made: which is tried again where it was not, as whether
/// some are made is a matter of timing.
#[track_caller]
fn attempt_all(attempts: &[Attempt]) -> usize {
    const AT_A_TIME: usize = 4;
    const TRIES: usize = 4;
    let wrong = Mutex::new(Vec::new());
    let left = Mutex::new(attempts.iter());
    let struck = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..AT_A_TIME {
            scope.spawn(|| {
                loop {
                    let Some(attempt) = left.lock().expect("unpoisoned").next() else {
                        break;
                    };
                    let until_struck = || (0..TRIES).any(|_| attempt.run());
                    match panic::catch_unwind(AssertUnwindSafe(until_struck)) {
                        Ok(has_struck) => {
                            struck.fetch_add(usize::from(has_struck), Ordering::Relaxed);
                        }
                        Err(payload) => {
                            let text = payload
                                .downcast_ref::<String>()
                                .map_or("a panic", |text| text.as_str());
                            let text = format!("{attempt}: {text}");
                            wrong.lock().expect("unpoisoned").push(text);
                        }
                    }
                }
            });
        }
    });
    let wrong = wrong.into_inner().expect("unpoisoned");
    assert!(
        wrong.is_empty(),
        "{} of {} went wrong:\n\n{}",
        wrong.len(),
        attempts.len(),
        wrong.join("\n\n")
    );
    struck.into_inner()
}

/// The environment variable that asks for numbers.
const FIGURES: &str = "TESTER_FIGURES";

#[track_caller]
fn each_fault(scene: Scene) {
    let attempts = attempts(scene);
    assert!(!attempts.is_empty());
    let struck = attempt_all(&attempts);
    // Timing is not always on the other side.
    let missed = attempts.len() - struck;
    assert!(
        missed * 4 <= attempts.len(),
        "{missed} of {} missed",
        attempts.len()
    );
    if std::env::var_os(FIGURES).is_some() {
        let count =
            |part: fn(&Attempt) -> String| attempts.iter().map(part).collect::<BTreeSet<_>>().len();
        println!(
            "{scene:?}: {} rows, {} calls, {} faults, {struck} of them at a call that was made",
            count(|attempt| attempt.row.to_string()),
            count(|attempt| {
                let Numbered {
                    process,
                    call,
                    number,
                    ..
                } = attempt.call;
                format!("{process} {call} {number}")
            }),
            attempts.len(),
        );
    }
}

/// The launcher clears the file for it, which it cannot do itself.
fn an_orphan_that_nothing_names_leaves_an_empty_pid_file_when_it_is_killed() {
    let mut start = Start::new(Scene::Nameless);
    let steps = [until_alone(), Step::KillItself(libc::SIGKILL)];
    start.scenario = start.scenario.privileged_action(steps);
    let run = start.launch(&[]);
    assert_eq!(run.launcher_error().kind, "IntermediateExited");
    start.assert_cleared(&run);
}

/// A limit on descriptors on their way, say, keeps the launcher from having any. It
/// has to know that the intermediate takes seconds to end a daemon all the same.
fn a_late_daemon_is_killed_though_nothing_could_be_handed_over() {
    let mut start = Start::new(Scene::Late);
    let ignored = (libc::SIGTERM, Disposition::Ignore);
    start.scenario = (start.scenario).from_state(|state| state.dispositions.push(ignored));
    start.scenario.config.options.reset_signals = false;
    let run = start.launch(&[Fault {
        process: Victim::Intermediate,
        call: "sendmsg(pair 1)".to_owned(),
        occurrence: 0,
        how: How::Errno(libc::ETOOMANYREFS),
        always: false,
    }]);
    assert_eq!(run.launcher_error().kind, "StartupTimeout");
    run.assert_nothing_left();
}

// --- Look-ups ----------------------------------------------------------------

/// How a database is read, and what is told if it cannot be.
const DATABASES: [(&str, &str); 4] = [
    ("open(/etc/passwd)", "LookUpUser"),
    ("open(/etc/group)", "LookUpGroup"),
    ("read(/etc/passwd)", "LookUpUser"),
    ("read(/etc/group)", "LookUpGroup"),
];

/// A database that cannot be read is told as that, by each look-up in turn: it
/// makes no user one that does not exist, nor takes a group from one.
fn a_database_that_cannot_be_read_is_told() {
    let calls = calls_of(Scene::OfRoot);
    for (call, kind) in DATABASES {
        let errnos: &[i32] = match call.starts_with("open") {
            true => &[libc::EMFILE, libc::ENFILE, libc::EACCES, libc::EIO],
            false => &[libc::EIO],
        };
        let looked_up = calls.iter().filter(|made| made.call == call);
        let occurrences: Vec<_> = looked_up.map(|made| made.occurrence).collect();
        assert!(occurrences.len() > 1, "{call} {occurrences:?}");
        for occurrence in occurrences {
            // Where a look-up has read what it needs, it stops.
            let errnos = &errnos[..if is_thorough() { errnos.len() } else { 1 }];
            for &errno in errnos {
                let start = Start::new(Scene::OfRoot);
                let run = start.launch(&[Fault {
                    process: Victim::Launcher,
                    call: call.to_owned(),
                    occurrence,
                    how: How::Errno(errno),
                    always: true,
                }]);
                if call.starts_with("read") && run.launcher().output.status.success() {
                    start.assert_whole(&run);
                } else {
                    let told = run.launcher_error().kind;
                    assert_eq!(told, format!("{kind}({errno})"), "{call} [{occurrence}]");
                    run.assert_nothing_left();
                }
            }
        }
    }
}

// --- Kinds -------------------------------------------------------------------

/// Makes [`Kind`] of the library's own list: `ErrorKind` is not exhaustive
/// outside of it, so that the compiler would let a new one pass.
macro_rules! error_kinds {
    ($( $(#[$documentation:meta])* $number:literal $kind:ident $(($errno:ident))? $message:literal $(, $subject:ident)?; )*) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        enum Kind {
            $( $kind, )*
        }

        impl Kind {
            const ALL: &[Self] = &[$( Self::$kind ),*];
        }
    };
}

include!("../src/error_kinds.rs");

/// How it is known that a kind of error is returned.
enum Provoked {
    /// By rows, scenes or databases, where each attempt gets exactly that.
    ByFault,
    /// By a start that anyone can make.
    By(fn() -> Scenario),
    /// Not here.
    Never,
}

fn provoked(kind: Kind) -> Provoked {
    use Provoked::{By, ByFault, Never};

    match kind {
        Kind::Fork
        | Kind::Wait
        | Kind::DetachSession
        | Kind::SetGroup
        | Kind::SetUser
        | Kind::ChangeDirectory
        | Kind::OpenPidfile
        | Kind::LockPidfile
        | Kind::ChownPidfile
        | Kind::OpenDevnull
        | Kind::RedirectStreams
        | Kind::CloseDevnull
        | Kind::TruncatePidfile
        | Kind::WritePid
        | Kind::WritePidUnspecifiedError
        | Kind::Chroot
        | Kind::MultiThreaded
        | Kind::ThreadCountUnknown
        | Kind::LookUpUser
        | Kind::LookUpGroup
        | Kind::SetSupplementaryGroups
        | Kind::PrivilegesRetained
        | Kind::Panicked
        | Kind::DaemonExited
        | Kind::LauncherGone
        | Kind::IntermediateExited
        | Kind::Channel
        | Kind::Initialize
        | Kind::NotReady
        | Kind::StartupTimeout
        | Kind::EventQueuesUnknown
        | Kind::PidNamespace
        | Kind::CloseInheritedFds
        | Kind::ResetSignals
        | Kind::SetNoNewPrivileges => ByFault,
        Kind::GroupNotFound => By(|| scenario!().group("no-such-group")),
        Kind::GroupContainsNul => By(|| scenario!().group("a\0b")),
        Kind::UserNotFound => By(|| scenario!().user("no-such-user")),
        Kind::UserContainsNul => By(|| scenario!().user("a\0b")),
        Kind::PathContainsNul => By(|| scenario!().pid_file("a\0b")),
        Kind::PrimaryGroupUnknown => By(|| scenario!().user(NOBODYS_ID)),
        Kind::PrivilegedAction => {
            By(|| scenario!().try_privileged_action(ErrorText::from("no luck")))
        }
        // As the documentation says.
        Kind::GetPidfileFlags | Kind::SetPidfileFlags => Never,
        // It is a closure, or a daemon, that gets it: `failures` has them.
        Kind::StartWithinStart => Never,
        // Made in tests/surroundings.rs.
        Kind::SharedEventQueue | Kind::FirstProcess => Never,
        // On platforms that lack an option alone.
        Kind::Unsupported => Never,
    }
}

/// Nobody has it.
const NOBODYS_ID: u32 = 4_000_000;

fn every_kind_of_error_is_provoked() {
    let told = rows().iter().flat_map(|row| &row.trials);
    let told = told.filter_map(|trial| match trial.becomes {
        Fails(kind)
        | FailsOr(kind)
        | FailsAs(kind)
        | FailsAsOr(kind)
        | FailsUnlessForbidden(kind) => Some(kind.to_owned()),
        Whole(_) | Believed(_) => None,
    });
    let scenes = Scene::ALL.iter().filter_map(|scene| scene.fails_with());
    let databases = DATABASES.iter().map(|(_, kind)| (*kind).to_owned());
    let names = told.chain(scenes).chain(databases).map(|told| {
        let name = told.split('(').next().unwrap_or_default();
        name.to_owned()
    });
    let by_fault: BTreeSet<String> = names.collect();
    for &kind in Kind::ALL {
        let name = format!("{kind:?}");
        let is_by_fault = match provoked(kind) {
            Provoked::ByFault => true,
            Provoked::By(scenario) => {
                assert_eq!(scenario().fail().kind_name(), name);
                false
            }
            Provoked::Never => false,
        };
        assert_eq!(by_fault.contains(&name), is_by_fault, "{name}");
    }
}
