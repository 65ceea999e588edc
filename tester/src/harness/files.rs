//! The directory of a case.

use std::collections::BTreeMap;
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The files below a directory, by path.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Files(pub BTreeMap<PathBuf, SeenFile>);

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenFile {
    pub identity: (u64, u64),
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    /// The number of names, unless the file is a directory.
    pub links: Option<u64>,
    /// The content of a regular file, if it can be read.
    pub content: Option<Vec<u8>>,
    pub target: Option<PathBuf>,
}

impl Files {
    /// The files below `directory`, and the file at `besides`, as far as they can be seen.
    pub fn look(directory: &Path, besides: Option<&Path>) -> Self {
        let mut files = Self::default();
        files.add_all_in(directory);
        if let Some(path) = besides.and_then(Self::name_of) {
            files.add(&path);
        }
        files
    }

    /// The canonical name of a path, whatever links lead to its directory.
    pub fn name_of(path: &Path) -> Option<PathBuf> {
        let directory = fs::canonicalize(path.parent()?).ok()?;
        Some(directory.join(path.file_name()?))
    }

    fn add_all_in(&mut self, directory: &Path) {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
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
