//! `startup_timeout`

use std::time::Duration;

use super::Axis;
use crate::slowness::scaled;

axis! {
    Timeout |stage| stage.config.options.startup_timeout => {
        None => None;
        /// Longer than any start takes.
        Ample => Some(scaled(Duration::from_secs(60)));
    }
}

impl Axis for Timeout {}
