//! A start, a call of which fails.
//!
//! The tester runs under a tracer of its own, [`run`], that writes down every
//! system call which the library makes in launcher, intermediate and daemon,
//! and lets one of them fail: the kernel never sees it, and the process sees
//! the result that was asked for. The library is what it always is.
//!
//! A call is named as it is in C, followed by what tells it from others:
//! `open(/etc/passwd)`, `fcntl(daemon.pid, F_GETFD)`. Names are those of POSIX,
//! whichever of its system calls a libc uses on a processor: `fork`, not
//! `clone`; `poll`, not `ppoll`; `stat` and `fstat` for all of their kind.
//! Paths in the case's folder are relative to it. The two ends of the n-th socketpair(2) of
//! a start are both called `pair n`; a pair that is made because of a fault is
//! counted, too. Numbers in paths of /proc are stars.
//!
//! The account of a case that went wrong has the calls in their order
//! (`Traced`), of all three processes: `failed: true` is the fault, and what
//! stands behind it in that process is what the library has made of it.
//!
//! Left out are calls of the tester and its closures, between which and the
//! library there are [marks](crate::sys::mark).

use std::fmt;
use std::io;
use std::process::{ExitCode, ExitStatus};

use rkyv::{Archive, Deserialize, Serialize};

use crate::crash::{Victim, end_as_launcher};
use crate::subject::EXIT_BAD_CONFIG;

/// The argument that asks for [`run`]; the arguments of [`Fault`]s come next,
/// if there are to be any.
pub const TRACE: &str = "trace";

/// A call that fails.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// In which process.
    pub process: Victim,
    /// The call, by name and arguments.
    pub call: String,
    /// How many like it in that process come before it.
    pub occurrence: usize,
    /// How it fails.
    pub how: How,
    /// Whether all those after it fail, too.
    pub always: bool,
}

/// How a call fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// With this errno, without having done anything.
    Errno(i32),
    /// It transfers one byte only.
    Short,
    /// It returns 0, without having done anything.
    FakeSuccess,
    /// It is not made: the process gets SIGKILL first.
    Kill,
}

const FAULT_ARGUMENTS: usize = 5;

impl How {
    fn parse(text: &str) -> Option<Self> {
        match text {
            "short" => Some(Self::Short),
            "fake success" => Some(Self::FakeSuccess),
            "kill" => Some(Self::Kill),
            errno => errno.parse().ok().map(Self::Errno),
        }
    }
}

impl fmt::Display for How {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Errno(errno) => errno.fmt(f),
            Self::Short => f.write_str("short"),
            Self::FakeSuccess => f.write_str("fake success"),
            Self::Kill => f.write_str("kill"),
        }
    }
}

impl Fault {
    /// As the tester is told.
    pub fn arguments(&self) -> [String; FAULT_ARGUMENTS] {
        [
            self.process.to_string(),
            self.call.clone(),
            self.occurrence.to_string(),
            self.how.to_string(),
            self.always.to_string(),
        ]
    }

    fn parse(arguments: &[String]) -> Option<Self> {
        let [process, call, occurrence, how, always] = arguments else {
            return None;
        };
        Some(Self {
            process: Victim::named(process)?,
            call: call.clone(),
            occurrence: occurrence.parse().ok()?,
            how: How::parse(how)?,
            always: always.parse().ok()?,
        })
    }
}

/// A call that the library has made.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct SyscallRecord {
    /// In which process.
    pub process: Victim,
    /// The call, by name and arguments.
    pub call: String,
    /// Whether it was made to fail.
    pub failed: bool,
}

impl fmt::Display for SyscallRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let failed = if self.failed { " (failed)" } else { "" };
        write!(f, "{} {}{failed}", self.process, self.call)
    }
}

/// Runs the tester on the same configuration, traced, with faults or without;
/// tells which calls the library has made
/// ([`Message::Traced`](crate::control::Message::Traced)), and ends as the
/// launcher has ended.
///
/// After a success it goes on until the library has returned in the daemon;
/// after a launcher's death by signal, until it has done its work in both others.
pub fn run(arguments: impl Iterator<Item = String>) -> ExitCode {
    let arguments: Vec<_> = arguments.collect();
    let faults = arguments.chunks(FAULT_ARGUMENTS).map(Fault::parse);
    let Some(faults) = faults.collect::<Option<Vec<_>>>() else {
        eprintln!("tester: {TRACE} does not understand {arguments:?}");
        return ExitCode::from(EXIT_BAD_CONFIG);
    };
    end_as_launcher(trace(faults))
}

#[cfg(not(target_os = "linux"))]
fn trace(_faults: Vec<Fault>) -> io::Result<ExitStatus> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(target_os = "linux")]
fn trace(faults: Vec<Fault>) -> io::Result<ExitStatus> {
    linux::trace(faults)
}

#[cfg(target_os = "linux")]
mod linux {
    use std::collections::HashMap;
    use std::ffi::c_long;
    use std::io;
    use std::path::{Path, PathBuf};
    use std::process::ExitStatus;

    use super::{Fault, How, SyscallRecord};
    use crate::control::{self, Message};
    use crate::crash::{Victim, tester};
    use crate::sys::{self, Call, Decision, Mark, Traced, as_int};

