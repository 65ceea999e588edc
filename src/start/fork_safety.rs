//! The conditions under which the launcher may fork.

use std::os::fd::RawFd;

use crate::deadline::Deadline;
use crate::error::{Error, ErrorKind};
use crate::outcome::FailureMode;
use crate::sys::{self, NotSingleThreaded, Pid, SingleThreaded};

/// Why fork(2) is safe in a process.
pub(crate) enum ForkSafety {
    /// The library checks the process.
    Checked,
    /// The caller of an unsafe entry point answers for the process.
    Assumed(SingleThreaded),
}

impl ForkSafety {
    /// Refuses a process that must not start a daemon. Must follow the look-up of users and
    /// groups, which may load code that creates threads or event queues.
    pub(super) fn verify(self, failure_mode: FailureMode) -> Result<SingleThreaded, Error> {
        if failure_mode == FailureMode::Exit && Pid::current().is_first() {
            return Err(Error::from(ErrorKind::FirstProcess)
                .with_reason("the exit of pid 1 would end the daemon; use `foreground`"));
        }
        match self {
            Self::Assumed(promise) => Ok(promise),
            Self::Checked => {
                let single_threaded = count_threads()?;
                // If one of the two processes ends, the other does not share the queue.
                if failure_mode == FailureMode::Return {
                    refuse_shared_event_queues()?;
                }
                Ok(single_threaded)
            }
        }
    }
}

fn count_threads() -> Result<SingleThreaded, Error> {
    SingleThreaded::verify().map_err(|refusal| match refusal {
        NotSingleThreaded::OthersRun => Error::from(ErrorKind::MultiThreaded)
            .with_reason(describe_threads(sys::thread_names().as_deref())),
        NotSingleThreaded::Unknown => {
            Error::from(ErrorKind::ThreadCountUnknown).with_reason(sys::WHY_THREADS_ARE_UNKNOWN)
        }
    })
}

fn refuse_shared_event_queues() -> Result<(), Error> {
    match sys::find_shared_event_queue() {
        Ok(None) => Ok(()),
        Ok(Some(queue)) => Err(
            Error::from(ErrorKind::SharedEventQueue).with_reason(format!(
                "{} (descriptor {}); start the daemon before you create the async runtime or \
                 event loop, or use `start_checked`",
                queue.name, queue.descriptor
            )),
        ),
        Err(errno) => Err(ErrorKind::EventQueuesUnknown(errno).into()),
    }
}

/// Why fork(2) is not safe in a process with these threads.
fn describe_threads(names: Option<&[Option<String>]>) -> String {
    const REMEDY: &str = "start the daemon first, and create threads and async runtimes \
                          afterwards (#[tokio::main] creates them before)";
    match names {
        None => format!(
            "the process has more than one thread, or shares its memory with another process; \
             {REMEDY}"
        ),
        Some([] | [_]) => String::from(
            "another process shares the memory of this process, for example after vfork(2) or \
             clone(2) with CLONE_VM; start the daemon before such a process exists",
        ),
        Some(names) => format!(
            "the process has more than one thread: {}{}; {REMEDY}",
            names.len(),
            in_parentheses(names)
        ),
    }
}

/// The known names of threads, but only as many as show which code creates threads.
fn in_parentheses(names: &[Option<String>]) -> String {
    const MAX_NAMES: usize = 8;

    let known: Vec<&str> = names.iter().flatten().map(String::as_str).collect();
    match known.len() {
        0 => String::new(),
        1..=MAX_NAMES => format!(" ({})", known.join(", ")),
        _ => format!(" ({}, ...)", known[..MAX_NAMES].join(", ")),
    }
}

/// Flushes standard output, so that no child writes the same bytes again.
///
/// Does nothing while other threads run: another thread may hold the lock of a stream for any
/// time. If standard output is a full pipe, the start fails at the deadline. Any other pipe has
/// room for the buffer.
pub(super) fn flush_streams(deadline: Deadline) -> Result<(), Error> {
    const STANDARD_OUTPUT: RawFd = 1;

    if sys::has_other_threads() {
        return Ok(());
    }
    if deadline.is_set() && !sys::await_writable(STANDARD_OUTPUT, deadline) {
        return Err(Error::from(ErrorKind::StartupTimeout).with_reason(
            "the launcher cannot flush standard output, because no process reads it",
        ));
    }
    sys::flush_streams();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn describe(names: &[Option<&str>]) -> String {
        let names: Vec<_> = names.iter().map(|name| name.map(str::to_owned)).collect();
        describe_threads(Some(&names))
    }

    #[test]
    fn threads_are_counted_and_named_as_far_as_they_are_known() {
        let named = describe(&[Some("main"), Some("tokio-rt-worker")]);
        let start = "the process has more than one thread: 2 (main, tokio-rt-worker); start";
        assert!(named.starts_with(start), "{named}");
        let many = describe(&[Some("t"); 9]);
        assert!(
            many.contains(": 9 (t, t, t, t, t, t, t, t, ...); start"),
            "{many}"
        );
        let nameless = describe(&[None, None, None]);
        let start = "the process has more than one thread: 3; start";
        assert!(nameless.starts_with(start), "{nameless}");
        let unknown = describe_threads(None);
        assert!(unknown.contains("or shares its memory"), "{unknown}");
    }

    #[test]
    fn a_single_thread_shares_its_memory_with_another_process() {
        let text = describe(&[Some("main")]);
        assert!(text.starts_with("another process shares"), "{text}");
        assert!(!text.contains("thread"), "{text}");
    }
}
