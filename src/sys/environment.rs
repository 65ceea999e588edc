//! The environment of this process.

use std::ffi::CStr;

use super::{Errno, SingleThreaded, cvt};

/// unsetenv(3).
pub(crate) fn unsetenv(name: &CStr, _: &SingleThreaded) -> Result<(), Errno> {
    // SAFETY: the name is a C string. No other thread reads or changes the environment meanwhile,
    // since none exists.
    cvt(unsafe { libc::unsetenv(name.as_ptr()) }).map(drop)
}

/// setenv(3), which replaces an earlier value. Allocates memory.
///
/// std's lock of the environment is not taken: only another thread could have it.
pub(crate) fn setenv(name: &CStr, value: &CStr, _: &SingleThreaded) -> Result<(), Errno> {
    const REPLACE: libc::c_int = 1;
    // SAFETY: both are C strings that outlive the call, which copies them. No other thread reads
    // or changes the environment meanwhile, since none exists.
    cvt(unsafe { libc::setenv(name.as_ptr(), value.as_ptr(), REPLACE) }).map(drop)
}
