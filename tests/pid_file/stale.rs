use tester::prelude::*;

use crate::setup::*;

pub(crate) const CASES: &[Case] = &[
    case!(an_ended_daemon_does_not_hinder_the_next_start),
    case!(a_stale_file_is_taken_over),
];

fn an_ended_daemon_does_not_hinder_the_next_start() {
    let (scenario, _) = with_pid_file();
    scenario.start().exit(0);
    scenario.start().assert_pid_file_held();
}

fn a_stale_file_is_taken_over() {
    let (scenario, path) = with_pid_file();
    let run = scenario.start();
    let (pid, inode) = (run.report().pid, pid_file_at(&path).place);
    run.kill_daemon();
    run.wait_until_all_ended();
    assert_eq!(pid_file_at(&path).bytes, content(pid));
    let run = scenario.start();
    assert_ne!(run.report().pid, pid);
    assert_eq!(pid_file_at(&path).place, inode);
    run.assert_pid_file_held();
}
