#!/bin/sh
# Runs the suite in a container (Dockerfile), without a network.
#
#   ci/docker.sh [--with-engine] [--prepare] [--matrix | --variant NAME]
#                [--image NAME] [--sample] [--update-skips] [--keep] [--base IMAGE]
#                [-- ARGUMENT...]
#
#   --with-engine    on a Debian machine without Docker, as root: installs an
#                    engine, starts it for the time of the run only, with its
#                    data in a directory of ours, and makes the base image from
#                    the machine's own mirror, so that no registry of images is
#                    needed
#   --prepare        with --with-engine: makes the images of the variants, and
#                    does no more, so that it can run beside other work. A run
#                    that begins meanwhile waits, and then has them at once
#   --matrix         every variant of ci/docker/variants
#   --variant NAME   only this variant; may be repeated. Without either option,
#                    only the default
#   --image NAME     of the variants before it, those with this image
#   --sample         in the default, try as many faults, kills and combinations as
#                    `cargo test` does, rather than all: TEST_EXTENT of
#                    ci/test.sh. The other variants always do
#   --update-skips   write the lists of skipped cases instead of comparing
#   --keep           keep the images afterwards
#   --base IMAGE     instead of the Dockerfile's
#   ARGUMENT...      for `docker run`, such as --memory 512m
#
# Tells how long each part takes, and closes with the sum of all variants: 'N
# passed, N failed, N skipped'. With --with-engine, no process, mount, network
# interface or cgroup is left behind, however the run ends.
set -eu

root=$(cd "$(dirname "$0")/.." && pwd -P)
cache=${DAEMONIZE2_CACHE:-${XDG_CACHE_HOME:-${HOME:-/var}/.cache}/daemonize2}

say() { printf '%s\n' "docker.sh: $*" >&2; }

# The fields of ci/docker/variants. $1: a number; $2: of which variant, unless of
# all.
field() {
    awk -F ' *[|] *' -v number="$1" -v name="${2-}" \
        '!/^#/ && (name == "" || $1 == name) { sub(/ *$/, "", $number); print $number }' \
        "$root/ci/docker/variants"
}

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
variants=
with_engine=false
prepare=false
update_skips=false
extent=all
keep=false
base=

while [ $# -gt 0 ]; do
    case $1 in
        --with-engine) with_engine=true ;;
        --prepare) prepare=true ;;
        --matrix) variants=$(field 1) ;;
        --image)
            for name in ${variants:=$(field 1)}; do
                [ "$(field 2 "$name")" != "$2" ] || chosen="${chosen-} $name"
            done
            variants=$chosen
            shift
            ;;
        --variant)
            variants="$variants $2"
            shift
            ;;
        --sample) extent=sample ;;
        --update-skips) update_skips=true ;;
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

# Names the cgroups and the containers too.
work=$(mktemp -d "${TMPDIR:-/tmp}/daemonize2-docker.XXXXXX")
engine=
worker=
# Removes the cgroups whose name begins with $1. Fails if one has a process.
remove_cgroups() {
    find /sys/fs/cgroup -depth -type d -path "*/$1*" -exec rmdir {} + 2>/dev/null
}

# shellcheck disable=SC2317 # called by the trap
finish() {
    # unshare(1) heeds no other signal, and takes its children along.
    [ -z "$worker" ] || kill -KILL "$worker" 2>/dev/null || true
    ! docker container inspect "${work##*/}" >/dev/null 2>&1 ||
        docker container rm --force "${work##*/}" >/dev/null
    if [ -n "$engine" ]; then
        # It takes its own children along.
        kill "$engine" 2>/dev/null || true
        wait "$engine" 2>/dev/null || true
        # A cgroup is busy until the last process in it has been reaped.
        for _ in 1 2 3 4 5 6 7 8 9 10; do
            ! remove_cgroups "${work##*/}" || break
            sleep 0.2
        done
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
    part=$1
    shift
    part_started=$(date +%s)
    "$@" </dev/null &
    worker=$!
    status=0
    wait "$worker" || status=$?
    worker=
    say "$part: $(($(date +%s) - part_started)) s"
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
    command -v mmdebstrap >/dev/null 2>&1 || missing="$missing mmdebstrap"
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
    part "base image" import_base >&2
}

