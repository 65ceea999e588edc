use tester::prelude::*;
use tester::suite::{TEST_USER, TEST_USER_ID, test_user_groups};

use crate::setup::*;

pub(crate) const CASES: &[Case] = &[
    case!(without_options_the_identity_is_kept, needs Root),
    case!(a_user_alone_sets_its_primary_group, needs Root),
    case!(a_user_alone_sets_all_its_groups, needs Root, TestUser),
    case!(a_user_by_number_is_the_same_as_by_name, needs Root, TestUser),
    case!(a_user_without_an_entry_has_only_the_configured_group, needs Root),
    case!(root_as_target_keeps_no_groups_of_the_caller, needs Root),
    case!(the_identity_looks_the_same_from_inside_and_outside, needs Root, Tracing),
    case!(names_are_looked_up_outside_the_jail, needs Root),
    case!(the_privileged_action_has_the_former_identity_and_root, needs Root),
];

fn without_options_the_identity_is_kept() {
    let run = scenario!().as_root_with_groups().start();
    assert_is(&run, 0, 0, &ROOTS_GROUPS);
}

fn a_user_alone_sets_its_primary_group() {
    let run = scenario!().as_root_with_groups().user(NOBODY).start();
    let (uid, gid) = (id("-u", NOBODY)[0], id("-g", NOBODY)[0]);
    assert_is(&run, uid, gid, &id("-G", NOBODY));
}

fn a_user_alone_sets_all_its_groups() {
    let run = scenario!().as_root_with_groups().user(TEST_USER).start();
    assert_is(&run, TEST_USER_ID, TEST_USER_ID, &test_user_groups());
}

fn a_user_by_number_is_the_same_as_by_name() {
    let run = scenario!().as_root_with_groups().user(TEST_USER_ID).start();
    assert_is(&run, TEST_USER_ID, TEST_USER_ID, &test_user_groups());
}

fn a_user_without_an_entry_has_only_the_configured_group() {
    let run = root_to_user().start();
    assert_is(&run, UID, GID, &[GID]);
}

fn root_as_target_keeps_no_groups_of_the_caller() {
    let run = scenario!().as_root_with_groups().user("root").start();
    assert_is(&run, 0, id("-g", "root")[0], &id("-G", "root"));
}

fn the_identity_looks_the_same_from_inside_and_outside() {
    let daemon = root_to_user().start().assert_views_agree();
    assert!(daemon.uid.unwrap().saved == Some(UID));
    assert!(daemon.gid.unwrap().saved == Some(GID));
}

fn names_are_looked_up_outside_the_jail() {
    let scenario = scenario!()
        .as_root_with_groups()
        .user(NOBODY)
        .group("daemon");
    let jail = scenario.create_directory("jail");
    let [inside, outside] = scenario.chroot(&jail).start().views();
    assert!(inside.uid.unwrap() == id("-u", NOBODY)[0]);
    assert!(inside.gid.unwrap() == inside.groups.unwrap()[0]);
    assert!(outside.uid == inside.uid && outside.gid == inside.gid);
}

fn the_privileged_action_has_the_former_identity_and_root() {
    let (scenario, jail) = root_to_user().with_directory("jail");
    let scenario = scenario.chroot(&jail).privileged_action([Step::Observe]);
    let run = scenario.start();
    let (initial, observed) = (run.initial(), run.observed());
    assert_eq!(observed.uid, initial.uid);
    assert_eq!(observed.gid, initial.gid);
    assert_eq!(observed.groups, initial.groups);
    assert_eq!(observed.capabilities, initial.capabilities);
    assert_eq!(observed.root, initial.root);
    assert_eq!(observed.working_directory, initial.working_directory);
    assert_eq!(observed.pid, run.report().pid);
    assert_is(&run, UID, GID, &[GID]);
}
