//! The look-up of users and groups, before any fork.

use std::ffi::{CStr, CString};
use std::fmt;

use super::capabilities::KeptCapabilities;
use super::{Capability, Group, SupplementaryGroups, User};
use crate::error::{Error, ErrorKind};
use crate::failure::Failure;
use crate::subject::Subject;
use crate::sys::{self, Errno, Gid, Uid, UserEntry, errno};

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum NameOrId {
    Name(String),
    Id(u32),
}

impl fmt::Display for NameOrId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Id(id) => id.fmt(f),
        }
    }
}

/// A database that resolves names, and the errors of a look-up.
struct Database<T> {
    by_name: fn(&CStr) -> Result<Option<T>, Errno>,
    by_id: fn(u32) -> T,
    name_contains_nul: ErrorKind,
    not_found: ErrorKind,
    look_up_failed: fn(Errno) -> ErrorKind,
}

/// A user with its entry, if it was looked up and exists.
struct ResolvedUser {
    uid: Uid,
    entry: Option<UserEntry>,
}

const USERS: Database<ResolvedUser> = Database {
    by_name: |name| {
        let entry = sys::getpwnam(name)?;
        Ok(entry.map(|entry| ResolvedUser {
            uid: entry.uid,
            entry: Some(entry),
        }))
    },
    by_id: |uid| ResolvedUser {
        uid: Uid(uid),
        entry: None,
    },
    name_contains_nul: ErrorKind::UserContainsNul,
    not_found: ErrorKind::UserNotFound,
    look_up_failed: ErrorKind::LookUpUser,
};

const GROUPS: Database<Gid> = Database {
    by_name: sys::getgrnam,
    by_id: Gid,
    name_contains_nul: ErrorKind::GroupContainsNul,
    not_found: ErrorKind::GroupNotFound,
    look_up_failed: ErrorKind::LookUpGroup,
};

impl NameOrId {
    pub(super) fn contains_nul(&self) -> bool {
        matches!(self, Self::Name(name) if name.contains('\0'))
    }

    fn resolve<T>(&self, database: &Database<T>) -> Result<T, Error> {
        let name = match self {
            Self::Name(name) => CString::new(name.as_str()),
            Self::Id(id) => return Ok((database.by_id)(*id)),
        };
        let name = name.map_err(|_| self.error(database.name_contains_nul))?;
        (database.by_name)(&name)
            .map_err(|errno| self.error((database.look_up_failed)(errno)))?
            .ok_or_else(|| self.error(database.not_found))
    }

    /// Refuses an id that means "unchanged" to the kernel. A database may contain it, too.
    fn reject_sentinel(&self, id: u32, refusal: fn(Errno) -> ErrorKind) -> Result<(), Error> {
        match sys::UNCHANGED_IDS.contains(&id) {
            true => Err(self
                .error(refusal(errno::EINVAL))
                .with_reason("this id means 'unchanged' to the kernel")),
            false => Ok(()),
        }
    }

    fn error(&self, kind: ErrorKind) -> Error {
        Error::from(kind).with_subject(Subject::Name(self.to_string()))
    }
}

impl User {
    /// The uid of the owner of a pid file.
    pub(crate) fn resolve_uid(&self) -> Result<Uid, Error> {
        let user = self.0.resolve(&USERS)?;
        self.0
            .reject_sentinel(user.uid.0, ErrorKind::ChownPidfile)?;
        Ok(user.uid)
    }

    /// The entry of the user. `refusal` is the kind of the error if there is none.
    pub(crate) fn resolve_entry(&self, refusal: ErrorKind) -> Result<UserEntry, Error> {
        let user = self.resolve(true)?;
        user.entry.ok_or_else(|| self.0.error(refusal))
    }

    /// An id is only looked up if its entry is wanted.
    fn resolve(&self, wants_entry: bool) -> Result<ResolvedUser, Error> {
        let mut user = self.0.resolve(&USERS)?;
        self.0.reject_sentinel(user.uid.0, ErrorKind::SetUser)?;
        if wants_entry && user.entry.is_none() {
            user.entry = sys::getpwuid(user.uid)
                .map_err(|errno| self.0.error(ErrorKind::LookUpUser(errno)))?;
        }
        Ok(user)
    }

    /// The primary group and the groups that the group database lists for the user.
    fn groups_from_database(&self, name: &CStr, primary: Gid) -> Result<Vec<Gid>, Error> {
        let failed = |errno| self.0.error(ErrorKind::SetSupplementaryGroups(errno));
        let listed = sys::getgrouplist(name, primary);
        // Probed after a success, too: some C libraries leave out what they cannot read.
        sys::probe_groups().map_err(|errno| self.0.error(ErrorKind::LookUpGroup(errno)))?;
        let listed = listed.map_err(failed)?;
        for gid in &listed {
            self.0
                .reject_sentinel(gid.0, ErrorKind::SetSupplementaryGroups)?;
        }
        let groups = with_first(primary, sorted_dedup(listed));
        reject_too_many(&groups, failed)?;
        Ok(groups)
    }
}

impl Group {
    /// The gid. `refusal` makes the kind of the error for an invalid id.
    pub(crate) fn resolve(&self, refusal: fn(Errno) -> ErrorKind) -> Result<Gid, Error> {
        let gid = self.0.resolve(&GROUPS)?;
        self.0.reject_sentinel(gid.0, refusal)?;
        Ok(gid)
    }
}

