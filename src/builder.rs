//! The builder: options and entry points.

use std::fmt::{self, Display};
use std::marker::PhantomData;
use std::os::fd::RawFd;
use std::path::PathBuf;
use std::time::Duration;

use crate::directory::Directory;
use crate::error::Error;
use crate::identity::{Capability, Group, SupplementaryGroups, User};
use crate::options::{Mask, Options};
use crate::outcome::{Outcome, Parent};
use crate::program::Program;
use crate::stage;
use crate::start::actions::{self, Actions};
use crate::start::started::OnStarted;
use crate::start::{self, Closures, ForkSafety, Readiness};
use crate::streams::Stdio;
use crate::sys::SingleThreaded;

/// The options of a daemon, and the entry points that start it.
///
/// By default, the daemon has the umask `0o027`, `/dev/null` as all three standard streams, no
/// pid file, and the working directory, root directory, user and groups of the launcher. In the
/// [foreground](Self::foreground), umask and streams stay as they are.
///
/// | | only the daemon returns, the launcher exits | both return |
/// |---|---|---|
/// | refuses to start if fork(2) is not safe | [`start_checked`](Self::start_checked) | [`execute_checked`](Self::execute_checked) |
/// | unsafe: checks nothing | [`start`](Self::start) | [`execute`](Self::execute) |
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
///     // Only the daemon gets here. The launcher has exited with status 0.
///     Ok(())
/// }
/// ```
#[must_use = "no daemon starts until an entry point is called"]
pub struct Daemonize<T, Stage = stage::Actions> {
    options: Options,
    actions: Actions<'static, T>,
    on_started: Option<OnStarted>,
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
            on_started: None,
            stage: PhantomData,
        }
    }
}

/// Options, in any order.
impl<T, Stage> Daemonize<T, Stage> {
    /// Writes the pid of the daemon to this file, and keeps the file locked while the daemon
    /// runs. Default: none.
    ///
    /// A relative path starts at the daemon's [working directory](Self::working_directory). The
    /// start creates the file if it is missing, but not its directory: for that, use
    /// [`directory`](Self::directory). Note that /run is empty after a boot. The file is locked
    /// and empty while the daemon starts. It is complete when the launcher returns or exits. The
    /// mode is [`pid_file_mode`](Self::pid_file_mode).
    ///
    /// While the daemon runs, another start fails with
    /// [`ErrorKind::LockPidfile`](crate::ErrorKind::LockPidfile) and does not change the file.
    /// If the daemon has been killed, the next start uses the same file. If a start fails after
    /// it has locked the file, the file stays, empty and unlocked.
    ///
    /// The lock is that of [flock(2)](https://man7.org/linux/man-pages/man2/flock.2.html): it
    /// lasts until the daemon and all processes that have inherited it have ended. The descriptor
    /// is close-on-exec. On Linux the daemon also has a record lock of fcntl(2), by which
    /// [`PidFile`](crate::PidFile) identifies the daemon.
    ///
    /// If code in the daemon closes this descriptor, the daemon loses the lock, and a second
    /// daemon can start. If code in the daemon opens and closes the file, the daemon loses the
    /// record lock, and [`PidFile::running`](crate::PidFile::running) fails with
    /// [`InvalidData`](std::io::ErrorKind::InvalidData). The daemon gets its own pid by
    /// [`std::process::id`].
    ///
    /// # Errors
    ///
    /// On NFS the start fails with `LockPidfile(EBADF)`: NFS cannot lock a file that is open only
    /// for reading. Use a local file system, for example /run. If the pid cannot be
    /// written (`WritePid`), the library terminates the daemon.
    ///
    /// # Security
    ///
    /// The start fails with [`ErrorKind::OpenPidfile`](crate::ErrorKind::OpenPidfile) unless the
    /// file is a regular file with a single link. The start does not follow a symbolic link at the
    /// last component of the path. As root, it follows a link earlier in the path only if no
    /// other user can have made the link.
    ///
    /// - If group or others can write to the file, the start replaces it. If the start cannot
    ///   remove the file, it removes their write permission. A process that opened the file
    ///   earlier can then still write to it.
    /// - If the file belongs to neither root, nor the user of the launcher, nor
    ///   [`chown_pid_file_user`](Self::chown_pid_file_user), nor the owner that
    ///   [`chown_pid_file`](Self::chown_pid_file) gives it, the start replaces the file. If the
    ///   start cannot remove the file, or if group or others can write to the directory (even with
    ///   the sticky bit), it refuses the file instead.
    /// - When run as root, the start also refuses a directory that belongs to anyone but root,
    ///   `chown_pid_file_user` or [`user`](Self::user). If others can write to the directory, the
    ///   start refuses it unless it has the sticky bit.
    ///
    /// The daemon has the file open only for reading. After a change of identity it cannot
    /// change the content.
    pub fn pid_file<F: Into<PathBuf>>(mut self, path: F) -> Self {
        self.options.pid_file = Some(path.into());
        self
    }

