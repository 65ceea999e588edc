//! The system calls of the cases: all unsafe code but for the starts.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::ExitStatusExt;
use std::panic::{self, AssertUnwindSafe};
use std::path::Path;
use std::process::ExitStatus;
use std::ptr;
use std::time::Duration;

use crate::attack;

fn check(result: impl Into<i64>) -> io::Result<i32> {
    match result.into() {
        -1 => Err(io::Error::last_os_error()),
        result => Ok(i32::try_from(result).unwrap_or(i32::MAX)),
    }
}

fn c_path(path: &Path) -> CString {
    CString::new(path.as_os_str().as_bytes()).expect("no NUL")
}

fn signed(pid: u32) -> i32 {
    i32::try_from(pid).expect("a pid")
}

// --- Processes ------------------------------------------------------------------

/// Runs this in a child, which then ends: with 101 if it panics, as a program
/// does.
pub fn fork(body: impl FnOnce()) -> u32 {
    // SAFETY: this program has one thread.
    let pid = check(unsafe { libc::fork() }).expect("fork");
    if pid == 0 {
        let result = panic::catch_unwind(AssertUnwindSafe(body));
        std::process::exit(if result.is_ok() { 0 } else { 101 });
    }
    pid.unsigned_abs()
}

pub fn exit_at_once(status: i32) -> ! {
    // SAFETY: takes a number and does not return.
    unsafe { libc::_exit(status) }
}

/// A child that has ended, reaped: this one or, if it is 0, any.
pub fn reap(pid: u32) -> Option<(u32, ExitStatus)> {
    let wanted = if pid == 0 { -1 } else { signed(pid) };
    let mut status = 0;
    // SAFETY: `status` can be written to.
    let ended = check(unsafe { libc::waitpid(wanted, &raw mut status, libc::WNOHANG) });
    let ended = ended.ok().filter(|&ended| ended > 0)?;
    Some((ended.unsigned_abs(), ExitStatus::from_raw(status)))
}

/// Waits for a child.
pub fn wait(pid: u32) {
    // SAFETY: no status is asked for.
    let _ = check(unsafe { libc::waitpid(signed(pid), ptr::null_mut(), 0) });
}

/// Waits until a process has ended, whoever reaps it; false if it has not.
pub fn wait_until_ended(pid: u32, time: Duration) -> bool {
    // SAFETY: takes numbers.
    let Ok(pidfd) = check(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) }) else {
        return true;
    };
    // SAFETY: nobody else has it.
    let pidfd = unsafe { File::from_raw_fd(pidfd) };
    let mut waited_for = libc::pollfd {
        fd: pidfd.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    let millis = i32::try_from(time.as_millis()).unwrap_or(i32::MAX);
    // SAFETY: there is one.
    check(unsafe { libc::poll(&raw mut waited_for, 1, millis) }).is_ok_and(|ready| ready == 1)
}

pub fn kill(pid: u32, signal: i32) {
    // SAFETY: takes numbers.
    let _ = check(unsafe { libc::kill(signed(pid), signal) });
}

/// The next child is the first process of a pid namespace, with which all others
/// of it end.
pub fn separate_pids() -> io::Result<()> {
    // SAFETY: takes a number.
    check(unsafe { libc::unshare(libc::CLONE_NEWPID) }).map(drop)
}

pub fn end_with_parent() {
    prctl(libc::PR_SET_PDEATHSIG, 9).expect("end with the parent");
}

/// Orphans become this process's children.
pub fn adopt_orphans() {
    prctl(libc::PR_SET_CHILD_SUBREAPER, 1).expect("adopt orphans");
}

pub fn parent() -> u32 {
    std::os::unix::process::parent_id()
}

// --- Descriptors ----------------------------------------------------------------

