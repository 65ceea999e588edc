use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;
use std::{fs, thread};

use tempfile::TempDir;
use tester::case;
use tester::slowness::time_limit;
use tester::suite::{Case, example};
use tester::sys::ProcessHandle;

use crate::server::{Answer, Server, command};

pub(crate) const CASES: &[Case] = &[
    case!(a_successor_takes_over_socket_and_pid_file, needs Examples),
    case!(a_failed_successor_leaves_the_daemon_running, needs Examples),
    case!(a_daemon_executes_its_new_program_and_keeps_its_pid_file, needs Examples),
    case!(a_daemon_that_cannot_execute_its_new_program_goes_on, needs Examples),
    case!(a_successor_of_an_executed_program_is_another_daemon, needs Examples),
    case!(a_daemon_that_has_dropped_its_privileges_executes_its_new_program, needs Examples, Root),
    case!(no_connection_is_refused_during_upgrades, needs Examples),
];

fn start() -> Server {
    Server::start("upgrade", &[])
}

fn a_successor_takes_over_socket_and_pid_file() {
    let server = start();
    let former = server.pid();
    assert_eq!(
        server.answer(),
        Answer {
            pid: former,
            generation: 1
        }
    );
    let handle = ProcessHandle::open(former).unwrap().expect("it runs");
    server.signal(libc::SIGUSR2);
    let successor = server.await_generation(2);
    assert_ne!(successor, former);
    assert_eq!(server.pid(), successor);
    // The former daemon ends by itself.
    assert!(handle.wait(Instant::now() + time_limit()).unwrap());
    server.signal(libc::SIGUSR2);
    assert_eq!(server.await_generation(3), server.pid());
}

fn a_failed_successor_leaves_the_daemon_running() {
    let mut server = start();
    let daemon = server.pid();
    server.break_program();
    server.signal(libc::SIGUSR2);
    server.assert_says(&format!(
        "the successor has failed; process {daemon} goes on"
    ));
    assert_eq!(
        server.answer(),
        Answer {
            pid: daemon,
            generation: 1
        }
    );
    assert_eq!(server.pid(), daemon);
    server.replace_program(example("upgrade").unwrap());
    server.signal(libc::SIGUSR2);
    assert_eq!(server.await_generation(2), server.pid());
}

fn a_daemon_executes_its_new_program_and_keeps_its_pid_file() {
    let server = start();
    let daemon = server.pid();
    for generation in 2..5 {
        server.signal(libc::SIGHUP);
        assert_eq!(server.await_generation(generation), daemon);
        assert_eq!(server.pid(), daemon);
        // No second daemon starts.
        let second = command(server.directory(), &[]).output().unwrap();
        assert!(!second.status.success());
        let text = String::from_utf8(second.stderr).unwrap();
        assert!(
            text.contains(&format!("held by running daemon {daemon}")),
            "{text}"
        );
    }
    assert!(server.pid_file().stop(time_limit()).unwrap());
}

fn a_daemon_that_cannot_execute_its_new_program_goes_on() {
    let mut server = start();
    let daemon = server.pid();
    server.replace_program("missing");
    server.signal(libc::SIGHUP);
    server.assert_says(&format!("process {daemon} goes on"));
    assert_eq!(
        server.answer(),
        Answer {
            pid: daemon,
            generation: 1
        }
    );
    assert_eq!(server.pid(), daemon);
    server.replace_program(example("upgrade").unwrap());
    server.signal(libc::SIGHUP);
    assert_eq!(server.await_generation(2), daemon);
}

/// The former program has named the descriptor of the pid file in the environment.
fn a_successor_of_an_executed_program_is_another_daemon() {
    let server = start();
    let daemon = server.pid();
    server.signal(libc::SIGHUP);
    assert_eq!(server.await_generation(2), daemon);
    server.signal(libc::SIGUSR2);
    let successor = server.await_generation(3);
    assert_ne!(successor, daemon);
    assert_eq!(server.pid(), successor);
}

fn a_daemon_that_has_dropped_its_privileges_executes_its_new_program() {
    let directory = TempDir::with_prefix("upgrade-").unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    // The daemon's user may not reach the build directory. Another process writes the copy: a file
    // that a child of another thread has open for writing cannot be executed.
    let mut copy = Command::new("cp");
    copy.arg(example("upgrade").unwrap());
    assert!(
        copy.arg(directory.path().join("server"))
            .status()
            .unwrap()
            .success()
    );
    let launcher = command(directory.path(), &["nobody"]);
    let server = Server::launch(directory, launcher);
    let daemon = server.pid();
    server.signal(libc::SIGHUP);
    assert_eq!(server.await_generation(2), daemon);
    assert_eq!(server.pid(), daemon);
    let status = fs::read_to_string(format!("/proc/{daemon}/status"));
    if cfg!(target_os = "linux") {
        assert!(!status.unwrap().contains("Uid:\t0"));
    }
}

fn no_connection_is_refused_during_upgrades() {
    let server = start();
    let is_done = AtomicBool::new(false);
    thread::scope(|scope| {
        let client = scope.spawn(|| {
            let mut answers = 0;
            while !is_done.load(Ordering::Relaxed) {
                server.answer();
                answers += 1;
            }
            answers
        });
        let upgrades = [
            libc::SIGUSR2,
            libc::SIGHUP,
            libc::SIGHUP,
            libc::SIGUSR2,
            libc::SIGUSR2,
        ];
        for (signal, generation) in upgrades.into_iter().zip(2..) {
            server.signal(signal);
            server.await_generation(generation);
        }
        is_done.store(true, Ordering::Relaxed);
        assert!(client.join().unwrap() > 0);
    });
}
