use control::Command as Ask;
use tester::prelude::*;

use crate::setup::*;

pub(crate) const CASES: &[Case] = &[
    case!(a_warning_reaches_the_launcher_whose_output_then_ends),
    case!(a_warning_before_a_deferred_readiness_reaches_the_launcher),
    case!(one_stream_may_be_kept_until_the_daemon_is_ready),
    case!(standard_input_may_be_kept_until_the_daemon_is_ready),
    case!(a_stream_may_be_kept_before_and_after),
    case!(a_source_may_be_a_standard_stream_that_is_kept),
    case!(closed_streams_are_the_null_device_until_the_daemon_is_ready),
    case!(the_streams_to_come_are_close_on_exec_and_no_streams),
    case!(in_the_foreground_a_stream_is_kept_until_the_notification),
    case!(a_failed_initialization_frees_the_launchers_output),
    case!(a_dropped_readiness_frees_the_launchers_output),
    case!(a_log_file_that_cannot_be_opened_fails_the_start),
    case!(a_daemon_that_has_closed_the_stream_to_come_fails_the_start),
    case!(another_daemon_does_not_inherit_the_streams_to_come),
    case!(inherited_descriptors_are_closed_without_harm),
];

/// What a stream may become, each with its file in the case, if it has one.
fn every_then(scenario: &Scenario) -> [(Stream, Option<PathBuf>); 3] {
    let [file, log] = ["1", "log"].map(|name| scenario.path(name));
    [
        (Stream::DevNull, None),
        (Stream::append(&file), Some(file)),
        (Stream::log(&log), Some(log)),
    ]
}

/// Both output streams are kept until the daemon is ready.
fn both(scenario: &Scenario, then: &Stream) -> Scenario {
    let then = then.clone().until_ready();
    scenario.clone().stdout(then.clone()).stderr(then)
}

fn warn() -> [Step; 2] {
    [
        Step::Write(1, "an output\n".to_owned()),
        Step::Write(2, "a warning\n".to_owned()),
    ]
}

/// The launcher has the warning, its output has ended, and the daemon writes elsewhere.
#[track_caller]
fn assert_replaced(run: &Run, then: Option<&Path>) {
    // The launcher counts as ended once no process holds the pipes.
    let output = run.launcher().output;
    assert_eq!(output.stdout, b"an output\n");
    assert_eq!(output.stderr, b"a warning\n");
    run.answer(&Ask::Write(2, Bytes::from("afterwards\n")));
    let daemon = run.observe();
    for index in [1, 2] {
        match then {
            Some(path) => assert!(stream(&daemon, index).is_file(path)),
            None => assert_null(&daemon, index),
        }
    }
    if let Some(path) = then {
        assert_eq!(fs::read(path).unwrap(), b"afterwards\n");
    }
}

fn a_warning_reaches_the_launcher_whose_output_then_ends() {
    for entry in ENTRIES {
        let scenario = scenario!().entry(entry).piped();
        for (then, path) in every_then(&scenario) {
            let run = both(&scenario, &then).initialize(warn()).start();
            assert_replaced(&run, path.as_deref());
            assert_nothing_stray(&run, &run.observe(), Some(scenario.directory()));
            run.exit(0);
            if let Some(path) = path {
                fs::remove_file(path).unwrap();
            }
        }
    }
}

fn a_warning_before_a_deferred_readiness_reaches_the_launcher() {
    for in_thread in [false, true] {
        let scenario = scenario!().piped();
        let log = scenario.path("log");
        let mut deferral = Deferral::new(warn(), ReadinessUse::Ready);
        deferral.in_thread = in_thread;
        let scenario = both(&scenario, &Stream::log(&log));
        let run = scenario.deferred_readiness(deferral).start();
        assert_replaced(&run, Some(&log));
    }
}

