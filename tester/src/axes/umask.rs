//! `umask`, and the mask of the launcher.

use super::Axis;
use crate::model::start::Start;

axis! {
    Umask |stage| stage.config.options.umask => {
        Unset => None;
        Open => Some(0);
        Usual => Some(0o022);
        Closed => Some(0o777);
    }
}

axis! {
    InitialUmask |stage| stage.config.initial.umask => {
        Inherited => None;
        Open => Some(0);
        Closed => Some(0o777);
    }
}

impl Axis for Umask {}

impl Axis for InitialUmask {}

impl Start<'_> {
    pub(crate) fn set_umask(&mut self) {
        let default = match self.is_foreground() {
            true => self.process.umask,
            false => Some(0o027),
        };
        self.process.umask = self.options.umask.or(default);
    }
}
