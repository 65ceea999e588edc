//! Names the calls of a traced process.

use std::collections::HashMap;
use std::ffi::c_long;
use std::io;
use std::path::{Path, PathBuf};

use crate::sys::{Call, Tracee, as_int};

/// The files of a case, by which its calls are named.
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
    /// A pointer to a struct sigaction.
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

    /// Gives the next number to a pair of sockets that a process has made.
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
        let mut known = KNOWN.iter().chain(KNOWN_HERE);
        let Some((_, name, own_name, shown)) = known.find(|known| known.0 == call.number) else {
            return Ok(format!("system call {}", call.number));
        };
        let name = match *name {
            "" => own_name.trim_start_matches("SYS_"),
            name => name,
        };
        if name == "stat" && self.is_of_descriptor(process, call) {
            let file = self.descriptor(process, call.arguments[0]);
            return Ok(format!("fstat({file})"));
        }
        let shown: Vec<_> = shown
            .iter()
            .map(|shown| self.show(process, call, shown))
            .collect::<io::Result<_>>()?;
        Ok(if shown.is_empty() {
            name.to_owned()
        } else {
            format!("{name}({})", shown.join(", "))
        })
    }

    /// An empty path stands for the descriptor itself.
    fn is_of_descriptor(&self, process: Tracee, call: &Call) -> bool {
        [numbers::SYS_newfstatat, libc::SYS_statx].contains(&call.number)
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
                // The handler is the first member.
                [DEFAULT] => "SIG_DFL".to_owned(),
                [IGNORE] => "SIG_IGN".to_owned(),
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
        if self.directory.starts_with(path) && path != Path::new("/") {
            return "above the case".to_owned();
        }
        let Ok(path) = path.strip_prefix(&self.directory) else {
            return without_numbers(path);
        };
        // The harness numbers its files: `err.12`.
        let text = path.to_string_lossy();
        let text = text.strip_suffix(" (deleted)").unwrap_or(&text);
        let is_number = |end: &str| end.bytes().all(|byte| byte.is_ascii_digit());
        match text.rsplit_once('.') {
            Some((name, end)) if is_number(end) => name.to_owned(),
            _ => text.to_owned(),
        }
    }
}

/// std passes a null pointer to find out whether the kernel has the call.
const NOWHERE: &str = "nowhere";

/// The text at this address of the process.
fn text(process: Tracee, address: u64) -> Option<String> {
    let text = process.text_at(address).ok()?;
    Some(String::from_utf8_lossy(&text).into_owned())
}

/// The number of `socket:[1234]` differs from run to run.
fn without_number(file: &Path) -> &Path {
    let text = file.to_str().unwrap_or_default();
    match text.split_once(":[") {
        Some((kind, number)) if number.starts_with(|start: char| start.is_ascii_digit()) => {
            Path::new(kind)
        }
        _ => file,
    }
}

/// The numbers of `/proc/1234/fd/5` differ from run to run.
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
const IGNORE: u64 = libc::SIG_IGN as u64;
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
    (libc::PR_CAPBSET_READ, "PR_CAPBSET_READ"),
    (libc::PR_GET_SECUREBITS, "PR_GET_SECUREBITS"),
    (libc::PR_SET_KEEPCAPS, "PR_SET_KEEPCAPS"),
    (libc::PR_SET_NO_NEW_PRIVS, "PR_SET_NO_NEW_PRIVS"),
    (libc::PR_SET_PDEATHSIG, "PR_SET_PDEATHSIG"),
    (libc::PR_GET_NO_NEW_PRIVS, "PR_GET_NO_NEW_PRIVS"),
    (libc::PR_SET_DUMPABLE, "PR_SET_DUMPABLE"),
    (libc::PR_GET_DUMPABLE, "PR_GET_DUMPABLE"),
];

