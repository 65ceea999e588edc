//! Files: open, status, owner, mode, lock, content.

use std::ffi::CStr;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, IntoRawFd as _, OwnedFd, RawFd};

use super::fd::{close_raw, move_above_streams};
use super::platform::abi::{self, stat};
use super::{Errno, Gid, Uid, clear_errno, cvt, last_errno, retry_on_eintr};

/// The identity of a file: a path may lead to another file at any time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileId {
    pub(crate) device: u64,
    pub(crate) inode: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FileKind {
    Regular,
    Directory,
    SymbolicLink,
    Fifo,
    Device,
    Other,
}

/// The status of a file, as stat(2) returns it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FileStatus {
    pub(crate) id: FileId,
    pub(crate) kind: FileKind,
    /// The device number, if the file is a character device.
    pub(crate) character_device: Option<u64>,
    pub(crate) links: u64,
    pub(crate) owner: Uid,
    pub(crate) group: Gid,
    /// Permission bits, with set-id and sticky bits.
    pub(crate) mode: u32,
    pub(crate) is_empty: bool,
}

/// The working directory, for calls that take the directory at which a relative path starts.
// SAFETY: this number means the working directory and is never closed; it is not -1.
pub(crate) const WORKING_DIRECTORY: BorrowedFd<'static> =
    unsafe { BorrowedFd::borrow_raw(libc::AT_FDCWD) };

/// How [`openat`] opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Open {
    /// For reading and writing. A symbolic link is refused, a FIFO is opened without a wait
    /// for its other end, and a terminal does not become the controlling one.
    Existing,
    /// As `Existing`, but fails with `EEXIST` unless it creates the file.
    New { mode: u32 },
    /// As `Existing`, but only for reading.
    ReadOnly,
    /// As `Existing`, but only for writing.
    WriteOnly,
    /// As `WriteOnly`, but each write goes to the end of the file.
    Append,
    /// As `Append`, but fails with `EEXIST` unless it creates the file.
    AppendToNew { mode: u32 },
    /// A directory, to look up names in.
    Directory,
    /// The same, but a symbolic link to a directory fails, with an errno of the platform.
    DirectoryItself,
    /// For reading and writing, also through a symbolic link.
    Plain,
}

/// openat(2). Async-signal-safe.
pub(crate) fn openat(directory: BorrowedFd<'_>, path: &CStr, how: Open) -> Result<OwnedFd, Errno> {
    const UNTRUSTED: libc::c_int =
        libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY | libc::O_CLOEXEC;
    let (flags, mode) = match how {
        Open::Existing => (libc::O_RDWR | UNTRUSTED, 0),
        Open::New { mode } => (
            libc::O_RDWR | UNTRUSTED | libc::O_CREAT | libc::O_EXCL,
            mode,
        ),
        Open::ReadOnly => (libc::O_RDONLY | UNTRUSTED, 0),
        Open::WriteOnly => (libc::O_WRONLY | UNTRUSTED, 0),
        Open::Append => (libc::O_WRONLY | libc::O_APPEND | UNTRUSTED, 0),
        Open::AppendToNew { mode } => (
            libc::O_WRONLY | libc::O_APPEND | UNTRUSTED | libc::O_CREAT | libc::O_EXCL,
            mode,
        ),
        Open::Directory => (libc::O_RDONLY | libc::O_DIRECTORY | libc::O_CLOEXEC, 0),
        Open::DirectoryItself => (
            libc::O_RDONLY | libc::O_DIRECTORY | libc::O_NOFOLLOW | libc::O_CLOEXEC,
            0,
        ),
        Open::Plain => (libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC, 0),
    };
    let opened = retry_on_eintr(|| {
        // SAFETY: `path` is a C string that outlives the call; the mode is
        // passed as the int-sized variadic argument that open expects.
        unsafe {
            abi::openat(
                directory.as_raw_fd(),
                path.as_ptr(),
                flags,
                mode as libc::c_uint,
            )
        }
    });
    match opened {
        Ok(descriptor) => {
            // SAFETY: openat has just made the descriptor, so that nothing else owns it.
            move_above_streams(unsafe { OwnedFd::from_raw_fd(descriptor) })
        }
        Err(abi::O_NOFOLLOW_ERRNO) if flags & libc::O_NOFOLLOW != 0 => Err(libc::ELOOP),
        Err(errno) => Err(errno),
    }
}

/// fcntl(2) `F_SETFL`: each write goes to the end of the file, and waits if it must.
/// Async-signal-safe.
pub(crate) fn set_append_only_flag(descriptor: BorrowedFd<'_>) -> Result<(), Errno> {
    // SAFETY: the descriptor is open; F_SETFL takes an int.
    cvt(unsafe { libc::fcntl(descriptor.as_raw_fd(), libc::F_SETFL, libc::O_APPEND) }).map(drop)
}

