//! `on_started`

use super::Axis;
use crate::config::Step;
use crate::model::start::{Side, Start, Written};

axis! {
    /// The closure that runs in the launcher when the daemon is ready.
    OnStarted |stage| stage.config.on_started => {
        None => None;
        /// Prints a text without the end of a line, which stays in the buffer.
        Prints => Some(vec![prints()]);
        Panics => Some(vec![prints(), Step::Panic("the launcher's panic".to_owned())]);
    }
}

fn prints() -> Step {
    Step::Print("the launcher's text. ".to_owned())
}

impl Axis for OnStarted {}

impl Start<'_> {
    fn calls_on_started(&self, failed: Option<Side>) -> Option<&[Step]> {
        let is_called = failed.is_none() && !self.is_foreground();
        self.config.on_started.as_deref().filter(|_| is_called)
    }

    pub(crate) fn launcher_panics(&self, failed: Option<Side>) -> bool {
        let panics = |step: &Step| matches!(step, Step::Panic(_));
        let steps = self.calls_on_started(failed).unwrap_or_default();
        steps.iter().any(panics)
    }

    /// Records what the closure writes, and the drops of its captures. A daemon drops them before
    /// its first closure.
    pub(crate) fn record_on_started(&mut self, failed: Option<Side>) {
        let launcher = self.launcher();
        let steps = self.calls_on_started(failed).unwrap_or_default().to_vec();
        for step in steps {
            match step {
                Step::Print(text) => self.write(&launcher, 1, Written::Text(text)),
                Step::Panic(text) => self.write(&launcher, 2, Written::Panic(text)),
                other => panic!("the oracle knows nothing of {other:?} in the launcher"),
            }
        }
        if self.config.on_started.is_none() || !self.config.witness_capture {
            return;
        }
        let is_foreground = self.is_foreground();
        if !is_foreground {
            self.messages.push("launcher OnStartedDropped".to_owned());
        }
        let in_both = self.config.entry.returns_in_both();
        if self.has_acted || is_foreground || in_both && failed == Some(Side::Daemon) {
            self.messages.push("daemon OnStartedDropped".to_owned());
        }
    }
}