/// The resolved identity of the daemon: numbers only.
#[derive(Debug)]
pub(crate) struct Identity {
    /// `None` leaves the user ids as they are.
    pub(crate) user: Option<Uid>,
    /// `None` leaves the group ids as they are.
    pub(crate) group: Option<Gid>,
    /// The whole set of supplementary groups; `None` leaves them as they are.
    pub(super) groups: Option<Vec<Gid>>,
    /// `None` keeps none if the identity changes, unless the daemon is root.
    pub(super) capabilities: Option<KeptCapabilities>,
}

impl Identity {
    /// Resolves all names. The identity is `None` if nothing changes. The entry is that of the
    /// user, if the user has one and it was looked up.
    pub(crate) fn resolve(
        user: Option<&User>,
        group: Option<&Group>,
        supplementary: &SupplementaryGroups,
        wants_entry: bool,
        kept: Option<&[Capability]>,
        ambient: Option<&[Capability]>,
    ) -> Result<(Option<Self>, Option<UserEntry>), Error> {
        // The entry has the primary group, and the name by which the groups are listed.
        let wants_entry =
            wants_entry || group.is_none() || *supplementary == SupplementaryGroups::FromDatabase;
        let user = user
            .map(|user| user.resolve(wants_entry).map(|resolved| (user, resolved)))
            .transpose()?;
        let entry = user.as_ref().and_then(|(_, user)| user.entry.as_ref());
        let group = match (group, &user) {
            (Some(group), _) => Some(group.resolve(ErrorKind::SetGroup)?),
            (None, Some((user, _))) => {
                let primary = entry.map(|entry| entry.primary_group).ok_or_else(|| {
                    (user.0.error(ErrorKind::PrimaryGroupUnknown))
                        .with_reason("the user database has no such uid; set `group`")
                })?;
                user.0.reject_sentinel(primary.0, ErrorKind::SetGroup)?;
                Some(primary)
            }
            (None, None) => None,
        };
        let groups = match supplementary {
            SupplementaryGroups::Keep => None,
            SupplementaryGroups::Only(groups) => {
                let primary = group.unwrap_or_else(|| sys::group_ids().effective);
                Some(resolve_listed(groups, primary)?)
            }
            SupplementaryGroups::FromDatabase => match (&user, entry, group) {
                (Some((user, _)), Some(entry), Some(primary)) => {
                    Some(user.groups_from_database(&entry.name, primary)?)
                }
                _ => group.map(|group| vec![group]),
            },
        };
        let (user, entry) = match user {
            Some((_, resolved)) => (Some(resolved.uid), resolved.entry),
            None => (None, None),
        };
        let error = |failure: Failure| Error::from(failure.kind).with_reason(failure.reason);
        let capabilities = KeptCapabilities::resolve(kept, ambient).map_err(error)?;
        let identity = Self {
            user,
            group,
            groups,
            capabilities,
        };
        if capabilities.is_some() {
            (identity.check_kept_capabilities(&sys::user_ids())).map_err(error)?;
        }
        Ok((identity.changes_something().then_some(identity), entry))
    }

    fn changes_something(&self) -> bool {
        let changes_ids = self.user.is_some() || self.group.is_some() || self.groups.is_some();
        changes_ids || self.capabilities.is_some()
    }
}

/// The gids of the groups that the caller has named.
fn resolve_listed(groups: &[Group], primary: Gid) -> Result<Vec<Gid>, Error> {
    let resolved: Result<Vec<Gid>, Error> = groups
        .iter()
        .map(|group| group.resolve(ErrorKind::SetSupplementaryGroups))
        .collect();
    let mut groups = sorted_dedup(resolved?);
    if sys::FIRST_GROUP_IS_EFFECTIVE_GID {
        groups = with_first(primary, groups);
    }
    reject_too_many(&groups, |errno| {
        ErrorKind::SetSupplementaryGroups(errno).into()
    })?;
    Ok(groups)
}

fn sorted_dedup(mut groups: Vec<Gid>) -> Vec<Gid> {
    groups.sort_unstable();
    groups.dedup();
    groups
}

fn with_first(first: Gid, mut groups: Vec<Gid>) -> Vec<Gid> {
    groups.retain(|&gid| gid != first);
    groups.insert(0, first);
    groups
}

fn reject_too_many(groups: &[Gid], refusal: impl FnOnce(Errno) -> Error) -> Result<(), Error> {
    let most = sys::max_supplementary_groups();
    if groups.len() <= most {
        return Ok(());
    }
    Err(refusal(errno::EINVAL).with_reason(format!(
        "{} groups are more than the {most} that this system allows",
        groups.len()
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_id_that_means_unchanged_is_refused() {
        for &id in sys::UNCHANGED_IDS {
            let error = Group::from(id).resolve(ErrorKind::SetGroup);
            let error = error.expect_err("the id is reserved");
            assert_eq!(error.kind(), ErrorKind::SetGroup(errno::EINVAL));
            assert!(Group::from(id - 1).resolve(ErrorKind::SetGroup).is_ok());
        }
        assert!(sys::UNCHANGED_IDS.contains(&u32::MAX));
        // KAUTH_GID_NONE of XNU.
        let apple = 4_294_967_195;
        assert_eq!(
            sys::UNCHANGED_IDS.contains(&apple),
            cfg!(target_vendor = "apple")
        );
    }
}
