//! After chroot a daemon is in its new root, and nothing leads out.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, ExitCode};

use tester::config::{Entry, Step};
use tester::report::{FileType, Place, Report};
use tester::{Run, Scenario, case, scenario, suite, sys};

fn main() -> ExitCode {
    suite(&[
        case!(a_working_directory_outside_becomes_the_new_root, needs Root),
        case!(a_working_directory_inside_is_kept, needs Root),
        case!(a_launchers_working_directory_inside_is_kept, needs Root),
        case!(the_new_root_as_working_directory_is_kept, needs Root),
        case!(a_neighbour_of_a_similar_name_is_outside, needs Root),
        case!(the_parent_of_the_new_root_is_outside, needs Root),
        case!(the_working_directory_is_resolved_before_chroot, needs Root),
        case!(a_working_directory_that_only_the_jail_has_is_missing),
        case!(a_relative_root_starts_at_the_working_directory, needs Root),
        case!(the_working_directory_itself_can_be_the_root, needs Root),
        case!(a_root_may_be_reached_through_a_link, needs Root),
        case!(a_working_directory_reached_through_a_link_is_kept, needs Root),
        case!(a_working_directory_that_was_moved_out_is_outside, needs Root),
        case!(a_working_directory_that_was_replaced_is_not_kept, needs Root),
        case!(a_working_directory_below_a_mount_is_not_kept, needs Root, Linux, Mounting),
        case!(the_old_root_as_the_new_one_changes_nothing, needs Root),
        case!(an_empty_jail_is_enough, needs Root),
        case!(nothing_outside_can_be_reached, needs Root),
        case!(nothing_outside_can_be_reached_with_a_pid_file, needs Root),
        case!(no_descriptor_of_the_library_is_a_directory, needs Root),
        case!(a_missing_root_is_told),
        case!(a_file_is_no_root),
        case!(an_ordinary_user_cannot_change_root),
        case!(a_nul_in_the_roots_path_is_refused),
        case!(a_failed_chroot_is_told_on_both_sides),
        case!(the_pid_file_is_outside_the_jail, needs Root),
        case!(root_and_user_change_together, needs Root, Tracing),
    ])
}

/// Both views agree that this is the daemon's root and this its working
/// directory.
#[track_caller]
fn assert_confined(run: &Run, root: &Path, working_directory: &Path) -> Report {
    let daemon = run.assert_views_agree();
    let place = |path| Some(Place::of(path).unwrap());
    assert_eq!(daemon.root, place(root));
    assert_eq!(daemon.working_directory, place(working_directory));
    daemon
}

fn a_working_directory_outside_becomes_the_new_root() {
    let scenario = scenario!();
    let jail = scenario.create_folder("jail");
    let run = scenario.chroot(&jail).start();
    let initial = run.initial().working_directory.unwrap();
    assert_ne!(initial, Place::of(&jail).unwrap());
    assert_confined(&run, &jail, &jail);
}

fn a_working_directory_inside_is_kept() {
    let scenario = scenario!();
    let jail = scenario.create_folder("jail");
    scenario.create_folder("jail/a");
    let inside = scenario.create_folder("jail/a/b");
    let run = scenario.chroot(&jail).working_directory(&inside).start();
    let daemon = assert_confined(&run, &jail, &inside);
    let path = daemon.working_directory.unwrap().path;
    assert!(path.is_none_or(|path| path == *inside || path.0 == b"." || path.0 == b"/a/b"));
}

fn a_launchers_working_directory_inside_is_kept() {
    let scenario = scenario!();
    let jail = scenario.create_folder("jail");
    let inside = scenario.create_folder("jail/inside");
    let scenario = scenario.from_state(|state| state.working_directory = Some((&inside).into()));
    assert_confined(&scenario.chroot(&jail).start(), &jail, &inside);
}

fn the_new_root_as_working_directory_is_kept() {
    let scenario = scenario!();
    let jail = scenario.create_folder("jail");
    let run = scenario.working_directory(&jail).chroot(&jail).start();
    assert_confined(&run, &jail, &jail);
}

fn a_neighbour_of_a_similar_name_is_outside() {
    let scenario = scenario!();
    let jail = scenario.create_folder("jail");
    // Through the new root, this name leads somewhere.
    scenario.create_folder("jail/er");
    let jailer = scenario.create_folder("jailer");
    let run = scenario.working_directory(&jailer).chroot(&jail).start();
    assert_confined(&run, &jail, &jail);
}

fn the_parent_of_the_new_root_is_outside() {
    let scenario = scenario!();
    let parent = scenario.create_folder("parent");
    let jail = scenario.create_folder("parent/jail");
    let run = scenario.working_directory(&parent).chroot(&jail).start();
    assert_confined(&run, &jail, &jail);
}

