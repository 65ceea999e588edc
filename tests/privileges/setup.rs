//! Set-up and assertions that the modules of this suite share.

use std::collections::BTreeSet;

use tester::prelude::*;
use tester::report::IdTriple;

/// The ids of the user who starts a program.
pub(crate) const STARTER: u32 = 4_000_000_011;

pub(crate) const STARTERS_GROUP: u32 = 4_000_000_012;

/// `SupplementaryGroups::Only`
pub(crate) fn only<Group: Into<Identity>>(
    groups: impl IntoIterator<Item = Group>,
) -> SupplementaryGroups {
    SupplementaryGroups::Only(groups.into_iter().map(Into::into).collect())
}

pub(crate) fn no_groups() -> SupplementaryGroups {
    SupplementaryGroups::Only(Vec::new())
}

/// A start by an ordinary user, and the ids of that user.
pub(crate) fn as_ordinary() -> (Scenario, u32, u32) {
    match sys::effective_user() {
        0 => (as_starter(), STARTER, STARTERS_GROUP),
        user => (scenario!(), user, sys::group_ids().effective),
    }
}

pub(crate) fn as_starter() -> Scenario {
    scenario!().as_user(STARTER, STARTERS_GROUP)
}

/// A start by an ordinary user with these groups.
pub(crate) fn as_member(groups: &[u32]) -> Scenario {
    as_starter().with_groups(groups)
}

/// A start by an ordinary user with these capabilities and groups.
pub(crate) fn as_capable(capabilities: u64, groups: &[u32]) -> Scenario {
    as_member(groups).from_state(|state| state.capabilities = Some(capabilities))
}

/// The groups as the system lists them. Some systems list the effective group, too.
pub(crate) fn groups_as_listed(gid: u32, groups: &[u32]) -> Vec<u32> {
    let effective = sys::EFFECTIVE_GID_IS_LISTED.then_some(gid);
    let groups: BTreeSet<u32> = groups.iter().copied().chain(effective).collect();
    groups.into_iter().collect()
}

#[track_caller]
pub(crate) fn assert_ids(view: &Report, uid: u32, gid: u32, groups: &[u32]) {
    assert!(view.uid.is_none_or(|ids| ids == uid), "{:?}", view.uid);
    assert!(view.gid.is_none_or(|ids| ids == gid), "{:?}", view.gid);
    if let Some(found) = &view.groups {
        assert_eq!(groups_as_listed(gid, found), groups_as_listed(gid, groups));
    }
}

/// Real, effective and saved ids are these, and the groups are exactly these, seen from
/// inside and, as far as the platform allows, from outside.
#[track_caller]
pub(crate) fn assert_is(run: &Run, uid: u32, gid: u32, groups: &[u32]) {
    for view in run.views() {
        assert_ids(&view, uid, gid, groups);
    }
}

/// The daemon can regain nothing of root and of the `former` ids.
#[track_caller]
pub(crate) fn assert_no_way_back(run: &Run, former: (u32, u32)) {
    assert_no_capabilities(run);
    assert_cannot_regain(run, former.0, former.1);
}

#[track_caller]
pub(crate) fn assert_no_capabilities(run: &Run) {
    for view in run.views() {
        view.assert_no_capabilities();
    }
}

/// The daemon has become an ordinary user with exactly these groups, irrevocably.
#[track_caller]
pub(crate) fn assert_dropped(run: &Run, uid: u32, gid: u32, groups: &[u32], former: (u32, u32)) {
    assert_is(run, uid, gid, groups);
    assert_no_way_back(run, former);
    // The attempts have changed nothing.
    assert_is(run, uid, gid, groups);
    if cfg!(target_os = "linux") {
        assert_out_of_reach(run.report().pid, uid, gid);
    }
}

