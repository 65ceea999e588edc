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
# A system that computes more groups for every user (macOS) may do so.
#
# Knows Linux (also with busybox), FreeBSD, DragonFly, NetBSD, OpenBSD, macOS and
# illumos. A system without their programs gets the lines by hand: in passwd or
# master.passwd, with pwd_mkdb(8) if there is one, and in group.
set -eu

user=daemonize2-test
extra1=daemonize2-extra1
extra2=daemonize2-extra2
uid=7001
gid=7001
gid1=7002
gid2=7003
groups="$user:$gid $extra1:$gid1 $extra2:$gid2"

say() { printf '%s\n' "users.sh: $*" >&2; }
has() { command -v "$1" >/dev/null 2>&1; }

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

has_user() { id -u "$user" >/dev/null 2>&1; }

# Small images lack getent(1).
has_group() {
    if has getent; then
        getent group "$1" >/dev/null 2>&1
    else
        grep -q "^$1:" /etc/group
    fi
}

# Calls $1 with the name and the gid of each group that is missing.
add_groups() {
    for pair in $groups; do
        has_group "${pair%:*}" || "$1" "${pair%:*}" "${pair#*:}"
    done
}

# The programs of shadow, NetBSD, OpenBSD and illumos.
groupadd_one() { groupadd -g "$2" "$1"; }
create_useradd() {
    add_groups groupadd_one
    # -M, without a home directory, is shadow's; elsewhere that is the default.
    without_home=
    [ "$(uname -s)" != Linux ] || without_home=-M
    has_user ||
        useradd -u "$uid" -g "$user" $without_home -d /nonexistent -s /bin/sh "$user"
    usermod -G "$extra1,$extra2" "$user"
}

# Busybox, as in Alpine.
addgroup_one() { addgroup -g "$2" "$1"; }
create_busybox() {
    add_groups addgroup_one
    has_user || adduser -D -H -h /nonexistent -s /bin/sh -u "$uid" -G "$user" "$user"
    addgroup "$user" "$extra1"
    addgroup "$user" "$extra2"
}

# FreeBSD and DragonFly.
pw_one() { pw groupadd "$1" -g "$2"; }
create_pw() {
    add_groups pw_one
    has_user || pw useradd "$user" -u "$uid" -g "$user" -d /nonexistent -s /bin/sh -w no
    pw usermod "$user" -G "$extra1,$extra2"
}

# A group that is there lacks the user.
create_by_hand() {
    for pair in $groups; do
        if has_group "${pair%:*}"; then
            say "the group ${pair%:*} is there; remove it, or make $user a member"
            return 1
        fi
        member=$user
        [ "${pair%:*}" != "$user" ] || member=
        printf '%s:*:%s:%s\n' "${pair%:*}" "${pair#*:}" "$member" >>/etc/group
    done
    if [ -f /etc/master.passwd ]; then
        if ! has pwd_mkdb; then
            say "there is /etc/master.passwd, but no pwd_mkdb(8)"
            return 1
        fi
        has_user ||
            printf '%s:*:%s:%s::0:0::/nonexistent:/bin/sh\n' "$user" "$uid" "$gid" >>/etc/master.passwd
        pwd_mkdb -p /etc/master.passwd
    else
        has_user ||
            printf '%s:*:%s:%s::/nonexistent:/bin/sh\n' "$user" "$uid" "$gid" >>/etc/passwd
    fi
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
if [ "$(uname -s)" = Darwin ]; then
    create_macos
elif has pw; then
    create_pw
elif has useradd && has groupadd && has usermod; then
    create_useradd
elif has adduser && has addgroup; then
    create_busybox
elif [ -w /etc/group ] && [ -w /etc/passwd ]; then
    say "there is neither pw(8), nor useradd(8), nor busybox's adduser: writing the files by hand"
    create_by_hand
else
    say "cannot create users on $(uname -s): it has neither pw(8), useradd(8) with groupadd(8)" \
        "and usermod(8), busybox's adduser, nor a writable /etc/passwd and /etc/group"
    exit 1
fi
if ! all_there; then
    say "$user is not as it should be: $(id "$user" 2>&1)"
    exit 1
fi
