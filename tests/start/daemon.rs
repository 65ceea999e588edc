use tester::prelude::*;
use tester::report::Terminal;

pub(crate) const CASES: &[Case] = &[
    case!(a_start_returns_in_the_daemon),
    case!(a_daemon_leads_no_session_and_has_no_terminal),
    case!(the_daemon_gives_up_the_launchers_terminal, needs Terminals),
    case!(a_daemon_without_options_has_the_documented_defaults),
    case!(the_daemon_has_no_descriptor_that_the_launcher_lacks),
    case!(the_daemon_looks_the_same_from_inside_and_outside),
    case!(the_umask_option_replaces_the_launchers_umask),
    case!(execute_returns_in_launcher_and_daemon),
    case!(the_daemon_chooses_its_own_exit_status),
];

fn a_start_returns_in_the_daemon() {
    let run = scenario!().start();
    let launcher = run.launcher();
    launcher.assert().success().stdout("").stderr("");
    let daemon = run.report();
    assert_ne!(daemon.pid, run.launcher_pid());
    assert!(launcher.process(daemon.pid).is_some());
}

fn a_daemon_leads_no_session_and_has_no_terminal() {
    let run = scenario!().start();
    let daemon = run.report();
    daemon.assert_detached();
    assert_ne!(daemon.sid, run.initial().sid);
}

fn the_daemon_gives_up_the_launchers_terminal() {
    let scenario = scenario!().from_state(|state| state.session = Session::LeaderWithTerminal);
    let run = scenario.start();
    let terminal = run.initial().terminal;
    assert!(!matches!(terminal, None | Some(Terminal::None)));
    run.observe().assert_detached();
}

fn a_daemon_without_options_has_the_documented_defaults() {
    let run = scenario!().start();
    let (initial, daemon) = (run.initial(), run.report());
    assert_eq!(daemon.umask, Some(0o027));
    for number in 0..=2 {
        let stream = daemon.descriptor(number).unwrap();
        assert!(stream.is_null_device(), "{stream:?}");
        assert_eq!(stream.close_on_exec, Some(false), "{stream:?}");
    }
    assert_eq!(daemon.working_directory, initial.working_directory);
    assert_eq!(daemon.root, initial.root);
    assert_eq!(daemon.uid, initial.uid);
    assert_eq!(daemon.gid, initial.gid);
    assert_eq!(daemon.groups, initial.groups);
    assert_eq!(daemon.blocked_signals, initial.blocked_signals);
    assert_eq!(daemon.ignored_signals, initial.ignored_signals);
}

fn the_daemon_has_no_descriptor_that_the_launcher_lacks() {
    let descriptor = OpenDescriptor::of_root(50, true);
    let scenario = scenario!().from_state(|state| state.descriptors = vec![descriptor]);
    let run = scenario.start();
    let daemon = run.observe();
    let initial = run.initial().descriptor_numbers();
    assert_eq!(daemon.descriptor_numbers(), initial);
    assert!(daemon.descriptor(50).unwrap().is_file("/".as_ref()));
}

fn the_daemon_looks_the_same_from_inside_and_outside() {
    let scenario = daemon!();
    let run = scenario.start();
    let daemon = run.assert_views_agree();
    let directory = Place::of(scenario.directory()).unwrap();
    assert_eq!(daemon.working_directory, Some(directory));
}

fn the_umask_option_replaces_the_launchers_umask() {
    let scenario = scenario!().from_state(|state| state.umask = Some(0o000));
    let run = scenario.umask(0o077_u32).start();
    assert_eq!(run.report().umask, Some(0o077));
}

fn execute_returns_in_launcher_and_daemon() {
    let run = scenario!().entry(Entry::Execute).start();
    let result = run.launcher_result();
    assert_eq!(result.daemon_pid, run.report().pid);
    assert_eq!(result.first_child_exit_status, 0);
}

fn the_daemon_chooses_its_own_exit_status() {
    let run = scenario!().life(Life::Exit(7)).start();
    run.wait_until_all_ended();
    scenario!().start().exit(3);
}
