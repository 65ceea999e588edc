#!/bin/sh
# Runs the whole suite as root, then as an ordinary user, then compares the
# names of the skipped cases with the committed lists, so that a skip can never
# hide. Called by an ordinary user, it does that user's part only.
#
#   ci/test.sh [--create-users] [--update-skips] [--build]
#
#   --create-users   create the test user (ci/users.sh) if it is missing;
#                    implied by CI=true
#   --update-skips   write the lists in ci/skips instead of comparing
#   --build          build all that a run builds, and run nothing
#
# Environment:
#   CARGO_TARGET_DIR      must be a directory that the test user can reach
#   CARGO_BUILD_TARGET    as for cargo
#   DAEMONIZE2_PLATFORM   the first part of the lists' names: linux, freebsd,
#                         macos; docker and musl fall back on linux where they
#                         have no list of their own
#   TEST_TIMEOUT          seconds that one test binary may take, 1800 unless set
#   TEST_EXTENT           all, unless set: every fault, a kill at every call,
#                         combinations by triples; sample: of these as many as
#                         `cargo test` tries. All cases run in either
#   TESTER_RACE_SECONDS   how long each contest for a pid file takes; unless set,
#                         10 as root in the extent all, and 2 otherwise
#
# Prints the counts of each identity and closes with the sum of them, on a line
# of its own: 'N passed, N failed, N skipped'. A binary that ended without a
# result, a skip list that differs and a process left behind count as a failure
# each: what makes this script fail is always in the numbers.
set -eu

user=daemonize2-test
root=$(cd "$(dirname "$0")/.." && pwd -P)
os=$(uname -s)

# The user's pass executes what root built, whatever root's umask is.
umask 022

say() { printf '%s\n' "test.sh: $*" >&2; }
die() {
    say "$*"
    exit 1
}

extent=${TEST_EXTENT:-all}
case $extent in
    all | sample) ;;
    *) die "TEST_EXTENT is '$extent', which is neither all nor sample" ;;
esac

# --- One pass over the test binaries -----------------------------------------

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
    status=0
    # Into a file, not a pipe: were a process left behind that holds the
    # output open, a pipe would wait for it.
    "$@" >"$log" 2>&1 </dev/null || status=$?
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
    count "$pass/passed" "$p"
    count "$pass/failed" "$f"
    count "$pass/skipped" "$s"
}

# GNU's timeout on Linux only: FreeBSD's makes itself the reaper of all that it
# runs, so that the daemons under test would get another parent.
bounded() {
    if [ "$os" = Linux ] && timeout --version >/dev/null 2>&1; then
        timeout -k 10 "${TEST_TIMEOUT:-1800}" "$@"
    else
        "$@"
    fi
}

# Runs a test binary as cargo does: in the directory of its package.
binary() (
    cd "$1"
    CARGO_MANIFEST_DIR=$1
    export CARGO_MANIFEST_DIR
    bounded "$2"
)

# Runs all that $1/binaries lists and leaves counts, times and the names of
# skipped cases in $1. Runs under the identity that is being tested.
run_pass() {
    pass=$1
    started=$(date +%s)
    for file in passed failed skipped; do
        echo 0 >"$pass/$file"
    done
    : >"$pass/skips"
    TESTER_SKIPPED_LIST=$pass/skips
    export TESTER_SKIPPED_LIST
    if [ "$extent" = all ]; then
        # See tests/faults, and docs/verification.md.
        TESTER_ALL_FAULTS=1
        TESTER_TRIPLES=1
        export TESTER_ALL_FAULTS TESTER_TRIPLES
    fi
    # On descriptor 3, closed again for the suites.
    while IFS='	' read -r name directory path <&3; do
        suite "$name" binary "$directory" "$path" 3<&-
        if [ "$name" = "test descriptors" ] && [ -n "${TESTER_LISTING-}" ]; then
            TESTER_BINARY=$TESTER_LISTING
            export TESTER_BINARY
            suite "$name, without close_range(2)" binary "$directory" "$path" 3<&-
            unset TESTER_BINARY
        fi
    done 3<"$work/binaries"
    # A case that was ignored by other means than the harness's is in the
    # count, but in no list. (The list is not sorted: binaries run their cases
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
    HOME=$work/user/home
    export HOME
    run_pass "$work/user"
    exit 0
fi

# --- Preparation -------------------------------------------------------------

create_users=${CI:-false}
update_skips=false
build_only=false
for argument; do
    case $argument in
        --build) build_only=true ;;
        --create-users) create_users=true ;;
        --update-skips) update_skips=true ;;
        *) die "unknown argument '$argument'; see the head of ci/test.sh" ;;
    esac
