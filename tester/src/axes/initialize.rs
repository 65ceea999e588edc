//! `initialize`

use super::deferred_readiness::Readiness;
use super::entry::EntryPoint;
use super::privileged_action::add;
use super::ready_payload::Payload;
use super::{Axis, Choice};
use crate::config::{ErrorText, Fallible, Step};
use crate::model::databases::Databases;
use crate::model::failure::{Failure, MAX_PAYLOAD};
use crate::model::start::Start;

axis! {
    Initialize |stage| stage.config.initialize => {
        None => Vec::new();
        /// Reports the process.
        Observes => vec![[Step::Observe, add("first")].into()];
        /// Two of them.
        Chain => vec![[add("first")].into(), [add("second")].into()];
        Fails => vec![fails()], fails;
        /// The second of two fails.
        SecondFails => vec![[add("first")].into(), fails()], fails;
        FailsWithPayload => {
            vec![Fallible::with_payload("the initialization's error", b"\xff\0")]
        }, fails;
        /// The payload is too long for a message.
        FailsWithTooLong => {
            vec![Fallible::with_payload("the initialization's error", vec![b'p'; MAX_PAYLOAD + 1])]
        }, fails;
        Panics => vec![[Step::Panic("the initialization's panic".to_owned())].into()], fails;
        Killed => vec![[Step::KillItself(libc::SIGKILL)].into()], fails;
    }
}

axis! {
    /// Whether the last initialization is given to the entry point, as a closure that borrows.
    Borrows |stage| stage.config.borrows => {
        No => false;
        Yes => true;
    }
}

fn fails() -> Fallible {
    ErrorText::from("the initialization's error").into()
}

impl Axis for Initialize {}

impl Axis for Borrows {
    fn contradiction(self, other: &Choice, _databases: &Databases) -> Option<&'static str> {
        if self == Self::No {
            return None;
        }
        if other.initialize == Some(Initialize::None) {
            return Some("there is no initialization");
        }
        if matches!(other.entry, Some(EntryPoint::Start | EntryPoint::Execute)) {
            return Some("the unsafe entry points take no closure");
        }
        let has_later_closure = other
            .ready_payload
            .is_some_and(|payload| payload != Payload::None)
            || (other.deferred_readiness).is_some_and(|readiness| readiness != Readiness::None);
        has_later_closure.then_some("no closure follows the one of the entry point")
    }
}

impl Start<'_> {
    pub(crate) fn initialize(&mut self) -> Result<(), Failure> {
        let mut closures = self.config.initialize.iter();
        closures.try_for_each(|one| self.run_fallible("Initialize", "the initialization", one))
    }
}
