//! The control socket.

#[cfg(target_os = "macos")]
use std::ffi::c_int;
use std::io;
#[cfg(target_os = "linux")]
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Instant;

#[cfg(not(target_os = "linux"))]
use super::EventQueue;
#[cfg(target_os = "linux")]
use super::poll_until;
use super::{check, retry};

/// Whether a message keeps its boundary. macOS has no SOCK_SEQPACKET for local sockets, and of its
/// kinds only the stream reports that the other side is gone. Since FreeBSD 15, such a message ends
/// only where the sender sets MSG_EOR.
pub const PACKETS: bool = cfg!(not(any(target_os = "macos", target_os = "freebsd")));

/// A connected pair of local sockets, both closed on exec.
pub fn socket_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    #[cfg(target_os = "freebsd")]
    let kind = libc::SOCK_STREAM | libc::SOCK_CLOEXEC;
    #[cfg(not(any(target_os = "macos", target_os = "freebsd")))]
    let kind = libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC;
    #[cfg(target_os = "macos")]
    let kind = libc::SOCK_STREAM;
    let mut pair = [-1; 2];
    // SAFETY: the array has room for both.
    check(unsafe { libc::socketpair(libc::AF_UNIX, kind, 0, pair.as_mut_ptr()) })?;
    // SAFETY: the call has just made the descriptors, so that nothing else owns them.
    let pair = pair.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) });
    #[cfg(target_os = "macos")]
    for fd in &pair {
        // SAFETY: no pointers are passed.
        check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFD, libc::FD_CLOEXEC) })?;
        let on: c_int = 1;
        let length = libc::socklen_t::try_from(size_of::<c_int>()).expect("small");
        // SAFETY: the value is valid for the call and as long as stated.
        check(unsafe {
            libc::setsockopt(
                fd.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_NOSIGPIPE,
                (&raw const on).cast(),
                length,
            )
        })?;
    }
    let [one, other] = pair;
    Ok((one, other))
}

linux_only! {
    /// Sends a descriptor, with one byte.
    pub fn send_descriptor(socket: BorrowedFd<'_>, sent: BorrowedFd<'_>) -> io::Result<()> {
        let mut byte = [0_u8];
        let mut part = libc::iovec {
            iov_base: byte.as_mut_ptr().cast(),
            iov_len: 1,
        };
        // The buffer is aligned for a header.
        let mut control = [0_u64; 8];
        // SAFETY: all zeroes is an empty message.
        let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        message.msg_control = control.as_mut_ptr().cast();
        // The type of a length differs between C libraries.
        // SAFETY: CMSG_SPACE is arithmetic.
        message.msg_controllen = unsafe { libc::CMSG_SPACE(4) } as _;
        // SAFETY: CMSG_FIRSTHDR is arithmetic on a message with a buffer.
        let header = unsafe { libc::CMSG_FIRSTHDR(&raw const message) };
        // SAFETY: there is room for an aligned header, which nothing else uses.
        let header = unsafe { &mut *header };
        header.cmsg_level = libc::SOL_SOCKET;
        header.cmsg_type = libc::SCM_RIGHTS;
        // SAFETY: CMSG_LEN is arithmetic.
        header.cmsg_len = unsafe { libc::CMSG_LEN(4) } as _;
        // SAFETY: CMSG_DATA is arithmetic on a valid header.
        let slot = unsafe { libc::CMSG_DATA(header) }.cast::<i32>();
        // SAFETY: there is room for a descriptor behind the header.
        unsafe { slot.write_unaligned(sent.as_raw_fd()) };
        // SAFETY: the message points to what outlives the call.
        check(unsafe {
            libc::sendmsg(socket.as_raw_fd(), &raw const message, libc::MSG_NOSIGNAL)
        })
        .map(drop)
    }
}

/// Sends all of `bytes`, with a single call where messages keep their boundary. Raises no SIGPIPE.
pub fn send(socket: BorrowedFd<'_>, mut bytes: &[u8]) -> io::Result<()> {
    #[cfg(not(target_os = "macos"))]
    let flags = libc::MSG_NOSIGNAL;
    #[cfg(target_os = "macos")]
    let flags = 0;
    while !bytes.is_empty() {
        let sent = retry(|| {
            // SAFETY: the bytes are valid for the call and as many as stated.
            let sent = unsafe {
                libc::send(
                    socket.as_raw_fd(),
                    bytes.as_ptr().cast(),
                    bytes.len(),
                    flags,
                )
            };
            usize::try_from(sent).map_err(|_| io::Error::last_os_error())
        })?;
        bytes = &bytes[sent..];
    }
    Ok(())
}

/// Receives at most `buffer.len()` bytes; 0 means that the other side is gone.
pub fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<usize> {
    retry(|| {
        // SAFETY: the buffer is valid for the call and as long as stated.
        let received = unsafe {
            libc::recv(
                socket.as_raw_fd(),
                buffer.as_mut_ptr().cast(),
                buffer.len(),
                0,
            )
        };
        usize::try_from(received).map_err(|_| io::Error::last_os_error())
    })
}

