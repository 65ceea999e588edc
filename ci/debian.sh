#!/bin/sh
# Runs the suite on Debian 13 with its own Rust, for this processor or another,
# in a chroot on a Debian machine, as root.
#
#   ci/debian.sh [--prepare] ARCHITECTURE [ARGUMENT...]
#
#   --prepare      makes the chroot, builds the tests, and runs nothing
#   ARCHITECTURE   Debian's name: amd64 for the machine's own processor, i386,
#                  arm64, or s390x, which is big-endian. The machine compiles for
#                  the other ones, and qemu-user executes what needs it
#   ARGUMENT       of ci/test.sh
#
# The environment is that of ci/test.sh. The chroot stays in a directory of ours,
# for all architectures, so that a second run takes it up again. The suite has
# namespaces of its own for mounts and processes: it sees no other process, and
# leaves none behind, however the run ends. Linux has one list of emulators for
# all namespaces: during a run for another processor our entry is in it.
set -eu

root=$(cd "$(dirname "$0")/.." && pwd -P)
cache=${DAEMONIZE2_CACHE:-${XDG_CACHE_HOME:-${HOME:-/var}/.cache}/daemonize2}

say() { printf '%s\n' "debian.sh: $*" >&2; }
die() {
    say "$*"
    exit 1
}

prepare=false
if [ "${1-}" = --prepare ]; then
    prepare=true
    shift
fi
architecture=${1-}
case $architecture in
    amd64)
        triplet=x86_64-linux-gnu
        rust=x86_64-unknown-linux-gnu
        ;;
    i386)
        triplet=i686-linux-gnu
        rust=i686-unknown-linux-gnu
        ;;
    arm64)
        triplet=aarch64-linux-gnu
        rust=aarch64-unknown-linux-gnu
        processor=aarch64
        ;;
    s390x)
        triplet=s390x-linux-gnu
        rust=s390x-unknown-linux-gnu
        processor=s390x
        ;;
    *) die "no architecture '$architecture'; see the head of ci/debian.sh" ;;
esac

[ "$(id -u)" = 0 ] || die "a chroot needs root"
command -v apt-get >/dev/null 2>&1 || die "needs Debian, for the packages of the chroot"
[ "$(dpkg --print-architecture)" = amd64 ] || die "runs on amd64 only"

# In a mount namespace of its own. The lock keeps two runs from using the chroot.
if [ -z "${DAEMONIZE2_OWN_MOUNTS-}" ]; then
    mkdir -p "$cache"
    DAEMONIZE2_OWN_MOUNTS=true
    export DAEMONIZE2_OWN_MOUNTS
    [ "$prepare" = false ] || set -- --prepare "$@"
    exec unshare --mount flock --no-fork "$cache/debian-13.lock" sh "$0" "$@"
fi
shift

tree=$cache/debian-13
handler=/proc/sys/fs/binfmt_misc/daemonize2-$architecture
worker=
# shellcheck disable=SC2317 # called by the trap
finish() {
    # unshare(1) heeds no other signal, and takes its children along.
    [ -z "$worker" ] || kill -KILL "$worker" 2>/dev/null || true
    [ ! -e "$handler" ] || echo -1 >"$handler"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# Runs a command with the chroot as root of its mounts, since no process in a
# chroot may make a user namespace, and with /proc of a process namespace of its
# own. The shell waits in a way that a signal interrupts, and the first process of
# the namespace reaps.
inside() {
    # shellcheck disable=SC2016 # for the shell inside
    unshare --mount --pid --fork --kill-child sh -c '
        mount -t proc proc "$0/proc" && mount --rbind /dev "$0/dev" &&
            mount -t tmpfs -o mode=1777 tmpfs "$0/tmp" && mount -t tmpfs tmpfs "$0/run" &&
            cd "$0" && pivot_root . mnt && umount -l /mnt && "$@"' "$tree" "$@" </dev/null &
    worker=$!
    status=0
    wait "$worker" || status=$?
    worker=
    return "$status"
}

# --- The chroot --------------------------------------------------------------

# Installs in the chroot that is being made or completed. Services are not started:
# there is no init.
install() {
    # shellcheck disable=SC2016 # for the shell inside
    unshare --mount --pid --fork --kill-child chroot "$into" sh -c '
        mount -t proc proc /proc && apt-get -q update &&
            DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "$@"' \
        sh "$@"
}

make_tree() {
    mirror=$(sed -n 's/^URIs: *//p' /etc/apt/sources.list.d/debian.sources 2>/dev/null | head -n 1)
    [ -n "$mirror" ] ||
        mirror=$(sed -n 's/^deb \(\[[^]]*\] \)\{0,1\}\([^ ]*\) .*/\2/p' /etc/apt/sources.list | head -n 1)
    if ! command -v debootstrap >/dev/null 2>&1; then
        apt-get -q update
        DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 \
            install -q -y --no-install-recommends debootstrap
    fi
    into=$tree.part
    rm -rf "$into"
    unshare --mount --pid --fork --kill-child \
        debootstrap --variant=minbase --include=ca-certificates trixie "$into" "$mirror"
    cp /etc/resolv.conf "$into/etc/resolv.conf"
    # The chroot is made anew if the machine stops meanwhile.
    echo force-unsafe-io >"$into/etc/dpkg/dpkg.cfg.d/unsafe-io"
    # With the small one of the packages that cron, which logrotate wants, asks for.
    install gcc libc6-dev logrotate procps rustc cargo systemd-standalone-sysusers
    # After apt: what the machine trusts, so that cargo reaches its registry as it
    # does here.
    cp /etc/ssl/certs/ca-certificates.crt "$into/etc/ssl/certs/"
    mkdir -p "$into/src/daemonize2" "$into/root/.cargo/registry"
    mv "$into" "$tree"
}

# What a program for another processor is compiled with, the libraries that it
# loads, and the emulator. The standard library is unpacked, never installed: it
# would bring the compiler of that processor.
add_architecture() {
    into=$tree
    case $architecture in
        i386)
            set -- gcc-i686-linux-gnu libc6-dev-i386-cross
            loader=lib/ld-linux.so.2
            ;;
        arm64)
            set -- gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user qemu-user-binfmt
            loader=lib/ld-linux-aarch64.so.1
            ;;
        s390x)
            set -- gcc-s390x-linux-gnu libc6-dev-s390x-cross qemu-user qemu-user-binfmt
            loader=lib/ld64.so.1
            ;;
    esac
    chroot "$tree" dpkg --add-architecture "$architecture"
    install "$@"
    # shellcheck disable=SC2016 # for the shell inside
    chroot "$tree" sh -c '
        cd /var/tmp && rm -f libstd-rust-dev_*.deb && apt-get download "libstd-rust-dev:$1" &&
            dpkg -x libstd-rust-dev_*.deb / && rm libstd-rust-dev_*.deb' sh "$architecture"
    # Where programs look for their loader, and the loader for libraries.
    ln -sf "/usr/$triplet/$loader" "$tree/$loader"
    libraries=$tree/usr/lib/$(echo "$triplet" | sed 's/^i686/i386/')
    mkdir -p "$libraries"
    for library in "$tree/usr/$triplet/lib"/*.so.*; do
        ln -sf "/usr/$triplet/lib/${library##*/}" "$libraries/"
    done
    # apt has replaced it.
    cp /etc/ssl/certs/ca-certificates.crt "$tree/etc/ssl/certs/"
    : >"$tree/var/lib/daemonize2-$architecture"
}

