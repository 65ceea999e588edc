//! The step that a start has reached, for the error of a start that takes too long.

use crate::byte_enum::byte_enum;
use crate::sys::SharedByte;

byte_enum! {
    /// A step of the intermediate or the daemon, in the order of the start.
    pub(crate) enum Step {
        LeaveSession,
        CloseDescriptors,
        ChangeDirectory,
        LockPidFile,
        Fork,
        RedirectStreams,
        PrivilegedAction,
        DropPrivileges,
        Initialize,
        AwaitReadiness,
        ExecuteProgram,
        AwaitNotification,
        AwaitLine,
    }
}

impl Step {
    /// The text that follows "the startup timeout expired".
    pub(crate) fn message(self) -> &'static str {
        match self {
            Self::LeaveSession => "while creating the intermediate process and its session",
            Self::CloseDescriptors => "while closing inherited descriptors",
            Self::ChangeDirectory => "while changing the working directory",
            Self::LockPidFile => "while opening and locking the pid file",
            Self::Fork => "while forking the daemon",
            Self::RedirectStreams => "while redirecting the standard streams",
            Self::PrivilegedAction => "during the privileged action",
            Self::DropPrivileges => "while changing the root directory and the identity",
            Self::Initialize => "during the initialization",
            Self::AwaitReadiness => "before the daemon used its `Readiness`",
            Self::ExecuteProgram => "while executing the program",
            Self::AwaitNotification => "before the program sent READY=1 to its NOTIFY_SOCKET",
            Self::AwaitLine => "before the program wrote a line to its notification descriptor",
        }
    }

    /// Whether no daemon exists yet at this step.
    pub(crate) fn is_before_daemon(self) -> bool {
        self < Self::Fork
    }
}

/// The present step of the intermediate or the daemon, which the launcher can read.
///
/// It is shared memory, since a message would wake the launcher at each step, and few starts
/// need the step. The default stores none: shared memory takes a twentieth of the time of a start.
#[derive(Default)]
pub(crate) struct Progress(Option<SharedByte>);

impl Progress {
    /// Begins at the first step. If no memory is left, the start runs without this.
    pub(crate) fn new() -> Self {
        Self(SharedByte::new())
    }

    /// Async-signal-safe.
    pub(crate) fn reach(&self, step: Step) {
        if let Some(byte) = &self.0 {
            byte.set(step as u8);
        }
    }

    /// Returns `None` if the step is unknown, or if the daemon, which other code may control
    /// by now, has written another number.
    pub(crate) fn step(&self) -> Option<Step> {
        Step::from_byte(self.0.as_ref()?.get())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_step_is_the_last_one_reached() {
        let progress = Progress::new();
        assert_eq!(progress.step(), Some(Step::LeaveSession));
        for step in (0..).map_while(Step::from_byte) {
            progress.reach(step);
            assert_eq!(progress.step(), Some(step));
        }
        if let Some(byte) = &progress.0 {
            byte.set(u8::MAX);
        }
        assert_eq!(progress.step(), None);
        assert_eq!(Progress::default().step(), None);
    }

    #[test]
    fn no_daemon_exists_before_the_fork() {
        let steps = (0..).map_while(Step::from_byte);
        assert_eq!(steps.filter(|step| step.is_before_daemon()).count(), 4);
        assert!(Step::LockPidFile.is_before_daemon());
    }
}
