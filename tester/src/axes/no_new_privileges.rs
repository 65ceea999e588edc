//! `no_new_privileges`

use super::privileged_action::Action;
use super::process::Threads;
use super::{Axis, Choice, Rights};
use crate::config::Identity;
use crate::model::failure::Failure;
use crate::model::start::Start;

axis! {
    NoNewPrivileges |stage| stage.config.options.no_new_privileges => {
        Unset => false;
        Set => true;
    }
}

impl Axis for NoNewPrivileges {
    fn expected_failure(self, other: &Choice, _rights: Option<Rights>) -> Option<&'static str> {
        let is_set = self == Self::Set;
        let another_thread = other.threads == Some(Threads::Two)
            || other.privileged_action == Some(Action::MakesThread);
        if is_set && !HAS_NO_NEW_PRIVILEGES {
            return Some("the platform does not support it");
        }
        (is_set && another_thread && cfg!(target_os = "linux"))
            .then_some("another thread would not get no_new_privs")
    }
}

/// prctl(2) of Linux, procctl(2) of FreeBSD 14.
const HAS_NO_NEW_PRIVILEGES: bool = cfg!(any(target_os = "linux", target_os = "freebsd"));

impl Start<'_> {
    /// On Linux each thread gives up its own.
    pub(crate) fn set_no_new_privileges(&mut self) -> Result<(), Failure> {
        let has_other_threads =
            self.has_made_thread || self.is_foreground() && self.config.initial.extra_threads > 0;
        if has_other_threads && cfg!(target_os = "linux") {
            let failure = Failure::new("SetNoNewPrivileges", libc::EPERM);
            return Err(failure.with_reason("other threads exist, and would not get no_new_privs"));
        }
        self.process.no_new_privileges = self.process.no_new_privileges.map(|_| true);
        Ok(())
    }

    pub(crate) fn refuse_unsupported(&self) -> Result<(), Failure> {
        if self.options.no_new_privileges && !HAS_NO_NEW_PRIVILEGES {
            let failure = Failure::new("Unsupported", None);
            return Err(failure.with_subject(&Identity::from("no_new_privileges")));
        }
        Ok(())
    }
}
