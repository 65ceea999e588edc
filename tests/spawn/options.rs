use tester::prelude::*;

use crate::setup::*;

pub(crate) const CASES: &[Case] = &[
    case!(a_privileged_action_is_refused),
    case!(the_foreground_is_refused),
    case!(an_upgrade_is_refused),
    case!(kept_capabilities_are_refused, needs Linux),
    case!(ambient_capabilities_of_root_are_refused, needs Root, Linux),
    case!(on_started_runs_in_the_launcher),
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
    let reason = "execve(2) gives root all capabilities: set `user`";
    let scenario = spawned().ambient_capabilities([0]);
    assert_refused(&scenario, "ambient_capabilities", reason);
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
