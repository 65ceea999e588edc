//! The tester reads its configuration, sets up the initial state, daemonizes itself and reports.
//!
//! The exit statuses of the launcher:
//!
//! | status | meaning |
//! |---|---|
//! | 0 | the start succeeded |
//! | [`EXIT_START_FAILED`] | it failed; one line on standard error says why |
//! | [`EXIT_BAD_CONFIG`] | the configuration was invalid |
//! | [`EXIT_BAD_STATE`] | the initial state could not be set up |
//! | [`EXIT_NO_HARNESS`] | there is no harness |
//!
//! The daemon exits with 0 when the harness is gone, and otherwise with the status of its
//! configuration.

use std::io::{self, Read};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitCode;

use daemonize2::{Child, Daemonize, Error, Outcome, PidFileGuard, Readiness, stage};

use crate::config::{AnotherStart, Bytes, Config, Entry, Fallible, Life};
use crate::control::{self, Command, Message};
use crate::report::{LauncherResult, Report, StartError};
use crate::sys::Mark;
use crate::{initial, observe, sys, wire};

mod activated;
mod closures;
mod commands;
mod programs;
mod readiness;
mod spawned;
mod writers;

use closures::{PanicsElsewhere, Product, Witness};
use commands::{obey, run_other_daemon, start_another_here};
pub use programs::*;
use readiness::use_readiness;
pub use spawned::{SPAWNED, run_spawned};

pub const EXIT_START_FAILED: u8 = 1;
pub const EXIT_BAD_CONFIG: u8 = 2;
pub const EXIT_BAD_STATE: u8 = 3;
pub const EXIT_NO_HARNESS: u8 = 4;

pub fn run() -> ExitCode {
    let config = match read_config(&mut io::stdin().lock()) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("tester: cannot read the configuration: {error}");
            return ExitCode::from(EXIT_BAD_CONFIG);
        }
    };
    if let Err(error) = control::tester_end() {
        eprintln!("tester: no harness: {error}");
        return ExitCode::from(EXIT_NO_HARNESS);
    }
    let prepared = observe::prepare()
        .map_err(|error| error.to_string())
        .and_then(|()| initial::apply(&config.initial))
        .and_then(|()| config.options.builder().map_err(|error| error.to_string()));
    let daemonize = match prepared {
        Ok(daemonize) => daemonize,
        Err(error) => {
            eprintln!("tester: cannot set up the initial state: {error}");
            return ExitCode::from(EXIT_BAD_STATE);
        }
    };
    send(Message::Initial(own_report()));
    if let Some(free) = config.initial.free_descriptors {
        expect(
            initial::leave_descriptors_free(free),
            "take all descriptors",
        );
    }
    let launcher = std::process::id();
    let returned = enter_with_action(daemonize, &config);
    conclude(returned, launcher, &config)
}

/// Adds the configured closures, and enters the library. Each kind of closure has a function of its
/// own, because it makes a type of its own.
fn enter_with_action(daemonize: Daemonize<()>, config: &Config) -> Returned {
    let capture = config
        .witness_capture
        .then(|| Witness(Message::CaptureDropped));
    let daemonize = add_on_started(daemonize, config);
    if config.entry == Entry::Spawn {
        return spawned::spawn(daemonize, config);
    }
    match (&config.privileged_action, &config.try_privileged_action) {
        (None, None) => enter_with_initialization(daemonize, config),
        (Some(steps), None) => {
            let steps = steps.clone();
            let daemonize = daemonize.privileged_action(move || {
                let _capture = capture;
                aside(|| Product::default().made_by(&steps))
            });
            enter_with_initialization(daemonize, config)
        }
        (_, Some(action)) => {
            let action = action.clone();
            let daemonize = daemonize.try_privileged_action(move || {
                let _capture = capture;
                aside(|| action.apply_to(Product::default()))
            });
            enter_with_initialization(daemonize, config)
        }
    }
}

fn add_on_started(daemonize: Daemonize<()>, config: &Config) -> Daemonize<()> {
    let Some(steps) = config.on_started.clone() else {
        return daemonize;
    };
    let capture = config
        .witness_capture
        .then(|| Witness(Message::OnStartedDropped));
    let panics = (config.on_started_drop_panics).then(|| PanicsElsewhere(std::process::id()));
    daemonize.on_started(move |parent| {
        let _captures = (capture, panics);
        aside(|| {
            send(Message::Started(LauncherResult::from(parent)));
            Product::default().made_by(&steps)
        });
    })
}

fn enter_with_initialization<T>(daemonize: Daemonize<T>, config: &Config) -> Returned
where
    T: Into<Product> + 'static,
{
    let mut initializations = config.initialize.iter().cloned();
    let last = match config.borrows {
        true => initializations.next_back(),
        false => None,
    };
    let last = last.as_ref();
    let Some(first) = initializations.next() else {
        return enter_with_readiness(daemonize, last, config);
    };
    let first = daemonize.initialize(move |before| aside(|| first.apply_to(before.into())));
    let all = initializations.fold(first, |daemonize, next| {
        daemonize.initialize(move |before| aside(|| next.apply_to(before)))
    });
    enter_with_readiness(all, last, config)
}

