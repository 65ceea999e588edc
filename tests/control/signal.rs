use std::io::ErrorKind;

use daemonize2::{Signal, Status};
use tester::prelude::*;

pub(crate) const CASES: &[Case] = &[
    case!(a_signal_reaches_the_daemon),
    case!(a_refused_signal_is_reported_with_process_and_file),
    case!(stop_sends_sigterm_first),
    case!(stop_empties_the_pid_file),
    case!(stop_empties_no_other_file),
    case!(stop_does_not_empty_the_file_of_the_next_daemon),
    case!(stop_does_not_wait_for_the_end_of_the_next_daemon),
    case!(stop_kills_a_daemon_that_survives_sigterm),
    case!(stop_kills_a_daemon_that_has_removed_its_directory),
    case!(stop_waits_for_a_daemon_that_dies_slowly),
    case!(stop_accepts_a_duration_beyond_the_clocks_range),
    case!(stop_waits_for_the_lock),
    case!(stop_times_out_on_a_lock_that_a_worker_keeps),
    case!(stop_waits_for_a_starting_daemon),
    case!(stop_ends_a_daemon_that_is_not_ready_in_time, needs Linux),
    case!(a_start_may_follow_a_stop_at_once),
    case!(a_daemon_that_ends_while_it_is_signalled_is_not_running, needs Root, OtherUsers),
    case!(root_without_the_right_to_trace_stops_a_daemon_of_another_user, needs Root, Linux, OtherUsers),
];

fn a_signal_reaches_the_daemon() {
    let scenario = daemon!().on_signal(libc::SIGUSR1, Disposition::Report);
    let run = scenario.start();
    assert!(scenario.control().signal(libc::SIGUSR1).unwrap());
    run.await_message(&Message::Signalled(libc::SIGUSR1));
    assert!(scenario.control().signal(Signal::USR1).unwrap());
    run.await_message(&Message::Signalled(libc::SIGUSR1));
    run.observe();
}

fn a_refused_signal_is_reported_with_process_and_file() {
    let scenario = daemon!();
    let run = scenario.start();
    for number in [10_000, -1] {
        let error = assert_io_error(scenario.control().signal(number), ErrorKind::InvalidInput);
        let text = format!(
            "cannot send signal {number} to process {}, the daemon of pid file {}: this system \
             has no such signal",
            run.report().pid,
            scenario.pid_file_path().unwrap().display(),
        );
        assert_eq!(error.to_string(), text);
    }
    run.observe();
}

fn stop_sends_sigterm_first() {
    let scenario = daemon!().on_signal(libc::SIGTERM, Disposition::ReportAndExit);
    let run = scenario.start();
    let daemon = run.handle(run.report().pid);
    let began = Instant::now();
    assert!(scenario.control().stop(time_limit()).unwrap());
    assert!(began.elapsed() < time_limit());
    assert!(daemon.wait(Instant::now()).unwrap());
    assert!(!run.pid_file().unwrap().locked);
    run.await_message(&Message::Signalled(libc::SIGTERM));
    // The daemon cannot be stopped twice.
    assert!(!scenario.control().stop(time_limit()).unwrap());
}

/// Otherwise a daemon that was stopped would look like one that has crashed.
fn stop_empties_the_pid_file() {
    let scenario = daemon!();
    for stop in [PidFile::stop, PidFile::stop_group] {
        let run = scenario.start();
        let place = run.pid_file().unwrap().place;
        assert!(stop(&scenario.control(), time_limit()).unwrap());
        let pid_file = run.pid_file().unwrap();
        assert_eq!((pid_file.bytes, pid_file.place), (Vec::new(), place));
        assert_eq!(scenario.control().status().unwrap(), Status::NotRunning);
    }
}

/// The path may lead to another file by then.
fn stop_empties_no_other_file() {
    let replace_by_file = |precious: &Path, path: &Path| fs::hard_link(precious, path);
    let replace_by_link = |precious: &Path, path: &Path| symlink(precious, path);
    for replace in [replace_by_file as fn(&Path, &Path) -> _, replace_by_link] {
        let scenario = daemon!().on_signal(libc::SIGTERM, Disposition::Report);
        let run = scenario.start();
        let path = scenario.pid_file_path().unwrap();
        let precious = scenario.path("precious");
        fs::write(&precious, "precious").unwrap();
        thread::scope(|scope| {
            let stopping = scope.spawn(|| scenario.control().stop(time_limit()));
            run.await_message(&Message::Signalled(libc::SIGTERM));
            fs::remove_file(&path).unwrap();
            replace(&precious, &path).unwrap();
            run.exit(0);
            assert!(stopping.join().unwrap().unwrap());
        });
        assert_eq!(fs::read_to_string(&precious).unwrap(), "precious");
    }
}

