//! The oracle: predicts the outcome of a start.

use crate::config::{Config, Entry, Identity, ReadinessUse, Step, SupplementaryGroups};
use crate::model::credentials::Credentials;
use crate::model::failure::Failure;
use crate::model::start::{Expected, ExpectedPidFile, Opened, Parent, Side, Start, Written};
use crate::report::{Report, SignalSet};
use crate::sys;

mod identity;
mod judge;
mod judge_files;
mod judge_reports;
mod mismatches;

pub use crate::model::databases::Databases;
pub use crate::model::initial_files::InitialFiles;
pub use crate::model::start::Prediction;
pub(crate) use identity::NewIdentity;
pub use judge::Mismatch;
pub use mismatches::mismatches;

/// Predicts a start from `before`, the report of the launcher on itself.
///
/// # Panics
///
/// When no combination sets what the configuration asks for.
pub fn predict(config: &Config, before: &Report, initial_files: &InitialFiles<'_>) -> Prediction {
    let mut start = Start {
        config,
        before,
        options: &config.options,
        initial_files,
        process: before.clone(),
        credentials: Credentials::of(before),
        parents: vec![Parent::Unchanged],
        opened: Vec::new(),
        pending: [const { None }; 3],
        side: Side::Launcher,
        pid_file: initial_files
            .pid_file_seen
            .as_ref()
            .map(|seen| ExpectedPidFile {
                bytes: seen.bytes.clone(),
                is_pid: false,
                mode: seen.mode,
                uid: seen.uid,
                gid: seen.gid,
                place: Some(seen.place.clone()),
                locked: seen.locked,
            }),
        directories: Vec::new(),
        new_owner: None,
        new_group: None,
        user_environment: Vec::new(),
        reports: Vec::new(),
        parts: Vec::new(),
        messages: Vec::new(),
        writes: Vec::new(),
        new_files: Vec::new(),
        is_redirected: false,
        has_acted: false,
        has_witness: false,
        has_made_thread: false,
        ends_at_once: false,
    };
    let former_pid_file = start.pid_file.clone();
    let result = start.run();
    let is_upgrade = start.is_upgrade();
    let is_taken_over = result.is_ok() && start.opened.contains(&Opened::SuccessorPidFile);
    let has_opened = |opened| start.opened.contains(&opened);
    let is_pid_file_opened =
        has_opened(Opened::PidFile) || has_opened(Opened::PidFileOfProgram) || is_taken_over;
    if result.is_err() && is_upgrade {
        start.pid_file = former_pid_file;
    } else if result.is_err() && is_pid_file_opened {
        let is_cleared = start.may_clear_pid_file();
        let pid_file = start.pid_file.as_mut().expect("it was opened");
        pid_file.is_pid &= !is_cleared;
        pid_file.locked = false;
    }
    if result.is_err() && !start.is_foreground() {
        start.replace_kept_streams();
    }
    let failure = result.err().map(|failure| (failure, start.side));
    if let Some((failure, side)) = &failure {
        start.record_error_message(failure, *side);
    }
    let failed = failure.as_ref().map(|(_, side)| *side);
    start.flush();
    start.record_on_started(failed);
    start.flush_at_exit();
    start.record_drops(failed);
    // A failure drops the result; the end of the process does not.
    let retains = |(failure, _): &(Failure, Side)| failure.kind == "PrivilegesRetained";
    let is_dropped = failed == Some(Side::Daemon) || failure.as_ref().is_some_and(retains);
    if start.has_witness && is_dropped {
        start.messages.push("daemon ResultDropped".to_owned());
    }
    start.record_exits(failed);
    let guards = config.guard_pid_file && failed.is_none();
    let is_pid_file_removed = guards && start.may_remove_pid_file();
    let afterwards = start.afterwards(failed);
    let launcher_panics = start.launcher_panics(failed);
    // Not even the owner can open a file without read permission.
    let is_unreadable = |file: &ExpectedPidFile| file.mode & 0o400 == 0;
    let is_unreadable =
        sys::effective_user() != 0 && start.pid_file.as_ref().is_some_and(is_unreadable);
    Prediction {
        is_pid_file_hidden: initial_files.is_pid_file_hidden || is_unreadable,
        is_foreground: start.is_foreground(),
        // The launcher of a program lives on, and may be the main process of a service.
        notified: match (
            initial_files.is_notified && failure.is_none() && config.entry != Entry::Spawn,
            start.is_foreground(),
        ) {
            (false, _) => &[],
            (true, true) => &["READY=1"],
            (true, false) => &["MAINPID=", "READY=1", "BARRIER=1"],
        },
        failure,
        payload: config.ready_payload.clone().unwrap_or_default(),
        launcher_panics,
        reports: start.reports,
        parts: start.parts,
        afterwards,
        messages: start.messages,
        is_pid_file_removed,
        is_pid_file_opened,
        is_upgrade,
        is_pid_file_held: (initial_files.pid_file_seen.as_ref()).is_some_and(|seen| seen.locked),
        pid_file: start.pid_file,
        directories: start.directories,
        writes: start.writes,
        files: initial_files.files.clone(),
        new_files: start.new_files,
    }
}

