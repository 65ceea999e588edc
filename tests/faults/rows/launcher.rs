//! The launcher.

use super::*;

/// What the service manager hears.
const UNHEARD: &[&str] = &["the service manager is told", "launcher: standard error"];
/// The error names no process that has locked the file.
const NAMELESS: &[&str] = &[
    crate::judge::RUNNING_PID,
    "error: text",
    "launcher: standard error",
];

pub(crate) fn rows() -> Vec<Row> {
    let mut rows = rows! {
        // Before the first fork.
        [Ordinary]
        Launcher "getcwd" {
            [ENOENT, EACCES, ENOMEM] => Harmless("only the removal of the pid file needs it"),
        };
        Launcher "unshare" [..1] {
            [EPERM, ENOSYS] => Harmless(COUNTED_IN_PROC),
            [EINVAL] => Harmless(COUNTED_AGAIN),
            Always(EINVAL) => UnlessForbidden("MultiThreaded"),
        };
        Launcher "unshare" [1..] {
            [EPERM, EINVAL] => Harmless("the library flushes no stream that another thread may have locked"),
        };
        Launcher "getpid" .never_fails(NO_ERRORS);
        Launcher "socketpair" [..2] { SOCKETS => Error("Channel") };
        Launcher "fstat(pair 2)" { EXAMINING => Error("Channel") };
        Launcher "fcntl(closed, F_GETFD)" .never_fails("the call is to fail");
        Launcher "fcntl(/proc, F_GETFD)" .never_fails(NO_ERRORS);
        Launcher "sigprocmask" .never_fails(NO_ERRORS);
        Launcher "fork" { FORKING => Error("Fork") };

        // The launcher waits for the intermediate and the daemon.
        Launcher "recvmsg(pair 1)" .by_timing_from(3) {
            RECEIVING => Error("Channel"), [ECONNRESET] => Exactly("IntermediateExited"),
            [EINTR] => Retried, Short => Harmless(REST_FOLLOWS),
        };
        Launcher "fstat(work/run/daemon.pid)" [..1] { EXAMINING => Harmless(OPTIONAL) };
        Launcher "fstat(work/run/daemon.pid)" [1..] .by_timing() { EXAMINING => Cleanup };
        Launcher "recv(pair 2)" .by_timing_from(1) {
            RECEIVING => Error("Channel"), [ECONNRESET] => Exactly("DaemonExited"),
            [EINTR] => Retried, Short => Harmless(REST_FOLLOWS),
        };
        Launcher "poll" .by_timing() { [ENOMEM, EINTR] => Harmless(WAITS_AGAIN) };
        Launcher "pidfd_open" {
            [EMFILE, ENOSYS, ENOMEM, EPERM] => Harmless("the launcher waits for the intermediate without it"),
        };
        Launcher "sendmsg(pair 1)"|"sendmsg(pair 2)" {
            SENDING => Error("Channel"), GONE => Exactly("DaemonExited"), [EINTR] => Retried,
        };
        Launcher "waitpid" {
            [EINVAL, EPERM] => Error("Wait"), [EINTR] => Retried,
            [ECHILD] => Harmless("another part of the program has reaped the intermediate"),
        };

        // The launcher notifies systemd: a failure does not fail the start.
        Launcher "socket" { SOCKETS => Except(UNHEARD) };
        Launcher "connect(socket)" {
            [ENOENT, EACCES, EAGAIN] => Except(UNHEARD), [EINTR] => Except(UNHEARD),
        };
        Launcher "setsockopt(socket)" { [ENOMEM] => Except(UNHEARD) };
        Launcher "socketpair" [2..] { SOCKETS => Except(UNHEARD) };
        Launcher "sendmsg(socket)" {
            [ENOBUFS, ENOMEM, EAGAIN, ETOOMANYREFS] => Except(UNHEARD),
            GONE => Except(UNHEARD), [EINTR] => Retried, Short => Except(UNHEARD),
        };
        Launcher "_exit" .never_fails(NO_ERRORS);

        // A start has failed. The launcher clears the pid file and ends the daemon if
        // the intermediate was killed, or has exited before the launcher read the
        // daemon's message.
        Launcher "flock(work/run/daemon.pid, LOCK_EX)" .by_timing() {
            [ENOLCK] => Harmless(STILL_LOCKED), [EINTR] => Retried,
        };
        Launcher "flock(work/run/daemon.pid, LOCK_UN)" .by_timing() {
            [ENOLCK] => Harmless("the launcher's end unlocks it"), [EINTR] => Retried,
        };
        Launcher "pidfd_send_signal(15)" .by_timing() { [ESRCH] => Harmless(SIGKILL_FOLLOWS) };
        Launcher "pidfd_send_signal(9)" .never_fails(LAST_RESORT).by_timing();
        Launcher "shutdown(pair 1)"|"shutdown(pair 2)"|"waitid"|"close(log)"|"fcntl(log, F_GETFD)"
            .never_fails(NOTHING_TO_DO).in_other_scenes();

        [Orphaned]
        Launcher "flock(work/run/daemon.pid, LOCK_EX)" {
            [ENOLCK] => Harmless(STILL_LOCKED), [EINTR] => Retried,
        };
        Launcher "flock(work/run/daemon.pid, LOCK_UN)" {
            [ENOLCK] => Harmless("the launcher's end unlocks it"), [EINTR] => Retried,
        };
        Launcher "pidfd_send_signal(15)" { [ESRCH] => Harmless(SIGKILL_FOLLOWS) };

        [Nameless]
        Launcher "waitpid" {
            [EINVAL, EPERM] => Error("Wait"), [ECHILD] => Cleanup, [EINTR] => Retried,
        };

        [Failing]
        Launcher "sendmsg(pair 1)" { SENDING => Cleanup, GONE => Cleanup, [EINTR] => Retried };

        [Dying]
        Launcher "sendmsg(pair 1)" .by_timing() { SENDING => Cleanup, [EINTR] => Retried };

        [Failing, Dying]
        Launcher "waitpid" { [EINVAL, EPERM, ECHILD] => Cleanup, [EINTR] => Retried };
        // The daemon may have ended by then.
        Launcher "recvmsg(pair 1)" .by_timing_from(1) {
            RECEIVING => ErrorOr("Channel"), [EINTR] => Retried, Short => Harmless(REST_FOLLOWS),
        };

        // The daemon may have reported the panic before.
        [Panicking]
        Launcher "recv(pair 2)" [2..] .by_timing_from(2) {
            RECEIVING => ErrorOr("Channel"), [ECONNRESET] => ExactlyOr("DaemonExited"),
            [EINTR] => Retried, Short => Harmless(REST_FOLLOWS),
        };

        // If the file ended before the intermediate, the launcher could not clear the
        // pid file of a daemon in a jail. No kernel reports an end that is none.
        [OfRoot]
        Launcher "recvmsg(pair 1)" [2..] .by_timing_from(3) {
            RECEIVING => Error("Channel"), [EINTR] => Retried, Short => Harmless(REST_FOLLOWS),
        };

        // Where both sides go on, the launcher looks for event queues.
        [Executed]
        Launcher "open(/proc/self/fd)" { LISTING => Error("EventQueuesUnknown"), [EINTR] => Retried };
        Launcher "getdents(/proc/*/fd)" { [ENOENT, EIO] => Error("EventQueuesUnknown") };
        Launcher "readlink(/proc/self/fd/*)" {
            [EACCES, EIO] => Error("EventQueuesUnknown"), [ENOENT] => Harmless("the descriptor is closed by then"),
        };

        [Abandoned, Alone]
        Launcher "open(/proc/self/fd)"|"getdents(/proc/*/fd)"|"readlink(/proc/self/fd/*)"|"close(/proc/*/fd)"
            .never_fails("another scene tries the call, in which the launcher lives");
        Launcher "fcntl(/proc/*/fd, F_GETFD)" .never_fails(NOTHING_TO_DO).platform(OF_CLOSE);

        // The launcher is the daemon.
        [Foreground]
        Launcher "unshare" {
            [EPERM, ENOSYS] => Harmless(COUNTED_IN_PROC),
            [EINVAL] => Harmless(COUNTED_AGAIN),
            Always(EINVAL) => UnlessForbidden("SetNoNewPrivileges(1)"),
        };
        Launcher "fstat(work/run/daemon.pid)" [..1] { EXAMINING => Error("OpenPidfile") };
        Launcher "fstat(work/run/daemon.pid)" [1..] { EXAMINING => Error("OpenPidfile") };
        Launcher "fstat(socket)" { EXAMINING => Harmless(daemon::REGISTERED) };
        Launcher "flock(work/run/daemon.pid, LOCK_EX)" {
            [ENOLCK, EIO] => Error("LockPidfile"), [EAGAIN] => Harmless(PROBED), [EINTR] => Retried,
        };

        // The launcher finds out which process has locked the pid file.
        [Locked]
        Launcher "pread(work/run/daemon.pid)" { [EIO] => Except(NAMELESS), [EINTR] => Retried, Short => Except(NAMELESS) };
        Launcher "fstat(work/run/daemon.pid)" { EXAMINING => Except(NAMELESS) };
        Launcher "getcwd" [1..] { [ENOENT, EACCES, ENOMEM] => Except(NAMELESS) };
        Launcher "stat(work/run/daemon.pid)" { EXAMINING => Harmless("the launcher opens it in any case") };
        Launcher "getpid" .never_fails(NO_ERRORS);
        Launcher "open(work/run/daemon.pid)" { OPENING => Except(NAMELESS), [EINTR] => Retried };
        Launcher "flock(work/run/daemon.pid, LOCK_SH)" { [ENOLCK] => Except(NAMELESS), [EINTR] => Retried };
        Launcher "fcntl(work/run/daemon.pid, F_GETLK)" { [EINVAL] => Except(NAMELESS), [EINTR] => Retried };
        Launcher "open(/proc/*/fd)" { [EACCES, EMFILE, ENOENT] => Except(NAMELESS), [EINTR] => Retried };
        Launcher "fstat(/proc/*/fd)" .platform("libc examines a directory that it lists") { EXAMINING => Except(NAMELESS) };
        Launcher "stat(/proc/*/fd/*)" { [EIO, ENOENT, EPERM, ENOSYS] => Except(NAMELESS), [EINTR] => Retried };
        Launcher "getdents(/proc/*/fd)" { [EIO, ENOENT] => Except(NAMELESS) };
        // With any other errno std panics. The file system of /proc has no other.
        Launcher "close(/proc/*/fd)" { [EINTR] => Harmless(CLOSED) };
        Launcher "fcntl(/proc/*/fd, F_SETFD)" .never_fails(NO_ERRORS).platform("libc marks a directory that it lists");

        [Sandboxed]
        Launcher "open(/proc/self/status)" [..1] { LISTING => Exactly("ThreadCountUnknown"), [EINTR] => Retried };
        Launcher "open(/proc/self/status)" [1..] { [ENOENT, EMFILE] => Harmless("the library flushes the streams if need be") };
        Launcher "read(/proc/*/status)" [..1] {
            [EIO, ENOMEM] => Exactly("ThreadCountUnknown"), [EINTR] => Retried, Short => Harmless(REST_FOLLOWS),
        };
        Launcher "read(/proc/*/status)" [1..] { [EINTR] => Retried, Short => Harmless(REST_FOLLOWS) };

        // Standard input and output are closed, so that new descriptors move up.
        [Untidy]
        Launcher "fcntl(pair 1, F_DUPFD_CLOEXEC)"|"fcntl(pair 2, F_DUPFD_CLOEXEC)" { [EMFILE] => Error("Channel") };
        Launcher "fcntl(pair 4, F_DUPFD_CLOEXEC)" .by_timing() { [EMFILE] => Except(UNHEARD) };
        Launcher "fcntl(anon_inode:[pidfd], F_DUPFD_CLOEXEC)" { [EMFILE] => Harmless(OPTIONAL) };

        // The guard cannot remove a pid file whose path the launcher does not know.
        [Guarded]
        Launcher "getcwd" { [ENOENT, EACCES, ENOMEM] => Except(daemon::PID_FILE_STAYS) };
    };
    let process = Role::Launcher;
    let files = ["pair 1", "pair 2", "pair 4", "anon_inode:[pidfd]"];
    rows.extend(duplicated(process, &files));
    rows.extend(closed(Scene::Ordinary, process, &files));
    let files = ["socket", "work/run/daemon.pid"];
    rows.extend(closed(Scene::Ordinary, process, &files));
    rows.extend(closed(Scene::Executed, process, &["/proc/*/fd"]));
    rows
}
