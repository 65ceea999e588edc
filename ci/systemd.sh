#!/bin/sh
# Boots a real systemd in a container over a copy-on-write view of this system,
# has it start, stop, restart and lose the units of examples/systemd and
# ci/systemd, and asserts what systemctl says of them.
#
#   ci/systemd.sh [--required] [--keep FOLDER]
#
#   --required      a machine that cannot do this is a failure, not a skip
#   --keep FOLDER   copy what the container wrote to there
#
# Needs Linux, root, and the right to mount; installs systemd-container, where
# that is missing and apt-get can. The machine itself is not touched: mounts,
# processes and control groups are of the run and end with it.
#
# Environment:
#   CARGO_TARGET_DIR      as for cargo
#
# Prints 'ok NAME', 'FAILED NAME' or 'skipped NAME' for each case and closes
# with 'N passed, N failed, N skipped'.
# shellcheck disable=SC2317 # the assertions are called by `check`
set -eu

root=$(cd "$(dirname "$0")/.." && pwd -P)

# Seconds for all that the container does; it takes about 15.
limit=150

say() { printf '%s\n' "systemd.sh: $*" >&2; }

# --- In a mount namespace of its own: the container --------------------------

# $1: the work directory, $2: the directory in which to mount, then the words for
# systemd-nspawn. Becomes systemd-nspawn.
if [ "${1-}" = --container ]; then
    work=$2
    shift 2

    # systemd-nspawn shares what it is given out among groups that have fixed
    # names: below one of ours, no other container is in the way.
    while read -r group; do
        echo $$ >"$group/cgroup.procs"
    done <"$work/groups"

    # Where systemd-nspawn keeps its books, and what tells it of the machine's
    # own systemd, of which it needs nothing.
    mount -t tmpfs -o mode=755 tmpfs /run
    mount -t tmpfs -o mode=755,size=1g tmpfs "$work/mnt"
    mkdir "$work/mnt/upper" "$work/mnt/work" "$work/mnt/root"
    mount -t overlay overlay \
        -o "lowerdir=/,upperdir=$work/mnt/upper,workdir=$work/mnt/work" "$work/mnt/root"
    cd "$work/mnt/root"

    # Nothing of what this machine is set up to start, to mount or to log.
    rm -rf etc/systemd/system etc/systemd/*.conf.d etc/fstab
    mkdir -p etc/systemd/system.conf.d etc/systemd/journald.conf.d etc/systemd/system
    printf '[Manager]\nDefaultStartLimitIntervalSec=0\nDefaultTimeoutStopSec=15\n' \
        >etc/systemd/system.conf.d/ci.conf
    printf '[Journal]\nStorage=volatile\nRateLimitBurst=0\n' >etc/systemd/journald.conf.d/ci.conf
    tr -d - </proc/sys/kernel/random/uuid >etc/machine-id
    mkdir -p usr/local/bin usr/local/lib/daemonize2-ci
    cp "$root"/examples/systemd/*.service "$root"/examples/systemd/*.socket \
        "$root"/ci/systemd/*.service "$root"/ci/systemd/*.target etc/systemd/system
    cp "$root/ci/systemd/probe.sh" usr/local/lib/daemonize2-ci
    [ ! -d "$work/programs" ] || cp "$work"/programs/* usr/local/bin

    exec systemd-nspawn --quiet --directory="$work/mnt/root" --machine="daemonize2-ci-$$" \
        --register=no --keep-unit --link-journal=no --private-network \
        --resolv-conf=off --timezone=off --bind="$work/out:/out" "$@"
fi

# --- Preparation -------------------------------------------------------------

required=false
keep=
while [ $# -gt 0 ]; do
    case $1 in
        --required) required=true ;;
        --keep)
            [ $# -gt 1 ] || {
                say "--keep wants a directory"
                exit 2
            }
            keep=$2
            shift
            ;;
        *)
            say "unknown argument '$1'; see the head of ci/systemd.sh"
            exit 2
            ;;
    esac
    shift
done

umask 022
work=$(mktemp -d /var/tmp/daemonize2-systemd.XXXXXX)
container=
: >"$work/groups"

# Ends whatever is left in the container's control groups, and these too.
end_container() {
    [ -z "$container" ] || kill -KILL "$container" 2>/dev/null || true
    while read -r group; do
        for _ in $(seq 50); do
            left=$(find "$group" -name cgroup.procs -exec cat {} + 2>/dev/null | sort -u)
            [ -n "$left" ] || break
            # shellcheck disable=SC2086 # several words
            kill -KILL $left 2>/dev/null || true
            sleep 0.1
        done
        find "$group" -depth -type d -exec rmdir {} + 2>/dev/null || true
    done <"$work/groups"
    [ -z "$container" ] || wait "$container" 2>/dev/null || true
    container=
}

finish() {
    status=$?
    trap '' INT TERM HUP
    end_container
    rm -rf "$work"
    exit "$status"
}
trap finish EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

# A control group of our own in each hierarchy that systemd uses: the one, or
# on older systems that which has its name, and perhaps both.
make_groups() {
    # shellcheck disable=SC2013 # words without blanks
    for hierarchy in $(awk '$3 == "cgroup2" || ($3 == "cgroup" && $4 ~ /name=systemd/) { print $2 }' /proc/self/mounts); do
        group=$hierarchy/${work##*/}
        mkdir "$group" 2>>"$work/log" || return 1
        echo "$group" >>"$work/groups"
    done
    [ -s "$work/groups" ] || echo "no control groups are mounted" >>"$work/log"
    [ -s "$work/groups" ]
}

