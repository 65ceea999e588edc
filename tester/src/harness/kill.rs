//! Signals to the processes of a case. A method panics, with the diagnostics, if there is no such process.

use std::io;
use std::time::Instant;

use super::journal::Launcher;
use super::run::Run;
use crate::observe;
use crate::slowness::time_limit;
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

/// Kills the processes of a case until none is left. A process may fork just before it is killed.
pub(super) fn kill_all(token: &str) -> io::Result<()> {
    loop {
        let found = observe::processes_of(token)?;
        if found.is_empty() {
            return Ok(());
        }
        let mut handles = Vec::new();
        for process in found {
            handles.extend(ProcessHandle::open(process.pid)?);
        }
        // A process id may have been reused before its handle was opened, but not after it.
        let confirmed = observe::processes_of(token)?;
        handles.retain(|handle| confirmed.iter().any(|found| found.pid == handle.pid()));
        for handle in &handles {
            handle.kill(libc::SIGKILL)?;
        }
        let deadline = Instant::now() + time_limit();
        for handle in &handles {
            if !handle.wait(deadline)? {
                return Err(io::ErrorKind::TimedOut.into());
            }
        }
    }
}
