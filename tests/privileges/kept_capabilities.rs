use tester::prelude::*;
use tester::sys::{
    CAP_CHOWN, CAP_NET_BIND_SERVICE, CAP_SETGID, CAP_SETUID, KEEP_CAPS, KEEP_CAPS_LOCKED,
    NO_SETUID_FIXUP,
};

use tester::trace::{Fault, How, Role};
use tester::traced_start::TracedStart;

use crate::setup::*;

pub(crate) const CASES: &[Case] = &[
    case!(a_daemon_that_is_not_root_binds_ports_for_its_whole_life, needs Root, Linux),
    case!(every_capability_that_is_not_kept_is_gone, needs Root, Linux),
    case!(an_empty_list_drops_every_capability, needs Root, Linux),
    case!(a_later_list_replaces_the_earlier_one, needs Root, Linux),
    case!(kept_capabilities_survive_no_new_privileges_in_a_jail, needs Root, Linux),
    case!(the_initialization_has_the_kept_capabilities_alone, needs Root, Linux),
    case!(kept_capabilities_are_not_passed_on_to_programs, needs Root, Linux),
    case!(a_launcher_that_is_not_root_keeps_its_ids_and_a_capability, needs Root, Linux),
    case!(a_program_with_file_capabilities_keeps_one_of_them, needs Root, Linux, SetIdPrograms),
    case!(a_change_between_ordinary_users_keeps_capabilities, needs Root, Linux),
    case!(a_daemon_that_stays_root_drops_the_other_capabilities, needs Root, Linux),
    case!(a_foreground_process_keeps_capabilities, needs Root, Linux),
    case!(a_capability_that_root_lacks_is_refused_before_any_fork, needs Root, Linux),
    case!(a_capability_that_a_user_lacks_is_refused_before_any_fork, needs Linux),
    case!(a_capability_that_the_kernel_lacks_is_refused_before_any_fork, needs Root, Linux),
    case!(a_capability_that_the_privileged_action_drops_fails_the_start, needs Root, Linux),
    case!(capabilities_to_change_ids_are_not_kept, needs Root, Linux),
    case!(a_launcher_whose_saved_user_is_root_needs_the_option_user, needs Root, Linux),
    case!(locked_secure_bits_are_respected, needs Root, Linux),
    case!(secure_bits_that_the_privileged_action_locks_fail_the_start, needs Root, Linux),
    case!(a_thread_of_the_privileged_action_does_not_keep_capabilities, needs Root, Linux, OwnThreads),
    case!(a_thread_with_another_capability_fails_the_start, needs Root, Linux, OwnThreads),
    case!(a_sandbox_may_refuse_capset_if_only_kept_capabilities_are_left, needs Root, CallFilters),
    case!(a_sandbox_that_refuses_capset_fails_the_start, needs Root, CallFilters),
    case!(a_failure_after_the_change_of_user_leaves_no_other_capability, needs Root, Tracing, Faults),
    #[cfg(not(target_os = "linux"))]
    case!(capabilities_are_refused_on_other_platforms),
];

/// The daemon can regain nothing. It can set the capability that it has kept.
#[track_caller]
fn assert_regains_only_kept(run: &Run, former: (u32, u32)) {
    let regained = run.try_to_regain(former.0, former.1);
    assert_eq!(regained.succeeded, ["capset(10)"]);
}

fn a_daemon_that_is_not_root_binds_ports_for_its_whole_life() {
    for entry in ENTRIES {
        let scenario = root_to_user().keep_capabilities([BIND_PORTS]);
        let run = scenario.entry(entry).start();
        assert_is(&run, UID, GID, &[GID]);
        assert_sets(&run, CAP_NET_BIND_SERVICE, 0);
        assert_succeeds(&run, &["bind"]);
        assert_regains_only_kept(&run, (0, 0));
        assert_succeeds(&run, &["bind"]);
    }
}

fn every_capability_that_is_not_kept_is_gone() {
    let run = root_to_user().keep_capabilities([CHOWN]).start();
    assert_sets(&run, CAP_CHOWN, 0);
    assert_succeeds(&run, &["chown"]);
    let regained = run.try_to_regain(0, 0).succeeded;
    assert_eq!(regained, ["capset(0)"], "the kept one can be set again");
}

