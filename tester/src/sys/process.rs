//! Processes, their sessions, limits and ends.

use std::ffi::CString;
use std::io;
#[cfg(target_os = "linux")]
use std::os::fd::{AsFd, RawFd};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicI32, Ordering};
#[cfg(not(target_os = "linux"))]
use std::time::Duration;
use std::time::Instant;

#[cfg(not(target_os = "linux"))]
use super::EventQueue;
#[cfg(target_os = "linux")]
use super::poll_until;
use super::{check, retry};

pub(super) fn signed(pid: u32) -> libc::pid_t {
    libc::pid_t::try_from(pid).expect("a process id is a positive pid_t")
}

pub(super) fn unsigned(pid: libc::pid_t) -> u32 {
    u32::try_from(pid).expect("a process id is positive")
}

/// fork(2): the child's id in the parent, `None` in the child.
pub fn fork() -> io::Result<Option<u32>> {
    // SAFETY: whatever other threads the tester has are parked and hold no
    // lock, so its code runs on in a forked child.
    let pid = check(unsafe { libc::fork() })?;
    Ok((pid != 0).then(|| unsigned(pid)))
}

/// Waits until a signal ends this process. Async-signal-safe.
pub fn pause() -> ! {
    loop {
        // SAFETY: no requirement.
        unsafe { libc::pause() };
    }
}

linux_only! {
    /// fork(2) into a pid namespace in which the child has the pid that this process has here. The
    /// namespace ends with the child, and then this process cannot fork any more.
    pub fn fork_with_same_pid() -> io::Result<Option<u32>> {
        let pid = std::process::id();
        // SAFETY: no requirement.
        check(unsafe { libc::unshare(libc::CLONE_NEWPID) })?;
        let init = fork()?;
        if init.is_some() {
            return Ok(init);
        }
        // pid_namespaces(7): the file has the last pid of the own namespace.
        std::fs::write("/proc/sys/kernel/ns_last_pid", (pid - 1).to_string())?;
        let Some(copy) = fork()? else {
            assert_eq!(std::process::id(), pid);
            return Ok(None);
        };
        wait_for_child(copy)?;
        exit_at_once(0)
    }
}

/// Waits until the child `pid` has ended. A child that a handler has reaped, or that the kernel has
/// reaped since SIGCHLD is ignored, has ended.
pub fn wait_for_child(pid: u32) -> io::Result<()> {
    // SAFETY: a null status pointer asks for none.
    match retry(|| check(unsafe { libc::waitpid(signed(pid), std::ptr::null_mut(), 0) })) {
        Err(error) if error.raw_os_error() != Some(libc::ECHILD) => Err(error),
        Ok(_) | Err(_) => Ok(()),
    }
}

/// Waits for the end of a child; `None` if a signal has killed it.
pub fn exit_status_of_child(pid: u32) -> io::Result<Option<i32>> {
    let mut status = 0;
    // SAFETY: the pointer is valid for the call.
    retry(|| check(unsafe { libc::waitpid(signed(pid), &raw mut status, 0) }))?;
    Ok(libc::WIFEXITED(status).then(|| libc::WEXITSTATUS(status)))
}

/// Reaps a child that has ended, if there is one.
pub fn reap_any_child() -> Option<u32> {
    // SAFETY: a null status pointer asks for none.
    let pid = unsafe { libc::waitpid(-1, std::ptr::null_mut(), libc::WNOHANG) };
    (pid > 0).then(|| unsigned(pid))
}

/// _exit(2): no atexit handler runs, no buffer is flushed.
pub fn exit_at_once(status: i32) -> ! {
    // SAFETY: no requirement.
    unsafe { libc::_exit(status) }
}

/// A mark that tells a tracer which code is running.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// The library makes the following calls.
    Enter = 1,
    /// A closure of the tester makes the following calls.
    Leave = 2,
    /// The library has returned.
    Return = 3,
}

/// An option of prctl(2) that no kernel has.
#[cfg(target_os = "linux")]
pub(super) const MARK: libc::c_int = 0x7465_7374;

/// Sends a mark to a tracer, if there is one (Linux).
pub fn mark(mark: Mark) {
    #[cfg(target_os = "linux")]
    // SAFETY: prctl takes plain numbers, and fails for this option.
    unsafe {
        libc::prctl(MARK, mark as libc::c_ulong, 0, 0, 0)
    };
    #[cfg(not(target_os = "linux"))]
    let _ = mark;
}

pub fn process_group(pid: u32) -> io::Result<u32> {
    // SAFETY: no requirement.
    check(unsafe { libc::getpgid(signed(pid)) }).map(unsigned)
}

