//! The user and the group database.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::{self, Read as _};
use std::mem::MaybeUninit;
use std::ptr;

use super::platform::{GROUP_LIST_ROOM, IS_GROUP_LIST_CUT_SILENTLY, ListedGroup};
use super::{Errno, Gid, Uid, errno_of};

/// Where the databases are if they are files.
const USERS: &str = "/etc/passwd";
const GROUPS: &str = "/etc/group";

/// Whether a database can be read, or does not exist. glibc hides a failure if
/// nsswitch.conf(5) names several services, as on Debian 12 (`files systemd`) and Fedora
/// (`files sss systemd`): if the first service fails, for example for lack of
/// descriptors, glibc returns the "not found" of the last one. Its getgrouplist(3) leaves
/// out what it cannot read.
fn probe(database: &str) -> Result<(), Errno> {
    match File::open(database).and_then(|mut file| file.read(&mut [0])) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(errno_of(&error)),
        _ => Ok(()),
    }
}

/// Whether the answer of [`getgrouplist`] is complete.
pub(crate) fn probe_groups() -> Result<(), Errno> {
    probe(GROUPS)
}

/// An entry of the user database.
#[derive(Clone, Debug)]
pub(crate) struct UserEntry {
    pub(crate) name: CString,
    pub(crate) uid: Uid,
    pub(crate) primary_group: Gid,
    pub(crate) home: CString,
    pub(crate) shell: CString,
}

/// getpwnam_r(3). `None` if the database has no such user.
pub(crate) fn getpwnam(name: &CStr) -> Result<Option<UserEntry>, Errno> {
    look_up(USERS, libc::getpwnam_r, name.as_ptr(), user_entry)
}

/// getpwuid_r(3). `None` if there is no such user, or no database.
pub(crate) fn getpwuid(Uid(uid): Uid) -> Result<Option<UserEntry>, Errno> {
    match look_up(USERS, libc::getpwuid_r, uid, user_entry) {
        // An id without a database to name it is still an id.
        Err(libc::ENOENT) => Ok(None),
        other => other,
    }
}

/// getgrnam_r(3). `None` if the database has no such group.
pub(crate) fn getgrnam(name: &CStr) -> Result<Option<Gid>, Errno> {
    let gid = |entry: &libc::group| Gid(entry.gr_gid);
    look_up(GROUPS, libc::getgrnam_r, name.as_ptr(), gid)
}

fn user_entry(entry: &libc::passwd) -> UserEntry {
    // SAFETY: the look-up has succeeded, so that its strings end with a NUL, and its buffer still
    // exists.
    let text = |text: *const libc::c_char| unsafe { CStr::from_ptr(text) }.to_owned();
    UserEntry {
        name: text(entry.pw_name),
        uid: Uid(entry.pw_uid),
        primary_group: Gid(entry.pw_gid),
        home: text(entry.pw_dir),
        shell: text(entry.pw_shell),
    }
}

type LookUp<Key, Entry> =
    unsafe extern "C" fn(Key, *mut Entry, *mut libc::c_char, usize, *mut *mut Entry) -> libc::c_int;

/// Makes a reentrant look-up with a buffer that grows until the entry fits. The answer
/// "not found" counts only if the database can be read: see [`probe`].
fn look_up<Key: Copy, Entry, Found>(
    database: &str,
    call: LookUp<Key, Entry>,
    key: Key,
    take: impl FnOnce(&Entry) -> Found,
) -> Result<Option<Found>, Errno> {
    const LARGEST: usize = 64 << 20;
    let mut buffer = vec![0 as libc::c_char; 4096];
    loop {
        let mut entry = MaybeUninit::<Entry>::uninit();
        let mut found = ptr::null_mut();
        let (place, start) = (entry.as_mut_ptr(), buffer.as_mut_ptr());
        // SAFETY: the callers pass a number, or a C string that outlives the call; the others
        // are valid for writes of their sizes.
        match unsafe { call(key, place, start, buffer.len(), &raw mut found) } {
            // SAFETY: the call has succeeded, so that `found` is null or points to
            // the entry, whose strings are in `buffer`.
            0 if !found.is_null() => return Ok(unsafe { found.as_ref() }.map(take)),
            // Some systems return ESRCH for "no such entry".
            0 | libc::ESRCH => return probe(database).map(|()| None),
            libc::EINTR => {}
            libc::ERANGE if buffer.len() < LARGEST => buffer.resize(buffer.len() * 4, 0),
            errno => return Err(errno),
        }
    }
}

/// getgrouplist(3): `primary` and the groups that name the user as a member.
pub(crate) fn getgrouplist(user: &CStr, primary: Gid) -> Result<Vec<Gid>, Errno> {
    const MAX_ROOM: usize = 1 << 20;

    let mut room = GROUP_LIST_ROOM;
    loop {
        let mut groups: Vec<ListedGroup> = vec![0; room];
        let mut count = room as libc::c_int;
        // SAFETY: `user` is a C string, and `groups` is valid for writes of `count` ids.
        let returned = unsafe {
            libc::getgrouplist(
                user.as_ptr(),
                primary.0 as ListedGroup,
                groups.as_mut_ptr(),
                &raw mut count,
            )
        };
        let listed = usize::try_from(count).unwrap_or(0);
        let may_be_cut = IS_GROUP_LIST_CUT_SILENTLY && listed >= room;
        if returned >= 0 && !may_be_cut {
            // FreeBSD and macOS return 0, others the count, which is also in `count`.
            groups.truncate(listed);
            return Ok(groups.into_iter().map(|gid| Gid(gid as u32)).collect());
        }
        if room >= MAX_ROOM {
            return Err(libc::EINVAL);
        }
        // Some systems set `count` to the number of groups, others do not.
        room = (room * 2).max(listed);
    }
}
