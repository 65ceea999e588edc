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
//! ```compile_fail,E0277
//! // Wrong: with `deferred_readiness`, `Readiness::ready_with` has the payload.
//! let daemonize = daemonize2::Daemonize::new()
//!     .ready_payload(|()| "ready")
//!     .deferred_readiness();
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

/// A privileged action, an initialization, a payload or a deferred readiness may follow.
#[derive(Debug)]
pub enum Actions {}

/// Another initialization, a payload or a deferred readiness may follow.
#[derive(Debug)]
pub enum Initialization {}

/// No other closure may follow.
#[derive(Debug)]
pub enum ReadyPayload {}

/// No other closure may follow.
#[derive(Debug)]
pub enum DeferredReadiness {}

/// The stage in which a privileged action may follow.
#[diagnostic::on_unimplemented(
    message = "a privileged action must precede `initialize`, `ready_payload` and `deferred_readiness`",
    label = "this call follows `initialize`, `ready_payload` or `deferred_readiness`",
    note = "set closures in the order in which they run: a privileged action, then `initialize`, then `ready_payload` or `deferred_readiness`"
)]
pub trait BeforeInitialization: sealed::Sealed {}

impl BeforeInitialization for Actions {}

/// The stages in which an initialization, a payload or a deferred readiness may follow.
#[diagnostic::on_unimplemented(
    message = "`initialize` must precede `deferred_readiness` or `ready_payload`, one of which can be set once",
    label = "this call follows `deferred_readiness` or `ready_payload`",
    note = "set closures in the order in which they run: a privileged action, then `initialize`, then `ready_payload` or `deferred_readiness`",
    note = "with `deferred_readiness`, give the payload to `Readiness::ready_with`"
)]
pub trait BeforeReadiness: sealed::Sealed {}

impl BeforeReadiness for Actions {}
impl BeforeReadiness for Initialization {}

mod sealed {
    pub trait Sealed {}
    impl Sealed for super::Actions {}
    impl Sealed for super::Initialization {}
}
