use tester::prelude::*;

use crate::setup::*;

pub(crate) const CASES: &[Case] = &[
    case!(the_pid_file_names_the_program_and_stays_locked),
    case!(the_program_has_the_pid_file_open_for_reading_alone, needs Linux),
    case!(the_program_is_found_and_stopped_by_its_pid_file),
    case!(a_program_that_asks_about_itself_keeps_its_lock),
    case!(a_program_that_is_not_ready_finds_itself_starting),
    case!(a_program_adopts_its_pid_file_and_removes_it),
    case!(a_child_of_the_program_is_not_the_daemon),
    case!(a_worker_of_the_launcher_does_not_keep_the_lock),
    case!(a_copy_in_the_launcher_does_not_cost_the_lock),
    case!(the_intermediate_has_no_descriptor_that_the_program_lacks, needs Linux),
    case!(the_lock_ends_with_the_program),
    case!(a_second_start_succeeds_after_the_end_of_the_program),
];

fn the_pid_file_names_the_program_and_stays_locked() {
    let run = spawned().start();
    run.assert_pid_file_complete();
    run.assert_pid_file_held();
    assert_eq!(run.lock_holders(), [run.report().pid]);
}

fn the_program_has_the_pid_file_open_for_reading_alone() {
    let run = spawned().start();
    let overwritten = run.answer(&control::Command::OverwriteFiles("1\n".into()));
    let by_owner = overwritten
        .iter()
        .filter(|what| !what.ends_with("once more"));
    assert_eq!(by_owner.count(), 0, "{overwritten:?}");
}

fn the_program_is_found_and_stopped_by_its_pid_file() {
    let scenario = spawned();
    let run = scenario.start();
    let pid = run.report().pid;
    let control = scenario.control();
    assert_eq!(control.running().unwrap(), Some(pid));
    assert!(control.stop(time_limit()).unwrap());
    run.wait_until_all_ended();
    assert_not_running(&control);
}

/// The file is not opened: to close it would release the record lock.
fn a_program_that_asks_about_itself_keeps_its_lock() {
    let scenario = spawned();
    let run = scenario.start();
    let pid = run.report().pid;
    let path = scenario.pid_file_path().unwrap();
    let answers = run.answer(&control::Command::AskForDaemon(Bytes::from(path.as_path())));
    assert_eq!(answers[0], format!("Ok(Some({pid}))"));
    assert_eq!(answers[1], format!("Ok(Running {{ pid: {pid} }})"));
    for answer in &answers[3..] {
        assert!(answer.contains("this process is the daemon"), "{answer}");
    }
    assert_eq!(run.lock_holders(), [pid]);
    let control = scenario.control();
    assert_eq!(control.running().unwrap(), Some(pid));
    assert!(control.stop(time_limit()).unwrap());
    run.wait_until_all_ended();
}

fn a_program_that_is_not_ready_finds_itself_starting() {
    let scenario = daemon!();
    let path = Bytes::from(scenario.pid_file_path().unwrap().as_path());
    let steps = [Step::AdoptPidFile(path), Step::Write(5, "\n".to_owned())];
    let run = scenario
        .spawn_awaiting(ProgramReadiness::NotificationFd(5), steps)
        .start();
    let pid = run.report().pid;
    let starting = format!("Ok(Starting {{ pid: Some({pid}) }})");
    let answers = run.first("the answers", select!(Result));
    assert_eq!(answers, [starting, "Ok(true)".to_owned()]);
    assert_eq!(run.lock_holders(), [pid]);
    run.assert_pid_file_complete();
}

fn a_program_adopts_its_pid_file_and_removes_it() {
    let scenario = spawned();
    let run = scenario.start();
    let path = scenario.pid_file_path().unwrap();
    let adopt = control::Command::AdoptPidFile(Bytes::from(path.as_path()));
    assert_eq!(run.answer(&adopt), ["Ok(true)", "true"]);
    assert_eq!(run.lock_holders(), [run.report().pid]);
    run.exit(0);
    assert!(!path.exists());
}

/// The child inherits the variables and the descriptor. The file is empty.
fn a_child_of_the_program_is_not_the_daemon() {
    let scenario = daemon!();
    let path = Bytes::from(scenario.pid_file_path().unwrap().as_path());
    let steps = [
        Step::ForkAndAdoptPidFile(path),
        Step::Write(5, "\n".to_owned()),
    ];
    let run = scenario
        .spawn_awaiting(ProgramReadiness::NotificationFd(5), steps)
        .start();
    let answers = run.first("the answer of the child", select!(Answer));
    assert_eq!(answers, ["Ok(false)"]);
    assert_eq!(run.lock_holders(), [run.report().pid]);
}

/// The launcher receives a descriptor of the pid file for the clean-up, and closes it after the
/// start.
fn a_worker_of_the_launcher_does_not_keep_the_lock() {
    let mut scenario = spawned();
    scenario.config.report_afterwards = true;
    let run = scenario.start();
    let afterwards = run.first("report afterwards", select!(Afterwards));
    assert_eq!(afterwards.descriptors, run.initial().descriptors);
}

/// execve(2) closes the copy of the daemon. This would release its record lock.
fn a_copy_in_the_launcher_does_not_cost_the_lock() {
    let scenario = spawned();
    let path = scenario.pid_file_path().unwrap();
    fs::write(&path, "").unwrap();
    let scenario = scenario.from_state(|state| {
        state.descriptors = vec![OpenDescriptor {
            number: 120,
            path: Bytes::from(path.as_path()),
            close_on_exec: true,
        }];
    });
    let run = scenario.start();
    assert_eq!(run.lock_holders(), [run.report().pid]);
    let control = scenario.control();
    assert_eq!(control.running().unwrap(), Some(run.report().pid));
    assert!(control.stop(time_limit()).unwrap());
    run.wait_until_all_ended();
}

/// The launcher can close a descriptor while a program takes long to become ready.
fn the_intermediate_has_no_descriptor_that_the_program_lacks() {
    let line = [Step::Hold, Step::Write(5, "\n".to_owned())];
    let scenario = daemon!().spawn_awaiting(ProgramReadiness::NotificationFd(5), line);
    let scenario = scenario.from_state(|state| {
        state.descriptors = vec![
            OpenDescriptor::of_root(120, true),
            OpenDescriptor::of_root(121, false),
        ];
    });
    let run = scenario.launch();
    let intermediate = run.held().ppid;
    let has = |number: i32| Path::new(&format!("/proc/{intermediate}/fd/{number}")).exists();
    assert!(!has(120) && has(121));
    run.proceed();
    run.launcher().assert().success();
}

fn the_lock_ends_with_the_program() {
    let scenario = spawned();
    let run = scenario.start();
    run.exit(0);
    assert_not_running(&scenario.control());
}

fn a_second_start_succeeds_after_the_end_of_the_program() {
    let scenario = spawned();
    scenario.start().exit(0);
    scenario.start().assert_pid_file_held();
}
