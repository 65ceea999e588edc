//! ptrace(2): follows processes from call to call, and keeps a process from ending.

use std::cell::Cell;
use std::ffi::{c_int, c_long, c_void};
use std::fs::{File, OpenOptions};
use std::io;
use std::marker::PhantomData;
use std::os::unix::fs::FileExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};

use super::process::{MARK, Mark, exit_at_once, fork, kill, signed, unsigned};
use super::{check, retry};

#[cfg(target_env = "musl")]
type Request = c_int;
#[cfg(not(target_env = "musl"))]
type Request = std::ffi::c_uint;

/// `PTRACE_GET_SYSCALL_INFO` of <linux/ptrace.h>, and its first byte at a stop before
/// and at a stop after a call.
const GET_SYSCALL_INFO: Request = 0x420e;
const ENTRY: u8 = 1;
const EXIT: u8 = 2;

/// The bit that `PTRACE_O_TRACESYSGOOD` adds to SIGTRAP at a call.
const AT_CALL: c_int = 0x80;

/// The exit status of a process that cannot execute the command.
const EXIT_NOT_EXECUTED: c_int = 127;

/// A call that a traced process makes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Call {
    /// Its number, one of libc's `SYS_`.
    pub(crate) number: c_long,
    /// Its arguments; the rest is meaningless.
    pub(crate) arguments: [u64; 6],
}

impl Call {
    /// The mark of the tester, if the call is one.
    pub(crate) fn mark(&self) -> Option<Mark> {
        let [option, mark, ..] = self.arguments;
        let is_mark = self.number == libc::SYS_prctl && option == u64::from(MARK.unsigned_abs());
        [Mark::Enter, Mark::Leave, Mark::Return]
            .into_iter()
            .find(|known| is_mark && *known as u64 == mark)
    }
}

/// Where a process is stopped.
#[derive(Debug)]
pub(crate) enum CallStop {
    /// It is about to make this call.
    Before(Call),
    /// Its call returns this result.
    After(i64),
    /// It is at no call.
    Other,
}

/// A traced process, by its process id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tracee(pub(crate) u32);

impl Tracee {
    /// Looks where the process is stopped.
    pub(crate) fn call_stop(self) -> io::Result<CallStop> {
        // The kind of stop is in the first byte; at offset 24 is the call's number
        // with its arguments behind it, or its result.
        let mut info = [0_u64; 16];
        let size = c_long::try_from(size_of_val(&info)).expect("small");
        let pointer = info.as_mut_ptr().cast::<c_void>();
        // SAFETY: the kernel writes at most `size` bytes, for which there is room.
        check(unsafe { libc::ptrace(GET_SYSCALL_INFO, signed(self.0), size, pointer) })?;
        Ok(match info[0].to_ne_bytes()[0] {
            ENTRY => CallStop::Before(Call {
                number: c_long::try_from(info[3]).unwrap_or(-1),
                arguments: std::array::from_fn(|argument| info[4 + argument]),
            }),
            EXIT => CallStop::After(i64::from_ne_bytes(info[3].to_ne_bytes())),
            _ => CallStop::Other,
        })
    }

    /// Resumes the process, with a signal unless that is 0, until its next event.
    pub(crate) fn resume(self, signal: c_int) -> io::Result<()> {
        let signal = c_long::from(signal);
        request(libc::PTRACE_SYSCALL, signed(self.0), 0, signal).map(drop)
    }

    /// Keeps the process from making the call at which it is stopped.
    pub(crate) fn skip_call(self) -> io::Result<()> {
        #[cfg(not(target_arch = "aarch64"))]
        return self.set_register(layout::NUMBER, u64::MAX);
        #[cfg(target_arch = "aarch64")]
        {
            /// `NT_ARM_SYSTEM_CALL` of <linux/elf.h>: the number alone.
            const NUMBER: c_long = 0x404;
            self.transfer_registers(libc::PTRACE_SETREGSET, NUMBER, &mut -1_i32)
        }
    }

    /// Replaces the result of the call at which the process is stopped.
    pub(crate) fn set_result(self, result: i64) -> io::Result<()> {
        self.set_register(layout::RESULT, u64::from_ne_bytes(result.to_ne_bytes()))
    }

    /// Replaces an argument, by its place, of the call at which the process is stopped.
    pub(crate) fn set_argument(self, argument: usize, to: u64) -> io::Result<()> {
        self.set_register(layout::ARGUMENTS[argument], to)
    }

