//! `close_inherited_fds` leaves the daemon no descriptor of the launcher's but those it is to keep.

/// Every descriptor is closed, whatever its number and whatever the limits.
mod closing;
/// The descriptors to keep stay as they are, in whatever way they are listed.
mod keeping;
mod setup;
/// The start itself works as it does without the option.
mod start;

tester::modules!(closing, keeping, start);