    /// Starts a successor beside the running daemon. The successor takes over the
    /// [pid file](Self::pid_file) when the start is committed. Default: false.
    ///
    /// The start locks the file `NAME.new` beside the pid file `NAME`. When the daemon is ready,
    /// the launcher exchanges the two files, and removes the former pid file. Therefore
    /// [`PidFile::running`](crate::PidFile::running) returns the former pid until the start is
    /// committed, and the new pid from then on. If the start fails, or the launcher is killed
    /// before, the pid file does not change, and an empty `NAME.new` stays. If no daemon is
    /// running, this is an ordinary start.
    ///
    /// The library neither informs nor stops the former daemon. The caller hands its sockets over,
    /// and stops it: see `examples/upgrade.rs`.
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::LockPidfile`](crate::ErrorKind::LockPidfile) if another daemon is starting,
    ///   as a successor or not.
    /// - [`ErrorKind::TakeOverPidfile`](crate::ErrorKind::TakeOverPidfile) if another daemon has
    ///   got the pid file during the start, if the files cannot be exchanged, and in the
    ///   [foreground](Self::foreground).
    ///
    /// # Platform notes
    ///
    /// On Linux and macOS the exchange is a single call (renameat2(2) with `RENAME_EXCHANGE`,
    /// renameatx_np(2) with `RENAME_SWAP`). It is undone if the daemon ends before it is
    /// acknowledged. Elsewhere, and on file systems without this call, the new file replaces the
    /// former one by rename(2). This cannot be undone: if the daemon ends in this instant, the
    /// former daemon has lost its pid file. And a daemon that is started in this instant, after
    /// the former one has ended, loses its pid file.
    pub fn upgrade(mut self, upgrade: bool) -> Self {
        self.options.upgrade = upgrade;
        self
    }

    /// Gives the pid file exactly this mode, whatever the [umask](Self::umask) is. Default: for a
    /// new file `0o644` without the bits of the umask, and read permission for the owner; the mode
    /// of an existing file does not change, except for the write permission of group and others.
    ///
    /// `0o644` lets a monitor of any user find the daemon by
    /// [`PidFile::running`](crate::PidFile::running). `0o600` hides the pid from other users. The
    /// option has no effect without [`pid_file`](Self::pid_file).
    ///
    /// # Errors
    ///
    /// The start fails with [`ErrorKind::ChmodPidfile`](crate::ErrorKind::ChmodPidfile):
    ///
    /// - and `EINVAL`, before any fork, if the mode lets group or others write to the file, does
    ///   not let the owner read the file, or has other bits than those of permissions.
    /// - and `EPERM` if the launcher neither owns the file nor is root, or if the file system does
    ///   not keep the mode, as vfat does not.
    ///
    /// # Security
    ///
    /// The library calls fchmod(2) on the locked file, and reads the mode back. A new file never
    /// has a permission that this mode lacks. A user who has opened an existing file before can
    /// still read it. A user who can read the file can also lock it, and so prevent a start.
    ///
    /// In the [foreground](Self::foreground), an ordinary user's failed start cannot clear a file
    /// that its owner may not write to. The pid then stays in the unlocked file.
    pub fn pid_file_mode(mut self, mode: u32) -> Self {
        self.options.pid_file_mode = Some(mode);
        self
    }

    /// Makes this user the owner of the pid file. Default: the user of the launcher, for a new
    /// file.
    ///
    /// The group does not change.
    pub fn chown_pid_file_user<U: Into<User>>(mut self, user: U) -> Self {
        self.options.chown_pid_file_user = Some(user.into());
        self
    }

    /// Makes this group the group of the pid file. Default: the group that any new file in the
    /// directory gets.
    ///
    /// The owner does not change.
    pub fn chown_pid_file_group<G: Into<Group>>(mut self, group: G) -> Self {
        self.options.chown_pid_file_group = Some(group.into());
        self
    }

    /// Creates this directory if it is missing, for example for sockets and the pid file. May be
    /// called several times: the start creates the directories in this order. Default: none.
    ///
    /// [`Directory`] says where a directory is: see [`Directory::runtime`], [`Directory::state`],
    /// [`Directory::logs`] and [`Directory::at`]. Owner and group are [`user`](Self::user) and
    /// [`group`](Self::group), or else those of the launcher. [`Directory::mode`] sets the mode.
    /// The launcher creates the directories before the first fork, so that the path is that before
    /// [`chroot`](Self::chroot), and [`startup_timeout`](Self::startup_timeout) does not limit the
    /// time. In the [foreground](Self::foreground), this is the first step.
    ///
    /// If the name of a directory has several components, the start creates the missing parents
    /// with the mode 0755. It also creates the place itself if it is missing, such as
    /// `$HOME/.local/state`: with the mode 0755 for root, and 0700 for another user. But it does
    /// not create `$XDG_RUNTIME_DIR`. Parents belong to the launcher.
    ///
    /// The library never removes a directory. If a later step of the start fails, the directory
    /// stays. systemd removes a `RuntimeDirectory=` when the service stops, and keeps the others.
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::LocateDirectory`](crate::ErrorKind::LocateDirectory): see
    ///   [`Directory::path`].
    /// - [`ErrorKind::CreateDirectory`](crate::ErrorKind::CreateDirectory) if the directory cannot
    ///   be created, or cannot be given to the daemon.
    /// - [`ErrorKind::UseDirectory`](crate::ErrorKind::UseDirectory) if the path exists, but is no
    ///   directory, or a directory that belongs to another user, that grants more than the mode
    ///   that is asked for, or whose owner lacks a permission. A directory that grants less to
    ///   others is accepted. The start does not change it.
    ///
    /// # Security
    ///
    /// The start does not follow a symbolic link at the last component of the path. As root, it
    /// follows a link earlier in the path only if no other user can have made the link. It creates a
    /// directory with the mode 0700, and sets owner, group and mode by its descriptor. If several
    /// starts do this at once, all of them succeed. A start that is killed in between leaves an
    /// empty directory of the launcher that grants nothing to others. The next start gives such a
    /// directory to the daemon's user, like a new one.
    ///
    /// When run as root, the start refuses a parent directory that belongs to anyone but root or
    /// [`user`](Self::user), and one that others can write to, unless it has the sticky bit. On
    /// Linux it also refuses a directory whose access control list may grant more than the mode.
    pub fn directory<D: Into<Directory>>(mut self, directory: D) -> Self {
        self.options.directories.push(directory.into());
        self
    }

    /// Gives the pid file to the [user](Self::user) and the [group](Self::group) that the daemon
    /// changes to. Default: the owner and the group do not change.
    ///
    /// This equals [`chown_pid_file_user`](Self::chown_pid_file_user) with the user of the daemon
    /// and [`chown_pid_file_group`](Self::chown_pid_file_group) with its group, which is the
    /// primary group of the user unless `group` is set. Each of the two methods, if it is called
    /// too, takes precedence. If neither `user` nor `group` is set, the option has no effect.
    ///
    /// # Errors
    ///
    /// The start fails with [`ErrorKind::ChownPidfile`](crate::ErrorKind::ChownPidfile) and
    /// `EPERM` if the launcher may not give the file away, which takes root.
    ///
    /// # Security
    ///
    /// The owner of the file can write to it. When run as root,
    /// [`PidFile::stop`](crate::PidFile::stop) therefore signals the daemon only if all its user
    /// ids are those of the owner.
    pub fn chown_pid_file(mut self) -> Self {
        self.options.chown_pid_file = true;
        self
    }

    /// Changes to this directory. Default: the working directory of the launcher.
    ///
    /// daemon(7) recommends `/`: a file system cannot be unmounted while it contains the working
    /// directory of a process. The path is resolved before [`chroot`](Self::chroot).
    pub fn working_directory<F: Into<PathBuf>>(mut self, path: F) -> Self {
        self.options.working_directory = Some(path.into());
        self
    }

    /// Changes to this user. Default: the user of the launcher.
    ///
    /// The daemon gets the uid of the user, the primary group unless [`group`](Self::group) is
    /// set, and the supplementary groups that
    /// [getgrouplist(3)](https://man7.org/linux/man-pages/man3/getgrouplist.3.html) lists. If
    /// the user is given by number and has no entry in the user database, set `group` too.
    ///
    /// # Security
    ///
    /// The library sets the real, effective and saved ids, and reads them back. If an id or
    /// a supplementary group changes and the daemon is not root afterwards, the library tries to
    /// regain the former ids and those of root. On Linux it also clears all capability sets but
    /// the bounding set, except what [`keep_capabilities`](Self::keep_capabilities) and
    /// [`ambient_capabilities`](Self::ambient_capabilities) keep. If an id can be regained, or a
    /// value that was read back is wrong, the daemon ends, and the start fails with
    /// [`ErrorKind::PrivilegesRetained`](crate::ErrorKind::PrivilegesRetained).
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
    /// If only the supplementary groups change, and the daemon is not root, it loses its
    /// capabilities too: see [`user`](Self::user).
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
    /// [`ErrorKind::SetSupplementaryGroups`](crate::ErrorKind::SetSupplementaryGroups) if
    /// there are more groups than the system allows: 65536 on Linux, 1023 in addition to the
    /// group id on FreeBSD (including the group id in a program that was linked on FreeBSD 15), 16
    /// including the group id on macOS. The library never omits a group.
    ///
    /// # Platform notes
    ///
    /// On macOS root and many login users are in more than 16 groups. For such a user, set
    /// [`SupplementaryGroups::Only`]. On macOS getgrouplist(3) does not distinguish a failed
    /// look-up from a user without groups.
    pub fn supplementary_groups(mut self, groups: SupplementaryGroups) -> Self {
        self.options.supplementary_groups = groups;
        self
    }

    /// Keeps these capabilities of Linux in the daemon, and drops all others: a daemon that is not
    /// root can, for example, bind port 80 at any time. Default: a change of
    /// [`user`](Self::user), [`group`](Self::group) or
    /// [`supplementary_groups`](Self::supplementary_groups) drops all capabilities, unless the
    /// daemon is root. Without such a change the daemon has those of the launcher.
    ///
    /// ```no_run
    /// # fn main() -> Result<(), daemonize2::Error> {
    /// use daemonize2::{Capability, Daemonize};
    ///
    /// Daemonize::new()
    ///     .user("www-data")
    ///     .keep_capabilities([Capability::NET_BIND_SERVICE])
    ///     .start_checked()
    /// # }
    /// ```
    ///
    /// After the change of identity the permitted and the effective set consist of these
    /// capabilities. The inheritable and the ambient set are empty: programs that the daemon
    /// executes do not get the capabilities, nor does the next program of
    /// [`PidFile::exec`](crate::PidFile::exec). Use
    /// [`ambient_capabilities`](Self::ambient_capabilities) for these. The closures of
    /// [`initialize`](Self::initialize) have the capabilities. A later call replaces the list. An
    /// empty list drops all capabilities.
    ///
    /// The launcher needs the capabilities in its permitted set, but need not be root: a program
    /// may have file capabilities ([setcap(8)](https://man7.org/linux/man-pages/man8/setcap.8.html)).
    /// Without `user` and `group` no id changes.
    ///
    /// The bounding set does not change: it grants nothing, but a program that the daemon executes
    /// can gain its capabilities by a set-user-id bit or by file capabilities. Set
    /// [`no_new_privileges`](Self::no_new_privileges) to prevent this. The daemon still has the kept
    /// capabilities then.
    ///
    /// Capabilities belong to a thread. A thread that the daemon creates afterwards has those of
    /// its creator. A thread that the [privileged action](Self::privileged_action) has created, and
    /// in the [foreground](Self::foreground) any other thread, does not get them. If such a
    /// thread has a capability that is not kept, the start fails.
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::KeepCapabilities`](crate::ErrorKind::KeepCapabilities), before any fork, if
    ///   the launcher does not have a capability, if the kernel does not know it, or if a
    ///   secure bit of the launcher forbids to keep it. The text names the capability or the
    ///   secure bit. If the privileged action has dropped the capability, the start fails with the
    ///   same kind.
    /// - [`ErrorKind::PrivilegesRetained`](crate::ErrorKind::PrivilegesRetained) if the daemon is
    ///   not root, and could regain former ids: if it keeps [`Capability::SETUID`] or
    ///   [`Capability::SETGID`], or if its real or saved user is root. The same if another
    ///   capability is left, in this thread or in another thread.
    /// - [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) on platforms other than Linux,
    ///   before any fork.
    ///
    /// # Security
    ///
    /// A compromised daemon has the kept capabilities. With some of them it can become root, so
    /// that the change of identity is worth nothing: `SYS_ADMIN`, `SYS_MODULE`, `SYS_PTRACE`,
    /// `SYS_RAWIO`, `SYS_BOOT`, `BPF`, `DAC_OVERRIDE`, `DAC_READ_SEARCH`, `FOWNER`, `CHOWN`,
    /// `SETFCAP`, `MKNOD`. With `SYS_CHROOT` it can leave the [`chroot`](Self::chroot). With
    /// `SETPCAP`, `MAC_ADMIN` or `NET_ADMIN` it can weaken other defences.
    ///
    /// A daemon that stays root drops the other capabilities too. But it owns the files of the
    /// system, and a program that it executes gets all capabilities of the bounding set, unless
    /// `no_new_privileges` is set.
    pub fn keep_capabilities<C>(mut self, capabilities: C) -> Self
    where
        C: IntoIterator<Item = Capability>,
    {
        self.options.keep_capabilities = Some(capabilities.into_iter().collect());
        self
    }

    /// Keeps these capabilities like [`keep_capabilities`](Self::keep_capabilities), and passes them
    /// on to the programs that the daemon executes, as `AmbientCapabilities=` of systemd does.
    /// Default: as for `keep_capabilities`.
    ///
    /// The inheritable and the ambient set consist of these capabilities; the permitted and the
    /// effective set consist of these and those of `keep_capabilities`. If only one of the
    /// two options is set, the list of the other one is empty.
    ///
    /// A program with a set-user-id bit, a set-group-id bit or file capabilities does not get
    /// ambient capabilities. [`no_new_privileges`](Self::no_new_privileges) does not take them away.
    ///
    /// # Errors
    ///
    /// - Those of `keep_capabilities`.
    /// - [`ErrorKind::KeepCapabilities`](crate::ErrorKind::KeepCapabilities), before any fork, if
    ///   a capability is not in the bounding set of the launcher, or if the secure bit
    ///   `SECBIT_NO_CAP_AMBIENT_RAISE` forbids to add it; and with `EINVAL` before Linux 4.3.
    ///
    /// # Security
    ///
    /// That of `keep_capabilities`, and every descendant has the capabilities: also a shell that an
    /// attacker makes the daemon execute.
    pub fn ambient_capabilities<C>(mut self, capabilities: C) -> Self
    where
        C: IntoIterator<Item = Capability>,
    {
        self.options.ambient_capabilities = Some(capabilities.into_iter().collect());
        self
    }

    /// Prevents execve(2) from granting privileges: set-user-id bits, set-group-id bits and file
    /// capabilities have no effect. This cannot be undone, and all descendants inherit it.
    /// Default: unchanged.
    ///
    /// Uses [prctl(2)](https://man7.org/linux/man-pages/man2/PR_SET_NO_NEW_PRIVS.2const.html)
    /// on Linux, and [procctl(2)](https://man.freebsd.org/cgi/man.cgi?query=procctl&sektion=2)
    /// on FreeBSD 14, after the change of identity.
    ///
    /// # Errors
    ///
    /// On other platforms the start fails with
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported), before any fork.
    /// On FreeBSD before 14 it fails with
    /// [`ErrorKind::SetNoNewPrivileges`](crate::ErrorKind::SetNoNewPrivileges) and `EINVAL`. On
    /// Linux it fails with that kind and `EPERM` if other threads exist by then, because they
    /// would not get the setting.
    pub fn no_new_privileges(mut self) -> Self {
        self.options.no_new_privileges = true;
        self
    }

    /// Makes the daemon dumpable. Default: unchanged, so that the daemon is not dumpable after a
    /// change of [`user`](Self::user) or [`group`](Self::group).
    ///
    /// If a process changes its effective ids, Linux takes its attribute *dumpable* away: it leaves
    /// no core dump, and its files in /proc belong to root. Debuggers and profilers of the same user
    /// then fail, and so does the daemon itself if it opens some files in /proc/self. This option
    /// sets the attribute again by
    /// [prctl(2)](https://man7.org/linux/man-pages/man2/PR_SET_DUMPABLE.2const.html), and reads it
    /// back. It does so after the change of identity and after
    /// [`no_new_privileges`](Self::no_new_privileges), whatever the reason why the process is not
    /// dumpable. A later change of ids by the daemon takes the attribute away again.
    ///
    /// # Errors
    ///
    /// On other platforms the start fails with
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported), before any fork. If the attribute
    /// cannot be set, it fails with [`ErrorKind::SetDumpable`](crate::ErrorKind::SetDumpable).
    ///
    /// # Security
    ///
    /// Any other process of the daemon's user can read and change the memory of a dumpable daemon by
    /// [ptrace(2)](https://man7.org/linux/man-pages/man2/ptrace.2.html). The memory includes all that
    /// the launcher and the privileged action have read as root, such as the key of a certificate,
    /// and a process that controls the daemon can use its descriptors. A core dump contains the
    /// memory too. The Linux Security Module Yama limits ptrace(2) to ancestors of a process if
    /// `kernel.yama.ptrace_scope` is 1 or more. Do not set this option if the daemon has secrets
    /// that its own user may not have.
    pub fn dumpable(mut self) -> Self {
        self.options.dumpable = true;
        self
    }

    /// Sets the environment variables `HOME`, `USER`, `LOGNAME`, `SHELL` and `PATH` to those of
    /// the daemon's user. All other variables stay. Default: the daemon has the environment of the
    /// launcher, so that a daemon of `user("nobody")` has the home directory of root.
    ///
    /// The user is that of [`user`](Self::user), or else the effective user of the launcher. The
    /// launcher looks the user up before the first fork. The daemon sets the variables right
    /// before the [privileged action](Self::privileged_action), which therefore sees them.
    ///
    /// The values are those of `setpriv --reset-env`, and of systemd (see "Environment Variables
    /// Set or Propagated by the Service Manager" in
    /// [systemd.exec(5)](https://man7.org/linux/man-pages/man5/systemd.exec.5.html)), except that
    /// systemd has one `PATH` for all users:
    ///
    /// | variable | value |
    /// |---|---|
    /// | `HOME` | the home directory; `/` if the entry has none. The path is not changed by [`chroot`](Self::chroot). |
    /// | `USER`, `LOGNAME` | the name of the user |
    /// | `SHELL` | the login shell; `/bin/sh` if the entry has none, as in [passwd(5)](https://man7.org/linux/man-pages/man5/passwd.5.html) |
    /// | `PATH` of root | on Linux `/usr/local/sbin:/usr/local/bin:/sbin:/bin:/usr/sbin:/usr/bin` |
    /// | `PATH` of others | on Linux `/usr/local/bin:/bin:/usr/bin` |
    ///
    /// # Errors
    ///
    /// If the user database has no entry for the user, the start fails with
    /// [`ErrorKind::UserEnvironmentUnknown`](crate::ErrorKind::UserEnvironmentUnknown), before any
    /// fork.
    ///
    /// The functions that change the environment are not safe if other threads read it. In the
    /// [foreground](Self::foreground) the start therefore fails with
    /// [`ErrorKind::SetEnvironment`](crate::ErrorKind::SetEnvironment) and `EPERM` if other threads
    /// exist, or if the platform cannot count them. A daemon has a single thread after fork(2),
    /// unless a handler of pthread_atfork(3) creates others. In that case the start fails too. If
    /// the launcher has other threads, the caller of the unsafe [`start`](Self::start) is responsible
    /// for the lock of the environment, as for all other locks.
    ///
    /// # Security
    ///
    /// Variables such as `LD_PRELOAD`, `IFS` or `XDG_RUNTIME_DIR` stay. If the caller of the
    /// launcher is not trusted, the launcher must remove them itself.
    ///
    /// # Platform notes
    ///
    /// On FreeBSD `PATH` is `/sbin:/bin:/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin` for all
    /// users. On macOS and other platforms it is `/usr/bin:/bin:/usr/sbin:/sbin` for root and
    /// `/usr/bin:/bin` for others.
    pub fn user_environment(mut self) -> Self {
        self.options.user_environment = true;
        self
    }

    /// Hands the sockets and the watchdog that a service manager has meant for the launcher over to
    /// the daemon. Default: they are meant for the launcher alone, and
    /// [sd_listen_fds(3)](https://man7.org/linux/man-pages/man3/sd_listen_fds.3.html) and
    /// [sd_watchdog_enabled(3)](https://man7.org/linux/man-pages/man3/sd_watchdog_enabled.3.html)
    /// find nothing in the daemon.
    ///
    /// systemd passes the sockets of a socket unit as descriptors 3, 4 and so on, and names the
    /// process that they are meant for in `LISTEN_PID`. A service of `Type=forking` is another
    /// process. If `LISTEN_PID` names the launcher, the daemon sets it to its own pid, and removes
    /// `LISTEN_PIDFDID`, the second name of the launcher since systemd 258. `LISTEN_FDS` and
    /// `LISTEN_FDNAMES` stay. If `WATCHDOG_PID` names the launcher, the daemon sets it to its own
    /// pid too. This happens right before the [privileged action](Self::privileged_action).
    ///
    /// [`close_inherited_fds`](Self::close_inherited_fds) leaves these sockets open; they need not
    /// be in `keep`.
    ///
    /// ```no_run
    /// # fn main() -> Result<(), daemonize2::Error> {
    /// use std::net::TcpListener;
    /// use std::os::fd::FromRawFd as _;
    ///
    /// // ExecStart= of a unit with Type=forking, and with a socket unit.
    /// daemonize2::Daemonize::new()
    ///     .user("nobody")
    ///     .socket_activation()
    ///     .start_checked()?;
    /// // In the daemon the crates `listenfd` and `sd-notify` find the sockets. By hand:
    /// assert_eq!(std::env::var("LISTEN_FDS").as_deref(), Ok("1"));
    /// // SAFETY: systemd has passed one socket, and nothing else owns it.
    /// let listener = unsafe { TcpListener::from_raw_fd(3) };
    /// # drop(listener);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// The launcher must not take the sockets itself: neither call sd_listen_fds(3) with
    /// `unset_environment`, nor close the sockets. After [`execute`](Self::execute) the launcher
    /// still has them.
    ///
    /// A variable that names another process, or that is not a decimal number, stays as it is, and
    /// so does `LISTEN_PID` if `LISTEN_FDS` is not a positive number: sd_listen_fds(3) finds no
    /// sockets then. In the [foreground](Self::foreground) nothing changes: the variables name the
    /// process itself.
    ///
    /// # Errors
    ///
    /// The start fails with [`ErrorKind::SetEnvironment`](crate::ErrorKind::SetEnvironment) if the
    /// daemon has other threads, which a handler of pthread_atfork(3) could create.
    ///
    /// # Security
    ///
    /// In a program with set-user-id bit, set-group-id bit or file capabilities this option has no
    /// effect, because the caller of the program controls its environment.
    pub fn socket_activation(mut self) -> Self {
        self.options.socket_activation = true;
        self
    }

    /// Closes the descriptors that the daemon would inherit from the launcher, except those in
    /// `keep`. Default: closes none.
    ///
    /// The standard streams, the files of [`stdin`](Self::stdin), [`stdout`](Self::stdout) and
    /// [`stderr`](Self::stderr), and the sockets of
    /// [`socket_activation`](Self::socket_activation) need not be in `keep`. `keep` may be in any order, and may contain
    /// descriptors that are not open. In the daemon, use a kept descriptor by
    /// [`OwnedFd::from_raw_fd`](std::os::fd::FromRawFd). The descriptors that the closures open
    /// stay open.
    ///
    /// ```no_run
    /// # fn main() -> Result<(), daemonize2::Error> {
    /// use std::net::TcpListener;
    /// use std::os::fd::FromRawFd as _;
    ///
    /// // The parent process passes a listening socket as descriptor 5.
    /// let daemonize = daemonize2::Daemonize::new().user("nobody");
    /// // SAFETY: nothing in this program owns a descriptor yet.
    /// let daemonize = unsafe { daemonize.close_inherited_fds(&[5]) };
    /// daemonize.reset_signals().start_checked()?;
    /// // SAFETY: descriptor 5 was kept, and nothing else owns it.
    /// let listener = unsafe { TcpListener::from_raw_fd(5) };
    /// # drop(listener);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// The intermediate closes the descriptors after it has called setsid(2). In the
    /// [foreground](Self::foreground) the process itself closes them, and they stay closed even
    /// if the start fails.
    ///
    /// The cost depends on the number of open descriptors, not on `RLIMIT_NOFILE`. Descriptors
    /// above a lowered limit are closed too. The library uses close_range(2) on Linux and
    /// FreeBSD, the list in /proc on Linux before 5.9, the list of proc_pidinfo on macOS, and
    /// closefrom(2) on NetBSD, OpenBSD, DragonFly and illumos. With closefrom(2), it calls
    /// close(2) for each descriptor below the highest descriptor in `keep`.
    ///
    /// # Errors
    ///
    /// The start fails with
    /// [`ErrorKind::CloseInheritedFds`](crate::ErrorKind::CloseInheritedFds) in these cases:
    ///
    /// - On Linux, if close_range(2) is missing (before 5.9) or a sandbox forbids it: with
    ///   `ENOENT` if /proc is missing too, and with `EMFILE` if `keep` reaches the limit of open
    ///   descriptors.
    /// - On a Unix that is not named above: with `ENOSYS`.
    ///
    /// # Safety
    ///
    /// No value that the daemon uses or drops may own a closed descriptor. This applies to the
    /// captures of closures, to the variables of all functions on the stack, to statics, and to
    /// the values of C libraries. Such a value would use, and finally close, any file that gets
    /// the same number later: see [I/O safety](std::io#io-safety). Put such descriptors into
    /// `keep`. Libraries may also open descriptors on their own, such as a connection to
    /// syslogd or nscd. A [`PidFileGuard`](crate::PidFileGuard) or [`Readiness`] of an earlier
    /// start is safe.
    #[expect(unsafe_code, reason = "the caller's promise is passed on, once")]
    pub unsafe fn close_inherited_fds(mut self, keep: &[RawFd]) -> Self {
        self.options.close_inherited_fds = Some(keep.to_vec());
        self
    }

    /// Sets the default action for every signal, and empties the signal mask. The action for
    /// SIGPIPE does not change (Rust's runtime ignores SIGPIPE). Default: the daemon inherits
    /// actions and mask.
    ///
    /// Without this option, the daemon and the programs that it executes ignore the signals that
    /// the launcher ignores. A program under nohup(1), for example, ignores SIGHUP.
    ///
    /// The signals that the C library reserves for itself do not change. The option also removes
    /// the handler by which Rust's runtime reports a stack overflow: a stack overflow then kills
    /// the process without a message. In the [foreground](Self::foreground), a pending blocked
    /// signal takes effect when the mask is emptied, and may kill the process.
    pub fn reset_signals(mut self) -> Self {
        self.options.reset_signals = true;
        self
    }

    /// Sets the file mode creation mask. Default: `0o027`; in the
    /// [foreground](Self::foreground), unchanged. The kernel ignores bits above `0o777`, such as
    /// those of a mask that is not written in octal.
    pub fn umask<M: Into<Mask>>(mut self, mask: M) -> Self {
        self.options.umask = Some(mask.into());
        self
    }

    /// Changes the root directory after the [privileged action](Self::privileged_action).
    /// Default: none.
    ///
    /// A relative path starts at the working directory. The start needs root, or
    /// CAP_SYS_CHROOT on Linux.
    ///
    /// The library needs no file in the new root directory: it has opened `/dev/null`, the log
    /// files and the pid file before. The code of [`initialize`](Self::initialize), and after the
    /// start, often does: [`std::process::Stdio::null`] opens `/dev/null`, and a look-up of a host
    /// name reads `/etc/resolv.conf`.
    ///
    /// # Security
    ///
    /// If the working directory is outside the new root directory, the library changes the
    /// working directory to the new root directory. The caller must close its own descriptors of
    /// directories outside the new root directory.
    ///
    /// # Platform notes
    ///
    /// In a jail, or in another root directory, FreeBSD and DragonFly refuse chroot(2) with `EPERM`
    /// while the process has a directory open, unless the sysctl
    /// `kern.chroot_allow_open_directories` is 2.
    pub fn chroot<F: Into<PathBuf>>(mut self, path: F) -> Self {
        self.options.chroot = Some(path.into());
        self
    }

    /// Redirects standard input. Default: [`Stdio::devnull`].
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::OpenDevnull`](crate::ErrorKind::OpenDevnull) if `/dev/null` is needed and
    ///   cannot be opened.
    /// - [`ErrorKind::StandardInputIsLogFile`](crate::ErrorKind::StandardInputIsLogFile) for
    ///   [`Stdio::append`], before any fork.
    pub fn stdin<S: Into<Stdio>>(mut self, stdio: S) -> Self {
        self.options.streams[0] = Some(stdio.into());
        self
    }

    /// Redirects standard output. Default: [`Stdio::devnull`].
    ///
    /// For a log file, use [`Stdio::append`]: the daemon opens it, and
    /// [`reopen_logs`](crate::reopen_logs) opens it again after a rotation. With
    /// [`Stdio::keep_until_ready`], the output until then goes where that of the launcher goes.
    ///
    /// The caller opens any other file before the start, with the umask and the permissions of the
    /// launcher. To use one such file for two streams, call
    /// [`try_clone`](std::fs::File::try_clone).
    ///
    /// # Errors
    ///
    /// Those of [`Stdio::append`] and [`Stdio::devnull`].
    pub fn stdout<S: Into<Stdio>>(mut self, stdio: S) -> Self {
        self.options.streams[1] = Some(stdio.into());
        self
    }

    /// Redirects standard error, as [`stdout`](Self::stdout) redirects standard output. Default:
    /// [`Stdio::devnull`].
    pub fn stderr<S: Into<Stdio>>(mut self, stdio: S) -> Self {
        self.options.streams[2] = Some(stdio.into());
        self
    }

    /// Fails the start if the daemon is not ready within this time. Default: no limit.
    ///
    /// When the timeout expires, the daemon gets SIGTERM, and SIGKILL a second later. The start
    /// fails with [`ErrorKind::StartupTimeout`](crate::ErrorKind::StartupTimeout). The text of
    /// the error names the step at which the timeout expired, and any process that still exists.
    /// The option has no effect in the [foreground](Self::foreground).
    ///
    /// The timeout starts with the flush of standard output, right before the first fork. It
    /// includes neither the look-up of users and groups, nor the wait for a start in another
    /// thread, nor the creation of a [`directory`](Self::directory). If standard output is a full pipe that no process reads, the start fails when the
    /// timeout expires, even if no output is buffered. The timeout does not limit the flush of
    /// C's other streams.
    ///
    /// If a process is stopped, or waits for a network file system that does not answer, the
    /// launcher may return some seconds later: at most fifteen on Linux. If the library cannot
    /// signal the daemon, or if the daemon does not end after SIGKILL, the daemon outlives the
    /// start. It ends at the latest when it reports to the launcher.
    ///
    /// If the intermediate does not end after SIGKILL, for example because it is frozen, it
    /// stays a child of the launcher. When it has ended, it is a zombie until it is reaped by the
    /// next start of the launcher or by the caller. If the launcher is a subreaper or pid 1, the
    /// same applies to the daemon. On Linux from 5.4 the next start reaps the daemon; elsewhere
    /// the caller must reap it.
    pub fn startup_timeout(mut self, timeout: Duration) -> Self {
        self.options.startup_timeout = Some(timeout);
        self
    }

    /// Starts without a fork and without a new session: the calling process becomes the daemon.
    /// The standard streams and the umask do not change unless they are set. All other options
    /// except [`startup_timeout`](Self::startup_timeout) apply. Default: false.
    ///
    /// Other threads and event queues are allowed. But on Linux each thread has its own
    /// privileges. If other threads exist, a start with
    /// [`no_new_privileges`](Self::no_new_privileges) fails. A change of [`user`](Self::user)
    /// fails if another thread has a capability after the change.
    ///
    /// Use this under a service manager that starts its services in the foreground (see
    /// [`supervised`](crate::supervised)), under a debugger, and in a container. There is no
    /// launcher: [`start`](Self::start) returns the daemon's value, and
    /// [`execute`](Self::execute) returns `Outcome::Child`. When the process is ready, the
    /// library notifies systemd, if [`supervised`](crate::supervised) is true. If the
    /// notification fails, the library writes a line to standard error.
    ///
    /// If the start fails, the library clears the pid file, but does not undo other changes,
    /// such as those of the umask and the root directory.
    pub fn foreground(mut self, foreground: bool) -> Self {
        self.options.foreground = foreground;
        self
    }

    /// Runs a closure in the launcher when the daemon is ready, for example to print an address. A
    /// later closure replaces an earlier one. Default: none.
    ///
    /// The closure gets what [`execute`](Self::execute) returns in the launcher: the pid of the
    /// daemon, and the [payload](Parent::payload) of its report. The start is committed by then. It
    /// runs before the launcher returns or exits; [`startup_timeout`](Self::startup_timeout) does
    /// not limit it. Before the launcher exits, the library flushes std's standard output.
    ///
    /// ```no_run
    /// # fn main() -> Result<(), daemonize2::Error> {
    /// use std::net::TcpListener;
    ///
    /// let listener = daemonize2::Daemonize::new()
    ///     .on_started(|daemon| println!("listening on {}", daemon.payload.escape_ascii()))
    ///     .try_privileged_action(|| TcpListener::bind("127.0.0.1:0"))
    ///     .ready_payload(|listener| match listener.local_addr() {
    ///         Ok(address) => address.to_string(),
    ///         Err(error) => format!("an unknown address: {error}"),
    ///     })
    ///     .start_checked()?;
    /// # drop(listener);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// If the closure panics, the daemon runs on. After [`start`](Self::start) and
    /// [`start_checked`](Self::start_checked) the launcher then exits with status 101, as if `main`
    /// had panicked. After [`execute`](Self::execute) and
    /// [`execute_checked`](Self::execute_checked) the panic continues in the launcher.
    ///
    /// A start of another daemon in the closure fails with
    /// [`ErrorKind::StartWithinStart`](crate::ErrorKind::StartWithinStart).
    ///
    /// The daemon drops its copies of the captures before its first closure. If this drop panics,
    /// the start fails. In the [foreground](Self::foreground) there is no launcher, and the closure
    /// is dropped too: report to the log of the service there, after the start has returned.
    pub fn on_started<F: FnOnce(&Parent) + 'static>(mut self, on_started: F) -> Self {
        self.on_started = Some(Box::new(on_started));
        self
    }
}

