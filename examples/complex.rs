//! Every option of the builder, which takes root:
//!
//! ```sh
//! sudo cargo run --example complex
//! ```

#[cfg(unix)]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    use std::fs::{self, File};
    use std::io::Write as _;
    use std::net::TcpListener;
    use std::os::fd::OwnedFd;

    use daemonize2::{Daemonize, Outcome, Stdio};

    let home = std::env::temp_dir().join("daemonize2-complex");
    fs::create_dir_all(&home)?;
    let log = File::create(home.join("log"))?;
    let errors: OwnedFd = log.try_clone()?.into();

    let daemonize = Daemonize::new()
        // Resolved before the root directory changes, like the pid file, which
        // starts at the working directory.
        .working_directory(&home)
        .pid_file("daemon.pid")
        .chown_pid_file_user("nobody")
        .chown_pid_file_group(0)
        // What has to happen as root: the port is a privileged one.
        .privileged_action(|| TcpListener::bind("127.0.0.1:907"))
        .chroot(".")
        // By name or by number.
        .user("nobody")
        .group(1)
        .umask(0o077)
        // A file, a descriptor, `Stdio::devnull()`, or `Stdio::keep()`.
        .stdin(Stdio::devnull())
        .stdout(log)
        .stderr(errors);

    match daemonize.execute_checked() {
        Outcome::Parent(Ok(parent)) => {
            println!("daemon {} runs in {}", parent.daemon_pid, home.display());
            Ok(())
        }
        Outcome::Parent(Err(error)) => Err(error.into()),
        // The launcher has told the user; there is nothing to add here.
        Outcome::Child(Err(_)) => std::process::exit(1),
        Outcome::Child(Ok(child)) => {
            let listener = child.privileged_action_result?;
            println!("in {:?}", std::env::current_dir()?);
            let (mut client, _) = listener.accept()?;
            writeln!(client, "goodbye from {}", std::process::id())?;
            Ok(())
        }
    }
}

#[cfg(not(unix))]
fn main() {
    eprintln!("There are no SysV daemons here.");
}
