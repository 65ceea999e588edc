//! Compares the reports of the processes.

use std::collections::BTreeSet;

use super::judge::Judge;
use crate::axes::{ADDRESS_FOR_PROGRAM, PID_OF_DAEMON};
use crate::config::Bytes;
use crate::control::Message;
use crate::harness::Outcome;
use crate::model::start::{Expected, Opened, Parent, Prediction};
use crate::report::{AccessMode, Descriptor, Environment, FileType, Report, SignalSet};

/// Whether the C library reserves a signal for itself.
pub(crate) fn is_reserved(signal: i32) -> bool {
    #[cfg(target_os = "linux")]
    return (32..libc::SIGRTMIN()).contains(&signal);
    #[cfg(not(target_os = "linux"))]
    {
        let _ = signal;
        false
    }
}

pub(crate) fn judge_reports(
    judge: &mut Judge,
    before: &Report,
    prediction: &Prediction,
    outcome: &Outcome,
) {
    let mut observed = Vec::new();
    let mut afterwards = Vec::new();
    let mut unreaped = Vec::new();
    for frame in &outcome.frames {
        match &frame.message {
            Message::Observed(report) | Message::Daemon(report) | Message::Now(report) => {
                observed.push((frame.sender, report));
            }
            Message::Afterwards(report) => afterwards.push((frame.sender, report)),
            Message::Unreaped(child) => unreaped.push(*child),
            _ => {}
        }
    }
    // The launcher sends its report first or last.
    afterwards.sort_by_key(|&(sender, _)| sender != outcome.launcher);
    let reports = &prediction.reports;
    judge.compare("reports", reports.len(), observed.len());
    judge.compare(
        "reports afterwards",
        prediction.afterwards.len(),
        afterwards.len(),
    );
    let intermediate = intermediate(prediction, &observed, &afterwards);
    // The caller reaps the children of a closure, and a daemon in which the library has returned.
    let has_returned = |child| {
        let mut frames = outcome.frames.iter().filter(|frame| frame.sender == child);
        frames.any(|frame| matches!(frame.message, Message::Daemon(_) | Message::DaemonFailed(_)))
    };
    unreaped.retain(|&child| {
        let is_ours = [outcome.daemon(), intermediate].contains(&Some(child));
        is_ours && !has_returned(child)
    });
    judge.compare("unreaped", [0; 0].as_slice(), unreaped.as_slice());
    let all = reports.iter().zip(observed);
    let all = all.chain(prediction.afterwards.iter().zip(afterwards));
    for (must, (sender, is)) in all {
        let moment = must.moment;
        let mut expected = must.report.clone();
        let is_launcher = must.is_of_launcher();
        expected.pid = match is_launcher {
            true => before.pid,
            false => outcome.daemon().unwrap_or(sender),
        };
        fill_in_pid(&mut expected);
        fill_in_address(&mut expected, is, before.pid);
        if !is_launcher {
            let session = intermediate.unwrap_or_default();
            (expected.pgid, expected.sid) = (session, Some(session));
            for (field, other) in [
                ("the launcher", before.pid),
                ("the session's leader", session),
            ] {
                judge.compare(format!("{moment}: is {field}"), false, is.pid == other);
            }
            judge.compare(
                format!("{moment}: is in the launcher's session"),
                false,
                Some(session) == before.sid,
            );
        }
        let session = expected.pgid;
        let mut parents = must.parents.iter().map(|parent| match parent {
            Parent::Unchanged => before.ppid,
            Parent::Intermediate => session,
            Parent::Launcher => before.pid,
            Parent::Reaper => outcome.reaper,
        });
        expected.ppid = match parents.clone().any(|parent| parent == is.ppid) {
            true => is.ppid,
            false => parents.next().unwrap_or_default(),
        };
        number_opened(&mut expected, must, is, outcome);
        judge.compare(format!("{moment}: sender"), is.pid, sender);
        judge_report(judge, moment, &expected, is);
    }
}

