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

mod closures;
mod initial_state;
mod options;

pub use closures::*;
pub use initial_state::*;
pub(crate) use options::for_each_option;
pub use options::*;

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
