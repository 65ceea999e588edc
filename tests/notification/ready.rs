use tester::config::ExecPid;
use tester::prelude::*;

use crate::setup::*;

pub(crate) const CASES: &[Case] = &[
    case!(systemd_is_notified_on_a_path, needs Linux),
    case!(systemd_is_notified_on_an_abstract_address, needs Linux),
    case!(systemd_is_notified_only_when_the_daemon_is_ready, needs Linux),
    case!(systemd_is_not_notified_of_a_failure, needs Linux),
    case!(systemd_is_notified_from_a_jail_without_privileges, needs Root, Linux),
    case!(the_launcher_notifies_systemd_of_the_daemon, needs Linux),
    case!(systemd_is_notified_when_a_deferred_daemon_is_ready, needs Linux),
    case!(the_manager_of_another_service_is_not_notified, needs Linux),
    case!(the_daemon_alone_holds_the_lock_while_the_launcher_notifies),
];

fn systemd_is_notified_on_a_path() {
    let (scenario, manager) = notifying(in_foreground());
    let (run, daemon) = scenario.serve();
    assert_eq!(manager.receive(), ("READY=1\n".to_owned(), daemon.pid));
    run.exit(0);
    manager.assert_silent();
}

fn systemd_is_notified_on_an_abstract_address() {
    let (manager, address) = NotificationReceiver::at_abstract_address();
    let (run, daemon) = in_foreground().env(ADDRESS, &address).serve();
    assert_eq!(manager.receive(), ("READY=1\n".to_owned(), daemon.pid));
    drop(run);
    let run = scenario!().env(ADDRESS, address).launch();
    let text = format!("MAINPID={}\nREADY=1\n", run.report().pid);
    assert_eq!(manager.receive(), (text, run.launcher_pid()));
    manager.release_launcher(&run);
    run.launcher().assert().success();
}

fn systemd_is_notified_only_when_the_daemon_is_ready() {
    for scenario in [
        in_foreground().initialize([Step::Hold]),
        in_foreground().deferring([Step::Hold], ReadinessUse::Ready),
        scenario!().initialize([Step::Hold]),
        scenario!().deferring([Step::Hold], ReadinessUse::Ready),
    ] {
        let (scenario, manager) = notifying(scenario);
        let run = scenario.launch();
        run.held();
        manager.assert_silent();
        run.proceed();
        let (text, sender) = manager.receive();
        assert!(text.ends_with("READY=1\n"), "{text}");
        assert_eq!(sender, run.launcher_pid());
    }
}

fn systemd_is_not_notified_of_a_failure() {
    for scenario in [in_foreground(), scenario!()] {
        let failing = Fallible::from(ErrorText::from("no luck"));
        let (scenario, manager) = notifying(scenario.initialize(failing));
        let run = scenario.launch();
        run.launcher_error();
        run.wait_until_all_ended();
        manager.assert_silent();
    }
}

fn systemd_is_notified_from_a_jail_without_privileges() {
    for deferred in [false, true] {
        let scenario = in_foreground().user(65534).group(65534);
        let (scenario, jail) = scenario.with_directory("jail");
        // From inside the jail the socket cannot be reached, and the jail's user may not
        // write to it.
        let (mut scenario, manager) = notifying(scenario.chroot(&jail));
        let path = scenario.path("notify");
        set_mode(&path, 0o700);
        if deferred {
            scenario = scenario.deferring([], ReadinessUse::Ready);
        }
        let (run, daemon) = scenario.serve();
        assert_eq!(manager.receive(), ("READY=1\n".to_owned(), daemon.pid));
        assert!(daemon.uid.unwrap() == 65534);
        // No descriptor of the socket is left in the daemon.
        let numbers = run.observe().descriptor_numbers();
        assert_eq!(numbers, run.initial().descriptor_numbers());
    }
}

fn the_launcher_notifies_systemd_of_the_daemon() {
    for entry in [Entry::Start, Entry::Execute] {
        let scenario = daemon!().entry(entry);
        let (scenario, manager) = notifying(scenario.privileged_action([Step::Observe]));
        let run = scenario.launch();
        let (text, sender) = manager.receive();
        // When the manager is notified, the daemon is init's child, and its pid file is
        // complete.
        let daemon = run.observe();
        let intermediate = run.observed().ppid;
        assert_eq!(text, format!("MAINPID={}\nREADY=1\n", daemon.pid));
        assert_eq!(sender, run.launcher_pid());
        assert_eq!(daemon.ppid, run.reaper());
        assert_eq!(tester::observe::process(intermediate).unwrap(), None);
        assert_eq!(run.pid_file().unwrap().bytes, content(daemon.pid));
        // The launcher waits until the manager has read the message: the manager looks
        // up the sender only then.
        manager.release_launcher(&run);
        run.launcher().assert().success();
        manager.assert_silent();
    }
}

fn systemd_is_notified_when_a_deferred_daemon_is_ready() {
    let mut deferral = Deferral::new([], ReadinessUse::Ready);
    deferral.in_thread = true;
    let (scenario, manager) = notifying(in_foreground().deferred_readiness(deferral));
    let (_run, daemon) = scenario.serve();
    assert_eq!(manager.receive(), ("READY=1\n".to_owned(), daemon.pid));
}

/// A program of another service may start a daemon of its own.
fn the_manager_of_another_service_is_not_notified() {
    for (exec_pid, is_notified) in [
        (Some(ExecPid::Parents), false),
        (Some(ExecPid::Own), true),
        (None, true),
    ] {
        for scenario in [in_foreground(), scenario!()] {
            let (scenario, manager) = notifying(scenario);
            let scenario = scenario.from_state(|state| state.exec_pid = exec_pid);
            let run = scenario.life(Life::Exit(0)).launch();
            if is_notified {
                let (text, sender) = manager.receive();
                assert!(text.ends_with("READY=1\n"), "{text}");
                assert_eq!(sender, run.launcher_pid());
                if text.starts_with("MAINPID=") {
                    manager.release_launcher(&run);
                }
            }
            run.launcher().assert().success();
            if !is_notified {
                manager.assert_silent();
            }
        }
    }
}

/// The manager takes seconds to read, and the launcher waits for it. The lock of a daemon
/// that ends meanwhile is free.
fn the_daemon_alone_holds_the_lock_while_the_launcher_notifies() {
    let (scenario, manager) = with_unread_manager(daemon!(), true);
    manager.set_read_timeout(Some(time_limit())).unwrap();
    let run = scenario.launch();
    let daemon = run.report().pid;
    // From now on the launcher waits until the manager has read everything.
    manager.recv(&mut [0; 256]).unwrap();
    run.kill_daemon();
    run.wait_until_ended(daemon);
    let pid_file = run.pid_file().unwrap();
    run.assert_launcher_waits();
    assert!(!pid_file.locked, "{pid_file:?}");
    run.launcher().assert().success();
}
