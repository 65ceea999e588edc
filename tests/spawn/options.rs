use std::os::unix::net::UnixDatagram;

use tester::prelude::*;

use crate::setup::*;

pub(crate) const CASES: &[Case] = &[
    case!(a_privileged_action_is_refused),
    case!(the_foreground_is_refused),
    case!(an_upgrade_is_refused),
    case!(kept_capabilities_are_refused, needs Linux),
    case!(ambient_capabilities_of_root_are_refused, needs Root, Linux),
    case!(on_started_runs_in_the_launcher),
    case!(the_parent_death_signal_of_a_fork_handler_is_disarmed, needs Linux),
    case!(no_service_manager_is_notified),
    #[cfg(not(target_os = "linux"))]
    case!(notify_socket_is_refused_on_other_platforms),
];

#[track_caller]
fn assert_refused(scenario: &Scenario, option: &str, reason: &str) {
    let text = format!("cannot execute a program with the option {option}: {reason}");
    let expected = StartError::new("OptionWithProgram", None, &text);
    assert_eq!(scenario.fail_in_launcher(), expected);
    assert!(!scenario.path("daemon.pid").exists());
}

fn a_privileged_action_is_refused() {
    assert_refused(
        &spawned().privileged_action([]),
        "privileged_action",
        "no code of the launcher runs in the daemon",
    );
}

fn the_foreground_is_refused() {
    let reason = "this process itself would become the program: use `CommandExt::exec`";
    let scenario = spawned().foreground(Foreground::Yes);
    let error = scenario.launch().launcher_error();
    assert_eq!(error.kind, "OptionWithProgram");
    assert!(error.text.ends_with(reason), "{error}");
}

fn an_upgrade_is_refused() {
    let reason = "the program could not undo a takeover that fails";
    assert_refused(&spawned().upgrade(true), "upgrade", reason);
}

fn kept_capabilities_are_refused() {
    let reason = "execve(2) takes them away: use `ambient_capabilities`";
    let scenario = spawned().keep_capabilities([0]);
    assert_refused(&scenario, "keep_capabilities", reason);
}

fn ambient_capabilities_of_root_are_refused() {
    let reason = "execve(2) gives root all capabilities: set `user` to another user";
    let scenario = spawned().ambient_capabilities([0]);
    assert_refused(&scenario, "ambient_capabilities", reason);
    for scenario in [scenario.clone().user(0), scenario.user("root")] {
        assert_refused(&scenario, "ambient_capabilities", reason);
    }
}

/// The program would end with the intermediate.
fn the_parent_death_signal_of_a_fork_handler_is_disarmed() {
    let state = |state: &mut InitialState| {
        state.parent_death_signal_at_fork = Some(libc::SIGKILL);
    };
    let run = spawned().from_state(state).start();
    assert_eq!(run.living(), [run.report().pid]);
    run.assert_pid_file_held();
}

/// The launcher may be the main process of the service, and lives on.
fn no_service_manager_is_notified() {
    let scenario = spawned();
    let address = scenario.path("notify");
    let manager = UnixDatagram::bind(&address).unwrap();
    manager.set_nonblocking(true).unwrap();
    let run = scenario.env("NOTIFY_SOCKET", &address).start();
    let error = manager.recv(&mut [0; 64]).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    drop(run);
}

fn on_started_runs_in_the_launcher() {
    let run = spawned().on_started([]).start();
    assert_eq!(run.started().daemon_pid, run.report().pid);
    assert_eq!(
        run.senders_of(&Message::Started(run.started())),
        [run.launcher_pid()]
    );
}

#[cfg(not(target_os = "linux"))]
fn notify_socket_is_refused_on_other_platforms() {
    let scenario = daemon!().spawn_awaiting(ProgramReadiness::NotifySocket, []);
    let error = scenario.fail_in_launcher();
    let text = "not supported on this platform: notify_socket";
    assert_eq!(error, StartError::new("Unsupported", None, text));
}
