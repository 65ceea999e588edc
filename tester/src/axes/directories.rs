//! `directory`, called for each of some directories.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::{MetadataExt, chown, symlink};
use std::path::{Path, PathBuf};

use super::caller::Caller;
use super::user::User;
use super::{Axis, Choice, Rights, Stage};
use crate::config::{Bytes, Directory, DirectoryPlace};
use crate::fixtures::set_mode;
use crate::model::credentials::{EXECUTE, READ, Right, WRITE};
use crate::model::databases::Databases;
use crate::model::failure::Failure;
use crate::model::initial_files::LocatedDirectory;
use crate::model::start::{ExpectedDirectory, Start};
use crate::predict::NewIdentity;
use crate::suite::TEST_USER_ID;
use crate::sys;
use crate::texts::IS_LINK;

axis! {
    Directories |stage| stage.config.options.directories => {
        None => None;
        New => Some(vec![Directory::at(path(stage))]);
        /// A directory in another one, with other modes.
        Nested => Some(vec![
            Directory::at(path(stage)).mode(0o755),
            Directory::at(path(stage).join("inside")).mode(0o2770),
        ]);
        /// In places whose parents are missing.
        InPlacesOfUser => Some(in_places_of_user(stage));
        /// A directory of the caller with a file in it.
        Existing => Some(vec![existing(stage, 0o750)]);
        /// An empty directory of the caller that grants nothing to others: that of a start that
        /// was killed.
        Unfinished => {
            stage.directory("daemons", 0o700);
            Some(vec![Directory::at(path(stage)).mode(0o755)])
        };
        OfTestUser => {
            let directory = existing(stage, 0o755);
            chown(path(stage), Some(TEST_USER_ID), Some(TEST_USER_ID)).expect("give it away");
            Some(vec![directory])
        };
        /// A directory of the caller that others can write to.
        Wide => Some(vec![existing(stage, 0o777)]), fails;
        /// A directory of the caller that the caller cannot write to.
        Unusable => Some(vec![existing(stage, 0o500)]), fails;
        /// A symbolic link to a directory.
        Symlink => {
            symlink(stage.directory("linked", 0o755), path(stage)).expect("make a link");
            Some(vec![Directory::at(path(stage))])
        }, fails;
        File => Some(vec![Directory::at(stage.not_a_directory())]), fails;
        InMissingDirectory => Some(vec![Directory::at(path(stage).join("inside"))]), fails;
        /// In a directory that other users can write to.
        InWritableDirectory => {
            Some(vec![Directory::at(stage.directory("open", 0o777).join("inside"))])
        };
        Relative => Some(vec![Directory::at("daemons")]), fails;
        BadName => {
            Some(vec![Directory::in_place(DirectoryPlace::Runtime(Bytes::from("../daemons")))])
        }, fails;
        BadMode => Some(vec![Directory::at(path(stage)).mode(0o057)]), fails;
        Nul => Some(vec![Directory::at("/with\0nul")]), fails;
    }
}

fn path(stage: &Stage<'_>) -> PathBuf {
    stage.scenario.path("daemons")
}

fn existing(stage: &Stage<'_>, mode: u32) -> Directory {
    let path = stage.directory("daemons", 0o755);
    stage.file(&path.join("data"), 0o600, b"");
    set_mode(&path, mode);
    Directory::at(path).mode(0o755)
}

fn in_places_of_user(stage: &mut Stage<'_>) -> Vec<Directory> {
    let runtime = stage.directory("runtime", 0o700);
    let state = stage.scenario.path("home/state");
    stage.scenario = (stage.scenario.clone())
        .env("XDG_RUNTIME_DIR", runtime)
        .env("XDG_STATE_HOME", state);
    let name = Bytes::from("name/inside");
    vec![
        Directory::in_place(DirectoryPlace::Runtime(name.clone())).mode(0o750),
        Directory::in_place(DirectoryPlace::State(name.clone())),
        Directory::in_place(DirectoryPlace::Logs(name)),
    ]
}

