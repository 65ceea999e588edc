use tester::prelude::*;

use crate::setup::*;

pub(crate) const CASES: &[Case] = &[
    case!(the_user_alone_can_be_changed, needs Root),
    case!(the_group_alone_can_be_changed, needs Root),
    case!(the_user_and_the_group_can_be_changed, needs Root),
    case!(the_owner_can_be_set_by_name, needs Root),
    case!(the_file_can_be_given_to_the_daemon, needs Root),
    case!(a_named_owner_takes_precedence_over_the_daemon, needs Root),
    case!(a_daemon_that_keeps_its_identity_is_given_nothing),
    case!(a_stale_file_of_the_daemon_is_accepted, needs Root),
    case!(an_ordinary_user_may_name_itself_as_owner),
    case!(an_ordinary_user_cannot_give_the_file_away),
    case!(the_error_says_what_giving_the_file_away_takes),
    case!(a_stale_file_of_another_user_is_replaced, needs Root),
    case!(a_read_only_file_is_replaced_if_it_can_be_removed, needs Root),
    case!(a_locked_file_of_another_user_is_left_alone, needs Root),
    case!(a_file_of_another_user_in_a_sticky_directory_is_refused, needs Root),
    case!(a_file_of_the_chown_user_is_accepted, needs Root),
    case!(a_file_of_the_chown_user_is_accepted_in_a_sticky_directory, needs Root),
];

fn the_user_alone_can_be_changed() {
    let (scenario, path) = with_pid_file();
    let scenario = scenario.chown_pid_file_user(UID);
    let run = scenario.start();
    let pid_file = run.launcher().pid_file.unwrap();
    assert_eq!((pid_file.uid, pid_file.gid), (UID, 0));
    run.exit(0);
    chown(&path, None, Some(GID)).unwrap();
    scenario.start();
    assert_eq!((pid_file_at(&path).uid, pid_file_at(&path).gid), (UID, GID));
}

fn the_group_alone_can_be_changed() {
    let (scenario, path) = with_pid_file();
    let run = scenario.chown_pid_file_group(GID).start();
    let pid_file = run.launcher().pid_file.unwrap();
    assert_eq!((pid_file.uid, pid_file.gid), (0, GID));
    assert_eq!(pid_file_at(&path).mode, 0o640);
}

fn the_user_and_the_group_can_be_changed() {
    let (scenario, _) = with_pid_file();
    let scenario = scenario.chown_pid_file_user(UID).chown_pid_file_group(GID);
    for _ in 0..2 {
        let run = scenario.start();
        let pid_file = run.launcher().pid_file.unwrap();
        assert_eq!((pid_file.uid, pid_file.gid), (UID, GID));
        run.exit(0);
    }
}

fn the_owner_can_be_set_by_name() {
    let (scenario, path) = with_pid_file();
    let output = Command::new("id").args(["-u", "nobody"]).output().unwrap();
    let uid = String::from_utf8(output.stdout).unwrap();
    let run = scenario
        .chown_pid_file_user("nobody")
        .chown_pid_file_group("daemon")
        .user(UID)
        .group(GID)
        .start();
    assert_eq!(pid_file_at(&path).uid, uid.trim().parse::<u32>().unwrap());
    assert_ne!(pid_file_at(&path).gid, 0);
    run.assert_pid_file_held();
}

fn the_file_can_be_given_to_the_daemon() {
    let number_of = |option: &str, name: &str| -> u32 {
        let output = Command::new("id").args([option, name]).output().unwrap();
        String::from_utf8(output.stdout)
            .unwrap()
            .trim()
            .parse()
            .unwrap()
    };
    let nobody = (number_of("-u", "nobody"), number_of("-g", "nobody"));
    let daemon = || daemon!().chown_pid_file();
    for (scenario, owner) in [
        (daemon().user(UID).group(GID), (UID, GID)),
        // The group is the primary group of the user.
        (daemon().user("nobody"), nobody),
        (daemon().group(GID), (0, GID)),
        (
            daemon().user(UID).group(GID).foreground(Foreground::Yes),
            (UID, GID),
        ),
    ] {
        let run = scenario.launch();
        run.report();
        let pid_file = run.pid_file().unwrap();
        assert_eq!((pid_file.uid, pid_file.gid), owner);
        run.assert_pid_file_held();
        // Root trusts the file, since the daemon is a process of its owner.
        if owner.0 != 0 {
            assert!(scenario.control().stop(time_limit()).unwrap());
            run.wait_until_all_ended();
        }
    }
}

fn a_named_owner_takes_precedence_over_the_daemon() {
    let scenario = || daemon!().user(UID).group(GID).chown_pid_file();
    for (scenario, owner) in [
        (scenario().chown_pid_file_user(0), (0, GID)),
        (scenario().chown_pid_file_group(0), (UID, 0)),
    ] {
        let pid_file = scenario.start().pid_file().unwrap();
        assert_eq!((pid_file.uid, pid_file.gid), owner);
    }
}

fn a_daemon_that_keeps_its_identity_is_given_nothing() {
    let (scenario, path) = with_pid_file();
    let owner = |path: &Path| (pid_file_at(path).uid, pid_file_at(path).gid);
    scenario.start().kill_daemon();
    let before = owner(&path);
    let run = scenario.chown_pid_file().start();
    assert_eq!(owner(&path), before);
    run.assert_pid_file_held();
}

