use tester::prelude::*;

use crate::setup::*;

pub(crate) const CASES: &[Case] = &[
    case!(a_failed_first_step_creates_no_file),
    case!(a_failed_change_of_owner_leaves_an_empty_file),
    case!(a_failed_privileged_action_leaves_an_empty_file),
    case!(a_failed_initialization_leaves_an_empty_file),
    case!(a_failed_chroot_leaves_an_empty_file),
    case!(a_failed_change_of_identity_leaves_an_empty_file),
    case!(a_failed_daemon_that_goes_on_has_released_the_file),
    case!(a_failed_start_releases_the_lock_that_a_worker_shares),
    case!(a_failed_start_does_not_clear_the_next_daemons_file),
];

fn a_failed_first_step_creates_no_file() {
    let (scenario, _) = with_pid_file();
    let path = scenario.path("missing");
    let error = scenario.working_directory(&path).fail();
    assert_eq!(error.kind_name(), "ChangeDirectory");
}

/// The start fails with this kind of error, and leaves the file empty and unlocked,
/// whether there was a stale file or none.
#[track_caller]
fn assert_leaves_an_empty_file(scenario: &Scenario, kind: &str) {
    let path = scenario.pid_file_path().unwrap();
    for entry in [Entry::Start, Entry::Execute, Entry::Start, Entry::Execute] {
        let run = scenario.clone().entry(entry).launch();
        let error = run.launcher_error();
        assert_eq!(error.kind_name(), kind, "{error}");
        // This holds when the launcher ends, even if the daemon goes on.
        let left = run.launcher().pid_file.unwrap();
        assert!(left.is_released(), "{left:?}");
        if entry == Entry::Start {
            run.assert_nothing_left();
        }
        run.wait_until_all_ended();
        fs::write(&path, "stale content that is longer\n").unwrap();
    }
}

fn a_failed_change_of_owner_leaves_an_empty_file() {
    let (scenario, path, uid) = with_pid_file_as_ordinary();
    let scenario = scenario.chown_pid_file_user(0);
    fs::write(&path, "").unwrap();
    give_to(&path, uid);
    assert_leaves_an_empty_file(&scenario, "ChownPidfile");
}

fn a_failed_privileged_action_leaves_an_empty_file() {
    for (step, kind) in [
        (Step::Panic("text".to_owned()), "Panicked"),
        (Step::Exit(0), "DaemonExited"),
        (Step::KillItself(libc::SIGKILL), "DaemonExited"),
    ] {
        let (scenario, _) = with_pid_file();
        assert_leaves_an_empty_file(&scenario.privileged_action([step]), kind);
    }
}

/// The initialization fails before the pid is written.
fn a_failed_initialization_leaves_an_empty_file() {
    let steps = |step: Step| Fallible::from([step]);
    for (initialization, kind) in [
        (ErrorText::from("text").into(), "Initialize"),
        (steps(Step::Panic("text".to_owned())), "Panicked"),
        (steps(Step::Exit(0)), "DaemonExited"),
        (steps(Step::KillItself(libc::SIGKILL)), "DaemonExited"),
    ] {
        let (scenario, _) = with_pid_file();
        assert_leaves_an_empty_file(&scenario.initialize(initialization), kind);
    }
}

fn a_failed_chroot_leaves_an_empty_file() {
    let (scenario, _) = with_pid_file();
    assert_leaves_an_empty_file(&scenario.chroot("missing"), "Chroot");
}

fn a_failed_change_of_identity_leaves_an_empty_file() {
    let (scenario, _, uid) = with_pid_file_as_ordinary();
    let gid = if uid == UID {
        GID
    } else {
        sys::group_ids().effective
    };
    let scenario = scenario.user(UID + 1).group(gid);
    let error = scenario.fail();
    assert_eq!(error.errno, Some(libc::EPERM));
    let kind = error.kind_name().to_owned();
    assert_leaves_an_empty_file(&scenario, &kind);
}

fn a_failed_daemon_that_goes_on_has_released_the_file() {
    let (scenario, path) = with_pid_file();
    let failing = scenario.clone().entry(Entry::Execute).chroot("missing");
    let run = failing.life(Life::UntilCommandEvenIfFailed).launch();
    run.launcher_error();
    run.daemon_error();
    let left = run.processes();
    assert_eq!(left.len(), 1, "{left:?}");
    assert!(pid_file_at(&path).is_released());
    let descriptors = run.observe().descriptors.unwrap();
    assert!(!descriptors.iter().any(|found| found.is_file(&path)));
    scenario.start().assert_pid_file_held();
}

fn a_failed_start_releases_the_lock_that_a_worker_shares() {
    for last in [
        Step::Panic("text".to_owned()),
        Step::Exit(3),
        Step::KillItself(libc::SIGKILL),
    ] {
        let (scenario, path) = with_pid_file();
        let failing = scenario.clone().privileged_action([Step::ForkWorker, last]);
        let run = failing.launch();
        run.launcher_error();
        let worker = run.worker();
        run.assert_nothing_left_but(&[worker]);
        assert_eq!(pid_file_at(&path).bytes, b"");
        assert!(run.processes().iter().any(|process| process.pid == worker));
        scenario.start().assert_pid_file_held();
    }
}

/// Each process of a failed start clears the file, unless another process has cleared it.
fn a_failed_start_does_not_clear_the_next_daemons_file() {
    let (scenario, _) = with_pid_file();
    let failing = scenario.clone().chroot("missing");
    let run = failing.privileged_action([Step::Hold]).launch();
    let (daemon, intermediate) = (run.held().pid, run.held().ppid);
    sys::kill(intermediate, libc::SIGSTOP).unwrap();
    run.proceed();
    run.wait_until_ended(daemon);
    let next = scenario.start();
    sys::kill(intermediate, libc::SIGCONT).unwrap();
    run.launcher_error();
    run.wait_until_all_ended();
    next.assert_pid_file_held();
}
