use tester::prelude::*;

use crate::setup::*;

pub(crate) const CASES: &[Case] = &[
    case!(a_failure_is_returned_and_clears_the_pid_file),
    case!(a_failure_before_the_first_step_is_returned),
    case!(a_failure_to_get_ready_ends_the_process),
    case!(a_failure_to_get_ready_ends_the_process_if_standard_error_is_broken),
];

fn a_failure_is_returned_and_clears_the_pid_file() {
    let no_luck = || Fallible::from(ErrorText::from("no luck"));
    let failed_action = in_foreground().try_privileged_action(no_luck());
    let cases = [
        (failed_action, "PrivilegedAction"),
        (in_foreground().initialize(no_luck()), "Initialize"),
        (in_foreground().chroot("missing"), "Chroot"),
    ];
    for (scenario, kind) in cases {
        let scenario = scenario.pid_file("daemon.pid");
        let run = scenario.launch();
        let error = run.launcher_error();
        assert_eq!(error.kind_name(), kind);
        // Under `execute` the child gets the error, and the process goes on.
        let run = scenario.entry(Entry::Execute).launch();
        assert_eq!(run.daemon_error(), error);
        run.wait_until_all_ended();
        assert!(run.launcher().pid_file.unwrap().is_released());
    }
    // The pid file is released while the process lives.
    let scenario = daemon!()
        .foreground(Foreground::Yes)
        .initialize(no_luck())
        .entry(Entry::Execute)
        .life(Life::UntilCommandEvenIfFailed);
    let run = scenario.launch();
    run.daemon_error();
    run.observe();
    run.assert_pid_file_released();
    // The hook prints a panic before the library returns it.
    let scenario = in_foreground().initialize([Step::Panic("out of luck".to_owned())]);
    let run = scenario.entry(Entry::Execute).launch();
    let text = format!("the daemon panicked: {}", of_panic("out of luck"));
    assert_eq!(run.daemon_error().text, text);
}

fn a_failure_before_the_first_step_is_returned() {
    let scenario = daemon!().foreground(Foreground::Yes).user("no-such-user");
    let run = scenario.launch();
    let error = run.launcher_error();
    assert_eq!(error.kind_name(), "UserNotFound");
    run.assert_nothing_left();
    let run = scenario.entry(Entry::Execute).launch();
    assert_eq!(run.daemon_error(), error);
}

fn a_failure_to_get_ready_ends_the_process() {
    let usage = ReadinessUse::Fail("no port is free".into());
    let scenario = daemon!().foreground(Foreground::Yes).deferring([], usage);
    let run = scenario.launch();
    let text = "the daemon is not ready: no port is free\n";
    run.launcher().assert().code(1).stderr(text);
    run.assert_nothing_left();
    // A dropped readiness releases the pid file, and leaves the process alone.
    let scenario = daemon!()
        .foreground(Foreground::Yes)
        .deferring([], ReadinessUse::Drop);
    let (run, _) = scenario.serve();
    run.observe();
    run.assert_pid_file_released();
    run.exit(0);
    let text = format!("the daemon is not ready: {READINESS_DROPPED}\n");
    run.launcher().assert().code(0).stderr(text);
}

/// A write to a FIFO that no process reads any more fails with EPIPE.
fn a_failure_to_get_ready_ends_the_process_if_standard_error_is_broken() {
    let scenario = daemon!().foreground(Foreground::Yes);
    let fifo = scenario.path("fifo");
    sys::make_fifo(&fifo).unwrap();
    let reader = File::options().read(true).write(true).open(&fifo).unwrap();
    let usage = ReadinessUse::Fail("no port".into());
    let scenario = scenario.stderr(Stream::append("fifo"));
    let run = scenario.deferring([Step::Hold], usage).launch();
    run.held();
    drop(reader);
    run.proceed();
    run.launcher().assert().code(1);
    run.assert_nothing_left();
}
