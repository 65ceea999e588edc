//! `spawn` starts another program as the daemon, from a process with any number of threads.

/// A program that cannot be executed, or that ends, fails the start, and leaves nothing.
mod failure;
/// Whichever process dies, and whichever call fails: there is a daemon, or there is nothing.
mod interruption;
/// The options that a program cannot have are refused before any fork.
mod options;
/// The pid file is that of the program, which keeps it locked.
mod pid_file;
/// What the program inherits: arguments, environment, descriptors, signals, identity.
mod program;
mod setup;
/// Other threads of the launcher do not matter.
mod threads;

tester::modules!(failure, interruption, options, pid_file, program, threads);
