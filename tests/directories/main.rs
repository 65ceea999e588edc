//! A start creates the directories of its daemon, and trusts only those that others cannot use.

/// A new directory has the owner and the mode of the daemon, and holds its pid file.
mod creation;
/// An existing directory is used if it grants enough and not too much, and is never changed.
mod existing;
/// Root refuses a parent directory in which another user could replace the directory.
mod parent;
/// The place is that of the system for root, and that of the environment for other users.
mod place;
mod setup;
/// Starts at once, killed starts and other users make no directory wrong.
mod simultaneity;

tester::modules!(creation, existing, parent, place, simultaneity);
