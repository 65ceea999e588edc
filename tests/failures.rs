//! A start that fails says why, once, in the launcher, and leaves nothing.

use std::io;
use std::net::TcpStream;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitCode, ExitStatus};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tester::config::{
    AnotherStart, Bytes, Config, Deferral, Disposition, Entry, Foreground, Life, PanicHook,
    ReadinessUse, Step, Stream, SupplementaryGroups,
};
use tester::control::{Command, Frame, Message};
use tester::report::StartError;
use tester::{Run, Scenario, case, scenario, suite, sys};

fn main() -> ExitCode {
    suite(&[
        case!(a_missing_working_directory_is_told),
        case!(a_working_directory_that_is_a_file_is_told),
        case!(a_pid_file_that_cannot_be_opened_is_told),
        case!(a_pid_file_that_is_a_directory_is_told),
        case!(a_missing_root_is_told),
        case!(an_ordinary_user_who_wants_another_root_is_told),
        case!(an_ordinary_user_who_gives_the_pid_file_away_is_told),
        case!(an_ordinary_user_who_wants_to_be_root_is_told),
        case!(an_ordinary_user_who_wants_another_group_is_told, needs Root),
        case!(an_ordinary_user_who_wants_another_users_group_is_told_whose_it_is, needs Root),
        case!(an_ordinary_user_who_wants_another_uid_is_told, needs Root),
        case!(an_unknown_user_or_group_is_told),
        case!(an_unknown_user_or_group_of_the_pid_file_is_told),
        case!(a_number_without_an_entry_needs_a_group),
        case!(the_id_that_means_unchanged_is_refused),
        case!(a_nul_in_a_path_is_refused),
        case!(a_nul_in_a_name_is_refused),
        case!(a_lock_held_by_a_running_daemon_is_told),
        case!(a_lock_held_by_a_starting_daemon_is_told),
        case!(a_lock_held_by_a_mere_worker_is_told_without_a_pid),
        case!(a_pid_that_cannot_be_written_is_told),
        case!(a_pid_written_in_part_is_told),
        case!(the_first_of_several_failures_is_the_one_told),
        case!(a_locked_pid_file_is_told_before_what_comes_later),
        case!(a_refused_first_fork_is_told),
        case!(a_refused_second_fork_is_told_and_clears_the_pid_file, needs Root),
        case!(a_refused_second_fork_is_told_before_the_first_steps_failures, needs Root),
        case!(a_lack_of_descriptors_is_told_wherever_it_strikes),
        case!(another_thread_is_refused_by_the_checked_starts),
        case!(many_threads_are_counted_and_some_of_them_named, needs Linux),
        case!(another_thread_is_accepted_by_the_unchecked_starts),
        case!(a_joined_thread_is_not_counted),
        case!(a_panic_is_told_with_its_text),
        case!(a_panics_text_is_cut_at_two_kibibytes),
        case!(an_action_that_exits_is_told_with_its_status),
        case!(an_action_that_is_killed_is_told_with_its_signal),
        case!(a_death_is_reported_without_a_hint_where_standard_error_is_a_file),
        case!(a_daemon_that_executes_another_program_is_reported_as_such),
        case!(a_daemon_that_closes_its_connection_is_reported_as_such),
        case!(a_status_of_its_own_wins_over_the_closed_connection),
        case!(a_death_is_told_at_once_though_a_worker_holds_everything),
        case!(a_failure_is_told_at_once_though_a_worker_holds_everything),
        case!(a_closure_that_returns_twice_makes_one_daemon),
        case!(a_closure_that_panics_twice_is_told_once),
        case!(a_result_is_dropped_before_the_launcher_returns),
        case!(a_socket_that_the_action_opened_is_closed_when_the_launcher_returns),
        case!(captures_are_dropped_by_start_in_the_daemon_only),
        case!(captures_are_dropped_by_execute_in_both),
        case!(a_failure_is_printed_once_though_both_processes_print_it),
        case!(a_failed_process_writes_nothing_and_runs_no_exit_handler),
        case!(a_start_within_a_closure_is_refused),
        case!(a_start_before_ready_is_refused_where_the_launcher_would_exit),
        case!(an_execute_before_ready_starts_another_daemon),
        case!(a_start_after_the_start_is_not_refused),
        case!(no_zombie_is_left),
        case!(whoever_the_launcher_has_for_children_is_reaped, needs Linux),
        case!(the_checked_starts_fail_alike),
    ])
}

// --- What is expected ---

/// An error without an errno.
fn plain(kind: &str, path: Option<&str>, text: &str) -> StartError {
    StartError {
        kind: kind.to_owned(),
        errno: None,
        path: path.map(Bytes::from),
        running_pid: None,
        daemon_exit_status: None,
        text: text.to_owned(),
    }
}

/// An error whose errno explains it.
fn because(kind: &str, errno: i32, path: Option<&str>, text: &str) -> StartError {
    let reason = io::Error::from_raw_os_error(errno);
    with_text(kind, errno, path, &format!("{text}: {reason}"))
}

/// An error that a text explains better than its errno does.
fn with_text(kind: &str, errno: i32, path: Option<&str>, text: &str) -> StartError {
    StartError {
        errno: Some(errno),
        ..plain(&format!("{kind}({errno})"), path, text)
    }
}

/// EPERM, with who was refused, and what it takes.
fn refused(
    scenario: &Scenario,
    kind: &str,
    path: Option<&str>,
    text: &str,
    takes: &str,
) -> StartError {
    let uid = scenario.config.initial.ids.as_ref().map(|ids| ids.uid[1]);
    let uid = uid.unwrap_or_else(sys::effective_user);
    let reason = io::Error::from_raw_os_error(libc::EPERM);
    let text = format!("{text}: {reason}: this process runs as uid {uid}; {takes}");
    with_text(kind, libc::EPERM, path, &text)
}

