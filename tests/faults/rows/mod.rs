//! A row for each call that the library makes, by process and step.
//!
//! Pair 1 connects the launcher and the intermediate, pair 2 the launcher and the
//! daemon. Through pair 3 the intermediate learns of the daemon's end. Through
//! pair 4 the launcher learns that systemd has read its message; the start of a program has
//! another pair 4.

use std::sync::LazyLock;

use libc::{
    EACCES, EAGAIN, EBADF, EBUSY, ECHILD, ECONNRESET, EDQUOT, EEXIST, EFBIG, EINTR, EINVAL, EIO,
    ELOOP, EMFILE, EMLINK, ENAMETOOLONG, ENFILE, ENOBUFS, ENOENT, ENOLCK, ENOMEM, ENOSPC, ENOSYS,
    ENOTDIR, ENXIO, EPERM, EPIPE, EROFS, ESRCH, ETOOMANYREFS,
};
use tester::trace::How::{FakeSuccess, Short};
use tester::trace::Role;

use crate::scenes::Scene;
use crate::table::Effect::{Cleanup, Error, ErrorOr, Except, Harmless, UnlessForbidden};
use crate::table::{Always, Row};

mod daemon;
mod intermediate;
mod launcher;
mod program;

pub(crate) fn rows() -> &'static [Row] {
    static ROWS: LazyLock<Vec<Row>> = LazyLock::new(|| {
        let mut rows = launcher::rows();
        rows.extend(intermediate::rows());
        rows.extend(daemon::rows());
        rows.extend(program::rows());
        rows.extend(of_several_processes());
        rows
    });
    &ROWS
}

const NO_ERRORS: &str = "the man page has no errors that these arguments can have";
const LAST_RESORT: &str = "no other way to end the daemon is left";
const NOTHING_TO_DO: &str = "the library can do nothing about it";
const CLOSED: &str = "the kernel closes the descriptor, whatever close(2) returns";
const WAITS_AGAIN: &str = "the process that waits looks again in any case";
const SIGKILL_FOLLOWS: &str = "SIGKILL follows a second later";
const REST_FOLLOWS: &str = "the next call transfers the rest";
const OF_FORK: &str = "libc makes the call when it forks";
const OF_CLOSE: &str = "std checks a descriptor before it closes it";
const OF_EXIT: &str = "std makes the call at exit";
const OF_DUPLICATE: &str = "libc marks a duplicate once more";
const OPTIONAL: &str = "the start needs no such descriptor";
const STILL_LOCKED: &str = "the file is locked all the same";
const PROBED: &str = "the library waits for the lock of a prober";
const COUNTED_IN_PROC: &str = "/proc counts the threads, too";
const COUNTED_AGAIN: &str = "the library counts again, since a thread may just have ended";
const SIZE_IS_A_HINT: &str = "std only takes the size as a hint";

const OPENING: [i32; 7] = [EACCES, EMFILE, ENFILE, ENOMEM, EIO, ENAMETOOLONG, ENXIO];
const CREATING: [i32; 9] = [
    EACCES,
    EMFILE,
    ENFILE,
    ENOMEM,
    EIO,
    ENAMETOOLONG,
    ENOSPC,
    EDQUOT,
    EROFS,
];
/// The same without EACCES.
const REOPENING: [i32; 6] = [EMFILE, ENFILE, ENOMEM, EIO, ENAMETOOLONG, ENXIO];
const SENDING: [i32; 2] = [ENOBUFS, ENOMEM];
const GONE: [i32; 2] = [EPIPE, ECONNRESET];
const RECEIVING: [i32; 2] = [ENOMEM, ENOBUFS];
const SOCKETS: [i32; 4] = [EMFILE, ENFILE, ENOMEM, ENOBUFS];
const DIRECTORY: [i32; 7] = [ENOENT, EACCES, EIO, ELOOP, ENOMEM, ENOTDIR, ENAMETOOLONG];
const LISTING: [i32; 4] = [ENOENT, EACCES, EMFILE, ENFILE];
const EXAMINING: [i32; 2] = [EIO, ENOMEM];
const FORKING: [i32; 2] = [EAGAIN, ENOMEM];

/// The process closes these files. A debug build of std checks each descriptor first.
fn closed(scene: Scene, process: Role, files: &[&str]) -> impl Iterator<Item = Row> {
    files.iter().flat_map(move |file| {
        let close = Row::new(scene, process, &format!("close({file})"));
        let check = Row::new(scene, process, &format!("fcntl({file}, F_GETFD)"));
        [
            close.on([EIO, EINTR], Harmless(CLOSED)),
            check.never_fails(NOTHING_TO_DO).platform(OF_CLOSE),
        ]
    })
}

/// Where standard streams are closed, the process duplicates these files to
/// higher numbers.
fn duplicated(process: Role, files: &[&str]) -> impl Iterator<Item = Row> {
    files.iter().map(move |file| {
        Row::new(Scene::Untidy, process, &format!("fcntl({file}, F_SETFD)"))
            .never_fails(NO_ERRORS)
            .platform(OF_DUPLICATE)
    })
}

fn of_several_processes() -> Vec<Row> {
    let mut rows = rows! {
        [Ordinary]
        Launcher "pread(pid file)" .by_timing() { [EIO] => Cleanup };
        Intermediate|Daemon "pread(pid file)" .in_other_scenes() { [EIO] => Cleanup };
        Intermediate|Daemon "flock(pid file, LOCK_UN)" .in_other_scenes() .retried() {
            [ENOLCK] => Cleanup,
        };
        Intermediate|Daemon "set_robust_list"|"set_tid_address"|"gettid"
            .never_fails(OF_FORK).platform(OF_FORK);
        Launcher "gettid" .never_fails(OF_FORK).platform(OF_FORK);
        // The intermediate does not allocate.
        Launcher|Daemon "brk"|"mmap"|"munmap"|"mremap"|"mprotect"|"madvise"
            .never_fails("without memory Rust aborts").platform("the allocator decides");
        Launcher|Daemon "sigaltstack" .never_fails(OF_EXIT).in_other_scenes();

        // Where a sandbox forbids unshare(2), /proc counts the threads.
        [Sandboxed]
        Launcher|Daemon "fstat(/proc/*/status)" { EXAMINING => Harmless(SIZE_IS_A_HINT) };
        Launcher|Daemon "fcntl(/proc/*/status, F_SETFD)"
            .never_fails(NO_ERRORS).platform("libc marks a file that it opens");
    };
    for process in [Role::Launcher, Role::Daemon] {
        rows.extend(closed(Scene::Sandboxed, process, &["/proc/*/status"]));
    }
    rows
}
