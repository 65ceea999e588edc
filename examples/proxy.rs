//! A TCP proxy with worker threads, an error log, a user and a group, and an upgrade without a lost
//! connection.
//!
//! ```text
//! # cargo run --example proxy -- /srv/proxy 127.0.0.1:80 127.0.0.1:8080 nobody nogroup
//! listening on 127.0.0.1:80
//! ```
//!
//! - The launcher exits when all workers accept connections.
//! - SIGTERM ends the proxy at once. After SIGQUIT it accepts no connection any more, and ends with
//!   its last one.
//! - SIGHUP opens the error log again, after logrotate(8) has renamed it.
//! - SIGUSR2 starts a successor from the program file, which may be a new one. The successor takes
//!   over the listening socket and the pid file. It has the user of its predecessor, which then
//!   ends as after SIGQUIT. If the successor fails, the proxy goes on.

#[cfg(unix)]
mod proxy {
    use std::env;
    use std::error::Error;
    use std::fs::File;
    use std::io;
    use std::net::TcpListener;
    use std::os::fd::{AsFd as _, OwnedFd};
    use std::os::unix::fs::FileTypeExt as _;
    use std::path::{Path, PathBuf};
    use std::thread;
    use std::time::Duration;

    use daemonize2::{Daemonize, Directory, Readiness, Stdio};
    use tokio::io::copy_bidirectional;
    use tokio::net::TcpStream;
    use tokio::process::Command;
    use tokio::runtime::{Builder, Runtime};
    use tokio::signal::unix::{Signal, SignalKind, signal};
    use tokio::sync::{mpsc, watch};
    use tokio::task::JoinSet;

    type Result<T> = std::result::Result<T, Box<dyn Error>>;

    const WORKERS: usize = 4;
    const PAUSE: Duration = Duration::from_millis(100);
    /// Marks a successor.
    const SUCCESSOR: &str = "PROXY_SUCCESSOR";

    pub(super) fn run(arguments: &[String]) -> Result<()> {
        let [home, address, upstream, identity @ ..] = arguments else {
            return Err("usage: proxy DIRECTORY ADDRESS UPSTREAM [USER GROUP]".into());
        };
        let home = std::path::absolute(home)?;
        let program = program()?;
        let inherited = inherited_listener()?;
        // Of root, and of a successor, the default modes differ.
        let run = Directory::at(home.join("run")).mode(0o755);
        let logs = Directory::at(home.join("log")).mode(0o750);
        let error_log = Stdio::append(logs.path()?.join("error.log"));
        let mut daemonize = Daemonize::new()
            .pid_file(run.path()?.join("proxy.pid"))
            .upgrade(inherited.is_some())
            .working_directory("/")
            // Warnings of the start reach the terminal.
            .stderr(Stdio::keep_until_ready(error_log))
            .directory(run)
            .directory(logs)
            .on_started(|daemon| println!("listening on {}", daemon.payload.escape_ascii()));
        if let [user, group] = identity {
            // A successor has this identity already, and may not set its groups.
            if inherited.is_none() {
                daemonize = daemonize.user(user).group(group);
            }
        }
        let address = address.clone();
        let (listener, readiness) = daemonize
            .try_privileged_action(|| inherited.map_or_else(|| TcpListener::bind(address), Ok))
            .deferred_readiness()
            .start_checked()?;
        let proxy = Proxy {
            listener,
            upstream: upstream.clone(),
            program,
        };
        readiness.serve(|readiness| runtime()?.block_on(proxy.serve(readiness)))
    }

    /// A path stays that of the program after the change of the working directory. `current_exe`
    /// would follow a symbolic link to the present version.
    fn program() -> Result<PathBuf> {
        let name = PathBuf::from(env::args_os().next().ok_or("no program name")?);
        Ok(match name.parent() {
            // PATH leads to it.
            Some(parent) if parent == Path::new("") => name,
            _ => std::path::absolute(name)?,
        })
    }

    /// The predecessor hands its listening socket over as standard input.
    fn inherited_listener() -> Result<Option<TcpListener>> {
        let stdin = File::from(io::stdin().as_fd().try_clone_to_owned()?);
        let is_socket = stdin.metadata()?.file_type().is_socket();
        let is_ours = is_socket && env::var_os(SUCCESSOR).is_some();
        Ok(is_ours.then(|| TcpListener::from(OwnedFd::from(stdin))))
    }

    fn runtime() -> io::Result<Runtime> {
        Builder::new_current_thread().enable_all().build()
    }

