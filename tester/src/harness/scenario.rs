//! A case before it runs.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tempfile::TempDir;

use super::Run;
use crate::config::{
    Bytes, Config, Deferral, Directory, Entry, ExecPid, Fallible, Foreground, Identity, Ids,
    InitialState, Life, ProgramReadiness, Step, Stream, SupplementaryGroups, for_each_option,
};
use crate::report::StartError;
use crate::slowness::time_limit;
use crate::subject::FIND_REAPER;
use crate::sys;
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

pub fn binary(built: &str) -> PathBuf {
    env::var_os(BINARY).map_or_else(|| built.into(), PathBuf::from)
}

/// The environment variable with the path of another tester, built from the same sources in another
/// way.
pub const BINARY: &str = "TESTER_BINARY";

/// A case before it runs: the configuration, and a directory of its own, which is also the working
/// directory of the launcher.
#[derive(Debug, Clone)]
pub struct Scenario {
    /// The configuration. The methods set what most cases need.
    pub config: Config,
    pub(super) binary: PathBuf,
    pub(super) directory: Arc<TempDir>,
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

    /// The same, with its directory below this one.
    pub fn below(parent: &Path, binary: impl Into<PathBuf>) -> Self {
        let directory =
            TempDir::with_prefix_in("tester-", parent).expect("create the case's directory");
        // A daemon of another user must be able to enter, but not to write.
        fs::set_permissions(directory.path(), Permissions::from_mode(0o755))
            .expect("open the case's directory");
        // FreeBSD and macOS give every new file the group of its directory.
        chown(directory.path(), None, Some(sys::group_ids().effective))
            .expect("set the group of the case's directory");
        Self {
            config: Config::default(),
            binary: binary.into(),
            directory: Arc::new(directory),
            environment: Vec::new(),
            piped: false,
            arguments: Vec::new(),
            deadline: time_limit(),
            launched_by: None,
        }
    }

    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    pub fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Creates a directory in that of the case, which every user can enter.
    pub fn create_directory(&self, name: impl AsRef<Path>) -> PathBuf {
        let path = self.path(name);
        fs::create_dir(&path).expect("create a directory");
        fs::set_permissions(&path, Permissions::from_mode(0o755)).expect("open a directory");
        path
    }

    #[must_use]
    pub fn entry(mut self, entry: Entry) -> Self {
        self.config.entry = entry;
        self
    }

    /// Starts the tester as another program.
    #[must_use]
    pub fn spawn(self) -> Self {
        self.entry(Entry::Spawn)
    }

    /// Starts this program.
    #[must_use]
    pub fn spawn_program<A: Into<Bytes>>(
        mut self,
        path: impl Into<Bytes>,
        arguments: impl IntoIterator<Item = A>,
    ) -> Self {
        self.config.program.path = Some(path.into());
        self.config.program.arguments = arguments.into_iter().map(Into::into).collect();
        self.spawn()
    }

    /// Starts the tester as a program that becomes ready by one of these steps.
    #[must_use]
    pub fn spawn_awaiting(
        mut self,
        readiness: ProgramReadiness,
        steps: impl Into<Vec<Step>>,
    ) -> Self {
        self.config.program.readiness = readiness;
        self.config.program.steps = steps.into();
        self.spawn()
    }

    #[must_use]
    pub fn privileged_action(mut self, steps: impl Into<Vec<Step>>) -> Self {
        self.config.privileged_action = Some(steps.into());
        self
    }

    /// Sets the steps of the privileged action that may fail.
    #[must_use]
    pub fn try_privileged_action(mut self, action: impl Into<Fallible>) -> Self {
        self.config.try_privileged_action = Some(action.into());
        self
    }

    #[must_use]
    pub fn initialize(mut self, initialization: impl Into<Fallible>) -> Self {
        self.config.initialize.push(initialization.into());
        self
    }

