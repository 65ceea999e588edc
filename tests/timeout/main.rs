//! `startup_timeout` ends a start that takes too long, whichever process is stuck.

/// A daemon that is late gets SIGTERM, and SIGKILL a second later.
mod daemon;
/// An intermediate that is stuck does not outlast the timeout, and is reaped.
mod intermediate;
mod setup;
/// A process that waits uses no processor time, and a full output does not block the start.
mod waiting;

// The longest cases first.
tester::modules!(intermediate, daemon, waiting);
