use std::sync::atomic::AtomicU32;

use tester::prelude::*;

pub(crate) const CASES: &[Case] = &[
    case!(a_refused_first_fork_is_reported),
    case!(a_refused_second_fork_is_reported_and_clears_the_pid_file, needs Root, OwnThreads),
    case!(a_refused_second_fork_is_reported_before_failures_of_earlier_steps, needs Root, OwnThreads),
];

/// The error lists the limits that refuse a fork.
fn refused_fork() -> StartError {
    let reason = io::Error::from_raw_os_error(libc::EAGAIN);
    let text = format!(
        "cannot fork: {reason}: a limit on the number of processes is reached: that of the user \
         (RLIMIT_NPROC), of the container or service, or of the system"
    );
    StartError::with_text("Fork", libc::EAGAIN, None, &text)
}

fn a_refused_first_fork_is_reported() {
    let scenario = scenario!()
        .as_ordinary_user()
        .from_state(|state| state.limit_processes = Some(1));
    let expected = refused_fork();
    scenario
        .pid_file("daemon.pid")
        .assert_fails_in_launcher(&expected);
}

/// A user that no other process has.
fn as_single_process(limit: u64) -> Scenario {
    static USERS: AtomicU32 = AtomicU32::new(0);
    let number = USERS.fetch_add(1, Ordering::Relaxed);
    let uid = 1_000_000_000 + 100 * std::process::id() + number;
    let scenario = scenario!().as_user(uid, uid).pid_file("daemon.pid");
    scenario.from_state(|state| state.limit_processes = Some(limit))
}

#[track_caller]
fn assert_second_fork_is_refused(change: fn(Scenario) -> Scenario) {
    let expected = refused_fork();
    for entry in [Entry::Start, Entry::Execute] {
        let scenario = change(as_single_process(2).entry(entry));
        assert_eq!(scenario.fail_in_launcher(), expected, "{entry:?}");
    }
}

fn a_refused_second_fork_is_reported_and_clears_the_pid_file() {
    assert_second_fork_is_refused(|scenario| scenario);
    // The second fork failed: an intermediate has made the file.
    let run = as_single_process(2).launch();
    run.launcher_error();
    assert!(run.launcher().pid_file.is_some_and(|file| !file.locked));
    as_single_process(3).start();
}

fn a_refused_second_fork_is_reported_before_failures_of_earlier_steps() {
    assert_second_fork_is_refused(|scenario| scenario.working_directory("missing"));
    assert_second_fork_is_refused(|scenario| scenario.pid_file("missing/daemon.pid"));
    let error = as_single_process(3)
        .working_directory("missing")
        .fail_in_launcher();
    assert_eq!(error.kind_name(), "ChangeDirectory");
}
