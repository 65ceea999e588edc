//! What comes of a signal at any call of a start, each in turn.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::thread;
use std::time::{Duration, Instant};

use crate::Case;
use crate::descriptors::tell_of_signal;
use crate::files::with_pid_file;
use crate::harness::{self, Place, children, tell};
use crate::sys::{self, Stop};

pub const CASES: &[Case] = &[
    (
        "attacks::a_handler_runs_in_the_daemon_once_the_library_lets_it",
        handled,
    ),
    (
        "attacks::a_sigterm_at_any_call_ends_the_start_with_a_true_report",
        sigterm,
    ),
    (
        "crashes::a_launcher_killed_at_any_call_leaves_a_daemon_or_nothing",
        launcher_killed,
    ),
    (
        "crashes::an_intermediate_killed_at_any_call_leaves_a_daemon_or_nothing",
        intermediate_killed,
    ),
    (
        "crashes::a_daemon_killed_at_any_call_was_started_or_leaves_nothing",
        daemon_killed,
    ),
    (
        "held_up::an_intermediate_that_is_stopped_at_any_call_does_not_outlast_the_time",
        intermediate_stopped,
    ),
];

/// How long a start may take once somebody is held up.
const TIME: Duration = Duration::from_secs(3);

/// In the order of their forks.
const LAUNCHER: usize = 0;
const INTERMEDIATE: usize = 1;
const DAEMON: usize = 2;

fn sigterm(place: &Place) -> String {
    sweep(place, DAEMON, libc::SIGTERM)
}

fn handled(place: &Place) -> String {
    sweep_handling(place, DAEMON, libc::SIGTERM, true)
}

fn launcher_killed(place: &Place) -> String {
    sweep(place, LAUNCHER, libc::SIGKILL)
}

fn intermediate_killed(place: &Place) -> String {
    sweep(place, INTERMEDIATE, libc::SIGKILL)
}

fn daemon_killed(place: &Place) -> String {
    sweep(place, DAEMON, libc::SIGKILL)
}

fn intermediate_stopped(place: &Place) -> String {
    sweep(place, INTERMEDIATE, libc::SIGSTOP)
}

/// Sends the victim this signal at its first call, at its second and so on;
/// counts what comes of it.
fn sweep(place: &Place, victim: usize, signal: i32) -> String {
    sweep_handling(place, victim, signal, false)
}

/// With a handler for the signal.
fn sweep_handling(place: &Place, victim: usize, signal: i32, is_handled: bool) -> String {
    let mut outcomes = BTreeMap::<String, usize>::new();
    let mut calls = 0;
    while calls < 200 {
        let Some(outcome) = strike(place, victim, calls, signal, is_handled) else {
            break;
        };
        *outcomes.entry(outcome).or_default() += 1;
        calls += 1;
        place.end_all();
        place.forget();
        let _ = fs::remove_file(place.path("daemon.pid"));
    }
    let outcomes: Vec<_> = outcomes
        .into_iter()
        .map(|(outcome, times)| format!("{times} times: {outcome}"))
        .collect();
    format!("at each of {calls} calls; {}", outcomes.join("; "))
}

/// `None` where the victim makes fewer calls.
fn strike(
    place: &Place,
    victim: usize,
    call: usize,
    signal: i32,
    is_handled: bool,
) -> Option<String> {
    let launcher = sys::fork(|| {
        if is_handled {
            sys::handle(signal, tell_of_signal);
        }
        sys::be_traced();
        tell("begins");
        harness::start(with_pid_file, drop);
    });
    sys::take_over(launcher);
    sys::step(launcher, 0);
    let mut trace = Trace {
        place,
        victim,
        call,
        signal,
        processes: vec![launcher],
        early: Vec::new(),
        fresh: Vec::new(),
        ended: BTreeMap::new(),
        stops: 0,
        is_struck: false,
    };
    let end = Instant::now() + TIME;
    while Instant::now() < end {
        match sys::next_stop() {
            Some((pid, stop)) => trace.handle(pid, stop),
            None if trace.is_settled() => break,
            None => thread::sleep(Duration::from_micros(200)),
        }
    }
    trace.is_struck.then(|| trace.outcome())
}