impl Axis for Directories {
    fn contradiction(self, other: &Choice, _databases: &Databases) -> Option<&'static str> {
        let is_root = other.caller.is_some_and(|caller| match caller {
            Caller::Itself => sys::effective_user() == 0,
            Caller::RootWithGroups | Caller::ContainerRoot | Caller::RealUser => true,
            _ => false,
        });
        match self {
            Self::OfTestUser if sys::effective_user() != 0 => {
                Some("only root can make a directory of another user")
            }
            Self::InPlacesOfUser if is_root => Some("root's directories are those of the system"),
            Self::InPlacesOfUser
                if sys::CHANGED_IDS_TAINT && other.caller != Some(Caller::Itself) =>
            {
                Some("a process that has changed its ids does not trust its environment")
            }
            _ => None,
        }
    }

    fn expected_failure(self, other: &Choice, rights: Option<Rights>) -> Option<&'static str> {
        let is_root = rights.map(|rights| rights.is_root);
        let is_other = |user| !matches!(user, User::TestUser | User::TestUserByNumber);
        let changes_user = other
            .user
            .is_some_and(|user| !matches!(user, User::None | User::Own));
        match self {
            Self::None => None,
            Self::OfTestUser if is_root == Some(false) => {
                Some("only root can be sure of the owner")
            }
            Self::OfTestUser if other.user.is_some_and(is_other) => {
                Some("the directory must be that of the daemon's user")
            }
            Self::InWritableDirectory if is_root == Some(true) => {
                Some("root refuses the directory")
            }
            Self::Existing if changes_user => Some("the directory is the caller's"),
            _ if other.caller == Some(Caller::RealGroup) => {
                Some("its effective group may not be that of the daemon")
            }
            // It keeps its ids only in some combinations.
            _ if rights.is_some_and(|rights| rights.may_change_ids) => {
                Some("only root can give a directory away")
            }
            _ => None,
        }
    }
}

const STICKY: u32 = 0o1000;

/// Owner, group and permissions.
#[derive(Clone, Copy)]
struct Access {
    uid: u32,
    gid: u32,
    mode: u32,
}

impl Access {
    fn of(file: &Metadata) -> Self {
        Self {
            uid: file.uid(),
            gid: file.gid(),
            mode: file.mode() & 0o7777,
        }
    }

    fn text(self) -> String {
        let Self { uid, gid, mode } = self;
        format!("uid {uid} and gid {gid}, mode {mode:04o}")
    }

    /// What a user other than the owner may do.
    fn granted(self, groups: &[u32]) -> u32 {
        let shift = if groups.contains(&self.gid) { 3 } else { 0 };
        self.mode >> shift & 7
    }

    /// Whether a user other than the owner may do something that `wanted` does not grant.
    fn grants_more_than(self, wanted: Self) -> bool {
        let users = [&[][..], &[self.gid], &[wanted.gid], &[self.gid, wanted.gid]];
        let mut users = users.into_iter().filter(|groups| {
            // If both have the same group, nobody is a member of just one.
            self.gid != wanted.gid || groups.len() != 1
        });
        users.any(|groups| self.granted(groups) & !wanted.granted(groups) != 0)
    }
}

