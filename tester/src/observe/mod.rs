//! Observes a process: from inside, and from another process.
//!
//! # What each platform supplies
//!
//! * `EXISTS: bool`: whether the platform has an observer. Without one, no case can run.
//! * `prepare() -> io::Result<()>`: the tester calls it once before the start. It opens
//!   the files that the view from inside needs and a chroot would hide.
//! * `inside() -> io::Result<Report>`: the calling process, with every field that the
//!   platform has, whatever the process's root directory and ids are, without the
//!   descriptors of the tester ([`RESERVED`]).
//! * `outside(pid) -> io::Result<Report>`: another process, with every descriptor. A field
//!   that the observer cannot see is `None`. The observer derives no field from another.
//! * `UNSEEN: &[&str]`: the fields of a [`Report`], or of its [`Descriptor`]s, that `outside` never
//!   shows, since the kernel does not.
//! * `is_seen_outside(field) -> bool`: whether `outside` sees this field of every process
//!   of a case. If so, a field that is missing outside is a failure ([`differences`]): a
//!   lack of permission must not pass for agreement.
//! * `IGNORED_BY_DEFAULT: &[i32]`: the signals of which the kernel does not show others
//!   whether they are ignored or have their default disposition ([`ignored_signals`]).
//! * `RESERVED_SIGNALS: &[i32]`: the signals that the C library handles, and that
//!   `outside` shows and `inside` does not.
//! * `enroll(token) -> io::Result<()>`: the program that is started with
//!   `TESTER_CASE=token` in its environment calls it first. It does what `processes_of`
//!   needs besides the environment.
//! * `processes_of(token) -> io::Result<Vec<Process>>`: that process and all its
//!   descendants, whatever their ids, without zombies.
//! * `process(pid) -> io::Result<Option<Process>>`: one process, which may be a zombie.
//!
//! docs/verification.md has a table of the fields that each observer sees.

#[cfg(any(target_os = "netbsd", target_os = "openbsd"))]
mod kinfo;
#[cfg_attr(target_os = "linux", path = "linux.rs")]
#[cfg_attr(target_os = "freebsd", path = "freebsd.rs")]
#[cfg_attr(target_os = "macos", path = "macos.rs")]
#[cfg_attr(target_os = "netbsd", path = "netbsd.rs")]
#[cfg_attr(target_os = "openbsd", path = "openbsd.rs")]
#[cfg_attr(
    not(any(
        target_os = "linux",
        target_os = "freebsd",
        target_os = "macos",
        target_os = "netbsd",
        target_os = "openbsd"
    )),
    path = "other.rs"
)]
mod platform;
#[cfg(any(
    target_os = "freebsd",
    target_os = "macos",
    target_os = "netbsd",
    target_os = "openbsd"
))]
mod posix;
#[cfg(any(
    target_os = "freebsd",
    target_os = "macos",
    target_os = "netbsd",
    target_os = "openbsd"
))]
mod record;

pub use platform::outside as outside_of_any_case;
pub use platform::{EXISTS, UNSEEN, enroll, inside, prepare, process, processes_of};

use std::fmt::Debug;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io;
use std::os::unix::ffi::OsStringExt as _;

use platform::{IGNORED_BY_DEFAULT, RESERVED_SIGNALS, is_seen_outside};

use crate::config::Bytes;
use crate::control::RESERVED;
use crate::report::{CHANGEABLE, Descriptor, Environment, IdTriple, Report, SignalSet};

/// Another process of a case, without the descriptors that the tester needs to report.
///
/// # Errors
///
/// When there is no such process. A field that may not be read is `None`.
pub fn outside(pid: u32) -> io::Result<Report> {
    let mut report = platform::outside(pid)?;
    if let Some(descriptors) = &mut report.descriptors {
        descriptors.retain(|descriptor| !RESERVED.contains(&descriptor.number));
    }
    Ok(report)
}