/// The closures of the daemon. Each gets the value that the previous closure has returned.
///
/// If a closure panics, the start fails with
/// [`ErrorKind::Panicked`](crate::ErrorKind::Panicked) and the message of the panic, even if a
/// panic hook of the program ends the process. For this the library sets a panic hook of its own,
/// which calls the program's hook. Until the start is committed, [`std::panic::take_hook`]
/// returns the library's hook. If the program takes this hook and does not call it, the launcher
/// does not get the message of a panic.
///
/// If a closure closes the daemon's connection to the launcher, for example by executing
/// another program, the library terminates the daemon, and the start fails with
/// [`ErrorKind::DaemonExited`](crate::ErrorKind::DaemonExited). If a closure starts another
/// daemon, that start fails with
/// [`ErrorKind::StartWithinStart`](crate::ErrorKind::StartWithinStart).
impl<T, Stage> Daemonize<T, Stage> {
    /// Runs a closure just before the daemon changes root directory and identity, for example to
    /// bind a privileged port or to read a key. A later privileged action replaces an earlier
    /// one.
    ///
    /// If no [`initialize`](Self::initialize) follows, [`start`](Self::start) returns the value
    /// of the closure in the daemon, and [`execute`](Self::execute) returns it in
    /// [`Child`](crate::Child).
    ///
    /// The closure should not create threads. On Linux a thread cannot clear the capabilities of
    /// another thread. If root becomes another user, the kernel clears them. After any other
    /// change of ids, the start fails with
    /// [`ErrorKind::PrivilegesRetained`](crate::ErrorKind::PrivilegesRetained) if another thread
    /// has capabilities.
    pub fn privileged_action<N, F: FnOnce() -> N + 'static>(self, action: F) -> Daemonize<N>
    where
        Stage: stage::BeforeInitialization,
    {
        self.with_actions(|_replaced| actions::privileged(action))
    }

