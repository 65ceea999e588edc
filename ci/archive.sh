#!/bin/sh
# Builds the whole suite and packs it for another machine, which needs neither
# cargo nor a checkout:
#
#   ci/archive.sh [--target TARGET] [--output FILE]
#
#   --target   as for cargo; this machine's own unless given. Another target needs
#              its standard library, and a linker: CARGO_TARGET_..._LINKER
#   --output   daemonize2-tests-TARGET.tar.gz unless given; .tar is not compressed
#
# On the other machine, as root or as an ordinary user:
#
#   tar -xzf daemonize2-tests-TARGET.tar.gz
#   sh daemonize2-tests-TARGET/run.sh --create-users
#
# run.sh takes the arguments and the environment of ci/run-tests.sh, which needs
# only the tools of the base system: sh, awk, sed, ps. It leaves out what needs
# cargo: the suite compile_fail, and the examples in the documentation.
set -eu

root=$(cd "$(dirname "$0")/.." && pwd -P)
umask 022

die() {
    printf '%s\n' "archive.sh: $*" >&2
    exit 1
}

target=${CARGO_BUILD_TARGET-}
output=
while [ $# != 0 ]; do
    [ $# != 1 ] || die "'$1' needs a value, or is unknown; see the head of ci/archive.sh"
    case $1 in
        --target) target=$2 ;;
        --output) output=$2 ;;
        *) die "unknown argument '$1'; see the head of ci/archive.sh" ;;
    esac
    shift 2
done
[ -n "$target" ] || target=$(rustc -vV | sed -n 's/^host: //p')
name=daemonize2-tests-$target
output=${output:-$name.tar.gz}
# Its directory must exist before the build takes its minutes.
output=$(cd "$(dirname "$output")" && pwd -P)/$(basename "$output")

# A directory of its own, since nobody debugs on the other machine, and without the
# information for it the archive has a tenth of the size.
CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$root/target}/archive
CARGO_BUILD_TARGET=$target
CARGO_PROFILE_DEV_DEBUG=0
CARGO_PROFILE_TEST_DEBUG=0
CARGO_INCREMENTAL=0
export CARGO_TARGET_DIR CARGO_BUILD_TARGET CARGO_PROFILE_DEV_DEBUG CARGO_PROFILE_TEST_DEBUG \
    CARGO_INCREMENTAL
sh "$root/ci/test.sh" --build

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
archive=$work/$name
mkdir "$archive" "$archive/ci"
cp -R "$CARGO_TARGET_DIR/$target/programs" "$archive/"
cp -R "$root/ci/skips" "$root/ci/run-tests.sh" "$root/ci/users.sh" "$archive/ci/"
# The lists of skipped cases are those of the target's platform.
case $target in
    *-linux-musl*) platform=musl ;;
    *) platform= ;;
esac
cat >"$archive/run.sh" <<END
#!/bin/sh
# Runs the tests of daemonize2 that were built for $target:
# see the head of ci/run-tests.sh.
here=\$(cd "\$(dirname "\$0")" && pwd -P) || exit
DAEMONIZE2_PLATFORM=\${DAEMONIZE2_PLATFORM:-$platform}
export DAEMONIZE2_PLATFORM
exec sh "\$here/ci/run-tests.sh" "\$here/programs" "\$@"
END
chmod 755 "$archive/run.sh"
# A format that every tar(1) reads.
tar --format=ustar -cf "$work/tar" -C "$work" "$name"
case $output in
    *.tar) mv "$work/tar" "$output" ;;
    *) gzip -c "$work/tar" >"$output" ;;
esac
printf '%s: %s\n' "$output" "$(du -h "$output" | cut -f 1)"
