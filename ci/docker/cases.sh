# shellcheck shell=sh disable=SC2016 # the scripts are for the shell in the container
# Sourced by ci/docker.sh: what a start does in each variant, with the examples.
#
#   expect CASE STATUS OUTPUT COMMAND...
#
# The command is the first process of the container, and gives this exit status
# and output, which is a pattern of the shell. `exit` after a command keeps the
# shell from executing it in its own process.

# The main process of a container is pid 1; with --init it is a child of pid 1.
first_process='service: cannot start a daemon from pid 1: the exit of pid 1 would end the daemon; use `foreground`'

# The first process reaps no child that it inherits. $1: how many processes have
# ended and are left. With --init there are none soon, and otherwise one.
stop_without_reaper() {
    echo 'mkfifo /tmp/fifo
        {
            service start --background >/dev/null && service stop
            service status
            echo "status $?"
            ended() { grep -l "^State:.Z" /proc/[0-9]*/status 2>/dev/null | wc -l; }
            for i in $(seq 100); do [ "$(ended)" != '"$1"' ] || break; sleep 0.1; done
            echo "ended: $(ended)"
        } >/tmp/fifo 2>&1 &
        exec cat /tmp/fifo'
}

cases_default() {
    expect the_first_process_cannot_start_a_daemon 1 "$first_process" \
        service start --background
    expect a_daemon_is_stopped_although_nobody_reaps_it 0 'stopped
not running
status 3
ended: 1' sh -c "$(stop_without_reaper 1)"
}

cases_no_setuid() {
    expect root_cannot_become_another_user 1 \
        '*cannot change to user daemonize2-test: Operation not permitted*: this process runs as root, but lacks CAP_SETUID *' \
        sh -c 'mkdir /tmp/home; web /tmp/home 127.0.0.1:0 daemonize2-test; exit $?'
    expect root_starts_a_daemon_of_root 0 'listening on 127.0.0.1:*' \
        sh -c 'mkdir /tmp/home; web /tmp/home 127.0.0.1:0; exit $?'
}

cases_pids_limit() {
    refused='*service: cannot fork: Resource temporarily unavailable*: a limit on the number of processes is reached: *container*'
    # The subshell ends when it cannot fork, and leaves room for one process.
    fill='(for i in $(seq 300); do sleep 1000 & done) 2>/dev/null;'
    expect the_launcher_cannot_fork 1 "$refused" \
        sh -c "$fill"' service start --background; exit $?'
    expect the_intermediate_cannot_fork 1 "$refused" \
        sh -c 'sleep 1000 & one=$!;'"$fill"' kill "$one"; wait "$one"; service start --background; exit $?'
    expect a_daemon_starts_in_the_last_two_places 0 '*listening on 127.0.0.1:*' \
        sh -c 'sleep 1000 & one=$!; sleep 1000 & two=$!;'"$fill"' kill "$one" "$two"; wait "$one" "$two"
            service start --background; exit $?'
}

cases_read_only() {
    expect a_pid_file_on_a_read_only_file_system_is_refused 1 \
        'service: cannot open pid file /srv/service.pid: Read-only file system*' \
        env RUNTIME_DIRECTORY=/srv service run
    expect a_directory_on_a_read_only_file_system_is_not_created 1 \
        '*cannot create directory /srv/run: Read-only file system*' \
        sh -c 'web /srv 127.0.0.1:0; exit $?'
    expect a_daemon_starts_in_tmp 0 'listening on 127.0.0.1:*
stopped' sh -c 'export HOME=/tmp; service start --background && service stop'
}

cases_user() {
    expect a_user_cannot_give_a_directory_to_another_user 1 \
        'web: cannot create directory /tmp/home/run: Operation not permitted*: this process runs as uid 7001; changing the owner of a directory requires root, or CAP_CHOWN' \
        sh -c 'mkdir /tmp/home; web /tmp/home 127.0.0.1:0 nobody; exit $?'
    expect a_user_starts_a_daemon 0 'listening on 127.0.0.1:*
stopped' sh -c 'export HOME=/tmp; service start --background && service stop'
}

cases_init() {
    expect the_main_process_starts_a_daemon 0 'listening on 127.0.0.1:*' \
        service start --background
    expect a_daemon_that_ends_is_reaped 0 'stopped
not running
status 3
ended: 0' sh -c "$(stop_without_reaper 0)"
}

cases_musl() {
    expect a_static_program_becomes_a_user_of_the_image 0 'listening on 127.0.0.1:*' \
        sh -c 'mkdir /tmp/home; web /tmp/home 127.0.0.1:0 daemonize2-test; exit $?'
}