    #[must_use]
    pub fn deferred_readiness(mut self, deferral: Deferral) -> Self {
        self.config.deferred_readiness = Some(deferral);
        self
    }

    /// Gives the last initialization to the entry point, as a closure that borrows.
    #[must_use]
    pub fn borrowing(mut self) -> Self {
        self.config.borrows = true;
        self
    }

    /// Sets the payload of the report that the daemon is ready.
    #[must_use]
    pub fn ready_payload(mut self, payload: impl Into<Vec<u8>>) -> Self {
        self.config.ready_payload = Some(Bytes(payload.into()));
        self
    }

    /// Sets the steps of the launcher when the daemon is ready.
    #[must_use]
    pub fn on_started(mut self, steps: impl Into<Vec<Step>>) -> Self {
        self.config.on_started = Some(steps.into());
        self
    }

    /// Sets what the daemon does after the library has returned.
    #[must_use]
    pub fn life(mut self, life: Life) -> Self {
        self.config.life = life;
        self
    }

    #[must_use]
    pub fn from_state(mut self, change: impl FnOnce(&mut InitialState)) -> Self {
        change(&mut self.config.initial);
        self
    }

    /// Starts as an ordinary user, which takes root. The user becomes the owner of the directory.
    #[must_use]
    pub fn as_user(mut self, uid: u32, gid: u32) -> Self {
        chown(self.directory(), Some(uid), Some(gid)).expect("give the case's directory away");
        self.config.initial.ids = Some(Ids::user(uid, gid));
        self
    }

    /// Starts the program as an ordinary user, as the shell of a user does, which takes root.
    /// Set-user-id and set-group-id bits of the program then have an effect. With
    /// [`as_user`](Self::as_user), the tester changes its ids itself.
    #[must_use]
    pub fn launched_by(mut self, uid: u32, gid: u32, groups: &[u32]) -> Self {
        self.launched_by = Some((uid, gid, groups.to_vec()));
        self
    }

    #[must_use]
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.environment
            .push((name.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// The value of a variable that the scenario sets.
    pub fn variable(&self, name: &str) -> Option<&OsStr> {
        let mut variables = self.environment.iter();
        variables.find_map(|(known, value)| (known == name).then_some(value.as_os_str()))
    }

    /// Gives the launcher pipes as standard output and error, instead of files. The launcher then
    /// counts as ended when no process has the pipes any more, as for a shell that captures its
    /// output.
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

    /// Sets how long each wait of the case may take.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Starts the tester, without a wait. May be called again.
    pub fn launch(&self) -> Run {
        Run::new(self)
    }

    /// Starts the tester, and waits for the success of the launcher and the report of the daemon.
    #[track_caller]
    pub fn start(&self) -> Run {
        let run = self.launch();
        run.launcher().assert().success();
        run.report();
        run
    }

    /// Starts the tester, and waits for the failure of the launcher, which prints one line and
    /// leaves nothing.
    #[track_caller]
    pub fn fail(&self) -> StartError {
        let run = self.launch();
        let error = run.launcher_error();
        run.assert_nothing_left();
        error
    }

    /// Whether a service manager waits for the launcher.
    pub fn is_notified(&self) -> bool {
        let mut names = self.environment.iter().map(|(name, _)| name);
        let initial = &self.config.initial;
        let is_meant = initial.exec_pid != Some(ExecPid::Parents);
        is_meant && initial.is_environment_trusted() && names.any(|name| name == "NOTIFY_SOCKET")
    }

    /// Whether the process that is started becomes the daemon.
    pub fn is_foreground(&self) -> bool {
        match self.config.options.foreground {
            None | Some(Foreground::No) => false,
            Some(Foreground::Yes) => true,
            Some(Foreground::IfSupervised) => self.is_notified(),
        }
    }

    /// The process that becomes the parent of an orphan: init, or a subreaper.
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

    /// The path of the pid file: the library opens it relative to the working directory of the
    /// daemon, before chroot.
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
