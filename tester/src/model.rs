//! The oracle: what must come of a start.
//!
//! Written from the documentation, sharing no code with the library.
//! [`World::look`] takes down what there is before the start; [`foresee`]
//! goes through the start step by step, on a [`Report`] of the launcher
//! that becomes one of the daemon, and stops at the first step that must
//! fail; [`mismatches`] compares all of it with what came.
//!
//! What cannot be known beforehand is what the kernel chooses: process ids,
//! and the numbers of the descriptors that the library opens. What a platform
//! cannot tell is `None` in a report, and not compared.

use std::collections::BTreeMap;
use std::fmt::{self, Debug};
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::process::ExitStatusExt;
use std::path::{Component, Path, PathBuf};
use std::process::{self, Command, ExitStatus};
use std::time::Duration;

use crate::config::{
    Bytes, Config, Entry, ErrorText, Fallible, Identity, Life, Options, ReadinessUse, Step, Stream,
    SupplementaryGroups,
};
use crate::control::Message;
use crate::harness::{Files, Outcome, PidFile, Scenario};
use crate::report::{
    AccessMode, Capabilities, Descriptor, FileType, IdTriple, Place, Report, SignalSet, StartError,
    Terminal,
};
use crate::subject::EXIT_START_FAILED;
use crate::suite::TEST_USER;
use crate::sys;

/// A user that every system has, and that is nobody's.
pub const NOBODY: &str = "nobody";

/// A user's entry in the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserEntry {
    /// User id.
    pub uid: u32,
    /// The primary group's id.
    pub gid: u32,
    /// The primary group's name.
    pub group: String,
    /// All groups.
    pub groups: Vec<u32>,
}

/// The users and groups that combinations name, as id(1) knows them. Any
/// other does not exist.
#[derive(Debug, Clone)]
pub struct Databases {
    users: BTreeMap<String, UserEntry>,
    own: Vec<u32>,
}

impl Databases {
    /// Asks id(1).
    ///
    /// # Panics
    ///
    /// When there is no such program.
    pub fn read() -> Self {
        let id = |arguments: &[&str]| {
            let output = Command::new("id")
                .args(arguments)
                .output()
                .expect("run id(1)");
            let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
            output.status.success().then_some(text)
        };
        let numbers = |text: String| -> Vec<u32> {
            text.split_ascii_whitespace()
                .filter_map(|word| word.parse().ok())
                .collect()
        };
        let own_name = id(&["-un"]).unwrap_or_default();
        let mut users = BTreeMap::new();
        for name in [NOBODY, TEST_USER, "root", own_name.as_str()] {
            let entry = || {
                Some(UserEntry {
                    uid: id(&["-u", name])?.parse().ok()?,
                    gid: id(&["-g", name])?.parse().ok()?,
                    group: id(&["-gn", name])?,
                    groups: numbers(id(&["-G", name])?),
                })
            };
            if let Some(entry) = entry() {
                users.insert(name.to_owned(), entry);
            }
        }
        Self {
            users,
            own: numbers(id(&["-G"]).unwrap_or_default()),
        }
    }

    /// A user by name.
    pub fn user(&self, name: &str) -> Option<&UserEntry> {
        self.users.get(name)
    }

    /// The name of a user's primary group.
    pub fn primary_group_name(&self, user: &str) -> Option<&str> {
        self.user(user).map(|entry| entry.group.as_str())
    }

    /// Whether whoever runs the tests has other groups than its own.
    pub fn own_groups_are_many(&self) -> bool {
        self.own.iter().any(|&gid| gid != sys::group_ids().1)
    }

    fn user_by_id(&self, uid: u32) -> Option<&UserEntry> {
        self.users.values().find(|entry| entry.uid == uid)
    }

    fn group(&self, name: &str) -> Option<u32> {
        let mut users = self.users.values();
        users.find_map(|entry| (entry.group == name).then_some(entry.gid))
    }
}

/// A path, followed as far as it leads.
#[derive(Debug)]
struct Way {
    path: PathBuf,
    /// The folders on the way.
    folders: Vec<Metadata>,
    /// What is there, or an errno.
    found: Result<Metadata, i32>,
}

impl Way {
    /// There is nothing.
    fn nowhere(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            folders: Vec::new(),
            found: Err(libc::ENOENT),
        }
    }

    /// Follows a symbolic link at the end only if told.
    fn follow(path: &Path, follow_last: bool) -> Self {
        let mut way = Self::nowhere(path);
        let mut walked = PathBuf::new();
        let mut components = path.components().peekable();
        while let Some(component) = components.next() {
            walked.push(component);
            let is_last = components.peek().is_none();
            let looked = if is_last && !follow_last && component != Component::RootDir {
                fs::symlink_metadata(&walked)
            } else {
                fs::metadata(&walked)
            };
            way.found = looked.map_err(|error| error.raw_os_error().unwrap_or(0));
            match &way.found {
                Ok(metadata) if !is_last && metadata.is_dir() => way.folders.push(metadata.clone()),
                Ok(_) if !is_last => {
                    way.found = Err(libc::ENOTDIR);
                    break;
                }
                Ok(_) => {}
                Err(_) => break,
            }
        }
        way
    }

    /// What is there for someone, or the errno.
    fn reach(&self, someone: &Someone) -> Result<&Metadata, i32> {
        let closed = |folder: &Metadata| !someone.may(folder, EXECUTE);
        if self.folders.iter().any(closed) {
            return Err(libc::EACCES);
        }
        self.found.as_ref().map_err(|&errno| errno)
    }
}

/// What there is before a start.
#[derive(Debug)]
pub struct World<'a> {
    databases: &'a Databases,
    working_directory: Option<Way>,
    root: Option<Way>,
    pid_file: Option<Way>,
    pid_file_folder: Option<Way>,
    /// The pid file as it can be seen, with its lock.
    pid_file_seen: Option<PidFile>,
    /// Whether whoever runs the tests may not look at it.
    is_pid_file_hidden: bool,
    sources: [Option<Metadata>; 3],
    null_device: Option<Metadata>,
    /// What there is in the case's folder.
    files: Files,
    is_foreground: bool,
    /// Whether a service manager waits for the launcher.
    is_notified: bool,
}

impl<'a> World<'a> {
    /// Takes it down.
    pub fn look(scenario: &Scenario, databases: &'a Databases) -> Self {
        let Config {
            initial, options, ..
        } = &scenario.config;
        let folder = match &initial.working_directory {
            Some(directory) => scenario.directory().join(directory.to_path()),
            None => scenario.directory().to_owned(),
        };
        let from =
            |base: &Path, path: &Option<Bytes>| path.as_ref().map(|path| base.join(path.to_path()));
        let working_directory = from(&folder, &options.working_directory);
        let base = working_directory.as_deref().unwrap_or(&folder);
        let pid_file = from(base, &options.pid_file);
        let is_empty = options
            .pid_file
            .as_ref()
            .is_some_and(|path| path.0.is_empty());
        let parent = match is_empty {
            true => Some(base),
            false => pid_file.as_deref().and_then(Path::parent),
        };
        let source = |stream: &Option<Stream>| match stream {
            Some(Stream::File(source)) => fs::metadata(source.path.to_path()).ok(),
            _ => None,
        };
        let seen = pid_file.as_deref().map(PidFile::look);
        Self {
            databases,
            working_directory: working_directory
                .as_deref()
                .map(|path| Way::follow(path, true)),
            root: from(base, &options.chroot).map(|path| Way::follow(&path, true)),
            pid_file: pid_file.as_deref().map(|path| match is_empty {
                true => Way::nowhere(path),
                false => Way::follow(path, false),
            }),
            pid_file_folder: parent.map(|path| Way::follow(path, true)),
            is_pid_file_hidden: matches!(seen, Some(Err(_))),
            pid_file_seen: seen.and_then(Result::ok).flatten(),
            sources: [
                source(&options.stdin),
                source(&options.stdout),
                source(&options.stderr),
            ],
            null_device: fs::metadata("/dev/null").ok(),
            files: Files::look(scenario.directory(), pid_file.as_deref()),
            is_foreground: scenario.is_foreground(),
            is_notified: scenario.is_notified(),
        }
    }
}

const READ: u32 = 4;
const WRITE: u32 = 2;
const EXECUTE: u32 = 1;

/// Capabilities of <linux/capability.h>. Elsewhere root has them all.
#[derive(Clone, Copy)]
enum Right {
    Chown = 0,
    DacOverride = 1,
    DacReadSearch = 2,
    FileOwner = 3,
    SetGroup = 6,
    SetUser = 7,
    Chroot = 18,
    Administrate = 21,
    Resources = 24,
}

/// Who asks the kernel for something.
#[derive(Debug, Clone)]
struct Someone {
    uid: IdTriple,
    gid: IdTriple,
    groups: Vec<u32>,
    capabilities: Option<Capabilities>,
}

impl Someone {
    fn of(report: &Report) -> Self {
        Self {
            uid: report.uid.expect("user ids are seen from inside"),
            gid: report.gid.expect("group ids are seen from inside"),
            groups: report.groups.clone().expect("groups are seen from inside"),
            capabilities: report.capabilities,
        }
    }

    fn has(&self, right: Right) -> bool {
        match self.capabilities {
            Some(sets) => sets.effective & 1 << right as u32 != 0,
            None => self.uid.effective == 0,
        }
    }

    fn is_member_of(&self, gid: u32) -> bool {
        self.gid.effective == gid || self.groups.contains(&gid)
    }

    fn may(&self, file: &Metadata, access: u32) -> bool {
        self.may_as(file.uid(), file.gid(), file.mode(), access)
            || self.has(Right::DacOverride) && (file.is_dir() || access & EXECUTE == 0)
            || self.has(Right::DacReadSearch) && file.is_dir() && access & WRITE == 0
    }

    /// The same of a regular file of that owner, group and mode.
    fn may_as(&self, owner: u32, group: u32, mode: u32, access: u32) -> bool {
        let shift = if self.uid.effective == owner {
            6
        } else if self.is_member_of(group) {
            3
        } else {
            0
        };
        mode >> shift & access == access || self.has(Right::DacOverride) && access & EXECUTE == 0
    }
}

