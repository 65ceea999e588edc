//! Which files and directories a start trusts, where other users may have put them.

use std::ffi::{CStr, CString};
use std::fs::{self, Metadata};
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use crate::error::ErrorKind;
use crate::failure::Failure;
use crate::sys::{self, Errno, FileKind, FileStatus, Gid, Open, Uid, errno};

/// The reasons for which a file or its directory is refused. They are constants, since
/// nothing may be allocated where they are found; the launcher adds the owner.
pub(crate) const DIRECTORY_OF_ANOTHER: &str = "its directory belongs to another user";
pub(crate) const DIRECTORY_WRITABLE: &str = "other users can write to its directory";
pub(crate) const FILE_OF_ANOTHER: &str = "it belongs to another user";
pub(crate) const HAS_LINKS: &str = "it has other hard links";
pub(crate) const IS_LINK: &str =
    "it is a symbolic link: remove it, or use the path that it leads to";
const IS_LINK_OF_ANOTHER: &str = "a part of its path is not a directory, or is a symbolic link \
                                  that another user can change: use the path that the link leads \
                                  to";
pub(crate) const IS_REPLACED: &str = "other processes keep replacing it";

pub(crate) const WRITABLE_BY_OTHERS: u32 = 0o022;
const GROUP: u32 = 0o070;
const STICKY: u32 = 0o1000;

/// Why a file cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    errno: Errno,
    reason: &'static str,
}

impl Refusal {
    pub(crate) fn new(errno: Errno, reason: &'static str) -> Self {
        Self { errno, reason }
    }

    pub(crate) fn errno(self) -> Errno {
        self.errno
    }

    /// Empty if the errno says everything.
    pub(crate) fn reason(self) -> &'static str {
        self.reason
    }

    pub(crate) fn into_failure(self, kind: fn(Errno) -> ErrorKind) -> Failure {
        Failure::from(kind(self.errno)).with_reason(self.reason)
    }
}

impl From<Errno> for Refusal {
    fn from(errno: Errno) -> Self {
        Self::new(errno, "")
    }
}

/// Refuses everything but a regular file with one link. Async-signal-safe.
pub(crate) fn check_regular(status: &FileStatus) -> Result<(), Refusal> {
    match status.kind {
        FileKind::Regular if status.links > 1 => Err(Refusal::new(errno::EMLINK, HAS_LINKS)),
        FileKind::Regular => Ok(()),
        FileKind::Fifo => Err(Refusal::new(errno::EINVAL, "it is a FIFO")),
        FileKind::Device => Err(Refusal::new(errno::EINVAL, "it is a device")),
        FileKind::Directory | FileKind::SymbolicLink | FileKind::Other => {
            Err(Refusal::new(errno::EINVAL, "it is not a regular file"))
        }
    }
}

/// Root uses only a directory in which no other user can create or replace files. For
/// another user, returns `None`, and opens nothing. Async-signal-safe.
pub(crate) fn open_trusted_directory(
    directory: &CStr,
    owners: [Option<Uid>; 3],
) -> Result<Option<OwnedFd>, Refusal> {
    if sys::geteuid() != Uid::ROOT {
        return Ok(None);
    }
    let directory = open_directory(directory)?;
    check_directory(directory.as_fd(), owners)?;
    Ok(Some(directory))
}

/// Opens a directory for root. Follows a symbolic link only if no other user can have made the
/// link: that user would choose the directory. The user of a daemon has directories of its own,
/// below which root has to find the files of the next start. Async-signal-safe.
pub(crate) fn open_directory(path: &CStr) -> Result<OwnedFd, Refusal> {
    let path = path.to_bytes();
    // What is opened piece by piece here is also given to the kernel as a whole.
    if path.len() >= size_of::<sys::PathBuffer>() {
        return Err(errno::ENAMETOOLONG.into());
    }
    let start = match path.first() {
        Some(b'/') => c"/",
        _ => c".",
    };
    let mut reached = sys::openat(sys::WORKING_DIRECTORY, start, Open::Directory)?;
    let names = path.split(|byte| *byte == b'/');
    let mut buffer = [0; NAME_MAX + 1];
    for name in names.filter(|name| !name.is_empty() && *name != b".") {
        let name = c_name(name, &mut buffer)?;
        let status = sys::fstat(reached.as_fd())?;
        let is_roots = status.owner == Uid::ROOT || sys::is_unmapped(status.owner);
        let may_follow = is_roots && !others_can_write(reached.as_fd(), &status);
        let how = match may_follow {
            true => Open::Directory,
            false => Open::DirectoryItself,
        };
        reached = match sys::openat(reached.as_fd(), name, how) {
            Err(errno @ (errno::ELOOP | errno::ENOTDIR)) if !may_follow => {
                return Err(Refusal::new(errno, IS_LINK_OF_ANOTHER));
            }
            opened => opened?,
        };
    }
    Ok(reached)
}

/// The length of the longest name on the file systems of all platforms.
const NAME_MAX: usize = 255;

/// A C string of a name, without allocation.
fn c_name<'a>(name: &[u8], buffer: &'a mut [u8; NAME_MAX + 1]) -> Result<&'a CStr, Errno> {
    let end = name.len();
    if end > NAME_MAX {
        return Err(errno::ENAMETOOLONG);
    }
    buffer[..end].copy_from_slice(name);
    buffer[end] = 0;
    CStr::from_bytes_with_nul(&buffer[..=end]).map_err(|_| errno::EINVAL)
}

