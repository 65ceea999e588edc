//! What the tester is told: the state to start from, the options to set, what
//! to do on the way and how to end.
//!
//! Everything is plain data, so that a test can generate it as well as write
//! it down.

use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rkyv::{Archive, Deserialize, Serialize};

/// A path or any other byte string of the system, which need not be UTF-8 and
/// may even contain the NUL that the library has to refuse.
#[derive(Archive, Serialize, Deserialize, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Bytes(pub Vec<u8>);

impl Bytes {
    /// The bytes as a path.
    pub fn to_path(&self) -> PathBuf {
        PathBuf::from(std::ffi::OsString::from_vec(self.0.clone()))
    }
}

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        OsStr::from_bytes(&self.0).fmt(f)
    }
}

impl<P: AsRef<OsStr> + ?Sized> From<&P> for Bytes {
    fn from(path: &P) -> Self {
        Self(path.as_ref().as_bytes().to_vec())
    }
}

impl From<PathBuf> for Bytes {
    fn from(path: PathBuf) -> Self {
        Self(path.into_os_string().into_vec())
    }
}

impl From<String> for Bytes {
    fn from(text: String) -> Self {
        Self(text.into_bytes())
    }
}

impl PartialEq<Path> for Bytes {
    fn eq(&self, other: &Path) -> bool {
        self.0 == other.as_os_str().as_bytes()
    }
}

/// Everything the tester is told.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq, Default)]
pub struct Config {
    /// The state to set up before the start.
    pub initial: InitialState,
    /// The options of `Daemonize`; an option left at `None` is not called.
    pub options: Options,
    /// Which of the library's functions starts the daemon.
    pub entry: Entry,
    /// What the privileged action does, in this order; without one, no
    /// privileged action is set.
    pub privileged_action: Option<Vec<Step>>,
    /// The same for `try_privileged_action`, which takes the place of the
    /// other.
    pub try_privileged_action: Option<Fallible>,
    /// One `initialize` each.
    pub initialize: Vec<Fallible>,
    /// What becomes of the readiness; without this, `deferred_readiness` is
    /// not called.
    pub deferred_readiness: Option<Deferral>,
    /// Whether the daemon takes the guard of its pid file once the start is
    /// committed, and drops it before it exits as told
    /// ([`crate::control::Message::Guarded`]).
    pub guard_pid_file: bool,
    /// Whether the privileged action captures a value that reports its drop
    /// ([`crate::control::Message::CaptureDropped`]).
    pub witness_capture: bool,
    /// Whether a process to which the library returns reports
    /// ([`crate::control::Message::Afterwards`]) also if it is not a daemon
    /// that has started.
    pub report_afterwards: bool,
    /// Whether a launcher whose start failed waits for
    /// [`crate::control::Command::Proceed`], then starts another daemon, before
    /// it reports so.
    pub start_again: bool,
    /// Whether a daemon whose start failed under `execute` prints why, as the
    /// launcher does.
    pub failed_daemon_prints: bool,
    /// Whether `Outcome::end_failed_daemon` is called.
    pub end_failed_daemon: bool,
    /// How the daemon goes on once it has been returned to.
    pub life: Life,
}

/// The options that the builder takes.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq, Default)]
pub struct Options {
    /// `pid_file`
    pub pid_file: Option<Bytes>,
    /// `chown_pid_file_user`
    pub chown_pid_file_user: Option<Identity>,
    /// `chown_pid_file_group`
    pub chown_pid_file_group: Option<Identity>,
    /// `working_directory`
    pub working_directory: Option<Bytes>,
    /// `user`
    pub user: Option<Identity>,
    /// `group`
    pub group: Option<Identity>,
    /// `umask`
    pub umask: Option<u32>,
    /// `chroot`
    pub chroot: Option<Bytes>,
    /// `stdin`
    pub stdin: Option<Stream>,
    /// `stdout`
    pub stdout: Option<Stream>,
    /// `stderr`
    pub stderr: Option<Stream>,
    /// `supplementary_groups`
    pub supplementary_groups: Option<SupplementaryGroups>,
    /// `no_new_privileges`
    pub no_new_privileges: bool,
    /// `close_inherited_fds`, with these to be kept, beside what the tester
    /// needs to report
    pub close_inherited_fds: Option<Vec<i32>>,
    /// `reset_signals`
    pub reset_signals: bool,
    /// `startup_timeout`, in milliseconds
    pub startup_timeout: Option<u64>,
    /// `foreground`
    pub foreground: Option<Foreground>,
}