/// A start that follows at once is not disturbed.
fn stop_does_not_empty_the_file_of_the_next_daemon() {
    let scenario = daemon!();
    let mut run = scenario.start();
    for _ in 0..20 {
        thread::scope(|scope| {
            let stopping = scope.spawn(|| scenario.control().stop(time_limit()));
            run.wait_until_all_ended();
            run = scenario.start();
            assert!(stopping.join().unwrap().unwrap());
        });
        run.assert_pid_file_held();
    }
}

fn stop_does_not_wait_for_the_end_of_the_next_daemon() {
    let scenario = daemon!().privileged_action([Step::ForkWorker]);
    let run = scenario.start();
    let daemon = run.handle(run.report().pid);
    thread::scope(|scope| {
        let stopping = scope.spawn(|| scenario.control().stop(time_limit()));
        assert!(daemon.wait(Instant::now() + time_limit()).unwrap());
        // The worker stands for the next daemon: a start that has locked the file empties it.
        fs::write(scenario.pid_file_path().unwrap(), "").unwrap();
        assert!(stopping.join().unwrap().unwrap());
    });
    assert_eq!(run.living(), [run.worker()]);
}

fn stop_kills_a_daemon_that_survives_sigterm() {
    for disposition in [Disposition::Ignore, Disposition::Report] {
        let scenario = daemon!().on_signal(libc::SIGTERM, disposition);
        let run = scenario.start();
        let daemon = run.handle(run.report().pid);
        // A busy machine runs the handler within this time.
        let timeout = scaled(Duration::from_secs(1));
        let began = Instant::now();
        assert!(scenario.control().stop(timeout).unwrap());
        assert!(began.elapsed() >= timeout);
        assert!(daemon.wait(Instant::now()).unwrap());
        if disposition == Disposition::Report {
            run.await_message(&Message::Signalled(libc::SIGTERM));
        }
        assert_not_running(&scenario.control());
    }
}

/// A daemon may do so when it gets SIGTERM, and then take long to end.
fn stop_kills_a_daemon_that_has_removed_its_directory() {
    let scenario = scenario!().pid_file("run/daemon.pid");
    let (scenario, directory) = scenario.with_directory("run");
    let scenario = scenario.on_signal(libc::SIGTERM, Disposition::Report);
    let run = scenario.start();
    let daemon = run.handle(run.report().pid);
    thread::scope(|scope| {
        let stopping = scope.spawn(|| scenario.control().stop(scaled(Duration::from_secs(2))));
        run.await_message(&Message::Signalled(libc::SIGTERM));
        fs::remove_dir_all(directory).unwrap();
        assert!(stopping.join().unwrap().unwrap());
    });
    assert!(daemon.wait(Instant::now()).unwrap());
}

fn stop_waits_for_a_daemon_that_dies_slowly() {
    // A process ends only once its memory is freed.
    let scenario = daemon!()
        .on_signal(libc::SIGTERM, Disposition::Ignore)
        .privileged_action([Step::FillMemory(256)]);
    let run = scenario.start();
    let daemon = run.handle(run.report().pid);
    assert!(scenario.control().stop(Duration::ZERO).unwrap());
    assert!(daemon.wait(Instant::now()).unwrap());
}

fn stop_accepts_a_duration_beyond_the_clocks_range() {
    let scenario = daemon!().on_signal(libc::SIGTERM, Disposition::Report);
    let run = scenario.start();
    let daemon = run.handle(run.report().pid);
    thread::scope(|scope| {
        let stop = scope.spawn(|| scenario.control().stop(Duration::MAX));
        run.await_message(&Message::Signalled(libc::SIGTERM));
        let while_it_waits = Instant::now() + scaled(Duration::from_millis(100));
        assert!(!daemon.wait(while_it_waits).unwrap());
        run.exit(0);
        assert!(stop.join().unwrap().unwrap());
    });
}

