//! The commands that a daemon obeys.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::net::TcpListener;
use std::os::fd::IntoRawFd;
use std::os::unix::fs::{FileExt, chown};
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use daemonize2::{Daemonize, Outcome, PidFile, PidFileGuard};

use super::closures::write;
use super::{await_command, expect, own_report, send, writers};
use crate::config::AnotherStart;
use crate::control::{self, Command, FormerIds, Message};
use crate::report::{FileType, Place, Regained};
use crate::sys;

/// Obeys commands until the harness ends. With a guard of its pid file, the daemon then ends
/// cleanly.
pub(super) fn obey(mut guard: Option<PidFileGuard>) -> ! {
    loop {
        match await_command() {
            // No step waits for this.
            Command::Proceed => {}
            Command::Observe => send(Message::Now(own_report())),
            Command::TryToRegain(former) => {
                send(Message::Regained(try_to_regain(former)));
            }
            Command::TryToEscape => send(Message::Reached(try_to_escape())),
            Command::TryToEscapeThrough(paths) => {
                let entered = paths
                    .iter()
                    .filter(|path| std::env::set_current_dir(path.to_path()).is_ok());
                send(Message::Reached(entered.map(|_| climb()).collect()));
            }
            Command::DropGuardInCopy => {
                match expect(sys::fork(), "fork") {
                    None => {
                        drop(guard.take());
                        drop(PidFileGuard::take());
                        sys::exit_at_once(0);
                    }
                    Some(copy) => expect(sys::wait_for_child(copy), "wait for the copy"),
                }
                send(Message::CopyDroppedGuard);
            }
            Command::DropGuard => {
                drop(guard.take());
                send(Message::Answer(Vec::new()));
            }
            Command::OverwriteFiles(bytes) => send(Message::Answer(overwrite_files(&bytes.0))),
            Command::TryCapabilities(file) => {
                send(Message::Answer(try_capabilities(&file.to_path())));
            }
            Command::ReplaceDescriptors(directory) => {
                replace_descriptors(&directory.to_path());
                send(Message::Answer(Vec::new()));
            }
            Command::AskForDaemon(path) => {
                let pid_file = PidFile::at(path.to_path());
                let patience = Duration::from_millis(10);
                send(Message::Answer(vec![
                    format!("{:?}", pid_file.running()),
                    format!("{:?}", pid_file.status()),
                    format!("{:?}", pid_file.wait_ready(patience)),
                    format!("{:?}", pid_file.signal(0)),
                    format!("{:?}", pid_file.stop(patience)),
                    format!("{:?}", pid_file.signal_group(0)),
                    format!("{:?}", pid_file.stop_group(patience)),
                ]));
            }
            Command::AdoptPidFile(path) => {
                let adopted = PidFile::at(path.to_path()).adopt();
                guard = PidFileGuard::take();
                let taken = guard.is_some();
                send(Message::Answer(vec![
                    format!("{adopted:?}"),
                    taken.to_string(),
                ]));
            }
            Command::StartAnother(start) => {
                if start_another(&start) && !start.foreground {
                    drop(guard.take());
                    run_other_daemon();
                }
                if start.foreground {
                    send(Message::Observed(own_report()));
                }
            }
            Command::Write(number, bytes) => {
                write(number, &bytes.0);
                send(Message::Answer(Vec::new()));
            }
            Command::ReopenLogs => send(Message::Answer(reopen_logs())),
            Command::ReopenLogsInWorker(bytes) => match expect(sys::fork(), "fork") {
                Some(worker) => expect(sys::wait_for_child(worker), "wait for the worker"),
                None => {
                    let answer = reopen_logs();
                    write(2, &bytes.0);
                    send(Message::Answer(answer));
                    sys::exit_at_once(0);
                }
            },
            Command::StartWriters(count) => {
                writers::start(count);
                send(Message::Answer(Vec::new()));
            }
            Command::StopWriters => send(Message::Answer(writers::stop())),
            Command::Exit(status) => {
                drop(guard.take());
                std::process::exit(status);
            }
        }
    }
}

fn try_capabilities(file: &Path) -> Vec<String> {
    let mut ports = (512..1024_u16)
        .rev()
        .map(|port| TcpListener::bind(("127.0.0.1", port)))
        .filter(|bound| !matches!(bound, Err(error) if error.kind() == ErrorKind::AddrInUse));
    let attempts = [
        ("bind", ports.next().is_some_and(|bound| bound.is_ok())),
        ("chown", chown(file, Some(0), Some(0)).is_ok()),
        ("keepcaps", sys::keeps_capabilities()),
    ];
    let succeeded = attempts.into_iter().filter(|(_, succeeds)| *succeeds);
    succeeded.map(|(name, _)| name.to_owned()).collect()
}

fn reopen_logs() -> Vec<String> {
    let error = daemonize2::reopen_logs().err();
    error.iter().map(ToString::to_string).collect()
}

