//! The launcher as a process: session, threads, limits and orphans.

use super::caller::Caller;
use super::{Axis, Choice, Rights};
use crate::config::Session;
use crate::model::databases::Databases;
use crate::sys;

axis! {
    LauncherSession |stage| stage.config.initial.session => {
        Inherited => Session::Inherited;
        Leader => Session::Leader;
        LeaderWithTerminal => Session::LeaderWithTerminal;
    }
}

axis! {
    Threads |stage| (stage.config.initial.extra_threads, stage.config.initial.joined_threads) => {
        One => (0, 0);
        /// There was another one, which has ended.
        Joined => (0, 1);
        Two => (1, 0);
    }
}

axis! {
    Limits |stage| (stage.config.initial.limit_descriptors, stage.config.initial.limit_processes) => {
        Inherited => (None, None);
        Descriptors => (Some(32), None);
        /// The launcher itself. FreeBSD takes a limit of 0 for none.
        Processes => (None, Some(1));
    }
}

axis! {
    /// The process that orphans fall to.
    Orphans |stage| stage.config.initial.subreaper => {
        Inherited => false;
        ToLauncher => true;
    }
}

impl Axis for LauncherSession {
    fn contradiction(self, _other: &Choice, _databases: &Databases) -> Option<&'static str> {
        (self == Self::LeaderWithTerminal && !sys::has_terminals())
            .then_some("there are no pseudo-terminals")
    }
}

impl Axis for Threads {
    fn contradiction(self, other: &Choice, _databases: &Databases) -> Option<&'static str> {
        (self == Self::Two && other.gives_a_thread_capabilities())
            // The C library ends a process whose threads cannot all change their ids.
            .then_some("capabilities belong to one thread")
    }
}

impl Axis for Limits {
    fn expected_failure(self, other: &Choice, rights: Option<Rights>) -> Option<&'static str> {
        let is_real_user = other.caller == Some(Caller::RealUser);
        let is_bound = is_real_user || rights.is_some_and(|rights| !rights.is_root);
        (self == Self::Processes && is_bound).then_some("an ordinary user may have no processes")
    }
}

impl Axis for Orphans {
    fn contradiction(self, _other: &Choice, _databases: &Databases) -> Option<&'static str> {
        (self == Self::ToLauncher && !cfg!(target_os = "linux"))
            .then_some("orphans fall to init alone")
    }
}
