#!/bin/sh
# Checks types and lints for Unixes that this machine cannot run, with every
# warning an error: finds the function that a libc lacks and the type that differs.
#
#   ci/cross.sh                all of the repository for FreeBSD and macOS; the
#                              library for every other platform
#   ci/cross.sh --all          all of the repository for each supported platform;
#                              the library, its tests and the examples for those of
#                              best effort
#   ci/cross.sh TARGET...      as --all, for just these
#
# Nothing is linked, so no linker and no system headers are needed, only the
# target's standard library: from rustup or, where rustup has none, compiled from
# rustup's or Debian's sources (ci/toolchain.sh), which takes a minute per target
# the first time.
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

extent=all
case ${1-} in
    '')
        extent=library
        set -- $supported $best_effort $no_unix
        ;;
    --all) set -- $supported $best_effort $no_unix ;;
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
        "library x86_64-unknown-freebsd" | "library aarch64-apple-darwin") echo "--workspace --all-targets" ;;
        library\ * | *\ "$no_unix") echo "--package daemonize2 --lib" ;;
        *)
            case " $supported " in
                *" $1 "*) echo "--workspace --all-targets" ;;
                *) echo "--package daemonize2 --all-targets" ;;
            esac
            ;;
    esac
}

# With a lint less: Clippy does not know a constant where the system has no
# variables of a thread, as on illumos and Android.
lint() {
    target=$1
    shift
    set -- clippy --locked --target "$target" "$@"
    if [ -d "$sysroot/lib/rustlib/$target/lib" ] || try_rustup target add "$target"; then
        cargo "$@" -- -D warnings -A clippy::missing_const_for_thread_local
    elif [ -d "$sysroot/lib/rustlib/src/rust" ] || try_rustup component add rust-src; then
        RUSTC_BOOTSTRAP=1 cargo "$@" -Zbuild-std=std,panic_abort \
            -- -D warnings -A clippy::missing_const_for_thread_local
    elif find_debian_rust; then
        # Debian packages Clippy apart. The flag that makes warnings errors would do
        # so in the standard library as well; this setting is for the workspace only.
        shift
        RUSTC_BOOTSTRAP=1 debian_cargo check "$@" \
            -Zbuild-std=std,panic_abort -Zwarnings --config 'build.warnings="deny"'
    else
        echo "cross.sh: no way to a standard library for $target: neither rustup nor, as root, Debian's packages" >&2
        return 1
    fi
}

failed=
for target; do
    part=$(part_of "$target")
    started=$(date +%s)
    printf '=== %s (%s)\n' "$target" "$part"
    lint "$target" $part || failed="$failed $target"
    printf '=== %s: %s s\n' "$target" "$(($(date +%s) - started))"
done

if [ -n "$failed" ]; then
    echo "cross.sh: failed:$failed" >&2
    exit 1
fi
