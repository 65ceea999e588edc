//! The change of identity, and its verification.

use super::resolve::{Identity, sorted_dedup};
use crate::error::{ErrorKind, SubjectKind};
use crate::failure::Failure;
use crate::sys::{self, Gid, Ids, OtherThreads, Uid, errno};

impl Identity {
    /// Assumes this identity: groups, then gid, then uid, since each step takes away the
    /// privilege for the step before. Then verifies the result, and that the process
    /// cannot regain the former identity.
    ///
    /// # Errors
    ///
    /// After [`ErrorKind::PrivilegesRetained`] the process must end.
    pub(crate) fn assume(&self, others: &OtherThreads) -> Result<(), Failure> {
        let before = Credentials::current()?;
        if let Some(groups) = &self.groups {
            self.set_groups(&before.groups, groups)?;
        }
        if let Some(group) = self.group {
            sys::set_group_ids(group).map_err(ErrorKind::SetGroup)?;
        }
        if let Some(user) = self.user {
            sys::set_user_ids(user).map_err(ErrorKind::SetUser)?;
        }

        let after = Credentials::current()?;
        if !self.is_assumed(&before, &after) {
            return Err(retained("its ids are not the ids that were set"));
        }
        // If the saved ids are unknown, they may be what has changed.
        let is_unchanged = after == before && after.user_ids.saved.is_some();
        if after.user_ids.effective == Uid::ROOT || is_unchanged {
            // Root can regain any id, and an unchanged identity has dropped nothing.
            return Ok(());
        }
        let reason = match sys::clear_capabilities(others) {
            Ok(true) => before.try_regain(&after),
            Ok(false) => Some("this thread or another still has capabilities"),
            Err(_) => Some("it cannot clear its capabilities"),
        };
        reason.map_or(Ok(()), |text| Err(retained(text)))
    }

    fn is_assumed(&self, before: &Credentials, after: &Credentials) -> bool {
        let has_user = match self.user {
            Some(user) => after.user_ids.are_all(user),
            None => after.user_ids == before.user_ids,
        };
        let has_group = match self.group {
            Some(group) => after.group_ids.are_all(group),
            None => after.group_ids == before.group_ids,
        };
        let effective = after.group_ids.effective;
        let has_groups = match &self.groups {
            Some(groups) => grants_same_access(&after.groups, groups, effective),
            None => is_same_set(
                after.other_groups(),
                &before.other_groups_after_setegid(effective),
            ),
        };
        has_user && has_group && has_groups
    }

    fn set_groups(&self, present: &[Gid], wanted: &[Gid]) -> Result<(), Failure> {
        // If the first group is the effective gid, a change of the gid replaces it.
        let keeps_first = !sys::FIRST_GROUP_IS_EFFECTIVE_GID || present.first() == wanted.first();
        let are_all = !sys::HAS_UNLISTED_GROUPS || sys::geteuid() != Uid::ROOT;
        if is_same_set(present, wanted) && keeps_first && are_all {
            return Ok(());
        }
        let primary = self.group.unwrap_or_else(|| sys::group_ids().effective);
        match sys::setgroups(wanted) {
            // An ordinary user may ask for its own identity, whether or not its primary
            // group is also in the list.
            Err(errno::EPERM) if grants_same_access(present, wanted, primary) => Ok(()),
            other => Ok(other.map_err(ErrorKind::SetSupplementaryGroups)?),
        }
    }
}

fn retained(text: &'static str) -> Failure {
    Failure::from(ErrorKind::PrivilegesRetained)
        .with_subject(SubjectKind::Identity)
        .with_reason(text)
}

/// From now on, execve(2) grants no privileges.
pub(crate) fn set_no_new_privileges(others: &OtherThreads) -> Result<(), Failure> {
    if others.run() {
        let failure = Failure::from(ErrorKind::SetNoNewPrivileges(errno::EPERM));
        return Err(failure.with_reason("other threads exist, and would not get no_new_privs"));
    }
    Ok(sys::set_no_new_privileges().map_err(ErrorKind::SetNoNewPrivileges)?)
}