/// What `foreground` is given.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Foreground {
    /// True.
    Yes,
    /// False.
    No,
    /// What `supervised()` says.
    IfSupervised,
}

/// A user or a group, as the caller may name it.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub enum Identity {
    /// By name.
    Name(String),
    /// By number.
    Id(u32),
}

impl From<&str> for Identity {
    fn from(name: &str) -> Self {
        Self::Name(name.to_owned())
    }
}

impl From<u32> for Identity {
    fn from(id: u32) -> Self {
        Self::Id(id)
    }
}

/// What becomes of the supplementary groups.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub enum SupplementaryGroups {
    /// `FromDatabase`
    FromDatabase,
    /// `Keep`
    Keep,
    /// `Only`
    Only(Vec<Identity>),
}

/// A standard stream of the daemon.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub enum Stream {
    /// `Stdio::devnull()`
    DevNull,
    /// `Stdio::keep()`
    Keep,
    /// A file that the tester opens and passes on.
    File(FileSource),
}

/// A file that becomes a standard stream.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct FileSource {
    /// Its path.
    pub path: Bytes,
    /// How it is opened.
    pub access: Access,
    /// The descriptor it is moved to first, for sources that stand in each
    /// other's way. Otherwise the lowest one free.
    pub number: Option<i32>,
}

impl Stream {
    /// A file, opened like this.
    pub fn file(path: impl Into<Bytes>, access: Access) -> Self {
        Self::File(FileSource {
            path: path.into(),
            access,
            number: None,
        })
    }

    /// A file that is created if need be and appended to.
    pub fn append(path: impl Into<Bytes>) -> Self {
        Self::file(path, Access::Append)
    }

    /// A file that is read from.
    pub fn read(path: impl Into<Bytes>) -> Self {
        Self::file(path, Access::Read)
    }

    /// The same, from the descriptor `number`.
    #[must_use]
    pub fn at(mut self, number: i32) -> Self {
        if let Self::File(source) = &mut self {
            source.number = Some(number);
        }
        self
    }
}

/// How a file is opened.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// For reading.
    Read,
    /// For writing at its end; created if absent.
    Append,
    /// For both; created if absent.
    ReadWrite,
}

/// Which function starts the daemon.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Entry {
    /// `Daemonize::start`
    #[default]
    Start,
    /// `Daemonize::execute`
    Execute,
    /// `Daemonize::start_checked`
    StartChecked,
    /// `Daemonize::execute_checked`
    ExecuteChecked,
}

impl Entry {
    /// Whether the launcher's caller is returned to as well.
    pub fn returns_in_both(self) -> bool {
        matches!(self, Self::Execute | Self::ExecuteChecked)
    }
}

/// A closure that may fail.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq, Default)]
pub struct Fallible {
    /// What it does first.
    pub steps: Vec<Step>,
    /// The error that it then returns, if it does.
    pub error: Option<ErrorText>,
}

impl<S: Into<Vec<Step>>> From<S> for Fallible {
    fn from(steps: S) -> Self {
        Self {
            steps: steps.into(),
            error: None,
        }
    }
}

impl From<ErrorText> for Fallible {
    fn from(error: ErrorText) -> Self {
        Self {
            steps: Vec::new(),
            error: Some(error),
        }
    }
}

/// How an error of the daemon's displays.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub enum ErrorText {
    /// As this.
    Text(String),
    /// Panics after this.
    PanicsAfter(String),
    /// As the first of these; as all of them, joined by colons, with `{:#}`: so
    /// anyhow and eyre show the causes of an error.
    Chain(Vec<String>),
}

impl From<&str> for ErrorText {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl fmt::Display for ErrorText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::PanicsAfter(text) => {
                f.write_str(text)?;
                panic!("the text of an error")
            }
            Self::Chain(texts) if f.alternate() => f.write_str(&texts.join(": ")),
            Self::Chain(texts) => f.write_str(texts.first().map_or("", String::as_str)),
        }
    }
}

