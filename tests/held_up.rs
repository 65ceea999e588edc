//! Whoever is held up, or may not do its part, holds up nobody else for ever;
//! and nobody is told what is not so.

use std::os::fd::AsFd as _;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixDatagram;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use tester::config::{Bytes, Deferral, Disposition, Entry, Foreground, ReadinessUse, Step, Stream};
use tester::control::Message;
use tester::crash::Victim;
use tester::{Scenario, case, scenario, suite, sys};

fn main() -> ExitCode {
    suite(&[
        case!(the_time_counts_before_there_is_a_daemon),
        case!(a_stopped_intermediate_does_not_outlast_the_time),
        case!(an_intermediate_that_is_stopped_at_any_call_does_not_outlast_the_time, needs Stepping),
        case!(an_intermediate_that_cannot_be_ended_does_not_outlast_the_time, needs Stepping),
        case!(an_intermediate_that_takes_long_to_end_is_reaped, needs Stepping),
        case!(an_intermediate_that_outlasts_the_launchers_patience_is_reaped_at_the_next_start, needs Stepping),
        case!(a_daemon_that_outlasts_the_launchers_patience_is_reaped_at_the_next_start, needs Stepping),
        case!(a_daemon_that_cannot_be_ended_is_reported_as_left, needs Stepping),
        case!(a_disconnected_daemon_that_cannot_be_ended_is_reported_as_left, needs Stepping),
        case!(a_stopped_daemon_does_not_outlast_the_time),
        case!(who_waits_leaves_the_processor_to_others, needs Linux),
        case!(who_waits_for_a_stopped_intermediate_leaves_the_processor_to_others, needs Linux),
        case!(a_service_manager_that_does_not_read_holds_up_nobody_for_long),
        case!(a_service_manager_that_does_not_read_holds_up_no_foreground_for_long),
        case!(the_pid_file_is_the_daemons_alone_while_the_service_manager_is_told),
        case!(what_a_daemon_says_of_its_pid_is_not_believed),
        case!(a_start_beside_threads_that_lock_what_the_daemon_needs_succeeds),
        case!(a_failure_in_the_foreground_ends_the_process_also_if_nobody_can_be_told),
    ])
}

/// Longer than a daemon takes to be there on a busy machine.
const TIME: Duration = Duration::from_secs(1);

/// What the launcher allows the intermediate beyond the time, and then some.
const MUCH_MORE: Duration = Duration::from_secs(9);

/// The text of an error for the time.
fn late(rest: &str) -> String {
    format!("the daemon was not ready in time: the startup timeout of {TIME:?} ran out {rest}")
}

/// It fails for the time, and neither at once nor much later; nothing is left.
#[track_caller]
fn assert_times_out(run: &tester::Run, began: Instant) {
    let error = run.launcher_error();
    let took = began.elapsed();
    assert_eq!(error.kind, "StartupTimeout", "{}", run.account());
    assert!(TIME <= took && took < TIME + MUCH_MORE, "{took:?}");
    run.assert_nothing_left();
}

// --- The time -----------------------------------------------------------------

/// The intermediate waits a second for a prober, which is longer.
fn the_time_counts_before_there_is_a_daemon() {
    let scenario = scenario!().pid_file("daemon.pid").startup_timeout(TIME);
    let path = scenario.pid_file_path().unwrap();
    std::fs::write(&path, "4242\n").unwrap();
    let prober = std::fs::File::open(&path).unwrap();
    sys::flock(prober.as_fd(), libc::LOCK_SH).unwrap();
    let began = Instant::now();
    let run = scenario.privileged_action([Step::Observe]).launch();
    let error = run.launcher_error();
    assert_eq!(error.kind, "StartupTimeout", "{}", run.account());
    let text = late("while the pid file was opened and locked; there was no daemon yet");
    assert_eq!(error.text, text);
    assert!(began.elapsed() < TIME + MUCH_MORE);
    // Nothing of a daemon has begun, and the file is as it was.
    let frames = run.messages();
    let is_observed = |message: &_| matches!(message, Message::Observed(_));
    assert!(!frames.iter().any(|frame| is_observed(&frame.message)));
    assert_eq!(std::fs::read(&path).unwrap(), b"4242\n");
}

fn a_stopped_intermediate_does_not_outlast_the_time() {
    let outlasts_no_time = |entry, sigterm| {
        let scenario = scenario!().pid_file("daemon.pid").entry(entry);
        let scenario = scenario
            .from_state(|state| state.dispositions.push((libc::SIGTERM, sigterm)))
            .startup_timeout(TIME)
            .privileged_action([Step::Hold]);
        let began = Instant::now();
        let run = scenario.launch();
        sys::kill(run.held().ppid, libc::SIGSTOP).unwrap();
        assert_times_out(&run, began);
    };
    // Seconds each.
    thread::scope(|scope| {
        for entry in [Entry::Start, Entry::Execute] {
            for sigterm in [Disposition::Default, Disposition::Ignore] {
                scope.spawn(move || outlasts_no_time(entry, sigterm));
            }
        }
    });
}

