//! Memory that a process and those that it forks have in common.

use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU8, Ordering};

use super::cvt;

/// A byte that this process and those that it forks afterwards all see.
///
/// To write it wakes nobody, and to read it asks nobody.
pub(crate) struct SharedByte(NonNull<AtomicU8>);

impl SharedByte {
    /// The least that can be mapped: the kernel makes whole pages of it.
    const LENGTH: usize = size_of::<AtomicU8>();

    /// mmap(2) of anonymous memory: a byte that is 0. `None` where there is none.
    pub(crate) fn new() -> Option<Self> {
        // SAFETY: the kernel chooses the place, where nothing else is.
        let place = unsafe {
            libc::mmap(
                ptr::null_mut(),
                Self::LENGTH,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED | libc::MAP_ANON,
                -1,
                0,
            )
        };
        if place == libc::MAP_FAILED {
            return None;
        }
        NonNull::new(place.cast()).map(Self)
    }

    /// Async-signal-safe.
    pub(crate) fn set(&self, value: u8) {
        self.get_ref().store(value, Ordering::Relaxed);
    }

    /// Async-signal-safe.
    pub(crate) fn get(&self) -> u8 {
        self.get_ref().load(Ordering::Relaxed)
    }

    fn get_ref(&self) -> &AtomicU8 {
        // SAFETY: it is mapped, filled with zeroes, until this is dropped; whoever
        // shares it accesses it atomically, too.
        unsafe { self.0.as_ref() }
    }
}

impl Drop for SharedByte {
    /// In this process alone.
    fn drop(&mut self) {
        // SAFETY: it was mapped with this length, and no reference to it is left.
        let _ = cvt(unsafe { libc::munmap(self.0.as_ptr().cast(), Self::LENGTH) });
    }
}
