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
/// By default, the daemon has the umask `0o027`, all three standard streams on `/dev/null`, no
/// pid file, and the working directory, root directory, user and groups of the launcher. In the
/// [foreground](Self::foreground), umask and streams stay as they are.
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
    /// Writes the pid of the daemon to this file, and holds a lock on it for as long as the
    /// daemon lives. Default: none.
    ///
    /// A relative path starts at the daemon's [working directory](Self::working_directory). The
    /// start creates the file if it is missing, but not its directory: /run is empty after a
    /// boot. The file is locked and empty while the daemon starts. It is complete when the
    /// launcher returns. A second start fails with
    /// [`ErrorKind::LockPidfile`](crate::ErrorKind::LockPidfile) and does not change the file.
    /// A start takes over the file of a killed daemon. A start that fails later leaves the file
    /// empty and unlocked, and does not remove it. The mode is `0o644` less the
    /// [umask](Self::umask); the owner may always read the file.
    ///
    /// The lock is that of [flock(2)](https://man7.org/linux/man-pages/man2/flock.2.html): it
    /// lives as long as the daemon and the processes that the daemon forks. The descriptor is
    /// close-on-exec. On Linux the daemon also has a record lock of fcntl(2), by which
    /// [`PidFile`](crate::PidFile) identifies the daemon.
    ///
    /// Code of the daemon that closes the descriptor, such as a library that closes "everything
    /// above 2", loses the lock: a second daemon can then start. Code that opens the file and
    /// closes it again loses the record lock: [`PidFile::running`](crate::PidFile::running)
    /// then fails with [`InvalidData`](std::io::ErrorKind::InvalidData). To ask for the
    /// daemon's own pid, use [`std::process::id`].
    ///
    /// # Errors
    ///
    /// On NFS the start fails with `LockPidfile(EBADF)`: there a file that is open for reading
    /// cannot be locked. Keep the file in a local directory such as /run. If the pid cannot be
    /// written (`WritePid`), the library terminates the daemon.
    ///
    /// # Security
    ///
    /// The start refuses a symbolic link and anything but a regular file with a single link,
    /// with [`ErrorKind::OpenPidfile`](crate::ErrorKind::OpenPidfile). The start replaces a
    /// file if group or others can write to it, or if it belongs to neither root, nor the
    /// caller, nor [`chown_pid_file_user`](Self::chown_pid_file_user). If it cannot remove the
    /// file, it takes the permission to write from group and others (a process that has opened
    /// the file before can still write to it). The start refuses a file of another user there.
    /// It also refuses such a file in a directory that others can write to, even with the
    /// sticky bit. When run as root, the start also refuses a directory that belongs to anyone
    /// but root, `chown_pid_file_user` or [`user`](Self::user), and one that others can write
    /// to unless it has the sticky bit.
    ///
    /// The daemon keeps the file open for reading alone. After a change of identity it cannot
    /// change the content.
    pub fn pid_file<F: Into<PathBuf>>(mut self, path: F) -> Self {
        self.options.pid_file = Some(path.into());
        self
    }

    /// Makes this user the owner of the pid file. Default: the caller.
    ///
    /// The group stays as it is.
    pub fn chown_pid_file_user<U: Into<User>>(mut self, user: U) -> Self {
        self.options.chown_pid_file_user = Some(user.into());
        self
    }

    /// Makes this group the group of the pid file. Default: the caller's.
    ///
    /// The user stays as it is.
    pub fn chown_pid_file_group<G: Into<Group>>(mut self, group: G) -> Self {
        self.options.chown_pid_file_group = Some(group.into());
        self
    }

    /// Changes to this directory. Default: the working directory of the launcher.
    ///
    /// A file system cannot be unmounted while the working directory of a daemon is in it;
    /// daemon(7) recommends `/`. The path is resolved before [`chroot`](Self::chroot).
    pub fn working_directory<F: Into<PathBuf>>(mut self, path: F) -> Self {
        self.options.working_directory = Some(path.into());
        self
    }

    /// Changes to this user. Default: the user of the launcher.
    ///
    /// The daemon gets the uid of the user, the primary group unless [`group`](Self::group) is
    /// set, and the supplementary groups that
    /// [getgrouplist(3)](https://man7.org/linux/man-pages/man3/getgrouplist.3.html) lists. A
    /// user that is given by number and has no entry in the database needs `group`.
    ///
    /// # Security
    ///
    /// The library sets the real, effective and saved ids, and reads them back. If an id
    /// changes and the daemon is not root afterwards, the library clears all capabilities on
    /// Linux, and tries to regain the former ids and those of root. If it succeeds, the daemon
    /// ends, and the start fails with
    /// [`ErrorKind::PrivilegesRetained`](crate::ErrorKind::PrivilegesRetained). The same
    /// applies if [`group`](Self::group) or
    /// [`supplementary_groups`](Self::supplementary_groups) alone change anything.
    pub fn user<U: Into<User>>(mut self, user: U) -> Self {
        self.options.user = Some(user.into());
        self
    }

    /// Changes to this group. Default: the primary group of [`user`](Self::user), or else the
    /// group of the launcher.
    ///
    /// Without `user`, the group also becomes the only supplementary group.
    pub fn group<G: Into<Group>>(mut self, group: G) -> Self {
        self.options.group = Some(group.into());
        self
    }

    /// Sets the supplementary groups. Default: [`SupplementaryGroups::FromDatabase`].
    ///
    /// Unless the daemon stays root, a change of the supplementary groups alone clears its
    /// capabilities: see [`user`](Self::user).
    ///
    /// ```no_run
    /// # fn main() -> Result<(), daemonize2::Error> {
    /// use daemonize2::{Daemonize, SupplementaryGroups};
    ///
    /// Daemonize::new()
    ///     .user("www-data")
    ///     .supplementary_groups(SupplementaryGroups::Only(vec!["ssl-cert".into()]))
    ///     .start_checked()
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// The start fails with
    /// [`ErrorKind::SetSupplementaryGroups`](crate::ErrorKind::SetSupplementaryGroups) where
    /// there are more than the system lets a process have: 65536 on Linux, 1023 beside the
    /// group id on FreeBSD, 16 with it on macOS. The library never drops a group silently.
    ///
    /// # Platform notes
    ///
    /// On macOS root and many users who log in are in more than 16 groups, so that a change to
    /// such a user needs [`SupplementaryGroups::Only`]. Users that exist for a service are in
    /// few groups. On macOS getgrouplist(3) returns the same for a failed look-up as for a user
    /// without groups.
    pub fn supplementary_groups(mut self, groups: SupplementaryGroups) -> Self {
        self.options.supplementary_groups = groups;
        self
    }

    /// Keeps execve(2) from granting privileges, for good and for all descendants: set-user-id
    /// and set-group-id bits and file capabilities then have no effect. Default: unchanged.
    ///
    /// Uses [prctl(2)](https://man7.org/linux/man-pages/man2/PR_SET_NO_NEW_PRIVS.2const.html)
    /// on Linux, and [procctl(2)](https://man.freebsd.org/cgi/man.cgi?query=procctl&sektion=2)
    /// on FreeBSD 14. This follows the change of identity, if there is one.
    ///
    /// # Errors
    ///
    /// On other platforms the start fails with
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported), before any fork.
    /// [`ErrorKind::SetNoNewPrivileges`](crate::ErrorKind::SetNoNewPrivileges) with `EINVAL` on
    /// FreeBSD before 14; with `EPERM` on Linux if other threads exist by then, which would not
    /// get the setting.
    pub fn no_new_privileges(mut self) -> Self {
        self.options.no_new_privileges = true;
        self
    }

    /// Closes the descriptors that the daemon would inherit from the launcher, except those in
    /// `keep`. Default: closes none.
    ///
    /// `keep` need not contain the standard streams and their sources. It may be in any order,
    /// and contain descriptors that are not open. In the daemon,
    /// [`OwnedFd::from_raw_fd`](std::os::fd::FromRawFd) makes a value of a kept descriptor. The
    /// descriptors that the closures open stay open.
    ///
    /// ```no_run
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
    /// ```
    ///
    /// The intermediate closes the descriptors right after the first fork. In the
    /// [foreground](Self::foreground) this process closes them, and they stay closed after an
    /// `Err`.
    ///
    /// The cost depends on the number of open descriptors, never on `RLIMIT_NOFILE`.
    /// Descriptors above a limit that was lowered since are closed too. The library uses
    /// close_range(2) on Linux and FreeBSD, closefrom(2) on NetBSD, OpenBSD, DragonFly and
    /// illumos, and a list of the open descriptors on macOS and, from /proc, on Linux before
    /// 5.9. With closefrom, it closes the descriptors below the highest kept one by one.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::CloseInheritedFds`](crate::ErrorKind::CloseInheritedFds): on Linux before
    /// 5.9, or in a sandbox that forbids close_range, with `ENOENT` if /proc is missing too,
    /// and with `EMFILE` if `keep` reaches the limit of open descriptors; with `ENOSYS` on a
    /// Unix that is not named above.
    ///
    /// # Safety
    ///
    /// No value that the daemon uses or drops may own a descriptor that is closed, neither a
    /// value of Rust nor one of a C library: not a capture of a closure, not a variable of the
    /// launcher further up the stack, not a static. The value would use, and in the end close,
    /// any file that gets the number later: see [I/O safety](std::io#io-safety). Put such
    /// descriptors into `keep`. The values of this library, a
    /// [`PidFileGuard`](crate::PidFileGuard) or [`Readiness`] of an earlier start, are safe.
    /// Beware of the descriptors that libraries open behind the scenes, such as a connection to
    /// a log or name service.
    #[expect(unsafe_code, reason = "the caller's promise is passed on, once")]
    pub unsafe fn close_inherited_fds(mut self, keep: &[RawFd]) -> Self {
        self.options.close_inherited_fds = Some(keep.to_vec());
        self
    }

    /// Sets the default action for every signal, and empties the signal mask. The action for
    /// SIGPIPE stays as it is (Rust's runtime ignores it). Default: the daemon inherits actions
    /// and mask.
    ///
    /// Without it, the daemon and the programs that it runs ignore the signals that the
    /// launcher ignores. A program under nohup(1), for example, ignores SIGHUP. The signals
    /// that the C library reserves for itself stay as they are. The handler by which Rust's
    /// runtime reports a stack overflow is reset: the signal then kills the process without a
    /// message. In the [foreground](Self::foreground), a pending signal that was blocked takes
    /// effect then, and may end the process.
    pub fn reset_signals(mut self) -> Self {
        self.options.reset_signals = true;
        self
    }

    /// Sets the file mode creation mask. Default: `0o027`; in the
    /// [foreground](Self::foreground), unchanged.
    pub fn umask<M: Into<Mask>>(mut self, mask: M) -> Self {
        self.options.umask = Some(mask.into());
        self
    }

    /// Changes the root directory after the [privileged action](Self::privileged_action).
    /// Default: none.
    ///
    /// A relative path starts at the working directory. Needs root.
    ///
    /// # Security
    ///
    /// Afterwards the working directory is inside the new root: it stays if it was inside
    /// before, and else becomes the new root. The caller has to close its own descriptors of
    /// directories outside.
    pub fn chroot<F: Into<PathBuf>>(mut self, path: F) -> Self {
        self.options.chroot = Some(path.into());
        self
    }

    /// Redirects standard input. Default: [`Stdio::devnull`].
    pub fn stdin<S: Into<Stdio>>(mut self, stdio: S) -> Self {
        self.options.streams[0] = Some(stdio.into());
        self
    }

    /// Redirects standard output. Default: [`Stdio::devnull`].
    ///
    /// The launcher opens a file, with its own umask and rights. To use one file for two
    /// streams, call [`try_clone`](std::fs::File::try_clone).
    pub fn stdout<S: Into<Stdio>>(mut self, stdio: S) -> Self {
        self.options.streams[1] = Some(stdio.into());
        self
    }

    /// Redirects standard error. Default: [`Stdio::devnull`].
    pub fn stderr<S: Into<Stdio>>(mut self, stdio: S) -> Self {
        self.options.streams[2] = Some(stdio.into());
        self
    }

    /// Fails the start if the daemon is not ready in time. Default: no limit.
    ///
    /// The time starts right before the first fork, with the flush of standard output. It
    /// includes neither the look-up of users and groups nor the wait for a start in another
    /// thread. If standard output is a full pipe that no process reads, the start fails when
    /// the time runs out, even if the buffer is empty. The flush of C's other streams has no
    /// limit. When the time runs out, the daemon gets SIGTERM, and SIGKILL a second later. The
    /// start fails with [`ErrorKind::StartupTimeout`](crate::ErrorKind::StartupTimeout), whose
    /// text says at which step the time ran out, and what is left. A file server that does not
    /// answer, or a SIGSTOP, may delay the launcher for some seconds more: fifteen at most on
    /// Linux. A daemon that SIGKILL does not end in that time, or that may not be signalled,
    /// ends as soon as it can, or when it reports. The option has no effect in the
    /// [foreground](Self::foreground), where no other process watches the time.
    ///
    /// An intermediate process that SIGKILL does not end in that time, such as a frozen
    /// process, stays a child of the launcher. When it ends, it is a zombie until the
    /// launcher's next start, or the caller, reaps it. The same applies to a daemon whose
    /// launcher is a subreaper or pid 1, on Linux from 5.4 on. Elsewhere the caller has to reap
    /// such a daemon.
    pub fn startup_timeout(mut self, timeout: Duration) -> Self {
        self.options.startup_timeout = Some(timeout);
        self
    }

    /// Starts without a fork and a session: this process becomes the daemon. The standard
    /// streams and the umask stay as they are unless they are set. All other options apply.
    /// Default: false.
    ///
    /// Other threads and event queues are allowed, since nothing forks. On Linux some
    /// privileges belong to a thread: if other threads exist,
    /// [`no_new_privileges`](Self::no_new_privileges) fails the start, and so does a change of
    /// [`user`](Self::user) that leaves another thread a capability.
    ///
    /// This is for a service manager that starts its services in the foreground, for a
    /// debugger, and for a container: see [`supervised`](crate::supervised). There is no
    /// launcher: [`start`](Self::start) returns the daemon's value, and
    /// [`execute`](Self::execute) returns `Outcome::Child`. When the process is ready, the
    /// library notifies systemd, if systemd has asked for it. If the notification fails, the
    /// library writes a line to standard error.
    ///
    /// A failure leaves the process half changed: the library restores neither the umask nor
    /// the root directory, for example. It does clear the pid file.
    pub fn foreground(mut self, foreground: bool) -> Self {
        self.options.foreground = foreground;
        self
    }
}

