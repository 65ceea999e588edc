//! Runs one case: starts the tester, records its messages, judges it from outside, and leaves
//! nothing behind.
//!
//! ```no_run
//! // In a test it is `scenario!()`, which finds the tester by itself.
//! let scenario = tester::Scenario::new("path/to/tester");
//! let run = scenario.pid_file("daemon.pid").umask(0o022_u32).start();
//! let daemon = run.assert_views_agree();
//! assert_eq!(daemon.umask, Some(0o022));
//! assert_eq!(
//!     run.launcher().pid_file.unwrap().bytes,
//!     format!("{}\n", daemon.pid).into_bytes()
//! );
//! ```
//!
//! Every wait is for an event (a message, the end of a process, the end of the control socket) and
//! has a deadline. If the deadline passes, or if the event can no longer come, the test panics with
//! the diagnostics. The harness also panics if it cannot do what a method says. However a test
//! ends, no process of its case outlives its [`Run`].

mod case;
mod command;
mod contest;
mod files;
mod journal;
mod judge;
mod kill;
mod manager;
mod outcome;
mod pid_file;
mod run;
mod scenario;
mod threads;
mod wait;

pub use contest::{Contest, Contested};
pub use files::{Files, SeenFile};
pub use journal::Launcher;
pub use manager::FakeServiceManager;
pub use outcome::Outcome;
pub use pid_file::PidFile;
pub use run::Run;
pub use scenario::{BINARY, Scenario, binary};
pub use threads::{at_once, catch, in_parallel, mount, sweep, while_repeating, with_own_mounts};
