use tester::prelude::*;

use crate::setup::*;

pub(crate) const CASES: &[Case] = &[
    case!(the_reserved_id_is_refused_under_start_and_execute),
    case!(the_reserved_id_is_refused_with_its_meaning),
    case!(the_reserved_id_is_refused_in_every_option),
    case!(a_database_entry_with_the_reserved_id_is_refused, needs Root, Linux, Mounting),
    case!(the_highest_valid_ids_can_be_set, needs Root),
    case!(the_highest_valid_id_can_be_set_in_every_option, needs Root),
];

fn the_reserved_id_is_refused_under_start_and_execute() {
    let unchanged = u32::MAX;
    let pid_file = daemon!();
    for (scenario, kind) in [
        (scenario!().user(unchanged), "SetUser"),
        (scenario!().group(unchanged), "SetGroup"),
        (
            pid_file.clone().chown_pid_file_user(unchanged),
            "ChownPidfile",
        ),
        (pid_file.chown_pid_file_group(unchanged), "ChownPidfile"),
    ] {
        let error = scenario.fail_in_launcher();
        assert_eq!(error.kind, format!("{kind}({})", libc::EINVAL));
        assert!(error.text.contains("4294967295"), "{error}");
        scenario.assert_fails_in_launcher(&error);
    }
}

fn the_reserved_id_is_refused_with_its_meaning() {
    let with_pid_file = || daemon!();
    for (scenario, kind) in [
        (scenario!().user(u32::MAX).group(7_u32), "SetUser"),
        (scenario!().group(u32::MAX), "SetGroup"),
        (
            with_pid_file().chown_pid_file_user(u32::MAX),
            "ChownPidfile",
        ),
        (
            with_pid_file().chown_pid_file_group(u32::MAX),
            "ChownPidfile",
        ),
    ] {
        let error = scenario.fail();
        assert_eq!(error.kind, format!("{kind}({})", libc::EINVAL));
        assert!(error.text.contains("4294967295: this id"), "{error}");
    }
}

const MEANS_UNCHANGED: u32 = u32::MAX;

fn the_reserved_id_is_refused_in_every_option() {
    let scenario = || daemon!();
    for (scenario, kind) in [
        (scenario().user(MEANS_UNCHANGED), "SetUser"),
        (scenario().user("root").group(MEANS_UNCHANGED), "SetGroup"),
        (
            scenario().chown_pid_file_user(MEANS_UNCHANGED),
            "ChownPidfile",
        ),
        (
            scenario().chown_pid_file_group(MEANS_UNCHANGED),
            "ChownPidfile",
        ),
        (
            scenario().supplementary_groups(only([7, MEANS_UNCHANGED])),
            "SetSupplementaryGroups",
        ),
    ] {
        let error = fail_before_any_fork(scenario);
        assert_eq!(error.kind, format!("{kind}({})", libc::EINVAL));
        let text = "4294967295: this id means 'unchanged' to the kernel";
        assert!(error.text.ends_with(text), "{error}");
    }
}

fn a_database_entry_with_the_reserved_id_is_refused() {
    let passwd = format!(
        "nouser:x:{MEANS_UNCHANGED}:7::/:/bin/sh\nnogroup:x:7:{MEANS_UNCHANGED}::/:/bin/sh\n"
    );
    let group = format!("nogroup:x:{MEANS_UNCHANGED}:\n");
    let scenario =
        with_database(scenario!().as_root_with_groups(), &passwd, &group).pid_file("daemon.pid");
    let keep = scenario
        .clone()
        .supplementary_groups(SupplementaryGroups::Keep);
    for (scenario, kind) in [
        (scenario.clone().user("nouser"), "SetUser"),
        (keep.clone().user("nouser"), "SetUser"),
        (keep.clone().user("nogroup"), "SetGroup"),
        (scenario.clone().user("nogroup"), "SetGroup"),
        (keep.group("nogroup"), "SetGroup"),
        (scenario.clone().group("nogroup"), "SetGroup"),
        (
            scenario.clone().chown_pid_file_user("nouser"),
            "ChownPidfile",
        ),
        (
            scenario.clone().chown_pid_file_group("nogroup"),
            "ChownPidfile",
        ),
        (
            scenario.supplementary_groups(only(["nogroup"])),
            "SetSupplementaryGroups",
        ),
    ] {
        let error = fail_before_any_fork(scenario);
        assert_eq!(error.kind, format!("{kind}({})", libc::EINVAL), "{error}");
        assert!(error.text.contains("this id means 'unchanged'"), "{error}");
    }
    // The id may be one of several.
    let group = format!("nogroup:x:{MEANS_UNCHANGED}:{MEMBER}\n");
    let scenario = with_database(scenario!().as_root_with_groups(), "", &group);
    let error = fail_before_any_fork(scenario.user(MEMBER));
    let kind = format!("SetSupplementaryGroups({})", libc::EINVAL);
    assert_eq!(error.kind, kind, "{error}");
    assert!(error.text.contains("this id means 'unchanged'"), "{error}");
}

fn the_highest_valid_ids_can_be_set() {
    let last = u32::MAX - 1;
    let run = scenario!()
        .as_root_with_groups()
        .user(last)
        .group(last)
        .start();
    assert_is(&run, last, last, &[last]);
}

const LAST: u32 = u32::MAX - 1;

fn the_highest_valid_id_can_be_set_in_every_option() {
    let scenario = scenario!().as_root_with_groups().pid_file("daemon.pid");
    // If the last id belongs to a user, that user may have other groups.
    let as_last = scenario.clone().user(LAST).group(GID);
    let run = as_last.supplementary_groups(only([GID])).start();
    assert_dropped(&run, LAST, GID, &[GID], (0, 0));
    run.exit(0);
    let run = scenario.clone().user(UID).group(LAST).start();
    assert_dropped(&run, UID, LAST, &[LAST], (0, 0));
    run.exit(0);
    let only_last = scenario.clone().user(UID).group(GID);
    let run = only_last.supplementary_groups(only([LAST])).start();
    assert_dropped(&run, UID, GID, &[LAST], (0, 0));
    run.exit(0);
    let owner = |scenario: Scenario| {
        let run = scenario.start();
        let pid_file = run.launcher().pid_file.unwrap();
        run.exit(0);
        (pid_file.uid, pid_file.gid)
    };
    assert_eq!(owner(scenario.clone().chown_pid_file_user(LAST)), (LAST, 0));
    let scenario = scenario.chown_pid_file_user(LAST);
    assert_eq!(owner(scenario.chown_pid_file_group(LAST)), (LAST, LAST));
}
