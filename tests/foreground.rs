//! Without forks all else is as configured; and systemd hears that the daemon
//! is ready, whichever process that is.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, ExitCode};

use tester::config::{
    Deferral, Disposition, Entry, ErrorText, ExecPid, Fallible, Foreground, ReadinessUse, Step,
    Stream,
};
use tester::control::Message;
use tester::report::{Place, Report};
use tester::{Run, Scenario, case, control, scenario, subject, suite};

fn main() -> ExitCode {
    suite(&[
        case!(the_process_stays_the_same),
        case!(false_means_in_the_background),
        case!(execute_returns_the_child),
        case!(unset_streams_are_kept),
        case!(streams_that_are_set_are_redirected),
        case!(a_kept_stream_that_is_closed_is_the_null_device),
        case!(no_stray_descriptor_is_left),
        case!(the_signals_are_left_alone),
        case!(umask_and_working_directory_are_as_configured),
        case!(a_umask_that_is_not_set_is_kept),
        case!(identity_and_root_are_as_configured, needs Root),
        case!(the_pid_file_is_this_process_and_locked),
        case!(a_second_one_is_refused),
        case!(other_threads_are_no_hindrance),
        case!(other_threads_fail_what_they_would_miss, needs Linux),
        case!(closures_run_as_ever),
        case!(a_failure_is_returned_and_clears_the_pid_file),
        case!(a_failure_before_the_first_step_is_returned_too),
        case!(a_failure_to_get_ready_ends_the_process),
        case!(systemd_is_told_on_a_path, needs Linux),
        case!(systemd_is_told_on_an_abstract_address, needs Linux),
        case!(systemd_is_told_only_when_ready, needs Linux),
        case!(systemd_is_not_told_of_a_failure, needs Linux),
        case!(systemd_is_told_from_a_jail_without_privileges, needs Root, Linux),
        case!(systemd_is_told_of_the_daemon_by_the_launcher, needs Linux),
        case!(systemd_is_told_when_a_deferred_daemon_is_ready, needs Linux),
        case!(the_manager_of_another_service_is_not_told, needs Linux),
        case!(a_broken_address_does_not_fail_a_start),
        case!(a_failed_notification_is_a_line_on_standard_error),
        case!(a_notification_that_fails_late_is_a_line_on_standard_error),
        case!(a_failed_notification_without_standard_error_does_not_fail_the_start),
        case!(supervised_means_an_address_that_is_meant_for_this_process),
        case!(supervised_is_false_in_a_set_user_id_program, needs Root),
    ])
}

fn in_foreground() -> Scenario {
    scenario!().foreground(Foreground::Yes)
}

/// Starts; the launcher is the daemon, and does not end.
#[track_caller]
fn serve(scenario: &Scenario) -> (Run, Report) {
    let run = scenario.launch();
    let report = run.report();
    assert_eq!(report.pid, run.launcher_pid(), "{}", run.account());
    (run, report)
}

// --- The process -------------------------------------------------------------

fn the_process_stays_the_same() {
    for entry in [Entry::Start, Entry::StartChecked] {
        let (run, daemon) = serve(&in_foreground().entry(entry));
        let initial = run.initial();
        assert_eq!(
            (daemon.pid, daemon.ppid, daemon.pgid, daemon.sid),
            (initial.pid, initial.ppid, initial.pgid, initial.sid)
        );
        assert_eq!(daemon.terminal, initial.terminal);
        assert_eq!(run.processes().len(), 1, "{}", run.account());
        run.exit(7);
        run.launcher().assert().code(7);
    }
}

fn false_means_in_the_background() {
    let run = scenario!().foreground(Foreground::No).start();
    run.report().assert_detached();
    assert_ne!(run.report().pid, run.launcher_pid());
}

