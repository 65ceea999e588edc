//! A preforking server: a master and its workers, which share one listening socket.
//!
//! - The launcher exits when all workers accept connections.
//! - The master replaces a worker that has ended.
//! - Workers end with their master, however the master ends.
//! - SIGUSR2 starts a successor with workers of its own. The successor takes over the listening
//!   socket and the pid file. Then the former workers finish their connections and end. If the
//!   successor fails, the master goes on.
//!
//! ```text
//! $ cargo run --example prefork -- /tmp/prefork.pid 3
//! listening on 127.0.0.1:41235
//! $ nc 127.0.0.1 41235
//! worker 4243 of master 4242, generation 1
//! $ kill -USR2 4242; nc 127.0.0.1 41235
//! worker 4261 of master 4260, generation 2
//! ```

#[cfg(not(unix))]
fn main() {}

#[cfg(unix)]
fn main() -> unix::Result<()> {
    unix::main()
}

#[cfg(unix)]
mod unix {
    use std::error::Error;
    use std::fs::File;
    use std::net::TcpListener;
    use std::os::fd::{AsFd as _, OwnedFd};
    use std::os::unix::fs::FileTypeExt as _;
    use std::os::unix::net::UnixStream as Channel;
    use std::path::PathBuf;
    use std::time::Duration;
    use std::{env, io, process};

    use daemonize2::{Daemonize, Stdio};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::UnixStream;
    use tokio::process::{Child, Command};
    use tokio::runtime::{Builder, Runtime};
    use tokio::signal::unix::{Signal, SignalKind, signal};
    use tokio::sync::watch;
    use tokio::task::JoinSet;

    pub(super) type Result<T> = std::result::Result<T, Box<dyn Error>>;

    /// Counts the masters, from 1.
    const GENERATION: &str = "GENERATION";
    const WORKER: &str = "worker";
    /// Until a worker that has ended is replaced, so that one that cannot run does not keep the
    /// processor busy.
    const PAUSE: Duration = Duration::from_millis(100);

    pub(super) fn main() -> Result<()> {
        let arguments: Vec<_> = env::args().skip(1).collect();
        match arguments.as_slice() {
            [word, master] if word == WORKER => Ok(runtime()?.block_on(work(master))?),
            [path, count] => start(path.into(), count.parse()?, None),
            [path, count, user] => start(path.into(), count.parse()?, Some(user)),
            _ => Err("usage: prefork PID_FILE WORKERS [USER]".into()),
        }
    }

    fn start(path: PathBuf, count: usize, user: Option<&str>) -> Result<()> {
        let path = std::path::absolute(path)?;
        let former = listener_on_stdin()?;
        let is_upgrade = former.is_some();
        let mut daemonize = Daemonize::new()
            .pid_file(path)
            .upgrade(is_upgrade)
            .stderr(Stdio::keep())
            .on_started(|daemon| println!("listening on {}", daemon.payload.escape_ascii()));
        if let Some(user) = user {
            daemonize = daemonize.user(user);
        }
        let (runtime, master) = daemonize
            .try_privileged_action(|| former.map_or_else(|| TcpListener::bind("127.0.0.1:0"), Ok))
            .initialize(move |listener| -> io::Result<_> {
                let runtime = runtime()?;
                let master = runtime.block_on(Master::new(listener, count))?;
                Ok((runtime, master))
            })
            .ready_payload(|(_, master)| master.address.clone())
            .start_checked()?;
        runtime.block_on(master.serve())
    }

    fn runtime() -> io::Result<Runtime> {
        Builder::new_current_thread().enable_all().build()
    }

    /// The former master hands over its listening socket as standard input.
    fn listener_on_stdin() -> Result<Option<TcpListener>> {
        let stdin = File::from(io::stdin().as_fd().try_clone_to_owned()?);
        let is_socket = stdin.metadata()?.file_type().is_socket();
        let is_ours = is_socket && env::var_os(GENERATION).is_some();
        Ok(is_ours.then(|| TcpListener::from(OwnedFd::from(stdin))))
    }

    fn generation() -> u32 {
        let number = env::var(GENERATION).ok();
        number.and_then(|number| number.parse().ok()).unwrap_or(1)
    }