/// Who is the parent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Parent {
    /// Whoever started the tester.
    Unchanged,
    /// The intermediate, which leads the daemon's session.
    Intermediate,
    /// The launcher, which orphans fall to.
    Launcher,
    /// The reaper of orphans.
    Reaper,
}

/// A descriptor whose number the kernel chooses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Opened {
    /// To read it, with the lock.
    PidFile,
    /// In the foreground, until the pid is written.
    WritablePidFile,
    Channel,
}

/// A report that is to come. Process ids in it are yet unknown.
#[derive(Debug, Clone)]
struct Foreseen {
    moment: &'static str,
    report: Report,
    /// Whichever of them it still is, or already.
    parents: Vec<Parent>,
    opened: Vec<Opened>,
}

impl Foreseen {
    /// Whether it is of the process that was started.
    fn is_of_launcher(&self) -> bool {
        self.parents == [Parent::Unchanged]
    }
}

/// Why a start must fail.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Failure {
    kind: &'static str,
    errno: Option<i32>,
    path: Option<Bytes>,
    /// The user, group, stream or option that it is about.
    name: Option<String>,
    running_pid: Option<u32>,
    /// How the daemon has ended.
    status: Option<i32>,
    /// What is known beside the errno, and told in its place.
    reason: Option<String>,
}

impl Failure {
    fn new(kind: &'static str, errno: impl Into<Option<i32>>) -> Self {
        Self {
            kind,
            errno: errno.into(),
            path: None,
            name: None,
            running_pid: None,
            status: None,
            reason: None,
        }
    }

    fn at(mut self, path: Option<&Bytes>) -> Self {
        self.path = path.cloned();
        self
    }

    fn because(mut self, reason: impl Into<String>) -> Self {
        self.reason = Some(reason.into());
        self
    }

    fn about(mut self, identity: &Identity) -> Self {
        self.name = Some(match identity {
            Identity::Name(name) => name.clone(),
            Identity::Id(id) => id.to_string(),
        });
        self
    }

    /// For a lack of rights: who lacks them, and what takes which capabilities.
    fn refused(self, me: &Someone, deed: &str, capabilities: &str) -> Self {
        let reason = io::Error::from_raw_os_error(libc::EPERM);
        let has_capabilities = cfg!(target_os = "linux");
        self.because(match (me.uid.effective, has_capabilities) {
            (0, true) => format!(
                "{reason}: this process runs as root, but without {capabilities}, \
                 or in a sandbox or user namespace that forbids it"
            ),
            (0, false) => {
                format!("{reason}: this process runs as root, but in a sandbox that forbids it")
            }
            (uid, true) => format!(
                "{reason}: this process runs as uid {uid}; {deed} takes root, or {capabilities}"
            ),
            (uid, false) => format!("{reason}: this process runs as uid {uid}; {deed} takes root"),
        })
    }

    /// The primary group of the user that it is about.
    fn of_user(mut self) -> Self {
        self.name = self.name.map(|name| format!("of user {name}"));
        self
    }

    /// What failed, on what, why, and what is there instead. The oracle's reasons have one line.
    fn text(&self) -> String {
        let what = match self.kind {
            "ChangeDirectory" => "cannot change to directory",
            "Chroot" => "cannot change root directory to",
            "DaemonExited" => "the daemon ended before it was ready",
            "ChownPidfile" if self.path.is_none() => "cannot change owner of pid file to",
            "ChownPidfile" => "cannot change owner of pid file",
            "Fork" => "cannot fork",
            "GroupContainsNul" => "NUL byte in group name",
            "GroupNotFound" => "unknown group",
            "Initialize" => "the initialization failed",
            "LockPidfile" => "cannot lock pid file",
            "MultiThreaded" => "cannot fork safely",
            "NotReady" => "the daemon is not ready",
            "OpenPidfile" => "cannot open pid file",
            "Panicked" => "panic",
            "PathContainsNul" => "NUL byte in path",
            "PrimaryGroupUnknown" => "no group set, and no entry in the database for user",
            "PrivilegedAction" => "the privileged action failed",
            "PrivilegesRetained" => "privileges were retained for",
            "SetGroup" => "cannot change to group",
            "SetNoNewPrivileges" => "cannot set no_new_privs",
            "SetSupplementaryGroups" if self.name.is_some() => {
                "cannot set supplementary groups for"
            }
            "SetSupplementaryGroups" => "cannot set supplementary groups",
            "SetUser" => "cannot change to user",
            "StartupTimeout" => "the daemon was not ready in time",
            "Unsupported" => "not supported on this platform:",
            "UserContainsNul" => "NUL byte in user name",
            "UserNotFound" => "unknown user",
            kind => panic!("the oracle has no words for {kind}"),
        };
        let path = (self.path.as_ref()).map(|path| String::from_utf8_lossy(&path.0).into_owned());
        let subject = path.or_else(|| self.name.clone());
        let subject = subject.map(|subject| format!(" {}", on_one_line(&subject)));
        let running = self.running_pid;
        let running = running.map(|pid| format!(": held by running daemon {pid}"));
        let reason = self.reason.as_ref();
        let reason = reason.map(|reason| format!(": {}", on_one_line(reason)));
        let errno = self.errno;
        let errno = errno.map(|errno| format!(": {}", io::Error::from_raw_os_error(errno)));
        let status = self.status;
        let status = status.map(|status| format!(" ({})", ExitStatus::from_raw(status)));
        let reason = reason.map(|reason| match status {
            Some(_) => reason.replacen(':', ";", 1),
            None => reason,
        });
        let why = running.or(reason).or(errno);
        [Some(what.to_owned()), subject, status, why]
            .into_iter()
            .flatten()
            .collect()
    }
}

/// Control characters are escaped.
fn on_one_line(text: &str) -> String {
    let escaped = |character: char| match character.is_control() {
        true => character.escape_default().to_string(),
        false => character.to_string(),
    };
    text.chars().map(escaped).collect()
}

/// Something that is written to a descriptor.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Written {
    /// This.
    Text(String),
    /// What Rust prints of a panic with this text.
    Panic(String),
}

impl Written {
    /// What comes after it in a text, if that begins with it.
    fn strip_from<'a>(&self, text: &'a str) -> Option<&'a str> {
        match self {
            Self::Text(must) => text.strip_prefix(must),
            Self::Panic(must) => {
                // The first line tells the thread and the place in the source,
                // the last one, which only the first panic has, of backtraces.
                let text = text.strip_prefix('\n').unwrap_or(text);
                let (head, rest) = text.strip_prefix("thread '")?.split_once('\n')?;
                let rest = rest.strip_prefix(must)?.strip_prefix('\n')?;
                let note = "note: run with `RUST_BACKTRACE=1` ";
                let after_note =
                    (rest.strip_prefix(note)).and_then(|note| Some(note.split_once('\n')?.1));
                head.contains(" panicked at ")
                    .then(|| after_note.unwrap_or(rest))
            }
        }
    }
}

/// Who is in the middle of its start when it fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd)]
enum Side {
    /// The launcher, and nobody else.
    Launcher,
    /// The daemon, in the library.
    Daemon,
    /// The daemon, which has ended in a closure, or has to.
    Gone,
    /// The daemon, to which the library has returned.
    Returned,
}

/// What will be at the pid file's path.
#[derive(Debug, Clone, PartialEq, Eq)]
struct PidFileForeseen {
    bytes: Vec<u8>,
    is_pid: bool,
    mode: u32,
    uid: u32,
    gid: u32,
    place: Option<Place>,
    locked: bool,
}

/// Everything that must come of a start.
#[derive(Debug)]
pub struct Prediction {
    is_foreground: bool,
    failure: Option<(Failure, Side)>,
    reports: Vec<Foreseen>,
    parts: Vec<String>,
    /// The launcher, and whoever else has failed, when the library has
    /// returned there.
    afterwards: Vec<Foreseen>,
    /// What else is said, and by whom.
    said: Vec<String>,
    /// What a service manager is told, but for the daemon's process id.
    notified: &'static [&'static str],
    pid_file: Option<PidFileForeseen>,
    is_pid_file_hidden: bool,
    /// Whether it is gone when the daemon has ended.
    is_pid_file_removed: bool,
    /// Whether the library had it open, and may have changed it.
    is_pid_file_opened: bool,
    /// Whether somebody else has locked it.
    is_pid_file_held: bool,
    /// What is written, and where to.
    writes: Vec<(Descriptor, Written)>,
    /// What there was in the case's folder.
    files: Files,
}

impl Prediction {
    /// Whether the start succeeds.
    pub fn succeeds(&self) -> bool {
        self.failure.is_none()
    }
}

/// Who the daemon is to be.
struct NewIdentity {
    user: Option<u32>,
    group: Option<u32>,
    groups: Option<Vec<u32>>,
}

/// The start, as it goes on.
struct Start<'a> {
    config: &'a Config,
    before: &'a Report,
    options: &'a Options,
    world: &'a World<'a>,
    /// The process that is or becomes the daemon.
    process: Report,
    /// Who it is to the kernel: at first the caller.
    me: Someone,
    parents: Vec<Parent>,
    opened: Vec<Opened>,
    side: Side,
    pid_file: Option<PidFileForeseen>,
    new_owner: Option<u32>,
    new_group: Option<u32>,
    reports: Vec<Foreseen>,
    parts: Vec<String>,
    said: Vec<String>,
    writes: Vec<(Descriptor, Written)>,
    is_redirected: bool,
    /// Whether the privileged action has begun.
    has_acted: bool,
    /// Whether there is a result of its that tells of its drop.
    has_witness: bool,
    has_made_thread: bool,
    /// Whether the process that becomes the daemon ends by `_exit(2)` or a
    /// signal.
    ends_at_once: bool,
}