/// What it takes, by this capability where there are any.
fn takes(deed: &str, capabilities: &str) -> String {
    if cfg!(target_os = "linux") {
        format!("{deed} takes root, or {capabilities}")
    } else {
        format!("{deed} takes root")
    }
}

const TO_BECOME: &str = "CAP_SETUID and CAP_SETGID";

// --- How it fails ---

/// As an ordinary user, also where the test is root.
fn ordinary(scenario: Scenario) -> Scenario {
    match sys::effective_user() {
        0 => scenario.as_user(65534, 65534),
        _ => scenario,
    }
}

fn launcher_errors(run: &Run) -> usize {
    count(run, |message| matches!(message, Message::LauncherFailed(_)))
}

fn daemon_errors(run: &Run) -> usize {
    count(run, |message| matches!(message, Message::DaemonFailed(_)))
}

fn count(run: &Run, mut is_one: impl FnMut(&Message) -> bool) -> usize {
    run.messages()
        .iter()
        .filter(|frame| is_one(&frame.message))
        .count()
}

/// Under `start` the launcher alone hears of it, once.
#[track_caller]
fn fails_under_start(scenario: &Scenario) -> StartError {
    let run = scenario.launch();
    let error = run.launcher_error();
    run.assert_nothing_left();
    assert_eq!(run.launcher().output.stdout, b"");
    assert_eq!((launcher_errors(&run), daemon_errors(&run)), (1, 0));
    error
}

/// Under `execute`, where there was a daemon, it hears the same, and can go
/// on with what it had before the start.
#[track_caller]
fn fails_under_execute(scenario: &Scenario) -> StartError {
    let scenario = scenario.clone().entry(Entry::Execute);
    let run = scenario.life(Life::UntilToldEvenIfFailed).launch();
    let error = run.launcher_error();
    assert_eq!(run.daemon_error(), error);
    let daemon = run.observe();
    run.assert_nothing_left_but(&[daemon.pid]);
    let numbers = |report: tester::report::Report| {
        let descriptors = report.descriptors.into_iter().flatten();
        descriptors.map(|one| one.number).collect::<Vec<_>>()
    };
    assert_eq!(numbers(daemon), numbers(run.initial()));
    run.tell(&Command::Exit(0));
    run.wait_until_all_ended();
    assert_eq!((launcher_errors(&run), daemon_errors(&run)), (1, 1));
    error
}

/// A failure of the daemon's.
#[track_caller]
fn assert_fails(scenario: &Scenario, expected: &StartError) {
    assert_eq!(&fails_under_start(scenario), expected);
    assert_eq!(&fails_under_execute(scenario), expected);
}

/// A failure before there is a daemon, or with which it ends.
#[track_caller]
fn assert_fails_in_the_launcher(scenario: &Scenario, expected: &StartError) {
    for entry in [Entry::Start, Entry::Execute] {
        let scenario = scenario.clone().entry(entry);
        assert_eq!(&fails_under_start(&scenario), expected, "{entry:?}");
    }
}

// --- Every kind of error that plain input provokes ---

fn a_missing_working_directory_is_told() {
    let scenario = scenario!().working_directory("missing");
    let text = "cannot change to directory missing";
    let expected = because("ChangeDirectory", libc::ENOENT, Some("missing"), text);
    assert_fails(&scenario, &expected);
}

fn a_working_directory_that_is_a_file_is_told() {
    let scenario = scenario!().working_directory("/dev/null");
    let text = "cannot change to directory /dev/null";
    let expected = because("ChangeDirectory", libc::ENOTDIR, Some("/dev/null"), text);
    assert_fails(&scenario, &expected);
}

fn a_pid_file_that_cannot_be_opened_is_told() {
    let path = "missing/daemon.pid";
    let scenario = scenario!().pid_file(path);
    let text = "cannot open pid file missing/daemon.pid";
    let mut expected = because("OpenPidfile", libc::ENOENT, Some(path), text);
    let missing = scenario.path("missing");
    expected.text += &format!(": its directory {} does not exist", missing.display());
    assert_fails(&scenario, &expected);
}

fn a_pid_file_that_is_a_directory_is_told() {
    let scenario = scenario!().pid_file("folder");
    scenario.create_folder("folder");
    let error = fails_under_start(&scenario);
    assert_eq!(error, fails_under_execute(&scenario));
    assert_eq!(error.kind, format!("OpenPidfile({})", libc::EISDIR));
    assert_eq!(error.path, Some("folder".into()));
}

fn a_missing_root_is_told() {
    let scenario = scenario!().chroot("missing").pid_file("daemon.pid");
    let text = "cannot change root directory to missing";
    let expected = because("Chroot", libc::ENOENT, Some("missing"), text);
    assert_fails(&scenario, &expected);
}

fn an_ordinary_user_who_wants_another_root_is_told() {
    let scenario = ordinary(scenario!()).chroot("/").pid_file("daemon.pid");
    let text = "cannot change root directory to /";
    let takes = takes("changing the root directory", "CAP_SYS_CHROOT");
    assert_fails(
        &scenario,
        &refused(&scenario, "Chroot", Some("/"), text, &takes),
    );
}

fn an_ordinary_user_who_gives_the_pid_file_away_is_told() {
    let path = "daemon.pid";
    let scenario = ordinary(scenario!())
        .pid_file(path)
        .chown_pid_file_user(0_u32);
    let text = "cannot change owner of pid file daemon.pid";
    let takes = takes("changing the owner of a file", "CAP_CHOWN");
    let expected = refused(&scenario, "ChownPidfile", Some(path), text, &takes);
    assert_fails(&scenario, &expected);
}

