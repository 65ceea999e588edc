//! `pid_file`, and the guard that removes the file.

use std::fs::{self, Metadata};
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::fs::{FileTypeExt, MetadataExt, chown, symlink};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process;
use std::thread;
use std::time::Duration;

use super::stage::some;
use super::user::User;
use super::{Axis, Choice, NUMBER, Rights, Stage};
use crate::config::Bytes;
use crate::harness::PidFile as SeenPidFile;
use crate::model::credentials::{EXECUTE, READ, Right, WRITE};
use crate::model::databases::Databases;
use crate::model::failure::Failure;
use crate::model::initial_files::ResolvedPath;
use crate::model::start::{ExpectedPidFile, Opened, Start, place};
use crate::suite::TEST_USER_ID;
use crate::sys;
use crate::texts::{IS_LINK, missing_directory};

/// How long a prober holds its lock. Nothing waits for the prober: a start that comes upon the
/// lock goes on as one that comes after it.
const PROBE: Duration = Duration::from_millis(30);

axis! {
    PidFile |stage| stage.config.options.pid_file => {
        None => None;
        /// There is no such file.
        Fresh => some(run(stage));
        /// The same, relative to the working directory.
        Relative => Some(Bytes::from("d.pid"));
        /// The file of a dead daemon.
        Stale => stage.with_file(0o640, b"999999\n");
        WorldWritable => stage.with_file(0o666, b"");
        /// The file of a dead daemon, which a prober looks at.
        Probed => {
            let path = run(stage);
            let file = stage.file(&path, 0o640, b"999999\n");
            sys::flock(file.as_fd(), libc::LOCK_SH).expect("lock a file");
            thread::spawn(move || {
                thread::sleep(PROBE);
                // The child of another thread may have a copy for a while.
                let _ = sys::flock(file.as_fd(), libc::LOCK_UN);
            });
            some(path)
        };
        InStickyDirectory => some(stage.directory("run", 0o1777).join("d.pid"));
        /// In a directory that belongs to the test user.
        InTestUsersDirectory => {
            let directory = stage.directory("run", 0o755);
            chown(&directory, Some(TEST_USER_ID), Some(TEST_USER_ID)).expect("give it away");
            some(directory.join("d.pid"))
        };
        /// Locked by a process that is named in it.
        Held => stage.with_locked_file(&format!("{}\n", process::id())), fails;
        /// Locked, and empty.
        HeldByStarting => stage.with_locked_file(""), fails;
        /// A symbolic link to a file.
        Symlink => {
            let (path, target) = (run(stage), stage.scenario.path("target"));
            stage.file(&target, 0o644, b"precious");
            symlink(&target, &path).expect("make a link");
            some(path)
        }, fails;
        Directory => {
            let path = run(stage);
            fs::create_dir(&path).expect("create a directory");
            some(path)
        }, fails;
        Fifo => {
            let path = run(stage);
            sys::make_fifo(&path).expect("make a FIFO");
            stage.give(&path);
            some(path)
        }, fails;
        Socket => {
            let path = run(stage);
            drop(UnixListener::bind(&path).expect("make a socket"));
            stage.give(&path);
            some(path)
        }, fails;
        Device => Some(Bytes::from("/dev/null")), fails;
        /// A file that has another name.
        TwoLinks => {
            let path = run(stage);
            stage.file(&path, 0o644, b"precious");
            fs::hard_link(&path, stage.scenario.path("other")).expect("make a hard link");
            some(path)
        }, fails;
        /// A file of another user.
        Foreign => {
            let path = run(stage);
            stage.file(&path, 0o644, b"");
            chown(&path, Some(NUMBER), Some(NUMBER)).expect("give a file away");
            some(path)
        };
        ReadOnly => stage.with_file(0o444, b"");
        InMissingDirectory => some(stage.scenario.path("missing/d.pid")), fails;
        /// In a directory that other users can write to.
        InWritableDirectory => some(stage.directory("run", 0o777).join("d.pid"));
        /// In a directory that its owner cannot enter.
        InClosedDirectory => some(stage.directory("run", 0).join("d.pid"));
        Empty => Some(Bytes::default()), fails;
        TooLong => some(stage.directory("run", 0o755).join("d.pid".repeat(100))), fails;
        Nul => Some(Bytes::from("with\0nul")), fails;
    }
}