# Runs the container with the words for systemd-nspawn, for $1 seconds at most.
run_container() {
    seconds=$1
    shift
    mkdir -p "$work/mnt" "$work/out"
    # In the background, since a shell that waits in the foreground sees to no
    # signal; and if the shell is killed, so is the container.
    setpriv --pdeathsig KILL unshare --mount --propagation private \
        sh "$root/ci/systemd.sh" --container "$work" "$@" >>"$work/log" 2>&1 </dev/null &
    container=$!
    ticks=$((seconds * 5))
    while kill -0 "$container" 2>/dev/null && [ "$ticks" -gt 0 ]; do
        ticks=$((ticks - 1))
        sleep 0.2
    done
    status=0
    if [ "$ticks" -gt 0 ]; then
        wait "$container" || status=$?
        container=
    else
        say "the container was still running after $seconds s"
        status=124
    fi
    end_container
    return "$status"
}

# Prints why this machine cannot do it; nothing, if it can.
obstacle() {
    if [ "$(uname -s)" != Linux ]; then
        echo "not Linux"
        return
    elif [ "$(id -u)" != 0 ]; then
        echo "not root"
        return
    fi
    if ! command -v systemd-nspawn >/dev/null 2>&1 && command -v apt-get >/dev/null 2>&1; then
        {
            apt-get -q update
            DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends systemd-container
        } >"$work/apt" 2>&1 </dev/null || tail -n 5 "$work/apt" >&2
    fi
    for tool in systemd-nspawn setpriv unshare; do
        command -v "$tool" >/dev/null 2>&1 || {
            echo "no $tool"
            return
        }
    done
    # Whatever else may be in the way shows when a container runs nothing.
    if ! { make_groups && run_container 30 /bin/true; }; then
        echo "no container can be run: $(tail -n 1 "$work/log")"
        return
    fi
}

# --- The cases ---------------------------------------------------------------

passed=0
failed=0
skipped=0
mode=skip

# $1: the case, whose directory the container wrote; then what is asserted of it.
check() {
    name=$1
    shift
    if [ "$mode" = skip ]; then
        echo "skipped $name"
        skipped=$((skipped + 1))
        return
    fi
    seen=$work/out/$name
    if [ ! -d "$seen" ]; then
        echo "FAILED $name"
        echo "    the container did not get to it"
        failed=$((failed + 1))
        return
    fi
    # In a subshell each, for an unset variable ends it; and what a command
    # says of a file that the container has not written is a reason as well.
    if ("$@") >"$work/reasons" 2>&1 && [ ! -s "$work/reasons" ]; then
        echo "ok $name"
        passed=$((passed + 1))
    else
        echo "FAILED $name"
        failed=$((failed + 1))
        sed 's/^/    /' "$work/reasons"
        for file in systemctl pid-file processes answer lock end rounds complaints journal; do
            [ ! -s "$seen/$file" ] || tail -n 60 "$seen/$file" | sed "s/^/    $file: /"
        done
    fi
    describe
}

# One line of what systemctl said.
describe() {
    [ ! -e "$seen/show" ] || (
        printf '    %s (%s), Result=%s, MainPID=%s' "$(show ActiveState)" "$(show SubState)" \
            "$(show Result)" "$(show MainPID)"
        [ ! -e "$seen/pid-file" ] || printf ', pid file: %s' "$(cat "$seen/pid-file")"
        printf '\n'
    )
}

# The assertions below say what is wrong; silence is success.
expect() {
    # $1: what, $2: what it is, $3: what it should be
    [ "$2" = "$3" ] || echo "$1 is '$2', not '$3'"
}

show() { sed -n "s/^$1=//p" "$seen/show"; }

