//! Descriptors by number.

use std::ffi::{CString, c_int};
use std::fs::File;
use std::io;
use std::mem::{self, ManuallyDrop, MaybeUninit};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use super::check;

/// A descriptor that this process was started with, or `None` if it is not
/// open.
pub fn inherited(number: RawFd) -> Option<BorrowedFd<'static>> {
    // SAFETY: no pointers are passed.
    check(unsafe { libc::fcntl(number, libc::F_GETFD) }).ok()?;
    // SAFETY: it is open, and nothing in this program closes the descriptors
    // reserved for the conversation with the harness.
    Some(unsafe { BorrowedFd::borrow_raw(number) })
}

/// Sets the flag close-on-exec.
pub fn set_close_on_exec(number: RawFd) -> io::Result<()> {
    // SAFETY: no pointers are passed.
    check(unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) }).map(drop)
}

/// The owner of a descriptor that the program was started with.
pub fn take_over(number: RawFd) -> OwnedFd {
    // SAFETY: the callers pass descriptors that nothing in this program owns.
    unsafe { OwnedFd::from_raw_fd(number) }
}

/// The descriptor flags (`F_GETFD`) and the status flags (`F_GETFL`).
pub fn descriptor_flags(number: RawFd) -> io::Result<(c_int, c_int)> {
    // SAFETY: no pointers are passed.
    let descriptor = check(unsafe { libc::fcntl(number, libc::F_GETFD) })?;
    // SAFETY: no pointers are passed.
    let status = check(unsafe { libc::fcntl(number, libc::F_GETFL) })?;
    Ok((descriptor, status))
}

/// fstat(2).
pub fn descriptor_metadata(number: RawFd) -> io::Result<std::fs::Metadata> {
    // SAFETY: the file is neither closed nor used for anything but fstat(2),
    // which bears a number that is not open.
    let file = ManuallyDrop::new(unsafe { File::from_raw_fd(number) });
    file.metadata()
}

/// One more than the highest descriptor that this process can now open.
pub fn descriptor_limit() -> RawFd {
    let mut limit = MaybeUninit::<libc::rlimit>::uninit();
    // SAFETY: the pointer is valid for the call.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, limit.as_mut_ptr()) } != 0 {
        return 0;
    }
    // SAFETY: the call has filled it.
    let limit = unsafe { limit.assume_init() };
    RawFd::try_from(limit.rlim_cur).unwrap_or(RawFd::MAX)
}

/// Sets the close-on-exec flag of all inherited descriptors but the standard streams.
pub fn pass_on_standard_streams_alone() {
    /// A caller of the tests may pass on a pipe or a terminal, but not thousands.
    const MOST: RawFd = 4096;
    for number in 3..descriptor_limit().min(MOST) {
        // SAFETY: no pointers are passed; a number that is not open is refused.
        unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) };
    }
}

/// close(2) of a descriptor that no Rust value owns.
pub fn close(number: RawFd) {
    // SAFETY: callers close only what they opened themselves by number, or
    // the standard streams, which std never takes to be open.
    unsafe { libc::close(number) };
}

/// Moves `fd` to `number`, replaces the descriptor there, and sets the close-on-exec flag.
pub fn move_descriptor(fd: OwnedFd, number: RawFd, close_on_exec: bool) -> io::Result<OwnedFd> {
    let moved = if fd.as_raw_fd() == number {
        fd
    } else {
        // SAFETY: `fd` is open; what `number` referred to is given up by the
        // caller.
        check(unsafe { libc::dup2(fd.as_raw_fd(), number) })?;
        // SAFETY: `number` was just opened.
        unsafe { OwnedFd::from_raw_fd(number) }
    };
    let flags = if close_on_exec { libc::FD_CLOEXEC } else { 0 };
    // SAFETY: no pointers are passed.
    check(unsafe { libc::fcntl(moved.as_raw_fd(), libc::F_SETFD, flags) })?;
    Ok(moved)
}

/// Moves a descriptor to its number, where it stays open for good.
pub fn keep_at(fd: OwnedFd, number: RawFd, close_on_exec: bool) -> io::Result<()> {
    move_descriptor(fd, number, close_on_exec).map(mem::forget)
}

