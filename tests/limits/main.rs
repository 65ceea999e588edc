//! A start that meets a resource limit fails with the limit as its cause, and leaves nothing.

/// RLIMIT_NOFILE stops a descriptor from being opened.
mod descriptors;
/// RLIMIT_FSIZE stops the pid from being written, and kills no process.
mod file_size;
/// RLIMIT_NPROC stops either fork.
mod processes;

tester::modules!(descriptors, file_size, processes);
