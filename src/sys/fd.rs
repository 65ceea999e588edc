//! Descriptors by number: duplicate, close, flags.
//!
//! Every descriptor that the library makes is close-on-exec from birth and numbered 3 or
//! higher. It therefore never takes the place of a standard stream that is closed.

use std::iter;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, IntoRawFd as _, OwnedFd, RawFd};

use super::{Errno, cvt, retry_on_eintr};

const FIRST_AFTER_STREAMS: RawFd = 3;

/// Moves a descriptor of the library to 3 or higher if it has the number of a
/// closed standard stream. Async-signal-safe.
pub(super) fn move_above_streams(descriptor: OwnedFd) -> Result<OwnedFd, Errno> {
    if descriptor.as_raw_fd() >= FIRST_AFTER_STREAMS {
        Ok(descriptor)
    } else {
        dup_above_streams(descriptor.as_raw_fd())
    }
}

/// fcntl(2) `F_DUPFD_CLOEXEC`: a second descriptor for the same open file,
/// numbered 3 or higher. Async-signal-safe.
pub(crate) fn dup_above_streams(descriptor: RawFd) -> Result<OwnedFd, Errno> {
    // SAFETY: fcntl checks the number; F_DUPFD_CLOEXEC takes an int.
    let copy = cvt(unsafe { libc::fcntl(descriptor, libc::F_DUPFD_CLOEXEC, FIRST_AFTER_STREAMS) })?;
    // SAFETY: fcntl has just made the descriptor, so that nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(copy) })
}

/// pipe(2), in a process with a single thread: the end to read from, which does not wait, and the
/// end to write to. Async-signal-safe.
pub(crate) fn pipe() -> Result<(OwnedFd, OwnedFd), Errno> {
    let mut ends = [-1; 2];
    // SAFETY: `ends` is valid for writes of two descriptors.
    cvt(unsafe { libc::pipe(ends.as_mut_ptr()) })?;
    // SAFETY: pipe has just made the descriptor, so that nothing else owns it.
    let [read, write] = ends.map(|end| unsafe { OwnedFd::from_raw_fd(end) });
    let (read, write) = (move_above_streams(read)?, move_above_streams(write)?);
    for end in [&read, &write] {
        fcntl_setfd(end.as_raw_fd(), libc::FD_CLOEXEC)?;
    }
    // SAFETY: F_SETFL takes an int and changes only the flags of the new pipe.
    cvt(unsafe { libc::fcntl(read.as_raw_fd(), libc::F_SETFL, libc::O_NONBLOCK) })?;
    Ok((read, write))
}

