//! The steps of the closures, and the use of a readiness.

use std::fmt;

use rkyv::{Archive, Deserialize, Serialize};

use super::{Bytes, Entry, Foreground};

#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq, Default)]
pub struct Fallible {
    pub steps: Vec<Step>,
    /// The error that the closure then returns.
    pub error: Option<ErrorText>,
    /// The payload of the error, which is then a `StartFailure`.
    pub payload: Option<Bytes>,
}

impl Fallible {
    /// An error with a payload.
    pub fn with_payload(error: impl Into<ErrorText>, payload: impl Into<Vec<u8>>) -> Self {
        Self {
            payload: Some(Bytes(payload.into())),
            ..Self::from(error.into())
        }
    }
}

impl<S: Into<Vec<Step>>> From<S> for Fallible {
    fn from(steps: S) -> Self {
        Self {
            steps: steps.into(),
            ..Self::default()
        }
    }
}

impl From<ErrorText> for Fallible {
    fn from(error: ErrorText) -> Self {
        Self {
            error: Some(error),
            ..Self::default()
        }
    }
}

#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub enum ErrorText {
    Text(String),
    /// A panic after this text.
    PanicsAfter(String),
    /// The first text; with `{:#}` all of them, joined by colons, as anyhow and eyre show the
    /// causes of an error.
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

impl std::error::Error for ErrorText {}

/// The use of a readiness after the library has returned, and after the daemon has sent
/// [`crate::control::Message::Daemon`].
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct Deferral {
    pub steps: Vec<Step>,
    /// The use of the readiness by a copy of the process. The daemon waits for the end of the copy.
    pub in_copy: Option<ReadinessUse>,
    /// Whether the copy is in a pid namespace of its own, where it has the pid of the daemon.
    pub copy_has_same_pid: bool,
    /// A daemon that the daemon then starts, and that drops its copy of the readiness.
    pub in_another: Option<AnotherStart>,
    /// Whether another thread uses the readiness. The daemon waits for it.
    pub in_thread: bool,
    pub usage: ReadinessUse,
}

impl Deferral {
    /// These steps, and then this use in the thread that the library has returned to.
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

/// A start by a process that is a daemon, or becomes one.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq, Default)]
pub struct AnotherStart {
    pub pid_file: Option<Bytes>,
    pub upgrade: bool,
    /// Whether `close_inherited_fds` is called. It keeps what the tester needs.
    pub close_inherited_fds: bool,
    pub foreground: bool,
    /// Whether a worker of the process starts it, and then ends.
    pub in_worker: bool,
    /// Whether `start` starts it, instead of `execute`. With `start`, this process ends.
    pub by_start: bool,
}

#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub enum ReadinessUse {
    /// `ready`, or `ready_with` if the configuration has a payload;
    /// [`crate::control::Message::Acknowledged`] or [`crate::control::Message::NotAcknowledged`]
    /// reports the result.
    Ready,
    Fail(ErrorText),
    /// `fail_with` this payload.
    FailWith(ErrorText, Bytes),
    /// `fail_and_return`; [`crate::control::Message::NotAcknowledged`] reports the result. Then the
    /// daemon goes on.
    FailAndReturn(ErrorText),
    /// The same by `fail_and_return_with` this payload.
    FailAndReturnWith(ErrorText, Bytes),
    /// `serve`, with a server that does these steps and reports readiness, unless it returns an
    /// error; [`crate::control::Message::Served`] reports the result. Then the daemon goes on.
    Serve(Fallible),
    /// Dropped; then the daemon goes on.
    Drop,
    /// Dropped by a panic with this text, which is caught; then the daemon
    /// goes on.
    DropByPanic(String),
    /// Kept unused until the daemon ends.
    Keep,
}

