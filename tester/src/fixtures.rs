//! The set-up and the assertions that the tests of several topics share. Like an assertion, each
//! function here panics if a start does not behave as the function describes.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fmt, io, process};

use daemonize2::PidFile;

use crate::config::{
    Bytes, Deferral, Disposition, Entry, Ids, Life, OpenDescriptor, ReadinessUse, Step,
};
use crate::control::{Command, Frame, Message};
use crate::report::{Report, StartError};
use crate::{Run, Scenario, harness, select, suite, sys};

/// A user id that is in no database.
pub const UID: u32 = 4_000_000_001;

/// A group id that is in no database.
pub const GID: u32 = 4_000_000_002;

/// The groups that [`Scenario::as_root_with_groups`] has.
pub const ROOTS_GROUPS: [u32; 4] = [0, 4, 7, 4711];

/// Every entry point.
pub const ENTRIES: [Entry; 4] = [
    Entry::Start,
    Entry::StartChecked,
    Entry::Execute,
    Entry::ExecuteChecked,
];

/// The checked entry points.
pub const CHECKED: [Entry; 2] = [Entry::StartChecked, Entry::ExecuteChecked];

/// A [`Scenario`] with the pid file `daemon.pid`.
#[macro_export]
macro_rules! daemon {
    () => {
        $crate::scenario!().pid_file("daemon.pid")
    };
}

/// How open(2) fails for a symbolic link where it looks for a directory.
pub const LINK_ERRNO: i32 = match cfg!(target_os = "linux") {
    true => libc::ENOTDIR,
    false => libc::ELOOP,
};

/// The content of the pid file of this daemon.
pub fn content(pid: u32) -> Vec<u8> {
    format!("{pid}\n").into_bytes()
}

/// The text of this errno, which depends on the C library.
pub fn errno_text(errno: i32) -> String {
    io::Error::from_raw_os_error(errno).to_string()
}

/// Changes the mode of a file.
#[track_caller]
pub fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).expect("change the mode");
}

/// Asserts that the result is an error of this kind.
#[track_caller]
pub fn assert_io_error<T: fmt::Debug>(result: io::Result<T>, kind: io::ErrorKind) -> io::Error {
    match result {
        Err(error) if error.kind() == kind => error,
        other => panic!("{other:?} instead of {kind:?}"),
    }
}

/// Asserts that each method of the library reports that no daemon runs.
#[track_caller]
pub fn assert_not_running(pid_file: &PidFile) {
    assert_eq!(pid_file.running().expect("an answer"), None);
    assert!(!pid_file.signal(0).expect("an answer"));
    assert!(!pid_file.stop(Duration::ZERO).expect("an answer"));
}

/// Three starts that take these steps: in the privileged action, in the
/// initialization, and before the daemon reports that it is ready.
pub fn in_each_closure(new: impl Fn() -> Scenario, steps: &[Step]) -> [Scenario; 3] {
    [
        new().privileged_action(steps),
        new().initialize(steps),
        new().deferring(steps, ReadinessUse::Ready),
    ]
}

/// The pid file at this path, as the test sees it.
#[track_caller]
pub fn pid_file_at(path: &Path) -> harness::PidFile {
    harness::PidFile::look(path)
        .expect("look at the pid file")
        .expect("a pid file")
}

impl StartError {
    /// Asserts the kind, without its errno, and the text.
    #[track_caller]
    pub fn assert_is(&self, kind: &str, text: &str) {
        assert_eq!((self.kind_name(), self.text.as_str()), (kind, text));
    }

    /// Asserts the kind and the errno.
    #[track_caller]
    pub fn assert_kind(&self, kind: &str, errno: i32) {
        assert_eq!(self.kind, format!("{kind}({errno})"), "{self}");
    }

    /// Asserts that SIGTERM killed the daemon.
    #[track_caller]
    pub fn assert_killed_by_sigterm(&self) {
        assert_eq!(self.kind, "DaemonExited");
        assert_eq!(self.daemon_exit_status, Some(libc::SIGTERM));
        assert!(self.text.contains("SIGTERM"), "{self}");
    }

