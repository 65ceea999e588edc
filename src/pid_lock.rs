//! The pid file of a start: opened without falling for what others have put
//! there, locked for the daemon's life, cleared when the start fails.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::error::{Error, ErrorKind};
use crate::held;
use crate::report::{About, Failure};
use crate::sys::{
    self, Attributes, Directory, Errno, FileKind, Gid, Lock, Open, Pid, Process, Uid, errno,
};

/// Where the pid file is to be and whom it may belong to: all that has to be
/// looked up has been.
#[derive(Debug)]
pub(crate) struct PidFilePlan {
    path: CString,
    /// To remove it by, when the working directory may be another.
    absolute_path: Option<CString>,
    /// The folder, and the name in it.
    folder: CString,
    name: CString,
    new_owner: Option<Uid>,
    new_group: Option<Gid>,
    /// The user that the daemon becomes: may own the folder.
    daemon_user: Option<Uid>,
}

/// The open pid file.
#[derive(Debug)]
pub(crate) struct OpenPidFile {
    descriptor: OwnedFd,
    /// Whether the lock is this start's. If not, it is open to be read alone.
    is_ours: bool,
}

/// The pid files that this process holds for good. It is their owner in name
/// only: that the process ends is what closes them.
static KEPT: Mutex<Vec<Kept>> = Mutex::new(Vec::new());

struct Kept {
    pid_file: OpenPidFile,
    /// Its absolute path if that is known.
    path: Option<CString>,
    /// Whose it is: what a copy made by fork(2) has of it is not its own.
    process: Process,
}

fn kept() -> MutexGuard<'static, Vec<Kept>> {
    KEPT.lock().unwrap_or_else(PoisonError::into_inner)
}

/// While this lives nobody changes them: see [`held::freeze`].
pub(crate) fn freeze_kept() -> impl Sized {
    kept()
}

/// Hands out this process's last one, with its absolute path if that is known.
pub(crate) fn take_kept() -> Option<(OpenPidFile, Option<CString>)> {
    let mut kept = kept();
    if kept.last()?.process != Process::current() {
        return None;
    }
    kept.pop().map(|last| (last.pid_file, last.path))
}

/// The lock of a prober is gone in a moment; a daemon's is not.
const PATIENCE: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(2);

/// What every other may not do to a pid file or its folder.
const WRITABLE_BY_OTHERS: u32 = 0o022;
const GROUP: u32 = 0o070;
const STICKY: u32 = 0o1000;
const MODE: u32 = 0o644;

/// The file offset that says that the file was cleared: the one thing that
/// all share who share the open file, and that nobody has a use for, as it is
/// read and written by position.
const CLEARED: u64 = 1;

impl PidFilePlan {
    pub(crate) fn new(
        path: CString,
        absolute_path: Option<CString>,
        new_owner: Option<Uid>,
        new_group: Option<Gid>,
        daemon_user: Option<Uid>,
    ) -> Self {
        let (folder, name) = folder_and_name(&path);
        Self {
            path,
            absolute_path,
            folder,
            name,
            new_owner,
            new_group,
            daemon_user,
        }
    }

    fn is_owned(&self, attributes: &Attributes) -> bool {
        self.new_owner.is_none_or(|owner| attributes.owner == owner)
            && self.new_group.is_none_or(|group| attributes.group == group)
    }

    /// Moved out, since nothing may be allocated where it is needed.
    pub(crate) fn take_absolute_path(&mut self) -> Option<CString> {
        self.absolute_path.take()
    }

    /// Opens, locks and truncates the file: 'locked and empty' means that a
    /// daemon is starting.
    ///
    /// On failure the file comes along if it could be opened, so that it can
    /// be seen who holds it. Async-signal-safe.
    pub(crate) fn acquire(&self) -> (Option<OpenPidFile>, Result<(), Failure>) {
        let descriptor = match self.open_and_lock() {
            Ok(descriptor) => descriptor,
            Err((descriptor, failure)) => {
                let pid_file = descriptor.map(|descriptor| OpenPidFile {
                    descriptor,
                    is_ours: false,
                });
                return (pid_file, Err(failure));
            }
        };
        let truncated = sys::truncate(descriptor.as_fd())
            .map_err(|errno| failure(ErrorKind::TruncatePidfile(errno)));
        let pid_file = OpenPidFile {
            descriptor,
            is_ours: true,
        };
        (Some(pid_file), truncated)
    }

