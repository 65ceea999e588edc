//! Follows the processes of a start.

use std::collections::HashMap;
use std::io;
use std::process::{Command, ExitStatus};
use std::time::Instant;

use super::calls::Names;
use super::{ANY_CALL, Fault, How, Role, SignalHit, SyscallRecord};
use crate::control::{self, Message};
use crate::sys::{self, Call, CallStop, Mark, Tracee, TraceeEvent};

pub(super) fn trace(faults: Vec<Fault>) -> io::Result<ExitStatus> {
    let mut tracer = Tracer {
        records_calls: faults.iter().all(|fault| fault.call != ANY_CALL),
        faults,
        names: Names::new()?,
        processes: HashMap::new(),
        calls: Vec::new(),
        hit: None,
    };
    let launcher = sys::start_traced(&mut Command::new(std::env::current_exe()?))?;
    let status = tracer.follow(launcher)?;
    let launcher_ended_after = |then: Instant| then.elapsed().as_millis();
    control::send(&match tracer.records_calls {
        true => Message::Traced(tracer.calls),
        false => Message::SignalHit(tracer.hit.map(|(process, sent, then)| SignalHit {
            process,
            sent,
            launcher_ended_after: launcher_ended_after(then).try_into().unwrap_or(u64::MAX),
        })),
    })?;
    Ok(status)
}

struct Tracer {
    faults: Vec<Fault>,
    records_calls: bool,
    names: Names,
    processes: HashMap<u32, Process>,
    calls: Vec<SyscallRecord>,
    /// The process that got a signal at any call, its messages until then, and when.
    hit: Option<(u32, u64, Instant)>,
}

/// A traced process.
struct Process {
    tracee: Tracee,
    /// `None` for a process that a closure made.
    role: Option<Role>,
    /// Whether the library is at work.
    is_inside: bool,
    /// Whether the library has done its work.
    is_done: bool,
    /// The number of all calls, from where they count.
    made: Option<usize>,
    /// The number of messages sent.
    sent: u64,
    /// The call in which it is.
    call: Option<Call>,
    /// The result that the call is to return in place of its own.
    result: Option<i64>,
}

impl Process {
    fn new(pid: u32, role: Option<Role>) -> Self {
        // The library makes all processes but the first.
        let is_made_by_library = role != Some(Role::Launcher);
        Self {
            tracee: Tracee(pid),
            role,
            is_inside: is_made_by_library,
            is_done: false,
            made: is_made_by_library.then_some(0),
            sent: 0,
            call: None,
            result: None,
        }
    }
}

/// Another process may have killed the process meanwhile.
fn unless_gone<T: Default>(error: io::Error) -> io::Result<T> {
    match error.raw_os_error() {
        Some(libc::ESRCH) => Ok(T::default()),
        _ => Err(error),
    }
}

impl Tracer {
    /// Returns how the launcher has ended, once that has happened and the other
    /// processes have shown enough. They then go on untraced.
    fn follow(&mut self, launcher: u32) -> io::Result<ExitStatus> {
        let mut launcher_status = None;
        loop {
            if let Some(status) = launcher_status.filter(|status| self.is_over(*status)) {
                return Ok(status);
            }
            let (pid, event) = match (sys::wait_for_tracee(), launcher_status) {
                (Err(error), Some(status)) if error.raw_os_error() == Some(libc::ECHILD) => {
                    return Ok(status);
                }
                (waited, _) => waited?,
            };
            let role = Role::ALL.get(self.processes.len()).copied();
            let is_new = !self.processes.contains_key(&pid);
            let process = self.processes.entry(pid);
            let process = process.or_insert_with(|| Process::new(pid, role));
            let signal = match event {
                TraceeEvent::Ended(status) => {
                    process.is_done = true;
                    launcher_status = launcher_status.or((pid == launcher).then_some(status));
                    continue;
                }
                // A new process stops because it is traced.
                _ if is_new => 0,
                TraceeEvent::AtCall if self.stopped_at_call(pid).or_else(unless_gone)? => continue,
                TraceeEvent::AtCall | TraceeEvent::Other => 0,
                TraceeEvent::Signal(signal) => signal,
            };
            Tracee(pid).resume(signal).or_else(unless_gone)?;
        }
    }

    fn is_over(&self, launcher: ExitStatus) -> bool {
        let is_done = |role| {
            let mut processes = self.processes.values();
            processes.any(|process| process.role == Some(role) && process.is_done)
        };
        match launcher.code() {
            _ if !self.records_calls => true,
            Some(0) => is_done(Role::Daemon),
            Some(_) => true,
            None => is_done(Role::Intermediate) && is_done(Role::Daemon),
        }
    }

