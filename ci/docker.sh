#!/bin/sh
# Runs the suite in a container (Dockerfile), without a network.
#
#   ci/docker.sh [--with-engine] [--prepare] [--sample] [--keep] [--base IMAGE]
#                [-- ARGUMENT...]
#
#   --with-engine   on a Debian machine without Docker, as root: installs an
#                   engine, starts it for the time of the run only, with its
#                   data in a directory of ours, and makes the base image with
#                   debootstrap from the machine's own mirror, so that no
#                   registry of images is needed
#   --prepare       with --with-engine: makes the base image, and does no more.
#                   It mostly waits for the mirror and the disk, so that it can
#                   run beside other work; a run that begins meanwhile waits
#   --sample        try as many faults, kills and combinations as `cargo test`
#                   does, rather than all: TEST_EXTENT of ci/test.sh
#   --keep          keep the image afterwards
#   --base IMAGE    instead of the Dockerfile's
#   ARGUMENT...     for `docker run`, such as --cap-drop SETUID
#
# Tells how long each part takes. With --with-engine, no process, mount, network
# interface or cgroup is left behind, however the run ends.
set -eu

root=$(cd "$(dirname "$0")/.." && pwd -P)
cache=${DAEMONIZE2_CACHE:-${XDG_CACHE_HOME:-${HOME:-/var}/.cache}/daemonize2}

say() { printf '%s\n' "docker.sh: $*" >&2; }

# In a mount namespace of its own, which takes along what the engine and
# debootstrap mount. The lock is held by the engine, too: no other may use its
# data.
for argument; do
    case $argument in
        --) break ;;
        --with-engine)
            [ -z "${DAEMONIZE2_OWN_MOUNTS-}" ] || break
            [ "$(id -u)" = 0 ] || {
                say "--with-engine needs root"
                exit 1
            }
            mkdir -p "$cache"
            DAEMONIZE2_OWN_MOUNTS=true
            export DAEMONIZE2_OWN_MOUNTS
            exec unshare --mount flock --no-fork "$cache/docker.lock" sh "$0" "$@"
            ;;
    esac
done

image=daemonize2-test
with_engine=false
prepare=false
extent=all
keep=false
base=

while [ $# -gt 0 ]; do
    case $1 in
        --with-engine) with_engine=true ;;
        --prepare) prepare=true ;;
        --sample) extent=sample ;;
        --keep) keep=true ;;
        --base)
            base=$2
            shift
            ;;
        --)
            shift
            break
            ;;
        *)
            say "unknown argument '$1'; see the head of ci/docker.sh"
            exit 2
            ;;
    esac
    shift
done

