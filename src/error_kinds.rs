// The table of every `ErrorKind`: its documentation, its number in a message, its name, whether
// it has an errno, its message, and what it is about. The file that includes this one defines
// the macro.

error_kinds! {
    /// fork(2) failed: there are too many processes, or too little memory. If there are too many
    /// processes, the text lists the limits.
    1 Fork(Errno) "cannot fork";
    /// waitpid(2) for the intermediate process failed.
    2 Wait(Errno) "cannot wait for the intermediate process";
    /// setsid(2) failed.
    3 DetachSession(Errno) "cannot create a session";
    /// The group database has no such group.
    4 GroupNotFound "unknown group";
    /// A group name contains a NUL byte.
    5 GroupContainsNul "NUL byte in group name";
    /// The group ids could not be set.
    6 SetGroup(Errno) "cannot change to group", Group;
    /// The user database has no such user.
    7 UserNotFound "unknown user";
    /// A user name contains a NUL byte.
    8 UserContainsNul "NUL byte in user name";
    /// The user ids could not be set.
    9 SetUser(Errno) "cannot change to user", User;
    /// chdir(2) to the working directory failed.
    10 ChangeDirectory(Errno) "cannot change to directory", WorkingDirectory;
    /// A path contains a NUL byte.
    11 PathContainsNul "NUL byte in path";
    /// The pid file could not be opened, or the start refused its type, its owner or its
    /// directory.
    12 OpenPidfile(Errno) "cannot open pid file", PidFile;
    /// Not returned any more: the library opens the pid file with `O_CLOEXEC`.
    13 GetPidfileFlags(Errno) "cannot get flags of pid file", PidFile;
    /// Not returned any more: the library opens the pid file with `O_CLOEXEC`.
    14 SetPidfileFlags(Errno) "cannot set flags of pid file", PidFile;
    /// The pid file is locked by another process: see [`Error::running_pid`].
    15 LockPidfile(Errno) "cannot lock pid file", PidFile;
    /// The owner of the pid file could not be changed.
    16 ChownPidfile(Errno) "cannot change owner of pid file", PidFile;
    /// `/dev/null` could not be opened.
    17 OpenDevnull(Errno) "cannot open", NullDevice;
    /// A standard stream could not be redirected.
    18 RedirectStreams(Errno) "cannot redirect";
    /// `/dev/null` could not be closed.
    19 CloseDevnull(Errno) "cannot close", NullDevice;
    /// The pid file could not be emptied.
    20 TruncatePidfile(Errno) "cannot truncate pid file", PidFile;
    /// The pid could not be written to the pid file.
    21 WritePid(Errno) "cannot write pid file", PidFile;
    /// The pid was written to the pid file in part only.
    22 WritePidUnspecifiedError "cannot write the whole pid to pid file", PidFile;
    /// The root directory could not be changed.
    23 Chroot(Errno) "cannot change root directory to", Chroot;
    /// The process has more than one thread, or shares its memory with another process. The
    /// text says which. It has the number of threads, and on Linux their names.
    24 MultiThreaded "cannot fork safely";
    /// The number of threads of the process cannot be determined.
    25 ThreadCountUnknown "cannot fork safely: the number of threads is unknown";
    /// The user database could not be read.
    26 LookUpUser(Errno) "cannot look up user";
    /// The group database could not be read.
    27 LookUpGroup(Errno) "cannot look up group";
    /// The user is given by number and has no entry in the user database, so that the primary
    /// group is unknown, and no group is set.
    28 PrimaryGroupUnknown "cannot find the primary group of user";
    /// The supplementary groups could not be set.
    29 SetSupplementaryGroups(Errno) "cannot set supplementary groups", Identity;
    /// After a change of identity or root directory, the process still had an id, a group, a
    /// capability or a working directory of the former one, or could regain an id.
    30 PrivilegesRetained "the process retained privileges";
    /// A closure, or a thread that it has created, panicked. The text names the place in the source.
    31 Panicked "the daemon panicked";
    /// The daemon ended before it was ready: see [`Error::daemon_exit_status`]. Or the daemon
    /// closed its connection to the launcher, and the library terminated the daemon. The text
    /// says which.
    32 DaemonExited "the daemon ended before it was ready";
    /// The launcher had ended when the daemon reported that it was ready.
    33 LauncherGone "the launcher has ended";
    /// The intermediate process was killed before the daemon was ready. The text names the
    /// signal, if it is known, and says whether the daemon has ended.
    34 IntermediateExited "the intermediate process ended before the daemon was ready";
    /// The sockets between the processes could not be created or used.
    35 Channel(Errno) "cannot communicate between launcher and daemon";
    /// The [privileged action](crate::Daemonize::try_privileged_action) returned an error.
    36 PrivilegedAction "the privileged action failed";
    /// The [initialization](crate::Daemonize::initialize) returned an error.
    37 Initialize "the initialization failed";
    /// The daemon [reported](crate::Readiness::fail) that it cannot serve, or dropped its
    /// [`Readiness`](crate::Readiness) unused. Or a [program](crate::Program::notify_socket) has
    /// reported an errno, or has closed its [descriptor](crate::Program::notification_fd).
    38 NotReady "the daemon is not ready";
    /// The daemon was not ready within the [startup
    /// timeout](crate::Daemonize::startup_timeout), and the library terminated it. If a
    /// process could not be terminated, the text says so.
    39 StartupTimeout "the daemon was not ready in time";
    /// Inherited descriptors could not be closed.
    40 CloseInheritedFds(Errno) "cannot close inherited descriptors";
    /// The default action for a signal could not be set.
    41 ResetSignals(Errno) "cannot reset signals";
    /// The call that prevents execve(2) from granting privileges failed.
    42 SetNoNewPrivileges(Errno) "cannot set no_new_privs";
    /// The platform lacks the option.
    43 Unsupported "not supported on this platform:";
    /// The launcher and the daemon would share an event queue of epoll or io_uring: see
    /// [`execute_checked`](crate::Daemonize::execute_checked).
    50 SharedEventQueue "cannot fork safely: the daemon would share an event queue with the launcher";
    /// The event queues of the process cannot be listed, since /proc is missing.
    51 EventQueuesUnknown(Errno) "cannot fork safely: the event queues of the process are unknown";
    /// The launcher is the first process of its pid namespace, such as the main process of a
    /// container. Its exit would end the daemon.
    52 FirstProcess "cannot start a daemon from pid 1";
    /// The children of the launcher are in another pid namespace than the launcher: see
    /// unshare(2) and setns(2).
    53 PidNamespace "cannot start a daemon in another pid namespace";
    /// A closure of a start has called an entry point. Or a daemon has called
    /// [`start`](crate::Daemonize::start) before it has reported that it is ready.
    56 StartWithinStart "cannot start a daemon within the start of another";
    /// A [directory](crate::Daemonize::directory) could not be created, or not given to the daemon,
    /// or the start refused its parent directory.
    72 CreateDirectory(Errno) "cannot create directory";
    /// The start refused an existing file at the path of a
    /// [directory](crate::Daemonize::directory): its type, its owner or its mode.
    73 UseDirectory(Errno) "cannot use directory";
    /// The name of a [`Directory`](crate::Directory) is invalid, or an environment variable that
    /// the path depends on is unset or not trusted.
    74 LocateDirectory "cannot locate directory";
    /// The user database has no entry with the values of
    /// [`user_environment`](crate::Daemonize::user_environment).
    75 UserEnvironmentUnknown "cannot set the environment: no entry in the database for user";
    /// An environment variable could not be set, or other threads may read the environment.
    76 SetEnvironment(Errno) "cannot set the environment";
    /// The call that makes a process dumpable failed, or had no effect.
    77 SetDumpable(Errno) "cannot make the daemon dumpable";
    /// The [payload](crate::Daemonize::ready_payload) of the report that the daemon is ready is
    /// longer than 2048 bytes.
    60 PayloadTooLong "the payload for the launcher is too long";
    /// The mode of the pid file could not be changed, or the start refused the mode: see
    /// [`pid_file_mode`](crate::Daemonize::pid_file_mode).
    65 ChmodPidfile(Errno) "cannot change mode of pid file", PidFile;
    /// The launcher or the daemon does not have a capability that the daemon is to
    /// [keep](crate::Daemonize::keep_capabilities), or its secure bits forbid it. The text names the
    /// capability or the secure bit.
    79 KeepCapabilities(Errno) "cannot keep capabilities";
    /// The [log file](crate::Stdio::append) of a standard stream could not be opened, or the start
    /// refused its type, its owner or its directory.
    68 OpenLogFile(Errno) "cannot open";
    /// A new log file could not be given to the user and the group of the daemon.
    69 ChownLogFile(Errno) "cannot change owner of";
    /// A [log file](crate::Stdio::append) is set as standard input.
    70 StandardInputIsLogFile "standard input cannot be a log file:";
    /// A [successor](crate::Daemonize::upgrade) could not take over the pid file of the running
    /// daemon.
    83 TakeOverPidfile(Errno) "cannot take over pid file", TakenOverPidFile;
    /// The [program](crate::Daemonize::spawn) could not be executed.
    90 ExecuteProgram(Errno) "cannot execute", Program;
    /// An option is set that a [program](crate::Daemonize::spawn) cannot have. The text names the
    /// option.
    91 OptionWithProgram "cannot execute a program with the option";
}