/// Says what must come of a start from `before`, the launcher's report on
/// itself.
///
/// # Panics
///
/// When the configuration asks for what no combination does.
pub fn foresee(config: &Config, before: &Report, world: &World<'_>) -> Prediction {
    let mut start = Start {
        config,
        before,
        options: &config.options,
        world,
        process: before.clone(),
        me: Someone::of(before),
        parents: vec![Parent::Unchanged],
        opened: Vec::new(),
        side: Side::Launcher,
        pid_file: world.pid_file_seen.as_ref().map(|seen| PidFileForeseen {
            bytes: seen.bytes.clone(),
            is_pid: false,
            mode: seen.mode,
            uid: seen.uid,
            gid: seen.gid,
            place: Some(seen.place.clone()),
            locked: seen.locked,
        }),
        new_owner: None,
        new_group: None,
        reports: Vec::new(),
        parts: Vec::new(),
        said: Vec::new(),
        writes: Vec::new(),
        is_redirected: false,
        has_acted: false,
        has_witness: false,
        has_made_thread: false,
        ends_at_once: false,
    };
    let result = start.run();
    let is_pid_file_opened = start.opened.contains(&Opened::PidFile);
    if result.is_err() && is_pid_file_opened {
        let is_cleared = start.may_clear_pid_file();
        let pid_file = start.pid_file.as_mut().expect("it was opened");
        pid_file.is_pid &= !is_cleared;
        pid_file.locked = false;
    }
    let failure = result.err().map(|failure| (failure, start.side));
    if let Some((failure, side)) = &failure {
        start.tell(failure, *side);
    }
    let failed = failure.as_ref().map(|(_, side)| *side);
    start.flush();
    start.say_what_is_dropped(failed);
    // With a failure in between, not when the process ends.
    if start.has_witness && failed == Some(Side::Daemon) {
        start.said.push("daemon ResultDropped".to_owned());
    }
    start.say_who_exits(failed);
    let guards = config.guard_pid_file && failed.is_none();
    let is_pid_file_removed = guards && start.may_remove_pid_file();
    let afterwards = start.afterwards(failed);
    // Not even its owner opens a file that may not be read.
    let is_unreadable = |file: &PidFileForeseen| file.mode & 0o400 == 0;
    let is_unreadable =
        sys::effective_user() != 0 && start.pid_file.as_ref().is_some_and(is_unreadable);
    Prediction {
        is_pid_file_hidden: world.is_pid_file_hidden || is_unreadable,
        is_foreground: start.is_foreground(),
        notified: match (
            world.is_notified && failure.is_none(),
            start.is_foreground(),
        ) {
            (false, _) => &[],
            (true, true) => &["READY=1"],
            (true, false) => &["MAINPID=", "READY=1", "BARRIER=1"],
        },
        failure,
        reports: start.reports,
        parts: start.parts,
        afterwards,
        said: start.said,
        is_pid_file_removed,
        is_pid_file_opened,
        is_pid_file_held: (world.pid_file_seen.as_ref()).is_some_and(|seen| seen.locked),
        pid_file: start.pid_file,
        writes: start.writes,
        files: world.files.clone(),
    }
}

/// By prctl(2), and procctl(2) of FreeBSD 14.
pub const HAS_NO_NEW_PRIVILEGES: bool = cfg!(any(target_os = "linux", target_os = "freebsd"));

