use std::io::Write as _;

use tester::inspect::CHECKS;
use tester::prelude::*;

use crate::setup::*;

pub(crate) const CASES: &[Case] = &[
    case!(a_daemon_without_fault_has_no_finding),
    case!(a_daemon_without_fault_is_known_in_every_check, needs Linux),
    case!(the_table_has_a_line_for_each_row),
    case!(a_finding_decides_the_exit_status),
    case!(every_check_is_documented),
    case!(a_process_that_does_not_exist_cannot_be_inspected),
    case!(a_process_that_has_ended_cannot_be_inspected, needs Linux),
    case!(wrong_arguments_are_refused),
    case!(output_that_cannot_be_printed_is_no_success, needs Linux),
    case!(an_ordinary_user_does_not_see_a_daemon_of_root, needs Root, Linux),
    case!(an_ordinary_user_inspects_a_daemon_of_its_own, needs Root, OtherUsers, Linux),
    case!(an_inspection_changes_nothing),
    case!(names_do_not_control_the_terminal),
];

fn a_daemon_without_fault_has_no_finding() {
    let checkup = inspect_daemon(&clean());
    checkup.assert_findings(&[]);
    assert_eq!(checkup.whole.field("name").text(), "tester");
}

/// If the user is root, this check is unknown: no process sees whether the daemon needs root.
fn a_daemon_without_fault_is_known_in_every_check() {
    let checkup = inspect_daemon(&clean());
    let unknown = checkup.rows.iter().filter(|row| row.mark == "unknown");
    let unknown: Vec<_> = unknown.map(|row| &*row.check).collect();
    let expected: &[&str] = match sys::effective_user() {
        0 => &["user"],
        _ => &[],
    };
    assert_eq!(unknown, expected, "{checkup:?}");
    let is_there = |check: &&tester::inspect::Check| {
        checkup
            .rows
            .iter()
            .any(|row| row.check.starts_with(check.name))
    };
    assert!(CHECKS.iter().all(|check| is_there(&check)), "{checkup:?}");
}

fn the_table_has_a_line_for_each_row() {
    let run = clean().umask(0o700_u32).start();
    let pid = run.report().pid;
    let checkup = inspect(pid);
    let output = command(pid, &[]).output().unwrap();
    let table = String::from_utf8(output.stdout).unwrap();
    let mut lines = table.lines();
    for row in &checkup.rows {
        let line = lines.next().unwrap();
        let mark = match &*row.mark {
            "finding" => "FINDING",
            other => other,
        };
        assert!(
            line.starts_with(mark) && line.contains(&format!(" {} ", row.check)),
            "{line}"
        );
        assert!(
            line.ends_with(&format!("  {}: {}", row.seen, row.reason)),
            "{line}"
        );
    }
    let unknown = checkup.whole.field("unknown").number();
    let last = format!("tester {pid}: 1 finding, {unknown} unknown");
    assert_eq!(lines.collect::<Vec<_>>(), [last]);
}

fn a_finding_decides_the_exit_status() {
    for (umask, status) in [(0o022_u32, 0), (0o700, 1)] {
        let run = clean().umask(umask).start();
        let output = command(run.report().pid, &[]).output().unwrap();
        assert_eq!(output.status.code(), Some(status), "{output:?}");
    }
}

fn every_check_is_documented() {
    let text = include_str!("../../docs/inspect.md");
    for check in CHECKS {
        let row = format!("| {} | {} |", check.name, check.asked_by);
        assert!(text.contains(&row), "docs/inspect.md has no row `{row}`");
    }
}

#[track_caller]
fn assert_refused(mut command: Command, reason: &str) {
    let output = command.output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert_eq!(output.stdout, b"");
    assert!(
        stderr.starts_with("tester: ") && stderr.contains(reason),
        "{stderr}"
    );
    assert_eq!(stderr.lines().count(), 1);
}

fn a_process_that_does_not_exist_cannot_be_inspected() {
    // Larger than the largest process id of any platform.
    let pid = 2_000_000_000;
    let reason = format!("cannot inspect process {pid}: there is no such process");
    assert_refused(command(pid, &[]), &reason);
}

fn a_process_that_has_ended_cannot_be_inspected() {
    let mut child = Command::new("true").spawn().unwrap();
    let handle = sys::ProcessHandle::open(child.id()).unwrap().unwrap();
    assert!(handle.wait(Instant::now() + time_limit()).unwrap());
    let reason = format!("cannot inspect process {}: it has ended, and ", child.id());
    assert_refused(command(child.id(), &[]), &reason);
    child.wait().unwrap();
}

fn wrong_arguments_are_refused() {
    let own = std::process::id().to_string();
    for arguments in [
        &[][..],
        &["0"],
        &["-1"],
        &["init"],
        &["--json"],
        &[&own, &own],
        &[&own, "--pid-file"],
        &[&own, "--keep"],
        &[&own, "--keep", "-1"],
        &[&own, "--keep", "4294967295"],
        &[&own, "--verbose"],
    ] {
        let mut command = Command::new(tester::tester!());
        command.arg("inspect").args(arguments);
        assert_refused(command, "usage: tester inspect PID");
    }
}

fn output_that_cannot_be_printed_is_no_success() {
    let run = clean().start();
    let full = File::options().write(true).open("/dev/full").unwrap();
    let output = command(run.report().pid, &[])
        .stdout(full)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
}

fn an_ordinary_user_does_not_see_a_daemon_of_root() {
    let run = clean().start();
    let mut command = command(run.report().pid, &["--json"]);
    sys::start_as(&mut command, UID, GID, &[]);
    let checkup = Checkup::of(&command.output().unwrap());
    checkup.assert_findings(&[]);
    for check in [
        "program",
        "working directory",
        "root directory",
        "standard input",
        "standard output",
        "standard error",
        "descriptor",
        "environment",
        "pid file",
    ] {
        checkup.assert_unknown(check, "root may see it");
    }
    // The results of these checks are visible to every user.
    for check in [
        "terminal",
        "session",
        "umask",
        "ignored signals",
        "limits",
        "threads",
    ] {
        checkup.assert_ok(check, "");
    }
}

fn an_ordinary_user_inspects_a_daemon_of_its_own() {
    let scenario = clean();
    chown(scenario.directory(), Some(UID), Some(GID)).unwrap();
    let run = scenario.launched_by(UID, GID, &[]).start();
    let mut command = command(run.report().pid, &["--json"]);
    sys::start_as(&mut command, UID, GID, &[]);
    let checkup = Checkup::of(&command.output().unwrap());
    checkup.assert_findings(&[]);
    assert!(
        checkup.rows.iter().all(|row| row.mark == "ok"),
        "{checkup:?}"
    );
}

/// A process that takes a lock, even for an instant, can make a start fail.
fn an_inspection_changes_nothing() {
    let scenario = clean();
    let run = scenario.start();
    let before = run.observe();
    inspect_with(before.pid, &scenario.pid_file_path().unwrap());
    assert_eq!(run.observe(), before);
    run.assert_pid_file_held();
}

fn names_do_not_control_the_terminal() {
    let scenario = clean();
    let path = scenario.path("a\u{1b}[2J\nb");
    File::create(&path).unwrap().write_all(b"").unwrap();
    let scenario = with_file(scenario, &path, true);
    let run = scenario.start();
    let output = command(run.report().pid, &[]).output().unwrap();
    let table = String::from_utf8(output.stdout).unwrap();
    assert!(!table.contains('\u{1b}'), "{table:?}");
    assert!(
        !cfg!(target_os = "linux") || table.contains("/a\\u{1b}[2J\\nb (read"),
        "{table}"
    );
}
