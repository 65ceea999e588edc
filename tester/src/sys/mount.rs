//! Mounts.

#[cfg(target_os = "linux")]
use std::ffi::{CStr, CString};
use std::io;
#[cfg(target_os = "linux")]
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

#[cfg(target_os = "linux")]
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