fn one_stream_may_be_kept_until_the_daemon_is_ready() {
    let scenario = scenario!().piped();
    let log = scenario.path("log");
    let stderr = Stream::log(&log).until_ready();
    let run = scenario.stderr(stderr).initialize(warn()).start();
    let output = run.launcher().output;
    assert_eq!(
        (output.stdout, output.stderr),
        (vec![], b"a warning\n".to_vec())
    );
    let daemon = run.observe();
    assert_null(&daemon, 1);
    assert!(stream(&daemon, 2).is_file(&log));
}

fn standard_input_may_be_kept_until_the_daemon_is_ready() {
    let scenario = scenario!().stdin(Stream::DevNull.until_ready());
    let run = scenario.initialize([Step::Observe]).start();
    assert_eq!(stream(&run.observed(), 0), stream(&run.initial(), 0));
    assert_null(&run.report(), 0);
}

fn a_stream_may_be_kept_before_and_after() {
    let kept = || Stream::Keep.until_ready();
    assert_null_or_kept(
        &set_all(scenario!(), [kept(), kept(), kept()]).start(),
        [false; 3],
    );
}

fn a_source_may_be_a_standard_stream_that_is_kept() {
    let scenario = scenario!();
    let source = file(&scenario, 2).at(1).until_ready();
    let path = scenario.path("2");
    let run = scenario.stdout(Stream::Keep).stderr(source);
    let run = run.initialize([Step::Observe]).start();
    let observed = run.observed();
    assert!(stream(&observed, 1).is_file(&path));
    assert_eq!(stream(&observed, 2), stream(&run.initial(), 2));
    assert!(stream(&run.report(), 2).is_file(&path));
    assert_nothing_stray(&run, &run.report(), None);
}

fn closed_streams_are_the_null_device_until_the_daemon_is_ready() {
    for closed in every_closing() {
        let scenario = scenario!();
        let log = scenario.path("log");
        let scenario = both(&scenario, &Stream::log(&log)).initialize([Step::Observe]);
        let run = scenario.from_state(|state| state.closed = closed).start();
        let observed = run.observed();
        for index in [1, 2] {
            match closed[index] {
                true => assert_null(&observed, index),
                false => assert_eq!(stream(&observed, index), stream(&run.initial(), index)),
            }
            assert!(stream(&run.report(), index).is_file(&log));
        }
        assert_nothing_stray(&run, &run.report(), None);
    }
}

fn the_streams_to_come_are_close_on_exec_and_no_streams() {
    let scenario = scenario!();
    for (then, _) in every_then(&scenario) {
        let scenario = both(&scenario, &then).initialize([Step::Observe]);
        let run = scenario
            .from_state(|state| state.closed = [true; 3])
            .start();
        let observed = run.observed();
        let initial = run.initial().descriptor_numbers();
        let descriptors = observed.descriptors.as_deref().unwrap().iter();
        let new = descriptors.filter(|one| one.number > 2 && !initial.contains(&one.number));
        assert!(
            new.clone().all(|one| one.close_on_exec == Some(true)),
            "{observed:?}"
        );
        run.exit(0);
    }
}

fn in_the_foreground_a_stream_is_kept_until_the_notification() {
    let scenario = scenario!();
    let log = scenario.path("log");
    let scenario = both(&scenario, &Stream::log(&log)).foreground(Foreground::Yes);
    let run = scenario.clone().initialize([Step::Observe]).launch();
    assert_eq!(stream(&run.observed(), 2), stream(&run.initial(), 2));
    assert!(stream(&run.report(), 2).is_file(&log));
    let deferral = Deferral::new([Step::Observe], ReadinessUse::Ready);
    let run = scenario.deferred_readiness(deferral).launch();
    assert_eq!(stream(&run.observed(), 2), stream(&run.initial(), 2));
    run.await_message(&Message::Acknowledged);
    assert!(stream(&run.observe(), 2).is_file(&log));
}

