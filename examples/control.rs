//! A daemon with the actions of an init script: `start`, `stop`, `status`, `restart` and `reload`,
//! with the exit codes of the Linux Standard Base.
//!
//! ```sh
//! cargo run --example control -- start ~/control.pid    # also stop, status, restart, reload
//! ```

#[cfg(unix)]
mod control {
    use std::io;
    use std::path::Path;
    use std::time::Duration;

    use daemonize2::{Daemonize, Outcome, PidFile, Signal};

    const PATIENCE: Duration = Duration::from_secs(10);
    const NOT_RUNNING: u8 = 7;

    pub(super) fn act(action: &str, path: &Path) -> u8 {
        let pid_file = PidFile::at(path);
        match action {
            "start" => start(path),
            "stop" => code_of(pid_file.stop_group(PATIENCE).map(|_| 0)),
            "restart" => match code_of(pid_file.stop_group(PATIENCE).map(|_| 0)) {
                0 => start(path),
                failed => failed,
            },
            "reload" => code_of(pid_file.signal(Signal::HUP).map(
                |was_running| match was_running {
                    true => 0,
                    false => NOT_RUNNING,
                },
            )),
            "status" => match pid_file.status() {
                Ok(status) => {
                    println!("{status}");
                    status.lsb_exit_code()
                }
                Err(error) => {
                    eprintln!("control: {error}");
                    4
                }
            },
            _ => {
                eprintln!("usage: control start|stop|status|restart|reload PID-FILE");
                2
            }
        }
    }

    fn start(path: &Path) -> u8 {
        match Daemonize::new()
            .pid_file(path)
            .pid_file_mode(0o644)
            .initialize(|()| Server::new())
            .execute_checked()
        {
            Outcome::Parent(Ok(_)) => 0,
            Outcome::Parent(Err(error)) => {
                eprintln!("control: {error}");
                error.lsb_exit_code()
            }
            Outcome::Child(Ok(child)) => child.privileged_action_result.serve(path),
            // The launcher prints the error.
            Outcome::Child(Err(_)) => 1,
        }
    }

    fn code_of(result: io::Result<u8>) -> u8 {
        result.unwrap_or_else(|error| {
            eprintln!("control: {error}");
            match error.kind() {
                io::ErrorKind::PermissionDenied => 4,
                _ => 1,
            }
        })
    }

    /// Serves nothing. When it reloads, it counts the reloads in a file beside the pid file.
    struct Server {
        runtime: tokio::runtime::Runtime,
        hang_up: tokio::signal::unix::Signal,
    }

    impl Server {
        fn new() -> io::Result<Self> {
            use tokio::signal::unix::{SignalKind, signal};

            let runtime = tokio::runtime::Runtime::new()?;
            let hang_up = runtime.block_on(async { signal(SignalKind::hangup()) })?;
            Ok(Self { runtime, hang_up })
        }

        fn serve(mut self, path: &Path) -> u8 {
            self.runtime.block_on(async {
                for reloads in 1.. {
                    self.hang_up.recv().await;
                    let _ = std::fs::write(path.with_extension("reloads"), format!("{reloads}\n"));
                }
            });
            0
        }
    }
}

#[cfg(unix)]
fn main() -> std::process::ExitCode {
    let mut arguments = std::env::args().skip(1);
    let action = arguments.next().unwrap_or_default();
    let path = arguments.next().unwrap_or_default();
    control::act(&action, path.as_ref()).into()
}

#[cfg(not(unix))]
fn main() {
    eprintln!("There are no SysV daemons here.");
}
