# shellcheck shell=sh
# Sourced by the other scripts: finds the oldest Rust that the crate promises to
# work with, and a Rust with the sources of its standard library, whatever the
# machine has to offer. Needs $root, the root of the checkout.
#
#   msrv                the version, from Cargo.toml
#   cache               a directory that is kept between runs
#   try_rustup ...      runs rustup, if it is there, for two minutes at most: where
#                       its server is out of reach it may just hang
#   find_msrv           finds such a toolchain or fails, then
#   msrv_cargo ...        runs its cargo
#   find_debian_rust    finds or fetches Debian's packages of it, or fails, then
#   debian_cargo ...      runs their cargo, which has rust-src

: "${root:?}"
msrv=$(sed -n 's/^rust-version = "\(.*\)"$/\1/p' "$root/Cargo.toml")
cache=${DAEMONIZE2_CACHE:-${XDG_CACHE_HOME:-${HOME:-/var}/.cache}/daemonize2}
debian_rust=$cache/rust-$msrv/root

rustup_hangs=false
try_rustup() {
    [ "$rustup_hangs" = false ] && command -v rustup >/dev/null 2>&1 || return 1
    bound=
    ! command -v timeout >/dev/null 2>&1 || bound="timeout 120"
    status=0
    $bound rustup "$@" >&2 || status=$?
    [ "$status" != 124 ] || rustup_hangs=true
    return "$status"
}

# Debian ships one toolchain as its own and, for web browsers, a newer one in
# older releases. They are unpacked, never installed: the machine's own Rust
# stays what it is.
fetch_debian_rust() {
    [ "$(id -u)" = 0 ] || return 1
    command -v apt-get >/dev/null 2>&1 || return 1
    for attempt in 1 2; do
        for suffix in -web ''; do
            version=$(apt-cache madison "rustc$suffix" |
                awk -v msrv="$msrv." 'index($3, msrv) == 1 { print $3; exit }')
            [ -z "$version" ] || break 2
        done
        # The lists may just not be there yet.
        [ "$attempt" = 2 ] || apt-get -q update >&2 || return 1
    done
    [ -n "$version" ] || return 1
    echo "fetching Debian's Rust $version into $cache" >&2
    fetched=$cache/rust-$msrv.part
    rm -rf "$fetched"
    mkdir -p "$fetched/debs/partial" "$fetched/root"
    # With what they depend on and the machine lacks.
    apt-get install -q -y --no-install-recommends --download-only --reinstall \
        -o Dir::Cache::archives="$fetched/debs" \
        "rustc$suffix=$version" "cargo$suffix=$version" "rust$suffix-src=$version" \
        "libstd-rust$suffix-dev=$version" "libstd-rust$suffix-$msrv=$version" >&2 || return 1
    for package in "$fetched"/debs/*.deb; do
        dpkg -x "$package" "$fetched/root" || return 1
    done
    rm -r "$fetched/debs"
    # Whole or not at all.
    rm -rf "$cache/rust-$msrv"
    mv "$fetched" "$cache/rust-$msrv"
}

find_debian_rust() {
    [ -x "$debian_rust/usr/bin/cargo" ] || fetch_debian_rust
}

debian_cargo() {
    triplet=$(dpkg-architecture -qDEB_HOST_MULTIARCH 2>/dev/null || gcc -dumpmachine)
    env LD_LIBRARY_PATH="$debian_rust/usr/lib:$debian_rust/usr/lib/$triplet:$debian_rust/lib/$triplet" \
        RUSTC="$debian_rust/usr/bin/rustc" RUSTDOC="$debian_rust/usr/bin/rustdoc" \
        "$debian_rust/usr/bin/cargo" "$@"
}

find_msrv() {
    case $(rustc --version) in
        "rustc $msrv."*)
            msrv_kind=current
            return 0
            ;;
    esac
    if command -v rustup >/dev/null 2>&1; then
        msrv_toolchain=$(rustup toolchain list | sed -n "s/^\(${msrv}[.-][^ ]*\).*/\1/p" | head -n 1)
        if [ -n "$msrv_toolchain" ]; then
            msrv_kind=rustup
            return 0
        fi
    fi
    if [ ! -x "$debian_rust/usr/bin/cargo" ] &&
        try_rustup toolchain install "$msrv" --profile minimal --no-self-update; then
        msrv_kind=rustup
        msrv_toolchain=$msrv
    elif find_debian_rust; then
        msrv_kind=debian
    else
        return 1
    fi
}

msrv_cargo() {
    case $msrv_kind in
        current) cargo "$@" ;;
        rustup) cargo "+$msrv_toolchain" "$@" ;;
        debian) debian_cargo "$@" ;;
    esac
}
