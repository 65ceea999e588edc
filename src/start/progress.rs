//! How far a start has come, for the text of one that takes too long.

use crate::sys::SharedByte;

/// What is being done. Those of the intermediate come first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
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
}

impl Step {
    const ALL: [Self; 10] = [
        Self::LeaveSession,
        Self::CloseDescriptors,
        Self::ChangeDirectory,
        Self::LockPidFile,
        Self::Fork,
        Self::RedirectStreams,
        Self::PrivilegedAction,
        Self::DropPrivileges,
        Self::Initialize,
        Self::AwaitReadiness,
    ];

    /// When that is, to follow "ran out".
    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::LeaveSession => "before the first step",
            Self::CloseDescriptors => "while inherited descriptors were closed",
            Self::ChangeDirectory => "while the working directory was entered",
            Self::LockPidFile => "while the pid file was opened and locked",
            Self::Fork => "while the daemon was forked",
            Self::RedirectStreams => "while the standard streams were redirected",
            Self::PrivilegedAction => "during the privileged action",
            Self::DropPrivileges => "while root directory and identity were changed",
            Self::Initialize => "during the initialization",
            Self::AwaitReadiness => "before the daemon used its `Readiness`",
        }
    }

    /// Whether there cannot be a daemon yet.
    pub(crate) fn is_before_daemon(self) -> bool {
        self < Self::Fork
    }
}

/// The step that intermediate or daemon are at, which the launcher can look at.
///
/// A message would wake the launcher at each step, for what hardly any start
/// needs.
pub(crate) struct Progress(Option<SharedByte>);

impl Progress {
    /// At the first step. A start can do without.
    pub(crate) fn new() -> Self {
        Self(SharedByte::new())
    }

    /// Where there is no launcher to look at it.
    pub(crate) fn unseen() -> Self {
        Self(None)
    }

    /// Async-signal-safe.
    pub(crate) fn reach(&self, step: Step) {
        if let Some(byte) = &self.0 {
            byte.set(step as u8);
        }
    }

    /// The step, as far as it is known: the daemon may be anybody's by now, and
    /// write what it likes.
    pub(crate) fn step(&self) -> Option<Step> {
        let number = self.0.as_ref()?.get();
        Step::ALL.into_iter().find(|step| *step as u8 == number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_step_is_the_last_one_reached() {
        let progress = Progress::new();
        assert_eq!(progress.step(), Some(Step::LeaveSession));
        for step in Step::ALL {
            progress.reach(step);
            assert_eq!(progress.step(), Some(step));
        }
        if let Some(byte) = &progress.0 {
            byte.set(u8::MAX);
        }
        assert_eq!(progress.step(), None);
        assert_eq!(Progress::unseen().step(), None);
    }

    #[test]
    fn there_is_no_daemon_before_the_fork() {
        let before = Step::ALL.map(Step::is_before_daemon);
        assert_eq!(before.iter().filter(|&&before| before).count(), 4);
        assert!(Step::LockPidFile.is_before_daemon());
    }
}
