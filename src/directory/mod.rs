//! The directories of a daemon: where they are, and the option of a start.

mod create;

use std::env;
use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};

pub(crate) use create::DirectoryPlan;

use crate::error::{Error, ErrorKind};
use crate::subject::Subject;
use crate::sys::{self, Uid};

/// A directory of the daemon, which [`Daemonize::directory`](crate::Daemonize::directory) creates.
///
/// The places are those of `RuntimeDirectory=`, `StateDirectory=` and `LogsDirectory=` in
/// [systemd.exec(5)]. For root they are those of file-hierarchy(7) on Linux, and of
/// [hier(7)](https://man.freebsd.org/cgi/man.cgi?query=hier&sektion=7) elsewhere. For other users,
/// the [XDG base directory specification] has the variables of the environment. The effective user
/// of the process decides, not the user that the daemon becomes.
///
/// | | root, Linux | root, other platforms | other users |
/// |---|---|---|---|
/// | [`runtime`](Self::runtime) | `/run` | `/var/run` | `$XDG_RUNTIME_DIR` |
/// | [`state`](Self::state) | `/var/lib` | `/var/db` | `$XDG_STATE_HOME`, or `$HOME/.local/state` |
/// | [`logs`](Self::logs) | `/var/log` | `/var/log` | `log` in the directory of `state` |
///
/// The name has one component or several, such as `clockd/sockets`. It has no `.` or `..`, and does
/// not begin with a slash.
///
/// The default mode is 0755 for root, as in systemd.exec(5), and 0700 for other users.
///
/// A service of systemd with `User=` does not run as root, and has no `XDG_RUNTIME_DIR`. There, let
/// the unit create the directory by `RuntimeDirectory=`, and use [`at`](Self::at) with the mode of
/// the unit, which is 0755 unless `RuntimeDirectoryMode=` is set.
///
/// ```no_run
/// use std::fs::File;
/// use daemonize2::{Daemonize, Directory};
///
/// # fn main() -> Result<(), daemonize2::Error> {
/// let runtime = Directory::runtime("clockd");
/// let logs = Directory::logs("clockd").mode(0o750);
/// let log = logs.path()?.join("clockd.log");
/// let log = Daemonize::new()
///     .user("www-data")
///     .pid_file(runtime.path()?.join("clockd.pid"))
///     .directory(runtime)
///     .directory(logs)
///     .initialize(move |()| File::options().create(true).append(true).open(log))
///     .start_checked()?;
/// # drop(log);
/// # Ok(())
/// # }
/// ```
///
/// [systemd.exec(5)]: https://www.freedesktop.org/software/systemd/man/latest/systemd.exec.html
/// [XDG base directory specification]: https://specifications.freedesktop.org/basedir-spec/latest/
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directory {
    place: Place,
    /// The name in the place, or the absolute path.
    path: PathBuf,
    /// `None` is the default of the user.
    mode: Option<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Runtime,
    State,
    Logs,
    Absolute,
}

impl Directory {
    /// A directory for sockets and the pid file. Its place is empty after a boot, and for other
    /// users than root also after a logout.
    pub fn runtime(name: impl Into<PathBuf>) -> Self {
        Self::in_place(Place::Runtime, name.into())
    }

    /// A directory for data that outlives a boot.
    pub fn state(name: impl Into<PathBuf>) -> Self {
        Self::in_place(Place::State, name.into())
    }

    /// A directory for log files.
    pub fn logs(name: impl Into<PathBuf>) -> Self {
        Self::in_place(Place::Logs, name.into())
    }

    /// The directory at an absolute path. Its parent directory must exist.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self::in_place(Place::Absolute, path.into())
    }

    fn in_place(place: Place, path: PathBuf) -> Self {
        Self {
            place,
            path,
            mode: None,
        }
    }

    /// Sets the mode of a new directory, and the permissions that an existing one may grant at
    /// most. The umask has no influence. The owner must have all permissions, as in `0o750`;
    /// otherwise the start fails.
    #[must_use]
    pub fn mode(mut self, mode: u32) -> Self {
        self.mode = Some(mode);
        self
    }

    /// The absolute path. This opens no file.
    ///
    /// # Errors
    ///
    /// This fails with [`ErrorKind::LocateDirectory`] in these cases:
    ///
    /// - The name or path is not of the required form.
    /// - The process does not run as root, and `XDG_RUNTIME_DIR` or `HOME` is needed, but not set,
    ///   or not an absolute path. An `XDG_STATE_HOME` that is not absolute counts as not set, as the
    ///   specification requires.
    /// - The process does not run as root, and the program has a set-user-id bit, a set-group-id
    ///   bit or file capabilities. Its caller controls its environment.
    pub fn path(&self) -> Result<PathBuf, Error> {
        self.locate(&Environment::of_process())
            .map(|location| location.path())
    }

    fn locate(&self, environment: &Environment<'_>) -> Result<Location, Error> {
        let failed = |reason: String| {
            Error::from(ErrorKind::LocateDirectory)
                .with_subject(Subject::Path(self.path.clone()))
                .with_reason(reason)
        };
        let base = match self.place {
            Place::Absolute => match (self.path.is_absolute(), self.path.file_name()) {
                (false, _) => return Err(failed(String::from(NOT_ABSOLUTE))),
                (true, None) => return Err(failed(String::from("its last component is no name"))),
                (true, Some(name)) => {
                    return Ok(Location {
                        base: self.path.parent().unwrap_or(Path::new("/")).to_owned(),
                        name: name.into(),
                        may_create_base: false,
                    });
                }
            },
            Place::Runtime => environment.runtime(),
            Place::State => environment.state(),
            Place::Logs => environment.logs(),
        };
        let mut components = self.path.components().peekable();
        let is_empty = components.peek().is_none();
        if is_empty || components.any(|component| !matches!(component, Component::Normal(_))) {
            return Err(failed(String::from(NO_NAME)));
        }
        Ok(Location {
            base: base.map_err(failed)?,
            // Without the slashes that do not count.
            name: self.path.components().collect(),
            may_create_base: self.place != Place::Runtime || environment.is_roots(),
        })
    }
}

