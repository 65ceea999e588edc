//! Every option of the builder, which takes root:
//!
//! ```sh
//! sudo cargo run --example complex    # then: nc 127.0.0.1 907
//! ```
//!
//! It ends when it has served one client. Its files are in
//! `/var/run/daemonize2-complex`.

#[cfg(unix)]
fn main() -> std::process::ExitCode {
    complex::run().unwrap_or_else(|error| {
        eprintln!("complex: {error}");
        std::process::ExitCode::FAILURE
    })
}

#[cfg(unix)]
mod complex {
    use std::error::Error;
    use std::fs::{self, File};
    use std::io::{self, Write as _};
    use std::net::TcpListener;
    use std::os::fd::OwnedFd;
    use std::path::Path;
    use std::process::ExitCode;
    use std::time::Duration;

    use daemonize2::{Daemonize, Outcome, PidFileGuard, Stdio};

    pub(super) fn run() -> Result<ExitCode, Box<dyn Error>> {
        // Where only root can write, so that nobody can plant anything.
        let home = Path::new("/var/run/daemonize2-complex");
        match fs::create_dir(home) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error.into()),
            _ => {}
        }
        let log = File::options()
            .create(true)
            .append(true)
            .open(home.join("log"))?;
        let errors: OwnedFd = log.try_clone()?.into();
        let foreground = daemonize2::supervised();

        let daemonize = Daemonize::new()
            // Under a service manager that wants it so.
            .foreground(foreground)
            .startup_timeout(Duration::from_secs(10))
            // Resolved before the root directory changes, like the pid file,
            // which starts at the working directory.
            .working_directory(home)
            .pid_file("daemon.pid")
            .chown_pid_file_user("nobody")
            .chown_pid_file_group(0)
            // What has to happen as root: the port is a privileged one. (The
            // plain `privileged_action` cannot fail.)
            .try_privileged_action(|| TcpListener::bind("127.0.0.1:907"))
            .chroot(".")
            // By name or by number.
            .user("nobody")
            .group(1)
            .umask(0o077)
            // A file, a descriptor, `Stdio::devnull()`, or `Stdio::keep()`.
            .stdin(Stdio::devnull())
            .stdout(log)
            .stderr(errors)
            // In the jail, and as nobody.
            .initialize(|listener| -> io::Result<_> {
                println!("listening on {}", listener.local_addr()?);
                Ok(listener)
            })
            .deferred_readiness();

        match daemonize.execute_checked() {
            Outcome::Parent(Ok(parent)) => {
                println!("daemon {} runs in {}", parent.daemon_pid, home.display());
                Ok(ExitCode::SUCCESS)
            }
            Outcome::Child(Ok(child)) => {
                let (listener, readiness) = child.privileged_action_result;
                readiness.ready()?;
                let _emptied_at_exit = PidFileGuard::take();
                let (mut client, _) = listener.accept()?;
                writeln!(client, "goodbye from {}", std::process::id())?;
                Ok(ExitCode::SUCCESS)
            }
            // The launcher tells the user.
            Outcome::Child(Err(_)) if !foreground => Ok(ExitCode::FAILURE),
            Outcome::Parent(Err(error)) | Outcome::Child(Err(error)) => Err(error.into()),
        }
    }
}

#[cfg(not(unix))]
fn main() {
    eprintln!("There are no SysV daemons here.");
}
