//! The change of identity, and its verification.

use super::capabilities::{KeptCapabilities, keep_failed};
use super::resolve::Identity;
use crate::error::ErrorKind;
use crate::failure::Failure;
use crate::subject::SubjectKind;
use crate::sys::{self, CapabilitySets, Gid, Ids, OtherThreads, Uid, errno};

impl Identity {
    /// Assumes this identity: groups, then gid, then uid, since each step takes away the
    /// privilege for the step before, then the capabilities. Then verifies the result, and
    /// that the process cannot regain the former identity.
    ///
    /// # Errors
    ///
    /// After [`ErrorKind::PrivilegesRetained`] the process must end.
    ///
    /// Async-signal-safe if `room` [was reserved](GroupRoom::reserved).
    pub(crate) fn assume(
        &self,
        others: &OtherThreads,
        room: &mut GroupRoom,
    ) -> Result<(), Failure> {
        let GroupRoom {
            before,
            after,
            scratch,
        } = room;
        let before = Credentials::current(before)?;
        let loses_kept = self.check_kept_capabilities(&before.user_ids)?;
        if let Some(groups) = &self.groups {
            self.set_groups(&before, groups, scratch)?;
        }
        if let Some(group) = self.group {
            sys::set_group_ids(group).map_err(ErrorKind::SetGroup)?;
        }
        if let Some(user) = self.user {
            set_user_ids(user, loses_kept)?;
        }

        // Nothing that may fail comes between: all capabilities may still be permitted.
        if let Some(kept) = self.capabilities {
            reduce_capabilities(kept.sets(), others)?;
        }

        let after = Credentials::current(after)?;
        if !self.is_assumed(&before, &after, scratch) {
            return Err(retained("its ids are not the ids that were set"));
        }
        // If the saved ids are unknown, they may be what has changed.
        let is_unchanged = after == before && after.user_ids.saved.is_some();
        let is_root = after.user_ids.effective == Uid::ROOT;
        if self.capabilities.is_none() {
            if is_root || is_unchanged {
                // Root can regain any id, and an unchanged identity has dropped nothing.
                return Ok(());
            }
            reduce_capabilities(CapabilitySets::NONE, others)?;
        }
        if !is_root {
            let kept = self.regain_by_kept(&after);
            if let Some(text) = kept.or_else(|| before.try_regain(&after)) {
                return Err(retained(text));
            }
        }
        (self.capabilities).map_or(Ok(()), KeptCapabilities::raise_ambient)
    }

    /// Checks that a process with these ids can keep the capabilities. Returns whether a
    /// change of the user would take them away.
    pub(super) fn check_kept_capabilities(&self, ids: &Ids<Uid>) -> Result<bool, Failure> {
        let leaves_root = self.user.is_some_and(|user| user != Uid::ROOT) && ids.has(Uid::ROOT);
        (self.capabilities).map_or(Ok(false), |kept| kept.check(leaves_root))
    }

    /// Why a process that keeps capabilities, and is not root, could regain former ids.
    fn regain_by_kept(&self, after: &Credentials<'_>) -> Option<&'static str> {
        let kept = self.capabilities?;
        match after.user_ids.has(Uid::ROOT) {
            true => Some("its real or saved user is still root: set `user`"),
            false => kept.regain_ids(),
        }
    }

    fn is_assumed(
        &self,
        before: &Credentials<'_>,
        after: &Credentials<'_>,
        scratch: &mut Scratch,
    ) -> bool {
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
            Some(groups) => {
                scratch.grant_same_access(listed(after.groups), listed(groups), effective)
            }
            None => scratch.are_same_set(
                listed(after.other_groups()),
                before.other_groups_after_setegid(effective),
            ),
        };
        has_user && has_group && has_groups
    }

    fn set_groups(
        &self,
        before: &Credentials<'_>,
        wanted: &[Gid],
        scratch: &mut Scratch,
    ) -> Result<(), Failure> {
        let present = before.groups;
        // If the first group is the effective gid, a change of the gid replaces it.
        let keeps_first = !before.listing.first_is_effective || present.first() == wanted.first();
        let are_all = !sys::HAS_UNLISTED_GROUPS || sys::geteuid() != Uid::ROOT;
        if scratch.are_same_set(listed(present), listed(wanted)) && keeps_first && are_all {
            return Ok(());
        }
        match sys::setgroups(wanted) {
            // An ordinary user may ask for its own identity.
            Err(errno::EPERM) if before.has_groups_after_setegid(wanted, self.group, scratch) => {
                Ok(())
            }
            other => Ok(other.map_err(ErrorKind::SetSupplementaryGroups)?),
        }
    }
}

