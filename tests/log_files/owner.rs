use tester::prelude::*;

use crate::setup::*;

pub(crate) const CASES: &[Case] = &[
    case!(a_new_log_file_belongs_to_the_daemon, needs Root),
    case!(a_new_log_file_belongs_to_the_primary_group_of_the_user, needs Root, TestUser),
    case!(a_new_log_file_of_root_belongs_to_root, needs Root),
    case!(an_existing_log_file_keeps_its_owner, needs Root),
    case!(a_log_file_of_the_daemons_user_is_accepted, needs Root),
    case!(a_log_file_of_another_user_is_refused, needs Root),
    case!(a_log_file_of_the_caller_is_accepted),
    case!(a_directory_of_another_user_is_refused, needs Root),
    case!(a_directory_that_others_can_write_is_refused, needs Root),
    case!(a_directory_of_the_daemons_user_is_accepted, needs Root),
    case!(a_link_that_the_daemons_user_can_change_is_not_followed, needs Root),
    case!(a_link_in_a_sticky_directory_is_not_followed, needs Root),
    case!(a_link_of_root_is_followed, needs Root),
    case!(a_sticky_directory_is_accepted, needs Root),
    case!(an_ordinary_user_may_use_a_directory_that_others_can_write),
    case!(a_log_file_that_cannot_be_given_away_is_removed),
];

const USER: u32 = UID;

/// A start as root that becomes an ordinary user.
fn dropping() -> (Scenario, PathBuf) {
    let (scenario, path) = with_log("error.log");
    (scenario.user(USER).group(GID), path)
}

/// The directory of the log file is root's, and the daemon cannot write there.
fn a_new_log_file_belongs_to_the_daemon() {
    let (scenario, path) = dropping();
    let run = scenario.umask(0_u32).start();
    assert_appends(&run.report(), 2, &path);
    assert_eq!(rights(&path), (0o640, USER, GID));
}

fn a_new_log_file_belongs_to_the_primary_group_of_the_user() {
    let (scenario, path) = with_log("error.log");
    let _run = scenario.user(suite::TEST_USER).start();
    let (id, group) = (suite::TEST_USER_ID, suite::TEST_USER_ID);
    assert_eq!(rights(&path), (0o640, id, group));
}

fn a_new_log_file_of_root_belongs_to_root() {
    let (scenario, path) = with_log("error.log");
    let _run = scenario.start();
    assert_eq!(rights(&path), (0o640, 0, 0));
}

fn an_existing_log_file_keeps_its_owner() {
    let (scenario, path) = dropping();
    fs::write(&path, "").unwrap();
    set_mode(&path, 0o600);
    let run = scenario.start();
    assert_appends(&run.report(), 2, &path);
    assert_eq!(rights(&path), (0o600, 0, 0));
}

fn a_log_file_of_the_daemons_user_is_accepted() {
    let (scenario, path) = dropping();
    fs::write(&path, "").unwrap();
    chown(&path, Some(USER), Some(0)).unwrap();
    assert_appends(&scenario.start().report(), 2, &path);
}

fn a_log_file_of_another_user_is_refused() {
    for scenario in [with_log("error.log"), dropping()] {
        let (scenario, path) = scenario;
        fs::write(&path, "").unwrap();
        chown(&path, Some(USER + 1), None).unwrap();
        let reason = format!(
            "it belongs to another user, uid {}; a start accepts a file of root, of the user of the \
             launcher or of `user`",
            USER + 1
        );
        assert_refused(&scenario, libc::EPERM, &reason);
    }
}

fn a_log_file_of_the_caller_is_accepted() {
    let (scenario, path) = with_log("error.log");
    let scenario = scenario.as_ordinary_user();
    fs::write(&path, "").unwrap();
    if sys::effective_user() == 0 {
        chown(&path, Some(UID), None).unwrap();
    }
    assert_appends(&scenario.start().report(), 2, &path);
}

/// A start as root with the log file in a directory with this owner and mode.
fn in_directory(uid: u32, gid: u32, mode: u32) -> (Scenario, PathBuf) {
    let (scenario, path) = with_log("logs/error.log");
    let (scenario, directory) = scenario.with_directory("logs");
    chown(&directory, Some(uid), Some(gid)).unwrap();
    set_mode(&directory, mode);
    (scenario, path)
}