pub fn session(pid: u32) -> io::Result<u32> {
    // SAFETY: no requirement.
    check(unsafe { libc::getsid(signed(pid)) }).map(unsigned)
}

/// Whether a sandbox forbids unshare(2) with `CLONE_VM`. The call changes nothing: it succeeds for
/// a lone thread, and fails with `EINVAL` otherwise. False on other systems than Linux.
pub fn is_unshare_forbidden() -> bool {
    #[cfg(target_os = "linux")]
    {
        // SAFETY: with CLONE_VM alone, unshare changes nothing.
        let result = check(unsafe { libc::unshare(libc::CLONE_VM) });
        result.is_err_and(|error| error.raw_os_error() == Some(libc::EPERM))
    }
    #[cfg(not(target_os = "linux"))]
    false
}

pub fn new_session() -> io::Result<()> {
    // SAFETY: no requirement.
    check(unsafe { libc::setsid() }).map(drop)
}

pub fn kill(pid: u32, signal: i32) -> io::Result<()> {
    // SAFETY: no requirement.
    check(unsafe { libc::kill(signed(pid), signal) }).map(drop)
}

/// kill(2) of a process group.
pub fn kill_group(group: u32, signal: i32) -> io::Result<()> {
    // SAFETY: no requirement.
    check(unsafe { libc::kill(-signed(group), signal) }).map(drop)
}

linux_only! {
    /// sched_setaffinity(2): binds this process, and all that it forks, to one processor.
    pub fn run_on(processor: u32) -> io::Result<()> {
        // SAFETY: all zeroes are an empty set.
        let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
        // SAFETY: the set is valid for the call, which checks the number.
        unsafe { libc::CPU_SET(processor as usize, &mut set) };
        // SAFETY: the set is valid for the call and of that size.
        check(unsafe { libc::sched_setaffinity(0, size_of_val(&set), &set) }).map(drop)
    }
}

/// A handle of a process, which never means a later process with the same id.
#[derive(Debug)]
pub struct ProcessHandle {
    pid: u32,
    #[cfg(target_os = "linux")]
    pidfd: OwnedFd,
}

#[cfg(target_os = "linux")]
impl ProcessHandle {
    /// Opens the process `pid`; `None` if it does not exist.
    pub fn open(pid: u32) -> io::Result<Option<Self>> {
        // SAFETY: no pointers are passed.
        let fd = match check(unsafe { libc::syscall(libc::SYS_pidfd_open, signed(pid), 0) }) {
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => return Ok(None),
            fd => RawFd::try_from(fd?).expect("a descriptor is an int"),
        };
        // SAFETY: the call has just made the descriptor, so that nothing else owns it.
        let pidfd = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Some(Self { pid, pidfd }))
    }

    /// Sends a signal, unless the process has ended.
    ///
    /// # Errors
    ///
    /// Those of pidfd_send_signal(2), except ESRCH.
    pub fn kill(&self, signal: i32) -> io::Result<()> {
        // SAFETY: a null siginfo asks for the one of kill(2).
        let sent = check(unsafe {
            libc::syscall(
                libc::SYS_pidfd_send_signal,
                self.pidfd.as_raw_fd(),
                signal,
                std::ptr::null::<libc::siginfo_t>(),
                0,
            )
        });
        match sent {
            Err(error) if error.raw_os_error() != Some(libc::ESRCH) => Err(error),
            Ok(_) | Err(_) => Ok(()),
        }
    }

    /// Waits until the process has ended; `false` if the time is up first.
    pub fn wait(&self, deadline: Instant) -> io::Result<bool> {
        poll_until(self.pidfd.as_fd(), libc::POLLIN, Some(deadline))
    }
}

