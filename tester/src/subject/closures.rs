//! The closures of a case, and their results.

use std::env;
use std::error::Error;
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write};
use std::net::TcpListener;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::panic;
use std::process::Command as Program;

use daemonize2::{Daemonize, PidFile, StartFailure};

use super::activated::serve_activated;
use super::{Returned, await_command, describe, enter_library, expect, own_report, send};
use crate::config::{Bytes, Fallible, Foreground, Step};
use crate::control::{self, Command, Message};
use crate::report::FileType;
use crate::texts::panic_or_place;
use crate::{initial, sys};

/// Forks a process that lives as long as the harness. It begins with `prepare`, which the caller
/// drops.
fn fork_worker(prepare: impl FnOnce()) -> u32 {
    if let Some(worker) = expect(sys::fork(), "fork") {
        return worker;
    }
    prepare();
    control::wait_for_harness_to_end();
    sys::exit_at_once(0);
}

/// A value that reports its drop.
pub(super) struct Witness(pub(super) Message);

impl Drop for Witness {
    fn drop(&mut self) {
        // The harness may have ended by now.
        let _ = control::send(&self.0);
    }
}

/// A value whose drop panics in every process but that which made it.
pub(super) struct PanicsElsewhere(pub(super) u32);

impl Drop for PanicsElsewhere {
    fn drop(&mut self) {
        if std::process::id() != self.0 {
            panic_or_place(Some("the drop of a capture"));
        }
    }
}

/// The result of the closures, which lives as long as the daemon.
#[derive(Default)]
pub(super) struct Product {
    pub(super) parts: Vec<String>,
    _listeners: Vec<TcpListener>,
    _witness: Option<Witness>,
}

/// The result without a closure.
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
    pub(super) fn apply_to(&self, before: Product) -> Result<Product, Box<dyn Error>> {
        let product = before.made_by(&self.steps);
        match (&self.error, &self.payload) {
            (Some(error), Some(payload)) => Err(StartFailure::new(error)
                .with_payload(payload.0.clone())
                .into()),
            (Some(error), None) => Err(error.clone().into()),
            (None, _) => Ok(product),
        }
    }
}

impl Product {
    /// Does the steps, and adds their results.
    pub(super) fn made_by(mut self, steps: &[Step]) -> Self {
        for step in steps {
            self.perform(step);
        }
        self
    }

