//! Users and groups: the databases, and the ids of the process.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::{self, Read as _};
use std::mem::MaybeUninit;
use std::ptr;

use super::{Errno, cvt};

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
pub(crate) fn geteuid() -> Uid {
    // SAFETY: geteuid takes nothing and cannot fail.
    Uid(unsafe { libc::geteuid() })
}

pub(crate) use ids::{group_ids, set_group_ids, set_user_ids, user_ids};

#[cfg(any(
    target_os = "linux",
    target_os = "android",
    target_os = "freebsd",
    target_os = "dragonfly",
    target_os = "openbsd"
))]
#[path = "resuid.rs"]
mod ids;
#[cfg(not(any(
    target_os = "linux",
    target_os = "android",
    target_os = "freebsd",
    target_os = "dragonfly",
    target_os = "openbsd"
)))]
#[path = "reuid.rs"]
mod ids;

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

/// On FreeBSD before 15, and DragonFly: see getgroups(2) there. On macOS: XNU
/// keeps the effective gid in the first place (bsd/sys/ucred.h, `cr_gid`), and
/// has an empty list mean group 0 (`setgroups_internal` of
/// bsd/kern/kern_prot.c). A list that begins with the gid that is to be the
/// effective one is right everywhere.
pub(crate) const FIRST_GROUP_IS_EFFECTIVE_GID: bool = cfg!(any(
    target_os = "freebsd",
    target_os = "dragonfly",
    target_vendor = "apple"
));

/// Whether changing the effective gid to one of the groups has that group and
/// the gid before change places: XNU, bsd/kern/kern_credential.c,
/// `kauth_cred_change_egid`.
pub(crate) const EFFECTIVE_GID_SWAPS: bool = cfg!(target_vendor = "apple");

/// Whether a process has groups that getgroups(2) does not list, from the
/// directory service, until setgroups(2) is called: XNU, `cr_gmuid`.
pub(crate) const HAS_UNLISTED_GROUPS: bool = cfg!(target_vendor = "apple");

/// getgroups(2).
pub(crate) fn getgroups() -> Result<Vec<Gid>, Errno> {
    // SAFETY: a size of 0 asks for the count and writes nothing.
    let count = cvt(unsafe { libc::getgroups(0, ptr::null_mut()) })?;
    let mut groups = vec![0; count as usize];
    // SAFETY: `groups` is valid for writes of `count` ids.
    let count = cvt(unsafe { libc::getgroups(count, groups.as_mut_ptr()) })?;
    groups.truncate(count as usize);
    Ok(groups.into_iter().map(Gid).collect())
}

/// setgroups(2).
pub(crate) fn setgroups(groups: &[Gid]) -> Result<(), Errno> {
    let groups: Vec<libc::gid_t> = groups.iter().map(|gid| gid.0).collect();
    // SAFETY: `groups` is valid for reads of its length.
    cvt(unsafe { libc::setgroups(groups.len() as _, groups.as_ptr()) }).map(drop)
}

/// How many supplementary groups a process may have: sysconf(3)
/// `_SC_NGROUPS_MAX`. On macOS that is 16, which setgroups(2) holds to. On Linux
/// it is for the kernel to say, `NGROUPS_MAX` of <linux/limits.h> since 2.6.4:
/// musl's sysconf(3) has 32, by which its own setgroups(2) is not bound.
pub(crate) fn max_supplementary_groups() -> usize {
    if cfg!(any(target_os = "linux", target_os = "android")) {
        return 65536;
    }
    // SAFETY: sysconf takes a plain number.
    let most = unsafe { libc::sysconf(libc::_SC_NGROUPS_MAX) };
    // POSIX: at least 8, and -1 where there is no limit. Before 15, FreeBSD does
    // not count the effective gid in the first place (`sys_setgroups` of
    // sys/kern/kern_prot.c); from 15 on the kernel refuses the one too many.
    usize::try_from(most).map_or(usize::MAX, |most| {
        most + usize::from(cfg!(target_os = "freebsd"))
    })
}

/// Where the databases are, as far as they are files.
const USERS: &str = "/etc/passwd";
const GROUPS: &str = "/etc/group";

/// Whether a database can be read, if it is there. glibc does not tell where
/// nsswitch.conf(5) names several services, as Debian 12 (`files systemd`) and Fedora
/// (`files sss systemd`) have it: whatever has kept the first one from reading,
/// such as a lack of descriptors, the 'not found' of the last one is the answer. And
/// its getgrouplist(3) leaves out what it cannot read.
fn probe(database: &str) -> Result<(), Errno> {
    let read = File::open(database).and_then(|mut file| file.read(&mut [0]));
    match read {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error.raw_os_error().unwrap_or(libc::EIO))
        }
        _ => Ok(()),
    }
}

/// Whether what [`getgrouplist`] has said is all that there is.
pub(crate) fn probe_groups() -> Result<(), Errno> {
    probe(GROUPS)
}

/// An entry of the user database.
#[derive(Clone, Debug)]
pub(crate) struct UserEntry {
    pub(crate) name: CString,
    pub(crate) uid: Uid,
    pub(crate) primary_group: Gid,
}

/// getpwnam_r(3). `None`: the database has no such user.
pub(crate) fn getpwnam(name: &CStr) -> Result<Option<UserEntry>, Errno> {
    look_up(
        USERS,
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
pub(crate) fn getpwuid(Uid(uid): Uid) -> Result<Option<UserEntry>, Errno> {
    let found = look_up(
        USERS,
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
pub(crate) fn getgrnam(name: &CStr) -> Result<Option<Gid>, Errno> {
    look_up(
        GROUPS,
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
/// That there is none is believed only if the database can be read: see [`probe`].
fn look_up<Entry, Found>(
    database: &str,
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
            0 if !found.is_null() => return Ok(unsafe { found.as_ref() }.map(take)),
            // ESRCH is what some systems say for "no such entry".
            0 | libc::ESRCH => return probe(database).map(|()| None),
            libc::EINTR => {}
            libc::ERANGE if buffer.len() < LARGEST => buffer.resize(buffer.len() * 4, 0),
            errno => return Err(errno),
        }
    }
}

/// getgrouplist(3): `primary` and the groups that name the user as a member.
pub(crate) fn getgrouplist(user: &CStr, primary: Gid) -> Result<Vec<Gid>, Errno> {
    #[cfg(target_vendor = "apple")]
    type ListedGroup = libc::c_int;
    #[cfg(not(target_vendor = "apple"))]
    type ListedGroup = libc::gid_t;
    const MOST: usize = 1 << 20;

    // Asked for 16 or more, macOS's begins by asking the directory service in a
    // thread of its own, which stays for seconds (Libinfo,
    // lookup.subproj/libinfo.c, `_check_groups`): the process would then not be
    // single-threaded any more.
    let mut room = if cfg!(target_vendor = "apple") {
        15
    } else {
        64
    };
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
        let listed = usize::try_from(count).unwrap_or(0);
        // An older macOS returns 0 where the list was cut.
        let may_be_cut = cfg!(target_vendor = "apple") && listed >= room;
        if returned >= 0 && !may_be_cut {
            // FreeBSD and macOS return 0, others the count: it is in `count`.
            groups.truncate(listed);
            return Ok(groups.into_iter().map(|gid| Gid(gid as u32)).collect());
        }
        if room >= MOST {
            return Err(libc::EINVAL);
        }
        // Some systems tell how many there are, some do not.
        room = (room * 2).max(listed);
    }
}
