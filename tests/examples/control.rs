//! The example `control` does what its documentation says.

use std::fs::{self, File};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use daemonize2::PidFile;
use tempfile::TempDir;
use tester::case;
use tester::slowness::time_limit;
use tester::suite::{Case, example};
use tester::sys::{self, ProcessHandle};

pub(crate) const CASES: &[Case] = &[
    case!(the_actions_of_an_init_script_have_the_exit_codes_of_the_standard, needs Examples),
    case!(a_start_that_cannot_succeed_has_the_exit_code_of_the_standard, needs Examples),
    case!(an_init_script_has_all_actions_of_the_standard, needs Examples),
];

/// The example `control`, with a pid file in a directory of its own.
struct Control {
    directory: TempDir,
}

impl Control {
    fn new() -> Self {
        let directory = TempDir::with_prefix("control-").unwrap();
        Self { directory }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("control.pid")
    }

    /// The exit code and the standard output of an action.
    #[track_caller]
    fn act(&self, action: &str) -> (i32, String) {
        let mut command = Command::new(example("control").unwrap());
        command.arg(action).arg(self.path()).stdin(Stdio::null());
        let output = command.output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        (output.status.code().expect("an exit code"), text)
    }

    /// The pid of the running daemon.
    #[track_caller]
    fn pid(&self) -> u32 {
        let (code, text) = self.act("status");
        assert_eq!(code, 0, "{text}");
        let pid = text.strip_prefix("running as process ").expect("it runs");
        pid.trim().parse().unwrap()
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        let _ = PidFile::at(self.path()).stop_group(Duration::ZERO);
    }
}

fn the_actions_of_an_init_script_have_the_exit_codes_of_the_standard() {
    let control = Control::new();
    let done = (0, String::new());
    let stopped = (3, "not running\n".to_owned());
    assert_eq!(control.act("status"), stopped);
    assert_eq!(control.act("stop"), done);
    assert_eq!(control.act("reload").0, 7);
    assert_eq!(control.act("start"), done);
    let pid = control.pid();
    // The service is running already.
    assert_eq!(control.act("start"), done);
    assert_eq!(control.pid(), pid);

    assert_eq!(control.act("reload"), done);
    let reloads = control.path().with_extension("reloads");
    let deadline = Instant::now() + time_limit();
    // No event announces that the daemon has reloaded.
    while fs::read_to_string(&reloads).unwrap_or_default() != "1\n" {
        assert!(Instant::now() < deadline, "not reloaded");
    }
    assert_eq!(control.act("restart"), done);
    let restarted = control.pid();
    assert_ne!(restarted, pid);

    let daemon = ProcessHandle::open(restarted).unwrap().expect("it runs");
    daemon.kill(libc::SIGKILL).unwrap();
    assert!(daemon.wait(deadline).unwrap());
    let (code, text) = control.act("status");
    assert_eq!(code, 1);
    let left = format!("not running; process {restarted} has left its pid file\n");
    assert_eq!(text, left);
    assert_eq!(control.act("restart"), done);
    control.pid();
    assert_eq!(control.act("stop"), done);
    assert_eq!(control.act("status"), stopped);
    assert_eq!(control.act("frobnicate").0, 2);
}

fn a_start_that_cannot_succeed_has_the_exit_code_of_the_standard() {
    let control = Control::new();
    let file = File::create(control.path()).unwrap();
    sys::flock(file.as_fd(), libc::LOCK_EX).unwrap();
    // The daemon that is starting may fail.
    assert_eq!(control.act("start").0, 1);
    let starting = (4, "starting\n".to_owned());
    assert_eq!(control.act("status"), starting);
    sys::flock(file.as_fd(), libc::LOCK_UN).unwrap();
    fs::remove_file(control.path()).unwrap();
    fs::create_dir(control.path()).unwrap();
    assert_eq!(control.act("start").0, 1);
    assert_eq!(control.act("status").0, 4);
    fs::remove_dir_all(control.directory.path()).unwrap();
    assert_eq!(control.act("start").0, 6);
}

fn an_init_script_has_all_actions_of_the_standard() {
    let control = Control::new();
    let text = include_str!("../../examples/sysv/control");
    let headers = [
        "### BEGIN INIT INFO",
        "# Provides:",
        "# Required-Start:",
        "# Required-Stop:",
        "# Default-Start:",
        "# Default-Stop:",
        "# Short-Description:",
        "### END INIT INFO",
    ];
    let mut lines = text.lines();
    for header in headers {
        assert!(lines.any(|line| line.starts_with(header)), "no {header}");
    }

    let program = example("control").unwrap();
    let script = control.directory.path().join("script");
    let installed = |program: &Path| {
        text.replace("/usr/local/bin/control", program.to_str().unwrap())
            .replace("/run/control.pid", control.path().to_str().unwrap())
    };
    let act = |action: &str| {
        let mut command = Command::new("/bin/sh");
        command.arg(&script).arg(action);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command.stderr(Stdio::null()).status().unwrap().code()
    };

    fs::write(
        &script,
        installed(&control.directory.path().join("missing")),
    )
    .unwrap();
    assert_eq!(act("start"), Some(5));
    fs::write(&script, installed(&program)).unwrap();
    assert_eq!(act("status"), Some(3));
    assert_eq!(act("try-restart"), Some(0));
    assert_eq!(act("status"), Some(3));
    assert_eq!(act("reload"), Some(7));
    assert_eq!(act("start"), Some(0));
    let first = control.pid();
    assert_eq!(act("start"), Some(0));
    assert_eq!(act("force-reload"), Some(0));
    assert_eq!(control.pid(), first);
    assert_eq!(act("try-restart"), Some(0));
    let second = control.pid();
    assert_ne!(second, first);
    assert_eq!(act("restart"), Some(0));
    assert_ne!(control.pid(), second);
    assert_eq!(act("stop"), Some(0));
    assert_eq!(act("force-reload"), Some(0));
    assert_eq!(act("status"), Some(0));
    assert_eq!(act("wrong"), Some(2));
}
