//! The reports of the tester: the state of a process, and the error of a start.

use std::collections::BTreeMap;
use std::fmt;
use std::os::unix::process::ExitStatusExt;

use rkyv::{Archive, Deserialize, Serialize};

use crate::config::Bytes;
use crate::sys;

/// The state of a process.
///
/// `None` means that this platform, or this point of view, cannot tell; it never means 'no'.
/// docs/verification.md has a table of what each platform shows others.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq, Default)]
pub struct Report {
    pub pid: u32,
    pub ppid: u32,
    pub pgid: u32,
    pub sid: Option<u32>,
    /// The controlling terminal.
    pub terminal: Option<Terminal>,
    /// The file mode creation mask. macOS does not show it to others.
    pub umask: Option<u32>,
    pub uid: Option<IdTriple>,
    pub gid: Option<IdTriple>,
    /// Supplementary groups, sorted. On macOS, and on FreeBSD except to programs for version 15,
    /// getgroups(2) counts the effective gid among them: see [`Report::groups_with_gid`].
    pub groups: Option<Vec<u32>>,
    /// Capabilities, on Linux.
    pub capabilities: Option<Capabilities>,
    pub working_directory: Option<Place>,
    pub root: Option<Place>,
    /// Every open descriptor, in order, except those that the tester needs
    /// to report ([`crate::control::RESERVED`]).
    pub descriptors: Option<Vec<Descriptor>>,
    /// The signal mask of the first thread, or of the thread that reports. macOS does not show it
    /// to others.
    pub blocked_signals: Option<SignalSet>,
    /// The ignored signals. To others, FreeBSD and macOS show further ones: see
    /// [`crate::observe::ignored_signals`].
    pub ignored_signals: Option<SignalSet>,
    /// The signals that have a handler. To others, FreeBSD shows one of the C library: see
    /// [`crate::observe::caught_signals`].
    pub caught_signals: Option<SignalSet>,
    /// Whether exec can no longer grant privileges, on Linux, and on FreeBSD since version 14.
    pub no_new_privileges: Option<bool>,
    pub threads: Option<u32>,
    /// The owner of the files in /proc/PID: the effective user, or root if the process is not
    /// dumpable. On Linux.
    pub files_owner: Option<u32>,
    /// The environment variables, by name. Only the process itself can report them: the kernel
    /// shows others the environment that the program began with.
    pub environment: Option<Environment>,
}

impl Report {
    pub fn descriptor(&self, number: i32) -> Option<&Descriptor> {
        self.descriptors
            .as_deref()?
            .iter()
            .find(|descriptor| descriptor.number == number)
    }

    /// The supplementary groups and, where the system counts it among them, the effective gid,
    /// sorted and without duplicates.
    pub fn groups_with_gid(&self) -> Option<Vec<u32>> {
        let mut groups = self.groups.clone()?;
        if sys::EFFECTIVE_GID_IS_LISTED {
            groups.extend(self.gid.map(|gid| gid.effective));
            groups.sort_unstable();
            groups.dedup();
        }
        Some(groups)
    }

    /// The value of an environment variable that an option of the library changes.
    ///
    /// # Panics
    ///
    /// When the environment was not observed, or the value is not text.
    pub fn variable(&self, name: &str) -> Option<&str> {
        assert!(CHANGEABLE.contains(&name), "{name} is not reported");
        let environment = self.environment.as_ref().expect("it is observed inside");
        let value = environment.changeable.get(&Bytes::from(name))?;
        Some(std::str::from_utf8(&value.0).expect("the value is text"))
    }

    /// The numbers of all open descriptors.
    ///
    /// # Panics
    ///
    /// When they were not observed.
    pub fn descriptor_numbers(&self) -> Vec<i32> {
        self.descriptors
            .as_deref()
            .expect("descriptors are observed here")
            .iter()
            .map(|descriptor| descriptor.number)
            .collect()
    }

    /// Asserts that every set of capabilities is empty, except the bounding one, which grants
    /// nothing. Holds where there are no capabilities.
    ///
    /// # Panics
    ///
    /// When a set is not empty, or was not observed.
    #[track_caller]
    pub fn assert_no_capabilities(&self) {
        if !cfg!(target_os = "linux") {
            return;
        }
        let Capabilities {
            inheritable,
            permitted,
            effective,
            ambient,
            bounding: _,
        } = self.capabilities.expect("capabilities are observed here");
        assert_eq!([inheritable, permitted, effective, ambient], [0; 4]);
    }