impl Start<'_> {
    /// The order of the steps is the documented one.
    fn run(&mut self) -> Result<(), Failure> {
        self.refuse_nul()?;
        self.refuse_unsupported()?;
        let identity = self.look_up()?;
        self.count_threads()?;
        self.fork()?;
        self.side = Side::Daemon;
        if self.options.reset_signals {
            self.reset_signals();
        }
        self.close_inherited();
        let default = match self.is_foreground() {
            true => self.process.umask,
            false => Some(0o027),
        };
        self.process.umask = self.options.umask.or(default);
        let first_steps = self.change_directory().and_then(|()| self.open_pid_file());
        // A daemon has its streams set also after a failure of the intermediate's.
        if first_steps.is_ok() || !self.is_foreground() {
            self.redirect();
        }
        first_steps?;
        self.give_pid_file_away()?;
        self.restore_signal_mask();
        self.act()?;
        self.change_root()?;
        if self.is_foreground() {
            self.write_pid();
        }
        if let Some(identity) = identity {
            self.become_identity(&identity)?;
        }
        if self.options.no_new_privileges {
            self.give_up_new_privileges()?;
        }
        self.initialize()?;
        self.be_ready()?;
        self.write_pid();
        Ok(())
    }

    fn is_foreground(&self) -> bool {
        self.world.is_foreground
    }

    fn observe(&mut self, moment: &'static str) {
        self.reports.push(Foreseen {
            moment,
            report: self.process.clone(),
            parents: self.parents.clone(),
            opened: self.opened.clone(),
        });
    }

    // The launcher.

    /// Paths in the order of their steps, then users, then groups.
    fn refuse_nul(&self) -> Result<(), Failure> {
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
                return Err(Failure::new(kind, None).about(identity));
            }
        }
        Ok(())
    }

    fn refuse_unsupported(&self) -> Result<(), Failure> {
        if self.options.no_new_privileges && !HAS_NO_NEW_PRIVILEGES {
            let failure = Failure::new("Unsupported", None);
            return Err(failure.about(&Identity::from("no_new_privileges")));
        }
        Ok(())
    }

    /// The daemon's user and group first, then its supplementary groups, then
    /// the pid file's owners, which are not looked up without one.
    fn look_up(&mut self) -> Result<Option<NewIdentity>, Failure> {
        let options = self.options;
        let user = options.user.as_ref();
        let uid = user.map(|user| self.uid(user, "SetUser")).transpose()?;
        let group = options.group.as_ref();
        let gid = group.map(|group| self.gid(group, "SetGroup")).transpose()?;
        let entry = user.and_then(|user| match user {
            Identity::Name(name) => self.world.databases.user(name),
            Identity::Id(uid) => self.world.databases.user_by_id(*uid),
        });
        let group = gid.or(entry.map(|entry| entry.gid));
        if let (Some(user), None) = (user, group) {
            return Err(Failure::new("PrimaryGroupUnknown", None).about(user));
        }
        let groups = match (&options.supplementary_groups, group) {
            (Some(SupplementaryGroups::Keep), _) => None,
            (Some(SupplementaryGroups::Only(groups)), _) => {
                let groups = groups.iter();
                let resolved: Result<Vec<u32>, Failure> = groups
                    .map(|group| self.gid(group, "SetSupplementaryGroups"))
                    .collect();
                Some(resolved?)
            }
            (Some(SupplementaryGroups::FromDatabase) | None, None) => None,
            (Some(SupplementaryGroups::FromDatabase) | None, Some(group)) => {
                // The primary group of the entry is not among what the group
                // database lists, unless it is named there, too.
                let listed = entry.map_or(&[][..], |entry| &entry.groups);
                let primary = entry.map(|entry| entry.gid);
                let others = listed.iter().filter(|&&gid| Some(gid) != primary);
                Some([group].into_iter().chain(others.copied()).collect())
            }
        };
        let new = NewIdentity {
            user: uid,
            group,
            groups,
        };
        let changes = new.user.is_some() || new.group.is_some() || new.groups.is_some();
        let identity = changes.then_some(new);
        if options.pid_file.is_some() {
            let user = options.chown_pid_file_user.as_ref();
            self.new_owner = user
                .map(|user| self.uid(user, "ChownPidfile"))
                .transpose()?;
            let group = options.chown_pid_file_group.as_ref();
            self.new_group = group
                .map(|group| self.gid(group, "ChownPidfile"))
                .transpose()?;
        }
        Ok(identity)
    }

    fn uid(&self, user: &Identity, refusal: &'static str) -> Result<u32, Failure> {
        match user {
            Identity::Id(u32::MAX) => Err(refused_id(refusal, user)),
            Identity::Id(uid) => Ok(*uid),
            Identity::Name(name) => match self.world.databases.user(name) {
                Some(entry) => Ok(entry.uid),
                None => Err(Failure::new("UserNotFound", None).about(user)),
            },
        }
    }

    fn gid(&self, group: &Identity, refusal: &'static str) -> Result<u32, Failure> {
        match group {
            Identity::Id(u32::MAX) => Err(refused_id(refusal, group)),
            Identity::Id(gid) => Ok(*gid),
            Identity::Name(name) => (self.world.databases.group(name))
                .ok_or_else(|| Failure::new("GroupNotFound", None).about(group)),
        }
    }

    fn count_threads(&self) -> Result<(), Failure> {
        let is_checked = matches!(
            self.config.entry,
            Entry::StartChecked | Entry::ExecuteChecked
        );
        let forks = !self.is_foreground();
        if forks && is_checked && self.config.initial.extra_threads > 0 {
            let number = usize::try_from(self.config.initial.extra_threads).unwrap_or(0) + 1;
            // Threads are called as the one is that makes them.
            let names = match cfg!(target_os = "linux") {
                true => format!(" ({})", vec!["tester"; number].join(", ")),
                false => String::new(),
            };
            let text = format!(
                "the process has more than one thread: {number}{names}; start the daemon first, \
                 and make threads and async runtimes after it (#[tokio::main] makes them before)"
            );
            return Err(Failure::new("MultiThreaded", None).because(text));
        }
        Ok(())
    }

    /// On Linux they are a thread's to give up.
    fn give_up_new_privileges(&mut self) -> Result<(), Failure> {
        let has_other_threads =
            self.has_made_thread || self.is_foreground() && self.config.initial.extra_threads > 0;
        if has_other_threads && cfg!(target_os = "linux") {
            let failure = Failure::new("SetNoNewPrivileges", libc::EPERM);
            return Err(failure.because("other threads exist, and would not get no_new_privs"));
        }
        self.process.no_new_privileges = self.process.no_new_privileges.map(|_| true);
        Ok(())
    }

    fn fork(&mut self) -> Result<(), Failure> {
        if self.is_foreground() {
            // One that was joined may still have been counted before.
            let threads = 1 + self.config.initial.extra_threads;
            self.process.threads = self.process.threads.map(|_| threads);
            return Ok(());
        }
        let is_free = self.me.uid.real == 0
            || self.me.has(Right::Resources)
            || self.me.has(Right::Administrate);
        if self.config.initial.limit_processes == Some(0) && !is_free {
            return Err(Failure::new("Fork", libc::EAGAIN));
        }
        self.parents = vec![Parent::Intermediate];
        self.process.terminal = Some(Terminal::None);
        self.process.threads = Some(1);
        self.opened.push(Opened::Channel);
        Ok(())
    }

    // The daemon.

    fn reset_signals(&mut self) {
        let left = |signals: Option<SignalSet>| {
            let none = SignalSet::default();
            let is_left = |signal: &i32| *signal == libc::SIGPIPE;
            signals.map(|set| set.iter().filter(is_left).fold(none, SignalSet::with))
        };
        let process = &mut self.process;
        process.ignored_signals = left(process.ignored_signals);
        process.caught_signals = left(process.caught_signals);
    }

    /// The launcher's, unless signals were reset.
    fn restore_signal_mask(&mut self) {
        if self.options.reset_signals {
            let process = &mut self.process;
            process.blocked_signals = process.blocked_signals.map(|_| SignalSet::default());
        }
    }

    /// The streams and what they are set to need not be named.
    fn close_inherited(&mut self) {
        let Some(kept) = &self.options.close_inherited_fds else {
            return;
        };
        let descriptors = self.process.descriptors.take();
        let is_left = |found: &Descriptor| {
            found.number < 3 || kept.contains(&found.number) || self.is_source(found)
        };
        self.process.descriptors = descriptors.map(|all| all.into_iter().filter(is_left).collect());
    }

    fn change_directory(&mut self) -> Result<(), Failure> {
        let Some(path) = &self.world.working_directory else {
            return Ok(());
        };
        let failed = |errno| {
            Failure::new("ChangeDirectory", errno).at(self.options.working_directory.as_ref())
        };
        let place = self.enter(path).map_err(failed)?;
        self.process.working_directory = Some(place);
        Ok(())
    }

    fn enter(&self, path: &Way) -> Result<Place, i32> {
        let folder = path.reach(&self.me)?;
        if !folder.is_dir() {
            Err(libc::ENOTDIR)
        } else if !self.me.may(folder, EXECUTE) {
            Err(libc::EACCES)
        } else {
            Ok(Place {
                path: fs::canonicalize(&path.path).ok().map(Bytes::from),
                ..place(folder)
            })
        }
    }

    fn open_pid_file(&mut self) -> Result<(), Failure> {
        let (Some(file), Some(folder)) = (&self.world.pid_file, &self.world.pid_file_folder) else {
            return Ok(());
        };
        let failed = |kind, errno| Failure::new(kind, errno).at(self.options.pid_file.as_ref());
        let refused = |errno| failed("OpenPidfile", errno);
        let refused_as = |errno, reason: &str| refused(errno).because(reason);

        let shown = folder.path.display();
        let text_of = io::Error::from_raw_os_error;
        let whose = |folder: &Metadata| {
            let mode = folder.mode() & 0o7777;
            format!(
                "uid {} and gid {}, mode {mode:04o}",
                folder.uid(),
                folder.gid()
            )
        };
        let user = self.me.uid.effective;
        let refused = |errno: i32| match (errno, &folder.found) {
            (libc::ENOENT, Err(_)) => refused(errno).because(format!(
                "{}: its directory {shown} does not exist",
                text_of(errno)
            )),
            (libc::EACCES, Ok(found)) => refused(errno).because(format!(
                "{}: this process runs as uid {user}; its directory {shown} belongs to {}",
                text_of(errno),
                whose(found)
            )),
            _ => refused(errno),
        };

        if self.me.uid.effective == 0 {
            let folder = folder.reach(&self.me).map_err(refused)?;
            if !folder.is_dir() {
                return Err(refused(libc::ENOTDIR));
            }
            if !self.me.may(folder, READ) {
                return Err(refused(libc::EACCES));
            }
            let daemon = self.options.user.as_ref();
            let daemon = daemon.and_then(|user| self.uid(user, "").ok());
            let owners = [Some(0), self.new_owner, daemon];
            let others = if folder.gid() == 0 { 0o002 } else { 0o022 };
            let is_sticky = folder.mode() & 0o1000 != 0;
            let is_open = folder.mode() & others != 0 && !is_sticky;
            if !owners.contains(&Some(folder.uid())) {
                let whose = whose(folder);
                return Err(refused_as(
                    libc::EPERM,
                    &format!(
                        "its directory belongs to another user: {shown} belongs to {whose}; to \
                         root, it may be that of root, of `user` or of `chown_pid_file_user`"
                    ),
                ));
            }
            if is_open {
                let whose = whose(folder);
                return Err(refused_as(
                    libc::EPERM,
                    &format!(
                        "other users can write to its directory: {shown} belongs to {whose}; take \
                         that permission away, or set the sticky bit"
                    ),
                ));
            }
        }
        if self
            .options
            .pid_file
            .as_ref()
            .is_some_and(|path| path.0.is_empty())
        {
            return Err(refused(libc::ENOENT));
        }
        let file = match file.reach(&self.me) {
            Ok(file) => Some(file),
            // Else it is the folder that is missing.
            Err(libc::ENOENT) if folder.found.is_ok() => None,
            Err(errno) => return Err(refused(errno)),
        };
        match file {
            None => {
                let folder = folder.reach(&self.me).map_err(refused)?;
                if !self.me.may(folder, WRITE | EXECUTE) {
                    return Err(refused(libc::EACCES));
                }
                self.pid_file = Some(self.new_pid_file(folder));
            }
            Some(file) => {
                if file.is_symlink() {
                    return Err(refused_as(libc::ELOOP, "it is a symbolic link"));
                }
                if file.is_dir() {
                    return Err(refused(libc::EISDIR));
                }
                let may_write = self.me.may(file, READ | WRITE);
                let is_socket = file.file_type().is_socket();
                if !may_write && (is_socket || !self.me.may(file, READ)) {
                    return Err(refused(libc::EACCES));
                }
                if is_socket {
                    // open(2) fails; elsewhere with another number.
                    return Err(refused(match cfg!(target_os = "linux") {
                        true => libc::ENXIO,
                        false => libc::EOPNOTSUPP,
                    }));
                }
                if file.file_type().is_fifo() {
                    return Err(refused_as(libc::EINVAL, "it is a FIFO"));
                }
                if file.file_type().is_char_device() {
                    return Err(refused_as(libc::EINVAL, "it is a device"));
                }
                if file.nlink() > 1 {
                    return Err(refused_as(libc::EMLINK, "it has other hard links"));
                }
                if let Some(held) = self.world.pid_file_seen.as_ref().filter(|seen| seen.locked) {
                    let failure = failed("LockPidfile", libc::EWOULDBLOCK);
                    let mut failure = failure.because(match held.bytes.is_empty() {
                        true => "held by a daemon that is starting",
                        false => "held by another process",
                    });
                    failure.running_pid = self.running_pid(held);
                    return Err(failure);
                }
                let owners = [Some(0), Some(self.me.uid.effective), self.new_owner];
                let is_strangers = !owners.contains(&Some(file.uid()));
                let is_writable = file.mode() & 0o022 != 0;
                let owns = self.me.uid.effective == file.uid();
                let may_change_mode = owns || self.me.has(Right::FileOwner);
                if may_write && !is_strangers && is_writable && !may_change_mode {
                    return Err(refused_as(
                        libc::EPERM,
                        "other users can write to it, and that cannot be changed",
                    ));
                }
                let is_to_go = !may_write || is_strangers || is_writable;
                let is_private =
                    (folder.found.as_ref()).is_ok_and(|found| found.mode() & 0o022 == 0);
                let is_replaced = is_to_go
                    && (!is_strangers || is_private)
                    && self.may_remove(file.uid(), folder);
                if !may_write && !is_replaced {
                    return Err(refused(libc::EACCES));
                }
                if is_strangers && !is_replaced {
                    let reason = format!(
                        "it belongs to another user, uid {}; it may be that of root, of the \
                         caller or of `chown_pid_file_user`",
                        file.uid()
                    );
                    return Err(refused_as(libc::EPERM, &reason));
                }
                self.pid_file = Some(match folder.reach(&self.me) {
                    Ok(folder) if is_replaced => self.new_pid_file(folder),
                    _ => PidFileForeseen {
                        bytes: Vec::new(),
                        is_pid: false,
                        mode: file.mode() & 0o7777 & !0o022,
                        uid: file.uid(),
                        gid: file.gid(),
                        place: Some(place(file)),
                        locked: true,
                    },
                });
            }
        }
        self.opened.push(Opened::PidFile);
        if self.is_foreground() {
            self.opened.push(Opened::WritablePidFile);
        }
        Ok(())
    }

    fn new_pid_file(&self, folder: &Metadata) -> PidFileForeseen {
        let inherits_group = folder.mode() & 0o2000 != 0 || !cfg!(target_os = "linux");
        let mode = 0o644 & !self.process.umask.expect("just set");
        PidFileForeseen {
            bytes: Vec::new(),
            is_pid: false,
            mode: match self.me.has(Right::DacOverride) {
                true => mode,
                // Its owner has to open it again.
                false => mode | 0o400,
            },
            uid: self.me.uid.effective,
            gid: match inherits_group {
                true => folder.gid(),
                false => self.me.gid.effective,
            },
            place: None,
            locked: true,
        }
    }

    /// unlink(2): in a folder with the sticky bit only what, or whose folder, is
    /// one's own.
    fn may_remove(&self, owner: u32, folder: &Way) -> bool {
        folder.reach(&self.me).is_ok_and(|folder| {
            let own = [owner, folder.uid()].contains(&self.me.uid.effective);
            let is_sticky = folder.mode() & 0o1000 != 0;
            self.me.may(folder, WRITE | EXECUTE)
                && (!is_sticky || own || self.me.has(Right::FileOwner))
        })
    }

    /// The process that the launcher can name: the harness has locked the file as
    /// flock(1) does, so that Linux names nobody.
    fn running_pid(&self, held: &PidFile) -> Option<u32> {
        let harness = process::id();
        let is_named = held.bytes == format!("{harness}\n").as_bytes();
        let may_look = self.me.uid.effective == 0 || self.me.uid.effective == sys::effective_user();
        (!cfg!(target_os = "linux") && is_named && may_look).then_some(harness)
    }

    fn write_pid(&mut self) {
        self.opened
            .retain(|&opened| opened != Opened::WritablePidFile);
        if let Some(pid_file) = &mut self.pid_file {
            pid_file.is_pid = true;
        }
    }

    /// Whether the process that has written its own pid may open the file once more.
    fn may_clear_pid_file(&self) -> bool {
        let (Some(file), Some(folder)) = (&self.pid_file, &self.world.pid_file_folder) else {
            return false;
        };
        let is_there = self.process.root == self.before.root && folder.reach(&self.me).is_ok();
        is_there && self.me.may_as(file.uid, file.gid, file.mode, WRITE)
    }

    /// What the tester has opened to become a stream.
    fn source(&self, index: usize) -> Option<&Descriptor> {
        let file = self.world.sources[index].as_ref()?;
        let mut before = self.before.descriptors.as_deref()?.iter();
        before.find(|found| (found.device, found.inode) == (file.dev(), file.ino()))
    }

    fn is_source(&self, descriptor: &Descriptor) -> bool {
        let mut sources = (0..3).filter_map(|index| self.source(index));
        sources.any(|source| source.number == descriptor.number)
    }

    /// The descriptors that are left when the library has let go of the
    /// streams' sources.
    fn without_sources(&self, descriptors: &Option<Vec<Descriptor>>) -> Option<Vec<Descriptor>> {
        let all = descriptors.as_ref()?.iter();
        Some(
            all.filter(|found| !self.is_source(found))
                .cloned()
                .collect(),
        )
    }

    /// The process itself, as it stands now.
    fn here(&self) -> Report {
        let descriptors = match self.is_redirected {
            true => self.process.descriptors.clone(),
            false => self.without_sources(&self.process.descriptors),
        };
        Report {
            descriptors,
            ..self.process.clone()
        }
    }

    /// The launcher once the library has returned there: as it was.
    fn launcher(&self) -> Report {
        Report {
            descriptors: self.without_sources(&self.before.descriptors),
            ..self.before.clone()
        }
    }

    fn write(&mut self, to: &Report, number: i32, written: Written) {
        if let Some(descriptor) = to.descriptor(number) {
            self.writes.push((descriptor.clone(), written));
        }
    }

    /// What is said of a failure on standard error.
    fn tell(&mut self, failure: &Failure, side: Side) {
        let text = failure.text();
        let is_told_off = matches!(
            self.config
                .deferred_readiness
                .as_ref()
                .map(|deferral| &deferral.usage),
            Some(ReadinessUse::Fail(_))
        );
        if !self.is_foreground() {
            let launcher = self.launcher();
            self.write(&launcher, 2, Written::Text(format!("tester: {text}\n")));
        } else if side == Side::Gone || side == Side::Returned && is_told_off {
            let here = self.here();
            self.write(&here, 2, Written::Text(format!("{text}\n")));
        } else if side < Side::Gone && !self.config.entry.returns_in_both() {
            let here = self.here();
            self.write(&here, 2, Written::Text(format!("tester: {text}\n")));
        }
    }

    /// Who is returned to, beside a daemon that has started.
    fn afterwards(&self, failed: Option<Side>) -> Vec<Foreseen> {
        let in_both = self.config.entry.returns_in_both();
        let foreseen = |moment, report, parents| Foreseen {
            moment,
            report,
            parents,
            opened: Vec::new(),
        };
        let unchanged = || vec![Parent::Unchanged];
        let mut all = Vec::new();
        if self.is_foreground() {
            if failed.is_some_and(|side| side < Side::Gone) {
                all.push(foreseen("after the failure", self.here(), unchanged()));
            }
            return all;
        }
        if in_both || failed.is_some() {
            let mut report = self.launcher();
            // One that was joined may still have been counted before.
            report.threads = report
                .threads
                .map(|_| 1 + self.config.initial.extra_threads);
            all.push(foreseen("the launcher afterwards", report, unchanged()));
        }
        if in_both && failed == Some(Side::Daemon) {
            let mut report = self.here();
            if self.options.reset_signals {
                report.blocked_signals = report.blocked_signals.map(|_| SignalSet::default());
            }
            let parents = [&[Parent::Intermediate], self.adopters().as_slice()].concat();
            all.push(foreseen("the daemon's side afterwards", report, parents));
        }
        all
    }

    /// Takes the sources away, and leaves 0, 1 and 2 as configured.
    fn redirect(&mut self) {
        let Some(before) = &self.process.descriptors else {
            return;
        };
        let streams = [
            &self.options.stdin,
            &self.options.stdout,
            &self.options.stderr,
        ];
        let unset = match self.is_foreground() {
            true => Stream::Keep,
            false => Stream::DevNull,
        };
        let mut after = Vec::new();
        for (index, number) in (0..3).enumerate() {
            let kept = before.iter().find(|found| found.number == number);
            let stream = match (streams[index].as_ref().unwrap_or(&unset), kept) {
                (Stream::File(_), _) => self.source(index).cloned().expect("opened beforehand"),
                (Stream::Keep, Some(kept)) => kept.clone(),
                (Stream::Keep | Stream::DevNull, _) => self.null_device(),
            };
            after.push(Descriptor {
                number,
                close_on_exec: false,
                ..stream
            });
        }
        let others = before.iter();
        let others = others.filter(|found| found.number > 2 && !self.is_source(found));
        after.extend(others.cloned());
        self.process.descriptors = Some(after);
        self.is_redirected = true;
        if self.is_foreground() && self.world.is_notified {
            // The service manager's socket.
            self.opened.push(Opened::Channel);
        }
    }

    fn null_device(&self) -> Descriptor {
        let null = self.world.null_device.as_ref().expect("/dev/null is there");
        Descriptor {
            number: -1,
            device: null.dev(),
            inode: null.ino(),
            file_type: FileType::CharacterDevice,
            special_device: null.rdev(),
            access: AccessMode::ReadWrite,
            close_on_exec: false,
            nonblocking: false,
            append: false,
            locked: cfg!(target_os = "linux").then_some(false),
            target: None,
        }
    }

    fn give_pid_file_away(&mut self) -> Result<(), Failure> {
        let (owner, group) = (self.new_owner, self.new_group);
        let Some(pid_file) = &mut self.pid_file else {
            return Ok(());
        };
        let caller = &self.me;
        let owns = caller.uid.effective == pid_file.uid;
        let may_owner = owner.is_none_or(|uid| owns && uid == pid_file.uid);
        let may_group =
            group.is_none_or(|gid| owns && (caller.is_member_of(gid) || gid == pid_file.gid));
        if !(may_owner && may_group || caller.has(Right::Chown)) {
            let failure = Failure::new("ChownPidfile", libc::EPERM);
            let failure = failure.refused(caller, "changing the owner of a file", "CAP_CHOWN");
            return Err(failure.at(self.options.pid_file.as_ref()));
        }
        pid_file.uid = owner.unwrap_or(pid_file.uid);
        pid_file.gid = group.unwrap_or(pid_file.gid);
        Ok(())
    }

    fn act(&mut self) -> Result<(), Failure> {
        self.has_acted = true;
        if let Some(action) = &self.config.try_privileged_action {
            self.run_fallible("PrivilegedAction", "the action", action)
        } else if let Some(steps) = &self.config.privileged_action {
            self.run_steps("the action", steps)
        } else {
            Ok(())
        }
    }

    fn initialize(&mut self) -> Result<(), Failure> {
        let mut all = self.config.initialize.iter();
        all.try_for_each(|one| self.run_fallible("Initialize", "the initialization", one))
    }

    fn run_fallible(
        &mut self,
        kind: &'static str,
        moment: &'static str,
        closure: &Fallible,
    ) -> Result<(), Failure> {
        self.run_steps(moment, &closure.steps)?;
        match &closure.error {
            Some(error) => Err(Failure::new(kind, None).because(text_of(error))),
            None => Ok(()),
        }
    }

    fn run_steps(&mut self, moment: &'static str, steps: &[Step]) -> Result<(), Failure> {
        for step in steps {
            match step {
                Step::Observe => self.observe(moment),
                Step::Add(part) => self.parts.push(part.clone()),
                Step::Panic(text) => {
                    self.panic(text);
                    return Err(Failure::new("Panicked", None).because(text.as_str()));
                }
                Step::WitnessResult => self.has_witness = true,
                Step::MakeThread => {
                    self.process.threads = self.process.threads.map(|threads| threads + 1);
                    self.has_made_thread = true;
                }
                Step::Exit(status) => return Err(self.ended(status << 8)),
                Step::KillItself(signal) => {
                    self.ends_at_once = true;
                    return Err(self.ended(*signal));
                }
                other => panic!("the oracle knows nothing of {other:?}"),
            }
        }
        Ok(())
    }

    /// In a closure.
    fn ended(&mut self, status: i32) -> Failure {
        self.side = Side::Gone;
        let failure = Failure {
            status: Some(status),
            ..Failure::new("DaemonExited", None)
        };
        match &self.options.stderr {
            None | Some(Stream::DevNull) => {
                failure.because("its standard error is /dev/null: set `stderr` to see its messages")
            }
            Some(_) => failure,
        }
    }

    fn panic(&mut self, text: &str) {
        let here = self.here();
        self.write(&here, 2, Written::Panic(text.to_owned()));
    }

    /// Entered first, then made the root directory.
    fn change_root(&mut self) -> Result<(), Failure> {
        let Some(path) = &self.world.root else {
            return Ok(());
        };
        let failed = |errno| Failure::new("Chroot", errno).at(self.options.chroot.as_ref());
        let root = self.enter(path).map_err(failed)?;
        if !self.me.has(Right::Chroot) {
            self.process.working_directory = Some(root);
            let deed = "changing the root directory";
            return Err(failed(libc::EPERM).refused(&self.me, deed, "CAP_SYS_CHROOT"));
        }
        let is_inside = self
            .process
            .working_directory
            .as_ref()
            .is_some_and(|inside| {
                let folder = inside.path.as_ref().map(Bytes::to_path).unwrap_or_default();
                let mut above = folder.ancestors();
                above.any(|above| Place::of(above).is_ok_and(|above| above == root))
            });
        if !is_inside {
            self.process.working_directory = Some(root.clone());
        }
        self.process.root = self.process.root.take().map(|_| root);
        Ok(())
    }

    /// Groups, gid, uid; then capabilities.
    fn become_identity(&mut self, new: &NewIdentity) -> Result<(), Failure> {
        let about = |failure: Failure, identity: Option<&Identity>| match identity {
            Some(identity) => failure.about(identity),
            None => failure,
        };
        let (user, group) = (self.options.user.as_ref(), self.options.group.as_ref());
        let sorted = |groups: &[u32]| {
            let mut groups = groups.to_vec();
            groups.sort_unstable();
            groups.dedup();
            groups
        };
        let before = self.me.clone();
        let becoming = match (user, group) {
            (Some(Identity::Name(name)), _) => format!("becoming user {name}"),
            (Some(Identity::Id(id)), _) => format!("becoming user {id}"),
            (None, Some(Identity::Name(name))) => format!("becoming group {name}"),
            (None, Some(Identity::Id(id))) => format!("becoming group {id}"),
            (None, None) => "having other groups".to_owned(),
        };
        let refused = |kind| {
            let failure = Failure::new(kind, libc::EPERM);
            failure.refused(&before, &becoming, "CAP_SETUID and CAP_SETGID")
        };
        let me = &mut self.me;
        let primary = new.group.unwrap_or(me.gid.effective);
        let with_primary = |groups: &[u32]| sorted(&[groups, &[primary]].concat());
        if let Some(groups) = new.groups.as_ref().map(|groups| sorted(groups)) {
            if me.has(Right::SetGroup) {
                me.groups = groups;
            } else if with_primary(&me.groups) != with_primary(&groups) {
                return Err(about(refused("SetSupplementaryGroups"), user.or(group)));
            }
        }
        self.process.groups = Some(me.groups.clone());
        let holds =
            |ids: IdTriple, id| id == ids.real || id == ids.effective || ids.saved == Some(id);
        if let Some(gid) = new.group {
            if !me.has(Right::SetGroup) && !holds(me.gid, gid) {
                let failure = refused("SetGroup");
                return Err(match group {
                    Some(_) => about(failure, group),
                    None => about(failure, user).of_user(),
                });
            }
            me.gid = all(me.gid, gid);
            self.process.gid = Some(me.gid);
        }
        if let Some(uid) = new.user {
            if !me.has(Right::SetUser) && !holds(me.uid, uid) {
                return Err(about(refused("SetUser"), user));
            }
            me.become_user(uid, self.config.initial.secure_bits.unwrap_or(0));
        }
        let is_changed = (me.uid, me.gid, sorted(&me.groups))
            != (before.uid, before.gid, sorted(&before.groups));
        // Each thread gives up its own.
        let keeps = |sets: Capabilities| sets.inheritable | sets.permitted | sets.effective != 0;
        let another_keeps = self.has_made_thread && me.capabilities.is_some_and(keeps);
        if me.uid.effective != 0 && is_changed && another_keeps {
            let failure = Failure::new("PrivilegesRetained", None)
                .because("capabilities are left, here or in another thread");
            (self.side, self.ends_at_once) = (Side::Gone, true);
            return Err(about(failure, user.or(group)));
        }
        if me.uid.effective != 0 && is_changed {
            me.capabilities = me.capabilities.map(|sets| Capabilities {
                inheritable: 0,
                permitted: 0,
                effective: 0,
                ambient: 0,
                ..sets
            });
        }
        self.process.uid = Some(me.uid);
        self.process.capabilities = me.capabilities;
        Ok(())
    }

    fn be_ready(&mut self) -> Result<(), Failure> {
        let Some(deferral) = &self.config.deferred_readiness else {
            self.commit();
            self.observe("the library's return");
            self.settle();
            return Ok(());
        };
        self.observe("the library's return");
        self.side = Side::Returned;
        self.run_steps("the daemon's own steps", &deferral.steps)?;
        if deferral.in_copy.is_some() {
            self.said.push("daemon copied itself".to_owned());
            self.said.push(
                "copy not acknowledged: the daemon is not ready: \
                 only the process that was started can report"
                    .to_owned(),
            );
        }
        let failed = |reason: &str| Err(Failure::new("NotReady", None).because(reason));
        match &deferral.usage {
            ReadinessUse::Ready => {
                self.commit();
                self.settle();
                Ok(())
            }
            ReadinessUse::Fail(text) => {
                self.ends_at_once = true;
                failed(&text_of(text))
            }
            ReadinessUse::FailAndReturn(_) | ReadinessUse::Serve(_) => {
                panic!("the oracle knows nothing of {:?}", deferral.usage)
            }
            ReadinessUse::Drop => failed("its readiness was dropped unused"),
            ReadinessUse::DropByPanic(text) => {
                self.panic(text);
                failed(&format!("panic: {text}"))
            }
            ReadinessUse::Keep => {
                assert!(
                    self.options.startup_timeout.is_some(),
                    "it would go on for ever"
                );
                self.ends_at_once = true;
                let timeout = self.options.startup_timeout.map(Duration::from_millis);
                let text = format!(
                    "the startup timeout of {:?} ran out before the daemon used its `Readiness`; \
                     the daemon was terminated",
                    timeout.unwrap_or_default()
                );
                Err(Failure::new("StartupTimeout", None).because(text))
            }
        }
    }

    fn commit(&mut self) {
        self.opened.retain(|&opened| opened != Opened::Channel);
        if !self.is_foreground() {
            self.parents = self.adopters();
        }
    }

    /// The launcher, if it has forked, has ended by now.
    fn settle(&mut self) {
        if !self.is_foreground() {
            self.parents = vec![Parent::Reaper];
        }
        self.observe("the launcher's end");
    }

    /// Whom an orphan falls to.
    fn adopters(&self) -> Vec<Parent> {
        match self.config.initial.subreaper {
            true => vec![Parent::Launcher, Parent::Reaper],
            false => vec![Parent::Reaper],
        }
    }

    /// What was printed but not written: by the launcher before it forks, or
    /// when it ends; in the foreground when the process ends.
    fn flush(&mut self) {
        let to = match self.is_foreground() {
            true if self.ends_at_once => return,
            true => self.here(),
            false => self.before.clone(),
        };
        let initial = &self.config.initial;
        let texts = [&initial.unflushed_rust, &initial.unflushed_c];
        for text in texts.into_iter().flatten() {
            self.write(&to, 1, Written::Text(text.clone()));
        }
    }

    /// What the privileged action has captured, each time once: in the
    /// launcher when the library returns there, in the daemon with the action,
    /// or with the failure, if that is returned.
    fn say_what_is_dropped(&mut self, failed: Option<Side>) {
        let config = self.config;
        let has_action =
            config.privileged_action.is_some() || config.try_privileged_action.is_some();
        if !config.witness_capture || !has_action {
            return;
        }
        let in_both = config.entry.returns_in_both();
        let is_foreground = self.is_foreground();
        if !is_foreground && (in_both || failed.is_some()) {
            self.said.push("launcher CaptureDropped".to_owned());
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
            self.said.push("daemon CaptureDropped".to_owned());
        }
    }

    /// Who runs the atexit handler, and is heard.
    fn say_who_exits(&mut self, failed: Option<Side>) {
        let config = self.config;
        let in_both = config.entry.returns_in_both();
        let is_foreground = self.is_foreground();
        let is_guarded = config.guard_pid_file;
        match failed {
            None if is_guarded => self.said.push("daemon Guarded(true)".to_owned()),
            Some(Side::Returned) if is_guarded => {
                let is_told_off = matches!(
                    config
                        .deferred_readiness
                        .as_ref()
                        .map(|deferral| &deferral.usage),
                    Some(ReadinessUse::Fail(_))
                );
                if !is_told_off {
                    self.said.push("daemon Guarded(false)".to_owned());
                }
            }
            _ => {}
        }
        if !config.initial.at_exit_handler {
            return;
        }
        if !is_foreground && (in_both || failed.is_some()) {
            self.said.push("launcher AtExit".to_owned());
        }
        let exits = match failed {
            // Else it ends after the harness.
            None => is_guarded,
            Some(Side::Launcher) => is_foreground,
            Some(Side::Daemon) => is_foreground || in_both,
            Some(Side::Gone | Side::Returned) => !self.ends_at_once,
        };
        if exits {
            self.said.push("daemon AtExit".to_owned());
        }
    }

    /// By the daemon, through the path that it had when the start began.
    fn may_remove_pid_file(&self) -> bool {
        let (Some(file), Some(folder)) = (&self.pid_file, &self.world.pid_file_folder) else {
            return false;
        };
        self.process.root == self.before.root && self.may_remove(file.uid, folder)
    }
}

