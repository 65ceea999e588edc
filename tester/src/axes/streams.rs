//! `stdin`, `stdout` and `stderr`

use std::os::unix::fs::MetadataExt;

use super::{Axis, Choice};
use crate::config::{Access, Stream};
use crate::model::databases::Databases;
use crate::model::start::{Opened, Start};
use crate::report::{AccessMode, Descriptor, FileType};

axis! {
    Input |stage| stage.config.options.stdin => {
        Unset => None;
        DevNull => Some(Stream::DevNull);
        Keep => Some(Stream::Keep);
        File => stage.stream("stdin", Access::Read, 20);
        /// A file whose descriptor is that of standard output.
        FromOutput => stage.stream("stdin", Access::Read, 1);
        /// A file whose descriptor is that of standard input already.
        FromInput => stage.stream("stdin", Access::Read, 0);
    }
}

axis! {
    Output |stage| stage.config.options.stdout => {
        Unset => None;
        DevNull => Some(Stream::DevNull);
        Keep => Some(Stream::Keep);
        File => stage.stream("stdout", Access::Append, 21);
        /// A file whose descriptor is that of standard error.
        FromError => stage.stream("stdout", Access::Append, 2);
    }
}

axis! {
    Errors |stage| stage.config.options.stderr => {
        Unset => None;
        DevNull => Some(Stream::DevNull);
        Keep => Some(Stream::Keep);
        File => stage.stream("stderr", Access::ReadWrite, 22);
        /// A file whose descriptor is that of standard input.
        FromInput => stage.stream("stderr", Access::ReadWrite, 0);
    }
}

impl Axis for Input {}

impl Axis for Output {}

impl Axis for Errors {
    fn contradiction(self, other: &Choice, _databases: &Databases) -> Option<&'static str> {
        (self == Self::FromInput && other.stdin == Some(Input::FromInput))
            .then_some("a descriptor has one owner")
    }
}

impl Start<'_> {
    /// Closes the sources, and leaves 0, 1 and 2 as configured.
    pub(crate) fn redirect(&mut self) {
        let Some(before) = &self.process.descriptors else {
            return;
        };
        let streams = [
            &self.options.stdin,
            &self.options.stdout,
            &self.options.stderr,
        ];
        let unset = match self.is_foreground() {
            true => Stream::Keep,
            false => Stream::DevNull,
        };
        let mut after = Vec::new();
        for (index, number) in (0..3).enumerate() {
            let kept = before.iter().find(|found| found.number == number);
            let stream = match (streams[index].as_ref().unwrap_or(&unset), kept) {
                (Stream::File(_), _) => self.source(index).cloned().expect("opened beforehand"),
                (Stream::Keep, Some(kept)) => kept.clone(),
                (Stream::Keep | Stream::DevNull, _) => self.null_device(),
            };
            after.push(Descriptor {
                number,
                close_on_exec: false,
                ..stream
            });
        }
        let others = before.iter();
        let others = others.filter(|found| found.number > 2 && !self.is_source(found));
        after.extend(others.cloned());
        self.process.descriptors = Some(after);
        self.is_redirected = true;
        if self.is_foreground() && self.initial_files.is_notified {
            // The socket of the service manager.
            self.opened.push(Opened::Channel);
        }
    }

    pub(crate) fn null_device(&self) -> Descriptor {
        let null = self
            .initial_files
            .null_device
            .as_ref()
            .expect("/dev/null is there");
        Descriptor {
            number: -1,
            device: null.dev(),
            inode: null.ino(),
            file_type: FileType::CharacterDevice,
            special_device: null.rdev(),
            access: AccessMode::ReadWrite,
            close_on_exec: false,
            nonblocking: false,
            append: false,
            locked: cfg!(target_os = "linux").then_some(false),
            target: None,
        }
    }
}
