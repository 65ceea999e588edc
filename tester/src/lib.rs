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
//! * [`fixtures`]: the set-up and the assertions that several topics share.
//! * [`prelude`]: the names that most tests use.
//! * [`suite`](mod@suite): declares the cases of a test file and what they
//!   need.
//! * [`axes`]: every option and initial state, as named values.
//! * [`covering`]: which combinations of them are tried.
//! * [`model`] and [`predict`]: what must come of each: the oracle.
//! * [`crash`]: sends one of the processes a signal, at a call of its own.
//! * [`fault`]: lets one of the calls fail that a start makes.
//! * [`contest`]: many launchers that contend for one pid file, and who gets in
//!   their way.
//! * [`attack`]: what those do, whichever library it is done to.
//! * [`initial`] and [`subject`]: the tester's own behaviour.
//! * [`sys`]: the only unsafe code.

#![cfg(unix)]

pub mod attack;
pub mod axes;
mod builder;
pub mod config;
pub mod contest;
pub mod control;
pub mod covering;
pub mod fixtures;
pub mod harness;
pub mod initial;
pub mod model;
pub mod observe;
pub mod predict;
pub mod report;
pub mod subject;
pub mod suite;
pub mod sys;
pub mod trace;
pub mod wire;

pub use harness::{Run, Scenario};
pub use suite::{Need, suite};
