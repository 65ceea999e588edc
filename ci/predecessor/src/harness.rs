//! What every case needs: a folder, launchers, what their processes tell, and
//! the end of all of them.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File, Permissions};
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::atomic::{AtomicI32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use daemonize2::{Daemonize, Error};

use crate::sys;

/// How long a launcher may take, and then its daemon.
const PATIENCE: Duration = Duration::from_secs(6);
/// How long a daemon lives that nobody ends.
const LIFE: Duration = Duration::from_secs(150);

/// Where all processes of a case tell what happens to them.
static TOLD: AtomicI32 = AtomicI32::new(-1);

/// One line for the case, from any of its processes.
pub fn tell(text: impl fmt::Display) {
    let line = format!("{} {text}\n", std::process::id());
    sys::write(TOLD.load(Ordering::Relaxed), line.as_bytes());
}

/// Where [`tell`] writes.
pub fn told() -> i32 {
    TOLD.load(Ordering::Relaxed)
}

pub fn tell_to(descriptor: i32) {
    TOLD.store(descriptor, Ordering::Relaxed);
}

/// Like `OpenPidfile(ELOOP)`.
pub fn name(error: &Error) -> String {
    let kind = format!("{:?}", error.kind());
    let Some((kind, errno)) = kind.trim_end_matches(')').split_once('(') else {
        return kind;
    };
    let name = match errno.parse().unwrap_or(0) {
        libc::EPERM => "EPERM",
        libc::ENOENT => "ENOENT",
        libc::EINTR => "EINTR",
        libc::ECHILD => "ECHILD",
        libc::EAGAIN => "EWOULDBLOCK",
        libc::EACCES => "EACCES",
        libc::ENOTDIR => "ENOTDIR",
        libc::EISDIR => "EISDIR",
        libc::EINVAL => "EINVAL",
        libc::EMFILE => "EMFILE",
        libc::EFBIG => "EFBIG",
        libc::ENOSPC => "ENOSPC",
        libc::EROFS => "EROFS",
        libc::ENAMETOOLONG => "ENAMETOOLONG",
        libc::ELOOP => "ELOOP",
        libc::ENXIO => "ENXIO",
        _ => errno,
    };
    format!("{kind}({name})")
}

#[derive(Clone, Debug)]
pub struct Message {
    pub sender: u32,
    pub text: String,
}

/// Where a case takes place.
pub struct Place {
    folder: PathBuf,
    pipe: File,
    unread: RefCell<Vec<u8>>,
    messages: RefCell<Vec<Message>>,
    ended: RefCell<BTreeMap<u32, ExitStatus>>,
}

/// What became of a start.
pub struct Run<'place> {
    place: &'place Place,
    pub launcher: u32,
    /// `None` if it had to be killed.
    pub status: Option<ExitStatus>,
    pub took: Duration,
    /// The pid file `daemon.pid` when the launcher had ended.
    pub pid_file: Option<Vec<u8>>,
    /// What was told before it began.
    before: usize,
}

impl Place {
    /// In this folder, for a process that has a mount namespace and no
    /// children.
    pub fn new(folder: PathBuf) -> Self {
        let (pipe, writing) = sys::pipe().expect("create a pipe");
        tell_to(writing);
        sys::adopt_orphans();
        std::env::set_current_dir(&folder).expect("enter the folder");
        Self {
            folder,
            pipe,
            unread: RefCell::default(),
            messages: RefCell::default(),
            ended: RefCell::default(),
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Creates a folder.
    pub fn folder(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir(&path).expect("create a folder");
        set_mode(&path, 0o755);
        path
    }

    pub fn file(&self, name: &str, content: &str) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, content).expect("write a file");
        path
    }

    /// Reads what was told, and reaps.
    pub fn look(&self) {
        while let Some((pid, status)) = sys::reap(0) {
            self.ended.borrow_mut().insert(pid, status);
        }
        self.read();
    }

    /// Reads what was told.
    pub fn read(&self) -> Vec<Message> {
        let mut unread = self.unread.borrow_mut();
        // What is not there yet is an error.
        let _ = (&self.pipe).read_to_end(&mut unread);
        while let Some(end) = unread.iter().position(|&byte| byte == b'\n') {
            let line: Vec<u8> = unread.drain(..=end).collect();
            let line = String::from_utf8_lossy(&line);
            let (sender, text) = line.trim_end().split_once(' ').expect("a line");
            self.messages.borrow_mut().push(Message {
                sender: sender.parse().expect("a pid"),
                text: text.to_owned(),
            });
        }
        drop(unread);
        self.messages.borrow().clone()
    }

