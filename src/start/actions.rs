//! The caller's closures: in which order they run, and what becomes of their
//! failures.

use std::any::Any;
use std::error::Error as StdError;
use std::fmt::{self, Display, Write as _};
use std::io;
use std::panic::{self, AssertUnwindSafe};

use crate::error::ErrorKind;
use crate::failure::{Failure, LONGEST_TEXT};
use crate::start::nesting::WithinClosure;
use crate::start::panics;
use crate::start::readiness::{Pending, Readiness};
use crate::sys::{self, ForkIdentity};

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
    E: Display + 'static,
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
    E: Display + 'static,
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
fn run_fallible<N, E: Display + 'static>(
    kind: ErrorKind,
    closure: impl FnOnce() -> Result<N, E>,
) -> Result<N, Failure> {
    run(closure)?.map_err(|error| {
        let text = text_with_causes(&error);
        drop_quietly(error);
        Failure::from(kind).because(text)
    })
}

/// Runs a closure of the caller's. A panic becomes a failure with its text.
pub(crate) fn run<N>(closure: impl FnOnce() -> N) -> Result<N, Failure> {
    let daemon = ForkIdentity::current();
    let _within = WithinClosure::enter();
    let result = panic::catch_unwind(AssertUnwindSafe(closure));
    if ForkIdentity::current() != daemon {
        // The closure has forked and let the copy return too. There is one
        // daemon, and this is not it.
        sys::_exit(1);
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

/// The text of an error of the caller's, as far as it fits in a report: in the
/// alternate form, in which errors that keep causes, such as those of anyhow and
/// eyre, show them. One whose `Display` panics has said enough by then.
pub(crate) fn text_of(error: &impl Display) -> String {
    written(|text| write!(text, "{error:#}"))
}

/// The same, and the causes of an error that does not show them itself, where
/// its type tells them: of any type that is boxed as an [`Error`](StdError).
/// What has been said is not said again.
pub(crate) fn text_with_causes<E: Display + 'static>(error: &E) -> String {
    /// Nothing keeps a chain of causes from being endless.
    const MOST_CAUSES: usize = 64;

    written(|text| {
        write!(text, "{error:#}")?;
        let mut cause = source(error);
        for _ in 0..MOST_CAUSES {
            let Some(this) = cause else { break };
            let said = this.to_string();
            if !text.0.contains(said.trim()) {
                write!(text, ": {said}")?;
            }
            cause = this.source();
        }
        Ok(())
    })
}

/// The source of an error, where its type is known to have one: `Display` does
/// not tell.
fn source<E: 'static>(error: &E) -> Option<&(dyn StdError + 'static)> {
    let error: &dyn Any = error;
    if let Some(error) = error.downcast_ref::<Box<dyn StdError>>() {
        error.source()
    } else if let Some(error) = error.downcast_ref::<Box<dyn StdError + Send>>() {
        error.source()
    } else if let Some(error) = error.downcast_ref::<Box<dyn StdError + Send + Sync>>() {
        error.source()
    } else {
        error.downcast_ref::<io::Error>()?.source()
    }
}

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

fn written(write: impl FnOnce(&mut Short) -> fmt::Result) -> String {
    let mut text = Short(String::new());
    let written = panic::catch_unwind(AssertUnwindSafe(|| write(&mut text)));
    if written.is_err() {
        text.0.push_str(" (the text of this error panicked)");
    }
    // The lines that follow stay where they are below the first.
    let blank = text.0.len() - text.0.trim_start_matches(['\n', '\r']).len();
    text.0.split_off(blank)
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

    #[derive(Debug)]
    struct Failed(&'static str, Option<Box<dyn StdError>>);

    impl Display for Failed {
        fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
            formatter.write_str(self.0)
        }
    }

    impl StdError for Failed {
        fn source(&self) -> Option<&(dyn StdError + 'static)> {
            self.1.as_deref()
        }
    }

    #[test]
    fn a_boxed_error_shows_its_causes_once_each() {
        let denied = || io::Error::from_raw_os_error(libc::EACCES);
        let failed = |text| {
            Failed(
                text,
                Some(Box::new(Failed("no port", Some(denied().into())))),
            )
        };
        let error: Box<dyn StdError> = Box::new(failed("no server"));
        let text = format!("no server: no port: {}", denied());
        assert_eq!(text_with_causes(&error), text);
        // One that shows its cause itself.
        let error: Box<dyn StdError> = Box::new(failed("no server: no port"));
        assert_eq!(text_with_causes(&error), text);
        // Nothing is known of the causes of any other type.
        assert_eq!(text_with_causes(&failed("no server")), "no server");
    }

    #[test]
    fn an_endless_chain_of_causes_is_ended() {
        #[derive(Debug)]
        struct Circular;

        impl Display for Circular {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("round and round")
            }
        }

        impl StdError for Circular {
            fn source(&self) -> Option<&(dyn StdError + 'static)> {
                Some(self)
            }
        }

        let error: Box<dyn StdError + Send + Sync> = Box::new(Circular);
        assert_eq!(text_with_causes(&error), "round and round");
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
