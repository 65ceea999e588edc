//! The description of a program that becomes a daemon.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

/// A program for [`Daemonize::spawn`](crate::Daemonize::spawn), with its arguments and its
/// environment. The methods are those of [`std::process::Command`].
///
/// By default, the program has no arguments and the environment of the launcher.
///
/// ```
/// use daemonize2::Program;
///
/// let program = Program::new("/usr/sbin/clockd")
///     .args(["--config", "/etc/clockd.conf"])
///     .env("LANG", "C")
///     .env_remove("LD_PRELOAD");
/// # let _ = program;
/// ```
#[derive(Clone, Debug)]
#[must_use = "no program is executed until it is given to `Daemonize::spawn`"]
pub struct Program {
    path: PathBuf,
    /// With the name of the program.
    arguments: Vec<OsString>,
    inherits_environment: bool,
    /// In the order of the calls. `None` removes the variable.
    environment: Vec<(OsString, Option<OsString>)>,
}

impl Program {
    /// The program in this file.
    ///
    /// The daemon searches for a name without a slash in the directories of `PATH`, as execvp(3)
    /// does. This `PATH` is that of the program's own environment. A path that is not absolute
    /// starts at the daemon's [working directory](crate::Daemonize::working_directory). The daemon
    /// executes the program after it has changed its root directory and its identity: the path is
    /// that inside the [new root directory](crate::Daemonize::chroot), and the user of the daemon
    /// has to be permitted to execute the file.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        Self {
            arguments: vec![path.clone().into_os_string()],
            path,
            inherits_environment: true,
            environment: Vec::new(),
        }
    }

    /// Sets argument 0, the name by which the program knows itself. Default: the path.
    pub fn arg0(mut self, name: impl AsRef<OsStr>) -> Self {
        self.arguments[0] = name.as_ref().to_owned();
        self
    }

    /// Adds an argument.
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.arguments.push(argument.as_ref().to_owned());
        self
    }

    /// Adds arguments.
    pub fn args<A: AsRef<OsStr>>(self, arguments: impl IntoIterator<Item = A>) -> Self {
        arguments.into_iter().fold(self, Self::arg)
    }

    /// Sets an environment variable. It takes precedence over a variable of the launcher, and over
    /// those of [`user_environment`](crate::Daemonize::user_environment).
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        let value = value.as_ref().to_owned();
        self.environment
            .push((name.as_ref().to_owned(), Some(value)));
        self
    }

    /// Removes an environment variable.
    pub fn env_remove(mut self, name: impl AsRef<OsStr>) -> Self {
        self.environment.push((name.as_ref().to_owned(), None));
        self
    }

    /// Removes all environment variables: those of the launcher, and those that were set before.
    pub fn env_clear(mut self) -> Self {
        self.inherits_environment = false;
        self.environment.clear();
        self
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn arguments(&self) -> &[OsString] {
        &self.arguments
    }

    pub(crate) fn inherits_environment(&self) -> bool {
        self.inherits_environment
    }

    pub(crate) fn environment(&self) -> &[(OsString, Option<OsString>)] {
        &self.environment
    }
}