    fn set_register(self, register: usize, to: u64) -> io::Result<()> {
        /// `NT_PRSTATUS` of <linux/elf.h>.
        const ALL: c_long = 1;
        if !CAN_REPLACE_CALLS {
            return Err(io::ErrorKind::Unsupported.into());
        }
        let mut all = [0_u64; layout::COUNT];
        self.transfer_registers(libc::PTRACE_GETREGSET, ALL, &mut all)?;
        all[register] = to;
        self.transfer_registers(libc::PTRACE_SETREGSET, ALL, &mut all)
    }

    fn transfer_registers<T>(self, way: Request, set: c_long, registers: &mut T) -> io::Result<()> {
        let mut part = libc::iovec {
            iov_base: std::ptr::from_mut(registers).cast(),
            iov_len: size_of::<T>(),
        };
        // SAFETY: the kernel reads or writes at most as many bytes as `part` names, and
        // these are plain numbers.
        check(unsafe { libc::ptrace(way, signed(self.0), set, &raw mut part) }).map(drop)
    }

    /// A string in its memory, up to the NUL.
    pub(crate) fn text_at(self, address: u64) -> io::Result<Vec<u8>> {
        let mut text = vec![0; libc::PATH_MAX.unsigned_abs() as usize];
        let read = File::open(self.proc("mem"))?.read_at(&mut text, address)?;
        text.truncate(read);
        text.truncate(text.iter().position(|byte| *byte == 0).unwrap_or(read));
        Ok(text)
    }

    /// Whole numbers in its memory.
    pub(crate) fn numbers_at<const COUNT: usize>(self, address: u64) -> io::Result<[u64; COUNT]> {
        let memory = File::open(self.proc("mem"))?;
        let mut numbers = [0; COUNT];
        let mut next = address;
        for number in &mut numbers {
            let mut bytes = [0; size_of::<u64>()];
            memory.read_exact_at(&mut bytes, next)?;
            *number = u64::from_ne_bytes(bytes);
            next += size_of::<u64>() as u64;
        }
        Ok(numbers)
    }

    /// Replaces a whole number in its memory.
    pub(crate) fn set_number_at(self, address: u64, number: u64) -> io::Result<()> {
        let memory = OpenOptions::new().write(true).open(self.proc("mem"))?;
        memory.write_all_at(&number.to_ne_bytes(), address)
    }

    /// The target of an open descriptor, from /proc.
    pub(crate) fn descriptor(self, number: u64) -> Option<PathBuf> {
        let number = as_int(number);
        std::fs::read_link(self.proc(&format!("fd/{number}"))).ok()
    }

    /// Its working directory, from /proc.
    pub(crate) fn working_directory(self) -> Option<PathBuf> {
        std::fs::read_link(self.proc("cwd")).ok()
    }

    fn proc(self, name: &str) -> String {
        format!("/proc/{}/{name}", self.0)
    }
}

/// An argument of type int: the lower half of its register.
pub(crate) fn as_int(argument: u64) -> i32 {
    let low = u32::try_from(argument & u64::from(u32::MAX)).expect("cut to size");
    i32::from_ne_bytes(low.to_ne_bytes())
}

/// Whether a process can be traced here: an emulator may be unable to, and a container
/// may forbid it.
pub fn can_trace() -> bool {
    let mut command = Command::new("/");
    let attempt = || {
        request(libc::PTRACE_TRACEME, 0, 0, 0)?;
        // The child executes nothing.
        Err(io::Error::from_raw_os_error(libc::ECANCELED))
    };
    // SAFETY: the closure only makes async-signal-safe calls.
    unsafe { command.pre_exec(attempt) };
    command
        .stdin(Stdio::null())
        .spawn()
        .is_err_and(|error| error.raw_os_error() == Some(libc::ECANCELED))
}

/// Whether calls can be made to fail on this architecture.
pub const CAN_REPLACE_CALLS: bool = cfg!(any(target_arch = "x86_64", target_arch = "aarch64"));

/// Runs `command`, and traces it with all its descendants. Returns its process id.
pub(crate) fn start_traced(command: &mut Command) -> io::Result<u32> {
    let Some(pid) = fork()? else {
        // The tracer resumes it.
        let _ = kill(std::process::id(), libc::SIGSTOP);
        drop(command.exec());
        exit_at_once(EXIT_NOT_EXECUTED);
    };
    let mut status = 0;
    // SAFETY: the pointer is valid for the call.
    retry(|| check(unsafe { libc::waitpid(signed(pid), &mut status, libc::WUNTRACED) }))?;
    // With PTRACE_SEIZE, the others run on if the tracer ends.
    let options = libc::PTRACE_O_TRACESYSGOOD
        | libc::PTRACE_O_TRACEFORK
        | libc::PTRACE_O_TRACEVFORK
        | libc::PTRACE_O_TRACECLONE;
    request(libc::PTRACE_SEIZE, signed(pid), 0, c_long::from(options))?;
    kill(pid, libc::SIGCONT)?;
    Ok(pid)
}