done

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
    else
        su "$user" -c "$*"
    fi
}

# /tmp by name: macOS gives root a directory of its own that no one else can enter.
work=$(mktemp -d /tmp/daemonize2-ci.XXXXXX)
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
chmod 755 "$work"
mkdir "$work/root" "$work/user" "$work/user/home"

if [ "$(id -u)" = 0 ]; then
    passes="root user"
    if ! id -u "$user" >/dev/null 2>&1; then
        [ "$create_users" = true ] ||
            die "there is no user $user; --create-users has it created (see ci/users.sh)"
    fi
    [ "$create_users" != true ] || sh "$root/ci/users.sh"
    chown -R "$user" "$work/user"
    as_user true || die "cannot become $user; a container needs the capabilities SETUID and SETGID"

    # A checkout below a private home, as CI services have it, is out of the
    # test user's reach. A copy is not.
    if ! as_user test -r "$root/tester/Cargo.toml"; then
        [ -z "${DAEMONIZE2_COPIED-}" ] || die "$user cannot reach the copy in $root either"
        copy=/var/tmp/daemonize2-checkout
        say "$user cannot reach $root; going on in a copy, $copy"
        mkdir -m 755 "$copy" 2>/dev/null || [ -O "$copy" ] || die "$copy is not root's"
        rm -rf "$copy/sources"
        mkdir "$copy/sources"
        (cd "$root" && tar -cf - --exclude ./target --exclude ./.git .) |
            (cd "$copy/sources" && tar -xf -)
        CARGO_TARGET_DIR=$copy/target
        DAEMONIZE2_COPIED=true
        DAEMONIZE2_SKIPS=$root/ci/skips
        export CARGO_TARGET_DIR DAEMONIZE2_COPIED DAEMONIZE2_SKIPS
        rm -rf "$work"
        exec sh "$copy/sources/ci/test.sh" "$@"
    fi
else
    passes=user
    say "not root: the suite runs as $(id -un) only"
fi
skips=${DAEMONIZE2_SKIPS:-$root/ci/skips}

# --- Build, once -------------------------------------------------------------

cd "$root"
printf '=== build\n'
cargo test --no-run --locked --message-format=json-render-diagnostics >"$work/build.json"

# Cargo's order of the members is fixed; paths with quotes or tabs are not
# worth a JSON parser, which the base systems of CI lack.
sed -n 's/^{"reason":"compiler-artifact",.*"manifest_path":"\([^"]*\)\/Cargo\.toml","target":{"kind":\["\([^"]*\)".*,"name":"\([^"]*\)",.*"overflow_checks":[a-z]*,"test":true}.*"executable":"\([^"]*\)".*/\2 \3	\1	\4/p' \
    "$work/build.json" | grep -v '^test compile_fail	' | sort >"$work/binaries"
[ -s "$work/binaries" ] || die "cargo named no test binary"

target=$(sed -n 's/.*	\(.*\)\/deps\/[^/]*$/\1/p' "$work/binaries" | head -n 1)
if [ "$(id -u)" = 0 ]; then
    while IFS='	' read -r name directory path; do
        as_user test -x "$path" ||
            die "$user cannot execute $path: set CARGO_TARGET_DIR to a directory that it can reach"
    done <"$work/binaries"
fi

# For the cases about panics that abort. Below the target directory, so that what
# it leaves behind is found too.
printf '=== build, with panics that abort\n'
cargo build --package tester --bin tester --locked --quiet \
    --config 'profile.dev.panic="abort"' --target-dir "$target/aborting"
TESTER_ABORTING=$target/aborting/${CARGO_BUILD_TARGET:+$CARGO_BUILD_TARGET/}debug/tester
export TESTER_ABORTING

# Descriptors are closed in another way by old kernels.
if [ "$os" = Linux ]; then
    printf '=== build, without close_range(2)\n'
    RUSTFLAGS="${RUSTFLAGS-} --cfg daemonize2_without_close_range" \
        cargo build --package tester --bin tester --locked --quiet \
        --target-dir "$target/listing"
    TESTER_LISTING=$target/listing/${CARGO_BUILD_TARGET:+$CARGO_BUILD_TARGET/}debug/tester
    export TESTER_LISTING
    "$TESTER_LISTING" lists-descriptors ||
        die "$TESTER_LISTING was not built with RUSTFLAGS: unset CARGO_ENCODED_RUSTFLAGS"
