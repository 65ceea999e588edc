//! How a call of a traced process is named.

use std::collections::HashMap;
use std::ffi::c_long;
use std::io;
use std::path::{Path, PathBuf};

use crate::sys::{Call, Tracee, as_int};

/// What distinguishes the calls of a case.
pub(super) struct Names {
    /// The case's directory.
    directory: PathBuf,
    /// The number of the pair that each socket belongs to.
    pairs: HashMap<PathBuf, usize>,
}

/// An argument that is part of a call's name.
enum Shown {
    /// A path.
    Path(usize),
    /// A descriptor.
    Descriptor(usize),
    /// A descriptor of a directory and, next to it, a path.
    At(usize),
    /// A number.
    Number(usize),
    /// One of some numbers that have names.
    Named(usize, &'static [(i32, &'static str)]),
    /// A pointer to a struct sigaction: what is to be done on the signal.
    Action(usize),
}

use Shown::{Action, At, Descriptor, Named, Number, Path as PathAt};

impl Names {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            directory: std::env::current_dir()?,
            pairs: HashMap::new(),
        })
    }

    /// Takes down the sockets of a pair that a process has made.
    pub(super) fn add_pair(&mut self, process: Tracee, call: &Call) -> io::Result<()> {
        let number = self.pairs.len() / 2 + 1;
        let [ends] = process.numbers_at(call.arguments[3])?;
        for end in [ends, ends >> 32] {
            let socket = process.descriptor(end);
            self.pairs.extend(socket.map(|socket| (socket, number)));
        }
        Ok(())
    }

    pub(super) fn name(&self, process: Tracee, call: &Call) -> io::Result<String> {
        let Some((_, name, shown)) = CALLS.iter().find(|known| known.0 == call.number) else {
            return Ok(format!("system call {}", call.number));
        };
        if *name == "stat" && self.is_of_descriptor(process, call) {
            let file = self.descriptor(process, call.arguments[0]);
            return Ok(format!("fstat({file})"));
        }
        let shown: Vec<_> = shown
            .iter()
            .map(|shown| self.show(process, call, shown))
            .collect::<io::Result<_>>()?;
        Ok(if shown.is_empty() {
            (*name).to_owned()
        } else {
            format!("{name}({})", shown.join(", "))
        })
    }

    /// By an empty path.
    fn is_of_descriptor(&self, process: Tracee, call: &Call) -> bool {
        [libc::SYS_newfstatat, libc::SYS_statx].contains(&call.number)
            && process
                .text_at(call.arguments[1])
                .is_ok_and(|path| path.is_empty())
    }

    fn show(&self, process: Tracee, call: &Call, shown: &Shown) -> io::Result<String> {
        let argument = |number: usize| call.arguments[number];
        Ok(match *shown {
            PathAt(number) => self.path(process, argument(number)),
            Descriptor(number) => self.descriptor(process, argument(number)),
            At(number) => {
                let Some(path) = text(process, argument(number + 1)) else {
                    return Ok(NOWHERE.to_owned());
                };
                let directory = match as_int(argument(number)) {
                    libc::AT_FDCWD => process.working_directory(),
                    _ => process.descriptor(argument(number)),
                };
                match directory {
                    Some(directory) if path != "." => self.in_directory(&directory.join(path)),
                    _ => path,
                }
            }
            Action(number) if argument(number) == 0 => "as it is".to_owned(),
            Action(number) => match process.numbers_at(argument(number))? {
                // The handler comes first.
                [DEFAULT] => "SIG_DFL".to_owned(),
                [_] => "a handler".to_owned(),
            },
            Number(number) => as_int(argument(number)).to_string(),
            Named(number, names) => {
                let value = as_int(argument(number));
                match names.iter().find(|(known, _)| *known == value) {
                    Some((_, name)) => (*name).to_owned(),
                    None => value.to_string(),
                }
            }
        })
    }

    fn path(&self, process: Tracee, address: u64) -> String {
        match text(process, address) {
            Some(path) => self.in_directory(Path::new(&path)),
            None => NOWHERE.to_owned(),
        }
    }

    fn descriptor(&self, process: Tracee, number: u64) -> String {
        match process.descriptor(number) {
            None => "closed".to_owned(),
            Some(file) => match self.pairs.get(&file) {
                Some(pair) => format!("pair {pair}"),
                None => self.in_directory(without_number(&file)),
            },
        }
    }

    fn in_directory(&self, path: &Path) -> String {
        let Ok(path) = path.strip_prefix(&self.directory) else {
            return without_numbers(path);
        };
        // `stderr.12` is that of the twelfth run.
        let text = path.to_string_lossy();
        let text = text.strip_suffix(" (deleted)").unwrap_or(&text);
        let is_number = |end: &str| end.bytes().all(|byte| byte.is_ascii_digit());
        match text.rsplit_once('.') {
            Some((name, end)) if is_number(end) => name.to_owned(),
            _ => text.to_owned(),
        }
    }
}

