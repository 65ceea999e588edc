//! `PidFile` finds, signals and stops the daemon, and no other process.

/// A signal to the process group reaches the workers too, and no process outside the group.
mod group;
/// A process that polls the file fails no start, and sees no invalid content.
mod polling;
/// `running` reports only the process that holds the lock.
mod running;
mod setup;
/// `signal` and `stop` reach the daemon, and `stop` returns when it is gone.
mod signal;
/// `status` and `wait_ready` report what a daemon is doing, to any process that may read the file.
mod status;
/// Root signals no process that another user could have named.
mod trust;

tester::modules!(group, polling, running, signal, status, trust);