#[cfg(not(target_os = "linux"))]
impl ProcessHandle {
    /// Opens the process `pid`; `None` if it does not exist.
    pub fn open(pid: u32) -> io::Result<Option<Self>> {
        match kill(pid, 0) {
            Ok(()) => Ok(Some(Self { pid })),
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Sends a signal, unless the process has ended.
    ///
    /// # Errors
    ///
    /// Those of kill(2), except ESRCH.
    pub fn kill(&self, signal: i32) -> io::Result<()> {
        match kill(self.pid, signal) {
            Err(error) if error.raw_os_error() != Some(libc::ESRCH) => Err(error),
            _ => Ok(()),
        }
    }

    /// Waits until the process has ended; `false` if the time is up first.
    ///
    /// FreeBSD reports the end at once if the process has begun to end, when its files are still
    /// open and locked (sys/kern/kern_event.c, `filt_procattach`). getpgid(2) finds the process
    /// until it is a zombie.
    pub fn wait(&self, deadline: Instant) -> io::Result<bool> {
        match EventQueue::of_end(self.pid) {
            Ok(queue) if queue.next_is_end_of_file(Some(deadline))?.is_none() => return Ok(false),
            Err(error) if error.raw_os_error() != Some(libc::ESRCH) => return Err(error),
            Ok(_) | Err(_) => {}
        }
        while process_group(self.pid).is_ok() {
            if Instant::now() >= deadline {
                return Ok(false);
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(true)
    }
}

impl ProcessHandle {
    pub fn pid(&self) -> u32 {
        self.pid
    }
}

/// Never made: see [`detain`].
#[cfg(not(target_os = "linux"))]
#[derive(Debug)]
pub struct Detained {
    _never: OwnedFd,
}

#[cfg(not(target_os = "linux"))]
impl Detained {
    /// Waits until another process has killed it.
    ///
    /// # Errors
    ///
    /// `Unsupported`.
    pub fn wait_until_killed(&self) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// Traces a process, which then cannot end.
///
/// # Errors
///
/// `Unsupported`.
#[cfg(not(target_os = "linux"))]
pub fn detain(_pid: u32) -> io::Result<Detained> {
    Err(io::ErrorKind::Unsupported.into())
}

linux_only! {
    /// PR_SET_CHILD_SUBREAPER.
    pub fn become_subreaper() -> io::Result<()> {
        // SAFETY: the option takes an integer.
        check(unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1) }).map(drop)
    }

    /// PR_SET_PDEATHSIG of the calling thread.
    pub fn ask_for_parent_death_signal(signal: i32) -> io::Result<()> {
        // SAFETY: the option takes an integer.
        check(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, signal) }).map(drop)
    }
}

/// The same in each child of fork(2), by pthread_atfork(3).
pub fn ask_for_parent_death_signal_at_fork(signal: i32) -> io::Result<()> {
    static SIGNAL: AtomicI32 = AtomicI32::new(0);

    extern "C" fn ask() {
        let _ = ask_for_parent_death_signal(SIGNAL.load(Ordering::Relaxed));
    }

    SIGNAL.store(signal, Ordering::Relaxed);
    // SAFETY: the handler makes one system call.
    match unsafe { libc::pthread_atfork(None, None, Some(ask)) } {
        0 => Ok(()),
        errno => Err(io::Error::from_raw_os_error(errno)),
    }
}

linux_only! {
    /// unshare(2) with `CLONE_NEWPID`.
    pub fn leave_pid_namespace_for_children() -> io::Result<()> {
        // SAFETY: no requirement.
        check(unsafe { libc::unshare(libc::CLONE_NEWPID) }).map(drop)
    }
}

/// Sets an environment variable of this process.
pub fn set_environment(name: &str, value: &str) {
    // SAFETY: whatever other threads the tester has look at the environment by std alone, which
    // has a lock for it.
    unsafe { std::env::set_var(name, value) };
}

/// Registers `handler` with atexit(3).
///
/// # Errors
///
/// `OutOfMemory`, since atexit(3) sets no errno.
pub fn at_exit(handler: extern "C" fn()) -> io::Result<()> {
    // SAFETY: the handler is a function, which never goes away.
    if unsafe { libc::atexit(handler) } == 0 {
        Ok(())
    } else {
        Err(io::ErrorKind::OutOfMemory.into())
    }
}

/// Writes `text` to the buffered standard output of the C library.
pub fn print_with_c(text: &str) -> io::Result<()> {
    let text = CString::new(text)?;
    // SAFETY: the format's only conversion is given its string.
    check(unsafe { libc::printf(c"%s".as_ptr(), text.as_ptr()) }).map(drop)
}

pub fn limit(resource: Resource, value: u64) -> io::Result<()> {
    let limit = libc::rlimit {
        rlim_cur: limit_value(value),
        rlim_max: limit_value(value),
    };
    let resource = match resource {
        Resource::Descriptors => libc::RLIMIT_NOFILE,
        #[cfg(not(target_os = "illumos"))]
        Resource::Processes => libc::RLIMIT_NPROC,
        #[cfg(target_os = "illumos")]
        Resource::Processes => return Err(io::ErrorKind::Unsupported.into()),
        Resource::FileSize => libc::RLIMIT_FSIZE,
    };
    // SAFETY: the pointer is valid for the call.
    check(unsafe { libc::setrlimit(resource, &limit) }).map(drop)
}

/// Raises the number of descriptors that this process and its children can open, if it is lower and
/// as far as the hard limit permits.
pub fn raise_descriptor_limit(wanted: u64) -> io::Result<()> {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the pointer is valid for the call.
    check(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) })?;
    let wanted = limit_value(wanted).min(limit.rlim_max);
    if limit.rlim_cur >= wanted {
        return Ok(());
    }
    limit.rlim_cur = wanted;
    // SAFETY: the pointer is valid for the call.
    check(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) }).map(drop)
}

