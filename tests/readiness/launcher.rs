use std::os::unix::net::UnixDatagram;

use tester::prelude::*;

pub(crate) const CASES: &[Case] = &[
    case!(a_daemon_whose_launcher_dies_ends),
    case!(ready_without_a_launcher_returns_an_error_under_execute),
    case!(ready_without_a_launcher_ends_the_process_under_start),
    case!(a_report_without_a_launcher_does_not_raise_sigpipe),
    case!(the_launcher_does_not_believe_a_forged_pid),
    case!(the_launcher_accepts_no_descriptor_from_a_daemon, needs Linux),
];

fn a_daemon_whose_launcher_dies_ends() {
    at_once([libc::SIGKILL, libc::SIGINT, libc::SIGHUP], |signal| {
        for disposition in [Disposition::Default, Disposition::Ignore] {
            let scenario = daemon!().deferring([], ReadinessUse::Keep);
            let scenario = scenario.on_signal(libc::SIGTERM, disposition);
            let run = scenario.launch();
            run.report();
            run.signal_launcher(signal);
            run.launcher().assert().interrupted();
            run.wait_until_all_ended();
            run.assert_pid_file_released();
        }
    });
}

/// Kills the intermediate and then the launcher, which is stopped meanwhile.
fn kill_intermediate_and_launcher(run: &Run) {
    run.held();
    run.signal_launcher(libc::SIGSTOP);
    run.kill_intermediate();
    run.kill_launcher();
}

/// A daemon that does not know that its launcher is dead: the intermediate is killed
/// first, while the launcher is stopped.
fn without_launcher(entry: Entry) -> (Run, u32) {
    let scenario = daemon!().deferring([Step::Hold], ReadinessUse::Ready);
    let run = scenario.entry(entry).launch();
    kill_intermediate_and_launcher(&run);
    let daemon = run.held().pid;
    (run, daemon)
}

fn ready_without_a_launcher_returns_an_error_under_execute() {
    for entry in [Entry::Execute, Entry::ExecuteChecked] {
        let (run, daemon) = without_launcher(entry);
        run.proceed();
        let (sender, error) = run.readiness_error();
        assert_eq!(sender, daemon);
        error.assert_is("LauncherGone", "the launcher has ended");
        // The daemon goes on, and has released its pid file.
        assert_eq!(run.observe().pid, daemon);
        run.assert_pid_file_released();
    }
}

fn ready_without_a_launcher_ends_the_process_under_start() {
    for entry in [Entry::Start, Entry::StartChecked] {
        let (run, _) = without_launcher(entry);
        run.proceed();
        run.wait_until_all_ended();
        assert!(!run.has_sent(|message| *message == Message::Acknowledged));
        assert!(!run.has_sent(|message| matches!(message, Message::NotAcknowledged(_))));
        run.assert_pid_file_released();
    }
}

/// The daemon reports on a socket that has no reader any more.
fn a_report_without_a_launcher_does_not_raise_sigpipe() {
    let scenario = daemon!().on_signal(libc::SIGPIPE, Disposition::Default);
    let scenario = scenario.entry(Entry::Execute);
    let run = scenario.privileged_action([Step::Hold]).launch();
    kill_intermediate_and_launcher(&run);
    run.proceed();
    assert_eq!(run.daemon_error().kind, "LauncherGone");
}

/// After the change of identity another user may control the daemon, while its launcher
/// is root. With `MAINPID=1`, systemd would take itself for the service.
fn the_launcher_does_not_believe_a_forged_pid() {
    // A message of readiness, with the pid 1.
    let mut forged = [0_u8; 16];
    forged[0] = 1;
    forged[8..12].copy_from_slice(&1_u32.to_ne_bytes());
    let scenario = daemon!().entry(Entry::Execute);
    let path = scenario.path("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(time_limit())).unwrap();
    let steps = [Step::Observe, Step::SendToSockets(Bytes(forged.to_vec()))];
    let scenario = scenario.env("NOTIFY_SOCKET", path).initialize(steps);
    let run = scenario.launch();
    let daemon = run.observed().pid;
    let mut message = [0; 64];
    let length = manager.recv(&mut message).unwrap();
    drop(manager);
    let notification = String::from_utf8_lossy(&message[..length]);
    assert_eq!(notification, format!("MAINPID={daemon}\nREADY=1\n"));
    assert_eq!(run.launcher_result().daemon_pid, daemon);
}

fn the_launcher_accepts_no_descriptor_from_a_daemon() {
    let scenario = scenario!().entry(Entry::Execute);
    let gift = scenario.path("gift");
    fs::write(&gift, "").unwrap();
    let send = Step::SendDescriptorToSockets(Bytes::from(gift.as_path()));
    let run = scenario.initialize([send, Step::Hold]).launch();
    run.held();
    let descriptors = run.outside(run.launcher_pid()).descriptors.unwrap();
    let is_accepted = descriptors.iter().any(|one| one.is_file(&gift));
    assert!(!is_accepted, "{descriptors:?}");
}
