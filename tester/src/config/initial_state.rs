//! The state of the launcher before the start.

#![allow(
    missing_debug_implementations,
    reason = "rkyv derives types without it inside a macro"
)]

use rkyv::{Archive, Deserialize, Serialize};

use super::{Bytes, PanicHook};
use crate::sys;

/// The one declaration of each field of [`InitialState`], in the order in which the fields are
/// applied: the values that are set, and the function that applies a value.
macro_rules! for_each_initial_field {
    ($use:ident) => { $use! {
    steps {
        working_directory: Option<Bytes> => (working_directory, set_working_directory),
        session: Session => (Some(*session), set_session),
        /// Whether orphaned descendants fall to the launcher (Linux).
        subreaper: bool => (subreaper.then_some(()), |()| sys::become_subreaper()),
        /// Unflushed text in the standard output of std.
        unflushed_rust: Option<String> => (unflushed_rust, print_with_std),
        /// Unflushed text in the standard output of the C library.
        unflushed_c: Option<String> => (unflushed_c, |text| sys::print_with_c(text)),
        panic_hook: Option<PanicHook> => (*panic_hook, set_panic_hook),
        /// Whether an atexit handler is registered, which sends [`crate::control::Message::AtExit`].
        at_exit_handler: bool => (at_exit_handler.then_some(()), register_at_exit),
        /// The number of threads beside the first.
        extra_threads: u32 => (0..*extra_threads, |_| park_a_thread(|| Ok(()))),
        /// The number of further threads that try, again and again, to take the guard of a pid file
        /// that does not exist.
        guard_takers: u32 => (0..*guard_takers, |_| take_guards()),
        /// The number of further threads that allocate memory, lock standard output and set an
        /// environment variable, again and again.
        /// A thread that forks children without pause, which do not execute a program.
        forking_thread: bool => (forking_thread.then_some(()), |()| keep_forking()),
        busy_threads: u32 => (0..*busy_threads, |_| keep_busy()),
        /// The number of threads that were made, and joined right before the start.
        joined_threads: u32 => (0..*joined_threads, |_| join_a_thread()),
        descriptors: Vec<OpenDescriptor> => (descriptors, open),
        /// An event queue with an open descriptor (Linux).
        event_queue: Option<EventQueue> => (*event_queue, open_event_queue),
        /// Sockets and a watchdog, as a service manager passes them.
        activation: Option<Activation> => (activation, activate),
        /// Which of the descriptors 0, 1 and 2 are closed.
        closed: [bool; 3] => ((0..).zip(*closed), close),
        /// The value of the environment variable SYSTEMD_EXEC_PID.
        exec_pid: Option<ExecPid> => (*exec_pid, set_exec_pid),
        /// RLIMIT_NOFILE, soft and hard.
        limit_descriptors: Option<u64>
            => (*limit_descriptors, |limit| sys::limit(Resource::Descriptors, limit)),
        /// RLIMIT_NPROC, soft and hard. It binds ordinary users only.
        limit_processes: Option<u64>
            => (*limit_processes, |limit| sys::limit(Resource::Processes, limit)),
        /// RLIMIT_FSIZE, soft and hard: the largest size of a written file.
        limit_file_size: Option<u64>
            => (*limit_file_size, |limit| sys::limit(Resource::FileSize, limit)),
        /// The only processor to run on (Linux).
        processor: Option<u32> => (*processor, sys::run_on),
        umask: Option<u32> => (*umask, |mask| sys::set_umask(mask).map(drop)),
        /// A directory that covers /etc, in a mount namespace of the launcher (Linux).
        user_database: Option<Bytes> => (user_database, |directory| cover("/etc", directory)),
        /// A file that covers /dev/null, in a mount namespace of the launcher (Linux).
        null_device: Option<Bytes> => (null_device, |file| cover("/dev/null", file)),
        /// How capabilities depend on user ids, as the bits of `PR_SET_SECUREBITS` (Linux).
        secure_bits: Option<u64> => (*secure_bits, sys::set_secure_bits),
        ids: Option<Ids> => (ids, |ids| set_ids(ids, capabilities.is_some())),
        /// The effective and permitted capabilities, as a bit mask; an ordinary user can have them,
        /// too (Linux).
        capabilities: Option<u64> => (*capabilities, sys::set_capabilities),
        /// The inheritable and ambient capabilities, as a bit mask (Linux).
        ambient_capabilities: Option<u64> => (*ambient_capabilities, sys::set_ambient_capabilities),
        /// The bounding set, as a bit mask; takes CAP_SETPCAP (Linux).
        bounding_capabilities: Option<u64> => (*bounding_capabilities, sys::limit_bounding_set),
        /// A user namespace of the launcher (Linux).
        user_namespace: Option<UserNamespace> => (user_namespace, enter_user_namespace),
        dispositions: Vec<(i32, Disposition)> => (dispositions, set_disposition),
        /// The period of an interval timer in microseconds. Its signal SIGALRM is handled, and
        /// interrupts system calls.
        interval_timer: Option<u32> => (*interval_timer, start_interval_timer),
        blocked: Blocked => (Some(blocked), block),
        /// A pid namespace for the children of the launcher (Linux).
        children_namespace: Option<ChildrenNamespace> => (*children_namespace, leave_pid_namespace),
        /// The parent-death signal that each process sets as soon as it is forked (Linux).
        parent_death_signal_at_fork: Option<i32>
            => (*parent_death_signal_at_fork, sys::ask_for_parent_death_signal_at_fork),
        /// The system calls that a sandbox refuses to the launcher and its descendants, each with
        /// its errno (Linux).
        refused_calls: Vec<(SystemCall, i32)> => (Some(refused_calls), refuse_calls),
    }
    last {
        /// The number of free descriptors below the limit; all others are taken. It is applied last,
        /// since the launcher could not report any more.
        free_descriptors: Option<u32>,
    }
    } };
}

pub(crate) use for_each_initial_field;

macro_rules! declare_initial_state {
    (
        steps { $($(#[$doc:meta])* $field:ident: $type:ty => ($values:expr, $apply:expr),)* }
        last { $(#[$last_doc:meta])* $last:ident: $last_type:ty, }
    ) => {
        /// The state of the launcher when it calls the library.
        #[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq, Default)]
        pub struct InitialState {
            $($(#[$doc])* pub $field: $type,)*
            $(#[$last_doc])* pub $last: $last_type,
        }
    };
}

for_each_initial_field!(declare_initial_state);

#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum SystemCall {
    Unshare,
    CloseRange,
    PidfdOpen,
    PidfdSendSignal,
    Statx,
    Renameat2,
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

impl InitialState {
    /// Whether the library trusts the environment of the launcher: see [`sys::CHANGED_IDS_TAINT`].
    pub fn is_environment_trusted(&self) -> bool {
        self.ids.is_none() || !sys::CHANGED_IDS_TAINT
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

/// What a service manager passes to a process. The sockets listen on free ports of the loopback
/// address, as descriptors 3, 4 and so on.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct Activation {
    /// The process that the variables name.
    pub process: ExecPid,
    /// The names of the sockets.
    pub sockets: Vec<String>,
}

impl Activation {
    /// The descriptors of the sockets.
    pub fn numbers(&self) -> impl Iterator<Item = i32> {
        (3..).zip(&self.sockets).map(|(number, _)| number)
    }
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
