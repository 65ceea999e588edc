//! Descriptors: files, locks, sockets, poll.
//!
//! Every descriptor that the library makes is close-on-exec from birth and
//! numbered 3 or higher, so that it never is, or hides, a standard stream
//! that was closed.

use std::ffi::CStr;
#[cfg(not(target_vendor = "apple"))]
use std::iter;
use std::mem::{self, MaybeUninit};
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, IntoRawFd as _, OwnedFd, RawFd};
use std::time::{Duration, Instant};

// Where glibc has two, the other one knows no inode of more than 32 bits.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
use libc::{fstat as c_fstat, fstatat as c_fstatat, stat};
#[cfg(all(target_os = "linux", target_env = "gnu"))]
use libc::{fstat64 as c_fstat, fstatat64 as c_fstatat, stat64 as stat};

use super::{Errno, Gid, Uid, cvt, retry_on_eintr};

const FIRST_AFTER_STREAMS: RawFd = 3;

/// A file by its device and inode, which a path is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileId {
    pub(crate) device: u64,
    pub(crate) inode: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FileKind {
    Regular,
    Fifo,
    Device,
    /// Mostly what cannot be opened.
    Other,
}

/// What stat(2) tells.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attributes {
    pub(crate) id: FileId,
    pub(crate) kind: FileKind,
    /// Which character device it is the file of, if it is.
    pub(crate) character_device: Option<u64>,
    pub(crate) links: u64,
    pub(crate) owner: Uid,
    pub(crate) group: Gid,
    /// Permission bits, with set-id and sticky bits.
    pub(crate) mode: u32,
}

impl Attributes {
    fn of(stat: &stat) -> Self {
        Self {
            id: FileId {
                device: stat.st_dev as u64,
                inode: stat.st_ino as u64,
            },
            kind: match stat.st_mode & libc::S_IFMT {
                libc::S_IFREG => FileKind::Regular,
                libc::S_IFIFO => FileKind::Fifo,
                libc::S_IFCHR | libc::S_IFBLK => FileKind::Device,
                _ => FileKind::Other,
            },
            character_device: (stat.st_mode & libc::S_IFMT == libc::S_IFCHR)
                .then_some(stat.st_rdev as u64),
            links: stat.st_nlink as u64,
            owner: Uid(stat.st_uid),
            group: Gid(stat.st_gid),
            mode: stat.st_mode as u32 & 0o7777,
        }
    }
}

/// Where a relative path starts.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Directory<'a> {
    Working,
    Open(BorrowedFd<'a>),
}

impl Directory<'_> {
    fn raw(self) -> RawFd {
        match self {
            Self::Working => libc::AT_FDCWD,
            Self::Open(descriptor) => descriptor.as_raw_fd(),
        }
    }
}

/// How [`openat`] opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Open {
    /// To read and write, not through a symbolic link, without waiting for
    /// the other end of a FIFO or taking a terminal.
    Existing,
    /// As `Existing`, but fails with `EEXIST` unless it makes the file.
    New { mode: u32 },
    /// As `Existing`, but to read alone.
    ReadOnly,
    /// As `Existing`, but to write alone.
    WriteOnly,
    /// A directory, to look up names in.
    Directory,
    /// To read and write, as it is.
    Plain,
}