    struct Proxy {
        listener: TcpListener,
        upstream: String,
        program: PathBuf,
    }

    impl Proxy {
        async fn serve(self, readiness: Readiness) -> Result<()> {
            let mut signals = Signals::catch()?;
            self.listener.set_nonblocking(true)?;
            let (is_up, mut workers) = mpsc::channel(WORKERS);
            let (serving, is_serving) = watch::channel(());
            for _ in 0..WORKERS {
                let listener = self.listener.try_clone()?;
                let upstream = self.upstream.clone();
                let (is_up, is_serving) = (is_up.clone(), is_serving.clone());
                thread::spawn(move || {
                    let worker = Worker { listener, upstream };
                    let result = runtime()
                        .and_then(|runtime| runtime.block_on(worker.run(&is_up, is_serving)));
                    if let Err(error) = result {
                        eprintln!("a worker has failed: {error}");
                    }
                });
            }
            drop((is_up, is_serving));
            for _ in 0..WORKERS {
                workers.recv().await.ok_or("no worker is up")?;
            }
            readiness.ready_with(self.listener.local_addr()?.to_string())?;
            loop {
                tokio::select! {
                    _ = signals.reopen.recv() => {
                        if let Err(error) = daemonize2::reopen_logs() {
                            eprintln!("{error}");
                        }
                    }
                    _ = signals.successor.recv() => match self.start_successor().await {
                        Ok(true) => break,
                        Ok(false) => eprintln!("the successor has failed"),
                        Err(error) => eprintln!("cannot start the successor: {error}"),
                    },
                    _ = signals.finish.recv() => break,
                    _ = signals.end.recv() => return Ok(()),
                }
            }
            // The listening socket is open in this thread and in the workers.
            drop((serving, self.listener));
            tokio::select! {
                // The channel is closed when all workers have ended.
                _ = async { while workers.recv().await.is_some() {} } => {}
                _ = signals.end.recv() => {}
            }
            Ok(())
        }

        /// The launcher of the successor exits when the successor has the pid file.
        async fn start_successor(&self) -> io::Result<bool> {
            let mut successor = Command::new(&self.program);
            successor
                .args(env::args_os().skip(1))
                .env(SUCCESSOR, "1")
                .stdin(OwnedFd::from(self.listener.try_clone()?));
            Ok(successor.status().await?.success())
        }
    }

    struct Signals {
        reopen: Signal,
        successor: Signal,
        finish: Signal,
        end: Signal,
    }

    impl Signals {
        fn catch() -> io::Result<Self> {
            Ok(Self {
                reopen: signal(SignalKind::hangup())?,
                successor: signal(SignalKind::user_defined2())?,
                finish: signal(SignalKind::quit())?,
                end: signal(SignalKind::terminate())?,
            })
        }
    }

    struct Worker {
        listener: TcpListener,
        upstream: String,
    }

    impl Worker {
        /// Returns when the last connection has ended.
        async fn run(
            self,
            is_up: &mpsc::Sender<()>,
            mut is_serving: watch::Receiver<()>,
        ) -> io::Result<()> {
            let listener = tokio::net::TcpListener::from_std(self.listener)?;
            let _ = is_up.send(()).await;
            let mut connections = JoinSet::new();
            loop {
                tokio::select! {
                    client = listener.accept() => match client {
                        Ok((client, _)) => {
                            connections.spawn(forward(client, self.upstream.clone()));
                        }
                        // For example, too many descriptors are open.
                        Err(error) => {
                            eprintln!("cannot accept: {error}");
                            tokio::time::sleep(PAUSE).await;
                        }
                    },
                    Some(_) = connections.join_next() => {}
                    _ = is_serving.changed() => break,
                }
            }
            drop(listener);
            while connections.join_next().await.is_some() {}
            Ok(())
        }
    }

    async fn forward(mut client: TcpStream, upstream: String) {
        match TcpStream::connect(&*upstream).await {
            Ok(mut server) => {
                // An end that either side causes is no failure of the proxy.
                let _ = copy_bidirectional(&mut client, &mut server).await;
            }
            Err(error) => eprintln!("cannot connect to {upstream}: {error}"),
        }
    }
}

#[cfg(unix)]
fn main() -> std::process::ExitCode {
    use std::process::ExitCode;

    let arguments: Vec<_> = std::env::args().skip(1).collect();
    match proxy::run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("proxy: {error}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(not(unix))]
fn main() {
    eprintln!("There are no SysV daemons here.");
}
