use std::io::ErrorKind;

use daemonize2::Signal;
use tester::prelude::*;
use tester::sys::ProcessHandle;

use crate::setup::*;

pub(crate) const CASES: &[Case] = &[
    case!(a_signal_to_the_group_reaches_the_workers),
    case!(a_signal_to_the_daemon_does_not_reach_the_workers),
    case!(stop_group_ends_the_workers),
    case!(stop_group_kills_a_group_that_survives_sigterm),
    case!(stop_group_waits_for_a_worker_that_outlives_its_daemon),
    case!(stop_group_waits_for_a_lock_outside_the_group),
    case!(stop_group_ends_a_daemon_that_is_not_ready_in_time),
    case!(a_group_needs_a_daemon_that_is_ready),
    case!(workers_of_a_dead_daemon_are_not_signalled),
    case!(a_daemon_in_the_foreground_that_leads_its_group_is_stopped),
    case!(a_process_does_not_signal_its_own_group),
    case!(root_signals_a_group_only_if_every_member_is_the_owners, needs Root, Linux, OtherUsers),
    case!(a_worker_that_may_not_be_signalled_is_named, needs Root, Linux, OtherUsers),
];

/// A worker that ignores SIGTERM. It has no copy of the pid file.
const STUBBORN_WORKER: &str = "trap '' TERM; sleep 600 >/dev/null 2>&1 & echo $!";

/// A process that is killed at the end of the test.
struct Worker(ProcessHandle);

impl Worker {
    /// The worker whose pid a daemon has printed with [`STUBBORN_WORKER`].
    #[track_caller]
    fn of(run: &Run) -> Self {
        let result = run.result();
        let pid = result[0].parse().unwrap();
        Self(ProcessHandle::open(pid).unwrap().expect("it runs"))
    }

    fn has_ended(&self) -> bool {
        self.0.wait(Instant::now()).unwrap()
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if !self.has_ended() {
            let _ = self.0.kill(libc::SIGKILL);
        }
    }
}

fn with_stubborn_worker() -> Scenario {
    let words = ["sh", "-c", STUBBORN_WORKER].map(Bytes::from);
    daemon!().initialize([Step::Run(words.to_vec())])
}

/// A daemon and a worker that report a signal.
fn reporting(signal: i32) -> Scenario {
    let scenario = daemon!().on_signal(signal, Disposition::Report);
    scenario.privileged_action([Step::ForkWorker])
}

fn a_signal_to_the_group_reaches_the_workers() {
    let scenario = reporting(libc::SIGUSR1);
    let run = scenario.start();
    let mut members = [run.report().pid, run.worker()];
    assert!(scenario.control().signal_group(Signal::USR1).unwrap());
    let signalled = Message::Signalled(libc::SIGUSR1);
    for pid in members {
        run.message("a signal of each", |frame| {
            (frame.message == signalled && frame.sender == pid).then_some(())
        });
    }
    let mut senders = run.senders_of(&signalled);
    senders.sort_unstable();
    members.sort_unstable();
    assert_eq!(senders, members);
}

fn a_signal_to_the_daemon_does_not_reach_the_workers() {
    let scenario = reporting(libc::SIGUSR1);
    let run = scenario.start();
    assert!(scenario.control().signal(Signal::USR1).unwrap());
    let signalled = Message::Signalled(libc::SIGUSR1);
    assert_eq!(run.await_message(&signalled), run.report().pid);
    // A report of the worker would precede its end.
    assert!(scenario.control().stop_group(time_limit()).unwrap());
    run.wait_until_all_ended();
    assert_eq!(run.senders_of(&signalled), [run.report().pid]);
}

fn stop_group_ends_the_workers() {
    let scenario = daemon!().privileged_action([Step::ForkWorker, Step::ForkWorker]);
    let run = scenario.start();
    let (daemon, worker) = (run.handle(run.report().pid), run.handle(run.worker()));
    assert!(scenario.control().stop_group(time_limit()).unwrap());
    assert!(daemon.wait(Instant::now()).unwrap());
    assert!(worker.wait(Instant::now()).unwrap());
    assert!(run.living().is_empty());
    assert!(!run.pid_file().unwrap().locked);
    assert_not_running(&scenario.control());
    assert!(!scenario.control().stop_group(time_limit()).unwrap());
    assert!(!scenario.control().signal_group(Signal::TERM).unwrap());
}

fn stop_group_kills_a_group_that_survives_sigterm() {
    let scenario = reporting(libc::SIGTERM);
    let run = scenario.start();
    // A busy machine runs the handlers within this time.
    let patience = scaled(Duration::from_secs(1));
    let began = Instant::now();
    assert!(scenario.control().stop_group(patience).unwrap());
    assert!(began.elapsed() >= patience);
    assert!(run.living().is_empty());
    let senders = run.senders_of(&Message::Signalled(libc::SIGTERM));
    assert_eq!(senders.len(), 2);
}

fn stop_group_waits_for_a_worker_that_outlives_its_daemon() {
    let scenario = with_stubborn_worker();
    let run = scenario.start();
    let (daemon, worker) = (run.handle(run.report().pid), Worker::of(&run));
    thread::scope(|scope| {
        let stopping = scope.spawn(|| scenario.control().stop_group(time_limit()));
        assert!(daemon.wait(Instant::now() + time_limit()).unwrap());
        let while_it_waits = Instant::now() + scaled(Duration::from_millis(100));
        assert!(!worker.0.wait(while_it_waits).unwrap());
        assert!(!stopping.is_finished());
        worker.0.kill(libc::SIGKILL).unwrap();
        assert!(stopping.join().unwrap().unwrap());
    });
    // A worker that does not end is killed.
    let run = scenario.start();
    let worker = Worker::of(&run);
    let patience = scaled(Duration::from_millis(100));
    assert!(scenario.control().stop_group(patience).unwrap());
    assert!(worker.has_ended());
}

