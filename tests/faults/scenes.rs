//! The starts of which calls fail.

use std::sync::LazyLock;

use tester::config::{Activation, ExecPid};
use tester::harness::FakeServiceManager;
use tester::prelude::*;
use tester::suite::{Need, TEST_USER};
use tester::trace::{Fault, How, Role};

/// Makes [`Scene`] and, for each scene, the case that tries its rows.
macro_rules! scenes {
    ($( $(#[$documentation:meta])* $scene:ident $case:ident; )*) => {
        /// A kind of start.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub(crate) enum Scene {
            $( $(#[$documentation])* $scene, )*
        }

        impl Scene {
            pub(crate) const ALL: &[Self] = &[$( Self::$scene ),*];
        }

        $( pub(crate) fn $case() {
            crate::attempts::try_each_fault(Scene::$scene);
        } )*
    };
}

scenes! {
    /// The start has every option that each user may use.
    Ordinary a_fault_in_an_ordinary_start_is_reported_or_harmless;
    /// The start has every option.
    OfRoot a_fault_in_a_start_of_root_is_reported_or_harmless;
    /// The same, and the daemon keeps capabilities.
    Keeping a_fault_in_a_start_that_keeps_capabilities_is_reported_or_harmless;
    /// A sandbox forbids unshare(2) and close_range(2).
    Sandboxed a_fault_in_a_sandbox_is_reported_or_harmless;
    /// Standard input and output are closed, and others can write to the pid file.
    Untidy a_fault_in_an_untidy_start_is_reported_or_harmless;
    /// The library opens log files. One of them is opened before the daemon is ready, and used
    /// afterwards.
    Logging a_fault_in_opening_log_files_is_reported_or_harmless;
    /// A running daemon has locked the pid file.
    Locked a_fault_beside_a_running_daemon_is_harmless;
    /// The initialization fails.
    Failing a_fault_after_a_failure_does_not_hide_the_failure;
    /// The privileged action panics.
    Panicking a_fault_after_a_panic_does_not_hide_the_panic;
    /// The daemon exits in the privileged action.
    Dying a_fault_after_the_daemons_exit_does_not_hide_the_exit;
    /// The startup timeout expires.
    Late a_fault_after_the_timeout_is_harmless;
    /// The intermediate is killed as soon as there is a daemon.
    Orphaned a_fault_after_the_intermediate_is_killed_is_harmless;
    /// The same, where the launcher has no handle of the daemon.
    Nameless a_fault_where_the_launcher_has_no_handle_is_harmless;
    /// The launcher is killed while it waits.
    Abandoned a_fault_after_the_launcher_is_killed_is_harmless;
    /// The launcher and the intermediate are killed, under `execute`.
    Alone a_fault_in_a_daemon_that_is_alone_is_harmless;
    /// `execute` starts the daemon.
    Executed a_fault_under_execute_is_reported_on_both_sides;
    /// The daemon reports by itself that it is ready.
    Deferred a_fault_in_getting_ready_is_reported_or_harmless;
    /// The daemon reports that it does not become ready.
    Refusing a_fault_after_a_refusal_does_not_hide_the_refusal;
    /// The daemon drops its readiness, and exits.
    Forgetful a_fault_after_a_dropped_readiness_does_not_hide_the_drop;
    /// The daemon removes its pid file, and exits.
    Guarded a_fault_in_a_clean_exit_is_harmless;
    /// The daemon takes over the pid file of a daemon that has ended.
    Upgrading a_fault_in_an_upgrade_is_reported_or_harmless;
    /// The daemon executes a program.
    Spawned a_fault_in_executing_a_program_is_reported_or_harmless;
    /// The program reports by `NOTIFY_SOCKET` that it is ready.
    Notifying a_fault_in_awaiting_a_notification_is_reported_or_harmless;
    /// The program reports by a line that it is ready.
    Writing a_fault_in_awaiting_a_line_is_reported_or_harmless;
    /// There is no program to execute.
    Inexecutable a_fault_after_a_failed_execution_does_not_hide_the_failure;
    /// No process forks.
    Foreground a_fault_in_the_foreground_is_returned_or_harmless;
}

impl Scene {
    /// The scenes whose rows hold here, too, unless this scene or an earlier one has a row.
    pub(crate) fn inherits_rows_of(self) -> &'static [Self] {
        match self {
            Self::Locked | Self::Panicking | Self::Refusing | Self::Forgetful => &[Self::Failing],
            Self::Keeping => &[Self::OfRoot],
            Self::OfRoot => &[Self::Logging],
            Self::Abandoned => &[Self::Late],
            Self::Nameless => &[Self::Orphaned],
            Self::Notifying | Self::Writing => &[Self::Spawned],
            Self::Inexecutable => &[Self::Failing, Self::Spawned],
            _ => &[],
        }
    }

    pub(crate) fn is_of_root(self) -> bool {
        matches!(self, Self::OfRoot | Self::Keeping)
    }

    pub(crate) fn is_possible(self) -> bool {
        static IS_ROOTS: LazyLock<bool> = LazyLock::new(|| {
            let needs = [Need::Root, Need::TestUser, Need::Tracing];
            needs.iter().all(|need| need.unmet().is_none())
        });
        !self.is_of_root() || *IS_ROOTS
    }

    /// Whether timing decides how far the processes get before the scene stops
    /// them. The model knows no such start.
    pub(crate) fn is_cut_short(self) -> bool {
        matches!(
            self,
            Self::Late | Self::Orphaned | Self::Nameless | Self::Abandoned | Self::Alone
        )
    }

    /// Whether the start is compared with the model.
    pub(crate) fn is_predictable(self) -> bool {
        !self.is_cut_short() && !self.is_of_program()
    }

    /// Whether the daemon becomes another program, of which only the pid file and the report are
    /// examined.
    pub(crate) fn is_of_program(self) -> bool {
        matches!(
            self,
            Self::Spawned | Self::Notifying | Self::Writing | Self::Inexecutable
        )
    }

    /// The kind of error without any other fault, if a process gets one.
    pub(crate) fn fails_with(self) -> Option<&'static str> {
        match self {
            Self::Locked => Some("LockPidfile(11)"),
            Self::Failing => Some("Initialize"),
            Self::Panicking => Some("Panicked"),
            Self::Dying => Some("DaemonExited"),
            Self::Late => Some("StartupTimeout"),
            Self::Orphaned | Self::Nameless => Some("IntermediateExited"),
            Self::Alone => Some("LauncherGone"),
            Self::Refusing | Self::Forgetful => Some("NotReady"),
            Self::Inexecutable => Some("ExecuteProgram(2)"),
            _ => None,
        }
    }

    pub(crate) fn kills_launcher(self) -> bool {
        matches!(self, Self::Abandoned | Self::Alone)
    }

    /// Whether a failed daemon may still run when the launcher has ended: the
    /// library returns to its caller, or it has nobody to end it.
    pub(crate) fn may_outlive_launcher(self) -> bool {
        matches!(
            self,
            Self::Executed | Self::Abandoned | Self::Alone | Self::Nameless
        )
    }

    /// The fields of the model that this scene does not settle. A daemon that exits
    /// by itself gives no last report, and races with a look at its pid file. A daemon
    /// that has dropped its readiness is ended, maybe before it reports its result.
    pub(crate) fn unsettled(self) -> &'static [&'static str] {
        match self {
            Self::Guarded => &["reports", "pid file: ", "nobody of the start lives"],
            Self::Forgetful => &["messages"],
            Self::Foreground => &["reports", "pid file: locked"],
            _ => &[],
        }
    }
}

