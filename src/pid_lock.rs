//! The pid file of a start: opened without falling for what others have put
//! there, locked for the daemon's life, empty until the start is committed.
//!
//! Two descriptors are opened. The one that has the lock is for reading alone:
//! the daemon keeps it after it has dropped its privileges. The one for writing
//! stays with the intermediate and the launcher.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use crate::error::ErrorKind;
use crate::own_fds;
use crate::report::{About, Failure};
use crate::sys::{
    self, Directory, Errno, FileId, FileKind, FileStatus, Gid, Lock, Open, Pid, Uid, errno,
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
    /// Those that this process has locked, where it is to become the daemon.
    own: Vec<FileId>,
}

/// The open and locked pid file of a start.
#[derive(Debug)]
pub(crate) struct OpenPidFile {
    /// Has the lock.
    lock: OwnedFd,
    /// `None` in the daemon.
    writable: Option<OwnedFd>,
    id: FileId,
}

/// The lock of a prober is gone in a moment; a daemon's is not.
const PATIENCE: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(2);

/// Why a file or its directory is refused: short, since nothing may be allocated
/// where that is found. The launcher adds whose it is.
pub(crate) const DIRECTORY_OF_ANOTHER: &str = "its directory belongs to another user";
pub(crate) const DIRECTORY_WRITABLE: &str = "other users can write to its directory";
pub(crate) const FILE_OF_ANOTHER: &str = "it belongs to another user";

/// What every other may not do to a pid file or its folder.
const WRITABLE_BY_OTHERS: u32 = 0o022;
const GROUP: u32 = 0o070;
const STICKY: u32 = 0o1000;
const MODE: u32 = 0o644;