fn enter_with_readiness<T, S>(
    daemonize: Daemonize<T, S>,
    borrowing: Option<&Fallible>,
    config: &Config,
) -> Returned
where
    T: Into<Product> + 'static,
    S: stage::BeforeReadiness,
{
    if let Some(last) = borrowing {
        enter_borrowing(daemonize, last, config).map(|product| (product, None))
    } else if config.deferred_readiness.is_some() {
        enter(daemonize.deferred_readiness(), config)
            .map(|(product, readiness)| (product.into(), Some(readiness)))
    } else if let Some(Bytes(payload)) = config.ready_payload.clone() {
        let daemonize = daemonize.ready_payload(move |_| aside(|| payload));
        enter(daemonize, config).map(|product| (product.into(), None))
    } else {
        enter(daemonize, config).map(|product| (product.into(), None))
    }
}

/// Gives the last initialization to the entry point. It borrows, and writes to, a variable.
fn enter_borrowing<T, S>(
    daemonize: Daemonize<T, S>,
    last: &Fallible,
    config: &Config,
) -> Returned<Product>
where
    T: Into<Product> + 'static,
    S: stage::BeforeReadiness,
{
    let mut calls = 0;
    let initialize = |before: T| {
        calls += 1;
        aside(|| last.apply_to(before.into()))
    };
    let returned = within(end_of_start(config), || match config.entry {
        Entry::ExecuteChecked => split(
            daemonize.execute_checked_with(initialize),
            config.end_failed_daemon,
        ),
        Entry::StartChecked => started(daemonize.start_checked_with(initialize)),
        Entry::Start | Entry::Execute | Entry::Spawn => expect(
            Err(io::ErrorKind::Unsupported.into()),
            "borrow under this entry point",
        ),
    });
    let is_started = matches!(returned, Returned::Daemon(Ok(_)));
    let is_launcher = matches!(returned, Returned::Launcher(_));
    if is_started && calls != 1 || is_launcher && calls != 0 {
        send(Message::Problem(format!(
            "{calls} calls of the last closure"
        )));
    }
    returned
}

/// Reads at most one byte more than the limit.
fn read_config(input: &mut dyn Read) -> Result<Config, String> {
    let limit = u64::try_from(wire::LIMIT).expect("small") + 1;
    let mut bytes = Vec::new();
    input
        .take(limit)
        .read_to_end(&mut bytes)
        .map_err(|error| error.to_string())?;
    wire::decode(&bytes).map_err(|error| error.to_string())
}

/// The result of the library, whichever function was called.
enum Returned<T = (Product, Option<Readiness>)> {
    Launcher(Result<LauncherResult, Error>),
    Daemon(Result<T, Error>),
    /// `start` does not tell which process failed.
    StartFailed(Error),
}

impl<T> Returned<T> {
    fn map<N>(self, change: impl FnOnce(T) -> N) -> Returned<N> {
        match self {
            Self::Launcher(result) => Returned::Launcher(result),
            Self::Daemon(result) => Returned::Daemon(result.map(change)),
            Self::StartFailed(error) => Returned::StartFailed(error),
        }
    }
}

/// Marks the calls of a closure, also if it panics, as calls of the tester, not of the library.
fn aside<T>(closure: impl FnOnce() -> T) -> T {
    struct Back;

    impl Drop for Back {
        fn drop(&mut self) {
            sys::mark(Mark::Enter);
        }
    }

    sys::mark(Mark::Leave);
    let _back = Back;
    closure()
}

fn enter<T, S>(daemonize: Daemonize<T, S>, config: &Config) -> Returned<T> {
    within(end_of_start(config), || {
        enter_library(daemonize, config.entry, config.end_failed_daemon)
    })
}

fn end_of_start(config: &Config) -> Mark {
    if config.guard_pid_file {
        Mark::Leave
    } else {
        Mark::Return
    }
}

/// Marks the calls of the library. `end` tells whether the library is to be called again.
fn within<T>(end: Mark, call: impl FnOnce() -> T) -> T {
    sys::mark(Mark::Enter);
    let result = call();
    sys::mark(end);
    result
}

fn enter_library<T, S>(
    daemonize: Daemonize<T, S>,
    entry: Entry,
    ends_failed_daemon: bool,
) -> Returned<T> {
    match entry {
        Entry::Start => started(sys::start(daemonize)),
        Entry::StartChecked => started(daemonize.start_checked()),
        Entry::Execute => split(sys::execute(daemonize), ends_failed_daemon),
        Entry::ExecuteChecked => split(daemonize.execute_checked(), ends_failed_daemon),
        Entry::Spawn => expect(
            Err(io::ErrorKind::Unsupported.into()),
            "spawn with these closures",
        ),
    }
}

