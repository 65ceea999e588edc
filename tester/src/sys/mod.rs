//! The only unsafe code: thin wrappers around libc, and around the unsafe
//! functions of the library under test.
//!
//! Each wrapper takes and returns plain values, and returns the error of its call at once. What a
//! platform lacks is beside what it has.

#![allow(unsafe_code)]

/// Makes functions that fail with `Unsupported` on other systems than Linux.
macro_rules! linux_only {
    ($(
        $(#[$doc:meta])*
        pub fn $name:ident($($argument:ident: $type:ty),* $(,)?) -> io::Result<$output:ty> $body:tt
    )*) => {$(
        $(#[$doc])*
        pub fn $name($($argument: $type),*) -> io::Result<$output> {
            #[cfg(target_os = "linux")]
            $body
            #[cfg(not(target_os = "linux"))]
            {
                let _ = ($($argument,)*);
                Err(io::ErrorKind::Unsupported.into())
            }
        }
    )*};
}

mod allocator;
mod database;
mod descriptor;
#[cfg_attr(
    not(any(target_os = "linux", target_os = "android", target_os = "illumos")),
    path = "kqueue.rs"
)]
#[cfg_attr(
    any(target_os = "android", target_os = "illumos"),
    path = "no_kqueue.rs"
)]
#[cfg(not(target_os = "linux"))]
mod event_queue;
mod identity;
#[cfg_attr(
    any(target_os = "macos", target_os = "netbsd", target_os = "illumos"),
    path = "reuid.rs"
)]
#[cfg_attr(
    not(any(target_os = "macos", target_os = "netbsd", target_os = "illumos")),
    path = "resuid.rs"
)]
mod ids;
#[cfg(target_os = "macos")]
mod libproc;
mod mount;
#[cfg(target_os = "linux")]
mod proc;
mod process;
#[cfg(target_os = "linux")]
mod ptrace;
mod sandbox;
mod signal;
mod socket;
#[cfg(any(
    target_os = "freebsd",
    target_os = "macos",
    target_os = "netbsd",
    target_os = "openbsd"
))]
mod sysctl;

#[cfg(target_os = "linux")]
use std::ffi::c_int;
use std::io;
use std::os::fd::RawFd;
#[cfg(target_os = "linux")]
use std::os::fd::{AsRawFd, BorrowedFd};
#[cfg(target_os = "linux")]
use std::time::{Duration, Instant};

use daemonize2::{Daemonize, Error, Outcome};

pub use allocator::*;
pub use database::*;
pub use descriptor::*;
#[cfg(not(target_os = "linux"))]
use event_queue::EventQueue;
pub use identity::*;
pub use ids::*;
#[cfg(target_os = "macos")]
pub use libproc::*;
pub use mount::*;
#[cfg(target_os = "linux")]
pub use proc::*;
pub use process::*;
#[cfg(target_os = "linux")]
pub use ptrace::*;
pub use sandbox::*;
pub use signal::*;
pub use socket::*;
#[cfg(any(
    target_os = "freebsd",
    target_os = "macos",
    target_os = "netbsd",
    target_os = "openbsd"
))]
pub use sysctl::*;

pub fn start<T, Stage>(daemonize: Daemonize<T, Stage>) -> Result<T, Error> {
    // SAFETY: whatever other threads the tester has are parked and hold no
    // lock, so its code runs on in a forked child.
    unsafe { daemonize.start() }
}

pub fn execute<T, Stage>(daemonize: Daemonize<T, Stage>) -> Outcome<T> {
    // SAFETY: as in `start`.
    unsafe { daemonize.execute() }
}

/// [`Daemonize::close_inherited_fds`].
pub fn close_inherited_fds<T, Stage>(
    daemonize: Daemonize<T, Stage>,
    keep: &[RawFd],
) -> Daemonize<T, Stage> {
    // SAFETY: what the tester uses in the daemon is in `keep`, and belongs to
    // no value.
    unsafe { daemonize.close_inherited_fds(keep) }
}

/// Returns errno if the result is -1.
fn check<N: PartialEq + From<i8>>(result: N) -> io::Result<N> {
    if result == N::from(-1) {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

/// Repeats a call while a signal handler interrupts it.
fn retry<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// Waits for one of `events`, an error or a hang-up; `false` if the time is up first.
#[cfg(target_os = "linux")]
fn poll_until(fd: BorrowedFd<'_>, events: i16, deadline: Option<Instant>) -> io::Result<bool> {
    let mut poll = libc::pollfd {
        fd: fd.as_raw_fd(),
        events,
        revents: 0,
    };
    let ready = retry(|| {
        let timeout = deadline.map_or(-1, |deadline| {
            // The time is rounded up, so that the wait does not spin through the last millisecond.
            let left =
                deadline.saturating_duration_since(Instant::now()) + Duration::from_micros(999);
            c_int::try_from(left.as_millis()).unwrap_or(c_int::MAX)
        });
        // SAFETY: one descriptor is given, valid for the call.
        check(unsafe { libc::poll(&mut poll, 1, timeout) })
    })?;
    Ok(ready > 0)
}