fi

[ "$build_only" = false ] || exit 0

# --- The passes --------------------------------------------------------------

# Prints the processes that run a program of the target directory, or belong to
# the test user. $1: that user's id.
left_behind() {
    if [ "$os" = Linux ]; then
        # Not by ps, which small images lack, and whatever a daemon calls itself.
        {
            find /proc -maxdepth 1 -name '[0-9]*' -uid "$1"
            for process in /proc/[0-9]*; do
                if program=$(readlink "$process/exe"); then
                    case $program in
                        "$target"/*) echo "$process" ;;
                    esac
                elif [ "$(id -u)" = 0 ] &&
                    # A container may not let root see what a process of another
                    # user runs, but the mark of tester/src/observe/linux.rs.
                    grep -q '^Max realtime timeout  *7001[0-9]\{14\} ' "$process/limits"; then
                    echo "$process"
                fi
            done
        } 2>/dev/null | sort -u | while read -r process; do
            echo "${process#/proc/} $(tr '\0' ' ' <"$process/cmdline")"
        done 2>/dev/null
    else
        ps -A -o uid= -o pid= -o args= |
            TARGET="$target/" OWNER="$1" awk \
                'index($3, ENVIRON["TARGET"]) == 1 || $1 == ENVIRON["OWNER"] {
                    pid = $2; $1 = ""; $2 = ""; print pid, $0
                }'
    fi
}

# $1: the identity. A daemon that was told to end gets some seconds to do so.
check_left_behind() {
    # An id that no one has.
    owner=4294967294
    [ "$1" = root ] || [ "$(id -u)" != 0 ] || owner=$(id -u "$user")
    for _ in 1 2 3 4 5 6; do
        left=$(left_behind "$owner")
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

# $1: the identity. A list has one name a line; what follows a # is a remark.
check_skips() {
    list=$skips/$platform-$1.txt
    known=$list
    if [ ! -e "$list" ]; then
        case $platform in
            docker | musl) known=$skips/linux-$1.txt ;;
        esac
    fi
    sort -u "$work/$1/skips" >"$work/$1/actual"
    : >"$work/$1/expected"
    [ ! -e "$known" ] || sed 's/[[:space:]]*#.*//; /^$/d' "$known" | sort -u >"$work/$1/expected"
    if [ -e "$known" ] && cmp -s "$work/$1/expected" "$work/$1/actual"; then
        return 0
    fi
    if [ "$update_skips" = true ]; then
        # Keeps the remarks: those at the head, and those of names that stay.
        {
            sed -n '/^#/!q;p' "$known" 2>/dev/null || true
            while read -r name; do
                grep "^$name *#" "$known" 2>/dev/null || printf '%s\n' "$name"
            done <"$work/$1/actual"
        } >"$work/$1/list"
        cp "$work/$1/list" "$list"
        say "wrote $list"
        return 0
    fi
    say "the cases skipped as $1 are not those of ci/skips/${known##*/}:"
    diff -u "$work/$1/expected" "$work/$1/actual" | tail -n +4 | grep '^[-+]' >&2 || true
    say "+ was skipped but is not listed: make it run here, or list it with the reason after a #"
    say "- is listed but was not skipped: take it off the list (ci/test.sh --update-skips does both)"
    count "$work/$1/failed" 1
}

for identity in $passes; do
    if [ "$identity" = user ] && [ "$(id -u)" = 0 ]; then
        printf '\n##### as %s\n' "$user"
        # The counts tell whether it went well; a pass that broke leaves none.
        as_user env "TESTER_ABORTING=$TESTER_ABORTING" "TESTER_LISTING=${TESTER_LISTING-}" \
            sh "$root/ci/test.sh" --pass "$work" </dev/null ||
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
            run_pass "$work/$identity"
        )
        # These need cargo, rustdoc and rustc, which may be in root's home: so only
        # by whom the build was done. What is skipped here is in no list, so must
        # not be.
        pass=$work/$identity
        before=$(cat "$pass/skipped")
        suite "test compile_fail" cargo test --locked --package tester --test compile_fail
        suite "documentation" cargo test --doc --locked
        if [ "$(cat "$pass/skipped")" != "$before" ]; then
            say "examples in the documentation are ignored; let them compile (no_run) or fail (compile_fail)"
            count "$pass/failed" 1
        fi
    fi
    check_left_behind "$identity"
    check_skips "$identity"
done

# --- The result --------------------------------------------------------------

passed=0
failed=0
skipped=0
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
