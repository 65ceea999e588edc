//! What a panic said, for the launcher.
//!
//! A closure's panic is caught, and its text is in what is caught. But a panic
//! hook of the program's may end the process before anything is caught; a panic
//! may abort; and a thread that unwinds by itself shows its text to nobody but the
//! panic hook. So the library has a hook, from before the first closure until the
//! start is committed or has failed:
//!
//! - It tells the launcher of each panic before it calls the hook that was there
//!   before, and that it was survived, after. If the daemon ends in between, it has
//!   ended of the panic.
//! - A hook that the program sets meanwhile replaces the library's, whose captures
//!   std then drops, after it has let go of its lock. That is the moment at which
//!   the library's hook is set again, around the new one.

use std::any::Any;
use std::cell::RefCell;
use std::panic::{self, PanicHookInfo};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::{mem, thread};

use crate::error::ErrorKind;
use crate::failure::Failure;
use crate::start::channel::DaemonEnd;
use crate::start::protocol::Message;
use crate::sys::ForkIdentity;

thread_local! {
    /// The text of this thread's last panic.
    static LAST: RefCell<Option<String>> = const { RefCell::new(None) };
}

static STATE: Mutex<State> = Mutex::new(State {
    expected: None,
    latest: None,
});

struct State {
    expected: Option<Expected>,
    /// The text of the last panic in any thread.
    latest: Option<String>,
}

/// Whom a panic is told to, in which process, and as what.
struct Expected {
    /// None in the foreground.
    launcher: Option<DaemonEnd>,
    process: ForkIdentity,
    failure: Failure,
}

fn state() -> MutexGuard<'static, State> {
    STATE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// While this lives, no other thread changes what is told of a panic, so that a
/// copy of the process does not find it locked for ever.
pub(crate) fn freeze() -> impl Sized {
    state()
}

/// From now on the text of a panic is known, and the launcher is told of it as of
/// this failure, until [`settle`].
pub(crate) fn expect(launcher: Option<DaemonEnd>, failure: Failure) {
    replace(Some(Expected {
        launcher,
        process: ForkIdentity::current(),
        failure,
    }));
    set_hook();
}

/// The start is committed, or has failed.
pub(crate) fn settle() {
    replace(None);
}

fn replace(expected: Option<Expected>) {
    let before = mem::replace(&mut state().expected, expected);
    if let Some(before) = before {
        if before.process != ForkIdentity::current() {
            // Its descriptor may be another file by now.
            mem::forget(before);
        }
    }
}

fn is_expected() -> bool {
    let state = state();
    let expected = state.expected.as_ref();
    expected.is_some_and(|expected| expected.process == ForkIdentity::current())
}

/// The text of a panic, where it has one.
pub(crate) fn text_of(payload: &(dyn Any + Send)) -> String {
    match (
        payload.downcast_ref::<String>(),
        payload.downcast_ref::<&str>(),
    ) {
        (Some(text), _) => text.clone(),
        (_, Some(text)) => (*text).to_owned(),
        _ => String::new(),
    }
}

/// A text that says that it is a panic's.
pub(crate) fn with_prefix(text: &str) -> String {
    match text.trim_end() {
        "" => String::from("panic"),
        // Its lines stay below each other.
        text if text.contains('\n') => format!("panic:\n{text}"),
        text => format!("panic: {text}"),
    }
}

/// What the panic that this thread unwinds from has said, as far as is known: it
/// may be another thread's, which this one has resumed.
pub(crate) fn describe_current() -> String {
    let text = LAST.take().or_else(|| state().latest.take());
    match text {
        Some(text) => with_prefix(&text),
        None => String::from("panic, whose text the panic hook of the daemon has kept"),
    }
}

/// The address of the library's hook, which tells it from others.
static HOOK: AtomicUsize = AtomicUsize::new(0);

/// Sets the library's hook around the one that is set, unless that is it.
fn set_hook() {
    // A panicking thread may not.
    if thread::panicking() {
        return;
    }
    let before = panic::take_hook();
    if address(&before) == HOOK.load(Ordering::Relaxed) {
        panic::set_hook(before);
        return;
    }
    let sentinel = Sentinel;
    let hook: Hook = Box::new(move |panic| {
        let _ = &sentinel;
        on_panic(panic, &before);
    });
    HOOK.store(address(&hook), Ordering::Relaxed);
    panic::set_hook(hook);
}

type Hook = Box<dyn Fn(&PanicHookInfo<'_>) + Send + Sync>;

fn address(hook: &Hook) -> usize {
    (&raw const **hook).cast::<()>().addr()
}

/// Captured by the library's hook, and dropped with it.
struct Sentinel;

impl Drop for Sentinel {
    fn drop(&mut self) {
        if is_expected() {
            set_hook();
        }
    }
}

fn on_panic(panic: &PanicHookInfo<'_>, before: &Hook) {
    let text = text_of(panic.payload());
    let launcher = launcher_to_tell(&text);
    // Fails in a thread that is past the end of its locals.
    let _ = LAST.try_with(|last| last.replace(Some(text)));
    // It may not return.
    before(panic);
    if let Some(launcher) = launcher {
        // Where panics abort, none is survived.
        if cfg!(panic = "unwind") {
            let _ = launcher.tell(&Message::PanicSurvived);
        }
    }
}

/// Tells the launcher of a panic, if it waits for this process.
fn launcher_to_tell(text: &str) -> Option<DaemonEnd> {
    let (launcher, failure) = {
        let mut state = state();
        state.latest = Some(text.to_owned());
        let expected = (state.expected.as_mut())
            .filter(|expected| expected.process == ForkIdentity::current())?;
        let (kept, launcher) = expected.launcher.take()?.shared();
        expected.launcher = Some(kept);
        (launcher, expected.failure.clone())
    };
    let text = match failure.kind {
        ErrorKind::Panicked => text.to_owned(),
        _ => with_prefix(text),
    };
    let _ = launcher.tell(&Message::Panicking(failure.because(text)));
    Some(launcher)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_has_the_text_it_was_given_if_any() {
        let said = |panic: fn()| text_of(&*panic::catch_unwind(panic).expect_err("it panics"));
        assert_eq!(said(|| panic!("word by word")), "word by word");
        assert_eq!(said(|| panic!("of {} pieces", 2)), "of 2 pieces");
        assert_eq!(said(|| panic::panic_any(2)), "");
    }

    #[test]
    fn a_text_is_said_to_be_a_panics() {
        assert_eq!(with_prefix(""), "panic");
        assert_eq!(with_prefix("out of luck"), "panic: out of luck");
        assert_eq!(with_prefix("out of\nluck\n"), "panic:\nout of\nluck");
    }
}
