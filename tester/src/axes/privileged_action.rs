//! `privileged_action` and `try_privileged_action`

use super::process::Limits;
use super::{Axis, Choice, Rights};
use crate::config::{ErrorText, Step};
use crate::model::databases::Databases;
use crate::model::failure::Failure;
use crate::model::start::Start;

// A closure that leaves a process, a thread, a file or a socket behind, or that waits for the
// harness, is tested in tests/readiness and tests/errors.
axis! {
    /// The privileged action, with which the second value of a pair may fail.
    Action |stage| (stage.config.privileged_action, stage.config.try_privileged_action) => {
        None => (None, None);
        /// Reports the process.
        Observes => (Some(vec![Step::Observe, add("action")]), None);
        /// May fail, but does not.
        Succeeds => (None, Some([add("action")].into()));
        /// Returns a value that reports its drop.
        Witnesses => (Some(vec![Step::WitnessResult, add("action")]), None);
        MakesThread => (Some(vec![Step::MakeThread]), None);
        Fails => (None, Some(ErrorText::from("the action's error").into())), fails;
        Panics => (Some(vec![panics()]), None), fails;
        /// Panics where it may return an error.
        PanicsInstead => (None, Some([panics()].into())), fails;
        Exits => (Some(vec![Step::Exit(3)]), None), fails;
    }
}

axis! {
    /// Whether the privileged action captures a value that reports its drop.
    Capture |stage| stage.config.witness_capture => {
        None => false;
        Witnessed => true;
    }
}

fn panics() -> Step {
    Step::Panic("the action's panic".to_owned())
}

pub(super) fn add(text: &str) -> Step {
    Step::Add(text.to_owned())
}

impl Axis for Action {
    fn contradiction(self, other: &Choice, _databases: &Databases) -> Option<&'static str> {
        (self == Self::MakesThread && other.limits == Some(Limits::Processes))
            .then_some("a thread counts as a process to that limit")
    }

    fn expected_failure(self, other: &Choice, _rights: Option<Rights>) -> Option<&'static str> {
        (self == Self::MakesThread && other.gives_a_thread_capabilities())
            .then_some("the thread may keep its capabilities")
    }
}

impl Axis for Capture {
    fn contradiction(self, other: &Choice, _databases: &Databases) -> Option<&'static str> {
        (self == Self::Witnessed && other.privileged_action == Some(Action::None))
            .then_some("there is no closure that captures")
    }
}

impl Start<'_> {
    pub(crate) fn run_privileged_action(&mut self) -> Result<(), Failure> {
        self.has_acted = true;
        if let Some(action) = &self.config.try_privileged_action {
            self.run_fallible("PrivilegedAction", "the action", action)
        } else if let Some(steps) = &self.config.privileged_action {
            self.run_steps("the action", steps)
        } else {
            Ok(())
        }
    }
}
