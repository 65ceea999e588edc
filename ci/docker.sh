#!/bin/sh
# Runs the suite in a container (Dockerfile), without a network.
#
#   ci/docker.sh [--with-engine] [--keep] [--base IMAGE] [-- ARGUMENT...]
#
#   --with-engine   on a Debian machine without Docker, as root: installs an
#                   engine, starts it for the time of the run only, with its
#                   data in a folder of ours, and makes the base image with
#                   debootstrap from the machine's own mirror, so that no
#                   registry of images is needed
#   --keep          keep the image afterwards
#   --base IMAGE    instead of the Dockerfile's
#   ARGUMENT...     for `docker run`, such as --cap-drop SETUID
set -eu

root=$(cd "$(dirname "$0")/.." && pwd -P)
cache=${DAEMONIZE2_CACHE:-${XDG_CACHE_HOME:-${HOME:-/var}/.cache}/daemonize2}
image=daemonize2-test
with_engine=false
keep=false
base=

while [ $# -gt 0 ]; do
    case $1 in
        --with-engine) with_engine=true ;;
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
            echo "docker.sh: unknown argument '$1'; see the head of ci/docker.sh" >&2
            exit 2
            ;;
    esac
    shift
done

say() { printf '%s\n' "docker.sh: $*" >&2; }

work=$(mktemp -d)
engine=
# shellcheck disable=SC2317 # called by the trap
finish() {
    if [ -n "$engine" ]; then
        # By its id; it takes its own children along.
        kill "$engine" 2>/dev/null || true
        wait "$engine" 2>/dev/null || true
    fi
    rm -rf "$work"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# --- An engine of our own ----------------------------------------------------

start_engine() {
    [ "$(id -u)" = 0 ] || {
        say "--with-engine needs root"
        exit 1
    }
    if ! command -v dockerd >/dev/null 2>&1 || ! command -v iptables >/dev/null 2>&1; then
        apt-get -q update >&2
        DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends docker.io iptables >&2
    fi
    # The package may have started a service; ours is beside it, not instead.
    mkdir -p "$cache/docker"
    socket=$work/engine.sock
    dockerd --host "unix://$socket" --data-root "$cache/docker" --exec-root "$work/exec" \
        --pidfile "$work/engine.pid" >"$work/engine.log" 2>&1 </dev/null &
    engine=$!
    DOCKER_HOST=unix://$socket
    export DOCKER_HOST
    for _ in $(seq 60); do
        ! docker info >/dev/null 2>&1 || return 0
        kill -0 "$engine" 2>/dev/null || break
        sleep 1
    done
    say "the engine did not start:"
    tail -n 20 "$work/engine.log" >&2
    exit 1
}

# Debian 13 has the oldest Rust that is supported as its own.
make_base() {
    base=daemonize2/debian-rust
    ! docker image inspect "$base" >/dev/null 2>&1 || return 0
    command -v debootstrap >/dev/null 2>&1 ||
        DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends debootstrap >&2
    mirror=$(sed -n 's/^URIs: *//p' /etc/apt/sources.list.d/debian.sources 2>/dev/null | head -n 1)
    [ -n "$mirror" ] || mirror=$(sed -n 's/^deb \(\[[^]]*\] \)\{0,1\}\([^ ]*\) .*/\2/p' /etc/apt/sources.list | head -n 1)
    tree=$work/base
    debootstrap --variant=minbase \
        --include=ca-certificates,gcc,libc6-dev,rustc,cargo trixie "$tree" "$mirror" >&2
    # What the machine trusts, so that cargo reaches its registry as it does here.
    cp /etc/ssl/certs/ca-certificates.crt "$tree/etc/ssl/certs/"
    tar -C "$tree" --one-file-system --exclude='./proc/*' --exclude='./sys/*' \
        --exclude='./var/cache/apt/*' -cf - . | docker import - "$base" >&2
    rm -rf "$tree"
}

if [ "$with_engine" = true ]; then
    start_engine
    [ -n "$base" ] || make_base
elif ! docker info >/dev/null 2>&1; then
    say "there is no Docker engine to talk to; as root on Debian, --with-engine brings one"
    exit 1
fi

# --- Build and run -----------------------------------------------------------

if [ -n "$base" ]; then
    docker build --build-arg BASE="$base" -t "$image" "$root" </dev/null
else
    docker build -t "$image" "$root" </dev/null
fi
status=0
docker run --rm --network none "$@" "$image" </dev/null || status=$?
[ "$keep" = true ] || docker image rm "$image" >/dev/null
exit "$status"
