#!/bin/sh
# Runs test programs that are built already, as root, then as an ordinary user.
# Then compares the names of the skipped cases with the committed lists, so that
# a skip can never hide. Called by an ordinary user, it does that user's part
# only. It needs neither cargo nor a checkout: ci/archive.sh packs this script,
# ci/users.sh, ci/skips and the programs for another machine.
#
#   run-tests.sh PROGRAMS [--create-users] [--update-skips] [--root-only] [--with-cargo]
#
#   PROGRAMS         a directory as ci/test.sh builds it
#   --create-users   create the test user (users.sh) if it is missing; implied
#                    by CI=true
#   --update-skips   write the lists in ci/skips instead of comparing
#   --root-only      leave out the ordinary user, whom root may be unable to become
#   --with-cargo     also run, as the calling user, the suites that need cargo
#                    and the checkout: compile_fail, and the examples in the
#                    documentation
#
# Environment:
#   DAEMONIZE2_PLATFORM   the first part of the lists' names: linux, freebsd,
#                         macos; docker and musl fall back on linux where they
#                         have no list of their own
#   TEST_SUITES           the names of the suites to run, such as 'pid_file start';
#                         all unless set
#   TEST_TIMEOUT          seconds that one program may take, 1800 times
#                         TESTER_SLOWNESS unless set
#   TEST_EXTENT           all, unless set: every fault, a kill at every call,
#                         combinations by triples; sample: of these as many as
#                         `cargo test` tries; root: all as root, and a sample as
#                         the ordinary user. All cases run in each
#   TESTER_RACE_SECONDS   how long each contest for a pid file takes; unless set,
#                         10 as root unless the extent is sample, and 2 otherwise
#   TESTER_SLOWNESS       multiplies every time limit: docs/verification.md
#
# Prints the counts and the time of each program and of each identity, and closes
# with the sum of them, on a line of its own: 'N passed, N failed, N skipped'. A
# program that ended without a result, a skip list that differs and a process
# left behind count as a failure each: what makes this script fail is always in
# the numbers.
#
# A machine can do one run at a time: every process of the test user counts as left
# behind, and is killed if CI is true.
set -eu

user=daemonize2-test
here=$(cd "$(dirname "$0")" && pwd -P)
os=$(uname -s)

umask 022

say() { printf '%s\n' "run-tests.sh: $*" >&2; }
die() {
    say "$*"
    exit 1
}

# --- One pass over the programs ----------------------------------------------

# Sums up `test result:` lines, which libtest and libtest-mimic print alike,
# into 'passed failed ignored filtered lines'.
sum_up() {
    awk '/^test result: / {
            for (i = 2; i <= NF; i++) {
                if ($i ~ /^passed/) p += $(i - 1)
                if ($i ~ /^failed/) f += $(i - 1)
                if ($i ~ /^ignored/) s += $(i - 1)
                if ($i ~ /^filtered/) o += $(i - 1)
            }
            n++
        }
        END { print p + 0, f + 0, s + 0, o + 0, n + 0 }' "$@"
}

# Adds to one of the files that hold the counts of a pass.
count() {
    echo $(($(cat "$1") + $2)) >"$1"
}

# Runs a command as one suite of the pass in $pass and takes its counts.
suite() {
    name=$1
    shift
    log=$pass/suite.log
    printf '\n=== %s\n' "$name"
    [ ! -e /proc/uptime ] || echo "$(awk '{ print int($1 * 100) }' /proc/uptime) $name" >>"$pass/begun"
    status=0
    begun=$(date +%s)
    # Into a file, not a pipe: were a process left behind that holds the
    # output open, a pipe would wait for it.
    "$@" >"$log" 2>&1 </dev/null || status=$?
    took=$(($(date +%s) - begun))
    cat "$log"
    read -r p f s o n <<END
$(sum_up "$log")
END
    if [ "$n" = 0 ] || { [ "$status" != 0 ] && [ "$f" = 0 ]; }; then
        say "$name ended with status $status, without the result of a failed test"
        f=$((f + 1))
    fi
    # Left out by a filter is a skip of which no list tells.
    if [ "$o" != 0 ]; then
        say "$name: $o tests were filtered out"
        f=$((f + 1))
    fi
    printf '%-40s %5s passed, %3s failed, %3s skipped, %5s s\n' \
        "$name" "$p" "$f" "$s" "$took" >>"$pass/table"
    count "$pass/passed" "$p"
    count "$pass/failed" "$f"
    count "$pass/skipped" "$s"
}

