//! Creates the directories of a daemon, before the first fork.
//!
//! Whatever other users have put at the path, no start follows a link there, and none gives a
//! directory with files in it away.

use std::ffi::{CStr, CString};
use std::fs;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Directory, Environment};
use crate::deadline::Attempts;
use crate::error::{Error, ErrorKind};
use crate::failure::Failure;
use crate::identity::Identity;
use crate::start::lacks_rights;
use crate::subject::Subject;
use crate::sys::{self, Errno, FileKind, FileStatus, Gid, Open, Uid, errno};
use crate::trust::{
    self, DIRECTORY_OF_ANOTHER, DIRECTORY_WRITABLE, FILE_OF_ANOTHER, IS_LINK, owner_and_mode,
};

/// A directory with the owner and the mode that it is to have.
#[derive(Debug)]
pub(crate) struct DirectoryPlan {
    path: PathBuf,
    base: PathBuf,
    /// The mode of the base if it is missing. `None` if it is not created.
    base_mode: Option<u32>,
    owner: Uid,
    group: Gid,
    mode: u32,
}

const OWNER: u32 = 0o700;
const GROUP: u32 = 0o070;
const OTHERS: u32 = 0o007;
/// The permissions, and the set-id and sticky bits.
const ALL_BITS: u32 = 0o7777;

/// A new directory grants nothing to others before it has its owner.
const UNFINISHED: u32 = OWNER;

/// systemd.exec(5): "the innermost specified directory" alone belongs to the service.
const PARENT_MODE: u32 = 0o755;

/// How long other processes may remove the directory again and again.
const TIMEOUT: Duration = Duration::from_secs(1);

const GRANTS_MORE: &str = "it grants more than the mode that was asked for";
const LIST_GRANTS_MORE: &str = "its access list may grant more than the mode that was asked for";
const UNUSABLE: &str = "its owner cannot use it";
const NOT_KEPT: &str = "its file system does not keep owner and mode";

impl DirectoryPlan {
    /// Locates the directory, which is to belong to the launcher.
    pub(crate) fn new(directory: &Directory) -> Result<Self, Error> {
        let environment = Environment::of_process();
        let location = directory.locate(&environment)?;
        let path = location.path();
        if path.as_os_str().as_bytes().contains(&0) {
            return Err(Error::from(ErrorKind::PathContainsNul).with_subject(Subject::Path(path)));
        }
        let (base_mode, default_mode) = match environment.is_roots() {
            true => (0o755, 0o755),
            // XDG base directory specification: "an attempt should be made to create it with
            // permission 0700".
            false => (0o700, 0o700),
        };
        let mode = directory.mode.unwrap_or(default_mode);
        let refused = |reason| Err(failed(&path, errno::EINVAL).with_reason(reason));
        if mode & !ALL_BITS != 0 {
            return refused(format!("0o{mode:o} is not a mode"));
        }
        if mode & OWNER != OWNER {
            // A number that was not written in octal is often such a mode.
            return refused(format!(
                "the mode 0o{mode:o} does not grant all permissions to the owner, as 0o750 does"
            ));
        }
        Ok(Self {
            path,
            base: location.base,
            base_mode: location.may_create_base.then_some(base_mode),
            owner: environment.user,
            group: sys::group_ids().effective,
            mode,
        })
    }

    /// The directory is to belong to the user and the group that the daemon becomes.
    pub(crate) fn give_to(&mut self, identity: &Identity) {
        self.owner = identity.user.unwrap_or(self.owner);
        self.group = identity.group.unwrap_or(self.group);
    }

    /// Creates the directory, or checks the existing one. Several starts may do this at once.
    pub(crate) fn create(&self) -> Result<(), Error> {
        let entry = self.entry(&self.path)?;
        let (directory, is_new) = self.open_or_create(&entry)?;
        let directory = directory.as_fd();
        let failed = |errno| failed(&self.path, errno);
        let found = sys::fstat(directory).map_err(failed)?;
        let is_unfinished = self.is_unfinished(&found, is_new);
        // Who owns the parent may have exchanged the directory. Its files must stay their owner's.
        let is_to_finish = is_unfinished && sys::is_empty(directory).map_err(failed)?;
        if is_to_finish {
            self.finish(directory, &found)?;
        }
        // Another start may have finished it. And a file system without owners or modes may
        // ignore the change.
        let status = sys::fstat(directory).map_err(failed)?;
        let is_wanted =
            (status.owner, status.group, status.mode) == (self.owner, self.group, self.mode);
        if is_to_finish && !is_wanted {
            return Err(failed(errno::EPERM).with_reason(self.difference(NOT_KEPT, &status)));
        }
        // With the right owner it may already be in use by another start, and counts as an existing
        // directory.
        if is_unfinished && is_new && !is_wanted && status.owner != self.owner {
            return Err(failed(errno::ENOTEMPTY));
        }
        match self.refusal(&status, || sys::has_access_list(directory)) {
            Some(reason) => Err(self.refused(errno::EPERM, self.difference(reason, &status))),
            None => Ok(()),
        }
    }

