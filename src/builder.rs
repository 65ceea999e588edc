//! The builder: options and entry points.

use std::fmt::{self, Display};
use std::marker::PhantomData;
use std::os::fd::RawFd;
use std::path::PathBuf;
use std::time::Duration;

use crate::error::Error;
use crate::identity::{Group, SupplementaryGroups, User};
use crate::options::{Mask, Options};
use crate::outcome::Outcome;
use crate::stage;
use crate::start::actions::{self, Actions};
use crate::start::{self, ForkSafety, Readiness};
use crate::streams::Stdio;
use crate::sys::SingleThreaded;

/// A daemon to be started: options, then one of four entry points.
///
/// Unless told otherwise, the daemon has the umask `0o027` (in the foreground, that of the process), all three standard
/// streams on `/dev/null`, no pid file, and the launcher's working directory,
/// root directory, user and groups.
///
/// | | the launcher ends, the daemon returns | both return |
/// |---|---|---|
/// | refuses where fork(2) is not safe | [`start_checked`](Self::start_checked) | [`execute_checked`](Self::execute_checked) |
/// | takes your word | [`start`](Self::start) | [`execute`](Self::execute) |
///
/// ```no_run
/// use daemonize2::Daemonize;
///
/// fn main() -> Result<(), daemonize2::Error> {
///     Daemonize::new()
///         .pid_file("/run/clockd.pid")
///         .working_directory("/")
///         .user("nobody")
///         .start_checked()?;
///     // This is the daemon; the launcher has exited with 0, or returned the
///     // reason why there is none.
///     Ok(())
/// }
/// ```
#[must_use = "nothing is started before one of the entry points is called"]
pub struct Daemonize<T, Stage = stage::Actions> {
    options: Options,
    actions: Actions<T>,
    stage: PhantomData<Stage>,
}

impl<T, Stage> fmt::Debug for Daemonize<T, Stage> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Daemonize")
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

impl Default for Daemonize<()> {
    fn default() -> Self {
        Self::new()
    }
}

impl Daemonize<()> {
    /// A daemon with no option set.
    pub fn new() -> Self {
        Self {
            options: Options::default(),
            actions: actions::none(),
            stage: PhantomData,
        }
    }
}

/// Options, in any order.
impl<T, Stage> Daemonize<T, Stage> {
    /// Writes the pid of the daemon to this file, and holds a lock on it for
    /// as long as the daemon lives. Default: none.
    ///
    /// A relative path starts at the daemon's
    /// [working directory](Self::working_directory). The file is made if need
    /// be, its directory is not: /run is empty after a boot. The file is locked and
    /// empty while the daemon starts. It is complete when the launcher returns. A
    /// second start fails with
    /// [`ErrorKind::LockPidfile`](crate::ErrorKind::LockPidfile) and leaves
    /// it alone; what a killed daemon has left is taken over. A start that fails
    /// later leaves the file empty and unlocked, not removed. The mode is
    /// `0o644` less the [umask](Self::umask); its owner may always read it.
    ///
    /// The lock is that of
    /// [flock(2)](https://man7.org/linux/man-pages/man2/flock.2.html): it lives as
    /// long as the daemon and the processes that the daemon forks. The descriptor is
    /// close-on-exec. On Linux the daemon holds a record lock of fcntl(2), too, by
    /// which [`PidFile`](crate::PidFile) knows it.
    ///
    /// Code of the daemon that closes the descriptor, such as a library that closes
    /// "everything above 2", loses the lock: a second daemon can then start. Code that
    /// opens the file and closes it again loses the record lock:
    /// [`PidFile::running`](crate::PidFile::running) then fails with
    /// [`InvalidData`](std::io::ErrorKind::InvalidData). To ask for the daemon's own
    /// pid, use [`std::process::id`].
    ///
    /// # Errors
    ///
    /// On NFS the start fails with `LockPidfile(EBADF)`: there a file that is open for
    /// reading cannot be locked. Keep the file in a local directory such as /run. If
    /// the pid cannot be written (`WritePid`), the daemon is ended.
    ///
    /// # Security
    ///
    /// The start refuses a symbolic link and anything but a regular file with a single
    /// link, with [`ErrorKind::OpenPidfile`](crate::ErrorKind::OpenPidfile). A file is
    /// replaced by a new one if group or others can write to it, or if it belongs to
    /// neither root, nor the caller, nor
    /// [`chown_pid_file_user`](Self::chown_pid_file_user). Where it cannot be removed,
    /// the permission of group and others to write is taken away (a process that has
    /// opened the file before can still write to it). A file of another user is refused
    /// there, and in a directory that others can write to, also with the sticky bit. When run as root, the start also refuses a directory that belongs to
    /// anyone but root, `chown_pid_file_user` or [`user`](Self::user), and one that
    /// others can write to unless it has the sticky bit.
    ///
    /// The daemon keeps the file open for reading alone: after a change of identity it
    /// cannot change what the file says of it.
    pub fn pid_file<F: Into<PathBuf>>(mut self, path: F) -> Self {
        self.options.pid_file = Some(path.into());
        self
    }