fn the_working_directory_is_resolved_before_chroot() {
    let scenario = scenario!();
    let jail = scenario.create_folder("jail");
    let outside = scenario.create_folder("same");
    // Resolved afterwards, it would be this one.
    scenario.create_folder("jail/same");
    let run = scenario
        .chroot(&jail)
        .working_directory("same")
        .privileged_action([Step::Observe])
        .start();
    let before = run.observed().working_directory;
    assert_eq!(before, Some(Place::of(&outside).unwrap()));
    assert_confined(&run, &jail, &jail);
}

fn a_working_directory_that_only_the_jail_has_is_missing() {
    let scenario = scenario!();
    let jail = scenario.create_folder("jail");
    scenario.create_folder("jail/tester-only-here");
    let scenario = scenario.working_directory("/tester-only-here");
    let error = scenario.chroot(&jail).fail();
    assert_eq!(error.kind, format!("ChangeDirectory({})", libc::ENOENT));
    assert_eq!(error.path, Some("/tester-only-here".into()));
}

fn a_relative_root_starts_at_the_working_directory() {
    let scenario = scenario!();
    let top = scenario.create_folder("jail");
    assert_confined(&scenario.clone().chroot("jail").start(), &top, &top);
    scenario.create_folder("sub");
    let jail = scenario.create_folder("sub/jail");
    let run = scenario.working_directory("sub").chroot("jail").start();
    assert_confined(&run, &jail, &jail);
}

fn the_working_directory_itself_can_be_the_root() {
    let scenario = scenario!();
    let jail = scenario.create_folder("jail");
    let run = scenario.working_directory(&jail).chroot(".").start();
    assert_confined(&run, &jail, &jail);
}

fn a_root_may_be_reached_through_a_link() {
    let scenario = scenario!();
    let jail = scenario.create_folder("jail");
    let inside = scenario.create_folder("jail/inside");
    symlink("jail", scenario.path("link")).unwrap();
    let run = scenario.clone().chroot("link").start();
    assert_confined(&run, &jail, &jail);
    let run = scenario.working_directory("jail/inside").chroot("..");
    assert_confined(&run.start(), &jail, &inside);
}

fn a_working_directory_reached_through_a_link_is_kept() {
    let scenario = scenario!();
    let jail = scenario.create_folder("jail");
    let inside = scenario.create_folder("jail/inside");
    symlink(&inside, scenario.path("link")).unwrap();
    let run = scenario.working_directory("link").chroot(&jail).start();
    assert_confined(&run, &jail, &inside);
}

/// The privileged action, or anybody else, changes the working directory inside
/// the jail before the root changes.
fn assert_not_kept_after(change: impl FnOnce(&Scenario, &Path)) {
    let scenario = scenario!();
    let jail = scenario.create_folder("jail");
    let inside = scenario.create_folder("jail/inside");
    let scenario = scenario.working_directory(&inside).chroot(&jail);
    let scenario = scenario.privileged_action([Step::Hold]);
    let run = scenario.launch();
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
        scenario.create_folder("jail/inside");
    });
}

/// Its path then leads to what covers it.
fn a_working_directory_below_a_mount_is_not_kept() {
    let programs = tempfile::tempdir().unwrap();
    let program = programs.path().join("tester-below-a-mount");
    let script = format!(
        "#!/bin/sh\nexec unshare --mount \
         sh -c 'cd jail/inside && mount -t tmpfs tester . && exec {}'\n",
        tester::tester!().display()
    );
    // Not by this process: what it forks meanwhile would keep the file open
    // for writing, and so from being run.
    let written = Command::new("sh")
        .args(["-c", "printf %s \"$1\" >\"$2\" && chmod 755 \"$2\"", "sh"])
        .args([script.as_ref(), program.as_os_str()])
        .status();
    assert!(written.unwrap().success());

    let scenario = Scenario::new(&program);
    let jail = scenario.create_folder("jail");
    let inside = scenario.create_folder("jail/inside");
    let run = scenario.chroot(&jail).start();
    let initial = run.initial().working_directory;
    assert_eq!(initial, Some(Place::of(&inside).unwrap()));
    assert_confined(&run, &jail, &jail);
}

fn the_old_root_as_the_new_one_changes_nothing() {
    let scenario = scenario!();
    let run = scenario.clone().chroot("/").start();
    assert_confined(&run, Path::new("/"), scenario.folder());
}

fn an_empty_jail_is_enough() {
    let scenario = scenario!();
    let jail = scenario.create_folder("jail");
    let run = scenario.chroot(&jail).start();
    let daemon = run.report();
    for number in 0..=2 {
        assert!(daemon.descriptor(number).unwrap().is_null_device());
    }
    assert_eq!(fs::read_dir(&jail).unwrap().count(), 0);
}