/// Closes a number if it still refers to this file. Otherwise the number may belong to
/// another value. Async-signal-safe.
pub(crate) fn close_if_same_file(descriptor: RawFd, file: FileId) {
    if is_same_file(descriptor, file) {
        close_raw(descriptor);
    }
}

/// Whether a number is open and refers to this file. Async-signal-safe.
pub(crate) fn is_same_file(descriptor: RawFd, file: FileId) -> bool {
    fstat_raw(descriptor).is_ok_and(|found| found.id == file)
}

/// Whether a number that referred to this file is closed, or refers to another file.
/// Async-signal-safe.
pub(crate) fn is_replaced(descriptor: RawFd, file: FileId) -> bool {
    match fstat_raw(descriptor) {
        Ok(found) => found.id != file,
        Err(errno) => errno == libc::EBADF,
    }
}

/// Takes a descriptor over from the program that has executed this one, if it refers to this file
/// and is no standard stream.
pub(crate) fn adopt(number: RawFd, file: FileId) -> Option<OwnedFd> {
    // SAFETY: the former program has named this descriptor of the pid file for the library alone,
    // and the registry of the library does not have it yet (see pid_file/exec.rs). So no value
    // in this program owns it.
    (number > 2 && is_same_file(number, file)).then(|| unsafe { OwnedFd::from_raw_fd(number) })
}

/// fstat(2). Async-signal-safe.
pub(crate) fn fstat(descriptor: BorrowedFd<'_>) -> Result<FileStatus, Errno> {
    fstat_raw(descriptor.as_raw_fd())
}

fn fstat_raw(descriptor: RawFd) -> Result<FileStatus, Errno> {
    // SAFETY: `stat` is valid for writes of its size; fstat checks the number.
    read_status(|stat| unsafe { abi::fstat(descriptor, stat) })
}

/// fstatat(2), which does not follow a symbolic link. Async-signal-safe.
pub(crate) fn fstatat(directory: BorrowedFd<'_>, path: &CStr) -> Result<FileStatus, Errno> {
    let (directory, flags) = (directory.as_raw_fd(), libc::AT_SYMLINK_NOFOLLOW);
    // SAFETY: `path` is a C string that outlives the call, and `stat` is
    // valid for writes of its size.
    read_status(|stat| unsafe { abi::fstatat(directory, path.as_ptr(), stat, flags) })
}

fn read_status(call: impl FnOnce(*mut stat) -> libc::c_int) -> Result<FileStatus, Errno> {
    let mut stat = MaybeUninit::zeroed();
    cvt(call(stat.as_mut_ptr()))?;
    // SAFETY: the call has succeeded, and has filled it in.
    let stat = unsafe { stat.assume_init_ref() };
    let format = stat.st_mode & libc::S_IFMT;
    Ok(FileStatus {
        id: FileId {
            device: stat.st_dev as u64,
            inode: stat.st_ino as u64,
        },
        kind: match format {
            libc::S_IFREG => FileKind::Regular,
            libc::S_IFDIR => FileKind::Directory,
            libc::S_IFLNK => FileKind::SymbolicLink,
            libc::S_IFIFO => FileKind::Fifo,
            libc::S_IFCHR | libc::S_IFBLK => FileKind::Device,
            _ => FileKind::Other,
        },
        character_device: (format == libc::S_IFCHR).then_some(stat.st_rdev as u64),
        links: stat.st_nlink as u64,
        owner: Uid(stat.st_uid),
        group: Gid(stat.st_gid),
        mode: stat.st_mode as u32 & 0o7777,
        is_empty: stat.st_size == 0,
    })
}

/// unlinkat(2). Async-signal-safe.
pub(crate) fn unlinkat(directory: BorrowedFd<'_>, path: &CStr) -> Result<(), Errno> {
    // SAFETY: `path` is a C string that outlives the call.
    cvt(unsafe { libc::unlinkat(directory.as_raw_fd(), path.as_ptr(), 0) }).map(drop)
}

/// renameat(2) in one directory. Async-signal-safe.
pub(crate) fn renameat(directory: BorrowedFd<'_>, from: &CStr, to: &CStr) -> Result<(), Errno> {
    let directory = directory.as_raw_fd();
    // SAFETY: both paths are C strings that outlive the call.
    cvt(unsafe { libc::renameat(directory, from.as_ptr(), directory, to.as_ptr()) }).map(drop)
}

/// mkdirat(2): the umask of the process takes bits away. Async-signal-safe.
pub(crate) fn mkdirat(directory: BorrowedFd<'_>, path: &CStr, mode: u32) -> Result<(), Errno> {
    let mode = mode as libc::mode_t;
    // SAFETY: `path` is a C string that outlives the call; a mode is a plain number.
    cvt(unsafe { libc::mkdirat(directory.as_raw_fd(), path.as_ptr(), mode) }).map(drop)
}

