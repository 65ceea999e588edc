//! Making the files and the configuration of a combination.

use std::fs::{self, File, Permissions};
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use super::{Combination, every_field_has_an_axis_or_a_test};
use crate::config::{Access, Bytes, Config, Stream};
use crate::harness::{FakeServiceManager, Scenario};
use crate::model::databases::Databases;
use crate::sys;

/// A combination with its files, ready to start.
#[derive(Debug)]
pub struct Staged {
    /// Dropped before the directory that holds its socket.
    manager: Option<FakeServiceManager>,
    /// The case.
    pub scenario: Scenario,
    /// Keeps the lock of the pid file that another process holds.
    _holder: Option<File>,
}

impl Staged {
    /// What the service manager has received, line by line.
    ///
    /// # Panics
    ///
    /// When the service manager cannot be ended.
    pub fn notifications(&mut self) -> Vec<String> {
        self.manager
            .take()
            .map_or_else(Vec::new, FakeServiceManager::lines)
    }
}

impl Drop for Staged {
    /// Not even their owner could empty closed directories.
    fn drop(&mut self) {
        for name in ["closed", "run", "daemons"] {
            let opened = Permissions::from_mode(0o755);
            // Most combinations have no such directory.
            let _ = fs::set_permissions(self.scenario.path(name), opened);
        }
    }
}

/// A combination that is being staged.
pub(crate) struct Stage<'a> {
    pub(super) combination: &'a Combination,
    pub(super) databases: &'a Databases,
    pub(super) config: Config,
    pub(super) scenario: Scenario,
    pub(super) manager: Option<FakeServiceManager>,
    pub(super) holder: Option<File>,
}

impl<'a> Stage<'a> {
    pub(super) fn new(
        combination: &'a Combination,
        binary: &Path,
        databases: &'a Databases,
    ) -> Self {
        let config = Config {
            report_afterwards: true,
            ..Config::default()
        };
        every_field_has_an_axis_or_a_test(&config);
        Self {
            combination,
            databases,
            config,
            scenario: Scenario::below(fast_directory(), binary),
            manager: None,
            holder: None,
        }
    }

    pub(super) fn finish(mut self) -> Staged {
        self.give(self.scenario.directory());
        let closed = self.scenario.path("closed");
        if closed.exists() {
            fs::set_permissions(closed, Permissions::from_mode(0o000)).expect("close a directory");
        }
        self.scenario.config = self.config;
        Staged {
            manager: self.manager,
            scenario: self.scenario,
            _holder: self.holder,
        }
    }

    /// The caller's effective ids.
    pub(super) fn caller(&self) -> (u32, u32) {
        match &self.config.initial.ids {
            Some(ids) => (ids.uid[1], ids.gid[1]),
            None => (sys::effective_user(), sys::group_ids().effective),
        }
    }

    /// Gives a file to the caller, unless the caller runs the tests.
    pub(super) fn give(&self, path: &Path) {
        if let Some(ids) = &self.config.initial.ids {
            chown(path, Some(ids.uid[1]), Some(ids.gid[1])).expect("give a file away");
        }
    }

    /// The directory of this name, which is made unless another axis has made it.
    pub(super) fn directory(&self, name: impl AsRef<Path>, mode: u32) -> PathBuf {
        let path = self.scenario.path(name);
        if !path.exists() {
            fs::create_dir(&path).expect("create a directory");
            fs::set_permissions(&path, Permissions::from_mode(mode)).expect("set its mode");
            self.give(&path);
        }
        path
    }

    /// A directory that contains only one other, `inside`.
    pub(super) fn jail(&self) -> PathBuf {
        let jail = self.directory("jail", 0o755);
        self.directory("jail/inside", 0o755);
        jail
    }

    /// A directory that its owner cannot enter, once [`finish`](Self::finish) has closed it.
    pub(super) fn closed_directory(&self) -> PathBuf {
        self.directory("closed", 0o755)
    }

    /// A regular file where a directory is asked for.
    pub(super) fn not_a_directory(&self) -> PathBuf {
        let path = self.scenario.path("file");
        if !path.exists() {
            self.file(&path, 0o644, b"");
        }
        path
    }

    pub(super) fn file(&self, path: &Path, mode: u32, content: &[u8]) -> File {
        let mut file = File::create_new(path).expect("create a file");
        file.write_all(content).expect("write a file");
        let permissions = Permissions::from_mode(mode);
        file.set_permissions(permissions)
            .expect("set a file's mode");
        self.give(path);
        file
    }

    /// A stream whose source is a file at this descriptor.
    pub(super) fn stream(&self, name: &str, access: Access, number: i32) -> Option<Stream> {
        let path = self.scenario.path(name);
        self.file(&path, 0o644, b"");
        Some(Stream::file(&path, access).at(number))
    }
}

pub(super) fn some(path: PathBuf) -> Option<Bytes> {
    Some(Bytes::from(path))
}

/// Many small files are made: in memory, where the system has such a directory.
fn fast_directory() -> &'static Path {
    static DIRECTORY: OnceLock<PathBuf> = OnceLock::new();
    DIRECTORY.get_or_init(|| {
        let memory = Path::new("/dev/shm");
        match tempfile::tempdir_in(memory) {
            Ok(_) => memory.to_owned(),
            Err(_) => std::env::temp_dir(),
        }
    })
}