impl Someone {
    /// What setresuid(2) does, and to capabilities(7) on Linux.
    fn become_user(&mut self, uid: u32, secure_bits: u64) {
        let was_root = |ids: IdTriple| ids.real == 0 || ids.effective == 0 || ids.saved == Some(0);
        if let Some(sets) = self
            .capabilities
            .as_mut()
            .filter(|_| secure_bits & sys::NO_SETUID_FIXUP == 0)
        {
            if was_root(self.uid) && uid != 0 {
                (sets.effective, sets.ambient) = (0, 0);
                if secure_bits & sys::KEEP_CAPS == 0 {
                    sets.permitted = 0;
                }
            } else if self.uid.effective != 0 && uid == 0 {
                sets.effective = sets.permitted;
            }
        }
        self.uid = all(self.uid, uid);
    }
}

fn all(before: IdTriple, id: u32) -> IdTriple {
    IdTriple {
        real: id,
        effective: id,
        saved: before.saved.map(|_| id),
    }
}

fn place(file: &Metadata) -> Place {
    Place {
        device: file.dev(),
        inode: file.ino(),
        path: None,
    }
}

/// Whether the C library keeps a signal for itself.
fn is_reserved(signal: i32) -> bool {
    #[cfg(target_os = "linux")]
    return (32..libc::SIGRTMIN()).contains(&signal);
    #[cfg(not(target_os = "linux"))]
    {
        let _ = signal;
        false
    }
}

