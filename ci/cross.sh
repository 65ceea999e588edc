#!/bin/sh
# Checks types and lints for Unixes that this machine cannot run, with every
# warning an error: finds the function that a libc lacks and the type that differs.
#
#   ci/cross.sh                    all of the repository for FreeBSD and macOS, the
#                                  tester and the tests for NetBSD; the library for
#                                  every other platform
#   ci/cross.sh --all              all of the repository for each platform
#   ci/cross.sh TARGET...          as --all, for just these
#   ci/cross.sh --link [TARGET...] links all tests and examples for each platform for
#                                  which a linker with a C library can be had: finds
#                                  the symbol that a C library lacks
#
# A check links nothing, so that it needs neither a linker nor system headers, only
# the target's standard library: from rustup or, where rustup has none, compiled from
# rustup's or Debian's sources (ci/toolchain.sh), which takes a minute per target
# the first time.
#
# Environment, for --link:
#   CARGO_TARGET_<TARGET>_LINKER   as for cargo. Without it, zig links, which has the
#                                  C libraries of most platforms
#   ZIG                            the path of zig. Without it, zig is that of PATH, or
#                                  else pip fetches it from PyPI
#
# shellcheck disable=SC2086 # lists of words
set -eu

root=$(cd "$(dirname "$0")/.." && pwd -P)
# shellcheck source=ci/toolchain.sh
. "$root/ci/toolchain.sh"
cd "$root"

supported="x86_64-unknown-freebsd aarch64-apple-darwin x86_64-apple-darwin \
x86_64-unknown-linux-musl aarch64-unknown-linux-gnu s390x-unknown-linux-gnu i686-unknown-linux-gnu"
best_effort="x86_64-unknown-netbsd x86_64-unknown-openbsd x86_64-unknown-dragonfly \
x86_64-unknown-illumos aarch64-linux-android"
no_unix=wasm32-unknown-unknown
zig_version=0.17.1

extent='all'
case ${1-} in
    '')
        extent='some'
        set -- $supported $best_effort $no_unix
        ;;
    --all) set -- $supported $best_effort $no_unix ;;
    --link)
        extent='link'
        shift
        [ $# != 0 ] || set -- $supported $best_effort
        ;;
esac

# Of its own: another compiler works here than in the usual directory, and a
# running test or editor does not hold it locked.
CARGO_TARGET_DIR=$cache/target-cross
CARGO_INCREMENTAL=0
export CARGO_TARGET_DIR CARGO_INCREMENTAL

sysroot=$(rustc --print sysroot)

# $1: the target. Prints the part of the repository that is checked for it.
part_of() {
    case "$extent $1" in
        "some x86_64-unknown-freebsd" | "some aarch64-apple-darwin") echo "--workspace --all-targets" ;;
        # Without the examples, whose dependencies take most of the time.
        "some x86_64-unknown-netbsd") echo "--package tester --all-targets" ;;
        some\ * | *\ "$no_unix") echo "--package daemonize2 --lib" ;;
        *) echo "--workspace --all-targets" ;;
    esac
}

# $1: the target. Finds its standard library or the sources, and sets `build_std` to
# the option that compiles these.
find_std() {
    build_std=
    [ ! -d "$sysroot/lib/rustlib/$1/lib" ] || return 0
    ! try_rustup target add "$1" || return 0
    [ -d "$sysroot/lib/rustlib/src/rust" ] || try_rustup component add rust-src || return 1
    build_std=-Zbuild-std=std,panic_abort
}

# With a lint less: Clippy does not know a constant where the system has no
# variables of a thread, as on illumos and Android.
lint() {
    target=$1
    shift
    if find_std "$target"; then
        env ${build_std:+RUSTC_BOOTSTRAP=1} cargo clippy --locked --target "$target" $build_std "$@" \
            -- -D warnings -A clippy::missing_const_for_thread_local
    elif find_debian_rust; then
        # Debian packages Clippy apart. The flag that makes warnings errors would do
        # so in the standard library as well; this setting is for the workspace only.
        RUSTC_BOOTSTRAP=1 debian_cargo check --locked --target "$target" "$@" \
            -Zbuild-std=std,panic_abort -Zwarnings --config 'build.warnings="deny"'
    else
        echo "cross.sh: no way to a standard library for $target: neither rustup nor, as root, Debian's packages" >&2
        return 1
    fi
}

