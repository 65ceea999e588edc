//! A small real daemon: a server on a loopback port that answers every client
//! with the time and its pid.
//!
//! ```sh
//! cargo run --example service -- start    # also stop, restart, status, run
//! ```
//!
//! It keeps pid file and log in a directory of its own that an ordinary user
//! may make. `start` works from a shell and under systemd with `Type=notify`
//! alike; `start --background` forks in any case, as `Type=forking` wants it: see
//! examples/systemd, and `daemonize2::supervised`. `run` stays in the foreground. The exit codes are those of the Linux Standard Base for
//! init scripts: `status` ends with 0 if the service runs, and with 3 if not.

#[cfg(unix)]
mod service {
    use std::error::Error;
    use std::fs::{self, DirBuilder, File};
    use std::io::{self, Write as _};
    use std::net::TcpListener;
    use std::os::unix::fs::DirBuilderExt as _;
    use std::path::{Path, PathBuf};
    use std::process::ExitCode;
    use std::time::{Duration, SystemTime, UNIX_EPOCH};

    use daemonize2::{Daemonize, PidFile};

    type Result<T> = std::result::Result<T, Box<dyn Error>>;

    const NOT_RUNNING: u8 = 3;

    pub(super) fn start(foreground: bool) -> Result<ExitCode> {
        let home = home()?;
        let mut daemonize = Daemonize::new()
            .working_directory(&home)
            .pid_file(pid_file(&home))
            .startup_timeout(Duration::from_secs(10))
            .foreground(foreground);
        if !foreground {
            let log = File::options()
                .create(true)
                .append(true)
                .open(home.join("log"))?;
            daemonize = daemonize.stdout(log.try_clone()?).stderr(log);
        }
        // If this closure fails, `start` prints the error and fails.
        let address_file = home.join("address");
        let daemonize = daemonize.initialize(move |()| -> io::Result<_> {
            let listener = TcpListener::bind("127.0.0.1:0")?;
            let address = listener.local_addr()?.to_string();
            // For `status`, which never sees a part of it.
            let new = address_file.with_extension("new");
            fs::write(&new, &address)?;
            fs::rename(new, address_file)?;
            Ok((listener, address))
        });

        let (listener, address) = daemonize
            .ready_payload(|(_listener, address)| address.clone())
            .on_started(move |daemon| {
                let address = daemon.payload.escape_ascii();
                println!("listening on {address}, pid {}", daemon.daemon_pid);
                println!("log and pid file are in {}", home.display());
            })
            .start_checked()?;
        println!("{} serving on {address}", now());
        serve(&listener);
        Ok(ExitCode::SUCCESS)
    }

    pub(super) fn stop() -> Result<ExitCode> {
        let was_running = PidFile::at(pid_file(&home()?)).stop(Duration::from_secs(10))?;
        println!(
            "{}",
            if was_running {
                "stopped"
            } else {
                "was not running"
            }
        );
        Ok(ExitCode::SUCCESS)
    }

    pub(super) fn status() -> Result<ExitCode> {
        let home = home()?;
        let Some(pid) = PidFile::at(pid_file(&home)).running()? else {
            println!("not running");
            return Ok(ExitCode::from(NOT_RUNNING));
        };
        let address = fs::read_to_string(home.join("address"))?;
        println!("listening on {address}, pid {pid}");
        Ok(ExitCode::SUCCESS)
    }

    fn serve(listener: &TcpListener) {
        for client in listener.incoming() {
            let answered = client.and_then(|mut client| {
                writeln!(client, "{} from pid {}", now(), std::process::id())
            });
            if let Err(error) = answered {
                eprintln!("{} a client was lost: {error}", now());
            }
        }
    }

    fn pid_file(home: &Path) -> PathBuf {
        home.join("service.pid")
    }

    /// A directory in a place that is this user's alone, never one that all
    /// users share: who makes it first there could plant links in it. systemd
    /// makes one if a unit says `RuntimeDirectory=`.
    fn home() -> io::Result<PathBuf> {
        let variable = |name| std::env::var_os(name).map(PathBuf::from);
        let home = variable("RUNTIME_DIRECTORY")
            .or_else(|| Some(variable("XDG_RUNTIME_DIR")?.join("daemonize2-service")))
            .or_else(|| Some(variable("HOME")?.join(".daemonize2-service")))
            .ok_or_else(|| io::Error::other("neither XDG_RUNTIME_DIR nor HOME is set"))?;
        match DirBuilder::new().mode(0o700).create(&home) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            _ => fs::canonicalize(home),
        }
    }

    /// The time of day in UTC.
    fn now() -> String {
        let seconds = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_secs());
        let (hours, minutes) = (seconds / 3600 % 24, seconds / 60 % 60);
        format!("{hours:02}:{minutes:02}:{:02} UTC", seconds % 60)
    }
}

#[cfg(unix)]
fn main() -> std::process::ExitCode {
    use std::process::ExitCode;

    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match arguments[..] {
        ["start"] => service::start(daemonize2::supervised()),
        ["start", "--background"] => service::start(false),
        ["run"] => service::start(true),
        ["stop"] => service::stop(),
        ["status"] => service::status(),
        ["restart"] => service::stop().and_then(|_| service::start(false)),
        _ => {
            eprintln!("usage: service start [--background]|stop|restart|status|run");
            return ExitCode::from(2);
        }
    };
    result.unwrap_or_else(|error| {
        eprintln!("service: {error}");
        ExitCode::FAILURE
    })
}

#[cfg(not(unix))]
fn main() {
    eprintln!("There are no SysV daemons here.");
}
