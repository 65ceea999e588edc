//! Measures starts of daemons: from the call to the end of the launcher, and as a whole process.
//!
//! ```text
//! cargo run --release --manifest-path benches/Cargo.toml [-- RUNS]
//! ```
//!
//! The pid files are in a directory of `TMPDIR`, which should name a tmpfs, as /run is.
//!
//! The starts take turns, so that the state of the machine is the same for all. Each daemon lives
//! until its launcher has ended. The ratios are to the supervised start in C (`floors.c`), which
//! does what every start with the same promises has to do.

mod peers;

use std::error::Error;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use std::{env, fs};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const FLOORS: [&str; 4] = ["plain", "pipe", "supervised", "shared"];
const REFERENCE: &str = "supervised";
const PEERS: [&str; 6] = [
    "daemonize2",
    "closing",
    "daemonize2-0.7.0",
    "daemonize-0.5",
    "daemonix-0.1",
    "fork-0.11",
];

/// The state of the launcher before the start.
const SETTINGS: [Setting; 4] = [
    Setting::new(0, 20, 1),
    Setting::new(0, 15_000, 4),
    Setting::new(64, 20, 2),
    Setting::new(1024, 20, 20),
];

struct Setting {
    /// MiB of memory that the launcher has written to.
    heap: usize,
    descriptors: usize,
    /// The number of runs is divided by this.
    divisor: usize,
}

impl Setting {
    const fn new(heap: usize, descriptors: usize, divisor: usize) -> Self {
        Self {
            heap,
            descriptors,
            divisor,
        }
    }
}

fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match arguments.as_slice() {
        [word, name, heap, descriptors, pid_file, rendezvous] if word == "launcher" => {
            let (heap, descriptors) = (heap.parse()?, descriptors.parse()?);
            be_launcher(name, heap, descriptors, pid_file.as_ref(), rendezvous)
        }
        [] | [_] => measure_all(&arguments),
        _ => Err("usage: benches [RUNS]".into()),
    }
}

fn measure_all(arguments: &[String]) -> Result<()> {
    if env::var_os("BENCHES_LIMIT").is_none() {
        let script = "ulimit -n 16384 && exec \"$0\" \"$@\"";
        let mut again = Command::new("sh");
        again.args(["-c", script]).arg(env::current_exe()?);
        return Err(again
            .args(arguments)
            .env("BENCHES_LIMIT", "1")
            .exec()
            .into());
    }
    let runs = arguments.first().map_or(Ok(200), |runs| runs.parse())?;
    let directory = env::temp_dir().join(format!("benches-{}", std::process::id()));
    fs::create_dir(&directory)?;
    let result = SETTINGS
        .iter()
        .try_for_each(|setting| print_table(&directory, setting, runs));
    fs::remove_dir_all(&directory)?;
    result
}

/// Times of one start.
#[derive(Default)]
struct Times {
    start: Vec<Duration>,
    process: Vec<Duration>,
}

fn print_table(directory: &Path, setting: &Setting, runs: usize) -> Result<()> {
    let runs = (runs / setting.divisor).max(3);
    let names: Vec<_> = FLOORS.into_iter().chain(PEERS).collect();
    let mut times: Vec<Times> = names.iter().map(|_| Times::default()).collect();
    let rendezvous = directory.join("rendezvous");
    let listener = UnixListener::bind(&rendezvous)?;
    for _ in 0..runs {
        for (name, times) in names.iter().zip(&mut times) {
            let (start, process) = measure(name, setting, directory, &listener)?;
            times.start.push(start);
            times.process.push(process);
        }
    }
    fs::remove_file(rendezvous)?;
    let Setting {
        heap, descriptors, ..
    } = setting;
    println!("\n{heap} MiB of heap, {descriptors} descriptors, medians of {runs}\n");
    println!("| start | ms | ratio | with exec, ms | ratio |");
    println!("|---|---|---|---|---|");
    let medians: Vec<_> = times.iter_mut().map(Times::medians).collect();
    let reference = names.iter().position(|&name| name == REFERENCE);
    let reference = medians[reference.ok_or("no reference")?];
    for (name, median) in names.iter().zip(medians) {
        let [start, process] = [median.0, median.1].map(|time| time.as_secs_f64() * 1000.0);
        let start_ratio = median.0.div_duration_f64(reference.0);
        let process_ratio = median.1.div_duration_f64(reference.1);
        println!("| {name} | {start:.3} | {start_ratio:.2} | {process:.3} | {process_ratio:.2} |");
    }
    Ok(())
}

impl Times {
    fn medians(&mut self) -> (Duration, Duration) {
        let median = |times: &mut Vec<Duration>| {
            times.sort_unstable();
            times[times.len() / 2]
        };
        (median(&mut self.start), median(&mut self.process))
    }
}

fn measure(
    name: &str,
    setting: &Setting,
    directory: &Path,
    listener: &UnixListener,
) -> Result<(Duration, Duration)> {
    // One for each kind of start, and gone before the next: a daemon that is about to end may
    // hold its lock for an instant longer.
    let pid_file = directory.join(name);
    let _ = fs::remove_file(&pid_file);
    let rendezvous = directory.join("rendezvous");
    let mut launcher = if FLOORS.contains(&name) {
        Command::new(env!("FLOORS"))
    } else {
        let mut command = Command::new(env::current_exe()?);
        command.arg("launcher");
        command
    };
    launcher
        .arg(name)
        .args([setting.heap, setting.descriptors].map(|number| number.to_string()))
        .args([pid_file, rendezvous])
        .stdout(Stdio::piped());
    let begin = Instant::now();
    let mut launcher = launcher.spawn()?;
    let status = launcher.wait()?;
    let (ended, process) = (SystemTime::now(), begin.elapsed());
    if !status.success() {
        return Err(format!("{name}: the launcher ended with {status}").into());
    }
    let mut text = [0; 20];
    launcher
        .stdout
        .take()
        .ok_or("no standard output")?
        .read_exact(&mut text)?;
    let called = Duration::from_nanos(std::str::from_utf8(&text)?.trim_end().parse()?);
    let start = ended.duration_since(UNIX_EPOCH)?.saturating_sub(called);
    let (mut daemon, _) = listener.accept()?;
    daemon.shutdown(std::net::Shutdown::Write)?;
    // The daemon and its heap are gone before the next start.
    daemon.read_to_end(&mut Vec::new())?;
    Ok((start, process))
}

fn be_launcher(
    name: &str,
    heap: usize,
    descriptors: usize,
    pid_file: &Path,
    rendezvous: &str,
) -> Result<()> {
    let heap = vec![1_u8; heap << 20];
    let files: Vec<File> = (0..descriptors)
        .map(|_| File::open("/dev/null"))
        .collect::<std::io::Result<_>>()?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
    let text = format!("{:019}\n", now.as_nanos());
    std::io::stdout().write_all(text.as_bytes())?;
    peers::start(name, pid_file)?;
    let mut bench = UnixStream::connect(rendezvous)?;
    bench.read_to_end(&mut Vec::new())?;
    std::mem::forget((files, heap));
    Ok(())
}
