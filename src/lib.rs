//! Run your code as a SysV daemon on Unix, with a launcher that tells the truth.
//!
//! ```no_run
//! use std::net::TcpListener;
//!
//! fn main() {
//!     let listener = daemonize2::Daemonize::new()
//!         .pid_file("/run/clockd.pid")
//!         .user("nobody")
//!         .try_privileged_action(|| TcpListener::bind("127.0.0.1:37"))
//!         .start_checked()
//!         .unwrap_or_else(|error| {
//!             eprintln!("clockd: {error}");
//!             std::process::exit(1);
//!         });
//!     // From here on this is the daemon, as nobody. The launcher has exited.
//!     for client in listener.incoming() {
//!         drop(client);
//!     }
//! }
//! ```
//!
//! # Which entry point do I want?
//!
//! - [`start_checked`]: the launcher exits when the daemon is ready. Use this in a command that
//!   starts a service.
//! - [`execute_checked`]: the launcher goes on, and gets the pid of the daemon. Use this in a
//!   program that reports the pid, or that starts a daemon beside its other work.
//! - [`start`], [`execute`]: the same without the check that the process has a single thread,
//!   and therefore unsafe. Use these where the number of threads cannot be determined.
//! - [`initialize`]: a step that may fail late fails the start.
//! - [`deferred_readiness`]: the daemon itself reports that it is ready, or why it is not
//!   ([`Readiness::serve`]).
//! - [`foreground`]`(`[`supervised()`](supervised)`)`: the same program also runs under a
//!   service manager.
//!
//! # Errors
//!
//! [`Error`] says what failed, on what, why, and what helps: `cannot lock pid file
//! /run/clockd.pid: held by running daemon 4242`. Print it and exit. To decide by the step,
//! match on [`Error::kind`]. If a closure fails or panics in the daemon, the launcher returns
//! its text with all causes.
//!
//! # Status and stop
//!
//! [`PidFile`] reports, signals and stops the running daemon. The lock on the pid file decides,
//! never the number in it. A [`PidFileGuard`] removes the file when the daemon exits.
//!
//! # systemd and containers
//!
//! With [`foreground`]`(`[`supervised()`](supervised)`)` the program forks when a shell starts
//! it, and stays in the foreground as a service of `Type=notify`. systemd learns when the daemon
//! is ready, in both cases. With `Type=forking` the pid file is complete when the launcher exits.
//! In a container, whose main process is pid 1, stay in the foreground.
//!
//! # Threads and async runtimes
//!
//! fork(2) copies one thread. The other threads of a runtime do not exist in the daemon. So a
//! program has to build its runtime in the daemon, never before: in [`initialize`], where a
//! failure reaches the launcher, or after the start.
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
//! The checked entry points refuse a process that has more than one thread.
//! [`execute_checked`], after which both processes go on, also refuses a process with an event
//! queue that fork(2) shares: the epoll instance of a runtime with a single thread, or an
//! io_uring. The launcher and the daemon would take each other's events, which are mostly
//! addresses in the memory of one of them. After [`start_checked`] the daemon has the queue for
//! itself. In the [`foreground`] nothing forks, and the library refuses neither.
//!
//! The result of the check stays true during the start: a process with a single thread gets
//! another only from its own code, or from unsafe code that runs unasked, such as a signal
//! handler. macOS's libdispatch is the known limit: frameworks that use it create threads at
//! any time.
//!
//! # Three promises
//!
//! 1. **A start is acknowledged, or it did not happen.** The launcher returns success once the
//!    daemon has reported that it is ready and the launcher has acknowledged the report.
//!    Otherwise the launcher returns the one true cause, and nothing is left: no process, no
//!    lock, no content in the pid file. This holds whichever process dies, and whenever it
//!    dies.
//! 2. **Dropped means dropped.** After a change of identity no id, group, capability or
//!    directory of the former identity is within reach. The library tries it, and assumes
//!    nothing.
//! 3. **What is promised is seen from outside.** Another process tests each promise on the real
//!    daemon.
//!
//! # The start, step by step
//!
//! | | step | option | daemon(7), new process of SysV daemons | daemon(3) |
//! |---|---|---|---|---|
//! | launcher | look up users and groups | [`user`], [`group`], [`chown_pid_file_user`], [`chown_pid_file_group`] | | |
//! | | count threads, look for event queues | [`start_checked`], [`execute_checked`] | | |
//! | | flush standard output | | | |
//! | | block signals | | | |
//! | | fork | | 5 | yes |
//! | intermediate | setsid | | 6 | yes |
//! | | signal actions | [`reset_signals`] | 2 | |
//! | | close inherited descriptors | [`close_inherited_fds`] | 1 | |
//! | | umask | [`umask`] | 10 | |
//! | | working directory | [`working_directory`] | 11 | to `/` |
//! | | open, lock and truncate the pid file | [`pid_file`] | 12 | |
//! | | fork, so that the daemon can acquire no terminal | | 7, 8 | |
//! | daemon | redirect the standard streams | [`stdin`], [`stdout`], [`stderr`] | 9 | yes |
//! | | change the owner of the pid file | [`chown_pid_file_user`], [`chown_pid_file_group`] | | |
//! | | restore the signal mask, or empty it | [`reset_signals`] | 3 | |
//! | | privileged action | [`privileged_action`] | | |
//! | | root directory | [`chroot`] | | |
//! | | groups, group ids, user ids, capabilities; verified | [`user`], [`group`], [`supplementary_groups`] | 13 | |
//! | | no new privileges | [`no_new_privileges`] | | |
//! | | initialize | [`initialize`] | | |
//! | | report ready, await the acknowledgement | [`deferred_readiness`] | 14 | |
//! | intermediate | write the pid, exit | [`pid_file`] | 12 | |
//! | launcher | notify systemd, if it has asked | | | |
//! | | return, or `_exit(0)` | | 15 | yes |
//!
//! The daemon inherits the effect of the intermediate's steps after setsid. The intermediate
//! exists until the start is committed or has failed: it notices the death of the launcher and
//! that of the daemon. If several steps would fail, the earliest is reported, with one
//! exception: a failed second fork or an expired timeout is reported before a failure between
//! setsid and that fork.
//!
//! In the [`foreground`] one process takes the same steps, without the forks and the session.
//! It writes the pid before it changes its identity: from then on `running` names a process
//! that may still be initializing.
//!
//! # Signals during the start
//!
//! All signals are blocked from before the first fork until just before the privileged action,
//! and in the intermediate for its whole life. So no handler of the launcher runs in the
//! intermediate, or in the daemon before the caller's own code. Then the daemon has the
//! handlers of the launcher, unless they were reset, until it sets its own. The launcher
//! restores its mask before it waits.
//!
//! A signal that the daemon receives before takes effect then, by the inherited action, or by
//! the default action after [`reset_signals`]. If the signal kills the daemon, the start fails:
//! the launcher returns [`ErrorKind::DaemonExited`] with the signal. Ctrl-C in the terminal of
//! the launcher reaches neither the intermediate nor the daemon, which are in another session.
//! It ends the launcher, and with it the start.
//!
//! # What it does not do
//!
//! - It closes descriptors that the caller has open, and changes signal actions, only with
//!   [`close_inherited_fds`] and [`reset_signals`]. It never changes resource limits, the
//!   environment or the locale.
//! - It does not restart a daemon, rotate logs, or supervise a daemon that is ready. Leave that
//!   to a service manager where there is one.
//! - It does not remove the pid file, except by a [`PidFileGuard`]: the lock, not the file,
//!   says whether the daemon runs. The next start takes over the file of a dead daemon.
//! - It starts no daemon from pid 1, the main process of a container, whose exit would end the
//!   daemon. It starts none in another pid namespace than that of the launcher. Use the
//!   [`foreground`] there.
//! - It does not make an unsafe process safe: the caller is responsible for everything that its
//!   closures leave open or running.
//!
//! # Platforms
//!
//! Linux, FreeBSD and macOS are supported: PLATFORMS.md lists what ran where. NetBSD, OpenBSD,
//! DragonFly and illumos are best effort: there the checked entry points refuse every start,
//! since they cannot count threads. On targets other than Unix the crate is empty.
//!
//! [`user`]: Daemonize::user
//! [`group`]: Daemonize::group
//! [`umask`]: Daemonize::umask
//! [`working_directory`]: Daemonize::working_directory
//! [`pid_file`]: Daemonize::pid_file
//! [`chown_pid_file_user`]: Daemonize::chown_pid_file_user
//! [`chown_pid_file_group`]: Daemonize::chown_pid_file_group
//! [`stdin`]: Daemonize::stdin
//! [`stdout`]: Daemonize::stdout
//! [`stderr`]: Daemonize::stderr
//! [`chroot`]: Daemonize::chroot
//! [`privileged_action`]: Daemonize::privileged_action
//! [`close_inherited_fds`]: Daemonize::close_inherited_fds
//! [`reset_signals`]: Daemonize::reset_signals
//! [`supplementary_groups`]: Daemonize::supplementary_groups
//! [`no_new_privileges`]: Daemonize::no_new_privileges
//! [`initialize`]: Daemonize::initialize
//! [`deferred_readiness`]: Daemonize::deferred_readiness
//! [`foreground`]: Daemonize::foreground
//! [`start`]: Daemonize::start
//! [`start_checked`]: Daemonize::start_checked
//! [`execute`]: Daemonize::execute
//! [`execute_checked`]: Daemonize::execute_checked

#![cfg(unix)]

mod builder;
mod deadline;
mod error;
mod escape;
mod failure;
mod identity;
mod notify;
mod options;
mod outcome;
mod own_fds;
mod pid_file;
mod root;
pub mod stage;
mod start;
mod streams;
mod sys;

/// Compiles the examples of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

pub use builder::Daemonize;
pub use error::{Error, ErrorKind};
pub use identity::{Group, SupplementaryGroups, User};
pub use notify::supervised;
pub use options::Mask;
pub use outcome::{Child, Outcome, Parent};
pub use pid_file::{PidFile, PidFileGuard};
pub use start::Readiness;
pub use streams::Stdio;
