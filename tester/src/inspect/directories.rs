//! The umask, the working directory and the root directory.

use std::fs;
use std::os::unix::fs::MetadataExt as _;

use super::{Inspected, Verdict, names};
use crate::report::Place;

pub(super) fn umask(of: &Inspected) -> Verdict {
    let umask = of.report.umask.map(|mask| {
        let seen = format!("{mask:04o}");
        match mask {
            0 => Verdict::ok(
                seen,
                "daemon(7) asks for it: the mode of each new file is that of its open(2)",
            ),
            _ if mask & 0o700 != 0 => {
                Verdict::finding(seen, "the daemon makes files that it cannot use itself")
            }
            _ => Verdict::ok(seen, "it is stricter than the 0 of daemon(7)"),
        }
    });
    umask.into()
}

pub(super) fn working_directory(of: &Inspected) -> Verdict {
    let (Some(directory), Some(root)) = (&of.report.working_directory, &of.report.root) else {
        return Verdict::unseen();
    };
    let seen = names::path(directory.path.as_ref());
    if directory == root {
        return Verdict::ok(seen, "it blocks no unmount");
    }
    if is_removed(of, directory) {
        return Verdict::finding(seen, "it was removed: relative paths lead nowhere");
    }
    if is_outside(directory, root) {
        return Verdict::finding(
            seen,
            "it is outside of the root directory: chroot(2) confines nothing",
        );
    }
    match directory.device == root.device {
        true => Verdict::ok(seen, "it is on the file system of the root directory"),
        false => Verdict::finding(seen, "it blocks an unmount of its file system"),
    }
}

/// An empty directory without a name has no links.
fn is_removed(of: &Inspected, directory: &Place) -> bool {
    let link = format!("/proc/{}/cwd", of.process.pid);
    let metadata = cfg!(target_os = "linux")
        .then(|| fs::metadata(link).ok())
        .flatten();
    metadata.is_some_and(|found| found.ino() == directory.inode && found.nlink() == 0)
}

/// Whether a directory is outside of a root directory. In another mount namespace, the root
/// directory has the path `/`, which is above each.
pub(super) fn is_outside(directory: &Place, root: &Place) -> bool {
    match (&directory.path, &root.path) {
        (Some(path), Some(root)) => !path.to_path().starts_with(root.to_path()),
        _ => false,
    }
}

pub(super) fn root(of: &Inspected) -> Verdict {
    let root = of.report.root.as_ref().map(|root| {
        let seen = names::path(root.path.as_ref());
        if Place::of("/".as_ref()).is_ok_and(|own| own == *root) {
            return Verdict::ok(seen, "it is not confined");
        }
        if root.path.as_ref().is_some_and(|path| path.0 == b"/") {
            return Verdict::ok(seen, "it is another one than here, as of a container");
        }
        let can_leave = match of.report.capabilities {
            Some(sets) => {
                (sets.permitted | sets.effective) & names::capability_set(&["SYS_CHROOT"]) != 0
            }
            None => !of.is_ordinary_user(),
        };
        match can_leave {
            true => Verdict::finding(seen, "root leaves it by another chroot(2)"),
            false => Verdict::ok(seen, "it confines an ordinary user"),
        }
    });
    root.into()
}