    /// Asserts that the daemon has no terminal, and does not lead its session, so that it can never
    /// acquire one.
    ///
    /// # Panics
    ///
    /// When the assertion does not hold.
    #[track_caller]
    pub fn assert_detached(&self) {
        assert_ne!(Some(self.pid), self.sid, "the daemon leads its session");
        assert_ne!(self.pid, self.pgid, "the daemon leads its process group");
        assert_eq!(
            Some(self.pgid),
            self.sid,
            "the daemon's process group is not that of its session's leader"
        );
        assert_eq!(self.terminal, Some(Terminal::None), "controlling terminal");
    }
}

/// Environment variables. A report has to fit into one packet, which a signal handler of the process
/// cannot interrupt. It therefore has few values.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq, Default)]
pub struct Environment {
    /// The variables that an option of the library changes.
    pub changeable: BTreeMap<Bytes, Bytes>,
    /// A hash of all other variables.
    pub others: u64,
}

/// The names of [`Environment::changeable`].
pub(crate) const CHANGEABLE: [&str; 12] = [
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "PATH",
    "LISTEN_PID",
    "LISTEN_PIDFDID",
    "LISTEN_FDS",
    "LISTEN_FDNAMES",
    "NOTIFY_SOCKET",
    "WATCHDOG_PID",
    "WATCHDOG_USEC",
];

#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Terminal {
    None,
    Device(u64),
}

#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdTriple {
    pub real: u32,
    pub effective: u32,
    /// Saved id. A process on macOS does not see its own.
    pub saved: Option<u32>,
}

impl PartialEq<u32> for IdTriple {
    /// Whether all ids are `id`. An id that was not observed counts as equal.
    fn eq(&self, id: &u32) -> bool {
        self.real == *id && self.effective == *id && self.saved.is_none_or(|saved| saved == *id)
    }
}

/// The five capability sets of a thread, as bit masks.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// The capabilities that exec may pass on.
    pub inheritable: u64,
    /// The capabilities that can be made effective.
    pub permitted: u64,
    /// The capabilities that the kernel checks.
    pub effective: u64,
    /// The capabilities that exec can ever grant.
    pub bounding: u64,
    /// The capabilities that exec keeps for ordinary programs.
    pub ambient: u64,
}

/// A file, identified by device and inode.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, Eq)]
pub struct Place {
    pub device: u64,
    pub inode: u64,
    /// The path, as the observer sees it. Not compared.
    pub path: Option<Bytes>,
}

impl PartialEq for Place {
    fn eq(&self, other: &Self) -> bool {
        (self.device, self.inode) == (other.device, other.inode)
    }
}

impl Place {
    /// The file at `path`.
    ///
    /// # Errors
    ///
    /// When the file cannot be examined.
    pub fn of(path: &std::path::Path) -> std::io::Result<Self> {
        use std::os::unix::fs::MetadataExt;
        let metadata = std::fs::metadata(path)?;
        Ok(Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            path: Some(Bytes::from(path)),
        })
    }
}

#[derive(Archive, Serialize, Deserialize, Clone, Debug, Eq)]
pub struct Descriptor {
    pub number: i32,
    /// The device of the file that it refers to. Some platforms do not show another process the
    /// device of a pipe or a socket.
    pub device: Option<u64>,
    /// The inode of that file, with the same exception.
    pub inode: Option<u64>,
    pub file_type: FileType,
    /// The device that a device file represents, and 0 for other files.
    pub special_device: u64,
    pub access: AccessMode,
    /// Whether exec closes it. FreeBSD does not show it to others.
    pub close_on_exec: Option<bool>,
    /// Whether operations on it return instead of waiting.
    pub nonblocking: bool,
    /// Whether writes go to the end.
    pub append: bool,
    /// Whether the open file has a flock(2) lock. FreeBSD shows another process whether a lock was
    /// requested since the last unlock; macOS does not show the lock to any process.
    pub locked: Option<bool>,
    /// The file, as text of the platform. Not compared, since it depends on the root of the
    /// observer.
    pub target: Option<Bytes>,
}

impl PartialEq for Descriptor {
    fn eq(&self, other: &Self) -> bool {
        fn compared(descriptor: &Descriptor) -> impl PartialEq {
            let Descriptor {
                number,
                device,
                inode,
                file_type,
                special_device,
                access,
                close_on_exec,
                nonblocking,
                append,
                locked,
                target: _,
            } = descriptor;
            let file = (device, inode, file_type, special_device);
            let flags = (access, close_on_exec, nonblocking, append);
            (number, file, flags, locked)
        }
        compared(self) == compared(other)
    }
}

impl Descriptor {
    /// Whether this is the null device, whatever path led to it.
    pub fn is_null_device(&self) -> bool {
        use std::os::unix::fs::MetadataExt;
        self.file_type == FileType::CharacterDevice
            && std::fs::metadata("/dev/null").is_ok_and(|null| null.rdev() == self.special_device)
    }

