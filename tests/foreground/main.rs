//! In the foreground, the process itself becomes the daemon, without forks.

/// A failure is returned, and the pid file is cleared.
mod failure;
/// Every other option works as in the background.
mod options;
/// The process keeps its pid, its session and its signals.
mod process;
mod setup;
/// Streams that are not set are kept.
mod streams;

tester::modules!(failure, options, process, streams);
