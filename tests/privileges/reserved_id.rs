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

const RESERVED: u32 = u32::MAX;
const LAST: u32 = RESERVED - 1;

/// Every option that takes an id, with the reserved id, and the kind of the error.
fn with_reserved_id() -> [(Scenario, &'static str); 7] {
    [
        (daemon!().user(RESERVED), "SetUser"),
        (daemon!().user(RESERVED).group(7_u32), "SetUser"),
        (daemon!().group(RESERVED), "SetGroup"),
        (daemon!().user("root").group(RESERVED), "SetGroup"),
        (daemon!().chown_pid_file_user(RESERVED), "ChownPidfile"),
        (daemon!().chown_pid_file_group(RESERVED), "ChownPidfile"),
        (
            daemon!().supplementary_groups(only([7, RESERVED])),
            "SetSupplementaryGroups",
        ),
    ]
}

fn the_reserved_id_is_refused_under_start_and_execute() {
    for (scenario, kind) in with_reserved_id() {
        let error = scenario.fail_in_launcher();
        error.assert_kind(kind, libc::EINVAL);
        scenario.assert_fails_in_launcher(&error);
    }
}

fn the_reserved_id_is_refused_with_its_meaning() {
    let text = "4294967295: this id means 'unchanged' to the kernel";
    for (scenario, _) in with_reserved_id() {
        let error = scenario.fail();
        assert!(error.text.ends_with(text), "{error}");
    }
}

fn the_reserved_id_is_refused_in_every_option() {
    for (scenario, kind) in with_reserved_id() {
        fail_before_any_fork(scenario).assert_kind(kind, libc::EINVAL);
    }
}

fn a_database_entry_with_the_reserved_id_is_refused() {
    let passwd = format!("nouser:x:{RESERVED}:7::/:/bin/sh\nnogroup:x:7:{RESERVED}::/:/bin/sh\n");
    const CHOWN: &str = "ChownPidfile";
    const GROUPS: &str = "SetSupplementaryGroups";
    let group = format!("nogroup:x:{RESERVED}:\n");
    let scenario = root_with_database(&passwd, &group).pid_file("daemon.pid");
    let keep = SupplementaryGroups::Keep;
    let keep = scenario.clone().supplementary_groups(keep);
    for (scenario, kind) in [
        (scenario.clone().user("nouser"), "SetUser"),
        (keep.clone().user("nouser"), "SetUser"),
        (keep.clone().user("nogroup"), "SetGroup"),
        (scenario.clone().user("nogroup"), "SetGroup"),
        (keep.group("nogroup"), "SetGroup"),
        (scenario.clone().group("nogroup"), "SetGroup"),
        (scenario.clone().chown_pid_file_user("nouser"), CHOWN),
        (scenario.clone().chown_pid_file_group("nogroup"), CHOWN),
        (scenario.supplementary_groups(only(["nogroup"])), GROUPS),
    ] {
        let error = fail_before_any_fork(scenario);
        error.assert_kind(kind, libc::EINVAL);
        assert!(error.text.contains("this id means 'unchanged'"), "{error}");
    }
    // The id may be one of several.
    let group = format!("nogroup:x:{RESERVED}:{MEMBER}\n");
    let scenario = root_with_database("", &group);
    let error = fail_before_any_fork(scenario.user(MEMBER));
    error.assert_kind("SetSupplementaryGroups", libc::EINVAL);
    assert!(error.text.contains("this id means 'unchanged'"), "{error}");
}

fn the_highest_valid_ids_can_be_set() {
    let scenario = scenario!().as_root_with_groups();
    let run = scenario.user(LAST).group(LAST).start();
    assert_is(&run, LAST, LAST, &[LAST]);
}

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
    let with_last_group = scenario.clone().user(UID).group(GID);
    let run = with_last_group.supplementary_groups(only([LAST])).start();
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
