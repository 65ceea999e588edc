//! The signals of the launcher.

use super::{Axis, Choice};
use crate::config::{Blocked, Disposition};
use crate::model::databases::Databases;
use crate::suite::Need;

axis! {
    BlockedSignals |stage| stage.config.initial.blocked => {
        None => Blocked::Inherited;
        Some => Blocked::These(vec![libc::SIGTERM, libc::SIGUSR1]);
        All => Blocked::All;
    }
}

axis! {
    /// The dispositions of signals. tests/signals has the handlers for signals that a case
    /// sends.
    Dispositions |stage| stage.config.initial.dispositions => {
        Usual => Vec::new();
        IgnoreChildren => vec![(libc::SIGCHLD, Disposition::Ignore)];
        HandleChildren => vec![(libc::SIGCHLD, Disposition::Handle)];
        ReapChildren => vec![(libc::SIGCHLD, Disposition::Reap)];
        Others => vec![
            (libc::SIGTERM, Disposition::Ignore),
            (libc::SIGHUP, Disposition::Ignore),
            (libc::SIGPIPE, Disposition::Default),
            (libc::SIGUSR1, Disposition::Handle),
        ];
    }
}

axis! {
    /// An interval timer whose signal is handled, and interrupts system calls.
    Timer |stage| stage.config.initial.interval_timer => {
        None => None;
        Ticks => Some(1_000);
    }
}

impl Axis for BlockedSignals {}

impl Axis for Dispositions {}

impl Axis for Timer {
    fn contradiction(self, _other: &Choice, _databases: &Databases) -> Option<&'static str> {
        match self {
            Self::None => None,
            Self::Ticks => Need::KilledTimers.unmet(),
        }
    }
}
