use tester::prelude::*;
use tester::sys::ProcessHandle;

use crate::setup::*;

pub(crate) const CASES: &[Case] = &[
    // The longest first.
    case!(a_daemon_that_cannot_be_terminated_is_reported_as_left, needs Stepping),
    case!(a_disconnected_daemon_that_cannot_be_terminated_is_reported_as_left, needs Stepping),
    case!(a_daemon_that_outlasts_sigkill_is_reaped_at_the_next_start, needs Stepping),
    case!(a_late_daemon_gets_sigterm),
    case!(a_late_daemon_that_survives_sigterm_is_killed),
    case!(the_timeout_covers_every_step_of_the_daemon),
    case!(a_daemon_in_time_is_not_signalled),
    case!(a_timeout_beyond_the_clocks_range_is_no_timeout),
    case!(the_timeout_covers_the_steps_before_the_daemon_exists),
    case!(a_stopped_daemon_does_not_outlast_the_timeout),
];

/// Runs a daemon that is late. Returns how long the launcher has waited.
#[track_caller]
fn run_late_daemon(scenario: Scenario, disposition: Disposition, step: &str) -> (Run, Duration) {
    let scenario = scenario.startup_timeout(timeout());
    let scenario = scenario.on_signal(libc::SIGTERM, disposition);
    let began = Instant::now();
    let run = scenario.launch();
    let error = run.launcher_error();
    let took = began.elapsed();
    let text = timeout_text(
        timeout(),
        &format!("{step}; the library terminated the daemon"),
    );
    error.assert_is("StartupTimeout", &text);
    run.assert_nothing_left();
    (run, took)
}

/// The step in which a daemon keeps its readiness.
const UNTIL_READY: &str = "before the daemon used its `Readiness`";

fn a_late_daemon_gets_sigterm() {
    let scenario = daemon!().deferring([], ReadinessUse::Keep);
    let (run, took) = run_late_daemon(scenario, Disposition::ReportAndExit, UNTIL_READY);
    run.await_message(&Message::Signalled(libc::SIGTERM));
    assert!(took >= timeout(), "{took:?}");
}

fn a_late_daemon_that_survives_sigterm_is_killed() {
    const SIGTERM_GRACE: Duration = Duration::from_secs(1);

    at_once([Disposition::Report, Disposition::Ignore], |disposition| {
        let scenario = daemon!().deferring([], ReadinessUse::Keep);
        let (run, took) = run_late_daemon(scenario, disposition, UNTIL_READY);
        if disposition == Disposition::Report {
            run.await_message(&Message::Signalled(libc::SIGTERM));
        }
        assert!(took >= timeout() + SIGTERM_GRACE, "{took:?}");
    });
}

fn the_timeout_covers_every_step_of_the_daemon() {
    thread::scope(|scope| {
        for entry in ENTRIES {
            for scenario in in_each_closure(|| daemon!(), &[Step::Hold]) {
                scope.spawn(move || {
                    let config = &scenario.config;
                    let step = match (&config.deferred_readiness, config.initialize.is_empty()) {
                        (Some(_), _) => UNTIL_READY,
                        (None, false) => "during the initialization",
                        (None, true) => "during the privileged action",
                    };
                    let (run, _) =
                        run_late_daemon(scenario.entry(entry), Disposition::Default, step);
                    run.held();
                });
            }
        }
    });
    // A timeout of zero always runs out.
    let scenario = daemon!().deferring([], ReadinessUse::Keep);
    let scenario = scenario.startup_timeout(Duration::ZERO);
    assert_eq!(scenario.fail().kind, "StartupTimeout");
}

fn a_daemon_in_time_is_not_signalled() {
    let timeout = scaled(Duration::from_secs(2));
    let began = Instant::now();
    let run = scenario!()
        .initialize([Step::Observe])
        .startup_timeout(timeout)
        .on_signal(libc::SIGTERM, Disposition::ReportAndExit)
        .start();
    let daemon = ProcessHandle::open(run.report().pid).unwrap().unwrap();
    let time_is_up = began + timeout + scaled(Duration::from_millis(200));
    assert!(!daemon.wait(time_is_up).unwrap(), "{}", run.diagnostics());
    run.observe();
}

