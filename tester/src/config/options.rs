//! The options of the builder.

#![allow(
    missing_debug_implementations,
    reason = "rkyv derives types without it inside a macro"
)]

use std::time::Duration;

use rkyv::{Archive, Deserialize, Serialize};

use super::Bytes;

/// The one declaration of each option. A row makes the field of [`Options`], the method of
/// [`Scenario`](crate::Scenario) and the call of the builder, in this order. A flag is an option
/// without a value.
macro_rules! for_each_option {
    ($use:ident) => {
        $use! {
            values {
                /// `pid_file`; a relative path is in the case's directory.
                pid_file(daemonize, path: Bytes) => daemonize.pid_file(path.to_path()),
                /// `chown_pid_file_user`
                chown_pid_file_user(daemonize, user: Identity) => daemonize.chown_pid_file_user(user),
                /// `chown_pid_file_group`
                chown_pid_file_group(daemonize, group: Identity) => daemonize.chown_pid_file_group(group),
                /// `working_directory`
                working_directory(daemonize, path: Bytes) => daemonize.working_directory(path.to_path()),
                /// `user`
                user(daemonize, user: Identity) => daemonize.user(user),
                /// `group`
                group(daemonize, group: Identity) => daemonize.group(group),
                /// `umask`
                umask(daemonize, mask: u32) => daemonize.umask(*mask),
                /// `chroot`
                chroot(daemonize, path: Bytes) => daemonize.chroot(path.to_path()),
                /// `stdin`
                stdin(daemonize, stream: Stream) => daemonize.stdin(stream.open()?),
                /// `stdout`
                stdout(daemonize, stream: Stream) => daemonize.stdout(stream.open()?),
                /// `stderr`
                stderr(daemonize, stream: Stream) => daemonize.stderr(stream.open()?),
                /// `supplementary_groups`
                supplementary_groups(daemonize, groups: SupplementaryGroups) => daemonize.supplementary_groups(groups.into()),
                /// `close_inherited_fds`, with these to be kept, beside what the tester needs to report
                close_inherited_fds(daemonize, keep: Vec<i32>) => sys::close_inherited_fds(
                    daemonize,
                    &keep.iter().copied().chain(control::RESERVED).collect::<Vec<_>>(),
                ),
                /// `startup_timeout`
                startup_timeout(daemonize, timeout: Duration) => daemonize.startup_timeout(*timeout),
                /// `foreground`
                foreground(daemonize, foreground: Foreground) => daemonize.foreground(is_set(*foreground)),
            }
            flags {
                /// `no_new_privileges`
                no_new_privileges,
                /// `reset_signals`
                reset_signals,
            }
        }
    };
}

pub(crate) use for_each_option;

macro_rules! declare_options {
    (
        values { $($(#[$doc:meta])* $name:ident($builder:ident, $value:ident: $type:ty) => $call:expr,)* }
        flags { $($(#[$flag_doc:meta])* $flag:ident,)* }
    ) => {
        /// The options that the builder takes. An option that is not set is not called.
        #[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq, Default)]
        pub struct Options {
            $($(#[$doc])* pub $name: Option<$type>,)*
            $($(#[$flag_doc])* pub $flag: bool,)*
        }

    };
}

for_each_option!(declare_options);

/// What `foreground` is given.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Foreground {
    /// True.
    Yes,
    /// False.
    No,
    /// What `supervised()` says.
    IfSupervised,
}

/// A user or a group, as the caller may name it.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub enum Identity {
    /// By name.
    Name(String),
    /// By number.
    Id(u32),
}

impl From<&str> for Identity {
    fn from(name: &str) -> Self {
        Self::Name(name.to_owned())
    }
}

impl From<u32> for Identity {
    fn from(id: u32) -> Self {
        Self::Id(id)
    }
}

/// What becomes of the supplementary groups.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub enum SupplementaryGroups {
    /// `FromDatabase`
    FromDatabase,
    /// `Keep`
    Keep,
    /// `Only`
    Only(Vec<Identity>),
}

/// A standard stream of the daemon.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub enum Stream {
    /// `Stdio::devnull()`
    DevNull,
    /// `Stdio::keep()`
    Keep,
    /// A file that the tester opens and passes on.
    File(FileSource),
}

/// A file that becomes a standard stream.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct FileSource {
    /// Its path.
    pub path: Bytes,
    /// How it is opened.
    pub access: Access,
    /// The descriptor it is moved to first, for sources that stand in each
    /// other's way. Otherwise the lowest one free.
    pub number: Option<i32>,
}

impl Stream {
    /// A file, opened like this.
    pub fn file(path: impl Into<Bytes>, access: Access) -> Self {
        Self::File(FileSource {
            path: path.into(),
            access,
            number: None,
        })
    }

    /// A file that is created if need be and appended to.
    pub fn append(path: impl Into<Bytes>) -> Self {
        Self::file(path, Access::Append)
    }

    /// A file that is read from.
    pub fn read(path: impl Into<Bytes>) -> Self {
        Self::file(path, Access::Read)
    }

    /// The same, from the descriptor `number`.
    #[must_use]
    pub fn at(mut self, number: i32) -> Self {
        if let Self::File(source) = &mut self {
            source.number = Some(number);
        }
        self
    }
}

/// How a file is opened.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// For reading.
    Read,
    /// For writing at its end; created if absent.
    Append,
    /// For both; created if absent.
    ReadWrite,
}