/// The closures of the start. All closures run in the daemon, and each gets the value that the
/// closure before it has returned. If a closure panics, the start fails with
/// [`ErrorKind::Panicked`](crate::ErrorKind::Panicked) and the text of the panic, even if a
/// panic hook of the program ends the process. So until the start is committed,
/// [`std::panic::take_hook`] returns the library's hook, which calls the program's hook. If the
/// program takes the library's hook and does not call it, the launcher does not get the text.
///
/// If a closure closes the daemon's connection to the launcher, for example by executing
/// another program, the library terminates the daemon, and the start fails with
/// [`ErrorKind::DaemonExited`](crate::ErrorKind::DaemonExited). A start in a closure fails with
/// [`ErrorKind::StartWithinStart`](crate::ErrorKind::StartWithinStart).
impl<T, Stage> Daemonize<T, Stage> {
    /// Runs a closure just before the daemon changes root directory and identity: to bind a
    /// privileged port, to read a key. A later privileged action replaces an earlier one.
    ///
    /// [`start`](Self::start) returns its value in the daemon; [`execute`](Self::execute)
    /// returns it in [`Child`](crate::Child).
    ///
    /// The closure should create no threads. On Linux, no thread can clear the capabilities of
    /// another. The kernel itself clears them only if root becomes another user. In any other
    /// change of ids, a thread with capabilities fails the start with
    /// [`ErrorKind::PrivilegesRetained`](crate::ErrorKind::PrivilegesRetained).
    pub fn privileged_action<N, F: FnOnce() -> N + 'static>(self, action: F) -> Daemonize<N>
    where
        Stage: stage::BeforeInitialization,
    {
        self.with_actions(|_replaced| actions::privileged(action))
    }

