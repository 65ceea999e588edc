//! A daemon is who it was told to be, wholly, and nothing of who it was.

use std::process::{Command, ExitCode};

use tester::config::{Entry, Ids, Step};
use tester::report::Report;
use tester::suite::{TEST_USER, TEST_USER_GROUPS, TEST_USER_ID};
use tester::{Run, Scenario, case, scenario, suite, sys};

fn main() -> ExitCode {
    suite(&[
        case!(without_an_option_the_identity_stays, needs Root),
        case!(a_user_alone_brings_its_primary_group, needs Root),
        case!(a_user_alone_brings_all_its_groups, needs Root, TestUser),
        case!(a_user_by_number_is_the_same_as_by_name, needs Root, TestUser),
        case!(a_group_alone_is_the_only_one_and_the_user_stays, needs Root),
        case!(a_group_by_name_is_the_same_as_by_number, needs Root, TestUser),
        case!(a_group_takes_the_place_of_the_users_primary_one, needs Root, TestUser),
        case!(a_user_without_an_entry_needs_a_group),
        case!(a_user_without_an_entry_has_its_group_only, needs Root),
        case!(the_last_ids_there_are_can_be_taken, needs Root),
        case!(an_id_that_means_unchanged_is_refused),
        case!(root_as_the_target_keeps_no_groups_of_the_caller, needs Root),
        case!(root_as_the_target_keeps_its_capabilities, needs Root, Linux),
        case!(inside_and_outside_views_agree_on_who_it_is, needs Root, Linux, Tracing),
        case!(no_capability_is_left, needs Root, Linux),
        case!(no_inherited_capability_is_left, needs Root, Linux),
        case!(nothing_of_root_can_be_regained, needs Root),
        case!(an_effective_root_becomes_its_real_user_for_good, needs Root),
        case!(a_saved_root_becomes_its_real_user_for_good, needs Root),
        case!(a_real_root_becomes_its_effective_user_for_good, needs Root),
        case!(capabilities_do_not_outlive_a_change_of_user, needs Root, Linux),
        case!(capabilities_do_not_outlive_a_change_of_group, needs Root, Linux),
        case!(capabilities_outlive_a_change_to_oneself, needs Root, Linux),
        case!(an_ordinary_user_may_become_itself_by_number),
        case!(an_ordinary_user_may_become_itself_by_name),
        case!(a_member_of_several_groups_may_become_itself, needs Root, TestUser),
        case!(an_ordinary_user_cannot_become_root),
        case!(an_ordinary_user_cannot_become_another, needs Root),
        case!(an_ordinary_user_cannot_take_a_group_it_is_only_a_member_of, needs Root),
        case!(an_ordinary_user_cannot_give_up_a_group, needs Root),
        case!(an_unknown_user_is_named),
        case!(an_unknown_group_is_named),
        case!(a_nul_in_a_name_is_refused),
        case!(names_are_looked_up_outside_the_jail, needs Root),
        case!(the_privileged_action_has_the_old_identity_and_root, needs Root),
    ])
}

/// Ids that no database has.
const UID: u32 = 4_000_000_001;
const GID: u32 = 4_000_000_002;
const NOBODY: &str = "nobody";

