//! A start, one process of which gets a signal, mostly SIGKILL, at a given
//! call.

use std::fmt;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitCode, ExitStatus};
#[cfg(target_os = "linux")]
use std::time::Instant;

use rkyv::{Archive, Deserialize, Serialize};

use crate::control::{self, Message};
use crate::subject::EXIT_BAD_CONFIG;
use crate::sys;

/// The argument that asks for [`run`]; the victim, the number of the call and
/// the signal come next.
pub const CRASH: &str = "crash";

/// Which process gets it, or has a call fail.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Victim {
    /// The one that starts the daemon.
    Launcher,
    /// Its child.
    Intermediate,
    /// Its grandchild.
    Daemon,
}

impl Victim {
    /// All three.
    pub const ALL: [Self; 3] = [Self::Launcher, Self::Intermediate, Self::Daemon];

    /// The one of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|victim| victim.to_string() == name)
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

/// The process that got the signal, and what then became of the launcher.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub struct Struck {
    /// Its process id.
    pub process: u32,
    /// How many messages it had sent before, by sendmsg(2).
    pub sent: u64,
    /// How many milliseconds later the launcher ended.
    pub launcher_ended_after: u64,
}

/// Runs the tester on the same configuration, traced; sends the victim the
/// signal before that call, counted from 0, and in the launcher from where it
/// calls the library; tells who got it ([`Message::Crashed`]), and ends as the
/// launcher has ended.
pub fn run(mut arguments: impl Iterator<Item = String>) -> ExitCode {
    let victim = arguments.next().and_then(|name| Victim::named(&name));
    let call = arguments.next().and_then(|number| number.parse().ok());
    let signal = arguments.next().and_then(|number| number.parse().ok());
    let (Some(victim), Some(call), Some(signal)) = (victim, call, signal) else {
        eprintln!("tester: {CRASH} needs a victim and two numbers");
        return ExitCode::from(EXIT_BAD_CONFIG);
    };
    end_as_launcher(crash(victim, call, signal))
}

/// Ends this process, which has traced a launcher, as that has ended.
pub(crate) fn end_as_launcher(traced: io::Result<ExitStatus>) -> ExitCode {
    let ended = traced.and_then(|launcher| {
        if let Some(signal) = launcher.signal() {
            sys::kill(std::process::id(), signal)?;
        }
        Ok(launcher.code().unwrap_or_default())
    });
    match ended {
        Ok(status) => sys::exit_at_once(status),
        Err(error) => {
            // Whoever listens must not take this for an outcome.
            let _ = control::tell(&Message::Problem(format!("cannot trace: {error}")));
            ExitCode::from(EXIT_BAD_CONFIG)
        }
    }
}

#[cfg(target_os = "linux")]
fn crash(victim: Victim, call: u64, signal: i32) -> io::Result<ExitStatus> {
    let mut crash = Crash {
        victim,
        call,
        signal,
        made: [None, Some(0), Some(0)],
        sent: 0,
        got_it: None,
    };
    let launcher = sys::trace(&mut tester()?, &mut crash)?;
    let struck = crash.got_it.map(|(process, then)| Struck {
        process,
        sent: crash.sent,
        launcher_ended_after: u64::try_from(then.elapsed().as_millis()).unwrap_or(u64::MAX),
    });
    control::tell(&Message::Crashed(struck))?;
    Ok(launcher)
}

#[cfg(not(target_os = "linux"))]
fn crash(_victim: Victim, _call: u64, _signal: i32) -> io::Result<ExitStatus> {
    Err(io::ErrorKind::Unsupported.into())
}

/// The tester, to be traced.
#[cfg(target_os = "linux")]
pub(crate) fn tester() -> io::Result<std::process::Command> {
    std::env::current_exe().map(std::process::Command::new)
}

#[cfg(target_os = "linux")]
struct Crash {
    victim: Victim,
    call: u64,
    signal: i32,
    /// How many calls each process has made, if they are counted yet.
    made: [Option<u64>; Victim::ALL.len()],
    /// How many messages the victim has sent, until it got the signal.
    sent: u64,
    /// The process that got the signal, and when.
    got_it: Option<(u32, Instant)>,
}

#[cfg(target_os = "linux")]
impl sys::Watch for Crash {
    fn entering(&mut self, process: sys::Traced, call: &sys::Call) -> io::Result<sys::Decision> {
        let Some(made) = self.made.get_mut(process.place) else {
            return Ok(sys::Decision::Proceed);
        };
        if call.mark().is_some() {
            made.get_or_insert(0);
            return Ok(sys::Decision::Proceed);
        }
        let is_victim = Victim::ALL[process.place] == self.victim;
        if is_victim && *made == Some(self.call) && self.got_it.is_none() {
            self.got_it = Some((process.pid, Instant::now()));
            return Ok(sys::Decision::Signal(self.signal));
        }
        if let Some(made) = made {
            *made += 1;
        }
        if is_victim && self.got_it.is_none() && call.number == libc::SYS_sendmsg {
            self.sent += 1;
        }
        Ok(sys::Decision::Proceed)
    }
}