/// A start, and a service manager that waits for it.
pub(crate) struct Start {
    pub(crate) scene: Scene,
    pub(crate) scenario: Scenario,
    pub(crate) manager: Option<FakeServiceManager>,
    /// The faults that make the scene.
    pub(crate) faults: Vec<Fault>,
    /// The daemon that has locked the pid file.
    pub(crate) holder: Option<Run>,
}

/// Of <linux/capability.h>.
const CHOWN: u8 = 0;
const BIND_PORTS: u8 = 10;

/// The daemon is not to inherit these descriptors: one is below those by which
/// the tester reports, one above.
const INHERITED: [i32; 2] = [150, 250];

impl Start {
    pub(crate) fn new(scene: Scene) -> Self {
        let scenario = scenario!();
        let log = scenario.path("log");
        fs::write(&log, "").expect("create the log");
        let directory = Directory::at(scenario.path("work/directory")).mode(0o750);
        let mut scenario = scenario
            .entry(Entry::StartChecked)
            .directories([directory])
            .working_directory("work")
            .umask(0o027_u32)
            .pid_file("run/daemon.new")
            .stdin(Stream::DevNull)
            .stdout(Stream::append(log))
            .stderr(Stream::Keep)
            .startup_timeout(scaled(Duration::from_secs(15)))
            .close_inherited_fds([])
            .reset_signals()
            .no_new_privileges()
            .dumpable()
            .privileged_action([Step::Add("action".to_owned())])
            .initialize([Step::Add("initialization".to_owned())])
            .ready_payload(vec![b'p'; 2048])
            .on_started([Step::Print("started".to_owned())])
            .from_state(|state| {
                state.dispositions = vec![(libc::SIGHUP, Disposition::Ignore)];
                let open = |number| OpenDescriptor {
                    number,
                    path: "/dev/zero".into(),
                    close_on_exec: false,
                };
                state.descriptors = INHERITED.map(open).to_vec();
            });
        scenario.config.report_afterwards = true;
        scenario.create_directory("work");
        scenario.create_directory("work/run");
        let mut start = Self {
            scene,
            scenario,
            manager: None,
            faults: Vec::new(),
            holder: None,
        };
        start.set(scene);
        let socket = start.scenario.path("notify");
        start.manager = Some(FakeServiceManager::at(&socket));
        start.scenario = start.scenario.env("NOTIFY_SOCKET", socket);
        start
    }