/// openat(2). Async-signal-safe.
pub(crate) fn openat(directory: Directory<'_>, path: &CStr, how: Open) -> Result<OwnedFd, Errno> {
    const CAREFUL: libc::c_int =
        libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY | libc::O_CLOEXEC;
    let (flags, mode) = match how {
        Open::Existing => (libc::O_RDWR | CAREFUL, 0),
        Open::New { mode } => (libc::O_RDWR | CAREFUL | libc::O_CREAT | libc::O_EXCL, mode),
        Open::ReadOnly => (libc::O_RDONLY | CAREFUL, 0),
        Open::WriteOnly => (libc::O_WRONLY | CAREFUL, 0),
        Open::Directory => (libc::O_RDONLY | libc::O_DIRECTORY | libc::O_CLOEXEC, 0),
        Open::Plain => (libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC, 0),
    };
    let opened = retry_on_eintr(|| {
        // SAFETY: `path` is a C string that outlives the call; the mode is
        // passed as the int-sized variadic argument that open expects.
        unsafe { libc::openat(directory.raw(), path.as_ptr(), flags, mode as libc::c_uint) }
    });
    match opened {
        Ok(descriptor) => {
            // SAFETY: openat just returned it, so that nobody else owns it.
            above_streams(unsafe { OwnedFd::from_raw_fd(descriptor) })
        }
        // FreeBSD's open(2) and NetBSD's have errnos of their own for a
        // symbolic link under O_NOFOLLOW; POSIX has ELOOP.
        #[cfg(any(target_os = "freebsd", target_os = "dragonfly"))]
        Err(libc::EMLINK) if flags & libc::O_NOFOLLOW != 0 => Err(libc::ELOOP),
        #[cfg(target_os = "netbsd")]
        Err(libc::EFTYPE) if flags & libc::O_NOFOLLOW != 0 => Err(libc::ELOOP),
        Err(errno) => Err(errno),
    }
}

/// A descriptor of the library's own, moved to 3 or higher if it took the
/// place of a closed standard stream. Async-signal-safe.
pub(super) fn above_streams(descriptor: OwnedFd) -> Result<OwnedFd, Errno> {
    if descriptor.as_raw_fd() >= FIRST_AFTER_STREAMS {
        Ok(descriptor)
    } else {
        dup_above_streams(descriptor.as_raw_fd())
    }
}

/// fcntl(2) F_DUPFD_CLOEXEC: a second descriptor for the same open file,
/// numbered 3 or higher. Async-signal-safe.
pub(crate) fn dup_above_streams(descriptor: RawFd) -> Result<OwnedFd, Errno> {
    // SAFETY: fcntl checks the number; F_DUPFD_CLOEXEC takes an int.
    let copy = cvt(unsafe { libc::fcntl(descriptor, libc::F_DUPFD_CLOEXEC, FIRST_AFTER_STREAMS) })?;
    // SAFETY: fcntl just made it, so that nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(copy) })
}

/// dup2(2) onto a standard stream, which is left open across exec.
/// Async-signal-safe.
pub(crate) fn dup2(source: BorrowedFd<'_>, stream: RawFd) -> Result<(), Errno> {
    loop {
        // SAFETY: `source` is open; the target is one of the numbers that
        // belong to the process and not to a value in it.
        match retry_on_eintr(|| unsafe { libc::dup2(source.as_raw_fd(), stream) }) {
            // Linux: another descriptor is being opened under this number.
            Err(libc::EBUSY) => {}
            other => return other.map(drop),
        }
    }
}

/// Whether a descriptor of that number is open. Async-signal-safe.
pub(crate) fn is_open(descriptor: RawFd) -> bool {
    // SAFETY: F_GETFD takes nothing more and only reads.
    unsafe { libc::fcntl(descriptor, libc::F_GETFD) != -1 }
}

/// Leaves an open descriptor open across exec. Async-signal-safe.
pub(crate) fn clear_cloexec(descriptor: RawFd) -> Result<(), Errno> {
    // SAFETY: F_GETFD takes nothing more and only reads.
    let flags = cvt(unsafe { libc::fcntl(descriptor, libc::F_GETFD) })?;
    if flags & libc::FD_CLOEXEC != 0 {
        // SAFETY: F_SETFD takes an int, and changes nothing but the flag.
        cvt(unsafe { libc::fcntl(descriptor, libc::F_SETFD, flags & !libc::FD_CLOEXEC) })?;
    }
    Ok(())
}

/// close(2), for those who want to know. Async-signal-safe.
pub(crate) fn close(descriptor: OwnedFd) -> Result<(), Errno> {
    // SAFETY: the descriptor is owned, and given up here. It is closed even
    // when close fails, so that it is never closed twice.
    match cvt(unsafe { libc::close(descriptor.into_raw_fd()) }) {
        Err(libc::EINTR) | Ok(_) => Ok(()),
        Err(errno) => Err(errno),
    }
}

