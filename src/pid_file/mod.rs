//! The pid file: the option of a start, the control of a running daemon, the removal.
//!
//! A start keeps two descriptors. The one that has the lock is open only for reading: the
//! daemon keeps it after it has dropped its privileges. The one for writing stays with the
//! intermediate and the launcher. The file is empty until the start is committed.

mod control;
mod exec;
mod group;
mod guard;
mod holder;
mod locked;
mod open;
mod status;
mod takeover;

use std::time::Duration;

pub use control::PidFile;
pub use guard::PidFileGuard;
pub use status::Status;

pub(crate) use exec::{FD_VARIABLE, PID_VARIABLE};
pub(crate) use holder::describe_holder;
pub(crate) use locked::OpenPidFile;
pub(crate) use open::{PidFilePlan, check_mode};
pub(crate) use takeover::{Takeover, successor_path};

use crate::sys::Pid;

/// The pause between two attempts, if a failure may last only for an instant.
const PAUSE: Duration = Duration::from_millis(2);

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

/// Parses the content of a pid file: decimal digits, and a line feed, which may be missing
/// since the crate daemonize does not write it.
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
}