fn execute_returns_the_child() {
    for entry in [Entry::Execute, Entry::ExecuteChecked] {
        let scenario = in_foreground().entry(entry);
        let (run, _) = serve(&scenario.privileged_action([Step::Add("value".to_owned())]));
        run.message("the result", |frame| {
            (frame.message == Message::Result(vec!["value".to_owned()])).then_some(())
        });
        run.exit(0);
        let returned_twice = |message: &Message| matches!(message, Message::LauncherReturned(_));
        assert!(
            !run.messages()
                .iter()
                .any(|frame| returned_twice(&frame.message))
        );
    }
}

// --- Streams and signals -----------------------------------------------------

fn unset_streams_are_kept() {
    let (run, daemon) = serve(&in_foreground());
    let initial = run.initial();
    for number in 0..=2 {
        assert_eq!(daemon.descriptor(number), initial.descriptor(number));
        assert!(!daemon.descriptor(number).unwrap().is_null_device());
    }
}

fn streams_that_are_set_are_redirected() {
    let scenario = in_foreground();
    let log = scenario.path("log");
    let (run, daemon) = serve(&scenario.stdin(Stream::DevNull).stdout(Stream::append(&log)));
    assert!(daemon.descriptor(0).unwrap().is_null_device());
    assert!(daemon.descriptor(1).unwrap().is_file(&log));
    assert_eq!(daemon.descriptor(2), run.initial().descriptor(2));
}

fn a_kept_stream_that_is_closed_is_the_null_device() {
    let scenario = in_foreground().from_state(|state| state.closed = [true, false, true]);
    let (run, daemon) = serve(&scenario);
    assert!(daemon.descriptor(0).unwrap().is_null_device());
    assert_eq!(daemon.descriptor(1), run.initial().descriptor(1));
    assert!(daemon.descriptor(2).unwrap().is_null_device());
}

fn no_stray_descriptor_is_left() {
    let (run, daemon) = serve(&in_foreground());
    assert_eq!(
        daemon.descriptor_numbers(),
        run.initial().descriptor_numbers()
    );
    // The pid file is the only one.
    let (run, daemon) = serve(&in_foreground().pid_file("daemon.pid"));
    let initial = run.initial().descriptor_numbers();
    let added: Vec<_> = daemon
        .descriptor_numbers()
        .into_iter()
        .filter(|number| !initial.contains(number))
        .collect();
    assert_eq!(added.len(), 1, "{added:?}");
    let pid_file = daemon.descriptor(added[0]).unwrap();
    assert!(pid_file.close_on_exec && added[0] > 2, "{pid_file:?}");
}

fn the_signals_are_left_alone() {
    let (run, daemon) = serve(&in_foreground().from_state(|state| {
        state.dispositions = vec![
            (libc::SIGHUP, Disposition::Ignore),
            (libc::SIGUSR1, Disposition::Handle),
        ];
        state.blocked = tester::config::Blocked::These(vec![libc::SIGUSR2]);
    }));
    let initial = run.initial();
    assert_eq!(daemon.blocked_signals, initial.blocked_signals);
    assert_eq!(daemon.ignored_signals, initial.ignored_signals);
    assert_eq!(daemon.caught_signals, initial.caught_signals);
}

// --- Options -----------------------------------------------------------------

fn umask_and_working_directory_are_as_configured() {
    let scenario = in_foreground();
    let folder = scenario.create_folder("home");
    let (_run, daemon) = serve(&scenario.working_directory(&folder).umask(0o077_u32));
    assert_eq!(daemon.umask, Some(0o077));
    assert_eq!(daemon.working_directory, Some(Place::of(&folder).unwrap()));
}

fn a_umask_that_is_not_set_is_kept() {
    for umask in [0o002, 0o077] {
        let scenario = in_foreground().pid_file("daemon.pid");
        let (run, daemon) = serve(&scenario.from_state(|state| state.umask = Some(umask)));
        assert_eq!(daemon.umask, Some(umask));
        assert_eq!(run.pid_file().unwrap().mode, 0o644 & !umask);
    }
}

