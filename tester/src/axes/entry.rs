//! The entry point, and the threads that it refuses.

use super::process::Threads;
use super::{Axis, Choice, Rights};
use crate::config::Entry;
use crate::model::failure::Failure;
use crate::model::start::Start;

axis! {
    /// Which function starts the daemon.
    EntryPoint |stage| stage.config.entry => {
        Start => Entry::Start;
        Execute => Entry::Execute;
        StartChecked => Entry::StartChecked;
        ExecuteChecked => Entry::ExecuteChecked;
    }
}

impl Axis for EntryPoint {
    fn expected_failure(self, other: &Choice, _rights: Option<Rights>) -> Option<&'static str> {
        let is_checked = matches!(self, Self::StartChecked | Self::ExecuteChecked);
        (is_checked && other.threads == Some(Threads::Two)).then_some("threads are refused")
    }
}

impl Start<'_> {
    pub(crate) fn count_threads(&self) -> Result<(), Failure> {
        let is_checked = matches!(
            self.config.entry,
            Entry::StartChecked | Entry::ExecuteChecked
        );
        let forks = !self.is_foreground();
        if forks && is_checked && self.config.initial.extra_threads > 0 {
            let number = usize::try_from(self.config.initial.extra_threads).unwrap_or(0) + 1;
            // A new thread has the name of the thread that makes it.
            let names = match cfg!(target_os = "linux") {
                true => format!(" ({})", vec!["tester"; number].join(", ")),
                false => String::new(),
            };
            let text = format!(
                "the process has more than one thread: {number}{names}; start the daemon first, \
                 and create threads and async runtimes afterwards (#[tokio::main] creates them \
                 before)"
            );
            return Err(Failure::new("MultiThreaded", None).with_reason(text));
        }
        Ok(())
    }
}
