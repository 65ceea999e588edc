//! FreeBSD and macOS: a process asks the system about itself, and ps(1) about other
//! processes.

use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::process::Command;

use super::Process;
use crate::config::Disposition;
use crate::control::{self, RESERVED};
use crate::report::{
    AccessMode, Descriptor, FileType, IdTriple, Place, Report, SignalSet, Terminal,
};
use crate::sys;

/// Only the process itself sees its descriptors.
pub const OUTSIDE_IS_COMPLETE: bool = false;

/// Does nothing, since the view from inside reads no file.
///
/// # Errors
///
/// None.
pub fn prepare() -> io::Result<()> {
    Ok(())
}

/// Does nothing, since ps(1) shows the environment: to root that of every process, and
/// to a user that of the user's processes.
///
/// # Errors
///
/// None.
pub fn enroll(_token: &str) -> io::Result<()> {
    Ok(())
}

/// The calling process.
///
/// # Errors
///
/// Those of the system calls.
pub fn inside() -> io::Result<Report> {
    let pid = std::process::id();
    let mut groups = sys::supplementary_groups()?;
    groups.sort_unstable();
    // Only a call that sets the mask returns it.
    let umask = sys::set_umask(0o077)?;
    sys::set_umask(umask)?;
    let with = |wanted| {
        (1..=128)
            .filter(|&signal| sys::disposition(signal) == Some(wanted))
            .fold(SignalSet::default(), SignalSet::with)
    };
    Ok(Report {
        pid,
        ppid: std::os::unix::process::parent_id(),
        pgid: sys::process_group(pid)?,
        sid: Some(sys::session(pid)?),
        // Without /dev the terminal is unknown.
        terminal: match std::fs::File::open("/dev/tty") {
            Ok(_) => Some(Terminal::Some),
            Err(error) if error.raw_os_error() == Some(libc::ENXIO) => Some(Terminal::None),
            Err(_) => None,
        },
        umask: Some(umask),
        uid: Some(sys::user_ids()),
        gid: Some(sys::group_ids()),
        groups: Some(groups),
        working_directory: Some(Place::of(".".as_ref())?),
        root: Some(Place::of("/".as_ref())?),
        descriptors: Some(descriptors()?),
        blocked_signals: Some(sys::blocked_signals()),
        ignored_signals: Some(with(Disposition::Ignore)),
        caught_signals: Some(with(Disposition::Handle)),
        environment: Some(super::environment()),
        ..Report::default()
    })
}

fn descriptors() -> io::Result<Vec<Descriptor>> {
    (0..sys::descriptor_limit())
        .filter(|number| !RESERVED.contains(number))
        .filter_map(|number| Some((number, sys::descriptor_flags(number).ok()?)))
        .map(|(number, (descriptor_flags, status_flags))| {
            let metadata = sys::descriptor_metadata(number)?;
            let kind = metadata.file_type();
            Ok(Descriptor {
                number,
                device: metadata.dev(),
                inode: metadata.ino(),
                file_type: if kind.is_file() {
                    FileType::Regular
                } else if kind.is_dir() {
                    FileType::Directory
                } else if kind.is_char_device() {
                    FileType::CharacterDevice
                } else if kind.is_block_device() {
                    FileType::BlockDevice
                } else if kind.is_fifo() {
                    FileType::Pipe
                } else if kind.is_socket() {
                    FileType::Socket
                } else if kind.is_symlink() {
                    FileType::SymbolicLink
                } else {
                    FileType::Other
                },
                special_device: metadata.rdev(),
                access: match status_flags & libc::O_ACCMODE {
                    libc::O_RDONLY => AccessMode::Read,
                    libc::O_WRONLY => AccessMode::Write,
                    _ => AccessMode::ReadWrite,
                },
                close_on_exec: descriptor_flags & libc::FD_CLOEXEC != 0,
                nonblocking: status_flags & libc::O_NONBLOCK != 0,
                append: status_flags & libc::O_APPEND != 0,
                locked: None,
                target: None,
            })
        })
        .collect()
}

/// The lines that ps(1) prints for these arguments; none if it selects no
/// process.
fn ps(arguments: &[&str], columns: &[&str]) -> io::Result<Vec<String>> {
    // Each column gets its own option: on FreeBSD all text after an equals sign is the
    // title of the column (bin/ps/keyword.c, `parsefmt`).
    let columns = columns.iter().flat_map(|column| ["-o", column]);
    let output = Command::new("ps").args(arguments).args(columns).output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text.lines().map(str::to_owned).collect())
}

/// The first `N` numbers of a line.
fn numbers<const N: usize>(line: &str) -> Option<[u32; N]> {
    let mut fields = line.split_ascii_whitespace();
    let mut numbers = [0; N];
    for number in &mut numbers {
        *number = fields.next()?.parse().ok()?;
    }
    Some(numbers)
}

/// Another process, as far as ps(1) shows it.
///
/// # Errors
///
/// When there is no such process, or ps(1) fails.
pub fn outside(pid: u32) -> io::Result<Report> {
    let columns = [
        "pid=", "ppid=", "pgid=", "uid=", "ruid=", "svuid=", "rgid=", "svgid=",
    ];
    let lines = ps(&["-p", &pid.to_string()], &columns)?;
    let [
        pid,
        ppid,
        pgid,
        effective,
        real,
        saved,
        real_group,
        saved_group,
    ] = lines
        .first()
        .and_then(|line| numbers(line))
        .ok_or_else(|| io::Error::other(format!("ps shows no process {pid}")))?;
    Ok(Report {
        pid,
        ppid,
        pgid,
        sid: sys::session(pid).ok(),
        uid: Some(IdTriple {
            real,
            effective,
            saved: Some(saved),
        }),
        // The systems name the column of the effective group differently.
        gid: (real_group == saved_group).then_some(IdTriple {
            real: real_group,
            effective: real_group,
            saved: Some(saved_group),
        }),
        ..Report::default()
    })
}

fn parse(line: &str) -> Option<Process> {
    let [pid, ppid, pgid] = numbers(line)?;
    let mut rest = line.split_ascii_whitespace().skip(3);
    Some(Process {
        pid,
        ppid,
        pgid,
        state: rest.next()?.chars().next()?,
        name: rest.next().unwrap_or_default().to_owned(),
    })
}

const COLUMNS: [&str; 5] = ["pid=", "ppid=", "pgid=", "state=", "command="];

/// The living processes with this token in their environment, which ps(1)
/// appends to the command if asked by `environment_flag`.
///
/// # Errors
///
/// When ps(1) cannot be run.
pub(super) fn processes_with(environment_flag: &str, token: &str) -> io::Result<Vec<Process>> {
    let marker = format!("{}={token}", control::TOKEN);
    let lines = ps(&["-axww", environment_flag], &COLUMNS)?;
    Ok(lines
        .iter()
        .filter(|line| line.split_ascii_whitespace().any(|word| word == marker))
        .filter_map(|line| parse(line))
        .filter(|process| !process.is_zombie())
        .collect())
}

/// One process, which may be a zombie.
///
/// # Errors
///
/// When ps(1) cannot be run.
pub fn process(pid: u32) -> io::Result<Option<Process>> {
    let lines = ps(&["-p", &pid.to_string()], &COLUMNS)?;
    Ok(lines.first().and_then(|line| parse(line)))
}