/// Wherever that is: before there is a daemon, when there is one, and when it is
/// ready.
fn an_intermediate_that_is_stopped_at_any_call_does_not_outlast_the_time() {
    thread::scope(|scope| {
        for first in 0..24 {
            scope.spawn(move || {
                for call in (first..).step_by(24) {
                    if !is_outlasted(call) {
                        assert!(call > 10, "the intermediate makes {call} calls only");
                        break;
                    }
                }
            });
        }
    });
}

/// Stops the intermediate at this call. False where there are not so many.
fn is_outlasted(call: u64) -> bool {
    let scenario = scenario!().pid_file("daemon.pid").startup_timeout(TIME);
    let run = scenario
        .signal_at(Victim::Intermediate, call, libc::SIGSTOP)
        .launch();
    let launcher = run.launcher();
    if launcher.output.status.success() {
        run.report();
        return false;
    }
    assert_eq!(
        run.launcher_error().kind,
        "StartupTimeout",
        "{}",
        run.account()
    );
    run.assert_nothing_left();
    // Counted from the stop, however busy the machine was before.
    let waited = run.struck().unwrap().launcher_ended_after;
    assert!(
        u128::from(waited) < (TIME + MUCH_MORE).as_millis(),
        "{waited} ms"
    );
    true
}

/// As where a file server keeps it waiting. The daemon is ended nonetheless.
fn an_intermediate_that_cannot_be_ended_does_not_outlast_the_time() {
    let scenario = scenario!().pid_file("daemon.pid").startup_timeout(TIME);
    let began = Instant::now();
    let run = scenario.privileged_action([Step::Hold]).launch();
    let (daemon, intermediate) = (run.held().pid, run.held().ppid);
    sys::kill(intermediate, libc::SIGSTOP).unwrap();
    let detained = sys::detain(intermediate).unwrap();
    let error = run.launcher_error();
    assert_eq!(error.kind, "StartupTimeout", "{}", run.account());
    let text = late(&format!(
        "during the privileged action; the daemon was terminated; \
         the intermediate process {intermediate} could not be terminated, and is left"
    ));
    assert_eq!(error.text, text);
    assert!(began.elapsed() < TIME + MUCH_MORE);
    run.wait_until_ended(daemon);
    // It was told to end, and is on its way out.
    assert!(!run.handle(intermediate).wait(Instant::now()).unwrap());
    drop(detained);
    run.wait_until_ended(intermediate);
    run.assert_nothing_left_but(&[intermediate]);
}

fn an_intermediate_that_takes_long_to_end_is_reaped() {
    let mut scenario = scenario!().startup_timeout(TIME);
    scenario.config.report_afterwards = true;
    let run = scenario.privileged_action([Step::Hold]).launch();
    let intermediate = run.held().ppid;
    sys::kill(intermediate, libc::SIGSTOP).unwrap();
    let detained = sys::detain(intermediate).unwrap();
    detained.wait_until_killed().unwrap();
    run.assert_launcher_waits();
    drop(detained);
    run.launcher_error();
    run.wait_until_all_ended();
    let frames = run.messages();
    let unreaped = Message::Unreaped(intermediate);
    assert!(!frames.iter().any(|frame| frame.message == unreaped));
}

/// A launcher that goes on after a start that failed, and starts again when told.
fn going_on() -> Scenario {
    let mut scenario = scenario!().startup_timeout(TIME).entry(Entry::Execute);
    scenario.config.report_afterwards = true;
    scenario.config.start_again = true;
    scenario.privileged_action([Step::Hold])
}

/// Waits for the launcher's error.
#[track_caller]
fn await_failure(run: &tester::Run) -> tester::report::StartError {
    run.message("the launcher's error", |frame| match &frame.message {
        Message::LauncherFailed(error) => Some(error.clone()),
        _ => None,
    })
}

/// Has the launcher start again, and asserts that no process and no descriptor of
/// the first start's is left in it or in the other daemon.
#[track_caller]
fn assert_reaped_at_the_next_start(run: &tester::Run, pid: u32) {
    run.proceed();
    let afterwards = run.message("the launcher's report", |frame| match &frame.message {
        Message::Afterwards(report) => Some(report.clone()),
        _ => None,
    });
    run.launcher();
    let frames = run.messages();
    let unreaped = Message::Unreaped(pid);
    let is_left = frames.iter().any(|frame| frame.message == unreaped);
    assert!(!is_left, "{}", run.account());
    let numbers = run.initial().descriptor_numbers();
    assert_eq!(afterwards.descriptor_numbers(), numbers);
    assert_eq!(run.observed().descriptor_numbers(), numbers);
}

