#!/bin/sh
# Builds the whole suite, and runs it as root, then as an ordinary user: see
# ci/run-tests.sh. Called by an ordinary user, it does that user's part only.
#
#   ci/test.sh [--build | --built] [ARGUMENT OF ci/run-tests.sh...]
#
#   --build   build all that a run needs, and run nothing
#   --built   run what the last --build built, without cargo: the suite
#             compile_fail and the examples in the documentation are left out
#
# Environment, besides that of ci/run-tests.sh:
#   CARGO_TARGET_DIR      as for cargo
#   CARGO_BUILD_TARGET    as for cargo
set -eu

root=$(cd "$(dirname "$0")/.." && pwd -P)

# The user's pass executes what root built, whatever root's umask is.
umask 022

say() { printf '%s\n' "test.sh: $*" >&2; }
die() {
    say "$*"
    exit 1
}

build=true
run=true
for argument; do
    shift
    case $argument in
        --build) run=false ;;
        --built) build=false ;;
        *) set -- "$@" "$argument" ;;
    esac
done

cd "$root"
target=${CARGO_TARGET_DIR:-$root/target}
built=$target/${CARGO_BUILD_TARGET:+$CARGO_BUILD_TARGET/}debug
programs=$target/${CARGO_BUILD_TARGET:+$CARGO_BUILD_TARGET/}programs

# Builds the tester in another way. $1: the name of the way, $2...: arguments of cargo.
build_tester() {
    way=$1
    shift
    printf '=== build, %s\n' "$way"
    cargo build --package tester --bin tester --locked --quiet \
        --target-dir "$target/$way" "$@"
    mkdir "$new/$way"
    take "$target/$way/${CARGO_BUILD_TARGET:+$CARGO_BUILD_TARGET/}debug/tester" "$new/$way"
}

# A link takes no space.
take() {
    ln "$1" "$2/" 2>/dev/null || cp "$1" "$2/"
}

# Leaves all programs in one directory, laid out as cargo does: a suite finds an
# example beside its own directory.
build_programs() {
    new=$programs.new
    rm -rf "$new"
    mkdir -p "$new/deps" "$new/examples"
    printf '=== build\n'
    cargo test --no-run --locked --message-format=json-render-diagnostics >"$new/build.json"

    # Cargo's order of the members is fixed; paths with quotes or tabs are not
    # worth a JSON parser, which the base systems of CI lack.
    sed -n 's/^{"reason":"compiler-artifact",.*"target":{"kind":\["\([^"]*\)".*,"name":"\([^"]*\)",.*"overflow_checks":[a-z]*,"test":true}.*"executable":"\([^"]*\)".*/\1 \2	\3/p' \
        "$new/build.json" | grep -v '^test compile_fail	' | sort >"$new/tests"
    [ -s "$new/tests" ] || die "cargo named no test binary"
    while IFS='	' read -r name path; do
        take "$path" "$new/deps"
        printf '%s\t%s\n' "$name" "deps/${path##*/}"
    done <"$new/tests" >"$new/list"
    sed -n 's/^{"reason":"compiler-artifact",.*"target":{"kind":\["example"\].*"executable":"\([^"]*\)".*/\1/p' \
        "$new/build.json" |
        while read -r path; do
            take "$path" "$new/examples"
        done
    rm "$new/build.json" "$new/tests"
    take "$built/tester" "$new"

    # For the cases about panics that abort.
    build_tester aborting --config 'profile.dev.panic="abort"'
    # Descriptors are closed in another way by old kernels.
    case ${CARGO_BUILD_TARGET:-$(rustc -vV | sed -n 's/^host: //p')} in
        *-linux-*)
            (
                RUSTFLAGS="${RUSTFLAGS-} --cfg daemonize2_without_close_range"
                export RUSTFLAGS
                build_tester listing
            )
            ;;
    esac
    rm -rf "$programs"
    mv "$new" "$programs"
}

if [ "$build" = true ]; then
    build_programs
fi
[ -s "$programs/list" ] || die "there is no $programs/list: run ci/test.sh --build first"
[ "$run" = true ] || exit 0
[ "$build" = false ] || set -- --with-cargo "$@"
exec sh "$root/ci/run-tests.sh" "$programs" "$@"
