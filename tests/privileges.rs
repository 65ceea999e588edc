//! What a daemon gives up it has given up, whoever started it and from
//! wherever: groups, capabilities and what exec may grant.

use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Duration;

use tester::config::{
    Access, Blocked, Disposition, Entry, Foreground, Identity, Ids, OpenDescriptor, Step, Stream,
    SupplementaryGroups, UserNamespace,
};
use tester::control::Message;
use tester::report::{IdTriple, Report, SignalSet};
use tester::suite::{TEST_USER, TEST_USER_GROUPS, TEST_USER_ID};
use tester::sys::{CAP_SETGID, CAP_SETUID, KEEP_CAPS, NO_SETUID_FIXUP, NOROOT};
use tester::{Run, Scenario, case, scenario, suite, sys};

fn main() -> ExitCode {
    suite(&[
        // Supplementary groups.
        case!(the_databases_groups_are_the_default, needs Root, TestUser),
        case!(kept_groups_stay_whoever_the_daemon_becomes, needs Root),
        case!(kept_groups_stay_with_another_group, needs Root),
        case!(groups_kept_by_name_change_nothing),
        case!(these_groups_and_no_others_are_had_as_a_user, needs Root),
        case!(these_groups_and_no_others_are_had_with_a_group, needs Root),
        case!(these_groups_alone_leave_the_ids, needs Root),
        case!(all_groups_can_be_given_up, needs Root),
        case!(a_group_counts_once_and_their_order_does_not, needs Root),
        case!(groups_are_known_by_name, needs Root, TestUser),
        case!(groups_need_no_entry_in_the_database, needs Root),
        case!(the_target_root_has_these_groups_and_its_capabilities, needs Root, Linux),
        case!(capabilities_do_not_outlive_a_change_of_groups_alone, needs Root, Linux),
        case!(groups_change_in_the_foreground, needs Root),
        case!(the_privileged_action_has_the_old_groups, needs Root),
        case!(an_unknown_one_among_the_groups_is_named),
        case!(a_nul_among_the_groups_is_refused),
        case!(a_user_without_an_entry_needs_a_group_whatever_becomes_of_the_others),
        case!(as_many_groups_as_allowed_can_be_had, needs Root, Linux),
        case!(one_group_more_than_allowed_is_told_with_both_numbers),
        case!(an_ordinary_user_may_name_its_own_groups, needs Root, TestUser),
        case!(an_ordinary_user_cannot_name_other_groups),
        case!(an_ordinary_user_cannot_give_up_its_groups, needs Root, Linux),
        case!(an_ordinary_user_may_keep_groups_that_the_database_lacks, needs Root, Linux),
        case!(groups_are_refused_before_the_gid_and_that_before_the_uid, needs Root),
        case!(a_user_is_looked_up_before_a_group_and_that_before_the_others),
        // User databases.
        case!(a_user_in_five_hundred_groups_is_in_all_of_them, needs Root, Linux, Mounting),
        case!(a_user_in_as_many_groups_as_allowed_is_in_all_of_them, needs Root, Linux, Mounting),
        case!(a_user_in_more_groups_than_allowed_is_told_with_both_numbers, needs Root, Linux, Mounting),
        case!(a_group_of_twenty_thousand_members_is_found, needs Root, Linux, Mounting),
        case!(a_group_of_a_line_of_eight_mebibytes_is_found_and_one_of_eighty_is_not, needs Root, Linux, Mounting),
        case!(lines_that_are_none_hide_no_others, needs Root, Linux, Mounting),
        case!(an_empty_database_has_nobody, needs Root, Linux, Mounting),
        case!(a_database_that_cannot_be_read_is_not_one_without_the_user, needs Root, Linux, Mounting),
        case!(a_database_that_cannot_be_read_is_not_one_without_the_group, needs Root, Linux, Mounting),
        case!(a_database_that_cannot_be_read_takes_no_group_away, needs Root, Linux, Mounting),
        case!(where_there_is_no_database_of_groups_nobody_is_in_any, needs Root, Linux, Mounting),
        case!(an_entry_whose_id_means_unchanged_is_refused, needs Root, Linux, Mounting),
        // The last ids.
        case!(the_last_id_can_be_had_everywhere, needs Root),
        case!(the_id_that_means_unchanged_is_refused_everywhere),
        // New privileges.
        case!(no_new_privileges_are_granted_once_given_up, needs Linux),
        case!(new_privileges_are_not_given_up_unasked, needs Linux),
        case!(new_privileges_are_given_up_as_another_user_in_a_jail, needs Root, Linux),
        case!(new_privileges_are_given_up_in_the_foreground, needs Linux),
        case!(later_threads_have_given_up_new_privileges, needs Linux),
        case!(earlier_threads_that_have_not_given_them_up_fail_the_start, needs Linux),
        #[cfg(any(target_os = "linux", target_os = "freebsd"))]
        case!(a_set_user_id_program_grants_nothing_once_given_up, needs Root),
        #[cfg(not(any(target_os = "linux", target_os = "freebsd")))]
        case!(giving_up_new_privileges_is_refused_where_nothing_can),
        // Whoever the launcher is.
        case!(a_set_user_id_root_launcher_becomes_its_real_user, needs Root, Linux),
        case!(a_set_user_id_root_launcher_becomes_another_user, needs Root, Linux),
        case!(a_set_user_id_root_launcher_is_not_led_astray_by_its_surroundings, needs Root, Linux),
        case!(a_set_user_id_root_launcher_stays_so_unasked, needs Root, Linux),
        case!(a_set_group_id_root_launcher_becomes_its_real_group, needs Root, Linux),
        case!(a_launcher_set_to_root_in_both_becomes_its_real_user, needs Root, Linux),
        case!(a_launcher_set_to_an_ordinary_user_becomes_either, needs Root, Linux),
        case!(root_in_any_of_the_ids_is_given_up, needs Root, Linux),
        case!(an_effective_root_becomes_a_third_user, needs Root, Linux),
        case!(who_is_not_effectively_root_cannot_become_a_third_user, needs Root, Linux),
        case!(a_real_root_may_become_root, needs Root, Linux),
        case!(an_ordinary_user_from_a_shell_becomes_itself, needs Root, Linux),
        case!(the_right_to_change_ids_without_root_is_enough, needs Root, Linux),
        case!(who_may_not_signal_the_daemon_ends_it_all_the_same, needs Root, Linux),
        case!(the_right_to_change_users_alone_needs_the_groups_kept, needs Root, Linux),
        case!(the_right_to_change_groups_alone_changes_no_user, needs Root, Linux),
        case!(capabilities_that_secure_bits_keep_are_cleared, needs Root, Linux),
        case!(threads_of_the_privileged_action_change_too, needs Root, Linux),
        case!(what_another_thread_may_keep_ends_a_process_in_the_foreground, needs Root, Linux),
        case!(what_another_thread_may_keep_fails_the_start, needs Root, Linux),
        // User namespaces.
        case!(the_only_id_of_a_namespace_may_become_itself, needs Root, Linux, UserNamespaces),
        case!(groups_of_a_namespace_that_denies_setgroups_can_be_kept_only, needs Root, Linux, UserNamespaces),
        case!(an_id_that_a_namespace_lacks_is_refused, needs Root, Linux, UserNamespaces),
        case!(root_of_a_whole_namespace_becomes_another_user, needs Root, Linux, UserNamespaces),
        case!(root_of_a_shifted_namespace_becomes_another_user, needs Root, Linux, UserNamespaces),
    ])
}

/// Ids that no database has.
const UID: u32 = 4_000_000_001;
const GID: u32 = 4_000_000_002;
/// Those of the user who starts a program.
const STARTER: u32 = 4_000_000_011;
const STARTERS_GROUP: u32 = 4_000_000_012;
/// Groups that have to go.
const ROOTS_GROUPS: [u32; 4] = [0, 4, 7, 4711];
/// What stays of them where they are kept, and the effective gid takes the place
/// of the first.
const KEPT_GROUPS: &[u32] = if sys::EFFECTIVE_GID_IS_LISTED {
    &[4, 7, 4711]
} else {
    &ROOTS_GROUPS
};

