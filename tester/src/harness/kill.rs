//! Signals to the processes of a case. A method panics, with the diagnostics, if there is no such process.

use super::journal::Launcher;
use super::run::Run;
use crate::sys::ProcessHandle;

impl Run {
    #[track_caller]
    pub fn signal_launcher(&self, signal: i32) {
        self.launcher.kill(signal).expect("signal the launcher");
    }

    /// Kills the launcher, and waits for its end.
    #[track_caller]
    pub fn kill_launcher(&self) -> Launcher {
        self.signal_launcher(libc::SIGKILL);
        self.launcher()
    }

    /// Kills the intermediate while the daemon is at [`Run::held`], and waits for its end.
    #[track_caller]
    pub fn kill_intermediate(&self) {
        self.kill(self.held().ppid);
    }

    /// Kills the daemon at [`Run::held`], and waits for its end.
    #[track_caller]
    pub fn kill_held(&self) {
        self.kill(self.held().pid);
    }

    /// Kills the daemon that has reported, and waits for its end.
    #[track_caller]
    pub fn kill_daemon(&self) {
        self.kill(self.report().pid);
    }

    /// Kills a process of the case, and waits for its end.
    #[track_caller]
    pub fn kill(&self, pid: u32) {
        let handle = self.handle(pid);
        handle.kill(libc::SIGKILL).expect("kill the process");
        self.wait_for(&handle);
    }

    /// Opens a process of the case.
    #[track_caller]
    pub fn handle(&self, pid: u32) -> ProcessHandle {
        let handle = ProcessHandle::open(pid).expect("take hold of a process");
        // Once its handle is open, no other process gets the id.
        let found = self.processes().iter().any(|process| process.pid == pid);
        match handle {
            Some(handle) if found => handle,
            _ => panic!("{pid} is no process of this case\n{}", self.diagnostics()),
        }
    }
}
