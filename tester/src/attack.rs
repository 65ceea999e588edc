//! What an attacker does to a daemon's files.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::thread;
use std::time::Duration;

/// Leaves the others a chance. Nothing is waited for: how often somebody meddles
/// is the attack.
pub fn pause() {
    thread::sleep(Duration::from_micros(200));
}

/// How long a daemon lives that has come through: some overlap with many a start,
/// some with none. Nothing is waited for.
pub fn live(number: u64) {
    thread::sleep(Duration::from_micros(number % 4 * 500));
}

/// Removes a pid file whose lock, the exclusive one, can be had, as a daemon does
/// that cleans up.
///
/// # Errors
///
/// Those of the calls, as for all of these: who meddles tries again.
pub fn remove_unlocked(path: &Path, lock: impl FnOnce(&File) -> io::Result<()>) -> io::Result<()> {
    let file = OpenOptions::new().write(true).open(path)?;
    lock(&file)?;
    let there = fs::symlink_metadata(path)?;
    let here = file.metadata()?;
    if (there.dev(), there.ino()) == (here.dev(), here.ino()) {
        fs::remove_file(path)?;
    }
    Ok(())
}

/// Removes whatever is there and, by turns, makes a file or moves one there.
///
/// # Errors
///
/// As above.
pub fn replace(path: &Path, number: usize) -> io::Result<()> {
    if number % 2 == 0 {
        remove(path)?;
        pause();
        return File::create_new(path).map(drop);
    }
    let other = path.with_extension("other");
    File::create(&other)?;
    fs::rename(other, path)
}

/// Puts by turns a file, a link to `victim`, a folder and `fifo` in the place of
/// whatever is there; the last two are in the same folder.
///
/// # Errors
///
/// As above.
pub fn change_type(path: &Path, number: usize) -> io::Result<()> {
    // Put also where there is nothing to be removed yet.
    remove(path).and(put(path, number))
}

/// The same where nothing is, and removes it again.
///
/// # Errors
///
/// As above.
pub fn plant(path: &Path, number: usize) -> io::Result<()> {
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

/// Changes the permissions of the folder, by turns.
///
/// # Errors
///
/// As above.
pub fn change_folder(path: &Path, number: usize) -> io::Result<()> {
    const MODES: [u32; 5] = [0o755, 0o777, 0o1777, 0o700, 0o555];
    let mode = Permissions::from_mode(MODES[number % MODES.len()]);
    fs::set_permissions(path.parent().unwrap_or(Path::new(".")), mode)
}

/// An access list, acl(5), that lets a further user do all with a file, while its
/// owner may do all, and its group and others may read and execute it. In its
/// mode the group then may write, too. As Linux has it in the extended attribute
/// `system.posix_acl_access`.
pub fn access_list(user: u32) -> Vec<u8> {
    // <linux/posix_acl_xattr.h>: the version, then for each entry its tag, what
    // is allowed, and an id or -1.
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
