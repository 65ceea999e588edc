use std::os::unix::net::UnixListener;

use tester::prelude::*;
use tester::trace::Role;
use tester::traced_start::TracedStart;

use crate::setup::*;

pub(crate) const CASES: &[Case] = &[
    case!(a_successor_takes_over_the_pid_file_of_the_running_daemon),
    case!(a_successor_is_not_led_to_another_directory, needs Root),
    case!(a_successor_of_another_user_takes_over_the_pid_file, needs Root),
    case!(the_pid_file_names_the_running_daemon_until_its_successor_is_ready),
    case!(a_failed_successor_leaves_the_pid_file_alone),
    case!(a_successor_whose_launcher_is_killed_leaves_the_pid_file_alone),
    case!(an_upgrade_without_a_running_daemon_is_an_ordinary_start),
    case!(a_second_successor_names_the_first),
    case!(a_daemon_that_is_starting_has_no_successor),
    case!(a_start_after_an_upgrade_names_the_successor),
    case!(the_former_daemon_does_not_remove_the_file_of_its_successor),
    case!(a_daemon_starts_its_own_successor),
    case!(a_successor_replaces_a_daemon_that_the_kernel_does_not_name),
    case!(a_daemon_that_starts_meanwhile_keeps_its_pid_file, needs Linux),
    case!(a_successor_takes_over_nothing_but_a_regular_file),
    case!(a_successor_needs_a_file_name),
    case!(a_new_file_that_another_process_moves_is_no_pid_file),
    case!(an_upgrade_in_the_foreground_is_refused),
    case!(a_process_of_an_upgrade_killed_at_any_call_leaves_one_daemon_in_the_pid_file, needs Stepping),
];

fn successor_of(scenario: &Scenario) -> Scenario {
    scenario.clone().upgrade(true)
}

fn new_path(path: &Path) -> PathBuf {
    path.with_extension("pid.new")
}

#[track_caller]
fn assert_named(scenario: &Scenario, pid: u32) {
    assert_eq!(scenario.control().running().unwrap(), Some(pid));
}

fn a_successor_takes_over_the_pid_file_of_the_running_daemon() {
    let (scenario, path) = with_pid_file();
    let former = scenario.start();
    let former_place = file_state(&path);
    let run = successor_of(&scenario).start();
    let pid = run.report().pid;
    assert_named(&scenario, pid);
    run.assert_pid_file_held();
    assert!(!new_path(&path).exists());
    assert_ne!(file_state(&path), former_place);
    // The former daemon lives, until somebody ends it.
    assert_eq!(former.observe().pid, former.report().pid);
    former.kill_daemon();
    assert_named(&scenario, pid);
    // A third one takes over from the second.
    let third = successor_of(&scenario).start();
    assert_named(&scenario, third.report().pid);
}

/// The user of the daemon can move the new file, and lead root to the pid file of another daemon.
fn a_successor_is_not_led_to_another_directory() {
    let scenario = scenario!().pid_file("home/run/daemon.pid");
    let (scenario, home) = scenario.with_directory("home");
    let directory = scenario.create_directory("home/run");
    let target = scenario.create_directory("target");
    for own in [&home, &directory] {
        chown(own, Some(UID), Some(GID)).unwrap();
    }
    let scenario = scenario.user(UID).group(GID).chown_pid_file_user(UID);
    let _former = scenario.start();
    let run = successor_of(&scenario).initialize([Step::Hold]).launch();
    run.held();
    let path = directory.join("daemon.pid");
    let other = target.join("daemon.pid");
    fs::write(&other, "4242\n").unwrap();
    fs::rename(new_path(&path), new_path(&other)).unwrap();
    fs::rename(&directory, home.join("former")).unwrap();
    symlink(&target, &directory).unwrap();
    run.proceed();
    let error = run.launcher_error();
    error.assert_kind("TakeOverPidfile", LINK_ERRNO);
    assert!(
        error
            .text
            .contains("is a symbolic link that another user can change"),
        "{error}"
    );
    assert_eq!(fs::read(&other).unwrap(), b"4242\n");
}

fn a_successor_of_another_user_takes_over_the_pid_file() {
    let (scenario, path) = with_pid_file();
    let _former = scenario.start();
    let run = successor_of(&scenario)
        .user(UID)
        .group(GID)
        .chown_pid_file_user(UID)
        .start();
    assert_named(&scenario, run.report().pid);
    assert_eq!(fs::metadata(&path).unwrap().uid(), UID);
}

fn the_pid_file_names_the_running_daemon_until_its_successor_is_ready() {
    let (scenario, path) = with_pid_file();
    let former = scenario.start();
    let before = file_state(&path);
    let run = successor_of(&scenario).initialize([Step::Hold]).launch();
    let held = run.held().pid;
    assert_named(&scenario, former.report().pid);
    assert_eq!(file_state(&path), before);
    run.proceed_to_success();
    assert_named(&scenario, held);
}

