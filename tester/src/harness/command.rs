//! Commands to the process of a case that receives them. A method panics, with the diagnostics, if
//! no process receives the command, or if no answer comes.

use std::os::fd::AsFd;
use std::path::Path;

use super::run::Run;
use crate::config::Bytes;
use crate::control::{self, Command, FormerIds, Message};
use crate::report::{Place, Regained, Report};
use crate::select;

impl Run {
    /// Sends a command.
    #[track_caller]
    pub fn send_command(&self, command: &Command) {
        if let Err(error) = control::command(self.case.control.as_fd(), command) {
            panic!("cannot send {command:?}: {error}\n{}", self.diagnostics());
        }
    }

    /// Sends a command, and waits for an answer that `select` accepts.
    #[track_caller]
    fn ask<T>(&self, command: &Command, mut select: impl FnMut(&Message) -> Option<T>) -> T {
        let before = self.case.journal.events().frames.len();
        self.send_command(command);
        self.wait("an answer", |events| {
            events.frames[before..]
                .iter()
                .find_map(|frame| select(&frame.message))
        })
    }

    /// Lets the closure at [`Run::held`] go on.
    #[track_caller]
    pub fn proceed(&self) {
        self.send_command(&Command::Proceed);
    }

    /// The daemon as it is now.
    #[track_caller]
    pub fn observe(&self) -> Report {
        self.ask(&Command::Observe, select!(Now))
    }

    /// Lets the daemon try to regain these ids and those of root.
    #[track_caller]
    pub fn try_to_regain(&self, uid: u32, gid: u32) -> Regained {
        self.ask(
            &Command::TryToRegain(FormerIds { uid, gid }),
            select!(Regained),
        )
    }

    /// Lets the daemon try to leave its root directory.
    #[track_caller]
    pub fn try_to_escape(&self) -> Vec<Place> {
        self.ask(&Command::TryToEscape, select!(Reached))
    }

    /// Lets the daemon try to leave its root directory through these paths. A path that it cannot
    /// enter leads nowhere.
    #[track_caller]
    pub fn try_to_escape_through(&self, paths: Vec<Bytes>) -> Vec<Place> {
        self.ask(&Command::TryToEscapeThrough(paths), select!(Reached))
    }

    /// Sends a command to the daemon, and waits for its answer.
    #[track_caller]
    pub fn answer(&self, command: &Command) -> Vec<String> {
        self.ask(command, select!(Answer))
    }

    /// Lets the daemon bind a port below 1024, change the owner of this file, and look for
    /// PR_SET_KEEPCAPS. Returns what succeeds.
    #[track_caller]
    pub fn try_capabilities(&self, file: &Path) -> Vec<String> {
        self.answer(&Command::TryCapabilities(file.into()))
    }

    /// Lets the daemon exit, and waits for the end of all processes.
    #[track_caller]
    pub fn exit(&self, status: i32) {
        self.report();
        self.send_command(&Command::Exit(status));
        self.wait_until_all_ended();
    }
}
