//! `deferred_readiness`

use std::time::Duration;

use super::process::Limits;
use super::startup_timeout::Timeout;
use super::{Axis, Choice, Combination, Stage};
use crate::config::{Deferral, Life, ReadinessUse, Step};
use crate::model::databases::Databases;
use crate::model::failure::{Failure, error_text};
use crate::model::start::{Opened, Parent, Side, Start};
use crate::slowness::scaled;
use crate::texts::{READINESS_DROPPED, of_panic};

/// The timeout of a daemon that does not become ready: longer than such a daemon takes to start on
/// a busy machine.
const SHORT_TIMEOUT: Duration = Duration::from_millis(1200);

axis! {
    /// `deferred_readiness`, and the use of the readiness.
    Readiness |stage| stage.config.deferred_readiness => {
        None => None;
        Ready => Some(Deferral::new([], ReadinessUse::Ready));
        /// Another thread reports readiness.
        ReadyInThread => Some(Deferral {
            in_thread: true,
            ..Deferral::new([], ReadinessUse::Ready)
        });
        /// Ready after another step.
        ReadyLater => Some(Deferral::new([Step::Observe], ReadinessUse::Ready));
        /// Ready after a copy of the process has tried to report readiness.
        ReadyAfterCopy => Some(Deferral {
            in_copy: Some(ReadinessUse::Ready),
            ..Deferral::new([], ReadinessUse::Ready)
        });
        Fails => Some(Deferral::new([], ReadinessUse::Fail("the daemon's reason".into()))), fails;
        Dropped => exits(stage, ReadinessUse::Drop), fails;
        DroppedByPanic => {
            exits(stage, ReadinessUse::DropByPanic("the daemon's panic".to_owned()))
        }, fails;
        /// Kept until the timeout.
        Kept => {
            stage.config.options.startup_timeout = Some(scaled(SHORT_TIMEOUT));
            Some(Deferral::new([], ReadinessUse::Keep))
        }, fails;
    }
}

/// The library gives the daemon a second to end by itself.
fn exits(stage: &mut Stage<'_>, usage: ReadinessUse) -> Option<Deferral> {
    stage.config.life = Life::Exit(0);
    Some(Deferral::new([], usage))
}

impl Axis for Readiness {
    fn contradiction(self, other: &Choice, _databases: &Databases) -> Option<&'static str> {
        let makes_processes = matches!(self, Self::ReadyInThread | Self::ReadyAfterCopy);
        if makes_processes && other.limits == Some(Limits::Processes) {
            return Some("a thread and a copy count as processes to that limit");
        }
        (self == Self::Kept && other.startup_timeout == Some(Timeout::Ample))
            .then_some("there is one timeout")
    }
}

impl Combination {
    /// Whether such a start waits for its timeout.
    pub fn waits(&self) -> bool {
        self.deferred_readiness == Readiness::Kept
    }
}

impl Start<'_> {
    pub(crate) fn report_readiness(&mut self) -> Result<(), Failure> {
        let Some(deferral) = &self.config.deferred_readiness else {
            self.commit();
            self.observe("the library's return");
            self.settle();
            return Ok(());
        };
        self.observe("the library's return");
        self.side = Side::Returned;
        self.run_steps("the daemon's own steps", &deferral.steps)?;
        if deferral.in_copy.is_some() {
            self.messages.push("daemon copied itself".to_owned());
            self.messages.push(
                "copy not acknowledged: the daemon is not ready: \
                 a child of the daemon cannot report for the daemon"
                    .to_owned(),
            );
        }
        let failed = |reason: &str| Err(Failure::new("NotReady", None).with_reason(reason));
        match &deferral.usage {
            ReadinessUse::Ready => {
                self.commit();
                self.settle();
                Ok(())
            }
            ReadinessUse::Fail(text) => {
                self.ends_at_once = true;
                failed(&error_text(text))
            }
            ReadinessUse::FailWith(..)
            | ReadinessUse::FailAndReturn(_)
            | ReadinessUse::FailAndReturnWith(..)
            | ReadinessUse::Serve(_) => {
                panic!("the oracle knows nothing of {:?}", deferral.usage)
            }
            ReadinessUse::Drop => failed(READINESS_DROPPED),
            ReadinessUse::DropByPanic(text) => {
                self.panic(text);
                failed(&format!("it panicked: {}", of_panic(text)))
            }
            ReadinessUse::Keep => {
                assert!(
                    self.options.startup_timeout.is_some(),
                    "it would go on for ever"
                );
                self.ends_at_once = true;
                let timeout = self.options.startup_timeout;
                let text = format!(
                    "the startup timeout of {:?} expired before the daemon used its `Readiness`; \
                     the library terminated the daemon",
                    timeout.unwrap_or_default()
                );
                Err(Failure::new("StartupTimeout", None).with_reason(text))
            }
        }
    }

    pub(crate) fn commit(&mut self) {
        self.replace_kept_streams();
        self.opened.retain(|&opened| opened != Opened::Channel);
        if !self.is_foreground() {
            self.parents = self.adopters();
        }
    }

    /// The launcher has ended by now, if the start has forked.
    pub(crate) fn settle(&mut self) {
        if !self.is_foreground() {
            self.parents = vec![Parent::Reaper];
        }
        self.observe("the launcher's end");
    }
}
