use tester::prelude::*;
use tester::suite::{TEST_USER, TEST_USER_ID};

use crate::setup::*;

pub(crate) const CASES: &[Case] = &[
    case!(a_saved_id_of_root_is_found, needs Root, Linux),
    case!(a_saved_group_is_found, needs Root, Linux),
    case!(ids_that_were_dropped_are_no_finding, needs Root),
    case!(the_group_of_root_is_found, needs Root),
    case!(groups_of_root_that_were_kept_are_found, needs Root),
    case!(groups_that_the_database_does_not_list_are_found, needs Root, TestUser),
    case!(groups_that_the_database_lists_are_no_finding, needs Root, TestUser),
    case!(groups_of_a_user_without_an_entry_are_unknown, needs Root),
    case!(capabilities_that_equal_root_are_found, needs Root, Linux),
    case!(other_capabilities_are_no_finding, needs Root, Linux),
    case!(no_new_privs_is_shown, needs NoNewPrivileges),
    case!(a_thread_with_other_privileges_is_found, needs Root, Linux),
    case!(threads_with_the_same_privileges_are_no_finding, needs Linux),
];

const DAC_OVERRIDE: u8 = 1;
const NET_BIND_SERVICE: u8 = 10;

/// A daemon with these ids and groups, which starts with them. As root, it would see no difference.
fn with_ids(uid: [u32; 3], gid: [u32; 3], groups: &[u32]) -> Scenario {
    let scenario = clean();
    chown(scenario.directory(), Some(uid[1]), Some(gid[1])).unwrap();
    scenario.with_ids(uid, gid, groups)
}

fn a_saved_id_of_root_is_found() {
    let checkup = inspect_daemon(&with_ids([UID, UID, 0], [GID; 3], &[]));
    checkup.assert_finding("user", "seteuid(2)");
    assert!(
        checkup.row("user").seen.contains("saved root(0)"),
        "{checkup:?}"
    );
    // The kernel keeps the permitted capabilities as long as an id is that of root.
    checkup.assert_findings(&["user", "capabilities"]);
}

fn a_saved_group_is_found() {
    let checkup = inspect_daemon(&with_ids([UID; 3], [GID, GID, 4711], &[]));
    checkup.assert_only("group", "setegid(2)");
}

fn ids_that_were_dropped_are_no_finding() {
    let checkup = inspect_daemon(&clean().user(UID).group(GID));
    checkup.assert_findings(&[]);
    checkup.assert_ok("user", "no way back");
    checkup.assert_ok("group", "no way back");
    assert_eq!(checkup.row("user").seen, UID.to_string());
}

fn the_group_of_root_is_found() {
    let checkup = inspect_daemon(&with_ids([UID; 3], [0; 3], &[]));
    checkup.assert_only("group", "has the group of root");
}

fn groups_of_root_that_were_kept_are_found() {
    let keep = SupplementaryGroups::Keep;
    // On FreeBSD before 15, the first group is the effective group id, which the daemon changes.
    let scenario = clean().with_ids([0; 3], [4711; 3], &[0]);
    let scenario = scenario.user(UID).group(GID).supplementary_groups(keep);
    let checkup = inspect_daemon(&scenario);
    checkup.assert_only("supplementary groups", "the group of root is kept");
}

fn groups_that_the_database_does_not_list_are_found() {
    let id = TEST_USER_ID;
    let checkup = inspect_daemon(&with_ids([id; 3], [id; 3], &[4711, 7002]));
    checkup.assert_only("supplementary groups", "in 4711: setgroups(2)");
}

fn groups_that_the_database_lists_are_no_finding() {
    let checkup = inspect_daemon(&clean().user(TEST_USER));
    checkup.assert_findings(&[]);
    checkup.assert_ok("supplementary groups", "the group database lists");
}

fn groups_of_a_user_without_an_entry_are_unknown() {
    let checkup = inspect_daemon(&with_ids([UID; 3], [GID; 3], &[4711]));
    checkup.assert_findings(&[]);
    checkup.assert_unknown("supplementary groups", "no database lists the user");
}

fn capabilities_that_equal_root_are_found() {
    let scenario = clean().user(UID).group(GID);
    let checkup = inspect_daemon(&scenario.keep_capabilities([DAC_OVERRIDE, NET_BIND_SERVICE]));
    checkup.assert_only("capabilities", "becomes root by CAP_DAC_OVERRIDE");
}

fn other_capabilities_are_no_finding() {
    let scenario = clean().user(UID).group(GID);
    let checkup = inspect_daemon(&scenario.keep_capabilities([NET_BIND_SERVICE]));
    checkup.assert_findings(&[]);
    assert_eq!(checkup.row("capabilities").seen, "CAP_NET_BIND_SERVICE");
}

fn no_new_privs_is_shown() {
    for (scenario, seen) in [(clean(), "not set"), (clean().no_new_privileges(), "set")] {
        let checkup = inspect_daemon(&scenario);
        checkup.assert_ok("no_new_privs", "");
        assert_eq!(checkup.row("no_new_privs").seen, seen);
    }
}

fn a_thread_with_other_privileges_is_found() {
    let steps = [
        Step::MakeThread,
        Step::DropCapabilities(1 << NET_BIND_SERVICE),
    ];
    let checkup = inspect_daemon(&clean().privileged_action(steps));
    checkup.assert_only("threads", "differs from the first: Cap");
    assert_eq!(checkup.row("threads").seen, "2");
}

fn threads_with_the_same_privileges_are_no_finding() {
    let checkup = inspect_daemon(&clean().privileged_action([Step::MakeThread]));
    checkup.assert_findings(&[]);
    checkup.assert_ok("threads", "all have the same");
}
