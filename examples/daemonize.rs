//! Starts any program as a daemon, and controls it by its pid file: `start`, `stop`, `status` and
//! `restart`, with the exit codes of the Linux Standard Base. Unlike start-stop-daemon(8), daemon(8)
//! and daemonize(1), `start` fails if the program cannot be executed, and `stop` signals no process
//! but the one that has locked the pid file.
//!
//! ```sh
//! cargo run --example daemonize -- start /tmp/clock.pid -- sleep 1000
//! cargo run --example daemonize -- stop /tmp/clock.pid    # also status
//! ```
//!
//! Options precede the action: `--user USER`, `--directory DIRECTORY`, `--log FILE`.

#[cfg(unix)]
mod daemonize {
    use std::ffi::OsString;
    use std::io;
    use std::path::PathBuf;
    use std::time::Duration;

    use daemonize2::{Daemonize, PidFile, Program, Stdio};

    const PATIENCE: Duration = Duration::from_secs(10);
    const USAGE: &str = "usage: daemonize [--user USER] [--directory DIRECTORY] [--log FILE] \
                         start|stop|status|restart PID-FILE [-- PROGRAM ARGUMENT...]";

    pub(super) fn act(arguments: impl Iterator<Item = OsString>) -> u8 {
        let Some(command) = Command::parse(arguments) else {
            eprintln!("{USAGE}");
            return 2;
        };
        let pid_file = PidFile::at(&command.pid_file);
        let stop = || code_of(pid_file.stop_group(PATIENCE).map(|_| 0));
        match (&*command.action, &command.program) {
            ("start", Some(program)) => command.start(program),
            ("stop", None) => stop(),
            ("restart", Some(program)) => match stop() {
                0 => command.start(program),
                failed => failed,
            },
            ("status", None) => match pid_file.status() {
                Ok(status) => {
                    println!("{status}");
                    status.lsb_exit_code()
                }
                Err(error) => {
                    eprintln!("daemonize: {error}");
                    4
                }
            },
            _ => {
                eprintln!("{USAGE}");
                2
            }
        }
    }

    struct Command {
        action: String,
        pid_file: PathBuf,
        program: Option<Program>,
        user: Option<String>,
        directory: PathBuf,
        log: Option<PathBuf>,
    }

    impl Command {
        fn parse(mut arguments: impl Iterator<Item = OsString>) -> Option<Self> {
            let (mut user, mut directory, mut log) = (None, PathBuf::from("/"), None);
            let action = loop {
                let argument = arguments.next()?.into_string().ok()?;
                match &*argument {
                    "--user" => user = Some(arguments.next()?.into_string().ok()?),
                    "--directory" => directory = arguments.next()?.into(),
                    "--log" => log = Some(arguments.next()?.into()),
                    _ => break argument,
                }
            };
            // The daemon has another working directory.
            let pid_file = std::path::absolute(PathBuf::from(arguments.next()?)).ok()?;
            let program = match arguments.next() {
                Some(separator) if separator == "--" => {
                    Some(Program::new(arguments.next()?).args(arguments))
                }
                Some(_) => return None,
                None => None,
            };
            Some(Self {
                action,
                pid_file,
                program,
                user,
                directory,
                log,
            })
        }

        fn start(&self, program: &Program) -> u8 {
            let mut daemonize = Daemonize::new()
                .pid_file(&self.pid_file)
                .working_directory(&self.directory)
                .reset_signals();
            if let Some(user) = &self.user {
                daemonize = daemonize.user(user.as_str()).user_environment();
            }
            if let Some(log) = &self.log {
                daemonize = daemonize
                    .stdout(Stdio::append(log))
                    .stderr(Stdio::append(log));
            }
            #[expect(unsafe_code, reason = "the daemon has no value of this program")]
            // SAFETY: no value of this program is used in the daemon, which executes another one.
            let daemonize = unsafe { daemonize.close_inherited_fds(&[]) };
            match daemonize.spawn(program.clone()) {
                Ok(_) => 0,
                Err(error) => {
                    eprintln!("daemonize: {error}");
                    error.lsb_exit_code()
                }
            }
        }
    }

    fn code_of(result: io::Result<u8>) -> u8 {
        result.unwrap_or_else(|error| {
            eprintln!("daemonize: {error}");
            match error.kind() {
                io::ErrorKind::PermissionDenied => 4,
                _ => 1,
            }
        })
    }
}

#[cfg(unix)]
fn main() -> std::process::ExitCode {
    daemonize::act(std::env::args_os().skip(1)).into()
}

#[cfg(not(unix))]
fn main() {
    eprintln!("There are no SysV daemons here.");
}
