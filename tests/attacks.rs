//! Hostile surroundings: whatever others do to the places that a start uses,
//! and whatever is full, forbidden or moved away, there is a daemon as
//! promised, or a clear error and nothing left.

use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::panic;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use daemonize2::PidFile;
use tester::config::{Bytes, Disposition, Entry, NewFile, OpenDescriptor, Step};
use tester::contest::{Leaving, Meddling};
use tester::control::{Command as Told, Frame, Message};
use tester::crash::Victim;
use tester::harness::{Contest, Until, mount, with_own_mounts};
use tester::report::{HeldFile, Place, StartError};
use tester::sys::{KEEP_CAPS, NO_SETUID_FIXUP};
use tester::{Run, Scenario, case, scenario, suite, sys};

fn main() -> ExitCode {
    suite(&[
        case!(of_32_launchers_no_two_daemons_live_at_a_time),
        case!(removing_the_file_under_its_lock_makes_no_second_daemon),
        case!(replacing_the_file_all_the_time_makes_no_second_holder_of_it),
        case!(changing_what_is_there_all_the_time_makes_no_second_holder_of_it),
        case!(changing_the_folders_permissions_all_the_time_makes_no_second_daemon),
        case!(changing_the_folder_and_removing_the_file_makes_no_second_daemon),
        case!(changing_the_folder_and_replacing_the_file_makes_no_second_holder_of_it),
        case!(a_stranger_in_a_sticky_folder_makes_no_second_daemon, needs Root),
        case!(a_daemon_that_was_broken_into_cannot_write_its_pid_file, needs Root, Linux),
        case!(a_launcher_takes_in_no_descriptor_that_a_daemon_sends, needs Linux),
        case!(a_full_disk_is_told, needs Root, Linux, Mounting),
        case!(a_stale_pid_file_on_a_full_disk_is_taken_over, needs Root, Linux, Mounting),
        case!(a_disk_that_fills_up_during_the_start_is_told, needs Root, Linux, Mounting),
        case!(a_disk_without_free_inodes_is_told, needs Root, Linux, Mounting),
        case!(a_read_only_disk_is_told, needs Root, Linux, Mounting),
        case!(a_limit_of_file_size_is_told_and_kills_nobody),
        case!(a_device_that_is_always_full_is_refused, needs Linux),
        case!(a_folder_without_write_permission_is_told),
        case!(a_pid_file_without_write_permission_is_told),
        case!(a_name_that_is_too_long_is_told),
        case!(an_empty_path_is_told),
        case!(a_file_is_no_folder_whatever_follows_the_slash),
        case!(proc_shows_a_jailed_daemon_nothing_outside, needs Root, Linux, Mounting),
        case!(proc_shows_a_jailed_user_no_other_process, needs Root, Linux, Mounting),
        case!(a_program_that_a_jailed_daemon_runs_finds_nothing_outside, needs Root, Linux, Mounting),
        case!(a_folder_that_the_caller_holds_open_leads_out_unless_closed, needs Root),
        case!(a_jail_that_is_moved_away_during_the_start_is_told, needs Root),
        case!(a_jail_that_is_moved_under_a_daemon_in_it_is_its_root_all_the_same, needs Root),
        case!(jails_that_are_swapped_all_the_time_hold, needs Root),
        case!(secure_bits_keep_no_capability_for_the_daemon, needs Root, Linux),
        case!(a_sigterm_to_a_starting_daemon_is_told),
        case!(a_sigterm_at_any_call_ends_the_start_with_a_true_report, needs Stepping),
        case!(a_handler_runs_in_the_daemon_once_the_library_lets_it, needs Stepping),
        case!(after_a_reset_no_handler_runs_whenever_the_signal_came, needs Stepping),
        case!(a_signal_to_the_intermediate_is_neither_handled_nor_fatal),
        case!(a_signal_to_the_intermediate_at_any_call_is_neither_handled_nor_fatal, needs Stepping),
    ])
}

/// Ids that no database has.
const UID: u32 = 4_000_000_001;
const GID: u32 = 4_000_000_002;

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

fn content(pid: u32) -> Vec<u8> {
    format!("{pid}\n").into_bytes()
}

#[track_caller]
fn assert_holds(run: &Run) {
    let pid_file = run.launcher().pid_file.unwrap();
    assert_eq!(pid_file.bytes, content(run.report().pid));
    assert!(pid_file.locked);
}