fn an_empty_list_drops_every_capability() {
    let run = root_to_user().keep_capabilities([]).start();
    assert_dropped(&run, UID, GID, &[GID], (0, 0));
    assert_succeeds(&run, &[]);
    // Without the option, a daemon that keeps its ids has the capabilities of the launcher.
    let scenario = as_capable(CAP_SETUID | CAP_CHOWN, &[]);
    let scenario = scenario.from_state(|state| state.ambient_capabilities = Some(CAP_CHOWN));
    assert_sets(&scenario.start(), CAP_SETUID | CAP_CHOWN, CAP_CHOWN);
    let run = scenario.keep_capabilities([]).start();
    assert_no_way_back(&run, (0, 0));
}

fn a_later_list_replaces_the_earlier_one() {
    let scenario = root_to_user().keep_capabilities([CHOWN, BIND_PORTS]);
    assert_sets(&scenario.start(), CAP_CHOWN | CAP_NET_BIND_SERVICE, 0);
    let run = scenario.keep_capabilities([BIND_PORTS, BIND_PORTS]).start();
    assert_sets(&run, CAP_NET_BIND_SERVICE, 0);
}

fn kept_capabilities_survive_no_new_privileges_in_a_jail() {
    let (scenario, jail) = root_to_user().with_directory("jail");
    let scenario = scenario.chroot(&jail).no_new_privileges();
    let run = scenario.keep_capabilities([BIND_PORTS]).start();
    assert_sets(&run, CAP_NET_BIND_SERVICE, 0);
    for view in run.views() {
        assert_eq!(view.no_new_privileges, Some(true));
    }
    assert_succeeds(&run, &["bind"]);
    assert_regains_only_kept(&run, (0, 0));
}

fn the_initialization_has_the_kept_capabilities_alone() {
    let scenario = root_to_user().privileged_action([Step::Observe]);
    let scenario = scenario.keep_capabilities([BIND_PORTS]);
    let run = scenario.clone().start();
    let initial = run.initial().capabilities;
    assert_eq!(run.observed().capabilities, initial, "the action has all");
    let mut scenario = scenario.initialize([Step::Observe]);
    scenario.config.privileged_action = None;
    let sets = scenario.start().observed().capabilities.unwrap();
    assert_eq!(sets.permitted, CAP_NET_BIND_SERVICE);
    assert_eq!(sets.effective, CAP_NET_BIND_SERVICE);
}

fn kept_capabilities_are_not_passed_on_to_programs() {
    let scenario = root_to_user().keep_capabilities([BIND_PORTS]);
    assert_eq!(sets_of_program(scenario), [0; 4]);
}

fn a_launcher_that_is_not_root_keeps_its_ids_and_a_capability() {
    let all = CAP_NET_BIND_SERVICE | CAP_CHOWN | CAP_SETUID;
    let scenario = as_capable(all, &[4711]);
    let scenario = scenario.from_state(|state| state.ambient_capabilities = Some(CAP_CHOWN));
    let run = scenario.keep_capabilities([BIND_PORTS]).start();
    assert_eq!(run.initial().capabilities.unwrap().ambient, CAP_CHOWN);
    assert_is(&run, STARTER, STARTERS_GROUP, &[4711]);
    assert_sets(&run, CAP_NET_BIND_SERVICE, 0);
    assert_succeeds(&run, &["bind"]);
    assert_regains_only_kept(&run, (0, 0));
}

fn a_program_with_file_capabilities_keeps_one_of_them() {
    let directory = copy_of(&tester::tester!(), 0o755, (0, 0));
    let program = directory.path("program");
    sys::set_file_capabilities(&program, CAP_NET_BIND_SERVICE | CAP_CHOWN).unwrap();
    let scenario = Scenario::new(program).launched_by(STARTER, STARTERS_GROUP, &[]);
    let run = scenario.keep_capabilities([BIND_PORTS]).start();
    // If the set is empty, the file system ignores file capabilities.
    let initial = run.initial().capabilities.unwrap().permitted;
    assert_eq!(initial, CAP_NET_BIND_SERVICE | CAP_CHOWN);
    assert_is(&run, STARTER, STARTERS_GROUP, &[]);
    assert_sets(&run, CAP_NET_BIND_SERVICE, 0);
    assert_succeeds(&run, &["bind"]);
}

