use tester::prelude::*;
use tester::suite::{TEST_USER, TEST_USER_GROUPS, TEST_USER_ID, test_user_groups};
use tester::sys::{CAP_SETGID, CAP_SETUID};

use crate::setup::*;

pub(crate) const CASES: &[Case] = &[
    case!(an_ordinary_user_may_become_itself_by_number, needs OwnGroups),
    case!(an_ordinary_user_may_become_itself_by_name, needs OwnGroups),
    case!(an_ordinary_user_from_a_shell_becomes_itself, needs Root, Linux),
    case!(a_member_of_several_groups_may_become_itself, needs Root, TestUser),
    case!(an_ordinary_user_may_list_its_own_groups, needs Root, TestUser),
    case!(an_ordinary_user_may_keep_groups_that_the_database_lacks, needs Root, Linux),
    case!(an_ordinary_user_cannot_become_root),
    case!(the_error_says_what_becoming_root_takes),
    case!(an_ordinary_user_cannot_become_another_user, needs Root),
    case!(the_error_says_what_becoming_another_user_takes, needs Root),
    case!(the_error_says_what_changing_to_another_group_takes, needs Root),
    case!(the_error_names_the_user_whose_group_is_refused, needs Root),
    case!(an_ordinary_user_cannot_change_to_its_supplementary_group, needs Root),
    case!(an_ordinary_user_cannot_drop_a_group, needs Root),
    case!(an_ordinary_user_cannot_list_other_groups),
    case!(an_ordinary_user_cannot_drop_its_groups, needs Root, Linux),
    case!(the_capabilities_to_change_ids_are_enough, needs Root, Linux),
    case!(the_capability_to_change_users_alone_needs_the_groups_kept, needs Root, Linux),
    case!(the_capability_to_change_groups_alone_changes_no_user, needs Root, Linux),
    case!(a_launcher_that_may_not_signal_the_daemon_ends_it, needs Root, Linux),
];

fn an_ordinary_user_may_become_itself_by_number() {
    let (scenario, uid, gid) = as_nobody();
    let run = scenario.user(uid).start();
    assert_is(&run, uid, gid, &run.initial().groups.unwrap());
}

fn an_ordinary_user_may_become_itself_by_name() {
    let (scenario, uid, gid) = as_nobody();
    let output = Command::new("id").args(["-un", &uid.to_string()]).output();
    let name = String::from_utf8(output.unwrap().stdout).unwrap();
    let run = scenario.user(name.trim()).start();
    assert_is(&run, uid, gid, &run.initial().groups.unwrap());
}

fn an_ordinary_user_from_a_shell_becomes_itself() {
    let scenario = scenario!().launched_by(STARTER, STARTERS_GROUP, &[STARTERS_GROUP]);
    let run = scenario.user(STARTER).group(STARTERS_GROUP).start();
    let pid = run.report().pid;
    assert_is(&run, STARTER, STARTERS_GROUP, &[STARTERS_GROUP]);
    assert_no_way_back(&run, (0, 0));
    // Since no id has changed, the user can still inspect the daemon.
    let environ = fs::metadata(format!("/proc/{pid}/environ")).unwrap();
    assert_eq!((environ.uid(), environ.gid()), (STARTER, STARTERS_GROUP));
}

fn a_member_of_several_groups_may_become_itself() {
    // The order of the groups does not matter, and the primary group need not be listed.
    let mut all = test_user_groups();
    all.rotate_right(1);
    let others = all.iter().copied().filter(|&group| group != TEST_USER_ID);
    for groups in [others.collect(), all.clone()] {
        let scenario = scenario!()
            .as_user(TEST_USER_ID, TEST_USER_ID)
            .with_groups(&groups)
            .user(TEST_USER);
        let run = scenario.start();
        let groups = run.initial().groups.unwrap();
        assert_is(&run, TEST_USER_ID, TEST_USER_ID, &groups);
    }
}