fn stop_waits_for_the_lock() {
    let scenario = daemon!().privileged_action([Step::ForkWorker]);
    let run = scenario.start();
    let (worker, daemon) = (run.worker(), run.handle(run.report().pid));
    thread::scope(|scope| {
        let stop = scope.spawn(|| scenario.control().stop(time_limit()));
        assert!(daemon.wait(Instant::now() + time_limit()).unwrap());
        // `stop` waits as long as the lock is held. `running` waits a while for a valid
        // content, and then reports the lock without a daemon.
        assert_io_error(scenario.control().running(), ErrorKind::InvalidData);
        assert!(!stop.is_finished());
        run.kill(worker);
        assert!(stop.join().unwrap().unwrap());
    });
    assert_not_running(&scenario.control());
}

fn stop_times_out_on_a_lock_that_a_worker_keeps() {
    let scenario = daemon!().privileged_action([Step::ForkWorker]);
    let run = scenario.start();
    let (worker, daemon) = (run.worker(), run.handle(run.report().pid));
    let timeout = scaled(Duration::from_millis(300));
    let began = Instant::now();
    assert_io_error(scenario.control().stop(timeout), ErrorKind::TimedOut);
    assert!(began.elapsed() >= timeout);
    assert!(daemon.wait(Instant::now()).unwrap());
    assert_eq!(run.living(), [worker]);
}

fn stop_waits_for_a_starting_daemon() {
    let scenario = daemon!().privileged_action([Step::Hold]);
    let run = scenario.launch();
    let daemon = run.handle(run.held().pid);
    let timeout = scaled(Duration::from_millis(100));
    thread::scope(|scope| {
        let stop = scope.spawn(|| scenario.control().stop(time_limit()));
        assert!(!daemon.wait(Instant::now() + timeout).unwrap());
        run.proceed();
        assert!(stop.join().unwrap().unwrap());
    });
    assert!(daemon.wait(Instant::now()).unwrap());
    assert_not_running(&scenario.control());
}

/// The daemon has not written its pid yet. The second daemon ignores SIGTERM.
fn stop_ends_a_daemon_that_is_not_ready_in_time() {
    let ignoring = daemon!().on_signal(libc::SIGTERM, Disposition::Ignore);
    for scenario in [daemon!(), ignoring] {
        let scenario = scenario.initialize([Step::Hold]);
        let run = scenario.launch();
        let daemon = run.handle(run.held().pid);
        assert!(run.pid_file().unwrap().bytes.is_empty());
        let timeout = scaled(Duration::from_millis(100));
        let began = Instant::now();
        assert!(scenario.control().stop(timeout).unwrap());
        assert!(began.elapsed() >= timeout);
        assert!(daemon.wait(Instant::now()).unwrap());
        assert_eq!(run.launcher_error().kind, "DaemonExited");
        run.assert_nothing_left();
    }
}

fn a_start_may_follow_a_stop_at_once() {
    let scenario = daemon!();
    let mut run = scenario.start();
    for _ in 0..10 {
        let before = run.report().pid;
        assert!(scenario.control().stop(time_limit()).unwrap());
        run = scenario.start();
        assert_ne!(run.report().pid, before);
    }
}

/// Root inspects the process before it signals, and little is left of a process that
/// ends.
fn a_daemon_that_ends_while_it_is_signalled_is_not_running() {
    const NOBODY: u32 = 65534;
    const TIMES: usize = 50;
    let scenario = daemon!().as_user(NOBODY, NOBODY);
    for _ in 0..TIMES {
        let run = scenario.start();
        let pid = run.report().pid;
        let pid_file = scenario.control();
        thread::scope(|scope| {
            let signals = scope.spawn(|| {
                while pid_file.signal(0)? {}
                io::Result::Ok(())
            });
            run.kill(pid);
            signals.join().unwrap().unwrap();
        });
        assert_not_running(&pid_file);
    }
}

/// Docker's default capabilities do not include CAP_SYS_PTRACE.
fn root_without_the_right_to_trace_stops_a_daemon_of_another_user() {
    const CAP_SYS_PTRACE: u64 = 1 << 19;
    let scenario = daemon!().user(65534).group(65534);
    let run = scenario.start();
    let pid = run.report().pid;
    thread::scope(|scope| {
        scope.spawn(|| {
            sys::drop_capability(CAP_SYS_PTRACE).unwrap();
            fs::read_link(format!("/proc/{pid}/cwd")).unwrap_err();
            let pid_file = scenario.control();
            assert_eq!(pid_file.running().unwrap(), Some(pid));
            assert!(pid_file.stop(time_limit()).unwrap());
        });
    });
    run.wait_until_all_ended();
}
