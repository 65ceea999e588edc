//! The redirection of the standard streams.

use std::mem;
use std::os::fd::{AsFd as _, AsRawFd as _, IntoRawFd as _, OwnedFd};

use super::pending::{PendingStream, PendingStreams};
use super::{LOG_SUBJECTS, NUMBERS, Source, Stdio, StreamsPlan, redirect_failed, reopen};
use crate::error::ErrorKind;
use crate::failure::Failure;
use crate::sys::{self, Errno, Open};

/// The state of the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Before {
    Succeeded,
    /// The launcher reports the failure. The daemon writes to no terminal and no log file.
    Failed,
}

/// What a stream becomes.
enum Target {
    Keep,
    Null,
    Descriptor(OwnedFd),
}

/// Redirects the streams of a daemon that was forked. Async-signal-safe.
///
/// The streams are redirected after a failure too: the launcher prints the failure on its
/// terminal, and the daemon must not print it there again.
pub(crate) fn redirect_forked(
    plan: &mut StreamsPlan,
    before: Before,
) -> Result<PendingStreams, Failure> {
    let redirected = redirect(plan, Stdio::devnull, before);
    if let Err(failure) = &redirected {
        if let ErrorKind::OpenLogFile(_) | ErrorKind::ChownLogFile(_) = failure.kind {
            let _ = redirect(plan, Stdio::devnull, Before::Failed);
        }
    }
    redirected
}

/// Redirects descriptors 0, 1 and 2 as planned, or as `unset` says, and closes the sources. The
/// descriptors may be closed before, and may be sources themselves. Returns what the streams
/// become that are kept until the daemon is ready. Async-signal-safe.
pub(crate) fn redirect(
    plan: &mut StreamsPlan,
    unset: fn() -> Stdio,
    before: Before,
) -> Result<PendingStreams, Failure> {
    // If a log file cannot be opened, the sources are still where they were.
    let mut logs = open_logs(plan, before)?;
    // Then, sources numbered 0 to 2 get other numbers. Otherwise they could be overwritten before
    // they are used.
    let mut targets = [Target::Keep, Target::Keep, Target::Keep];
    let mut pending = PendingStreams::default();
    let mut null_device = None;
    for (index, target) in targets.iter_mut().enumerate() {
        *target = match logs[index].take() {
            Some(log) => Target::Descriptor(log),
            None => take_target(plan, index, unset)?,
        };
        if matches!(target, Target::Null) && null_device.is_none() {
            null_device = Some(open_null_device()?);
        }
        if plan.is_kept_until_ready(index) && before == Before::Succeeded {
            let until_ready = keep(index, &mut null_device)?;
            pending.0[index] = match (mem::replace(target, until_ready), &null_device) {
                (Target::Descriptor(then), _) => Some(then),
                (Target::Null, Some(null)) => Some(
                    sys::dup_above_streams(null.as_raw_fd())
                        .map_err(|errno| redirect_failed(index, errno))?,
                ),
                _ => None,
            }
            .map(PendingStream::new);
        }
    }
    for (index, target) in targets.iter().enumerate() {
        let descriptor = match target {
            Target::Keep => None,
            Target::Null => null_device.as_ref(),
            Target::Descriptor(descriptor) => Some(descriptor),
        };
        match descriptor {
            Some(descriptor) => sys::dup2(descriptor.as_fd(), NUMBERS[index]),
            None => sys::clear_cloexec(NUMBERS[index]),
        }
        .map_err(|errno| redirect_failed(index, errno))?;
        plan.former_logs[index] = match (&pending.0[index], before) {
            (Some(_), _) => reopen::set_pending(index, plan.logs[index].take()),
            (None, _) if descriptor.is_none() => None,
            (None, Before::Succeeded) => reopen::set(index, plan.logs[index].take()),
            (None, Before::Failed) => reopen::set(index, None),
        };
    }
    match null_device.map(sys::close) {
        Some(Err(errno)) => Err(Failure::from(ErrorKind::CloseDevnull(errno))),
        _ => Ok(pending),
    }
}

/// What a stream is that is kept: if it is closed, the null device.
fn keep(index: usize, null_device: &mut Option<OwnedFd>) -> Result<Target, Failure> {
    if sys::is_open(NUMBERS[index]) {
        return Ok(Target::Keep);
    }
    if null_device.is_none() {
        *null_device = Some(open_null_device()?);
    }
    Ok(Target::Null)
}

/// Opens the log files, unless the start has failed before.
fn open_logs(plan: &StreamsPlan, before: Before) -> Result<[Option<OwnedFd>; 3], Failure> {
    let mut opened = [None, None, None];
    if before == Before::Succeeded {
        for (index, log) in plan.logs.iter().enumerate() {
            if let Some(log) = log {
                let file = log.file.open();
                opened[index] =
                    Some(file.map_err(|failure| failure.with_subject(LOG_SUBJECTS[index]))?);
            }
        }
    }
    Ok(opened)
}

/// Takes what a stream becomes that is no log file.
fn take_target(
    plan: &mut StreamsPlan,
    index: usize,
    unset: fn() -> Stdio,
) -> Result<Target, Failure> {
    let source = &mut plan.streams[index].get_or_insert_with(unset).source;
    match source {
        Source::Keep if sys::is_open(NUMBERS[index]) => Ok(Target::Keep),
        Source::Keep | Source::Devnull | Source::Append(_) => Ok(Target::Null),
        Source::Descriptor(_) => match mem::replace(source, Source::Keep) {
            Source::Descriptor(descriptor) => move_above_streams(descriptor)
                .map(Target::Descriptor)
                .map_err(|errno| redirect_failed(index, errno)),
            _ => Ok(Target::Keep),
        },
    }
}

/// The source as a descriptor that is no standard stream. If it was one, its number stays
/// open and belongs to the stream.
fn move_above_streams(source: OwnedFd) -> Result<OwnedFd, Errno> {
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
