//! systemd is notified that the daemon is ready, and a failed notification fails no start.

/// A notification that fails is a line on standard error, and delays no start for long.
mod failure;
/// The service manager gets `READY=1`, and from a launcher the daemon's pid.
mod ready;
mod setup;
/// `supervised` is true only if the address is meant for this process.
mod supervised;

tester::modules!(failure, ready, supervised);