# shellcheck disable=SC2317 # called by part
import_base() {
    # anacron, because logrotate requires a cron: the usual one requires systemd.
    # The certificates are those of the machine, so that cargo reaches its
    # registry as it does here.
    # shellcheck disable=SC2016 # the hook's
    unshare --pid --fork --kill-child mmdebstrap --quiet --variant=minbase \
        --include=anacron,ca-certificates,gcc,libc6-dev,logrotate,rustc,cargo \
        --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
        --dpkgopt='path-exclude=/usr/share/locale/*' \
        --customize-hook='cp /etc/ssl/certs/ca-certificates.crt "$1/etc/ssl/certs/"' \
        trixie "$work/base.tar" "$mirror" &&
        docker import "$work/base.tar" "$base"
    rm -f "$work/base.tar"
}

if [ "$with_engine" = true ]; then
    start_engine
    # What runs that were cut off have left in the engine's data.
    docker container prune --force >/dev/null
    remove_cgroups daemonize2-docker. || true
    [ -n "$base" ] || make_base
elif ! docker info >/dev/null 2>&1; then
    say "there is no Docker engine to talk to; as root on Debian, --with-engine brings one"
    exit 1
fi

# --- The images --------------------------------------------------------------

# shellcheck disable=SC2317 # called by part
build_debian() {
    set -- -t "$image-debian" "$root"
    [ -z "$base" ] || set -- --build-arg BASE="$base" "$@"
    [ "$with_engine" = false ] || set -- --network host "$@"
    docker build "$@"
}

# Has busybox and no C library, like Alpine with a static program. The machine
# builds the programs.
# shellcheck disable=SC2317 # called by part
build_musl() (
    CARGO_TARGET_DIR=$cache/target-musl
    # As in the Dockerfile.
    CARGO_PROFILE_DEV_DEBUG=0
    CARGO_INCREMENTAL=0
    export CARGO_TARGET_DIR CARGO_PROFILE_DEV_DEBUG CARGO_INCREMENTAL
    sh "$root/ci/musl.sh" --build || return 1
    target=$(uname -m)-unknown-linux-musl
    find_busybox || return 1
    tree=$work/musl
    umask 022
    mkdir -p "$tree/bin" "$tree/dev" "$tree/etc" "$tree/proc" "$tree/root" "$tree/run" "$tree/sys" \
        "$tree/var/log" "$tree/var/lib"
    mkdir -m 1777 "$tree/tmp" "$tree/var/tmp"
    cp "$busybox" "$tree/bin/busybox"
    "$busybox" --list | while read -r applet; do
        [ "$applet" = busybox ] || ln -s busybox "$tree/bin/$applet"
    done
    # The ids of ci/users.sh.
    cat >"$tree/etc/passwd" <<END
root:x:0:0:root:/root:/bin/sh
daemon:x:1:1:daemon:/:/bin/false
nobody:x:65534:65534:nobody:/:/bin/false
daemonize2-test:x:7001:7001::/nonexistent:/bin/sh
END
    cat >"$tree/etc/group" <<END
root:x:0:
daemon:x:1:
nobody:x:65534:
daemonize2-test:x:7001:
daemonize2-extra1:x:7002:daemonize2-test
daemonize2-extra2:x:7003:daemonize2-test
END
    mkdir -p "$tree$root" "$tree$CARGO_TARGET_DIR"
    tar -C "$root" --exclude ./.git --exclude ./target -cf - . | tar -C "$tree$root" -xf - || return 1
    tar -C "$CARGO_TARGET_DIR" -cf - "$target/programs" | tar -C "$tree$CARGO_TARGET_DIR" -xf - || return 1
    tar -C "$tree" -cf - . | docker import --change "WORKDIR $root" \
        --change "ENV PATH=$CARGO_TARGET_DIR/$target/programs/examples:/bin" \
        --change "ENV CARGO_TARGET_DIR=$CARGO_TARGET_DIR CARGO_BUILD_TARGET=$target" - "$image-musl"
    status=$?
    rm -rf "$tree"
    return "$status"
)

# Names the machine's static busybox, or fetches one without installing it.
find_busybox() {
    busybox=$(command -v busybox || true)
    [ -z "$busybox" ] || ! "$busybox" --list | grep -q -x su || return 0
    command -v apt-get >/dev/null 2>&1 || {
        say "the musl image needs busybox"
        return 1
    }
    mkdir "$work/debs"
    (
        cd "$work/debs"
        chmod 755 .
        apt-get -q download busybox-static || { apt-get -q update && apt-get -q download busybox-static; }
        dpkg-deb -x busybox-static_*.deb .
    ) >&2 || return 1
    busybox=$work/debs/bin/busybox
}

# --- The variants ------------------------------------------------------------

passed=0
failed=0
skipped=0

