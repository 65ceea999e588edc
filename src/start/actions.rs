//! The caller's closures: their order, their failures, and starts in them.

use std::cell::Cell;
use std::convert::Infallible;
use std::fmt::Display;
use std::panic::{self, AssertUnwindSafe};
use std::thread;

use crate::error::{Error, ErrorKind};
use crate::failure::Failure;
use crate::outcome::FailureMode;
use crate::start::readiness::Readiness;
use crate::start::uncommitted::UncommittedStart;
use crate::start::{panics, start_failure, text};
use crate::sys::{self, ForkIdentity};

/// The closures of a start, as one closure. Its call runs those that precede the drop of
/// privileges.
///
/// The last initialization may borrow. Therefore a start has a lifetime, and stores no closure
/// longer than the start runs.
pub(crate) type Actions<'a, T> = Box<dyn FnOnce() -> Result<Initialization<'a, T>, Failure> + 'a>;

/// What remains to run after the drop of privileges.
pub(crate) enum Initialization<'a, T> {
    /// Nothing remains: the value is known.
    Done(T),
    Pending(Closure<'a, T>),
}

/// A closure that may take the start, and with it the duty to report.
type Closure<'a, T> = Box<dyn FnOnce(&mut Option<UncommittedStart>) -> Result<T, Failure> + 'a>;

impl<T> Initialization<'_, T> {
    pub(super) fn run(self, start: &mut Option<UncommittedStart>) -> Result<T, Failure> {
        match self {
            Self::Done(value) => Ok(value),
            Self::Pending(closure) => closure(start),
        }
    }
}

/// Runs no closure. Allocates nothing, neither here nor in the daemon.
pub(crate) fn none() -> Actions<'static, ()> {
    Box::new(|| Ok(Initialization::Done(())))
}

pub(crate) fn privileged<N>(action: impl FnOnce() -> N + 'static) -> Actions<'static, N> {
    try_privileged(|| Ok::<N, Infallible>(action()))
}

pub(crate) fn try_privileged<N, E, F>(action: F) -> Actions<'static, N>
where
    E: Display + 'static,
    F: FnOnce() -> Result<N, E> + 'static,
{
    Box::new(move || {
        let value = run_fallible(ErrorKind::PrivilegedAction, action)?;
        Ok(Initialization::Done(value))
    })
}

pub(crate) fn then_initialize<'a, T, N, E, F>(
    actions: Actions<'static, T>,
    initialize: F,
) -> Actions<'a, N>
where
    T: 'static,
    E: Display + 'static,
    F: FnOnce(T) -> Result<N, E> + 'a,
{
    Box::new(move || {
        let (previous, initialize) = or_drop(actions(), initialize)?;
        Ok(Initialization::Pending(Box::new(move |start| {
            let (value, initialize) = or_drop(previous.run(start), initialize)?;
            run_fallible(ErrorKind::Initialize, || initialize(value))
        })))
    })
}

/// Makes the payload of the report from the value of the last closure.
pub(crate) fn then_ready_payload<T, P, F>(
    actions: Actions<'static, T>,
    payload: F,
) -> Actions<'static, T>
where
    T: 'static,
    P: AsRef<[u8]>,
    F: FnOnce(&T) -> P + 'static,
{
    Box::new(move || {
        let (previous, payload) = or_drop(actions(), payload)?;
        Ok(Initialization::Pending(Box::new(move |start| {
            let (value, payload) = or_drop(previous.run(start), payload)?;
            let set = run(|| match start {
                Some(start) => start.set_payload(payload(&value).as_ref()),
                None => Ok(()),
            });
            let (_, value) = or_drop(set.and_then(|set| set), value)?;
            Ok(value)
        })))
    })
}

pub(crate) fn then_defer_readiness<T: 'static>(
    actions: Actions<'static, T>,
) -> Actions<'static, (T, Readiness)> {
    Box::new(move || {
        let previous = actions()?;
        Ok(Initialization::Pending(Box::new(move |start| {
            let value = previous.run(start)?;
            Ok((value, Readiness::taking(start)))
        })))
    })
}

