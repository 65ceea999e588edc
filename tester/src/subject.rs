//! What the tester does: reads its configuration, sets up the initial state,
//! daemonizes itself and reports.
//!
//! The launcher's exit statuses:
//!
//! | status | meaning |
//! |---|---|
//! | 0 | the start succeeded |
//! | [`EXIT_START_FAILED`] | it failed; one line on standard error says why |
//! | [`EXIT_BAD_CONFIG`] | the configuration was not one |
//! | [`EXIT_BAD_STATE`] | the initial state could not be set up |
//! | [`EXIT_NO_HARNESS`] | there is nobody to report to |
//!
//! The daemon exits with 0 when the harness is gone, and otherwise as told.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::net::TcpListener;
use std::os::fd::{AsFd, IntoRawFd};
use std::os::unix::fs::FileExt;
use std::os::unix::process::{CommandExt as _, ExitStatusExt};
use std::panic::{self, AssertUnwindSafe};
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use daemonize2::{
    Daemonize, Error, Outcome, PidFile, PidFileGuard, Readiness, Stdio, stage, supervised,
};

use crate::config::{
    AnotherStart, Bytes, Config, Deferral, Entry, ErrorText, Fallible, Foreground, Life,
    ReadinessUse, Step,
};
use crate::control::{self, Command, FormerIds, Message};
use crate::observe;
use crate::report::{FileType, LauncherResult, Place, Regained, StartError};
use crate::sys::Mark;
use crate::{initial, sys, wire};

/// The start failed.
pub const EXIT_START_FAILED: u8 = 1;
/// The configuration was not one.
pub const EXIT_BAD_CONFIG: u8 = 2;
/// The initial state could not be set up.
pub const EXIT_BAD_STATE: u8 = 3;
/// There is nobody to report to.
pub const EXIT_NO_HARNESS: u8 = 4;

/// The argument that asks for [`find_reaper`].
pub const FIND_REAPER: &str = "find-reaper";

/// The argument that asks for [`start_as_first_process`]; the name of an entry comes
/// next.
pub const START_AS_FIRST_PROCESS: &str = "start-as-first-process";

/// The argument that asks for [`start_with_full_output`].
pub const START_WITH_FULL_OUTPUT: &str = "start-with-full-output";

/// The argument that asks for [`tell_supervised`].
pub const TELL_SUPERVISED: &str = "supervised";

/// The whole program.
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
    tell(Message::Initial(own_report()));
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

/// Adds the closures that are configured, one kind after the other, since
/// each makes a type of its own; then enters the library.
fn enter_with_action(daemonize: Daemonize<()>, config: &Config) -> Returned {
    let capture = config
        .witness_capture
        .then(|| Witness(Message::CaptureDropped));
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

fn enter_with_initialization<T>(daemonize: Daemonize<T>, config: &Config) -> Returned
where
    T: Into<Product> + 'static,
{
    let mut initializations = config.initialize.iter().cloned();
    let Some(first) = initializations.next() else {
        return enter_with_readiness(daemonize, config);
    };
    let first = daemonize.initialize(move |before| aside(|| first.apply_to(before.into())));
    let all = initializations.fold(first, |daemonize, next| {
        daemonize.initialize(move |before| aside(|| next.apply_to(before)))
    });
    enter_with_readiness(all, config)
}

fn enter_with_readiness<T, S>(daemonize: Daemonize<T, S>, config: &Config) -> Returned
where
    T: Into<Product> + 'static,
    S: stage::BeforeReadiness,
{
    if config.deferred_readiness.is_some() {
        enter(daemonize.deferred_readiness(), config)
            .map(|(product, readiness)| (product.into(), Some(readiness)))
    } else {
        enter(daemonize, config).map(|product| (product.into(), None))
    }
}

/// At most one byte more than the limit is read, whatever there is.
fn read_config(input: &mut dyn Read) -> Result<Config, String> {
    let limit = u64::try_from(wire::LIMIT).expect("small") + 1;
    let mut bytes = Vec::new();
    input
        .take(limit)
        .read_to_end(&mut bytes)
        .map_err(|error| error.to_string())?;
    wire::decode(&bytes).map_err(|error| error.to_string())
}

/// What the library returned, whichever of its functions was called.
enum Returned<T = (Product, Option<Readiness>)> {
    Launcher(Result<LauncherResult, Error>),
    Daemon(Result<T, Error>),
    /// `start` does not say where it failed.
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

/// What a closure does is not the library's doing, even if it panics.
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
    let end = if config.guard_pid_file {
        Mark::Leave
    } else {
        Mark::Return
    };
    within(end, || {
        enter_library(daemonize, config.entry, config.end_failed_daemon)
    })
}

/// What the library does, and whether it was the last that it had to do.
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
    let split = |outcome: Outcome<T>| {
        split(match ends_failed_daemon {
            true => outcome.end_failed_daemon(),
            false => outcome,
        })
    };
    let started = match entry {
        Entry::Start => sys::start(daemonize),
        Entry::StartChecked => daemonize.start_checked(),
        Entry::Execute => return split(sys::execute(daemonize)),
        Entry::ExecuteChecked => return split(daemonize.execute_checked()),
    };
    match started {
        Ok(result) => Returned::Daemon(Ok(result)),
        Err(error) => Returned::StartFailed(error),
    }
}

