use std::io::ErrorKind;
use std::sync::Barrier;

use daemonize2::Status;
use tester::prelude::*;

use crate::setup::*;

pub(crate) const CASES: &[Case] = &[
    case!(a_status_is_that_of_the_file_and_its_lock),
    case!(a_starting_daemon_has_a_status),
    case!(a_dead_daemon_has_left_its_pid),
    case!(a_lock_of_another_program_is_not_a_daemon),
    case!(a_lock_of_a_daemon_with_another_pid_is_no_proof),
    case!(any_user_who_may_read_the_file_gets_the_status, needs Root, OtherUsers, Linux),
    case!(waiting_ends_when_the_daemon_is_ready),
    case!(waiting_ends_when_the_start_fails),
    case!(waiting_ends_at_once_without_a_start),
    case!(waiting_times_out_with_the_pid_of_the_starting_daemon),
    case!(ten_clients_get_the_same_daemon_and_one_of_them_starts_it),
];

#[track_caller]
fn status(scenario: &Scenario) -> Status {
    scenario.control().status().unwrap()
}

fn a_status_is_that_of_the_file_and_its_lock() {
    let scenario = daemon!();
    let path = scenario.pid_file_path().unwrap();
    assert_eq!(status(&scenario), Status::NotRunning);
    for content in ["", "one\n", "-1\n", "0\n"] {
        fs::write(&path, content).unwrap();
        assert_eq!(status(&scenario), Status::NotRunning, "{content}");
    }
    fs::remove_file(&path).unwrap();
    for foreground in [Foreground::No, Foreground::Yes] {
        let scenario = scenario.clone().foreground(foreground);
        let run = scenario.launch();
        let pid = run.report().pid;
        assert_eq!(status(&scenario), Status::Running { pid });
        let text = status(&scenario).to_string();
        assert_eq!(text, format!("running as process {pid}"));
    }
}

fn a_starting_daemon_has_a_status() {
    let scenario = daemon!().initialize([Step::Hold]);
    let run = scenario.launch();
    let pid = run.held().pid;
    // Elsewhere the kernel does not name the holder of a lock.
    let named = cfg!(target_os = "linux").then_some(pid);
    assert_eq!(status(&scenario), Status::Starting { pid: named });
    run.proceed_to_success();
    assert_eq!(status(&scenario), Status::Running { pid });
    // The lock of a daemon that is not forked yet.
    let scenario = daemon!();
    let file = File::create(scenario.pid_file_path().unwrap()).unwrap();
    sys::flock(file.as_fd(), libc::LOCK_EX).unwrap();
    assert_eq!(status(&scenario), Status::Starting { pid: None });
    sys::flock(file.as_fd(), libc::LOCK_UN).unwrap();
}

fn a_dead_daemon_has_left_its_pid() {
    let scenario = daemon!();
    let run = scenario.start();
    let pid = run.report().pid;
    run.kill_daemon();
    assert_eq!(status(&scenario), Status::Dead { pid });
    // A daemon with a guard leaves no file.
    let mut scenario = scenario.life(Life::Exit(0));
    scenario.config.guard_pid_file = true;
    scenario.launch().wait_until_all_ended();
    assert_eq!(status(&scenario), Status::NotRunning);
}

fn a_lock_of_another_program_is_not_a_daemon() {
    let scenario = daemon!();
    let path = scenario.pid_file_path().unwrap();
    let file = File::create(&path).unwrap();
    sys::flock(file.as_fd(), libc::LOCK_EX).unwrap();
    fs::write(&path, "one\n").unwrap();
    assert_eq!(status(&scenario), Status::Locked { pid: None });
    sys::flock(file.as_fd(), libc::LOCK_UN).unwrap();
    // A worker that has inherited the lock of a dead daemon.
    let scenario = daemon!().privileged_action([Step::ForkWorker]);
    let run = scenario.start();
    run.kill_daemon();
    assert_eq!(status(&scenario), Status::Locked { pid: None });
}

fn a_lock_of_a_daemon_with_another_pid_is_no_proof() {
    let scenario = daemon!();
    let path = scenario.pid_file_path().unwrap();
    let run = scenario.start();
    let pid = run.report().pid;
    let content = fs::read(&path).unwrap();
    // FreeBSD lets a user look only at the files of the user's own processes.
    let mut other = Command::new("sleep").arg("600").spawn().unwrap();
    fs::write(&path, format!("{}\n", other.id())).unwrap();
    let found = status(&scenario);
    other.kill().unwrap();
    other.wait().unwrap();
    let named = cfg!(target_os = "linux").then_some(pid);
    assert_eq!(found, Status::Locked { pid: named });
    fs::write(&path, content).unwrap();
    assert_eq!(status(&scenario), Status::Running { pid });
}

