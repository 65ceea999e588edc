//! A successful start returns in a daemon, and in the launcher only once that daemon is ready.

/// A closure that an entry point takes may borrow from the caller.
mod borrowing;
/// Every entry point runs the closures in order, once, and drops what they own.
mod closures;
/// When the launcher ends, a service manager finds the daemon and its pid file complete.
mod complete;
/// The daemon is detached, is init's child, and has the documented defaults.
mod daemon;
/// An event queue that fork would share is refused if both processes go on.
mod event_queues;
/// Buffered output is written once, and exit handlers run only in the caller's code.
mod exit;
/// A start within another start is refused wherever its launcher would end the outer daemon.
mod nested;
/// `on_started` runs in the launcher when the daemon is ready.
mod on_started;
/// The daemon survives a parent-death signal, since its parent changes during the start.
mod parent_death;
/// The first process of a pid namespace, whose exit ends the daemon, does not start one.
mod pid_namespaces;
/// The checked entry points refuse other threads, and count them correctly.
mod threads;

tester::modules!(
    borrowing,
    closures,
    complete,
    daemon,
    event_queues,
    exit,
    nested,
    on_started,
    parent_death,
    pid_namespaces,
    threads
);