fn split<T>(outcome: Outcome<T>) -> Returned<T> {
    match outcome {
        Outcome::Parent(result) => Returned::Launcher(result.map(|parent| LauncherResult {
            daemon_pid: parent.daemon_pid,
            first_child_exit_status: parent.first_child_exit_status.into_raw(),
        })),
        Outcome::Child(result) => {
            Returned::Daemon(result.map(|child| child.privileged_action_result))
        }
    }
}

fn conclude(returned: Returned, launcher: u32, config: &Config) -> ExitCode {
    let here = std::process::id();
    match returned {
        Returned::Launcher(Ok(result)) => {
            tell(Message::LauncherReturned(result));
            report_afterwards(config);
            ExitCode::SUCCESS
        }
        Returned::Launcher(Err(error)) => launcher_failed(&error, config),
        // Under `start` nobody but the launcher may return an error; whoever
        // else does is made visible as what it is.
        Returned::StartFailed(error) if here == launcher => launcher_failed(&error, config),
        Returned::StartFailed(error) | Returned::Daemon(Err(error)) => {
            let description = describe(&error);
            if config.failed_daemon_prints {
                eprintln!("tester: {}", description.text);
            }
            tell(Message::DaemonFailed(description));
            report_afterwards(config);
            if config.life == Life::UntilToldEvenIfFailed {
                obey(None);
            }
            ExitCode::from(EXIT_START_FAILED)
        }
        Returned::Daemon(Ok((product, readiness))) => {
            tell(Message::Daemon(own_report()));
            // Kept for as long as the daemon lives.
            let _kept = match (readiness, &config.deferred_readiness) {
                (Some(readiness), Some(deferral)) => use_readiness(readiness, deferral),
                _ => None,
            };
            if !product.parts.is_empty() {
                tell(Message::Result(product.parts.clone()));
            }
            let guard = (config.guard_pid_file).then(|| within(Mark::Leave, PidFileGuard::take));
            if let Some(taken) = &guard {
                tell(Message::Guarded(taken.is_some()));
            }
            let guard = guard.flatten();
            if let Life::Exit(status) = config.life {
                // To the end: what the guard is for is done at exit.
                sys::mark(Mark::Enter);
                drop(guard);
                std::process::exit(status);
            }
            obey(guard);
        }
    }
}