/// Why the tracer wakes up.
#[derive(Debug)]
pub(crate) enum TraceeEvent {
    /// The process has ended.
    Ended(ExitStatus),
    /// The process is stopped before or after a call: see [`Tracee::call_stop`].
    AtCall,
    /// The process gets this signal.
    Signal(c_int),
    /// The process has forked, or was stopped before it was traced.
    Other,
}

/// Waits for an event of any traced process.
pub(crate) fn wait_for_tracee() -> io::Result<(u32, TraceeEvent)> {
    let mut status = 0;
    // SAFETY: the pointer is valid for the call.
    let pid = retry(|| check(unsafe { libc::waitpid(-1, &mut status, libc::__WALL) }))?;
    let event = match libc::WSTOPSIG(status) {
        _ if !libc::WIFSTOPPED(status) => TraceeEvent::Ended(ExitStatus::from_raw(status)),
        signal if signal == libc::SIGTRAP | AT_CALL => TraceeEvent::AtCall,
        _ if status >> 16 != 0 => TraceeEvent::Other,
        signal => TraceeEvent::Signal(signal),
    };
    Ok((unsigned(pid), event))
}

/// A process that cannot end, as if a file server kept it waiting in the kernel. If it
/// is killed, it stops on its way out until this is dropped.
#[derive(Debug)]
pub struct Detained {
    pid: libc::pid_t,
    /// Whether the process is on its way out.
    is_leaving: Cell<bool>,
    /// Only the thread that has attached may trace the process.
    _not_send: PhantomData<*const ()>,
}

/// Keeps a process of one thread from ending.
///
/// # Errors
///
/// Those of ptrace(2); `Unsupported` elsewhere than on Linux.
pub fn detain(pid: u32) -> io::Result<Detained> {
    let pid = signed(pid);
    let options = c_long::from(libc::PTRACE_O_TRACEEXIT);
    request(libc::PTRACE_SEIZE, pid, 0, options)?;
    Ok(Detained {
        pid,
        is_leaving: Cell::new(false),
        _not_send: PhantomData,
    })
}

impl Detained {
    /// Waits until another process has killed it.
    ///
    /// # Errors
    ///
    /// Those of waitpid(2).
    pub fn wait_until_killed(&self) -> io::Result<()> {
        while !self.is_leaving.get() {
            let status = self.wait()?;
            let is_over = !libc::WIFSTOPPED(status);
            self.is_leaving
                .set(is_over || status >> 16 == libc::PTRACE_EVENT_EXIT);
        }
        Ok(())
    }

    fn wait(&self) -> io::Result<c_int> {
        let mut status = 0;
        // SAFETY: the pointer is valid for the call.
        retry(|| check(unsafe { libc::waitpid(self.pid, &mut status, libc::__WALL) }))?;
        Ok(status)
    }
}

impl Drop for Detained {
    fn drop(&mut self) {
        let _ = kill(unsigned(self.pid), libc::SIGKILL)
            .and_then(|()| self.wait_until_killed())
            .and_then(|()| request(libc::PTRACE_CONT, self.pid, 0, 0))
            .and_then(|_| self.wait());
    }
}

/// Makes a request that takes plain numbers.
fn request(
    request: Request,
    pid: libc::pid_t,
    address: c_long,
    data: c_long,
) -> io::Result<c_long> {
    // SAFETY: these requests read and write no memory of this process.
    check(unsafe { libc::ptrace(request, pid, address, data) })
}

/// The registers at a call, by their places in `struct user_regs_struct` of
/// <sys/user.h>.
#[cfg(target_arch = "x86_64")]
mod layout {
    pub(super) const COUNT: usize = 27;
    pub(super) const RESULT: usize = 10;
    /// rdi, rsi, rdx, r10, r8, r9
    pub(super) const ARGUMENTS: [usize; 6] = [14, 13, 12, 7, 9, 8];
    /// orig_rax
    pub(super) const NUMBER: usize = 15;
}
#[cfg(target_arch = "aarch64")]
mod layout {
    pub(super) const COUNT: usize = 34;
    pub(super) const RESULT: usize = 0;
    pub(super) const ARGUMENTS: [usize; 6] = [0, 1, 2, 3, 4, 5];
}
/// The layout is unknown.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
mod layout {
    pub(super) const COUNT: usize = 1;
    pub(super) const RESULT: usize = 0;
    pub(super) const ARGUMENTS: [usize; 6] = [0; 6];
    pub(super) const NUMBER: usize = 0;
}
