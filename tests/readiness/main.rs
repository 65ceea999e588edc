//! A deferred start is committed when the daemon reports that it is ready.

/// Only the daemon itself can report, not a forked copy of it.
mod copies;
/// A daemon that reports a failure, or drops its readiness, fails the start.
mod fail;
/// A daemon whose launcher is gone does not become ready.
mod launcher;
/// The launcher gets the payload of a report or of a failure, and none that is too long.
mod payload;
/// The launcher returns when `ready` is acknowledged, and not before.
mod ready;

tester::modules!(copies, fail, launcher, payload, ready);
