//! Set-up and assertions that the modules of this suite share.

use tester::prelude::*;

pub(crate) fn guarded(mut scenario: Scenario) -> Scenario {
    scenario.config.guard_pid_file = true;
    scenario
}

#[track_caller]
pub(crate) fn await_guard(run: &Run) -> bool {
    run.first("the guard", select!(Guarded))
}

/// A start with the pid file `daemon.pid`, and its path.
pub(crate) fn with_pid_file() -> (Scenario, PathBuf) {
    let scenario = daemon!();
    let path = scenario.path("daemon.pid");
    (scenario, path)
}

/// The same start by an ordinary user, and the id of that user.
pub(crate) fn with_pid_file_as_ordinary() -> (Scenario, PathBuf, u32) {
    let (scenario, path) = with_pid_file();
    match sys::effective_user() {
        0 => (scenario.as_user(UID, GID), path, UID),
        uid => (scenario, path, uid),
    }
}

pub(crate) fn give_to(path: &Path, uid: u32) {
    chown(path, Some(uid), None).unwrap();
}

/// Everything that changes if a process touches the file.
pub(crate) fn file_state(path: &Path) -> (Vec<u8>, [u64; 4], [i64; 4]) {
    let bytes = fs::read(path).unwrap();
    let found = fs::symlink_metadata(path).unwrap();
    let owner = (u64::from(found.uid()) << 32) | u64::from(found.gid());
    let identity = [found.dev(), found.ino(), found.mode().into(), owner];
    let (changed, changed_nsec) = (found.ctime(), found.ctime_nsec());
    let times = [found.mtime(), found.mtime_nsec(), changed, changed_nsec];
    (bytes, identity, times)
}

#[track_caller]
pub(crate) fn assert_refused(scenario: &Scenario, errno: i32, reason: &str) {
    let error = scenario.fail_beside_daemon();
    error.assert_kind("OpenPidfile", errno);
    assert_eq!(error.path, scenario.config.options.pid_file);
    assert!(error.text.starts_with("cannot open pid file "), "{error}");
    assert!(error.text.contains(reason), "{error}");
}
