//! Following a start call by call, to send one of its processes a signal at
//! any of them or to let one fail: ptrace(2).

use std::cell::Cell;
use std::collections::HashMap;
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

/// `PTRACE_GET_SYSCALL_INFO` of <linux/ptrace.h>, and what it says of a stop
/// before a call and of one after it.
const GET_SYSCALL_INFO: Request = 0x420e;
const ENTRY: u8 = 1;
const EXIT: u8 = 2;

/// What a stop at a call adds to SIGTRAP (`PTRACE_O_TRACESYSGOOD`).
const AT_CALL: c_int = 0x80;

/// What a process that could not execute the command exits with.
const EXIT_NOT_EXECUTED: c_int = 127;

/// A call that a traced process makes.
#[derive(Debug, Clone, Copy)]
pub struct Call {
    /// Its number, one of libc's `SYS_`.
    pub number: c_long,
    /// Its arguments, as many as it has.
    pub arguments: [u64; 6],
}

impl Call {
    /// What the tester marks, if this is no call but a mark.
    pub fn mark(&self) -> Option<Mark> {
        let [option, mark, ..] = self.arguments;
        let is_mark = self.number == libc::SYS_prctl && option == u64::from(MARK.unsigned_abs());
        [Mark::Enter, Mark::Leave, Mark::Return]
            .into_iter()
            .find(|one| is_mark && *one as u64 == mark)
    }
}

/// What becomes of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// It is made.
    Proceed,
    /// The process gets this signal first.
    Signal(c_int),
    /// It is not made, and seems to have returned this: minus an errno if it
    /// is to have failed.
    Return(i64),
    /// It is made, and seems to have returned this.
    MakeAndReturn(i64),
    /// It is made with this argument, given by its place, replaced by a
    /// number.
    Replace(usize, u64),
}

/// Somebody who follows a start.
pub trait Watch {
    /// A process is about to make a call.
    ///
    /// # Errors
    ///
    /// Whatever ends the trace.
    fn entering(&mut self, process: Traced, call: &Call) -> io::Result<Decision>;

    /// A call of a process's has returned.
    ///
    /// # Errors
    ///
    /// Whatever ends the trace.
    fn returned(&mut self, _process: Traced, _call: &Call, _result: i64) -> io::Result<()> {
        Ok(())
    }

    /// Whether there is nothing more to see, now that process 0 has ended like
    /// this.
    fn is_over(&self, _launcher: ExitStatus) -> bool {
        true
    }

    /// A process other than process 0 has ended.
    fn ended(&mut self, _process: Traced) {}
}

/// A process that is followed: process 0 is the command's, each next one that
/// which was made next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Traced {
    /// Which one it is.
    pub place: usize,
    /// Its process id.
    pub pid: u32,
}

impl Traced {
    /// What a path in its memory is, up to the NUL.
    ///
    /// # Errors
    ///
    /// When it cannot be read.
    pub fn text_at(&self, address: u64) -> io::Result<Vec<u8>> {
        let mut text = vec![0; libc::PATH_MAX.unsigned_abs() as usize];
        let read = File::open(self.proc("mem"))?.read_at(&mut text, address)?;
        text.truncate(read);
        text.truncate(text.iter().position(|byte| *byte == 0).unwrap_or(read));
        Ok(text)
    }

