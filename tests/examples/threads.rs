//! Servers that create threads after fork(2): those of tokio's runtime, or their own.

use std::io::Read as _;
use std::net::TcpStream;
use std::process::{Command, Stdio};

use daemonize2::{PidFile, Status};
use tempfile::TempDir;
use tester::case;
use tester::slowness::time_limit;
use tester::suite::{Case, example};

pub(crate) const CASES: &[Case] = &[
    case!(a_daemon_with_a_runtime_serves_and_stops, needs Examples),
    case!(a_daemon_with_workers_is_ready_when_they_are, needs Examples),
];

/// Starts an example that takes its pid file and prints its address, and stops it.
#[track_caller]
fn assert_serves(name: &str) {
    let directory = TempDir::with_prefix("threads-").unwrap();
    let path = directory.path().join("daemon.pid");
    let mut launcher = Command::new(example(name).unwrap());
    let output = launcher.arg(&path).stdin(Stdio::null()).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let address = text.trim_end().strip_prefix("listening on ").expect(&text);
    let pid = PidFile::at(&path).running().unwrap().expect("it runs");
    let mut answer = String::new();
    let mut client = TcpStream::connect(address).unwrap();
    client.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, format!("hello from {pid}\n"));
    assert!(PidFile::at(&path).stop(time_limit()).unwrap());
    assert_eq!(PidFile::at(&path).status().unwrap(), Status::NotRunning);
}

fn a_daemon_with_a_runtime_serves_and_stops() {
    assert_serves("tokio");
}

fn a_daemon_with_workers_is_ready_when_they_are() {
    assert_serves("server_with_deferred_readiness");
}
