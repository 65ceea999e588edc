//! Set-up and assertions that the modules of this suite share.

use tester::prelude::*;

/// Both views agree that the daemon has this root and this working directory.
#[track_caller]
pub(crate) fn assert_confined(run: &Run, root: &Path, working_directory: &Path) -> Report {
    let daemon = run.assert_views_agree();
    let place = |path| Some(Place::of(path).unwrap());
    assert_eq!(daemon.root, place(root));
    assert_eq!(daemon.working_directory, place(working_directory));
    daemon
}
