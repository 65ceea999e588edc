//! What it costs to close inherited descriptors, by the limit and by how many
//! are open. Run by hand: `cargo bench --bench descriptors`.
//!
//! Starts with and without the option take turns, so that the machine's moods
//! meet both.

#[cfg(unix)]
mod descriptors {
    use std::error::Error;
    use std::fs::File;
    use std::process::Command;
    use std::time::{Duration, Instant};

    use daemonize2::{Daemonize, Outcome};

    const ROLE: &str = "DAEMONIZE2_BENCH_OPEN";
    const RUNS: usize = 200;

    pub(super) fn main() -> Result<(), Box<dyn Error>> {
        if let Some(open) = std::env::var_os(ROLE) {
            let open = open.to_str().ok_or("not a number")?.parse()?;
            return measure(open);
        }
        let highest = shell("ulimit -Hn", 0)?;
        let highest = highest.trim();
        println!("RLIMIT_NOFILE, open: median start without, with; difference");
        for open in [20, 15_000] {
            for limit in ["1024", "4096", "16384", highest] {
                let may_open = limit.parse().map_or(true, |limit: usize| limit > open + 50);
                if may_open {
                    let script = format!("ulimit -n {limit} && exec \"$0\"");
                    print!("{limit}, {open}: {}", shell(&script, open)?);
                }
            }
        }
        Ok(())
    }

    fn shell(script: &str, open: usize) -> Result<String, Box<dyn Error>> {
        let output = Command::new("sh")
            .args(["-c", script])
            .arg(std::env::current_exe()?)
            .env(ROLE, open.to_string())
            .output()?;
        if !output.status.success() {
            let text = String::from_utf8_lossy(&output.stderr);
            return Err(format!("{script}: {text}").into());
        }
        Ok(String::from_utf8(output.stdout)?)
    }

    /// Under a limit that the shell has set.
    fn measure(open: usize) -> Result<(), Box<dyn Error>> {
        let _open: Vec<File> = (0..open)
            .map(|_| File::open("/dev/null"))
            .collect::<Result<_, _>>()?;
        let (mut without, mut with) = (Vec::new(), Vec::new());
        for _ in 0..RUNS {
            without.push(start(Daemonize::new())?);
            with.push(start(closing())?);
        }
        let (without, with) = (median(&mut without), median(&mut with));
        println!("{without:?}, {with:?}; {:?}", Difference(without, with));
        Ok(())
    }

    #[expect(unsafe_code, reason = "what is measured")]
    fn closing() -> Daemonize<()> {
        // SAFETY: the daemon exits at once, and drops nothing.
        unsafe { Daemonize::new().close_inherited_fds(&[]) }
    }

    fn start(daemonize: Daemonize<()>) -> Result<Duration, Box<dyn Error>> {
        let begin = Instant::now();
        match daemonize.execute_checked() {
            Outcome::Parent(started) => started?,
            Outcome::Child(_) => std::process::exit(0),
        };
        Ok(begin.elapsed())
    }

    fn median(times: &mut [Duration]) -> Duration {
        times.sort_unstable();
        times[times.len() / 2]
    }

    struct Difference(Duration, Duration);

    impl std::fmt::Debug for Difference {
        fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            let Self(without, with) = self;
            if with >= without {
                write!(formatter, "+{:?}", *with - *without)
            } else {
                write!(formatter, "-{:?}", *without - *with)
            }
        }
    }
}

#[cfg(unix)]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    descriptors::main()
}

#[cfg(not(unix))]
fn main() {
    eprintln!("There are no SysV daemons here.");
}