/// Returns the readiness if it is to be kept.
fn use_readiness(readiness: Readiness, deferral: &Deferral) -> Option<Readiness> {
    // What the steps make is the harness's to look at while they run.
    let _product = Product::default().made_by(&deferral.steps);
    let readiness = match &deferral.in_copy {
        None => readiness,
        Some(usage) => match expect(copy_process(deferral.copy_has_same_pid), "fork") {
            None => {
                let _kept = use_as_told(readiness, usage);
                sys::exit_at_once(0);
            }
            Some(copy) => {
                tell(Message::Copied(copy));
                expect(sys::wait_for_child(copy), "wait for the copy");
                readiness
            }
        },
    };
    if let Some(start) = &deferral.in_another {
        if start_another(start) {
            drop(readiness);
            be_the_other();
        }
    }
    let usage = deferral.usage.clone();
    if deferral.in_thread {
        let before = own_report().threads;
        let thread = thread::spawn(move || use_as_told(readiness, &usage));
        let left = thread.join().unwrap_or_default();
        // It may be counted for a while.
        while own_report().threads > before {
            thread::yield_now();
        }
        left
    } else {
        use_as_told(readiness, &usage)
    }
}

fn copy_process(has_same_pid: bool) -> io::Result<Option<u32>> {
    if has_same_pid {
        sys::fork_with_same_pid()
    } else {
        sys::fork()
    }
}

fn use_as_told(readiness: Readiness, usage: &ReadinessUse) -> Option<Readiness> {
    match usage {
        ReadinessUse::Ready => {
            tell(match within(Mark::Return, || readiness.ready()) {
                Ok(()) => Message::Acknowledged,
                Err(error) => Message::NotAcknowledged(describe(&error)),
            });
            None
        }
        ReadinessUse::Fail(text) => within(Mark::Return, || readiness.fail(text)),
        ReadinessUse::FailAndReturn(text) => {
            let error = within(Mark::Return, || readiness.fail_and_return(text));
            tell(Message::NotAcknowledged(describe(&error)));
            None
        }
        ReadinessUse::Serve(server) => {
            let served = readiness.serve(|readiness| {
                let _product = server.apply_to(Product::default())?;
                use_as_told(readiness, &ReadinessUse::Ready);
                Ok(())
            });
            tell(Message::Served(
                served.map_err(|error: ErrorText| format!("{error:#}")),
            ));
            None
        }
        ReadinessUse::Drop => {
            within(Mark::Return, || drop(readiness));
            None
        }
        ReadinessUse::DropByPanic(text) => {
            let dropping = move || {
                let _readiness = readiness;
                panic!("{text}");
            };
            match panic::catch_unwind(AssertUnwindSafe(dropping)) {
                Ok(()) | Err(_) => None,
            }
        }
        ReadinessUse::Keep => Some(readiness),
    }
}

fn report_afterwards(config: &Config) {
    if config.report_afterwards {
        tell(Message::Afterwards(own_report()));
        while let Some(child) = sys::reap_any_child() {
            tell(Message::Unreaped(child));
        }
    }
}

