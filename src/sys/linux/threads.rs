//! How many threads share the memory of this process.

use std::fs;
use std::sync::atomic::{AtomicU8, Ordering};

use super::directory::{field, find_number, open_directory};
use crate::sys::{_exit, Errno, SharedByte, cvt, retry_on_eintr};

pub(crate) const WHY_THREADS_ARE_UNKNOWN: &str =
    "unshare(2) is forbidden, and /proc/self/status cannot be read; mount /proc";

/// unshare(2) with `CLONE_VM` succeeds without effect if the caller is the only user of its
/// memory, and otherwise fails with `EINVAL`: "specifying any one of these flags has no
/// effect if the process is single threaded". The call sees threads as well as processes
/// made with `CLONE_VM`. If a sandbox forbids the call, /proc counts the threads.
///
/// Some kernels answer `EINVAL` to every process: see [`Answer`]. There, too, /proc counts
/// the threads.
pub(crate) fn is_single_threaded() -> Option<bool> {
    match unshare_memory() {
        Ok(()) => Some(true),
        Err(libc::EINVAL) => match Answer::to_a_lone_thread() {
            Some(Answer::Success) => Some(false),
            Some(Answer::Invalid { threads }) => Some(count_tasks().ok()? == threads),
            // A process with one thread may still share its memory with another process.
            None => (count_tasks().ok()? > 1).then_some(false),
        },
        Err(_) => {
            let status = fs::read_to_string("/proc/self/status").ok()?;
            Some(field(&status, "Threads:")?.trim().parse::<u32>().ok()? == 1)
        }
    }
}

/// Async-signal-safe.
fn unshare_memory() -> Result<(), Errno> {
    // SAFETY: with CLONE_VM alone, unshare changes nothing.
    cvt(unsafe { libc::unshare(libc::CLONE_VM) }).map(drop)
}

/// What unshare(2) with `CLONE_VM` answers to a process that certainly has one thread and
/// memory of its own.
///
/// gVisor does not count the users of a memory, and answers `EINVAL` to every process
/// (`Task.Unshare` of pkg/sentry/kernel/task_clone.go). qemu-user does so, too: it adds a
/// thread of its own to each process (`rcu_init_complete` of util/rcu.c), which the
/// kernel counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Success,
    Invalid {
        /// How many threads /proc lists of that process.
        threads: u8,
    },
}

impl Answer {
    /// As a byte: none, success, or the number of threads.
    const NONE: u8 = 0;
    const SUCCESS: u8 = u8::MAX;

    /// Asks once, since the kernel always gives the same answer. `None` if no child can
    /// be made to ask.
    fn to_a_lone_thread() -> Option<Self> {
        static KNOWN: AtomicU8 = AtomicU8::new(Answer::NONE);

        if KNOWN.load(Ordering::Relaxed) == Self::NONE {
            KNOWN.store(ask_in_child()?, Ordering::Relaxed);
        }
        match KNOWN.load(Ordering::Relaxed) {
            Self::NONE => None,
            Self::SUCCESS => Some(Self::Success),
            threads => Some(Self::Invalid { threads }),
        }
    }
}

/// What a child that asks for [`Answer`] finds.
///
/// The child makes only system calls. Its end raises no signal, so that no handler or
/// disposition of SIGCHLD reaps it, and a tracer does not follow it. qemu-user refuses to
/// make such a child, and gets a child that raises SIGCHLD. So the answer is not the exit
/// status, which the reaper takes.
fn ask_in_child() -> Option<u8> {
    let answer = SharedByte::new()?;
    let flags = [libc::CLONE_UNTRACED, libc::SIGCHLD];
    let child = flags.into_iter().find_map(|flags| clone(flags).ok())?;
    if child == 0 {
        answer.set(match unshare_memory() {
            Ok(()) => Answer::SUCCESS,
            Err(_) => count_tasks().unwrap_or(Answer::NONE),
        });
        _exit(0);
    }
    let mut status = 0;
    // If another reaper takes the child, the call fails, but not before the child has ended.
    // SAFETY: `status` is valid for writes during the call.
    let _ = retry_on_eintr(|| unsafe { libc::waitpid(child, &raw mut status, libc::__WALL) });
    Some(answer.get())
}

/// clone(2) on the stack of the caller: fork(2) without libc's own handlers.
fn clone(flags: libc::c_int) -> Result<libc::pid_t, Errno> {
    let flags = libc::c_long::from(flags);
    const NONE: libc::c_long = 0;
    #[cfg(not(target_arch = "s390x"))]
    let (first, second) = (flags, NONE);
    // `CONFIG_CLONE_BACKWARDS2`.
    #[cfg(target_arch = "s390x")]
    let (first, second) = (NONE, flags);
    // SAFETY: the child has a copy of this memory, and makes only system calls before it
    // exits.
    let made = unsafe { libc::syscall(libc::SYS_clone, first, second, NONE, NONE, NONE) };
    cvt(made as libc::pid_t)
}

/// How many threads proc(5) lists in /proc/self/task, up to 254. Async-signal-safe.
fn count_tasks() -> Result<u8, Errno> {
    let mut count = 0_usize;
    find_number(&open_directory(c"/proc/self/task")?, &mut [0; 512], |_| {
        count += 1;
        Ok(None::<()>)
    })?;
    Ok(u8::try_from(count).map_or(254, |count| count.min(254)))
}

/// proc(5), /proc/self/task/tid/comm. If a thread ends meanwhile, the list may lack its
/// name, or leave out another thread.
pub(crate) fn thread_names() -> Option<Vec<Option<String>>> {
    let threads = fs::read_dir("/proc/self/task").ok()?;
    let name = |thread: fs::DirEntry| fs::read(thread.path().join("comm")).ok();
    let threads = threads.filter_map(Result::ok).map(|thread| {
        let name = name(thread)?;
        Some(String::from_utf8_lossy(name.trim_ascii_end()).into_owned())
    });
    Some(threads.collect())
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::os::unix::process::CommandExt as _;
    use std::process::Command;

    use super::*;

    /// What a child of fork(2) finds, which has one thread. A sandbox may forbid the call to it, and
    /// an emulator may add a thread.
    fn answer_to_a_child() -> Option<Answer> {
        let ask = || {
            let threads = match unshare_memory() {
                Ok(()) => 0,
                Err(_) => count_tasks().map_err(io::Error::from_raw_os_error)?,
            };
            // The child executes nothing.
            Err(io::Error::from_raw_os_error(1 + i32::from(threads)))
        };
        let mut command = Command::new("/");
        // SAFETY: the closure only makes async-signal-safe calls.
        unsafe { command.pre_exec(ask) };
        match command.spawn().err()?.raw_os_error()? - 1 {
            0 => Some(Answer::Success),
            threads => Some(Answer::Invalid {
                threads: threads.try_into().ok()?,
            }),
        }
    }

    #[test]
    fn the_kernel_answers_a_lone_thread_as_such() {
        let answer = Answer::to_a_lone_thread();
        assert!(answer.is_some());
        assert_eq!(answer, answer_to_a_child());
    }

    /// Looks more than once, since the threads of other tests end meanwhile.
    #[test]
    fn threads_are_listed_by_name() {
        let mine = std::thread::current().name().map(str::to_owned);
        let mine = mine.map(|name| name.chars().take(15).collect());
        let named = (0..100).any(|_| thread_names().expect("/proc").contains(&mine));
        assert!(named, "{mine:?} {:?}", thread_names());
    }
}
