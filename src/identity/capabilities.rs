//! The capabilities that the daemon keeps.

use std::fmt;

use crate::error::ErrorKind;
use crate::failure::Failure;
use crate::sys::{self, CapabilitySets, Errno, Uid, errno};

/// Makes the constants of the table, and their names.
macro_rules! capabilities {
    ($( $(#[$documentation:meta])* $number:literal $name:ident; )*) => {
        impl Capability {
            $(
                #[doc = concat!("CAP_", stringify!($name), ":")]
                $(#[$documentation])*
                pub const $name: Self = Self($number);
            )*

            fn name(self) -> Option<&'static str> {
                match self.0 {
                    $( $number => Some(concat!("CAP_", stringify!($name))), )*
                    _ => None,
                }
            }
        }
    };
}

/// A capability of Linux, a part of root's privileges: see
/// [`Daemonize::keep_capabilities`](crate::Daemonize::keep_capabilities).
///
/// [capabilities(7)](https://man7.org/linux/man-pages/man7/capabilities.7.html) says what each
/// capability permits. `Capability::from(number)` is a capability of a newer kernel, by its number
/// in `<linux/capability.h>`.
///
/// ```
/// use daemonize2::Capability;
///
/// assert_eq!(Capability::from(10), Capability::NET_BIND_SERVICE);
/// assert_eq!(Capability::NET_BIND_SERVICE.to_string(), "CAP_NET_BIND_SERVICE");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Capability(u8);

capabilities! {
    /// change the owner of any file. It lets a process become root.
    0 CHOWN;
    /// read, write and execute any file. It lets a process become root.
    1 DAC_OVERRIDE;
    /// read any file, and list any directory. It lets a process become root.
    2 DAC_READ_SEARCH;
    /// change the mode of any file. It lets a process become root.
    3 FOWNER;
    /// keep set-user-id and set-group-id bits when a file changes.
    4 FSETID;
    /// signal any process.
    5 KILL;
    /// change to any group. Only a daemon that is root can keep it.
    6 SETGID;
    /// change to any user. Only a daemon that is root can keep it.
    7 SETUID;
    /// change the bounding set and the secure bits.
    8 SETPCAP;
    /// change the immutable and append-only attributes of a file.
    9 LINUX_IMMUTABLE;
    /// bind a port below 1024.
    10 NET_BIND_SERVICE;
    /// the kernel does not use it.
    11 NET_BROADCAST;
    /// configure the network.
    12 NET_ADMIN;
    /// open raw and packet sockets, as ping(8) does.
    13 NET_RAW;
    /// lock memory.
    14 IPC_LOCK;
    /// use any System V IPC object.
    15 IPC_OWNER;
    /// load kernel modules. It lets a process become root.
    16 SYS_MODULE;
    /// read and write I/O ports and memory devices. It lets a process become root.
    17 SYS_RAWIO;
    /// change the root directory, and enter mount namespaces.
    18 SYS_CHROOT;
    /// trace any process. It lets a process become root.
    19 SYS_PTRACE;
    /// switch process accounting on and off.
    20 SYS_PACCT;
    /// mount file systems, and much more. It lets a process become root.
    21 SYS_ADMIN;
    /// reboot the machine, and load a new kernel. It lets a process become root.
    22 SYS_BOOT;
    /// raise the priority of processes.
    23 SYS_NICE;
    /// exceed and raise resource limits.
    24 SYS_RESOURCE;
    /// set the clock.
    25 SYS_TIME;
    /// configure terminals.
    26 SYS_TTY_CONFIG;
    /// make device files. It lets a process become root where a file system allows devices.
    27 MKNOD;
    /// take leases on any file.
    28 LEASE;
    /// write to the audit log.
    29 AUDIT_WRITE;
    /// configure auditing.
    30 AUDIT_CONTROL;
    /// give capabilities to files. It lets a process become root.
    31 SETFCAP;
    /// override mandatory access control.
    32 MAC_OVERRIDE;
    /// configure mandatory access control.
    33 MAC_ADMIN;
    /// read and configure the kernel's log.
    34 SYSLOG;
    /// wake the machine from sleep.
    35 WAKE_ALARM;
    /// keep the machine from sleep.
    36 BLOCK_SUSPEND;
    /// read the audit log.
    37 AUDIT_READ;
    /// monitor the performance of all processes. It exists since Linux 5.8.
    38 PERFMON;
    /// load programs into the kernel, by bpf(2). It lets a process become root. It exists since Linux 5.8.
    39 BPF;
    /// checkpoint and restore processes. It exists since Linux 5.9.
    40 CHECKPOINT_RESTORE;
}

impl From<u8> for Capability {
    /// The capability with this number. The start refuses a number that the kernel does not know.
    fn from(number: u8) -> Self {
        Self(number)
    }
}

impl fmt::Display for Capability {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => formatter.write_str(name),
            None => write!(formatter, "capability {}", self.0),
        }
    }
}

