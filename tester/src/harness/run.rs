//! A case that runs.

use std::os::fd::AsFd;
use std::process::{Child, Output};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::case::{Case, Handover, kill_all};
use super::journal::{at_the_end, collect, drain};
use super::{Launcher, Scenario};
use crate::slowness::scaled;
use crate::sys::{self, ProcessHandle};

/// A case that runs. Its drop kills the processes that are left, and removes its files.
#[derive(Debug)]
pub struct Run {
    pub(super) case: Case,
    pub(super) launcher: Arc<ProcessHandle>,
    threads: Vec<JoinHandle<()>>,
}

impl Run {
    pub(super) fn new(scenario: &Scenario) -> Self {
        let (case, child, listener) = Case::start(scenario, Handover::Moved);
        case.journal.record(|events| events.awaits_launcher = true);
        let launcher = ProcessHandle::open(child.id())
            .expect("take hold of the launcher")
            .expect("a child that was not waited for exists");
        let mut run = Self {
            case,
            launcher: Arc::new(launcher),
            threads: vec![listener],
        };
        run.await_launcher(child);
        run
    }

    fn await_launcher(&mut self, mut child: Child) {
        let journal = Arc::clone(&self.case.journal);
        let pid_file = self.case.scenario.pid_file_path();
        let token = self.case.token.clone();
        let (stdout, stderr) = (self.case.stdout.clone(), self.case.stderr.clone());
        let readers = (
            child.stdout.take().map(|pipe| drain(Box::new(pipe))),
            child.stderr.take().map(|pipe| drain(Box::new(pipe))),
        );
        self.threads.push(thread::spawn(move || {
            let end = at_the_end(&mut child, pid_file.as_deref(), &token, &journal);
            match end {
                Ok((status, pid_file, processes)) => {
                    let output = Output {
                        status,
                        stdout: collect(readers.0, &stdout),
                        stderr: collect(readers.1, &stderr),
                    };
                    let launcher = Launcher {
                        output,
                        pid_file,
                        processes,
                    };
                    journal.record(|events| events.launcher = Some(launcher));
                }
                Err(error) => {
                    let problem = format!("cannot judge the launcher's end: {error}");
                    journal.record(|events| events.problems.push(problem));
                }
            }
        }));
    }

    /// Most processes exit when the control socket is shut down. To find and kill them would take
    /// longer than this wait.
    fn wait_for_voluntary_exits(&self) {
        let deadline = Instant::now() + scaled(Duration::from_millis(100));
        let handles: Vec<_> = self
            .case
            .journal
            .events()
            .handles
            .values()
            .cloned()
            .collect();
        for process in handles.iter().flatten() {
            if !process.wait(deadline).unwrap_or(false) {
                break;
            }
        }
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        // A process that waits for the harness exits, even if the harness cannot find it.
        sys::shut_down(self.case.control.as_fd());
        self.wait_for_voluntary_exits();
        let killed = kill_all(&self.case.token);
        if killed.is_ok() {
            for thread in self.threads.drain(..) {
                // A panic of the thread has been printed.
                let _ = thread.join();
            }
        }
        match killed {
            Err(error) if !thread::panicking() => {
                panic!("cannot clean up: {error}\n{}", self.diagnostics());
            }
            _ => {}
        }
    }
}