/// Sets the soft limit by which the harness finds the processes of a case: see
/// [`crate::observe::enroll`]. By prlimit(2): its limits have 64 bits on every processor.
#[cfg(target_os = "linux")]
pub fn set_marked_limit(value: u64) -> io::Result<()> {
    let mut limits = marked_limits(0)?;
    limits[0] = value;
    let nothing = std::ptr::null::<[u64; 2]>();
    let change = limits.as_ptr();
    // SAFETY: the first pointer is valid for reads; no former limit is asked for.
    check(unsafe { libc::syscall(libc::SYS_prlimit64, 0, libc::RLIMIT_RTTIME, change, nothing) })
        .map(drop)
}

/// The same limit of another process.
///
/// # Errors
///
/// EPERM if the process has other ids, unless the caller has CAP_SYS_RESOURCE.
#[cfg(target_os = "linux")]
pub fn marked_limit(pid: u32) -> io::Result<u64> {
    marked_limits(signed(pid)).map(|[soft, _]| soft)
}

/// A struct rlimit64.
#[cfg(target_os = "linux")]
fn marked_limits(pid: libc::pid_t) -> io::Result<[u64; 2]> {
    let mut limits = [0_u64; 2];
    let nothing = std::ptr::null::<[u64; 2]>();
    let present = limits.as_mut_ptr();
    // SAFETY: the last pointer is valid for writes.
    check(unsafe {
        libc::syscall(
            libc::SYS_prlimit64,
            pid,
            libc::RLIMIT_RTTIME,
            nothing,
            present,
        )
    })?;
    Ok(limits)
}

/// The same.
#[cfg(target_os = "freebsd")]
pub fn set_marked_limit(value: u64) -> io::Result<()> {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the pointer is valid for the call.
    check(unsafe { libc::getrlimit(libc::RLIMIT_SWAP, &mut limit) })?;
    limit.rlim_cur = limit_value(value);
    // SAFETY: the pointer is valid for the call.
    check(unsafe { libc::setrlimit(libc::RLIMIT_SWAP, &limit) }).map(drop)
}

#[allow(
    clippy::unnecessary_fallible_conversions,
    reason = "rlim_t is signed on FreeBSD, and has 32 bits on some processors"
)]
fn limit_value(value: u64) -> libc::rlim_t {
    // The largest value means no limit.
    libc::rlim_t::try_from(value).unwrap_or(libc::RLIM_INFINITY)
}

#[derive(Debug, Clone, Copy)]
pub enum Resource {
    Descriptors,
    Processes,
    FileSize,
}

/// Whether a process can open a pseudo-terminal.
pub fn has_terminals() -> bool {
    static HAS_TERMINALS: std::sync::OnceLock<bool> = std::sync::OnceLock::new();
    *HAS_TERMINALS.get_or_init(|| open_master().is_ok())
}

/// posix_openpt(3), for which FreeBSD needs no /dev/ptmx.
fn open_master() -> io::Result<OwnedFd> {
    // SAFETY: no pointers are passed.
    let master = check(unsafe { libc::posix_openpt(libc::O_RDWR | libc::O_NOCTTY) })?;
    // SAFETY: the call has just made the descriptor, so that nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(master) })
}

/// Opens a pseudo-terminal, and makes it the controlling terminal of this session leader. Returns
/// the master and the slave. The terminal hangs up when the master is closed; FreeBSD takes it from
/// the session when no process has the slave open.
pub fn acquire_terminal() -> io::Result<[OwnedFd; 2]> {
    let master = open_master()?;
    // SAFETY: no pointers are passed.
    check(unsafe { libc::grantpt(master.as_raw_fd()) })?;
    // SAFETY: no pointers are passed.
    check(unsafe { libc::unlockpt(master.as_raw_fd()) })?;
    // SAFETY: no other thread calls ptsname, which writes to a static buffer.
    let name = unsafe { libc::ptsname(master.as_raw_fd()) };
    if name.is_null() {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the name ends in a NUL, and is valid until the next call.
    let slave = check(unsafe { libc::open(name, libc::O_RDWR | libc::O_NOCTTY) })?;
    // SAFETY: the call has just made the descriptor, so that nothing else owns it.
    let slave = unsafe { OwnedFd::from_raw_fd(slave) };
    #[allow(
        clippy::useless_conversion,
        reason = "the constant and the parameter differ in type on macOS"
    )]
    let request = libc::TIOCSCTTY.into();
    // SAFETY: the request takes an integer.
    check(unsafe { libc::ioctl(slave.as_raw_fd(), request, 0) })?;
    Ok([master, slave])
}
