//! Threads that write numbered lines to the standard streams.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use super::closures::write;

static WRITERS: Mutex<Vec<JoinHandle<u32>>> = Mutex::new(Vec::new());
static STOP: AtomicBool = AtomicBool::new(false);

/// More would only fill the disk.
const MOST_LINES: u32 = 50_000;

pub(super) fn start(count: u32) {
    STOP.store(false, Ordering::SeqCst);
    let threads = (0..count).map(|writer| thread::spawn(move || write_lines(writer)));
    let mut writers = WRITERS.lock().unwrap_or_else(PoisonError::into_inner);
    writers.extend(threads);
}

/// The number of lines that each has written to each stream.
pub(super) fn stop() -> Vec<String> {
    STOP.store(true, Ordering::SeqCst);
    let mut writers = WRITERS.lock().unwrap_or_else(PoisonError::into_inner);
    let lines = writers.drain(..).map(JoinHandle::join);
    lines
        .map(|lines| lines.unwrap_or_default().to_string())
        .collect()
}

fn write_lines(writer: u32) -> u32 {
    let mut lines = 0;
    while !STOP.load(Ordering::SeqCst) && lines < MOST_LINES {
        for stream in [1, 2] {
            write(stream, format!("{writer} {lines}\n").as_bytes());
        }
        lines += 1;
    }
    lines
}
