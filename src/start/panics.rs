//! The panic hook of the library.
//!
//! The library catches the panic of a closure, and with it the text. It cannot catch a panic if
//! a panic hook of the program ends the process first, if the panic aborts the process, or if
//! another thread panics. So the library sets a hook, from before the first closure until the
//! start is committed or has failed:
//!
//! - The hook reports each panic to the launcher, calls the hook that was set before, and then
//!   reports that the daemon survived. If the daemon ends between the two reports, the panic is
//!   the cause.
//! - If the program sets a hook meanwhile, std drops the hook of the library, after std has
//!   released its lock. The drop sets the hook of the library again, around the new hook.

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
use crate::start::text;
use crate::sys::ForkIdentity;

thread_local! {
    /// The last panic of this thread.
    static LAST: RefCell<Option<Panic>> = const { RefCell::new(None) };
}

struct Panic {
    text: String,
    /// The text, and the place of the panic in the source.
    description: String,
}

static STATE: Mutex<State> = Mutex::new(State {
    expected: None,
    last_of_any_thread: None,
});

struct State {
    expected: Option<Expected>,
    last_of_any_thread: Option<String>,
}

/// A process that reports its panics to the launcher.
struct Expected {
    process: ForkIdentity,
    /// `None` in the foreground.
    launcher: Option<DaemonEnd>,
    /// The failure as which a panic is reported.
    failure: Failure,
}

fn state() -> MutexGuard<'static, State> {
    STATE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Locks the state over fork(2). If another thread held the lock during the fork, the state
/// would stay locked in the child.
pub(super) fn lock_for_fork() -> impl Sized {
    state()
}

/// Makes the hook report each panic to the launcher, as this failure, until [`settle`].
pub(super) fn expect(launcher: Option<DaemonEnd>, failure: Failure) {
    replace_expected(Some(Expected {
        process: ForkIdentity::current(),
        launcher,
        failure,
    }));
    set_hook();
}

/// Ends [`expect`]: the start is committed or has failed.
pub(super) fn settle() {
    replace_expected(None);
}

/// Whether this process, and not a process that it is a copy of, has a start that is neither
/// committed nor has failed.
pub(super) fn are_expected() -> bool {
    let state = state();
    let expected = state.expected.as_ref();
    expected.is_some_and(|expected| expected.process == ForkIdentity::current())
}

fn replace_expected(expected: Option<Expected>) {
    let before = mem::replace(&mut state().expected, expected);
    if let Some(before) = before.filter(|before| before.process != ForkIdentity::current()) {
        // The number of the copied descriptor may be another file's by now.
        mem::forget(before);
    }
}

/// Describes a panic that was caught. Its place is known if the hook of the library has run.
pub(super) fn describe(payload: &(dyn Any + Send)) -> String {
    let text = text::of_panic(payload);
    match LAST.take() {
        Some(last) if last.text == text => last.description,
        _ => text,
    }
}

/// Describes the panic from which this thread unwinds, as far as it is known. A thread may also
/// resume the panic of another thread.
pub(super) fn describe_current() -> String {
    let last = LAST.take().map(|last| last.description);
    match last.or_else(|| state().last_of_any_thread.take()) {
        Some(text) => text::with_panic_prefix(&text),
        None => String::from(
            "it panicked; the message is unknown, because the library's panic hook did not run",
        ),
    }
}

type Hook = Box<dyn Fn(&PanicHookInfo<'_>) + Send + Sync>;

/// The address of the hook of the library.
static HOOK: AtomicUsize = AtomicUsize::new(0);

/// Sets the hook of the library around the present one, unless the present one is the
/// library's.
fn set_hook() {
    // A panicking thread must not set a hook.
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

fn address(hook: &Hook) -> usize {
    (&raw const **hook).cast::<()>().addr()
}

/// A capture of the hook of the library, which is dropped with the hook.
struct Sentinel;

impl Drop for Sentinel {
    fn drop(&mut self) {
        if are_expected() {
            set_hook();
        }
    }
}

fn on_panic(panic: &PanicHookInfo<'_>, before: &Hook) {
    let text = text::of_panic(panic.payload());
    let description = match panic.location() {
        Some(place) => text::with_place(&text, place),
        None => text.clone(),
    };
    let launcher = report_panic(&description);
    // Fails in a thread whose locals are destroyed already.
    let _ = LAST.try_with(|last| last.replace(Some(Panic { text, description })));
    // The hook of the program may end the process.
    before(panic);
    if let Some(launcher) = launcher {
        if cfg!(panic = "unwind") {
            let _ = launcher.send(&Message::PanicSurvived);
        }
    }
}

/// Reports a panic to the launcher, if the launcher waits for this process.
fn report_panic(text: &str) -> Option<DaemonEnd> {
    let (launcher, failure) = {
        let mut state = state();
        state.last_of_any_thread = Some(text.to_owned());
        let expected = state.expected.as_mut()?;
        if expected.process != ForkIdentity::current() {
            return None;
        }
        let (kept, launcher) = expected.launcher.take()?.share();
        expected.launcher = Some(kept);
        (launcher, expected.failure.clone())
    };
    let text = match failure.kind {
        ErrorKind::Panicked => text.to_owned(),
        _ => text::with_panic_prefix(text),
    };
    let _ = launcher.send(&Message::Panicking(failure.with_reason(text)));
    Some(launcher)
}
