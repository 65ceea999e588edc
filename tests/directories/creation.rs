use tester::config::NewFile;
use tester::prelude::*;

use crate::setup::*;

pub(crate) const CASES: &[Case] = &[
    case!(a_directory_belongs_to_the_daemon, needs Root),
    case!(the_group_alone_may_change, needs Root),
    case!(without_another_user_a_directory_belongs_to_the_caller),
    case!(the_default_mode_is_755_for_root_and_700_for_others),
    case!(the_mode_is_as_configured),
    case!(the_umask_has_no_influence),
    case!(the_umask_of_an_ordinary_user_has_no_influence, needs Root),
    case!(a_mode_without_all_permissions_of_the_owner_is_refused),
    case!(directories_are_created_in_order),
    case!(the_daemon_can_create_files_in_its_directory, needs Root),
    case!(the_pid_file_may_be_in_a_new_directory),
    case!(root_stops_a_daemon_by_a_pid_file_in_its_directory, needs Root),
    case!(a_directory_is_outside_the_new_root, needs Root),
    case!(the_foreground_creates_directories),
    case!(a_directory_stays_after_a_failed_start),
    case!(a_refused_process_creates_no_directory),
    case!(an_ordinary_user_cannot_give_a_directory_away, needs Root),
];

fn a_directory_belongs_to_the_daemon() {
    let (scenario, path) = of_another_user();
    for scenario in [scenario.clone().foreground(Foreground::Yes), scenario] {
        let _run = scenario.launch().report();
        assert_directory(&path, (UID, GID), 0o755);
        fs::remove_dir(&path).unwrap();
    }
}

fn the_group_alone_may_change() {
    let (scenario, path) = with_new_directory();
    let _run = scenario.group(GID).start();
    assert_directory(&path, (0, GID), 0o755);
}

fn without_another_user_a_directory_belongs_to_the_caller() {
    let (scenario, path) = with_new_directory();
    let run = scenario.start();
    let (uid, gid, _) = access(&path);
    assert_eq!((uid, gid), own_ids());
    // A second start uses it.
    let before = state(&path);
    drop(run);
    let _run = scenario.start();
    assert_eq!(state(&path), before);
}

fn the_default_mode_is_755_for_root_and_700_for_others() {
    let (scenario, path) = with_new_directory();
    if sys::effective_user() == 0 {
        let _run = scenario.start();
        assert_directory(&path, own_ids(), 0o755);
        fs::remove_dir(&path).unwrap();
    }
    let _run = scenario.as_ordinary_user().start();
    let (_, _, mode) = access(&path);
    assert_eq!(mode, 0o700);
}

fn the_mode_is_as_configured() {
    for mode in [0o700, 0o711, 0o750, 0o755, 0o777, 0o1777, 0o2770] {
        let (scenario, path) = with_new_directory();
        let scenario = scenario.directories([Directory::at(&path).mode(mode)]);
        let _run = scenario.start();
        assert_directory(&path, own_ids(), mode);
    }
}

#[track_caller]
fn assert_umask_has_no_influence(new: impl Fn() -> (Scenario, PathBuf)) {
    for umask in [0, 0o022, 0o077, 0o277, 0o777] {
        for mode in [0o700, 0o757] {
            let (scenario, path) = new();
            let scenario = scenario
                .directories([Directory::at(&path).mode(mode)])
                .umask(umask)
                .from_state(|state| state.umask = Some(umask));
            let run = scenario.start();
            let (_, _, found) = access(&path);
            assert_eq!(found, mode, "{found:04o} with umask {umask:04o}");
            assert_eq!(run.observe().umask, Some(umask));
        }
    }
}

fn the_umask_has_no_influence() {
    assert_umask_has_no_influence(with_new_directory);
}

fn the_umask_of_an_ordinary_user_has_no_influence() {
    assert_umask_has_no_influence(|| {
        let (scenario, path) = with_new_directory();
        (scenario.as_user(UID, GID), path)
    });
}