fn identity_and_root_are_as_configured() {
    let scenario = in_foreground().pid_file("daemon.pid");
    let jail = scenario.create_folder("jail");
    let scenario = scenario
        .user(65534)
        .group(65534)
        .chown_pid_file_user(65534)
        .chroot(&jail);
    let (run, daemon) = serve(&scenario);
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

fn the_pid_file_is_this_process_and_locked() {
    let (run, daemon) = serve(&in_foreground().pid_file("daemon.pid"));
    let pid_file = run.pid_file().unwrap();
    assert_eq!(pid_file.bytes, format!("{}\n", daemon.pid).as_bytes());
    assert!(pid_file.locked);
    run.exit(0);
    assert!(!run.pid_file().unwrap().locked);
}

fn a_second_one_is_refused() {
    let scenario = in_foreground().pid_file("daemon.pid");
    let (run, daemon) = serve(&scenario);
    let error = scenario.launch().launcher_error();
    assert_eq!(error.kind_name(), "LockPidfile");
    assert_eq!(error.running_pid, Some(daemon.pid));
    let pid_file = run.pid_file().unwrap();
    assert_eq!(pid_file.bytes, format!("{}\n", daemon.pid).as_bytes());
    assert!(pid_file.locked);
}

fn other_threads_are_no_hindrance() {
    for entry in [
        Entry::Start,
        Entry::StartChecked,
        Entry::Execute,
        Entry::ExecuteChecked,
    ] {
        let scenario = in_foreground().pid_file("daemon.pid").entry(entry);
        let (run, daemon) = serve(&scenario.from_state(|state| state.extra_threads = 1));
        let pid_file = run.pid_file().unwrap();
        assert_eq!(pid_file.bytes, format!("{}\n", daemon.pid).as_bytes());
    }
}

fn other_threads_fail_what_they_would_miss() {
    let scenario = in_foreground().no_new_privileges();
    let scenario = scenario.from_state(|state| state.extra_threads = 1);
    let run = scenario.entry(Entry::StartChecked).launch();
    let text = "cannot set no_new_privs: other threads exist, and would not get no_new_privs";
    assert_eq!(run.launcher_error().text, text);
}

fn closures_run_as_ever() {
    let add = |part: &str| vec![Step::Add(part.to_owned())];
    let scenario = in_foreground()
        .try_privileged_action(add("action"))
        .initialize(add("initialize"))
        .deferred_readiness(Deferral::new([Step::Observe], ReadinessUse::Ready));
    let (run, daemon) = serve(&scenario);
    assert_eq!(run.observed().pid, daemon.pid);
    run.message("ready to return", |frame| {
        (frame.message == Message::Acknowledged).then_some(())
    });
    let expected = vec!["action".to_owned(), "initialize".to_owned()];
    run.message("the result", |frame| {
        (frame.message == Message::Result(expected.clone())).then_some(())
    });
}

// --- Failures ----------------------------------------------------------------

fn a_failure_is_returned_and_clears_the_pid_file() {
    let no_luck = || Fallible::from(ErrorText::from("no luck"));
    let cases = [
        (
            in_foreground().try_privileged_action(no_luck()),
            "PrivilegedAction",
        ),
        (in_foreground().initialize(no_luck()), "Initialize"),
        (in_foreground().chroot("missing"), "Chroot"),
    ];
    for (scenario, kind) in cases {
        let scenario = scenario.pid_file("daemon.pid");
        let run = scenario.launch();
        let error = run.launcher_error();
        assert_eq!(error.kind_name(), kind);
        // Under `execute` it is the child's error, and the process goes on.
        let run = scenario.entry(Entry::Execute).launch();
        assert_eq!(run.daemon_error(), error);
        run.wait_until_all_ended();
        let pid_file = run.launcher().pid_file.unwrap();
        assert!(pid_file.bytes.is_empty() && !pid_file.locked);
    }
    // While the process lives, too.
    let scenario = in_foreground()
        .pid_file("daemon.pid")
        .initialize(no_luck())
        .entry(Entry::Execute)
        .life(tester::config::Life::UntilToldEvenIfFailed);
    let run = scenario.launch();
    run.daemon_error();
    run.observe();
    let pid_file = run.pid_file().unwrap();
    assert!(pid_file.bytes.is_empty() && !pid_file.locked);
    // A panic is no exception: it is printed by the hook, then returned.
    let scenario = in_foreground().initialize([Step::Panic("out of luck".to_owned())]);
    let run = scenario.entry(Entry::Execute).launch();
    let error = run.daemon_error();
    assert_eq!(error.text, "panic: out of luck");
}

fn a_failure_before_the_first_step_is_returned_too() {
    let scenario = in_foreground().pid_file("daemon.pid").user("no-such-user");
    let run = scenario.launch();
    let error = run.launcher_error();
    assert_eq!(error.kind_name(), "UserNotFound");
    run.assert_nothing_left();
    let run = scenario.entry(Entry::Execute).launch();
    assert_eq!(run.daemon_error(), error);
}

fn a_failure_to_get_ready_ends_the_process() {
    let usage = ReadinessUse::Fail("no port is free".into());
    let scenario = in_foreground()
        .pid_file("daemon.pid")
        .deferred_readiness(Deferral::new([], usage));
    let run = scenario.launch();
    let launcher = run.launcher();
    launcher
        .assert()
        .code(1)
        .stderr("the daemon is not ready: no port is free\n");
    run.assert_nothing_left();
    // Dropped, it leaves the process to itself, but no pid file.
    let scenario = in_foreground()
        .pid_file("daemon.pid")
        .deferred_readiness(Deferral::new([], ReadinessUse::Drop));
    let (run, _) = serve(&scenario);
    run.observe();
    let pid_file = run.pid_file().unwrap();
    assert!(pid_file.bytes.is_empty() && !pid_file.locked);
    run.exit(0);
    let text = "the daemon is not ready: its readiness was dropped unused\n";
    run.launcher().assert().code(0).stderr(text);
}

// --- Notification ------------------------------------------------------------

/// What a service manager hears.
#[cfg(target_os = "linux")]
mod manager {
    use std::os::fd::AsFd as _;
    use std::os::linux::net::SocketAddrExt as _;
    use std::os::unix::net::{SocketAddr, UnixDatagram};
    use std::time::{Duration, Instant};

    use super::*;

    pub(super) struct Manager(UnixDatagram);

    impl Manager {
        pub(super) fn at(path: &Path) -> Self {
            Self::with(UnixDatagram::bind(path).unwrap())
        }

        /// Returns its address, too.
        pub(super) fn at_abstract_address() -> (Self, String) {
            let name = format!("tester/{}/notify", std::process::id());
            let address = SocketAddr::from_abstract_name(&name).unwrap();
            let socket = UnixDatagram::bind_addr(&address).unwrap();
            (Self::with(socket), format!("@{name}"))
        }

        fn with(socket: UnixDatagram) -> Self {
            tester::sys::ask_for_senders(socket.as_fd()).unwrap();
            Self(socket)
        }

        /// The next message and its sender.
        #[track_caller]
        pub(super) fn hear(&self) -> (String, u32) {
            let deadline = Instant::now() + Duration::from_secs(20);
            let (bytes, sender) = self.receive(deadline).expect("to be notified");
            (String::from_utf8(bytes).unwrap(), sender)
        }

        /// Nothing has been sent so far.
        #[track_caller]
        pub(super) fn assert_silent(&self) {
            assert_eq!(self.receive(Instant::now()), None);
        }

        fn receive(&self, deadline: Instant) -> Option<(Vec<u8>, u32)> {
            tester::sys::receive_with_sender(self.0.as_fd(), deadline).unwrap()
        }
    }

    /// Whoever another case has forked may hold a copy until its execve(2).
    impl Drop for Manager {
        fn drop(&mut self) {
            tester::sys::shut_down(self.0.as_fd());
        }
    }
}

/// What is not on Linux is not called.
#[cfg(not(target_os = "linux"))]
mod manager {
    use super::*;

    pub(super) struct Manager;

    impl Manager {
        pub(super) fn at(_: &Path) -> Self {
            unreachable!()
        }

        pub(super) fn at_abstract_address() -> (Self, String) {
            unreachable!()
        }

        pub(super) fn hear(&self) -> (String, u32) {
            unreachable!()
        }

        pub(super) fn assert_silent(&self) {
            unreachable!()
        }
    }
}

use manager::Manager;

const ADDRESS: &str = "NOTIFY_SOCKET";

fn notifying(scenario: Scenario) -> (Scenario, Manager) {
    let path = scenario.path("notify");
    let manager = Manager::at(&path);
    (scenario.env(ADDRESS, &path), manager)
}

fn systemd_is_told_on_a_path() {
    let (scenario, manager) = notifying(in_foreground());
    let (run, daemon) = serve(&scenario);
    assert_eq!(manager.hear(), ("READY=1\n".to_owned(), daemon.pid));
    run.exit(0);
    manager.assert_silent();
}

fn systemd_is_told_on_an_abstract_address() {
    let (manager, address) = Manager::at_abstract_address();
    let (run, daemon) = serve(&in_foreground().env(ADDRESS, &address));
    assert_eq!(manager.hear(), ("READY=1\n".to_owned(), daemon.pid));
    drop(run);
    let run = scenario!().env(ADDRESS, address).start();
    let text = format!("MAINPID={}\nREADY=1\n", run.report().pid);
    assert_eq!(manager.hear(), (text, run.launcher_pid()));
}

fn systemd_is_told_only_when_ready() {
    let deferral = Deferral::new([Step::Hold], ReadinessUse::Ready);
    let holding = [
        in_foreground().initialize([Step::Hold]),
        in_foreground().deferred_readiness(deferral.clone()),
        scenario!().initialize([Step::Hold]),
        scenario!().deferred_readiness(deferral),
    ];
    for scenario in holding {
        let (scenario, manager) = notifying(scenario);
        let run = scenario.launch();
        run.held();
        manager.assert_silent();
        run.proceed();
        let (text, sender) = manager.hear();
        assert!(text.ends_with("READY=1\n"), "{text}");
        assert_eq!(sender, run.launcher_pid());
    }
}

fn systemd_is_not_told_of_a_failure() {
    for scenario in [in_foreground(), scenario!()] {
        let failing = Fallible::from(ErrorText::from("no luck"));
        let (scenario, manager) = notifying(scenario.initialize(failing));
        let run = scenario.launch();
        run.launcher_error();
        run.wait_until_all_ended();
        manager.assert_silent();
    }
}

fn systemd_is_told_from_a_jail_without_privileges() {
    for deferred in [false, true] {
        let scenario = in_foreground().user(65534).group(65534);
        let jail = scenario.create_folder("jail");
        // Neither within reach from the jail nor open to its user.
        let (mut scenario, manager) = notifying(scenario.chroot(&jail));
        let path = scenario.path("notify");
        fs::set_permissions(&path, Permissions::from_mode(0o700)).unwrap();
        if deferred {
            scenario = scenario.deferred_readiness(Deferral::new([], ReadinessUse::Ready));
        }
        let (run, daemon) = serve(&scenario);
        assert_eq!(manager.hear(), ("READY=1\n".to_owned(), daemon.pid));
        assert!(daemon.uid.unwrap() == 65534);
        // Nothing of it is left within the daemon's reach.
        let numbers = run.observe().descriptor_numbers();
        assert_eq!(numbers, run.initial().descriptor_numbers());
    }
}

fn systemd_is_told_of_the_daemon_by_the_launcher() {
    for entry in [Entry::Start, Entry::Execute] {
        let scenario = scenario!().pid_file("daemon.pid").entry(entry);
        let (scenario, manager) = notifying(scenario.privileged_action([Step::Observe]));
        let run = scenario.launch();
        let (text, sender) = manager.hear();
        // By now the daemon is init's, and its pid file is complete.
        let daemon = run.observe();
        let intermediate = run.observed().ppid;
        assert_eq!(text, format!("MAINPID={}\nREADY=1\n", daemon.pid));
        assert_eq!(sender, run.launcher_pid());
        assert_eq!(daemon.ppid, run.reaper());
        assert_eq!(tester::observe::process(intermediate).unwrap(), None);
        let content = format!("{}\n", daemon.pid);
        assert_eq!(run.pid_file().unwrap().bytes, content.as_bytes());
        // The launcher stays until it was read: whom it is from is looked up
        // only then.
        assert_eq!(manager.hear(), ("BARRIER=1".to_owned(), sender));
        run.launcher().assert().success();
        manager.assert_silent();
    }
}

fn systemd_is_told_when_a_deferred_daemon_is_ready() {
    let mut deferral = Deferral::new([], ReadinessUse::Ready);
    deferral.in_thread = true;
    let (scenario, manager) = notifying(in_foreground().deferred_readiness(deferral));
    let (_run, daemon) = serve(&scenario);
    assert_eq!(manager.hear(), ("READY=1\n".to_owned(), daemon.pid));
}

/// As a program of that service's that starts a daemon of its own.
fn the_manager_of_another_service_is_not_told() {
    for (exec_pid, is_told) in [
        (Some(ExecPid::Parents), false),
        (Some(ExecPid::Own), true),
        (None, true),
    ] {
        for scenario in [in_foreground(), scenario!()] {
            let (scenario, manager) = notifying(scenario);
            let run = scenario
                .from_state(|state| state.exec_pid = exec_pid)
                .life(tester::config::Life::Exit(0))
                .launch();
            if is_told {
                let (text, sender) = manager.hear();
                assert!(text.ends_with("READY=1\n"), "{text}");
                assert_eq!(sender, run.launcher_pid());
            }
            run.launcher().assert().success();
            if !is_told {
                manager.assert_silent();
            }
        }
    }
}

fn a_broken_address_does_not_fail_a_start() {
    let scenario = scenario!();
    let file = scenario.path("file");
    fs::write(&file, "").unwrap();
    let long = "/".repeat(200);
    let addresses = [
        "/nowhere/notify",
        file.to_str().unwrap(),
        "@tester/nobody",
        "@",
        "relative",
        "",
        &long,
        "vsock:2:1234",
    ];
    for address in addresses {
        scenario!()
            .env(ADDRESS, address)
            .start()
            .launcher()
            .assert()
            .success();
        serve(&in_foreground().env(ADDRESS, address));
    }
}

/// A service manager that waits for nothing is a riddle otherwise.
fn a_failed_notification_is_a_line_on_standard_error() {
    let nobody = |scenario: Scenario| {
        let path = scenario.path("nobody");
        drop(UnixDatagram::bind(&path).unwrap());
        let address = path.to_str().unwrap().to_owned();
        let refused = io::Error::from_raw_os_error(libc::ECONNREFUSED).to_string();
        (scenario, address, refused)
    };
    let missing = |scenario: Scenario| {
        let reason = io::Error::from_raw_os_error(libc::ENOENT).to_string();
        (scenario, "/nowhere/notify".to_owned(), reason)
    };
    let long = |scenario: Scenario| (scenario, "/".repeat(200), "path".to_owned());
    for scenario in [in_foreground(), scenario!()] {
        let ways = [
            nobody(scenario.clone()),
            missing(scenario.clone()),
            long(scenario),
        ];
        for (scenario, address, reason) in ways {
            let run = scenario.env(ADDRESS, &address).launch();
            run.report();
            run.exit(0);
            let output = run.launcher().output;
            assert!(output.status.success());
            let text = String::from_utf8(output.stderr).unwrap();
            let start = format!("daemonize2: cannot notify the service manager at {address}: ");
            assert!(text.starts_with(&start) && text.contains(&reason), "{text}");
            assert_eq!(text.lines().count(), 1, "{text}");
        }
    }
}

/// The manager goes between the opening of the socket and the report.
fn a_notification_that_fails_late_is_a_line_on_standard_error() {
    let scenario = in_foreground().initialize([Step::Hold]);
    let (scenario, manager) = notifying(scenario);
    let run = scenario.launch();
    run.held();
    drop(manager);
    run.proceed();
    run.report();
    // Not `exit`, which waits for the parent of what was held, as if it were an
    // intermediate.
    run.tell(&control::Command::Exit(0));
    let text = String::from_utf8(run.launcher().output.stderr).unwrap();
    let start = "daemonize2: cannot notify the service manager at ";
    assert!(text.starts_with(start), "{text}");
    assert_eq!(text.lines().count(), 1, "{text}");
}

fn a_failed_notification_without_standard_error_does_not_fail_the_start() {
    for scenario in [in_foreground(), scenario!()] {
        let scenario = scenario.from_state(|state| state.closed = [true; 3]);
        let run = scenario.env(ADDRESS, "/nowhere/notify").launch();
        run.report();
        run.exit(0);
        assert!(run.launcher().output.status.success());
    }
}

// --- Supervision -------------------------------------------------------------

fn supervised_means_an_address_that_is_meant_for_this_process() {
    let cases = [
        (None, None, false),
        (None, Some(ExecPid::Own), false),
        (None, Some(ExecPid::Parents), false),
        (Some("/nowhere/notify"), None, true),
        (Some("/nowhere/notify"), Some(ExecPid::Own), true),
        (Some("/nowhere/notify"), Some(ExecPid::Parents), false),
        (Some("@nobody"), None, true),
        (Some(""), None, false),
        (Some(""), Some(ExecPid::Own), false),
    ];
    for (address, exec_pid, supervised) in cases {
        let mut scenario = scenario!()
            .foreground(Foreground::IfSupervised)
            .from_state(|state| state.exec_pid = exec_pid);
        if let Some(address) = address {
            scenario = scenario.env(ADDRESS, address);
        }
        let run = scenario.launch();
        let in_foreground = run.report().pid == run.launcher_pid();
        assert_eq!(in_foreground, supervised, "{address:?} {exec_pid:?}");
    }
}

/// Which says of itself 'effective user id, supervised'.
fn ask_supervised(program: &Path) -> io::Result<String> {
    let mut command = Command::new(program);
    command
        .arg(subject::TELL_SUPERVISED)
        .env_remove("SYSTEMD_EXEC_PID")
        .env(ADDRESS, "/nowhere/notify")
        .uid(65534)
        .gid(65534);
    String::from_utf8(command.output()?.stdout).map_err(io::Error::other)
}

fn supervised_is_false_in_a_set_user_id_program() {
    let scenario = scenario!();
    let program = scenario.path("program");
    // By another process: one that this test starts meanwhile would inherit
    // the copy's descriptor, and what is open for writing cannot be run.
    let mut copy = Command::new("cp");
    copy.arg(tester::tester!()).arg(&program);
    assert!(copy.status().unwrap().success());
    fs::set_permissions(&program, Permissions::from_mode(0o755)).unwrap();
    assert_eq!(ask_supervised(&program).unwrap(), "65534 true\n");
    fs::set_permissions(&program, Permissions::from_mode(0o4755)).unwrap();
    assert_eq!(fs::metadata(&program).unwrap().mode() & 0o4000, 0o4000);
    // Where this is not 0, the folder's file system ignores the bit.
    assert_eq!(ask_supervised(&program).unwrap(), "0 false\n");
}
