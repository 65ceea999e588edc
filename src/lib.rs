//! Run your code as a SysV daemon on Unix.
//!
//! The *launcher* is the process that starts the daemon. It reports success only when the daemon
//! is ready. If the start fails, it returns the cause.
//!
//! ```no_run
//! use std::net::TcpListener;
//! use daemonize2::{Daemonize, Directory, Stdio};
//!
//! fn main() {
//!     let listener = start().unwrap_or_else(|error| {
//!         // The launcher prints, for example,
//!         // clockd: cannot lock pid file /run/clockd/clockd.pid: held by running daemon 4242
//!         eprintln!("clockd: {error}");
//!         std::process::exit(1);
//!     });
//!     // Only the daemon gets here, as user nobody. The launcher has exited with status 0.
//!     for client in listener.incoming() {
//!         println!("{client:?}"); // in the log
//!     }
//! }
//!
//! fn start() -> Result<TcpListener, daemonize2::Error> {
//!     let runtime = Directory::runtime("clockd"); // /run/clockd for root
//!     let logs = Directory::logs("clockd"); // /var/log/clockd for root
//!     let log = logs.path()?.join("clockd.log");
//!     Daemonize::new()
//!         .pid_file(runtime.path()?.join("clockd.pid"))
//!         .stdout(Stdio::append(&log))
//!         .stderr(Stdio::append(&log))
//!         .directory(runtime)
//!         .directory(logs)
//!         .user("nobody")
//!         .on_started(|daemon| println!("listening on {}", daemon.payload.escape_ascii()))
//!         .try_privileged_action(|| TcpListener::bind("127.0.0.1:37"))
//!         .ready_payload(|listener| match listener.local_addr() {
//!             Ok(address) => address.to_string(),
//!             Err(error) => error.to_string(),
//!         })
//!         .start_checked()
//! }
//! ```
//!
//! A [complete program](https://github.com/oold/daemonize/blob/HEAD/examples/clockd.rs) takes the
//! address and the user as arguments:
//!
#![doc = include_str!("../docs/session.svg")]
//!
//! Three processes take part, which communicate by *channels* (socket pairs). Until the start is
//! committed, a failure of any of them ends the daemon, and the launcher returns the cause.
//!
#![doc = include_str!("../docs/start.svg")]
//!
//! # I want ...
//!
//! | I want | use |
//! |---|---|
//! | a command that starts a service, and exits when the service is ready | [`start_checked`] |
//! | a program that starts daemons and continues | [`execute_checked`] |
//! | a port below 1024, or a key that only root can read | [`try_privileged_action`] |
//! | an async runtime, a database, threads | [`initialize`] |
//! | a server that itself knows when it is ready | [`deferred_readiness`], [`Readiness::serve`] |
//! | the launcher to print the address of the daemon | [`ready_payload`], [`on_started`] |
//! | `/run/clockd` and `/var/log/clockd`, for the user of the daemon | [`directory`], [`Directory::runtime`], [`Directory::logs`] |
//! | a log file that logrotate(8) may rename | [`Stdio::append`], [`reopen_logs`] |
//! | warnings at the terminal, until the daemon is ready | [`Stdio::keep_until_ready`] |
//! | the actions `stop`, `status`, `restart` and `reload` | [`PidFile`] |
//! | a program that both a shell and systemd start | [`foreground`]`(`[`supervised()`](supervised)`)` |
//! | a daemon in a container | [`foreground`]`(true)` |
//! | port 80 at any time, without root | [`keep_capabilities`] |
//! | no privileges by way of other programs | [`no_new_privileges`] |
//! | a limit for the time of a start | [`startup_timeout`] |
//! | a new version without a lost connection | [`upgrade`], or [`PidFile::exec`] |
//! | workers that end with the daemon | [`PidFile::stop_group`] |
//! | a client that starts the daemon if none runs | [`PidFile::wait_ready`] |
//! | `HOME` and `USER` of the daemon's user | [`user_environment`] |
//!
//! The [guide] has more about each topic, such as tests of your daemon, and what fork(2) loses or
//! doubles. There is a page for [programs that use another crate](https://github.com/oold/daemonize/blob/HEAD/docs/migration.md),
//! and there are complete [examples](https://github.com/oold/daemonize/tree/HEAD/examples).
//!
//! # Which method starts the daemon?
//!
//! The first five methods are the *entry points*.
//!
//! - [`start_checked`]: the launcher exits when the daemon is ready. Use this in a command that
//!   starts a service.
//! - [`execute_checked`]: the launcher continues, and gets the pid of the daemon. Use this in a
//!   program that has other work to do.
//! - [`start`], [`execute`]: these do not check that the process has a single thread, and are
//!   therefore unsafe. Use these where the library cannot determine the number of threads.
//! - [`spawn`]: the daemon executes another program. Use this in a process that has several
//!   threads, such as a program with `#[tokio::main]`, which can also execute itself again.
//! - [`start_checked_with`], [`execute_checked_with`] take the last initialization at the call. The
//!   closure may borrow from the caller.
//!
//! # When is the daemon ready?
//!
//! The daemon is ready when its closures have returned: the [privileged
//! action](Daemonize::privileged_action), then, after the change of identity, each [`initialize`].
//! If a closure fails, the start fails. With [`deferred_readiness`] the daemon itself reports that
//! it is ready, or why it is not ([`Readiness::serve`]): use this if code after the start decides.
//!
//! # Errors
//!
//! The text of an [`Error`] says what failed, on which file or user, why, and what to do: `cannot
//! lock pid file /run/clockd/clockd.pid: held by running daemon 4242`. Print it and exit. To distinguish
//! the failed steps, match on [`Error::kind`]. If a closure fails or panics in the daemon, the
//! launcher returns the text of the error or panic. By a [`StartFailure`] a closure adds bytes,
//! such as an exit status, which [`Error::payload`] returns.
//!
//! # Status and stop
//!
//! [`PidFile`] reports the [`Status`] of the daemon, signals and stops it, with its workers if you
//! wish ([`PidFile::stop_group`]), and waits until it is ready ([`PidFile::wait_ready`]). The daemon
//! runs if the pid file is locked; a number in a file proves nothing. A [`PidFileGuard`] removes
//! the file when the daemon exits. For the exit codes of an init script, see
//! [`Status::lsb_exit_code`] and [`Error::lsb_exit_code`].
//!
//! # Where does the output go?
//!
//! To `/dev/null`, unless [`stdout`] and [`stderr`] are set: `println!`, and a panic after the start,
//! vanish. In the [`foreground`] the streams stay as they are.
//!
//! | the stream is | with |
//! |---|---|
//! | a log file, which [`reopen_logs`] opens again after a rotation | [`Stdio::append`] |
//! | a file, a pipe or a socket that the caller has opened | [`File`](std::fs::File), [`OwnedFd`](std::os::fd::OwnedFd) |
//! | that of the launcher, for as long as the daemon runs | [`Stdio::keep`] |
//! | that of the launcher until the daemon is ready, then one of the others | [`Stdio::keep_until_ready`] |
//!
//! ```no_run
//! use daemonize2::{Daemonize, Stdio};
//!
//! # fn main() -> Result<(), daemonize2::Error> {
//! Daemonize::new()
//!     .user("clockd")
//!     .stdout(Stdio::append("/var/log/clockd/clockd.log"))
//!     .stderr(Stdio::keep_until_ready(Stdio::append("/var/log/clockd/error.log")))
//!     .start_checked()
//! # }
//! ```
//!
//! # Who owns the files?
//!
//! If root starts the daemon with [`user`]:
//!
//! | | created | belongs to | the daemon after the change of user |
//! |---|---|---|---|
//! | [`directory`] | by the launcher, before the first fork | the user of the daemon | can create files in it |
//! | [`Stdio::append`] | before the change of user | the user of the daemon | writes, and reopens the file by [`reopen_logs`] |
//! | a [`File`](std::fs::File) for [`stdout`] or [`stderr`] | by your code in the launcher | root | writes; can open it again only if its mode allows this |
//! | [`pid_file`] | before the change of user | root, unless [`chown_pid_file`] is set | can read it, and cannot change the content; can remove it only if it may write to the directory |
//! | what the privileged action creates | before the change of user | root | has it open |
//! | what [`initialize`] creates | after the change of user | the user of the daemon | |
//!
//! # systemd and containers
//!
//! With [`foreground`]`(`[`supervised()`](supervised)`)` the program forks when a shell starts
//! it, and stays in the foreground as a service of `Type=notify`. The library notifies systemd
//! when the daemon is ready. With `Type=forking` the pid file is complete when the launcher exits,
//! and [`socket_activation`] hands the sockets and the watchdog over to the daemon.
//! In a container the main process is pid 1, and its exit ends all other processes: stay in the
//! foreground there.
//!
//! # Threads and async runtimes
//!
//! fork(2) copies only the thread that calls it. The other threads of a runtime do not exist in
//! the daemon. Therefore build the runtime in the daemon: in [`initialize`], if a failure is to
//! fail the start, or after the start.
//!
//! ```no_run
//! use std::io;
//! use tokio::{net::TcpListener, runtime::Runtime};
//!
//! // No #[tokio::main] here.
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let (runtime, listener) = daemonize2::Daemonize::new()
//!         .initialize(|()| -> io::Result<_> {
//!             let runtime = Runtime::new()?;
//!             let listener = runtime.block_on(TcpListener::bind("127.0.0.1:7"))?;
//!             Ok((runtime, listener))
//!         })
//!         .start_checked()?;
//!     runtime.block_on(async {
//!         loop {
//!             listener.accept().await?;
//!         }
//!     })
//! }
//! ```
//!
//! A process that has several threads can start another program: see [`spawn`].
//!
//! The checked entry points refuse a process that has more than one thread.
//! After [`execute_checked`] both processes continue. Therefore it also refuses a process that has
//! an event queue which both would share after fork(2): the epoll instance of a runtime with a
//! single thread, or an io_uring. Each process would receive events of the other, and most
//! events contain a memory address of the other process. After [`start_checked`] only the daemon
//! uses the queue. In the [`foreground`] there is no fork, so that other threads and event queues
//! are allowed.
//!
//! The result of the check stays valid during the start: only the single thread, or a signal
//! handler that runs in it, could create another thread. The known exception is libdispatch on
//! macOS: frameworks that use it may create threads at any time.
//!
//! On macOS a daemon must not use CoreFoundation, the Objective-C runtime, libdispatch or the
//! Network framework, nor a crate that uses one of them. The daemon is a child of fork(2) that has
//! not called execve(2), and Apple does not support these frameworks there: calls hang, or abort the
//! process. Such a program can run in the [`foreground`] under launchd(8), or [`spawn`] can
//! start a program that uses the frameworks.
//!
//! # Three promises
//!
//! 1. **A start is acknowledged, or it did not happen.** The daemon reports that it is
//!    ready, and the launcher acknowledges the report. Only then does the launcher report
//!    success. If the start fails, it returns the cause, and leaves no process, no lock and no
//!    content of the pid file behind. This holds whichever process dies, and whenever it dies.
//!    If a process cannot be terminated, the error says so. In one case a pid stays in the
//!    unlocked file: if the launcher is killed just before the acknowledgement, and the daemon
//!    may no longer write to the file.
//! 2. **Dropped means dropped.** After a change of user, group or root directory, a daemon that
//!    is not root cannot regain the former ids, groups and capabilities, or reach the former root
//!    directory. It has exactly the capabilities that the caller names, by default none. The
//!    library tries to regain the ids, and ends the daemon if it succeeds.
//! 3. **Another process checks each promise.** The tests look at the daemon from outside.
//!
//! # The start, step by step
//!
//! | | step | option | daemon(7), new process of SysV daemons | daemon(3) |
//! |---|---|---|---|---|
//! | launcher | look up users and groups | [`user`], [`group`], [`chown_pid_file_user`], [`chown_pid_file_group`] | | |
//! | | check the capabilities of the launcher | [`keep_capabilities`], [`ambient_capabilities`] | | |
//! | | count threads, look for event queues | [`start_checked`], [`execute_checked`] | | |
//! | | create directories | [`directory`] | | |
//! | | flush standard output | | | |
//! | | block signals | | | |
//! | | fork | | 5 | yes |
//! | intermediate | setsid | | 6 | yes |
//! | | signal actions | [`reset_signals`] | 2 | |
//! | | close inherited descriptors | [`close_inherited_fds`] | 1 | |
//! | | umask | [`umask`] | 10 | |
//! | | working directory | [`working_directory`] | 11 | to `/` |
//! | | open, lock and truncate the pid file | [`pid_file`], [`pid_file_mode`] | 12 | |
//! | | fork, so that the daemon can acquire no terminal | | 7, 8 | |
//! | daemon | open log files, redirect the standard streams | [`stdin`], [`stdout`], [`stderr`], [`Stdio::append`] | 9 | yes |
//! | | change the owner of the pid file | [`chown_pid_file`], [`chown_pid_file_user`], [`chown_pid_file_group`] | | |
//! | | restore the signal mask, or empty it | [`reset_signals`] | 3 | |
//! | | environment | [`user_environment`], [`socket_activation`] | | |
//! | | privileged action | [`privileged_action`] | | |
//! | | root directory | [`chroot`] | | |
//! | | groups, group ids, user ids, capabilities; verified | [`user`], [`group`], [`supplementary_groups`], [`keep_capabilities`], [`ambient_capabilities`] | 13 | |
//! | | no new privileges | [`no_new_privileges`] | | |
//! | | dumpable | [`dumpable`] | | |
//! | | execute the program, in place of the next four steps | [`spawn`] | | |
//! | | initialize | [`initialize`], [`start_checked_with`], [`execute_checked_with`] | | |
//! | | make the payload | [`ready_payload`] | | |
//! | | replace the streams that were kept | [`Stdio::keep_until_ready`] | 9 | yes |
//! | | report ready, await the acknowledgement | [`deferred_readiness`] | 14 | |
//! | intermediate | write the pid, exit | [`pid_file`] | 12 | |
//! | launcher | take over the pid file of the running daemon | [`upgrade`] | | |
//! | | notify systemd, if it has asked | | | |
//! | | run the closure for a started daemon | [`on_started`] | | |
//! | | return, or `_exit(0)` | | 15 | yes |
//!
//! The *intermediate* is the child of the launcher and the parent of the daemon. The daemon
//! inherits the effect of the intermediate's steps. The intermediate exists until the start is
//! committed or has failed, and notices the death of the launcher and of the daemon.
//!
//! If several steps would fail, the launcher returns the failure of the earliest. There is one
//! exception: it returns a failed second fork, or an expired timeout, in place of a failure
//! between setsid and that fork.
//!
//! In the [`foreground`] one process takes the same steps, without the forks and the session.
//! It writes the pid before it changes its identity. From then on [`PidFile::running`] returns
//! this pid, even if the process is not ready yet.
//!
//! # Signals during the start
//!
//! The launcher blocks all signals for the first fork, and restores its mask before it waits. The
//! intermediate keeps them blocked, except for SIGCHLD while it waits. In the daemon they stay
//! blocked until just before the privileged action. Therefore no signal handler of the launcher
//! runs in the intermediate, or in the daemon before the first closure. From then on the daemon
//! has these handlers, unless [`reset_signals`] is set.
//!
//! A signal that arrives in the daemon while it is blocked takes effect when the daemon
//! restores the mask. If the signal kills the daemon, the start fails: the launcher returns
//! [`ErrorKind::DaemonExited`] with the signal.
//!
//! Ctrl-C in the terminal of the launcher does not reach the intermediate and the daemon, because
//! they are in another session. It kills the launcher, and the start then fails.
//!
//! # What it does not do
//!
//! - Without [`close_inherited_fds`] it closes no descriptors of the caller. Without
//!   [`reset_signals`] it changes no signal actions. Without [`user_environment`] and
//!   [`socket_activation`] it changes no environment variables. It never changes resource limits
//!   or the locale.
//! - It does not restart a daemon, or supervise a daemon that is ready: a service manager can do
//!   that. It does not rename log files: logrotate(8) and newsyslog(8) can. [`reopen_logs`] opens
//!   the new ones.
//! - It does not remove the pid file when the daemon exits, unless you use a [`PidFileGuard`].
//!   The next start takes over the file of a dead daemon.
//! - [`start_checked`] and [`start`] refuse to run as pid 1, because the exit of pid 1 would end
//!   the daemon. No entry point starts a daemon in another pid namespace than that of the
//!   launcher. Use the [`foreground`] in both cases.
//! - It does not clean up after closures: the caller is responsible for everything that its
//!   closures leave open or running.
//!
//! # Platforms
//!
//! Linux, FreeBSD and macOS are supported. PLATFORMS.md lists what was checked where. NetBSD,
//! OpenBSD, DragonFly and illumos are best effort: there [`start_checked`] and
//! [`execute_checked`] refuse every start, because the library cannot count threads. On
//! targets other than Unix the crate is empty.
//!
//! [guide]: https://github.com/oold/daemonize/blob/HEAD/docs/guide.md
//! [`user`]: Daemonize::user
//! [`group`]: Daemonize::group
//! [`umask`]: Daemonize::umask
//! [`directory`]: Daemonize::directory
//! [`working_directory`]: Daemonize::working_directory
//! [`pid_file`]: Daemonize::pid_file
//! [`pid_file_mode`]: Daemonize::pid_file_mode
//! [`chown_pid_file`]: Daemonize::chown_pid_file
//! [`chown_pid_file_user`]: Daemonize::chown_pid_file_user
//! [`chown_pid_file_group`]: Daemonize::chown_pid_file_group
//! [`upgrade`]: Daemonize::upgrade
//! [`stdin`]: Daemonize::stdin
//! [`stdout`]: Daemonize::stdout
//! [`stderr`]: Daemonize::stderr
//! [`chroot`]: Daemonize::chroot
//! [`privileged_action`]: Daemonize::privileged_action
//! [`try_privileged_action`]: Daemonize::try_privileged_action
//! [`close_inherited_fds`]: Daemonize::close_inherited_fds
//! [`reset_signals`]: Daemonize::reset_signals
//! [`supplementary_groups`]: Daemonize::supplementary_groups
//! [`keep_capabilities`]: Daemonize::keep_capabilities
//! [`ambient_capabilities`]: Daemonize::ambient_capabilities
//! [`no_new_privileges`]: Daemonize::no_new_privileges
//! [`dumpable`]: Daemonize::dumpable
//! [`user_environment`]: Daemonize::user_environment
//! [`socket_activation`]: Daemonize::socket_activation
//! [`initialize`]: Daemonize::initialize
//! [`deferred_readiness`]: Daemonize::deferred_readiness
//! [`ready_payload`]: Daemonize::ready_payload
//! [`on_started`]: Daemonize::on_started
//! [`startup_timeout`]: Daemonize::startup_timeout
//! [`foreground`]: Daemonize::foreground
//! [`start`]: Daemonize::start
//! [`start_checked`]: Daemonize::start_checked
//! [`execute`]: Daemonize::execute
//! [`execute_checked`]: Daemonize::execute_checked
//! [`start_checked_with`]: Daemonize::start_checked_with
//! [`spawn`]: Daemonize::spawn
//! [`execute_checked_with`]: Daemonize::execute_checked_with

