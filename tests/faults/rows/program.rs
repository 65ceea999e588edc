//! The calls that only the start of a program makes. Through pair 4 the intermediate permits the
//! daemon to execute the program, and learns that it has done so.

use libc::{E2BIG, EADDRINUSE, ENOEXEC, ENOTCONN, ETXTBSY};

use super::*;

const EXECUTED_OR_ENDED: &str = "a daemon that lives a second longer has executed the program";
const CLOSED_BY_ANOTHER: &str = "another thread of the launcher may have closed the descriptor";

pub(crate) fn rows() -> Vec<Row> {
    let mut rows = rows! {
        [Spawned]
        Launcher "getresuid" .never_fails(NO_ERRORS);
        Launcher "recv(pair 2)" .by_timing_from(1) .retried() {
            RECEIVING => Error("Channel"),
            [ECONNRESET] => Harmless("the intermediate reports the execution"),
        };

        // The daemon executes the program when the intermediate permits it.
        Intermediate "sendmsg(pair 4)" .retried() { SENDING => Error("Channel") };
        Daemon "sigaction(as it is)" .alike() { [EPERM] => Error("ResetSignals") };
        Daemon "recv(pair 4)" .retried() { RECEIVING => Error("IntermediateExited") };
        Daemon "fcntl(socket, F_GETFD)"|"fcntl(/proc, F_GETFD)" {
            [EBADF] => Harmless(CLOSED_BY_ANOTHER),
        };
        Daemon "fcntl(/proc, F_SETFD)" { [EBADF] => Harmless(CLOSED_BY_ANOTHER) };
        Daemon "fcntl(pid file, F_SETFD)" { [EBADF] => Error("LockPidfile") };
        Daemon "execve" {
            [
                E2BIG, EACCES, EAGAIN, EINVAL, EIO, ELOOP, EMFILE, ENAMETOOLONG, ENFILE, ENOENT,
                ENOEXEC, ENOMEM, ENOTDIR, EPERM, ETXTBSY,
            ] => Error("ExecuteProgram"),
        };

        // The intermediate notices the execution.
        Intermediate "recv(pair 4)" .by_timing_from(1) .retried() {
            RECEIVING => Harmless(WAITS_AGAIN),
            [ECONNRESET] => Harmless("it is the end of the file, too"),
        };
        Intermediate "getpgrp" .never_fails(NO_ERRORS);
        Intermediate "setpgid" .by_timing_from(1) {
            [ESRCH] => Harmless(WAITS_AGAIN), FakeSuccess => Harmless(WAITS_AGAIN),
            Always(ESRCH) => Harmless(EXECUTED_OR_ENDED),
        };
        Intermediate "sendmsg(pair 1)" [1..2] .retried() {
            SENDING => Error("Channel"), Short => Harmless("the intermediate sends the rest next"),
        };
        // The answer is that of a process whose launcher has ended.
        Intermediate "getppid" [1..] .by_timing() { FakeSuccess => Error("DaemonExited") };

        [Notifying]
        Launcher "getrandom"
            .never_fails("std then reads /dev/urandom").platform("std decides when it needs a seed");
        Intermediate "socket" { SOCKETS => Error("Channel") };
        Intermediate "setsockopt(socket)" { [ENOMEM] => Error("Channel") };
        Intermediate "bind(socket)" { [EADDRINUSE, ENOMEM] => Error("Channel") };
        Intermediate "fcntl(socket, F_DUPFD_CLOEXEC)" { [EMFILE] => Error("Channel") };
        Intermediate "recvmsg(socket)" .by_timing_from(1) .retried() {
            RECEIVING => Error("Channel"), [EAGAIN] => Harmless(WAITS_AGAIN),
        };
        Intermediate "shutdown(socket)" {
            [ENOTCONN] => Harmless("the end of the intermediate closes the socket"),
        };
        // The tester keeps sockets of its own.
        Daemon "fcntl(socket, F_GETFD)" .never_fails("the descriptor was open just before");
        Daemon "fcntl(socket, F_SETFD)" { [EBADF] => Error("ExecuteProgram") };

        [Writing]
        Intermediate "pipe" { [EMFILE, ENFILE] => Error("Channel") };
        Intermediate "fcntl(pipe, F_SETFD)"|"fcntl(pipe, F_SETFL)" { [EBADF] => Error("Channel") };
        Intermediate "read(pipe)" .by_timing_from(1) .retried() {
            [EIO] => Error("Channel"), [EAGAIN] => Harmless(WAITS_AGAIN),
            Short => Harmless("the line is a single byte"),
        };
        Daemon "dup2(pipe, 3)" .retried() {
            [EBADF, EMFILE] => Error("ExecuteProgram"),
            [EBUSY] => Harmless("the daemon makes the call again"),
        };

        // There is no program: the daemon reports that, and ends.
        [Inexecutable]
        Launcher "recv(pair 2)" .by_timing_from(1) .retried() {
            RECEIVING => Error("Channel"), [ECONNRESET] => Error("DaemonExited"),
            Short => Harmless(REST_FOLLOWS),
        };
        Launcher "stat(work/missing/program)" {
            EXAMINING => Harmless("only a script that lacks its interpreter is there"),
        };
        Launcher "stat(nowhere)"
            .never_fails("the call is to fail").platform("std asks whether the kernel has the call");
        Intermediate "recv(pair 4)" .by_timing() .retried() {
            RECEIVING => Cleanup, [ECONNRESET] => Cleanup,
        };
        Intermediate "getpgrp" .never_fails(NO_ERRORS).by_timing();
        Intermediate "getppid" [1..]
            .never_fails("the answer may end the daemon before it reports; [Spawned] tries it")
            .by_timing();
        Intermediate "setpgid" .by_timing() { [ESRCH] => Cleanup, FakeSuccess => Cleanup };
    };
    let with_descriptors = [
        (Scene::Spawned, "pair 4"),
        (Scene::Notifying, "socket"),
        (Scene::Writing, "pipe"),
    ];
    for (scene, file) in with_descriptors {
        let files = [file];
        rows.extend(closed(scene, Role::Intermediate, &files));
        // The daemon examines a socket also before it passes it on: the row above.
        let of_daemon = closed(scene, Role::Daemon, &files);
        rows.extend(of_daemon.filter(|row| row.call != "fcntl(socket, F_GETFD)"));
    }
    rows
}
