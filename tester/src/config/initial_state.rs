//! The state of the launcher before the start.

use rkyv::{Archive, Deserialize, Serialize};

use super::{Bytes, PanicHook};

/// The state of the launcher when it calls the library.
///
/// The fields are in the order in which they are applied.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq, Default)]
pub struct InitialState {
    pub working_directory: Option<Bytes>,
    pub session: Session,
    /// Whether orphaned descendants fall to the launcher (Linux).
    pub subreaper: bool,
    /// Unflushed text in the standard output of std.
    pub unflushed_rust: Option<String>,
    /// Unflushed text in the standard output of the C library.
    pub unflushed_c: Option<String>,
    pub panic_hook: Option<PanicHook>,
    /// Whether an atexit handler is registered, which sends [`crate::control::Message::AtExit`].
    pub at_exit_handler: bool,
    /// The number of threads beside the first.
    pub extra_threads: u32,
    /// The number of further threads that try, again and again, to take the guard of a pid file
    /// that does not exist.
    pub guard_takers: u32,
    /// The number of threads that were made, and joined right before the start.
    pub joined_threads: u32,
    pub descriptors: Vec<OpenDescriptor>,
    /// An event queue with an open descriptor (Linux).
    pub event_queue: Option<EventQueue>,
    /// Which of the descriptors 0, 1 and 2 are closed.
    pub closed: [bool; 3],
    /// The value of the environment variable SYSTEMD_EXEC_PID.
    pub exec_pid: Option<ExecPid>,
    /// RLIMIT_NOFILE, soft and hard.
    pub limit_descriptors: Option<u64>,
    /// RLIMIT_NPROC, soft and hard. It binds ordinary users only.
    pub limit_processes: Option<u64>,
    /// RLIMIT_FSIZE, soft and hard: the largest size of a written file.
    pub limit_file_size: Option<u64>,
    /// The only processor to run on (Linux).
    pub processor: Option<u32>,
    pub umask: Option<u32>,
    /// A directory that covers /etc, in a mount namespace of the launcher (Linux).
    pub user_database: Option<Bytes>,
    /// A file that covers /dev/null, in a mount namespace of the launcher (Linux).
    pub null_device: Option<Bytes>,
    /// How capabilities depend on user ids, as the bits of `PR_SET_SECUREBITS` (Linux).
    pub secure_bits: Option<u64>,
    pub ids: Option<Ids>,
    /// The effective and permitted capabilities, as a bit mask; an ordinary user can have them, too
    /// (Linux).
    pub capabilities: Option<u64>,
    /// The inheritable and ambient capabilities, as a bit mask (Linux).
    pub ambient_capabilities: Option<u64>,
    /// A user namespace of the launcher (Linux).
    pub user_namespace: Option<UserNamespace>,
    pub dispositions: Vec<(i32, Disposition)>,
    /// The period of an interval timer in microseconds. Its signal SIGALRM is handled, and
    /// interrupts system calls.
    pub interval_timer: Option<u32>,
    pub blocked: Blocked,
    /// A pid namespace for the children of the launcher (Linux).
    pub children_namespace: Option<ChildrenNamespace>,
    /// The parent-death signal that each process sets as soon as it is forked (Linux).
    pub parent_death_signal_at_fork: Option<i32>,
    /// The system calls that a sandbox refuses to the launcher and its descendants, each with its
    /// errno (Linux).
    pub refused_calls: Vec<(SystemCall, i32)>,
    /// The number of free descriptors below the limit; all others are taken. It is applied last,
    /// since the launcher could not report any more.
    pub free_descriptors: Option<u32>,
}

#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum SystemCall {
    Unshare,
    PidfdSendSignal,
    Capset,
}

#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventQueue {
    Epoll,
    IoUring,
}

/// The pid namespace of the children of a process.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChildrenNamespace {
    /// A new namespace. The next child becomes its first process.
    New,
    /// A namespace whose first process lives as long as the launcher.
    WithFirst,
}

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

#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct OpenDescriptor {
    pub number: i32,
    /// The file, which is opened for reading.
    pub path: Bytes,
    pub close_on_exec: bool,
}

#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct Ids {
    pub uid: [u32; 3],
    pub gid: [u32; 3],
    /// The supplementary groups; `None` keeps those of the test.
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

/// A user namespace. A process outside of it writes its maps, with the ids that the launcher has by
/// then.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct UserNamespace {
    /// The user ids: the first id inside, the first id outside, and their number.
    pub users: Vec<[u32; 3]>,
    /// The group ids, in the same form.
    pub groups: Vec<[u32; 3]>,
    /// Whether setgroups(2) is denied, which the kernel requires unless root writes the maps.
    pub denies_setgroups: bool,
}

/// The process that a service manager claims to have started.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExecPid {
    Own,
    Parents,
}

#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disposition {
    Default,
    Ignore,
    Handle,
    /// A handler of SIGCHLD that reaps every child.
    Reap,
    /// A handler that sends [`crate::control::Message::Signalled`], and ends the process with
    /// status 0.
    ReportAndExit,
    /// A handler that sends the same message, and returns.
    Report,
}

#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq, Default)]
pub enum Blocked {
    #[default]
    Inherited,
    /// All signals that can be blocked.
    All,
    These(Vec<i32>),
}
