//! The root directory.

use std::ffi::CStr;

use crate::error::ErrorKind;
use crate::failure::Failure;
use crate::streams;
use crate::subject::SubjectKind;
use crate::sys::{self, Errno, PathBuffer};

/// Whether the daemon opens its log files again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogFiles {
    /// By their paths in the new root directory. To find them allocates memory.
    Reopened,
    Left,
}

/// Changes the root directory, and never leaves the working directory outside of it:
/// chroot(2) does not change the working directory, from which ".." would lead out.
/// Async-signal-safe if the log files are left.
///
/// If the working directory lies inside the new root, it is entered again by its path
/// through the new root, and verified to be the same directory. Otherwise the working
/// directory becomes the new root.
///
/// # Errors
///
/// [`ErrorKind::Chroot`]. The working directory may then have changed. After
/// [`ErrorKind::PrivilegesRetained`] the process must end.
pub(crate) fn change(root: &CStr, log_files: LogFiles) -> Result<(), Failure> {
    let mut buffers: [PathBuffer; 2] = [[0; size_of::<PathBuffer>()]; 2];
    let [before, new_root] = &mut buffers;
    // Without a path, or the permission to look at it, it is not entered again.
    let before = working_directory(before).ok();
    sys::chdir(root).map_err(ErrorKind::Chroot)?;
    let new_root = working_directory(new_root).map_err(ErrorKind::Chroot)?;
    let logs = match log_files {
        LogFiles::Reopened => Some(streams::paths_inside(new_root.path)),
        LogFiles::Left => None,
    };
    sys::chroot_to_working_directory().map_err(ErrorKind::Chroot)?;
    if let Some(logs) = logs {
        logs.enter();
    }

    sys::chdir(c"/").map_err(ErrorKind::Chroot)?;
    if sys::working_directory_id().map_err(ErrorKind::Chroot)? != new_root.id {
        return Err(Failure::from(ErrorKind::PrivilegesRetained)
            .with_subject(SubjectKind::Chroot)
            .with_reason("its root directory is not the directory that was set"));
    }
    let inside = before.and_then(|before| {
        let path = path_inside(before.path, new_root.path)?;
        Some((path, before.id))
    });
    if let Some((path, id)) = inside {
        if sys::chdir(path).is_err() || sys::working_directory_id() != Ok(id) {
            sys::chdir(c"/").map_err(ErrorKind::Chroot)?;
        }
    }
    Ok(())
}

struct Directory<'a> {
    path: &'a CStr,
    id: sys::FileId,
}

fn working_directory(buffer: &mut PathBuffer) -> Result<Directory<'_>, Errno> {
    Ok(Directory {
        path: sys::getcwd(buffer)?,
        id: sys::working_directory_id()?,
    })
}

/// The path of a file through the new root, if it lies inside. Both paths are absolute
/// and without symbolic links, as getcwd(3) returns them.
pub(crate) fn path_inside<'a>(file: &'a CStr, root: &CStr) -> Option<&'a CStr> {
    let root = root.to_bytes();
    let rest = file
        .to_bytes_with_nul()
        .strip_prefix(root.strip_suffix(b"/").unwrap_or(root))?;
    match rest.first() {
        Some(b'/') => CStr::from_bytes_with_nul(rest).ok(),
        Some(0) => Some(c"/"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_inside_starts_below_the_root() {
        let inside = |directory: &CStr, root: &CStr| {
            path_inside(directory, root).map(|path| path.to_str().expect("ASCII").to_owned())
        };
        assert_eq!(
            inside(c"/srv/jail/a/b", c"/srv/jail").as_deref(),
            Some("/a/b")
        );
        assert_eq!(inside(c"/srv/jail", c"/srv/jail").as_deref(), Some("/"));
        assert_eq!(inside(c"/srv/jailed", c"/srv/jail"), None);
        assert_eq!(inside(c"/srv", c"/srv/jail"), None);
        assert_eq!(inside(c"/srv", c"/").as_deref(), Some("/srv"));
        assert_eq!(inside(c"/", c"/").as_deref(), Some("/"));
    }
}
