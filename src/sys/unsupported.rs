//! Stubs for what POSIX has no call for.

#![allow(dead_code, reason = "a platform replaces those that it can")]

use std::os::fd::RawFd;

use super::{Errno, FileId, Pid, Uid};

pub(crate) const HAS_NO_NEW_PRIVILEGES: bool = false;

pub(crate) fn set_no_new_privileges() -> Result<(), Errno> {
    Err(libc::ENOSYS)
}

pub(crate) fn is_single_threaded() -> Option<bool> {
    None
}

pub(crate) fn thread_names() -> Option<Vec<Option<String>>> {
    None
}

pub(crate) fn has_open(_: Pid, _: FileId) -> Result<bool, Errno> {
    Err(libc::ENOSYS)
}

pub(crate) fn users_of(_: Pid) -> Result<Vec<Uid>, Errno> {
    Err(libc::ENOSYS)
}

pub(crate) fn close_all_but(_: &[RawFd], _: &mut [u64]) -> Result<(), Errno> {
    Err(libc::ENOSYS)
}