/// The number that means 'unchanged' to the kernel.
fn refused_id(kind: &'static str, identity: &Identity) -> Failure {
    let failure = Failure::new(kind, libc::EINVAL).about(identity);
    failure.because("this id means 'unchanged' to the kernel")
}

fn text_of(error: &ErrorText) -> String {
    match error {
        ErrorText::Text(text) | ErrorText::PanicsAfter(text) => text.clone(),
        ErrorText::Chain(texts) => texts.join(": "),
    }
}

/// One thing that is not as it must be.
#[derive(Debug)]
pub struct Mismatch {
    /// What.
    pub field: String,
    /// What it must be.
    pub predicted: String,
    /// What it is.
    pub observed: String,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            field,
            predicted,
            observed,
        } = self;
        write!(
            f,
            "{field}\n    predicted {predicted}\n    observed  {observed}"
        )
    }
}

/// Collects what is not as it must be.
#[derive(Default)]
struct Judge(Vec<Mismatch>);

impl Judge {
    fn compare<T: PartialEq + Debug>(&mut self, field: impl Into<String>, must: T, is: T) {
        if must != is {
            self.0.push(Mismatch {
                field: field.into(),
                predicted: format!("{must:?}"),
                observed: format!("{is:?}"),
            });
        }
    }

    /// What the platform cannot tell is passed over. Linux can tell all.
    fn compare_told<T: PartialEq + Debug>(
        &mut self,
        field: impl Into<String>,
        must: &Option<T>,
        is: &Option<T>,
    ) {
        if cfg!(target_os = "linux") || must.is_some() && is.is_some() {
            self.compare(field, must, is);
        }
    }
}

