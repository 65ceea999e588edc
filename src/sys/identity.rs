//! Users and groups: the databases, and the ids of the process.

use std::ffi::{CStr, CString};
use std::mem::MaybeUninit;
use std::ptr;

use super::{Errno, check};

/// A user id. "Unchanged" is an `Option`, never the number that the kernel
/// takes for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Uid(pub(crate) u32);

/// A group id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Gid(pub(crate) u32);

impl Uid {
    pub(crate) const ROOT: Self = Self(0);
}

impl Gid {
    pub(crate) const ROOT: Self = Self(0);
}

/// The three ids of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ids<Id> {
    pub(crate) real: Id,
    pub(crate) effective: Id,
    /// `None` where the platform does not tell.
    pub(crate) saved: Option<Id>,
}

impl<Id: Copy + PartialEq> Ids<Id> {
    /// Whether every id that can be seen is this one.
    pub(crate) fn are_all(&self, id: Id) -> bool {
        self.real == id && self.effective == id && self.saved.is_none_or(|saved| saved == id)
    }

    /// Whether one of the ids that can be seen is this one.
    pub(crate) fn has(&self, id: Id) -> bool {
        self.each().any(|held| held == id)
    }

    pub(crate) fn each(&self) -> impl Iterator<Item = Id> {
        [Some(self.real), Some(self.effective), self.saved]
            .into_iter()
            .flatten()
    }
}

/// The effective uid. Async-signal-safe.
pub(crate) fn effective_user() -> Uid {
    // SAFETY: geteuid takes nothing and cannot fail.
    Uid(unsafe { libc::geteuid() })
}

pub(crate) use three_ids::{group_ids, set_group_ids, set_user_ids, user_ids};

/// Where the saved ids can be named.
#[cfg(any(
    target_os = "linux",
    target_os = "android",
    target_os = "freebsd",
    target_os = "dragonfly",
    target_os = "openbsd"
))]
mod three_ids {
    use super::{Errno, Gid, Ids, Uid, check};

    pub(crate) fn user_ids() -> Ids<Uid> {
        let [mut real, mut effective, mut saved] = [0; 3];
        // SAFETY: all three are valid for writes; it cannot fail otherwise.
        unsafe { libc::getresuid(&raw mut real, &raw mut effective, &raw mut saved) };
        Ids {
            real: Uid(real),
            effective: Uid(effective),
            saved: Some(Uid(saved)),
        }
    }

    pub(crate) fn group_ids() -> Ids<Gid> {
        let [mut real, mut effective, mut saved] = [0; 3];
        // SAFETY: all three are valid for writes; it cannot fail otherwise.
        unsafe { libc::getresgid(&raw mut real, &raw mut effective, &raw mut saved) };
        Ids {
            real: Gid(real),
            effective: Gid(effective),
            saved: Some(Gid(saved)),
        }
    }

    pub(crate) fn set_user_ids(Uid(uid): Uid) -> Result<(), Errno> {
        // SAFETY: setresuid takes plain numbers.
        check(unsafe { libc::setresuid(uid, uid, uid) }).map(drop)
    }

    pub(crate) fn set_group_ids(Gid(gid): Gid) -> Result<(), Errno> {
        // SAFETY: setresgid takes plain numbers.
        check(unsafe { libc::setresgid(gid, gid, gid) }).map(drop)
    }
}

/// Where they cannot. setreuid(2) with both ids sets the saved one too, as
/// POSIX says of it ("if the real user ID is being set ... the saved
/// set-user-ID ... shall be set equal to the new effective user ID"); that it
/// did is what the attempt to go back shows.
#[cfg(not(any(
    target_os = "linux",
    target_os = "android",
    target_os = "freebsd",
    target_os = "dragonfly",
    target_os = "openbsd"
)))]
mod three_ids {
    use super::{Errno, Gid, Ids, Uid, check};

    pub(crate) fn user_ids() -> Ids<Uid> {
        Ids {
            // SAFETY: getuid takes nothing and cannot fail.
            real: Uid(unsafe { libc::getuid() }),
            effective: super::effective_user(),
            saved: None,
        }
    }

