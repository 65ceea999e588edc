//! The builder: options and entry points.

use std::fmt::{self, Display};
use std::marker::PhantomData;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use crate::actions::{self, Actions};
use crate::error::{Error, Subject};
use crate::identity::{Group, User};
use crate::readiness::Readiness;
use crate::report::About;
use crate::sequence::{self, Threads};
use crate::streams::{Stdio, Streams};
use crate::sys::SingleThreaded;

/// The permission bits that files made by the daemon are *not* to have.
///
/// See [umask(2)](https://pubs.opengroup.org/onlinepubs/9799919799/functions/umask.html).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mask(pub(crate) u32);

impl From<u32> for Mask {
    fn from(bits: u32) -> Self {
        Self(bits)
    }
}

/// What [`Daemonize::execute`] tells the launcher of a start that succeeded.
#[derive(Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Parent {
    /// How the first child, the intermediate process, has ended.
    ///
    /// Where somebody else has reaped it, or SIGCHLD is ignored, nobody can
    /// know; this then is the success that the daemon's report implies.
    pub first_child_exit_status: ExitStatus,
    /// The pid of the daemon.
    pub daemon_pid: u32,
}

/// What [`Daemonize::execute`] tells the daemon.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub struct Child<T> {
    /// What the [privileged action](Daemonize::privileged_action) returned.
    pub privileged_action_result: T,
}

/// What [`Daemonize::execute`] returns: twice, once in the launcher and once
/// in the daemon.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome<T> {
    /// This is the launcher.
    Parent(Result<Parent, Error>),
    /// This is the daemon, or what was to become it.
    Child(Result<Child<T>, Error>),
}

impl<T> Outcome<T> {
    /// Whether this is the launcher.
    #[must_use]
    pub fn is_parent(&self) -> bool {
        matches!(self, Self::Parent(_))
    }

    /// Whether this is the daemon, or what was to become it.
    #[must_use]
    pub fn is_child(&self) -> bool {
        matches!(self, Self::Child(_))
    }
}

/// A daemon to be started: options, then one of four entry points.
///
/// Unless told otherwise, the daemon has the umask `0o027`, all three standard
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
    pub(crate) options: Options,
    pub(crate) actions: Actions<T>,
    pub(crate) stage: PhantomData<Stage>,
}

/// How far a [`Daemonize`] has been told what to run: the closures are given
/// in the order in which they run, which the compiler checks.
///
/// ```compile_fail,E0599
/// // After an initialization it is too late for a privileged action.
/// let daemonize = daemonize2::Daemonize::new()
///     .initialize(|()| Ok::<_, std::io::Error>(()))
///     .privileged_action(|| ());
/// ```
///
/// ```compile_fail,E0599
/// // What comes after readiness has been handed over is up to the caller.
/// let daemonize = daemonize2::Daemonize::new()
///     .deferred_readiness()
///     .initialize(|_| Ok::<_, std::io::Error>(()));
/// ```
///
/// ```
/// let daemonize = daemonize2::Daemonize::new()
///     .privileged_action(|| 1)
///     .initialize(|one| Ok::<_, std::io::Error>(one + 1))
///     .umask(0o077)
///     .initialize(|two| Ok::<_, std::io::Error>(two + 1))
///     .deferred_readiness()
///     .working_directory("/");
/// ```
pub mod stage {
    /// A privileged action may be given, or an initialization.
    #[derive(Debug)]
    pub enum Actions {}

    /// Another initialization may be given.
    #[derive(Debug)]
    pub enum Initialization {}

    /// Readiness is the caller's to report.
    #[derive(Debug)]
    pub enum DeferredReadiness {}

    /// The stages in which an initialization may be given.
    pub trait BeforeReadiness: sealed::Sealed {}

    impl BeforeReadiness for Actions {}
    impl BeforeReadiness for Initialization {}

    mod sealed {
        pub trait Sealed {}
        impl Sealed for super::Actions {}
        impl Sealed for super::Initialization {}
    }
}

/// All options that are plain data.
#[derive(Debug)]
pub(crate) struct Options {
    pub(crate) working_directory: Option<PathBuf>,
    pub(crate) pid_file: Option<PathBuf>,
    pub(crate) chown_pid_file_user: Option<User>,
    pub(crate) chown_pid_file_group: Option<Group>,
    pub(crate) user: Option<User>,
    pub(crate) group: Option<Group>,
    pub(crate) umask: Mask,
    pub(crate) root: Option<PathBuf>,
    pub(crate) streams: Streams,
    pub(crate) startup_timeout: Option<Duration>,
    pub(crate) foreground: bool,
}