/// Undoes what the kernel does to a process that changes its ids. Verifies the result.
pub(crate) fn become_dumpable() -> Result<(), Failure> {
    let failed = |errno| Failure::from(ErrorKind::SetDumpable(errno));
    sys::set_dumpable().map_err(failed)?;
    match sys::is_dumpable().map_err(failed)? {
        true => Ok(()),
        false => Err(failed(errno::EPERM).with_reason("the value read back is not the one set")),
    }
}

/// The ids and groups of a process.
#[derive(PartialEq, Eq)]
struct Credentials {
    user_ids: Ids<Uid>,
    group_ids: Ids<Gid>,
    groups: Vec<Gid>,
}

impl Credentials {
    fn current() -> Result<Self, Failure> {
        Ok(Self {
            user_ids: sys::user_ids(),
            group_ids: sys::group_ids(),
            groups: sys::getgroups().map_err(ErrorKind::SetSupplementaryGroups)?,
        })
    }

    /// The groups without the effective gid, if that is the first of them.
    fn other_groups(&self) -> &[Gid] {
        match self.groups.split_first() {
            Some((_, others)) if sys::FIRST_GROUP_IS_EFFECTIVE_GID => others,
            _ => &self.groups,
        }
    }

    /// What [`other_groups`](Self::other_groups) becomes with this effective gid.
    fn other_groups_after_setegid(&self, effective: Gid) -> Vec<Gid> {
        let mut groups = self.other_groups().to_vec();
        if sys::EFFECTIVE_GID_SWAPS {
            if let Some(swapped) = groups.iter_mut().find(|gid| **gid == effective) {
                *swapped = self.group_ids.effective;
            }
        }
        groups
    }

    /// Tries to regain these credentials, and root's. After a success the credentials of
    /// the process are undefined, and it must end.
    fn try_regain(&self, after: &Self) -> Option<&'static str> {
        let mut users = self.user_ids.each().chain([Uid::ROOT]);
        if users.any(|user| !after.user_ids.has(user) && sys::try_regain_uid(user)) {
            return Some("it could regain a former user id");
        }
        let mut groups = self.group_ids.each().chain([Gid::ROOT]);
        if groups.any(|group| !after.group_ids.has(group) && sys::try_regain_gid(group)) {
            return Some("it could regain a former group id");
        }
        None
    }
}

/// Compares sorted copies, since there may be tens of thousands of groups.
fn is_same_set(one: &[Gid], other: &[Gid]) -> bool {
    sorted_dedup(one.to_vec()) == sorted_dedup(other.to_vec())
}

/// Whether two sets of supplementary groups grant the same access to a process whose
/// group id is `primary`.
fn grants_same_access(one: &[Gid], other: &[Gid], primary: Gid) -> bool {
    let with_primary = |groups: &[Gid]| [groups, &[primary]].concat();
    is_same_set(&with_primary(one), &with_primary(other))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_of_groups_are_compared_as_sets() {
        let [one, two, three] = [Gid(1), Gid(2), Gid(3)];
        assert!(is_same_set(&[one, two], &[two, one, two]));
        assert!(!is_same_set(&[one], &[one, two]));
        assert!(grants_same_access(&[two], &[one, two], one));
        assert!(!grants_same_access(&[two], &[one, two], three));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn on_linux_all_groups_are_other_groups() {
        let credentials = Credentials {
            groups: vec![Gid(1), Gid(2)],
            ..Credentials::current().expect("ask the kernel")
        };
        assert_eq!(credentials.other_groups(), [Gid(1), Gid(2)]);
        assert_eq!(
            credentials.other_groups_after_setegid(Gid(2)),
            [Gid(1), Gid(2)]
        );
    }
}
