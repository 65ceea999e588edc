//! A case's folder, as anyone can see it.

use std::collections::BTreeMap;
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The files below a folder, by path.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Files(pub BTreeMap<PathBuf, SeenFile>);

/// A file of any type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenFile {
    /// Device and inode.
    pub identity: (u64, u64),
    /// Type and permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Number of names, unless it is a folder.
    pub links: Option<u64>,
    /// The content of a regular file that may be read.
    pub content: Option<Vec<u8>>,
    /// Where a symbolic link leads.
    pub target: Option<PathBuf>,
}

impl Files {
    /// Those below `folder`, and this one besides, as far as they may be seen.
    pub fn look(folder: &Path, besides: Option<&Path>) -> Self {
        let mut files = Self::default();
        files.add_all_in(folder);
        if let Some(path) = besides.and_then(Self::name_of) {
            files.add(&path);
        }
        files
    }

    /// The name that a path has here, whatever links lead to its folder.
    pub fn name_of(path: &Path) -> Option<PathBuf> {
        let folder = fs::canonicalize(path.parent()?).ok()?;
        Some(folder.join(path.file_name()?))
    }

    fn add_all_in(&mut self, folder: &Path) {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            let seen = self.add(&path);
            if seen.is_some_and(|seen| seen.is_dir()) {
                self.add_all_in(&path);
            }
        }
    }

    fn add(&mut self, path: &Path) -> Option<Metadata> {
        let metadata = fs::symlink_metadata(path).ok()?;
        let seen = SeenFile {
            identity: (metadata.dev(), metadata.ino()),
            mode: metadata.mode(),
            uid: metadata.uid(),
            gid: metadata.gid(),
            links: (!metadata.is_dir()).then(|| metadata.nlink()),
            content: (metadata.is_file()).then(|| fs::read(path).ok()).flatten(),
            target: fs::read_link(path).ok(),
        };
        self.0.insert(path.to_owned(), seen);
        Some(metadata)
    }
}
