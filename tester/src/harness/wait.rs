//! Waits for the events of a case. A method panics, with the diagnostics, if the event does not
//! come before the deadline.

use std::process;
use std::thread;
use std::time::{Duration, Instant};

use super::journal::{Events, Launcher};
use super::run::Run;
use crate::control::{Frame, Message};
use crate::observe;
use crate::report::{LauncherResult, Report, SignalHit, StartError};
use crate::subject::EXIT_START_FAILED;
use crate::sys::ProcessHandle;

/// Selects the content of a message of this kind.
#[macro_export]
macro_rules! select {
    ($message:ident) => {
        |message: &$crate::control::Message| match message {
            $crate::control::Message::$message(content) => Some(content.clone()),
            _ => None,
        }
    };
}

impl Run {
    /// Waits until `find` finds something in the events.
    #[track_caller]
    pub(super) fn wait<T>(&self, what: &str, find: impl FnMut(&Events) -> Option<T>) -> T {
        match self.case.wait(find) {
            Ok(found) => found,
            Err(reason) => panic!("waiting for {what}: {reason}\n{}", self.diagnostics()),
        }
    }

    /// Waits for the first message that `select` accepts.
    #[track_caller]
    pub fn message<T>(&self, what: &str, mut select: impl FnMut(&Frame) -> Option<T>) -> T {
        self.wait(what, |events| events.frames.iter().find_map(&mut select))
    }

    /// The same for the content of a message: see [`select!`].
    #[track_caller]
    pub fn first<T>(&self, what: &str, mut select: impl FnMut(&Message) -> Option<T>) -> T {
        self.message(what, |frame| select(&frame.message))
    }

    pub fn messages(&self) -> Vec<Frame> {
        self.case.journal.events().frames.clone()
    }

    #[track_caller]
    pub fn launcher(&self) -> Launcher {
        self.wait("the launcher's end", |events| events.launcher.clone())
    }

    /// The report of the launcher right before the start.
    #[track_caller]
    pub fn initial(&self) -> Report {
        self.first("the initial state", select!(Initial))
    }

    /// The report of the daemon when the library had returned.
    #[track_caller]
    pub fn report(&self) -> Report {
        self.first("the daemon's report", select!(Daemon))
    }

    /// The report of the daemon at a [`Step::Observe`](crate::config::Step::Observe).
    #[track_caller]
    pub fn observed(&self) -> Report {
        self.first("the closure's report", select!(Observed))
    }

    /// The report of the daemon at a [`Step::Hold`](crate::config::Step::Hold), where it waits
    /// until [`Run::proceed`]. Its parent, the intermediate, waits, too: on a busy machine the
    /// daemon may get here before the intermediate has sent its process id to the launcher.
    #[track_caller]
    pub fn held(&self) -> Report {
        let report = self.first("the closure to hold", select!(Holding));
        if ![process::id(), self.reaper()].contains(&report.ppid) {
            self.wait_until_waiting(report.ppid);
        }
        report
    }

    /// Waits until a process neither runs nor is about to. No system reports that by an event.
    #[track_caller]
    fn wait_until_waiting(&self, pid: u32) {
        // A process is running, waits for a disk, or is stopped by its tracer at a call.
        const BUSY: [char; 3] = ['R', 'D', 't'];
        let is_busy = || {
            let process = observe::process(pid).expect("look at a process");
            process.is_some_and(|process| BUSY.contains(&process.state))
        };
        while is_busy() {
            assert!(
                Instant::now() < self.case.deadline,
                "process {pid} does not come to rest\n{}",
                self.diagnostics()
            );
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// The port of [`Step::Listen`](crate::config::Step::Listen).
    #[track_caller]
    pub fn port(&self) -> u16 {
        self.first("the closure to listen", select!(Listening))
    }

    /// What `execute` returned in the launcher.
    #[track_caller]
    pub fn launcher_result(&self) -> LauncherResult {
        self.first("the launcher's result", select!(LauncherReturned))
    }

    /// What the closure of `on_started` got in the launcher.
    #[track_caller]
    pub fn started(&self) -> LauncherResult {
        self.first("the launcher's closure", select!(Started))
    }

    /// The error in the launcher. The launcher has printed it as its only line, and has exited.
    #[track_caller]
    pub fn launcher_error(&self) -> StartError {
        let error = self.first("the launcher's error", select!(LauncherFailed));
        let output = self.launcher().output;
        assert_eq!(
            (output.status.code(), output.stderr.as_slice()),
            (
                Some(EXIT_START_FAILED.into()),
                format!("tester: {}\n", error.text).as_bytes()
            ),
            "the launcher's status and standard error\n{}",
            self.diagnostics()
        );
        error
    }

    /// The error that `execute` returned in the daemon.
    #[track_caller]
    pub fn daemon_error(&self) -> StartError {
        self.first("the daemon's error", select!(DaemonFailed))
    }

    /// The process that got a signal at a call of its own ([`Scenario::signal_at`](super::Scenario::signal_at)), once the
    /// launcher has ended; `None` if the process made fewer calls.
    #[track_caller]
    pub fn signal_hit(&self) -> Option<SignalHit> {
        self.launcher();
        self.first("the signal", select!(SignalHit))
    }

    /// Waits for the end of every process of the case. All of them inherit the control socket, so
    /// the wait is first for its end of file. A process closes other files after it, so the known
    /// processes are then waited for.
    #[track_caller]
    pub fn wait_until_all_ended(&self) {
        let processes = self.wait("every process to end", |events| {
            let handles = events.handles.values().flatten();
            events
                .is_over()
                .then(|| handles.cloned().collect::<Vec<_>>())
        });
        for process in processes {
            self.wait_for(&process);
        }
    }

    #[track_caller]
    pub(super) fn wait_for(&self, process: &ProcessHandle) {
        assert!(
            process
                .wait(self.case.deadline)
                .expect("wait for a process"),
            "process {} does not end\n{}",
            process.pid(),
            self.diagnostics()
        );
    }

    /// Asserts that the launcher neither has ended nor ends within a moment, which is ample for a
    /// launcher that waits for nothing.
    #[track_caller]
    pub fn assert_launcher_waits(&self) {
        // Not scaled: the library itself waits no longer than a second for a prober.
        const MOMENT: Duration = Duration::from_millis(100);
        let ended = self.launcher.wait(Instant::now() + MOMENT);
        assert!(
            !ended.expect("wait for the launcher"),
            "the launcher has not waited\n{}",
            self.diagnostics()
        );
    }

    /// Waits for the end of a known process of the case: the launcher, or a process that has sent
    /// a message.
    #[track_caller]
    pub fn wait_until_ended(&self, pid: u32) {
        if pid == self.launcher_pid() {
            return self.wait_for(&self.launcher);
        }
        let handle = self.case.journal.events().handles.get(&pid).cloned();
        match handle {
            Some(Some(process)) => self.wait_for(&process),
            // It had ended before the harness could open it.
            Some(None) => {}
            None => panic!("{pid} is not known\n{}", self.diagnostics()),
        }
    }

    /// The report of the daemon when the library had returned; `None` if the case is over without
    /// it.
    #[track_caller]
    pub fn report_if_any(&self) -> Option<Report> {
        let select = select!(Daemon);
        let found = self.wait("the daemon's report or the end", |events| {
            let mut frames = events.frames.iter();
            let found = frames.find_map(|frame| select(&frame.message));
            (found.is_some() || events.is_over()).then_some(found)
        });
        if found.is_none() {
            self.wait_until_all_ended();
        }
        found
    }
}
