use tester::prelude::*;

use crate::setup::*;

pub(crate) const CASES: &[Case] = &[
    case!(the_file_contains_the_pid_and_a_line_feed),
    case!(the_pid_is_written_once_the_daemon_is_ready),
    case!(the_pid_is_written_after_initialize_has_run),
    case!(the_pid_replaces_a_longer_content),
    case!(the_descriptor_is_close_on_exec_and_no_standard_stream),
];

fn the_file_contains_the_pid_and_a_line_feed() {
    let (scenario, path) = with_pid_file();
    let run = scenario.start();
    // The file is complete when the launcher ends.
    let pid_file = run.launcher().pid_file.unwrap();
    assert_eq!(pid_file.bytes, content(run.report().pid));
    assert_eq!(fs::read(path).unwrap(), pid_file.bytes);
}

fn the_pid_is_written_once_the_daemon_is_ready() {
    let (scenario, path) = with_pid_file();
    let run = scenario.clone().initialize([Step::Hold]).launch();
    run.held();
    assert_eq!(pid_file_at(&path).bytes, b"");
    assert_eq!(scenario.fail_beside_daemon().running_pid, None);
    run.proceed_to_success();
    run.assert_pid_file_held();
}

fn the_pid_is_written_after_initialize_has_run() {
    let run = daemon!().initialize([Step::Hold]).launch();
    let pid = run.held().pid;
    let pid_file = run.pid_file().unwrap();
    assert!(pid_file.bytes.is_empty() && pid_file.locked);
    run.assert_launcher_waits();
    run.proceed_to_success();
    assert_eq!(run.report().pid, pid);
    run.assert_pid_file_held();
}

fn the_pid_replaces_a_longer_content() {
    let (scenario, path) = with_pid_file();
    fs::write(&path, "4194303 and more\n".repeat(1000)).unwrap();
    scenario.start().assert_pid_file_held();
}

fn the_descriptor_is_close_on_exec_and_no_standard_stream() {
    for closed in [[false; 3], [true; 3]] {
        let (scenario, path) = with_pid_file();
        let run = scenario.from_state(|state| state.closed = closed).start();
        let descriptors = run.report().descriptors.unwrap();
        let mut found = descriptors.iter().filter(|one| one.is_file(&path));
        let descriptor = found.next().unwrap();
        assert!(descriptor.close_on_exec == Some(true) && descriptor.number > 2);
        assert_eq!(found.next(), None);
    }
}