fn a_stale_file_of_the_daemon_is_accepted() {
    let (scenario, path) = with_pid_file();
    let scenario = scenario.user(UID).group(GID).chown_pid_file();
    scenario.start().kill_daemon();
    let inode = fs::metadata(&path).unwrap().ino();
    scenario.start().assert_pid_file_held();
    assert_eq!(fs::metadata(&path).unwrap().ino(), inode);
}

fn an_ordinary_user_may_name_itself_as_owner() {
    let (scenario, path, uid) = with_pid_file_as_ordinary();
    let run = scenario.chown_pid_file_user(uid).start();
    assert_eq!(pid_file_at(&path).uid, uid);
    run.assert_pid_file_held();
}

fn an_ordinary_user_cannot_give_the_file_away() {
    let (scenario, ..) = with_pid_file_as_ordinary();
    let error = scenario.chown_pid_file_user(0).fail();
    error.assert_kind("ChownPidfile", libc::EPERM);
    assert_eq!(error.path, Some("daemon.pid".into()));
    let reason = errno_text(libc::EPERM);
    let start = format!("cannot change owner of pid file daemon.pid: {reason}");
    assert!(error.text.starts_with(&start), "{error}");
}

fn the_error_says_what_giving_the_file_away_takes() {
    let path = "daemon.pid";
    let scenario = daemon!().as_ordinary_user().chown_pid_file_user(0_u32);
    let text = "cannot change owner of pid file daemon.pid";
    let takes = ("changing the owner of a file", "CAP_CHOWN");
    let expected = StartError::refused(&scenario, "ChownPidfile", Some(path), text, takes);
    scenario.assert_fails(&expected);
}

/// An administrator may have changed the user of the service.
fn a_stale_file_of_another_user_is_replaced() {
    for daemons_user in [0, UID, UID + 1] {
        let (scenario, path) = with_pid_file();
        fs::write(&path, "4242\n").unwrap();
        give_to(&path, UID);
        let left_over = File::open(&path).unwrap();
        let run = scenario.user(daemons_user).group(GID).start();
        run.assert_pid_file_held();
        assert_eq!(pid_file_at(&path).uid, 0);
        assert_eq!(left_over.metadata().unwrap().nlink(), 0);
    }
}

fn a_read_only_file_is_replaced_if_it_can_be_removed() {
    for (owner, mode) in [(UID, 0o444), (UID + 1, 0o644), (UID + 1, 0o666)] {
        let (scenario, path, _) = with_pid_file_as_ordinary();
        give_to(scenario.directory(), UID);
        fs::write(&path, "4242\n").unwrap();
        set_mode(&path, mode);
        give_to(&path, owner);
        scenario.start().assert_pid_file_held();
        assert_eq!(pid_file_at(&path).uid, UID);
    }
}

fn a_locked_file_of_another_user_is_left_alone() {
    let (scenario, path) = with_pid_file();
    let file = File::create(&path).unwrap();
    give_to(&path, UID);
    sys::flock(file.as_fd(), libc::LOCK_EX).unwrap();
    let before = file_state(&path);
    let error = scenario.launch().launcher_error();
    error.assert_kind("LockPidfile", libc::EWOULDBLOCK);
    assert_eq!(file_state(&path), before);
}

fn a_file_of_another_user_in_a_sticky_directory_is_refused() {
    let (ordinary, _, _) = with_pid_file_as_ordinary();
    // Root may remove the file, but the other user may put another file there meanwhile.
    for scenario in [ordinary, scenario!()] {
        let (scenario, directory) = scenario.with_directory("sticky");
        set_mode(&directory, 0o1777);
        give_to(&directory, 0);
        let path = directory.join("daemon.pid");
        let scenario = scenario.pid_file(&path);
        fs::write(&path, "precious").unwrap();
        set_mode(&path, 0o666);
        give_to(&path, UID + 1);
        let before = file_state(&path);
        assert_refused(&scenario, libc::EPERM, ": it belongs to another user");
        assert_eq!(file_state(&path), before);
    }
}

fn a_file_of_the_chown_user_is_accepted() {
    let (scenario, path) = with_pid_file();
    fs::write(&path, "stale").unwrap();
    chown(&path, Some(UID), Some(GID)).unwrap();
    let run = scenario.chown_pid_file_user(UID).start();
    run.assert_pid_file_held();
    assert_eq!((pid_file_at(&path).uid, pid_file_at(&path).gid), (UID, GID));
}

/// The kernel may keep even root from opening this file with O_CREAT.
fn a_file_of_the_chown_user_is_accepted_in_a_sticky_directory() {
    let scenario = scenario!().pid_file("directory/daemon.pid");
    let (scenario, directory) = scenario.with_directory("directory");
    set_mode(&directory, 0o1777);
    let path = directory.join("daemon.pid");
    fs::write(&path, "stale").unwrap();
    chown(&path, Some(UID), Some(GID)).unwrap();
    let run = scenario.chown_pid_file_user(UID).start();
    run.assert_pid_file_held();
}