fn an_intermediate_that_outlasts_the_launchers_patience_is_reaped_at_the_next_start() {
    let run = going_on().launch();
    let intermediate = run.held().ppid;
    sys::kill(intermediate, libc::SIGSTOP).unwrap();
    let detained = sys::detain(intermediate).unwrap();
    assert_eq!(await_failure(&run).kind, "StartupTimeout");
    drop(detained);
    run.wait_until_ended(intermediate);
    assert_reaped_at_the_next_start(&run, intermediate);
}

/// It becomes a child of the launcher where that is a subreaper.
fn a_daemon_that_outlasts_the_launchers_patience_is_reaped_at_the_next_start() {
    let run = going_on()
        .from_state(|state| state.subreaper = true)
        .launch();
    let daemon = run.held().pid;
    let detained = sys::detain(daemon).unwrap();
    run.kill_intermediate();
    let error = await_failure(&run);
    assert_eq!(error.kind, "IntermediateExited");
    assert!(error.text.contains("the daemon may be left"), "{error}");
    drop(detained);
    run.wait_until_ended(daemon);
    assert_reaped_at_the_next_start(&run, daemon);
}

fn a_daemon_that_cannot_be_ended_is_reported_as_left() {
    let scenario = scenario!().pid_file("daemon.pid").startup_timeout(TIME);
    let run = scenario.initialize([Step::Hold]).launch();
    let daemon = run.held().pid;
    let detained = sys::detain(daemon).unwrap();
    let error = run.launcher_error();
    assert_eq!(error.kind, "StartupTimeout", "{}", run.account());
    let text = late(
        "during the initialization; the daemon may be left: \
         it ends when it reports, if not before",
    );
    assert_eq!(error.text, text);
    drop(detained);
    run.wait_until_ended(daemon);
}

fn a_disconnected_daemon_that_cannot_be_ended_is_reported_as_left() {
    let steps = [Step::Hold, Step::CloseSockets, Step::Hold];
    let scenario = scenario!().pid_file("daemon.pid").initialize(steps);
    let run = scenario.launch();
    let daemon = run.held().pid;
    let detained = sys::detain(daemon).unwrap();
    run.proceed();
    let error = run.launcher_error();
    // It still has its lock.
    assert!(run.pid_file().unwrap().locked);
    let text = "the daemon ended before it was ready: it closed its connection to the launcher, \
                as a daemon does that executes another program or closes every descriptor; \
                it could not be terminated, and may be left";
    assert_eq!(error.text, text);
    drop(detained);
    run.wait_until_ended(daemon);
}

fn a_stopped_daemon_does_not_outlast_the_time() {
    let scenario = scenario!().pid_file("daemon.pid").startup_timeout(TIME);
    let began = Instant::now();
    let run = scenario.privileged_action([Step::Hold]).launch();
    sys::kill(run.held().pid, libc::SIGSTOP).unwrap();
    assert_times_out(&run, began);
}

/// Launcher and intermediate, for as long as a daemon takes, with a time and
/// without.
fn who_waits_leaves_the_processor_to_others() {
    for timeout in [None, Some(Duration::from_secs(60))] {
        let mut scenario = scenario!().pid_file("daemon.pid");
        if let Some(timeout) = timeout {
            scenario = scenario.startup_timeout(timeout);
        }
        let run = scenario.privileged_action([Step::Hold]).launch();
        let waiting = [run.launcher_pid(), run.held().ppid];
        assert_idle(&run, waiting);
    }
}

/// For its last word, once there is a daemon.
fn who_waits_for_a_stopped_intermediate_leaves_the_processor_to_others() {
    let scenario = scenario!().pid_file("daemon.pid");
    let run = scenario.privileged_action([Step::Hold]).launch();
    let intermediate = run.held().ppid;
    sys::kill(intermediate, libc::SIGSTOP).unwrap();
    run.proceed();
    assert_idle(&run, [run.launcher_pid()]);
    sys::kill(intermediate, libc::SIGCONT).unwrap();
    run.launcher().assert().success();
}

/// Fails unless these do nothing for a second, in which the launcher waits.
#[track_caller]
fn assert_idle<const COUNT: usize>(run: &tester::Run, waiting: [u32; COUNT]) {
    let before = waiting.map(processor_time);
    let second = Instant::now() + Duration::from_secs(1);
    assert!(!run.handle(run.launcher_pid()).wait(second).unwrap());
    let after = waiting.map(processor_time);
    for (before, after) in before.iter().zip(after) {
        let used = after - before;
        assert!(used < 5, "{used} hundredths of a second");
    }
}