const STICKY: u32 = 0o1000;

axis! {
    /// Whether the daemon takes the guard of its pid file, and ends cleanly.
    Guard |stage| stage.config.guard_pid_file => {
        None => false;
        Taken => true;
    }
}

fn run(stage: &Stage<'_>) -> PathBuf {
    stage.directory("run", 0o755).join("d.pid")
}

impl Stage<'_> {
    fn with_file(&self, mode: u32, content: &[u8]) -> Option<Bytes> {
        let path = run(self);
        self.file(&path, mode, content);
        some(path)
    }

    fn with_locked_file(&mut self, content: &str) -> Option<Bytes> {
        let path = run(self);
        let file = self.file(&path, 0o644, content.as_bytes());
        sys::flock(file.as_fd(), libc::LOCK_EX).expect("lock a file");
        self.holder = Some(file);
        some(path)
    }
}

impl Axis for PidFile {
    fn contradiction(self, _other: &Choice, _databases: &Databases) -> Option<&'static str> {
        let is_foreign = matches!(self, Self::Foreign | Self::InTestUsersDirectory);
        (is_foreign && sys::effective_user() != 0)
            .then_some("only root can make a file of another user")
    }

    fn expected_failure(self, other: &Choice, rights: Option<Rights>) -> Option<&'static str> {
        let is_root = rights.map(|rights| rights.is_root);
        let is_other = |user| !matches!(user, User::TestUser | User::TestUserByNumber);
        match self {
            // A caller that is neither root nor the test user cannot write there.
            Self::InTestUsersDirectory if other.user.is_some_and(is_other) => {
                Some("to root, the directory may be that of the daemon's user only")
            }
            Self::InWritableDirectory if is_root == Some(true) => {
                Some("root refuses the directory")
            }
            Self::InClosedDirectory | Self::InTestUsersDirectory if is_root == Some(false) => {
                Some("only root enters every directory")
            }
            _ => None,
        }
    }
}

impl Axis for Guard {
    fn contradiction(self, other: &Choice, _databases: &Databases) -> Option<&'static str> {
        (self == Self::Taken && other.pid_file == Some(PidFile::None))
            .then_some("there is no file to guard")
    }
}

fn owner_of(file: &Metadata) -> String {
    let mode = file.mode() & 0o7777;
    let (uid, gid) = (file.uid(), file.gid());
    format!("uid {uid} and gid {gid}, mode {mode:04o}")
}

