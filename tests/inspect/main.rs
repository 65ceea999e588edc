//! `tester inspect` finds what a daemon has done wrong, and nothing else. For each finding, a case
//! makes a daemon with this fault, and another case makes one without.

/// The output, the exit status, and what an ordinary user sees.
mod command;
/// Standard streams and other descriptors.
mod descriptors;
/// The umask, the working directory and the root directory.
mod directories;
/// Environment variables and limits.
mod environment;
/// Users, groups, capabilities and threads.
mod identity;
mod json;
/// The content, the lock and the permissions of a pid file.
mod pid_file;
/// The program, the parent, the session and the terminal.
mod process;
mod setup;
/// The mask and the dispositions.
mod signals;

tester::modules!(
    command,
    descriptors,
    directories,
    environment,
    identity,
    pid_file,
    process,
    signals
);