/// What a process has used so far, in hundredths of a second: proc(5), `utime`
/// and `stime`.
fn processor_time(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let (_, fields) = stat.rsplit_once(") ").unwrap();
    let times = fields.split(' ').skip(11).take(2);
    times.map(|time| time.parse::<u64>().unwrap()).sum()
}

// --- The service manager --------------------------------------------------------

/// One that is there, but does not read; with room for more, or without.
fn with_deaf_manager(scenario: Scenario, has_room: bool) -> (Scenario, UnixDatagram) {
    let path = scenario.path("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    if !has_room {
        let sender = UnixDatagram::unbound().unwrap();
        sender.set_nonblocking(true).unwrap();
        while sender.send_to(b"X=1\n", &path).is_ok() {}
    }
    (scenario.env("NOTIFY_SOCKET", path), manager)
}

fn a_service_manager_that_does_not_read_holds_up_nobody_for_long() {
    let (scenario, _manager) = with_deaf_manager(scenario!().pid_file("daemon.pid"), false);
    // A signal ends the wait, which begins again.
    let interrupted = scenario.clone().pid_file("interrupted.pid");
    let interrupted = interrupted.from_state(|state| state.interval_timer = Some(100_000));
    thread::scope(|scope| {
        for scenario in [scenario, interrupted] {
            scope.spawn(move || {
                let began = Instant::now();
                scenario.start().observe();
                assert!(began.elapsed() < MUCH_MORE, "{:?}", began.elapsed());
            });
        }
    });
}

fn a_service_manager_that_does_not_read_holds_up_no_foreground_for_long() {
    let scenario = scenario!().foreground(Foreground::Yes);
    let (scenario, _manager) = with_deaf_manager(scenario, false);
    let began = Instant::now();
    let run = scenario.launch();
    run.report();
    assert!(began.elapsed() < MUCH_MORE, "{:?}", began.elapsed());
}

/// The launcher waits for the manager to read, which takes it seconds. A daemon
/// that ends meanwhile leaves no lock behind.
fn the_pid_file_is_the_daemons_alone_while_the_service_manager_is_told() {
    let scenario = scenario!().pid_file("daemon.pid");
    let (scenario, manager) = with_deaf_manager(scenario, true);
    manager
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    let run = scenario.launch();
    let daemon = run.report().pid;
    // From here on it is told; that all of it was read is what is waited for.
    manager.recv(&mut [0; 256]).unwrap();
    run.kill_daemon();
    run.wait_until_ended(daemon);
    let pid_file = run.pid_file().unwrap();
    run.assert_launcher_waits();
    assert!(!pid_file.locked, "{pid_file:?}");
    run.launcher().assert().success();
}

// --- Who is believed ------------------------------------------------------------

/// Once it has given up its rights the daemon may be anybody's, and its launcher
/// is root: `MAINPID=1` would have systemd take itself for the service.
fn what_a_daemon_says_of_its_pid_is_not_believed() {
    // A report of readiness (src/start/protocol.rs) with the pid 1.
    let mut forged = [0_u8; 16];
    forged[0] = 1;
    forged[8..12].copy_from_slice(&1_u32.to_ne_bytes());
    let scenario = scenario!().entry(Entry::Execute).pid_file("daemon.pid");
    let path = scenario.path("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    let run = scenario
        .env("NOTIFY_SOCKET", path)
        .initialize([Step::Observe, Step::SendToSockets(Bytes(forged.to_vec()))])
        .launch();
    let daemon = run.observed().pid;
    let mut message = [0; 64];
    let length = manager.recv(&mut message).unwrap();
    drop(manager);
    let told = String::from_utf8_lossy(&message[..length]);
    assert_eq!(told, format!("MAINPID={daemon}\nREADY=1\n"));
    assert_eq!(run.launcher_result().daemon_pid, daemon);
}

// --- Other threads --------------------------------------------------------------

/// fork(2) copies a lock as it is, but not the thread that would unlock it.
fn a_start_beside_threads_that_lock_what_the_daemon_needs_succeeds() {
    for _ in 0..20 {
        let scenario = scenario!().pid_file("daemon.pid").entry(Entry::Execute);
        let run = scenario.from_state(|state| state.guard_takers = 4).start();
        run.observe();
    }
}

// --- Standard error -------------------------------------------------------------

fn a_failure_in_the_foreground_ends_the_process_also_if_nobody_can_be_told() {
    let scenario = scenario!()
        .foreground(Foreground::Yes)
        .pid_file("daemon.pid");
    symlink("/dev/full", scenario.path("full")).unwrap();
    let run = scenario
        .stderr(Stream::append("full"))
        .deferred_readiness(Deferral::new([], ReadinessUse::Fail("no port".into())))
        .launch();
    run.launcher().assert().code(1);
    run.assert_nothing_left();
}
