//! The example `service` does what its documentation says.

use std::fs;
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use assert_cmd::assert::OutputAssertExt as _;
use daemonize2::{PidFile, Signal};
use tempfile::TempDir;
use tester::case;
use tester::slowness::time_limit;
use tester::suite::{Case, example};
use tester::sys::ProcessHandle;

pub(crate) const CASES: &[Case] = &[
    case!(a_service_starts_answers_and_stops, needs Examples),
    case!(a_second_service_is_refused, needs Examples),
    case!(a_service_is_restarted, needs Examples),
    case!(a_service_runs_in_the_foreground, needs Examples),
    case!(a_supervised_service_stays_in_the_foreground, needs Examples),
    case!(a_service_in_the_foreground_of_a_script_has_no_group_of_its_own, needs Examples),
    case!(a_zombie_does_not_count_as_a_member_of_a_group, needs Examples, Linux),
    case!(an_unknown_command_is_refused, needs Examples),
    case!(a_service_in_another_pid_namespace_is_stopped_by_its_pid_in_this_namespace, needs Examples, Root, Linux, Mounting),
];

/// The example, with a home directory of its own. Dropping this stops the service.
struct Service {
    home: TempDir,
}

impl Service {
    fn new() -> Self {
        let home = TempDir::with_prefix("service-").unwrap();
        Self { home }
    }

    fn command(&self, argument: &str) -> Command {
        let mut command = Command::new(example("service").unwrap());
        command
            .arg(argument)
            .stdin(Stdio::null())
            .env("XDG_RUNTIME_DIR", self.home.path())
            .env_remove("RUNTIME_DIRECTORY")
            .env_remove("NOTIFY_SOCKET")
            .env_remove("SYSTEMD_EXEC_PID");
        command
    }

    fn run(&self, argument: &str) -> Output {
        self.command(argument).output().unwrap()
    }

    /// Starts the service, and returns its address and pid.
    #[track_caller]
    fn start(&self) -> (String, u32) {
        let output = self.run("start");
        output.clone().assert().success().stderr("");
        address_and_pid(&output)
    }

    #[track_caller]
    fn assert_not_running(&self) {
        self.run("status").assert().code(3).stdout("not running\n");
    }

    /// Waits until a service that is started in the foreground is running.
    #[track_caller]
    fn await_running(&self) {
        let deadline = Instant::now() + time_limit();
        // No event announces that the service runs.
        while self.run("status").status.code() != Some(0) {
            assert!(Instant::now() < deadline, "not running");
        }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.run("stop");
    }
}

/// Parses `listening on 127.0.0.1:4242, pid 4242`.
#[track_caller]
fn address_and_pid(output: &Output) -> (String, u32) {
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    let line = text.lines().next().expect("a line");
    let (address, pid) = line
        .strip_prefix("listening on ")
        .and_then(|rest| rest.split_once(", pid "))
        .unwrap_or_else(|| panic!("{line}"));
    (address.to_owned(), pid.parse().unwrap())
}

fn answer(address: &str) -> String {
    let mut text = String::new();
    let mut stream = TcpStream::connect(address).unwrap();
    stream.read_to_string(&mut text).unwrap();
    text
}

/// The host of a container sees the container's service like this.
fn a_service_in_another_pid_namespace_is_stopped_by_its_pid_in_this_namespace() {
    let service = Service::new();
    let start = service.command("start");
    let mut namespace = Command::new("unshare");
    // The shell is the first process of the namespace, which ends with the shell.
    namespace
        .args(["--pid", "--fork", "sh", "-c", "\"$0\" start && read line"])
        .arg(start.get_program())
        .envs(
            start
                .get_envs()
                .filter_map(|(name, value)| Some((name, value?))),
        )
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    let mut namespace = namespace.spawn().unwrap();
    let [mut line, mut second] = [const { String::new() }; 2];
    let mut stdout = BufReader::new(namespace.stdout.as_mut().unwrap());
    stdout.read_line(&mut line).unwrap();
    stdout.read_line(&mut second).unwrap();
    let (_, inside) = line
        .trim()
        .split_once(", pid ")
        .expect("an address and a pid");
    let (_, home) = second.trim().split_once(" are in ").expect("a directory");
    let path = Path::new(home).join("service.pid");
    let content = fs::read_to_string(&path).unwrap();
    assert_eq!(content.trim(), inside);
    let pid_file = PidFile::at(&path);
    let outside = pid_file.running().unwrap().expect("it runs");
    assert_ne!(outside.to_string(), inside);
    assert!(pid_file.stop(time_limit()).unwrap());
    assert_eq!(pid_file.running().unwrap(), None);
    drop(namespace.stdin.take());
    namespace.wait().unwrap();
}

#[track_caller]
fn assert_answers(address: &str, pid: u32) {
    let text = answer(address);
    assert!(text.ends_with(&format!(" from pid {pid}\n")), "{text}");
}

