use std::io::Read as _;
use std::net::TcpStream;

use tester::config::{Activation, ExecPid};
use tester::prelude::*;

use crate::setup::*;

pub(crate) const CASES: &[Case] = &[
    case!(the_daemon_serves_on_the_sockets_of_the_launcher),
    case!(the_sockets_outlive_the_close_of_inherited_descriptors),
    case!(a_privileged_action_may_use_the_sockets),
    case!(a_daemon_of_another_user_in_a_jail_serves_on_the_sockets, needs Root, OtherUsers),
    case!(without_the_option_the_daemon_gets_no_sockets),
    case!(the_watchdog_expects_the_daemon),
    case!(sockets_of_another_process_are_not_taken),
    case!(an_invalid_number_of_sockets_changes_nothing),
    case!(a_launcher_without_a_service_manager_changes_nothing),
    case!(the_launcher_keeps_the_sockets_under_execute),
    case!(in_the_foreground_the_process_keeps_its_sockets),
    case!(other_threads_do_not_fail_a_foreground_start_with_sockets),
];

const SOCKETS: [&str; 2] = ["http", "admin"];

/// A launcher with two sockets and a watchdog that are meant for this process.
fn activated(scenario: Scenario, process: ExecPid) -> Scenario {
    let sockets = SOCKETS.map(str::to_owned).to_vec();
    scenario.from_state(|state| state.activation = Some(Activation { process, sockets }))
}

fn activated_launcher() -> Scenario {
    activated(scenario!(), ExecPid::Own).socket_activation()
}

/// Connects to both sockets. The daemon that answers is that which reports.
#[track_caller]
fn assert_serves(scenario: Scenario) -> Run {
    let run = scenario.launch();
    let mut ports = Vec::new();
    let mut answers = Vec::new();
    for _ in SOCKETS {
        let port = run.first("the daemon to serve", |message| match message {
            Message::Listening(port) if !ports.contains(port) => Some(*port),
            _ => None,
        });
        ports.push(port);
        let mut client = TcpStream::connect(("127.0.0.1", port)).unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        answers.push(answer);
    }
    let pid = run.report().pid;
    assert_eq!(answers, SOCKETS.map(|name| format!("{name} {pid}")));
    assert_eq!(run.result(), [SOCKETS.join(" ")]);
    run
}

fn is_open(report: &Report) -> [bool; 2] {
    [3, 4].map(|number| report.descriptor(number).is_some())
}

/// The pids of both variables.
fn pids(report: &Report) -> [Option<u32>; 2] {
    ["LISTEN_PID", "WATCHDOG_PID"].map(|name| Some(report.variable(name)?.parse().unwrap()))
}

fn the_daemon_serves_on_the_sockets_of_the_launcher() {
    for entry in ENTRIES {
        let scenario = activated_launcher().entry(entry);
        let run = assert_serves(scenario.initialize([Step::ServeActivated]));
        let (launcher, daemon) = (run.initial(), run.report());
        for name in ["LISTEN_FDS", "LISTEN_FDNAMES", "WATCHDOG_USEC"] {
            assert_eq!(daemon.variable(name), launcher.variable(name));
        }
        assert_eq!(daemon.variable("LISTEN_PIDFDID"), None);
    }
}

fn the_sockets_outlive_the_close_of_inherited_descriptors() {
    let scenario = activated_launcher().close_inherited_fds([]);
    let scenario = scenario.from_state(|state| {
        state.descriptors = vec![OpenDescriptor::of_root(5, false)];
    });
    let run = assert_serves(scenario.initialize([Step::ServeActivated]));
    assert!(run.initial().descriptor(5).is_some());
    assert!(run.report().descriptor(5).is_none());
}

fn a_privileged_action_may_use_the_sockets() {
    assert_serves(activated_launcher().privileged_action([Step::ServeActivated]));
}

fn a_daemon_of_another_user_in_a_jail_serves_on_the_sockets() {
    let (scenario, jail) = activated_launcher().with_directory("jail");
    let scenario = scenario.user(UID).group(GID).chroot(&jail);
    let scenario = scenario.close_inherited_fds([]).no_new_privileges();
    let run = assert_serves(scenario.initialize([Step::ServeActivated]));
    assert!(run.report().uid.expect("its uid") == UID);
}

fn without_the_option_the_daemon_gets_no_sockets() {
    let scenario = activated(scenario!(), ExecPid::Own);
    let run = scenario.initialize([Step::ServeActivated]).start();
    assert_eq!(run.result(), [""]);
    assert_eq!(run.report().environment, run.initial().environment);
    assert_eq!(is_open(&run.report()), [true; 2]);
    let scenario = activated(scenario!(), ExecPid::Own);
    let run = scenario.close_inherited_fds([]).start();
    assert_eq!(is_open(&run.report()), [false; 2]);
}

fn the_watchdog_expects_the_daemon() {
    let run = activated_launcher().start();
    let (launcher, daemon) = (run.initial(), run.report());
    assert_eq!(pids(&launcher), [Some(launcher.pid); 2]);
    assert_eq!(pids(&daemon), [Some(daemon.pid); 2]);
}

fn sockets_of_another_process_are_not_taken() {
    let scenario = activated(scenario!(), ExecPid::Parents).socket_activation();
    let run = scenario.close_inherited_fds([]).start();
    assert_eq!(is_open(&run.initial()), [true; 2]);
    assert_eq!(is_open(&run.report()), [false; 2]);
    assert_eq!(run.report().environment, run.initial().environment);
}

/// `LISTEN_FDS` is 0.
fn an_invalid_number_of_sockets_changes_nothing() {
    let activation = Activation {
        process: ExecPid::Own,
        sockets: Vec::new(),
    };
    let scenario = scenario!().from_state(|state| state.activation = Some(activation));
    let run = scenario.socket_activation().start();
    let (launcher, daemon) = (run.initial(), run.report());
    assert_eq!(pids(&daemon), [Some(launcher.pid), Some(daemon.pid)]);
    assert!(daemon.variable("LISTEN_PIDFDID").is_some());
}

fn a_launcher_without_a_service_manager_changes_nothing() {
    let run = scenario!().socket_activation().start();
    assert_eq!(run.report().environment, run.initial().environment);
}

fn the_launcher_keeps_the_sockets_under_execute() {
    let mut scenario = activated_launcher().entry(Entry::Execute);
    scenario.config.report_afterwards = true;
    let run = scenario.start();
    let afterwards = afterwards(&run);
    assert_eq!(is_open(&afterwards), [true; 2]);
    assert_eq!(afterwards.environment, run.initial().environment);
}

fn in_the_foreground_the_process_keeps_its_sockets() {
    let scenario = activated_launcher().foreground(Foreground::Yes);
    let (run, _) = scenario.close_inherited_fds([]).serve();
    assert_eq!(is_open(&run.report()), [true; 2]);
    assert_eq!(run.report().environment, run.initial().environment);
}

fn other_threads_do_not_fail_a_foreground_start_with_sockets() {
    let scenario = activated_launcher().foreground(Foreground::Yes);
    scenario.from_state(|state| state.extra_threads = 1).serve();
}
