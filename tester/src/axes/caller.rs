//! The caller: the ids and capabilities of the launcher.

use super::{Axis, Choice, NUMBER, Rights, Stage};
use crate::config::Ids;
use crate::model::databases::{Databases, NOBODY};
use crate::suite::{TEST_USER, TEST_USER_ID};
use crate::sys;

/// Groups that a daemon of another user has to lose.
const GROUPS: [u32; 4] = [0, 4, 7, 4711];

/// The capabilities that Docker leaves to root by default.
const OF_CONTAINER: u64 = 0xa804_25fb;

axis! {
    /// The identity of the launcher.
    Caller |stage| (stage.config.initial.ids, stage.config.initial.capabilities) => {
        /// The user that runs the tests.
        Itself => (None, None);
        /// Root, with supplementary groups.
        RootWithGroups => (Some(Ids { groups: Some(GROUPS.to_vec()), ..Ids::user(0, 0) }), None);
        Ordinary => (ordinary(stage, |user| [user; 3]), None);
        /// The test user with its groups.
        TestUser => (
            Some(Ids {
                groups: stage.databases.user(TEST_USER).map(|entry| entry.groups.clone()),
                ..Ids::user(TEST_USER_ID, TEST_USER_ID)
            }),
            None,
        );
        /// Root as in a container.
        ContainerRoot => (Some(Ids::user(0, 0)), Some(OF_CONTAINER));
        /// An ordinary user that may change its ids, and bind ports.
        Capable => (
            ordinary(stage, |user| [user; 3]),
            Some(sys::CAP_SETGID | sys::CAP_SETUID | sys::CAP_NET_BIND_SERVICE),
        );
        /// As a set-user-ID program of root: the real user is ordinary.
        RealUser => (ordinary(stage, |user| [user, 0, 0]), None);
        /// As a set-group-ID program: the real group is ordinary.
        RealGroup => (
            ordinary(stage, |user| [user; 3]).map(|ids| Ids {
                gid: [ids.gid[0], GROUPS[3], GROUPS[3]],
                ..ids
            }),
            None,
        );
        /// The real and effective user are ordinary, the saved user is root.
        SavedRoot => (ordinary(stage, |user| [user, user, 0]), None);
        /// The effective and saved user are ordinary, the real user is root.
        RealRoot => (ordinary(stage, |user| [0, user, user]), None);
    }
}

fn ordinary(stage: &Stage<'_>, uid: impl Fn(u32) -> [u32; 3]) -> Option<Ids> {
    let nobody = stage.databases.user(NOBODY);
    let (user, group) = nobody.map_or((NUMBER, NUMBER), |entry| (entry.uid, entry.gid));
    Some(Ids {
        uid: uid(user),
        gid: [group; 3],
        groups: Some(Vec::new()),
    })
}

impl Axis for Caller {
    fn contradiction(self, _other: &Choice, databases: &Databases) -> Option<&'static str> {
        match self {
            Self::Itself => None,
            _ if sys::effective_user() != 0 => Some("only root can start as another user"),
            Self::Capable | Self::ContainerRoot if !cfg!(target_os = "linux") => {
                Some("only Linux has capabilities")
            }
            Self::TestUser if databases.user(TEST_USER).is_none() => Some("there is no test user"),
            _ => None,
        }
    }
}

impl Caller {
    pub(super) fn rights(self, databases: &Databases) -> Rights {
        let is_root = sys::effective_user() == 0;
        Rights {
            is_root: match self {
                Self::Itself => is_root,
                Self::RootWithGroups | Self::RealUser | Self::ContainerRoot => true,
                _ => false,
            },
            may_change_ids: self == Self::Capable,
            may_bind_ports: match self {
                Self::Itself => is_root,
                Self::Ordinary | Self::TestUser | Self::RealGroup => false,
                _ => true,
            },
            has_groups: match self {
                Self::Itself => databases.own_groups_are_many(),
                Self::TestUser => true,
                _ => false,
            },
        }
    }
}
