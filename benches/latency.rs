//! How long it takes from the daemon's `ready()` to the end of the launcher,
//! and how long a whole start takes. Run by hand: `cargo bench --bench latency`.

#[cfg(unix)]
mod latency {
    use std::error::Error;
    use std::io::{Read as _, Write as _};
    use std::process::{Command, Stdio};
    use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

    const ROLE: &str = "DAEMONIZE2_BENCH_LAUNCHER";
    const RUNS: usize = 200;

    pub(super) fn main() -> Result<(), Box<dyn Error>> {
        if std::env::var_os(ROLE).is_some() {
            return be_launcher();
        }
        let (mut to_exit, mut whole) = (Vec::new(), Vec::new());
        for _ in 0..RUNS {
            let begin = Instant::now();
            let mut launcher = Command::new(std::env::current_exe()?)
                .env(ROLE, "1")
                .stdout(Stdio::piped())
                .spawn()?;
            let status = launcher.wait()?;
            let ended = SystemTime::now().duration_since(UNIX_EPOCH)?;
            whole.push(begin.elapsed());
            if !status.success() {
                return Err(format!("the launcher ended with {status}").into());
            }
            let mut said_ready_at = [0; 16];
            let mut stdout = launcher.stdout.take().ok_or("no standard output")?;
            stdout.read_exact(&mut said_ready_at)?;
            let ready = Duration::from_nanos(u128::from_ne_bytes(said_ready_at).try_into()?);
            to_exit.push(ended.saturating_sub(ready));
        }
        show("ready() to the launcher's end", &mut to_exit);
        show("a whole start, with exec", &mut whole);
        Ok(())
    }

    fn be_launcher() -> Result<(), Box<dyn Error>> {
        let ((), readiness) = daemonize2::Daemonize::new()
            .stdout(daemonize2::Stdio::keep())
            .deferred_readiness()
            .start_checked()?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
        std::io::stdout().write_all(&now.as_nanos().to_ne_bytes())?;
        readiness.ready()?;
        Ok(())
    }

    fn show(what: &str, times: &mut [Duration]) {
        times.sort_unstable();
        let (fastest, median, slowest) = (times[0], times[times.len() / 2], times[times.len() - 1]);
        println!(
            "{what}: median {median:?} of {} (from {fastest:?} to {slowest:?})",
            times.len()
        );
    }
}

#[cfg(unix)]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    latency::main()
}

#[cfg(not(unix))]
fn main() {
    eprintln!("There are no SysV daemons here.");
}
