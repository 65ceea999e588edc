//! Threads and mounts of a test.

use std::panic;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crate::sys;

/// Sets the flag that ends the loop of another thread, also when the owner panics.
#[derive(Debug)]
pub struct Until<'flag>(pub &'flag AtomicBool);

impl Drop for Until<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Runs `body` in a mount namespace of its own, with which its mounts end.
pub fn with_own_mounts(body: impl FnOnce() + Send) {
    let outcome = thread::scope(|scope| {
        let thread = scope.spawn(|| {
            sys::leave_mount_namespace().expect("have mounts of one's own");
            body();
        });
        thread.join()
    });
    if let Err(panicked) = outcome {
        panic::resume_unwind(panicked);
    }
}

/// Runs mount(8).
#[track_caller]
pub fn mount(arguments: &[&str], place: &Path) {
    let mut command = Command::new("mount");
    let status = command.args(arguments).arg(place).status();
    assert!(status.expect("run mount(8)").success());
}
