use tester::control::Command;
use tester::prelude::*;

use crate::setup::*;

pub(crate) const CASES: &[Case] = &[
    case!(a_umask_that_hinders_the_daemon_is_found),
    case!(a_usual_umask_is_no_finding),
    case!(a_directory_on_another_file_system_is_found, needs Linux),
    case!(a_directory_that_was_removed_is_found, needs Linux),
    case!(a_directory_of_the_root_file_system_is_no_finding),
    case!(a_directory_outside_of_the_root_is_found, needs Root, Linux, Tracing),
    case!(a_root_directory_that_root_can_leave_is_found, needs Root),
    case!(a_root_directory_of_an_ordinary_user_is_no_finding, needs Root, Tracing),
];

fn a_umask_that_hinders_the_daemon_is_found() {
    let checkup = inspect_daemon(&clean().umask(0o277_u32));
    match cfg!(target_os = "macos") {
        true => checkup.assert_unknown("umask", ""),
        false => checkup.assert_only("umask", "cannot use itself"),
    }
}

fn a_usual_umask_is_no_finding() {
    for umask in [0, 0o002, 0o022, 0o027, 0o077_u32] {
        inspect_daemon(&clean().umask(umask)).assert_findings(&[]);
    }
}

fn a_directory_on_another_file_system_is_found() {
    let checkup = inspect_daemon(&clean().working_directory("/proc"));
    checkup.assert_only("working directory", "blocks an unmount");
}

fn a_directory_that_was_removed_is_found() {
    let scenario = clean();
    let directory = scenario.create_directory("directory");
    let run = scenario.working_directory(directory.as_path()).start();
    fs::remove_dir(&directory).unwrap();
    let checkup = inspect(run.report().pid);
    checkup.assert_only("working directory", "it was removed");
}

fn a_directory_of_the_root_file_system_is_no_finding() {
    inspect_daemon(&clean().working_directory("/etc")).assert_findings(&[]);
}

fn in_chroot(scenario: Scenario) -> Scenario {
    let root = scenario.create_directory("root");
    scenario.chroot(root.as_path())
}

fn a_directory_outside_of_the_root_is_found() {
    let scenario = in_chroot(with_file(clean().user(UID).group(GID), "/".as_ref(), true));
    let run = scenario.start();
    let checkup = inspect(run.report().pid);
    checkup.assert_only(&checked(), "it leads out of the root directory");
    run.send_command(&Command::TryToEscape);
    // The daemon answers this command after the attempt.
    run.observe();
    let checkup = inspect(run.report().pid);
    checkup.assert_finding("working directory", "outside of the root directory");
}

fn a_root_directory_that_root_can_leave_is_found() {
    let checkup = inspect_daemon(&in_chroot(clean()));
    checkup.assert_only("root directory", "root leaves it");
}

fn a_root_directory_of_an_ordinary_user_is_no_finding() {
    let checkup = inspect_daemon(&in_chroot(clean().user(UID).group(GID)));
    checkup.assert_findings(&[]);
    checkup.assert_ok("root directory", "it confines");
}
