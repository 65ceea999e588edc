//! A pid file tells who the daemon is, for exactly as long as there is one,
//! and nobody is harmed by what others have put in its place.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::Write as _;
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tester::config::{Entry, ErrorText, Fallible, Foreground, Life, Step};
use tester::control::Message;
use tester::harness::{PidFile, Until};
use tester::report::StartError;
use tester::{Run, Scenario, case, scenario, suite, sys};

fn main() -> ExitCode {
    suite(&[
        case!(it_contains_the_pid_and_a_line_feed),
        case!(its_mode_is_644_less_the_umask),
        case!(a_file_that_others_can_write_to_is_replaced),
        case!(where_it_cannot_be_replaced_others_lose_the_permission, needs Root),
        case!(other_permissions_of_an_existing_file_stay),
        case!(a_relative_path_starts_at_the_working_directory),
        case!(it_is_close_on_exec_and_no_standard_stream),
        case!(a_second_start_names_the_running_daemon),
        case!(a_second_start_touches_nothing),
        case!(a_second_start_fails_on_both_sides),
        case!(a_second_start_is_told_of_a_first_one_under_way),
        case!(the_pid_is_written_when_the_daemon_is_ready_and_not_before),
        case!(a_number_in_the_file_proves_nothing),
        case!(a_daemon_that_has_ended_is_in_nobodys_way),
        case!(a_stale_file_is_taken_over),
        case!(a_longer_content_leaves_no_remains),
        case!(the_daemon_alone_holds_the_lock, needs Linux),
        case!(the_lock_goes_with_the_daemon),
        case!(a_worker_shares_the_lock),
        case!(a_worker_is_not_taken_for_the_daemon),
        case!(a_failed_start_unlocks_whatever_a_worker_holds),
        case!(its_user_alone_can_be_changed, needs Root),
        case!(its_group_alone_can_be_changed, needs Root),
        case!(its_user_and_group_can_be_changed, needs Root),
        case!(its_owner_can_be_given_by_name, needs Root),
        case!(its_owner_may_stay_an_ordinary_user),
        case!(an_ordinary_user_cannot_give_it_away),
        case!(a_link_is_not_followed),
        case!(a_dangling_link_is_not_followed),
        case!(a_fifo_is_refused),
        case!(a_device_is_refused),
        case!(a_directory_is_refused),
        case!(a_socket_is_refused),
        case!(a_file_with_another_name_is_refused),
        case!(another_users_left_over_file_is_replaced, needs Root),
        case!(a_file_that_may_not_be_written_to_is_replaced_where_it_may_be_removed, needs Root),
        case!(another_users_locked_file_is_left_alone, needs Root),
        case!(another_users_file_that_may_not_be_removed_is_refused, needs Root),
        case!(a_file_that_others_can_go_on_writing_to_is_refused, needs Root),
        case!(its_new_owners_file_is_accepted, needs Root),
        case!(its_new_owners_file_is_accepted_in_a_sticky_folder, needs Root),
        case!(another_users_folder_is_refused, needs Root),
        case!(a_folder_that_others_can_write_to_is_refused, needs Root),
        case!(a_folder_whose_access_list_lets_others_write_is_refused, needs Root, Linux),
        case!(a_folder_whose_access_list_lets_others_read_is_accepted, needs Root, Linux),
        case!(a_folder_that_only_root_can_write_to_is_accepted, needs Root),
        case!(a_sticky_folder_is_accepted, needs Root),
        case!(the_daemons_users_folder_is_accepted, needs Root),
        case!(the_new_owners_folder_is_accepted, needs Root),
        case!(an_ordinary_user_looks_after_its_folders_itself),
        case!(a_missing_folder_is_told),
        case!(a_missing_folder_is_named_with_what_the_path_is_relative_to),
        case!(a_folder_that_is_none_is_told),
        case!(a_nul_in_its_path_is_refused),
        case!(a_prober_never_fails_a_start),
        case!(a_prober_that_stays_is_waited_for_a_second),
        case!(a_start_that_has_failed_does_not_clear_the_next_ones_file),
        case!(a_failing_first_step_makes_no_file),
        case!(too_few_descriptors_leave_no_content_and_no_lock),
        case!(a_failing_change_of_owner_leaves_an_empty_file),
        case!(a_failing_action_leaves_an_empty_file),
        case!(a_failing_initialization_leaves_an_empty_file),
        case!(a_failing_chroot_leaves_an_empty_file),
        case!(a_failing_change_of_identity_leaves_an_empty_file),
        case!(a_failed_daemon_that_lives_on_has_let_go),
        case!(of_many_starts_at_once_one_succeeds),
        case!(a_file_that_is_removed_meanwhile_guards_nothing),
    ])
}

/// Ids that no database has.
const UID: u32 = 4_000_000_001;
const GID: u32 = 4_000_000_002;

/// A start with the pid file `daemon.pid`, and its path.
fn with_pid_file() -> (Scenario, std::path::PathBuf) {
    let scenario = scenario!().pid_file("daemon.pid");
    let path = scenario.path("daemon.pid");
    (scenario, path)
}