/// Replaces a descriptor by /dev/null, so that its number is never that of another thread.
pub fn reserve_number(used: OwnedFd) -> io::Result<()> {
    let number = used.into_raw_fd();
    let placeholder = OwnedFd::from(File::open("/dev/null")?);
    // The placeholder is never closed: the next case replaces it.
    move_descriptor(placeholder, number, true).map(mem::forget)
}

/// Makes the program that `command` starts inherit `fd` as `number`.
pub fn pass_descriptor(command: &mut Command, fd: BorrowedFd<'_>, number: RawFd) {
    let fd = fd.as_raw_fd();
    let pass = move || {
        if fd == number {
            // SAFETY: no pointers are passed.
            check(unsafe { libc::fcntl(fd, libc::F_SETFD, 0) })?;
        } else {
            // SAFETY: no pointers are passed; the copy is not closed on exec.
            check(unsafe { libc::dup2(fd, number) })?;
        }
        Ok(())
    };
    // SAFETY: the closure only makes async-signal-safe calls.
    unsafe { command.pre_exec(pass) };
}

/// Whether a process holds an exclusive flock(2) lock. Takes a shared lock for an instant.
///
/// # Errors
///
/// Those of flock(2), except EWOULDBLOCK.
pub fn is_flocked(file: BorrowedFd<'_>) -> io::Result<bool> {
    // SAFETY: no pointers are passed.
    match check(unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_SH | libc::LOCK_NB) }) {
        Ok(_) => {
            // SAFETY: no pointers are passed.
            check(unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_UN) })?;
            Ok(false)
        }
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(true),
        Err(error) => Err(error),
    }
}

/// flock(2) with `operation`, a `LOCK_` constant of libc, without a wait.
pub fn flock(file: BorrowedFd<'_>, operation: c_int) -> io::Result<()> {
    // SAFETY: no pointers are passed.
    check(unsafe { libc::flock(file.as_raw_fd(), operation | libc::LOCK_NB) }).map(drop)
}

/// mkfifo(3), for its owner to read and write.
pub fn make_fifo(path: &Path) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: `path` is a C string that outlives the call.
    check(unsafe { libc::mkfifo(path.as_ptr(), 0o600) }).map(drop)
}

/// fchdir(2) to a descriptor.
pub fn change_directory_to(number: RawFd) -> io::Result<()> {
    // SAFETY: no pointers are passed.
    check(unsafe { libc::fchdir(number) }).map(drop)
}

/// umask(2), which returns the former one.
pub fn set_umask(mask: u32) -> io::Result<u32> {
    let mask = libc::mode_t::try_from(mask).map_err(io::Error::other)?;
    // SAFETY: no requirement.
    Ok(u32::from_mode(unsafe { libc::umask(mask) }))
}

/// mode_t is 16 bits wide on some platforms, 32 on others.
trait FromMode {
    fn from_mode(mode: libc::mode_t) -> Self;
}

impl FromMode for u32 {
    #[allow(
        clippy::useless_conversion,
        reason = "not useless where mode_t is narrower"
    )]
    fn from_mode(mode: libc::mode_t) -> Self {
        mode.into()
    }
}

/// An open descriptor as a file that is not closed when it is dropped.
pub fn as_file(descriptor: BorrowedFd<'static>) -> ManuallyDrop<File> {
    // SAFETY: the descriptor is open, and never closed by this value. The caller
    // does not use the value for longer than the descriptor.
    ManuallyDrop::new(unsafe { File::from_raw_fd(descriptor.as_raw_fd()) })
}

/// ftruncate(2) to nothing.
pub fn truncate(descriptor: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: no pointers are passed.
    check(unsafe { libc::ftruncate(descriptor.as_raw_fd(), 0) }).map(drop)
}

/// Fills the pipe at standard output until write(2) would wait.
pub fn fill_output() -> io::Result<()> {
    // SAFETY: F_GETFL takes nothing more.
    let flags = check(unsafe { libc::fcntl(1, libc::F_GETFL) })?;
    // SAFETY: F_SETFL takes an int.
    check(unsafe { libc::fcntl(1, libc::F_SETFL, flags | libc::O_NONBLOCK) })?;
    let bytes = [b'.'; 4096];
    // SAFETY: `bytes` is valid for reads of its length.
    while unsafe { libc::write(1, bytes.as_ptr().cast(), bytes.len()) } > 0 {}
    // SAFETY: as above.
    check(unsafe { libc::fcntl(1, libc::F_SETFL, flags) }).map(drop)
}
