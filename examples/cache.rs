//! A compile cache. Its client starts the server on demand, and an idle server ends.
//!
//! ```text
//! $ cargo run --example cache -- cc -x c -S -o - - < clock.c > clock.s
//! $ cargo run --example cache -- --status
//! running as process 4242
//! $ cargo run --example cache -- --stop
//! ```
//!
//! The server executes a command in `/`, and keeps the output of a success. A later command with
//! the same arguments and the same standard input gets this output.
//!
//! - Of several clients that find no server, one starts it, and all others wait until it is ready.
//! - If the server cannot start, its clients print the reason.
//! - The socket and the pid file are in `$XDG_RUNTIME_DIR/daemonize2-cache`, or in
//!   `$CACHE_DIRECTORY`.
//! - Without clients, the server ends after ten minutes, or after `$CACHE_IDLE_SECONDS`.

#[cfg(unix)]
mod cache {
    use std::collections::HashMap;
    use std::env;
    use std::error::Error;
    use std::ffi::{OsStr, OsString};
    use std::fs;
    use std::io::{self, Read as _, Write as _};
    use std::net::Shutdown;
    use std::os::unix::ffi::OsStrExt as _;
    use std::os::unix::net::UnixStream;
    use std::path::PathBuf;
    use std::process::{self, ExitStatus, Output, Stdio};
    use std::sync::{Arc, Mutex, PoisonError};
    use std::thread;
    use std::time::{Duration, Instant};

    use daemonize2::{Daemonize, Directory, ErrorKind, Outcome, PidFile, PidFileGuard};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{UnixListener, UnixStream as Client};
    use tokio::process::Command;
    use tokio::runtime::{Builder, Runtime};
    use tokio::sync::OnceCell;
    use tokio::task::JoinSet;

    type Result<T> = std::result::Result<T, Box<dyn Error>>;

    const PATIENCE: Duration = Duration::from_secs(10);
    const PAUSE: Duration = Duration::from_millis(10);

    pub(super) fn run(arguments: &[OsString]) -> Result<u8> {
        let server = Server::locate()?;
        match arguments {
            [] => Err("usage: cache COMMAND [ARGUMENT...] | --status | --stop".into()),
            [action] if action == "--status" => {
                let status = PidFile::at(server.pid_file).status()?;
                println!("{status}");
                Ok(status.lsb_exit_code())
            }
            [action] if action == "--stop" => {
                PidFile::at(server.pid_file).stop(PATIENCE)?;
                Ok(0)
            }
            command => {
                let mut input = Vec::new();
                io::stdin().read_to_end(&mut input)?;
                let command = command.iter().map(|argument| argument.as_bytes());
                let answer = server.ask(&frame([&*input].into_iter().chain(command)))?;
                match parts(&answer).as_deref() {
                    Some([[code], output, messages]) => {
                        io::stdout().write_all(output)?;
                        io::stderr().write_all(messages)?;
                        Ok(*code)
                    }
                    _ => Err("the server has ended before the command".into()),
                }
            }
        }
    }

    /// The server, as its clients know it.
    struct Server {
        directory: Directory,
        pid_file: PathBuf,
        socket: PathBuf,
    }

    impl Server {
        fn locate() -> Result<Self> {
            let directory = match env::var_os("CACHE_DIRECTORY") {
                Some(path) => Directory::at(path),
                None => Directory::runtime("daemonize2-cache"),
            };
            let directory = directory.mode(0o700);
            let path = directory.path()?;
            Ok(Self {
                directory,
                pid_file: path.join("pid"),
                socket: path.join("socket"),
            })
        }

        /// An idle server may end just before a client connects to it. Until the process has
        /// ended, its pid file is locked.
        fn ask(&self, request: &[u8]) -> Result<Vec<u8>> {
            let deadline = Instant::now() + PATIENCE;
            loop {
                self.start_unless_running()?;
                match self.try_ask(request) {
                    Ok(answer) if !answer.is_empty() => return Ok(answer),
                    _ if Instant::now() < deadline => thread::sleep(PAUSE),
                    Ok(_) => return Err("the server ends without an answer".into()),
                    Err(error) => return Err(error.into()),
                }
            }
        }

        fn try_ask(&self, request: &[u8]) -> io::Result<Vec<u8>> {
            let mut server = UnixStream::connect(&self.socket)?;
            server.write_all(request)?;
            server.shutdown(Shutdown::Write)?;
            let mut answer = Vec::new();
            server.read_to_end(&mut answer)?;
            Ok(answer)
        }

        fn start_unless_running(&self) -> Result<()> {
            let pid_file = PidFile::at(&self.pid_file);
            while pid_file.wait_ready(PATIENCE)?.is_none() {
                let outcome = Daemonize::new()
                    .directory(self.directory.clone())
                    .pid_file(&self.pid_file)
                    .working_directory("/")
                    .startup_timeout(PATIENCE)
                    .execute_checked_with(|()| self.listen());
                match outcome {
                    Outcome::Parent(Ok(_)) => break,
                    // Another client has started the server meanwhile.
                    Outcome::Parent(Err(error))
                        if matches!(error.kind(), ErrorKind::LockPidfile(_)) => {}
                    Outcome::Parent(Err(error)) => return Err(error.into()),
                    Outcome::Child(Ok(child)) => serve_and_exit(child.into_value()),
                    // The client returns the error.
                    Outcome::Child(Err(_)) => process::exit(1),
                }
            }
            Ok(())
        }

