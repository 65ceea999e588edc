//! A start that fails reports why, once, in the launcher, and leaves nothing.

/// A daemon that dies before it is ready is reported at once, with its exit status or signal.
mod daemon_exited;
/// If several steps would fail, the launcher reports the earliest.
mod order;
/// The text of a panic reaches the launcher, whatever panic hook the program has.
mod panics;
/// A failed start leaves no zombie.
mod reaping;
/// The launcher reports a failure once; under `execute`, the daemon's side gets the same error.
mod reporting;
/// A process is terminated even if a sandbox refuses pidfd_send_signal(2).
mod sandbox;
/// The text of an error reaches the launcher complete, readable and harmless to a terminal.
mod text;

tester::modules!(
    daemon_exited,
    order,
    panics,
    reaping,
    reporting,
    sandbox,
    text
);
