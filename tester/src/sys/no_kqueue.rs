//! The platforms that have neither kqueue(2) nor, for the tester, a pidfd. They have no observer,
//! so that no case runs and needs this.

use std::io;
use std::os::fd::BorrowedFd;
use std::time::Instant;

/// Never made.
pub(super) enum EventQueue {}

impl EventQueue {
    pub(super) fn of_end(_pid: u32) -> io::Result<Self> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(super) fn of_input(_socket: BorrowedFd<'_>) -> io::Result<Self> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(super) fn next_is_end_of_file(&self, _: Option<Instant>) -> io::Result<Option<bool>> {
        match *self {}
    }
}
