#!/bin/sh
# Type-checks for Unixes that this machine cannot run, with every warning an
# error: finds the function that a libc lacks and the type that differs.
#
#   ci/cross.sh                the supported platforms: library, tester and tests
#   ci/cross.sh --all          also those of best effort, and one that is no Unix,
#                              where the crate is empty: the library only
#   ci/cross.sh TARGET...      just these
#
# Nothing is linked, so no linker and no system headers are needed, only the
# target's standard library: from rustup or, where rustup has none or cannot be
# reached, compiled from source by Debian's Rust (ci/toolchain.sh), which takes
# a minute per target the first time.
set -eu

root=$(cd "$(dirname "$0")/.." && pwd -P)
# shellcheck source=ci/toolchain.sh
. "$root/ci/toolchain.sh"
cd "$root"

supported="x86_64-unknown-freebsd aarch64-apple-darwin"
best_effort="x86_64-unknown-netbsd x86_64-unknown-openbsd x86_64-unknown-dragonfly
    x86_64-unknown-illumos x86_64-unknown-linux-musl aarch64-unknown-linux-gnu
    wasm32-unknown-unknown"

if [ $# = 0 ]; then
    targets=$supported
elif [ "$1" = --all ]; then
    targets="$supported $best_effort"
else
    targets=$*
fi

# Of its own: another compiler works here than in the usual directory, and a
# running test or editor does not hold it locked.
CARGO_TARGET_DIR=$cache/target-cross
export CARGO_TARGET_DIR

sysroot=$(rustc --print sysroot)

check() {
    target=$1
    shift
    if [ -d "$sysroot/lib/rustlib/$target/lib" ] || try_rustup target add "$target"; then
        RUSTFLAGS="-D warnings" cargo check --locked --target "$target" "$@"
    elif find_debian_rust; then
        # The flag that makes warnings errors would do so in the standard
        # library as well; this setting is for the workspace only.
        RUSTC_BOOTSTRAP=1 debian_cargo check --locked --target "$target" \
            -Zbuild-std=std,panic_abort -Zwarnings --config 'build.warnings="deny"' "$@"
    else
        echo "cross.sh: no way to a standard library for $target: neither rustup nor, as root, Debian's packages" >&2
        return 1
    fi
}

failed=
for target in $targets; do
    case " $supported " in
        *" $target "*) what="--workspace --all-targets" ;;
        *) what="--package daemonize2 --lib" ;;
    esac
    started=$(date +%s)
    printf '=== %s (%s)\n' "$target" "$what"
    # shellcheck disable=SC2086 # several words
    check "$target" $what || failed="$failed $target"
    printf '=== %s: %s s\n' "$target" "$(($(date +%s) - started))"
done

if [ -n "$failed" ]; then
    echo "cross.sh: failed:$failed" >&2
    exit 1
fi