/// After a failure, drops the closure that was to follow.
fn or_drop<V, F>(result: Result<V, Failure>, closure: F) -> Result<(V, F), Failure> {
    match result {
        Ok(value) => Ok((value, closure)),
        Err(failure) => {
            drop_quietly(closure);
            Err(failure)
        }
    }
}

/// Runs a closure of the caller that may fail.
fn run_fallible<N, E: Display + 'static>(
    kind: ErrorKind,
    closure: impl FnOnce() -> Result<N, E>,
) -> Result<N, Failure> {
    run(closure)?.map_err(|error| {
        let failure = Failure::from(kind)
            .with_reason(text::of_error_with_causes(&error))
            .with_payload(&start_failure::payload_of(&error));
        drop_quietly(error);
        failure
    })
}

/// Runs a closure of the caller, and makes a failure of a panic.
pub(super) fn run<N>(closure: impl FnOnce() -> N) -> Result<N, Failure> {
    catch(closure).map_err(|payload| {
        let reason = panics::describe(&*payload);
        drop_quietly(payload);
        Failure::from(ErrorKind::Panicked).with_reason(reason)
    })
}

/// Runs a closure of the caller, and catches a panic.
pub(super) fn catch<N>(closure: impl FnOnce() -> N) -> thread::Result<N> {
    let process = ForkIdentity::current();
    let _within = WithinClosure::enter();
    let result = panic::catch_unwind(AssertUnwindSafe(closure));
    if ForkIdentity::current() != process {
        // The closure has forked and has returned in the child too. A start has one launcher and
        // one daemon, and the child is neither.
        sys::_exit(1);
    }
    result
}

/// Drops a value of the caller after a failure. A panic of the drop must not hide that failure.
pub(super) fn drop_quietly<T>(value: T) {
    if let Err(payload) = panic::catch_unwind(AssertUnwindSafe(|| drop(value))) {
        // The drop of the payload may panic too.
        std::mem::forget(payload);
    }
}

thread_local! {
    /// The number of closures of starts that this thread runs, one within the other.
    static CLOSURES: Cell<u32> = const { Cell::new(0) };
}

/// Exists while this thread, or a thread that it was forked from, runs a closure of a start.
struct WithinClosure(());

impl WithinClosure {
    fn enter() -> Self {
        CLOSURES.set(CLOSURES.get() + 1);
        Self(())
    }
}

impl Drop for WithinClosure {
    fn drop(&mut self) {
        CLOSURES.set(CLOSURES.get() - 1);
    }
}

/// Refuses a start within the start of another daemon.
///
/// A closure that starts another daemon returns in that daemon too. Since the outer start has
/// only one daemon, the library would end the other one, although its start was acknowledged.
/// And if a daemon that has not yet reported that it is ready were the launcher of `start`, it
/// would exit, and its own start would fail.
pub(super) fn refuse_nested_start(
    foreground: bool,
    failure_mode: FailureMode,
) -> Result<(), Error> {
    let refuse = |reason| Err(Error::from(ErrorKind::StartWithinStart).with_reason(reason));
    if CLOSURES.get() > 0 {
        refuse("a closure of the other start is running")
    } else if !foreground && failure_mode == FailureMode::Exit && panics::are_expected() {
        refuse("this process has not yet reported that it is ready; use `execute`")
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drop_that_panics_twice_is_survived() {
        struct Insisting;

        impl Drop for Insisting {
            fn drop(&mut self) {
                if !thread::panicking() {
                    panic::panic_any(Self);
                }
            }
        }

        drop_quietly(Insisting);
    }

    #[test]
    fn a_start_is_refused_while_a_closure_runs() {
        let kind = || refuse_nested_start(true, FailureMode::Return).map_err(|error| error.kind());
        assert_eq!(kind(), Ok(()));
        let outer = WithinClosure::enter();
        drop(WithinClosure::enter());
        assert_eq!(kind(), Err(ErrorKind::StartWithinStart));
        drop(outer);
        assert_eq!(kind(), Ok(()));
    }
}