/// What becomes of a readiness once the library has returned it. The daemon
/// has sent [`crate::control::Message::Daemon`] by then.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct Deferral {
    /// What is done first.
    pub steps: Vec<Step>,
    /// How a copy of the process that is made then uses its own copy of the
    /// readiness. The daemon waits for its end.
    pub in_copy: Option<ReadinessUse>,
    /// Whether that copy is in a pid namespace of its own, where it has the
    /// daemon's pid.
    pub copy_has_same_pid: bool,
    /// A daemon that the daemon then starts, and which drops its copy of the
    /// readiness.
    pub in_another: Option<AnotherStart>,
    /// Whether another thread is given the readiness, and waited for.
    pub in_thread: bool,
    /// How it is used.
    pub usage: ReadinessUse,
}

impl Deferral {
    /// These steps, then this, in the thread that the library returned to.
    pub fn new(steps: impl Into<Vec<Step>>, usage: ReadinessUse) -> Self {
        Self {
            steps: steps.into(),
            in_copy: None,
            copy_has_same_pid: false,
            in_another: None,
            in_thread: false,
            usage,
        }
    }
}

/// A start by a process that is a daemon, or about to be one.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq, Default)]
pub struct AnotherStart {
    /// `pid_file`
    pub pid_file: Option<Bytes>,
    /// Whether `close_inherited_fds` is called, to keep what the tester needs.
    pub close_inherited_fds: bool,
    /// `foreground`
    pub foreground: bool,
    /// Whether a worker of the process starts it, and then ends.
    pub in_worker: bool,
    /// Whether `start` starts it, with which this process ends, rather than
    /// `execute`.
    pub by_start: bool,
}

/// How a readiness is used.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub enum ReadinessUse {
    /// `ready`; what it returns is told by
    /// [`crate::control::Message::Acknowledged`] or
    /// [`crate::control::Message::NotAcknowledged`].
    Ready,
    /// `fail`.
    Fail(ErrorText),
    /// `fail_and_return`; what it returns is told by
    /// [`crate::control::Message::NotAcknowledged`]. Then the daemon goes on.
    FailAndReturn(ErrorText),
    /// `serve`, by a server that does this, and reports that it is ready unless it
    /// returns an error; [`crate::control::Message::Served`] tells what `serve`
    /// returns. Then the daemon goes on.
    Serve(Fallible),
    /// Dropped; then the daemon goes on.
    Drop,
    /// Dropped by a panic with this text, which is caught; then the daemon
    /// goes on.
    DropByPanic(String),
    /// Kept unused, for as long as the daemon lives.
    Keep,
}

/// One thing a closure of the daemon does.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Sends a report of the process as it is at that instant.
    Observe,
    /// Sends such a report, then waits for
    /// [`crate::control::Command::Proceed`]. Ends the process if the harness
    /// ends first.
    Hold,
    /// Panics with this text.
    Panic(String),
    /// Panics with this text, and catches it.
    PanicAndCatch(String),
    /// Sets a panic hook.
    SetPanicHook(PanicHook),
    /// Exits with this status, running the atexit handlers.
    Exit(i32),
    /// Sends this signal to its own process.
    KillItself(i32),
    /// Forks; both processes go on.
    ForkTwice,
    /// Forks a process that keeps copies of everything and stays until the
    /// harness ends, while this one goes on.
    ForkWorker,
    /// Creates a file with this content.
    WriteFile(NewFile),
    /// Opens a TCP socket that listens on a free port of the loopback
    /// address; it becomes part of the closure's result.
    Listen,
    /// Makes the closure's result report its drop
    /// ([`crate::control::Message::ResultDropped`]).
    WitnessResult,
    /// Adds this to the closure's result, whose parts the daemon tells in the
    /// end ([`crate::control::Message::Result`]).
    Add(String),
    /// Aborts, as abort(3) does.
    Abort,
    /// Has as many mebibytes of memory as this, and keeps them.
    FillMemory(usize),
    /// Makes a thread that stays.
    MakeThread,
    /// Makes such a thread, which has its capabilities outlive a change of
    /// user, as PR_SET_KEEPCAPS of prctl(2) does (Linux).
    MakeThreadThatKeepsCapabilities,
    /// Asks for this signal when the parent ends (Linux).
    ArmParentDeathSignal(i32),
    /// Writes this to every socket that the process has, but for the tester's own.
    SendToSockets(Bytes),
    /// Opens this file and sends the descriptor by every socket that the process has,
    /// but for the tester's own (Linux).
    SendDescriptorToSockets(Bytes),
    /// Runs a program with these arguments; what it prints, less the end of
    /// the line, becomes part of the closure's result.
    Run(Vec<Bytes>),
    /// Executes a program with these arguments in place of the tester.
    Execute(Vec<Bytes>),
    /// Closes every socket that the process has, but for the tester's own.
    CloseSockets,
    /// Starts another daemon by this function, and tells of a start that is
    /// refused ([`crate::control::Message::StartRefused`]).
    StartAnother(Entry, Foreground),
}

