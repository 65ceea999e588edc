use tester::prelude::*;

use crate::setup::*;

pub(crate) const CASES: &[Case] = &[
    case!(the_option_sets_no_new_privs, needs NoNewPrivileges),
    case!(without_the_option_no_new_privs_is_not_set, needs NoNewPrivileges),
    case!(no_new_privs_is_set_for_another_user_in_a_jail, needs Root, NoNewPrivileges),
    case!(no_new_privs_is_set_in_the_foreground, needs NoNewPrivileges),
    case!(later_threads_have_no_new_privs, needs Linux, OwnThreads),
    case!(earlier_threads_without_no_new_privs_fail_the_start, needs Linux),
    case!(other_threads_without_no_new_privs_fail_a_foreground_start, needs Linux),
    case!(a_set_user_id_program_grants_nothing_with_no_new_privs, needs Root, NoNewPrivileges, SetIdPrograms),
    #[cfg(not(any(target_os = "linux", target_os = "freebsd")))]
    case!(no_new_privileges_is_refused_on_other_platforms),
];

#[track_caller]
fn assert_no_new_privileges(run: &Run) {
    assert_eq!(run.initial().no_new_privileges, Some(false));
    for view in run.views() {
        assert_eq!(view.no_new_privileges, Some(true));
    }
}

fn the_option_sets_no_new_privs() {
    for entry in [Entry::Start, Entry::Execute] {
        assert_no_new_privileges(&scenario!().entry(entry).no_new_privileges().start());
    }
}

fn without_the_option_no_new_privs_is_not_set() {
    let run = scenario!().start();
    for view in run.views() {
        assert_eq!(view.no_new_privileges, Some(false));
    }
}

fn no_new_privs_is_set_for_another_user_in_a_jail() {
    let (scenario, jail) = root_to_user().with_directory("jail");
    let scenario = scenario.chroot(&jail).privileged_action([Step::Observe]);
    let run = scenario.no_new_privileges().start();
    // The privileged action may need new privileges.
    assert_eq!(run.observed().no_new_privileges, Some(false));
    assert_no_new_privileges(&run);
    assert_dropped(&run, UID, GID, &[GID], (0, 0));
}

fn no_new_privs_is_set_in_the_foreground() {
    let scenario = scenario!().foreground(Foreground::Yes);
    let (run, _) = scenario.no_new_privileges().serve();
    assert_no_new_privileges(&run);
}

fn later_threads_have_no_new_privs() {
    let scenario = scenario!().no_new_privileges();
    let run = scenario.initialize([Step::MakeThread]).start();
    let pid = run.report().pid;
    assert_eq!(of_each_thread(pid, "NoNewPrivs"), ["1", "1"]);
}

/// prctl(2) sets the attribute of the calling thread alone.
fn earlier_threads_without_no_new_privs_fail_the_start() {
    let scenario = scenario!().no_new_privileges();
    let error = scenario.privileged_action([Step::MakeThread]).fail();
    error.assert_kind("SetNoNewPrivileges", libc::EPERM);
    let text = "cannot set no_new_privs: other threads exist, and would not get no_new_privs";
    assert_eq!(error.text, text);
}

fn other_threads_without_no_new_privs_fail_a_foreground_start() {
    let scenario = scenario!().foreground(Foreground::Yes).no_new_privileges();
    let scenario = scenario.from_state(|state| state.extra_threads = 1);
    let run = scenario.entry(Entry::StartChecked).launch();
    let text = "cannot set no_new_privs: other threads exist, and would not get no_new_privs";
    assert_eq!(run.launcher_error().text, text);
}

fn a_set_user_id_program_grants_nothing_with_no_new_privs() {
    use tester::subject::PRINT_SUPERVISED;

    let directory = copy_of(&tester::tester!(), SET_BOTH, (0, 0));
    // The program prints its effective user id first.
    let program = vec![(&directory.path("program")).into(), PRINT_SUPERVISED.into()];
    let scenario = root_to_user().initialize([Step::Run(program)]);
    let printed = |scenario: Scenario| scenario.start().result();
    // If the number is not 0, the file system ignores the bits.
    assert_eq!(printed(scenario.clone()), ["0 false"]);
    let given_up = printed(scenario.no_new_privileges());
    assert_eq!(given_up, [format!("{UID} false")]);
}

#[cfg(not(any(target_os = "linux", target_os = "freebsd")))]
fn no_new_privileges_is_refused_on_other_platforms() {
    let error = fail_before_any_fork(scenario!().no_new_privileges());
    assert_eq!(error.kind, "Unsupported");
    let text = "not supported on this platform: no_new_privileges";
    assert_eq!(error.text, text);
}
