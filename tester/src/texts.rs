//! Reasons of errors, for the model and the tests.

use std::fmt::Display;
use std::io;

pub const IS_LINK: &str = "it is a symbolic link: remove it, or use the path that it leads to";
pub const READINESS_DROPPED: &str = "it dropped its `Readiness` unused: keep it until the daemon \
                                     calls `ready`, or use `Readiness::serve`, which also reports \
                                     errors";
pub const INSTEAD_OF_EXITING: &str = "to report the cause, return an error from the closure, or \
                                      use `Readiness::fail`, instead of exiting";
/// The reason why the daemon's messages are lost.
pub const NO_MESSAGES: &str = "its standard error is /dev/null: set `stderr` to see its messages";

/// Panics with this text. Without one, returns the place of the panic in the source.
pub(crate) fn panic_or_place(text: Option<&str>) -> &'static str {
    // The places within a macro are those of its call.
    macro_rules! panic_or_place {
        () => {
            match text {
                Some(text) => panic!("{text}"),
                None => concat!(file!(), ":", line!(), ":", column!()),
            }
        };
    }
    panic_or_place!()
}

/// What an error says of a panic of the tester with this text.
pub fn of_panic(text: &str) -> String {
    let place = panic_or_place(None);
    match text.contains('\n') {
        true => format!("{}\nat {place}", text.trim_end()),
        false => format!("{text} (at {place})"),
    }
}

/// The reason of a file whose directory is missing.
pub fn missing_directory(directory: impl Display) -> String {
    let reason = io::Error::from_raw_os_error(libc::ENOENT);
    format!(
        "{reason}: its directory {directory} does not exist: create it, or let the start create it \
         by `Daemonize::directory`"
    )
}
