//! `initialize`

use super::Axis;
use super::privileged_action::add;
use crate::config::{ErrorText, Fallible, Step};
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

fn fails() -> Fallible {
    ErrorText::from("the initialization's error").into()
}

impl Axis for Initialize {}

impl Start<'_> {
    pub(crate) fn initialize(&mut self) -> Result<(), Failure> {
        let mut closures = self.config.initialize.iter();
        closures.try_for_each(|one| self.run_fallible("Initialize", "the initialization", one))
    }
}