/// The start fails with this errno, its message says of the pid file what
/// could not be done and why, and nothing is left.
#[track_caller]
fn assert_fails(scenario: &Scenario, kind: &str, errno: i32) {
    let error = scenario.fail();
    let path = scenario.config.options.pid_file.clone().unwrap();
    let deed = match kind {
        "OpenPidfile" => "open",
        _ => "write",
    };
    let reason = io::Error::from_raw_os_error(errno);
    let start = format!(
        "cannot {deed} pid file {}: {reason}",
        path.to_path().display()
    );
    assert!(error.text.starts_with(&start), "{error}");
    let expected = StartError {
        kind: format!("{kind}({errno})"),
        errno: Some(errno),
        text: error.text.clone(),
        path: Some(path),
        running_pid: None,
        daemon_exit_status: None,
    };
    assert_eq!(error, expected);
}

// --- Many launchers and one pid file ---

/// Runs a contest, again until enough has happened in it: some daemons, and each of
/// these failures, by errno. Returns all failures.
#[track_caller]
fn compete(contest: &Contest, path: &Path, two_may_live: bool, errnos: &[i32]) -> Vec<StartError> {
    const TRIES: usize = 5;
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
    let missing: Vec<_> = (errnos.iter())
        .filter(|&&errno| !is_met(&errors, errno))
        .collect();
    let count = errors.len();
    panic!(
        "{daemons} daemons, and {missing:?} never met in {count} errors; \
         all have meddled: {all_have_meddled}"
    );
}

struct Round {
    daemons: usize,
    errors: Vec<StartError>,
    all_have_meddled: bool,
}

