//! `user`. Its step is part of [`predict::identity`](crate::predict).

use super::group::Group;
use super::{Axis, Choice, NUMBER, Rights, UNKNOWN, id, lacks_right_to_change_ids, name};
use crate::model::databases::{Databases, NOBODY};
use crate::suite::{TEST_USER, TEST_USER_ID};

axis! {
    User |stage| stage.config.options.user => {
        None => None;
        Own => id(stage.caller().0);
        Ordinary => name(NOBODY);
        /// The test user with its groups.
        TestUser => name(TEST_USER);
        TestUserByNumber => id(TEST_USER_ID);
        Root => name("root");
        RootByNumber => id(0);
        /// An id without an entry.
        Number => id(NUMBER);
        Unknown => name(UNKNOWN), fails;
        /// The id that means 'unchanged' to the kernel.
        Reserved => id(u32::MAX), fails;
        Nul => name("with\0nul"), fails;
    }
}

impl Axis for User {
    fn contradiction(self, _other: &Choice, databases: &Databases) -> Option<&'static str> {
        let is_test_user = matches!(self, Self::TestUser | Self::TestUserByNumber);
        (is_test_user && databases.user(TEST_USER).is_none()).then_some("there is no test user")
    }

    fn expected_failure(self, other: &Choice, rights: Option<Rights>) -> Option<&'static str> {
        if self == Self::Number && other.group == Some(Group::None) {
            return Some("the primary group is unknown");
        }
        let changes_ids = !matches!(self, Self::None | Self::Own);
        (changes_ids && lacks_right_to_change_ids(rights)).then_some("only root can change ids")
    }
}
