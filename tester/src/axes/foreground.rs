//! `foreground`

use super::deferred_readiness::Readiness;
use super::initialize::Initialize;
use super::privileged_action::Action;
use super::signals::Timer;
use super::{Axis, Choice};
use crate::config::Foreground;
use crate::model::credentials::Right;
use crate::model::databases::Databases;
use crate::model::failure::Failure;
use crate::model::start::{Opened, Parent, Start};
use crate::report::Terminal;

axis! {
    InForeground |stage| stage.config.options.foreground => {
        Unset => None;
        No => Some(Foreground::No);
        Yes => Some(Foreground::Yes);
        IfSupervised => Some(Foreground::IfSupervised);
    }
}

impl Axis for InForeground {
    fn contradiction(self, other: &Choice, _databases: &Databases) -> Option<&'static str> {
        if matches!(self, Self::Unset | Self::No) {
            return None;
        }
        let ends_unreported = matches!(
            other.deferred_readiness,
            Some(Readiness::Dropped | Readiness::DroppedByPanic | Readiness::Kept)
        ) || other.privileged_action == Some(Action::Exits)
            || other.initialize == Some(Initialize::Killed);
        if ends_unreported {
            return Some("no process would report the failure");
        }
        (other.timer == Some(Timer::Ticks)).then_some("reset, its signal would end the process")
    }
}

impl Start<'_> {
    pub(crate) fn fork(&mut self) -> Result<(), Failure> {
        if self.is_foreground() {
            // Before, a joined thread may still have been counted.
            let threads = 1 + self.config.initial.extra_threads;
            self.process.threads = self.process.threads.map(|_| threads);
            return Ok(());
        }
        if self.config.initial.limit_processes.is_some() && !self.may_exceed_processes() {
            return Err(Failure::new("Fork", libc::EAGAIN));
        }
        self.parents = vec![Parent::Intermediate];
        self.process.terminal = Some(Terminal::None);
        self.process.threads = Some(1);
        self.opened.push(Opened::Channel);
        Ok(())
    }

    /// FreeBSD asks for the real user (sys/kern/kern_priv.c, `PRIV_PROC_LIMIT`), as XNU does
    /// (bsd/kern/kern_fork.c, `cloneproc`), and Linux for either.
    fn may_exceed_processes(&self) -> bool {
        let is_roots = self.credentials.uid.real == 0;
        let has_right =
            self.credentials.has(Right::Resources) || self.credentials.has(Right::Administrate);
        is_roots || cfg!(target_os = "linux") && has_right
    }
}