/// The numbers from 3 on between those given, which are in order: first and,
/// where there is one, last of each range. Async-signal-safe.
#[cfg(not(target_vendor = "apple"))]
pub(super) fn ranges_between(kept: &[RawFd]) -> impl Iterator<Item = (RawFd, Option<RawFd>)> + '_ {
    let after = |descriptor: RawFd| descriptor.saturating_add(1).max(FIRST_AFTER_STREAMS);
    let firsts = iter::once(FIRST_AFTER_STREAMS).chain(kept.iter().map(move |&kept| after(kept)));
    let lasts = kept
        .iter()
        .map(|&kept| Some(kept - 1))
        .chain(iter::once(None));
    firsts
        .zip(lasts)
        .filter(|&(first, last)| last.is_none_or(|last| first <= last))
}

/// close(2), of a number that no value in the process will use or close any
/// more: whether it was open. Async-signal-safe.
pub(crate) fn close_raw(descriptor: RawFd) -> bool {
    // SAFETY: it is either of a copy that is forgotten (see own_fds.rs), or one
    // of which the caller of `close_inherited_fds` has promised it.
    let closed = cvt(unsafe { libc::close(descriptor) });
    // Linux closes it also where close is interrupted, or cannot write.
    closed != Err(libc::EBADF)
}

/// Closes a number if it is still of this file, so that it is not another value's
/// by now. Async-signal-safe.
pub(crate) fn close_if_same_file(descriptor: RawFd, file: FileId) {
    if is_same_file(descriptor, file) {
        close_raw(descriptor);
    }
}

/// Whether a number is open, and of this file. Async-signal-safe.
pub(crate) fn is_same_file(descriptor: RawFd, file: FileId) -> bool {
    fstat_raw(descriptor).is_ok_and(|found| found.id == file)
}

/// Whether a number that was of this file is closed, or another file's by now.
/// Async-signal-safe.
pub(crate) fn is_replaced(descriptor: RawFd, file: FileId) -> bool {
    match fstat_raw(descriptor) {
        Ok(found) => found.id != file,
        Err(errno) => errno == libc::EBADF,
    }
}

/// fstat(2). Async-signal-safe.
pub(crate) fn fstat(descriptor: BorrowedFd<'_>) -> Result<Attributes, Errno> {
    fstat_raw(descriptor.as_raw_fd())
}

fn fstat_raw(descriptor: RawFd) -> Result<Attributes, Errno> {
    let mut stat = MaybeUninit::zeroed();
    // SAFETY: `stat` is valid for writes of its size; a number that is not open
    // fails.
    cvt(unsafe { c_fstat(descriptor, stat.as_mut_ptr()) })?;
    // SAFETY: fstat succeeded, and has filled it in.
    Ok(Attributes::of(unsafe { stat.assume_init_ref() }))
}

/// fstatat(2), of a symbolic link itself. Async-signal-safe.
pub(crate) fn fstatat(directory: Directory<'_>, path: &CStr) -> Result<Attributes, Errno> {
    let mut stat = MaybeUninit::zeroed();
    // SAFETY: `path` is a C string that outlives the call, and `stat` is
    // valid for writes of its size.
    cvt(unsafe {
        c_fstatat(
            directory.raw(),
            path.as_ptr(),
            stat.as_mut_ptr(),
            libc::AT_SYMLINK_NOFOLLOW,
        )
    })?;
    // SAFETY: fstatat succeeded, and has filled it in.
    Ok(Attributes::of(unsafe { stat.assume_init_ref() }))
}

/// unlinkat(2). Async-signal-safe.
pub(crate) fn unlinkat(directory: Directory<'_>, path: &CStr) -> Result<(), Errno> {
    // SAFETY: `path` is a C string that outlives the call.
    cvt(unsafe { libc::unlinkat(directory.raw(), path.as_ptr(), 0) }).map(drop)
}

