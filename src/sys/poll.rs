//! poll(2): wait for descriptors, or for time to pass.

use std::os::fd::{AsRawFd as _, BorrowedFd, RawFd};
use std::time::{Duration, Instant};

use super::{Errno, cvt};
use crate::deadline::Deadline;

/// poll(2), which interrupts end early. Without a timeout it waits for ever.
fn poll(waited: &mut [libc::pollfd], timeout: Option<Duration>) -> Result<libc::c_int, Errno> {
    // Rounded up: with 0 for the last fraction, a loop would spin until the deadline.
    let milliseconds = timeout.map_or(-1, |timeout| {
        let milliseconds = timeout.as_nanos().div_ceil(1_000_000);
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
        let left = deadline.remaining();
        let mut waited = [libc::pollfd {
            fd: descriptor,
            events: libc::POLLOUT,
            revents: 0,
        }];
        match poll(&mut waited, left) {
            // poll(2) cannot wait for it: the write has to show.
            Err(errno) if errno != libc::EINTR => return true,
            Ok(1..) => return true,
            Ok(_) | Err(_) if left == Some(Duration::ZERO) => return false,
            Ok(_) | Err(_) => {}
        }
    }
}

/// Returns when one of the descriptors is readable or at its end of file, when the
/// time is up, or early. True if one of them is. The caller tries to read in any
/// case. Async-signal-safe.
pub(crate) fn wait_readable(
    descriptors: [Option<BorrowedFd<'_>>; 2],
    timeout: Option<Duration>,
) -> bool {
    // poll(2) ignores negative numbers.
    let mut waited = descriptors.map(|descriptor| libc::pollfd {
        fd: descriptor.map_or(-1, |descriptor| descriptor.as_raw_fd()),
        events: libc::POLLIN,
        revents: 0,
    });
    matches!(poll(&mut waited, timeout), Ok(1..))
}

/// Waits, through all interruptions, until a descriptor is readable or at its end
/// of file. A descriptor of a process is readable when the process has ended.
/// False if the time is up first.
pub(crate) fn await_readable(descriptor: BorrowedFd<'_>, timeout: Option<Duration>) -> bool {
    let deadline = timeout.map(|timeout| Instant::now() + timeout);
    loop {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        if wait_readable([Some(descriptor), None], left) {
            return true;
        }
        if left == Some(Duration::ZERO) {
            return false;
        }
    }
}

/// Waits. Async-signal-safe, unlike nanosleep(2): POSIX lists poll(2).
pub(crate) fn sleep(duration: Duration) {
    wait_readable([None, None], Some(duration));
}
