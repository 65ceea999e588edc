//! kqueue(2).

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::Instant;

use super::{check, retry};

/// The type of a filter, and that of the flags.
#[cfg(not(target_os = "netbsd"))]
type Filter = i16;
#[cfg(not(target_os = "netbsd"))]
type Flags = u16;
#[cfg(target_os = "netbsd")]
type Filter = u32;
#[cfg(target_os = "netbsd")]
type Flags = u32;

/// A queue for the events of one file or process.
pub(super) struct EventQueue(OwnedFd);

impl EventQueue {
    /// The end of a process.
    pub(super) fn of_end(pid: u32) -> io::Result<Self> {
        let pid = usize::try_from(pid).expect("a process id fits");
        Self::of(pid, libc::EVFILT_PROC, libc::NOTE_EXIT)
    }

    /// Messages, and the end of file.
    pub(super) fn of_input(socket: BorrowedFd<'_>) -> io::Result<Self> {
        let number = usize::try_from(socket.as_raw_fd()).expect("a descriptor is not negative");
        Self::of(number, libc::EVFILT_READ, 0)
    }

    /// Adds a filter, with [`libc::EV_CLEAR`]: an event is reported once.
    fn of(identifier: usize, filter: Filter, notes: u32) -> io::Result<Self> {
        // SAFETY: no requirement.
        let queue = check(unsafe { libc::kqueue() })?;
        // SAFETY: the call has just made the descriptor, so that nothing else owns it.
        let queue = unsafe { OwnedFd::from_raw_fd(queue) };
        // SAFETY: all zeroes are a valid kevent.
        let mut change: libc::kevent = unsafe { std::mem::zeroed() };
        change.ident = identifier;
        change.filter = filter;
        change.flags = libc::EV_ADD | libc::EV_CLEAR;
        change.fflags = notes;
        let (none, now) = (std::ptr::null_mut(), std::ptr::null());
        // SAFETY: one change is read, and no event is written.
        check(unsafe { libc::kevent(queue.as_raw_fd(), &change, 1, none, 0, now) })?;
        Ok(Self(queue))
    }

    /// Whether the next event is an end of file; `None` if the time is up first.
    pub(super) fn next_is_end_of_file(
        &self,
        deadline: Option<Instant>,
    ) -> io::Result<Option<bool>> {
        let flags = self.next(deadline)?;
        Ok(flags.map(|flags| flags & libc::EV_EOF != 0))
    }

    /// The flags of the next event; `None` if the time is up first.
    fn next(&self, deadline: Option<Instant>) -> io::Result<Option<Flags>> {
        // SAFETY: all zeroes are a valid kevent.
        let mut event: libc::kevent = unsafe { std::mem::zeroed() };
        let events = retry(|| {
            let timeout = deadline.map(|deadline| {
                let left = deadline.saturating_duration_since(Instant::now());
                libc::timespec {
                    tv_sec: libc::time_t::try_from(left.as_secs()).unwrap_or(libc::time_t::MAX),
                    tv_nsec: left.subsec_nanos().into(),
                }
            });
            let timeout = timeout
                .as_ref()
                .map_or(std::ptr::null(), std::ptr::from_ref);
            let none = std::ptr::null();
            // SAFETY: no change is read, and at most one event is written.
            check(unsafe { libc::kevent(self.0.as_raw_fd(), none, 0, &mut event, 1, timeout) })
        })?;
        Ok((events > 0).then_some(event.flags))
    }
}
