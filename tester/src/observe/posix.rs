//! What FreeBSD, macOS, NetBSD and OpenBSD share: a process asks the system about itself.

use std::env;
use std::io;
use std::os::fd::RawFd;
use std::os::unix::fs::MetadataExt;

use super::unless_forbidden;
use crate::config::{Bytes, Disposition};
use crate::control::RESERVED;
use crate::report::{AccessMode, Descriptor, FileType, Place, Report, SignalSet};
use crate::sys;

/// Does nothing, since the view from inside reads no file.
///
/// # Errors
///
/// None.
pub fn prepare() -> io::Result<()> {
    Ok(())
}

/// The calling process, which has these descriptors open. The caller adds the fields for which
/// POSIX has no call.
pub(super) fn inside(numbers: &[RawFd]) -> io::Result<Report> {
    let pid = std::process::id();
    let mut groups = sys::supplementary_groups()?;
    groups.sort_unstable();
    // Only a call that sets the mask returns it.
    let umask = sys::set_umask(0o077)?;
    sys::set_umask(umask)?;
    let with = |wanted| {
        (1..=128)
            .filter(|&signal| sys::disposition(signal) == Some(wanted))
            .fold(SignalSet::default(), SignalSet::with)
    };
    let descriptors = numbers.iter().filter(|number| !RESERVED.contains(number));
    Ok(Report {
        pid,
        ppid: std::os::unix::process::parent_id(),
        pgid: sys::process_group(pid)?,
        sid: Some(sys::session(pid)?),
        umask: Some(umask),
        uid: Some(sys::user_ids()),
        gid: Some(sys::group_ids()),
        groups: Some(groups),
        working_directory: working_directory()?,
        root: Some(Place::of("/".as_ref())?),
        descriptors: Some(
            descriptors
                .map(|&number| descriptor(number))
                .collect::<io::Result<_>>()?,
        ),
        blocked_signals: Some(sys::blocked_signals()),
        ignored_signals: Some(with(Disposition::Ignore)),
        caught_signals: Some(with(Disposition::Handle)),
        environment: Some(super::environment()),
        ..Report::default()
    })
}

/// `None` without search permission, which a change of ids may take away and stat(2) needs. With its
/// absolute path, from which the model tells whether a new root directory contains it.
fn working_directory() -> io::Result<Option<Place>> {
    let place = unless_forbidden(Place::of(".".as_ref()))?;
    let path = env::current_dir().ok();
    Ok(place.map(|place| Place {
        path: path.as_deref().map(Bytes::from),
        ..place
    }))
}

fn descriptor(number: RawFd) -> io::Result<Descriptor> {
    let (descriptor_flags, status_flags) = sys::descriptor_flags(number)?;
    let metadata = sys::descriptor_metadata(number)?;
    let file_type = file_type(metadata.mode());
    Ok(Descriptor {
        number,
        device: Some(metadata.dev()),
        inode: Some(metadata.ino()),
        file_type,
        special_device: special_device(file_type, metadata.rdev()),
        access: match status_flags & libc::O_ACCMODE {
            libc::O_RDONLY => AccessMode::Read,
            libc::O_WRONLY => AccessMode::Write,
            _ => AccessMode::ReadWrite,
        },
        close_on_exec: Some(descriptor_flags & libc::FD_CLOEXEC != 0),
        nonblocking: status_flags & libc::O_NONBLOCK != 0,
        append: status_flags & libc::O_APPEND != 0,
        locked: None,
        target: None,
    })
}

/// The type in the mode of stat(2).
#[allow(
    clippy::useless_conversion,
    clippy::unnecessary_fallible_conversions,
    reason = "mode_t has 16 bits on FreeBSD and macOS"
)]
pub(super) fn file_type(mode: u32) -> FileType {
    match libc::mode_t::try_from(mode).map(|mode| mode & libc::S_IFMT) {
        Ok(libc::S_IFREG) => FileType::Regular,
        Ok(libc::S_IFDIR) => FileType::Directory,
        Ok(libc::S_IFCHR) => FileType::CharacterDevice,
        Ok(libc::S_IFBLK) => FileType::BlockDevice,
        Ok(libc::S_IFIFO) => FileType::Pipe,
        Ok(libc::S_IFSOCK) => FileType::Socket,
        Ok(libc::S_IFLNK) => FileType::SymbolicLink,
        _ => FileType::Other,
    }
}

/// UFS of FreeBSD keeps the address of a block in the place of a device for other files.
pub(super) fn special_device(file_type: FileType, device: u64) -> u64 {
    match file_type {
        FileType::CharacterDevice | FileType::BlockDevice => device,
        _ => 0,
    }
}
