//! What the closures of a case do, and how a readiness is used.

use std::fmt;

use rkyv::{Archive, Deserialize, Serialize};

use super::{Bytes, Entry, Foreground};

/// A closure that may fail.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq, Default)]
pub struct Fallible {
    /// What it does first.
    pub steps: Vec<Step>,
    /// The error that it then returns, if it does.
    pub error: Option<ErrorText>,
}

impl<S: Into<Vec<Step>>> From<S> for Fallible {
    fn from(steps: S) -> Self {
        Self {
            steps: steps.into(),
            error: None,
        }
    }
}

impl From<ErrorText> for Fallible {
    fn from(error: ErrorText) -> Self {
        Self {
            steps: Vec::new(),
            error: Some(error),
        }
    }
}

/// How an error of the daemon's displays.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub enum ErrorText {
    /// As this.
    Text(String),
    /// Panics after this.
    PanicsAfter(String),
    /// As the first of these; as all of them, joined by colons, with `{:#}`: so
    /// anyhow and eyre show the causes of an error.
    Chain(Vec<String>),
}

impl From<&str> for ErrorText {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl fmt::Display for ErrorText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::PanicsAfter(text) => {
                f.write_str(text)?;
                panic!("the text of an error")
            }
            Self::Chain(texts) if f.alternate() => f.write_str(&texts.join(": ")),
            Self::Chain(texts) => f.write_str(texts.first().map_or("", String::as_str)),
        }
    }
}

/// What becomes of a readiness once the library has returned it. The daemon
/// has sent [`crate::control::Message::Daemon`] by then.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct Deferral {
    /// What is done first.
    pub steps: Vec<Step>,
    /// How a copy of the process that is made then uses its own copy of the
    /// readiness. The daemon waits for its end.
    pub in_copy: Option<ReadinessUse>,
    /// Whether that copy is in a pid namespace of its own, where it has the
    /// daemon's pid.
    pub copy_has_same_pid: bool,
    /// A daemon that the daemon then starts, and which drops its copy of the
    /// readiness.
    pub in_another: Option<AnotherStart>,
    /// Whether another thread is given the readiness, and waited for.
    pub in_thread: bool,
    /// How it is used.
    pub usage: ReadinessUse,
}

impl Deferral {
    /// These steps, then this, in the thread that the library returned to.
    pub fn new(steps: impl Into<Vec<Step>>, usage: ReadinessUse) -> Self {
        Self {
            steps: steps.into(),
            in_copy: None,
            copy_has_same_pid: false,
            in_another: None,
            in_thread: false,
            usage,
        }
    }
}

/// A start by a process that is a daemon, or about to be one.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq, Default)]
pub struct AnotherStart {
    /// `pid_file`
    pub pid_file: Option<Bytes>,
    /// Whether `close_inherited_fds` is called, to keep what the tester needs.
    pub close_inherited_fds: bool,
    /// `foreground`
    pub foreground: bool,
    /// Whether a worker of the process starts it, and then ends.
    pub in_worker: bool,
    /// Whether `start` starts it, with which this process ends, rather than
    /// `execute`.
    pub by_start: bool,
}

/// How a readiness is used.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub enum ReadinessUse {
    /// `ready`; what it returns is told by
    /// [`crate::control::Message::Acknowledged`] or
    /// [`crate::control::Message::NotAcknowledged`].
    Ready,
    /// `fail`.
    Fail(ErrorText),
    /// `fail_and_return`; what it returns is told by
    /// [`crate::control::Message::NotAcknowledged`]. Then the daemon goes on.
    FailAndReturn(ErrorText),
    /// `serve`, by a server that does this, and reports that it is ready unless it
    /// returns an error; [`crate::control::Message::Served`] tells what `serve`
    /// returns. Then the daemon goes on.
    Serve(Fallible),
    /// Dropped; then the daemon goes on.
    Drop,
    /// Dropped by a panic with this text, which is caught; then the daemon
    /// goes on.
    DropByPanic(String),
    /// Kept unused, for as long as the daemon lives.
    Keep,
}

