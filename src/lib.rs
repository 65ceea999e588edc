//! Run your code as a SysV daemon on Unix, with a launcher that tells the
//! truth.
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
//!     // From here on this is the daemon, as nobody; the launcher has exited.
//!     for client in listener.incoming() {
//!         drop(client);
//!     }
//! }
//! ```
//!
//! # Three promises
//!
//! 1. **A start is acknowledged, or it did not happen.** The launcher returns
//!    success when the daemon has reported that it is ready and the launcher
//!    has acknowledged it; else it returns the one true cause, and nothing is
//!    left: no process, no lock, no content in the pid file. Whichever of the
//!    processes dies, at whatever instant.
//! 2. **Dropped means dropped.** After a change of identity no id, group,
//!    capability or directory of the old one is within reach. That was tried,
//!    not assumed.
//! 3. **What is promised is seen from outside.** Each promise is tested on the
//!    real daemon, by another process.
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
//! | launcher | tell systemd, if it has asked | | | |
//! | | return, or `_exit(0)` | | 15 | yes |
//!
//! The intermediate's steps after setsid are the daemon's, which inherits their
//! effect. The intermediate stays until the start is committed or has
//! failed: it sees the launcher go, and the daemon die. If more than one step
//! would fail, the first in this order is the error; but a failure of the
//! intermediate's between setsid and its fork is reported by the daemon, so that
//! one of that fork, and a time that is up by then, go before it.
//!
//! In the [`foreground`] the same steps are taken by the one process, without
//! the forks and the session. It writes the pid before it changes its identity:
//! from then on `running` names a process that may still be initializing.
//!
//! # Signals during the start
//!
//! All signals are blocked from before the first fork until just before the
//! privileged action, in the intermediate for its whole life: no handler of the
//! launcher's runs there, nor in the daemon before the caller's own code does.
//! From then on the daemon has the launcher's handlers, unless they were reset,
//! until it sets its own. The launcher itself has its mask back while it waits.
//!
//! What arrives in the daemon meanwhile takes effect then: by the action that
//! was inherited, or by the default one after [`reset_signals`]. A daemon that
//! ends of it has not been started: the launcher returns
//! [`ErrorKind::DaemonExited`] with the signal. Ctrl-C in the launcher's
//! terminal reaches neither of the two, for they are in another session; it
//! ends the launcher, and with it the start.
//!
//! # Which entry point do I want?
//!
//! - [`start_checked`]: the launcher exits when the daemon is ready. This is
//!   what a command that starts a service wants.
//! - [`execute_checked`]: the launcher goes on, and learns the daemon's pid.
//!   This is what a program wants that has something to say about the daemon,
//!   or starts one beside its other work.
//! - [`start`], [`execute`]: the same without the check that the process has a
//!   single thread, and therefore unsafe. For platforms that cannot count.
//! - With [`initialize`], what can fail late fails the start.
//! - With [`deferred_readiness`], the daemon itself says when it is ready, or why not
//!   ([`Readiness::serve`]).
//! - With [`foreground`]`(`[`supervised()`](supervised)`)`, the same program
//!   runs under a service manager too.
//!
//! # Threads and async runtimes
//!
//! fork(2) copies one thread. A runtime's other threads do not exist in the
//! daemon, so that a runtime has to be built there, never before: in
//! [`initialize`], so that the launcher hears if it fails, or after the start.
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
//! [`execute_checked`], after which both processes go on, also refuses one that has an
//! event queue which fork(2) shares: the epoll instance of a runtime with a single
//! thread, or an io_uring. Launcher and daemon would take each other's events, which
//! are mostly addresses in the memory of one of them. After [`start_checked`] the
//! daemon has such a queue for itself. In the [`foreground`] nothing forks, and
//! neither is refused.
//!
//! Their answer stays true while the start is under way: a lone thread gains
//! company only through what it does itself, or through unsafe code that was
//! made to do so behind its back, such as a signal handler. macOS's libdispatch
//! is the known limit: frameworks that use it make threads when they like.
//!
//! # What it does not do
//!
//! - Unless told so, by [`close_inherited_fds`] and [`reset_signals`], it does
//!   not close descriptors that the caller has open, nor change signal actions;
//!   and never resource limits, the environment or the locale.
//! - It does not restart a daemon, rotate logs, or watch over it once it is
//!   ready. Where there is a service manager, let that do so.
//! - It does not remove the pid file unless told to, by a [`PidFileGuard`]: the
//!   lock, not the file, says whether the daemon runs. What a dead daemon
//!   leaves is taken over by the next start.
//! - It starts no daemon from pid 1, the main process of a container, whose exit would
//!   end the daemon; nor in another pid namespace than the launcher's. Stay in the
//!   [`foreground`] there.
//! - It does not make a process safe that was unsafe before: what the caller's
//!   closures leave open or running is the caller's.
//!
//! # Platforms
//!
//! Linux, FreeBSD and macOS are supported: see PLATFORMS.md for what was run
//! where. NetBSD, OpenBSD, DragonFly and illumos are best effort; there the
//! checked entry points refuse, since nothing counts threads. On targets other
//! than Unix the crate is empty.
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

pub use builder::Daemonize;
pub use error::{Error, ErrorKind};
pub use identity::{Group, SupplementaryGroups, User};
pub use notify::supervised;
pub use options::Mask;
pub use outcome::{Child, Outcome, Parent};
pub use pid_file::{PidFile, PidFileGuard};
pub use start::Readiness;
pub use streams::Stdio;
