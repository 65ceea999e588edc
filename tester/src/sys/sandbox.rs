//! The calls that only Linux has, and sandboxes.

use std::io;
#[cfg(target_os = "linux")]
use std::os::fd::FromRawFd;
use std::os::fd::OwnedFd;

use crate::config::{EventQueue, SystemCall};

/// Whether [`refuse_calls`] works.
pub fn can_refuse_calls() -> bool {
    #[cfg(target_os = "linux")]
    // SAFETY: the option takes no argument.
    return unsafe { libc::prctl(libc::PR_GET_SECCOMP) } >= 0;
    #[cfg(not(target_os = "linux"))]
    false
}

/// Refuses these system calls, each with its errno, to this process and its descendants, by a
/// filter of seccomp(2).
pub fn refuse_calls(calls: &[(SystemCall, i32)]) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    {
        use super::check;

        const LOAD: u32 = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
        const JUMP_IF_EQUAL: u32 = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
        const RETURN: u32 = libc::BPF_RET | libc::BPF_K;
        let instruction = |code: u32, jf: u8, k: u32| libc::sock_filter {
            code: u16::try_from(code).expect("small"),
            jt: 0,
            jf,
            k,
        };
        // The number is the first of a seccomp_data.
        let mut filter = vec![instruction(LOAD, 0, 0)];
        for &(call, errno) in calls {
            let number = match call {
                SystemCall::Unshare => libc::SYS_unshare,
                SystemCall::CloseRange => libc::SYS_close_range,
                SystemCall::PidfdOpen => libc::SYS_pidfd_open,
                SystemCall::PidfdSendSignal => libc::SYS_pidfd_send_signal,
                SystemCall::Statx => libc::SYS_statx,
                SystemCall::Renameat2 => libc::SYS_renameat2,
                SystemCall::Capset => libc::SYS_capset,
            };
            let number = u32::try_from(number).expect("a system call");
            let errno = u32::try_from(errno).expect("an errno");
            filter.push(instruction(JUMP_IF_EQUAL, 1, number));
            filter.push(instruction(RETURN, 0, libc::SECCOMP_RET_ERRNO | errno));
        }
        filter.push(instruction(RETURN, 0, libc::SECCOMP_RET_ALLOW));
        let program = libc::sock_fprog {
            len: u16::try_from(filter.len()).expect("short"),
            filter: filter.as_mut_ptr(),
        };
        let install = || {
            let mode = libc::SECCOMP_MODE_FILTER;
            // SAFETY: the program is valid for reads, and copied.
            check(unsafe { libc::prctl(libc::PR_SET_SECCOMP, mode, &raw const program) })
        };
        // Without CAP_SYS_ADMIN, the filter requires no_new_privs.
        if install().is_err() {
            // SAFETY: the option takes integers.
            check(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) })?;
            install()?;
        }
        Ok(())
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = calls;
        Err(io::ErrorKind::Unsupported.into())
    }
}

linux_only! {
    /// epoll_create1(2) or io_uring_setup(2).
    #[allow(
        clippy::useless_conversion,
        reason = "the result of syscall(2) has 32 bits on some processors"
    )]
    pub fn open_event_queue(queue: EventQueue) -> io::Result<OwnedFd> {
        use super::check;

        let returned = match queue {
            // SAFETY: the call takes an integer.
            EventQueue::Epoll => unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) },
            EventQueue::IoUring => {
                // struct io_uring_params.
                let mut parameters = [0_u64; 15];
                // SAFETY: the parameters are valid for reads and writes.
                let made =
                    unsafe { libc::syscall(libc::SYS_io_uring_setup, 1, parameters.as_mut_ptr()) };
                i32::try_from(made).expect("a descriptor")
            }
        };
        let descriptor = check(returned)?;
        // SAFETY: the call has just made it, so that nothing else owns it.
        Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
    }
}