#[track_caller]
fn assert_untouched(scenario: &Scenario, former: &Run, change: impl FnOnce(Scenario)) {
    let path = scenario.pid_file_path().unwrap();
    let before = file_state(&path);
    change(successor_of(scenario));
    assert_eq!(file_state(&path), before);
    assert_named(scenario, former.report().pid);
    // What is left is empty and unlocked, and does not hinder the next one.
    let left = pid_file_at(&new_path(&path));
    assert!(left.bytes.is_empty() && !left.locked);
}

fn a_failed_successor_leaves_the_pid_file_alone() {
    let (scenario, _) = with_pid_file();
    let former = scenario.start();
    assert_untouched(&scenario, &former, |successor| {
        successor.chroot("missing").fail_beside_daemon();
    });
    assert_untouched(&scenario, &former, |successor| {
        let failing = successor.initialize([Step::Hold]);
        let run = failing.launch();
        run.held();
        run.kill_held();
        assert_eq!(run.launcher_error().kind, "DaemonExited");
    });
    let run = successor_of(&scenario).start();
    assert_named(&scenario, run.report().pid);
}

fn a_successor_whose_launcher_is_killed_leaves_the_pid_file_alone() {
    let (scenario, _) = with_pid_file();
    let former = scenario.start();
    assert_untouched(&scenario, &former, |successor| {
        let run = successor.initialize([Step::Hold]).launch();
        run.held();
        run.kill_launcher();
        run.wait_until_all_ended();
    });
}

fn an_upgrade_without_a_running_daemon_is_an_ordinary_start() {
    let (scenario, path) = with_pid_file();
    for content in [None, Some("999999\n")] {
        if let Some(content) = content {
            fs::write(&path, content).unwrap();
        }
        let run = successor_of(&scenario).start();
        assert_named(&scenario, run.report().pid);
        assert!(!new_path(&path).exists());
        run.kill_daemon();
        fs::remove_file(&path).unwrap();
    }
}

fn a_second_successor_names_the_first() {
    let (scenario, path) = with_pid_file();
    let _former = scenario.start();
    let run = successor_of(&scenario).initialize([Step::Hold]).launch();
    let first = run.held().pid;
    let error = successor_of(&scenario).fail_beside_daemon();
    error.assert_kind("LockPidfile", libc::EWOULDBLOCK);
    let new = new_path(Path::new("daemon.pid"));
    assert_eq!(error.path, Some((&new).into()));
    let text = match cfg!(target_os = "linux") {
        true => format!("held by daemon {first}, which is starting"),
        false => "held by a daemon that is starting".to_owned(),
    };
    assert_eq!(
        error.text,
        format!("cannot lock pid file {}: {text}", new.display())
    );
    run.proceed_to_success();
    assert_named(&scenario, first);
    assert!(!new_path(&path).exists());
}

fn a_daemon_that_is_starting_has_no_successor() {
    let (scenario, path) = with_pid_file();
    let starting = scenario.clone().initialize([Step::Hold]);
    let run = starting.launch();
    let pid = run.held().pid;
    let error = successor_of(&scenario).fail_beside_daemon();
    error.assert_kind("LockPidfile", libc::EWOULDBLOCK);
    assert_eq!(error.path, Some((&PathBuf::from("daemon.pid")).into()));
    assert!(!new_path(&path).exists());
    run.proceed_to_success();
    assert_named(&scenario, pid);
}

fn a_start_after_an_upgrade_names_the_successor() {
    let (scenario, _) = with_pid_file();
    let _former = scenario.start();
    let run = successor_of(&scenario).start();
    let error = scenario.fail_beside_daemon();
    assert_eq!(error.running_pid, Some(run.report().pid));
}

fn the_former_daemon_does_not_remove_the_file_of_its_successor() {
    let (scenario, _) = with_pid_file();
    let former = guarded(scenario.clone()).start();
    let run = guarded(successor_of(&scenario)).start();
    assert!(await_guard(&former) && await_guard(&run));
    former.exit(0);
    assert_named(&scenario, run.report().pid);
    // The successor removes its own.
    run.exit(0);
    assert!(!scenario.pid_file_path().unwrap().exists());
}

fn a_daemon_starts_its_own_successor() {
    let (scenario, path) = with_pid_file();
    let former = scenario.start();
    former.send_command(&control::Command::StartAnother(AnotherStart {
        pid_file: Some((&path).into()),
        upgrade: true,
        ..AnotherStart::default()
    }));
    let successor = former.observed().pid;
    assert_ne!(successor, former.report().pid);
    assert_named(&scenario, successor);
}

/// A daemon of another library holds only the lock of flock(2).
fn a_successor_replaces_a_daemon_that_the_kernel_does_not_name() {
    let (scenario, path) = with_pid_file();
    fs::write(&path, format!("{}\n", std::process::id())).unwrap();
    let file = File::open(&path).unwrap();
    sys::flock(file.as_fd(), libc::LOCK_EX).unwrap();
    let run = successor_of(&scenario).start();
    assert_named(&scenario, run.report().pid);
    sys::flock(file.as_fd(), libc::LOCK_UN).unwrap();
}