/// 0o1363 is 755 in decimal.
fn a_mode_without_all_permissions_of_the_owner_is_refused() {
    for mode in [0, 0o077, 0o500, 0o1363, 0o10755] {
        let (scenario, path) = with_new_directory();
        let scenario = scenario.directories([Directory::at(&path).mode(mode)]);
        let reason = format!("0o{mode:o} ");
        assert_not_created(&scenario, &path, libc::EINVAL, &reason);
    }
}

fn directories_are_created_in_order() {
    let (scenario, path) = with_new_directory();
    let inside = path.join("inside");
    let [outer, inner] = [
        Directory::at(&path),
        Directory::at(inside.as_path()).mode(0o700),
    ];
    let reversed = scenario.clone().directories([inner.clone(), outer.clone()]);
    let reason = format!(": its parent directory {} does not exist", path.display());
    assert_not_created(&reversed, &inside, libc::ENOENT, &reason);
    assert!(!path.exists());
    let _run = scenario.directories([outer, inner]).start();
    assert_directory(&inside, own_ids(), 0o700);
}

fn the_daemon_can_create_files_in_its_directory() {
    let (scenario, path) = of_another_user();
    let file = path.join("file");
    let step = Step::WriteFile(NewFile::new(file.as_path(), "content"));
    let _run = scenario.initialize([step]).start();
    assert_eq!(fs::read(&file).unwrap(), b"content");
    assert_eq!(fs::metadata(&file).unwrap().uid(), UID);
}

fn the_pid_file_may_be_in_a_new_directory() {
    let (scenario, path) = with_new_directory();
    for foreground in [Foreground::No, Foreground::Yes] {
        let scenario = scenario.clone().pid_file(path.join("daemon.pid"));
        let run = scenario.foreground(foreground).launch();
        run.report();
        run.assert_pid_file_held();
        drop(run);
        fs::remove_dir_all(&path).unwrap();
    }
}

/// Root refuses to signal by a file in the directory of another user, unless the daemon is a
/// process of that user.
fn root_stops_a_daemon_by_a_pid_file_in_its_directory() {
    let (scenario, path) = of_another_user();
    let scenario = scenario.pid_file(path.join("daemon.pid"));
    for _ in 0..2 {
        let run = scenario.start();
        run.assert_pid_file_held();
        assert!(scenario.control().stop(time_limit()).unwrap());
        run.wait_until_all_ended();
    }
}

fn a_directory_is_outside_the_new_root() {
    let (scenario, path) = of_another_user();
    let (scenario, jail) = scenario.with_directory("jail");
    let _run = scenario.chroot(&jail).start();
    assert_directory(&path, (UID, GID), 0o755);
}

fn the_foreground_creates_directories() {
    let (scenario, path) = with_new_directory();
    let (_run, _) = scenario.foreground(Foreground::Yes).serve();
    let (uid, gid, _) = access(&path);
    assert_eq!((uid, gid), own_ids());
}

fn a_directory_stays_after_a_failed_start() {
    let (scenario, path) = with_new_directory();
    let failing = scenario.clone().initialize(ErrorText::from("no luck"));
    assert_eq!(failing.fail().kind, "Initialize");
    let before = state(&path);
    assert!(before.entries.is_empty());
    let _run = scenario.start();
    assert_eq!(state(&path), before);
}

/// The checks of the process come first.
fn a_refused_process_creates_no_directory() {
    for entry in CHECKED {
        let (scenario, path) = with_new_directory();
        let scenario = scenario.entry(entry);
        let scenario = scenario.from_state(|state| state.extra_threads = 1);
        assert_eq!(scenario.fail().kind, "MultiThreaded");
        assert!(!path.exists());
    }
}

/// The directory then grants nothing to others, and the next start can use it.
fn an_ordinary_user_cannot_give_a_directory_away() {
    let (scenario, path) = with_new_directory();
    let scenario = scenario.as_user(UID, GID);
    let error = scenario.clone().user(0_u32).group(0_u32).fail();
    let expected = StartError::refused(
        &scenario,
        "CreateDirectory",
        Some(path.to_str().unwrap()),
        &format!("cannot create directory {}", path.display()),
        ("changing the owner of a directory", "CAP_CHOWN"),
    );
    assert_eq!(error, expected);
    assert_directory(&path, (UID, GID), 0o700);
    let _run = scenario.start();
}