/// Sets the user ids. If the change would take the capabilities away that are to be kept, all
/// stay permitted until [`sys::reduce_capabilities`].
fn set_user_ids(user: Uid, loses_kept: bool) -> Result<(), Failure> {
    if loses_kept {
        sys::set_keepcaps(true).map_err(keep_failed)?;
    }
    let changed = sys::set_user_ids(user);
    if loses_kept && sys::set_keepcaps(false).is_err() {
        return Err(retained("it cannot clear PR_SET_KEEPCAPS"));
    }
    changed.map_err(|errno| ErrorKind::SetUser(errno).into())
}

fn reduce_capabilities(wanted: CapabilitySets, others: &OtherThreads) -> Result<(), Failure> {
    match sys::reduce_capabilities(wanted, others) {
        Ok(true) => Ok(()),
        Ok(false) if wanted == CapabilitySets::NONE => {
            Err(retained("this thread or another still has capabilities"))
        }
        Ok(false) => Err(retained(
            "this thread or another still has other capabilities",
        )),
        Err(_) => Err(retained("it cannot clear its capabilities")),
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

/// How the kernel lists the effective gid among the supplementary groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct GroupListing {
    first_is_effective: bool,
    effective_swaps: bool,
}

impl GroupListing {
    const OF_PLATFORM: Self = Self {
        first_is_effective: sys::FIRST_GROUP_IS_EFFECTIVE_GID,
        effective_swaps: sys::EFFECTIVE_GID_SWAPS,
    };
}

/// The lists of groups that a change of identity compares.
#[derive(Debug, Default)]
pub(crate) struct GroupRoom {
    before: Vec<Gid>,
    after: Vec<Gid>,
    scratch: Scratch,
}

impl GroupRoom {
    /// Room for the groups of any process, and the effective gid beside them. The kernel maps the
    /// memory when it is used, most often a page of each list.
    pub(crate) fn reserved() -> Self {
        /// `NGROUPS_MAX` of Linux, which no other platform exceeds.
        const MOST: usize = 65536;

        let most = sys::max_supplementary_groups().min(MOST) + 2;
        let list = || Vec::with_capacity(most);
        Self {
            before: list(),
            after: list(),
            scratch: Scratch {
                one: list(),
                other: list(),
            },
        }
    }
}

/// Sorted copies, since there may be tens of thousands of groups.
#[derive(Debug, Default)]
struct Scratch {
    one: Vec<Gid>,
    other: Vec<Gid>,
}

impl Scratch {
    fn are_same_set(
        &mut self,
        one: impl Iterator<Item = Gid>,
        other: impl Iterator<Item = Gid>,
    ) -> bool {
        fill(&mut self.one, one);
        fill(&mut self.other, other);
        self.one == self.other
    }

    /// Whether two sets of supplementary groups grant the same access to a process whose
    /// group id is `primary`.
    fn grant_same_access(
        &mut self,
        one: impl Iterator<Item = Gid>,
        other: impl Iterator<Item = Gid>,
        primary: Gid,
    ) -> bool {
        self.are_same_set(one.chain([primary]), other.chain([primary]))
    }
}

fn fill(list: &mut Vec<Gid>, groups: impl Iterator<Item = Gid>) {
    list.clear();
    list.extend(groups);
    list.sort_unstable();
    list.dedup();
}

fn listed(groups: &[Gid]) -> impl Iterator<Item = Gid> {
    groups.iter().copied()
}

/// The ids and groups of a process.
#[derive(PartialEq, Eq)]
struct Credentials<'a> {
    user_ids: Ids<Uid>,
    group_ids: Ids<Gid>,
    groups: &'a [Gid],
    listing: GroupListing,
}

impl<'a> Credentials<'a> {
    fn current(groups: &'a mut Vec<Gid>) -> Result<Self, Failure> {
        groups.clear();
        sys::groups(groups).map_err(ErrorKind::SetSupplementaryGroups)?;
        Ok(Self {
            user_ids: sys::user_ids(),
            group_ids: sys::group_ids(),
            groups,
            listing: GroupListing::OF_PLATFORM,
        })
    }

    /// The groups without the effective gid, if that is the first of them.
    fn other_groups(&self) -> &[Gid] {
        match self.groups.split_first() {
            Some((_, others)) if self.listing.first_is_effective => others,
            _ => self.groups,
        }
    }

    /// What [`other_groups`](Self::other_groups) becomes with this effective gid.
    fn other_groups_after_setegid(&self, effective: Gid) -> impl Iterator<Item = Gid> {
        let others = self.other_groups();
        let swapped = match self.listing.effective_swaps {
            true => others.iter().position(|gid| *gid == effective),
            false => None,
        };
        listed(others)
            .enumerate()
            .map(move |(index, gid)| match Some(index) == swapped {
                true => self.group_ids.effective,
                false => gid,
            })
    }