fn started<T>(result: Result<T, Error>) -> Returned<T> {
    match result {
        Ok(result) => Returned::Daemon(Ok(result)),
        Err(error) => Returned::StartFailed(error),
    }
}

fn split<T>(outcome: Outcome<T>, ends_failed_daemon: bool) -> Returned<T> {
    let outcome = match ends_failed_daemon {
        true => outcome.end_failed_daemon(),
        false => outcome,
    };
    match outcome {
        Outcome::Parent(result) => {
            Returned::Launcher(result.map(|parent| LauncherResult::from(&parent)))
        }
        Outcome::Child(result) => Returned::Daemon(result.map(Child::into_value)),
    }
}

fn conclude(returned: Returned, launcher: u32, config: &Config) -> ExitCode {
    let here = std::process::id();
    match returned {
        Returned::Launcher(Ok(result)) => {
            send(Message::LauncherReturned(result));
            report_afterwards(config);
            ExitCode::SUCCESS
        }
        Returned::Launcher(Err(error)) => launcher_failed(&error, config),
        // Under `start`, only the launcher may return an error. Another process reports that it is
        // not the launcher.
        Returned::StartFailed(error) if here == launcher => launcher_failed(&error, config),
        Returned::StartFailed(error) | Returned::Daemon(Err(error)) => {
            let description = describe(&error);
            if config.failed_daemon_prints {
                eprintln!("tester: {}", description.text);
            }
            send(Message::DaemonFailed(description));
            report_afterwards(config);
            if config.life == Life::UntilCommandEvenIfFailed {
                obey(None);
            }
            ExitCode::from(EXIT_START_FAILED)
        }
        Returned::Daemon(Ok((product, readiness))) => {
            send(Message::Daemon(own_report()));
            // The readiness may be kept as long as the daemon lives.
            let _kept = match (readiness, &config.deferred_readiness) {
                (Some(readiness), Some(deferral)) => {
                    use_readiness(readiness, deferral, config.ready_payload.as_ref())
                }
                _ => None,
            };
            if !product.parts.is_empty() {
                send(Message::Result(product.parts.clone()));
            }
            let guard = (config.guard_pid_file).then(|| within(Mark::Leave, PidFileGuard::take));
            if let Some(taken) = &guard {
                send(Message::Guarded(taken.is_some()));
            }
            let guard = guard.flatten();
            if let Life::Exit(status) = config.life {
                // The mark holds to the end, since the guard acts at exit.
                sys::mark(Mark::Enter);
                drop(guard);
                std::process::exit(status);
            }
            obey(guard);
        }
    }
}

fn report_afterwards(config: &Config) {
    if config.report_afterwards {
        send(Message::Afterwards(own_report()));
        while let Some(child) = sys::reap_any_child() {
            send(Message::Unreaped(child));
        }
    }
}

fn launcher_failed(error: &Error, config: &Config) -> ExitCode {
    let description = describe(error);
    eprintln!("tester: {}", description.text);
    send(Message::LauncherFailed(description));
    if config.start_again {
        while await_command() != Command::Proceed {}
        if start_another_here(&AnotherStart::default()) {
            run_other_daemon();
        }
    }
    report_afterwards(config);
    ExitCode::from(EXIT_START_FAILED)
}

pub(crate) fn describe(error: &Error) -> StartError {
    StartError {
        kind: format!("{:?}", error.kind()),
        errno: error.raw_os_error(),
        path: error.path().map(Into::into),
        running_pid: error.running_pid(),
        daemon_exit_status: error.daemon_exit_status().map(ExitStatusExt::into_raw),
        payload: Bytes(error.payload().to_vec()),
        text: error.to_string(),
    }
}

/// Sends a message. If the harness is gone, ends the process, which must not go on unobserved.
fn send(message: Message) {
    if control::send(&message).is_err() {
        sys::exit_at_once(EXIT_NO_HARNESS.into());
    }
}

fn own_report() -> Report {
    match observe::inside() {
        Ok(report) => report,
        Err(error) => {
            send(Message::Problem(format!("cannot observe itself: {error}")));
            sys::exit_at_once(EXIT_BAD_STATE.into())
        }
    }
}

/// The next command. If the harness ends, ends the process.
fn await_command() -> Command {
    match control::next_command() {
        Ok(Some(command)) => command,
        Ok(None) => std::process::exit(0),
        Err(error) => {
            send(Message::Problem(format!("cannot hear commands: {error}")));
            std::process::exit(EXIT_NO_HARNESS.into())
        }
    }
}

/// A failure of the tester is neither a failure of the library nor of the test.
fn expect<T>(result: io::Result<T>, deed: &str) -> T {
    match result {
        Ok(value) => value,
        Err(error) => {
            send(Message::Problem(format!("cannot {deed}: {error}")));
            sys::exit_at_once(EXIT_BAD_STATE.into())
        }
    }
}