/// The same by an ordinary user, which the test itself may be already.
fn with_pid_file_as_ordinary() -> (Scenario, std::path::PathBuf, u32) {
    let (scenario, path) = with_pid_file();
    match sys::effective_user() {
        0 => (scenario.as_user(UID, GID), path, UID),
        uid => (scenario, path, uid),
    }
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

/// As root can, and as is no change to anybody else.
fn give_to(path: &Path, uid: u32) {
    chown(path, Some(uid), None).unwrap();
}

fn look(path: &Path) -> PidFile {
    PidFile::look(path).unwrap().unwrap()
}

/// Everything by which one could see that a file was touched.
fn state(path: &Path) -> (Vec<u8>, [u64; 4], [i64; 4]) {
    let bytes = fs::read(path).unwrap();
    let found = fs::symlink_metadata(path).unwrap();
    let owner = (u64::from(found.uid()) << 32) | u64::from(found.gid());
    (
        bytes,
        [found.dev(), found.ino(), found.mode().into(), owner],
        [
            found.mtime(),
            found.mtime_nsec(),
            found.ctime(),
            found.ctime_nsec(),
        ],
    )
}

fn content(pid: u32) -> Vec<u8> {
    format!("{pid}\n").into_bytes()
}

#[track_caller]
fn assert_holds(run: &Run) {
    let pid_file = run.pid_file().unwrap();
    assert_eq!(pid_file.bytes, content(run.report().pid));
    assert!(pid_file.locked);
}

/// A start that fails while the file is another one's: nothing is left but
/// that.
#[track_caller]
fn fail_beside(scenario: &Scenario) -> StartError {
    let run = scenario.launch();
    let error = run.launcher_error();
    assert_eq!(run.launcher().living().count(), 0);
    run.wait_until_all_ended();
    error
}

#[track_caller]
fn assert_refused(scenario: &Scenario, errno: i32, reason: &str) {
    let error = fail_beside(scenario);
    assert_eq!(error.kind, format!("OpenPidfile({errno})"), "{error}");
    assert_eq!(error.path, scenario.config.options.pid_file);
    assert!(error.text.starts_with("cannot open pid file "), "{error}");
    assert!(error.text.contains(reason), "{error}");
}

/// The start fails with this kind of error and leaves the file empty and
/// unlocked, both if there was none before and if there was a stale one.
#[track_caller]
fn assert_leaves_an_empty_file(scenario: &Scenario, kind: &str) {
    let path = scenario.pid_file_path().unwrap();
    for entry in [Entry::Start, Entry::Execute, Entry::Start, Entry::Execute] {
        let run = scenario.clone().entry(entry).launch();
        let error = run.launcher_error();
        assert_eq!(error.kind_name(), kind, "{error}");
        // By the launcher's end, even if the daemon was returned to.
        let left = run.launcher().pid_file.unwrap();
        assert!(left.bytes.is_empty() && !left.locked, "{left:?}");
        if entry == Entry::Start {
            run.assert_nothing_left();
        }
        run.wait_until_all_ended();
        fs::write(&path, "stale content that is longer\n").unwrap();
    }
}

fn it_contains_the_pid_and_a_line_feed() {
    let (scenario, path) = with_pid_file();
    let run = scenario.start();
    // Complete by the launcher's end already.
    let pid_file = run.launcher().pid_file.unwrap();
    assert_eq!(pid_file.bytes, content(run.report().pid));
    assert_eq!(fs::read(path).unwrap(), pid_file.bytes);
}

fn its_mode_is_644_less_the_umask() {
    for umask in [0o000, 0o002, 0o022, 0o027, 0o077] {
        let (scenario, _) = with_pid_file();
        let scenario = scenario.from_state(|state| state.umask = Some(0o007));
        let run = scenario.umask(umask).start();
        assert_eq!(run.pid_file().unwrap().mode, 0o644 & !umask);
    }
}

/// Whoever has opened it before can write to it still.
fn a_file_that_others_can_write_to_is_replaced() {
    for mode in [0o666, 0o660, 0o606, 0o777] {
        let (scenario, path) = with_pid_file();
        fs::write(&path, "").unwrap();
        set_mode(&path, mode);
        let mut opened = OpenOptions::new().write(true).open(&path).unwrap();
        let run = scenario.umask(0_u32).start();
        opened.write_all(b"4242").unwrap();
        assert_eq!(run.pid_file().unwrap().mode, 0o644);
        assert_holds(&run);
    }
}

/// In a folder of root's.
fn where_it_cannot_be_replaced_others_lose_the_permission() {
    for mode in [0o666, 0o660, 0o606, 0o777] {
        let scenario = scenario!().as_user(UID, GID).pid_file("run/daemon.pid");
        let path = scenario.create_folder("run").join("daemon.pid");
        fs::write(&path, "").unwrap();
        give_to(&path, UID);
        set_mode(&path, mode);
        let inode = fs::metadata(&path).unwrap().ino();
        let run = scenario.umask(0_u32).start();
        assert_eq!(run.pid_file().unwrap().mode, mode & !0o022);
        assert_eq!(fs::metadata(&path).unwrap().ino(), inode);
        assert_holds(&run);
    }
}

fn other_permissions_of_an_existing_file_stay() {
    let (scenario, path) = with_pid_file();
    fs::write(&path, "").unwrap();
    set_mode(&path, 0o604);
    let run = scenario.umask(0o077_u32).start();
    assert_eq!(run.pid_file().unwrap().mode, 0o604);
}

fn a_relative_path_starts_at_the_working_directory() {
    let (scenario, beside) = with_pid_file();
    let path = scenario.create_folder("sub").join("daemon.pid");
    let run = scenario.working_directory("sub").start();
    assert_eq!(look(&path).bytes, content(run.report().pid));
    assert!(!beside.exists());
}

fn it_is_close_on_exec_and_no_standard_stream() {
    for closed in [[false; 3], [true; 3]] {
        let (scenario, path) = with_pid_file();
        let run = scenario.from_state(|state| state.closed = closed).start();
        let descriptors = run.report().descriptors.unwrap();
        let mut found = descriptors
            .iter()
            .filter(|descriptor| descriptor.is_file(&path));
        let descriptor = found.next().unwrap();
        assert!(descriptor.close_on_exec && descriptor.number > 2);
        assert_eq!(found.next(), None);
    }
}

fn a_second_start_names_the_running_daemon() {
    let (scenario, path) = with_pid_file();
    let absolute = scenario.clone().pid_file(&path);
    let run = scenario.start();
    let pid = run.report().pid;
    for (second, as_given) in [(&scenario, "daemon.pid".into()), (&absolute, path)] {
        let error = fail_beside(second);
        assert_eq!(error.kind, format!("LockPidfile({})", libc::EWOULDBLOCK));
        assert_eq!(error.running_pid, Some(pid));
        assert_eq!(error.path, Some((&as_given).into()));
        let path = as_given.display();
        let text = format!("cannot lock pid file {path}: held by running daemon {pid}");
        assert_eq!(error.text, text);
    }
    assert_holds(&run);
}

fn a_second_start_touches_nothing() {
    let (scenario, path) = with_pid_file();
    let run = scenario.start();
    // Even what it would change of a file of its own.
    set_mode(&path, 0o666);
    let before = state(&path);
    fail_beside(&scenario.clone().umask(0o077_u32));
    assert_eq!(state(&path), before);
    assert_holds(&run);
}

fn a_second_start_fails_on_both_sides() {
    let (scenario, path) = with_pid_file();
    let run = scenario.start();
    let before = state(&path);
    let second = scenario.entry(Entry::Execute).launch();
    let error = second.launcher_error();
    assert_eq!(error.kind_name(), "LockPidfile");
    assert_eq!(error.running_pid, Some(run.report().pid));
    assert_eq!(second.daemon_error(), error);
    second.wait_until_all_ended();
    assert_eq!(state(&path), before);
    assert_holds(&run);
}

fn a_second_start_is_told_of_a_first_one_under_way() {
    let (scenario, path) = with_pid_file();
    let held = scenario.clone().privileged_action([Step::Hold]);
    let run = held.launch();
    run.held();
    let before = state(&path);
    assert_eq!(before.0, b"");
    let error = fail_beside(&scenario);
    assert_eq!(error.kind_name(), "LockPidfile");
    assert_eq!(error.running_pid, None);
    let pid = run.held().pid;
    let reason = format!(": held by daemon {pid}, which is starting");
    assert!(error.text.ends_with(&reason), "{error}");
    assert_eq!(state(&path), before);
    run.proceed();
    run.launcher().assert().success();
    assert_holds(&run);
}

fn the_pid_is_written_when_the_daemon_is_ready_and_not_before() {
    let (scenario, path) = with_pid_file();
    let run = scenario.clone().initialize([Step::Hold]).launch();
    run.held();
    assert_eq!(look(&path).bytes, b"");
    assert_eq!(fail_beside(&scenario).running_pid, None);
    run.proceed();
    run.launcher().assert().success();
    assert_holds(&run);
}

fn a_number_in_the_file_proves_nothing() {
    let (scenario, path) = with_pid_file();
    fs::write(&path, "1\n").unwrap();
    let file = File::open(&path).unwrap();
    sys::flock(file.as_fd(), libc::LOCK_EX).unwrap();
    let before = state(&path);
    let error = fail_beside(&scenario);
    assert_eq!(error.kind_name(), "LockPidfile");
    assert_eq!(error.running_pid, None);
    assert!(error.text.ends_with(": held by another process"), "{error}");
    assert_eq!(state(&path), before);
}

fn a_daemon_that_has_ended_is_in_nobodys_way() {
    let (scenario, _) = with_pid_file();
    let run = scenario.start();
    run.exit(0);
    assert_holds(&scenario.start());
}

fn a_stale_file_is_taken_over() {
    let (scenario, path) = with_pid_file();
    let run = scenario.start();
    let (pid, inode) = (run.report().pid, look(&path).place);
    run.kill_daemon();
    run.wait_until_all_ended();
    assert_eq!(look(&path).bytes, content(pid));
    let run = scenario.start();
    assert_ne!(run.report().pid, pid);
    assert_eq!(look(&path).place, inode);
    assert_holds(&run);
}

fn a_longer_content_leaves_no_remains() {
    let (scenario, path) = with_pid_file();
    fs::write(&path, "4194303 and more\n".repeat(1000)).unwrap();
    assert_holds(&scenario.start());
}

fn the_daemon_alone_holds_the_lock() {
    let (scenario, _) = with_pid_file();
    let run = scenario.start();
    assert_eq!(run.lock_holders(), [run.report().pid]);
}

fn the_lock_goes_with_the_daemon() {
    let (scenario, path) = with_pid_file();
    let run = scenario.start();
    assert!(look(&path).locked);
    run.exit(0);
    assert!(!look(&path).locked);
    let run = scenario.start();
    run.kill_daemon();
    run.wait_until_all_ended();
    assert!(!look(&path).locked);
}

#[track_caller]
fn worker(run: &Run) -> u32 {
    run.message("the worker", |frame| match frame.message {
        Message::Worker(pid) => Some(pid),
        _ => None,
    })
}

fn a_worker_shares_the_lock() {
    let (scenario, path) = with_pid_file();
    let run = scenario.privileged_action([Step::ForkWorker]).start();
    let worker = worker(&run);
    run.kill_daemon();
    assert!(look(&path).locked);
    run.kill(worker);
    assert!(!look(&path).locked);
}

fn a_worker_is_not_taken_for_the_daemon() {
    let (scenario, _) = with_pid_file();
    let parent = scenario.clone().privileged_action([Step::ForkWorker]);
    let run = parent.start();
    run.kill_daemon();
    let error = fail_beside(&scenario);
    assert_eq!(error.kind_name(), "LockPidfile");
    assert_eq!(error.running_pid, None);
    assert!(error.text.ends_with(": held by another process"), "{error}");
}

fn a_failed_start_unlocks_whatever_a_worker_holds() {
    for last in [
        Step::Panic("text".to_owned()),
        Step::Exit(3),
        Step::KillItself(libc::SIGKILL),
    ] {
        let (scenario, path) = with_pid_file();
        let failing = scenario.clone().privileged_action([Step::ForkWorker, last]);
        let run = failing.launch();
        run.launcher_error();
        let worker = worker(&run);
        run.assert_nothing_left_but(&[worker]);
        assert_eq!(look(&path).bytes, b"");
        assert!(run.processes().iter().any(|process| process.pid == worker));
        assert_holds(&scenario.start());
    }
}

fn its_user_alone_can_be_changed() {
    let (scenario, path) = with_pid_file();
    let scenario = scenario.chown_pid_file_user(UID);
    let run = scenario.start();
    let pid_file = run.launcher().pid_file.unwrap();
    assert_eq!((pid_file.uid, pid_file.gid), (UID, 0));
    run.exit(0);
    chown(&path, None, Some(GID)).unwrap();
    scenario.start();
    assert_eq!((look(&path).uid, look(&path).gid), (UID, GID));
}

fn its_group_alone_can_be_changed() {
    let (scenario, path) = with_pid_file();
    let run = scenario.chown_pid_file_group(GID).start();
    let pid_file = run.launcher().pid_file.unwrap();
    assert_eq!((pid_file.uid, pid_file.gid), (0, GID));
    assert_eq!(look(&path).mode, 0o640);
}

fn its_user_and_group_can_be_changed() {
    let (scenario, _) = with_pid_file();
    let scenario = scenario.chown_pid_file_user(UID).chown_pid_file_group(GID);
    for _ in 0..2 {
        let run = scenario.start();
        let pid_file = run.launcher().pid_file.unwrap();
        assert_eq!((pid_file.uid, pid_file.gid), (UID, GID));
        run.exit(0);
    }
}

fn its_owner_can_be_given_by_name() {
    let (scenario, path) = with_pid_file();
    let output = Command::new("id").args(["-u", "nobody"]).output().unwrap();
    let uid = String::from_utf8(output.stdout).unwrap();
    let run = scenario
        .chown_pid_file_user("nobody")
        .chown_pid_file_group("daemon")
        .user(UID)
        .group(GID)
        .start();
    assert_eq!(look(&path).uid, uid.trim().parse::<u32>().unwrap());
    assert_ne!(look(&path).gid, 0);
    assert_holds(&run);
}

fn its_owner_may_stay_an_ordinary_user() {
    let (scenario, path, uid) = with_pid_file_as_ordinary();
    let scenario = scenario.chown_pid_file_user(uid);
    let run = scenario.start();
    assert_eq!(look(&path).uid, uid);
    assert_holds(&run);
}

fn an_ordinary_user_cannot_give_it_away() {
    let (scenario, ..) = with_pid_file_as_ordinary();
    let error = scenario.chown_pid_file_user(0).fail();
    assert_eq!(error.kind, format!("ChownPidfile({})", libc::EPERM));
    assert_eq!(error.path, Some("daemon.pid".into()));
    let start = "cannot change owner of pid file daemon.pid: Operation not permitted";
    assert!(error.text.starts_with(start), "{error}");
}

/// A file that an attack would change; and a start that would change
/// everything about its pid file, if the caller may.
fn with_victim() -> (Scenario, std::path::PathBuf, std::path::PathBuf) {
    let (mut scenario, path) = with_pid_file();
    if sys::effective_user() == 0 {
        scenario = scenario.chown_pid_file_user(UID).chown_pid_file_group(GID);
    }
    let victim = scenario.path("victim");
    fs::write(&victim, "precious").unwrap();
    set_mode(&victim, 0o666);
    (scenario, path, victim)
}

fn a_link_is_not_followed() {
    let (scenario, path, victim) = with_victim();
    symlink(&victim, &path).unwrap();
    let before = state(&victim);
    assert_refused(&scenario, libc::ELOOP, ": it is a symbolic link");
    assert_eq!(state(&victim), before);
    assert_eq!(fs::read_link(&path).unwrap(), victim);
}

fn a_dangling_link_is_not_followed() {
    let (scenario, path) = with_pid_file();
    let target = scenario.path("target");
    symlink(&target, &path).unwrap();
    assert_refused(&scenario, libc::ELOOP, ": it is a symbolic link");
    assert!(!target.exists());
}

fn a_fifo_is_refused() {
    let (scenario, path) = with_pid_file();
    sys::make_fifo(&path).unwrap();
    assert_refused(&scenario, libc::EINVAL, ": it is a FIFO");
}

fn a_device_is_refused() {
    // One that whoever runs the tests can open.
    let scenario = scenario!().pid_file("/dev/null");
    assert_refused(&scenario, libc::EINVAL, ": it is a device");
}

fn a_directory_is_refused() {
    let (scenario, path) = with_pid_file();
    fs::create_dir(&path).unwrap();
    for path in ["daemon.pid", "daemon.pid/", ".", "/"] {
        let error = scenario.clone().pid_file(path).fail();
        assert_eq!(error.kind, format!("OpenPidfile({})", libc::EISDIR));
        assert_eq!(error.path, Some(path.into()));
    }
}

fn a_socket_is_refused() {
    let (scenario, path) = with_pid_file();
    let _listener = UnixListener::bind(path).unwrap();
    let error = scenario.fail();
    assert_eq!(error.kind_name(), "OpenPidfile");
}

fn a_file_with_another_name_is_refused() {
    let (scenario, path, victim) = with_victim();
    fs::hard_link(&victim, &path).unwrap();
    let before = state(&victim);
    assert_refused(&scenario, libc::EMLINK, ": it has other hard links");
    assert_eq!(state(&victim), before);
}

/// As when the user of a service was changed.
fn another_users_left_over_file_is_replaced() {
    for daemons_user in [0, UID, UID + 1] {
        let (scenario, path) = with_pid_file();
        fs::write(&path, "4242\n").unwrap();
        chown(&path, Some(UID), None).unwrap();
        let left_over = File::open(&path).unwrap();
        let run = scenario.user(daemons_user).group(GID).start();
        assert_holds(&run);
        assert_eq!(look(&path).uid, 0);
        assert_eq!(left_over.metadata().unwrap().nlink(), 0);
    }
}

fn a_file_that_may_not_be_written_to_is_replaced_where_it_may_be_removed() {
    for (owner, mode) in [(UID, 0o444), (UID + 1, 0o644), (UID + 1, 0o666)] {
        let (scenario, path, _) = with_pid_file_as_ordinary();
        chown(scenario.folder(), Some(UID), None).unwrap();
        fs::write(&path, "4242\n").unwrap();
        set_mode(&path, mode);
        chown(&path, Some(owner), None).unwrap();
        assert_holds(&scenario.start());
        assert_eq!(look(&path).uid, UID);
    }
}

fn another_users_locked_file_is_left_alone() {
    let (scenario, path) = with_pid_file();
    let file = File::create(&path).unwrap();
    chown(&path, Some(UID), None).unwrap();
    sys::flock(file.as_fd(), libc::LOCK_EX).unwrap();
    let before = state(&path);
    let error = scenario.launch().launcher_error();
    assert_eq!(error.kind, format!("LockPidfile({})", libc::EWOULDBLOCK));
    assert_eq!(state(&path), before);
}

fn another_users_file_that_may_not_be_removed_is_refused() {
    let (ordinary, _, _) = with_pid_file_as_ordinary();
    // Root may, but the other user may put another one there meanwhile.
    for scenario in [ordinary, scenario!()] {
        refuse_in_sticky_folder(scenario);
    }
}

#[track_caller]
fn refuse_in_sticky_folder(scenario: Scenario) {
    let folder = scenario.create_folder("sticky");
    set_mode(&folder, 0o1777);
    chown(&folder, Some(0), None).unwrap();
    let path = folder.join("daemon.pid");
    let scenario = scenario.pid_file(&path);
    fs::write(&path, "precious").unwrap();
    set_mode(&path, 0o666);
    chown(&path, Some(UID + 1), None).unwrap();
    let before = state(&path);
    assert_refused(&scenario, libc::EPERM, ": it belongs to another user");
    assert_eq!(state(&path), before);
}

fn a_file_that_others_can_go_on_writing_to_is_refused() {
    // Root's, so that an ordinary user cannot change the mode.
    let (scenario, path, _) = with_pid_file_as_ordinary();
    fs::write(&path, "precious").unwrap();
    set_mode(&path, 0o666);
    let before = state(&path);
    let reason = ": other users can write to it, and that cannot be changed";
    assert_refused(&scenario, libc::EPERM, reason);
    assert_eq!(state(&path), before);
}

fn its_new_owners_file_is_accepted() {
    let (scenario, path) = with_pid_file();
    fs::write(&path, "stale").unwrap();
    chown(&path, Some(UID), Some(GID)).unwrap();
    let run = scenario.chown_pid_file_user(UID).start();
    assert_holds(&run);
    assert_eq!((look(&path).uid, look(&path).gid), (UID, GID));
}

/// Where the kernel may keep even root from opening it with O_CREAT.
fn its_new_owners_file_is_accepted_in_a_sticky_folder() {
    let scenario = scenario!().pid_file("folder/daemon.pid");
    let folder = scenario.create_folder("folder");
    set_mode(&folder, 0o1777);
    let path = folder.join("daemon.pid");
    fs::write(&path, "stale").unwrap();
    chown(&path, Some(UID), Some(GID)).unwrap();
    assert_holds(&scenario.chown_pid_file_user(UID).start());
}

/// A start as root with the pid file in a folder like this.
fn in_folder(uid: u32, gid: u32, mode: u32) -> Scenario {
    let scenario = scenario!().pid_file("folder/daemon.pid");
    let folder = scenario.create_folder("folder");
    chown(&folder, Some(uid), Some(gid)).unwrap();
    set_mode(&folder, mode);
    scenario
}

#[track_caller]
fn assert_folder_refused(scenario: &Scenario, reason: &str) {
    assert_refused(scenario, libc::EPERM, reason);
    assert!(!scenario.path("folder/daemon.pid").exists());
}

fn another_users_folder_is_refused() {
    for mode in [0o755, 0o700, 0o1755] {
        let scenario = in_folder(UID, 0, mode);
        let folder = scenario.path("folder");
        let reason = format!(
            ": its directory belongs to another user: {} belongs to uid {UID} and gid 0, mode \
             {mode:04o}; to root, it may be that of root, of `user` or of `chown_pid_file_user`",
            folder.display()
        );
        assert_folder_refused(&scenario, &reason);
    }
}

fn a_folder_that_others_can_write_to_is_refused() {
    let reason = ": other users can write to its directory";
    for (gid, mode) in [(0, 0o777), (GID, 0o777), (0, 0o757), (GID, 0o775)] {
        assert_folder_refused(&in_folder(0, gid, mode), reason);
    }
}

/// In the mode it looks as if root's group could write, and nobody else.
fn a_folder_whose_access_list_lets_others_write_is_refused() {
    let scenario = in_folder(0, 0, 0o755);
    sys::give_access_to(scenario.pid_file_path().unwrap().parent().unwrap(), UID).unwrap();
    assert_folder_refused(&scenario, ": other users can write to its directory");
}

fn a_folder_whose_access_list_lets_others_read_is_accepted() {
    let scenario = in_folder(0, 0, 0o755);
    let path = scenario.pid_file_path().unwrap();
    let folder = path.parent().unwrap();
    sys::give_access_to(folder, UID).unwrap();
    // The mode bounds what the list gives.
    set_mode(folder, 0o755);
    assert_holds(&scenario.start());
}

fn a_folder_that_only_root_can_write_to_is_accepted() {
    for (gid, mode) in [(0, 0o755), (0, 0o700), (0, 0o775), (GID, 0o755)] {
        assert_holds(&in_folder(0, gid, mode).start());
    }
}

fn a_sticky_folder_is_accepted() {
    for (gid, mode) in [(0, 0o1777), (GID, 0o1775)] {
        assert_holds(&in_folder(0, gid, mode).start());
    }
}

fn the_daemons_users_folder_is_accepted() {
    let scenario = in_folder(UID, GID, 0o755).user(UID).group(GID);
    let run = scenario.start();
    assert_holds(&run);
    run.exit(0);
    assert_holds(&scenario.start());
}

fn the_new_owners_folder_is_accepted() {
    let scenario = in_folder(UID, GID, 0o755).chown_pid_file_user(UID);
    let run = scenario.start();
    assert_holds(&run);
    run.exit(0);
    assert_holds(&scenario.start());
}

fn an_ordinary_user_looks_after_its_folders_itself() {
    let (scenario, ..) = with_pid_file_as_ordinary();
    set_mode(scenario.folder(), 0o777);
    assert_holds(&scenario.start());
}

fn a_missing_folder_is_told() {
    for path in ["missing/daemon.pid", "./missing/../daemon.pid"] {
        let error = scenario!().pid_file(path).fail();
        assert_eq!(error.kind, format!("OpenPidfile({})", libc::ENOENT));
        assert_eq!(error.path, Some(path.into()));
        let start = format!("cannot open pid file {path}: No such file or directory");
        assert!(error.text.starts_with(&start), "{error}");
    }
}

fn a_missing_folder_is_named_with_what_the_path_is_relative_to() {
    let scenario = scenario!();
    let home = scenario.create_folder("home");
    for working_directory in [home.as_path(), Path::new("home")] {
        for entry in [Entry::Start, Entry::Execute] {
            let scenario = scenario.clone().entry(entry);
            let scenario = scenario.working_directory(working_directory);
            let error = scenario
                .pid_file("missing/daemon.pid")
                .launch()
                .launcher_error();
            let end = format!(": its directory {}/missing does not exist", home.display());
            assert!(error.text.ends_with(&end), "{error}");
        }
    }
    let scenario = scenario
        .working_directory("home")
        .pid_file("missing/daemon.pid");
    let error = scenario
        .foreground(Foreground::Yes)
        .launch()
        .launcher_error();
    let end = format!(": its directory {}/missing does not exist", home.display());
    assert!(error.text.ends_with(&end), "{error}");
}

fn a_folder_that_is_none_is_told() {
    let scenario = scenario!().pid_file("file/daemon.pid");
    fs::write(scenario.path("file"), "precious").unwrap();
    let error = scenario.launch().launcher_error();
    assert_eq!(error.kind, format!("OpenPidfile({})", libc::ENOTDIR));
    assert_eq!(fs::read(scenario.path("file")).unwrap(), b"precious");
}

fn a_nul_in_its_path_is_refused() {
    let scenario = scenario!();
    let mut nul = scenario.clone();
    nul.config.options.pid_file = Some("daemon\0.pid".into());
    let run = nul.launch();
    let error = run.launcher_error();
    assert_eq!(error.kind, "PathContainsNul");
    assert_eq!(error.path, Some("daemon\0.pid".into()));
    assert!(!scenario.path("daemon").exists());
}

fn a_prober_that_stays_is_waited_for_a_second() {
    let (scenario, path) = with_pid_file();
    fs::write(&path, "4242\n").unwrap();
    let prober = File::open(&path).unwrap();
    sys::flock(prober.as_fd(), libc::LOCK_SH).unwrap();
    let began = Instant::now();
    let error = fail_beside(&scenario);
    assert_eq!(error.kind, format!("LockPidfile({})", libc::EWOULDBLOCK));
    assert!(began.elapsed() >= Duration::from_secs(1));
}

/// Each of its processes does so, but only if no other one has.
fn a_start_that_has_failed_does_not_clear_the_next_ones_file() {
    let (scenario, _) = with_pid_file();
    let failing = scenario.clone().chroot("missing");
    let run = failing.privileged_action([Step::Hold]).launch();
    let (daemon, intermediate) = (run.held().pid, run.held().ppid);
    sys::kill(intermediate, libc::SIGSTOP).unwrap();
    run.proceed();
    run.wait_until_ended(daemon);
    let next = scenario.start();
    sys::kill(intermediate, libc::SIGCONT).unwrap();
    run.launcher_error();
    run.wait_until_all_ended();
    assert_holds(&next);
}

fn a_prober_never_fails_a_start() {
    let (scenario, path) = with_pid_file();
    fs::write(&path, "").unwrap();
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let _until = Until(&over);
        scope.spawn(|| {
            let file = File::open(&path).unwrap();
            while !over.load(Ordering::Relaxed) {
                // Held more often than not.
                let _ = sys::flock(file.as_fd(), libc::LOCK_SH);
                for _ in 0..20 {
                    let _ = PidFile::look(&path);
                }
                sys::flock(file.as_fd(), libc::LOCK_UN).unwrap();
                thread::yield_now();
            }
        });
        for _ in 0..20 {
            let run = scenario.start();
            assert_eq!(look(&path).bytes, content(run.report().pid));
            run.exit(0);
        }
    });
}

