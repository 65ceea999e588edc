//! poll(2): wait for descriptors, or for time to pass.

use std::os::fd::{AsRawFd as _, BorrowedFd, RawFd};
use std::time::Duration;

use super::{Errno, cvt};
use crate::deadline::Deadline;

/// poll(2), which interrupts end early.
fn poll(waited: &mut [libc::pollfd], deadline: Deadline) -> Result<libc::c_int, Errno> {
    // Rounded up: with 0 for the last fraction, a loop would spin until the deadline.
    let milliseconds = deadline.remaining().map_or(-1, |remaining| {
        let milliseconds = remaining.as_nanos().div_ceil(1_000_000);
        libc::c_int::try_from(milliseconds).unwrap_or(libc::c_int::MAX)
    });
    // SAFETY: `waited` is valid for reads and writes of its elements.
    cvt(unsafe {
        libc::poll(
            waited.as_mut_ptr(),
            waited.len() as libc::nfds_t,
            milliseconds,
        )
    })
}

/// Waits until a descriptor has room for writes, or a write to it fails at once.
/// False if the deadline passes first.
pub(crate) fn await_writable(descriptor: RawFd, deadline: Deadline) -> bool {
    loop {
        let has_passed = deadline.has_passed();
        let mut waited = [libc::pollfd {
            fd: descriptor,
            events: libc::POLLOUT,
            revents: 0,
        }];
        match poll(&mut waited, deadline) {
            // poll(2) cannot wait for it: the write has to show.
            Err(errno) if errno != libc::EINTR => return true,
            Ok(1..) => return true,
            Ok(_) | Err(_) if has_passed => return false,
            Ok(_) | Err(_) => {}
        }
    }
}

/// Returns when one of the descriptors is readable or at its end of file, when the
/// deadline passes, or early. True if one of them is. The caller tries to read in any
/// case. Async-signal-safe.
pub(crate) fn wait_readable<const N: usize>(
    descriptors: [Option<BorrowedFd<'_>>; N],
    deadline: Deadline,
) -> bool {
    // poll(2) ignores negative numbers.
    let mut waited = descriptors.map(|descriptor| libc::pollfd {
        fd: descriptor.map_or(-1, |descriptor| descriptor.as_raw_fd()),
        events: libc::POLLIN,
        revents: 0,
    });
    matches!(poll(&mut waited, deadline), Ok(1..))
}

/// Waits, through all interruptions, until a descriptor is readable or at its end
/// of file. A descriptor of a process is readable when the process has ended.
/// False if the deadline passes first.
pub(crate) fn await_readable(descriptor: BorrowedFd<'_>, deadline: Deadline) -> bool {
    loop {
        let has_passed = deadline.has_passed();
        if wait_readable([Some(descriptor)], deadline) {
            return true;
        }
        if has_passed {
            return false;
        }
    }
}

/// Waits. Async-signal-safe, unlike nanosleep(2): POSIX lists poll(2).
pub(crate) fn sleep(duration: Duration) {
    wait_readable([], Deadline::after(duration));
}