fn a_directory_of_another_user_is_refused() {
    let (scenario, path) = in_directory(USER, 0, 0o755);
    let reason = format!(
        "its directory belongs to another user: {} belongs to uid {USER} and gid 0, mode 0755; a \
         start as root accepts a directory of root or of `user`",
        path.parent().unwrap().display()
    );
    assert_refused(&scenario, libc::EPERM, &reason);
    assert!(!path.exists());
}

fn a_directory_that_others_can_write_is_refused() {
    for (gid, mode) in [(0, 0o777), (GID, 0o775)] {
        let (scenario, path) = in_directory(0, gid, mode);
        let reason = "other users can write to its directory";
        assert_refused(&scenario, libc::EPERM, reason);
        assert!(!path.exists());
    }
}

fn a_directory_of_the_daemons_user_is_accepted() {
    let (scenario, path) = in_directory(USER, GID, 0o755);
    let run = scenario.user(USER).group(GID).start();
    assert_appends(&run.report(), 2, &path);
}

/// Otherwise that user would choose where root creates a file for that user.
fn a_link_that_the_daemons_user_can_change_is_not_followed() {
    let (scenario, _) = with_log("home/logs/error.log");
    let (scenario, home) = scenario.with_directory("home");
    let target = scenario.create_directory("target");
    symlink(&target, home.join("logs")).unwrap();
    chown(&home, Some(USER), Some(GID)).unwrap();
    let scenario = scenario.user(USER).group(GID);
    let reason = "a part of its path is not a directory, or is a symbolic link that another user \
                  can change: use the path that the link leads to";
    assert_refused(&scenario, LINK_ERRNO, reason);
    assert_eq!(fs::read_dir(&target).unwrap().count(), 0);
    fs::remove_file(home.join("logs")).unwrap();
    scenario.create_directory("home/logs");
    assert_appends(&scenario.start().report(), 2, &home.join("logs/error.log"));
}

fn a_link_in_a_sticky_directory_is_not_followed() {
    let (scenario, _) = with_log("sticky/logs/error.log");
    let (scenario, sticky) = scenario.with_directory("sticky");
    set_mode(&sticky, 0o1777);
    let target = scenario.create_directory("target");
    symlink(&target, sticky.join("logs")).unwrap();
    assert_refused(
        &scenario,
        LINK_ERRNO,
        "is a symbolic link that another user can change",
    );
    assert_eq!(fs::read_dir(&target).unwrap().count(), 0);
}

fn a_link_of_root_is_followed() {
    let (scenario, _) = with_log("link/./logs//error.log");
    let (scenario, _) = scenario.with_directory("target");
    let directory = scenario.create_directory("target/logs");
    symlink("target", scenario.path("link")).unwrap();
    let run = scenario.user(USER).group(GID).start();
    assert_appends(&run.report(), 2, &directory.join("error.log"));
}

fn a_sticky_directory_is_accepted() {
    let (scenario, path) = in_directory(0, 0, 0o1777);
    assert_appends(&scenario.start().report(), 2, &path);
}

fn an_ordinary_user_may_use_a_directory_that_others_can_write() {
    let (scenario, path) = with_log("logs/error.log");
    let (scenario, directory) = scenario.with_directory("logs");
    set_mode(&directory, 0o777);
    let run = scenario.as_ordinary_user().start();
    assert_appends(&run.report(), 2, &path);
}

/// Otherwise the next start would take the file for one that its owner wants.
fn a_log_file_that_cannot_be_given_away_is_removed() {
    let (scenario, path) = with_log("error.log");
    let scenario = scenario.as_ordinary_user().user(0);
    let error = scenario.fail_in_launcher();
    error.assert_kind("ChownLogFile", libc::EPERM);
    let start = format!(
        "cannot change owner of standard error log file {}: {}",
        path.display(),
        errno_text(libc::EPERM)
    );
    assert!(error.text.starts_with(&start), "{error}");
    assert!(!path.exists());
}
