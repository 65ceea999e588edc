//! Users and groups: the identity of the daemon.

mod assume;
mod capabilities;
mod resolve;

use crate::subject::Subject;

pub use capabilities::Capability;

pub(crate) use assume::{GroupRoom, become_dumpable, set_no_new_privileges};
pub(crate) use resolve::Identity;

use resolve::NameOrId;

macro_rules! from_names {
    ($type:ident: $( $name:ty ),*) => { $(
        impl From<$name> for $type {
            fn from(name: $name) -> Self {
                Self(NameOrId::Name(name.into()))
            }
        }
    )* };
}

macro_rules! names {
    ($( $(#[$documentation:meta])* $type:ident $id:ident )*) => { $(
        $(#[$documentation])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub struct $type(NameOrId);

        from_names!($type: &str, String, &String);

        impl From<u32> for $type {
            fn from($id: u32) -> Self {
                Self(NameOrId::Id($id))
            }
        }

        impl $type {
            pub(crate) fn subject(&self) -> Subject {
                Subject::Name(self.0.to_string())
            }

            pub(crate) fn contains_nul(&self) -> bool {
                self.0.contains_nul()
            }
        }
    )* };
}

names! {
    /// A user by name or by uid. The launcher looks a name up before the first fork.
    User uid
    /// A group by name or by gid. The launcher looks a name up before the first fork.
    Group gid
}

impl User {
    /// The user's primary group, whose name is not known.
    pub(crate) fn group_subject(&self) -> Subject {
        Subject::Name(format!("of user {}", self.0))
    }
}

/// The supplementary groups of the daemon: see
/// [`Daemonize::supplementary_groups`](crate::Daemonize::supplementary_groups).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum SupplementaryGroups {
    /// With a [user](crate::Daemonize::user), the groups that
    /// [getgrouplist(3)](https://man7.org/linux/man-pages/man3/getgrouplist.3.html)
    /// lists for that user. With only a [group](crate::Daemonize::group), that group.
    /// With neither, the groups do not change.
    #[default]
    FromDatabase,
    /// The groups do not change, even if the daemon changes its user.
    ///
    /// # Security
    ///
    /// After a change from root, the daemon can still access all that the groups of root can
    /// access. Use this if the process has set its groups itself, or if setgroups(2) is denied, as
    /// in some user namespaces.
    Keep,
    /// The daemon gets only these groups. `Only(Vec::new())` drops all supplementary groups. On
    /// FreeBSD, DragonFly and macOS the list always contains the group id.
    Only(Vec<Group>),
}

impl SupplementaryGroups {
    /// The groups that the caller has named.
    pub(crate) fn named(&self) -> &[Group] {
        match self {
            Self::FromDatabase | Self::Keep => &[],
            Self::Only(groups) => groups,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A configuration file holds owned names.
    #[test]
    fn an_owned_name_is_a_user_or_a_group() {
        let name = String::from("nobody");
        assert_eq!(User::from(&name), User::from("nobody"));
        assert_eq!(Group::from(&name), Group::from("nobody"));
        assert_eq!(User::from(name.clone()), User::from("nobody"));
        assert_eq!(Group::from(name), Group::from("nobody"));
    }
}