# Runs a program for a limited time. Elsewhere than on Linux, timeout(1) is missing
# or, on FreeBSD, becomes the parent of the orphans of what it runs, so that the
# daemons under test would get another parent.
bounded() {
    if [ "$os" = Linux ] && timeout --version >/dev/null 2>&1; then
        timeout -k 10 "$limit" "$@"
        return
    fi
    # In the background is the clock, not the program, for which a shell would
    # ignore SIGINT.
    (
        exec >/dev/null 2>&1
        left=$limit
        while [ "$left" -gt 0 ]; do
            sleep 1
            left=$((left - 1))
        done
        kill -9 "$(cat "$pass/pid")"
    ) &
    clock=$!
    status=0
    # shellcheck disable=SC2016 # for the inner shell
    sh -c 'echo $$ >"$0" && exec "$@"' "$pass/pid" "$@" || status=$?
    kill "$clock" 2>/dev/null || say "killed after $limit s: $1"
    wait "$clock" 2>/dev/null || true
    return "$status"
}

# Runs all that $work/list names and leaves counts, times and the names of skipped
# cases in $pass. Runs under the identity that is being tested.
run_pass() {
    pass=$1
    started=$(date +%s)
    for file in passed failed skipped; do
        echo 0 >"$pass/$file"
    done
    : >"$pass/skips"
    : >"$pass/table"
    : >"$pass/begun"
    TESTER_SKIPPED_LIST=$pass/skips
    TESTER_ABORTING=$programs/aborting/tester
    export TESTER_SKIPPED_LIST TESTER_ABORTING
    if [ "$extent" = all ]; then
        # See tests/faults, and docs/verification.md.
        TESTER_ALL_FAULTS=1
        TESTER_TRIPLES=1
        export TESTER_ALL_FAULTS TESTER_TRIPLES
    fi
    cd "$programs"
    # On descriptor 3, closed again for the suites.
    while IFS='	' read -r name path <&3; do
        TESTER_BINARY=$programs/tester
        export TESTER_BINARY
        suite "$name" bounded "$programs/$path" 3<&-
        if [ "$name" = "test descriptors" ] && [ -e "$programs/listing/tester" ]; then
            TESTER_BINARY=$programs/listing/tester
            suite "$name, without close_range(2)" bounded "$programs/$path" 3<&-
        fi
    done 3<"$work/list"
    # A case that was ignored by other means than the harness's is in the
    # count, but in no list. (The list is not sorted: programs run their cases
    # in parallel.)
    named=$(($(wc -l <"$pass/skips")))
    if [ "$named" -ne "$(cat "$pass/skipped")" ]; then
        say "$(cat "$pass/skipped") cases were ignored, $named names were given"
        count "$pass/failed" 1
    fi
    echo $(($(date +%s) - started)) >"$pass/seconds"
}

# How this script calls itself as the ordinary user.
if [ "${1-}" = --pass ]; then
    work=$2
    # The user's own, since root's may be out of reach.
    unset TMPDIR
    # What su(1) and sudo(8) may have changed.
    # shellcheck source=/dev/null
    . "$work/environment"
    run_pass "$work/user"
    exit 0
fi

# --- Preparation -------------------------------------------------------------

programs=
create_users=${CI:-false}
update_skips=false
root_only=false
with_cargo=false
for argument; do
    case $argument in
        --create-users) create_users=true ;;
        --update-skips) update_skips=true ;;
        --root-only) root_only=true ;;
        --with-cargo) with_cargo=true ;;
        -*) die "unknown argument '$argument'; see the head of $0" ;;
        *) programs=$argument ;;
    esac
done
[ -n "$programs" ] || die "name the directory of the test programs"
[ -s "$programs/list" ] || die "there are no test programs in $programs"
programs=$(cd "$programs" && pwd -P)

extent=${TEST_EXTENT:-all}
user_extent=$extent
case $extent in
    all | sample) ;;
    root) extent=all user_extent=sample ;;
    *) die "TEST_EXTENT is '$extent', which is none of all, root and sample" ;;
esac

limit=${TEST_TIMEOUT:-$(awk -v slowness="${TESTER_SLOWNESS:-1}" 'BEGIN { print int(1800 * slowness) }')}
case $limit in
    '' | 0 | *[!0-9]*) die "TEST_TIMEOUT or TESTER_SLOWNESS is no positive number" ;;