/// Which of root's ids is refused first depends on the groups one has.
fn an_ordinary_user_who_wants_to_be_root_is_told() {
    let scenario = ordinary(scenario!()).user(0_u32).pid_file("daemon.pid");
    let error = fails_under_start(&scenario);
    assert_eq!(error, fails_under_execute(&scenario));
    assert_eq!(error.errno, Some(libc::EPERM));
    assert!(
        ["SetSupplementaryGroups", "SetGroup"].contains(&error.kind_name()),
        "{error}"
    );
    let takes = takes("becoming user 0", TO_BECOME);
    assert!(error.text.ends_with(&takes), "{error}");
}

fn an_ordinary_user_who_wants_another_group_is_told() {
    let scenario = ordinary(scenario!()).group(7301_u32).pid_file("daemon.pid");
    let text = "cannot change to group 7301";
    let takes = takes("becoming group 7301", TO_BECOME);
    assert_fails(
        &scenario,
        &refused(&scenario, "SetGroup", None, text, &takes),
    );
}

/// There may well be no group of the user's name.
fn an_ordinary_user_who_wants_another_users_group_is_told_whose_it_is() {
    let scenario = ordinary(scenario!()).user(0_u32).pid_file("daemon.pid");
    let scenario = scenario.supplementary_groups(SupplementaryGroups::Keep);
    let text = "cannot change to group of user 0";
    let takes = takes("becoming user 0", TO_BECOME);
    assert_fails(
        &scenario,
        &refused(&scenario, "SetGroup", None, text, &takes),
    );
}

fn an_ordinary_user_who_wants_another_uid_is_told() {
    let scenario = ordinary(scenario!()).user(7302_u32).group(65534_u32);
    let text = "cannot change to user 7302";
    let takes = takes("becoming user 7302", TO_BECOME);
    let expected = refused(&scenario, "SetUser", None, text, &takes);
    assert_fails(&scenario.pid_file("daemon.pid"), &expected);
}

fn an_unknown_user_or_group_is_told() {
    let expected = plain("UserNotFound", None, "unknown user no-such-user");
    assert_fails_in_the_launcher(&scenario!().user("no-such-user"), &expected);
    let expected = plain("GroupNotFound", None, "unknown group no-such-group");
    assert_fails_in_the_launcher(&scenario!().group("no-such-group"), &expected);
    // A name is a name, also one of digits.
    let expected = plain("UserNotFound", None, "unknown user 4294967295");
    assert_fails_in_the_launcher(&scenario!().user("4294967295"), &expected);
    let expected = plain("UserNotFound", None, "unknown user ");
    assert_fails_in_the_launcher(&scenario!().user(""), &expected);
}

fn an_unknown_user_or_group_of_the_pid_file_is_told() {
    let scenario = || scenario!().pid_file("daemon.pid");
    let expected = plain("UserNotFound", None, "unknown user no-such-user");
    let by_user = scenario().chown_pid_file_user("no-such-user");
    assert_fails_in_the_launcher(&by_user, &expected);
    let expected = plain("GroupNotFound", None, "unknown group no-such-group");
    let by_group = scenario().chown_pid_file_group("no-such-group");
    assert_fails_in_the_launcher(&by_group, &expected);
}

fn a_number_without_an_entry_needs_a_group() {
    let text = "no group set, and no entry in the database for user 2000000011";
    let expected = plain("PrimaryGroupUnknown", None, text);
    assert_fails_in_the_launcher(&scenario!().user(2_000_000_011_u32), &expected);
}

fn the_id_that_means_unchanged_is_refused() {
    let unchanged = u32::MAX;
    let pid_file = scenario!().pid_file("daemon.pid");
    for (scenario, kind) in [
        (scenario!().user(unchanged), "SetUser"),
        (scenario!().group(unchanged), "SetGroup"),
        (
            pid_file.clone().chown_pid_file_user(unchanged),
            "ChownPidfile",
        ),
        (pid_file.chown_pid_file_group(unchanged), "ChownPidfile"),
    ] {
        let error = fails_under_start(&scenario);
        assert_eq!(error.kind, format!("{kind}({})", libc::EINVAL));
        assert!(error.text.contains("4294967295"), "{error}");
        assert_fails_in_the_launcher(&scenario, &error);
    }
}

fn a_nul_in_a_path_is_refused() {
    let path = || Bytes(b"a\0b".to_vec());
    let expected = plain("PathContainsNul", Some("a\0b"), "NUL byte in path a\\u{0}b");
    assert_fails_in_the_launcher(&scenario!().working_directory(path()), &expected);
    assert_fails_in_the_launcher(&scenario!().chroot(path()), &expected);
    // The harness cannot look at such a pid file either.
    for entry in [Entry::Start, Entry::Execute] {
        let mut scenario = scenario!().entry(entry).pid_file(path());
        scenario.config.initial.working_directory = Some("/".into());
        let run = scenario.launch();
        let error = run.message("the launcher's error", |frame| match &frame.message {
            Message::LauncherFailed(error) => Some(error.clone()),
            _ => None,
        });
        assert_eq!(error, expected);
    }
}

fn a_nul_in_a_name_is_refused() {
    let user = plain("UserContainsNul", None, "NUL byte in user name a\\u{0}b");
    assert_fails_in_the_launcher(&scenario!().user("a\0b"), &user);
    assert_fails_in_the_launcher(&scenario!().chown_pid_file_user("a\0b"), &user);
    let group = plain("GroupContainsNul", None, "NUL byte in group name a\\u{0}b");
    assert_fails_in_the_launcher(&scenario!().group("a\0b"), &group);
    assert_fails_in_the_launcher(&scenario!().chown_pid_file_group("a\0b"), &group);
}