fn an_ordinary_user_may_list_its_own_groups() {
    let scenario = scenario!().as_user(TEST_USER_ID, TEST_USER_ID);
    let scenario = scenario.with_groups(&TEST_USER_GROUPS);
    let ways = [
        only(TEST_USER_GROUPS),
        only([7003, 7001, 7003, 7002]),
        only([TEST_USER, "daemonize2-extra1", "daemonize2-extra2"]),
        // The daemon has the primary group in any case.
        only([7003, 7002]),
    ];
    for groups in ways {
        for scenario in [scenario.clone(), scenario.clone().user(TEST_USER)] {
            let run = scenario.supplementary_groups(groups.clone()).start();
            assert_dropped(&run, TEST_USER_ID, TEST_USER_ID, &TEST_USER_GROUPS, (0, 0));
        }
    }
}

fn an_ordinary_user_may_keep_groups_that_the_database_lacks() {
    let scenario = as_member(&[4711, 4712]);
    let scenario = scenario.user(STARTER).group(STARTERS_GROUP);
    assert_groups_refused(&scenario);
    let run = scenario.supplementary_groups(SupplementaryGroups::Keep);
    assert_dropped(&run.start(), STARTER, STARTERS_GROUP, &[4711, 4712], (0, 0));
}

fn an_ordinary_user_cannot_become_root() {
    let (scenario, ..) = as_nobody();
    let error = scenario.user("root").fail();
    assert!(FIRST_STEPS.contains(&error.kind_name()), "{error}");
    assert_eq!(error.errno, Some(libc::EPERM));
    assert!(error.text.contains(&errno_text(libc::EPERM)), "{error}");
}

/// The caller's groups decide which of these steps fails first.
const FIRST_STEPS: [&str; 2] = ["SetSupplementaryGroups", "SetGroup"];
const TO_BECOME: &str = "CAP_SETUID and CAP_SETGID";

fn the_error_says_what_becoming_root_takes() {
    let scenario = daemon!().as_ordinary_user().user(0_u32);
    let error = scenario.fail_in_launcher();
    assert_eq!(error, scenario.fail_in_launcher_and_daemon());
    assert_eq!(error.errno, Some(libc::EPERM));
    assert!(FIRST_STEPS.contains(&error.kind_name()), "{error}");
    let takes = StartError::takes("changing to user 0", TO_BECOME);
    assert!(error.text.ends_with(&takes), "{error}");
}

fn an_ordinary_user_cannot_become_another_user() {
    // The user keeps its groups, so that only the last step fails.
    let (scenario, _, gid) = as_nobody();
    let error = scenario.user(UID).group(gid).fail();
    error.assert_kind("SetUser", libc::EPERM);
    let start = format!(
        "cannot change to user 4000000001: {}",
        errno_text(libc::EPERM)
    );
    assert!(error.text.starts_with(&start), "{error}");
}

fn the_error_says_what_becoming_another_user_takes() {
    let scenario = scenario!().as_ordinary_user().user(7302_u32).group(GID);
    let text = "cannot change to user 7302";
    let takes = ("changing to user 7302", TO_BECOME);
    let expected = StartError::refused(&scenario, "SetUser", None, text, takes);
    scenario.pid_file("daemon.pid").assert_fails(&expected);
}

fn the_error_says_what_changing_to_another_group_takes() {
    let scenario = daemon!().as_ordinary_user().group(7301_u32);
    let text = "cannot change to group 7301";
    let takes = ("changing to group 7301", TO_BECOME);
    let expected = StartError::refused(&scenario, "SetGroup", None, text, takes);
    scenario.assert_fails(&expected);
}

/// A group with the user's name need not exist.
fn the_error_names_the_user_whose_group_is_refused() {
    let scenario = daemon!().as_ordinary_user().user(0_u32);
    let scenario = scenario.supplementary_groups(SupplementaryGroups::Keep);
    let text = "cannot change to group of user 0";
    let takes = ("changing to user 0", TO_BECOME);
    let expected = StartError::refused(&scenario, "SetGroup", None, text, takes);
    scenario.assert_fails(&expected);
}

