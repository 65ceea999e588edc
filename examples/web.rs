//! A web server with axum and tracing: it binds its port, drops its privileges, prints its address,
//! and writes log files that logrotate(8) may rename.
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

    use axum::Router;
    use axum::http::{Method, Uri};
    use daemonize2::{Daemonize, Directory, Stdio};
    use tokio::net::TcpListener;
    use tokio::runtime::Runtime;
    use tokio::signal::unix::{Signal, SignalKind, signal};
    use tracing::{error, info};

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
                // Standard output is the log file, also after it has been reopened.
                let log = tracing_subscriber::fmt();
                log.with_ansi(false).with_target(false).init();
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

        async fn serve(self) -> io::Result<()> {
            let Self {
                listener,
                mut rotation,
                mut end,
            } = self;
            tokio::spawn(async move {
                while rotation.recv().await.is_some() {
                    if let Err(error) = daemonize2::reopen_logs() {
                        error!("{error}");
                    }
                }
            });
            let router = Router::new().fallback(answer);
            axum::serve(listener, router)
                .with_graceful_shutdown(async move {
                    end.recv().await;
                })
                .await
        }
    }

    async fn answer(method: Method, uri: Uri) -> String {
        info!(%method, %uri, "request");
        format!("hello from process {}\n", process::id())
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
