//! `upgrade`

use super::foreground::InForeground;
use super::pid_file::PidFile;
use super::{Axis, Choice, Rights};
use crate::config::Bytes;
use crate::model::databases::Databases;
use crate::model::failure::Failure;
use crate::model::start::Start;

axis! {
    Upgrade |stage| stage.config.options.upgrade => {
        Unset => None;
        No => Some(false);
        Yes => Some(true);
    }
}

impl Axis for Upgrade {
    fn contradiction(self, other: &Choice, _databases: &Databases) -> Option<&'static str> {
        let is_plain = |pid_file| {
            matches!(
                pid_file,
                PidFile::None
                    | PidFile::Fresh
                    | PidFile::Relative
                    | PidFile::Stale
                    | PidFile::WorldWritable
                    | PidFile::Probed
                    | PidFile::InStickyDirectory
                    | PidFile::InTestUsersDirectory
                    | PidFile::ReadOnly
                    | PidFile::InMissingDirectory
                    | PidFile::InWritableDirectory
                    | PidFile::InClosedDirectory
                    | PidFile::Nul
            )
        };
        (self == Self::Yes && !other.pid_file.is_none_or(is_plain))
            .then_some("tests/pid_file/upgrade.rs has these files")
    }

    fn expected_failure(self, other: &Choice, _rights: Option<Rights>) -> Option<&'static str> {
        let is_foreground =
            |foreground| matches!(foreground, InForeground::Yes | InForeground::IfSupervised);
        (self == Self::Yes && other.foreground.is_some_and(is_foreground))
            .then_some("the foreground has no launcher")
    }
}

impl Start<'_> {
    pub(crate) fn is_upgrade(&self) -> bool {
        self.options.upgrade == Some(true)
    }

    /// The pid file that the start locks.
    pub(crate) fn locked_path(&self) -> Option<Bytes> {
        let mut path = self.options.pid_file.clone()?;
        if self.is_upgrade() {
            path.0.extend_from_slice(b".new");
        }
        Some(path)
    }

    pub(crate) fn plan_takeover(&self) -> Result<(), Failure> {
        if self.is_upgrade() && self.is_foreground() && self.options.pid_file.is_some() {
            let failure = Failure::new("TakeOverPidfile", libc::EINVAL);
            let failure = failure.at(self.options.pid_file.as_ref());
            return Err(
                failure.with_reason("the foreground has no launcher that could take it over")
            );
        }
        Ok(())
    }
}
