//! execve(2), by a child of fork(2) that must not allocate, and how its parent notices.

use std::ffi::{CStr, CString};
use std::os::fd::RawFd;
use std::ptr;

use super::{Errno, Pid, cvt, last_errno};

/// A list of C strings that ends with a null pointer, as execve(2) takes it.
#[derive(Debug)]
pub(crate) struct CStringArray {
    strings: Vec<CString>,
    /// Has the capacity for a pointer to each string and the null pointer.
    pointers: Vec<*const libc::c_char>,
}

impl CStringArray {
    pub(crate) fn new(strings: Vec<CString>) -> Self {
        let pointers = Vec::with_capacity(strings.len() + 1);
        Self { strings, pointers }
    }

    /// Async-signal-safe: `new` has allocated the list.
    fn as_ptr(&mut self) -> *const *const libc::c_char {
        self.pointers.clear();
        let strings = self.strings.iter().map(|string| string.as_ptr());
        self.pointers.extend(strings.chain([ptr::null()]));
        self.pointers.as_ptr()
    }
}

/// An environment, some of whose variables have the pid of the process or the number of a
/// descriptor as their value.
#[derive(Debug)]
pub(crate) struct ProgramEnvironment {
    array: CStringArray,
    /// `NAME=`, with room for a number.
    pids: Vec<Vec<u8>>,
    descriptor: Option<Vec<u8>>,
}

impl ProgramEnvironment {
    /// `with_pid` are the names of the variables that get the pid, and `with_descriptor` is that of
    /// the variable that gets the number of [`set_descriptor`](Self::set_descriptor).
    pub(crate) fn new(
        variables: Vec<CString>,
        with_pid: &[&str],
        with_descriptor: Option<&str>,
    ) -> Self {
        let with_room = |name: &str| {
            let mut variable = format!("{name}=").into_bytes();
            variable.resize(variable.len() + LONGEST_NUMBER + 1, 0);
            variable
        };
        let pids: Vec<Vec<u8>> = with_pid.iter().map(|name| with_room(name)).collect();
        let mut array = CStringArray::new(variables);
        // A further pointer for the descriptor, and the null pointer.
        array
            .pointers
            .reserve_exact(array.strings.len() + pids.len() + 2);
        Self {
            array,
            pids,
            descriptor: with_descriptor.map(with_room),
        }
    }

    /// Async-signal-safe: `new` has allocated the variable.
    pub(crate) fn set_descriptor(&mut self, number: RawFd) {
        if let Some(variable) = &mut self.descriptor {
            // The number of an open descriptor is not negative.
            write_number(variable, number.unsigned_abs());
        }
    }

    /// Async-signal-safe: `new` has allocated the list.
    fn as_ptr(&mut self) -> *const *const libc::c_char {
        for variable in &mut self.pids {
            write_number(variable, Pid::current().number());
        }
        self.array.as_ptr();
        let pointers = &mut self.array.pointers;
        pointers.pop();
        let numbers = self.pids.iter().chain(&self.descriptor);
        pointers.extend(numbers.map(|variable| variable.as_ptr().cast()));
        pointers.push(ptr::null());
        pointers.as_ptr()
    }
}

/// The number of digits of the largest pid or descriptor.
const LONGEST_NUMBER: usize = 10;

/// Writes the digits after the `=` of a variable, whose rest is zero.
fn write_number(variable: &mut [u8], number: u32) {
    let start = variable.iter().position(|byte| *byte == b'=');
    let mut digits = [0; LONGEST_NUMBER];
    let mut rest = number;
    let mut first = LONGEST_NUMBER;
    loop {
        first -= 1;
        // A digit fits into a byte.
        digits[first] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    let value = variable.iter_mut().skip(start.map_or(0, |start| start + 1));
    for (byte, digit) in value.zip(&digits[first..]) {
        *byte = *digit;
    }
}

/// execve(2). Returns only if it fails. Async-signal-safe.
pub(crate) fn execve(
    path: &CStr,
    arguments: &mut CStringArray,
    environment: &mut ProgramEnvironment,
) -> Errno {
    let (arguments, environment) = (arguments.as_ptr(), environment.as_ptr());
    // SAFETY: the path is a C string, and both lists are of C strings and end with a null pointer;
    // all of them outlive the call.
    unsafe { libc::execve(path.as_ptr(), arguments, environment) };
    last_errno()
}

/// Whether a child that has not been reaped has executed a program. The child is in the session and
/// the process group of the caller, and leaves them only by that program.
///
/// POSIX, setpgid(2): `EACCES` if the process is a child of the caller that "has successfully
/// executed one of the exec functions". Before that, the call changes nothing here. `EPERM` if the
/// child is in another session. Async-signal-safe.
pub(crate) fn has_executed(child: Pid) -> bool {
    // SAFETY: getpgrp takes nothing and cannot fail.
    let group = unsafe { libc::getpgrp() };
    // SAFETY: setpgid takes plain numbers.
    let changed = cvt(unsafe { libc::setpgid(child.0, group) });
    matches!(changed, Err(libc::EACCES | libc::EPERM))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digits_of_a_pid_follow_the_name() {
        for (number, expected) in [
            (1, "LISTEN_PID=1"),
            (4242, "LISTEN_PID=4242"),
            (u32::MAX, "LISTEN_PID=4294967295"),
        ] {
            let mut environment = ProgramEnvironment::new(Vec::new(), &["LISTEN_PID"], None);
            let variable = &mut environment.pids[0];
            write_number(variable, number);
            let found = CStr::from_bytes_until_nul(variable).expect("it ends with NUL");
            assert_eq!(found.to_str(), Ok(expected));
        }
    }

    #[test]
    fn the_lists_are_not_moved_after_the_fork() {
        let strings = || vec![c"one".to_owned(), c"two".to_owned()];
        let mut arguments = CStringArray::new(strings());
        let before = arguments.pointers.as_ptr();
        assert_eq!(arguments.as_ptr(), before);
        assert_eq!(arguments.pointers.len(), 3);
        let mut environment = ProgramEnvironment::new(strings(), &["A_PID", "B_PID"], Some("FD"));
        let before = environment.array.pointers.as_ptr();
        environment.set_descriptor(7);
        assert_eq!(environment.as_ptr(), before);
        assert_eq!(environment.array.pointers.len(), 6);
        assert_eq!(
            environment.descriptor.as_deref(),
            Some(&b"FD=7\0\0\0\0\0\0\0\0\0\0"[..])
        );
    }
}