/// The environment of this process.
#[cfg_attr(
    any(target_os = "dragonfly", target_os = "illumos", target_os = "android"),
    expect(dead_code, reason = "there is no observer")
)]
fn environment() -> Environment {
    let variables = std::env::vars_os();
    let variables = variables.map(|(name, value)| (name.into_vec(), value.into_vec()));
    // Their values differ from start to start. `PidFile::adopt` shows that they are right.
    let variables = variables.filter(|(name, _)| !name.starts_with(b"DAEMONIZE2_PID_FILE_"));
    let is_changeable =
        |(name, _): &(Vec<u8>, _)| CHANGEABLE.iter().any(|known| known.as_bytes() == name);
    let (changeable, mut others): (Vec<_>, Vec<_>) = variables.partition(is_changeable);
    others.sort();
    let mut hasher = DefaultHasher::new();
    others.hash(&mut hasher);
    let changeable = changeable.into_iter();
    Environment {
        changeable: changeable
            .map(|(name, value)| (Bytes(name), Bytes(value)))
            .collect(),
        others: hasher.finish(),
    }
}

/// A process, briefly.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    pub pid: u32,
    pub ppid: u32,
    pub pgid: u32,
    /// The state's letter, as ps(1) shows it: `Z` is a zombie, and `X` is a zombie that
    /// is being reaped.
    pub state: char,
    pub name: String,
}

impl Process {
    /// Whether the process has ended.
    pub fn is_zombie(&self) -> bool {
        matches!(self.state, 'Z' | 'X')
    }
}

/// A number that the processes of a case have as a resource limit, which distinguishes them from
/// all others.
///
/// fork(2) and execve(2) pass the limit on, no change of ids, dumpability or root directory removes
/// it, and every user may read it.
///
/// The number begins with a constant, by which `ci/test.sh` finds the remaining processes of any
/// case. Then follow the process and the number of the case, seven digits each.
#[cfg(any(target_os = "linux", target_os = "freebsd"))]
struct Mark(u64);

#[cfg(any(target_os = "linux", target_os = "freebsd"))]
impl Mark {
    fn of(token: &str) -> io::Result<Self> {
        const FIRST: u64 = 7_001;
        const ROOM: u64 = 10_000_000;
        let numbers = token.split_once('-').and_then(|(process, number)| {
            let (process, number): (u64, u64) = (process.parse().ok()?, number.parse().ok()?);
            (process < ROOM && number < ROOM).then_some((process, number))
        });
        match numbers {
            Some((process, number)) => Ok(Self((FIRST * ROOM + process) * ROOM + number)),
            None => Err(io::Error::other(format!("{token} is no token of a case"))),
        }
    }
}

/// `None` if the observer may not read the value.
fn unless_forbidden<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(None),
        Err(error) => Err(error),
    }
}

/// The ignored signals of a report, without those that a view from outside does not tell apart
/// from signals whose default is to have no effect.
pub fn ignored_signals(report: &Report) -> Option<SignalSet> {
    let ignored = report.ignored_signals?.iter();
    Some(of(
        ignored.filter(|signal| !IGNORED_BY_DEFAULT.contains(signal))
    ))
}

/// The caught signals of a report, without those that a view from inside does not show.
pub fn caught_signals(report: &Report) -> Option<SignalSet> {
    let caught = report.caught_signals?.iter();
    Some(of(
        caught.filter(|signal| !RESERVED_SIGNALS.contains(signal))
    ))
}

fn of(signals: impl Iterator<Item = i32>) -> SignalSet {
    signals.fold(SignalSet::default(), SignalSet::with)
}

