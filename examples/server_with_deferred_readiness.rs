//! A server in the manner of Cloudflare's Pingora: it binds as root, becomes
//! another user, starts its threads, and only then knows whether it serves.
//!
//! Pingora's own start does this with a signal to the launcher, a timer, a
//! pid file that is polled, and a call of initgroups(3) in between. What is
//! left of that here is between the two marks.
//!
//! ```sh
//! cargo run --example server_with_deferred_readiness -- ~/server.pid
//! ```
//!
//! The launcher prints the address. `kill $(cat ~/server.pid)` ends the server.

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
    use std::io::Write as _;
    use std::net::TcpListener;
    use std::thread;
    use std::time::Duration;

    let pid_file = std::env::args().nth(1).ok_or("usage: PID-FILE [USER]")?;
    let mut daemonize = daemonize2::Daemonize::new();
    if let Some(user) = std::env::args().nth(2) {
        daemonize = daemonize.user(&*user);
    }

    // --- from here
    let (listener, readiness) = daemonize
        .pid_file(pid_file)
        .startup_timeout(Duration::from_secs(60))
        .on_started(|daemon| println!("listening on {}", daemon.payload.escape_ascii()))
        .try_privileged_action(|| TcpListener::bind("127.0.0.1:0"))
        .deferred_readiness()
        .start_checked()?;
    // --- to here, and one line below

    let address = listener.local_addr()?.to_string();
    let workers: Vec<_> = (0..2)
        .map(|_| listener.try_clone())
        .collect::<Result<Vec<_>, _>>()
        .unwrap_or_else(|error| readiness_failed(&error))
        .into_iter()
        .map(|listener| {
            thread::spawn(move || {
                for mut client in listener.incoming().flatten() {
                    let _ = writeln!(client, "hello from {}", std::process::id());
                }
            })
        })
        .collect();

    readiness.ready_with(address)?; // the launcher exits with 0 now, and not before

    for worker in workers {
        let _ = worker.join();
    }
    Ok(())
}

/// Dropping the readiness, as this unwinds, tells the launcher why.
#[cfg(unix)]
fn readiness_failed<T>(error: &std::io::Error) -> T {
    panic!("cannot share the listener: {error}")
}

#[cfg(not(unix))]
fn main() {
    eprintln!("There are no SysV daemons here.");
}
