//! What the launcher has left to do at its exit: to write what it has printed, and to run a handler.

use super::descriptors::Closed;
use super::process::Threads;
use super::streams::Input;
use super::{Axis, Choice};
use crate::model::databases::Databases;

axis! {
    /// What the launcher has printed, but not written. Without the end of a line, it stays in the
    /// buffer.
    Unflushed |stage| (
        stage.config.initial.unflushed_rust,
        stage.config.initial.unflushed_c,
    ) => {
        None => (None, None);
        Rust => (Some("std's text. ".to_owned()), None);
        C => (None, Some("C's text. ".to_owned()));
        Both => (Some("std's text. ".to_owned()), Some("C's text. ".to_owned()));
    }
}

axis! {
    /// Whether the launcher has an atexit handler.
    AtExit |stage| stage.config.initial.at_exit_handler => {
        None => false;
        Handler => true;
    }
}

impl Axis for Unflushed {
    fn contradiction(self, other: &Choice, _databases: &Databases) -> Option<&'static str> {
        if self == Self::None {
            return None;
        }
        let has_no_output = matches!(
            other.closed,
            Some(Closed::Output | Closed::InputAndOutput | Closed::OutputAndErrors | Closed::All)
        ) || other.stdin == Some(Input::FromOutput);
        if has_no_output {
            return Some("the C library decides what becomes of the text");
        }
        (other.threads == Some(Threads::Two))
            .then_some("then it is not flushed, and each process has it")
    }
}

impl Axis for AtExit {}
