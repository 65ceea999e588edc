//! /proc: listings of directories, without allocation, and fields of text files.

use std::ffi::CStr;
use std::iter;
use std::os::fd::{AsRawFd as _, OwnedFd, RawFd};

use crate::sys::{Errno, Open, WORKING_DIRECTORY, cvt, openat};

/// Opens a directory. Async-signal-safe.
pub(super) fn open_directory(path: &CStr) -> Result<OwnedFd, Errno> {
    openat(WORKING_DIRECTORY, path, Open::Directory)
}

/// getdents64(2): fills `records` and returns the number of bytes; `None` at the end.
/// Async-signal-safe.
fn getdents(directory: &OwnedFd, records: &mut [u64]) -> Result<Option<usize>, Errno> {
    // SAFETY: `records` is valid for writes of its size.
    let filled = cvt(unsafe {
        libc::syscall(
            libc::SYS_getdents64,
            directory.as_raw_fd(),
            records.as_mut_ptr(),
            size_of_val(records),
        )
    })?;
    Ok((filled > 0).then_some(filled as usize))
}

/// Calls `visit` with each name that is a number, until it returns a value.
/// Async-signal-safe if `visit` is.
pub(super) fn find_number<T>(
    directory: &OwnedFd,
    records: &mut [u64],
    mut visit: impl FnMut(RawFd) -> Result<Option<T>, Errno>,
) -> Result<Option<T>, Errno> {
    while let Some(filled) = getdents(directory, records)? {
        for number in numbers(records, filled) {
            if let Some(value) = visit(number)? {
                return Ok(Some(value));
            }
        }
    }
    Ok(None)
}

/// The numbers among the names in the records of getdents64(2).
fn numbers(records: &[u64], filled: usize) -> impl Iterator<Item = RawFd> + '_ {
    // struct linux_dirent64: inode and offset of eight bytes each, the length of the
    // record, the type, and the name with a NUL.
    const LENGTH: usize = 16;
    const NAME: usize = 19;

    let byte = |at: usize| {
        records
            .get(at / 8)
            .map_or(0, |word| word.to_ne_bytes()[at % 8])
    };
    let mut at = 0;
    iter::from_fn(move || {
        while at < filled {
            let start = at;
            let length = u16::from_ne_bytes([byte(start + LENGTH), byte(start + LENGTH + 1)]);
            at += usize::from(length);
            let mut digits = (start + NAME..at).map(byte).take_while(|&digit| digit != 0);
            let number = digits.try_fold(0, |number: RawFd, digit| {
                let digit = char::from(digit).to_digit(10)?;
                number.checked_mul(10)?.checked_add(digit as RawFd)
            });
            if number.is_some() {
                return number;
            }
        }
        None
    })
}

/// The value of a field such as `Uid:`.
pub(super) fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(name))
}
