#!/bin/sh
# All that is checked without running a test. Goes on after a failure and names
# the failed checks at the end.
#
#   ci/checks.sh            every check
#   ci/checks.sh NAME...    just these; the names are those of the functions
#                           below without their 'check_'
set -eu

root=$(cd "$(dirname "$0")/.." && pwd -P)
# shellcheck source=ci/toolchain.sh
. "$root/ci/toolchain.sh"
cd "$root"

names="fmt clippy docs msrv listing alone dependencies unsafe cases times changelog recording scripts workflow deny"
target_dir=${CARGO_TARGET_DIR:-$root/target}
version=$(sed -n '/^\[package\]/,/^\[/s/^version = "\(.*\)"$/\1/p' Cargo.toml)

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

wrong() {
    printf '%s\n' "checks.sh: $*" >&2
    return 1
}

check_fmt() {
    cargo fmt --all --check &&
        cargo fmt --manifest-path benches/Cargo.toml --check
}

check_clippy() {
    cargo clippy --locked --workspace --all-targets -- -D warnings &&
        cargo clippy --locked --manifest-path benches/Cargo.toml -- -D warnings
}

# The public documentation as docs.rs builds it, then all of it, since the
# comments of the private modules are read as well and their links break too.
check_docs() {
    RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps -p daemonize2 &&
        RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps --workspace --document-private-items
}

# The tests are included: the container runs them with this version.
check_msrv() {
    find_msrv || {
        wrong "no Rust $msrv: neither rustup nor, as root, Debian's packages have it"
        return 1
    }
    CARGO_TARGET_DIR=$cache/target-msrv msrv_cargo check --locked --workspace --all-targets
}

# What is published, and what is not.
check_listing() {
    cargo package --locked --allow-dirty --list -p daemonize2 >"$work/listing" || return 1
    extra=$(grep -v -x -E \
        -e 'Cargo\.(toml|toml\.orig|lock)|\.cargo_vcs_info\.json' \
        -e '(README|CHANGELOG|PLATFORMS)\.md|LICENSE-(MIT|APACHE)' \
        -e 'docs/((guide|migration|recipes)\.md|(session|start)\.svg)|src/.*\.rs|examples/.*' "$work/listing" || true)
    [ -z "$extra" ] || {
        wrong "the package has what it should not have:" "$extra"
        return 1
    }
    for file in README.md CHANGELOG.md PLATFORMS.md LICENSE-MIT LICENSE-APACHE \
        $(find src -name '*.rs') $(find examples -type f); do
        grep -q -x -F "$file" "$work/listing" || {
            wrong "the package lacks $file"
            return 1
        }
    done
}

# The library as its users get it, from the package and outside of the
# workspace, where no other member turns on a feature of libc for it; and with
# the oldest libc that it says it works with.
check_alone() {
    # Files of now (-m): those in a package are old, so that cargo would take
    # what it had built of an earlier one for theirs.
    cargo package --locked --allow-dirty --no-verify -p daemonize2 &&
        tar -xzmf "$target_dir/package/daemonize2-$version.crate" -C "$work" || return 1
    oldest=$(sed -n 's/^libc = .*"\([0-9][0-9.]*\)".*/\1/p' Cargo.toml | head -n 1)
    (
        cd "$work/daemonize2-$version"
        CARGO_TARGET_DIR=$cache/target-alone
        export CARGO_TARGET_DIR
        # What the examples need has needs of its own.
        cargo check --locked --all-targets &&
            sed -i.bak '/^\[target\..*dev-dependencies/,/^$/d' Cargo.toml &&
            cargo update --package libc --precise "$oldest" &&
            cargo check --locked --lib
    )
}

# A daemon library is linked into privileged programs: libc, and at most what
# counts the threads where that takes more than reading a file.
check_dependencies() {
    extra=$(cargo tree --locked -p daemonize2 -e normal,build --target all --prefix none --format '{p}' |
        cut -d ' ' -f 1 | sort -u | grep -v -x -E 'daemonize2|libc|num_threads' || true)
    [ -z "$extra" ] || wrong "the library depends on more than libc:" "$extra"
}