/// A pipe whose reading end does not block; both ends above the numbers that
/// the cases use.
pub fn pipe() -> io::Result<(File, RawFd)> {
    let mut ends = [0; 2];
    // SAFETY: there are two.
    check(unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) })?;
    let high = ends.map(|end| duplicate(end, 900, true));
    for end in ends {
        close(end);
    }
    let [reading, writing] = high;
    let reading = reading?;
    // SAFETY: takes numbers.
    check(unsafe { libc::fcntl(reading, libc::F_SETFL, libc::O_NONBLOCK) })?;
    // SAFETY: nobody else has it.
    Ok((unsafe { File::from_raw_fd(reading) }, writing?))
}

/// All but the standard streams: before anything is opened.
pub fn close_inherited() {
    // SAFETY: takes numbers, and nothing here has any of them open.
    check(unsafe { libc::syscall(libc::SYS_close_range, 3, u32::MAX, 0) }).expect("close_range");
}

/// The lowest free number from this one on.
pub fn duplicate(descriptor: RawFd, lowest: RawFd, close_on_exec: bool) -> io::Result<RawFd> {
    let command = if close_on_exec {
        libc::F_DUPFD_CLOEXEC
    } else {
        libc::F_DUPFD
    };
    // SAFETY: takes numbers.
    check(unsafe { libc::fcntl(descriptor, command, lowest) })
}

pub fn replace(descriptor: RawFd, by: RawFd) {
    // SAFETY: the replaced one is a standard stream.
    check(unsafe { libc::dup2(by, descriptor) }).expect("dup2");
}

pub fn close(descriptor: RawFd) {
    // SAFETY: whoever calls this has no other use for it.
    unsafe { libc::close(descriptor) };
}

pub fn write(descriptor: RawFd, bytes: &[u8]) {
    // SAFETY: they are as many as is said.
    unsafe { libc::write(descriptor, bytes.as_ptr().cast(), bytes.len()) };
}

pub fn is_close_on_exec(descriptor: RawFd) -> bool {
    // SAFETY: takes numbers.
    check(unsafe { libc::fcntl(descriptor, libc::F_GETFD) })
        .is_ok_and(|flags| flags & libc::FD_CLOEXEC != 0)
}

pub fn enter_folder(descriptor: RawFd) -> io::Result<()> {
    // SAFETY: takes a number.
    check(unsafe { libc::fchdir(descriptor) }).map(drop)
}

pub fn flock(file: &File, operation: i32) -> io::Result<()> {
    // SAFETY: takes numbers.
    check(unsafe { libc::flock(file.as_raw_fd(), operation) }).map(drop)
}

/// The soft one.
pub fn set_limit(resource: u32, soft: u64) {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the limit can be written to.
    check(unsafe { libc::getrlimit(resource, &raw mut limit) }).expect("getrlimit");
    limit.rlim_cur = soft;
    // SAFETY: the limit can be read.
    check(unsafe { libc::setrlimit(resource, &raw const limit) }).expect("setrlimit");
}

// --- Files ----------------------------------------------------------------------

pub fn make_fifo(path: &Path) {
    let path = c_path(path);
    // SAFETY: the path ends in a NUL.
    check(unsafe { libc::mkfifo(path.as_ptr(), 0o644) }).expect("mkfifo");
}

/// Gives another user access to a folder, in its access list.
pub fn give_access_to(folder: &Path, user: u32) -> io::Result<()> {
    let list = attack::access_list(user);
    let (folder, name) = (c_path(folder), c"system.posix_acl_access");
    let (list, length) = (list.as_ptr().cast(), list.len());
    // SAFETY: the strings end in a NUL, and the list is as long as is said.
    check(unsafe { libc::setxattr(folder.as_ptr(), name.as_ptr(), list, length, 0) }).map(drop)
}

/// A mount namespace, in which what is mounted is seen by nobody else.
pub fn separate_mounts() -> io::Result<()> {
    // SAFETY: takes a number.
    check(unsafe { libc::unshare(libc::CLONE_NEWNS) })?;
    mount(
        None,
        Path::new("/"),
        None,
        libc::MS_REC | libc::MS_PRIVATE,
        "",
    )
}