/// fchmod(2). Async-signal-safe.
pub(crate) fn fchmod(descriptor: BorrowedFd<'_>, mode: u32) -> Result<(), Errno> {
    // SAFETY: the descriptor is open, and a mode is a plain number.
    retry_on_eintr(|| unsafe { libc::fchmod(descriptor.as_raw_fd(), mode as libc::mode_t) })
        .map(drop)
}

/// fchown(2), where `None` leaves an id as it is. Async-signal-safe.
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

/// What [`lock`] asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lock {
    Exclusive,
    Shared,
    None,
}

/// flock(2), which does not wait: `EWOULDBLOCK` where another holds it.
/// Async-signal-safe.
pub(crate) fn flock(descriptor: BorrowedFd<'_>, lock: Lock) -> Result<(), Errno> {
    let operation = match lock {
        Lock::Exclusive => libc::LOCK_EX | libc::LOCK_NB,
        Lock::Shared => libc::LOCK_SH | libc::LOCK_NB,
        Lock::None => libc::LOCK_UN,
    };
    // SAFETY: the descriptor is open.
    retry_on_eintr(|| unsafe { libc::flock(descriptor.as_raw_fd(), operation) }).map(drop)
}

/// ftruncate(2) to nothing. Async-signal-safe.
pub(crate) fn ftruncate(descriptor: BorrowedFd<'_>) -> Result<(), Errno> {
    // SAFETY: the descriptor is open.
    retry_on_eintr(|| unsafe { libc::ftruncate(descriptor.as_raw_fd(), 0) }).map(drop)
}

/// pwrite(2) at the beginning: how much was written. Async-signal-safe.
pub(crate) fn pwrite(descriptor: BorrowedFd<'_>, bytes: &[u8]) -> Result<usize, Errno> {
    retry_on_eintr(|| {
        // SAFETY: `bytes` is valid for reads of its length.
        unsafe {
            libc::pwrite(
                descriptor.as_raw_fd(),
                bytes.as_ptr().cast(),
                bytes.len(),
                0,
            )
        }
    })
    .map(|written| written as usize)
}