    pub(crate) fn group_ids() -> Ids<Gid> {
        Ids {
            // SAFETY: getgid takes nothing and cannot fail.
            real: Gid(unsafe { libc::getgid() }),
            // SAFETY: getegid takes nothing and cannot fail.
            effective: Gid(unsafe { libc::getegid() }),
            saved: None,
        }
    }

    pub(crate) fn set_user_ids(Uid(uid): Uid) -> Result<(), Errno> {
        // SAFETY: setreuid takes plain numbers.
        check(unsafe { libc::setreuid(uid, uid) }).map(drop)
    }

    pub(crate) fn set_group_ids(Gid(gid): Gid) -> Result<(), Errno> {
        // SAFETY: setregid takes plain numbers.
        check(unsafe { libc::setregid(gid, gid) }).map(drop)
    }
}

/// Tries to take on a uid again, in each way there is. True is bad news.
pub(crate) fn can_become_user(Uid(uid): Uid) -> bool {
    // SAFETY: seteuid takes a plain number.
    let effective = unsafe { libc::seteuid(uid) } == 0;
    // SAFETY: setuid takes a plain number.
    let all = unsafe { libc::setuid(uid) } == 0;
    effective || all
}

/// Tries to take on a gid again, in each way there is. True is bad news.
pub(crate) fn can_become_group(Gid(gid): Gid) -> bool {
    // SAFETY: setegid takes a plain number.
    let effective = unsafe { libc::setegid(gid) } == 0;
    // SAFETY: setgid takes a plain number.
    let all = unsafe { libc::setgid(gid) } == 0;
    effective || all
}

/// On FreeBSD before 15, and DragonFly: see getgroups(2) there.
pub(crate) const FIRST_GROUP_IS_EFFECTIVE_GID: bool =
    cfg!(any(target_os = "freebsd", target_os = "dragonfly"));

/// getgroups(2).
pub(crate) fn supplementary_groups() -> Result<Vec<Gid>, Errno> {
    // SAFETY: a size of 0 asks for the count and writes nothing.
    let count = check(unsafe { libc::getgroups(0, ptr::null_mut()) })?;
    let mut groups = vec![0; count as usize];
    // SAFETY: `groups` is valid for writes of `count` ids.
    let count = check(unsafe { libc::getgroups(count, groups.as_mut_ptr()) })?;
    groups.truncate(count as usize);
    Ok(groups.into_iter().map(Gid).collect())
}

/// setgroups(2).
pub(crate) fn set_supplementary_groups(groups: &[Gid]) -> Result<(), Errno> {
    let groups: Vec<libc::gid_t> = groups.iter().map(|gid| gid.0).collect();
    // SAFETY: `groups` is valid for reads of its length.
    check(unsafe { libc::setgroups(groups.len() as _, groups.as_ptr()) }).map(drop)
}

/// How many supplementary groups a process may have: sysconf(3)
/// `_SC_NGROUPS_MAX`. On macOS that is 16, which setgroups(2) holds to.
pub(crate) fn most_supplementary_groups() -> usize {
    // SAFETY: sysconf takes a plain number.
    let most = unsafe { libc::sysconf(libc::_SC_NGROUPS_MAX) };
    // POSIX: at least 8, and -1 where there is no limit.
    usize::try_from(most).unwrap_or(usize::MAX)
}

/// An entry of the user database.
#[derive(Clone, Debug)]
pub(crate) struct UserEntry {
    pub(crate) name: CString,
    pub(crate) uid: Uid,
    pub(crate) primary_group: Gid,
}

/// getpwnam_r(3). `None`: the database has no such user.
pub(crate) fn user_by_name(name: &CStr) -> Result<Option<UserEntry>, Errno> {
    look_up(
        |entry, buffer, found| {
            // SAFETY: `name` is a C string; the others are valid for writes
            // of their sizes.
            unsafe {
                libc::getpwnam_r(
                    name.as_ptr(),
                    entry,
                    buffer.as_mut_ptr().cast(),
                    buffer.len(),
                    found,
                )
            }
        },
        user_entry,
    )
}