    /// Runs a [privileged action](Self::privileged_action) that may fail. If it returns an `Err`,
    /// the start fails with [`ErrorKind::PrivilegedAction`](crate::ErrorKind::PrivilegedAction).
    /// The launcher gets the text of the error as described at [`initialize`](Self::initialize).
    pub fn try_privileged_action<N, E, F>(self, action: F) -> Daemonize<N>
    where
        E: Display + 'static,
        F: FnOnce() -> Result<N, E> + 'static,
        Stage: stage::BeforeInitialization,
    {
        self.with_actions(|_replaced| actions::try_privileged(action))
    }

    fn with_actions<N, S>(
        self,
        next: impl FnOnce(Actions<'static, T>) -> Actions<'static, N>,
    ) -> Daemonize<N, S> {
        Daemonize {
            options: Options {
                has_closures: true,
                ..self.options
            },
            actions: next(self.actions),
            on_started: self.on_started,
            stage: PhantomData,
        }
    }

    fn into_parts(self) -> (Options, Closures<'static, T>) {
        let closures = Closures {
            actions: self.actions,
            on_started: self.on_started,
        };
        (self.options, closures)
    }
}

/// The closures after the change of identity.
impl<T: 'static, Stage> Daemonize<T, Stage> {
    /// Runs a closure after the daemon has dropped its privileges and before it reports that it
    /// is ready, for example to build an async runtime or to open a database. The closure gets
    /// the value of the previous closure. A start may have several of these closures.
    ///
    /// If the closure returns an `Err`, the start fails with
    /// [`ErrorKind::Initialize`](crate::ErrorKind::Initialize). The launcher gets the text of the
    /// error in the form `{:#}`, in which errors of anyhow and eyre show their causes. The
    /// library adds the causes of a `Box<dyn Error>` and of an [`io::Error`](std::io::Error). It
    /// cannot find the [source](std::error::Error::source) of any other type. Therefore return
    /// `Box<dyn Error>`. A [`StartFailure`](crate::StartFailure) gives the launcher bytes beside
    /// the text.
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