    /// An error without an errno.
    pub fn new(kind: &str, path: Option<&str>, text: &str) -> Self {
        Self {
            kind: kind.to_owned(),
            errno: None,
            path: path.map(Bytes::from),
            running_pid: None,
            daemon_exit_status: None,
            payload: Bytes::default(),
            text: text.to_owned(),
        }
    }

    /// An error whose text ends with the text of its errno.
    pub fn with_errno(kind: &str, errno: i32, path: Option<&str>, text: &str) -> Self {
        let reason = io::Error::from_raw_os_error(errno);
        Self::with_text(kind, errno, path, &format!("{text}: {reason}"))
    }

    /// An error with an errno and a text of its own.
    pub fn with_text(kind: &str, errno: i32, path: Option<&str>, text: &str) -> Self {
        Self {
            errno: Some(errno),
            ..Self::new(&format!("{kind}({errno})"), path, text)
        }
    }

    /// EPERM for the caller of `scenario`. The text says which user was refused,
    /// and that `deed` requires root, or on Linux these capabilities.
    pub fn refused(
        scenario: &Scenario,
        kind: &str,
        path: Option<&str>,
        text: &str,
        (deed, capabilities): (&str, &str),
    ) -> Self {
        let uid = scenario.config.initial.ids.as_ref().map(|ids| ids.uid[1]);
        let uid = uid.unwrap_or_else(sys::effective_user);
        let reason = io::Error::from_raw_os_error(libc::EPERM);
        let takes = Self::takes(deed, capabilities);
        let text = format!("{text}: {reason}: this process runs as uid {uid}; {takes}");
        Self::with_text(kind, libc::EPERM, path, &text)
    }

    /// The end of the text of an error that [`refused`](Self::refused) makes.
    pub fn takes(deed: &str, capabilities: &str) -> String {
        if cfg!(target_os = "linux") {
            format!("{deed} requires root, or {capabilities}")
        } else {
            format!("{deed} requires root")
        }
    }
}

impl OpenDescriptor {
    /// A descriptor of the directory `/`.
    pub fn of_root(number: i32, close_on_exec: bool) -> Self {
        let path = "/".into();
        Self {
            number,
            path,
            close_on_exec,
        }
    }
}

impl Scenario {
    /// Sets the disposition of one more signal.
    #[must_use]
    pub fn on_signal(self, signal: i32, disposition: Disposition) -> Self {
        self.from_state(|state| state.dispositions.push((signal, disposition)))
    }

    /// Defers readiness: the daemon takes these steps, and then uses its readiness.
    #[must_use]
    pub fn deferring(self, steps: impl Into<Vec<Step>>, usage: ReadinessUse) -> Self {
        self.deferred_readiness(Deferral::new(steps, usage))
    }

    /// Limits the size of every file. The output of the launcher goes to pipes,
    /// to which the limit does not apply.
    #[must_use]
    pub fn limit_file_size(self, size: u64) -> Self {
        self.piped()
            .from_state(|state| state.limit_file_size = Some(size))
    }

    /// The library's own view of the pid file.
    pub fn control(&self) -> PidFile {
        PidFile::at(self.pid_file_path().expect("a pid file"))
    }

    /// Makes a directory in the case's own, and returns its path.
    pub fn with_directory(self, name: &str) -> (Self, PathBuf) {
        let path = self.create_directory(name);
        (self, path)
    }

    /// Starts as an ordinary user, also if the test runs as root.
    #[must_use]
    pub fn as_ordinary_user(self) -> Self {
        match sys::effective_user() {
            0 => self.as_user(UID, GID),
            _ => self,
        }
    }

    /// Starts with these real, effective and saved ids, and these groups.
    #[must_use]
    pub fn with_ids(self, uid: [u32; 3], gid: [u32; 3], groups: &[u32]) -> Self {
        let groups = Some(groups.to_vec());
        self.from_state(|state| state.ids = Some(Ids { uid, gid, groups }))
    }

    /// Starts with these groups, and the ids that the scenario has.
    #[must_use]
    pub fn with_groups(self, groups: &[u32]) -> Self {
        self.from_state(|state| {
            let ids = state.ids.as_mut().expect("the scenario has ids");
            ids.groups = Some(groups.to_vec());
        })
    }