impl fmt::Debug for Capability {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

/// A bit mask. A capability without a bit is `None`.
fn mask(capabilities: &[Capability]) -> Option<u64> {
    let mut bits = capabilities
        .iter()
        .map(|capability| 1_u64.checked_shl(capability.0.into()));
    bits.try_fold(0, |mask, bit| Some(mask | bit?))
}

fn each_of(mask: u64) -> impl Iterator<Item = Capability> {
    let numbers = (0_u8..64).filter(move |number| mask & 1 << number != 0);
    numbers.map(Capability)
}

/// The capabilities that the daemon keeps in its permitted and effective set. It also keeps the
/// inheritable ones in its inheritable and ambient set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct KeptCapabilities(CapabilitySets);

impl KeptCapabilities {
    /// `None` if neither option is set.
    pub(super) fn resolve(
        kept: Option<&[Capability]>,
        ambient: Option<&[Capability]>,
    ) -> Result<Option<Self>, Failure> {
        if kept.or(ambient).is_none() {
            return Ok(None);
        }
        let unknown =
            || keep_failed(errno::EINVAL).with_reason("no kernel has a capability above 63");
        let inheritable = mask(ambient.unwrap_or_default()).ok_or_else(unknown)?;
        let permitted = inheritable | mask(kept.unwrap_or_default()).ok_or_else(unknown)?;
        Ok(Some(Self(CapabilitySets {
            permitted,
            inheritable,
        })))
    }

    pub(super) fn sets(self) -> CapabilitySets {
        self.0
    }

    /// Checks that this process can keep these capabilities. `leaves_root` says whether it is to
    /// change from root to another user. Returns whether that change would take the capabilities
    /// away, unless [`sys::set_keepcaps`] keeps them.
    pub(super) fn check(self, leaves_root: bool) -> Result<bool, Failure> {
        let Self(wanted) = self;
        let own = sys::capget().map_err(keep_failed)?;
        refuse(wanted.permitted & !own.permitted, |lacking| {
            lacks(sys::geteuid(), lacking)
        })?;
        if !leaves_root && wanted.inheritable == 0 {
            return Ok(false);
        }
        let bits = sys::secure_bits().map_err(keep_failed)?;
        let loses_ambient = leaves_root && !bits.keeps_all;
        let must_keep = loses_ambient && !bits.keeps_permitted;
        if must_keep && bits.is_locked {
            return Err(keep_failed(errno::EPERM).with_reason(
                "the secure bit SECBIT_KEEP_CAPS_LOCKED of this process forbids it to a process \
                 that changes from root to another user",
            ));
        }
        let is_unbounded =
            |capability: &Capability| sys::is_in_bounding_set(capability.0).map(|is_in| !is_in);
        refuse(
            filter(wanted.inheritable & !own.inheritable, is_unbounded)?,
            |unbounded| {
                format!(
                    "{unbounded} is not in the bounding set of this process, so that no program can inherit it"
                )
            },
        )?;
        if bits.forbids_ambient {
            let must_raise =
                |capability: &Capability| Ok(loses_ambient || !sys::is_ambient(capability.0)?);
            refuse(filter(wanted.inheritable, must_raise)?, |raised| {
                format!(
                    "the secure bit SECBIT_NO_CAP_AMBIENT_RAISE of this process forbids it to \
                     make {raised} ambient"
                )
            })?;
        }
        Ok(must_keep)
    }

