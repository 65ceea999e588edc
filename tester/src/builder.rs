//! The builder of daemonize2, with the options of a case.

use std::fs::OpenOptions;
use std::io;
use std::os::fd::OwnedFd;

use daemonize2::{Capability, Daemonize, Group, Stdio, User, supervised};

use crate::config::{
    Access, Directory, DirectoryPlace, Foreground, Identity, Options, Stream, SupplementaryGroups,
    for_each_option,
};
use crate::{control, sys};

macro_rules! builder_calls {
    (
        values { $($(#[$doc:meta])* $name:ident($builder:ident, $value:ident: $type:ty) => $call:expr,)* }
        flags { $($(#[$flag_doc:meta])* $flag:ident,)* }
    ) => {
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

for_each_option!(builder_calls);

fn capabilities(numbers: &[u8]) -> impl Iterator<Item = Capability> {
    numbers.iter().copied().map(Capability::from)
}

fn is_set(foreground: Foreground) -> bool {
    match foreground {
        Foreground::Yes => true,
        Foreground::No => false,
        Foreground::IfSupervised => supervised(),
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

impl From<&Directory> for daemonize2::Directory {
    fn from(directory: &Directory) -> Self {
        let made = match &directory.place {
            DirectoryPlace::Runtime(name) => Self::runtime(name.to_path()),
            DirectoryPlace::State(name) => Self::state(name.to_path()),
            DirectoryPlace::Logs(name) => Self::logs(name.to_path()),
            DirectoryPlace::At(path) => Self::at(path.to_path()),
        };
        match directory.mode {
            Some(mode) => made.mode(mode),
            None => made,
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
            Self::Log(path) => return Ok(Stdio::append(path.to_path())),
            Self::UntilReady(_) => return Ok(Stdio::keep_until_ready(self.when_ready().open()?)),
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