    /// Starts as root with [`ROOTS_GROUPS`].
    #[must_use]
    pub fn as_root_with_groups(self) -> Self {
        self.with_ids([0; 3], [0; 3], &ROOTS_GROUPS)
    }

    /// A start that fails while another daemon holds the pid file. No process of
    /// the failed start is left when its launcher ends.
    #[track_caller]
    pub fn fail_beside_daemon(&self) -> StartError {
        let run = self.launch();
        let error = run.launcher_error();
        assert_eq!(run.launcher().living().count(), 0, "{}", run.diagnostics());
        run.wait_until_all_ended();
        error
    }

    /// A start that fails. Only the launcher gets the error, and gets it once.
    #[track_caller]
    pub fn fail_in_launcher(&self) -> StartError {
        let run = self.launch();
        let error = run.launcher_error();
        run.assert_nothing_left();
        assert_eq!(run.launcher().output.stdout, b"");
        assert_eq!(run.error_counts(), (1, 0));
        error
    }

    /// A start under `execute` that fails in the daemon. The daemon gets the same
    /// error as the launcher, and goes on with the descriptors that it had before
    /// the start.
    #[track_caller]
    pub fn fail_in_launcher_and_daemon(&self) -> StartError {
        let scenario = self.clone().entry(Entry::Execute);
        let run = scenario.life(Life::UntilCommandEvenIfFailed).launch();
        let error = run.launcher_error();
        assert_eq!(run.daemon_error(), error);
        let daemon = run.observe();
        run.assert_nothing_left_but(&[daemon.pid]);
        assert_eq!(
            daemon.descriptor_numbers(),
            run.initial().descriptor_numbers()
        );
        run.send_command(&Command::Exit(0));
        run.wait_until_all_ended();
        assert_eq!(run.error_counts(), (1, 1));
        error
    }

    /// The start fails with this error of the pid file.
    #[track_caller]
    pub fn assert_pid_file_fails(&self, kind: &str, errno: i32) {
        let error = self.fail();
        let path = self.config.options.pid_file.clone().expect("a pid file");
        let deed = match kind {
            "OpenPidfile" => "open",
            _ => "write",
        };
        let reason = io::Error::from_raw_os_error(errno);
        let shown = path.to_path();
        let shown = shown.display();
        let start = format!("cannot {deed} pid file {shown}: {reason}");
        assert!(error.text.starts_with(&start), "{error}");
        let expected = StartError {
            path: Some(path.clone()),
            ..StartError::with_text(kind, errno, None, &error.text)
        };
        assert_eq!(error, expected);
    }

    /// Starts in the foreground: the launcher becomes the daemon.
    #[track_caller]
    pub fn serve(&self) -> (Run, Report) {
        let run = self.launch();
        let report = run.report();
        assert_eq!(report.pid, run.launcher_pid(), "{}", run.diagnostics());
        (run, report)
    }

    /// A daemon fails with this error, under `start` and under `execute`.
    #[track_caller]
    pub fn assert_fails(&self, expected: &StartError) {
        assert_eq!(&self.fail_in_launcher(), expected);
        assert_eq!(&self.fail_in_launcher_and_daemon(), expected);
    }

    /// The start fails with this error before there is a daemon, or the daemon
    /// does not outlive the error.
    #[track_caller]
    pub fn assert_fails_in_launcher(&self, expected: &StartError) {
        for entry in [Entry::Start, Entry::Execute] {
            let scenario = self.clone().entry(entry);
            assert_eq!(&scenario.fail_in_launcher(), expected, "{entry:?}");
        }
    }
}

impl Run {
    /// Waits for this message, and returns its sender.
    #[track_caller]
    pub fn await_message(&self, message: &Message) -> u32 {
        self.message(&format!("{message:?}"), |frame| {
            (frame.message == *message).then_some(frame.sender)
        })
    }

    /// Whether such a message was sent so far.
    pub fn has_sent(&self, is_such: impl FnMut(&Message) -> bool) -> bool {
        self.count_messages(is_such) > 0
    }

    /// The number of such messages so far.
    pub fn count_messages(&self, mut is_such: impl FnMut(&Message) -> bool) -> usize {
        let frames = self.messages();
        frames
            .iter()
            .filter(|frame| is_such(&frame.message))
            .count()
    }