fn launcher_failed(error: &Error, config: &Config) -> ExitCode {
    let description = describe(error);
    eprintln!("tester: {}", description.text);
    tell(Message::LauncherFailed(description));
    if config.start_again {
        while await_command() != Command::Proceed {}
        if start_another_here(&AnotherStart::default()) {
            be_the_other();
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
        text: error.to_string(),
    }
}

/// Tells the harness, or ends: a process that nobody hears must not go on.
fn tell(message: Message) {
    if control::tell(&message).is_err() {
        sys::exit_at_once(EXIT_NO_HARNESS.into());
    }
}

fn own_report() -> crate::report::Report {
    match observe::inside() {
        Ok(report) => report,
        Err(error) => {
            tell(Message::Problem(format!("cannot observe itself: {error}")));
            sys::exit_at_once(EXIT_BAD_STATE.into())
        }
    }
}

/// The next command; ends the process with the harness.
fn await_command() -> Command {
    match control::next_command() {
        Ok(Some(command)) => command,
        Ok(None) => std::process::exit(0),
        Err(error) => {
            tell(Message::Problem(format!("cannot hear commands: {error}")));
            std::process::exit(EXIT_NO_HARNESS.into())
        }
    }
}

/// Does as told, for as long as there is somebody to tell. With a guard of
/// its pid file, ends cleanly.
fn obey(mut guard: Option<PidFileGuard>) -> ! {
    loop {
        match await_command() {
            // There is nothing to proceed with.
            Command::Proceed => {}
            Command::Observe => tell(Message::Now(own_report())),
            Command::TryToRegain(former) => {
                tell(Message::Regained(try_to_regain(former)));
            }
            Command::TryToEscape => tell(Message::Reached(try_to_escape())),
            Command::TryToEscapeThrough(paths) => {
                let entered = paths
                    .iter()
                    .filter(|path| std::env::set_current_dir(path.to_path()).is_ok());
                tell(Message::Reached(entered.map(|_| climb()).collect()));
            }
            Command::DropGuardInCopy => {
                match expect(sys::fork(), "fork") {
                    None => {
                        drop(guard.take());
                        drop(PidFileGuard::take());
                        sys::exit_at_once(0);
                    }
                    Some(copy) => expect(sys::wait_for_child(copy), "wait for the copy"),
                }
                tell(Message::CopyDroppedGuard);
            }
            Command::DropGuard => {
                drop(guard.take());
                tell(Message::Answer(Vec::new()));
            }
            Command::OverwriteFiles(bytes) => tell(Message::Answer(overwrite_files(&bytes.0))),
            Command::ReplaceDescriptors(folder) => {
                replace_descriptors(&folder.to_path());
                tell(Message::Answer(Vec::new()));
            }
            Command::AskForDaemon(path) => {
                let pid_file = PidFile::at(path.to_path());
                let patience = Duration::from_millis(10);
                tell(Message::Answer(vec![
                    format!("{:?}", pid_file.running()),
                    format!("{:?}", pid_file.signal(0)),
                    format!("{:?}", pid_file.stop(patience)),
                ]));
            }
            Command::StartAnother(start) => {
                if start_another(&start) && !start.foreground {
                    drop(guard.take());
                    be_the_other();
                }
                if start.foreground {
                    tell(Message::Observed(own_report()));
                }
            }
            Command::Exit(status) => {
                drop(guard.take());
                std::process::exit(status);
            }
        }
    }
}

/// What a daemon that was broken into would try.
fn overwrite_files(bytes: &[u8]) -> Vec<String> {
    let mut written = Vec::new();
    for descriptor in own_report().descriptors.unwrap_or_default() {
        let number = descriptor.number;
        let Some(open) = sys::inherited(number).filter(|_| {
            descriptor.file_type == FileType::Regular && !control::RESERVED.contains(&number)
        }) else {
            continue;
        };
        if sys::as_file(open).write_all_at(bytes, 0).is_ok() || sys::truncate(open).is_ok() {
            written.push(format!("{number}"));
        }
        let again = OpenOptions::new()
            .write(true)
            .open(format!("/proc/self/fd/{number}"));
        if again.is_ok() {
            written.push(format!("{number}, opened once more"));
        }
    }
    written
}

fn replace_descriptors(folder: &Path) {
    static DATA: AtomicU32 = AtomicU32::new(0);

    for number in (3..=1000).filter(|number| !control::RESERVED.contains(number)) {
        if sys::inherited(number).is_some() {
            sys::close(number);
        }
    }
    loop {
        let path = folder.join(format!("data.{}", DATA.fetch_add(1, Ordering::Relaxed)));
        let mut file = expect(File::create(path), "create a file");
        expect(file.write_all(b"precious\n"), "write a file");
        let number = file.into_raw_fd();
        if number > 20 {
            break;
        }
    }
}

/// Starts a daemon from this one, or a worker of it. True in the other.
fn start_another(start: &AnotherStart) -> bool {
    if !start.in_worker {
        return start_another_here(start);
    }
    match expect(sys::fork(), "fork") {
        Some(worker) => {
            expect(sys::wait_for_child(worker), "wait for the worker");
            false
        }
        None if start_another_here(start) => true,
        None => sys::exit_at_once(0),
    }
}

fn start_another_here(start: &AnotherStart) -> bool {
    let mut daemonize = Daemonize::new().foreground(start.foreground);
    if let Some(path) = &start.pid_file {
        daemonize = daemonize.pid_file(path.to_path());
    }
    if start.close_inherited_fds {
        let keep: Vec<_> = control::RESERVED.collect();
        daemonize = sys::close_inherited_fds(daemonize, &keep);
    }
    let outcome = if start.by_start {
        match sys::start(daemonize) {
            Ok(()) => return true,
            Err(error) => Outcome::Parent(Err(error)),
        }
    } else {
        sys::execute(daemonize)
    };
    match outcome {
        Outcome::Child(Ok(_)) => true,
        Outcome::Parent(Ok(_)) => false,
        Outcome::Parent(Err(error)) | Outcome::Child(Err(error)) => {
            tell(Message::Problem(format!("cannot start another: {error}")));
            false
        }
    }
}

/// The other daemon, once it has dropped what it was to drop.
fn be_the_other() -> ! {
    tell(Message::Observed(own_report()));
    control::wait_for_harness_to_end();
    sys::exit_at_once(0);
}

/// Reports its own drop.
struct Witness(Message);

impl Drop for Witness {
    fn drop(&mut self) {
        // The harness may well be done by now.
        let _ = control::tell(&self.0);
    }
}

/// What the closures return: kept for as long as the daemon lives.
#[derive(Default)]
struct Product {
    parts: Vec<String>,
    _listeners: Vec<TcpListener>,
    _witness: Option<Witness>,
}

/// Where there was no closure.
impl From<()> for Product {
    fn from((): ()) -> Self {
        Self::default()
    }
}

impl fmt::Debug for Product {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.parts).finish()
    }
}

