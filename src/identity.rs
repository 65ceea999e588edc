//! Users and groups: who the daemon is to be, and making sure that it is.

use std::ffi::{CStr, CString};

use crate::error::{Error, ErrorKind, Subject};
use crate::report::{About, Failure};
use crate::sys::{self, Errno, Gid, Ids, OtherThreads, Uid, UserEntry, errno};

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

/// What becomes of the supplementary groups: see
/// [`Daemonize::supplementary_groups`](crate::Daemonize::supplementary_groups).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum SupplementaryGroups {
    /// Those of the [user](crate::Daemonize::user), as
    /// [getgrouplist(3)](https://man7.org/linux/man-pages/man3/getgrouplist.3.html)
    /// lists them; of a [group](crate::Daemonize::group) alone, that one.
    /// Where neither is set, they stay as they are.
    #[default]
    FromDatabase,
    /// They stay as they are, whoever the daemon becomes.
    ///
    /// # Security
    ///
    /// The daemon can reach what root's groups can. This is for a process that
    /// has set its groups itself, or may not set them: in a user namespace that
    /// denies setgroups(2).
    Keep,
    /// These, and no others. `Only(Vec::new())` gives up all. On FreeBSD,
    /// DragonFly and macOS the group id is always among them.
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

impl From<&str> for User {
    fn from(name: &str) -> Self {
        Self(NameOrId::Name(name.to_owned()))
    }
}

impl From<String> for User {
    fn from(name: String) -> Self {
        Self(NameOrId::Name(name))
    }
}