const LAST: u32 = u32::MAX - 1;
const MEANS_UNCHANGED: u32 = u32::MAX;

/// `SupplementaryGroups::Only`
fn only<Group: Into<Identity>>(groups: impl IntoIterator<Item = Group>) -> SupplementaryGroups {
    SupplementaryGroups::Only(groups.into_iter().map(Into::into).collect())
}

fn no_groups() -> SupplementaryGroups {
    SupplementaryGroups::Only(Vec::new())
}

/// Root with groups that it has to lose.
fn as_root_with_groups() -> Scenario {
    from_ids([0; 3], [0; 3], &ROOTS_GROUPS)
}

fn from_ids(uid: [u32; 3], gid: [u32; 3], groups: &[u32]) -> Scenario {
    scenario!().from_state(|state| {
        state.ids = Some(Ids {
            uid,
            gid,
            groups: Some(groups.to_vec()),
        });
    })
}

/// An ordinary user, which the test itself may be already.
fn as_ordinary() -> (Scenario, u32, u32) {
    match sys::effective_user() {
        0 => (
            scenario!().as_user(STARTER, STARTERS_GROUP),
            STARTER,
            STARTERS_GROUP,
        ),
        user => (scenario!(), user, sys::group_ids().1),
    }
}

/// An ordinary user of these groups.
fn as_member(groups: &[u32]) -> Scenario {
    let scenario = scenario!().as_user(STARTER, STARTERS_GROUP);
    scenario.from_state(|state| state.ids.as_mut().unwrap().groups = Some(groups.to_vec()))
}

/// The same with these capabilities.
fn as_capable(capabilities: u64, groups: &[u32]) -> Scenario {
    as_member(groups).from_state(|state| state.capabilities = Some(capabilities))
}

/// As the system lists them, of which some count the effective gid as one.
fn listed(gid: u32, groups: &[u32]) -> Vec<u32> {
    let effective = sys::EFFECTIVE_GID_IS_LISTED.then_some(gid);
    let groups: BTreeSet<u32> = groups.iter().copied().chain(effective).collect();
    groups.into_iter().collect()
}

/// The daemon as it sees itself and as others see it.
#[track_caller]
fn views(run: &Run) -> [Report; 2] {
    let inside = run.observe();
    let outside = run.outside(inside.pid);
    [inside, outside]
}

#[track_caller]
fn assert_ids(view: &Report, uid: u32, gid: u32, groups: &[u32]) {
    assert!(view.uid.is_none_or(|ids| ids == uid), "{:?}", view.uid);
    assert!(view.gid.is_none_or(|ids| ids == gid), "{:?}", view.gid);
    if let Some(found) = &view.groups {
        assert_eq!(found, &listed(gid, groups));
    }
}

/// All three user and group ids, and exactly these groups, from inside and,
/// as far as the platform can tell, from outside.
#[track_caller]
fn assert_is(run: &Run, uid: u32, gid: u32, groups: &[u32]) {
    for view in views(run) {
        assert_ids(&view, uid, gid, groups);
    }
}

/// Nothing of root or of `former` is left or can be had again.
#[track_caller]
fn assert_no_way_back(run: &Run, former: (u32, u32)) {
    for view in views(run) {
        view.assert_no_capabilities();
    }
    let regained = run.try_to_regain(former.0, former.1);
    assert_eq!(regained.succeeded, [""; 0]);
    let calls = ["setgroups([0])", "setgid(0)", "setuid(0)", "setresuid(0)"];
    for call in calls {
        let refused = (call.to_owned(), libc::EPERM);
        assert!(regained.failed.contains(&refused), "{call}: {regained:?}");
    }
}

/// The daemon has become an ordinary user, with exactly these groups and with
/// nothing else.
#[track_caller]
fn assert_dropped(run: &Run, uid: u32, gid: u32, groups: &[u32], former: (u32, u32)) {
    assert_is(run, uid, gid, groups);
    assert_no_way_back(run, former);
    // The attempts have changed nothing either.
    assert_is(run, uid, gid, groups);
    if cfg!(target_os = "linux") {
        assert_out_of_reach(run.report().pid, uid, gid);
    }
}

