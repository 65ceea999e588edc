use tester::prelude::*;

pub(crate) const CASES: &[Case] = &[
    case!(on_started_runs_in_the_launcher_after_the_commit),
    case!(on_started_runs_once_under_every_entry_point),
    case!(what_on_started_prints_reaches_a_pipe),
    case!(a_panic_of_on_started_leaves_the_daemon_running),
    case!(on_started_does_not_run_after_a_failure),
    case!(on_started_does_not_run_in_the_foreground),
    case!(the_daemon_drops_the_captures_of_on_started_before_its_first_closure),
    case!(a_panic_in_the_drop_of_the_captures_fails_the_start),
    case!(a_start_within_on_started_is_refused),
    case!(a_child_of_on_started_does_not_return),
];

fn is_started(message: &Message) -> bool {
    matches!(message, Message::Started(_))
}

/// The daemon has exited by then, so that it takes no command of the launcher.
fn on_started_runs_in_the_launcher_after_the_commit() {
    for entry in ENTRIES {
        let scenario = daemon!().entry(entry).life(Life::Exit(0));
        let run = scenario.on_started([Step::Hold]).launch();
        assert_eq!(run.held().pid, run.launcher_pid());
        let daemon = run.report().pid;
        assert_eq!(run.started().daemon_pid, daemon);
        assert_eq!(run.pid_file().unwrap().bytes, content(daemon));
        run.assert_launcher_waits();
        run.proceed_to_success();
    }
}

fn on_started_runs_once_under_every_entry_point() {
    for entry in ENTRIES {
        let run = daemon!().entry(entry).on_started([]).start();
        let result = run.started();
        assert_eq!(
            run.senders_of(&Message::Started(result)),
            [run.launcher_pid()]
        );
        run.assert_pid_file_complete();
    }
}

/// A pipe is no terminal, so that std keeps a text without the end of a line.
fn what_on_started_prints_reaches_a_pipe() {
    for entry in ENTRIES {
        let print = [Step::Print("listening".to_owned())];
        let run = daemon!().entry(entry).on_started(print).piped().launch();
        run.launcher().assert().success().stdout("listening");
        run.assert_pid_file_complete();
    }
}

fn a_panic_of_on_started_leaves_the_daemon_running() {
    let steps = [
        Step::Print("listening".to_owned()),
        Step::Panic("out of luck".to_owned()),
    ];
    for entry in ENTRIES {
        let scenario = daemon!().entry(entry).on_started(steps.clone());
        let scenario = scenario.from_state(|state| state.at_exit_handler = true);
        let run = scenario.launch();
        let launcher = run.launcher();
        launcher.assert().code(101).stdout("listening");
        let text = String::from_utf8(launcher.output.stderr.clone()).unwrap();
        assert_eq!(text.matches("out of luck").count(), 1, "{text}");
        // The answer of the daemon follows all messages of the launcher.
        assert_eq!(run.observe().pid, run.report().pid);
        // The panic is resumed under `execute` alone, and its launcher exits like any program.
        let exited = run.senders_of(&Message::AtExit);
        assert_eq!(!exited.is_empty(), entry.returns_in_both());
        assert!(!run.has_sent(|message| matches!(message, Message::LauncherReturned(_))));
        run.assert_pid_file_complete();
    }
}

fn on_started_does_not_run_after_a_failure() {
    for entry in ENTRIES {
        let scenario = daemon!().entry(entry).on_started([]);
        let run = scenario.initialize(ErrorText::from("no luck")).launch();
        run.launcher_error();
        run.wait_until_all_ended();
        assert!(!run.has_sent(is_started));
    }
}

fn on_started_does_not_run_in_the_foreground() {
    for entry in ENTRIES {
        let scenario = daemon!().foreground(Foreground::Yes).entry(entry);
        let run = scenario.on_started([]).life(Life::Exit(0)).launch();
        run.report();
        run.launcher().assert().success();
        assert!(!run.has_sent(is_started));
    }
}

fn the_daemon_drops_the_captures_of_on_started_before_its_first_closure() {
    for entry in ENTRIES {
        let scenario = daemon!().entry(entry).on_started([]);
        let mut scenario = scenario.privileged_action([Step::Observe]);
        scenario.config.witness_capture = true;
        let run = scenario.start();
        let daemon = run.report().pid;
        let frames = run.messages().into_iter();
        let of_daemon = frames.filter(|frame| frame.sender == daemon);
        let order = of_daemon.filter_map(|frame| match frame.message {
            Message::OnStartedDropped => Some("drop"),
            Message::Observed(_) => Some("action"),
            _ => None,
        });
        assert_eq!(order.collect::<Vec<_>>(), ["drop", "action"]);
        // The launcher may drop its copy after the daemon has reported.
        let launcher = run.launcher_pid();
        run.message("the drop in the launcher", |frame| {
            (frame.sender == launcher && frame.message == Message::OnStartedDropped).then_some(())
        });
        let mut dropped_by = run.senders_of(&Message::OnStartedDropped);
        dropped_by.sort_unstable();
        let mut both = [daemon, launcher];
        both.sort_unstable();
        assert_eq!(dropped_by, both);
    }
}

fn a_panic_in_the_drop_of_the_captures_fails_the_start() {
    for entry in ENTRIES {
        let mut scenario = daemon!().entry(entry).on_started([]);
        scenario.config.on_started_drop_panics = true;
        let run = scenario.privileged_action([Step::Observe]).launch();
        let error = run.launcher_error();
        let text = format!("the daemon panicked: {}", of_panic("the drop of a capture"));
        error.assert_is("Panicked", &text);
        if entry.returns_in_both() {
            assert_eq!(run.daemon_error(), error);
        }
        run.wait_until_all_ended();
        run.assert_pid_file_released();
        assert!(!run.has_sent(is_started));
        assert!(!run.has_sent(|message| matches!(message, Message::Observed(_))));
    }
}

fn a_start_within_on_started_is_refused() {
    let text = "cannot start a daemon within the start of another: \
                a closure of the other start is running";
    for entry in [Entry::Start, Entry::Execute] {
        let another = [Step::StartAnother(entry, Foreground::No)];
        let run = daemon!().entry(entry).on_started(another).start();
        let refused = run.first("the refusal", select!(StartRefused));
        refused.assert_is("StartWithinStart", text);
        run.assert_pid_file_complete();
    }
}

fn a_child_of_on_started_does_not_return() {
    for entry in [Entry::Start, Entry::Execute] {
        let run = daemon!().entry(entry).on_started([Step::ForkTwice]).start();
        run.exit(0);
        run.wait_until_all_ended();
        let returned = |message: &Message| matches!(message, Message::LauncherReturned(_));
        let expected = usize::from(entry.returns_in_both());
        assert_eq!(run.count_messages(returned), expected);
    }
}
