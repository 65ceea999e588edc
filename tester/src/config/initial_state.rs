//! The state of the launcher before the start.

use rkyv::{Archive, Deserialize, Serialize};

use super::{Bytes, PanicHook};

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
