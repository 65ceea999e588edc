//! An async server. Its runtime is made in the daemon, in `initialize`: the threads
//! of a runtime do not survive fork(2), so that `start_checked` refuses a launcher
//! that has some. A runtime of a single thread has an event queue that fork(2) shares:
//! `execute_checked`, after which both processes go on, refuses that, too.
//!
//! ```sh
//! cargo run --example tokio -- ~/tokio.pid    # then: kill $(cat ~/tokio.pid)
//! ```
//!
//! The launcher prints the address.

#[cfg(unix)]
fn main() -> std::process::ExitCode {
    use std::process::ExitCode;

    // Not as the result of `main`, which prints it as Debug does.
    run().map_or_else(
        |error| {
            eprintln!("{error}");
            ExitCode::FAILURE
        },
        |()| ExitCode::SUCCESS,
    )
}

#[cfg(unix)]
fn run() -> Result<(), Box<dyn std::error::Error>> {
    use std::io;

    use tokio::io::AsyncWriteExt as _;
    use tokio::net::TcpListener;
    use tokio::runtime::Runtime;
    use tokio::signal::unix::{SignalKind, signal};

    let pid_file = std::env::args().nth(1).ok_or("usage: PID-FILE")?;
    let (runtime, listener) = daemonize2::Daemonize::new()
        .pid_file(pid_file)
        .foreground(daemonize2::supervised())
        .on_started(|daemon| println!("listening on {}", daemon.payload.escape_ascii()))
        .initialize(|()| -> io::Result<_> {
            let runtime = Runtime::new()?;
            let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0"))?;
            Ok((runtime, listener))
        })
        .ready_payload(|(_, listener)| match listener.local_addr() {
            Ok(address) => address.to_string(),
            Err(error) => error.to_string(),
        })
        .start_checked()?;
    let _removed_at_exit = daemonize2::PidFileGuard::take();

    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        loop {
            tokio::select! {
                _ = terminate.recv() => return Ok(()),
                client = listener.accept() => {
                    let (mut client, _) = client?;
                    tokio::spawn(async move {
                        let answer = format!("hello from {}\n", std::process::id());
                        let _ = client.write_all(answer.as_bytes()).await;
                    });
                }
            }
        }
    })
}

#[cfg(not(unix))]
fn main() {
    eprintln!("There are no SysV daemons here.");
}
