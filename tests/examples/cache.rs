use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::Instant;

use daemonize2::{PidFile, Status};
use tempfile::TempDir;
use tester::slowness::time_limit;
use tester::suite::{Case, example};
use tester::sys::ProcessHandle;
use tester::{case, sys};

pub(crate) const CASES: &[Case] = &[
    case!(of_ten_compilers_one_starts_the_cache, needs Examples),
    case!(a_cache_executes_a_command_once_for_each_input, needs Examples),
    case!(a_cache_does_not_keep_a_failure, needs Examples),
    case!(an_idle_cache_ends_and_is_started_again, needs Examples),
    case!(no_client_is_lost_while_the_cache_ends_again_and_again, needs Examples),
    case!(every_client_of_a_cache_that_cannot_start_says_why, needs Examples),
];

/// The place of a cache, and the number of seconds after which it ends. Dropping this stops it.
struct Home(TempDir, &'static str);

impl Home {
    fn new(idle: &'static str) -> Self {
        Self(TempDir::with_prefix("cache-").unwrap(), idle)
    }

    /// The directory of the runtime is that of the system for root, whatever the variable is.
    fn cache(&self) -> PathBuf {
        match sys::effective_user() {
            0 => self.0.path().join("of root"),
            _ => self.0.path().join("daemonize2-cache"),
        }
    }

    fn pid_file(&self) -> PidFile {
        PidFile::at(self.cache().join("pid"))
    }

    fn client(&self, arguments: &[&str], input: &str) -> Child {
        let mut command = Command::new(example("cache").unwrap());
        command.args(arguments);
        command.env("XDG_RUNTIME_DIR", self.0.path());
        command.env_remove("CACHE_DIRECTORY");
        if sys::effective_user() == 0 {
            command.env("CACHE_DIRECTORY", self.cache());
        }
        command.env("CACHE_IDLE_SECONDS", self.1);
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut client = command.stderr(Stdio::piped()).spawn().unwrap();
        let _ = client.stdin.take().unwrap().write_all(input.as_bytes());
        client
    }

    /// Counts its executions in a file, and copies its input.
    fn compile(&self, input: &str) -> Child {
        let runs = self.0.path().join("runs").display().to_string();
        let script = r#"echo run >> "$1"; cat; echo warning >&2"#;
        self.client(&["sh", "-c", script, "sh", &runs], input)
    }

    fn runs(&self) -> usize {
        let runs = fs::read_to_string(self.0.path().join("runs")).unwrap();
        runs.lines().count()
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let _ = self.pid_file().stop(time_limit());
    }
}

#[track_caller]
fn assert_compiles(client: Child, output: &str) {
    let found = client.wait_with_output().unwrap();
    let messages = String::from_utf8_lossy(&found.stderr);
    assert_eq!(messages, "warning\n");
    assert!(found.status.success());
    assert_eq!(String::from_utf8_lossy(&found.stdout), output);
}

fn wait(client: Child) -> (Option<i32>, String) {
    let Output { status, stderr, .. } = client.wait_with_output().unwrap();
    (status.code(), String::from_utf8(stderr).unwrap())
}

fn of_ten_compilers_one_starts_the_cache() {
    for _ in 0..5 {
        let home = Home::new("600");
        let clients: Vec<_> = (0..10).map(|_| home.compile("source")).collect();
        for client in clients {
            assert_compiles(client, "source");
        }
        // A second server would have executed the command again.
        assert_eq!(home.runs(), 1);
        let pid = home.pid_file().running().unwrap().expect("a server");
        let status = home.client(&["--status"], "").wait_with_output().unwrap();
        let text = format!("running as process {pid}\n");
        assert_eq!(String::from_utf8(status.stdout).unwrap(), text);
    }
}

fn a_cache_executes_a_command_once_for_each_input() {
    let home = Home::new("600");
    // More than a pipe holds.
    let long = "line\n".repeat(100_000);
    for _ in 0..2 {
        for input in ["", "one", &long] {
            assert_compiles(home.compile(input), input);
        }
    }
    assert_eq!(home.runs(), 3);
    let output = home.client(&["--stop"], "").wait_with_output().unwrap();
    assert!(output.status.success());
    assert_eq!(home.pid_file().status().unwrap(), Status::NotRunning);
}

fn a_cache_does_not_keep_a_failure() {
    let home = Home::new("600");
    let missing = home.0.path().join("compiler");
    let compiler = missing.display().to_string();
    let (code, text) = wait(home.client(&[&compiler], ""));
    assert_eq!(code, Some(127));
    assert!(text.starts_with("cache: cannot execute"), "{text}");
    let script = format!("test -e {compiler} && exit 0; echo none >&2; exit 3");
    let fails = || home.client(&["sh", "-c", &script], "");
    assert_eq!(wait(fails()), (Some(3), "none\n".to_owned()));
    fs::write(missing, "").unwrap();
    assert_eq!(wait(fails()), (Some(0), String::new()));
}

fn an_idle_cache_ends_and_is_started_again() {
    let home = Home::new("1");
    assert_compiles(home.compile("one"), "one");
    if let Ok(Some(pid)) = home.pid_file().running() {
        if let Some(server) = ProcessHandle::open(pid).unwrap() {
            assert!(server.wait(Instant::now() + time_limit()).unwrap());
        }
    }
    assert!(!home.cache().join("pid").exists());
    assert_compiles(home.compile("one"), "one");
    assert_eq!(home.runs(), 2);
}

fn no_client_is_lost_while_the_cache_ends_again_and_again() {
    let home = Home::new("0");
    for number in 0..30 {
        let input = number.to_string();
        let clients = [home.compile(&input), home.compile(&input)];
        for client in clients {
            assert_compiles(client, &input);
        }
    }
}

fn every_client_of_a_cache_that_cannot_start_says_why() {
    let home = Home::new("600");
    // The socket cannot replace a directory.
    fs::create_dir_all(home.cache().join("socket/full")).unwrap();
    tester::fixtures::set_mode(&home.cache(), 0o700);
    let clients: Vec<_> = (0..5).map(|_| home.compile("one")).collect();
    for client in clients {
        let (code, text) = wait(client);
        assert_eq!(code, Some(1));
        let start = "cache: the initialization failed: Address already in use";
        assert!(text.starts_with(start), "{text}");
    }
    assert_eq!(home.pid_file().running().unwrap(), None);
}