    /// Whole numbers in its memory.
    ///
    /// # Errors
    ///
    /// When they cannot be read.
    pub fn numbers_at<const COUNT: usize>(&self, address: u64) -> io::Result<[u64; COUNT]> {
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
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn set_number_at(&self, address: u64, number: u64) -> io::Result<()> {
        let memory = OpenOptions::new().write(true).open(self.proc("mem"))?;
        memory.write_all_at(&number.to_ne_bytes(), address)
    }

    /// What one of its descriptors is, as /proc has it, if it is open.
    pub fn descriptor(&self, number: u64) -> Option<PathBuf> {
        let number = as_int(number);
        std::fs::read_link(self.proc(&format!("fd/{number}"))).ok()
    }

    /// Its working directory, as /proc has it.
    pub fn working_directory(&self) -> Option<PathBuf> {
        std::fs::read_link(self.proc("cwd")).ok()
    }

    fn proc(&self, name: &str) -> String {
        format!("/proc/{}/{name}", self.pid)
    }
}

/// An argument that is an int, however wide the register that it is in.
pub fn as_int(argument: u64) -> i32 {
    let low = u32::try_from(argument & u64::from(u32::MAX)).expect("cut to size");
    i32::from_ne_bytes(low.to_ne_bytes())
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

/// Whether calls can be made to fail on this architecture.
pub const CAN_REPLACE_CALLS: bool = registers::KNOWN;

/// Runs `command`, which starts a daemon, and lets `watch` decide on every
/// call of all its processes.
///
/// Returns how process 0 has ended, when that has and `watch` has seen enough;
/// the others then go on untraced.
///
/// # Errors
///
/// Those of ptrace(2), waitpid(2) and of starting the command.
pub fn trace(command: &mut Command, watch: &mut dyn Watch) -> io::Result<ExitStatus> {
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
    let mut processes: HashMap<libc::pid_t, Followed> = HashMap::new();
    let mut launcher_status = None;
    loop {
        if let Some(status) = launcher_status.filter(|status| watch.is_over(*status)) {
            return Ok(status);
        }
        let (pid, status) = match (wait_for_any(), launcher_status) {
            (Err(error), Some(status)) if error.raw_os_error() == Some(libc::ECHILD) => {
                return Ok(status);
            }
            (waited, _) => waited?,
        };
        let place = processes.len();
        let is_new = !processes.contains_key(&pid);
        let followed = processes.entry(pid).or_insert(Followed {
            process: Traced {
                place,
                pid: unsigned(pid),
            },
            call: None,
            result: None,
        });
        if !libc::WIFSTOPPED(status) {
            if pid == launcher {
                launcher_status = Some(ExitStatus::from_raw(status));
            } else {
                watch.ended(followed.process);
            }
            continue;
        }
        let mut signal = libc::WSTOPSIG(status);
        if is_new {
            // The stop is tracing's own.
            signal = 0;
        } else if signal == libc::SIGTRAP | AT_CALL {
            signal = 0;
            let decision = followed.stopped_at_call(watch).or_else(unless_gone)?;
            if matches!(decision, Decision::Signal(libc::SIGKILL | libc::SIGSTOP)) {
                // There is nothing left to be resumed, or it is stopped already:
                // a tracer's stop and SIGSTOP's are the same to all others.
                continue;
            }
        } else if status >> 16 != 0 {
            // It has forked, or was stopped before it was traced.
            signal = 0;
        }
        let resumed = request(libc::PTRACE_SYSCALL, pid, 0, c_long::from(signal));
        resumed.map(|_| Decision::Proceed).or_else(unless_gone)?;
    }
}

/// Somebody may have killed the process meanwhile.
fn unless_gone(error: io::Error) -> io::Result<Decision> {
    match error.raw_os_error() {
        Some(libc::ESRCH) => Ok(Decision::Proceed),
        _ => Err(error),
    }
}

/// A process, and the call that it is in.
struct Followed {
    process: Traced,
    call: Option<Call>,
    /// What the call is to return in place of what it would have.
    result: Option<i64>,
}

impl Followed {
    fn stopped_at_call(&mut self, watch: &mut dyn Watch) -> io::Result<Decision> {
        let pid = signed(self.process.pid);
        match stop(pid)? {
            Stop::Before(call) => {
                let decision = watch.entering(self.process, &call)?;
                self.call = Some(call);
                match decision {
                    Decision::Proceed => {}
                    Decision::Signal(signal) => kill(self.process.pid, signal)?,
                    Decision::Return(result) => {
                        registers::skip_call(pid)?;
                        self.result = Some(result);
                    }
                    Decision::MakeAndReturn(result) => self.result = Some(result),
                    Decision::Replace(argument, number) => {
                        registers::set_argument(pid, argument, number)?;
                    }
                }
                Ok(decision)
            }
            Stop::After(result) => {
                let result = match self.result.take() {
                    Some(result) => {
                        registers::set_result(pid, result)?;
                        result
                    }
                    None => result,
                };
                if let Some(call) = self.call.take() {
                    watch.returned(self.process, &call, result)?;
                }
                Ok(Decision::Proceed)
            }
            Stop::Other => Ok(Decision::Proceed),
        }
    }
}

fn trace_me() -> io::Result<()> {
    request(libc::PTRACE_TRACEME, 0, 0, 0).map(drop)
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
    request(libc::PTRACE_SEIZE, pid, 0, c_long::from(options))?;
    kill(unsigned(pid), libc::SIGCONT)
}

/// A process that cannot end, like one whom a file server keeps waiting in the
/// kernel: killed, it stops on its way out until this is dropped.
#[derive(Debug)]
pub struct Detained {
    pid: libc::pid_t,
    /// Whether it was seen to be on its way out.
    is_leaving: Cell<bool>,
    /// The kernel knows the thread that traces.
    _not_send: PhantomData<*const ()>,
}

/// Takes hold of a process of one thread.
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
    /// Waits until somebody has killed it.
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

/// Why a process has stopped.
enum Stop {
    Before(Call),
    After(i64),
    Other,
}

fn stop(pid: libc::pid_t) -> io::Result<Stop> {
    // The kind of stop is in the first byte; at offset 24 is the call's number
    // with its arguments behind it, or its result.
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
    if result == -1 {
        return Err(io::Error::last_os_error());
    }
    Ok(match info[0].to_ne_bytes()[0] {
        ENTRY => Stop::Before(Call {
            number: c_long::try_from(info[3]).unwrap_or(-1),
            arguments: std::array::from_fn(|argument| info[4 + argument]),
        }),
        EXIT => Stop::After(i64::from_ne_bytes(info[3].to_ne_bytes())),
        _ => Stop::Other,
    })
}

fn wait_for_any() -> io::Result<(libc::pid_t, c_int)> {
    let mut status = 0;
    // SAFETY: the pointer is valid for the call.
    let pid = retry(|| check(unsafe { libc::waitpid(-1, &mut status, libc::__WALL) }))?;
    Ok((pid, status))
}

/// The requests that take plain numbers.
fn request(
    request: Request,
    pid: libc::pid_t,
    address: c_long,
    data: c_long,
) -> io::Result<c_long> {
    // SAFETY: these requests read and write no memory of this process.
    let result = unsafe { libc::ptrace(request, pid, address, data) };
    match result {
        -1 => Err(io::Error::last_os_error()),
        result => Ok(result),
    }
}

/// The registers of a process that has stopped at a call, where their layout
/// is known: `struct user_regs_struct` of <sys/user.h>.
mod registers {
    use std::ffi::c_long;
    use std::io;

    #[cfg(target_arch = "x86_64")]
    mod layout {
        pub(super) const KNOWN: bool = true;
        pub(super) const COUNT: usize = 27;
        pub(super) const RESULT: usize = 10;
        /// rdi, rsi, rdx, r10, r8, r9
        pub(super) const ARGUMENTS: [usize; 6] = [14, 13, 12, 7, 9, 8];
        /// orig_rax
        pub(super) const NUMBER: usize = 15;
    }
    #[cfg(target_arch = "aarch64")]
    mod layout {
        pub(super) const KNOWN: bool = true;
        pub(super) const COUNT: usize = 34;
        pub(super) const RESULT: usize = 0;
        pub(super) const ARGUMENTS: [usize; 6] = [0, 1, 2, 3, 4, 5];
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    mod layout {
        pub(super) const KNOWN: bool = false;
        pub(super) const COUNT: usize = 1;
        pub(super) const RESULT: usize = 0;
        pub(super) const ARGUMENTS: [usize; 6] = [0; 6];
    }

    pub(super) const KNOWN: bool = layout::KNOWN;

    /// `NT_PRSTATUS` of <linux/elf.h>.
    const ALL: c_long = 1;

    /// Keeps the call that is about to be made from being made.
    pub(super) fn skip_call(pid: libc::pid_t) -> io::Result<()> {
        #[cfg(target_arch = "x86_64")]
        {
            change(pid, layout::NUMBER, u64::MAX)
        }
        #[cfg(target_arch = "aarch64")]
        {
            /// `NT_ARM_SYSTEM_CALL` of <linux/elf.h>: the number alone.
            const NUMBER: c_long = 0x404;
            let mut number: i32 = -1;
            transfer(libc::PTRACE_SETREGSET, pid, NUMBER, &mut number)
        }
        #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
        {
            let _ = pid;
            Err(io::ErrorKind::Unsupported.into())
        }
    }

    /// Makes a call have returned this.
    pub(super) fn set_result(pid: libc::pid_t, result: i64) -> io::Result<()> {
        change(
            pid,
            layout::RESULT,
            u64::from_ne_bytes(result.to_ne_bytes()),
        )
    }

    pub(super) fn set_argument(pid: libc::pid_t, argument: usize, to: u64) -> io::Result<()> {
        change(pid, layout::ARGUMENTS[argument], to)
    }

    fn change(pid: libc::pid_t, register: usize, to: u64) -> io::Result<()> {
        if !KNOWN {
            return Err(io::ErrorKind::Unsupported.into());
        }
        let mut all = [0_u64; layout::COUNT];
        transfer(libc::PTRACE_GETREGSET, pid, ALL, &mut all)?;
        all[register] = to;
        transfer(libc::PTRACE_SETREGSET, pid, ALL, &mut all)
    }

    fn transfer<T>(
        request: super::Request,
        pid: libc::pid_t,
        set: c_long,
        registers: &mut T,
    ) -> io::Result<()> {
        let mut part = libc::iovec {
            iov_base: std::ptr::from_mut(registers).cast(),
            iov_len: size_of::<T>(),
        };
        // SAFETY: the kernel reads or writes at most the length that is named,
        // of plain numbers.
        let result = unsafe { libc::ptrace(request, pid, set, &raw mut part) };
        match result {
            -1 => Err(io::Error::last_os_error()),
            _ => Ok(()),
        }
    }
}