const NOT_ABSOLUTE: &str = "it is not an absolute path; with a name, use `Directory::runtime`, \
                            `Directory::state` or `Directory::logs`";
const NO_NAME: &str = "the name must be relative, and have no empty, `.` or `..` component; with \
                       an absolute path, use `Directory::at`";

macro_rules! from_absolute_paths {
    ($( $path:ty ),*) => { $(
        /// The same as [`Directory::at`].
        impl From<$path> for Directory {
            fn from(path: $path) -> Self {
                Self::at(path)
            }
        }
    )* };
}

from_absolute_paths!(&str, String, &Path, PathBuf);

/// Where a directory is.
#[derive(Debug, PartialEq, Eq)]
struct Location {
    /// The directory of the system or of the user, or the parent of a path.
    base: PathBuf,
    name: PathBuf,
    /// Whether the base is created if it is missing.
    may_create_base: bool,
}

impl Location {
    fn path(&self) -> PathBuf {
        self.base.join(&self.name)
    }
}

/// What decides about the places.
struct Environment<'a> {
    user: Uid,
    is_trusted: bool,
    variable: &'a dyn Fn(&str) -> Option<OsString>,
}

impl Environment<'static> {
    fn of_process() -> Self {
        Self {
            user: sys::geteuid(),
            is_trusted: !sys::has_raised_privileges(),
            variable: &|name| env::var_os(name),
        }
    }
}

