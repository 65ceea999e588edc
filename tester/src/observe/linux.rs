//! Linux: proc(5) shows everything, to the process itself and to its observer.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use super::{Mark, Process, unless_forbidden};
use crate::config::Bytes;
use crate::control::{self, RESERVED};

use crate::report::{
    AccessMode, Capabilities, Descriptor, FileType, IdTriple, Place, Report, SignalSet, Terminal,
};
use crate::sys;

pub const EXISTS: bool = true;

/// /proc shows the signals whose disposition is `SIG_IGN`, and no others.
pub(super) const IGNORED_BY_DEFAULT: &[i32] = &[];

/// Both views read /proc, which shows the signals of the C library as well.
pub(super) const RESERVED_SIGNALS: &[i32] = &[];

pub const UNSEEN: &[&str] = &[];

/// A process that may trace another process sees all of it.
pub(super) fn is_seen_outside(_field: &str) -> bool {
    true
}

/// Opens /proc at its reserved number, since a jail has no /proc.
///
/// # Errors
///
/// When there is no /proc.
pub fn prepare() -> io::Result<()> {
    sys::keep_at(File::open("/proc")?.into(), control::PROC, true)
}

/// The calling process.
///
/// # Errors
///
/// When [`prepare`] was not called, or /proc says something unexpected.
pub fn inside() -> io::Result<Report> {
    let proc = sys::inherited(control::PROC)
        .ok_or_else(|| io::Error::other("the descriptor of /proc is not open"))?;
    let mut report = Entry::new(proc, "self").report()?;
    report.environment = Some(super::environment());
    if let Some(descriptors) = &mut report.descriptors {
        descriptors.retain(|descriptor| !RESERVED.contains(&descriptor.number));
    }
    Ok(report)
}

/// Another process.
///
/// # Errors
///
/// When there is no such process. A field that may not be read is `None`.
pub fn outside(pid: u32) -> io::Result<Report> {
    let proc = File::open("/proc")?;
    Entry::new(proc.as_fd(), &pid.to_string()).report()
}

/// The line of /proc/PID/limits that holds a case's [`Mark`].
const MARKED_LIMIT: &str = "Max realtime timeout";

/// Sets the soft limit `RLIMIT_RTTIME` to the [`Mark`] of the case. The limit only matters
/// to real-time processes. Only a process that may trace another may read its environment:
/// in a container, root may not do so once the process has changed its ids.
///
/// # Errors
///
/// Those of setrlimit(2).
pub fn enroll(token: &str) -> io::Result<()> {
    sys::set_marked_limit(Mark::of(token)?.0)
}

/// The living processes of the case with this token.
///
/// # Errors
///
/// When /proc cannot be listed.
pub fn processes_of(token: &str) -> io::Result<Vec<Process>> {
    let mark = Mark::of(token)?.0;
    let proc = File::open("/proc")?;
    let names = sys::list(sys::open_at(proc.as_fd(), c".")?)?;
    let mut found = Vec::new();
    for name in names.iter().filter_map(|name| name.to_str().ok()) {
        let Ok(pid) = name.parse() else {
            continue;
        };
        let entry = Entry::new(proc.as_fd(), name);
        // The system call costs far less than the file, which every user may read.
        let limit = match sys::marked_limit(pid) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => entry.marked_limit(),
            limit => limit.ok(),
        };
        if limit != Some(mark) {
            continue;
        }
        match entry.stat() {
            Ok(stat) if !stat.is_exiting && !stat.process.is_zombie() => found.push(stat.process),
            _ => {}
        }
    }
    Ok(found)
}

/// One process, which may be a zombie.
///
/// # Errors
///
/// When /proc cannot be read.
pub fn process(pid: u32) -> io::Result<Option<Process>> {
    let proc = File::open("/proc")?;
    match Entry::new(proc.as_fd(), &pid.to_string()).stat() {
        Ok(stat) => Ok(Some(stat.process)),
        Err(error) if is_gone(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The kernel returns ENOENT before, and ESRCH after a file of the process is opened.
fn is_gone(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ESRCH))
}

/// The directory of a process in /proc.
struct Entry<'proc> {
    proc: BorrowedFd<'proc>,
    name: String,
}

