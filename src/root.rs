//! The root directory.

use std::ffi::{CStr, CString};

use crate::error::ErrorKind;
use crate::report::{About, Failure};
use crate::sys::{self, Errno};

/// Changes the root directory, and never leaves the working directory
/// outside: chroot(2) does not move it, and whoever stands outside walks out
/// with "..".
///
/// A working directory that lies inside the new root is entered again, by its
/// path through the new root, and only kept if it is the same one; all else
/// becomes the new root itself.
///
/// # Errors
///
/// [`ErrorKind::Chroot`]. The working directory may then have changed. After
/// [`ErrorKind::PrivilegesRetained`] the process must end.
pub(crate) fn change(root: &CStr) -> Result<(), Failure> {
    let failed = |errno| Failure::new(ErrorKind::Chroot(errno), About::Root);

    // A directory that cannot be named or seen is not gone back to.
    let before = here().ok();
    sys::chdir(root).map_err(failed)?;
    let new_root = here().map_err(failed)?;
    sys::chroot_to_working_directory().map_err(failed)?;

    sys::chdir(c"/").map_err(failed)?;
    if sys::working_directory_id().map_err(failed)? != new_root.id {
        return Err(Failure::new(ErrorKind::PrivilegesRetained, About::Root)
            .because("the root directory is not the one that was set"));
    }
    if let Some(before) = before {
        if let Some(inside) = path_inside(&before.path, &new_root.path) {
            let is_back =
                sys::chdir(&inside).is_ok() && sys::working_directory_id() == Ok(before.id);
            if !is_back {
                sys::chdir(c"/").map_err(failed)?;
            }
        }
    }
    Ok(())
}

/// The working directory by path and by device and inode.
struct Here {
    path: CString,
    id: sys::FileId,
}

fn here() -> Result<Here, Errno> {
    Ok(Here {
        path: sys::getcwd()?,
        id: sys::working_directory_id()?,
    })
}

/// The path through the new root of a directory below it. Both are absolute
/// and without links, as getcwd(3) has them.
fn path_inside(directory: &CStr, root: &CStr) -> Option<CString> {
    let root = root.to_bytes();
    let rest = directory
        .to_bytes()
        .strip_prefix(root.strip_suffix(b"/").unwrap_or(root))?;
    match rest.first() {
        Some(b'/') => CString::new(rest).ok(),
        Some(_) => None,
        None => Some(c"/".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_inside_starts_below_the_root() {
        let inside = |directory: &CStr, root: &CStr| {
            path_inside(directory, root).map(|path| path.into_string().expect("ASCII"))
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
