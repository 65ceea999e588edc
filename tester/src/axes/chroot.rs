//! `chroot`

use std::os::unix::fs::symlink;

use super::stage::some;
use super::{Axis, Choice, Rights};
use crate::config::Bytes;
use crate::model::credentials::Right;
use crate::model::failure::Failure;
use crate::model::start::Start;
use crate::report::Place;

axis! {
    Chroot |stage| stage.config.options.chroot => {
        None => None;
        Jail => some(stage.jail());
        /// A symbolic link to the jail.
        Symlink => {
            stage.jail();
            let link = stage.scenario.path("to-jail");
            symlink("jail", &link).expect("make a link");
            some(link)
        };
        /// A directory, relative to the daemon's working directory.
        Relative => {
            if let Some(directory) = stage.daemon_directory() {
                stage.directory(directory.join("below"), 0o755);
            }
            Some(Bytes::from("below"))
        };
        Root => Some(Bytes::from("/"));
        Missing => some(stage.scenario.path("missing")), fails;
        /// A regular file.
        File => some(stage.not_a_directory()), fails;
        /// A directory that its owner cannot enter.
        Closed => some(stage.closed_directory());
        Nul => Some(Bytes::from("with\0nul")), fails;
    }
}

impl Axis for Chroot {
    fn expected_failure(self, _other: &Choice, rights: Option<Rights>) -> Option<&'static str> {
        let lacks_rights = rights.is_some_and(|rights| !rights.is_root);
        (self != Self::None && lacks_rights).then_some("only root can change the root directory")
    }
}

impl Chroot {
    /// Whether the daemon has another root directory, or would have it.
    pub(super) fn is_entered(self) -> bool {
        matches!(
            self,
            Self::Jail | Self::Symlink | Self::Relative | Self::Closed
        )
    }
}

impl Start<'_> {
    /// The library enters the directory, and then makes it the root directory.
    pub(crate) fn change_root(&mut self) -> Result<(), Failure> {
        let Some(path) = &self.initial_files.root else {
            return Ok(());
        };
        let failed = |errno| Failure::new("Chroot", errno).at(self.options.chroot.as_ref());
        let root = self.enter(path).map_err(failed)?;
        if !self.credentials.has(Right::Chroot) {
            self.process.working_directory = Some(root);
            let deed = "changing the root directory";
            return Err(failed(libc::EPERM).refused(&self.credentials, deed, "CAP_SYS_CHROOT"));
        }
        let is_inside = self
            .process
            .working_directory
            .as_ref()
            .is_some_and(|inside| {
                let directory = inside.path.as_ref().map(Bytes::to_path).unwrap_or_default();
                let mut above = directory.ancestors();
                above.any(|above| Place::of(above).is_ok_and(|above| above == root))
            });
        if !is_inside {
            self.process.working_directory = Some(root.clone());
        }
        self.process.root = self.process.root.take().map(|_| root);
        Ok(())
    }
}
