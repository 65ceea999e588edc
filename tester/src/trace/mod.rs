//! A start under a tracer, which lets calls fail or sends signals.
//!
//! [`run`] follows each process of a start from call to call. A call that is to fail
//! never reaches the kernel: the process gets another result. A process that is to be
//! killed gets the signal before a call. The library is not changed.
//!
//! A call is named as in C, followed by the arguments that distinguish it from others:
//! `open(/etc/passwd)`, `fcntl(daemon.pid, F_GETFD)`. The names are those of POSIX,
//! whichever system calls a C library uses on a processor: `fork`, not `clone`;
//! `poll`, not `ppoll`; `stat` and `fstat` for all of their kind. Paths in the case's
//! directory are relative to it. Both ends of the n-th socketpair(2) of a start are
//! called `pair n`, also if a fault causes that pair. Numbers in paths of /proc are
//! stars.
//!
//! The tester marks where the library is at work ([`crate::sys::mark`]): only there
//! are calls recorded. A call of the tester's closures is none of the library's.

use std::fmt;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitCode, ExitStatus};

use crate::control::{self, Message};
use crate::subject::EXIT_BAD_CONFIG;
use crate::sys;

#[cfg(target_os = "linux")]
mod calls;
#[cfg(target_os = "linux")]
mod tracer;

pub use crate::report::{Role, SignalHit, SyscallRecord};

/// The argument that asks for [`run`]. The arguments of [`Fault`]s come next.
pub const TRACE: &str = "trace";

/// The [`Fault::call`] that stands for each call, also for those of the tester,
/// from where the launcher first calls the library.
pub const ANY_CALL: &str = "any call";

/// A call that fails, or at which the process gets a signal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The process that makes the call.
    pub process: Role,
    /// The name and arguments, or [`ANY_CALL`].
    pub call: String,
    /// The number of such calls of that process before.
    pub occurrence: usize,
    /// How the call fails.
    pub how: How,
    /// Whether all later calls of that name fail, too.
    pub always: bool,
}

/// How a call fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// It does nothing, and fails with this errno.
    Errno(i32),
    /// It transfers one byte only.
    Short,
    /// It does nothing, and returns 0.
    FakeSuccess,
    /// The process gets this signal before it makes the call.
    Signal(i32),
}

const FAULT_ARGUMENTS: usize = 5;

impl How {
    fn parse(text: &str) -> Option<Self> {
        match text.split_once(' ') {
            None if text == "short" => Some(Self::Short),
            Some(("fake", "success")) => Some(Self::FakeSuccess),
            Some(("errno", errno)) => errno.parse().ok().map(Self::Errno),
            Some(("signal", signal)) => signal.parse().ok().map(Self::Signal),
            _ => None,
        }
    }
}

impl fmt::Display for How {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Errno(errno) => write!(f, "errno {errno}"),
            Self::Short => f.write_str("short"),
            Self::FakeSuccess => f.write_str("fake success"),
            Self::Signal(signal) => write!(f, "signal {signal}"),
        }
    }
}

impl Fault {
    /// The arguments that the tester gets.
    pub fn arguments(&self) -> [String; FAULT_ARGUMENTS] {
        [
            self.process.to_string(),
            self.call.clone(),
            self.occurrence.to_string(),
            self.how.to_string(),
            self.always.to_string(),
        ]
    }

    fn parse(arguments: &[String]) -> Option<Self> {
        let [process, call, occurrence, how, always] = arguments else {
            return None;
        };
        Some(Self {
            process: Role::named(process)?,
            call: call.clone(),
            occurrence: occurrence.parse().ok()?,
            how: How::parse(how)?,
            always: always.parse().ok()?,
        })
    }
}

/// Runs the tester under the tracer, with the same configuration, and ends as the
/// launcher has ended.
///
/// If a fault is a signal at any call, the tracer reports whether a process got it
/// ([`Message::SignalHit`]), and stops when the launcher has ended. Otherwise it
/// reports the calls of the library ([`Message::Traced`]): after a success it goes on
/// until the library has returned in the daemon; after a launcher's death by a signal,
/// until the library has done its work in both other processes.
pub fn run(arguments: impl Iterator<Item = String>) -> ExitCode {
    let arguments: Vec<_> = arguments.collect();
    let faults = arguments.chunks(FAULT_ARGUMENTS).map(Fault::parse);
    let Some(faults) = faults.collect::<Option<Vec<_>>>() else {
        eprintln!("tester: {TRACE} does not understand {arguments:?}");
        return ExitCode::from(EXIT_BAD_CONFIG);
    };
    let ended = trace(faults).and_then(|launcher| {
        if let Some(signal) = launcher.signal() {
            sys::kill(std::process::id(), signal)?;
        }
        Ok(launcher.code().unwrap_or_default())
    });
    match ended {
        Ok(status) => sys::exit_at_once(status),
        Err(error) => {
            // The harness must not take this for the end of a launcher.
            let _ = control::send(&Message::Problem(format!("cannot trace: {error}")));
            ExitCode::from(EXIT_BAD_CONFIG)
        }
    }
}

#[cfg(target_os = "linux")]
fn trace(faults: Vec<Fault>) -> io::Result<ExitStatus> {
    tracer::trace(faults)
}

#[cfg(not(target_os = "linux"))]
fn trace(_faults: Vec<Fault>) -> io::Result<ExitStatus> {
    Err(io::ErrorKind::Unsupported.into())
}
