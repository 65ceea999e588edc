//! What an attacker does to the files of a daemon. An attacker ignores errors and tries again.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::thread;
use std::time::Duration;

use crate::sys;

/// Lets the other processes run. The pause waits for no event: the rate of the attempts is
/// part of the attack.
pub(crate) fn pause() {
    thread::sleep(Duration::from_micros(200));
}

/// The life of a daemon after its start: some lives overlap with many starts, others with
/// none. The daemon waits for no event.
pub(crate) fn live(number: u64) {
    thread::sleep(Duration::from_micros(number % 4 * 500));
}

/// Removes a pid file if it can be locked exclusively, as a daemon does when it ends.
pub(crate) fn remove_unlocked(path: &Path) -> io::Result<()> {
    let file = OpenOptions::new().write(true).open(path)?;
    sys::flock(file.as_fd(), libc::LOCK_EX)?;
    let there = fs::symlink_metadata(path)?;
    let here = file.metadata()?;
    if (there.dev(), there.ino()) == (here.dev(), here.ino()) {
        fs::remove_file(path)?;
    }
    Ok(())
}

/// Removes the file, and makes a new file or moves another file there, by turns.
pub(crate) fn replace(path: &Path, number: usize) -> io::Result<()> {
    if number % 2 == 0 {
        remove(path)?;
        pause();
        return File::create_new(path).map(drop);
    }
    let other = path.with_extension("other");
    File::create(&other)?;
    fs::rename(other, path)
}

/// Replaces the file, by turns, with a file, a link to `victim`, a directory and `fifo`.
/// `victim` and `fifo` are in the same directory.
pub(crate) fn change_type(path: &Path, number: usize) -> io::Result<()> {
    // There may be nothing to remove yet.
    remove(path).and(put(path, number))
}

/// Puts one of these files at the path if it is free, and removes the file again.
pub(crate) fn plant(path: &Path, number: usize) -> io::Result<()> {
    put(path, number)?;
    pause();
    remove(path)
}

fn remove(path: &Path) -> io::Result<()> {
    fs::remove_file(path).or_else(|_| fs::remove_dir(path))
}

fn put(path: &Path, number: usize) -> io::Result<()> {
    match number % 4 {
        0 => File::create_new(path).map(drop),
        1 => symlink(path.with_file_name("victim"), path),
        2 => fs::create_dir(path),
        _ => fs::hard_link(path.with_file_name("fifo"), path),
    }
}

/// Changes the permissions of the directory, by turns.
pub(crate) fn change_permissions(path: &Path, number: usize) -> io::Result<()> {
    const MODES: [u32; 5] = [0o755, 0o777, 0o1777, 0o700, 0o555];
    let mode = Permissions::from_mode(MODES[number % MODES.len()]);
    fs::set_permissions(path.parent().unwrap_or(Path::new(".")), mode)
}

/// An access list (acl(5)) in the form of the extended attribute
/// `system.posix_acl_access` of Linux. The owner and a further user may do everything
/// with the file; its group and others may read and execute it. In the file's mode the
/// group then may write, too.
#[cfg_attr(not(target_os = "linux"), allow(dead_code))]
pub(crate) fn access_list(user: u32) -> Vec<u8> {
    // <linux/posix_acl_xattr.h>: the version, then for each entry the tag, the
    // permissions, and an id or -1.
    let mut list = 2_u32.to_le_bytes().to_vec();
    for (tag, allowed, id) in [
        (0x01_u16, 7_u16, u32::MAX),
        (0x02, 7, user),
        (0x04, 5, u32::MAX),
        (0x10, 7, u32::MAX),
        (0x20, 5, u32::MAX),
    ] {
        list.extend(tag.to_le_bytes());
        list.extend(allowed.to_le_bytes());
        list.extend(id.to_le_bytes());
    }
    list
}
