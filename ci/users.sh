#!/bin/sh
# Creates the user and the groups that the tests need, if they are not there:
#
#   daemonize2-test     uid 7001, primary group daemonize2-test, gid 7001,
#                       member of the two groups below
#   daemonize2-extra1   gid 7002
#   daemonize2-extra2   gid 7003
#
# A name and numbers of their own, so that a test that drops to this identity
# can tell it from anything else, and a user with real supplementary groups, so
# that a test sees them arrive. Run as root; changes nothing if all is there.
set -eu

user=daemonize2-test
extra1=daemonize2-extra1
extra2=daemonize2-extra2
uid=7001
gid=7001
gid1=7002
gid2=7003

say() { printf '%s\n' "users.sh: $*" >&2; }

# True when the databases, as seen through id(1), hold all of the above.
all_there() {
    [ "$(id -u "$user" 2>/dev/null)" = "$uid" ] || return 1
    [ "$(id -g "$user" 2>/dev/null)" = "$gid" ] || return 1
    for wanted in "$gid1" "$gid2"; do
        case " $(id -G "$user") " in
            *" $wanted "*) ;;
            *) return 1 ;;
        esac
    done
}

create_linux() {
    if command -v useradd >/dev/null 2>&1; then
        for pair in "$user:$gid" "$extra1:$gid1" "$extra2:$gid2"; do
            getent group "${pair%:*}" >/dev/null || groupadd -g "${pair#*:}" "${pair%:*}"
        done
        id -u "$user" >/dev/null 2>&1 ||
            useradd -u "$uid" -g "$gid" -M -d /nonexistent -s /bin/sh "$user"
        usermod -G "$extra1,$extra2" "$user"
    else
        # Busybox, as in Alpine.
        for pair in "$user:$gid" "$extra1:$gid1" "$extra2:$gid2"; do
            grep -q "^${pair%:*}:" /etc/group || addgroup -g "${pair#*:}" "${pair%:*}"
        done
        id -u "$user" >/dev/null 2>&1 ||
            adduser -D -H -h /nonexistent -s /bin/sh -u "$uid" -G "$user" "$user"
        addgroup "$user" "$extra1"
        addgroup "$user" "$extra2"
    fi
}

create_freebsd() {
    for pair in "$user:$gid" "$extra1:$gid1" "$extra2:$gid2"; do
        pw groupshow "${pair%:*}" >/dev/null 2>&1 || pw groupadd "${pair%:*}" -g "${pair#*:}"
    done
    pw usershow "$user" >/dev/null 2>&1 ||
        pw useradd "$user" -u "$uid" -g "$user" -d /nonexistent -s /bin/sh -w no
    pw usermod "$user" -G "$extra1,$extra2"
}

create_macos() {
    for pair in "$user:$gid" "$extra1:$gid1" "$extra2:$gid2"; do
        group=/Groups/${pair%:*}
        dscl . -read "$group" PrimaryGroupID >/dev/null 2>&1 && continue
        dscl . -create "$group"
        dscl . -create "$group" PrimaryGroupID "${pair#*:}"
        dscl . -create "$group" Password '*'
    done
    if ! dscl . -read "/Users/$user" UniqueID >/dev/null 2>&1; then
        dscl . -create "/Users/$user"
        dscl . -create "/Users/$user" UniqueID "$uid"
        dscl . -create "/Users/$user" PrimaryGroupID "$gid"
        dscl . -create "/Users/$user" UserShell /bin/sh
        dscl . -create "/Users/$user" NFSHomeDirectory /var/empty
        dscl . -create "/Users/$user" Password '*'
        # Keeps the account off the login screen.
        dscl . -create "/Users/$user" IsHidden 1
    fi
    dseditgroup -o edit -a "$user" -t user "$extra1"
    dseditgroup -o edit -a "$user" -t user "$extra2"
    # Directory services answer from a cache; id(1) is asked right below.
    dscacheutil -flushcache
}

if all_there; then
    exit 0
fi
if [ "$(id -u)" != 0 ]; then
    say "the test user $user is not there, and creating it needs root"
    exit 1
fi
say "creating the test user $user and its groups"
case $(uname -s) in
    Linux) create_linux ;;
    FreeBSD) create_freebsd ;;
    Darwin) create_macos ;;
    *)
        say "do not know how to create users on $(uname -s)"
        exit 1
        ;;
esac
if ! all_there; then
    say "$user is not as it should be: $(id "$user" 2>&1)"
    exit 1
fi