state() {
    expect "ActiveState" "$(show ActiveState)" "$1"
    expect "SubState" "$(show SubState)" "$2"
    expect "Result" "$(show Result)" "$3"
}

# What systemd says when a daemon and its pid file are not as it wants them. $1:
# what else it should not say.
no_complaints() {
    ! grep -E "PID file|not our child|does not belong|left-over|Refusing|Cannot find unit${1-}" "$seen/journal"
}

# Active, with one process, which is the main process, has systemd as its
# parent, and has written its pid. $1: 'self' if it is the process that systemd
# started, 'daemon' if it is not; $2: the program.
runs() {
    expect "systemctl's status" "$(cat "$seen/status")" 0
    state active running success
    pid=$(show MainPID)
    expect "the pid file" "$(cat "$seen/pid-file")" "$pid"
    expect "the number of processes" "$(wc -l <"$seen/processes")" 1
    read -r process parent started program <"$seen/processes"
    expect "the process" "$process" "$pid"
    expect "the process's parent" "$parent" 1
    expect "the program" "$program" "$2"
    if [ "$1" = self ]; then
        expect "the process that systemd started" "$started" "$pid"
    elif [ "$1" = unnamed ]; then
        # The script has unset SYSTEMD_EXEC_PID.
        expect "the process that systemd started" "$started" -
    elif [ "$started" = "$pid" ] || [ "$started" = - ]; then
        echo "systemd started '$started', the daemon is $pid"
    fi
    no_complaints
}

# As `runs`, and a client is served by that very process.
serves() {
    runs "$@"
    sed 's/^.* from pid //' "$seen/answer" >"$work/answer"
    expect "who answers" "$(cat "$work/answer")" "$(show MainPID)"
}

# $1: the case before, or its file with a pid; then as `runs` or `serves` wants.
another() {
    before=$(sed -n 's/^MainPID=//p' "$work/out/$1/show")
    shift
    [ "$before" != "$(show MainPID)" ] || echo "the main process is still $before"
    "$@"
}

# As `another`, but the main process is still the same, and executes its next program.
same() {
    before=$(sed -n 's/^MainPID=//p' "$work/out/$1/show")
    shift
    expect "the main process" "$(show MainPID)" "$before"
    expect "the program's generation" "$(cat "$seen/generation")" 2
    "$@"
}

came_back() {
    expect "NRestarts" "$(show NRestarts)" 1
    killed=$(cat "$seen/before")
    [ "$killed" != 0 ] || echo "there was no main process to kill"
    [ "$killed" != "$(show MainPID)" ] || echo "the main process is still $killed"
    grep -q "Main process exited, code=killed, status=9/KILL" "$seen/journal" ||
        echo "the journal does not tell of the kill"
    "$@"
}

stopped() {
    expect "systemctl's status" "$(cat "$seen/status")" 0
    state inactive dead success
    expect "MainPID" "$(show MainPID)" 0
    # What is left running.
    cat "$seen/processes"
    grep -q "Deactivated successfully" "$seen/journal" || echo "the journal tells of no clean end"
    no_complaints
}

stopped_and_unlocked() {
    stopped
    expect "the lock" "$(cat "$seen/lock")" free
}

# $1: what the journal has to say of the cause; $2: 'caller' if the program is
# one that has its daemon back after a failure (`execute`), and ends it itself
# while the launcher ends.
failed_for() {
    expect "systemctl's status" "$(cat "$seen/status")" 1
    state failed failed exit-code
    grep -q -F "$1" "$seen/journal" || echo "the journal does not say '$1'"
    # What is left running.
    cat "$seen/processes"
    if [ "$2" = caller ]; then
        no_complaints
    else
        no_complaints "|remains running"
    fi
}

# The other daemon is what is left, untouched. $1: as $2 above.
failed_for_holder() {
    holder=$(cat "$seen/holder")
    expect "the number of holders" "$(grep -c "^$holder 1 [0-9-]* service$" "$seen/processes")" 1
    sed "/^$holder /d" "$seen/processes" >"$work/others"
    mv "$work/others" "$seen/processes"
    failed_for "cannot lock pid file /run/daemonize2-service/service.pid: held by running daemon $holder" "$1"
}

# $1: how often.
each_time() {
    expect "the number of rounds" "$(wc -l <"$seen/rounds")" "$1"
    # The same pid at each place, and no pid twice in a row.
    awk '{
        pid = $3; sub(/^MainPID=/, "", pid)
        if ($0 != "status=0 ActiveState=active MainPID=" pid " SubState=running  pid-file=" pid " processes:" pid " 1 " ||
            pid == 0 || pid == before) print "round " NR ": " $0
        before = pid
    }' "$seen/rounds"
    no_complaints
}

