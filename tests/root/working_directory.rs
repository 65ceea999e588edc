use tester::prelude::*;

use crate::setup::*;

pub(crate) const CASES: &[Case] = &[
    case!(a_missing_working_directory_is_reported),
    case!(a_file_as_working_directory_is_reported),
    case!(a_nul_in_a_path_is_refused),
    case!(a_working_directory_outside_becomes_the_new_root, needs Root),
    case!(a_working_directory_inside_is_kept, needs Root),
    case!(the_launchers_working_directory_inside_is_kept, needs Root),
    case!(the_new_root_as_working_directory_is_kept, needs Root),
    case!(a_sibling_whose_name_starts_with_the_roots_name_is_outside, needs Root),
    case!(the_parent_of_the_new_root_is_outside, needs Root),
    case!(the_working_directory_is_resolved_before_chroot, needs Root),
    case!(a_working_directory_that_exists_only_in_the_jail_is_missing),
    case!(a_working_directory_behind_a_symbolic_link_is_kept, needs Root),
    case!(a_working_directory_that_was_moved_out_is_outside, needs Root),
    case!(a_working_directory_that_was_replaced_is_not_kept, needs Root),
    case!(a_working_directory_below_a_mount_is_not_kept, needs Root, Linux, Mounting),
];

fn a_missing_working_directory_is_reported() {
    let scenario = scenario!().working_directory("missing");
    let text = "cannot change to directory missing";
    let expected = StartError::with_errno("ChangeDirectory", libc::ENOENT, Some("missing"), text);
    scenario.assert_fails(&expected);
}

fn a_file_as_working_directory_is_reported() {
    let scenario = scenario!().working_directory("/dev/null");
    let text = "cannot change to directory /dev/null";
    let path = Some("/dev/null");
    let expected = StartError::with_errno("ChangeDirectory", libc::ENOTDIR, path, text);
    scenario.assert_fails(&expected);
}

fn a_nul_in_a_path_is_refused() {
    let path = || Bytes(b"a\0b".to_vec());
    let expected = StartError::new("PathContainsNul", Some("a\0b"), "NUL byte in path a\\u{0}b");
    for scenario in [
        scenario!().working_directory(path()),
        scenario!().chroot(path()),
    ] {
        scenario.assert_fails_in_launcher(&expected);
    }
    // The harness cannot inspect a pid file with such a path.
    for entry in [Entry::Start, Entry::Execute] {
        let mut scenario = scenario!().entry(entry).pid_file(path());
        scenario.config.initial.working_directory = Some("/".into());
        let error = scenario.launch().error_of_launcher();
        assert_eq!(error, expected);
    }
}

fn a_working_directory_outside_becomes_the_new_root() {
    let (scenario, jail) = scenario!().with_directory("jail");
    let run = scenario.chroot(&jail).start();
    let initial = run.initial().working_directory.unwrap();
    assert_ne!(initial, Place::of(&jail).unwrap());
    assert_confined(&run, &jail, &jail);
}

fn a_working_directory_inside_is_kept() {
    let (scenario, jail) = scenario!().with_directory("jail");
    scenario.create_directory("jail/a");
    let inside = scenario.create_directory("jail/a/b");
    let run = scenario.chroot(&jail).working_directory(&inside).start();
    let daemon = assert_confined(&run, &jail, &inside);
    let path = daemon.working_directory.unwrap().path;
    assert!(path.is_none_or(|path| path == *inside || path.0 == b"." || path.0 == b"/a/b"));
}

fn the_launchers_working_directory_inside_is_kept() {
    let (scenario, jail) = scenario!().with_directory("jail");
    let inside = scenario.create_directory("jail/inside");
    let scenario = scenario.from_state(|state| state.working_directory = Some((&inside).into()));
    assert_confined(&scenario.chroot(&jail).start(), &jail, &inside);
}

fn the_new_root_as_working_directory_is_kept() {
    let (scenario, jail) = scenario!().with_directory("jail");
    let run = scenario.working_directory(&jail).chroot(&jail).start();
    assert_confined(&run, &jail, &jail);
}