    /// Whether these credentials grant the same access as the wanted groups, once the effective
    /// gid is `group`. The present effective gid does not count: the change replaces it.
    fn has_groups_after_setegid(
        &self,
        wanted: &[Gid],
        group: Option<Gid>,
        scratch: &mut Scratch,
    ) -> bool {
        let effective = group.unwrap_or(self.group_ids.effective);
        let remaining = self.other_groups_after_setegid(effective);
        scratch.grant_same_access(remaining, listed(wanted), effective)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_of_groups_are_compared_as_sets() {
        let [one, two, three] = [Gid(1), Gid(2), Gid(3)];
        let mut scratch = Scratch::default();
        let mut is_same =
            |one: &[Gid], other: &[Gid]| scratch.are_same_set(listed(one), listed(other));
        assert!(is_same(&[one, two], &[two, one, two]));
        assert!(!is_same(&[one], &[one, two]));
        let mut grants_same =
            |primary| scratch.grant_same_access([two].into_iter(), [one, two].into_iter(), primary);
        assert!(grants_same(one));
        assert!(!grants_same(three));
    }

    const LINUX: GroupListing = GroupListing {
        first_is_effective: false,
        effective_swaps: false,
    };
    const FREEBSD: GroupListing = GroupListing {
        first_is_effective: true,
        effective_swaps: false,
    };
    const MACOS: GroupListing = GroupListing {
        first_is_effective: true,
        effective_swaps: true,
    };

    /// A process with real gid 1 and this effective gid, as the platform lists its groups.
    fn credentials(listing: GroupListing, effective: u32, groups: &[Gid]) -> Credentials<'_> {
        Credentials {
            user_ids: sys::user_ids(),
            group_ids: Ids {
                real: Gid(1),
                effective: Gid(effective),
                saved: Some(Gid(effective)),
            },
            groups,
            listing,
        }
    }

    #[test]
    fn an_ordinary_user_keeps_its_groups_when_the_effective_gid_changes() {
        for (listing, groups, wanted, keeps) in [
            (LINUX, &[][..], &[1][..], true),
            (LINUX, &[5], &[1, 5], true),
            (LINUX, &[2], &[1], false),
            // The old effective gid is in the first place alone, and gives way to the new one.
            (FREEBSD, &[2], &[1], true),
            (FREEBSD, &[2, 5], &[1, 5], true),
            (FREEBSD, &[2, 1, 5], &[1, 5], true),
            // The old effective gid is also one of the other groups, and stays.
            (FREEBSD, &[2, 2], &[1], false),
            (FREEBSD, &[2, 5], &[1], false),
            (MACOS, &[2], &[1], true),
            (MACOS, &[2, 5], &[1, 5], true),
            // The new effective gid changes places with the old one, which stays.
            (MACOS, &[2, 1], &[1], false),
            (MACOS, &[2, 1], &[1, 2], true),
        ] {
            let [groups, wanted] =
                [groups, wanted].map(|ids| ids.iter().copied().map(Gid).collect::<Vec<_>>());
            let before = credentials(listing, 2, &groups);
            let mut scratch = Scratch::default();
            assert_eq!(
                before.has_groups_after_setegid(&wanted, Some(Gid(1)), &mut scratch),
                keeps,
                "{listing:?}: {groups:?}, {wanted:?}"
            );
        }
    }

    #[test]
    fn an_unchanged_effective_gid_counts_wherever_it_is_listed() {
        let both = [Gid(2), Gid(5)];
        for (listing, groups) in [(LINUX, &both[1..]), (FREEBSD, &both), (MACOS, &both)] {
            let before = credentials(listing, 2, groups);
            let mut scratch = Scratch::default();
            let mut has = |wanted| before.has_groups_after_setegid(wanted, None, &mut scratch);
            assert!(has(&both[1..]));
            assert!(has(&both));
            assert!(!has(&both[..1]));
        }
    }

    #[test]
    fn the_other_groups_do_not_contain_the_effective_gid_of_the_first_place() {
        let both = [Gid(1), Gid(2)];
        let others = |listing| credentials(listing, 1, &both).other_groups().to_vec();
        assert_eq!(others(LINUX), [Gid(1), Gid(2)]);
        assert_eq!(others(FREEBSD), [Gid(2)]);
        let after = |listing| {
            let after = credentials(listing, 1, &both);
            after.other_groups_after_setegid(Gid(2)).collect::<Vec<_>>()
        };
        assert_eq!(after(LINUX), [Gid(1), Gid(2)]);
        assert_eq!(after(FREEBSD), [Gid(2)]);
        assert_eq!(after(MACOS), [Gid(1)]);
    }
}
