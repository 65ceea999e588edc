//! `working_directory`, and the directory that the launcher starts from.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use super::stage::some;
use super::{Axis, Choice, Rights, Stage};
use crate::config::Bytes;
use crate::model::credentials::EXECUTE;
use crate::model::failure::Failure;
use crate::model::initial_files::ResolvedPath;
use crate::model::start::{Start, place};
use crate::report::Place;

axis! {
    WorkingDirectory |stage| stage.config.options.working_directory => {
        None => None;
        Directory => some(stage.directory("work", 0o755));
        /// The same, relative to the launcher's.
        Relative => {
            stage.directory(stage.launcher_directory().join("work"), 0o755);
            Some(Bytes::from("work"))
        };
        /// A symbolic link to a directory.
        Symlink => {
            let link = stage.scenario.path("link");
            symlink(stage.directory("work", 0o755), &link).expect("make a link");
            some(link)
        };
        InJail => some(stage.jail().join("inside"));
        Jail => some(stage.jail());
        Missing => some(stage.scenario.path("missing")), fails;
        /// A regular file.
        File => some(stage.not_a_directory()), fails;
        /// A directory that its owner cannot enter.
        Closed => some(stage.closed_directory());
        Nul => Some(Bytes::from("with\0nul")), fails;
    }
}

axis! {
    LauncherDirectory |stage| stage.config.initial.working_directory => {
        /// The case's directory.
        Inherited => None;
        Elsewhere => some(stage.launcher_directory());
        InJail => some(stage.launcher_directory());
    }
}

impl Stage<'_> {
    fn launcher_directory(&self) -> PathBuf {
        match self.combination.launcher_directory {
            LauncherDirectory::Inherited => self.scenario.directory().to_owned(),
            LauncherDirectory::Elsewhere => self.directory("elsewhere", 0o755),
            LauncherDirectory::InJail => self.jail().join("inside"),
        }
    }

    /// The daemon's working directory, if the start can enter it.
    pub(super) fn daemon_directory(&self) -> Option<PathBuf> {
        let directory = match self.combination.working_directory {
            WorkingDirectory::None => self.launcher_directory(),
            WorkingDirectory::Directory | WorkingDirectory::Symlink => {
                self.directory("work", 0o755)
            }
            WorkingDirectory::Relative => self.launcher_directory().join("work"),
            WorkingDirectory::InJail => self.jail().join("inside"),
            WorkingDirectory::Jail => self.jail(),
            WorkingDirectory::Closed => self.closed_directory(),
            WorkingDirectory::Missing | WorkingDirectory::File | WorkingDirectory::Nul => {
                return None;
            }
        };
        Some(directory)
    }
}

impl Axis for LauncherDirectory {}

impl Axis for WorkingDirectory {
    fn expected_failure(self, _other: &Choice, rights: Option<Rights>) -> Option<&'static str> {
        let lacks_rights = rights.is_some_and(|rights| !rights.is_root);
        (self == Self::Closed && lacks_rights).then_some("only root enters every directory")
    }
}

impl Start<'_> {
    pub(crate) fn change_directory(&mut self) -> Result<(), Failure> {
        let Some(path) = &self.initial_files.working_directory else {
            return Ok(());
        };
        let failed = |errno| {
            Failure::new("ChangeDirectory", errno).at(self.options.working_directory.as_ref())
        };
        let place = self.enter(path).map_err(failed)?;
        self.process.working_directory = Some(place);
        Ok(())
    }

    pub(crate) fn enter(&self, path: &ResolvedPath) -> Result<Place, i32> {
        let directory = path.reach(&self.credentials)?;
        if !directory.is_dir() {
            Err(libc::ENOTDIR)
        } else if !self.credentials.may(directory, EXECUTE) {
            Err(libc::EACCES)
        } else {
            Ok(Place {
                path: fs::canonicalize(&path.path).ok().map(Bytes::from),
                ..place(directory)
            })
        }
    }
}