fn a_sibling_whose_name_starts_with_the_roots_name_is_outside() {
    let (scenario, jail) = scenario!().with_directory("jail");
    // Inside the new root, the rest of this name is a directory.
    scenario.create_directory("jail/er");
    let jailer = scenario.create_directory("jailer");
    let run = scenario.working_directory(&jailer).chroot(&jail).start();
    assert_confined(&run, &jail, &jail);
}

fn the_parent_of_the_new_root_is_outside() {
    let (scenario, parent) = scenario!().with_directory("parent");
    let jail = scenario.create_directory("parent/jail");
    let run = scenario.working_directory(&parent).chroot(&jail).start();
    assert_confined(&run, &jail, &jail);
}

fn the_working_directory_is_resolved_before_chroot() {
    let (scenario, jail) = scenario!().with_directory("jail");
    let outside = scenario.create_directory("same");
    // After chroot, the path would lead to this directory.
    scenario.create_directory("jail/same");
    let scenario = scenario.chroot(&jail).working_directory("same");
    let run = scenario.privileged_action([Step::Observe]).start();
    let before = run.observed().working_directory;
    assert_eq!(before, Some(Place::of(&outside).unwrap()));
    assert_confined(&run, &jail, &jail);
}

fn a_working_directory_that_exists_only_in_the_jail_is_missing() {
    let (scenario, jail) = scenario!().with_directory("jail");
    scenario.create_directory("jail/tester-only-here");
    let scenario = scenario.working_directory("/tester-only-here");
    let error = scenario.chroot(&jail).fail();
    error.assert_kind("ChangeDirectory", libc::ENOENT);
    assert_eq!(error.path, Some("/tester-only-here".into()));
}

fn a_working_directory_behind_a_symbolic_link_is_kept() {
    let (scenario, jail) = scenario!().with_directory("jail");
    let inside = scenario.create_directory("jail/inside");
    symlink(&inside, scenario.path("link")).unwrap();
    let run = scenario.working_directory("link").chroot(&jail).start();
    assert_confined(&run, &jail, &inside);
}

/// Another process changes the working directory inside the jail before the daemon
/// changes its root.
fn assert_not_kept_after(change: impl FnOnce(&Scenario, &Path)) {
    let (scenario, jail) = scenario!().with_directory("jail");
    let inside = scenario.create_directory("jail/inside");
    let scenario = scenario.working_directory(&inside).chroot(&jail);
    let run = scenario.clone().privileged_action([Step::Hold]).launch();
    run.held();
    change(&scenario, &inside);
    run.proceed();
    run.report();
    assert_confined(&run, &jail, &jail);
}

fn a_working_directory_that_was_moved_out_is_outside() {
    assert_not_kept_after(|scenario, inside| {
        fs::rename(inside, scenario.path("outside")).unwrap();
    });
}

fn a_working_directory_that_was_replaced_is_not_kept() {
    assert_not_kept_after(|scenario, inside| {
        fs::remove_dir(inside).unwrap();
        scenario.create_directory("jail/inside");
    });
}

/// The path of the working directory leads to the file system that covers it.
fn a_working_directory_below_a_mount_is_not_kept() {
    let programs = tempfile::tempdir().unwrap();
    let program = programs.path().join("tester-below-a-mount");
    let script = format!(
        "#!/bin/sh\nexec unshare --mount \
         sh -c 'cd jail/inside && mount -t tmpfs tester . && exec {}'\n",
        tester::tester!().display()
    );
    // Another process writes: a child that this process forks meanwhile would inherit
    // the open file, and a file that is open for writing cannot be executed.
    let written = Command::new("sh")
        .args(["-c", "printf %s \"$1\" >\"$2\" && chmod 755 \"$2\"", "sh"])
        .args([script.as_ref(), program.as_os_str()])
        .status();
    assert!(written.unwrap().success());

    let (scenario, jail) = Scenario::new(&program).with_directory("jail");
    let inside = scenario.create_directory("jail/inside");
    let run = scenario.chroot(&jail).start();
    let initial = run.initial().working_directory;
    assert_eq!(initial, Some(Place::of(&inside).unwrap()));
    assert_confined(&run, &jail, &jail);
}
