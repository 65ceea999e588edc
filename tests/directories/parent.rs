use tester::prelude::*;

use crate::setup::*;

pub(crate) const CASES: &[Case] = &[
    case!(a_missing_parent_is_reported),
    case!(a_parent_that_is_no_directory_is_reported),
    case!(a_parent_without_write_permission_is_reported, needs Root),
    case!(a_parent_of_another_user_is_refused, needs Root),
    case!(a_parent_that_others_can_write_is_refused, needs Root),
    case!(a_sticky_parent_is_accepted, needs Root),
    case!(a_parent_of_the_daemons_user_is_accepted, needs Root),
    case!(a_link_in_the_path_of_the_parent_is_followed),
    case!(a_link_that_the_daemons_user_can_change_is_not_followed, needs Root),
    case!(an_ordinary_user_may_use_a_parent_that_others_can_write),
];

/// A start with a directory in another, and both paths.
fn with_parent() -> (Scenario, PathBuf, PathBuf) {
    let scenario = scenario!();
    let parent = scenario.path("parent");
    let path = parent.join("directory");
    (scenario.directories([Directory::at(&path)]), parent, path)
}

fn a_missing_parent_is_reported() {
    let (scenario, parent, path) = with_parent();
    let reason = format!(": its parent directory {} does not exist", parent.display());
    assert_not_created(&scenario, &path, libc::ENOENT, &reason);
    assert!(!parent.exists());
}

fn a_parent_that_is_no_directory_is_reported() {
    let (scenario, parent, path) = with_parent();
    fs::write(parent, "").unwrap();
    let cause = io::Error::from_raw_os_error(libc::ENOTDIR).to_string();
    assert_not_created(&scenario, &path, libc::ENOTDIR, &cause);
}

fn a_parent_without_write_permission_is_reported() {
    let (scenario, parent, path) = with_parent();
    create(&parent, (0, 0), 0o755);
    let reason = format!(
        ": this process runs as uid {UID}; the parent directory {} belongs to uid 0 and gid 0, mode \
         0755",
        parent.display()
    );
    let scenario = scenario.as_user(UID, GID);
    assert_not_created(&scenario, &path, libc::EACCES, &reason);
}

fn a_parent_of_another_user_is_refused() {
    for mode in [0o755, 0o700, 0o1755] {
        let (scenario, parent, path) = with_parent();
        create(&parent, (UID, 0), mode);
        let reason = format!(
            ": its parent directory belongs to another user: {} belongs to uid {UID} and gid 0, \
             mode {mode:04o}; a start as root accepts a directory of root or of `user`",
            parent.display()
        );
        assert_not_created(&scenario, &path, libc::EPERM, &reason);
    }
}

fn a_parent_that_others_can_write_is_refused() {
    for (gid, mode) in [(0, 0o777), (GID, 0o777), (0, 0o757), (GID, 0o775)] {
        let (scenario, parent, path) = with_parent();
        create(&parent, (0, gid), mode);
        let reason = format!(
            ": other users can write to its parent directory: {} belongs to uid 0 and gid {gid}, \
             mode {mode:04o}; remove that permission, or set the sticky bit",
            parent.display()
        );
        assert_not_created(&scenario, &path, libc::EPERM, &reason);
    }
}

fn a_sticky_parent_is_accepted() {
    let (scenario, parent, path) = with_parent();
    create(&parent, (0, GID), 0o1777);
    let _run = scenario.start();
    assert_directory(&path, (0, 0), 0o755);
}

fn a_parent_of_the_daemons_user_is_accepted() {
    let (scenario, parent, path) = with_parent();
    create(&parent, (UID, GID), 0o755);
    let _run = scenario.user(UID).group(GID).start();
    assert_directory(&path, (UID, GID), 0o755);
}

fn a_link_in_the_path_of_the_parent_is_followed() {
    let (scenario, parent, path) = with_parent();
    let target = scenario.create_directory("target");
    symlink(&target, &parent).unwrap();
    let _run = scenario.start();
    assert!(path.is_dir());
}

/// Otherwise that user would choose where root creates a directory for that user.
fn a_link_that_the_daemons_user_can_change_is_not_followed() {
    let scenario = scenario!();
    let home = scenario.path("home");
    create(&home, (UID, GID), 0o755);
    let target = scenario.create_directory("target");
    symlink(&target, home.join("link")).unwrap();
    let path = home.join("link/directory");
    let scenario = scenario.user(UID).group(GID);
    let scenario = scenario.directories([Directory::at(&path)]);
    let reason = "is a symbolic link that another user can change: use the path that the link \
                  leads to";
    assert_not_created(&scenario, &path, LINK_ERRNO, reason);
    assert_eq!(fs::read_dir(&target).unwrap().count(), 0);
}

fn an_ordinary_user_may_use_a_parent_that_others_can_write() {
    let (scenario, parent, path) = with_parent();
    create(&parent, own_ids(), 0o777);
    let _run = scenario.as_ordinary_user().start();
    assert!(path.is_dir());
}
