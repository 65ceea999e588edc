//! `NOTIFY_SOCKET`: the process that a service manager waits for.

use super::{Axis, Stage};
use crate::config::ExecPid;
use crate::harness::FakeServiceManager;

axis! {
    /// The process that a service manager waits for.
    Notify |stage| stage.config.initial.exec_pid => {
        Nobody => None;
        Launcher => listen(stage, Some(ExecPid::Own));
        /// Any process that has the socket.
        Anybody => listen(stage, None);
        /// The parent of the launcher.
        Parent => listen(stage, Some(ExecPid::Parents));
    }
}

fn listen(stage: &mut Stage<'_>, exec_pid: Option<ExecPid>) -> Option<ExecPid> {
    let path = stage.scenario.path("notify");
    stage.scenario = stage.scenario.clone().env("NOTIFY_SOCKET", &path);
    stage.manager = Some(FakeServiceManager::at(&path));
    exec_pid
}

impl Axis for Notify {}
