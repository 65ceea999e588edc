//! Capabilities and secure bits of the launcher (Linux).

use super::caller::Caller;
use super::{Axis, Choice};
use crate::model::databases::Databases;
use crate::sys;

axis! {
    /// How capabilities depend on user ids.
    SecureBits |stage| stage.config.initial.secure_bits => {
        Usual => None;
        /// A process that stops being root keeps its permitted capabilities.
        KeepCapabilities => Some(sys::KEEP_CAPS);
        /// They do not depend on them.
        NoFixup => Some(sys::NO_SETUID_FIXUP);
    }
}

axis! {
    /// Capabilities that exec keeps.
    Ambient |stage| stage.config.initial.ambient_capabilities => {
        None => None;
        MayChangeIds => Some(sys::CAP_SETGID | sys::CAP_SETUID);
    }
}

fn need_root_on_linux() -> Option<&'static str> {
    let is_met = cfg!(target_os = "linux") && sys::effective_user() == 0;
    (!is_met).then_some("only Linux has them, and lets only root set them")
}

impl Axis for SecureBits {
    fn contradiction(self, _other: &Choice, _databases: &Databases) -> Option<&'static str> {
        (self != Self::Usual).then(need_root_on_linux).flatten()
    }
}

impl Axis for Ambient {
    fn contradiction(self, other: &Choice, _databases: &Databases) -> Option<&'static str> {
        if self == Self::None {
            return None;
        }
        let lacks_them = matches!(
            other.caller,
            Some(Caller::Ordinary | Caller::TestUser | Caller::RealGroup)
        );
        need_root_on_linux().or(lacks_them.then_some("ambient capabilities are permitted, too"))
    }
}

impl Choice {
    /// Whether the caller has capabilities that each thread has to give up by itself.
    pub(super) fn gives_a_thread_capabilities(&self) -> bool {
        self.caller == Some(Caller::Capable)
            || self
                .secure_bits
                .is_some_and(|bits| bits != SecureBits::Usual)
            || self.ambient == Some(Ambient::MayChangeIds)
    }
}