    /// Gives the pid file to this user. Default: the caller.
    ///
    /// The group stays as it is.
    pub fn chown_pid_file_user<U: Into<User>>(mut self, user: U) -> Self {
        self.options.chown_pid_file_user = Some(user.into());
        self
    }

    /// Gives the pid file to this group. Default: the caller's.
    ///
    /// The user stays as it is.
    pub fn chown_pid_file_group<G: Into<Group>>(mut self, group: G) -> Self {
        self.options.chown_pid_file_group = Some(group.into());
        self
    }

    /// Changes to this directory. Default: the working directory of the
    /// launcher.
    ///
    /// A daemon that stays where it was started keeps that file system from
    /// being unmounted; daemon(7) recommends `/`. The path is resolved before
    /// [`chroot`](Self::chroot).
    pub fn working_directory<F: Into<PathBuf>>(mut self, path: F) -> Self {
        self.options.working_directory = Some(path.into());
        self
    }

    /// Becomes this user. Default: stays who it is.
    ///
    /// The daemon takes on the user's uid, its primary group unless
    /// [`group`](Self::group) is set, and its supplementary groups as
    /// [getgrouplist(3)](https://man7.org/linux/man-pages/man3/getgrouplist.3.html)
    /// lists them. A user given by number without an entry in the database
    /// needs `group`.
    ///
    /// # Security
    ///
    /// Real, effective and saved ids are set and read back. Where that changes
    /// anything, and the daemon does not stay root, capabilities are cleared on
    /// Linux, and the daemon tries to get the former ids and root's back: if
    /// that succeeds, it ends, and the start fails with
    /// [`ErrorKind::PrivilegesRetained`](crate::ErrorKind::PrivilegesRetained).
    /// So it is for [`group`](Self::group) and
    /// [`supplementary_groups`](Self::supplementary_groups) alone, too: who
    /// changes any of them, and is not root afterwards, gives up all
    /// capabilities.
    pub fn user<U: Into<User>>(mut self, user: U) -> Self {
        self.options.user = Some(user.into());
        self
    }

    /// Becomes a member of this group. Default: the primary group of
    /// [`user`](Self::user), or stays what it is.
    ///
    /// Without `user`, this becomes the one supplementary group too.
    pub fn group<G: Into<Group>>(mut self, group: G) -> Self {
        self.options.group = Some(group.into());
        self
    }

    /// What becomes of the supplementary groups. Default:
    /// [`SupplementaryGroups::FromDatabase`].
    ///
    /// Unless the daemon stays root, a change of them alone takes its capabilities
    /// too: see [`user`](Self::user).
    ///
    /// ```no_run
    /// # #[cfg(unix)]
    /// # fn main() -> Result<(), daemonize2::Error> {
    /// use daemonize2::{Daemonize, SupplementaryGroups};
    ///
    /// Daemonize::new()
    ///     .user("www-data")
    ///     .supplementary_groups(SupplementaryGroups::Only(vec!["ssl-cert".into()]))
    ///     .start_checked()
    /// # }
    /// # #[cfg(not(unix))]
    /// # fn main() {}
    /// ```
    ///
    /// # Errors
    ///
    /// The start fails with
    /// [`ErrorKind::SetSupplementaryGroups`](crate::ErrorKind::SetSupplementaryGroups)
    /// where there are more than the system lets a process have: 65536 on
    /// Linux, 1023 beside the group id on FreeBSD, 16 with it on macOS. None is
    /// left out silently.
    ///
    /// # Platform notes
    ///
    /// On macOS root, and many users who log in, are in more than 16 groups, so
    /// that becoming one of them needs [`SupplementaryGroups::Only`]. Users made
    /// for a service are in few. There, getgrouplist(3) does not tell a look-up
    /// that has failed from a user without groups.
    pub fn supplementary_groups(mut self, groups: SupplementaryGroups) -> Self {
        self.options.supplementary_groups = groups;
        self
    }