fn a_change_between_ordinary_users_keeps_capabilities() {
    let scenario = as_capable(CAP_NET_BIND_SERVICE | CAP_SETUID | CAP_SETGID, &[4711]);
    let scenario = scenario.user(UID).group(GID);
    let run = scenario.keep_capabilities([BIND_PORTS]).start();
    assert_is(&run, UID, GID, &[GID]);
    assert_sets(&run, CAP_NET_BIND_SERVICE, 0);
    assert_regains_only_kept(&run, (STARTER, STARTERS_GROUP));
}

fn a_daemon_that_stays_root_drops_the_other_capabilities() {
    let scenario = scenario!().as_root_with_groups();
    let scenario = scenario.keep_capabilities([BIND_PORTS, CHANGE_USER]);
    for scenario in [scenario.clone(), scenario.user("root")] {
        let run = scenario.start();
        assert!(run.observe().uid.is_some_and(|ids| ids == 0));
        assert_sets(&run, CAP_NET_BIND_SERVICE | CAP_SETUID, 0);
    }
}

fn a_foreground_process_keeps_capabilities() {
    let scenario = root_to_user().foreground(Foreground::Yes);
    let (run, _) = scenario.keep_capabilities([BIND_PORTS]).serve();
    assert_is(&run, UID, GID, &[GID]);
    assert_sets(&run, CAP_NET_BIND_SERVICE, 0);
    assert_succeeds(&run, &["bind"]);
}

#[track_caller]
fn assert_refused(scenario: Scenario, reason: &str) {
    let error = fail_before_any_fork(scenario);
    error.assert_is(
        "KeepCapabilities",
        &format!("cannot keep capabilities: {reason}"),
    );
}

fn a_capability_that_root_lacks_is_refused_before_any_fork() {
    let scenario = root_to_user().from_state(|state| {
        state.capabilities = Some(CAP_SETUID | CAP_SETGID | CAP_CHOWN);
    });
    let reason = "this process runs as root, but lacks CAP_NET_BIND_SERVICE: allow it in the \
                  container, the service or the user namespace";
    assert_refused(
        scenario.clone().keep_capabilities([CHOWN, BIND_PORTS]),
        reason,
    );
    assert_refused(scenario.clone().ambient_capabilities([BIND_PORTS]), reason);
    scenario.keep_capabilities([CHOWN]).start();
}

fn a_capability_that_a_user_lacks_is_refused_before_any_fork() {
    let (scenario, uid, _) = as_ordinary();
    let reason = format!(
        "this process runs as uid {uid}, and lacks CAP_CHOWN, CAP_NET_BIND_SERVICE: start it as \
         root, or give it to the program by setcap(8), or to the service by AmbientCapabilities="
    );
    assert_refused(
        scenario.clone().keep_capabilities([BIND_PORTS, CHOWN]),
        &reason,
    );
    scenario.keep_capabilities([]).start();
}

fn a_capability_that_the_kernel_lacks_is_refused_before_any_fork() {
    let reason = "this process runs as root, but lacks capability 63: allow it in the \
                  container, the service or the user namespace";
    assert_refused(root_to_user().keep_capabilities([63]), reason);
    let reason = "no kernel has a capability above 63";
    assert_refused(root_to_user().keep_capabilities([64]), reason);
    assert_refused(root_to_user().ambient_capabilities([255]), reason);
}

fn a_capability_that_the_privileged_action_drops_fails_the_start() {
    let scenario = root_to_user().keep_capabilities([BIND_PORTS, CHOWN]);
    let steps = [Step::DropCapabilities(CAP_CHOWN)];
    let error = scenario.privileged_action(steps).fail();
    error.assert_kind("KeepCapabilities", libc::EPERM);
    assert!(error.text.contains("lacks CAP_CHOWN:"), "{error}");
}

