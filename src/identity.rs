//! Users and groups: who the daemon is to be, and making sure that it is.

use std::ffi::{CStr, CString};

use crate::error::{Error, ErrorKind, Subject};
use crate::report::{About, Failure};
use crate::sys::{self, Errno, Gid, Ids, Uid, UserEntry, errno};

/// A user by name or by id. A name is looked up when the start begins.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct User(NameOrId);

/// A group by name or by id. A name is looked up when the start begins.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Group(NameOrId);

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum NameOrId {
    Name(String),
    Id(u32),
}

impl From<&str> for User {
    fn from(name: &str) -> Self {
        Self(NameOrId::Name(name.to_owned()))
    }
}

impl From<u32> for User {
    fn from(uid: u32) -> Self {
        Self(NameOrId::Id(uid))
    }
}

impl From<&str> for Group {
    fn from(name: &str) -> Self {
        Self(NameOrId::Name(name.to_owned()))
    }
}

impl From<u32> for Group {
    fn from(gid: u32) -> Self {
        Self(NameOrId::Id(gid))
    }
}

impl NameOrId {
    fn subject(&self) -> Subject {
        Subject::Name(match self {
            Self::Name(name) => name.clone(),
            Self::Id(id) => id.to_string(),
        })
    }
}

/// What the kernel takes for "unchanged" where an id is expected.
const UNCHANGED: u32 = u32::MAX;
const MEANS_UNCHANGED: &str = "this id means 'unchanged' to the kernel";

/// What the user database says of a user, as far as it says anything.
struct ResolvedUser {
    uid: Uid,
    entry: Option<UserEntry>,
}

impl User {
    pub(crate) fn subject(&self) -> Subject {
        self.0.subject()
    }

    pub(crate) fn contains_nul(&self) -> bool {
        matches!(&self.0, NameOrId::Name(name) if name.contains('\0'))
    }

    /// The uid alone, as for the owner of a file.
    pub(crate) fn resolve_uid(&self) -> Result<Uid, Error> {
        match &self.0 {
            NameOrId::Id(UNCHANGED) => {
                Err(self.refused(ErrorKind::ChownPidfile(errno::EINVAL), MEANS_UNCHANGED))
            }
            NameOrId::Id(uid) => Ok(Uid(*uid)),
            NameOrId::Name(_) => Ok(self.resolve()?.uid),
        }
    }

    fn resolve(&self) -> Result<ResolvedUser, Error> {
        let failed = |errno| self.error(ErrorKind::LookUpUser(errno));
        match &self.0 {
            NameOrId::Id(UNCHANGED) => {
                Err(self.refused(ErrorKind::SetUser(errno::EINVAL), MEANS_UNCHANGED))
            }
            NameOrId::Id(uid) => Ok(ResolvedUser {
                uid: Uid(*uid),
                entry: sys::user_by_id(Uid(*uid)).map_err(failed)?,
            }),
            NameOrId::Name(name) => {
                let name = CString::new(name.as_str())
                    .map_err(|_| self.error(ErrorKind::UserContainsNul))?;
                let entry = sys::user_by_name(&name)
                    .map_err(failed)?
                    .ok_or_else(|| self.error(ErrorKind::UserNotFound))?;
                Ok(ResolvedUser {
                    uid: entry.uid,
                    entry: Some(entry),
                })
            }
        }
    }

    fn error(&self, kind: ErrorKind) -> Error {
        Error::from(kind).about(Some(self.subject()))
    }

    fn refused(&self, kind: ErrorKind, text: &'static str) -> Error {
        self.error(kind).because(text)
    }
}

impl Group {
    pub(crate) fn subject(&self) -> Subject {
        self.0.subject()
    }

    pub(crate) fn contains_nul(&self) -> bool {
        matches!(&self.0, NameOrId::Name(name) if name.contains('\0'))
    }

    /// The gid, where `refusal` is the kind of error for an id that is none.
    pub(crate) fn resolve(&self, refusal: fn(Errno) -> ErrorKind) -> Result<Gid, Error> {
        let error = |kind| Error::from(kind).about(Some(self.subject()));
        match &self.0 {
            NameOrId::Id(UNCHANGED) => Err(error(refusal(errno::EINVAL)).because(MEANS_UNCHANGED)),
            NameOrId::Id(gid) => Ok(Gid(*gid)),
            NameOrId::Name(name) => {
                let name =
                    CString::new(name.as_str()).map_err(|_| error(ErrorKind::GroupContainsNul))?;
                sys::group_by_name(&name)
                    .map_err(|errno| error(ErrorKind::LookUpGroup(errno)))?
                    .ok_or_else(|| error(ErrorKind::GroupNotFound))
            }
        }
    }
}

