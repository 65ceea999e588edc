//! The options of the builder.

#![allow(
    missing_debug_implementations,
    reason = "rkyv derives types without it inside a macro"
)]

use std::time::Duration;

use rkyv::{Archive, Deserialize, Serialize};

use super::Bytes;

/// The one declaration of each option. A row makes the field of [`Options`], the method of
/// [`Scenario`](crate::Scenario) and the call of the builder. A flag is an option without a value.
macro_rules! for_each_option {
    ($use:ident) => {
        $use! {
            values {
                /// `pid_file`; a relative path is in the case's directory.
                pid_file(daemonize, path: Bytes) => daemonize.pid_file(path.to_path()),
                upgrade(daemonize, upgrade: bool) => daemonize.upgrade(*upgrade),
                pid_file_mode(daemonize, mode: u32) => daemonize.pid_file_mode(*mode),
                chown_pid_file_user(daemonize, user: Identity) => daemonize.chown_pid_file_user(user),
                chown_pid_file_group(daemonize, group: Identity) => daemonize.chown_pid_file_group(group),
                /// `directory`, called for each of them
                directories(daemonize, directories: Vec<Directory>) =>
                    directories.iter().fold(daemonize, Daemonize::directory),
                working_directory(daemonize, path: Bytes) => daemonize.working_directory(path.to_path()),
                user(daemonize, user: Identity) => daemonize.user(user),
                group(daemonize, group: Identity) => daemonize.group(group),
                umask(daemonize, mask: u32) => daemonize.umask(*mask),
                chroot(daemonize, path: Bytes) => daemonize.chroot(path.to_path()),
                stdin(daemonize, stream: Stream) => daemonize.stdin(stream.open()?),
                stdout(daemonize, stream: Stream) => daemonize.stdout(stream.open()?),
                stderr(daemonize, stream: Stream) => daemonize.stderr(stream.open()?),
                supplementary_groups(daemonize, groups: SupplementaryGroups) => daemonize.supplementary_groups(groups.into()),
                /// `keep_capabilities`, by number
                keep_capabilities(daemonize, numbers: Vec<u8>) => daemonize.keep_capabilities(capabilities(numbers)),
                /// `ambient_capabilities`, by number
                ambient_capabilities(daemonize, numbers: Vec<u8>) => daemonize.ambient_capabilities(capabilities(numbers)),
                /// `close_inherited_fds`, which keeps these and the descriptors of the tester
                close_inherited_fds(daemonize, keep: Vec<i32>) => sys::close_inherited_fds(
                    daemonize,
                    &keep.iter().copied().chain(control::RESERVED).collect::<Vec<_>>(),
                ),
                startup_timeout(daemonize, timeout: Duration) => daemonize.startup_timeout(*timeout),
                foreground(daemonize, foreground: Foreground) => daemonize.foreground(is_set(*foreground)),
            }
            flags {
                chown_pid_file,
                no_new_privileges,
                dumpable,
                user_environment,
                socket_activation,
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
        /// The options of the builder. The builder is not called for an option that is not set.
        #[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq, Default)]
        pub struct Options {
            $($(#[$doc])* pub $name: Option<$type>,)*
            $($(#[$flag_doc])* pub $flag: bool,)*
        }

    };
}

for_each_option!(declare_options);

#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Foreground {
    Yes,
    No,
    /// The result of `supervised()`.
    IfSupervised,
}

#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub enum Identity {
    Name(String),
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

#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct Directory {
    pub place: DirectoryPlace,
    pub mode: Option<u32>,
}

/// A directory by its name, or by its path.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub enum DirectoryPlace {
    Runtime(Bytes),
    State(Bytes),
    Logs(Bytes),
    At(Bytes),
}

impl Directory {
    /// A directory at an absolute path.
    pub fn at(path: impl Into<Bytes>) -> Self {
        Self::in_place(DirectoryPlace::At(path.into()))
    }

    pub fn in_place(place: DirectoryPlace) -> Self {
        Self { place, mode: None }
    }

    #[must_use]
    pub fn mode(mut self, mode: u32) -> Self {
        self.mode = Some(mode);
        self
    }
}

#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub enum SupplementaryGroups {
    FromDatabase,
    Keep,
    Only(Vec<Identity>),
}

#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub enum Stream {
    DevNull,
    Keep,
    /// A file that the tester opens.
    File(FileSource),
    /// A log file that the library opens.
    Log(Bytes),
    UntilReady(Then),
}

/// What a stream becomes that is kept until the daemon is ready.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub enum Then {
    DevNull,
    Keep,
    File(FileSource),
    Log(Bytes),
}

/// A file that becomes a standard stream.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct FileSource {
    pub path: Bytes,
    pub access: Access,
    /// The descriptor that the file is moved to, for sources in the way of each other; otherwise
    /// the lowest free one.
    pub number: Option<i32>,
}

impl Stream {
    /// A file with this access mode.
    pub fn file(path: impl Into<Bytes>, access: Access) -> Self {
        Self::File(FileSource {
            path: path.into(),
            access,
            number: None,
        })
    }

    /// A file that is created if it does not exist, and appended to.
    pub fn append(path: impl Into<Bytes>) -> Self {
        Self::file(path, Access::Append)
    }

    /// A file for reading.
    pub fn read(path: impl Into<Bytes>) -> Self {
        Self::file(path, Access::Read)
    }

    /// A log file that the library opens.
    pub fn log(path: impl Into<Bytes>) -> Self {
        Self::Log(path.into())
    }

    /// The stream of the launcher until the daemon is ready, then this stream.
    #[must_use]
    pub fn until_ready(self) -> Self {
        Self::UntilReady(match self {
            Self::DevNull => Then::DevNull,
            Self::Keep => Then::Keep,
            Self::File(source) => Then::File(source),
            Self::Log(path) => Then::Log(path),
            Self::UntilReady(then) => then,
        })
    }

    /// Moves the source to the descriptor `number`.
    #[must_use]
    pub fn at(mut self, number: i32) -> Self {
        if let Self::File(source) | Self::UntilReady(Then::File(source)) = &mut self {
            source.number = Some(number);
        }
        self
    }

    /// What the stream is in the end.
    pub(crate) fn when_ready(&self) -> Self {
        match self {
            Self::UntilReady(Then::DevNull) => Self::DevNull,
            Self::UntilReady(Then::Keep) => Self::Keep,
            Self::UntilReady(Then::File(source)) => Self::File(source.clone()),
            Self::UntilReady(Then::Log(path)) => Self::Log(path.clone()),
            other => other.clone(),
        }
    }
}

#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    Read,
    /// For writing at its end; created if it does not exist.
    Append,
    /// For both; created if it does not exist.
    ReadWrite,
}