    /// Gives the launcher up to 2048 bytes with the report that the daemon is ready, for example
    /// the address of a server. The closure gets the value of the last closure, and runs in the
    /// daemon after it. The launcher gets the bytes as [`Parent::payload`].
    ///
    /// With [`deferred_readiness`](Self::deferred_readiness), [`Readiness::ready_with`] gives the
    /// payload instead. In the [foreground](Self::foreground) the closure runs, but the payload has
    /// no receiver.
    ///
    /// ```no_run
    /// use std::net::TcpListener;
    /// use daemonize2::{Daemonize, Outcome};
    ///
    /// let outcome = Daemonize::new()
    ///     .initialize(|()| -> std::io::Result<_> {
    ///         let listener = TcpListener::bind("127.0.0.1:0")?;
    ///         let address = listener.local_addr()?;
    ///         Ok((listener, address))
    ///     })
    ///     .ready_payload(|(_listener, address)| address.to_string())
    ///     .execute_checked();
    /// if let Outcome::Parent(Ok(daemon)) = outcome {
    ///     println!("listening on {}", daemon.payload.escape_ascii());
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// If the payload is longer than 2048 bytes, the start fails with
    /// [`ErrorKind::PayloadTooLong`](crate::ErrorKind::PayloadTooLong), in the foreground too.
    ///
    /// # Security
    ///
    /// Other users cannot read the payload: it travels through a socket pair. The launcher must not
    /// trust it, if the daemon has fewer rights than the launcher.
    pub fn ready_payload<P, F>(self, payload: F) -> Daemonize<T, stage::ReadyPayload>
    where
        P: AsRef<[u8]>,
        F: FnOnce(&T) -> P + 'static,
        Stage: stage::BeforeReadiness,
    {
        self.with_actions(|actions| actions::then_ready_payload(actions, payload))
    }

