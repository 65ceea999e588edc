//! A case before it runs.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tempfile::TempDir;

use super::{DEADLINE, Run};
use crate::config::{
    Bytes, Config, Deferral, Entry, ExecPid, Fallible, Foreground, Identity, Ids, InitialState,
    Life, Step, Stream, SupplementaryGroups, for_each_option,
};
use crate::report::StartError;
use crate::subject::FIND_REAPER;
use crate::trace::{ANY_CALL, Fault, How, Role, TRACE};

/// A [`Scenario`] with [`tester!`](crate::tester!).
#[macro_export]
macro_rules! scenario {
    () => {
        $crate::Scenario::new($crate::tester!())
    };
}

/// The path of the tester that was built together with the test, unless the
/// environment names another: [`BINARY`].
#[macro_export]
macro_rules! tester {
    () => {
        $crate::harness::binary(env!("CARGO_BIN_EXE_tester"))
    };
}

/// See [`tester!`](crate::tester!).
pub fn binary(built: &str) -> PathBuf {
    env::var_os(BINARY).map_or_else(|| built.into(), PathBuf::from)
}

/// The environment variable that names a tester to run in place of the one
/// that was built together with the test: of the same sources, in another way.
pub const BINARY: &str = "TESTER_BINARY";

/// A case before it runs: the configuration, and a folder of its own, which
/// is also the launcher's working directory.
#[derive(Debug, Clone)]
pub struct Scenario {
    /// What the tester is told. The methods set what most cases need.
    pub config: Config,
    pub(super) binary: PathBuf,
    pub(super) folder: Arc<TempDir>,
    pub(super) environment: Vec<(OsString, OsString)>,
    pub(super) piped: bool,
    pub(super) arguments: Vec<String>,
    pub(super) deadline: Duration,
    pub(super) launched_by: Option<(u32, u32, Vec<u32>)>,
}

