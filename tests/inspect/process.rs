use tester::prelude::*;

use crate::setup::*;

pub(crate) const CASES: &[Case] = &[
    case!(a_program_that_was_deleted_is_found, needs Linux),
    case!(a_parent_that_has_not_ended_is_found),
    case!(init_is_the_right_parent),
    case!(a_worker_is_told_from_a_daemon, needs Linux),
    case!(a_leader_of_a_session_is_found),
    case!(a_session_of_another_program_is_found, needs Linux),
    case!(a_controlling_terminal_is_found, needs Terminals),
];

fn a_program_that_was_deleted_is_found() {
    let scenario = scenario!();
    let program = scenario.path("cat");
    // This process must not have the program open for writing: another case may fork meanwhile.
    let copied = Command::new("sh")
        .args(["-c", "cp \"$(command -v cat)\" \"$0\""])
        .arg(&program)
        .status();
    assert!(copied.unwrap().success());
    let script = format!("echo $$; exec {}", program.display());
    let cat = Cat::by_shell(&script, &[]);
    inspect(cat.pid).assert_ok("program", "still there");
    fs::remove_file(&program).unwrap();
    inspect(cat.pid).assert_finding("program", "deleted or replaced");
}

fn a_parent_that_has_not_ended_is_found() {
    let cat = Cat::with(&[]);
    let checkup = inspect(cat.pid);
    checkup.assert_finding("parent", "it is of the same session");
    let parent = &checkup.row("parent").seen;
    assert!(
        parent.ends_with(&std::process::id().to_string()),
        "{parent}"
    );
}

fn init_is_the_right_parent() {
    let scenario = clean();
    let run = scenario.start();
    let checkup = inspect(run.report().pid);
    checkup.assert_ok("parent", "");
    let parent = &checkup.row("parent").seen;
    assert!(parent.ends_with(&run.reaper().to_string()), "{parent}");
}

fn a_worker_is_told_from_a_daemon() {
    let scenario = clean().privileged_action([Step::ForkWorker]);
    let run = scenario.start();
    let daemon = run.report().pid;
    let checkup = inspect(run.worker());
    checkup.assert_findings(&[]);
    checkup.assert_ok("parent", &format!("inspect {daemon} for the daemon itself"));
    checkup.assert_ok("pid file", "it names the parent");
}

fn a_leader_of_a_session_is_found() {
    let scenario = clean().from_state(|state| state.session = Session::Leader);
    let (_run, report) = scenario.foreground(Foreground::Yes).serve();
    let checkup = inspect(report.pid);
    checkup.assert_finding("session", "it leads the session");
    // The inspection cannot see whether the parent is a subreaper.
    checkup.assert_unknown("parent", "not visible");
}

fn a_session_of_another_program_is_found() {
    let mut command = Command::new("setsid");
    // The shell leads a session, and waits for its child.
    command.args(["sh", "-c", "cat <&3 & echo $!; exec 3<&- <&-; wait"]);
    let mut through = Command::new("sh");
    through.args(["-c", "exec 3<&0; exec \"$@\"", "sh"]);
    through.arg(command.get_program()).args(command.get_args());
    let cat = Cat::of(through, &[]);
    let checkup = inspect(cat.pid);
    checkup.assert_finding("session", "leads it");
    checkup.assert_finding("parent", "same session");
}

fn a_controlling_terminal_is_found() {
    let scenario = clean().from_state(|state| state.session = Session::LeaderWithTerminal);
    let checkup = inspect_foreground(scenario);
    checkup.assert_finding("terminal", "its hang-up");
    let terminal = &checkup.row("terminal").seen;
    assert!(
        !cfg!(target_os = "linux") || terminal.starts_with("/dev/"),
        "{terminal}"
    );
    inspect_daemon(&clean()).assert_ok("terminal", "");
}