/// Other processes of the same user cannot inspect the daemon. proc(5): "if the process's
/// dumpable attribute is set to a value other than 1". /proc/sys/fs/suid_dumpable says
/// which value follows from a change of ids. The directory itself always belongs to the
/// effective ids.
#[track_caller]
pub(crate) fn assert_out_of_reach(pid: u32, uid: u32, gid: u32) {
    let owner = |file: &str| {
        let metadata = fs::metadata(format!("/proc/{pid}/{file}")).unwrap();
        (metadata.uid(), metadata.gid())
    };
    let dumpable = fs::read_to_string("/proc/sys/fs/suid_dumpable").unwrap();
    let expected = match dumpable.trim() {
        "1" => (uid, gid),
        _ => (0, 0),
    };
    assert_eq!(owner("."), (uid, gid));
    for file in ["environ", "fd", "mem", "status"] {
        assert_eq!(owner(file), expected, "{file}");
    }
}

/// The start fails before the launcher forks: no other process has sent a message.
#[track_caller]
pub(crate) fn fail_before_any_fork(scenario: Scenario) -> StartError {
    let run = scenario.entry(Entry::Execute).launch();
    let error = run.launcher_error();
    run.assert_nothing_left();
    let mut frames = run.messages().into_iter();
    assert!(frames.all(|frame| frame.sender == run.launcher_pid()));
    error
}

#[track_caller]
pub(crate) fn assert_groups_refused(scenario: &Scenario) {
    let error = scenario.fail();
    error.assert_kind("SetSupplementaryGroups", libc::EPERM);
    assert!(error.text.contains(&errno_text(libc::EPERM)), "{error}");
}

pub(crate) const MEMBER: &str = "member";
pub(crate) const SOURCES: &str = "passwd: files\ngroup: files\n";

/// A start by root with a user database of its own.
pub(crate) fn root_with_database(passwd: &str, group: &str) -> Scenario {
    with_database(scenario!().as_root_with_groups(), passwd, group)
}

/// A start with a user database of its own, which has root, a [`MEMBER`] with `UID` and
/// `GID`, and these lines.
pub(crate) fn with_database(scenario: Scenario, passwd: &str, group: &str) -> Scenario {
    let directory = scenario.create_directory("etc");
    let passwd = format!(
        "root:x:0:0::/root:/bin/sh\n{MEMBER}:x:{UID}:{GID}::/nonexistent:/bin/sh\n{passwd}"
    );
    fs::write(directory.join("passwd"), passwd).unwrap();
    fs::write(directory.join("group"), format!("root:x:0:\n{group}")).unwrap();
    // Other sources than the files would add entries.
    fs::write(directory.join("nsswitch.conf"), SOURCES).unwrap();
    scenario.from_state(|state| state.user_database = Some(directory.into()))
}

/// This line of each thread's status. The first thread comes first.
pub(crate) fn of_each_thread(pid: u32, line: &str) -> Vec<String> {
    let entries = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut threads: Vec<u32> = names.map(|name| name.parse().unwrap()).collect();
    threads.sort_unstable_by_key(|&thread| (thread != pid, thread));
    let value = |thread| {
        let status = fs::read_to_string(format!("/proc/{pid}/task/{thread}/status")).unwrap();
        let mut lines = status.lines();
        let value = lines.find_map(|found| found.strip_prefix(line)?.strip_prefix(':'));
        value.unwrap().trim().to_owned()
    };
    threads.into_iter().map(value).collect()
}

/// Of <linux/capability.h>.
pub(crate) const CHOWN: u8 = 0;
pub(crate) const CHANGE_GROUP: u8 = 6;
pub(crate) const CHANGE_USER: u8 = 7;
pub(crate) const BIND_PORTS: u8 = 10;

/// The permitted and the effective set are `permitted`, the inheritable and the ambient set are
/// `ambient`.
#[track_caller]
pub(crate) fn assert_sets(run: &Run, permitted: u64, ambient: u64) {
    for view in run.views() {
        let sets = view.capabilities.expect("its capabilities");
        let found = [sets.permitted, sets.effective];
        assert_eq!(found, [permitted; 2], "{sets:x?}");
        let found = [sets.inheritable, sets.ambient];
        assert_eq!(found, [ambient; 2], "{sets:x?}");
    }
}

