//! A web server: it binds its port, drops its privileges, prints its address, and writes log files
//! that logrotate(8) may rename.
//!
//! ```text
//! # cargo run --example web -- /srv/web 127.0.0.1:80 nobody
//! listening on 127.0.0.1:80
//! # curl 127.0.0.1
//! hello from process 4242
//! # mv /srv/web/log/access.log /srv/web/log/access.log.1; kill -HUP 4242
//! ```
//!
//! Without root, leave the user out, and take a port above 1023.

#[cfg(unix)]
mod web {
    use std::error::Error;
    use std::path::Path;
    use std::time::Duration;
    use std::{io, process};

    use daemonize2::{Daemonize, Directory, Stdio};
    use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
    use tokio::net::{TcpListener, TcpStream};
    use tokio::runtime::Runtime;
    use tokio::signal::unix::{Signal, SignalKind, signal};

    struct Server {
        listener: TcpListener,
        rotation: Signal,
        end: Signal,
    }

    pub(super) fn run(
        home: &Path,
        address: String,
        user: Option<String>,
    ) -> Result<(), Box<dyn Error>> {
        let home = std::path::absolute(home)?;
        let runtime_directory = Directory::at(home.join("run"));
        let logs = Directory::at(home.join("log")).mode(0o750);
        let log = |name| Ok::<_, daemonize2::Error>(Stdio::append(logs.path()?.join(name)));
        let mut daemonize = Daemonize::new()
            .pid_file(runtime_directory.path()?.join("web.pid"))
            .working_directory("/")
            .stdout(log("access.log")?)
            // Warnings of the start reach the terminal.
            .stderr(Stdio::keep_until_ready(log("error.log")?))
            .directory(runtime_directory)
            .directory(logs)
            .user_environment()
            .startup_timeout(Duration::from_secs(10))
            .on_started(|daemon| println!("listening on {}", daemon.payload.escape_ascii()));
        if let Some(user) = user {
            daemonize = daemonize.user(user);
        }
        let (runtime, server) = daemonize
            .try_privileged_action(|| std::net::TcpListener::bind(address))
            .initialize(|listener| -> io::Result<_> {
                let runtime = Runtime::new()?;
                let server = runtime.block_on(async { Server::new(listener) })?;
                Ok((runtime, server))
            })
            .ready_payload(|(_, server)| match server.listener.local_addr() {
                Ok(address) => address.to_string(),
                Err(error) => error.to_string(),
            })
            .start_checked()?;
        runtime.block_on(server.serve())?;
        Ok(())
    }

    impl Server {
        fn new(listener: std::net::TcpListener) -> io::Result<Self> {
            listener.set_nonblocking(true)?;
            Ok(Self {
                listener: TcpListener::from_std(listener)?,
                rotation: signal(SignalKind::hangup())?,
                end: signal(SignalKind::terminate())?,
            })
        }

        async fn serve(mut self) -> io::Result<()> {
            loop {
                tokio::select! {
                    client = self.listener.accept() => {
                        tokio::spawn(answer(client?.0));
                    }
                    _ = self.rotation.recv() => {
                        if let Err(error) = daemonize2::reopen_logs() {
                            eprintln!("web: {error}");
                        }
                    }
                    _ = self.end.recv() => return Ok(()),
                }
            }
        }
    }

    /// A client that is gone is no failure of the server.
    async fn answer(client: TcpStream) -> io::Result<()> {
        let mut client = BufReader::new(client);
        let mut request = String::new();
        client.read_line(&mut request).await?;
        let mut header = String::new();
        while client.read_line(&mut header).await? > 2 {
            header.clear();
        }
        let text = format!("hello from process {}\n", process::id());
        let length = text.len();
        let answer = format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{text}"
        );
        // One line for each request, before the client has its answer.
        println!("{}", request.trim_end().escape_default());
        client.write_all(answer.as_bytes()).await
    }
}

#[cfg(unix)]
fn main() -> std::process::ExitCode {
    use std::process::ExitCode;

    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let result = match arguments.as_slice() {
        [home, address] => web::run(home.as_ref(), address.clone(), None),
        [home, address, user] => web::run(home.as_ref(), address.clone(), Some(user.clone())),
        _ => Err("usage: web DIRECTORY ADDRESS [USER]".into()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("web: {error}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(not(unix))]
fn main() {
    eprintln!("There are no SysV daemons here.");
}