/// The fields of `stat` that are used.
struct Stat {
    process: Process,
    session: u32,
    terminal: u64,
    /// Whether the process has entered `do_exit`. It runs no more code of its own, but its
    /// state is R or D until the kernel has closed its files and made it a zombie.
    is_exiting: bool,
}

/// `PF_EXITING` of include/linux/sched.h.
const EXITING: i64 = 0x4;

impl Stat {
    /// The name in parentheses may contain any character, so that the other fields begin
    /// after the last closing parenthesis.
    ///
    /// A process that is reaped during the read has no parent and no group, whatever its
    /// state (fs/proc/array.c, `do_task_stat`): it is gone.
    fn parse(text: &str) -> io::Result<Self> {
        let fields = || {
            let (head, tail) = text.rsplit_once(") ")?;
            let (pid, name) = head.split_once(" (")?;
            let mut fields = tail.split_ascii_whitespace();
            let state = fields.next()?.chars().next()?;
            let mut number = || fields.next()?.parse::<i64>().ok();
            let numbers = [number()?, number()?, number()?, number()?];
            let _foreground_group = number()?;
            let flags = number()?;
            Some((pid.parse().ok()?, name, state, numbers, flags))
        };
        let stat = |(pid, name, state, numbers, flags): (u32, &str, char, [i64; 4], i64)| {
            let [ppid, pgid, session, terminal] = numbers;
            Some(Self {
                process: Process {
                    pid,
                    ppid: ppid.try_into().ok()?,
                    pgid: pgid.try_into().ok()?,
                    state,
                    name: name.to_owned(),
                },
                session: session.try_into().ok()?,
                // The kernel prints the device number as a signed int.
                terminal: (terminal & i64::from(u32::MAX)).try_into().ok()?,
                is_exiting: flags & EXITING != 0,
            })
        };
        match fields() {
            Some((.., [_, -1, -1, _], _)) => Err(io::Error::from_raw_os_error(libc::ESRCH)),
            fields => fields
                .and_then(stat)
                .ok_or_else(|| unexpected("stat", text)),
        }
    }
}

impl<'proc> Entry<'proc> {
    fn new(proc: BorrowedFd<'proc>, name: &str) -> Self {
        Self {
            proc,
            name: name.to_owned(),
        }
    }

    fn path(&self, file: &str) -> CString {
        CString::new(format!("{}/{file}", self.name)).expect("no NUL in these names")
    }