fn a_failing_first_step_makes_no_file() {
    let (scenario, _) = with_pid_file();
    let path = scenario.path("missing");
    let error = scenario.working_directory(&path).fail();
    assert_eq!(error.kind_name(), "ChangeDirectory");
}

fn too_few_descriptors_leave_no_content_and_no_lock() {
    let mut kinds = Vec::new();
    // Whoever runs the tests may have some open.
    let numbers = scenario!().launch().initial().descriptor_numbers();
    let inherited = numbers.iter().filter(|number| (3..100).contains(*number));
    let first = 4 + u64::try_from(inherited.count()).unwrap();
    for limit in first..first + 16 {
        let (scenario, _) = with_pid_file();
        let scenario = scenario.from_state(|state| state.limit_descriptors = Some(limit));
        let run = scenario.launch();
        if run.launcher().output.status.success() {
            assert_holds(&run);
            break;
        }
        kinds.push(run.launcher_error().kind);
        run.assert_nothing_left();
    }
    let wanted = format!("OpenPidfile({})", libc::EMFILE);
    assert!(kinds.contains(&wanted), "{kinds:?}");
}

fn a_failing_change_of_owner_leaves_an_empty_file() {
    let (scenario, path, uid) = with_pid_file_as_ordinary();
    let scenario = scenario.chown_pid_file_user(0);
    fs::write(&path, "").unwrap();
    give_to(&path, uid);
    assert_leaves_an_empty_file(&scenario, "ChownPidfile");
}