/// A call: its number, its name if that is not the number's, the number's name, and
/// the arguments to show.
type Known = (c_long, &'static str, &'static str, &'static [Shown]);

mod numbers {
    pub(super) use libc::*;

    /// Its name on processors of 32 bits.
    #[cfg(target_pointer_width = "32")]
    #[allow(non_upper_case_globals, reason = "the name that other processors have")]
    pub(super) const SYS_newfstatat: c_long = SYS_fstatat64;
}

macro_rules! known {
    ($($shown:tt $name:literal: $($call:ident)+;)*) => {
        &[$($((numbers::$call, $name, stringify!($call), &$shown),)+)*]
    };
}

const KNOWN: &[Known] = known! {
    [] "": SYS_brk SYS_capget SYS_capset SYS_clock_gettime SYS_close_range SYS_futex SYS_getcwd
        SYS_getegid SYS_geteuid SYS_getgid SYS_getgroups SYS_getpid SYS_getppid SYS_getrandom
        SYS_getresgid SYS_getresuid SYS_gettid SYS_getuid SYS_madvise SYS_mmap SYS_mprotect
        SYS_mremap SYS_munmap SYS_pidfd_open SYS_set_robust_list SYS_set_tid_address SYS_setsid
        SYS_sigaltstack SYS_socket SYS_socketpair SYS_umask SYS_unshare SYS_waitid;
    [] "pipe": SYS_pipe2;
    [Descriptor(0)] "": SYS_bind SYS_close SYS_connect SYS_fchmod SYS_fchown SYS_fstat SYS_ftruncate
        SYS_read SYS_recvmsg SYS_sendmsg SYS_setsockopt SYS_shutdown SYS_write;
    [Descriptor(0), Named(1, CONTROLS)] "": SYS_fcntl;
    [Descriptor(0), Named(1, LOCKS)] "": SYS_flock;
    [Descriptor(0), Named(2, OFFSETS)] "": SYS_lseek;
    [Named(0, OPERATIONS)] "": SYS_prctl;
    [Number(0)] "": SYS_setgid SYS_setgroups SYS_setuid;
    [Number(0), Number(1), Number(2)] "": SYS_setresgid SYS_setresuid;
    [Number(1)] "": SYS_kill SYS_pidfd_send_signal;
    [PathAt(0)] "": SYS_chdir SYS_chroot;
    [] "fork": SYS_clone SYS_clone3;
    [] "_exit": SYS_exit_group;
    [] "": SYS_execve SYS_setpgid;
    [] "getpgrp": SYS_getpgid;
    [] "poll": SYS_ppoll SYS_restart_syscall;
    [] "getrlimit": SYS_prlimit64;
    [] "sigpending": SYS_rt_sigpending;
    [] "sigprocmask": SYS_rt_sigprocmask;
    [] "sigreturn": SYS_rt_sigreturn;
    [] "sigwait": SYS_rt_sigtimedwait;
    [] "waitpid": SYS_wait4;
    [Action(1)] "sigaction": SYS_rt_sigaction;
    [At(0)] "mkdir": SYS_mkdirat;
    [At(0)] "stat": SYS_newfstatat SYS_statx;
    [At(0)] "open": SYS_openat;
    [At(0)] "rename": SYS_renameat SYS_renameat2;
    [At(0)] "unlink": SYS_unlinkat;
    [Descriptor(0)] "getdents": SYS_getdents64;
    [Descriptor(0)] "getxattr": SYS_fgetxattr;
    [Descriptor(0)] "pread": SYS_pread64;
    [Descriptor(0)] "pwrite": SYS_pwrite64;
    [Descriptor(0)] "recv": SYS_recvfrom;
    [Descriptor(0)] "send": SYS_sendto;
    [Descriptor(0), Number(1)] "dup2": SYS_dup3;
    [PathAt(1)] "access": SYS_faccessat;
    [PathAt(1)] "readlink": SYS_readlinkat;
};

#[cfg(target_arch = "x86_64")]
const KNOWN_HERE: &[Known] = known! {
    [] "": SYS_fork SYS_getpgrp SYS_pipe SYS_poll;
    [Descriptor(0), Number(1)] "": SYS_dup2;
    [PathAt(0)] "": SYS_access SYS_open SYS_readlink SYS_stat SYS_unlink;
    [PathAt(0)] "stat": SYS_lstat;
};
#[cfg(not(target_arch = "x86_64"))]
const KNOWN_HERE: &[Known] = &[];