    /// Gives up, for good and for all descendants, what execve(2) may grant:
    /// set-user-id and set-group-id programs and file capabilities are then
    /// run without. Default: does not.
    ///
    /// For Linux, by
    /// [prctl(2)](https://man7.org/linux/man-pages/man2/PR_SET_NO_NEW_PRIVS.2const.html),
    /// and FreeBSD 14, by
    /// [procctl(2)](https://man.freebsd.org/cgi/man.cgi?query=procctl&sektion=2).
    /// It is done right after the change of identity, whether there is one or
    /// not.
    ///
    /// # Errors
    ///
    /// On other platforms the start fails with
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported), before any
    /// fork.
    /// [`ErrorKind::SetNoNewPrivileges`](crate::ErrorKind::SetNoNewPrivileges)
    /// with `EINVAL` on FreeBSD before 14; with `EPERM` on Linux where other
    /// threads run by then, which would be without.
    pub fn no_new_privileges(mut self) -> Self {
        self.options.no_new_privileges = true;
        self
    }

    /// Closes the descriptors that the daemon would inherit from the launcher,
    /// but for those that `keep` names. Default: closes none.
    ///
    /// The standard streams, and what they are set to, need not be named.
    /// `keep` may be in any order, and name descriptors that are not open. In
    /// the daemon, [`OwnedFd::from_raw_fd`](std::os::fd::FromRawFd) makes a
    /// value of a descriptor that was kept. What the closures open stays open.
    ///
    /// ```no_run
    /// # #[cfg(unix)]
    /// # fn main() -> Result<(), daemonize2::Error> {
    /// use std::net::TcpListener;
    /// use std::os::fd::FromRawFd as _;
    ///
    /// // Whoever started this passes a listening socket as descriptor 5.
    /// let daemonize = daemonize2::Daemonize::new().user("nobody");
    /// // SAFETY: nothing in this program owns a descriptor yet.
    /// let daemonize = unsafe { daemonize.close_inherited_fds(&[5]) };
    /// daemonize.reset_signals().start_checked()?;
    /// // SAFETY: it was kept, and nothing else owns it.
    /// let listener = unsafe { TcpListener::from_raw_fd(5) };
    /// # drop(listener);
    /// # Ok(())
    /// # }
    /// # #[cfg(not(unix))]
    /// # fn main() {}
    /// ```
    ///
    /// It is done right after the launcher has forked, by the intermediate; in
    /// the [foreground](Self::foreground), by this process, for which they stay
    /// closed also after an `Err`.
    ///
    /// The cost goes with what is open, never with `RLIMIT_NOFILE`, and
    /// descriptors above a limit that was lowered since are closed too: by
    /// close_range(2) on Linux and FreeBSD, closefrom(2) on NetBSD, OpenBSD,
    /// DragonFly and illumos, and a list of what is open on macOS and, in
    /// /proc, on Linux before 5.9. Where it is closefrom, what lies below the
    /// highest descriptor that is kept is closed one by one.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::CloseInheritedFds`](crate::ErrorKind::CloseInheritedFds):
    /// on Linux before 5.9, or where a sandbox forbids close_range, with
    /// `ENOENT` if there is no /proc either, and with `EMFILE` if all that may
    /// be open is to be kept; with `ENOSYS` on a Unix that is not named above.
    ///
    /// # Safety
    ///
    /// No value that the daemon uses or drops may own one of the descriptors
    /// that are closed, be it Rust's or a C library's: captured by a closure,
    /// held by the launcher's code further up the stack, or in a static. It
    /// would go on to use, and in the end close, whatever has that number by
    /// then: see [I/O safety](std::io#io-safety). Name such descriptors in
    /// `keep`. The library's own values need no naming: a
    /// [`PidFileGuard`](crate::PidFileGuard) or
    /// [`Readiness`] of an earlier start. Beware of what
    /// libraries open behind the scenes, such as a connection to a log or name
    /// service.
    #[expect(unsafe_code, reason = "the caller's promise is passed on, once")]
    pub unsafe fn close_inherited_fds(mut self, keep: &[RawFd]) -> Self {
        self.options.close_inherited_fds = Some(keep.to_vec());
        self
    }

    /// Sets the action on every signal to the default, but for SIGPIPE, which
    /// stays as it is (Rust's runtime has it ignored), and lets all signals
    /// through. Default: actions and signal mask are inherited.
    ///
    /// What the launcher ignores, as what nohup(1) starts does SIGHUP, the
    /// daemon and the programs that it runs would ignore too. The signals that
    /// the C library keeps for itself are left alone. The handler by which
    /// Rust's runtime tells a stack overflow goes too: the signal then kills
    /// without a message. In the [foreground](Self::foreground), a signal that
    /// was blocked and is pending takes effect then, and may end the process.
    pub fn reset_signals(mut self) -> Self {
        self.options.reset_signals = true;
        self
    }

    /// Sets the file mode creation mask. Default: `0o027`; in the
    /// [foreground](Self::foreground), the one that the process has.
    pub fn umask<M: Into<Mask>>(mut self, mask: M) -> Self {
        self.options.umask = Some(mask.into());
        self
    }

    /// Changes the root directory, after the
    /// [privileged action](Self::privileged_action). Default: none.
    ///
    /// A relative path starts at the working directory. Needs root.
    ///
    /// # Security
    ///
    /// Afterwards the working directory lies within the new root: it is kept
    /// if it did before, and else is the new root. Descriptors of directories
    /// that the caller has open are the caller's to close.
    pub fn chroot<F: Into<PathBuf>>(mut self, path: F) -> Self {
        self.options.chroot = Some(path.into());
        self
    }

    /// What becomes of standard input. Default: [`Stdio::devnull`].
    pub fn stdin<S: Into<Stdio>>(mut self, stdio: S) -> Self {
        self.options.streams[0] = Some(stdio.into());
        self
    }

    /// What becomes of standard output. Default: [`Stdio::devnull`].
    ///
    /// A file is opened by the launcher, hence with its umask and rights. One
    /// file for two streams takes a
    /// [`try_clone`](std::fs::File::try_clone).
    pub fn stdout<S: Into<Stdio>>(mut self, stdio: S) -> Self {
        self.options.streams[1] = Some(stdio.into());
        self
    }

    /// What becomes of standard error. Default: [`Stdio::devnull`].
    pub fn stderr<S: Into<Stdio>>(mut self, stdio: S) -> Self {
        self.options.streams[2] = Some(stdio.into());
        self
    }

    /// Gives up on a daemon that is not ready by then. Default: waits for as
    /// long as it takes.
    ///
    /// The time runs from when standard output is flushed, right before the first fork:
    /// users and groups are looked up before, and another thread's start is waited
    /// for. A standard output that is a full pipe, which nobody reads, fails the start
    /// when the time is up, also if there is nothing to be flushed; other streams of
    /// C's are flushed for as long as it takes. The daemon is then sent SIGTERM, a
    /// second later SIGKILL, and the start fails with
    /// [`ErrorKind::StartupTimeout`](crate::ErrorKind::StartupTimeout), whose text
    /// says at which step the time ran out, and what is left. A process
    /// that is held up, by a file server that does not answer or by a SIGSTOP,
    /// holds up the launcher for some seconds more, and not for ever: fifteen at
    /// the most on Linux. A daemon that even SIGKILL has not ended by then, or
    /// that may not be signalled, ends as soon as it can, or reports. Has no effect
    /// in the [foreground](Self::foreground), where there is nobody to see to it.
    ///
    /// An intermediate process that even SIGKILL has not ended by then, as one that
    /// is frozen, stays a child of the launcher. When it ends, it is a zombie until
    /// the launcher's next start, which reaps it, or until the caller does. So does
    /// a daemon whose launcher is a subreaper or pid 1, on Linux from 5.4 on;
    /// elsewhere such a daemon is the caller's to reap.
    pub fn startup_timeout(mut self, timeout: Duration) -> Self {
        self.options.startup_timeout = Some(timeout);
        self
    }

    /// Stays in this process: no fork, no new session, and the standard
    /// streams and the umask are kept unless they are set. All else is done as
    /// configured. Default: false.
    ///
    /// Other threads and event queues are no hindrance, for nothing forks. On Linux
    /// some of what is given up belongs to a thread: with other threads,
    /// [`no_new_privileges`](Self::no_new_privileges) fails the start, and so does a
    /// change of [`user`](Self::user) that leaves another thread a capability.
    ///
    /// For a service manager that wants its services so, for a debugger, or
    /// for a container: see [`supervised`](crate::supervised). There is no
    /// launcher: [`start`](Self::start) returns the daemon's value here, and
    /// [`execute`](Self::execute) returns `Outcome::Child`. When the process
    /// is ready, systemd is told, if it has asked for it; where that fails, a line
    /// on standard error says so.
    ///
    /// After a failure the process is left half changed: what has been done
    /// by then, such as a new umask or root directory, is not undone. The pid
    /// file is.
    pub fn foreground(mut self, foreground: bool) -> Self {
        self.options.foreground = foreground;
        self
    }
}