fn an_ordinary_user_cannot_change_to_its_supplementary_group() {
    let (scenario, ..) = as_nobody();
    let scenario = scenario.with_groups(&[GID]);
    let error = scenario.group(GID).fail();
    error.assert_kind("SetGroup", libc::EPERM);
    let start = format!(
        "cannot change to group 4000000002: {}",
        errno_text(libc::EPERM)
    );
    assert!(error.text.starts_with(&start), "{error}");
}

fn an_ordinary_user_cannot_drop_a_group() {
    let (scenario, _, gid) = as_nobody();
    let scenario = scenario.with_groups(&[gid, GID]);
    let error = scenario.group(gid).fail();
    error.assert_kind("SetSupplementaryGroups", libc::EPERM);
    let start = "cannot set supplementary groups";
    assert!(error.text.starts_with(start), "{error}");
    assert!(error.text.contains(&errno_text(libc::EPERM)), "{error}");
}

fn an_ordinary_user_cannot_list_other_groups() {
    let (scenario, uid, gid) = as_ordinary();
    let scenario = scenario.supplementary_groups(only([4711, 4712]));
    assert_groups_refused(&scenario.clone());
    assert_groups_refused(&scenario.user(uid).group(gid));
}

fn an_ordinary_user_cannot_drop_its_groups() {
    let scenario = as_member(&[4711, 4712]);
    for groups in [no_groups(), only([4711])] {
        assert_groups_refused(&scenario.clone().supplementary_groups(groups));
    }
    // A user without groups has nothing to drop.
    let run = as_member(&[]).supplementary_groups(no_groups()).start();
    assert_dropped(&run, STARTER, STARTERS_GROUP, &[], (0, 0));
}

fn the_capabilities_to_change_ids_are_enough() {
    for ambient in [0, CAP_SETUID, CAP_SETUID | CAP_SETGID] {
        let scenario = as_capable(CAP_SETUID | CAP_SETGID, &ROOTS_GROUPS);
        let scenario = scenario.from_state(|state| state.ambient_capabilities = Some(ambient));
        let run = scenario.user(UID).group(GID).start();
        assert_eq!(run.initial().capabilities.unwrap().ambient, ambient);
        assert_dropped(&run, UID, GID, &[GID], (STARTER, STARTERS_GROUP));
    }
}

fn the_capability_to_change_users_alone_needs_the_groups_kept() {
    let scenario = as_capable(CAP_SETUID, &[4711, 4712]);
    let scenario = scenario.user(UID).group(STARTERS_GROUP);
    assert_groups_refused(&scenario);
    let scenario = scenario.supplementary_groups(SupplementaryGroups::Keep);
    let run = scenario.clone().start();
    let groups = &[4711, 4712];
    assert_dropped(&run, UID, STARTERS_GROUP, groups, (STARTER, GID));
    let error = scenario.group(GID).fail();
    error.assert_kind("SetGroup", libc::EPERM);
}

fn the_capability_to_change_groups_alone_changes_no_user() {
    let scenario = as_capable(CAP_SETGID, &ROOTS_GROUPS).group(GID);
    let run = scenario.clone().start();
    assert_dropped(&run, STARTER, GID, &[GID], (0, STARTERS_GROUP));
    let error = scenario.user(UID).fail();
    error.assert_kind("SetUser", libc::EPERM);
}

/// Without CAP_KILL, launcher and intermediate may not signal a daemon that has become
/// another user.
fn a_launcher_that_may_not_signal_the_daemon_ends_it() {
    let scenario = as_capable(CAP_SETUID | CAP_SETGID, &[]);
    let scenario = scenario.user(UID).group(GID).pid_file("daemon.pid");
    let scenario = scenario.initialize([Step::Hold]);
    let late = scenario
        .clone()
        .startup_timeout(scaled(Duration::from_secs(1)));
    let run = late.launch();
    assert!(run.held().uid.is_none_or(|ids| ids == UID));
    assert_eq!(run.launcher_error().kind, "StartupTimeout");
    run.assert_nothing_left();
    let run = scenario.launch();
    run.held();
    run.kill_launcher();
    run.wait_until_all_ended();
    run.assert_pid_file_released();
}
