use tester::prelude::*;

use crate::setup::*;

pub(crate) const CASES: &[Case] = &[
    case!(an_unknown_user_or_group_is_reported),
    case!(an_unknown_user_or_group_of_the_pid_file_is_reported),
    case!(an_unknown_user_is_named),
    case!(an_unknown_group_is_named),
    case!(an_unknown_supplementary_group_is_named),
    case!(a_nul_in_a_name_is_refused),
    case!(a_nul_in_a_name_is_reported_with_the_name),
    case!(a_nul_in_the_name_of_a_supplementary_group_is_refused),
    case!(a_user_id_without_an_entry_needs_a_group),
    case!(a_user_without_an_entry_fails_before_any_fork),
    case!(a_user_without_an_entry_needs_a_group_with_any_supplementary_groups),
    case!(the_user_is_looked_up_before_the_group_and_the_supplementary_groups),
];

fn an_unknown_user_or_group_is_reported() {
    // A string is a name, even if it consists of digits.
    let names = [
        ("no-such-user", "no-such-user"),
        ("4294967295", "4294967295"),
        ("", r#""""#),
    ];
    for (name, shown) in names {
        let text = format!("unknown user {shown}");
        let expected = StartError::new("UserNotFound", None, &text);
        scenario!().user(name).assert_fails_in_launcher(&expected);
    }
    let expected = StartError::new("GroupNotFound", None, "unknown group no-such-group");
    let scenario = scenario!().group("no-such-group");
    scenario.assert_fails_in_launcher(&expected);
}

fn an_unknown_user_or_group_of_the_pid_file_is_reported() {
    let expected = StartError::new("UserNotFound", None, "unknown user no-such-user");
    let by_user = daemon!().chown_pid_file_user("no-such-user");
    by_user.assert_fails_in_launcher(&expected);
    let expected = StartError::new("GroupNotFound", None, "unknown group no-such-group");
    let by_group = daemon!().chown_pid_file_group("no-such-group");
    by_group.assert_fails_in_launcher(&expected);
}

fn an_unknown_user_is_named() {
    let expected = StartError::new("UserNotFound", None, "unknown user no such user");
    for scenario in [
        scenario!().user("no such user"),
        daemon!().chown_pid_file_user("no such user"),
    ] {
        assert_eq!(scenario.fail(), expected);
    }
}

fn an_unknown_group_is_named() {
    let expected = StartError::new("GroupNotFound", None, "unknown group no such group");
    for scenario in [
        scenario!().group("no such group"),
        daemon!().chown_pid_file_group("no such group"),
    ] {
        assert_eq!(scenario.fail(), expected);
    }
}

fn an_unknown_supplementary_group_is_named() {
    let expected = StartError::new("GroupNotFound", None, "unknown group no such group");
    let groups = || only([Identity::Id(7), "no such group".into()]);
    for scenario in [scenario!(), scenario!().user("root")] {
        let error = fail_before_any_fork(scenario.supplementary_groups(groups()));
        assert_eq!(error, expected);
    }
}

fn a_nul_in_a_name_is_refused() {
    for (scenario, kind) in [
        (scenario!().user("root\0"), "UserContainsNul"),
        (scenario!().group("\0root"), "GroupContainsNul"),
        (scenario!().chown_pid_file_user("ro\0ot"), "UserContainsNul"),
        (scenario!().chown_pid_file_group("\0"), "GroupContainsNul"),
    ] {
        let error = scenario.pid_file("daemon.pid").fail();
        assert_eq!(error.kind, kind);
        assert!(!error.text.contains('\0'), "{error}");
    }
}

fn a_nul_in_a_name_is_reported_with_the_name() {
    let user = StartError::new("UserContainsNul", None, "NUL byte in user name a\\u{0}b");
    let group = StartError::new("GroupContainsNul", None, "NUL byte in group name a\\u{0}b");
    for (scenario, expected) in [
        (scenario!().user("a\0b"), &user),
        (scenario!().chown_pid_file_user("a\0b"), &user),
        (scenario!().group("a\0b"), &group),
        (scenario!().chown_pid_file_group("a\0b"), &group),
    ] {
        scenario.assert_fails_in_launcher(expected);
    }
}

fn a_nul_in_the_name_of_a_supplementary_group_is_refused() {
    let groups = only([Identity::Id(7), "ro\0ot".into()]);
    let error = fail_before_any_fork(scenario!().supplementary_groups(groups));
    assert_eq!(error.kind, "GroupContainsNul");
    assert_eq!(error.text, "NUL byte in group name ro\\u{0}ot");
}

fn a_user_id_without_an_entry_needs_a_group() {
    let text = "cannot find the primary group of user 2000000011: \
                the user database has no such uid; set `group`";
    let expected = StartError::new("PrimaryGroupUnknown", None, text);
    scenario!()
        .user(2_000_000_011_u32)
        .assert_fails_in_launcher(&expected);
}

fn a_user_without_an_entry_fails_before_any_fork() {
    let scenario = daemon!().user(UID);
    let error = fail_before_any_fork(scenario.clone());
    assert_eq!(error.kind, "PrimaryGroupUnknown");
    assert!(error.text.contains("4000000001"), "{error}");
    assert!(!scenario.path("daemon.pid").exists());
}

fn a_user_without_an_entry_needs_a_group_with_any_supplementary_groups() {
    for groups in [SupplementaryGroups::Keep, only([7])] {
        let scenario = scenario!().user(UID).supplementary_groups(groups);
        let error = fail_before_any_fork(scenario);
        assert_eq!(error.kind, "PrimaryGroupUnknown");
    }
}

fn the_user_is_looked_up_before_the_group_and_the_supplementary_groups() {
    let scenario = scenario!().supplementary_groups(only(["no third"]));
    let error = scenario.clone().user("no first").group("no second").fail();
    assert_eq!(error.text, "unknown user no first");
    let error = scenario.clone().user("root").group("no second").fail();
    assert_eq!(error.text, "unknown group no second");
    let error = scenario.user("root").group(GID).fail();
    assert_eq!(error.text, "unknown group no third");
}