    /// This program. On Linux, `current_exe` does not return the path of a file that has been
    /// replaced.
    fn program() -> io::Result<Command> {
        let name = env::args_os().next();
        name.map(Command::new)
            .ok_or_else(|| io::Error::other("no program name"))
    }

    struct Master {
        listener: TcpListener,
        address: String,
        workers: JoinSet<io::Result<()>>,
        /// Dropping this ends the workers.
        is_serving: watch::Sender<()>,
        successor: Signal,
        end: Signal,
    }

    impl Master {
        async fn new(listener: TcpListener, count: usize) -> io::Result<Self> {
            let mut master = Self {
                address: listener.local_addr()?.to_string(),
                listener,
                workers: JoinSet::new(),
                is_serving: watch::Sender::new(()),
                successor: signal(SignalKind::user_defined2())?,
                end: signal(SignalKind::terminate())?,
            };
            for _ in 0..count {
                let mut worker = Worker::start(&master.listener)?;
                worker.await_readiness().await?;
                master.watch(worker);
            }
            Ok(master)
        }

        fn watch(&mut self, worker: Worker) {
            let is_serving = self.is_serving.subscribe();
            self.workers.spawn(worker.run(is_serving));
        }

        async fn serve(mut self) -> Result<()> {
            loop {
                tokio::select! {
                    Some(_) = self.workers.join_next() => {
                        let worker = Worker::start(&self.listener)?;
                        self.watch(worker);
                    }
                    _ = self.successor.recv() => {
                        // The launcher of the successor exits when the successor has the pid file.
                        if self.start_successor().await? {
                            break;
                        }
                        eprintln!("the successor has failed; process {} goes on", process::id());
                    }
                    _ = self.end.recv() => break,
                }
            }
            drop(self.is_serving);
            while self.workers.join_next().await.is_some() {}
            Ok(())
        }

        async fn start_successor(&self) -> io::Result<bool> {
            let mut successor = program()?;
            successor
                .args(env::args_os().skip(1))
                .env(GENERATION, (generation() + 1).to_string())
                .stdin(OwnedFd::from(self.listener.try_clone()?));
            Ok(successor.status().await?.success())
        }
    }

    struct Worker {
        process: Child,
        /// The worker writes one byte when it is ready, and ends at the end of file.
        channel: UnixStream,
    }

    impl Worker {
        fn start(listener: &TcpListener) -> io::Result<Self> {
            let (channel, end_of_worker) = Channel::pair()?;
            channel.set_nonblocking(true)?;
            let mut command = program()?;
            command
                .args([WORKER, &process::id().to_string()])
                .stdin(OwnedFd::from(end_of_worker))
                .stdout(OwnedFd::from(listener.try_clone()?));
            Ok(Self {
                process: command.spawn()?,
                channel: UnixStream::from_std(channel)?,
            })
        }

        async fn await_readiness(&mut self) -> io::Result<()> {
            match self.channel.read_u8().await {
                Ok(_) => Ok(()),
                Err(_) => Err(io::Error::other("a worker ended before it was ready")),
            }
        }

        /// Returns when the worker has ended.
        async fn run(mut self, mut is_serving: watch::Receiver<()>) -> io::Result<()> {
            tokio::select! {
                _ = is_serving.changed() => drop(self.channel),
                _ = self.process.wait() => tokio::time::sleep(PAUSE).await,
            }
            self.process.wait().await.map(drop)
        }
    }

    /// The standard input of a worker is its channel to the master, and its standard output is the
    /// listening socket.
    async fn work(master: &str) -> io::Result<()> {
        let channel = Channel::from(io::stdin().as_fd().try_clone_to_owned()?);
        channel.set_nonblocking(true)?;
        let mut channel = UnixStream::from_std(channel)?;
        let listener = TcpListener::from(io::stdout().as_fd().try_clone_to_owned()?);
        listener.set_nonblocking(true)?;
        let listener = tokio::net::TcpListener::from_std(listener)?;
        channel.write_u8(1).await?;
        let (pid, generation) = (process::id(), generation());
        let text = format!("worker {pid} of master {master}, generation {generation}\n");
        loop {
            tokio::select! {
                client = listener.accept() => {
                    // A client that is gone is no failure of the server.
                    let _ = client?.0.write_all(text.as_bytes()).await;
                }
                _ = channel.read_u8() => return Ok(()),
            }
        }
    }
}