    fn open_and_lock(&self) -> Result<OwnedFd, (Option<OwnedFd>, Failure)> {
        let folder = self.trusted_folder().map_err(|failure| (None, failure))?;
        let (directory, name) = match &folder {
            Some(folder) => (Directory::Open(folder.as_fd()), &*self.name),
            None => (Directory::Working, &*self.path),
        };
        let patience_ends = Instant::now() + PATIENCE;
        loop {
            let descriptor = open(directory, name, patience_ends).map_err(|errno| {
                let failure = failure(ErrorKind::OpenPidfile(errno));
                let failure = match errno {
                    errno::ELOOP => failure.because("it is a symbolic link"),
                    _ => failure,
                };
                (None, failure)
            })?;
            // Before the lock, which is nobody's business on what is refused;
            // and after it, when nobody is to change it any more.
            self.examine(descriptor.as_fd())
                .map_err(|failure| (None, failure))?;
            let locked = lock_patiently(descriptor.as_fd(), patience_ends);
            let attributes = self
                .examine(descriptor.as_fd())
                .map_err(|failure| (None, failure))?;
            // A lock on a file that somebody has replaced meanwhile guards
            // nothing.
            let is_still_there = match sys::attributes_at(directory, name) {
                Ok(at_path) => at_path.id == attributes.id,
                Err(errno::ENOENT) => false,
                Err(errno) => return Err((None, failure(ErrorKind::OpenPidfile(errno)))),
            };
            if !is_still_there && Instant::now() < patience_ends {
                sys::pause(PAUSE);
                continue;
            }
            if !is_still_there {
                let failure = failure(ErrorKind::OpenPidfile(errno::EAGAIN))
                    .because("it is replaced again and again");
                return Err((None, failure));
            }
            if let Err(errno) = locked {
                return Err((Some(descriptor), failure(ErrorKind::LockPidfile(errno))));
            }
            if attributes.mode & WRITABLE_BY_OTHERS == 0 {
                return Ok(descriptor);
            }
            make_unwritable_by_others(descriptor.as_fd(), &attributes)
                .map_err(|failure| (None, failure))?;
            // Who has opened it before can write to it still: a new one is made, if
            // this one can be removed.
            if Instant::now() >= patience_ends || sys::unlink_at(directory, name).is_err() {
                return Ok(descriptor);
            }
        }
    }

    /// Root looks at the folder first: who may write to it, may put anything
    /// there at any time.
    fn trusted_folder(&self) -> Result<Option<OwnedFd>, Failure> {
        if sys::effective_user() != Uid::ROOT {
            return Ok(None);
        }
        let failed = |errno| failure(ErrorKind::OpenPidfile(errno));
        let folder =
            sys::open_at(Directory::Working, &self.folder, Open::Directory).map_err(failed)?;
        let attributes = sys::attributes(folder.as_fd()).map_err(failed)?;
        let refused = |text| Err(failed(errno::EPERM).because(text));
        let owners = [Some(Uid::ROOT), self.new_owner, self.daemon_user];
        if !owners.contains(&Some(attributes.owner)) {
            return refused("its directory belongs to another user");
        }
        if others_can_replace_in(folder.as_fd(), &attributes) {
            return refused("other users can write to its directory");
        }
        Ok(Some(folder))
    }

    /// Refuses what is no pid file of ours.
    fn examine(&self, descriptor: BorrowedFd<'_>) -> Result<Attributes, Failure> {
        let attributes =
            sys::attributes(descriptor).map_err(|errno| failure(ErrorKind::OpenPidfile(errno)))?;
        let refused = |errno, text| Err(failure(ErrorKind::OpenPidfile(errno)).because(text));
        match attributes.kind {
            FileKind::Regular => {}
            FileKind::Fifo => return refused(errno::EINVAL, "it is a FIFO"),
            FileKind::Device => return refused(errno::EINVAL, "it is a device"),
            FileKind::Other => return refused(errno::EINVAL, "it is no regular file"),
        }
        if attributes.links > 1 {
            return refused(errno::EMLINK, "it has other hard links");
        }
        let owners = [Some(Uid::ROOT), Some(sys::effective_user()), self.new_owner];
        if !owners.contains(&Some(attributes.owner)) {
            return refused(errno::EPERM, "it belongs to another user");
        }
        Ok(attributes)
    }
}

/// Whether users other than root and the owner can write to an open file. The
/// members of a group of the system's own are as good as root.
pub(crate) fn others_can_write(descriptor: BorrowedFd<'_>, attributes: &Attributes) -> bool {
    let mut others = WRITABLE_BY_OTHERS;
    if sys::SYSTEM_GROUPS.contains(&attributes.group) {
        others &= !GROUP;
        // Then the bits of the group are those of others as well.
        if attributes.mode & GROUP & WRITABLE_BY_OTHERS != 0 && sys::has_access_list(descriptor) {
            return true;
        }
    }
    attributes.mode & others != 0
}

/// Whether they can replace a file in an open directory. The sticky bit keeps
/// them from it.
pub(crate) fn others_can_replace_in(folder: BorrowedFd<'_>, attributes: &Attributes) -> bool {
    others_can_write(folder, attributes) && attributes.mode & STICKY == 0
}

