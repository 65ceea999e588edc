use std::collections::BTreeSet;
use std::panic;

use tester::contest::{Leaving, Meddling};
use tester::harness::Contest;
use tester::prelude::*;
use tester::report::LockedFile;

pub(crate) const CASES: &[Case] = &[
    case!(of_32_launchers_at_most_one_daemon_runs_at_a_time),
    case!(removing_the_locked_file_makes_no_second_daemon),
    case!(replacing_the_file_repeatedly_makes_no_second_lock_holder),
    case!(changing_the_file_type_repeatedly_makes_no_second_lock_holder),
    case!(changing_the_directorys_permissions_repeatedly_makes_no_second_daemon),
    case!(changing_the_directory_and_removing_the_file_makes_no_second_daemon),
    case!(changing_the_directory_and_replacing_the_file_makes_no_second_lock_holder),
    case!(another_user_in_a_sticky_directory_makes_no_second_daemon, needs Root),
];

struct Round {
    daemons: usize,
    errors: Vec<StartError>,
    all_have_meddled: bool,
}

/// Checks what holds in any contest. No two daemons hold the lock of one file. The file
/// contains the pid of its lock holder. Each successful start has its daemon, and each
/// daemon its successful start. Each pid that is reported as running belonged to a
/// daemon.
#[track_caller]
fn compete_once(contest: &Contest, path: &Path, two_may_live: bool) -> Round {
    let pid_file = PidFile::at(path);
    let contested = contest.run(|| pid_file.running().ok().flatten());
    let mut named = contested.found;
    let mut living = Vec::<(u32, LockedFile)>::new();
    let (mut daemons, mut started, mut errors) = (Vec::new(), Vec::new(), Vec::new());
    for Frame { sender, message } in contested.frames {
        match message {
            Message::Holds(file) => {
                assert_eq!(file.bytes, content(sender));
                let is_same = |(_, other): &(u32, LockedFile)| other.place == file.place;
                assert!(!living.iter().any(is_same), "two hold {file:?}: {living:?}");
                if !two_may_live {
                    assert!(living.is_empty(), "{sender} beside {living:?}");
                    assert!(file.is_at_path, "{sender} holds {file:?}");
                }
                daemons.push(sender);
                living.push((sender, file));
            }
            Message::Leaves(file) => {
                let place = living.iter().position(|(pid, _)| *pid == sender);
                let (_, held) = living.remove(place.unwrap());
                assert_eq!((&file.place, &file.bytes), (&held.place, &held.bytes));
                assert!(two_may_live || file.is_at_path, "{sender} lost {file:?}");
            }
            Message::LauncherReturned(result) => started.push(result.daemon_pid),
            Message::LauncherFailed(error) => {
                named.extend(error.running_pid);
                errors.push(error);
            }
            Message::DaemonFailed(_) => {}
            message => panic!("{sender}: {message:?}"),
        }
    }
    assert!(living.is_empty(), "did not end by themselves: {living:?}");
    daemons.sort_unstable();
    started.sort_unstable();
    assert_eq!(daemons, started);
    for pid in named {
        assert!(daemons.contains(&pid), "{pid} was no daemon");
    }
    Round {
        daemons: daemons.len(),
        errors,
        all_have_meddled: contested.all_have_meddled,
    }
}

fn contest(path: &Path) -> Contest {
    Contest::new(tester::tester!(), path)
}

/// Repeats a contest until several daemons have run, and each of these errnos was met.
/// Returns all errors.
#[track_caller]
fn compete(contest: &Contest, path: &Path, two_may_live: bool, errnos: &[i32]) -> Vec<StartError> {
    const TRIES: usize = 10;
    let (mut daemons, mut errors, mut all_have_meddled) = (0, Vec::new(), false);
    let is_met =
        |errors: &[StartError], errno: i32| errors.iter().any(|error| error.errno == Some(errno));
    for _ in 0..TRIES {
        let round = compete_once(contest, path, two_may_live);
        daemons += round.daemons;
        errors.extend(round.errors);
        all_have_meddled |= round.all_have_meddled;
        if daemons > 5 && all_have_meddled && errnos.iter().all(|&errno| is_met(&errors, errno)) {
            return errors;
        }
    }
    let mut missing = errnos.to_vec();
    missing.retain(|&errno| !is_met(&errors, errno));
    let count = errors.len();
    let texts = errors.into_iter().map(|error| error.text);
    panic!(
        "{daemons} daemons, and {missing:?} never met in {count} errors, {:?}; \
         all have meddled: {all_have_meddled}",
        texts.collect::<BTreeSet<_>>()
    );
}

/// Each error has one of these errnos and texts, or names the holder of the lock
/// correctly.
#[track_caller]
fn assert_clear(errors: &[StartError], expected: &[(i32, &str)]) {
    for error in errors {
        if error.kind == format!("LockPidfile({})", libc::EWOULDBLOCK) {
            let text = &error.text;
            let is_true = match error.running_pid {
                Some(pid) => text.ends_with(&format!(": held by running daemon {pid}")),
                None if text.ends_with(", which is starting") => text.contains(": held by daemon "),
                None => {
                    text.ends_with(": held by a daemon that is starting")
                        || text.ends_with(": held by another process")
                }
            };
            assert!(is_true, "{error}");
            continue;
        }
        let is_expected = |(errno, end): &(i32, &str)| {
            error.kind == format!("OpenPidfile({errno})") && error.text.contains(end)
        };
        assert!(expected.iter().any(is_expected), "{error}");
    }
}

