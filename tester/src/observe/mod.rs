//! Looking at a process: by itself, and by another one.
//!
//! # What each platform supplies
//!
//! * `prepare() -> io::Result<()>`: called once before the start; opens what
//!   the view from inside needs and a chroot would take away.
//! * `inside() -> io::Result<Report>`: the calling process. Everything that
//!   the platform has, whatever the process's root and ids are by now.
//! * `outside(pid) -> io::Result<Report>`: another process. A field that this
//!   point of view cannot tell is `None`.
//! * `OUTSIDE_IS_COMPLETE: bool`: whether `outside` tells all that `inside`
//!   does. Where it is true, a field missing outside is a failure
//!   ([`differences`]), lest a lack of permission passes for agreement.
//! * `enroll(token) -> io::Result<()>`: called first of all by the program that
//!   was started with `TESTER_CASE=token` in its environment; does what
//!   `processes_of` needs beyond that.
//! * `processes_of(token) -> io::Result<Vec<Process>>`: that process and all
//!   that descend from it, zombies excepted, whoever they have become.
//! * `process(pid) -> io::Result<Option<Process>>`: one process, zombies
//!   included.
//!
//! | | Linux | FreeBSD | macOS |
//! |---|---|---|---|
//! | source | /proc | system calls; ps(1) for others | system calls; ps(1) for others |
//! | known as a case's by | a resource limit | the environment | the environment |
//! | capabilities, no_new_privs | yes | there are none | there are none |
//! | root directory, thread count | yes | no | no |
//! | saved ids | yes | yes | outside only |
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

use crate::report::Report;

/// A process, briefly.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Process id.
    pub pid: u32,
    /// The parent's process id.
    pub ppid: u32,
    /// Process group id.
    pub pgid: u32,
    /// The state's letter, as ps(1) shows it; `Z` is a zombie, and `X` one that is
    /// being reaped.
    pub state: char,
    /// The program's name.
    pub name: String,
}

impl Process {
    /// Whether it has ended, and was or is to be reaped.
    pub fn is_zombie(&self) -> bool {
        matches!(self.state, 'Z' | 'X')
    }
}

/// Every field in which two views of one process disagree.
///
/// A field that one view cannot tell is passed over, except where a platform
/// promises to see everything from outside.
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
            // Taken apart, so that a field cannot be forgotten here.
            let Report { pid, ppid, pgid, $($field),* } = inside;
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
    )
}
