use tester::prelude::*;
use tester::suite::{TEST_USER, TEST_USER_ID};

use crate::setup::*;

pub(crate) const CASES: &[Case] = &[
    case!(a_group_alone_is_the_only_group_and_keeps_the_user, needs Root),
    case!(a_group_by_name_is_the_same_as_by_number, needs Root, TestUser),
    case!(a_group_replaces_the_users_primary_group, needs Root, TestUser),
];

fn a_group_alone_is_the_only_group_and_keeps_the_user() {
    let run = scenario!().as_root_with_groups().group(GID).start();
    assert_is(&run, 0, GID, &[GID]);
}

fn a_group_by_name_is_the_same_as_by_number() {
    let run = scenario!().as_root_with_groups().group(TEST_USER).start();
    assert_is(&run, 0, TEST_USER_ID, &[TEST_USER_ID]);
}

fn a_group_replaces_the_users_primary_group() {
    let run = scenario!()
        .as_root_with_groups()
        .user(TEST_USER)
        .group(7)
        .start();
    // The other two groups list the user as a member; the primary group lists nobody.
    assert_is(&run, TEST_USER_ID, 7, &[7, 7002, 7003]);
}