fn a_timeout_beyond_the_clocks_range_is_no_timeout() {
    /// The clock cannot count this far.
    const FAR: Duration = Duration::from_millis(u64::MAX);

    let run = scenario!().startup_timeout(FAR).start();
    run.launcher().assert().success();
}

fn the_timeout_covers_the_steps_before_the_daemon_exists() {
    /// Not scaled: the intermediate, which begins later, waits as long for a prober.
    const TIMEOUT: Duration = Duration::from_secs(1);

    let scenario = daemon!().startup_timeout(TIMEOUT);
    let path = scenario.pid_file_path().unwrap();
    fs::write(&path, "4242\n").unwrap();
    let prober = File::open(&path).unwrap();
    sys::flock(prober.as_fd(), libc::LOCK_SH).unwrap();
    let began = Instant::now();
    let run = scenario.privileged_action([Step::Observe]).launch();
    let error = run.launcher_error();
    assert_eq!(error.kind, "StartupTimeout", "{}", run.diagnostics());
    let text = timeout_text(
        TIMEOUT,
        "while opening and locking the pid file; the daemon had not been forked",
    );
    assert_eq!(error.text, text);
    assert!(began.elapsed() < TIMEOUT + launcher_wait());
    // No step of the daemon has run, and the file is unchanged.
    assert!(!run.has_sent(|message| matches!(message, Message::Observed(_))));
    assert_eq!(fs::read(&path).unwrap(), b"4242\n");
}

fn a_stopped_daemon_does_not_outlast_the_timeout() {
    let scenario = daemon!().startup_timeout(timeout());
    let began = Instant::now();
    let run = scenario.privileged_action([Step::Hold]).launch();
    sys::kill(run.held().pid, libc::SIGSTOP).unwrap();
    assert_times_out(&run, began);
}

fn a_daemon_that_cannot_be_terminated_is_reported_as_left() {
    let scenario = daemon!().startup_timeout(timeout());
    let run = scenario.initialize([Step::Hold]).launch();
    let daemon = run.held().pid;
    let detained = sys::detain(daemon).unwrap();
    let error = run.launcher_error();
    assert_eq!(error.kind, "StartupTimeout", "{}", run.diagnostics());
    let text = timeout_text(
        timeout(),
        "during the initialization; the daemon may still run; \
         it ends at the latest when it reports to the launcher",
    );
    assert_eq!(error.text, text);
    drop(detained);
    run.wait_until_ended(daemon);
}

fn a_disconnected_daemon_that_cannot_be_terminated_is_reported_as_left() {
    let steps = [Step::Hold, Step::CloseSockets, Step::Hold];
    let run = daemon!().initialize(steps).launch();
    let daemon = run.held().pid;
    let detained = sys::detain(daemon).unwrap();
    run.proceed();
    let error = run.launcher_error();
    // The daemon still holds its lock.
    assert!(run.pid_file().unwrap().locked);
    let text = "the daemon ended before it was ready: it closed its connection to the launcher, \
                for example because it executed another program or closed every descriptor; \
                the daemon could not be terminated and may still exist";
    assert_eq!(error.text, text);
    drop(detained);
    run.wait_until_ended(daemon);
}

/// The daemon becomes a child of the launcher, which is a subreaper.
fn a_daemon_that_outlasts_sigkill_is_reaped_at_the_next_start() {
    let scenario = launcher_that_starts_twice().from_state(|state| state.subreaper = true);
    let run = scenario.launch();
    let daemon = run.held().pid;
    let detained = sys::detain(daemon).unwrap();
    run.kill_intermediate();
    let error = run.error_of_launcher();
    assert_eq!(error.kind, "IntermediateExited");
    assert!(error.text.contains("the daemon may still run"), "{error}");
    drop(detained);
    run.wait_until_ended(daemon);
    assert_reaped_at_the_next_start(&run, daemon);
}