    /// Opens the directory, and returns whether this start has created it.
    fn open_or_create(&self, entry: &Entry<'_>) -> Result<(OwnedFd, bool), Error> {
        let mut attempts = Attempts::within(TIMEOUT);
        while !attempts.are_over() {
            attempts.count();
            match entry.open() {
                Ok(directory) => return Ok((directory, false)),
                Err(errno::ENOENT) => {}
                Err(errno) => return Err(self.cannot_open(entry, errno)),
            }
            match entry.create(UNFINISHED) {
                Ok(directory) => return Ok((directory, true)),
                // Another process has created it, or has removed it again.
                Err(errno::EEXIST) => {}
                Err(errno::ENOENT) if entry.has_parent() => {}
                Err(errno) => return Err(entry.failed(errno)),
            }
        }
        Err(failed(&self.path, errno::EAGAIN).with_reason("other processes keep removing it"))
    }

    /// Whether the owner and the mode of the directory may still have to be set: this start has
    /// created it, or another start is creating it, or has been killed before it could set them.
    /// Such a directory belongs to the launcher, and grants nothing to others.
    fn is_unfinished(&self, status: &FileStatus, is_new: bool) -> bool {
        let is_private = status.owner == sys::geteuid() && status.mode & (GROUP | OTHERS) == 0;
        // If the owner is right, an existing directory is one that grants less than it may.
        is_private && (is_new || status.owner != self.owner)
    }

    /// Sets owner, group and mode by the descriptor. The mode comes last: it is never that of a
    /// directory of another owner.
    fn finish(&self, directory: BorrowedFd<'_>, status: &FileStatus) -> Result<(), Error> {
        if (status.owner, status.group) != (self.owner, self.group) {
            sys::fchown(directory, Some(self.owner), Some(self.group)).map_err(|errno| {
                let failed = failed(&self.path, errno);
                if errno != errno::EPERM {
                    return failed;
                }
                let deed = "changing the owner of a directory";
                failed.with_reason(lacks_rights(sys::geteuid(), deed, "CAP_CHOWN"))
            })?;
        }
        if status.mode != self.mode {
            sys::fchmod(directory, self.mode).map_err(|errno| failed(&self.path, errno))?;
        }
        Ok(())
    }

    /// Why a directory cannot be the daemon's.
    fn refusal(
        &self,
        status: &FileStatus,
        has_access_list: impl FnOnce() -> bool,
    ) -> Option<&'static str> {
        let for_others = self.mode & OTHERS;
        let allowed = match status.group == self.group {
            true => self.mode,
            // To another group the mode grants what it grants to others, and to others no more
            // than to the group that was asked for, whose members they are.
            false => for_others << 3 | for_others & (self.mode >> 3),
        };
        if status.owner != self.owner {
            Some(FILE_OF_ANOTHER)
        } else if status.mode & (GROUP | OTHERS) & !allowed != 0 {
            Some(GRANTS_MORE)
        } else if status.mode & GROUP & !(for_others << 3) != 0 && has_access_list() {
            // The group bits then also stand for other users and groups.
            Some(LIST_GRANTS_MORE)
        } else {
            (status.mode & OWNER != OWNER).then_some(UNUSABLE)
        }
    }

    /// What is there, what is needed, and what to do.
    fn difference(&self, reason: &str, found: &FileStatus) -> String {
        let found = owner_and_mode(found.owner, found.group, found.mode);
        let needed = owner_and_mode(self.owner, self.group, self.mode);
        format!(
            "{reason}: {found}; the daemon needs {needed} or less: change it by chown(1) and \
             chmod(1), or remove it"
        )
    }

    fn refused(&self, errno: Errno, reason: impl Into<String>) -> Error {
        Error::from(ErrorKind::UseDirectory(errno))
            .with_subject(Subject::Path(self.path.clone()))
            .with_reason(reason.into())
    }

    fn cannot_open(&self, entry: &Entry<'_>, errno: Errno) -> Error {
        let Ok(found) = entry.status() else {
            return entry.failed(errno);
        };
        match found.kind {
            FileKind::SymbolicLink => self.refused(errno::ELOOP, IS_LINK),
            FileKind::Directory => match self.refusal(&found, || false) {
                Some(reason) => self.refused(errno, self.difference(reason, &found)),
                None => failed(&self.path, errno),
            },
            _ => self.refused(errno::ENOTDIR, "it is not a directory: remove it"),
        }
    }

    /// The entry of the directory or of a parent. Creates missing parents, as far as that is
    /// allowed.
    fn entry<'a>(&self, path: &'a Path) -> Result<Entry<'a>, Error> {
        let is_missing = |parent: &Path| {
            sys::fstatat(sys::WORKING_DIRECTORY, &c_path(parent)).err() == Some(errno::ENOENT)
        };
        if let Some(parent) = path.parent() {
            let mode = match self.base.starts_with(parent) {
                true => self.base_mode,
                false => Some(PARENT_MODE),
            };
            if let Some(mode) = mode.filter(|_| is_missing(parent)) {
                self.create_parent(parent, mode)?;
            }
        }
        let whole = c_path(path);
        let (directory, name) = trust::directory_and_name(&whole);
        let owners = [Some(Uid::ROOT), Some(self.owner), None];
        match trust::open_trusted_directory(&directory, owners) {
            Ok(parent) => Ok(Entry {
                path,
                parent,
                whole,
                name,
            }),
            Err(refusal) => Err(parent_failed(
                path,
                refusal.into_failure(ErrorKind::CreateDirectory),
            )),
        }
    }

    /// Creates a parent, which belongs to the launcher.
    fn create_parent(&self, path: &Path, mode: u32) -> Result<(), Error> {
        let entry = self.entry(path)?;
        // The umask can only narrow the mode before fchmod(2) sets it.
        let created = match entry.create(mode) {
            Err(errno::EEXIST) => return Ok(()),
            created => created.map_err(|errno| entry.failed(errno))?,
        };
        let created = created.as_fd();
        let failed = |errno| failed(path, errno);
        let has_mode = sys::fstat(created).map_err(failed)?.mode == mode;
        // Another start may use it already, or it may have been exchanged.
        if has_mode || !sys::is_empty(created).map_err(failed)? {
            return Ok(());
        }
        sys::fchmod(created, mode).map_err(failed)
    }
}