/// The permission without which the owner could not open the file again.
const READABLE_BY_OWNER: u32 = 0o400;

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
            own: Vec::new(),
        }
    }

    /// Refuses these, which this process has locked already: it would lose the
    /// lock by closing one that it opened in vain.
    pub(crate) fn refuse(&mut self, own: Vec<FileId>) {
        self.own = own;
    }

    fn is_owned(&self, attributes: &FileStatus) -> bool {
        self.new_owner.is_none_or(|owner| attributes.owner == owner)
            && self.new_group.is_none_or(|group| attributes.group == group)
    }

    /// Moved out, since nothing may be allocated where it is needed.
    pub(crate) fn take_absolute_path(&mut self) -> Option<CString> {
        self.absolute_path.take()
    }

    /// Opens, locks and truncates the file: 'locked and empty' means that a
    /// daemon is starting. Async-signal-safe.
    pub(crate) fn acquire(&self) -> Result<OpenPidFile, Failure> {
        let folder = self.trusted_folder()?;
        let (directory, name) = match &folder {
            Some(folder) => (Directory::Open(folder.as_fd()), &*self.name),
            None => (Directory::Working, &*self.path),
        };
        let patience_ends = Instant::now() + PATIENCE;
        loop {
            if let Some(pid_file) = self.try_acquire(directory, name, patience_ends)? {
                return Ok(pid_file);
            }
            if Instant::now() >= patience_ends {
                return Err(failure(ErrorKind::OpenPidfile(errno::EAGAIN))
                    .because("it is replaced again and again"));
            }
            sys::sleep(PAUSE);
        }
    }

    /// `None` where the file was replaced meanwhile, by others or by this.
    fn try_acquire(
        &self,
        directory: Directory<'_>,
        name: &CStr,
        patience_ends: Instant,
    ) -> Result<Option<OpenPidFile>, Failure> {
        let open_failed = |errno| failure(ErrorKind::OpenPidfile(errno));
        if !self.own.is_empty() {
            let there = sys::fstatat(directory, name);
            if there.is_ok_and(|there| self.own.contains(&there.id)) {
                return Err(failure(ErrorKind::LockPidfile(errno::EWOULDBLOCK)));
            }
        }
        let writable = match open(directory, name) {
            Ok(writable) => writable,
            Err(errno::EEXIST) => return Ok(None),
            Err(errno::EACCES) => return self.remove_unwritable(directory, name, patience_ends),
            Err(errno::ELOOP) => {
                return Err(open_failed(errno::ELOOP).because("it is a symbolic link"));
            }
            Err(errno) => return Err(open_failed(errno)),
        };
        // The file is examined before it is locked, since a file that is refused is
        // not to be locked; and again after it, since it may have changed meanwhile.
        let id = self.examine(writable.as_fd())?.id;
        let Some(lock) = open_again_to_read(directory, name, writable.as_fd(), id)? else {
            return Ok(None);
        };
        let locked = lock_patiently(lock.as_fd(), patience_ends);
        let attributes = self.examine(writable.as_fd())?;
        // If another process has replaced the file, the lock guards nothing.
        match sys::fstatat(directory, name) {
            Ok(at_path) if at_path.id == id => {}
            Ok(_) | Err(errno::ENOENT) => return Ok(None),
            Err(errno) => return Err(open_failed(errno)),
        }
        locked.map_err(lock_failed)?;
        let is_strangers = !self.may_belong_to(attributes.owner);
        if is_strangers || attributes.mode & WRITABLE_BY_OTHERS != 0 {
            if !is_strangers {
                make_unwritable_by_others(writable.as_fd(), &attributes)?;
            }
            // A process that has opened it before can write to it still: a new one
            // is made, if this one can be removed.
            let is_to_go = !is_strangers || self.directory_is_private();
            let is_in_time = Instant::now() < patience_ends;
            if is_to_go && is_in_time && sys::unlinkat(directory, name).is_ok() {
                return Ok(None);
            }
            if is_strangers {
                return Err(open_failed(errno::EPERM).because(FILE_OF_ANOTHER));
            }
        }
        sys::ftruncate(writable.as_fd())
            .map_err(|errno| failure(ErrorKind::TruncatePidfile(errno)))?;
        Ok(Some(OpenPidFile {
            lock,
            writable: Some(writable),
            id,
        }))
    }

    /// Removes a left-over file that this process may not write to, as the file
    /// of a service whose user was changed.
    fn remove_unwritable(
        &self,
        directory: Directory<'_>,
        name: &CStr,
        patience_ends: Instant,
    ) -> Result<Option<OpenPidFile>, Failure> {
        let denied = |_| failure(ErrorKind::OpenPidfile(errno::EACCES));
        let left_over = sys::openat(directory, name, Open::ReadOnly).map_err(denied)?;
        let found = self.examine(left_over.as_fd())?;
        if !self.may_belong_to(found.owner) && !self.directory_is_private() {
            return Err(denied(errno::EACCES));
        }
        lock_patiently(left_over.as_fd(), patience_ends).map_err(lock_failed)?;
        if sys::fstatat(directory, name).is_ok_and(|there| there.id == found.id) {
            sys::unlinkat(directory, name).map_err(denied)?;
        }
        Ok(None)
    }

    /// Whether no other user can change what is in the directory. In one with the
    /// sticky bit the owner of a file may remove it at any instant, so that the name
    /// may be another start's file by the time that it is unlinked.
    fn directory_is_private(&self) -> bool {
        // The path ends in a slash, or is the working directory.
        sys::fstatat(Directory::Working, &self.folder)
            .is_ok_and(|directory| directory.mode & WRITABLE_BY_OTHERS == 0)
    }

    fn may_belong_to(&self, owner: Uid) -> bool {
        [Some(Uid::ROOT), Some(sys::geteuid()), self.new_owner].contains(&Some(owner))
    }

    /// Root looks at the folder first: who may write to it, may put anything
    /// there at any time.
    fn trusted_folder(&self) -> Result<Option<OwnedFd>, Failure> {
        if sys::geteuid() != Uid::ROOT {
            return Ok(None);
        }
        let failed = |errno| failure(ErrorKind::OpenPidfile(errno));
        let folder =
            sys::openat(Directory::Working, &self.folder, Open::Directory).map_err(failed)?;
        let attributes = sys::fstat(folder.as_fd()).map_err(failed)?;
        let refused = |text| Err(failed(errno::EPERM).because(text));
        let owners = [Some(Uid::ROOT), self.new_owner, self.daemon_user];
        // In a user namespace the owner of /run or /tmp may have no number.
        if !owners.contains(&Some(attributes.owner)) && !sys::is_unmapped(attributes.owner) {
            return refused(DIRECTORY_OF_ANOTHER);
        }
        if others_can_replace_in(folder.as_fd(), &attributes) {
            return refused(DIRECTORY_WRITABLE);
        }
        Ok(Some(folder))
    }

    /// Refuses what is no pid file of ours.
    fn examine(&self, descriptor: BorrowedFd<'_>) -> Result<FileStatus, Failure> {
        let attributes =
            sys::fstat(descriptor).map_err(|errno| failure(ErrorKind::OpenPidfile(errno)))?;
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
        Ok(attributes)
    }
}