    fn read(&self, file: &str) -> io::Result<Vec<u8>> {
        let mut opened = File::from(sys::open_at(self.proc, &self.path(file))?);
        // Most files fit at once: the harness reads the limits of every process of the
        // machine again and again.
        let mut bytes = vec![0; 1 << 15];
        let mut length = 0;
        loop {
            if length == bytes.len() {
                bytes.resize(2 * length, 0);
            }
            match opened.read(&mut bytes[length..]) {
                Ok(0) => break,
                Ok(read) => length += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        bytes.truncate(length);
        Ok(bytes)
    }

    /// `None` if the process has ended, or has no limit.
    fn marked_limit(&self) -> Option<u64> {
        let limits = self.read("limits").ok()?;
        let limits = String::from_utf8_lossy(&limits);
        let mut limits = limits.lines();
        let values = limits.find_map(|line| line.strip_prefix(MARKED_LIMIT))?;
        values.split_ascii_whitespace().next()?.parse().ok()
    }

    fn place(&self, file: &str) -> io::Result<Place> {
        let path = self.path(file);
        let stat = sys::stat_at(self.proc, &path)?;
        Ok(Place {
            device: stat.device,
            inode: stat.inode,
            path: Some(Bytes(sys::read_link_at(self.proc, &path)?)),
        })
    }

    fn stat(&self) -> io::Result<Stat> {
        Stat::parse(&String::from_utf8_lossy(&self.read("stat")?))
    }

    fn report(&self) -> io::Result<Report> {
        let stat = self.stat()?;
        let status = self.read("status")?;
        let status = Status(String::from_utf8_lossy(&status).into_owned());
        let mut groups: Vec<u32> = status.list("Groups", 10)?;
        groups.sort_unstable();
        Ok(Report {
            pid: stat.process.pid,
            ppid: stat.process.ppid,
            pgid: stat.process.pgid,
            sid: Some(stat.session),
            terminal: Some(match stat.terminal {
                0 => Terminal::None,
                device => Terminal::Device(device),
            }),
            umask: Some(status.one("Umask", 8)?),
            uid: Some(status.ids("Uid")?),
            gid: Some(status.ids("Gid")?),
            groups: Some(groups),
            capabilities: Some(Capabilities {
                inheritable: status.one("CapInh", 16)?,
                permitted: status.one("CapPrm", 16)?,
                effective: status.one("CapEff", 16)?,
                bounding: status.one("CapBnd", 16)?,
                ambient: status.one("CapAmb", 16)?,
            }),
            working_directory: unless_forbidden(self.place("cwd"))?,
            root: unless_forbidden(self.place("root"))?,
            descriptors: unless_forbidden(self.descriptors())?,
            blocked_signals: Some(status.signals("SigBlk")?),
            ignored_signals: Some(status.signals("SigIgn")?),
            caught_signals: Some(status.signals("SigCgt")?),
            no_new_privileges: Some(status.one::<u32>("NoNewPrivs", 10)? != 0),
            threads: Some(status.one("Threads", 10)?),
            files_owner: Some(sys::stat_at(self.proc, &self.path("status"))?.uid),
            environment: None,
        })
    }

    fn descriptors(&self) -> io::Result<Vec<Descriptor>> {
        let directory = sys::open_at(self.proc, &self.path("fd"))?;
        // A process that observes itself lists this descriptor, too.
        let own = directory.as_raw_fd();
        let mut numbers: Vec<i32> = sys::list(directory)?
            .iter()
            .filter_map(|name| name.to_str().ok()?.parse().ok())
            .collect();
        if self.name == "self" || self.name == std::process::id().to_string() {
            numbers.retain(|&number| number != own);
        }
        numbers.sort_unstable();
        numbers
            .into_iter()
            .filter_map(|number| self.descriptor_if_open(number).transpose())
            .collect()
    }

    /// A running process may close a descriptor after the observer has listed it.
    fn descriptor_if_open(&self, number: i32) -> io::Result<Option<Descriptor>> {
        match self.descriptor(number) {
            Ok(descriptor) => Ok(Some(descriptor)),
            Err(error) if is_gone(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn descriptor(&self, number: i32) -> io::Result<Descriptor> {
        let path = self.path(&format!("fd/{number}"));
        let stat = sys::stat_at(self.proc, &path)?;
        let info = self.read(&format!("fdinfo/{number}"))?;
        let info = Status(String::from_utf8_lossy(&info).into_owned());
        let flags: i32 = info.one("flags", 8)?;
        Ok(Descriptor {
            number,
            device: Some(stat.device),
            inode: Some(stat.inode),
            file_type: match stat.mode & libc::S_IFMT {
                libc::S_IFREG => FileType::Regular,
                libc::S_IFDIR => FileType::Directory,
                libc::S_IFCHR => FileType::CharacterDevice,
                libc::S_IFBLK => FileType::BlockDevice,
                libc::S_IFIFO => FileType::Pipe,
                libc::S_IFSOCK => FileType::Socket,
                libc::S_IFLNK => FileType::SymbolicLink,
                _ => FileType::Other,
            },
            special_device: match stat.mode & libc::S_IFMT {
                libc::S_IFCHR | libc::S_IFBLK => stat.special_device,
                _ => 0,
            },
            access: match flags & libc::O_ACCMODE {
                _ if flags & libc::O_PATH != 0 => AccessMode::PathOnly,
                libc::O_RDONLY => AccessMode::Read,
                libc::O_WRONLY => AccessMode::Write,
                _ => AccessMode::ReadWrite,
            },
            close_on_exec: Some(flags & libc::O_CLOEXEC != 0),
            nonblocking: flags & libc::O_NONBLOCK != 0,
            append: flags & libc::O_APPEND != 0,
            locked: Some(
                info.0
                    .lines()
                    .any(|line| line.starts_with("lock:") && line.contains("FLOCK")),
            ),
            target: Some(Bytes(sys::read_link_at(self.proc, &path)?)),
        })
    }
}

fn unexpected(what: &str, text: &str) -> io::Error {
    io::Error::other(format!("unexpected {what} in /proc: {text}"))
}

/// Lines of a name, a colon and values.
struct Status(String);

impl Status {
    fn list<T: TryFrom<u128>>(&self, name: &str, radix: u32) -> io::Result<Vec<T>> {
        let number = |digits: &str| u128::from_str_radix(digits, radix).ok()?.try_into().ok();
        let mut lines = self.0.lines();
        lines
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
            .and_then(|values| values.split_ascii_whitespace().map(number).collect())
            .ok_or_else(|| unexpected(name, &self.0))
    }

    fn one<T: TryFrom<u128>>(&self, name: &str, radix: u32) -> io::Result<T> {
        let mut values = self.list(name, radix)?;
        values.pop().ok_or_else(|| unexpected(name, &self.0))
    }

    fn signals(&self, name: &str) -> io::Result<SignalSet> {
        self.one(name, 16).map(SignalSet)
    }

    /// The real, effective, saved and file system ids. The last always follows the
    /// effective id.
    fn ids(&self, name: &str) -> io::Result<IdTriple> {
        match self.list(name, 10)?[..] {
            [real, effective, saved, _] => Ok(IdTriple {
                real,
                effective,
                saved: Some(saved),
            }),
            _ => Err(unexpected(name, &self.0)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_read_whatever_its_name() {
        let stat = Stat::parse("42 (a) b (c) S 1 40 41 -1 -1 4228172 85").expect("a process");
        let process = &stat.process;
        assert_eq!(
            (process.pid, process.ppid, process.pgid, stat.session),
            (42, 1, 40, 41)
        );
        assert_eq!((&*process.name, process.state), ("a) b (c", 'S'));
        assert_eq!(stat.terminal, u64::from(u32::MAX));
    }

    #[test]
    fn a_process_that_is_reaped_while_it_is_read_is_gone() {
        for state in ['Z', 'X'] {
            let text = format!("2770 (tester) {state} 0 -1 -1 0 -1 4228172 85");
            let error = Stat::parse(&text).err().expect("an error");
            assert!(is_gone(&error), "{error}");
        }
    }

    /// The launcher reads the end of the daemon's channel before the daemon is a zombie.
    #[test]
    fn a_process_in_its_exit_is_known_by_its_flags() {
        for (flags, is_exiting) in [(4_228_172, true), (4_228_168, false)] {
            let text = format!("2770 (tester) R 1 2769 2769 0 -1 {flags} 85");
            let stat = Stat::parse(&text).expect("a process");
            assert_eq!((stat.process.state, stat.is_exiting), ('R', is_exiting));
        }
    }

    /// The launcher closes its copies of the other ends during an observation.
    #[test]
    fn a_descriptor_that_is_closed_during_an_observation_is_not_open() {
        let proc = File::open("/proc").expect("open /proc");
        let entry = Entry::new(proc.as_fd(), "self");
        let closed = i32::MAX;
        assert_eq!(entry.descriptor_if_open(closed).ok(), Some(None));
        let open = proc.as_raw_fd();
        let found = entry.descriptor_if_open(open).expect("look at it");
        assert_eq!(found.map(|found| found.number), Some(open));
    }

    #[test]
    fn a_line_of_no_process_is_reported() {
        let error = Stat::parse("2770 (tester) S 1 -2 3 0")
            .err()
            .expect("an error");
        assert!(!is_gone(&error), "{error}");
    }
}