/// What a panic hook of the program's does.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum PanicHook {
    /// Nothing.
    Silent,
    /// Exits with [`PanicHook::STATUS`].
    Exits,
    /// Aborts.
    Aborts,
    /// Calls the hook that was there before, then exits.
    ExitsAfterTheOneBefore,
}

impl PanicHook {
    /// What the process exits with.
    pub const STATUS: i32 = 7;

    /// Sets it.
    pub fn set(self) {
        let before = match self {
            Self::ExitsAfterTheOneBefore => Some(std::panic::take_hook()),
            Self::Silent | Self::Exits | Self::Aborts => None,
        };
        std::panic::set_hook(Box::new(move |panic| {
            if let Some(before) = &before {
                before(panic);
            }
            match self {
                Self::Silent => {}
                Self::Exits | Self::ExitsAfterTheOneBefore => std::process::exit(Self::STATUS),
                Self::Aborts => std::process::abort(),
            }
        }));
    }
}

/// A file to create.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct NewFile {
    /// Its path, at which nothing may be yet.
    pub path: Bytes,
    /// Its content.
    pub content: Bytes,
}

impl NewFile {
    /// A file of this content.
    pub fn new(path: impl Into<Bytes>, content: impl Into<Bytes>) -> Self {
        Self {
            path: path.into(),
            content: content.into(),
        }
    }
}

/// How the daemon goes on once the library has returned in it.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Life {
    /// Reports, then obeys commands until the harness ends. A daemon whose
    /// start failed under `execute` reports and exits.
    #[default]
    UntilTold,
    /// The same, but a daemon whose start failed under `execute` obeys
    /// commands, too.
    UntilToldEvenIfFailed,
    /// Reports, then exits with this status.
    Exit(i32),
}

/// The state that the launcher is in when it calls the library.
///
/// The fields stand in the order in which they are applied.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq, Default)]
pub struct InitialState {
    /// The working directory.
    pub working_directory: Option<Bytes>,
    /// Session leadership and terminal.
    pub session: Session,
    /// Whether orphaned descendants fall to the launcher (Linux).
    pub subreaper: bool,
    /// Text that std's standard output still holds, unflushed.
    pub unflushed_rust: Option<String>,
    /// Text that C's standard output still holds, unflushed.
    pub unflushed_c: Option<String>,
    /// A panic hook.
    pub panic_hook: Option<PanicHook>,
    /// Whether an atexit handler is registered, which sends
    /// [`crate::control::Message::AtExit`].
    pub at_exit_handler: bool,
    /// How many threads there are besides the first.
    pub extra_threads: u32,
    /// How many more there are that take the guard of a pid file that there is
    /// not, again and again.
    pub guard_takers: u32,
    /// How many threads were made, and joined right before the start.
    pub joined_threads: u32,
    /// Additional descriptors.
    pub descriptors: Vec<OpenDescriptor>,
    /// A queue of events that has an open descriptor (Linux).
    pub event_queue: Option<EventQueue>,
    /// Which of the descriptors 0, 1 and 2 are closed.
    pub closed: [bool; 3],
    /// What the environment variable SYSTEMD_EXEC_PID is set to.
    pub exec_pid: Option<ExecPid>,
    /// RLIMIT_NOFILE, soft and hard.
    pub limit_descriptors: Option<u64>,
    /// RLIMIT_NPROC, soft and hard. It binds ordinary users only.
    pub limit_processes: Option<u64>,
    /// RLIMIT_FSIZE, soft and hard: how long a file may become by writing.
    pub limit_file_size: Option<u64>,
    /// The only processor to run on (Linux).
    pub processor: Option<u32>,
    /// The umask.
    pub umask: Option<u32>,
    /// A folder that covers /etc, in a mount namespace of the launcher's own
    /// (Linux).
    pub user_database: Option<Bytes>,
    /// A file that covers /dev/null, in a mount namespace of the launcher's own
    /// (Linux).
    pub null_device: Option<Bytes>,
    /// How capabilities and root have to do with each other, as the bits of
    /// `PR_SET_SECUREBITS` (Linux).
    pub secure_bits: Option<u64>,
    /// Ids.
    pub ids: Option<Ids>,
    /// The effective and permitted capabilities, as a bit mask, which an
    /// ordinary user can hold, too (Linux).
    pub capabilities: Option<u64>,
    /// The inheritable and ambient capabilities, as a bit mask (Linux).
    pub ambient_capabilities: Option<u64>,
    /// A user namespace of the launcher's own (Linux).
    pub user_namespace: Option<UserNamespace>,
    /// What is done on signals.
    pub dispositions: Vec<(i32, Disposition)>,
    /// The period of an interval timer in microseconds, whose signal SIGALRM
    /// is handled and interrupts system calls.
    pub interval_timer: Option<u32>,
    /// Which signals are blocked.
    pub blocked: Blocked,
    /// A pid namespace for the launcher's children (Linux).
    pub children_namespace: Option<ChildrenNamespace>,
    /// The signal that each process asks for, as soon as it is forked, for when its
    /// parent ends (Linux).
    pub parent_death_signal_at_fork: Option<i32>,
    /// Which system calls a sandbox refuses, and the errno that it answers with
    /// (Linux). They are refused to all descendants.
    pub refused_calls: Vec<(SystemCall, i32)>,
    /// How many numbers of descriptors below the limit are free, all others being
    /// taken. The last to be applied: the launcher could not report any more.
    pub free_descriptors: Option<u32>,
}

