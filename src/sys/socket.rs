//! Sockets: a pair, and messages that carry descriptors.

use std::mem::{self, MaybeUninit};
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};

use super::fd::{fcntl_setfd, move_above_streams};
use super::platform::abi::{MSG_CMSG_CLOEXEC, MSG_NOSIGNAL, SO_NOSIGPIPE, SOCK_CLOEXEC};
use super::{Errno, Pid, cvt, retry_on_eintr};
use crate::deadline::Deadline;

/// socketpair(2): two connected ends of a byte stream that no other process can
/// find, and whose writers get no SIGPIPE.
pub(crate) fn socketpair() -> Result<(OwnedFd, OwnedFd), Errno> {
    let mut ends = [-1; 2];
    let kind = libc::SOCK_STREAM | SOCK_CLOEXEC;
    // SAFETY: `ends` is valid for writes of two descriptors.
    cvt(unsafe { libc::socketpair(libc::AF_UNIX, kind, 0, ends.as_mut_ptr()) })?;
    // SAFETY: socketpair has just made the descriptor, so that nothing else owns it.
    let [one, other] = ends.map(|end| unsafe { OwnedFd::from_raw_fd(end) });
    let (one, other) = (move_above_streams(one)?, move_above_streams(other)?);
    for end in [&one, &other] {
        prepare_socket(end.as_raw_fd())?;
    }
    Ok((one, other))
}

/// Sets what socketpair(2) and sendmsg(2) have no flags for on some platforms.
fn prepare_socket(socket: RawFd) -> Result<(), Errno> {
    if SOCK_CLOEXEC == 0 {
        fcntl_setfd(socket, libc::FD_CLOEXEC)?;
    }
    let Some(option) = SO_NOSIGPIPE else {
        return Ok(());
    };
    let on: libc::c_int = 1;
    // SAFETY: `on` is valid for reads of the size that is passed.
    cvt(unsafe {
        libc::setsockopt(
            socket,
            libc::SOL_SOCKET,
            option,
            (&raw const on).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    })
    .map(drop)
}

/// How many parts of memory one message is made of.
pub(crate) const MAX_PARTS: usize = 3;

/// How many descriptors one message carries at most.
pub(crate) const MAX_PASSED_FDS: usize = 3;

const MAX_RIGHTS_SIZE: u32 = (MAX_PASSED_FDS * size_of::<RawFd>()) as u32;

/// Room for the control message that carries descriptors, aligned for its header.
#[repr(C)]
pub(super) union Control {
    _alignment: MaybeUninit<libc::cmsghdr>,
    bytes: [u8; 64],
}

impl Control {
    pub(super) fn new() -> Self {
        // SAFETY: CMSG_SPACE is arithmetic.
        let needed = unsafe { libc::CMSG_SPACE(MAX_RIGHTS_SIZE) };
        debug_assert!(needed as usize <= size_of::<Self>());
        Self { bytes: [0; 64] }
    }
}

/// A message of parts and, if `control` has a size, a control message.
pub(super) fn message(parts: &mut [libc::iovec], control: &mut Control, size: u32) -> libc::msghdr {
    // SAFETY: all zeroes is an empty message on every platform.
    let mut message: libc::msghdr = unsafe { mem::zeroed() };
    message.msg_iov = parts.as_mut_ptr();
    message.msg_iovlen = parts.len() as _;
    if size > 0 {
        message.msg_control = (&raw mut *control).cast();
        // SAFETY: CMSG_SPACE is arithmetic.
        message.msg_controllen = unsafe { libc::CMSG_SPACE(size) } as _;
    }
    message
}

/// sendmsg(2): how many bytes are sent, the descriptors with the first byte. Fails with
/// `EINTR` if a signal interrupts the call after the deadline: each call waits for the whole
/// of the socket's time limit. Async-signal-safe.
pub(crate) fn sendmsg(
    socket: BorrowedFd<'_>,
    parts: [&[u8]; MAX_PARTS],
    descriptors: [Option<BorrowedFd<'_>>; MAX_PASSED_FDS],
    deadline: Deadline,
) -> Result<usize, Errno> {
    let mut vectors = parts.map(|bytes| libc::iovec {
        iov_base: bytes.as_ptr().cast_mut().cast(),
        iov_len: bytes.len(),
    });
    let mut control = Control::new();
    let size = (descriptors.iter().flatten().count() * size_of::<RawFd>()) as u32;
    let message = message(&mut vectors, &mut control, size);
    // SAFETY: CMSG_FIRSTHDR is null, or points to room for one header in `control`,
    // which is aligned and not borrowed elsewhere.
    let header = unsafe { libc::CMSG_FIRSTHDR(&raw const message) };
    // SAFETY: as above.
    if let Some(fields) = unsafe { header.as_mut() } {
        fields.cmsg_level = libc::SOL_SOCKET;
        fields.cmsg_type = libc::SCM_RIGHTS;
        // SAFETY: CMSG_LEN is arithmetic.
        fields.cmsg_len = unsafe { libc::CMSG_LEN(size) } as _;
        // SAFETY: CMSG_DATA is arithmetic on a valid header.
        let data = unsafe { libc::CMSG_DATA(header) }.cast::<RawFd>();
        for (index, descriptor) in descriptors.iter().flatten().enumerate() {
            let slot = data.wrapping_add(index);
            // SAFETY: `control` has room for `MAX_PASSED_FDS` numbers there, which need not
            // be aligned.
            unsafe { slot.write_unaligned(descriptor.as_raw_fd()) };
        }
    }
    loop {
        // SAFETY: the message points to `vectors`, `parts` and `control`, which
        // outlive the call.
        match cvt(unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const message, MSG_NOSIGNAL) }) {
            Err(libc::EINTR) if !deadline.has_passed() => {}
            sent => return sent.map(|sent| sent as usize),
        }
    }
}

