//! After chroot, the daemon is inside its new root, and nothing leads outside.

/// `chroot` enters the new root, or its failure is reported.
mod chroot;
/// No path and no descriptor leads out of the jail.
mod confinement;
mod setup;
/// A working directory inside the new root is kept; any other becomes the new root.
mod working_directory;

tester::modules!(chroot, confinement, working_directory);
