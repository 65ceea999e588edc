//! `ready_payload`, or `Readiness::ready_with` if the readiness is deferred

use super::deferred_readiness::Readiness;
use super::{Axis, Choice};
use crate::config::Bytes;
use crate::model::databases::Databases;
use crate::model::failure::{Failure, MAX_PAYLOAD, too_long};
use crate::model::start::Start;

axis! {
    /// The payload of the report that the daemon is ready.
    Payload |stage| stage.config.ready_payload => {
        None => None;
        Short => Some(Bytes(b"127.0.0.1:7\n\xff\0".to_vec()));
        Longest => Some(Bytes(vec![b'p'; MAX_PAYLOAD]));
        TooLong => Some(Bytes(vec![b'p'; MAX_PAYLOAD + 1])), fails;
    }
}

impl Axis for Payload {
    fn contradiction(self, other: &Choice, _databases: &Databases) -> Option<&'static str> {
        let is_deferred = other
            .deferred_readiness
            .is_some_and(|one| one != Readiness::None);
        (self == Self::TooLong && is_deferred)
            .then_some("the caller of `ready_with` ends the daemon: tests/readiness")
    }
}

impl Start<'_> {
    pub(crate) fn make_payload(&self) -> Result<(), Failure> {
        let length = match (&self.config.ready_payload, &self.config.deferred_readiness) {
            (Some(Bytes(payload)), None) => payload.len(),
            _ => 0,
        };
        match length {
            0..=MAX_PAYLOAD => Ok(()),
            _ => Err(Failure::new("PayloadTooLong", None).with_reason(too_long(length))),
        }
    }
}
