use tester::prelude::*;

use crate::setup::*;

pub(crate) const CASES: &[Case] = &[
    case!(a_daemon_started_by_a_daemon_does_not_share_its_pid_file),
    case!(a_daemon_started_by_a_daemon_with_a_guard_keeps_its_own_pid_file),
    case!(a_daemon_started_before_readiness_does_not_share_the_first_start),
    case!(a_second_start_in_the_foreground_keeps_the_first_pid_file_locked),
];

/// Every way in which a daemon can start another daemon.
fn other_starts() -> impl Iterator<Item = AnotherStart> {
    (0..8).map(|bits| AnotherStart {
        pid_file: (bits & 1 != 0).then(|| Bytes::from("other.pid")),
        close_inherited_fds: bits & 2 != 0,
        in_worker: bits & 4 != 0,
        ..AnotherStart::default()
    })
}

#[track_caller]
fn assert_not_open(report: &Report, path: &Path) {
    let descriptors = report.descriptors.as_ref().unwrap();
    let has = descriptors.iter().any(|one| one.is_file(path));
    assert!(!has, "{descriptors:?}");
}

#[track_caller]
fn assert_locked_by(path: &Path, pid: u32) {
    assert_eq!(PidFile::at(path).running().unwrap(), Some(pid));
}

fn a_daemon_started_by_a_daemon_does_not_share_its_pid_file() {
    for start in other_starts() {
        let scenario = daemon!();
        let path = scenario.pid_file_path().unwrap();
        let run = scenario.start();
        run.send_command(&control::Command::StartAnother(start));
        let other = run.observed();
        assert_not_open(&other, &path);
        assert_locked_by(&path, run.report().pid);
        // It answers once it has reaped the worker, which shares the lock until its end.
        run.observe();
        run.kill_daemon();
        // The other daemon lives on, and does not hinder the next start.
        let next = scenario.start();
        assert_locked_by(&path, next.report().pid);
        run.handle(other.pid).kill(0).unwrap();
    }
}

fn a_daemon_started_by_a_daemon_with_a_guard_keeps_its_own_pid_file() {
    for start in other_starts().filter(|start| start.pid_file.is_some()) {
        let scenario = guarded(daemon!());
        let run = scenario.start();
        assert!(await_guard(&run));
        run.send_command(&control::Command::StartAnother(start));
        // The other daemon has dropped its copy of the guard.
        let other = run.observed();
        assert_locked_by(&scenario.path("other.pid"), other.pid);
        assert_locked_by(&scenario.pid_file_path().unwrap(), run.report().pid);
    }
}

fn a_daemon_started_before_readiness_does_not_share_the_first_start() {
    for start in other_starts() {
        let mut deferral = Deferral::new([], ReadinessUse::Ready);
        deferral.in_another = Some(start.clone());
        let scenario = daemon!().deferred_readiness(deferral);
        let path = scenario.pid_file_path().unwrap();
        let run = scenario.start();
        // The other daemon has dropped its copy of the readiness.
        let other = run.observed();
        assert_not_open(&other, &path);
        let own = usize::from(start.pid_file.is_some());
        if start.close_inherited_fds {
            assert_eq!(other.descriptor_numbers().len(), 3 + own);
        }
        if own == 1 {
            assert_locked_by(&scenario.path("other.pid"), other.pid);
        }
        assert_locked_by(&path, run.report().pid);
    }
}

fn a_second_start_in_the_foreground_keeps_the_first_pid_file_locked() {
    for scenario in [daemon!(), guarded(daemon!())] {
        for mut start in other_starts().filter(|start| !start.in_worker) {
            start.foreground = true;
            let with_own = start.pid_file.is_some();
            let run = scenario.start();
            let pid = run.report().pid;
            run.send_command(&control::Command::StartAnother(start));
            assert_eq!(run.observed().pid, pid);
            assert_locked_by(&scenario.pid_file_path().unwrap(), pid);
            if with_own {
                assert_locked_by(&scenario.path("other.pid"), pid);
            }
            run.kill_daemon();
        }
    }
}
