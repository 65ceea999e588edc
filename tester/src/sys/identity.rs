//! Ids, groups and capabilities.

#[cfg(target_os = "linux")]
use std::ffi::CString;
use std::io;
#[cfg(target_os = "linux")]
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use super::{check, group_ids, set_group_ids, set_user_ids};
#[cfg(target_os = "linux")]
use crate::attack;

pub fn effective_user() -> u32 {
    // SAFETY: no requirement.
    unsafe { libc::geteuid() }
}

/// The supplementary groups as the system lists them.
pub fn supplementary_groups() -> io::Result<Vec<u32>> {
    // SAFETY: a count of 0 asks for the number only.
    let count = check(unsafe { libc::getgroups(0, std::ptr::null_mut()) })?;
    let mut groups = vec![0; usize::try_from(count).expect("not negative")];
    // SAFETY: the list has room for `count` groups.
    let count = check(unsafe { libc::getgroups(count, groups.as_mut_ptr()) })?;
    groups.truncate(usize::try_from(count).expect("not negative"));
    Ok(groups)
}

/// Whether the list of groups may begin with the effective gid, so that a comparison of two lists
/// has to add it to both.
pub const EFFECTIVE_GID_IS_LISTED: bool = cfg!(any(target_os = "freebsd", target_vendor = "apple"));

/// Whether the effective gid is the first of the groups, and a change of the gid replaces that
/// group. On FreeBSD it is for programs that were linked for a release before 15, whatever the
/// kernel: root tries it, and for another user the present groups tell.
///
/// # Errors
///
/// Those of the system calls.
pub fn gid_replaces_first_group() -> io::Result<bool> {
    if !cfg!(target_os = "freebsd") {
        return Ok(cfg!(target_vendor = "apple"));
    }
    const GROUPS: [u32; 2] = [1, 2];
    const GID: u32 = 3;
    if effective_user() != 0 {
        return Ok(supplementary_groups()?.first() == Some(&group_ids().effective));
    }
    let Some(child) = super::fork()? else {
        let is_replaced = set_supplementary_groups(&GROUPS)
            .and_then(|()| set_effective_group(GID))
            .and_then(|()| supplementary_groups())
            .is_ok_and(|groups| groups.contains(&GID));
        super::exit_at_once(is_replaced.into());
    };
    Ok(super::exit_status_of_child(child)? == Some(1))
}

/// Whether the library does not trust the environment of a process that has changed its ids itself:
/// issetugid(2) is true of it until execve(2) (FreeBSD sys/kern/kern_prot.c, `setsugid`; XNU
/// `P_SUGID`). On OpenBSD it is true only if execve(2) has changed them.
pub const CHANGED_IDS_TAINT: bool = cfg!(any(
    target_os = "freebsd",
    target_os = "dragonfly",
    target_os = "netbsd",
    target_vendor = "apple"
));

/// The largest number of supplementary groups. On Linux the kernel tells it, since sysconf(3) of
/// musl has a limit of its own.
///
/// # Panics
///
/// When the system reports no limit.
pub fn most_groups() -> usize {
    if cfg!(target_os = "linux") {
        let most = std::fs::read_to_string("/proc/sys/kernel/ngroups_max");
        let most = most.expect("the kernel's limit");
        return most.trim().parse().expect("a number");
    }
    // SAFETY: sysconf takes a plain number.
    let most = unsafe { libc::sysconf(libc::_SC_NGROUPS_MAX) };
    // FreeBSD does not count the effective gid.
    usize::try_from(most).expect("a limit") + usize::from(cfg!(target_os = "freebsd"))
}

/// The list of groups that setgroups(2) has to get after the gid was set: the effective gid first,
/// where the first group is the effective gid.
pub fn with_effective_gid(groups: &[u32], effective: u32) -> Vec<u32> {
    if !EFFECTIVE_GID_IS_LISTED {
        return groups.to_vec();
    }
    let others = groups.iter().copied().filter(|&group| group != effective);
    [effective].into_iter().chain(others).collect()
}

pub fn set_supplementary_groups(groups: &[u32]) -> io::Result<()> {
    #[allow(
        clippy::useless_conversion,
        reason = "not useless where the count is an int"
    )]
    let count = groups.len().try_into().map_err(io::Error::other)?;
    // SAFETY: the list is as long as stated.
    check(unsafe { libc::setgroups(count, groups.as_ptr()) }).map(drop)
}

pub fn set_effective_user(uid: u32) -> io::Result<()> {
    // SAFETY: no requirement.
    check(unsafe { libc::seteuid(uid) }).map(drop)
}

pub fn set_effective_group(gid: u32) -> io::Result<()> {
    // SAFETY: no requirement.
    check(unsafe { libc::setegid(gid) }).map(drop)
}

