use tester::prelude::*;

use crate::setup::*;

pub(crate) const CASES: &[Case] = &[
    case!(a_user_in_five_hundred_groups_gets_all_of_them, needs Root, Linux, Mounting),
    case!(a_user_in_as_many_groups_as_the_system_allows_gets_all_of_them, needs Root, Linux, Mounting),
    case!(a_user_in_too_many_groups_is_reported_with_number_and_limit, needs Root, Linux, Mounting),
    case!(a_group_of_twenty_thousand_members_is_found, needs Root, Linux, Mounting),
    case!(a_group_line_of_eight_mebibytes_is_found_and_of_eighty_is_refused, needs Root, Linux, Mounting),
    case!(invalid_lines_do_not_hide_valid_lines, needs Root, Linux, Mounting),
    case!(an_empty_database_has_no_user_and_no_group, needs Root, Linux, Mounting),
    case!(an_unreadable_user_database_is_not_an_unknown_user, needs Root, Linux, Mounting),
    case!(an_unreadable_group_database_is_not_an_unknown_group, needs Root, Linux, Mounting),
    case!(an_unreadable_group_database_does_not_remove_groups, needs Root, Linux, Mounting),
    case!(a_missing_group_database_means_no_groups, needs Root, Linux, Mounting),
    case!(numeric_ids_need_no_user_database, needs Root, Mounting, Linux),
];

/// `count` groups of the [`MEMBER`].
fn groups_of_member(count: usize) -> (String, Vec<u32>) {
    let groups: Vec<u32> = (1_000_000..).take(count).collect();
    let line = |gid: &u32| format!("group{gid}:x:{gid}:somebody,{MEMBER}\n");
    (groups.iter().map(line).collect(), groups)
}

#[track_caller]
fn assert_in_all_groups(count: usize) {
    let (lines, mut groups) = groups_of_member(count);
    groups.push(GID);
    let run = root_with_database("", &lines).user(MEMBER);
    assert_dropped(&run.start(), UID, GID, &groups, (0, 0));
}

fn a_user_in_five_hundred_groups_gets_all_of_them() {
    assert_in_all_groups(500);
}

fn a_user_in_as_many_groups_as_the_system_allows_gets_all_of_them() {
    // The primary group counts, too.
    assert_in_all_groups(sys::most_groups() - 1);
}

fn a_user_in_too_many_groups_is_reported_with_number_and_limit() {
    let most = sys::most_groups();
    for count in [most, 70_000] {
        let (lines, _) = groups_of_member(count);
        let scenario = root_with_database("", &lines);
        let error = fail_before_any_fork(scenario.user(MEMBER));
        error.assert_kind("SetSupplementaryGroups", libc::EINVAL);
        let text = format!(
            "cannot set supplementary groups for member: \
             {} groups are more than the {most} that this system allows",
            count + 1
        );
        assert_eq!(error.text, text);
    }
}

fn a_group_of_twenty_thousand_members_is_found() {
    let members: Vec<String> = (0..20_000).map(|number| format!("other{number}")).collect();
    let line = format!("crowd:x:4711:{},{MEMBER}\n", members.join(","));
    let scenario = root_with_database("", &line);
    let run = scenario.clone().user(MEMBER).start();
    assert_dropped(&run, UID, GID, &[4711, GID], (0, 0));
    let run = scenario.user(MEMBER).group("crowd").start();
    assert_dropped(&run, UID, 4711, &[4711], (0, 0));
}

fn a_group_line_of_eight_mebibytes_is_found_and_of_eighty_is_refused() {
    let scenario = |mebibytes: usize| {
        let line = format!("crowd:x:4711:{}\n", "m".repeat(mebibytes << 20));
        root_with_database("", &line).user(MEMBER).group("crowd")
    };
    assert_dropped(&scenario(8).start(), UID, 4711, &[4711], (0, 0));
    let error = fail_before_any_fork(scenario(80));
    error.assert_kind("LookUpGroup", libc::ERANGE);
}

fn invalid_lines_do_not_hide_valid_lines() {
    let none = "\n:::\nnothing\ncolons:x\nletters:x:nine:ten\nnegative:x:-1:-1\n\0\n";
    let passwd = format!("{none}other:x:4712:4712::/:/bin/sh\n");
    let group = format!("{none}last:x:4711:{MEMBER},other\nletters:x:nine:{MEMBER}\n");
    let scenario = root_with_database(&passwd, &group);
    let run = scenario.clone().user("other").start();
    assert_dropped(&run, 4712, 4712, &[4711, 4712], (0, 0));
    for name in ["nothing", "colons", "letters"] {
        let error = scenario.clone().user(name).fail();
        assert_eq!(error.text, format!("unknown user {name}"));
        let error = scenario.clone().group(name).fail();
        assert_eq!(error.text, format!("unknown group {name}"));
    }
}

