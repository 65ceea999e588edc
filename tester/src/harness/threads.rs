//! What a test does beside its own thread.

use std::panic;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crate::sys;

/// Ends another thread's loop, also when its owner panics.
#[derive(Debug)]
pub struct Until<'flag>(pub &'flag AtomicBool);

impl Drop for Until<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Runs this where what it mounts is seen by nobody else, and goes with it.
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

/// mount(8).
#[track_caller]
pub fn mount(arguments: &[&str], place: &Path) {
    let mut command = Command::new("mount");
    let status = command.args(arguments).arg(place).status();
    assert!(status.expect("run mount(8)").success());
}