    fn perform(&mut self, step: &Step) {
        match step {
            Step::Observe => send(Message::Observed(own_report())),
            Step::Hold => {
                send(Message::Holding(own_report()));
                while await_command() != Command::Proceed {}
            }
            Step::Panic(text) => _ = panic_or_place(Some(text)),
            Step::PanicAndCatch(text) => {
                if panic::catch_unwind(|| panic_or_place(Some(text))).is_ok() {
                    send(Message::Problem("a panic that does not panic".into()));
                }
            }
            Step::SetPanicHook(hook) => hook.set(),
            Step::Exit(status) => std::process::exit(*status),
            Step::KillItself(signal) => {
                expect(sys::kill(std::process::id(), *signal), "kill itself");
            }
            Step::ForkTwice => {
                if let Some(copy) = expect(sys::fork(), "fork") {
                    send(Message::Copied(copy));
                }
            }
            Step::ForkWorker => send(Message::Worker(fork_worker(|| ()))),
            Step::ForkWorkerInSession => {
                let (mut here, there) = expect(UnixStream::pair(), "make a socket pair");
                let worker = fork_worker(move || {
                    expect(sys::new_session(), "make a session");
                    drop(there);
                });
                // Until the worker has its session, a signal to the group reaches it, too.
                expect(here.read(&mut [0]), "wait for the worker");
                send(Message::Worker(worker));
            }
            Step::WriteFile(file) => {
                let written = OpenOptions::new()
                    .write(true)
                    .create_new(true)
                    .open(file.path.to_path())
                    .and_then(|mut opened| opened.write_all(&file.content.0));
                expect(written, "write a file");
            }
            Step::Write(number, text) => write(*number, text.as_bytes()),
            Step::ReopenLogs => {
                let reopened = daemonize2::reopen_logs();
                self.parts
                    .extend(reopened.err().map(|error| error.to_string()));
            }
            Step::AdoptPidFile(path) => {
                let pid_file = PidFile::at(path.to_path());
                self.parts.push(format!("{:?}", pid_file.status()));
                self.parts.push(format!("{:?}", pid_file.adopt()));
            }
            Step::ForkAndAdoptPidFile(path) => match expect(sys::fork(), "fork") {
                Some(child) => expect(sys::wait_for_child(child), "wait for the child"),
                None => {
                    let adopted = PidFile::at(path.to_path()).adopt();
                    send(Message::Answer(vec![format!("{adopted:?}")]));
                    sys::exit_at_once(0);
                }
            },
            Step::CloseFiles => {
                for descriptor in own_report().descriptors.unwrap_or_default() {
                    if descriptor.number > 2 && descriptor.file_type != FileType::Socket {
                        sys::close(descriptor.number);
                    }
                }
            }
            Step::Listen => {
                let listener = expect(TcpListener::bind(("127.0.0.1", 0)), "listen");
                let address = expect(listener.local_addr(), "find its own port");
                send(Message::Listening(address.port()));
                self._listeners.push(listener);
            }
            Step::ServeActivated => self.parts.push(expect(serve_activated(), "serve")),
            Step::WitnessResult => self._witness = Some(Witness(Message::ResultDropped)),
            Step::Add(part) => self.parts.push(part.clone()),
            Step::FillMemory(mebibytes) => {
                // Zeroes would take no memory.
                std::mem::forget(vec![1_u8; mebibytes << 20]);
            }
            Step::Print(text) => print!("{text}"),
            Step::Abort => std::process::abort(),
            Step::MakeThread => expect(initial::park_a_thread(|| Ok(())), "make a thread"),
            Step::MakeThreadThatKeepsCapabilities => {
                let made = initial::park_a_thread(|| sys::keep_capabilities(true));
                expect(made, "make a thread");
            }
            Step::DropCapabilities(mask) => {
                expect(sys::drop_capability(*mask), "drop a capability");
            }
            Step::SetSecureBits(bits) => expect(sys::set_secure_bits(*bits), "set secure bits"),
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
                let output = Program::new(program).args(words).output();
                let text = expect(output, "run a program").stdout;
                let text = String::from_utf8_lossy(&text);
                self.parts.push(text.trim_end().to_owned());
            }
            Step::Execute(words) => {
                let mut words = words.iter().map(Bytes::to_path);
                let program = words.next().unwrap_or_default();
                let error = Program::new(program).args(words).exec();
                expect(Err(error), "execute a program")
            }
            Step::CloseSockets => {
                for descriptor in own_report().descriptors.unwrap_or_default() {
                    if descriptor.file_type == FileType::Socket {
                        sys::close(descriptor.number);
                    }
                }
            }
            Step::Close(number) => sys::close(*number),
            Step::Notify(message) => {
                let sent = notify(&message.0);
                self.parts.extend(sent.err().map(|error| error.to_string()));
            }
            Step::NotifyByCopy(message) => match expect(sys::fork(), "fork") {
                Some(copy) => expect(sys::wait_for_child(copy), "wait for the copy"),
                None => {
                    expect(notify(&message.0), "notify");
                    sys::exit_at_once(0);
                }
            },
            Step::StartAnother(entry, foreground) => {
                let another = Daemonize::new().foreground(*foreground == Foreground::Yes);
                if let Returned::Launcher(Err(error))
                | Returned::Daemon(Err(error))
                | Returned::StartFailed(error) = enter_library(another, *entry, false)
                {
                    send(Message::StartRefused(describe(&error)));
                }
            }
        }
    }
}

fn notify(message: &[u8]) -> io::Result<()> {
    let address = env::var("NOTIFY_SOCKET").map_err(io::Error::other)?;
    sys::notify(&address, message)
}

pub(super) fn write(number: i32, bytes: &[u8]) {
    let stream = sys::inherited(number).ok_or_else(|| io::Error::other("it is closed"));
    let written = stream.and_then(|stream| sys::as_file(stream).write_all(bytes));
    expect(written, "write to a descriptor");
}
