use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;

use tester::case;
use tester::slowness::time_limit;
use tester::suite::{Case, example};
use tester::sys::{self, ProcessHandle};

use crate::server::{Server, command};

pub(crate) const CASES: &[Case] = &[
    case!(a_master_is_ready_when_its_workers_are, needs Examples),
    case!(a_worker_that_ends_is_replaced, needs Examples),
    case!(workers_end_with_a_master_that_is_killed, needs Examples),
    case!(a_successor_takes_over_with_workers_of_its_own, needs Examples),
    case!(a_failed_successor_leaves_master_and_workers, needs Examples),
    case!(a_second_master_leaves_no_workers, needs Examples),
    case!(a_preforking_server_refuses_no_connection_during_upgrades, needs Examples),
];

const WORKERS: usize = 3;

fn start() -> Server {
    Server::start("prefork", &["3"])
}

/// Connects until this many workers of this generation have answered.
fn workers(server: &Server, generation: u32) -> Vec<ProcessHandle> {
    let deadline = Instant::now() + time_limit();
    let mut pids = BTreeSet::new();
    while pids.len() < WORKERS {
        let answer = server.answer();
        if answer.generation == generation {
            pids.insert(answer.pid);
        }
        assert!(Instant::now() < deadline, "{pids:?}");
    }
    let handles = pids.into_iter().map(ProcessHandle::open);
    handles
        .map(|handle| handle.unwrap().expect("it runs"))
        .collect()
}

#[track_caller]
fn assert_ends(processes: &[ProcessHandle]) {
    for process in processes {
        assert!(process.wait(Instant::now() + time_limit()).unwrap());
    }
}

fn a_master_is_ready_when_its_workers_are() {
    let server = start();
    let workers = workers(&server, 1);
    assert!(server.pid_file().stop(time_limit()).unwrap());
    // The master has waited for them.
    for worker in workers {
        assert!(worker.wait(Instant::now()).unwrap());
    }
}

fn a_worker_that_ends_is_replaced() {
    let server = start();
    let before = workers(&server, 1);
    let killed = server.answer().pid;
    sys::kill(killed, libc::SIGKILL).unwrap();
    let deadline = Instant::now() + time_limit();
    let former: BTreeSet<_> = before.iter().map(ProcessHandle::pid).collect();
    while former.contains(&server.answer().pid) {
        assert!(Instant::now() < deadline, "no new worker");
    }
}

fn workers_end_with_a_master_that_is_killed() {
    let server = start();
    let workers = workers(&server, 1);
    server.signal(libc::SIGKILL);
    assert_ends(&workers);
}

fn a_successor_takes_over_with_workers_of_its_own() {
    let server = start();
    let former = server.pid();
    let former_workers = workers(&server, 1);
    let handle = ProcessHandle::open(former).unwrap().expect("it runs");
    server.signal(libc::SIGUSR2);
    assert_ends(&[handle]);
    assert_ends(&former_workers);
    assert_ne!(server.pid(), former);
    workers(&server, 2);
}

fn a_failed_successor_leaves_master_and_workers() {
    let mut server = start();
    let master = server.pid();
    let before = workers(&server, 1);
    server.break_program();
    server.signal(libc::SIGUSR2);
    server.assert_says(&format!(
        "the successor has failed; process {master} goes on"
    ));
    for worker in &before {
        assert!(!worker.wait(Instant::now()).unwrap());
    }
    server.replace_program(example("prefork").unwrap());
    server.signal(libc::SIGUSR2);
    workers(&server, 2);
}

fn a_second_master_leaves_no_workers() {
    let server = start();
    let second = command(server.directory(), &["3"]).output().unwrap();
    assert!(!second.status.success());
    let text = String::from_utf8(second.stderr).unwrap();
    let expected = format!("held by running daemon {}", server.pid());
    assert!(text.contains(&expected), "{text}");
}

fn a_preforking_server_refuses_no_connection_during_upgrades() {
    let server = start();
    let is_done = AtomicBool::new(false);
    thread::scope(|scope| {
        let client = scope.spawn(|| {
            while !is_done.load(Ordering::Relaxed) {
                server.answer();
            }
        });
        for generation in 2..5 {
            let former = ProcessHandle::open(server.pid()).unwrap().expect("it runs");
            server.signal(libc::SIGUSR2);
            assert_ends(&[former]);
            server.await_generation(generation);
        }
        is_done.store(true, Ordering::Relaxed);
        client.join().unwrap();
    });
}
