//! A traced start, and its prediction by the model.

use std::sync::LazyLock;

use crate::Scenario;
use crate::control::Message;
use crate::harness::Outcome;
use crate::predict::{self, Databases, InitialFiles, Mismatch, Prediction};
use crate::report::{Report, SignalHit, StartError, SyscallRecord};

/// A traced start that is over.
#[derive(Debug)]
pub struct TracedStart {
    /// The outcome of the start.
    pub outcome: Outcome,
    /// The calls of the library, in their order.
    pub calls: Vec<SyscallRecord>,
    /// The process to which the tracer has sent a signal, if it has.
    pub signal_hit: Option<SignalHit>,
    before: Report,
    prediction: Option<Prediction>,
}

impl TracedStart {
    /// Starts a scenario with [faults](Scenario::faults). The model predicts the
    /// outcome without the faults, if `is_predictable` says that it knows such a
    /// start.
    ///
    /// # Panics
    ///
    /// When the tester does not reach the start, or the tracer does not reach its
    /// end.
    pub fn observe(scenario: &Scenario, is_predictable: bool) -> Self {
        static DATABASES: LazyLock<Databases> = LazyLock::new(Databases::read);
        let world = is_predictable.then(|| InitialFiles::of(scenario, &DATABASES));
        let mut outcome = scenario.outcome();
        let (mut calls, mut signal_hit, mut has_trace) = (Vec::new(), None, false);
        outcome.frames.retain(|frame| match &frame.message {
            Message::Traced(made) => {
                calls.clone_from(made);
                has_trace = true;
                false
            }
            Message::SignalHit(hit) => {
                signal_hit = *hit;
                has_trace = true;
                false
            }
            _ => true,
        });
        let Some(before) = outcome.initial().filter(|_| has_trace).cloned() else {
            panic!("no start, or no trace: {outcome:?}");
        };
        // The harness takes the tracer for the launcher.
        outcome.launcher = before.pid;
        let prediction = world.map(|world| predict::predict(&scenario.config, &before, &world));
        Self {
            outcome,
            calls,
            signal_hit,
            before,
            prediction,
        }
    }

    /// Whether the start would succeed without a fault.
    pub fn is_to_succeed(&self) -> bool {
        self.prediction.as_ref().is_some_and(Prediction::succeeds)
    }

    /// The differences from the prediction, without those in these fields. A field is
    /// named by its beginning.
    pub fn differences(&self, scenario: &Scenario, except: &[&str]) -> Vec<Mismatch> {
        let prediction = self.prediction.as_ref();
        let compare = |prediction| {
            predict::mismatches(&scenario.config, &self.before, prediction, &self.outcome)
        };
        let mut found = prediction.map_or_else(Vec::new, compare);
        found.retain(|found| !except.iter().any(|field| found.field.starts_with(field)));
        found
    }

    /// The error that the library returned in the launcher.
    pub fn launcher_error(&self) -> Option<&StartError> {
        self.error(|message| match message {
            Message::LauncherFailed(error) => Some(error),
            _ => None,
        })
    }

    /// The error that the library returned in the daemon.
    pub fn daemon_error(&self) -> Option<&StartError> {
        self.error(|message| match message {
            Message::DaemonFailed(error) => Some(error),
            _ => None,
        })
    }

    fn error(&self, select: fn(&Message) -> Option<&StartError>) -> Option<&StartError> {
        let mut frames = self.outcome.frames.iter();
        frames.find_map(|frame| select(&frame.message))
    }
}
