//! What a platform may show besides the report of its observer.
//!
//! # What each platform supplies
//!
//! * `facts(pid) -> Facts`.
//! * `metadata(pid, descriptor) -> Option<Metadata>`: the open file, even if it is deleted.
//! * `locks_of(pid, descriptor) -> Option<Vec<Lock>>`: the locks that the process has by this
//!   descriptor.
//! * `locks_on(file) -> Option<Vec<Lock>>`: the locks of all processes on a file, as far as they
//!   are shown.
//! * `accepted_signals(pid, descriptor) -> SignalSet`: the blocked signals that the process reads
//!   from this descriptor.
//! * `are_copies(one, other) -> Option<bool>`: whether descriptors of two processes are copies of
//!   each other.
//!
//! `None` means that the platform does not show it, or not to this user.

#[cfg(target_os = "linux")]
#[path = "linux.rs"]
mod platform;
#[cfg(not(target_os = "linux"))]
#[path = "other.rs"]
mod platform;

pub(super) use platform::{accepted_signals, are_copies, facts, locks_of, locks_on, metadata};

use crate::report::{AccessMode, SignalSet};

#[derive(Debug, Default)]
pub(super) struct Facts {
    pub(super) program: Option<Program>,
    /// Whether the process is a thread of the kernel.
    pub(super) is_kernel_thread: bool,
    /// The ids of the process in each pid namespace that it is in.
    pub(super) pids: Vec<u32>,
    pub(super) threads: Option<Vec<Thread>>,
    pub(super) limits: Option<Vec<Limit>>,
    /// The environment that the program began with: `NAME=VALUE`.
    pub(super) environment: Option<Vec<Vec<u8>>>,
    pub(super) others: Option<Others>,
}

#[derive(Debug)]
pub(super) struct Program {
    pub(super) path: Vec<u8>,
    pub(super) is_deleted: bool,
}

#[derive(Debug)]
pub(super) struct Thread {
    pub(super) id: u32,
    /// The lines of ids, groups, capabilities and no_new_privs.
    pub(super) privileges: Vec<String>,
    pub(super) blocked: SignalSet,
}

#[derive(Debug)]
pub(super) struct Limit {
    pub(super) name: String,
    /// The soft limit; `None` means unlimited.
    pub(super) soft: Option<u64>,
}

/// The descriptors of all other processes.
#[derive(Debug)]
pub(super) struct Others {
    pub(super) descriptors: Vec<Other>,
    /// Whether the descriptors of each process are shown.
    pub(super) are_complete: bool,
}

/// A descriptor of another process.
#[derive(Debug)]
pub(super) struct Other {
    pub(super) pid: u32,
    pub(super) number: i32,
    pub(super) device: u64,
    pub(super) inode: u64,
    pub(super) access: AccessMode,
}

/// A lock on a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Lock {
    /// `FLOCK`, `POSIX` or `OFDLCK`, as in /proc/locks.
    pub(super) kind: String,
    /// The process that has taken it; 0 if it is not shown.
    pub(super) pid: u32,
}

impl Lock {
    /// The call that takes such a lock.
    pub(super) fn call(&self) -> &str {
        match self.kind.as_str() {
            "FLOCK" => "flock(2)",
            "POSIX" => "a record lock",
            "OFDLCK" => "an open file description lock",
            other => other,
        }
    }
}