esac

case $os in
    Linux) platform=linux ;;
    FreeBSD) platform=freebsd ;;
    Darwin) platform=macos ;;
    *) platform=$(printf %s "$os" | tr '[:upper:]' '[:lower:]') ;;
esac
platform=${DAEMONIZE2_PLATFORM:-$platform}

# Runs a command as the test user, with that user's groups. No terminal, no
# login: the words of the command must not need quoting.
as_user() {
    # The probe tells util-linux's from busybox's, which lacks --reuid.
    if [ "$os" = Linux ] && setpriv --reuid=0 true 2>/dev/null; then
        setpriv --reuid="$user" --regid="$user" --init-groups "$@"
    elif [ "$os" = Darwin ]; then
        sudo -n -u "$user" "$@"
    elif command -v su >/dev/null 2>&1; then
        su "$user" -c "$*"
    else
        die "to become $user, this system needs su(1) or the setpriv(1) of util-linux"
    fi
}

[ "$os" = Linux ] || command -v ps >/dev/null 2>&1 ||
    die "to find processes that were left behind, this system needs ps(1)"

# /tmp by name: macOS gives root a directory of its own that no one else can enter.
work=$(mktemp -d /tmp/daemonize2-ci.XXXXXX)
work=$(cd "$work" && pwd -P)
copy=
trap 'rm -rf "$work" ${copy:+"$copy"}' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
chmod 755 "$work"
mkdir "$work/root" "$work/user" "$work/user/home"
# The user may be unable to reach the directory of this script.
cp "$here/run-tests.sh" "$work/"

cp "$programs/list" "$work/list"
if [ -n "${TEST_SUITES-}" ]; then
    for name in $TEST_SUITES; do
        grep "^test $name	" "$programs/list" || die "there is no suite '$name'"
    done >"$work/list"
fi

if [ "$(id -u)" != 0 ]; then
    passes=user
    extent=$user_extent
    say "not root: the suite runs as $(id -un) only"
elif [ "$root_only" = true ]; then
    passes=root
else
    passes="root user"
    if ! id -u "$user" >/dev/null 2>&1; then
        [ "$create_users" = true ] ||
            die "there is no user $user; --create-users has it created (see users.sh)"
    fi
    [ "$create_users" != true ] || sh "$here/users.sh"
    chown -R "$user" "$work/user"
    as_user true || die "cannot become $user; a container needs the capabilities SETUID and SETGID"

    # A checkout or an archive below a private home is out of the user's reach.
    # A copy is not.
    if ! as_user test -x "$programs/tester" 2>/dev/null; then
        copy=$(mktemp -d /var/tmp/daemonize2-programs.XXXXXX)
        say "$user cannot reach $programs; going on with a copy, $copy"
        chmod 755 "$copy"
        cp -R "$programs" "$copy/programs"
        programs=$copy/programs
        as_user test -x "$programs/tester" || die "$user cannot execute $programs/tester either"
    fi
fi

"$programs/tester" supervised >/dev/null ||
    die "$programs/tester does not run on this system, $(uname -s) on $(uname -m)"
if [ -e "$programs/listing/tester" ]; then
    "$programs/listing/tester" lists-descriptors ||
        die "$programs/listing/tester was not built with RUSTFLAGS: unset CARGO_ENCODED_RUSTFLAGS"
fi

# For the pass as the user.
{
    printf '%s=%s\n' programs "'$programs'" extent "$user_extent" limit "$limit" \
        HOME "'$work/user/home'" TESTER_RACE_SECONDS "${TESTER_RACE_SECONDS:-2}"
    for variable in TESTER_SLOWNESS TESTER_FIGURES TESTER_SEED PROPTEST_CASES RUST_BACKTRACE; do
        eval "value=\${$variable-}"
        # shellcheck disable=SC2154 # eval sets it
        [ -z "$value" ] || printf "%s='%s'\nexport %s\n" "$variable" "$value" "$variable"
    done
    echo "export HOME TESTER_RACE_SECONDS"
} >"$work/environment"

# --- After a pass ------------------------------------------------------------

