//! An error of the caller's code that carries bytes to the launcher.

use std::any::Any;
use std::error::Error as StdError;
use std::fmt::{self, Display};
use std::io;
use std::panic::{self, AssertUnwindSafe};

/// An error by which a closure of the start gives the launcher bytes beside the text, for example
/// an exit status. The launcher gets the bytes by [`Error::payload`](crate::Error::payload).
///
/// The closures of [`try_privileged_action`](crate::Daemonize::try_privileged_action) and
/// [`initialize`](crate::Daemonize::initialize), and the server of
/// [`Readiness::serve`](crate::Readiness::serve), may return it as their error, in a
/// `Box<dyn Error>`, or in an [`io::Error`]. The library also finds it among the
/// [sources](StdError::source) of a `Box<dyn Error>`. It cannot look into the types of anyhow and
/// eyre.
///
/// ```no_run
/// use daemonize2::{Daemonize, StartFailure};
/// use std::error::Error;
///
/// fn main() {
///     let started = Daemonize::new()
///         .initialize(|()| -> Result<(), Box<dyn Error>> {
///             let config = std::fs::read_to_string("/etc/clockd.conf");
///             // EX_CONFIG of sysexits.h.
///             config.map_err(|error| StartFailure::new(error).with_payload([78]))?;
///             Ok(())
///         })
///         .start_checked();
///     if let Err(error) = started {
///         eprintln!("clockd: {error}");
///         std::process::exit(error.payload().first().map_or(1, |status| i32::from(*status)));
///     }
/// }
/// ```
///
/// If the payload is longer than 2048 bytes, the launcher gets the error without a payload, and
/// the text says so. If a chain of sources has several `StartFailure`s, the library uses the
/// first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StartFailure {
    reason: String,
    payload: Vec<u8>,
}

impl StartFailure {
    /// A failure with this reason in the form `{:#}`, and without a payload.
    pub fn new(reason: impl Display) -> Self {
        Self {
            reason: format!("{reason:#}"),
            payload: Vec::new(),
        }
    }

    /// Sets the payload.
    #[must_use]
    pub fn with_payload(mut self, payload: impl Into<Vec<u8>>) -> Self {
        self.payload = payload.into();
        self
    }
}

impl Display for StartFailure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.reason)
    }
}

impl StdError for StartFailure {}

/// The payload of an error of the caller's code. Empty if the error has none, or if a `source` of
/// the caller panics.
pub(super) fn payload_of<E: 'static>(error: &E) -> Vec<u8> {
    let find = || {
        let failure = chain(error).find_map(as_start_failure)?;
        Some(failure.payload.clone())
    };
    let found = panic::catch_unwind(AssertUnwindSafe(find));
    found.ok().flatten().unwrap_or_default()
}

/// An error and its causes. Empty if the type is not known to be an [`Error`](StdError): `Display`
/// alone leads to no cause.
pub(super) fn chain<E: 'static>(error: &E) -> impl Iterator<Item = &(dyn StdError + 'static)> {
    /// A chain of causes may be endless.
    const MAX_CAUSES: usize = 64;

    std::iter::successors(as_std_error(error), |&cause| cause.source()).take(1 + MAX_CAUSES)
}

fn as_std_error(error: &dyn Any) -> Option<&(dyn StdError + 'static)> {
    if let Some(error) = error.downcast_ref::<Box<dyn StdError>>() {
        Some(&**error)
    } else if let Some(error) = error.downcast_ref::<Box<dyn StdError + Send>>() {
        Some(&**error)
    } else if let Some(error) = error.downcast_ref::<Box<dyn StdError + Send + Sync>>() {
        Some(&**error)
    } else if let Some(error) = error.downcast_ref::<StartFailure>() {
        Some(error)
    } else {
        Some(error.downcast_ref::<io::Error>()?)
    }
}

fn as_start_failure<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a StartFailure> {
    error.downcast_ref().or_else(|| {
        // The source of an `io::Error` is the source of the error that it contains.
        let contained = error.downcast_ref::<io::Error>()?.get_ref()?;
        contained.downcast_ref()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct NoService(io::Error);

    impl Display for NoService {
        fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
            formatter.write_str("no service")
        }
    }

    impl StdError for NoService {
        fn source(&self) -> Option<&(dyn StdError + 'static)> {
            Some(&self.0)
        }
    }

    #[test]
    fn a_payload_is_found_wherever_a_start_failure_may_be() {
        let failure = || StartFailure::new("no port is free").with_payload([7]);
        let io_error = || io::Error::other(failure());
        let boxed: Box<dyn StdError> = Box::new(failure());
        let sent: Box<dyn StdError + Send> = Box::new(failure());
        let shared: Box<dyn StdError + Send + Sync> = Box::new(failure());
        let nested: Box<dyn StdError> = Box::new(NoService(io_error()));
        for payload in [
            payload_of(&failure()),
            payload_of(&io_error()),
            payload_of(&boxed),
            payload_of(&sent),
            payload_of(&shared),
            payload_of(&nested),
        ] {
            assert_eq!(payload, [7]);
        }
        assert_eq!(payload_of(&String::from("no port is free")), [0; 0]);
        assert_eq!(payload_of(&io::Error::other("no port is free")), [0; 0]);
    }

    #[test]
    fn a_source_that_panics_hides_no_error() {
        #[derive(Debug)]
        struct Panics;

        impl Display for Panics {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("no port is free")
            }
        }

        impl StdError for Panics {
            fn source(&self) -> Option<&(dyn StdError + 'static)> {
                panic!("the source of an error")
            }
        }

        let error: Box<dyn StdError> = Box::new(Panics);
        assert_eq!(payload_of(&error), [0; 0]);
    }
}
