use std::fs::OpenOptions;
use std::io::Write as _;

use tester::prelude::*;

use crate::setup::*;

pub(crate) const CASES: &[Case] = &[
    case!(the_mode_is_644_less_the_umask),
    case!(a_file_that_other_users_can_write_is_replaced),
    case!(a_file_that_cannot_be_replaced_loses_its_write_permission_for_others, needs Root),
    case!(the_other_permissions_of_an_existing_file_are_kept),
    case!(a_file_that_others_can_still_write_is_refused, needs Root),
    case!(a_daemon_without_privileges_cannot_write_its_pid_file, needs Root, Linux),
];

fn the_mode_is_644_less_the_umask() {
    for umask in [0o000, 0o002, 0o022, 0o027, 0o077] {
        let (scenario, _) = with_pid_file();
        let scenario = scenario.from_state(|state| state.umask = Some(0o007));
        let run = scenario.umask(umask).start();
        assert_eq!(run.pid_file().unwrap().mode, 0o644 & !umask);
    }
}

/// A process that has opened the file before can still write to it.
fn a_file_that_other_users_can_write_is_replaced() {
    for mode in [0o666, 0o660, 0o606, 0o777] {
        let (scenario, path) = with_pid_file();
        fs::write(&path, "").unwrap();
        set_mode(&path, mode);
        let mut opened = OpenOptions::new().write(true).open(&path).unwrap();
        let run = scenario.umask(0_u32).start();
        opened.write_all(b"4242").unwrap();
        assert_eq!(run.pid_file().unwrap().mode, 0o644);
        run.assert_pid_file_held();
    }
}

/// Only root may remove a file from this directory.
fn a_file_that_cannot_be_replaced_loses_its_write_permission_for_others() {
    for mode in [0o666, 0o660, 0o606, 0o777] {
        let scenario = scenario!().as_user(UID, GID).pid_file("run/daemon.pid");
        let path = scenario.create_directory("run").join("daemon.pid");
        fs::write(&path, "").unwrap();
        give_to(&path, UID);
        set_mode(&path, mode);
        let inode = fs::metadata(&path).unwrap().ino();
        let run = scenario.umask(0_u32).start();
        assert_eq!(run.pid_file().unwrap().mode, mode & !0o022);
        assert_eq!(fs::metadata(&path).unwrap().ino(), inode);
        run.assert_pid_file_held();
    }
}

fn the_other_permissions_of_an_existing_file_are_kept() {
    let (scenario, path) = with_pid_file();
    fs::write(&path, "").unwrap();
    set_mode(&path, 0o604);
    let run = scenario.umask(0o077_u32).start();
    assert_eq!(run.pid_file().unwrap().mode, 0o604);
}

fn a_file_that_others_can_still_write_is_refused() {
    // The file belongs to root, so that an ordinary user cannot change its mode.
    let (scenario, path, _) = with_pid_file_as_ordinary();
    fs::write(&path, "precious").unwrap();
    set_mode(&path, 0o666);
    let before = file_state(&path);
    let reason = ": other users can write to it, and the start cannot remove that permission";
    assert_refused(&scenario, libc::EPERM, reason);
    assert_eq!(file_state(&path), before);
}

fn a_daemon_without_privileges_cannot_write_its_pid_file() {
    let scenario = daemon!().user(UID).group(GID);
    for scenario in [scenario.clone(), scenario.entry(Entry::Execute)] {
        let run = scenario.start();
        let before = run.pid_file().unwrap();
        let written = run.answer(&control::Command::OverwriteFiles("1\n".into()));
        assert!(written.is_empty(), "{written:?}");
        assert_eq!(run.pid_file(), Some(before));
    }
}
