//! The standard streams, and every other descriptor.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;

use super::facts::{self, Other, Others};
use super::{Inspected, Mark, Verdict, directories, names};
use crate::observe;
use crate::report::{AccessMode, Descriptor, FileType, Place};

pub(super) fn standard_input(of: &Inspected) -> Verdict {
    stream(of, 0)
}

pub(super) fn standard_output(of: &Inspected) -> Verdict {
    stream(of, 1)
}

pub(super) fn standard_error(of: &Inspected) -> Verdict {
    stream(of, 2)
}

fn stream(of: &Inspected, number: i32) -> Verdict {
    if of.report.descriptors.is_none() {
        return Verdict::unseen();
    }
    let Some(descriptor) = of.report.descriptor(number) else {
        return Verdict::finding(
            "closed",
            "the next file that the daemon opens becomes this stream",
        );
    };
    let seen = describe(descriptor);
    if descriptor.is_null_device() {
        return Verdict::ok(seen, "daemon(7) asks for it");
    }
    let faults = faults(of, descriptor);
    if !faults.is_empty() {
        return Verdict::finding(seen, faults.join("; "));
    }
    match (number, descriptor.file_type) {
        (_, FileType::Socket) if of.is_service() => {
            Verdict::ok(seen, "the service manager may pass a socket")
        }
        (0, _) => Verdict::finding(
            seen,
            "it is not /dev/null: the daemon may read what is not meant for it",
        ),
        (_, FileType::Pipe) => pipe(of, descriptor, seen),
        (_, FileType::Regular) => Verdict::ok(seen, "a log file"),
        (_, FileType::Socket) => Verdict::ok(seen, "a socket, as of a logger"),
        _ => Verdict::ok(seen, "it is no terminal"),
    }
}

/// A stream that is the writing end of a pipe.
fn pipe(of: &Inspected, pipe: &Descriptor, seen: String) -> Verdict {
    let reads = |access| matches!(access, AccessMode::Read | AccessMode::ReadWrite);
    let mut own = of.report.descriptors.iter().flatten();
    if own.any(|one| is_same_file(one, pipe) && reads(one.access)) {
        return Verdict::ok(seen, "the daemon reads the pipe itself");
    }
    let Some(others) = &of.facts.others else {
        return Verdict::unknown(seen, "whether a process reads the pipe is not visible");
    };
    let reader = of_same_file(others, pipe).find(|other| reads(other.access));
    match reader {
        Some(reader) => {
            let reader = names::process_of_id(reader.pid);
            Verdict::ok(
                seen,
                format!("{reader} reads the pipe, and sees no end of file while the daemon runs"),
            )
        }
        None if others.are_complete => {
            Verdict::finding(seen, "nobody reads the pipe: the next write sends SIGPIPE")
        }
        None => Verdict::unknown(
            seen,
            "whether a process of another user reads the pipe is not visible",
        ),
    }
}

pub(super) fn others(of: &Inspected) -> Vec<Verdict> {
    let Some(descriptors) = &of.report.descriptors else {
        return Verdict::unseen().into();
    };
    let others = descriptors
        .iter()
        .filter(|descriptor| descriptor.number > 2);
    let verdicts = others.map(|descriptor| Verdict {
        number: Some(descriptor.number),
        ..other(of, descriptor)
    });
    let verdicts: Vec<_> = verdicts.collect();
    match verdicts.is_empty() {
        true => Verdict::ok("none", "only the standard streams are open").into(),
        false => verdicts,
    }
}

fn other(of: &Inspected, descriptor: &Descriptor) -> Verdict {
    let seen = describe(descriptor);
    if of.wanted.kept.contains(&descriptor.number) {
        return Verdict::ok(seen, "it is expected: --keep");
    }
    let mut faults = faults(of, descriptor);
    if is_passed_by_service_manager(of, descriptor.number) && faults.is_empty() {
        return Verdict::ok(seen, "the service manager has passed it: LISTEN_FDS");
    }
    faults.extend(sharers(of, descriptor));
    if descriptor.close_on_exec == Some(false) {
        faults.push(
            "it is not close-on-exec: it was inherited, or programs that the daemon executes inherit it"
                .to_owned(),
        );
    }
    if !faults.is_empty() {
        return Verdict::finding(seen, faults.join("; "));
    }
    match descriptor.close_on_exec {
        Some(_) => Verdict::ok(seen, "it is closed on exec: its own"),
        None => Verdict::new(
            Mark::Unknown,
            seen,
            "whether programs that the daemon executes inherit it is not visible",
        ),
    }
}

