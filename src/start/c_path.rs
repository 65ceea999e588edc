//! Paths for system calls.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use crate::error::{Error, ErrorKind};
use crate::subject::Subject;

pub(super) fn c_path(path: &Path) -> Result<CString, Error> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| {
        Error::from(ErrorKind::PathContainsNul).with_subject(Subject::Path(path.to_owned()))
    })
}

pub(super) fn c_path_if_set(path: Option<&Path>) -> Result<Option<CString>, Error> {
    path.map(c_path).transpose()
}