pub fn mount(
    source: Option<&Path>,
    target: &Path,
    kind: Option<&CStr>,
    flags: u64,
    options: &str,
) -> io::Result<()> {
    let source = source.map(c_path);
    let (target, options) = (c_path(target), CString::new(options)?);
    let source = source
        .as_ref()
        .map_or(ptr::null(), |source| source.as_ptr());
    let kind = kind.map_or(ptr::null(), CStr::as_ptr);
    let options = options.as_ptr().cast();
    // SAFETY: the strings end in a NUL or are not there.
    check(unsafe { libc::mount(source, target.as_ptr(), kind, flags, options) }).map(drop)
}

// --- Who one is -----------------------------------------------------------------

pub fn set_groups(groups: &[u32]) -> io::Result<()> {
    // SAFETY: they are as many as is said.
    check(unsafe { libc::setgroups(groups.len(), groups.as_ptr()) }).map(drop)
}

/// All group ids, then all user ids: real, effective and saved.
pub fn set_ids(uid: [u32; 3], gid: [u32; 3]) -> io::Result<()> {
    // SAFETY: takes numbers.
    check(unsafe { libc::setresgid(gid[0], gid[1], gid[2]) })?;
    // SAFETY: takes numbers.
    check(unsafe { libc::setresuid(uid[0], uid[1], uid[2]) }).map(drop)
}

pub fn set_user(uid: u32) -> io::Result<()> {
    // SAFETY: takes a number.
    check(unsafe { libc::setuid(uid) }).map(drop)
}

pub fn set_group(gid: u32) -> io::Result<()> {
    // SAFETY: takes a number.
    check(unsafe { libc::setgid(gid) }).map(drop)
}

pub fn set_user_everywhere(uid: u32) -> io::Result<()> {
    set_ids([uid; 3], [u32::MAX; 3])
}

pub fn effective_user() -> u32 {
    // SAFETY: takes nothing and cannot fail.
    unsafe { libc::geteuid() }
}

pub fn prctl(option: i32, value: u64) -> io::Result<()> {
    // SAFETY: the options that are used take numbers.
    check(unsafe { libc::prctl(option, value, 0, 0, 0) }).map(drop)
}

/// These in the permitted and the effective set, and nothing else.
pub fn set_capabilities(capabilities: u64) -> io::Result<()> {
    // <linux/capability.h>: version 3 and this process; each half of the sets.
    let header = [0x2008_0522_u32, 0];
    let half = |shift: u32| u32::try_from(capabilities >> shift & 0xffff_ffff).unwrap_or(0);
    let sets = [half(0), half(0), 0, half(32), half(32), 0];
    // SAFETY: both are as version 3 has them.
    check(unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), sets.as_ptr()) }).map(drop)
}

pub fn separate_users() -> io::Result<()> {
    // SAFETY: takes a number.
    check(unsafe { libc::unshare(libc::CLONE_NEWUSER) }).map(drop)
}

// --- Signals --------------------------------------------------------------------

pub fn ignore(signal: i32) {
    // SAFETY: no handler runs.
    unsafe { libc::signal(signal, libc::SIG_IGN) };
}

/// No call is restarted.
pub fn handle(signal: i32, handler: extern "C" fn(i32)) {
    // SAFETY: zeros are a valid `sigaction`.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = handler as *const () as usize;
    // SAFETY: the handlers of the cases make one call, which is safe in them.
    check(unsafe { libc::sigaction(signal, &raw const action, ptr::null_mut()) })
        .expect("sigaction");
}

pub fn block(signal: i32) {
    // SAFETY: zeros are a valid set.
    let mut set: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: the set can be written to.
    unsafe { libc::sigaddset(&raw mut set, signal) };
    // SAFETY: the set can be read.
    unsafe { libc::sigprocmask(libc::SIG_BLOCK, &raw const set, ptr::null_mut()) };
}