/// What the daemon runs while it starts. All closures run in the daemon, and
/// what one returns is what the next gets. If one panics, the start fails with
/// [`ErrorKind::Panicked`](crate::ErrorKind::Panicked) and the panic's text, also if a
/// panic hook of the program's then ends the process. Until the start is committed,
/// [`std::panic::take_hook`] therefore returns the library's hook, which calls the
/// program's; a program that keeps it without calling it keeps the text too.
///
/// If a closure
/// closes the daemon's connection to the launcher, as one does that executes another
/// program, the daemon is terminated, and the start fails with
/// [`ErrorKind::DaemonExited`](crate::ErrorKind::DaemonExited). A start in a closure
/// is refused with
/// [`ErrorKind::StartWithinStart`](crate::ErrorKind::StartWithinStart).
impl<T, Stage> Daemonize<T, Stage> {
    /// Runs just before the daemon changes root directory and identity: to
    /// bind a privileged port, to read a key. A later one replaces an earlier
    /// one.
    ///
    /// Its result is what the daemon gets from [`start`](Self::start), or in
    /// [`Child`](crate::Child).
    ///
    /// It should start no threads. On Linux, a thread alone can give up its
    /// capabilities: where the kernel leaves them when the ids change, as it does
    /// unless root drops, the start fails with
    /// [`ErrorKind::PrivilegesRetained`](crate::ErrorKind::PrivilegesRetained).
    pub fn privileged_action<N, F: FnOnce() -> N + 'static>(self, action: F) -> Daemonize<N>
    where
        Stage: stage::BeforeInitialization,
    {
        self.running(actions::privileged(action))
    }

