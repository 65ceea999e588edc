use tester::prelude::*;

use crate::setup::*;

pub(crate) const CASES: &[Case] = &[
    case!(the_only_user_of_a_namespace_may_become_itself, needs Root, Linux, UserNamespaces),
    case!(a_namespace_that_denies_setgroups_only_keeps_groups, needs Root, Linux, UserNamespaces),
    case!(an_id_that_a_namespace_lacks_is_refused, needs Root, Linux, UserNamespaces),
    case!(root_of_a_whole_namespace_becomes_another_user, needs Root, Linux, UserNamespaces),
    case!(root_of_a_shifted_namespace_becomes_another_user, needs Root, Linux, UserNamespaces),
];

/// A start by an ordinary user who is root, and the only user, of a namespace.
fn as_root_of_one(groups: &[u32]) -> (Scenario, u32, u32) {
    let (scenario, uid, gid) = as_ordinary();
    let scenario = scenario.from_state(|state| {
        if let Some(ids) = &mut state.ids {
            ids.groups = Some(groups.to_vec());
        }
        state.user_namespace = Some(UserNamespace {
            users: vec![[0, uid, 1]],
            groups: vec![[0, gid, 1]],
            denies_setgroups: true,
        });
    });
    (scenario, uid, gid)
}

fn the_only_user_of_a_namespace_may_become_itself() {
    let (scenario, uid, gid) = as_root_of_one(&[]);
    let scenario = scenario.user(0_u32).group(0_u32);
    let scenario = scenario.supplementary_groups(SupplementaryGroups::Keep);
    let run = scenario.start();
    let [inside, outside] = run.views();
    assert!(inside.uid.unwrap() == 0 && inside.gid.unwrap() == 0);
    assert!(outside.uid.unwrap() == uid && outside.gid.unwrap() == gid);
    assert_eq!(inside.groups, run.initial().groups);
}

fn a_namespace_that_denies_setgroups_only_keeps_groups() {
    let (scenario, ..) = as_root_of_one(&[4711]);
    let scenario = scenario.user(0_u32).group(0_u32);
    assert_groups_refused(&scenario);
    let scenario = scenario.supplementary_groups(SupplementaryGroups::Keep);
    let run = scenario.start();
    let [inside, outside] = run.views();
    // An id that the namespace does not map is shown as the overflow id.
    let overflow = fs::read_to_string("/proc/sys/kernel/overflowgid").unwrap();
    assert_eq!(inside.groups, Some(vec![overflow.trim().parse().unwrap()]));
    assert_eq!(outside.groups, Some(vec![4711]));
    // If no group is to be dropped, none has to be set.
    let (scenario, ..) = as_root_of_one(&[]);
    let run = scenario.user(0_u32).group(0_u32).start();
    assert!(run.observe().uid.unwrap() == 0);
    assert_eq!(run.outside(run.report().pid).groups, Some(vec![]));
}

fn an_id_that_a_namespace_lacks_is_refused() {
    let (scenario, ..) = as_root_of_one(&[]);
    let scenario = scenario.supplementary_groups(SupplementaryGroups::Keep);
    for (scenario, kind, target) in [
        (scenario.clone().user(7_u32).group(0_u32), "SetUser", "user"),
        (scenario.clone().group(7_u32), "SetGroup", "group"),
        (scenario.user(7_u32).group(7_u32), "SetGroup", "group"),
    ] {
        let error = scenario.fail();
        error.assert_kind(kind, libc::EINVAL);
        let reason = errno_text(libc::EINVAL);
        let text = format!("cannot change to {target} 7: {reason}");
        assert!(error.text.starts_with(&text), "{error}");
    }
}

fn as_root_of(ranges: &[[u32; 3]]) -> Scenario {
    scenario!().as_root_with_groups().from_state(|state| {
        state.user_namespace = Some(UserNamespace {
            users: ranges.to_vec(),
            groups: ranges.to_vec(),
            denies_setgroups: false,
        });
    })
}

fn root_of_a_whole_namespace_becomes_another_user() {
    let run = as_root_of(&[[0, 0, u32::MAX]]).user(UID).group(GID).start();
    assert_ne!(run.initial().capabilities.unwrap().effective, 0);
    assert_dropped(&run, UID, GID, &[GID], (0, 0));
}

/// Containers map ids like this.
fn root_of_a_shifted_namespace_becomes_another_user() {
    const SHIFT: u32 = 100_000;
    let scenario = as_root_of(&[[0, 0, 1], [1, SHIFT + 1, 65_535]]);
    let scenario = scenario.user(1000_u32).group(1001_u32);
    let run = scenario.supplementary_groups(only([7, 8])).start();
    let [inside, outside] = run.views();
    assert_ids(&inside, 1000, 1001, &[7, 8]);
    let groups = [SHIFT + 7, SHIFT + 8];
    assert_ids(&outside, SHIFT + 1000, SHIFT + 1001, &groups);
    assert_no_way_back(&run, (0, 0));
    assert_out_of_reach(run.report().pid, SHIFT + 1000, SHIFT + 1001);
}