# Prints the processes that run a program of the suite, or belong to the test user.
# $1: that user's id; $2: the identity.
left_behind() {
    if [ "$os" = Linux ]; then
        # Not by ps, which small images lack, and whatever a daemon calls itself.
        {
            find /proc -maxdepth 1 -name '[0-9]*' -uid "$1"
            for process in /proc/[0-9]*; do
                program=$(readlink "$process/exe") || program=
                case $program in
                    "$programs"/*) echo "$process" ;;
                    # A container may not let root see what a process of another user
                    # runs, and an emulated process runs the emulator; but it has the
                    # mark of tester/src/observe/linux.rs.
                    '' | */qemu-*)
                        if [ "$(id -u)" = 0 ] &&
                            grep -q '^Max realtime timeout  *7001[0-9]\{14\} ' "$process/limits"; then
                            echo "$process"
                        fi
                        ;;
                esac
            done
        } 2>/dev/null | sort -u | while read -r process; do
            describe "$process" "$work/$2/begun"
        done 2>/dev/null
    else
        ps -A -o uid= -o pid= -o args= |
            PROGRAMS="$programs/" OWNER="$1" awk \
                'index($3, ENVIRON["PROGRAMS"]) == 1 || $1 == ENVIRON["OWNER"] {
                    pid = $2; $1 = ""; $2 = ""; print pid, $0
                }'
    fi
}

# Prints the id of a process, the suite that it comes from, and its command, unless it is a zombie,
# which waits for its parent alone. $1: its directory in /proc; $2: when each suite began, in the
# unit of proc(5), which is a hundredth of a second.
describe() {
    # The name, in parentheses, may have any character.
    sed 's/.*) //' "$1/stat" | awk -v pid="${1#/proc/}" -v begun="$2" \
        -v command="$(tr '\0' ' ' <"$1/cmdline")" \
        '$1 != "Z" && $1 != "X" {
            while ((getline line <begun) > 0) {
                time = name = line
                sub(/ .*/, "", time)
                sub(/[^ ]* /, "", name)
                if (time + 0 <= $20) suite = name
            }
            print pid, "(" suite ", state " $1 ", parent " $2 ")", command
        }'
}

# $1: the identity. A daemon that was told to end gets some seconds to do so.
check_left_behind() {
    # An id that no one has.
    owner=4294967294
    [ "$1" = root ] || [ "$(id -u)" != 0 ] || owner=$(id -u "$user")
    for _ in 1 2 3 4 5 6; do
        left=$(left_behind "$owner" "$1")
        [ -n "$left" ] || return 0
        sleep 1
    done
    say "left behind by the tests as $1:"
    printf '%s\n' "$left" >&2
    # Elsewhere it may be someone's second run of the same tests.
    if [ "${CI-}" = true ]; then
        printf '%s\n' "$left" | while read -r pid _; do
            kill -9 "$pid" 2>/dev/null || true
        done
    fi
    count "$work/$1/failed" 1
}

# Prints the lines of $1 that $2 lacks. Small systems have neither comm(1) nor diff(1).
lines_missing_in() {
    awk -v others="$2" \
        'BEGIN { while ((getline line <others) > 0) has[line] = 1 } !($0 in has)' "$1"
}

# $1: the identity. A list has one name a line; what follows a # is a remark.
check_skips() {
    list=$here/skips/$platform-$1.txt
    known=$list
    if [ ! -e "$list" ]; then
        case $platform in
            docker | musl) known=$here/skips/linux-$1.txt ;;
        esac
    fi
    sort -u "$work/$1/skips" >"$work/$1/actual"
    : >"$work/$1/expected"
    : >"$work/$1/others"
    if [ -e "$known" ]; then
        sed 's/[[:space:]]*#.*//; /^$/d' "$known" | sort -u >"$work/$1/all"
        for name in ${TEST_SUITES-}; do
            printf '^%s::\n' "$name"
        done >"$work/$1/patterns"
        [ -s "$work/$1/patterns" ] || echo '^' >"$work/$1/patterns"
        grep -f "$work/$1/patterns" "$work/$1/all" >"$work/$1/expected" || true
        grep -v -f "$work/$1/patterns" "$work/$1/all" >"$work/$1/others" || true
    fi
    lines_missing_in "$work/$1/actual" "$work/$1/expected" | sed 's/^/+/' >"$work/$1/differences"
    lines_missing_in "$work/$1/expected" "$work/$1/actual" | sed 's/^/-/' >>"$work/$1/differences"
    if [ -e "$known" ] && [ ! -s "$work/$1/differences" ]; then
        return 0
    fi
    if [ "$update_skips" = true ]; then
        # Keeps the remarks: those at the head, and those of names that stay.
        {
            sed -n '/^#/!q;p' "$known" 2>/dev/null || true
            sort "$work/$1/actual" "$work/$1/others" | while read -r name; do
                grep "^$name *#" "$known" 2>/dev/null || printf '%s\n' "$name"
            done
        } >"$work/$1/list"
        cp "$work/$1/list" "$list"
        say "wrote $list"
        return 0
    fi
    say "the cases skipped as $1 are not those of ci/skips/${known##*/}:"
    cat "$work/$1/differences" >&2
    say "+ was skipped but is not listed: make it run here, or list it with the reason after a #"
    say "- is listed but was not skipped: take it off the list (--update-skips does both)"
    count "$work/$1/failed" 1
}

