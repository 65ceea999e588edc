//! Standard streams end up as configured, whatever was open before.

/// A stream that was closed before the start becomes the null device or its file.
mod closed;
/// A null device that is something else is refused.
mod null_device;
/// Each stream becomes the null device, a file, or is kept.
mod options;
/// No other descriptor takes the place of a stream, or is left.
mod others;
mod setup;
/// The source of a stream may itself be a standard stream, or take the place of a closed one.
mod sources;
/// A stream may stay the launcher's until the daemon is ready.
mod until_ready;

tester::modules!(closed, null_device, options, others, sources, until_ready);
