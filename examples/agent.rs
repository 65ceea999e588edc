//! An agent of a user: its client starts it on demand. Of several clients that find no agent, one
//! starts it, and all others wait until it is ready.
//!
//! ```text
//! $ cargo run --example agent -- ~/.agent
//! agent 4242
//! $ cargo run --example agent -- ~/.agent stop
//! ```

#[cfg(unix)]
mod agent {
    use std::error::Error;
    use std::io::{Read as _, Write as _};
    use std::os::unix::net::{UnixListener, UnixStream};
    use std::path::Path;
    use std::time::Duration;
    use std::{fs, process};

    use daemonize2::{Daemonize, Directory, ErrorKind, Outcome, PidFile};

    const PATIENCE: Duration = Duration::from_secs(10);

    pub(super) fn run(directory: &Path, is_stop: bool) -> Result<(), Box<dyn Error>> {
        let directory = std::path::absolute(directory)?;
        if is_stop {
            PidFile::at(directory.join("pid")).stop(PATIENCE)?;
            return Ok(());
        }
        let mut answer = String::new();
        connect(&directory)?.read_to_string(&mut answer)?;
        print!("{answer}");
        Ok(())
    }

    fn connect(directory: &Path) -> Result<UnixStream, Box<dyn Error>> {
        let (socket, path) = (directory.join("socket"), directory.join("pid"));
        let pid_file = PidFile::at(&path);
        while pid_file.wait_ready(PATIENCE)?.is_none() {
            let outcome = Daemonize::new()
                .directory(Directory::at(directory).mode(0o700))
                .pid_file(&path)
                .working_directory("/")
                .startup_timeout(PATIENCE)
                .execute_checked_with(|()| {
                    // An agent that was killed leaves its socket.
                    let _ = fs::remove_file(&socket);
                    UnixListener::bind(&socket)
                });
            match outcome {
                Outcome::Parent(Ok(_)) => break,
                // Another client has started the agent meanwhile.
                Outcome::Parent(Err(error))
                    if matches!(error.kind(), ErrorKind::LockPidfile(_)) => {}
                Outcome::Parent(Err(error)) => return Err(error.into()),
                Outcome::Child(Ok(child)) => serve(child.value()),
                // The client returns the error.
                Outcome::Child(Err(_)) => process::exit(1),
            }
        }
        Ok(UnixStream::connect(&socket)?)
    }

    fn serve(listener: &UnixListener) -> ! {
        for client in listener.incoming() {
            // A client that is gone is no failure of the agent.
            let _ = client.and_then(|mut client| writeln!(client, "agent {}", process::id()));
        }
        process::exit(1)
    }
}

#[cfg(unix)]
fn main() -> std::process::ExitCode {
    use std::process::ExitCode;

    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let result = match arguments.as_slice() {
        [directory] => agent::run(directory.as_ref(), false),
        [directory, stop] if stop == "stop" => agent::run(directory.as_ref(), true),
        _ => Err("usage: agent DIRECTORY [stop]".into()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("agent: {error}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(not(unix))]
fn main() {
    eprintln!("There are no SysV daemons here.");
}