    fn set(&mut self, scene: Scene) {
        use Role::{Daemon, Intermediate, Launcher};

        let hold = [Step::Hold];
        let mut scenario = self.scenario.clone();
        match scene {
            Scene::Ordinary => {}
            Scene::Logging => {
                let logs = scenario.create_directory("work/logs");
                fs::write(logs.join("error.log"), "").expect("create a log file");
                let [output, error] = ["logs/output.log", "logs/error.log"].map(Stream::log);
                scenario = scenario.stdout(output).stderr(error.until_ready());
            }
            Scene::OfRoot | Scene::Keeping => {
                scenario.create_directory("jail");
                scenario.create_directory("work/logs");
                scenario = scenario
                    .chroot("../jail")
                    .user(TEST_USER)
                    .group(TEST_USER)
                    .supplementary_groups(SupplementaryGroups::FromDatabase)
                    .user_environment()
                    .socket_activation()
                    .chown_pid_file_user(TEST_USER)
                    .chown_pid_file_group(TEST_USER)
                    .from_state(|state| {
                        state.activation = Some(Activation {
                            process: ExecPid::Own,
                            sockets: vec!["socket".to_owned()],
                        });
                    })
                    .pid_file_mode(0o644_u32);
                scenario = match scene {
                    Scene::Keeping => scenario
                        .keep_capabilities([CHOWN])
                        .ambient_capabilities([BIND_PORTS]),
                    _ => scenario.stdout(Stream::log("logs/output.log")),
                };
            }
            Scene::Sandboxed => {
                self.faults = vec![
                    forbidden(Launcher, "unshare"),
                    forbidden(Daemon, "unshare"),
                    forbidden(Intermediate, "close_range"),
                ];
            }
            Scene::Untidy => {
                let path = scenario.pid_file_path().expect("it has one");
                fs::write(&path, "").expect("leave a pid file");
                set_mode(&path, 0o666);
                scenario = scenario.from_state(|state| state.closed = [true, true, false]);
            }
            Scene::Locked => self.holder = Some(scenario.start()),
            Scene::Failing => scenario = scenario.initialize(ErrorText::from("no luck")),
            Scene::Dying => scenario = scenario.privileged_action([Step::Exit(3)]),
            Scene::Late => {
                let timeout = scaled(Duration::from_secs(1));
                scenario = scenario.startup_timeout(timeout).privileged_action(hold);
            }
            Scene::Panicking => {
                scenario = scenario
                    .stderr(Stream::DevNull)
                    .privileged_action([Step::Panic("no luck".to_owned())]);
            }
            Scene::Orphaned => {
                scenario = scenario.privileged_action(hold);
                self.faults = vec![killed(Intermediate, "waitpid")];
            }
            Scene::Nameless => {
                scenario = scenario.privileged_action([until_alone()]);
                self.faults = vec![
                    forbidden(Intermediate, "pidfd_open"),
                    killed(Intermediate, "waitpid"),
                ];
            }
            Scene::Abandoned => {
                scenario = scenario
                    .entry(Entry::ExecuteChecked)
                    .privileged_action(hold);
                self.faults = vec![killed(Launcher, "recvmsg(pair 1)")];
            }
            Scene::Alone => {
                scenario = scenario.entry(Entry::ExecuteChecked);
                self.faults = vec![
                    killed(Launcher, "recvmsg(pair 1)"),
                    killed(Intermediate, "waitpid"),
                ];
            }
            Scene::Executed => scenario = scenario.entry(Entry::ExecuteChecked),
            Scene::Deferred => {
                scenario = scenario.deferring([], ReadinessUse::Ready);
            }
            Scene::Refusing => {
                let refusal = ReadinessUse::Fail(ErrorText::from("no luck"));
                scenario = scenario.deferring([], refusal);
            }
            Scene::Forgetful => {
                scenario = scenario
                    .deferring([], ReadinessUse::Drop)
                    .life(Life::Exit(0));
            }
            Scene::Guarded => {
                scenario = scenario.life(Life::Exit(0));
                scenario.config.guard_pid_file = true;
            }
            Scene::Upgrading => {
                // The start locks `daemon.new`, as the other scenes do. It makes no directory, so
                // that the takeover alone opens what lies above the pid file.
                scenario = scenario
                    .directories([])
                    .pid_file("run/daemon")
                    .upgrade(true);
                let path = scenario.pid_file_path().expect("it has one");
                fs::write(&path, "").expect("leave a pid file");
            }
            Scene::Spawned | Scene::Notifying | Scene::Writing | Scene::Inexecutable => {
                let (readiness, steps) = match scene {
                    Scene::Notifying => {
                        let ready = Step::Notify(Bytes(b"READY=1".to_vec()));
                        (ProgramReadiness::NotifySocket, vec![ready])
                    }
                    Scene::Writing => {
                        let line = Step::Write(3, "\n".to_owned());
                        (ProgramReadiness::NotificationFd(3), vec![line])
                    }
                    _ => (ProgramReadiness::Execution, vec![]),
                };
                scenario = scenario.spawn_awaiting(readiness, steps);
                if scene == Scene::Inexecutable {
                    scenario = scenario.spawn_program("missing/program", [""; 0]);
                }
                scenario.config.privileged_action = None;
                scenario.config.initialize.clear();
                scenario.config.ready_payload = None;
            }
            Scene::Foreground => {
                scenario = scenario.foreground(Foreground::Yes).life(Life::Exit(0));
            }
        }
        self.scenario = scenario;
    }
}

/// Takes a daemon longer than it takes to kill its intermediate, and less than
/// the launcher then waits.
pub(crate) fn until_alone() -> Step {
    Step::Run(["sleep", "0.2"].map(Bytes::from).to_vec())
}

fn forbidden(process: Role, call: &str) -> Fault {
    Fault {
        process,
        call: call.to_owned(),
        occurrence: 0,
        how: How::Errno(libc::EPERM),
        always: true,
    }
}

/// The process is killed before its first such call.
fn killed(process: Role, call: &str) -> Fault {
    Fault {
        how: How::Signal(libc::SIGKILL),
        always: false,
        ..forbidden(process, call)
    }
}
