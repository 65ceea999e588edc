//! Compares a start with the model.
//!
//! The model says what the start comes to without a fault. A fault leaves all of
//! that as it is, or makes the start fail with the kind of its row: then no
//! process, no lock and no content of a pid file is left.

use std::os::unix::process::ExitStatusExt as _;
use std::sync::LazyLock;

use tester::control::Message;
use tester::harness::{Outcome, PidFile};
use tester::model::{self, Databases, Prediction, World};
use tester::report::{Report, StartError};
use tester::subject::EXIT_START_FAILED;
use tester::trace::{Fault, SyscallRecord};

use crate::scenes::{Scene, Start};

/// The model's field for the daemon that has locked the pid file.
pub(crate) const RUNNING_PID: &str = "error: running pid";

static DATABASES: LazyLock<Databases> = LazyLock::new(Databases::read);

/// A start that is over.
pub(crate) struct Observation {
    start: Start,
    /// The calls of the library, in their order.
    pub(crate) calls: Vec<SyscallRecord>,
    outcome: Outcome,
    before: Report,
    /// Whether the error names the daemon that has locked the pid file.
    names_holder: Option<bool>,
    /// What the start comes to without a fault, where the model knows it.
    prediction: Option<Prediction>,
}

impl Start {
    /// Starts the daemon, and lets these calls fail.
    ///
    /// # Panics
    ///
    /// When the tester does not get to the start.
    pub(crate) fn observe(mut self, faults: &[Fault]) -> Observation {
        let faults = [&self.faults, faults].concat();
        let world = (!self.scene.is_cut_short()).then(|| World::look(&self.scenario, &DATABASES));
        let mut outcome = self.scenario.clone().faults(&faults).outcome();
        outcome.notifications = self.manager.take().expect("unused").lines();
        let Some(before) = outcome.initial().cloned() else {
            panic!("no start: {outcome:?}");
        };
        // The harness takes the tracer for the launcher.
        outcome.launcher = before.pid;
        let mut calls = None;
        let mut names_holder = None;
        outcome.frames.retain(|frame| match &frame.message {
            Message::Traced(made) => {
                calls = Some(made.clone());
                false
            }
            _ => true,
        });
        let Some(calls) = calls else {
            panic!("no trace: {outcome:?}");
        };
        if let Some(holder) = &self.holder {
            name_no_holder(&mut outcome, holder.report().pid, &mut names_holder);
        }
        let prediction = world.map(|world| model::foresee(&self.scenario.config, &before, &world));
        Observation {
            names_holder,
            start: self,
            calls,
            outcome,
            before,
            prediction,
        }
    }
}

/// The model does not know that a daemon has locked the pid file: for the model,
/// takes the daemon's pid out of the error.
fn name_no_holder(outcome: &mut Outcome, pid: u32, names_holder: &mut Option<bool>) {
    let without = |text: &str| {
        text.replace(
            &format!("held by running daemon {pid}"),
            "held by another process",
        )
    };
    outcome.stderr = without(&outcome.stderr);
    for frame in &mut outcome.frames {
        if let Message::LauncherFailed(error) = &mut frame.message {
            *names_holder = Some(error.running_pid.take() == Some(pid));
            error.text = without(&error.text);
        }
    }
}

impl Observation {
    /// All that is known of the start.
    pub(crate) fn diagnostics(&self) -> String {
        let Self { calls, outcome, .. } = self;
        let calls: Vec<_> = calls.iter().map(ToString::to_string).collect();
        format!("calls:\n  {}\n{outcome:?}", calls.join("\n  "))
    }

    /// Whether the call was made, and failed as it was to.
    pub(crate) fn has_failed(&self, fault: &Fault) -> bool {
        let is_it = |call: &SyscallRecord| {
            call.failed && (call.process, &call.call) == (fault.process, &fault.call)
        };
        self.calls.iter().any(is_it)
    }

    fn error(&self, is_it: impl Fn(&Message) -> Option<&StartError>) -> Option<&StartError> {
        let mut frames = self.outcome.frames.iter();
        frames.find_map(|frame| is_it(&frame.message))
    }

    pub(crate) fn launcher_error(&self) -> Option<&StartError> {
        self.error(|message| match message {
            Message::LauncherFailed(error) => Some(error),
            _ => None,
        })
    }

    fn daemon_error(&self) -> Option<&StartError> {
        self.error(|message| match message {
            Message::DaemonFailed(error) => Some(error),
            _ => None,
        })
    }

    /// Fails unless all is as without a fault, except for these fields.
    #[track_caller]
    pub(crate) fn assert_as_without_fault(&self, except: &[&str]) {
        let Some(prediction) = &self.prediction else {
            return self.assert_fails(self.start.scene.fails_with());
        };
        let config = &self.start.scenario.config;
        let mut found = model::mismatches(config, &self.before, prediction, &self.outcome);
        let scene = self.start.scene;
        let is_one_of =
            |field: &str, fields: &[&str]| fields.iter().any(|known| field.starts_with(known));
        found.retain(|found| !is_one_of(&found.field, scene.unsettled()));
        let differs = (found.iter()).any(|found| is_one_of(&found.field, except));
        found.retain(|found| !is_one_of(&found.field, except));
        let is_named = self.names_holder != Some(false) || except.contains(&RUNNING_PID);
        assert!(is_named, "no {RUNNING_PID}\n{}", self.diagnostics());
        let found: Vec<_> = found.iter().map(ToString::to_string).collect();
        assert!(
            found.is_empty(),
            "{}\n{}",
            found.join("\n"),
            self.diagnostics()
        );
        let must_differ = prediction.succeeds() && !except.is_empty();
        let diagnostics = || self.diagnostics();
        assert!(
            differs || !must_differ,
            "as without the fault\n{}",
            diagnostics()
        );
    }

    /// Fails unless the start has failed with this kind, or without an error if the
    /// launcher was killed, and nothing is left.
    #[track_caller]
    pub(crate) fn assert_fails(&self, kind: Option<&str>) {
        let (scene, outcome) = (self.start.scene, &self.outcome);
        let diagnostics = || self.diagnostics();
        assert_eq!(outcome.trouble, None, "{}", diagnostics());
        let status = outcome.status;
        if scene.kills_launcher() {
            assert_eq!(status.signal(), Some(libc::SIGKILL), "{}", diagnostics());
            let error = self.daemon_error().map(|error| error.kind.as_str());
            assert_eq!(error, kind, "{}", diagnostics());
        } else if scene == Scene::Foreground && kind == Some("PrivilegesRetained") {
            // The process ends, lest its caller goes on with privileges.
            assert_eq!(status.code(), Some(1), "{}", diagnostics());
            let text = "privileges were retained";
            assert!(outcome.stderr.starts_with(text), "{}", diagnostics());
        } else {
            let error = self.launcher_error().map(|error| error.kind.as_str());
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
        let errors = (self.daemon_error(), self.launcher_error());
        assert_eq!(errors.0, errors.1, "{}", self.diagnostics());
    }
}
