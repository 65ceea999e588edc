//! The descriptors that the daemon does not inherit.

use std::os::fd::{AsRawFd as _, BorrowedFd, RawFd};

use crate::streams::StreamsPlan;
use crate::sys::{self, Errno};

/// Which descriptors the intermediate closes, apart from those that it keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Closed {
    All,
    /// Those that execve(2) closes. Later, its close of a copy of the pid file would release the
    /// record lock of the daemon. Until then, the intermediate would have the copies, too.
    BeforeExec,
}

/// The descriptors from 3 on that stay open when others are closed. The launcher lists them before
/// fork(2), since nothing allocates after it.
pub(super) struct KeptDescriptors {
    closed: Closed,
    /// In order.
    numbers: Vec<RawFd>,
    scratch: Vec<u64>,
}

impl KeptDescriptors {
    /// Lists those of the named descriptors that are open, the sources of the streams, and the
    /// library's `own`. Call this before the start opens any descriptor.
    pub(super) fn new(
        closed: Closed,
        named: &[RawFd],
        streams: &StreamsPlan,
        own: &[RawFd],
    ) -> Self {
        /// Room for the descriptors of this start, and for a list of all that are open.
        const ROOM: usize = 512;

        let named = named.iter().copied().filter(|&number| sys::is_open(number));
        let sources = streams.descriptors();
        let mut kept = Self {
            closed,
            numbers: named.chain(sources).chain(own.iter().copied()).collect(),
            scratch: Vec::new(),
        };
        kept.numbers.reserve(ROOM);
        kept.scratch.resize(kept.numbers.len() + ROOM, 0);
        kept.sort();
        kept
    }

    /// Adds descriptors of this start. Async-signal-safe.
    pub(super) fn add(&mut self, own: [BorrowedFd<'_>; 2]) {
        let numbers = own.map(|descriptor| descriptor.as_raw_fd());
        self.numbers.extend(numbers);
        self.sort();
    }

    fn sort(&mut self) {
        self.numbers.retain(|&number| number > 2);
        self.numbers.sort_unstable();
        self.numbers.dedup();
    }

    /// Async-signal-safe.
    pub(super) fn close_others(&mut self) -> Result<(), Errno> {
        match self.closed {
            Closed::All => sys::close_all_but(&self.numbers, &mut self.scratch),
            Closed::BeforeExec => {
                sys::close_all_before_exec(&self.numbers, &mut self.scratch);
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kept_descriptors_are_open_and_in_order_and_no_streams() {
        let files = [(); 3].map(|()| std::fs::File::open("/").expect("open the root"));
        let mut numbers = files.each_ref().map(|file| file.as_raw_fd());
        let [one, other, own] = numbers;
        let named = [other, one, i32::MAX, other, -1, 2, 0, one];
        let kept = KeptDescriptors::new(Closed::All, &named, &StreamsPlan::default(), &[own, one]);
        numbers.sort_unstable();
        assert_eq!(kept.numbers, numbers);
    }
}