impl From<&String> for User {
    fn from(name: &String) -> Self {
        Self(NameOrId::Name(name.clone()))
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

impl From<String> for Group {
    fn from(name: String) -> Self {
        Self(NameOrId::Name(name))
    }
}

impl From<&String> for Group {
    fn from(name: &String) -> Self {
        Self(NameOrId::Name(name.clone()))
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

/// What the kernel takes for "unchanged" where an id is expected. It is refused
/// wherever it comes from: a database may have it as well.
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

    /// Its primary group, which has no name here.
    pub(crate) fn group_subject(&self) -> Subject {
        match self.subject() {
            Subject::Name(name) => Subject::Name(format!("of user {name}")),
            path @ Subject::Path(_) => path,
        }
    }

    pub(crate) fn contains_nul(&self) -> bool {
        matches!(&self.0, NameOrId::Name(name) if name.contains('\0'))
    }

    /// The uid alone, as for the owner of a file.
    pub(crate) fn resolve_uid(&self) -> Result<Uid, Error> {
        let uid = match &self.0 {
            NameOrId::Id(uid) => Uid(*uid),
            NameOrId::Name(name) => self.entry_of(name)?.uid,
        };
        self.unless_unchanged(uid.0, ErrorKind::ChownPidfile)?;
        Ok(uid)
    }

    /// A number needs no database, unless its entry is wanted.
    fn resolve(&self, wants_entry: bool) -> Result<ResolvedUser, Error> {
        match &self.0 {
            NameOrId::Id(uid) => {
                self.unless_unchanged(*uid, ErrorKind::SetUser)?;
                let entry = match wants_entry {
                    true => sys::getpwuid(Uid(*uid)).map_err(|errno| self.look_up_failed(errno))?,
                    false => None,
                };
                Ok(ResolvedUser {
                    uid: Uid(*uid),
                    entry,
                })
            }
            NameOrId::Name(name) => {
                let entry = self.entry_of(name)?;
                self.unless_unchanged(entry.uid.0, ErrorKind::SetUser)?;
                Ok(ResolvedUser {
                    uid: entry.uid,
                    entry: Some(entry),
                })
            }
        }
    }

    fn entry_of(&self, name: &str) -> Result<UserEntry, Error> {
        let name = CString::new(name).map_err(|_| self.error(ErrorKind::UserContainsNul))?;
        sys::getpwnam(&name)
            .map_err(|errno| self.look_up_failed(errno))?
            .ok_or_else(|| self.error(ErrorKind::UserNotFound))
    }

    fn look_up_failed(&self, errno: Errno) -> Error {
        self.error(ErrorKind::LookUpUser(errno))
    }

    fn unless_unchanged(&self, id: u32, refusal: fn(Errno) -> ErrorKind) -> Result<(), Error> {
        match id {
            UNCHANGED => Err(self.error(refusal(errno::EINVAL)).because(MEANS_UNCHANGED)),
            _ => Ok(()),
        }
    }

    fn error(&self, kind: ErrorKind) -> Error {
        Error::from(kind).about(Some(self.subject()))
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
        let gid = match &self.0 {
            NameOrId::Id(gid) => Gid(*gid),
            NameOrId::Name(name) => {
                let name =
                    CString::new(name.as_str()).map_err(|_| error(ErrorKind::GroupContainsNul))?;
                sys::getgrnam(&name)
                    .map_err(|errno| error(ErrorKind::LookUpGroup(errno)))?
                    .ok_or_else(|| error(ErrorKind::GroupNotFound))?
            }
        };
        match gid {
            Gid(UNCHANGED) => Err(error(refusal(errno::EINVAL)).because(MEANS_UNCHANGED)),
            _ => Ok(gid),
        }
    }
}

/// Who the daemon is to be, in numbers: all that has to be looked up has been.
#[derive(Debug)]
pub(crate) struct Identity {
    /// `None` leaves the user ids as they are.
    user: Option<Uid>,
    /// `None` leaves the group ids as they are.
    group: Option<Gid>,
    /// The whole set of supplementary groups; `None` leaves them as they are.
    groups: Option<Vec<Gid>>,
}

impl Identity {
    /// Looks up who is meant. `None` where nothing is to change.
    pub(crate) fn resolve(
        user: Option<&User>,
        group: Option<&Group>,
        supplementary: &SupplementaryGroups,
    ) -> Result<Option<Self>, Error> {
        // Its primary group, or its name, by which its groups are listed.
        let wants_entry = group.is_none() || *supplementary == SupplementaryGroups::FromDatabase;
        let resolved_user = user.map(|user| user.resolve(wants_entry)).transpose()?;
        let resolved_group = group
            .map(|group| group.resolve(ErrorKind::SetGroup))
            .transpose()?;

        let mut identity = match (user, resolved_user, resolved_group) {
            (Some(user), Some(resolved), gid) => {
                let primary = resolved.entry.as_ref().map(|entry| entry.primary_group);
                let group = gid
                    .or(primary)
                    .ok_or_else(|| user.error(ErrorKind::PrimaryGroupUnknown))?;
                user.unless_unchanged(group.0, ErrorKind::SetGroup)?;
                let groups = match (&resolved.entry, supplementary) {
                    (_, SupplementaryGroups::Keep | SupplementaryGroups::Only(_)) => None,
                    (None, SupplementaryGroups::FromDatabase) => Some(vec![group]),
                    (Some(entry), SupplementaryGroups::FromDatabase) => {
                        Some(groups_of(user, &entry.name, group)?)
                    }
                };
                Self {
                    user: Some(resolved.uid),
                    group: Some(group),
                    groups,
                }
            }
            (_, _, group) => Self {
                user: None,
                group,
                groups: match supplementary {
                    SupplementaryGroups::FromDatabase => group.map(|group| vec![group]),
                    SupplementaryGroups::Keep | SupplementaryGroups::Only(_) => None,
                },
            },
        };
        if let SupplementaryGroups::Only(groups) = supplementary {
            let primary = identity.group.unwrap_or_else(|| sys::group_ids().effective);
            identity.groups = Some(exactly(groups, primary)?);
        }
        let changes_nothing = matches!(
            identity,
            Self {
                user: None,
                group: None,
                groups: None
            }
        );
        Ok((!changes_nothing).then_some(identity))
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
    pub(crate) fn assume(&self, others: &OtherThreads) -> Result<(), Failure> {
        let before = self.held_now()?;
        if let Some(groups) = &self.groups {
            self.set_groups(&before.groups, groups)?;
        }
        if let Some(group) = self.group {
            sys::set_group_ids(group)
                .map_err(|errno| Failure::new(ErrorKind::SetGroup(errno), About::Group))?;
        }
        if let Some(user) = self.user {
            sys::set_user_ids(user)
                .map_err(|errno| Failure::new(ErrorKind::SetUser(errno), About::User))?;
        }

        let after = self.held_now()?;
        let is_assumed = match self.user {
            Some(user) => after.user_ids.are_all(user),
            None => after.user_ids == before.user_ids,
        } && match self.group {
            Some(group) => after.group_ids.are_all(group),
            None => after.group_ids == before.group_ids,
        } && match &self.groups {
            Some(groups) => same_rights(&after.groups, groups, after.group_ids.effective),
            None => same_set(
                after.beside_effective_gid(),
                &before.beside_effective_gid_once_it_is(after.group_ids.effective),
            ),
        };
        if !is_assumed {
            return Err(self.retained("the ids read back are not the ones set"));
        }
        // Where the saved ids cannot be seen, those may be what has changed.
        let was_this_before = after == before && after.user_ids.saved.is_some();
        if after.user_ids.effective == Uid::ROOT || was_this_before {
            // Root can be whoever it likes; and who was this all along has
            // given nothing up.
            return Ok(());
        }
        match sys::clear_capabilities(others) {
            Ok(true) => {}
            Ok(false) => {
                return Err(self.retained("capabilities are left, here or in another thread"));
            }
            Err(_) => return Err(self.retained("the capabilities cannot be cleared")),
        }
        match before.can_be_had_again_by(&after) {
            Some(text) => Err(self.retained(text)),
            None => Ok(()),
        }
    }

    fn held_now(&self) -> Result<Held, Failure> {
        Held::now()
            .map_err(|errno| Failure::new(ErrorKind::SetSupplementaryGroups(errno), self.about()))
    }

    fn retained(&self, text: &'static str) -> Failure {
        Failure::new(ErrorKind::PrivilegesRetained, self.about()).because(text)
    }

    fn set_groups(&self, present: &[Gid], wanted: &[Gid]) -> Result<(), Failure> {
        // Where the effective gid is kept as the first of the groups, changing
        // that takes the place of what was there.
        let keeps_place = !sys::FIRST_GROUP_IS_EFFECTIVE_GID || present.first() == wanted.first();
        let are_all = !sys::HAS_UNLISTED_GROUPS || sys::geteuid() != Uid::ROOT;
        if same_set(present, wanted) && keeps_place && are_all {
            return Ok(());
        }
        let primary = self.group.unwrap_or_else(|| sys::group_ids().effective);
        match sys::setgroups(wanted) {
            // An ordinary user who asks for itself: whether the primary group
            // is also listed among the others makes no difference.
            Err(errno::EPERM) if same_rights(present, wanted, primary) => Ok(()),
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
    let listed = sys::getgrouplist(name, primary);
    // Whichever it was: not every C library fails where it cannot read.
    sys::probe_groups().map_err(|errno| user.error(ErrorKind::LookUpGroup(errno)))?;
    let listed = listed.map_err(failed)?;
    for gid in &listed {
        user.unless_unchanged(gid.0, ErrorKind::SetSupplementaryGroups)?;
    }
    let mut groups = vec![primary];
    groups.extend(each_once(listed).into_iter().filter(|&gid| gid != primary));
    refuse_more_than_allowed(&groups, failed)?;
    Ok(groups)
}

/// The groups that the caller has named.
fn exactly(groups: &[Group], primary: Gid) -> Result<Vec<Gid>, Error> {
    let resolved: Result<Vec<Gid>, Error> = groups
        .iter()
        .map(|group| group.resolve(ErrorKind::SetSupplementaryGroups))
        .collect();
    let mut groups = each_once(resolved?);
    if sys::FIRST_GROUP_IS_EFFECTIVE_GID {
        groups.retain(|&gid| gid != primary);
        groups.insert(0, primary);
    }
    refuse_more_than_allowed(&groups, |errno| {
        ErrorKind::SetSupplementaryGroups(errno).into()
    })?;
    Ok(groups)
}

/// In order of number.
fn each_once(mut groups: Vec<Gid>) -> Vec<Gid> {
    groups.sort_unstable();
    groups.dedup();
    groups
}

fn refuse_more_than_allowed(
    groups: &[Gid],
    refusal: impl FnOnce(Errno) -> Error,
) -> Result<(), Error> {
    let most = sys::max_supplementary_groups();
    if groups.len() <= most {
        return Ok(());
    }
    Err(refusal(errno::EINVAL).because(format!(
        "{} groups, where this system allows {most}",
        groups.len()
    )))
}

/// Gives up what execve(2) may grant.
pub(crate) fn set_no_new_privileges(others: &OtherThreads) -> Result<(), Failure> {
    if others.run() {
        let failure = Failure::from(ErrorKind::SetNoNewPrivileges(errno::EPERM));
        return Err(failure.because("other threads exist, and would not get no_new_privs"));
    }
    sys::set_no_new_privileges().map_err(|errno| ErrorKind::SetNoNewPrivileges(errno).into())
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
            groups: sys::getgroups()?,
        })
    }

    fn beside_effective_gid(&self) -> &[Gid] {
        match self.groups.split_first() {
            Some((_, others)) if sys::FIRST_GROUP_IS_EFFECTIVE_GID => others,
            _ => &self.groups,
        }
    }

    /// What that becomes with this effective gid.
    fn beside_effective_gid_once_it_is(&self, effective: Gid) -> Vec<Gid> {
        let mut groups = self.beside_effective_gid().to_vec();
        if sys::EFFECTIVE_GID_SWAPS {
            if let Some(swapped) = groups.iter_mut().find(|gid| **gid == effective) {
                *swapped = self.group_ids.effective;
            }
        }
        groups
    }

    /// Tries. Once a try has succeeded the process is nobody's any more, and
    /// has to end.
    fn can_be_had_again_by(&self, after: &Self) -> Option<&'static str> {
        let mut users = self.user_ids.each().chain([Uid::ROOT]);
        if users.any(|user| !after.user_ids.has(user) && sys::try_regain_uid(user)) {
            return Some("a former user id can be had again");
        }
        let mut groups = self.group_ids.each().chain([Gid::ROOT]);
        if groups.any(|group| !after.group_ids.has(group) && sys::try_regain_gid(group)) {
            return Some("a former group id can be had again");
        }
        None
    }
}

/// Sorted, since there may be tens of thousands.
fn same_set(one: &[Gid], other: &[Gid]) -> bool {
    each_once(one.to_vec()) == each_once(other.to_vec())
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

    fn resolve(user: Option<&User>, group: Option<&Group>) -> Result<Option<Identity>, Error> {
        Identity::resolve(user, group, &SupplementaryGroups::FromDatabase)
    }

    /// As a configuration file holds it.
    #[test]
    fn an_owned_name_is_a_user_or_a_group() {
        let name = String::from("nobody");
        assert_eq!(User::from(&name), User::from("nobody"));
        assert_eq!(Group::from(&name), Group::from("nobody"));
        assert_eq!(User::from(name.clone()), User::from("nobody"));
        assert_eq!(Group::from(name), Group::from("nobody"));
    }

    #[test]
    fn sets_of_groups_are_compared_as_sets() {
        let [one, two, three] = [Gid(1), Gid(2), Gid(3)];
        assert!(same_set(&[one, two], &[two, one, two]));
        assert!(!same_set(&[one], &[one, two]));
        assert!(same_rights(&[two], &[one, two], one));
        assert!(!same_rights(&[two], &[one, two], three));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn all_groups_are_beside_the_effective_gid() {
        let held = Held {
            groups: vec![Gid(1), Gid(2)],
            ..Held::now().expect("ask the kernel")
        };
        assert_eq!(held.beside_effective_gid(), [Gid(1), Gid(2)]);
        assert_eq!(
            held.beside_effective_gid_once_it_is(Gid(2)),
            [Gid(1), Gid(2)]
        );
    }

    #[test]
    fn an_id_that_means_unchanged_is_refused() {
        let error = resolve(Some(&User::from(u32::MAX)), None).expect_err("refused");
        assert_eq!(error.kind(), ErrorKind::SetUser(errno::EINVAL));
        let error = resolve(None, Some(&Group::from(u32::MAX))).expect_err("refused");
        assert_eq!(error.kind(), ErrorKind::SetGroup(errno::EINVAL));
    }

    #[test]
    fn a_user_without_an_entry_needs_a_group() {
        let nobody_at_all = User::from(4_000_000_001);
        let error = resolve(Some(&nobody_at_all), None).expect_err("refused");
        assert_eq!(error.kind(), ErrorKind::PrimaryGroupUnknown);
        let identity = resolve(Some(&nobody_at_all), Some(&Group::from(5)))
            .expect("resolved")
            .expect("an identity");
        assert_eq!(identity.groups, Some(vec![Gid(5)]));
    }
}
