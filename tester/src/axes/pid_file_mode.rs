//! `pid_file_mode`

use super::Axis;
use crate::model::credentials::Right;
use crate::model::failure::Failure;
use crate::model::start::{ExpectedPidFile, Start};

axis! {
    PidFileMode |stage| stage.config.options.pid_file_mode => {
        None => None;
        ForMonitors => Some(0o644);
        Secret => Some(0o600);
        ReadOnly => Some(0o444);
        WritableByGroup => Some(0o664), fails;
        Unreadable => Some(0o244), fails;
        SetUserId => Some(0o4755), fails;
    }
}

impl Axis for PidFileMode {}

impl Start<'_> {
    /// Refuses a mode before any fork, if there is a pid file.
    pub(crate) fn refuse_pid_file_mode(&self) -> Result<(), Failure> {
        let path = self.options.pid_file.as_ref();
        let (Some(_), Some(mode)) = (path, self.options.pid_file_mode) else {
            return Ok(());
        };
        let why = match mode {
            mode if mode > 0o777 => "has other bits than those of permissions",
            mode if mode & 0o022 != 0 => {
                "lets other users write to it; remove the write permission of group and others"
            }
            mode if mode & 0o400 == 0 => "does not let its owner read it",
            _ => return Ok(()),
        };
        let failure = Failure::new("ChmodPidfile", libc::EINVAL).at(path);
        Err(failure.with_reason(format!("mode {mode:04o} {why}")))
    }

    /// The file after the change of its mode.
    pub(crate) fn change_pid_file_mode(
        &self,
        file: ExpectedPidFile,
    ) -> Result<ExpectedPidFile, Failure> {
        let Some(mode) = self.options.pid_file_mode else {
            return Ok(file);
        };
        let caller = &self.credentials;
        let may_change = caller.uid.effective == file.uid || caller.has(Right::FileOwner);
        if mode != file.mode && !may_change {
            let failure = Failure::new("ChmodPidfile", libc::EPERM);
            let deed = "changing the mode of another user's file";
            let failure = failure.refused(caller, deed, "CAP_FOWNER");
            return Err(failure.at(self.locked_path().as_ref()));
        }
        Ok(ExpectedPidFile { mode, ..file })
    }
}