pub fn set_user(uid: u32) -> io::Result<()> {
    // SAFETY: no requirement.
    check(unsafe { libc::setuid(uid) }).map(drop)
}

pub fn set_group(gid: u32) -> io::Result<()> {
    // SAFETY: no requirement.
    check(unsafe { libc::setgid(gid) }).map(drop)
}

linux_only! {
    /// Decides whether the permitted capabilities survive a change to an ordinary user.
    pub fn keep_capabilities(keep: bool) -> io::Result<()> {
        // SAFETY: the option takes an integer.
        check(unsafe { libc::prctl(libc::PR_SET_KEEPCAPS, libc::c_ulong::from(keep)) }).map(drop)
    }

    /// Makes every capability but these impossible to gain, and to make inheritable.
    pub fn limit_bounding_set(mask: u64) -> io::Result<()> {
        (0..64_u8)
            .filter(|number| mask & 1 << number == 0)
            .map(|number| {
                // SAFETY: the option takes an integer.
                check(unsafe { libc::prctl(libc::PR_CAPBSET_DROP, libc::c_ulong::from(number)) })
            })
            // The kernel knows the capabilities up to one.
            .take_while(|dropped| !matches!(dropped, Err(error) if error.raw_os_error() == Some(libc::EINVAL)))
            .try_for_each(|dropped| dropped.map(drop))
    }

    /// Gives the program these capabilities, permitted and effective: `struct vfs_cap_data` of
    /// <linux/capability.h>.
    pub fn set_file_capabilities(program: &Path, mask: u64) -> io::Result<()> {
        const REVISION_2_EFFECTIVE: u32 = 0x0200_0001;
        let low = u32::try_from(mask & u64::from(u32::MAX)).expect("masked");
        let high = u32::try_from(mask >> 32).expect("the upper half");
        let words = [REVISION_2_EFFECTIVE, low, 0, high, 0].map(u32::to_le_bytes);
        let value = words.concat();
        let program = CString::new(program.as_os_str().as_bytes())?;
        let name = c"security.capability";
        // SAFETY: the strings end in a NUL, and the value is as long as is said.
        check(unsafe {
            libc::setxattr(
                program.as_ptr(),
                name.as_ptr(),
                value.as_ptr().cast(),
                value.len(),
                0,
            )
        })
        .map(drop)
    }

    /// Sets the bits of capabilities(7) about the change of ids.
    pub fn set_secure_bits(bits: u64) -> io::Result<()> {
        // SAFETY: the option takes an integer.
        check(unsafe { libc::prctl(libc::PR_SET_SECUREBITS, bits) }).map(drop)
    }

    /// Sets the permitted and effective capabilities and empties the inheritable
    /// ones.
    pub fn set_capabilities(mask: u64) -> io::Result<()> {
        capability::set(mask, mask, 0)
    }

    /// Removes this capability, given as a mask, from the calling thread.
    pub fn drop_capability(mask: u64) -> io::Result<()> {
        let (effective, permitted) = capability::effective_and_permitted()?;
        capability::set(effective & !mask, permitted & !mask, 0)
    }

    /// Sets the inheritable and ambient capabilities, which must be permitted
    /// ones.
    pub fn set_ambient_capabilities(mask: u64) -> io::Result<()> {
        let (effective, permitted) = capability::effective_and_permitted()?;
        capability::set(effective, permitted, mask)?;
        (0..64)
            .filter(|bit| mask & 1 << bit != 0)
            .try_for_each(capability::raise_ambient)
    }

    /// prctl(2) `PR_SET_DUMPABLE`: the user of the process owns its files in /proc again.
    pub fn become_dumpable() -> io::Result<()> {
        const YES: libc::c_ulong = 1;
        // SAFETY: the option takes an integer.
        check(unsafe { libc::prctl(libc::PR_SET_DUMPABLE, YES) }).map(drop)
    }

    /// unshare(2) into a new user namespace.
    pub fn leave_user_namespace() -> io::Result<()> {
        // SAFETY: no requirement.
        check(unsafe { libc::unshare(libc::CLONE_NEWUSER) }).map(drop)
    }
}

/// Whether the permitted capabilities survive a change to an ordinary user.
pub fn keeps_capabilities() -> bool {
    #[cfg(target_os = "linux")]
    // SAFETY: the option takes no argument.
    return unsafe { libc::prctl(libc::PR_GET_KEEPCAPS) } == 1;
    #[cfg(not(target_os = "linux"))]
    false
}

