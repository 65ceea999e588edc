//! The launcher.

use super::*;

/// What the service manager hears.
const UNHEARD: &[&str] = &["the service manager is told", "launcher: standard error"];
/// What the closure of the launcher has printed.
const UNWRITTEN: &[&str] = &["launcher: standard output"];
/// The error names no process that has locked the file.
const NAMELESS: &[&str] = &[
    crate::judge::RUNNING_PID,
    "error: text",
    "launcher: standard error",
];

/// The launcher cannot tell whether another daemon has the former file.
const TAKEOVER_LOST: &str = "TakeOverPidfile(11)";
const NO_HOLDER: &str = "the former daemon has no name, and ends or does not";

pub(crate) fn rows() -> Vec<Row> {
    let mut rows = rows! {
        // Before the first fork.
        [Ordinary]
        Launcher "getcwd" {
            [ENOENT, EACCES, ENOMEM] => Harmless("only the removal of the pid file needs it"),
        };
        Launcher "unshare" [..1] {
            [EPERM, ENOSYS] => Harmless(COUNTED_IN_PROC), [EINVAL] => Harmless(COUNTED_AGAIN),
            Always(EINVAL) => UnlessForbidden("MultiThreaded"),
        };
        Launcher "unshare" [1..] {
            [EPERM, EINVAL] => Harmless("the library flushes no stream that another thread may have locked"),
        };
        Launcher "geteuid"|"getresgid" .never_fails(NO_ERRORS);
        Launcher "open(/)"|"open(above the case)" .by_root() .retried() {
            OPENING => Error("CreateDirectory"),
        };
        Launcher "fstat(/)"|"fstat(above the case)" .by_root() {
            EXAMINING => Error("CreateDirectory"),
        };
        Launcher "getxattr(above the case)" .by_root() .platform("others may write to some of them") {
            [EIO, ENOMEM] => Harmless("the launcher follows no link there"),
        };
        Launcher "open(work)" .by_root() .retried() { OPENING => Error("CreateDirectory") };
        Launcher "fstat(work)" .by_root() { EXAMINING => Error("CreateDirectory") };
        Launcher "open(work/directory)" [..1] .retried() { REOPENING => Error("CreateDirectory") };
        Launcher "mkdir(work/directory)" {
            [EACCES, EPERM, ENOSPC, EROFS, EDQUOT, EIO, EMLINK] => Error("CreateDirectory"),
        };
        Launcher "open(work/directory)" [1..] .retried() { REOPENING => Error("CreateDirectory") };
        Launcher "fstat(work/directory)" { EXAMINING => Error("CreateDirectory") };
        Launcher "open(.)" .retried() { REOPENING => Error("CreateDirectory") };
        Launcher "fcntl(work/directory, F_GETFL)" .platform("libc checks a directory that it lists") {
            [EBADF] => Error("CreateDirectory"),
        };
        Launcher "fcntl(work/directory, F_SETFD)"
            .never_fails(NO_ERRORS).platform("libc marks a directory that it lists");
        Launcher "getdents(work/directory)" {
            [EIO] => Error("CreateDirectory"),
            [ENOENT] => Harmless("libc takes it for the end of the list of a removed directory"),
        };
        Launcher "fchmod(work/directory)" .retried() {
            [EPERM, EIO, EROFS] => Error("CreateDirectory"),
            FakeSuccess => Error("CreateDirectory(1)"),
        };
        Launcher "getxattr(work/directory)" {
            [EIO, ENOMEM] => Error("UseDirectory(1)"),
        };
        Launcher "getpid" .never_fails(NO_ERRORS);
        Launcher "socketpair" [..2] { SOCKETS => Error("Channel") };
        Launcher "fstat(pair 2)" { EXAMINING => Error("Channel") };
        Launcher "fcntl(closed, F_GETFD)" .never_fails("the call is to fail");
        Launcher "fcntl(/proc, F_GETFD)" .never_fails(NO_ERRORS);
        Launcher "sigprocmask" .never_fails(NO_ERRORS);
        Launcher "fork" { FORKING => Error("Fork") };

        [Logging]
        Launcher "geteuid" .never_fails(NO_ERRORS);

        // The launcher waits for the intermediate and the daemon.
        [Ordinary]
        Launcher "recvmsg(pair 1)" .by_timing_from(3) .retried() {
            RECEIVING => Error("Channel"), [ECONNRESET] => Error("IntermediateExited"),
            Short => Harmless(REST_FOLLOWS),
        };
        Launcher "fstat(pid file)" [..1] { EXAMINING => Harmless(OPTIONAL) };
        Launcher "fstat(pid file)" [1..] .by_timing() { EXAMINING => Cleanup };
        Launcher "recv(pair 2)" .by_timing_from(1) .retried() {
            RECEIVING => Error("Channel"), [ECONNRESET] => Error("DaemonExited"),
            Short => Harmless(REST_FOLLOWS),
        };
        Launcher "poll" .by_timing() { [ENOMEM, EINTR] => Harmless(WAITS_AGAIN) };
        Launcher "pidfd_open" {
            [EMFILE, ENOSYS, ENOMEM, EPERM] => Harmless("the launcher waits for the intermediate without it"),
        };
        Launcher "sendmsg(pair 1)"|"sendmsg(pair 2)" .retried() {
            SENDING => Error("Channel"), GONE => Error("DaemonExited"),
        };
        Launcher "waitpid" .retried() {
            [EINVAL, EPERM] => Error("Wait"),
            [ECHILD] => Harmless("another part of the program has reaped the intermediate"),
        };

        // The launcher notifies systemd: a failure does not fail the start.
        Launcher "socket" { SOCKETS => Except(UNHEARD) };
        Launcher "connect(socket)" {
            [ENOENT, EACCES, EAGAIN] => Except(UNHEARD), [EINTR] => Except(UNHEARD),
        };
        Launcher "setsockopt(socket)" { [ENOMEM] => Except(UNHEARD) };
        Launcher "socketpair" [2..] { SOCKETS => Except(UNHEARD) };
        Launcher "sendmsg(socket)" .retried() {
            [ENOBUFS, ENOMEM, EAGAIN, ETOOMANYREFS] => Except(UNHEARD), GONE => Except(UNHEARD),
            Short => Except(UNHEARD),
        };
        // The launcher writes what the closure of `on_started` has printed.
        Launcher "write(stdout)" .retried() {
            [ENOSPC, EIO, EPIPE] => Except(UNWRITTEN), Short => Harmless(REST_FOLLOWS),
        };
        Launcher "_exit" .never_fails(NO_ERRORS);

        // A start has failed. The launcher clears the pid file and ends the daemon if
        // the intermediate was killed, or has exited before the launcher read the
        // daemon's message.
        Launcher "flock(pid file, LOCK_EX)" .by_timing() .retried() {
            [ENOLCK] => Harmless(STILL_LOCKED),
        };
        Launcher "flock(pid file, LOCK_UN)" .by_timing() .retried() {
            [ENOLCK] => Harmless("the launcher's end unlocks it"),
        };
        Launcher "pidfd_send_signal(15)" .by_timing() { [ESRCH] => Harmless(SIGKILL_FOLLOWS) };
        Launcher "pidfd_send_signal(9)" .never_fails(LAST_RESORT).by_timing();
        Launcher "shutdown(pair 1)"|"shutdown(pair 2)"|"waitid"|"close(log)"|"fcntl(log, F_GETFD)"
            .never_fails(NOTHING_TO_DO).in_other_scenes();

        [Orphaned]
        Launcher "flock(pid file, LOCK_EX)" .retried() { [ENOLCK] => Harmless(STILL_LOCKED) };
        Launcher "flock(pid file, LOCK_UN)" .retried() {
            [ENOLCK] => Harmless("the launcher's end unlocks it"),
        };
        Launcher "pidfd_send_signal(15)" { [ESRCH] => Harmless(SIGKILL_FOLLOWS) };

        [Nameless]
        Launcher "waitpid" .retried() { [EINVAL, EPERM] => Error("Wait"), [ECHILD] => Cleanup };

        [Failing]
        Launcher "sendmsg(pair 1)" .retried() { SENDING => Cleanup, GONE => Cleanup };

        [Dying]
        Launcher "sendmsg(pair 1)" .by_timing() .retried() { SENDING => Cleanup };

        [Failing, Dying]
        Launcher "waitpid" .retried() { [EINVAL, EPERM, ECHILD] => Cleanup };
        // The daemon may have ended by then.
        Launcher "recvmsg(pair 1)" .by_timing_from(1) .retried() {
            RECEIVING => ErrorOr("Channel"), Short => Harmless(REST_FOLLOWS),
        };

        // The daemon may have reported the panic before.
        [Panicking]
        Launcher "recv(pair 2)" [2..] .by_timing() .retried() {
            RECEIVING => ErrorOr("Channel"), [ECONNRESET] => ErrorOr("DaemonExited"),
            Short => Harmless(REST_FOLLOWS),
        };

        [OfRoot]
        Launcher "fchown(work/directory)" .retried() {
            [EPERM, EIO, EROFS, EDQUOT] => Error("CreateDirectory"),
            FakeSuccess => Error("CreateDirectory(1)"),
        };

        // If the file ended before the intermediate, the launcher could not clear the
        // pid file of a daemon in a jail. No kernel reports an end that is none.
        [OfRoot]
        Launcher "recvmsg(pair 1)" [2..] .by_timing_from(3) .retried() {
            RECEIVING => Error("Channel"), Short => Harmless(REST_FOLLOWS),
        };

        [Untidy]
        Launcher "write(closed)" .never_fails("the call is to fail");

        // Where both sides go on, the launcher looks for event queues.
        [Executed]
        Launcher "open(/proc/self/fd)" .retried() { LISTING => Error("EventQueuesUnknown") };
        Launcher "getdents(/proc/*/fd)" { [ENOENT, EIO] => Error("EventQueuesUnknown") };
        Launcher "readlink(/proc/self/fd/*)" {
            [EACCES, EIO] => Error("EventQueuesUnknown"),
            [ENOENT] => Harmless("the descriptor is closed by then"),
        };

        [Abandoned, Alone]
        Launcher "open(/proc/self/fd)"|"getdents(/proc/*/fd)"|"readlink(/proc/self/fd/*)"|"close(/proc/*/fd)"
            .never_fails("another scene tries the call, in which the launcher lives");
        Launcher "fcntl(/proc/*/fd, F_GETFD)" .never_fails(NOTHING_TO_DO).platform(OF_CLOSE);

        // The launcher looks at the former pid file before the fork.
        [Upgrading]
        Launcher "getcwd" [..1] {
            [ENOENT, EACCES, ENOMEM] => Harmless("only the removal of the pid file needs it"),
        };
        Launcher "getcwd" [1..] { [ENOENT, EACCES, ENOMEM] => Error("TakeOverPidfile(2)") };
        Launcher "stat(work/run/daemon)" {
            EXAMINING => Harmless("the launcher looks at the lock in any case"),
        };
        Launcher "open(work/run/daemon)" .retried() { OPENING => Harmless(NO_HOLDER) };
        Launcher "fstat(work/run/daemon)" { EXAMINING => Harmless(NO_HOLDER) };
        Launcher "flock(work/run/daemon, LOCK_SH)" .retried() {
            [ENOLCK] => Harmless(NO_HOLDER), [EAGAIN] => Error("LockPidfile"),
        };
        Launcher "pread(work/run/daemon)" .retried() {
            [EIO] => Harmless("the pid of a daemon that has ended is of no use"),
        };
        Launcher "flock(work/run/daemon, LOCK_UN)" .retried() {
            [ENOLCK] => Harmless("the end of the descriptor unlocks it"),
        };
        // It exchanges the files, and looks at the lock of the former one once more.
        Launcher "open(/)"|"open(above the case)"|"open(work)" .by_root() .retried() {
            OPENING => Error("TakeOverPidfile"),
        };
        Launcher "fstat(/)"|"fstat(above the case)"|"fstat(work)" .by_root() {
            EXAMINING => Error("TakeOverPidfile"),
        };
        Launcher "open(work/run)" .retried() { OPENING => Error("TakeOverPidfile") };
        Launcher "stat(pid file)" [..1] { EXAMINING => Error("TakeOverPidfile") };
        Launcher "stat(pid file)" [1..] {
            EXAMINING => Harmless("the launcher looks at the lock in any case"),
        };
        Launcher "rename(pid file)" {
            [EACCES, EPERM, EROFS, EIO, ENOMEM, ENOSPC] => Error("TakeOverPidfile"),
            [ENOSYS, EINVAL] => Harmless("the new file replaces the former one"),
            [ENOENT] => Harmless("the launcher makes a file, and tries again"),
        };
        Launcher "open(pid file)" .retried() { OPENING => Error(TAKEOVER_LOST) };
        Launcher "fstat(pid file)" [1..] { EXAMINING => Error(TAKEOVER_LOST) };
        Launcher "flock(pid file, LOCK_SH)" .retried() {
            [ENOLCK, EAGAIN] => Error(TAKEOVER_LOST),
        };
        Launcher "unlink(pid file)" {
            [EACCES, EPERM, EROFS, EIO] => Harmless("the next upgrade uses the file"),
        };

        // The launcher is the daemon.
        [Foreground]
        // One process takes all steps: it opens the pid file after the directory.
        Launcher "fstat(work)" [..1] .by_root() { EXAMINING => Error("CreateDirectory") };
        Launcher "fstat(work)" [1..] .by_root() { EXAMINING => Error("OpenPidfile") };
        Launcher "open(.)" [..1] .retried() { REOPENING => Error("CreateDirectory") };
        Launcher "open(.)" [1..] .by_root() .retried() { OPENING => Error("OpenPidfile") };
        Launcher "unshare" {
            [EPERM, ENOSYS] => Harmless(COUNTED_IN_PROC), [EINVAL] => Harmless(COUNTED_AGAIN),
            Always(EINVAL) => UnlessForbidden("SetNoNewPrivileges(1)"),
        };
        Launcher "fstat(pid file)" [..1] { EXAMINING => Error("OpenPidfile") };
        Launcher "fstat(pid file)" [1..] { EXAMINING => Error("OpenPidfile") };
        Launcher "fstat(socket)" { EXAMINING => Harmless(daemon::REGISTERED) };
        Launcher "flock(pid file, LOCK_EX)" .retried() {
            [ENOLCK, EIO] => Error("LockPidfile"), [EAGAIN] => Harmless(PROBED),
        };

        // The launcher finds out which process has locked the pid file.
        [Locked]
        Launcher "pread(pid file)" .retried() {
            [EIO] => Except(NAMELESS), Short => Except(NAMELESS),
        };
        Launcher "fstat(pid file)" { EXAMINING => Except(NAMELESS) };
        Launcher "getcwd" [1..] { [ENOENT, EACCES, ENOMEM] => Except(NAMELESS) };
        Launcher "stat(pid file)" { EXAMINING => Harmless("the launcher opens it in any case") };
        Launcher "getpid" .never_fails(NO_ERRORS);
        Launcher "open(pid file)" .retried() { OPENING => Except(NAMELESS) };
        Launcher "flock(pid file, LOCK_SH)" .retried() { [ENOLCK] => Except(NAMELESS) };
        Launcher "fcntl(pid file, F_GETLK)" .retried() { [EINVAL] => Except(NAMELESS) };
        Launcher "open(/proc/*/fd)" .retried() { [EACCES, EMFILE, ENOENT] => Except(NAMELESS) };
        Launcher "fstat(/proc/*/fd)" .platform("libc examines a directory that it lists") {
            EXAMINING => Except(NAMELESS),
        };
        Launcher "stat(/proc/*/fd/*)" .retried() {
            [EIO, ENOENT, EPERM, ENOSYS] => Except(NAMELESS),
        };
        Launcher "getdents(/proc/*/fd)" { [EIO, ENOENT] => Except(NAMELESS) };
        // With any other errno std panics. The file system of /proc has no other.
        Launcher "close(/proc/*/fd)" { [EINTR] => Harmless(CLOSED) };
        Launcher "fcntl(/proc/*/fd, F_SETFD)"
            .never_fails(NO_ERRORS).platform("libc marks a directory that it lists");

        [Sandboxed]
        Launcher "open(/proc/self/status)" [..1] .retried() {
            LISTING => Error("ThreadCountUnknown"),
        };
        Launcher "open(/proc/self/status)" [1..] {
            [ENOENT, EMFILE] => Harmless("the library flushes the streams if need be"),
        };
        Launcher "read(/proc/*/status)" [..1] .retried() {
            [EIO, ENOMEM] => Error("ThreadCountUnknown"), Short => Harmless(REST_FOLLOWS),
        };
        Launcher "read(/proc/*/status)" [1..] .retried() { Short => Harmless(REST_FOLLOWS) };

        // The launcher has the capabilities that the daemon keeps.
        [Keeping]
        Launcher "getresuid" .never_fails(NO_ERRORS);
        Launcher "capget"|"prctl(PR_GET_SECUREBITS)" {
            [EPERM, EINVAL] => Error("KeepCapabilities"),
        };

        // Standard input and output are closed, so that new descriptors move up.
        [Untidy]
        Launcher "fcntl(pair 1, F_DUPFD_CLOEXEC)"|"fcntl(pair 2, F_DUPFD_CLOEXEC)" {
            [EMFILE] => Error("Channel"),
        };
        Launcher "fcntl(/, F_DUPFD_CLOEXEC)"|"fcntl(above the case, F_DUPFD_CLOEXEC)"
        |"fcntl(work, F_DUPFD_CLOEXEC)" .by_root() { [EMFILE] => Error("CreateDirectory") };
        Launcher "fcntl(work/directory, F_DUPFD_CLOEXEC)" { [EMFILE] => Error("CreateDirectory") };
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
    let files = ["work", "work/directory"];
    rows.extend(duplicated(process, &files));
    let files = ["socket", "pid file", "work/directory"];
    rows.extend(closed(Scene::Ordinary, process, &files));
    // Only root opens the parent of a directory.
    let files = ["/", "above the case", "work"];
    rows.extend(closed(Scene::Ordinary, process, &files).map(Row::by_root));
    rows.extend(closed(Scene::Executed, process, &["/proc/*/fd"]));
    let files = ["work/run", "work/run/daemon"];
    rows.extend(closed(Scene::Upgrading, process, &files));
    rows
}
