//! A small real daemon: a server on a loopback port that answers every client
//! with the time and its pid.
//!
//! ```sh
//! cargo run --example service -- start
//! ```
//!
//! It keeps its pid file and its log in a directory of its own that an
//! ordinary user may make. A second start names the running daemon.

#[cfg(unix)]
mod service {
    use std::error::Error;
    use std::fs::{self, DirBuilder, File};
    use std::io::{self, Write as _};
    use std::net::TcpListener;
    use std::os::unix::fs::DirBuilderExt as _;
    use std::path::PathBuf;
    use std::time::{SystemTime, UNIX_EPOCH};

    use daemonize2::{Daemonize, Outcome};

    pub(super) fn start() -> Result<(), Box<dyn Error>> {
        let home = home()?;
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let log = File::options()
            .create(true)
            .append(true)
            .open(home.join("log"))?;

        let daemonize = Daemonize::new()
            .working_directory(&home)
            .pid_file(home.join("service.pid"))
            .stdout(log.try_clone()?)
            .stderr(log);

        match daemonize.execute_checked() {
            Outcome::Parent(Ok(parent)) => {
                println!("listening on {address}, pid {}", parent.daemon_pid);
                println!("log and pid file are in {}", home.display());
                Ok(())
            }
            Outcome::Parent(Err(error)) => Err(error.into()),
            Outcome::Child(Ok(_)) => serve(&listener),
            // The launcher has told the user; there is nothing to add here.
            Outcome::Child(Err(_)) => std::process::exit(1),
        }
    }

    fn serve(listener: &TcpListener) -> Result<(), Box<dyn Error>> {
        println!("serving on {}", listener.local_addr()?);
        for client in listener.incoming() {
            let answered = client.and_then(|mut client| {
                writeln!(client, "{} from pid {}", now(), std::process::id())
            });
            if let Err(error) = answered {
                eprintln!("{} a client was lost: {error}", now());
            }
        }
        Ok(())
    }

    /// A directory that is this user's own.
    fn home() -> io::Result<PathBuf> {
        let parent =
            std::env::var_os("XDG_RUNTIME_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
        let home = parent.join("daemonize2-service");
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

    let command = std::env::args().nth(1);
    let result = match command.as_deref() {
        Some("start") => service::start(),
        _ => {
            eprintln!("usage: service start");
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("service: {error}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(not(unix))]
fn main() {
    eprintln!("There are no SysV daemons here.");
}