// --- The lock ---

/// The second start's error, and what the file still says.
#[track_caller]
fn locked_out(scenario: &Scenario, expected: &StartError) {
    let run = scenario.launch();
    assert_eq!(&run.launcher_error(), expected);
    run.wait_until_all_ended();
    assert_eq!((launcher_errors(&run), daemon_errors(&run)), (1, 0));
    assert!(
        run.launcher().living().next().is_none(),
        "{}",
        run.account()
    );

    let run = scenario.clone().entry(Entry::Execute).launch();
    assert_eq!(&run.launcher_error(), expected);
    assert_eq!(&run.daemon_error(), expected);
}

fn a_lock_held_by_a_running_daemon_is_told() {
    let scenario = scenario!().pid_file("daemon.pid");
    let run = scenario.start();
    let pid = run.report().pid;
    let before = run.pid_file();
    let text = format!("cannot lock pid file daemon.pid: held by running daemon {pid}");
    let expected = StartError {
        running_pid: Some(pid),
        ..with_text("LockPidfile", libc::EWOULDBLOCK, Some("daemon.pid"), &text)
    };
    locked_out(&scenario, &expected);
    assert_eq!(run.pid_file(), before);
    assert_eq!(run.observe().pid, pid);
}

fn a_lock_held_by_a_starting_daemon_is_told() {
    let scenario = scenario!().pid_file("daemon.pid");
    let starting = scenario.clone().privileged_action([Step::Hold]).launch();
    starting.held();
    let pid = starting.held().pid;
    let text = format!("cannot lock pid file daemon.pid: held by daemon {pid}, which is starting");
    let expected = with_text("LockPidfile", libc::EWOULDBLOCK, Some("daemon.pid"), &text);
    locked_out(&scenario, &expected);
    starting.proceed();
    starting.launcher().assert().success();
    let content = format!("{}\n", starting.report().pid);
    assert_eq!(starting.pid_file().unwrap().bytes, content.as_bytes());
}

fn a_lock_held_by_a_mere_worker_is_told_without_a_pid() {
    let scenario = scenario!().pid_file("daemon.pid");
    let with_worker = scenario.clone().privileged_action([Step::ForkWorker]);
    let run = with_worker.start();
    run.kill_daemon();
    let text = "cannot lock pid file daemon.pid: held by another process";
    let expected = with_text("LockPidfile", libc::EWOULDBLOCK, Some("daemon.pid"), text);
    locked_out(&scenario, &expected);
}

// --- The pid ---

/// A pid file that cannot grow past `size`. The launcher's own error goes to
/// a pipe, which is no file in that sense.
fn with_room_for(size: u64) -> Scenario {
    let scenario = scenario!().pid_file("daemon.pid").piped();
    scenario.from_state(|state| {
        state.limit_file_size = Some(size);
        state.dispositions = vec![(libc::SIGXFSZ, Disposition::Ignore)];
    })
}

fn a_pid_that_cannot_be_written_is_told() {
    let text = "cannot write pid file daemon.pid";
    let expected = because("WritePid", libc::EFBIG, Some("daemon.pid"), text);
    assert_fails_in_the_launcher(&with_room_for(0), &expected);
}

fn a_pid_written_in_part_is_told() {
    let text = "cannot write the whole pid to pid file daemon.pid";
    let expected = plain("WritePidUnspecifiedError", Some("daemon.pid"), text);
    assert_fails_in_the_launcher(&with_room_for(1), &expected);
}

// --- The order ---

type Fault = (&'static [&'static str], fn(&mut Config));

/// In the order of the crate's documentation. Each overrides what a later one
/// sets in its place.
const FAULTS: &[Fault] = &[
    (&["PathContainsNul"], |config| {
        config.options.chroot = Some(Bytes(b"\0".to_vec()));
    }),
    (&["UserContainsNul"], |config| {
        config.options.chown_pid_file_user = Some("\0".into());
    }),
    (&["GroupContainsNul"], |config| {
        config.options.chown_pid_file_group = Some("\0".into());
    }),
    (&["UserNotFound"], |config| {
        config.options.user = Some("no-such-user".into());
    }),
    (&["GroupNotFound"], |config| {
        config.options.group = Some("no-such-group".into());
    }),
    (&["MultiThreaded"], |config| {
        config.initial.extra_threads = 1
    }),
    (&["ChangeDirectory"], |config| {
        config.options.working_directory = Some("missing".into());
    }),
    (&["OpenPidfile"], |config| {
        config.options.pid_file = Some("missing/daemon.pid".into());
    }),
    (&["ChownPidfile"], |config| {
        config.options.chown_pid_file_user = Some(0.into());
    }),
    (&["Panicked"], |config| {
        config.privileged_action = Some(vec![Step::Panic("panic".to_owned())]);
    }),
    (&["Chroot"], |config| {
        config.options.chroot = Some("missing".into());
    }),
    // Which of them depends on the groups one has.
    (&["SetSupplementaryGroups", "SetGroup"], |config| {
        config.options.user = Some(0.into());
    }),
    (&["WritePid"], |config| {
        config.initial.limit_file_size = Some(0)
    }),
];

fn the_first_of_several_failures_is_the_one_told() {
    for first in 0..FAULTS.len() {
        let mut scenario = ordinary(with_room_for(100));
        scenario = scenario.entry(Entry::StartChecked);
        for (_, break_it) in FAULTS[first..].iter().rev() {
            break_it(&mut scenario.config);
        }
        let (kinds, _) = FAULTS[first];
        let error = fails_under_start(&scenario);
        assert!(kinds.contains(&error.kind_name()), "{kinds:?}: {error}");
    }
    // So it was each of them that failed.
    ordinary(with_room_for(100)).start();
}

