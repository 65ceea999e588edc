//! Many launchers that contend for one pid file, and processes that meddle with it. The processes
//! are small, so that many run at a time.
//!
//! A contender starts a daemon, waits for the outcome and starts the next one. Each daemon sends a
//! message when it has started ([`Message::Holds`]), and when it is about to end
//! ([`Message::Leaves`]); in between, it holds the lock. All daemons send to one socket, so the
//! order of the messages is that of the events.

use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use daemonize2::{Daemonize, Outcome, PidFileGuard};

use crate::attack;
use crate::config::Bytes;
use crate::control::{self, CONTROL, Message};
use crate::report::{LauncherResult, LockedFile, Place};
use crate::subject::{EXIT_BAD_CONFIG, EXIT_NO_HARNESS, describe};
use crate::sys;

/// The arguments of [`contend`] are this, the time in milliseconds, the pid file and the
/// [`Leaving`].
pub const CONTEND: &str = "contend";

/// The arguments of [`meddle`] are this, the time in milliseconds, the pid file and the
/// [`Meddling`].
pub const MEDDLE: &str = "meddle";

/// What the daemons do with the pid file when they end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leaving {
    Removing,
    /// One daemon removes the file, the next one exits and leaves it, the next one is killed.
    Variously,
}

/// What a meddler does to the pid file or its directory, again and again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meddling {
    RemovesUnlocked,
    Replaces,
    ChangesType,
    Plants,
    ChangesPermissions,
}

impl Leaving {
    const ALL: [Self; 2] = [Self::Removing, Self::Variously];
}

impl Meddling {
    const ALL: [Self; 5] = [
        Self::RemovesUnlocked,
        Self::Replaces,
        Self::ChangesType,
        Self::Plants,
        Self::ChangesPermissions,
    ];
}

/// The end of the time, the path, and the manner.
fn arguments<T: Copy + fmt::Debug>(manners: &[T]) -> Option<(Instant, PathBuf, T)> {
    let mut arguments = std::env::args_os().skip(2);
    let millis = arguments.next()?.to_str()?.parse().ok()?;
    let path = arguments.next()?.into();
    let named = arguments.next()?;
    let manner = manners
        .iter()
        .find(|manner| named == *format!("{manner:?}"))?;
    Some((
        Instant::now() + Duration::from_millis(millis),
        path,
        *manner,
    ))
}

fn bad_arguments() -> ExitCode {
    eprintln!("tester: a contest needs a time, a path and a manner");
    ExitCode::from(EXIT_BAD_CONFIG)
}

/// Starts one daemon after the other until the time is up.
pub fn contend() -> ExitCode {
    let Some((end, path, leaving)) = arguments(&Leaving::ALL) else {
        return bad_arguments();
    };
    let mut number = 0;
    while Instant::now() < end {
        let attempt = match sys::fork() {
            Ok(None) => start(&path, leaving, number),
            Ok(Some(launcher)) => sys::wait_for_child(launcher),
            Err(error) => Err(error),
        };
        if let Err(error) = attempt {
            send(Message::Problem(format!("cannot contend: {error}")));
            return ExitCode::from(EXIT_BAD_CONFIG);
        }
        number += 1;
    }
    ExitCode::SUCCESS
}

fn send(message: Message) {
    if control::send(&message).is_err() {
        sys::exit_at_once(EXIT_NO_HARNESS.into());
    }
}

/// Starts a daemon. Returns in neither process.
fn start(path: &Path, leaving: Leaving, number: u64) -> ! {
    match sys::execute(Daemonize::new().pid_file(path)) {
        Outcome::Parent(Ok(parent)) => {
            send(Message::LauncherReturned(LauncherResult::from(&parent)));
        }
        Outcome::Parent(Err(error)) => send(Message::LauncherFailed(describe(&error))),
        Outcome::Child(Err(error)) => send(Message::DaemonFailed(describe(&error))),
        Outcome::Child(Ok(_)) => {
            if let Err(error) = live(path, leaving, number) {
                send(Message::Problem(format!(
                    "cannot see its pid file: {error}"
                )));
            }
        }
    }
    sys::exit_at_once(0)
}

fn live(path: &Path, leaving: Leaving, number: u64) -> io::Result<()> {
    send(Message::Holds(look(path)?));
    attack::live(number);
    send(Message::Leaves(look(path)?));
    match (leaving, number % 3) {
        (Leaving::Removing, _) | (Leaving::Variously, 0) => {
            drop(PidFileGuard::take());
            // The exit removes the file.
            std::process::exit(0);
        }
        (Leaving::Variously, 1) => {}
        (Leaving::Variously, _) => sys::kill(std::process::id(), libc::SIGKILL)?,
    }
    Ok(())
}

/// The pid file, through the descriptor of the library, which is the only one of a regular file.
fn look(path: &Path) -> io::Result<LockedFile> {
    let files = (3..CONTROL).filter_map(sys::inherited);
    for descriptor in files {
        // The close of a copy would release the record lock.
        let file = sys::as_file(descriptor);
        let found = file.metadata()?;
        if !found.is_file() {
            continue;
        }
        let mut bytes = [0; 64];
        let length = file.read_at(&mut bytes, 0)?;
        let id = (found.dev(), found.ino());
        let at_path = fs::symlink_metadata(path).map(|there| (there.dev(), there.ino()));
        return Ok(LockedFile {
            place: Place {
                device: id.0,
                inode: id.1,
                path: Some(Bytes::from(path)),
            },
            bytes: bytes[..length].to_vec(),
            is_at_path: at_path.is_ok_and(|there| there == id),
        });
    }
    Err(io::ErrorKind::NotFound.into())
}

/// Meddles until the time is up. After a failure, the meddler tries again. A meddler that never
/// succeeds exits with 1.
pub fn meddle() -> ExitCode {
    let Some((end, path, meddling)) = arguments(&Meddling::ALL) else {
        return bad_arguments();
    };
    let (mut number, mut has_meddled) = (0, false);
    while Instant::now() < end {
        let result = match meddling {
            Meddling::RemovesUnlocked => attack::remove_unlocked(&path),
            Meddling::Replaces => attack::replace(&path, number),
            Meddling::ChangesType => attack::change_type(&path, number),
            Meddling::Plants => attack::plant(&path, number),
            Meddling::ChangesPermissions => attack::change_permissions(&path, number),
        };
        has_meddled |= result.is_ok();
        attack::pause();
        number += 1;
    }
    ExitCode::from(u8::from(!has_meddled))
}