/// The target and the flags.
fn describe(descriptor: &Descriptor) -> String {
    let access = match descriptor.access {
        AccessMode::Read => "read",
        AccessMode::Write => "write",
        AccessMode::ReadWrite => "read and write",
        AccessMode::PathOnly => "path only",
    };
    let flags = [
        (descriptor.append, "append"),
        (descriptor.nonblocking, "nonblocking"),
        (descriptor.locked == Some(true), "locked"),
        (descriptor.close_on_exec == Some(true), "close-on-exec"),
    ];
    let flags = flags
        .into_iter()
        .filter_map(|(is_set, name)| is_set.then_some(name));
    let flags: Vec<_> = [access].into_iter().chain(flags).collect();
    format!(
        "{} ({})",
        names::path(descriptor.target.as_ref()),
        flags.join(", ")
    )
}

/// What is wrong with the open file, whatever its number.
fn faults(of: &Inspected, descriptor: &Descriptor) -> Vec<String> {
    let mut faults = Vec::new();
    if is_terminal(descriptor) {
        faults.push(
            "it is a terminal: the daemon prints on it, and its hang-up is an error".to_owned(),
        );
    }
    if descriptor.file_type == FileType::Directory && is_outside_of_root(of, descriptor) {
        faults.push("it leads out of the root directory: fchdir(2)".to_owned());
    }
    let Some(metadata) = facts::metadata(of.process.pid, descriptor) else {
        return faults;
    };
    if descriptor.file_type != FileType::Regular {
        return faults;
    }
    if metadata.nlink() == 0 {
        if !never_had_a_name(descriptor) {
            faults.push(
                "the file was deleted: it takes space, and nobody finds what is written".to_owned(),
            );
        }
        return faults;
    }
    if metadata.mode() & 0o002 != 0 {
        faults.push("every user may write the file".to_owned());
    }
    faults.extend(excess(of, descriptor, &metadata));
    faults
}

/// Whether it is a terminal, by its path.
fn is_terminal(descriptor: &Descriptor) -> bool {
    let target = descriptor.target.as_ref();
    let path = target.map(|target| target.to_path());
    descriptor.file_type == FileType::CharacterDevice
        && path.is_some_and(|path| {
            let name = path
                .file_name()
                .and_then(|name| name.to_str())
                .unwrap_or_default();
            path.starts_with("/dev/pts") && name != "ptmx"
                || path.starts_with("/dev") && (name.starts_with("tty") || name == "console")
        })
}

fn is_outside_of_root(of: &Inspected, descriptor: &Descriptor) -> bool {
    let (Some(root), Some(device), Some(inode)) =
        (&of.report.root, descriptor.device, descriptor.inode)
    else {
        return false;
    };
    let path = descriptor.target.clone();
    directories::is_outside(
        &Place {
            device,
            inode,
            path,
        },
        root,
    )
}

/// Files of memory, and files that O_TMPFILE has made: their names begin with `/memfd:` and others,
/// or are a number.
fn never_had_a_name(descriptor: &Descriptor) -> bool {
    let Some(target) = &descriptor.target else {
        return false;
    };
    let path = target.to_path();
    let is_of_kernel = ["/memfd:", "/dev/zero", "/SYSV", "/[aio]"]
        .iter()
        .any(|name| target.0.starts_with(name.as_bytes()));
    is_of_kernel
        || path.file_name().is_some_and(|name| {
            let name = name.to_string_lossy();
            let number = name
                .strip_prefix('#')
                .and_then(|name| name.strip_suffix(" (deleted)"));
            number.is_some_and(|number| number.bytes().all(|byte| byte.is_ascii_digit()))
        })
}