stopped_cleanly() {
    stopped
    expect "the end" "$(cat "$seen/end")" "success exited 0"
    # What is left in the runtime directory.
    cat "$seen/directory"
}

# The notifications are those of the main process: systemd believes no other.
pinged() {
    state active running success
    expect "NRestarts" "$(show NRestarts)" 0
    expect "the pings of the watchdog" "$(cat "$seen/pings")" 2
    no_complaints "|reception only permitted"
}

reloaded() {
    state active running success
    expect "StatusText" "$(show StatusText)" reloaded
    no_complaints "|reception only permitted"
}

# Not by systemctl. The socket stays.
ended_by_itself() {
    state inactive dead success
    expect "the status before the end" "$(cat "$seen/stopping")" stopping
    expect "the socket" "$(cat "$seen/socket")" active
    no_complaints "|reception only permitted"
}

# The watchdog is that of the process that hangs.
missed_by_watchdog() {
    state failed failed watchdog
    grep -q "Watchdog timeout" "$seen/journal" || echo "the journal tells of no timeout"
}

verified() {
    expect "the status of systemd-analyze verify" "$(cat "$seen/status")" 0
    ! grep -E 'service-(forking|notify)\.service|(tokio|upgrade)\.service|socket-activation\.(service|socket)' \
        "$seen/complaints"
}

all_cases() {
    check unit-files verified

    for kind in forking notify launcher script; do
        process=daemon
        program=service
        served=serves
        ends=caller
        case $kind in
            notify) process=self ;;
            script) process=unnamed ;;
            launcher)
                program=server_with_deferred_readiness
                served=runs
                ends=library
                ;;
        esac
        check "$kind-start" "$served" "$process" "$program"
        check "$kind-restart" another "$kind-start" "$served" "$process" "$program"
        check "$kind-stop" stopped_and_unlocked
        check "$kind-killed" came_back "$served" "$process" "$program"
        check "$kind-missing-directory" failed_for \
            "cannot open pid file /run/daemonize2-missing/pid: No such file or directory" library
        check "$kind-locked" failed_for_holder "$ends"
        [ "$kind" = launcher ] ||
            check "$kind-initialize" failed_for "the initialization failed: Is a directory" "$ends"
        case $kind in
            forking) check "$kind-restarts" each_time 50 ;;
            script) check "$kind-restarts" each_time 20 ;;
        esac
    done

    for kind in forking notify; do
        process=daemon
        [ "$kind" = forking ] || process=self
        check "$kind-activated" serves "$process" socket_activation
        check "$kind-watchdog" pinged
        check "$kind-reload" reloaded
        check "$kind-end" ended_by_itself
        check "$kind-hung" missed_by_watchdog
    done

    check upgrade-start runs daemon upgrade
    check upgrade-exec same upgrade-start runs daemon upgrade
    check upgrade-successor another upgrade-exec runs daemon upgrade
    check upgrade-stop stopped

    check tokio-start runs self tokio
    check tokio-stop stopped_cleanly
}

close() {
    [ -z "$keep" ] || [ ! -d "$work/out" ] || {
        mkdir -p "$keep"
        cp -R "$work/out/." "$keep"
    }
    printf '%s passed, %s failed, %s skipped\n' "$passed" "$failed" "$skipped"
    [ "$failed" = 0 ]
    exit
}

# --- The run -----------------------------------------------------------------

# Not in a subshell: what it starts is ended by this one.
obstacle >"$work/obstacle"
if [ -s "$work/obstacle" ]; then
    say "skipped: $(cat "$work/obstacle")"
    all_cases
    if [ "$required" = true ]; then
        say "--required: what was skipped has failed"
        failed=$skipped
        skipped=0
    fi
    close
fi

cd "$root"
printf '=== build\n'
cargo build --locked --message-format=json-render-diagnostics \
    --example service --example tokio --example server_with_deferred_readiness \
    --example socket_activation --example upgrade >"$work/build.json"
mkdir "$work/programs"
sed -n 's/^{"reason":"compiler-artifact",.*"kind":\["example"\].*"executable":"\([^"]*\)".*/\1/p' "$work/build.json" |
    while read -r program; do
        cp "$program" "$work/programs/"
    done

printf '=== systemd in a container\n'
make_groups
started=$(date +%s)
status=0
run_container "$limit" --boot systemd.unit=probe.target || status=$?
echo "$(cat "$work/out/version" 2>/dev/null || echo "no systemd"): $(($(date +%s) - started)) s"
mode=judge
all_cases
if [ ! -e "$work/out/complete" ]; then
    say "the container ended with status $status before its work was done; the end of its log:"
    tail -n 30 "$work/log" >&2
fi
close
