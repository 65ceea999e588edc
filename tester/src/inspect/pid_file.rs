//! The pid file: its content, its lock and its permissions.

use std::fs::{self, File, Metadata};
use std::io::{self, Read as _};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use super::{Inspected, Mark, Verdict, facts, names};
use crate::observe;
use crate::report::{Descriptor, FileType};

/// The pid file that is named, or the only file that the daemon has locked and that has its id.
fn path_of(of: &Inspected) -> Option<PathBuf> {
    if let Some(path) = &of.wanted.pid_file {
        return Some(path.clone());
    }
    let mut found = of
        .report
        .descriptors
        .iter()
        .flatten()
        .filter_map(|descriptor| {
            let is_locked = descriptor.file_type == FileType::Regular
                && facts::locks_of(of.process.pid, descriptor)
                    .is_some_and(|locks| !locks.is_empty());
            let path = descriptor.target.as_ref()?.to_path();
            // In another mount namespace, the path may lead to another file here.
            let is_here = is_locked && descriptor.is_file(&path);
            let content = is_here.then(|| read(&path).ok()).flatten()?;
            number_in(&content).is_some().then_some(path)
        });
    let first = found.next()?;
    found.all(|other| other == first).then_some(first)
}

fn not_named(of: &Inspected) -> Verdict {
    match of.report.descriptors {
        None => Verdict::unseen(),
        Some(_) => Verdict::unknown(
            "none found",
            "no open file is locked and has a process id: --pid-file names it",
        ),
    }
}

/// The first bytes of a regular file. Another file at its path is not waited for.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let file = File::options()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY | libc::O_NOFOLLOW)
        .open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut content = Vec::new();
    file.take(64).read_to_end(&mut content)?;
    Ok(content)
}

fn number_in(content: &[u8]) -> Option<u32> {
    let text = std::str::from_utf8(content).ok()?;
    text.trim().parse().ok()
}

pub(super) fn content(of: &Inspected) -> Verdict {
    let Some(path) = path_of(of) else {
        return not_named(of);
    };
    let seen = names::shown(path.as_os_str().as_encoded_bytes());
    let metadata = match fs::symlink_metadata(&path) {
        Err(error) => return unless_missing(seen, &error),
        Ok(metadata) => metadata,
    };
    let file_type = metadata.file_type();
    if file_type.is_symlink() {
        return Verdict::finding(
            seen,
            "it is a symbolic link: whoever made it chooses the file",
        );
    }
    if !file_type.is_file() {
        let kind = match () {
            () if file_type.is_dir() => "a directory",
            () if file_type.is_fifo() => "a FIFO",
            () => "a special file",
        };
        return Verdict::finding(seen, format!("it is {kind}, no regular file"));
    }
    match read(&path) {
        Err(error) => unless_missing(seen, &error),
        Ok(content) => judge_content(of, seen, &content),
    }
}

fn unless_missing(seen: String, error: &io::Error) -> Verdict {
    match error.kind() {
        io::ErrorKind::NotFound => Verdict::finding(seen, "it does not exist"),
        _ => Verdict::unknown(seen, format!("it cannot be read: {error}")),
    }
}

fn judge_content(of: &Inspected, seen: String, content: &[u8]) -> Verdict {
    let Some(number) = number_in(content) else {
        return Verdict::finding(
            seen,
            match content.is_empty() {
                true => "it is empty".to_owned(),
                false => "its content is no process id".to_owned(),
            },
        );
    };
    if of.has_id(number.to_string().as_bytes()) {
        return match content.ends_with(b"\n") {
            true => Verdict::ok(seen, "it names the daemon"),
            false => Verdict::ok(seen, "it names the daemon, without the end of a line"),
        };
    }
    if of.is_worker() && number == of.report.ppid {
        return Verdict::ok(
            seen,
            format!("it names the parent, {}", names::process_of_id(number)),
        );
    }
    match observe::process(number) {
        Ok(Some(other)) => Verdict::finding(
            seen,
            format!("it names another process, {}", names::process(&other)),
        ),
        Ok(None) => Verdict::finding(seen, format!("it names {number}, which does not run")),
        Err(_) => Verdict::finding(seen, format!("it names {number}, another process")),
    }
}