impl Environment<'_> {
    fn is_roots(&self) -> bool {
        self.user == Uid::ROOT
    }

    fn runtime(&self) -> Result<PathBuf, String> {
        if self.is_roots() {
            return Ok(PathBuf::from(sys::RUNTIME_DIRECTORY));
        }
        let variable = self.variable("XDG_RUNTIME_DIR")?;
        let path = variable.ok_or(
            "XDG_RUNTIME_DIR is not set; the system sets it at a login, but not for services and \
             cron(8): use `Directory::at` or `Directory::state` there",
        )?;
        match path.is_absolute() {
            true => Ok(path),
            false => Err(format!(
                "XDG_RUNTIME_DIR is {}, which is not an absolute path",
                path.display()
            )),
        }
    }

    fn state(&self) -> Result<PathBuf, String> {
        if self.is_roots() {
            return Ok(PathBuf::from(sys::STATE_DIRECTORY));
        }
        let absolute = |path: &PathBuf| path.is_absolute();
        if let Some(path) = self.variable("XDG_STATE_HOME")?.filter(absolute) {
            return Ok(path);
        }
        match self.variable("HOME")?.filter(absolute) {
            Some(home) => Ok(home.join(".local/state")),
            None => Err(String::from(
                "neither XDG_STATE_HOME nor HOME is set to an absolute path",
            )),
        }
    }

    fn logs(&self) -> Result<PathBuf, String> {
        match self.is_roots() {
            true => Ok(PathBuf::from(sys::LOG_DIRECTORY)),
            false => Ok(self.state()?.join("log")),
        }
    }

    /// An empty variable is one that is not set.
    fn variable(&self, name: &str) -> Result<Option<PathBuf>, String> {
        if !self.is_trusted {
            return Err(format!(
                "the program has privileges that its caller lacks, so that {name} is not trusted; \
                 use `Directory::at`"
            ));
        }
        let value = (self.variable)(name).filter(|value| !value.is_empty());
        Ok(value.map(PathBuf::from))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ORDINARY: Uid = Uid(1000);

    /// Where a process of this user with these variables has the directory, or why it has none.
    fn locate(
        directory: &Directory,
        user: Uid,
        variables: &[(&str, &str)],
    ) -> Result<PathBuf, String> {
        let value = |name: &str| {
            let mut variables = variables.iter();
            variables.find_map(|(known, value)| (*known == name).then(|| OsString::from(value)))
        };
        let environment = Environment {
            user,
            is_trusted: true,
            variable: &value,
        };
        let location = directory.locate(&environment);
        location
            .map(|location| location.path())
            .map_err(|error| error.to_string())
    }

    fn at(path: &str) -> Result<PathBuf, String> {
        Ok(PathBuf::from(path))
    }

    #[track_caller]
    fn assert_refused(located: Result<PathBuf, String>, text: &str) {
        let error = located.expect_err("it is refused");
        assert!(error.contains(text), "{error}");
    }

    #[test]
    fn the_directories_of_root_are_those_of_the_system() {
        let variables = &[
            ("XDG_RUNTIME_DIR", "/x"),
            ("XDG_STATE_HOME", "/x"),
            ("HOME", "/x"),
        ];
        let located = |directory: Directory| locate(&directory, Uid::ROOT, variables);
        let [runtime, state] = match cfg!(target_os = "linux") {
            true => ["/run/d/e", "/var/lib/d"],
            false => ["/var/run/d/e", "/var/db/d"],
        };
        assert_eq!(located(Directory::runtime("d//e/")), at(runtime));
        assert_eq!(located(Directory::state("d")), at(state));
        assert_eq!(located(Directory::logs("d")), at("/var/log/d"));
        assert_eq!(located(Directory::at("/srv/d/")), at("/srv/d"));
    }

    #[test]
    fn the_environment_has_the_directories_of_an_ordinary_user() {
        let variables = &[
            ("XDG_RUNTIME_DIR", "/run/user/1000"),
            ("XDG_STATE_HOME", "/state"),
            ("HOME", "/home/u"),
        ];
        let located = |directory: Directory| locate(&directory, ORDINARY, variables);
        assert_eq!(located(Directory::runtime("d")), at("/run/user/1000/d"));
        assert_eq!(located(Directory::state("d/e")), at("/state/d/e"));
        assert_eq!(located(Directory::logs("d")), at("/state/log/d"));
        assert_eq!(located(Directory::at("/srv/d")), at("/srv/d"));
    }

    #[test]
    fn the_home_directory_has_the_state_if_no_absolute_path_is_set() {
        for state_home in ["", "relative"] {
            let variables = &[("XDG_STATE_HOME", state_home), ("HOME", "/home/u")];
            let located = |directory: Directory| locate(&directory, ORDINARY, variables);
            assert_eq!(located(Directory::state("d")), at("/home/u/.local/state/d"));
            assert_eq!(
                located(Directory::logs("d")),
                at("/home/u/.local/state/log/d")
            );
        }
        for home in [&[][..], &[("HOME", "")], &[("HOME", "relative")]] {
            let refused = locate(&Directory::logs("d"), ORDINARY, home);
            assert_refused(refused, "neither XDG_STATE_HOME nor HOME is set");
        }
    }

    #[test]
    fn the_runtime_directory_of_a_user_must_be_set_and_absolute() {
        let refused = |variables| locate(&Directory::runtime("d"), ORDINARY, variables);
        let text = "cannot locate directory d: XDG_RUNTIME_DIR is not set";
        assert_refused(refused(&[]), text);
        assert_refused(refused(&[("XDG_RUNTIME_DIR", "")]), text);
        let text = "XDG_RUNTIME_DIR is run/user, which is not an absolute path";
        assert_refused(refused(&[("XDG_RUNTIME_DIR", "run/user")]), text);
    }

    #[test]
    fn a_program_with_raised_privileges_does_not_trust_its_environment() {
        let environment = |user| Environment {
            user,
            is_trusted: false,
            variable: &|_| Some(OsString::from("/tmp")),
        };
        for directory in [
            Directory::runtime("d"),
            Directory::state("d"),
            Directory::logs("d"),
        ] {
            let error = directory.locate(&environment(ORDINARY)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::LocateDirectory);
            assert!(error.to_string().contains("is not trusted"), "{error}");
            assert!(directory.locate(&environment(Uid::ROOT)).is_ok());
        }
        assert!(Directory::at("/d").locate(&environment(ORDINARY)).is_ok());
    }

    #[test]
    fn a_name_has_only_normal_components() {
        for name in ["", ".", "..", "/", "/d", "./d", "../d", "d/..", "d/../e"] {
            for directory in [
                Directory::runtime(name),
                Directory::state(name),
                Directory::logs(name),
            ] {
                assert_refused(
                    locate(&directory, Uid::ROOT, &[]),
                    "the name must be relative",
                );
            }
        }
    }

    #[test]
    fn a_path_is_absolute_and_ends_in_a_name() {
        for (path, text) in [
            ("", "it is not an absolute path"),
            ("d", "it is not an absolute path"),
            ("./d", "it is not an absolute path"),
            ("/", "its last component is no name"),
            ("/d/..", "its last component is no name"),
        ] {
            assert_refused(locate(&Directory::at(path), Uid::ROOT, &[]), text);
        }
        assert_eq!(Directory::from("/d"), Directory::at("/d"));
        assert_eq!(Directory::from(PathBuf::from("/d")), Directory::at("/d"));
    }
}
