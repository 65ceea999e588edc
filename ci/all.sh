#!/bin/sh
# Runs the suite on every platform that this machine has or emulates, and prints
# a table of the results. Takes hours: .ci/run is the part that fits into half an
# hour. Expects what .ci/run expects; brings what else it needs itself.
#
#   ci/all.sh               every platform
#   ci/all.sh PLATFORM...   just these; the names are those in the first column of
#                           the table below
#
# Environment: TEST_EXTENT of ci/test.sh. The output of each platform is in
# $DAEMONIZE2_LOGS, a new directory unless set.
set -eu

root=$(cd "$(dirname "$0")/.." && pwd -P)
cd "$root"

platforms="debian-12 musl debian-13 i386 arm64 s390x systemd container checks other-unixes"

run() {
    case $1 in
        debian-12) ci/test.sh --create-users ;;
        musl) ci/musl.sh --create-users ;;
        debian-13) ci/debian.sh amd64 ;;
        i386 | arm64 | s390x) ci/debian.sh "$1" ;;
        systemd) ci/systemd.sh ;;
        container) ci/docker.sh --with-engine ;;
        checks) ci/checks.sh ;;
        other-unixes) ci/cross.sh --all ;;
        *)
            echo "all.sh: there is no platform '$1', only: $platforms" >&2
            return 2
            ;;
    esac
}

[ $# != 0 ] || {
    # shellcheck disable=SC2086 # several words
    set -- $platforms
}
logs=${DAEMONIZE2_LOGS:-$(mktemp -d /var/tmp/daemonize2-all.XXXXXX)}
mkdir -p "$logs"
table=$logs/table
printf '%-14s %8s %8s %8s %8s\n' platform passed failed skipped seconds >"$table"

failed=
for platform; do
    started=$(date +%s)
    status=0
    # Into a file, not a pipe: a process that a test leaves behind would hold it.
    run "$platform" >"$logs/$platform" 2>&1 </dev/null || status=$?
    counts=$(sed -n 's/^\([0-9]*\) passed, \([0-9]*\) failed, \([0-9]*\) skipped$/\1 \2 \3/p' "$logs/$platform" | tail -n 1)
    # The checks and the type check count nothing.
    [ -n "$counts" ] || counts="- $([ "$status" = 0 ] && echo 0 || echo 1) -"
    [ "$status" = 0 ] || failed="$failed $platform"
    # shellcheck disable=SC2086 # three words
    printf '%-14s %8s %8s %8s %8s\n' "$platform" $counts $(($(date +%s) - started)) >>"$table"
    tail -n 1 "$table"
done

printf '\n'
cat "$table"
printf '\nThe output is in %s.\n' "$logs"
[ -z "$failed" ] || {
    echo "all.sh: failed:$failed" >&2
    exit 1
}