/// Checks what holds in any contest: nobody has the lock of a file
/// that another one has, and it contains its holder's pid all the while; every
/// success has its daemon, and every daemon its success; whoever is told to be
/// running was one of them.
#[track_caller]
fn compete_once(contest: &Contest, path: &Path, two_may_live: bool) -> Round {
    let pid_file = PidFile::at(path);
    let contested = contest.run(|| pid_file.running().ok().flatten());
    let mut named = contested.found;
    let mut living = Vec::<(u32, HeldFile)>::new();
    let (mut daemons, mut started, mut errors) = (Vec::new(), Vec::new(), Vec::new());
    for Frame { sender, message } in contested.frames {
        match message {
            Message::Holds(file) => {
                assert_eq!(file.bytes, content(sender));
                let is_same = |(_, other): &(u32, HeldFile)| other.place == file.place;
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

/// Every error is one of these, by kind, errno and the end of its text; or
/// tells truly who holds the lock.
#[track_caller]
fn assert_clear(errors: &[StartError], expected: &[(i32, &str)]) {
    for error in errors {
        if error.kind == format!("LockPidfile({})", libc::EWOULDBLOCK) {
            let text = &error.text;
            let is_true = match error.running_pid {
                Some(pid) => text.ends_with(&format!(": held by running daemon {pid}")),
                None if text.ends_with(", which is starting") => text.contains(": held by daemon "),
                None => [
                    ": held by a daemon that is starting",
                    ": held by another process",
                ]
                .iter()
                .any(|end| text.ends_with(end)),
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

fn contest(path: &Path) -> Contest {
    Contest::new(tester::tester!(), path)
}

const REPLACED: (i32, &str) = (libc::EAGAIN, ": it is replaced again and again");

fn of_32_launchers_no_two_daemons_live_at_a_time() {
    let (scenario, path) = with_folder();
    let errors = compete(&contest(&path), &path, false, &[libc::EWOULDBLOCK]);
    assert_clear(&errors, &[]);
    assert_holds(&scenario.start());
}

/// As a daemon does that removes its file at the end.
fn removing_the_file_under_its_lock_makes_no_second_daemon() {
    let (scenario, path) = with_folder();
    let contest = contest(&path)
        .meddler(Meddling::RemovesUnlocked, None)
        .meddler(Meddling::RemovesUnlocked, None);
    let errors = compete(&contest, &path, false, &[]);
    assert_clear(&errors, &[REPLACED]);
    assert_holds(&scenario.start());
}

/// Nothing keeps somebody who may from removing a running daemon's file, and
/// then there is nothing that would keep a second daemon from starting. But
/// each has a file of its own.
fn replacing_the_file_all_the_time_makes_no_second_holder_of_it() {
    let (scenario, path) = with_folder();
    let contest = contest(&path).meddler(Meddling::Replaces, None);
    let errors = compete(&contest, &path, true, &[]);
    assert_clear(&errors, &[REPLACED]);
    assert_holds(&scenario.start());
}

fn changing_what_is_there_all_the_time_makes_no_second_holder_of_it() {
    let (scenario, path) = with_folder();
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

fn changing_the_folders_permissions_all_the_time_makes_no_second_daemon() {
    compete_in_changing_folder(None, false);
}

fn changing_the_folder_and_removing_the_file_makes_no_second_daemon() {
    compete_in_changing_folder(Some(Meddling::RemovesUnlocked), false);
}

fn changing_the_folder_and_replacing_the_file_makes_no_second_holder_of_it() {
    compete_in_changing_folder(Some(Meddling::Replaces), true);
}

#[track_caller]
fn compete_in_changing_folder(meddling: Option<Meddling>, two_may_live: bool) {
    let (scenario, path) = with_folder();
    let mut contest = contest(&path).meddler(Meddling::ChangesFolder, None);
    if let Some(meddling) = meddling {
        contest = contest.meddler(meddling, None);
    }
    if sys::effective_user() == 0 {
        let errors = compete(&contest, &path, two_may_live, &[libc::EPERM]);
        let refusal = (libc::EPERM, ": other users can write to its directory");
        assert_clear(&errors, &[REPLACED, refusal]);
    } else {
        let errors = compete(&contest, &path, two_may_live, &[]);
        // Where a file cannot be made. It is seldom that there is none.
        assert_clear(&errors, &[REPLACED, (libc::EACCES, "")]);
    }
    set_mode(path.parent().unwrap(), 0o755);
    assert_holds(&scenario.start());
}

/// Who can plant what he likes, but not remove what root has made.
fn a_stranger_in_a_sticky_folder_makes_no_second_daemon() {
    let (scenario, path) = with_folder();
    let victim = prepare_to_plant(&path);
    set_mode(path.parent().unwrap(), 0o1777);
    let contest = contest(&path)
        .leaving(Leaving::Removing)
        .meddler(Meddling::Plants, Some(UID))
        .meddler(Meddling::Plants, Some(UID));
    let met = [libc::EPERM, libc::ELOOP, libc::EISDIR];
    let errors = compete(&contest, &path, false, &met);
    let expected = [
        REPLACED,
        (libc::EPERM, ": it belongs to another user"),
        (libc::ELOOP, ": it is a symbolic link"),
        (libc::EISDIR, ""),
    ];
    assert_clear(&errors, &expected);
    assert_spared(&scenario, &path, &victim);
}

/// What was planted led nowhere, and once it is gone there is a daemon.
#[track_caller]
fn assert_spared(scenario: &Scenario, path: &Path, victim: &Path) {
    assert_eq!(fs::read(victim).unwrap(), b"precious");
    let _ = fs::remove_file(path).or_else(|_| fs::remove_dir(path));
    assert_holds(&scenario.start());
}

/// A start whose pid file is in a folder of its own.
fn with_folder() -> (Scenario, PathBuf) {
    let scenario = scenario!().pid_file("folder/daemon.pid");
    let path = scenario.create_folder("folder").join("daemon.pid");
    (scenario, path)
}

/// Makes what is put at the pid file's place later on.
fn prepare_to_plant(path: &Path) -> PathBuf {
    let victim = path.with_file_name("victim");
    fs::write(&victim, "precious").unwrap();
    sys::make_fifo(&path.with_file_name("fifo")).unwrap();
    victim
}

// --- A daemon that was broken into ---

fn a_daemon_that_was_broken_into_cannot_write_its_pid_file() {
    let scenario = scenario!().pid_file("daemon.pid").user(UID).group(GID);
    for scenario in [scenario.clone(), scenario.entry(Entry::Execute)] {
        let run = scenario.start();
        let before = run.pid_file().unwrap();
        let written = run.answer(&Told::OverwriteFiles("1\n".into()));
        assert!(written.is_empty(), "{written:?}");
        assert_eq!(run.pid_file(), Some(before));
    }
}

fn a_launcher_takes_in_no_descriptor_that_a_daemon_sends() {
    let scenario = scenario!().entry(Entry::Execute);
    let gift = scenario.path("gift");
    fs::write(&gift, "").unwrap();
    let steps = [
        Step::SendDescriptorToSockets(Bytes::from(gift.as_path())),
        Step::Hold,
    ];
    let run = scenario.initialize(steps).launch();
    run.held();
    let launcher = run.outside(run.launcher_pid());
    let descriptors = launcher.descriptors.unwrap();
    assert!(
        !descriptors.iter().any(|one| one.is_file(&gift)),
        "{descriptors:?}"
    );
}

// --- What is full, read-only or forbidden ---

/// A start whose pid file is on a file system of its own, in memory, with
/// these options.
fn on_own_disk(options: &str, body: impl FnOnce(&Scenario, &Path) + Send) {
    let scenario = scenario!().pid_file("disk/daemon.pid");
    let disk = scenario.create_folder("disk");
    with_own_mounts(|| {
        let options = format!("mode=755,{options}");
        mount(&["-t", "tmpfs", "-o", &options, "tester"], &disk);
        body(&scenario, &disk);
    });
}

/// One page: room for one file with any content.
const ONE_PAGE: &str = "size=4k";

#[track_caller]
fn fill(disk: &Path) {
    let mut file = File::create(disk.join("filler")).unwrap();
    while file.write_all(&[0; 512]).is_ok() {}
}

fn a_full_disk_is_told() {
    on_own_disk(ONE_PAGE, |scenario, disk| {
        fill(disk);
        for _ in 0..2 {
            assert_fails(scenario, "WritePid", libc::ENOSPC);
        }
        fs::remove_file(disk.join("filler")).unwrap();
        assert_holds(&scenario.start());
    });
}

/// What its content takes is its own.
fn a_stale_pid_file_on_a_full_disk_is_taken_over() {
    on_own_disk(ONE_PAGE, |scenario, disk| {
        let run = scenario.start();
        fill(disk);
        run.kill_daemon();
        run.wait_until_all_ended();
        assert_holds(&scenario.start());
    });
}

fn a_disk_that_fills_up_during_the_start_is_told() {
    on_own_disk(ONE_PAGE, |scenario, disk| {
        let filler = NewFile::new(disk.join("filler"), " ".repeat(4096));
        fs::write(disk.join("daemon.pid"), "4194304\n").unwrap();
        let scenario = scenario.clone();
        let scenario = scenario.privileged_action([Step::WriteFile(filler)]);
        assert_fails(&scenario, "WritePid", libc::ENOSPC);
    });
}

fn a_disk_without_free_inodes_is_told() {
    on_own_disk("nr_inodes=2", |scenario, disk| {
        fs::write(disk.join("filler"), "").unwrap();
        assert_fails(scenario, "OpenPidfile", libc::ENOSPC);
        // Not a new file.
        fs::rename(disk.join("filler"), disk.join("daemon.pid")).unwrap();
        assert_holds(&scenario.start());
    });
}

fn a_read_only_disk_is_told() {
    on_own_disk(ONE_PAGE, |scenario, disk| {
        mount(&["-o", "remount,ro"], disk);
        assert_fails(scenario, "OpenPidfile", libc::EROFS);
        mount(&["-o", "remount,rw"], disk);
        fs::write(disk.join("daemon.pid"), "").unwrap();
        mount(&["-o", "remount,bind,ro"], disk);
        assert_fails(scenario, "OpenPidfile", libc::EROFS);
    });
}

/// A pid file that cannot grow, and SIGXFSZ, whose default action is to kill.
/// The launcher's own error goes to a pipe, which is no file in that sense.
fn without_room() -> Scenario {
    let scenario = scenario!().pid_file("daemon.pid").piped();
    scenario.from_state(|state| {
        state.limit_file_size = Some(0);
    })
}

fn a_limit_of_file_size_is_told_and_kills_nobody() {
    assert_fails(&without_room(), "WritePid", libc::EFBIG);
    // Nor does a handler run for what is told otherwise.
    let scenario = without_room().from_state(|state| {
        state.dispositions = vec![(libc::SIGXFSZ, Disposition::Tell)];
    });
    let run = scenario.launch();
    let error = run.launcher_error();
    assert_eq!(error.kind, format!("WritePid({})", libc::EFBIG));
    run.assert_nothing_left();
    let is_told = |message: &Message| *message == Message::Signalled(libc::SIGXFSZ);
    assert!(!run.messages().iter().any(|one| is_told(&one.message)));
}

fn a_device_that_is_always_full_is_refused() {
    let error = scenario!().pid_file("/dev/full").fail();
    assert_eq!(error.kind, format!("OpenPidfile({})", libc::EINVAL));
    assert_eq!(error.text, "cannot open pid file /dev/full: it is a device");
}

/// As an ordinary user, also where the test is root, which may do anything.
fn ordinary() -> Scenario {
    let scenario = scenario!();
    match sys::effective_user() {
        0 => scenario.as_user(UID, GID),
        _ => scenario,
    }
}

fn a_folder_without_write_permission_is_told() {
    let scenario = ordinary().pid_file("folder/daemon.pid");
    let folder = scenario.create_folder("folder");
    set_mode(&folder, 0o555);
    assert_fails(&scenario, "OpenPidfile", libc::EACCES);
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
}

fn a_pid_file_without_write_permission_is_told() {
    let scenario = ordinary().pid_file("daemon.pid");
    let path = scenario.path("daemon.pid");
    fs::write(&path, "").unwrap();
    // Not even to be read: one that may be is replaced.
    set_mode(&path, 0o000);
    assert_fails(&scenario, "OpenPidfile", libc::EACCES);
}

fn a_name_that_is_too_long_is_told() {
    let long_name = "n".repeat(300);
    let long_path = "./".repeat(3000) + "daemon.pid";
    for path in [long_name.as_str(), long_path.as_str()] {
        assert_fails(
            &scenario!().pid_file(path),
            "OpenPidfile",
            libc::ENAMETOOLONG,
        );
    }
}

fn an_empty_path_is_told() {
    assert_fails(&scenario!().pid_file(""), "OpenPidfile", libc::ENOENT);
}

fn a_file_is_no_folder_whatever_follows_the_slash() {
    for path in ["file/", "file/.", "file/../daemon.pid"] {
        let scenario = scenario!().pid_file(path);
        fs::write(scenario.path("file"), "precious").unwrap();
        assert_fails(&scenario, "OpenPidfile", libc::ENOTDIR);
        assert_eq!(fs::read(scenario.path("file")).unwrap(), b"precious");
    }
}

// --- Jails ---

/// A daemon in a jail that contains /proc, and what `fill` puts there.
fn in_jail_with_proc(scenario: &Scenario, fill: fn(&Path), body: impl FnOnce(&Run, Place) + Send) {
    let jail = scenario.create_folder("jail");
    let proc = scenario.create_folder("jail/proc");
    fill(&jail);
    let scenario = scenario.clone().chroot(&jail).pid_file("daemon.pid");
    with_own_mounts(|| {
        mount(&["--rbind", "/proc"], &proc);
        body(&scenario.start(), Place::of(&jail).unwrap());
    });
}

/// What leads from a process to folders: its own of these is 'self'.
fn ways_by(process: &str) -> impl Iterator<Item = Bytes> {
    let ways = ["cwd", "root", "root/..", "task/../root", "task/../cwd/.."];
    let paths = ways.map(|way| format!("/proc/{process}/{way}"));
    paths.into_iter().map(Bytes::from)
}

fn proc_shows_a_jailed_daemon_nothing_outside() {
    in_jail_with_proc(
        &scenario!(),
        |_| {},
        |run, jail| {
            let report = run.report();
            let descriptors = report.descriptor_numbers().into_iter();
            let through_descriptors = descriptors.flat_map(|number| {
                let path = format!("/proc/self/fd/{number}");
                [Bytes::from(format!("{path}/..")), Bytes::from(path)]
            });
            let paths: Vec<_> = ways_by("self")
                .chain(ways_by("thread-self"))
                .chain(through_descriptors)
                .collect();
            let reached = run.try_to_escape_through(paths);
            assert!(reached.len() >= 4, "{reached:?}");
            assert!(reached.iter().all(|place| *place == jail), "{reached:?}");
            // Others it does, to root, who is not confined by a jail.
            let paths = ways_by(&std::process::id().to_string()).collect();
            let top = Place::of(Path::new("/")).unwrap();
            assert!(run.try_to_escape_through(paths).contains(&top));
        },
    );
}

/// Nor those who are outside.
fn proc_shows_a_jailed_user_no_other_process() {
    /// Nobody else's, in no other test.
    const ALONE: u32 = 4_000_000_077;
    let scenario = scenario!().user(ALONE).group(ALONE);
    in_jail_with_proc(
        &scenario,
        |_| {},
        |run, jail| {
            let processes = fs::read_dir("/proc").unwrap().map(|entry| {
                let name = entry.unwrap().file_name();
                name.to_string_lossy().into_owned()
            });
            let processes: Vec<_> = processes
                .filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()))
                .collect();
            assert!(processes.len() > 1);
            let paths = processes.iter().flat_map(|pid| ways_by(pid)).collect();
            let reached = run.try_to_escape_through(paths);
            assert!(!reached.is_empty());
            assert!(reached.iter().all(|place| *place == jail), "{reached:?}");
        },
    );
}

/// A shell, which goes where it can and climbs from there.
fn a_program_that_a_jailed_daemon_runs_finds_nothing_outside() {
    const CLIMB: &str = "for way in / . .. /proc/self/cwd /proc/self/cwd/.. /proc/self/root \
        /proc/self/root/.. /proc/thread-self/cwd /proc/thread-self/root /proc/self/fd/*; do
        (cd $way && cd ../../../../../../../../../../../.. && echo *)
        done";
    const WAYS: usize = 9;

    for is_user in [false, true] {
        let climb = ["/bin/sh", "-c", CLIMB].map(Bytes::from).to_vec();
        let mut scenario = scenario!().initialize([Step::Run(climb)]);
        if is_user {
            scenario = scenario.user(UID).group(UID);
        }
        let jail = scenario.path("jail");
        in_jail_with_proc(&scenario, put_shell_into, |run, _| {
            let entries = fs::read_dir(&jail).unwrap();
            let mut names: Vec<_> = entries
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect();
            names.sort_unstable();
            let names = names.join(" ");
            let found = run.message("what was found", |frame| match &frame.message {
                Message::Result(parts) => Some(parts.concat()),
                _ => None,
            });
            let found: Vec<_> = found.lines().collect();
            assert_eq!(found.len(), WAYS, "{found:?}");
            assert!(found.iter().all(|there| *there == names), "{found:?}");
        });
    }
}

fn put_shell_into(jail: &Path) {
    let libraries = Command::new("ldd").arg("/bin/sh").output().unwrap().stdout;
    let libraries = String::from_utf8(libraries).unwrap();
    let libraries = libraries
        .split_whitespace()
        .filter(|word| word.starts_with('/'));
    let install = |arguments: &[&str], file: &str| {
        let copy = jail.join(file.trim_start_matches('/'));
        let mut install = Command::new("install");
        let status = install.args(arguments).arg(copy).status().unwrap();
        assert!(status.success());
    };
    for file in libraries.chain(["/bin/sh"]) {
        install(&["-D", "-m", "755", file], file);
    }
    // What std gives a program for its standard input; its content is of no use.
    install(&["-D", "-m", "644", "/dev/null"], "/dev/null");
}

/// A limit that is documented: what the caller has opened is the caller's,
/// unless it is to be closed.
fn a_folder_that_the_caller_holds_open_leads_out_unless_closed() {
    let scenario = scenario!();
    let jail = scenario.create_folder("jail");
    let outside = scenario.create_folder("outside");
    let scenario = scenario.from_state(|state| {
        state.descriptors = vec![OpenDescriptor {
            number: 20,
            path: (&outside).into(),
            close_on_exec: true,
        }];
    });
    let scenario = scenario.chroot(&jail);
    let (jail, top) = (
        Place::of(&jail).unwrap(),
        Place::of(Path::new("/")).unwrap(),
    );
    assert_eq!(scenario.start().try_to_escape(), [jail.clone(), top]);
    let run = scenario.close_inherited_fds([]).start();
    assert_eq!(run.try_to_escape(), [jail]);
}

fn a_jail_that_is_moved_away_during_the_start_is_told() {
    let scenario = scenario!().pid_file("daemon.pid");
    let jail = scenario.create_folder("jail");
    let moved = scenario.path("moved");
    let run = scenario
        .chroot(&jail)
        .privileged_action([Step::Hold])
        .launch();
    run.held();
    fs::rename(&jail, &moved).unwrap();
    run.proceed();
    let error = run.launcher_error();
    assert_eq!(error.kind, format!("Chroot({})", libc::ENOENT));
    assert_eq!(error.path, Some((&jail).into()));
    run.assert_nothing_left();
}

/// A folder stays the same under another name.
fn a_jail_that_is_moved_under_a_daemon_in_it_is_its_root_all_the_same() {
    let scenario = scenario!();
    let jail = scenario.create_folder("jail");
    let inside = scenario.create_folder("jail/inside");
    let moved = scenario.path("moved");
    let run = scenario
        .working_directory(&inside)
        .chroot("..")
        .privileged_action([Step::Hold])
        .launch();
    run.held();
    fs::rename(&jail, &moved).unwrap();
    run.proceed();
    let daemon = run.report();
    assert_eq!(daemon.root, Some(Place::of(&moved).unwrap()));
    let inside = Place::of(&moved.join("inside")).unwrap();
    assert_eq!(daemon.working_directory, Some(inside));
    assert_eq!(run.try_to_escape(), [Place::of(&moved).unwrap()]);
}

fn jails_that_are_swapped_all_the_time_hold() {
    let scenario = scenario!();
    let jail = scenario.create_folder("jail");
    scenario.create_folder("jail/inside");
    let other = scenario.create_folder("other");
    scenario.create_folder("other/inside");
    let jails = [Place::of(&jail).unwrap(), Place::of(&other).unwrap()];
    let third = scenario.path("third");
    let over = AtomicBool::new(false);
    let swap = || -> io::Result<()> {
        fs::rename(&jail, &third)?;
        fs::rename(&other, &jail)?;
        fs::rename(&third, &other)
    };
    thread::scope(|scope| {
        let _until = Until(&over);
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                swap().unwrap();
            }
        });
        let scenario = scenario.clone().working_directory("jail/inside");
        let scenario = scenario.chroot(&jail);
        let mut started = 0;
        for _ in 0..60 {
            let run = scenario.launch();
            if !run.launcher().output.status.success() {
                let error = run.launcher_error();
                assert_eq!(error.errno, Some(libc::ENOENT), "{error}");
                let kinds = ["ChangeDirectory", "Chroot"];
                assert!(kinds.contains(&error.kind_name()), "{error}");
                continue;
            }
            started += 1;
            let root = run.report().root.unwrap();
            assert!(jails.contains(&root), "{root:?}");
            assert_eq!(run.try_to_escape(), [root]);
        }
        assert_ne!(started, 0);
    });
}

// --- A caller that holds on to its privileges ---

/// Bits with which the kernel itself takes no capability from a root that
/// becomes somebody else.
fn secure_bits_keep_no_capability_for_the_daemon() {
    for bits in [NO_SETUID_FIXUP, KEEP_CAPS, NO_SETUID_FIXUP | KEEP_CAPS] {
        let scenario = scenario!().user(UID).group(GID);
        let run = scenario
            .from_state(|state| state.secure_bits = Some(bits))
            .start();
        run.report().assert_no_capabilities();
        assert_eq!(run.try_to_regain(0, 0).succeeded, [""; 0]);
    }
}

// --- Signals during the start ---

#[track_caller]
fn assert_ended_by_sigterm(error: &StartError) {
    assert_eq!(error.kind, "DaemonExited");
    assert_eq!(error.daemon_exit_status, Some(libc::SIGTERM));
    assert!(error.text.contains("SIGTERM"), "{error}");
}

/// A start with this done on SIGTERM.
fn on_sigterm(disposition: Disposition) -> Scenario {
    let scenario = scenario!().pid_file("daemon.pid");
    scenario.from_state(|state| state.dispositions = vec![(libc::SIGTERM, disposition)])
}

fn a_sigterm_to_a_starting_daemon_is_told() {
    let scenario = on_sigterm(Disposition::Default);
    for scenario in [
        scenario.clone().privileged_action([Step::Hold]),
        scenario.initialize([Step::Hold]),
    ] {
        let run = scenario.launch();
        sys::kill(run.held().pid, libc::SIGTERM).unwrap();
        assert_ended_by_sigterm(&run.launcher_error());
        run.assert_nothing_left();
    }
}

/// Sends one of the processes SIGTERM at its first call, then at its second, and
/// so on; judges each time.
#[track_caller]
fn sweep(scenario: &Scenario, victim: Victim, mut judge: impl FnMut(&Run, u32)) {
    for call in 0.. {
        let run = scenario
            .clone()
            .signal_at(victim, call, libc::SIGTERM)
            .launch();
        match run.struck().map(|struck| struck.process) {
            Some(pid) => judge(&run, pid),
            None => {
                assert!(call > 10, "{victim} makes {call} calls only");
                break;
            }
        }
        drop(run);
        fs::write(scenario.pid_file_path().unwrap(), "").unwrap();
    }
}

/// Also while the daemon has it blocked: it ends as soon as it has not.
fn a_sigterm_at_any_call_ends_the_start_with_a_true_report() {
    let (mut ended, mut committed) = (0, 0);
    sweep(
        &on_sigterm(Disposition::Default),
        Victim::Daemon,
        |run, _| {
            if run.launcher().output.status.success() {
                committed += 1;
                return;
            }
            ended += 1;
            let error = run.launcher_error();
            // Once the intermediate has stood down, nobody can know.
            if error.daemon_exit_status.is_some() {
                assert_ended_by_sigterm(&error);
            }
            assert_eq!(error.kind, "DaemonExited");
            run.assert_nothing_left();
        },
    );
    assert!(ended > 5, "{ended} starts ended, {committed} succeeded");
}

/// Once, in the daemon, whether it came before or after that.
fn a_handler_runs_in_the_daemon_once_the_library_lets_it() {
    let scenario = on_sigterm(Disposition::Tell).privileged_action([Step::Observe]);
    let (mut before, mut after) = (0, 0);
    sweep(&scenario, Victim::Daemon, |run, daemon| {
        run.launcher().assert().success();
        run.observe();
        let of_daemon = |frame: &Frame| frame.sender == daemon;
        let frames: Vec<_> = run.messages().into_iter().filter(of_daemon).collect();
        let is_handled = |message: &Message| *message == Message::Signalled(libc::SIGTERM);
        let handled = |frame: &&Frame| is_handled(&frame.message);
        assert_eq!(
            frames.iter().filter(handled).count(),
            1,
            "{}",
            run.account()
        );
        assert_eq!(run.messages().iter().filter(handled).count(), 1);
        // What came before the mask is the caller's again is handled first.
        match frames[0].message {
            Message::Signalled(_) => before += 1,
            _ => after += 1,
        }
    });
    // The daemon makes few calls that late.
    assert!(before > 5 && after > 3, "{before} before, {after} after");
}

/// It ends the daemon, whenever it came: before the reset it was blocked.
fn after_a_reset_no_handler_runs_whenever_the_signal_came() {
    let scenario = on_sigterm(Disposition::Tell).reset_signals();
    let mut ended = 0;
    sweep(&scenario, Victim::Daemon, |run, _| {
        if !run.launcher().output.status.success() {
            ended += 1;
            let error = run.launcher_error();
            if error.daemon_exit_status.is_some() {
                assert_ended_by_sigterm(&error);
            }
            assert_eq!(error.kind, "DaemonExited");
            run.assert_nothing_left();
        }
        let is_handled = |frame: &Frame| matches!(frame.message, Message::Signalled(_));
        assert!(!run.messages().iter().any(is_handled), "{}", run.account());
    });
    assert!(ended > 5, "{ended} starts ended");
}

fn a_signal_to_the_intermediate_at_any_call_is_neither_handled_nor_fatal() {
    for disposition in [Disposition::Tell, Disposition::Default] {
        sweep(&on_sigterm(disposition), Victim::Intermediate, |run, _| {
            run.launcher().assert().success();
            run.observe();
            let is_handled = |frame: &Frame| matches!(frame.message, Message::Signalled(_));
            assert!(!run.messages().iter().any(is_handled), "{}", run.account());
        });
    }
}

fn a_signal_to_the_intermediate_is_neither_handled_nor_fatal() {
    let scenario = on_sigterm(Disposition::Tell);
    let run = scenario.privileged_action([Step::Hold]).launch();
    let intermediate = run.held().ppid;
    for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGUSR1] {
        sys::kill(intermediate, signal).unwrap();
    }
    run.assert_launcher_waits();
    run.proceed();
    run.launcher().assert().success();
    run.observe();
    let frames = run.messages();
    let is_handled = |message: &Message| matches!(message, Message::Signalled(_));
    assert!(!frames.iter().any(|frame| is_handled(&frame.message)));
    assert_holds(&run);
}