/// Other processes of the same user cannot look into the daemon: proc(5), "if
/// the process's dumpable attribute is set to a value other than 1", which
/// follows from a change of ids as /proc/sys/fs/suid_dumpable says. The folder
/// itself always shows the effective ids.
#[track_caller]
fn assert_out_of_reach(pid: u32, uid: u32, gid: u32) {
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

/// Like [`Scenario::fail`], and also: nobody but the launcher was there to
/// fail.
#[track_caller]
fn fail_before_any_fork(scenario: Scenario) -> tester::report::StartError {
    let run = scenario.entry(Entry::Execute).launch();
    let error = run.launcher_error();
    run.assert_nothing_left();
    let mut frames = run.messages().into_iter();
    assert!(frames.all(|frame| frame.sender == run.launcher_pid()));
    error
}

// --- Supplementary groups ----------------------------------------------------

fn the_databases_groups_are_the_default() {
    let explicit = || as_root_with_groups().supplementary_groups(SupplementaryGroups::FromDatabase);
    let run = explicit().user(TEST_USER).start();
    assert_dropped(&run, TEST_USER_ID, TEST_USER_ID, &TEST_USER_GROUPS, (0, 0));
    assert_is(&explicit().group(GID).start(), 0, GID, &[GID]);
    assert_is(&explicit().start(), 0, 0, &ROOTS_GROUPS);
}

fn kept_groups_stay_whoever_the_daemon_becomes() {
    let scenario = as_root_with_groups().user(UID).group(GID);
    let run = scenario.supplementary_groups(SupplementaryGroups::Keep);
    assert_dropped(&run.start(), UID, GID, KEPT_GROUPS, (0, 0));
}

fn kept_groups_stay_with_another_group() {
    let scenario = as_root_with_groups().group(GID);
    let run = scenario.supplementary_groups(SupplementaryGroups::Keep);
    assert_is(&run.start(), 0, GID, KEPT_GROUPS);
}

fn groups_kept_by_name_change_nothing() {
    let run = scenario!()
        .supplementary_groups(SupplementaryGroups::Keep)
        .start();
    let (initial, daemon) = (run.initial(), run.observe());
    assert_eq!(
        (daemon.uid, daemon.gid, daemon.groups, daemon.capabilities),
        (
            initial.uid,
            initial.gid,
            initial.groups,
            initial.capabilities
        )
    );
}

fn these_groups_and_no_others_are_had_as_a_user() {
    let scenario = as_root_with_groups().user(UID).group(GID);
    let run = scenario.supplementary_groups(only([8, 4712])).start();
    assert_dropped(&run, UID, GID, &[8, 4712], (0, 0));
    // The user's own in the database are not added.
    let scenario = as_root_with_groups().user("nobody").group(GID);
    let run = scenario.supplementary_groups(only([8, 4712])).start();
    let uid = run.observe().uid.unwrap().real;
    assert_dropped(&run, uid, GID, &[8, 4712], (0, 0));
}

fn these_groups_and_no_others_are_had_with_a_group() {
    let scenario = as_root_with_groups().group(GID);
    let run = scenario.supplementary_groups(only([8, 4712])).start();
    assert_is(&run, 0, GID, &[8, 4712]);
}

fn these_groups_alone_leave_the_ids() {
    let run = as_root_with_groups().supplementary_groups(only([8, 4712]));
    assert_is(&run.start(), 0, 0, &[8, 4712]);
    let run = as_root_with_groups().supplementary_groups(no_groups());
    assert_is(&run.start(), 0, 0, &[]);
}

fn all_groups_can_be_given_up() {
    let scenario = as_root_with_groups().user(UID).group(GID);
    let run = scenario.supplementary_groups(no_groups()).start();
    assert_dropped(&run, UID, GID, &[], (0, 0));
}

fn a_group_counts_once_and_their_order_does_not() {
    let scenario = as_root_with_groups().user(UID).group(GID);
    let groups = only([9, 7, 4713, 9, GID, 8, 7]);
    let run = scenario.supplementary_groups(groups).start();
    assert_dropped(&run, UID, GID, &[7, 8, 9, 4713, GID], (0, 0));
}

fn groups_are_known_by_name() {
    let groups = only(["daemonize2-extra2", "daemonize2-extra1"]);
    let scenario = as_root_with_groups().user(UID).group(TEST_USER);
    let run = scenario.supplementary_groups(groups).start();
    assert_dropped(&run, UID, TEST_USER_ID, &TEST_USER_GROUPS[1..], (0, 0));
}

fn groups_need_no_entry_in_the_database() {
    let groups = [4_000_000_003, 4_000_000_004];
    let scenario = as_root_with_groups().user(UID).group(GID);
    let run = scenario.supplementary_groups(only(groups)).start();
    assert_dropped(&run, UID, GID, &groups, (0, 0));
}

fn the_target_root_has_these_groups_and_its_capabilities() {
    let scenario = as_root_with_groups().user("root").group(GID);
    let run = scenario.supplementary_groups(only([8])).start();
    assert_is(&run, 0, GID, &[8]);
    let initial = run.initial().capabilities;
    assert_ne!(initial.unwrap().effective, 0);
    assert_eq!(run.observe().capabilities, initial);
}

fn capabilities_do_not_outlive_a_change_of_groups_alone() {
    let scenario = as_capable(CAP_SETGID, &ROOTS_GROUPS);
    let run = scenario.supplementary_groups(only([8])).start();
    assert_eq!(run.initial().capabilities.unwrap().effective, CAP_SETGID);
    assert_is(&run, STARTER, STARTERS_GROUP, &[8]);
    assert_no_way_back(&run, (0, 0));
}

fn groups_change_in_the_foreground() {
    let scenario = as_root_with_groups().user(UID).group(GID);
    let scenario = scenario.foreground(Foreground::Yes);
    for (groups, expected) in [
        (only([8, 4712]), &[8, 4712][..]),
        (SupplementaryGroups::Keep, KEPT_GROUPS),
    ] {
        let run = scenario.clone().supplementary_groups(groups).launch();
        assert_eq!(run.report().pid, run.launcher_pid());
        assert_dropped(&run, UID, GID, expected, (0, 0));
    }
}

fn the_privileged_action_has_the_old_groups() {
    let scenario = as_root_with_groups().supplementary_groups(only([8]));
    let run = scenario.privileged_action([Step::Observe]).start();
    assert_eq!(run.observed().groups, Some(ROOTS_GROUPS.to_vec()));
    assert_is(&run, 0, 0, &[8]);
}

fn an_unknown_one_among_the_groups_is_named() {
    let groups = || only([Identity::Id(7), "no such group".into()]);
    for scenario in [scenario!(), scenario!().user("root")] {
        let error = fail_before_any_fork(scenario.supplementary_groups(groups()));
        assert_eq!(error.kind, "GroupNotFound");
        assert_eq!(error.text, "unknown group no such group");
        assert_eq!(error.errno, None);
    }
}

fn a_nul_among_the_groups_is_refused() {
    let groups = only([Identity::Id(7), "ro\0ot".into()]);
    let error = fail_before_any_fork(scenario!().supplementary_groups(groups));
    assert_eq!(error.kind, "GroupContainsNul");
    assert_eq!(error.text, "NUL byte in group name ro\\u{0}ot");
}

fn a_user_without_an_entry_needs_a_group_whatever_becomes_of_the_others() {
    for groups in [SupplementaryGroups::Keep, only([7])] {
        let scenario = scenario!().user(UID).supplementary_groups(groups);
        let error = fail_before_any_fork(scenario);
        assert_eq!(error.kind, "PrimaryGroupUnknown");
    }
}

fn as_many_groups_as_allowed_can_be_had() {
    let most = sys::most_groups() - usize::from(sys::EFFECTIVE_GID_IS_LISTED);
    let groups: Vec<u32> = (1_000_000..).take(most).collect();
    let scenario = as_root_with_groups().user(UID).group(GID);
    // One that is named twice is not one too many.
    let named = groups.iter().rev().copied().chain([1_000_000]);
    let run = scenario.supplementary_groups(only(named)).start();
    assert_dropped(&run, UID, GID, &groups, (0, 0));
}

fn one_group_more_than_allowed_is_told_with_both_numbers() {
    let most = sys::most_groups();
    let groups = only((1_000_000..).take(most + 1));
    let error = fail_before_any_fork(scenario!().supplementary_groups(groups));
    let kind = format!("SetSupplementaryGroups({})", libc::EINVAL);
    assert_eq!(error.kind, kind);
    // Where the effective gid counts as one of them.
    let asked = most + 1 + usize::from(sys::EFFECTIVE_GID_IS_LISTED);
    let text =
        format!("cannot set supplementary groups: {asked} groups, where this system allows {most}");
    assert_eq!(error.text, text);
}

fn an_ordinary_user_may_name_its_own_groups() {
    let scenario = scenario!().as_user(TEST_USER_ID, TEST_USER_ID);
    let scenario = scenario.from_state(|state| {
        state.ids.as_mut().unwrap().groups = Some(TEST_USER_GROUPS.to_vec());
    });
    let mut ways = vec![
        only(TEST_USER_GROUPS),
        only([7003, 7001, 7003, 7002]),
        only([TEST_USER, "daemonize2-extra1", "daemonize2-extra2"]),
        // The primary group is had anyhow.
        only([7003, 7002]),
    ];
    for groups in ways.drain(..) {
        for scenario in [scenario.clone(), scenario.clone().user(TEST_USER)] {
            let run = scenario.supplementary_groups(groups.clone()).start();
            assert_dropped(&run, TEST_USER_ID, TEST_USER_ID, &TEST_USER_GROUPS, (0, 0));
        }
    }
}

#[track_caller]
fn assert_groups_refused(scenario: &Scenario) {
    let error = scenario.fail();
    let kind = format!("SetSupplementaryGroups({})", libc::EPERM);
    assert_eq!(error.kind, kind);
    assert!(error.text.contains("Operation not permitted"), "{error}");
}

fn an_ordinary_user_cannot_name_other_groups() {
    let (scenario, uid, gid) = as_ordinary();
    let scenario = scenario.supplementary_groups(only([4711, 4712]));
    assert_groups_refused(&scenario.clone());
    assert_groups_refused(&scenario.user(uid).group(gid));
}

fn an_ordinary_user_cannot_give_up_its_groups() {
    let scenario = as_member(&[4711, 4712]);
    for groups in [no_groups(), only([4711])] {
        assert_groups_refused(&scenario.clone().supplementary_groups(groups));
    }
    // Who has none has none to give up.
    let run = as_member(&[]).supplementary_groups(no_groups()).start();
    assert_dropped(&run, STARTER, STARTERS_GROUP, &[], (0, 0));
}

fn an_ordinary_user_may_keep_groups_that_the_database_lacks() {
    let scenario = as_member(&[4711, 4712]);
    let scenario = scenario.user(STARTER).group(STARTERS_GROUP);
    assert_groups_refused(&scenario);
    let run = scenario.supplementary_groups(SupplementaryGroups::Keep);
    assert_dropped(&run.start(), STARTER, STARTERS_GROUP, &[4711, 4712], (0, 0));
}

fn groups_are_refused_before_the_gid_and_that_before_the_uid() {
    let (scenario, _, gid) = as_ordinary();
    let scenario = scenario.user(UID).group(GID);
    let kind = |name: &str| format!("{name}({})", libc::EPERM);
    let error = scenario.clone().supplementary_groups(only([4711])).fail();
    assert_eq!(error.kind, kind("SetSupplementaryGroups"));
    let scenario = scenario.supplementary_groups(SupplementaryGroups::Keep);
    assert_eq!(scenario.clone().fail().kind, kind("SetGroup"));
    assert_eq!(scenario.group(gid).fail().kind, kind("SetUser"));
}

fn a_user_is_looked_up_before_a_group_and_that_before_the_others() {
    let scenario = scenario!().supplementary_groups(only(["no third"]));
    let error = scenario.clone().user("no first").group("no second").fail();
    assert_eq!(error.text, "unknown user no first");
    let error = scenario.clone().user("root").group("no second").fail();
    assert_eq!(error.text, "unknown group no second");
    let error = scenario.user("root").group(GID).fail();
    assert_eq!(error.text, "unknown group no third");
}

// --- User databases ----------------------------------------------------------

const MEMBER: &str = "member";

/// With a user database of the case's own, which has root and a [`MEMBER`]
/// with `UID` and `GID`, and these lines.
fn with_database(scenario: Scenario, passwd: &str, group: &str) -> Scenario {
    let folder = scenario.create_folder("etc");
    let passwd = format!(
        "root:x:0:0::/root:/bin/sh\n{MEMBER}:x:{UID}:{GID}::/nonexistent:/bin/sh\n{passwd}"
    );
    fs::write(folder.join("passwd"), passwd).unwrap();
    fs::write(folder.join("group"), format!("root:x:0:\n{group}")).unwrap();
    // Other sources than the files would add entries of their own.
    fs::write(
        folder.join("nsswitch.conf"),
        "passwd: files\ngroup: files\n",
    )
    .unwrap();
    scenario.from_state(|state| state.user_database = Some(folder.into()))
}

/// `count` groups of the [`MEMBER`].
fn groups_of_member(count: usize) -> (String, Vec<u32>) {
    let groups: Vec<u32> = (1_000_000..).take(count).collect();
    let line = |gid: &u32| format!("group{gid}:x:{gid}:somebody,{MEMBER}\n");
    (groups.iter().map(line).collect(), groups)
}

#[track_caller]
fn assert_in_all_groups(count: usize) {
    let (lines, mut groups) = groups_of_member(count);
    groups.push(GID);
    let run = with_database(as_root_with_groups(), "", &lines).user(MEMBER);
    assert_dropped(&run.start(), UID, GID, &groups, (0, 0));
}

fn a_user_in_five_hundred_groups_is_in_all_of_them() {
    assert_in_all_groups(500);
}

fn a_user_in_as_many_groups_as_allowed_is_in_all_of_them() {
    // The primary group is one, too.
    assert_in_all_groups(sys::most_groups() - 1);
}

fn a_user_in_more_groups_than_allowed_is_told_with_both_numbers() {
    let most = sys::most_groups();
    for count in [most, 70_000] {
        let (lines, _) = groups_of_member(count);
        let scenario = with_database(as_root_with_groups(), "", &lines);
        let error = fail_before_any_fork(scenario.user(MEMBER));
        let kind = format!("SetSupplementaryGroups({})", libc::EINVAL);
        assert_eq!(error.kind, kind);
        let text = format!(
            "cannot set supplementary groups for member: {} groups, where this system allows {most}",
            count + 1
        );
        assert_eq!(error.text, text);
    }
}

fn a_group_of_twenty_thousand_members_is_found() {
    let members: Vec<String> = (0..20_000).map(|number| format!("other{number}")).collect();
    let line = format!("crowd:x:4711:{},{MEMBER}\n", members.join(","));
    let scenario = with_database(as_root_with_groups(), "", &line);
    let run = scenario.clone().user(MEMBER).start();
    assert_dropped(&run, UID, GID, &[4711, GID], (0, 0));
    let run = scenario.user(MEMBER).group("crowd").start();
    assert_dropped(&run, UID, 4711, &[4711], (0, 0));
}

fn a_group_of_a_line_of_eight_mebibytes_is_found_and_one_of_eighty_is_not() {
    let scenario = |mebibytes: usize| {
        let line = format!("crowd:x:4711:{}\n", "m".repeat(mebibytes << 20));
        with_database(as_root_with_groups(), "", &line)
            .user(MEMBER)
            .group("crowd")
    };
    assert_dropped(&scenario(8).start(), UID, 4711, &[4711], (0, 0));
    let error = fail_before_any_fork(scenario(80));
    assert_eq!(error.kind, format!("LookUpGroup({})", libc::ERANGE));
}

fn lines_that_are_none_hide_no_others() {
    let none = "\n:::\nnothing\ncolons:x\nletters:x:nine:ten\nnegative:x:-1:-1\n\0\n";
    let passwd = format!("{none}other:x:4712:4712::/:/bin/sh\n");
    let group = format!("{none}last:x:4711:{MEMBER},other\nletters:x:nine:{MEMBER}\n");
    let scenario = with_database(as_root_with_groups(), &passwd, &group);
    let run = scenario.clone().user("other").start();
    assert_dropped(&run, 4712, 4712, &[4711, 4712], (0, 0));
    for name in ["nothing", "colons", "letters"] {
        let error = scenario.clone().user(name).fail();
        assert_eq!(error.text, format!("unknown user {name}"));
        let error = scenario.clone().group(name).fail();
        assert_eq!(error.text, format!("unknown group {name}"));
    }
}

fn an_empty_database_has_nobody() {
    let scenario = with_database(as_root_with_groups(), "", "");
    for file in ["etc/passwd", "etc/group"] {
        fs::write(scenario.path(file), "").unwrap();
    }
    assert_eq!(scenario.clone().user("root").fail().kind, "UserNotFound");
    assert_eq!(scenario.clone().group("root").fail().kind, "GroupNotFound");
    let error = scenario.clone().user(0_u32).fail();
    assert_eq!(error.kind, "PrimaryGroupUnknown");
    let run = scenario.user(UID).group(GID).start();
    assert_dropped(&run, UID, GID, &[GID], (0, 0));
}

/// As an ordinary user, who may not read one of the files.
fn with_unreadable(file: &str) -> Scenario {
    let scenario = scenario!().as_user(STARTER, STARTERS_GROUP);
    let lines = format!("starters:x:{STARTERS_GROUP}:\nextra:x:4711:starter\n");
    let user = format!("starter:x:{STARTER}:{STARTERS_GROUP}::/:/bin/sh\n");
    let scenario = with_database(scenario, &user, &lines);
    // Else what follows would show nothing.
    let run = scenario.clone().user("starter").group("starters");
    let run = run.supplementary_groups(SupplementaryGroups::Keep).start();
    assert_is(&run, STARTER, STARTERS_GROUP, &[]);
    let path = scenario.path("etc").join(file);
    fs::set_permissions(path, Permissions::from_mode(0o000)).unwrap();
    scenario
}

fn a_database_that_cannot_be_read_is_not_one_without_the_user() {
    let scenario = with_unreadable("passwd");
    for scenario in [
        scenario.clone().user("starter"),
        scenario.clone().user(STARTER),
        scenario
            .pid_file("daemon.pid")
            .chown_pid_file_user("starter"),
    ] {
        let error = fail_before_any_fork(scenario);
        assert_eq!(error.kind, format!("LookUpUser({})", libc::EACCES));
        assert!(error.text.contains("Permission denied"), "{error}");
    }
}

fn a_database_that_cannot_be_read_is_not_one_without_the_group() {
    let scenario = with_unreadable("group");
    for scenario in [
        scenario.clone().group("starters"),
        scenario.clone().supplementary_groups(only(["starters"])),
        scenario
            .pid_file("daemon.pid")
            .chown_pid_file_group("starters"),
    ] {
        let error = fail_before_any_fork(scenario);
        assert_eq!(error.kind, format!("LookUpGroup({})", libc::EACCES));
        let text = "cannot look up group starters: Permission denied";
        assert!(error.text.starts_with(text), "{error}");
    }
}

/// Of what getgrouplist(3) makes of it, glibc's knows the primary group only and
/// tells of no error; musl's takes it for a lack of room.
fn a_database_that_cannot_be_read_takes_no_group_away() {
    let error = fail_before_any_fork(with_unreadable("group").user("starter"));
    assert_eq!(error.kind, format!("LookUpGroup({})", libc::EACCES));
    let text = "cannot look up group starter: ";
    assert!(error.text.starts_with(text), "{error}");
}

fn where_there_is_no_database_of_groups_nobody_is_in_any() {
    let scenario = with_database(as_root_with_groups(), "", "");
    fs::remove_file(scenario.path("etc/group")).unwrap();
    assert_dropped(&scenario.user(MEMBER).start(), UID, GID, &[GID], (0, 0));
}

fn an_entry_whose_id_means_unchanged_is_refused() {
    let passwd = format!(
        "nouser:x:{MEANS_UNCHANGED}:7::/:/bin/sh\nnogroup:x:7:{MEANS_UNCHANGED}::/:/bin/sh\n"
    );
    let group = format!("nogroup:x:{MEANS_UNCHANGED}:\n");
    let scenario = with_database(as_root_with_groups(), &passwd, &group).pid_file("daemon.pid");
    let keep = scenario
        .clone()
        .supplementary_groups(SupplementaryGroups::Keep);
    for (scenario, kind) in [
        (scenario.clone().user("nouser"), "SetUser"),
        (keep.clone().user("nouser"), "SetUser"),
        (keep.clone().user("nogroup"), "SetGroup"),
        (scenario.clone().user("nogroup"), "SetGroup"),
        (keep.group("nogroup"), "SetGroup"),
        (scenario.clone().group("nogroup"), "SetGroup"),
        (
            scenario.clone().chown_pid_file_user("nouser"),
            "ChownPidfile",
        ),
        (
            scenario.clone().chown_pid_file_group("nogroup"),
            "ChownPidfile",
        ),
        (
            scenario.supplementary_groups(only(["nogroup"])),
            "SetSupplementaryGroups",
        ),
    ] {
        let error = fail_before_any_fork(scenario);
        assert_eq!(error.kind, format!("{kind}({})", libc::EINVAL), "{error}");
        assert!(error.text.contains("this id means 'unchanged'"), "{error}");
    }
    // Also as one of several.
    let group = format!("nogroup:x:{MEANS_UNCHANGED}:{MEMBER}\n");
    let scenario = with_database(as_root_with_groups(), "", &group);
    let error = fail_before_any_fork(scenario.user(MEMBER));
    let kind = format!("SetSupplementaryGroups({})", libc::EINVAL);
    assert_eq!(error.kind, kind, "{error}");
    assert!(error.text.contains("this id means 'unchanged'"), "{error}");
}

// --- The last ids ------------------------------------------------------------

fn the_last_id_can_be_had_everywhere() {
    let scenario = as_root_with_groups().pid_file("daemon.pid");
    // Where it is somebody's, who may have other groups.
    let as_last = scenario.clone().user(LAST).group(GID);
    let run = as_last.supplementary_groups(only([GID])).start();
    assert_dropped(&run, LAST, GID, &[GID], (0, 0));
    run.exit(0);
    let run = scenario.clone().user(UID).group(LAST).start();
    assert_dropped(&run, UID, LAST, &[LAST], (0, 0));
    run.exit(0);
    let only_last = scenario.clone().user(UID).group(GID);
    let run = only_last.supplementary_groups(only([LAST])).start();
    assert_dropped(&run, UID, GID, &[LAST], (0, 0));
    run.exit(0);
    let owner = |scenario: Scenario| {
        let run = scenario.start();
        let pid_file = run.launcher().pid_file.unwrap();
        run.exit(0);
        (pid_file.uid, pid_file.gid)
    };
    assert_eq!(owner(scenario.clone().chown_pid_file_user(LAST)), (LAST, 0));
    let scenario = scenario.chown_pid_file_user(LAST);
    assert_eq!(owner(scenario.chown_pid_file_group(LAST)), (LAST, LAST));
}

fn the_id_that_means_unchanged_is_refused_everywhere() {
    let scenario = || scenario!().pid_file("daemon.pid");
    for (scenario, kind) in [
        (scenario().user(MEANS_UNCHANGED), "SetUser"),
        (scenario().user("root").group(MEANS_UNCHANGED), "SetGroup"),
        (
            scenario().chown_pid_file_user(MEANS_UNCHANGED),
            "ChownPidfile",
        ),
        (
            scenario().chown_pid_file_group(MEANS_UNCHANGED),
            "ChownPidfile",
        ),
        (
            scenario().supplementary_groups(only([7, MEANS_UNCHANGED])),
            "SetSupplementaryGroups",
        ),
    ] {
        let error = fail_before_any_fork(scenario);
        assert_eq!(error.kind, format!("{kind}({})", libc::EINVAL));
        let text = "4294967295: this id means 'unchanged' to the kernel";
        assert!(error.text.ends_with(text), "{error}");
    }
}

// --- New privileges ----------------------------------------------------------

#[track_caller]
fn assert_no_new_privileges(run: &Run) {
    assert_eq!(run.initial().no_new_privileges, Some(false));
    for view in views(run) {
        assert_eq!(view.no_new_privileges, Some(true));
    }
}

fn no_new_privileges_are_granted_once_given_up() {
    for entry in [Entry::Start, Entry::Execute] {
        assert_no_new_privileges(&scenario!().entry(entry).no_new_privileges().start());
    }
}

fn new_privileges_are_not_given_up_unasked() {
    let run = scenario!().start();
    for view in views(&run) {
        assert_eq!(view.no_new_privileges, Some(false));
    }
}

fn new_privileges_are_given_up_as_another_user_in_a_jail() {
    let scenario = as_root_with_groups().user(UID).group(GID);
    let jail = scenario.create_folder("jail");
    let scenario = scenario.chroot(&jail).privileged_action([Step::Observe]);
    let run = scenario.no_new_privileges().start();
    // Not before the privileged action, which may need them.
    assert_eq!(run.observed().no_new_privileges, Some(false));
    assert_no_new_privileges(&run);
    assert_dropped(&run, UID, GID, &[GID], (0, 0));
}

fn new_privileges_are_given_up_in_the_foreground() {
    let scenario = scenario!().foreground(Foreground::Yes);
    let run = scenario.no_new_privileges().launch();
    assert_eq!(run.report().pid, run.launcher_pid());
    assert_no_new_privileges(&run);
}

/// This line of each thread's status, the first thread's first.
fn of_each_thread(pid: u32, line: &str) -> Vec<String> {
    let mut threads: Vec<u32> = fs::read_dir(format!("/proc/{pid}/task"))
        .unwrap()
        .map(|entry| {
            entry
                .unwrap()
                .file_name()
                .to_str()
                .unwrap()
                .parse()
                .unwrap()
        })
        .collect();
    threads.sort_unstable_by_key(|&thread| (thread != pid, thread));
    let value = |thread| {
        let status = fs::read_to_string(format!("/proc/{pid}/task/{thread}/status")).unwrap();
        let mut lines = status.lines();
        let value = lines.find_map(|found| found.strip_prefix(line)?.strip_prefix(':'));
        value.unwrap().trim().to_owned()
    };
    threads.into_iter().map(value).collect()
}

fn later_threads_have_given_up_new_privileges() {
    let scenario = scenario!().no_new_privileges();
    let run = scenario.initialize([Step::MakeThread]).start();
    let pid = run.report().pid;
    assert_eq!(of_each_thread(pid, "NoNewPrivs"), ["1", "1"]);
}

/// prctl(2) is of the calling thread.
fn earlier_threads_that_have_not_given_them_up_fail_the_start() {
    let scenario = scenario!().no_new_privileges();
    let error = scenario.privileged_action([Step::MakeThread]).fail();
    assert_eq!(error.kind, format!("SetNoNewPrivileges({})", libc::EPERM));
    let text = "cannot set no_new_privs: other threads exist, and would not get no_new_privs";
    assert_eq!(error.text, text);
}

/// A copy of a program with this mode and owner; the folder of the scenario is
/// what keeps it.
fn copy_of(program: &Path, mode: u32, owner: (u32, u32)) -> Scenario {
    let folder = scenario!();
    let copy = folder.path("program");
    // By another process: one that this test starts meanwhile would inherit
    // the copy's descriptor, and what is open for writing cannot be run.
    let copied = Command::new("cp").arg(program).arg(&copy).status();
    assert!(copied.unwrap().success());
    std::os::unix::fs::chown(&copy, Some(owner.0), Some(owner.1)).unwrap();
    fs::set_permissions(&copy, Permissions::from_mode(mode)).unwrap();
    folder
}

#[cfg(any(target_os = "linux", target_os = "freebsd"))]
fn a_set_user_id_program_grants_nothing_once_given_up() {
    use tester::subject::TELL_SUPERVISED;

    let folder = copy_of(&tester::tester!(), SET_BOTH, (0, 0));
    // Prints its effective user id first.
    let program = vec![(&folder.path("program")).into(), TELL_SUPERVISED.into()];
    let scenario = as_root_with_groups().user(UID).group(GID);
    let scenario = scenario.initialize([Step::Run(program)]);
    let printed = |scenario: Scenario| {
        let run = scenario.start();
        run.message("what it prints", |frame| match &frame.message {
            Message::Result(parts) => Some(parts.clone()),
            _ => None,
        })
    };
    // Where this is not 0, the folder's file system ignores the bits.
    assert_eq!(printed(scenario.clone()), ["0 false"]);
    let given_up = printed(scenario.no_new_privileges());
    assert_eq!(given_up, [format!("{UID} false")]);
}

#[cfg(not(any(target_os = "linux", target_os = "freebsd")))]
fn giving_up_new_privileges_is_refused_where_nothing_can() {
    let error = fail_before_any_fork(scenario!().no_new_privileges());
    assert_eq!(error.kind, "Unsupported");
    let text = "not supported on this platform: no_new_privileges";
    assert_eq!(error.text, text);
}

// --- Whoever the launcher is -------------------------------------------------

/// A tester with this mode and owner, started by an ordinary user of these
/// groups; and what keeps it.
fn set_id_launcher(mode: u32, owner: (u32, u32), groups: &[u32]) -> (Scenario, Scenario) {
    let folder = copy_of(&tester::tester!(), mode, owner);
    let scenario = Scenario::new(folder.path("program"));
    let scenario = scenario.launched_by(STARTER, STARTERS_GROUP, groups);
    (scenario, folder)
}

fn ids([real, effective, saved]: [u32; 3]) -> Option<IdTriple> {
    Some(IdTriple {
        real,
        effective,
        saved: Some(saved),
    })
}

const SET_USER_ID: u32 = 0o4755;
const SET_GROUP_ID: u32 = 0o2755;
const SET_BOTH: u32 = 0o6755;

fn a_set_user_id_root_launcher_becomes_its_real_user() {
    let (scenario, _folder) = set_id_launcher(SET_USER_ID, (0, 0), &[4711, 4712]);
    let scenario = scenario.user(STARTER).group(STARTERS_GROUP);
    for (groups, expected) in [
        (SupplementaryGroups::FromDatabase, &[STARTERS_GROUP][..]),
        (SupplementaryGroups::Keep, &[4711, 4712]),
        (only([4712]), &[4712]),
        (no_groups(), &[]),
    ] {
        let run = scenario.clone().supplementary_groups(groups).start();
        // Where it is not, the folder's file system ignores the bit.
        assert_eq!(run.initial().uid, ids([STARTER, 0, 0]));
        assert_dropped(&run, STARTER, STARTERS_GROUP, expected, (0, 0));
    }
}

/// Whoever calls it chooses what it starts with.
fn a_set_user_id_root_launcher_is_not_led_astray_by_its_surroundings() {
    let (scenario, _folder) = set_id_launcher(SET_USER_ID, (0, 0), &[4711]);
    let path = scenario.path("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o777)).unwrap();
    manager.set_nonblocking(true).unwrap();
    let run = scenario
        .user(STARTER)
        .group(STARTERS_GROUP)
        .env("NOTIFY_SOCKET", &path)
        .close_inherited_fds([])
        .reset_signals()
        .from_state(|state| {
            state.closed = [true; 3];
            state.descriptors = vec![OpenDescriptor {
                number: 150,
                path: "/".into(),
                close_on_exec: false,
            }];
            state.limit_descriptors = Some(32);
            state.umask = Some(0o777);
            state.dispositions = vec![
                (libc::SIGCHLD, Disposition::Ignore),
                (libc::SIGPIPE, Disposition::Default),
                (libc::SIGTERM, Disposition::Ignore),
            ];
            state.interval_timer = Some(500);
            state.blocked = Blocked::All;
        })
        .start();
    assert_dropped(&run, STARTER, STARTERS_GROUP, &[STARTERS_GROUP], (0, 0));
    let daemon = run.observe();
    assert_eq!(daemon.descriptor_numbers(), [0, 1, 2]);
    assert_eq!(
        (daemon.umask, daemon.blocked_signals),
        (Some(0o027), Some(SignalSet::default()))
    );
    // The environment is the caller's: nobody is told.
    let told = manager.recv(&mut [0; 64]).map_err(|error| error.kind());
    assert_eq!(told, Err(ErrorKind::WouldBlock));
}

fn a_set_user_id_root_launcher_becomes_another_user() {
    let (scenario, _folder) = set_id_launcher(SET_USER_ID, (0, 0), &[4711, 4712]);
    let run = scenario.clone().user(UID).group(GID).start();
    assert_dropped(&run, UID, GID, &[GID], (STARTER, STARTERS_GROUP));
    // Wholly root, it has left the user who started it.
    let run = scenario.user("root").start();
    assert_eq!(run.observe().uid, ids([0; 3]));
    assert_eq!(run.observe().gid, ids([0; 3]));
    assert!(!run.observe().groups.unwrap().contains(&4711));
}

fn a_set_user_id_root_launcher_stays_so_unasked() {
    let (scenario, _folder) = set_id_launcher(SET_USER_ID, (0, 0), &[4711, 4712]);
    let run = scenario.start();
    assert_eq!(run.observe().uid, ids([STARTER, 0, 0]));
    assert_eq!(run.observe().groups, Some(vec![4711, 4712]));
}

fn a_set_group_id_root_launcher_becomes_its_real_group() {
    let (scenario, _folder) = set_id_launcher(SET_GROUP_ID, (0, 0), &[]);
    for scenario in [
        scenario.clone().group(STARTERS_GROUP),
        scenario.user(STARTER).group(STARTERS_GROUP),
    ] {
        let run = scenario.start();
        assert_eq!(run.initial().gid, ids([STARTERS_GROUP, 0, 0]));
        assert_dropped(&run, STARTER, STARTERS_GROUP, &[], (0, 0));
    }
    // It has no right to set groups; those that it has it can keep.
    let (scenario, _folder) = set_id_launcher(SET_GROUP_ID, (0, 0), &[4711]);
    let scenario = scenario.group(STARTERS_GROUP);
    assert_groups_refused(&scenario);
    let run = scenario.supplementary_groups(SupplementaryGroups::Keep);
    assert_dropped(&run.start(), STARTER, STARTERS_GROUP, &[4711], (0, 0));
}

fn a_launcher_set_to_root_in_both_becomes_its_real_user() {
    let (scenario, _folder) = set_id_launcher(SET_BOTH, (0, 0), &[4711]);
    let run = scenario.user(STARTER).group(STARTERS_GROUP).start();
    assert_eq!(run.initial().uid, ids([STARTER, 0, 0]));
    assert_eq!(run.initial().gid, ids([STARTERS_GROUP, 0, 0]));
    assert_dropped(&run, STARTER, STARTERS_GROUP, &[STARTERS_GROUP], (0, 0));
}

fn a_launcher_set_to_an_ordinary_user_becomes_either() {
    let (scenario, _folder) = set_id_launcher(SET_BOTH, (UID, GID), &[]);
    let run = scenario.clone().user(STARTER).group(STARTERS_GROUP).start();
    assert_eq!(run.initial().uid, ids([STARTER, UID, UID]));
    assert_dropped(&run, STARTER, STARTERS_GROUP, &[], (UID, GID));
    let run = scenario.clone().user(UID).group(GID).start();
    assert_dropped(&run, UID, GID, &[], (STARTER, STARTERS_GROUP));
    // A group alone leaves the user ids as they were.
    let run = scenario.group(STARTERS_GROUP).start();
    assert_eq!(run.observe().uid, ids([STARTER, UID, UID]));
    assert_eq!(run.observe().gid, ids([STARTERS_GROUP; 3]));
}

/// Each of the three ids root's or an ordinary user's, but not all alike.
fn mixtures() -> impl Iterator<Item = ([u32; 3], [u32; 3])> {
    (1..7_u32).map(|bits| {
        let choose = |own: u32| [0, 1, 2].map(|place| own * (bits >> place & 1));
        (choose(STARTER), choose(STARTERS_GROUP))
    })
}

fn root_in_any_of_the_ids_is_given_up() {
    for (uid, gid) in mixtures() {
        let scenario = from_ids(uid, gid, &[STARTERS_GROUP]);
        let run = scenario.user(STARTER).group(STARTERS_GROUP).start();
        assert_eq!((run.initial().uid, run.initial().gid), (ids(uid), ids(gid)));
        assert_dropped(&run, STARTER, STARTERS_GROUP, &[STARTERS_GROUP], (0, 0));
    }
    // All three apart.
    for uid in [[0, STARTER, UID], [STARTER, 0, UID], [STARTER, UID, 0]] {
        let scenario = from_ids(uid, [GID; 3], &[GID]).user(STARTER).group(GID);
        assert_dropped(&scenario.start(), STARTER, GID, &[GID], (UID, 0));
    }
}

fn an_effective_root_becomes_a_third_user() {
    for (uid, gid) in mixtures().filter(|(uid, _)| uid[1] == 0) {
        let scenario = from_ids(uid, gid, &ROOTS_GROUPS).user(UID).group(GID);
        let run = scenario.start();
        assert_dropped(&run, UID, GID, &[GID], (STARTER, STARTERS_GROUP));
    }
}

/// Not even one who could be root again: it is for the caller to say so.
fn who_is_not_effectively_root_cannot_become_a_third_user() {
    for (uid, gid) in mixtures().filter(|(uid, _)| uid[1] != 0) {
        let scenario = from_ids(uid, gid, &ROOTS_GROUPS).user(UID).group(GID);
        assert_groups_refused(&scenario);
        let scenario = scenario.supplementary_groups(SupplementaryGroups::Keep);
        let kind = |name: &str| format!("{name}({})", libc::EPERM);
        assert_eq!(scenario.clone().fail().kind, kind("SetGroup"));
        assert_eq!(scenario.group(gid[1]).fail().kind, kind("SetUser"));
    }
}

fn a_real_root_may_become_root() {
    let scenario = from_ids([0, STARTER, STARTER], [0, GID, GID], &[4711]);
    let scenario = scenario.user(0_u32).group(0_u32);
    // Who is not root yet sets no groups.
    assert_groups_refused(&scenario);
    let run = scenario.supplementary_groups(SupplementaryGroups::Keep);
    assert_is(&run.start(), 0, 0, &[4711]);
}

fn an_ordinary_user_from_a_shell_becomes_itself() {
    let scenario = scenario!().launched_by(STARTER, STARTERS_GROUP, &[STARTERS_GROUP]);
    let run = scenario.user(STARTER).group(STARTERS_GROUP).start();
    let pid = run.report().pid;
    assert_is(&run, STARTER, STARTERS_GROUP, &[STARTERS_GROUP]);
    assert_no_way_back(&run, (0, 0));
    // Nothing has changed, and so it is no more out of its user's reach.
    let environ = fs::metadata(format!("/proc/{pid}/environ")).unwrap();
    assert_eq!((environ.uid(), environ.gid()), (STARTER, STARTERS_GROUP));
}

fn the_right_to_change_ids_without_root_is_enough() {
    for ambient in [0, CAP_SETUID, CAP_SETUID | CAP_SETGID] {
        let scenario = as_capable(CAP_SETUID | CAP_SETGID, &ROOTS_GROUPS);
        let scenario = scenario.from_state(|state| state.ambient_capabilities = Some(ambient));
        let run = scenario.user(UID).group(GID).start();
        assert_eq!(run.initial().capabilities.unwrap().ambient, ambient);
        assert_dropped(&run, UID, GID, &[GID], (STARTER, STARTERS_GROUP));
    }
}

/// Without CAP_KILL the others are strangers to a daemon that has become somebody
/// else.
fn who_may_not_signal_the_daemon_ends_it_all_the_same() {
    let scenario = as_capable(CAP_SETUID | CAP_SETGID, &[])
        .user(UID)
        .group(GID);
    let scenario = scenario.pid_file("daemon.pid").initialize([Step::Hold]);
    let late = scenario.clone().startup_timeout(Duration::from_secs(1));
    let run = late.launch();
    assert!(run.held().uid.is_none_or(|ids| ids == UID));
    assert_eq!(run.launcher_error().kind, "StartupTimeout");
    run.assert_nothing_left();
    let run = scenario.launch();
    run.held();
    run.kill_launcher();
    run.wait_until_all_ended();
    let pid_file = run.pid_file().unwrap();
    assert!(!pid_file.locked && pid_file.bytes.is_empty());
}

fn the_right_to_change_users_alone_needs_the_groups_kept() {
    let scenario = as_capable(CAP_SETUID, &[4711, 4712]);
    let scenario = scenario.user(UID).group(STARTERS_GROUP);
    assert_groups_refused(&scenario);
    let scenario = scenario.supplementary_groups(SupplementaryGroups::Keep);
    let run = scenario.clone().start();
    let groups = &[4711, 4712];
    assert_dropped(&run, UID, STARTERS_GROUP, groups, (STARTER, GID));
    let error = scenario.group(GID).fail();
    assert_eq!(error.kind, format!("SetGroup({})", libc::EPERM));
}

fn the_right_to_change_groups_alone_changes_no_user() {
    let scenario = as_capable(CAP_SETGID, &ROOTS_GROUPS).group(GID);
    let run = scenario.clone().start();
    assert_dropped(&run, STARTER, GID, &[GID], (0, STARTERS_GROUP));
    let error = scenario.user(UID).fail();
    assert_eq!(error.kind, format!("SetUser({})", libc::EPERM));
}

fn capabilities_that_secure_bits_keep_are_cleared() {
    for bits in [
        KEEP_CAPS,
        NO_SETUID_FIXUP,
        KEEP_CAPS | NO_SETUID_FIXUP,
        NOROOT | NO_SETUID_FIXUP,
    ] {
        let scenario = as_root_with_groups().user(UID).group(GID);
        let scenario = scenario.from_state(|state| state.secure_bits = Some(bits));
        let run = scenario.start();
        assert_dropped(&run, UID, GID, &[GID], (0, 0));
    }
}

fn threads_of_the_privileged_action_change_too() {
    let scenario = as_root_with_groups().user(UID).group(GID);
    let run = scenario.privileged_action([Step::MakeThread]).start();
    assert_dropped(&run, UID, GID, &[GID], (0, 0));
    let pid = run.report().pid;
    for (line, value) in [
        ("Uid", [UID; 4].map(|id| id.to_string()).join("\t")),
        ("Gid", [GID; 4].map(|id| id.to_string()).join("\t")),
        ("Groups", GID.to_string()),
        ("CapPrm", format!("{:016x}", 0)),
        ("CapEff", format!("{:016x}", 0)),
    ] {
        assert_eq!(of_each_thread(pid, line), [value.as_str(); 2], "{line}");
    }
}

/// The kernel takes capabilities from root's threads only, as far as their
/// secure bits let it, and each other thread would have to give them up itself.
fn what_another_thread_may_keep_fails_the_start() {
    /// CAP_NET_BIND_SERVICE of <linux/capability.h>, which containers have too
    const CAP_NET_BIND_SERVICE: u64 = 1 << 10;
    // May go back to nobody, and so takes nobody's right to notice.
    let with_another_right = as_capable(CAP_NET_BIND_SERVICE, &[]).from_state(|state| {
        state.ids.as_mut().unwrap().uid = [STARTER, UID, UID];
    });
    let as_capable = as_capable(CAP_SETUID | CAP_SETGID, &[]).group(GID);
    let as_root = as_root_with_groups().group(GID).from_state(|state| {
        state.secure_bits = Some(NO_SETUID_FIXUP);
    });
    for scenario in [
        with_another_right.group(STARTERS_GROUP),
        as_capable,
        as_root,
    ] {
        let scenario = scenario.user(UID);
        let error = scenario
            .clone()
            .privileged_action([Step::MakeThread])
            .fail();
        assert_eq!(error.kind, "PrivilegesRetained", "{error}");
        assert!(error.text.contains("in another thread"), "{error}");
        scenario.start();
    }
    let scenario = as_root_with_groups().user(UID).group(GID);
    let jail = scenario.create_folder("jail");
    for scenario in [scenario.clone(), scenario.chroot(&jail)] {
        let steps = [Step::MakeThreadThatKeepsCapabilities];
        let retained = scenario.clone().privileged_action(steps);
        let error = retained.fail();
        assert_eq!(error.kind, "PrivilegesRetained", "{error}");
        // Also where a daemon that has failed would return to its caller.
        let run = retained.entry(Entry::Execute).launch();
        assert_eq!(run.launcher_error().kind, "PrivilegesRetained");
        run.assert_nothing_left();
        assert!(
            !run.messages()
                .iter()
                .any(|frame| has_returned(&frame.message))
        );
        // One that keeps none is none the worse for it.
        scenario.privileged_action([Step::MakeThread]).start();
    }
}

/// To what it was called by, with more than it should have.
fn has_returned(message: &Message) -> bool {
    matches!(message, Message::Daemon(_) | Message::DaemonFailed(_))
}

/// Whoever called the library is not returned to with what was to be given up,
/// also if there is nobody whom that could be told.
fn what_another_thread_may_keep_ends_a_process_in_the_foreground() {
    let scenario = as_root_with_groups().user(UID).group(GID);
    let scenario = scenario
        .foreground(Foreground::Yes)
        .pid_file("daemon.pid")
        .privileged_action([Step::MakeThreadThatKeepsCapabilities]);
    let run = scenario.launch();
    let text = "privileges were retained for 4000000001: capabilities are left, here or in another thread\n";
    run.launcher().assert().code(1).stderr(text);
    let deaf = scenario
        .clone()
        .stderr(Stream::file("/dev/full", Access::Append));
    let run_of_deaf = deaf.launch();
    run_of_deaf.launcher().assert().code(1);
    for run in [run, run_of_deaf] {
        run.wait_until_all_ended();
        assert!(run.pid_file().is_some_and(|file| !file.locked));
        assert!(
            !run.messages()
                .iter()
                .any(|frame| has_returned(&frame.message))
        );
    }
}

// --- User namespaces ---------------------------------------------------------

/// An ordinary user, who alone is there, as root.
fn as_root_of_one(groups: &[u32]) -> (Scenario, u32, u32) {
    let (scenario, uid, gid) = as_ordinary();
    let scenario = scenario.from_state(|state| {
        if let Some(ids) = &mut state.ids {
            ids.groups = Some(groups.to_vec());
        }
        state.user_namespace = Some(UserNamespace {
            users: vec![[0, uid, 1]],
            groups: vec![[0, gid, 1]],
            denies_setgroups: true,
        });
    });
    (scenario, uid, gid)
}

fn the_only_id_of_a_namespace_may_become_itself() {
    let (scenario, uid, gid) = as_root_of_one(&[]);
    let run = scenario
        .user(0_u32)
        .group(0_u32)
        .supplementary_groups(SupplementaryGroups::Keep)
        .start();
    let [inside, outside] = views(&run);
    assert!(inside.uid.unwrap() == 0 && inside.gid.unwrap() == 0);
    assert!(outside.uid.unwrap() == uid && outside.gid.unwrap() == gid);
    assert_eq!(inside.groups, run.initial().groups);
}

fn groups_of_a_namespace_that_denies_setgroups_can_be_kept_only() {
    let (scenario, ..) = as_root_of_one(&[4711]);
    let scenario = scenario.user(0_u32).group(0_u32);
    assert_groups_refused(&scenario);
    let run = scenario
        .supplementary_groups(SupplementaryGroups::Keep)
        .start();
    let [inside, outside] = views(&run);
    // What the namespace does not know shows as the overflow id.
    let overflow = fs::read_to_string("/proc/sys/kernel/overflowgid").unwrap();
    assert_eq!(inside.groups, Some(vec![overflow.trim().parse().unwrap()]));
    assert_eq!(outside.groups, Some(vec![4711]));
    // Where there is none that goes, none has to be set.
    let (scenario, ..) = as_root_of_one(&[]);
    let run = scenario.user(0_u32).group(0_u32).start();
    assert!(run.observe().uid.unwrap() == 0);
    assert_eq!(run.outside(run.report().pid).groups, Some(vec![]));
}

fn an_id_that_a_namespace_lacks_is_refused() {
    let (scenario, ..) = as_root_of_one(&[]);
    let scenario = scenario.supplementary_groups(SupplementaryGroups::Keep);
    for (scenario, kind, text) in [
        (
            scenario.clone().user(7_u32).group(0_u32),
            "SetUser",
            "cannot change to user 7: Invalid argument",
        ),
        (
            scenario.clone().group(7_u32),
            "SetGroup",
            "cannot change to group 7: Invalid argument",
        ),
        (
            scenario.user(7_u32).group(7_u32),
            "SetGroup",
            "cannot change to group 7: Invalid argument",
        ),
    ] {
        let error = scenario.fail();
        assert_eq!(error.kind, format!("{kind}({})", libc::EINVAL));
        assert!(error.text.starts_with(text), "{error}");
    }
}

fn as_root_of(ranges: &[[u32; 3]]) -> Scenario {
    as_root_with_groups().from_state(|state| {
        state.user_namespace = Some(UserNamespace {
            users: ranges.to_vec(),
            groups: ranges.to_vec(),
            denies_setgroups: false,
        });
    })
}

fn root_of_a_whole_namespace_becomes_another_user() {
    let scenario = as_root_of(&[[0, 0, u32::MAX]]).user(UID).group(GID);
    let run = scenario.start();
    assert_ne!(run.initial().capabilities.unwrap().effective, 0);
    assert_dropped(&run, UID, GID, &[GID], (0, 0));
}

/// As in a container.
fn root_of_a_shifted_namespace_becomes_another_user() {
    const SHIFT: u32 = 100_000;
    let scenario = as_root_of(&[[0, 0, 1], [1, SHIFT + 1, 65_535]]);
    let scenario = scenario.user(1000_u32).group(1001_u32);
    let run = scenario.supplementary_groups(only([7, 8])).start();
    let [inside, outside] = views(&run);
    assert_ids(&inside, 1000, 1001, &[7, 8]);
    let groups = [SHIFT + 7, SHIFT + 8];
    assert_ids(&outside, SHIFT + 1000, SHIFT + 1001, &groups);
    assert_no_way_back(&run, (0, 0));
    assert_out_of_reach(run.report().pid, SHIFT + 1000, SHIFT + 1001);
}