work=$(mktemp -d)
engine=
worker=
# shellcheck disable=SC2317 # called by the trap
finish() {
    # unshare(1) heeds no other signal, and takes its children along.
    [ -z "$worker" ] || kill -KILL "$worker" 2>/dev/null || true
    if [ -n "$engine" ]; then
        # It takes its own children along.
        kill "$engine" 2>/dev/null || true
        wait "$engine" 2>/dev/null || true
        find /sys/fs/cgroup -depth -type d -path "*/${work##*/}*" -exec rmdir {} + 2>/dev/null || true
        awk -v work="$work/" 'index($2, work) == 1 { print $2 }' /proc/self/mounts | sort -r |
            while read -r mount; do umount -l "$mount"; done
    fi
    rm -rf "$work"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# Runs a command and tells how long it took. The shell waits for it in a way
# that a signal interrupts.
part() {
    name=$1
    shift
    started=$(date +%s)
    "$@" </dev/null &
    worker=$!
    status=0
    wait "$worker" || status=$?
    worker=
    say "$name: $(($(date +%s) - started)) s"
    return "$status"
}

# --- An engine of our own ----------------------------------------------------

# Packages may start services of their own, which nobody here wants.
install_packages() {
    policy=/usr/sbin/policy-rc.d
    if [ -e "$policy" ]; then
        policy=
    else
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod 755 "$policy"
    fi
    status=0
    {
        apt-get -q update &&
            DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 \
                install -q -y --no-install-recommends "$@"
    } >&2 || status=$?
    [ -z "$policy" ] || rm -f "$policy"
    return "$status"
}

start_engine() {
    missing=
    command -v dockerd >/dev/null 2>&1 || missing=docker.io
    command -v debootstrap >/dev/null 2>&1 || missing="$missing debootstrap"
    # shellcheck disable=SC2086 # several words
    [ -z "$missing" ] || install_packages $missing
    mkdir -p "$cache/docker"
    socket=$work/engine.sock
    # The build uses the machine's network and the run none, so that neither a
    # bridge nor a packet filter is needed.
    setpriv --pdeathsig TERM dockerd --host "unix://$socket" --data-root "$cache/docker" \
        --exec-root "$work/exec" --pidfile "$work/engine.pid" --shutdown-timeout 1 \
        --bridge none --iptables=false --ip-forward=false \
        --exec-opt native.cgroupdriver=cgroupfs --cgroup-parent "${work##*/}" \
        >"$work/engine.log" 2>&1 </dev/null &
    engine=$!
    DOCKER_HOST=unix://$socket
    # The builder that every version has.
    DOCKER_BUILDKIT=0
    export DOCKER_HOST DOCKER_BUILDKIT
    for _ in $(seq 300); do
        ! docker info >/dev/null 2>&1 || return 0
        kill -0 "$engine" 2>/dev/null || break
        sleep 0.2
    done
    say "the engine did not start:"
    tail -n 20 "$work/engine.log" >&2
    exit 1
}

# Debian 13 has the oldest Rust that is supported as its own.
make_base() {
    base=daemonize2/debian-rust
    ! docker image inspect "$base" >/dev/null 2>&1 || return 0
    mirror=$(sed -n 's/^URIs: *//p' /etc/apt/sources.list.d/debian.sources 2>/dev/null | head -n 1)
    [ -n "$mirror" ] || mirror=$(sed -n 's/^deb \(\[[^]]*\] \)\{0,1\}\([^ ]*\) .*/\2/p' /etc/apt/sources.list | head -n 1)
    tree=$work/base
    part "debootstrap" unshare --pid --fork --kill-child debootstrap --variant=minbase \
        --include=ca-certificates,gcc,libc6-dev,logrotate,rustc,cargo trixie "$tree" "$mirror" >&2
    # What the machine trusts, so that cargo reaches its registry as it does here.
    cp /etc/ssl/certs/ca-certificates.crt "$tree/etc/ssl/certs/"
    part "base image" import_base >&2
    rm -rf "$tree"
}

# shellcheck disable=SC2317 # called by part
import_base() {
    tar -C "$tree" --one-file-system --exclude='./proc/*' --exclude='./sys/*' \
        --exclude='./var/cache/apt/*' -cf - . | docker import - "$base"
}

if [ "$with_engine" = true ]; then
    start_engine
    # What runs that were cut off have left in the engine's data.
    docker container prune --force >/dev/null
    [ -n "$base" ] || make_base
    [ "$prepare" = false ] || exit 0
elif ! docker info >/dev/null 2>&1; then
    say "there is no Docker engine to talk to; as root on Debian, --with-engine brings one"
    exit 1
fi

# --- Build and run -----------------------------------------------------------

# shellcheck disable=SC2317 # called by part
build() {
    set -- -t "$image" "$root"
    [ -z "$base" ] || set -- --build-arg BASE="$base" "$@"
    [ "$with_engine" = false ] || set -- --network host "$@"
    docker build "$@"
}

part "image" build
status=0
part "run" docker run --rm --network none --env TEST_EXTENT="$extent" "$@" "$image" || status=$?
if [ "$keep" = false ]; then
    docker image rm "$image" >/dev/null
    [ "$with_engine" = false ] || docker image prune --force >/dev/null
fi
exit "$status"