/// Access to a file that an ordinary user would not get by its mode. A log file that can only be
/// appended to is what a former identity is expected to leave.
fn excess(of: &Inspected, descriptor: &Descriptor, metadata: &Metadata) -> Option<String> {
    let (uid, gid, groups) = (
        of.report.uid?.effective,
        of.report.gid?.effective,
        of.report.groups.as_ref()?,
    );
    let capabilities = of.report.capabilities.map_or(0, |sets| sets.effective);
    let overriding = names::capability_set(&["DAC_OVERRIDE", "DAC_READ_SEARCH"]);
    if uid == 0 || capabilities & overriding != 0 {
        return None;
    }
    let class = match () {
        () if metadata.uid() == uid => 6,
        () if metadata.gid() == gid || groups.contains(&metadata.gid()) => 3,
        () => 0,
    };
    let is_permitted = |bit: u32| metadata.mode() >> class & bit != 0;
    let (reads, writes) = match descriptor.access {
        AccessMode::Read => (true, false),
        AccessMode::Write => (false, true),
        AccessMode::ReadWrite => (true, true),
        AccessMode::PathOnly => (false, false),
    };
    let excess = match () {
        // A lock takes an open file: a former identity leaves a locked pid file for reading.
        () if reads && !writes && descriptor.locked == Some(true) => return None,
        () if reads && !is_permitted(0o4) => "read",
        () if writes && !descriptor.append && !is_permitted(0o2) => "write",
        () => return None,
    };
    Some(format!(
        "{} could not open it to {excess}: it is mode {:04o} of {}",
        names::user(uid),
        metadata.mode() & 0o7777,
        names::user(metadata.uid())
    ))
}

fn is_passed_by_service_manager(of: &Inspected, number: i32) -> bool {
    let count = of
        .variable("LISTEN_FDS")
        .and_then(|count| std::str::from_utf8(count).ok()?.parse().ok());
    let is_meant = of.variable("LISTEN_PID").is_some_and(|pid| of.has_id(pid));
    is_meant && count.is_some_and(|count: i32| (3..3_i32.saturating_add(count)).contains(&number))
}

fn is_same_file(one: &Descriptor, other: &Descriptor) -> bool {
    one.device.is_some() && (one.device, one.inode) == (other.device, other.inode)
}

fn of_same_file<'others>(
    others: &'others Others,
    descriptor: &Descriptor,
) -> impl Iterator<Item = &'others Other> {
    let place = (descriptor.device, descriptor.inode);
    let descriptors = others.descriptors.iter();
    descriptors.filter(move |other| (Some(other.device), Some(other.inode)) == place)
}

/// The fault that a process, to which the daemon is not related, has a copy of a descriptor: one of
/// them, or both, have inherited it.
fn sharers(of: &Inspected, descriptor: &Descriptor) -> Option<String> {
    let others = of.facts.others.as_ref()?;
    let own = (of.process.pid, descriptor.number);
    let sharer = of_same_file(others, descriptor)
        .filter(|other| other.access == descriptor.access)
        .filter(|other| match descriptor.file_type {
            // A socket has no other open file, and the same end of a pipe hardly ever.
            FileType::Socket | FileType::Pipe => true,
            FileType::Regular | FileType::Directory => {
                facts::are_copies(own, (other.pid, other.number)) == Some(true)
            }
            // Event queues and the like all have one inode.
            _ => false,
        })
        .find(|other| !is_related(of, other.pid))?;
    Some(format!(
        "{} has a copy of it",
        names::process_of_id(sharer.pid)
    ))
}

/// Whether the other process is init, the parent, a descendant, or runs the same program.
fn is_related(of: &Inspected, other: u32) -> bool {
    if other == 1 || other == of.report.ppid {
        return true;
    }
    let mut ancestor = other;
    // Processes come and go, so that the chain of parents might be a circle.
    for _ in 0..64 {
        match observe::process(ancestor) {
            Ok(Some(found)) if found.ppid == of.process.pid => return true,
            Ok(Some(found)) if ancestor == other && found.name == of.process.name => return true,
            Ok(Some(found)) if found.ppid > 1 => ancestor = found.ppid,
            _ => break,
        }
    }
    false
}
