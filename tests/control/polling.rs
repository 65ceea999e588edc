use std::collections::BTreeSet;
use std::io::ErrorKind;

use tester::prelude::*;

pub(crate) const CASES: &[Case] = &[
    case!(polling_never_fails_a_start),
    case!(a_poller_sees_no_invalid_content_at_start_and_end),
];

/// Starts and ends daemons while two pollers ask without pause. Returns the starts that
/// failed, and the errors that the pollers got.
fn poll_while_daemons_come_and_go(starts: usize) -> (Vec<String>, Vec<io::Error>) {
    let scenario = daemon!();
    let over = AtomicBool::new(false);
    let poll = || {
        let pid_file = scenario.control();
        let (mut found, mut errors) = (0, Vec::new());
        while !over.load(Ordering::Relaxed) {
            match pid_file.running() {
                Ok(pid) => found += usize::from(pid.is_some()),
                Err(error) => errors.push(error),
            }
        }
        assert!(found > 0);
        errors
    };
    let start_and_end = |number| {
        let run = scenario.launch();
        if !run.launcher().output.status.success() {
            return Some(run.diagnostics());
        }
        run.report();
        // Every other daemon leaves its pid behind.
        if number % 2 == 0 {
            run.exit(0);
        } else {
            run.kill_daemon();
        }
        None
    };
    thread::scope(|scope| {
        let pollers = [scope.spawn(poll), scope.spawn(poll)];
        let failed = (0..starts).filter_map(start_and_end).collect();
        over.store(true, Ordering::Relaxed);
        let errors = pollers.map(|poller| poller.join().unwrap());
        (failed, errors.into_iter().flatten().collect())
    })
}

fn polling_never_fails_a_start() {
    let (failed, _) = poll_while_daemons_come_and_go(50);
    assert!(failed.is_empty(), "{}", failed.concat());
}

fn a_poller_sees_no_invalid_content_at_start_and_end() {
    let (_, errors) = poll_while_daemons_come_and_go(50);
    let is_unexpected = |error: &io::Error| error.kind() != ErrorKind::WouldBlock;
    let unexpected = errors.into_iter().filter(is_unexpected);
    let unexpected: BTreeSet<_> = unexpected.map(|error| error.to_string()).collect();
    assert!(unexpected.is_empty(), "{unexpected:#?}");
}
