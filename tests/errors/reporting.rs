use tester::prelude::*;

pub(crate) const CASES: &[Case] = &[
    case!(a_failed_start_leaves_nothing),
    case!(every_entry_point_reports_every_failure_of_a_closure),
    case!(checked_starts_report_the_same_error),
    case!(a_failure_is_printed_once_if_launcher_and_daemon_print_it),
    case!(a_worker_that_shares_all_descriptors_does_not_delay_a_failure),
];

fn a_failed_start_leaves_nothing() {
    let error = scenario!().pid_file("missing/daemon.pid").fail();
    error.assert_kind("OpenPidfile", libc::ENOENT);
    assert_eq!(error.errno, Some(libc::ENOENT));
    assert!(error.text.contains("missing/daemon.pid"), "{error}");
}

fn every_entry_point_reports_every_failure_of_a_closure() {
    let panic = || [Step::Panic("out of luck".to_owned())];
    let error = || Fallible::from(ErrorText::from("no luck"));
    const ACTION: &str = "PrivilegedAction";
    for entry in ENTRIES {
        let first = [Step::Add("first".to_owned())];
        let both = scenario!()
            .try_privileged_action(error())
            .initialize(panic());
        let cases = [
            (scenario!().privileged_action(panic()), "Panicked"),
            (scenario!().try_privileged_action(panic()), "Panicked"),
            (scenario!().initialize(panic()), "Panicked"),
            (scenario!().try_privileged_action(error()), ACTION),
            (scenario!().initialize(error()), "Initialize"),
            (
                scenario!().initialize(first).initialize(error()),
                "Initialize",
            ),
            // The first failure is reported.
            (both.deferring([], ReadinessUse::Drop), ACTION),
        ];
        for (scenario, kind) in cases {
            let run = scenario.pid_file("daemon.pid").entry(entry).launch();
            let error = run.launcher_error();
            assert_eq!(error.kind, kind);
            if entry.returns_in_both() {
                assert_eq!(run.daemon_error(), error);
            }
            run.wait_until_all_ended();
            run.assert_pid_file_released();
            assert!(!run.has_sent(|message| matches!(message, Message::Daemon(_))));
        }
    }
}

fn checked_starts_report_the_same_error() {
    let scenario = scenario!().working_directory("missing");
    let expected = scenario.fail_in_launcher();
    let checked = scenario.clone().entry(Entry::StartChecked);
    assert_eq!(checked.fail_in_launcher(), expected);
    let run = scenario.entry(Entry::ExecuteChecked).launch();
    assert_eq!(run.launcher_error(), expected);
    assert_eq!(run.daemon_error(), expected);
}

/// `Outcome::Parent(Err(error)) | Outcome::Child(Err(error)) => eprintln!(..)` does so.
fn a_failure_is_printed_once_if_launcher_and_daemon_print_it() {
    let panic = [Step::Panic("panic".to_owned())];
    let cases = [
        (scenario!().working_directory("missing"), "ChangeDirectory"),
        (scenario!().pid_file("missing/daemon.pid"), "OpenPidfile"),
        (daemon!().privileged_action(panic), "Panicked"),
        (daemon!().privileged_action([]).chroot("missing"), "Chroot"),
    ];
    let keep = |scenario: Scenario| {
        let mut scenario = scenario.stderr(Stream::Keep);
        scenario.config.end_failed_daemon = true;
        // The panic hook would print the program's own message.
        let silent = Some(PanicHook::Silent);
        scenario.from_state(|state| state.panic_hook = silent)
    };
    for (scenario, kind) in cases {
        for (mut scenario, reported) in [(scenario.clone(), 1), (keep(scenario), 0)] {
            scenario.config.failed_daemon_prints = true;
            for entry in [Entry::Execute, Entry::ExecuteChecked] {
                let run = scenario.clone().entry(entry).launch();
                let error = run.launcher_error();
                assert_eq!(error.kind_name(), kind);
                run.wait_until_all_ended();
                run.assert_errors(1, reported);
                let line = format!("tester: {}\n", error.text);
                run.launcher().assert().stderr(line);
            }
        }
    }
}

fn a_worker_that_shares_all_descriptors_does_not_delay_a_failure() {
    let with_worker = daemon!().privileged_action([Step::ForkWorker]);
    for scenario in [
        daemon!().privileged_action([Step::ForkWorker, Step::Panic("panic".to_owned())]),
        with_worker.chroot("missing"),
    ] {
        let run = scenario.launch();
        assert!(["Panicked", "Chroot"].contains(&run.launcher_error().kind_name()));
        run.assert_nothing_left_but(&[run.worker()]);
        // The next start gets the file.
        let mut next = scenario.clone();
        next.config.privileged_action = None;
        next.config.options.chroot = None;
        next.start();
    }
}