fn a_failing_action_leaves_an_empty_file() {
    for (step, kind) in [
        (Step::Panic("text".to_owned()), "Panicked"),
        (Step::Exit(0), "DaemonExited"),
        (Step::KillItself(libc::SIGKILL), "DaemonExited"),
    ] {
        let (scenario, _) = with_pid_file();
        assert_leaves_an_empty_file(&scenario.privileged_action([step]), kind);
    }
}

/// By then the pid has been written.
fn a_failing_initialization_leaves_an_empty_file() {
    let steps = |step: Step| Fallible::from([step]);
    for (initialization, kind) in [
        (ErrorText::from("text").into(), "Initialize"),
        (steps(Step::Panic("text".to_owned())), "Panicked"),
        (steps(Step::Exit(0)), "DaemonExited"),
        (steps(Step::KillItself(libc::SIGKILL)), "DaemonExited"),
    ] {
        let (scenario, _) = with_pid_file();
        assert_leaves_an_empty_file(&scenario.initialize(initialization), kind);
    }
}

fn a_failing_chroot_leaves_an_empty_file() {
    let (scenario, _) = with_pid_file();
    assert_leaves_an_empty_file(&scenario.chroot("missing"), "Chroot");
}

fn a_failing_change_of_identity_leaves_an_empty_file() {
    let (scenario, _, uid) = with_pid_file_as_ordinary();
    let gid = if uid == UID { GID } else { sys::group_ids().1 };
    let scenario = scenario.user(UID + 1).group(gid);
    let error = scenario.fail();
    assert_eq!(error.errno, Some(libc::EPERM));
    let kind = error.kind_name().to_owned();
    assert_leaves_an_empty_file(&scenario, &kind);
}

