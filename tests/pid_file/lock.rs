use std::fs::OpenOptions;

use tester::prelude::*;

use crate::setup::*;

pub(crate) const CASES: &[Case] = &[
    case!(a_second_start_names_the_running_daemon),
    case!(a_second_start_touches_nothing),
    case!(a_second_start_fails_in_launcher_and_daemon),
    case!(a_second_start_names_a_daemon_that_is_starting),
    case!(a_lock_of_a_running_daemon_is_reported),
    case!(a_lock_of_a_starting_daemon_is_reported),
    case!(a_lock_of_a_worker_is_reported_without_a_pid),
    case!(a_number_in_a_locked_file_is_not_reported_as_a_daemon),
    case!(the_daemon_alone_holds_the_lock, needs VisibleLocks),
    case!(the_lock_ends_with_the_daemon),
    case!(a_worker_keeps_the_lock_of_its_ended_daemon),
    case!(a_worker_is_not_reported_as_the_daemon),
    case!(a_prober_never_fails_a_start),
    case!(a_start_waits_a_second_for_a_prober),
    case!(of_twenty_simultaneous_starts_one_succeeds),
    case!(of_thirty_two_simultaneous_starts_one_succeeds),
    case!(a_lock_on_a_removed_file_does_not_count),
];

fn a_second_start_names_the_running_daemon() {
    let (scenario, path) = with_pid_file();
    let absolute = scenario.clone().pid_file(&path);
    let run = scenario.start();
    let pid = run.report().pid;
    for (second, as_given) in [(&scenario, "daemon.pid".into()), (&absolute, path)] {
        let error = second.fail_beside_daemon();
        error.assert_kind("LockPidfile", libc::EWOULDBLOCK);
        assert_eq!(error.running_pid, Some(pid));
        assert_eq!(error.path, Some((&as_given).into()));
        let path = as_given.display();
        let text = format!("cannot lock pid file {path}: held by running daemon {pid}");
        assert_eq!(error.text, text);
    }
    run.assert_pid_file_held();
}

fn a_second_start_touches_nothing() {
    let (scenario, path) = with_pid_file();
    let run = scenario.start();
    // A start would change this mode of its own file.
    set_mode(&path, 0o666);
    let before = file_state(&path);
    scenario.clone().umask(0o077_u32).fail_beside_daemon();
    assert_eq!(file_state(&path), before);
    run.assert_pid_file_held();
}

fn a_second_start_fails_in_launcher_and_daemon() {
    let (scenario, path) = with_pid_file();
    let run = scenario.start();
    let before = file_state(&path);
    let second = scenario.entry(Entry::Execute).launch();
    let error = second.launcher_error();
    assert_eq!(error.kind_name(), "LockPidfile");
    assert_eq!(error.running_pid, Some(run.report().pid));
    assert_eq!(second.daemon_error(), error);
    second.wait_until_all_ended();
    assert_eq!(file_state(&path), before);
    run.assert_pid_file_held();
}

/// Only the kernel of Linux names a daemon that has not written its pid yet.
fn held_by_starting(pid: u32) -> String {
    match cfg!(target_os = "linux") {
        true => format!("held by daemon {pid}, which is starting"),
        false => "held by a daemon that is starting".to_owned(),
    }
}

fn a_second_start_names_a_daemon_that_is_starting() {
    let (scenario, path) = with_pid_file();
    let run = scenario.clone().privileged_action([Step::Hold]).launch();
    run.held();
    let before = file_state(&path);
    assert_eq!(before.0, b"");
    let error = scenario.fail_beside_daemon();
    assert_eq!(error.kind_name(), "LockPidfile");
    assert_eq!(error.running_pid, None);
    let pid = run.held().pid;
    assert!(error.text.ends_with(&held_by_starting(pid)), "{error}");
    assert_eq!(file_state(&path), before);
    run.proceed_to_success();
    run.assert_pid_file_held();
}

