//! Linux: proc(5).

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::MetadataExt as _;

use super::{Facts, Limit, Lock, Other, Others, Program, Thread};
use crate::report::{AccessMode, Descriptor, SignalSet};
use crate::sys;

pub(in crate::inspect) use sys::are_copies;

pub(in crate::inspect) fn facts(pid: u32) -> Facts {
    let status = text(pid, "status").unwrap_or_default();
    Facts {
        // It has no memory of its own.
        is_kernel_thread: !status.is_empty() && field(&status, "VmSize").is_none(),
        program: program(pid).ok(),
        pids: field(&status, "NSpid").map(numbers).unwrap_or_default(),
        threads: threads(pid),
        limits: text(pid, "limits").map(|text| limits(&text)),
        environment: bytes(pid, "environ").map(|bytes| {
            let variables = bytes.split(|&byte| byte == 0);
            variables
                .filter(|one| !one.is_empty())
                .map(<[u8]>::to_vec)
                .collect()
        }),
        others: others(pid).ok(),
    }
}

pub(in crate::inspect) fn metadata(pid: u32, descriptor: &Descriptor) -> Option<Metadata> {
    fs::metadata(format!("/proc/{pid}/fd/{}", descriptor.number)).ok()
}

pub(in crate::inspect) fn locks_of(pid: u32, descriptor: &Descriptor) -> Option<Vec<Lock>> {
    let info = text(pid, &format!("fdinfo/{}", descriptor.number))?;
    let lines = info.lines().filter_map(|line| line.strip_prefix("lock:"));
    Some(
        lines
            .filter_map(|line| lock(line).map(|(lock, _)| lock))
            .collect(),
    )
}

pub(in crate::inspect) fn locks_on(file: &Metadata) -> Option<Vec<Lock>> {
    let device = format!(
        "{:02x}:{:02x}",
        libc::major(file.dev()),
        libc::minor(file.dev())
    );
    let wanted = format!("{device}:{}", file.ino());
    let locks = fs::read_to_string("/proc/locks").ok()?;
    let locks = locks.lines().filter_map(lock);
    Some(
        locks
            .filter(|(_, place)| *place == wanted)
            .map(|(lock, _)| lock)
            .collect(),
    )
}

/// A line of /proc/locks, and the file that it names.
fn lock(line: &str) -> Option<(Lock, &str)> {
    // A waiter for the lock has an arrow before its kind.
    let mut words = line.split_ascii_whitespace().skip(1);
    let kind = words.next().filter(|&kind| kind != "->")?;
    let mut words = words.skip(2);
    let lock = Lock {
        kind: kind.to_owned(),
        pid: words.next()?.parse().unwrap_or(0),
    };
    Some((lock, words.next()?))
}

pub(in crate::inspect) fn accepted_signals(pid: u32, descriptor: &Descriptor) -> SignalSet {
    let info = text(pid, &format!("fdinfo/{}", descriptor.number)).unwrap_or_default();
    field(&info, "sigmask").map_or(SignalSet::default(), signals)
}

fn bytes(pid: u32, file: &str) -> Option<Vec<u8>> {
    fs::read(format!("/proc/{pid}/{file}")).ok()
}

fn text(pid: u32, file: &str) -> Option<String> {
    bytes(pid, file).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

/// The value of a line that begins with a name and a colon.
fn field<'text>(text: &'text str, name: &str) -> Option<&'text str> {
    let mut lines = text.lines();
    let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    Some(value.trim())
}

fn numbers(text: &str) -> Vec<u32> {
    text.split_ascii_whitespace()
        .filter_map(|number| number.parse().ok())
        .collect()
}

fn signals(mask: &str) -> SignalSet {
    SignalSet(u128::from_str_radix(mask, 16).unwrap_or_default())
}

fn program(pid: u32) -> io::Result<Program> {
    let path = fs::read_link(format!("/proc/{pid}/exe"))?;
    // A file may have such a name, too.
    let is_deleted = path.as_os_str().as_encoded_bytes().ends_with(b" (deleted)") && !path.exists();
    Ok(Program {
        path: path.into_os_string().into_vec(),
        is_deleted,
    })
}