fn a_locked_pid_file_is_told_before_what_comes_later() {
    let scenario = scenario!().pid_file("daemon.pid");
    let _running = scenario.start();
    let steps = [Step::Panic("never reached".to_owned())];
    let run = scenario.chroot("missing").privileged_action(steps).launch();
    assert_eq!(run.launcher_error().kind_name(), "LockPidfile");
}

// --- What a lack of processes or descriptors does ---

fn a_refused_first_fork_is_told() {
    let scenario = ordinary(scenario!()).from_state(|state| state.limit_processes = Some(1));
    let expected = because("Fork", libc::EAGAIN, None, "cannot fork");
    assert_fails_in_the_launcher(&scenario.pid_file("daemon.pid"), &expected);
}

/// A user whom nobody else is, so that the launcher is its only process.
fn lonely(limit: u64) -> Scenario {
    static USERS: AtomicU32 = AtomicU32::new(0);
    let number = USERS.fetch_add(1, Ordering::Relaxed);
    let uid = 1_000_000_000 + 100 * std::process::id() + number;
    let scenario = scenario!().as_user(uid, uid).pid_file("daemon.pid");
    scenario.from_state(|state| state.limit_processes = Some(limit))
}

#[track_caller]
fn assert_second_fork_is_refused(change: fn(Scenario) -> Scenario) {
    let expected = because("Fork", libc::EAGAIN, None, "cannot fork");
    for entry in [Entry::Start, Entry::Execute] {
        let scenario = change(lonely(2).entry(entry));
        assert_eq!(fails_under_start(&scenario), expected, "{entry:?}");
    }
}

fn a_refused_second_fork_is_told_and_clears_the_pid_file() {
    assert_second_fork_is_refused(|scenario| scenario);
    // It was the second, since there was an intermediate to make the file.
    let run = lonely(2).launch();
    run.launcher_error();
    assert!(run.launcher().pid_file.is_some_and(|file| !file.locked));
    lonely(3).start();
}

fn a_refused_second_fork_is_told_before_the_first_steps_failures() {
    assert_second_fork_is_refused(|scenario| scenario.working_directory("missing"));
    assert_second_fork_is_refused(|scenario| scenario.pid_file("missing/daemon.pid"));
    let error = fails_under_start(&lonely(3).working_directory("missing"));
    assert_eq!(error.kind_name(), "ChangeDirectory");
}

/// The kinds of error with few descriptors left to open, then with one more,
/// and so on until there are enough.
#[track_caller]
fn kinds_with_few_descriptors(scenario: &Scenario) -> Vec<String> {
    let used = scenario!().launch().initial().descriptor_numbers();
    let free = (0..).filter(|number| !used.contains(number));
    let mut kinds = Vec::new();
    // The tester needs two for itself.
    for first_not_to_be_had in free.skip(2) {
        let limit = u64::try_from(first_not_to_be_had).unwrap();
        let scenario = scenario.clone();
        let run = scenario
            .from_state(|state| state.limit_descriptors = Some(limit))
            .launch();
        if run.launcher().output.status.success() {
            run.report();
            break;
        }
        let error = run.launcher_error();
        run.assert_nothing_left();
        assert_eq!(error.errno, Some(libc::EMFILE), "{limit}: {error}");
        kinds.push(error.kind_name().to_owned());
    }
    kinds.dedup();
    kinds
}

fn a_lack_of_descriptors_is_told_wherever_it_strikes() {
    let kinds = kinds_with_few_descriptors(&scenario!().pid_file("daemon.pid"));
    assert_eq!(kinds, ["Channel", "OpenPidfile"]);
}

// --- Threads ---

fn another_thread_is_refused_by_the_checked_starts() {
    let names = if cfg!(target_os = "linux") {
        " (tester, tester)"
    } else {
        ""
    };
    let text = format!(
        "cannot fork safely: the process has more than one thread: 2{names}; \
         {THREADS_COME_LATER}"
    );
    let expected = plain("MultiThreaded", None, &text);
    for entry in [Entry::StartChecked, Entry::ExecuteChecked] {
        let scenario = scenario!().entry(entry).pid_file("daemon.pid");
        let scenario = scenario.from_state(|state| state.extra_threads = 1);
        assert_eq!(fails_under_start(&scenario), expected);
    }
}

const THREADS_COME_LATER: &str = "start the daemon first, and make threads and async runtimes \
    after it (#[tokio::main] makes them before)";

fn many_threads_are_counted_and_some_of_them_named() {
    let scenario = scenario!().entry(Entry::StartChecked);
    let scenario = scenario.from_state(|state| state.extra_threads = 99);
    let names = ["tester"; 8].join(", ");
    let text = format!(
        "cannot fork safely: the process has more than one thread: 100 ({names}, ...); \
         {THREADS_COME_LATER}"
    );
    let expected = plain("MultiThreaded", None, &text);
    assert_eq!(fails_under_start(&scenario), expected);
}

fn another_thread_is_accepted_by_the_unchecked_starts() {
    for entry in [Entry::Start, Entry::Execute] {
        let scenario = scenario!().entry(entry);
        let run = scenario.from_state(|state| state.extra_threads = 1).start();
        assert!(run.initial().threads.is_none_or(|threads| threads == 2));
        assert!(run.report().threads.is_none_or(|threads| threads == 1));
    }
}

fn a_joined_thread_is_not_counted() {
    for entry in [Entry::StartChecked, Entry::ExecuteChecked] {
        for _ in 0..10 {
            let scenario = scenario!().entry(entry);
            scenario
                .from_state(|state| state.joined_threads = 8)
                .start();
        }
    }
}