/// The folder of a path and the name in it, both never empty.
fn folder_and_name(path: &CStr) -> (CString, CString) {
    let bytes = path.to_bytes();
    let split = bytes.iter().rposition(|byte| *byte == b'/');
    match split {
        Some(slash) if slash + 1 < bytes.len() => (
            CString::new(&bytes[..=slash]).unwrap_or_default(),
            CString::new(&bytes[slash + 1..]).unwrap_or_default(),
        ),
        // A path that ends in a slash names a directory, which is refused
        // when it is opened.
        _ => (c".".to_owned(), path.to_owned()),
    }
}

/// Opens the file, or makes it. Not with `O_CREAT` alone: Linux lets not even
/// root open another's existing file so in a sticky directory
/// (fs.protected_regular), and the daemon's user may well own the old one.
fn open(directory: Directory<'_>, name: &CStr, patience_ends: Instant) -> Result<OwnedFd, Errno> {
    loop {
        match sys::open_at(directory, name, Open::Existing) {
            Err(errno::ENOENT) => {}
            other => return other,
        }
        match sys::open_at(directory, name, Open::New { mode: MODE }) {
            // Somebody was faster.
            Err(errno::EEXIST) if Instant::now() < patience_ends => {}
            other => return other,
        }
    }
}

/// Takes the exclusive lock. While there are but shared ones, which are
/// probers', tries again.
fn lock_patiently(descriptor: BorrowedFd<'_>, patience_ends: Instant) -> Result<(), Errno> {
    loop {
        match sys::lock(descriptor, Lock::Exclusive) {
            Err(errno::EWOULDBLOCK) if Instant::now() < patience_ends => {}
            other => return other,
        }
        // Had only if nobody holds the exclusive one.
        sys::lock(descriptor, Lock::Shared)?;
        sys::lock(descriptor, Lock::None)?;
        sys::pause(PAUSE);
    }
}

fn make_unwritable_by_others(
    descriptor: BorrowedFd<'_>,
    attributes: &Attributes,
) -> Result<(), Failure> {
    // Read back: file systems that have no modes of their own may ignore it.
    sys::change_mode(descriptor, attributes.mode & !WRITABLE_BY_OTHERS)
        .and_then(|()| sys::attributes(descriptor))
        .and_then(|now| match now.mode & WRITABLE_BY_OTHERS {
            0 => Ok(()),
            _ => Err(errno::EPERM),
        })
        .map_err(|errno| {
            failure(ErrorKind::OpenPidfile(errno))
                .because("other users can write to it, and that cannot be changed")
        })
}

fn failure(kind: ErrorKind) -> Failure {
    Failure::new(kind, About::PidFile)
}

impl OpenPidFile {
    /// The file as another process received it.
    pub(crate) fn received(descriptor: OwnedFd, is_ours: bool) -> Self {
        Self {
            descriptor,
            is_ours,
        }
    }

    pub(crate) fn is_ours(&self) -> bool {
        self.is_ours
    }

    pub(crate) fn descriptor(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }

    /// Unlocks the file as well, unless others have it open.
    pub(crate) fn close(self) {
        held::close(self.descriptor);
    }

    /// Gives the file to its new owner. Async-signal-safe.
    pub(crate) fn change_owner(&self, plan: &PidFilePlan) -> Result<(), Failure> {
        if plan.new_owner.is_none() && plan.new_group.is_none() {
            return Ok(());
        }
        // Read back: file systems that have no owners of their own may ignore it.
        sys::change_owner(self.descriptor(), plan.new_owner, plan.new_group)
            .and_then(|()| sys::attributes(self.descriptor()))
            .and_then(|now| {
                if plan.is_owned(&now) {
                    Ok(())
                } else {
                    Err(errno::EPERM)
                }
            })
            .map_err(|errno| failure(ErrorKind::ChownPidfile(errno)))
    }

    /// Writes the pid of this process, in one go.
    pub(crate) fn write_pid(&self) -> Result<(), Failure> {
        let line = format!("{}\n", Pid::current().number());
        match sys::write_at_start(self.descriptor(), line.as_bytes()) {
            Ok(written) if written == line.len() => Ok(()),
            Ok(_) => Err(failure(ErrorKind::WritePidUnspecifiedError)),
            Err(errno) => Err(failure(ErrorKind::WritePid(errno))),
        }
    }

