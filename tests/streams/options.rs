use tester::prelude::*;
use tester::report::AccessMode;

use crate::setup::*;

pub(crate) const CASES: &[Case] = &[
    case!(unset_streams_are_the_null_device),
    case!(each_stream_may_be_the_null_device_alone),
    case!(each_stream_may_be_a_file_alone),
    case!(each_stream_may_be_kept_alone),
    case!(a_file_keeps_its_access_mode),
    case!(two_streams_may_share_a_file),
    case!(output_of_the_daemon_reaches_the_file),
    case!(the_daemon_does_not_keep_the_launchers_output_open),
    case!(a_kept_stream_stays_open),
];

fn unset_streams_are_the_null_device() {
    let run = scenario!().start();
    let daemon = run.report();
    (0..3).for_each(|index| assert_null(&daemon, index));
    assert_nothing_stray(&run, &daemon, None);
}

/// Sets one of the three streams.
fn set(scenario: Scenario, number: usize, stream: Stream) -> Scenario {
    match number {
        0 => scenario.stdin(stream),
        1 => scenario.stdout(stream),
        _ => scenario.stderr(stream),
    }
}

fn each_stream_may_be_the_null_device_alone() {
    for index in 0..3 {
        let run = set(all_kept(), index, Stream::DevNull).start();
        let mut is_null = [false; 3];
        is_null[index] = true;
        assert_null_or_kept(&run, is_null);
    }
}

fn each_stream_may_be_a_file_alone() {
    for index in 0..3 {
        let scenario = scenario!();
        let source = file(&scenario, index);
        let run = set(scenario.clone(), index, source).start();
        let daemon = run.report();
        for other in (0..3).filter(|other| *other != index) {
            assert_null(&daemon, other);
        }
        let path = scenario.path(index.to_string());
        assert!(stream(&daemon, index).is_file(&path));
        assert_nothing_stray(&run, &daemon, Some(scenario.directory()));
    }
}

fn each_stream_may_be_kept_alone() {
    for index in 0..3 {
        let run = set(scenario!(), index, Stream::Keep).start();
        let mut is_null = [true; 3];
        is_null[index] = false;
        assert_null_or_kept(&run, is_null);
    }
}

fn a_file_keeps_its_access_mode() {
    let scenario = scenario!()
        .stdin(Stream::read("/dev/zero"))
        .stdout(Stream::append("log"))
        .stderr(Stream::file("both", Access::ReadWrite));
    let daemon = scenario.start().report();
    let of = |index| (stream(&daemon, index).access, stream(&daemon, index).append);
    assert_eq!(of(0), (AccessMode::Read, false));
    assert_eq!(of(1), (AccessMode::Write, true));
    assert_eq!(of(2), (AccessMode::ReadWrite, false));
}

fn two_streams_may_share_a_file() {
    let scenario = scenario!();
    let log = Stream::append(scenario.path("1"));
    let run = scenario.clone().stdout(log.clone()).stderr(log).start();
    let daemon = run.report();
    for index in 1..3 {
        assert!(stream(&daemon, index).is_file(&scenario.path("1")));
        assert!(stream(&daemon, index).append);
    }
    assert_nothing_stray(&run, &daemon, Some(scenario.directory()));
}

fn output_of_the_daemon_reaches_the_file() {
    // A panic writes to standard error.
    let steps = [Step::Panic("seen in the log".to_owned())];
    let scenario = scenario!().stderr(Stream::append("log"));
    let scenario = scenario.privileged_action(steps);
    scenario.launch().launcher_error();
    let log = fs::read_to_string(scenario.path("log")).unwrap();
    assert!(log.contains("seen in the log"), "{log}");
}

fn the_daemon_does_not_keep_the_launchers_output_open() {
    for entry in [Entry::Start, Entry::Execute] {
        // The launcher counts as ended once no process holds the pipes.
        let run = scenario!().entry(entry).piped().start();
        assert_eq!(run.observe().pid, run.report().pid);
    }
}

/// Without this case, the case before would prove nothing.
fn a_kept_stream_stays_open() {
    let run = scenario!().piped().stdout(Stream::Keep).launch();
    run.report();
    run.wait_until_ended(run.launcher_pid());
    run.observe();
    assert!(run.diagnostics().contains("has not ended"));
    run.send_command(&control::Command::Exit(0));
    run.launcher().assert().success();
}