/// Does what an intruder in the daemon would try.
fn overwrite_files(bytes: &[u8]) -> Vec<String> {
    let mut written = Vec::new();
    for descriptor in own_report().descriptors.unwrap_or_default() {
        let number = descriptor.number;
        let Some(open) = sys::inherited(number).filter(|_| {
            descriptor.file_type == FileType::Regular && !control::RESERVED.contains(&number)
        }) else {
            continue;
        };
        if sys::as_file(open).write_all_at(bytes, 0).is_ok() || sys::truncate(open).is_ok() {
            written.push(format!("{number}"));
        }
        let again = OpenOptions::new()
            .write(true)
            .open(format!("/proc/self/fd/{number}"));
        if again.is_ok() {
            written.push(format!("{number}, opened once more"));
        }
    }
    written
}

fn replace_descriptors(directory: &Path) {
    static DATA: AtomicU32 = AtomicU32::new(0);

    for number in (3..=1000).filter(|number| !control::RESERVED.contains(number)) {
        if sys::inherited(number).is_some() {
            sys::close(number);
        }
    }
    loop {
        let path = directory.join(format!("data.{}", DATA.fetch_add(1, Ordering::Relaxed)));
        let mut file = expect(File::create(path), "create a file");
        expect(file.write_all(b"precious\n"), "write a file");
        let number = file.into_raw_fd();
        if number > 20 {
            break;
        }
    }
}

/// Starts a daemon from this one, or from a worker of it. Returns true in the new daemon.
pub(super) fn start_another(start: &AnotherStart) -> bool {
    if !start.in_worker {
        return start_another_here(start);
    }
    match expect(sys::fork(), "fork") {
        Some(worker) => {
            expect(sys::wait_for_child(worker), "wait for the worker");
            false
        }
        None if start_another_here(start) => true,
        None => sys::exit_at_once(0),
    }
}

pub(super) fn start_another_here(start: &AnotherStart) -> bool {
    let mut daemonize = Daemonize::new()
        .foreground(start.foreground)
        .upgrade(start.upgrade);
    if let Some(path) = &start.pid_file {
        daemonize = daemonize.pid_file(path.to_path());
    }
    if start.close_inherited_fds {
        let keep: Vec<_> = control::RESERVED.collect();
        daemonize = sys::close_inherited_fds(daemonize, &keep);
    }
    let outcome = if start.by_start {
        match sys::start(daemonize) {
            Ok(()) => return true,
            Err(error) => Outcome::Parent(Err(error)),
        }
    } else {
        sys::execute(daemonize)
    };
    match outcome {
        Outcome::Child(Ok(_)) => true,
        Outcome::Parent(Ok(_)) => false,
        Outcome::Parent(Err(error)) | Outcome::Child(Err(error)) => {
            send(Message::Problem(format!("cannot start another: {error}")));
            false
        }
    }
}

/// Runs the new daemon after its drops.
pub(super) fn run_other_daemon() -> ! {
    // It has no log files, whatever the daemon has that started it.
    for error in reopen_logs() {
        send(Message::Problem(error));
    }
    send(Message::Observed(own_report()));
    control::wait_for_harness_to_end();
    sys::exit_at_once(0);
}

fn try_to_regain(former: FormerIds) -> Regained {
    let mut regained = Regained::default();
    let mut note = |call: String, result: io::Result<()>| match result {
        Ok(()) => regained.succeeded.push(call),
        Err(error) => {
            let errno = error.raw_os_error().unwrap_or(0);
            regained.failed.push((call, errno));
        }
    };
    // Groups come first: a process that regains the user id regains all.
    note("setgroups([])".into(), sys::set_supplementary_groups(&[]));
    note("setgroups([0])".into(), sys::set_supplementary_groups(&[0]));
    // To set a current id is not to regain it.
    let current = sys::group_ids().real;
    for gid in [former.gid, 0].into_iter().filter(|&gid| gid != current) {
        note(format!("setgid({gid})"), sys::set_group(gid));
        note(format!("setegid({gid})"), sys::set_effective_group(gid));
        note(format!("setresgid({gid})"), sys::set_group_ids([gid; 3]));
    }
    let current = sys::user_ids().real;
    for uid in [former.uid, 0].into_iter().filter(|&uid| uid != current) {
        note(format!("setuid({uid})"), sys::set_user(uid));
        note(format!("seteuid({uid})"), sys::set_effective_user(uid));
        note(format!("setresuid({uid})"), sys::set_user_ids([uid; 3]));
    }
    if cfg!(target_os = "linux") {
        for capability in 0..=40 {
            let call = format!("capset({capability})");
            note(call, sys::set_capabilities(1 << capability));
        }
    }
    regained
}

/// The directories that a climb reaches from the working directory, and from every open directory.
fn try_to_escape() -> Vec<Place> {
    let mut reached = vec![climb()];
    let report = own_report();
    for descriptor in report.descriptors.unwrap_or_default() {
        if descriptor.file_type == FileType::Directory
            && sys::change_directory_to(descriptor.number).is_ok()
        {
            reached.push(climb());
        }
    }
    reached
}

fn climb() -> Place {
    /// No directory of a test is as deep.
    const STEPS: usize = 64;
    for _ in 0..STEPS {
        // At the top, or where a directory cannot be entered, the process stays.
        let _ = std::env::set_current_dir("..");
    }
    expect(Place::of(".".as_ref()), "examine the working directory")
}