    /// As [`privileged_action`](Self::privileged_action), but may fail: an
    /// `Err` fails the start with
    /// [`ErrorKind::PrivilegedAction`](crate::ErrorKind::PrivilegedAction),
    /// and the launcher gets to see its text and causes, as of
    /// [`initialize`](Self::initialize).
    pub fn try_privileged_action<N, E, F>(self, action: F) -> Daemonize<N>
    where
        E: Display + 'static,
        F: FnOnce() -> Result<N, E> + 'static,
        Stage: stage::BeforeInitialization,
    {
        self.running(actions::try_privileged(action))
    }

    fn running<N, S>(self, actions: Actions<N>) -> Daemonize<N, S> {
        Daemonize {
            options: self.options,
            actions,
            stage: PhantomData,
        }
    }
}

/// What the daemon runs once it is who it is to be.
impl<T: 'static, Stage> Daemonize<T, Stage> {
    /// Runs after privileges are dropped and the pid is written, before the
    /// launcher is told: to build an async runtime, to open a database. Gets
    /// what the closure before it returned. May be given more than once.
    ///
    /// An `Err` fails the start with
    /// [`ErrorKind::Initialize`](crate::ErrorKind::Initialize), and the
    /// launcher gets to see its text: that of `{:#}`, by which errors of anyhow
    /// and eyre show their causes. The causes of a `Box<dyn Error>` and of an
    /// [`io::Error`](std::io::Error) are added. `Display` does not lead to the
    /// [source](std::error::Error::source) of other types; a closure that returns
    /// `Box<dyn Error>` has it told:
    ///
    /// ```no_run
    /// # #[cfg(unix)]
    /// # fn main() -> Result<(), daemonize2::Error> {
    /// use std::error::Error;
    ///
    /// let port = daemonize2::Daemonize::new()
    ///     .initialize(|()| -> Result<u16, Box<dyn Error>> {
    ///         Ok(std::fs::read_to_string("/etc/clockd/port")?.trim().parse()?)
    ///     })
    ///     .start_checked()?;
    /// # let _ = port;
    /// # Ok(())
    /// # }
    /// # #[cfg(not(unix))]
    /// # fn main() {}
    /// ```
    pub fn initialize<N, E, F>(self, initialize: F) -> Daemonize<N, stage::Initialization>
    where
        E: Display + 'static,
        F: FnOnce(T) -> Result<N, E> + 'static,
        Stage: stage::BeforeReadiness,
    {
        Daemonize {
            options: self.options,
            actions: actions::then_initialize(self.actions, initialize),
            stage: PhantomData,
        }
    }

    /// Hands the report that the daemon is ready over to the caller, together
    /// with the result: for a server that knows only later that it serves.
    /// The launcher waits for [`Readiness::ready`].
    ///
    /// Run what may fail by [`Readiness::serve`], in which `?` keeps the cause:
    ///
    /// ```no_run
    /// # #[cfg(unix)]
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use std::error::Error;
    /// use std::net::TcpListener;
    ///
    /// let ((), readiness) = daemonize2::Daemonize::new()
    ///     .deferred_readiness()
    ///     .start_checked()?;
    /// readiness.serve(|readiness| -> Result<(), Box<dyn Error>> {
    ///     let port = std::fs::read_to_string("/etc/clockd/port")?.trim().parse()?;
    ///     let listener = TcpListener::bind(("127.0.0.1", port))?;
    ///     readiness.ready()?;
    ///     for client in listener.incoming() {
    ///         drop(client?);
    ///     }
    ///     Ok(())
    /// })
    /// # }
    /// # #[cfg(not(unix))]
    /// # fn main() {}
    /// ```
    ///
    /// Without it, a `?` between the start and `ready` drops the readiness unused:
    /// the start fails, but the error that would say why is the daemon's alone.
    ///
    /// Until then [`start`](Self::start) is refused in the daemon, with
    /// [`ErrorKind::StartWithinStart`](crate::ErrorKind::StartWithinStart): it would
    /// end the daemon. [`execute`](Self::execute) is not.
    pub fn deferred_readiness(self) -> Daemonize<(T, Readiness), stage::DeferredReadiness>
    where
        Stage: stage::BeforeReadiness,
    {
        Daemonize {
            options: self.options,
            actions: actions::then_defer_readiness(self.actions),
            stage: PhantomData,
        }
    }
}