    /// Whether the process must not be resumed.
    fn stopped_at_call(&mut self, pid: u32) -> io::Result<bool> {
        match Tracee(pid).call_stop()? {
            CallStop::Before(call) => {
                let how = self.fault_at(pid, &call)?;
                let process = self.processes.get_mut(&pid).expect("it is followed");
                process.call = Some(call);
                match how {
                    Some(how) => process.fail(how, &call),
                    None => Ok(false),
                }
            }
            CallStop::After(result) => {
                let process = self.processes.get_mut(&pid).expect("it is followed");
                let replaced = process.result.take();
                if let Some(result) = replaced {
                    process.tracee.set_result(result)?;
                }
                let call = process.call.take();
                let is_execution = |call: &Call| call.number == libc::SYS_execve;
                if replaced.is_none() && result == 0 && call.as_ref().is_some_and(is_execution) {
                    // No code of the library is left.
                    process.is_inside = false;
                    process.is_done = true;
                }
                let is_pair = |call: &Call| call.number == libc::SYS_socketpair;
                match call.filter(is_pair) {
                    // In a container, root may not read the memory of a process that
                    // has changed its ids.
                    Some(call) if self.records_calls && replaced.unwrap_or(result) == 0 => {
                        self.names.add_pair(process.tracee, &call)?;
                    }
                    _ => {}
                }
                Ok(false)
            }
            CallStop::Other => Ok(false),
        }
    }

    /// Records a call that a process is about to make, and finds its fault.
    fn fault_at(&mut self, pid: u32, call: &Call) -> io::Result<Option<How>> {
        let process = self.processes.get_mut(&pid).expect("it is followed");
        let Some(role) = process.role else {
            return Ok(None);
        };
        if let Some(mark) = call.mark() {
            process.is_inside = mark == Mark::Enter;
            process.is_done = mark == Mark::Return;
            process.made.get_or_insert(0);
            return Ok(None);
        }
        if !self.records_calls {
            let is_due =
                |fault: &&Fault| fault.process == role && Some(fault.occurrence) == process.made;
            let fault = self.faults.iter().find(is_due);
            let fault = fault.filter(|_| self.hit.is_none());
            if fault.is_some() {
                self.hit = Some((pid, process.sent, Instant::now()));
            } else {
                process.made = process.made.map(|made| made + 1);
            }
            process.sent += u64::from(call.number == libc::SYS_sendmsg);
            return Ok(fault.map(|fault| fault.how));
        }
        if !process.is_inside {
            return Ok(None);
        }
        let name = self.names.name(process.tracee, call)?;
        let is_alike = |record: &&SyscallRecord| record.process == role && record.call == name;
        let occurrence = self.calls.iter().filter(is_alike).count();
        let fault = self.faults.iter().find(|fault| {
            let is_due =
                fault.occurrence == occurrence || fault.always && fault.occurrence < occurrence;
            fault.process == role && fault.call == name && is_due
        });
        self.calls.push(SyscallRecord {
            process: role,
            call: name,
            failed: fault.is_some(),
        });
        Ok(fault.map(|fault| fault.how))
    }
}

impl Process {
    /// Lets the call fail. Returns whether the process must not be resumed.
    fn fail(&mut self, how: How, call: &Call) -> io::Result<bool> {
        let result = match how {
            How::Errno(errno) => -i64::from(errno),
            How::FakeSuccess => 0,
            How::Short => return self.shorten(call).map(|()| false),
            How::Signal(signal) => {
                sys::kill(self.tracee.0, signal)?;
                // A killed process is gone. A stopped process looks to all others as
                // the tracer leaves it.
                return Ok([libc::SIGKILL, libc::SIGSTOP].contains(&signal));
            }
        };
        self.result = Some(result);
        // The kernel closes a descriptor whatever close(2) returns, and only a signal
        // interrupts a waitpid(2) that has to wait.
        let waits = call.number == libc::SYS_wait4 && call.arguments[2] == 0;
        let is_made = call.number == libc::SYS_close || waits && how != How::Errno(libc::EINTR);
        if !is_made {
            self.tracee.skip_call()?;
        }
        Ok(false)
    }

    /// Lets the call transfer one byte.
    fn shorten(&self, call: &Call) -> io::Result<()> {
        match call.number {
            libc::SYS_sendmsg | libc::SYS_recvmsg => {
                // On 64-bit systems msg_iov is the third word of a msghdr, msg_iovlen the
                // fourth, and iov_len the second word of an iovec.
                let message = call.arguments[1];
                let [_, _, part] = self.tracee.numbers_at(message)?;
                self.tracee.set_number_at(message + 24, 1)?;
                self.tracee.set_number_at(part + 8, 1)
            }
            _ => self.tracee.set_argument(2, 1),
        }
    }
}
