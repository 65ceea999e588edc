//! An async server whose `main` is `#[tokio::main]`. With `--daemon` it executes itself again as a
//! daemon: its runtime has threads by then, so that it could not fork as it is.
//!
//! ```sh
//! cargo run --example tokio_spawn -- --daemon ~/spawn.pid    # then: kill $(cat ~/spawn.pid)
//! ```
//!
//! The daemon prints nothing; `ss -ltnp` shows its port.

#[cfg(unix)]
#[tokio::main]
async fn main() -> std::process::ExitCode {
    use std::process::ExitCode;

    // Not as the result of `main`, which prints it as Debug does.
    run().await.map_or_else(
        |error| {
            eprintln!("{error}");
            ExitCode::FAILURE
        },
        |()| ExitCode::SUCCESS,
    )
}

#[cfg(unix)]
type Failure = Box<dyn std::error::Error + Send + Sync>;

#[cfg(unix)]
async fn run() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    match (arguments.next().as_deref(), arguments.next()) {
        (Some("--daemon"), Some(pid_file)) => {
            // The start waits for the daemon, and must not block the runtime.
            let started = tokio::task::spawn_blocking(|| start(pid_file)).await??;
            println!("started {}", started.daemon_pid);
            Ok(())
        }
        (None, None) => Ok(serve().await?),
        _ => Err("usage: [--daemon PID-FILE]".into()),
    }
}

#[cfg(unix)]
fn start(pid_file: String) -> Result<daemonize2::Parent, Failure> {
    let program = daemonize2::Program::new(std::env::current_exe()?);
    let started = daemonize2::Daemonize::new()
        .pid_file(pid_file)
        .reset_signals()
        .spawn(program)?;
    Ok(started)
}

#[cfg(unix)]
async fn serve() -> std::io::Result<()> {
    use tokio::io::AsyncWriteExt as _;
    use tokio::net::TcpListener;

    let listener = TcpListener::bind("127.0.0.1:0").await?;
    loop {
        let (mut client, _) = listener.accept().await?;
        tokio::spawn(async move {
            let answer = format!("hello from {}\n", std::process::id());
            let _ = client.write_all(answer.as_bytes()).await;
        });
    }
}

#[cfg(not(unix))]
fn main() {
    eprintln!("There are no SysV daemons here.");
}