/// Compares what came with what must come.
pub fn mismatches(
    config: &Config,
    before: &Report,
    prediction: &Prediction,
    outcome: &Outcome,
) -> Vec<Mismatch> {
    let mut judge = Judge::default();
    judge.compare("trouble", None, outcome.trouble.as_deref());
    judge_launcher(&mut judge, config, prediction, outcome);
    judge_messages(&mut judge, config, prediction, outcome);
    judge_reports(&mut judge, before, prediction, outcome);
    judge_pid_file(&mut judge, prediction, outcome);
    judge_files(&mut judge, prediction, outcome);
    let pid = outcome.daemon().unwrap_or_default().to_string();
    let notified = prediction
        .notified
        .iter()
        .map(|line| match line.strip_suffix('=') {
            Some(_) => format!("{line}{pid}"),
            None => (*line).to_owned(),
        });
    let notified: Vec<_> = notified.collect();
    judge.compare(
        "the service manager is told",
        &notified,
        &outcome.notifications,
    );
    judge.0
}

fn judge_launcher(judge: &mut Judge, config: &Config, prediction: &Prediction, outcome: &Outcome) {
    let is_dropped = prediction.is_foreground && matches!(config.life, Life::Exit(_));
    let status = match prediction.failure {
        Some(_) if !is_dropped => EXIT_START_FAILED.into(),
        _ => 0,
    };
    judge.compare("launcher: exit status", Some(status), outcome.status.code());
    judge.compare("launcher: signal", None, outcome.status.signal());
    // A daemon that has failed under `execute` is its caller's to end.
    let is_callers =
        config.entry.returns_in_both() && matches!(prediction.failure, Some((_, Side::Daemon)));
    if !prediction.is_foreground && !is_callers {
        let is_alone = prediction.failure.is_some();
        judge.compare(
            "nobody of the start lives when the launcher has ended",
            is_alone,
            outcome.nobody_left,
        );
    }
    judge.compare(
        "the intermediate is left",
        outcome.intermediate_left.map(|_| false),
        outcome.intermediate_left,
    );
    judge.compare(
        "seen from outside: differences",
        outcome.differences.as_ref().map(|_| Vec::new()),
        outcome.differences.clone(),
    );
    let texts = [&outcome.stdout, &outcome.stderr];
    for ((stream, text), file) in ["output", "error"]
        .into_iter()
        .zip(texts)
        .zip(&outcome.output_files)
    {
        let field = format!("launcher: standard {stream}");
        judge_text(judge, field, prediction, (file.device, file.inode), text);
    }
}

/// What was written to a file, by whoever it was.
fn judge_text(
    judge: &mut Judge,
    field: String,
    prediction: &Prediction,
    identity: (u64, u64),
    text: &str,
) {
    let must: Vec<_> = (prediction.writes.iter())
        .filter(|(to, _)| (to.device, to.inode) == identity && to.access != AccessMode::Read)
        .map(|(_, written)| written)
        .collect();
    let mut left = must
        .iter()
        .try_fold(text, |text, written| written.strip_from(text));
    if left != Some("") {
        left.get_or_insert(text);
        judge.0.push(Mismatch {
            field,
            predicted: format!("{must:?}"),
            observed: format!("{text:?}"),
        });
    }
}

/// Who says what: everybody what must be said, and nothing else.
fn judge_messages(judge: &mut Judge, config: &Config, prediction: &Prediction, outcome: &Outcome) {
    let (failure, side) = match &prediction.failure {
        Some((failure, side)) => (Some(failure), Some(*side)),
        None => (None, None),
    };
    let in_both = config.entry.returns_in_both();
    let is_foreground = prediction.is_foreground;
    let launcher_fails = match side {
        Some(Side::Gone | Side::Returned) => !is_foreground,
        Some(Side::Launcher | Side::Daemon) => !is_foreground || !in_both,
        None => false,
    };
    let daemon_fails = in_both
        && match side {
            Some(Side::Launcher) => is_foreground,
            Some(Side::Daemon) => true,
            Some(Side::Gone | Side::Returned) | None => false,
        };
    let usage = config
        .deferred_readiness
        .as_ref()
        .map(|deferral| &deferral.usage);
    let returns = matches!(side, Some(Side::Returned) | None);
    let ends = matches!(usage, Some(ReadinessUse::Fail(_)));
    let daemon = outcome.daemon();

    for (_, error) in outcome.failures_of(|message| match message {
        Message::LauncherFailed(error) | Message::DaemonFailed(error) => Some(error),
        _ => None,
    }) {
        if let Some(failure) = failure {
            judge_error(judge, failure, error);
        }
    }
    let mut said = Vec::new();
    for frame in &outcome.frames {
        let who = match frame.sender {
            sender if sender == outcome.launcher && !is_foreground => "launcher",
            sender if daemon.is_none_or(|daemon| sender == daemon) => "daemon",
            _ => "copy",
        };
        said.push(match &frame.message {
            Message::Initial(_) => continue,
            Message::Observed(_) | Message::Daemon(_) | Message::Now(_) => continue,
            Message::Afterwards(_) | Message::Unreaped(_) => continue,
            Message::LauncherFailed(error) => format!("{who} failed: {}", error.kind_name()),
            Message::DaemonFailed(error) => format!("{who} fails: {}", error.kind_name()),
            Message::LauncherReturned(result) => {
                let status = result.first_child_exit_status;
                let pid = (Some(result.daemon_pid) != daemon).then_some(result.daemon_pid);
                format!("{who} returned: {status} {pid:?}")
            }
            Message::Acknowledged => format!("{who} acknowledged"),
            Message::NotAcknowledged(error) => format!("{who} not acknowledged: {}", error.text),
            Message::Copied(_) => format!("{who} copied itself"),
            Message::Result(parts) => format!("{who} result: {parts:?}"),
            other => format!("{who} {other:?}"),
        });
    }
    let mut must = prediction.said.clone();
    if let Some(failure) = failure {
        // In the foreground the launcher is the daemon.
        let who = if is_foreground { "daemon" } else { "launcher" };
        if launcher_fails {
            must.push(format!("{who} failed: {}", failure.kind));
        }
        if daemon_fails {
            must.push(format!("daemon fails: {}", failure.kind));
        }
    } else {
        if in_both && !is_foreground {
            must.push("launcher returned: 0 None".to_owned());
        }
        if usage == Some(&ReadinessUse::Ready) {
            must.push("daemon acknowledged".to_owned());
        }
    }
    if returns && !ends && !prediction.parts.is_empty() {
        must.push(format!("daemon result: {:?}", prediction.parts));
    }
    said.sort();
    must.sort();
    judge.compare("messages", must, said);
}

fn judge_error(judge: &mut Judge, must: &Failure, is: &StartError) {
    judge.compare("error: kind", must.kind, is.kind_name());
    judge.compare("error: errno", must.errno, is.errno);
    judge.compare("error: path", must.path.as_ref(), is.path.as_ref());
    // Elsewhere not every process can be verified.
    if cfg!(target_os = "linux") {
        judge.compare("error: running pid", must.running_pid, is.running_pid);
    }
    judge.compare(
        "error: daemon's exit status",
        must.status,
        is.daemon_exit_status,
    );
    judge.compare("error: text", must.text().as_str(), &is.text);
}

fn judge_reports(judge: &mut Judge, before: &Report, prediction: &Prediction, outcome: &Outcome) {
    let mut observed = Vec::new();
    let mut afterwards = Vec::new();
    let mut unreaped = Vec::new();
    for frame in &outcome.frames {
        match &frame.message {
            Message::Observed(report) | Message::Daemon(report) | Message::Now(report) => {
                observed.push((frame.sender, report));
            }
            Message::Afterwards(report) => afterwards.push((frame.sender, report)),
            Message::Unreaped(child) => unreaped.push(*child),
            _ => {}
        }
    }
    // The launcher's comes first, or last.
    afterwards.sort_by_key(|&(sender, _)| sender != outcome.launcher);
    let reports = &prediction.reports;
    judge.compare("reports", reports.len(), observed.len());
    judge.compare(
        "reports afterwards",
        prediction.afterwards.len(),
        afterwards.len(),
    );
    let intermediate = intermediate(prediction, &observed, &afterwards);
    // A closure's children are the caller's to reap, and so is a daemon in which the
    // library has returned.
    let has_returned = |child| {
        let mut frames = outcome.frames.iter().filter(|frame| frame.sender == child);
        frames.any(|frame| matches!(frame.message, Message::Daemon(_) | Message::DaemonFailed(_)))
    };
    unreaped.retain(|&child| {
        let is_ours = [outcome.daemon(), intermediate].contains(&Some(child));
        is_ours && !has_returned(child)
    });
    judge.compare("unreaped", [0; 0].as_slice(), unreaped.as_slice());
    let all = reports.iter().zip(observed);
    let all = all.chain(prediction.afterwards.iter().zip(afterwards));
    for (must, (sender, is)) in all {
        let moment = must.moment;
        let mut expected = must.report.clone();
        let is_launcher = must.is_of_launcher();
        expected.pid = match is_launcher {
            true => before.pid,
            false => outcome.daemon().unwrap_or(sender),
        };
        if !is_launcher {
            let session = intermediate.unwrap_or_default();
            (expected.pgid, expected.sid) = (session, Some(session));
            for (field, other) in [
                ("the launcher", before.pid),
                ("the session's leader", session),
            ] {
                judge.compare(format!("{moment}: is {field}"), false, is.pid == other);
            }
            judge.compare(
                format!("{moment}: is in the launcher's session"),
                false,
                Some(session) == before.sid,
            );
        }
        let session = expected.pgid;
        let mut parents = must.parents.iter().map(|parent| match parent {
            Parent::Unchanged => before.ppid,
            Parent::Intermediate => session,
            Parent::Launcher => before.pid,
            Parent::Reaper => outcome.reaper,
        });
        expected.ppid = match parents.clone().any(|parent| parent == is.ppid) {
            true => is.ppid,
            false => parents.next().unwrap_or_default(),
        };
        number_opened(&mut expected, must, is, outcome);
        judge.compare(format!("{moment}: sender"), is.pid, sender);
        judge_report(judge, moment, &expected, is);
    }
}

