//! `chown_pid_file`, `chown_pid_file_user` and `chown_pid_file_group`

use super::{Axis, Choice, NUMBER, Rights, UNKNOWN, id, name};
use crate::model::credentials::Right;
use crate::model::databases::NOBODY;
use crate::model::failure::Failure;
use crate::model::start::Start;
use crate::suite::TEST_USER_ID;

axis! {
    ChownPidFile |stage| stage.config.options.chown_pid_file => {
        Unset => false;
        ToDaemon => true;
    }
}

axis! {
    ChownUser |stage| stage.config.options.chown_pid_file_user => {
        None => None;
        Own => id(stage.caller().0);
        TestUser => id(TEST_USER_ID);
        Ordinary => name(NOBODY);
        Unknown => name(UNKNOWN), fails;
        /// The id that means 'unchanged' to the kernel.
        Reserved => id(u32::MAX), fails;
        Nul => name("with\0nul"), fails;
    }
}

axis! {
    ChownGroup |stage| stage.config.options.chown_pid_file_group => {
        None => None;
        Own => id(stage.caller().1);
        /// An id without an entry.
        Number => id(NUMBER);
        Ordinary => name(stage.databases.ordinary_group());
        Unknown => name(UNKNOWN), fails;
        /// The id that means 'unchanged' to the kernel.
        Reserved => id(u32::MAX), fails;
        Nul => name("with\0nul"), fails;
    }
}

impl Axis for ChownPidFile {
    fn expected_failure(self, _other: &Choice, rights: Option<Rights>) -> Option<&'static str> {
        only_root(self == Self::ToDaemon, rights)
    }
}

impl Axis for ChownUser {
    fn expected_failure(self, _other: &Choice, rights: Option<Rights>) -> Option<&'static str> {
        only_root(!matches!(self, Self::None | Self::Own), rights)
    }
}

impl Axis for ChownGroup {
    fn expected_failure(self, _other: &Choice, rights: Option<Rights>) -> Option<&'static str> {
        only_root(!matches!(self, Self::None | Self::Own), rights)
    }
}

fn only_root(gives_away: bool, rights: Option<Rights>) -> Option<&'static str> {
    let lacks_rights = rights.is_some_and(|rights| !rights.is_root);
    (gives_away && lacks_rights).then_some("only root can give a file away")
}

impl Start<'_> {
    pub(crate) fn chown_pid_file(&mut self) -> Result<(), Failure> {
        let (owner, group) = (self.new_owner, self.new_group);
        let Some(pid_file) = &mut self.pid_file else {
            return Ok(());
        };
        let caller = &self.credentials;
        let owns = caller.uid.effective == pid_file.uid;
        let may_owner = owner.is_none_or(|uid| owns && uid == pid_file.uid);
        let may_group =
            group.is_none_or(|gid| owns && (caller.is_member_of(gid) || gid == pid_file.gid));
        if !(may_owner && may_group || caller.has(Right::Chown)) {
            let failure = Failure::new("ChownPidfile", libc::EPERM);
            let failure = failure.refused(caller, "changing the owner of a file", "CAP_CHOWN");
            return Err(failure.at(self.locked_path().as_ref()));
        }
        pid_file.uid = owner.unwrap_or(pid_file.uid);
        pid_file.gid = group.unwrap_or(pid_file.gid);
        Ok(())
    }
}
