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

/// While this lives, no other thread changes what is reported where a panic
/// aborts: see [`own_fds::lock_for_fork`](crate::own_fds::lock_for_fork).
pub(crate) fn freeze() -> impl Sized {
    #[cfg(panic = "abort")]
    aborting::freeze()
}

#[cfg(panic = "abort")]
pub(crate) mod aborting {
    use std::mem;
    use std::sync::{Mutex, PoisonError};

    use crate::own_fds;
    use crate::report::{DaemonEnd, Failure, Message};
    use crate::sys::Process;

    /// Whom a panic is reported to, in which process, and as what.
    static PENDING: Mutex<Option<Expected>> = Mutex::new(None);

    struct Expected {
        launcher: DaemonEnd,
        process: Process,
        failure: Failure,
    }

    pub(super) fn freeze() -> impl Sized {
        PENDING.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands out what was expected, if it was of this process: a copy of it is
    /// forgotten.
    fn replace(expected: Option<Expected>) -> Option<Expected> {
        let mut pending = PENDING.lock().unwrap_or_else(PoisonError::into_inner);
        let before = mem::replace(&mut *pending, expected)?;
        if before.process == Process::current() {
            own_fds::unregister(before.launcher.descriptor());
            Some(before)
        } else {
            mem::forget(before);
            None
        }
    }

    /// From now on a panic is reported as this failure, until [`settle`].
    pub(crate) fn expect(launcher: &DaemonEnd, failure: Failure) {
        if let Ok(launcher) = launcher.try_clone() {
            own_fds::register(launcher.descriptor());
            replace(Some(Expected {
                launcher,
                process: Process::current(),
                failure,
            }));
        }
    }

    /// The start is committed, or has failed.
    pub(crate) fn settle() {
        replace(None);
    }

    pub(super) fn report(text: &str) {
        if let Some(expected) = replace(None) {
            let text = format!("{}{text}", expected.failure.text);
            let failure = expected.failure.because(text);
            let _ = expected.launcher.tell(&Message::Failed(failure));
        }
    }
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
    fn the_last_panic_of_this_thread_is_known_once() {
        remember();
        let _ = panic::catch_unwind(|| panic!("the first"));
        let _ = panic::catch_unwind(|| panic!("the last"));
        assert_eq!(last_of_this_thread(), "the last");
        assert_eq!(last_of_this_thread(), "");
    }
}
