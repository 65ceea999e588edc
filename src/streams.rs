//! The standard streams.

use std::fs::File;
use std::mem;
use std::os::fd::{AsFd as _, AsRawFd as _, IntoRawFd as _, OwnedFd, RawFd};

use crate::error::{ErrorKind, SubjectKind};
use crate::failure::Failure;
use crate::sys::{self, Open};

/// What a standard stream of the daemon refers to.
#[derive(Debug)]
pub struct Stdio(Source);

#[derive(Debug)]
enum Source {
    Devnull,
    Keep,
    Descriptor(OwnedFd),
}

impl Stdio {
    /// `/dev/null`: reads return the end of file, writes are discarded.
    ///
    /// The start fails with [`ErrorKind::OpenDevnull`] if `/dev/null` is not the null
    /// device, but for example a regular file.
    #[must_use]
    pub fn devnull() -> Self {
        Self(Source::Devnull)
    }

    /// The stream of the launcher. If it is closed, the stream is `/dev/null`: otherwise the next
    /// opened file would get its number.
    #[must_use]
    pub fn keep() -> Self {
        Self(Source::Keep)
    }

    pub(crate) fn is_devnull(&self) -> bool {
        matches!(self.0, Source::Devnull)
    }

    /// The number of the descriptor that becomes the stream.
    pub(crate) fn source(&self) -> Option<RawFd> {
        match &self.0 {
            Source::Descriptor(descriptor) => Some(descriptor.as_raw_fd()),
            Source::Devnull | Source::Keep => None,
        }
    }
}

impl From<File> for Stdio {
    fn from(file: File) -> Self {
        Self(Source::Descriptor(file.into()))
    }
}

impl From<OwnedFd> for Stdio {
    fn from(descriptor: OwnedFd) -> Self {
        Self(Source::Descriptor(descriptor))
    }
}

/// The three streams in the order of their numbers; `None` if the caller has not set one.
pub(crate) type Streams = [Option<Stdio>; 3];

const NUMBERS: [RawFd; 3] = [0, 1, 2];
const SUBJECTS: [SubjectKind; 3] = [
    SubjectKind::StandardInput,
    SubjectKind::StandardOutput,
    SubjectKind::StandardError,
];

/// Redirects descriptors 0, 1 and 2 as configured, or as `unset` says, and closes the
/// sources. The descriptors may be closed before, and may be sources themselves.
/// Async-signal-safe.
pub(crate) fn redirect(streams: Streams, unset: fn() -> Stdio) -> Result<(), Failure> {
    let failed = |index: usize, errno| {
        Failure::from(ErrorKind::RedirectStreams(errno)).with_subject(SUBJECTS[index])
    };

    // First, sources numbered 0 to 2 get other numbers. Otherwise they could be overwritten
    // before they are used.
    let mut sources = streams.map(|stream| stream.unwrap_or_else(unset).0);
    let mut null_device = None;
    for (index, source) in sources.iter_mut().enumerate() {
        *source = match mem::replace(source, Source::Keep) {
            Source::Descriptor(source) => Source::Descriptor(
                move_above_streams(source).map_err(|errno| failed(index, errno))?,
            ),
            Source::Keep if sys::is_open(NUMBERS[index]) => Source::Keep,
            Source::Keep | Source::Devnull => {
                if null_device.is_none() {
                    null_device = Some(open_null_device()?);
                }
                Source::Devnull
            }
        };
    }
    for (index, source) in sources.iter().enumerate() {
        let descriptor = match source {
            Source::Keep => None,
            Source::Devnull => null_device.as_ref(),
            Source::Descriptor(source) => Some(source),
        };
        match descriptor {
            Some(descriptor) => sys::dup2(descriptor.as_fd(), NUMBERS[index]),
            None => sys::clear_cloexec(NUMBERS[index]),
        }
        .map_err(|errno| failed(index, errno))?;
    }
    match null_device.map(sys::close) {
        Some(Err(errno)) => Err(Failure::from(ErrorKind::CloseDevnull(errno))),
        _ => Ok(()),
    }
}

/// The source as a descriptor that is no standard stream. If it was one, its number stays
/// open and belongs to the stream.
fn move_above_streams(source: OwnedFd) -> Result<OwnedFd, sys::Errno> {
    if source.as_raw_fd() > 2 {
        return Ok(source);
    }
    sys::dup_above_streams(source.into_raw_fd())
}

/// Like daemon(3), refuses another file of that name. In a broken image or root directory it
/// may be a regular file, which the output of the daemon would fill.
fn open_null_device() -> Result<OwnedFd, Failure> {
    let failed = |errno| Failure::from(ErrorKind::OpenDevnull(errno));
    let opened = sys::openat(sys::WORKING_DIRECTORY, c"/dev/null", Open::Plain).map_err(failed)?;
    let status = sys::fstat(opened.as_fd()).map_err(failed)?;
    if sys::is_null_device(&status) {
        Ok(opened)
    } else {
        Err(failed(sys::errno::ENODEV).with_reason("it is not the null device"))
    }
}
