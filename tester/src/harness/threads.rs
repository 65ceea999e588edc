//! Threads and mounts of a test.

use std::panic::{self, AssertUnwindSafe};
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crate::sys;

/// Sets the flag that ends the loop of another thread, also when the owner panics.
struct Until<'flag>(&'flag AtomicBool);

impl Drop for Until<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Calls `repeated` again and again in another thread, as long as `body` runs.
pub fn while_repeating<T>(mut repeated: impl FnMut() + Send, body: impl FnOnce() -> T) -> T {
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let _until = Until(&over);
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                repeated();
            }
        });
        body()
    })
}

/// Performs all jobs, as many at a time as there are workers.
pub fn in_parallel<T>(
    workers: usize,
    jobs: impl Iterator<Item = T> + Send,
    perform: impl Fn(T) + Sync,
) {
    let queue = Mutex::new(jobs);
    thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                let next = || queue.lock().expect("no job is taken by a panic").next();
                while let Some(job) = next() {
                    perform(job);
                }
            });
        }
    });
}

/// Performs all jobs at once, where each mostly waits.
pub fn at_once<T: Send>(jobs: impl IntoIterator<Item = T>, perform: impl Fn(T) + Sync) {
    let perform = &perform;
    thread::scope(|scope| {
        for job in jobs {
            scope.spawn(move || perform(job));
        }
    });
}

/// Calls `perform` with 0, 1 and so on, several at a time, until it returns false.
pub fn sweep(at_a_time: usize, perform: impl Fn(usize) -> bool + Sync) {
    let is_over = AtomicBool::new(false);
    let numbers = (0..).take_while(|_| !is_over.load(Ordering::Relaxed));
    in_parallel(at_a_time, numbers, |number| {
        if !perform(number) {
            is_over.store(true, Ordering::Relaxed);
        }
    });
}

/// The text of a panic of `body` becomes an error.
pub fn catch<T>(body: impl FnOnce() -> T) -> Result<T, String> {
    panic::catch_unwind(AssertUnwindSafe(body)).map_err(|payload| {
        let text = payload.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| payload.downcast_ref::<&str>().copied());
        text.unwrap_or("a panic").to_owned()
    })
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
