use tester::prelude::*;

pub(crate) const CASES: &[Case] = &[
    case!(the_launcher_waits_until_the_daemon_is_ready),
    case!(ready_returns_when_the_start_is_committed),
    case!(ready_may_be_reported_from_another_thread),
];

fn the_launcher_waits_until_the_daemon_is_ready() {
    let scenario = daemon!().deferring([Step::Hold], ReadinessUse::Ready);
    let run = scenario.launch();
    let daemon = run.held();
    // The library has returned in the daemon.
    assert_eq!(run.report().pid, daemon.pid);
    run.assert_launcher_waits();
    assert!(!run.has_sent(|message| *message == Message::Acknowledged));
    run.proceed();
    run.launcher().assert().success().stdout("").stderr("");
    assert_eq!(run.await_message(&Message::Acknowledged), daemon.pid);
}

fn ready_returns_when_the_start_is_committed() {
    let scenario = daemon!().deferring([Step::Observe], ReadinessUse::Ready);
    let run = scenario.launch();
    let intermediate = run.observed().ppid;
    assert_ne!(intermediate, run.reaper());
    run.await_message(&Message::Acknowledged);
    // From now on the start does not depend on the launcher.
    run.signal_launcher(libc::SIGKILL);
    assert_eq!(run.observe().ppid, run.reaper());
    run.launcher();
    assert_eq!(run.observe().ppid, run.reaper());
    run.assert_pid_file_held();
}

fn ready_may_be_reported_from_another_thread() {
    let mut deferral = Deferral::new([Step::Hold], ReadinessUse::Ready);
    deferral.in_thread = true;
    let run = scenario!().deferred_readiness(deferral).launch();
    let daemon = run.held();
    run.assert_launcher_waits();
    run.proceed_to_success();
    assert_eq!(run.await_message(&Message::Acknowledged), daemon.pid);
    assert_eq!(run.observe().pid, daemon.pid);
}