fn check_directory(directory: BorrowedFd<'_>, owners: [Option<Uid>; 3]) -> Result<(), Refusal> {
    let status = sys::fstat(directory)?;
    // In a user namespace the owner of /run or /tmp may have no number.
    if !owners.contains(&Some(status.owner)) && !sys::is_unmapped(status.owner) {
        return Err(Refusal::new(errno::EPERM, DIRECTORY_OF_ANOTHER));
    }
    if others_can_replace_in(directory, &status) {
        return Err(Refusal::new(errno::EPERM, DIRECTORY_WRITABLE));
    }
    Ok(())
}

/// Whether users other than root and the owner can write to an open file. The members of a
/// system group are trusted like root.
pub(crate) fn others_can_write(descriptor: BorrowedFd<'_>, status: &FileStatus) -> bool {
    let mut others = WRITABLE_BY_OTHERS;
    if sys::SYSTEM_GROUPS.contains(&status.group) {
        others &= !GROUP;
        // With an access list, the group bits also stand for other users and groups.
        if status.mode & GROUP & WRITABLE_BY_OTHERS != 0 && sys::has_access_list(descriptor) {
            return true;
        }
    }
    status.mode & others != 0
}

/// Whether those users can replace a file in an open directory. The sticky bit prevents it.
pub(crate) fn others_can_replace_in(directory: BorrowedFd<'_>, status: &FileStatus) -> bool {
    others_can_write(directory, status) && status.mode & STICKY == 0
}

/// Whose file and directory the start accepts, for a person.
pub(crate) struct Owners {
    directory: &'static str,
    file: &'static str,
}

pub(crate) const OF_PID_FILE: Owners = Owners {
    directory: "of root, of `user` or of `chown_pid_file_user`",
    file: "of root, of the user of this process or of `chown_pid_file_user`",
};
pub(crate) const OF_LOG_FILE: Owners = Owners {
    directory: "of root or of `user`",
    file: "of root, of the user of the launcher or of `user`",
};

/// What a person should know of a file that could not be opened: the state of the directory or
/// file, and what the library would accept. `None` if the failure itself says everything.
pub(crate) fn explain(failure: &Failure, path: &Path, owners: &Owners) -> Option<String> {
    let errno = failure.kind.errno()?;
    let directory = path.parent()?;
    let state = |found: Metadata| {
        let mode = found.mode() & 0o7777;
        owner_and_mode(Uid(found.uid()), Gid(found.gid()), mode)
    };
    let found = fs::metadata(directory).map(state);
    let shown = directory.display();
    let reason = io::Error::from_raw_os_error(errno);
    Some(match (&*failure.reason, errno, found) {
        ("", errno::ENOENT, Err(error)) if error.kind() == io::ErrorKind::NotFound => {
            format!(
                "{reason}: its directory {shown} does not exist: create it, or let the start create \
                 it by `Daemonize::directory`"
            )
        }
        ("", errno::EACCES, Ok(found)) => {
            let file = fs::symlink_metadata(path).map(state);
            let file = file.map_or_else(
                |_| String::new(),
                |file| format!(", and the file to {file}"),
            );
            format!(
                "{reason}: this process runs as uid {}; the directory {shown} belongs to {found}{file}",
                sys::geteuid().0
            )
        }
        (refusal @ DIRECTORY_OF_ANOTHER, _, Ok(found)) => format!(
            "{refusal}: {shown} belongs to {found}; a start as root accepts a directory {}",
            owners.directory
        ),
        (refusal @ DIRECTORY_WRITABLE, _, Ok(found)) => format!(
            "{refusal}: {shown} belongs to {found}; remove that permission, or set the sticky \
             bit"
        ),
        (refusal @ FILE_OF_ANOTHER, _, _) => {
            let found = fs::symlink_metadata(path).ok()?;
            format!(
                "{refusal}, uid {}; a start accepts a file {}",
                found.uid(),
                owners.file
            )
        }
        _ => return None,
    })
}

/// The owner of a file, for a person.
pub(crate) fn owner_and_mode(Uid(uid): Uid, Gid(gid): Gid, mode: u32) -> String {
    format!("uid {uid} and gid {gid}, mode {mode:04o}")
}

/// Splits a path into a directory and a name, neither of which is empty.
pub(crate) fn directory_and_name(path: &CStr) -> (CString, CString) {
    let bytes = path.to_bytes();
    let split = bytes.iter().rposition(|byte| *byte == b'/');
    match split {
        Some(slash) if slash + 1 < bytes.len() => (
            CString::new(&bytes[..=slash]).unwrap_or_default(),
            CString::new(&bytes[slash + 1..]).unwrap_or_default(),
        ),
        // A path that ends in a slash names a directory, which is refused when it is
        // opened.
        _ => (c".".to_owned(), path.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_split_into_directory_and_name() {
        let split = |path: &CStr| directory_and_name(path);
        let pair = |directory: &CStr, name: &CStr| (directory.to_owned(), name.to_owned());
        assert_eq!(split(c"/run/d.pid"), pair(c"/run/", c"d.pid"));
        assert_eq!(split(c"/d.pid"), pair(c"/", c"d.pid"));
        assert_eq!(split(c"d.pid"), pair(c".", c"d.pid"));
        assert_eq!(split(c"/run/"), pair(c".", c"/run/"));
    }
}