/// Of <linux/capability.h>.
pub const CAP_CHOWN: u64 = 1;
pub const CAP_SETGID: u64 = 1 << 6;
pub const CAP_SETUID: u64 = 1 << 7;
pub const CAP_SETPCAP: u64 = 1 << 8;
pub const CAP_NET_BIND_SERVICE: u64 = 1 << 10;

/// SECBIT_NOROOT of <linux/securebits.h>: uid 0 has no capabilities of its own.
pub const NOROOT: u64 = 1;
/// SECBIT_NO_SETUID_FIXUP: a change of the uid removes no capability.
pub const NO_SETUID_FIXUP: u64 = 1 << 2;
/// SECBIT_KEEP_CAPS_LOCKED: KEEP_CAPS cannot be changed.
pub const KEEP_CAPS_LOCKED: u64 = 1 << 5;
/// SECBIT_NO_CAP_AMBIENT_RAISE: no capability can become ambient.
pub const NO_CAP_AMBIENT_RAISE: u64 = 1 << 6;
/// SECBIT_KEEP_CAPS: the permitted capabilities survive when root becomes another user.
pub const KEEP_CAPS: u64 = 1 << 4;

linux_only! {
    /// Gives a file [`crate::attack::access_list`].
    pub fn give_access_to(file: &Path, user: u32) -> io::Result<()> {
        let list = attack::access_list(user);
        let file = CString::new(file.as_os_str().as_bytes())?;
        let name = c"system.posix_acl_access";
        // SAFETY: the strings end in a NUL, and the list is as long as is said.
        check(unsafe {
            libc::setxattr(
                file.as_ptr(),
                name.as_ptr(),
                list.as_ptr().cast(),
                list.len(),
                0,
            )
        })
        .map(drop)
    }
}

/// Makes the program of `command` start with these ids, and with only these supplementary groups.
pub fn start_as(command: &mut Command, uid: u32, gid: u32, groups: &[u32]) {
    let groups = with_effective_gid(groups, gid);
    let become_it = move || {
        set_group_ids([gid; 3])?;
        set_supplementary_groups(&groups)?;
        set_user_ids([uid; 3])
    };
    // SAFETY: the closure only makes async-signal-safe calls.
    unsafe { command.pre_exec(become_it) };
}

/// The declarations of <linux/capability.h> that libc lacks.
#[cfg(target_os = "linux")]
mod capability {
    use std::ffi::{c_int, c_ulong};
    use std::io;

    use super::check;

    /// `struct __user_cap_header_struct`
    #[repr(C)]
    struct Header {
        version: u32,
        pid: c_int,
    }

    /// `struct __user_cap_data_struct`. Version 3 takes two of them, the lower half first.
    #[repr(C)]
    #[derive(Default)]
    struct Data {
        effective: u32,
        permitted: u32,
        inheritable: u32,
    }

    /// `_LINUX_CAPABILITY_VERSION_3`
    const VERSION: u32 = 0x2008_0522;

    /// The header that names the calling thread.
    fn header() -> Header {
        Header {
            version: VERSION,
            pid: 0,
        }
    }

    pub(super) fn set(effective: u64, permitted: u64, inheritable: u64) -> io::Result<()> {
        let half = |shift: u32| {
            let bits =
                |mask: u64| u32::try_from(mask >> shift & u64::from(u32::MAX)).expect("masked");
            Data {
                effective: bits(effective),
                permitted: bits(permitted),
                inheritable: bits(inheritable),
            }
        };
        let data = [half(0), half(32)];
        let mut header = header();
        // SAFETY: both structures are laid out as the kernel expects, and
        // valid for the call.
        check(unsafe { libc::syscall(libc::SYS_capset, &raw mut header, data.as_ptr()) }).map(drop)
    }

    pub(super) fn effective_and_permitted() -> io::Result<(u64, u64)> {
        let mut data = [Data::default(), Data::default()];
        let mut header = header();
        // SAFETY: both structures are laid out as the kernel expects, and
        // valid for the call.
        check(unsafe { libc::syscall(libc::SYS_capget, &raw mut header, data.as_mut_ptr()) })?;
        let [low, high] = data;
        let whole = |low, high| u64::from(low) | u64::from(high) << 32;
        Ok((
            whole(low.effective, high.effective),
            whole(low.permitted, high.permitted),
        ))
    }

    /// PR_CAP_AMBIENT_RAISE
    pub(super) fn raise_ambient(number: c_ulong) -> io::Result<()> {
        const ZERO: c_ulong = 0;
        let raise = c_ulong::try_from(libc::PR_CAP_AMBIENT_RAISE).expect("not negative");
        // SAFETY: the option takes integers.
        check(unsafe { libc::prctl(libc::PR_CAP_AMBIENT, raise, number, ZERO, ZERO) }).map(drop)
    }
}