impl Fallible {
    fn apply_to(&self, before: Product) -> Result<Product, ErrorText> {
        let product = before.made_by(&self.steps);
        match &self.error {
            Some(error) => Err(error.clone()),
            None => Ok(product),
        }
    }
}

impl Product {
    /// Performs the steps, and adds what they make.
    fn made_by(mut self, steps: &[Step]) -> Self {
        for step in steps {
            self.perform(step);
        }
        self
    }

    fn perform(&mut self, step: &Step) {
        match step {
            Step::Observe => tell(Message::Observed(own_report())),
            Step::Hold => {
                tell(Message::Holding(own_report()));
                while await_command() != Command::Proceed {}
            }
            Step::Panic(text) => panic!("{text}"),
            Step::PanicAndCatch(text) => {
                if panic::catch_unwind(|| panic!("{text}")).is_ok() {
                    tell(Message::Problem("a panic that does not panic".into()));
                }
            }
            Step::SetPanicHook(hook) => hook.set(),
            Step::Exit(status) => std::process::exit(*status),
            Step::KillItself(signal) => {
                expect(sys::kill(std::process::id(), *signal), "kill itself");
            }
            Step::ForkTwice => {
                if let Some(copy) = expect(sys::fork(), "fork") {
                    tell(Message::Copied(copy));
                }
            }
            Step::ForkWorker => match expect(sys::fork(), "fork") {
                Some(worker) => tell(Message::Worker(worker)),
                None => {
                    control::wait_for_harness_to_end();
                    sys::exit_at_once(0);
                }
            },
            Step::WriteFile(file) => {
                let written = OpenOptions::new()
                    .write(true)
                    .create_new(true)
                    .open(file.path.to_path())
                    .and_then(|mut opened| opened.write_all(&file.content.0));
                expect(written, "write a file");
            }
            Step::Listen => {
                let listener = expect(TcpListener::bind(("127.0.0.1", 0)), "listen");
                let address = expect(listener.local_addr(), "find its own port");
                tell(Message::Listening(address.port()));
                self._listeners.push(listener);
            }
            Step::WitnessResult => self._witness = Some(Witness(Message::ResultDropped)),
            Step::Add(part) => self.parts.push(part.clone()),
            Step::FillMemory(mebibytes) => {
                // Not zero, which would take none.
                std::mem::forget(vec![1_u8; mebibytes << 20]);
            }
            Step::Abort => std::process::abort(),
            Step::MakeThread => expect(initial::park_a_thread(|| Ok(())), "make a thread"),
            Step::MakeThreadThatKeepsCapabilities => {
                let made = initial::park_a_thread(|| sys::keep_capabilities(true));
                expect(made, "make a thread");
            }
            Step::ArmParentDeathSignal(signal) => {
                expect(
                    sys::ask_for_parent_death_signal(*signal),
                    "PR_SET_PDEATHSIG",
                );
            }
            Step::SendToSockets(bytes) => {
                for descriptor in own_report().descriptors.unwrap_or_default() {
                    if descriptor.file_type == FileType::Socket {
                        let socket = sys::inherited(descriptor.number);
                        let sent = socket.map(|socket| sys::send(socket, &bytes.0));
                        expect(sent.unwrap_or(Ok(())), "write to a socket");
                    }
                }
            }
            Step::SendDescriptorToSockets(path) => {
                let file = expect(File::open(path.to_path()), "open a file");
                for descriptor in own_report().descriptors.unwrap_or_default() {
                    let is_socket = descriptor.file_type == FileType::Socket;
                    if let Some(socket) = sys::inherited(descriptor.number).filter(|_| is_socket) {
                        let sent = sys::send_descriptor(socket, file.as_fd());
                        expect(sent, "send a descriptor");
                    }
                }
            }
            Step::Run(words) => {
                let mut words = words.iter().map(Bytes::to_path);
                let program = words.next().unwrap_or_default();
                let output = std::process::Command::new(program).args(words).output();
                let text = expect(output, "run a program").stdout;
                let text = String::from_utf8_lossy(&text);
                self.parts.push(text.trim_end().to_owned());
            }
            Step::Execute(words) => {
                let mut words = words.iter().map(Bytes::to_path);
                let program = words.next().unwrap_or_default();
                let error = std::process::Command::new(program).args(words).exec();
                expect(Err(error), "execute a program")
            }
            Step::CloseSockets => {
                for descriptor in own_report().descriptors.unwrap_or_default() {
                    if descriptor.file_type == FileType::Socket {
                        sys::close(descriptor.number);
                    }
                }
            }
            Step::StartAnother(entry, foreground) => {
                let another = Daemonize::new().foreground(*foreground == Foreground::Yes);
                if let Returned::Launcher(Err(error))
                | Returned::Daemon(Err(error))
                | Returned::StartFailed(error) = enter_library(another, *entry, false)
                {
                    tell(Message::StartRefused(describe(&error)));
                }
            }
        }
    }
}

