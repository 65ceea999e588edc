#!/bin/bash
# Changes the library in every way that cargo-mutants knows, one at a time, and
# runs the tests on each: those that no test notices are compared with
# ci/mutants/equivalent.txt, which says why nobody could.
#
#   ci/mutants.sh [FILE...]     such as src/root.rs; all files unless given
#
# Needs Linux, root, the test user (ci/users.sh) and cargo-mutants. Takes about
# three hours for all files. What is left out, since it is not compiled here, is in
# ci/mutants/config.toml.
#
# Environment:
#   MUTANTS_OUT     directory of the results; target/mutants unless set
#   MUTANTS_JOBS    how many at a time, 3 unless set
#   MUTANTS_SUITES  these tests alone: a first run with fast ones may be followed
#                   by others on what they have missed
#   MUTANTS_NAMED   a regular expression: those alone whose names match
#   MUTANTS_ITERATE set, goes on with what the results so far do not tell to be
#                   caught, or not to compile
#
# How it goes faster than `cargo test` for each: the tests are built once, since
# most meet the library only in the tester, which is all that is built anew; they
# begin with those that know most of the file; the first failure ends them. Each
# run has a process namespace of its own: what a broken library leaves behind
# goes with it, and what it signals by mistake is not the machine.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)

# Tests that call the library themselves, and the files for which they are
# therefore built anew.
callers="compatibility control limits pid_file"
is_called() {
    case $1 in
        src/builder.rs | src/error.rs | src/notify.rs | src/own_fds.rs) ;;
        src/identity/* | src/pid_file/* | src/streams/* | src/sys/linux/*) ;;
        src/sys/fd.rs | src/sys/file.rs | src/sys/mod.rs | src/sys/poll.rs) ;;
        *) return 1 ;;
    esac
}

# Tests of which some cases need an ordinary user, as whom they run once more.
ordinary="control"

# All but those of the tester itself and of the examples, the fastest first.
order=${MUTANTS_SUITES:-"directories environment root streams log_files signals errors limits
    privileges sequences compatibility foreground notification combinations control descriptors
    crashes readiness faults timeout start pid_file"}

die() {
    printf '%s\n' "mutants.sh: $*" >&2
    exit 2
}

# --- What cargo calls to run a test of the changed tree -------------------------

# The suites that know most of a file.
experts() {
    case $1 in
        src/start/actions.rs | src/start/panics.rs | src/start/text.rs) echo errors start readiness ;;
        src/builder.rs | src/error.rs) echo compatibility errors start ;;
        src/own_fds.rs) echo pid_file control ;;
        src/identity/* | src/sys/ids.rs | src/sys/resuid.rs | src/sys/user_database.rs | \
            src/sys/linux/capabilities.rs) echo privileges ;;
        src/start/inherited.rs) echo descriptors signals ;;
        src/notify.rs) echo notification foreground ;;
        src/pid_file/*) echo pid_file control ;;
        src/directory/*) echo directories privileges ;;
        src/start/readiness.rs | src/start/uncommitted.rs) echo readiness notification ;;
        src/start/*) echo start errors crashes readiness ;;
        src/activation.rs | src/environment.rs | src/sys/environment.rs) echo environment ;;
        src/root.rs) echo root ;;
        src/streams/*) echo log_files streams ;;
        src/trust.rs) echo log_files pid_file control ;;
        src/sys/fd.rs | src/sys/file.rs | src/sys/poll.rs | src/sys/socket.rs)
            echo streams start pid_file descriptors
            ;;
        src/sys/child.rs | src/sys/signal.rs) echo signals ;;
        src/sys/linux/*) echo control descriptors privileges ;;
    esac
}

# The tests of one mutant, in their namespace.
run_suites() {
    local deps=$1 run=$2 name binary changed
    export TESTER_BINARY=$run/tester TESTER_FAIL_FAST=1 TMPDIR=$run TESTER_RACE_SECONDS=2
    changed=$(cd "$MUTANTS_WORK/sources" && find src -name '*.rs' |
        while read -r file; do
            cmp -s "$file" "$deps/../../../$file" || echo "$file"
        done)
    cd "$MUTANTS_WORK/sources/tester"
    # shellcheck disable=SC2046,SC2086 # several words
    for name in $(printf '%s\n' $(experts "$changed") $order | awk '!seen[$0]++'); do
        case " ${order//$'\n'/ } " in *" $name "*) ;; *) continue ;; esac
        binary=
        case " $callers " in
            *" $name "*) binary=$(find "$deps" -name "$name-*" -type f -executable) ;;
        esac
        [ -n "$binary" ] ||
            binary=$(find "$MUTANTS_WORK/suites" -name "$name-*" -type f -executable)
        echo "=== $name"
        timeout -k 1 120 "$binary" --color never || return 1
        case " $ordinary " in *" $name "*) ;; *) continue ;; esac
        echo "=== $name, as an ordinary user"
        # What cargo-mutants makes is out of this user's reach.
        cp "$binary" "$run/$name"
        TMPDIR=$run/user timeout -k 1 120 setpriv --reuid=daemonize2-test \
            --regid=daemonize2-test --init-groups "$run/$name" --color never || return 1
    done
    # Nothing is changed at first.
    case ${changed:-src/sys/linux/descriptors.rs} in
        *src/sys/linux/descriptors.rs* | *src/sys/linux/directory.rs*) ;;
        *) return ;;
    esac
    echo "=== descriptors, without close_range(2)"
    build_listing "$deps/../../.." "$run/listing" || return 1
    "$run/listing" lists-descriptors || return 1
    TESTER_BINARY=$run/listing timeout -k 1 120 \
        "$(find "$MUTANTS_WORK/suites" -name "descriptors-*" -type f -executable)" --color never
}

# The tester of the sources in $1, for old kernels, to $2.
build_listing() (
    exec 9>"$MUTANTS_WORK/listing.lock"
    flock 9
    cd "$1" || return 1
    unset CARGO_ENCODED_RUSTFLAGS
    RUSTFLAGS='--cfg daemonize2_without_close_range' cargo build --package tester --bin tester \
        --locked --quiet --target-dir "$MUTANTS_WORK/listing" 9>&- &&
        cp "$MUTANTS_WORK/listing/debug/tester" "$2"
)

if [ "${1-}" = --suites ]; then
    run_suites "$2" "$3"
    exit
fi

if [ "${1-}" = --run ]; then
    binary=$2
    case ${binary##*/} in
        # With the first of them come all the others.
        compatibility-* | start-*) ;;
        control-*) exit 0 ;;
        # Unit tests, which take no time.
        *) exec timeout -k 1 30 "$binary" ;;
    esac
    deps=$(cd "${binary%/*}" && pwd -P)
    run=$(mktemp -d "$MUTANTS_WORK/run.XXXXXX")
    chmod 755 "$run"
    cp "$deps/../tester" "$run/tester"
    mkdir -m 1777 "$run/user"
    # Those of cargo's own are none of a case's.
    for descriptor in /proc/self/fd/*; do
        descriptor=${descriptor##*/}
        [ "$descriptor" -le 2 ] || [ "$descriptor" = 255 ] || eval "exec $descriptor>&-"
    done
    status=0
    timeout -k 5 900 unshare --pid --fork --kill-child --mount --mount-proc \
        bash "${BASH_SOURCE[0]}" --suites "$deps" "$run" || status=$?
    rm -rf "$run"
    exit "$status"
