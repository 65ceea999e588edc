//! `PidFile` finds, signals and stops the daemon, and no other process.

/// A process that polls the file fails no start, and sees no invalid content.
mod polling;
/// `running` reports only the process that holds the lock.
mod running;
/// `signal` and `stop` reach the daemon, and `stop` returns when it is gone.
mod signal;
/// Root signals no process that another user could have named.
mod trust;

tester::modules!(polling, running, signal, trust);
