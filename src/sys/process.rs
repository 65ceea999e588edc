//! Processes: fork, session, wait, signal, exit, working and root directory.

use std::ffi::{CStr, CString};
use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use super::{Errno, FileId, cvt, platform, retry_on_eintr};

/// The id of a process that exists or has existed: never 0 or negative, which
/// kill(2) takes for groups of processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pid(libc::pid_t);

impl Pid {
    /// The calling process. Async-signal-safe.
    pub(crate) fn current() -> Self {
        // SAFETY: getpid takes nothing and cannot fail.
        Self(unsafe { libc::getpid() })
    }

    pub(crate) fn from_number(number: u32) -> Option<Self> {
        libc::pid_t::try_from(number)
            .ok()
            .filter(|pid| *pid > 0)
            .map(Self)
    }

    pub(crate) fn number(self) -> u32 {
        self.0 as u32
    }

    /// Whether this is init(8), or the first process of a pid namespace: the kernel
    /// ends all others of the namespace when that ends.
    pub(crate) fn is_first(self) -> bool {
        self.0 == 1
    }

    pub(super) fn raw(self) -> libc::pid_t {
        self.0
    }
}

/// Whether the parent is in another pid namespace than this process: getppid(2)
/// then has no number for it. Async-signal-safe.
pub(crate) fn is_parent_in_other_pid_namespace() -> bool {
    // SAFETY: getppid takes nothing and cannot fail.
    unsafe { libc::getppid() == 0 }
}

/// This process, as opposed to a copy of it that fork(2) has made: the pid alone
/// does not tell, as one in a pid namespace of its own may well have the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ForkIdentity {
    pid: Pid,
    forks: u32,
}

/// How many forks this process is away from the first.
static FORKS: AtomicU32 = AtomicU32::new(0);

impl ForkIdentity {
    /// Async-signal-safe.
    pub(crate) fn current() -> Self {
        Self {
            pid: Pid::current(),
            forks: FORKS.load(Ordering::Relaxed),
        }
    }

    /// By which it is told from others, for who keeps it where no lock may be had.
    pub(crate) fn numbers(self) -> [u32; 2] {
        [self.pid.number(), self.forks]
    }

    /// From now on forks count, as far as they are libc's own.
    pub(crate) fn count_forks() {
        extern "C" fn count() {
            FORKS.fetch_add(1, Ordering::Relaxed);
        }

        static DOES_COUNT: AtomicBool = AtomicBool::new(false);
        if !DOES_COUNT.swap(true, Ordering::Relaxed) {
            // SAFETY: the handler does nothing that could not be done in a
            // child of fork(2), and lives as long as this code. Without memory
            // for it the pid has to do.
            unsafe { libc::pthread_atfork(None, None, Some(count)) };
        }
    }
}

/// Evidence, or the caller's word, that the calling thread is the only one in
/// its process, and its process the only one in its memory.
///
/// fork(2) copies just the calling thread. In the child of a process with
/// more, a lock that another thread held stays locked for ever, so that only
/// async-signal-safe functions may be called there.
#[derive(Debug)]
pub(crate) struct SingleThreaded(());

/// Why [`SingleThreaded::verify`] refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotSingleThreaded {
    OthersRun,
    Unknown,
}

impl SingleThreaded {
    /// A thread that was joined may be counted for a few milliseconds more.
    const PATIENCE: Duration = Duration::from_millis(100);

    /// Counts, again for up to 100 ms while there are others.
    ///
    /// The answer stays true: a lone thread gains company only through what
    /// it does itself, or through code that was unsafe to install, such as a
    /// signal handler that makes threads.
    pub(crate) fn verify() -> Result<Self, NotSingleThreaded> {
        let patience_ends = Instant::now() + Self::PATIENCE;
        loop {
            match platform::is_single_threaded() {
                Some(true) => return Ok(Self(())),
                None => return Err(NotSingleThreaded::Unknown),
                Some(false) if Instant::now() >= patience_ends => {
                    return Err(NotSingleThreaded::OthersRun);
                }
                Some(false) => sleep(Duration::from_millis(1)),
            }
        }
    }

    /// Takes the caller's word.
    ///
    /// # Safety
    ///
    /// The calling process has one thread, or what is called in the child of
    /// [`fork`] until it execs or exits is async-signal-safe.
    pub(crate) unsafe fn assume() -> Self {
        Self(())
    }
}

/// Whether the process is known to have other threads.
pub(crate) fn has_other_threads() -> bool {
    platform::is_single_threaded() == Some(false)
}

/// Which side of [`fork`] this is.
pub(crate) enum Fork {
    Parent(Pid),
    Child,
}

/// fork(2).
pub(crate) fn fork(_: &SingleThreaded) -> Result<Fork, Errno> {
    // SAFETY: the proof says that no other thread holds a lock, or that the
    // caller of the library keeps to async-signal-safe calls in the child.
    match cvt(unsafe { libc::fork() })? {
        0 => Ok(Fork::Child),
        child => Ok(Fork::Parent(Pid(child))),
    }
}

/// atexit(3): has this called when the process exits, unless it is killed or ends
/// by `_exit`. Without memory for it, it is not.
pub(crate) fn atexit(function: extern "C" fn()) {
    // SAFETY: the function lives as long as this code, and does not unwind.
    unsafe { libc::atexit(function) };
}

/// _exit(2): ends the process without atexit handlers, destructors, or the
/// flushing of buffers that its parent owns too. Async-signal-safe.
pub(crate) fn _exit(status: u8) -> ! {
    // SAFETY: _exit may be called at any time and does not return.
    unsafe { libc::_exit(libc::c_int::from(status)) }
}

