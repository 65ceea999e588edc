//! What a daemon gives up, and what it keeps.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::thread;
use std::time::{Duration, Instant};

use daemonize2::Daemonize;

use crate::Case;
use crate::files::with_pid_file;
use crate::harness::{
    self, Place, Run, capabilities, give, identity, look_at, set_mode, tell, told,
};
use crate::sys;

/// The argument that asks for [`start_set_id`].
pub const SET_ID: &str = "start-set-id";
/// The argument that has the effective user printed.
pub const PRINT_USER: &str = "print-user";

pub const CASES: &[Case] = &[
    ("identity::a_user_alone_brings_all_its_groups", user_by_name),
    (
        "identity::a_group_alone_is_the_only_one_and_the_user_stays",
        group_alone,
    ),
    (
        "identity::a_user_by_number_is_the_same_as_by_name",
        by_number,
    ),
    (
        "failures::the_id_that_means_unchanged_is_refused",
        unchanged,
    ),
    (
        "privileges::an_entry_whose_id_means_unchanged_is_refused",
        unchanged_by_name,
    ),
    (
        "attacks::secure_bits_keep_no_capability_for_the_daemon",
        secure_bits,
    ),
    (
        "privileges::a_set_user_id_root_launcher_becomes_its_real_user",
        set_user_id,
    ),
    (
        "privileges::a_launcher_set_to_root_in_both_becomes_its_real_user",
        set_both,
    ),
    (
        "privileges::root_in_any_of_the_ids_is_given_up",
        any_of_the_ids,
    ),
    (
        "privileges::the_right_to_change_ids_without_root_is_enough",
        capable,
    ),
    (
        "privileges::what_another_thread_may_keep_fails_the_start",
        thread_keeps,
    ),
    (
        "privileges::groups_of_a_namespace_that_denies_setgroups_can_be_kept_only",
        namespace,
    ),
    (
        "privileges::an_id_that_a_namespace_lacks_is_refused",
        missing_in_namespace,
    ),
    (
        "privileges::a_user_in_five_hundred_groups_is_in_all_of_them",
        five_hundred,
    ),
    (
        "privileges::a_user_in_more_groups_than_allowed_is_told_with_both_numbers",
        too_many,
    ),
    (
        "privileges::a_set_user_id_program_grants_nothing_once_given_up",
        set_user_id_program,
    ),
    (
        "privileges::these_groups_and_no_others_are_had_as_a_user",
        memory,
    ),
];

const UID: u32 = 4_000_000_001;
const GID: u32 = 4_000_000_002;
const STARTER: u32 = 4_000_000_011;
const STARTERS_GROUP: u32 = 4_000_000_012;
const UNCHANGED: u32 = u32::MAX;
const USER: &str = "daemonize2-test";

const CAP_SETGID: u64 = 1 << 6;
const CAP_SETUID: u64 = 1 << 7;
const NO_SETUID_FIXUP: u64 = 1 << 2;

/// A user database with root, the test user with its groups, and these lines.
/// In the mount namespace of the case, nobody else sees it.
fn database(place: &Place, passwd: &str, group: &str) {
    let passwd =
        format!("root:x:0:0::/root:/bin/sh\n{USER}:x:7001:7001::/nonexistent:/bin/sh\n{passwd}");
    let group =
        format!("root:x:0:\n{USER}:x:7001:\nextra1:x:7002:{USER}\nextra2:x:7003:{USER}\n{group}");
    for (name, text) in [
        ("passwd", passwd.as_str()),
        ("group", &group),
        ("nsswitch.conf", "passwd: files\ngroup: files\n"),
    ] {
        let covered = Path::new("/etc").join(name);
        if covered.exists() {
            let file = place.file(name, text);
            sys::mount(Some(&file), &covered, None, libc::MS_BIND, "").expect("bind");
        }
    }
}

fn with_groups() {
    sys::set_groups(&[0, 4242]).expect("set groups");
}

fn of_daemon(run: &Run) -> String {
    let identity = run.daemon().map_or("none".to_owned(), identity);
    format!("{run}; {identity}")
}