impl Start<'_> {
    pub(crate) fn locate_directories(&self) -> Result<(), Failure> {
        for directory in &self.initial_files.directories {
            if let Err(reason) = directory.path {
                let failure = Failure::new("LocateDirectory", None).at(Some(&directory.given));
                return Err(failure.with_reason(reason));
            }
            if directory.given.0.contains(&0) {
                return Err(Failure::new("PathContainsNul", None).at(Some(&directory.given)));
            }
            if let Some(mode) = directory.mode.filter(|mode| mode & 0o700 != 0o700) {
                let failure = Failure::new("CreateDirectory", libc::EINVAL);
                let reason = format!(
                    "the mode 0o{mode:o} does not grant all permissions to the owner, as 0o750 does"
                );
                return Err(failure.at(Some(&directory.given)).with_reason(reason));
            }
        }
        Ok(())
    }

    pub(crate) fn create_directories(
        &mut self,
        identity: Option<&NewIdentity>,
    ) -> Result<(), Failure> {
        let files = self.initial_files;
        let user = identity.and_then(|identity| identity.user);
        let group = identity.and_then(|identity| identity.group);
        for directory in &files.directories {
            let default = match self.credentials.uid.effective {
                0 => 0o755,
                _ => 0o700,
            };
            let wanted = Access {
                uid: user.unwrap_or(self.credentials.uid.effective),
                gid: group.unwrap_or(self.credentials.gid.effective),
                mode: directory.mode.unwrap_or(default),
            };
            self.create_directory(directory, wanted)?;
        }
        Ok(())
    }

    fn create_directory(
        &mut self,
        directory: &LocatedDirectory,
        wanted: Access,
    ) -> Result<(), Failure> {
        let path = directory.path.as_deref().expect("it is located");
        self.create_missing_parents(directory);
        let failed = |kind, errno| Failure::new(kind, errno).at(Some(&Bytes::from(path)));
        let parent = self.check_parent(directory, path, wanted.uid)?;
        let found = match directory.itself.reach(&self.credentials) {
            Err(libc::ENOENT) => None,
            found => Some(found.map_err(|errno| failed("CreateDirectory", errno))?),
        };
        let Some(found) = found else {
            if !self.may(parent, WRITE | EXECUTE) {
                return Err(self.parent_closed(path, parent));
            }
            return self.finish_directory(path, self.new_directory(parent), wanted);
        };
        if found.is_symlink() {
            return Err(failed("UseDirectory", libc::ELOOP).with_reason(IS_LINK));
        }
        if !found.is_dir() {
            let reason = "it is not a directory: remove it";
            return Err(failed("UseDirectory", libc::ENOTDIR).with_reason(reason));
        }
        let is_readable = self.credentials.may(found, READ);
        let found = Access::of(found);
        let is_unfinished = found.uid == self.credentials.uid.effective
            && found.uid != wanted.uid
            && found.mode & 0o077 == 0
            && directory.is_empty;
        if is_readable && is_unfinished {
            return self.finish_directory(path, found, wanted);
        }
        let problem = if found.uid != wanted.uid {
            "it belongs to another user"
        } else if found.grants_more_than(wanted) {
            "it grants more than the mode that was asked for"
        } else if found.mode & 0o700 != 0o700 {
            "its owner cannot use it"
        } else if !is_readable {
            return Err(failed("CreateDirectory", libc::EACCES));
        } else {
            return Ok(());
        };
        let reason = format!(
            "{problem}: {}; the daemon needs {} or less: change it by chown(1) and chmod(1), or \
             remove it",
            found.text(),
            wanted.text()
        );
        let errno = match is_readable {
            true => libc::EPERM,
            false => libc::EACCES,
        };
        Err(failed("UseDirectory", errno).with_reason(reason))
    }

    fn may(&self, directory: Access, access: u32) -> bool {
        let Access { uid, gid, mode } = directory;
        self.credentials.may_as(uid, gid, mode, access) || self.credentials.has(Right::DacOverride)
    }

    /// A directory of the process right after mkdir(2).
    fn new_directory(&self, parent: Access) -> Access {
        let umask = self.before.umask.expect("the umask is seen from inside");
        let is_open = umask & 0o400 == 0 || self.credentials.has(Right::DacOverride);
        Access {
            uid: self.credentials.uid.effective,
            gid: self.credentials.group_of_new_file(parent.gid, parent.mode),
            mode: if is_open { 0o700 & !umask } else { 0o700 },
        }
    }

    fn create_missing_parents(&mut self, directory: &LocatedDirectory) {
        for parent in directory.missing_parents.iter().rev() {
            if self.created(parent).is_none() {
                // The base directory is above the name, which has two components.
                let is_base = !parent.ends_with("name");
                let above = parent.parent().expect("it is not the root");
                let above = self.created(above).unwrap_or_else(|| {
                    Access::of(&fs::metadata(above).expect("the directory exists"))
                });
                let me = &self.credentials;
                let created = ExpectedDirectory {
                    path: parent.to_owned(),
                    mode: if is_base { 0o700 } else { 0o755 },
                    uid: me.uid.effective,
                    gid: me.group_of_new_file(above.gid, above.mode),
                };
                self.directories.push(created);
            }
        }
    }

    fn created(&self, path: &Path) -> Option<Access> {
        let created = self
            .directories
            .iter()
            .find(|created| created.path == path)?;
        Some(Access {
            uid: created.uid,
            gid: created.gid,
            mode: created.mode,
        })
    }

    /// Root refuses a parent in which another user could replace the directory.
    fn check_parent(
        &self,
        directory: &LocatedDirectory,
        path: &Path,
        user: u32,
    ) -> Result<Access, Failure> {
        let parent = path.parent().expect("it is not the root");
        let shown = parent.display();
        let failed = |errno| Failure::new("CreateDirectory", errno).at(Some(&Bytes::from(path)));
        let found = match self.created(parent) {
            Some(created) => created,
            None => match directory.parent.reach(&self.credentials) {
                Ok(found) => Access::of(found),
                Err(errno) => {
                    let cause = io::Error::from_raw_os_error(errno);
                    let reason = format!("{cause}: its parent directory {shown} does not exist");
                    return Err(failed(errno).with_reason(reason));
                }
            },
        };
        if self.credentials.uid.effective != 0 {
            return Ok(found);
        }
        if !self.may(found, READ) {
            return Err(self.parent_closed(path, found));
        }
        let others = if found.gid == 0 { 0o002 } else { 0o022 };
        let reason = if ![0, user].contains(&found.uid) {
            format!(
                "its parent directory belongs to another user: {shown} belongs to {}; a start as \
                 root accepts a directory of root or of `user`",
                found.text()
            )
        } else if found.mode & others != 0 && found.mode & STICKY == 0 {
            format!(
                "other users can write to its parent directory: {shown} belongs to {}; remove \
                 that permission, or set the sticky bit",
                found.text()
            )
        } else {
            return Ok(found);
        };
        Err(failed(libc::EPERM).with_reason(reason))
    }

    fn parent_closed(&self, path: &Path, parent: Access) -> Failure {
        let cause = io::Error::from_raw_os_error(libc::EACCES);
        let reason = format!(
            "{cause}: this process runs as uid {}; the parent directory {} belongs to {}",
            self.credentials.uid.effective,
            path.parent().unwrap_or(path).display(),
            parent.text()
        );
        let failure = Failure::new("CreateDirectory", libc::EACCES);
        failure.at(Some(&Bytes::from(path))).with_reason(reason)
    }

    /// Gives a directory of the process its owner, group and mode.
    fn finish_directory(
        &mut self,
        path: &Path,
        found: Access,
        wanted: Access,
    ) -> Result<(), Failure> {
        let caller = &self.credentials;
        let keeps_user = wanted.uid == found.uid;
        let may_group = wanted.gid == found.gid || caller.is_member_of(wanted.gid);
        let is_given = keeps_user && may_group || caller.has(Right::Chown);
        let finished = if is_given { wanted } else { found };
        self.directories.push(ExpectedDirectory {
            path: path.to_owned(),
            mode: finished.mode,
            uid: finished.uid,
            gid: finished.gid,
        });
        if is_given {
            return Ok(());
        }
        let failure = Failure::new("CreateDirectory", libc::EPERM);
        let failure = failure.refused(caller, "changing the owner of a directory", "CAP_CHOWN");
        Err(failure.at(Some(&Bytes::from(path))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_of_another_group_may_grant_to_its_group_what_all_are_granted() {
        let access = |gid, mode| Access { uid: 1, gid, mode };
        let wanted = access(1, 0o755);
        assert!(!access(2, 0o755).grants_more_than(wanted));
        assert!(access(2, 0o775).grants_more_than(wanted));
        let wanted = access(1, 0o750);
        assert!(!access(1, 0o750).grants_more_than(wanted));
        assert!(access(2, 0o750).grants_more_than(wanted));
        assert!(access(1, 0o751).grants_more_than(wanted));
        assert!(!access(2, 0o700).grants_more_than(wanted));
    }
}
