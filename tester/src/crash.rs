//! A start, one process of which is killed at a given call.

use std::fmt;
use std::process::ExitCode;

use crate::control::{self, Message};
use crate::subject::EXIT_BAD_CONFIG;

/// The argument that asks for [`run`]; the victim and the number of the call
/// come next.
pub const CRASH: &str = "crash";

/// Which process is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Victim {
    /// The one that starts the daemon.
    Launcher,
    /// Its child.
    Intermediate,
    /// Its grandchild.
    Daemon,
}

impl Victim {
    const ALL: [Self; 3] = [Self::Launcher, Self::Intermediate, Self::Daemon];

    fn named(name: &str) -> Option<usize> {
        Self::ALL
            .iter()
            .position(|victim| victim.to_string() == name)
    }
}

impl fmt::Display for Victim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Launcher => "launcher",
            Self::Intermediate => "intermediate",
            Self::Daemon => "daemon",
        })
    }
}

/// Runs the tester on the same configuration, traced; kills the victim before
/// that call; tells whom it killed ([`Message::Crashed`]), and ends as the
/// launcher has ended.
pub fn run(mut arguments: impl Iterator<Item = String>) -> ExitCode {
    let victim = arguments.next().and_then(|name| Victim::named(&name));
    let call = arguments.next().and_then(|number| number.parse().ok());
    let (Some(victim), Some(call)) = (victim, call) else {
        eprintln!("tester: {CRASH} needs a victim and a number");
        return ExitCode::from(EXIT_BAD_CONFIG);
    };
    match crash(victim, call) {
        Ok(status) => status,
        Err(error) => {
            // Whoever listens must not take this for an outcome.
            let _ = control::tell(&Message::Problem(format!("cannot trace: {error}")));
            ExitCode::from(EXIT_BAD_CONFIG)
        }
    }
}

#[cfg(target_os = "linux")]
fn crash(victim: usize, call: u64) -> std::io::Result<ExitCode> {
    use std::os::unix::process::ExitStatusExt;

    use crate::sys;

    let mut command = std::process::Command::new(std::env::current_exe()?);
    let traced = sys::crash(&mut command, victim, call)?;
    control::tell(&Message::Crashed(traced.killed))?;
    if let Some(signal) = traced.launcher.signal() {
        sys::kill(std::process::id(), signal)?;
    }
    let status = traced.launcher.code().unwrap_or_default();
    sys::exit_at_once(status)
}

#[cfg(not(target_os = "linux"))]
fn crash(_victim: usize, _call: u64) -> std::io::Result<ExitCode> {
    Err(std::io::ErrorKind::Unsupported.into())
}
