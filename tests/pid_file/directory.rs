use tester::prelude::*;

use crate::setup::*;

pub(crate) const CASES: &[Case] = &[
    case!(a_directory_of_another_user_is_refused, needs Root),
    case!(a_directory_that_others_can_write_is_refused, needs Root),
    case!(a_directory_whose_access_list_lets_others_write_is_refused, needs Root, Linux),
    case!(a_directory_whose_access_list_lets_others_read_is_accepted, needs Root, Linux),
    case!(a_directory_that_only_root_can_write_is_accepted, needs Root),
    case!(a_sticky_directory_is_accepted, needs Root),
    case!(a_directory_of_the_daemons_user_is_accepted, needs Root),
    case!(a_directory_of_the_chown_user_is_accepted, needs Root),
    case!(a_link_that_the_daemons_user_can_change_is_not_followed, needs Root),
    case!(a_link_of_root_is_followed, needs Root),
    case!(an_ordinary_user_may_use_a_directory_that_others_can_write),
    case!(a_directory_of_an_unmapped_user_is_accepted_if_sticky, needs Root, Linux, UserNamespaces),
];

/// A start by root with the pid file in a directory with this owner and mode.
fn in_directory(uid: u32, gid: u32, mode: u32) -> Scenario {
    let scenario = scenario!().pid_file("directory/daemon.pid");
    let (scenario, directory) = scenario.with_directory("directory");
    chown(&directory, Some(uid), Some(gid)).unwrap();
    set_mode(&directory, mode);
    scenario
}

#[track_caller]
fn assert_directory_refused(scenario: &Scenario, reason: &str) {
    assert_refused(scenario, libc::EPERM, reason);
    assert!(!scenario.path("directory/daemon.pid").exists());
}

fn a_directory_of_another_user_is_refused() {
    for mode in [0o755, 0o700, 0o1755] {
        let scenario = in_directory(UID, 0, mode);
        let directory = scenario.path("directory");
        let reason = format!(
            ": its directory belongs to another user: {} belongs to uid {UID} and gid 0, mode \
             {mode:04o}; a start as root accepts a directory of root, of `user` or of \
             `chown_pid_file_user`",
            directory.display()
        );
        assert_directory_refused(&scenario, &reason);
    }
}

fn a_directory_that_others_can_write_is_refused() {
    let reason = ": other users can write to its directory";
    for (gid, mode) in [(0, 0o777), (GID, 0o777), (0, 0o757), (GID, 0o775)] {
        assert_directory_refused(&in_directory(0, gid, mode), reason);
    }
}

/// The mode shows only that root's group may write.
fn a_directory_whose_access_list_lets_others_write_is_refused() {
    let scenario = in_directory(0, 0, 0o755);
    sys::give_access_to(scenario.pid_file_path().unwrap().parent().unwrap(), UID).unwrap();
    assert_directory_refused(&scenario, ": other users can write to its directory");
}

fn a_directory_whose_access_list_lets_others_read_is_accepted() {
    let scenario = in_directory(0, 0, 0o755);
    let path = scenario.pid_file_path().unwrap();
    let directory = path.parent().unwrap();
    sys::give_access_to(directory, UID).unwrap();
    // The mode limits the access list.
    set_mode(directory, 0o755);
    scenario.start().assert_pid_file_held();
}

fn a_directory_that_only_root_can_write_is_accepted() {
    for (gid, mode) in [(0, 0o755), (0, 0o700), (0, 0o775), (GID, 0o755)] {
        in_directory(0, gid, mode).start().assert_pid_file_held();
    }
}

fn a_sticky_directory_is_accepted() {
    for (gid, mode) in [(0, 0o1777), (GID, 0o1775)] {
        in_directory(0, gid, mode).start().assert_pid_file_held();
    }
}

#[track_caller]
fn assert_starts_twice(scenario: &Scenario) {
    for _ in 0..2 {
        let run = scenario.start();
        run.assert_pid_file_held();
        run.exit(0);
    }
}

fn a_directory_of_the_daemons_user_is_accepted() {
    assert_starts_twice(&in_directory(UID, GID, 0o755).user(UID).group(GID));
}

fn a_directory_of_the_chown_user_is_accepted() {
    assert_starts_twice(&in_directory(UID, GID, 0o755).chown_pid_file_user(UID));
}

/// Otherwise that user would choose where root creates the pid file.
fn a_link_that_the_daemons_user_can_change_is_not_followed() {
    let scenario = scenario!().pid_file("home/link/daemon.pid");
    let (scenario, home) = scenario.with_directory("home");
    let target = scenario.create_directory("target");
    symlink(&target, home.join("link")).unwrap();
    chown(&home, Some(UID), Some(GID)).unwrap();
    let scenario = scenario.user(UID).group(GID);
    let reason = ": a part of its path is not a directory, or is a symbolic link that another user \
                  can change: use the path that the link leads to";
    assert_refused(&scenario, LINK_ERRNO, reason);
    assert_eq!(fs::read_dir(&target).unwrap().count(), 0);
}

fn a_link_of_root_is_followed() {
    let scenario = scenario!().pid_file("link/./run//daemon.pid");
    let (scenario, target) = scenario.with_directory("target");
    scenario.create_directory("target/run");
    symlink("target", scenario.path("link")).unwrap();
    let _run = scenario.user(UID).group(GID).start();
    assert!(target.join("run/daemon.pid").exists());
}

fn an_ordinary_user_may_use_a_directory_that_others_can_write() {
    let (scenario, ..) = with_pid_file_as_ordinary();
    set_mode(scenario.directory(), 0o777);
    scenario.start().assert_pid_file_held();
}

/// In the user namespace of an ordinary user, root, who owns /tmp and /run, has no
/// number.
fn a_directory_of_an_unmapped_user_is_accepted_if_sticky() {
    let (scenario, directory) = scenario!().with_directory("shared");
    let scenario = scenario.from_state(|state| {
        state.ids = Some(Ids::user(7001, 7001));
        state.user_namespace = Some(UserNamespace {
            users: vec![[0, 7001, 1]],
            groups: vec![[0, 7001, 1]],
            denies_setgroups: true,
        });
    });
    set_mode(&directory, 0o1777);
    let path = directory.join("daemon.pid");
    let checked = scenario.clone().entry(Entry::StartChecked);
    let run = checked.pid_file(&path).start();
    assert_eq!(fs::read(&path).unwrap(), content(run.report().pid));
    // A user who may write to the directory may replace the file.
    set_mode(&directory, 0o777);
    let scenario = scenario.pid_file(directory.join("other.pid"));
    let error = scenario.launch().launcher_error();
    error.assert_kind("OpenPidfile", libc::EPERM);
}
