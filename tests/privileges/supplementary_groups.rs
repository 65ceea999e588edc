use tester::prelude::*;
use tester::suite::{TEST_USER, TEST_USER_GROUPS, TEST_USER_ID, test_user_groups};

use crate::setup::*;

pub(crate) const CASES: &[Case] = &[
    case!(the_groups_of_the_database_are_the_default, needs Root, TestUser),
    case!(kept_groups_stay_with_another_user, needs Root),
    case!(kept_groups_stay_with_another_group, needs Root),
    case!(keeping_the_groups_changes_nothing),
    case!(a_daemon_with_another_user_has_exactly_the_listed_groups, needs Root),
    case!(a_daemon_with_another_group_has_exactly_the_listed_groups, needs Root),
    case!(listed_groups_alone_keep_the_ids, needs Root),
    case!(all_groups_can_be_dropped, needs Root),
    case!(duplicates_and_order_of_groups_do_not_matter, needs Root),
    case!(groups_can_be_listed_by_name, needs Root, TestUser),
    case!(groups_need_no_entry_in_the_database, needs Root),
    case!(root_as_target_has_the_listed_groups_and_its_capabilities, needs Root, Linux),
    case!(groups_change_in_the_foreground, needs Root),
    case!(the_privileged_action_has_the_former_groups, needs Root),
    case!(as_many_groups_as_the_system_allows_can_be_set, needs Root, Linux),
    case!(one_group_too_many_is_reported_with_number_and_limit),
    case!(groups_are_refused_before_the_gid_and_the_gid_before_the_uid, needs Root),
];

fn the_groups_of_the_database_are_the_default() {
    let default = SupplementaryGroups::FromDatabase;
    let scenario = scenario!()
        .as_root_with_groups()
        .supplementary_groups(default);
    let run = scenario.clone().user(TEST_USER).start();
    assert_dropped(
        &run,
        TEST_USER_ID,
        TEST_USER_ID,
        &test_user_groups(),
        (0, 0),
    );
    assert_is(&scenario.clone().group(GID).start(), 0, GID, &[GID]);
    assert_is(&scenario.start(), 0, 0, &ROOTS_GROUPS);
}

/// The groups that are kept. On some systems the effective group replaces the first.
fn kept_groups() -> &'static [u32] {
    match sys::gid_replaces_first_group().unwrap() {
        true => &ROOTS_GROUPS[1..],
        false => &ROOTS_GROUPS,
    }
}

fn kept_groups_stay_with_another_user() {
    let scenario = root_to_user();
    let run = scenario.supplementary_groups(SupplementaryGroups::Keep);
    assert_dropped(&run.start(), UID, GID, kept_groups(), (0, 0));
}

fn kept_groups_stay_with_another_group() {
    let scenario = scenario!().as_root_with_groups().group(GID);
    let run = scenario.supplementary_groups(SupplementaryGroups::Keep);
    assert_is(&run.start(), 0, GID, kept_groups());
}

fn keeping_the_groups_changes_nothing() {
    let scenario = scenario!().supplementary_groups(SupplementaryGroups::Keep);
    let run = scenario.start();
    let (initial, daemon) = (run.initial(), run.observe());
    assert_eq!((daemon.uid, daemon.gid), (initial.uid, initial.gid));
    assert_eq!(daemon.groups, initial.groups);
    assert_eq!(daemon.capabilities, initial.capabilities);
}

fn a_daemon_with_another_user_has_exactly_the_listed_groups() {
    let scenario = root_to_user();
    let run = scenario.supplementary_groups(only([8, 4712])).start();
    assert_dropped(&run, UID, GID, &[8, 4712], (0, 0));
    // The library does not add the groups of the database.
    let scenario = scenario!().as_root_with_groups().user("nobody").group(GID);
    let run = scenario.supplementary_groups(only([8, 4712])).start();
    let uid = run.observe().uid.unwrap().real;
    assert_dropped(&run, uid, GID, &[8, 4712], (0, 0));
}

fn a_daemon_with_another_group_has_exactly_the_listed_groups() {
    let scenario = scenario!().as_root_with_groups().group(GID);
    let run = scenario.supplementary_groups(only([8, 4712])).start();
    assert_is(&run, 0, GID, &[8, 4712]);
}