/// The fields in which two views of one process differ. A field that a view does not see is left
/// out, unless the platform promises to see it outside.
pub fn differences(inside: &Report, outside: &Report) -> Vec<String> {
    // The pattern names every field, so that none can be forgotten.
    let Report {
        pid,
        ppid,
        pgid,
        sid,
        terminal,
        umask,
        uid,
        gid,
        groups: _,
        capabilities,
        working_directory,
        root,
        descriptors,
        blocked_signals,
        ignored_signals: _,
        caught_signals: _,
        no_new_privileges,
        threads,
        files_owner,
        // The kernel shows others the environment that the program began with.
        environment: _,
    } = inside;
    let mut found = Vec::new();
    compare(&mut found, "pid", &Some(pid), &Some(&outside.pid));
    compare(&mut found, "ppid", &Some(ppid), &Some(&outside.ppid));
    compare(&mut found, "pgid", &Some(pgid), &Some(&outside.pgid));
    macro_rules! compare_all {
        ($($field:ident),* $(,)?) => {
            $(compare(&mut found, stringify!($field), $field, &outside.$field);)*
        };
    }
    compare_all!(
        sid,
        terminal,
        umask,
        capabilities,
        working_directory,
        root,
        blocked_signals,
        no_new_privileges,
        threads,
        files_owner,
    );
    for (field, inside, outside) in [("uid", uid, &outside.uid), ("gid", gid, &outside.gid)] {
        let both = |ids: &Option<IdTriple>| ids.map(|ids| (ids.real, ids.effective));
        compare(&mut found, field, &both(inside), &both(outside));
        let saved = |ids: &Option<IdTriple>| ids.and_then(|ids| ids.saved);
        compare(&mut found, field, &saved(inside), &saved(outside));
    }
    let views = [inside, outside];
    let [one, other] = views.map(Report::groups_with_gid);
    compare(&mut found, "groups", &one, &other);
    let [one, other] = views.map(ignored_signals);
    compare(&mut found, "ignored_signals", &one, &other);
    let [one, other] = views.map(caught_signals);
    compare(&mut found, "caught_signals", &one, &other);
    compare_descriptors(&mut found, descriptors, &outside.descriptors);
    found
}

fn compare<T: PartialEq + Debug>(
    found: &mut Vec<String>,
    field: &str,
    inside: &Option<T>,
    outside: &Option<T>,
) {
    match (inside, outside) {
        (Some(one), Some(other)) if one != other => {
            found.push(format!("{field}: inside {one:?}, outside {other:?}"));
        }
        (Some(one), None) if is_seen_outside(field) => {
            found.push(format!("{field}: inside {one:?}, not seen outside"));
        }
        _ => {}
    }
}

/// Compares each descriptor on its own, in the fields that both views see.
fn compare_descriptors(
    found: &mut Vec<String>,
    inside: &Option<Vec<Descriptor>>,
    outside: &Option<Vec<Descriptor>>,
) {
    let (Some(inside), Some(outside)) = (inside, outside) else {
        let is_seen = |descriptors: &Option<Vec<Descriptor>>| descriptors.as_ref().map(|_| ());
        return compare(found, "descriptors", &is_seen(inside), &is_seen(outside));
    };
    let numbers = |view: &[Descriptor]| -> Vec<_> { view.iter().map(|one| one.number).collect() };
    let [ours, theirs] = [inside, outside].map(|view| Some(numbers(view)));
    compare(found, "descriptors", &ours, &theirs);
    for one in inside {
        let Some(other) = outside.iter().find(|other| other.number == one.number) else {
            continue;
        };
        let seen = Descriptor {
            device: other.device.and(one.device),
            inode: other.inode.and(one.inode),
            close_on_exec: other.close_on_exec.and(one.close_on_exec),
            locked: other.locked.and(one.locked),
            ..one.clone()
        };
        let shown = Descriptor {
            device: one.device.and(other.device),
            inode: one.inode.and(other.inode),
            close_on_exec: one.close_on_exec.and(other.close_on_exec),
            locked: one.locked.and(other.locked),
            ..other.clone()
        };
        compare(found, "descriptors", &Some(seen), &Some(shown));
    }
}