/// SIGALRM, again and again.
pub fn set_timer(micros: i64) {
    let time = libc::timeval {
        tv_sec: 0,
        tv_usec: micros,
    };
    let timer = libc::itimerval {
        it_interval: time,
        it_value: time,
    };
    // SAFETY: the timer can be read.
    check(unsafe { libc::setitimer(libc::ITIMER_REAL, &raw const timer, ptr::null_mut()) })
        .expect("setitimer");
}

pub fn real_time_signals() -> std::ops::RangeInclusive<i32> {
    libc::SIGRTMIN()..=libc::SIGRTMAX()
}

// --- The C library's ------------------------------------------------------------

pub fn at_exit(handler: extern "C" fn()) {
    // SAFETY: the handler makes one call.
    unsafe { libc::atexit(handler) };
}

/// A line on C's standard output, which is not flushed.
pub fn print_unflushed(line: &CStr) {
    // SAFETY: the string ends in a NUL.
    unsafe { libc::puts(line.as_ptr()) };
}

// --- Tracing --------------------------------------------------------------------

/// What has happened to a traced process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// It makes a call, or returns from it.
    Call,
    /// It has a new child.
    Forked(u32),
    /// It is to get this signal, or is new.
    Signal(i32),
    Ended(ExitStatus),
}

/// Stops, until the tracer has taken it over.
pub fn be_traced() {
    let none = ptr::null_mut::<libc::c_void>();
    // SAFETY: takes nothing.
    check(unsafe { libc::ptrace(libc::PTRACE_TRACEME, 0, none, none) }).expect("be traced");
    kill(std::process::id(), libc::SIGSTOP);
}

/// Takes over a process that has stopped, with all that it forks.
pub fn take_over(pid: u32) {
    wait(pid);
    let none = ptr::null_mut::<libc::c_void>();
    let options = libc::PTRACE_O_TRACESYSGOOD
        | libc::PTRACE_O_TRACEFORK
        | libc::PTRACE_O_TRACEVFORK
        | libc::PTRACE_O_TRACECLONE;
    // SAFETY: takes numbers.
    check(unsafe { libc::ptrace(libc::PTRACE_SETOPTIONS, signed(pid), none, options) })
        .expect("trace");
}

/// Lets it go on to its next call, with this signal unless it is 0.
pub fn step(pid: u32, signal: i32) {
    let none = ptr::null_mut::<libc::c_void>();
    // SAFETY: takes numbers.
    let _ = check(unsafe { libc::ptrace(libc::PTRACE_SYSCALL, signed(pid), none, signal) });
}

/// What a traced process has stopped for, or how any child has ended.
pub fn next_stop() -> Option<(u32, Stop)> {
    let mut status = 0;
    // SAFETY: `status` can be written to.
    let pid =
        check(unsafe { libc::waitpid(-1, &raw mut status, libc::__WALL | libc::WNOHANG) }).ok()?;
    if pid == 0 {
        return None;
    }
    let pid = pid.unsigned_abs();
    if !libc::WIFSTOPPED(status) {
        return Some((pid, Stop::Ended(ExitStatus::from_raw(status))));
    }
    let signal = libc::WSTOPSIG(status);
    if signal == libc::SIGTRAP | 0x80 {
        return Some((pid, Stop::Call));
    }
    let event = status >> 16;
    let forks = [
        libc::PTRACE_EVENT_FORK,
        libc::PTRACE_EVENT_VFORK,
        libc::PTRACE_EVENT_CLONE,
    ];
    if signal == libc::SIGTRAP && forks.contains(&event) {
        let mut child: libc::c_ulong = 0;
        let none = ptr::null_mut::<libc::c_void>();
        // SAFETY: the number can be written to.
        let told =
            unsafe { libc::ptrace(libc::PTRACE_GETEVENTMSG, signed(pid), none, &raw mut child) };
        check(told).expect("the child's pid");
        return Some((pid, Stop::Forked(u32::try_from(child).expect("a pid"))));
    }
    Some((pid, Stop::Signal(signal)))
}
