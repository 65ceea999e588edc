//! Threads that write numbered lines to the standard streams.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Sender};
use std::sync::{Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use super::closures::write;

static WRITERS: Mutex<Vec<JoinHandle<u32>>> = Mutex::new(Vec::new());
static STOP: AtomicBool = AtomicBool::new(false);

/// More would only fill the disk.
const MOST_LINES: u32 = 50_000;

/// Returns once each thread has written its first lines: on a busy machine, a test might be over
/// before.
pub(super) fn start(count: u32) {
    STOP.store(false, Ordering::SeqCst);
    let (begun, has_begun) = mpsc::channel();
    let threads = (0..count).map(|writer| {
        let begun = begun.clone();
        thread::spawn(move || write_lines(writer, &begun))
    });
    let mut writers = WRITERS.lock().unwrap_or_else(PoisonError::into_inner);
    writers.extend(threads);
    drop(begun);
    has_begun.iter().take(count as usize).for_each(drop);
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

fn write_lines(writer: u32, begun: &Sender<()>) -> u32 {
    let mut lines = 0;
    while lines == 0 || !STOP.load(Ordering::SeqCst) && lines < MOST_LINES {
        for stream in [1, 2] {
            write(stream, format!("{writer} {lines}\n").as_bytes());
        }
        lines += 1;
        if lines == 1 {
            // The receiver waits.
            let _ = begun.send(());
        }
    }
    lines
}
