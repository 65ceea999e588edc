//! The descriptors of the launcher.

use super::{Axis, Stage};
use crate::config::OpenDescriptor;

/// The number of [`Descriptors::Inheritable`].
pub(super) const INHERITED: i32 = 150;

axis! {
    Closed |stage| stage.config.initial.closed => {
        None => [false; 3];
        Input => [true, false, false];
        Output => [false, true, false];
        Errors => [false, false, true];
        InputAndOutput => [true, true, false];
        InputAndErrors => [true, false, true];
        OutputAndErrors => [false, true, true];
        All => [true; 3];
    }
}

axis! {
    /// Which further descriptors the launcher has.
    Descriptors |stage| stage.config.initial.descriptors => {
        None => Vec::new();
        /// A descriptor that exec keeps.
        Inheritable => open(stage, INHERITED, false);
        /// A descriptor that exec closes, at the first number after the streams.
        CloseOnExec => open(stage, 3, true);
    }
}

fn open(stage: &Stage<'_>, number: i32, close_on_exec: bool) -> Vec<OpenDescriptor> {
    let path = stage.scenario.path("inherited");
    stage.file(&path, 0o644, b"");
    vec![OpenDescriptor {
        number,
        path: path.into(),
        close_on_exec,
    }]
}

impl Axis for Closed {}

impl Axis for Descriptors {}
