//! The stages of a [`Daemonize`](crate::Daemonize). The calls that set closures must be in the
//! order in which the closures run, and the compiler checks this order.
//!
//! ```compile_fail,E0277
//! // Wrong: a privileged action runs before each initialization.
//! let daemonize = daemonize2::Daemonize::new()
//!     .initialize(|()| Ok::<_, std::io::Error>(()))
//!     .privileged_action(|| ());
//! ```
//!
//! ```compile_fail,E0277
//! // Wrong: `deferred_readiness` follows the last closure.
//! let daemonize = daemonize2::Daemonize::new()
//!     .deferred_readiness()
//!     .initialize(|_| Ok::<_, std::io::Error>(()));
//! ```
//!
//! ```
//! let daemonize = daemonize2::Daemonize::new()
//!     .privileged_action(|| 1)
//!     .initialize(|one| Ok::<_, std::io::Error>(one + 1))
//!     .umask(0o077)
//!     .initialize(|two| Ok::<_, std::io::Error>(two + 1))
//!     .deferred_readiness()
//!     .working_directory("/");
//! ```

/// A privileged action, an initialization or a deferred readiness may follow.
#[derive(Debug)]
pub enum Actions {}

/// Another initialization or a deferred readiness may follow.
#[derive(Debug)]
pub enum Initialization {}

/// No other closure may follow.
#[derive(Debug)]
pub enum DeferredReadiness {}

/// The stage in which a privileged action may follow.
#[diagnostic::on_unimplemented(
    message = "a privileged action must precede `initialize` and `deferred_readiness`",
    label = "this call follows `initialize` or `deferred_readiness`",
    note = "set closures in the order in which they run: a privileged action, then `initialize`, then `deferred_readiness`"
)]
pub trait BeforeInitialization: sealed::Sealed {}

impl BeforeInitialization for Actions {}

/// The stages in which an initialization may follow.
#[diagnostic::on_unimplemented(
    message = "`initialize` must precede `deferred_readiness`, which can be set once",
    label = "this call follows `deferred_readiness`",
    note = "set closures in the order in which they run: a privileged action, then `initialize`, then `deferred_readiness`"
)]
pub trait BeforeReadiness: sealed::Sealed {}

impl BeforeReadiness for Actions {}
impl BeforeReadiness for Initialization {}

mod sealed {
    pub trait Sealed {}
    impl Sealed for super::Actions {}
    impl Sealed for super::Initialization {}
}