fn user_by_name(place: &Place) -> String {
    database(place, "", "");
    let build = || {
        with_groups();
        Daemonize::new().user(USER)
    };
    of_daemon(&place.launch(build, drop))
}

fn group_alone(place: &Place) -> String {
    let build = || {
        with_groups();
        Daemonize::new().group(7002)
    };
    of_daemon(&place.launch(build, drop))
}

fn by_number(place: &Place) -> String {
    database(place, "", "");
    let build = || {
        with_groups();
        Daemonize::new().user(7001).group(7001)
    };
    of_daemon(&place.launch(build, drop))
}

fn unchanged(place: &Place) -> String {
    let user = of_daemon(&place.launch(|| Daemonize::new().user(UNCHANGED), drop));
    let group = of_daemon(&place.launch(|| Daemonize::new().group(UNCHANGED), drop));
    let build = || with_pid_file().chown_pid_file_user(UNCHANGED);
    let file = place.launch(build, drop);
    let owner = look_at(&place.path("daemon.pid"));
    format!("user: {user}; group: {group}; chown: {file}, {owner}")
}

fn unchanged_by_name(place: &Place) -> String {
    database(
        place,
        "nouser:x:4294967295:7::/:/bin/sh\n",
        &format!("nogroup2:x:4294967295:{USER}\n"),
    );
    let user = of_daemon(&place.launch(|| Daemonize::new().user("nouser"), drop));
    let group = of_daemon(&place.launch(|| Daemonize::new().group("nogroup2"), drop));
    let file = place.launch(|| with_pid_file().chown_pid_file_user("nouser"), drop);
    let file = file.to_string();
    let owner = look_at(&place.path("daemon.pid"));
    place.end_all();
    let several = of_daemon(&place.launch(|| Daemonize::new().user(USER), drop));
    format!(
        "user: {user}; group: {group}; chown: {file}, {owner}; as one of several groups: {several}"
    )
}

/// What the daemon can have again.
fn try_to_regain() {
    let mut regained = Vec::new();
    for (call, result) in [
        ("setgroups([0])", sys::set_groups(&[0])),
        ("setuid(0)", sys::set_user(0)),
        ("setresuid(0)", sys::set_user_everywhere(0)),
        ("setgid(0)", sys::set_group(0)),
    ] {
        if result.is_ok() {
            regained.push(call);
        }
    }
    tell(format_args!("regained {}", regained.join(", ")));
}

/// What it has, and what it can have again.
fn tell_all() {
    let own = std::process::id();
    let (identity, capabilities) = (identity(own), capabilities("self"));
    tell(format_args!("has {identity}, {capabilities}"));
    try_to_regain();
}

fn all_of_daemon(run: &Run) -> String {
    let regained = run.told("regained").concat();
    let regained = if regained.is_empty() {
        "nothing"
    } else {
        &regained
    };
    format!("{run}; {}; regains {regained}", run.told("has").concat())
}

fn secure_bits(place: &Place) -> String {
    let keep = || {
        sys::prctl(libc::PR_SET_KEEPCAPS, 1).expect("keep capabilities");
        Daemonize::new().user(7001).group(7001)
    };
    let keep = all_of_daemon(&place.launch(keep, |()| tell_all()));
    place.forget();
    let no_fixup = || {
        sys::prctl(libc::PR_SET_SECUREBITS, NO_SETUID_FIXUP).expect("set secure bits");
        Daemonize::new().user(7001).group(7001)
    };
    let no_fixup = all_of_daemon(&place.launch(no_fixup, |()| tell_all()));
    format!("PR_SET_KEEPCAPS: {keep}; SECBIT_NO_SETUID_FIXUP: {no_fixup}")
}

/// A launcher that is a program of its own, for its mode bits.
pub fn start_set_id(arguments: &[String]) -> ExitCode {
    let descriptor = arguments.first().and_then(|number| number.parse().ok());
    harness::tell_to(descriptor.expect("a descriptor"));
    let build = || {
        tell(format_args!("was {}", identity(std::process::id())));
        Daemonize::new().user(STARTER).group(STARTERS_GROUP)
    };
    harness::start(build, |()| tell_all());
    ExitCode::SUCCESS
}