impl Start<'_> {
    /// Does the steps in the documented order.
    pub(crate) fn run(&mut self) -> Result<(), Failure> {
        self.refuse_nul()?;
        self.refuse_pid_file_mode()?;
        self.refuse_unsupported()?;
        self.refuse_dumpable()?;
        self.refuse_capabilities_elsewhere()?;
        let identity = self.look_up()?;
        self.plan_takeover()?;
        self.count_threads()?;
        self.create_directories(identity.as_ref())?;
        self.fork()?;
        self.verify_environment()?;
        self.side = Side::Daemon;
        if self.options.reset_signals {
            self.reset_signals();
        }
        self.close_inherited();
        self.set_umask();
        let first_steps = self.change_directory().and_then(|()| self.open_pid_file());
        // After a failure, the daemon still sets its streams.
        let prepared = first_steps.and_then(|()| self.redirect(identity.as_ref(), true));
        if prepared.is_err() && !self.is_foreground() {
            self.redirect(identity.as_ref(), false)?;
        }
        prepared?;
        self.chown_pid_file()?;
        self.restore_signal_mask();
        self.set_user_environment();
        self.take_over_activation();
        self.run_privileged_action()?;
        self.change_root()?;
        if self.is_foreground() {
            self.write_pid();
        }
        if let Some(identity) = identity {
            let before = self.credentials.clone();
            let assumed = self.become_identity(&identity);
            self.lose_dumpable(&before);
            assumed?;
        }
        if self.options.no_new_privileges {
            self.set_no_new_privileges()?;
        }
        if self.config.entry == Entry::Spawn {
            self.execute_program();
            self.write_pid();
            return Ok(());
        }
        self.become_dumpable();
        self.initialize()?;
        self.make_payload()?;
        self.report_readiness()?;
        self.write_pid();
        Ok(())
    }

    /// Refuses a NUL in a path, then a directory that has no place, then a NUL in a user or a group.
    pub(crate) fn refuse_nul(&self) -> Result<(), Failure> {
        let options = self.options;
        let paths = [
            &options.working_directory,
            &options.pid_file,
            &options.chroot,
        ];
        for path in paths.into_iter().flatten() {
            if path.0.contains(&0) {
                return Err(Failure::new("PathContainsNul", None).at(Some(path)));
            }
        }
        self.locate_directories()?;
        let users = [&options.user, &options.chown_pid_file_user];
        let groups = [&options.group, &options.chown_pid_file_group];
        let named = match &options.supplementary_groups {
            Some(SupplementaryGroups::Only(groups)) => groups.as_slice(),
            _ => &[],
        };
        let users = users.into_iter().flatten();
        let groups = groups.into_iter().flatten().chain(named);
        let users = users.map(|user| ("UserContainsNul", user));
        let groups = groups.map(|group| ("GroupContainsNul", group));
        for (kind, identity) in users.chain(groups) {
            if matches!(identity, Identity::Name(name) if name.contains('\0')) {
                return Err(Failure::new(kind, None).with_subject(identity));
            }
        }
        Ok(())
    }

    /// Whether the daemon reports a failure by `Readiness::fail`, which ends it.
    fn ends_by_fail(&self) -> bool {
        let deferral = self.config.deferred_readiness.as_ref();
        deferral.is_some_and(|deferral| matches!(deferral.usage, ReadinessUse::Fail(_)))
    }

    /// Records what is written to standard error about a failure.
    pub(crate) fn record_error_message(&mut self, failure: &Failure, side: Side) {
        let text = failure.text();
        if !self.is_foreground() {
            let launcher = self.launcher();
            self.write(&launcher, 2, Written::Text(format!("tester: {text}\n")));
        } else if side == Side::Gone || side == Side::Returned && self.ends_by_fail() {
            let current = self.current();
            self.write(&current, 2, Written::Text(format!("{text}\n")));
        } else if side < Side::Gone && !self.config.entry.returns_in_both() {
            let current = self.current();
            self.write(&current, 2, Written::Text(format!("tester: {text}\n")));
        }
    }

    /// The reports of the processes in which the library returns, beside a daemon that has started.
    pub(crate) fn afterwards(&self, failed: Option<Side>) -> Vec<Expected> {
        let in_both = self.config.entry.returns_in_both();
        let expected = |moment, report, parents| Expected {
            moment,
            report,
            parents,
            opened: Vec::new(),
            pending: Vec::new(),
        };
        let unchanged = || vec![Parent::Unchanged];
        let mut all = Vec::new();
        if self.is_foreground() {
            if failed.is_some_and(|side| side < Side::Gone) {
                all.push(expected("after the failure", self.current(), unchanged()));
            }
            return all;
        }
        let returns = self.config.entry.returns_in_launcher() && !self.launcher_panics(failed);
        if returns || failed.is_some() {
            let mut report = self.launcher();
            // Before, a joined thread may still have been counted.
            report.threads = report
                .threads
                .map(|_| 1 + self.config.initial.extra_threads);
            all.push(expected("the launcher afterwards", report, unchanged()));
        }
        if in_both && failed == Some(Side::Daemon) {
            let mut report = self.current();
            if self.options.reset_signals {
                report.blocked_signals = report.blocked_signals.map(|_| SignalSet::default());
            }
            let parents = [&[Parent::Intermediate], self.adopters().as_slice()].concat();
            all.push(expected("the daemon's side afterwards", report, parents));
        }
        all
    }

    /// Records the write of buffered output: by the launcher before it forks or when it ends, and
    /// in the foreground when the process ends.
    pub(crate) fn flush(&mut self) {
        let to = match self.is_foreground() {
            true if self.ends_at_once => return,
            true => self.current(),
            false => self.before.clone(),
        };
        let initial = &self.config.initial;
        let of_c = initial.unflushed_c.as_ref();
        let of_c = of_c.filter(|_| self.config.entry != Entry::Spawn);
        for text in initial.unflushed_rust.iter().chain(of_c) {
            self.write(&to, 1, Written::Text(text.clone()));
        }
    }

    /// A program gets no copy of the buffers, so that the launcher does not write them before the
    /// fork. The closure of `on_started` uses the buffer of std.
    pub(crate) fn flush_at_exit(&mut self) {
        let text = self.config.initial.unflushed_c.clone();
        if let Some(text) = text.filter(|_| self.config.entry == Entry::Spawn) {
            let launcher = self.before.clone();
            self.write(&launcher, 1, Written::Text(text));
        }
    }

    /// Records each drop of the values that the privileged action has captured. The launcher drops
    /// them when the library returns there. The daemon drops them with the action, or with a
    /// failure that is returned.
    pub(crate) fn record_drops(&mut self, failed: Option<Side>) {
        let config = self.config;
        let has_action =
            config.privileged_action.is_some() || config.try_privileged_action.is_some();
        if !config.witness_capture || !has_action {
            return;
        }
        let in_both = config.entry.returns_in_both();
        let is_foreground = self.is_foreground();
        if !is_foreground && (in_both || failed.is_some()) {
            self.messages.push("launcher CaptureDropped".to_owned());
        }
        let ends_in_action = |steps: &[Step]| matches!(steps, [Step::Exit(_)]);
        let is_dropped = match self.has_acted {
            true => !config
                .privileged_action
                .as_deref()
                .is_some_and(ends_in_action),
            false => is_foreground || in_both && failed == Some(Side::Daemon),
        };
        if is_dropped {
            self.messages.push("daemon CaptureDropped".to_owned());
        }
    }

    /// Records which processes run the atexit handler and can still report it.
    pub(crate) fn record_exits(&mut self, failed: Option<Side>) {
        let config = self.config;
        let in_both = config.entry.returns_in_both();
        let is_foreground = self.is_foreground();
        let is_guarded = config.guard_pid_file;
        match failed {
            None if is_guarded => self.messages.push("daemon Guarded(true)".to_owned()),
            Some(Side::Returned) if is_guarded && !self.ends_by_fail() => {
                self.messages.push("daemon Guarded(false)".to_owned());
            }
            _ => {}
        }
        if !config.initial.at_exit_handler {
            return;
        }
        if !is_foreground && (config.entry.returns_in_launcher() || failed.is_some()) {
            self.messages.push("launcher AtExit".to_owned());
        }
        let exits = match failed {
            // The program has no such handler.
            _ if config.entry == Entry::Spawn => false,
            // It ends on a command, or when it sees the end of the harness.
            None => true,
            Some(Side::Launcher) => is_foreground,
            Some(Side::Daemon) => is_foreground || in_both,
            Some(Side::Gone | Side::Returned) => !self.ends_at_once,
        };
        if exits {
            self.messages.push("daemon AtExit".to_owned());
        }
    }
}