/// The daemon succeeds in these deeds of [`Run::try_capabilities`], and in no other.
#[track_caller]
pub(crate) fn assert_succeeds(run: &Run, deeds: &[&str]) {
    let file = scenario!();
    let path = file.path("file");
    fs::write(&path, "").unwrap();
    let start = fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start");
    let everyone_binds = start.is_ok_and(|start| start.trim().parse::<u32>().unwrap() < 1024);
    let mut found = run.try_capabilities(&path);
    if everyone_binds && !deeds.contains(&"bind") {
        found.retain(|deed| deed != "bind");
    }
    assert_eq!(found, deeds);
}

/// The inheritable, permitted, effective and ambient set of a program that the daemon executes.
#[track_caller]
pub(crate) fn sets_of_program(scenario: Scenario) -> [u64; 4] {
    sets_by("grep".as_ref(), scenario)
}

/// The same, by this copy of grep(1).
#[track_caller]
pub(crate) fn sets_by(grep: &Path, scenario: Scenario) -> [u64; 4] {
    let words = [grep.into(), "^Cap".into(), "/proc/self/status".into()];
    let run = scenario.initialize([Step::Run(words.into())]).start();
    let lines = run.result().concat();
    ["CapInh:", "CapPrm:", "CapEff:", "CapAmb:"].map(|name| {
        let mut lines = lines.lines();
        let mask = lines.find_map(|line| line.strip_prefix(name)).unwrap();
        u64::from_str_radix(mask.trim(), 16).unwrap()
    })
}

/// A copy of a program with this mode and owner, in the directory of the scenario.
pub(crate) fn copy_of(program: &Path, mode: u32, owner: (u32, u32)) -> Scenario {
    let directory = scenario!();
    let copy = directory.path("program");
    // Another process copies: a child that this process forks meanwhile would inherit
    // the open copy, and a file that is open for writing cannot be executed.
    let copied = Command::new("cp").arg(program).arg(&copy).status();
    assert!(copied.unwrap().success());
    chown(&copy, Some(owner.0), Some(owner.1)).unwrap();
    set_mode(&copy, mode);
    directory
}

pub(crate) fn ids([real, effective, saved]: [u32; 3]) -> Option<IdTriple> {
    Some(IdTriple {
        real,
        effective,
        saved: Some(saved),
    })
}

pub(crate) const SET_BOTH: u32 = 0o6755;

pub(crate) const NOBODY: &str = "nobody";

/// The ids that id(1) prints, which asks the same databases as the library.
pub(crate) fn id(option: &str, name: &str) -> Vec<u32> {
    let output = Command::new("id").args([option, name]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let ids = text.split_ascii_whitespace();
    let mut ids: Vec<u32> = ids.map(|id| id.parse().unwrap()).collect();
    ids.sort_unstable();
    ids
}

/// A start by an ordinary user who is in the database, and the ids of that user.
pub(crate) fn as_nobody() -> (Scenario, u32, u32) {
    let (uid, gid) = match sys::effective_user() {
        0 => (id("-u", NOBODY)[0], id("-g", NOBODY)[0]),
        uid => return (scenario!(), uid, sys::group_ids().effective),
    };
    (scenario!().as_user(uid, gid), uid, gid)
}

#[track_caller]
pub(crate) fn assert_cannot_regain(run: &Run, uid: u32, gid: u32) {
    let regained = run.try_to_regain(uid, gid);
    assert_eq!(regained.succeeded, [""; 0]);
    for call in ["setgroups([0])", "setgid(0)", "setuid(0)", "setresuid(0)"] {
        let refused = (call.to_owned(), libc::EPERM);
        assert!(regained.failed.contains(&refused), "{call}: {regained:?}");
    }
}

/// A start by root, with groups that have to go, for a daemon with other ids.
pub(crate) fn root_to_user() -> Scenario {
    scenario!().as_root_with_groups().user(UID).group(GID)
}