/// read(2). Async-signal-safe.
pub(crate) fn read(descriptor: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<usize, Errno> {
    let start = buffer.as_mut_ptr().cast();
    // SAFETY: `buffer` is valid for writes of its length.
    retry_on_eintr(|| unsafe { libc::read(descriptor.as_raw_fd(), start, buffer.len()) })
        .map(|read| read as usize)
}

/// Gives a descriptor another number if it has this one. Async-signal-safe.
pub(crate) fn vacate(descriptor: &mut OwnedFd, number: RawFd) -> Result<(), Errno> {
    if descriptor.as_raw_fd() == number {
        *descriptor = dup_above_streams(number)?;
    }
    Ok(())
}

/// dup2(2) onto a number that no value uses or closes any more: a standard stream, or a number
/// for execve(2). The new descriptor stays open across execve(2). Async-signal-safe.
pub(crate) fn dup2(source: BorrowedFd<'_>, number: RawFd) -> Result<(), Errno> {
    loop {
        // SAFETY: `source` is open; the number of a standard stream belongs to the process, not
        // to a value in it. Before execve(2), all values that are still used were asked to
        // `vacate` the number, and none is dropped: the process executes a program or exits.
        match retry_on_eintr(|| unsafe { libc::dup2(source.as_raw_fd(), number) }) {
            // Linux: another thread is opening a descriptor of this number.
            Err(libc::EBUSY) => {}
            other => return other.map(drop),
        }
    }
}

/// fcntl(2) `F_GETFD`. Async-signal-safe.
fn fcntl_getfd(descriptor: RawFd) -> Result<libc::c_int, Errno> {
    // SAFETY: F_GETFD takes no argument and only reads.
    cvt(unsafe { libc::fcntl(descriptor, libc::F_GETFD) })
}

/// fcntl(2) `F_SETFD`. Async-signal-safe.
pub(super) fn fcntl_setfd(descriptor: RawFd, flags: libc::c_int) -> Result<(), Errno> {
    // SAFETY: F_SETFD takes an int and changes only the flags of the descriptor.
    cvt(unsafe { libc::fcntl(descriptor, libc::F_SETFD, flags) }).map(drop)
}

/// Whether a descriptor of that number is open. Async-signal-safe.
pub(crate) fn is_open(descriptor: RawFd) -> bool {
    fcntl_getfd(descriptor).is_ok()
}

/// Leaves an open descriptor open across execve(2). Async-signal-safe.
pub(crate) fn clear_cloexec(descriptor: RawFd) -> Result<(), Errno> {
    let flags = fcntl_getfd(descriptor)?;
    if flags & libc::FD_CLOEXEC != 0 {
        fcntl_setfd(descriptor, flags & !libc::FD_CLOEXEC)?;
    }
    Ok(())
}

/// Closes an open descriptor at execve(2).
pub(crate) fn set_cloexec(descriptor: RawFd) -> Result<(), Errno> {
    fcntl_setfd(descriptor, fcntl_getfd(descriptor)? | libc::FD_CLOEXEC)
}

/// close(2), with the error that dropping the descriptor hides. Async-signal-safe.
pub(crate) fn close(descriptor: OwnedFd) -> Result<(), Errno> {
    // SAFETY: the descriptor is owned and given up here. close(2) closes it even
    // when it fails, so that it is never closed twice.
    match cvt(unsafe { libc::close(descriptor.into_raw_fd()) }) {
        Err(libc::EINTR) | Ok(_) => Ok(()),
        Err(errno) => Err(errno),
    }
}

/// close(2) of a number that no value in the process uses or closes any more.
/// Returns whether the number was open. Async-signal-safe.
pub(crate) fn close_raw(descriptor: RawFd) -> bool {
    // SAFETY: the number is either of a copy that is forgotten (see own_fds.rs), or the caller of
    // `close_inherited_fds` has promised that no value owns it, or it is of a copy in a child of
    // fork(2) that runs no code of the caller, and only ends or executes a program.
    let closed = cvt(unsafe { libc::close(descriptor) });
    // Linux closes the descriptor even if close(2) is interrupted or cannot write.
    closed != Err(libc::EBADF)
}

/// Closes those descriptors from 3 on that execve(2) would close, except for those in `kept`, which
/// is sorted. Tries each number, up to the limit of this process and to 65,535. Async-signal-safe.
#[cfg_attr(target_os = "linux", allow(dead_code, reason = "only without /proc"))]
pub(super) fn close_numbered_before_exec(kept: &[RawFd]) {
    const END: u64 = 1 << 16;

    let mut limit = libc::rlimit {
        rlim_cur: END as libc::rlim_t,
        rlim_max: END as libc::rlim_t,
    };
    // SAFETY: `limit` is valid for writes. If the call fails, it stays as it is.
    let _ = cvt(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) });
    let end = END.min(limit.rlim_cur as u64) as RawFd;
    for number in FIRST_AFTER_STREAMS..end {
        close_before_exec(number, kept);
    }
}

/// Closes a descriptor if execve(2) would close it, and `kept`, which is sorted, does not contain
/// it. Async-signal-safe.
pub(super) fn close_before_exec(number: RawFd, kept: &[RawFd]) {
    let is_free = number >= FIRST_AFTER_STREAMS && kept.binary_search(&number).is_err();
    if is_free && fcntl_getfd(number).is_ok_and(|flags| flags & libc::FD_CLOEXEC != 0) {
        close_raw(number);
    }
}

/// The ranges of numbers from 3 on that are not in `kept`, which is sorted: the
/// first and, except in the last range, the last number. Async-signal-safe.
#[allow(dead_code, reason = "macOS has no call that closes a range")]
pub(super) fn ranges_between(kept: &[RawFd]) -> impl Iterator<Item = (RawFd, Option<RawFd>)> + '_ {
    let after = |kept: &RawFd| kept.saturating_add(1).max(FIRST_AFTER_STREAMS);
    let firsts = iter::once(FIRST_AFTER_STREAMS).chain(kept.iter().map(after));
    let lasts = kept.iter().map(|kept| Some(kept - 1)).chain([None]);
    firsts
        .zip(lasts)
        .filter(|&(first, last)| last.is_none_or(|last| first <= last))
}