[ -d "$tree" ] || make_tree >&2
[ "$architecture" = amd64 ] || [ -e "$tree/var/lib/daemonize2-$architecture" ] || add_architecture >&2

# The kernel opens the emulator now (F), for every chroot, and takes the ids of a
# set-user-id program from the program (C).
register_emulator() {
    [ -e "${handler%/*}/register" ] ||
        mount -t binfmt_misc binfmt_misc "${handler%/*}" ||
        die "this kernel does not execute programs of another processor: no binfmt_misc"
    [ ! -e "$handler" ] || echo -1 >"$handler"
    # Debian's line is :name:type:offset:magic:mask:interpreter:flags.
    line=$(cat "$tree/usr/lib/binfmt.d/qemu-$processor.conf")
    magic=$(printf %s "$line" | cut -d : -f 5)
    mask=$(printf %s "$line" | cut -d : -f 6)
    printf ':%s:M::%s:%s:%s:OCF' "${handler##*/}" "$magic" "$mask" \
        "$tree/usr/bin/qemu-$processor" >"${handler%/*}/register"
}

case $architecture in
    arm64 | s390x) register_emulator ;;
esac

# --- The suite ---------------------------------------------------------------

# pivot_root(2) wants a mount.
mount --bind "$tree" "$tree"
mount --bind "$root" "$tree/src/daemonize2"
mount -o remount,bind,ro "$tree/src/daemonize2"
# What cargo has downloaded before.
registry=${CARGO_HOME:-$HOME/.cargo}
[ ! -d "$registry/registry" ] || {
    mount --bind "$registry/registry" "$tree/root/.cargo/registry"
}

set -- sh /src/daemonize2/ci/test.sh --create-users "$@"
[ "$prepare" = false ] || set -- "$@" --build
if [ "$architecture" = amd64 ]; then
    platform=linux
else
    platform=$architecture
    [ -z "${processor-}" ] || platform=qemu
    variable=$(printf %s "$rust" | tr 'a-z-' 'A-Z_')
    set -- CARGO_BUILD_TARGET="$rust" "CARGO_TARGET_${variable}_LINKER=$triplet-gcc" "$@"
fi
# An emulated processor is slow.
case $architecture in
    arm64 | s390x) set -- TESTER_SLOWNESS="${TESTER_SLOWNESS:-10}" TEST_TIMEOUT="${TEST_TIMEOUT:-3600}" "$@" ;;
    *) set -- TESTER_SLOWNESS="${TESTER_SLOWNESS:-1}" TEST_TIMEOUT="${TEST_TIMEOUT:-1800}" "$@" ;;
esac
inside env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root \
    CI=true CARGO_TERM_COLOR=never CARGO_TARGET_DIR=/var/tmp/target \
    CARGO_INCREMENTAL=0 CARGO_PROFILE_DEV_DEBUG=0 \
    DAEMONIZE2_PLATFORM="$platform" TEST_EXTENT="${TEST_EXTENT:-all}" "$@"