/// Whether users other than root and the owner can write to an open file. The
/// members of a group of the system's own are as good as root.
pub(crate) fn others_can_write(descriptor: BorrowedFd<'_>, attributes: &FileStatus) -> bool {
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
pub(crate) fn others_can_replace_in(folder: BorrowedFd<'_>, attributes: &FileStatus) -> bool {
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

/// Opens the file, or makes it: `EEXIST` where somebody was faster. Not with
/// `O_CREAT` alone: Linux lets not even root open another's existing file so in a
/// sticky directory (fs.protected_regular), and the daemon's user may well own the
/// old one.
fn open(directory: Directory<'_>, name: &CStr) -> Result<OwnedFd, Errno> {
    match sys::openat(directory, name, Open::Existing) {
        Err(errno::ENOENT) => sys::openat(directory, name, Open::New { mode: MODE }),
        other => other,
    }
}

/// A second descriptor of the file, which cannot write to it. `None` where the
/// path leads to another file by now.
fn open_again_to_read(
    directory: Directory<'_>,
    name: &CStr,
    writable: BorrowedFd<'_>,
    id: FileId,
) -> Result<Option<OwnedFd>, Failure> {
    let open_failed = |errno| failure(ErrorKind::OpenPidfile(errno));
    let mut opened = sys::openat(directory, name, Open::ReadOnly);
    if matches!(opened, Err(errno::EACCES)) {
        // The umask may have taken this permission.
        let mode = sys::fstat(writable).map_err(open_failed)?.mode;
        sys::fchmod(writable, mode | READABLE_BY_OWNER).map_err(open_failed)?;
        opened = sys::openat(directory, name, Open::ReadOnly);
    }
    let opened = match opened {
        Err(errno::ENOENT | errno::ELOOP) => return Ok(None),
        opened => opened.map_err(open_failed)?,
    };
    let is_same = sys::fstat(opened.as_fd()).map_err(open_failed)?.id == id;
    Ok(is_same.then_some(opened))
}

/// Takes the exclusive lock. While there are but shared ones, which are
/// probers', tries again.
fn lock_patiently(descriptor: BorrowedFd<'_>, patience_ends: Instant) -> Result<(), Errno> {
    loop {
        match sys::flock(descriptor, Lock::Exclusive) {
            Err(errno::EWOULDBLOCK) if Instant::now() < patience_ends => {}
            other => return other,
        }
        // Had only if nobody holds the exclusive one.
        sys::flock(descriptor, Lock::Shared)?;
        sys::flock(descriptor, Lock::None)?;
        sys::sleep(PAUSE);
    }
}

fn make_unwritable_by_others(
    descriptor: BorrowedFd<'_>,
    attributes: &FileStatus,
) -> Result<(), Failure> {
    // Read back: file systems that have no modes of their own may ignore it.
    sys::fchmod(descriptor, attributes.mode & !WRITABLE_BY_OTHERS)
        .and_then(|()| sys::fstat(descriptor))
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

fn lock_failed(errno: Errno) -> Failure {
    let failure = failure(ErrorKind::LockPidfile(errno));
    match errno {
        // As NFS says, which makes a record lock of it.
        errno::EBADF | errno::ENOLCK => failure.because(
            "its file system cannot lock a file that is open for reading; use a local one",
        ),
        _ => failure,
    }
}

impl OpenPidFile {
    /// The file as the launcher has received it.
    pub(crate) fn received(lock: OwnedFd, writable: OwnedFd) -> Option<Self> {
        let id = sys::fstat(lock.as_fd()).ok()?.id;
        Some(Self {
            lock,
            writable: Some(writable),
            id,
        })
    }

    /// The descriptor that has the lock.
    pub(crate) fn lock(&self) -> BorrowedFd<'_> {
        self.lock.as_fd()
    }

    pub(crate) fn writable(&self) -> Option<BorrowedFd<'_>> {
        self.writable.as_ref().map(OwnedFd::as_fd)
    }

    pub(crate) fn id(&self) -> FileId {
        self.id
    }

    /// Whether the descriptor is still the pid file: a caller's code may have
    /// closed it, and opened another file by that number.
    pub(crate) fn is_still_open(&self) -> bool {
        !sys::is_replaced(self.lock.as_raw_fd(), self.id)
    }

    /// Makes this process the one that the kernel names as the holder, where the
    /// platform can. That is lost when the process closes any descriptor of the
    /// file: hence the one for writing goes first. Async-signal-safe.
    pub(crate) fn become_holder(&mut self) -> Result<(), Failure> {
        self.writable = None;
        sys::take_record_lock(self.lock()).map_err(|errno| {
            let failure = failure(ErrorKind::LockPidfile(errno));
            match errno {
                errno::EAGAIN | errno::EACCES => {
                    failure.because("another process holds a record lock for writing")
                }
                _ => failure,
            }
        })
    }

    /// Gives the file to its new owner. Async-signal-safe.
    pub(crate) fn change_owner(&self, plan: &PidFilePlan) -> Result<(), Failure> {
        if plan.new_owner.is_none() && plan.new_group.is_none() {
            return Ok(());
        }
        // Read back: file systems that have no owners of their own may ignore it.
        sys::fchown(self.lock(), plan.new_owner, plan.new_group)
            .and_then(|()| sys::fstat(self.lock()))
            .and_then(|now| {
                if plan.is_owned(&now) {
                    Ok(())
                } else {
                    Err(errno::EPERM)
                }
            })
            .map_err(|errno| failure(ErrorKind::ChownPidfile(errno)))
    }

    /// Whether the lock is still this start's. A daemon that has failed unlocks the
    /// file, which may be another start's from then on. Async-signal-safe.
    pub(crate) fn is_still_locked(&self) -> bool {
        sys::flock(self.lock(), Lock::Exclusive) != Err(errno::EWOULDBLOCK)
    }

    /// Writes the pid of the daemon, in one go. Async-signal-safe.
    pub(crate) fn write_pid(&self, daemon: Pid) -> Result<(), Failure> {
        let Some(writable) = self.writable() else {
            return Err(failure(ErrorKind::WritePid(errno::EBADF)));
        };
        let mut line = [0; LONGEST_LINE];
        let line = pid_line(daemon, &mut line);
        match sys::pwrite(writable, line) {
            Ok(written) if written == line.len() => Ok(()),
            Ok(_) => Err(failure(ErrorKind::WritePidUnspecifiedError)),
            Err(errno) => Err(failure(ErrorKind::WritePid(errno))),
        }
    }

    /// Undoes what a start has done that did not happen: no content, no lock.
    ///
    /// Whichever of the processes is left does this. Where the lock cannot be had
    /// again, another start has it by now, and the file is that one's. A daemon has
    /// dropped the descriptor for writing, and opens the file by `path`, where its
    /// identity may. Unlocks explicitly, since the lock is shared with all
    /// processes that inherited it. Async-signal-safe.
    pub(crate) fn clear(&self, path: Option<&CStr>) {
        if !self.is_still_open() || !self.is_still_locked() {
            return;
        }
        let is_empty = sys::pread(self.lock(), &mut [0]) == Ok(0);
        if !is_empty {
            match (&self.writable, path) {
                (Some(writable), _) => {
                    let _ = sys::ftruncate(writable.as_fd());
                }
                (None, Some(path)) => self.truncate_at(path),
                (None, None) => {}
            }
        }
        let _ = sys::flock(self.lock(), Lock::None);
    }

    fn truncate_at(&self, path: &CStr) {
        if let Ok(found) = sys::openat(Directory::Working, path, Open::WriteOnly) {
            if sys::is_same_file(found.as_raw_fd(), self.id) {
                let _ = sys::ftruncate(found.as_fd());
            }
        }
    }

    /// Keeps file and lock for as long as this process lives.
    pub(crate) fn keep(self, path: Option<CString>) {
        // It has to outlive the functions that run at exit.
        let path = path.map(|path| &*Box::leak(path.into_boxed_c_str()));
        own_fds::keep_pid_file(self.lock, self.id, path);
    }
}

/// Ten digits and a line feed.
const LONGEST_LINE: usize = 11;

/// What a pid file contains. Allocates nothing.
fn pid_line(pid: Pid, line: &mut [u8; LONGEST_LINE]) -> &[u8] {
    let mut start = LONGEST_LINE - 1;
    line[start] = b'\n';
    let mut rest = pid.number();
    while rest > 0 {
        start -= 1;
        line[start] = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    &line[start..]
}

/// The pid in a pid file: decimal digits and a line feed, nothing else. The crate
/// daemonize writes no line feed.
pub(crate) fn parse_pid(content: &[u8]) -> Option<Pid> {
    let digits = content.strip_suffix(b"\n").unwrap_or(content);
    if !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number = std::str::from_utf8(digits).ok()?.parse().ok()?;
    Pid::from_number(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pid_file_contains_a_pid_and_no_more_than_a_line_feed() {
        assert_eq!(parse_pid(b"4242\n"), Pid::from_number(4242));
        assert_eq!(parse_pid(b"4242"), Pid::from_number(4242));
        for junk in [
            "",
            "\n",
            "0\n",
            "-1\n",
            "+1\n",
            " 1\n",
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
    fn a_pid_is_written_as_a_line() {
        let written = |number: u32| {
            let pid = Pid::from_number(number).expect("a pid");
            let mut line = [0; LONGEST_LINE];
            String::from_utf8_lossy(pid_line(pid, &mut line)).into_owned()
        };
        for number in [1, 10, 4242, 2_147_483_647] {
            assert_eq!(written(number), format!("{number}\n"));
        }
    }

    #[test]
    fn it_is_owned_only_as_a_whole() {
        let attributes = sys::fstat(root_folder().as_fd()).expect("look at the root");
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