/// The entry points.
impl<T, Stage> Daemonize<T, Stage> {
    /// Starts the daemon. Returns in the daemon alone: the launcher exits with
    /// 0 when the daemon is ready, by `_exit(2)` as daemon(3) does, so that
    /// atexit handlers are the daemon's.
    ///
    /// Std's standard output and C's streams are flushed first, unless other
    /// threads run, which may hold them locked. Starts from several threads
    /// take turns.
    ///
    /// # Errors
    ///
    /// Returns in the launcher alone, when nothing is left of the daemon: see
    /// [`ErrorKind`](crate::ErrorKind).
    /// [`ErrorKind::FirstProcess`](crate::ErrorKind::FirstProcess) where the launcher
    /// is the first process of a pid namespace, as the main process of a container is:
    /// its exit would end the daemon. Use [`foreground`](Self::foreground) there.
    /// [`ErrorKind::PidNamespace`](crate::ErrorKind::PidNamespace) where unshare(2) or
    /// setns(2) has put the children of the launcher into another one.
    ///
    /// # Safety
    ///
    /// The process must have a single thread, or else the caller answers for
    /// what happens in the daemon: there, the other threads are gone, and the
    /// locks that they held stay locked, the allocator's among them. See
    /// [fork(2)](https://pubs.opengroup.org/onlinepubs/9799919799/functions/fork.html).
    /// [`start_checked`](Self::start_checked) makes sure of it.
    #[expect(unsafe_code, reason = "the caller's promise is passed on, once")]
    pub unsafe fn start(self) -> Result<T, Error> {
        // SAFETY: what is asked of our caller.
        let safety = ForkSafety::Assumed(unsafe { SingleThreaded::assume() });
        start::start(self.options, self.actions, safety)
    }

