//! Signals neither disturb a start nor are changed by it, unless `reset_signals` is set.

/// Dispositions are passed on, and the launcher keeps its own.
mod dispositions;
/// A handler of the caller's runs in the daemon only once the library returns to the caller.
mod handlers;
/// A signal to the launcher does not disturb the start.
mod interruption;
/// The daemon and the launcher have the launcher's signal mask.
mod mask;
/// `reset_signals` restores the default dispositions and an empty mask in the daemon alone.
mod reset;
mod setup;
/// Signals of a terminal end a start under way, and do not reach a started daemon.
mod terminal;

tester::modules!(dispositions, handlers, interruption, mask, reset, terminal);
