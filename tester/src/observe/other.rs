//! The platforms without an observer. The tester compiles there, and reports every case as skipped.

use std::io;

use super::Process;
use crate::report::Report;

pub const EXISTS: bool = false;

pub(super) const IGNORED_BY_DEFAULT: &[i32] = &[];
pub(super) const RESERVED_SIGNALS: &[i32] = &[];

pub const UNSEEN: &[&str] = &[];

pub(super) fn is_seen_outside(_field: &str) -> bool {
    false
}

/// # Errors
///
/// `Unsupported`.
pub fn prepare() -> io::Result<()> {
    missing()
}

/// # Errors
///
/// `Unsupported`.
pub fn inside() -> io::Result<Report> {
    missing()
}

/// # Errors
///
/// `Unsupported`.
pub fn outside(_pid: u32) -> io::Result<Report> {
    missing()
}

/// # Errors
///
/// `Unsupported`.
pub fn enroll(_token: &str) -> io::Result<()> {
    missing()
}

/// # Errors
///
/// `Unsupported`.
pub fn processes_of(_token: &str) -> io::Result<Vec<Process>> {
    missing()
}

/// # Errors
///
/// `Unsupported`.
pub fn process(_pid: u32) -> io::Result<Option<Process>> {
    missing()
}

fn missing<T>() -> io::Result<T> {
    let text = format!("{} has no observer", std::env::consts::OS);
    Err(io::Error::new(io::ErrorKind::Unsupported, text))
}