/// What id(1) prints, which asks the same databases as the library.
fn id(option: &str, name: &str) -> Vec<u32> {
    let output = Command::new("id").args([option, name]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let ids = text.split_ascii_whitespace();
    let mut ids: Vec<u32> = ids.map(|id| id.parse().unwrap()).collect();
    ids.sort_unstable();
    ids
}

/// Root with groups that it has to lose.
fn as_root_with_groups() -> Scenario {
    scenario!().from_state(|state| {
        state.ids = Some(Ids {
            groups: Some(vec![0, 4, 7, 4711]),
            ..Ids::user(0, 0)
        });
    })
}

/// An ordinary user, which the test itself may be already.
fn as_ordinary() -> (Scenario, u32, u32) {
    if sys::effective_user() == 0 {
        let (uid, gid) = (id("-u", NOBODY)[0], id("-g", NOBODY)[0]);
        (scenario!().as_user(uid, gid), uid, gid)
    } else {
        (scenario!(), sys::effective_user(), sys::group_ids().1)
    }
}

/// CAP_SETGID and CAP_SETUID of <linux/capability.h>
const MAY_CHANGE_IDS: u64 = sys::CAP_SETGID | sys::CAP_SETUID;

/// An ordinary user that may change its ids nevertheless.
fn as_capable() -> (Scenario, u32, u32) {
    let (scenario, uid, gid) = as_ordinary();
    let scenario = scenario.from_state(|state| state.capabilities = Some(MAY_CHANGE_IDS));
    (scenario, uid, gid)
}

/// The daemon as it sees itself and as others see it.
#[track_caller]
fn views(run: &Run) -> [Report; 2] {
    let inside = run.observe();
    let outside = run.outside(inside.pid);
    [inside, outside]
}

/// All three user and group ids, and exactly these groups, from inside and,
/// as far as the platform can tell, from outside.
#[track_caller]
fn assert_is(run: &Run, uid: u32, gid: u32, groups: &[u32]) {
    for view in views(run) {
        assert!(view.uid.is_none_or(|ids| ids == uid), "{:?}", view.uid);
        assert!(view.gid.is_none_or(|ids| ids == gid), "{:?}", view.gid);
        assert_eq!(view.groups.as_deref().unwrap_or(groups), groups);
    }
}

#[track_caller]
fn assert_no_capabilities(run: &Run) {
    for view in views(run) {
        view.assert_no_capabilities();
    }
}

#[track_caller]
fn assert_cannot_regain(run: &Run, uid: u32, gid: u32) {
    let regained = run.try_to_regain(uid, gid);
    assert_eq!(regained.succeeded, [""; 0]);
    let tried = |call: &str| {
        let mut failed = regained.failed.iter();
        failed.any(|(name, errno)| name == call && *errno == libc::EPERM)
    };
    for call in ["setgroups([0])", "setgid(0)", "setuid(0)", "setresuid(0)"] {
        assert!(tried(call), "{call}: {regained:?}");
    }
}

fn without_an_option_the_identity_stays() {
    let run = as_root_with_groups().start();
    assert_is(&run, 0, 0, &[0, 4, 7, 4711]);
}

fn a_user_alone_brings_its_primary_group() {
    let run = as_root_with_groups().user(NOBODY).start();
    let (uid, gid) = (id("-u", NOBODY)[0], id("-g", NOBODY)[0]);
    assert_is(&run, uid, gid, &id("-G", NOBODY));
}

fn a_user_alone_brings_all_its_groups() {
    let run = as_root_with_groups().user(TEST_USER).start();
    assert_is(&run, TEST_USER_ID, TEST_USER_ID, &TEST_USER_GROUPS);
}

fn a_user_by_number_is_the_same_as_by_name() {
    let run = as_root_with_groups().user(TEST_USER_ID).start();
    assert_is(&run, TEST_USER_ID, TEST_USER_ID, &TEST_USER_GROUPS);
}

fn a_group_alone_is_the_only_one_and_the_user_stays() {
    let run = as_root_with_groups().group(GID).start();
    assert_is(&run, 0, GID, &[GID]);
}

fn a_group_by_name_is_the_same_as_by_number() {
    let run = as_root_with_groups().group(TEST_USER).start();
    assert_is(&run, 0, TEST_USER_ID, &[TEST_USER_ID]);
}

fn a_group_takes_the_place_of_the_users_primary_one() {
    let run = as_root_with_groups().user(TEST_USER).group(7).start();
    // Listed as a member of the other two; the primary one lists nobody.
    assert_is(&run, TEST_USER_ID, 7, &[7, 7002, 7003]);
}

fn a_user_without_an_entry_needs_a_group() {
    let scenario = scenario!().user(UID).pid_file("daemon.pid");
    let run = scenario.entry(Entry::Execute).launch();
    let error = run.launcher_error();
    assert_eq!(error.kind, "PrimaryGroupUnknown");
    assert!(error.text.contains("4000000001"), "{error}");
    run.assert_nothing_left();
    // Nobody but the launcher was there to return or to make the file.
    let senders = run.messages().into_iter().map(|frame| frame.sender);
    assert!(senders.into_iter().all(|pid| pid == run.launcher_pid()));
    assert_eq!(run.pid_file(), None);
}

fn a_user_without_an_entry_has_its_group_only() {
    let run = as_root_with_groups().user(UID).group(GID).start();
    assert_is(&run, UID, GID, &[GID]);
}

fn the_last_ids_there_are_can_be_taken() {
    let last = u32::MAX - 1;
    let run = as_root_with_groups().user(last).group(last).start();
    assert_is(&run, last, last, &[last]);
}

fn an_id_that_means_unchanged_is_refused() {
    let with_pid_file = || scenario!().pid_file("daemon.pid");
    for (scenario, kind) in [
        (scenario!().user(u32::MAX).group(7_u32), "SetUser"),
        (scenario!().group(u32::MAX), "SetGroup"),
        (
            with_pid_file().chown_pid_file_user(u32::MAX),
            "ChownPidfile",
        ),
        (
            with_pid_file().chown_pid_file_group(u32::MAX),
            "ChownPidfile",
        ),
    ] {
        let error = scenario.fail();
        assert_eq!(error.kind, format!("{kind}({})", libc::EINVAL));
        assert!(error.text.contains("4294967295: this id"), "{error}");
    }
}

fn root_as_the_target_keeps_no_groups_of_the_caller() {
    let run = as_root_with_groups().user("root").start();
    assert_is(&run, 0, id("-g", "root")[0], &id("-G", "root"));
}

fn root_as_the_target_keeps_its_capabilities() {
    let run = as_root_with_groups().user("root").start();
    let initial = run.initial().capabilities.unwrap();
    assert_ne!(initial.effective, 0);
    assert_eq!(run.observe().capabilities, Some(initial));
}

fn inside_and_outside_views_agree_on_who_it_is() {
    let run = as_root_with_groups().user(UID).group(GID).start();
    let daemon = run.assert_views_agree();
    assert!(daemon.uid.unwrap().saved == Some(UID));
    assert!(daemon.gid.unwrap().saved == Some(GID));
}

fn no_capability_is_left() {
    let run = as_root_with_groups().user(UID).group(GID).start();
    assert_ne!(run.initial().capabilities.unwrap().effective, 0);
    assert_no_capabilities(&run);
}

fn no_inherited_capability_is_left() {
    let scenario = as_root_with_groups().user(UID).group(GID);
    let run = scenario
        .from_state(|state| state.ambient_capabilities = Some(MAY_CHANGE_IDS))
        .start();
    let initial = run.initial().capabilities.unwrap();
    assert_eq!(
        (initial.inheritable, initial.ambient),
        (MAY_CHANGE_IDS, MAY_CHANGE_IDS)
    );
    assert_no_capabilities(&run);
}

fn nothing_of_root_can_be_regained() {
    let run = as_root_with_groups().user(UID).group(GID).start();
    assert_cannot_regain(&run, 0, 0);
    assert_is(&run, UID, GID, &[GID]);
}

/// As a program that is set-user-id root starts.
fn an_effective_root_becomes_its_real_user_for_good() {
    let scenario = scenario!().user(UID).group(GID).from_state(|state| {
        state.ids = Some(Ids {
            uid: [UID, 0, 0],
            gid: [GID, 0, 0],
            groups: Some(vec![0, 4]),
        });
    });
    let run = scenario.start();
    assert_is(&run, UID, GID, &[GID]);
    assert_cannot_regain(&run, 0, 0);
}

/// As such a program that has dropped its privileges for a while.
fn a_saved_root_becomes_its_real_user_for_good() {
    let scenario = scenario!().user(UID).group(GID).from_state(|state| {
        state.ids = Some(Ids {
            uid: [UID, UID, 0],
            gid: [GID, GID, 0],
            groups: Some(vec![GID]),
        });
    });
    let run = scenario.start();
    assert_is(&run, UID, GID, &[GID]);
    assert_cannot_regain(&run, 0, 0);
}

fn a_real_root_becomes_its_effective_user_for_good() {
    let scenario = scenario!().user(UID).group(GID).from_state(|state| {
        state.ids = Some(Ids {
            uid: [0, UID, UID],
            gid: [0, GID, GID],
            groups: Some(vec![GID]),
        });
    });
    let run = scenario.start();
    assert_is(&run, UID, GID, &[GID]);
    assert_cannot_regain(&run, 0, 0);
}

fn capabilities_do_not_outlive_a_change_of_user() {
    let (scenario, uid, gid) = as_capable();
    let run = scenario.user(UID).group(GID).start();
    assert_is(&run, UID, GID, &[GID]);
    // The kernel itself takes them from root only.
    assert_no_capabilities(&run);
    assert_cannot_regain(&run, uid, gid);
}

fn capabilities_do_not_outlive_a_change_of_group() {
    let (scenario, uid, gid) = as_capable();
    let run = scenario
        .from_state(|state| state.ambient_capabilities = Some(MAY_CHANGE_IDS))
        .group(GID)
        .start();
    assert_is(&run, uid, GID, &[GID]);
    assert_no_capabilities(&run);
    assert_cannot_regain(&run, uid, gid);
}

/// Who was this all along has nothing to give up.
fn capabilities_outlive_a_change_to_oneself() {
    let (scenario, uid, gid) = as_capable();
    let scenario = scenario.from_state(|state| {
        state.ids.as_mut().unwrap().groups = Some(vec![gid]);
    });
    let run = scenario.user(uid).group(gid).start();
    let capabilities = run.observe().capabilities;
    assert_eq!(capabilities, run.initial().capabilities);
    assert_eq!(capabilities.unwrap().effective, MAY_CHANGE_IDS);
}

fn an_ordinary_user_may_become_itself_by_number() {
    let (scenario, uid, gid) = as_ordinary();
    let run = scenario.user(uid).start();
    assert_is(&run, uid, gid, &run.initial().groups.unwrap());
}

fn an_ordinary_user_may_become_itself_by_name() {
    let (scenario, uid, gid) = as_ordinary();
    let output = Command::new("id").args(["-un", &uid.to_string()]).output();
    let name = String::from_utf8(output.unwrap().stdout).unwrap();
    let run = scenario.user(name.trim()).start();
    assert_is(&run, uid, gid, &run.initial().groups.unwrap());
}

fn a_member_of_several_groups_may_become_itself() {
    // In another order, and without the primary group: all the same.
    for groups in [vec![7003, 7001, 7002], vec![7002, 7003]] {
        let scenario = scenario!()
            .as_user(TEST_USER_ID, TEST_USER_ID)
            .from_state(|state| state.ids.as_mut().unwrap().groups = Some(groups))
            .user(TEST_USER);
        let run = scenario.start();
        let groups = run.initial().groups.unwrap();
        assert_is(&run, TEST_USER_ID, TEST_USER_ID, &groups);
    }
}

fn an_ordinary_user_cannot_become_root() {
    let (scenario, ..) = as_ordinary();
    let error = scenario.user("root").fail();
    // The first step that its own groups do not make superfluous.
    let steps = ["SetSupplementaryGroups", "SetGroup"];
    assert!(steps.contains(&error.kind_name()), "{error}");
    assert_eq!(error.errno, Some(libc::EPERM));
    assert!(error.text.contains("Operation not permitted"), "{error}");
}

fn an_ordinary_user_cannot_become_another() {
    // With its own groups, so that only the last step is one too many.
    let (scenario, _, gid) = as_ordinary();
    let error = scenario.user(UID).group(gid).fail();
    assert_eq!(error.kind, format!("SetUser({})", libc::EPERM));
    let start = "cannot change to user 4000000001: Operation not permitted";
    assert!(error.text.starts_with(start), "{error}");
}

fn an_ordinary_user_cannot_take_a_group_it_is_only_a_member_of() {
    let (scenario, ..) = as_ordinary();
    let scenario = scenario.from_state(|state| {
        state.ids.as_mut().unwrap().groups = Some(vec![GID]);
    });
    let error = scenario.group(GID).fail();
    assert_eq!(error.kind, format!("SetGroup({})", libc::EPERM));
    let start = "cannot change to group 4000000002: Operation not permitted";
    assert!(error.text.starts_with(start), "{error}");
}

fn an_ordinary_user_cannot_give_up_a_group() {
    let (scenario, _, gid) = as_ordinary();
    let scenario = scenario.from_state(|state| {
        state.ids.as_mut().unwrap().groups = Some(vec![gid, GID]);
    });
    let error = scenario.group(gid).fail();
    let kind = format!("SetSupplementaryGroups({})", libc::EPERM);
    assert_eq!(error.kind, kind);
    let start = "cannot set supplementary groups";
    assert!(error.text.starts_with(start), "{error}");
    assert!(error.text.contains("Operation not permitted"), "{error}");
}

fn an_unknown_user_is_named() {
    for scenario in [
        scenario!().user("no such user"),
        scenario!()
            .pid_file("daemon.pid")
            .chown_pid_file_user("no such user"),
    ] {
        let error = scenario.fail();
        assert_eq!(error.kind, "UserNotFound");
        assert_eq!(error.text, "unknown user no such user");
        assert_eq!(error.errno, None);
    }
}

fn an_unknown_group_is_named() {
    for scenario in [
        scenario!().group("no such group"),
        scenario!()
            .pid_file("daemon.pid")
            .chown_pid_file_group("no such group"),
    ] {
        let error = scenario.fail();
        assert_eq!(error.kind, "GroupNotFound");
        assert_eq!(error.text, "unknown group no such group");
        assert_eq!(error.errno, None);
    }
}

fn a_nul_in_a_name_is_refused() {
    for (scenario, kind) in [
        (scenario!().user("root\0"), "UserContainsNul"),
        (scenario!().group("\0root"), "GroupContainsNul"),
        (scenario!().chown_pid_file_user("ro\0ot"), "UserContainsNul"),
        (scenario!().chown_pid_file_group("\0"), "GroupContainsNul"),
    ] {
        let error = scenario.pid_file("daemon.pid").fail();
        assert_eq!(error.kind, kind);
        assert!(!error.text.contains('\0'), "{error}");
    }
}

fn names_are_looked_up_outside_the_jail() {
    let scenario = as_root_with_groups().user(NOBODY).group("daemon");
    let jail = scenario.create_folder("jail");
    let run = scenario.chroot(&jail).start();
    let [inside, outside] = views(&run);
    assert!(inside.uid.unwrap() == id("-u", NOBODY)[0]);
    assert!(inside.gid.unwrap() == inside.groups.unwrap()[0]);
    assert!(outside.uid == inside.uid && outside.gid == inside.gid);
}

fn the_privileged_action_has_the_old_identity_and_root() {
    let scenario = as_root_with_groups().user(UID).group(GID);
    let jail = scenario.create_folder("jail");
    let scenario = scenario.chroot(&jail).privileged_action([Step::Observe]);
    let run = scenario.start();
    let (initial, observed) = (run.initial(), run.observed());
    assert_eq!(observed.uid, initial.uid);
    assert_eq!(observed.gid, initial.gid);
    assert_eq!(observed.groups, initial.groups);
    assert_eq!(observed.capabilities, initial.capabilities);
    assert_eq!(observed.root, initial.root);
    assert_eq!(observed.working_directory, initial.working_directory);
    // By then it is the daemon, though.
    assert_eq!(observed.pid, run.report().pid);
    assert_is(&run, UID, GID, &[GID]);
}