    /// Runs a [privileged action](Self::privileged_action) that may fail. An `Err` fails the
    /// start with [`ErrorKind::PrivilegedAction`](crate::ErrorKind::PrivilegedAction), and the
    /// launcher gets its text and causes, as of [`initialize`](Self::initialize).
    pub fn try_privileged_action<N, E, F>(self, action: F) -> Daemonize<N>
    where
        E: Display + 'static,
        F: FnOnce() -> Result<N, E> + 'static,
        Stage: stage::BeforeInitialization,
    {
        self.with_actions(|_replaced| actions::try_privileged(action))
    }

    fn with_actions<N, S>(self, next: impl FnOnce(Actions<T>) -> Actions<N>) -> Daemonize<N, S> {
        Daemonize {
            options: self.options,
            actions: next(self.actions),
            stage: PhantomData,
        }
    }
}

/// The closures after the change of identity.
impl<T: 'static, Stage> Daemonize<T, Stage> {
    /// Runs a closure after the daemon has dropped its privileges, before it reports that it is
    /// ready: to build an async runtime, to open a database. The closure gets the value of the
    /// closure before it. May be given more than once.
    ///
    /// An `Err` fails the start with [`ErrorKind::Initialize`](crate::ErrorKind::Initialize),
    /// and the launcher gets its text, in the form `{:#}`, in which errors of anyhow and eyre
    /// show their causes. The library adds the causes of a `Box<dyn Error>` and of an
    /// [`io::Error`](std::io::Error). It cannot find the [source](std::error::Error::source) of
    /// any other type that implements `Display`, so that a closure should return `Box<dyn
    /// Error>`:
    ///
    /// ```no_run
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
    /// ```
    pub fn initialize<N, E, F>(self, initialize: F) -> Daemonize<N, stage::Initialization>
    where
        E: Display + 'static,
        F: FnOnce(T) -> Result<N, E> + 'static,
        Stage: stage::BeforeReadiness,
    {
        self.with_actions(|actions| actions::then_initialize(actions, initialize))
    }

    /// Makes the caller report that the daemon is ready: the start returns a [`Readiness`]
    /// together with the value. This is for a server that knows only later that it serves. The
    /// launcher waits for [`Readiness::ready`].
    ///
    /// Run code that may fail by [`Readiness::serve`], which has an example: there `?` keeps
    /// the cause. Otherwise, a `?` between the start and `ready` drops the readiness unused:
    /// the start fails, but the launcher does not get the cause.
    ///
    /// Before it reports, the daemon cannot call [`start`](Self::start), which would end the
    /// daemon: the start fails with
    /// [`ErrorKind::StartWithinStart`](crate::ErrorKind::StartWithinStart). It can call
    /// [`execute`](Self::execute).
    pub fn deferred_readiness(self) -> Daemonize<(T, Readiness), stage::DeferredReadiness>
    where
        Stage: stage::BeforeReadiness,
    {
        self.with_actions(actions::then_defer_readiness)
    }
}

