//! Memory that a process shares with the processes that it forks.

use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU8, Ordering};

/// A byte that this process and all that it forks afterwards can read and write.
///
/// A write wakes no process.
pub(crate) struct SharedByte(NonNull<AtomicU8>);

impl SharedByte {
    /// The kernel rounds this up to a page.
    const LENGTH: usize = size_of::<AtomicU8>();

    /// mmap(2) of anonymous memory: a byte that is 0. `None` if there is no memory.
    pub(crate) fn new() -> Option<Self> {
        // SAFETY: the kernel chooses an unused address.
        let address = unsafe {
            libc::mmap(
                ptr::null_mut(),
                Self::LENGTH,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED | libc::MAP_ANON,
                -1,
                0,
            )
        };
        if address == libc::MAP_FAILED {
            return None;
        }
        NonNull::new(address.cast()).map(Self)
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
        // SAFETY: the memory is mapped and zeroed until this value is dropped; every
        // process that shares it uses atomic accesses.
        unsafe { self.0.as_ref() }
    }
}

impl Drop for SharedByte {
    /// Unmaps the memory in this process only.
    fn drop(&mut self) {
        // SAFETY: it was mapped with this length, and no reference to it is left.
        unsafe { libc::munmap(self.0.as_ptr().cast(), Self::LENGTH) };
    }
}