macro_rules! option_methods {
    (
        values { $($(#[$doc:meta])* $name:ident($builder:ident, $value:ident: $type:ty) => $call:expr,)* }
        flags { $($(#[$flag_doc:meta])* $flag:ident,)* }
    ) => {
        /// The options of the builder.
        impl Scenario {
            $(
                $(#[$doc])*
                #[must_use]
                pub fn $name(mut self, $value: impl Into<$type>) -> Self {
                    self.config.options.$name = Some($value.into());
                    self
                }
            )*
            $(
                $(#[$flag_doc])*
                #[must_use]
                pub fn $flag(mut self) -> Self {
                    self.config.options.$flag = true;
                    self
                }
            )*
        }
    };
}

for_each_option!(option_methods);

impl Scenario {
    /// A case that runs `binary`; see [`scenario!`](crate::scenario).
    pub fn new(binary: impl Into<PathBuf>) -> Self {
        Self::below(&env::temp_dir(), binary)
    }

    /// The same, with its folder below this one.
    pub fn below(parent: &Path, binary: impl Into<PathBuf>) -> Self {
        let folder = TempDir::with_prefix_in("tester-", parent).expect("create the case's folder");
        // Daemons of other users have to get in, but nobody may write.
        fs::set_permissions(folder.path(), Permissions::from_mode(0o755))
            .expect("open the case's folder");
        Self {
            config: Config::default(),
            binary: binary.into(),
            folder: Arc::new(folder),
            environment: Vec::new(),
            piped: false,
            arguments: Vec::new(),
            deadline: DEADLINE,
            launched_by: None,
        }
    }

    /// The case's folder.
    pub fn directory(&self) -> &Path {
        self.folder.path()
    }

    /// A path in the case's folder.
    pub fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Creates a folder in the case's folder, for everyone to enter.
    pub fn create_directory(&self, name: impl AsRef<Path>) -> PathBuf {
        let path = self.path(name);
        fs::create_dir(&path).expect("create a folder");
        fs::set_permissions(&path, Permissions::from_mode(0o755)).expect("open a folder");
        path
    }

    /// Which function starts the daemon.
    #[must_use]
    pub fn entry(mut self, entry: Entry) -> Self {
        self.config.entry = entry;
        self
    }

    /// What the privileged action does.
    #[must_use]
    pub fn privileged_action(mut self, steps: impl Into<Vec<Step>>) -> Self {
        self.config.privileged_action = Some(steps.into());
        self
    }

    /// What the privileged action does that may fail.
    #[must_use]
    pub fn try_privileged_action(mut self, action: impl Into<Fallible>) -> Self {
        self.config.try_privileged_action = Some(action.into());
        self
    }

    /// Adds an initialization.
    #[must_use]
    pub fn initialize(mut self, initialization: impl Into<Fallible>) -> Self {
        self.config.initialize.push(initialization.into());
        self
    }

    /// What becomes of the readiness.
    #[must_use]
    pub fn deferred_readiness(mut self, deferral: Deferral) -> Self {
        self.config.deferred_readiness = Some(deferral);
        self
    }

    /// How the daemon goes on.
    #[must_use]
    pub fn life(mut self, life: Life) -> Self {
        self.config.life = life;
        self
    }

    /// Changes the state to start from.
    #[must_use]
    pub fn from_state(mut self, change: impl FnOnce(&mut InitialState)) -> Self {
        change(&mut self.config.initial);
        self
    }

    /// Starts as an ordinary user, which only root can arrange. The case's
    /// folder becomes that user's.
    #[must_use]
    pub fn as_user(mut self, uid: u32, gid: u32) -> Self {
        std::os::unix::fs::chown(self.directory(), Some(uid), Some(gid))
            .expect("give the case's folder away");
        self.config.initial.ids = Some(Ids::user(uid, gid));
        self
    }

    /// Starts the program as an ordinary user, which only root can arrange:
    /// unlike [`as_user`](Self::as_user), which the tester does by itself, this
    /// is what a user's shell does, so that set-user-id and set-group-id bits
    /// of the program count.
    #[must_use]
    pub fn launched_by(mut self, uid: u32, gid: u32, groups: &[u32]) -> Self {
        self.launched_by = Some((uid, gid, groups.to_vec()));
        self
    }

    /// Sets an environment variable of the launcher.
    #[must_use]
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.environment
            .push((name.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// Gives the launcher pipes as standard output and error, instead of
    /// files. It then counts as ended only when nobody holds the pipes any
    /// more, as for a shell that captures its output.
    #[must_use]
    pub fn piped(mut self) -> Self {
        self.piped = true;
        self
    }

    /// Kills one process before the call of this number (Linux): see
    /// [`trace`](crate::trace). The harness takes the tracer, which ends as the
    /// launcher does, for the launcher.
    #[must_use]
    pub fn crash(self, process: Role, call: usize) -> Self {
        self.signal_at(process, call, libc::SIGKILL)
    }

    /// Sends one process this signal before the call of this number, in the same
    /// way.
    #[must_use]
    pub fn signal_at(self, process: Role, call: usize, signal: i32) -> Self {
        self.faults(&[Fault {
            process,
            call: ANY_CALL.to_owned(),
            occurrence: call,
            how: How::Signal(signal),
            always: false,
        }])
    }

    /// Records every call of the library, and lets some of them fail, in the same
    /// way.
    #[must_use]
    pub fn faults(mut self, faults: &[Fault]) -> Self {
        self.arguments = vec![TRACE.to_owned()];
        self.arguments
            .extend(faults.iter().flat_map(Fault::arguments));
        self
    }

    /// How long the case may take.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Starts the tester, and waits for nothing. May be called repeatedly.
    pub fn launch(&self) -> Run {
        Run::new(self)
    }

    /// Starts the tester, and waits until the launcher has succeeded and the
    /// daemon has reported.
    #[track_caller]
    pub fn start(&self) -> Run {
        let run = self.launch();
        run.launcher().assert().success();
        run.report();
        run
    }

    /// Starts the tester, and waits until the launcher has failed, with one
    /// line of output and with nothing left.
    #[track_caller]
    pub fn fail(&self) -> StartError {
        let run = self.launch();
        let error = run.launcher_error();
        run.assert_nothing_left();
        error
    }

    /// Whether a service manager is said to wait for the launcher.
    pub fn is_notified(&self) -> bool {
        let mut names = self.environment.iter().map(|(name, _)| name);
        let is_meant = self.config.initial.exec_pid != Some(ExecPid::Parents);
        is_meant && names.any(|name| name == "NOTIFY_SOCKET")
    }

    /// Whether the daemon is to be the process that is started.
    pub fn is_foreground(&self) -> bool {
        match self.config.options.foreground {
            None | Some(Foreground::No) => false,
            Some(Foreground::Yes) => true,
            Some(Foreground::IfSupervised) => self.is_notified(),
        }
    }

    /// The parent that an orphan gets here: init, or a subreaper.
    pub fn reaper(&self) -> u32 {
        static REAPER: OnceLock<u32> = OnceLock::new();
        *REAPER.get_or_init(|| {
            let output = Command::new(&self.binary)
                .arg(FIND_REAPER)
                .output()
                .expect("run the tester");
            let text = String::from_utf8_lossy(&output.stdout);
            text.trim().parse().expect("a process id")
        })
    }

    /// Where the pid file is, seen from here: the library opens it relative
    /// to the daemon's working directory, before chroot.
    pub fn pid_file_path(&self) -> Option<PathBuf> {
        let directories = [
            &self.config.initial.working_directory,
            &self.config.options.working_directory,
        ];
        let pid_file = self.config.options.pid_file.as_ref()?;
        let base = directories
            .into_iter()
            .flatten()
            .fold(self.directory().to_owned(), |base, directory| {
                base.join(directory.to_path())
            });
        Some(base.join(pid_file.to_path()))
    }
}
