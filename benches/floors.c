/*
 * Starts of a daemon in C, with nothing but the calls that a start of its kind needs. No library
 * can be faster:
 *
 *   plain        forks twice; the launcher exits at once, and knows nothing
 *   pipe         the daemon locks a pid file, writes its pid, and sends one byte to the launcher
 *   supervised   the intermediate stays until the daemon is ready. The launcher gives the order,
 *                the intermediate writes the pid file, the launcher acknowledges
 *   shared       as supervised, but the intermediate shares the memory of the launcher, so that
 *                the memory is copied once
 *
 * floors KIND MEBIBYTES DESCRIPTORS PID_FILE RENDEZVOUS
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* Not static, so that no compiler leaves it out. */
char *heap;

static void check(int ok, const char *what)
{
    if (!ok) {
        perror(what);
        _exit(1);
    }
}

static void receive(int descriptor)
{
    char byte;
    check(read(descriptor, &byte, 1) == 1, "read");
}

static void send_byte(int descriptor)
{
    check(send(descriptor, "x", 1, MSG_NOSIGNAL) == 1, "send");
}

static void tell_time(void)
{
    struct timespec now;
    char text[32];

    clock_gettime(CLOCK_REALTIME, &now);
    snprintf(text, sizeof text, "%019lld\n", now.tv_sec * 1000000000LL + now.tv_nsec);
    check(write(STDOUT_FILENO, text, 20) == 20, "write");
}

static int open_null(void)
{
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);

    check(null >= 0, "open /dev/null");
    return null;
}

static void redirect(int null)
{
    for (int stream = 0; stream < 3; stream++)
        check(dup2(null, stream) == stream, "dup2");
    close(null);
}

static int lock(const char *path)
{
    int file = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);

    check(file >= 0 && flock(file, LOCK_EX | LOCK_NB) == 0, path);
    return file;
}

static void write_pid(int file, pid_t pid)
{
    char text[16];
    int length = snprintf(text, sizeof text, "%d\n", (int)pid);

    check(ftruncate(file, 0) == 0 && pwrite(file, text, length, 0) == length, "write the pid");
}

/* Lives until the bench closes the connection. */
static void live(const char *rendezvous)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int connection = socket(AF_UNIX, SOCK_STREAM, 0);
    char byte;

    strncpy(address.sun_path, rendezvous, sizeof address.sun_path - 1);
    check(connect(connection, (struct sockaddr *)&address, sizeof address) == 0, rendezvous);
    while (read(connection, &byte, 1) > 0)
        ;
    _exit(0);
}

static void detach(int null)
{
    check(setsid() >= 0 && chdir("/") == 0, "setsid");
    umask(027);
    redirect(null);
}

static void plain(const char *rendezvous)
{
    int null = open_null();

    if (fork() != 0)
        _exit(0);
    detach(null);
    if (fork() != 0)
        _exit(0);
    live(rendezvous);
}

static void by_pipe(const char *path, const char *rendezvous)
{
    int null = open_null();
    int ready[2];
    pid_t intermediate;

    check(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ready) == 0, "socketpair");
    intermediate = fork();
    if (intermediate != 0) {
        close(ready[1]);
        receive(ready[0]);
        check(waitpid(intermediate, NULL, 0) == intermediate, "waitpid");
        _exit(0);
    }
    detach(null);
    if (fork() != 0)
        _exit(0);
    write_pid(lock(path), getpid());
    send_byte(ready[1]);
    live(rendezvous);
}

struct start {
    int null, order[2], report[2];
    const char *path, *rendezvous;
};

/* The intermediate, and then the daemon. */
static int intermediate_of(void *argument)
{
    struct start *start = argument;
    int file;
    pid_t daemon;

    close(start->order[0]);
    close(start->report[0]);
    detach(start->null);
    file = lock(start->path);
    daemon = fork();
    if (daemon != 0) {
        close(start->report[1]);
        receive(start->order[1]);
        write_pid(file, daemon);
        send_byte(start->order[1]);
        _exit(0);
    }
    close(start->order[1]);
    send_byte(start->report[1]);
    receive(start->report[1]);
    close(start->report[1]);
    live(start->rendezvous);
    return 0;
}

static pid_t fork_intermediate(struct start *start, int shares_memory)
{
    static _Alignas(16) char stack[65536];
    pid_t intermediate;

    if (shares_memory)
        return clone(intermediate_of, stack + sizeof stack, CLONE_VM | SIGCHLD, start);
    intermediate = fork();
    if (intermediate == 0)
        intermediate_of(start);
    return intermediate;
}

static void supervised(const char *path, const char *rendezvous, int shares_memory)
{
    struct start start = {.null = open_null(), .path = path, .rendezvous = rendezvous};
    pid_t intermediate;

    check(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, start.order) == 0, "socketpair");
    check(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, start.report) == 0, "socketpair");
    intermediate = fork_intermediate(&start, shares_memory);
    check(intermediate > 0, "fork");
    close(start.order[1]);
    close(start.report[1]);
    receive(start.report[0]);
    send_byte(start.order[0]);
    receive(start.order[0]);
    check(waitpid(intermediate, NULL, 0) == intermediate, "waitpid");
    send_byte(start.report[0]);
    _exit(0);
}

int main(int argc, char **argv)
{
    check(argc == 6, "usage: floors KIND MEBIBYTES DESCRIPTORS PID_FILE RENDEZVOUS");
    size_t bytes = (size_t)atoi(argv[2]) << 20;

    heap = malloc(bytes + 1);
    check(heap != NULL, "malloc");
    memset(heap, 1, bytes + 1);
    for (int i = atoi(argv[3]); i > 0; i--)
        open_null();
    tell_time();
    if (strcmp(argv[1], "plain") == 0)
        plain(argv[5]);
    else if (strcmp(argv[1], "pipe") == 0)
        by_pipe(argv[4], argv[5]);
    else
        supervised(argv[4], argv[5], strcmp(argv[1], "shared") == 0);
    return 0;
}