# Adds the counts of the closing line of $work/log.
add_up() {
    line=$(grep -E '^[0-9]+ passed, [0-9]+ failed, [0-9]+ skipped$' "$work/log" | tail -n 1) ||
        line='0 passed, 1 failed, 0 skipped'
    read -r p _ f _ s _ <<END
$line
END
    passed=$((passed + p))
    failed=$((failed + f))
    skipped=$((skipped + s))
}

# Runs the image of the variant $name, with what `docker run` is told after it.
# shellcheck disable=SC2317,SC2086 # called by part; several words
run() {
    ${bound-} docker run --rm --name "${work##*/}" --network none $options "$@"
}

# shellcheck disable=SC2317 # called by part
run_suites() {
    set -- --env TEST_EXTENT="$variant_extent" --env TEST_SUITES="$suites" \
        --env DAEMONIZE2_PLATFORM="$platform" "$@"
    arguments=
    if [ "$name" != default ]; then
        arguments=--built
        set -- --env TESTER_RACE_SECONDS=1 "$@"
    fi
    [ "$users" != root ] || arguments="$arguments --root-only"
    if [ "$update_skips" = true ]; then
        # Whoever the user in the container is.
        cp -r "$root/ci/skips" "$work/skips"
        chmod -R a+rwX "$work/skips"
        set -- --volume "$work/skips:/skips" --env DAEMONIZE2_SKIPS=/skips "$@"
        arguments="$arguments --update-skips"
    fi
    # shellcheck disable=SC2086 # several words
    run "$@" "$image-$image_kind" sh ci/test.sh $arguments 2>&1 | tee "$work/log"
    if [ "$update_skips" = true ]; then
        cp "$work/skips/$platform"-*.txt "$root/ci/skips/" 2>/dev/null || true
        rm -rf "$work/skips"
    fi
}

# See ci/docker/cases.sh.
# shellcheck source=ci/docker/cases.sh
. "$root/ci/docker/cases.sh"
expect() {
    case_name=$1
    expected=$2
    pattern=$3
    shift 3
    status=0
    bound='timeout -k 5 120'
    run "$image-$image_kind" "$@" >"$work/output" 2>&1 </dev/null || status=$?
    bound=
    # A process 1 that waits for ever heeds no signal.
    [ "$status" -lt 124 ] || docker container rm --force "${work##*/}" >/dev/null 2>&1 || true
    output=$(cat "$work/output")
    # shellcheck disable=SC2254 # a pattern
    case $status:$output in
        $expected:$pattern)
            echo "ok $case_name"
            passed=$((passed + 1))
            ;;
        *)
            echo "FAILED $case_name: status $status, not $expected, and output"
            printf '%s\n' "$output" | sed 's/^/    /'
            failed=$((failed + 1))
            ;;
    esac
}

run_variant() {
    name=$1
    shift
    image_kind=$(field 2 "$name")
    users=$(field 3 "$name")
    options=$(field 4 "$name")
    suites=$(field 5 "$name")
    platform=docker-$name
    variant_extent=sample
    if [ "$name" = default ]; then
        platform=docker
        variant_extent=$extent
    fi
    printf '\n##### %s\n' "$name${options:+: docker run $options}"
    before="$passed $failed $skipped"
    started=$(date +%s)
    part "$name, suites" run_suites "$@" || true
    add_up
    cases=cases_$(printf %s "$name" | tr - _)
    ! command -v "$cases" >/dev/null || "$cases"
    # shellcheck disable=SC2086 # three numbers
    set -- $before
    printf '%-12s %5s passed, %s failed, %s skipped (%s s)\n' "$name" $((passed - $1)) \
        $((failed - $2)) $((skipped - $3)) $(($(date +%s) - started)) | tee -a "$work/table"
}

for name in ${variants:=default}; do
    [ -n "$(field 1 "$name")" ] || {
        say "there is no variant '$name' in ci/docker/variants"
        exit 2
    }
    images="${images-} $(field 2 "$name")"
done
for image_kind in debian musl; do
    case " $images " in
        *" $image_kind "*) part "image $image_kind" "build_$image_kind" ;;
    esac
done
[ "$prepare" = false ] || exit 0
for variant in $variants; do
    run_variant "$variant" "$@"
done
if [ "$keep" = false ]; then
    for image_kind in debian musl; do
        docker image rm "$image-$image_kind" >/dev/null 2>&1 || true
    done
    [ "$with_engine" = false ] || docker image prune --force >/dev/null
fi
printf '\n'
cat "$work/table"
printf '%s passed, %s failed, %s skipped\n' "$passed" "$failed" "$skipped"
[ "$failed" = 0 ]