#![cfg(unix)]

mod activation;
mod builder;
mod byte_enum;
mod deadline;
mod directory;
mod environment;
mod error;
mod escape;
mod failure;
mod identity;
mod lsb;
mod notify;
mod options;
mod outcome;
mod own_fds;
mod pid_file;
mod program;
mod root;
pub mod stage;
mod start;
mod streams;
mod subject;
mod sys;
mod trust;

/// Compiles the examples of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

/// Compiles and runs the examples of the guide.
#[cfg(doctest)]
#[doc = include_str!("../docs/guide.md")]
struct Guide;

/// Compiles the programs that used another crate.
#[cfg(doctest)]
#[doc = include_str!("../docs/migration.md")]
struct Migration;

/// Compiles the recipes.
#[cfg(doctest)]
#[doc = include_str!("../docs/recipes.md")]
struct Recipes;

pub use builder::Daemonize;
pub use directory::Directory;
pub use error::{Error, ErrorKind};
pub use identity::{Capability, Group, SupplementaryGroups, User};
pub use notify::supervised;
pub use options::Mask;
pub use outcome::{Child, Outcome, Parent};
pub use pid_file::{PidFile, PidFileGuard, Status};
pub use program::Program;
pub use start::{Readiness, StartFailure};
pub use streams::{Stdio, reopen_logs};
pub use sys::Signal;