/// The library does not return to the caller, which would keep its privileges.
#[track_caller]
fn assert_retained(scenario: &Scenario, reason: &str) {
    let error = scenario.fail();
    assert_eq!(error.kind, "PrivilegesRetained", "{error}");
    assert!(error.text.ends_with(reason), "{error}");
    let run = scenario.clone().entry(Entry::Execute).launch();
    assert_eq!(run.launcher_error(), error);
    run.assert_nothing_left();
    assert!(!run.has_sent(|message| matches!(message, Message::DaemonFailed(_))));
}

fn capabilities_to_change_ids_are_not_kept() {
    let user = "it keeps CAP_SETUID, and could regain a former user id";
    let group = "it keeps CAP_SETGID, and could regain a former group";
    assert_retained(&root_to_user().keep_capabilities([CHANGE_USER]), user);
    assert_retained(&root_to_user().keep_capabilities([CHANGE_GROUP]), group);
    assert_retained(&root_to_user().ambient_capabilities([CHANGE_USER]), user);
    // The same without a change of ids.
    let scenario = as_capable(CAP_SETUID | CAP_SETGID, &[]);
    assert_retained(&scenario.clone().keep_capabilities([CHANGE_USER]), user);
    assert_retained(&scenario.keep_capabilities([CHANGE_GROUP]), group);
}

/// Such a process makes every permitted capability effective, and becomes root, by seteuid(2).
fn a_launcher_whose_saved_user_is_root_needs_the_option_user() {
    for uid in [[STARTER, STARTER, 0], [0, STARTER, STARTER]] {
        let scenario = scenario!().with_ids(uid, [STARTERS_GROUP; 3], &[]);
        let scenario = scenario.keep_capabilities([BIND_PORTS]);
        let reason = "its real or saved user is still root: set `user`";
        assert_retained(&scenario, reason);
        let scenario = scenario.user(STARTER).group(STARTERS_GROUP);
        let run = scenario.supplementary_groups(no_groups()).start();
        assert_is(&run, STARTER, STARTERS_GROUP, &[]);
        assert_sets(&run, CAP_NET_BIND_SERVICE, 0);
        assert_regains_only_kept(&run, (0, 0));
    }
}

fn locked_secure_bits_are_respected() {
    let with_bits = |bits| {
        let scenario = root_to_user().keep_capabilities([BIND_PORTS]);
        scenario.from_state(|state| state.secure_bits = Some(bits))
    };
    let reason = "the secure bit SECBIT_KEEP_CAPS_LOCKED of this process forbids it to a process \
                  that changes from root to another user";
    assert_refused(with_bits(KEEP_CAPS_LOCKED), reason);
    for (bits, keeps) in [
        (KEEP_CAPS_LOCKED | KEEP_CAPS, true),
        (KEEP_CAPS_LOCKED | NO_SETUID_FIXUP, false),
        (KEEP_CAPS, true),
        (NO_SETUID_FIXUP, false),
    ] {
        let run = with_bits(bits).start();
        assert_sets(&run, CAP_NET_BIND_SERVICE, 0);
        // The caller's own bit stays.
        let bit = keeps.then_some("keepcaps");
        let succeeds: Vec<_> = ["bind"].into_iter().chain(bit).collect();
        assert_succeeds(&run, &succeeds);
        assert_regains_only_kept(&run, (0, 0));
    }
    // Without a change from root, the bit does not matter.
    let scenario = scenario!().keep_capabilities([BIND_PORTS]);
    let locked = scenario.from_state(|state| state.secure_bits = Some(KEEP_CAPS_LOCKED));
    assert_sets(&locked.start(), CAP_NET_BIND_SERVICE, 0);
}

fn secure_bits_that_the_privileged_action_locks_fail_the_start() {
    let scenario = root_to_user().keep_capabilities([BIND_PORTS]);
    let steps = [Step::SetSecureBits(KEEP_CAPS_LOCKED)];
    let error = scenario.privileged_action(steps).fail();
    error.assert_kind("KeepCapabilities", libc::EPERM);
    assert!(error.text.contains("SECBIT_KEEP_CAPS_LOCKED"), "{error}");
}