fi

# --- The whole --------------------------------------------------------------------

[ "$(id -u)" = 0 ] || die "needs root"
cargo mutants --version >/dev/null 2>&1 || die "needs cargo-mutants: cargo install --locked cargo-mutants"
id -u daemonize2-test >/dev/null 2>&1 || die "needs the test user: ci/users.sh"

out=${MUTANTS_OUT:-$root/target/mutants}
mkdir -p "$out"
out=$(cd "$out" && pwd -P)
MUTANTS_WORK=$(mktemp -d /var/tmp/daemonize2-mutants.XXXXXX)
export MUTANTS_WORK
chmod 755 "$MUTANTS_WORK"
trap 'rm -rf "$MUTANTS_WORK"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# A copy, where tests may write down what they have found.
mkdir "$MUTANTS_WORK/sources" "$MUTANTS_WORK/suites"
tar -C "$root" -c --exclude ./target --exclude ./.git . | tar -C "$MUTANTS_WORK/sources" -x
cp "${BASH_SOURCE[0]}" "$MUTANTS_WORK/mutants.sh"
cd "$MUTANTS_WORK/sources"

# The tester's own unit tests say nothing about the library.
printf '\n[lib]\ntest = false\n' >>tester/Cargo.toml

unset CARGO_TARGET_DIR
export CARGO_PROFILE_DEV_DEBUG=0 CARGO_PROFILE_TEST_DEBUG=0 CARGO_INCREMENTAL=1
cargo test --no-run --locked --quiet
deps=$MUTANTS_WORK/sources/target/debug/deps
find "$deps" -type f -executable ! -name '*.so' -exec cp {} "$MUTANTS_WORK/suites" \;

