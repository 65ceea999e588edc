use tester::prelude::*;

use crate::setup::*;

pub(crate) const CASES: &[Case] = &[
    case!(a_relative_path_starts_at_the_working_directory, needs Root),
    case!(the_working_directory_can_be_the_new_root, needs Root),
    case!(a_new_root_may_be_behind_a_symbolic_link, needs Root),
    case!(the_former_root_as_new_root_changes_nothing, needs Root),
    case!(an_empty_jail_is_enough, needs Root),
    case!(root_and_user_change_together, needs Root, Tracing),
    case!(a_missing_root_is_reported),
    case!(a_missing_root_is_reported_to_launcher_and_daemon),
    case!(a_failed_chroot_is_reported_under_execute),
    case!(a_file_as_root_is_reported),
    case!(a_nul_in_the_roots_path_is_refused),
    case!(an_ordinary_user_cannot_change_root),
    case!(the_error_says_what_changing_the_root_takes),
    case!(a_jail_that_is_moved_away_during_the_start_is_reported, needs Root),
];

fn a_relative_path_starts_at_the_working_directory() {
    let (scenario, top) = scenario!().with_directory("jail");
    assert_confined(&scenario.clone().chroot("jail").start(), &top, &top);
    scenario.create_directory("sub");
    let jail = scenario.create_directory("sub/jail");
    let run = scenario.working_directory("sub").chroot("jail").start();
    assert_confined(&run, &jail, &jail);
}

fn the_working_directory_can_be_the_new_root() {
    let (scenario, jail) = scenario!().with_directory("jail");
    let run = scenario.working_directory(&jail).chroot(".").start();
    assert_confined(&run, &jail, &jail);
}

fn a_new_root_may_be_behind_a_symbolic_link() {
    let (scenario, jail) = scenario!().with_directory("jail");
    let inside = scenario.create_directory("jail/inside");
    symlink("jail", scenario.path("link")).unwrap();
    let run = scenario.clone().chroot("link").start();
    assert_confined(&run, &jail, &jail);
    let run = scenario.working_directory("jail/inside").chroot("..");
    assert_confined(&run.start(), &jail, &inside);
}

fn the_former_root_as_new_root_changes_nothing() {
    let scenario = scenario!();
    let run = scenario.clone().chroot("/").start();
    assert_confined(&run, Path::new("/"), scenario.directory());
}

fn an_empty_jail_is_enough() {
    let (scenario, jail) = scenario!().with_directory("jail");
    let run = scenario.chroot(&jail).start();
    let daemon = run.report();
    for number in 0..=2 {
        assert!(daemon.descriptor(number).unwrap().is_null_device());
    }
    assert_eq!(fs::read_dir(&jail).unwrap().count(), 0);
}

fn root_and_user_change_together() {
    let (scenario, jail) = scenario!().user(UID).group(GID).with_directory("jail");
    let inside = scenario.create_directory("jail/inside");
    let scenario = scenario.chroot(&jail).working_directory(&inside);
    let run = scenario.pid_file("daemon.pid").start();
    let daemon = assert_confined(&run, &jail, &inside);
    assert!(daemon.uid.unwrap() == UID);
    assert_eq!(daemon.groups, Some(vec![GID]));
    assert_eq!(run.try_to_escape(), [Place::of(&jail).unwrap()]);
    assert_eq!(run.try_to_regain(0, 0).succeeded, [""; 0]);
}

fn a_missing_root_is_reported() {
    let error = daemon!().chroot("missing/jail").fail();
    error.assert_kind("Chroot", libc::ENOENT);
    assert_eq!(error.errno, Some(libc::ENOENT));
    assert_eq!(error.path, Some("missing/jail".into()));
    let reason = errno_text(libc::ENOENT);
    let start = format!("cannot change root directory to missing/jail: {reason}");
    assert!(error.text.starts_with(&start), "{error}");
}

fn a_missing_root_is_reported_to_launcher_and_daemon() {
    let scenario = scenario!().chroot("missing").pid_file("daemon.pid");
    let text = "cannot change root directory to missing";
    let expected = StartError::with_errno("Chroot", libc::ENOENT, Some("missing"), text);
    scenario.assert_fails(&expected);
}

fn a_failed_chroot_is_reported_under_execute() {
    let run = daemon!().chroot("missing").entry(Entry::Execute).launch();
    let error = run.launcher_error();
    error.assert_kind("Chroot", libc::ENOENT);
    assert_eq!(run.daemon_error(), error);
    run.wait_until_all_ended();
}

fn a_file_as_root_is_reported() {
    let scenario = scenario!();
    let file = scenario.path("file");
    fs::write(&file, "").unwrap();
    let error = scenario.chroot(&file).fail();
    error.assert_kind("Chroot", libc::ENOTDIR);
    assert_eq!(error.path, Some((&file).into()));
}

fn a_nul_in_the_roots_path_is_refused() {
    let error = scenario!().chroot("jail\0").fail();
    assert_eq!(error.kind, "PathContainsNul");
    assert_eq!(error.path, Some("jail\0".into()));
    assert!(!error.text.contains('\0'), "{error}");
}

fn an_ordinary_user_cannot_change_root() {
    let (scenario, jail) = scenario!().as_ordinary_user().with_directory("jail");
    let error = scenario.chroot(&jail).fail();
    error.assert_kind("Chroot", libc::EPERM);
}

fn the_error_says_what_changing_the_root_takes() {
    let scenario = daemon!().as_ordinary_user().chroot("/");
    let text = "cannot change root directory to /";
    let takes = ("changing the root directory", "CAP_SYS_CHROOT");
    let expected = StartError::refused(&scenario, "Chroot", Some("/"), text, takes);
    scenario.assert_fails(&expected);
}

fn a_jail_that_is_moved_away_during_the_start_is_reported() {
    let (scenario, jail) = daemon!().with_directory("jail");
    let moved = scenario.path("moved");
    let scenario = scenario.chroot(&jail);
    let run = scenario.privileged_action([Step::Hold]).launch();
    run.held();
    fs::rename(&jail, &moved).unwrap();
    run.proceed();
    let error = run.launcher_error();
    error.assert_kind("Chroot", libc::ENOENT);
    assert_eq!(error.path, Some((&jail).into()));
    run.assert_nothing_left();
}