/// Flushes the standard output of Rust and all streams of C, so that no child
/// writes the same bytes again. What fails to flush is the caller's to find.
pub(crate) fn flush_streams() {
    let _ = std::io::stdout().flush();
    // SAFETY: a null pointer means all output streams.
    unsafe { libc::fflush(std::ptr::null_mut()) };
}

/// setsid(2). Async-signal-safe.
pub(crate) fn setsid() -> Result<(), Errno> {
    // SAFETY: setsid takes nothing.
    cvt(unsafe { libc::setsid() }).map(drop)
}

/// How a child is.
#[derive(Clone, Copy, Debug)]
pub(crate) enum ChildState {
    Running,
    /// Reaped. Without a status where somebody else reaped it: a handler of
    /// the caller's, or the kernel where SIGCHLD is ignored.
    Ended(Option<ExitStatus>),
}

/// waitpid(2): waits for the end of a child and reaps it. `None` where it was
/// reaped by somebody else.
pub(crate) fn waitpid(child: Pid) -> Result<Option<ExitStatus>, Errno> {
    match wait_with(child, 0)? {
        ChildState::Ended(status) => Ok(status),
        ChildState::Running => Ok(None),
    }
}

/// waitpid(2) that does not wait: reaps a child that has ended.
/// Async-signal-safe.
pub(crate) fn try_waitpid(child: Pid) -> Result<ChildState, Errno> {
    wait_with(child, libc::WNOHANG)
}

fn wait_with(child: Pid, options: libc::c_int) -> Result<ChildState, Errno> {
    let mut status = 0;
    // SAFETY: `status` is valid for writes during the call.
    match retry_on_eintr(|| unsafe { libc::waitpid(child.0, &raw mut status, options) }) {
        Ok(0) => Ok(ChildState::Running),
        Ok(_) => Ok(ChildState::Ended(Some(ExitStatus::from_raw(status)))),
        Err(libc::ECHILD) => Ok(ChildState::Ended(None)),
        Err(errno) => Err(errno),
    }
}

/// A signal by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Signal(pub(crate) libc::c_int);

impl Signal {
    pub(crate) const TERMINATE: Self = Self(libc::SIGTERM);
    pub(crate) const KILL: Self = Self(libc::SIGKILL);
}

/// kill(2). A child that was not reaped is sure to get it; any other pid may
/// have become somebody else's. Async-signal-safe.
pub(crate) fn kill(pid: Pid, signal: Signal) -> Result<(), Errno> {
    // SAFETY: kill takes plain numbers; a Pid is positive, so that it names
    // one process and not a group.
    cvt(unsafe { libc::kill(pid.raw(), signal.0) }).map(drop)
}

/// Kills a child, unless it has ended, or was reaped meanwhile: a handler of the
/// caller's may do so at any time, and its pid be another's then.
pub(crate) fn kill_child(child: Pid) -> Result<ChildState, Errno> {
    if let ended @ ChildState::Ended(_) = try_waitpid(child)? {
        return Ok(ended);
    }
    // Opened between two looks, it names the child.
    let process = platform::open_process(child);
    if let ended @ ChildState::Ended(_) = try_waitpid(child)? {
        return Ok(ended);
    }
    let is_signalled = process.is_some_and(|process| {
        // ESRCH: it has ended, and its number may be another's.
        let signalled = platform::signal_process(process.as_fd(), Signal::KILL);
        matches!(signalled, Ok(()) | Err(libc::ESRCH))
    });
    if !is_signalled {
        let _ = kill(child, Signal::KILL);
    }
    try_waitpid(child)
}

/// umask(2). Async-signal-safe.
pub(crate) fn umask(mask: u32) {
    // SAFETY: umask takes a plain number and cannot fail.
    unsafe { libc::umask(mask as libc::mode_t) };
}

/// chdir(2). Async-signal-safe.
pub(crate) fn chdir(path: &CStr) -> Result<(), Errno> {
    // SAFETY: `path` is a C string that outlives the call.
    retry_on_eintr(|| unsafe { libc::chdir(path.as_ptr()) }).map(drop)
}

/// chroot(2) to the working directory.
pub(crate) fn chroot_to_working_directory() -> Result<(), Errno> {
    // SAFETY: a C string literal lives for ever.
    cvt(unsafe { libc::chroot(c".".as_ptr()) }).map(drop)
}

/// getcwd(3): an absolute path without links.
pub(crate) fn getcwd() -> Result<CString, Errno> {
    let mut buffer = vec![0_u8; libc::PATH_MAX as usize];
    // SAFETY: `buffer` is valid for writes of its length.
    let path = unsafe { libc::getcwd(buffer.as_mut_ptr().cast(), buffer.len()) };
    if path.is_null() {
        return Err(super::last_errno());
    }
    match CStr::from_bytes_until_nul(&buffer) {
        Ok(path) => Ok(path.to_owned()),
        Err(_) => Err(libc::ENAMETOOLONG),
    }
}

/// Waits until the parent of this process, which was `parent`, is gone. False if
/// the time was up first. Async-signal-safe.
pub(crate) fn await_reparenting(parent: Pid, patience: Duration) -> bool {
    let deadline = Instant::now() + patience;
    // SAFETY: getppid takes nothing and cannot fail.
    while unsafe { libc::getppid() } == parent.raw() {
        if Instant::now() >= deadline {
            return false;
        }
        sleep(Duration::from_millis(1));
    }
    true
}

/// The working directory by device and inode.
pub(crate) fn working_directory_id() -> Result<FileId, Errno> {
    super::fstatat(super::Directory::Working, c".").map(|attributes| attributes.id)
}

/// Waits. Async-signal-safe, unlike nanosleep(2): POSIX lists poll(2).
pub(crate) fn sleep(duration: Duration) {
    super::wait_readable([None, None], Some(duration));
}