/// pread(2) from the beginning: how much was read. Async-signal-safe.
pub(crate) fn pread(descriptor: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<usize, Errno> {
    retry_on_eintr(|| {
        // SAFETY: `buffer` is valid for writes of its length.
        unsafe {
            libc::pread(
                descriptor.as_raw_fd(),
                buffer.as_mut_ptr().cast(),
                buffer.len(),
                0,
            )
        }
    })
    .map(|read| read as usize)
}

/// socketpair(2): two connected ends of a byte stream that nobody else can
/// find, and that raise no SIGPIPE.
pub(crate) fn socketpair() -> Result<(OwnedFd, OwnedFd), Errno> {
    #[cfg(target_vendor = "apple")]
    const KIND: libc::c_int = libc::SOCK_STREAM;
    #[cfg(not(target_vendor = "apple"))]
    const KIND: libc::c_int = libc::SOCK_STREAM | libc::SOCK_CLOEXEC;

    let mut ends = [-1; 2];
    // SAFETY: `ends` is valid for writes of two descriptors.
    cvt(unsafe { libc::socketpair(libc::AF_UNIX, KIND, 0, ends.as_mut_ptr()) })?;
    // SAFETY: socketpair just made it, so that nobody else owns it.
    let one = unsafe { OwnedFd::from_raw_fd(ends[0]) };
    // SAFETY: as above.
    let other = unsafe { OwnedFd::from_raw_fd(ends[1]) };
    let (one, other) = (above_streams(one)?, above_streams(other)?);
    #[cfg(target_vendor = "apple")]
    for end in [&one, &other] {
        prepare_socket(end.as_raw_fd())?;
    }
    Ok((one, other))
}

/// What socketpair(2) and send(2) cannot be asked for on macOS.
#[cfg(target_vendor = "apple")]
fn prepare_socket(socket: RawFd) -> Result<(), Errno> {
    let on: libc::c_int = 1;
    // SAFETY: F_SETFD takes an int.
    cvt(unsafe { libc::fcntl(socket, libc::F_SETFD, libc::FD_CLOEXEC) })?;
    // SAFETY: `on` is valid for reads of the size that is named.
    cvt(unsafe {
        libc::setsockopt(
            socket,
            libc::SOL_SOCKET,
            libc::SO_NOSIGPIPE,
            (&raw const on).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    })
    .map(drop)
}

#[cfg(target_vendor = "apple")]
const NO_SIGPIPE: libc::c_int = 0;
#[cfg(not(target_vendor = "apple"))]
const NO_SIGPIPE: libc::c_int = libc::MSG_NOSIGNAL;

#[cfg(any(target_vendor = "apple", target_os = "illumos", target_os = "solaris"))]
const CLOSE_ON_EXEC: libc::c_int = 0;
#[cfg(not(any(target_vendor = "apple", target_os = "illumos", target_os = "solaris")))]
const CLOSE_ON_EXEC: libc::c_int = libc::MSG_CMSG_CLOEXEC;

/// How many descriptors one message carries at the most.
pub(crate) const MAX_PASSED_FDS: usize = 3;

const CARRIED_SIZE: u32 = (MAX_PASSED_FDS * size_of::<RawFd>()) as u32;

/// Room for the control message that carries descriptors, aligned for its
/// header.
#[repr(C)]
union Control {
    _alignment: MaybeUninit<libc::cmsghdr>,
    bytes: [u8; 64],
}

impl Control {
    fn new() -> Self {
        // SAFETY: CMSG_SPACE is arithmetic.
        let needed = unsafe { libc::CMSG_SPACE(CARRIED_SIZE) };
        debug_assert!(needed as usize <= size_of::<Self>());
        Self { bytes: [0; 64] }
    }
}

/// sendmsg(2): how many bytes went out, the descriptors with the first of
/// them. Async-signal-safe.
pub(crate) fn sendmsg(
    socket: BorrowedFd<'_>,
    bytes: &[u8],
    descriptors: [Option<BorrowedFd<'_>>; MAX_PASSED_FDS],
) -> Result<usize, Errno> {
    sendmsg_while(|| true, socket, bytes, descriptors)
}

/// The same, but given up with `EINTR` if a signal interrupts it when it is to be:
/// a time limit of the socket's counts from the beginning each time.
pub(crate) fn sendmsg_while(
    mut goes_on: impl FnMut() -> bool,
    socket: BorrowedFd<'_>,
    bytes: &[u8],
    descriptors: [Option<BorrowedFd<'_>>; MAX_PASSED_FDS],
) -> Result<usize, Errno> {
    let mut part = libc::iovec {
        iov_base: bytes.as_ptr().cast_mut().cast(),
        iov_len: bytes.len(),
    };
    let mut control = Control::new();
    // SAFETY: all zeroes is an empty message on every platform.
    let mut message: libc::msghdr = unsafe { mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;

    let count = descriptors.iter().flatten().count();
    if count > 0 {
        let size = (count * size_of::<RawFd>()) as u32;
        message.msg_control = (&raw mut control).cast();
        // SAFETY: CMSG_SPACE is arithmetic.
        message.msg_controllen = unsafe { libc::CMSG_SPACE(size) } as _;
        // SAFETY: the message has room for one header, aligned by the union.
        let header = unsafe { libc::CMSG_FIRSTHDR(&raw const message) };
        // SAFETY: CMSG_LEN is arithmetic.
        let length = unsafe { libc::CMSG_LEN(size) };
        // SAFETY: CMSG_FIRSTHDR pointed into `control`, which is not null,
        // aligned, and nobody else's.
        let fields = unsafe { &mut *header };
        fields.cmsg_level = libc::SOL_SOCKET;
        fields.cmsg_type = libc::SCM_RIGHTS;
        fields.cmsg_len = length as _;
        for (index, descriptor) in descriptors.iter().flatten().enumerate() {
            // SAFETY: CMSG_DATA is arithmetic on a valid header.
            let data = unsafe { libc::CMSG_DATA(header) }.cast::<RawFd>();
            // SAFETY: `control` has room for `MAX_PASSED_FDS` numbers there.
            let slot = unsafe { data.add(index) };
            // SAFETY: as above; the data need not be aligned.
            unsafe { slot.write_unaligned(descriptor.as_raw_fd()) };
        }
    }
    loop {
        // SAFETY: the message points to `part`, `bytes` and `control`, which
        // outlive the call.
        match cvt(unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const message, NO_SIGPIPE) }) {
            Err(libc::EINTR) if goes_on() => {}
            // To try again could go on for ever.
            Ok(0) => return Err(libc::EIO),
            sent => return sent.map(|sent| sent as usize),
        }
    }
}

/// shutdown(2): the other end reads an end of file, but can still write.
pub(crate) fn shutdown(socket: BorrowedFd<'_>) {
    // SAFETY: the descriptor is open.
    unsafe { libc::shutdown(socket.as_raw_fd(), libc::SHUT_WR) };
}

/// Whether [`recv`] waits for bytes, or fails with `EWOULDBLOCK`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    Yes,
    No,
}

impl Wait {
    fn flag(self) -> libc::c_int {
        match self {
            Self::Yes => 0,
            Self::No => libc::MSG_DONTWAIT,
        }
    }
}

/// recv(2): how many bytes came in; 0 is end of file. The kernel discards
/// descriptors that came along. Async-signal-safe.
pub(crate) fn recv(socket: BorrowedFd<'_>, buffer: &mut [u8], wait: Wait) -> Result<usize, Errno> {
    retry_on_eintr(|| {
        // SAFETY: `buffer` is valid for writes of its length.
        unsafe {
            libc::recv(
                socket.as_raw_fd(),
                buffer.as_mut_ptr().cast(),
                buffer.len(),
                wait.flag(),
            )
        }
    })
    .map(|received| received as usize)
}

/// recvmsg(2): as [`recv`], but descriptors that came along fill up
/// `descriptors`, all or none of them. Async-signal-safe.
pub(crate) fn recvmsg(
    socket: BorrowedFd<'_>,
    buffer: &mut [u8],
    descriptors: &mut [Option<OwnedFd>; MAX_PASSED_FDS],
    wait: Wait,
) -> Result<usize, Errno> {
    let mut part = libc::iovec {
        iov_base: buffer.as_mut_ptr().cast(),
        iov_len: buffer.len(),
    };
    let mut control = Control::new();
    // SAFETY: all zeroes is an empty message on every platform.
    let mut message: libc::msghdr = unsafe { mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = (&raw mut control).cast();
    // SAFETY: CMSG_SPACE is arithmetic.
    message.msg_controllen = unsafe { libc::CMSG_SPACE(CARRIED_SIZE) } as _;
    let flags = CLOSE_ON_EXEC | wait.flag();
    let received = retry_on_eintr(|| {
        // SAFETY: the message points to `part`, `buffer` and `control`, which
        // outlive the call.
        unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, flags) }
    })?;
    // SAFETY: recvmsg has set the length of what is in `control`.
    let header = unsafe { libc::CMSG_FIRSTHDR(&raw const message) };
    // SAFETY: CMSG_FIRSTHDR is null or points to a whole header in `control`.
    if let Some(fields) = unsafe { header.as_ref() } {
        if fields.cmsg_level == libc::SOL_SOCKET && fields.cmsg_type == libc::SCM_RIGHTS {
            // SAFETY: CMSG_LEN is arithmetic.
            let empty = unsafe { libc::CMSG_LEN(0) } as usize;
            let count = (fields.cmsg_len as usize).saturating_sub(empty) / size_of::<RawFd>();
            let mut is_whole = message.msg_flags & libc::MSG_CTRUNC == 0;
            for index in 0..count.min(MAX_PASSED_FDS) {
                // SAFETY: CMSG_DATA is arithmetic on a valid header.
                let data = unsafe { libc::CMSG_DATA(header) }.cast::<RawFd>();
                // SAFETY: the header says that there are `count` numbers, and
                // there is room for no more than `MAX_PASSED_FDS`.
                let slot = unsafe { data.add(index) };
                // SAFETY: as above; the data need not be aligned.
                let descriptor = unsafe { slot.read_unaligned() };
                // SAFETY: the kernel just made it for this process.
                let descriptor = unsafe { OwnedFd::from_raw_fd(descriptor) };
                is_whole &= take_in(descriptor, descriptors);
            }
            if !is_whole {
                // Which is which can only be told when all are there.
                *descriptors = [const { None }; MAX_PASSED_FDS];
            }
        }
    }
    Ok(received as usize)
}

/// Finds a place for a descriptor that came in a message. False where it could
/// not be moved above the streams, and was closed.
fn take_in(descriptor: OwnedFd, places: &mut [Option<OwnedFd>; MAX_PASSED_FDS]) -> bool {
    let Ok(descriptor) = above_streams(descriptor) else {
        return false;
    };
    #[cfg(any(target_vendor = "apple", target_os = "illumos", target_os = "solaris"))]
    {
        // SAFETY: F_SETFD takes an int.
        unsafe { libc::fcntl(descriptor.as_raw_fd(), libc::F_SETFD, libc::FD_CLOEXEC) };
    }
    if let Some(place) = places.iter_mut().find(|place| place.is_none()) {
        *place = Some(descriptor);
    }
    true
}

/// poll(2): whether a number is worth writing to: what is open under it has room, or
/// fails at once. False if the time was up first.
pub(crate) fn await_writable(descriptor: RawFd, deadline: Instant) -> bool {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let mut waited = libc::pollfd {
            fd: descriptor,
            events: libc::POLLOUT,
            revents: 0,
        };
        // SAFETY: `waited` is valid for reads and writes of its one element.
        match cvt(unsafe { libc::poll(&raw mut waited, 1, to_milliseconds(left)) }) {
            // Nothing that could be waited for.
            Err(errno) if errno != libc::EINTR => return true,
            Ok(1..) => return true,
            Ok(_) | Err(_) if left.is_zero() => return false,
            Ok(_) | Err(_) => {}
        }
    }
}