pub(super) fn lock(of: &Inspected) -> Vec<Verdict> {
    // Without a file, one line says so.
    let Some(path) = path_of(of) else {
        return Vec::new();
    };
    let Ok(metadata) = fs::metadata(&path) else {
        return Vec::new();
    };
    lock_of(of, &metadata).into()
}

fn lock_of(of: &Inspected, file: &Metadata) -> Verdict {
    let locks = facts::locks_on(file).unwrap_or_default();
    let other = locks
        .iter()
        .find(|lock| lock.pid != 0 && lock.pid != of.process.pid);
    let other = other.map(|lock| (lock.call(), names::process_of_id(lock.pid)));
    let Some(descriptors) = &of.report.descriptors else {
        return match locks.iter().find(|lock| lock.pid == of.process.pid) {
            Some(own) => Verdict::ok(
                own.call(),
                "the daemon has it, which excludes a second daemon",
            ),
            None => Verdict::unknown(
                "not visible",
                "only root sees the descriptors of the daemon",
            ),
        };
    };
    let is_it = |descriptor: &&Descriptor| {
        (descriptor.device, descriptor.inode) == (Some(file.dev()), Some(file.ino()))
    };
    let own: Option<Vec<_>> = descriptors
        .iter()
        .filter(is_it)
        .map(|descriptor| facts::locks_of(of.process.pid, descriptor))
        .collect();
    let Some(own) = own else {
        return Verdict::unseen();
    };
    let mut own: Vec<_> = own
        .concat()
        .iter()
        .map(|lock| lock.call().to_owned())
        .collect();
    own.dedup();
    match (own.is_empty(), other) {
        (false, _) => Verdict::ok(
            own.join(", "),
            "the daemon has it, which excludes a second daemon",
        ),
        (true, Some((call, holder))) => Verdict::finding(
            call,
            format!("the daemon has no lock; {holder} has taken it"),
        ),
        (true, None) => Verdict::finding(
            "none",
            "a second daemon can start, and nothing proves that the file is of a running one",
        ),
    }
}

pub(super) fn permissions(of: &Inspected) -> Vec<Verdict> {
    let Some(path) = path_of(of) else {
        return Vec::new();
    };
    let Ok(metadata) = fs::metadata(&path) else {
        return Vec::new();
    };
    let seen = described(&metadata);
    let mut faults = Vec::from_iter(writers(of, &metadata, "the file"));
    // A signal to the holder of a lock does not trust the content.
    let lock = match metadata.uid() {
        0 => Mark::Ok,
        _ => lock_of(of, &metadata).mark,
    };
    if lock == Mark::Finding && faults.is_empty() {
        faults.push(format!(
            "{} may write any id into it, to which root then sends a signal",
            names::user(metadata.uid())
        ));
    }
    let directory = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    let directory = fs::metadata(directory.unwrap_or(".".as_ref()));
    // In a directory with the sticky bit, nobody replaces the files of others.
    let directory = directory.ok().filter(|found| found.mode() & 0o1000 == 0);
    faults.extend(directory.and_then(|directory| writers(of, &directory, "its directory")));
    match lock {
        _ if !faults.is_empty() => Verdict::finding(seen, faults.join("; ")),
        Mark::Unknown => Verdict::unknown(seen, "whether a lock proves the content is not visible"),
        _ => Verdict::ok(seen, "nobody else may change it"),
    }
    .into()
}

fn described(metadata: &Metadata) -> String {
    let [user, group] = [names::user(metadata.uid()), names::group(metadata.gid())];
    format!("mode {:04o} of {user}, {group}", metadata.mode() & 0o7777)
}

/// The fault that somebody else than root and the daemon may write a file or a directory.
fn writers(of: &Inspected, metadata: &Metadata, what: &str) -> Option<String> {
    let daemon = of.report.uid.map(|uid| uid.effective);
    let owner = metadata.uid();
    if metadata.mode() & 0o002 != 0 {
        return Some(format!("every user may write {what}"));
    }
    if owner != 0 && Some(owner) != daemon {
        return Some(format!("{} may write {what}", names::user(owner)));
    }
    // The group of the daemon is as good as the daemon, and that of root as root.
    let own = of.report.gid.map(|gid| gid.effective);
    let gid = metadata.gid();
    if metadata.mode() & 0o020 != 0 && gid != 0 && Some(gid) != own {
        return Some(format!("the group {} may write {what}", names::group(gid)));
    }
    None
}
