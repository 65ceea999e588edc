//! The subject and the harness of daemonize2's tests.
//!
//! The binary `tester` reads a [`config::Config`], brings itself into the
//! state it names, daemonizes itself through the public API of daemonize2 and
//! sends back a [`report::Report`] of what it finds. This library holds both
//! sides of that conversation and what a test needs to judge it:
//!
//! * [`config`]: what the tester is told to do, and from which state.
//! * [`report`]: what it tells.
//! * [`control`]: the socket between the two, which is not under test.
//! * [`observe`]: looking at a process, from inside and from outside.
//! * [`harness`]: runs one case and leaves nothing behind.
//! * [`suite`](mod@suite): declares the cases of a test file and what they
//!   need.
//! * [`crash`]: ends one of the processes in the middle of a start.
//! * [`initial`] and [`subject`]: the tester's own behaviour.
//! * [`sys`]: the only unsafe code.

#![cfg(unix)]

pub mod config;
pub mod control;
pub mod crash;
pub mod harness;
pub mod initial;
pub mod observe;
pub mod report;
pub mod subject;
pub mod suite;
pub mod sys;
pub mod wire;

pub use harness::{Run, Scenario};
pub use suite::{Need, suite};