/// The former daemon ends while its successor starts, and an ordinary start gets the file.
fn a_daemon_that_starts_meanwhile_keeps_its_pid_file() {
    let (scenario, _) = with_pid_file();
    let former = scenario.start();
    let run = successor_of(&scenario).initialize([Step::Hold]).launch();
    run.held();
    former.kill_daemon();
    let meanwhile = scenario.start();
    run.proceed();
    let error = run.launcher_error();
    error.assert_kind("TakeOverPidfile", libc::EAGAIN);
    let pid = meanwhile.report().pid;
    let text =
        format!("cannot take over pid file daemon.pid: daemon {pid} has been started meanwhile");
    assert_eq!(error.text, text);
    assert_named(&scenario, pid);
    run.wait_until_all_ended();
}

fn a_successor_takes_over_nothing_but_a_regular_file() {
    let (scenario, path) = with_pid_file();
    let target = scenario.path("target");
    fs::write(&target, b"precious").unwrap();
    let make: [&dyn Fn(); 4] = [
        &|| symlink(&target, &path).unwrap(),
        &|| fs::create_dir(&path).unwrap(),
        &|| sys::make_fifo(&path).unwrap(),
        &|| drop(UnixListener::bind(&path).unwrap()),
    ];
    for make in make {
        make();
        let before = fs::symlink_metadata(&path).unwrap().ino();
        let error = successor_of(&scenario).fail();
        error.assert_kind("TakeOverPidfile", libc::EINVAL);
        let text = "cannot take over pid file daemon.pid: it is not a regular file";
        assert_eq!(error.text, text);
        assert_eq!(fs::symlink_metadata(&path).unwrap().ino(), before);
        assert!(!new_path(&path).exists());
        let _ = fs::remove_file(&path).or_else(|_| fs::remove_dir(&path));
    }
    assert_eq!(fs::read(&target).unwrap(), b"precious");
}

fn a_successor_needs_a_file_name() {
    for path in ["", "..", "run/"] {
        let error = scenario!().pid_file(path).upgrade(true).fail();
        error.assert_kind("TakeOverPidfile", libc::EINVAL);
        assert!(
            error.text.ends_with(": the path has no file name"),
            "{}",
            error.text
        );
    }
}

fn a_new_file_that_another_process_moves_is_no_pid_file() {
    let (scenario, path) = with_pid_file();
    let former = scenario.start();
    let run = successor_of(&scenario).initialize([Step::Hold]).launch();
    run.held();
    fs::rename(new_path(&path), path.with_extension("moved")).unwrap();
    fs::write(new_path(&path), "1\n").unwrap();
    run.proceed();
    let error = run.launcher_error();
    error.assert_kind("TakeOverPidfile", libc::EAGAIN);
    assert!(
        error
            .text
            .ends_with(": another process has moved the new file"),
        "{}",
        error.text
    );
    assert_named(&scenario, former.report().pid);
}

fn an_upgrade_in_the_foreground_is_refused() {
    let (scenario, path) = with_pid_file();
    let error = successor_of(&scenario).foreground(Foreground::Yes).fail();
    error.assert_kind("TakeOverPidfile", libc::EINVAL);
    let text = "cannot take over pid file daemon.pid: the foreground has no launcher that could \
                take it over";
    assert_eq!(error.text, text);
    assert!(!path.exists() && !new_path(&path).exists());
}

fn a_process_of_an_upgrade_killed_at_any_call_leaves_one_daemon_in_the_pid_file() {
    thread::scope(|scope| {
        for role in Role::ALL {
            scope.spawn(move || kill_at_every_call(role));
        }
    });
}

fn kill_at_every_call(role: Role) {
    let (scenario, path) = with_pid_file();
    let successor = successor_of(&scenario);
    let mut former = scenario.start();
    let (mut left_alone, mut taken_over) = (0, 0);
    for call in 0.. {
        let traced = TracedStart::observe(&successor.clone().crash(role, call), false);
        let Some(hit) = traced.signal_hit else {
            break;
        };
        let outcome = &traced.outcome;
        assert_eq!(outcome.trouble, None, "{outcome:?}");
        let daemon = outcome
            .frames
            .iter()
            .find_map(|frame| match &frame.message {
                Message::Daemon(report) => Some(report.pid),
                _ => None,
            });
        // A daemon that was killed right after the commitment has not sent its report.
        let killed = (role == Role::Daemon && outcome.status.success()).then_some(hit.process);
        match daemon.or(killed) {
            Some(daemon) => {
                assert_eq!(fs::read(&path).unwrap(), content(daemon), "{outcome:?}");
                // The daemons of the case have ended with it.
                former = scenario.start();
                taken_over += 1;
            }
            None => {
                assert_named(&scenario, former.report().pid);
                assert!(!outcome.status.success(), "{outcome:?}");
                left_alone += 1;
            }
        }
    }
    assert!(left_alone > 10, "{role}: {left_alone}");
    assert!(
        role != Role::Launcher || taken_over > 1,
        "{role}: {taken_over}"
    );
}
