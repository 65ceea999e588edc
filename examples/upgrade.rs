//! A server that is upgraded without a lost connection, in the two ways that are common:
//!
//! - SIGUSR2: the daemon starts its successor beside itself. The successor takes over the listening
//!   socket and the pid file. Then the daemon ends. If the successor fails, the daemon goes on.
//! - SIGHUP: the daemon executes its new program in the same process, with the same pid. This also
//!   works after the daemon has dropped its privileges.
//!
//! ```text
//! $ cargo run --example upgrade -- /tmp/upgrade.pid
//! listening on 127.0.0.1:41235
//! $ nc 127.0.0.1 41235
//! process 4242, generation 1
//! $ kill -USR2 4242; nc 127.0.0.1 41235
//! process 4250, generation 2
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
    use std::io;
    use std::net::TcpListener;
    use std::os::fd::{AsFd as _, OwnedFd};
    use std::os::unix::fs::FileTypeExt as _;
    use std::path::{Path, PathBuf};
    use std::process::Command;
    use std::{env, process};

    use daemonize2::{Daemonize, PidFile, Readiness, Stdio};
    use tokio::io::AsyncWriteExt as _;
    use tokio::runtime;
    use tokio::signal::unix::{SignalKind, signal};

    pub(super) type Result<T> = std::result::Result<T, Box<dyn Error>>;

    /// Counts the programs, from 1.
    const GENERATION: &str = "GENERATION";

    pub(super) fn main() -> Result<()> {
        let path = PathBuf::from(
            env::args_os()
                .nth(1)
                .ok_or("usage: upgrade PID_FILE [USER]")?,
        );
        let path = std::path::absolute(path)?;
        let handed_over = listener_on_stdin()?;
        // Without a former program, the listener is new.
        let is_upgrade = handed_over.is_some();
        let listener = match handed_over {
            Some(listener) => listener,
            None => {
                let listener = TcpListener::bind("127.0.0.1:0")?;
                println!("listening on {}", listener.local_addr()?);
                listener
            }
        };
        // After SIGHUP, this process is the daemon already.
        let readiness = if PidFile::at(&path).adopt()? {
            None
        } else {
            let mut daemonize = Daemonize::new().pid_file(&path).upgrade(is_upgrade);
            if let Some(user) = env::args().nth(2) {
                daemonize = daemonize.user(user);
            }
            let daemonize = daemonize.stderr(Stdio::keep()).deferred_readiness();
            Some(daemonize.start_checked()?.1)
        };
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(serve(listener, &path, readiness))
    }

    /// The former program hands over its listening socket as standard input.
    fn listener_on_stdin() -> Result<Option<TcpListener>> {
        let stdin = File::from(io::stdin().as_fd().try_clone_to_owned()?);
        let is_socket = stdin.metadata()?.file_type().is_socket();
        let is_ours = is_socket && env::var_os(GENERATION).is_some();
        Ok(is_ours.then(|| TcpListener::from(OwnedFd::from(stdin))))
    }

    async fn serve(listener: TcpListener, path: &Path, readiness: Option<Readiness>) -> Result<()> {
        let generation = env::var(GENERATION).map_or(Ok(1), |number| number.parse::<u32>())?;
        let mut successor = signal(SignalKind::user_defined2())?;
        let mut replacement = signal(SignalKind::hangup())?;
        let mut end = signal(SignalKind::terminate())?;
        listener.set_nonblocking(true)?;
        let accepting = tokio::net::TcpListener::from_std(listener.try_clone()?)?;
        if let Some(readiness) = readiness {
            readiness.ready()?;
        }
        loop {
            // On Linux, `current_exe` does not return the path of a file that has been replaced.
            let mut next = Command::new(env::args_os().next().ok_or("no program name")?);
            next.args(env::args_os().skip(1))
                .env(GENERATION, (generation + 1).to_string())
                .stdin(OwnedFd::from(listener.try_clone()?));
            tokio::select! {
                client = accepting.accept() => {
                    let text = format!("process {}, generation {generation}\n", process::id());
                    // A client that is gone is no failure of the server.
                    let _ = client?.0.write_all(text.as_bytes()).await;
                }
                _ = successor.recv() => {
                    // The launcher of the successor exits when the successor has the pid file.
                    if next.status()?.success() {
                        return Ok(());
                    }
                    eprintln!("the successor has failed; process {} goes on", process::id());
                }
                _ = replacement.recv() => {
                    let error = PidFile::at(path).exec(&mut next);
                    eprintln!("{error}; process {} goes on", process::id());
                }
                _ = end.recv() => return Ok(()),
            }
        }
    }
}