    /// Lets the caller report that the daemon is ready. In the daemon, the start returns the
    /// value of the last closure and a [`Readiness`]. The launcher waits until the daemon calls
    /// [`Readiness::ready`]. Use this for a server that becomes ready only after the start has
    /// returned.
    ///
    /// Run code that may fail by [`Readiness::serve`]: the launcher then gets the cause of a
    /// failure. Without `serve`, a `?` between the start and `ready` drops the readiness unused:
    /// the start fails, but the launcher does not get the cause.
    ///
    /// Until the daemon has reported, it may call [`execute`](Self::execute), but not
    /// [`start`](Self::start), because `start` would end the daemon. Such a `start` fails with
    /// [`ErrorKind::StartWithinStart`](crate::ErrorKind::StartWithinStart).
    pub fn deferred_readiness(self) -> Daemonize<(T, Readiness), stage::DeferredReadiness>
    where
        Stage: stage::BeforeReadiness,
    {
        self.with_actions(actions::then_defer_readiness)
    }
}

/// The entry points.
impl<T, Stage> Daemonize<T, Stage> {
    /// Starts the daemon. After a success this returns only in the daemon. The launcher calls
    /// `_exit(0)` when the daemon is ready, so that atexit handlers run only in the daemon.
    ///
    /// The library first flushes std's standard output and C's streams. It does not flush them if
    /// other threads exist, because these may have locked the streams. If two threads start
    /// daemons at the same time, the second start waits for the first.
    ///
    /// # Errors
    ///
    /// After a failure this returns only in the launcher, and only when the daemon has ended. It
    /// returns:
    ///
    /// - [`ErrorKind::FirstProcess`](crate::ErrorKind::FirstProcess) if the launcher is the first
    ///   process of a pid namespace, such as the main process of a container. Its exit would end
    ///   the daemon. Use [`foreground`](Self::foreground) there.
    /// - [`ErrorKind::PidNamespace`](crate::ErrorKind::PidNamespace) if unshare(2) or setns(2) has
    ///   put the children of the launcher into another pid namespace.
    /// - Any other [`ErrorKind`](crate::ErrorKind) of a failed step.
    ///
    /// # Safety
    ///
    /// The process must have a single thread. Otherwise the caller is responsible for the
    /// daemon. The other threads do not exist in the daemon, but the locks that they held stay
    /// locked there, including the lock of the allocator. See
    /// [fork(2)](https://pubs.opengroup.org/onlinepubs/9799919799/functions/fork.html).
    /// [`start_checked`](Self::start_checked) checks the number of threads.
    #[expect(unsafe_code, reason = "the caller's promise is passed on, once")]
    pub unsafe fn start(self) -> Result<T, Error> {
        // SAFETY: what is asked of our caller.
        let safety = ForkSafety::Assumed(unsafe { SingleThreaded::assume() });
        let (options, closures) = self.into_parts();
        start::start(options, closures, safety)
    }

