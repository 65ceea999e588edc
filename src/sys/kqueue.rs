//! Processes that have no descriptor: a kqueue(2) that waits for the end of one process names it.
//!
//! The kernel attaches the filter to the process and not to the pid. While the filter has not
//! fired, the pid is still that of the process, so that kill(2) reaches it. The process would have
//! to end, be reaped, and another one get its pid, between the look at the queue and the signal.
//!
//! FreeBSD makes process descriptors only by pdfork(2), and kills the process when they are
//! closed. kqueue(2) of each of these systems: "The queue is not inherited by a child created
//! with fork(2)"; nor can it be sent to another process.

use std::mem;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};
use std::ptr;
use std::time::Duration;

use crate::deadline::Deadline;
use crate::sys::fd::{move_above_streams, set_cloexec};
use crate::sys::{Errno, Pid, Signal, await_readable, cvt, kill, session_leader_of};

#[derive(Debug)]
pub(crate) struct ProcessHandle {
    /// Readable once the process ends.
    queue: OwnedFd,
    pid: Pid,
}

pub(crate) const HANDLES_REAP: bool = false;

impl AsFd for ProcessHandle {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.queue.as_fd()
    }
}

impl ProcessHandle {
    fn has_ended(&self) -> bool {
        await_readable(self.as_fd(), Deadline::after(Duration::ZERO))
    }
}

/// kevent(2) `EVFILT_PROC`. `None` if the process does not exist, or may not be seen.
pub(crate) fn open_process(pid: Pid) -> Option<ProcessHandle> {
    // SAFETY: kqueue takes nothing.
    let queue = cvt(unsafe { libc::kqueue() }).ok()?;
    // SAFETY: kqueue has just made the descriptor, so that nothing else owns it.
    let queue = move_above_streams(unsafe { OwnedFd::from_raw_fd(queue) }).ok()?;
    set_cloexec(queue.as_raw_fd()).ok()?;
    // SAFETY: kevent is plain data, for which all zeroes is valid.
    let mut end: libc::kevent = unsafe { mem::zeroed() };
    end.ident = pid.0 as _;
    end.filter = libc::EVFILT_PROC as _;
    end.flags = libc::EV_ADD as _;
    end.fflags = libc::NOTE_EXIT as _;
    let number = queue.as_raw_fd();
    // SAFETY: one change is valid for reads; no event is asked for, so that the list of events
    // and the time limit may be null.
    cvt(unsafe { libc::kevent(number, &raw const end, 1, ptr::null_mut(), 0, ptr::null()) })
        .ok()?;
    Some(ProcessHandle { queue, pid })
}

/// No descriptor of a process can be sent.
pub(crate) fn open_process_to_send(_: Pid) -> Option<OwnedFd> {
    None
}

/// The process with this pid, if it is a member of the session with this leader. While the session
/// has a member, no other process gets the number of the leader. Therefore the process is the
/// daemon of the session, or a process that the daemon has made.
pub(crate) fn claim_process(_: Option<OwnedFd>, pid: Pid, leader: Pid) -> Option<ProcessHandle> {
    let process = open_process(pid)?;
    // Asked after the process was opened. If it has not ended, the answer is about this process.
    let is_member = session_leader_of(pid) == Ok(Some(leader));
    (is_member && !process.has_ended()).then_some(process)
}

/// kill(2): `ESRCH` if the process has ended.
pub(crate) fn signal_process(process: &ProcessHandle, signal: Signal) -> Result<(), Errno> {
    match process.has_ended() {
        true => Err(libc::ESRCH),
        false => kill(process.pid, signal),
    }
}

/// The filter fires before the process can be reaped, so that [`HANDLES_REAP`] is false.
pub(crate) fn reap(_: &ProcessHandle) {}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_process_is_signalled_until_it_ends() {
        let mut child = Command::new("sleep")
            .arg("600")
            .spawn()
            .expect("start a process");
        let process =
            open_process(Pid::from_number(child.id()).expect("a pid")).expect("the process exists");
        assert!(!process.has_ended());
        assert_eq!(signal_process(&process, Signal::KILL), Ok(()));
        assert!(await_readable(process.as_fd(), Deadline::NEVER));
        assert_eq!(signal_process(&process, Signal::KILL), Err(libc::ESRCH));
        child.wait().expect("wait for it");
        assert_eq!(signal_process(&process, Signal::KILL), Err(libc::ESRCH));
    }

    #[test]
    fn only_a_member_of_the_session_is_claimed() {
        let itself = Pid::current();
        let leader = session_leader_of(itself)
            .expect("the process has a session")
            .expect("its leader");
        assert!(claim_process(None, itself, leader).is_some());
        let other = Pid::from_number(leader.number() + 1).expect("a pid");
        assert!(claim_process(None, itself, other).is_none());
    }
}