/// The tester's own failure is neither the library's nor the test's.
fn expect<T>(result: io::Result<T>, deed: &str) -> T {
    match result {
        Ok(value) => value,
        Err(error) => {
            tell(Message::Problem(format!("cannot {deed}: {error}")));
            sys::exit_at_once(EXIT_BAD_STATE.into())
        }
    }
}

fn try_to_regain(former: FormerIds) -> Regained {
    let mut regained = Regained::default();
    let mut note = |call: String, result: io::Result<()>| match result {
        Ok(()) => regained.succeeded.push(call),
        Err(error) => {
            let errno = error.raw_os_error().unwrap_or(0);
            regained.failed.push((call, errno));
        }
    };
    // Groups first: whoever gets the user id back gets everything back.
    note("setgroups([])".into(), sys::set_supplementary_groups(&[]));
    note("setgroups([0])".into(), sys::set_supplementary_groups(&[0]));
    // Setting what one already has is not regaining it.
    let (current, ..) = sys::group_ids();
    for gid in [former.gid, 0].into_iter().filter(|&gid| gid != current) {
        note(format!("setgid({gid})"), sys::set_group(gid));
        note(format!("setegid({gid})"), sys::set_effective_group(gid));
        note(format!("setresgid({gid})"), sys::set_group_ids([gid; 3]));
    }
    let (current, ..) = sys::user_ids();
    for uid in [former.uid, 0].into_iter().filter(|&uid| uid != current) {
        note(format!("setuid({uid})"), sys::set_user(uid));
        note(format!("seteuid({uid})"), sys::set_effective_user(uid));
        note(format!("setresuid({uid})"), sys::set_user_ids([uid; 3]));
    }
    if cfg!(target_os = "linux") {
        for capability in 0..=40 {
            let call = format!("capset({capability})");
            note(call, sys::set_capabilities(1 << capability));
        }
    }
    regained
}

