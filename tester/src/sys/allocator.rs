//! An allocator that counts what the children of fork(2) ask of it until they execute a program.

use std::alloc::{GlobalAlloc, Layout, System};
use std::io;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, Ordering};

/// The allocator of the system, which counts in the children of the process that has called
/// [`count_calls_of_children`].
#[derive(Debug)]
pub struct CountingAllocator;

static IS_CHILD: AtomicBool = AtomicBool::new(false);

/// Memory that the children share.
static CALLS: AtomicPtr<AtomicU64> = AtomicPtr::new(ptr::null_mut());

fn calls() -> Option<&'static AtomicU64> {
    // SAFETY: the pointer is null, or points to memory that stays mapped.
    unsafe { CALLS.load(Ordering::Acquire).as_ref() }
}

fn count_call() {
    if IS_CHILD.load(Ordering::Relaxed) {
        calls().map(|calls| calls.fetch_add(1, Ordering::Relaxed));
    }
}

/// From now on, counts the calls of the allocator in all processes that this one forks.
pub fn count_calls_of_children() -> io::Result<()> {
    extern "C" fn begin() {
        IS_CHILD.store(true, Ordering::Relaxed);
    }

    let (protection, flags) = (
        libc::PROT_READ | libc::PROT_WRITE,
        libc::MAP_SHARED | libc::MAP_ANON,
    );
    // SAFETY: the kernel chooses an unused address.
    let memory = unsafe { libc::mmap(ptr::null_mut(), size_of::<u64>(), protection, flags, -1, 0) };
    if memory == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    CALLS.store(memory.cast(), Ordering::Release);
    // SAFETY: the handler only stores a number.
    match unsafe { libc::pthread_atfork(None, None, Some(begin)) } {
        0 => Ok(()),
        errno => Err(io::Error::from_raw_os_error(errno)),
    }
}

/// How often the children have called the allocator.
pub fn calls_of_children() -> u64 {
    calls().map_or(0, |calls| calls.load(Ordering::Relaxed))
}

// SAFETY: all calls go to the allocator of the system.
unsafe impl GlobalAlloc for CountingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count_call();
        // SAFETY: what is asked of our caller.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        count_call();
        // SAFETY: what is asked of our caller.
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count_call();
        // SAFETY: what is asked of our caller.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count_call();
        // SAFETY: what is asked of our caller.
        unsafe { System.realloc(memory, layout, size) }
    }
}