/// What std gives to find out whether there is such a call.
const NOWHERE: &str = "nowhere";

/// A path as the process has it, if it has one there.
fn text(process: Tracee, address: u64) -> Option<String> {
    let text = process.text_at(address).ok()?;
    Some(String::from_utf8_lossy(&text).into_owned())
}

/// `socket:[1234]` is another one each time.
fn without_number(file: &Path) -> &Path {
    let text = file.to_str().unwrap_or_default();
    match text.split_once(":[") {
        Some((kind, number)) if number.starts_with(|start: char| start.is_ascii_digit()) => {
            Path::new(kind)
        }
        _ => file,
    }
}

/// `/proc/1234/fd/5` is another process's and another descriptor each time.
fn without_numbers(path: &Path) -> String {
    let text = path.to_string_lossy();
    if !path.starts_with("/proc") {
        return text.into_owned();
    }
    let is_number = |part: &&str| part.parse::<u32>().is_ok();
    let parts = text.split('/');
    let parts: Vec<_> = parts
        .map(|part| if is_number(&part) { "*" } else { part })
        .collect();
    parts.join("/")
}

const DEFAULT: u64 = libc::SIG_DFL as u64;
const CONTROLS: &[(i32, &str)] = &[
    (libc::F_DUPFD_CLOEXEC, "F_DUPFD_CLOEXEC"),
    (libc::F_GETFD, "F_GETFD"),
    (libc::F_GETLK, "F_GETLK"),
    (libc::F_SETLK, "F_SETLK"),
    (libc::F_SETFD, "F_SETFD"),
    (libc::F_GETFL, "F_GETFL"),
    (libc::F_SETFL, "F_SETFL"),
];
const LOCKS: &[(i32, &str)] = &[
    (libc::LOCK_EX | libc::LOCK_NB, "LOCK_EX"),
    (libc::LOCK_SH | libc::LOCK_NB, "LOCK_SH"),
    (libc::LOCK_UN, "LOCK_UN"),
];
const OFFSETS: &[(i32, &str)] = &[(libc::SEEK_SET, "SEEK_SET"), (libc::SEEK_CUR, "SEEK_CUR")];
const OPERATIONS: &[(i32, &str)] = &[
    (libc::PR_CAP_AMBIENT, "PR_CAP_AMBIENT"),
    (libc::PR_SET_NO_NEW_PRIVS, "PR_SET_NO_NEW_PRIVS"),
    (libc::PR_SET_PDEATHSIG, "PR_SET_PDEATHSIG"),
    (libc::PR_GET_NO_NEW_PRIVS, "PR_GET_NO_NEW_PRIVS"),
];