/// getpwuid_r(3). `None`: there is no such user, or no database.
pub(crate) fn user_by_id(Uid(uid): Uid) -> Result<Option<UserEntry>, Errno> {
    let found = look_up(
        |entry, buffer, found| {
            // SAFETY: all are valid for writes of their sizes.
            unsafe { libc::getpwuid_r(uid, entry, buffer.as_mut_ptr().cast(), buffer.len(), found) }
        },
        user_entry,
    );
    match found {
        // An id without a database to name it is still an id.
        Err(libc::ENOENT) => Ok(None),
        other => other,
    }
}

/// getgrnam_r(3). `None`: the database has no such group.
pub(crate) fn group_by_name(name: &CStr) -> Result<Option<Gid>, Errno> {
    look_up(
        |entry, buffer, found| {
            // SAFETY: `name` is a C string; the others are valid for writes
            // of their sizes.
            unsafe {
                libc::getgrnam_r(
                    name.as_ptr(),
                    entry,
                    buffer.as_mut_ptr().cast(),
                    buffer.len(),
                    found,
                )
            }
        },
        |entry: &libc::group| Gid(entry.gr_gid),
    )
}

fn user_entry(entry: &libc::passwd) -> UserEntry {
    UserEntry {
        // SAFETY: the look-up succeeded, and its buffer is still there.
        name: unsafe { CStr::from_ptr(entry.pw_name) }.to_owned(),
        uid: Uid(entry.pw_uid),
        primary_group: Gid(entry.pw_gid),
    }
}

/// Makes a reentrant look-up with a buffer that grows until the entry fits.
fn look_up<Entry, Found>(
    mut call: impl FnMut(*mut Entry, &mut [u8], *mut *mut Entry) -> libc::c_int,
    take: impl FnOnce(&Entry) -> Found,
) -> Result<Option<Found>, Errno> {
    const LARGEST: usize = 64 << 20;
    let mut buffer = vec![0; 4096];
    loop {
        let mut entry = MaybeUninit::<Entry>::uninit();
        let mut found = ptr::null_mut();
        match call(entry.as_mut_ptr(), &mut buffer, &raw mut found) {
            // SAFETY: the call succeeded: `found` is null or points to the
            // entry, whose strings are in `buffer`, which is still there.
            0 => return Ok(unsafe { found.as_ref() }.map(take)),
            libc::EINTR => {}
            libc::ERANGE if buffer.len() < LARGEST => buffer.resize(buffer.len() * 4, 0),
            // What some systems say for "no such entry".
            libc::ESRCH => return Ok(None),
            errno => return Err(errno),
        }
    }
}

/// getgrouplist(3): `primary` and the groups that name the user as a member.
pub(crate) fn groups_of(user: &CStr, primary: Gid) -> Result<Vec<Gid>, Errno> {
    #[cfg(target_vendor = "apple")]
    type ListedGroup = libc::c_int;
    #[cfg(not(target_vendor = "apple"))]
    type ListedGroup = libc::gid_t;
    const MOST: usize = 1 << 20;

    let mut room = 64;
    loop {
        let mut groups: Vec<ListedGroup> = vec![0; room];
        let mut count = room as libc::c_int;
        // SAFETY: `user` is a C string, and `groups` is valid for writes of
        // `count` ids.
        let returned = unsafe {
            libc::getgrouplist(
                user.as_ptr(),
                primary.0 as ListedGroup,
                groups.as_mut_ptr(),
                &raw mut count,
            )
        };
        if returned >= 0 {
            // FreeBSD and macOS return 0, others the count: it is in `count`.
            groups.truncate(usize::try_from(count).unwrap_or(0));
            return Ok(groups.into_iter().map(|gid| Gid(gid as u32)).collect());
        }
        if room >= MOST {
            return Err(libc::EINVAL);
        }
        // Some systems tell how many there are, some do not.
        room = (room * 2).max(usize::try_from(count).unwrap_or(0));
    }
}
