#!/bin/sh
# Records a terminal: root starts, starts again and stops the example clockd, and
# a start fails. docs/session.svg shows the commands, and what they printed.
#
#   ci/recording.sh            writes the file
#   ci/recording.sh --check    fails if the commands print something else by now,
#                              other pids aside
#
# The session has namespaces of its own: no file of the machine changes, and no
# process stays. This needs Linux and root.
set -eu

cd "$(dirname "$0")/.."
picture=docs/session.svg

case ${1-} in
    '' | --check) ;;
    *)
        echo "usage: ci/recording.sh [--check]" >&2
        exit 2
        ;;
esac

if [ "$(id -u)" != 0 ] || ! unshare --mount --pid --fork --mount-proc true 2>/dev/null; then
    echo "recording.sh: only root can record, on Linux, and where it may make namespaces" >&2
    [ "${1-}" != --check ] || exit 0
    exit 1
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

cargo build --quiet --locked --example clockd
programs=${CARGO_TARGET_DIR:-$PWD/target}${CARGO_BUILD_TARGET:+/$CARGO_BUILD_TARGET}/debug/examples

cat >"$work/commands" <<'COMMANDS'
clockd 127.0.0.1:37 nobody
clockd 127.0.0.1:37 nobody; echo $?
kill $(cat /run/clockd/clockd.pid)
clockd 192.0.2.1:37 nobody; echo $?
COMMANDS
# shellcheck disable=SC2016 # for the shell inside
PATH=$programs:$PATH unshare --mount --pid --fork --kill-child --mount-proc sh -c '
    set -e
    mount -t tmpfs tmpfs /run
    mount -t tmpfs tmpfs /var/log
    while IFS= read -r command; do
        printf "# %s\n" "$command"
        sh -c "$command" </dev/null || true
        # kill(1) does not wait for the end of the daemon, which unlocks its pid file.
        case $command in kill*) flock /run/clockd/clockd.pid true ;; esac
    done' <"$work/commands" >"$work/session" 2>&1 || {
    cat "$work/session" >&2
    exit 1
}

sed -e 's/&/\&amp;/g' -e 's/</\&lt;/g' -e 's/>/\&gt;/g' "$work/session" | awk '
    { lines[NR] = $0; if (length > width) width = length }
    END {
        width = 7.3 * width + 32
        height = 19 * NR + 26
        printf "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" width=\"%d\"", width, height, width
        print " style=\"max-width: 100%; height: auto\" role=\"img\" aria-labelledby=\"d2-session\">"
        print "<title id=\"d2-session\">A terminal of root: a start of clockd, a second start, a stop, and a start that fails.</title>"
        print "<style>"
        print ".d2-session { font: 12px monospace; fill: #c9d1d9; white-space: pre; }"
        print ".d2-session .d2-command { fill: #ffffff; font-weight: bold; }"
        print "</style>"
        print "<rect width=\"100%\" height=\"100%\" rx=\"8\" fill=\"#161b22\"/>"
        print "<g class=\"d2-session\">"
        for (line = 1; line <= NR; line++) {
            command = lines[line] ~ /^# / ? " class=\"d2-command\"" : ""
            printf "<text x=\"16\" y=\"%d\"%s>%s</text>\n", 19 * line + 9, command, lines[line]
        }
        print "</g>"
        print "</svg>"
    }' >"$work/session.svg"

case ${1-} in
    '') cp "$work/session.svg" "$picture" ;;
    --check)
        pids='s/running daemon [0-9]*/running daemon/'
        sed "$pids" "$picture" >"$work/recorded"
        sed "$pids" "$work/session.svg" | diff "$work/recorded" -
        ;;
esac