/// One thing a closure of the daemon does.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Sends a report of the process as it is at that instant.
    Observe,
    /// Sends such a report, then waits for
    /// [`crate::control::Command::Proceed`]. Ends the process if the harness
    /// ends first.
    Hold,
    /// Panics with this text.
    Panic(String),
    /// Panics with this text, and catches it.
    PanicAndCatch(String),
    /// Sets a panic hook.
    SetPanicHook(PanicHook),
    /// Exits with this status, running the atexit handlers.
    Exit(i32),
    /// Sends this signal to its own process.
    KillItself(i32),
    /// Forks; both processes go on.
    ForkTwice,
    /// Forks a process that keeps copies of everything and stays until the
    /// harness ends, while this one goes on.
    ForkWorker,
    /// Creates a file with this content.
    WriteFile(NewFile),
    /// Opens a TCP socket that listens on a free port of the loopback
    /// address; it becomes part of the closure's result.
    Listen,
    /// Makes the closure's result report its drop
    /// ([`crate::control::Message::ResultDropped`]).
    WitnessResult,
    /// Adds this to the closure's result, whose parts the daemon tells in the
    /// end ([`crate::control::Message::Result`]).
    Add(String),
    /// Aborts, as abort(3) does.
    Abort,
    /// Has as many mebibytes of memory as this, and keeps them.
    FillMemory(usize),
    /// Makes a thread that stays.
    MakeThread,
    /// Makes such a thread, which has its capabilities outlive a change of
    /// user, as PR_SET_KEEPCAPS of prctl(2) does (Linux).
    MakeThreadThatKeepsCapabilities,
    /// Asks for this signal when the parent ends (Linux).
    ArmParentDeathSignal(i32),
    /// Writes this to every socket that the process has, but for the tester's own.
    SendToSockets(Bytes),
    /// Opens this file and sends the descriptor by every socket that the process has,
    /// but for the tester's own (Linux).
    SendDescriptorToSockets(Bytes),
    /// Runs a program with these arguments; what it prints, less the end of
    /// the line, becomes part of the closure's result.
    Run(Vec<Bytes>),
    /// Executes a program with these arguments in place of the tester.
    Execute(Vec<Bytes>),
    /// Closes every socket that the process has, but for the tester's own.
    CloseSockets,
    /// Starts another daemon by this function, and tells of a start that is
    /// refused ([`crate::control::Message::StartRefused`]).
    StartAnother(Entry, Foreground),
}

/// What a panic hook of the program's does.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum PanicHook {
    /// Nothing.
    Silent,
    /// Exits with [`PanicHook::STATUS`].
    Exits,
    /// Aborts.
    Aborts,
    /// Calls the hook that was there before, then exits.
    ExitsAfterTheOneBefore,
}

impl PanicHook {
    /// What the process exits with.
    pub const STATUS: i32 = 7;

    /// Sets it.
    pub fn set(self) {
        let before = match self {
            Self::ExitsAfterTheOneBefore => Some(std::panic::take_hook()),
            Self::Silent | Self::Exits | Self::Aborts => None,
        };
        std::panic::set_hook(Box::new(move |panic| {
            if let Some(before) = &before {
                before(panic);
            }
            match self {
                Self::Silent => {}
                Self::Exits | Self::ExitsAfterTheOneBefore => std::process::exit(Self::STATUS),
                Self::Aborts => std::process::abort(),
            }
        }));
    }
}

/// A file to create.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct NewFile {
    /// Its path, at which nothing may be yet.
    pub path: Bytes,
    /// Its content.
    pub content: Bytes,
}

impl NewFile {
    /// A file of this content.
    pub fn new(path: impl Into<Bytes>, content: impl Into<Bytes>) -> Self {
        Self {
            path: path.into(),
            content: content.into(),
        }
    }
}