    /// Starts the daemon, as [`start`](Self::start) does, if the process has
    /// a single thread.
    ///
    /// A runtime that makes threads, such as tokio's, has to be started in
    /// the daemon, after this.
    ///
    /// # Errors
    ///
    /// As `start`;
    /// [`ErrorKind::MultiThreaded`](crate::ErrorKind::MultiThreaded) where the
    /// process has other threads, or shares its memory, also after 100 ms in
    /// which one that was joined should be gone; and
    /// [`ErrorKind::ThreadCountUnknown`](crate::ErrorKind::ThreadCountUnknown)
    /// on platforms other than Linux, FreeBSD and macOS, or where /proc is
    /// needed and missing.
    ///
    /// # Platform notes
    ///
    /// On Linux a sandbox may forbid unshare(2), which tells of threads and of
    /// processes that share the memory alike; then threads alone are counted, as
    /// they are on FreeBSD and macOS. gVisor and qemu-user do not count who shares the
    /// memory: there a process is made that tells so, and threads are counted.
    pub fn start_checked(self) -> Result<T, Error> {
        start::start(self.options, self.actions, ForkSafety::Checked)
    }

    /// Starts the daemon, and returns in both: the launcher can go on.
    ///
    /// In the launcher all closures and what they captured are dropped. A
    /// failure is returned in both processes, if it happened in the daemon;
    /// the daemon's side then has neither lock, nor pid file, nor connection
    /// left, but keeps what else was done to it, its standard streams among it, and
    /// is the caller's to end: [`Outcome::end_failed_daemon`] does so, and leaves it
    /// to the launcher to say why.
    /// It is ended here only after
    /// [`PrivilegesRetained`](crate::ErrorKind::PrivilegesRetained), when the time
    /// is up or the launcher gone, and a second after its
    /// [`Readiness`] was dropped.
    ///
    /// # Safety
    ///
    /// As for [`start`](Self::start).
    #[expect(unsafe_code, reason = "the caller's promise is passed on, once")]
    pub unsafe fn execute(self) -> Outcome<T> {
        // SAFETY: what is asked of our caller.
        let safety = ForkSafety::Assumed(unsafe { SingleThreaded::assume() });
        start::execute(self.options, self.actions, safety)
    }

    /// Starts the daemon, as [`execute`](Self::execute) does, if the process
    /// has a single thread, see [`start_checked`](Self::start_checked), and no event
    /// queue that both sides would share.
    ///
    /// # Errors
    ///
    /// As [`start_checked`](Self::start_checked), but for `FirstProcess`;
    /// [`ErrorKind::SharedEventQueue`](crate::ErrorKind::SharedEventQueue) where the
    /// process has epoll or io_uring open, as an async runtime with a single thread
    /// has: make the runtime after the start, or use `start_checked`; and
    /// [`ErrorKind::EventQueuesUnknown`](crate::ErrorKind::EventQueuesUnknown) on Linux
    /// where /proc is missing, since nothing else can tell.
    ///
    /// # Platform notes
    ///
    /// The kqueue of FreeBSD, macOS and the other BSDs is not inherited by a child.
    pub fn execute_checked(self) -> Outcome<T> {
        start::execute(self.options, self.actions, ForkSafety::Checked)
    }
}
