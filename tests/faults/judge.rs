//! Compares a start with the model.
//!
//! The model says what the start comes to without a fault. A fault leaves all of
//! that as it is, or makes the start fail with the kind of its row: then no
//! process, no lock and no content of a pid file is left.

use std::os::unix::process::ExitStatusExt as _;

use tester::Run;
use tester::control::Message;
use tester::harness::{Outcome, PidFile};
use tester::subject::EXIT_START_FAILED;
use tester::trace::{Fault, SyscallRecord};
use tester::traced_start::TracedStart;

use crate::scenes::{Scene, Start};

/// The model's field for the daemon that has locked the pid file.
pub(crate) const RUNNING_PID: &str = "error: running pid";

/// A start that is over.
pub(crate) struct Observation {
    start: Start,
    pub(crate) traced: TracedStart,
    /// Whether the error names the daemon that has locked the pid file.
    names_holder: Option<bool>,
}

impl Start {
    /// Starts the daemon, and lets these calls fail.
    pub(crate) fn observe(mut self, faults: &[Fault]) -> Observation {
        self.scenario = self.scenario.faults(&[&self.faults, faults].concat());
        let mut traced = TracedStart::observe(&self.scenario, self.scene.is_predictable());
        traced.outcome.notifications = self.manager.take().expect("unused").lines();
        let holder = self.holder.as_ref();
        let name_none = |holder: &Run| name_no_holder(&mut traced.outcome, holder.report().pid);
        Observation {
            names_holder: holder.and_then(name_none),
            start: self,
            traced,
        }
    }
}

/// The model does not know that a daemon has locked the pid file: for the model,
/// takes the daemon's pid out of the error. Returns whether the error had it.
fn name_no_holder(outcome: &mut Outcome, pid: u32) -> Option<bool> {
    let named = format!("held by running daemon {pid}");
    let without = |text: &str| text.replace(&named, "held by another process");
    outcome.stderr = without(&outcome.stderr);
    outcome.frames.iter_mut().find_map(|frame| {
        let Message::LauncherFailed(error) = &mut frame.message else {
            return None;
        };
        error.text = without(&error.text);
        Some(error.running_pid.take() == Some(pid))
    })
}

impl Observation {
    /// All that is known of the start.
    pub(crate) fn diagnostics(&self) -> String {
        let TracedStart { calls, outcome, .. } = &self.traced;
        let calls: Vec<_> = calls.iter().map(ToString::to_string).collect();
        format!("calls:\n  {}\n{outcome:?}", calls.join("\n  "))
    }

    /// Whether the process made the call, and the call failed.
    pub(crate) fn has_failed(&self, fault: &Fault) -> bool {
        let is_it = |call: &SyscallRecord| {
            call.failed && (call.process, &call.call) == (fault.process, &fault.call)
        };
        self.traced.calls.iter().any(is_it)
    }

    /// Fails unless all is as without a fault, except for these fields.
    #[track_caller]
    pub(crate) fn assert_as_without_fault(&self, except: &[&str]) {
        let Start {
            scene, scenario, ..
        } = &self.start;
        if !scene.is_predictable() {
            return match scene.fails_with() {
                None if scene.is_of_program() => self.assert_program_runs(),
                kind => self.assert_fails(kind),
            };
        }
        let diagnostics = || self.diagnostics();
        let all = self.traced.differences(scenario, scene.unsettled());
        let found = self
            .traced
            .differences(scenario, &[scene.unsettled(), except].concat());
        let text: String = found.iter().map(|found| format!("{found}\n")).collect();
        assert!(found.is_empty(), "{text}{}", diagnostics());
        let must_differ = self.traced.is_to_succeed() && !except.is_empty();
        assert!(
            !all.is_empty() || !must_differ,
            "as without the fault\n{}",
            diagnostics()
        );
        let is_named = self.names_holder != Some(false) || except.contains(&RUNNING_PID);
        assert!(is_named, "no {RUNNING_PID}\n{}", diagnostics());
    }

    /// Fails unless there is a daemon with a complete pid file, without a complaint.
    #[track_caller]
    fn assert_program_runs(&self) {
        let outcome = &self.traced.outcome;
        let diagnostics = || self.diagnostics();
        assert_eq!(outcome.trouble, None, "{}", diagnostics());
        assert!(outcome.status.success(), "{}", diagnostics());
        assert_eq!(outcome.stderr, "", "{}", diagnostics());
        let daemon = outcome.daemon().expect("it has reported");
        let pid_file = outcome.pid_file.as_ref().and_then(Option::as_ref);
        let is_complete =
            |file: &PidFile| file.locked && file.bytes == format!("{daemon}\n").into_bytes();
        assert!(pid_file.is_some_and(is_complete), "{}", diagnostics());
    }

    /// Fails unless the start has failed with this kind, or without an error if the
    /// launcher was killed, and nothing is left.
    #[track_caller]
    pub(crate) fn assert_fails(&self, kind: Option<&str>) {
        let (scene, outcome) = (self.start.scene, &self.traced.outcome);
        let diagnostics = || self.diagnostics();
        assert_eq!(outcome.trouble, None, "{}", diagnostics());
        let status = outcome.status;
        if scene.kills_launcher() {
            assert_eq!(status.signal(), Some(libc::SIGKILL), "{}", diagnostics());
            let error = self.traced.daemon_error().map(|error| error.kind.as_str());
            assert_eq!(error, kind, "{}", diagnostics());
        } else if scene == Scene::Foreground && kind == Some("PrivilegesRetained") {
            // The process ends, since its caller must not continue with privileges.
            assert_eq!(status.code(), Some(1), "{}", diagnostics());
            let text = "the process retained privileges";
            assert!(outcome.stderr.starts_with(text), "{}", diagnostics());
        } else {
            let error = self
                .traced
                .launcher_error()
                .map(|error| error.kind.as_str());
            assert_eq!(error, kind, "{}", diagnostics());
            let failed = Some(i32::from(EXIT_START_FAILED));
            assert_eq!(status.code(), failed, "{}", diagnostics());
        }
        self.assert_nothing_left(&outcome.pid_file_at_end);
        if !scene.may_outlive_launcher() {
            // The harness does not look in the foreground, where the launcher is all.
            let is_alone = outcome.nobody_left || scene == Scene::Foreground;
            assert!(is_alone, "{}", diagnostics());
            self.assert_nothing_left(&outcome.pid_file);
        }
    }

    /// No lock and no content, unless they belong to another daemon.
    #[track_caller]
    fn assert_nothing_left(&self, pid_file: &Option<Option<PidFile>>) {
        let (content, is_locked) = match &self.start.holder {
            Some(holder) => (format!("{}\n", holder.report().pid), true),
            None => (String::new(), false),
        };
        let pid_file = pid_file.as_ref().expect("it can be seen").as_ref();
        assert!(
            pid_file.map_or(!is_locked, |file| {
                file.bytes == content.as_bytes() && file.locked == is_locked
            }),
            "{}",
            self.diagnostics()
        );
    }

    /// Under `execute` both callers get the same error.
    #[track_caller]
    pub(crate) fn assert_same_error_on_both_sides(&self) {
        let errors = (self.traced.daemon_error(), self.traced.launcher_error());
        assert_eq!(errors.0, errors.1, "{}", self.diagnostics());
    }
}
