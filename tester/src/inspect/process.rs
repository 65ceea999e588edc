//! The program, its parent, its session and its terminal.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use super::{Inspected, Verdict, names};
use crate::observe;
use crate::report::Terminal;
use crate::sys;

pub(super) fn program(of: &Inspected) -> Verdict {
    let program = of.facts.program.as_ref().map(|program| {
        let path = names::shown(&program.path);
        match program.is_deleted {
            true => Verdict::finding(
                path,
                "the file was deleted or replaced: the old program runs until a restart",
            ),
            false => Verdict::ok(path, "the file is still there"),
        }
    });
    program.into()
}

pub(super) fn parent(of: &Inspected) -> Verdict {
    let ppid = of.report.ppid;
    let Some(parent) = &of.parent else {
        return match (of.report.pid, ppid) {
            (1, 0) => Verdict::ok(
                "none",
                "it is the first process of this system or container",
            ),
            (_, 0) => Verdict::unknown("none", "the parent is outside of this pid namespace"),
            _ => Verdict::unknown(format!("process {ppid}"), "the parent is not visible"),
        };
    };
    let name = names::process(parent);
    if ppid == 1 {
        return Verdict::ok(name, "init is the parent of a daemon");
    }
    if of.is_worker() {
        let reason = format!("it is the same program: inspect {ppid} for the daemon itself");
        return Verdict::ok(name, reason);
    }
    if of.is_service() {
        return Verdict::ok(name, "the service manager has started it, and says so");
    }
    if of.reaper == Some(ppid) {
        return Verdict::ok(name, "it adopts orphans here, as init does elsewhere");
    }
    let sessions = [of.report.sid, sys::session(ppid).ok()];
    match sessions {
        // Whoever forked a process that leads no session was in its session.
        [Some(own), Some(parents)] if own != parents && own != of.report.pid => Verdict::ok(
            name,
            "it is of another session, so that it has adopted the daemon",
        ),
        [Some(own), Some(parents)] if own == parents => Verdict::finding(
            name,
            "it is of the same session: the process that started the daemon has not ended",
        ),
        _ => Verdict::unknown(
            name,
            "whether it started or adopted the daemon is not visible",
        ),
    }
}

/// Only a leader can get one, and a session gets no new leader.
const LEADERLESS: &str = "its leader has ended: it can get no controlling terminal";

pub(super) fn session(of: &Inspected) -> Verdict {
    let session = of.report.sid.map(|sid| {
        let seen = format!("session {sid}");
        if sid == of.report.pid {
            return match of.is_service() {
                true => Verdict::ok(seen, "it leads the session that the service manager made"),
                false => Verdict::finding(
                    seen,
                    "it leads the session: a terminal opened without O_NOCTTY becomes its controlling one",
                ),
            };
        }
        if sid == 0 {
            return Verdict::unknown(seen, "the leader is not in this pid namespace");
        }
        match observe::process(sid) {
            Ok(Some(leader)) if leader.is_zombie() => {
                Verdict::ok(seen, LEADERLESS)
            }
            Ok(Some(leader)) if leader.name == of.process.name => {
                let leader = names::process(&leader);
                Verdict::ok(seen, format!("the same program leads it: {leader}"))
            }
            Ok(Some(leader)) => {
                let leader = names::process(&leader);
                Verdict::finding(seen, format!("it is not its own: {leader} leads it"))
            }
            Ok(None) => Verdict::ok(seen, LEADERLESS),
            Err(_) => Verdict::unknown(seen, "its leader is not visible"),
        }
    });
    session.into()
}

pub(super) fn terminal(of: &Inspected) -> Verdict {
    let terminal = of.report.terminal.map(|terminal| match terminal {
        Terminal::None => Verdict::ok("none", "no keyboard and no hang-up sends it signals"),
        Terminal::Device(device) => Verdict::finding(
            terminal_path(device),
            "its keyboard and its hang-up send the daemon signals",
        ),
    });
    terminal.into()
}

/// The path of a terminal, or the number of its device.
fn terminal_path(device: u64) -> String {
    let directories = ["/dev/pts", "/dev"].map(fs::read_dir);
    let mut entries = directories.into_iter().flatten().flatten().flatten();
    let path = entries.find_map(|entry| -> Option<PathBuf> {
        // Not through a symbolic link: /dev/stdin is none of the daemon's.
        let metadata = entry.metadata().ok()?;
        (metadata.rdev() == device).then(|| entry.path())
    });
    match path {
        Some(path) => path.display().to_string(),
        None => format!("device {device}"),
    }
}
