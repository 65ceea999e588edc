#!/bin/sh
# Starts daemons until the time is up: a minute of random combinations of
# options and initial states, each compared with what the oracle
# (tester/src/predict/) says, with one of the processes killed in every fifth;
# then in turn every fault, every crash, random sequences on one pid file,
# attacks on a pid file, stuck processes and many starts at a time; and again.
#
#   ci/soak.sh [minutes]        10 minutes unless given
#
# Environment:
#   TESTER_SEED         the seed, a number; the time of day unless set. Each
#                       minute of combinations begins 1 000 000 further on, and
#                       so do the sequences after it
#   TESTER_SLOWNESS     multiplies every deadline
#   CARGO_TARGET_DIR    as for cargo
#
# Prints the seeds, every mismatch, and what was counted; goes on after a
# mismatch, and exits with 1 at the end. See docs/verification.md.
set -eu

minutes=${1:-10}
case $minutes in
    '' | *[!0-9]*)
        echo "soak.sh: '$minutes' is no number of minutes" >&2
        exit 2
        ;;
esac
cd "$(dirname "$0")/.."
seed=${TESTER_SEED:-$(date +%s)}
ends=$(($(date +%s) + minutes * 60))
log=$(mktemp)
trap 'rm -f "$log"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

left() { echo $((ends - $(date +%s))); }

status=0
starts=0
mismatches=0

# The sum of the numbers before a word, in lines of figures.
sum_of() {
    grep -o -E "[0-9]+ $1" "$log" | awk '{ sum += $1 } END { print sum + 0 }'
}

# Runs one suite, says how it ended, and shows all of it if that was badly.
suite() {
    name=$1
    shift
    begun=$(date +%s)
    printf '%s (%s): ' "$name" "$*"
    if timeout -k 10 900 env "$@" cargo test --locked --quiet --package tester \
        --test "$name" -- --nocapture >"$log" 2>&1; then
        ended=passed
    else
        ended=FAILED
        status=1
    fi
    printf '%s, %s s' "$ended" $(($(date +%s) - begun))
    if [ "$name" = combinations ]; then
        counted=$(sum_of 'starts,')
        starts=$((starts + counted))
        mismatches=$((mismatches + $(sum_of 'mismatches,')))
        printf ', %s starts' "$counted"
    fi
    printf '\n'
    [ "$ended" = passed ] || cat "$log"
}

echo "seed: TESTER_SEED=$seed"
cargo test --locked --quiet --package tester --no-run
next="faults crashes sequences pid_file timeout start"
while [ "$(left)" -gt 0 ]; do
    slice=$(left)
    [ "$slice" -lt 60 ] || slice=60
    suite combinations TESTER_SOAK_SECONDS="$slice" TESTER_SEED="$seed"
    seed=$((seed + 1000000))
    [ "$(left)" -gt 0 ] || break
    name=${next%% *}
    next="${next#* } $name"
    case $name in
        faults) suite faults TESTER_ALL_FAULTS=1 ;;
        sequences) suite sequences PROPTEST_CASES=200 TESTER_SEED="$seed" ;;
        *) suite "$name" TESTER_RACE_SECONDS=5 ;;
    esac
done
echo "$starts starts of combinations in $minutes minutes, $mismatches mismatches, status $status"
exit "$status"