/// The address of a name in the abstract namespace, which begins with `@`.
#[cfg(target_os = "linux")]
fn abstract_address(address: &str) -> io::Result<SocketAddr> {
    use std::os::linux::net::SocketAddrExt as _;

    let name = address
        .strip_prefix('@')
        .ok_or(io::ErrorKind::InvalidInput)?;
    SocketAddr::from_abstract_name(name)
}

#[cfg(not(target_os = "linux"))]
fn abstract_address(_address: &str) -> io::Result<SocketAddr> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Sends a datagram to this name in the abstract namespace (Linux).
pub fn notify(address: &str, message: &[u8]) -> io::Result<()> {
    let socket = UnixDatagram::unbound()?;
    let sent = socket.send_to_addr(message, &abstract_address(address)?);
    sent.map(drop)
}

/// Takes this name in the abstract namespace (Linux).
pub fn bind_abstract(address: &str) -> io::Result<UnixDatagram> {
    UnixDatagram::bind_addr(&abstract_address(address)?)
}

/// Lets [`receive_with_sender`] learn the sender.
#[cfg(target_os = "linux")]
pub fn ask_for_senders(socket: BorrowedFd<'_>) -> io::Result<()> {
    let on: libc::c_int = 1;
    let length = libc::socklen_t::try_from(size_of_val(&on)).expect("small");
    // SAFETY: the value is valid for the call and as long as stated.
    check(unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PASSCRED,
            (&raw const on).cast(),
            length,
        )
    })
    .map(drop)
}

/// The next datagram and the process id of its sender, as a service manager
/// receives it. `None` when the time is up.
#[cfg(target_os = "linux")]
pub fn receive_with_sender(
    socket: BorrowedFd<'_>,
    deadline: Instant,
) -> io::Result<Option<(Vec<u8>, u32)>> {
    /// The control message with its header, which must be aligned.
    #[repr(C)]
    struct Credentials {
        header: libc::cmsghdr,
        credentials: libc::ucred,
    }

    if !poll_until(socket, libc::POLLIN, Some(deadline))? {
        return Ok(None);
    }
    let mut bytes = vec![0; 4096];
    let mut parts = libc::iovec {
        iov_base: bytes.as_mut_ptr().cast(),
        iov_len: bytes.len(),
    };
    let mut control = MaybeUninit::<Credentials>::zeroed();
    // SAFETY: all zeroes are a valid msghdr: nothing is asked for.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut parts;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    #[allow(
        clippy::cast_possible_truncation,
        reason = "the type of a length differs between C libraries"
    )]
    let length = size_of::<Credentials>() as _;
    message.msg_controllen = length;
    let received = retry(|| {
        // SAFETY: the message and what it points to are valid for the call.
        let received = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, 0) };
        usize::try_from(received).map_err(|_| io::Error::last_os_error())
    })?;
    // SAFETY: all zeroes are valid, and so is what the kernel has written.
    let control = unsafe { control.assume_init() };
    if control.header.cmsg_type != libc::SCM_CREDENTIALS {
        return Err(io::Error::other("a datagram without its sender"));
    }
    bytes.truncate(received);
    let sender = u32::try_from(control.credentials.pid).map_err(io::Error::other)?;
    Ok(Some((bytes, sender)))
}

/// Sends an end of file to every process with the other end. What is queued stays, and the other
/// side can still send: on FreeBSD and macOS, an end of both directions would discard what this side
/// has not received yet.
pub fn shut_down(socket: BorrowedFd<'_>) {
    // SAFETY: shutdown takes plain numbers. A peer that is gone is no error.
    unsafe { libc::shutdown(socket.as_raw_fd(), libc::SHUT_WR) };
}

/// Waits until the other side is shut down or gone, and receives nothing.
pub fn wait_for_hangup(socket: BorrowedFd<'_>) -> io::Result<()> {
    wait_for_hangup_until(socket, None).map(drop)
}

/// Whether the other side is shut down or gone.
pub fn is_hung_up(socket: BorrowedFd<'_>) -> bool {
    wait_for_hangup_until(socket, Some(Instant::now())).unwrap_or(true)
}

#[cfg(target_os = "linux")]
fn wait_for_hangup_until(socket: BorrowedFd<'_>, deadline: Option<Instant>) -> io::Result<bool> {
    poll_until(socket, libc::POLLRDHUP, deadline)
}

/// poll(2) of FreeBSD and macOS waits for a hang-up only if it waits for messages too, and a queued
/// message would end the wait.
#[cfg(not(target_os = "linux"))]
fn wait_for_hangup_until(socket: BorrowedFd<'_>, deadline: Option<Instant>) -> io::Result<bool> {
    let queue = EventQueue::of_input(socket)?;
    loop {
        match queue.next_is_end_of_file(deadline)? {
            Some(true) => return Ok(true),
            // A message has come.
            Some(false) => {}
            None => return Ok(false),
        }
    }
}
