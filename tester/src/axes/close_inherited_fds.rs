//! `close_inherited_fds`

use super::Axis;
use super::descriptors::INHERITED;
use crate::model::start::Start;
use crate::report::Descriptor;

axis! {
    CloseFds |stage| stage.config.options.close_inherited_fds => {
        Unset => None;
        All => Some(Vec::new());
        /// All but these, which may be open.
        Some => Some(vec![INHERITED, 4]);
    }
}

impl Axis for CloseFds {}

impl Start<'_> {
    /// The streams, their sources and the sockets of a service manager are kept without being named.
    pub(crate) fn close_inherited(&mut self) {
        let Some(kept) = &self.options.close_inherited_fds else {
            return;
        };
        let descriptors = self.process.descriptors.take();
        let is_left = |found: &Descriptor| {
            let is_named = found.number < 3 || kept.contains(&found.number);
            is_named || self.is_source(found) || self.is_activated(found.number)
        };
        self.process.descriptors = descriptors.map(|all| all.into_iter().filter(is_left).collect());
    }
}