fn threads(pid: u32) -> Option<Vec<Thread>> {
    // Another bounding set grants nothing.
    const PRIVILEGES: [&str; 8] = [
        "Uid",
        "Gid",
        "Groups",
        "CapInh",
        "CapPrm",
        "CapEff",
        "CapAmb",
        "NoNewPrivs",
    ];
    let mut threads = Vec::new();
    for id in numbers_in(&format!("/proc/{pid}/task")).ok()? {
        // The thread may have ended since.
        let Some(status) = text(pid, &format!("task/{id}/status")) else {
            continue;
        };
        let line = |name: &&str| Some(format!("{name} {}", field(&status, name)?));
        threads.push(Thread {
            id,
            privileges: PRIVILEGES.iter().filter_map(line).collect(),
            blocked: field(&status, "SigBlk").map(signals)?,
        });
    }
    Some(threads)
}

/// The entries of a directory that are numbers, in order.
fn numbers_in(directory: &str) -> io::Result<Vec<u32>> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(directory)? {
        numbers.extend(
            entry?
                .file_name()
                .to_str()
                .and_then(|name| name.parse::<u32>().ok()),
        );
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// Each line has a name, which may contain spaces, and columns of a fixed width.
fn limits(text: &str) -> Vec<Limit> {
    const SOFT: usize = 26;
    let lines = text
        .lines()
        .skip(1)
        .filter(|line| line.is_char_boundary(SOFT));
    lines
        .filter_map(|line| {
            let (name, values) = line.split_at_checked(SOFT)?;
            let soft = values.split_ascii_whitespace().next()?;
            Some(Limit {
                name: name.trim().to_owned(),
                soft: match soft {
                    "unlimited" => None,
                    number => Some(number.parse().ok()?),
                },
            })
        })
        .collect()
}

fn others(pid: u32) -> io::Result<Others> {
    let own = std::process::id();
    let mut others = Others {
        descriptors: Vec::new(),
        are_complete: true,
    };
    for other in numbers_in("/proc")? {
        if other == pid || other == own {
            continue;
        }
        match numbers_in(&format!("/proc/{other}/fd")) {
            Ok(numbers) => {
                let found = numbers
                    .into_iter()
                    .filter_map(|number| other_descriptor(other, number));
                others.descriptors.extend(found);
            }
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                others.are_complete = false;
            }
            // The process has ended since.
            Err(_) => {}
        }
    }
    Ok(others)
}

fn other_descriptor(pid: u32, number: u32) -> Option<Other> {
    let path = format!("/proc/{pid}/fd/{number}");
    let metadata = fs::metadata(&path).ok()?;
    // The permissions of the link are those of the open file.
    let mode = fs::symlink_metadata(&path).ok()?.mode();
    Some(Other {
        pid,
        number: number.try_into().ok()?,
        device: metadata.dev(),
        inode: metadata.ino(),
        access: match (mode & 0o400 != 0, mode & 0o200 != 0) {
            (true, true) => AccessMode::ReadWrite,
            (true, false) => AccessMode::Read,
            (false, true) => AccessMode::Write,
            (false, false) => AccessMode::PathOnly,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_read_without_its_waiters() {
        let held = "1: FLOCK  ADVISORY  WRITE 722 fe:00:1040 0 EOF";
        let expected = Lock {
            kind: "FLOCK".to_owned(),
            pid: 722,
        };
        assert_eq!(lock(held), Some((expected, "fe:00:1040")));
        let waiting = "1: -> FLOCK  ADVISORY  WRITE 723 fe:00:1040 0 EOF";
        assert_eq!(lock(waiting), None);
    }

    /// An open file description lock belongs to no process: its pid is -1.
    #[test]
    fn a_lock_may_belong_to_no_process() {
        let held = "7: OFDLCK ADVISORY  WRITE -1 08:01:5 0 EOF";
        let (lock, file) = lock(held).expect("a lock");
        assert_eq!((&*lock.kind, lock.pid, file), ("OFDLCK", 0, "08:01:5"));
    }

    #[test]
    fn limits_are_read_by_name() {
        let text = "Limit                     Soft Limit           Hard Limit           Units     \n\
                    Max cpu time              unlimited            unlimited            seconds   \n\
                    Max open files            1024                 20000                files     \n";
        let limits: Vec<_> = limits(text)
            .into_iter()
            .map(|one| (one.name, one.soft))
            .collect();
        let expected = [("Max cpu time", None), ("Max open files", Some(1024))];
        assert_eq!(limits, expected.map(|(name, soft)| (name.to_owned(), soft)));
    }
}