#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Sends a report of the process.
    Observe,
    /// Sends a report, and waits for [`crate::control::Command::Proceed`]. If the harness ends
    /// first, the process ends.
    Hold,
    Panic(String),
    /// Panics with this text, and catches it.
    PanicAndCatch(String),
    SetPanicHook(PanicHook),
    Exit(i32),
    KillItself(i32),
    ForkTwice,
    /// Forks a process that keeps copies of everything, and stays until the harness ends.
    ForkWorker,
    /// The same, in a session of its own.
    ForkWorkerInSession,
    WriteFile(NewFile),
    /// Writes a text to the descriptor of this number.
    Write(i32, String),
    /// Calls `reopen_logs`. A failure becomes part of the result.
    ReopenLogs,
    /// Asks for the status of this pid file, and adopts the file. The answers become part of the
    /// result.
    AdoptPidFile(Bytes),
    /// Forks a process that tries to adopt this pid file, and sends whether it has
    /// ([`crate::control::Message::Answer`]).
    ForkAndAdoptPidFile(Bytes),
    /// Closes every descriptor above the standard streams, except sockets and those of the tester.
    CloseFiles,
    /// Opens a TCP socket that listens on a free port of the loopback address. The socket becomes
    /// part of the result.
    Listen,
    /// Makes the result report its drop ([`crate::control::Message::ResultDropped`]).
    WitnessResult,
    /// Serves one client on each socket that a service manager has passed, and that
    /// sd_listen_fds(3) would find: reports its port ([`crate::control::Message::Listening`]), and
    /// then sends the client the name of the socket and the pid. The names become part of the
    /// result.
    ServeActivated,
    /// Adds this part to the result, which the daemon reports in the end
    /// ([`crate::control::Message::Result`]).
    Add(String),
    Abort,
    /// Prints this text on the standard output of std, without the end of a line.
    Print(String),
    /// Takes this number of mebibytes of memory, and keeps them.
    FillMemory(usize),
    /// Makes a thread that stays.
    MakeThread,
    /// Makes a thread that stays, and that keeps its capabilities over a change of user, by
    /// PR_SET_KEEPCAPS of prctl(2) (Linux).
    MakeThreadThatKeepsCapabilities,
    /// Drops the capabilities of this mask (Linux).
    DropCapabilities(u64),
    /// Sets these secure bits (Linux).
    SetSecureBits(u64),
    /// Sets the parent-death signal (Linux).
    ArmParentDeathSignal(i32),
    /// Writes these bytes to every socket of the process, except those of the tester.
    SendToSockets(Bytes),
    /// Opens this file, and sends the descriptor by every socket of the process, except those of
    /// the tester (Linux).
    SendDescriptorToSockets(Bytes),
    /// Runs a program with these arguments. Its output, without the last line break, becomes part
    /// of the result.
    Run(Vec<Bytes>),
    /// Replaces the tester by a program with these arguments.
    Execute(Vec<Bytes>),
    /// Closes every socket of the process, except those of the tester.
    CloseSockets,
    /// Closes the descriptor of this number.
    Close(i32),
    /// Sends this message to the socket at `NOTIFY_SOCKET` (Linux). A failure becomes part of the
    /// result.
    Notify(Bytes),
    /// The same by a forked copy, for which the process waits.
    NotifyByCopy(Bytes),
    /// Starts another daemon by this function, and reports a refusal
    /// ([`crate::control::Message::StartRefused`]).
    StartAnother(Entry, Foreground),
}

#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum PanicHook {
    Silent,
    Exits,
    Aborts,
    /// Calls the former hook, and exits.
    ExitsAfterTheOneBefore,
}

impl PanicHook {
    /// The exit status of the process.
    pub const STATUS: i32 = 7;

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

#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct NewFile {
    /// The path, where no file may exist.
    pub path: Bytes,
    pub content: Bytes,
}

impl NewFile {
    pub fn new(path: impl Into<Bytes>, content: impl Into<Bytes>) -> Self {
        Self {
            path: path.into(),
            content: content.into(),
        }
    }
}