// --- What the privileged action may do ---

fn with_action(steps: impl Into<Vec<Step>>) -> Scenario {
    scenario!().pid_file("daemon.pid").privileged_action(steps)
}

fn a_panic_is_told_with_its_text() {
    let scenario = with_action([Step::Panic("two\nlines \x1b[2J".to_owned())]);
    let text = "panic:\n    two\n    lines \\u{1b}[2J";
    let expected = plain("Panicked", None, text);
    assert_fails(&scenario, &expected);
}

fn a_panics_text_is_cut_at_two_kibibytes() {
    for (character, kept) in [('x', 2048), ('€', 2048 / 3)] {
        let long = character.to_string().repeat(100_000);
        let text = format!("panic: {}", character.to_string().repeat(kept));
        let error = fails_under_start(&with_action([Step::Panic(long)]));
        assert_eq!(error, plain("Panicked", None, &text));
    }
}

/// Why the daemon has said nothing.
const NO_MESSAGES: &str = "its standard error is /dev/null: set `stderr` to see its messages";

/// The launcher's error for a daemon that ended like this.
fn ended(status: ExitStatus) -> StartError {
    let text = format!("the daemon ended before it was ready ({status}); {NO_MESSAGES}");
    StartError {
        daemon_exit_status: Some(status.into_raw()),
        ..plain("DaemonExited", None, &text)
    }
}

fn an_action_that_exits_is_told_with_its_status() {
    for status in [0, 1, 3, 255] {
        let expected = ended(ExitStatus::from_raw(status << 8));
        assert_fails_in_the_launcher(&with_action([Step::Exit(status)]), &expected);
    }
}

fn an_action_that_is_killed_is_told_with_its_signal() {
    for (step, signal) in [
        (Step::KillItself(libc::SIGKILL), libc::SIGKILL),
        (Step::KillItself(libc::SIGTERM), libc::SIGTERM),
        (Step::KillItself(libc::SIGUSR1), libc::SIGUSR1),
        (Step::Abort, libc::SIGABRT),
    ] {
        for entry in [Entry::Start, Entry::Execute] {
            let error = fails_under_start(&with_action([step.clone()]).entry(entry));
            let status = ExitStatus::from_raw(error.daemon_exit_status.unwrap());
            assert_eq!(status.signal(), Some(signal));
            assert_eq!(error, ended(status));
        }
    }
}

fn a_death_is_reported_without_a_hint_where_standard_error_is_a_file() {
    for stream in [Stream::Keep, Stream::append("log")] {
        let scenario = with_action([Step::Exit(3)]).stderr(stream);
        let text = "the daemon ended before it was ready (exit status: 3)";
        assert_eq!(fails_under_start(&scenario).text, text);
    }
    let status = ExitStatus::from_raw(3 << 8);
    let scenario = with_action([Step::Exit(3)]).stderr(Stream::DevNull);
    assert_eq!(fails_under_start(&scenario), ended(status));
}

/// Nobody else's signal is to blame.
fn a_daemon_that_executes_another_program_is_reported_as_such() {
    let sleep = Step::Execute(vec!["sleep".into(), "60".into()]);
    assert_disconnected(&[sleep]);
}

fn a_daemon_that_closes_its_connection_is_reported_as_such() {
    assert_disconnected(&[Step::CloseSockets, Step::Hold]);
}

#[track_caller]
fn assert_disconnected(steps: &[Step]) {
    let text = "the daemon ended before it was ready: it closed its connection to the launcher, \
                as a daemon does that executes another program or closes every descriptor; \
                the library then terminated it";
    let expected = plain("DaemonExited", None, text);
    let action = with_action(steps);
    let initialization = scenario!().pid_file("daemon.pid").initialize(steps);
    for scenario in [action, initialization] {
        // One that ignores SIGTERM is killed, which is nobody else's doing either.
        for sigterm in [Disposition::Default, Disposition::Ignore] {
            let scenario = scenario.clone();
            let scenario =
                scenario.from_state(|state| state.dispositions.push((libc::SIGTERM, sigterm)));
            assert_fails_in_the_launcher(&scenario, &expected);
        }
    }
}

fn a_status_of_its_own_wins_over_the_closed_connection() {
    let steps = [Step::CloseSockets, Step::Exit(3)];
    let expected = ended(ExitStatus::from_raw(3 << 8));
    assert_fails_in_the_launcher(&with_action(steps), &expected);
    let exits = Step::Execute(vec!["sh".into(), "-c".into(), "exit 3".into()]);
    assert_fails_in_the_launcher(&with_action([exits]), &expected);
}

fn worker(run: &Run) -> u32 {
    run.message("the worker", |frame| match frame.message {
        Message::Worker(pid) => Some(pid),
        _ => None,
    })
}

/// The worker stays until this test is done: had the launcher waited for it,
/// it would still wait.
fn a_death_is_told_at_once_though_a_worker_holds_everything() {
    for end in [Step::Exit(3), Step::KillItself(libc::SIGKILL), Step::Abort] {
        for entry in [Entry::Start, Entry::Execute] {
            let run = with_action([Step::ForkWorker, end.clone()])
                .entry(entry)
                .launch();
            assert_eq!(run.launcher_error().kind, "DaemonExited");
            run.assert_nothing_left_but(&[worker(&run)]);
            let left = run.living();
            assert_eq!(left, [worker(&run)]);
        }
    }
}

fn a_failure_is_told_at_once_though_a_worker_holds_everything() {
    for scenario in [
        with_action([Step::ForkWorker, Step::Panic("panic".to_owned())]),
        with_action([Step::ForkWorker]).chroot("missing"),
    ] {
        let run = scenario.launch();
        assert!(["Panicked", "Chroot"].contains(&run.launcher_error().kind_name()));
        run.assert_nothing_left_but(&[worker(&run)]);
        // So that the file can be had again.
        let mut next = scenario.clone();
        next.config.privileged_action = None;
        next.config.options.chroot = None;
        next.start();
    }
}

