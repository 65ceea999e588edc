//! The other Unixes, with what POSIX has. What no call can tell is reported as unknown,
//! never guessed.

pub(super) mod abi;
#[cfg_attr(
    any(target_os = "dragonfly", target_os = "openbsd"),
    path = "../resuid.rs"
)]
#[cfg_attr(
    not(any(target_os = "dragonfly", target_os = "openbsd")),
    path = "../reuid.rs"
)]
mod ids;
#[cfg(any(target_os = "dragonfly", target_os = "netbsd", target_os = "openbsd"))]
#[path = "../kqueue.rs"]
mod kqueue;

pub(crate) use super::defaults::*;
pub(crate) use ids::*;
#[cfg(any(target_os = "dragonfly", target_os = "netbsd", target_os = "openbsd"))]
pub(crate) use kqueue::{
    HANDLES_REAP, ProcessHandle, claim_process, open_process, open_process_to_send, reap,
    signal_process,
};

/// getgroups(2) of DragonFly.
pub(crate) const FIRST_GROUP_IS_EFFECTIVE_GID: bool = cfg!(target_os = "dragonfly");

/// chroot(2) of DragonFly.
#[cfg(target_os = "dragonfly")]
pub(crate) const WHY_CHROOT_IS_REFUSED: &str = "; in a jail, or in another root directory, the \
    process must have no open directory: close it, as `close_inherited_fds` does, or set the \
    sysctl kern.chroot_allow_open_directories to 2";

pub(crate) const WHY_THREADS_ARE_UNKNOWN: &str = "this platform has no call that counts them; \
    make sure that the process has one thread, and use `start` or `execute`";

/// procctl(2) `PROC_PDEATHSIG_CTL`, of the process. Async-signal-safe.
#[cfg(target_os = "dragonfly")]
pub(crate) fn disarm_parent_death_signal() {
    let mut none: libc::c_int = 0;
    // SAFETY: the command takes an int, valid for reads.
    unsafe {
        libc::procctl(
            libc::P_PID,
            super::Pid::current().0 as libc::id_t,
            libc::PROC_PDEATHSIG_CTL,
            (&raw mut none).cast(),
        )
    };
}

/// libc lacks issetugid(2) for illumos. A program that has dropped the privileges it has
/// gained goes unnoticed there.
#[cfg(any(target_os = "illumos", target_os = "solaris"))]
pub(crate) fn has_raised_privileges() -> bool {
    user_ids().real != user_ids().effective || group_ids().real != group_ids().effective
}

/// closefrom(2) of NetBSD, OpenBSD, DragonFly and illumos above the last descriptor that is
/// kept, close(2) of each number below. Async-signal-safe, except on illumos, where
/// closefrom(2) reads /proc.
#[cfg(any(
    target_os = "netbsd",
    target_os = "openbsd",
    target_os = "dragonfly",
    target_os = "illumos",
    target_os = "solaris"
))]
pub(crate) fn close_all_but(
    kept: &[std::os::fd::RawFd],
    _: &mut [u64],
) -> Result<(), super::Errno> {
    #[cfg(not(any(target_os = "illumos", target_os = "solaris")))]
    use libc::closefrom;
    #[cfg(any(target_os = "illumos", target_os = "solaris"))]
    unsafe extern "C" {
        fn closefrom(first: libc::c_int);
    }

    for (first, last) in super::ranges_between(kept) {
        match last {
            Some(last) => (first..=last).for_each(|descriptor| {
                super::close_raw(descriptor);
            }),
            None => {
                // SAFETY: a plain number; the caller of `close_inherited_fds`
                // has promised that no value uses or closes a descriptor that
                // is not kept. It fails if none is open, which is ignored.
                unsafe { closefrom(first) };
            }
        }
    }
    Ok(())
}
