#!/bin/sh
# Runs the suite against musl instead of glibc, statically linked, on a Linux
# with rustup. Takes the arguments of ci/test.sh.
set -eu

root=$(cd "$(dirname "$0")/.." && pwd -P)
# shellcheck source=ci/toolchain.sh
. "$root/ci/toolchain.sh"

CARGO_BUILD_TARGET=$(uname -m)-unknown-linux-musl
DAEMONIZE2_PLATFORM=musl
export CARGO_BUILD_TARGET DAEMONIZE2_PLATFORM

[ -d "$(rustc --print sysroot)/lib/rustlib/$CARGO_BUILD_TARGET/lib" ] ||
    try_rustup target add "$CARGO_BUILD_TARGET" || {
    echo "musl.sh: rustup could not install $CARGO_BUILD_TARGET" >&2
    exit 1
}
exec sh "$root/ci/test.sh" "$@"