# The lists of platforms that cannot run here are derived from the needs of the
# cases: docs/verification.md.
check_derived_skips() {
    for list in freebsd-root freebsd-user macos-root macos-user \
        i386-root i386-user qemu-root qemu-user; do
        grep '^test ' "$programs/list" | while IFS='	' read -r _ path; do
            TESTER_SKIPS_OF=$list "$programs/$path"
        done | sort >"$work/derived"
        known=$here/skips/$list.txt
        if [ -e "$known" ] && [ "$(grep -v "^#" "$known" | sort)" = "$(cat "$work/derived")" ]; then
            continue
        fi
        if [ "$update_skips" = true ]; then
            {
                sed -n '/^#/!q;p' "$known" 2>/dev/null || true
                cat "$work/derived"
            } >"$work/derived-list"
            cp "$work/derived-list" "$known"
            say "wrote $known"
            continue
        fi
        say "the needs of the cases say otherwise than ci/skips/$list.txt; --update-skips writes it"
        count "$work/${passes%% *}/failed" 1
    done
}

# These need cargo, rustdoc and rustc, which may be in root's home: so only as the
# user that built the programs. What is skipped here is in no list, so must not be.
run_with_cargo() (
    cd "$here/.."
    before=$(cat "$pass/skipped")
    suite "test compile_fail" cargo test --locked --package tester --test compile_fail
    suite "documentation" cargo test --doc --locked
    if [ "$(cat "$pass/skipped")" != "$before" ]; then
        say "examples in the documentation are ignored; let them compile (no_run) or fail (compile_fail)"
        count "$pass/failed" 1
    fi
)

# --- The passes --------------------------------------------------------------

for identity in $passes; do
    pass=$work/$identity
    if [ "$identity" = user ] && [ "$(id -u)" = 0 ]; then
        printf '\n##### as %s\n' "$user"
        # The counts tell whether it went well; a pass that broke leaves none.
        as_user sh "$work/run-tests.sh" --pass "$work" </dev/null ||
            die "the pass as $user broke off"
    else
        printf '\n##### as %s\n' "$(id -un)"
        if [ "$identity $extent" = "root all" ]; then
            race_seconds=${TESTER_RACE_SECONDS:-10}
        else
            race_seconds=${TESTER_RACE_SECONDS:-2}
        fi
        (
            TESTER_RACE_SECONDS=$race_seconds
            export TESTER_RACE_SECONDS
            run_pass "$pass"
        )
        if [ "$with_cargo" = true ] && [ -z "${TEST_SUITES-}" ]; then
            run_with_cargo
        fi
    fi
    check_left_behind "$identity"
    check_skips "$identity"
done
if [ "$platform" = linux ] && [ -z "${TEST_SUITES-}" ]; then
    check_derived_skips
fi

# --- The result --------------------------------------------------------------

passed=0
failed=0
skipped=0
for identity in $passes; do
    pass=$work/$identity
    printf '\n%s:\n' "$identity"
    cat "$pass/table"
done
printf '\n'
for identity in $passes; do
    pass=$work/$identity
    p=$(cat "$pass/passed")
    f=$(cat "$pass/failed")
    s=$(cat "$pass/skipped")
    printf '%s on %s: %s passed, %s failed, %s skipped (%s s)\n' \
        "$identity" "$platform" "$p" "$f" "$s" "$(cat "$pass/seconds")"
    passed=$((passed + p))
    failed=$((failed + f))
    skipped=$((skipped + s))
done
printf '%s passed, %s failed, %s skipped\n' "$passed" "$failed" "$skipped"
[ "$failed" = 0 ]
