use tester::prelude::*;

use crate::setup::*;

pub(crate) const CASES: &[Case] = &[
    case!(a_directory_that_grants_no_more_is_used_and_not_changed),
    case!(a_directory_of_another_group_is_used_if_it_grants_no_more, needs Root),
    case!(a_directory_that_grants_more_is_refused),
    case!(a_directory_of_another_group_that_grants_more_is_refused, needs Root),
    case!(a_directory_whose_access_list_grants_more_is_refused, needs Root, Linux),
    case!(a_directory_that_its_owner_cannot_use_is_refused),
    case!(a_directory_of_another_user_is_refused, needs Root),
    case!(a_directory_of_another_user_that_cannot_be_opened_is_refused, needs Root),
    case!(a_directory_with_files_is_not_given_away, needs Root),
    case!(a_directory_that_grants_something_is_not_given_away, needs Root),
    case!(a_symbolic_link_is_not_followed),
    case!(a_dangling_symbolic_link_is_not_followed),
    case!(another_type_of_file_is_refused),
];

/// A start with a directory of this owner and mode, which may have the mode 0750.
fn with_existing(owner: (u32, u32), mode: u32) -> (Scenario, PathBuf) {
    let (scenario, path) = with_new_directory();
    create(&path, owner, mode);
    (
        scenario.directories([Directory::at(&path).mode(0o750)]),
        path,
    )
}

fn a_directory_that_grants_no_more_is_used_and_not_changed() {
    for mode in [0o750, 0o700, 0o710, 0o740] {
        let (scenario, path) = with_existing(own_ids(), mode);
        for _ in 0..2 {
            let before = state(&path);
            let _run = scenario.start();
            assert_eq!(state(&path), before);
        }
    }
}

/// The members of that group get no more than other users may get.
fn a_directory_of_another_group_is_used_if_it_grants_no_more() {
    for (asked, mode) in [(0o750, 0o700), (0o755, 0o755), (0o751, 0o711)] {
        let (scenario, path) = with_existing((0, GID), mode);
        let before = state(&path);
        let scenario = scenario.directories([Directory::at(&path).mode(asked)]);
        let _run = scenario.start();
        assert_eq!(state(&path), before);
    }
}

const GRANTS_MORE: &str = "it grants more than the mode that was asked for: ";

fn a_directory_that_grants_more_is_refused() {
    for mode in [0o751, 0o754, 0o752, 0o770, 0o777, 0o1777] {
        let (uid, gid) = own_ids();
        let (scenario, path) = with_existing((uid, gid), mode);
        let reason = format!(
            "{GRANTS_MORE}uid {uid} and gid {gid}, mode {mode:04o}; the daemon needs uid {uid} and \
             gid {gid}, mode 0750 or less: change it by chown(1) and chmod(1), or remove it"
        );
        assert_left_alone(&scenario, &path, &reason);
    }
}

fn a_directory_of_another_group_that_grants_more_is_refused() {
    for mode in [0o750, 0o710] {
        let (scenario, path) = with_existing((0, GID), mode);
        assert_left_alone(&scenario, &path, GRANTS_MORE);
    }
}

/// The mode shows only what the list grants at most.
fn a_directory_whose_access_list_grants_more_is_refused() {
    let (scenario, path) = with_existing((0, 0), 0o750);
    sys::give_access_to(&path, UID).unwrap();
    set_mode(&path, 0o750);
    let reason = "its access list may grant more than the mode that was asked for: ";
    assert_left_alone(&scenario, &path, reason);
    // The mode now takes away all that the list grants.
    set_mode(&path, 0o700);
    let _run = scenario.start();
}

fn a_directory_that_its_owner_cannot_use_is_refused() {
    for mode in [0o550, 0o600, 0o400] {
        let (scenario, path) = with_existing(own_ids(), mode);
        let before = access(&path);
        let reason = "its owner cannot use it: ";
        assert_refused(&scenario, &path, libc::EPERM, reason);
        assert_eq!(access(&path), before);
    }
    let (scenario, path) = with_existing(own_ids(), 0o300);
    let errno = match sys::effective_user() {
        0 => libc::EPERM,
        _ => libc::EACCES,
    };
    assert_refused(&scenario, &path, errno, "its owner cannot use it: ");
    set_mode(&path, 0o700);
}

const OF_ANOTHER: &str = "it belongs to another user: ";

fn a_directory_of_another_user_is_refused() {
    for mode in [0o755, 0o750, 0o700] {
        let (scenario, path) = with_existing((UID, GID), mode);
        let reason = format!(
            "{OF_ANOTHER}uid {UID} and gid {GID}, mode {mode:04o}; the daemon needs uid 0 and gid \
             0, mode 0750 or less: change it by chown(1) and chmod(1), or remove it"
        );
        assert_left_alone(&scenario, &path, &reason);
        let _run = scenario.user(UID).group(GID).launch();
    }
}

fn a_directory_of_another_user_that_cannot_be_opened_is_refused() {
    let (scenario, path) = with_existing((0, 0), 0o700);
    let scenario = scenario.as_user(UID, GID);
    assert_refused(&scenario, &path, libc::EACCES, OF_ANOTHER);
}

/// Otherwise, the daemon's user could remove and replace the files.
fn a_directory_with_files_is_not_given_away() {
    let (scenario, path) = with_existing((0, 0), 0o700);
    fs::write(path.join("file"), "").unwrap();
    assert_left_alone(&scenario.user(UID).group(GID), &path, OF_ANOTHER);
}

fn a_directory_that_grants_something_is_not_given_away() {
    for mode in [0o701, 0o710, 0o755] {
        let (scenario, path) = with_existing((0, 0), mode);
        assert_left_alone(&scenario.user(UID).group(GID), &path, OF_ANOTHER);
    }
}

fn a_symbolic_link_is_not_followed() {
    let (scenario, path) = with_new_directory();
    let target = scenario.path("target");
    create(&target, own_ids(), 0o700);
    symlink(&target, &path).unwrap();
    let scenario = match sys::effective_user() {
        0 => scenario.user(UID).group(GID),
        _ => scenario,
    };
    let before = state(&target);
    assert_refused(&scenario, &path, libc::ELOOP, IS_LINK);
    assert_eq!(state(&target), before);
    assert_eq!(fs::read_link(&path).unwrap(), target);
}

fn a_dangling_symbolic_link_is_not_followed() {
    let (scenario, path) = with_new_directory();
    let target = scenario.path("target");
    symlink(&target, &path).unwrap();
    assert_refused(&scenario, &path, libc::ELOOP, IS_LINK);
    assert!(!target.exists());
}

fn another_type_of_file_is_refused() {
    let create_fifo = |path: &Path| sys::make_fifo(path).unwrap();
    let create_file = |path: &Path| fs::write(path, "content").unwrap();
    for create in [create_fifo, create_file] {
        let (scenario, path) = with_new_directory();
        create(&path);
        let before = access(&path);
        let reason = "it is not a directory: remove it";
        assert_refused(&scenario, &path, libc::ENOTDIR, reason);
        assert_eq!(access(&path), before);
    }
}
