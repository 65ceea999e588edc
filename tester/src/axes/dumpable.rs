//! `dumpable`

use super::{Axis, Choice, Rights};
use crate::config::Identity;
use crate::model::credentials::Credentials;
use crate::model::failure::Failure;
use crate::model::start::Start;

axis! {
    Dumpable |stage| stage.config.options.dumpable => {
        Unset => false;
        Set => true;
    }
}

impl Axis for Dumpable {
    fn expected_failure(self, _other: &Choice, _rights: Option<Rights>) -> Option<&'static str> {
        (self == Self::Set && !cfg!(target_os = "linux"))
            .then_some("the platform does not support it")
    }
}

/// Whether a process that changes its ids stays dumpable: proc(5),
/// /proc/sys/fs/suid_dumpable.
fn stays_dumpable() -> bool {
    std::fs::read_to_string("/proc/sys/fs/suid_dumpable").is_ok_and(|mode| mode.trim() == "1")
}

impl Start<'_> {
    pub(crate) fn refuse_dumpable(&self) -> Result<(), Failure> {
        if self.options.dumpable && !cfg!(target_os = "linux") {
            let failure = Failure::new("Unsupported", None);
            return Err(failure.with_subject(&Identity::from("dumpable")));
        }
        Ok(())
    }

    /// A change of an effective id takes the attribute away.
    pub(crate) fn lose_dumpable(&mut self, before: &Credentials) {
        let effective = |of: &Credentials| (of.uid.effective, of.gid.effective);
        if effective(before) != effective(&self.credentials) {
            let owner = match stays_dumpable() {
                true => self.credentials.uid.effective,
                false => 0,
            };
            self.process.files_owner = self.process.files_owner.map(|_| owner);
        }
    }

    pub(crate) fn become_dumpable(&mut self) {
        if self.options.dumpable {
            let owner = self.credentials.uid.effective;
            self.process.files_owner = self.process.files_owner.map(|_| owner);
        }
    }
}
