//! Views of a case from outside, and assertions. A method panics, with the diagnostics, if the view
//! fails, or if the assertion does not hold.

use std::fmt::Write as _;
use std::path::PathBuf;

use super::PidFile;
use super::case::read_text;
use super::run::Run;
use crate::observe::{self, Process};
use crate::report::Report;

impl Run {
    pub fn living(&self) -> Vec<u32> {
        self.processes().iter().map(|found| found.pid).collect()
    }

    pub fn launcher_pid(&self) -> u32 {
        self.launcher.pid()
    }

    /// The process that becomes the parent of an orphan: see
    /// [`Scenario::reaper`](super::Scenario::reaper).
    pub fn reaper(&self) -> u32 {
        self.case.scenario.reaper()
    }

    pub fn processes(&self) -> Vec<Process> {
        observe::processes_of(&self.case.token).expect("list processes")
    }

    fn pid_file_path(&self) -> PathBuf {
        let path = self.case.scenario.pid_file_path();
        path.expect("the case's pid file")
    }

    pub fn pid_file(&self) -> Option<PidFile> {
        PidFile::look(&self.pid_file_path()).expect("read the pid file")
    }

    /// The processes of the case that have a lock on the pid file, where locks are visible
    /// ([`Need::VisibleLocks`](crate::suite::Need)).
    pub fn lock_holders(&self) -> Vec<u32> {
        let path = self.pid_file_path();
        let views = self.processes().into_iter().map(|process| {
            let view = observe::outside(process.pid).expect("observe the process");
            (process.pid, view.descriptors.expect("see its descriptors"))
        });
        views
            .filter(|(_, descriptors)| {
                descriptors
                    .iter()
                    .filter(|descriptor| descriptor.is_file(&path))
                    .any(|descriptor| descriptor.locked.expect("see its locks"))
            })
            .map(|(pid, _)| pid)
            .collect()
    }

    /// A process of the case as the harness sees it now.
    #[track_caller]
    pub fn outside(&self, pid: u32) -> Report {
        match observe::outside(pid) {
            Ok(report) => report,
            Err(error) => panic!("cannot observe {pid}: {error}\n{}", self.diagnostics()),
        }
    }

    /// Compares the report of the daemon on itself with the view of the harness, after the launcher
    /// has ended. Returns the report.
    #[track_caller]
    pub fn assert_views_agree(&self) -> Report {
        self.launcher();
        let inside = self.observe();
        let outside = self.outside(inside.pid);
        let found = observe::differences(&inside, &outside);
        assert!(
            found.is_empty(),
            "inside and outside differ:\n{}\n{}",
            found.join("\n"),
            self.diagnostics()
        );
        inside
    }

    /// Asserts that the end of the launcher left nothing of the start: no process, no lock, and no
    /// content in the pid file.
    #[track_caller]
    pub fn assert_nothing_left(&self) {
        self.assert_nothing_left_but(&[]);
        self.wait_until_all_ended();
    }

    /// The same, except for these processes of a closure.
    #[track_caller]
    pub fn assert_nothing_left_but(&self, excepted: &[u32]) {
        let launcher = self.launcher();
        let left: Vec<_> = launcher
            .living()
            .filter(|process| !excepted.contains(&process.pid))
            .collect();
        assert!(left.is_empty(), "left: {left:?}\n{}", self.diagnostics());
        if let Some(pid_file) = &launcher.pid_file {
            assert!(
                pid_file.is_released(),
                "left: {pid_file:?}\n{}",
                self.diagnostics()
            );
        }
    }

    /// Everything that is known of the case.
    pub fn diagnostics(&self) -> String {
        let events = self.case.journal.events();
        let mut text = format!("--- diagnostics of case {} ---\n", self.case.token);
        for problem in &events.problems {
            let _ = writeln!(text, "problem: {problem}");
        }
        let _ = writeln!(text, "configuration: {:?}", self.case.scenario.config);
        for frame in &events.frames {
            let _ = writeln!(text, "from {}: {:?}", frame.sender, frame.message);
        }
        let (stdout, stderr) = match &events.launcher {
            Some(launcher) => {
                let _ = writeln!(text, "launcher: {}", launcher.output.status);
                let _ = writeln!(text, "pid file then: {:?}", launcher.pid_file);
                let _ = writeln!(text, "processes then: {:?}", launcher.processes);
                let lossy = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                (
                    lossy(&launcher.output.stdout),
                    lossy(&launcher.output.stderr),
                )
            }
            None => {
                let _ = writeln!(text, "launcher: {} has not ended", self.launcher_pid());
                (read_text(&self.case.stdout), read_text(&self.case.stderr))
            }
        };
        let _ = writeln!(text, "stdout: {stdout:?}");
        let _ = writeln!(text, "stderr: {stderr:?}");
        let _ = writeln!(
            text,
            "processes now: {:?}",
            observe::processes_of(&self.case.token)
        );
        text
    }
}