fn a_closure_that_returns_twice_makes_one_daemon() {
    for entry in [Entry::Start, Entry::Execute] {
        let run = with_action([Step::ForkTwice, Step::WitnessResult])
            .entry(entry)
            .start();
        let daemon = run.report().pid;
        let content = format!("{daemon}\n");
        assert_eq!(run.pid_file().unwrap().bytes, content.as_bytes());
        run.exit(0);
        // The copy has ended, too, and has never been returned to.
        let is_daemon = |message: &Message| matches!(message, Message::Daemon(_));
        assert_eq!(count(&run, is_daemon), 1);
        assert_eq!((launcher_errors(&run), daemon_errors(&run)), (0, 0));
    }
}

fn a_closure_that_panics_twice_is_told_once() {
    let steps = [Step::ForkTwice, Step::Panic("panic".to_owned())];
    for entry in [Entry::Start, Entry::Execute] {
        let run = with_action(steps.clone()).entry(entry).launch();
        assert_eq!(run.launcher_error().kind, "Panicked");
        run.wait_until_all_ended();
        let in_daemon = usize::from(entry == Entry::Execute);
        assert_eq!((launcher_errors(&run), daemon_errors(&run)), (1, in_daemon));
    }
}

// --- What becomes of results and captures ---

/// Who has sent such a message, in order.
fn senders(run: &Run, message: &Message) -> Vec<u32> {
    let frames = run.messages();
    let such = frames.iter().filter(|frame| frame.message == *message);
    such.map(|frame| frame.sender).collect()
}

fn a_result_is_dropped_before_the_launcher_returns() {
    for entry in [Entry::Start, Entry::Execute] {
        let scenario = with_action([Step::Observe, Step::WitnessResult]);
        let run = scenario.chroot("missing").entry(entry).launch();
        run.launcher_error();
        run.wait_until_all_ended();
        let dropped_by = senders(&run, &Message::ResultDropped);
        assert_eq!(dropped_by, [run.observed().pid], "{entry:?}");
        let position = |is_it: fn(&Message) -> bool| {
            let frames = run.messages();
            frames.iter().position(|frame| is_it(&frame.message))
        };
        assert!(
            position(|message| *message == Message::ResultDropped)
                < position(|message| matches!(message, Message::LauncherFailed(_)))
        );
    }
}

fn a_socket_that_the_action_opened_is_closed_when_the_launcher_returns() {
    let scenario = with_action([Step::Listen]).chroot("missing");
    for entry in [Entry::Start, Entry::Execute] {
        let scenario = scenario.clone().entry(entry);
        let run = scenario.life(Life::UntilToldEvenIfFailed).launch();
        assert_eq!(run.launcher_error().kind_name(), "Chroot");
        let error = TcpStream::connect(("127.0.0.1", run.port())).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    }
}

fn witnessed(entry: Entry) -> Run {
    let mut scenario = with_action([]).entry(entry);
    scenario.config.witness_capture = true;
    let run = scenario.start();
    run.exit(0);
    run
}

fn captures_are_dropped_by_start_in_the_daemon_only() {
    for entry in [Entry::Start, Entry::StartChecked] {
        let run = witnessed(entry);
        let dropped_by = senders(&run, &Message::CaptureDropped);
        assert_eq!(dropped_by, [run.report().pid]);
    }
}

fn captures_are_dropped_by_execute_in_both() {
    for entry in [Entry::Execute, Entry::ExecuteChecked] {
        let run = witnessed(entry);
        let mut dropped_by = senders(&run, &Message::CaptureDropped);
        dropped_by.sort_unstable();
        let mut both = [run.report().pid, run.launcher_pid()];
        both.sort_unstable();
        assert_eq!(dropped_by, both);
    }
}

// --- A start within a start ---

const ENTRIES: [Entry; 4] = [
    Entry::Start,
    Entry::StartChecked,
    Entry::Execute,
    Entry::ExecuteChecked,
];

fn start_refused(run: &Run) -> StartError {
    run.message("the refusal", |frame| match &frame.message {
        Message::StartRefused(error) => Some(error.clone()),
        _ => None,
    })
}

/// A daemon that it started would be acknowledged, and then end, as the copy of
/// a closure does that returns twice.
fn a_start_within_a_closure_is_refused() {
    let text = "cannot start a daemon within the start of another: \
                a closure of that start is running";
    let expected = plain("StartWithinStart", None, text);
    for entry in ENTRIES {
        for foreground in [Foreground::No, Foreground::Yes] {
            let start = || [Step::StartAnother(entry, foreground)];
            for scenario in [
                with_action(start()),
                scenario!().try_privileged_action(start()),
                scenario!().initialize(start()),
                scenario!().foreground(Foreground::Yes).initialize(start()),
            ] {
                let run = scenario.launch();
                run.report();
                assert_eq!(start_refused(&run), expected, "{entry:?} {foreground:?}");
                let daemons = count(&run, |message| matches!(message, Message::Daemon(_)));
                assert_eq!(daemons, 1);
            }
        }
    }
}

/// The launcher of the other is the daemon of this one, which is not ready yet:
/// were it to exit, this start would fail, although there is a daemon.
fn a_start_before_ready_is_refused_where_the_launcher_would_exit() {
    let text = "cannot start a daemon within the start of another: \
                this process has not reported yet that it is ready itself; `execute` can";
    let expected = plain("StartWithinStart", None, text);
    for entry in [Entry::Start, Entry::StartChecked] {
        let steps = [Step::StartAnother(entry, Foreground::No)];
        let deferral = Deferral::new(steps, ReadinessUse::Ready);
        for scenario in [scenario!(), scenario!().foreground(Foreground::Yes)] {
            let run = scenario.deferred_readiness(deferral.clone()).launch();
            run.report();
            assert_eq!(start_refused(&run), expected, "{entry:?}");
        }
    }
}

