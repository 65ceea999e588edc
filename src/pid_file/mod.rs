//! The pid file: the option of a start, the control of a running daemon, the removal.
//!
//! A start keeps two descriptors. The one that has the lock is open only for reading: the
//! daemon keeps it after it has dropped its privileges. The one for writing stays with the
//! intermediate and the launcher. The file is empty until the start is committed.

mod control;
mod exec;
mod guard;
mod holder;
mod locked;
mod open;
mod takeover;

use std::ffi::{CStr, CString};
use std::os::fd::BorrowedFd;
use std::time::Duration;

pub use control::PidFile;
pub use guard::PidFileGuard;

pub(crate) use holder::describe_holder;
pub(crate) use locked::OpenPidFile;
pub(crate) use open::PidFilePlan;
pub(crate) use takeover::{Takeover, successor_path};

use crate::sys::{self, FileStatus, Pid};

/// The reasons for which a file or its directory is refused. They are constants, since
/// nothing may be allocated where they are found; the launcher adds the owner.
pub(crate) const DIRECTORY_OF_ANOTHER: &str = "its directory belongs to another user";
pub(crate) const DIRECTORY_WRITABLE: &str = "other users can write to its directory";
pub(crate) const FILE_OF_ANOTHER: &str = "it belongs to another user";
const HAS_LINKS: &str = "it has other hard links";

const WRITABLE_BY_OTHERS: u32 = 0o022;
const GROUP: u32 = 0o070;
const STICKY: u32 = 0o1000;

/// Between two attempts at what changes in an instant.
const PAUSE: Duration = Duration::from_millis(2);

/// Whether users other than root and the owner can write to an open file. The members of a
/// system group are trusted like root.
fn others_can_write(descriptor: BorrowedFd<'_>, status: &FileStatus) -> bool {
    let mut others = WRITABLE_BY_OTHERS;
    if sys::SYSTEM_GROUPS.contains(&status.group) {
        others &= !GROUP;
        // With an access list, the group bits also stand for other users and groups.
        if status.mode & GROUP & WRITABLE_BY_OTHERS != 0 && sys::has_access_list(descriptor) {
            return true;
        }
    }
    status.mode & others != 0
}

/// Whether those users can replace a file in an open directory. The sticky bit prevents it.
fn others_can_replace_in(directory: BorrowedFd<'_>, status: &FileStatus) -> bool {
    others_can_write(directory, status) && status.mode & STICKY == 0
}

/// Splits a path into a directory and a name, neither of which is empty.
fn directory_and_name(path: &CStr) -> (CString, CString) {
    let bytes = path.to_bytes();
    let split = bytes.iter().rposition(|byte| *byte == b'/');
    match split {
        Some(slash) if slash + 1 < bytes.len() => (
            CString::new(&bytes[..=slash]).unwrap_or_default(),
            CString::new(&bytes[slash + 1..]).unwrap_or_default(),
        ),
        // A path that ends in a slash names a directory, which is refused when it is
        // opened.
        _ => (c".".to_owned(), path.to_owned()),
    }
}

/// Ten digits and a line feed.
const LONGEST_LINE: usize = 11;

/// The content of a pid file, without allocation.
fn pid_line(pid: Pid, line: &mut [u8; LONGEST_LINE]) -> &[u8] {
    let mut start = LONGEST_LINE - 1;
    line[start] = b'\n';
    let mut rest = pid.number();
    while rest > 0 {
        start -= 1;
        line[start] = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    &line[start..]
}

/// Parses the content of a pid file: decimal digits, and a line feed that the crate
/// daemonize does not write.
fn parse_pid(content: &[u8]) -> Option<Pid> {
    let digits = content.strip_suffix(b"\n").unwrap_or(content);
    if !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number = std::str::from_utf8(digits).ok()?.parse().ok()?;
    Pid::from_number(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pid_file_contains_a_pid_and_no_more_than_a_line_feed() {
        assert_eq!(parse_pid(b"4242\n"), Pid::from_number(4242));
        assert_eq!(parse_pid(b"4242"), Pid::from_number(4242));
        let junk = "|\n|0\n|-1\n|+1\n| 1\n|1\n\n|1 2\n|1\n2\n|1.0\n|99999999999\n|4294967295\n\
                    |2147483648\n|one\n";
        for junk in junk.split('|') {
            assert_eq!(parse_pid(junk.as_bytes()), None, "{junk:?}");
        }
    }

    #[test]
    fn a_pid_is_written_as_a_line() {
        for number in [1, 10, 4242, 2_147_483_647] {
            let pid = Pid::from_number(number).expect("a pid");
            let mut line = [0; LONGEST_LINE];
            assert_eq!(pid_line(pid, &mut line), format!("{number}\n").as_bytes());
        }
    }

    #[test]
    fn a_path_is_split_into_directory_and_name() {
        let split = |path: &CStr| directory_and_name(path);
        let pair = |directory: &CStr, name: &CStr| (directory.to_owned(), name.to_owned());
        assert_eq!(split(c"/run/d.pid"), pair(c"/run/", c"d.pid"));
        assert_eq!(split(c"/d.pid"), pair(c"/", c"d.pid"));
        assert_eq!(split(c"d.pid"), pair(c".", c"d.pid"));
        assert_eq!(split(c"/run/"), pair(c".", c"/run/"));
    }
}