/// A start whose pid file is in a directory of its own.
fn with_directory() -> (Scenario, PathBuf) {
    let scenario = scenario!().pid_file("directory/daemon.pid");
    let path = scenario.create_directory("directory").join("daemon.pid");
    (scenario, path)
}

fn of_32_launchers_at_most_one_daemon_runs_at_a_time() {
    let (scenario, path) = with_directory();
    let errors = compete(&contest(&path), &path, false, &[libc::EWOULDBLOCK]);
    assert_clear(&errors, &[]);
    scenario.start().assert_pid_file_complete();
}

const REPLACED: (i32, &str) = (libc::EAGAIN, ": other processes keep replacing it");

/// A daemon that removes its file when it ends does the same.
fn removing_the_locked_file_makes_no_second_daemon() {
    let (scenario, path) = with_directory();
    let contest = contest(&path)
        .meddler(Meddling::RemovesUnlocked, None)
        .meddler(Meddling::RemovesUnlocked, None);
    let errors = compete(&contest, &path, false, &[]);
    assert_clear(&errors, &[REPLACED]);
    scenario.start().assert_pid_file_complete();
}

/// A user who may write to the directory can remove the file of a running daemon. Nothing
/// then keeps a second daemon from starting, but each daemon has a file of its own.
fn replacing_the_file_repeatedly_makes_no_second_lock_holder() {
    let (scenario, path) = with_directory();
    let contest = contest(&path).meddler(Meddling::Replaces, None);
    let errors = compete(&contest, &path, true, &[]);
    assert_clear(&errors, &[REPLACED]);
    scenario.start().assert_pid_file_complete();
}

/// No link was followed. Without the planted file there is a daemon.
#[track_caller]
fn assert_spared(scenario: &Scenario, path: &Path, victim: &Path) {
    assert_eq!(fs::read(victim).unwrap(), b"precious");
    let _ = fs::remove_file(path).or_else(|_| fs::remove_dir(path));
    scenario.start().assert_pid_file_complete();
}

/// Makes the files that are planted later.
fn prepare_to_plant(path: &Path) -> PathBuf {
    let victim = path.with_file_name("victim");
    fs::write(&victim, "precious").unwrap();
    sys::make_fifo(&path.with_file_name("fifo")).unwrap();
    victim
}

fn changing_the_file_type_repeatedly_makes_no_second_lock_holder() {
    let (scenario, path) = with_directory();
    let victim = prepare_to_plant(&path);
    let contest = contest(&path).meddler(Meddling::ChangesType, None);
    let met = [libc::ELOOP, libc::EISDIR, libc::EINVAL];
    let errors = compete(&contest, &path, true, &met);
    let expected = [
        REPLACED,
        (libc::ELOOP, ": it is a symbolic link"),
        (libc::EISDIR, ""),
        (libc::EINVAL, ": it is a FIFO"),
    ];
    assert_clear(&errors, &expected);
    assert_spared(&scenario, &path, &victim);
}

#[track_caller]
fn compete_in_changing_directory(meddling: Option<Meddling>, two_may_live: bool) {
    let (scenario, path) = with_directory();
    let mut contest = contest(&path).meddler(Meddling::ChangesPermissions, None);
    if let Some(meddling) = meddling {
        contest = contest.meddler(meddling, None);
    }
    if sys::effective_user() == 0 {
        let errors = compete(&contest, &path, two_may_live, &[libc::EPERM]);
        let refusal = (libc::EPERM, ": other users can write to its directory");
        assert_clear(&errors, &[REPLACED, refusal]);
    } else {
        let errors = compete(&contest, &path, two_may_live, &[]);
        // The start cannot create the file, which is seldom missing.
        assert_clear(&errors, &[REPLACED, (libc::EACCES, "")]);
    }
    set_mode(path.parent().unwrap(), 0o755);
    scenario.start().assert_pid_file_complete();
}

fn changing_the_directorys_permissions_repeatedly_makes_no_second_daemon() {
    compete_in_changing_directory(None, false);
}

fn changing_the_directory_and_removing_the_file_makes_no_second_daemon() {
    compete_in_changing_directory(Some(Meddling::RemovesUnlocked), false);
}

fn changing_the_directory_and_replacing_the_file_makes_no_second_lock_holder() {
    compete_in_changing_directory(Some(Meddling::Replaces), true);
}

/// This user can plant files, but cannot remove root's.
fn another_user_in_a_sticky_directory_makes_no_second_daemon() {
    let (scenario, path) = with_directory();
    let victim = prepare_to_plant(&path);
    // Not every system refuses a link to the file of another user, which would stay for ever.
    chown(path.with_file_name("fifo"), Some(UID), None).unwrap();
    set_mode(path.parent().unwrap(), 0o1777);
    let contest = contest(&path)
        .leaving(Leaving::Removing)
        .meddler(Meddling::Plants, Some(UID))
        .meddler(Meddling::Plants, Some(UID));
    let met = [libc::EPERM, libc::ELOOP, libc::EISDIR, libc::EINVAL];
    let errors = compete(&contest, &path, false, &met);
    let expected = [
        REPLACED,
        (libc::EPERM, ": it belongs to another user"),
        (libc::ELOOP, ": it is a symbolic link"),
        (libc::EISDIR, ""),
        (libc::EINVAL, ": it is a FIFO"),
    ];
    assert_clear(&errors, &expected);
    assert_spared(&scenario, &path, &victim);
}