fn a_thread_of_the_privileged_action_does_not_keep_capabilities() {
    let scenario = root_to_user().keep_capabilities([BIND_PORTS]);
    let scenario = scenario.privileged_action([Step::MakeThread]);
    let run = scenario.clone().start();
    let pid = run.report().pid;
    let sets = [CAP_NET_BIND_SERVICE, 0].map(|mask| format!("{mask:016x}"));
    assert_eq!(of_each_thread(pid, "CapPrm"), sets);
    assert_eq!(of_each_thread(pid, "CapEff"), sets);
    // A thread of the initialization has those of its creator.
    let mut scenario = scenario.initialize([Step::MakeThread]);
    scenario.config.privileged_action = None;
    let run = scenario.start();
    assert_eq!(of_each_thread(run.report().pid, "CapPrm"), [&*sets[0]; 2]);
}

fn a_thread_with_another_capability_fails_the_start() {
    let reason = "this thread or another still has other capabilities";
    let steps = [Step::MakeThreadThatKeepsCapabilities];
    let scenario = root_to_user().keep_capabilities([BIND_PORTS]);
    assert_retained(&scenario.privileged_action(steps), reason);
    let scenario = scenario!().keep_capabilities([BIND_PORTS]);
    assert_retained(&scenario.privileged_action([Step::MakeThread]), reason);
    // A thread may have the kept capabilities, but no other.
    let thread = |capabilities, ambient| {
        let scenario = as_capable(capabilities, &[]).from_state(|state| {
            state.ambient_capabilities = Some(ambient);
        });
        let scenario = scenario.privileged_action([Step::MakeThread]);
        scenario.keep_capabilities([BIND_PORTS])
    };
    thread(CAP_NET_BIND_SERVICE, 0).start();
    assert_retained(&thread(CAP_NET_BIND_SERVICE | CAP_CHOWN, 0), reason);
    assert_retained(&thread(CAP_NET_BIND_SERVICE, CAP_NET_BIND_SERVICE), reason);
}

fn refusing_capset(capabilities: u64) -> Scenario {
    let scenario = as_capable(capabilities, &[]).keep_capabilities([BIND_PORTS]);
    scenario.from_state(|state| state.refused_calls = vec![(SystemCall::Capset, libc::EPERM)])
}

fn a_sandbox_may_refuse_capset_if_only_kept_capabilities_are_left() {
    let run = refusing_capset(CAP_NET_BIND_SERVICE).start();
    assert_sets(&run, CAP_NET_BIND_SERVICE, 0);
}

fn a_sandbox_that_refuses_capset_fails_the_start() {
    let error = refusing_capset(CAP_NET_BIND_SERVICE | CAP_CHOWN).fail();
    let text = "the process retained privileges: it cannot clear its capabilities";
    error.assert_is("PrivilegesRetained", text);
}

/// The call that fails is the first one after the change of the user. Under `execute` the failed
/// daemon returns to its caller, which is another user by then.
fn a_failure_after_the_change_of_user_leaves_no_other_capability() {
    let scenario = root_to_user().keep_capabilities([BIND_PORTS]);
    let mut scenario = scenario.entry(Entry::Execute).faults(&[Fault {
        process: Role::Daemon,
        call: "getgroups".to_owned(),
        occurrence: 2,
        how: How::Errno(libc::EPERM),
        always: false,
    }]);
    scenario.config.report_afterwards = true;
    let start = TracedStart::observe(&scenario, false);
    let error = start.daemon_error().expect("it returns to its caller");
    error.assert_kind("SetSupplementaryGroups", libc::EPERM);
    let failed = start
        .outcome
        .frames
        .iter()
        .find_map(|frame| match &frame.message {
            Message::Afterwards(report) if frame.sender != start.outcome.launcher => Some(report),
            _ => None,
        });
    let failed = failed.expect("the report of the failed daemon");
    assert!(failed.uid.is_some_and(|ids| ids == UID));
    let sets = failed.capabilities.expect("its capabilities");
    assert_eq!(sets.permitted, CAP_NET_BIND_SERVICE);
}

#[cfg(not(target_os = "linux"))]
fn capabilities_are_refused_on_other_platforms() {
    for (scenario, option) in [
        (scenario!().keep_capabilities([]), "keep_capabilities"),
        (scenario!().ambient_capabilities([]), "ambient_capabilities"),
    ] {
        let error = fail_before_any_fork(scenario);
        let text = format!("not supported on this platform: {option}");
        error.assert_is("Unsupported", &text);
    }
}
