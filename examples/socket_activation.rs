//! A server that systemd starts when the first client connects: it serves on the socket of a socket
//! unit, notifies the watchdog, and reports a reload and its end. It runs under `Type=notify` in the
//! foreground, and under `Type=forking` with `--background`: see examples/systemd.
//!
//! Without systemd, `systemd-socket-activate` passes a socket:
//!
//! ```sh
//! cargo build --example socket_activation
//! systemd-socket-activate -l 7007 target/debug/examples/socket_activation ~/activated.pid
//! ```

#[cfg(unix)]
mod server {
    use std::env;
    use std::error::Error;
    use std::io;
    use std::os::fd::FromRawFd as _;
    use std::os::unix::net::UnixDatagram;
    use std::time::Duration;

    use daemonize2::Daemonize;
    use tokio::io::AsyncWriteExt as _;
    use tokio::net::TcpListener;
    use tokio::runtime::Runtime;
    use tokio::signal::unix::{SignalKind, signal};

    pub(super) fn run() -> Result<(), Box<dyn Error>> {
        let mut arguments = env::args().skip(1);
        let pid_file = arguments.next().ok_or("usage: PID-FILE [--background]")?;
        let is_background = arguments.next().as_deref() == Some("--background");
        let (runtime, listener) = Daemonize::new()
            .pid_file(pid_file)
            .foreground(!is_background && daemonize2::supervised())
            .socket_activation()
            .initialize(|()| -> io::Result<_> {
                let runtime = Runtime::new()?;
                let listener = runtime.block_on(async { TcpListener::from_std(socket()?) })?;
                Ok((runtime, listener))
            })
            .start_checked()?;
        let _removed_at_exit = daemonize2::PidFileGuard::take();
        Ok(runtime.block_on(serve(listener))?)
    }

    async fn serve(listener: TcpListener) -> io::Result<()> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut reload = signal(SignalKind::hangup())?;
        let mut watchdog = tokio::time::interval(watchdog_interval());
        loop {
            tokio::select! {
                _ = watchdog.tick() => notify("WATCHDOG=1"),
                _ = reload.recv() => {
                    notify("RELOADING=1");
                    notify("READY=1\nSTATUS=reloaded");
                }
                _ = terminate.recv() => {
                    notify("STOPPING=1\nSTATUS=stopping");
                    return Ok(());
                }
                client = listener.accept() => {
                    let (mut client, _) = client?;
                    let answer = format!("hello from pid {}\n", std::process::id());
                    let _ = client.write_all(answer.as_bytes()).await;
                }
            }
        }
    }

    fn is_own(variable: &str) -> bool {
        env::var(variable).ok() == Some(std::process::id().to_string())
    }

    /// The only socket that systemd has passed to this process, as sd_listen_fds(3) finds it.
    #[expect(unsafe_code, reason = "a number becomes a socket")]
    fn socket() -> io::Result<std::net::TcpListener> {
        if !is_own("LISTEN_PID") || env::var("LISTEN_FDS").as_deref() != Ok("1") {
            return Err(io::Error::other("systemd has not passed one socket"));
        }
        // SAFETY: the variables say that descriptor 3 belongs to this process, and nothing else in
        // it uses the descriptor.
        let socket = unsafe { std::net::TcpListener::from_raw_fd(3) };
        socket.set_nonblocking(true)?;
        Ok(socket)
    }

    /// Half the time after which the watchdog ends this process, as sd_watchdog_enabled(3) finds it.
    fn watchdog_interval() -> Duration {
        let limit = env::var("WATCHDOG_USEC").ok();
        let limit = limit.filter(|_| is_own("WATCHDOG_PID"));
        let limit = limit.and_then(|micros| micros.parse().ok());
        limit.map_or(Duration::from_secs(3600), |micros: u64| {
            Duration::from_micros((micros / 2).max(1))
        })
    }

    /// sd_notify(3).
    fn notify(state: &str) {
        let Some(address) = env::var_os("NOTIFY_SOCKET") else {
            return;
        };
        let sent =
            UnixDatagram::unbound().and_then(|socket| socket.send_to(state.as_bytes(), address));
        if let Err(error) = sent {
            eprintln!("cannot notify systemd: {error}");
        }
    }
}

#[cfg(unix)]
fn main() -> std::process::ExitCode {
    use std::process::ExitCode;

    server::run().map_or_else(
        |error| {
            eprintln!("{error}");
            ExitCode::FAILURE
        },
        |()| ExitCode::SUCCESS,
    )
}

#[cfg(not(unix))]
fn main() {
    eprintln!("There are no SysV daemons here.");
}