        fn listen(&self) -> io::Result<(Runtime, UnixListener)> {
            // The former server has left its socket.
            let _ = fs::remove_file(&self.socket);
            let runtime = Builder::new_current_thread().enable_all().build()?;
            let listener = runtime.block_on(async { UnixListener::bind(&self.socket) })?;
            Ok((runtime, listener))
        }
    }

    fn serve_and_exit((runtime, listener): (Runtime, UnixListener)) -> ! {
        let guard = PidFileGuard::take();
        let idle = env::var("CACHE_IDLE_SECONDS").ok();
        let idle = idle.and_then(|seconds| seconds.parse().ok());
        let result = runtime.block_on(serve(listener, Duration::from_secs(idle.unwrap_or(600))));
        drop(guard);
        process::exit(i32::from(result.is_err()))
    }

    /// The answers by their requests. Two clients with the same request wait for one command.
    type Answers = Mutex<HashMap<Vec<u8>, Arc<OnceCell<Vec<u8>>>>>;

    async fn serve(listener: UnixListener, idle: Duration) -> io::Result<()> {
        let answers = Arc::new(Answers::default());
        let mut clients = JoinSet::new();
        loop {
            tokio::select! {
                client = listener.accept() => {
                    clients.spawn(answer(client?.0, Arc::clone(&answers)));
                }
                // A client that is gone is no failure of the server.
                Some(_) = clients.join_next() => {}
                () = tokio::time::sleep(idle), if clients.is_empty() => return Ok(()),
            }
        }
    }

    async fn answer(mut client: Client, answers: Arc<Answers>) -> io::Result<()> {
        let mut request = Vec::new();
        client.read_to_end(&mut request).await?;
        let cell = {
            let mut answers = answers.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(answers.entry(request.clone()).or_default())
        };
        match cell.get_or_try_init(|| execute(&request)).await {
            Ok(answer) => client.write_all(answer).await,
            Err(answer) => client.write_all(&answer).await,
        }
    }

    /// Returns the answer, as an `Err` if the command has failed: a failure is not kept.
    async fn execute(request: &[u8]) -> std::result::Result<Vec<u8>, Vec<u8>> {
        let output = match parts(request).as_deref() {
            Some([input, program, arguments @ ..]) => output_of(input, program, arguments).await,
            _ => Err(io::Error::from(io::ErrorKind::InvalidData)),
        };
        let (code, output, messages) = match output {
            Ok(Output {
                status,
                stdout,
                stderr,
            }) => (code_of(status), stdout, stderr),
            Err(error) => (
                127,
                Vec::new(),
                format!("cache: cannot execute: {error}\n").into_bytes(),
            ),
        };
        let answer = frame([&[code][..], &output, &messages]);
        match code {
            0 => Ok(answer),
            _ => Err(answer),
        }
    }

    /// A command that a signal has killed has no code.
    fn code_of(status: ExitStatus) -> u8 {
        let code = status.code().and_then(|code| code.try_into().ok());
        code.unwrap_or(1)
    }

    async fn output_of(input: &[u8], program: &[u8], arguments: &[&[u8]]) -> io::Result<Output> {
        let mut command = Command::new(OsStr::from_bytes(program));
        command.args(arguments.iter().map(|argument| OsStr::from_bytes(argument)));
        command.stdin(Stdio::piped());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = command.spawn()?;
        let stdin = process.stdin.take();
        let write = async {
            if let Some(mut stdin) = stdin {
                // A command need not read everything.
                let _ = stdin.write_all(input).await;
            }
        };
        tokio::join!(process.wait_with_output(), write).0
    }

    /// A message: each part follows its length.
    fn frame<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
        let mut message = Vec::new();
        for part in parts {
            message.extend((part.len() as u64).to_be_bytes());
            message.extend(part);
        }
        message
    }

    /// The parts of a message, or `None` if it is incomplete.
    fn parts(mut message: &[u8]) -> Option<Vec<&[u8]>> {
        let mut parts = Vec::new();
        while let Some((length, rest)) = message.split_first_chunk() {
            let length = u64::from_be_bytes(*length).try_into().ok()?;
            let (part, rest) = rest.split_at_checked(length)?;
            parts.push(part);
            message = rest;
        }
        message.is_empty().then_some(parts)
    }
}

#[cfg(unix)]
fn main() -> std::process::ExitCode {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    match cache::run(&arguments) {
        Ok(code) => code.into(),
        Err(error) => {
            eprintln!("cache: {error}");
            std::process::ExitCode::FAILURE
        }
    }
}

#[cfg(not(unix))]
fn main() {
    eprintln!("There are no SysV daemons here.");
}
