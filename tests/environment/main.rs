//! The daemon has the environment of its launcher, unless an option changes it.

mod setup;
/// `user_environment` sets the variables of the daemon's user, and no other.
mod user_environment;

tester::modules!(user_environment);
