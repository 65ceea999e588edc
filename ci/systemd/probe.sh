#!/bin/bash
# Runs in the container that ci/systemd.sh boots. Starts and stops the units
# and writes down what there is to see, a directory for each case; ci/systemd.sh
# judges it.
set -u

out=/out
home=/run/daemonize2-service
pid_file=$home/service.pid
missing=/run/daemonize2-missing/pid

# --- What there is to see ----------------------------------------------------

# The processes of the programs under test, whatever they call themselves, as
# 'PID PARENT PID-THAT-SYSTEMD-STARTED PROGRAM'.
processes() {
    local process program parent started
    while read -r process program; do
        parent=$(sed -n 's/^PPid:\t//p' "$process/status")
        started=$(tr '\0' '\n' <"$process/environ" | sed -n 's/^SYSTEMD_EXEC_PID=//p')
        echo "${process#/proc/} $parent ${started:--} ${program##*/}"
    done < <(find /proc -maxdepth 2 -name exe -lname '/usr/local/bin/*' -printf '%h %l\n') 2>/dev/null
}

# $1: the case, $2: the unit, $3: its pid file.
look() {
    systemctl show -p ActiveState -p SubState -p MainPID -p Result -p NRestarts -p StatusText "$2" \
        >"$out/$1/show"
    processes >"$out/$1/processes"
    cat "$3" >"$out/$1/pid-file" 2>/dev/null || rm "$out/$1/pid-file"
    journalctl --sync
    journalctl -q -o cat --cursor-file="$out/cursor" -u "$2" >"$out/$1/journal"
}

# Waits, but not for long, until there are $1 processes.
settle() {
    for _ in {1..20}; do
        [ "$(processes | wc -l)" != "$1" ] || break
        sleep 0.1
    done
}

# $1: the unit. systemd waits for the launcher's end only where it was told to
# (Type=forking); a launcher that tells systemd itself ends after that.
settle_start() {
    case $1 in
        server-launcher.service | service-script.service) settle 1 ;;
    esac
}

# What the service answers to a client.
ask() {
    local address client
    address=$(cat "$home/address") || return
    exec {client}<>"/dev/tcp/${address/://}" || return
    timeout 5 cat <&"$client"
    exec {client}>&-
}

# $1: the case, then what to ask of systemctl.
systemctl_for() {
    local name=$1
    shift
    mkdir -p "$out/$name"
    # What the journal has so far belongs to the cases before.
    journalctl --sync
    journalctl -q --cursor-file="$out/cursor" -u "${!#}" >/dev/null
    # Longer than any start may take, so that a start that hangs is seen to.
    timeout 20 systemctl "$@" >"$out/$name/systemctl" 2>&1
    echo $? >"$out/$name/status"
}

# The unit $1 with the lines of the standard input on top of its own; without
# them again after `plain`.
variant() {
    mkdir -p "/run/systemd/system/$1.d"
    cat >"/run/systemd/system/$1.d/variant.conf"
    systemctl daemon-reload
}

plain() {
    rm -r "/run/systemd/system/$1.d"
    systemctl daemon-reload
    systemctl reset-failed "$1"
}

main_pid() { systemctl show -p MainPID --value "$1"; }

# --- The cases of one kind of start ------------------------------------------

# $1: the kind, which is the first part of the cases' names, $2: the unit.
lifecycle() {
    local kind=$1 unit=$2 name

    systemctl_for "$kind-start" start "$unit"
    settle_start "$unit"
    look "$kind-start" "$unit" "$pid_file"
    [[ $unit != service-* ]] || ask >"$out/$kind-start/answer" 2>&1

    systemctl_for "$kind-restart" restart "$unit"
    settle_start "$unit"
    look "$kind-restart" "$unit" "$pid_file"
    [[ $unit != service-* ]] || ask >"$out/$kind-restart/answer" 2>&1

    # A deleted file can still be tried for its lock.
    name=$kind-stop
    exec 9<"$pid_file"
    systemctl_for "$name" stop "$unit"
    if flock -n 9; then echo free; else echo held; fi >"$out/$name/lock"
    exec 9<&-
    look "$name" "$unit" "$pid_file"

    name=$kind-killed
    variant "$unit" <<<$'[Service]\nRestart=on-failure\nRuntimeDirectoryPreserve=yes'
    systemctl_for "$name" start "$unit"
    main_pid "$unit" >"$out/$name/before"
    # Not 0, which is every process of this script's group.
    [ "$(cat "$out/$name/before")" = 0 ] || kill -KILL "$(cat "$out/$name/before")"
    for _ in {1..100}; do
        [[ $(systemctl show -p NRestarts -p SubState --value "$unit" | tr '\n' ' ') != '1 running ' ]] || break
        sleep 0.1
    done
    settle_start "$unit"
    look "$name" "$unit" "$pid_file"
    [[ $unit != service-* ]] || ask >"$out/$name/answer" 2>&1
    systemctl stop "$unit"
    plain "$unit"
    rm -rf "$home"
}