    /// Undoes what a start has done that did not happen: no content, no lock.
    ///
    /// Whoever of daemon, intermediate and launcher is left does this. The
    /// first one also leaves the sign for the others not to truncate: from
    /// the moment of unlocking the file may be another start's. Unlocks
    /// explicitly: the lock is shared with all who inherited it.
    /// Async-signal-safe.
    pub(crate) fn clear(&self) {
        if !self.is_ours {
            return;
        }
        if sys::offset(self.descriptor()) != Ok(CLEARED) && sys::truncate(self.descriptor()).is_ok()
        {
            let _ = sys::set_offset(self.descriptor(), CLEARED);
        }
        let _ = sys::lock(self.descriptor(), Lock::None);
    }

    /// Keeps file and lock for as long as this process lives.
    pub(crate) fn keep(self, path: Option<CString>) {
        held::hold(self.descriptor());
        kept().push(Kept {
            pid_file: self,
            path,
            process: Process::current(),
        });
    }

    /// Empties the file, and removes it if that is what the path leads to. It
    /// stays locked: whoever waits for the lock will find it gone.
    pub(crate) fn remove(&self, path: Option<&CStr>) {
        let _ = sys::truncate(self.descriptor());
        let Some(path) = path else { return };
        let is_at_path = sys::attributes(self.descriptor()).is_ok_and(|open| {
            sys::attributes_at(Directory::Working, path).is_ok_and(|there| there.id == open.id)
        });
        if is_at_path {
            let _ = sys::unlink_at(Directory::Working, path);
        }
    }

    /// Says who holds the lock that could not be had.
    pub(crate) fn describe_holder(&self, error: Error) -> Error {
        let mut content = [0; 32];
        let length = sys::read_at_start(self.descriptor(), &mut content).unwrap_or(0);
        if length == 0 {
            return error.because("held by a daemon that is starting");
        }
        let holder = parse_pid(&content[..length]);
        match holder.filter(|pid| self.is_open_in(*pid)) {
            Some(pid) => error.held_by(pid.number()),
            None => error.because("held by another process"),
        }
    }

    fn is_open_in(&self, pid: Pid) -> bool {
        sys::attributes(self.descriptor())
            .is_ok_and(|attributes| sys::has_open(pid, attributes.id) == Ok(true))
    }
}

/// The pid in a pid file: decimal digits and a line feed, nothing else.
pub(crate) fn parse_pid(content: &[u8]) -> Option<Pid> {
    let digits = content.strip_suffix(b"\n")?;
    if !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number = std::str::from_utf8(digits).ok()?.parse().ok()?;
    Pid::from_number(number)
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd as _;

    use super::*;

    #[test]
    fn only_a_pid_and_a_line_feed_are_a_pid() {
        assert_eq!(parse_pid(b"4242\n"), Pid::from_number(4242));
        for junk in [
            "",
            "\n",
            "0\n",
            "-1\n",
            "+1\n",
            " 1\n",
            "1",
            "1\n\n",
            "1 2\n",
            "1\n2\n",
            "1.0\n",
            "99999999999\n",
            "4294967295\n",
            "2147483648\n",
            "one\n",
        ] {
            assert_eq!(parse_pid(junk.as_bytes()), None, "{junk:?}");
        }
    }

    fn root_folder() -> OwnedFd {
        OwnedFd::from(std::fs::File::open("/").expect("open the root"))
    }

    #[test]
    fn what_is_closed_is_held_no_more() {
        let pid_file = OpenPidFile::received(root_folder(), true);
        let number = pid_file.descriptor().as_raw_fd();
        held::hold(pid_file.descriptor());
        assert!(held::all().contains(&number));
        pid_file.close();
        assert!(!held::all().contains(&number));
    }

    #[test]
    fn it_is_owned_only_as_a_whole() {
        let attributes = sys::attributes(root_folder().as_fd()).expect("look at the root");
        let is_owned = |owner, group| {
            PidFilePlan::new(c"d.pid".to_owned(), None, owner, group, None).is_owned(&attributes)
        };
        let (owner, group) = (Some(attributes.owner), Some(attributes.group));
        let others = (Some(Uid(u32::MAX - 7)), Some(Gid(u32::MAX - 7)));
        assert!(is_owned(None, None) && is_owned(owner, None) && is_owned(owner, group));
        assert!(!is_owned(others.0, group) && !is_owned(owner, others.1));
    }

    #[test]
    fn a_path_is_split_into_folder_and_name() {
        let split = |path: &CStr| {
            let (folder, name) = folder_and_name(path);
            (
                folder.into_string().expect("ASCII"),
                name.into_string().expect("ASCII"),
            )
        };
        let pair = |folder: &str, name: &str| (folder.to_owned(), name.to_owned());
        assert_eq!(split(c"/run/d.pid"), pair("/run/", "d.pid"));
        assert_eq!(split(c"/d.pid"), pair("/", "d.pid"));
        assert_eq!(split(c"d.pid"), pair(".", "d.pid"));
        assert_eq!(split(c"/run/"), pair(".", "/run/"));
    }
}
