//! When the launcher ends, all is done: a service manager that looks then
//! finds it so every time.

use std::process::ExitCode;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use tester::config::Entry;
use tester::control::Message;
use tester::{Run, Scenario, case, scenario, suite};

fn main() -> ExitCode {
    suite(&[
        case!(a_thousand_starts_are_complete_when_the_launcher_ends),
        case!(
            a_thousand_starts_on_one_processor_are_complete_when_the_launcher_ends, needs Linux
        ),
        case!(two_hundred_starts_at_a_time_do_not_disturb_each_other),
        case!(of_many_starts_on_one_pid_file_one_succeeds),
        case!(one_start_after_the_other_takes_over_the_pid_file),
    ])
}

/// Everything a service manager relies on, as it was at that instant.
#[track_caller]
fn assert_complete(run: &Run) {
    let launcher = run.launcher();
    assert!(launcher.output.status.success(), "{}", run.account());
    let daemon = run.report();
    let content = format!("{}\n", daemon.pid);
    let pid_file = launcher.pid_file.as_ref().unwrap();
    assert_eq!(pid_file.bytes, content.as_bytes(), "{}", run.account());
    assert!(pid_file.locked, "{}", run.account());
    // Nothing but the daemon: the intermediate has been reaped.
    let [process] = &launcher.processes[..] else {
        panic!("not one process\n{}", run.account());
    };
    assert_eq!((process.pid, process.ppid), (daemon.pid, run.reaper()));
    assert_eq!(daemon.ppid, run.reaper(), "{}", run.account());
}

/// Starts `scenario` so many times, some at a time.
fn start_repeatedly(scenario: &Scenario, times: u32) {
    /// More than there are processors, so that they are contended for.
    const AT_A_TIME: u32 = 4;
    let left = AtomicU32::new(times);
    let take = |left: u32| left.checked_sub(1);
    thread::scope(|scope| {
        for number in 0..AT_A_TIME {
            let left = &left;
            let path = scenario.path(format!("daemon.{number}.pid"));
            let scenario = scenario.clone().pid_file(path);
            scope.spawn(move || {
                while left
                    .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take)
                    .is_ok()
                {
                    assert_complete(&scenario.launch());
                }
            });
        }
    });
}

fn a_thousand_starts_are_complete_when_the_launcher_ends() {
    start_repeatedly(&scenario!(), 1000);
}

fn a_thousand_starts_on_one_processor_are_complete_when_the_launcher_ends() {
    let scenario = scenario!().from_state(|state| state.processor = Some(0));
    start_repeatedly(&scenario, 1000);
}

fn two_hundred_starts_at_a_time_do_not_disturb_each_other() {
    let scenario = scenario!();
    let runs: Vec<_> = (0..200)
        .map(|number| {
            let path = scenario.path(format!("daemon.{number}.pid"));
            scenario.clone().pid_file(path).launch()
        })
        .collect();
    runs.iter().for_each(assert_complete);
    let mut pids: Vec<_> = runs.iter().map(|run| run.report().pid).collect();
    pids.sort_unstable();
    pids.dedup();
    assert_eq!(pids.len(), 200);
}

fn of_many_starts_on_one_pid_file_one_succeeds() {
    for entry in [Entry::Start, Entry::Execute] {
        let scenario = scenario!().pid_file("daemon.pid").entry(entry);
        let runs: Vec<_> = (0..20).map(|_| scenario.launch()).collect();
        let (successes, failures): (Vec<_>, Vec<_>) = runs
            .iter()
            .partition(|run| run.launcher().output.status.success());
        assert_eq!(successes.len(), 1);
        for run in failures {
            let error = run.launcher_error();
            assert_eq!(error.kind_name(), "LockPidfile", "{error}");
            let is_started = |message: &Message| matches!(message, Message::Daemon(_));
            assert!(!run.messages().iter().any(|one| is_started(&one.message)));
        }
        let content = format!("{}\n", successes[0].report().pid);
        let pid_file = successes[0].pid_file().unwrap();
        assert_eq!(pid_file.bytes, content.as_bytes());
        assert!(pid_file.locked);
    }
}

fn one_start_after_the_other_takes_over_the_pid_file() {
    let scenario = scenario!().pid_file("daemon.pid");
    for number in 0..50 {
        let run = scenario.launch();
        assert_complete(&run);
        match number % 2 {
            0 => run.exit(0),
            _ => run.kill_daemon(),
        }
    }
}