    pub fn messages(&self) -> Vec<Message> {
        self.look();
        self.messages.borrow().clone()
    }

    pub fn forget(&self) -> Vec<Message> {
        self.look();
        self.messages.take()
    }

    /// Waits until this is so, for a while.
    pub fn wait_until(&self, time: Duration, mut is_so: impl FnMut() -> bool) -> bool {
        let end = Instant::now() + time;
        loop {
            self.look();
            if is_so() {
                return true;
            }
            if Instant::now() > end {
                return false;
            }
            thread::sleep(Duration::from_millis(2));
        }
    }

    pub fn has_ended(&self, pid: u32) -> bool {
        self.look();
        self.ended.borrow().contains_key(&pid)
    }

    pub fn status_of(&self, pid: u32) -> Option<ExitStatus> {
        self.look();
        self.ended.borrow().get(&pid).copied()
    }

    /// Starts a daemon from a process of its own, which prepares itself first;
    /// the daemon then does `live`.
    pub fn launch<T>(&self, build: impl FnOnce() -> Daemonize<T>, live: impl FnOnce(T)) -> Run<'_> {
        let began = Instant::now();
        let before = self.messages().len();
        let launcher = sys::fork(|| start(build, live));
        self.await_launcher(launcher, began, before)
    }

    pub fn await_launcher(&self, launcher: u32, began: Instant, before: usize) -> Run<'_> {
        if !sys::wait_until_ended(launcher, PATIENCE) {
            sys::kill(launcher, libc::SIGKILL);
        }
        let took = began.elapsed();
        let path = self.path("daemon.pid");
        let is_file = fs::symlink_metadata(&path).is_ok_and(|there| there.is_file());
        let pid_file = is_file.then(|| fs::read(&path).ok()).flatten();
        self.wait_until(PATIENCE, || self.has_ended(launcher));
        let status = self.status_of(launcher);
        let run = Run {
            place: self,
            launcher,
            status: status.filter(|status| status.signal() != Some(libc::SIGKILL)),
            took,
            pid_file,
            before,
        };
        self.wait_until(PATIENCE, || run.is_settled());
        run
    }

    /// Ends every process of the case, each by its pid.
    pub fn end_all(&self) {
        loop {
            self.look();
            let left = children();
            if left.is_empty() {
                break;
            }
            for pid in left {
                sys::kill(pid, libc::SIGKILL);
            }
            thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.end_all();
    }
}

/// Starts, tells of it, and lives or ends.
pub fn start<T>(build: impl FnOnce() -> Daemonize<T>, live: impl FnOnce(T)) {
    let daemonize = build();
    // SAFETY: this program has one thread.
    match unsafe { daemonize.start() } {
        Ok(result) => {
            tell("daemon");
            live(result);
            tell("lives");
            thread::sleep(LIFE);
        }
        Err(error) => {
            tell(format_args!("error {}", name(&error)));
            std::process::exit(1);
        }
    }
}

/// The living children of this process.
pub fn children() -> Vec<u32> {
    let own = std::process::id();
    let processes = fs::read_dir("/proc").expect("list processes");
    let pids = processes.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.filter(|&pid| {
        fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| {
            let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
            fields.split_whitespace().nth(1) == Some(&own.to_string())
        })
    })
    .collect()
}

impl Run<'_> {
    pub fn messages(&self) -> Vec<Message> {
        self.place.messages().split_off(self.before)
    }

    /// Who has told this first.
    pub fn teller(&self, text: &str) -> Option<u32> {
        let messages = self.messages();
        let found = messages.iter().find(|message| message.text == text);
        found.map(|message| message.sender)
    }

    /// What was told after this word.
    pub fn told(&self, word: &str) -> Vec<String> {
        let messages = self.messages();
        let texts = messages.iter().filter_map(|message| {
            let text = message.text.strip_prefix(word)?;
            Some(text.trim_start().to_owned())
        });
        texts.collect()
    }

    fn is_settled(&self) -> bool {
        let is_final = |message: &Message| {
            message.text == "lives"
                || message.text.starts_with("error ") && message.sender != self.launcher
        };
        self.messages().iter().any(is_final) || children().is_empty()
    }

    /// A daemon that runs.
    pub fn daemon(&self) -> Option<u32> {
        let daemon = self.teller("daemon")?;
        (!self.place.has_ended(daemon)).then_some(daemon)
    }

    pub fn has_daemon(&self) -> bool {
        self.daemon().is_some()
    }

    pub fn error(&self) -> Option<String> {
        let messages = self.messages();
        let mut errors = messages.iter().filter_map(|message| {
            let error = message.text.strip_prefix("error ")?;
            let place = if message.sender == self.launcher {
                "the launcher"
            } else {
                "a child"
            };
            Some(format!("{error} in {place}"))
        });
        errors.next()
    }

    pub fn is_success(&self) -> bool {
        self.status.is_some_and(|status| status.success())
    }
}