# $1: the target. Prints zig's name of it; fails if zig has no C library of it.
zig_target() {
    case $1 in
        x86_64-unknown-freebsd) echo x86_64-freebsd ;;
        x86_64-unknown-netbsd) echo x86_64-netbsd ;;
        x86_64-unknown-openbsd) echo x86_64-openbsd ;;
        aarch64-apple-darwin) echo aarch64-macos ;;
        x86_64-apple-darwin) echo x86_64-macos ;;
        aarch64-unknown-linux-gnu) echo aarch64-linux-gnu ;;
        s390x-unknown-linux-gnu) echo s390x-linux-gnu ;;
        i686-unknown-linux-gnu) echo x86-linux-gnu ;;
        *) return 1 ;;
    esac
}

find_zig() {
    zig=${ZIG-}
    [ -z "$zig" ] || return 0
    zig=$(command -v zig) && return 0
    zig=$cache/zig-$zig_version/ziglang/zig
    if [ ! -x "$zig" ]; then
        echo "fetching zig $zig_version into $cache" >&2
        rm -rf "$cache/zig.part"
        python3 -m pip install --quiet --target "$cache/zig.part" "ziglang==$zig_version" >&2 || return 1
        rm -rf "$cache/zig-$zig_version"
        mv "$cache/zig.part" "$cache/zig-$zig_version"
    fi
}

# $1: the target. Sets `linker` to a linker for it, or fails and sets `reason`.
find_linker() {
    variable=CARGO_TARGET_$(echo "$1" | tr 'a-z-' 'A-Z_')_LINKER
    eval "linker=\${$variable-}"
    [ -z "$linker" ] || return 0
    case $1 in
        # Rust brings musl, for the linker of this machine.
        "$(uname -m)-unknown-linux-musl")
            linker=cc
            return 0
            ;;
    esac
    if ! name=$(zig_target "$1"); then
        reason="zig has no C library of it: set $variable"
        return 1
    fi
    if ! find_zig; then
        reason="neither zig nor pip is there: set ZIG or $variable"
        return 1
    fi
    linker=$cache/linkers/$1
    mkdir -p "$cache/linkers"
    # zig has a library for unwinding, but under its own name. It lacks libraries of
    # FreeBSD that the crate libc names, and that the programs do not use.
    cat >"$linker" <<EOF
#!/bin/sh
for argument; do
    shift
    case \$argument in
        -lgcc_s | -lgcc_eh | -lc++abi) set -- "\$@" -lunwind ;;
        -lkvm | -lmemstat | -lprocstat | -ldevstat) ;;
        *) set -- "\$@" "\$argument" ;;
    esac
done
exec "$zig" cc -target $name "\$@"
EOF
    chmod +x "$linker"
}

# Debug information would take minutes and gigabytes; a strip of this machine does
# not know the programs of others.
link() {
    find_std "$1" || {
        reason="there is no standard library for it"
        return 1
    }
    env ${build_std:+RUSTC_BOOTSTRAP=1} \
        "CARGO_TARGET_$(echo "$1" | tr 'a-z-' 'A-Z_')_LINKER=$linker" \
        CARGO_PROFILE_DEV_DEBUG=0 CARGO_PROFILE_DEV_STRIP=none \
        cargo test --no-run --quiet --locked --target "$1" $build_std --workspace --all-targets || {
        reason="see above"
        return 1
    }
}

failed=
for target; do
    started=$(date +%s)
    if [ "$extent" = link ]; then
        printf '=== %s (link)\n' "$target"
        if ! find_linker "$target"; then
            printf '=== %s: not linked, since %s\n' "$target" "$reason"
        elif link "$target"; then
            printf '=== %s: linked by %s, %s s\n' "$target" "$linker" "$(($(date +%s) - started))"
        else
            printf '=== %s: not linked: %s\n' "$target" "$reason"
            failed="$failed $target"
        fi
    else
        part=$(part_of "$target")
        printf '=== %s (%s)\n' "$target" "$part"
        lint "$target" $part || failed="$failed $target"
        printf '=== %s: %s s\n' "$target" "$(($(date +%s) - started))"
    fi
done

if [ -n "$failed" ]; then
    echo "cross.sh: failed:$failed" >&2
    exit 1
fi