fn nothing_outside_can_be_reached() {
    let scenario = scenario!();
    let jail = scenario.create_folder("jail");
    let inside = scenario.create_folder("jail/inside");
    for working_directory in [scenario.folder(), &inside, Path::new("/")] {
        let scenario = scenario.clone().working_directory(working_directory);
        let run = scenario.chroot(&jail).start();
        assert_eq!(run.try_to_escape(), [Place::of(&jail).unwrap()]);
    }
}

fn nothing_outside_can_be_reached_with_a_pid_file() {
    let scenario = scenario!().pid_file("daemon.pid");
    let jail = scenario.create_folder("jail");
    let run = scenario.chroot(&jail).start();
    assert_eq!(run.try_to_escape(), [Place::of(&jail).unwrap()]);
}

fn no_descriptor_of_the_library_is_a_directory() {
    let scenario = scenario!().pid_file("daemon.pid");
    let jail = scenario.create_folder("jail");
    let run = scenario.chroot(&jail).start();
    let (before, daemon) = (run.initial().descriptor_numbers(), run.report());
    let descriptors = daemon.descriptors.unwrap();
    let of_the_library: Vec<_> = descriptors
        .iter()
        .filter(|descriptor| !before.contains(&descriptor.number))
        .map(|descriptor| descriptor.file_type)
        .collect();
    assert_eq!(of_the_library, [FileType::Regular]);
}

fn a_missing_root_is_told() {
    let scenario = scenario!().pid_file("daemon.pid");
    let error = scenario.chroot("missing/jail").fail();
    assert_eq!(error.kind, format!("Chroot({})", libc::ENOENT));
    assert_eq!(error.errno, Some(libc::ENOENT));
    assert_eq!(error.path, Some("missing/jail".into()));
    let start = "cannot change root directory to missing/jail: No such file";
    assert!(error.text.starts_with(start), "{error}");
}

fn a_file_is_no_root() {
    let scenario = scenario!();
    let file = scenario.path("file");
    fs::write(&file, "").unwrap();
    let error = scenario.chroot(&file).fail();
    assert_eq!(error.kind, format!("Chroot({})", libc::ENOTDIR));
    assert_eq!(error.path, Some((&file).into()));
}

fn an_ordinary_user_cannot_change_root() {
    let mut scenario = scenario!();
    if sys::effective_user() == 0 {
        scenario = scenario.as_user(4_000_000_001, 4_000_000_001);
    }
    let jail = scenario.create_folder("jail");
    let error = scenario.chroot(&jail).fail();
    assert_eq!(error.kind, format!("Chroot({})", libc::EPERM));
}

fn a_nul_in_the_roots_path_is_refused() {
    let error = scenario!().chroot("jail\0").fail();
    assert_eq!(error.kind, "PathContainsNul");
    assert_eq!(error.path, Some("jail\0".into()));
    assert!(!error.text.contains('\0'), "{error}");
}

fn a_failed_chroot_is_told_on_both_sides() {
    let scenario = scenario!().pid_file("daemon.pid").chroot("missing");
    let run = scenario.entry(Entry::Execute).launch();
    let error = run.launcher_error();
    assert_eq!(error.kind, format!("Chroot({})", libc::ENOENT));
    assert_eq!(run.daemon_error(), error);
    run.wait_until_all_ended();
}

fn the_pid_file_is_outside_the_jail() {
    let scenario = scenario!();
    let jail = scenario.create_folder("jail");
    let absolute = scenario.path("daemon.pid");
    for path in [Path::new("daemon.pid"), &absolute] {
        let run = scenario.clone().pid_file(path).chroot(&jail).start();
        let pid_file = run.launcher().pid_file.unwrap();
        assert_eq!(
            pid_file.bytes,
            format!("{}\n", run.report().pid).into_bytes()
        );
        assert!(pid_file.locked);
        assert_eq!(fs::read_dir(&jail).unwrap().count(), 0);
        run.exit(0);
    }
}

fn root_and_user_change_together() {
    let scenario = scenario!().user(4_000_000_001).group(4_000_000_002);
    let jail = scenario.create_folder("jail");
    let inside = scenario.create_folder("jail/inside");
    let scenario = scenario.chroot(&jail).working_directory(&inside);
    let run = scenario.pid_file("daemon.pid").start();
    let daemon = assert_confined(&run, &jail, &inside);
    assert!(daemon.uid.unwrap() == 4_000_000_001);
    assert_eq!(daemon.groups, Some(vec![4_000_000_002]));
    assert_eq!(run.try_to_escape(), [Place::of(&jail).unwrap()]);
    assert_eq!(run.try_to_regain(0, 0).succeeded, [""; 0]);
}