    pub(super) fn trace(faults: Vec<Fault>) -> io::Result<ExitStatus> {
        let mut recorder = Recorder {
            faults,
            folder: std::env::current_dir()?,
            // The children are made by the library.
            inside: [false, true, true],
            is_done: [false; 3],
            made: Vec::new(),
            pairs: HashMap::new(),
        };
        let launcher = sys::trace(&mut tester()?, &mut recorder)?;
        control::tell(&Message::Traced(recorder.made))?;
        Ok(launcher)
    }

    struct Recorder {
        faults: Vec<Fault>,
        /// The case's.
        folder: PathBuf,
        /// Whether the library is at work in each process.
        inside: [bool; Victim::ALL.len()],
        /// Whether it has done its work there.
        is_done: [bool; Victim::ALL.len()],
        made: Vec<SyscallRecord>,
        /// What the sockets of each pair look like.
        pairs: HashMap<PathBuf, usize>,
    }

    impl sys::Watch for Recorder {
        fn entering(&mut self, process: Traced, call: &Call) -> io::Result<Decision> {
            let Some(&victim) = Victim::ALL.get(process.place) else {
                return Ok(Decision::Proceed);
            };
            if let Some(mark) = call.mark() {
                self.inside[process.place] = mark == Mark::Enter;
                self.is_done[process.place] = mark == Mark::Return;
                return Ok(Decision::Proceed);
            }
            if !self.inside[process.place] {
                return Ok(Decision::Proceed);
            }
            let name = self.name(process, call)?;
            let is_alike = |made: &&SyscallRecord| made.process == victim && made.call == name;
            let occurrence = self.made.iter().filter(is_alike).count();
            let fault = self.faults.iter().find(|fault| {
                fault.process == victim
                    && fault.call == name
                    && (fault.occurrence == occurrence
                        || fault.always && fault.occurrence < occurrence)
            });
            let decision = fault.map(|fault| fault.how.decide(process, call));
            self.made.push(SyscallRecord {
                process: victim,
                call: name,
                failed: decision.is_some(),
            });
            decision.unwrap_or(Ok(Decision::Proceed))
        }

        fn returned(&mut self, process: Traced, call: &Call, result: i64) -> io::Result<()> {
            if call.number == libc::SYS_socketpair && result == 0 {
                let number = self.pairs.len() / 2 + 1;
                let [ends] = process.numbers_at(call.arguments[3])?;
                for end in [ends, ends >> 32] {
                    let socket = process.descriptor(end);
                    self.pairs.extend(socket.map(|socket| (socket, number)));
                }
            }
            Ok(())
        }

        fn is_over(&self, launcher: ExitStatus) -> bool {
            let is_done = |victim| self.is_done[victim as usize];
            match launcher.code() {
                Some(0) => is_done(Victim::Daemon),
                Some(_) => true,
                // What it leaves behind is to be seen through.
                None => is_done(Victim::Intermediate) && is_done(Victim::Daemon),
            }
        }

        fn ended(&mut self, process: Traced) {
            if let Some(is_done) = self.is_done.get_mut(process.place) {
                *is_done = true;
            }
        }
    }

    impl How {
        fn decide(self, process: Traced, call: &Call) -> io::Result<Decision> {
            // Whatever close(2) returns, the descriptor is closed; and only a signal
            // keeps a waitpid(2) from waiting that has to.
            let waits = call.number == libc::SYS_wait4 && call.arguments[2] == 0;
            match self {
                Self::Errno(errno)
                    if call.number == libc::SYS_close || waits && errno != libc::EINTR =>
                {
                    Ok(Decision::MakeAndReturn(-i64::from(errno)))
                }
                Self::FakeSuccess if waits => Ok(Decision::MakeAndReturn(0)),
                Self::Errno(errno) => Ok(Decision::Return(-i64::from(errno))),
                Self::FakeSuccess => Ok(Decision::Return(0)),
                Self::Kill => Ok(Decision::Signal(libc::SIGKILL)),
                Self::Short => match call.number {
                    libc::SYS_sendmsg | libc::SYS_recvmsg => {
                        // msg_iov is the third member of a msghdr, iov_len the
                        // second of an iovec, each on eight bytes.
                        let [_, _, part] = process.numbers_at(call.arguments[1])?;
                        process.set_number_at(part + 8, 1)?;
                        Ok(Decision::Proceed)
                    }
                    _ => Ok(Decision::Replace(2, 1)),
                },
            }
        }
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

    impl Recorder {
        fn name(&self, process: Traced, call: &Call) -> io::Result<String> {
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
        fn is_of_descriptor(&self, process: Traced, call: &Call) -> bool {
            [libc::SYS_newfstatat, libc::SYS_statx].contains(&call.number)
                && process
                    .text_at(call.arguments[1])
                    .is_ok_and(|path| path.is_empty())
        }

        fn show(&self, process: Traced, call: &Call, shown: &Shown) -> io::Result<String> {
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
                        Some(directory) if path != "." => self.in_folder(&directory.join(path)),
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

        fn path(&self, process: Traced, address: u64) -> String {
            match text(process, address) {
                Some(path) => self.in_folder(Path::new(&path)),
                None => NOWHERE.to_owned(),
            }
        }

        fn descriptor(&self, process: Traced, number: u64) -> String {
            match process.descriptor(number) {
                None => "closed".to_owned(),
                Some(file) => match self.pairs.get(&file) {
                    Some(pair) => format!("pair {pair}"),
                    None => self.in_folder(without_number(&file)),
                },
            }
        }

        fn in_folder(&self, path: &Path) -> String {
            let Ok(path) = path.strip_prefix(&self.folder) else {
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
    fn text(process: Traced, address: u64) -> Option<String> {
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
}
