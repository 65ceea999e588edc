use std::sync::atomic::AtomicU32;

use tester::prelude::*;

pub(crate) const CASES: &[Case] = &[
    case!(the_daemons_parent_is_init_when_the_launcher_ends),
    case!(the_pid_file_is_complete_when_the_launcher_ends),
    case!(a_thousand_starts_are_complete_when_their_launchers_end),
    case!(a_thousand_starts_on_one_processor_are_complete_when_their_launchers_end, needs Linux),
    case!(two_hundred_simultaneous_starts_do_not_disturb_each_other),
    case!(fifty_starts_in_a_row_take_over_the_pid_file),
];

fn the_daemons_parent_is_init_when_the_launcher_ends() {
    let run = scenario!().privileged_action([Step::Observe]).start();
    let (launcher, intermediate) = (run.launcher(), run.observed().ppid);
    let daemon = launcher.process(run.report().pid).unwrap();
    assert_eq!(daemon.ppid, run.reaper());
    assert_eq!(launcher.process(intermediate), None);
}

fn the_pid_file_is_complete_when_the_launcher_ends() {
    let run = daemon!().start();
    let pid_file = run.launcher().pid_file.unwrap();
    run.assert_pid_file_complete();
    assert_eq!((pid_file.mode, pid_file.links), (0o640, 1));
}

/// Everything that a service manager relies on, as it was when the launcher ended.
#[track_caller]
fn assert_complete(run: &Run) {
    let launcher = run.launcher();
    assert!(launcher.output.status.success(), "{}", run.diagnostics());
    let daemon = run.report();
    run.assert_pid_file_complete();
    // Only the daemon is left: the intermediate has been reaped.
    let [process] = &launcher.processes[..] else {
        panic!("not one process\n{}", run.diagnostics());
    };
    assert_eq!((process.pid, process.ppid), (daemon.pid, run.reaper()));
    assert_eq!(daemon.ppid, run.reaper(), "{}", run.diagnostics());
}

/// Starts `scenario` this often, several at a time.
fn start_repeatedly(scenario: &Scenario, times: u32) {
    /// More than there are processors, so that the processes compete.
    const AT_A_TIME: u32 = 4;
    let left = AtomicU32::new(times);
    let take = |left: u32| left.checked_sub(1);
    thread::scope(|scope| {
        for number in 0..AT_A_TIME {
            let left = &left;
            let path = scenario.path(format!("daemon.{number}.pid"));
            let scenario = scenario.clone().pid_file(path);
            scope.spawn(move || {
                let relaxed = Ordering::Relaxed;
                while left.fetch_update(relaxed, relaxed, take).is_ok() {
                    assert_complete(&scenario.launch());
                }
            });
        }
    });
}

fn a_thousand_starts_are_complete_when_their_launchers_end() {
    start_repeatedly(&scenario!(), 1000);
}

fn a_thousand_starts_on_one_processor_are_complete_when_their_launchers_end() {
    let scenario = scenario!().from_state(|state| state.processor = Some(0));
    start_repeatedly(&scenario, 1000);
}

fn two_hundred_simultaneous_starts_do_not_disturb_each_other() {
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

fn fifty_starts_in_a_row_take_over_the_pid_file() {
    let scenario = daemon!();
    for number in 0..50 {
        let run = scenario.launch();
        assert_complete(&run);
        match number % 2 {
            0 => run.exit(0),
            _ => run.kill_daemon(),
        }
    }
}