/// Who the daemon is to be, in numbers: all that has to be looked up has been.
#[derive(Debug)]
pub(crate) struct Identity {
    /// `None` leaves the user ids as they are.
    user: Option<Uid>,
    group: Gid,
    /// The whole set of supplementary groups, `group` first.
    groups: Vec<Gid>,
}

impl Identity {
    /// Looks up who is meant. `None` where nothing is to change.
    pub(crate) fn resolve(
        user: Option<&User>,
        group: Option<&Group>,
    ) -> Result<Option<Self>, Error> {
        let resolved_user = user.map(User::resolve).transpose()?;
        let resolved_group = group
            .map(|group| group.resolve(ErrorKind::SetGroup))
            .transpose()?;

        let identity = match (user, resolved_user, resolved_group) {
            (Some(user), Some(resolved), gid) => {
                let primary = resolved.entry.as_ref().map(|entry| entry.primary_group);
                let group = gid
                    .or(primary)
                    .ok_or_else(|| user.error(ErrorKind::PrimaryGroupUnknown))?;
                Self {
                    user: Some(resolved.uid),
                    group,
                    groups: match &resolved.entry {
                        Some(entry) => groups_of(user, &entry.name, group)?,
                        None => vec![group],
                    },
                }
            }
            (_, _, Some(group)) => Self {
                user: None,
                group,
                groups: vec![group],
            },
            _ => return Ok(None),
        };
        Ok(Some(identity))
    }

    pub(crate) fn user(&self) -> Option<Uid> {
        self.user
    }

    fn about(&self) -> About {
        match self.user {
            Some(_) => About::User,
            None => About::Group,
        }
    }

    /// Becomes that identity: groups, then gid, then uid, since each step
    /// takes the right to the one before; then checks that it did, and that
    /// there is no way back.
    ///
    /// # Errors
    ///
    /// After [`ErrorKind::PrivilegesRetained`] the process must end.
    pub(crate) fn assume(&self) -> Result<(), Failure> {
        let before = self.held_now()?;
        self.set_groups(&before.groups)?;
        sys::set_group_ids(self.group)
            .map_err(|errno| Failure::new(ErrorKind::SetGroup(errno), About::Group))?;
        if let Some(user) = self.user {
            sys::set_user_ids(user)
                .map_err(|errno| Failure::new(ErrorKind::SetUser(errno), About::User))?;
        }

        let after = self.held_now()?;
        let is_assumed = after.group_ids.are_all(self.group)
            && self.user.is_none_or(|user| after.user_ids.are_all(user))
            && same_rights(&after.groups, &self.groups, self.group);
        if !is_assumed {
            return Err(self.retained("the ids read back are not the ones set"));
        }
        if after.user_ids.effective == Uid::ROOT || after == before {
            // Root can be whoever it likes; and who was this all along has
            // given nothing up.
            return Ok(());
        }
        match sys::clear_capabilities() {
            Ok(true) => {}
            Ok(false) => return Err(self.retained("capabilities are left")),
            Err(_) => return Err(self.retained("the capabilities cannot be cleared")),
        }
        if let Some(text) = before.can_be_had_again_by(&after) {
            return Err(self.retained(text));
        }
        if self.held_now()? == after {
            Ok(())
        } else {
            Err(self.retained("the ids read back are not the ones set"))
        }
    }

    fn held_now(&self) -> Result<Held, Failure> {
        Held::now()
            .map_err(|errno| Failure::new(ErrorKind::SetSupplementaryGroups(errno), self.about()))
    }

    fn retained(&self, text: &'static str) -> Failure {
        Failure::new(ErrorKind::PrivilegesRetained, self.about()).because(text)
    }

