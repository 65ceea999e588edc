use tester::prelude::*;

use crate::setup::*;

pub(crate) const CASES: &[Case] = &[
    case!(umask_and_working_directory_are_as_configured),
    case!(a_umask_that_is_not_set_is_kept),
    case!(identity_and_root_are_as_configured, needs Root, OtherUsers),
    case!(the_pid_file_names_the_process_and_is_locked),
    case!(a_second_start_is_refused),
    case!(closures_run_as_in_the_background),
];

fn umask_and_working_directory_are_as_configured() {
    let (scenario, directory) = in_foreground().with_directory("home");
    let scenario = scenario.working_directory(&directory).umask(0o077_u32);
    let (_run, daemon) = scenario.serve();
    assert_eq!(daemon.umask, Some(0o077));
    let directory = Place::of(&directory).unwrap();
    assert_eq!(daemon.working_directory, Some(directory));
}

fn a_umask_that_is_not_set_is_kept() {
    for umask in [0o002, 0o077] {
        let scenario = daemon!().foreground(Foreground::Yes);
        let (run, daemon) = scenario
            .from_state(|state| state.umask = Some(umask))
            .serve();
        assert_eq!(daemon.umask, Some(umask));
        assert_eq!(run.pid_file().unwrap().mode, 0o644 & !umask);
    }
}

fn identity_and_root_are_as_configured() {
    let (scenario, jail) = daemon!().foreground(Foreground::Yes).with_directory("jail");
    let scenario = scenario
        .user(65534)
        .group(65534)
        .chown_pid_file_user(65534)
        .chroot(&jail);
    let (run, daemon) = scenario.serve();
    assert!(daemon.uid.unwrap() == 65534 && daemon.gid.unwrap() == 65534);
    if let Some(sets) = daemon.capabilities {
        assert_eq!((sets.permitted, sets.effective), (0, 0));
    }
    let jail = Place::of(&jail).unwrap();
    if let Some(root) = daemon.root {
        assert_eq!(root, jail);
    }
    assert_eq!(daemon.working_directory, Some(jail.clone()));
    assert_eq!(run.pid_file().unwrap().uid, 65534);
    assert_eq!(run.try_to_regain(0, 0).succeeded, [""; 0]);
    assert_eq!(run.try_to_escape(), [jail]);
}

fn the_pid_file_names_the_process_and_is_locked() {
    let (run, _) = daemon!().foreground(Foreground::Yes).serve();
    run.assert_pid_file_held();
    run.exit(0);
    assert!(!run.pid_file().unwrap().locked);
}

fn a_second_start_is_refused() {
    let scenario = daemon!().foreground(Foreground::Yes);
    let (run, daemon) = scenario.serve();
    let error = scenario.launch().launcher_error();
    assert_eq!(error.kind_name(), "LockPidfile");
    assert_eq!(error.running_pid, Some(daemon.pid));
    run.assert_pid_file_held();
}

fn closures_run_as_in_the_background() {
    let add = |part: &str| vec![Step::Add(part.to_owned())];
    let scenario = in_foreground()
        .try_privileged_action(add("action"))
        .initialize(add("initialize"))
        .deferring([Step::Observe], ReadinessUse::Ready);
    let (run, daemon) = scenario.serve();
    assert_eq!(run.observed().pid, daemon.pid);
    run.await_message(&Message::Acknowledged);
    let expected = vec!["action".to_owned(), "initialize".to_owned()];
    run.await_message(&Message::Result(expected.clone()));
}