fn a_service_starts_answers_and_stops() {
    let service = Service::new();
    service.assert_not_running();
    let (address, pid) = service.start();
    let daemon = ProcessHandle::open(pid).unwrap().expect("it runs");
    assert_answers(&address, pid);
    let status = service.run("status");
    status.clone().assert().success();
    assert_eq!(address_and_pid(&status), (address.clone(), pid));
    let log = service.home.path().join("daemonize2-service/log");
    let log = fs::read_to_string(log).unwrap();
    assert!(log.ends_with(&format!("serving on {address}\n")), "{log}");

    service.run("stop").assert().success().stdout("stopped\n");
    assert!(daemon.wait(Instant::now()).unwrap());
    service.assert_not_running();
    TcpStream::connect(&address).unwrap_err();
    service
        .run("stop")
        .assert()
        .success()
        .stdout("was not running\n");
}

fn a_second_service_is_refused() {
    let service = Service::new();
    let (address, pid) = service.start();
    let second = service.run("start");
    let text = String::from_utf8(second.stderr.clone()).unwrap();
    second.assert().code(1).stdout("");
    let cause = format!("held by running daemon {pid}\n");
    assert!(
        text.starts_with("service: cannot lock pid file ") && text.ends_with(&cause),
        "{text}"
    );
    assert_answers(&address, pid);
}

fn a_service_is_restarted() {
    let service = Service::new();
    let (_, first) = service.start();
    let daemon = ProcessHandle::open(first).unwrap().expect("it runs");
    let restart = service.run("restart");
    restart.assert().success();
    assert!(daemon.wait(Instant::now()).unwrap());
    let (address, second) = address_and_pid(&service.run("status"));
    assert_ne!(first, second);
    assert_answers(&address, second);
    // Without a running service, `restart` starts one.
    service.run("stop").assert().success();
    service.run("restart").assert().success();
    service.run("status").assert().success();
}

fn a_service_runs_in_the_foreground() {
    let service = Service::new();
    let child = service
        .command("run")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    service.await_running();
    let (address, pid) = address_and_pid(&service.run("status"));
    assert_eq!(pid, child.id());
    assert_answers(&address, pid);
    service.run("stop").assert().success();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), None);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains(&format!("serving on {address}\n")), "{text}");
    service.assert_not_running();
}

fn a_supervised_service_stays_in_the_foreground() {
    use std::os::unix::net::UnixDatagram;

    let service = Service::new();
    let path = service.home.path().join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(time_limit())).unwrap();
    let mut child = service
        .command("start")
        .env("NOTIFY_SOCKET", &path)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut bytes = [0; 64];
    let length = loop {
        // Linux does not restart a receive with a timeout, whatever the signal does: signal(7).
        match manager.recv(&mut bytes) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            received => break received.unwrap(),
        }
    };
    assert_eq!(&bytes[..length], b"READY=1\n");
    let (address, pid) = address_and_pid(&service.run("status"));
    assert_eq!(pid, child.id());
    assert_answers(&address, pid);
    service.run("stop").assert().success();
    child.wait().unwrap();
}

/// Otherwise a signal to the group would reach the script, too.
fn a_service_in_the_foreground_of_a_script_has_no_group_of_its_own() {
    use std::os::unix::process::CommandExt as _;

    for (script, why) in [
        ("\"$0\" run; exit", "whose leader is another process"),
        // The leader ends, but the session is that of the test.
        (
            "\"$0\" run &",
            "which belongs to the session of another process",
        ),
    ] {
        let service = Service::new();
        let mut shell = Command::new("sh");
        shell.args(["-c", script]).process_group(0);
        let run = service.command("run");
        let variables = run.get_envs();
        shell
            .arg(run.get_program())
            .envs(variables.filter_map(|(name, value)| Some((name, value?))))
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        let mut shell = shell.spawn().unwrap();
        service.await_running();
        let pid_file = service.home.path().join("daemonize2-service/service.pid");
        let pid_file = PidFile::at(pid_file);
        if script.ends_with('&') {
            shell.wait().unwrap();
        }
        for error in [
            pid_file.signal_group(Signal::KILL).unwrap_err(),
            pid_file.stop_group(Duration::ZERO).unwrap_err(),
        ] {
            assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
            assert!(error.to_string().ends_with(why), "{error}");
        }
        // The daemon alone can be stopped.
        assert!(pid_file.stop(time_limit()).unwrap());
        shell.wait().unwrap();
    }
}

fn a_zombie_does_not_count_as_a_member_of_a_group() {
    use std::os::unix::process::CommandExt as _;

    let service = Service::new();
    let mut command = service.command("run");
    let mut child = command
        .process_group(0)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    service.await_running();
    let pid_file = service.home.path().join("daemonize2-service/service.pid");
    // Its parent, this test, reaps the service later.
    let patience = time_limit();
    assert!(PidFile::at(pid_file).stop_group(patience).unwrap());
    assert!(!child.wait().unwrap().success());
}

fn an_unknown_command_is_refused() {
    Service::new().run("frobnicate").assert().code(2).stdout("");
}
