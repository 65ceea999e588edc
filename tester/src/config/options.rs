//! The options of the builder.

#![allow(
    missing_debug_implementations,
    reason = "rkyv derives types without it inside a macro"
)]

use std::fs::OpenOptions;
use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use daemonize2::{Daemonize, Group, Stdio, User, supervised};
use rkyv::{Archive, Deserialize, Serialize};

use super::Bytes;
use crate::{control, sys};

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
                foreground(daemonize, foreground: Foreground) => daemonize.foreground(foreground.is_set()),
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

        impl Options {
            /// The builder with every option that is set.
            ///
            /// # Errors
            ///
            /// When the source of a stream cannot be opened.
            pub fn builder(&self) -> io::Result<Daemonize<()>> {
                let mut daemonize = Daemonize::new();
                $(
                    if let Some($value) = &self.$name {
                        let $builder = daemonize;
                        daemonize = $call;
                    }
                )*
                $(
                    if self.$flag {
                        daemonize = daemonize.$flag();
                    }
                )*
                Ok(daemonize)
            }
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

impl Foreground {
    fn is_set(self) -> bool {
        match self {
            Self::Yes => true,
            Self::No => false,
            Self::IfSupervised => supervised(),
        }
    }
}

impl From<&Identity> for User {
    fn from(identity: &Identity) -> Self {
        match identity {
            Identity::Name(name) => name.as_str().into(),
            Identity::Id(id) => (*id).into(),
        }
    }
}

impl From<&Identity> for Group {
    fn from(identity: &Identity) -> Self {
        match identity {
            Identity::Name(name) => name.as_str().into(),
            Identity::Id(id) => (*id).into(),
        }
    }
}

impl From<&SupplementaryGroups> for daemonize2::SupplementaryGroups {
    fn from(groups: &SupplementaryGroups) -> Self {
        match groups {
            SupplementaryGroups::FromDatabase => Self::FromDatabase,
            SupplementaryGroups::Keep => Self::Keep,
            SupplementaryGroups::Only(groups) => {
                Self::Only(groups.iter().map(Group::from).collect())
            }
        }
    }
}

impl Stream {
    fn open(&self) -> io::Result<Stdio> {
        let source = match self {
            Self::DevNull => return Ok(Stdio::devnull()),
            Self::Keep => return Ok(Stdio::keep()),
            Self::File(source) => source,
        };
        let mut options = OpenOptions::new();
        match source.access {
            Access::Read => options.read(true),
            Access::Append => options.append(true).create(true),
            Access::ReadWrite => options.read(true).write(true).create(true),
        };
        let mut fd = OwnedFd::from(options.open(source.path.to_path())?);
        if let Some(number) = source.number {
            fd = sys::move_descriptor(fd, number, true)?;
        }
        Ok(fd.into())
    }
}
