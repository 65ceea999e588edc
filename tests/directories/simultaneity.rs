use std::sync::Mutex;

use tester::prelude::*;
use tester::trace::{Fault, How, Role};

use crate::setup::*;

pub(crate) const CASES: &[Case] = &[
    case!(starts_at_once_all_succeed),
    case!(starts_at_once_put_files_into_the_directory),
    case!(a_file_of_another_start_in_a_new_directory_does_not_fail_the_start, needs Faults),
    case!(starts_at_once_of_another_users_daemons_all_succeed, needs Root),
    case!(a_start_completes_the_directory_of_a_killed_start, needs Root),
    case!(a_start_killed_at_any_call_leaves_a_directory_for_the_next, needs Root, Stepping),
    case!(a_link_that_another_user_plants_repeatedly_is_never_followed, needs Root),
    case!(a_directory_with_files_that_another_user_exchanges_repeatedly_is_never_given_away, needs Root),
];

#[track_caller]
fn assert_all_succeed((scenario, path): (Scenario, PathBuf), owner: (u32, u32)) {
    const ROUNDS: usize = 10;
    const STARTS: usize = 8;
    let scenario = scenario.directories([Directory::at(&path).mode(0o2755)]);
    for _ in 0..ROUNDS {
        let runs: Vec<_> = (0..STARTS).map(|_| scenario.launch()).collect();
        for run in &runs {
            run.launcher().assert().success();
            run.report();
        }
        assert_directory(&path, owner, 0o2755);
        drop(runs);
        fs::remove_dir(&path).unwrap();
    }
}

fn starts_at_once_all_succeed() {
    assert_all_succeed(with_new_directory(), own_ids());
}

/// A start may use the directory before the one that has created it gives it its mode. That start
/// does not change a directory with files.
fn starts_at_once_put_files_into_the_directory() {
    const ROUNDS: usize = 20;
    const STARTS: usize = 8;
    let (scenario, path) = with_new_directory();
    let scenario = scenario.directories([Directory::at(&path).mode(0o755)]);
    let scenario = scenario.stderr(Stream::log(path.join("error.log")));
    for _ in 0..ROUNDS {
        let runs: Vec<_> = (0..STARTS).map(|_| scenario.launch()).collect();
        for run in &runs {
            run.launcher().assert().success();
            run.report();
        }
        let (uid, _, mode) = access(&path);
        assert_eq!(uid, own_ids().0);
        assert!([0o700, 0o755].contains(&mode), "{mode:o}");
        drop(runs);
        fs::remove_dir_all(&path).unwrap();
    }
}

/// The traced start finds no directory, and seems to create the one that the other start uses.
fn a_file_of_another_start_in_a_new_directory_does_not_fail_the_start() {
    let (scenario, path) = with_new_directory();
    create(&path, own_ids(), 0o700);
    let scenario = scenario.directories([Directory::at(&path).mode(0o750)]);
    let scenario = scenario.stderr(Stream::log(path.join("error.log")));
    let _other = scenario.start();
    assert!(path.join("error.log").exists());
    let fault = |call: &str, how| Fault {
        process: Role::Launcher,
        call: format!("{call}(directory)"),
        occurrence: 0,
        how,
        always: false,
    };
    let absent = fault("open", How::Errno(libc::ENOENT));
    let scenario = scenario.faults(&[absent, fault("mkdir", How::FakeSuccess)]);
    let _run = scenario.start();
    assert_directory(&path, own_ids(), 0o700);
}

fn starts_at_once_of_another_users_daemons_all_succeed() {
    assert_all_succeed(of_another_user(), (UID, GID));
}

/// This is also what a start finds while another one creates the directory.
fn a_start_completes_the_directory_of_a_killed_start() {
    for (owner, mode) in [((0, 0), 0o700), ((0, GID), 0o700), ((0, 0), 0)] {
        let (scenario, path) = of_another_user();
        create(&path, owner, mode);
        let _run = scenario.start();
        assert_directory(&path, (UID, GID), 0o755);
    }
}

/// A launcher that was killed after fchown(2) has given a directory away that grants nothing to
/// others. The next start does not change it.
fn a_start_killed_at_any_call_leaves_a_directory_for_the_next() {
    let modes = Mutex::new(Vec::new());
    sweep(4, |call| {
        let (scenario, path) = of_another_user();
        let run = scenario.clone().crash(Role::Launcher, call).launch();
        if run.signal_hit().is_none() {
            return false;
        }
        drop(run);
        let _run = scenario.start();
        let (uid, gid, mode) = access(&path);
        assert_eq!((uid, gid), (UID, GID), "killed at call {call}");
        modes.lock().unwrap().push(mode);
        true
    });
    let modes = modes.into_inner().unwrap();
    assert!(
        modes.iter().all(|mode| [0o700, 0o755].contains(mode)),
        "{modes:?}"
    );
    let narrow = modes.iter().filter(|mode| **mode == 0o700).count();
    assert_eq!(narrow, 1, "only between fchown and fchmod: {modes:?}");
}

/// Starts daemons in a directory of their user, who calls this meanwhile with the path of the
/// directory that the start creates.
#[track_caller]
fn start_during(scenario: &Scenario, exchange: impl Fn(&Path) + Sync) {
    const STARTS: usize = 60;
    let parent = scenario.path("parent");
    create(&parent, (UID, GID), 0o755);
    let path = parent.join("directory");
    let scenario = scenario.clone().user(UID).group(GID);
    let scenario = scenario.directories([Directory::at(&path)]);
    let starts = || {
        for _ in 0..STARTS {
            let run = scenario.launch();
            if !run.launcher().output.status.success() {
                let error = run.launcher_error();
                let kinds = ["CreateDirectory", "UseDirectory"];
                assert!(kinds.contains(&error.kind_name()), "{error}");
            }
        }
    };
    while_repeating(|| exchange(&path), starts);
}

/// A directory of root that the daemon's user would like to have.
fn precious(scenario: &Scenario) -> PathBuf {
    let precious = scenario.path("precious");
    create(&precious, (0, 0), 0o700);
    fs::write(precious.join("file"), "").unwrap();
    precious
}

fn a_link_that_another_user_plants_repeatedly_is_never_followed() {
    let scenario = scenario!();
    let precious = precious(&scenario);
    let before = state(&precious);
    start_during(&scenario, |path| {
        // Each call may come too early or too late.
        let _ = fs::remove_dir(path);
        let _ = symlink(&precious, path);
        let _ = fs::remove_file(path);
        let _ = fs::create_dir(path);
    });
    assert_eq!(state(&precious), before);
}

fn a_directory_with_files_that_another_user_exchanges_repeatedly_is_never_given_away() {
    let scenario = scenario!();
    let precious = precious(&scenario);
    let before = access(&precious);
    start_during(&scenario, |path| {
        // This replaces a new directory, as long as it is empty.
        if fs::rename(&precious, path).is_ok() {
            let found = access(path);
            fs::rename(path, &precious).unwrap();
            assert_eq!(found, before);
        }
    });
    assert_eq!(access(&precious), before);
}