/// Rounded up, so that a short rest is no busy loop.
fn to_milliseconds(duration: Duration) -> libc::c_int {
    let milliseconds = duration.as_nanos().div_ceil(1_000_000);
    libc::c_int::try_from(milliseconds).unwrap_or(libc::c_int::MAX)
}

/// poll(2): returns when one of the descriptors is readable or at its end of
/// file, when the time is up, or early. The caller looks again in any case;
/// true says that it will not look in vain. Async-signal-safe.
pub(crate) fn wait_readable(
    descriptors: [Option<BorrowedFd<'_>>; 2],
    timeout: Option<Duration>,
) -> bool {
    // poll(2) passes over negative numbers.
    let mut waited = descriptors.map(|descriptor| libc::pollfd {
        fd: descriptor.map_or(-1, |descriptor| descriptor.as_raw_fd()),
        events: libc::POLLIN,
        revents: 0,
    });
    let milliseconds = timeout.map_or(-1, to_milliseconds);
    // SAFETY: `waited` is valid for reads and writes of its two elements.
    unsafe {
        libc::poll(
            waited.as_mut_ptr(),
            waited.len() as libc::nfds_t,
            milliseconds,
        ) > 0
    }
}

/// Waits until a descriptor is readable or at its end of file, through all
/// interruptions. A descriptor that names a process is so when that has ended.
/// False if the time was up first.
pub(crate) fn await_readable(descriptor: BorrowedFd<'_>, patience: Option<Duration>) -> bool {
    let patience_ends = patience.map(|patience| Instant::now() + patience);
    loop {
        let left = patience_ends.map(|end| end.saturating_duration_since(Instant::now()));
        if wait_readable([Some(descriptor), None], left) {
            return true;
        }
        if left == Some(Duration::ZERO) {
            return false;
        }
    }
}
