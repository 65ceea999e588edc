use std::fs::OpenOptions;
use std::io::Write as _;

use tester::prelude::*;
use tester::trace::{Fault, How, Role};

use crate::setup::*;

pub(crate) const CASES: &[Case] = &[
    case!(the_mode_is_644_less_the_umask),
    case!(a_file_that_other_users_can_write_is_replaced),
    case!(a_file_that_cannot_be_replaced_loses_its_write_permission_for_others, needs Root),
    case!(the_other_permissions_of_an_existing_file_are_kept),
    case!(a_file_that_others_can_still_write_is_refused, needs Root),
    case!(the_mode_is_exact_whatever_the_umask_is),
    case!(an_existing_file_gets_the_mode),
    case!(a_new_file_never_has_more_permissions_than_its_mode, needs Faults),
    case!(an_unusable_mode_is_refused_before_any_fork),
    case!(a_mode_without_a_pid_file_has_no_effect),
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

fn the_mode_is_exact_whatever_the_umask_is() {
    for mode in [0o644, 0o600, 0o640, 0o444, 0o400, 0o711] {
        for umask in [0o000, 0o027, 0o777] {
            for foreground in [Foreground::No, Foreground::Yes] {
                let (scenario, path) = with_pid_file();
                let scenario = scenario.umask(umask).pid_file_mode(mode);
                let run = scenario.foreground(foreground).launch();
                let report = run.report();
                assert_eq!(report.umask, Some(umask));
                assert_eq!(pid_file_at(&path).mode, mode);
                run.assert_pid_file_held();
            }
        }
    }
}

fn an_existing_file_gets_the_mode() {
    for (before, mode) in [
        (0o600, 0o644),
        (0o644, 0o600),
        (0o666, 0o640),
        (0o604, 0o604),
    ] {
        let (scenario, path) = with_pid_file();
        fs::write(&path, "4242\n").unwrap();
        set_mode(&path, before);
        let scenario = scenario.umask(0o077_u32).pid_file_mode(mode);
        // The second start takes over the file of the first.
        for _ in 0..2 {
            let run = scenario.start();
            assert_eq!(run.pid_file().unwrap().mode, mode);
            run.assert_pid_file_held();
            run.kill_daemon();
        }
    }
}

/// The intermediate is killed right before it sets the mode.
fn a_new_file_never_has_more_permissions_than_its_mode() {
    let (scenario, path) = with_pid_file();
    let killed = Fault {
        process: Role::Intermediate,
        call: "fchmod(daemon.pid)".to_owned(),
        occurrence: 0,
        how: How::Signal(libc::SIGKILL),
        always: false,
    };
    let scenario = scenario.umask(0o040_u32).pid_file_mode(0o640_u32);
    let run = scenario.faults(&[killed]).launch();
    let error = run.launcher_error();
    assert_eq!(error.kind, "IntermediateExited");
    assert_eq!(pid_file_at(&path).mode, 0o600);
}

fn an_unusable_mode_is_refused_before_any_fork() {
    let others = "lets other users write to it; remove the write permission of group and others";
    for (mode, why) in [
        (0o664, others),
        (0o646, others),
        (0o777, others),
        (0o244, "does not let its owner read it"),
        (0o000, "does not let its owner read it"),
        (0o4644, "has other bits than those of permissions"),
        (0o10_0644, "has other bits than those of permissions"),
        (u32::MAX, "has other bits than those of permissions"),
    ] {
        let (scenario, path) = with_pid_file();
        let error = scenario.clone().pid_file_mode(mode).fail();
        error.assert_kind("ChmodPidfile", libc::EINVAL);
        assert_eq!(error.path, Some("daemon.pid".into()));
        let text = format!("cannot change mode of pid file daemon.pid: mode {mode:04o} {why}");
        assert_eq!(error.text, text);
        assert!(!path.exists());
        // No process opens the pid file, whose directory does not exist.
        let scenario = scenario.pid_file("missing/daemon.pid").pid_file_mode(mode);
        scenario.fail().assert_kind("ChmodPidfile", libc::EINVAL);
    }
}

fn a_mode_without_a_pid_file_has_no_effect() {
    scenario!().pid_file_mode(0o666_u32).start();
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
