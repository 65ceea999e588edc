//! Observes a process: from inside, and from another process.
//!
//! # What each platform supplies
//!
//! * `prepare() -> io::Result<()>`: the tester calls it once before the start. It opens
//!   the files that the view from inside needs and a chroot would hide.
//! * `inside() -> io::Result<Report>`: the calling process, with every field that the
//!   platform has, whatever the process's root directory and ids are.
//! * `outside(pid) -> io::Result<Report>`: another process. A field that the observer
//!   cannot see is `None`.
//! * `OUTSIDE_IS_COMPLETE: bool`: whether `outside` sees all that `inside` sees. If so,
//!   a field that is missing outside is a failure ([`differences`]): a lack of permission
//!   must not pass for agreement.
//! * `enroll(token) -> io::Result<()>`: the program that is started with
//!   `TESTER_CASE=token` in its environment calls it first. It does what `processes_of`
//!   needs besides the environment.
//! * `processes_of(token) -> io::Result<Vec<Process>>`: that process and all its
//!   descendants, whatever their ids, without zombies.
//! * `process(pid) -> io::Result<Option<Process>>`: one process, which may be a zombie.
//!
//! | | Linux | FreeBSD | macOS |
//! |---|---|---|---|
//! | source | /proc | system calls; ps(1) for others | system calls; ps(1) for others |
//! | mark of a case | a resource limit | the environment | the environment |
//! | capabilities, no_new_privs, owner of the files in /proc | yes | there are none | there are none |
//! | root directory, thread count | yes | no | no |
//! | saved ids | yes | yes | outside only |
//! | environment | inside only | inside only | inside only |
//! | descriptors, directories, signals, umask of others | yes | no | no |

#[cfg(target_os = "freebsd")]
mod freebsd;
#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "macos")]
mod macos;
#[cfg(not(target_os = "linux"))]
mod posix;

#[cfg(target_os = "freebsd")]
use freebsd as platform;
#[cfg(target_os = "linux")]
use linux as platform;
#[cfg(target_os = "macos")]
use macos as platform;

pub use platform::{OUTSIDE_IS_COMPLETE, enroll, inside, outside, prepare, process, processes_of};

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::os::unix::ffi::OsStringExt as _;

use crate::config::Bytes;
use crate::report::{CHANGEABLE, Environment, Report};

/// The environment of this process.
fn environment() -> Environment {
    let variables = std::env::vars_os();
    let variables = variables.map(|(name, value)| (name.into_vec(), value.into_vec()));
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

/// The fields in which two views of one process differ.
///
/// A field that one view cannot see is left out, unless the platform promises to see
/// everything from outside.
pub fn differences(inside: &Report, outside: &Report) -> Vec<String> {
    fn compare<T: PartialEq + std::fmt::Debug>(
        found: &mut Vec<String>,
        field: &str,
        inside: &Option<T>,
        outside: &Option<T>,
    ) {
        match (inside, outside) {
            (Some(inside), Some(outside)) if inside != outside => {
                found.push(format!("{field}: inside {inside:?}, outside {outside:?}"));
            }
            (Some(inside), None) if OUTSIDE_IS_COMPLETE => {
                found.push(format!("{field}: inside {inside:?}, not visible outside"));
            }
            _ => {}
        }
    }

    macro_rules! compare_all {
        ($($field:ident),* $(,)?) => {{
            // The pattern names every field, so that none can be forgotten.
            let Report { pid, ppid, pgid, environment: _, $($field),* } = inside;
            let mut found = Vec::new();
            compare(&mut found, "pid", &Some(*pid), &Some(outside.pid));
            compare(&mut found, "ppid", &Some(*ppid), &Some(outside.ppid));
            compare(&mut found, "pgid", &Some(*pgid), &Some(outside.pgid));
            $(compare(&mut found, stringify!($field), $field, &outside.$field);)*
            found
        }};
    }
    compare_all!(
        sid,
        terminal,
        umask,
        uid,
        gid,
        groups,
        capabilities,
        working_directory,
        root,
        descriptors,
        blocked_signals,
        ignored_signals,
        caught_signals,
        no_new_privileges,
        threads,
        files_owner,
    )
}