# cargo-mutants has a baseline of its own, but of one package alone.
began=$SECONDS
bash "$MUTANTS_WORK/mutants.sh" --run "$(find "$deps" -name 'start-*' -type f -executable)" \
    >"$out/baseline.log" 2>&1 || die "the tests fail without any change: see $out/baseline.log"
echo "without any change the tests pass, in $((SECONDS - began)) s"
rm -rf target

host=$(rustc -vV | sed -n 's/^host: //p' | tr 'a-z-' 'A-Z_')
export "CARGO_TARGET_${host}_RUNNER=bash $MUTANTS_WORK/mutants.sh --run"

# $1: a name, $2: the tests to build, then the files.
mutate() {
    local group=$1 tests=(--cargo-arg=--lib) status=0
    for name in $2; do
        tests+=("--cargo-arg=--test=$name")
    done
    shift 2
    local files=()
    for file; do
        files+=(--file "$file")
    done
    cargo mutants --config ci/mutants/config.toml --package daemonize2 --test-workspace true \
        --baseline skip --jobs "${MUTANTS_JOBS:-3}" --timeout 1000 --build-timeout 300 \
        ${MUTANTS_ITERATE:+--iterate} ${MUTANTS_NAMED:+--re "$MUTANTS_NAMED"} \
        --no-shuffle --colors never --output "$out/$group" --cargo-arg=--locked "${tests[@]}" "${files[@]}" || status=$?
    # 2: some were missed, 3: some took too long.
    case $status in
        0 | 2 | 3) ;;
        *) die "cargo-mutants ended with status $status" ;;
    esac
}

with_callers=()
without=()
if [ $# = 0 ]; then
    mapfile -t files < <(find src -name '*.rs' | sort)
    set -- "${files[@]}"
fi
for file; do
    if is_called "$file"; then
        with_callers+=("$file")
    else
        without+=("$file")
    fi
done
[ -n "${MUTANTS_ITERATE-}" ] || rm -rf "$out/called" "$out/others"
[ ${#without[@]} = 0 ] || mutate others start "${without[@]}"
[ ${#with_callers[@]} = 0 ] || mutate called "$callers" "${with_callers[@]}"

# Without their places, which change.
named() { cat "$@" | sed -E 's/^([^:]+):[0-9]+:[0-9]+: /\1: /' | sort; }
sed -E 's/ +# .*//; /^(#|$)/d' ci/mutants/equivalent.txt | sort >"$out/equivalent"
named "$out"/*/mutants.out/missed.txt >"$out/missed"
named "$out"/*/mutants.out/{caught,timeout}.txt >"$out/caught"
for result in caught missed timeout unviable; do
    echo "$result: $(cat "$out"/*/mutants.out/$result.txt | wc -l)"
done

wrong=0
if comm -23 "$out/missed" "$out/equivalent" | grep .; then
    echo "mutants.sh: no test notices these, and ci/mutants/equivalent.txt does not say why"
    wrong=1
fi
if comm -12 "$out/caught" "$out/equivalent" | comm -23 - "$out/missed" | grep .; then
    echo "mutants.sh: ci/mutants/equivalent.txt says that these cannot be noticed, but they were"
    wrong=1
fi
exit "$wrong"
