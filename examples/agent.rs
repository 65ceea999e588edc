//! A password agent of a user. Its client starts it on demand: of several clients that find no
//! agent, one starts it, and all others wait until it is ready.
//!
//! ```text
//! $ cargo run --example agent -- ~/.agent put bank < secret
//! $ cargo run --example agent -- ~/.agent get bank
//! $ cargo run --example agent -- ~/.agent stop
//! ```
//!
//! The agent keeps its secrets in memory alone, so that they end with it. This memory is locked: the
//! kernel does not write it to the swap space. The agent leaves no core file, and on Linux no other
//! process of the user can read its memory, but root can. Other users cannot reach the socket,
//! because the directory is private.

#[cfg(unix)]
mod agent {
    use std::collections::HashMap;
    use std::error::Error;
    use std::ffi::OsString;
    use std::fs;
    use std::hint;
    use std::io::{self, Read, Write as _};
    use std::net::Shutdown;
    use std::os::unix::net::{UnixListener, UnixStream};
    use std::path::Path;
    use std::process;
    use std::time::Duration;

    use daemonize2::{Daemonize, Directory, ErrorKind, Outcome, PidFile};
    use rustix::mm::mlock;
    use rustix::process::{Resource, Rlimit, setrlimit};

    type Result<T> = std::result::Result<T, Box<dyn Error>>;

    const PATIENCE: Duration = Duration::from_secs(10);
    /// A client that sends no complete request holds up the others.
    const CLIENT_TIMEOUT: Duration = Duration::from_secs(1);

    pub(super) fn run(arguments: &[OsString]) -> Result<()> {
        let usage = "usage: agent DIRECTORY put NAME | get NAME | stop";
        let [directory, action, name @ ..] = arguments else {
            return Err(usage.into());
        };
        let directory = std::path::absolute(directory)?;
        let name = name.first().and_then(|name| name.to_str());
        match (action.to_str(), name) {
            (Some("stop"), None) => {
                PidFile::at(directory.join("pid")).stop(PATIENCE)?;
                Ok(())
            }
            (Some("put"), Some(name)) => {
                let mut secret = Vec::new();
                io::stdin().read_to_end(&mut secret)?;
                let answer = ask(&directory, &[b"p", name.as_bytes(), b"\0", &secret])?;
                match answer.is_empty() {
                    true => Ok(()),
                    false => Err(String::from_utf8_lossy(&answer).into()),
                }
            }
            (Some("get"), Some(name)) => {
                let answer = ask(&directory, &[b"g", name.as_bytes(), b"\0"])?;
                if answer.is_empty() {
                    return Err(format!("the agent has no secret {name}").into());
                }
                Ok(io::stdout().write_all(&answer)?)
            }
            _ => Err(usage.into()),
        }
    }

    fn ask(directory: &Path, request: &[&[u8]]) -> Result<Vec<u8>> {
        let mut agent = connect(directory)?;
        agent.write_all(&request.concat())?;
        agent.shutdown(Shutdown::Write)?;
        let mut answer = Vec::new();
        agent.read_to_end(&mut answer)?;
        Ok(answer)
    }

    fn connect(directory: &Path) -> Result<UnixStream> {
        let (socket, path) = (directory.join("socket"), directory.join("pid"));
        let pid_file = PidFile::at(&path);
        while pid_file.wait_ready(PATIENCE)?.is_none() {
            let outcome = Daemonize::new()
                .directory(Directory::at(directory).mode(0o700))
                .pid_file(&path)
                .working_directory("/")
                .startup_timeout(PATIENCE)
                .execute_checked_with(|()| {
                    forbid_to_read_memory()?;
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

    /// In the daemon: the client may be a program that is to leave a core file.
    fn forbid_to_read_memory() -> io::Result<()> {
        let none = Rlimit {
            current: Some(0),
            maximum: Some(0),
        };
        setrlimit(Resource::Core, none)?;
        #[cfg(target_os = "linux")]
        {
            use rustix::process::{DumpableBehavior, set_dumpable_behavior};
            set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
        }
        Ok(())
    }

    fn serve(listener: &UnixListener) -> ! {
        let mut secrets = HashMap::new();
        for client in listener.incoming() {
            // A client that is gone is no failure of the agent.
            let _ = client.and_then(|client| answer(client, &mut secrets));
        }
        process::exit(1)
    }

    fn answer(mut client: UnixStream, secrets: &mut HashMap<Vec<u8>, Secret>) -> io::Result<()> {
        client.set_read_timeout(Some(CLIENT_TIMEOUT))?;
        client.set_write_timeout(Some(CLIENT_TIMEOUT))?;
        let (mut action, mut name) = ([0], Vec::new());
        client.read_exact(&mut action)?;
        // Byte by byte, so that no buffer gets a part of the secret.
        loop {
            let mut byte = [0];
            client.read_exact(&mut byte)?;
            match byte {
                [0] => break,
                [byte] => name.push(byte),
            }
        }
        match (action, secrets.get(&name)) {
            ([b'p'], _) => match Secret::read(&client) {
                Ok(secret) => drop(secrets.insert(name, secret)),
                Err(error) => write!(client, "the agent cannot keep the secret: {error}")?,
            },
            (_, Some(secret)) => client.write_all(secret.bytes())?,
            (_, None) => {}
        }
        Ok(())
    }

    /// A page of its own, which is locked in memory.
    struct Secret(Box<Page>, usize);

    #[repr(align(4096))]
    struct Page([u8; 4096]);

    impl Secret {
        /// Locks the memory before the secret is in it. A lock does not survive a fork(2): the
        /// daemon has to take it.
        fn read(mut client: &UnixStream) -> io::Result<Self> {
            let mut secret = Self(Box::new(Page([0; 4096])), 0);
            let page = &mut *secret.0;
            #[expect(
                unsafe_code,
                reason = "rustix has no safe function for a part of the memory"
            )]
            // SAFETY: the memory is that of the page, which is mapped.
            unsafe { mlock((&raw mut *page).cast(), size_of::<Page>()) }?;
            loop {
                match client.read(&mut page.0[secret.1..])? {
                    0 if secret.1 == page.0.len() => {
                        return Err(io::Error::other("it is longer than 4095 bytes"));
                    }
                    0 => return Ok(secret),
                    count => secret.1 += count,
                }
            }
        }

        fn bytes(&self) -> &[u8] {
            &self.0.0[..self.1]
        }
    }

    impl Drop for Secret {
        fn drop(&mut self) {
            self.0.0.fill(0);
            // Otherwise the compiler may leave out a write that no code reads.
            hint::black_box(&self.0.0);
        }
    }
}

#[cfg(unix)]
fn main() -> std::process::ExitCode {
    use std::process::ExitCode;

    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    match agent::run(&arguments) {
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
