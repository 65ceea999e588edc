//! Set-up and assertions that the modules of this suite share.

use tester::prelude::*;

/// A start with the directory `directory`, and its path.
pub(crate) fn with_new_directory() -> (Scenario, PathBuf) {
    let scenario = scenario!();
    let path = scenario.path("directory");
    (scenario.directories([Directory::at(&path)]), path)
}

/// A start by root of a daemon of another user, with the directory `directory` and its path.
pub(crate) fn of_another_user() -> (Scenario, PathBuf) {
    let (scenario, path) = with_new_directory();
    (scenario.user(UID).group(GID), path)
}

/// The ids of the caller.
pub(crate) fn own_ids() -> (u32, u32) {
    (sys::effective_user(), sys::group_ids().effective)
}

/// Creates a directory with this owner and mode.
pub(crate) fn create(path: &Path, (uid, gid): (u32, u32), mode: u32) {
    fs::create_dir(path).unwrap();
    chown(path, Some(uid), Some(gid)).unwrap();
    set_mode(path, mode);
}

/// The owner, the group and the mode.
pub(crate) fn access(path: &Path) -> (u32, u32, u32) {
    let found = fs::symlink_metadata(path).unwrap();
    (found.uid(), found.gid(), found.mode() & 0o7777)
}

#[track_caller]
pub(crate) fn assert_directory(path: &Path, (uid, gid): (u32, u32), mode: u32) {
    assert!(fs::symlink_metadata(path).unwrap().is_dir());
    let (found_uid, found_gid, found) = access(path);
    assert_eq!((found_uid, found_gid), (uid, gid), "{}", path.display());
    assert_eq!(found, mode, "{}: {found:04o}", path.display());
}

/// Everything that changes if a process changes the directory.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct State {
    inode: u64,
    access: (u32, u32, u32),
    changed: (i64, i64),
    pub(crate) entries: Vec<PathBuf>,
}

pub(crate) fn state(path: &Path) -> State {
    let found = fs::symlink_metadata(path).unwrap();
    let entries = fs::read_dir(path).unwrap();
    State {
        inode: found.ino(),
        access: access(path),
        changed: (found.ctime(), found.ctime_nsec()),
        entries: entries.map(|entry| entry.unwrap().path()).collect(),
    }
}

/// The start refuses what is at the path, and changes nothing of it.
#[track_caller]
pub(crate) fn assert_refused(scenario: &Scenario, path: &Path, errno: i32, reason: &str) {
    let error = scenario.fail();
    error.assert_kind("UseDirectory", errno);
    assert_eq!(error.path, Some(Bytes::from(path)));
    let start = format!("cannot use directory {}: {reason}", path.display());
    assert!(error.text.starts_with(&start), "{error}");
}

/// The same for a directory that exists.
#[track_caller]
pub(crate) fn assert_left_alone(scenario: &Scenario, path: &Path, reason: &str) {
    let before = state(path);
    assert_refused(scenario, path, libc::EPERM, reason);
    assert_eq!(state(path), before);
}

/// The start cannot create the directory.
#[track_caller]
pub(crate) fn assert_not_created(scenario: &Scenario, path: &Path, errno: i32, reason: &str) {
    let error = scenario.fail();
    error.assert_kind("CreateDirectory", errno);
    assert_eq!(error.path, Some(Bytes::from(path)));
    let start = format!("cannot create directory {}: ", path.display());
    assert!(error.text.starts_with(&start), "{error}");
    assert!(error.text.contains(reason), "{error}");
    assert!(!path.exists());
}
