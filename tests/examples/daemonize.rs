//! The examples `daemonize` and `tokio_spawn` do what their documentation says.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use daemonize2::PidFile;
use tempfile::TempDir;
use tester::case;
use tester::suite::{Case, example};

pub(crate) const CASES: &[Case] = &[
    case!(any_program_is_started_and_stopped, needs Examples),
    case!(a_relative_pid_file_is_the_same_for_each_action, needs Examples),
    case!(a_program_that_cannot_be_executed_leaves_nothing, needs Examples),
    case!(a_process_that_a_pid_file_only_names_is_not_stopped, needs Examples),
    case!(a_program_with_an_async_main_becomes_a_daemon, needs Examples),
];

/// The example, with a pid file in a directory of its own.
struct Daemonize(TempDir);

impl Daemonize {
    fn new() -> Self {
        Self(TempDir::with_prefix("daemonize-").unwrap())
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("daemon.pid")
    }

    /// The exit code and the output of an action.
    #[track_caller]
    fn act(&self, action: &str, program: &[&str]) -> (i32, String) {
        self.act_on(&self.path(), action, program)
    }

    /// The same from the directory of the pid file.
    #[track_caller]
    fn act_on(&self, pid_file: &Path, action: &str, program: &[&str]) -> (i32, String) {
        let mut command = Command::new(example("daemonize").unwrap());
        command.arg(action).arg(pid_file).args(program);
        command.current_dir(self.0.path());
        let output = command.stdin(Stdio::null()).output().unwrap();
        let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
        (output.status.code().expect("an exit code"), text.concat())
    }
}

impl Drop for Daemonize {
    fn drop(&mut self) {
        let _ = PidFile::at(self.path()).stop_group(Duration::ZERO);
    }
}

const SLEEP: [&str; 3] = ["--", "sleep", "1000"];

/// The daemon has another working directory.
fn a_relative_pid_file_is_the_same_for_each_action() {
    let example = Daemonize::new();
    let act = |action, program: &[&str]| example.act_on("daemon.pid".as_ref(), action, program).0;
    assert_eq!(act("start", &SLEEP), 0);
    assert!(example.path().exists());
    assert_eq!(act("status", &[]), 0);
    assert_eq!(act("stop", &[]), 0);
    assert_eq!(act("status", &[]), 3);
}

fn any_program_is_started_and_stopped() {
    let example = Daemonize::new();
    let done = (0, String::new());
    let stopped = (3, "not running\n".to_owned());
    assert_eq!(example.act("status", &[]), stopped);
    assert_eq!(example.act("start", &SLEEP), done);
    let running = || PidFile::at(example.path()).running().unwrap().unwrap();
    let first = running();
    let text = format!("running as process {first}\n");
    assert_eq!(example.act("status", &[]), (0, text));
    // The program is running already.
    let (code, text) = example.act("start", &SLEEP);
    assert_eq!(code, 0);
    assert!(
        text.ends_with(&format!("held by running daemon {first}\n")),
        "{text}"
    );
    assert_eq!(running(), first);
    assert_eq!(example.act("restart", &SLEEP), done);
    assert_ne!(running(), first);
    assert_eq!(example.act("stop", &[]), done);
    assert_eq!(example.act("status", &[]), stopped);
}

fn a_program_that_cannot_be_executed_leaves_nothing() {
    let example = Daemonize::new();
    let (code, text) = example.act("start", &["--", "/no/such/program"]);
    let reason = std::io::Error::from_raw_os_error(libc::ENOENT);
    let expected = format!("daemonize: cannot execute /no/such/program: {reason}\n");
    assert_eq!((code, text), (5, expected));
    assert_eq!(example.act("status", &[]).0, 3);
}

fn a_process_that_a_pid_file_only_names_is_not_stopped() {
    let example = Daemonize::new();
    let mut stranger = Command::new("sleep").arg("1000").spawn().unwrap();
    std::fs::write(example.path(), format!("{}\n", stranger.id())).unwrap();
    let stopped = example.act("stop", &[]);
    let is_running = stranger.try_wait().unwrap().is_none();
    stranger.kill().unwrap();
    stranger.wait().unwrap();
    assert!(is_running && stopped.0 == 0, "{stopped:?}");
}

fn a_program_with_an_async_main_becomes_a_daemon() {
    let daemon = Daemonize::new();
    let mut command = Command::new(example("tokio_spawn").unwrap());
    command
        .arg("--daemon")
        .arg(daemon.path())
        .stdin(Stdio::null());
    let output = command.output().unwrap();
    let pid = PidFile::at(daemon.path()).running().unwrap();
    let expected = format!("started {}\n", pid.expect("it runs"));
    assert_eq!(String::from_utf8(output.stdout).unwrap(), expected);
    assert!(output.status.success() && output.stderr.is_empty());
}
