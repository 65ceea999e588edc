//! Programs that an argument of the tester selects, instead of a case.

use std::io;
use std::os::fd::AsFd;
use std::process::ExitCode;
use std::time::Duration;

use daemonize2::{Daemonize, Outcome, PidFile, Stdio, supervised};

use super::{EXIT_BAD_STATE, EXIT_START_FAILED, expect};
use crate::slowness::scaled;
use crate::sys;

pub const FIND_REAPER: &str = "find-reaper";

/// The arguments of [`start_as_first_process`] are this, and the name of an entry point.
pub const START_AS_FIRST_PROCESS: &str = "start-as-first-process";

pub const START_WITH_FULL_OUTPUT: &str = "start-with-full-output";

/// The arguments of [`control_daemon`] are this, `status` or `stop_group`, and the path of a pid
/// file.
pub const CONTROL_DAEMON: &str = "control-daemon";

pub const PRINT_SUPERVISED: &str = "supervised";

/// Prints the process id of the process that becomes the parent of an orphan: init, or the nearest
/// subreaper.
pub fn find_reaper() -> ExitCode {
    match orphans_parent() {
        Ok(pid) => {
            println!("{pid}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("tester: cannot make an orphan: {error}");
            ExitCode::from(EXIT_BAD_STATE)
        }
    }
}

/// Starts a daemon as the first process of a pid namespace, and prints the result. A daemon prints
/// its pid when the launcher has had the time to exit.
pub fn start_as_first_process(entry: Option<String>) -> ExitCode {
    let forked = sys::leave_pid_namespace_for_children().and_then(|()| sys::fork());
    match expect(forked, "make a pid namespace") {
        Some(first) => {
            expect(sys::wait_for_child(first), "wait");
            ExitCode::SUCCESS
        }
        None => {
            let daemonize = Daemonize::new().stdout(Stdio::keep());
            let failed = match entry.as_deref() {
                Some("execute") => match daemonize.execute_checked() {
                    Outcome::Parent(Ok(parent)) => {
                        println!("launcher: daemon {}", parent.daemon_pid);
                        expect(sys::wait_for_child(parent.daemon_pid), "wait");
                        None
                    }
                    Outcome::Child(Ok(_)) => None,
                    Outcome::Parent(Err(error)) | Outcome::Child(Err(error)) => Some(error),
                },
                Some("foreground") => daemonize.foreground(true).start_checked().err(),
                _ => daemonize.start_checked().err(),
            };
            match failed {
                Some(error) => println!("{:?}: {error}", error.kind()),
                None => println!("pid {}", std::process::id()),
            }
            ExitCode::SUCCESS
        }
    }
}

/// Starts a daemon that must be ready within half a second. Standard output is a full pipe, and
/// more output is buffered. Prints the error to standard error.
pub fn start_with_full_output() -> ExitCode {
    expect(sys::fill_output(), "fill the output");
    print!("the rest");
    let daemonize = Daemonize::new().startup_timeout(scaled(Duration::from_millis(500)));
    match daemonize.start_checked() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(EXIT_START_FAILED)
        }
    }
}

/// Prints the effective user id, and the result of `supervised()`.
pub fn print_supervised() -> ExitCode {
    println!("{} {}", sys::effective_user(), supervised());
    ExitCode::SUCCESS
}

/// Asks for the status of a daemon, or stops its group without patience. Prints the result.
pub fn control_daemon(mut arguments: impl Iterator<Item = String>) -> ExitCode {
    let call = arguments.next();
    let pid_file = PidFile::at(arguments.next().unwrap_or_default());
    let result = match call.as_deref() {
        Some("status") => pid_file.status().map(|status| status.to_string()),
        Some("stop_group") => {
            let stopped = pid_file.stop_group(Duration::ZERO);
            stopped.map(|stopped| stopped.to_string())
        }
        _ => return ExitCode::from(EXIT_BAD_STATE),
    };
    match result {
        Ok(text) => println!("{text}"),
        Err(error) => println!("{:?}: {error}", error.kind()),
    }
    ExitCode::SUCCESS
}

/// The process that becomes the parent of an orphan.
///
/// # Errors
///
/// Those of the system calls.
pub fn orphans_parent() -> io::Result<u32> {
    let (ours, orphans) = sys::socket_pair()?;
    match sys::fork()? {
        None => {
            drop(ours);
            if let Ok(None) = sys::fork() {
                // The word comes when the parent has been reaped, so another process is the parent
                // by now.
                let mut word = [0; 1];
                if sys::receive(orphans.as_fd(), &mut word).is_ok_and(|received| received == 1) {
                    let parent = std::os::unix::process::parent_id();
                    let _ = sys::send(orphans.as_fd(), &parent.to_le_bytes());
                }
            }
            sys::exit_at_once(0);
        }
        Some(child) => {
            drop(orphans);
            sys::wait_for_child(child)?;
            sys::send(ours.as_fd(), &[1])?;
            let mut pid = [0; 4];
            match sys::receive(ours.as_fd(), &mut pid)? {
                4 => Ok(u32::from_le_bytes(pid)),
                _ => Err(io::ErrorKind::UnexpectedEof.into()),
            }
        }
    }
}
