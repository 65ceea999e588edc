//! What a panic said, for the launcher.
//!
//! A closure's panic is caught, and its text is in what is caught. While a
//! thread unwinds by itself, only a panic hook knows the text; and where a
//! panic aborts, only a panic hook is left to report it.

use std::any::Any;
use std::cell::RefCell;
use std::panic;
use std::sync::Once;

thread_local! {
    static LAST: RefCell<String> = const { RefCell::new(String::new()) };
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

/// The text of this thread's last panic since [`remember`].
pub(crate) fn last_of_this_thread() -> String {
    LAST.take()
}

/// From now on the text of each thread's last panic is known, and one that
/// aborts is reported. The hook that was there before still does its work.
pub(crate) fn remember() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            let text = text_of(panic.payload());
            before(panic);
            #[cfg(panic = "abort")]
            aborting::report(&text);
            // Fails in a thread that is past the end of its locals.
            let _ = LAST.try_with(|last| last.replace(text));
        }));
    });
}

#[cfg(panic = "abort")]
pub(crate) mod aborting {
    use std::sync::{Mutex, PoisonError};

    use crate::report::{DaemonEnd, Failure, Message};
    use crate::sys::Pid;

    /// Whom a panic is reported to, in which process, and as what.
    static PENDING: Mutex<Option<(DaemonEnd, Pid, Failure)>> = Mutex::new(None);

    /// From now on a panic is reported as this failure, until [`settle`].
    pub(crate) fn expect(launcher: &DaemonEnd, failure: Failure) {
        if let Ok(launcher) = launcher.try_clone() {
            let mut pending = PENDING.lock().unwrap_or_else(PoisonError::into_inner);
            *pending = Some((launcher, Pid::current(), failure));
        }
    }

    /// The start is committed, or has failed.
    pub(crate) fn settle() {
        *PENDING.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    pub(super) fn report(text: &str) {
        let mut pending = PENDING.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((launcher, process, failure)) = pending.take() {
            if process == Pid::current() {
                let text = format!("{}{text}", failure.text);
                let _ = launcher.tell(&Message::Failed(failure.because(text)));
            }
        }
    }
}
