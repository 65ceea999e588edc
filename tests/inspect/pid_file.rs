use tester::prelude::*;

use crate::setup::*;

pub(crate) const CASES: &[Case] = &[
    case!(a_locked_pid_file_is_found_without_its_path, needs Linux),
    case!(without_a_locked_file_the_pid_file_is_unknown),
    case!(a_pid_file_that_does_not_exist_is_found),
    case!(a_pid_file_of_another_process_is_found),
    case!(a_pid_file_of_no_process_is_found),
    case!(a_pid_file_without_a_number_is_found),
    case!(a_symbolic_link_is_found),
    case!(a_fifo_is_found_and_not_waited_for),
    case!(a_pid_file_without_a_lock_is_found, needs Linux),
    case!(a_lock_of_another_process_is_found, needs Linux),
    case!(a_pid_file_that_others_may_write_is_found),
    case!(a_directory_that_others_may_write_is_found),
    case!(a_pid_file_of_a_third_user_is_found, needs Root),
    case!(an_unlocked_pid_file_of_the_user_is_found, needs Root, Linux, Tracing),
];

fn a_locked_pid_file_is_found_without_its_path() {
    let scenario = clean();
    let checkup = inspect_daemon(&scenario);
    checkup.assert_findings(&[]);
    checkup.assert_ok("pid file", "it names the daemon");
    let path = scenario.pid_file_path().unwrap();
    assert_eq!(Path::new(&checkup.row("pid file").seen), path);
    checkup.assert_ok("pid file lock", "excludes a second daemon");
    checkup.assert_ok("pid file permissions", "");
}

fn without_a_locked_file_the_pid_file_is_unknown() {
    let mut scenario = clean();
    scenario.config.options.pid_file = None;
    let checkup = inspect_daemon(&scenario);
    checkup.assert_findings(&[]);
    checkup.assert_unknown("pid file", "--pid-file names it");
}

/// A process, and the path of its pid file, which has this content.
fn with_content(content: impl FnOnce(u32) -> String) -> (Cat, Scenario, PathBuf) {
    let scenario = scenario!();
    let path = scenario.path("cat.pid");
    let cat = Cat::with(&[]);
    fs::write(&path, content(cat.pid)).unwrap();
    (cat, scenario, path)
}

#[track_caller]
fn assert_content_is_found(content: impl FnOnce(u32) -> String, reason: &str) {
    let (cat, _scenario, path) = with_content(content);
    inspect_with(cat.pid, &path).assert_finding("pid file", reason);
}

fn a_pid_file_that_does_not_exist_is_found() {
    let (cat, scenario, _) = with_content(|pid| format!("{pid}\n"));
    let checkup = inspect_with(cat.pid, &scenario.path("missing"));
    checkup.assert_finding("pid file", "does not exist");
}

fn a_pid_file_of_another_process_is_found() {
    let own = std::process::id();
    assert_content_is_found(|_| format!("{own}\n"), "it names another process, ");
    let (cat, _scenario, path) = with_content(|pid| format!("{pid}\n"));
    inspect_with(cat.pid, &path).assert_ok("pid file", "it names the daemon");
}

fn a_pid_file_of_no_process_is_found() {
    assert_content_is_found(|_| "2000000000\n".to_owned(), "which does not run");
}

fn a_pid_file_without_a_number_is_found() {
    assert_content_is_found(|_| String::new(), "it is empty");
    assert_content_is_found(|pid| format!("{pid} cat\n"), "no process id");
    assert_content_is_found(|pid| format!("-{pid}\n"), "no process id");
}

fn a_symbolic_link_is_found() {
    let (cat, scenario, path) = with_content(|pid| format!("{pid}\n"));
    let link = scenario.path("link.pid");
    symlink(&path, &link).unwrap();
    inspect_with(cat.pid, &link).assert_finding("pid file", "it is a symbolic link");
}

fn a_fifo_is_found_and_not_waited_for() {
    let (cat, scenario, _) = with_content(|pid| format!("{pid}\n"));
    let fifo = scenario.path("fifo.pid");
    sys::make_fifo(&fifo).unwrap();
    inspect_with(cat.pid, &fifo).assert_finding("pid file", "it is a FIFO");
}

fn a_pid_file_without_a_lock_is_found() {
    let (cat, _scenario, path) = with_content(|pid| format!("{pid}\n"));
    inspect_with(cat.pid, &path).assert_finding("pid file lock", "a second daemon can start");
}

fn a_lock_of_another_process_is_found() {
    let (cat, _scenario, path) = with_content(|pid| format!("{pid}\n"));
    let file = File::options().write(true).open(&path).unwrap();
    sys::flock(file.as_fd(), libc::LOCK_EX).unwrap();
    let checkup = inspect_with(cat.pid, &path);
    checkup.assert_finding("pid file lock", "");
    // The kernel may show another device for the lock than for the file, as on overlayfs.
    let row = checkup.row("pid file lock");
    let holder = format!(" {} has taken it", std::process::id());
    assert!(
        row.seen == "none" || row.reason.contains(&holder),
        "{row:?}"
    );
}

fn permissions_of(change: impl FnOnce(&Path)) -> Checkup {
    let scenario = clean();
    let run = scenario.start();
    let path = scenario.pid_file_path().unwrap();
    change(&path);
    inspect_with(run.report().pid, &path)
}

fn a_pid_file_that_others_may_write_is_found() {
    let checkup = permissions_of(|path| set_mode(path, 0o666));
    checkup.assert_finding("pid file permissions", "every user may write the file");
    // The descriptor of the file is the other finding.
    assert!(checkup.findings().len() <= 2, "{checkup:?}");
    permissions_of(|path| set_mode(path, 0o664)).assert_findings(&[]);
}

fn a_directory_that_others_may_write_is_found() {
    let change = |mode| permissions_of(move |path| set_mode(path.parent().unwrap(), mode));
    let reason = "every user may write its directory";
    change(0o777).assert_only("pid file permissions", reason);
    change(0o1777).assert_findings(&[]);
}

fn a_pid_file_of_a_third_user_is_found() {
    let checkup = permissions_of(|path| chown(path, Some(4711), None).unwrap());
    checkup.assert_only("pid file permissions", "4711 may write the file");
    let checkup = permissions_of(|path| {
        chown(path, None, Some(4711)).unwrap();
        set_mode(path, 0o664);
    });
    checkup.assert_only("pid file permissions", "the group 4711 may write the file");
}

fn an_unlocked_pid_file_of_the_user_is_found() {
    let scenario = clean().user(UID).group(GID);
    let run = scenario.start();
    let path = scenario.path("other.pid");
    fs::write(&path, content(run.report().pid)).unwrap();
    chown(&path, Some(UID), Some(GID)).unwrap();
    let checkup = inspect_with(run.report().pid, &path);
    checkup.assert_finding("pid file permissions", "to which root then sends a signal");
    checkup.assert_findings(&["pid file lock", "pid file permissions"]);
}