/// A path, with the directory in which its last component is looked up.
struct Entry<'a> {
    path: &'a Path,
    /// Only root opens the parent, to check it.
    parent: Option<OwnedFd>,
    whole: CString,
    name: CString,
}

impl Entry<'_> {
    fn parent_and_name(&self) -> (BorrowedFd<'_>, &CStr) {
        match &self.parent {
            Some(parent) => (parent.as_fd(), &self.name),
            None => (sys::WORKING_DIRECTORY, &self.whole),
        }
    }

    fn open(&self) -> Result<OwnedFd, Errno> {
        let (parent, name) = self.parent_and_name();
        sys::openat(parent, name, Open::DirectoryItself)
    }

    fn status(&self) -> Result<FileStatus, Errno> {
        let (parent, name) = self.parent_and_name();
        sys::fstatat(parent, name)
    }

    fn create(&self, mode: u32) -> Result<OwnedFd, Errno> {
        let (parent, name) = self.parent_and_name();
        sys::mkdirat(parent, name, mode)?;
        match self.open() {
            // The umask may have removed the permissions of the owner.
            Err(errno::EACCES) => {
                sys::fchmodat(parent, name, UNFINISHED)?;
                self.open()
            }
            opened => opened,
        }
    }

    fn has_parent(&self) -> bool {
        self.path.parent().is_some_and(Path::exists)
    }

    fn failed(&self, errno: Errno) -> Error {
        parent_failed(self.path, ErrorKind::CreateDirectory(errno).into())
    }
}

fn c_path(path: &Path) -> CString {
    // A plan has no path with a NUL byte.
    CString::new(path.as_os_str().as_bytes()).unwrap_or_default()
}

fn failed(path: &Path, errno: Errno) -> Error {
    Error::from(ErrorKind::CreateDirectory(errno)).with_subject(Subject::Path(path.to_owned()))
}

/// Adds to a failure the state of the parent directory, and what the library would accept.
fn parent_failed(path: &Path, failure: Failure) -> Error {
    let parent = path.parent().unwrap_or(path);
    let shown = parent.display();
    let found = fs::metadata(parent).map(|found| {
        let mode = found.mode() & ALL_BITS;
        owner_and_mode(Uid(found.uid()), Gid(found.gid()), mode)
    });
    let errno = failure.kind.errno().unwrap_or_default();
    let cause = io::Error::from_raw_os_error(errno);
    let reason = match (&*failure.reason, errno, found) {
        ("", errno::ENOENT, Err(error)) if error.kind() == io::ErrorKind::NotFound => {
            format!("{cause}: its parent directory {shown} does not exist")
        }
        ("", errno::EACCES, Ok(found)) => format!(
            "{cause}: this process runs as uid {}; the parent directory {shown} belongs to {found}",
            sys::geteuid().0
        ),
        (DIRECTORY_OF_ANOTHER, _, Ok(found)) => format!(
            "its parent directory belongs to another user: {shown} belongs to {found}; a start \
             as root accepts a directory of root or of `user`"
        ),
        (DIRECTORY_WRITABLE, _, Ok(found)) => format!(
            "other users can write to its parent directory: {shown} belongs to {found}; remove \
             that permission, or set the sticky bit"
        ),
        _ => failure.reason.into_owned(),
    };
    failed(path, errno).with_reason(reason)
}