/// Where climbing leads from the working directory and from every open
/// directory.
fn try_to_escape() -> Vec<Place> {
    let mut reached = vec![climb()];
    let report = own_report();
    for descriptor in report.descriptors.unwrap_or_default() {
        if descriptor.file_type == FileType::Directory
            && sys::change_directory_to(descriptor.number).is_ok()
        {
            reached.push(climb());
        }
    }
    reached
}

fn climb() -> Place {
    /// Deeper than any folder of a test.
    const STEPS: usize = 64;
    for _ in 0..STEPS {
        // At the top, or where a folder may not be entered, one stays.
        let _ = std::env::set_current_dir("..");
    }
    expect(Place::of(".".as_ref()), "examine the working directory")
}

/// Prints the process id of the parent that an orphan gets here: init, or the
/// nearest subreaper.
pub fn find_reaper() -> ExitCode {
    match orphans_parent() {
        Ok(pid) => {
            println!("{pid}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("tester: cannot make an orphan: {error}");
            ExitCode::from(EXIT_BAD_STATE)
        }
    }
}

/// Starts a daemon as the first process of a pid namespace, which says what it gets to
/// see. A daemon says that it is there once the launcher has had the time to exit.
pub fn start_as_first_process(entry: Option<String>) -> ExitCode {
    let forked = sys::leave_pid_namespace_for_children().and_then(|()| sys::fork());
    match expect(forked, "make a pid namespace") {
        Some(first) => {
            expect(sys::wait_for_child(first), "wait");
            ExitCode::SUCCESS
        }
        None => {
            let daemonize = Daemonize::new().stdout(Stdio::keep());
            let failed = match entry.as_deref() {
                Some("execute") => match daemonize.execute_checked() {
                    Outcome::Parent(Ok(parent)) => {
                        println!("launcher: daemon {}", parent.daemon_pid);
                        expect(sys::wait_for_child(parent.daemon_pid), "wait");
                        None
                    }
                    Outcome::Child(Ok(_)) => None,
                    Outcome::Parent(Err(error)) | Outcome::Child(Err(error)) => Some(error),
                },
                Some("foreground") => daemonize.foreground(true).start_checked().err(),
                _ => daemonize.start_checked().err(),
            };
            match failed {
                Some(error) => println!("{:?}: {error}", error.kind()),
                None => println!("pid {}", std::process::id()),
            }
            ExitCode::SUCCESS
        }
    }
}

/// Starts a daemon that has to be ready within half a second, while the standard output
/// is a full pipe, for which there is more to be written. The error is on standard error.
pub fn start_with_full_output() -> ExitCode {
    expect(sys::fill_output(), "fill the output");
    print!("the rest");
    let daemonize = Daemonize::new().startup_timeout(Duration::from_millis(500));
    match daemonize.start_checked() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(EXIT_START_FAILED)
        }
    }
}

/// Prints the effective user id, and what `supervised()` says.
pub fn tell_supervised() -> ExitCode {
    println!("{} {}", sys::effective_user(), supervised());
    ExitCode::SUCCESS
}

fn orphans_parent() -> io::Result<u32> {
    let (ours, orphans) = sys::socket_pair()?;
    match sys::fork()? {
        None => {
            drop(ours);
            if let Ok(None) = sys::fork() {
                // Told once its parent has been reaped, hence after it got
                // another one.
                let mut word = [0; 1];
                if sys::receive(orphans.as_fd(), &mut word).is_ok_and(|received| received == 1) {
                    let parent = std::os::unix::process::parent_id();
                    let _ = sys::send(orphans.as_fd(), &parent.to_le_bytes());
                }
            }
            sys::exit_at_once(0);
        }
        Some(child) => {
            drop(orphans);
            sys::wait_for_child(child)?;
            sys::send(ours.as_fd(), &[1])?;
            let mut pid = [0; 4];
            match sys::receive(ours.as_fd(), &mut pid)? {
                4 => Ok(u32::from_le_bytes(pid)),
                _ => Err(io::ErrorKind::UnexpectedEof.into()),
            }
        }
    }
}
