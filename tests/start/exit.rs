use tester::prelude::*;

pub(crate) const CASES: &[Case] = &[
    case!(unflushed_output_is_written_once),
    case!(a_failed_start_writes_unflushed_output_once),
    case!(exit_handlers_run_once_in_the_daemon),
    case!(after_execute_exit_handlers_run_in_launcher_and_daemon),
    case!(a_failed_process_writes_nothing_and_runs_no_exit_handler),
];

/// Unflushed text of Rust and of C, and an exit that flushes it.
fn with_unflushed(entry: Entry) -> Scenario {
    let scenario = scenario!().entry(entry).piped().stdout(Stream::Keep);
    scenario.from_state(|state| {
        state.unflushed_rust = Some("std's\n".to_owned());
        state.unflushed_c = Some("C's\n".to_owned());
    })
}

fn unflushed_output_is_written_once() {
    for entry in ENTRIES {
        let run = with_unflushed(entry).launch();
        run.report();
        // The pipe ends when both processes have exited.
        run.send_command(&control::Command::Exit(0));
        run.launcher().assert().success().stdout("std's\nC's\n");
    }
}

fn a_failed_start_writes_unflushed_output_once() {
    for entry in [Entry::Start, Entry::Execute] {
        for scenario in [
            with_unflushed(entry).user("no-such-user"),
            with_unflushed(entry).working_directory("missing"),
            with_unflushed(entry).privileged_action([Step::Exit(0)]),
        ] {
            let run = scenario.launch();
            run.launcher_error();
            run.wait_until_all_ended();
            let output = String::from_utf8(run.launcher().output.stdout).unwrap();
            let mut lines: Vec<_> = output.lines().collect();
            lines.sort_unstable();
            assert_eq!(lines, ["C's", "std's"], "{}", run.diagnostics());
        }
    }
}

fn exit_handlers_run_once_in_the_daemon() {
    for entry in [Entry::Start, Entry::StartChecked] {
        let scenario = scenario!().entry(entry);
        let run = scenario
            .from_state(|state| state.at_exit_handler = true)
            .start();
        assert!(run.senders_of(&Message::AtExit).is_empty());
        run.exit(0);
        assert_eq!(run.senders_of(&Message::AtExit), [run.report().pid]);
    }
}

/// In the launcher, the caller exits by itself.
fn after_execute_exit_handlers_run_in_launcher_and_daemon() {
    let run = scenario!()
        .entry(Entry::Execute)
        .from_state(|state| state.at_exit_handler = true)
        .start();
    run.exit(0);
    let mut both = [run.launcher_pid(), run.report().pid];
    let mut found = run.senders_of(&Message::AtExit);
    both.sort_unstable();
    found.sort_unstable();
    assert_eq!(found, both);
}

fn a_failed_process_writes_nothing_and_runs_no_exit_handler() {
    for scenario in [
        scenario!().working_directory("missing"),
        daemon!()
            .privileged_action([Step::Panic("panic".to_owned())])
            .stderr(Stream::DevNull),
        daemon!().privileged_action([]).chroot("missing"),
    ] {
        let scenario = scenario.stdout(Stream::Keep).from_state(|state| {
            state.at_exit_handler = true;
            state.unflushed_rust = Some("std's\n".to_owned());
            state.unflushed_c = Some("C's\n".to_owned());
        });
        let run = scenario.launch();
        run.launcher_error();
        run.assert_nothing_left();
        run.launcher().assert().stdout("std's\nC's\n");
        assert_eq!(run.senders_of(&Message::AtExit), [run.launcher_pid()]);
    }
}