/// The entry points.
impl<T, Stage> Daemonize<T, Stage> {
    /// Starts the daemon. Returns in the daemon alone: when the daemon is ready, the launcher
    /// exits with 0. It exits by `_exit(2)`, like daemon(3), so that atexit handlers run in the
    /// daemon alone.
    ///
    /// The library first flushes std's standard output and C's streams, unless other threads
    /// exist, which may have locked them. Starts in several threads take turns.
    ///
    /// # Errors
    ///
    /// An error is returned in the launcher alone, after the end of the daemon: see
    /// [`ErrorKind`](crate::ErrorKind).
    /// [`ErrorKind::FirstProcess`](crate::ErrorKind::FirstProcess) where the launcher is the
    /// first process of a pid namespace, as the main process of a container is: its exit would
    /// end the daemon. Use [`foreground`](Self::foreground) there.
    /// [`ErrorKind::PidNamespace`](crate::ErrorKind::PidNamespace) where unshare(2) or setns(2)
    /// has put the children of the launcher into another one.
    ///
    /// # Safety
    ///
    /// The process must have a single thread. Otherwise the caller is responsible for the
    /// daemon, in which the other threads are gone, and their locks stay locked, that of the
    /// allocator included. See
    /// [fork(2)](https://pubs.opengroup.org/onlinepubs/9799919799/functions/fork.html).
    /// [`start_checked`](Self::start_checked) checks the number of threads.
    #[expect(unsafe_code, reason = "the caller's promise is passed on, once")]
    pub unsafe fn start(self) -> Result<T, Error> {
        // SAFETY: what is asked of our caller.
        let safety = ForkSafety::Assumed(unsafe { SingleThreaded::assume() });
        start::start(self.options, self.actions, safety)
    }

