//! The caller's closures: in which order they run, and what becomes of their
//! failures.

use std::fmt::{self, Display, Write as _};
use std::panic::{self, AssertUnwindSafe};

use crate::error::ErrorKind;
use crate::nesting::WithinClosure;
use crate::panics;
use crate::readiness::{Pending, Readiness};
use crate::report::{Failure, LONGEST_TEXT};
use crate::sys::{self, Process};

/// What runs before privileges are dropped.
pub(crate) type Actions<T> = Box<dyn FnOnce() -> Result<Initialization<T>, Failure>>;

/// What is left to do after they are.
pub(crate) enum Initialization<T> {
    /// Nothing: this is the value.
    Done(T),
    Left(Closure<T>),
}

/// May take over the report that the daemon is ready.
type Closure<T> = Box<dyn FnOnce(&mut Option<Pending>) -> Result<T, Failure>>;

impl<T> Initialization<T> {
    pub(crate) fn run(self, pending: &mut Option<Pending>) -> Result<T, Failure> {
        match self {
            Self::Done(value) => Ok(value),
            Self::Left(closure) => closure(pending),
        }
    }
}

/// No closure at all. Allocates nothing, neither here nor in the daemon.
pub(crate) fn none() -> Actions<()> {
    Box::new(|| Ok(Initialization::Done(())))
}

pub(crate) fn privileged<N, F>(action: F) -> Actions<N>
where
    F: FnOnce() -> N + 'static,
{
    Box::new(move || Ok(Initialization::Done(run(action)?)))
}

pub(crate) fn try_privileged<N, E, F>(action: F) -> Actions<N>
where
    E: Display,
    F: FnOnce() -> Result<N, E> + 'static,
{
    Box::new(move || {
        let value = run_fallible(ErrorKind::PrivilegedAction, action)?;
        Ok(Initialization::Done(value))
    })
}

pub(crate) fn then_initialize<T, N, E, F>(actions: Actions<T>, initialize: F) -> Actions<N>
where
    T: 'static,
    E: Display,
    F: FnOnce(T) -> Result<N, E> + 'static,
{
    Box::new(move || {
        let before = match actions() {
            Ok(before) => before,
            Err(failure) => {
                drop_quietly(initialize);
                return Err(failure);
            }
        };
        Ok(Initialization::Left(Box::new(move |pending| {
            let value = match before.run(pending) {
                Ok(value) => value,
                Err(failure) => {
                    drop_quietly(initialize);
                    return Err(failure);
                }
            };
            run_fallible(ErrorKind::Initialize, || initialize(value))
        })))
    })
}

pub(crate) fn then_hand_over<T: 'static>(actions: Actions<T>) -> Actions<(T, Readiness)> {
    Box::new(move || {
        let before = actions()?;
        Ok(Initialization::Left(Box::new(move |pending| {
            let value = before.run(pending)?;
            Ok((value, Readiness::taking(pending)))
        })))
    })
}

/// Runs a closure of the caller's that may fail.
fn run_fallible<N, E: Display>(
    kind: ErrorKind,
    closure: impl FnOnce() -> Result<N, E>,
) -> Result<N, Failure> {
    run(closure)?.map_err(|error| {
        let text = text_of(&error);
        drop_quietly(error);
        Failure::from(kind).because(text)
    })
}

/// Runs a closure of the caller's. A panic becomes a failure with its text.
pub(crate) fn run<N>(closure: impl FnOnce() -> N) -> Result<N, Failure> {
    let daemon = Process::current();
    let _within = WithinClosure::enter();
    let result = panic::catch_unwind(AssertUnwindSafe(closure));
    if Process::current() != daemon {
        // The closure has forked and let the copy return too. There is one
        // daemon, and this is not it.
        sys::exit_now(1);
    }
    result.map_err(|payload| {
        let text = panics::text_of(&*payload);
        drop_quietly(payload);
        Failure::from(ErrorKind::Panicked).because(text)
    })
}

/// Drops what is the caller's after a failure: a panic in there does not hide
/// what had failed before.
pub(crate) fn drop_quietly<T>(value: T) {
    if let Err(payload) = panic::catch_unwind(AssertUnwindSafe(|| drop(value))) {
        // Its own drop may well panic too.
        std::mem::forget(payload);
    }
}

/// The text of an error of the caller's, as far as it fits in a report. One
/// whose `Display` panics has said enough by then.
pub(crate) fn text_of(error: &impl Display) -> String {
    struct Short(String);

    impl fmt::Write for Short {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            if self.0.len() >= LONGEST_TEXT {
                return Err(fmt::Error);
            }
            self.0.push_str(text);
            Ok(())
        }
    }

    let mut text = Short(String::new());
    let written = panic::catch_unwind(AssertUnwindSafe(|| write!(text, "{error}")));
    if written.is_err() {
        text.0.push_str(" (the text of this error panicked)");
    }
    text.0.trim_start().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Endless;

    impl Display for Endless {
        fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
            loop {
                formatter.write_str("on and on ")?;
            }
        }
    }

    struct Panicking;

    impl Display for Panicking {
        fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
            formatter.write_str("so far")?;
            panic!("no further");
        }
    }

    #[test]
    fn an_endless_text_is_ended_once_it_fills_a_report() {
        let length = text_of(&Endless).len();
        assert!(
            (LONGEST_TEXT..2 * LONGEST_TEXT).contains(&length),
            "{length}"
        );
    }

    #[test]
    fn a_drop_that_panics_and_panics_again_is_survived() {
        struct Insisting;

        impl Drop for Insisting {
            fn drop(&mut self) {
                if !std::thread::panicking() {
                    panic::panic_any(Self);
                }
            }
        }

        drop_quietly(Insisting);
    }

    #[test]
    fn a_display_that_panics_is_survived() {
        assert_eq!(
            text_of(&Panicking),
            "so far (the text of this error panicked)"
        );
    }
}
