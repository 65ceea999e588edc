//! What a service manager hands to the process that it starts: sockets and a watchdog.
//!
//! See sd_listen_fds(3) and sd_watchdog_enabled(3). The functions accept only what is meant for the
//! process that calls them, by its pid.

use std::env;
use std::ffi::CString;
use std::os::fd::RawFd;

use crate::error::ErrorKind;
use crate::failure::Failure;
use crate::sys::{self, Pid, SingleThreaded};

/// `SD_LISTEN_FDS_START` of <systemd/sd-daemon.h>.
const FIRST_SOCKET: RawFd = 3;

/// What is meant for the launcher.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Activation {
    /// The number of sockets, if there are any.
    sockets: Option<i32>,
    has_watchdog: bool,
}

impl Activation {
    /// Returns `None` if nothing is meant for this process, or if its environment is not trusted.
    pub(crate) fn find() -> Option<Self> {
        match sys::has_raised_privileges() {
            true => None,
            false => Self::of(Pid::current(), |name| env::var(name).ok()),
        }
    }

    fn of(process: Pid, variable: impl Fn(&str) -> Option<String>) -> Option<Self> {
        let names_process = |name| variable(name) == Some(process.number().to_string());
        let count = || variable("LISTEN_FDS")?.parse().ok();
        let found = Self {
            sockets: count().filter(|&count| count > 0 && names_process("LISTEN_PID")),
            has_watchdog: names_process("WATCHDOG_PID"),
        };
        (found.sockets.is_some() || found.has_watchdog).then_some(found)
    }

    /// The descriptors of the sockets. One that is closed ends the list, as it fails
    /// sd_listen_fds(3).
    pub(crate) fn sockets(&self) -> impl Iterator<Item = RawFd> {
        let end = FIRST_SOCKET.saturating_add(self.sockets.unwrap_or(0));
        (FIRST_SOCKET..end).take_while(|&number| sys::is_open(number))
    }

    /// The variables that get the pid of the daemon, and the variable that is removed.
    pub(crate) fn variables(&self) -> (Vec<&'static str>, Option<&'static str>) {
        let sockets = self.sockets.map(|_| "LISTEN_PID");
        let watchdog = self.has_watchdog.then_some("WATCHDOG_PID");
        let with_pid = sockets.into_iter().chain(watchdog).collect();
        (with_pid, sockets.map(|_| "LISTEN_PIDFDID"))
    }

    /// The variables without which those of [`variables`](Self::variables) mean nothing.
    pub(crate) fn companions(&self) -> impl Iterator<Item = &'static str> {
        let sockets = self.sockets.map(|_| ["LISTEN_FDS", "LISTEN_FDNAMES"]);
        let watchdog = self.has_watchdog.then_some("WATCHDOG_USEC");
        sockets.into_iter().flatten().chain(watchdog)
    }

    /// Makes this process, the daemon, the one that the variables name.
    pub(crate) fn take_over(&self, single_threaded: &SingleThreaded) -> Result<(), Failure> {
        let number = Pid::current().number().to_string();
        let number = CString::new(number).expect("digits contain no NUL");
        let failed = ErrorKind::SetEnvironment;
        if self.sockets.is_some() {
            sys::setenv(c"LISTEN_PID", &number, single_threaded).map_err(failed)?;
            // The inode of a pidfd of the launcher, which sd_listen_fds(3) compares if it is set.
            sys::unsetenv(c"LISTEN_PIDFDID", single_threaded).map_err(failed)?;
        }
        if self.has_watchdog {
            sys::setenv(c"WATCHDOG_PID", &number, single_threaded).map_err(failed)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(variables: &[(&str, &str)]) -> Option<Activation> {
        let process = Pid::from_number(4242).expect("a pid");
        Activation::of(process, |name| {
            let mut variables = variables.iter();
            variables.find_map(|&(found, value)| (found == name).then(|| value.to_owned()))
        })
    }

    #[test]
    fn sockets_and_watchdog_are_found_if_they_are_meant_for_the_process() {
        let sockets = [("LISTEN_PID", "4242"), ("LISTEN_FDS", "2")];
        let both = [sockets[0], sockets[1], ("WATCHDOG_PID", "4242")];
        let activation = |sockets, has_watchdog| {
            Some(Activation {
                sockets,
                has_watchdog,
            })
        };
        assert_eq!(found(&sockets), activation(Some(2), false));
        assert_eq!(found(&both), activation(Some(2), true));
        assert_eq!(found(&both[1..]), activation(None, true));
    }

    #[test]
    fn other_values_are_ignored() {
        for (pid, count) in [
            ("4243", "2"),
            ("", "2"),
            (" 4242", "2"),
            ("+4242", "2"),
            ("4242x", "2"),
            ("4242", "0"),
            ("4242", "-1"),
            ("4242", ""),
            ("4242", "two"),
            ("4242", "2147483648"),
        ] {
            let variables = [("LISTEN_PID", pid), ("LISTEN_FDS", count)];
            assert_eq!(found(&variables), None, "{variables:?}");
        }
        assert_eq!(found(&[("LISTEN_PID", "4242")]), None);
        assert_eq!(found(&[("WATCHDOG_PID", "1")]), None);
    }

    #[test]
    fn a_count_without_descriptors_ends_the_list() {
        let most = i32::MAX.to_string();
        let found = found(&[("LISTEN_PID", "4242"), ("LISTEN_FDS", &most)]);
        let sockets: Vec<RawFd> = found.expect("sockets").sockets().collect();
        assert!(sockets.len() < 4096, "{sockets:?}");
    }
}
