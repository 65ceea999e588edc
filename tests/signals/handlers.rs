use std::sync::atomic::AtomicUsize;

use tester::prelude::*;
use tester::trace::Role;

use crate::setup::*;

pub(crate) const CASES: &[Case] = &[
    case!(a_handler_of_the_launcher_does_not_run_in_the_daemon),
    case!(a_sigterm_to_the_daemon_at_any_call_ends_the_start_with_a_true_report, needs Stepping),
    case!(a_signal_to_the_daemon_at_any_call_runs_its_handler_once, needs Stepping),
    case!(a_signal_to_the_intermediate_is_neither_handled_nor_fatal),
    case!(a_signal_to_the_intermediate_at_any_call_is_neither_handled_nor_fatal, needs Stepping),
];

/// A signal to the process group reaches the launcher, but not the daemon that it starts.
fn a_handler_of_the_launcher_does_not_run_in_the_daemon() {
    let run = daemon!()
        .on_signal(libc::SIGUSR1, Disposition::Report)
        .from_state(|state| state.session = Session::Leader)
        .privileged_action([Step::Hold])
        .launch();
    run.held();
    let group = run.launcher_pid();
    sys::kill_group(group, libc::SIGUSR1).unwrap();
    let signalled = Message::Signalled(libc::SIGUSR1);
    assert_eq!(run.await_message(&signalled), group);
    run.proceed_to_success();
    run.observe();
    assert_eq!(run.senders_of(&signalled), [group]);
}

/// The signal may arrive while the daemon blocks it: the daemon ends when it unblocks the
/// signal.
fn a_sigterm_to_the_daemon_at_any_call_ends_the_start_with_a_true_report() {
    let (ended, committed) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let scenario = daemon!().on_signal(libc::SIGTERM, Disposition::Default);
    send_sigterm_at_each_call(&scenario, Role::Daemon, |run, _| {
        if run.launcher().output.status.success() {
            committed.fetch_add(1, Ordering::Relaxed);
            return;
        }
        ended.fetch_add(1, Ordering::Relaxed);
        assert_ended_by_sigterm(run);
    });
    let (ended, committed) = (ended.into_inner(), committed.into_inner());
    assert!(ended > 5, "{ended} starts ended, {committed} succeeded");
}

fn a_signal_to_the_daemon_at_any_call_runs_its_handler_once() {
    let scenario = daemon!()
        .on_signal(libc::SIGTERM, Disposition::Report)
        .privileged_action([Step::Observe]);
    let (before, after) = (AtomicUsize::new(0), AtomicUsize::new(0));
    send_sigterm_at_each_call(&scenario, Role::Daemon, |run, daemon| {
        run.launcher().assert().success();
        run.observe();
        let of_daemon = |frame: &Frame| frame.sender == daemon;
        let frames: Vec<_> = run.messages().into_iter().filter(of_daemon).collect();
        let handled_by = run.senders_of(&Message::Signalled(libc::SIGTERM));
        assert_eq!(handled_by, [daemon], "{}", run.diagnostics());
        // The daemon handles a signal that arrived before it restored the mask first of
        // all.
        match frames[0].message {
            Message::Signalled(_) => before.fetch_add(1, Ordering::Relaxed),
            _ => after.fetch_add(1, Ordering::Relaxed),
        };
    });
    let (before, after) = (before.into_inner(), after.into_inner());
    // The daemon makes few calls after it has restored the mask.
    assert!(before > 5 && after > 3, "{before} before, {after} after");
}

fn a_signal_to_the_intermediate_is_neither_handled_nor_fatal() {
    let scenario = daemon!().on_signal(libc::SIGTERM, Disposition::Report);
    let run = scenario.privileged_action([Step::Hold]).launch();
    let intermediate = run.held().ppid;
    for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGUSR1] {
        sys::kill(intermediate, signal).unwrap();
    }
    run.assert_launcher_waits();
    run.proceed_to_success();
    run.observe();
    assert_not_handled(&run);
    run.assert_pid_file_complete();
}

fn a_signal_to_the_intermediate_at_any_call_is_neither_handled_nor_fatal() {
    for disposition in [Disposition::Report, Disposition::Default] {
        let scenario = daemon!().on_signal(libc::SIGTERM, disposition);
        send_sigterm_at_each_call(&scenario, Role::Intermediate, |run, _| {
            run.launcher().assert().success();
            run.observe();
            assert_not_handled(run);
        });
    }
}
