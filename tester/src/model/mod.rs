//! The model of a start: what exists before it, what the kernel permits, and what the start has
//! done so far.
//!
//! It is written from the documentation, and shares no code with the library.
//! [`InitialFiles`](initial_files::InitialFiles) records what exists before the start. A
//! [`Start`](start::Start) is a [`Report`](crate::report::Report) of the launcher that becomes a
//! report of the daemon, step by step: [`crate::axes`] has the steps, [`crate::predict`] their order.
//!
//! The kernel chooses process ids and the numbers of the descriptors that the library opens, so
//! that the model cannot know them. What a platform cannot tell is `None` in a report, and is not
//! compared.

pub mod databases;
pub mod initial_files;

pub(crate) mod credentials;
pub(crate) mod failure;
pub(crate) mod start;