/// Whether a directory has no entries but `.` and `..`, by readdir(3), which allocates.
pub(crate) fn is_empty(directory: BorrowedFd<'_>) -> Result<bool, Errno> {
    // Not a duplicate, which would share the position in the list.
    let opened = openat(directory, c".", Open::Directory)?;
    // SAFETY: the descriptor is open. After a success it belongs to the stream.
    let stream = unsafe { libc::fdopendir(opened.as_raw_fd()) };
    if stream.is_null() {
        return Err(last_errno());
    }
    let _ = opened.into_raw_fd();
    let is_empty = loop {
        // A failure differs from the end only in the errno.
        clear_errno();
        // SAFETY: the stream is open, and no other thread knows it.
        let entry = unsafe { libc::readdir(stream) };
        if entry.is_null() {
            break match last_errno() {
                0 => Ok(true),
                errno => Err(errno),
            };
        }
        // SAFETY: readdir has returned an entry, which is valid until the next call.
        let name = unsafe { &raw const (*entry).d_name };
        // SAFETY: the name ends in a NUL, and is valid as long as the entry.
        let name = unsafe { CStr::from_ptr(name.cast()) };
        if name != c"." && name != c".." {
            break Ok(false);
        }
    };
    // SAFETY: the stream is open, and not used any more. This closes the descriptor.
    unsafe { libc::closedir(stream) };
    is_empty
}

/// fchmodat(2), which does not follow a symbolic link. Fails with `ENOTSUP` in glibc before 2.32.
pub(crate) fn fchmodat(directory: BorrowedFd<'_>, path: &CStr, mode: u32) -> Result<(), Errno> {
    let (mode, flags) = (mode as libc::mode_t, libc::AT_SYMLINK_NOFOLLOW);
    // SAFETY: `path` is a C string that outlives the call; the others are plain numbers.
    cvt(unsafe { libc::fchmodat(directory.as_raw_fd(), path.as_ptr(), mode, flags) }).map(drop)
}

/// fchmod(2). Async-signal-safe.
pub(crate) fn fchmod(descriptor: BorrowedFd<'_>, mode: u32) -> Result<(), Errno> {
    // SAFETY: the descriptor is open, and a mode is a plain number.
    retry_on_eintr(|| unsafe { libc::fchmod(descriptor.as_raw_fd(), mode as libc::mode_t) })
        .map(drop)
}

/// fchown(2). `None` leaves an id as it is. Async-signal-safe.
pub(crate) fn fchown(
    descriptor: BorrowedFd<'_>,
    owner: Option<Uid>,
    group: Option<Gid>,
) -> Result<(), Errno> {
    const UNCHANGED: u32 = u32::MAX;
    // SAFETY: the descriptor is open, and ids are plain numbers.
    retry_on_eintr(|| unsafe {
        libc::fchown(
            descriptor.as_raw_fd(),
            owner.map_or(UNCHANGED, |uid| uid.0),
            group.map_or(UNCHANGED, |gid| gid.0),
        )
    })
    .map(drop)
}

/// The operation of [`flock`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub(crate) enum Lock {
    Exclusive = libc::LOCK_EX | libc::LOCK_NB,
    Shared = libc::LOCK_SH | libc::LOCK_NB,
    None = libc::LOCK_UN,
}

/// flock(2) without a wait: `EWOULDBLOCK` if another open file has the lock.
/// Async-signal-safe.
pub(crate) fn flock(descriptor: BorrowedFd<'_>, lock: Lock) -> Result<(), Errno> {
    let operation = lock as libc::c_int;
    // SAFETY: the descriptor is open.
    retry_on_eintr(|| unsafe { libc::flock(descriptor.as_raw_fd(), operation) }).map(drop)
}

/// ftruncate(2) to length 0. Async-signal-safe.
pub(crate) fn ftruncate(descriptor: BorrowedFd<'_>) -> Result<(), Errno> {
    // SAFETY: the descriptor is open.
    retry_on_eintr(|| unsafe { libc::ftruncate(descriptor.as_raw_fd(), 0) }).map(drop)
}

/// pwrite(2) at offset 0: how many bytes are written. Async-signal-safe.
pub(crate) fn pwrite(descriptor: BorrowedFd<'_>, bytes: &[u8]) -> Result<usize, Errno> {
    let start = bytes.as_ptr().cast();
    // SAFETY: `bytes` is valid for reads of its length.
    retry_on_eintr(|| unsafe { libc::pwrite(descriptor.as_raw_fd(), start, bytes.len(), 0) })
        .map(|written| written as usize)
}

/// pread(2) at offset 0: how many bytes are read. Async-signal-safe.
pub(crate) fn pread(descriptor: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<usize, Errno> {
    let start = buffer.as_mut_ptr().cast();
    // SAFETY: `buffer` is valid for writes of its length.
    retry_on_eintr(|| unsafe { libc::pread(descriptor.as_raw_fd(), start, buffer.len(), 0) })
        .map(|read| read as usize)
}

/// The working directory as a file.
pub(crate) fn working_directory_id() -> Result<FileId, Errno> {
    fstatat(WORKING_DIRECTORY, c".").map(|status| status.id)
}