    /// Starts the daemon like [`start`](Self::start), if the process has a single thread.
    ///
    /// A runtime that creates threads, such as tokio's, has to be built in the daemon, after
    /// this.
    ///
    /// # Errors
    ///
    /// Those of `start`; [`ErrorKind::MultiThreaded`](crate::ErrorKind::MultiThreaded) if the
    /// process has other threads, or shares its memory, for 100 ms, since the kernel still
    /// counts a joined thread for a moment; and
    /// [`ErrorKind::ThreadCountUnknown`](crate::ErrorKind::ThreadCountUnknown) on platforms
    /// other than Linux, FreeBSD and macOS, or if /proc is needed and missing.
    ///
    /// # Platform notes
    ///
    /// On Linux unshare(2) fails both for other threads and for other processes that share the
    /// memory. If a sandbox forbids it, the library counts threads alone, as on FreeBSD and
    /// macOS. In gVisor and qemu-user, unshare(2) does not count; the library creates a process
    /// to find that out, and counts threads.
    pub fn start_checked(self) -> Result<T, Error> {
        start::start(self.options, self.actions, ForkSafety::Checked)
    }

    /// Starts the daemon, and returns in both processes: the launcher can go on.
    ///
    /// The launcher drops all closures and their captures. A failure in the daemon is returned
    /// in both processes. The process of the daemon then has no lock, no pid file and no
    /// connection to the launcher left, but keeps other changes, such as its standard streams.
    /// The caller has to end it: [`Outcome::end_failed_daemon`] does so, and the launcher
    /// reports the failure. The library itself terminates the daemon only after
    /// [`PrivilegesRetained`](crate::ErrorKind::PrivilegesRetained), after the time has run
    /// out, after the death of the launcher, and a second after its [`Readiness`] was dropped.
    ///
    /// # Safety
    ///
    /// The same as for [`start`](Self::start).
    #[expect(unsafe_code, reason = "the caller's promise is passed on, once")]
    pub unsafe fn execute(self) -> Outcome<T> {
        // SAFETY: what is asked of our caller.
        let safety = ForkSafety::Assumed(unsafe { SingleThreaded::assume() });
        start::execute(self.options, self.actions, safety)
    }

    /// Starts the daemon like [`execute`](Self::execute), if the process has a single thread
    /// (see [`start_checked`](Self::start_checked)) and no event queue that both processes
    /// would share.
    ///
    /// # Errors
    ///
    /// Those of [`start_checked`](Self::start_checked), except `FirstProcess`;
    /// [`ErrorKind::SharedEventQueue`](crate::ErrorKind::SharedEventQueue) if the process has
    /// epoll or io_uring open, as an async runtime with a single thread has: build the runtime
    /// after the start, or use `start_checked`; and
    /// [`ErrorKind::EventQueuesUnknown`](crate::ErrorKind::EventQueuesUnknown) on Linux if
    /// /proc is missing, since nothing else lists event queues.
    ///
    /// # Platform notes
    ///
    /// The kqueue of FreeBSD, macOS and the other BSDs is not inherited by a child.
    pub fn execute_checked(self) -> Outcome<T> {
        start::execute(self.options, self.actions, ForkSafety::Checked)
    }
}
