//! The program of the README: a server that binds its port, drops its privileges, writes a pid
//! file and a log, and prints its address.
//!
//! ```text
//! # cargo run --example clockd -- 127.0.0.1:37 nobody
//! listening on 127.0.0.1:37
//! ```
//!
//! Without root, leave the user out, and take a port above 1023.

#[cfg(unix)]
fn main() {
    clockd::main();
}

#[cfg(unix)]
mod clockd {
    use std::error::Error;
    use std::io::{self, Write as _};
    use std::net::{SocketAddr, TcpListener, TcpStream};
    use std::time::SystemTime;

    use daemonize2::{Daemonize, Directory, Stdio};

    pub(super) fn main() {
        // In the launcher this prints, for example,
        // clockd: cannot lock pid file /run/clockd/clockd.pid: held by running daemon 4242
        if let Err(error) = run() {
            eprintln!("clockd: {error}");
            std::process::exit(1);
        }
    }

    fn run() -> Result<(), Box<dyn Error>> {
        let mut arguments = std::env::args().skip(1);
        let address = arguments.next().ok_or("usage: clockd ADDRESS [USER]")?;
        let runtime = Directory::runtime("clockd"); // /run/clockd for root
        let logs = Directory::logs("clockd"); // /var/log/clockd for root
        let log = logs.path()?.join("clockd.log");
        let mut daemonize = Daemonize::new()
            .pid_file(runtime.path()?.join("clockd.pid"))
            .stdout(Stdio::append(&log))
            .stderr(Stdio::append(&log))
            .directory(runtime)
            .directory(logs)
            .working_directory("/")
            .on_started(|daemon| println!("listening on {}", daemon.payload.escape_ascii()));
        if let Some(user) = arguments.next() {
            daemonize = daemonize.user(user);
        }
        let (listener, address) = daemonize
            // The daemon still has the privileges of the launcher here.
            .try_privileged_action(move || listen(&address))
            .ready_payload(|(_listener, address)| address.to_string())
            .start_checked()?;
        // Only the daemon gets here, as its user. The launcher has exited with status 0.
        println!("serving on {address}");
        for client in listener.incoming() {
            if let Err(error) = client.and_then(answer) {
                eprintln!("a client was lost: {error}");
            }
        }
        Ok(())
    }

    fn listen(address: &str) -> Result<(TcpListener, SocketAddr), String> {
        TcpListener::bind(address)
            .and_then(|listener| listener.local_addr().map(|address| (listener, address)))
            .map_err(|error| format!("cannot listen on {address}: {error}"))
    }

    fn answer(mut client: TcpStream) -> io::Result<()> {
        println!("client {}", client.peer_addr()?);
        writeln!(client, "{:?}", SystemTime::now())
    }
}

#[cfg(not(unix))]
fn main() {
    eprintln!("There are no SysV daemons here.");
}