    /// Starts the daemon like [`start`](Self::start), if the process has a single thread.
    ///
    /// If a runtime creates threads, as tokio's does, build it in the daemon: in
    /// [`initialize`](Self::initialize), or after this has returned.
    ///
    /// # Errors
    ///
    /// - Those of [`start`](Self::start).
    /// - [`ErrorKind::MultiThreaded`](crate::ErrorKind::MultiThreaded) if the process has other
    ///   threads, or shares its memory with another process. The library repeats the check for
    ///   100 ms, because the kernel still counts a joined thread for a moment.
    /// - [`ErrorKind::ThreadCountUnknown`](crate::ErrorKind::ThreadCountUnknown) on platforms
    ///   other than Linux, FreeBSD and macOS, and on Linux if the library needs /proc and /proc is
    ///   missing.
    ///
    /// # Platform notes
    ///
    /// On Linux the library calls unshare(2). This call fails if the process has other threads,
    /// or if another process shares its memory. If a sandbox forbids unshare(2), the library
    /// counts only threads, as on FreeBSD and macOS. In gVisor and qemu-user, unshare(2) does not
    /// fail. The library detects this by a test process, and counts threads.
    ///
    /// On macOS the daemon must not use CoreFoundation, Objective-C, libdispatch or the Network
    /// framework: see [Threads and async runtimes](crate#threads-and-async-runtimes).
    pub fn start_checked(self) -> Result<T, Error> {
        let (options, closures) = self.into_parts();
        start::start(options, closures, ForkSafety::Checked)
    }

    /// Starts the daemon, and returns in both processes, so that the launcher can continue. In
    /// the launcher the library drops all closures and their captures.
    ///
    /// If the launcher is the main process of a systemd service with `Type=notify`, the start makes
    /// the daemon the main process: see [`supervised`](crate::supervised).
    ///
    /// If a step fails in the daemon, both processes return the failure. The failed daemon has no
    /// lock, no pid file and no connection to the launcher, but other changes remain, such as its
    /// standard streams. The caller must end it, for example by [`Outcome::end_failed_daemon`].
    /// The library itself terminates the daemon only in these cases: after
    /// [`PrivilegesRetained`](crate::ErrorKind::PrivilegesRetained); when the timeout expires;
    /// after the death of the launcher; if the daemon closes its connection to the launcher; and
    /// a second after the daemon has dropped its [`Readiness`].
    ///
    /// # Safety
    ///
    /// The same as for [`start`](Self::start).
    #[expect(unsafe_code, reason = "the caller's promise is passed on, once")]
    pub unsafe fn execute(self) -> Outcome<T> {
        // SAFETY: what is asked of our caller.
        let safety = ForkSafety::Assumed(unsafe { SingleThreaded::assume() });
        let (options, closures) = self.into_parts();
        start::execute(options, closures, safety)
    }

    /// Starts the daemon like [`execute`](Self::execute), if the process has a single thread
    /// (see [`start_checked`](Self::start_checked)) and no event queue that both processes
    /// would share.
    ///
    /// # Errors
    ///
    /// - Those of [`start_checked`](Self::start_checked), except `FirstProcess`.
    /// - [`ErrorKind::SharedEventQueue`](crate::ErrorKind::SharedEventQueue) if the process has an
    ///   epoll instance or an io_uring open, for example in an async runtime with a single
    ///   thread. Build the runtime after the start, or use `start_checked`.
    /// - [`ErrorKind::EventQueuesUnknown`](crate::ErrorKind::EventQueuesUnknown) on Linux if
    ///   /proc is missing, because only /proc lists event queues.
    ///
    /// # Platform notes
    ///
    /// On FreeBSD, macOS and the other BSDs a child does not inherit a kqueue.
    pub fn execute_checked(self) -> Outcome<T> {
        let (options, closures) = self.into_parts();
        start::execute(options, closures, ForkSafety::Checked)
    }
}