/// A start all of whose processes are traced.
struct Trace<'place> {
    place: &'place Place,
    victim: usize,
    call: usize,
    signal: i32,
    processes: Vec<u32>,
    /// Those that have stopped before their parent has told of them.
    early: Vec<u32>,
    /// Those that have not stopped yet.
    fresh: Vec<u32>,
    ended: BTreeMap<u32, ExitStatus>,
    stops: usize,
    is_struck: bool,
}

impl Trace<'_> {
    fn handle(&mut self, pid: u32, stop: Stop) {
        match stop {
            Stop::Forked(child) => {
                self.processes.push(child);
                if self.early.contains(&child) {
                    sys::step(child, 0);
                } else {
                    self.fresh.push(child);
                }
                sys::step(pid, 0);
            }
            Stop::Ended(status) => drop(self.ended.insert(pid, status)),
            Stop::Signal(libc::SIGSTOP) if self.fresh.contains(&pid) => {
                self.fresh.retain(|&one| one != pid);
                sys::step(pid, 0);
            }
            Stop::Signal(libc::SIGSTOP) if !self.processes.contains(&pid) => self.early.push(pid),
            Stop::Signal(signal) => sys::step(pid, signal),
            Stop::Call => self.handle_call(pid),
        }
    }

    fn handle_call(&mut self, pid: u32) {
        let is_victim = self.processes.get(self.victim) == Some(&pid);
        let has_begun = self.victim != LAUNCHER || !self.place.read().is_empty();
        if !self.is_struck && is_victim && has_begun {
            // Entry and return are a stop each.
            if self.stops == self.call * 2 {
                self.is_struck = true;
                if self.signal == libc::SIGSTOP {
                    // It stays where it is.
                    return;
                }
                sys::kill(pid, self.signal);
            }
            self.stops += 1;
        }
        sys::step(pid, 0);
    }

    fn is_settled(&self) -> bool {
        let messages = self.place.read();
        let launcher = self.processes[LAUNCHER];
        let has_daemon = messages.iter().any(|message| {
            message.text == "lives"
                || message.text.starts_with("error ") && message.sender != launcher
        });
        has_daemon && self.ended.contains_key(&launcher) || children().is_empty()
    }

    fn outcome(&self) -> String {
        let launcher = match self.ended.get(&self.processes[LAUNCHER]) {
            None => "launcher waits on".to_owned(),
            Some(status) => match status.signal() {
                Some(signal) => format!("launcher ended by signal {signal}"),
                None => format!("launcher exits {}", status.code().unwrap_or(-1)),
            },
        };
        let messages = self.place.read();
        let daemon = messages.iter().find(|message| message.text == "daemon");
        let daemon = match daemon {
            Some(daemon) if !self.ended.contains_key(&daemon.sender) => "a daemon",
            Some(_) => "a daemon that ends after its start",
            None => "no daemon",
        };
        let error = messages
            .iter()
            .find_map(|one| one.text.strip_prefix("error "));
        let error = error.map_or(String::new(), |error| format!(", {error}"));
        let file = match fs::read(self.place.path("daemon.pid")) {
            Err(_) => "no pid file",
            Ok(bytes) if bytes.is_empty() => "an empty pid file",
            Ok(_) => "a pid file",
        };
        let position = |text| messages.iter().position(|message| message.text == text);
        let handled = match (position("handled"), position("daemon")) {
            (None, _) => "",
            (Some(handled), Some(daemon)) if daemon < handled => ", handled after the start",
            (Some(_), _) => ", handled during the start",
        };
        format!("{launcher}, {daemon}, {file}{error}{handled}")
    }
}
