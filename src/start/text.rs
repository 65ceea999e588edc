//! The texts of the errors and panics of the caller's code, as the launcher receives them.

use std::any::Any;
use std::fmt::{self, Display, Write as _};
use std::panic::{self, AssertUnwindSafe, Location};

use crate::failure::MAX_REASON;
use crate::start::start_failure::chain;

/// The text of an error, as far as it fits into a message. The alternate form makes the errors
/// of anyhow and eyre show their causes. A `Display` that panics ends the text.
pub(crate) fn of_error(error: &impl Display) -> String {
    written(|text| write!(text, "{error:#}"))
}

/// The text of an error, and of those of its causes that the text does not contain. The causes
/// are known for an [`std::io::Error`] and for a boxed [`Error`](std::error::Error).
pub(crate) fn of_error_with_causes<E: Display + 'static>(error: &E) -> String {
    written(|text| {
        write!(text, "{error:#}")?;
        for cause in chain(error).skip(1) {
            let cause = cause.to_string();
            if !text.0.contains(cause.trim()) {
                write!(text, ": {cause}")?;
            }
        }
        Ok(())
    })
}

/// The text of a panic. Empty where the payload is no text.
pub(crate) fn of_panic(payload: &(dyn Any + Send)) -> String {
    let string = payload.downcast_ref::<String>().map(String::as_str);
    let text = string.or_else(|| payload.downcast_ref::<&str>().copied());
    text.unwrap_or_default().to_owned()
}

/// Adds the place in the source to the text of a panic. Without it, the message of an `unwrap` says
/// little, and the default hook writes the place to a standard error that may be /dev/null.
pub(crate) fn with_place(text: &str, place: &Location<'_>) -> String {
    match text.trim_end() {
        "" => format!("at {place}"),
        text if text.contains('\n') => format!("{text}\nat {place}"),
        text => format!("{text} (at {place})"),
    }
}

/// Says that a text is the message of a panic. "It" is the daemon, which the error names before.
pub(crate) fn with_panic_prefix(text: &str) -> String {
    match text.trim_end() {
        "" => String::from("it panicked"),
        // The lines stay aligned below each other.
        text if text.contains('\n') => format!("it panicked:\n{text}"),
        text => format!("it panicked: {text}"),
    }
}

/// Refuses more text than a message carries, so that an endless `Display` ends.
struct Bounded(String);

impl fmt::Write for Bounded {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if self.0.len() >= MAX_REASON {
            return Err(fmt::Error);
        }
        self.0.push_str(text);
        Ok(())
    }
}

fn written(write: impl FnOnce(&mut Bounded) -> fmt::Result) -> String {
    let mut text = Bounded(String::new());
    let written = panic::catch_unwind(AssertUnwindSafe(|| write(&mut text)));
    if written.is_err() {
        text.0.push_str(" (the `Display` of this error panicked)");
    }
    // Removes the blank lines before the text, but keeps the indentation of its first line.
    let blank = text.0.len() - text.0.trim_start_matches(['\n', '\r']).len();
    text.0.split_off(blank)
}

#[cfg(test)]
mod tests {
    use std::error::Error as StdError;
    use std::io;

    use super::*;

    struct Endless;

    impl Display for Endless {
        fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
            loop {
                formatter.write_str("on and on ")?;
            }
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
    fn a_boxed_error_shows_each_of_its_causes_once() {
        let denied = || io::Error::from_raw_os_error(libc::EACCES);
        let failed = |text| {
            Failed(
                text,
                Some(Box::new(Failed("no port", Some(denied().into())))),
            )
        };
        let error: Box<dyn StdError> = Box::new(failed("no server"));
        let text = format!("no server: no port: {}", denied());
        assert_eq!(of_error_with_causes(&error), text);
        // This error shows its cause itself.
        let error: Box<dyn StdError> = Box::new(failed("no server: no port"));
        assert_eq!(of_error_with_causes(&error), text);
        // The causes of any other type are unknown.
        assert_eq!(of_error_with_causes(&failed("no server")), "no server");
    }

    #[test]
    fn an_endless_chain_of_causes_is_cut() {
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
        assert_eq!(of_error_with_causes(&error), "round and round");
    }

    #[test]
    fn an_endless_text_is_cut_once_it_fills_a_message() {
        let length = of_error(&Endless).len();
        assert!((MAX_REASON..2 * MAX_REASON).contains(&length), "{length}");
    }

    #[test]
    fn the_text_of_a_panic_is_its_message() {
        let text = |panic: fn()| of_panic(&*panic::catch_unwind(panic).expect_err("it panics"));
        assert_eq!(text(|| panic!("word by word")), "word by word");
        assert_eq!(text(|| panic!("of {} pieces", 2)), "of 2 pieces");
        assert_eq!(text(|| panic::panic_any(2)), "");
    }

    #[test]
    fn the_place_follows_the_text_of_a_panic() {
        let place = Location::caller();
        let text = |text| with_place(text, place);
        assert_eq!(text("out of luck\n"), format!("out of luck (at {place})"));
        assert_eq!(text("out of\nluck\n"), format!("out of\nluck\nat {place}"));
        assert_eq!(text(""), format!("at {place}"));
    }

    #[test]
    fn the_prefix_says_that_a_text_is_a_panics() {
        assert_eq!(with_panic_prefix(""), "it panicked");
        assert_eq!(with_panic_prefix("out of luck"), "it panicked: out of luck");
        assert_eq!(
            with_panic_prefix("out of\nluck\n"),
            "it panicked:\nout of\nluck"
        );
    }
}