    /// The senders of this message so far, in order.
    pub fn senders_of(&self, message: &Message) -> Vec<u32> {
        let frames = self.messages().into_iter();
        let such = frames.filter(|frame| frame.message == *message);
        such.map(|frame| frame.sender).collect()
    }

    /// How often the launcher and how often the daemon got an error.
    fn error_counts(&self) -> (usize, usize) {
        (
            self.count_messages(|message| matches!(message, Message::LauncherFailed(_))),
            self.count_messages(|message| matches!(message, Message::DaemonFailed(_))),
        )
    }

    /// Asserts how many errors the launcher and the daemon got.
    #[track_caller]
    pub fn assert_errors(&self, in_launcher: usize, in_daemon: usize) {
        assert_eq!(self.error_counts(), (in_launcher, in_daemon));
    }

    /// The process that a closure forked at
    /// [`Step::ForkWorker`].
    #[track_caller]
    pub fn worker(&self) -> u32 {
        self.first("the worker", select!(Worker))
    }

    /// Lets the process at [`Step::Hold`] go on, and waits until the launcher has
    /// succeeded.
    #[track_caller]
    pub fn proceed_to_success(&self) {
        self.proceed();
        self.launcher().assert().success();
    }

    /// What the closures returned.
    #[track_caller]
    pub fn result(&self) -> Vec<String> {
        self.first("the daemon's result", select!(Result))
    }

    /// The error of a `Readiness`, and the process that got the error.
    #[track_caller]
    pub fn readiness_error(&self) -> (u32, StartError) {
        self.message("an error of the readiness", |frame| match frame {
            Frame {
                sender,
                message: Message::NotAcknowledged(error),
            } => Some((*sender, error.clone())),
            _ => None,
        })
    }

    /// The error of a launcher that goes on, or whose output the test does not see.
    #[track_caller]
    pub fn error_of_launcher(&self) -> StartError {
        self.first("the launcher's error", select!(LauncherFailed))
    }

    /// The daemon as it sees itself, and as another process sees the daemon.
    #[track_caller]
    pub fn views(&self) -> [Report; 2] {
        let inside = self.observe();
        let outside = self.outside(inside.pid);
        [inside, outside]
    }

    /// The pid file names the daemon, and is locked.
    #[track_caller]
    pub fn assert_pid_file_held(&self) {
        let pid_file = self.pid_file().expect("a pid file");
        assert_eq!(pid_file.bytes, content(self.report().pid));
        assert!(pid_file.locked, "{}", self.diagnostics());
    }

    /// The pid file named the daemon, and was locked, when the launcher ended.
    #[track_caller]
    pub fn assert_pid_file_complete(&self) {
        let pid_file = self.launcher().pid_file.expect("a pid file");
        assert_eq!(pid_file.bytes, content(self.report().pid));
        assert!(pid_file.locked, "{}", self.diagnostics());
    }

    /// The pid file is empty and not locked.
    #[track_caller]
    pub fn assert_pid_file_released(&self) {
        let pid_file = self.pid_file().expect("a pid file");
        assert!(pid_file.is_released(), "{pid_file:?}");
    }
}

/// Runs logrotate(8) with these directives for the log files of a directory. The configuration is
/// in another one.
pub fn rotate_logs(configuration: &Path, logs: &Path, directives: &str) {
    let [config, state] = ["logrotate.conf", "state"].map(|name| configuration.join(name));
    let logs = logs.display();
    let text = format!("{logs}/*.log {{\n    rotate 100\n{directives}}}\n");
    fs::write(&config, text).unwrap();
    set_mode(&config, 0o644);
    let program = suite::logrotate().expect("it is there");
    let output = process::Command::new(program)
        .args(["--force", "--state"])
        .args([state, config])
        .output()
        .expect("run logrotate");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
}

/// The files that logrotate(8) has made of a log file, oldest first, and the file itself.
pub fn rotated(path: &Path) -> Vec<PathBuf> {
    let old = (1..=100).rev();
    let old = old.map(|number| PathBuf::from(format!("{}.{number}", path.display())));
    let all = old.chain([path.to_owned()]);
    all.filter(|path| path.exists()).collect()
}
