//! What an error is about.

use std::path::PathBuf;

use crate::byte_enum::byte_enum;

/// What an error is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Subject {
    Path(PathBuf),
    Name(String),
    LogFile { stream: &'static str, path: PathBuf },
}

byte_enum! {
    /// Where the launcher finds the [`Subject`] of a failure. The subject itself need not
    /// travel, since the launcher knows the options.
    pub(crate) enum SubjectKind {
        None,
        WorkingDirectory,
        PidFile,
        TakenOverPidFile,
        Chroot,
        User,
        Group,
        /// The user, or the group where no user is set.
        Identity,
        NullDevice,
        StandardInput,
        StandardOutput,
        StandardError,
        /// The program that the daemon executes.
        Program,
        /// The log file that is standard output.
        OutputLog,
        ErrorLog,
    }
}