/// shutdown(2) of the writing half: the peer reads an end of file, but can still write.
pub(crate) fn shutdown(socket: BorrowedFd<'_>) {
    // SAFETY: the descriptor is open.
    unsafe { libc::shutdown(socket.as_raw_fd(), libc::SHUT_WR) };
}

/// shutdown(2) of the reading half: sends to the socket fail from now on. Async-signal-safe.
pub(crate) fn shutdown_reading(socket: BorrowedFd<'_>) {
    // SAFETY: the descriptor is open.
    unsafe { libc::shutdown(socket.as_raw_fd(), libc::SHUT_RD) };
}

/// A message to a socket of `bind_notify_socket`.
pub(crate) struct Notification {
    /// The length of what the buffer has of it.
    pub(crate) length: usize,
    /// `None` if the process has no pid in this pid namespace.
    pub(crate) sender: Option<Pid>,
    /// Whether the message is longer than the buffer.
    pub(crate) is_cut: bool,
}

/// Whether [`recv`] waits for bytes, or fails with `EWOULDBLOCK`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub(crate) enum Wait {
    Yes = 0,
    No = libc::MSG_DONTWAIT,
}

/// recv(2): how many bytes are received; 0 at the end of file. The kernel discards
/// descriptors that come along. Async-signal-safe.
pub(crate) fn recv(socket: BorrowedFd<'_>, buffer: &mut [u8], wait: Wait) -> Result<usize, Errno> {
    let start = buffer.as_mut_ptr().cast();
    retry_on_eintr(|| {
        // SAFETY: `buffer` is valid for writes of its length.
        unsafe { libc::recv(socket.as_raw_fd(), start, buffer.len(), wait as libc::c_int) }
    })
    .map(|received| received as usize)
}

/// recvmsg(2): as [`recv`] without a wait, but puts the descriptors that come along into
/// `descriptors`, all or none of them. Async-signal-safe.
pub(crate) fn recvmsg(
    socket: BorrowedFd<'_>,
    buffer: &mut [u8],
    descriptors: &mut [Option<OwnedFd>; MAX_PASSED_FDS],
) -> Result<usize, Errno> {
    let mut vectors = [libc::iovec {
        iov_base: buffer.as_mut_ptr().cast(),
        iov_len: buffer.len(),
    }];
    let mut control = Control::new();
    let mut message = message(&mut vectors, &mut control, MAX_RIGHTS_SIZE);
    let flags = MSG_CMSG_CLOEXEC | libc::MSG_DONTWAIT;
    let received = retry_on_eintr(|| {
        // SAFETY: the message points to `vectors`, `buffer` and `control`, which
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
            // SAFETY: CMSG_DATA is arithmetic on a valid header.
            let data = unsafe { libc::CMSG_DATA(header) }.cast::<RawFd>();
            for index in 0..count.min(MAX_PASSED_FDS) {
                // SAFETY: the header says that there are `count` numbers, which need not be
                // aligned, and there is room for no more than `MAX_PASSED_FDS`.
                let descriptor = unsafe { data.wrapping_add(index).read_unaligned() };
                // SAFETY: the kernel has just made it for this process.
                let descriptor = unsafe { OwnedFd::from_raw_fd(descriptor) };
                is_whole &= store(descriptor, descriptors);
            }
            if !is_whole {
                // Their order says what they are, so that one missing makes all useless.
                *descriptors = [const { None }; MAX_PASSED_FDS];
            }
        }
    }
    Ok(received as usize)
}

/// Stores a received descriptor in the first free place. False if it cannot be
/// moved above the standard streams, and is closed.
fn store(descriptor: OwnedFd, places: &mut [Option<OwnedFd>; MAX_PASSED_FDS]) -> bool {
    let Ok(descriptor) = move_above_streams(descriptor) else {
        return false;
    };
    if MSG_CMSG_CLOEXEC == 0 {
        let _ = fcntl_setfd(descriptor.as_raw_fd(), libc::FD_CLOEXEC);
    }
    if let Some(place) = places.iter_mut().find(|place| place.is_none()) {
        *place = Some(descriptor);
    }
    true
}
