//! What the daemon does not inherit: descriptors, and what is done on signals.

use std::os::fd::{AsRawFd as _, BorrowedFd, RawFd};

use crate::error::ErrorKind;
use crate::failure::{About, Failure};
use crate::streams::{Stdio, Streams};
use crate::sys;

/// The descriptors above the standard streams that stay open when all others
/// are closed. Made before fork(2), so that nothing allocates after it.
pub(crate) struct KeptDescriptors {
    /// In order.
    numbers: Vec<RawFd>,
    scratch: Vec<u64>,
}

impl KeptDescriptors {
    /// Those that the caller names, in any order, as far as they are open, and
    /// the sources of the streams.
    pub(crate) fn new(named: &[RawFd], streams: &Streams) -> Self {
        /// The library's own, and their share of a list of what is open.
        const ROOM: usize = 512;

        let named = named.iter().copied().filter(|&number| sys::is_open(number));
        let sources = streams.iter().flatten().filter_map(Stdio::source);
        let mut kept = Self {
            numbers: named.chain(sources).collect(),
            scratch: Vec::new(),
        };
        kept.numbers.reserve(ROOM);
        kept.scratch.resize(kept.numbers.len() + ROOM, 0);
        kept.put_in_order();
        kept
    }

    /// What the library itself needs to go on. Async-signal-safe.
    pub(crate) fn spare(&mut self, own: [BorrowedFd<'_>; 2]) {
        let numbers = own.map(|descriptor| descriptor.as_raw_fd());
        self.numbers.extend(numbers);
        self.put_in_order();
    }

    /// What the library has open for earlier starts. Made before anything is
    /// opened after them.
    pub(crate) fn spare_own(&mut self, own: &[RawFd]) {
        self.numbers.extend(own);
        self.put_in_order();
    }

    fn put_in_order(&mut self) {
        self.numbers.retain(|&number| number > 2);
        self.numbers.sort_unstable();
        self.numbers.dedup();
    }

    /// Async-signal-safe.
    pub(crate) fn close_others(&mut self) -> Result<(), Failure> {
        sys::close_all_but(&self.numbers, &mut self.scratch)
            .map_err(|errno| Failure::new(ErrorKind::CloseInheritedFds(errno), About::Nothing))
    }
}

/// The default action for every signal but SIGPIPE. Async-signal-safe.
pub(crate) fn reset_signals() -> Result<(), Failure> {
    sys::reset_dispositions()
        .map_err(|errno| Failure::new(ErrorKind::ResetSignals(errno), About::Nothing))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_open_and_in_order_and_no_stream() {
        let files = [(); 2].map(|()| std::fs::File::open("/").expect("open the root"));
        let mut numbers = files.each_ref().map(|file| file.as_raw_fd());
        let [one, other] = numbers;
        let named = [other, one, i32::MAX, other, -1, 2, 0, one];
        let kept = KeptDescriptors::new(&named, &[None, None, None]);
        numbers.sort_unstable();
        assert_eq!(kept.numbers, numbers);
    }
}