fn copy_of_itself(place: &Place, mode: u32) -> std::path::PathBuf {
    let program = place.path("program");
    // By another process, so that nobody has it open for writing.
    let own = std::env::current_exe().expect("a program");
    let copied = Command::new("cp").arg(own).arg(&program).status();
    assert!(copied.expect("run cp").success());
    give(&program, 0, 0);
    set_mode(&program, mode);
    program
}

fn with_set_id(place: &Place, mode: u32) -> String {
    let program = copy_of_itself(place, mode);
    let (began, before) = (Instant::now(), place.messages().len());
    let launcher = sys::fork(|| {
        let told = sys::duplicate(told(), 900, false).expect("pass the pipe");
        sys::set_groups(&[4711, 4712]).expect("set groups");
        sys::set_ids([STARTER; 3], [STARTERS_GROUP; 3]).expect("become the starter");
        let error = Command::new(program)
            .args([SET_ID, &told.to_string()])
            .exec();
        panic!("{error}");
    });
    let run = place.await_launcher(launcher, began, before);
    format!(
        "{}; before: {}",
        all_of_daemon(&run),
        run.told("was").concat()
    )
}

fn set_user_id(place: &Place) -> String {
    with_set_id(place, 0o4755)
}

fn set_both(place: &Place) -> String {
    with_set_id(place, 0o6755)
}

/// Each of the three ids root's or an ordinary user's, but not all alike; and
/// all three apart.
fn any_of_the_ids(place: &Place) -> String {
    let mixtures = (1..7_u32).map(|bits| {
        let choose = |own: u32| [0, 1, 2].map(|at| own * (bits >> at & 1));
        (choose(STARTER), choose(STARTERS_GROUP))
    });
    let apart = [[0, STARTER, UID], [STARTER, 0, UID], [STARTER, UID, 0]];
    let apart = apart.map(|uid| (uid, [STARTERS_GROUP; 3]));
    let (mut lines, mut count) = (Vec::new(), 0);
    for (uid, gid) in mixtures.chain(apart) {
        let build = || {
            sys::set_groups(&[STARTERS_GROUP]).expect("set groups");
            sys::set_ids(uid, gid).expect("set ids");
            Daemonize::new().user(STARTER).group(STARTERS_GROUP)
        };
        let run = place.launch(build, |()| tell_all());
        let all = all_of_daemon(&run);
        count += 1;
        if !lines.contains(&all) {
            lines.push(all);
        }
        place.forget();
    }
    format!("of {count} mixtures, these outcomes: {}", lines.join(" | "))
}

fn capable(place: &Place) -> String {
    let build = || {
        sys::set_groups(&[4711]).expect("set groups");
        sys::prctl(libc::PR_SET_KEEPCAPS, 1).expect("keep capabilities");
        sys::set_ids([STARTER; 3], [STARTERS_GROUP; 3]).expect("set ids");
        sys::set_capabilities(CAP_SETUID | CAP_SETGID).expect("set capabilities");
        sys::prctl(libc::PR_SET_KEEPCAPS, 0).expect("keep no more");
        Daemonize::new().user(UID).group(GID)
    };
    all_of_daemon(&place.launch(build, |()| tell_all()))
}

fn thread_keeps(place: &Place) -> String {
    let action = || {
        thread::spawn(|| {
            sys::prctl(libc::PR_SET_KEEPCAPS, 1).expect("keep capabilities");
            tell("keeps");
            thread::sleep(Duration::from_secs(60));
        });
        thread::sleep(Duration::from_millis(300));
    };
    let build = || {
        Daemonize::new()
            .user(UID)
            .group(GID)
            .privileged_action(action)
    };
    let run = place.launch(build, drop);
    let daemon = run.daemon().expect("a daemon");
    let threads = fs::read_dir(format!("/proc/{daemon}/task")).expect("threads");
    let threads: Vec<_> = threads
        .filter_map(|thread| {
            let name = thread.ok()?.file_name().into_string().ok()?;
            Some(capabilities(&format!("{daemon}/task/{name}")))
        })
        .collect();
    format!("{run}; its threads: {}", threads.join(" | "))
}

