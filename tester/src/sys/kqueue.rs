//! kqueue(2).

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::Instant;

use super::{check, retry};

/// A queue for the events of one file or process.
pub(super) struct EventQueue(OwnedFd);

impl EventQueue {
    /// Adds a filter, with [`libc::EV_CLEAR`]: an event is reported once.
    pub(super) fn of(identifier: usize, filter: i16, notes: u32) -> io::Result<Self> {
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

    /// The flags of the next event; `None` if the time is up first.
    pub(super) fn next(&self, deadline: Option<Instant>) -> io::Result<Option<u16>> {
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
