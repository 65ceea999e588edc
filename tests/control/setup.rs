//! Set-up and assertions that the modules of this suite share.

use tester::prelude::*;

/// A daemon with a pid file.
pub(crate) fn daemon() -> Scenario {
    scenario!().pid_file("daemon.pid")
}
