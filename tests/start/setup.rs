//! Set-up and assertions that the modules of this suite share.

use tester::prelude::*;

pub(crate) fn with_action(steps: impl Into<Vec<Step>>) -> Scenario {
    scenario!().pid_file("daemon.pid").privileged_action(steps)
}