impl Options {
    /// The value of the option that a failure is about.
    pub(crate) fn subject(&self, about: About) -> Option<Subject> {
        let path = |path: &Option<PathBuf>| path.clone().map(Subject::Path);
        let name = |name: &str| Some(Subject::Name(name.to_owned()));
        match about {
            About::Nothing => None,
            About::WorkingDirectory => path(&self.working_directory),
            About::PidFile => path(&self.pid_file),
            About::PidFileUser => self.chown_pid_file_user.as_ref().map(User::subject),
            About::PidFileGroup => self.chown_pid_file_group.as_ref().map(Group::subject),
            About::Root => path(&self.root),
            About::User => self.user.as_ref().map(User::subject),
            About::Group => (self.group.as_ref().map(Group::subject))
                .or_else(|| self.user.as_ref().map(User::subject)),
            About::NullDevice => Some(Subject::Path(Path::new("/dev/null").to_owned())),
            About::StandardInput => name("standard input"),
            About::StandardOutput => name("standard output"),
            About::StandardError => name("standard error"),
        }
    }
}

impl<T, Stage> fmt::Debug for Daemonize<T, Stage> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let options = &self.options;
        let [stdin, stdout, stderr] = &options.streams;
        formatter
            .debug_struct("Daemonize")
            .field("working_directory", &options.working_directory)
            .field("pid_file", &options.pid_file)
            .field("chown_pid_file_user", &options.chown_pid_file_user)
            .field("chown_pid_file_group", &options.chown_pid_file_group)
            .field("user", &options.user)
            .field("group", &options.group)
            .field("umask", &options.umask)
            .field("root", &options.root)
            .field("stdin", stdin)
            .field("stdout", stdout)
            .field("stderr", stderr)
            .field("startup_timeout", &options.startup_timeout)
            .field("foreground", &options.foreground)
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
            options: Options {
                working_directory: None,
                pid_file: None,
                chown_pid_file_user: None,
                chown_pid_file_group: None,
                user: None,
                group: None,
                umask: Mask(0o027),
                root: None,
                streams: [None, None, None],
                startup_timeout: None,
                foreground: false,
            },
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
    /// [working directory](Self::working_directory). When the launcher
    /// returns, the file is complete. A second start fails with
    /// [`ErrorKind::LockPidfile`](crate::ErrorKind::LockPidfile) and leaves
    /// it alone; what a killed daemon has left is taken over. The mode is
    /// `0o644` less the [umask](Self::umask), the lock that of
    /// [flock(2)](https://man7.org/linux/man-pages/man2/flock.2.html). The
    /// descriptor is close-on-exec.
    ///
    /// # Security
    ///
    /// A symbolic link, anything but a regular file with a single link, and a
    /// file that belongs to neither root, nor the caller, nor
    /// [`chown_pid_file_user`](Self::chown_pid_file_user) are refused with
    /// [`ErrorKind::OpenPidfile`](crate::ErrorKind::OpenPidfile). Write
    /// permission for group and others is taken away. As root, so is a
    /// directory refused that belongs to a user other than root,
    /// `chown_pid_file_user` and [`user`](Self::user), or that others can
    /// write to without its having the sticky bit.
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
    /// Real, effective and saved ids are set and read back. Unless the daemon
    /// stays root, capabilities are cleared on Linux, and the daemon tries to
    /// get the former ids and root's back: if that succeeds, it ends, and the
    /// start fails with
    /// [`ErrorKind::PrivilegesRetained`](crate::ErrorKind::PrivilegesRetained).
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

    /// Sets the file mode creation mask. Default: `0o027`.
    pub fn umask<M: Into<Mask>>(mut self, mask: M) -> Self {
        self.options.umask = mask.into();
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
        self.options.root = Some(path.into());
        self
    }

    /// What becomes of standard input. Default: [`Stdio::devnull`].
    pub fn stdin<S: Into<Stdio>>(mut self, stdio: S) -> Self {
        self.options.streams[0] = Some(stdio.into());
        self
    }

    /// What becomes of standard output. Default: [`Stdio::devnull`].
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
    /// The time runs from the first fork. The daemon is then sent SIGTERM, a
    /// second later SIGKILL, and the start fails with
    /// [`ErrorKind::StartupTimeout`](crate::ErrorKind::StartupTimeout). Has no
    /// effect in the [foreground](Self::foreground), where there is nobody to
    /// see to it.
    pub fn startup_timeout(mut self, timeout: Duration) -> Self {
        self.options.startup_timeout = Some(timeout);
        self
    }

    /// Stays in this process: no fork, no new session, and the standard
    /// streams are kept unless they are set. All else is done as configured.
    /// Default: false.
    ///
    /// For a service manager that wants its services so, for a debugger, or
    /// for a container: see [`supervised`](crate::supervised). There is no
    /// launcher: [`start`](Self::start) returns the daemon's value here, and
    /// [`execute`](Self::execute) returns `Outcome::Child`. When the process
    /// is ready, systemd is told, if it has asked for it.
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
/// [`ErrorKind::Panicked`](crate::ErrorKind::Panicked) and the panic's text.
impl<T> Daemonize<T> {
    /// Runs just before the daemon changes root directory and identity: to
    /// bind a privileged port, to read a key. A later one replaces an earlier
    /// one.
    ///
    /// Its result is what the daemon gets from [`start`](Self::start), or in
    /// [`Child`].
    ///
    /// It should start no threads: on Linux, capabilities are cleared in the
    /// thread that changes identity alone.
    pub fn privileged_action<N, F: FnOnce() -> N + 'static>(self, action: F) -> Daemonize<N> {
        self.running(actions::privileged(action))
    }

    /// As [`privileged_action`](Self::privileged_action), but may fail: an
    /// `Err` fails the start with
    /// [`ErrorKind::PrivilegedAction`](crate::ErrorKind::PrivilegedAction),
    /// and the launcher gets to see its text.
    pub fn try_privileged_action<N, E, F>(self, action: F) -> Daemonize<N>
    where
        E: Display,
        F: FnOnce() -> Result<N, E> + 'static,
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
impl<T: 'static, Stage: stage::BeforeReadiness> Daemonize<T, Stage> {
    /// Runs after privileges are dropped and the pid is written, before the
    /// launcher is told: to build an async runtime, to open a database. Gets
    /// what the closure before it returned. May be given more than once.
    ///
    /// An `Err` fails the start with
    /// [`ErrorKind::Initialize`](crate::ErrorKind::Initialize), and the
    /// launcher gets to see its text.
    pub fn initialize<N, E, F>(self, initialize: F) -> Daemonize<N, stage::Initialization>
    where
        E: Display,
        F: FnOnce(T) -> Result<N, E> + 'static,
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
    pub fn deferred_readiness(self) -> Daemonize<(T, Readiness), stage::DeferredReadiness> {
        Daemonize {
            options: self.options,
            actions: actions::then_hand_over(self.actions),
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
        let threads = Threads::Promised(unsafe { SingleThreaded::assume() });
        sequence::start(self, threads)
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
    pub fn start_checked(self) -> Result<T, Error> {
        sequence::start(self, Threads::ToBeCounted)
    }

    /// Starts the daemon, and returns in both: the launcher can go on.
    ///
    /// In the launcher all closures and what they captured are dropped. A
    /// failure is returned in both processes, if it happened in the daemon;
    /// the daemon's side then has neither lock, nor pid file, nor connection
    /// left, but keeps what else was done to it, and is the caller's to end.
    /// Only after
    /// [`PrivilegesRetained`](crate::ErrorKind::PrivilegesRetained) it is
    /// ended here.
    ///
    /// # Safety
    ///
    /// As for [`start`](Self::start).
    #[expect(unsafe_code, reason = "the caller's promise is passed on, once")]
    pub unsafe fn execute(self) -> Outcome<T> {
        // SAFETY: what is asked of our caller.
        let threads = Threads::Promised(unsafe { SingleThreaded::assume() });
        sequence::execute(self, threads)
    }

    /// Starts the daemon, as [`execute`](Self::execute) does, if the process
    /// has a single thread: see [`start_checked`](Self::start_checked).
    pub fn execute_checked(self) -> Outcome<T> {
        sequence::execute(self, Threads::ToBeCounted)
    }
}