/// The second start fails with this error, in both processes, and leaves the file alone.
#[track_caller]
fn assert_second_start_fails(scenario: &Scenario, expected: &StartError) {
    let run = scenario.launch();
    assert_eq!(&run.launcher_error(), expected);
    run.wait_until_all_ended();
    run.assert_errors(1, 0);
    assert_eq!(run.launcher().living().count(), 0, "{}", run.diagnostics());
    let run = scenario.clone().entry(Entry::Execute).launch();
    assert_eq!(&run.launcher_error(), expected);
    assert_eq!(&run.daemon_error(), expected);
}

fn locked(text: &str) -> StartError {
    StartError::with_text("LockPidfile", libc::EWOULDBLOCK, Some("daemon.pid"), text)
}

fn a_lock_of_a_running_daemon_is_reported() {
    let scenario = daemon!();
    let run = scenario.start();
    let pid = run.report().pid;
    let before = run.pid_file();
    let text = format!("cannot lock pid file daemon.pid: held by running daemon {pid}");
    let expected = StartError {
        running_pid: Some(pid),
        ..locked(&text)
    };
    assert_second_start_fails(&scenario, &expected);
    assert_eq!(run.pid_file(), before);
    assert_eq!(run.observe().pid, pid);
}

fn a_lock_of_a_starting_daemon_is_reported() {
    let scenario = daemon!();
    let starting = scenario.clone().privileged_action([Step::Hold]).launch();
    let pid = starting.held().pid;
    let text = format!("cannot lock pid file daemon.pid: {}", held_by_starting(pid));
    assert_second_start_fails(&scenario, &locked(&text));
    starting.proceed_to_success();
    starting.assert_pid_file_held();
}

fn a_lock_of_a_worker_is_reported_without_a_pid() {
    let scenario = daemon!();
    let with_worker = scenario.clone().privileged_action([Step::ForkWorker]);
    let run = with_worker.start();
    run.kill_daemon();
    let text = "cannot lock pid file daemon.pid: held by another process";
    assert_second_start_fails(&scenario, &locked(text));
}

#[track_caller]
fn assert_held_by_another_process(scenario: &Scenario) {
    let error = scenario.fail_beside_daemon();
    assert_eq!(error.kind_name(), "LockPidfile");
    assert_eq!(error.running_pid, None);
    assert!(error.text.ends_with(": held by another process"), "{error}");
}

fn a_number_in_a_locked_file_is_not_reported_as_a_daemon() {
    let (scenario, path) = with_pid_file();
    fs::write(&path, "1\n").unwrap();
    let file = File::open(&path).unwrap();
    sys::flock(file.as_fd(), libc::LOCK_EX).unwrap();
    let before = file_state(&path);
    assert_held_by_another_process(&scenario);
    assert_eq!(file_state(&path), before);
}

fn the_daemon_alone_holds_the_lock() {
    let (scenario, _) = with_pid_file();
    let run = scenario.start();
    assert_eq!(run.lock_holders(), [run.report().pid]);
}

fn the_lock_ends_with_the_daemon() {
    let (scenario, path) = with_pid_file();
    let run = scenario.start();
    assert!(pid_file_at(&path).locked);
    run.exit(0);
    assert!(!pid_file_at(&path).locked);
    let run = scenario.start();
    run.kill_daemon();
    run.wait_until_all_ended();
    assert!(!pid_file_at(&path).locked);
}

fn a_worker_keeps_the_lock_of_its_ended_daemon() {
    let (scenario, path) = with_pid_file();
    let run = scenario.privileged_action([Step::ForkWorker]).start();
    let worker = run.worker();
    run.kill_daemon();
    assert!(pid_file_at(&path).locked);
    run.kill(worker);
    assert!(!pid_file_at(&path).locked);
}

fn a_worker_is_not_reported_as_the_daemon() {
    let (scenario, _) = with_pid_file();
    let parent = scenario.clone().privileged_action([Step::ForkWorker]);
    let run = parent.start();
    run.kill_daemon();
    assert_held_by_another_process(&scenario);
}

