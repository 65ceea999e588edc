//! The files that exist before a start.

use std::fs::{self, Metadata};
use std::path::{Component, Path, PathBuf};

use super::credentials::{Credentials, EXECUTE};
use super::databases::Databases;
use crate::config::{Bytes, Config, Directory, DirectoryPlace, Stream};
use crate::harness::{Files, PidFile, Scenario};

/// A path that was resolved as far as it leads.
#[derive(Debug)]
pub(crate) struct ResolvedPath {
    pub(crate) path: PathBuf,
    /// The directories that the path leads through.
    pub(crate) directories: Vec<Metadata>,
    /// The file at the path, or an errno.
    pub(crate) found: Result<Metadata, i32>,
}

impl ResolvedPath {
    /// A path where no file exists.
    pub(crate) fn nowhere(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            directories: Vec::new(),
            found: Err(libc::ENOENT),
        }
    }

    /// Resolves a path. `follow_last` decides about a symbolic link at its end.
    pub(crate) fn follow(path: &Path, follow_last: bool) -> Self {
        let mut resolved = Self::nowhere(path);
        let mut walked = PathBuf::new();
        let mut components = path.components().peekable();
        while let Some(component) = components.next() {
            walked.push(component);
            let is_last = components.peek().is_none();
            let looked = if is_last && !follow_last && component != Component::RootDir {
                fs::symlink_metadata(&walked)
            } else {
                fs::metadata(&walked)
            };
            resolved.found = looked.map_err(|error| error.raw_os_error().unwrap_or(0));
            match &resolved.found {
                Ok(metadata) if !is_last && metadata.is_dir() => {
                    resolved.directories.push(metadata.clone())
                }
                Ok(_) if !is_last => {
                    resolved.found = Err(libc::ENOTDIR);
                    break;
                }
                Ok(_) => {}
                Err(_) => break,
            }
        }
        resolved
    }

    /// The file, if a process with these credentials can reach it; otherwise the errno.
    pub(crate) fn reach(&self, credentials: &Credentials) -> Result<&Metadata, i32> {
        let closed = |directory: &Metadata| !credentials.may(directory, EXECUTE);
        if self.directories.iter().any(closed) {
            return Err(libc::EACCES);
        }
        self.found.as_ref().map_err(|&errno| errno)
    }
}

/// A directory of the daemon before the start.
#[derive(Debug)]
pub(crate) struct LocatedDirectory {
    /// The name or path in the configuration.
    pub(crate) given: Bytes,
    /// The absolute path, or why there is none.
    pub(crate) path: Result<PathBuf, &'static str>,
    pub(crate) itself: ResolvedPath,
    pub(crate) parent: ResolvedPath,
    /// The parents that the start creates, the innermost first.
    pub(crate) missing_parents: Vec<PathBuf>,
    pub(crate) is_empty: bool,
    pub(crate) mode: Option<u32>,
}

impl LocatedDirectory {
    fn of(scenario: &Scenario, directory: &Directory) -> Self {
        let (variable, below, given) = match &directory.place {
            DirectoryPlace::At(path) => (None, "", path),
            DirectoryPlace::Runtime(name) => (Some("XDG_RUNTIME_DIR"), "", name),
            DirectoryPlace::State(name) => (Some("XDG_STATE_HOME"), "", name),
            DirectoryPlace::Logs(name) => (Some("XDG_STATE_HOME"), "log", name),
        };
        let place = variable.map(|variable| scenario.variable(variable));
        let path = given.to_path();
        let is_name = path
            .components()
            .all(|part| matches!(part, Component::Normal(_)));
        let path = match place {
            None if path.is_absolute() => Ok(path),
            None => Err(
                "it is not an absolute path; with a name, use `Directory::runtime`, \
                         `Directory::state` or `Directory::logs`",
            ),
            Some(_) if !is_name => {
                Err("the name must be relative, and have no empty, `.` or `..` \
                                       component; with an absolute path, use `Directory::at`")
            }
            Some(Some(place)) => Ok(Path::new(place).join(below).join(path)),
            Some(None) => Err("no combination leaves the variable out"),
        };
        let found = path.as_deref().unwrap_or(Path::new(""));
        Self {
            given: given.clone(),
            missing_parents: match place {
                Some(_) => {
                    let parents = found.ancestors().skip(1).map(Path::to_owned);
                    parents.take_while(|parent| !parent.exists()).collect()
                }
                None => Vec::new(),
            },
            itself: ResolvedPath::follow(found, false),
            parent: ResolvedPath::follow(found.parent().unwrap_or(found), true),
            is_empty: fs::read_dir(found).is_ok_and(|mut entries| entries.next().is_none()),
            mode: directory.mode,
            path,
        }
    }
}