impl fmt::Display for Run<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.status {
            None => write!(f, "launcher killed after {} s", PATIENCE.as_secs())?,
            Some(status) => match status.signal() {
                Some(signal) => write!(f, "launcher ended by signal {signal}")?,
                None => write!(f, "launcher exits {}", status.code().unwrap_or(-1))?,
            },
        }
        match self.daemon() {
            Some(_) => write!(f, ", a daemon")?,
            None => write!(f, ", no daemon")?,
        }
        if let Some(error) = self.error() {
            write!(f, ", {error}")?;
        }
        Ok(())
    }
}

// --- What is seen of files and processes ------------------------------------------

pub fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).expect("chmod");
}

pub fn give(path: &Path, uid: u32, gid: u32) {
    chown(path, Some(uid), Some(gid)).expect("chown");
}

/// Like `0644 0:0`.
pub fn look_at(path: &Path) -> String {
    match fs::symlink_metadata(path) {
        Ok(found) => format!(
            "mode {:04o}, owner {}:{}",
            found.mode() & 0o7777,
            found.uid(),
            found.gid()
        ),
        Err(_) => "not there".to_owned(),
    }
}

/// What is in a file, with the daemon's pid by its role.
pub fn content(path: &Path, run: &Run) -> String {
    match fs::read(path) {
        Err(_) => "not there".to_owned(),
        Ok(bytes) => said(&bytes, run),
    }
}

pub fn said(bytes: &[u8], run: &Run) -> String {
    let text = String::from_utf8_lossy(bytes).trim_end().to_owned();
    match text.parse::<u32>() {
        Ok(pid) if Some(pid) == run.daemon() => "the daemon's pid".to_owned(),
        _ if text.is_empty() => "nothing".to_owned(),
        _ => format!("'{text}'"),
    }
}

/// This line of a process's or thread's status.
pub fn status_line(process: &str, line: &str) -> String {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let mut lines = status.lines();
    let value = lines.find_map(|found| found.strip_prefix(line)?.strip_prefix(':'));
    let words: Vec<_> = value.unwrap_or("?").split_whitespace().collect();
    words.join(" ")
}

/// Real, effective and saved ids, groups, and the capabilities that are
/// permitted and effective.
pub fn identity(pid: u32) -> String {
    let line = |name| status_line(&pid.to_string(), name);
    let three = |name| {
        let ids = line(name);
        let ids: Vec<_> = ids.split(' ').take(3).collect();
        match &ids[..] {
            [real, effective, saved] if real == effective && real == saved => (*real).to_owned(),
            _ => ids.join("/"),
        }
    };
    let groups = line("Groups");
    let groups = match groups.split(' ').count() {
        _ if groups.is_empty() => "none",
        0..20 => &groups,
        count => &format!("{count} of them"),
    };
    format!(
        "uid {}, gid {}, groups {groups}",
        three("Uid"),
        three("Gid")
    )
}

pub fn capabilities(process: &str) -> String {
    let (permitted, effective) = (
        status_line(process, "CapPrm"),
        status_line(process, "CapEff"),
    );
    let short = |set: String| match set.trim_start_matches('0') {
        "" => "0".to_owned(),
        set => set.to_owned(),
    };
    format!(
        "capabilities permitted {}, effective {}",
        short(permitted),
        short(effective)
    )
}

/// The descriptors of a process and what they are, but for the standard streams
/// and the program's own.
pub fn descriptors(pid: u32) -> Vec<(i32, PathBuf)> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).expect("list descriptors");
    let mut found: Vec<_> = entries
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let number = entry.file_name().to_str()?.parse().ok()?;
            Some((number, fs::read_link(entry.path()).ok()?))
        })
        .filter(|(number, _)| (3..900).contains(number))
        .collect();
    found.sort();
    found
}