fn listed_groups_alone_keep_the_ids() {
    for groups in [&[8, 4712][..], &[]] {
        let listed = only(groups.iter().copied());
        let scenario = scenario!().as_root_with_groups();
        let run = scenario.supplementary_groups(listed).start();
        assert_is(&run, 0, 0, groups);
    }
}

fn all_groups_can_be_dropped() {
    let run = root_to_user().supplementary_groups(no_groups()).start();
    assert_dropped(&run, UID, GID, &[], (0, 0));
}

fn duplicates_and_order_of_groups_do_not_matter() {
    let scenario = root_to_user();
    let groups = only([9, 7, 4713, 9, GID, 8, 7]);
    let run = scenario.supplementary_groups(groups).start();
    assert_dropped(&run, UID, GID, &[7, 8, 9, 4713, GID], (0, 0));
}

fn groups_can_be_listed_by_name() {
    let groups = only(["daemonize2-extra2", "daemonize2-extra1"]);
    let scenario = scenario!().as_root_with_groups().user(UID).group(TEST_USER);
    let run = scenario.supplementary_groups(groups).start();
    assert_dropped(&run, UID, TEST_USER_ID, &TEST_USER_GROUPS[1..], (0, 0));
}

fn groups_need_no_entry_in_the_database() {
    let groups = [4_000_000_003, 4_000_000_004];
    let run = root_to_user().supplementary_groups(only(groups)).start();
    assert_dropped(&run, UID, GID, &groups, (0, 0));
}

fn root_as_target_has_the_listed_groups_and_its_capabilities() {
    let scenario = scenario!().as_root_with_groups().user("root").group(GID);
    let run = scenario.supplementary_groups(only([8])).start();
    assert_is(&run, 0, GID, &[8]);
    let initial = run.initial().capabilities;
    assert_ne!(initial.unwrap().effective, 0);
    assert_eq!(run.observe().capabilities, initial);
}

fn groups_change_in_the_foreground() {
    let scenario = root_to_user().foreground(Foreground::Yes);
    for (groups, expected) in [
        (only([8, 4712]), &[8, 4712][..]),
        (SupplementaryGroups::Keep, kept_groups()),
    ] {
        let (run, _) = scenario.clone().supplementary_groups(groups).serve();
        assert_dropped(&run, UID, GID, expected, (0, 0));
    }
}

fn the_privileged_action_has_the_former_groups() {
    let scenario = scenario!().as_root_with_groups();
    let scenario = scenario.supplementary_groups(only([8]));
    let run = scenario.privileged_action([Step::Observe]).start();
    assert_eq!(run.observed().groups, Some(ROOTS_GROUPS.to_vec()));
    assert_is(&run, 0, 0, &[8]);
}

fn as_many_groups_as_the_system_allows_can_be_set() {
    let most = sys::most_groups() - usize::from(sys::EFFECTIVE_GID_IS_LISTED);
    let groups: Vec<u32> = (1_000_000..).take(most).collect();
    let scenario = root_to_user();
    // A group that is listed twice counts once.
    let named = groups.iter().rev().copied().chain([1_000_000]);
    let run = scenario.supplementary_groups(only(named)).start();
    assert_dropped(&run, UID, GID, &groups, (0, 0));
}

fn one_group_too_many_is_reported_with_number_and_limit() {
    let most = sys::most_groups();
    let groups = only((1_000_000..).take(most + 1));
    let error = fail_before_any_fork(scenario!().supplementary_groups(groups));
    error.assert_kind("SetSupplementaryGroups", libc::EINVAL);
    // Some systems count the effective group, too.
    let asked = most + 1 + usize::from(sys::EFFECTIVE_GID_IS_LISTED);
    let text = format!(
        "cannot set supplementary groups: \
             {asked} groups are more than the {most} that this system allows"
    );
    assert_eq!(error.text, text);
}

fn groups_are_refused_before_the_gid_and_the_gid_before_the_uid() {
    let (scenario, _, gid) = as_ordinary();
    let scenario = scenario.user(UID).group(GID);
    let kind = |name: &str| format!("{name}({})", libc::EPERM);
    let error = scenario.clone().supplementary_groups(only([4711])).fail();
    assert_eq!(error.kind, kind("SetSupplementaryGroups"));
    let scenario = scenario.supplementary_groups(SupplementaryGroups::Keep);
    assert_eq!(scenario.clone().fail().kind, kind("SetGroup"));
    assert_eq!(scenario.group(gid).fail().kind, kind("SetUser"));
}
