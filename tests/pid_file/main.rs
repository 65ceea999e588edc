//! The pid file names the daemon for exactly as long as it runs, and harms no other file.

/// The file contains the pid and a line feed, written when the daemon is ready.
mod content;
/// Many launchers and other users who change the file never make two daemons of one file.
mod contention;
/// Root refuses a directory in which another user could replace the file.
mod directory;
/// A failed start leaves the file empty and unlocked.
mod failure;
/// A file system that is full or read-only is reported.
mod file_system;
/// Only a regular file with one link is opened; a link is never followed.
mod file_type;
/// A `PidFileGuard` removes the file at a clean exit, and only the file that it guards.
mod guard;
/// A daemon that a daemon starts has nothing of the first daemon's file.
mod inheritance;
/// The daemon alone holds the lock, and a second start fails with the running daemon's pid.
mod lock;
/// Neither the group nor other users can write to the file; `pid_file_mode` is exact.
mod mode;
/// `chown_pid_file`, `chown_pid_file_user` and `chown_pid_file_group` change the owner; another user's file is not trusted.
mod owner;
/// The path starts at the working directory, outside a jail; a path that leads nowhere is reported.
mod path;
mod setup;
/// A file that a dead daemon left does not hinder the next start.
mod stale;
/// A successor takes over the pid file of the running daemon when its start is committed, or leaves it alone.
mod upgrade;

tester::modules!(
    content,
    contention,
    directory,
    failure,
    file_system,
    file_type,
    guard,
    inheritance,
    lock,
    mode,
    owner,
    path,
    stale,
    upgrade
);
