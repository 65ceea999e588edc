use tester::prelude::*;
use tester::sys::{
    CAP_CHOWN, CAP_NET_BIND_SERVICE, CAP_SETGID, CAP_SETPCAP, CAP_SETUID, NO_CAP_AMBIENT_RAISE,
};

use crate::setup::*;

pub(crate) const CASES: &[Case] = &[
    case!(a_program_has_the_ambient_capabilities_alone, needs Root, Linux),
    case!(ambient_capabilities_are_kept_in_the_daemon, needs Root, Linux),
    case!(ambient_capabilities_survive_no_new_privileges, needs Root, Linux),
    case!(former_ambient_capabilities_are_lost, needs Root, Linux),
    case!(a_launcher_that_is_not_root_passes_capabilities_on, needs Root, Linux),
    case!(a_set_user_id_program_does_not_get_ambient_capabilities, needs Root, Linux, SetIdPrograms),
    case!(a_capability_outside_the_bounding_set_is_refused_before_any_fork, needs Root, Linux),
    case!(a_secure_bit_that_forbids_ambient_capabilities_is_respected, needs Root, Linux),
];

const BOTH: u64 = CAP_NET_BIND_SERVICE | CAP_CHOWN;

fn binding_ports() -> Scenario {
    let scenario = root_to_user().keep_capabilities([CHOWN]);
    scenario.ambient_capabilities([BIND_PORTS])
}

fn a_program_has_the_ambient_capabilities_alone() {
    assert_eq!(sets_of_program(binding_ports()), [CAP_NET_BIND_SERVICE; 4]);
}

fn ambient_capabilities_are_kept_in_the_daemon() {
    let run = binding_ports().start();
    assert_is(&run, UID, GID, &[GID]);
    assert_sets(&run, BOTH, CAP_NET_BIND_SERVICE);
    assert_succeeds(&run, &["bind", "chown"]);
    let regained = run.try_to_regain(0, 0).succeeded;
    assert_eq!(
        regained,
        ["capset(0)"],
        "the daemon can set what it has kept"
    );
    let run = root_to_user().ambient_capabilities([CHOWN]).start();
    assert_sets(&run, CAP_CHOWN, CAP_CHOWN);
}

fn ambient_capabilities_survive_no_new_privileges() {
    let scenario = binding_ports().no_new_privileges();
    assert_sets(&scenario.start(), BOTH, CAP_NET_BIND_SERVICE);
    assert_eq!(sets_of_program(scenario), [CAP_NET_BIND_SERVICE; 4]);
}

fn former_ambient_capabilities_are_lost() {
    let former = CAP_SETUID | CAP_SETGID;
    let scenario = binding_ports().from_state(|state| state.ambient_capabilities = Some(former));
    let run = scenario.clone().start();
    assert_eq!(run.initial().capabilities.unwrap().ambient, former);
    assert_sets(&run, BOTH, CAP_NET_BIND_SERVICE);
    assert_eq!(sets_of_program(scenario), [CAP_NET_BIND_SERVICE; 4]);
}

fn a_launcher_that_is_not_root_passes_capabilities_on() {
    let scenario = as_capable(BOTH | CAP_SETUID, &[]);
    let scenario = scenario.from_state(|state| state.ambient_capabilities = Some(CAP_CHOWN));
    let scenario = scenario.ambient_capabilities([BIND_PORTS]);
    let run = scenario.clone().start();
    assert_is(&run, STARTER, STARTERS_GROUP, &[]);
    assert_sets(&run, CAP_NET_BIND_SERVICE, CAP_NET_BIND_SERVICE);
    assert_eq!(sets_of_program(scenario), [CAP_NET_BIND_SERVICE; 4]);
}

/// The bounding set limits what such a program gains, not the options.
fn a_set_user_id_program_does_not_get_ambient_capabilities() {
    let grep = ["/bin/grep", "/usr/bin/grep"].map(Path::new);
    let grep = grep.into_iter().find(|path| path.exists()).unwrap();
    let directory = copy_of(grep, SET_BOTH, (STARTER, STARTERS_GROUP));
    let program = directory.path("program");
    let sets = sets_by(&program, binding_ports());
    assert_eq!(sets, [CAP_NET_BIND_SERVICE, 0, 0, 0]);
}

fn a_capability_outside_the_bounding_set_is_refused_before_any_fork() {
    let limit = |scenario: Scenario| {
        scenario.from_state(|state| state.bounding_capabilities = Some(CAP_CHOWN))
    };
    let error = fail_before_any_fork(limit(binding_ports()));
    let text = "cannot keep capabilities: CAP_NET_BIND_SERVICE is not in the bounding set of this \
                process, so that no program can inherit it";
    error.assert_is("KeepCapabilities", text);
    // A capability that the launcher has inherited is passed on.
    let scenario = as_capable(BOTH | CAP_SETPCAP, &[]).ambient_capabilities([BIND_PORTS]);
    let scenario = scenario.from_state(|state| {
        state.ambient_capabilities = Some(CAP_NET_BIND_SERVICE);
    });
    assert_eq!(sets_of_program(limit(scenario)), [CAP_NET_BIND_SERVICE; 4]);
    // The daemon itself may keep it.
    let run = limit(root_to_user().keep_capabilities([BIND_PORTS])).start();
    assert_sets(&run, CAP_NET_BIND_SERVICE, 0);
    assert_eq!(run.observe().capabilities.unwrap().bounding, CAP_CHOWN);
}

fn a_secure_bit_that_forbids_ambient_capabilities_is_respected() {
    let forbid = |scenario: Scenario| {
        scenario.from_state(|state| state.secure_bits = Some(NO_CAP_AMBIENT_RAISE))
    };
    let text = "cannot keep capabilities: the secure bit SECBIT_NO_CAP_AMBIENT_RAISE of this \
                process forbids it to make CAP_NET_BIND_SERVICE ambient";
    let as_user = as_capable(BOTH, &[]).ambient_capabilities([BIND_PORTS]);
    for scenario in [binding_ports(), as_user] {
        let error = fail_before_any_fork(forbid(scenario));
        error.assert_is("KeepCapabilities", text);
    }
    // A capability that is ambient already can stay.
    let as_user = as_capable(BOTH | CAP_SETPCAP, &[]).ambient_capabilities([BIND_PORTS]);
    let scenario = as_user.from_state(|state| state.ambient_capabilities = Some(BOTH));
    let steps = [Step::SetSecureBits(NO_CAP_AMBIENT_RAISE)];
    let run = scenario.privileged_action(steps).start();
    assert_sets(&run, CAP_NET_BIND_SERVICE, CAP_NET_BIND_SERVICE);
    assert_sets(
        &forbid(root_to_user().keep_capabilities([CHOWN])).start(),
        CAP_CHOWN,
        0,
    );
}