/// A worker in a session of its own is not a member of the group.
fn stop_group_waits_for_a_lock_outside_the_group() {
    let scenario = daemon!().privileged_action([Step::ForkWorkerInSession]);
    let run = scenario.start();
    let worker = run.worker();
    let patience = scaled(Duration::from_millis(300));
    let stopped = scenario.control().stop_group(patience);
    let error = assert_io_error(stopped, ErrorKind::TimedOut);
    let why = "the daemon has ended, but another process holds its lock";
    assert!(error.to_string().ends_with(why), "{error}");
    assert_eq!(run.living(), [worker]);
}

fn stop_group_ends_a_daemon_that_is_not_ready_in_time() {
    let scenario = daemon!().initialize([Step::Hold]);
    let run = scenario.launch();
    run.held();
    let patience = scaled(Duration::from_millis(100));
    let stopped = scenario.control().stop_group(patience);
    if !cfg!(target_os = "linux") {
        assert_io_error(stopped, ErrorKind::WouldBlock);
        return;
    }
    assert!(stopped.unwrap());
    assert_eq!(run.launcher_error().kind, "DaemonExited");
    run.assert_nothing_left();
}

fn a_group_needs_a_daemon_that_is_ready() {
    let scenario = daemon!().privileged_action([Step::Hold]);
    let run = scenario.launch();
    let daemon = run.handle(run.held().pid);
    let signalled = scenario.control().signal_group(Signal::TERM);
    assert_io_error(signalled, ErrorKind::WouldBlock);
    thread::scope(|scope| {
        let stop = scope.spawn(|| scenario.control().stop_group(time_limit()));
        run.assert_launcher_waits();
        run.proceed();
        assert!(stop.join().unwrap().unwrap());
    });
    assert!(daemon.wait(Instant::now()).unwrap());
}

fn workers_of_a_dead_daemon_are_not_signalled() {
    let scenario = with_stubborn_worker();
    let run = scenario.start();
    let worker = Worker::of(&run);
    run.kill_daemon();
    assert!(!scenario.control().signal_group(Signal::KILL).unwrap());
    assert!(!scenario.control().stop_group(Duration::ZERO).unwrap());
    assert!(!worker.has_ended());
    // This worker has inherited the lock.
    let scenario = daemon!().privileged_action([Step::ForkWorker]);
    let run = scenario.start();
    run.kill_daemon();
    let signalled = scenario.control().signal_group(Signal::KILL);
    assert_io_error(signalled, ErrorKind::InvalidData);
    let stopped = scenario.control().stop_group(Duration::ZERO);
    assert_io_error(stopped, ErrorKind::InvalidData);
    assert_eq!(run.living(), [run.worker()]);
}

fn a_daemon_in_the_foreground_that_leads_its_group_is_stopped() {
    let scenario = daemon!().foreground(Foreground::Yes);
    let scenario = scenario.from_state(|state| state.session = Session::Leader);
    let scenario = scenario.privileged_action([Step::ForkWorker]);
    let run = scenario.launch();
    run.report();
    assert!(scenario.control().stop_group(time_limit()).unwrap());
    assert!(run.living().is_empty());
}

fn a_process_does_not_signal_its_own_group() {
    let scenario = daemon!().foreground(Foreground::Yes);
    let run = scenario.launch();
    run.report();
    let signalled = scenario.control().signal_group(Signal::KILL);
    let error = assert_io_error(signalled, ErrorKind::InvalidInput);
    let why = "this process is a member of the daemon's process group";
    assert!(error.to_string().contains(why), "{error}");
    run.observe();
}

const NOBODY: u32 = 65534;

/// A daemon of another user with a worker of root, which the privileged action has forked.
fn with_worker_of_root() -> Scenario {
    let scenario = daemon!().user(NOBODY).group(NOBODY).chown_pid_file();
    scenario.privileged_action([Step::ForkWorker])
}

/// The user could have made any process of theirs the holder of the lock.
fn root_signals_a_group_only_if_every_member_is_the_owners() {
    let scenario = with_worker_of_root();
    let run = scenario.start();
    assert!(scenario.control().signal(0).unwrap());
    let signalled = scenario.control().signal_group(Signal::KILL);
    let error = assert_io_error(signalled, ErrorKind::PermissionDenied);
    let why = format!(
        "and process {} of its group does not run as that user",
        run.worker()
    );
    assert!(error.to_string().ends_with(&why), "{error}");
    assert_eq!(run.living().len(), 2);
    // This worker has the user, too.
    let scenario = daemon!().user(NOBODY).group(NOBODY).chown_pid_file();
    let scenario = scenario.initialize([Step::ForkWorker]);
    let run = scenario.start();
    assert!(scenario.control().stop_group(time_limit()).unwrap());
    assert!(run.living().is_empty());
}

fn a_worker_that_may_not_be_signalled_is_named() {
    let scenario = with_worker_of_root();
    let run = scenario.start();
    let worker = run.worker();
    let answer = call_as(NOBODY, "stop_group", &scenario);
    assert!(answer.starts_with("TimedOut: "), "{answer}");
    let end = format!("(processes {worker}) is left after SIGKILL\n");
    assert!(answer.ends_with(&end), "{answer}");
    assert_eq!(run.living(), [worker]);
}
