//! The pid file as any process can read it.

use std::fs::{self, OpenOptions};
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use crate::config::Bytes;
use crate::report::Place;
use crate::sys;

/// The file at the path of a pid file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PidFile {
    pub bytes: Vec<u8>,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub links: u64,
    pub place: Place,
    /// Whether a process holds an exclusive lock.
    pub locked: bool,
}

impl PidFile {
    /// Reads the regular file at `path`, without following a link; `None` if there is none. Takes a
    /// shared lock for an instant, as a prober does.
    ///
    /// # Errors
    ///
    /// When the file cannot be read.
    pub fn look(path: &Path) -> io::Result<Option<Self>> {
        let opened = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY)
            .open(path);
        let file = match opened {
            Ok(file) => file,
            // By now the file may exist, so this is decided first.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            // The errno of open(2) for a link or a socket depends on the platform.
            Err(_) if !may_be_file(path) => return Ok(None),
            Err(error) => return Err(error),
        };
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Ok(None);
        }
        let mut bytes = Vec::new();
        // No pid file is as long; a planted file may be endless.
        (&file).take(1 << 16).read_to_end(&mut bytes)?;
        Ok(Some(Self {
            bytes,
            mode: metadata.mode() & 0o7777,
            uid: metadata.uid(),
            gid: metadata.gid(),
            links: metadata.nlink(),
            place: Place {
                device: metadata.dev(),
                inode: metadata.ino(),
                path: Some(Bytes::from(path)),
            },
            locked: sys::is_flocked(file.as_fd())?,
        }))
    }

    /// Whether the file is as a failed start leaves it: empty and not locked.
    pub fn is_released(&self) -> bool {
        self.bytes.is_empty() && !self.locked
    }
}

/// Whether a regular file exists at `path`, as far as can be seen.
fn may_be_file(path: &Path) -> bool {
    match fs::symlink_metadata(path) {
        Ok(found) => found.is_file(),
        Err(error) => {
            error.raw_os_error() != Some(libc::ENAMETOOLONG)
                && !matches!(
                    error.kind(),
                    io::ErrorKind::NotFound
                        | io::ErrorKind::NotADirectory
                        | io::ErrorKind::InvalidInput
                )
        }
    }
}
