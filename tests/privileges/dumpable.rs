use std::os::unix::process::CommandExt as _;

use tester::prelude::*;

use crate::setup::*;

pub(crate) const CASES: &[Case] = &[
    case!(other_processes_of_the_user_may_inspect_a_dumpable_daemon, needs Root, Linux),
    case!(a_dumpable_daemon_may_read_its_own_files_in_proc, needs Root, Linux),
    case!(without_the_option_a_daemon_of_another_user_is_out_of_reach, needs Root, Linux),
    case!(the_privileged_action_is_not_dumpable_yet, needs Root, Linux),
    case!(a_launcher_that_is_not_dumpable_starts_a_dumpable_daemon, needs Root, Linux),
    case!(a_dumpable_daemon_has_dropped_its_privileges, needs Root, Linux),
    case!(a_daemon_is_dumpable_in_the_foreground, needs Root, Linux),
    case!(the_option_changes_nothing_for_an_unchanged_user, needs Linux),
    #[cfg(not(target_os = "linux"))]
    case!(dumpable_is_refused_on_other_platforms),
];

/// A daemon of another user.
fn dumpable() -> Scenario {
    root_to_user().dumpable()
}

/// Whether a process with these ids can list the descriptors of the daemon, and can read its
/// environment.
fn may_inspect(run: &Run, uid: u32, gid: u32) -> [bool; 2] {
    let directory = format!("/proc/{}", run.report().pid);
    [["ls", "fd"], ["cat", "environ"]].map(|[program, file]| {
        let output = Command::new(program)
            .arg(format!("{directory}/{file}"))
            .uid(uid)
            .gid(gid)
            .output();
        output.unwrap().status.success()
    })
}

fn other_processes_of_the_user_may_inspect_a_dumpable_daemon() {
    for entry in [Entry::Start, Entry::Execute] {
        let run = dumpable().entry(entry).start();
        assert_eq!(may_inspect(&run, UID, GID), [true; 2]);
        // Nobody else may.
        assert_eq!(may_inspect(&run, STARTER, STARTERS_GROUP), [false; 2]);
    }
}

fn a_dumpable_daemon_may_read_its_own_files_in_proc() {
    let read = |scenario: Scenario| {
        let words = [
            "sh",
            "-c",
            "cat /proc/$PPID/environ >/dev/null && echo read",
        ];
        let steps = [Step::Run(words.map(Bytes::from).to_vec())];
        scenario.initialize(steps).start().result()
    };
    assert_eq!(read(dumpable()), ["read"]);
    if !stays_dumpable() {
        assert_eq!(read(root_to_user()), [""]);
    }
}

fn without_the_option_a_daemon_of_another_user_is_out_of_reach() {
    let run = root_to_user().start();
    assert_out_of_reach(run.report().pid, UID, GID);
    assert_eq!(may_inspect(&run, UID, GID), [stays_dumpable(); 2]);
}

/// proc(5), /proc/sys/fs/suid_dumpable.
fn stays_dumpable() -> bool {
    let dumpable = fs::read_to_string("/proc/sys/fs/suid_dumpable").unwrap();
    dumpable.trim() == "1"
}

/// The owner of the files of a process that is not dumpable.
fn owner_without_the_attribute(uid: u32) -> Option<u32> {
    Some(if stays_dumpable() { uid } else { 0 })
}

fn the_privileged_action_is_not_dumpable_yet() {
    let scenario = scenario!().as_user(UID, GID).dumpable();
    let run = scenario.privileged_action([Step::Observe]).start();
    assert_eq!(run.observed().files_owner, owner_without_the_attribute(UID));
    for view in run.views() {
        assert_eq!(view.files_owner, Some(UID));
    }
}

/// The daemon changes no id.
fn a_launcher_that_is_not_dumpable_starts_a_dumpable_daemon() {
    let scenario = scenario!().as_user(UID, GID);
    let run = scenario.clone().start();
    let owner = owner_without_the_attribute(UID);
    assert_eq!(run.initial().files_owner, owner);
    assert_eq!(run.report().files_owner, owner);
    let run = scenario.dumpable().start();
    assert_eq!(run.initial().files_owner, owner);
    assert_eq!(run.report().files_owner, Some(UID));
    // The launcher stays as it is.
    let mut scenario = scenario!().as_user(UID, GID).entry(Entry::Execute);
    scenario.config.report_afterwards = true;
    let run = scenario.dumpable().start();
    let afterwards = run.first("report afterwards", |message| match message {
        Message::Afterwards(report) => Some(report.clone()),
        _ => None,
    });
    assert_eq!(afterwards.files_owner, owner);
}

fn a_dumpable_daemon_has_dropped_its_privileges() {
    let (scenario, jail) = dumpable().with_directory("jail");
    let run = scenario.chroot(&jail).no_new_privileges().start();
    assert_is(&run, UID, GID, &[GID]);
    assert_no_way_back(&run, (0, 0));
    assert_eq!(run.report().no_new_privileges, Some(true));
    assert_eq!(run.report().files_owner, Some(UID));
}

fn a_daemon_is_dumpable_in_the_foreground() {
    let (run, report) = dumpable().foreground(Foreground::Yes).serve();
    assert_eq!(report.files_owner, Some(UID));
    assert_eq!(run.outside(report.pid).files_owner, Some(UID));
}

fn the_option_changes_nothing_for_an_unchanged_user() {
    let run = scenario!().dumpable().start();
    let user = Some(sys::effective_user());
    assert_eq!(run.initial().files_owner, user);
    assert_eq!(run.report().files_owner, user);
}

#[cfg(not(target_os = "linux"))]
fn dumpable_is_refused_on_other_platforms() {
    let error = fail_before_any_fork(scenario!().dumpable());
    error.assert_is("Unsupported", "not supported on this platform: dumpable");
}