fn a_prober_never_fails_a_start() {
    /// Far less than the second of a start, however slow the machine is.
    const HOLD: Duration = Duration::from_millis(4);

    let (scenario, path) = with_pid_file();
    fs::write(&path, "").unwrap();
    let file = File::open(&path).unwrap();
    let probe = || {
        // The lock is held most of the time.
        let began = Instant::now();
        let _ = sys::flock(file.as_fd(), libc::LOCK_SH);
        while began.elapsed() < HOLD {
            let _ = tester::harness::PidFile::look(&path);
        }
        sys::flock(file.as_fd(), libc::LOCK_UN).unwrap();
        // Part of the attack. A shorter pause leaves the lock free so seldom that all attempts
        // of a start may miss it within its second.
        thread::sleep(began.elapsed() / 4);
    };
    while_repeating(probe, || {
        for _ in 0..20 {
            let run = scenario.start();
            assert_eq!(pid_file_at(&path).bytes, content(run.report().pid));
            run.exit(0);
        }
    });
}

fn a_start_waits_a_second_for_a_prober() {
    const LOCK_TIMEOUT: Duration = Duration::from_secs(1);

    let (scenario, path) = with_pid_file();
    fs::write(&path, "4242\n").unwrap();
    let prober = File::open(&path).unwrap();
    sys::flock(prober.as_fd(), libc::LOCK_SH).unwrap();
    let began = Instant::now();
    let error = scenario.fail_beside_daemon();
    error.assert_kind("LockPidfile", libc::EWOULDBLOCK);
    assert!(began.elapsed() >= LOCK_TIMEOUT);
}

/// The successful starts. The others have failed with LockPidfile.
#[track_caller]
fn successful_starts(runs: &[Run]) -> Vec<&Run> {
    let (won, lost): (Vec<_>, Vec<_>) = runs
        .iter()
        .partition(|run| run.launcher().output.status.success());
    for run in lost {
        let error = run.launcher_error();
        assert_eq!(error.kind_name(), "LockPidfile", "{error}");
        match (error.running_pid, won.as_slice()) {
            (Some(pid), [winner]) => assert_eq!(pid, winner.report().pid),
            (Some(_), _) => panic!("{error}"),
            (None, _) => assert!(error.text.contains(": held by "), "{error}"),
        }
        run.wait_until_all_ended();
        assert!(!run.has_sent(|message| matches!(message, Message::Daemon(_))));
    }
    won
}

fn of_twenty_simultaneous_starts_one_succeeds() {
    for entry in [Entry::Start, Entry::Execute] {
        let scenario = daemon!().entry(entry);
        let runs: Vec<_> = (0..20).map(|_| scenario.launch()).collect();
        let won = successful_starts(&runs);
        assert_eq!(won.len(), 1);
        won[0].assert_pid_file_held();
    }
}

fn of_thirty_two_simultaneous_starts_one_succeeds() {
    let (scenario, _) = with_pid_file();
    let runs: Vec<_> = (0..32).map(|_| scenario.launch()).collect();
    let won = successful_starts(&runs);
    assert_eq!(won.len(), 1, "several daemons, or none");
    won[0].assert_pid_file_held();
}

/// A daemon that removes its file when it ends does the same. A start that has opened the
/// file before locks a file without a name.
fn a_lock_on_a_removed_file_does_not_count() {
    let (scenario, path) = with_pid_file();
    let lock_and_remove = || {
        let mut options = OpenOptions::new();
        let file = options.append(true).create(true).open(&path).unwrap();
        let inode = file.metadata().unwrap().ino();
        let is_at_path = || fs::metadata(&path).is_ok_and(|there| there.ino() == inode);
        if sys::flock(file.as_fd(), libc::LOCK_EX).is_ok() && is_at_path() {
            fs::remove_file(&path).unwrap();
        }
        // A child of another thread may share the lock for a while.
        sys::flock(file.as_fd(), libc::LOCK_UN).unwrap();
    };
    let runs: Vec<_> = while_repeating(lock_and_remove, || {
        let runs: Vec<_> = (0..32).map(|_| scenario.launch()).collect();
        runs.iter().for_each(|run| drop(run.launcher()));
        runs
    });
    let won = successful_starts(&runs);
    assert!(won.len() <= 1, "several daemons");
    match won.first() {
        Some(winner) => winner.assert_pid_file_held(),
        None => scenario.start().assert_pid_file_held(),
    }
}
