#!/bin/sh
# Runs the published daemonize2 0.7.0 through the attacks of docs/attacks.md and
# prints what comes of it, a name and an outcome each: the column of 0.7.0 of
# that table. The names are those of the tests that do the same to this crate.
#
#   ci/predecessor.sh           every case: about two minutes
#   ci/predecessor.sh NAME...   just those whose names contain one of these
#
# Environment:
#   CARGO_TARGET_DIR      as for cargo
#
# Needs root and Linux. What a case mounts is seen by nobody else and goes with
# it; its processes are ended by pid, and are in a namespace that ends with the
# program; its folder in /var/tmp is removed. Fails where a case has no outcome.
set -eu

root=$(cd "$(dirname "$0")/.." && pwd -P)
if [ "$(id -u)" != 0 ] || [ "$(uname -s)" != Linux ]; then
    echo "predecessor.sh: needs root, and Linux" >&2
    exit 2
fi
target_dir=${CARGO_TARGET_DIR:-$root/target}/predecessor
cargo build --locked --quiet --manifest-path "$root/ci/predecessor/Cargo.toml" \
    --target-dir "$target_dir"
work=$(mktemp -d /var/tmp/predecessor.XXXXXX)
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
# For the ordinary users of the cases.
chmod 755 "$work"
"$target_dir/debug/predecessor" "$work" "$@"
