use tester::prelude::*;

use crate::setup::*;

pub(crate) const CASES: &[Case] = &[
    case!(root_cannot_be_regained, needs Root),
    case!(an_effective_root_becomes_its_real_user_irrevocably, needs Root),
    case!(a_saved_root_becomes_its_real_user_irrevocably, needs Root),
    case!(a_real_root_becomes_its_effective_user_irrevocably, needs Root),
    case!(root_is_dropped_from_real_effective_and_saved_ids, needs Root, Linux),
    case!(an_effective_root_becomes_a_third_user, needs Root, Linux),
    case!(a_process_without_effective_root_cannot_become_a_third_user, needs Root, Linux),
    case!(a_real_root_may_become_root, needs Root, Linux),
];

fn root_cannot_be_regained() {
    let run = root_to_user().start();
    assert_cannot_regain(&run, 0, 0);
    assert_is(&run, UID, GID, &[GID]);
}

#[track_caller]
fn assert_irrevocable(uid: [u32; 3], gid: [u32; 3], groups: &[u32]) {
    let scenario = scenario!().with_ids(uid, gid, groups);
    let run = scenario.user(UID).group(GID).start();
    assert_is(&run, UID, GID, &[GID]);
    assert_cannot_regain(&run, 0, 0);
}

/// A set-user-ID root program starts like this.
fn an_effective_root_becomes_its_real_user_irrevocably() {
    assert_irrevocable([UID, 0, 0], [GID, 0, 0], &[0, 4]);
}

/// A set-user-ID root program that has dropped its privileges temporarily is like this.
fn a_saved_root_becomes_its_real_user_irrevocably() {
    assert_irrevocable([UID, UID, 0], [GID, GID, 0], &[GID]);
}

fn a_real_root_becomes_its_effective_user_irrevocably() {
    assert_irrevocable([0, UID, UID], [0, GID, GID], &[GID]);
}

/// Each of the three ids is root's or an ordinary user's, but not all are the same.
fn mixed_ids() -> impl Iterator<Item = ([u32; 3], [u32; 3])> {
    (1..7_u32).map(|bits| {
        let choose = |own: u32| [0, 1, 2].map(|place| own * (bits >> place & 1));
        (choose(STARTER), choose(STARTERS_GROUP))
    })
}

fn root_is_dropped_from_real_effective_and_saved_ids() {
    for (uid, gid) in mixed_ids() {
        let scenario = scenario!().with_ids(uid, gid, &[STARTERS_GROUP]);
        let run = scenario.user(STARTER).group(STARTERS_GROUP).start();
        assert_eq!((run.initial().uid, run.initial().gid), (ids(uid), ids(gid)));
        assert_dropped(&run, STARTER, STARTERS_GROUP, &[STARTERS_GROUP], (0, 0));
    }
    // All three ids differ.
    for uid in [[0, STARTER, UID], [STARTER, 0, UID], [STARTER, UID, 0]] {
        let scenario = scenario!().with_ids(uid, [GID; 3], &[GID]);
        let run = scenario.user(STARTER).group(GID).start();
        assert_dropped(&run, STARTER, GID, &[GID], (UID, 0));
    }
}

fn an_effective_root_becomes_a_third_user() {
    for (uid, gid) in mixed_ids().filter(|(uid, _)| uid[1] == 0) {
        let scenario = scenario!().with_ids(uid, gid, &ROOTS_GROUPS);
        let run = scenario.user(UID).group(GID).start();
        assert_dropped(&run, UID, GID, &[GID], (STARTER, STARTERS_GROUP));
    }
}

/// Even if the process could become root again, only the caller may decide to.
fn a_process_without_effective_root_cannot_become_a_third_user() {
    for (uid, gid) in mixed_ids().filter(|(uid, _)| uid[1] != 0) {
        let scenario = scenario!().with_ids(uid, gid, &ROOTS_GROUPS);
        let scenario = scenario.user(UID).group(GID);
        assert_groups_refused(&scenario);
        let scenario = scenario.supplementary_groups(SupplementaryGroups::Keep);
        let kind = |name: &str| format!("{name}({})", libc::EPERM);
        assert_eq!(scenario.clone().fail().kind, kind("SetGroup"));
        assert_eq!(scenario.group(gid[1]).fail().kind, kind("SetUser"));
    }
}

fn a_real_root_may_become_root() {
    let scenario = scenario!().with_ids([0, STARTER, STARTER], [0, GID, GID], &[4711]);
    let scenario = scenario.user(0_u32).group(0_u32);
    // A process that is not effectively root cannot set groups.
    assert_groups_refused(&scenario);
    let run = scenario.supplementary_groups(SupplementaryGroups::Keep);
    assert_is(&run.start(), 0, 0, &[4711]);
}