/// Makes this process, as an ordinary user, the root of a namespace with this
/// id alone.
fn enter_namespace(groups: &[u32]) {
    sys::set_groups(groups).expect("set groups");
    sys::set_ids([STARTER; 3], [STARTERS_GROUP; 3]).expect("set ids");
    // So that the maps below are this user's.
    sys::prctl(libc::PR_SET_DUMPABLE, 1).expect("be dumpable");
    sys::separate_users().expect("separate users");
    for (file, text) in [
        ("setgroups", "deny".to_owned()),
        ("uid_map", format!("0 {STARTER} 1")),
        ("gid_map", format!("0 {STARTERS_GROUP} 1")),
    ] {
        fs::write(format!("/proc/self/{file}"), text).expect("map the ids");
    }
}

fn namespace(place: &Place) -> String {
    let [with, without] = [&[4711_u32][..], &[]].map(|groups| {
        let build = || {
            enter_namespace(groups);
            Daemonize::new().user(0).group(0)
        };
        of_daemon(&place.launch(build, drop))
    });
    format!("with a group: {with}; without: {without}")
}

fn missing_in_namespace(place: &Place) -> String {
    let user = || {
        enter_namespace(&[]);
        Daemonize::new().user(7).group(0)
    };
    let user = of_daemon(&place.launch(user, drop));
    let group = || {
        enter_namespace(&[]);
        Daemonize::new().group(7)
    };
    let group = of_daemon(&place.launch(group, drop));
    format!("user 7: {user}; group 7: {group}")
}

fn in_groups(place: &Place, count: u32) -> String {
    let lines = (1_000_000..).take(count as usize);
    let lines: String = lines
        .map(|gid| format!("group{gid}:x:{gid}:{USER}\n"))
        .collect();
    database(place, "", &lines);
    let build = || {
        with_groups();
        Daemonize::new().user(USER).group(USER)
    };
    of_daemon(&place.launch(build, drop))
}

fn five_hundred(place: &Place) -> String {
    in_groups(place, 500)
}

fn too_many(place: &Place) -> String {
    in_groups(place, 70_000)
}

fn set_user_id_program(place: &Place) -> String {
    let program = copy_of_itself(place, 0o4755);
    let live = |()| {
        let output = Command::new(program).arg(PRINT_USER).output();
        let output = output.expect("run the program").stdout;
        tell(format_args!(
            "printed {}",
            String::from_utf8_lossy(&output).trim_end()
        ));
    };
    let run = place.launch(|| Daemonize::new().user(UID).group(GID), live);
    format!(
        "{run}; the program is user {}",
        run.told("printed").concat()
    )
}

fn memory(place: &Place) -> String {
    let run = place.launch(|| Daemonize::new().user(UID).group(GID), drop);
    let daemon = run.daemon().expect("a daemon");
    let owner = |file: &str| {
        let found = fs::metadata(format!("/proc/{daemon}/{file}")).expect("a file");
        format!("{file} {}:{}", found.uid(), found.gid())
    };
    let owners = ["environ", "fd", "mem"].map(owner).join(", ");
    let before = place.messages().len();
    let other = sys::fork(|| {
        sys::set_groups(&[GID]).expect("set groups");
        sys::set_ids([UID; 3], [GID; 3]).expect("become the same user");
        for file in ["environ", "mem"] {
            let opened = fs::File::open(format!("/proc/{daemon}/{file}"));
            let result = opened.map_or_else(|error| error.kind().to_string(), |_| "open".into());
            tell(format_args!("{file}: {result}"));
        }
    });
    place.wait_until(Duration::from_secs(5), || place.has_ended(other));
    let texts = place.messages().split_off(before);
    let texts: Vec<_> = texts.into_iter().map(|message| message.text).collect();
    let dumpable = fs::read_to_string("/proc/sys/fs/suid_dumpable").unwrap_or_default();
    format!(
        "{run}; owners: {owners}; another process of the user: {}; fs.suid_dumpable {}",
        texts.join(", "),
        dumpable.trim()
    )
}
