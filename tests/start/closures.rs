use std::net::TcpStream;

use tester::prelude::*;

pub(crate) const CASES: &[Case] = &[
    case!(the_launcher_waits_for_the_closures),
    case!(closures_run_in_order_and_pass_on_their_results),
    case!(initialize_runs_in_the_jail_and_without_privileges, needs Root, OtherUsers),
    case!(every_entry_point_runs_every_closure),
    case!(a_closure_that_returns_twice_makes_one_daemon),
    case!(a_closure_that_panics_twice_is_reported_once),
    case!(the_daemon_drops_its_result_before_the_launcher_fails),
    case!(a_socket_of_the_privileged_action_is_closed_before_the_launcher_fails),
    case!(start_drops_captures_in_the_daemon_only),
    case!(execute_drops_captures_in_launcher_and_daemon),
];

fn the_launcher_waits_for_the_closures() {
    let [action, initialize, _] = in_each_closure(|| daemon!(), &[Step::Hold]);
    for scenario in [action, initialize] {
        let run = scenario.launch();
        run.held();
        run.assert_launcher_waits();
        run.proceed_to_success();
        run.report();
    }
}

fn add(part: &str) -> Vec<Step> {
    vec![Step::Add(part.to_owned())]
}

fn closures_run_in_order_and_pass_on_their_results() {
    let run = scenario!()
        .privileged_action(add("action"))
        .initialize(add("first"))
        .initialize(add("second"))
        .start();
    assert_eq!(run.result(), ["action", "first", "second"]);
    let first = scenario!().initialize(add("first"));
    let run = first.deferring([], ReadinessUse::Ready).start();
    assert_eq!(run.result(), ["first"]);
    // A socket that a closure has opened stays open.
    let listening = scenario!().try_privileged_action([Step::Listen]);
    let run = listening.initialize(add("first")).start();
    TcpStream::connect(("127.0.0.1", run.port())).unwrap();
}

fn initialize_runs_in_the_jail_and_without_privileges() {
    let (scenario, jail) = daemon!().with_directory("jail");
    let run = scenario
        .user(65534)
        .group(65534)
        .chroot(&jail)
        .privileged_action([Step::Observe])
        .initialize([Step::Hold])
        .launch();
    let jail = Place::of(&jail).unwrap();
    let (before, after) = (run.observed(), run.held());
    assert_eq!(before.pid, after.pid);
    assert!(before.uid.unwrap() == 0 && before.root != Some(jail.clone()));
    assert!(after.uid.unwrap() == 65534 && after.gid.unwrap() == 65534);
    assert_eq!(after.groups.as_deref(), Some([65534].as_slice()));
    if let Some(root) = after.root {
        assert_eq!(root, jail);
    }
    assert_eq!(after.working_directory, Some(jail));
    assert_eq!(run.pid_file().unwrap().bytes, b"");
    run.assert_launcher_waits();
    run.proceed_to_success();
    assert!(run.report().uid.unwrap() == 65534);
}

fn every_entry_point_runs_every_closure() {
    for entry in ENTRIES {
        for choice in 0..12 {
            let (action, initialize, defer) = (choice % 3, choice / 3 % 2 == 1, choice / 6 == 1);
            let mut scenario = daemon!().entry(entry);
            let mut expected = vec![];
            if action == 1 {
                scenario = scenario.privileged_action(add("action"));
                expected.push("action");
            }
            if action == 2 {
                scenario = scenario.try_privileged_action(add("try"));
                expected.push("try");
            }
            if initialize {
                scenario = scenario.initialize(add("initialize"));
                expected.push("initialize");
            }
            if defer {
                scenario = scenario.deferring([Step::Hold], ReadinessUse::Ready);
            }
            let run = scenario.launch();
            if defer {
                run.held();
                assert!(!run.has_sent(|message| matches!(message, Message::LauncherReturned(_))));
                run.proceed();
            }
            run.launcher().assert().success();
            if !expected.is_empty() {
                assert_eq!(run.result(), expected);
            }
            if entry.returns_in_both() {
                assert_eq!(run.launcher_result().daemon_pid, run.report().pid);
            }
            run.assert_pid_file_complete();
        }
    }
}

fn a_closure_that_returns_twice_makes_one_daemon() {
    for entry in [Entry::Start, Entry::Execute] {
        let scenario = daemon!().privileged_action([Step::ForkTwice, Step::WitnessResult]);
        let run = scenario.entry(entry).start();
        run.assert_pid_file_held();
        run.exit(0);
        // The copy has ended, and the library has not returned in it.
        let is_daemon = |message: &Message| matches!(message, Message::Daemon(_));
        assert_eq!(run.count_messages(is_daemon), 1);
        run.assert_errors(0, 0);
    }
}

fn a_closure_that_panics_twice_is_reported_once() {
    let steps = [Step::ForkTwice, Step::Panic("panic".to_owned())];
    for entry in [Entry::Start, Entry::Execute] {
        let scenario = daemon!().privileged_action(steps.clone());
        let run = scenario.entry(entry).launch();
        assert_eq!(run.launcher_error().kind, "Panicked");
        run.wait_until_all_ended();
        let in_daemon = usize::from(entry == Entry::Execute);
        run.assert_errors(1, in_daemon);
    }
}

fn the_daemon_drops_its_result_before_the_launcher_fails() {
    for entry in [Entry::Start, Entry::Execute] {
        let scenario = daemon!().privileged_action([Step::Observe, Step::WitnessResult]);
        let run = scenario.chroot("missing").entry(entry).launch();
        run.launcher_error();
        run.wait_until_all_ended();
        let dropped_by = run.senders_of(&Message::ResultDropped);
        assert_eq!(dropped_by, [run.observed().pid], "{entry:?}");
        let frames = run.messages().into_iter();
        let order = frames.filter_map(|frame| match frame.message {
            Message::ResultDropped => Some("drop"),
            Message::LauncherFailed(_) => Some("failure"),
            _ => None,
        });
        assert_eq!(order.collect::<Vec<_>>(), ["drop", "failure"]);
    }
}

fn a_socket_of_the_privileged_action_is_closed_before_the_launcher_fails() {
    let scenario = daemon!().privileged_action([Step::Listen]);
    let scenario = scenario.chroot("missing");
    for entry in [Entry::Start, Entry::Execute] {
        let scenario = scenario.clone().entry(entry);
        let run = scenario.life(Life::UntilCommandEvenIfFailed).launch();
        assert_eq!(run.launcher_error().kind_name(), "Chroot");
        let error = TcpStream::connect(("127.0.0.1", run.port())).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    }
}

fn run_with_witnessed_captures(entry: Entry) -> Run {
    let mut scenario = daemon!().privileged_action([]).entry(entry);
    scenario.config.witness_capture = true;
    let run = scenario.start();
    run.exit(0);
    run
}

fn start_drops_captures_in_the_daemon_only() {
    for entry in [Entry::Start, Entry::StartChecked] {
        let run = run_with_witnessed_captures(entry);
        assert_eq!(run.senders_of(&Message::CaptureDropped), [run.report().pid]);
    }
}

fn execute_drops_captures_in_launcher_and_daemon() {
    for entry in [Entry::Execute, Entry::ExecuteChecked] {
        let run = run_with_witnessed_captures(entry);
        let mut dropped_by = run.senders_of(&Message::CaptureDropped);
        dropped_by.sort_unstable();
        let mut both = [run.report().pid, run.launcher_pid()];
        both.sort_unstable();
        assert_eq!(dropped_by, both);
    }
}
