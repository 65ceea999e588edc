//! Mounts.

#[cfg(target_os = "linux")]
use std::ffi::CStr;
use std::ffi::CString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::check;

linux_only! {
    /// unshare(2): gives the calling thread, and the processes that it starts, a mount namespace of
    /// their own.
    pub fn leave_mount_namespace() -> io::Result<()> {
        // SAFETY: no requirement.
        check(unsafe { libc::unshare(libc::CLONE_NEWNS) })?;
        mount(None, c"/", libc::MS_REC | libc::MS_PRIVATE)
    }

    /// mount(2) of a directory over another.
    pub fn cover(directory: &Path, covered: &Path) -> io::Result<()> {
        let as_c_string = |path: &Path| CString::new(path.as_os_str().as_bytes());
        let (directory, covered) = (as_c_string(directory)?, as_c_string(covered)?);
        mount(Some(&directory), &covered, libc::MS_BIND)
    }
}

#[cfg(target_os = "linux")]
fn mount(source: Option<&CStr>, target: &CStr, flags: libc::c_ulong) -> io::Result<()> {
    let source = source.map_or(std::ptr::null(), CStr::as_ptr);
    let none = std::ptr::null();
    // SAFETY: the paths are C strings or null; these flags need no type and no
    // data.
    check(unsafe { libc::mount(source, target.as_ptr(), none, flags, none.cast()) }).map(drop)
}

/// Whether the file system of the directory executes programs, and heeds their set-user-id bits and
/// file capabilities.
pub fn may_execute_set_id(directory: &Path) -> bool {
    #[cfg(target_os = "linux")]
    const FORBIDDING: libc::c_ulong = libc::ST_NOSUID | libc::ST_NOEXEC;
    #[cfg(not(target_os = "linux"))]
    const FORBIDDING: libc::c_ulong = libc::ST_NOSUID;
    statvfs(directory).is_ok_and(|status| status.f_flag & FORBIDDING == 0)
}

/// The bytes that an ordinary user may still write to the file system of the directory.
///
/// # Errors
///
/// Those of statvfs(3).
#[cfg(target_os = "linux")]
pub fn free_space(directory: &Path) -> io::Result<u64> {
    let status = statvfs(directory)?;
    #[allow(
        clippy::useless_conversion,
        reason = "the types differ between processors"
    )]
    let (blocks, size) = (u64::from(status.f_bavail), u64::from(status.f_frsize));
    Ok(blocks.saturating_mul(size))
}

fn statvfs(directory: &Path) -> io::Result<libc::statvfs> {
    let directory = CString::new(directory.as_os_str().as_bytes())?;
    // SAFETY: all zeroes is a value of this type, which has only numbers.
    let mut status: libc::statvfs = unsafe { std::mem::zeroed() };
    // SAFETY: the path is a C string, and the call writes only to `status`.
    check(unsafe { libc::statvfs(directory.as_ptr(), &raw mut status) })?;
    Ok(status)
}
