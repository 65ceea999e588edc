//! `startup_timeout`

use std::time::Duration;

use super::Axis;

axis! {
    Timeout |stage| stage.config.options.startup_timeout => {
        None => None;
        /// Longer than any start takes.
        Ample => Some(Duration::from_secs(60));
    }
}

impl Axis for Timeout {}
