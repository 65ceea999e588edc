use tester::prelude::*;
use tester::suite::ALL_FAULTS;
use tester::trace::{Fault, How, Role, SyscallRecord};

use crate::setup::*;

pub(crate) const CASES: &[Case] = &[
    case!(a_launcher_killed_at_any_call_leaves_a_daemon_or_nothing, needs Stepping),
    case!(an_intermediate_killed_at_any_call_leaves_a_daemon_or_nothing, needs Stepping),
    case!(a_daemon_killed_at_any_call_is_reported_and_leaves_nothing, needs Stepping),
    case!(a_call_that_fails_leaves_a_daemon_or_nothing, needs Faults),
    case!(a_kernel_that_does_not_tell_of_the_execution_delays_the_start, needs Faults),
    case!(a_lost_message_about_the_program_fails_the_start, needs Faults),
];

/// A program that becomes ready by each event, and the distance between the calls that are tried.
const READINESSES: [(fn() -> Scenario, usize); 3] = [
    (spawned, 4),
    (
        || daemon!().spawn_awaiting(ProgramReadiness::NotifySocket, [notify("READY=1")]),
        12,
    ),
    (
        || {
            let line = Step::Write(5, "\n".to_owned());
            daemon!().spawn_awaiting(ProgramReadiness::NotificationFd(5), [line])
        },
        12,
    ),
];

fn step(distance: usize) -> usize {
    match std::env::var_os(ALL_FAULTS) {
        Some(_) => 1,
        None => distance,
    }
}

fn calls_of(scenario: &Scenario) -> Vec<SyscallRecord> {
    let run = scenario.clone().faults(&[]).start();
    run.first("the calls", select!(Traced))
}

/// Kills the process at its first call, and at later ones, until `last`. Returns how many starts
/// left a daemon.
#[track_caller]
fn kill_at_each_call(
    (new, distance): (fn() -> Scenario, usize),
    role: Role,
    last: usize,
    is_daemon_left: impl Fn(&Run) -> bool,
) -> usize {
    let (mut points, mut daemons) = (0, 0);
    let step = step(distance);
    for call in (0..last).step_by(step) {
        let scenario = new();
        let run = scenario.clone().crash(role, call).launch();
        if run.signal_hit().is_none() {
            break;
        }
        points += 1;
        if is_daemon_left(&run) {
            daemons += 1;
            run.assert_pid_file_held();
        } else {
            run.wait_until_all_ended();
            assert_not_running(&scenario.control());
        }
    }
    assert!(points * step > 10, "{role} makes {points} calls only");
    daemons
}

/// Waits until all processes have ended, or the pid file names the daemon.
fn is_committed(run: &Run) -> bool {
    let deadline = Instant::now() + time_limit();
    while Instant::now() < deadline {
        if run
            .pid_file()
            .is_some_and(|file| file.locked && !file.bytes.is_empty())
        {
            return true;
        }
        if run.living().is_empty() {
            return false;
        }
        thread::yield_now();
    }
    panic!("neither a daemon nor nothing: {}", run.diagnostics());
}

fn a_launcher_killed_at_any_call_leaves_a_daemon_or_nothing() {
    for start in READINESSES {
        kill_at_each_call(start, Role::Launcher, usize::MAX, is_committed);
    }
}

fn an_intermediate_killed_at_any_call_leaves_a_daemon_or_nothing() {
    for start in READINESSES {
        kill_at_each_call(start, Role::Intermediate, usize::MAX, |run| {
            let is_started = run.launcher().output.status.success();
            if !is_started {
                assert_eq!(run.launcher_error().kind, "IntermediateExited");
            }
            is_started
        });
    }
}

fn a_daemon_killed_at_any_call_is_reported_and_leaves_nothing() {
    for start in READINESSES {
        let calls = calls_of(&start.0());
        let calls = calls.iter().filter(|call| call.process == Role::Daemon);
        let daemons = kill_at_each_call(start, Role::Daemon, calls.count(), |run| {
            let error = run.launcher_error();
            assert_eq!(error.kind, "DaemonExited");
            assert_eq!(error.daemon_exit_status, Some(libc::SIGKILL));
            false
        });
        assert_eq!(daemons, 0);
    }
}

fn failing(scenario: &Scenario, call: &SyscallRecord, occurrence: usize, errno: i32) -> Scenario {
    scenario.clone().faults(&[Fault {
        process: call.process,
        call: call.call.clone(),
        occurrence,
        how: How::Errno(errno),
        always: false,
    }])
}

fn a_call_that_fails_leaves_a_daemon_or_nothing() {
    for (new, distance) in READINESSES {
        let_each_call_fail(new, distance);
    }
}

#[track_caller]
fn let_each_call_fail(new: fn() -> Scenario, distance: usize) {
    let all = calls_of(&new());
    let is_tried = |call: &SyscallRecord| call.process != Role::Launcher && call.call != "_exit";
    let tried = all.iter().enumerate().filter(|(_, call)| is_tried(call));
    for (index, call) in tried.step_by(step(distance)) {
        let is_alike =
            |other: &&SyscallRecord| (other.process, &other.call) == (call.process, &call.call);
        let occurrence = all[..index].iter().filter(is_alike).count();
        let scenario = new();
        let run = failing(&scenario, call, occurrence, libc::EIO).launch();
        if run.launcher().output.status.success() {
            run.report();
            run.assert_pid_file_held();
        } else {
            run.launcher_error();
            run.wait_until_all_ended();
            assert_not_running(&scenario.control());
        }
    }
}

fn a_kernel_that_does_not_tell_of_the_execution_delays_the_start() {
    let scenario = spawned();
    let run = scenario.faults(&[Fault {
        process: Role::Intermediate,
        call: "setpgid".to_owned(),
        occurrence: 0,
        how: How::FakeSuccess,
        always: true,
    }]);
    run.start().assert_pid_file_held();
}

/// The messages are the permission to execute the program, and the report of the execution. The
/// receiver waits for each without a time limit.
fn a_lost_message_about_the_program_fails_the_start() {
    for (call, occurrence) in [("sendmsg(pair 4)", 0), ("sendmsg(pair 1)", 1)] {
        let scenario = spawned();
        let run = scenario.clone().faults(&[Fault {
            process: Role::Intermediate,
            call: call.to_owned(),
            occurrence,
            how: How::Errno(libc::ENOBUFS),
            always: false,
        }]);
        let run = run.launch();
        let error = run.launcher_error();
        assert_eq!(error.kind, format!("Channel({})", libc::ENOBUFS));
        run.wait_until_all_ended();
        assert_not_running(&scenario.control());
    }
}