fn a_failed_daemon_that_lives_on_has_let_go() {
    let (scenario, path) = with_pid_file();
    let failing = scenario.clone().entry(Entry::Execute).chroot("missing");
    let run = failing.life(Life::UntilToldEvenIfFailed).launch();
    run.launcher_error();
    run.daemon_error();
    let left = run.processes();
    assert_eq!(left.len(), 1, "{left:?}");
    assert!(look(&path).bytes.is_empty() && !look(&path).locked);
    let descriptors = run.observe().descriptors.unwrap();
    assert!(!descriptors.iter().any(|found| found.is_file(&path)));
    assert_holds(&scenario.start());
}

/// The daemons among these starts; the others have failed with LockPidfile.
#[track_caller]
fn winners(runs: &[Run]) -> Vec<&Run> {
    let (won, lost): (Vec<_>, Vec<_>) = runs
        .iter()
        .partition(|run| run.launcher().output.status.success());
    for run in lost {
        let error = run.launcher_error();
        assert_eq!(error.kind_name(), "LockPidfile", "{error}");
        match (error.running_pid, won.as_slice()) {
            (Some(pid), [winner]) => assert_eq!(pid, winner.report().pid),
            (Some(_), _) => panic!("{error}"),
            (None, _) => assert!(error.text.contains(": held by "), "{error}"),
        }
        run.wait_until_all_ended();
    }
    won
}