fn an_empty_database_has_no_user_and_no_group() {
    let scenario = root_with_database("", "");
    for file in ["etc/passwd", "etc/group"] {
        fs::write(scenario.path(file), "").unwrap();
    }
    assert_eq!(scenario.clone().user("root").fail().kind, "UserNotFound");
    assert_eq!(scenario.clone().group("root").fail().kind, "GroupNotFound");
    let error = scenario.clone().user(0_u32).fail();
    assert_eq!(error.kind, "PrimaryGroupUnknown");
    let run = scenario.user(UID).group(GID).start();
    assert_dropped(&run, UID, GID, &[GID], (0, 0));
}

/// A start by an ordinary user who may not read one of the database files.
fn with_unreadable(file: &str) -> Scenario {
    let scenario = as_starter();
    let lines = format!("starters:x:{STARTERS_GROUP}:\nextra:x:4711:starter\n");
    let user = format!("starter:x:{STARTER}:{STARTERS_GROUP}::/:/bin/sh\n");
    let scenario = with_database(scenario, &user, &lines);
    // The database is valid while it can be read.
    let run = scenario.clone().user("starter").group("starters");
    let run = run.supplementary_groups(SupplementaryGroups::Keep).start();
    assert_is(&run, STARTER, STARTERS_GROUP, &[]);
    let path = scenario.path("etc").join(file);
    set_mode(&path, 0o000);
    scenario
}

fn an_unreadable_user_database_is_not_an_unknown_user() {
    let scenario = with_unreadable("passwd").pid_file("daemon.pid");
    for scenario in [
        scenario.clone().user("starter"),
        scenario.clone().user(STARTER),
        scenario.chown_pid_file_user("starter"),
    ] {
        let error = fail_before_any_fork(scenario);
        error.assert_kind("LookUpUser", libc::EACCES);
        let reason = errno_text(libc::EACCES);
        assert!(error.text.contains(&reason), "{error}");
    }
}

fn an_unreadable_group_database_is_not_an_unknown_group() {
    let scenario = with_unreadable("group").pid_file("daemon.pid");
    for scenario in [
        scenario.clone().group("starters"),
        scenario.clone().supplementary_groups(only(["starters"])),
        scenario.chown_pid_file_group("starters"),
    ] {
        let error = fail_before_any_fork(scenario);
        error.assert_kind("LookUpGroup", libc::EACCES);
        let reason = errno_text(libc::EACCES);
        let text = format!("cannot look up group starters: {reason}");
        assert!(error.text.starts_with(&text), "{error}");
    }
}

/// In this case getgrouplist(3) of glibc returns only the primary group and no error, and
/// that of musl asks for more room.
fn an_unreadable_group_database_does_not_remove_groups() {
    let error = fail_before_any_fork(with_unreadable("group").user("starter"));
    error.assert_kind("LookUpGroup", libc::EACCES);
    let text = "cannot look up group starter: ";
    assert!(error.text.starts_with(text), "{error}");
}

fn a_missing_group_database_means_no_groups() {
    let scenario = root_with_database("", "");
    fs::remove_file(scenario.path("etc/group")).unwrap();
    assert_dropped(&scenario.user(MEMBER).start(), UID, GID, &[GID], (0, 0));
}

fn numeric_ids_need_no_user_database() {
    let scenario = scenario!();
    // No look-up can read these directories.
    let directory = scenario.create_directory("etc");
    for file in ["passwd", "group"] {
        scenario.create_directory(format!("etc/{file}"));
    }
    fs::write(directory.join("nsswitch.conf"), SOURCES).unwrap();
    let scenario = scenario
        .pid_file("daemon.pid")
        .user(7003)
        .group(7004)
        .chown_pid_file_user(7003)
        .chown_pid_file_group(7004)
        .from_state(|state| state.user_database = Some(directory.into()));
    for groups in [only([7005]), no_groups(), SupplementaryGroups::Keep] {
        let run = scenario.clone().supplementary_groups(groups).start();
        assert!(run.report().uid.expect("its uid") == 7003);
        assert!(run.report().gid.expect("its gid") == 7004);
    }
    // The default looks up the groups by the user's name.
    let error = scenario.launch().launcher_error();
    error.assert_kind("LookUpUser", libc::EISDIR);
}
