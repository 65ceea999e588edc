use std::io::ErrorKind;

use tester::prelude::*;

use crate::setup::*;

pub(crate) const CASES: &[Case] = &[
    case!(a_guard_removes_the_file_at_a_clean_exit),
    case!(without_a_guard_an_unlocked_file_is_left),
    case!(a_guard_dropped_early_keeps_the_lock),
    case!(a_guarded_file_that_a_worker_locks_names_no_starting_daemon, needs Root, Linux),
    case!(a_guard_leaves_other_files_with_reused_descriptor_numbers_alone),
    case!(a_guard_needs_a_pid_file),
    case!(a_file_that_the_daemon_may_not_remove_is_left_unlocked, needs Root),
    case!(a_file_outside_the_jail_is_left_unlocked, needs Root),
    case!(a_forked_copy_of_the_daemon_removes_nothing),
    case!(a_forked_copy_of_the_daemon_gets_no_guard),
    case!(a_guard_leaves_another_file_at_its_path_alone),
];

fn a_guard_removes_the_file_at_a_clean_exit() {
    let cases = [
        daemon!(),
        daemon!().entry(Entry::Execute),
        daemon!().foreground(Foreground::Yes),
        daemon!().deferring([], ReadinessUse::Ready),
        daemon!().life(Life::Exit(0)),
    ];
    for scenario in cases.map(guarded) {
        let run = scenario.launch();
        assert!(await_guard(&run), "{}", run.diagnostics());
        if scenario.config.life == Life::UntilCommand {
            assert!(run.pid_file().unwrap().locked);
            run.exit(0);
        }
        run.wait_until_all_ended();
        assert_eq!(run.pid_file(), None);
    }
    // A relative path starts at the daemon's working directory.
    let (scenario, directory) = guarded(daemon!()).with_directory("home");
    let run = scenario.working_directory(directory).start();
    assert!(await_guard(&run) && run.pid_file().is_some());
    run.exit(0);
    assert_eq!(run.pid_file(), None);
}

fn without_a_guard_an_unlocked_file_is_left() {
    let scenario = daemon!();
    let run = scenario.start();
    let content = content(run.report().pid);
    run.exit(0);
    let left = run.pid_file().unwrap();
    assert_eq!((left.bytes, left.locked), (content, false));
    assert_not_running(&scenario.control());
    scenario.start();
}

fn a_guard_dropped_early_keeps_the_lock() {
    let scenario = guarded(daemon!());
    let run = scenario.start();
    assert!(await_guard(&run));
    let before = run.pid_file();
    run.answer(&control::Command::DropGuard);
    assert_eq!(run.pid_file(), before);
    let second = daemon!().pid_file(scenario.pid_file_path().unwrap());
    let error = second.launch().launcher_error();
    assert_eq!(error.running_pid, Some(run.report().pid));
    run.exit(0);
    assert_eq!(run.pid_file(), None);
}

/// The worker holds the lock when the guard should remove the file.
fn a_guarded_file_that_a_worker_locks_names_no_starting_daemon() {
    let scenario = guarded(daemon!()).user(65534).group(65534);
    let scenario = scenario.privileged_action([Step::ForkWorker]);
    let run = scenario.start();
    assert!(await_guard(&run));
    let (worker, daemon) = (run.worker(), run.handle(run.report().pid));
    run.send_command(&control::Command::Exit(0));
    assert!(daemon.wait(Instant::now() + time_limit()).unwrap());
    let error = assert_io_error(scenario.control().running(), ErrorKind::InvalidData);
    let text = error.to_string();
    assert!(text.contains("a worker has inherited the lock"), "{text}");
    run.kill(worker);
    assert_not_running(&scenario.control());
}

fn a_guard_leaves_other_files_with_reused_descriptor_numbers_alone() {
    let in_foreground = guarded(daemon!()).foreground(Foreground::Yes);
    for scenario in [guarded(daemon!()), in_foreground] {
        let run = scenario.launch();
        assert!(await_guard(&run));
        let directory = scenario.create_directory("data");
        run.answer(&control::Command::ReplaceDescriptors(Bytes::from(
            directory.as_path(),
        )));
        run.exit(0);
        let mut files = 0;
        for entry in fs::read_dir(directory).unwrap() {
            assert_eq!(fs::read(entry.unwrap().path()).unwrap(), b"precious\n");
            files += 1;
        }
        assert!(files > 10, "{files}");
        assert!(run.pid_file().is_some_and(|file| !file.locked));
    }
}

fn a_guard_needs_a_pid_file() {
    let run = guarded(scenario!()).start();
    assert!(!await_guard(&run));
    run.exit(0);
}

fn a_file_that_the_daemon_may_not_remove_is_left_unlocked() {
    let scenario = guarded(daemon!()).user(65534).group(65534);
    let run = scenario.start();
    assert!(await_guard(&run));
    let before = run.pid_file().unwrap();
    run.exit(0);
    let left = run.pid_file().unwrap();
    assert!(left.bytes == before.bytes && !left.locked, "{left:?}");
    assert_not_running(&scenario.control());
    scenario.start();
}

fn a_file_outside_the_jail_is_left_unlocked() {
    let (scenario, jail) = guarded(daemon!()).with_directory("jail");
    // Inside the jail, another file is at the same path.
    let inside = jail.join(scenario.directory().strip_prefix("/").unwrap());
    fs::create_dir_all(&inside).unwrap();
    fs::write(inside.join("daemon.pid"), "another's\n").unwrap();
    let run = scenario.chroot(&jail).start();
    assert!(await_guard(&run));
    let before = run.pid_file().unwrap();
    run.exit(0);
    let left = run.pid_file().unwrap();
    assert!(left.bytes == before.bytes && !left.locked, "{left:?}");
    let there = fs::read_to_string(inside.join("daemon.pid")).unwrap();
    assert_eq!(there, "another's\n");
}

#[track_caller]
fn assert_copy_removes_nothing(run: &Run) {
    let before = run.pid_file();
    run.send_command(&control::Command::DropGuardInCopy);
    run.await_message(&Message::CopyDroppedGuard);
    assert_eq!(run.pid_file(), before);
    assert!(before.is_some_and(|file| file.locked && !file.bytes.is_empty()));
}

fn a_forked_copy_of_the_daemon_removes_nothing() {
    let run = guarded(daemon!()).start();
    assert!(await_guard(&run));
    assert_copy_removes_nothing(&run);
    run.exit(0);
    assert_eq!(run.pid_file(), None);
}

fn a_forked_copy_of_the_daemon_gets_no_guard() {
    let run = daemon!().start();
    assert_copy_removes_nothing(&run);
}

fn a_guard_leaves_another_file_at_its_path_alone() {
    let scenario = guarded(daemon!());
    let run = scenario.start();
    assert!(await_guard(&run));
    let (path, moved) = (scenario.pid_file_path().unwrap(), scenario.path("moved"));
    fs::rename(&path, &moved).unwrap();
    fs::write(&path, "another's\n").unwrap();
    let before = fs::read(&moved).unwrap();
    run.exit(0);
    assert_eq!(fs::read_to_string(&path).unwrap(), "another's\n");
    assert_eq!(fs::read(&moved).unwrap(), before);
}