fn of_many_starts_at_once_one_succeeds() {
    let (scenario, _) = with_pid_file();
    let runs: Vec<_> = (0..32).map(|_| scenario.launch()).collect();
    let won = winners(&runs);
    assert_eq!(won.len(), 1, "several daemons, or none");
    assert_holds(won[0]);
}

/// As a daemon does that removes its file at the end: who has opened it
/// meanwhile and gets its lock then has the lock of nothing.
fn a_file_that_is_removed_meanwhile_guards_nothing() {
    let (scenario, path) = with_pid_file();
    let over = AtomicBool::new(false);
    let runs: Vec<_> = thread::scope(|scope| {
        let _until = Until(&over);
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                let mut options = OpenOptions::new();
                let file = options.write(true).create(true).truncate(false).open(&path);
                let file = file.unwrap();
                let is_ours = sys::flock(file.as_fd(), libc::LOCK_EX).is_ok()
                    && fs::metadata(&path)
                        .is_ok_and(|there| there.ino() == file.metadata().unwrap().ino());
                if is_ours {
                    fs::remove_file(&path).unwrap();
                }
                // Another thread's child may have a copy for a while.
                sys::flock(file.as_fd(), libc::LOCK_UN).unwrap();
            }
        });
        let runs: Vec<_> = (0..32).map(|_| scenario.launch()).collect();
        runs.iter().for_each(|run| drop(run.launcher()));
        runs
    });
    let won = winners(&runs);
    assert!(won.len() <= 1, "several daemons");
    match won.first() {
        Some(winner) => assert_holds(winner),
        None => assert_holds(&scenario.start()),
    }
}