    /// Whether this refers to the file at `path`, by device and inode.
    pub fn is_file(&self, path: &std::path::Path) -> bool {
        Place::of(path).is_ok_and(|place| self.is_at(&place))
    }

    /// Whether this refers to the file at `place`.
    pub fn is_at(&self, place: &Place) -> bool {
        (self.device, self.inode) == (Some(place.device), Some(place.inode))
    }
}

#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileType {
    Regular,
    Directory,
    CharacterDevice,
    BlockDevice,
    Pipe,
    Socket,
    SymbolicLink,
    /// A file without a POSIX type, such as an epoll instance.
    Other,
}

#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessMode {
    Read,
    Write,
    ReadWrite,
    /// Neither: the descriptor only names a file.
    PathOnly,
}

#[derive(Archive, Serialize, Deserialize, Clone, Copy, PartialEq, Eq, Default)]
pub struct SignalSet(pub u128);

impl SignalSet {
    /// Whether the set contains `signal`.
    pub fn contains(self, signal: i32) -> bool {
        (1..=128).contains(&signal) && self.0 & (1 << (signal - 1)) != 0
    }

    /// The set with `signal` added.
    #[must_use]
    pub fn with(self, signal: i32) -> Self {
        assert!((1..=128).contains(&signal), "no signal: {signal}");
        Self(self.0 | 1 << (signal - 1))
    }

    /// The set with `signal` removed.
    #[must_use]
    pub fn without(self, signal: i32) -> Self {
        let others = self.iter().filter(|&member| member != signal);
        others.fold(Self::default(), Self::with)
    }

    /// Whether the set is empty.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub fn iter(self) -> impl Iterator<Item = i32> {
        (1..=128).filter(move |&signal| self.contains(signal))
    }
}

impl fmt::Debug for SignalSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

/// A `daemonize2::Error`.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct StartError {
    /// The kind, as its `Debug` text, such as `OpenPidfile(2)`.
    pub kind: String,
    pub errno: Option<i32>,
    pub path: Option<Bytes>,
    pub running_pid: Option<u32>,
    /// `daemon_exit_status`, as the raw status of wait(2).
    pub daemon_exit_status: Option<i32>,
    pub payload: Bytes,
    pub text: String,
}

impl StartError {
    /// The kind without its errno, such as `OpenPidfile`.
    pub fn kind_name(&self) -> &str {
        self.kind.split('(').next().unwrap_or_default()
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} [{}]", self.text, self.kind)
    }
}

/// The result of `execute` in the launcher on success.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct LauncherResult {
    pub daemon_pid: u32,
    /// `first_child_exit_status`, as the raw status of wait(2).
    pub first_child_exit_status: i32,
    pub payload: Bytes,
}

impl From<&daemonize2::Parent> for LauncherResult {
    fn from(parent: &daemonize2::Parent) -> Self {
        Self {
            daemon_pid: parent.daemon_pid,
            first_child_exit_status: parent.first_child_exit_status.into_raw(),
            payload: Bytes(parent.payload.clone()),
        }
    }
}

/// The attempts of a daemon to regain a former identity.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq, Default)]
pub struct Regained {
    /// The calls that succeeded, though they should fail.
    pub succeeded: Vec<String>,
    /// The calls that failed, with their errno.
    pub failed: Vec<(String, i32)>,
}

/// A pid file, as a daemon that has it open sees it.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct LockedFile {
    pub place: Place,
    pub bytes: Vec<u8>,
    /// Whether its path leads to it.
    pub is_at_path: bool,
}

/// The process of a start to which a tracer sends a signal, or whose call a tracer makes fail.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The process that starts the daemon.
    Launcher,
    /// The child of the launcher.
    Intermediate,
    /// The child of the intermediate.
    Daemon,
}

impl Role {
    /// All processes of a start.
    pub const ALL: [Self; 3] = [Self::Launcher, Self::Intermediate, Self::Daemon];

    /// The process of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|victim| victim.to_string() == name)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Launcher => "launcher",
            Self::Intermediate => "intermediate",
            Self::Daemon => "daemon",
        })
    }
}

/// The process that got a signal, and its effect on the launcher.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub struct SignalHit {
    pub process: u32,
    /// The number of messages that the process had sent before, by sendmsg(2).
    pub sent: u64,
    /// The milliseconds until the launcher ended.
    pub launcher_ended_after: u64,
}

/// A system call of the library, as a tracer records it.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct SyscallRecord {
    /// The process that made the call.
    pub process: Role,
    /// The call, by name and arguments.
    pub call: String,
    /// Whether the tracer made it fail.
    pub failed: bool,
}

impl fmt::Display for SyscallRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let failed = if self.failed { " (failed)" } else { "" };
        write!(f, "{} {}{failed}", self.process, self.call)
    }
}
