//! Following a start call by call, to crash one of its processes at any of
//! them: ptrace(2).

use std::collections::HashMap;
use std::ffi::{c_int, c_long, c_void};
use std::io;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, ExitStatus, Stdio};

use super::process::{exit_at_once, fork, kill, signed, unsigned};
use super::{check, retry};

#[cfg(target_env = "musl")]
type Request = c_int;
#[cfg(not(target_env = "musl"))]
type Request = std::ffi::c_uint;

/// `PTRACE_GET_SYSCALL_INFO` of <linux/ptrace.h>, and what it says of a stop
/// before a call.
const GET_SYSCALL_INFO: Request = 0x420e;
const ENTRY: u8 = 1;

/// What a stop at a call adds to SIGTRAP (`PTRACE_O_TRACESYSGOOD`).
const AT_CALL: c_int = 0x80;

/// What a process that could not execute the command exits with.
const EXIT_NOT_EXECUTED: c_int = 127;

/// The call with which the library begins.
const BEGINNING: u64 = libc::SYS_socketpair as u64;

/// How a traced start has gone.
#[derive(Debug, Clone, Copy)]
pub struct Traced {
    /// How the launcher ended.
    pub launcher: ExitStatus,
    /// The process that was killed, if it came to that.
    pub killed: Option<u32>,
}

/// Whether processes can be traced here: an emulator may be unable to, and a
/// container may forbid it.
pub fn can_trace() -> bool {
    let mut command = Command::new("/");
    let attempt = || {
        trace_me()?;
        // Nothing is ever executed.
        Err(io::Error::from_raw_os_error(libc::ECANCELED))
    };
    // SAFETY: the closure only makes async-signal-safe calls.
    unsafe { command.pre_exec(attempt) };
    command
        .stdin(Stdio::null())
        .spawn()
        .is_err_and(|error| error.raw_os_error() == Some(libc::ECANCELED))
}

/// Runs `command`, which starts a daemon, and kills one of the three processes
/// right before a call of its own: process 0 is the command's, each next one
/// the child of the one before. Calls are counted from 0; those of process 0
/// from the first socketpair(2) on, with which the library begins.
///
/// Returns when process 0 has ended; the others then go on untraced.
///
/// # Errors
///
/// Those of ptrace(2), waitpid(2) and of starting the command.
pub fn crash(command: &mut Command, victim: usize, call: u64) -> io::Result<Traced> {
    let launcher = match fork()? {
        Some(pid) => signed(pid),
        None => {
            // Until it is traced.
            let _ = kill(std::process::id(), libc::SIGSTOP);
            drop(command.exec());
            exit_at_once(EXIT_NOT_EXECUTED);
        }
    };
    follow(launcher)?;
    let mut killed = None;
    // By process id: which of the three, and how many calls there have been,
    // if they are counted yet.
    let mut processes: HashMap<libc::pid_t, (usize, Option<u64>)> = HashMap::new();
    loop {
        let (pid, status) = wait_for_any()?;
        if !libc::WIFSTOPPED(status) {
            if pid == launcher {
                let launcher = ExitStatus::from_raw(status);
                return Ok(Traced { launcher, killed });
            }
            continue;
        }
        let number = processes.len();
        let is_new = !processes.contains_key(&pid);
        let (place, calls) = processes
            .entry(pid)
            .or_insert((number, (number > 0).then_some(0)));
        let mut signal = libc::WSTOPSIG(status);
        if is_new {
            // The stop is tracing's own.
            signal = 0;
        } else if signal == libc::SIGTRAP | AT_CALL {
            signal = 0;
            if let Some(entered) = entered_call(pid)? {
                if entered == BEGINNING {
                    calls.get_or_insert(0);
                }
                if *calls == Some(call) && *place == victim && killed.is_none() {
                    killed = Some(unsigned(pid));
                    // SAFETY: no requirement; it is stopped, so it exists.
                    check(unsafe { libc::kill(pid, libc::SIGKILL) })?;
                    continue;
                }
                if let Some(calls) = calls {
                    *calls += 1;
                }
            }
        } else if status >> 16 != 0 {
            // It has forked, or was stopped before it was traced.
            signal = 0;
        }
        match trace(libc::PTRACE_SYSCALL, pid, 0, c_long::from(signal)) {
            // Somebody has killed it meanwhile.
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => {}
            result => drop(result?),
        }
    }
}

fn trace_me() -> io::Result<()> {
    trace(libc::PTRACE_TRACEME, 0, 0, 0).map(drop)
}

/// Traces a child that has stopped itself, and all that descend from it; lets
/// it go on. What is traced so can be left without any trace: if this process
/// ends, the others run on.
fn follow(pid: libc::pid_t) -> io::Result<()> {
    let mut status = 0;
    // SAFETY: the pointer is valid for the call.
    retry(|| check(unsafe { libc::waitpid(pid, &mut status, libc::WUNTRACED) }))?;
    let options = libc::PTRACE_O_TRACESYSGOOD
        | libc::PTRACE_O_TRACEFORK
        | libc::PTRACE_O_TRACEVFORK
        | libc::PTRACE_O_TRACECLONE;
    trace(libc::PTRACE_SEIZE, pid, 0, c_long::from(options))?;
    kill(unsigned(pid), libc::SIGCONT)
}

/// The number of the call that `pid` is about to make, unless it has just
/// made one.
fn entered_call(pid: libc::pid_t) -> io::Result<Option<u64>> {
    // The kind of stop is in the first byte, the call's number at offset 24.
    let mut info = [0_u64; 16];
    let size = c_long::try_from(size_of_val(&info)).expect("small");
    // SAFETY: at most `size` bytes are written to where there are as many.
    let result = unsafe {
        libc::ptrace(
            GET_SYSCALL_INFO,
            pid,
            size,
            info.as_mut_ptr().cast::<c_void>(),
        )
    };
    match result {
        // Somebody has killed it meanwhile.
        -1 if io::Error::last_os_error().raw_os_error() == Some(libc::ESRCH) => Ok(None),
        -1 => Err(io::Error::last_os_error()),
        _ => Ok((info[0].to_ne_bytes()[0] == ENTRY).then_some(info[3])),
    }
}

fn wait_for_any() -> io::Result<(libc::pid_t, c_int)> {
    let mut status = 0;
    // SAFETY: the pointer is valid for the call.
    let pid = retry(|| check(unsafe { libc::waitpid(-1, &mut status, libc::__WALL) }))?;
    Ok((pid, status))
}

/// The requests that take plain numbers.
fn trace(request: Request, pid: libc::pid_t, address: c_long, data: c_long) -> io::Result<c_long> {
    // SAFETY: these requests read and write no memory of this process.
    let result = unsafe { libc::ptrace(request, pid, address, data) };
    match result {
        -1 => Err(io::Error::last_os_error()),
        result => Ok(result),
    }
}
