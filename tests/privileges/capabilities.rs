use tester::prelude::*;
use tester::sys::{CAP_SETGID, CAP_SETUID, KEEP_CAPS, NO_SETUID_FIXUP, NOROOT};

use crate::setup::*;

pub(crate) const CASES: &[Case] = &[
    case!(a_change_of_user_leaves_no_capability, needs Root, Linux),
    case!(a_change_of_user_leaves_no_inheritable_capability, needs Root, Linux),
    case!(root_as_target_keeps_its_capabilities, needs Root, Linux),
    case!(capabilities_do_not_outlive_a_change_of_user, needs Root, Linux),
    case!(capabilities_do_not_outlive_a_change_of_group, needs Root, Linux),
    case!(capabilities_do_not_outlive_a_change_of_groups_alone, needs Root, Linux),
    case!(a_change_to_the_same_identity_keeps_the_capabilities, needs Root, Linux),
    case!(capabilities_that_secure_bits_keep_are_cleared, needs Root, Linux),
    case!(secure_bits_do_not_let_the_daemon_regain_root, needs Root, Linux),
    case!(a_sandbox_may_refuse_capset_if_no_capability_is_left, needs Root, CallFilters),
    case!(a_capability_that_a_sandbox_keeps_is_reported, needs Root, CallFilters),
];

fn a_change_of_user_leaves_no_capability() {
    let run = root_to_user().start();
    assert_ne!(run.initial().capabilities.unwrap().effective, 0);
    assert_no_capabilities(&run);
}

const MAY_CHANGE_IDS: u64 = CAP_SETGID | CAP_SETUID;

fn a_change_of_user_leaves_no_inheritable_capability() {
    let ambient = Some(MAY_CHANGE_IDS);
    let scenario = root_to_user().from_state(|state| state.ambient_capabilities = ambient);
    let run = scenario.start();
    let initial = run.initial().capabilities.unwrap();
    assert_eq!([initial.inheritable, initial.ambient], [MAY_CHANGE_IDS; 2]);
    assert_no_capabilities(&run);
}

fn root_as_target_keeps_its_capabilities() {
    let run = scenario!().as_root_with_groups().user("root").start();
    let initial = run.initial().capabilities.unwrap();
    assert_ne!(initial.effective, 0);
    assert_eq!(run.observe().capabilities, Some(initial));
}

/// An ordinary user with the capabilities to change its ids.
fn as_capable_nobody() -> (Scenario, u32, u32) {
    let (scenario, uid, gid) = as_nobody();
    let scenario = scenario.from_state(|state| state.capabilities = Some(MAY_CHANGE_IDS));
    (scenario, uid, gid)
}

fn capabilities_do_not_outlive_a_change_of_user() {
    let (scenario, uid, gid) = as_capable_nobody();
    let run = scenario.user(UID).group(GID).start();
    assert_is(&run, UID, GID, &[GID]);
    // The kernel itself clears only the capabilities of root.
    assert_no_capabilities(&run);
    assert_cannot_regain(&run, uid, gid);
}

fn capabilities_do_not_outlive_a_change_of_group() {
    let (scenario, uid, gid) = as_capable_nobody();
    let run = scenario
        .from_state(|state| state.ambient_capabilities = Some(MAY_CHANGE_IDS))
        .group(GID)
        .start();
    assert_is(&run, uid, GID, &[GID]);
    assert_no_capabilities(&run);
    assert_cannot_regain(&run, uid, gid);
}

fn capabilities_do_not_outlive_a_change_of_groups_alone() {
    let scenario = as_capable(CAP_SETGID, &ROOTS_GROUPS);
    let run = scenario.supplementary_groups(only([8])).start();
    assert_eq!(run.initial().capabilities.unwrap().effective, CAP_SETGID);
    assert_is(&run, STARTER, STARTERS_GROUP, &[8]);
    assert_no_way_back(&run, (0, 0));
}

/// A process that keeps its identity has nothing to drop.
fn a_change_to_the_same_identity_keeps_the_capabilities() {
    let (scenario, uid, gid) = as_capable_nobody();
    let scenario = scenario.with_groups(&[gid]);
    let run = scenario.user(uid).group(gid).start();
    let capabilities = run.observe().capabilities;
    assert_eq!(capabilities, run.initial().capabilities);
    assert_eq!(capabilities.unwrap().effective, MAY_CHANGE_IDS);
}

fn capabilities_that_secure_bits_keep_are_cleared() {
    for bits in [
        KEEP_CAPS,
        NO_SETUID_FIXUP,
        KEEP_CAPS | NO_SETUID_FIXUP,
        NOROOT | NO_SETUID_FIXUP,
    ] {
        let scenario = root_to_user().from_state(|state| state.secure_bits = Some(bits));
        assert_dropped(&scenario.start(), UID, GID, &[GID], (0, 0));
    }
}

/// With these bits the kernel does not clear the capabilities of a root that becomes
/// another user.
fn secure_bits_do_not_let_the_daemon_regain_root() {
    for bits in [NO_SETUID_FIXUP, KEEP_CAPS, NO_SETUID_FIXUP | KEEP_CAPS] {
        let scenario = scenario!().user(UID).group(GID);
        let run = scenario
            .from_state(|state| state.secure_bits = Some(bits))
            .start();
        run.report().assert_no_capabilities();
        assert_eq!(run.try_to_regain(0, 0).succeeded, [""; 0]);
    }
}

fn refusing_capset() -> Scenario {
    scenario!()
        .user(7003)
        .group(7004)
        .supplementary_groups(no_groups())
        .from_state(|state| state.refused_calls = vec![(SystemCall::Capset, libc::EPERM)])
}

fn a_sandbox_may_refuse_capset_if_no_capability_is_left() {
    let run = refusing_capset().start();
    let sets = run.report().capabilities.expect("its capabilities");
    assert_eq!([sets.effective, sets.permitted, sets.inheritable], [0; 3]);
}

fn a_capability_that_a_sandbox_keeps_is_reported() {
    // The caller is not root: the kernel itself clears the capabilities of root.
    let scenario = refusing_capset().from_state(|state| {
        state.ids = Some(Ids::user(7001, 7001));
        state.capabilities = Some(MAY_CHANGE_IDS);
    });
    assert_eq!(scenario.fail().kind, "PrivilegesRetained");
}
