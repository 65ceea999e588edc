use tester::prelude::*;

use crate::setup::*;

pub(crate) const CASES: &[Case] = &[
    case!(the_sources_of_streams_are_used_before_they_are_closed),
    case!(streams_are_the_same_with_and_without_the_option),
    case!(the_pid_file_stays_locked),
    case!(the_intermediate_still_supervises_the_start),
    case!(readiness_can_still_be_deferred),
    case!(a_failure_is_still_reported),
    case!(a_descriptor_of_the_privileged_action_stays_open),
];

fn the_sources_of_streams_are_used_before_they_are_closed() {
    let scenario = with_open(NUMBERS);
    let [input, output] = ["input", "output"].map(|name| scenario.path(name));
    fs::write(&input, "").unwrap();
    let run = scenario
        .stdin(Stream::read(&input).at(99))
        .stdout(Stream::append(&output).at(800))
        .stderr(Stream::file(&output, Access::ReadWrite))
        .close_inherited_fds([])
        .start();
    let report = run.report();
    assert_eq!(report.descriptor_numbers(), [0, 1, 2]);
    let is = |number, path| report.descriptor(number).unwrap().is_file(path);
    assert!(is(0, &input) && is(1, &output) && is(2, &output));
}

fn streams_are_the_same_with_and_without_the_option() {
    for closed in [[false; 3], [true, false, true], [true; 3]] {
        let reports = [false, true].map(|closes| {
            let mut scenario = with_open(NUMBERS)
                .from_state(|state| state.closed = closed)
                .stdout(Stream::Keep);
            if closes {
                scenario = scenario.close_inherited_fds([]);
            }
            scenario.start().report()
        });
        for stream in 0..3 {
            let [without, with] = reports.each_ref().map(|report| report.descriptor(stream));
            let [without, with] = [without.unwrap(), with.unwrap()];
            // Each start has an output file of its own.
            assert_eq!(without.is_null_device(), with.is_null_device());
            assert_eq!(
                (without.file_type, without.access),
                (with.file_type, with.access)
            );
        }
    }
}

fn the_pid_file_stays_locked() {
    let scenario = with_open(NUMBERS).pid_file("daemon.pid");
    let run = scenario.clone().close_inherited_fds([]).start();
    let pid_file = run.pid_file().unwrap();
    assert!(pid_file.locked);
    assert_eq!(
        pid_file.bytes,
        format!("{}\n", run.report().pid).into_bytes()
    );
    // Only the descriptor of the lock is left.
    let left = numbers_above_streams(&run.report());
    assert_eq!(left.len(), 1, "{left:?}");
    let error = scenario.launch().launcher_error();
    assert_eq!(error.running_pid, Some(run.report().pid));
}

/// The intermediate keeps its own descriptors, and so sees how the daemon dies.
fn the_intermediate_still_supervises_the_start() {
    let scenario = with_open(NUMBERS)
        .pid_file("daemon.pid")
        .close_inherited_fds([]);
    let steps = [Step::KillItself(libc::SIGKILL)];
    let error = scenario.clone().privileged_action(steps).fail();
    assert_eq!(error.kind, "DaemonExited");
    assert_eq!(error.daemon_exit_status, Some(libc::SIGKILL));

    let run = scenario.privileged_action([Step::Hold]).launch();
    run.held();
    run.kill_launcher();
    run.wait_until_all_ended();
    run.assert_pid_file_released();
}

fn readiness_can_still_be_deferred() {
    let scenario = with_open(NUMBERS).close_inherited_fds([]);
    let deferral = Deferral::new([Step::Hold], ReadinessUse::Ready);
    let run = scenario.deferred_readiness(deferral).launch();
    run.held();
    run.assert_launcher_waits();
    run.proceed_to_success();
    assert_eq!(numbers_above_streams(&run.observe()), [0; 0]);
}

fn a_failure_is_still_reported() {
    for (scenario, kind) in [
        (scenario!().working_directory("missing"), "ChangeDirectory"),
        (scenario!().pid_file("missing/daemon.pid"), "OpenPidfile"),
        (scenario!().chroot("missing"), "Chroot"),
    ] {
        let error = scenario.close_inherited_fds([]).fail();
        error.assert_kind(kind, libc::ENOENT);
    }
}

fn a_descriptor_of_the_privileged_action_stays_open() {
    let scenario = with_open(NUMBERS).close_inherited_fds([]);
    let run = scenario.privileged_action([Step::Listen]).start();
    assert_eq!(numbers_above_streams(&run.report()).len(), 1);
    std::net::TcpStream::connect(("127.0.0.1", run.port())).unwrap();
}