/// The files before a start.
#[derive(Debug)]
pub struct InitialFiles<'a> {
    pub(crate) databases: &'a Databases,
    pub(crate) working_directory: Option<ResolvedPath>,
    pub(crate) root: Option<ResolvedPath>,
    /// The pid file that the start locks.
    pub(crate) pid_file: Option<ResolvedPath>,
    pub(crate) pid_file_directory: Option<ResolvedPath>,
    pub(crate) directories: Vec<LocatedDirectory>,
    /// The pid file and its lock.
    pub(crate) pid_file_seen: Option<PidFile>,
    /// Whether the user that runs the tests cannot read the pid file.
    pub(crate) is_pid_file_hidden: bool,
    pub(crate) sources: [Option<Metadata>; 3],
    /// The directory at which relative paths of the daemon start.
    pub(crate) base: PathBuf,
    pub(crate) null_device: Option<Metadata>,
    /// All files in the directory of the case.
    pub(crate) files: Files,
    pub(crate) is_foreground: bool,
    /// Whether a service manager waits for the launcher.
    pub(crate) is_notified: bool,
}

impl<'a> InitialFiles<'a> {
    /// Records the files.
    pub fn of(scenario: &Scenario, databases: &'a Databases) -> Self {
        let Config {
            initial, options, ..
        } = &scenario.config;
        let directory = match &initial.working_directory {
            Some(directory) => scenario.directory().join(directory.to_path()),
            None => scenario.directory().to_owned(),
        };
        let from =
            |base: &Path, path: &Option<Bytes>| path.as_ref().map(|path| base.join(path.to_path()));
        let working_directory = from(&directory, &options.working_directory);
        let base = working_directory.as_deref().unwrap_or(&directory);
        let pid_file = from(base, &options.pid_file);
        let locked = pid_file.clone().map(|path| match options.upgrade {
            Some(true) => successor_path(&path),
            _ => path,
        });
        let is_empty = options
            .pid_file
            .as_ref()
            .is_some_and(|path| path.0.is_empty());
        let parent = match is_empty {
            true => Some(base),
            false => pid_file.as_deref().and_then(Path::parent),
        };
        let source = |stream: &Option<Stream>| match stream.as_ref().map(Stream::when_ready) {
            Some(Stream::File(source)) => fs::metadata(source.path.to_path()).ok(),
            _ => None,
        };
        let seen = pid_file.as_deref().map(PidFile::look);
        Self {
            databases,
            working_directory: working_directory
                .as_deref()
                .map(|path| ResolvedPath::follow(path, true)),
            directories: (options.directories.iter().flatten())
                .map(|directory| LocatedDirectory::of(scenario, directory))
                .collect(),
            root: from(base, &options.chroot).map(|path| ResolvedPath::follow(&path, true)),
            pid_file: locked.as_deref().map(|path| match is_empty {
                true => ResolvedPath::nowhere(path),
                false => ResolvedPath::follow(path, false),
            }),
            pid_file_directory: parent.map(|path| ResolvedPath::follow(path, true)),
            is_pid_file_hidden: matches!(seen, Some(Err(_))),
            pid_file_seen: seen.and_then(Result::ok).flatten(),
            sources: [
                source(&options.stdin),
                source(&options.stdout),
                source(&options.stderr),
            ],
            base: base.to_owned(),
            null_device: fs::metadata("/dev/null").ok(),
            files: Files::look(scenario.directory(), pid_file.as_deref()),
            is_foreground: scenario.is_foreground(),
            is_notified: scenario.is_notified(),
        }
    }
}

/// The pid file of a successor until it is the pid file.
pub(crate) fn successor_path(pid_file: &Path) -> PathBuf {
    let mut path = pid_file.as_os_str().to_owned();
    path.push(".new");
    path.into()
}
