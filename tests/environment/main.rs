//! The daemon has the environment of its launcher, unless an option changes it.

mod setup;
/// `socket_activation` hands sockets and the watchdog over to the daemon.
mod socket_activation;
/// `user_environment` sets the variables of the daemon's user, and no other.
mod user_environment;

tester::modules!(socket_activation, user_environment);
