//! The identity of a process, and what the kernel permits to it.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;

use crate::report::{Capabilities, IdTriple, Report};
use crate::sys;

pub(crate) const READ: u32 = 4;
pub(crate) const WRITE: u32 = 2;
pub(crate) const EXECUTE: u32 = 1;

/// Capabilities of <linux/capability.h>. Elsewhere root has them all.
#[derive(Clone, Copy)]
pub(crate) enum Right {
    Chown = 0,
    DacOverride = 1,
    DacReadSearch = 2,
    FileOwner = 3,
    SetGroup = 6,
    SetUser = 7,
    Chroot = 18,
    Administrate = 21,
    Resources = 24,
}

/// The ids and capabilities by which the kernel judges a process.
#[derive(Debug, Clone)]
pub(crate) struct Credentials {
    pub(crate) uid: IdTriple,
    pub(crate) gid: IdTriple,
    pub(crate) groups: Vec<u32>,
    pub(crate) capabilities: Option<Capabilities>,
}

impl Credentials {
    pub(crate) fn of(report: &Report) -> Self {
        Self {
            uid: report.uid.expect("user ids are seen from inside"),
            gid: report.gid.expect("group ids are seen from inside"),
            groups: report.groups.clone().expect("groups are seen from inside"),
            capabilities: report.capabilities,
        }
    }

    pub(crate) fn has(&self, right: Right) -> bool {
        match self.capabilities {
            Some(sets) => sets.effective & 1 << right as u32 != 0,
            None => self.uid.effective == 0,
        }
    }

    pub(crate) fn is_member_of(&self, gid: u32) -> bool {
        self.gid.effective == gid || self.groups.contains(&gid)
    }

    /// The group of a new file in a directory of this group and mode. FreeBSD and macOS treat every
    /// directory as if it had the set-group-id bit.
    pub(crate) fn group_of_new_file(&self, group: u32, mode: u32) -> u32 {
        const SET_GROUP_ID: u32 = 0o2000;
        match mode & SET_GROUP_ID != 0 || !cfg!(target_os = "linux") {
            true => group,
            false => self.gid.effective,
        }
    }

    /// The groups after a change of the effective gid, which some systems list in the first place.
    pub(crate) fn groups_after_setegid(&self, gid: u32) -> Vec<u32> {
        let (mut groups, before) = (self.groups.clone(), self.gid.effective);
        if sys::EFFECTIVE_GID_IS_LISTED {
            if let Some(first) = groups.iter().position(|group| *group == before) {
                groups.remove(first);
            }
            // XNU has the two change places: `kauth_cred_change_egid`.
            if let Some(swapped) = groups.iter_mut().find(|group| **group == gid) {
                if cfg!(target_vendor = "apple") {
                    *swapped = before;
                }
            }
            groups.insert(0, gid);
        }
        groups
    }

    pub(crate) fn may(&self, file: &Metadata, access: u32) -> bool {
        self.may_as(file.uid(), file.gid(), file.mode(), access)
            || self.has(Right::DacOverride) && (file.is_dir() || access & EXECUTE == 0)
            || self.has(Right::DacReadSearch) && file.is_dir() && access & WRITE == 0
    }

    /// Whether the access to a regular file of this owner, group and mode is permitted.
    pub(crate) fn may_as(&self, owner: u32, group: u32, mode: u32, access: u32) -> bool {
        let shift = if self.uid.effective == owner {
            6
        } else if self.is_member_of(group) {
            3
        } else {
            0
        };
        mode >> shift & access == access || self.has(Right::DacOverride) && access & EXECUTE == 0
    }
}

impl Credentials {
    /// Does what setresuid(2) does to the ids, and on Linux to the capabilities(7).
    pub(crate) fn become_user(&mut self, uid: u32, secure_bits: u64) {
        let was_root = |ids: IdTriple| ids.real == 0 || ids.effective == 0 || ids.saved == Some(0);
        if let Some(sets) = self
            .capabilities
            .as_mut()
            .filter(|_| secure_bits & sys::NO_SETUID_FIXUP == 0)
        {
            if was_root(self.uid) && uid != 0 {
                (sets.effective, sets.ambient) = (0, 0);
                if secure_bits & sys::KEEP_CAPS == 0 {
                    sets.permitted = 0;
                }
            } else if self.uid.effective != 0 && uid == 0 {
                sets.effective = sets.permitted;
            }
        }
        self.uid = all(self.uid, uid);
    }
}

pub(crate) fn all(before: IdTriple, id: u32) -> IdTriple {
    IdTriple {
        real: id,
        effective: id,
        saved: before.saved.map(|_| id),
    }
}