/// By number: the name, and what tells it from others of that name.
const CALLS: &[(c_long, &str, &[Shown])] = &[
    (libc::SYS_brk, "brk", &[]),
    (libc::SYS_capget, "capget", &[]),
    (libc::SYS_capset, "capset", &[]),
    (libc::SYS_chdir, "chdir", &[PathAt(0)]),
    (libc::SYS_chroot, "chroot", &[PathAt(0)]),
    (libc::SYS_clock_gettime, "clock_gettime", &[]),
    (libc::SYS_clone, "fork", &[]),
    (libc::SYS_clone3, "fork", &[]),
    (libc::SYS_close, "close", &[Descriptor(0)]),
    (libc::SYS_close_range, "close_range", &[]),
    (libc::SYS_connect, "connect", &[Descriptor(0)]),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_access, "access", &[PathAt(0)]),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_dup2, "dup2", &[Descriptor(0), Number(1)]),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_fork, "fork", &[]),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_lstat, "stat", &[PathAt(0)]),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_open, "open", &[PathAt(0)]),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_poll, "poll", &[]),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_readlink, "readlink", &[PathAt(0)]),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_stat, "stat", &[PathAt(0)]),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_unlink, "unlink", &[PathAt(0)]),
    (libc::SYS_dup3, "dup2", &[Descriptor(0), Number(1)]),
    (libc::SYS_exit_group, "_exit", &[]),
    (libc::SYS_faccessat, "access", &[PathAt(1)]),
    (libc::SYS_fchmod, "fchmod", &[Descriptor(0)]),
    (libc::SYS_fchown, "fchown", &[Descriptor(0)]),
    (
        libc::SYS_fcntl,
        "fcntl",
        &[Descriptor(0), Named(1, CONTROLS)],
    ),
    (libc::SYS_flock, "flock", &[Descriptor(0), Named(1, LOCKS)]),
    (libc::SYS_fstat, "fstat", &[Descriptor(0)]),
    (libc::SYS_ftruncate, "ftruncate", &[Descriptor(0)]),
    (libc::SYS_futex, "futex", &[]),
    (libc::SYS_getcwd, "getcwd", &[]),
    (libc::SYS_getdents64, "getdents", &[Descriptor(0)]),
    (libc::SYS_getegid, "getegid", &[]),
    (libc::SYS_geteuid, "geteuid", &[]),
    (libc::SYS_getgid, "getgid", &[]),
    (libc::SYS_getgroups, "getgroups", &[]),
    (libc::SYS_getpid, "getpid", &[]),
    (libc::SYS_getppid, "getppid", &[]),
    (libc::SYS_getrandom, "getrandom", &[]),
    (libc::SYS_getresgid, "getresgid", &[]),
    (libc::SYS_getresuid, "getresuid", &[]),
    (libc::SYS_gettid, "gettid", &[]),
    (libc::SYS_getuid, "getuid", &[]),
    (libc::SYS_kill, "kill", &[Number(1)]),
    (
        libc::SYS_lseek,
        "lseek",
        &[Descriptor(0), Named(2, OFFSETS)],
    ),
    (libc::SYS_madvise, "madvise", &[]),
    (libc::SYS_mmap, "mmap", &[]),
    (libc::SYS_mprotect, "mprotect", &[]),
    (libc::SYS_mremap, "mremap", &[]),
    (libc::SYS_munmap, "munmap", &[]),
    (libc::SYS_newfstatat, "stat", &[At(0)]),
    (libc::SYS_openat, "open", &[At(0)]),
    (libc::SYS_pidfd_open, "pidfd_open", &[]),
    (
        libc::SYS_pidfd_send_signal,
        "pidfd_send_signal",
        &[Number(1)],
    ),
    (libc::SYS_ppoll, "poll", &[]),
    (libc::SYS_prctl, "prctl", &[Named(0, OPERATIONS)]),
    (libc::SYS_pread64, "pread", &[Descriptor(0)]),
    (libc::SYS_prlimit64, "getrlimit", &[]),
    (libc::SYS_pwrite64, "pwrite", &[Descriptor(0)]),
    (libc::SYS_read, "read", &[Descriptor(0)]),
    (libc::SYS_readlinkat, "readlink", &[PathAt(1)]),
    // What is restarted so is a poll(2) that a stop has interrupted.
    (libc::SYS_restart_syscall, "poll", &[]),
    (libc::SYS_recvfrom, "recv", &[Descriptor(0)]),
    (libc::SYS_recvmsg, "recvmsg", &[Descriptor(0)]),
    (libc::SYS_rt_sigaction, "sigaction", &[Action(1)]),
    (libc::SYS_rt_sigpending, "sigpending", &[]),
    (libc::SYS_rt_sigprocmask, "sigprocmask", &[]),
    (libc::SYS_rt_sigreturn, "sigreturn", &[]),
    (libc::SYS_rt_sigtimedwait, "sigwait", &[]),
    (libc::SYS_sendmsg, "sendmsg", &[Descriptor(0)]),
    (libc::SYS_sendto, "send", &[Descriptor(0)]),
    (libc::SYS_set_robust_list, "set_robust_list", &[]),
    (libc::SYS_setsockopt, "setsockopt", &[Descriptor(0)]),
    (libc::SYS_setgid, "setgid", &[Number(0)]),
    (libc::SYS_setgroups, "setgroups", &[Number(0)]),
    (
        libc::SYS_setresgid,
        "setresgid",
        &[Number(0), Number(1), Number(2)],
    ),
    (
        libc::SYS_setresuid,
        "setresuid",
        &[Number(0), Number(1), Number(2)],
    ),
    (libc::SYS_set_tid_address, "set_tid_address", &[]),
    (libc::SYS_setsid, "setsid", &[]),
    (libc::SYS_setuid, "setuid", &[Number(0)]),
    (libc::SYS_shutdown, "shutdown", &[Descriptor(0)]),
    (libc::SYS_sigaltstack, "sigaltstack", &[]),
    (libc::SYS_socket, "socket", &[]),
    (libc::SYS_socketpair, "socketpair", &[]),
    (libc::SYS_statx, "stat", &[At(0)]),
    (libc::SYS_umask, "umask", &[]),
    (libc::SYS_unlinkat, "unlink", &[At(0)]),
    (libc::SYS_unshare, "unshare", &[]),
    (libc::SYS_wait4, "waitpid", &[]),
    (libc::SYS_waitid, "waitid", &[]),
    (libc::SYS_write, "write", &[Descriptor(0)]),
];