/// The intermediate's process id: the daemon's parent, as long as it is that;
/// else it is only known as that of the session.
fn intermediate(
    prediction: &Prediction,
    observed: &[(u32, &Report)],
    afterwards: &[(u32, &Report)],
) -> Option<u32> {
    let parents = prediction.reports.iter().zip(observed);
    let parent = parents
        .filter(|(must, _)| must.parents == [Parent::Intermediate])
        .map(|(_, (_, is))| is.ppid);
    let daemons = prediction.reports.iter().zip(observed);
    let daemons = daemons.chain(prediction.afterwards.iter().zip(afterwards));
    let group = daemons
        .filter(|(must, _)| !must.is_of_launcher())
        .map(|(_, (_, is))| is.pgid);
    parent.chain(group).next()
}

/// Gives what the library has opened the numbers that it has.
fn number_opened(expected: &mut Report, must: &Foreseen, is: &Report, outcome: &Outcome) {
    let (Some(known), Some(found)) = (&mut expected.descriptors, &is.descriptors) else {
        return;
    };
    for opened in &must.opened {
        let further = found.iter().filter(|found| found.number > 2).find(|found| {
            let is_known = known.iter().any(|known| known.number == found.number);
            let is_file = found.file_type == FileType::Regular;
            let is_writable = found.access == AccessMode::ReadWrite;
            !is_known
                && is_file == (*opened != Opened::Channel)
                && is_writable == (*opened != Opened::PidFile)
        });
        let number = further.map_or(-1, |further| further.number);
        let template = Descriptor {
            number,
            device: 0,
            inode: 0,
            file_type: FileType::Socket,
            special_device: 0,
            access: AccessMode::ReadWrite,
            close_on_exec: true,
            nonblocking: false,
            append: false,
            locked: cfg!(target_os = "linux").then_some(false),
            target: None,
        };
        let descriptor = match opened {
            // A socket cannot be known by more.
            Opened::Channel => Descriptor {
                device: further.map_or(0, |further| further.device),
                inode: further.map_or(0, |further| further.inode),
                ..template
            },
            Opened::PidFile | Opened::WritablePidFile => {
                let has_lock = *opened == Opened::PidFile;
                let file = outcome.pid_file_place.as_ref();
                let further = further.map(|further| (further.device, further.inode));
                let file = file.map(|file| (file.device, file.inode));
                let (device, inode) = file.or(further).unwrap_or_default();
                Descriptor {
                    device,
                    inode,
                    file_type: FileType::Regular,
                    access: match has_lock {
                        true => AccessMode::Read,
                        false => AccessMode::ReadWrite,
                    },
                    nonblocking: true,
                    locked: cfg!(target_os = "linux").then_some(has_lock),
                    ..template
                }
            }
        };
        known.push(descriptor);
    }
    known.sort_by_key(|descriptor| descriptor.number);
}

fn judge_report(judge: &mut Judge, moment: &str, must: &Report, is: &Report) {
    macro_rules! compare_all {
        ($($field:ident),* $(,)?) => {{
            // Taken apart, so that a field cannot be forgotten here.
            let Report {
                pid,
                ppid,
                pgid,
                descriptors,
                groups: _,
                ignored_signals: _,
                caught_signals: _,
                $($field),*
            } = must;
            judge.compare(format!("{moment}: pid"), pid, &is.pid);
            judge.compare(format!("{moment}: ppid"), ppid, &is.ppid);
            judge.compare(format!("{moment}: pgid"), pgid, &is.pgid);
            $(judge.compare_told(format!("{moment}: {}", stringify!($field)), $field, &is.$field);)*
            judge_descriptors(judge, moment, descriptors, &is.descriptors);
        }};
    }
    // What becomes of its own signals is the C library's business.
    let apparent = |signals: Option<SignalSet>| {
        let none = SignalSet::default();
        let signals = signals?.iter().filter(|&signal| !is_reserved(signal));
        Some(signals.fold(none, SignalSet::with))
    };
    for (field, must, is) in [
        ("ignored_signals", must.ignored_signals, is.ignored_signals),
        ("caught_signals", must.caught_signals, is.caught_signals),
    ] {
        judge.compare_told(format!("{moment}: {field}"), &apparent(must), &apparent(is));
    }
    // There, the effective gid is one of the groups.
    let with_gid = |report: &Report| {
        let mut groups = report.groups.clone()?;
        if sys::EFFECTIVE_GID_IS_LISTED {
            groups.extend(report.gid.map(|gid| gid.effective));
            groups.sort_unstable();
            groups.dedup();
        }
        Some(groups)
    };
    judge.compare_told(format!("{moment}: groups"), &with_gid(must), &with_gid(is));
    compare_all!(
        sid,
        terminal,
        umask,
        uid,
        gid,
        capabilities,
        working_directory,
        root,
        blocked_signals,
        no_new_privileges,
        threads,
    );
}

/// One by one, so that a person sees which.
fn judge_descriptors(
    judge: &mut Judge,
    moment: &str,
    must: &Option<Vec<Descriptor>>,
    is: &Option<Vec<Descriptor>>,
) {
    let (Some(must), Some(is)) = (must, is) else {
        let field = format!("{moment}: descriptors are seen");
        judge.compare_told(field, &must.as_ref().map(|_| ()), &is.as_ref().map(|_| ()));
        return;
    };
    let mut numbers: Vec<i32> = [must, is]
        .into_iter()
        .flatten()
        .map(|descriptor| descriptor.number)
        .collect();
    numbers.sort_unstable();
    numbers.dedup();
    for number in numbers {
        let with_number = |descriptors: &[Descriptor]| {
            let mut descriptors = descriptors.iter();
            descriptors
                .find(|descriptor| descriptor.number == number)
                .cloned()
        };
        let field = format!("{moment}: descriptor {number}");
        judge.compare(field, with_number(must), with_number(is));
    }
}

fn judge_pid_file(judge: &mut Judge, prediction: &Prediction, outcome: &Outcome) {
    let must = prediction.pid_file.as_ref();
    let place = must.and_then(|must| must.place.clone());
    let is_hidden = prediction.is_pid_file_hidden;
    let (moment, is) = ("pid file", &outcome.pid_file);
    judge_pid_file_at(judge, moment, is_hidden, must, outcome, is);
    // A daemon that has ended leaves it, unless it had a guard, and no lock.
    let must = must.filter(|_| !prediction.is_pid_file_removed);
    let at_end = must.map(|must| PidFileForeseen {
        locked: prediction.is_pid_file_held && !prediction.is_pid_file_opened,
        place: place.or(outcome.pid_file_place.clone()),
        ..must.clone()
    });
    let (moment, is) = ("pid file at the end", &outcome.pid_file_at_end);
    let is_hidden = is_hidden && !prediction.is_pid_file_removed;
    judge_pid_file_at(judge, moment, is_hidden, at_end.as_ref(), outcome, is);
}

fn judge_pid_file_at(
    judge: &mut Judge,
    moment: &str,
    is_hidden: bool,
    must: Option<&PidFileForeseen>,
    outcome: &Outcome,
    is: &Option<Option<PidFile>>,
) {
    judge.compare(
        format!("{moment}: may not be looked at"),
        is_hidden,
        is.is_none(),
    );
    let (false, Some(is)) = (is_hidden, is) else {
        return;
    };
    let is = is.as_ref();
    judge.compare(format!("{moment}: is there"), must.is_some(), is.is_some());
    let (Some(must), Some(is)) = (must, is) else {
        return;
    };
    let bytes = match must.is_pid {
        // Without a daemon, the launcher has written its own in the foreground.
        true => format!("{}\n", outcome.daemon().unwrap_or(outcome.launcher)).into_bytes(),
        false => must.bytes.clone(),
    };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    judge.compare(format!("{moment}: content"), text(&bytes), text(&is.bytes));
    judge.compare(
        format!("{moment}: mode"),
        format!("{:04o}", must.mode),
        format!("{:04o}", is.mode),
    );
    judge.compare(format!("{moment}: owner"), must.uid, is.uid);
    judge.compare(format!("{moment}: group"), must.gid, is.gid);
    judge.compare(format!("{moment}: locked"), must.locked, is.locked);
    // Of a new one it is not known beforehand.
    if let Some(place) = &must.place {
        judge.compare(format!("{moment}: identity"), place, &is.place);
    }
}

/// Nothing else in the case's folder changes than what is written to.
fn judge_files(judge: &mut Judge, prediction: &Prediction, outcome: &Outcome) {
    let pid_file = (outcome.pid_file_path.as_ref())
        .filter(|_| prediction.is_pid_file_opened)
        .and_then(|path| Files::name_of(path));
    let (before, after) = (&prediction.files.0, &outcome.files.0);
    let mut paths: Vec<_> = before.keys().chain(after.keys()).collect();
    paths.sort_unstable();
    paths.dedup();
    for path in paths {
        if Some(path) == pid_file.as_ref() {
            continue;
        }
        let (mut must, mut is) = (before.get(path).cloned(), after.get(path).cloned());
        let identity = must.as_ref().map(|file| file.identity);
        let is_written =
            (prediction.writes.iter()).any(|(to, _)| Some((to.device, to.inode)) == identity);
        if let (true, Some(must), Some(is)) = (is_written, &mut must, &mut is) {
            let content = is.content.take().unwrap_or_default();
            let text = String::from_utf8_lossy(&content);
            let field = format!("file {}: content", path.display());
            judge_text(judge, field, prediction, must.identity, &text);
            must.content = None;
        }
        judge.compare(format!("file {}", path.display()), must, is);
    }
}