/// The process id of the intermediate: it is the parent of the daemon at first, and the leader of
/// the session always.
pub(crate) fn intermediate(
    prediction: &Prediction,
    observed: &[(u32, &Report)],
    afterwards: &[(u32, &Report)],
) -> Option<u32> {
    let parents = prediction.reports.iter().zip(observed);
    let parent = parents
        .filter(|(must, _)| must.parents == [Parent::Intermediate])
        .map(|(_, (_, is))| is.ppid);
    let daemons = prediction.reports.iter().zip(observed);
    let daemons = daemons.chain(prediction.afterwards.iter().zip(afterwards));
    let group = daemons
        .filter(|(must, _)| !must.is_of_launcher())
        .map(|(_, (_, is))| is.pgid);
    parent.chain(group).next()
}

fn has_lock(opened: Opened) -> bool {
    matches!(
        opened,
        Opened::PidFile | Opened::PidFileOfProgram | Opened::SuccessorPidFile
    )
}

/// Gives the descriptors that the library has opened their numbers.
pub(crate) fn number_opened(
    expected: &mut Report,
    must: &Expected,
    is: &Report,
    outcome: &Outcome,
) {
    let (Some(known), Some(found)) = (&mut expected.descriptors, &is.descriptors) else {
        return;
    };
    for pending in &must.pending {
        let further = found.iter().filter(|found| found.number > 2).find(|found| {
            let is_known = known.iter().any(|known| known.number == found.number);
            let identity = (found.device, found.inode, found.access);
            !is_known && identity == (pending.device, pending.inode, pending.access)
        });
        known.push(Descriptor {
            number: further.map_or(-1, |further| further.number),
            ..pending.clone()
        });
    }
    for opened in &must.opened {
        let is_socket = matches!(opened, Opened::Channel | Opened::NotifySocket);
        let is_of_program = matches!(opened, Opened::PidFileOfProgram | Opened::NotifySocket);
        let further = found.iter().filter(|found| found.number > 2).find(|found| {
            let is_known = known.iter().any(|known| known.number == found.number);
            let is_file = found.file_type == FileType::Regular;
            let is_writable = found.access == AccessMode::ReadWrite;
            !is_known && is_file != is_socket && is_writable != has_lock(*opened)
        });
        let number = further.map_or(-1, |further| further.number);
        let template = Descriptor {
            number,
            device: None,
            inode: None,
            file_type: FileType::Socket,
            special_device: 0,
            access: AccessMode::ReadWrite,
            close_on_exec: Some(!is_of_program),
            nonblocking: false,
            append: false,
            locked: cfg!(target_os = "linux").then_some(false),
            target: None,
        };
        let descriptor = match opened {
            // Nothing else identifies a socket.
            Opened::Channel | Opened::NotifySocket => Descriptor {
                device: further.and_then(|further| further.device),
                inode: further.and_then(|further| further.inode),
                ..template
            },
            Opened::PidFile
            | Opened::PidFileOfProgram
            | Opened::SuccessorPidFile
            | Opened::WritablePidFile => {
                let has_lock = has_lock(*opened);
                // The file of a successor is the pid file only after a success.
                let file = outcome.pid_file_place.as_ref();
                let file = file.filter(|_| *opened != Opened::SuccessorPidFile);
                let further = further.map(|further| (further.device, further.inode));
                let file = file.map(|file| (Some(file.device), Some(file.inode)));
                let (device, inode) = file.or(further).unwrap_or_default();
                Descriptor {
                    device,
                    inode,
                    file_type: FileType::Regular,
                    access: match has_lock {
                        true => AccessMode::Read,
                        false => AccessMode::ReadWrite,
                    },
                    nonblocking: true,
                    locked: cfg!(target_os = "linux").then_some(has_lock),
                    ..template
                }
            }
        };
        known.push(descriptor);
    }
    known.sort_by_key(|descriptor| descriptor.number);
}

