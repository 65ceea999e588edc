//! FreeBSD: system calls and ps(1), whose `-e` shows environments.
//!
//! Neither needs procfs, which is not mounted by default.

pub use super::posix::{OUTSIDE_IS_COMPLETE, enroll, inside, outside, prepare, process};

use super::{Process, posix};

/// The living processes with this token in their environment.
///
/// # Errors
///
/// When ps(1) cannot be run.
pub fn processes_of(token: &str) -> std::io::Result<Vec<Process>> {
    posix::processes_with("-e", token)
}
