//! The intermediate.

use super::*;

const MADE_READABLE: &str = "the owner gets the permission to read it";

pub(crate) fn rows() -> Vec<Row> {
    let mut rows = rows! {
        // The session.
        [Ordinary]
        Intermediate "prctl(PR_SET_PDEATHSIG)"|"umask"|"geteuid"|"getpid"|"_exit"
            .never_fails(NO_ERRORS);
        // A process whose parent is in another pid namespace gets 0.
        Intermediate "getppid" { FakeSuccess => Error("PidNamespace") };
        Intermediate "setsid" { [EPERM] => Error("DetachSession") };
        Intermediate "socketpair" { SOCKETS => Error("Channel") };

        // Signals and descriptors.
        Intermediate "sigaction(as it is)" .alike() { [EPERM] => Error("ResetSignals") };
        Intermediate "sigaction(SIG_DFL)" [1..] .alike() { [EPERM] => Error("ResetSignals") };
        // The first is SIGHUP, which the launcher ignores.
        Intermediate "sigaction(SIG_DFL)" [..1] { [EPERM] => Error("ResetSignals") };
        Intermediate "sigaction(a handler)" { [EPERM] => Error("Channel") };
        Intermediate "close_range" {
            [ENOMEM, EMFILE] => Error("CloseInheritedFds"),
            [EPERM, ENOSYS] => Harmless("/proc lists the open descriptors, too"),
        };

        // The working directory.
        Intermediate "chdir(work)" .retried() { DIRECTORY => Error("ChangeDirectory") };

        // The pid file.
        Intermediate "open(.)" .by_root() .retried() { OPENING => Error("OpenPidfile") };
        Intermediate "fstat(work)" .by_root() { EXAMINING => Error("OpenPidfile") };
        Intermediate "open(work/run)" .by_root() .retried() {
            OPENING => Error("OpenPidfile"), [ENOENT, ENOTDIR, ELOOP] => Error("OpenPidfile"),
        };
        Intermediate "fstat(work/run)" .by_root() { EXAMINING => Error("OpenPidfile") };
        Intermediate "open(pid file)" [..1] .retried() {
            OPENING => Error("OpenPidfile"), [ELOOP, EROFS] => Error("OpenPidfile"),
            [ENOENT] => Harmless("the intermediate makes it next"),
        };
        Intermediate "open(pid file)" [1..2] .retried() {
            OPENING => Error("OpenPidfile"), [ENOSPC, EDQUOT, EROFS] => Error("OpenPidfile"),
            [EEXIST] => Harmless("another start has just made it"),
        };
        // The daemon gets a descriptor that only reads.
        Intermediate "open(pid file)" [2..] .retried() {
            REOPENING => Error("OpenPidfile"), [EACCES] => Harmless(MADE_READABLE),
            [ENOENT, ELOOP] => Harmless("the intermediate looks again at a file that was replaced"),
        };
        Intermediate "fchmod(pid file)"
            .never_fails("the call follows another fault").in_other_scenes();
        Intermediate "fstat(pid file)" [..3] { EXAMINING => Error("OpenPidfile") };
        Intermediate "fstat(pid file)" [3..] .in_other_scenes() { EXAMINING => Cleanup };
        Intermediate "flock(pid file, LOCK_EX)" [..1] .retried() {
            [ENOLCK, EIO] => Error("LockPidfile"), [EAGAIN] => Harmless(PROBED),
        };
        Intermediate "stat(pid file)" {
            EXAMINING => Error("OpenPidfile"),
            [ENOENT] => Harmless("the intermediate takes the new file"),
        };
        Intermediate "ftruncate(pid file)" .retried() {
            [EIO, EPERM, EROFS] => Error("TruncatePidfile"),
        };

        // A file system such as vfat may report success and change nothing.
        [OfRoot]
        Intermediate "fchmod(pid file)" .retried() {
            [EPERM, EROFS, EIO] => Error("ChmodPidfile"), FakeSuccess => Error("ChmodPidfile(1)"),
        };
        Intermediate "fstat(pid file)" [3..4] { EXAMINING => Error("ChmodPidfile") };

        // The daemon is made, and introduced to the launcher.
        [Ordinary]
        Intermediate "fork" { FORKING => Error("Fork") };
        Intermediate "pidfd_open" { [EMFILE, ENOSYS, ENOMEM, EPERM] => Harmless(OPTIONAL) };
        Intermediate "sendmsg(pair 1)" [..1] .retried() {
            [ETOOMANYREFS, ENOBUFS, ENOMEM] => Harmless(OPTIONAL),
            GONE => Harmless("the intermediate notices later that the launcher is gone"),
        };

        // The intermediate supervises the daemon, and writes the pid.
        Intermediate "recv(pair 1)" .by_timing_from(1) .retried() {
            RECEIVING => Error("Channel"), [ECONNRESET] => Error("DaemonExited"),
        };
        Intermediate "poll" .by_timing() { [ENOMEM, EINTR] => Harmless(WAITS_AGAIN) };
        Intermediate "recv(pair 3)" .by_timing() { RECEIVING => Harmless(WAITS_AGAIN) };
        Intermediate "send(pair 3)" .by_timing() { [EAGAIN] => Harmless(WAITS_AGAIN) };
        Intermediate "sigprocmask" .never_fails(NO_ERRORS).by_timing();
        Intermediate "sigreturn" .never_fails(NO_ERRORS).in_other_scenes();
        Intermediate "flock(pid file, LOCK_EX)" [1..] .retried() {
            [ENOLCK] => Harmless(STILL_LOCKED), [EAGAIN] => Error("LauncherGone"),
        };
        Intermediate "pwrite(pid file)" .retried() {
            [ENOSPC, EDQUOT, EIO, EFBIG] => Error("WritePid"),
            Short => Error("WritePidUnspecifiedError"),
        };
        Intermediate "sendmsg(pair 1)" [1..] .retried() {
            SENDING => Error("IntermediateExited"), GONE => Error("IntermediateExited"),
            Short => Harmless("the intermediate sends the rest next"),
        };

        [Dying, Late]
        Intermediate "sendmsg(pair 1)" [1..] .retried() {
            SENDING => Error("IntermediateExited"), GONE => Error("IntermediateExited"),
        };

        [Failing]
        Intermediate "sendmsg(pair 1)" [1..] .retried() { SENDING => Cleanup, GONE => Cleanup };

        [Abandoned]
        Intermediate "sendmsg(pair 1)" [1..] .retried() {
            SENDING => Harmless("no launcher is left"), GONE => Harmless("no launcher is left"),
        };

        [Ordinary, Failing, Dying, Late]
        Intermediate "waitpid" .by_timing_from(1) { [EPERM, EINTR] => Harmless(WAITS_AGAIN) };

        // The daemon may have ended by then.
        [Failing, Dying]
        Intermediate "recv(pair 1)" .by_timing() .retried() { RECEIVING => ErrorOr("Channel") };

        // Another start owns the file by then, and the intermediate leaves it alone.
        [Failing, Panicking, Dying, Refusing, Forgetful]
        Intermediate "flock(pid file, LOCK_EX)" [1..] .retried() { [ENOLCK, EAGAIN] => Cleanup };

        // The time has run out.
        [Late]
        Intermediate "kill(15)" {
            [EPERM] => Harmless(SIGKILL_FOLLOWS), [ESRCH] => Harmless("the daemon is about to end"),
        };
        Intermediate "kill(9)" .never_fails(LAST_RESORT).by_timing();

        // Another daemon has locked the pid file.
        [Locked]
        Intermediate "flock(pid file, LOCK_EX)"|"flock(pid file, LOCK_SH)" .retried() {
            [ENOLCK] => Error("LockPidfile"),
        };
        Intermediate "open(pid file)" [..1] .retried() {
            REOPENING => Error("OpenPidfile"),
            [EACCES] => Harmless("the intermediate replaces no file that is locked"),
        };
        Intermediate "open(pid file)" [1..] .retried() {
            REOPENING => Error("OpenPidfile"), [EACCES] => Harmless(MADE_READABLE),
        };
        Intermediate "fcntl(pid file, F_GETFD)" .never_fails(NOTHING_TO_DO).platform(OF_CLOSE);

        // Where a sandbox forbids close_range(2), the intermediate lists the descriptors.
        [Sandboxed]
        Intermediate "open(/proc/self/fd)" .retried() {
            [ENOENT, EACCES, ENFILE, ENOMEM] => Error("CloseInheritedFds"),
            [EMFILE] => Harmless("the intermediate closes an inherited descriptor first"),
        };
        Intermediate "getdents(/proc/*/fd)" [..1] { [ENOENT, EIO] => Error("CloseInheritedFds") };
        Intermediate "getdents(/proc/*/fd)" [1..] { [ENOENT, EIO] => Error("CloseInheritedFds") };
        Intermediate "fcntl(/proc/*/fd, F_GETFD)" .never_fails(NOTHING_TO_DO).platform(OF_CLOSE);
        // The machine decides which other descriptors are open.
        Intermediate "close(*" { [EIO, EINTR] => Harmless(CLOSED) };

        // The intermediate replaces a pid file that others can write to.
        [Untidy]
        // A file system such as vfat may report success and change nothing.
        Intermediate "fchmod(pid file)" .retried() {
            [EPERM, EROFS, EIO] => Error("OpenPidfile"), FakeSuccess => Error("OpenPidfile(1)"),
        };
        Intermediate "flock(pid file, LOCK_EX)" [..1] .retried() {
            [ENOLCK, EIO] => Error("LockPidfile"), [EAGAIN] => Harmless(PROBED),
        };
        // The intermediate then takes the file as it is.
        Intermediate "unlink(pid file)" {
            [EACCES, EPERM, EROFS, EBUSY] => Except(&["pid file: mode", "pid file at the end: mode"]),
        };
        Intermediate "open(pid file)" [..1] .retried() {
            REOPENING => Error("OpenPidfile"),
            [EACCES] => Harmless("the intermediate replaces a file that it may not write to"),
        };
        Intermediate "open(pid file)" [1..] .retried() { REOPENING => Error("OpenPidfile") };
        Intermediate "fstat(pid file)" [..7] { EXAMINING => Error("OpenPidfile") };
        Intermediate "flock(pid file, LOCK_EX)" [1..2] { [ENOLCK, EIO] => Error("LockPidfile") };

        // Standard input and output are closed, so that new descriptors move up.
        Intermediate "fcntl(pair 3, F_DUPFD_CLOEXEC)" { [EMFILE] => Error("Channel") };
        Intermediate "fcntl(work, F_DUPFD_CLOEXEC)"|"fcntl(work/run, F_DUPFD_CLOEXEC)" .by_root() {
            [EMFILE] => Error("OpenPidfile"),
        };
        Intermediate "fcntl(pid file, F_DUPFD_CLOEXEC)" { [EMFILE] => Error("OpenPidfile") };
        Intermediate "fcntl(anon_inode:[pidfd], F_DUPFD_CLOEXEC)" {
            [EMFILE] => Harmless(OPTIONAL),
        };
    };
    let process = Role::Intermediate;
    let files = ["pair 3", "work/run", "pid file", "anon_inode:[pidfd]"];
    rows.extend(duplicated(process, &files));
    let files = ["pair 1", "pair 2", "anon_inode:[pidfd]"];
    rows.extend(closed(Scene::Ordinary, process, &files));
    let files = ["work", "work/run"];
    rows.extend(closed(Scene::Ordinary, process, &files).map(Row::by_root));
    let files = ["pair 3", "pid file"];
    rows.extend(closed(Scene::Untidy, process, &files));
    rows
}
