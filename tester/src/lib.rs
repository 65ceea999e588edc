//! The subject and the harness of daemonize2's tests.
//!
//! The binary `tester` reads a [`config::Config`], sets up its initial state, daemonizes itself
//! through the public API of daemonize2, and sends back a [`report::Report`]. This library contains
//! both sides, and compares the result with a prediction:
//!
//! * [`config`]: the configuration of the tester, and its initial state.
//! * [`report`]: the reports of the tester.
//! * [`control`]: the socket between tester and harness, which is not under test.
//! * [`observe`]: the view of a process, from inside and from outside.
//! * [`harness`]: runs a case, and leaves nothing behind.
//! * [`fixtures`] and [`prelude`]: set-up, assertions and names that several topics share.
//! * [`slowness`]: the time limits, adapted to the machine that runs the tests.
//! * [`suite`](mod@suite): declares the cases of a test file, and their needs.
//! * [`axes`]: every option and initial state, as named values, and the effect of each on a start.
//! * [`covering`]: the combinations of values that are tried.
//! * [`model`] and [`predict`]: the prediction of the outcome of a start, and the comparison with
//!   the real one.
//! * [`trace`]: makes a call of a start fail, or sends a signal to a process at one of its calls.
//! * [`traced_start`]: a traced start, compared with its prediction.
//! * [`contest`]: many launchers that contend for one pid file, and processes that meddle with it.
//! * [`attack`]: the actions of the meddlers, which work against any library.
//! * [`inspect`]: a check-up of any daemon.
//! * [`initial`] and [`subject`]: the behaviour of the tester.
//! * [`texts`]: reasons of errors, for the model and the tests.
//! * [`sys`]: the only unsafe code.

#![cfg(unix)]
#![allow(
    missing_docs,
    reason = "the package is not published; a comment says what a name does not"
)]

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
pub mod inspect;
pub mod model;
pub mod observe;
pub mod predict;
pub mod prelude;
pub mod report;
pub mod slowness;
pub mod subject;
pub mod suite;
pub mod sys;
pub mod texts;
pub mod trace;
pub mod traced_start;
pub mod wire;

pub use harness::{Run, Scenario};
pub use suite::{Need, suite};
