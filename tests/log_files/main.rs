//! The daemon appends its output to log files, and opens them again after a rotation.

/// How a log file is opened, and which files are refused.
mod opening;
/// Who may own the file and its directory, and to whom a new file belongs.
mod owner;
/// A log file that was renamed is opened again, and no line is lost.
mod reopening;
mod setup;

tester::modules!(opening, owner, reopening);