fn any_user_who_may_read_the_file_gets_the_status() {
    let public = daemon!().umask(0o077_u32).pid_file_mode(0o644_u32);
    let run = public.start();
    let running = format!("running as process {}\n", run.report().pid);
    assert_eq!(call_as(UID, "status", &public), running);
    run.kill_daemon();
    let secret = public.pid_file_mode(0o600_u32);
    let run = secret.start();
    let answer = call_as(UID, "status", &secret);
    assert!(answer.starts_with("PermissionDenied: "), "{answer}");
    run.observe();
}

fn waiting_ends_when_the_daemon_is_ready() {
    let scenario = daemon!().privileged_action([Step::Hold]);
    let run = scenario.launch();
    let pid = run.held().pid;
    thread::scope(|scope| {
        let waiting = scope.spawn(|| scenario.control().wait_ready(time_limit()));
        run.assert_launcher_waits();
        assert!(!waiting.is_finished());
        run.proceed_to_success();
        assert_eq!(waiting.join().unwrap().unwrap(), Some(pid));
    });
    // A daemon that is ready needs no time.
    let ready = scenario.control().wait_ready(Duration::ZERO).unwrap();
    assert_eq!(ready, Some(pid));
}

fn waiting_ends_when_the_start_fails() {
    let scenario = daemon!().privileged_action([Step::Hold, Step::Exit(3)]);
    let run = scenario.launch();
    run.held();
    thread::scope(|scope| {
        let waiting = scope.spawn(|| scenario.control().wait_ready(Duration::MAX));
        run.proceed();
        assert_eq!(waiting.join().unwrap().unwrap(), None);
    });
    assert_eq!(run.launcher_error().kind, "DaemonExited");
}

fn waiting_ends_at_once_without_a_start() {
    let scenario = daemon!();
    let wait = || scenario.control().wait_ready(Duration::MAX).unwrap();
    assert_eq!(wait(), None);
    scenario.start().kill_daemon();
    assert_eq!(wait(), None);
}

fn waiting_times_out_with_the_pid_of_the_starting_daemon() {
    let scenario = daemon!().privileged_action([Step::Hold]);
    let run = scenario.launch();
    let pid = run.held().pid;
    let timeout = scaled(Duration::from_millis(100));
    let began = Instant::now();
    let error = assert_io_error(scenario.control().wait_ready(timeout), ErrorKind::TimedOut);
    assert!(began.elapsed() >= timeout);
    let path = scenario.pid_file_path().unwrap();
    let daemon = match cfg!(target_os = "linux") {
        true => format!("daemon {pid}"),
        false => "a daemon".to_owned(),
    };
    let path = path.display();
    let text = format!("pid file {path}: {daemon} is still starting after {timeout:?}");
    assert_eq!(error.to_string(), text);
    run.proceed_to_success();
}

/// What the documentation of `wait_ready` recommends. Returns the pid of the daemon, and the start
/// that has succeeded, if it is this client's.
fn connect(scenario: &Scenario) -> (u32, Option<Run>) {
    loop {
        if let Some(pid) = scenario.control().wait_ready(time_limit()).unwrap() {
            return (pid, None);
        }
        let run = scenario.launch();
        if run.launcher().output.status.success() {
            return (run.report().pid, Some(run));
        }
        assert_eq!(run.launcher_error().kind_name(), "LockPidfile");
    }
}

fn ten_clients_get_the_same_daemon_and_one_of_them_starts_it() {
    const CLIENTS: usize = 10;

    for _ in 0..5 {
        let scenario = daemon!();
        let barrier = Barrier::new(CLIENTS);
        let clients: Vec<_> = thread::scope(|scope| {
            let client = || {
                barrier.wait();
                connect(&scenario)
            };
            let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(client)).collect();
            let clients = clients.into_iter();
            clients.map(|client| client.join().unwrap()).collect()
        });
        let starts = clients.iter().filter(|(_, run)| run.is_some()).count();
        assert_eq!(starts, 1);
        let pids: Vec<u32> = clients.iter().map(|(pid, _)| *pid).collect();
        assert_eq!(pids, [pids[0]; CLIENTS]);
    }
}
