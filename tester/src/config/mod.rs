//! The configuration of the tester: the initial state, the options, the steps during the start, and
//! the end.
//!
//! All of it is plain data, so that a test can generate it as well as write it.

use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rkyv::{Archive, Deserialize, Serialize};

mod closures;
mod initial_state;
mod options;

pub use closures::*;
pub(crate) use initial_state::for_each_initial_field;
pub use initial_state::*;
pub(crate) use options::for_each_option;
pub use options::*;

/// A path or another byte string of the system. It need not be UTF-8, and may contain the NUL that
/// the library refuses.
#[derive(Archive, Serialize, Deserialize, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
#[rkyv(derive(PartialEq, Eq, PartialOrd, Ord))]
pub struct Bytes(pub Vec<u8>);

impl Bytes {
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

#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq, Default)]
pub struct Config {
    /// The state to set up before the start.
    pub initial: InitialState,
    pub options: Options,
    pub entry: Entry,
    /// What [`Entry::Spawn`] executes.
    pub program: Program,
    /// The steps of the privileged action; without them, none is set.
    pub privileged_action: Option<Vec<Step>>,
    /// The steps of `try_privileged_action`, which replaces the other.
    pub try_privileged_action: Option<Fallible>,
    /// One `initialize` each.
    pub initialize: Vec<Fallible>,
    /// The use of the readiness; without it, `deferred_readiness` is not called.
    pub deferred_readiness: Option<Deferral>,
    /// Whether the last `initialize` is given to `start_checked_with` or `execute_checked_with`,
    /// and borrows. Takes one of the checked entry points, and neither a payload nor a deferred
    /// readiness.
    pub borrows: bool,
    /// The payload of the report that the daemon is ready: that of `ready_payload`, or of
    /// `ready_with` if the readiness is deferred.
    pub ready_payload: Option<Bytes>,
    /// The steps of `on_started`, after [`crate::control::Message::Started`]; without them, it is
    /// not called.
    pub on_started: Option<Vec<Step>>,
    /// Whether the closure of `on_started` captures a value whose drop panics in the daemon.
    pub on_started_drop_panics: bool,
    /// Whether the daemon takes the guard of its pid file after the commitment, and drops it before
    /// it exits ([`crate::control::Message::Guarded`]).
    pub guard_pid_file: bool,
    /// Whether the privileged action and the closure of `on_started` capture a value that reports
    /// its drop ([`crate::control::Message::CaptureDropped`],
    /// [`crate::control::Message::OnStartedDropped`]).
    pub witness_capture: bool,
    /// Whether a launcher or a failed daemon reports ([`crate::control::Message::Afterwards`]),
    /// too, when the library returns.
    pub report_afterwards: bool,
    /// Whether a launcher whose start failed waits for [`crate::control::Command::Proceed`], and
    /// then starts another daemon, before it reports.
    pub start_again: bool,
    /// Whether a daemon whose start failed under `execute` prints the error, as the launcher does.
    pub failed_daemon_prints: bool,
    /// Whether `Outcome::end_failed_daemon` is called.
    pub end_failed_daemon: bool,
    /// What the daemon does after the library has returned.
    pub life: Life,
}

#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Entry {
    #[default]
    Start,
    Execute,
    StartChecked,
    ExecuteChecked,
    /// Executes [`Config::program`]. Takes no closure but that of `on_started`; a privileged action
    /// is set without its steps.
    Spawn,
}

impl Entry {
    /// Whether the library returns in the launcher, too.
    pub fn returns_in_both(self) -> bool {
        matches!(self, Self::Execute | Self::ExecuteChecked)
    }

    /// Whether the library returns in the launcher if the daemon starts.
    pub fn returns_in_launcher(self) -> bool {
        self.returns_in_both() || self == Self::Spawn
    }
}

/// A program, and the calls by which its environment is described.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq, Default)]
pub struct Program {
    /// Without a path, the tester itself, which reports as the daemon, and goes on as
    /// [`Config::life`] says.
    pub path: Option<Bytes>,
    /// The arguments of another program.
    pub arguments: Vec<Bytes>,
    pub clears_environment: bool,
    /// `None` removes the variable.
    pub environment: Vec<(Bytes, Option<Bytes>)>,
    /// How often the launcher starts another daemon before.
    pub starts_before: u32,
    pub readiness: ProgramReadiness,
    /// The steps of the tester, before it reports as the daemon.
    pub steps: Vec<Step>,
}

/// The event for which the launcher waits after the execution.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum ProgramReadiness {
    #[default]
    Execution,
    /// `Program::notify_socket`.
    NotifySocket,
    /// `Program::notification_fd`.
    NotificationFd(i32),
}

/// What the daemon does after the library has returned.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Life {
    /// Reports, and obeys commands until the harness ends. A daemon whose start failed under
    /// `execute` reports and exits.
    #[default]
    UntilCommand,
    /// The same; a daemon whose start failed under `execute` obeys commands, too.
    UntilCommandEvenIfFailed,
    /// Reports, and exits with this status.
    Exit(i32),
}