# The promise that src/sys is all the unsafe code there is. The compiler's lint
# holds it too, but can be allowed anywhere; this cannot. Outside of src/sys,
# an `unsafe fn` may be declared in src/builder.rs, and three blocks of one line
# there may call what checks nothing.
check_unsafe() {
    find src -name '*.rs' ! -path 'src/sys/*' -exec awk '
        { line = $0 }
        line ~ /^[[:space:]]*\/\// { next }
        {
            sub(/[[:space:]]\/\/[^"]*$/, "", line)
            if (line !~ /(^|[^[:alnum:]_])unsafe([^[:alnum:]_]|$)/) next
            if (FILENAME == "src/builder.rs") {
                if (line ~ /unsafe fn /) next
                if (line ~ /unsafe [{][^}{]*[}]/ && ++blocks <= 3) next
            }
            print FILENAME ":" FNR ": " $0
        }' {} + >"$work/unsafe" || return 1
    [ ! -s "$work/unsafe" ] || wrong "unsafe code outside of src/sys:" "$(cat "$work/unsafe")"
}

# The cases that the documents name are there.
check_cases() {
    # shellcheck disable=SC2016 # Markdown's
    grep -h -o -E '`[a-z_]+(::[a-z_]+)?::[a-z0-9_*]+`' docs/*.md SECURITY.md README.md |
        tr -d '`' | sort -u |
        while IFS= read -r case; do
            [ -e "tests/${case%%::*}" ] || [ -e "tests/${case%%::*}.rs" ] || continue
            file=tests/$(printf '%s' "${case%::*}" | sed 's|::|/|').rs
            name=$(printf '%s' "${case##*::}" | sed 's/\*/[a-z0-9_]*/g')
            grep -q -s "case!(${name}[,)]" "$file" || echo "$case"
        done >"$work/cases"
    [ ! -s "$work/cases" ] || wrong "documents name cases that are not there:" "$(cat "$work/cases")"
}

# A test adapts each time to the machine by scaled() of tester/src/slowness.rs. It
# names a time that must stay as it is, such as one of the library, by a constant.
check_times() {
    grep -r -n -E 'Duration::from_[a-z]+\([0-9]' tests | grep -v -E 'scaled\(|const [A-Z_]+: Duration = ' >"$work/times" || true
    [ ! -s "$work/times" ] || wrong "times that are neither scaled nor constants:" "$(cat "$work/times")"
}

check_changelog() {
    grep -q -E "^## \[?$(printf %s "$version" | sed 's/\./\\./g')\]?([^0-9.]|\$)" CHANGELOG.md ||
        wrong "CHANGELOG.md has no entry for $version"
}

# The terminal in the README shows what the program prints.
check_recording() {
    ci/recording.sh --check
}

check_scripts() {
    if ! command -v shellcheck >/dev/null 2>&1; then
        echo "shellcheck is not installed"
        return 0
    fi
    shellcheck ci/*.sh ci/*/*.sh .ci/run || return 1
    # Parsed by the shells that are there, too. The other Unixes have neither Bash
    # nor a new one.
    for script in ci/*.sh ci/*/*.sh; do
        ! head -n 1 "$script" | grep -q bash || continue
        for shell in dash 'busybox sh'; do
            # shellcheck disable=SC2086 # two words
            ! command -v ${shell%% *} >/dev/null 2>&1 || $shell -n "$script" || return 1
        done
    done
}

# Unpinned actions, permissions and values that a workflow should not expand.
check_workflow() {
    zizmor_version=1.32.0
    zizmor=$cache/zizmor-$zizmor_version/bin/zizmor
    if [ ! -x "$zizmor" ]; then
        {
            python3 -m venv "$cache/zizmor-$zizmor_version" &&
                "$cache/zizmor-$zizmor_version/bin/pip" install --quiet "zizmor==$zizmor_version"
        } >"$work/zizmor" 2>&1 || zizmor=$(command -v zizmor) || {
            tail -n 3 "$work/zizmor"
            echo "zizmor is not installed"
            return 0
        }
    fi
    "$zizmor" --offline --quiet --persona pedantic .github/workflows
}

check_deny() {
    if ! command -v cargo-deny >/dev/null 2>&1; then
        echo "cargo-deny is not installed"
        return 0
    fi
    cargo deny check licenses bans sources
}

# shellcheck disable=SC2086 # several words
[ $# != 0 ] || set -- $names

failed=
for name; do
    case " $names " in
        *" $name "*) ;;
        *) wrong "there is no check '$name', only: $names" || exit 2 ;;
    esac
    started=$(date +%s)
    printf '=== %s\n' "$name"
    "check_$name" || failed="$failed $name"
    printf '=== %s: %s s\n' "$name" "$(($(date +%s) - started))"
done
if [ -n "$failed" ]; then
    printf '%s\n' "checks.sh: failed:$failed" >&2
    exit 1
fi
