//! Set-up and assertions that the modules of this suite share.

use tester::prelude::*;

pub(crate) fn in_foreground() -> Scenario {
    scenario!().foreground(Foreground::Yes)
}