/// The entry point for another program.
impl Daemonize<()> {
    /// Starts another program as the daemon, and returns in the launcher when the program runs.
    /// The launcher may have any number of threads, so that an async runtime, a GUI or a test
    /// runner can start a daemon. It may also [start itself again](#start-oneself-again).
    ///
    /// ```no_run
    /// # fn main() -> Result<(), daemonize2::Error> {
    /// use daemonize2::{Daemonize, Program, Stdio};
    ///
    /// let started = Daemonize::new()
    ///     .pid_file("/run/clockd.pid")
    ///     .user("nobody")
    ///     .stderr(Stdio::append("/var/log/clockd.log"))
    ///     .reset_signals()
    ///     .spawn(Program::new("/usr/sbin/clockd").args(["--port", "37"]))?;
    /// println!("started {}", started.daemon_pid);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// The daemon takes the same steps as in any other start, and then executes the program by
    /// execve(2). By default, the start is committed when the program has been executed: from then
    /// on the program runs, but it need not be ready to serve. If the program ends at once, the
    /// start fails with [`ErrorKind::DaemonExited`](crate::ErrorKind::DaemonExited) if the library
    /// notices its end before it returns. With [`Program::notify_socket`] or
    /// [`Program::notification_fd`], the start is committed when the program reports that it is
    /// ready, and fails if the program ends before.
    ///
    /// - The pid file stays locked while the program runs. The program has inherited a descriptor
    ///   for it, which is open for reading, and so do its children. If the program closes all
    ///   descriptors that it has inherited, the file is unlocked. If the launcher itself has the pid
    ///   file open, not close-on-exec, the program inherits that descriptor too. When the program
    ///   closes it, the kernel forgets that the program has locked the file, and
    ///   [`PidFile`](crate::PidFile) does not find the program any more.
    /// - The program inherits the descriptors of the launcher that are not close-on-exec. It also
    ///   inherits, whatever their flags are, those that
    ///   [`close_inherited_fds`](Self::close_inherited_fds) keeps, and the sockets of
    ///   [`socket_activation`](Self::socket_activation).
    /// - Signals that the launcher catches have the default action in the program, and so has
    ///   SIGPIPE. Signals that it ignores stay ignored, unless [`reset_signals`](Self::reset_signals)
    ///   is set. The signal mask is that of the thread that calls this, unless `reset_signals` is set.
    /// - The daemon replaces the streams of [`Stdio::keep_until_ready`] before it executes the
    ///   program.
    /// - The kernel decides whether the process is [dumpable](Self::dumpable) after execve(2).
    /// - [`user_environment`](Self::user_environment) and `socket_activation` change the environment
    ///   of the program, not that of the launcher.
    ///
    /// The program has to stay in the foreground. A program that itself forks a daemon and ends
    /// leaves the lock to its children, and no process finds the daemon by the pid file: give it the
    /// option by which a service manager runs it.
    ///
    /// The library notifies no service manager: the launcher lives on, and may itself be the main
    /// process of a service. A command that only starts the program belongs into a unit with
    /// `Type=forking` and `PIDFile=`.
    ///
    /// If the launcher is killed before the start is committed, the library terminates the program.
    /// If the intermediate is killed at the same time, the program may run on.
    ///
    /// # Start oneself again
    ///
    /// A program that creates threads before it knows whether it is to be a daemon, as
    /// `#[tokio::main]` does, executes itself with another argument:
    ///
    /// ```no_run
    /// # fn serve() {}
    /// use daemonize2::{Daemonize, Program};
    ///
    /// fn main() -> Result<(), Box<dyn std::error::Error>> {
    ///     if std::env::args().any(|argument| argument == "--daemon") {
    ///         let program = Program::new(std::env::current_exe()?);
    ///         Daemonize::new().pid_file("/run/clockd.pid").spawn(program)?;
    ///         return Ok(());
    ///     }
    ///     serve();
    ///     Ok(())
    /// }
    /// ```
    ///
    /// A program that uses this library can ask for the [status](crate::PidFile::status) of its own
    /// pid file: the environment names the inherited descriptor, and the library opens no other, whose
    /// close would release the record lock. [`PidFile::adopt`](crate::PidFile::adopt) takes the lock
    /// over, so that a [`PidFileGuard`](crate::PidFileGuard) can remove the file.
    ///
    /// # Errors
    ///
    /// After a failure the daemon has ended, as after any other start. The start fails with:
    ///
    /// - [`ErrorKind::ExecuteProgram`](crate::ErrorKind::ExecuteProgram) and the errno of execve(2)
    ///   if the program cannot be executed. With `EINVAL`, before any fork, if an argument or a
    ///   variable contains a NUL byte, or a variable has no valid name.
    /// - [`ErrorKind::OptionWithProgram`](crate::ErrorKind::OptionWithProgram), before any fork, if
    ///   one of these is set: [`foreground`](Self::foreground), [`upgrade`](Self::upgrade), a
    ///   [`privileged_action`](Self::privileged_action), and
    ///   [`keep_capabilities`](Self::keep_capabilities), which execve(2) takes away;
    ///   [`ambient_capabilities`](Self::ambient_capabilities) if the program runs as root, since
    ///   it then has all capabilities. The compiler refuses all other closures of the daemon.
    /// - [`ErrorKind::DaemonExited`](crate::ErrorKind::DaemonExited) and
    ///   [`ErrorKind::NotReady`](crate::ErrorKind::NotReady) if a program that is to report that it
    ///   is ready ends, or reports a failure.
    /// - Any other [`ErrorKind`](crate::ErrorKind) of a failed step.
    ///
    /// # Security
    ///
    /// A set-user-id or set-group-id program, or one with file capabilities, regains privileges
    /// unless [`no_new_privileges`](Self::no_new_privileges) is set. The program inherits the
    /// environment of the launcher: see [`Program::env_clear`]. Other threads of the launcher may
    /// have opened descriptors that are not close-on-exec: set `close_inherited_fds`.
    ///
    /// Between fork(2) and execve(2) no process allocates memory, or waits for a lock that another
    /// thread of the launcher may have. Handlers of pthread_atfork(3) run, as in any fork(2).
    #[expect(unsafe_code, reason = "the promise is kept by `start::spawn`")]
    pub fn spawn(mut self, program: Program) -> Result<Parent, Error> {
        self.options.program = Some(program);
        // SAFETY: every process that `start::spawn` makes calls only async-signal-safe functions
        // until it executes the program or exits.
        let safety = ForkSafety::Assumed(unsafe { SingleThreaded::assume() });
        let (options, closures) = self.into_parts();
        start::spawn(options, closures, safety)
    }
}

/// The entry points whose last initialization may borrow from the caller.
impl<T: 'static, Stage> Daemonize<T, Stage> {
    /// Starts the daemon like [`start_checked`](Self::start_checked), with this closure as the last
    /// [initialization](Self::initialize). The closure may borrow from the caller:
    ///
    /// ```no_run
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use std::net::TcpListener;
    /// use daemonize2::Daemonize;
    ///
    /// let config = std::fs::read_to_string("/etc/clockd.conf")?;
    /// let listener = Daemonize::new()
    ///     .user("nobody")
    ///     .start_checked_with(|()| TcpListener::bind(config.trim()))?;
    /// # drop(listener);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// The closure runs in the daemon. The launcher does not see what the closure writes to
    /// borrowed variables, because each process has its own memory. After a failure the launcher
    /// drops the closure.
    ///
    /// To give the launcher a payload too, use
    /// [`deferred_readiness`](Self::deferred_readiness) and [`Readiness::ready_with`]: after the
    /// start the daemon may borrow everything.
    ///
    /// # Errors
    ///
    /// - Those of [`start_checked`](Self::start_checked).
    /// - [`ErrorKind::Initialize`](crate::ErrorKind::Initialize) if the closure returns an `Err`.
    pub fn start_checked_with<N, E, F>(self, initialize: F) -> Result<N, Error>
    where
        E: Display + 'static,
        F: FnOnce(T) -> Result<N, E>,
        Stage: stage::BeforeReadiness,
    {
        let (options, closures) = self.into_parts();
        let closures = closures.then_initialize(initialize);
        start::start(options, closures, ForkSafety::Checked)
    }

    /// Starts the daemon like [`execute_checked`](Self::execute_checked), with this closure as the
    /// last [initialization](Self::initialize). The closure may borrow from the caller, as that of
    /// [`start_checked_with`](Self::start_checked_with) may.
    ///
    /// # Errors
    ///
    /// - Those of [`execute_checked`](Self::execute_checked).
    /// - [`ErrorKind::Initialize`](crate::ErrorKind::Initialize) if the closure returns an `Err`.
    pub fn execute_checked_with<N, E, F>(self, initialize: F) -> Outcome<N>
    where
        E: Display + 'static,
        F: FnOnce(T) -> Result<N, E>,
        Stage: stage::BeforeReadiness,
    {
        let (options, closures) = self.into_parts();
        let closures = closures.then_initialize(initialize);
        start::execute(options, closures, ForkSafety::Checked)
    }
}