pub(crate) fn judge_report(judge: &mut Judge, moment: &str, must: &Report, is: &Report) {
    macro_rules! compare_all {
        ($($field:ident),* $(,)?) => {{
            // The pattern names every field, so that none can be forgotten.
            let Report {
                pid,
                ppid,
                pgid,
                descriptors,
                groups: _,
                ignored_signals: _,
                caught_signals: _,
                environment,
                $($field),*
            } = must;
            judge.compare(format!("{moment}: pid"), pid, &is.pid);
            judge.compare(format!("{moment}: ppid"), ppid, &is.ppid);
            judge.compare(format!("{moment}: pgid"), pgid, &is.pgid);
            $(judge.compare_if_observed(format!("{moment}: {}", stringify!($field)), $field, &is.$field);)*
            judge_descriptors(judge, moment, descriptors, &is.descriptors);
            judge_environment(judge, moment, environment, &is.environment);
        }};
    }
    // The C library decides about its own signals.
    let apparent = |signals: Option<SignalSet>| {
        let none = SignalSet::default();
        let signals = signals?.iter().filter(|&signal| !is_reserved(signal));
        Some(signals.fold(none, SignalSet::with))
    };
    for (field, must, is) in [
        ("ignored_signals", must.ignored_signals, is.ignored_signals),
        ("caught_signals", must.caught_signals, is.caught_signals),
    ] {
        judge.compare_if_observed(format!("{moment}: {field}"), &apparent(must), &apparent(is));
    }
    let [predicted, observed] = [must, is].map(Report::groups_with_gid);
    judge.compare_if_observed(format!("{moment}: groups"), &predicted, &observed);
    compare_all!(
        sid,
        terminal,
        umask,
        uid,
        gid,
        capabilities,
        working_directory,
        root,
        blocked_signals,
        no_new_privileges,
        threads,
        files_owner,
    );
}

/// Compares each descriptor on its own, which makes a mismatch easy to read.
pub(crate) fn judge_descriptors(
    judge: &mut Judge,
    moment: &str,
    must: &Option<Vec<Descriptor>>,
    is: &Option<Vec<Descriptor>>,
) {
    let (Some(must), Some(is)) = (must, is) else {
        let field = format!("{moment}: descriptors are seen");
        judge.compare_if_observed(field, &must.as_ref().map(|_| ()), &is.as_ref().map(|_| ()));
        return;
    };
    let mut numbers: Vec<i32> = [must, is]
        .into_iter()
        .flatten()
        .map(|descriptor| descriptor.number)
        .collect();
    numbers.sort_unstable();
    numbers.dedup();
    for number in numbers {
        let with_number = |descriptors: &[Descriptor]| {
            let mut descriptors = descriptors.iter();
            descriptors
                .find(|descriptor| descriptor.number == number)
                .cloned()
        };
        let field = format!("{moment}: descriptor {number}");
        judge.compare(field, with_number(must), with_number(is));
    }
}

/// Replaces what stands for the pid of the daemon in its environment.
fn fill_in_pid(expected: &mut Report) {
    let variables = expected.environment.iter_mut();
    for value in variables.flat_map(|environment| environment.changeable.values_mut()) {
        if value.0 == PID_OF_DAEMON {
            *value = Bytes::from(expected.pid.to_string());
        }
    }
}

/// Replaces what stands for the address of the socket to which the program reports.
fn fill_in_address(expected: &mut Report, is: &Report, launcher: u32) {
    let found = is.variable("NOTIFY_SOCKET");
    let is_address = |found: &&str| found.starts_with(&format!("@daemonize2/{launcher}/"));
    let Some(found) = found.filter(is_address) else {
        return;
    };
    let variables = expected.environment.iter_mut();
    for value in variables.flat_map(|environment| environment.changeable.values_mut()) {
        if value.0 == ADDRESS_FOR_PROGRAM {
            *value = Bytes::from(found);
        }
    }
}

/// Compares each variable on its own.
fn judge_environment(
    judge: &mut Judge,
    moment: &str,
    must: &Option<Environment>,
    is: &Option<Environment>,
) {
    let (Some(must), Some(is)) = (must, is) else {
        let field = format!("{moment}: the environment is seen");
        judge.compare(field, must.is_some(), is.is_some());
        return;
    };
    let field = format!("{moment}: all other variables");
    judge.compare(field, must.others, is.others);
    let (must, is) = (&must.changeable, &is.changeable);
    let names: BTreeSet<&Bytes> = must.keys().chain(is.keys()).collect();
    for name in names {
        let field = format!("{moment}: variable {name:?}");
        judge.compare(field, must.get(name), is.get(name));
    }
}