# $1: the case, $2: the unit, $3: its pid file, $4: how many processes there
# are in the end, if the program is one that has its daemon back after a failure
# and ends it itself; the variant is the standard input. systemd ends no daemon
# that the launcher leaves behind.
failure() {
    { printf '[Service]\nKillMode=process\nTimeoutStartSec=15\n' && cat; } | variant "$2"
    systemctl_for "$1" start "$2"
    [ $# != 4 ] || settle "$4"
    look "$1" "$2" "$3"
    systemctl stop "$2"
    plain "$2"
}

# $1: the kind, $2: the unit, $3: an ExecStart whose pid file cannot be.
failures() {
    local holder lines mine=()
    lines=$'ExecStart=\nExecStart='$3
    [ "$1" != forking ] || lines+=$'\nPIDFile='$missing
    failure "$1-missing-directory" "$2" "$missing" <<<"$lines"

    # Another daemon has the pid file. It is no process of the unit.
    mkdir -m 755 "$home"
    RUNTIME_DIRECTORY=$home /usr/local/bin/service start >/dev/null
    holder=$(cat "$pid_file")
    [[ $2 != service-* ]] || mine=(1)
    failure "$1-locked" "$2" "$pid_file" "${mine[@]}" <<<'RuntimeDirectoryPreserve=yes'
    echo "$holder" >"$out/$1-locked/holder"
    kill "$holder"
    for _ in {1..50}; do
        [ -e "/proc/$holder" ] || break
        sleep 0.1
    done
    rm -rf "$home"

    [[ $2 == service-* ]] || return
    failure "$1-initialize" "$2" "$pid_file" 0 <<<"ExecStartPre=/bin/mkdir $home/address"
}

# $1: the kind, $2: the unit, $3: how often.
restarts() {
    local name=$1-restarts status
    systemctl_for "$name" start "$2"
    for ((round = 1; round <= $3; round++)); do
        timeout 20 systemctl restart "$2"
        status=$?
        settle_start "$2"
        # What hangs once would use up the time of all other cases.
        [ "$status" != 124 ] || round=$3
        echo "status=$status" \
            "$(systemctl show -p ActiveState -p MainPID -p SubState "$2" | sort | tr '\n' ' ')" \
            "pid-file=$(cat "$pid_file") processes:$(processes | cut -d ' ' -f 1,2 | tr '\n' ' ')"
    done >"$out/$name/rounds"
    look "$name" "$2" "$pid_file"
    systemctl stop "$2"
}

# --- Socket activation and the watchdog ----------------------------------------

property() { systemctl show -p "$1" --value "$activated"; }

# Waits, but not for long, until the property $1 is $2.
until_is() {
    for _ in {1..100}; do
        [ "$(property "$1")" != "$2" ] || break
        sleep 0.1
    done
}

# What the server answers, which systemd starts if it does not run.
connect() {
    local client
    exec {client}<>/dev/tcp/127.0.0.1/7007 || return
    timeout 10 cat <&"$client"
    exec {client}>&-
}

# $1: the kind, whose variant of the unit is in place.
activation() {
    local kind=$1 name last ping pings=0

    name=$kind-activated
    systemctl_for "$name" start socket-activation.socket
    connect >"$out/$name/answer" 2>&1
    # The answer may come before systemd has reaped the launcher.
    until_is SubState running
    look "$name" "$activated" "$activated_pid"

    name=$kind-watchdog
    mkdir -p "$out/$name"
    last=$(property WatchdogTimestampMonotonic)
    for _ in {1..100}; do
        ping=$(property WatchdogTimestampMonotonic)
        [ "$ping" = "$last" ] || pings=$((pings + 1))
        last=$ping
        [ "$pings" -lt 2 ] || break
        sleep 0.1
    done
    echo "$pings" >"$out/$name/pings"
    look "$name" "$activated" "$activated_pid"

    name=$kind-reload
    mkdir -p "$out/$name"
    kill -HUP "$(main_pid "$activated")"
    until_is StatusText reloaded
    until_is SubState running
    look "$name" "$activated" "$activated_pid"

    name=$kind-end
    mkdir -p "$out/$name"
    kill -TERM "$(main_pid "$activated")"
    until_is SubState dead
    property StatusText >"$out/$name/stopping"
    systemctl is-active socket-activation.socket >"$out/$name/socket"
    look "$name" "$activated" "$activated_pid"

    name=$kind-hung
    mkdir -p "$out/$name"
    connect >/dev/null
    until_is SubState running
    kill -STOP "$(main_pid "$activated")"
    until_is SubState failed
    look "$name" "$activated" "$activated_pid"
    systemctl stop socket-activation.socket
    systemctl reset-failed "$activated"
}

# --- Upgrades ------------------------------------------------------------------

generation() { tr '\0' '\n' <"/proc/$(main_pid upgrade.service)/environ" | sed -n 's/^GENERATION=//p'; }

upgrades() {
    local unit=upgrade.service path=/run/daemonize2-upgrade/pid before

    systemctl_for upgrade-start start "$unit"
    look upgrade-start "$unit" "$path"

    systemctl_for upgrade-exec reload "$unit"
    for _ in {1..100}; do
        [ "$(generation)" != 2 ] || break
        sleep 0.1
    done
    generation >"$out/upgrade-exec/generation"
    look upgrade-exec "$unit" "$path"

    before=$(main_pid "$unit")
    systemctl_for upgrade-successor kill --kill-whom=main --signal=USR2 "$unit"
    for _ in {1..100}; do
        [ "$(main_pid "$unit")" = "$before" ] || break
        sleep 0.1
    done
    settle 1
    look upgrade-successor "$unit" "$path"

    systemctl_for upgrade-stop stop "$unit"
    look upgrade-stop "$unit" "$path"
}

# --- All of them -------------------------------------------------------------

systemctl --version | head -n 1 >"$out/version"

mkdir "$out/unit-files"
systemd-analyze verify service-forking.service service-notify.service tokio.service \
    upgrade.service socket-activation.socket socket-activation.service \
    >"$out/unit-files/complaints" 2>&1
echo $? >"$out/unit-files/status"

lifecycle forking service-forking.service
failures forking service-forking.service "/usr/local/bin/tokio $missing"
restarts forking service-forking.service 50

lifecycle notify service-notify.service
failures notify service-notify.service "/usr/local/bin/tokio $missing"

lifecycle launcher server-launcher.service
failures launcher server-launcher.service "/usr/local/bin/server_with_deferred_readiness $missing"

lifecycle script service-script.service
failures script service-script.service "/bin/sh -c '/usr/local/bin/tokio $missing || exit 1'"
restarts script service-script.service 20

activated=socket-activation.service
activated_pid=/run/daemonize2-activation/pid
activation forking
variant "$activated" <<END
[Service]
Type=notify
ExecStart=
ExecStart=/usr/local/bin/socket_activation $activated_pid
END
activation notify
plain "$activated"

upgrades

# That the directory stays shows who removed the file. systemctl forgets how an
# inactive unit ended.
mkdir "$out/tokio-stop"
variant tokio.service <<'END'
[Service]
RuntimeDirectoryPreserve=yes
ExecStopPost=/bin/sh -c 'echo ${SERVICE_RESULT} ${EXIT_CODE} ${EXIT_STATUS} >/out/tokio-stop/end'
END
tokio=/run/daemonize2-tokio
systemctl_for tokio-start start tokio.service
look tokio-start tokio.service "$tokio/tokio.pid"
systemctl_for tokio-stop stop tokio.service
look tokio-stop tokio.service "$tokio/tokio.pid"
ls -A "$tokio" >"$out/tokio-stop/directory"

touch "$out/complete"