    /// Why a process with these capabilities could regain former ids. Such a process cannot drop
    /// anything.
    pub(super) fn regain_ids(self) -> Option<&'static str> {
        let has = |capability: Capability| self.0.permitted & 1 << capability.0 != 0;
        if has(Capability::SETUID) {
            Some("it keeps CAP_SETUID, and could regain a former user id")
        } else if has(Capability::SETGID) {
            Some("it keeps CAP_SETGID, and could regain a former group")
        } else {
            None
        }
    }

    /// Makes the inheritable capabilities ambient, and reads them back.
    pub(super) fn raise_ambient(self) -> Result<(), Failure> {
        for Capability(number) in each_of(self.0.inheritable) {
            let is_ambient = || sys::is_ambient(number).map_err(keep_failed);
            if !is_ambient()? {
                sys::raise_ambient(number).map_err(keep_failed)?;
                if !is_ambient()? {
                    return Err(keep_failed(errno::EPERM));
                }
            }
        }
        Ok(())
    }
}

pub(super) fn keep_failed(errno: Errno) -> Failure {
    ErrorKind::KeepCapabilities(errno).into()
}

/// The capabilities of the mask for which the predicate holds.
fn filter(
    mask: u64,
    predicate: impl Fn(&Capability) -> Result<bool, Errno>,
) -> Result<u64, Failure> {
    each_of(mask).try_fold(0, |found, capability| {
        let holds = predicate(&capability).map_err(keep_failed)?;
        Ok(found | u64::from(holds) << capability.0)
    })
}

/// Fails if the mask is not empty. The reason gets its capabilities.
fn refuse(mask: u64, reason: impl FnOnce(&str) -> String) -> Result<(), Failure> {
    let names: Vec<String> = each_of(mask)
        .map(|capability| capability.to_string())
        .collect();
    match names.is_empty() {
        true => Ok(()),
        false => Err(keep_failed(errno::EPERM).with_reason(reason(&names.join(", ")))),
    }
}

fn lacks(uid: Uid, lacking: &str) -> String {
    match uid {
        Uid::ROOT => format!(
            "this process runs as root, but lacks {lacking}: allow it in the container, the service \
             or the user namespace"
        ),
        Uid(uid) => format!(
            "this process runs as uid {uid}, and lacks {lacking}: start it as root, or give it to \
             the program by setcap(8), or to the service by AmbientCapabilities="
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_capability_is_shown_by_its_name_or_number() {
        assert_eq!(Capability::CHOWN.to_string(), "CAP_CHOWN");
        assert_eq!(
            format!("{:?}", Capability::from(40)),
            "CAP_CHECKPOINT_RESTORE"
        );
        assert_eq!(Capability::from(41).to_string(), "capability 41");
    }

    #[test]
    fn a_mask_has_the_capabilities_that_it_is_made_of() {
        let listed = [
            Capability::BPF,
            Capability::CHOWN,
            Capability::CHOWN,
            Capability::from(63),
        ];
        let found: Vec<_> = each_of(mask(&listed).expect("three bits")).collect();
        assert_eq!(
            found,
            [Capability::CHOWN, Capability::BPF, Capability::from(63)]
        );
        assert_eq!(mask(&[Capability::from(64)]), None);
        assert_eq!(mask(&[]), Some(0));
    }

    #[test]
    fn only_the_options_that_are_set_keep_capabilities() {
        let of = |kept, ambient| KeptCapabilities::resolve(kept, ambient).expect("known ones");
        let sets = |permitted, inheritable| {
            Some(KeptCapabilities(CapabilitySets {
                permitted,
                inheritable,
            }))
        };
        let (chown, kill) = (&[Capability::CHOWN][..], &[Capability::KILL][..]);
        assert_eq!(of(None, None), None);
        assert_eq!(of(Some(&[]), None), sets(0, 0));
        assert_eq!(of(None, Some(&[])), sets(0, 0));
        assert_eq!(of(Some(chown), Some(kill)), sets(1 | 1 << 5, 1 << 5));
    }
}