/// Under `execute` the failed daemon still runs when the output of the launcher has ended.
fn a_failed_initialization_frees_the_launchers_output() {
    let failing = Fallible {
        steps: warn().to_vec(),
        error: Some(ErrorText::from("no luck")),
        payload: None,
    };
    for entry in CHECKED {
        let scenario = scenario!().piped().entry(entry);
        let log = scenario.path("log");
        let scenario = both(&scenario, &Stream::log(&log)).initialize(failing.clone());
        let run = scenario.life(Life::UntilCommandEvenIfFailed).launch();
        let output = run.launcher().output;
        assert_eq!(output.stdout, b"an output\n");
        let text = "a warning\ntester: the initialization failed: no luck\n";
        assert_eq!(String::from_utf8_lossy(&output.stderr), text);
        if entry.returns_in_both() {
            let daemon = run.observe();
            assert!(stream(&daemon, 2).is_file(&log));
            assert_nothing_stray(&run, &daemon, None);
            run.send_command(&Ask::Exit(0));
        }
        run.wait_until_all_ended();
    }
}

fn a_dropped_readiness_frees_the_launchers_output() {
    let scenario = scenario!().piped();
    let log = scenario.path("log");
    let deferral = Deferral::new(warn(), ReadinessUse::Drop);
    let scenario = both(&scenario, &Stream::log(&log)).deferred_readiness(deferral);
    let run = scenario.launch();
    let output = run.launcher().output;
    let text = format!("a warning\ntester: the daemon is not ready: {READINESS_DROPPED}\n");
    assert_eq!(String::from_utf8_lossy(&output.stderr), text);
    run.wait_until_all_ended();
}

fn a_log_file_that_cannot_be_opened_fails_the_start() {
    let scenario = scenario!();
    let path = scenario.path("missing/error.log");
    let scenario = scenario.stderr(Stream::log(&path).until_ready());
    let error = scenario.fail_in_launcher();
    error.assert_kind("OpenLogFile", libc::ENOENT);
    assert_eq!(error.path, Some(Bytes::from(&path)));
    scenario.fail_in_launcher_and_daemon();
}

fn a_daemon_that_has_closed_the_stream_to_come_fails_the_start() {
    let scenario = scenario!();
    for then in [Stream::DevNull, Stream::log(scenario.path("log"))] {
        let scenario = scenario.clone().stderr(then.until_ready());
        let reason = errno_text(libc::EBADF);
        let text = format!("cannot redirect standard error: {reason}");
        let closing = scenario.clone().initialize([Step::CloseFiles]);
        let error = closing.fail_in_launcher();
        error.assert_kind("RedirectStreams", libc::EBADF);
        assert_eq!(error.text, text);
        let deferring = scenario
            .entry(Entry::Execute)
            .deferring([Step::CloseFiles], ReadinessUse::Ready);
        let run = deferring.launch();
        assert_eq!(run.launcher_error().text, text);
        assert_eq!(run.readiness_error().1.text, text);
    }
}

fn another_daemon_does_not_inherit_the_streams_to_come() {
    let scenario = scenario!();
    let log = scenario.path("log");
    for close_inherited_fds in [false, true] {
        let mut deferral = Deferral::new([], ReadinessUse::Ready);
        deferral.in_another = Some(AnotherStart {
            close_inherited_fds,
            ..AnotherStart::default()
        });
        let scenario = both(&scenario, &Stream::log(&log));
        let run = scenario.deferred_readiness(deferral).start();
        run.await_message(&Message::Acknowledged);
        let other = run.observed();
        let open = other.descriptors.as_deref().unwrap();
        assert!(!open.iter().any(|one| one.is_file(&log)), "{open:?}");
        assert!(stream(&run.observe(), 2).is_file(&log));
    }
}

fn inherited_descriptors_are_closed_without_harm() {
    let scenario = scenario!();
    for (then, path) in every_then(&scenario) {
        let scenario = both(&scenario, &then).close_inherited_fds([]);
        let run = scenario.start();
        if let Some(path) = path {
            assert!(stream(&run.report(), 2).is_file(&path));
        }
        run.exit(0);
    }
}