impl Start<'_> {
    pub(crate) fn open_pid_file(&mut self) -> Result<(), Failure> {
        let files = self.initial_files;
        let (Some(file), Some(directory)) = (&files.pid_file, &files.pid_file_directory) else {
            return Ok(());
        };
        let refused = |errno| self.refused_in(directory, errno);
        if self.credentials.uid.effective == 0 {
            self.check_directory(directory)?;
        }
        if self.options.pid_file == Some(Bytes::default()) {
            return Err(refused(libc::ENOENT));
        }
        let pid_file = match file.reach(&self.credentials) {
            Ok(file) => self.open_existing_pid_file(file, directory)?,
            Err(libc::ENOENT) if directory.found.is_ok() => {
                let directory = directory.reach(&self.credentials).map_err(refused)?;
                if !self.credentials.may(directory, WRITE | EXECUTE) {
                    return Err(refused(libc::EACCES));
                }
                self.new_pid_file(directory)
            }
            Err(errno) => return Err(refused(errno)),
        };
        self.pid_file = Some(self.change_pid_file_mode(pid_file)?);
        self.opened.push(match self.is_upgrade() {
            true => Opened::SuccessorPidFile,
            false => Opened::PidFile,
        });
        if self.is_foreground() {
            self.opened.push(Opened::WritablePidFile);
        }
        Ok(())
    }

    fn pid_file_failure(&self, kind: &'static str, errno: i32) -> Failure {
        Failure::new(kind, errno).at(self.locked_path().as_ref())
    }

    fn refused(&self, errno: i32, reason: &str) -> Failure {
        self.pid_file_failure("OpenPidfile", errno)
            .with_reason(reason)
    }

    /// Adds to the errno what is known of the directory and the file.
    fn refused_in(&self, directory: &ResolvedPath, errno: i32) -> Failure {
        let text = io::Error::from_raw_os_error(errno);
        let shown = directory.path.display();
        match (errno, &directory.found) {
            (libc::ENOENT, Err(_)) => self.refused(errno, &missing_directory(shown)),
            (libc::EACCES, Ok(found)) => {
                let (user, owner) = (self.credentials.uid.effective, owner_of(found));
                let file = (self.initial_files.pid_file.as_ref())
                    .and_then(|file| file.reach(&self.credentials).ok())
                    .map(|file| format!(", and the file to {}", owner_of(file)));
                let reason = format!(
                    "{text}: this process runs as uid {user}; the directory {shown} belongs to \
                     {owner}{}",
                    file.unwrap_or_default()
                );
                self.refused(errno, &reason)
            }
            _ => self.pid_file_failure("OpenPidfile", errno),
        }
    }

    /// Root refuses a directory in which another user could replace the file.
    fn check_directory(&self, resolved: &ResolvedPath) -> Result<(), Failure> {
        let refused = |errno| self.refused_in(resolved, errno);
        let directory = resolved.reach(&self.credentials).map_err(refused)?;
        if !directory.is_dir() {
            return Err(refused(libc::ENOTDIR));
        }
        if !self.credentials.may(directory, READ) {
            return Err(refused(libc::EACCES));
        }
        let (shown, owner) = (resolved.path.display(), owner_of(directory));
        let daemon = self.options.user.as_ref();
        let daemon = daemon.and_then(|user| self.uid(user, "").ok());
        if ![Some(0), self.new_owner, daemon].contains(&Some(directory.uid())) {
            let reason = format!(
                "its directory belongs to another user: {shown} belongs to {owner}; a start \
                 as root accepts a directory of root, of `user` or of `chown_pid_file_user`"
            );
            return Err(self.refused(libc::EPERM, &reason));
        }
        let others = if directory.gid() == 0 { 0o002 } else { 0o022 };
        if directory.mode() & others != 0 && directory.mode() & STICKY == 0 {
            let reason = format!(
                "other users can write to its directory: {shown} belongs to {owner}; remove \
                 that permission, or set the sticky bit"
            );
            return Err(self.refused(libc::EPERM, &reason));
        }
        Ok(())
    }

    fn open_existing_pid_file(
        &self,
        file: &Metadata,
        directory: &ResolvedPath,
    ) -> Result<ExpectedPidFile, Failure> {
        let refused = |errno| self.refused_in(directory, errno);
        let may_write = self.credentials.may(file, READ | WRITE);
        self.check_type(file, may_write, &refused)?;
        let seen = self.initial_files.pid_file_seen.as_ref();
        if let Some(locked) = seen.filter(|seen| seen.locked) {
            let failure = self.pid_file_failure("LockPidfile", libc::EWOULDBLOCK);
            return Err(Failure {
                running_pid: self.running_pid(locked),
                ..failure.with_reason(match locked.bytes.is_empty() {
                    true => "held by a daemon that is starting",
                    false => "held by another process",
                })
            });
        }
        let user = self.credentials.uid.effective;
        let is_foreign = ![Some(0), Some(user), self.new_owner].contains(&Some(file.uid()));
        let is_writable = file.mode() & 0o022 != 0;
        let may_change_mode = user == file.uid() || self.credentials.has(Right::FileOwner);
        if may_write && !is_foreign && is_writable && !may_change_mode {
            let reason = "other users can write to it, and the start cannot remove that permission";
            return Err(self.refused(libc::EPERM, reason));
        }
        let is_private = (directory.found.as_ref()).is_ok_and(|found| found.mode() & 0o022 == 0);
        let is_replaced = (!may_write || is_foreign || is_writable)
            && (!is_foreign || is_private)
            && self.may_remove(file.uid(), directory);
        if !may_write && !is_replaced {
            return Err(refused(libc::EACCES));
        }
        if is_foreign && !is_replaced {
            let reason = format!(
                "it belongs to another user, uid {}; a start accepts a file of root, of the \
                 user of this process or of `chown_pid_file_user`",
                file.uid()
            );
            return Err(self.refused(libc::EPERM, &reason));
        }
        Ok(match directory.reach(&self.credentials) {
            Ok(directory) if is_replaced => self.new_pid_file(directory),
            _ => ExpectedPidFile {
                bytes: Vec::new(),
                is_pid: false,
                mode: file.mode() & 0o7777 & !0o022,
                uid: file.uid(),
                gid: file.gid(),
                place: Some(place(file)),
                locked: true,
            },
        })
    }

    fn check_type(
        &self,
        file: &Metadata,
        may_write: bool,
        refused: &impl Fn(i32) -> Failure,
    ) -> Result<(), Failure> {
        let file_type = file.file_type();
        Err(if file_type.is_symlink() {
            self.refused(libc::ELOOP, IS_LINK)
        } else if file_type.is_dir() {
            refused(libc::EISDIR)
        } else if !may_write && (file_type.is_socket() || !self.credentials.may(file, READ)) {
            refused(libc::EACCES)
        } else if file_type.is_socket() {
            // The errno of open(2) depends on the platform.
            refused(match cfg!(target_os = "linux") {
                true => libc::ENXIO,
                false => libc::EOPNOTSUPP,
            })
        } else if file_type.is_fifo() {
            self.refused(libc::EINVAL, "it is a FIFO")
        } else if file_type.is_char_device() {
            self.refused(libc::EINVAL, "it is a device")
        } else if file.nlink() > 1 {
            self.refused(libc::EMLINK, "it has other hard links")
        } else {
            return Ok(());
        })
    }

    fn new_pid_file(&self, directory: &Metadata) -> ExpectedPidFile {
        let mode = 0o644 & !self.process.umask.expect("just set");
        ExpectedPidFile {
            bytes: Vec::new(),
            is_pid: false,
            mode: match self.credentials.has(Right::DacOverride) {
                true => mode,
                // The owner must be able to open the file again.
                false => mode | 0o400,
            },
            uid: self.credentials.uid.effective,
            gid: (self.credentials).group_of_new_file(directory.gid(), directory.mode()),
            place: None,
            locked: true,
        }
    }

    /// unlink(2): in a directory with the sticky bit, the process must own the file or the
    /// directory.
    fn may_remove(&self, owner: u32, directory: &ResolvedPath) -> bool {
        directory.reach(&self.credentials).is_ok_and(|directory| {
            let own = [owner, directory.uid()].contains(&self.credentials.uid.effective);
            let is_sticky = directory.mode() & STICKY != 0;
            self.credentials.may(directory, WRITE | EXECUTE)
                && (!is_sticky || own || self.credentials.has(Right::FileOwner))
        })
    }

    /// The process that the launcher can name. Linux names none, since the harness has locked the
    /// file as flock(1) does.
    fn running_pid(&self, locked: &SeenPidFile) -> Option<u32> {
        let harness = process::id();
        let is_named = locked.bytes == format!("{harness}\n").as_bytes();
        let may_look = self.credentials.uid.effective == 0
            || self.credentials.uid.effective == sys::effective_user();
        (!cfg!(target_os = "linux") && is_named && may_look).then_some(harness)
    }

    pub(crate) fn write_pid(&mut self) {
        self.opened
            .retain(|&opened| opened != Opened::WritablePidFile);
        if let Some(pid_file) = &mut self.pid_file {
            pid_file.is_pid = true;
        }
    }

    /// Whether the process that has written its pid can open the file again.
    pub(crate) fn may_clear_pid_file(&self) -> bool {
        let (Some(file), Some(directory)) =
            (&self.pid_file, &self.initial_files.pid_file_directory)
        else {
            return false;
        };
        let directory = directory.reach(&self.credentials);
        self.process.root == self.before.root
            && directory.is_ok_and(|directory| self.credentials.may(directory, EXECUTE))
            && self
                .credentials
                .may_as(file.uid, file.gid, file.mode, WRITE)
    }

    /// Whether the daemon can remove the file at the path that it had when the start began.
    pub(crate) fn may_remove_pid_file(&self) -> bool {
        let (Some(file), Some(directory)) =
            (&self.pid_file, &self.initial_files.pid_file_directory)
        else {
            return false;
        };
        self.process.root == self.before.root && self.may_remove(file.uid, directory)
    }
}
