//! The daemon.

use super::*;

pub(crate) const REGISTERED: &str = "every process that the daemon starts has the descriptor, too";
const NEW_ROOT_IS_ENTERED: &str = "the daemon enters the new root";

/// The guard leaves the pid file.
pub(crate) const PID_FILE_STAYS: &[&str] = &["pid file at the end"];

pub(crate) fn rows() -> Vec<Row> {
    let mut rows = rows! {
        // Standard streams.
        [Ordinary]
        Daemon "sigaction(SIG_DFL)"|"getpid"|"sigprocmask"|"prctl(PR_SET_PDEATHSIG)"
            .never_fails(NO_ERRORS);
        Daemon "open(/dev/null)" .retried() {
            OPENING => Error("OpenDevnull"), [ENOENT] => Error("OpenDevnull"),
        };
        Daemon "fstat(/dev/null)" { EXAMINING => Error("OpenDevnull") };
        Daemon "fcntl(stderr, F_GETFD)" .never_fails("the descriptor was open just before");
        Daemon "dup2(/dev/null, 0)"|"dup2(log, 1)" .retried() {
            [EMFILE, EPERM] => Error("RedirectStreams"),
            [EBUSY] => Harmless("the daemon makes the call again"),
        };
        Daemon "dup2(/dev/null, 2)" .in_other_scenes() .retried() {
            [EMFILE, EPERM] => Error("RedirectStreams"),
            [EBUSY] => Harmless("the daemon makes the call again"),
        };
        Daemon "close(/dev/null)" { [EIO] => Error("CloseDevnull"), [EINTR] => Harmless(CLOSED) };

        // Log files. Root looks at their directory first.
        [Logging]
        Daemon "geteuid" .never_fails(NO_ERRORS);
        Daemon "open(.)" .by_root().retried() { OPENING => Error("OpenLogFile") };
        Daemon "fstat(work)" .by_root() { EXAMINING => Error("OpenLogFile") };
        Daemon "close(work)" .by_root() { [EIO, EINTR] => Harmless(CLOSED) };
        Daemon "fcntl(work, F_GETFD)" .never_fails(NOTHING_TO_DO).platform(OF_CLOSE);
        Daemon "open(work/logs)" .by_root().retried() { OPENING => Error("OpenLogFile") };
        Daemon "fstat(work/logs)" .by_root() { EXAMINING => Error("OpenLogFile") };
        Daemon "close(work/logs)" .by_root() { [EIO, EINTR] => Harmless(CLOSED) };
        Daemon "fcntl(work/logs, F_GETFD)" .never_fails(NOTHING_TO_DO).platform(OF_CLOSE);
        Daemon "open(work/logs/output.log)" [..1] .retried() { OPENING => Error("OpenLogFile") };
        Daemon "open(work/logs/output.log)" [1..] .retried() {
            CREATING => Error("OpenLogFile"), [EEXIST] => Harmless("the daemon looks again"),
        };
        Daemon "open(work/logs/error.log)" .retried() {
            OPENING => Error("OpenLogFile"), [ELOOP] => Error("OpenLogFile"),
        };
        Daemon "fstat(work/logs/output.log)" { EXAMINING => Error("OpenLogFile") };
        Daemon "fstat(work/logs/error.log)" [..1] { EXAMINING => Error("OpenLogFile") };
        Daemon "fstat(work/logs/error.log)" [1..] {
            EXAMINING => Harmless("the daemon still has the descriptor"),
        };
        Daemon "fcntl(work/logs/output.log, F_SETFL)"|"fcntl(work/logs/error.log, F_SETFL)" {
            [EPERM] => Error("OpenLogFile"),
        };
        Daemon "dup2(work/logs/output.log, 1)"|"dup2(work/logs/error.log, 2)" .retried() {
            [EMFILE, EPERM] => Error("RedirectStreams"),
            [EBUSY] => Harmless("the daemon makes the call again"),
        };

        // The lock passes to the daemon.
        [Ordinary]
        Daemon "fcntl(pid file, F_SETLK)" .retried() {
            [ENOLCK] => Error("LockPidfile"), [EAGAIN] => Error("LockPidfile(11)"),
            [EACCES] => Error("LockPidfile(13)"),
        };
        Daemon "fstat(pair 2)" { EXAMINING => Harmless(REGISTERED) };

        // No new privileges.
        Daemon "unshare" {
            [EPERM, ENOSYS] => Harmless(COUNTED_IN_PROC), [EINVAL] => Harmless(COUNTED_AGAIN),
            Always(EINVAL) => UnlessForbidden("SetNoNewPrivileges(1)"),
        };
        Daemon "prctl(PR_SET_NO_NEW_PRIVS)" { [EINVAL, EPERM] => Error("SetNoNewPrivileges") };

        // Dumpable.
        Daemon "prctl(PR_SET_DUMPABLE)" { [EINVAL, EPERM] => Error("SetDumpable") };
        Daemon "prctl(PR_GET_DUMPABLE)" {
            [EINVAL, EPERM] => Error("SetDumpable"), FakeSuccess => Error("SetDumpable(1)"),
        };

        // The report that the daemon is ready.
        Daemon "sendmsg(pair 2)" .retried() {
            SENDING => Error("Channel"), GONE => Error("LauncherGone"),
            Short => Harmless("the daemon sends the rest next"),
        };
        Daemon "recv(pair 2)" .retried() {
            RECEIVING => Harmless("the daemon makes the call again"),
        };

        // The start has failed.
        Daemon "fstat(pid file)"|"flock(pid file, LOCK_EX)" .in_other_scenes() { [EIO] => Cleanup };
        Daemon "close(pid file)" .in_other_scenes() { [EIO, EINTR] => Harmless(CLOSED) };
        Daemon "fcntl(pid file, F_GETFD)" .never_fails(NOTHING_TO_DO).platform(OF_CLOSE);
        Daemon "_exit" .never_fails(NO_ERRORS).in_other_scenes();
        Daemon "getppid"
            .never_fails(NO_ERRORS).platform("the daemon asks if the launcher is gone");
        Daemon "getcwd"
            .never_fails("only the name of a process that has locked the file needs it").in_other_scenes();

        // The environment, and then no new privileges.
        [OfRoot]
        Daemon "unshare" [..1] {
            [EPERM, ENOSYS] => Harmless(COUNTED_IN_PROC), [EINVAL] => Harmless(COUNTED_AGAIN),
            Always(EINVAL) => UnlessForbidden("SetEnvironment(1)"),
        };
        Daemon "unshare" [1..] {
            [EPERM, ENOSYS] => Harmless(COUNTED_IN_PROC), [EINVAL] => Harmless(COUNTED_AGAIN),
            Always(EINVAL) => UnlessForbidden("SetNoNewPrivileges(1)"),
        };

        // The owner of the pid file. A sandbox or a file system may report success
        // and change nothing.
        Daemon "fchown(pid file)" .retried() {
            [EPERM, EROFS, EIO] => Error("ChownPidfile"), FakeSuccess => Error("ChownPidfile(1)"),
        };
        Daemon "fstat(pid file)" { EXAMINING => Error("ChownPidfile") };

        // The owner of a new log file.
        Daemon "fchown(work/logs/output.log)" .retried() {
            [EPERM, EROFS, EIO] => Error("ChownLogFile"), FakeSuccess => Error("ChownLogFile(1)"),
        };
        Daemon "fstat(work/logs/output.log)" [..1] { EXAMINING => Error("OpenLogFile") };
        Daemon "fstat(work/logs/output.log)" [1..] { EXAMINING => Error("ChownLogFile") };

        // The root directory, and the path of the log file in it.
        Daemon "readlink(*" .platform("the C library resolves the path") {
            [EACCES, EIO] => Harmless("the log file lies outside the new root in any case"),
        };
        Daemon "getcwd" [..1] { [ENOENT, EACCES] => Harmless(NEW_ROOT_IS_ENTERED) };
        Daemon "stat(.)" [..1] { EXAMINING => Harmless(NEW_ROOT_IS_ENTERED) };
        Daemon "chdir(../jail)" .retried() { DIRECTORY => Error("Chroot") };
        Daemon "getcwd" [1..] { [ENOENT, EACCES, ENOMEM] => Error("Chroot") };
        Daemon "stat(.)" [1..] { EXAMINING => Error("Chroot") };
        Daemon "chroot(.)" {
            [EPERM, EACCES, EIO, ENOMEM] => Error("Chroot"),
            FakeSuccess => Error("PrivilegesRetained"),
        };
        Daemon "chdir(/)" .retried() { [EACCES, EIO, ENOMEM] => Error("Chroot") };

        // The identity. A sandbox may report success and change nothing.
        Daemon "getresuid"|"getresgid" .never_fails(NO_ERRORS);
        Daemon "getgroups" [..2] { [EPERM] => Error("SetSupplementaryGroups") };
        Daemon "getgroups" [2..] { [EPERM] => Error("SetSupplementaryGroups") };
        Daemon "setgroups(3)" {
            [EPERM, ENOMEM, EINVAL] => Error("SetSupplementaryGroups"),
            FakeSuccess => Error("PrivilegesRetained"),
        };
        Daemon "setresgid(7001, 7001, 7001)" {
            [EPERM, EAGAIN] => Error("SetGroup"), FakeSuccess => Error("PrivilegesRetained"),
        };
        Daemon "setresuid(7001, 7001, 7001)" {
            [EPERM, EAGAIN] => Error("SetUser"), FakeSuccess => Error("PrivilegesRetained"),
        };
        // The change of the user has emptied the capability sets, so that the library
        // makes no other call: tests/privileges.
        Daemon "capget" { [EPERM, EINVAL] => Error("PrivilegesRetained") };
        // Each attempt to regain an id must fail, whatever the errno.
        Daemon "setresuid(-1, 0, -1)"|"setuid(0)"|"setresgid(-1, 0, -1)"|"setgid(0)" {
            [EAGAIN, EINVAL] => Harmless("the call is to fail"),
            FakeSuccess => Error("PrivilegesRetained"),
        };

        // The daemon keeps two capabilities, of which one is ambient.
        [Keeping]
        Daemon "capget" [..1] { [EPERM, EINVAL] => Error("KeepCapabilities") };
        Daemon "prctl(PR_GET_SECUREBITS)"|"prctl(PR_CAPBSET_READ)" {
            [EPERM, EINVAL] => Error("KeepCapabilities"),
        };
        Daemon "prctl(PR_SET_KEEPCAPS)" [..1] {
            [EPERM] => Error("KeepCapabilities"), FakeSuccess => Error("PrivilegesRetained"),
        };
        // From now on all capabilities of root may be left, so that the daemon must end.
        Daemon "prctl(PR_SET_KEEPCAPS)" [1..] { [EPERM] => Error("PrivilegesRetained") };
        Daemon "capget" [1..2] { [EPERM, EINVAL] => Error("PrivilegesRetained") };
        Daemon "capset" {
            [EPERM, EINVAL] => Error("PrivilegesRetained"),
            FakeSuccess => Error("PrivilegesRetained"),
        };
        Daemon "capget" [2..] { [EPERM, EINVAL] => Error("PrivilegesRetained") };
        // The library asks for the ambient capability, adds it, and asks again.
        Daemon "prctl(PR_CAP_AMBIENT)" [..1] { [EINVAL, EPERM] => Error("KeepCapabilities") };
        Daemon "prctl(PR_CAP_AMBIENT)" [1..2] {
            [EPERM, EINVAL] => Error("KeepCapabilities"),
            FakeSuccess => Error("KeepCapabilities(1)"),
        };
        Daemon "prctl(PR_CAP_AMBIENT)" [2..] { [EPERM] => Error("KeepCapabilities") };

        // The daemon reports its failure, and has no other way to do so.
        [Failing]
        Daemon "sendmsg(pair 2)" .retried() {
            SENDING => Error("DaemonExited"), GONE => Error("DaemonExited"),
            Short => Harmless("the daemon sends the rest next"),
        };

        [Alone]
        Daemon "sendmsg(pair 2)" [..1] .retried() { SENDING => Error("Channel") };
        Daemon "sendmsg(pair 2)" [1..] .retried() { SENDING => Cleanup, GONE => Cleanup };
        Daemon "flock(pid file, LOCK_UN)" .retried() {
            [ENOLCK] => Harmless("the daemon's end unlocks it"),
        };

        // The guard removes the pid file.
        [Guarded]
        Daemon "fstat(pid file)"|"stat(pid file)" { EXAMINING => Except(PID_FILE_STAYS) };
        Daemon "_exit" .never_fails(NO_ERRORS);
        Daemon "unlink(pid file)" { [EACCES, EPERM, EROFS, EBUSY] => Except(PID_FILE_STAYS) };

        // Another daemon has locked the pid file. The new daemon redirects its streams
        // all the same, so that its output does not reach the terminal.
        [Locked]
        Daemon "open(/dev/null)" { OPENING => Cleanup };
        Daemon "fstat(/dev/null)" { EXAMINING => Cleanup };
        Daemon "dup2(/dev/null, 0)"|"dup2(log, 1)" { [EMFILE, EPERM] => Cleanup };
        Daemon "close(/dev/null)" { [EIO, EINTR] => Cleanup };

        [Sandboxed]
        Daemon "open(/proc/self/status)" .retried() { LISTING => Error("SetNoNewPrivileges(1)") };
        Daemon "read(/proc/*/status)" [..1] .retried() {
            [EIO, ENOMEM] => Error("SetNoNewPrivileges(1)"), Short => Harmless(REST_FOLLOWS),
        };
        Daemon "read(/proc/*/status)" [1..] .retried() {
            [EIO, ENOMEM] => Error("SetNoNewPrivileges(1)"), Short => Harmless(REST_FOLLOWS),
        };

        // Standard input and output are closed, so that new descriptors move up.
        [Untidy]
        Daemon "close(/dev/null)" [..1] { [EIO, EINTR] => Harmless(CLOSED) };
        Daemon "fcntl(/dev/null, F_DUPFD_CLOEXEC)" { [EMFILE] => Error("OpenDevnull") };
        Daemon "fcntl(/dev/null, F_GETFD)" .never_fails(NOTHING_TO_DO).platform(OF_CLOSE);
        Daemon "fcntl(log, F_DUPFD_CLOEXEC)" { [EMFILE] => Error("RedirectStreams") };
    };
    let process = Role::Daemon;
    rows.extend(duplicated(process, &["/dev/null", "log"]));
    let files = ["pair 1", "pair 2", "pair 3", "log"];
    rows.extend(closed(Scene::Ordinary, process, &files));
    let files = ["work/logs/output.log", "work/logs/error.log"];
    rows.extend(closed(Scene::Logging, process, &files));
    rows
}