    fn set_groups(&self, present: &[Gid]) -> Result<(), Failure> {
        // Where the effective gid is kept as the first of the groups, changing
        // that takes the place of what was there.
        let keeps_place =
            !sys::FIRST_GROUP_IS_EFFECTIVE_GID || present.first() == self.groups.first();
        if same_set(present, &self.groups) && keeps_place {
            return Ok(());
        }
        match sys::set_supplementary_groups(&self.groups) {
            // An ordinary user who asks for itself: whether the primary group
            // is also listed among the others makes no difference.
            Err(errno::EPERM) if same_rights(present, &self.groups, self.group) => Ok(()),
            Err(errno) => Err(Failure::new(
                ErrorKind::SetSupplementaryGroups(errno),
                self.about(),
            )),
            Ok(()) => Ok(()),
        }
    }
}

/// The groups of a user as the group database has them, or an error where the
/// system does not let a process have so many.
fn groups_of(user: &User, name: &CStr, primary: Gid) -> Result<Vec<Gid>, Error> {
    let failed = |errno| user.error(ErrorKind::SetSupplementaryGroups(errno));
    let listed = sys::groups_of(name, primary).map_err(failed)?;
    let mut groups = vec![primary];
    for gid in listed {
        if !groups.contains(&gid) {
            groups.push(gid);
        }
    }
    let most = sys::most_supplementary_groups();
    if groups.len() > most {
        return Err(failed(errno::EINVAL).because(format!(
            "a member of {} groups, where this system allows {most}",
            groups.len()
        )));
    }
    Ok(groups)
}

/// Everything that a change of identity changes.
#[derive(PartialEq, Eq)]
struct Held {
    user_ids: Ids<Uid>,
    group_ids: Ids<Gid>,
    groups: Vec<Gid>,
}

impl Held {
    fn now() -> Result<Self, Errno> {
        Ok(Self {
            user_ids: sys::user_ids(),
            group_ids: sys::group_ids(),
            groups: sys::supplementary_groups()?,
        })
    }

    /// Tries. Once a try has succeeded the process is nobody's any more, and
    /// has to end.
    fn can_be_had_again_by(&self, after: &Self) -> Option<&'static str> {
        let mut users = self.user_ids.each().chain([Uid::ROOT]);
        if users.any(|user| !after.user_ids.has(user) && sys::can_become_user(user)) {
            return Some("a former user id can be had again");
        }
        let mut groups = self.group_ids.each().chain([Gid::ROOT]);
        if groups.any(|group| !after.group_ids.has(group) && sys::can_become_group(group)) {
            return Some("a former group id can be had again");
        }
        None
    }
}

fn same_set(one: &[Gid], other: &[Gid]) -> bool {
    one.iter().all(|gid| other.contains(gid)) && other.iter().all(|gid| one.contains(gid))
}

/// Whether two sets of supplementary groups grant the same to a process whose
/// group id is `primary`.
fn same_rights(one: &[Gid], other: &[Gid], primary: Gid) -> bool {
    let with_primary = |groups: &[Gid]| [groups, &[primary]].concat();
    same_set(&with_primary(one), &with_primary(other))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_of_groups_are_compared_as_sets() {
        let [one, two, three] = [Gid(1), Gid(2), Gid(3)];
        assert!(same_set(&[one, two], &[two, one, two]));
        assert!(!same_set(&[one], &[one, two]));
        assert!(same_rights(&[two], &[one, two], one));
        assert!(!same_rights(&[two], &[one, two], three));
    }

    #[test]
    fn an_id_that_means_unchanged_is_refused() {
        let error = Identity::resolve(Some(&User::from(u32::MAX)), None).expect_err("refused");
        assert_eq!(error.kind(), ErrorKind::SetUser(errno::EINVAL));
        let error = Identity::resolve(None, Some(&Group::from(u32::MAX))).expect_err("refused");
        assert_eq!(error.kind(), ErrorKind::SetGroup(errno::EINVAL));
    }

    #[test]
    fn a_user_without_an_entry_needs_a_group() {
        let nobody_at_all = User::from(4_000_000_001);
        let error = Identity::resolve(Some(&nobody_at_all), None).expect_err("refused");
        assert_eq!(error.kind(), ErrorKind::PrimaryGroupUnknown);
        let identity = Identity::resolve(Some(&nobody_at_all), Some(&Group::from(5)))
            .expect("resolved")
            .expect("an identity");
        assert_eq!(identity.groups, [Gid(5)]);
    }
}
