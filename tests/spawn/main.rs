//! `spawn` starts another program as the daemon, from a process with any number of threads.

/// If a program cannot be executed, the start fails and leaves nothing. A program that ends at once
/// was started, or the start fails.
mod failure;
/// The launcher waits until the program writes a line to a descriptor.
mod notification_fd;
/// The launcher waits until the program sends `READY=1`, as sd_notify(3) does.
mod notify_socket;
/// The options that a program cannot have are refused before any fork.
mod options;
/// The pid file belongs to the program, which keeps it locked.
mod pid_file;
/// What the program inherits: arguments, environment, descriptors, signals, identity.
mod program;
mod setup;
/// Other threads of the launcher do not matter.
mod threads;

tester::modules!(
    notify_socket,
    notification_fd,
    failure,
    options,
    pid_file,
    program,
    threads,
);