fn an_execute_before_ready_starts_another_daemon() {
    let mut deferral = Deferral::new([], ReadinessUse::Ready);
    deferral.in_another = Some(AnotherStart::default());
    let run = scenario!().deferred_readiness(deferral).start();
    let other = run.observed();
    assert_ne!(other.pid, run.report().pid);
    // The daemon says so only after its report.
    run.message("the acknowledgement", |frame| {
        (frame.message == Message::Acknowledged).then_some(())
    });
}

fn a_start_after_the_start_is_not_refused() {
    for scenario in [scenario!(), scenario!().foreground(Foreground::Yes)] {
        let deferral = Deferral::new([], ReadinessUse::Ready);
        for scenario in [scenario.clone(), scenario.deferred_readiness(deferral)] {
            let run = scenario.launch();
            run.report();
            run.tell(&Command::StartAnother(AnotherStart {
                by_start: true,
                ..AnotherStart::default()
            }));
            assert_ne!(run.observed().pid, run.report().pid);
        }
    }
}

// --- What is left ---

/// As `Outcome::Parent(Err(error)) | Outcome::Child(Err(error)) => eprintln!(..)`
/// does.
fn a_failure_is_printed_once_though_both_processes_print_it() {
    let cases = [
        (scenario!().working_directory("missing"), "ChangeDirectory"),
        (scenario!().pid_file("missing/daemon.pid"), "OpenPidfile"),
        (with_action([Step::Panic("panic".to_owned())]), "Panicked"),
        (with_action([]).chroot("missing"), "Chroot"),
    ];
    let keep = |scenario: Scenario| {
        let mut scenario = scenario.stderr(Stream::Keep);
        scenario.config.end_failed_daemon = true;
        // What Rust prints of a panic is the program's own.
        let silent = Some(PanicHook::Silent);
        scenario.from_state(|state| state.panic_hook = silent)
    };
    for (scenario, kind) in cases {
        for (mut scenario, told) in [(scenario.clone(), 1), (keep(scenario), 0)] {
            scenario.config.failed_daemon_prints = true;
            for entry in [Entry::Execute, Entry::ExecuteChecked] {
                let run = scenario.clone().entry(entry).launch();
                let error = run.launcher_error();
                assert_eq!(error.kind_name(), kind);
                run.wait_until_all_ended();
                assert_eq!(daemon_errors(&run), told);
                let line = format!("tester: {}\n", error.text);
                run.launcher().assert().stderr(line);
            }
        }
    }
}

fn a_failed_process_writes_nothing_and_runs_no_exit_handler() {
    for scenario in [
        scenario!().working_directory("missing"),
        with_action([Step::Panic("panic".to_owned())]).stderr(Stream::DevNull),
        with_action([]).chroot("missing"),
    ] {
        let scenario = scenario.stdout(Stream::Keep).from_state(|state| {
            state.at_exit_handler = true;
            state.unflushed_rust = Some("std's\n".to_owned());
            state.unflushed_c = Some("C's\n".to_owned());
        });
        let run = scenario.launch();
        run.launcher_error();
        run.assert_nothing_left();
        run.launcher().assert().stdout("std's\nC's\n");
        assert_eq!(senders(&run, &Message::AtExit), [run.launcher_pid()]);
    }
}

fn no_zombie_is_left() {
    for end in [
        Step::Exit(0),
        Step::KillItself(libc::SIGKILL),
        Step::Panic("panic".to_owned()),
    ] {
        let run = with_action([Step::Observe, end]).launch();
        run.launcher_error();
        let observed = run.observed();
        for pid in [observed.pid, observed.ppid] {
            assert_eq!(run.launcher().process(pid), None, "{}", run.account());
        }
    }
}

/// The daemon of a subreaper becomes its child when the intermediate is gone.
fn whoever_the_launcher_has_for_children_is_reaped() {
    let time = Duration::from_secs(1);
    let mut scenario = with_action([Step::Hold]).startup_timeout(time);
    scenario.config.report_afterwards = true;
    let scenario = scenario.from_state(|state| state.subreaper = true);
    let ways: [fn(&Run); 3] = [
        Run::kill_held,
        Run::kill_intermediate,
        // Whom the launcher then kills itself.
        |run| sys::kill(run.held().ppid, libc::SIGSTOP).unwrap(),
    ];
    for end in ways {
        let run = scenario.launch();
        run.held();
        end(&run);
        run.launcher_error();
        run.wait_until_all_ended();
        let frames = run.messages();
        let said = |message: &Message| frames.iter().any(|frame| &frame.message == message);
        let looks = |frame: &Frame| matches!(frame.message, Message::Afterwards(_));
        assert!(frames.iter().any(looks), "{}", run.account());
        for pid in [run.held().pid, run.held().ppid] {
            assert!(!said(&Message::Unreaped(pid)), "{}", run.account());
        }
    }
}

fn the_checked_starts_fail_alike() {
    let scenario = scenario!().working_directory("missing");
    let expected = fails_under_start(&scenario);
    let checked = scenario.clone().entry(Entry::StartChecked);
    assert_eq!(fails_under_start(&checked), expected);
    let run = scenario.entry(Entry::ExecuteChecked).launch();
    assert_eq!(run.launcher_error(), expected);
    assert_eq!(run.daemon_error(), expected);
}
