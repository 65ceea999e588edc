//! The receiving end of sd_notify(3): unix(7).

use std::mem;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};

use crate::sys::fd::move_above_streams;
use crate::sys::socket::{Control, message};
use crate::sys::{Errno, Notification, Pid, cvt, retry_on_eintr};

pub(crate) const HAS_NOTIFY_SOCKET: bool = true;

/// A datagram socket with this name in the abstract namespace, each of whose messages comes with
/// the pid of its sender. Async-signal-safe.
pub(crate) fn bind_notify_socket(name: &[u8]) -> Result<OwnedFd, Errno> {
    let kind = libc::SOCK_DGRAM | libc::SOCK_CLOEXEC;
    // SAFETY: socket takes plain numbers.
    let socket = cvt(unsafe { libc::socket(libc::AF_UNIX, kind, 0) })?;
    // SAFETY: socket has just made the descriptor, so that nothing else owns it.
    let socket = move_above_streams(unsafe { OwnedFd::from_raw_fd(socket) })?;
    let on: libc::c_int = 1;
    // Precedes bind(2): no message comes without its sender.
    // SAFETY: `on` is valid for reads of the size that is passed.
    cvt(unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PASSCRED,
            (&raw const on).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    })?;
    // SAFETY: all zeroes is a valid address of this type.
    let mut address: libc::sockaddr_un = unsafe { mem::zeroed() };
    address.sun_family = libc::AF_UNIX as libc::sa_family_t;
    // The first byte stays 0: the name is abstract.
    let places = address.sun_path.iter_mut().skip(1);
    for (place, byte) in places.zip(name) {
        *place = *byte as libc::c_char;
    }
    let size = mem::offset_of!(libc::sockaddr_un, sun_path) + 1 + name.len();
    if size > size_of::<libc::sockaddr_un>() {
        return Err(libc::ENAMETOOLONG);
    }
    // SAFETY: `address` is valid for reads of `size` bytes.
    cvt(unsafe {
        libc::bind(
            socket.as_raw_fd(),
            (&raw const address).cast(),
            size as libc::socklen_t,
        )
    })?;
    Ok(socket)
}

/// recvmsg(2) without a wait, for a socket of [`bind_notify_socket`]. There is no room for
/// descriptors, so that the kernel closes those that come along. Async-signal-safe.
pub(crate) fn recv_notification(
    socket: BorrowedFd<'_>,
    buffer: &mut [u8],
) -> Result<Notification, Errno> {
    let mut vectors = [libc::iovec {
        iov_base: buffer.as_mut_ptr().cast(),
        iov_len: buffer.len(),
    }];
    let mut control = Control::new();
    let credentials_size = size_of::<libc::ucred>() as u32;
    let mut message = message(&mut vectors, &mut control, credentials_size);
    let flags = libc::MSG_CMSG_CLOEXEC | libc::MSG_DONTWAIT;
    let length = retry_on_eintr(|| {
        // SAFETY: the message points to `vectors`, `buffer` and `control`, which outlive the call.
        unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, flags) }
    })?;
    let mut sender = None;
    // SAFETY: recvmsg has set the length of what is in `control`.
    let header = unsafe { libc::CMSG_FIRSTHDR(&raw const message) };
    // SAFETY: CMSG_FIRSTHDR is null or points to a whole header in `control`.
    if let Some(fields) = unsafe { header.as_ref() } {
        // SAFETY: CMSG_LEN is arithmetic.
        let whole = unsafe { libc::CMSG_LEN(credentials_size) } as usize;
        if fields.cmsg_level == libc::SOL_SOCKET
            && fields.cmsg_type == libc::SCM_CREDENTIALS
            && fields.cmsg_len as usize == whole
        {
            // SAFETY: CMSG_DATA is arithmetic on a valid header.
            let data = unsafe { libc::CMSG_DATA(header) }.cast::<libc::ucred>();
            // SAFETY: the header says that whole credentials are there, which need not be aligned.
            let credentials = unsafe { data.read_unaligned() };
            // 0 is a process of another pid namespace.
            sender = u32::try_from(credentials.pid)
                .ok()
                .and_then(Pid::from_number);
        }
    }
    Ok(Notification {
        length: length as usize,
        sender,
        is_cut: message.msg_flags & libc::MSG_TRUNC != 0,
    })
}