/// What a sandbox may refuse.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum SystemCall {
    /// unshare(2).
    Unshare,
    /// pidfd_send_signal(2).
    PidfdSendSignal,
    /// capset(2).
    Capset,
}

/// What hands out events.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventQueue {
    /// epoll(7).
    Epoll,
    /// io_uring(7).
    IoUring,
}

/// The pid namespace of a process that is not in it itself.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChildrenNamespace {
    /// A new one, the first process of which is made next.
    New,
    /// One that has its first process, for as long as the launcher lives.
    WithFirst,
}

/// Session leadership and controlling terminal.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Session {
    /// As inherited from the test process.
    #[default]
    Inherited,
    /// The leader of a session without a terminal.
    Leader,
    /// The leader of a session whose controlling terminal is a new
    /// pseudo-terminal.
    LeaderWithTerminal,
}

/// An additional descriptor.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct OpenDescriptor {
    /// Its number.
    pub number: i32,
    /// What it refers to, opened for reading.
    pub path: Bytes,
    /// Whether it is closed on exec.
    pub close_on_exec: bool,
}

/// User and group ids.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct Ids {
    /// Real, effective and saved user id.
    pub uid: [u32; 3],
    /// Real, effective and saved group id.
    pub gid: [u32; 3],
    /// The supplementary groups; `None` keeps the inherited ones.
    pub groups: Option<Vec<u32>>,
}

impl Ids {
    /// An ordinary user without supplementary groups.
    pub fn user(uid: u32, gid: u32) -> Self {
        Self {
            uid: [uid; 3],
            gid: [gid; 3],
            groups: Some(Vec::new()),
        }
    }
}

/// A user namespace, whose maps a process outside of it writes, with the ids
/// that the launcher has by then.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct UserNamespace {
    /// Which user ids there are: the first one inside, the first one outside,
    /// and how many.
    pub users: Vec<[u32; 3]>,
    /// The same for group ids.
    pub groups: Vec<[u32; 3]>,
    /// Whether setgroups(2) is denied, as it has to be unless the maps are
    /// root's.
    pub denies_setgroups: bool,
}

/// Whom a service manager says that it has started.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExecPid {
    /// This process.
    Own,
    /// Its parent.
    Parents,
}

/// What is done on a signal.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disposition {
    /// The default action.
    Default,
    /// Nothing.
    Ignore,
    /// A handler that does nothing.
    Handle,
    /// A handler that reaps every child there is, for SIGCHLD.
    Reap,
    /// A handler that tells ([`crate::control::Message::Signalled`]), then
    /// ends the process with status 0.
    TellAndExit,
    /// A handler that tells, then goes on.
    Tell,
}

/// Which signals are blocked.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq, Default)]
pub enum Blocked {
    /// The inherited mask.
    #[default]
    Inherited,
    /// All that can be.
    All,
    /// Just these.
    These(Vec<i32>),
}
