//! A start returns in a daemon, and in the launcher only when it is one.

use std::process::ExitCode;

use tester::config::{Entry, Life, OpenDescriptor, Session, Step};
use tester::report::{Place, Terminal};
use tester::{case, scenario, suite};

fn main() -> ExitCode {
    suite(&[
        case!(a_start_returns_in_the_daemon),
        case!(a_daemon_leads_no_session_and_has_no_terminal),
        case!(a_terminal_of_the_launcher_is_left_behind, needs Terminals),
        case!(the_defaults_are_the_documented_ones),
        case!(no_stray_descriptor_is_left),
        case!(both_views_of_the_daemon_agree, needs Linux),
        case!(the_daemons_parent_is_init_when_the_launcher_ends),
        case!(the_pid_file_is_complete_when_the_launcher_ends),
        case!(the_launchers_umask_is_replaced),
        case!(execute_returns_in_both),
        case!(a_failed_start_leaves_nothing),
        case!(the_daemon_ends_as_it_likes),
    ])
}

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

fn a_terminal_of_the_launcher_is_left_behind() {
    let scenario = scenario!().from_state(|state| state.session = Session::LeaderWithTerminal);
    let run = scenario.start();
    assert!(!matches!(
        run.initial().terminal,
        None | Some(Terminal::None)
    ));
    run.observe().assert_detached();
}

fn the_defaults_are_the_documented_ones() {
    let run = scenario!().start();
    let (initial, daemon) = (run.initial(), run.report());
    assert_eq!(daemon.umask, Some(0o027));
    for number in 0..=2 {
        let stream = daemon.descriptor(number).unwrap();
        assert!(stream.is_null_device(), "{stream:?}");
        assert!(!stream.close_on_exec, "{stream:?}");
    }
    assert_eq!(daemon.working_directory, initial.working_directory);
    assert_eq!(daemon.root, initial.root);
    assert_eq!(daemon.uid, initial.uid);
    assert_eq!(daemon.gid, initial.gid);
    assert_eq!(daemon.groups, initial.groups);
    assert_eq!(daemon.blocked_signals, initial.blocked_signals);
    assert_eq!(daemon.ignored_signals, initial.ignored_signals);
}

fn no_stray_descriptor_is_left() {
    let run = scenario!()
        .from_state(|state| {
            state.descriptors.push(OpenDescriptor {
                number: 50,
                path: "/".into(),
                close_on_exec: true,
            });
        })
        .start();
    let daemon = run.observe();
    assert_eq!(
        daemon.descriptor_numbers(),
        run.initial().descriptor_numbers()
    );
    assert!(daemon.descriptor(50).unwrap().is_file("/".as_ref()));
}

fn both_views_of_the_daemon_agree() {
    let scenario = scenario!().pid_file("daemon.pid");
    let run = scenario.start();
    let daemon = run.assert_views_agree();
    assert_eq!(
        daemon.working_directory,
        Some(Place::of(scenario.folder()).unwrap())
    );
    assert_eq!(run.lock_holders(), [daemon.pid]);
}

fn the_daemons_parent_is_init_when_the_launcher_ends() {
    let run = scenario!().privileged_action([Step::Observe]).start();
    let (launcher, intermediate) = (run.launcher(), run.observed().ppid);
    let daemon = launcher.process(run.report().pid).unwrap();
    assert_eq!(daemon.ppid, run.reaper());
    assert_eq!(launcher.process(intermediate), None);
}

fn the_pid_file_is_complete_when_the_launcher_ends() {
    let run = scenario!().pid_file("daemon.pid").start();
    let pid_file = run.launcher().pid_file.unwrap();
    let content = format!("{}\n", run.report().pid);
    assert_eq!(pid_file.bytes, content.as_bytes());
    assert!(pid_file.locked);
    assert_eq!((pid_file.mode, pid_file.links), (0o640, 1));
}

fn the_launchers_umask_is_replaced() {
    let scenario = scenario!().umask(0o077_u32);
    let run = scenario
        .from_state(|state| state.umask = Some(0o000))
        .start();
    assert_eq!(run.report().umask, Some(0o077));
}

fn execute_returns_in_both() {
    let run = scenario!().entry(Entry::Execute).start();
    let result = run.launcher_result();
    assert_eq!(result.daemon_pid, run.report().pid);
    assert_eq!(result.first_child_exit_status, 0);
}

fn a_failed_start_leaves_nothing() {
    let scenario = scenario!().pid_file("missing/daemon.pid");
    let error = scenario.fail();
    assert_eq!(error.kind, format!("OpenPidfile({})", libc::ENOENT));
    assert_eq!(error.errno, Some(libc::ENOENT));
    assert!(error.text.contains("missing/daemon.pid"), "{error}");
}

fn the_daemon_ends_as_it_likes() {
    let run = scenario!().life(Life::Exit(7)).start();
    run.wait_until_all_ended();
    scenario!().start().exit(3);
}
